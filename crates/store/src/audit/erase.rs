//! Erasing what records say: the chain keeps the digests, so it still verifies, and a record says what was erased.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use guiji_domain::{Digest, StoreError};

use super::format::{Field, Payload};
use super::key::sync_folder_of;
use super::log::{payload_files, payload_path};
use crate::day::Day;
use crate::errors::{damaged, io_at};

const DOING: &str = "erase records of the audit";

/// Which records are to be erased: conditions are joined by *and*.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditErasure {
    /// Those of this user.
    pub officer: Option<String>,
    /// Those of this case.
    pub case_number: Option<String>,
}

impl AuditErasure {
    fn wants(&self, payload: &Payload) -> bool {
        let fits = |name, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| payload.value(name) == Some(wanted))
        };
        let any = self.officer.is_some() || self.case_number.is_some();
        any && fits("officer", &self.officer) && fits("case_number", &self.case_number)
    }
}

/// The method in the record of an erasure: no call has this name.
pub(crate) const METHOD: &str = "Audit/Erase";

/// What a record of an erasure says: its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Erased {
    /// Of these records.
    Records(Vec<RangeInclusive<u64>>),
    /// Of all records of the days before this one.
    DaysBefore(Day),
}

impl Erased {
    /// Says which records, at most so many ranges of numbers at a time.
    pub(crate) fn of_records(numbers: impl Iterator<Item = u64>, ranges_max: usize) -> Vec<Self> {
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some(last) if last.end() + 1 == number => *last = *last.start()..=number,
                _ => ranges.push(number..=number),
            }
        }
        ranges.chunks(ranges_max.max(1)).map(|ranges| Self::Records(ranges.to_vec())).collect()
    }

    /// Reads a record of an erasure; `None` when it is none.
    pub(crate) fn parse(payload: &Payload) -> Option<Self> {
        if payload.value("method") != Some(METHOD) {
            return None;
        }
        let question = payload.value("question")?;
        if let Some(day) = question.strip_prefix("days before ") {
            return day.parse().ok().map(Self::DaysBefore);
        }
        let ranges = question.strip_prefix("records ")?.split(' ').map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse().ok()?)
        });
        ranges.collect::<Option<_>>().map(Self::Records)
    }

    /// Whether it is the reason why a record of that day says nothing.
    pub(crate) fn covers(&self, number: u64, day: Day) -> bool {
        match self {
            Self::Records(ranges) => ranges.iter().any(|range| range.contains(&number)),
            Self::DaysBefore(before) => day < *before,
        }
    }
}

impl fmt::Display for Erased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(ranges) => {
                f.write_str("records")?;
                ranges.iter().try_for_each(|range| match (range.start(), range.end()) {
                    (first, last) if first == last => write!(f, " {first}"),
                    (first, last) => write!(f, " {first}-{last}"),
                })
            }
            Self::DaysBefore(day) => write!(f, "days before {day}"),
        }
    }
}

/// What was found to be erased, not yet touched.
pub(crate) enum Found {
    /// By file, the numbers of its records.
    Records(BTreeMap<PathBuf, BTreeSet<u64>>),
    Files(Vec<PathBuf>),
}

/// The files of days before this one.
pub(crate) fn days_before(dir: &Path, day: Day) -> Result<Found, StoreError> {
    let first_kept = payload_path(dir, day);
    // The names are days, so they are in the order of time.
    let files = payload_files(dir)?.into_iter().filter(|path| *path < first_kept);
    Ok(Found::Files(files.collect()))
}

/// The records that are wanted. Those of erasures stay: without them, what they erased would look removed.
pub(crate) fn find(dir: &Path, wanted: &AuditErasure) -> Result<Found, StoreError> {
    let mut found = BTreeMap::new();
    for path in payload_files(dir)? {
        let numbers: Result<BTreeSet<_>, _> = payloads(&path)?
            .filter(|payload| {
                payload.as_ref().map_or(true, |(_, payload)| {
                    wanted.wants(payload) && payload.value("method") != Some(METHOD)
                })
            })
            .map(|payload| payload.map(|(_, payload)| payload.number))
            .collect();
        let numbers = numbers?;
        if !numbers.is_empty() {
            found.insert(path, numbers);
        }
    }
    Ok(Found::Records(found))
}

/// The lines of a file with what they say.
fn payloads(
    path: &Path,
) -> Result<impl Iterator<Item = Result<(String, Payload), StoreError>>, StoreError> {
    let file = File::open(path).map_err(io_at(DOING, path))?;
    let path = path.to_owned();
    Ok(BufReader::new(file).lines().map(move |line| {
        let line = line.map_err(io_at(DOING, &path))?;
        let payload = serde_json::from_str(&line)
            .map_err(|error| damaged(path.display(), format!("no record: {error}")))?;
        Ok((line, payload))
    }))
}

impl Found {
    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Records or files.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Records(found) => found.values().map(BTreeSet::len).sum(),
            Self::Files(files) => files.len(),
        }
    }

    /// The numbers of the records, rising.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        let found = match self {
            Self::Records(found) => Some(found.values().flatten().copied()),
            Self::Files(_) => None,
        };
        let numbers: BTreeSet<u64> = found.into_iter().flatten().collect();
        numbers.into_iter()
    }

    /// Erases it; how many records or files.
    pub(crate) fn erase(self) -> Result<usize, StoreError> {
        let count = self.count();
        match self {
            Self::Files(files) => {
                for path in &files {
                    fs::remove_file(path).map_err(io_at(DOING, path))?;
                }
                if let Some(path) = files.first() {
                    sync_folder_of(path)?;
                }
            }
            Self::Records(found) => {
                for (path, numbers) in &found {
                    let mut out = String::new();
                    for payload in payloads(path)? {
                        let (line, payload) = payload?;
                        if numbers.contains(&payload.number) {
                            let without = payload.erased();
                            let without =
                                without.ok_or_else(|| damaged(path.display(), "a salt is none"))?;
                            let line = serde_json::to_string(&without);
                            out += &line.map_err(|error| damaged(path.display(), error))?;
                        } else {
                            out += &line;
                        }
                        out.push('\n');
                    }
                    replace(path, &out)?;
                }
            }
        }
        Ok(count)
    }
}

impl Payload {
    /// The same record without its values; `None` when a salt is none.
    fn erased(self) -> Option<Self> {
        let fields = self.fields.into_iter().map(|field| {
            let digest = Digest(field.digest()?).to_string();
            Some(Field::Erased { name: field.name().to_owned(), digest })
        });
        Some(Self { number: self.number, fields: fields.collect::<Option<_>>()? })
    }
}

/// Written whole or not at all.
fn replace(path: &Path, text: &str) -> Result<(), StoreError> {
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(io_at(DOING, &unfinished))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io_at(DOING, &unfinished))?;
    fs::rename(&unfinished, path).map_err(io_at(DOING, path))?;
    sync_folder_of(path)
}
