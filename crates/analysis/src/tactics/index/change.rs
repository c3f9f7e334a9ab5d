//! Indexes made from other indexes: with what has come since, or without what may not be seen.

use guiji_domain::{CameraId, InvalidValue, Timestamp};

use super::{PassageIndex, PassageIndexBuilder, Row, camera_order, way_order};

impl PassageIndex {
    /// The passages of both; what is in both is there once. Linear in the size of both: about 0.1 µs a passage.
    ///
    /// # Errors
    /// When both together exceed the limits of [`PassageIndexBuilder::add`].
    pub fn merged(&self, other: &Self) -> Result<Self, InvalidValue> {
        let split = "keep fewer days, or fewer cameras";
        if self.len() + other.len() > u32::MAX as usize {
            let count = self.len() + other.len();
            return Err(InvalidValue::new("passages of an index", count, split));
        }
        let (plates, our_plates, their_plates) = union(&self.plates, &other.plates);
        let (cameras, our_cameras, their_cameras) = union(&self.cameras, &other.cameras);
        if cameras.len() > PassageIndexBuilder::CAMERAS_MAX {
            return Err(InvalidValue::new("cameras of an index", cameras.len(), split));
        }
        let both = |ours: Vec<Row>, theirs: Vec<Row>, order: fn(&Row) -> _| {
            let mut rows = ours;
            renumber(&mut rows, &our_plates, &our_cameras);
            let begins = rows.len();
            rows.extend(theirs);
            renumber(&mut rows[begins..], &their_plates, &their_cameras);
            // Numbers keep their order, so these are two sorted runs, which a stable sort only merges.
            rows.sort_by_key(order);
            rows.dedup();
            rows
        };
        let by_vehicle = both(self.rows_by_vehicle(), other.rows_by_vehicle(), way_order);
        let by_camera = both(self.rows_by_camera(), other.rows_by_camera(), camera_order);
        Ok(Self::assemble(plates, cameras, &by_vehicle, &by_camera))
    }

    /// The passages since a time at the cameras that `sees` accepts: a vehicle that has none left is unknown.
    #[must_use]
    pub fn narrowed(&self, since: Timestamp, sees: impl Fn(&CameraId) -> bool) -> Self {
        let seen: Vec<bool> = self.cameras.iter().map(sees).collect();
        let kept = |mut rows: Vec<Row>| {
            rows.retain(|r| r.at >= since && seen[r.camera as usize]);
            rows
        };
        let (mut by_vehicle, mut by_camera) =
            (kept(self.rows_by_vehicle()), kept(self.rows_by_camera()));
        let (plates, plate_places) = used(&self.plates, by_vehicle.iter().map(|r| r.vehicle));
        let (cameras, camera_places) = used(&self.cameras, by_camera.iter().map(|r| r.camera));
        for rows in [&mut by_vehicle, &mut by_camera] {
            renumber(rows, &plate_places, &camera_places);
        }
        Self::assemble(plates, cameras, &by_vehicle, &by_camera)
    }

    fn rows_by_vehicle(&self) -> Vec<Row> {
        let ways = self.vehicle_keys().flat_map(|vehicle| {
            let row = move |(at, camera): (_, super::CameraKey)| Row {
                at,
                camera: camera.0,
                vehicle: vehicle.0,
            };
            self.way(vehicle).iter().map(row)
        });
        ways.collect()
    }

    fn rows_by_camera(&self) -> Vec<Row> {
        let all = guiji_domain::TimeSpan::ALL;
        let passages = self.camera_keys().flat_map(|camera| {
            let row = move |(at, vehicle): (_, super::VehicleKey)| Row {
                at,
                camera: camera.0,
                vehicle: vehicle.0,
            };
            self.at_camera(camera, all).iter().map(row)
        });
        passages.collect()
    }
}

fn renumber(rows: &mut [Row], plates: &[u32], cameras: &[u32]) {
    for row in rows {
        row.vehicle = plates[row.vehicle as usize];
        row.camera = cameras[row.camera as usize];
    }
}

/// Two lists in order as one, and what the places of each have become.
fn union<T: Ord + Clone>(a: &[T], b: &[T]) -> (Vec<T>, Vec<u32>, Vec<u32>) {
    let mut all = Vec::with_capacity(a.len() + b.len());
    let (mut in_a, mut in_b) = (Vec::with_capacity(a.len()), Vec::with_capacity(b.len()));
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let place = all.len() as u32;
        let take_a = i < a.len() && (j == b.len() || a[i] <= b[j]);
        let take_b = j < b.len() && (i == a.len() || b[j] <= a[i]);
        all.push(if take_a { a[i].clone() } else { b[j].clone() });
        if take_a {
            in_a.push(place);
            i += 1;
        }
        if take_b {
            in_b.push(place);
            j += 1;
        }
    }
    (all, in_a, in_b)
}

/// The names that are used, and what the places of all have become (0 for those that are not).
fn used<T: Clone>(names: &[T], numbers: impl Iterator<Item = u32>) -> (Vec<T>, Vec<u32>) {
    let mut is_used = vec![false; names.len()];
    numbers.for_each(|number| is_used[number as usize] = true);
    let mut places = vec![0; names.len()];
    let mut kept = Vec::new();
    for (place, name) in names.iter().enumerate().filter(|(place, _)| is_used[*place]) {
        places[place] = kept.len() as u32;
        kept.push(name.clone());
    }
    (kept, places)
}

#[cfg(test)]
mod tests {
    use crate::tactics::PassageIndex;
    use crate::tactics::town::{any_passages, camera_id, index_of, secs};
    use proptest::prelude::*;

    fn assert_same(one: &PassageIndex, other: &PassageIndex) {
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }

    proptest! {
        #[test]
        fn merging_equals_building_together(a in any_passages(80), b in any_passages(80)) {
            let b: Vec<_> = b.into_iter().map(|(v, c, t)| (v + 5, c + 3, t)).collect();
            let merged = index_of(&a).merged(&index_of(&b)).unwrap();
            assert_same(&merged, &index_of(&[a, b].concat()));
        }

        #[test]
        fn narrowing_equals_leaving_out(a in any_passages(80), since in 0i64..9000, camera in 0u32..8) {
            let kept: Vec<_> = a.iter().copied().filter(|(_, c, t)| *c != camera && *t >= since).collect();
            let narrowed = index_of(&a).narrowed(secs(since), |c| *c != camera_id(camera));
            assert_same(&narrowed, &index_of(&kept));
        }
    }
}
