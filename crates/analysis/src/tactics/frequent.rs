//! Frequent passing (频繁过车): vehicles that pass a point or an area again and again within a window.
//!
//! Definition: a vehicle's passages of the cameras within the window, where a passage less than `apart` after the last
//! *counted* one belongs to it: the cameras of one crossing see one visit, not four.

use std::time::Duration;

use guiji_domain::{InvalidValue, TimeSpan, Timestamp};

use super::{CameraKey, Findings, PassageIndex, VehicleKey, within};

/// A vehicle that came often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frequent {
    /// Who.
    pub vehicle: VehicleKey,
    /// How many times it passed.
    pub times: u32,
    /// The first time.
    pub first: Timestamp,
    /// The last time that counted.
    pub last: Timestamp,
}

/// The vehicles with at least `times_min` passages; most first, then by plate.
///
/// # Errors
/// When `times_min` is 0.
pub fn frequent(
    index: &PassageIndex,
    cameras: &[CameraKey],
    window: TimeSpan,
    times_min: u32,
    apart: Duration,
    results_max: usize,
) -> Result<Findings<Frequent>, InvalidValue> {
    within("passages to count as frequent", times_min as usize, 1..=u32::MAX as usize)?;
    let mut cameras = cameras.to_vec();
    cameras.sort_unstable();
    cameras.dedup();
    // Passages count at most once each, so whoever has too few of them needs no closer look.
    let mut passages = vec![0_u32; index.vehicle_keys().len()];
    for camera in &cameras {
        for vehicle in index.at_camera(*camera, window).vehicles {
            passages[vehicle.index()] += 1;
        }
    }
    let often = index
        .vehicle_keys()
        .zip(passages)
        .filter(|(_, passages)| *passages >= times_min)
        .filter_map(|(vehicle, _)| visits(index, vehicle, &cameras, window, apart))
        .filter(|f| f.times >= times_min)
        .collect();
    Ok(Findings::best(often, results_max, |a, b| {
        b.times.cmp(&a.times).then(a.vehicle.cmp(&b.vehicle))
    }))
}

fn visits(
    index: &PassageIndex,
    vehicle: VehicleKey,
    cameras: &[CameraKey],
    window: TimeSpan,
    apart: Duration,
) -> Option<Frequent> {
    let way = index.way(vehicle).within(window).iter();
    way.filter(|(_, camera)| cameras.binary_search(camera).is_ok()).fold(
        None,
        |counted, (at, _)| match counted {
            None => Some(Frequent { vehicle, times: 1, first: at, last: at }),
            Some(f) if at.since(f.last) < apart => Some(f),
            Some(f) => Some(Frequent { times: f.times + 1, last: at, ..f }),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::town::{any_passages, camera_id, index_of, plate, secs};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_brute_force(
            passages in any_passages(150), n in 1u32..6, apart in 0i64..1500, from in 0i64..5000,
        ) {
            let index = index_of(&passages);
            let mut want = Vec::new();
            for v in 0..12 {
                // Two cameras at the same second are two passages; the same camera is one.
                let mut rows: Vec<_> = passages
                    .iter()
                    .filter(|p| p.0 == v && p.1 < 4 && p.2 >= from)
                    .map(|p| (p.2, p.1))
                    .collect();
                rows.sort();
                rows.dedup();
                let mut counted: Vec<i64> = Vec::new();
                for (t, _) in rows {
                    if counted.last().is_none_or(|last| t - last >= apart) {
                        counted.push(t);
                    }
                }
                if counted.len() >= n as usize {
                    want.push((plate(v), counted.len() as u32, secs(counted[0]), secs(*counted.last().unwrap())));
                }
            }
            want.sort_by_key(|(plate, times, _, _)| (u32::MAX - times, plate.clone()));
            let window = TimeSpan::new(secs(from), secs(9000)).unwrap();
            let area: Vec<_> = (0..4).filter_map(|c| index.camera(&camera_id(c))).collect();
            let got = frequent(&index, &area, window, n, Duration::from_secs(apart as u64), 100).unwrap();
            let name = |f: &Frequent| (index.plate(f.vehicle).unwrap().clone(), f.times, f.first, f.last);
            let named: Vec<_> = got.found.iter().map(name).collect();
            prop_assert_eq!(named, want);
        }
    }

    #[test]
    fn zero_times_are_refused() {
        assert!(frequent(&index_of(&[]), &[], TimeSpan::ALL, 0, Duration::ZERO, 1).is_err());
    }
}
