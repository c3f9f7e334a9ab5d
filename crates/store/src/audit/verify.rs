use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use guiji_domain::{Digest, StoreError};

use super::checkpoint::Checkpoint;
use super::erase::Erased;
use super::format::{BEGINNING, Field, Hash, Link};
use super::read::{Links, Payloads};
use crate::day::Day;
use crate::errors::{damaged, io_at};

/// What became of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditReport {
    /// Records that follow from each other, from the first on.
    pub records: u64,
    /// Of these, records of which something or everything was erased.
    pub erased: u64,
    /// Of these, records that say what was erased.
    pub erasures: u64,
    /// Checkpoints that agree with the chain.
    pub checkpoints: u64,
    /// The last record under such a checkpoint: what comes after it could have been cut off unnoticed.
    pub vouched_to: u64,
    /// The first record that is not what was recorded.
    pub first_break: Option<AuditBreak>,
}

/// A record that is not what was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditBreak {
    /// Its number.
    pub number: u64,
    /// What is wrong.
    pub what: String,
}

/// Checks an audit from its first record to its last, against the checkpoints in its folder and against those that
/// were exported to `checkpoints`, whose first one says which key is believed. The audit may be open meanwhile.
///
/// # Errors
/// When a file cannot be read, or a line of checkpoints is none.
pub fn verify_audit(dir: &Path, checkpoints: Option<&Path>) -> Result<AuditReport, StoreError> {
    let mut vouched = Vouched::default();
    if let Some(path) = checkpoints {
        vouched.read(path)?;
    }
    let own = dir.join("checkpoints.jsonl");
    if own.is_file() {
        vouched.read(&own)?;
    }
    let mut report = AuditReport::default();
    let mut before = BEGINNING;
    let mut payloads = Payloads::new(dir);
    let mut silent = Silent::default();
    for line in Links::open(dir)? {
        let number = report.records + 1;
        let found = follow(&line?, number, &before).and_then(|link| {
            vouched.agree(&link, &mut report)?;
            let said = says_what_was_recorded(&link, &mut payloads)?;
            Ok((link, said))
        });
        match found {
            Ok((link, said)) => {
                before = link.hash;
                report.records += 1;
                match said {
                    Said::Everything => {}
                    Said::Erasure(erased) => {
                        report.erasures += 1;
                        silent.erasures.push(erased);
                    }
                    Said::LessThanRecorded => {
                        report.erased += 1;
                        silent.note(link.number, Day::of(link.at));
                    }
                }
            }
            Err(what) => {
                report.first_break = Some(AuditBreak { number, what });
                return Ok(report);
            }
        }
    }
    report.first_break = vouched.beyond(report.records).or_else(|| silent.unexplained());
    Ok(report)
}

/// What a record was found to say.
enum Said {
    Everything,
    Erasure(Erased),
    LessThanRecorded,
}

/// Records that say less than was recorded, and the erasures that may be why.
#[derive(Default)]
struct Silent {
    /// Numbers that follow each other on one day.
    records: Vec<(RangeInclusive<u64>, Day)>,
    erasures: Vec<Erased>,
}

impl Silent {
    fn note(&mut self, number: u64, day: Day) {
        match self.records.last_mut() {
            Some((last, of)) if *of == day && last.end() + 1 == number => {
                *last = *last.start()..=number;
            }
            _ => self.records.push((number..=number, day)),
        }
    }

    /// The first record that nobody erased on the record: its line or file was removed, or its values.
    fn unexplained(&self) -> Option<AuditBreak> {
        let mut silent = self.records.iter().flat_map(|(numbers, day)| {
            let by_day = self.erasures.iter().any(|erased| erased.covers(0, *day));
            let (numbers, day) = (numbers.clone().filter(move |_| !by_day), *day);
            numbers.map(move |number| (number, day))
        });
        let explained = |(number, day): &(u64, Day)| {
            self.erasures.iter().any(|erased| erased.covers(*number, *day))
        };
        let (number, _) = silent.find(|record| !explained(record))?;
        Some(AuditBreak {
            number,
            what: "says less than was recorded, and no erasure is on record: its file, its line or a part of it was \
                   removed"
                .into(),
        })
    }
}

/// The record of a line, if it follows from the one before.
fn follow(line: &str, number: u64, before: &Hash) -> Result<Link, String> {
    let link = Link::parse(line).ok_or("its line is no record")?;
    if link.number != number {
        return Err(format!("is missing: record {} stands in its place", link.number));
    }
    if link != Link::after(before, number, link.at, link.payload) {
        return Err("does not follow from the record before it: one of them was changed".into());
    }
    Ok(link)
}

/// How much of a payload is there; an error when it is not the one that was recorded.
fn says_what_was_recorded(link: &Link, payloads: &mut Payloads) -> Result<Said, String> {
    let Some(payload) = payloads.of(link).map_err(|error| error.to_string())? else {
        return Ok(Said::LessThanRecorded);
    };
    if payload.digest() != Some(link.payload) {
        return Err("what it says is not what was recorded".into());
    }
    if !payload.fields.iter().all(|field| matches!(field, Field::Kept { .. })) {
        return Ok(Said::LessThanRecorded);
    }
    Ok(Erased::parse(&payload).map_or(Said::Everything, Said::Erasure))
}

/// What checkpoints vouch for.
#[derive(Default)]
struct Vouched {
    key: Option<String>,
    /// By number: the hash, or why the checkpoint is not believed.
    hashes: BTreeMap<u64, Vec<Result<Hash, String>>>,
}

impl Vouched {
    fn read(&mut self, path: &Path) -> Result<(), StoreError> {
        let text = fs::read_to_string(path).map_err(io_at("read the audit's checkpoints", path))?;
        // What is being written at the end is left out.
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        for line in whole.lines() {
            let checkpoint: Checkpoint = serde_json::from_str(line)
                .map_err(|error| damaged(path.display(), format!("no checkpoint: {error}")))?;
            let believed = self.key.get_or_insert_with(|| checkpoint.key.clone());
            let vouched = if *believed != checkpoint.key {
                Err(format!("its checkpoint is signed by another key than {believed}"))
            } else {
                let hash = checkpoint.proved();
                hash.ok_or_else(|| "its checkpoint's signature is wrong".to_owned())
            };
            self.hashes.entry(checkpoint.number).or_default().push(vouched);
        }
        Ok(())
    }

    /// Checks a record against its checkpoints.
    fn agree(&self, link: &Link, report: &mut AuditReport) -> Result<(), String> {
        for vouched in self.hashes.get(&link.number).into_iter().flatten() {
            if *vouched.as_ref().map_err(Clone::clone)? != link.hash {
                return Err(format!(
                    "is {} and not the record that was under its checkpoint: the chain was written anew somewhere \
                     after record {}",
                    Digest(link.hash),
                    report.vouched_to
                ));
            }
            report.checkpoints += 1;
            report.vouched_to = link.number;
        }
        Ok(())
    }

    /// What a chain lacks that ends at this record.
    fn beyond(&self, end: u64) -> Option<AuditBreak> {
        let (last, _) = self.hashes.last_key_value()?;
        (*last > end).then(|| AuditBreak {
            number: end + 1,
            what: format!(
                "is missing: the chain was cut off, for a checkpoint vouches for record {last}"
            ),
        })
    }
}
