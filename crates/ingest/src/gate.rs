//! The gate: the last place where a stream can be made cheaper, between receiver and decoder.
//!
//! It keeps the encoded units of the last groups of pictures and says, one step after the other, what is to be
//! decoded. Pure: units, verdicts on pictures and feedback in, steps out, so it is tested without a decoder.

use std::time::Duration;

use guiji_domain::DecodePolicy;

use crate::ring::{GopRing, RingLimits};
use crate::sizes::Sizes;
use crate::unit::{Unit, UnitKind};

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
    pub(crate) purpose: Purpose,
}

/// What a decoded picture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be delivered.
    Deliver,
    /// To be looked at, by [`Gate::looked`], and delivered.
    Watch,
    /// To be looked at; delivered only if nothing has changed. Otherwise it comes again in its turn.
    Check,
    /// Others need it; it was delivered before.
    Refer,
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
}

/// The state of [`DecodePolicy::Motion`].
#[derive(Debug, Default)]
struct Motion {
    awake: Option<Awake>,
    /// Pictures of units before this one were delivered or will never be.
    delivered: u64,
    sizes: Sizes,
    deaf: bool,
    /// Vehicles that the engine follows.
    live_tracks: usize,
    /// Between the last two keyframes.
    group: Duration,
    last_key: Option<Duration>,
}

#[derive(Debug)]
struct Awake {
    /// Time in the stream of the last change seen.
    changed: Duration,
    by_size: bool,
    /// A picture has shown a change since.
    confirmed: bool,
}

/// After so much stream time without a change it goes to sleep, if nothing is being followed.
const CALM: Duration = Duration::from_millis(1200);
/// And after so much in any case: what stands does not need every picture, and when it moves the view changes.
const CALM_FOLLOWING: Duration = Duration::from_secs(5);

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
            motion: Motion::default(),
            tally: GateTally::default(),
        }
    }

    /// Whether the sizes of units may wake it; they may unless said otherwise.
    pub(crate) fn heeding_sizes(mut self, heed: bool) -> Self {
        self.motion.deaf = !heed;
        self
    }

    /// Takes the next unit, in decoding order.
    pub(crate) fn push(&mut self, unit: Unit) {
        let (kind, bytes, running) = (unit.kind, unit.data.size(), unit.running);
        if self.policy == DecodePolicy::KeyframeOnly && kind != UnitKind::Key {
            return;
        }
        let number = self.ring.end();
        if !self.ring.push(unit) {
            // Before the first keyframe there is nothing to lose.
            self.tally.shed += u64::from(number > 0);
            return;
        }
        if self.policy == DecodePolicy::Motion {
            self.feel(number, kind, bytes, running);
        }
    }

    fn feel(&mut self, number: u64, kind: UnitKind, bytes: usize, running: Duration) {
        let motion = &mut self.motion;
        if kind == UnitKind::Key
            && let Some(last) = motion.last_key.replace(running)
        {
            motion.group = running.saturating_sub(last);
        }
        if motion.awake.is_none() && !motion.deaf && motion.sizes.alarms(kind, bytes) {
            self.tally.woken_by_size += 1;
            motion.awake = Some(Awake { changed: running, by_size: true, confirmed: false });
            if let Some(key) = self.ring.key_before(number) {
                self.go_back(key);
            }
        }
    }

    fn go_back(&mut self, key: u64) {
        (self.at, self.continuous) = (key, false);
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
    }

    /// Whether [`Self::next`] would give a step. Cheap.
    pub(crate) fn has_work(&self) -> bool {
        self.drain_due
            || if self.only_keys() {
                self.ring.key_from(self.at).is_some()
            } else {
                self.at < self.ring.end()
            }
    }

    fn only_keys(&self) -> bool {
        match self.policy {
            DecodePolicy::Full | DecodePolicy::Referenced => false,
            DecodePolicy::KeyframeOnly => true,
            DecodePolicy::Motion => self.motion.awake.is_none(),
        }
    }

    /// What is to be done next; `None` until more comes.
    pub(crate) fn next(&mut self) -> Option<Step> {
        self.catch_up();
        if self.only_keys() { self.next_key() } else { self.next_unit() }
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

    fn next_key(&mut self) -> Option<Step> {
        if self.drain_due {
            return Some(self.drain());
        }
        let key = self.ring.key_from(self.at)?;
        let unit = self.ring.get(key)?.clone();
        self.at = key + 1;
        let purpose = match self.policy {
            DecodePolicy::Motion => Purpose::Check,
            _ => Purpose::Deliver,
        };
        self.drain_due = true; // its picture is wanted now
        self.release();
        Some(Step::Decode(Order { unit, begin: true, purpose }))
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
                UnitKind::Leaf if self.policy == DecodePolicy::Referenced => continue,
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
            self.release();
            return Some(Step::Decode(Order { unit, begin, purpose }));
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

    /// A picture of [`Purpose::Watch`] or [`Purpose::Check`] was looked at. Whether to deliver it.
    pub(crate) fn looked(&mut self, purpose: Purpose, running: Duration, changed: bool) -> bool {
        match purpose {
            Purpose::Check => self.checked(running, changed),
            Purpose::Watch => {
                self.watched(running, changed);
                true
            }
            Purpose::Deliver | Purpose::Refer => purpose == Purpose::Deliver,
        }
    }

    fn checked(&mut self, running: Duration, changed: bool) -> bool {
        let motion = &mut self.motion;
        // The keyframe just decoded: `at` has not moved since, unless sizes woke it meanwhile.
        let key = self.at.saturating_sub(1);
        if let Some(awake) = &mut motion.awake {
            awake.confirmed |= changed;
            return false; // it comes again in its turn
        }
        if !changed {
            motion.delivered = motion.delivered.max(key + 1);
            return true;
        }
        motion.sizes.missed();
        self.tally.woken_by_view += 1;
        motion.awake = Some(Awake { changed: running, by_size: false, confirmed: true });
        // What came before the vehicle reached the keyframe, unless it was delivered already.
        let before = self.ring.key_before(key).filter(|_| motion.delivered < key);
        self.go_back(before.unwrap_or(key));
        false
    }

    fn watched(&mut self, running: Duration, changed: bool) {
        let motion = &mut self.motion;
        let Some(awake) = &mut motion.awake else { return };
        if changed {
            awake.confirmed = true;
            awake.changed = awake.changed.max(running);
            return;
        }
        let calm = running.saturating_sub(awake.changed);
        let patience = if motion.live_tracks > 0 { CALM_FOLLOWING } else { CALM };
        if calm > patience {
            if awake.by_size {
                motion.sizes.judged(awake.confirmed);
            }
            motion.awake = None;
            self.drain_due = self.continuous;
        }
    }

    /// The engine says how many vehicles it follows.
    pub(crate) fn follows(&mut self, live_tracks: usize) {
        self.motion.live_tracks = live_tracks;
    }

    /// What happened since last asked.
    pub(crate) fn take_tally(&mut self) -> GateTally {
        std::mem::take(&mut self.tally)
    }

    /// For how long at a time nothing is known of the view: what comes and goes in it may be missed.
    pub(crate) fn blind(&self) -> Duration {
        match self.policy {
            DecodePolicy::Full | DecodePolicy::Referenced => Duration::ZERO,
            DecodePolicy::Motion if self.motion.sizes.are_proven() => Duration::ZERO,
            DecodePolicy::Motion | DecodePolicy::KeyframeOnly => self.motion.group,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::tests::unit;
    use proptest::prelude::*;

    const LIMITS: RingLimits = RingLimits { bytes: 1_000_000, age: Duration::from_secs(4) };

    /// What became of a unit, by its number in the stream.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Seen {
        number: u64,
        /// Needs no other.
        key: bool,
        begin: bool,
        delivered: bool,
    }

    /// A decoder that gives each picture at once, driven by a gate.
    struct Driver {
        gate: Gate,
        seen: Vec<Seen>,
        pushed: u64,
    }

    impl Driver {
        fn new(policy: DecodePolicy, limits: RingLimits) -> Self {
            Self { gate: Gate::new(policy, limits), seen: Vec::new(), pushed: 0 }
        }

        fn push(&mut self, kind: UnitKind, bytes: usize) {
            self.gate.push(unit(self.pushed, kind, bytes));
            self.pushed += 1;
        }

        fn decode(&mut self, changed: impl Fn(u64) -> bool) {
            while let Some(step) = self.gate.next() {
                let Step::Decode(Order { unit, begin, purpose }) = step else { continue };
                let number = unit.running.as_millis() as u64 / 40;
                let delivered = match purpose {
                    Purpose::Deliver => true,
                    Purpose::Refer => false,
                    Purpose::Check | Purpose::Watch => {
                        self.gate.looked(purpose, unit.running, changed(number))
                    }
                };
                let key = unit.kind == UnitKind::Key;
                assert!(key || !begin);
                self.seen.push(Seen { number, key, begin, delivered });
            }
        }

        /// A stream of groups of so many units of 1000 bytes, decoded as they come.
        fn stream(&mut self, units: u64, group: u64, changed: impl Fn(u64) -> bool) {
            for _ in 0..units {
                let key = self.pushed.is_multiple_of(group);
                let kind = if key { UnitKind::Key } else { UnitKind::Delta };
                self.push(kind, 1000);
                self.decode(&changed);
            }
        }

        fn delivered(&self) -> Vec<u64> {
            self.seen.iter().filter(|it| it.delivered).map(|it| it.number).collect()
        }

        /// Every unit was decoded after those of its group that come before it, by the same decoder.
        fn has_references(&self) -> bool {
            self.seen.windows(2).all(|pair| pair[1].key || pair[1].number == pair[0].number + 1)
        }
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
        let expected = [0, 50].into_iter().chain(100..=205).chain([250, 300, 350]);
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
            driver.gate.follows(live_tracks);
            driver.stream(600, 50, |it| (100..110).contains(&it));
            driver.delivered().len()
        };
        let (alone, followed) = (decoded(0), decoded(1));
        assert!(followed > alone + 50 && followed < 300, "{alone} {followed}");
    }

    #[test]
    fn what_does_not_fit_gives_way_and_is_counted() {
        let limits = RingLimits { bytes: 30_000, age: Duration::from_secs(1) };
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
            units in prop::collection::vec((0u8..12, 1usize..3000, any::<bool>(), 0u8..4), 1..400),
            bytes in 5_000usize..60_000,
        ) {
            let limits = RingLimits { bytes, age: Duration::from_secs(2) };
            let mut driver = Driver::new(policy, limits);
            let changed: Vec<bool> = units.iter().map(|it| it.2).collect();
            for (kind, size, _, decode) in units {
                driver.push(if kind == 0 { UnitKind::Key } else { UnitKind::Delta }, size);
                if decode == 0 {
                    driver.decode(|it| changed[it as usize]);
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
