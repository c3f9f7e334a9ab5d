//! The tactics of early warning (卡口战法): questions asked of many sightings at once.
//!
//! | module | question |
//! |---|---|
//! | [`convoy`] 伴随车 | who travels with this vehicle, more often than chance makes company? |
//! | [`collision`] 区域碰撞 | who was in all (or at least *m*) of these areas at their times? |
//! | [`first_entry`] 首次入城 | who came in after a long absence? |
//! | [`night`] 昼伏夜出 | who moves by night and rests by day? |
//! | [`frequent`] 频繁过车 | who passes here again and again? |
//! | [`stops`] 落脚点 | where does this vehicle stay, how long and how often? |
//! | [`card`] 一车一档 | what is known of this vehicle on one page? |
//! | [`section_speed`] 区间测速 | how fast, at least and at most? |
//! | [`travel`] | how long does it take from here to there at this hour? |
//! | [`forecast`] | where will it be seen next, when, and where if it did not come? |
//! | [`way`] | what lies along the ways that it may take? |
//! | [`cameras`] | which cameras misread, have a wrong clock or are silent? |
//! | [`clone`] 套牌 | a cloned plate, a misread, a wrong clock, or nothing of the kind? |
//!
//! The tactics over many vehicles read a [`PassageIndex`]: the passages of a span of time by camera and by vehicle.
//! Every answer is in a stated order and equals the plain definition in its module, which the tests spell out naively
//! and compare. Questions have limits (areas, points, sightings, results); beyond them a question is refused with the
//! fix, and results that were cut are counted.
//!
//! Hours of the day are UTC where they only tell one hour from another (travel times, forecasts) and local
//! ([`LocalTime`]) where people mean them (night, days active).

use guiji_domain::{InvalidValue, Timestamp};

mod chance;
pub(crate) mod clocks;
mod counts;
mod index;
mod places;

pub mod cameras;
pub mod card;
pub mod clone;
pub mod collision;
pub mod convoy;
pub mod first_entry;
pub mod forecast;
pub mod frequent;
pub mod night;
pub mod section_speed;
pub mod stops;
pub mod travel;
pub mod way;

pub use index::{CameraKey, PassageIndex, PassageIndexBuilder, Passages, VehicleKey, Way};

#[cfg(test)]
mod town;

/// What was found, best first, and how many more there were.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings<T> {
    /// At most as many as were asked for, in the order that the tactic states.
    pub found: Vec<T>,
    /// How many more fit the question and were left out.
    pub cut: usize,
}

impl<T> Findings<T> {
    /// Sorts and cuts.
    fn best(mut all: Vec<T>, max: usize, order: impl FnMut(&T, &T) -> std::cmp::Ordering) -> Self {
        all.sort_by(order);
        let cut = all.len().saturating_sub(max);
        all.truncate(max);
        Self { found: all, cut }
    }
}

/// A fixed offset from UTC, for what people call a day and a night. China has one, without daylight saving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    offset_s: i32,
}

impl LocalTime {
    /// UTC+8.
    pub const CHINA: Self = Self { offset_s: 8 * 3600 };

    /// # Errors
    /// When the offset is more than 14 hours: no place on Earth has such a clock.
    pub fn new(offset_s: i32) -> Result<Self, InvalidValue> {
        if offset_s.unsigned_abs() > 14 * 3600 {
            let fix = "use seconds east of UTC, at most 50400 either way";
            return Err(InvalidValue::new("local time offset", offset_s, fix));
        }
        Ok(Self { offset_s })
    }

    /// Days since the epoch on the local calendar.
    pub fn day(self, at: Timestamp) -> i32 {
        self.local_secs(at).div_euclid(86_400) as i32
    }

    /// The local hour, 0 to 23.
    pub fn hour(self, at: Timestamp) -> u8 {
        (self.local_secs(at).rem_euclid(86_400) / 3600) as u8
    }

    fn local_secs(self, at: Timestamp) -> i64 {
        at.as_nanos().div_euclid(1_000_000_000) + i64::from(self.offset_s)
    }
}

/// The hour of the day in UTC, 0 to 23: tells hours apart, whatever people call them.
fn utc_hour(at: Timestamp) -> u8 {
    (at.as_nanos().div_euclid(3_600_000_000_000).rem_euclid(24)) as u8
}

/// Refuses a number outside its limits.
fn within(
    what: &'static str,
    value: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Result<(), InvalidValue> {
    if range.contains(&value) {
        return Ok(());
    }
    let fix = format!("use {} to {}", range.start(), range.end());
    Err(InvalidValue::new(what, value, fix))
}
