use std::fmt;
use std::str::FromStr;

use guiji_domain::Timestamp;

/// A UTC day, counted from 1970-01-01. In file names: `2026-11-24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(pub(crate) i32);

impl Day {
    pub(crate) fn of(instant: Timestamp) -> Self {
        Self(instant.utc_day())
    }

    /// Its first and its last nanosecond.
    pub(crate) fn bounds(self) -> (Timestamp, Timestamp) {
        let midnight = |day: i64| Timestamp::from_secs(day.saturating_mul(86_400));
        let next = midnight(i64::from(self.0) + 1);
        (midnight(i64::from(self.0)), Timestamp::from_nanos(next.as_nanos().saturating_sub(1)))
    }

    /// Whether the day is more than `days` days before `now`.
    pub(crate) fn is_past(self, days: u32, now: Timestamp) -> bool {
        i64::from(now.utc_day()) - i64::from(self.0) > i64::from(days)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let midnight = Timestamp::from_secs(i64::from(self.0) * 86_400).to_string();
        f.write_str(midnight.get(..10).unwrap_or(&midnight))
    }
}

impl FromStr for Day {
    type Err = ();

    /// The inverse of `Display`; anything else is not the name of a day.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-').map(|p| p.parse::<i64>().map_err(drop));
        let mut part = || parts.next().unwrap_or(Err(()));
        let (year, month, day) = (part()?, part()?, part()?);
        if !(0..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(());
        }
        let day = Self(days_from_civil(year, month, day));
        if day.to_string() == text { Ok(day) } else { Err(()) }
    }
}

/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i32 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe - 719_468) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        assert_eq!(Day::of(Timestamp::from_millis(1_795_487_952_345)).to_string(), "2026-11-24");
        for wrong in ["", "2026-11", "2026-11-32", "2026-02-30", "26-11-24", "2026-11-24.db"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn names_round_trip(nanos: i64) {
            let day = Day::of(Timestamp::from_nanos(nanos));
            prop_assert_eq!(day.to_string().parse::<Day>(), Ok(day));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,12}|[0-9]{0,20}-[0-9]{0,20}-[0-9]{0,20}") {
            prop_assert!(text.parse::<Day>().is_err() || text.len() == 10);
        }
    }
}
