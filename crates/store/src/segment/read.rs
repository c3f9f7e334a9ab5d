use std::cell::RefCell;
use std::cmp::Ordering;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use guiji_domain::{CameraId, Sighting, SightingId, StoreError};

use super::cache::BlockCache;
use super::cursor::{Cursor, Spot};
use super::directory::{CHECKSUM_LEN, Column, Directory};
use super::packed::{BLOCK_LEN, Packed, padded};
use super::{END_MAGIC, Layout, checksum};
use crate::codes::Coded;
use crate::errors::{damaged, io_at};

const DOING: &str = "read a sealed day";
const TRAILER_LEN: u64 = 28;

/// A segment, open for reading. Its file may be deleted meanwhile: what is open can be read.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(super) path: PathBuf,
    file: File,
    bytes: u64,
    /// Its number in the cache.
    number: u64,
    cache: Arc<BlockCache>,
    pub(super) directory: Directory,
}

impl Segment {
    /// Opens a file.
    ///
    /// # Errors
    /// When it is not there, or its directory is damaged.
    pub(crate) fn open(path: &Path, cache: &Arc<BlockCache>) -> Result<Self, StoreError> {
        let failed = io_at(DOING, path);
        let wrong = |reason: &str| damaged(path.display(), reason);
        let file = File::open(path).map_err(&failed)?;
        let bytes = file.metadata().map_err(&failed)?.len();
        let end = bytes.checked_sub(TRAILER_LEN).ok_or_else(|| wrong("it is cut off"))?;
        let mut head = [0; 8];
        file.read_exact_at(&mut head, 0).map_err(&failed)?;
        let layout =
            Layout::of(&head).ok_or_else(|| wrong("it is not a sealed day of this version"))?;
        let mut trailer = [0; TRAILER_LEN as usize];
        file.read_exact_at(&mut trailer, end).map_err(&failed)?;
        let (places, guards) = trailer.split_at(16);
        let (sum, magic) = guards.split_at(4);
        if magic != END_MAGIC || sum != checksum(end, places).to_le_bytes() {
            return Err(wrong("its end is damaged or cut off"));
        }
        let place = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let (start, length) = (place(&places[..8]), place(&places[8..]));
        if start.checked_add(length) != Some(end) || length < CHECKSUM_LEN {
            return Err(wrong("its directory's place is impossible"));
        }
        let content = read_checked(&file, path, start, length)?;
        let directory = Directory::decode(&content, layout);
        let directory = directory.map_err(|reason| wrong(&reason.to_string()))?;
        if directory.end() != start {
            return Err(wrong("its directory does not fit its size"));
        }
        let (number, cache) = (cache.number(), Arc::clone(cache));
        Ok(Self { path: path.to_owned(), file, bytes, number, cache, directory })
    }

    /// How many sightings it holds.
    pub(crate) fn rows(&self) -> u32 {
        self.directory.rows
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Earliest and latest capture time, nanoseconds.
    pub(crate) fn captured(&self) -> Option<(i64, i64)> {
        (self.rows() > 0).then_some(self.directory.captured)
    }

    /// A number of a column.
    pub(super) fn value(&self, column: Column, at: u32) -> Result<u64, StoreError> {
        let at = at as usize;
        Ok(self.block(column, at / BLOCK_LEN)?.get(at % BLOCK_LEN))
    }

    /// A block of a column, from the cache if it is there.
    pub(super) fn block(&self, column: Column, block: usize) -> Result<Packed, StoreError> {
        let blocks = self.directory.blocks(column);
        let (Some(frame), Some(start)) = (blocks.frames.get(block), blocks.starts.get(block))
        else {
            return Err(damaged(self.path.display(), "a row points behind its end"));
        };
        let key = (self.number, *start);
        let bytes = match self.cache.get(key) {
            Some(bytes) => bytes,
            None => {
                let bytes = padded(self.read_block(column, block)?);
                self.cache.put(key, Arc::clone(&bytes));
                bytes
            }
        };
        Ok(Packed::new(*frame, bytes))
    }

    /// A block of a column from the disk.
    pub(super) fn read_block(&self, column: Column, block: usize) -> Result<Vec<u8>, StoreError> {
        let blocks = self.directory.blocks(column);
        let length = blocks.frames[block].bytes(self.directory.block_len(column, block)) as u64;
        read_checked(&self.file, &self.path, blocks.starts[block], length + CHECKSUM_LEN)
    }

    /// A block of details from the disk, unpacked.
    pub(super) fn read_details(&self, block: usize) -> Result<Arc<[u8]>, StoreError> {
        let (Some(start), Some(end)) =
            (self.directory.details.get(block), self.directory.details.get(block + 1))
        else {
            return Err(damaged(self.path.display(), "a row points behind its end"));
        };
        let what = || format!("{} at {start}", self.path.display());
        UNPACKING.with_borrow_mut(|Unpacking { decompressor, compressed, content }| {
            read_checked_into(compressed, &self.file, &self.path, *start, end - start)?;
            // The checksum has said that the size is what was written.
            let (size, compressed) =
                compressed.split_first_chunk().ok_or_else(|| damaged(what(), "it is cut off"))?;
            content.clear();
            content.reserve(u32::from_le_bytes(*size) as usize);
            let decompressor = match decompressor {
                Some(decompressor) => decompressor,
                None => decompressor.insert(
                    zstd::bulk::Decompressor::new().map_err(|error| damaged(what(), error))?,
                ),
            };
            let unpacked = decompressor.decompress_to_buffer(compressed, content);
            unpacked.map_err(|error| damaged(what(), error))?;
            Ok(Arc::from(content.as_slice()))
        })
    }

    /// The row of an id.
    pub(crate) fn find(&self, id: SightingId) -> Result<Option<u32>, StoreError> {
        let (mut low, mut high) = (0, self.rows());
        let mut cursor = Cursor::new(self);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.value(Column::ById, middle)? as u32; // below the count of rows
            match cursor.key(row)?.1.cmp(&id) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(Some(row)),
            }
        }
        Ok(None)
    }

    /// The sighting of a row; of many, a [`Cursor`] is quicker.
    pub(crate) fn sighting(&self, row: u32) -> Result<Sighting, StoreError> {
        Cursor::new(self).sighting(Spot::Row(row))
    }

    /// A block of details, from the cache if it is there.
    pub(super) fn details(&self, block: usize) -> Result<Arc<[u8]>, StoreError> {
        let key = (self.number, self.directory.details.get(block).copied().unwrap_or(0));
        if let Some(content) = self.cache.get(key) {
            return Ok(content);
        }
        let content = self.read_details(block)?;
        self.cache.put(key, Arc::clone(&content));
        Ok(content)
    }

    /// The block of details with the record of a place.
    pub(super) fn block_of(&self, place: u32) -> usize {
        place as usize / self.directory.layout.details_len
    }

    /// The record of a place, in its block.
    pub(super) fn record<'a>(&self, place: u32, details: &'a [u8]) -> Option<&'a [u8]> {
        let length = self.directory.layout.details_len;
        let first = place as usize / length * length;
        let count = (self.rows() as usize - first).min(length);
        let (lengths, records) = details.split_at_checked(count * 4)?;
        let mut lengths = lengths
            .chunks_exact(4)
            .map(|l| l.try_into().map_or(0, |l| u32::from_le_bytes(l) as usize));
        let start: usize = lengths.by_ref().take(place as usize - first).sum();
        records.get(start..)?.get(..lengths.next()?)
    }

    pub(super) fn camera(&self, number: u64) -> Option<&CameraId> {
        self.directory.cameras.get(usize::try_from(number).ok()?)
    }
}

/// A choice from its half of the traits: the outer `None` is an unknown code.
pub(super) fn trait_of<T: Coded>(number: u64) -> Option<Option<T>> {
    match u8::try_from(number).ok()?.checked_sub(1) {
        None => Some(None),
        Some(code) => T::from_code(code).map(Some),
    }
}

pub(super) fn id_from(started: i64, tail: u64) -> SightingId {
    SightingId::from_u128(u128::from(super::ordered(started)) << 64 | u128::from(tail))
}

/// What a thread unpacks details with: making it costs more than a block does.
#[derive(Default)]
struct Unpacking {
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    compressed: Vec<u8>,
    content: Vec<u8>,
}

thread_local! {
    static UNPACKING: RefCell<Unpacking> = RefCell::default();
}

/// Bytes with their CRC-32 behind them, checked and cut off.
fn read_checked(file: &File, path: &Path, start: u64, length: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    read_checked_into(&mut bytes, file, path, start, length)?;
    Ok(bytes)
}

/// The same in the place of what a buffer has.
fn read_checked_into(
    bytes: &mut Vec<u8>,
    file: &File,
    path: &Path,
    start: u64,
    length: u64,
) -> Result<(), StoreError> {
    let what = || format!("{} at {start}", path.display());
    let content = length.checked_sub(CHECKSUM_LEN).and_then(|l| usize::try_from(l).ok());
    let content = content.ok_or_else(|| damaged(what(), "its length is impossible"))?;
    bytes.resize(content + CHECKSUM_LEN as usize, 0);
    file.read_exact_at(bytes, start).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged(what(), "it is cut off"),
        _ => io_at(DOING, path)(error),
    })?;
    if bytes[content..] != checksum(start, &bytes[..content]).to_le_bytes() {
        return Err(damaged(what(), "its checksum does not match"));
    }
    bytes.truncate(content);
    Ok(())
}
