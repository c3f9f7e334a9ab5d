//! How far each camera's clock is off, from the vehicles that it shares with its neighbours.
//!
//! The time from camera *i* to camera *j* is the road's, plus *j*'s clock error, less *i*'s. The road takes as long for
//! every pair of cameras at its two ends, and in the other direction; so errors and roads come apart.
//!
//! * *A link* is what the trips from *i* to *j* say: the quick quarter of their times, each divided by the pace of the
//!   drive's other legs, for a slow driver is slow all along. Its variance follows from spread and number of the trips:
//!   twelve trips of ten minutes say little.
//! * *A road* joins two sites (cameras within a crossing of each other) by the approach at which most arrive; who arrives
//!   by another approach came another way, which is a road of its own, in one direction.
//! * *Right or wrong*: a clock is either right to [`RIGHT_S`], or off by anything about [`OFF_S`] ([`WRONG_SHARE`] of
//!   them are). Which of the two is decided by the Bayes factor of what its links say, the roads estimated without
//!   them; errors have Student's t distribution with four degrees of freedom, so that one odd road decides nothing. The
//!   surest wrong clocks are taken first and set right, then the roads are estimated anew, until no clock more is
//!   likelier wrong than right.
//!
//! That most clocks are right is assumed: a common error of all could not be seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use guiji_domain::{CameraId, CaptureTime, GeoPoint};

use super::PassageIndex;
use super::places::{APPROACH_M, SITE_M, places};

/// How far a clock is off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockOffset {
    /// Its time less the true one, seconds: the mean of what is believed.
    pub offset_s: f64,
    /// Standard deviation of that, seconds.
    pub error_s: f64,
    /// Probability that it is wrong, rather than right to some tenths of a second.
    pub wrong: f64,
    /// Roads to other sites that it rests on.
    pub neighbours: usize,
}

impl ClockOffset {
    /// Whether it is wrong, as far as can be known: 4 to 1 at least.
    pub fn is_wrong(&self) -> bool {
        self.wrong >= 0.8
    }

    /// Takes what is known of the error out of a time. A wrong clock is set right, and what that leaves open added to the
    /// uncertainty; of one that may be wrong the whole doubt is. A right one's own word stands.
    #[must_use]
    pub fn set_right(&self, captured: CaptureTime) -> CaptureTime {
        /// From this probability on a clock may be wrong.
        const DOUBT: f64 = 0.05;
        let seconds = |s: f64| Duration::from_secs_f64(s.clamp(0.0, 1e6));
        let (mut at, mut doubt_s) = (captured.at, 0.0);
        if self.is_wrong() {
            let off = seconds(self.offset_s.abs());
            at = if self.offset_s > 0.0 { at.minus(off) } else { at.plus(off) };
            doubt_s = 2.0 * self.error_s;
        } else if self.wrong >= DOUBT {
            doubt_s = self.offset_s.abs() + 2.0 * self.error_s;
        }
        let uncertainty = captured.uncertainty.saturating_add(seconds(doubt_s));
        CaptureTime { at, uncertainty, ..captured }
    }
}

/// Standard deviation of a right clock, seconds.
const RIGHT_S: f64 = 0.25;
/// Standard deviation of a wrong one; assumed.
const OFF_S: f64 = 6.0;
/// The share of wrong clocks; assumed.
const WRONG_SHARE: f64 = 0.03;
/// Longest trip between neighbours.
const APART_MAX: Duration = Duration::from_secs(600);
/// The quick trips, whose time is compared: driving times begin sharply and end in stops.
const QUICK: f64 = 0.25;
/// The standard error of that quantile of a normal sample, times √n over its deviation.
const QUICK_ERROR: f64 = 1.36;
/// Trips of a pair of cameras that suffice, and that are looked at.
const TRIPS: std::ops::RangeInclusive<usize> = 6..=200;
/// Fewest roads that a clock is judged by.
const NEIGHBOURS_MIN: usize = 2;
/// Roads are alike in both directions to this share of their time.
const ALIKE: f64 = 0.02;
/// Seconds of driving at the usual pace that a drive's own pace is mixed with.
const USUAL_PACE_S: f64 = 60.0;
/// Rounds of taking wrong clocks out; each takes at least one.
const ROUNDS: usize = 100;

/// What the trips from one camera to another say.
struct Link {
    from: usize,
    to: usize,
    /// A place in the list of roads.
    road: usize,
    quick_s: f64,
    variance: f64,
}

/// How far each camera's clock is off, by the places of [`PassageIndex::cameras`]; `None` where too few roads tell.
pub fn clock_offsets(
    index: &PassageIndex,
    positions: &HashMap<CameraId, GeoPoint>,
) -> Vec<Option<ClockOffset>> {
    let mut network = Network::new(links(index, positions), index.cameras().len());
    network.set_right();
    (0..index.cameras().len()).map(|camera| network.judge(camera).map(|j| j.offset())).collect()
}

/// What all links together say.
struct Network {
    links: Vec<Link>,
    /// By camera, its links.
    of_camera: Vec<Vec<usize>>,
    /// By road, its links.
    of_road: Vec<Vec<usize>>,
    /// The errors of the clocks that are held for wrong.
    wrong: BTreeMap<usize, f64>,
    /// How much larger the variances are than the links say.
    scale: f64,
}

/// Sum of weights and weighted mean.
#[derive(Clone, Copy, Default)]
struct Mean {
    weight: f64,
    mean: f64,
}

impl Mean {
    fn of(values: impl Iterator<Item = (f64, f64)>) -> Self {
        let (weight, sum) =
            values.fold((0.0, 0.0), |(w, s), (x, weight)| (w + weight, s + x * weight));
        Self { weight, mean: if weight > 0.0 { sum / weight } else { 0.0 } }
    }
}

/// The weight of a deviation under Student's t with four degrees of freedom, over that of none.
fn trust(squared: f64) -> f64 {
    5.0 / (4.0 + squared)
}

/// Logarithm of its density, but for a constant.
fn log_density(squared: f64) -> f64 {
    -2.5 * (squared / 4.0).ln_1p()
}

/// The mean of values with variances, in which one odd value counts little. Begins at the median.
fn robust(values: &[(f64, f64)]) -> Mean {
    let middle = median(&mut values.iter().map(|(x, _)| *x).collect::<Vec<_>>()).unwrap_or(0.0);
    let mut mean = Mean { weight: 0.0, mean: middle };
    for _ in 0..10 {
        let weighed = values
            .iter()
            .map(|(x, variance)| (*x, trust((x - mean.mean).powi(2) / variance) / variance));
        mean = Mean::of(weighed);
    }
    mean
}

/// What a camera's roads say of its clock.
struct Judgement {
    neighbours: usize,
    /// Logarithm of the odds of wrong over right.
    log_odds: f64,
    /// Of the two beliefs: mean and variance.
    right: (f64, f64),
    wrong: (f64, f64),
}

impl Judgement {
    fn offset(&self) -> ClockOffset {
        let wrong = 1.0 / (1.0 + (-self.log_odds).exp());
        let mean = wrong * self.wrong.0 + (1.0 - wrong) * self.right.0;
        let square = |(m, v): (f64, f64)| v + (m - mean).powi(2);
        let variance = wrong * square(self.wrong) + (1.0 - wrong) * square(self.right);
        ClockOffset { offset_s: mean, error_s: variance.sqrt(), wrong, neighbours: self.neighbours }
    }
}

impl Network {
    fn new(links: Vec<Link>, cameras: usize) -> Self {
        let (mut of_camera, mut of_road) = (vec![Vec::new(); cameras], Vec::new());
        for (i, link) in links.iter().enumerate() {
            of_camera[link.from].push(i);
            of_camera[link.to].push(i);
            if of_road.len() <= link.road {
                of_road.resize(link.road + 1, Vec::new());
            }
            of_road[link.road].push(i);
        }
        Self { links, of_camera, of_road, wrong: BTreeMap::new(), scale: 1.0 }
    }

    /// Takes out the wrong clocks, the surest first.
    fn set_right(&mut self) {
        for _ in 0..ROUNDS {
            self.scale = self.scale_now();
            let judged: Vec<_> = (0..self.of_camera.len()).map(|c| self.judge(c)).collect();
            let odds = |c: usize| judged[c].as_ref().map_or(f64::MIN, |j| j.log_odds);
            // Of neighbours that both look wrong, one may only look so for the other's sake.
            let surest = |c: &usize| {
                let ends = self.of_camera[*c].iter().flat_map(|l| {
                    let link = &self.links[*l];
                    [link.from, link.to]
                });
                odds(*c) > 0.0
                    && ends.filter(|o| o != c && !self.wrong.contains_key(o)).all(|o| {
                        (odds(o), std::cmp::Reverse(o)) < (odds(*c), std::cmp::Reverse(*c))
                    })
            };
            let new: BTreeSet<_> =
                (0..judged.len()).filter(|c| !self.wrong.contains_key(c)).filter(surest).collect();
            let still = self.wrong.keys().copied().filter(|c| odds(*c) > 0.0);
            let next: BTreeMap<_, _> = still
                .chain(new.iter().copied())
                .filter_map(|c| Some((c, judged[c].as_ref()?.wrong.0)))
                .collect();
            let settled = new.is_empty() && next.len() == self.wrong.len();
            self.wrong = next;
            if settled {
                return;
            }
        }
    }

    /// What a link says of its road, the clocks that are held for wrong set right.
    fn road_time(&self, link: &Link) -> f64 {
        let error = |camera| self.wrong.get(&camera).copied().unwrap_or(0.0);
        link.quick_s + error(link.from) - error(link.to)
    }

    /// By how much the links disagree more than they say: from the median of the squares, at least 1.
    fn scale_now(&self) -> f64 {
        /// Of the square of a normal deviation.
        const MEDIAN: f64 = 0.455;
        let mut squares = Vec::new();
        for links in self.of_road.iter().filter(|links| links.len() > 1) {
            let times: Vec<_> = links
                .iter()
                .map(|l| (self.road_time(&self.links[*l]), self.links[*l].variance))
                .collect();
            let road = robust(&times).mean;
            let freedom = (times.len() - 1) as f64 / times.len() as f64;
            squares.extend(times.iter().map(|(t, v)| (t - road).powi(2) / (v * freedom)));
        }
        median(&mut squares).map_or(1.0, |square| (square / MEDIAN).max(1.0))
    }

    /// Weighs what a camera's roads say of its clock; `None` when too few of them have other cameras.
    fn judge(&self, camera: usize) -> Option<Judgement> {
        let mut says: Vec<(f64, f64)> = Vec::new();
        let mut roads: Vec<_> =
            self.of_camera[camera].iter().map(|l| self.links[*l].road).collect();
        roads.sort_unstable();
        roads.dedup();
        for road in roads {
            let all = self.of_road[road].iter().map(|l| &self.links[*l]);
            let (own, others): (Vec<_>, Vec<_>) =
                all.partition(|link| link.from == camera || link.to == camera);
            let times: Vec<_> =
                others.iter().map(|l| (self.road_time(l), l.variance * self.scale)).collect();
            let others = robust(&times);
            let [arriving, leaving] = [true, false].map(|arriving| {
                let own = own.iter().filter(|link| (link.to == camera) == arriving);
                Mean::of(own.map(|link| {
                    // With its own clock as it stands.
                    let other = if arriving { link.from } else { link.to };
                    let error = self.wrong.get(&other).copied().unwrap_or(0.0);
                    let time = if arriving { link.quick_s + error } else { link.quick_s - error };
                    (time, 1.0 / (link.variance * self.scale))
                }))
            });
            says.extend(late(arriving, leaving, others));
        }
        (says.len() >= NEIGHBOURS_MIN).then(|| weigh(&says))
    }
}

/// What a road says of a clock with what variance: arrivals there take the road's time and the clock's error, departures
/// the time less the error, and other cameras' trips the time. Least squares; `None` where nothing tells the two apart.
fn late(arriving: Mean, leaving: Mean, others: Mean) -> Option<(f64, f64)> {
    let all = arriving.weight + leaving.weight + others.weight;
    let own = arriving.weight + leaving.weight;
    let lean = arriving.weight - leaving.weight;
    let sum = |mean: Mean| mean.weight * mean.mean;
    let mean = (sum(arriving) + sum(leaving) + sum(others)) / all;
    let known = own - lean * lean / all;
    let late = sum(arriving) - sum(leaving) - lean * mean;
    (all > 0.0 && known > 1e-6 * own).then(|| (late / known, 1.0 / known))
}

/// Right or wrong, by what each road says with its variance.
fn weigh(says: &[(f64, f64)]) -> Judgement {
    let belief = |spread: f64| {
        // What is believed beforehand is one more voice, which is never odd.
        let mut mean = if spread > 1.0 { robust(says).mean } else { 0.0 };
        let mut variance = spread * spread;
        for _ in 0..10 {
            let weighed = says.iter().map(|(x, v)| (*x, trust((x - mean).powi(2) / v) / v));
            let voices = Mean::of(weighed.chain([(0.0, 1.0 / (spread * spread))]));
            (mean, variance) = (voices.mean, 1.0 / voices.weight);
        }
        let likely: f64 = says.iter().map(|(x, v)| log_density((x - mean).powi(2) / v)).sum();
        // Laplace's approximation of the mean likelihood under the belief.
        let prior = -0.5 * (mean / spread).powi(2) + 0.5 * variance.ln() - spread.ln();
        (likely + prior, (mean, variance))
    };
    let ((right_likely, right), (wrong_likely, wrong)) = (belief(RIGHT_S), belief(OFF_S));
    let log_odds = wrong_likely - right_likely + (WRONG_SHARE / (1.0 - WRONG_SHARE)).ln();
    Judgement { neighbours: says.len(), log_odds, right, wrong }
}

/// Times of trips by the cameras at their ends, with how many there were.
type Trips = HashMap<(usize, usize), Vec<f64>>;

fn links(index: &PassageIndex, positions: &HashMap<CameraId, GeoPoint>) -> Vec<Link> {
    let sites = places(index, positions, SITE_M);
    let approaches = places(index, positions, APPROACH_M);
    let usual = usual_times(index, &sites);
    let mut trips: Trips = HashMap::new();
    each_drive(index, &sites, |legs| {
        for (i, leg) in legs.iter().enumerate() {
            let times = trips.entry((leg.from, leg.to)).or_default();
            if times.len() < *TRIPS.end() {
                times.push(leg.seconds / pace(legs, i, &sites, &usual));
            }
        }
    });
    let mut trips: Vec<_> = trips.into_iter().filter(|(_, t)| t.len() >= *TRIPS.start()).collect();
    trips.sort_unstable_by_key(|(ends, _)| *ends);
    let main = main_approaches(&trips, &sites, &approaches);
    let quick: Vec<_> = trips.iter_mut().map(|(_, times)| quick(times)).collect();
    let mut spreads: Vec<_> = quick.iter().map(|(time, spread)| spread / time.max(1.0)).collect();
    let usual_spread = median(&mut spreads).unwrap_or(0.0);
    let mut roads = BTreeMap::new();
    let quickest = trips.iter().zip(&quick);
    let links = quickest.map(|(((from, to), times), (quick_s, spread))| {
        let (a, b) = (sites[*from], sites[*to]);
        let road = if main.get(&(a, b)) == Some(&approaches[*to]) {
            (a.min(b), a.max(b), None)
        } else {
            (a, b, Some(approaches[*to]))
        };
        let next = roads.len();
        let road = *roads.entry(road).or_insert(next);
        let n = times.len() as f64;
        // A few trips tell little of their own spread.
        const FEW: f64 = 10.0;
        let spread = (n * spread.powi(2) + FEW * (usual_spread * quick_s).powi(2)) / (n + FEW);
        let variance =
            QUICK_ERROR.powi(2) * spread / n + (ALIKE * quick_s).powi(2) + RIGHT_S.powi(2);
        Link { from: *from, to: *to, road, quick_s: *quick_s, variance }
    });
    links.collect()
}

/// The quick quantile of some times, and their deviation below the median, as far from it as a normal's.
fn quick(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (times.len() - 1) as f64;
        let (low, high) = (times[place.floor() as usize], times[place.ceil() as usize]);
        low + (high - low) * place.fract()
    };
    (at(QUICK), (at(0.5) - at(QUICK)).max(0.0) / 0.674)
}

/// By sites, the approach at which most trips from the one arrive at the other.
fn main_approaches(
    trips: &[((usize, usize), Vec<f64>)],
    sites: &[usize],
    approaches: &[usize],
) -> HashMap<(usize, usize), usize> {
    let mut counts: BTreeMap<(usize, usize), BTreeMap<usize, usize>> = BTreeMap::new();
    for ((from, to), times) in trips {
        let counts = counts.entry((sites[*from], sites[*to])).or_default();
        *counts.entry(approaches[*to]).or_default() += times.len();
    }
    let most = |counts: BTreeMap<usize, usize>| {
        counts.into_iter().max_by_key(|(approach, n)| (*n, std::cmp::Reverse(*approach)))
    };
    counts.into_iter().filter_map(|(ends, n)| Some((ends, most(n)?.0))).collect()
}

/// From one camera to the next.
struct Leg {
    from: usize,
    to: usize,
    seconds: f64,
}

/// Calls for every drive: legs from site to site without a long rest.
fn each_drive(index: &PassageIndex, sites: &[usize], mut each: impl FnMut(&[Leg])) {
    let mut legs = Vec::new();
    for vehicle in index.vehicle_keys() {
        let way = index.way(vehicle);
        for ((left, from), (arrived, to)) in way.iter().zip(way.iter().skip(1)) {
            let time = arrived.since(left);
            if time <= APART_MAX && sites[from.index()] != sites[to.index()] {
                let (from, to) = (from.index(), to.index());
                legs.push(Leg { from, to, seconds: time.as_secs_f64() });
            } else if !legs.is_empty() {
                each(&legs);
                legs.clear();
            }
        }
        if !legs.is_empty() {
            each(&legs);
            legs.clear();
        }
    }
}

/// The median time between two sites in either direction.
fn usual_times(index: &PassageIndex, sites: &[usize]) -> HashMap<(usize, usize), f64> {
    let mut trips: Trips = HashMap::new();
    each_drive(index, sites, |legs| {
        for leg in legs {
            let times = trips.entry(ends(leg, sites)).or_default();
            if times.len() < *TRIPS.end() {
                times.push(leg.seconds);
            }
        }
    });
    trips.into_iter().filter_map(|(ends, mut times)| Some((ends, median(&mut times)?))).collect()
}

fn ends(leg: &Leg, sites: &[usize]) -> (usize, usize) {
    let (a, b) = (sites[leg.from], sites[leg.to]);
    (a.min(b), a.max(b))
}

/// How slow a drive is beside its leg `i`, over what is usual. The legs next to it are left out: an error of the clock
/// between lengthens the one as it shortens the other.
fn pace(legs: &[Leg], i: usize, sites: &[usize], usual: &HashMap<(usize, usize), f64>) -> f64 {
    let others = legs.iter().enumerate().filter(|(k, _)| k.abs_diff(i) > 1);
    let (took, usual) = others.fold((USUAL_PACE_S, USUAL_PACE_S), |(took, sum), (_, leg)| {
        let usual = usual.get(&ends(leg, sites)).copied().unwrap_or(leg.seconds);
        (took + leg.seconds, sum + usual)
    });
    (took / usual.max(1.0)).clamp(0.5, 2.0)
}

pub(crate) fn median(numbers: &mut [f64]) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => None,
        n if n % 2 == 1 => Some(numbers[middle]),
        _ => Some((numbers[middle - 1] + numbers[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::town::{Passage, camera_id, index_of, position, traffic};
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn positions() -> HashMap<CameraId, GeoPoint> {
        (0..36).map(|c| (camera_id(c), position(c))).collect()
    }

    fn offsets(passages: &[Passage]) -> Vec<Option<ClockOffset>> {
        clock_offsets(&index_of(passages), &positions())
    }

    proptest! {
        // The same towns at every run: with chance in the traffic, no estimate is right in all towns that there are.
        #![proptest_config(ProptestConfig { cases: 6, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        /// The truth is planted: up to three wrong clocks, maybe beside each other, in a town of right ones. At a corner,
        /// with two neighbours, nobody can say who is wrong.
        #[test]
        fn wrong_clocks_are_found_and_right_ones_left_alone(
            wrong in prop::collection::btree_map(0u32..36, (15i64..40, any::<bool>()), 0..4), seed in 1u64..1000,
        ) {
            let off = |c: &u32| wrong.get(c).map_or(0, |(off, late)| if *late { *off } else { -off });
            let mut passages = traffic(500, 3, &mut Noise(seed));
            passages.iter_mut().for_each(|(_, c, at)| *at += off(c));
            for (camera, clock) in (0..).zip(offsets(&passages)) {
                let clock = clock.expect("all have neighbours");
                let truth = off(&camera) as f64;
                let expected = truth != 0.0 && clock.neighbours > 2;
                prop_assert!(clock.is_wrong() <= (truth != 0.0), "{camera} of {wrong:?}: {clock:?}");
                prop_assert!(clock.is_wrong() >= expected, "{camera} of {wrong:?}: {clock:?}");
                prop_assert!((clock.offset_s - truth).abs() < 1.0 + 4.0 * clock.error_s, "{clock:?} {truth}");
            }
        }

        /// Whatever the errors of the others, exact times give the exact error.
        #[test]
        fn exact_times_give_the_exact_error(
            time in 10.0f64..300.0, off in -20.0f64..20.0, weights in (0.1f64..9.0, 0.1f64..9.0, 0.0f64..9.0),
        ) {
            let mean = |weight, mean| Mean { weight, mean };
            let (a, b, c) = weights;
            let (found, variance) = late(mean(a, time + off), mean(b, time - off), mean(c, time)).unwrap();
            prop_assert!((found - off).abs() < 1e-6 && variance > 0.0, "{found} {off}");
            prop_assert!(late(mean(a, time + off), mean(0.0, 0.0), mean(0.0, 0.0)).is_none());
        }

        /// The sums against the definition of the weighted mean; odd values count little.
        #[test]
        fn a_robust_mean_is_among_its_values(values in prop::collection::vec((-9.0f64..9.0, 0.1f64..4.0), 1..20)) {
            let mean = robust(&values);
            let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), (x, _)| (l.min(*x), h.max(*x)));
            prop_assert!((low - 1e-9..=high + 1e-9).contains(&mean.mean));
            let plain: f64 = values.iter().map(|(_, v)| 1.0 / v).sum();
            prop_assert!(mean.weight > 0.0 && mean.weight <= 1.25 * plain);
        }
    }

    #[test]
    fn few_trips_tell_nothing() {
        let few: Vec<_> = traffic(10, 1, &mut Noise(3));
        assert!(offsets(&few).iter().flatten().all(|clock| !clock.is_wrong()));
        assert!(offsets(&[]).is_empty());
    }

    #[test]
    fn one_odd_road_makes_no_wrong_clock() {
        let right = [(0.1, 0.3), (-0.2, 0.3), (0.0, 0.3), (0.2, 0.3), (-0.1, 0.3)];
        let odd = [&right[..], &[(9.0, 0.3)]].concat();
        assert!(!weigh(&odd).offset().is_wrong(), "{:?}", weigh(&odd).offset());
        let all: Vec<_> = right.iter().map(|(x, v)| (x + 5.0, *v)).collect();
        let offset = weigh(&all).offset();
        assert!(offset.is_wrong() && (offset.offset_s - 5.0).abs() < 0.3, "{offset:?}");
        // What roads say only vaguely decides nothing either.
        let vague: Vec<_> = right.iter().map(|(x, _)| (x + 3.0, 30.0)).collect();
        assert!(!weigh(&vague).offset().is_wrong());
    }

    #[test]
    fn a_wrong_clock_is_set_right_and_a_doubtful_one_not_relied_on() {
        let at = guiji_domain::Timestamp::from_secs(100);
        let captured = CaptureTime {
            at,
            uncertainty: Duration::from_millis(100),
            source: guiji_domain::ClockSource::Rtcp,
        };
        let clock = |offset_s, wrong| ClockOffset { offset_s, error_s: 0.5, wrong, neighbours: 9 };
        let right = clock(0.1, 0.01).set_right(captured);
        assert_eq!(right, captured);
        let ahead = clock(4.0, 0.99).set_right(captured);
        assert_eq!(ahead.at, at.minus(Duration::from_secs(4)));
        assert_eq!(ahead.uncertainty, Duration::from_millis(1100));
        let doubtful = clock(-2.0, 0.4).set_right(captured);
        assert_eq!((doubtful.at, doubtful.uncertainty), (at, Duration::from_millis(3100)));
    }
}
