//! What became of a write-ahead log that a killed process left.
//!
//! SQLite plays a log back up to the first frame whose checksum is wrong and drops the rest without a word: right after
//! a power cut, when the rest was never acknowledged, and wrong when a bit of an acknowledged frame has flipped. So
//! beside each database `X.db` lies `X.db-acked`, which says how far its log was acknowledged, and before a database is
//! opened at the start the two are compared. What the log lacks is told; the log itself is copied aside first, since
//! SQLite folds it in and deletes it.
//!
//! `X.db-acked` is written at each commit after the log was synced, and is not synced itself: after `kill -9` it is
//! exact, after a power cut it may be older than the log, never newer. 24 bytes:
//!
//! ```text
//! "GJA1", the two salts of the log as they stand in it, frames u32, CRC-32 of all before, 4 zero bytes
//! ```
//! Numbers are little-endian. Salts change when a log begins anew, after all of it was folded in.

use std::ffi::c_int;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use guiji_domain::StoreError;
use rusqlite::Connection;
use rusqlite::hooks::Wal;
use tracing::{debug, error};

use crate::errors::{io_at, sql_at};
use crate::schema::sync_folder_of;

const DOING: &str = "look through a log";
const MAGIC: [u8; 4] = *b"GJA1";
/// Of a log's header and of each frame's.
const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
/// Frames (pages of 4 kB) after which a log is folded in. A batch touches a page of an index for nearly every row: what
/// is written back to the file only once a log of 64 MB is full is written back once for many batches. SQLite's own
/// 1000 frames are less than one batch.
const FOLD_IN_AT: c_int = 16_384;

/// A file's name with something after it.
fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The files beside a database that are nothing without it, in the order in which they are to be deleted: a log
/// without its database would be played into a later one of the same name.
pub(crate) fn companions(database: &Path) -> [PathBuf; 4] {
    ["-wal", "-shm", "-acked", "-wal.damaged"].map(|suffix| beside(database, suffix))
}

/// How far a log was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Acked {
    salts: [u8; 8],
    frames: u32,
}

impl Acked {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..12].copy_from_slice(&self.salts);
        bytes[12..16].copy_from_slice(&self.frames.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..16]);
        bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let salts = bytes.get(4..12)?.try_into().ok()?;
        let frames = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?);
        let acked = Self { salts, frames };
        (bytes == acked.encode()).then_some(acked)
    }
}

/// From now on, notes at each commit how far the log goes, and folds it in when it has grown: what
/// `PRAGMA wal_autocheckpoint` does otherwise, which takes the place of this.
pub(crate) fn note_commits(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let (log, noted) = (beside(path, "-wal"), beside(path, "-acked"));
    let mut files: Option<(File, File)> = None;
    let hook = move |wal: &mut Wal, frames: c_int| {
        if let Err(error) = note(&mut files, &log, &noted, frames) {
            // Less is noticed then, and nothing is lost.
            debug!(%error, path = %noted.display(), "a commit is not noted");
            files = None;
        }
        if frames >= FOLD_IN_AT
            && let Err(error) = wal.checkpoint()
        {
            debug!(%error, path = %log.display(), "a log is not folded in, the next commit tries again");
        }
        // An error would fail a commit that has happened.
        Ok(())
    };
    connection.wal_hook(Some(hook)).map_err(sql_at("open a file of the store", path))
}

fn note(
    files: &mut Option<(File, File)>,
    log: &Path,
    noted: &Path,
    frames: c_int,
) -> io::Result<()> {
    let (log, noted) = match files {
        Some(open) => open,
        None => {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(false).mode(0o600);
            files.insert((File::open(log)?, options.open(noted)?))
        }
    };
    let mut salts = [0; 8];
    log.read_exact_at(&mut salts, 16)?;
    let acked = Acked { salts, frames: u32::try_from(frames).unwrap_or(0) };
    noted.write_all_at(&acked.encode(), 0)
}

/// What a damaged log has lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostCommits {
    /// At least so many commits, each acknowledged.
    pub(crate) commits: u64,
    /// When the log was last written to, nanoseconds since 1970; by the file system.
    pub(crate) written_ns: Option<i64>,
}

/// Compares the log that lies beside a database with what was acknowledged, before the database is opened. Nobody may
/// have it open.
pub(crate) fn examine(path: &Path) -> Result<Option<LostCommits>, StoreError> {
    let (log, noted) = (beside(path, "-wal"), beside(path, "-acked"));
    let note = match fs::read(&noted) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(io_at(DOING, &noted))?,
    };
    let length = match fs::metadata(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        other => other.map_err(io_at(DOING, &log))?.len(),
    };
    if length == 0 {
        // Folded in.
        if !note.is_empty() {
            fs::remove_file(&noted).map_err(io_at(DOING, &noted))?;
        }
        return Ok(None);
    }
    let acked = Acked::decode(&note);
    let commits = lost_commits(&log, acked).map_err(io_at(DOING, &log))?;
    // A note without content is one that a power cut took; a changed one shall not pass for it.
    let changed = acked.is_none() && note.iter().any(|byte| *byte != 0);
    if commits == 0 && !changed {
        return Ok(None);
    }
    let aside = beside(path, "-wal.damaged");
    if changed && commits == 0 {
        error!(path = %noted.display(), "damaged: nobody can say whether the log beside it is whole");
        fs::copy(&noted, &aside).map_err(io_at(DOING, &aside))?;
        return Ok(Some(LostCommits { commits, written_ns: None }));
    }
    error!(
        path = %log.display(), commits, copy = %aside.display(),
        "the log is damaged: acknowledged commits are lost"
    );
    fs::copy(&log, &aside).map_err(io_at(DOING, &aside))?;
    File::open(&aside).and_then(|file| file.sync_all()).map_err(io_at(DOING, &aside))?;
    sync_folder_of(&aside)?;
    let written = fs::metadata(&log).and_then(|file| file.modified()).ok();
    let written = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let written_ns = written.and_then(|since| i64::try_from(since.as_nanos()).ok());
    Ok(Some(LostCommits { commits, written_ns }))
}

/// In words, what lies aside of a database's damaged log, until somebody deletes it.
pub(crate) fn damage_aside(path: &Path) -> Option<(PathBuf, String)> {
    let aside = beside(path, "-wal.damaged");
    let length = fs::metadata(&aside).ok()?.len();
    let what = if length <= HEAD as u64 {
        "the note of how far its log was acknowledged was damaged: commits may be lost"
    } else {
        "its log was damaged, and acknowledged commits in it are lost"
    };
    let fix = format!(
        "{what}; take them from a back-up or from who sent them, then delete {}",
        aside.display()
    );
    Some((path.to_owned(), fix))
}

/// How many acknowledged commits of a log SQLite will not play back.
fn lost_commits(log: &Path, acked: Option<Acked>) -> io::Result<u64> {
    let mut input = BufReader::with_capacity(1 << 16, File::open(log)?);
    let mut head = [0; HEAD];
    if !read_whole(&mut input, &mut head)? {
        return Ok(u64::from(acked.is_some_and(|acked| acked.frames > 0)));
    }
    let noted =
        |salts: &[u8]| acked.filter(|acked| acked.salts == *salts).map(|acked| acked.frames);
    let Some(header) = Header::of(&head) else {
        // It cannot be read at all. Without a note it may be one that a power cut left unfinished.
        return Ok(u64::from(acked.is_some_and(|acked| acked.frames > 0)));
    };
    // Of another log, which was folded in: then this one has nothing that is known to be acknowledged.
    let noted = noted(&header.salts);
    let mut sum = header.sum;
    let mut frame = vec![0; FRAME_HEAD + header.page];
    let (mut number, mut whole, mut after_damage) = (0_u32, true, 0);
    let (mut played_back, mut lost_for_sure) = (0, 0);
    while read_whole(&mut input, &mut frame)? {
        number += 1;
        let commits = frame[4..8] != [0; 4];
        let same_log = frame[8..16] == header.salts;
        if whole {
            sum = header.sum(sum, &frame[..8]);
            sum = header.sum(sum, &frame[FRAME_HEAD..]);
            whole = same_log && header.words(&frame[16..24]) == sum;
        }
        if whole {
            if commits {
                played_back = number;
            }
        } else if noted.is_some_and(|noted| number <= noted) {
            lost_for_sure += u64::from(commits);
        } else if same_log && commits {
            after_damage += 1;
        }
    }
    if let Some(noted) = noted
        && played_back < noted
    {
        return Ok(lost_for_sure.max(1));
    }
    // Each commit is synced before the next begins: a power cut can leave one unfinished, never two.
    Ok(u64::saturating_sub(after_damage, 1))
}

fn read_whole(input: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the first bytes of a log say (<https://sqlite.org/fileformat2.html#walformat>).
struct Header {
    big_endian_sums: bool,
    page: usize,
    salts: [u8; 8],
    sum: (u32, u32),
}

impl Header {
    /// `None` when it is not what was written.
    fn of(head: &[u8; HEAD]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let big_endian_sums = match word(0)? {
            0x377f_0682 => false,
            0x377f_0683 => true,
            _ => return None,
        };
        let page = usize::try_from(word(8)?).ok()?;
        let salts = head.get(16..24)?.try_into().ok()?;
        let mut header = Self { big_endian_sums, page, salts, sum: (0, 0) };
        header.sum = header.sum((0, 0), head.get(..24)?);
        let sane = page.is_power_of_two() && (512..=65_536).contains(&page);
        (sane && header.sum == (word(24)?, word(28)?)).then_some(header)
    }

    /// Two numbers as sums stand in a log.
    fn words(&self, bytes: &[u8]) -> (u32, u32) {
        let (one, other) = bytes.split_at(4);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes);
        (word(one), word(other))
    }

    /// A sum with more bytes, a multiple of eight of them.
    fn sum(&self, before: (u32, u32), bytes: &[u8]) -> (u32, u32) {
        let (mut one, mut other) = before;
        for pair in bytes.chunks_exact(8) {
            let word = |at: usize| {
                let word = [pair[at], pair[at + 1], pair[at + 2], pair[at + 3]];
                if self.big_endian_sums {
                    u32::from_be_bytes(word)
                } else {
                    u32::from_le_bytes(word)
                }
            };
            one = one.wrapping_add(word(0)).wrapping_add(other);
            other = other.wrapping_add(word(4)).wrapping_add(one);
        }
        (one, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database whose process was killed after so many commits: its log, its note, and how many frames it has.
    fn killed(folder: &Path, commits: u32) -> PathBuf {
        let path = folder.join("live.db");
        let mut connection = Connection::open(&path).unwrap();
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        note_commits(&mut connection, &path).unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER, pad BLOB)").unwrap();
        for n in 0..commits {
            connection.execute("INSERT INTO t VALUES (?1, zeroblob(9000))", [n]).unwrap();
        }
        // What lies on disk while it is open is what a kill leaves.
        let copy = folder.join("killed.db");
        for suffix in ["", "-wal", "-acked"] {
            fs::copy(beside(&path, suffix), beside(&copy, suffix)).unwrap();
        }
        copy
    }

    fn rows(path: &Path) -> i64 {
        let connection = Connection::open(path).unwrap();
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_whole_log_is_whole_and_is_forgotten_once_it_is_folded_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = killed(folder.path(), 9);
        assert_eq!(examine(&path).unwrap(), None);
        assert_eq!(rows(&path), 9); // and folds it in
        assert!(beside(&path, "-acked").exists());
        assert_eq!(examine(&path).unwrap(), None);
        assert!(!beside(&path, "-acked").exists());
        assert_eq!(damage_aside(&path), None);
    }

    #[test]
    fn every_flipped_bit_of_a_log_that_costs_a_commit_is_told_with_how_many() {
        const COMMITS: u32 = 6;
        let folder = tempfile::tempdir().unwrap();
        let whole = killed(folder.path(), COMMITS);
        let log = fs::read(beside(&whole, "-wal")).unwrap();
        let note = fs::read(beside(&whole, "-acked")).unwrap();
        let database = fs::read(&whole).unwrap();
        let mut told = 0;
        // The header, the heads of all frames, and some of the pages.
        let page = 4096 + FRAME_HEAD;
        let heads = (HEAD..log.len()).step_by(page);
        let heads = heads.flat_map(|frame| (frame..frame + FRAME_HEAD).step_by(5));
        for at in (0..HEAD).step_by(3).chain(heads).chain((HEAD..log.len()).step_by(1511)) {
            let path = folder.path().join(format!("{at}.db"));
            let mut flipped = log.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &database).unwrap();
            fs::write(beside(&path, "-wal"), &flipped).unwrap();
            fs::write(beside(&path, "-acked"), &note).unwrap();
            let lost = examine(&path).unwrap();
            let there = Connection::open(&path).unwrap();
            let there = there.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
            // The first commit makes the table.
            let missing = there.map_or(i64::from(COMMITS) + 1, |there| i64::from(COMMITS) - there);
            match &lost {
                None => assert_eq!(missing, 0, "byte {at}"),
                Some(LostCommits { commits, .. }) => {
                    told += 1;
                    // Of what has no beginning nothing can be counted, and what ends a commit may itself be hit.
                    let ends_commit = (4..8).contains(&(at.saturating_sub(HEAD) % page));
                    let counts = at >= HEAD && !ends_commit;
                    assert!(
                        !counts || *commits as i64 == missing,
                        "byte {at}: {commits} of {missing}"
                    );
                    assert!(damage_aside(&path).is_some());
                    assert_eq!(fs::read(beside(&path, "-wal.damaged")).unwrap(), flipped);
                }
            }
        }
        assert!(told > 50, "{told}");
    }

    #[test]
    fn a_flipped_bit_of_the_note_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = killed(folder.path(), 3);
        let noted = beside(&path, "-acked");
        let whole = fs::read(&noted).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            fs::write(&noted, flipped).unwrap();
            assert!(examine(&path).unwrap().is_some(), "byte {at}");
            assert!(damage_aside(&path).unwrap().1.contains("acknowledged"));
        }
        // One of a log that was folded in since says nothing of this one.
        fs::write(&noted, Acked { salts: [7; 8], frames: 99 }.encode()).unwrap();
        assert_eq!(examine(&path).unwrap(), None);
    }

    #[test]
    fn without_a_note_a_tail_that_a_power_cut_left_is_none_and_older_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = killed(folder.path(), 5);
        fs::remove_file(beside(&path, "-acked")).unwrap();
        let log = beside(&path, "-wal");
        let whole = fs::read(&log).unwrap();
        let mut torn = whole.clone();
        let last_frame = whole.len() - 5000;
        torn[last_frame] ^= 1;
        fs::write(&log, torn).unwrap();
        assert_eq!(examine(&path).unwrap(), None);
        let mut damaged = whole.clone();
        damaged[HEAD + 6 * 4120 + 100] ^= 1;
        fs::write(&log, damaged).unwrap();
        assert!(examine(&path).unwrap().is_some_and(|lost| lost.commits >= 1));
        assert!(rows(&path) < 4);
    }
}
