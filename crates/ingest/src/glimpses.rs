use std::time::Duration;

use crate::renumber::Numbering;
use crate::score::{HOURS, Score};
use crate::unit::{Unit, UnitKind};

/// When to look between keyframes at a sleeping view, for the price of one delta unit.
///
/// A delta unit is decoded on the picture that the decoder happens to have, seconds older than the one that it refers to.
/// What has not moved since is the same in both, so that a quiet road comes out as it is; where something moves, vectors
/// and differences fall on the wrong ground, and what was never there before is encoded whole. Such a picture is good for
/// nothing but the question whether something has changed, and for that a unit is a fifth of a keyframe's price. Sizes
/// and quantisers hardly tell a vehicle from noise at a constant rate; this does.
///
/// Of streams that are shown in another order than they are decoded in (B-frames) those of H.265 only, for their sequence says
/// so and can be told otherwise ([`crate::h265::shown_at_once`]).
///
/// What a glimpse is worth with a camera is not assumed but learnt, by the hour: only where nine of ten vehicles were
/// glimpsed that full pictures show, keyframes are left out.
#[derive(Debug, Default)]
pub(crate) struct Glimpses {
    chain: Option<Chain>,
    /// A keyframe to be decoded again, for the next one to be put behind it.
    base: Option<u64>,
    /// The last picture that was looked at, and the last of these that was whole.
    looked: Duration,
    looked_whole: Duration,
    /// The last glimpse that showed nothing, since the last whole picture.
    quiet: Option<Duration>,
    experience: Experience,
    /// Not before this time.
    paused_until: Duration,
}

/// What outlives a connection.
#[derive(Debug, Default)]
pub(crate) struct Experience {
    scores: [Score; HOURS],
    hour: usize,
    /// So many in a row were for nothing.
    in_vain: u32,
    /// For how long views that they are all that sees between keyframes were left to them.
    tried: Duration,
}

/// What the decoder has, and how the next unit is put behind it.
#[derive(Debug)]
struct Chain {
    /// Of the picture on which it began.
    numbering: Numbering,
    glimpses: u32,
}

/// How long nobody looks. A car at 110 km/h is in view of a camera over the road for 1.3 seconds.
pub(crate) const EVERY: Duration = Duration::from_millis(800);
/// Whole pictures are never further apart, keyframes permitting: what glimpses overlook must come to light.
const WHOLE_EVERY: Duration = Duration::from_secs(10);
/// Five verdicts weigh so much.
const PROOF_MIN: f32 = 4.5;
/// Where keyframes are far apart they are relied on for so long before they are proven: a day has all its hours.
const TRIAL: Duration = Duration::from_secs(24 * 3600);
/// So many in a row for nothing pause it, for as long at first, and twice as long with each more.
const IN_VAIN_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_secs(60);
const PAUSES_DOUBLED_MAX: u32 = 6;

impl Chain {
    /// Whether the unit has the same parameter sets as what the decoder has.
    fn takes(&self, unit: &Unit) -> bool {
        unit.numbering.as_ref().is_some_and(|it| it.sets() == self.numbering.sets())
    }
}

impl Glimpses {
    /// Goes on with what earlier connections learnt.
    pub(crate) fn recalling(experience: Experience) -> Self {
        Self { experience, ..Self::default() }
    }

    pub(crate) fn forget(&mut self) -> Experience {
        std::mem::take(&mut self.experience)
    }

    pub(crate) fn is_hour(&mut self, hour: usize) {
        self.experience.hour = hour % HOURS;
    }

    /// Whether vehicles are glimpsed in this hour.
    pub(crate) fn are_proven(&self) -> bool {
        self.experience.scores[self.experience.hour].is_proven(PROOF_MIN)
    }

    /// Whether they are proven in this hour, or nothing is proven against them and they had no time for it.
    pub(crate) fn may_be_relied_on(&self) -> bool {
        let score = self.experience.scores[self.experience.hour];
        let on_trial = self.experience.tried < TRIAL && !score.is_judged(PROOF_MIN);
        on_trial || self.are_proven()
    }

    /// Whether none come because too many were for nothing.
    pub(crate) fn are_paused(&self, now: Duration) -> bool {
        now < self.paused_until
    }

    /// Whether the next one has something to be put behind, or will have.
    pub(crate) fn can_go_on(&self) -> bool {
        self.chain.is_some() || self.base.is_some()
    }

    /// Whether a keyframe should be decoded.
    pub(crate) fn want_whole(&self, key: &Unit) -> bool {
        let holds = self.chain.as_ref().is_some_and(|chain| chain.takes(key));
        !holds || !self.are_proven() || key.running.saturating_sub(self.looked_whole) >= WHOLE_EVERY
    }

    /// Whether a delta unit should be decoded out of its order.
    pub(crate) fn want(&self, unit: &Unit) -> bool {
        unit.kind == UnitKind::Delta
            && unit.running >= self.looked + EVERY
            && unit.running >= self.paused_until
            && self.chain.as_ref().is_some_and(|chain| chain.takes(unit))
    }

    /// What the decoder has last cannot be put behind, and it is let go: with another one it goes on from this keyframe.
    pub(crate) fn will_begin_on(&mut self, key: Option<u64>) {
        self.base = key;
    }

    /// The keyframe to be decoded for that.
    pub(crate) fn take_base(&mut self) -> Option<u64> {
        self.base.take()
    }

    pub(crate) fn want_base(&self) -> bool {
        self.base.is_some()
    }

    /// The decoder has this unit last, whole and with all that it refers to.
    pub(crate) fn begin_on(&mut self, unit: &Unit) {
        self.base = None;
        self.chain = unit.numbering.clone().map(|numbering| Chain { numbering, glimpses: 0 });
        (self.looked, self.looked_whole) = (unit.running, unit.running);
        self.quiet = None;
    }

    /// The decoder is given this unit next; the numbers that it must get.
    pub(crate) fn glimpse(&mut self, unit: &Unit) -> Option<Numbering> {
        let since = unit.running.saturating_sub(self.looked);
        self.experience.tried += since.min(2 * EVERY);
        self.looked = unit.running;
        let chain = self.chain.as_mut()?;
        chain.glimpses += 1;
        Some(chain.numbering.after(chain.glimpses))
    }

    /// The decoder has nothing more.
    pub(crate) fn end(&mut self) {
        (self.chain, self.base, self.quiet) = (None, None, None);
    }

    /// A glimpse showed nothing.
    pub(crate) fn showed_nothing(&mut self, running: Duration) {
        self.quiet = Some(running);
    }

    /// The last glimpse since a whole picture, if it showed nothing.
    pub(crate) fn last_quiet(&self) -> Option<Duration> {
        self.quiet
    }

    /// No picture came of one, or nothing was there.
    pub(crate) fn was_in_vain(&mut self, running: Duration) {
        let experience = &mut self.experience;
        experience.in_vain += 1;
        if let Some(more) = experience.in_vain.checked_sub(IN_VAIN_MAX) {
            self.paused_until = running + PAUSE * 2u32.pow(more.min(PAUSES_DOUBLED_MAX));
        }
    }

    #[cfg(test)]
    pub(crate) fn trial_is_over(&mut self) {
        self.experience.tried = TRIAL;
    }

    /// A vehicle came. `glimpsed`: a glimpse showed it first; `false` when full pictures show that it was there in a
    /// glimpse that showed nothing.
    pub(crate) fn vehicle(&mut self, glimpsed: bool) {
        if glimpsed {
            self.experience.in_vain = 0;
        }
        self.experience.scores[self.experience.hour].note(glimpsed);
    }
}
