//! Releases of old data and of tactics: a journal of what was given and taken back, read whole at the start.
//!
//! One JSON object a line, appended and synced: `{"granted":{…}}` or `{"revoked":7}`, then a tab and the CRC-32 of the
//! object's text, eight hexadecimal digits. Nothing is ever taken out, so that the file itself says who let whom look;
//! a line that a crash left unfinished was never acknowledged and is cut off. Files of earlier versions have no
//! checksums; they are written anew with them.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use guiji_domain::{InvalidValue, PlateText, Release, ReleaseBook, StoreError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::audit::ends_changed;
use crate::errors::{damaged, io_at};
use crate::schema::sync_folder_of;

/// Releases that have not ended, at most: a supervisor looks through them.
const OPEN_MAX: usize = 1000;
const DOING: &str = "write the releases";

/// Releases in a file.
#[derive(Debug)]
pub struct ReleaseFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Bytes of the file that were acknowledged.
    length: u64,
    next: u64,
    /// Those that were not taken back; ended ones too.
    given: Vec<Release>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Granted(Entry),
    Revoked(u64),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    number: u64,
    officer: String,
    case_number: String,
    plate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tactic: Option<String>,
    reason: String,
    granted_by: String,
    granted_ns: i64,
    expires_ns: i64,
}

impl ReleaseFile {
    /// Opens the journal; makes it, readable by its owner only, when there is none.
    ///
    /// # Errors
    /// When the medium fails or a line is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let doing = io_at("read the releases", path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(&doing)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(&doing)?;
        if ends_changed(&text, |line| proved(line.as_bytes()).is_some()) {
            return Err(damaged(path.display(), "the end of its last line was changed"));
        }
        let mut length = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let is_old = text[..length].starts_with(b"{") && !text[..length].contains(&b'\t');
        if is_old {
            (file, text) = with_checksums(path, &text[..length])?;
            length = text.len();
        }
        let (mut next, mut given) = (1, Vec::new());
        let lines = text[..length].strip_suffix(b"\n").unwrap_or_default();
        for line in lines.split(|byte| *byte == b'\n').filter(|_| length > 0) {
            let line = proved(line).ok_or_else(|| {
                damaged(path.display(), "no release: its checksum does not match")
            })?;
            let line = serde_json::from_slice(line)
                .map_err(|error| damaged(path.display(), format!("no release: {error}")))?;
            match line {
                Line::Granted(entry) => {
                    next = entry.number + 1;
                    given.push(entry.release().map_err(|why| damaged(path.display(), why))?);
                }
                Line::Revoked(number) => given.retain(|release| release.number != number),
            }
        }
        let length = length as u64;
        file.set_len(length).map_err(&doing)?;
        let state = Mutex::new(State { file, length, next, given });
        Ok(Self { path: path.to_owned(), state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is the last step of a call, so a panic leaves it as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, state: &mut State, line: &Line) -> Result<(), StoreError> {
        let text = serde_json::to_vec(line).map_err(|error| damaged(self.path.display(), error))?;
        let text = with_checksum(&text);
        let written = state
            .file
            .seek(SeekFrom::Start(state.length))
            .and_then(|_| state.file.write_all(&text))
            .and_then(|()| state.file.sync_data());
        match written {
            Ok(()) => {
                state.length += text.len() as u64;
                Ok(())
            }
            Err(error) => {
                let doing = io_at(DOING, &self.path);
                state.file.set_len(state.length).map_err(&doing)?;
                Err(doing(error))
            }
        }
    }
}

/// A line's text, its checksum and its end.
fn with_checksum(text: &[u8]) -> Vec<u8> {
    let sum = crc32fast::hash(text);
    [text, format!("\t{sum:08x}\n").as_bytes()].concat()
}

/// The text of a line without its end, if it is what was written.
fn proved(line: &[u8]) -> Option<&[u8]> {
    let (text, sum) = line.split_at_checked(line.len().checked_sub(9)?)?;
    (sum == format!("\t{:08x}", crc32fast::hash(text)).as_bytes()).then_some(text)
}

/// Writes a file of an earlier version anew, durably and whole.
fn with_checksums(path: &Path, lines: &[u8]) -> Result<(File, Vec<u8>), StoreError> {
    let unfinished = path.with_extension("new");
    let doing = io_at(DOING, &unfinished);
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let text: Vec<u8> = lines.flat_map(with_checksum).collect();
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&unfinished).map_err(&doing)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(&doing)?;
    std::fs::rename(&unfinished, path).map_err(&doing)?;
    sync_folder_of(path)?;
    Ok((file, text))
}

impl ReleaseBook for ReleaseFile {
    fn grant(&self, release: Release) -> Result<u64, StoreError> {
        let mut state = self.state();
        let open = state.given.iter().filter(|other| other.expires > release.granted).count();
        if open >= OPEN_MAX {
            let reason = format!("{OPEN_MAX} releases have not ended: revoke some");
            return Err(StoreError::Medium { doing: "give a release", reason });
        }
        let number = state.next;
        let release = Release { number, ..release };
        self.append(&mut state, &Line::Granted(Entry::of(&release)))?;
        state.next += 1;
        state.given.push(release);
        Ok(number)
    }

    fn revoke(&self, number: u64) -> Result<bool, StoreError> {
        let mut state = self.state();
        if state.given.iter().all(|release| release.number != number) {
            return Ok(false);
        }
        self.append(&mut state, &Line::Revoked(number))?;
        state.given.retain(|release| release.number != number);
        Ok(true)
    }

    fn releases(&self, now: Timestamp) -> Vec<Release> {
        let state = self.state();
        state.given.iter().filter(|release| now < release.expires).cloned().collect()
    }
}

impl Entry {
    fn of(release: &Release) -> Self {
        Self {
            number: release.number,
            officer: release.officer.clone(),
            case_number: release.case_number.clone(),
            plate: release.plate.as_ref().map(|plate| plate.as_str().to_owned()),
            tactic: release.tactic.map(|tactic| tactic.as_str().to_owned()),
            reason: release.reason.clone(),
            granted_by: release.granted_by.clone(),
            granted_ns: release.granted.as_nanos(),
            expires_ns: release.expires.as_nanos(),
        }
    }

    fn release(self) -> Result<Release, String> {
        let plate = self.plate.as_deref().map(PlateText::parse).transpose();
        let tactic = self.tactic.as_deref().map(str::parse).transpose();
        Ok(Release {
            tactic: tactic.map_err(|error: InvalidValue| error.to_string())?,
            number: self.number,
            officer: self.officer,
            case_number: self.case_number,
            plate: plate.map_err(|error| error.to_string())?,
            reason: self.reason,
            granted_by: self.granted_by,
            granted: Timestamp::from_nanos(self.granted_ns),
            expires: Timestamp::from_nanos(self.expires_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use guiji_domain::PatternTactic;

    use super::*;

    fn release(officer: &str, expires: i64) -> Release {
        Release {
            number: 0,
            officer: officer.into(),
            case_number: "2026-0417".into(),
            plate: PlateText::parse("浙J12345").ok(),
            tactic: None,
            reason: "series of thefts".into(),
            granted_by: "li".into(),
            granted: Timestamp::from_secs(100),
            expires: Timestamp::from_secs(expires),
        }
    }

    #[test]
    fn releases_survive_and_numbers_are_never_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("releases.jsonl");
        let open = || ReleaseFile::open(&path).unwrap();
        let now = Timestamp::from_secs(150);
        let book = open();
        assert_eq!(book.grant(release("wang", 200)).unwrap(), 1);
        assert_eq!(book.grant(release("zhao", 160)).unwrap(), 2);
        assert_eq!(book.grant(release("chen", 300)).unwrap(), 3);
        assert!(book.revoke(3).unwrap());
        assert!(!book.revoke(3).unwrap());
        drop(book);
        // A crash in the middle of a line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"granted\":{\"numb").unwrap();
        drop(file);
        let book = open();
        let expected = Release { number: 1, ..release("wang", 200) };
        assert_eq!(book.releases(now)[0], expected);
        assert_eq!(book.releases(now).len(), 2);
        assert_eq!(book.releases(Timestamp::from_secs(160)).len(), 1, "the end is excluded");
        let tactic = Some(PatternTactic::NightActive);
        let night = Release { number: 4, plate: None, tactic, ..release("wu", 200) };
        assert_eq!(book.grant(night.clone()).unwrap(), 4);
        drop(book);
        let kept = open().releases(now);
        assert_eq!((kept.len(), kept.last()), (3, Some(&night)));
        assert!(expected.covers("wang", "2026-0417", now));
        for (officer, case_number, now) in
            [("zhao", "2026-0417", 150), ("wang", "2026-0418", 150), ("wang", "2026-0417", 200)]
        {
            assert!(!expected.covers(officer, case_number, Timestamp::from_secs(now)));
        }
    }

    #[test]
    fn any_flipped_bit_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("releases.jsonl");
        let book = ReleaseFile::open(&path).unwrap();
        book.grant(release("wang", 200)).unwrap();
        book.grant(release("zhao", 300)).unwrap();
        drop(book);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            assert!(ReleaseFile::open(&path).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_file_without_checksums_gets_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("releases.jsonl");
        let book = ReleaseFile::open(&path).unwrap();
        book.grant(release("wang", 200)).unwrap();
        book.grant(release("zhao", 300)).unwrap();
        book.revoke(1).unwrap();
        drop(book);
        let whole = std::fs::read_to_string(&path).unwrap();
        let old: String =
            whole.lines().map(|line| format!("{}\n", line.split('\t').next().unwrap())).collect();
        std::fs::write(&path, format!("{old}{{\"gran")).unwrap();
        let left = ReleaseFile::open(&path).unwrap().releases(Timestamp::from_secs(150));
        assert_eq!(left.len(), 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    }

    #[test]
    fn a_damaged_line_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("releases.jsonl");
        std::fs::write(&path, "{\"granted\":{}}\n").unwrap();
        let error = ReleaseFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("releases.jsonl"), "{error}");
    }
}
