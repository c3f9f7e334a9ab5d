use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Lines};
use std::path::{Path, PathBuf};

use guiji_domain::{StoreError, Timestamp};

use super::format::{Link, Payload};
use super::log::payload_path;
use crate::day::Day;
use crate::errors::{damaged, io_at};

/// A record of the audit, as far as it was not erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its place in the chain, from 1.
    pub number: u64,
    /// When it was made.
    pub at: Timestamp,
    pub(crate) payload: Option<Payload>,
}

impl AuditRecord {
    /// A field by its name (`officer`, `case_number`, `question`…); `None` when it was erased.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.payload.as_ref()?.value(name)
    }

    /// The fields that were not erased, names and values, in the order of the format.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let payload = self.payload.as_ref();
        let names = super::format::FIELDS.into_iter();
        names.filter_map(move |name| Some((name, payload?.value(name)?)))
    }
}

/// The records of an audit in their order, unverified. The audit may be open for writing meanwhile.
#[derive(Debug)]
pub struct AuditRecords {
    chain: Links,
    payloads: Payloads,
}

impl AuditRecords {
    /// # Errors
    /// When there is no audit in the folder, or it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self { chain: Links::open(dir)?, payloads: Payloads::new(dir) })
    }
}

impl Iterator for AuditRecords {
    type Item = Result<AuditRecord, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.chain.next()?;
        let read = line.and_then(|line| {
            let link = Link::parse(&line).ok_or_else(|| {
                let what = self.chain.path.display();
                damaged(what, "a line is no record: guiji audit verify")
            })?;
            let payload = self.payloads.of(&link)?;
            Ok(AuditRecord { number: link.number, at: link.at, payload })
        });
        Some(read)
    }
}

/// The whole lines of the chain. What is being written at the end is left out.
#[derive(Debug)]
pub(crate) struct Links {
    path: PathBuf,
    file: BufReader<File>,
}

impl Links {
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("chain");
        let file = File::open(&path).map_err(io_at("read the audit", &path))?;
        Ok(Self { path, file: BufReader::new(file) })
    }
}

impl Iterator for Links {
    type Item = Result<String, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.file.read_until(b'\n', &mut line) {
            Err(error) => Some(Err(io_at("read the audit", &self.path)(error))),
            Ok(_) if line.pop() != Some(b'\n') => None,
            // What is no text is no record either, and is told as such.
            Ok(_) => Some(Ok(String::from_utf8_lossy(&line).into_owned())),
        }
    }
}

/// The payloads, read along with the chain: the lines of a day rise with the numbers.
#[derive(Debug)]
pub(crate) struct Payloads {
    dir: PathBuf,
    day: Option<(Day, Option<Lines<BufReader<File>>>)>,
    ahead: Option<Payload>,
}

impl Payloads {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), day: None, ahead: None }
    }

    /// What a record says; `None` when it was erased. To be asked with rising numbers.
    pub(crate) fn of(&mut self, link: &Link) -> Result<Option<Payload>, StoreError> {
        let day = Day::of(link.at);
        let path = payload_path(&self.dir, day);
        let doing = io_at("read the audit's payload", &path);
        if self.day.as_ref().is_none_or(|(open, _)| *open != day) {
            let file = match File::open(&path) {
                Ok(file) => Some(BufReader::new(file).lines()),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(doing(error)),
            };
            (self.day, self.ahead) = (Some((day, file)), None);
        }
        let Some((_, Some(lines))) = &mut self.day else { return Ok(None) };
        loop {
            if let Some(ahead) = self.ahead.take_if(|ahead| ahead.number <= link.number) {
                if ahead.number == link.number {
                    return Ok(Some(ahead));
                }
            } else if self.ahead.is_some() {
                return Ok(None);
            }
            let Some(line) = lines.next() else { return Ok(None) };
            let line = line.map_err(&doing)?;
            let payload = serde_json::from_str(&line);
            self.ahead = Some(payload.map_err(|error| damaged(path.display(), error))?);
        }
    }
}
