//! Stop places (落脚点): where a vehicle stays.
//!
//! A vehicle stayed between two consecutive sightings when the time between them is longer than the trip explains by
//! at least `dwell_min`. What the trip explains: with at least [`TRIPS_MIN`] learnt trips between the two cameras, from
//! the 5 % quantile to twice the upper quartile (robust while less than a quarter of those trips had a stop
//! themselves); else the great-circle distance at `fast_kmh` and at `slow_kmh`; nothing, where no distance is known.
//! The dwell is thus an interval: from `elapsed - longest trip` to `elapsed - shortest trip`.
//!
//! Cameras see a stop only from its sides: it lies somewhere between the two. Stops are gathered by place: the pair of
//! cameras with the most stops begins a place, and every pair whose midpoint lies within `gather_m` of its midpoint
//! belongs to it (one pair is one place where positions are missing).

use std::collections::BTreeMap;
use std::time::Duration;

use guiji_domain::{GeoPoint, TimeSpan, Timestamp};

use super::travel::Roads;
use super::{CameraKey, LocalTime, PassageIndex, VehicleKey};

/// Learnt trips needed before they are believed over the distance.
pub const TRIPS_MIN: u64 = 30;

/// What counts as a stop and as one place.
#[derive(Debug, Clone, PartialEq)]
pub struct StopSettings {
    /// Shortest stop.
    pub dwell_min: Duration,
    /// The slowest ordinary drive where nothing was learnt, km/h.
    pub slow_kmh: f64,
    /// The fastest drive where nothing was learnt, km/h.
    pub fast_kmh: f64,
    /// Radius of a place, metres.
    pub gather_m: f64,
    /// Whose nights.
    pub local: LocalTime,
}

impl Default for StopSettings {
    fn default() -> Self {
        Self {
            dwell_min: Duration::from_secs(30 * 60),
            slow_kmh: 20.0,
            fast_kmh: 120.0,
            gather_m: 700.0,
            local: LocalTime::CHINA,
        }
    }
}

/// A place where a vehicle stayed.
#[derive(Debug, Clone, PartialEq)]
pub struct StopPlace {
    /// The cameras beside it, in order.
    pub cameras: Vec<CameraKey>,
    /// Mean of the midpoints of the stops; `None` when no position is known.
    pub centre: Option<GeoPoint>,
    /// The stops, in order of time.
    pub stops: Vec<Stop>,
    /// Stops that lasted over 03:00 local time: where it spends its nights.
    pub overnight: usize,
}

/// One stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Last seen before it.
    pub before: (Timestamp, CameraKey),
    /// First seen after it.
    pub after: (Timestamp, CameraKey),
    /// It stood at least this long.
    pub dwell_least: Duration,
    /// And at most this long.
    pub dwell_most: Duration,
}

impl StopPlace {
    /// Least total time spent here.
    pub fn dwell_least(&self) -> Duration {
        self.stops.iter().map(|s| s.dwell_least).fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// The stop places of a vehicle within a span: most stops first, then longest, then by cameras.
pub fn stop_places(
    index: &PassageIndex,
    vehicle: VehicleKey,
    span: TimeSpan,
    roads: Roads<'_>,
    settings: &StopSettings,
) -> Vec<StopPlace> {
    let way = index.way(vehicle).within(span);
    let stops = way
        .iter()
        .zip(way.iter().skip(1))
        .filter_map(|(before, after)| stop(index, before, after, roads, settings));
    let mut by_pair: BTreeMap<(CameraKey, CameraKey), Vec<Stop>> = BTreeMap::new();
    for stop in stops {
        let (a, b) = (stop.before.1, stop.after.1);
        by_pair.entry((a.min(b), a.max(b))).or_default().push(stop);
    }
    let mut pairs: Vec<_> = by_pair.into_iter().collect();
    pairs.sort_by_key(|(pair, stops)| (std::cmp::Reverse(stops.len()), *pair));

    let mut places: Vec<(Option<GeoPoint>, Vec<Stop>)> = Vec::new();
    for ((a, b), stops) in pairs {
        let middle = midpoint(index, roads, a, b);
        let near = |first: &Option<GeoPoint>| {
            first.zip(middle).is_some_and(|(first, m)| first.distance_m(&m) <= settings.gather_m)
        };
        match places.iter_mut().find(|(first, _)| near(first)) {
            Some((_, gathered)) => gathered.extend(stops),
            None => places.push((middle, stops)),
        }
    }
    let mut places: Vec<_> =
        places.into_iter().map(|(_, stops)| place(index, stops, roads, settings)).collect();
    places.sort_by(|a, b| {
        let most = b.stops.len().cmp(&a.stops.len());
        most.then(b.dwell_least().cmp(&a.dwell_least())).then_with(|| a.cameras.cmp(&b.cameras))
    });
    places
}

fn stop(
    index: &PassageIndex,
    before: (Timestamp, CameraKey),
    after: (Timestamp, CameraKey),
    roads: Roads<'_>,
    settings: &StopSettings,
) -> Option<Stop> {
    let elapsed = after.0.since(before.0);
    if elapsed < settings.dwell_min {
        return None;
    }
    let (shortest, longest) = trip(index, before, after.1, roads, settings);
    let dwell_least = elapsed.saturating_sub(longest);
    let dwell_most = elapsed.saturating_sub(shortest);
    (dwell_least >= settings.dwell_min).then_some(Stop { before, after, dwell_least, dwell_most })
}

/// The shortest and the longest time that driving explains.
fn trip(
    index: &PassageIndex,
    (left, from): (Timestamp, CameraKey),
    to: CameraKey,
    roads: Roads<'_>,
    settings: &StopSettings,
) -> (Duration, Duration) {
    let nothing = (Duration::ZERO, Duration::ZERO);
    let Some((from, to)) = index.camera_id(from).zip(index.camera_id(to)) else { return nothing };
    if from == to {
        return nothing;
    }
    let learnt = roads.travel.between(from, to, left).filter(|times| times.trips() >= TRIPS_MIN);
    if let Some(times) = learnt {
        return (times.quantile(0.05), times.quantile(0.75).saturating_mul(2));
    }
    let drive = |metres: f64, kmh: f64| Duration::try_from_secs_f64(metres / kmh * 3.6);
    roads.distance_m(from, to).map_or(nothing, |metres| {
        // A speed of zero or below explains any time, and so no stop.
        let longest = drive(metres, settings.slow_kmh).unwrap_or(Duration::MAX);
        (drive(metres, settings.fast_kmh).unwrap_or(Duration::ZERO), longest)
    })
}

fn midpoint(
    index: &PassageIndex,
    roads: Roads<'_>,
    a: CameraKey,
    b: CameraKey,
) -> Option<GeoPoint> {
    let at = |camera| roads.positions.get(index.camera_id(camera)?);
    let (a, b) = (at(a)?, at(b)?);
    mean(&[*a, *b])
}

/// Mean of points near each other. Near the date line it may lie on the other side of the Earth; no county is there.
fn mean(points: &[GeoPoint]) -> Option<GeoPoint> {
    let n = points.len() as f64;
    let lat = points.iter().map(|p| p.lat_deg()).sum::<f64>() / n;
    let lon = points.iter().map(|p| p.lon_deg()).sum::<f64>() / n;
    GeoPoint::new(lat, lon).ok()
}

fn place(
    index: &PassageIndex,
    mut stops: Vec<Stop>,
    roads: Roads<'_>,
    settings: &StopSettings,
) -> StopPlace {
    stops.sort_by_key(|s| (s.before, s.after));
    let mut cameras: Vec<_> = stops.iter().flat_map(|s| [s.before.1, s.after.1]).collect();
    cameras.sort_unstable();
    cameras.dedup();
    let middles: Vec<_> =
        stops.iter().filter_map(|s| midpoint(index, roads, s.before.1, s.after.1)).collect();
    let small_hours = Duration::from_secs(3 * 3600);
    let date = |at: Timestamp| settings.local.day(at.minus(small_hours));
    let overnight = stops.iter().filter(|s| date(s.before.0) != date(s.after.0)).count();
    StopPlace { cameras, centre: mean(&middles), stops, overnight }
}

#[cfg(test)]
mod tests {
    use super::super::town::{
        DAY_S, HOUR_S, any_passages, camera_id, index_of, plate, position, secs, traffic,
    };
    use super::super::travel::TravelTimes;
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn utc() -> StopSettings {
        StopSettings { local: LocalTime::new(0).unwrap(), ..StopSettings::default() }
    }

    proptest! {
        /// Without learnt times, every gap longer than a slow drive by the least dwell is a stop, once, in some place.
        #[test]
        fn equals_brute_force(passages in any_passages(40), dwell in 1i64..2000, known in 0u32..8) {
            let index = index_of(&passages);
            let Some(vehicle) = index.vehicle(&plate(0)) else { return Ok(()) };
            let positions: HashMap<_, _> = (0..known).map(|c| (camera_id(c), position(c))).collect();
            let roads = Roads { travel: &TravelTimes::default(), positions: &positions };
            let settings = StopSettings { dwell_min: Duration::from_secs(dwell as u64), ..utc() };
            let places = stop_places(&index, vehicle, TimeSpan::ALL, roads, &settings);

            let mut rows: Vec<_> = passages.iter().filter(|p| p.0 == 0).map(|p| (p.2, p.1)).collect();
            rows.sort();
            rows.dedup();
            let want: Vec<_> = rows.windows(2).filter(|w| {
                let ((t, a), (u, b)) = (w[0], w[1]);
                let metres = if a < known && b < known { position(a).distance_m(&position(b)) } else { 0.0 };
                (u - t) as f64 - metres / 20.0 * 3.6 >= dwell as f64
            }).map(|w| (secs(w[0].0), secs(w[1].0))).collect();
            let mut got: Vec<_> = places.iter().flat_map(|p| &p.stops).map(|s| (s.before.0, s.after.0)).collect();
            got.sort();
            prop_assert_eq!(got, want);
            for place in &places {
                prop_assert!(place.stops.iter().all(|s| s.dwell_least <= s.dwell_most));
                prop_assert!(place.stops.is_sorted_by_key(|s| s.before));
            }
            prop_assert!(places.is_sorted_by(|a, b| a.stops.len() >= b.stops.len()));
        }
    }

    /// Home is between cameras 7 and 8, work at 28; the drives between them are no stops.
    #[test]
    fn home_and_work_are_found_among_traffic() {
        let mut passages = traffic(400, 8, &mut Noise(5));
        passages.retain(|p| p.0 != 0);
        for day in 0..8 {
            let (out, back) = (day * DAY_S + 9 * HOUR_S, day * DAY_S + 19 * HOUR_S);
            // Out by camera 8, back by 7 on odd days and by 8 on even ones.
            passages.extend([
                (0, 8, out),
                (0, 9, out + 85),
                (0, 10, out + 165),
                (0, 16, out + 250),
                (0, 22, out + 330),
                (0, 28, out + 410),
            ]);
            let last = if day % 2 == 0 { 8 } else { 7 };
            passages.extend([
                (0, 28, back),
                (0, 22, back + 80),
                (0, 16, back + 160),
                (0, last, back + 420),
            ]);
        }
        let index = index_of(&passages);
        let travel = TravelTimes::learn(&index, Duration::from_secs(3600)).unwrap();
        let positions: HashMap<_, _> = (0..36).map(|c| (camera_id(c), position(c))).collect();
        let roads = Roads { travel: &travel, positions: &positions };
        let vehicle = index.vehicle(&plate(0)).unwrap();
        let places = stop_places(&index, vehicle, TimeSpan::ALL, roads, &utc());
        let shown: Vec<_> = places
            .iter()
            .map(|p| {
                let cameras = p
                    .cameras
                    .iter()
                    .map(|c| index.camera_id(*c).unwrap().as_str())
                    .collect::<Vec<_>>();
                (cameras.join(" "), p.stops.len(), p.overnight)
            })
            .collect();
        assert_eq!(shown, [("c028".to_owned(), 8, 0), ("c007 c008".to_owned(), 7, 7)]);
        // Home is half a leg from each camera: 40 s there and 40 s back were driving.
        let night = places[1].stops[1];
        let truth = night.after.0.since(night.before.0) - Duration::from_secs(80);
        assert!(night.dwell_least <= truth && truth <= night.dwell_most, "{night:?}");
        assert!(night.dwell_most - night.dwell_least < Duration::from_secs(300), "{night:?}");
    }
}
