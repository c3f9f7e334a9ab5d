//! Looking for cloned plates among all: which plates contradict one vehicle by their times alone, and which of their
//! sightings tell most.
//!
//! A trip from one sighting of a plate to the next contradicts when even the great circle would have been driven at
//! `least_kmh` or faster, both clocks off by `slack` to that end. Nothing is decided by that: many a plate is read as
//! another's once. The verdict is [`super::judge`]'s, on the sightings that [`telling`] picks.

use std::collections::HashMap;
use std::time::Duration;

use guiji_domain::{CameraId, GeoPoint, TimeSpan, Timestamp};

use super::super::{CameraKey, PassageIndex, VehicleKey};
use super::SIGHTINGS_MAX;

/// Which plates are looked at more closely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuspectSettings {
    /// A trip at least this fast along the great circle contradicts, km/h.
    pub least_kmh: f64,
    /// How far the two clocks may be off together.
    pub slack: Duration,
    /// Fewest contradictions of a suspect, at least 1.
    pub contradictions_min: usize,
}

impl Default for SuspectSettings {
    fn default() -> Self {
        // Well below what is impossible: the learnt times of the road decide later.
        Self { least_kmh: 100.0, slack: Duration::from_secs(2), contradictions_min: 1 }
    }
}

/// A plate with trips that one vehicle can hardly have made.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// Whose plate.
    pub vehicle: VehicleKey,
    /// The trips, fastest first: places in the vehicle's way within the span, each of the earlier sighting.
    pub contradictions: Vec<usize>,
}

/// The suspects within a span, most contradictions first, then by plate. About 0.05 µs a passage.
pub fn suspects(
    index: &PassageIndex,
    positions: &HashMap<CameraId, GeoPoint>,
    span: TimeSpan,
    settings: &SuspectSettings,
) -> Vec<Suspect> {
    let map = Map::new(index, positions);
    let find = |vehicle| map.suspicion(index, vehicle, span, settings);
    let least = settings.contradictions_min.max(1);
    let mut found: Vec<_> =
        index.vehicle_keys().map(find).filter(|s| s.contradictions.len() >= least).collect();
    found.sort_by_key(|s| (std::cmp::Reverse(s.contradictions.len()), s.vehicle));
    found
}

/// What contradicts one vehicle in the way of this one within a span; maybe nothing.
pub fn suspicion(
    index: &PassageIndex,
    positions: &HashMap<CameraId, GeoPoint>,
    vehicle: VehicleKey,
    span: TimeSpan,
    settings: &SuspectSettings,
) -> Suspect {
    Map::new(index, positions).suspicion(index, vehicle, span, settings)
}

/// The places in a way of `length` sightings that tell most of a suspect, in order: both ends of each contradiction,
/// fastest first, then what lies beside them; at most [`SIGHTINGS_MAX`].
pub fn telling(suspect: &Suspect, length: usize) -> Vec<usize> {
    let ends = suspect.contradictions.iter().flat_map(|from| [*from, from + 1]);
    let beside = suspect.contradictions.iter().flat_map(|from| {
        [from.checked_sub(1), Some(from + 2), from.checked_sub(2), Some(from + 3)]
    });
    let mut places = Vec::with_capacity(SIGHTINGS_MAX);
    for place in ends.chain(beside.flatten()).filter(|place| *place < length) {
        if places.len() < SIGHTINGS_MAX && !places.contains(&place) {
            places.push(place);
        }
    }
    places.sort_unstable();
    places
}

/// The least speed of a trip over a great-circle distance, km/h; `None` at one crossing, whose cameras may see a vehicle
/// at the same instant.
pub fn least_kmh(metres: f64, elapsed: Duration, slack: Duration) -> Option<f64> {
    const ONE_CROSSING_M: f64 = 100.0;
    let seconds = elapsed.saturating_add(slack).as_secs_f64();
    (metres > ONE_CROSSING_M).then(|| metres / seconds.max(1e-3) * 3.6)
}

/// The cameras as points of the unit sphere: a distance costs three products.
struct Map(Vec<Option<[f64; 3]>>);

const EARTH_RADIUS_M: f64 = 6_371_008.8;

impl Map {
    fn new(index: &PassageIndex, positions: &HashMap<CameraId, GeoPoint>) -> Self {
        let point = |camera| positions.get(camera).map(unit);
        Self(index.cameras().iter().map(point).collect())
    }

    fn suspicion(
        &self,
        index: &PassageIndex,
        vehicle: VehicleKey,
        span: TimeSpan,
        settings: &SuspectSettings,
    ) -> Suspect {
        let way = index.way(vehicle).within(span);
        let trips = way.iter().zip(way.iter().skip(1)).enumerate();
        let mut fast: Vec<(f64, usize)> = trips
            .filter_map(|(place, (from, to))| Some((self.kmh(from, to, settings.slack)?, place)))
            .filter(|(kmh, _)| *kmh >= settings.least_kmh)
            .collect();
        fast.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Suspect { vehicle, contradictions: fast.into_iter().map(|(_, place)| place).collect() }
    }

    /// The least speed of a trip; `None` where no distance is known, and at one crossing.
    fn kmh(
        &self,
        from: (Timestamp, CameraKey),
        to: (Timestamp, CameraKey),
        slack: Duration,
    ) -> Option<f64> {
        let a = (*self.0.get(from.1.index())?)?;
        let b = (*self.0.get(to.1.index())?)?;
        let chord = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        let metres = 2.0 * EARTH_RADIUS_M * (chord / 2.0).min(1.0).asin();
        least_kmh(metres, to.0.since(from.0), slack)
    }
}

fn unit(place: &GeoPoint) -> [f64; 3] {
    let (lat, lon) = (place.lat_deg().to_radians(), place.lon_deg().to_radians());
    [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
}

#[cfg(test)]
mod tests {
    use super::super::super::town::{any_passages, camera_id, index_of, position};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the definition, pair by pair, with the distances of the domain.
        #[test]
        fn equals_brute_force(passages in any_passages(60), least_kmh in 20.0f64..300.0, slack in 0u64..9) {
            let index = index_of(&passages);
            let positions: HashMap<_, _> = (0..7).map(|c| (camera_id(c), position(c * 5))).collect();
            let settings =
                SuspectSettings { least_kmh, slack: Duration::from_secs(slack), contradictions_min: 1 };
            let found = suspects(&index, &positions, TimeSpan::ALL, &settings);
            for vehicle in index.vehicle_keys() {
                let way: Vec<_> = index.way(vehicle).iter().collect();
                let fast = |i: &usize| {
                    let at = |(_, camera)| positions.get(index.camera_id(camera).unwrap());
                    let (Some(a), Some(b)) = (at(way[*i]), at(way[i + 1])) else { return false };
                    let seconds = way[i + 1].0.since(way[*i].0).as_secs_f64() + slack as f64;
                    let metres = a.distance_m(b);
                    metres > 100.0 && metres / seconds.max(1e-3) * 3.6 >= least_kmh
                };
                let want: Vec<_> = (0..way.len().saturating_sub(1)).filter(fast).collect();
                let got = found.iter().find(|s| s.vehicle == vehicle);
                let mut got = got.map_or(Vec::new(), |s| s.contradictions.clone());
                got.sort_unstable();
                prop_assert_eq!(got, want);
            }
            for suspect in &found {
                let length = index.way(suspect.vehicle).times.len();
                let places = telling(suspect, length);
                prop_assert!(places.len() <= SIGHTINGS_MAX && places.is_sorted_by(|a, b| a < b));
                prop_assert!(places.iter().all(|p| *p < length));
                let fastest = suspect.contradictions[0];
                prop_assert!(places.contains(&fastest) && places.contains(&(fastest + 1)));
            }
        }
    }
}
