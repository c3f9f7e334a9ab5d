//! What the smart policy knows between two units, and its rules.

use std::time::Duration;

use guiji_domain::Timestamp;

use crate::glimpses::Glimpses;
use crate::sizes::Sizes;

/// The state of [`guiji_domain::DecodePolicy::Motion`].
#[derive(Debug, Default)]
pub(super) struct Motion {
    pub(super) awake: Option<Awake>,
    /// Pictures of units before this one were delivered or will never be.
    pub(super) delivered: u64,
    pub(super) sizes: Sizes,
    pub(super) deaf: bool,
    pub(super) glimpses: Glimpses,
    /// Glimpses are not wanted.
    pub(super) unseeing: bool,
    /// Known vehicles are decoded on: always, or as long as somebody waits for what is seen.
    pub(super) turns_not_away: bool,
    pub(super) urgent: bool,
    /// The last keyframe has what glimpses need.
    pub(super) numbered: bool,
    /// What was given last to be looked at, and whether its picture has not come yet.
    pub(super) looked_at: u64,
    pub(super) owed: bool,
    /// The glimpse before it, when it is a keyframe and the glimpse showed nothing.
    pub(super) quiet_before_key: Option<Duration>,
    /// The decoder holds pictures back, to give them in another order: it can only be emptied and let go.
    pub(super) reorders: bool,
    /// Vehicles that the engine follows.
    pub(super) live_tracks: usize,
    /// Set when it fell asleep although the view was changed, because the detector saw nothing new in it: so many
    /// keyframes without a change end it. Until then a keyframe with a change does not wake it but asks the detector.
    pub(super) doubt: Option<u32>,
    /// The keyframe whose answer is awaited.
    pub(super) asked: Option<u64>,
    /// So many in a row were changed and did not ask.
    pub(super) unasked: u32,
    /// Set while known vehicles drive away that are not decoded on. To sizes it is the same event until a keyframe shows what
    /// became of them, for they are still in the units.
    pub(super) turned_away: Option<TurnedAway>,
    /// When the last picture before it fell asleep was captured.
    pub(super) saw: Option<Timestamp>,
    /// Another stream's gate watches the view.
    pub(super) relieved: bool,
    /// When the view's background was last looked at while that was so.
    pub(super) background: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Awake {
    /// Times in the stream: of what woke it, of the last change seen, and of the last vehicle that was new or moved.
    pub(super) since: Duration,
    pub(super) changed: Duration,
    pub(super) vehicle: Duration,
    /// A picture has shown a change since.
    pub(super) confirmed: bool,
    /// A glimpse woke it.
    pub(super) glimpsed: bool,
    /// The glimpse before, which showed nothing, and whether its full picture does.
    pub(super) quiet: Option<Duration>,
    pub(super) overlooked: bool,
    /// How often the detector looked, how often in a row it saw nothing new, and whether it ever did.
    pub(super) looks: u32,
    pub(super) empty_looks: u32,
    pub(super) fruitful: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct TurnedAway {
    /// A vehicle was there.
    pub(super) real: bool,
    /// Times in the stream: of the last picture that was looked at, and by when there must be a keyframe.
    pub(super) since: Duration,
    pub(super) until: Duration,
}

impl Awake {
    pub(super) fn at(running: Duration) -> Self {
        let (since, changed, vehicle) = (running, running, running);
        Self {
            since,
            changed,
            vehicle,
            confirmed: false,
            glimpsed: false,
            quiet: None,
            overlooked: false,
            looks: 0,
            empty_looks: 0,
            fruitful: false,
        }
    }
}

impl Motion {
    /// A keyframe shows no change.
    pub(super) fn is_calm_at_keyframe(&mut self) {
        self.doubt = self.doubt.and_then(|left| left.checked_sub(1)).filter(|it| *it > 0);
    }

    /// A keyframe shows what became of the vehicles from which it was turned away.
    pub(super) fn is_told_what_became(&mut self) {
        if let Some(away) = self.turned_away.take() {
            self.sizes.ends(away.real);
        }
    }

    /// Whether glimpses come and are proven.
    pub(super) fn glimpses_suffice(&self, now: Duration) -> bool {
        let come = self.glimpses.can_go_on() && !self.glimpses.are_paused(now);
        self.glimpses.are_proven() && (self.awake.is_some() || self.relieved || come)
    }

    /// Whether anything tells of what happens between keyframes: another stream, sizes that are proven, or glimpses that
    /// are, or have not had the time for it.
    pub(super) fn is_told_between_keyframes(&self, now: Duration) -> bool {
        let can_glimpse = self.numbered && !self.unseeing && !self.reorders;
        let glimpses = can_glimpse && !self.glimpses.are_paused(now);
        let by_glimpses = glimpses && self.glimpses.may_be_relied_on();
        self.relieved || self.sizes.are_proven() || by_glimpses
    }
}

/// After so much stream time without a change it goes to sleep, if nothing is being followed.
const CALM: Duration = Duration::from_millis(500);
/// And after so much in any case: what stands does not need every picture, and when it moves the view changes.
const CALM_FOLLOWING: Duration = Duration::from_secs(5);
/// So many looks of the detector in a row without anything new, and as much time, send it to sleep even though the
/// view is changed: trees, rain, a flag.
pub(super) const EMPTY_LOOKS: u32 = 8;
/// So many keyframes without a change end the doubt that follows.
pub(super) const DOUBT: u32 = 5;
/// And at most so many with one do not ask, because the glimpse before showed nothing.
pub(super) const UNASKED_MAX: u32 = 4;

/// For how long without a reason it stays awake.
pub(super) fn patience(live_tracks: usize) -> Duration {
    if live_tracks > 0 { CALM_FOLLOWING } else { CALM }
}
