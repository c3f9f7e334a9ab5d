//! The directory of a segment: what it holds, and where.
//!
//! ```text
//! directory rows var, first and last capture time i64, cameras var, names str..., plates var, rows with a plate var,
//!           lengths of the details with their CRC-32 var...,
//!           for each column, for each block: least number u64, bits a number u8
//! ```
//! Details follow each other from the beginning of the file on, blocks follow the details; the columns stand in the
//! order of [`Column`].

use guiji_domain::CameraId;

use super::packed::{BLOCK_LEN, Frame};
use super::{Layout, MAGIC};
use crate::codec::{Malformed, Reader, Writer};

/// The columns, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Captured,
    Lag,
    Tail,
    Plate,
    Camera,
    Traits,
    Doubt,
    ById,
    ByCamera,
    ByPlate,
    Plates,
    PlateEnds,
    CameraEnds,
    Place,
    PlatePlaces,
}

impl Column {
    pub(super) const ALL: [Self; 15] = [
        Self::Captured,
        Self::Lag,
        Self::Tail,
        Self::Plate,
        Self::Camera,
        Self::Traits,
        Self::Doubt,
        Self::ById,
        Self::ByCamera,
        Self::ByPlate,
        Self::Plates,
        Self::PlateEnds,
        Self::CameraEnds,
        Self::Place,
        Self::PlatePlaces,
    ];
}

/// Bytes of a CRC-32.
pub(super) const CHECKSUM_LEN: u64 = 4;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Directory {
    pub(super) rows: u32,
    /// Earliest and latest, nanoseconds; zero without rows.
    pub(super) captured: (i64, i64),
    pub(super) cameras: Vec<CameraId>,
    pub(super) plates: u32,
    pub(super) plated_rows: u32,
    pub(super) layout: Layout,
    /// Where each compressed block of details begins, and where the last ends; checksums included.
    pub(super) details: Vec<u64>,
    pub(super) columns: Vec<Blocks>,
}

/// The blocks of a column.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Blocks {
    pub(super) frames: Vec<Frame>,
    /// Where each begins.
    pub(super) starts: Vec<u64>,
}

impl Directory {
    /// How many numbers a column has.
    pub(super) fn count(&self, column: Column) -> u32 {
        match column {
            Column::Captured
            | Column::Lag
            | Column::Tail
            | Column::Plate
            | Column::Camera
            | Column::Traits
            | Column::ById
            | Column::ByCamera => self.rows,
            Column::ByPlate | Column::Place if self.layout.by_plate => self.rows,
            Column::Doubt if self.layout.by_plate => self.plated_rows,
            Column::PlatePlaces if self.layout.by_plate => self.plates,
            Column::Doubt => self.rows,
            Column::ByPlate => self.plated_rows,
            Column::Place | Column::PlatePlaces => 0,
            Column::Plates | Column::PlateEnds => self.plates,
            Column::CameraEnds => self.cameras.len() as u32, // no more than rows
        }
    }

    pub(super) fn blocks(&self, column: Column) -> &Blocks {
        &self.columns[column as usize]
    }

    /// How many numbers a block of a column has.
    pub(super) fn block_len(&self, column: Column, block: usize) -> usize {
        (self.count(column) as usize).saturating_sub(block * BLOCK_LEN).min(BLOCK_LEN)
    }

    /// Where the last block ends.
    pub(super) fn end(&self) -> u64 {
        let last = Column::ALL.iter().rev().find_map(|column| {
            let blocks = self.blocks(*column);
            let (start, frame) = (blocks.starts.last()?, blocks.frames.last()?);
            let count = self.block_len(*column, blocks.frames.len() - 1);
            Some(start + frame.bytes(count) as u64 + CHECKSUM_LEN)
        });
        last.or(self.details.last().copied()).unwrap_or(MAGIC.len() as u64)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.var(u64::from(self.rows));
        out.i64(self.captured.0);
        out.i64(self.captured.1);
        out.var(self.cameras.len() as u64);
        self.cameras.iter().for_each(|camera| out.str(camera.as_str()));
        out.var(u64::from(self.plates));
        out.var(u64::from(self.plated_rows));
        self.details.windows(2).for_each(|ends| out.var(ends[1] - ends[0]));
        for frame in self.columns.iter().flat_map(|blocks| &blocks.frames) {
            out.bytes(&frame.min.to_le_bytes());
            out.byte(frame.width);
        }
        out.0
    }

    pub(super) fn decode(bytes: &[u8], layout: Layout) -> Result<Self, Malformed> {
        let mut input = Reader(bytes);
        let rows = input.var_u32("row count")?;
        let captured = (input.i64()?, input.i64()?);
        let mut cameras = Vec::new();
        for _ in 0..input.var()? {
            cameras.push(CameraId::new(input.str()?).map_err(|_| Malformed("camera"))?);
        }
        let plates = input.var_u32("plate count")?;
        let plated_rows = input.var_u32("count of rows with a plate")?;
        if plates > plated_rows || plated_rows > rows || cameras.len() > rows as usize {
            return Err(Malformed("counts"));
        }
        let mut end = MAGIC.len() as u64;
        let mut details = vec![end];
        for _ in 0..(rows as usize).div_ceil(layout.details_len) {
            end = end.checked_add(input.var()?).ok_or(Malformed("place"))?;
            details.push(end);
        }
        let columns = Vec::new();
        let mut directory =
            Self { rows, captured, cameras, plates, plated_rows, layout, details, columns };
        for column in Column::ALL {
            let mut blocks = Blocks::default();
            for block in 0..(directory.count(column) as usize).div_ceil(BLOCK_LEN) {
                let frame = Frame { min: u64::from_le_bytes(input.array()?), width: input.byte()? };
                if frame.width > 64 {
                    return Err(Malformed("width"));
                }
                blocks.frames.push(frame);
                blocks.starts.push(end);
                let bytes = frame.bytes(directory.block_len(column, block)) as u64;
                end = end.checked_add(bytes + CHECKSUM_LEN).ok_or(Malformed("place"))?;
            }
            directory.columns.push(blocks);
        }
        input.end()?;
        Ok(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_panics_on_any_bytes(bytes: Vec<u8>, rows in 0u8..9) {
            drop(Directory::decode(&bytes, Layout::NEWEST));
            let mut head = vec![0; 20];
            (head[0], head[18], head[19]) = (rows, rows, rows);
            let bytes: Vec<_> = head.into_iter().chain(bytes).collect();
            drop(Directory::decode(&bytes, Layout::NEWEST));
        }
    }
}
