//! What could not be kept, for whoever tells which times were not covered.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use guiji_domain::{Recorded, StoreError, Timestamp};
use tracing::warn;

use crate::errors::{damaged, io_at};

/// Most gaps kept; of more, the oldest go.
const GAPS_MAX: usize = 10_000;

/// A time in which the store kept nothing, since its disk was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreGap {
    /// The earliest capture time of what was refused.
    pub from: Timestamp,
    /// The latest capture time of what was refused.
    pub to: Timestamp,
    /// Sightings that were refused, repetitions of the same call apart. Some of them may have been given again later:
    /// the store cannot know what became of the others.
    pub refused: u64,
}

/// The gaps so far. One opens with the first call that the full disk refuses and is written down when the next one
/// succeeds: before, there is no space for it.
///
/// File `gaps`: a line each, `from to refused crc`: two times in nanoseconds, a number, the CRC-32 of what is before it
/// in hexadecimal.
#[derive(Debug)]
pub(crate) struct Gaps {
    path: PathBuf,
    closed: Vec<StoreGap>,
    open: Option<(StoreGap, Vec<guiji_domain::SightingId>)>,
}

impl Gaps {
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("gaps");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other.map_err(io_at("read the gaps", &path))?,
        };
        // A line that was not finished was never told.
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or(""));
        let closed = whole
            .lines()
            .map(|line| decode(line).ok_or_else(|| damaged(path.display(), "a line is wrong")))
            .collect::<Result<_, _>>()?;
        Ok(Self { path, closed, open: None })
    }

    /// The gaps so far, the oldest first; the one that is open last.
    pub(crate) fn all(&self) -> Vec<StoreGap> {
        self.closed.iter().copied().chain(self.open.as_ref().map(|(gap, _)| *gap)).collect()
    }

    /// Hears that a batch was refused since the disk is full.
    pub(crate) fn refused(&mut self, batch: &[Recorded]) {
        let ids: Vec<_> = batch.iter().map(|item| item.sighting.id).collect();
        if self.open.as_ref().is_some_and(|(_, last)| *last == ids) {
            return; // the same call again
        }
        for item in batch {
            let at = item.sighting.captured.at;
            let (gap, _) = self.open.get_or_insert_with(|| {
                warn!("the disk is full: sightings are not kept");
                (StoreGap { from: at, to: at, refused: 0 }, Vec::new())
            });
            *gap =
                StoreGap { from: gap.from.min(at), to: gap.to.max(at), refused: gap.refused + 1 };
        }
        if let Some((_, last)) = &mut self.open {
            *last = ids;
        }
    }

    /// Hears that a batch was kept.
    pub(crate) fn kept(&mut self) {
        let Some((gap, _)) = self.open.take() else { return };
        let StoreGap { from, to, refused } = gap;
        warn!(%from, %to, refused, "the disk has space again: sightings are kept");
        self.closed.push(gap);
        let surplus = self.closed.len().saturating_sub(GAPS_MAX);
        self.closed.drain(..surplus);
        let written =
            OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path).and_then(
                |mut file| file.write_all(encode(&gap).as_bytes()).and_then(|()| file.sync_all()),
            );
        if let Err(error) = written {
            warn!(%error, path = %self.path.display(), "a gap is not written down");
        }
    }
}

fn encode(gap: &StoreGap) -> String {
    let text = format!("{} {} {}", gap.from.as_nanos(), gap.to.as_nanos(), gap.refused);
    let sum = crc32fast::hash(text.as_bytes());
    format!("{text} {sum:08x}\n")
}

fn decode(line: &str) -> Option<StoreGap> {
    let (text, sum) = line.rsplit_once(' ')?;
    if format!("{:08x}", crc32fast::hash(text.as_bytes())) != sum {
        return None;
    }
    let mut parts = text.split(' ');
    let mut time = || parts.next()?.parse().ok().map(Timestamp::from_nanos);
    let (from, to) = (time()?, time()?);
    let refused = parts.next()?.parse().ok()?;
    Some(StoreGap { from, to, refused })
}
