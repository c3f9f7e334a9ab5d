//! What could not be kept, for whoever tells which times were not covered.
//!
//! File `gaps.slots`: the same content twice, so that a write that is cut off, or a flipped bit, leaves one whole. Its
//! space is taken when the store is opened: what a full disk refuses is written down while it is full. In the notation
//! of `codec.rs`, each slot is [`SLOT`] bytes:
//!
//! ```text
//! "GJGAPS1\n", sequence i64, length and CRC-32 (of sequence and content) 4 bytes each, little-endian, content
//! content   count var, (cause u8, camera str or empty for any, from i64, to i64, refused var)...
//! ```
//! Stores of earlier versions have a file `gaps`, one line a gap; it is taken over.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use guiji_domain::{
    CameraId, Coverage, CoverageState, Recorded, SightingId, StoreError, TimeSpan, Timestamp,
};
use tracing::{error, warn};

use crate::codec::{Malformed, Reader, Writer};
use crate::errors::{damaged, io_at};
use crate::schema::sync_folder_of;

const MAGIC: &[u8; 8] = b"GJGAPS1\n";
const HEAD: usize = 24;
/// Room for some two thousand gaps: one for each camera of a county.
const SLOT: usize = 64 * 1024;
/// Gaps of a camera that are nearer to each other are one.
const JOIN: Duration = Duration::from_secs(600);
const DOING: &str = "write the gaps down";

/// Why something was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GapCause {
    /// The disk was full.
    DiskFull,
    /// The log of a file was damaged, and with it went what was committed last.
    DamagedLog,
}

impl GapCause {
    /// In words, as coverage has them.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk full",
            Self::DamagedLog => "damaged log",
        }
    }
}

/// A time of which something was not kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreGap {
    /// Whose sightings; `None` when it may be any camera's.
    pub camera: Option<CameraId>,
    /// Why.
    pub cause: GapCause,
    /// From when: the first moment of what was refused.
    pub from: Timestamp,
    /// Until when: its last moment.
    pub to: Timestamp,
    /// Sightings that were refused, repetitions of the same call apart. Some of them may have been given again later:
    /// the store cannot know what became of the others.
    pub refused: u64,
}

impl StoreGap {
    /// What it says of a camera's coverage; `None` when it is another camera's.
    pub(crate) fn unknown(&self, camera: &CameraId) -> Option<Coverage> {
        self.camera.as_ref().is_none_or(|own| own == camera).then(|| Coverage {
            camera: camera.clone(),
            span: TimeSpan::at(self.from).including(self.to),
            state: CoverageState::Unknown,
            cause: self.cause.as_str().to_owned(),
        })
    }
}

/// The gaps so far. They grow with each call that the full disk refuses, and go with the days that they are of.
#[derive(Debug)]
pub(crate) struct Gaps {
    path: PathBuf,
    /// `None` when there was no space for it; tried again with each change.
    file: Option<File>,
    sequence: i64,
    /// By camera, cause and beginning.
    gaps: Vec<StoreGap>,
    /// The ids of the last call that was refused, while the disk is full.
    refusing: Option<Vec<SightingId>>,
    /// Whether what is in memory is not yet in the file.
    unwritten: bool,
    /// What was wrong with the file, for the check.
    found: Option<&'static str>,
}

impl Gaps {
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let mut gaps = Self {
            path: dir.join("gaps.slots"),
            file: None,
            sequence: 0,
            gaps: Vec::new(),
            refusing: None,
            unwritten: false,
            found: None,
        };
        gaps.read()?;
        let old = dir.join("gaps");
        let taken_over = match fs::read_to_string(&old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            other => {
                let text = other.map_err(io_at("read the gaps", &old))?;
                gaps.gaps.extend(lines_of(&text, &old)?);
                gaps.unwritten = true;
                true
            }
        };
        gaps.file =
            allocate(&gaps.path).inspect_err(|error| warn!(%error, "no room for gaps")).ok();
        if gaps.unwritten {
            gaps.write();
        }
        if taken_over && !gaps.unwritten {
            fs::remove_file(&old).map_err(io_at(DOING, &old))?;
            sync_folder_of(&old)?;
        }
        Ok(gaps)
    }

    fn read(&mut self) -> Result<(), StoreError> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(io_at("read the gaps", &self.path))?,
        };
        // An empty file, or one whose making was cut off, never held anything.
        let slots: Vec<_> = bytes
            .chunks(SLOT)
            .filter(|slot| slot.iter().any(|byte| *byte != 0))
            .map(slot_of)
            .collect();
        let whole = slots.iter().filter_map(|slot| slot.as_ref().ok());
        match whole.max_by_key(|(sequence, _)| *sequence) {
            Some((sequence, gaps)) => {
                (self.sequence, self.gaps) = (*sequence, gaps.clone());
                // A write that was cut off leaves the older content in the second one.
                self.unwritten = slots.len() < 2
                    || slots
                        .iter()
                        .any(|slot| slot.as_ref().ok() != Some(&(*sequence, gaps.clone())));
            }
            None if slots.is_empty() => self.unwritten = true,
            None => return Err(damaged(self.path.display(), "both of its copies are damaged")),
        }
        if slots.iter().any(Result::is_err) {
            self.found = Some("one of its two copies was damaged; it is mended from the other");
            warn!(path = %self.path.display(), "one of the two copies of the gaps is damaged");
        }
        Ok(())
    }

    /// The gaps so far, the oldest first.
    pub(crate) fn all(&self) -> Vec<StoreGap> {
        let mut all = self.gaps.clone();
        all.sort_by_key(|gap| (gap.from, gap.to));
        all
    }

    /// What was wrong with the file when it was opened.
    pub(crate) fn damage(&self) -> Option<(&Path, &'static str)> {
        self.found.map(|found| (self.path.as_path(), found))
    }

    /// Hears that a batch was refused since the disk is full.
    pub(crate) fn refused(&mut self, batch: &[Recorded]) {
        let ids: Vec<_> = batch.iter().map(|item| item.sighting.id).collect();
        match &self.refusing {
            None => warn!("the disk is full: sightings are not kept"),
            Some(last) if *last == ids => return self.write(), // the same call again
            Some(_) => {}
        }
        self.refusing = Some(ids);
        self.add(batch.iter().map(|item| {
            let sighting = &item.sighting;
            StoreGap {
                camera: Some(sighting.camera.clone()),
                cause: GapCause::DiskFull,
                from: sighting.span.first().min(sighting.captured.at),
                to: sighting.span.last().max(sighting.captured.at),
                refused: 1,
            }
        }));
    }

    /// Hears that a batch was kept.
    pub(crate) fn kept(&mut self) {
        if self.refusing.take().is_some() {
            warn!("the disk has space again: sightings are kept");
        }
        self.write();
    }

    /// Adds gaps, and writes them down.
    pub(crate) fn add(&mut self, gaps: impl IntoIterator<Item = StoreGap>) {
        self.gaps.extend(gaps);
        let mut join = JOIN;
        self.gaps = joined(std::mem::take(&mut self.gaps), join);
        // Rather too long a gap than none.
        while encode(&self.gaps).len() > SLOT - HEAD && join < Duration::from_secs(86_400) {
            join *= 6;
            self.gaps = joined(std::mem::take(&mut self.gaps), join);
        }
        let dropped = self.drop_surplus();
        if dropped > 0 {
            error!(dropped, "there is no room for more gaps: the oldest are forgotten");
        }
        self.unwritten = true;
        self.write();
    }

    /// Forgets the oldest, as many as there is no room for; how many those were.
    fn drop_surplus(&mut self) -> usize {
        let before = self.gaps.len();
        let mut used = encode(&[]).len() + 2; // the count may take three bytes
        self.gaps.sort_by_key(|gap| std::cmp::Reverse(gap.to));
        self.gaps.retain(|gap| {
            used += encode(std::slice::from_ref(gap)).len() - 1;
            used <= SLOT - HEAD
        });
        self.gaps.sort_unstable();
        before - self.gaps.len()
    }

    /// Forgets what ended before a time; how many gaps that were.
    pub(crate) fn forget_before(&mut self, time: Timestamp) -> usize {
        let before = self.gaps.len();
        self.gaps.retain(|gap| gap.to >= time);
        let gone = before - self.gaps.len();
        self.unwritten |= gone > 0;
        self.write();
        gone
    }

    /// Writes what is not yet written. If that fails, the next change tries again.
    fn write(&mut self) {
        if !self.unwritten {
            return;
        }
        match self.try_write() {
            Ok(()) => self.unwritten = false,
            Err(error) => {
                error!(%error, path = %self.path.display(), "a gap is not written down; tried again");
            }
        }
    }

    fn try_write(&mut self) -> Result<(), StoreError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => allocate(&self.path)?,
        };
        self.sequence += 1;
        let slot = slot(self.sequence, &encode(&self.gaps));
        // One after the other: whatever happens, one of them is whole.
        let written = [0, SLOT as u64].into_iter().try_for_each(|start| {
            file.write_all_at(&slot, start)?;
            file.sync_data()
        });
        self.file = Some(file);
        written.map_err(io_at(DOING, &self.path))
    }
}

/// Opens the file and takes its space.
fn allocate(path: &Path) -> Result<File, StoreError> {
    let failed = io_at(DOING, path);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(&failed)?;
    let length = file.metadata().map_err(&failed)?.len();
    if length < 2 * SLOT as u64 {
        let missing = vec![0; 2 * SLOT - length as usize];
        file.write_all_at(&missing, length).and_then(|()| file.sync_all()).map_err(&failed)?;
        sync_folder_of(path)?;
    }
    Ok(file)
}

/// Makes one of those of the same camera and cause that are nearer than `join`.
fn joined(mut gaps: Vec<StoreGap>, join: Duration) -> Vec<StoreGap> {
    gaps.sort_unstable();
    let mut all: Vec<StoreGap> = Vec::with_capacity(gaps.len());
    for gap in gaps {
        match all.last_mut() {
            Some(last)
                if last.camera == gap.camera
                    && last.cause == gap.cause
                    && last.to.plus(join) >= gap.from =>
            {
                last.to = last.to.max(gap.to);
                last.refused = last.refused.saturating_add(gap.refused);
            }
            _ => all.push(gap),
        }
    }
    all
}

fn encode(gaps: &[StoreGap]) -> Vec<u8> {
    let mut out = Writer::default();
    out.var(gaps.len() as u64);
    for StoreGap { camera, cause, from, to, refused } in gaps {
        out.byte(match cause {
            GapCause::DiskFull => 0,
            GapCause::DamagedLog => 1,
        });
        out.str(camera.as_ref().map_or("", CameraId::as_str));
        out.i64(from.as_nanos());
        out.i64(to.as_nanos());
        out.var(*refused);
    }
    out.0
}

fn decode(content: &[u8]) -> Result<Vec<StoreGap>, Malformed> {
    let mut input = Reader(content);
    let mut gaps = Vec::new();
    for _ in 0..input.var()? {
        let cause = match input.byte()? {
            0 => GapCause::DiskFull,
            1 => GapCause::DamagedLog,
            _ => return Err(Malformed("cause")),
        };
        let camera = match input.str()? {
            "" => None,
            name => Some(CameraId::new(name).map_err(|_| Malformed("camera"))?),
        };
        let (from, to) = (input.i64()?, input.i64()?);
        let (from, to) = (Timestamp::from_nanos(from), Timestamp::from_nanos(to));
        gaps.push(StoreGap { camera, cause, from, to, refused: input.var()? });
    }
    input.end()?;
    Ok(gaps)
}

/// A slot with its content, to its end.
fn slot(sequence: i64, content: &[u8]) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT);
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&sequence.to_le_bytes());
    slot.extend_from_slice(&(content.len() as u32).to_le_bytes());
    slot.extend_from_slice(&sum(&sequence.to_le_bytes(), content).to_le_bytes());
    slot.extend_from_slice(content);
    slot.resize(SLOT, 0);
    slot
}

fn sum(sequence: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(sequence);
    hasher.update(content);
    hasher.finalize()
}

fn slot_of(slot: &[u8]) -> Result<(i64, Vec<StoreGap>), Malformed> {
    let mut input = Reader(slot);
    if input.array::<8>()? != *MAGIC {
        return Err(Malformed("mark"));
    }
    let sequence = input.array::<8>()?;
    let length = u32::from_le_bytes(input.array()?) as usize;
    let stated = u32::from_le_bytes(input.array()?);
    let content = slot.get(HEAD..HEAD.saturating_add(length)).ok_or(Malformed("length"))?;
    // What follows is never read, but shall be as it was written.
    let rest = slot.get(HEAD + length..).unwrap_or_default();
    if sum(&sequence, content) != stated || rest.iter().any(|byte| *byte != 0) {
        return Err(Malformed("checksum"));
    }
    Ok((i64::from_le_bytes(sequence), decode(content)?))
}

/// The gaps of a file of an earlier version: lines of `from to refused crc`, two times in nanoseconds, a number, the
/// CRC-32 of what is before it in hexadecimal. They said nothing of cameras.
fn lines_of(text: &str, path: &Path) -> Result<Vec<StoreGap>, StoreError> {
    // A line that was not finished was never told.
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or(""));
    let gap = |line: &str| {
        let (text, sum) = line.rsplit_once(' ')?;
        if format!("{:08x}", crc32fast::hash(text.as_bytes())) != sum {
            return None;
        }
        let mut parts = text.split(' ');
        let mut time = || parts.next()?.parse().ok().map(Timestamp::from_nanos);
        let (from, to) = (time()?, time()?);
        let refused = parts.next()?.parse().ok()?;
        Some(StoreGap { camera: None, cause: GapCause::DiskFull, from, to, refused })
    };
    let lines = whole
        .lines()
        .map(|line| gap(line).ok_or_else(|| damaged(path.display(), "a line is wrong")));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3600;

    fn gap(camera: &str, from: i64, to: i64) -> StoreGap {
        StoreGap {
            camera: CameraId::new(camera).ok(),
            cause: GapCause::DiskFull,
            from: Timestamp::from_secs(from),
            to: Timestamp::from_secs(to),
            refused: 1,
        }
    }

    #[test]
    fn one_old_sighting_leaves_other_cameras_and_other_times_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut gaps = Gaps::open(folder.path()).unwrap();
        gaps.add([gap("k1", 0, 4), gap("k2", 9000 * HOUR, 9000 * HOUR + 4)]);
        gaps.add([gap("k2", 9000 * HOUR + 60, 9000 * HOUR + 64)]);
        let later = StoreGap { refused: 2, ..gap("k2", 9000 * HOUR, 9000 * HOUR + 64) };
        assert_eq!(gaps.all(), [gap("k1", 0, 4), later.clone()]);
        // Without anybody having said that the disk has space again: as a process that is killed leaves it.
        let mut gaps = Gaps::open(folder.path()).unwrap();
        assert_eq!(gaps.all(), [gap("k1", 0, 4), later.clone()]);
        assert_eq!(gaps.forget_before(Timestamp::from_secs(5)), 1);
        assert_eq!(Gaps::open(folder.path()).unwrap().all(), [later]);
    }

    #[test]
    fn the_file_of_an_earlier_version_is_taken_over_once() {
        let folder = tempfile::tempdir().unwrap();
        let line = "1000000000 2000000000 7";
        let text = format!("{line} {:08x}\n", crc32fast::hash(line.as_bytes()));
        fs::write(folder.path().join("gaps"), format!("{text}3 4")).unwrap();
        let old = StoreGap { camera: None, refused: 7, ..gap("k1", 1, 2) };
        for _ in 0..2 {
            assert_eq!(Gaps::open(folder.path()).unwrap().all(), std::slice::from_ref(&old));
        }
        assert!(!folder.path().join("gaps").exists());
        fs::write(folder.path().join("gaps"), text.replace('7', "8")).unwrap();
        assert!(Gaps::open(folder.path()).is_err());
    }

    #[test]
    fn any_flipped_bit_is_mended_and_told() {
        let folder = tempfile::tempdir().unwrap();
        Gaps::open(folder.path()).unwrap().add([gap("k1", 0, 4), gap("k2", HOUR, HOUR)]);
        let path = folder.path().join("gaps.slots");
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), 2 * SLOT);
        for at in (0..60).chain([SLOT - 1, SLOT, SLOT + 30, 2 * SLOT - 1]) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let gaps = Gaps::open(folder.path()).unwrap();
            assert_eq!((gaps.all().len(), gaps.damage().is_some()), (2, true), "byte {at}");
            assert!(Gaps::open(folder.path()).unwrap().damage().is_none(), "byte {at}");
        }
        fs::write(&path, vec![1; 2 * SLOT]).unwrap();
        assert!(Gaps::open(folder.path()).is_err());
    }

    #[test]
    fn more_than_there_is_room_for_is_made_coarser_and_then_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut gaps = Gaps::open(folder.path()).unwrap();
        gaps.add(
            (0..4000)
                .map(|n| gap(&format!("camera-{}", n % 1000), n / 1000 * HOUR, n / 1000 * HOUR)),
        );
        let all = gaps.all();
        assert_eq!(all.len(), 1000, "an hour is not kept apart any more");
        assert!(
            all.iter().all(|gap| gap.refused == 4 && gap.to.since(gap.from).as_secs() == 3 * 3600)
        );
        gaps.add((0..4000).map(|n| gap(&format!("other-{n}"), 90_000 * HOUR, 90_000 * HOUR)));
        assert!(gaps.all().iter().all(|gap| gap.from == Timestamp::from_secs(90_000 * HOUR)));
        assert_eq!(Gaps::open(folder.path()).unwrap().all(), gaps.all());
    }

    proptest! {
        #[test]
        fn what_is_joined_covers_what_was_there(
            given in prop::collection::vec((0..3_u8, 0..100_000_i64, 0..2_000_i64), 0..40),
        ) {
            let given: Vec<_> =
                given.into_iter().map(|(k, from, long)| gap(&format!("k{k}"), from, from + long)).collect();
            let all = joined(given.clone(), JOIN);
            for one in &given {
                let covers = |all: &&StoreGap| {
                    all.camera == one.camera && all.from <= one.from && one.to <= all.to
                };
                prop_assert_eq!(all.iter().filter(covers).count(), 1);
            }
            prop_assert_eq!(all.iter().map(|gap| gap.refused).sum::<u64>(), given.len() as u64);
            prop_assert_eq!(decode(&encode(&all)).unwrap(), all.clone());
            for pair in all.windows(2) {
                prop_assert!(pair[0].camera != pair[1].camera || pair[0].to.plus(JOIN) < pair[1].from);
            }
        }

        #[test]
        fn nothing_panics_on_any_bytes(bytes: Vec<u8>) {
            drop(slot_of(&bytes));
            drop(decode(&bytes));
        }
    }
}
