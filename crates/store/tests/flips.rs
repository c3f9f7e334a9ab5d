//! A flipped bit anywhere in a store's folder is found by opening and checking it, or is proved to be in dead space:
//! then everything that can be asked of its databases reads as before. `GUIJI_STORE_FLIPS` sets the bytes of each file.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use common::*;
use guiji_domain::*;
use guiji_store::bundle::{BundleSealer, SoftwareStatement};
use guiji_store::*;

const DAY: i64 = 86_400;

/// Hides nothing, for bundles that nobody makes here.
struct Nothing;

impl PictureRedactor for Nothing {
    fn redact_frame(
        &self,
        _: &[u8],
        _: Option<&[u8]>,
        _: bool,
    ) -> Result<RedactedPicture, VisionError> {
        Err(VisionError::Inference { model: "none".into(), reason: "none".into() })
    }

    fn redact_vehicle(&self, _: &[u8]) -> Result<RedactedPicture, VisionError> {
        Err(VisionError::Inference { model: "none".into(), reason: "none".into() })
    }
}

fn item(n: u64, day: i64) -> Recorded {
    let sighting = sighting("k1", n, at(day * DAY + n as i64 * 60), plate("浙J12345"));
    let kinds = [EvidenceKind::Plate, EvidenceKind::Frame];
    let pictures: Vec<_> =
        kinds.iter().zip(0..).map(|(kind, i)| (*kind, noise(n * 2 + i, 300))).collect();
    let mut item = with_pictures(sighting, &pictures);
    item.alerts = vec![alert(&item.sighting, "w1", AlertStage::Confirmed)];
    item
}

fn audited(dir: &Path) {
    let audit = Audit::open(AuditSettings::new(dir)).unwrap();
    for n in 0..3 {
        let (told, heard) = mpsc::sync_channel(1);
        let entry = AuditEntry { at: at(n), officer: "wang".into(), ..AuditEntry::default() };
        audit.submit(entry, Box::new(move |done| told.send(done).unwrap()));
        heard.recv().unwrap().unwrap();
    }
}

/// A store with everything in it: a sealed day with a late sighting and an open one, an old one that a hold keeps.
/// It stays open, as a process that will be killed has it.
fn filled(dir: &Path) -> (Arc<Store>, Deliveries) {
    let store = Store::open(StoreSettings { seal_days: 0, ..settings(dir) }).unwrap();
    let old: Vec<_> = (0..3).map(|n| item(n, -400)).collect();
    store.record(&old).unwrap();
    let span = TimeSpan::new(at(-401 * DAY), at(-300 * DAY)).unwrap();
    let hold = LegalHold {
        case_number: "2026-0417".into(),
        plates: Vec::new(),
        cameras: Vec::new(),
        span,
        placed: at(0),
    };
    store.keep_coverage(&[covered("k1", -400 * DAY, -399 * DAY, CoverageState::Seeing)]).unwrap();
    store.correct(&correction(old[0].sighting.id, "浙J12346", 1)).unwrap();
    place_hold(dir, &hold).unwrap();
    store.enforce_retention(at(DAY)).unwrap();
    let sealed: Vec<_> = (0..5).map(|n| item(n, 0)).collect();
    store.record(&sealed).unwrap();
    store.seal_days(at(DAY)).unwrap();
    store.record(&[item(7, 0)]).unwrap();
    let today: Vec<_> = (10..14).map(|n| item(n, 1)).collect();
    store.record(&today).unwrap();
    store.record(&[plain(provisional(&sighting("k2", 15, at(DAY), plate("苏E5K888"))))]).unwrap();
    let credentials = Some(Credentials { username: "u".into(), password: "p".into() });
    store.put_cameras(&[Camera { credentials, ..camera("k1") }, camera("k2")]).unwrap();
    store.put_entries(&[entry("w1"), entry("w2")]).unwrap();
    store.put_unit(&unit()).unwrap();
    store.put_road_graph(roads()).unwrap();
    store.keep_coverage(&[covered("k1", DAY, DAY + 50, CoverageState::Blind)]).unwrap();
    store.correct(&correction(today[0].sighting.id, "浙J12346", 2)).unwrap();
    let ledger = Deliveries::open(dir, Durability::Full).unwrap();
    let told = delivered(&today[0].alerts[0]);
    ledger.settle(&told.receiver.clone(), &standing(), &[told]).unwrap();
    ReleaseFile::open(&dir.join("releases.jsonl")).unwrap().grant(release()).unwrap();
    audited(&dir.join("audit"));
    audited(&dir.join("audit/commands"));
    let store = Arc::new(store);
    let software = SoftwareStatement { name: "x".into(), version: "1".into() };
    BundleSealer::open(
        &dir.join("evidence.key"),
        store.clone(),
        Arc::new(Nothing),
        software,
        Vec::new(),
    )
    .unwrap();
    (store, ledger)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files below a folder, by their paths in it.
fn files(dir: &Path, below: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => all.extend(files(dir, &path)),
            false => all.push(path),
        }
    }
    all.sort();
    all
}

/// What opening and checking say: in words, what is wrong; nothing when they find nothing.
fn found(dir: &Path) -> Option<String> {
    // Nothing of it is to last.
    let settings = StoreSettings { durability: Durability::UnsafeNoSync, ..settings(dir) };
    match Store::open(settings) {
        Err(error) => Some(error.to_string()),
        Ok(store) => match store.check() {
            Err(error) => Some(error.to_string()),
            Ok(report) => report.damages.first().map(|it| format!("{}: {}", it.what, it.reason)),
        },
    }
}

/// Everything that can be read of all databases.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<String>> {
    let databases = files(dir, Path::new("")).into_iter();
    let databases = databases.filter(|path| path.extension().is_some_and(|ending| ending == "db"));
    databases
        .map(|path| {
            let connection = rusqlite::Connection::open(dir.join(&path)).unwrap();
            let mut said = Vec::new();
            let mut read = |query: &str| {
                let mut statement = connection.prepare(query).unwrap();
                let columns = statement.column_count();
                let mut rows = statement.query([]).unwrap();
                while let Some(row) = rows.next().unwrap() {
                    let values = (0..columns).map(|at| row.get_ref(at).unwrap());
                    said.push(format!("{query}: {:?}", values.collect::<Vec<_>>()));
                }
            };
            read("SELECT type, name, sql FROM sqlite_schema ORDER BY name");
            read("PRAGMA user_version");
            let tables: Vec<String> = connection
                .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
                .unwrap()
                .query_map([], |row| row.get(0))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            tables.iter().for_each(|table| read(&format!("SELECT * FROM {table} ORDER BY 1, 2")));
            (path, said)
        })
        .collect()
}

/// Flips bits of every file; how many were found, and how many lay in dead space.
fn flip_all(whole: &Path, bytes_each: u64, seed: u64) -> (usize, usize) {
    let scratch = tempfile::tempdir().unwrap();
    let reference = scratch.path().join("reference");
    copy(whole, &reference);
    assert_eq!(found(&reference), None);
    let expected = contents(&reference);
    let (mut found_count, mut dead) = (0, 0);
    for (number, path) in files(whole, Path::new("")).into_iter().enumerate() {
        let length = fs::metadata(whole.join(&path)).unwrap().len();
        let random = noise(seed + number as u64, bytes_each as usize * 8);
        for chunk in random.chunks(8).take(length.min(bytes_each) as usize) {
            let place = u64::from_le_bytes(chunk.try_into().unwrap()) % length;
            let dir = scratch.path().join("flipped");
            copy(whole, &dir);
            let mut bytes = fs::read(dir.join(&path)).unwrap();
            bytes[place as usize] ^= 1 << (chunk[0] % 8);
            fs::write(dir.join(&path), bytes).unwrap();
            match found(&dir) {
                Some(_) => found_count += 1,
                None => {
                    let at = format!("byte {place} of {}", path.display());
                    let name = path.to_string_lossy();
                    // Pages have free space, and the index of a log is made anew.
                    let may_be_dead = [".db", ".db-wal", ".db-shm", ".db-acked"]
                        .iter()
                        .any(|end| name.ends_with(end));
                    // The key of a hold's store seals nothing: it has no cameras.
                    let seals_nothing = name.starts_with("held/") && name.ends_with("registry.key");
                    assert!(may_be_dead || seals_nothing, "{at} is not found");
                    for (database, said) in contents(&dir) {
                        assert_eq!(
                            said,
                            expected[&database],
                            "{at} changes {}",
                            database.display()
                        );
                    }
                    dead += 1;
                }
            }
            fs::remove_dir_all(&dir).unwrap();
        }
    }
    (found_count, dead)
}

fn bytes_each() -> u64 {
    std::env::var("GUIJI_STORE_FLIPS").map_or(1, |n| n.parse().unwrap())
}

#[test]
fn every_flipped_bit_of_a_closed_store_is_found_or_in_dead_space() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    drop(filled(&dir));
    let (found, dead) = flip_all(&dir, bytes_each(), 1);
    println!("{found} found, {dead} in dead space");
    assert!(found > dead);
}

#[test]
fn every_flipped_bit_of_a_killed_store_is_found_or_in_dead_space() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, killed) = (folder.path().join("store"), folder.path().join("killed"));
    let open = filled(&dir);
    copy(&dir, &killed);
    drop(open);
    let logs = files(&killed, Path::new("")).into_iter();
    let logs = logs.filter(|path| path.to_string_lossy().ends_with("-wal"));
    assert!(logs.filter(|log| fs::metadata(killed.join(log)).unwrap().len() > 0).count() >= 4);
    let (found, dead) = flip_all(&killed, bytes_each(), 2);
    println!("{found} found, {dead} in dead space");
    assert!(found > dead);
}
