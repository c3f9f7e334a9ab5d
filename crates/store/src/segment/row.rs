//! Sightings on their way into a segment: what the columns say of each, and its record.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use guiji_domain::{CameraId, Sighting, SightingId, StoreError};

use super::cursor::Cursor;
use super::directory::Column;
use super::probability::Doubts;
use super::{Segment, details, ordered, plates};
use crate::codec::{Malformed, Writer};
use crate::codes::Coded;
use crate::errors::damaged;

/// Place in time order: capture time in nanoseconds, then the id.
type Key = (i64, SightingId);

/// What the columns say of a sighting, and its record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(super) captured: i64,
    pub(super) id: SightingId,
    /// The text as `plates.rs` packs it; 0 without.
    pub(super) plate: u64,
    pub(super) camera: &'a CameraId,
    pub(super) traits: u8,
    pub(super) doubts: Doubts,
    pub(super) record: &'a [u8],
}

impl Row<'_> {
    pub(crate) fn key(&self) -> Key {
        (self.captured, self.id)
    }
}

/// What a sighting becomes in a segment, but for its camera's number.
#[derive(Debug, Clone, Copy)]
struct Encoded {
    captured: i64,
    id: SightingId,
    plate: u64,
    traits: u8,
    doubts: Doubts,
}

/// Puts down the record of a final sighting.
fn encode(sighting: &Sighting, records: &mut Writer) -> Result<Encoded, Malformed> {
    let doubts = details::encode(sighting, records)?;
    Ok(Encoded {
        captured: sighting.captured.at.as_nanos(),
        id: sighting.id,
        plate: sighting.plate_text().map_or(0, plates::pack),
        traits: traits(sighting),
        doubts,
    })
}

/// Class and colour as the column says them.
pub(super) fn traits(sighting: &Sighting) -> u8 {
    let class = sighting.vehicle.class.map_or(0, |(class, _)| class.code() + 1);
    let colour = sighting.vehicle.colour.map_or(0, |(colour, _)| colour.code() + 1);
    class | colour << 4
}

/// Makes rows of final sightings, one at a time.
#[derive(Default)]
pub(crate) struct RowMaker(Writer);

impl RowMaker {
    /// The row of a sighting.
    pub(crate) fn row<'a>(&'a mut self, sighting: &'a Sighting) -> Result<Row<'a>, Malformed> {
        self.0.0.clear();
        let Encoded { captured, id, plate, traits, doubts } = encode(sighting, &mut self.0)?;
        let record = &self.0.0;
        Ok(Row { captured, id, plate, camera: &sighting.camera, traits, doubts, record })
    }
}

/// Rows of many sightings, in memory: some 64 bytes each and their records.
#[derive(Default)]
pub(crate) struct Rows {
    entries: Vec<Pushed>,
    records: Writer,
    cameras: Vec<CameraId>,
    numbers: HashMap<CameraId, u32>,
}

struct Pushed {
    row: Encoded,
    camera: u32,
    /// Where its record begins, and its length.
    start: usize,
    length: u32,
}

impl Rows {
    /// Adds a final sighting.
    pub(crate) fn push(&mut self, sighting: &Sighting) -> Result<(), Malformed> {
        let start = self.records.0.len();
        let row = encode(sighting, &mut self.records)?;
        let length = u32::try_from(self.records.0.len() - start);
        let length = length.map_err(|_| Malformed("record of more than 4 GB"))?;
        let next = self.cameras.len() as u32; // one a camera
        let camera = match self.numbers.get(&sighting.camera) {
            Some(number) => *number,
            None => {
                self.numbers.insert(sighting.camera.clone(), next);
                self.cameras.push(sighting.camera.clone());
                next
            }
        };
        self.entries.push(Pushed { row, camera, start, length });
        Ok(())
    }

    /// Bytes of memory that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.records.0.len() + self.entries.len() * size_of::<Pushed>()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keeps the first of each id.
    pub(crate) fn keep_first_of_each(&mut self) {
        let mut order: Vec<(SightingId, u32)> =
            (0..).zip(&self.entries).map(|(at, entry)| (entry.row.id, at)).collect();
        order.sort_unstable();
        let again: Vec<u32> =
            order.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1).collect();
        if !again.is_empty() {
            let again: HashSet<u32> = again.into_iter().collect();
            let mut at = 0..;
            self.entries.retain(|_| at.next().is_none_or(|at| !again.contains(&at)));
        }
    }

    /// Brings them into the order of a segment.
    pub(crate) fn sort(&mut self) {
        // Sightings mostly come in the order of time, which a stable sort is quick to see.
        self.entries.sort_by_key(|entry| (entry.row.captured, entry.row.id));
    }

    /// Drops those whose id is among these.
    pub(crate) fn drop_ids(&mut self, ids: &HashSet<SightingId>) {
        if !ids.is_empty() {
            self.entries.retain(|entry| !ids.contains(&entry.row.id));
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SightingId> {
        self.entries.iter().map(|entry| entry.row.id)
    }

    /// The row at a place.
    pub(crate) fn get(&self, at: usize) -> Option<Row<'_>> {
        let Pushed { row, camera, start, length } = self.entries.get(at)?;
        let Encoded { captured, id, plate, traits, doubts } = *row;
        Some(Row {
            captured,
            id,
            plate,
            camera: self.cameras.get(*camera as usize)?,
            traits,
            doubts,
            record: self.records.0.get(*start..start + *length as usize)?,
        })
    }
}

/// The rows of a segment one after the other, as they lie there. Records are read past the cache, which they would
/// empty, and stay in memory.
pub(crate) struct SegmentRows<'a> {
    cursor: Cursor<'a>,
    row: u32,
    details: HashMap<usize, Arc<[u8]>>,
}

impl<'a> SegmentRows<'a> {
    pub(crate) fn new(segment: &'a Segment) -> Self {
        Self { cursor: Cursor::new(segment), row: 0, details: HashMap::new() }
    }

    /// Calls `each` with every id.
    pub(crate) fn ids(mut self, mut each: impl FnMut(SightingId)) -> Result<(), StoreError> {
        for row in 0..self.cursor.segment().rows() {
            each(self.cursor.key(row)?.1);
        }
        Ok(())
    }

    /// The next row's place in the order; `None` at the end.
    pub(crate) fn key(&mut self) -> Result<Option<Key>, StoreError> {
        if self.row >= self.cursor.segment().rows() {
            return Ok(None);
        }
        self.cursor.key(self.row).map(Some)
    }

    /// The next row, after [`Self::key`] has said that there is one.
    pub(crate) fn take(&mut self) -> Result<Row<'_>, StoreError> {
        let row = self.row;
        self.row += 1;
        let (captured, id) = self.cursor.key(row)?;
        let segment = self.cursor.segment();
        let wrong =
            |reason| damaged(format!("sighting {id} in {}", segment.path.display()), reason);
        let by_plate = segment.directory.layout.by_plate;
        let place = if by_plate { self.cursor.value(Column::Place, row)? as u32 } else { row };
        let block = segment.block_of(place);
        let block = match self.details.entry(block) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(segment.read_details(block)?),
        };
        let plate = self.cursor.value(Column::Plate, row)?;
        let plate = self.cursor.plate(plate)?;
        let camera = self.cursor.value(Column::Camera, row)?;
        let camera = segment.camera(camera).ok_or_else(|| wrong("its camera is none"))?;
        let traits = self.cursor.value(Column::Traits, row)? as u8; // written as a byte
        let (_, record) = self.cursor.split(place, block)?;
        let (plate, doubts) = match &plate {
            None => (0, Doubts::NONE),
            Some((text, chars)) => (plates::pack(text), self.cursor.doubts(place, chars, record)?),
        };
        Ok(Row { captured, id, plate, camera, traits, doubts, record })
    }
}

/// The capture time less the start of the id, as the column says it.
pub(super) fn lag(row: &Row<'_>) -> u64 {
    ordered(row.captured.wrapping_sub(row.id.started().as_nanos()))
}
