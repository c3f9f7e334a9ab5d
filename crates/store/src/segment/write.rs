use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use guiji_domain::{CameraId, Sighting, SightingId, SightingStage, StoreError};

use super::details::Head;
use super::directory::{Blocks, CHECKSUM_LEN, Column, Directory};
use super::packed::{BLOCK_LEN, Frame, pack};
use super::probability::{Doubt, Places};
use super::read::id_from;
use super::row::{Row, RowMaker, lag};
use super::{END_MAGIC, Layout, MAGIC, checksum, ordered, unordered};
use crate::codec::Writer;
use crate::errors::io_at;
use crate::schema::sync_folder_of;

const DOING: &str = "seal a day";
/// More takes longer and saves little.
const ZSTD_LEVEL: i32 = 3;
/// Threads that compress, and rows that each of them takes at a time: enough that beginning it does not count.
const WORKERS_MAX: usize = 4;
const BATCH: usize = 1 << 14;

/// Writes a segment, row by row. Keeps all in memory until it is finished, some 160 bytes a sighting: only then is the
/// order of plates known.
pub(crate) struct SegmentWriter {
    out: Output,
    /// The last sighting's place in the order.
    last: Option<(i64, SightingId)>,
    captured: Vec<u64>,
    lag: Vec<u64>,
    tail: Vec<u64>,
    /// In the order of their coming, plus one; 0 without.
    plate: Vec<u32>,
    camera: Vec<u32>,
    traits: Vec<u8>,
    doubt: Vec<Doubt>,
    plates: HashMap<u64, u32>,
    /// Of each plate in the order of their coming.
    places: Vec<Places>,
    cameras: HashMap<CameraId, u32>,
    /// Records without their heads, one behind the other, and where each ends.
    records: Vec<u8>,
    ends: Vec<usize>,
    maker: RowMaker,
}

impl SegmentWriter {
    /// Begins a file, over whatever is there.
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            out: Output::create(path)?,
            last: None,
            captured: Vec::new(),
            lag: Vec::new(),
            tail: Vec::new(),
            plate: Vec::new(),
            camera: Vec::new(),
            traits: Vec::new(),
            doubt: Vec::new(),
            plates: HashMap::new(),
            places: Vec::new(),
            cameras: HashMap::new(),
            records: Vec::new(),
            ends: Vec::new(),
            maker: RowMaker::default(),
        })
    }

    /// The next sighting, in the order of `(captured, id)`.
    ///
    /// # Errors
    /// When it is out of order or not final, its record is too long, or the medium fails.
    pub(crate) fn push(&mut self, sighting: &Sighting) -> Result<(), StoreError> {
        let refused = |reason| StoreError::Medium {
            doing: DOING,
            reason: format!("sighting {} {reason}", sighting.id),
        };
        if sighting.stage != SightingStage::Final {
            return Err(refused("is not final".to_owned()));
        }
        let mut maker = std::mem::take(&mut self.maker);
        let row = maker.row(sighting).map_err(|reason| refused(reason.to_string()))?;
        self.push_row(&row)?;
        self.maker = maker;
        Ok(())
    }

    /// The next row, in the order of `(captured, id)`.
    ///
    /// # Errors
    /// When it is out of order, its record is too long, or the medium fails.
    pub(crate) fn push_row(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        let refused = |reason: &str| StoreError::Medium {
            doing: DOING,
            reason: format!("sighting {} {reason}", row.id),
        };
        if self.last.is_some_and(|last| last >= row.key()) {
            return Err(refused("is out of order"));
        }
        if self.captured.len() >= u32::MAX as usize {
            return Err(refused("is one too many"));
        }
        self.records.extend_from_slice(row.record);
        self.ends.push(self.records.len());
        self.last = Some(row.key());
        self.captured.push(ordered(row.captured));
        self.lag.push(lag(row));
        self.tail.push(row.id.as_u128() as u64);
        self.plate.push(match row.plate {
            0 => 0,
            plate => {
                let next = self.plates.len() as u32 + 1;
                let number = *self.plates.entry(plate).or_insert(next);
                let at = number as usize - 1;
                match self.places.get_mut(at) {
                    Some(places) => *places = places.with(row.doubts.places),
                    None => self.places.push(row.doubts.places),
                }
                number
            }
        });
        let next = self.cameras.len() as u32;
        self.camera.push(match self.cameras.get(row.camera) {
            Some(number) => *number,
            None => *self.cameras.entry(row.camera.clone()).or_insert(next),
        });
        self.traits.push(row.traits);
        self.doubt.push(row.doubts.doubt);
        Ok(())
    }

    /// Writes the rest. The file and its name are durable when it returns.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        let (dictionary, plate_places) = self.sort_plates();
        let cameras = self.sort_cameras();
        let rows = self.captured.len() as u32; // checked in `push`
        let keys = self.plate.iter().map(|plate| plate.wrapping_sub(1));
        let (mut by_plate, plate_ends) = postings(keys, dictionary.len());
        by_plate
            .extend((0..).zip(&self.plate).filter(|(_, plate)| **plate == 0).map(|(row, _)| row));
        let mut places = vec![0_u64; by_plate.len()];
        by_plate.iter().zip(0..).for_each(|(row, place)| places[*row as usize] = place);
        let by_id = self.order_of_ids();
        let details = self.put_details(&by_plate)?;

        let mut columns = Vec::with_capacity(Column::ALL.len());
        let Self { mut out, captured, lag, tail, plate, camera, traits, doubt, .. } = self;
        columns.push(out.put_column(captured.iter().copied())?);
        columns.push(out.put_column(lag.iter().copied())?);
        columns.push(out.put_column(tail.iter().copied())?);
        columns.push(out.put_column(plate.iter().map(|p| u64::from(*p)))?);
        columns.push(out.put_column(camera.iter().map(|c| u64::from(*c)))?);
        columns.push(out.put_column(traits.iter().map(|t| u64::from(*t)))?);
        let with_plate = plate_ends.last().map_or(0, |end| *end as usize);
        let doubts = by_plate[..with_plate].iter().map(|row| doubt[*row as usize].number());
        columns.push(out.put_column(doubts)?);
        columns.push(out.put_column(by_id.into_iter().map(u64::from))?);
        let (by_camera, camera_ends) = postings(camera.iter().copied(), cameras.len());
        columns.push(out.put_column(by_camera.into_iter().map(u64::from))?);
        columns.push(out.put_column(by_plate.into_iter().map(u64::from))?);
        columns.push(out.put_column(dictionary.iter().copied())?);
        columns.push(out.put_column(plate_ends.iter().copied())?);
        columns.push(out.put_column(camera_ends.iter().copied())?);
        columns.push(out.put_column(places.into_iter())?);
        columns.push(out.put_column(plate_places.into_iter().map(Places::number))?);

        let count = |ends: &[u64]| ends.last().map_or(0, |rows| *rows as u32);
        let edge = |at: Option<&u64>| at.copied().map_or(0, unordered);
        let directory = Directory {
            rows,
            captured: (edge(captured.first()), edge(captured.last())),
            cameras,
            plates: dictionary.len() as u32,
            plated_rows: count(&plate_ends),
            layout: Layout::NEWEST,
            details,
            columns,
        };
        let start = out.end;
        out.put_checked(&directory.encode())?;
        let mut trailer = Writer::default();
        trailer.bytes(&start.to_le_bytes());
        trailer.bytes(&(out.end - start).to_le_bytes());
        let sum = checksum(out.end, &trailer.0);
        trailer.bytes(&sum.to_le_bytes());
        trailer.bytes(END_MAGIC);
        out.put(&trailer.0)?;

        let Output { path, file, .. } = out;
        let file = file.into_inner().map_err(|error| io_at(DOING, &path)(error.into_error()))?;
        file.sync_all().map_err(io_at(DOING, &path))?;
        sync_folder_of(&path)
    }

    /// Numbers the plates by their order, here and in the column; the dictionary, and the places of each.
    fn sort_plates(&mut self) -> (Vec<u64>, Vec<Places>) {
        let mut sorted: Vec<(u64, u32)> = std::mem::take(&mut self.plates).into_iter().collect();
        sorted.sort_unstable();
        let mut renamed = vec![0; sorted.len() + 1];
        for ((_, old), new) in sorted.iter().zip(1..) {
            renamed[*old as usize] = new;
        }
        self.plate.iter_mut().for_each(|plate| *plate = renamed[*plate as usize]);
        sorted.into_iter().map(|(text, old)| (text, self.places[old as usize - 1])).unzip()
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

    /// The row numbers in the order of the ids.
    fn order_of_ids(&self) -> Vec<u32> {
        let mut order: Vec<((i64, u64), u32)> = (0..)
            .zip(self.captured.iter().zip(&self.lag).zip(&self.tail))
            .map(|(row, ((captured, lag), tail))| {
                // The start of the id, in the order of the id.
                let started = unordered(*captured).wrapping_sub(unordered(*lag));
                ((started, *tail), row)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, row)| row).collect()
    }

    /// Writes the records in the order of plates, compressed; where each block begins and the last ends.
    fn put_details(&mut self, by_plate: &[u32]) -> Result<Vec<u64>, StoreError> {
        let mut places = vec![self.out.end];
        let workers = thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX);
        for rows in by_plate.chunks(workers * BATCH) {
            let this = &*self;
            let batches = thread::scope(|scope| {
                let batches = rows.chunks(BATCH).map(|rows| scope.spawn(|| this.packed(rows)));
                let batches: Vec<_> = batches.collect(); // all begun before one is waited for
                batches.into_iter().map(|batch| batch.join()).collect::<Vec<_>>()
            });
            for batch in batches {
                let batch = batch.unwrap_or_else(|_| {
                    let reason = "a thread that compresses has ended".to_owned();
                    Err(StoreError::Medium { doing: DOING, reason })
                })?;
                for block in batch {
                    self.out.put_checked(&block)?;
                    places.push(self.out.end);
                }
            }
        }
        Ok(places)
    }

    /// The blocks of details of these rows.
    fn packed(&self, rows: &[u32]) -> Result<Vec<Vec<u8>>, StoreError> {
        let failed = io_at(DOING, &self.out.path);
        let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(&failed)?;
        let mut blocks = Vec::with_capacity(rows.len().div_ceil(Layout::NEWEST.details_len));
        let (mut lengths, mut records) = (Writer::default(), Writer::default());
        for rows in rows.chunks(Layout::NEWEST.details_len) {
            lengths.0.clear();
            records.0.clear();
            for row in rows {
                let start = records.0.len();
                self.put_record(*row as usize, &mut records);
                let length = u32::try_from(records.0.len() - start).map_err(|_| too_long())?;
                lengths.bytes(&length.to_le_bytes());
            }
            lengths.0.append(&mut records.0);
            let size = u32::try_from(lengths.0.len()).map_err(|_| too_long())?;
            let mut block = size.to_le_bytes().to_vec();
            block.extend(compressor.compress(&lengths.0).map_err(&failed)?);
            blocks.push(block);
        }
        Ok(blocks)
    }

    fn put_record(&self, row: usize, out: &mut Writer) {
        let [captured, lag] = [self.captured[row], self.lag[row]].map(unordered);
        let first = self.captured.first().copied().map_or(0, unordered);
        let head = Head {
            key: (captured, id_from(captured.wrapping_sub(lag), self.tail[row])),
            camera: u64::from(self.camera[row]),
            traits: u64::from(self.traits[row]),
        };
        head.encode(first, out);
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        out.bytes(&self.records[start..self.ends[row]]);
    }
}

fn too_long() -> StoreError {
    let reason = "the records of a few sightings have more than 4 GB".to_owned();
    StoreError::Medium { doing: DOING, reason }
}

/// The file as far as it is written.
struct Output {
    path: PathBuf,
    file: BufWriter<File>,
    end: u64,
}

impl Output {
    fn create(path: &Path) -> Result<Self, StoreError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(io_at(DOING, path))?;
        let file = BufWriter::with_capacity(1 << 18, file);
        let mut output = Self { path: path.to_owned(), file, end: 0 };
        output.put(MAGIC)?;
        Ok(output)
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
    use crate::codes::Coded as _;

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
