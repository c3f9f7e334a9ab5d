use std::fmt::Display;
use std::sync::Arc;

use guiji_domain::{PlateChar, PlateText, Sighting, StoreError, Timestamp};

use super::details::{self, Head, Keys};
use super::directory::Column;
use super::find::Key;
use super::packed::{BLOCK_LEN, Packed};
use super::plates::Chars;
use super::probability::Doubts;
use super::read::{Segment, id_from, trait_of};
use super::{plates, unordered};
use crate::errors::damaged;

/// Where a sighting is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    /// By its row.
    Row(u32),
    /// By its place in the order of plates, and its plate's number in the dictionary: its record can be had without looking
    /// into columns.
    OfPlate { place: u32, plate: u32 },
}

/// Reads rows of a segment. Keeps the last block of each column and of the details at hand: what is read together
/// mostly lies together.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    segment: &'a Segment,
    blocks: [Option<(usize, Packed)>; Column::ALL.len()],
    details: Option<(usize, Arc<[u8]>)>,
    /// The last plate, by its number: rows of one plate mostly come together.
    plate: Option<(u64, (PlateText, Chars))>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(segment: &'a Segment) -> Self {
        Self { segment, blocks: Default::default(), details: None, plate: None }
    }

    /// The segment.
    pub(super) fn segment(&self) -> &'a Segment {
        self.segment
    }

    /// A number of a column.
    pub(super) fn value(&mut self, column: Column, at: u32) -> Result<u64, StoreError> {
        let (block, at) = (at as usize / BLOCK_LEN, at as usize % BLOCK_LEN);
        let kept = &mut self.blocks[column as usize];
        if let Some((kept, packed)) = kept
            && *kept == block
        {
            return Ok(packed.get(at));
        }
        let packed = self.segment.block(column, block)?;
        let value = packed.get(at);
        *kept = Some((block, packed));
        Ok(value)
    }

    /// A row's capture time and id.
    pub(super) fn key(&mut self, row: u32) -> Result<Key, StoreError> {
        let captured = unordered(self.value(Column::Captured, row)?);
        let lag = unordered(self.value(Column::Lag, row)?);
        let tail = self.value(Column::Tail, row)?;
        Ok((captured, id_from(captured.wrapping_sub(lag), tail)))
    }

    /// What the head of the record of a place says, where records have one.
    pub(super) fn head(&mut self, place: u32) -> Result<Option<Head>, StoreError> {
        if !self.segment.directory.layout.by_plate {
            return Ok(None);
        }
        let details = self.details(place)?;
        self.split(place, &details).map(|(head, _)| head)
    }

    /// The sighting of a row.
    pub(crate) fn sighting(&mut self, spot: Spot) -> Result<Sighting, StoreError> {
        let (place, plate) = self.find(spot)?;
        let details = self.details(place)?;
        self.decode(place, plate, &details)
    }

    /// What the reads of a row say of a plate; 0 where none was read. Quicker than the whole sighting.
    pub(crate) fn probability(
        &mut self,
        spot: Spot,
        plate: &[PlateChar],
    ) -> Result<f32, StoreError> {
        let (place, number) = self.find(spot)?;
        let Some((_, chars)) = self.plate(number)? else { return Ok(0.0) };
        let details = self.details(place)?;
        let (_, body) = self.split(place, &details)?;
        details::probability_of(&chars, plate, body)
            .map_err(|_| self.wrong_record(place, "its reads make no sense"))
    }

    /// What other texts may have of the record of a place, by what it says behind its head.
    pub(super) fn doubts(
        &self,
        place: u32,
        chars: &[PlateChar],
        body: &[u8],
    ) -> Result<Doubts, StoreError> {
        details::doubts(chars, body).map_err(|why| self.wrong_record(place, why))
    }

    /// Where the record of a row lies, and the number of its plate plus 1.
    fn find(&mut self, spot: Spot) -> Result<(u32, u64), StoreError> {
        let by_plate = self.segment.directory.layout.by_plate;
        Ok(match spot {
            Spot::Row(row) => {
                let plate = self.value(Column::Plate, row)?;
                (if by_plate { self.value(Column::Place, row)? as u32 } else { row }, plate)
            }
            Spot::OfPlate { place, plate } => {
                let at = if by_plate { place } else { self.value(Column::ByPlate, place)? as u32 };
                (at, u64::from(plate) + 1)
            }
        })
    }

    /// The block of details with the record of a place.
    fn details(&mut self, place: u32) -> Result<Arc<[u8]>, StoreError> {
        let block = self.segment.block_of(place);
        if let Some((kept, details)) = &self.details
            && *kept == block
        {
            return Ok(Arc::clone(details));
        }
        let details = self.segment.details(block)?;
        self.details = Some((block, Arc::clone(&details)));
        Ok(details)
    }

    /// The record of a place: its head, where records have one, and the rest.
    pub(super) fn split<'b>(
        &self,
        place: u32,
        details: &'b [u8],
    ) -> Result<(Option<Head>, &'b [u8]), StoreError> {
        let record = self.segment.record(place, details);
        let record = record.ok_or_else(|| self.wrong_record(place, "it is cut off"))?;
        if !self.segment.directory.layout.by_plate {
            return Ok((None, record));
        }
        let (first, _) = self.segment.directory.captured;
        let parts = Head::split(first, record).map_err(|why| self.wrong_record(place, why))?;
        Ok((Some(parts.0), parts.1))
    }

    fn wrong_record(&self, place: u32, reason: impl Display) -> StoreError {
        damaged(format!("the record at {place} in {}", self.segment.path.display()), reason)
    }

    /// The sighting whose record lies at a place of its block of details, and the number of its plate plus 1.
    pub(super) fn decode(
        &mut self,
        place: u32,
        plate: u64,
        details: &[u8],
    ) -> Result<Sighting, StoreError> {
        let segment = self.segment;
        let (head, body) = self.split(place, details)?;
        let head = match head {
            Some(head) => head,
            // Records lie in the order of rows then.
            None => Head {
                key: self.key(place)?,
                camera: self.value(Column::Camera, place)?,
                traits: self.value(Column::Traits, place)?,
            },
        };
        let (captured, id) = head.key;
        let wrong = |reason: &dyn Display| {
            damaged(format!("sighting {id} in {}", segment.path.display()), reason)
        };
        let keys = Keys {
            id,
            captured: Timestamp::from_nanos(captured),
            camera: segment
                .camera(head.camera)
                .cloned()
                .ok_or_else(|| wrong(&"its camera is none"))?,
            plate: self.plate(plate)?,
            class: trait_of(head.traits & 15).ok_or_else(|| wrong(&"its class is none"))?,
            colour: trait_of(head.traits >> 4).ok_or_else(|| wrong(&"its colour is none"))?,
        };
        details::decode(keys, body).map_err(|reason| wrong(&reason))
    }

    /// The plate whose number plus 1 is given; `None` for 0.
    pub(super) fn plate(&mut self, number: u64) -> Result<Option<(PlateText, Chars)>, StoreError> {
        let Some(at) = number.checked_sub(1) else { return Ok(None) };
        if let Some((kept, plate)) = &self.plate
            && *kept == number
        {
            return Ok(Some(plate.clone()));
        }
        let packed = self.value(Column::Plates, at as u32)?;
        let wrong = || damaged(self.segment.path.display(), "a plate is none");
        let plate = plates::unpack(packed).ok_or_else(wrong)?;
        Ok(Some(self.plate.insert((number, plate)).1.clone()))
    }
}
