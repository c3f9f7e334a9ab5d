//! Night-active vehicles (昼伏夜出): active on many nights, on few days.
//!
//! Definition: a night belongs to the local date on which its night hours begin, a day to its date. A night (day) is
//! *active* when the vehicle was seen at least once in its night (day) hours within the span. The share is nights
//! active over nights and days active together. Hours in neither range say nothing.

use guiji_domain::{InvalidValue, TimeSpan, Timestamp};

use super::{Findings, LocalTime, PassageIndex, VehicleKey};

/// Hours of the day from one to another, round midnight where `from` is later: 22 to 5 is 22:00 to 04:59.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// First hour, 0 to 23.
    pub from: u8,
    /// The hour after the last, 0 to 23.
    pub to: u8,
}

impl Hours {
    fn contains(self, hour: u8) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&hour)
        } else {
            hour >= self.from || hour < self.to
        }
    }
}

/// What counts as night-active.
#[derive(Debug, Clone, PartialEq)]
pub struct NightSettings {
    /// The night.
    pub night: Hours,
    /// The day; must not overlap the night.
    pub day: Hours,
    /// Whose hours.
    pub local: LocalTime,
    /// Fewest active nights.
    pub nights_min: u32,
    /// Smallest share of nights, 0 to 1.
    pub share_min: f64,
    /// Most vehicles in the answer.
    pub results_max: usize,
}

impl Default for NightSettings {
    fn default() -> Self {
        Self {
            night: Hours { from: 22, to: 5 },
            day: Hours { from: 7, to: 20 },
            local: LocalTime::CHINA,
            nights_min: 3,
            share_min: 0.8,
            results_max: 1000,
        }
    }
}

/// A vehicle and the counts it is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NightActivity {
    /// Who.
    pub vehicle: VehicleKey,
    /// Nights on which it was seen.
    pub nights: u32,
    /// Days on which it was seen.
    pub days: u32,
    /// Passages in night hours.
    pub night_passages: u32,
    /// Passages in day hours.
    pub day_passages: u32,
}

impl NightActivity {
    /// Nights over nights and days, 0 to 1; 0 when it was seen in neither.
    pub fn share(&self) -> f64 {
        f64::from(self.nights) / f64::from((self.nights + self.days).max(1))
    }
}

/// The night-active vehicles of a span; highest share first, then most nights, then by plate.
///
/// # Errors
/// When an hour is above 23, or day and night overlap.
pub fn night_active(
    index: &PassageIndex,
    span: TimeSpan,
    settings: &NightSettings,
) -> Result<Findings<NightActivity>, InvalidValue> {
    let (night, day) = (settings.night, settings.day);
    if let Some(hour) = [night.from, night.to, day.from, day.to].into_iter().find(|h| *h > 23) {
        return Err(InvalidValue::new("hour", hour, "use 0 to 23"));
    }
    if let Some(hour) = (0..24).find(|h| night.contains(*h) && day.contains(*h)) {
        let fix = "let each hour belong to the night or to the day, not to both";
        return Err(InvalidValue::new("hour of night and day", hour, fix));
    }
    let active = index
        .vehicle_keys()
        .map(|vehicle| activity(index, vehicle, span, settings))
        .filter(|a| a.nights >= settings.nights_min && a.share() >= settings.share_min)
        .collect();
    Ok(Findings::best(active, settings.results_max, |a, b| {
        b.share()
            .total_cmp(&a.share())
            .then(b.nights.cmp(&a.nights))
            .then(a.vehicle.cmp(&b.vehicle))
    }))
}

fn activity(
    index: &PassageIndex,
    vehicle: VehicleKey,
    span: TimeSpan,
    settings: &NightSettings,
) -> NightActivity {
    let mut counts =
        NightActivity { vehicle, nights: 0, days: 0, night_passages: 0, day_passages: 0 };
    // Passages come in order of time, so that a date is new when it differs from the last.
    let (mut last_night, mut last_day) = (None, None);
    for at in index.way(vehicle).within(span).times {
        let hour = settings.local.hour(*at);
        if settings.night.contains(hour) {
            counts.night_passages += 1;
            let night = Some(night_of(*at, hour, settings));
            counts.nights += u32::from(night != last_night);
            last_night = night;
        } else if settings.day.contains(hour) {
            counts.day_passages += 1;
            let day = Some(settings.local.day(*at));
            counts.days += u32::from(day != last_day);
            last_day = day;
        }
    }
    counts
}

/// The date on which the night began: the day before, after midnight.
fn night_of(at: Timestamp, hour: u8, settings: &NightSettings) -> i32 {
    let Hours { from, to } = settings.night;
    settings.local.day(at) - i32::from(from > to && hour < to)
}

#[cfg(test)]
mod tests {
    use super::super::town::{DAY_S, HOUR_S, index_of, plate, secs, traffic, trip};
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn utc(nights_min: u32, share_min: f64) -> NightSettings {
        let local = LocalTime::new(0).unwrap();
        NightSettings { local, nights_min, share_min, ..NightSettings::default() }
    }

    proptest! {
        #[test]
        fn equals_brute_force(
            passages in prop::collection::vec((0u32..5, 0u32..3, 0i64..6 * DAY_S), 0..120),
            from in 0i64..DAY_S, nights_min in 0u32..4, share in 0.0f64..1.0,
        ) {
            let index = index_of(&passages);
            let span = TimeSpan::new(secs(from), secs(6 * DAY_S)).unwrap();
            let mut want = Vec::new();
            for v in 0..5 {
                let seen: BTreeSet<_> = passages.iter().filter(|p| p.0 == v && p.2 >= from).collect();
                // Shifted by five hours, a night is one date: hours 17 to 24 of the day before.
                let nights: BTreeSet<_> = seen
                    .iter()
                    .map(|p| p.2 - 5 * HOUR_S)
                    .filter(|t| t.rem_euclid(DAY_S) >= 17 * HOUR_S)
                    .map(|t| t.div_euclid(DAY_S))
                    .collect();
                let by_day = 7 * HOUR_S..20 * HOUR_S;
                let days: BTreeSet<_> =
                    seen.iter().filter(|p| by_day.contains(&(p.2 % DAY_S))).map(|p| p.2 / DAY_S).collect();
                let (n, d) = (nights.len() as f64, days.len() as f64);
                if passages.iter().any(|p| p.0 == v) && n >= f64::from(nights_min) && n / (n + d).max(1.0) >= share {
                    want.push((plate(v), nights.len() as u32, days.len() as u32));
                }
            }
            let found = night_active(&index, span, &utc(nights_min, share)).unwrap().found;
            let name = |a: &NightActivity| (index.plate(a.vehicle).unwrap().clone(), a.nights, a.days);
            let mut got: Vec<_> = found.iter().map(name).collect();
            prop_assert!(found.is_sorted_by(|a, b| a.share() >= b.share()));
            got.sort();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn the_night_driver_is_found_among_day_traffic() {
        let noise = &mut Noise(3);
        let mut passages = traffic(200, 7, noise);
        for day in 0..6 {
            passages.extend(trip(900, day * DAY_S + 23 * HOUR_S, 20, noise)); // past midnight: still one night
        }
        passages.extend(trip(900, 3 * DAY_S + 12 * HOUR_S, 4, noise));
        let index = index_of(&passages);
        let found = night_active(&index, TimeSpan::ALL, &utc(3, 0.8)).unwrap().found;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(index.plate(found[0].vehicle), Some(&plate(900)));
        assert_eq!((found[0].nights, found[0].days, found[0].day_passages), (6, 1, 5));
    }

    #[test]
    fn overlapping_hours_are_refused() {
        let index = index_of(&[]);
        let wrong = NightSettings { day: Hours { from: 4, to: 20 }, ..NightSettings::default() };
        let error = night_active(&index, TimeSpan::ALL, &wrong).unwrap_err().to_string();
        assert!(error.contains("not to both"), "{error}");
        let wrong = NightSettings { day: Hours { from: 7, to: 24 }, ..NightSettings::default() };
        assert!(night_active(&index, TimeSpan::ALL, &wrong).is_err());
    }
}
