//! Packs: append-only files of pictures, one kind and day each, so that retention deletes files.
//!
//! Layout, version 1: the 8 bytes `GJPACK1\n`, then records of 4 bytes length (little-endian), 32 bytes SHA-256 and
//! the picture. Rows point straight at pictures; the headers are there so that a pack can be read without its
//! partition. Bytes that no row points to, left by a crash, are skipped for good.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use guiji_domain::{Digest, EvidenceKind, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use tracing::warn;

use crate::codes::Coded;
use crate::day::Day;
use crate::errors::{damaged, io_at, sql};
use crate::partition::sql_number;
use crate::schema::sync_folder_of;
use crate::settings::Durability;
use crate::validate::sha256;

const MAGIC: &[u8; 8] = b"GJPACK1\n";
const APPENDING: &str = "append pictures";

/// Which pack: a number is given once a day, even when its file is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PackName {
    pub(crate) day: Day,
    pub(crate) number: u32,
    pub(crate) kind: EvidenceKind,
}

impl PackName {
    pub(crate) fn path_in(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.{}.{:04}.pack", self.day, self.kind, self.number))
    }

    /// The inverse of [`Self::path_in`]; `None` for anything else.
    pub(crate) fn of_file(file_name: &str) -> Option<Self> {
        let mut parts = file_name.split('.');
        let name = Self {
            day: parts.next()?.parse().ok()?,
            kind: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
        };
        (parts.next() == Some("pack") && parts.next().is_none()).then_some(name)
    }
}

/// Where a picture lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) pack: PackName,
    pub(crate) start: u64,
    pub(crate) length: u32,
}

/// Reads a picture and proves it. `None` when its pack was deleted.
pub(crate) fn read_picture(
    folder: &Path,
    place: Place,
    digest: &Digest,
) -> Result<Option<Vec<u8>>, StoreError> {
    let path = place.pack.path_in(folder);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_at("read a picture", &path)(error)),
    };
    let what = || format!("picture {digest} in {}", path.display());
    let mut bytes = vec![0; place.length as usize];
    match file.read_exact_at(&mut bytes, place.start) {
        Ok(()) if sha256(&bytes) == digest.0 => Ok(Some(bytes)),
        Ok(()) => Err(damaged(what(), "its SHA-256 does not match")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(damaged(what(), "its pack ends before it"))
        }
        Err(error) => Err(io_at("read a picture", &path)(error)),
    }
}

/// A pack being read from end to end, headers included.
pub(crate) struct PackCheck {
    name: PackName,
    path: PathBuf,
    /// `None` when the pack was deleted.
    file: Option<File>,
}

impl PackCheck {
    pub(crate) fn open(folder: &Path, name: PackName) -> Result<Self, StoreError> {
        let path = name.path_in(folder);
        let failed = |error| io_at("read a pack", &path)(error);
        let file = match File::open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let Some(file) = &file {
            let mut magic = [0; MAGIC.len()];
            let read = match file.read_exact_at(&mut magic, 0) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                read => read.map_err(failed).map(|()| magic == *MAGIC)?,
            };
            if !read {
                return Err(damaged(path.display(), "it does not begin as a pack"));
            }
        }
        Ok(Self { name, path, file })
    }

    pub(crate) fn name(&self) -> PackName {
        self.name
    }

    /// Whether a picture is there and its bytes and header are what was written; false when its pack was deleted.
    pub(crate) fn prove(&self, place: Place, digest: &Digest) -> Result<bool, StoreError> {
        let Some(file) = &self.file else { return Ok(false) };
        let what = || format!("picture {digest} in {}", self.path.display());
        let Some(header_at) = place.start.checked_sub(HEADER as u64) else {
            return Err(damaged(what(), "its place is impossible"));
        };
        let mut record = vec![0; HEADER + place.length as usize];
        match file.read_exact_at(&mut record, header_at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(damaged(what(), "its pack ends before it"));
            }
            Err(error) => return Err(io_at("read a picture", &self.path)(error)),
        }
        let (header, picture) = record.split_at(HEADER);
        if sha256(picture) != digest.0 {
            Err(damaged(what(), "its SHA-256 does not match"))
        } else if header != header_of(place.length, digest) {
            Err(damaged(what(), "its header is not what was written"))
        } else {
            Ok(true)
        }
    }
}

/// Bytes before each picture.
const HEADER: usize = 36;

fn header_of(length: u32, digest: &Digest) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..].copy_from_slice(&digest.0);
    header
}

/// The rows of a digest: the same bytes may be evidence of several kinds.
pub(crate) fn places(
    connection: &Connection,
    day: Day,
    digest: &Digest,
) -> Result<Vec<Place>, StoreError> {
    let failed = sql("find a picture");
    let mut statement = connection
        .prepare_cached("SELECT kind, pack, start, length FROM picture WHERE digest = ?1")
        .map_err(&failed)?;
    let rows = statement
        .query_map([digest.0], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .map_err(&failed)?;
    rows.map(|row| {
        let (kind, pack, start, length) = row.map_err(&failed)?;
        place(day, kind, pack, start, length)
            .ok_or_else(|| damaged(format!("picture {digest}"), "its place is impossible"))
    })
    .collect()
}

/// Enters a picture whose pack is no more, unless the day has the picture: one in pack 0, which there never is.
pub(crate) fn put_deleted(
    connection: &Connection,
    kind: EvidenceKind,
    digest: &Digest,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO picture (digest, kind, pack, start, length) VALUES (?1, ?2, 0, 0, 0)",
        )
        .and_then(|mut statement| statement.execute(params![digest.0, kind.code()]))
        .map(drop)
        .map_err(sql(APPENDING))
}

/// A place from the numbers of a row.
pub(crate) fn place(day: Day, kind: i64, pack: i64, start: i64, length: i64) -> Option<Place> {
    let kind = EvidenceKind::from_code(u8::try_from(kind).ok()?)?;
    Some(Place {
        pack: PackName { day, number: u32::try_from(pack).ok()?, kind },
        start: u64::try_from(start).ok()?,
        length: u32::try_from(length).ok()?,
    })
}

/// The packs of a day that are being appended to.
#[derive(Debug)]
pub(crate) struct PackWriter {
    folder: PathBuf,
    day: Day,
    bytes_max: u64,
    durability: Durability,
    open: BTreeMap<EvidenceKind, OpenPack>,
}

#[derive(Debug)]
struct OpenPack {
    name: PackName,
    path: PathBuf,
    file: File,
    /// Where the next record goes.
    end: u64,
    /// Up to here rows may point.
    committed: u64,
    /// Whether the file's name was made durable since it was opened. A file that is there already may be what a
    /// failed batch left, so that its name is not known to be durable either.
    name_synced: bool,
}

impl PackWriter {
    pub(crate) fn new(folder: PathBuf, day: Day, bytes_max: u64, durability: Durability) -> Self {
        Self { folder, day, bytes_max, durability, open: BTreeMap::new() }
    }

    /// Appends a picture and its row, unless the day has it already. Not durable before [`Self::sync`].
    pub(crate) fn put(
        &mut self,
        connection: &Connection,
        kind: EvidenceKind,
        digest: &Digest,
        picture: &[u8],
    ) -> Result<(), StoreError> {
        for place in places(connection, self.day, digest)? {
            if place.pack.kind == kind && place.pack.path_in(&self.folder).is_file() {
                return Ok(());
            }
        }
        let length = u32::try_from(picture.len()).map_err(|_| {
            guiji_domain::InvalidValue::new("picture", digest, "is larger than 4 GB")
        })?;
        let pack = self.pack_for(connection, kind)?;
        let mut record = Vec::with_capacity(HEADER + picture.len());
        record.extend_from_slice(&header_of(length, digest));
        record.extend_from_slice(picture);
        pack.file.write_all_at(&record, pack.end).map_err(io_at(APPENDING, &pack.path))?;
        let start = pack.end + HEADER as u64;
        pack.end += record.len() as u64;
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO picture (digest, kind, pack, start, length) VALUES (?1, ?2, ?3, ?4, ?5)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    digest.0,
                    kind.code(),
                    pack.name.number,
                    sql_number(start),
                    length
                ])
            })
            .map_err(sql(APPENDING))?;
        Ok(())
    }

    fn pack_for(
        &mut self,
        connection: &Connection,
        kind: EvidenceKind,
    ) -> Result<&mut OpenPack, StoreError> {
        if self.open.get(&kind).is_some_and(|pack| pack.end >= self.bytes_max) {
            // A full pack with bytes of this batch must be synced before it is let go.
            self.sync_kind(kind)?;
            self.open.remove(&kind);
        }
        match self.open.entry(kind) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let number = next_number(connection, &self.folder, self.day, kind, self.bytes_max)?;
                let name = PackName { day: self.day, number, kind };
                Ok(entry.insert(OpenPack::open(name, &self.folder)?))
            }
        }
    }

    /// Makes what was appended durable, names included. Before the rows commit.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        for kind in EvidenceKind::ALL {
            self.sync_kind(*kind)?;
        }
        Ok(())
    }

    fn sync_kind(&mut self, kind: EvidenceKind) -> Result<(), StoreError> {
        let Some(pack) = self.open.get_mut(&kind) else { return Ok(()) };
        if pack.end == pack.committed || self.durability == Durability::UnsafeNoSync {
            return Ok(());
        }
        pack.file.sync_data().map_err(io_at("sync pictures", &pack.path))?;
        if !pack.name_synced {
            sync_folder_of(&pack.path)?;
            pack.name_synced = true;
        }
        Ok(())
    }

    /// The rows have committed.
    pub(crate) fn committed(&mut self) {
        for pack in self.open.values_mut() {
            pack.committed = pack.end;
        }
    }

    /// The rows were rolled back: gives the space back, as far as the system lets us. What stays is skipped.
    pub(crate) fn abandon(self) {
        for pack in self.open.into_values().filter(|pack| pack.end > pack.committed) {
            if let Err(error) = pack.file.set_len(pack.committed) {
                warn!(path = %pack.path.display(), %error, "cannot cut an abandoned pack");
            }
        }
    }

    /// Closes the pack when it is open, since its file is about to be deleted.
    pub(crate) fn close(&mut self, name: PackName) {
        if self.open.get(&name.kind).is_some_and(|pack| pack.name == name) {
            self.open.remove(&name.kind);
        }
    }
}

impl OpenPack {
    fn open(name: PackName, folder: &Path) -> Result<Self, StoreError> {
        let path = name.path_in(folder);
        let (file, end) = open_at_end(&path).map_err(io_at("open a pack", &path))?;
        Ok(Self { name, path, file, end, committed: end, name_synced: false })
    }
}

/// Opens or makes a pack, with the place at which to go on: after everything, a crash's leavings included.
fn open_at_end(path: &Path) -> io::Result<(File, u64)> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    let head = MAGIC.len() as u64;
    if length < head {
        file.write_all_at(MAGIC, 0)?;
    }
    Ok((file, length.max(head)))
}

/// The pack to go on with, when its file is there and has room; else a new one, entered among the day's packs.
fn next_number(
    connection: &Connection,
    folder: &Path,
    day: Day,
    kind: EvidenceKind,
    bytes_max: u64,
) -> Result<u32, StoreError> {
    let failed = sql(APPENDING);
    let last: Option<u32> = connection
        .query_row("SELECT max(number) FROM pack WHERE kind = ?1", [kind.code()], |row| row.get(0))
        .optional()
        .map_err(&failed)?
        .flatten();
    if let Some(number) = last {
        let path = PackName { day, number, kind }.path_in(folder);
        if std::fs::metadata(&path).is_ok_and(|file| file.len() < bytes_max) {
            return Ok(number);
        }
    }
    connection
        .query_row(
            "INSERT INTO pack (number, kind) SELECT coalesce(max(number), 0) + 1, ?1 FROM pack RETURNING number",
            [kind.code()],
            |row| row.get(0),
        )
        .map_err(&failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = PackName { day: Day(20_781), number: 12, kind: EvidenceKind::Frame };
        let path = name.path_in(Path::new("evidence"));
        assert_eq!(path, Path::new("evidence/2026-11-24.frame.0012.pack"));
        assert_eq!(PackName::of_file("2026-11-24.frame.0012.pack"), Some(name));
        for wrong in
            ["", "2026-11-24.frame.pack", "x.frame.0001.pack", "2026-11-24.frame.1.pack.tmp"]
        {
            assert_eq!(PackName::of_file(wrong), None, "{wrong}");
        }
    }
}
