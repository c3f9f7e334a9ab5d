use std::time::Duration;

use guiji_domain::{CaptureTime, InvalidValue, TimeSpan, Timestamp};

use super::Word;
use crate::pb;
use crate::violations::Violations;

const NANOS_A_SECOND: i64 = 1_000_000_000;

/// An instant as `google.protobuf.Timestamp`.
pub fn timestamp_to_pb(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_nanos().div_euclid(NANOS_A_SECOND),
        // Below 10^9: always fits.
        nanos: at.as_nanos().rem_euclid(NANOS_A_SECOND) as i32,
    }
}

/// An instant from `google.protobuf.Timestamp`.
///
/// # Errors
/// When it lies outside the years 1677 to 2262, or its nanoseconds are not within a second.
pub fn timestamp_from_pb(at: &prost_types::Timestamp) -> Result<Timestamp, InvalidValue> {
    let nanos = i64::from(at.nanos);
    let whole = i128::from(at.seconds) * i128::from(NANOS_A_SECOND) + i128::from(nanos);
    match i64::try_from(whole) {
        Ok(whole) if (0..NANOS_A_SECOND).contains(&nanos) => Ok(Timestamp::from_nanos(whole)),
        _ => Err(InvalidValue::new(
            "time",
            format!("{} s {} ns", at.seconds, at.nanos),
            "give seconds since 1970 within the years 1677 to 2262, and nanos of 0 to 999,999,999",
        )),
    }
}

/// When something may have been captured: outside, a clock was not set, and each day of such times would be a file of
/// its own. 2000-01-01 and 2100-01-01, UTC.
const CAPTURED: (Timestamp, Timestamp) =
    (Timestamp::from_secs(946_684_800), Timestamp::from_secs(4_102_444_800));

/// An instant at which something may have been seen.
///
/// # Errors
/// As [`timestamp_from_pb`], and when it lies outside the years 2000 to 2099.
pub(crate) fn seen_from_pb(at: &prost_types::Timestamp) -> Result<Timestamp, InvalidValue> {
    let at = timestamp_from_pb(at)?;
    if (CAPTURED.0..CAPTURED.1).contains(&at) {
        Ok(at)
    } else {
        let fix = "lies outside the years 2000 to 2099: set the clock of the system that sends it";
        Err(InvalidValue::new("time", at, fix))
    }
}

/// A duration as `google.protobuf.Duration`, saturating at 10,000 years.
pub fn duration_to_pb(duration: Duration) -> prost_types::Duration {
    const SECONDS_MAX: i64 = 315_576_000_000;
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(SECONDS_MAX).min(SECONDS_MAX),
        // Below 10^9: always fits.
        nanos: duration.subsec_nanos() as i32,
    }
}

/// A duration from `google.protobuf.Duration`.
///
/// # Errors
/// When it is negative or its nanoseconds are not within a second.
pub fn duration_from_pb(duration: &prost_types::Duration) -> Result<Duration, InvalidValue> {
    match (u64::try_from(duration.seconds), u32::try_from(duration.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(InvalidValue::new(
            "duration",
            format!("{} s {} ns", duration.seconds, duration.nanos),
            "give a duration that is not negative, with nanos of 0 to 999,999,999",
        )),
    }
}

/// The span between two optional instants; what is absent is open.
pub(crate) fn span_from_pb(
    wrong: &mut Violations,
    prefix: &str,
    start: Option<&prost_types::Timestamp>,
    end: Option<&prost_types::Timestamp>,
) -> TimeSpan {
    let (start_field, end_field) = (format!("{prefix}start_time"), format!("{prefix}end_time"));
    let start = start.and_then(|t| wrong.take(start_field, timestamp_from_pb(t)));
    let end = end.and_then(|t| wrong.take(end_field.clone(), timestamp_from_pb(t)));
    let span = TimeSpan::new(start.unwrap_or(Timestamp::MIN), end.unwrap_or(Timestamp::MAX));
    wrong.take(end_field, span).unwrap_or(TimeSpan::ALL)
}

pub(crate) fn capture_to_pb(captured: &CaptureTime) -> pb::CaptureTime {
    pb::CaptureTime {
        time: Some(timestamp_to_pb(captured.at)),
        uncertainty: Some(duration_to_pb(captured.uncertainty)),
        source: captured.source.to_pb(),
    }
}

/// A capture time, whole: a time without its uncertainty would pass for exact.
pub(crate) fn capture_from_pb(
    wrong: &mut Violations,
    capture: Option<&pb::CaptureTime>,
) -> Option<CaptureTime> {
    /// A clock that may be off by more says nothing.
    const UNCERTAINTY_MAX: Duration = Duration::from_secs(86_400);
    let capture = wrong.require("capture", capture)?;
    let at = wrong
        .require("capture.time", capture.time.as_ref())
        .and_then(|time| wrong.take("capture.time", seen_from_pb(time)));
    let uncertainty = wrong
        .require("capture.uncertainty", capture.uncertainty.as_ref())
        .and_then(|duration| wrong.take("capture.uncertainty", duration_from_pb(duration)));
    if uncertainty.is_some_and(|uncertainty| uncertainty > UNCERTAINTY_MAX) {
        wrong.add("capture.uncertainty", "use at most a day");
    }
    let source = wrong.take("capture.source", Word::from_pb(capture.source)).flatten();
    if capture.source == 0 {
        wrong.add("capture.source", "is required: say what the time rests on");
    }
    Some(CaptureTime { at: at?, uncertainty: uncertainty?, source: source? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn instants_round_trip(nanos: i64) {
            let at = Timestamp::from_nanos(nanos);
            prop_assert_eq!(timestamp_from_pb(&timestamp_to_pb(at)).unwrap(), at);
        }

        #[test]
        fn durations_round_trip(seconds in 0_u64..315_576_000_000, nanos in 0_u32..1_000_000_000) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(duration_from_pb(&duration_to_pb(duration)).unwrap(), duration);
        }

        #[test]
        fn nothing_panics(seconds: i64, nanos: i32) {
            drop(timestamp_from_pb(&prost_types::Timestamp { seconds, nanos }));
            drop(duration_from_pb(&prost_types::Duration { seconds, nanos }));
        }
    }

    #[test]
    fn impossible_times_are_refused() {
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
            assert!(timestamp_from_pb(&prost_types::Timestamp { seconds, nanos }).is_err());
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            assert!(duration_from_pb(&prost_types::Duration { seconds, nanos }).is_err());
        }
        assert_eq!(duration_to_pb(Duration::MAX).seconds, 315_576_000_000);
    }
}
