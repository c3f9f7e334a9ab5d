//! Retention, damage, locking, reopening, concurrency.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use guiji_domain::*;
use guiji_store::{DiskUsage, EvidenceLimits, KeepLimit, RetentionReport, Store, StoreSettings};

const KINDS: [EvidenceKind; 3] = [EvidenceKind::Plate, EvidenceKind::Vehicle, EvidenceKind::Frame];

/// A sighting of that day with a picture of each kind: 1 kB, 2 kB and 4 kB.
fn on_day(day: i64, n: u64) -> Recorded {
    let sighting = sighting("k1", n, at(day * 86_400 + n as i64), plate("浙J12345"));
    let seed = (day + 100) as u64 * 1000 + n * 3;
    let pictures = [0, 1, 2].map(|i| (KINDS[i], noise(seed + i as u64, 1000 << i)));
    let mut item = with_pictures(sighting, &pictures);
    item.alerts = vec![alert(&item.sighting, "w1", AlertStage::Confirmed)];
    item
}

fn files(folder: &Path, below: &str) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder.join(below))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn retention_deletes_whole_days_for_real() {
    let folder = tempfile::tempdir().unwrap();
    let limit = KeepLimit { days: 1, bytes: u64::MAX };
    let settings = StoreSettings {
        sightings_days: 3,
        evidence: EvidenceLimits {
            plate: limit,
            vehicle: limit,
            frame: KeepLimit { days: 0, ..limit },
        },
        ..settings(folder.path())
    };
    let store = Store::open(settings.clone()).unwrap();
    let items: Vec<_> = (0..6).map(|day| on_day(day, 1)).collect();
    let alerts = store.record(&items).unwrap().alerts;
    let before = store.disk_usage().unwrap();
    // Read once, so that read connections are open to what goes.
    assert_eq!(store.search(&SightingQuery::all_in(TimeSpan::ALL, 9)).unwrap().sightings.len(), 6);

    let report = store.enforce_retention(at(5 * 86_400 + 7)).unwrap();
    // Days 2 to 5 stay; plates and vehicles of days 4 and 5, frames of day 5.
    assert_eq!((report.partitions, report.packs), (2, 4 + 4 + 5));
    let after = store.disk_usage().unwrap();
    assert!(after.total() <= before.total() - report.bytes, "{before:?} {report:?} {after:?}");
    assert_eq!(files(folder.path(), "evidence").len(), 5);
    let dbs = files(folder.path(), "sightings").iter().filter(|n| n.ends_with(".db")).count();
    assert_eq!(dbs, 4);

    let found = store.search(&SightingQuery::all_in(TimeSpan::ALL, 9)).unwrap().sightings;
    assert_eq!(found, items[2..].iter().map(|i| (*i.sighting).clone()).collect::<Vec<_>>());
    assert_eq!(store.get(items[0].sighting.id).unwrap(), None);
    let there = |day: usize| {
        let kept = |e: &Evidence| store.evidence(&e.digest).unwrap().is_some();
        items[day].sighting.evidence.iter().map(kept).collect::<Vec<_>>()
    };
    assert_eq!(there(1), [false, false, false]);
    assert_eq!(there(3), [false, false, false]);
    assert_eq!(there(4), [true, true, false]);
    assert_eq!(there(5), [true, true, true]);
    assert_eq!(store.alerts_after(0, 9).unwrap(), alerts[2..]);
    let check = store.check().unwrap();
    assert!(check.is_sound(), "{check:?}");
    assert_eq!((check.pictures, check.pictures_deleted), (5, 4 * 3 - 5));
    // Once more deletes nothing; and a day that was deleted can come back.
    assert_eq!(store.enforce_retention(at(5 * 86_400 + 8)).unwrap(), RetentionReport::default());
    store.record(&items[..1]).unwrap();
    assert_eq!(store.get(items[0].sighting.id).unwrap().as_ref(), Some(&*items[0].sighting));
    drop(store);
    let store = Store::open(settings).unwrap();
    assert_eq!(store.search(&SightingQuery::all_in(TimeSpan::ALL, 9)).unwrap().sightings.len(), 5);
}

#[test]
fn the_quota_takes_the_oldest_packs_and_their_names_are_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = StoreSettings { pack_bytes_max: 3000, ..settings(folder.path()) };
    settings.evidence.vehicle.bytes = 9000;
    let store = Store::open(settings).unwrap();
    let items: Vec<_> = (0..10).map(|n| on_day(0, n)).collect();
    for item in &items {
        store.record(std::slice::from_ref(item)).unwrap();
    }
    let report = store.enforce_retention(at(100)).unwrap();
    assert!(report.packs > 0 && report.partitions == 0);
    let DiskUsage { vehicles, frames, .. } = store.disk_usage().unwrap();
    assert!(vehicles <= 9000 && vehicles > 3000 && frames > 40_000);
    let vehicle = |n: usize| store.evidence(&items[n].sighting.evidence[1].digest).unwrap();
    assert_eq!((vehicle(0), vehicle(9).is_some()), (None, true));

    // Nothing at all may stay: the pack being written goes too.
    drop(store);
    let mut settings = StoreSettings { pack_bytes_max: 3000, ..common::settings(folder.path()) };
    settings.evidence.vehicle.bytes = 0;
    let store = Store::open(settings).unwrap();
    store.record(&[on_day(0, 10)]).unwrap();
    store.enforce_retention(at(100)).unwrap();
    let next = on_day(0, 11);
    store.record(std::slice::from_ref(&next)).unwrap();
    for item in &items {
        assert_eq!(store.evidence(&item.sighting.evidence[1].digest).unwrap(), None);
    }
    assert!(store.evidence(&next.sighting.evidence[1].digest).unwrap().is_some());
    assert!(store.check().unwrap().is_sound());
}

#[test]
fn a_second_process_is_told_which_folder_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    let error = Store::open(settings(folder.path())).unwrap_err().to_string();
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
    assert!(error.contains("in use by another process"), "{error}");
    drop(store);
    Store::open(settings(folder.path())).unwrap();
}

#[test]
fn only_the_owner_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("a/store");
    let store = Store::open(settings(&dir)).unwrap();
    store.put_camera(&camera("k1")).unwrap();
    store.record(&[on_day(0, 1)]).unwrap();
    let mut pending = vec![dir];
    while let Some(path) = pending.pop() {
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
        if metadata.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        }
    }
}

#[test]
fn everything_is_there_after_reopening_and_cursors_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let items: Vec<_> = (-1..2).map(|day| on_day(day, 1)).collect();
    let store = Store::open(settings(folder.path())).unwrap();
    let mut log = store.record(&items).unwrap().alerts;
    store.put_entry(&entry("w1")).unwrap();
    store.put_camera(&camera("k1")).unwrap();
    drop(store);

    let store = Store::open(settings(folder.path())).unwrap();
    assert_eq!(store.last_cursor().unwrap(), log[2].cursor);
    assert_eq!(store.alerts_after(0, 9).unwrap(), log);
    assert_eq!(store.entries().unwrap(), [entry("w1")]);
    assert_eq!(store.cameras().unwrap(), [camera("k1")]);
    for item in &items {
        assert_eq!(store.get(item.sighting.id).unwrap().as_ref(), Some(&*item.sighting));
    }
    log.extend(store.record(&[on_day(5, 1)]).unwrap().alerts);
    assert!(log[3].cursor > log[2].cursor);

    // The newest partition goes, with the highest cursor; the next is higher still.
    drop(store);
    let limited = StoreSettings { sightings_days: 0, ..settings(folder.path()) };
    let store = Store::open(limited.clone()).unwrap();
    store.enforce_retention(at(20 * 86_400)).unwrap();
    drop(store);
    let store = Store::open(limited).unwrap();
    assert_eq!((store.last_cursor().unwrap(), store.alerts_after(0, 9).unwrap()), (0, vec![]));
    let next = store.record(&[on_day(21, 1)]).unwrap().alerts;
    assert!(next[0].cursor > log[3].cursor);
}

/// Writes other bytes over the first place where these stand.
fn spoil(path: &Path, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let content = std::fs::read(path).unwrap();
    let place = content.windows(bytes.len()).position(|w| w == bytes).unwrap();
    let flipped: Vec<u8> = bytes.iter().map(|b| b ^ 0xff).collect();
    file.write_all_at(&flipped, place as u64).unwrap();
}

fn only_file(folder: &Path, below: &str, end: &str) -> PathBuf {
    let names = files(folder, below);
    let mut found = names.iter().filter(|n| n.ends_with(end));
    let (Some(name), None) = (found.next(), found.next()) else { panic!("{names:?}") };
    folder.join(below).join(name)
}

#[test]
fn flipped_bytes_are_seen_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    let (bad, good) = (on_day(0, 1), on_day(0, 2));
    store.record(&[bad.clone(), good.clone()]).unwrap();
    assert!(store.check().unwrap().is_sound());
    drop(store);

    // In the middle of a record, of a picture, and of an alert's case number.
    let db = only_file(folder.path(), "sightings", ".db");
    let digest = bad.sighting.evidence[0].digest;
    spoil(&db, "image/jpeg".as_bytes());
    spoil(&db, "2026-0117".as_bytes());
    let pack = only_file(folder.path(), "evidence", "plate.0001.pack");
    spoil(&pack, &bad.pictures[0][10..20]);

    let store = Store::open(settings(folder.path())).unwrap();
    let is_damaged = |error: StoreError, what: &str| {
        let StoreError::Damaged { what: named, .. } = &error else { panic!("{error}") };
        assert!(named.contains(what), "{named} {what}");
    };
    let failed: Vec<_> =
        [&bad, &good].iter().filter_map(|i| store.get(i.sighting.id).err()).collect();
    assert_eq!(failed.len(), 1);
    is_damaged(failed.into_iter().next().unwrap(), "sighting ");
    is_damaged(store.evidence(&digest).unwrap_err(), &digest.to_string());
    is_damaged(store.alerts_after(0, 9).unwrap_err(), "alert ");
    is_damaged(store.search(&SightingQuery::all_in(TimeSpan::ALL, 9)).unwrap_err(), "sighting ");
    let report = store.check().unwrap();
    assert_eq!(report.damage_count, 3, "{report:?}");
    assert_eq!((report.sightings, report.alerts, report.pictures), (2, 2, 5));
    let named: Vec<_> = report.damages.iter().map(|d| d.what.as_str()).collect();
    assert!(named.iter().any(|what| what.contains(&digest.to_string())), "{named:?}");
    // What is whole is still given.
    let other = &good.sighting.evidence[0].digest;
    assert_eq!(store.evidence(other).unwrap().as_deref(), Some(&*good.pictures[0]));
}

#[test]
fn a_cut_pack_is_damage_and_a_torn_tail_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    let (first, second) = (on_day(0, 1), on_day(0, 2));
    store.record(std::slice::from_ref(&first)).unwrap();
    drop(store);
    let pack = only_file(folder.path(), "evidence", "plate.0001.pack");
    let length = std::fs::metadata(&pack).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&pack).unwrap();
    file.write_all_at(b"half a record", length).unwrap();

    let store = Store::open(settings(folder.path())).unwrap();
    store.record(std::slice::from_ref(&second)).unwrap();
    for item in [&first, &second] {
        let digest = item.sighting.evidence[0].digest;
        assert_eq!(store.evidence(&digest).unwrap().as_deref(), Some(&*item.pictures[0]));
    }
    assert!(store.check().unwrap().is_sound());
    file.set_len(length).unwrap();
    assert!(matches!(
        store.evidence(&second.sighting.evidence[0].digest),
        Err(StoreError::Damaged { .. })
    ));
    assert_eq!(store.check().unwrap().damage_count, 1);
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(settings(folder.path())).unwrap());
    let path = folder.path().join("sightings/2026-11-24.db");
    std::fs::write(&path, vec![7; 8192]).unwrap();
    let error = Store::open(settings(folder.path())).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("2026-11-24.db"), "{error}");
}

#[test]
fn readers_do_not_wait_for_the_writer_nor_for_retention() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { readers_max: 3, sightings_days: 2, ..settings(folder.path()) };
    let store = Store::open(settings).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let mut query = SightingQuery::all_in(TimeSpan::ALL, 50);
                    query.plate = Some(PlatePattern::parse("浙J*").unwrap());
                    for sighting in store.search(&query).unwrap().sightings {
                        // Retention may come in between.
                        store.get(sighting.id).unwrap();
                        for evidence in &sighting.evidence {
                            store.evidence(&evidence.digest).unwrap();
                        }
                    }
                    // A watcher never misses what lies before a cursor that it has seen.
                    let alerts = store.alerts_after(last, 1000).unwrap();
                    assert!(alerts.windows(2).all(|pair| pair[0].cursor < pair[1].cursor));
                    last = alerts.last().map_or(last, |a| a.cursor);
                }
            });
        }
        for day in 0..6 {
            for n in 0..5 {
                store.record(&[on_day(day, n), on_day(day + 1, n + 100)]).unwrap();
            }
            store.enforce_retention(at(day * 86_400)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
        done.store(true, Ordering::Relaxed);
    });
    assert!(store.check().unwrap().is_sound());
}

#[test]
fn a_batch_of_too_many_days_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    let batch: Vec<_> = (0..65).map(|day| on_day(day, 1)).collect();
    assert!(matches!(store.record(&batch), Err(StoreError::Invalid(_))));
    assert_eq!(store.record(&batch[..64]).unwrap().kept.len(), 64);
}

/// A store of which every day is sealed when [`Store::seal_days`] is called with this.
fn sealing(folder: &Path) -> StoreSettings {
    StoreSettings { seal_days: 0, ..settings(folder) }
}
const LATER: i64 = 100 * 86_400;

#[test]
fn a_sealed_day_is_small_and_gone_when_retention_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { sightings_days: 10, ..sealing(folder.path()) };
    let store = Store::open(settings.clone()).unwrap();
    let items: Vec<_> =
        (0..20_000).map(|n| plain(sighting("k1", n, at(n as i64), plate("浙J12345")))).collect();
    store.record(&items).unwrap();
    drop(store);
    let store = Store::open(settings.clone()).unwrap();
    let loose = store.disk_usage().unwrap().sightings;
    let report = store.seal_days(at(LATER)).unwrap();
    assert_eq!((report.days, report.sightings), (1, 20_000));
    let sealed = store.disk_usage().unwrap().sightings;
    assert!(sealed * 5 < loose && report.bytes < sealed, "{loose} {sealed} {report:?}");
    // Once more there is nothing to do.
    assert_eq!(store.seal_days(at(LATER)).unwrap().days, 0);
    // A few late ones do not make the whole day be written again; many do.
    let late = |n: u64| plain(sighting("k2", n, at(n as i64), PlateState::NotRead));
    store.record(&[late(1)]).unwrap();
    assert_eq!(store.seal_days(at(LATER)).unwrap().days, 0);
    store.record(&(2..1000).map(late).collect::<Vec<_>>()).unwrap();
    assert_eq!(store.seal_days(at(LATER)).unwrap().sightings, 20_999);
    assert_eq!(files(folder.path(), "sightings").iter().filter(|n| n.ends_with(".seg")).count(), 1);
    assert!(store.check().unwrap().is_sound());

    let taken = store.enforce_retention(at(12 * 86_400)).unwrap();
    assert_eq!((taken.partitions, store.disk_usage().unwrap().sightings), (1, 0));
    assert!(taken.bytes >= report.bytes);
    assert_eq!(files(folder.path(), "sightings"), Vec::<String>::new());
    assert_eq!(store.get(items[0].sighting.id).unwrap(), None);
    // And a day of that name can come and be sealed again.
    store.record(&items[..1]).unwrap();
    assert_eq!(store.seal_days(at(LATER)).unwrap().sightings, 1);
    drop(store);
    let store = Store::open(settings).unwrap();
    assert_eq!(store.get(items[0].sighting.id).unwrap().as_ref(), Some(&*items[0].sighting));
}

#[test]
fn flipped_bits_of_a_sealed_day_are_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(sealing(folder.path())).unwrap();
    let items: Vec<_> = (0..3).map(|n| on_day(0, n)).collect();
    store.record(&items).unwrap();
    store.seal_days(at(LATER)).unwrap();
    let report = store.check().unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.sightings, report.alerts, report.pictures), (3, 3, 9));

    let segment = only_file(folder.path(), "sightings", ".seg");
    let digest = items[1].sighting.evidence[0].digest;
    spoil(&segment, &digest.0[..8]); // incompressible, so that it stands there as it is
    let report = store.check().unwrap();
    assert_eq!(report.damage_count, 1, "{report:?}");
    assert!(report.damages[0].what.contains("2026-11-24.0001.seg at 8"), "{report:?}");
    drop(store);
    let store = Store::open(sealing(folder.path())).unwrap();
    for error in [
        store.get(items[1].sighting.id).unwrap_err(),
        store.search(&SightingQuery::all_in(TimeSpan::ALL, 9)).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
    // What does not need the damaged block is still given.
    assert_eq!(store.evidence(&digest).unwrap().as_deref(), Some(&*items[1].pictures[0]));
    assert_eq!(store.alerts_after(0, 9).unwrap().len(), 3);
    assert_eq!(store.record(&items[..1]).unwrap().kept, [Kept::Present]);
    drop(store);

    std::fs::remove_file(&segment).unwrap();
    let error = Store::open(sealing(folder.path())).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("2026-11-24.0001.seg"), "{error}");
}

#[test]
fn a_segment_that_no_database_names_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(sealing(folder.path())).unwrap();
    store.record(&[on_day(0, 1)]).unwrap();
    store.seal_days(at(LATER)).unwrap();
    drop(store);
    let [left, kept] = ["2026-11-24.0002.seg", "2026-11-24.0001.seg"]
        .map(|name| folder.path().join("sightings").join(name));
    std::fs::write(&left, b"half a segment").unwrap();
    let store = Store::open(sealing(folder.path())).unwrap();
    assert!(!left.exists() && kept.exists());
    assert!(store.check().unwrap().is_sound());
}

/// While days are sealed under them, readers see each sighting once, and the same ones.
#[test]
fn readers_see_the_same_while_days_are_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(StoreSettings { readers_max: 3, ..sealing(folder.path()) }).unwrap();
    let item = |n: u64| plain(sighting("k1", n, at(n as i64 * 600), plate("浙J12345")));
    let done = AtomicBool::new(false);
    let written = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let before = written.load(Ordering::SeqCst);
                    let mut query = SightingQuery::all_in(TimeSpan::ALL, 10_000);
                    query.plate = Some(PlatePattern::parse("浙J*").unwrap());
                    let found = store.search(&query).unwrap().sightings;
                    assert!(found.len() as u64 >= before, "{} of {before}", found.len());
                    assert!(found.windows(2).all(|pair| pair[0].id < pair[1].id));
                    if let Some(last) = before.checked_sub(1) {
                        assert!(store.get(item(last).sighting.id).unwrap().is_some());
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.seal_days(at(LATER)).unwrap();
            }
        });
        // Over more than two days, each written again and again.
        for n in 0..300 {
            store.record(&[item(n)]).unwrap();
            written.store(n + 1, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    });
    store.seal_days(at(LATER)).unwrap();
    let report = store.check().unwrap();
    assert!(report.is_sound() && report.sightings == 300, "{report:?}");
}

#[test]
fn retention_takes_coverage_and_corrections_and_the_check_proves_what_stays() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { sightings_days: 3, ..settings(folder.path()) };
    let store = Store::open(settings).unwrap();
    let camera = CameraId::new("k1").unwrap();
    let interval = |first: i64, last: i64| Coverage {
        camera: camera.clone(),
        span: TimeSpan::new(at(first * 86_400), at(last * 86_400)).unwrap(),
        state: CoverageState::Blind,
        cause: "a cause that is gone for good".into(),
    };
    store.keep_coverage(&[interval(0, 1), interval(1, 4), interval(4, 5)]).unwrap();
    let correction = |day: i64| Correction {
        sighting: on_day(day, 1).sighting.id,
        plate: PlateText::parse("浙J12345").unwrap(),
        at: at(6 * 86_400),
        officer: "Wang".into(),
        case_number: "C1".into(),
        reason: "a reason that is gone for good".into(),
    };
    store.correct(&correction(1)).unwrap();
    store.correct(&correction(5)).unwrap();
    // Day 2 and later stay.
    let report = store.enforce_retention(at(5 * 86_400 + 7)).unwrap();
    assert_eq!(report.context_rows, 2);
    let kept = store.coverage(std::slice::from_ref(&camera), TimeSpan::ALL).unwrap();
    assert_eq!(kept, [interval(1, 4), interval(4, 5)]);
    assert_eq!(store.corrections_in(TimeSpan::ALL).unwrap(), [correction(5)]);
    store.enforce_retention(at(20 * 86_400)).unwrap();
    for file in ["context.db", "context.db-wal"] {
        let bytes = std::fs::read(folder.path().join(file)).unwrap_or_default();
        let gone = b"gone for good";
        assert!(!bytes.windows(gone.len()).any(|window| window == gone), "{file}");
    }

    // A flipped bit in what stays is found, whoever asks.
    store.keep_coverage(&[interval(0, 1)]).unwrap();
    assert!(store.check().unwrap().is_sound());
    drop(store);
    let path = folder.path().join("context.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let cause = b"a cause that";
    let place = bytes.windows(cause.len()).position(|window| window == cause).unwrap();
    bytes[place] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let store = Store::open(common::settings(folder.path())).unwrap();
    assert!(!store.check().unwrap().is_sound());
    let error = store.coverage(&[camera], TimeSpan::ALL).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}
