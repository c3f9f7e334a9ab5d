//! Where a vehicle will be seen next, when, and with what probability; and where it is when it did not come.
//!
//! The next sighting is at some camera within the horizon, or there is none (the trip *ended*). The probability of each
//! outcome is learnt from transitions between consecutive sightings, from the special to the general, each level
//! smoothed by the next as its Dirichlet prior (the hierarchical Bayes of MacKay and Peto 1995, "A hierarchical
//! Dirichlet language model"), with strengths in numbers of transitions:
//!
//! 0. from this camera, of this vehicle itself ([`Forecaster::habit`]), smoothed by
//! 1. from this camera, coming from that one (second order), smoothed by
//! 2. from this camera at this hour of the day, smoothed by
//! 3. from this camera at any hour (first order), smoothed by
//! 4. how often each camera is the next at this hour, whatever the camera before.
//!
//! Time windows are the 10 % to 90 % quantiles of the learnt travel time ([`super::travel`]): 80 % of the arrivals
//! should fall within. [`Score`] measures whether they do, and how often the camera was among the first guesses.
//!
//! When the vehicle has not been seen until now, each camera's share shrinks by the probability that it would have been
//! seen by now, had it gone there: what has to come is P(next) · P(T > elapsed); what passed unseen is
//! P(next) · P(T ≤ elapsed) · (1 - P(camera sees)). All shares are then scaled to one (Bayes' rule). A camera that
//! could not see thus keeps its share, and the search moves to it. What would come at a camera that was never next
//! before shrinks evenly until the horizon, for want of knowledge; an end of the trip stays as likely as it was.

use std::collections::BTreeMap;
use std::time::Duration;

use guiji_domain::{CameraId, InvalidValue, TimeSpan, Timestamp};

use super::counts::{Counts, Tally};
use super::travel::{NO_CAMERA, TravelTimes, union};
use super::{PassageIndex, VehicleKey, utc_hour};

/// How strongly the general smooths the special, in transitions: after that many of its own, a level has half a say.
/// Chosen by reason, not fitted: a street corner shows its turns within a handful of vehicles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothing {
    /// Of the vehicle's own habit by everybody's.
    pub habit: f64,
    /// Of the second order by the first at this hour.
    pub second_order: f64,
    /// Of this hour by all hours.
    pub hour: f64,
    /// Of the first order by the hour's frequencies.
    pub first_order: f64,
}

impl Default for Smoothing {
    fn default() -> Self {
        Self { habit: 2.0, second_order: 5.0, hour: 20.0, first_order: 1.0 }
    }
}

/// Transitions and travel times, learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecaster {
    smoothing: Smoothing,
    horizon: Duration,
    cameras: Vec<CameraId>,
    /// Keys: before (20 bits; none where a trip begins), here (20), next (20; none where it ends).
    second: Counts,
    /// Keys: here (20), next (20), hour (5).
    first: Counts,
    /// Keys: hour, next (20).
    hourly: Counts,
    travel: TravelTimes,
}

/// Where a vehicle was seen last.
#[derive(Debug, Clone, Copy)]
pub struct LastSeen<'a> {
    /// The sighting before the last, if within the horizon of it.
    pub before: Option<&'a CameraId>,
    /// The last sighting.
    pub camera: &'a CameraId,
    /// Its time.
    pub at: Timestamp,
}

/// What a vehicle itself did after a camera, in other drives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Habit {
    /// By the next camera's number, or that of none.
    next: BTreeMap<u64, f64>,
    total: f64,
}

/// What may come. All probabilities together are 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Cameras at which the next sighting may be, likeliest first, then by id: all that were ever next after this one.
    pub next: Vec<Next>,
    /// The trip has ended: no sighting within the horizon.
    pub ended: f64,
    /// It passed a camera that did not see it.
    pub passed_unseen: f64,
    /// A camera that never came next after this one.
    pub elsewhere: f64,
}

/// One camera that may see it next.
#[derive(Debug, Clone, PartialEq)]
pub struct Next {
    /// The camera.
    pub camera: CameraId,
    /// Probability that the next sighting is here and still to come.
    pub probability: f64,
    /// If it is here, four times in five it is within this window.
    pub window: TimeSpan,
    /// As likely before as after.
    pub median: Timestamp,
}

impl Forecaster {
    /// Learns from all vehicles of an index. Sightings more than `horizon` apart belong to two trips. The last
    /// sightings of the index, after which the horizon was not watched to its end, teach no end.
    ///
    /// # Errors
    /// When the horizon is zero or over nine hours.
    pub fn learn(
        index: &PassageIndex,
        horizon: Duration,
        smoothing: Smoothing,
    ) -> Result<Self, InvalidValue> {
        let travel = TravelTimes::learn(index, horizon)?;
        let watched_until = index.span().map_or(Timestamp::MIN, |s| s.last());
        let [mut second, mut first, mut hourly] = [(); 3].map(|()| Tally::default());
        for vehicle in index.vehicle_keys() {
            let way = index.way(vehicle);
            let mut before = NO_CAMERA;
            for (i, (at, camera)) in way.iter().enumerate() {
                let (here, hour) = (camera.index() as u64, u64::from(utc_hour(at)));
                let follows = way.times.get(i + 1).is_some_and(|t| t.since(at) <= horizon);
                let next = if follows { way.cameras[i + 1].index() as u64 } else { NO_CAMERA };
                if follows || at.plus(horizon) <= watched_until {
                    second.add(before << 40 | here << 20 | next);
                    first.add(here << 25 | next << 5 | hour);
                    hourly.add(hour << 20 | next);
                }
                before = if follows { here } else { NO_CAMERA };
            }
        }
        let cameras = index.cameras().to_vec();
        let [second, first, hourly] = [second, first, hourly].map(Tally::finish);
        Ok(Self { smoothing, horizon, cameras, second, first, hourly, travel })
    }

    /// Adds what was learnt elsewhere with the same horizon; keeps its own smoothing.
    ///
    /// # Errors
    /// When the horizons differ: their ends of trips mean different things.
    pub fn merge(&mut self, other: &Self) -> Result<(), InvalidValue> {
        if self.horizon != other.horizon {
            let fix = format!("learn both with the same horizon, here {:?}", self.horizon);
            return Err(InvalidValue::new("horizon", format!("{:?}", other.horizon), fix));
        }
        let (cameras, ours, theirs) = union(&self.cameras, &other.cameras);
        let sum = |a: &Counts, b: &Counts, rename: fn(&[u64], u64) -> u64| {
            let ours = a.iter().map(|(k, n)| (rename(&ours, k), n));
            Counts::sum(ours.chain(b.iter().map(|(k, n)| (rename(&theirs, k), n))))
        };
        fn camera(places: &[u64], number: u64) -> u64 {
            places.get((number & NO_CAMERA) as usize).copied().unwrap_or(NO_CAMERA)
        }
        self.second = sum(&self.second, &other.second, |to, k| {
            camera(to, k >> 40) << 40 | camera(to, k >> 20) << 20 | camera(to, k)
        });
        self.first = sum(&self.first, &other.first, |to, k| {
            camera(to, k >> 25) << 25 | camera(to, k >> 5) << 5 | k & 31
        });
        self.hourly = sum(&self.hourly, &other.hourly, |to, k| k >> 20 << 20 | camera(to, k));
        self.travel.merge(&other.travel);
        self.cameras = cameras;
        Ok(())
    }

    /// Whether it ever learnt of this camera.
    pub fn knows(&self, camera: &CameraId) -> bool {
        self.number(camera).is_some()
    }

    /// The learnt travel times.
    pub fn travel(&self) -> &TravelTimes {
        &self.travel
    }

    /// What comes after a sighting.
    pub fn forecast(&self, seen: LastSeen<'_>) -> Forecast {
        self.redraw(seen, &Habit::default(), seen.at, |_| 1.0)
    }

    /// What a vehicle did after each of its passages of a camera, as far as that was over before `until`.
    pub fn habit(
        &self,
        index: &PassageIndex,
        vehicle: VehicleKey,
        camera: &CameraId,
        until: Timestamp,
    ) -> Habit {
        let mut habit = Habit::default();
        let Some(here) = index.camera(camera) else { return habit };
        let way = index.way(vehicle);
        for (i, (at, _)) in way.iter().enumerate().filter(|(_, (_, c))| *c == here) {
            if at.plus(self.horizon) >= until {
                break;
            }
            let follows = way.times.get(i + 1).is_some_and(|t| t.since(at) <= self.horizon);
            let next = follows.then(|| index.camera_id(way.cameras[i + 1])).flatten();
            let next = next.and_then(|c| self.number(c)).unwrap_or(NO_CAMERA);
            *habit.next.entry(next).or_insert(0.0) += 1.0;
            habit.total += 1.0;
        }
        habit
    }

    fn number(&self, camera: &CameraId) -> Option<u64> {
        self.cameras.binary_search(camera).ok().map(|i| i as u64)
    }

    /// The same when the vehicle was not seen between the sighting and `now`, and for a vehicle whose habit is known
    /// (the empty habit is everybody's). `sees` is the probability that a camera
    /// sees a vehicle that passed it since, 0 to 1: its read rate, less the time it was down.
    pub fn redraw(
        &self,
        seen: LastSeen<'_>,
        habit: &Habit,
        now: Timestamp,
        sees: impl Fn(&CameraId) -> f64,
    ) -> Forecast {
        let elapsed = now.since(seen.at);
        let mut forecast =
            Forecast { next: Vec::new(), ended: 0.0, passed_unseen: 0.0, elsewhere: 1.0 };
        for (next, probability) in self.outcomes(seen, habit) {
            forecast.elsewhere -= probability;
            let Some(camera) = self.cameras.get(next as usize) else {
                forecast.ended += probability;
                continue;
            };
            let Some(times) = self.travel.between(seen.camera, camera, seen.at) else { continue };
            let gone = if elapsed.is_zero() { 0.0 } else { times.probability_within(elapsed) };
            let sees = Some(sees(camera)).filter(|p| !p.is_nan()).unwrap_or(0.0);
            let unseen = 1.0 - sees.clamp(0.0, 1.0);
            forecast.passed_unseen += probability * gone * unseen;
            let at = |share| seen.at.plus(times.quantile_after(elapsed, share));
            forecast.next.push(Next {
                camera: camera.clone(),
                probability: probability * (1.0 - gone),
                window: TimeSpan::at(at(0.1)).including(at(0.9)),
                median: at(0.5),
            });
        }
        let left = 1.0 - elapsed.as_secs_f64() / self.horizon.as_secs_f64();
        forecast.elsewhere = forecast.elsewhere.max(0.0) * left.max(0.0);
        forecast.normalise();
        forecast
    }

    /// Every outcome that ever followed this camera, and the end, with its smoothed probability.
    fn outcomes(&self, seen: LastSeen<'_>, habit: &Habit) -> Vec<(u64, f64)> {
        let before = seen.before.and_then(|c| self.number(c)).unwrap_or(NO_CAMERA);
        let hour = u64::from(utc_hour(seen.at));
        let Some(here) = self.number(seen.camera) else { return Vec::new() };

        let mut counts: BTreeMap<u64, Evidence> =
            BTreeMap::from([(NO_CAMERA, Evidence::default())]);
        // What only came since the learning counts too.
        for next in habit.next.keys() {
            counts.entry(*next).or_default();
        }
        for (key, n) in self.first.range(here << 25..(here + 1) << 25) {
            let evidence = counts.entry(key >> 5 & NO_CAMERA).or_default();
            evidence.first += f64::from(n);
            evidence.this_hour += if key & 31 == hour { f64::from(n) } else { 0.0 };
        }
        let pair = before << 20 | here;
        for (key, n) in self.second.range(pair << 20..(pair + 1) << 20) {
            counts.entry(key & NO_CAMERA).or_default().second += f64::from(n);
        }
        let mut total = Evidence::default();
        for e in counts.values() {
            total.second += e.second;
            total.this_hour += e.this_hour;
            total.first += e.first;
        }
        let all = self.hourly.range(hour << 20..(hour + 1) << 20).map(|(_, n)| f64::from(n)).sum();
        // One more for every camera and the end: nothing is impossible.
        let possible = self.cameras.len() as f64 + 1.0;
        let strengths = self.smoothing;
        counts
            .into_iter()
            .map(|(next, n)| {
                let frequency = f64::from(self.hourly.get(hour << 20 | next));
                let general = smooth(frequency, all, possible, 1.0 / possible);
                let first = smooth(n.first, total.first, strengths.first_order, general);
                let this_hour = smooth(n.this_hour, total.this_hour, strengths.hour, first);
                let second = smooth(n.second, total.second, strengths.second_order, this_hour);
                let own = habit.next.get(&next).copied().unwrap_or(0.0);
                (next, smooth(own, habit.total, strengths.habit, second))
            })
            .collect()
    }
}

/// How often an outcome followed.
#[derive(Debug, Clone, Copy, Default)]
struct Evidence {
    second: f64,
    this_hour: f64,
    first: f64,
}

/// The mean of a Dirichlet posterior: `n` of `total`, with a prior mean worth `strength` observations.
fn smooth(n: f64, total: f64, strength: f64, prior: f64) -> f64 {
    let strength = strength.max(f64::MIN_POSITIVE);
    (n + strength * prior) / (total + strength)
}

impl Forecast {
    /// Scales to one and sorts. When nothing is left, all is elsewhere.
    fn normalise(&mut self) {
        let next: f64 = self.next.iter().map(|n| n.probability).sum();
        let sum = next + self.ended + self.passed_unseen + self.elsewhere;
        if sum > 0.0 {
            self.next.iter_mut().for_each(|n| n.probability /= sum);
            self.ended /= sum;
            self.passed_unseen /= sum;
            self.elsewhere /= sum;
        } else {
            self.elsewhere = 1.0;
        }
        self.next.sort_by(|a, b| {
            b.probability.total_cmp(&a.probability).then_with(|| a.camera.cmp(&b.camera))
        });
    }
}

/// How good forecasts were, once it is known what came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Vehicles that were seen again.
    pub cases: u32,
    /// Of these, how many at the camera that was named first, second or third.
    pub hits: [u32; 3],
    /// Of these, how many at a camera that was named at all.
    pub named: u32,
    /// Of the named, how many within the camera's window: 80 % when the windows are right.
    pub in_window: u32,
    /// Sum of the named cameras' windows, seconds: between two forecasts with right windows, the narrower is better.
    pub window_s: u64,
}

impl Score {
    /// Counts one forecast and the sighting that came.
    pub fn add(&mut self, forecast: &Forecast, camera: &CameraId, at: Timestamp) {
        self.cases += 1;
        let Some(rank) = forecast.next.iter().position(|n| n.camera == *camera) else { return };
        if let Some(hits) = self.hits.get_mut(rank) {
            *hits += 1;
        }
        let window = forecast.next[rank].window;
        self.named += 1;
        self.in_window += u32::from(window.contains(at));
        self.window_s = self.window_s.saturating_add(window.duration().as_secs());
    }

    /// The share of cases in which the camera was the first.
    pub fn top_1(&self) -> f64 {
        f64::from(self.hits[0]) / f64::from(self.cases.max(1))
    }

    /// The share of cases in which the camera was among the first three.
    pub fn top_3(&self) -> f64 {
        f64::from(self.hits.iter().sum::<u32>()) / f64::from(self.cases.max(1))
    }

    /// The share of named cameras' arrivals within the window.
    pub fn window_share(&self) -> f64 {
        f64::from(self.in_window) / f64::from(self.named.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::town::{
        HOUR_S, Passage, SIDE, any_passages, camera_id, index_of, position, secs, traffic,
    };
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;

    const HORIZON: Duration = Duration::from_secs(1200);

    fn learnt(passages: &[Passage]) -> Forecaster {
        Forecaster::learn(&index_of(passages), HORIZON, Smoothing::default()).unwrap()
    }

    /// Baseline: what came next most often after this camera, whatever the hour and the camera before.
    fn first_order_only(model: &Forecaster) -> Forecaster {
        let smoothing = Smoothing { habit: 1e12, second_order: 1e12, hour: 1e12, first_order: 1.0 };
        Forecaster { smoothing, ..model.clone() }
    }

    /// Baseline: the nearest cameras, at 20 to 60 km/h.
    fn by_distance(seen: LastSeen<'_>) -> Forecast {
        let number = |c: &CameraId| c.as_str().trim_start_matches('c').parse().unwrap();
        let here = position(number(seen.camera));
        let metres = |c: &CameraId| here.distance_m(&position(number(c)));
        let mut cameras: Vec<_> =
            (0..SIDE * SIDE).map(camera_id).filter(|c| c != seen.camera).collect();
        cameras.sort_by(|a, b| metres(a).round().total_cmp(&metres(b).round()).then(a.cmp(b)));
        let next = cameras.into_iter().map(|camera| {
            let at = |kmh: f64| seen.at.plus(Duration::from_secs_f64(metres(&camera) / kmh * 3.6));
            let window = TimeSpan::new(at(60.0), at(20.0)).unwrap();
            Next { probability: 1.0 / f64::from(SIDE * SIDE), window, median: at(40.0), camera }
        });
        Forecast { next: next.collect(), ended: 0.0, passed_unseen: 0.0, elsewhere: 0.0 }
    }

    #[test]
    fn beats_both_baselines_on_traffic_not_learnt_from() {
        let noise = &mut Noise(21);
        let model = learnt(&traffic(400, 6, noise));
        let first_order_model = first_order_only(&model);
        let fresh = index_of(&traffic(100, 3, noise));
        let mut scores = [Score::default(); 3];
        let (mut ended, mut ends_expected, mut all) = (0, 0.0, 0);
        for vehicle in fresh.vehicle_keys() {
            let way: Vec<_> = fresh
                .way(vehicle)
                .iter()
                .map(|(at, c)| (at, fresh.camera_id(c).unwrap()))
                .collect();
            for (i, (at, camera)) in way.iter().enumerate() {
                let before = i
                    .checked_sub(1)
                    .map(|b| way[b])
                    .filter(|b| at.since(b.0) <= HORIZON)
                    .map(|b| b.1);
                let seen = LastSeen { before, camera, at: *at };
                let forecast = model.forecast(seen);
                all += 1;
                ends_expected += forecast.ended;
                let Some((came, next)) = way.get(i + 1).filter(|n| n.0.since(*at) <= HORIZON)
                else {
                    ended += 1;
                    continue;
                };
                scores[0].add(&forecast, next, *came);
                scores[1].add(&first_order_model.forecast(seen), next, *came);
                scores[2].add(&by_distance(seen), next, *came);
            }
        }
        let [ours, first_order, nearest] = scores;
        assert!(ours.cases > 3000);
        assert!(
            ours.top_1() > first_order.top_1() + 0.1 && ours.top_1() > nearest.top_1() + 0.2,
            "{scores:?}"
        );
        assert!(
            ours.top_3() > first_order.top_3() + 0.05 && ours.top_3() > nearest.top_3() + 0.05,
            "{scores:?}"
        );
        assert!(ours.top_3() > 0.95, "{scores:?}");
        assert!((ours.window_share() - 0.8).abs() < 0.05, "{scores:?}");
        // The chance of an end is right on average: within four standard deviations.
        let difference = f64::from(ended) - ends_expected;
        assert!(difference.abs() < 4.0 * f64::from(all).sqrt() / 2.0, "{ended} {ends_expected}");
        let narrow = |s: Score| s.window_s as f64 / f64::from(s.named);
        assert!(narrow(ours) < narrow(nearest), "{scores:?}");
    }

    /// From 0 half go to 1 (100 s), half to 2 (400 s).
    fn fork() -> Forecaster {
        let ways = (0..200).flat_map(|v| {
            let (camera, time) = if v % 2 == 0 { (1, 100) } else { (2, 400) };
            let start = 2000 * i64::from(v);
            [(v, 0, start), (v, camera, start + time)]
        });
        learnt(&ways.collect::<Vec<_>>())
    }

    #[test]
    fn redraws_when_it_did_not_come() {
        let model = fork();
        let camera = camera_id(0);
        let seen = LastSeen { before: None, camera: &camera, at: secs(0) };
        let share =
            |f: &Forecast, c| f.next.iter().find(|n| n.camera == camera_id(c)).unwrap().probability;
        let before = model.forecast(seen);
        assert!(
            (share(&before, 1) - 0.5).abs() < 0.05 && (share(&before, 2) - 0.5).abs() < 0.05,
            "{before:?}"
        );

        let watched = model.redraw(seen, &Habit::default(), secs(200), |_| 0.95);
        assert!(share(&watched, 2) > 0.85 && share(&watched, 1) < 0.02, "{watched:?}");
        // The first camera was down: it may as well have passed there.
        let blind = model.redraw(seen, &Habit::default(), secs(200), |c| {
            if *c == camera_id(1) { 0.0 } else { 0.95 }
        });
        assert!(
            (share(&blind, 2) - 0.5).abs() < 0.05 && (blind.passed_unseen - 0.5).abs() < 0.05,
            "{blind:?}"
        );
        assert!(blind.next.iter().all(|n| n.window.first() >= secs(200)), "no window in the past");
        let late = model.redraw(seen, &Habit::default(), secs(1200), |_| 1.0);
        assert_eq!(late.elsewhere, 0.0, "after the horizon nothing is left elsewhere");
    }

    #[test]
    fn a_camera_never_seen_forecasts_nothing() {
        let camera = camera_id(999);
        let nothing = fork().forecast(LastSeen { before: None, camera: &camera, at: secs(0) });
        assert_eq!((nothing.next.len(), nothing.elsewhere), (0, 1.0));
    }

    /// Before, here, hour, next.
    type Move = (Option<u32>, u32, i64, Option<u32>);

    proptest! {
        /// Against the formulas spelt out over plain lists.
        #[test]
        fn equals_brute_force(passages in any_passages(150), before in 0u32..9, here in 0u32..8, hour in 0i64..3) {
            let model = learnt(&passages);
            let mut rows = passages.clone();
            rows.sort_by_key(|(v, c, t)| (*v, *t, *c));
            rows.dedup();
            let end = rows.iter().map(|r| r.2).max().unwrap_or(0);
            let mut moves: Vec<Move> = Vec::new();
            for (i, (v, c, t)) in rows.iter().enumerate() {
                let joined = |a: &Passage, b: &Passage| a.0 == b.0 && b.2 - a.2 <= 1200;
                let prev = i.checked_sub(1).map(|p| rows[p]).filter(|p| joined(p, &rows[i])).map(|p| p.1);
                let next = rows.get(i + 1).filter(|n| joined(&(*v, *c, *t), n)).map(|n| n.1);
                if next.is_some() || t + 1200 <= end {
                    moves.push((prev, *c, t / HOUR_S, next));
                }
            }
            let known = |c: u32| rows.iter().any(|r| r.1 == c);
            let cameras = (0..8).filter(|c| known(*c)).count() as f64 + 1.0;
            let before = (before < 8 && known(before)).then_some(before);
            let ratio = |n: usize, of: usize, s: f64, p: f64| (n as f64 + s * p) / (of as f64 + s);
            let probability = |next: Option<u32>| {
                let count = |f: &dyn Fn(&Move) -> bool| {
                    let of = moves.iter().filter(|m| f(m));
                    (of.clone().filter(|m| m.3 == next).count(), of.count())
                };
                let (n0, t0) = count(&|m| m.2 == hour);
                let (n1, t1) = count(&|m| m.1 == here);
                let (nh, th) = count(&|m| m.1 == here && m.2 == hour);
                let (n2, t2) = count(&|m| m.1 == here && m.0 == before);
                ratio(n2, t2, 5.0, ratio(nh, th, 20.0, ratio(n1, t1, 1.0, ratio(n0, t0, cameras, 1.0 / cameras))))
            };
            let (camera, prev) = (camera_id(here), before.map(camera_id));
            let seen = LastSeen { before: prev.as_ref(), camera: &camera, at: secs(hour * HOUR_S) };
            let forecast = model.forecast(seen);
            if known(here) {
                prop_assert!((forecast.ended - probability(None)).abs() < 1e-9);
                for c in 0..8 {
                    let named = forecast.next.iter().find(|n| n.camera == camera_id(c)).map(|n| n.probability);
                    let came = moves.iter().any(|m| m.1 == here && m.3 == Some(c));
                    prop_assert_eq!(named.is_some(), came);
                    if let Some(named) = named {
                        prop_assert!((named - probability(Some(c))).abs() < 1e-9);
                    }
                }
            }
            // Whatever the silence and the cameras, shares add up.
            let redrawn = model.redraw(seen, &Habit::default(), secs(hour * HOUR_S + 300), |_| 0.4);
            for f in [&forecast, &redrawn] {
                let next: f64 = f.next.iter().map(|n| n.probability).sum();
                let sum = next + f.ended + f.passed_unseen + f.elsewhere;
                prop_assert!((sum - 1.0).abs() < 1e-9);
                prop_assert!(f.next.is_sorted_by(|a, b| a.probability >= b.probability));
            }
        }

        #[test]
        fn merging_equals_learning_together(a in any_passages(60), b in any_passages(60)) {
            let b: Vec<_> = b.into_iter().map(|(v, c, t)| (v + 100, c + 4, t)).collect();
            // A passage at the end of both, so that both are watched to the same time.
            let (a, b) = ([a, vec![(50, 0, 20_000)]].concat(), [b, vec![(51, 0, 20_000)]].concat());
            let mut merged = learnt(&b);
            merged.merge(&learnt(&a)).unwrap();
            prop_assert_eq!(merged, learnt(&[a, b].concat()));
        }
    }

    #[test]
    fn other_horizons_do_not_merge() {
        let other = Forecaster::learn(&index_of(&[]), HORIZON * 2, Smoothing::default()).unwrap();
        assert!(fork().merge(&other).unwrap_err().to_string().contains("same horizon"));
    }
}
