use std::fmt;
use std::time::Duration;

use crate::InvalidValue;

/// An instant: nanoseconds since the Unix epoch, UTC.
///
/// Covers the years 1677 to 2262. The only way to learn the present is [`crate::Clock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The earliest instant that can be expressed.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest instant that can be expressed.
    pub const MAX: Self = Self(i64::MAX);

    /// From nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From milliseconds since the Unix epoch, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From whole seconds since the Unix epoch, saturating.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch as a float: for display and rates, never for storing.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// `self - earlier`, or zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The distance between two instants, whichever is first.
    pub fn abs_diff(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.abs_diff(other.0))
    }

    /// `self + duration`, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// `self - duration`, saturating.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// Days since the Unix epoch, rounded down: the partition a record belongs to.
    pub fn utc_day(self) -> i32 {
        const NANOS_A_DAY: i64 = 86_400_000_000_000;
        // 2^63 ns are 106,752 days: always fits.
        self.0.div_euclid(NANOS_A_DAY) as i32
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds: `2026-11-24T02:39:12.345Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(i64::from(self.utc_day()));
        let in_day = self.0.rem_euclid(86_400_000_000_000);
        let (secs, millis) = (in_day / 1_000_000_000, in_day / 1_000_000 % 1000);
        let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{millis:03}Z")
    }
}

/// The proleptic Gregorian date of a day number counted from 1970-01-01.
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// A span of time, both ends included. `first <= last` always holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeSpan {
    first: Timestamp,
    last: Timestamp,
}

impl TimeSpan {
    /// Everything that can be expressed.
    pub const ALL: Self = Self { first: Timestamp::MIN, last: Timestamp::MAX };

    /// # Errors
    /// When `last` is before `first`.
    pub fn new(first: Timestamp, last: Timestamp) -> Result<Self, InvalidValue> {
        if last < first {
            return Err(InvalidValue::new(
                "time span",
                format!("{first} to {last}"),
                "ends before it begins: exchange the two times",
            ));
        }
        Ok(Self { first, last })
    }

    /// The span of one instant.
    pub fn at(instant: Timestamp) -> Self {
        Self { first: instant, last: instant }
    }

    /// The first instant.
    pub fn first(self) -> Timestamp {
        self.first
    }

    /// The last instant.
    pub fn last(self) -> Timestamp {
        self.last
    }

    /// From the first instant to the last.
    pub fn duration(self) -> Duration {
        self.last.since(self.first)
    }

    /// Whether the instant lies inside.
    pub fn contains(self, instant: Timestamp) -> bool {
        self.first <= instant && instant <= self.last
    }

    /// Whether the two spans share an instant.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The smallest span that holds this one and the instant.
    #[must_use]
    pub fn including(self, instant: Timestamp) -> Self {
        Self { first: self.first.min(instant), last: self.last.max(instant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shows_rfc_3339() {
        assert_eq!(Timestamp::EPOCH.to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Timestamp::from_millis(1_795_487_952_345).to_string(),
            "2026-11-24T02:39:12.345Z"
        );
        assert_eq!(Timestamp::from_millis(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_reversed_span_is_refused() {
        let error = TimeSpan::new(Timestamp::from_secs(2), Timestamp::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("exchange"), "{error}");
    }

    proptest! {
        #[test]
        fn sums_never_overflow(nanos: i64, secs: u64) {
            let t = Timestamp::from_nanos(nanos);
            let d = Duration::from_secs(secs);
            prop_assert!(t.plus(d) >= t);
            prop_assert!(t.minus(d) <= t);
            prop_assert!(!t.to_string().is_empty());
        }
    }
}
