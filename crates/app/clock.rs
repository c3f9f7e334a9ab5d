//! The one place that reads the machine's clock, and times as people write them.

use anyhow::{Result, anyhow};
use guiji_domain::{Clock, Timestamp};

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // this is the one place
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::UNIX_EPOCH;
        let now = std::time::SystemTime::now().duration_since(since).unwrap_or_default();
        Timestamp::EPOCH.plus(now)
    }
}

/// Reads RFC 3339 (`2026-11-24T02:39:12Z`, any offset) or a time before now (`15m`, `2h`, `7d`).
///
/// # Errors
/// When it is neither.
pub(crate) fn parse_time_or_ago(text: &str, now: Timestamp) -> Result<Timestamp> {
    let mut unit = text.chars();
    let seconds = match unit.next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return parse_time(text),
    };
    match unit.as_str().parse::<u32>() {
        Ok(count) => Ok(now.minus(std::time::Duration::from_secs(u64::from(count) * seconds))),
        Err(_) => parse_time(text),
    }
}

/// Reads RFC 3339.
///
/// # Errors
/// When it is no such time, or outside 1677 to 2262.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp> {
    let wrong = || anyhow!("time {text:?}: use RFC 3339, like 2026-11-24T08:00:00+08:00");
    let instant: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    i64::try_from(instant.as_nanosecond()).map(Timestamp::from_nanos).map_err(|_| wrong())
}

/// A time as people read it: in this machine's zone, to the millisecond, with the offset.
pub(crate) fn local_time(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos()))
        .map(|instant| {
            let zoned = instant.to_zoned_datetime(jiff::tz::TimeZone::system());
            zoned.strftime("%Y-%m-%d %H:%M:%S%.3f%:z").to_string()
        })
        .unwrap_or_else(|_| at.to_string())
}

/// Day (counted from 1970-01-01) and hour of the machine's time zone.
///
/// # Errors
/// When the time is beyond the year 9999.
pub(crate) fn local_day_and_hour(at: Timestamp) -> Result<(i32, i8)> {
    let instant = jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos()))?;
    let local = instant.to_zoned_datetime(jiff::tz::TimeZone::system());
    let seconds = local.timestamp().as_second() + i64::from(local.offset().seconds());
    Ok((i32::try_from(seconds.div_euclid(86_400))?, local.hour()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let now = Timestamp::from_secs(1_000_000);
        assert_eq!(parse_time("1970-01-01T08:00:01+08:00").unwrap(), Timestamp::from_secs(1));
        assert_eq!(parse_time_or_ago("15m", now).unwrap(), Timestamp::from_secs(1_000_000 - 900));
        assert_eq!(
            parse_time_or_ago("7d", now).unwrap(),
            Timestamp::from_secs(1_000_000 - 604_800)
        );
        for wrong in ["", "m", "yesterday", "-5m", "2026-13-01T00:00:00Z"] {
            assert!(parse_time_or_ago(wrong, now).is_err(), "{wrong}");
        }
    }
}
