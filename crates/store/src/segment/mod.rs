//! Segments: the final sightings of a closed day, sorted by time, column by column, in one file that never changes.
//!
//! # On disk, version 2
//! ```text
//! file      magic "GJSEGM2\n", details..., blocks..., directory, trailer
//! details   unpacked size u32, zstd of: the length of each record as u32, the records (see `details.rs`); CRC-32
//!           one for each 16 sightings; in version 1, whose magic is "GJSEGM1\n", for each 32
//! block     up to 4096 numbers of a column, packed as `packed.rs` says; CRC-32
//! directory as `directory.rs` says; CRC-32
//! trailer   where the directory begins u64, its length with its CRC-32 u64, CRC-32 of the two, magic "GJSEGMT\n"
//! ```
//! Numbers are little-endian. Each CRC-32 is over the place of what it guards in the file (u64) and the bytes: every
//! byte of the file is guarded, and a block at a wrong place is seen as well.
//!
//! The rows are the day's final sightings in the order of `(captured, id)`; the number of a row is its place. The
//! columns:
//!
//! | column | one number for each | |
//! |---|---|---|
//! | captured | row | capture time, nanoseconds, sign bit flipped |
//! | lag | row | capture time less the start of the id, nanoseconds, sign bit flipped |
//! | tail | row | the low 64 bits of the id |
//! | plate | row | 0 without, else the plate's number in the dictionary plus 1 |
//! | camera | row | the camera's number in the directory |
//! | traits | row | class plus 16 times colour, 0 for none, else the code plus 1 |
//! | doubt | row | how much other plates may have of it, see `probability.rs`; 0 without a plate |
//! | by id | row | row numbers, ordered by the id |
//! | by camera | row | row numbers, ordered by camera and row |
//! | by plate | row with a plate | row numbers, ordered by plate and row |
//! | plates | distinct plate | the dictionary: texts as numbers (see `plates.rs`), rising |
//! | plate ends | distinct plate | where its rows end in "by plate" |
//! | camera ends | camera | where its rows end in "by camera" |
//!
//! A pattern is matched against the dictionary, never against sightings. Every row's number, time and id can be read
//! without unpacking its record.

mod cache;
mod check;
mod cursor;
mod details;
mod directory;
mod find;
mod packed;
mod plates;
mod probability;
mod read;
mod row;
mod scan;
mod write;

pub(crate) use cache::BlockCache;
pub(crate) use check::check;
pub(crate) use cursor::Cursor;
pub(crate) use find::{Key, Near, Request};
pub(crate) use read::Segment;
pub(crate) use row::{Rows, SegmentRows};
pub(crate) use write::SegmentWriter;

const MAGIC: &[u8; 8] = b"GJSEGM2\n";
const MAGIC_1: &[u8; 8] = b"GJSEGM1\n";
const END_MAGIC: &[u8; 8] = b"GJSEGMT\n";

/// Sightings whose details are compressed together: each that is read unpacks so many.
const DETAILS_LEN: usize = 16;
/// The same in version 1.
const DETAILS_LEN_1: usize = 32;

/// The CRC-32 of bytes that lie at a place of the file.
fn checksum(start: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&start.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Signed numbers in the order of unsigned ones.
fn ordered(number: i64) -> u64 {
    number as u64 ^ 1 << 63
}

fn unordered(number: u64) -> i64 {
    (number ^ 1 << 63) as i64
}

#[cfg(test)]
mod tests;
