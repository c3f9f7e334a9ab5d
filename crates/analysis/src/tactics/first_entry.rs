//! First entry (首次入城): a vehicle that comes in after a long absence.
//!
//! Definition: a passage of one of the entry cameras within the window, before which no camera at all saw the vehicle
//! for at least `absence`. Absence can only be claimed where it was watched: the records must reach back `absence`
//! before the window, or the question is refused.

use std::time::Duration;

use guiji_domain::{InvalidValue, TimeSpan, Timestamp};

use super::{CameraKey, Findings, PassageIndex, VehicleKey};

/// A vehicle that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub vehicle: VehicleKey,
    /// Where it came in.
    pub camera: CameraKey,
    /// When.
    pub at: Timestamp,
    /// When it had been seen last; `None` when never since the records began.
    pub last_seen: Option<Timestamp>,
}

/// The entries within a window, in order of time, then camera, then plate. `recorded_since` is when the cameras began
/// to be recorded, and the index must hold everything from `absence` before the window to its end.
///
/// # Errors
/// When the records do not reach back far enough.
pub fn first_entries(
    index: &PassageIndex,
    entry_cameras: &[CameraKey],
    window: TimeSpan,
    absence: Duration,
    recorded_since: Timestamp,
    results_max: usize,
) -> Result<Findings<Entry>, InvalidValue> {
    let needed = window.first().minus(absence);
    if recorded_since > needed {
        let fix = format!(
            "records begin on {recorded_since}: begin the window later or ask for a shorter absence"
        );
        return Err(InvalidValue::new("look-back to", needed, fix));
    }
    let mut cameras = entry_cameras.to_vec();
    cameras.sort_unstable();
    cameras.dedup();
    let mut entries = Vec::new();
    for camera in cameras {
        for (at, vehicle) in index.at_camera(camera, window).iter() {
            let way = index.way(vehicle);
            // The passages before this one in the way's order: time, then camera.
            let earlier = way.times.partition_point(|t| *t < at);
            let ties = way.cameras[earlier..].iter().take_while(|c| **c < camera);
            let before = earlier + ties.count();
            let last_seen = before.checked_sub(1).map(|i| way.times[i]);
            if last_seen.is_none_or(|seen| at.since(seen) >= absence) {
                entries.push(Entry { vehicle, camera, at, last_seen });
            }
        }
    }
    Ok(Findings::best(entries, results_max, |a, b| {
        (a.at, a.camera, a.vehicle).cmp(&(b.at, b.camera, b.vehicle))
    }))
}

#[cfg(test)]
mod tests {
    use super::super::town::{DAY_S, any_passages, camera_id, index_of, plate, secs};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_brute_force(passages in any_passages(80), absence in 1i64..4000, from in 0i64..9000) {
            let index = index_of(&passages);
            let mut rows = passages.clone();
            rows.sort_by_key(|(v, c, at)| (*at, *c, *v));
            rows.dedup();
            let want: Vec<_> = rows
                .iter()
                .filter(|(v, c, at)| {
                    let earlier = |p: &&(u32, u32, i64)| p.0 == *v && (p.2, p.1) < (*at, *c) && at - p.2 < absence;
                    *c < 3 && *at >= from && !rows.iter().any(|p| earlier(&p))
                })
                .map(|(v, c, at)| (plate(*v), camera_id(*c), secs(*at)))
                .collect();
            let window = TimeSpan::new(secs(from), secs(9000)).unwrap();
            let gates: Vec<_> = (0..3).filter_map(|c| index.camera(&camera_id(c))).collect();
            let absence = Duration::from_secs(absence as u64);
            let got = first_entries(&index, &gates, window, absence, Timestamp::MIN, 1000).unwrap();
            let named: Vec<_> = got.found.iter().map(|e| {
                (index.plate(e.vehicle).unwrap().clone(), index.camera_id(e.camera).unwrap().clone(), e.at)
            }).collect();
            prop_assert_eq!(named, want);
        }
    }

    #[test]
    fn a_stranger_and_a_returner_come_in_and_a_resident_does_not() {
        let mut passages: Vec<_> = (0..20).map(|day| (1, 5, day * DAY_S)).collect(); // resident
        passages.extend([
            (1, 0, 20 * DAY_S),
            (2, 0, 20 * DAY_S),
            (3, 4, 0),
            (3, 0, 20 * DAY_S + 1),
        ]);
        let index = index_of(&passages);
        let gate = [index.camera(&camera_id(0)).unwrap()];
        let window = TimeSpan::new(secs(20 * DAY_S), secs(21 * DAY_S)).unwrap();
        let ask = |days: u64, since| {
            first_entries(&index, &gate, window, Duration::from_secs(days * 86_400), since, 10)
        };
        let found = ask(15, secs(0)).unwrap().found;
        let named: Vec<_> =
            found.iter().map(|e| (index.plate(e.vehicle).unwrap().clone(), e.last_seen)).collect();
        assert_eq!(named, [(plate(2), None), (plate(3), Some(secs(0)))]);
        let error = ask(30, secs(0)).unwrap_err().to_string();
        assert!(error.contains("shorter absence"), "{error}");
    }
}
