//! Erasing what records say: the chain keeps the digests, so it still verifies.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use guiji_domain::{Digest, StoreError, Timestamp};

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

/// Deletes what the records of whole UTC days before this time say; how many files that were.
///
/// # Errors
/// When a file cannot be deleted.
pub fn erase_audit_days(dir: &Path, before: Timestamp) -> Result<usize, StoreError> {
    let first_kept = payload_path(dir, Day::of(before));
    let mut erased = 0;
    // The names are days, so they are in the order of time.
    for path in payload_files(dir)?.into_iter().filter(|path| *path < first_kept) {
        fs::remove_file(&path).map_err(io_at(DOING, &path))?;
        erased += 1;
    }
    if erased > 0 {
        sync_folder_of(&first_kept)?;
    }
    Ok(erased)
}

/// Puts digests in the place of what the wanted records say; how many records that were. The day of `now` is left: a
/// server may be writing to it.
///
/// # Errors
/// When a file cannot be read or written, or a line of it is no payload; the files before it are done then.
pub fn erase_audit_records(
    dir: &Path,
    wanted: &AuditErasure,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let today = payload_path(dir, Day::of(now));
    let mut erased = 0;
    for path in payload_files(dir)?.into_iter().filter(|path| *path < today) {
        let text = fs::read_to_string(&path).map_err(io_at(DOING, &path))?;
        let (mut out, mut of_file) = (String::with_capacity(text.len()), 0);
        for line in text.lines() {
            let payload: Payload = serde_json::from_str(line)
                .map_err(|error| damaged(path.display(), format!("no record: {error}")))?;
            if wanted.wants(&payload) {
                let without =
                    payload.erased().ok_or_else(|| damaged(path.display(), "a salt is none"))?;
                let line = serde_json::to_string(&without);
                out += &line.map_err(|error| damaged(path.display(), error))?;
                of_file += 1;
            } else {
                out += line;
            }
            out.push('\n');
        }
        if of_file > 0 {
            replace(&path, &out)?;
            erased += of_file;
        }
    }
    Ok(erased)
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
