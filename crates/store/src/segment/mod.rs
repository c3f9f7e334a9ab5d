//! Segments: the final sightings of a closed day, sorted by time, column by column, in one file that never changes.
//!
//! # On disk, version 3
//! ```text
//! file      magic "GJSEGM3\n", details..., blocks..., directory, trailer
//! details   unpacked size u32, zstd of: the length of each record as u32, the records (see `details.rs`); CRC-32
//!           one for each 16 sightings, in the order of plates
//! block     up to 4096 numbers of a column, packed as `packed.rs` says; CRC-32
//! directory as `directory.rs` says; CRC-32
//! trailer   where the directory begins u64, its length with its CRC-32 u64, CRC-32 of the two, magic "GJSEGMT\n"
//! ```
//! Numbers are little-endian. Each CRC-32 is over the place of what it guards in the file (u64) and the bytes: every
//! byte of the file is guarded, and a block at a wrong place is seen as well.
//!
//! The rows are the day's final sightings in the order of `(captured, id)`, which numbers them. Their records lie in the
//! order of plates: those with a plate by plate and row, then those without by row. So all that a day knows of a plate lies
//! together, is unpacked together, and says its times and cameras itself. The columns:
//!
//! | column | one number for each | |
//! |---|---|---|
//! | captured | row | capture time, nanoseconds, sign bit flipped |
//! | lag | row | capture time less the start of the id, nanoseconds, sign bit flipped |
//! | tail | row | the low 64 bits of the id |
//! | plate | row | 0 without, else the plate's number in the dictionary plus 1 |
//! | camera | row | the camera's number in the directory |
//! | traits | row | class plus 16 times colour, 0 for none, else the code plus 1 |
//! | doubt | row with a plate | how much other plates may have of it, see `probability.rs`; in the order of plates |
//! | by id | row | row numbers, ordered by the id |
//! | by camera | row | row numbers, ordered by camera and row |
//! | by plate | row | row numbers in the order of plates |
//! | plates | distinct plate | the dictionary: texts as numbers (see `plates.rs`), rising |
//! | plate ends | distinct plate | where its rows end in "by plate" |
//! | camera ends | camera | where its rows end in "by camera" |
//! | place | row | its place in the order of plates |
//! | plate places | distinct plate | how much others may have at each place of all its rows, see `probability.rs` |
//!
//! Versions 1 ("GJSEGM1\n", 32 sightings for each of the details) and 2 ("GJSEGM2\n", 16) are read. Their records lie in the
//! order of rows and have no head, "by plate" ends where rows have no plate, "doubt" is of all rows in their order, and
//! "place" and "plate places" are not there.
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
pub(crate) use cursor::{Cursor, Spot};
pub(crate) use find::{Key, Near, Request};
pub(crate) use read::Segment;
pub(crate) use row::{Rows, SegmentRows};
pub(crate) use write::SegmentWriter;

const MAGIC: &[u8; 8] = b"GJSEGM3\n";
const MAGIC_2: &[u8; 8] = b"GJSEGM2\n";
const MAGIC_1: &[u8; 8] = b"GJSEGM1\n";
const END_MAGIC: &[u8; 8] = b"GJSEGMT\n";

/// How records lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    /// Sightings whose details are compressed together: each that is read unpacks so many.
    details_len: usize,
    /// In the order of plates, each with a head; otherwise in the order of rows.
    by_plate: bool,
}

impl Layout {
    const NEWEST: Self = Self { details_len: 16, by_plate: true };

    /// That of the version with this magic.
    fn of(magic: &[u8; 8]) -> Option<Self> {
        match magic {
            MAGIC => Some(Self::NEWEST),
            MAGIC_2 => Some(Self { details_len: 16, by_plate: false }),
            MAGIC_1 => Some(Self { details_len: 32, by_plate: false }),
            _ => None,
        }
    }
}

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
