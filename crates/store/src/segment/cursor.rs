use std::sync::Arc;

use guiji_domain::{PlateChar, PlateText, Sighting, StoreError, Timestamp};

use super::details::{self, Keys};
use super::directory::Column;
use super::find::Key;
use super::packed::{BLOCK_LEN, Packed};
use super::plates::Chars;
use super::read::{Segment, id_from, trait_of};
use super::{plates, unordered};
use crate::errors::damaged;

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

    /// The sighting of a row.
    pub(crate) fn sighting(&mut self, row: u32) -> Result<Sighting, StoreError> {
        let key = self.key(row)?;
        self.sighting_of(row, key)
    }

    /// The same of a row whose [`Self::key`] is known.
    pub(crate) fn sighting_of(&mut self, row: u32, key: Key) -> Result<Sighting, StoreError> {
        let details = self.details(row)?;
        self.decode(row, key, &details)
    }

    /// What the reads of a row say of a plate; 0 where none was read. Quicker than the whole sighting.
    pub(crate) fn probability(&mut self, row: u32, plate: &[PlateChar]) -> Result<f32, StoreError> {
        let number = self.value(Column::Plate, row)?;
        let Some(number) = number.checked_sub(1) else { return Ok(0.0) };
        let read = plates::unpack(self.value(Column::Plates, number as u32)?);
        let details = self.details(row)?;
        let probability = read
            .zip(self.segment.record(row, &details))
            .and_then(|((_, chars), record)| details::probability_of(&chars, plate, record).ok());
        let what = || format!("row {row} in {}", self.segment.path.display());
        probability.ok_or_else(|| damaged(what(), "its reads make no sense"))
    }

    /// The block of details of a row.
    fn details(&mut self, row: u32) -> Result<Arc<[u8]>, StoreError> {
        let block = row as usize / self.segment.directory.details_len;
        if let Some((kept, details)) = &self.details
            && *kept == block
        {
            return Ok(Arc::clone(details));
        }
        let details = self.segment.details(block)?;
        self.details = Some((block, Arc::clone(&details)));
        Ok(details)
    }

    /// The sighting of a row whose key and block of details are given.
    pub(super) fn decode(
        &mut self,
        row: u32,
        key: Key,
        details: &[u8],
    ) -> Result<Sighting, StoreError> {
        let keys = self.keys(row, key)?;
        let id = keys.id;
        let what = || format!("sighting {id} in {}", self.segment.path.display());
        let record = self.segment.record(row, details);
        let record = record.ok_or_else(|| damaged(what(), "its record is cut off"))?;
        details::decode(keys, record).map_err(|reason| damaged(what(), reason))
    }

    fn keys(&mut self, row: u32, (captured, id): Key) -> Result<Keys, StoreError> {
        let segment = self.segment;
        let wrong =
            |reason| damaged(format!("sighting {id} in {}", segment.path.display()), reason);
        let plate = match self.value(Column::Plate, row)? {
            0 => None,
            number => match &self.plate {
                Some((kept, plate)) if *kept == number => Some(plate.clone()),
                _ => {
                    let packed = self.value(Column::Plates, (number - 1) as u32)?;
                    let plate = plates::unpack(packed).ok_or_else(|| wrong("its plate is none"))?;
                    Some(self.plate.insert((number, plate)).1.clone())
                }
            },
        };
        let traits = self.value(Column::Traits, row)?;
        let camera = segment.camera(self.value(Column::Camera, row)?);
        Ok(Keys {
            id,
            captured: Timestamp::from_nanos(captured),
            camera: camera.cloned().ok_or_else(|| wrong("its camera is none"))?,
            plate,
            class: trait_of(traits & 15).ok_or_else(|| wrong("its class is none"))?,
            colour: trait_of(traits >> 4).ok_or_else(|| wrong("its colour is none"))?,
        })
    }
}
