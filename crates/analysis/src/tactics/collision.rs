//! Area collisions (区域碰撞): vehicles seen in all of several areas, each at its own time, or in at least *m* of them.
//!
//! An area is a set of cameras with a span of time. A vehicle was in it when one of the cameras saw it within the span.
//! With vehicles numbered, eight areas are the eight bits of one byte a vehicle: a million vehicles are a megabyte,
//! and the answer costs one pass over the passages of the areas.

use guiji_domain::{InvalidValue, TimeSpan, Timestamp};

use super::{CameraKey, Findings, PassageIndex, VehicleKey, within};

/// Where and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// The cameras of the area.
    pub cameras: Vec<CameraKey>,
    /// The time.
    pub span: TimeSpan,
}

/// A vehicle that was in enough of the areas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collision {
    /// Who.
    pub vehicle: VehicleKey,
    /// Per area, in the order asked, the first passage there; `None` where it was not seen.
    pub first_seen: Vec<Option<(Timestamp, CameraKey)>>,
}

impl Collision {
    /// In how many of the areas it was seen.
    pub fn areas(&self) -> usize {
        self.first_seen.iter().flatten().count()
    }
}

/// Most areas of one question.
pub const AREAS_MAX: usize = 8;

/// The vehicles seen in at least `areas_min` of the areas; most areas first, then by plate.
///
/// # Errors
/// When there are no areas or more than [`AREAS_MAX`], or `areas_min` is 0 or more than there are.
pub fn collisions(
    index: &PassageIndex,
    areas: &[Area],
    areas_min: usize,
    results_max: usize,
) -> Result<Findings<Collision>, InvalidValue> {
    within("areas", areas.len(), 1..=AREAS_MAX)?;
    within("areas to be seen in", areas_min, 1..=areas.len())?;
    let mut seen_in = vec![0_u8; index.vehicle_keys().len()];
    for (bit, area) in areas.iter().enumerate() {
        for camera in &area.cameras {
            for vehicle in index.at_camera(*camera, area.span).vehicles {
                seen_in[vehicle.index()] |= 1 << bit;
            }
        }
    }
    let enough: Vec<_> = index
        .vehicle_keys()
        .zip(seen_in)
        .filter(|(_, seen_in)| seen_in.count_ones() as usize >= areas_min)
        .collect();
    let best = Findings::best(enough, results_max, |(a, in_a), (b, in_b)| {
        in_b.count_ones().cmp(&in_a.count_ones()).then(a.cmp(b))
    });
    let first_seen = |vehicle, area: &Area| {
        let mut way = index.way(vehicle).within(area.span).iter();
        way.find(|(_, camera)| area.cameras.contains(camera))
    };
    let found = best.found.into_iter().map(|(vehicle, _)| {
        let first_seen = areas.iter().map(|area| first_seen(vehicle, area)).collect();
        Collision { vehicle, first_seen }
    });
    Ok(Findings { found: found.collect(), cut: best.cut })
}

#[cfg(test)]
mod tests {
    use super::super::town::{any_passages, camera_id, index_of, plate, secs};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_brute_force(
            passages in any_passages(120),
            areas in prop::collection::vec((prop::collection::vec(0u32..8, 1..4), 0i64..6000, 0i64..4000), 1..9),
            m in 1usize..9,
            max in 0usize..14,
        ) {
            let m = m.min(areas.len());
            let index = index_of(&passages);
            let inside = |v: u32, (cameras, from, len): &(Vec<u32>, i64, i64)| {
                let there = |p: &&(u32, u32, i64)| {
                    p.0 == v && cameras.contains(&p.1) && (*from..=from + len).contains(&p.2)
                };
                passages.iter().filter(there).map(|p| (secs(p.2), camera_id(p.1))).min()
            };
            let mut want: Vec<_> = (0..12)
                .map(|v| (plate(v), areas.iter().map(|a| inside(v, a)).collect::<Vec<_>>()))
                .filter(|(_, firsts)| firsts.iter().flatten().count() >= m)
                .collect();
            want.sort_by_key(|(plate, firsts)| (usize::MAX - firsts.iter().flatten().count(), plate.clone()));
            let cut = want.len().saturating_sub(max);
            want.truncate(max);

            let question: Vec<_> = areas.iter().map(|(cameras, from, len)| Area {
                cameras: cameras.iter().filter_map(|c| index.camera(&camera_id(*c))).collect(),
                span: TimeSpan::new(secs(*from), secs(from + len)).unwrap(),
            }).collect();
            let got = collisions(&index, &question, m, max).unwrap();
            let named: Vec<_> = got.found.iter().map(|c| {
                let firsts = c.first_seen.iter().map(|f| f.map(|(at, c)| (at, index.camera_id(c).unwrap().clone())));
                (index.plate(c.vehicle).unwrap().clone(), firsts.collect::<Vec<_>>())
            }).collect();
            prop_assert_eq!((named, got.cut), (want, cut));
        }
    }

    #[test]
    fn limits_are_said() {
        let index = index_of(&[(0, 0, 0)]);
        let area = Area { cameras: index.camera_keys().collect(), span: TimeSpan::ALL };
        assert!(collisions(&index, &[], 1, 9).is_err());
        assert!(collisions(&index, &vec![area.clone(); 9], 1, 9).is_err());
        assert!(collisions(&index, &[area.clone(), area.clone()], 3, 9).is_err());
        assert_eq!(collisions(&index, &[area.clone(), area], 2, 9).unwrap().found[0].areas(), 2);
    }
}
