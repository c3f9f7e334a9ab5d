//! Where a vehicle will be seen next, when, and with what probability; and where it is when it did not come.
//!
//! The next sighting is at some camera within the horizon, or there is none (the trip *ended*). The probability of each
//! outcome is learnt from transitions between consecutive sightings, from the special to the general, each level
//! smoothed by the next as its Dirichlet prior (the hierarchical Bayes of MacKay and Peto 1995, "A hierarchical
//! Dirichlet language model"), with strengths in numbers of transitions ([`Smoothing`]):
//!
//! 0. of this vehicle itself ([`Forecaster::habit`]), where it came the same way: from the last three, two, one camera;
//! 1. from this camera, coming from that one, in a drive that began at that one;
//! 2. from this camera, coming from that one and before from those (fourth, third order);
//! 3. from this camera, coming from that one (second order);
//! 4. from this camera at this hour of the day;
//! 5. from this camera at any hour (first order);
//! 6. how often each camera is the next at this hour, whatever the camera before.
//!
//! The lanes of one approach are one place for all of this: which lane a driver takes is chance. A place's share is
//! divided among its cameras as its passages are.
//!
//! Time windows are the 10 % to 90 % quantiles of the learnt travel time ([`super::travel`]): 80 % of the arrivals
//! should fall within. [`Score`] measures whether they do, and how often the camera was among the first guesses.
//!
//! When the vehicle has not been seen until now, each camera's share shrinks by the probability that it would have been
//! seen by now, had it gone there: what has to come is P(next) · P(T > elapsed); what passed unseen is
//! P(next) · P(T ≤ elapsed) · (1 - P(camera sees)). All shares are then scaled to one (Bayes' rule). A camera that
//! could not see thus keeps its share, and the search moves to it. What would come at a camera that was never next
//! before shrinks evenly until the horizon, for want of knowledge; an end of the trip stays as likely as it was.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use guiji_domain::{CameraId, GeoPoint, InvalidValue, TimeSpan, Timestamp};

use super::counts::{Counts, Tally};
use super::travel::{NO_CAMERA, TravelTimes};
use super::{CameraKey, PassageIndex, VehicleKey, utc_hour};

/// How strongly the general smooths the special, in transitions: after that many of its own, a level has half a say. The
/// usual ones are rounded from those that gave the least surprise on held-aside days of two simulated counties.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothing {
    /// Of the vehicle's own habit by everybody's, where it came from the same camera, the same two and the same three.
    pub habit: [f64; 3],
    /// Of drives that began at the same camera by all others.
    pub drive: f64,
    /// Of the fourth order by the third.
    pub fourth_order: f64,
    /// Of the third order by the second.
    pub third_order: f64,
    /// Of the second order by the first at this hour.
    pub second_order: f64,
    /// Of this hour by all hours.
    pub hour: f64,
    /// Of the first order by the hour's frequencies.
    pub first_order: f64,
}

impl Smoothing {
    /// What came next most often after a camera, whatever the hour, the way and the vehicle: the plain baseline.
    pub const FIRST_ORDER_ONLY: Self = Self {
        habit: [f64::MAX; 3],
        drive: f64::MAX,
        fourth_order: f64::MAX,
        third_order: f64::MAX,
        second_order: f64::MAX,
        hour: f64::MAX,
        first_order: 1.0,
    };
}

impl Default for Smoothing {
    fn default() -> Self {
        Self {
            habit: [100.0, 30.0, 3.0],
            drive: 30.0,
            fourth_order: 100.0,
            third_order: 100.0,
            second_order: 100.0,
            hour: 200.0,
            first_order: 1.0,
        }
    }
}

/// Transitions and travel times, learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecaster {
    smoothing: Smoothing,
    horizon: Duration,
    cameras: Vec<CameraId>,
    /// By camera, its place: the first camera of the same approach.
    places: Vec<u32>,
    /// By place, its cameras with their passages.
    lanes: BTreeMap<u64, Vec<(u64, u32)>>,
    /// Keys: a context (44 bits of its hash), next (20; none where the drive ends).
    contexts: Counts,
    /// Keys: here (20), next (20), hour (5).
    first: Counts,
    /// Keys: hour, next (20).
    hourly: Counts,
    travel: TravelTimes,
}

/// Where a vehicle was seen last, and how it came there.
#[derive(Debug, Clone, Copy)]
pub struct LastSeen<'a> {
    /// The sightings of this drive before the last, latest first: each within the horizon of the next.
    pub before: &'a [CameraId],
    /// The last sighting.
    pub camera: &'a CameraId,
    /// Its time.
    pub at: Timestamp,
}

/// What a vehicle itself did in other drives; the empty habit is everybody's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Habit(Vec<Passed>);

/// A passage of a vehicle's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Passed {
    place: u64,
    /// Whether it goes on the drive of the passage before.
    follows: bool,
    /// Whether it is known what came next.
    over: bool,
}

/// Ways that are less probable are not followed further.
const WAY_LEAST: f64 = 0.005;
/// Cameras before the last that matter.
const ORDER_MAX: usize = 3;

/// A drive so far, in places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Course {
    here: u64,
    /// Before it, latest first.
    before: [u64; ORDER_MAX],
    /// The place where it began.
    began: u64,
}

impl Course {
    fn beginning(here: u64) -> Self {
        Self { here, before: [NO_CAMERA; ORDER_MAX], began: here }
    }

    fn then(self, next: u64) -> Self {
        let [first, second, _] = self.before;
        Self { here: next, before: [self.here, first, second], began: self.began }
    }

    /// The contexts of each order, the second first, and that of drives with this beginning; as many as there are
    /// [`Evidence::contexts`].
    fn contexts(self) -> [u64; CONTEXTS] {
        let (here, [first, second, third]) = (self.here, self.before);
        [
            context(2, &[here, first]),
            context(3, &[here, first, second]),
            context(4, &[here, first, second, third]),
            context(1, &[here, first, self.began]),
        ]
    }
}

/// Second, third and fourth order, and drives with the same beginning.
const CONTEXTS: usize = 4;

/// 44 bits of a hash (FNV-1a with a last mix): of ten million contexts two or three fall together, which harms nobody.
fn context(kind: u64, places: &[u64]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for number in std::iter::once(&kind).chain(places) {
        hash = (hash ^ number).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 29;
    }
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
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
    /// sightings of the index, after which the horizon was not watched to its end, teach no end. Cameras without a
    /// position are no lanes of others.
    ///
    /// # Errors
    /// When the horizon is zero or over nine hours.
    pub fn learn(
        index: &PassageIndex,
        positions: &HashMap<CameraId, GeoPoint>,
        horizon: Duration,
        smoothing: Smoothing,
    ) -> Result<Self, InvalidValue> {
        let travel = TravelTimes::learn(index, horizon)?;
        let watched_until = index.span().map_or(Timestamp::MIN, |s| s.last());
        let places = approaches(index, positions);
        let [mut contexts, mut first, mut hourly] = [(); 3].map(|()| Tally::default());
        let mut passages = vec![0_u32; places.len()];
        for vehicle in index.vehicle_keys() {
            let way = index.way(vehicle);
            let mut drive: Option<Course> = None;
            for (i, (at, camera)) in way.iter().enumerate() {
                passages[camera.index()] += 1;
                let place = |camera: CameraKey| u64::from(places[camera.index()]);
                let (here, hour) = (place(camera), u64::from(utc_hour(at)));
                let follows = way.times.get(i + 1).is_some_and(|t| t.since(at) <= horizon);
                let next = if follows { place(way.cameras[i + 1]) } else { NO_CAMERA };
                let course = drive.map_or(Course::beginning(here), |drive| drive.then(here));
                if follows || at.plus(horizon) <= watched_until {
                    for context in course.contexts() {
                        contexts.add(context << 20 | next);
                    }
                    first.add(here << 25 | next << 5 | hour);
                    hourly.add(hour << 20 | next);
                }
                drive = follows.then_some(course);
            }
        }
        let mut lanes: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for ((camera, place), passages) in (0..).zip(&places).zip(passages) {
            lanes.entry(u64::from(*place)).or_default().push((camera, passages));
        }
        let cameras = index.cameras().to_vec();
        let [contexts, first, hourly] = [contexts, first, hourly].map(Tally::finish);
        Ok(Self { smoothing, horizon, cameras, places, lanes, contexts, first, hourly, travel })
    }

    /// The same knowledge with other strengths.
    #[must_use]
    pub fn with(self, smoothing: Smoothing) -> Self {
        Self { smoothing, ..self }
    }

    /// Whether it ever learnt of this camera.
    pub fn knows(&self, camera: &CameraId) -> bool {
        self.place(camera).is_some()
    }

    /// The learnt travel times.
    pub fn travel(&self) -> &TravelTimes {
        &self.travel
    }

    /// Sightings further apart belong to two drives.
    pub fn horizon(&self) -> Duration {
        self.horizon
    }

    /// What comes after a sighting.
    pub fn forecast(&self, seen: LastSeen<'_>) -> Forecast {
        self.redraw(seen, &Habit::default(), seen.at, |_| 1.0)
    }

    /// What a vehicle did in its passages that `sees` accepts, as far as that was over before `until`.
    pub fn habit(
        &self,
        index: &PassageIndex,
        vehicle: VehicleKey,
        until: Timestamp,
        sees: impl Fn(&CameraId, Timestamp) -> bool,
    ) -> Habit {
        let mut passed: Vec<Passed> = Vec::new();
        let mut last = None;
        for (at, camera) in index.way(vehicle).iter() {
            let Some(id) = index.camera_id(camera).filter(|id| at < until && sees(id, at)) else {
                continue;
            };
            let follows = last.is_some_and(|last| at.since(last) <= self.horizon);
            let over = at.plus(self.horizon) < until;
            passed.push(Passed { place: self.place(id).unwrap_or(NO_CAMERA), follows, over });
            last = Some(at);
        }
        Habit(passed)
    }

    fn place(&self, camera: &CameraId) -> Option<u64> {
        self.cameras.binary_search(camera).ok().map(|i| u64::from(self.places[i]))
    }

    fn course(&self, seen: LastSeen<'_>) -> Option<Course> {
        let place = |camera| self.place(camera).unwrap_or(NO_CAMERA);
        let here = self.place(seen.camera)?;
        let mut drive = seen.before.iter().rev().map(place);
        let began = drive.next().map(Course::beginning);
        let before = began.map(|began| drive.fold(began, Course::then));
        Some(before.map_or(Course::beginning(here), |before| before.then(here)))
    }

    /// The same when the vehicle was not seen between the sighting and `now`, and for a vehicle whose habit is known.
    /// `sees` is the probability that a camera
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
        let outcomes = self.course(seen).map(|course| self.outcomes(course, habit, seen.at));
        let cameras = outcomes.into_iter().flatten().flat_map(|outcome| self.by_lane(outcome));
        for (next, probability) in cameras {
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

    /// The share of a place, divided among its cameras; an end stays whole.
    fn by_lane(&self, (place, share): (u64, f64)) -> impl Iterator<Item = (u64, f64)> {
        let lanes = self.lanes.get(&place).map_or(&[][..], Vec::as_slice);
        let all: f64 = lanes.iter().map(|(_, n)| f64::from(*n)).sum();
        let camera = move |(camera, n): &(u64, u32)| (*camera, share * f64::from(*n) / all);
        lanes.iter().map(camera).chain(lanes.is_empty().then_some((place, share)))
    }

    /// The cameras that a vehicle passes between `soonest` and `latest` after its last sighting, each with the
    /// probability that it does, likeliest first: where to wait for it. Follows every way of at least
    /// `WAY_LEAST` with the median times of its legs, give or take a sixth.
    pub fn ahead(
        &self,
        seen: LastSeen<'_>,
        habit: &Habit,
        soonest: Duration,
        latest: Duration,
    ) -> Vec<(CameraId, f64)> {
        /// Cameras of one way; ways through a dense town are long.
        const LEGS_MAX: usize = 60;
        let window = (soonest.as_secs_f64(), latest.as_secs_f64());
        let mut open: Vec<_> =
            self.course(seen).map(|course| (course, 0.0, 1.0, 0)).into_iter().collect();
        let mut passed: BTreeMap<u64, f64> = BTreeMap::new();
        while let Some((course, elapsed, probability, legs)) = open.pop() {
            let at = seen.at.plus(Duration::from_secs_f64(elapsed));
            for (next, share) in self.outcomes(course, habit, at) {
                let share = probability * share;
                let Some(leg_s) = self.usual_leg_s(course.here, next, at) else { continue };
                let elapsed = elapsed + leg_s;
                let (soon, late) = (elapsed * 5.0 / 6.0, elapsed * 7.0 / 6.0);
                if share < WAY_LEAST || soon > window.1 || legs >= LEGS_MAX {
                    continue;
                }
                let inside = (late.min(window.1) - soon.max(window.0)).max(0.0);
                *passed.entry(next).or_default() += share * inside / (late - soon);
                open.push((course.then(next), elapsed, share, legs + 1));
            }
        }
        let cameras = passed.into_iter().flat_map(|place| self.by_lane(place));
        let named = cameras.filter_map(|(camera, p)| Some((self.cameras.get(camera as usize)?, p)));
        let mut ahead: Vec<_> =
            named.map(|(c, p)| (c.clone(), p.min(1.0))).filter(|(_, p)| *p > 0.0).collect();
        ahead.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ahead
    }

    /// The median time from place to place, seconds, by their busiest lanes.
    fn usual_leg_s(&self, from: u64, to: u64, at: Timestamp) -> Option<f64> {
        let busiest = |place| {
            let lanes = self.lanes.get(&place)?;
            let (camera, _) = lanes.iter().max_by_key(|(camera, n)| (*n, *camera))?;
            self.cameras.get(*camera as usize)
        };
        let times = self.travel.between(busiest(from)?, busiest(to)?, at)?;
        Some(times.quantile(0.5).as_secs_f64())
    }

    /// Every place that ever followed this one, and the end, with its smoothed probability.
    fn outcomes(&self, course: Course, habit: &Habit, at: Timestamp) -> Vec<(u64, f64)> {
        let (here, hour) = (course.here, u64::from(utc_hour(at)));
        let mut counts: BTreeMap<u64, Evidence> =
            BTreeMap::from([(NO_CAMERA, Evidence::default())]);
        for (key, n) in self.first.range(here << 25..(here + 1) << 25) {
            let evidence = counts.entry(key >> 5 & NO_CAMERA).or_default();
            evidence.first += f64::from(n);
            evidence.this_hour += if key & 31 == hour { f64::from(n) } else { 0.0 };
        }
        for (order, context) in course.contexts().into_iter().enumerate() {
            for (key, n) in self.contexts.range(context << 20..(context + 1) << 20) {
                // Another would be another context's, of the same hash.
                if let Some(evidence) = counts.get_mut(&(key & NO_CAMERA)) {
                    evidence.contexts[order] += f64::from(n);
                }
            }
        }
        // What only came since the learning counts too.
        for (next, alike) in habit.after(course) {
            let own = &mut counts.entry(next).or_default().own;
            own[..alike].iter_mut().for_each(|n| *n += 1.0);
        }
        let mut total = Evidence::default();
        counts.values().for_each(|evidence| total.add(evidence));
        let all = self.hourly.range(hour << 20..(hour + 1) << 20).map(|(_, n)| f64::from(n)).sum();
        // One more for every camera and the end: nothing is impossible.
        let possible = self.lanes.len() as f64 + 1.0;
        let strengths = &self.smoothing;
        let by_order = [
            strengths.second_order,
            strengths.third_order,
            strengths.fourth_order,
            strengths.drive,
        ];
        counts
            .into_iter()
            .map(|(next, n)| {
                let frequency = f64::from(self.hourly.get(hour << 20 | next));
                let mut p = smooth(frequency, all, possible, 1.0 / possible);
                p = smooth(n.first, total.first, strengths.first_order, p);
                p = smooth(n.this_hour, total.this_hour, strengths.hour, p);
                for (order, strength) in by_order.into_iter().enumerate() {
                    p = smooth(n.contexts[order], total.contexts[order], strength, p);
                }
                for (alike, strength) in strengths.habit.into_iter().enumerate() {
                    p = smooth(n.own[alike], total.own[alike], strength, p);
                }
                (next, p)
            })
            .collect()
    }
}

impl Habit {
    /// What came after each passage of the place to which the vehicle had come as it has now: from at least one same
    /// place before (or a beginning); with how many of them were the same, at most [`ORDER_MAX`].
    fn after(&self, course: Course) -> impl Iterator<Item = (u64, usize)> {
        let here = self.0.iter().enumerate().filter(move |(_, p)| p.place == course.here);
        here.filter_map(move |(i, passed)| {
            let next = self.0.get(i + 1).filter(|next| next.follows).map(|next| next.place);
            let next = next.or(passed.over.then_some(NO_CAMERA))?;
            let mut alike = 0;
            for (back, now) in course.before.into_iter().enumerate() {
                let before = self.0[i - back].follows.then(|| self.0[i - back - 1].place);
                if before.unwrap_or(NO_CAMERA) != now {
                    break;
                }
                alike += 1;
                if before.is_none() {
                    // Both began there: all the same.
                    alike = ORDER_MAX;
                    break;
                }
            }
            (alike > 0).then_some((next, alike))
        })
    }
}

/// The lanes of one approach hang side by side.
fn approaches(index: &PassageIndex, positions: &HashMap<CameraId, GeoPoint>) -> Vec<u32> {
    let places = super::places::places(index, positions, super::places::APPROACH_M);
    // At most a million cameras.
    places.into_iter().map(|place| place as u32).collect()
}

/// How often an outcome followed.
#[derive(Debug, Clone, Copy, Default)]
struct Evidence {
    own: [f64; ORDER_MAX],
    contexts: [f64; CONTEXTS],
    this_hour: f64,
    first: f64,
}

impl Evidence {
    fn add(&mut self, other: &Self) {
        let add = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        add(&mut self.own, &other.own);
        add(&mut self.contexts, &other.contexts);
        self.this_hour += other.this_hour;
        self.first += other.first;
    }
}

/// The mean of a Dirichlet posterior: `n` of `total`, with a prior mean worth `strength` observations.
fn smooth(n: f64, total: f64, strength: f64, prior: f64) -> f64 {
    let strength = strength.max(f64::MIN_POSITIVE);
    // So written that an endless strength leaves the prior.
    let say = total / (total + strength);
    if total > 0.0 { say * (n / total) + (1.0 - say) * prior } else { prior }
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
#[derive(Debug, Clone, Copy, Default, PartialEq)]
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
    /// Sum of the surprises: -ln of the probability that the camera was given, the end being excluded.
    pub surprise: f64,
}

/// The surprise of what was held for all but impossible: that of one in ten thousand.
const SURPRISE_LEAST: f64 = 1e-4;

impl Score {
    /// Counts one forecast and the sighting that came.
    pub fn add(&mut self, forecast: &Forecast, camera: &CameraId, at: Timestamp) {
        self.cases += 1;
        let rank = forecast.next.iter().position(|n| n.camera == *camera);
        let given = rank.map_or(0.0, |rank| forecast.next[rank].probability);
        let some: f64 = 1.0 - forecast.ended;
        let given = if some > 0.0 { given / some } else { 0.0 };
        self.surprise -= given.max(SURPRISE_LEAST).ln();
        let Some(rank) = rank else { return };
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

    /// The mean surprise: 0 when all was certain.
    pub fn log_loss(&self) -> f64 {
        self.surprise / f64::from(self.cases.max(1))
    }

    /// The share of named cameras' arrivals within the window.
    pub fn window_share(&self) -> f64 {
        f64::from(self.in_window) / f64::from(self.named.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::town::{
        HOUR_S, Passage, SIDE, any_passages, camera_id, index_of, plate, position, secs, traffic,
    };
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;

    const HORIZON: Duration = Duration::from_secs(1200);

    fn learnt(passages: &[Passage]) -> Forecaster {
        learnt_with(&index_of(passages), Smoothing::default())
    }

    fn learnt_with(index: &PassageIndex, smoothing: Smoothing) -> Forecaster {
        Forecaster::learn(index, &HashMap::new(), HORIZON, smoothing).unwrap()
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
        let past = index_of(&traffic(400, 6, noise));
        let model = learnt_with(&past, Smoothing::default());
        let first_order_model = learnt_with(&past, Smoothing::FIRST_ORDER_ONLY);
        let fresh = index_of(&traffic(100, 3, noise));
        let mut scores = [Score::default(); 3];
        let (mut ended, mut ends_expected, mut all) = (0, 0.0, 0);
        for vehicle in fresh.vehicle_keys() {
            let way: Vec<_> = fresh
                .way(vehicle)
                .iter()
                .map(|(at, c)| (at, fresh.camera_id(c).unwrap()))
                .collect();
            let mut drive: Vec<CameraId> = Vec::new();
            for (i, (at, camera)) in way.iter().enumerate() {
                if i > 0 && at.since(way[i - 1].0) > HORIZON {
                    drive.clear();
                }
                let before = drive.clone();
                drive.insert(0, (*camera).clone());
                let seen = LastSeen { before: &before, camera, at: *at };
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
        assert!(ours.log_loss() < first_order.log_loss() - 0.2, "{scores:?}");
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
        let seen = LastSeen { before: &[], camera: &camera, at: secs(0) };
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
        let nothing = fork().forecast(LastSeen { before: &[], camera: &camera, at: secs(0) });
        assert_eq!((nothing.next.len(), nothing.elsewhere), (0, 1.0));
    }

    /// The cameras before in this drive (latest first), here, hour, next.
    type Move = (Vec<u32>, u32, i64, Option<u32>);

    /// Every move whose outcome is known at the `end`, spelt out.
    fn moves(rows: &[Passage], end: i64) -> Vec<Move> {
        let joined = |a: &Passage, b: &Passage| a.0 == b.0 && b.2 - a.2 <= 1200;
        let mut moves = Vec::new();
        for (i, (_, c, t)) in rows.iter().enumerate() {
            let begins =
                (0..i).rev().find(|j| !joined(&rows[*j], &rows[j + 1])).map_or(0, |j| j + 1);
            let before = rows[begins..i].iter().rev().map(|row| row.1).collect();
            let next = rows.get(i + 1).filter(|n| joined(&rows[i], n)).map(|n| n.1);
            if next.is_some() || t + 1200 <= end {
                moves.push((before, *c, t / HOUR_S, next));
            }
        }
        moves
    }

    proptest! {
        /// Against the formulas spelt out over plain lists.
        #[test]
        fn equals_brute_force(
            passages in any_passages(150),
            before in prop::collection::vec(0u32..8, 0..5), here in 0u32..8, hour in 0i64..3,
        ) {
            let index = index_of(&passages);
            let model = learnt_with(&index, Smoothing::default());
            let mut rows = passages.clone();
            rows.sort_by_key(|(v, c, t)| (*v, *t, *c));
            rows.dedup();
            let end = rows.iter().map(|r| r.2).max().unwrap_or(0);
            let all = moves(&rows, end);
            let known = |c: u32| rows.iter().any(|r| r.1 == c);
            let places = (0..8).filter(|c| known(*c)).count() as f64 + 1.0;
            let before: Vec<u32> = before.into_iter().filter(|c| known(*c)).collect();
            // The vehicle of number 0 as it is known at that hour: at the end of it a passage that is not over yet.
            let now = hour * HOUR_S;
            let mut own: Vec<Passage> = rows.iter().copied().filter(|r| r.0 == 0 && r.2 < now).collect();
            own.sort_by_key(|(_, c, t)| (*t, *c));
            let own_moves = moves(&own, now - 1);
            let ratio = |n: usize, of: usize, s: f64, p: f64| (n as f64 + s * p) / (of as f64 + s);
            let began = |before: &[u32], here: u32| before.last().copied().unwrap_or(here);
            let probability = |next: Option<u32>| {
                let count = |of: &[Move], f: &dyn Fn(&Move) -> bool| {
                    let of = of.iter().filter(|m| f(m));
                    (of.clone().filter(|m| m.3 == next).count(), of.count())
                };
                let same = |m: &Move, n: usize| m.1 == here && (0..n).all(|i| m.0.get(i) == before.get(i));
                let mut p = 1.0 / places;
                let (n, t) = count(&all, &|m| m.2 == hour);
                p = ratio(n, t, places, p);
                let (n, t) = count(&all, &|m| m.1 == here);
                p = ratio(n, t, 1.0, p);
                let (n, t) = count(&all, &|m| m.1 == here && m.2 == hour);
                p = ratio(n, t, model.smoothing.hour, p);
                let orders = [model.smoothing.second_order, model.smoothing.third_order, model.smoothing.fourth_order];
                for (more, strength) in (1..).zip(orders) {
                    let (n, t) = count(&all, &|m| same(m, more));
                    p = ratio(n, t, strength, p);
                }
                let (n, t) = count(&all, &|m| same(m, 1) && began(&m.0, m.1) == began(&before, here));
                p = ratio(n, t, model.smoothing.drive, p);
                for (more, strength) in (1..).zip(model.smoothing.habit) {
                    let (n, t) = count(&own_moves, &|m| same(m, more));
                    p = ratio(n, t, strength, p);
                }
                p
            };
            let camera = camera_id(here);
            let names: Vec<CameraId> = before.iter().map(|c| camera_id(*c)).collect();
            let seen = LastSeen { before: &names, camera: &camera, at: secs(now) };
            let habit = index.vehicle(&plate(0)).map_or_else(Habit::default, |vehicle| {
                model.habit(&index, vehicle, secs(now), |_, _| true)
            });
            let forecast = model.redraw(seen, &habit, seen.at, |_| 1.0);
            if known(here) {
                prop_assert!((forecast.ended - probability(None)).abs() < 1e-9, "{} {}", forecast.ended, probability(None));
                for c in 0..8 {
                    let named = forecast.next.iter().find(|n| n.camera == camera_id(c)).map(|n| n.probability);
                    let came = all.iter().any(|m| m.1 == here && m.3 == Some(c));
                    prop_assert_eq!(named.is_some(), came);
                    if let Some(named) = named {
                        prop_assert!((named - probability(Some(c))).abs() < 1e-9);
                    }
                }
            }
            // Whatever the silence and the cameras, shares add up.
            let redrawn = model.redraw(seen, &habit, secs(now + 300), |_| 0.4);
            for f in [&forecast, &redrawn] {
                let next: f64 = f.next.iter().map(|n| n.probability).sum();
                let sum = next + f.ended + f.passed_unseen + f.elsewhere;
                prop_assert!((sum - 1.0).abs() < 1e-9);
                prop_assert!(f.next.is_sorted_by(|a, b| a.probability >= b.probability));
            }
        }
    }

    /// From 0 half go to 1 and on to 3, half to 2.
    #[test]
    fn waits_where_it_will_pass() {
        let ways = (0..200).flat_map(|v| {
            let start = 2000 * i64::from(v);
            let there = if v % 2 == 0 {
                [(v, 1, start + 100), (v, 3, start + 500)]
            } else {
                [(v, 2, start + 100); 2]
            };
            std::iter::once((v, 0, start)).chain(there)
        });
        let model = learnt(&ways.collect::<Vec<_>>());
        let camera = camera_id(0);
        let seen = LastSeen { before: &[], camera: &camera, at: secs(0) };
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let soon = model.ahead(seen, &Habit::default(), minutes(0), minutes(4));
        let late = model.ahead(seen, &Habit::default(), minutes(6), minutes(15));
        assert!(soon.len() == 2 && (soon[0].1 - 0.5).abs() < 0.05, "{soon:?}");
        assert!(late.len() == 1 && late[0].0 == camera_id(3) && late[0].1 > 0.4, "{late:?}");
    }

    /// Everybody goes from 1 to 2, but one: from 0 by 1 to 3, day after day.
    #[test]
    fn a_vehicle_has_its_own_way() {
        let mut ways: Vec<Passage> = (1..200)
            .flat_map(|v| {
                let start = 2000 * i64::from(v);
                [(v, 0, start), (v, 1, start + 100), (v, 2, start + 200)]
            })
            .collect();
        for day in 0..5 {
            let start = day * 24 * HOUR_S;
            ways.extend([(0, 0, start), (0, 1, start + 100), (0, 3, start + 200)]);
        }
        let index = index_of(&ways);
        let model = learnt_with(&index, Smoothing::default());
        let (before, camera, at) = ([camera_id(0)], camera_id(1), secs(5 * 24 * HOUR_S));
        let seen = LastSeen { before: &before, camera: &camera, at };
        let first = |habit: &Habit| model.redraw(seen, habit, at, |_| 1.0).next[0].camera.clone();
        let own =
            |sees: bool| model.habit(&index, index.vehicle(&plate(0)).unwrap(), at, |_, _| sees);
        assert_eq!(first(&Habit::default()), camera_id(2));
        assert_eq!(first(&own(true)), camera_id(3));
        assert_eq!(first(&own(false)), camera_id(2), "what may not be seen is not told");
    }
}
