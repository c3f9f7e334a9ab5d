//! The gate: the last place where a stream can be made cheaper, between receiver and decoder.
//!
//! It keeps the encoded units of the last groups of pictures and says, one step after the other, what is to be
//! decoded. Pure: units, verdicts on pictures and feedback in, steps out, so it is tested without a decoder.

mod motion;
mod relief;

use std::collections::VecDeque;
use std::time::Duration;

use guiji_domain::{DecodePolicy, Feedback, Findings, KeyframeRhythm, Timestamp, View};

use crate::dense::Dense;
use crate::glimpses::{EVERY, Experience, Glimpses};
use crate::renumber::Numbering;
use crate::ring::{GopRing, RingLimits};
use crate::sizes::{Sizes, weight};
use crate::unit::{Unit, UnitKind};
use motion::{Awake, DOUBT, EMPTY_LOOKS, Motion, TurnedAway, UNASKED_MAX, patience};

/// What is to be done next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Decode this unit.
    Decode(Order),
    /// Get the pictures that the decoder holds back, and let it go.
    Drain,
}

/// A unit with what its picture is for.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) unit: Unit,
    /// It is a keyframe, and the decoder must forget what came before.
    pub(crate) begin: bool,
    pub(crate) form: Form,
    pub(crate) purpose: Purpose,
}

/// How the decoder gets a unit.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    AsItIs,
    /// A keyframe that is to be shown at once, though others may come to be shown before it.
    AtOnce,
    /// Put behind what the decoder has, which is not what it refers to, with these numbers.
    Behind(Numbering),
}

/// What a decoded picture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be delivered.
    Deliver,
    /// To be looked at, by [`Gate::looked`], and delivered.
    Watch,
    /// To be looked at; delivered only if nothing has changed, or to ask whether a vehicle is there. Otherwise it
    /// comes again in its turn.
    Check,
    /// Others need it; it was delivered before.
    Refer,
    /// Glimpses are to be put behind it, and held against it.
    Base,
    /// Decoded out of its order, to be looked at and for nothing else.
    Glimpse,
}

/// Decides for one connection of a camera.
#[derive(Debug)]
pub(crate) struct Gate {
    policy: DecodePolicy,
    ring: GopRing,
    /// The next unit to be considered.
    at: u64,
    /// A decoder has decoded everything from its keyframe up to `at`.
    continuous: bool,
    drain_due: bool,
    ended: bool,
    /// After a beginning: the keyframe's time. What is presented before it and decoded after it (leading pictures)
    /// refers to a group that this decoder has not seen.
    leading_until: Duration,
    rhythm: Rhythm,
    /// The longest blind time that [`DecodePolicy::Motion`] puts up with; `None`: any.
    blind_max: Option<Duration>,
    /// It would be blind for longer, and does not sleep.
    dense: Option<Dense>,
    sparing: bool,
    motion: Motion,
    tally: GateTally,
}

/// What happened at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GateTally {
    /// Units that should have been decoded and went away undecoded, because decoding was too slow.
    pub(crate) shed: u64,
    /// Times that a keyframe woke it.
    pub(crate) woken_by_view: u64,
    /// Times that sizes woke it.
    pub(crate) woken_by_size: u64,
    /// Times that a glimpse woke it.
    pub(crate) woken_by_glimpse: u64,
    /// Units decoded although nothing was there, because it would have been blind for too long.
    pub(crate) dense: u64,
    /// Times that the camera's other stream woke it.
    pub(crate) woken_by_substream: u64,
    /// Times that it fell asleep although vehicles were in view, because all of them were known.
    pub(crate) turned_away: u64,
}

/// The distances of a stream's keyframes.
#[derive(Debug, Default)]
struct Rhythm {
    /// The last few.
    distances: VecDeque<Duration>,
    /// The last keyframe, before the first one the first unit.
    began: Option<Duration>,
    newest: Duration,
    keys: u64,
}

/// A keyframe more than usual (a scene cut) must not hide for long how far apart they are.
const DISTANCES: usize = 8;

impl Rhythm {
    fn note(&mut self, kind: UnitKind, running: Duration) {
        let began = *self.began.get_or_insert(running);
        self.newest = self.newest.max(running);
        if kind == UnitKind::Key {
            if self.keys > 0 {
                self.distances.truncate(DISTANCES - 1);
                self.distances.push_front(running.saturating_sub(began));
            }
            self.keys += 1;
            (self.began, self.newest) = (Some(running), running);
        }
    }

    /// The longest of the last few, and of the one that is still growing.
    fn longest(&self) -> Duration {
        let growing = self.newest.saturating_sub(self.began.unwrap_or(self.newest));
        self.distances.iter().copied().fold(growing, Duration::max)
    }
}

/// Room for a picture is waited for only so long after it woke: what is behind for longer is overload, and is thinned like
/// any other, so that the newest wins.
const CATCH_UP: Duration = Duration::from_secs(8);
/// So little behind the newest it waits at any time: cameras that are awake together take turns.
const BEHIND: Duration = Duration::from_secs(1);

impl Gate {
    pub(crate) fn new(policy: DecodePolicy, limits: RingLimits) -> Self {
        Self {
            policy,
            ring: GopRing::new(limits),
            at: 0,
            continuous: false,
            drain_due: false,
            ended: false,
            leading_until: Duration::ZERO,
            rhythm: Rhythm::default(),
            blind_max: None,
            dense: None,
            sparing: false,
            motion: Motion::default(),
            tally: GateTally::default(),
        }
    }

    /// Whether the sizes of units may wake it; they may unless said otherwise.
    pub(crate) fn heeding_sizes(mut self, heed: bool) -> Self {
        self.motion.deaf = !heed;
        self
    }

    /// Whether units may be decoded out of their order to be looked at; they may unless said otherwise.
    pub(crate) fn glimpsing(mut self, glimpse: bool) -> Self {
        self.motion.unseeing = !glimpse;
        self
    }

    /// Whether it may stop decoding vehicles that are known; it may unless said otherwise.
    pub(crate) fn turning_away(mut self, turn: bool) -> Self {
        self.motion.turns_not_away = !turn;
        self
    }

    /// Decodes densely where it would be blind for longer; it would put up with any time unless said otherwise.
    pub(crate) fn seeing_within(mut self, blind_max: Duration) -> Self {
        self.blind_max = Some(blind_max);
        self
    }

    /// Goes on with what earlier connections of the camera learnt.
    pub(crate) fn recalling(mut self, mut sizes: Sizes, glimpses: Experience) -> Self {
        sizes.interrupted();
        self.motion.sizes = sizes;
        self.motion.glimpses = Glimpses::recalling(glimpses);
        self
    }

    /// What it has learnt, at its end.
    pub(crate) fn forget(&mut self) -> (Sizes, Experience) {
        let motion = &mut self.motion;
        (std::mem::take(&mut motion.sizes), motion.glimpses.forget())
    }

    /// Takes the next unit, in decoding order.
    pub(crate) fn push(&mut self, unit: Unit) {
        let (kind, running) = (unit.kind, unit.running);
        let weight = weight(unit.data.size(), unit.quantiser);
        let hour = hour_of(unit.captured.at);
        self.motion.glimpses.is_hour(hour);
        self.rhythm.note(kind, running);
        if self.policy == DecodePolicy::KeyframeOnly && kind != UnitKind::Key {
            return;
        }
        if kind == UnitKind::Key {
            self.motion.numbered = unit.numbering.is_some();
        }
        let number = self.ring.end();
        self.ring.want_from(self.at);
        if !self.ring.push(unit) {
            // Before the first keyframe there is nothing to lose.
            self.tally.shed += u64::from(number > 0);
            return;
        }
        self.weigh_density();
        if self.waits_in_vain()
            && let Some(key) = self.ring.key_before(number)
        {
            self.turn_back(key, running);
        }
        if self.policy == DecodePolicy::Motion {
            let motion = &mut self.motion;
            let alarmed = !motion.deaf && motion.sizes.alarms(kind, weight, hour);
            if alarmed && motion.awake.is_none() && !motion.relieved {
                self.tally.woken_by_size += 1;
                motion.sizes.begins(true);
                let quiet = motion.glimpses.last_quiet();
                motion.awake = Some(Awake { quiet, ..Awake::at(running) });
                if let Some(key) = self.ring.key_before(number).filter(|_| self.dense.is_none()) {
                    self.go_back(key);
                }
            }
        }
    }

    /// Begins to decode densely, from the last keyframe on, or ends it.
    fn weigh_density(&mut self) {
        let Some(max) = self.blind_max.filter(|_| self.policy == DecodePolicy::Motion) else {
            return;
        };
        let now = self.rhythm.newest;
        let needed = self.rhythm.longest() > max && !self.motion.is_told_between_keyframes(now);
        let asleep = self.motion.awake.is_none();
        if needed && self.dense.is_none() {
            self.motion.is_told_what_became();
            self.dense = Some(Dense::begun_at(now));
            if asleep && let Some(key) = self.ring.key_before(self.at.max(self.ring.first())) {
                self.go_back(key);
            }
        } else if !needed && self.dense.take().is_some() && asleep {
            self.doze();
        }
    }

    /// Nothing is of interest, but it must not sleep.
    fn is_idle_and_dense(&self) -> bool {
        self.dense.is_some() && self.motion.awake.is_none()
    }

    /// A keyframe shows that something is there.
    fn wake(&mut self, key: u64, running: Duration) {
        self.tally.woken_by_view += 1;
        let motion = &mut self.motion;
        motion.is_told_what_became();
        motion.sizes.begins(false);
        motion.sizes.keyframe_showed();
        let quiet = motion.quiet_before_key.take();
        motion.awake = Some(Awake { confirmed: true, quiet, ..Awake::at(running) });
        // What came before the vehicle reached the keyframe, unless it was delivered already.
        let before = self.ring.key_before(key).filter(|_| self.motion.delivered < key);
        self.go_back(before.unwrap_or(key));
    }

    /// A glimpse shows that something is there.
    fn wake_by_glimpse(&mut self, number: u64, running: Duration) {
        let Some(key) = self.ring.key_before(number) else { return };
        self.tally.woken_by_glimpse += 1;
        self.motion.sizes.begins(false);
        self.motion.awake = Some(Awake { glimpsed: true, ..Awake::at(running) });
        self.go_back(key);
    }

    /// `despite`: the view is still changed, but nothing in it is of interest.
    fn sleep(&mut self, despite: bool) {
        let Some(real) = self.ends_watch() else { return };
        self.motion.sizes.ends(real);
        if despite {
            self.motion.doubt = Some(DOUBT);
        }
        if self.dense.is_none() {
            self.doze();
        }
    }

    /// All that is in view is known, and drives away: nothing is decoded until the next keyframe, which asks for what is new.
    fn turn_away(&mut self, since: Duration, until: Duration) {
        let Some(real) = self.ends_watch() else { return };
        self.tally.turned_away += 1;
        self.motion.turned_away = Some(TurnedAway { real, since, until });
        self.motion.doubt = self.motion.doubt.max(Some(1));
        self.doze();
        self.motion.glimpses.end(); // to them what moves is a change
    }

    /// It must not be turned away any longer: what was not decoded since is, from this keyframe on.
    fn turn_back(&mut self, key: u64, running: Duration) {
        self.motion.turned_away = None;
        self.motion.awake = Some(Awake { confirmed: true, ..Awake::at(running) });
        self.go_back(key);
    }

    /// The keyframe that was to come has not.
    fn waits_in_vain(&self) -> bool {
        self.motion.turned_away.is_some_and(|away| {
            self.rhythm.newest > away.until
                && self.rhythm.began.is_none_or(|began| began <= away.since)
        })
    }

    /// It is awake no more: whether a vehicle was there.
    fn ends_watch(&mut self) -> Option<bool> {
        let motion = &mut self.motion;
        let awake = motion.awake.take()?;
        // The detector's word counts where it has said one.
        let real = if awake.looks > 0 { awake.fruitful } else { awake.confirmed };
        match (real, awake.glimpsed) {
            (true, glimpsed) if glimpsed || awake.overlooked => motion.glimpses.vehicle(glimpsed),
            (false, true) => motion.glimpses.was_in_vain(awake.since),
            _ => {}
        }
        Some(real)
    }

    /// From here on only some pictures are looked at.
    fn doze(&mut self) {
        let motion = &mut self.motion;
        // What the decoder has is as good to put glimpses behind as a keyframe.
        let last = (self.ring.first()..self.at)
            .rev()
            .find_map(|number| self.ring.get(number).filter(|unit| unit.kind != UnitKind::Leaf));
        motion.saw = last.map(|last| last.captured.at);
        let in_order =
            |unit: &Unit| unit.numbering.as_ref().is_some_and(|numbering| !numbering.reorders());
        match last {
            Some(last) if motion.relieved => {
                motion.background = Some(last.running);
                self.drain_due = self.continuous;
            }
            Some(last) if self.continuous && !motion.reorders && in_order(last) => {
                motion.glimpses.begin_on(last);
            }
            _ => {
                self.drain_due = self.continuous;
                if motion.numbered && !motion.unseeing && !motion.reorders {
                    motion.glimpses.will_begin_on(self.ring.key_before(self.at));
                }
            }
        }
        self.continuous = false;
    }

    fn go_back(&mut self, key: u64) {
        (self.at, self.continuous) = (key, false);
        self.motion.glimpses.end();
        self.motion.owed = false;
    }

    /// No more units come.
    pub(crate) fn finish(&mut self) {
        self.ended = true;
        self.drain_due |= self.continuous;
    }

    /// The decoder has failed: from the next keyframe on with another.
    pub(crate) fn broken(&mut self) {
        self.continuous = false;
        self.drain_due = false;
        self.motion.owed = false;
        self.motion.glimpses.end();
    }

    /// Whether [`Self::next`] would give a step. Cheap.
    pub(crate) fn has_work(&mut self) -> bool {
        if self.only_keys() {
            self.pass_over();
        }
        let base = self.only_keys() && self.motion.glimpses.want_base();
        self.drain_due || self.motion.owed || base || self.at < self.ring.end()
    }

    /// While only some pictures are looked at, goes on to the next of these.
    fn pass_over(&mut self) {
        while let Some(unit) = self.ring.get(self.at)
            && !self.is_worth_a_look(unit)
        {
            self.at += 1;
        }
    }

    fn is_worth_a_look(&self, unit: &Unit) -> bool {
        let motion = &self.motion;
        match (self.policy, unit.kind) {
            (DecodePolicy::Motion, _) if motion.relieved => self.keeps_background_by(unit),
            (DecodePolicy::Motion, UnitKind::Key) => {
                motion.doubt.is_some() || motion.unseeing || motion.glimpses.want_whole(unit)
            }
            (DecodePolicy::Motion, _) => !motion.unseeing && motion.glimpses.want(unit),
            (_, kind) => kind == UnitKind::Key,
        }
    }

    /// Where analysis cannot keep up, what no other picture needs is left out whatever the policy.
    fn leaves_out_leaves(&self) -> bool {
        self.policy == DecodePolicy::Referenced || self.sparing || self.is_idle_and_dense()
    }

    fn only_keys(&self) -> bool {
        match self.policy {
            DecodePolicy::Full | DecodePolicy::Referenced => false,
            DecodePolicy::KeyframeOnly => true,
            DecodePolicy::Motion => self.motion.awake.is_none() && self.dense.is_none(),
        }
    }

    /// Whether what comes next can wait until there is room for its picture: what is decoded back after a wake comes
    /// faster than pictures can be analysed, and was decoded for nothing if it pushes itself out; and cameras that wake
    /// together are each a little late rather than each full of holes.
    pub(crate) fn can_wait(&self) -> bool {
        let awake = self.motion.awake.as_ref().map(|awake| awake.since);
        let Some(since) = awake.or(self.dense.map(|dense| dense.since)) else { return false };
        !self.ended
            && self.at >= self.motion.delivered
            && self.ring.get(self.at).is_some_and(|it| {
                it.running < since + CATCH_UP || it.running + BEHIND > self.rhythm.newest
            })
    }

    /// What is to be done next; `None` until more comes.
    pub(crate) fn next(&mut self) -> Option<Step> {
        self.catch_up();
        if self.only_keys() { self.next_look() } else { self.next_unit() }
    }

    /// What the ring had to let go before it was decoded is lost.
    fn catch_up(&mut self) {
        let first = self.ring.first();
        if self.at < first {
            // While only keyframes are wanted, the rest of a group is no loss.
            self.tally.shed += match self.only_keys() {
                true => u64::from(self.ring.last_key_evicted().is_some_and(|key| key >= self.at)),
                false => first - self.at,
            };
            self.at = first;
            self.continuous = false;
        }
    }

    fn next_look(&mut self) -> Option<Step> {
        if std::mem::take(&mut self.motion.owed) {
            match self.ring.get(self.motion.looked_at).map(|unit| (unit.kind, unit.running)) {
                Some((UnitKind::Key, _)) | None => self.motion.reorders = true,
                Some((_, running)) => self.motion.glimpses.was_in_vain(running),
            }
            self.motion.glimpses.end();
            self.drain_due = true;
        }
        if self.drain_due {
            return Some(self.drain());
        }
        if let Some(key) = self.motion.glimpses.take_base()
            && let Some(unit) = self.ring.get(key)
        {
            self.motion.glimpses.begin_on(unit);
            let (unit, begin, form) = (unit.clone(), true, Form::AtOnce);
            return Some(Step::Decode(Order { unit, begin, form, purpose: Purpose::Base }));
        }
        self.pass_over();
        let number = self.at;
        let unit = self.ring.get(number)?.clone();
        self.at += 1;
        let begin = unit.kind == UnitKind::Key;
        let (mut form, mut purpose) = (Form::AsItIs, Purpose::Watch);
        if self.policy == DecodePolicy::Motion {
            let motion = &mut self.motion;
            (motion.looked_at, motion.owed) = (number, !motion.relieved);
            if motion.relieved {
                motion.background = Some(unit.running);
                self.drain_due = true; // nothing is put behind it
                purpose = Purpose::Check;
            } else if begin {
                motion.quiet_before_key = motion.glimpses.last_quiet();
                motion.glimpses.begin_on(&unit);
                (form, purpose) = (Form::AtOnce, Purpose::Check);
            } else {
                form = motion.glimpses.glimpse(&unit).map_or(Form::AsItIs, Form::Behind);
                purpose = Purpose::Glimpse;
            }
        } else {
            self.drain_due = true; // its picture is wanted now
        }
        self.release();
        Some(Step::Decode(Order { unit, begin, form, purpose }))
    }

    fn next_unit(&mut self) -> Option<Step> {
        if self.drain_due && !(self.ended && self.at < self.ring.end()) {
            return Some(self.drain());
        }
        loop {
            let number = self.at;
            let unit = self.ring.get(number)?;
            self.at += 1;
            let begin = !self.continuous;
            match unit.kind {
                UnitKind::Key if begin => self.leading_until = unit.running,
                UnitKind::Key => self.leading_until = Duration::ZERO,
                // The rest of a group whose beginning is lost, or was looked at by another decoder.
                _ if begin => continue,
                _ if unit.running < self.leading_until => continue,
                UnitKind::Leaf if self.leaves_out_leaves() || number < self.motion.delivered => {
                    continue;
                }
                UnitKind::Delta | UnitKind::Leaf => {}
            }
            let unit = unit.clone();
            self.continuous = true;
            self.drain_due |= self.ended;
            let purpose = match self.policy {
                DecodePolicy::Motion if number < self.motion.delivered => Purpose::Refer,
                DecodePolicy::Motion => Purpose::Watch,
                _ => Purpose::Deliver,
            };
            self.motion.delivered = self.motion.delivered.max(self.at);
            self.tally.dense += u64::from(self.is_idle_and_dense());
            self.release();
            return Some(Step::Decode(Order { unit, begin, form: Form::AsItIs, purpose }));
        }
    }

    fn drain(&mut self) -> Step {
        (self.drain_due, self.continuous) = (false, false);
        Step::Drain
    }

    /// Only the smart policy looks back.
    fn release(&mut self) {
        if self.policy != DecodePolicy::Motion {
            self.ring.release_before(self.at);
        }
    }

    /// A picture of [`Purpose::Watch`], [`Purpose::Check`] or [`Purpose::Glimpse`] was looked at: whether to deliver it,
    /// and as what.
    pub(crate) fn looked(&mut self, look: Look) -> Option<View> {
        let shown = if look.changed { View::Changed } else { View::Usual };
        match (self.policy, look.purpose) {
            (DecodePolicy::Motion, Purpose::Check) => self.checked(look),
            (DecodePolicy::Motion, Purpose::Glimpse) => {
                self.glimpsed(look);
                None
            }
            (DecodePolicy::Motion, _) => self.watched(look).then_some(shown),
            _ => Some(shown),
        }
    }

    /// The unit that was given last to be looked at, if the picture is its own.
    fn looked_at(&mut self, running: Duration) -> Option<u64> {
        let number = self.motion.looked_at;
        let its = self.ring.get(number).is_some_and(|unit| unit.running == running);
        self.motion.owed &= !its;
        its.then_some(number)
    }

    fn glimpsed(&mut self, Look { running, changed, .. }: Look) {
        let Some(number) = self.looked_at(running) else { return };
        let motion = &mut self.motion;
        if motion.awake.is_some() || motion.relieved || motion.turned_away.is_some() {
            return; // something else woke it meanwhile, or watches now, or it is known what moves
        }
        if changed {
            self.wake_by_glimpse(number, running);
        } else {
            motion.delivered = motion.delivered.max(number);
            motion.glimpses.showed_nothing(running);
        }
    }

    fn checked(&mut self, Look { running, changed, .. }: Look) -> Option<View> {
        let key = self.looked_at(running)?;
        let motion = &mut self.motion;
        if let Some(awake) = &mut motion.awake {
            if changed {
                awake.confirmed = true;
                motion.sizes.keyframe_showed();
            }
            return None; // it comes again in its turn
        }
        if motion.relieved {
            return None;
        }
        if !changed {
            motion.is_told_what_became();
            let is_news = key >= motion.delivered;
            motion.delivered = motion.delivered.max(key + 1);
            motion.is_calm_at_keyframe();
            return is_news.then_some(View::Usual);
        }
        if motion.doubt.is_some() || self.sparing {
            // Where glimpses are known to show what comes, and showed nothing, it is most likely what it was before.
            let proven = motion.glimpses.are_proven() && motion.unasked < UNASKED_MAX;
            motion.unasked = match motion.quiet_before_key {
                Some(_) if proven => motion.unasked + 1,
                _ => 0,
            };
            if motion.unasked > 0 {
                motion.delivered = motion.delivered.max(key + 1);
                return None;
            }
            motion.doubt = motion.doubt.map(|_| DOUBT);
            motion.asked = Some(key);
            return Some(View::Asked);
        }
        self.wake(key, running);
        None
    }

    /// Whether to deliver it.
    fn watched(&mut self, Look { running, changed, key, .. }: Look) -> bool {
        let motion = &mut self.motion;
        let Some(awake) = &mut motion.awake else {
            return match &mut self.dense {
                Some(dense) if changed && (motion.doubt.is_some() || self.sparing) => {
                    motion.doubt = motion.doubt.map(|left| if key { DOUBT } else { left });
                    dense.is_asked(running)
                }
                Some(_) if changed => {
                    // Every picture is decoded: none was left out that could have shown it sooner.
                    motion.sizes.begins(false);
                    motion.sizes.keyframe_showed();
                    motion.awake = Some(Awake { confirmed: true, ..Awake::at(running) });
                    true
                }
                _ => {
                    if key {
                        motion.is_calm_at_keyframe();
                    }
                    true
                }
            };
        };
        awake.overlooked |= changed && awake.quiet == Some(running);
        if changed {
            awake.confirmed = true;
            awake.changed = awake.changed.max(running);
            if key || self.dense.is_some() {
                motion.sizes.keyframe_showed();
            }
        } else if running.saturating_sub(awake.changed) > patience(motion.live_tracks)
            // The full picture of what a glimpse saw does not bear it out.
            || (awake.glimpsed && !awake.confirmed && running >= awake.since)
        {
            self.sleep(false);
        }
        true
    }

    /// What the detector found in the picture of this time.
    pub(crate) fn detected(&mut self, running: Duration, findings: Findings) {
        let known = findings.known_for.filter(|known| self.is_soon_looked_at(running, *known));
        let motion = &mut self.motion;
        if let Some(awake) = &mut motion.awake {
            awake.looks += 1;
            if findings.news > 0 {
                (awake.fruitful, awake.empty_looks) = (true, 0);
                awake.vehicle = awake.vehicle.max(running);
                if let Some(known) = known {
                    self.turn_away(running, running + known);
                }
                return;
            }
            awake.empty_looks += 1;
            let idle = running.saturating_sub(awake.vehicle);
            if awake.empty_looks >= EMPTY_LOOKS && idle > patience(motion.live_tracks) {
                self.sleep(true);
            }
            return;
        }
        if self.dense.is_some() && findings.news > 0 {
            motion.sizes.begins(false);
            motion.sizes.keyframe_showed();
            let (confirmed, looks, fruitful) = (true, 1, true);
            motion.awake = Some(Awake { confirmed, looks, fruitful, ..Awake::at(running) });
            return;
        }
        // The answer to a question; one that comes too late has nothing to go back to.
        let key = self.ring.key_at(running);
        let Some(key) = key.filter(|key| motion.asked.take_if(|it| it == key).is_some()) else {
            return;
        };
        if findings.news > 0 {
            self.wake(key, running);
            return;
        }
        motion.delivered = motion.delivered.max(key + 1);
        match (findings.known_for, known) {
            (None, _) => motion.is_told_what_became(),
            (Some(_), Some(known)) => {
                let (real, since, until) = (true, running, running + known);
                motion.turned_away = Some(TurnedAway { real, since, until });
                motion.glimpses.end();
            }
            // The next keyframe is too far: they are followed from this one on.
            (Some(_), None) => self.turn_back(key, running),
        }
    }

    /// Whether a keyframe is to come within this time of a picture. A vehicle that comes after that picture and is in view for
    /// as long is seen in that keyframe.
    fn is_soon_looked_at(&self, running: Duration, within: Duration) -> bool {
        let after = |number: &u64| {
            let unit = self.ring.get(*number)?;
            (unit.kind == UnitKind::Key && unit.running > running).then_some(unit.running)
        };
        let expected = self.rhythm.began.map(|began| began + self.rhythm.longest());
        // What is there already is as good as its word.
        let next = (self.at.max(self.ring.first())..self.ring.end()).find_map(|it| after(&it));
        self.policy == DecodePolicy::Motion
            && !(self.motion.turns_not_away
                || self.motion.urgent
                || self.motion.relieved
                || self.ended)
            && self.dense.is_none()
            && next.or(expected).is_some_and(|next| next <= running + within)
    }

    /// What the engine says: how many vehicles it follows, whether somebody waits for them, and whether it cannot keep up.
    pub(crate) fn follows(&mut self, feedback: Feedback) {
        let Feedback { live_tracks, urgent, sparing } = feedback;
        (self.motion.live_tracks, self.motion.urgent, self.sparing) =
            (live_tracks, urgent, sparing);
    }

    /// What happened since last asked.
    pub(crate) fn take_tally(&mut self) -> GateTally {
        std::mem::take(&mut self.tally)
    }

    /// For how long at a time nothing is known of the view: what comes and goes in it may be missed.
    pub(crate) fn blind(&self) -> Duration {
        match self.policy {
            DecodePolicy::Full | DecodePolicy::Referenced => Duration::ZERO,
            DecodePolicy::Motion if self.dense.is_some() => Duration::ZERO,
            DecodePolicy::Motion if self.motion.sizes.are_proven() => Duration::ZERO,
            DecodePolicy::Motion if self.motion.glimpses_suffice(self.rhythm.newest) => EVERY,
            DecodePolicy::Motion | DecodePolicy::KeyframeOnly => self.rhythm.longest(),
        }
    }

    /// How the keyframes come.
    pub(crate) fn keyframes(&self) -> KeyframeRhythm {
        let matters = match self.policy {
            DecodePolicy::Full | DecodePolicy::Referenced => false,
            DecodePolicy::KeyframeOnly => true,
            DecodePolicy::Motion => !self.motion.is_told_between_keyframes(self.rhythm.newest),
        };
        KeyframeRhythm { period: self.rhythm.longest(), matters, dense: self.dense.is_some() }
    }
}

/// What a look at a decoded picture showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) purpose: Purpose,
    /// Its time in the stream.
    pub(crate) running: Duration,
    /// It is a keyframe.
    pub(crate) key: bool,
    /// It differs from the view's background.
    pub(crate) changed: bool,
}

/// The hour of the day, UTC: which one does not matter, only that it is the same one tomorrow.
fn hour_of(at: Timestamp) -> usize {
    const HOUR_NS: i64 = 3_600_000_000_000;
    usize::try_from(at.as_nanos().div_euclid(HOUR_NS).rem_euclid(24)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::renumber::Numbers;
    use crate::ring::tests::unit;
    use proptest::prelude::*;

    const LIMITS: RingLimits = RingLimits { bytes: 1_000_000, age: Duration::from_secs(4) };

    /// What became of a unit, by its number in the stream.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Seen {
        pub(super) number: u64,
        /// Needs no other.
        pub(super) key: bool,
        begin: bool,
        pub(super) delivered: bool,
    }

    /// A decoder that gives each picture at once, driven by a gate.
    pub(super) struct Driver {
        pub(super) gate: Gate,
        /// Units can be decoded out of their order.
        numbering: Option<Numbering>,
        /// The decoder gives a picture only when it gets the next, or when it is emptied.
        holds_back: bool,
        pub(super) glimpses: Vec<u64>,
        pub(super) seen: Vec<Seen>,
        pushed: u64,
        /// Keyframes with which it asked.
        asked: Vec<u64>,
        /// How often the decoder was let go.
        drains: u32,
    }

    impl Driver {
        pub(super) fn new(policy: DecodePolicy, limits: RingLimits) -> Self {
            Self {
                gate: Gate::new(policy, limits),
                numbering: None,
                holds_back: false,
                glimpses: Vec::new(),
                seen: Vec::new(),
                pushed: 0,
                asked: Vec::new(),
                drains: 0,
            }
        }

        fn push(&mut self, kind: UnitKind, bytes: usize) {
            let numbering = self.numbering.clone();
            self.gate.push(Unit { numbering, ..unit(self.pushed, kind, bytes) });
            self.pushed += 1;
        }

        pub(super) fn decode(&mut self, changed: impl Fn(u64) -> bool) {
            while let Some(step) = self.gate.next() {
                let Step::Decode(Order { unit, begin, purpose, .. }) = step else {
                    self.drains += 1;
                    continue;
                };
                let number = unit.running.as_millis() as u64 / 40;
                if self.holds_back && purpose == Purpose::Check {
                    let look = Look {
                        purpose,
                        running: unit.running,
                        key: true,
                        changed: changed(number),
                    };
                    assert!(matches!(self.gate.next(), Some(Step::Drain)));
                    self.gate.looked(look);
                    continue;
                }
                if purpose == Purpose::Glimpse {
                    self.glimpses.push(number);
                    let look = Look {
                        purpose,
                        running: unit.running,
                        key: false,
                        changed: changed(number),
                    };
                    assert_eq!(self.gate.looked(look), None);
                    continue;
                }
                let delivered = match purpose {
                    Purpose::Deliver => true,
                    Purpose::Refer | Purpose::Base => false,
                    Purpose::Check | Purpose::Watch | Purpose::Glimpse => {
                        let key = unit.kind == UnitKind::Key;
                        let (running, changed) = (unit.running, changed(number));
                        let view = self.gate.looked(Look { purpose, running, key, changed });
                        if view == Some(View::Asked) {
                            self.asked.push(number);
                        }
                        view.is_some_and(|it| it != View::Asked)
                    }
                };
                let key = unit.kind == UnitKind::Key;
                assert!(key || !begin);
                self.seen.push(Seen { number, key, begin, delivered });
            }
        }

        /// A stream of groups of so many units of 1000 bytes, decoded as they come.
        pub(super) fn stream(&mut self, units: u64, group: u64, changed: impl Fn(u64) -> bool) {
            for _ in 0..units {
                let key = self.pushed.is_multiple_of(group);
                let kind = if key { UnitKind::Key } else { UnitKind::Delta };
                self.push(kind, 1000);
                self.decode(&changed);
            }
        }

        pub(super) fn delivered(&self) -> Vec<u64> {
            self.seen.iter().filter(|it| it.delivered).map(|it| it.number).collect()
        }

        /// Every unit was decoded after those of its group that come before it, by the same decoder.
        pub(super) fn has_references(&self) -> bool {
            self.seen.windows(2).all(|pair| pair[1].key || pair[1].number == pair[0].number + 1)
        }
    }

    const NUMBERING: Numbering = Numbering::H264(Numbers {
        sets: 1,
        frame_num_bits: 4,
        order_bits: 0,
        may_be_fields: false,
        planes_apart: false,
        frame_num: 0,
        order: 0,
    });

    fn reordering() -> Numbering {
        Numbering::H265(crate::h265::Numbers::reordering())
    }

    pub(super) fn numbered() -> Driver {
        Driver { numbering: Some(NUMBERING), ..Driver::new(DecodePolicy::Motion, LIMITS) }
    }

    #[test]
    fn a_vehicle_between_two_keyframes_is_glimpsed() {
        let mut driver = numbered();
        driver.stream(500, 250, |it| (305..335).contains(&it));
        let delivered = driver.delivered();
        assert!((305..335).all(|it| delivered.contains(&it)), "{delivered:?}");
        assert!(!delivered.iter().any(|it| (360..500).contains(it)), "{delivered:?}");
        assert!(driver.has_references());
        assert_eq!(driver.gate.take_tally().woken_by_glimpse, 1);
        // They go on after it fell asleep, without waiting for a keyframe.
        assert!(driver.glimpses.iter().any(|it| (340..380).contains(it)), "{:?}", driver.glimpses);
        assert!(driver.glimpses.windows(2).all(|pair| pair[1] - pair[0] >= 20));
    }

    fn between_keyframes(number: u64) -> bool {
        number % 200 > 155 && number % 200 < 190
    }

    /// Six vehicles were glimpsed.
    fn proven() -> Driver {
        let mut driver = numbered();
        driver.stream(1200, 50, between_keyframes);
        assert!(driver.gate.motion.glimpses.are_proven());
        driver
    }

    #[test]
    fn where_glimpses_are_proven_keyframes_are_left_out_and_a_vehicle_is_found_all_the_same() {
        let mut driver = proven();
        assert_eq!(driver.gate.blind(), EVERY);
        driver.seen.clear();
        driver.stream(1000, 50, |it| it > 1800 && between_keyframes(it));
        let keys = driver.seen.iter().filter(|it| it.key && it.number < 1800).count();
        assert!((2..=3).contains(&keys), "{keys} of 12 keyframes");
        let delivered = driver.delivered();
        assert!((1960..1990).all(|it| delivered.contains(&it)), "{delivered:?}");
        assert!(driver.has_references());
    }

    #[test]
    fn what_glimpses_overlook_takes_their_proof_away() {
        let mut driver = proven();
        // Whole pictures show vehicles where a glimpse had shown nothing.
        for _ in 0..6 {
            driver.gate.motion.glimpses.vehicle(false);
        }
        assert!(!driver.gate.motion.glimpses.are_proven());
    }

    #[test]
    fn false_alarms_cost_little_and_pause_glimpses() {
        let mut driver = numbered();
        for _ in 0..2000u64 {
            let number = driver.pushed;
            let kind = if number.is_multiple_of(50) { UnitKind::Key } else { UnitKind::Delta };
            driver.push(kind, 1000);
            // Every glimpse sees what no whole picture bears out.
            while let Some(step) = driver.gate.next() {
                let Step::Decode(Order { unit, purpose, .. }) = step else { continue };
                let changed = purpose == Purpose::Glimpse;
                let key = unit.kind == UnitKind::Key;
                driver.gate.looked(Look { purpose, running: unit.running, key, changed });
                driver.glimpses.extend(changed.then_some(number));
            }
        }
        // 80 seconds: three, a minute's pause, one.
        assert_eq!(driver.glimpses.len(), 4, "{:?}", driver.glimpses);
    }

    #[test]
    fn a_decoder_that_holds_pictures_back_is_asked_for_keyframes_only() {
        let mut driver = Driver { holds_back: true, ..numbered() };
        driver.stream(300, 50, |_| false);
        assert!(driver.glimpses.is_empty());
        assert!(driver.gate.motion.reorders);
    }

    #[test]
    fn where_the_order_is_another_glimpses_go_on_from_the_last_keyframe() {
        let mut driver = Driver { numbering: Some(reordering()), ..numbered() };
        driver.stream(500, 250, |it| (305..335).contains(&it));
        let delivered = driver.delivered();
        assert!((305..335).all(|it| delivered.contains(&it)), "{delivered:?}");
        assert!(!delivered.iter().any(|it| (360..500).contains(it)), "{delivered:?}");
        assert!(driver.has_references());
        // Looked at, from it to the vehicle, and for what comes after.
        let keys: Vec<_> = driver.seen.iter().filter(|it| it.key).map(|it| it.number).collect();
        assert_eq!((keys, driver.drains), (vec![0, 250, 250, 250], 1));
        assert!(driver.glimpses.iter().any(|it| (340..380).contains(it)), "{:?}", driver.glimpses);
        assert!(driver.glimpses.iter().any(|it| *it >= 480), "{:?}", driver.glimpses);
    }

    #[test]
    fn what_nobody_refers_to_is_not_decoded_twice() {
        let mut driver = numbered();
        for _ in 0..200u64 {
            let kind = match driver.pushed % 100 {
                0 => UnitKind::Key,
                it if it % 2 == 1 => UnitKind::Leaf,
                _ => UnitKind::Delta,
            };
            driver.push(kind, 1000);
            driver.decode(|it| (160..180).contains(&it));
        }
        let leaves: Vec<_> =
            driver.seen.iter().map(|it| it.number).filter(|it| it % 2 == 1).collect();
        let glimpsed = *driver.glimpses.iter().find(|it| **it >= 160).unwrap();
        assert!(leaves[0] > glimpsed - 21 && leaves.contains(&161), "{glimpsed}: {leaves:?}");
    }

    #[test]
    fn other_parameter_sets_need_a_keyframe() {
        let mut driver = numbered();
        driver.stream(51, 50, |_| false);
        driver.glimpses.clear();
        driver.numbering = None;
        driver.stream(49, 50, |_| false);
        assert!(driver.glimpses.is_empty());
    }

    const BLIND_MAX: Duration = Duration::from_secs(3);

    pub(super) fn dense() -> Driver {
        let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
        driver.gate = Gate::new(DecodePolicy::Motion, LIMITS).seeing_within(BLIND_MAX);
        driver
    }

    #[test]
    fn where_keyframes_are_far_apart_it_does_not_sleep() {
        let mut driver = dense();
        driver.stream(75, 250, |_| false);
        assert_eq!((driver.delivered(), driver.gate.keyframes().dense), (vec![0], false));
        assert!(driver.gate.blind() > Duration::from_secs(2));
        driver.stream(10, 250, |_| false);
        // From the keyframe on: what came before is not lost either.
        assert_eq!(driver.delivered(), (0..85).collect::<Vec<_>>());
        assert!(driver.has_references());
        let rhythm = driver.gate.keyframes();
        assert_eq!(
            (driver.gate.blind(), rhythm.dense, rhythm.matters),
            (Duration::ZERO, true, true)
        );
        driver.stream(915, 250, |it| (300..330).contains(&it));
        assert_eq!(driver.delivered(), (0..1000).collect::<Vec<_>>());
        let tally = driver.gate.take_tally();
        // Not while something was there, and half a second longer.
        assert!((950..960).contains(&tally.dense), "{tally:?}");
        assert_eq!((tally.shed, tally.woken_by_view), (0, 0));
        assert!(driver.has_references());
    }

    #[test]
    fn it_sleeps_again_when_keyframes_come_closer() {
        let mut driver = dense();
        driver.stream(500, 250, |_| false);
        let dense_until = driver.pushed;
        driver.stream(1000, 50, |_| false);
        let delivered = driver.delivered();
        // Eight distances are remembered, and the ninth is long no more.
        let last =
            delivered.windows(2).filter(|pair| pair[1] == pair[0] + 1).map(|it| it[1]).next_back();
        assert_eq!(last, Some(dense_until + 400));
        assert!(!driver.gate.keyframes().dense);
        assert_eq!(driver.gate.blind(), Duration::from_secs(2));
        assert!(driver.has_references());
    }

    #[test]
    fn pictures_that_nobody_refers_to_are_left_out_while_nothing_is_there() {
        let mut driver = dense();
        let group = |driver: &mut Driver, changed: bool| {
            for _ in 0..200 {
                let kind = match driver.pushed % 200 {
                    0 => UnitKind::Key,
                    it if it % 2 == 1 => UnitKind::Leaf,
                    _ => UnitKind::Delta,
                };
                driver.push(kind, 1000);
                driver.decode(|_| changed);
            }
        };
        group(&mut driver, false);
        assert_eq!(driver.delivered(), (0..200).step_by(2).collect::<Vec<_>>());
        group(&mut driver, true);
        assert!(driver.delivered().contains(&333));
    }

    #[test]
    fn a_dense_view_that_moves_without_vehicles_is_looked_at_now_and_then() {
        let mut driver = dense();
        let units = |driver: &mut Driver, count: u64, vehicles: &dyn Fn(u64) -> bool| {
            for _ in 0..count {
                let number = driver.pushed;
                let key = number.is_multiple_of(250);
                driver.push(if key { UnitKind::Key } else { UnitKind::Delta }, 1000);
                let before = driver.delivered().len();
                driver.decode(|_| true);
                for it in driver.delivered().into_iter().skip(before) {
                    let found = usize::from(vehicles(it));
                    driver.gate.detected(Duration::from_millis(40 * it), news(found));
                }
            }
        };
        units(&mut driver, 500, &|_| false);
        let doubted = driver.delivered().into_iter().filter(|it| *it >= 250).count();
        assert!((11..=14).contains(&doubted), "one in 0.8 s: {doubted}");
        assert_eq!(driver.gate.blind(), Duration::ZERO);
        units(&mut driver, 250, &|it| (600..640).contains(&it));
        let delivered = driver.delivered();
        assert!((620..640).all(|it| delivered.contains(&it)), "{delivered:?}");
        assert!(!delivered.contains(&749) || !delivered.contains(&748), "{delivered:?}");
    }

    #[test]
    fn glimpses_have_a_day_to_prove_themselves() {
        let numbered = || Driver { numbering: Some(NUMBERING), ..dense() };
        let mut driver = numbered();
        driver.stream(500, 250, |_| false);
        let rhythm = driver.gate.keyframes();
        assert_eq!((rhythm.dense, rhythm.matters), (false, false), "they look, every 0.8 s");
        // They overlook vehicles.
        (0..5).for_each(|_| driver.gate.motion.glimpses.vehicle(false));
        driver.stream(10, 250, |_| false);
        assert!(driver.gate.keyframes().dense);
        // Their time is over.
        let mut driver = numbered();
        driver.stream(100, 250, |_| false);
        driver.gate.motion.glimpses.trial_is_over();
        driver.stream(10, 250, |_| false);
        assert!(driver.gate.keyframes().dense);
        // They are proven.
        (0..6).for_each(|_| driver.gate.motion.glimpses.vehicle(true));
        driver.stream(50, 250, |_| false);
        assert!(!driver.gate.keyframes().dense);
        assert_eq!(driver.gate.blind(), EVERY);
        assert!(driver.has_references());
    }

    #[test]
    fn dense_views_teach_sizes_and_sleep_once_these_are_proven() {
        let mut driver = dense();
        let vehicle = |it: u64| it > 300 && it % 200 > 150 && it % 200 < 180;
        for number in 0..4000u64 {
            let kind = if number.is_multiple_of(250) { UnitKind::Key } else { UnitKind::Delta };
            driver.push(kind, if vehicle(number) { 2000 } else { 1000 });
            driver.decode(vehicle);
        }
        assert!(driver.gate.motion.sizes.are_proven());
        assert!(!driver.gate.keyframes().dense);
        let delivered = driver.delivered();
        assert!((3952..3980).all(|it| delivered.contains(&it)), "{delivered:?}");
        assert!(delivered.len() < 3500, "{}", delivered.len());
    }

    fn letters(policy: DecodePolicy, kinds: &str) -> String {
        let mut driver = Driver::new(policy, LIMITS);
        for kind in kinds.chars() {
            driver.push(
                match kind {
                    'K' => UnitKind::Key,
                    'b' => UnitKind::Leaf,
                    _ => UnitKind::Delta,
                },
                100,
            );
            driver.decode(|_| false);
        }
        let first = kinds.find('K').unwrap_or(0) as u64;
        let decoded = |it: u64| driver.seen.iter().any(|seen| seen.number == it && it >= first);
        (0..kinds.len() as u64).map(|it| if decoded(it) { 'y' } else { '-' }).collect()
    }

    #[test]
    fn policies() {
        assert_eq!(letters(DecodePolicy::Full, "ddKdbdKd"), "--yyyyyy");
        assert_eq!(letters(DecodePolicy::Referenced, "ddKdbdKb"), "--yy-yy-");
        assert_eq!(letters(DecodePolicy::KeyframeOnly, "ddKdbdKd"), "--y---y-");
        // The first keyframe is no change to this driver.
        assert_eq!(letters(DecodePolicy::Motion, "ddKdbdKd"), "--y---y-");
    }

    #[test]
    fn what_a_keyframe_shows_is_decoded_from_the_keyframe_before() {
        let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
        // A vehicle from the middle of the third group to that of the fourth.
        driver.stream(400, 50, |it| (120..175).contains(&it));
        let delivered = driver.delivered();
        let expected = [0, 50].into_iter().chain(100..=187).chain([200, 250, 300, 350]);
        assert_eq!(delivered, expected.collect::<Vec<_>>());
        assert!(driver.has_references());
        // Keyframe 150 was looked at, and decoded again in its turn; so was 100, which the group needs.
        let twice = |it| driver.seen.iter().filter(|seen| seen.number == it).count();
        assert_eq!((twice(100), twice(150), twice(151)), (2, 2, 1));
        assert_eq!(driver.gate.take_tally().woken_by_view, 1);
    }

    #[test]
    fn a_vehicle_between_two_keyframes_is_heard_by_its_size() {
        let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
        driver.stream(200, 50, |_| false);
        let vehicle = |it: u64| (210..235).contains(&it);
        for number in 200..400u64 {
            let kind = if number.is_multiple_of(50) { UnitKind::Key } else { UnitKind::Delta };
            driver.push(kind, if vehicle(number) { 2000 } else { 1000 });
            driver.decode(vehicle);
        }
        let delivered = driver.delivered();
        assert!((201..=235).all(|it| delivered.contains(&it)), "{delivered:?}");
        assert!(!delivered.contains(&299), "it sleeps again: {delivered:?}");
        assert!(driver.has_references());
        let tally = driver.gate.take_tally();
        assert_eq!((tally.woken_by_size, tally.woken_by_view), (1, 0));
    }

    #[test]
    fn a_vehicle_that_is_followed_keeps_it_awake_for_a_while() {
        let decoded = |live_tracks| {
            let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
            driver.gate.follows(Feedback { live_tracks, ..Feedback::default() });
            driver.stream(600, 50, |it| (100..110).contains(&it));
            driver.delivered().len()
        };
        let (alone, followed) = (decoded(0), decoded(1));
        assert!(followed > alone + 50 && followed < 300, "{alone} {followed}");
    }

    fn news(vehicles: usize) -> Findings {
        Findings { news: vehicles, known_for: None }
    }

    /// Keyframes every 50, and a vehicle from 110 to 190 that is known from 130 on, and is heard in the sizes from there on.
    /// What the detector answers to keyframe 150 and later ones is the caller's.
    fn turned_away(answer: impl Fn(u64) -> Findings) -> Driver {
        let mut driver = numbered();
        let vehicle = |it: u64| (110..190).contains(&it);
        for _ in 0..400 {
            let number = driver.pushed;
            let kind = if number.is_multiple_of(50) { UnitKind::Key } else { UnitKind::Delta };
            driver.push(kind, if vehicle(number) && number > 130 { 2000 } else { 1000 });
            driver.decode(vehicle);
            if let Some(asked) = driver.asked.pop() {
                driver.gate.detected(Duration::from_millis(40 * asked), answer(asked));
                driver.decode(vehicle);
            } else if vehicle(number) && driver.gate.is_awake() {
                let known_for = (number >= 130).then(|| Duration::from_millis(40 * (number - 110)));
                let findings = Findings { news: 1, known_for };
                driver.gate.detected(Duration::from_millis(40 * number), findings);
            }
        }
        driver
    }

    const KNOWN: Findings = Findings { news: 0, known_for: Some(Duration::from_secs(2)) };

    #[test]
    fn vehicles_that_are_known_and_drive_away_are_not_decoded_on() {
        let mut driver = turned_away(|_| KNOWN);
        let tally = driver.gate.take_tally();
        assert_eq!((tally.turned_away, tally.woken_by_glimpse), (1, 1));
        // 20 pictures in view, and a keyframe in 20 more.
        let until = driver.delivered().into_iter().filter(|it| *it < 150).max();
        assert_eq!(until, Some(130));
        assert!(!driver.delivered().iter().any(|it| (151..200).contains(it)));
        // Neither sizes nor glimpses take the known vehicle for news; they are back when it is gone.
        assert_eq!((tally.woken_by_size, tally.woken_by_view), (0, 0));
        assert!(!driver.glimpses.iter().any(|it| (130..200).contains(it)), "{:?}", driver.glimpses);
        assert!(driver.glimpses.iter().any(|it| (200..240).contains(it)), "{:?}", driver.glimpses);
        // A decoder that begins may hold its first picture back, and would be taken for one that always does.
        assert_eq!(driver.drains, 0);
        assert!(driver.has_references());
    }

    #[test]
    fn what_came_since_it_turned_away_is_decoded_back() {
        let mut driver = turned_away(|_| news(1));
        let delivered = driver.delivered();
        let tally = driver.gate.take_tally();
        assert!((131..155).all(|it| delivered.contains(&it)), "{delivered:?}");
        // The next keyframe is soon enough from 155 on.
        assert!(!delivered.iter().any(|it| (156..200).contains(it)), "{delivered:?}");
        assert_eq!((tally.woken_by_view, tally.turned_away), (1, 2));
        assert!(driver.has_references());
    }

    #[test]
    fn known_vehicles_are_followed_on_where_the_next_keyframe_is_too_far() {
        // Since 110, so for 1.6 s in keyframe 150, and the next is 2 s away.
        let known_for = Some(Duration::from_millis(1600));
        let mut driver = turned_away(|_| Findings { news: 0, known_for });
        let delivered = driver.delivered();
        assert!(!delivered.iter().any(|it| (131..150).contains(it)), "{delivered:?}");
        assert!((151..155).all(|it| delivered.contains(&it)), "{delivered:?}");
        let twice = |it| driver.seen.iter().filter(|seen| seen.number == it).count();
        assert_eq!((twice(100), twice(150)), (2, 2), "the group before is not decoded again");
        assert_eq!(driver.gate.take_tally().woken_by_view, 0);
        assert!(driver.has_references());
    }

    #[test]
    fn a_keyframe_that_does_not_come_in_time_is_not_waited_for() {
        let mut driver = numbered();
        driver.stream(201, 50, |_| false);
        driver.stream(20, 50, |it| it > 200);
        let known_for = Some(Duration::from_millis(1300));
        driver.gate.detected(Duration::from_millis(40 * 220), Findings { news: 1, known_for });
        assert_eq!(driver.gate.take_tally().turned_away, 1);
        // The camera has changed its mind; another vehicle comes.
        driver.stream(100, 1000, |it| (230..300).contains(&it));
        let delivered = driver.delivered();
        assert!((221..300).all(|it| delivered.contains(&it)), "{delivered:?}");
        assert!(driver.has_references());
    }

    #[test]
    fn what_somebody_waits_for_is_decoded_on() {
        let mut driver = numbered();
        driver.gate.follows(Feedback { urgent: true, ..Feedback::default() });
        driver.stream(201, 50, |_| false);
        driver.stream(20, 50, |it| it > 200);
        driver.gate.detected(Duration::from_millis(40 * 220), Findings { news: 1, ..KNOWN });
        assert_eq!(driver.gate.take_tally().turned_away, 0);
    }

    #[test]
    fn without_a_keyframe_in_time_it_does_not_turn_away() {
        let mut driver = numbered();
        driver.stream(251, 250, |_| false);
        driver.stream(20, 250, |it| it > 250);
        driver.gate.detected(Duration::from_millis(40 * 260), Findings { news: 1, ..KNOWN });
        assert_eq!(driver.gate.take_tally().turned_away, 0);
    }

    /// A view that moves in every picture, and what the detector says of it.
    fn moving(driver: &mut Driver, units: u64, vehicles: impl Fn(u64) -> bool) {
        for _ in 0..units {
            let number = driver.pushed;
            let kind = if number.is_multiple_of(50) { UnitKind::Key } else { UnitKind::Delta };
            let before = driver.seen.len();
            driver.push(kind, 1000);
            driver.decode(|_| true);
            let delivered = driver.seen.iter().skip(before).filter(|it| it.delivered);
            let looked: Vec<u64> =
                delivered.map(|it| it.number).chain(driver.asked.pop()).collect();
            for it in looked {
                let found = news(usize::from(vehicles(it)));
                driver.gate.detected(Duration::from_millis(40 * it), found);
            }
        }
        driver.decode(|_| true);
    }

    #[test]
    fn a_view_that_moves_without_vehicles_is_asked_at_keyframes_and_not_decoded_at_full_rate() {
        let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
        moving(&mut driver, 1000, |_| false);
        let decoded = driver.seen.len();
        assert!(decoded < 80, "{decoded} of 1000");
        assert_eq!(driver.gate.take_tally().woken_by_view, 1);
        // A vehicle on a keyframe is found by asking, and what came before it is decoded back.
        let vehicle = |it: u64| (1130..1190).contains(&it);
        moving(&mut driver, 500, vehicle);
        let delivered = driver.delivered();
        assert!((1101..1200).all(|it| delivered.contains(&it)), "{delivered:?}");
        assert!(!delivered.iter().any(|it| (1260..1500).contains(it)), "{delivered:?}");
        assert!(driver.has_references());
        assert_eq!(driver.gate.take_tally().woken_by_view, 1);
    }

    #[test]
    fn when_analysis_cannot_keep_up_leaves_are_left_out_and_the_detector_is_asked_first() {
        let mut driver = Driver::new(DecodePolicy::Full, LIMITS);
        driver.gate.follows(Feedback { sparing: true, ..Feedback::default() });
        for kind in [UnitKind::Key, UnitKind::Leaf, UnitKind::Delta, UnitKind::Leaf] {
            driver.push(kind, 1000);
        }
        driver.decode(|_| true);
        assert_eq!(driver.delivered(), [0, 2]);
        let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
        driver.gate.follows(Feedback { sparing: true, ..Feedback::default() });
        driver.stream(160, 50, |it| it >= 130);
        assert_eq!((driver.delivered(), driver.asked), (vec![0, 50, 100], vec![150]));
    }

    /// What a vehicle is seen by at the latest must not be left to glimpses that may not see it.
    #[test]
    fn in_doubt_only_proven_glimpses_spare_the_detector_a_keyframe() {
        let asked = |proven: bool| {
            let mut driver = numbered();
            driver.gate.motion.doubt = Some(DOUBT);
            (0..6).for_each(|_| driver.gate.motion.glimpses.vehicle(proven));
            driver.stream(401, 50, |it| it.is_multiple_of(50));
            driver.asked
        };
        assert_eq!(asked(false), (0..=400).step_by(50).collect::<Vec<_>>());
        assert_eq!(asked(true), [0, 250], "five in a row are not left to them");
    }

    #[test]
    fn doubt_ends_when_the_view_is_calm() {
        let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
        moving(&mut driver, 300, |_| false);
        driver.stream(400, 50, |_| false);
        driver.asked.clear();
        driver.stream(100, 50, |it| it >= 720);
        assert!(driver.asked.is_empty() && driver.delivered().contains(&760));
    }

    #[test]
    fn what_came_since_it_woke_can_wait_for_a_while() {
        let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
        driver.stream(150, 50, |_| false);
        assert!(!driver.gate.can_wait());
        driver.push(UnitKind::Key, 1000);
        let mut waits = Vec::new();
        while let Some(step) = driver.gate.next() {
            if let Step::Decode(Order { unit, purpose, .. }) = step {
                let look = Look { purpose, running: unit.running, key: false, changed: true };
                driver.gate.looked(look);
            }
            waits.push(driver.gate.can_wait());
        }
        let waited = waits.iter().filter(|it| **it).count();
        assert!((48..=51).contains(&waited), "{waits:?}");
        assert!(!waits.last().unwrap());
        // Nothing more is to come: waiting has no end.
        driver.push(UnitKind::Delta, 1000);
        (0..20).for_each(|_| driver.push(UnitKind::Delta, 1000));
        assert!(driver.gate.can_wait());
        driver.gate.finish();
        assert!(!driver.gate.can_wait());
    }

    #[test]
    fn what_is_behind_for_long_is_thinned() {
        let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
        driver.stream(150, 50, |_| false);
        driver.push(UnitKind::Key, 1000);
        (0..300).for_each(|_| driver.push(UnitKind::Delta, 1000));
        let mut waits = 0;
        while let Some(step) = driver.gate.next() {
            if let Step::Decode(Order { unit, purpose, .. }) = step {
                let look = Look { purpose, running: unit.running, key: false, changed: true };
                driver.gate.looked(look);
            }
            waits += u32::from(driver.gate.can_wait());
        }
        // Eight seconds after the keyframe that woke it, what was decoded back, and the last second.
        assert!((225..=275).contains(&waits), "{waits}");
    }

    #[test]
    fn blind_time_is_that_between_keyframes_even_before_the_second() {
        for policy in [DecodePolicy::KeyframeOnly, DecodePolicy::Motion] {
            let mut driver = Driver::new(policy, LIMITS);
            driver.stream(26, 250, |_| false);
            assert_eq!(driver.gate.blind(), Duration::from_secs(1), "{policy}");
            driver.stream(225, 250, |_| false);
            assert_eq!(driver.gate.blind(), Duration::from_secs(10), "{policy}");
            // A keyframe more does not make the others closer.
            driver.push(UnitKind::Key, 1000);
            driver.decode(|_| false);
            assert_eq!(driver.gate.blind(), Duration::from_secs(10), "{policy}");
        }
        let mut full = Driver::new(DecodePolicy::Full, LIMITS);
        full.stream(26, 250, |_| false);
        assert_eq!(full.gate.blind(), Duration::ZERO);
    }

    #[test]
    fn what_was_learnt_of_sizes_outlives_the_connection() {
        let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
        driver.stream(200, 50, |_| false);
        let (sizes, glimpses) = driver.gate.forget();
        let mut driver = Driver::new(DecodePolicy::Motion, LIMITS);
        driver.gate = Gate::new(DecodePolicy::Motion, LIMITS).recalling(sizes, glimpses);
        driver.stream(10, 50, |_| false);
        (0..10).for_each(|_| driver.push(UnitKind::Delta, 2000));
        assert_eq!(driver.gate.take_tally().woken_by_size, 1);
    }

    #[test]
    fn what_does_not_fit_gives_way_and_is_counted() {
        let limits = RingLimits { bytes: 60_000, age: Duration::from_secs(1) };
        let mut driver = Driver::new(DecodePolicy::Full, limits);
        for number in 0..100u64 {
            let kind = if number.is_multiple_of(10) { UnitKind::Key } else { UnitKind::Delta };
            driver.push(kind, 1000); // nobody decodes
        }
        driver.decode(|_| false);
        let seen: Vec<u64> = driver.seen.iter().map(|it| it.number).collect();
        assert_eq!(seen, (70..100).collect::<Vec<_>>());
        assert_eq!(driver.gate.take_tally().shed, 70);
    }

    proptest! {
        /// Whatever comes and however late it is decoded: references are there, time goes forward, nothing is
        /// delivered twice.
        #[test]
        fn sound(
            policy in prop::sample::select(DecodePolicy::ALL),
            units in prop::collection::vec((0u8..12, 1usize..3000, any::<bool>(), 0u8..4, 0u8..8), 1..400),
            bytes in 5_000usize..90_000,
            blind_max_ms in 200u64..3000,
            numbering in prop::sample::select(vec![None, Some(NUMBERING), Some(reordering())]),
        ) {
            let limits = RingLimits { bytes, age: Duration::from_secs(2) };
            let mut driver = Driver { numbering, ..Driver::new(policy, limits) };
            let blind_max = Duration::from_millis(blind_max_ms);
            driver.gate = Gate::new(policy, limits).seeing_within(blind_max);
            let changed: Vec<bool> = units.iter().map(|it| it.2).collect();
            for (kind, size, vehicle, decode, relief) in units {
                driver.push(if kind == 0 { UnitKind::Key } else { UnitKind::Delta }, size);
                if decode == 0 {
                    driver.decode(|it| changed[it as usize]);
                    let last = driver.seen.iter().filter(|it| it.delivered).map(|it| it.number).next_back();
                    for it in driver.asked.pop().into_iter().chain(last) {
                        let running = Duration::from_millis(40 * it);
                        let known_for = (relief == 3).then_some(Duration::from_millis(size as u64));
                        let findings = Findings { news: usize::from(vehicle), known_for };
                        (0..3).for_each(|_| driver.gate.detected(running, findings));
                    }
                }
                if relief == 0 {
                    let captured = unit(driver.pushed, UnitKind::Delta, 1).captured;
                    let before = captured.at.minus(Duration::from_millis(size as u64));
                    match decode {
                        0 => driver.gate.relieve(vehicle, Some(before)),
                        1 => driver.gate.rest(),
                        _ if policy == DecodePolicy::Motion => driver.gate.wake_for(captured, before),
                        _ => {}
                    }
                }
            }
            driver.gate.finish();
            driver.decode(|it| changed[it as usize]);
            prop_assert!(driver.has_references());
            let delivered = driver.delivered();
            prop_assert!(delivered.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", delivered);
            prop_assert!(!driver.gate.has_work() || driver.gate.next().is_none());
        }
    }
}
