use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use guiji_domain::{CameraId, InvalidValue, PlateText, TimeSpan, Timestamp};

mod change;

/// A vehicle (by its plate) in one [`PassageIndex`]; numbers follow the order of the plates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VehicleKey(u32);

/// A camera in one [`PassageIndex`]; numbers follow the order of the camera ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CameraKey(u32);

impl VehicleKey {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

impl CameraKey {
    /// Its place in [`PassageIndex::cameras`].
    pub fn number(self) -> usize {
        self.0 as usize
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Passages of vehicles past cameras, in memory, ready for questions.
///
/// Struct of arrays, twice: by camera and time, and by vehicle and time, because each half of the tactics walks one
/// of the two and a jump to the other costs a cache miss per passage. 12 bytes a passage each way (24 in all), plus
/// the dictionaries of plates and cameras. Keys are numbers of one index: never use them with another.
#[derive(Debug, Clone, Default)]
pub struct PassageIndex {
    plates: Vec<PlateText>,
    cameras: Vec<CameraId>,
    /// Where each camera's passages begin in the two arrays after it; one more than cameras.
    camera_starts: Vec<u32>,
    times: Vec<Timestamp>,
    vehicles: Vec<VehicleKey>,
    /// Where each vehicle's passages begin in the two arrays after it; one more than vehicles.
    way_starts: Vec<u32>,
    way_times: Vec<Timestamp>,
    way_cameras: Vec<CameraKey>,
    span: Option<TimeSpan>,
}

/// Passages of one camera in order of time, ties by vehicle.
#[derive(Debug, Clone, Copy)]
pub struct Passages<'a> {
    /// When.
    pub times: &'a [Timestamp],
    /// Who, as many as times.
    pub vehicles: &'a [VehicleKey],
}

/// Passages of one vehicle in order of time, ties by camera.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// When.
    pub times: &'a [Timestamp],
    /// Where, as many as times.
    pub cameras: &'a [CameraKey],
}

impl<'a> Passages<'a> {
    /// The passages one by one.
    pub fn iter(self) -> impl Iterator<Item = (Timestamp, VehicleKey)> + 'a {
        self.times.iter().copied().zip(self.vehicles.iter().copied())
    }
}

impl<'a> Way<'a> {
    /// The passages one by one.
    pub fn iter(
        self,
    ) -> impl DoubleEndedIterator<Item = (Timestamp, CameraKey)> + ExactSizeIterator + 'a {
        self.times.iter().copied().zip(self.cameras.iter().copied())
    }

    /// The part within a span.
    #[must_use]
    pub fn within(self, span: TimeSpan) -> Self {
        let range = rows_within(self.times, span);
        Self { times: &self.times[range.clone()], cameras: &self.cameras[range] }
    }
}

impl PassageIndex {
    /// How many passages there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// From the first passage to the last; `None` when there are none.
    pub fn span(&self) -> Option<TimeSpan> {
        self.span
    }

    /// All plates, in order.
    pub fn plates(&self) -> &[PlateText] {
        &self.plates
    }

    /// All cameras that saw a passage, in order.
    pub fn cameras(&self) -> &[CameraId] {
        &self.cameras
    }

    /// All vehicles, in order of their plates.
    pub fn vehicle_keys(&self) -> impl ExactSizeIterator<Item = VehicleKey> + use<> {
        (0..self.plates.len() as u32).map(VehicleKey)
    }

    /// All cameras, in order.
    pub fn camera_keys(&self) -> impl ExactSizeIterator<Item = CameraKey> + use<> {
        (0..self.cameras.len() as u32).map(CameraKey)
    }

    /// The key of a plate; `None` when it has no passage here.
    pub fn vehicle(&self, plate: &PlateText) -> Option<VehicleKey> {
        self.plates.binary_search(plate).ok().map(|i| VehicleKey(i as u32))
    }

    /// The key of a camera; `None` when it saw no passage.
    pub fn camera(&self, camera: &CameraId) -> Option<CameraKey> {
        self.cameras.binary_search(camera).ok().map(|i| CameraKey(i as u32))
    }

    /// The plate of a vehicle of this index.
    pub fn plate(&self, vehicle: VehicleKey) -> Option<&PlateText> {
        self.plates.get(vehicle.index())
    }

    /// The id of a camera of this index.
    pub fn camera_id(&self, camera: CameraKey) -> Option<&CameraId> {
        self.cameras.get(camera.index())
    }

    /// The passages of a camera within a span; none for a key of another index.
    pub fn at_camera(&self, camera: CameraKey, span: TimeSpan) -> Passages<'_> {
        let rows = slot(&self.camera_starts, camera.index());
        let (times, vehicles) = (&self.times[rows.clone()], &self.vehicles[rows]);
        let range = rows_within(times, span);
        Passages { times: &times[range.clone()], vehicles: &vehicles[range] }
    }

    /// The passages of a vehicle; none for a key of another index.
    pub fn way(&self, vehicle: VehicleKey) -> Way<'_> {
        let rows = slot(&self.way_starts, vehicle.index());
        Way { times: &self.way_times[rows.clone()], cameras: &self.way_cameras[rows] }
    }
}

fn slot(starts: &[u32], i: usize) -> Range<usize> {
    match (starts.get(i), starts.get(i + 1)) {
        (Some(from), Some(to)) => *from as usize..*to as usize,
        _ => 0..0,
    }
}

fn rows_within(times: &[Timestamp], span: TimeSpan) -> Range<usize> {
    let from = times.partition_point(|t| *t < span.first());
    from..from + times[from..].partition_point(|t| *t <= span.last())
}

/// Takes passages in any order.
#[derive(Debug, Default)]
pub struct PassageIndexBuilder {
    plates: Names<PlateText>,
    cameras: Names<CameraId>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    at: Timestamp,
    camera: u32,
    vehicle: u32,
}

impl PassageIndexBuilder {
    /// The most cameras of one index: [`super::travel`] and [`super::forecast`] pack a camera into 20 bits.
    pub const CAMERAS_MAX: usize = 1_000_000;

    /// Adds one passage. The same vehicle, camera and time again is the same passage. Sightings whose plate is in
    /// doubt should be left out or added under the plate that they most likely show: a tactic takes plates as given.
    ///
    /// # Errors
    /// When there are 2^32 - 1 passages already, or [`Self::CAMERAS_MAX`] other cameras.
    pub fn add(
        &mut self,
        plate: &PlateText,
        camera: &CameraId,
        at: Timestamp,
    ) -> Result<(), InvalidValue> {
        let split = "split the passages by day or by area";
        if self.rows.len() >= u32::MAX as usize {
            return Err(InvalidValue::new("passages of an index", self.rows.len(), split));
        }
        let known = self.cameras.numbers.contains_key(camera);
        if !known && self.cameras.numbers.len() >= Self::CAMERAS_MAX {
            return Err(InvalidValue::new("cameras of an index", Self::CAMERAS_MAX, split));
        }
        let (camera, vehicle) = (self.cameras.number(camera), self.plates.number(plate));
        self.rows.push(Row { at, camera, vehicle });
        Ok(())
    }

    /// Sorts everything: about 0.4 µs a passage. The order of adding does not matter.
    pub fn build(self) -> PassageIndex {
        let (plates, plate_rank) = self.plates.sorted();
        let (cameras, camera_rank) = self.cameras.sorted();
        let mut rows = self.rows;
        for row in &mut rows {
            row.vehicle = plate_rank[row.vehicle as usize];
            row.camera = camera_rank[row.camera as usize];
        }
        rows.sort_unstable_by_key(way_order);
        rows.dedup();
        let by_vehicle = rows.clone();
        rows.sort_unstable_by_key(camera_order);
        PassageIndex::assemble(plates, cameras, &by_vehicle, &rows)
    }
}

fn way_order(row: &Row) -> (u32, Timestamp, u32) {
    (row.vehicle, row.at, row.camera)
}

fn camera_order(row: &Row) -> (u32, Timestamp, u32) {
    (row.camera, row.at, row.vehicle)
}

impl PassageIndex {
    /// From the same rows in both orders, without duplicates, numbered by plates and cameras that are in order.
    fn assemble(
        plates: Vec<PlateText>,
        cameras: Vec<CameraId>,
        by_vehicle: &[Row],
        by_camera: &[Row],
    ) -> Self {
        let times: Vec<_> = by_camera.iter().map(|r| r.at).collect();
        let span = times
            .first()
            .map(|first| times.iter().fold(TimeSpan::at(*first), |span, at| span.including(*at)));
        Self {
            camera_starts: starts(by_camera, cameras.len(), |r| r.camera),
            times,
            vehicles: by_camera.iter().map(|r| VehicleKey(r.vehicle)).collect(),
            way_starts: starts(by_vehicle, plates.len(), |r| r.vehicle),
            way_times: by_vehicle.iter().map(|r| r.at).collect(),
            way_cameras: by_vehicle.iter().map(|r| CameraKey(r.camera)).collect(),
            plates,
            cameras,
            span,
        }
    }
}

/// Where each of `n` groups of sorted rows begins, and the end.
fn starts(rows: &[Row], n: usize, group: impl Fn(&Row) -> u32) -> Vec<u32> {
    let mut starts = vec![0; n + 1];
    for row in rows {
        starts[group(row) as usize + 1] += 1;
    }
    for i in 0..n {
        starts[i + 1] += starts[i];
    }
    starts
}

/// Numbers names as they come.
#[derive(Debug)]
struct Names<T> {
    numbers: HashMap<T, u32>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash + Ord> Names<T> {
    fn number(&mut self, name: &T) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(name.clone(), number);
        number
    }

    /// The names in order, and the place of each number in it.
    fn sorted(self) -> (Vec<T>, Vec<u32>) {
        let mut numbered: Vec<_> = self.numbers.into_iter().collect();
        numbered.sort_unstable();
        let mut rank = vec![0; numbered.len()];
        for (place, (_, number)) in (0..).zip(&numbered) {
            rank[*number as usize] = place;
        }
        (numbered.into_iter().map(|(name, _)| name).collect(), rank)
    }
}

#[cfg(test)]
mod tests {
    use super::super::town::{any_passages, camera_id, index_of, plate};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_a_filtered_list(passages in any_passages(60), from in 0i64..5000, len in 0i64..3000) {
            let index = index_of(&passages);
            let span =
                TimeSpan::new(Timestamp::from_secs(from), Timestamp::from_secs(from + len)).unwrap();
            let mut rows = passages.clone();
            rows.sort_unstable();
            rows.dedup();
            prop_assert_eq!(index.len(), rows.len());
            for c in 0..8 {
                let mut want: Vec<_> = rows
                    .iter()
                    .filter(|(_, camera, at)| *camera == c && span.contains(Timestamp::from_secs(*at)))
                    .map(|(v, _, at)| (Timestamp::from_secs(*at), plate(*v)))
                    .collect();
                want.sort();
                let passages = index.camera(&camera_id(c)).map(|key| index.at_camera(key, span));
                let named = |(at, v)| (at, index.plate(v).unwrap().clone());
                let got: Vec<_> = passages.into_iter().flat_map(Passages::iter).map(named).collect();
                prop_assert_eq!(got, want);
            }
            for v in 0..12 {
                let mut want: Vec<_> = rows
                    .iter()
                    .filter(|(vehicle, _, _)| *vehicle == v)
                    .map(|(_, c, at)| (Timestamp::from_secs(*at), camera_id(*c)))
                    .collect();
                want.sort();
                let way = index.vehicle(&plate(v)).map(|key| index.way(key));
                let named = |(at, c)| (at, index.camera_id(c).unwrap().clone());
                let got: Vec<_> = way.into_iter().flat_map(Way::iter).map(named).collect();
                prop_assert_eq!(got, want);
            }
            let mut reversed = passages.clone();
            reversed.reverse();
            prop_assert_eq!(format!("{:?}", index_of(&reversed)), format!("{index:?}"), "order of adding");
        }
    }

    #[test]
    fn nothing_in_nothing_out() {
        let index = PassageIndexBuilder::default().build();
        assert!(index.is_empty() && index.span().is_none());
        let other = index_of(&[(1, 1, 1)]);
        let key = other.vehicle(&plate(1)).unwrap();
        assert_eq!(index.way(key).times.len(), 0, "a key of another index finds nothing");
    }
}
