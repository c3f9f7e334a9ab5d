//! The one-vehicle card (一车一档): what the sightings of a vehicle say about it, on one page.

use std::collections::BTreeMap;

use guiji_domain::{TimeSpan, Timestamp};

use super::stops::{StopPlace, StopSettings, stop_places};
use super::travel::Roads;
use super::{CameraKey, PassageIndex, VehicleKey};

/// The summary of a vehicle within a span.
#[derive(Debug, Clone, PartialEq)]
pub struct VehicleCard {
    /// Who.
    pub vehicle: VehicleKey,
    /// Passages.
    pub passages: usize,
    /// First seen.
    pub first: (Timestamp, CameraKey),
    /// Last seen.
    pub last: (Timestamp, CameraKey),
    /// Local dates on which it was seen.
    pub days_active: usize,
    /// Passages by local hour of the day.
    pub hours: [u32; 24],
    /// Cameras with passages, most first, then by id; at most as many as asked for.
    pub cameras: Vec<(CameraKey, u32)>,
    /// Where it stays; see [`stop_places`].
    pub stops: Vec<StopPlace>,
}

/// The card of a vehicle; `None` when it was not seen within the span. Hours and dates are those of the settings of
/// the stops.
pub fn vehicle_card(
    index: &PassageIndex,
    vehicle: VehicleKey,
    span: TimeSpan,
    cameras_max: usize,
    roads: Roads<'_>,
    stops: &StopSettings,
) -> Option<VehicleCard> {
    let way = index.way(vehicle).within(span);
    let (first, last) = (way.iter().next()?, way.iter().next_back()?);
    let (mut hours, mut cameras) = ([0; 24], BTreeMap::<_, u32>::new());
    let mut dates: Vec<_> = way.times.iter().map(|at| stops.local.day(*at)).collect();
    dates.dedup();
    for (at, camera) in way.iter() {
        hours[usize::from(stops.local.hour(at))] += 1;
        *cameras.entry(camera).or_default() += 1;
    }
    let mut cameras: Vec<_> = cameras.into_iter().collect();
    cameras.sort_by_key(|(camera, passages)| (std::cmp::Reverse(*passages), *camera));
    cameras.truncate(cameras_max);
    Some(VehicleCard {
        vehicle,
        passages: way.times.len(),
        first,
        last,
        days_active: dates.len(),
        hours,
        cameras,
        stops: stop_places(index, vehicle, span, roads, stops),
    })
}

#[cfg(test)]
mod tests {
    use super::super::LocalTime;
    use super::super::town::{DAY_S, HOUR_S, camera_id, index_of, plate, secs};
    use super::super::travel::TravelTimes;
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashMap};

    proptest! {
        #[test]
        fn equals_brute_force(
            passages in prop::collection::vec((0u32..3, 0u32..6, 0i64..5 * DAY_S), 0..80),
            from in 0i64..3 * DAY_S, offset in -14i32..=14, max in 0usize..7,
        ) {
            let index = index_of(&passages);
            let Some(vehicle) = index.vehicle(&plate(0)) else { return Ok(()) };
            let settings = StopSettings { local: LocalTime::new(offset * 3600).unwrap(), ..StopSettings::default() };
            let span = TimeSpan::new(secs(from), secs(5 * DAY_S)).unwrap();
            let roads = Roads { travel: &TravelTimes::default(), positions: &HashMap::new() };
            let card = vehicle_card(&index, vehicle, span, max, roads, &settings);

            let rows: BTreeSet<_> = passages.iter().filter(|p| p.0 == 0 && p.2 >= from).map(|p| (p.2, p.1)).collect();
            let Some(card) = card else { prop_assert!(rows.is_empty()); return Ok(()) };
            let local = |t: i64| t + i64::from(offset) * HOUR_S;
            prop_assert_eq!(card.passages, rows.len());
            let name = |(at, c): (Timestamp, CameraKey)| (at, index.camera_id(c).unwrap().clone());
            let ends = [rows.first().unwrap(), rows.last().unwrap()].map(|(t, c)| (secs(*t), camera_id(*c)));
            prop_assert_eq!([name(card.first), name(card.last)], ends);
            let days: BTreeSet<_> = rows.iter().map(|(t, _)| local(*t).div_euclid(DAY_S)).collect();
            prop_assert_eq!(card.days_active, days.len());
            for hour in 0..24 {
                let n = rows.iter().filter(|(t, _)| local(*t).rem_euclid(DAY_S) / HOUR_S == hour).count();
                prop_assert_eq!(card.hours[hour as usize] as usize, n);
            }
            let passed = |c: u32| rows.iter().filter(|r| r.1 == c).count();
            let mut cameras: Vec<_> =
                (0..6).map(|c| (passed(c), camera_id(c))).filter(|c| c.0 > 0).collect();
            cameras.sort_by_key(|(n, c)| (usize::MAX - n, c.clone()));
            cameras.truncate(max);
            let named = card.cameras.iter().map(|(c, n)| (*n as usize, index.camera_id(*c).unwrap().clone()));
            let got: Vec<_> = named.collect();
            prop_assert_eq!(got, cameras);
        }
    }
}
