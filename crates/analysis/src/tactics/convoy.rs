//! Convoys (伴随车): vehicles that passed where and when the target passed, again and again.
//!
//! Definition: the target's *points* are its passages within a span. A vehicle *meets* a point when it passed the same
//! camera within ±`apart` of the target. Companions meet at least `points_min` points **and** do so by chance with a
//! probability of at most `chance_max`.
//!
//! Busy roads make false company, so every companion is weighed against chance. For the point at camera *c* and time
//! *t*, the number of passages by the candidate to expect in the window by chance is the larger of two innocent
//! explanations:
//! * *the traffic*: all passages of the candidate, times the share of the whole traffic that falls into the window (the
//!   volume at *c* in the hour around *t*, scaled to the window);
//! * *its habit*: its passages of *c* at this hour of the day, spread evenly over that hour of all days: who drives to
//!   work on the same road at the same hour is no companion.
//!
//! With an expectation λ, it meets the point by chance with probability 1 - e^-λ (Poisson). Points of one trip of the
//! target (less than `trip_gap` apart) are not independent: who met the target once stays beside it for a while on the
//! same road. After a met point the next of the trip is therefore met with the share of all vehicles that went on with
//! the target from the one to the other, by Laplace's rule of succession (m + 1) / (n + 2). The tail of the resulting
//! chain is computed exactly; with one point a trip it is the Poisson-binomial tail. At last it is corrected for the
//! number of candidates (Šidák): `chance` is the probability that *any* of the vehicles of the index would look at
//! least as close by chance.

use std::collections::HashMap;
use std::time::Duration;

use guiji_domain::{InvalidValue, TimeSpan, Timestamp};

use super::chance::{Chance, at_least, of_any};
use super::{CameraKey, Findings, PassageIndex, VehicleKey, utc_hour, within};

/// Who counts as a companion.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvoySettings {
    /// Largest time between the two at a point, at most 30 minutes. Well above the errors of the clocks.
    pub apart: Duration,
    /// Fewest common points, at least 1.
    pub points_min: usize,
    /// Highest probability by chance, corrected for the number of candidates. 1 keeps everything that is common.
    pub chance_max: f64,
    /// Points of the target nearer in time than this belong to one trip.
    pub trip_gap: Duration,
    /// Most companions in the answer.
    pub results_max: usize,
}

impl Default for ConvoySettings {
    fn default() -> Self {
        Self {
            apart: Duration::from_secs(60),
            points_min: 3,
            chance_max: 0.01,
            trip_gap: Duration::from_secs(30 * 60),
            results_max: 1000,
        }
    }
}

/// A vehicle that travels with the target.
#[derive(Debug, Clone, PartialEq)]
pub struct Companion {
    /// Who.
    pub vehicle: VehicleKey,
    /// Where the two met, in order of the target's points.
    pub meetings: Vec<Meeting>,
    /// Probability that any candidate looks at least as close by chance, 0 to 1.
    pub chance: f64,
}

/// Target and companion at one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meeting {
    /// The camera.
    pub camera: CameraKey,
    /// When the target passed.
    pub target_at: Timestamp,
    /// When the companion passed: its passage nearest in time, the earlier of two equally near.
    pub companion_at: Timestamp,
}

/// Most points of a target in one question.
pub const POINTS_MAX: usize = 1000;
/// Volume is counted this far to either side of a point.
const VOLUME_REACH: Duration = Duration::from_secs(30 * 60);

/// The companions of a vehicle within a span; least likely by chance first, then most meetings, then by plate.
///
/// # Errors
/// When a setting is out of its limits, or the target has more than [`POINTS_MAX`] points.
pub fn companions(
    index: &PassageIndex,
    target: VehicleKey,
    span: TimeSpan,
    settings: &ConvoySettings,
) -> Result<Findings<Companion>, InvalidValue> {
    within("convoy window in seconds", settings.apart.as_secs() as usize, 0..=1800)?;
    within("common points", settings.points_min, 1..=POINTS_MAX)?;
    let points: Vec<_> = index.way(target).within(span).iter().collect();
    if points.len() > POINTS_MAX {
        let fix = format!("shorten the span until the target has at most {POINTS_MAX}");
        return Err(InvalidValue::new("points of the target", points.len(), fix));
    }
    let met = met_points(index, target, &points, settings.apart);
    let follows = follow_shares(&points, &met, settings.trip_gap);
    let candidates = index.vehicle_keys().len().saturating_sub(1);

    let all = met
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|meetings| meetings.len() >= settings.points_min)
        .map(|meetings| {
            let vehicle = meetings[0].0;
            let chances = chances(index, vehicle, &points, &follows, settings.apart);
            let meetings = meetings.iter().map(|(_, point, companion_at)| {
                let (target_at, camera) = points[*point];
                Meeting { camera, target_at, companion_at: *companion_at }
            });
            let meetings: Vec<_> = meetings.collect();
            let chance = of_any(at_least(meetings.len(), &chances), candidates);
            Companion { vehicle, meetings, chance }
        })
        .filter(|companion| companion.chance <= settings.chance_max)
        .collect();
    Ok(Findings::best(all, settings.results_max, |a, b| {
        let closer = a.chance.total_cmp(&b.chance);
        closer.then(b.meetings.len().cmp(&a.meetings.len())).then(a.vehicle.cmp(&b.vehicle))
    }))
}

/// Every vehicle at every point it met (by number), with its nearest passage; sorted, each pair once.
fn met_points(
    index: &PassageIndex,
    target: VehicleKey,
    points: &[(Timestamp, CameraKey)],
    apart: Duration,
) -> Vec<(VehicleKey, usize, Timestamp)> {
    let mut met = Vec::new();
    for (point, (at, camera)) in points.iter().enumerate() {
        let passages = index.at_camera(*camera, window(*at, apart));
        let others = passages.iter().filter(|(_, vehicle)| *vehicle != target);
        met.extend(others.map(|(passed, vehicle)| (vehicle, point, passed)));
    }
    met.sort_unstable_by_key(|(vehicle, point, at)| {
        (*vehicle, *point, at.abs_diff(points[*point].0), *at)
    });
    met.dedup_by_key(|(vehicle, point, _)| (*vehicle, *point));
    met
}

/// For each point, the share of the vehicles at the point before that went on with the target to this one; `None`
/// where a trip begins.
fn follow_shares(
    points: &[(Timestamp, CameraKey)],
    met: &[(VehicleKey, usize, Timestamp)],
    trip_gap: Duration,
) -> Vec<Option<f64>> {
    let (mut here, mut both) = (vec![0_u32; points.len()], vec![0_u32; points.len()]);
    met.iter().for_each(|(_, point, _)| here[*point] += 1);
    for pair in met.windows(2) {
        if pair[0].0 == pair[1].0 && pair[0].1 + 1 == pair[1].1 {
            both[pair[1].1] += 1;
        }
    }
    let share = |i: usize| {
        let same_trip = points[i].0.since(points[i - 1].0) < trip_gap;
        same_trip.then(|| f64::from(both[i] + 1) / f64::from(here[i - 1] + 2))
    };
    (0..points.len()).map(|i| if i == 0 { None } else { share(i) }).collect()
}

/// How likely the candidate meets each point by chance: see the head of the module.
fn chances(
    index: &PassageIndex,
    candidate: VehicleKey,
    points: &[(Timestamp, CameraKey)],
    follows: &[Option<f64>],
    apart: Duration,
) -> Vec<Chance> {
    let way = index.way(candidate);
    let mut habit: HashMap<(CameraKey, u8), u32> = HashMap::new();
    way.iter().for_each(|(at, camera)| *habit.entry((camera, utc_hour(at))).or_default() += 1);
    let recorded = index.span().unwrap_or(TimeSpan::ALL);
    let days = (recorded.duration().as_secs_f64() / 86_400.0).ceil().max(1.0);
    let window_s = 2.0 * apart.as_secs_f64();

    points
        .iter()
        .zip(follows)
        .map(|((at, camera), follows)| {
            let hour = window(*at, VOLUME_REACH);
            let around = index.at_camera(*camera, hour).times.len() as f64;
            // At the ends of the records there is less than an hour to count in.
            let counted =
                hour.last().min(recorded.last()).since(hour.first().max(recorded.first()));
            let window_of_hour = (window_s / counted.as_secs_f64()).min(1.0);
            let by_traffic =
                way.times.len() as f64 * around * window_of_hour / index.len().max(1) as f64;
            let passed = habit.get(&(*camera, utc_hour(*at))).copied().unwrap_or(0);
            let by_habit = f64::from(passed) * window_s / (3600.0 * days);
            let alone = -f64::exp_m1(-by_traffic.max(by_habit));
            Chance { alone, following: follows.map_or(alone, |f| f.max(alone)) }
        })
        .collect()
}

fn window(at: Timestamp, reach: Duration) -> TimeSpan {
    TimeSpan::at(at.minus(reach)).including(at.plus(reach))
}

#[cfg(test)]
mod tests {
    use super::super::town::{DAY_S, HOUR_S, any_passages, index_of, plate, secs, traffic, trip};
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn everything() -> ConvoySettings {
        ConvoySettings { points_min: 1, chance_max: 1.0, ..ConvoySettings::default() }
    }

    proptest! {
        #[test]
        fn equals_brute_force(passages in any_passages(120), apart in 0u64..600, k in 1usize..4) {
            let index = index_of(&passages);
            let settings = ConvoySettings { apart: Duration::from_secs(apart), points_min: k, ..everything() };
            let Some(target) = index.vehicle(&plate(0)) else { return Ok(()) };
            let span = TimeSpan::new(secs(1000), secs(8000)).unwrap();
            let mut want: BTreeMap<String, usize> = BTreeMap::new();
            let mut points: Vec<_> = passages.iter().filter(|p| p.0 == 0 && (1000..=8000).contains(&p.2)).collect();
            points.sort();
            points.dedup();
            for other in 1..12 {
                let met = points.iter().filter(|(_, camera, at)| {
                    passages.iter().any(|(v, c, t)| *v == other && c == camera && t.abs_diff(*at) <= apart)
                });
                want.insert(plate(other).as_str().to_owned(), met.count());
            }
            want.retain(|_, n| *n >= k);
            let found = companions(&index, target, span, &settings).unwrap().found;
            let got: BTreeMap<_, _> = found
                .iter()
                .map(|c| (index.plate(c.vehicle).unwrap().as_str().to_owned(), c.meetings.len()))
                .collect();
            prop_assert_eq!(got.len(), found.len());
            prop_assert_eq!(got, want);
            for (companion, meeting) in found.iter().flat_map(|c| c.meetings.iter().map(move |m| (c, m))) {
                let passed = index.at_camera(meeting.camera, TimeSpan::ALL).iter();
                let own = passed.filter(|(_, v)| *v == companion.vehicle).map(|(at, _)| at);
                let nearest = own.min_by_key(|at| (at.abs_diff(meeting.target_at), *at));
                prop_assert_eq!(nearest, Some(meeting.companion_at));
            }
            prop_assert!(found.is_sorted_by(|a, b| a.chance <= b.chance));
            prop_assert!(found.iter().all(|c| (0.0..=1.0).contains(&c.chance)));
        }
    }

    /// A week of traffic; vehicle 0 is the target and 1 its shadow on six trips; 2 and 3 drive to work on the same road,
    /// 4 and 5 past one camera in the same minutes: three times in seven days within one minute.
    #[test]
    fn the_shadow_is_found_and_commuters_are_not() {
        let noise = &mut Noise(7);
        let mut passages = traffic(400, 7, noise);
        passages.retain(|(vehicle, _, _)| !(1..=5).contains(vehicle));
        for day in 0..6 {
            let way = trip(0, day * DAY_S + 10 * HOUR_S + 600 * day, 8, noise);
            passages.extend(way.iter().map(|(_, c, at)| (1, *c, at + 5 + noise.below(20) as i64)));
            passages.extend(way);
        }
        for (day, late) in (0..).zip([20, 300, 45, 200, 30, 400, 500]) {
            for vehicle in [2, 3] {
                let start = day * DAY_S + 8 * HOUR_S + noise.below(600) as i64;
                passages.extend((0..6).map(|i| (vehicle, 12 + i, start + 160 * i64::from(i))));
            }
            let at = day * DAY_S + 20 * HOUR_S;
            passages.extend([(4, 30, at), (5, 30, at + late)]);
        }
        let index = index_of(&passages);
        let ask = |v, chance_max| {
            let target = index.vehicle(&plate(v)).unwrap();
            let settings = ConvoySettings { chance_max, ..ConvoySettings::default() };
            companions(&index, target, TimeSpan::ALL, &settings).unwrap().found
        };
        let found = ask(0, 0.01);
        assert_eq!(index.plate(found[0].vehicle), Some(&plate(1)));
        let (chance, meetings) = (found[0].chance, found[0].meetings.len());
        assert!(chance < 1e-6 && meetings >= 50, "{chance} {meetings}");
        assert_eq!(found.len(), 1, "nobody else: {found:?}");
        for (commuter, other) in [(2, 3), (4, 5)] {
            let together = ask(commuter, 1.0);
            assert!(together.iter().any(|c| index.plate(c.vehicle) == Some(&plate(other))));
            assert_eq!(ask(commuter, 0.01), []);
        }
    }

    /// Of many innocent targets, the share with any companion by chance stays near the chance that was allowed.
    #[test]
    fn chance_is_calibrated_or_careful() {
        let index = index_of(&traffic(300, 5, &mut Noise(11)));
        let settings =
            ConvoySettings { points_min: 2, chance_max: 0.05, ..ConvoySettings::default() };
        let false_alarms = index
            .vehicle_keys()
            .filter(|v| !companions(&index, *v, TimeSpan::ALL, &settings).unwrap().found.is_empty())
            .count();
        assert!(false_alarms <= 15, "{false_alarms} of 300, 15 are to be expected at most");
    }

    #[test]
    fn limits_are_said() {
        let index = index_of(&[(0, 0, 0)]);
        let target = index.vehicle(&plate(0)).unwrap();
        let wide = ConvoySettings { apart: Duration::from_secs(3600), ..everything() };
        let error = companions(&index, target, TimeSpan::ALL, &wide).unwrap_err().to_string();
        assert!(error.contains("use 0 to 1800"), "{error}");
        let none = ConvoySettings { points_min: 0, ..everything() };
        assert!(companions(&index, target, TimeSpan::ALL, &none).is_err());
    }
}
