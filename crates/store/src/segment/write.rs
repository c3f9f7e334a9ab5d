use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use guiji_domain::{CameraId, PlateState, Sighting, SightingId, SightingStage, StoreError};

use super::directory::{Blocks, CHECKSUM_LEN, Column, Directory};
use super::packed::{BLOCK_LEN, Frame, pack};
use super::{DETAILS_LEN, END_MAGIC, MAGIC, checksum, details, ordered, plates, probability};
use crate::codec::{Malformed, Reader, Writer};
use crate::codes::Coded;
use crate::errors::io_at;
use crate::schema::sync_folder_of;

const DOING: &str = "seal a day";
/// More takes longer and saves little.
const ZSTD_LEVEL: i32 = 3;

/// Writes a segment, sighting by sighting. Keeps some 40 bytes a sighting in memory until it is finished.
pub(crate) struct SegmentWriter {
    path: PathBuf,
    file: BufWriter<File>,
    end: u64,
    /// The last sighting's place in the order.
    last: Option<(i64, SightingId)>,
    captured: Vec<u64>,
    lag: Vec<u64>,
    tail: Vec<u64>,
    /// In the order of their coming, plus one; 0 without.
    plate: Vec<u32>,
    camera: Vec<u32>,
    traits: Vec<u8>,
    doubt: Vec<u8>,
    plates: HashMap<u64, u32>,
    cameras: HashMap<CameraId, u32>,
    /// Records that wait to be compressed together, and their lengths.
    pending: Writer,
    lengths: Vec<u32>,
    details: Vec<u64>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl SegmentWriter {
    /// Begins a file, over whatever is there.
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let failed = io_at(DOING, path);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(&failed)?;
        let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(&failed)?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 18, file),
            end: 0,
            last: None,
            captured: Vec::new(),
            lag: Vec::new(),
            tail: Vec::new(),
            plate: Vec::new(),
            camera: Vec::new(),
            traits: Vec::new(),
            doubt: Vec::new(),
            plates: HashMap::new(),
            cameras: HashMap::new(),
            pending: Writer::default(),
            lengths: Vec::new(),
            details: vec![MAGIC.len() as u64],
            compressor,
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    /// The next sighting, in the order of `(captured, id)`.
    ///
    /// # Errors
    /// When it is out of order or not final, its record is too long, or the medium fails.
    pub(crate) fn push(&mut self, sighting: &Sighting) -> Result<(), StoreError> {
        let (captured, id) = (sighting.captured.at.as_nanos(), sighting.id);
        let refused = |reason: &str| StoreError::Medium {
            doing: DOING,
            reason: format!("sighting {id} {reason}"),
        };
        if self.last.is_some_and(|last| last >= (captured, id)) {
            return Err(refused("is out of order"));
        }
        if sighting.stage != SightingStage::Final || self.captured.len() >= u32::MAX as usize {
            return Err(refused("is not final, or one too many"));
        }
        let before = self.pending.0.len();
        details::encode(sighting, &mut self.pending);
        let length = u32::try_from(self.pending.0.len() - before)
            .map_err(|_| refused("has a record of more than 4 GB"))?;
        self.lengths.push(length);
        self.last = Some((captured, id));
        self.captured.push(ordered(captured));
        self.lag.push(ordered(captured.wrapping_sub(id.started().as_nanos())));
        self.tail.push(id.as_u128() as u64);
        let next = self.plates.len() as u32 + 1;
        self.plate.push(
            sighting
                .plate_text()
                .map_or(0, |text| *self.plates.entry(plates::pack(text)).or_insert(next)),
        );
        let next = self.cameras.len() as u32;
        self.camera.push(*self.cameras.entry(sighting.camera.clone()).or_insert(next));
        self.traits.push(traits(sighting));
        self.doubt.push(doubt(sighting).map_err(|reason| refused(&reason.to_string()))?);
        if self.lengths.len() == DETAILS_LEN {
            self.put_details()?;
        }
        Ok(())
    }

    /// Writes the rest. The file and its name are durable when it returns.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        if !self.lengths.is_empty() {
            self.put_details()?;
        }
        let dictionary = self.sort_plates();
        let cameras = self.sort_cameras();
        let rows = self.captured.len() as u32; // checked in `push`
        let count = |ends: &[u64]| ends.last().map_or(0, |rows| *rows as u32);

        let mut columns = Vec::with_capacity(Column::ALL.len());
        let captured = std::mem::take(&mut self.captured);
        let (lag, tail) = (std::mem::take(&mut self.lag), std::mem::take(&mut self.tail));
        let (plate, camera) = (std::mem::take(&mut self.plate), std::mem::take(&mut self.camera));
        let (traits, doubt) = (std::mem::take(&mut self.traits), std::mem::take(&mut self.doubt));
        columns.push(self.put_column(captured.iter().copied())?);
        columns.push(self.put_column(lag.iter().copied())?);
        columns.push(self.put_column(tail.iter().copied())?);
        columns.push(self.put_column(plate.iter().map(|p| u64::from(*p)))?);
        columns.push(self.put_column(camera.iter().map(|c| u64::from(*c)))?);
        columns.push(self.put_column(traits.iter().map(|t| u64::from(*t)))?);
        columns.push(self.put_column(doubt.iter().map(|d| u64::from(*d)))?);

        let mut order: Vec<u32> = (0..rows).collect();
        order.sort_unstable_by_key(|row| {
            let row = *row as usize;
            // The start of the id, in the order of the id.
            (super::unordered(captured[row]).wrapping_sub(super::unordered(lag[row])), tail[row])
        });
        columns.push(self.put_column(order.iter().map(|row| u64::from(*row)))?);
        drop(order);
        let (by_camera, camera_ends) = postings(camera.iter().copied(), cameras.len());
        columns.push(self.put_column(by_camera.into_iter().map(u64::from))?);
        let keys = plate.iter().map(|plate| plate.wrapping_sub(1));
        let (by_plate, plate_ends) = postings(keys, dictionary.len());
        columns.push(self.put_column(by_plate.into_iter().map(u64::from))?);
        columns.push(self.put_column(dictionary.iter().copied())?);
        columns.push(self.put_column(plate_ends.iter().copied())?);
        columns.push(self.put_column(camera_ends.iter().copied())?);

        let edge = |at: Option<&u64>| at.copied().map_or(0, super::unordered);
        let directory = Directory {
            rows,
            captured: (edge(captured.first()), edge(captured.last())),
            cameras,
            plates: dictionary.len() as u32,
            plated_rows: count(&plate_ends),
            details: std::mem::take(&mut self.details),
            columns,
        };
        let start = self.end;
        self.put_checked(&directory.encode())?;
        let mut trailer = Writer::default();
        trailer.bytes(&start.to_le_bytes());
        trailer.bytes(&(self.end - start).to_le_bytes());
        let sum = checksum(self.end, &trailer.0);
        trailer.bytes(&sum.to_le_bytes());
        trailer.bytes(END_MAGIC);
        self.put(&trailer.0)?;

        let Self { path, file, .. } = self;
        let file = file.into_inner().map_err(|error| io_at(DOING, &path)(error.into_error()))?;
        file.sync_all().map_err(io_at(DOING, &path))?;
        sync_folder_of(&path)
    }

    /// Numbers the plates by their order, here and in the column; the dictionary.
    fn sort_plates(&mut self) -> Vec<u64> {
        let mut sorted: Vec<(u64, u32)> = std::mem::take(&mut self.plates).into_iter().collect();
        sorted.sort_unstable();
        let mut renamed = vec![0; sorted.len() + 1];
        for ((_, old), new) in sorted.iter().zip(1..) {
            renamed[*old as usize] = new;
        }
        self.plate.iter_mut().for_each(|plate| *plate = renamed[*plate as usize]);
        sorted.into_iter().map(|(text, _)| text).collect()
    }

    /// Likewise the cameras.
    fn sort_cameras(&mut self) -> Vec<CameraId> {
        let mut sorted: Vec<_> = std::mem::take(&mut self.cameras).into_iter().collect();
        sorted.sort_unstable();
        let mut renamed = vec![0; sorted.len()];
        for ((_, old), new) in sorted.iter().zip(0..) {
            renamed[*old as usize] = new;
        }
        self.camera.iter_mut().for_each(|camera| *camera = renamed[*camera as usize]);
        sorted.into_iter().map(|(camera, _)| camera).collect()
    }

    fn put_details(&mut self) -> Result<(), StoreError> {
        let mut block = Vec::with_capacity(self.pending.0.len() + 4 * DETAILS_LEN);
        self.lengths.drain(..).for_each(|length| block.extend_from_slice(&length.to_le_bytes()));
        block.append(&mut self.pending.0);
        let size = u32::try_from(block.len()).map_err(|_| StoreError::Medium {
            doing: DOING,
            reason: format!("{DETAILS_LEN} sightings have records of more than 4 GB"),
        })?;
        let mut content = size.to_le_bytes().to_vec();
        let compressed = self.compressor.compress(&block).map_err(io_at(DOING, &self.path))?;
        content.extend_from_slice(&compressed);
        self.put_checked(&content)?;
        self.details.push(self.end);
        Ok(())
    }

    fn put_column(&mut self, numbers: impl Iterator<Item = u64>) -> Result<Blocks, StoreError> {
        let mut blocks = Blocks::default();
        let (mut numbers, mut block, mut out) =
            (numbers, Vec::with_capacity(BLOCK_LEN), Vec::new());
        loop {
            block.clear();
            block.extend(numbers.by_ref().take(BLOCK_LEN));
            if block.is_empty() {
                return Ok(blocks);
            }
            let frame = Frame::of(&block);
            out.clear();
            pack(&block, frame, &mut out);
            blocks.frames.push(frame);
            blocks.starts.push(self.end);
            self.put_checked(&out)?;
        }
    }

    fn put_checked(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        const { assert!(CHECKSUM_LEN == size_of::<u32>() as u64) };
        let sum = checksum(self.end, bytes);
        self.put(bytes)?;
        self.put(&sum.to_le_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(io_at(DOING, &self.path))?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// Class and colour as the column says them.
fn traits(sighting: &Sighting) -> u8 {
    let class = sighting.vehicle.class.map_or(0, |(class, _)| class.code() + 1);
    let colour = sighting.vehicle.colour.map_or(0, |(colour, _)| colour.code() + 1);
    class | colour << 4
}

/// The doubt of what is kept of the lattice.
fn doubt(sighting: &Sighting) -> Result<u8, Malformed> {
    let PlateState::Read(plate) = &sighting.plate else { return Ok(0) };
    let text: Vec<_> = plate.text.chars().collect();
    let mut kept = Writer::default();
    probability::encode(&plate.lattice, &text, &mut kept);
    let kept = probability::decode(&mut Reader(&kept.0), &text)?;
    Ok(probability::doubt(&kept, &text))
}

/// The rows of each key in their order, and where those of each key end. Keys beyond the count are passed over.
fn postings(keys: impl Iterator<Item = u32> + Clone, count: usize) -> (Vec<u32>, Vec<u64>) {
    let mut ends = vec![0_u64; count];
    for key in keys.clone() {
        if let Some(end) = ends.get_mut(key as usize) {
            *end += 1;
        }
    }
    let mut total = 0;
    let mut next: Vec<u64> = ends
        .iter_mut()
        .map(|end| {
            let start = total;
            total += *end;
            *end = total;
            start
        })
        .collect();
    let mut rows = vec![0; total as usize];
    for (key, row) in keys.zip(0..) {
        if let Some(next) = next.get_mut(key as usize) {
            rows[*next as usize] = row;
            *next += 1;
        }
    }
    (rows, ends)
}

#[cfg(test)]
mod tests {
    use guiji_domain::{VehicleClass, VehicleColour};

    use super::*;

    #[test]
    fn rows_are_grouped_by_key() {
        let (rows, ends) = postings([1, 0, 7, 1, 2].into_iter(), 4);
        assert_eq!((rows, ends), (vec![1, 0, 3, 4], vec![1, 3, 4, 4]));
    }

    #[test]
    fn half_a_byte_is_enough_for_a_class_or_a_colour() {
        assert!(VehicleClass::ALL.iter().all(|class| class.code() < 15));
        assert!(VehicleColour::ALL.iter().all(|colour| colour.code() < 15));
    }
}
