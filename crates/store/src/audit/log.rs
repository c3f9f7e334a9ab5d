use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use guiji_domain::{AuditDone, AuditEntry, AuditLog, Digest, StoreError, Timestamp};
use tracing::{error, info, warn};

use super::checkpoint::Checkpoint;
use super::erase::{self, AuditErasure, Erased};
use super::format::{BEGINNING, Hash, Link, Payload, sha256};
use super::key::{SigningKey, hex, random, sync_folder_of};
use crate::day::Day;
use crate::errors::{damaged, io_at};

/// Where the audit lies, and how often it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// The folder. Made (readable by its owner only) when it is missing.
    pub dir: PathBuf,
    /// A file on another disk or machine to which checkpoints are appended too: the only guard against somebody who
    /// may write to the folder.
    pub export: Option<PathBuf>,
    /// A checkpoint is made after so many records at the latest…
    pub checkpoint_records: u64,
    /// …and when so much time has passed since a record that is not under one.
    pub checkpoint_interval: Duration,
    /// Entries waiting for the disk; one more is refused.
    pub queue_max: usize,
}

impl AuditSettings {
    /// A checkpoint every 1000 records or ten minutes, kept in the folder alone.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            export: None,
            checkpoint_records: 1000,
            checkpoint_interval: Duration::from_secs(600),
            queue_max: 4096,
        }
    }
}

/// The audit in a folder: entries are written in groups by a thread of its own, one sync for what waited meanwhile.
/// Dropping it writes what waits and makes a last checkpoint.
pub struct Audit {
    queue: Option<SyncSender<Task>>,
    writing: Option<JoinHandle<()>>,
}

/// What the thread does.
enum Task {
    Record(Box<AuditEntry>, AuditDone),
    Erase(Erasing, SyncSender<Result<usize, StoreError>>),
}

/// What is to be erased, by whose word.
struct Erasing {
    what: What,
    by: String,
    at: Timestamp,
}

enum What {
    Records(AuditErasure),
    DaysBefore(Day),
}

/// Most entries that are written at a time.
const GROUP_MAX: usize = 256;
/// Longest value of a field, characters.
const VALUE_CHARS_MAX: usize = 4000;
/// Longest question, characters.
const QUESTION_CHARS_MAX: usize = 50_000;
/// Longest request, characters: one that lists all the cameras there may be fits.
const REQUEST_CHARS_MAX: usize = 200_000;
/// Numbers of erased records in one record, which then fit in a question.
const ERASED_RANGES_MAX: usize = 4000;

impl Audit {
    /// Opens the audit; makes it when there is none, and takes back what a crash left unfinished: such a record was
    /// never acknowledged.
    ///
    /// # Errors
    /// When another process has it open, the chain's end is damaged, or the medium fails.
    pub fn open(settings: AuditSettings) -> Result<Self, StoreError> {
        let (queue, waiting) = sync_channel(settings.queue_max.max(1));
        let writer = Writer::open(settings)?;
        let writing = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(&waiting))
            .map_err(|error| medium(error.to_string()))?;
        Ok(Self { queue: Some(queue), writing: Some(writing) })
    }

    /// Puts digests in the place of what the wanted records say; how many records that were. A record of its own says
    /// which, by whose word, so that what is missing otherwise is found; records of erasures are never erased.
    ///
    /// # Errors
    /// When a file cannot be read or written, or a line of it is no payload; the files before it are done then.
    pub fn erase_records(
        &self,
        wanted: &AuditErasure,
        by: &str,
        at: Timestamp,
    ) -> Result<usize, StoreError> {
        self.erase(Erasing { what: What::Records(wanted.clone()), by: by.to_owned(), at })
    }

    /// Deletes what the records of whole UTC days before a time say, and records that; how many files that were.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub fn erase_days(
        &self,
        before: Timestamp,
        by: &str,
        at: Timestamp,
    ) -> Result<usize, StoreError> {
        self.erase(Erasing { what: What::DaysBefore(Day::of(before)), by: by.to_owned(), at })
    }

    fn erase(&self, erasing: Erasing) -> Result<usize, StoreError> {
        let ended = || medium("its thread has ended");
        let (tell, hear) = sync_channel(1);
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send(Task::Erase(erasing, tell)).map_err(|_| ended())?;
        hear.recv().unwrap_or_else(|_| Err(ended()))
    }
}

impl AuditLog for Audit {
    fn submit(&self, entry: AuditEntry, done: AuditDone) {
        let Some(queue) = &self.queue else { return done(Err(medium("is closed"))) };
        match queue.try_send(Task::Record(Box::new(entry), done)) {
            Err(TrySendError::Full(Task::Record(_, done))) => {
                done(Err(medium("too many records wait for the disk")));
            }
            Err(TrySendError::Disconnected(Task::Record(_, done))) => {
                done(Err(medium("its thread has ended")));
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writing) = self.writing.take()
            && writing.join().is_err()
        {
            error!("the audit's thread panicked");
        }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Audit")
    }
}

const DOING: &str = "write the audit";

fn medium(reason: impl Into<String>) -> StoreError {
    StoreError::Medium { doing: DOING, reason: reason.into() }
}

struct Writer {
    settings: AuditSettings,
    key: SigningKey,
    /// Held with flock(2) as long as the audit is open.
    chain: File,
    chain_path: PathBuf,
    chain_bytes: u64,
    last: Option<Link>,
    /// Records after the last checkpoint.
    unsealed: u64,
    /// When the first of them was made.
    unsealed_since: Option<Timestamp>,
    /// A write whose outcome nobody knows: nothing may follow it in this process.
    broken: bool,
}

impl Writer {
    fn open(settings: AuditSettings) -> Result<Self, StoreError> {
        let payloads = settings.dir.join("payload");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&payloads)
            .map_err(io_at("make the audit's folder", &payloads))?;
        let chain_path = settings.dir.join("chain");
        let chain = open_private(&chain_path, |options| options.read(true).write(true))?;
        match chain.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let folder = settings.dir.display();
                return Err(medium(format!("{folder}: another process has it open")));
            }
            Err(TryLockError::Error(error)) => return Err(io_at(DOING, &chain_path)(error)),
        }
        cut_tail(&chain_path, |_| true)?;
        let last = last_link(&chain_path)?;
        let number = last.map_or(0, |link| link.number);
        refuse_short(&settings.dir, number)?;
        for path in payload_files(&settings.dir)? {
            cut_tail(&path, |line| {
                let payload = serde_json::from_str::<Payload>(line);
                // A line that is no payload was not left by a crash: verify tells of it.
                payload.map_or(true, |payload| payload.number <= number)
            })?;
        }
        let key = SigningKey::load_or_make(&settings.dir.join("key"))?;
        let chain_bytes = chain.metadata().map_err(io_at(DOING, &chain_path))?.len();
        sync_folder_of(&chain_path)?;
        info!(records = number, key = hex(&key.public()), "audit opened");
        // What a crash left without a checkpoint gets one with the next.
        let unsealed = u64::from(number > 0);
        Ok(Self {
            settings,
            key,
            chain,
            chain_path,
            chain_bytes,
            last,
            unsealed,
            unsealed_since: last.map(|link| link.at),
            broken: false,
        })
    }

    fn run(mut self, waiting: &Receiver<Task>) {
        let mut next = None;
        loop {
            let first = match next
                .take()
                .map_or_else(|| waiting.recv_timeout(self.settings.checkpoint_interval), Ok)
            {
                Ok(Task::Record(entry, done)) => (entry, done),
                Ok(Task::Erase(erasing, tell)) => {
                    // An error means that nobody waits any more.
                    drop(tell.send(self.erase(erasing)));
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.seal();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(task) = waiting.try_recv()
            {
                match task {
                    Task::Record(entry, done) => group.push((entry, done)),
                    Task::Erase(..) => {
                        next = Some(task);
                        break;
                    }
                }
            }
            let (entries, done): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            let written = self.write(entries.into_iter().map(|entry| *entry).collect());
            for (number, done) in (0..).zip(done) {
                done(written.as_ref().map(|first: &u64| first + number).map_err(copy_of));
            }
            let age = self.unsealed_since.zip(self.last).map(|(since, last)| last.at.since(since));
            if self.unsealed >= self.settings.checkpoint_records
                || age.is_some_and(|age| age >= self.settings.checkpoint_interval)
            {
                self.seal();
            }
        }
        self.seal();
    }

    /// Records an erasure, then does it: a crash between the two leaves what may be erased again.
    fn erase(&mut self, erasing: Erasing) -> Result<usize, StoreError> {
        let Erasing { what, by, at } = erasing;
        let dir = self.settings.dir.clone();
        let found = match &what {
            What::Records(wanted) => erase::find(&dir, wanted)?,
            What::DaysBefore(day) => erase::days_before(&dir, *day)?,
        };
        if found.is_empty() {
            return Ok(0);
        }
        let statements = match &what {
            What::Records(_) => Erased::of_records(found.numbers(), ERASED_RANGES_MAX),
            What::DaysBefore(day) => vec![Erased::DaysBefore(*day)],
        };
        let entries = statements.iter().map(|erased| AuditEntry {
            at,
            method: erase::METHOD.to_owned(),
            officer: by.clone(),
            question: erased.to_string(),
            results: found.count() as u64,
            outcome: "Ok".to_owned(),
            ..AuditEntry::default()
        });
        self.write(entries.collect())?;
        let erased = found.erase()?;
        self.seal();
        Ok(erased)
    }

    /// Writes a group whole or not at all; the number of its first record.
    fn write(&mut self, entries: Vec<AuditEntry>) -> Result<u64, StoreError> {
        if self.broken {
            return Err(medium("an earlier write failed half-way: restart the program"));
        }
        let mut lines = String::new();
        let mut payloads: BTreeMap<Day, String> = BTreeMap::new();
        let (mut last, mut salts) = (self.last, Vec::new());
        let first = last.map_or(0, |link| link.number) + 1;
        let count = entries.len() as u64;
        let began = entries.first().map(|entry| entry.at);
        for entry in entries {
            salts.clear();
            for _ in super::format::FIELDS {
                salts.push(random::<16>()?);
            }
            let number = last.map_or(0, |link: Link| link.number) + 1;
            let (at, before) = (entry.at, last.map_or(BEGINNING, |link| link.hash));
            let payload = Payload::new(number, clipped(entry), || salts.pop().unwrap_or_default());
            let digest = payload.digest().ok_or_else(|| medium("a payload has wrong fields"))?;
            let link = Link::after(&before, number, at, digest);
            let text = serde_json::to_string(&payload).map_err(|e| medium(e.to_string()))?;
            let of_day = payloads.entry(Day::of(at)).or_default();
            of_day.push_str(&text);
            of_day.push('\n');
            lines.push_str(&link.line());
            last = Some(link);
        }
        // The payload first: a record whose payload a crash took would look erased.
        let written = self.append(&payloads, &lines);
        if let Err(error) = written {
            error!(%error, "audit records could not be written");
            return Err(error);
        }
        self.unsealed_since = self.unsealed_since.or(began);
        self.last = last;
        self.unsealed += count;
        Ok(first)
    }

    fn append(&mut self, payloads: &BTreeMap<Day, String>, lines: &str) -> Result<(), StoreError> {
        let mut appended = Vec::new();
        let result = payloads
            .iter()
            .try_for_each(|(day, text)| {
                let path = payload_path(&self.settings.dir, *day);
                append_synced(&path, text, &mut appended)
            })
            .and_then(|()| {
                let (path, before) = (&self.chain_path, self.chain_bytes);
                self.chain.seek(SeekFrom::Start(before)).map_err(io_at(DOING, path))?;
                self.chain.write_all(lines.as_bytes()).map_err(io_at(DOING, path))?;
                self.chain.sync_data().map_err(io_at(DOING, path))
            });
        match result {
            Ok(()) => {
                self.chain_bytes += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                let undone = self.chain.set_len(self.chain_bytes).and_then(|()| {
                    appended
                        .iter()
                        .try_for_each(|(file, before): &(File, u64)| file.set_len(*before))
                });
                // Half a group might be there, or what a failed sync left: the next start looks again.
                self.broken = undone.is_err() || !matches!(error, StoreError::Full { .. });
                Err(error)
            }
        }
    }

    /// Makes a checkpoint of the last record, unless it has one.
    fn seal(&mut self) {
        let Some(last) = self.last.filter(|_| self.unsealed > 0) else { return };
        let checkpoint = Checkpoint::sign(&last, &self.key);
        let Ok(line) = serde_json::to_string(&checkpoint) else { return };
        // The log is an outside place too, for those who collect it.
        info!(target: "audit", checkpoint = line, "checkpoint");
        let own = self.settings.dir.join("checkpoints.jsonl");
        for path in [Some(&own), self.settings.export.as_ref()].into_iter().flatten() {
            if let Err(error) = append_synced(path, &format!("{line}\n"), &mut Vec::new()) {
                // The next checkpoint vouches for these records too.
                warn!(%error, "a checkpoint could not be written");
            }
        }
        (self.unsealed, self.unsealed_since) = (0, None);
    }
}

/// Errors are told to each who waits.
fn copy_of(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full { doing } => StoreError::Full { doing },
        other => medium(other.to_string()),
    }
}

fn clipped(mut entry: AuditEntry) -> AuditEntry {
    let clip = |value: &mut String, chars_max| {
        if let Some((end, _)) = value.char_indices().nth(chars_max) {
            value.truncate(end);
            value.push('…');
        }
    };
    for value in
        [&mut entry.officer, &mut entry.on_behalf_of, &mut entry.purpose, &mut entry.case_number]
    {
        clip(value, VALUE_CHARS_MAX);
    }
    clip(&mut entry.question, QUESTION_CHARS_MAX);
    if entry.request.chars().nth(REQUEST_CHARS_MAX).is_some() {
        let digest = Digest(sha256("guiji audit request 1", &[entry.request.as_bytes()]));
        clip(&mut entry.request, REQUEST_CHARS_MAX);
        entry.request += &format!(" cut off; SHA-256 of the whole: {digest}");
    }
    // Watch-lists of thousands come in one call; their entries are in the request.
    let mut chars = 0;
    entry.plates.retain(|plate| {
        chars += plate.chars().count() + 1;
        chars <= VALUE_CHARS_MAX
    });
    entry
}

pub(crate) fn payload_path(dir: &Path, day: Day) -> PathBuf {
    dir.join("payload").join(format!("{day}.jsonl"))
}

pub(crate) fn payload_files(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let folder = dir.join("payload");
    let doing = io_at("list the audit's payload", &folder);
    let listed = fs::read_dir(&folder).map_err(&doing)?;
    let paths: Result<Vec<_>, _> = listed.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(&doing)?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    Ok(paths)
}

fn open_private(
    path: &Path,
    how: impl Fn(&mut OpenOptions) -> &mut OpenOptions,
) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    how(&mut options).create(true).mode(0o600).open(path).map_err(io_at(DOING, path))
}

/// Appends and syncs; notes file and length before, for taking it back.
fn append_synced(
    path: &Path,
    text: &str,
    appended: &mut Vec<(File, u64)>,
) -> Result<(), StoreError> {
    let mut file = open_private(path, |options| options.append(true))?;
    let before = file.metadata().map_err(io_at(DOING, path))?.len();
    let undo = file.try_clone().map_err(io_at(DOING, path))?;
    appended.push((undo, before));
    file.write_all(text.as_bytes()).map_err(io_at(DOING, path))?;
    file.sync_data().map_err(io_at(DOING, path))?;
    if before == 0 {
        sync_folder_of(path)?;
    }
    Ok(())
}

/// The last part of a file, from the beginning of a line on: where it begins, and its bytes.
fn tail(file: &mut File, bytes_max: u64) -> std::io::Result<(u64, Vec<u8>)> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut start = file.seek(SeekFrom::Start(end.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if start > 0 {
        let line = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..line);
        start += line as u64;
    }
    Ok((start, bytes))
}

/// Cuts an unfinished line off a file's end, and the last lines that are not to be kept.
fn cut_tail(path: &Path, keep: impl Fn(&str) -> bool) -> Result<(), StoreError> {
    /// More than a group of ordinary records.
    const TAIL_BYTES: u64 = 1 << 20;
    let doing = io_at("mend the audit's end", path);
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(&doing)?;
    let mut bytes_max = TAIL_BYTES;
    loop {
        let (start, bytes) = tail(&mut file, bytes_max).map_err(&doing)?;
        let mut kept = 0;
        let mut at = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            let whole = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
            if whole.is_some_and(&keep) {
                kept = at;
            }
        }
        if kept == 0 && start > 0 {
            bytes_max = u64::MAX;
            continue;
        }
        if kept < bytes.len() {
            let cut = bytes.len() - kept;
            warn!(file = %path.display(), bytes = cut, "cut off what a crash left unfinished");
            file.set_len(start + kept as u64).map_err(&doing)?;
            file.sync_all().map_err(&doing)?;
        }
        return Ok(());
    }
}

/// The last record, which must follow from the one before it.
fn last_link(path: &Path) -> Result<Option<Link>, StoreError> {
    /// Some records.
    const TAIL_BYTES: u64 = 4096;
    let doing = io_at("read the audit's end", path);
    let mut file = File::open(path).map_err(&doing)?;
    let (start, bytes) = tail(&mut file, TAIL_BYTES).map_err(&doing)?;
    let wrong = || {
        damaged(
            path.display(),
            "its last records do not follow from each other: guiji audit verify",
        )
    };
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let links: Option<Vec<Link>> = text.lines().map(Link::parse).collect();
    let links = links.ok_or_else(wrong)?;
    let follows = |before: Option<&Link>, link: &Link| {
        let hash: Hash = before.map_or(BEGINNING, |before| before.hash);
        *link == Link::after(&hash, link.number, link.at, link.payload)
    };
    let first = links.first().filter(|_| start == 0);
    let whole = first.is_none_or(|first| follows(None, first))
        && links.windows(2).all(|pair| follows(Some(&pair[0]), &pair[1]));
    if whole { Ok(links.last().copied()) } else { Err(wrong()) }
}

/// A chain that ends before its last checkpoint was not cut off by a crash. Going on would write over the traces.
fn refuse_short(dir: &Path, number: u64) -> Result<(), StoreError> {
    let path = dir.join("checkpoints.jsonl");
    if !path.is_file() {
        return Ok(());
    }
    cut_tail(&path, |_| true)?;
    let doing = io_at("read the audit's checkpoints", &path);
    let mut file = File::open(&path).map_err(&doing)?;
    let (_, bytes) = tail(&mut file, 4096).map_err(&doing)?;
    let last = bytes.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    let last = last.and_then(|line| serde_json::from_slice::<Checkpoint>(line).ok());
    match last {
        Some(last) if last.number > number => Err(damaged(
            dir.display(),
            format!(
                "the chain ends at record {number}, but record {} is under a checkpoint: guiji audit verify",
                last.number
            ),
        )),
        _ => Ok(()),
    }
}
