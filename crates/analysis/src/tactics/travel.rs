//! Travel times between cameras by hour of the day, learnt from the sightings themselves.
//!
//! Each pair of consecutive sightings of one vehicle, at most `longest` apart, is one trip from camera to camera. Trips
//! with a stop or a detour are among them, so the upper end is no driving time; quantiles up to the median are robust
//! against that.
//!
//! Times are kept as a histogram with eight bins an octave, from one second to nine hours: a quantile is off by less
//! than a bin, 2^(1/8) - 1 = 9.1 %. Only bins that occur take room (12 bytes), and histograms of other days or
//! districts can be added ([`TravelTimes::merge`]).

use std::collections::HashMap;
use std::time::Duration;

use guiji_domain::{CameraId, GeoPoint, InvalidValue, Timestamp};

use super::counts::{Counts, Tally};
use super::{PassageIndex, utc_hour, within};

/// Bins of the histogram.
const BINS: usize = 120;
/// 2^(i/8) seconds in nanoseconds: the bins of the first octave. Whole numbers, so that every machine bins alike.
const OCTAVE: [u64; 8] = [
    1_000_000_000,
    1_090_507_733,
    1_189_207_115,
    1_296_839_555,
    1_414_213_562,
    1_542_210_825,
    1_681_792_831,
    1_834_008_086,
];
/// The longest trip that the histogram holds: 2^15 s, nine hours.
const LONGEST_S: u64 = 1 << (BINS / 8);
/// The trips in one hour of the day that suffice to judge by that hour alone.
const HOUR_EVIDENCE_MIN: u64 = 30;

fn bin(time: Duration) -> usize {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(OCTAVE[0]);
    let octave = (nanos / OCTAVE[0]).ilog2();
    // In the gap between 2^(i/8) rounded down and up a bin may be off by one nanosecond.
    let step = OCTAVE.partition_point(|edge| *edge <= nanos >> octave).saturating_sub(1);
    (octave as usize * 8 + step).min(BINS - 1)
}

/// Where a bin begins, seconds. What is shorter than a second counts as one.
fn edge(bin: usize) -> f64 {
    (OCTAVE[bin % 8] << (bin / 8)) as f64 / 1e9
}

/// A camera's number in 20 bits; this one stands for no camera.
pub(super) const NO_CAMERA: u64 = (1 << 20) - 1;

/// Learnt travel times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TravelTimes {
    cameras: Vec<CameraId>,
    /// Keys: from (20 bits), to (20), hour (5), bin (7).
    cells: Counts,
}

fn key(from: u64, to: u64, hour: u8, bin: usize) -> u64 {
    from << 32 | to << 12 | u64::from(hour) << 7 | bin as u64
}

impl TravelTimes {
    /// Learns from all vehicles of an index. About 0.03 µs a passage.
    ///
    /// # Errors
    /// When `longest` is zero or over nine hours.
    pub fn learn(index: &PassageIndex, longest: Duration) -> Result<Self, InvalidValue> {
        within("longest trip in seconds", longest.as_secs() as usize, 1..=LONGEST_S as usize)?;
        let mut tally = Tally::default();
        for vehicle in index.vehicle_keys() {
            let way = index.way(vehicle);
            for ((left, from), (arrived, to)) in way.iter().zip(way.iter().skip(1)) {
                let time = arrived.since(left);
                if time <= longest {
                    let (from, to) = (from.index() as u64, to.index() as u64);
                    tally.add(key(from, to, utc_hour(left), bin(time)));
                }
            }
        }
        Ok(Self { cameras: index.cameras().to_vec(), cells: tally.finish() })
    }

    /// Adds what was learnt elsewhere. The order of merging does not matter.
    pub fn merge(&mut self, other: &Self) {
        let (cameras, ours, theirs) = union(&self.cameras, &other.cameras);
        let rename = |numbers: &[u64], key: u64| {
            let camera = |shift| numbers[(key >> shift & NO_CAMERA) as usize];
            camera(32) << 32 | camera(12) << 12 | key & 0xfff
        };
        let ours = self.cells.iter().map(|(k, n)| (rename(&ours, k), n));
        let theirs = other.cells.iter().map(|(k, n)| (rename(&theirs, k), n));
        *self = Self { cells: Counts::sum(ours.chain(theirs)), cameras };
    }

    /// Bytes that the cells take.
    pub fn bytes(&self) -> usize {
        self.cells.len() * 12
    }

    /// The times from one camera to another for a start at this hour of the day, or over all hours when the hour alone
    /// has fewer than 30 trips. `None` when there was no trip at all.
    pub fn between(
        &self,
        from: &CameraId,
        to: &CameraId,
        left: Timestamp,
    ) -> Option<TimeDistribution> {
        let [from, to] = [from, to].map(|c| self.cameras.binary_search(c).ok().map(|i| i as u64));
        let (from, to, hour) = (from?, to?, utc_hour(left));
        let gather = |cells: std::ops::Range<u64>, basis| {
            let mut times = TimeDistribution { counts: [0; BINS], trips: 0, basis };
            for (key, count) in self.cells.range(cells) {
                times.counts[(key & 0x7f) as usize] += u64::from(count);
                times.trips += u64::from(count);
            }
            times
        };
        let this_hour = gather(key(from, to, hour, 0)..key(from, to, hour + 1, 0), Basis::ThisHour);
        if this_hour.trips >= HOUR_EVIDENCE_MIN {
            return Some(this_hour);
        }
        let all = gather(key(from, to, 0, 0)..key(from, to, 24, 0), Basis::AllHours);
        (all.trips > 0).then_some(all)
    }
}

/// Both lists as one in order, and for each what its places have become.
fn union(a: &[CameraId], b: &[CameraId]) -> (Vec<CameraId>, Vec<u64>, Vec<u64>) {
    let mut all = [a, b].concat();
    all.sort();
    all.dedup();
    let places = |list: &[CameraId]| {
        list.iter().map(|c| all.partition_point(|other| other < c) as u64).collect()
    };
    let (ours, theirs) = (places(a), places(b));
    (all, ours, theirs)
}

/// What a distribution was learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Trips that began in the same hour of the day.
    ThisHour,
    /// Trips of all hours, for want of enough in this one.
    AllHours,
}

/// How long trips from one camera to another took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeDistribution {
    counts: [u64; BINS],
    trips: u64,
    basis: Basis,
}

impl TimeDistribution {
    /// How many trips it rests on; at least 1.
    pub fn trips(&self) -> u64 {
        self.trips
    }

    /// Which trips these are.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// The time within which this share of the trips (0 to 1) was done; linear within a bin.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut rest = share.clamp(0.0, 1.0) * self.trips as f64;
        let mut reached = 0.0;
        for (bin, count) in self.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            let part = (rest / *count as f64).min(1.0);
            reached = edge(bin) + (edge(bin + 1) - edge(bin)) * part;
            rest -= *count as f64;
            if rest <= 0.0 {
                break;
            }
        }
        Duration::from_secs_f64(reached)
    }

    /// The probability that a trip is done within a time: (trips within + 1/2) / (trips + 1), never quite 0 or 1 (the
    /// Bayesian estimate under Jeffreys' prior).
    pub fn probability_within(&self, time: Duration) -> f64 {
        (self.trips_within(time) + 0.5) / (self.trips as f64 + 1.0)
    }

    /// The quantile among the trips that took longer than `elapsed`; `elapsed` itself when none did.
    pub fn quantile_after(&self, elapsed: Duration, share: f64) -> Duration {
        let done = self.trips_within(elapsed) / self.trips as f64;
        self.quantile(done + share.clamp(0.0, 1.0) * (1.0 - done)).max(elapsed)
    }

    fn trips_within(&self, time: Duration) -> f64 {
        let last = bin(time);
        let below: u64 = self.counts[..last].iter().sum();
        let part = (time.as_secs_f64() - edge(last)) / (edge(last + 1) - edge(last));
        below as f64 + self.counts[last] as f64 * part.clamp(0.0, 1.0)
    }
}

/// What is known of the ways between cameras.
#[derive(Debug, Clone, Copy)]
pub struct Roads<'a> {
    /// Learnt travel times.
    pub travel: &'a TravelTimes,
    /// Where the cameras stand; those that are missing have no distances.
    pub positions: &'a HashMap<CameraId, GeoPoint>,
}

impl Roads<'_> {
    /// Great-circle distance in metres: the road is at least as long.
    pub fn distance_m(&self, from: &CameraId, to: &CameraId) -> Option<f64> {
        Some(self.positions.get(from)?.distance_m(self.positions.get(to)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::town::{HOUR_S, any_passages, camera_id, index_of, secs, traffic};
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    proptest! {
        #[test]
        fn bins_hold_their_times(nanos in 1_000_000_000..LONGEST_S * 1_000_000_000) {
            let time = Duration::from_nanos(nanos);
            let (low, high) = (edge(bin(time)), edge(bin(time) + 1));
            prop_assert!(low - 1e-6 <= time.as_secs_f64() && time.as_secs_f64() <= high + 1e-6);
        }

        #[test]
        fn quantiles_are_within_a_bin_of_the_exact_ones(
            mut times in prop::collection::vec(1i64..3600, 1..200), p in 0.0f64..1.0,
        ) {
            let passages: Vec<_> = times.iter().zip(0..).flat_map(|(t, v)| [(v, 0, 0), (v, 1, *t)]).collect();
            let learnt = TravelTimes::learn(&index_of(&passages), HOUR).unwrap();
            let d = learnt.between(&camera_id(0), &camera_id(1), secs(0)).unwrap();
            prop_assert_eq!(d.trips(), times.len() as u64);
            times.sort();
            let exact = times[((p * times.len() as f64) as usize).min(times.len() - 1)] as f64;
            let got = d.quantile(p).as_secs_f64();
            // The rank may lie at the very edge of a bin: then the neighbour's value counts as exact too.
            let below = times[((p * times.len() as f64).ceil() as usize).saturating_sub(1).min(times.len() - 1)] as f64;
            prop_assert!(got <= exact.max(below) * 1.0906 && got * 1.0906 >= exact.min(below), "{got} {exact}");
            let share = d.probability_within(Duration::from_secs_f64(got));
            prop_assert!((share - (p * times.len() as f64 + 0.5) / (times.len() as f64 + 1.0)).abs() < 1e-6);
        }

        #[test]
        fn merging_equals_learning_together(a in any_passages(60), b in any_passages(60)) {
            // Other plates, so that no trip spans both halves.
            let b: Vec<_> = b.into_iter().map(|(v, c, t)| (v + 100, c + 4, t)).collect();
            let together = TravelTimes::learn(&index_of(&[a.clone(), b.clone()].concat()), HOUR).unwrap();
            let mut merged = TravelTimes::learn(&index_of(&b), HOUR).unwrap();
            merged.merge(&TravelTimes::learn(&index_of(&a), HOUR).unwrap());
            prop_assert_eq!(merged, together);
        }
    }

    #[test]
    fn the_rush_hour_is_learnt() {
        let learnt =
            TravelTimes::learn(&index_of(&traffic(1500, 10, &mut Noise(1))), HOUR).unwrap();
        let median = |hour: i64| {
            let d = learnt.between(&camera_id(8), &camera_id(9), secs(hour * HOUR_S)).unwrap();
            (d.basis(), d.quantile(0.5).as_secs_f64())
        };
        let (free, rush) = (median(12), median(8));
        assert_eq!((free.0, rush.0), (Basis::ThisHour, Basis::ThisHour));
        assert!(
            (free.1 / 80.0 - 1.0).abs() < 0.1 && (rush.1 / 160.0 - 1.0).abs() < 0.1,
            "{free:?} {rush:?}"
        );
        assert!(learnt.between(&camera_id(8), &camera_id(77), secs(0)).is_none());
        assert!(TravelTimes::learn(&index_of(&[]), Duration::from_secs(100_000)).is_err());
    }
}
