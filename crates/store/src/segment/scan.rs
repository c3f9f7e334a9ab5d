//! Going through a segment column by column: no record is unpacked, and no block is put into the cache, which a scan
//! would only empty.

use guiji_domain::{PlatePassage, PlateText, StoreError, TimeSpan, Timestamp};

use super::directory::Column;
use super::packed::{BLOCK_LEN, Packed, padded};
use super::read::{Segment, trait_of};
use super::{plates, unordered};
use crate::errors::damaged;

impl Segment {
    /// Calls `visit` with the rows of a span that have a plate, in order of time.
    pub(crate) fn passages(
        &self,
        span: TimeSpan,
        visit: &mut dyn FnMut(&PlatePassage<'_>),
    ) -> Result<(), StoreError> {
        let first = self.first_captured_from(span.first().as_nanos())? as usize;
        let end = match span.last().as_nanos().checked_add(1) {
            Some(after) => self.first_captured_from(after)? as usize,
            None => self.rows() as usize,
        };
        if first >= end {
            return Ok(());
        }
        let wrong = |what| damaged(self.path.display(), what);
        let texts = self.texts()?;
        for block in first / BLOCK_LEN..=(end - 1) / BLOCK_LEN {
            let column = |column| self.unkept(column, block);
            let (captured, plate) = (column(Column::Captured)?, column(Column::Plate)?);
            let (camera, traits) = (column(Column::Camera)?, column(Column::Traits)?);
            let begins = block * BLOCK_LEN;
            for at in first.max(begins) - begins..(end - begins).min(BLOCK_LEN) {
                let Some(number) = plate.get(at).checked_sub(1) else { continue };
                let text = usize::try_from(number).ok().and_then(|number| texts.get(number));
                let traits = traits.get(at);
                visit(&PlatePassage {
                    plate: text.ok_or_else(|| wrong("a plate is none"))?,
                    camera: self.camera(camera.get(at)).ok_or_else(|| wrong("a camera is none"))?,
                    at: Timestamp::from_nanos(unordered(captured.get(at))),
                    class: trait_of(traits & 15).ok_or_else(|| wrong("a class is none"))?,
                    colour: trait_of(traits >> 4).ok_or_else(|| wrong("a colour is none"))?,
                });
            }
        }
        Ok(())
    }

    /// The dictionary of plates.
    fn texts(&self) -> Result<Vec<PlateText>, StoreError> {
        let count = self.directory.count(Column::Plates) as usize;
        let mut texts = Vec::with_capacity(count);
        for block in 0..count.div_ceil(BLOCK_LEN) {
            let numbers = self.unkept(Column::Plates, block)?;
            for at in 0..(count - block * BLOCK_LEN).min(BLOCK_LEN) {
                let (text, _) = plates::unpack(numbers.get(at))
                    .ok_or_else(|| damaged(self.path.display(), "a plate is none"))?;
                texts.push(text);
            }
        }
        Ok(texts)
    }

    fn unkept(&self, column: Column, block: usize) -> Result<Packed, StoreError> {
        let frame = self.directory.blocks(column).frames.get(block);
        let frame =
            frame.ok_or_else(|| damaged(self.path.display(), "a row points behind its end"))?;
        Ok(Packed::new(*frame, padded(self.read_block(column, block)?)))
    }
}
