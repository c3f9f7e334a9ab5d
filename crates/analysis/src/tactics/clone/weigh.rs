use std::collections::BTreeMap;
use std::time::Duration;

use guiji_domain::{CameraId, VehicleColour};

use super::super::travel::{Roads, TimeDistribution};
use super::{CloneSettings, PlateSighting, Reason, TRIPS_MIN};

/// From this likelihood ratio down a trip is called a contradiction.
const CONTRADICTION: f64 = 0.25;
/// From this probability of a misread up a read is called in doubt.
const DOUBT: f64 = 0.01;

/// The sightings in question, and how likely each explanation makes them.
pub(super) struct Case<'a> {
    /// In order of time, then camera.
    sightings: Vec<&'a PlateSighting>,
    roads: Roads<'a>,
    settings: &'a CloneSettings,
    /// Likelihood ratios of each pair of sightings, row by row: the sums over splits ask for them again and again.
    ratios: Vec<f64>,
}

/// What the clocks are believed in a comparison of times.
#[derive(Clone, Copy, PartialEq)]
enum Clocks {
    AtTheirWorst,
    AsTheyStand,
}

impl<'a> Case<'a> {
    pub(super) fn new(
        sightings: &'a [PlateSighting],
        roads: Roads<'a>,
        settings: &'a CloneSettings,
    ) -> Self {
        let mut ordered: Vec<_> = sightings.iter().collect();
        ordered.sort_by(|a, b| (a.captured.at, &a.camera).cmp(&(b.captured.at, &b.camera)));
        let n = ordered.len();
        let mut case = Self { sightings: ordered, roads, settings, ratios: Vec::new() };
        let ratio = |k: usize| {
            let (i, j) = (k / n, k % n);
            case.time_ratio(i, j, Clocks::AtTheirWorst) * case.looks_ratio(i, j)
        };
        case.ratios = (0..n * n).map(ratio).collect();
        case
    }

    pub(super) fn right(&self, i: usize) -> f64 {
        1.0 - self.misread_of(i)
    }

    pub(super) fn misread_of(&self, i: usize) -> f64 {
        let p = self.sightings[i].misread;
        if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) }
    }

    /// Likelihood of all reads being right and one vehicle's.
    pub(super) fn one_vehicle(&self) -> f64 {
        self.all_legs() * self.all_right()
    }

    /// Likelihood of one vehicle, whatever the reads.
    pub(super) fn all_legs(&self) -> f64 {
        (1..self.sightings.len()).map(|j| self.same(j - 1, j)).product()
    }

    pub(super) fn all_right(&self) -> f64 {
        (0..self.sightings.len()).map(|i| self.right(i)).product()
    }

    /// Likelihood of two vehicles with the plate, over all splits with at least one sighting each.
    pub(super) fn clone(&self) -> f64 {
        let n = self.sightings.len();
        let urn = |own: usize, before: usize| (own as f64 + 1.0) / (before as f64 + 2.0);
        let split = over_splits(n, |split, j| {
            let same = |last: Option<usize>| last.map_or(1.0, |i| self.same(i, j));
            let second = j - split.firsts;
            (urn(split.firsts, j) * same(split.first), urn(second, j) * same(split.second))
        });
        // The urn draws all from one vehicle with 1 / (n + 1) each.
        let both_seen = 1.0 - 2.0 / (n as f64 + 1.0);
        split.filter(|(s, _)| s.firsts > 0 && s.firsts < n).map(|(_, w)| w).sum::<f64>() / both_seen
            * self.all_right()
    }

    /// Likelihood of one vehicle and at least one misread of another.
    pub(super) fn misread(&self) -> f64 {
        let n = self.sightings.len();
        let split = over_splits(n, |split, j| {
            let same = |last: Option<usize>| last.map_or(1.0, |i| self.same(i, j));
            let (right, wrong) = (self.right(j) * same(split.first), self.misread_of(j));
            if split.second.is_none() {
                return (right, wrong);
            }
            let again = self.misread_of(j).powf(self.settings.misread_again).min(0.5)
                * self.settings.misread_same;
            (right * (1.0 - again), wrong + self.right(j) * again * same(split.second))
        });
        split.filter(|(s, _)| s.firsts < n).map(|(_, w)| w).sum()
    }

    /// Sum over the cameras of the likelihood that all is one vehicle's but for this camera's times, each weighed by
    /// how its prior compares with that of a clock of which nothing is known.
    pub(super) fn clock_error(&self) -> f64 {
        let wrong_clock = |camera: &CameraId| {
            let trusted: Vec<_> = (0..self.sightings.len())
                .filter(|i| self.sightings[*i].camera != *camera)
                .collect();
            let times =
                trusted.windows(2).map(|w| self.time_ratio(w[0], w[1], Clocks::AtTheirWorst));
            let looks = (1..self.sightings.len()).map(|j| self.looks_ratio(j - 1, j));
            let known = self.sightings.iter().any(|s| s.camera == *camera && s.clock_known);
            let prior = if known { self.settings.clock_known } else { 1.0 };
            prior * times.product::<f64>() * looks.product::<f64>()
        };
        self.cameras().into_iter().map(wrong_clock).sum::<f64>() * self.all_right()
    }

    fn cameras(&self) -> Vec<&CameraId> {
        let mut cameras: Vec<_> = self.sightings.iter().map(|s| &s.camera).collect();
        cameras.sort();
        cameras.dedup();
        cameras
    }

    /// Likelihood ratio of a sighting and a later one: the same vehicle over unrelated ones.
    pub(super) fn same(&self, i: usize, j: usize) -> f64 {
        self.ratios[i * self.sightings.len() + j]
    }

    fn time_ratio(&self, i: usize, j: usize, clocks: Clocks) -> f64 {
        let s = self.settings;
        let learnt = self
            .share_as_fast(i, j, clocks)
            .map_or(1.0, |(share, _)| (share / s.early_share).clamp(s.beyond_learnt, 1.0));
        let impossible = self.least_kmh(i, j, clocks).is_some_and(|kmh| kmh > s.impossible_kmh);
        if impossible { learnt.min(s.impossible_ratio) } else { learnt }
    }

    fn elapsed_most(&self, i: usize, j: usize, clocks: Clocks) -> Duration {
        let elapsed = self.sightings[j].captured.at.since(self.sightings[i].captured.at);
        match clocks {
            Clocks::AtTheirWorst => elapsed.saturating_add(self.uncertainty(i, j)),
            Clocks::AsTheyStand => elapsed,
        }
    }

    fn uncertainty(&self, i: usize, j: usize) -> Duration {
        let of = |i: usize| self.sightings[i].captured.uncertainty;
        of(i).saturating_add(of(j))
    }

    /// The share of the learnt trips that took at most that long, and how many there are.
    fn share_as_fast(&self, i: usize, j: usize, clocks: Clocks) -> Option<(f64, TimeDistribution)> {
        let (a, b) = (self.sightings[i], self.sightings[j]);
        if a.camera == b.camera {
            return None;
        }
        let times = self.roads.travel.between(&a.camera, &b.camera, a.captured.at)?;
        let elapsed = self.elapsed_most(i, j, clocks);
        (times.trips() >= TRIPS_MIN).then(|| (times.probability_within(elapsed), times))
    }

    fn least_kmh(&self, i: usize, j: usize, clocks: Clocks) -> Option<f64> {
        let metres = self.roads.distance_m(&self.sightings[i].camera, &self.sightings[j].camera)?;
        let secs = self.elapsed_most(i, j, clocks).as_secs_f64();
        // Cameras of one crossing may see a vehicle at the same instant.
        (metres > 100.0).then(|| if secs > 0.0 { metres / secs * 3.6 } else { f64::INFINITY })
    }

    fn looks_ratio(&self, i: usize, j: usize) -> f64 {
        let (a, b) = (self.sightings[i].vehicle, self.sightings[j].vehicle);
        let ratio = |equal: bool, sure: f64, (one, any): (f64, f64)| {
            let ratio = if equal { (1.0 - one) / (1.0 - any) } else { one / any };
            // With the rest of the probability an attribute is noise and says nothing.
            sure * ratio + (1.0 - sure)
        };
        let sure = |a: f32, b: f32| f64::from(a.clamp(0.0, 1.0)) * f64::from(b.clamp(0.0, 1.0));
        let class = a
            .class
            .zip(b.class)
            .map_or(1.0, |((a, p), (b, q))| ratio(a == b, sure(p, q), self.settings.class_unequal));
        let colour = a.colour.zip(b.colour).map_or(1.0, |((a, p), (b, q))| {
            let alike = a != b && pale(a) && pale(b);
            if alike { 1.0 } else { ratio(a == b, sure(p, q), self.settings.colour_unequal) }
        });
        class * colour
    }

    pub(super) fn reasons(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut contradictions = Vec::new();
        for from in 0..self.sightings.len() - 1 {
            let to = from + 1;
            let worst = self.time_ratio(from, to, Clocks::AtTheirWorst);
            if worst <= CONTRADICTION {
                contradictions.push(from);
                reasons.push(self.time_reason(from, to));
            } else if self.time_ratio(from, to, Clocks::AsTheyStand) <= CONTRADICTION {
                let elapsed = self.elapsed_most(from, to, Clocks::AsTheyStand);
                let uncertainty = self.uncertainty(from, to);
                reasons.push(Reason::ClockUncertainty { from, elapsed, uncertainty });
            }
            let (a, b) = (self.sightings[from].vehicle, self.sightings[to].vehicle);
            if let Some(((a, _), (b, _))) = a.class.zip(b.class).filter(|(a, b)| a.0 != b.0) {
                reasons.push(Reason::ClassConflict { from, classes: (a, b) });
            }
            let unlike = |a: VehicleColour, b: VehicleColour| a != b && !(pale(a) && pale(b));
            if let Some(((a, _), (b, _))) = a.colour.zip(b.colour).filter(|(a, b)| unlike(a.0, b.0))
            {
                reasons.push(Reason::ColourConflict { from, colours: (a, b) });
            }
        }
        for sighting in 0..self.sightings.len() {
            let misread = self.misread_of(sighting);
            let takes_part =
                contradictions.iter().any(|from| [*from, from + 1].contains(&sighting));
            if takes_part && misread >= DOUBT {
                reasons.push(Reason::LatticeAmbiguity { sighting, misread });
            }
        }
        if contradictions.len() > 1 {
            reasons.push(Reason::RepeatedContradiction { times: contradictions.len() });
            let takes_part = |camera: &CameraId, from: usize| {
                [from, from + 1].iter().any(|i| self.sightings[*i].camera == *camera)
            };
            let in_all = |c: &&CameraId| contradictions.iter().all(|from| takes_part(c, *from));
            let cameras = self.cameras().into_iter().filter(in_all);
            reasons.extend(cameras.map(|c| Reason::OneCameraInAll { camera: c.clone() }));
        }
        reasons
    }

    fn time_reason(&self, from: usize, to: usize) -> Reason {
        let clocks = Clocks::AtTheirWorst;
        let least_kmh = self.least_kmh(from, to, clocks).unwrap_or(0.0);
        match self.share_as_fast(from, to, clocks) {
            Some((share, times)) if least_kmh <= self.settings.impossible_kmh => {
                Reason::TravelTimeBelowQuantile {
                    from,
                    elapsed_most: self.elapsed_most(from, to, clocks),
                    usual_least: times.quantile(self.settings.early_share),
                    share,
                    trips: times.trips(),
                    basis: times.basis(),
                }
            }
            _ => Reason::ImpossibleSpeed { from, least_kmh },
        }
    }
}

/// White, silver and grey: one for another, by the light.
fn pale(colour: VehicleColour) -> bool {
    matches!(colour, VehicleColour::White | VehicleColour::Silver | VehicleColour::Grey)
}

/// The state of a split after some sightings: the last of the first and of the second kind, how many of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Split {
    first: Option<usize>,
    second: Option<usize>,
    firsts: usize,
}

/// Adds up the weights of all 2^n splits of `n` sightings into two kinds, by what the split ends as. `weights` gives
/// the factors for sighting `j` being of the first and of the second kind. One of the two last ones is always `j - 1`,
/// so that there are at most 2 n² states, not 2^n.
fn over_splits(
    n: usize,
    weights: impl Fn(Split, usize) -> (f64, f64),
) -> impl Iterator<Item = (Split, f64)> {
    let mut splits = BTreeMap::from([(Split { first: None, second: None, firsts: 0 }, 1.0)]);
    for j in 0..n {
        let mut longer = BTreeMap::new();
        for (split, weight) in splits {
            let (as_first, as_second) = weights(split, j);
            let first = Split { first: Some(j), firsts: split.firsts + 1, ..split };
            *longer.entry(first).or_insert(0.0) += weight * as_first;
            *longer.entry(Split { second: Some(j), ..split }).or_insert(0.0) += weight * as_second;
        }
        splits = longer;
    }
    splits.into_iter()
}
