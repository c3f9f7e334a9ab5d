use crate::vehicle::words;
use crate::{CameraId, CameraState, InvalidValue, Kept, StoreError, TimeSpan, Timestamp};

/// Whether a camera could have seen a vehicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoverageState {
    /// Pictures came and were analysed.
    Seeing,
    /// No usable pictures came.
    Blind,
    /// Nobody can say. So is all time of which nothing was kept.
    Unknown,
}
words!(
    CoverageState, "coverage state",
    Seeing => "seeing", Blind => "blind", Unknown => "unknown",
);

/// Whether a camera could see, over a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// The camera.
    pub camera: CameraId,
    /// From when to when.
    pub span: TimeSpan,
    /// Whether it could see.
    pub state: CoverageState,
    /// Why, in a few words: `unreachable`, `maintenance`. Empty where there is nothing to say.
    pub cause: String,
}

impl Coverage {
    /// Longest cause, characters.
    pub const CAUSE_CHARS_MAX: usize = 100;

    /// # Errors
    /// When the cause is too long or has control characters.
    pub fn checked(self) -> Result<Self, InvalidValue> {
        let long = self.cause.chars().count() > Self::CAUSE_CHARS_MAX;
        if long || self.cause.chars().any(char::is_control) {
            let fix = format!("use at most {} printable characters", Self::CAUSE_CHARS_MAX);
            return Err(InvalidValue::new("cause", &self.cause, fix));
        }
        Ok(self)
    }
}

impl CameraState {
    /// What the state says about coverage. `None` where it says nothing: a camera that is switched off may be one
    /// whose sightings, and whose coverage, come from elsewhere, and a recording is over when it is over.
    pub fn coverage(self) -> Option<CoverageState> {
        match self {
            Self::Live | Self::Degraded => Some(CoverageState::Seeing),
            Self::Connecting | Self::Stalled | Self::Refused | Self::Misconfigured => {
                Some(CoverageState::Blind)
            }
            Self::Disabled | Self::Ended => None,
        }
    }
}

/// Keeps the history of what cameras could see. Every implementation passes the same contract suite.
///
/// Intervals may overlap. Where they contradict each other, blind counts before unknown, and unknown before seeing: an
/// absence is only claimed where nothing speaks against it. The order of keeping therefore does not matter.
pub trait CoverageStore: Send + Sync {
    /// Keeps intervals, all or none. Durable when it returns. An interval of the same camera, beginning and state as
    /// one that is kept replaces it when it ends later ([`Kept::Replaced`]): so a state that lasts is written again
    /// and again with a later end.
    ///
    /// # Errors
    /// When the medium fails or a cause cannot be kept.
    fn keep_coverage(&self, intervals: &[Coverage]) -> Result<Vec<Kept>, StoreError>;

    /// The intervals of these cameras that share an instant with the span, as they were kept, by camera, then
    /// beginning, then state.
    ///
    /// # Errors
    /// When the medium fails or a record is damaged.
    fn coverage(&self, cameras: &[CameraId], span: TimeSpan) -> Result<Vec<Coverage>, StoreError>;
}

/// How long a camera was in which state during a span, nanoseconds that add up to the span's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Covered {
    /// It could see.
    pub seeing_ns: u64,
    /// It was blind.
    pub blind_ns: u64,
    /// Nobody can say.
    pub unknown_ns: u64,
}

impl Covered {
    /// Adds up one camera's intervals within a span; those of other times do no harm. An instant counts by the worst
    /// that is said of it, as [`CoverageStore`] has it.
    pub fn of<'a>(intervals: impl IntoIterator<Item = &'a Coverage>, span: TimeSpan) -> Self {
        let mut edges: Vec<(Timestamp, CoverageState, i32)> = Vec::new();
        for interval in intervals.into_iter().filter(|interval| interval.span.overlaps(span)) {
            edges.push((interval.span.first().max(span.first()), interval.state, 1));
            edges.push((interval.span.last().min(span.last()), interval.state, -1));
        }
        edges.sort_by_key(|(at, _, _)| *at);
        let (mut covered, mut at) = (Self::default(), span.first());
        let (mut seeing, mut blind, mut unknown) = (0, 0, 0);
        for (edge, state, step) in
            edges.into_iter().chain([(span.last(), CoverageState::Unknown, 0)])
        {
            let nanos = u64::try_from(edge.since(at).as_nanos()).unwrap_or(u64::MAX);
            let of_state = match (blind > 0, unknown > 0, seeing > 0) {
                (true, _, _) => &mut covered.blind_ns,
                (false, false, true) => &mut covered.seeing_ns,
                _ => &mut covered.unknown_ns,
            };
            *of_state = of_state.saturating_add(nanos);
            at = edge;
            match state {
                CoverageState::Seeing => seeing += step,
                CoverageState::Blind => blind += step,
                CoverageState::Unknown => unknown += step,
            }
        }
        covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CoverageState::{Blind, Seeing, Unknown};
    use proptest::prelude::*;

    fn interval((first, length, state): (i64, i64, CoverageState)) -> Coverage {
        let at = Timestamp::from_nanos;
        Coverage {
            camera: CameraId::new("k1").unwrap(),
            span: TimeSpan::new(at(first), at(first + length)).unwrap(),
            state,
            cause: String::new(),
        }
    }

    proptest! {
        #[test]
        fn equals_asking_every_instant(
            intervals in prop::collection::vec(
                (0i64..40, 0i64..20, prop::sample::select(vec![Seeing, Blind, Unknown])), 0..6),
            first in 0i64..30, length in 0i64..30,
        ) {
            let intervals: Vec<_> = intervals.into_iter().map(interval).collect();
            let span = interval((first, length, Seeing)).span;
            let mut want = Covered::default();
            for at in first..first + length {
                // The unit of time from this nanosecond to the next.
                let said = |state| intervals.iter().any(|i| {
                    i.state == state && i.span.first().as_nanos() <= at && at < i.span.last().as_nanos()
                });
                match (said(Blind), said(Unknown), said(Seeing)) {
                    (true, _, _) => want.blind_ns += 1,
                    (false, false, true) => want.seeing_ns += 1,
                    _ => want.unknown_ns += 1,
                }
            }
            prop_assert_eq!(Covered::of(&intervals, span), want);
        }
    }

    #[test]
    fn nothing_known_is_unknown() {
        let span = interval((0, 10, Seeing)).span;
        assert_eq!(Covered::of(&[], span), Covered { unknown_ns: 10, ..Covered::default() });
    }
}
