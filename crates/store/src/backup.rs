//! Back-ups: a folder with the store's files as they were, and `SHA256SUMS`, which `sha256sum -c` reads as well.
//!
//! A back-up may be made beside a running server. It has everything that was acknowledged before it began. Of what
//! comes meanwhile, each day is as it was when it was copied, the newest first, so that a batch that is there in its
//! later day is there in its earlier ones. Databases are copied by `VACUUM INTO`, from one snapshot each; then segments
//! and packs, which hold everything that the database's copy points to. Sealing and retention pause meanwhile.
//!
//! `SHA256SUMS` is written last: a folder without it is no back-up.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use guiji_domain::{Digest, StoreError, Timestamp};
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use crate::check::Damage;
use crate::context::forget_before;
use crate::day::Day;
use crate::deliveries::{Deliveries, expire_rows};
use crate::errors::{damaged, io_at, sql_at};
use crate::pack::PackName;
use crate::partition::sealed_number;
use crate::retention::first_kept;
use crate::schema::{connect, sync_folder_of};
use crate::settings::StoreSettings;
use crate::store::{Store, files_in, try_lock};
use crate::wal;

const DOING: &str = "back the store up";
const RESTORING: &str = "restore a back-up";
const EXPIRING: &str = "delete what is kept no longer";
/// Ending of a database of a back-up that was written anew.
const REWRITTEN: &str = ".new";
const SUMS: &str = "SHA256SUMS";

/// What was copied, or left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupReport {
    /// Files.
    pub files: usize,
    /// Bytes of these files.
    pub bytes: u64,
    /// Files that were left out or deleted since their day has expired.
    pub expired: usize,
}

/// Who deletes or moves files of a store and who copies them must not do it at once. The first share the lock.
pub(crate) struct Housekeeping(File);

impl Housekeeping {
    fn file(dir: &Path) -> Result<File, StoreError> {
        let path = dir.join("housekeeping.lock");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).map_err(io_at("lock the store", &path))
    }

    /// For those who delete or move; `None` while somebody copies.
    pub(crate) fn share(dir: &Path) -> Result<Option<Self>, StoreError> {
        let file = Self::file(dir)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(io_at("lock the store", dir)(error)),
        }
    }

    /// Likewise, but waits.
    pub(crate) fn share_waiting(dir: &Path) -> Result<Self, StoreError> {
        let file = Self::file(dir)?;
        file.lock_shared().map_err(io_at("lock the store", dir))?;
        Ok(Self(file))
    }

    /// For those who copy; waits.
    fn alone(dir: &Path) -> Result<Self, StoreError> {
        let file = Self::file(dir)?;
        file.lock().map_err(io_at("lock the store", dir))?;
        Ok(Self(file))
    }
}

impl Drop for Housekeeping {
    fn drop(&mut self) {
        // As the lock on the folder: a child process may have a copy of the descriptor. Nothing is lost if it fails.
        drop(self.0.unlock());
    }
}

/// Copies a store, open or not, into a folder that is missing or empty.
///
/// The key of the cameras' passwords comes along if it lies in the store's folder. The audit does not: its files are
/// only ever appended to and may be copied as they are.
///
/// # Errors
/// When the folder is not empty, a file of the store is damaged, or the medium fails.
pub fn back_up(dir: &Path, to: &Path) -> Result<BackupReport, StoreError> {
    if !dir.join("registry.db").is_file() {
        let reason = format!("there is no store in {}", dir.display());
        return Err(StoreError::Medium { doing: DOING, reason });
    }
    make_empty(to, DOING)?;
    let _nobody_deletes = Housekeeping::alone(dir)?;
    // Of a store that is not open, what a killed process left is taken up first, and what its logs lost is told.
    if let Some(lock) = try_lock(dir)? {
        for database in databases(dir)? {
            wal::examine(&database)?;
            if let Some((path, reason)) = wal::damage_aside(&database) {
                return Err(damaged(path.display(), reason));
            }
        }
        drop(lock);
    }
    let mut backup = Backup { to, sums: BTreeMap::new(), bytes: 0 };
    backup.store(dir, Path::new(""))?;
    write_sums(to, &backup.sums)?;
    Ok(BackupReport { files: backup.sums.len(), bytes: backup.bytes, expired: 0 })
}

/// The databases of a store that have logs.
fn databases(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut all: Vec<_> =
        ["registry.db", "context.db", "deliveries.db"].map(|name| dir.join(name)).into();
    all.extend(files_in(&dir.join("sightings"))?);
    all.retain(|path| path.extension().is_some_and(|ending| ending == "db") && path.is_file());
    Ok(all)
}

struct Backup<'a> {
    to: &'a Path,
    /// Of each file, by its path in the back-up.
    sums: BTreeMap<String, String>,
    bytes: u64,
}

impl Backup<'_> {
    fn store(&mut self, dir: &Path, below: &Path) -> Result<(), StoreError> {
        for folder in ["sightings", "evidence"] {
            make_folder(&self.to.join(below).join(folder), DOING)?;
        }
        for name in ["registry.db", "context.db", "deliveries.db"] {
            if dir.join(name).is_file() {
                self.database(&dir.join(name), &below.join(name))?;
            }
        }
        let mut days = files_in(&dir.join("sightings"))?;
        days.retain(|path| path.extension().is_some_and(|extension| extension == "db"));
        days.sort_unstable_by(|one, other| other.cmp(one)); // the newest first
        for path in days {
            let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let name = below.join("sightings").join(format!("{stem}.db"));
            self.database(&path, &name)?;
            let sealed = sealed_number(&connect(&self.to.join(&name))?)?;
            if let Some(number) = sealed {
                let file = format!("{stem}.{number:04}.seg");
                let name = below.join("sightings").join(&file);
                self.copy(&dir.join("sightings").join(file), &name)?;
            }
        }
        for path in files_in(&dir.join("evidence"))? {
            if let Some(name) = path.file_name() {
                self.copy(&path, &below.join("evidence").join(name))?;
            }
        }
        let names = [
            "registry.key",
            "gaps",
            "gaps.slots",
            "releases.jsonl",
            "evidence.key",
            "evidence.pub",
        ];
        for name in names {
            self.copy_if_there(&dir.join(name), &below.join(name))?;
        }
        let held = dir.join("held");
        if held.is_dir() {
            make_folder(&self.to.join(below).join("held"), DOING)?;
            for folder in files_in(&held)? {
                let Some(name) = folder.file_name() else { continue };
                let below = below.join("held").join(name);
                make_folder(&self.to.join(&below), DOING)?;
                for name in ["hold.json", "lifted"] {
                    self.copy_if_there(&folder.join(name), &below.join(name))?;
                }
                if folder.join("store/registry.db").is_file() {
                    make_folder(&self.to.join(&below).join("store"), DOING)?;
                    self.store(&folder.join("store"), &below.join("store"))?;
                }
            }
        }
        Ok(())
    }

    fn database(&mut self, from: &Path, name: &Path) -> Result<(), StoreError> {
        let path = self.to.join(name);
        let failed = sql_at(DOING, from);
        let target = path.to_str().ok_or_else(|| StoreError::Medium {
            doing: DOING,
            reason: format!("{} is no text", path.display()),
        })?;
        connect(from)?.execute("VACUUM INTO ?1", [target]).map_err(&failed)?;
        let failed = io_at(DOING, &path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(&failed)?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(&failed)?;
        let (sum, bytes) = sum_of(&path, DOING)?;
        self.enter(name, sum, bytes)
    }

    fn copy_if_there(&mut self, from: &Path, name: &Path) -> Result<(), StoreError> {
        if from.is_file() { self.copy(from, name) } else { Ok(()) }
    }

    fn copy(&mut self, from: &Path, name: &Path) -> Result<(), StoreError> {
        let (sum, bytes) = copy(from, &self.to.join(name), DOING)?;
        self.enter(name, sum, bytes)
    }

    fn enter(&mut self, name: &Path, sum: String, bytes: u64) -> Result<(), StoreError> {
        self.sums.insert(name.display().to_string(), sum);
        self.bytes += bytes;
        Ok(())
    }
}

/// What of a back-up is not what was written: any flipped bit, missing or added file. Empty when it is whole.
///
/// # Errors
/// When the folder holds no back-up that was finished, or the medium fails.
pub fn check_backup(dir: &Path) -> Result<Vec<Damage>, StoreError> {
    let mut sums = read_sums(dir)?;
    let mut damages = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in files_in(&folder)? {
            let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name != SUMS {
                let what = path.display().to_string();
                let reason = match sums.remove(&name) {
                    None => "it does not belong to the back-up",
                    Some(sum) if sum_of(&path, "check a back-up")?.0 != sum => {
                        "its SHA-256 does not match"
                    }
                    Some(_) => continue,
                };
                damages.push(Damage { what, reason: reason.to_owned() });
            }
        }
    }
    damages.extend(sums.into_keys().map(|name| Damage {
        what: dir.join(name).display().to_string(),
        reason: "it is missing".to_owned(),
    }));
    damages.sort_by(|one, other| one.what.cmp(&other.what));
    Ok(damages)
}

/// Makes a store of a back-up, in the settings' folder, which must be missing or empty. Days and pictures that are
/// older than the settings allow are left out. Everything is proved before and after.
///
/// # Errors
/// When anything of the back-up is damaged (the message names the file), the folder is not empty, or the medium fails.
pub fn restore(
    from: &Path,
    settings: &StoreSettings,
    now: Timestamp,
) -> Result<BackupReport, StoreError> {
    if let Some(Damage { what, reason }) = check_backup(from)?.into_iter().next() {
        return Err(StoreError::Damaged { what, reason });
    }
    make_empty(&settings.dir, RESTORING)?;
    let mut report = BackupReport::default();
    for (name, sum) in read_sums(from)? {
        if has_expired(&name, settings, now) {
            report.expired += 1;
            continue;
        }
        let path = settings.dir.join(&name);
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(io_at(RESTORING, folder))?;
        }
        let (copied, bytes) = copy(&from.join(&name), &path, RESTORING)?;
        if copied != sum {
            return Err(damaged(from.join(&name).display(), "it has changed meanwhile"));
        }
        report.files += 1;
        report.bytes += bytes;
    }
    let store = Store::open(settings.clone())?;
    // What is older than it may be in files that are not of a day, and what lifted holds held.
    store.enforce_retention(now)?;
    expire_deliveries(&settings.dir, settings, now)?;
    let check = store.check()?;
    match check.damages.into_iter().next() {
        Some(Damage { what, reason }) => Err(StoreError::Damaged { what, reason }),
        None => Ok(report),
    }
}

/// Deletes from a back-up what is older than the settings allow: back-ups expire as the store does, the rows of
/// coverage, corrections and deliveries among the files of days too. What a hold keeps stays, until it is lifted: in
/// the back-up, or in the store in the settings' folder, if there is one.
///
/// # Errors
/// When it is no back-up, a file of which rows are to go is damaged, or the medium fails; calling it again goes on.
pub fn expire_backup(
    dir: &Path,
    settings: &StoreSettings,
    now: Timestamp,
) -> Result<BackupReport, StoreError> {
    let mut sums = read_sums(dir)?;
    finish_renames(dir, &sums)?;
    let mut report = BackupReport::default();
    let lifted = lifted_holds(dir, &sums, settings)?;
    let is_lifted = |name: &str| lifted.iter().any(|folder| name.starts_with(folder));
    let expired: Vec<String> = sums
        .keys()
        .filter(|name| has_expired(name, settings, now) || is_lifted(name))
        .cloned()
        .collect();
    for name in expired {
        let path = dir.join(&name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_at(EXPIRING, &path)(error));
            }
            Ok(()) | Err(_) => sync_folder_of(&path)?,
        }
        sums.remove(&name);
        report.expired += 1;
    }
    if report.expired > 0 {
        write_sums(dir, &sums)?;
    }
    for folder in &lifted {
        let folder = dir.join(folder);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_at(EXPIRING, &folder)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let before = first_kept(settings, now);
    rewrite(dir, &mut sums, "context.db", |connection| forget_before(connection, before))?;
    rewrite(dir, &mut sums, "deliveries.db", |connection| {
        expire_rows(connection, deliveries_from(settings, now))
    })?;
    report.files = sums.len();
    Ok(report)
}

/// Proofs of delivery are kept as long as sightings.
fn deliveries_from(settings: &StoreSettings, now: Timestamp) -> Timestamp {
    now.minus(Duration::from_secs(86_400) * settings.sightings_days)
}

fn expire_deliveries(
    dir: &Path,
    settings: &StoreSettings,
    now: Timestamp,
) -> Result<(), StoreError> {
    if dir.join("deliveries.db").is_file() {
        Deliveries::open(dir, settings.durability)?.expire(deliveries_from(settings, now))?;
    }
    Ok(())
}

/// The folders in a back-up of holds that are lifted, there or in the store that it is of. Numbers of holds that are
/// gone are given again: a hold is the same if it says the same.
fn lifted_holds(
    dir: &Path,
    sums: &BTreeMap<String, String>,
    settings: &StoreSettings,
) -> Result<Vec<String>, StoreError> {
    let has_store = settings.dir.join("registry.db").is_file();
    let mut lifted = Vec::new();
    for (name, sum) in sums {
        let Some(folder) = name.strip_suffix("hold.json") else { continue };
        let here = dir.join(folder).join("lifted").exists();
        let live = settings.dir.join(folder);
        let there = has_store
            && (live.join("lifted").exists()
                || !live.join("hold.json").is_file()
                || sum_of(&live.join("hold.json"), EXPIRING)?.0 != *sum);
        if here || there {
            lifted.push(folder.to_owned());
        }
    }
    Ok(lifted)
}

/// Deletes rows of a database in a back-up. The new file lies beside the old one when the list of files names it, so
/// that whoever goes on after a crash finds it.
fn rewrite(
    dir: &Path,
    sums: &mut BTreeMap<String, String>,
    name: &str,
    delete: impl FnOnce(&Connection) -> Result<usize, StoreError>,
) -> Result<(), StoreError> {
    let (path, new) = (dir.join(name), dir.join(format!("{name}{REWRITTEN}")));
    let Some(stated) = sums.get(name).cloned() else { return Ok(()) };
    remove_if_there(&new)?;
    let (sum, _) = copy(&path, &new, EXPIRING)?;
    if sum != stated {
        remove_if_there(&new)?;
        return Err(damaged(path.display(), "its SHA-256 does not match"));
    }
    let failed = sql_at(EXPIRING, &new);
    let connection = connect(&new)?;
    connection.execute_batch("PRAGMA journal_mode = DELETE").map_err(&failed)?;
    let gone = delete(&connection)?;
    // Their bytes go too.
    connection.execute_batch("VACUUM").map_err(&failed)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    if gone == 0 {
        return remove_if_there(&new);
    }
    File::open(&new).and_then(|file| file.sync_all()).map_err(io_at(EXPIRING, &new))?;
    sync_folder_of(&new)?;
    sums.insert(name.to_owned(), sum_of(&new, EXPIRING)?.0);
    write_sums(dir, sums)?;
    finish_renames(dir, sums)
}

/// Puts the files in their places that were rewritten and are in the list.
fn finish_renames(dir: &Path, sums: &BTreeMap<String, String>) -> Result<(), StoreError> {
    for name in ["context.db", "deliveries.db"] {
        let (path, new) = (dir.join(name), dir.join(format!("{name}{REWRITTEN}")));
        if !new.is_file() {
            continue;
        }
        if sums.get(name) == Some(&sum_of(&new, EXPIRING)?.0) {
            fs::rename(&new, &path).map_err(io_at(EXPIRING, &path))?;
        } else {
            remove_if_there(&new)?;
        }
        sync_folder_of(&path)?;
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(EXPIRING, path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a file of a back-up is of a day that is kept no longer. Without its day's database a pack is nothing.
fn has_expired(name: &str, settings: &StoreSettings, now: Timestamp) -> bool {
    if let Some(file) = name.strip_prefix("sightings/") {
        let day = file.split('.').next().and_then(|day| day.parse::<Day>().ok());
        day.is_some_and(|day| day.is_past(settings.sightings_days, now))
    } else if let Some(pack) = name.strip_prefix("evidence/").and_then(PackName::of_file) {
        pack.day.is_past(settings.sightings_days.min(settings.evidence.of(pack.kind).days), now)
    } else {
        false
    }
}

fn make_empty(folder: &Path, doing: &'static str) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(io_at(doing, folder))?;
    if files_in(folder)?.is_empty() {
        return Ok(());
    }
    let reason = format!("{} is not empty: choose another folder", folder.display());
    Err(StoreError::Medium { doing, reason })
}

fn make_folder(folder: &Path, doing: &'static str) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_at(doing, folder))
}

/// Copies a file, durably; its SHA-256 and length.
fn copy(from: &Path, to: &Path, doing: &'static str) -> Result<(String, u64), StoreError> {
    let (read, written) = (io_at(doing, from), io_at(doing, to));
    let mut input = File::open(from).map_err(&read)?;
    let mut options = OpenOptions::new();
    let output = options.write(true).create_new(true).mode(0o600).open(to).map_err(&written)?;
    let mut output = BufWriter::new(output);
    let summed = each_part(&mut input, &read, |part| output.write_all(part).map_err(&written))?;
    let output = output.into_inner().map_err(|error| written(error.into_error()))?;
    output.sync_all().map_err(&written)?;
    sync_folder_of(to)?;
    Ok(summed)
}

/// The SHA-256 of a file, and its length.
fn sum_of(path: &Path, doing: &'static str) -> Result<(String, u64), StoreError> {
    let failed = io_at(doing, path);
    let mut file = File::open(path).map_err(&failed)?;
    each_part(&mut file, &failed, |_| Ok(()))
}

fn each_part(
    file: &mut File,
    failed: &impl Fn(io::Error) -> StoreError,
    mut each: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(String, u64), StoreError> {
    let (mut hasher, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok((Digest(hasher.finalize().into()).to_string(), length)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        let part = &buffer[..count];
        hasher.update(part);
        each(part)?;
        length += count as u64;
    }
}

fn write_sums(dir: &Path, sums: &BTreeMap<String, String>) -> Result<(), StoreError> {
    let path = dir.join(SUMS);
    let failed = io_at(DOING, &path);
    let text: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    let unfinished: PathBuf = dir.join("SHA256SUMS.new");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&unfinished).map_err(&failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(&failed)?;
    fs::rename(&unfinished, &path).map_err(&failed)?;
    sync_folder_of(&path)
}

fn read_sums(dir: &Path) -> Result<BTreeMap<String, String>, StoreError> {
    let path = dir.join(SUMS);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let reason = format!("{} holds no back-up that was finished", dir.display());
            return Err(StoreError::Medium { doing: "read a back-up", reason });
        }
        other => other.map_err(io_at("read a back-up", &path))?,
    };
    let wrong = || damaged(path.display(), "it is not a list of files");
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let lines = text.strip_suffix('\n').ok_or_else(wrong)?;
    lines
        .split('\n')
        .map(|line| {
            let (sum, name) = line.split_once("  ").ok_or_else(wrong)?;
            // A path that leads out of the folder is none of ours.
            let inside = Path::new(name)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            let is_sum = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
            if inside && is_sum { Ok((name.to_owned(), sum.to_owned())) } else { Err(wrong()) }
        })
        .collect()
}
