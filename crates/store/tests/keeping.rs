//! Keeping and losing: legal holds, back-ups, a disk that is really full.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use guiji_domain::*;
use guiji_store::{
    Deliveries, Durability, GapCause, LegalHold, Store, StoreGap, StoreSettings, back_up,
    check_backup, expire_backup, holds, lift_hold, place_hold, restore,
};

const DAY: i64 = 86_400;

/// A sighting of that day, of one of two plates, with two pictures.
fn on_day(day: i64, n: u64) -> Recorded {
    let text = ["浙J12345", "苏E5K888"][n as usize % 2];
    let sighting =
        sighting(["k1", "k2"][n as usize / 2 % 2], n, at(day * DAY + n as i64), plate(text));
    let seed = (day as u64) * 1000 + n * 2;
    let kinds = [EvidenceKind::Plate, EvidenceKind::Frame];
    let pictures = [0, 1].map(|i| (kinds[i], noise(seed + i as u64, 900)));
    with_pictures(sighting, &pictures)
}

fn all(store: &Store) -> Vec<Sighting> {
    store.search(&SightingQuery::all_in(TimeSpan::ALL, 1000)).unwrap().sightings
}

fn hold(plates: &[&str], cameras: &[&str], span: TimeSpan) -> LegalHold {
    LegalHold {
        case_number: "2026-0417".into(),
        plates: plates.iter().map(|plate| PlatePattern::parse(plate).unwrap()).collect(),
        cameras: cameras.iter().map(|camera| CameraId::new(camera).unwrap()).collect(),
        span,
        placed: at(0),
    }
}

fn filled(settings: StoreSettings, days: i64) -> (Store, Vec<Recorded>) {
    let store = Store::open(settings).unwrap();
    let items: Vec<_> = (0..days).flat_map(|day| (0..8).map(move |n| on_day(day, n))).collect();
    store.record(&items).unwrap();
    (store, items)
}

#[test]
fn what_a_hold_wants_outlives_retention_and_goes_when_it_is_lifted() {
    for sealed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut settings =
            StoreSettings { sightings_days: 3, seal_days: 0, ..settings(folder.path()) };
        settings.evidence.frame.days = 1;
        let (store, items) = filled(settings.clone(), 3);
        if sealed {
            store.seal_days(at(10 * DAY)).unwrap();
        }
        let span = TimeSpan::new(at(0), at(2 * DAY)).unwrap();
        let wanted = hold(&["浙J*"], &["k1"], span);
        let other = hold(&[], &["k2"], TimeSpan::new(at(DAY), at(DAY + 4)).unwrap());
        let number = place_hold(folder.path(), &wanted).unwrap();
        let second = place_hold(folder.path(), &other).unwrap();
        assert_eq!(holds(folder.path()).unwrap().into_keys().collect::<Vec<_>>(), [number, second]);
        let of = |hold: &LegalHold| -> Vec<Sighting> {
            let held = items.iter().filter(|item| hold.holds(&item.sighting));
            held.map(|item| (*item.sighting).clone()).collect()
        };
        assert_eq!((of(&wanted).len(), of(&other).len()), (4, 1));

        // First the frames go, then the days. Nothing is found twice in between.
        store.enforce_retention(at(3 * DAY)).unwrap();
        assert_eq!(all(&store).len(), items.len());
        store.enforce_retention(at(20 * DAY)).unwrap();
        let mut kept = of(&wanted);
        kept.extend(of(&other));
        kept.sort_by_key(|sighting| (sighting.captured.at, sighting.id));
        assert_eq!(all(&store), kept);
        for item in items.iter().filter(|item| wanted.holds(&item.sighting)) {
            assert_eq!(store.get(item.sighting.id).unwrap().as_ref(), Some(&*item.sighting));
            for (evidence, picture) in item.sighting.evidence.iter().zip(&item.pictures) {
                let found = store.evidence(&evidence.digest).unwrap();
                assert_eq!(found.as_deref(), Some(&**picture));
            }
        }
        let gone = items.iter().find(|i| !wanted.holds(&i.sighting) && !other.holds(&i.sighting));
        assert_eq!(store.get(gone.unwrap().sighting.id).unwrap(), None);
        let likely = LikelyQuery {
            plate: PlateText::parse("浙J12345").unwrap(),
            span: TimeSpan::ALL,
            limit: 50,
        };
        assert_eq!(store.likely(&likely).unwrap().len(), 5); // of both holds
        // Page by page, in both orders.
        for order in [SortOrder::OldestFirst, SortOrder::NewestFirst] {
            let mut query = SightingQuery { order, ..SightingQuery::all_in(TimeSpan::ALL, 2) };
            let mut paged = Vec::new();
            loop {
                let page = store.search(&query).unwrap();
                paged.extend(page.sightings);
                let last = paged.last().unwrap();
                query.after = Some((last.captured.at, last.id));
                if !page.more {
                    break;
                }
            }
            if order == SortOrder::NewestFirst {
                paged.reverse();
            }
            assert_eq!(paged, kept);
        }
        assert!(store.disk_usage().unwrap().held > 0);
        let check = store.check().unwrap();
        assert!(check.is_sound() && check.sightings == 5, "{check:?}");

        // After a restart as well; and lifting one leaves the other.
        drop(store);
        let store = Store::open(settings).unwrap();
        assert_eq!(all(&store), kept);
        assert!(lift_hold(folder.path(), number).unwrap());
        assert!(!lift_hold(folder.path(), 77).unwrap());
        store.enforce_retention(at(20 * DAY)).unwrap();
        assert_eq!(all(&store), of(&other));
        assert!(!folder.path().join("held/0001").exists());
    }
}

#[test]
fn alerts_corrections_and_coverage_of_what_is_held_stay_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { sightings_days: 3, ..settings(folder.path()) };
    let store = Store::open(settings.clone()).unwrap();
    let mut items: Vec<_> = (0..8).map(|n| on_day(0, n)).collect();
    for item in &mut items {
        item.alerts = vec![alert(&item.sighting, "w1", AlertStage::Provisional)];
    }
    store.record(&items).unwrap();
    let of = |plate: &str, camera: &str| {
        let fits = |item: &&Recorded| {
            item.sighting.plate_text().unwrap().as_str() == plate
                && item.sighting.camera.as_str() == camera
        };
        items.iter().find(fits).unwrap().sighting.clone()
    };
    let (held, other) = (of("浙J12345", "k1"), of("苏E5K888", "k2"));
    for sighting in [&held, &other] {
        let confirmed = alert(sighting, "w1", AlertStage::Confirmed);
        store.append(&confirmed).unwrap().unwrap();
        store.correct(&correction(sighting.id, "浙J12346", 1)).unwrap();
        store.correct(&correction(sighting.id, "浙J12345", 2)).unwrap();
    }
    let seen = |camera, first, last| covered(camera, first, last, CoverageState::Seeing);
    let intervals = [seen("k1", 0, 90), seen("k1", DAY, DAY + 9), seen("k2", 0, 90)];
    store.keep_coverage(&intervals).unwrap();
    let stages = |sighting: &Sighting| -> Vec<_> {
        let id = AlertId { sighting: sighting.id, entry: WatchEntryId::new("w1").unwrap() };
        store.alert_history(&id).unwrap().into_iter().map(|alert| alert.stage).collect()
    };
    let both = [AlertStage::Provisional, AlertStage::Confirmed];
    assert_eq!(stages(&held), both);
    let span = TimeSpan::new(at(0), at(100)).unwrap();
    place_hold(folder.path(), &hold(&["浙J*"], &["k1"], span)).unwrap();
    // In the middle of the copying a second time, and after a restart: nothing is there twice.
    for _ in 0..2 {
        store.enforce_retention(at(20 * DAY)).unwrap();
    }
    let check = || {
        assert_eq!(stages(&held), both);
        assert_eq!(stages(&other), []);
        let corrected = [correction(held.id, "浙J12346", 1), correction(held.id, "浙J12345", 2)];
        assert_eq!(store.corrections_of(&[other.id, held.id]).unwrap(), corrected);
        assert_eq!(store.corrections_in(TimeSpan::ALL).unwrap(), corrected);
        let cameras = ["k1", "k2"].map(|id| CameraId::new(id).unwrap());
        assert_eq!(store.coverage(&cameras, TimeSpan::ALL).unwrap(), intervals[..1]);
        assert_eq!(store.alerts_of(&[held.id]).unwrap().len(), 1);
    };
    check();
    // Corrected once more when its day is long gone: that stays too.
    let late = correction(held.id, "浙J12347", 30);
    assert!(store.correct(&late).unwrap());
    store.enforce_retention(at(21 * DAY)).unwrap();
    assert_eq!(store.corrections_of(&[held.id]).unwrap().last(), Some(&late));
    // What is held does not change any more.
    assert_eq!(store.append(&alert(&held, "w1", AlertStage::Withdrawn)).unwrap(), None);
    assert!(store.check().unwrap().is_sound());
    lift_hold(folder.path(), 1).unwrap();
    store.enforce_retention(at(20 * DAY)).unwrap();
    assert_eq!((stages(&held), store.corrections_in(TimeSpan::ALL).unwrap()), (vec![], vec![]));
}

#[test]
fn a_hold_placed_late_keeps_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = StoreSettings { sightings_days: 3, ..settings(folder.path()) };
    settings.evidence.frame.days = 1;
    let (store, items) = filled(settings, 1);
    store.enforce_retention(at(3 * DAY)).unwrap(); // the frames go
    place_hold(folder.path(), &hold(&[], &[], TimeSpan::ALL)).unwrap();
    store.enforce_retention(at(9 * DAY)).unwrap();
    assert_eq!(all(&store).len(), items.len());
    let there = |i: usize| store.evidence(&items[0].sighting.evidence[i].digest).unwrap().is_some();
    assert_eq!((there(0), there(1)), (true, false));
    let check = store.check().unwrap();
    assert!(check.is_sound() && check.pictures == 8 && check.pictures_deleted == 8, "{check:?}");
}

#[test]
fn a_damaged_hold_stops_deletion_and_flipped_bits_of_what_is_held_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { sightings_days: 1, ..settings(folder.path()) };
    let (store, items) = filled(settings.clone(), 1);
    place_hold(folder.path(), &hold(&[], &[], TimeSpan::ALL)).unwrap();
    let file = folder.path().join("held/0001/hold.json");
    let whole = std::fs::read(&file).unwrap();
    for at in (0..whole.len()).step_by(7) {
        flip(&file, at as u64, 1);
        assert!(store.enforce_retention(guiji_domain::Timestamp::MAX).is_err(), "byte {at}");
        assert!(!store.check().unwrap().is_sound(), "byte {at}");
        flip(&file, at as u64, 1);
    }
    assert_eq!(all(&store).len(), items.len());
    store.enforce_retention(Timestamp::MAX).unwrap();
    assert!(store.check().unwrap().is_sound());
    drop(store);
    // The pictures and the day that are held.
    let held = folder.path().join("held/0001/store");
    for below in ["evidence", "sightings"] {
        for path in files(&held.join(below)) {
            let length = std::fs::metadata(&path).unwrap().len();
            let at = if below == "evidence" { 8 + 20 } else { length / 2 };
            let before = std::fs::read(&path).unwrap();
            flip(&path, at, 16);
            let found = match Store::open(settings.clone()) {
                Ok(store) => store.check().map_or(true, |check| {
                    !check.is_sound() && check.damages.iter().all(|d| d.what.contains("held/0001"))
                }),
                Err(_) => true,
            };
            let free = below == "sightings" && before[at as usize] == 0; // a page's free space
            assert!(found || free, "{} at {at}", path.display());
            std::fs::write(&path, before).unwrap();
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn flip(path: &Path, at: u64, mask: u8) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ mask], at).unwrap();
}

#[test]
fn a_back_up_made_while_running_has_everything_acknowledged_before() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let settings = StoreSettings { seal_days: 0, ..settings(&dir) };
    let (store, items) = filled(settings.clone(), 3);
    store.seal_days(at(2 * DAY)).unwrap(); // two days of three
    let seeing = Coverage {
        camera: CameraId::new("k1").unwrap(),
        span: TimeSpan::new(at(0), at(DAY)).unwrap(),
        state: CoverageState::Seeing,
        cause: String::new(),
    };
    store.keep_coverage(std::slice::from_ref(&seeing)).unwrap();
    place_hold(&dir, &hold(&[], &["k1"], TimeSpan::ALL)).unwrap();
    let to = folder.path().join("backup");
    let (ended, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 100.. {
                store.record(&[on_day(2, n), on_day(1, n)]).unwrap();
                store.seal_days(at(10 * DAY)).unwrap();
                begun.store(true, Ordering::SeqCst);
                if ended.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        while !begun.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        back_up(&dir, &to).unwrap();
        ended.store(true, Ordering::SeqCst);
    });
    assert!(check_backup(&to).unwrap().is_empty());
    assert!(back_up(&dir, &to).unwrap_err().to_string().contains("not empty"));

    let again = StoreSettings { dir: folder.path().join("again"), ..settings.clone() };
    restore(&to, &again, at(3 * DAY)).unwrap();
    let restored = Store::open(again.clone()).unwrap();
    for item in &items {
        assert_eq!(restored.get(item.sighting.id).unwrap().as_ref(), Some(&*item.sighting));
        for (evidence, picture) in item.sighting.evidence.iter().zip(&item.pictures) {
            assert_eq!(restored.evidence(&evidence.digest).unwrap().as_deref(), Some(&**picture));
        }
    }
    assert_eq!(holds(&again.dir).unwrap().len(), 1);
    let cameras = std::slice::from_ref(&seeing.camera);
    assert_eq!(restored.coverage(cameras, seeing.span).unwrap(), std::slice::from_ref(&seeing));
    assert!(restored.check().unwrap().is_sound());
    assert!(restore(&to, &again, at(3 * DAY)).unwrap_err().to_string().contains("not empty"));
}

#[test]
fn any_flipped_bit_of_a_back_up_is_found_and_nothing_is_restored_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let (store, _) = filled(settings(&dir), 1);
    drop(store);
    let to = folder.path().join("backup");
    back_up(&dir, &to).unwrap();
    let again = settings(&folder.path().join("again"));
    let paths = [to.join("SHA256SUMS"), to.join("registry.db"), to.join("registry.key")];
    for path in
        paths.into_iter().chain(files(&to.join("sightings"))).chain(files(&to.join("evidence")))
    {
        let length = std::fs::metadata(&path).unwrap().len();
        for at in (0..length).step_by((length / 13).max(1) as usize) {
            let mask = 1 << (at % 8);
            flip(&path, at, mask);
            let found = check_backup(&to).map_or(true, |damages| !damages.is_empty());
            assert!(found, "{} at {at}", path.display());
            assert!(restore(&to, &again, common::at(DAY)).is_err());
            flip(&path, at, mask);
        }
    }
    std::fs::write(to.join("stray"), b"x").unwrap();
    assert_eq!(check_backup(&to).unwrap().len(), 1);
    std::fs::remove_file(to.join("stray")).unwrap();
    assert!(!again.dir.exists());
    restore(&to, &again, common::at(DAY)).unwrap();
}

#[test]
fn back_ups_expire() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let mut old = StoreSettings { sightings_days: 2, ..settings(&dir) };
    old.evidence.frame.days = 1;
    let (store, items) = filled(old.clone(), 4);
    let to = folder.path().join("backup");
    back_up(&dir, &to).unwrap();
    drop(store);
    let now = at(4 * DAY); // days 2 and 3 stay, and of the frames those of day 3
    let again = StoreSettings { dir: folder.path().join("again"), ..old.clone() };
    let report = restore(&to, &again, now).unwrap();
    assert_eq!(report.expired, 2 + 2 + 3);
    let restored = Store::open(again).unwrap();
    let expected: Vec<_> = items[16..].iter().map(|item| (*item.sighting).clone()).collect();
    assert_eq!(all(&restored), expected);

    assert_eq!(expire_backup(&to, &old, now).unwrap().expired, 2 + 2 + 3);
    assert!(check_backup(&to).unwrap().is_empty());
    assert_eq!(files(&to.join("sightings")).len(), 2);
    assert_eq!(expire_backup(&to, &old, now).unwrap().expired, 0);
}

#[test]
fn rows_and_lifted_holds_expire_from_back_ups_too() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    let settings = StoreSettings { sightings_days: 2, ..settings(&dir) };
    let (store, items) = filled(settings.clone(), 1);
    let (old, young) = (
        covered("k1", 0, 90, CoverageState::Seeing),
        covered("k1", 9 * DAY, 9 * DAY + 9, CoverageState::Seeing),
    );
    store.keep_coverage(&[old.clone(), young.clone()]).unwrap();
    store.correct(&correction(items[0].sighting.id, "浙J12346", 1)).unwrap();
    let ledger = Deliveries::open(&dir, Durability::Full).unwrap();
    let told = delivered(&alert(&items[0].sighting, "w1", AlertStage::Confirmed));
    ledger.settle(&told.receiver.clone(), &standing(), std::slice::from_ref(&told)).unwrap();
    for camera in ["k1", "k2"] {
        place_hold(&dir, &hold(&[], &[camera], TimeSpan::ALL)).unwrap();
    }
    let to = folder.path().join("backup");
    back_up(&dir, &to).unwrap();
    lift_hold(&dir, 1).unwrap(); // after the back-up

    let now = at(9 * DAY);
    let secret = "read from the frame"; // the correction's reason
    let says = |secret: &str| {
        let bytes = std::fs::read(to.join("context.db")).unwrap();
        bytes.windows(secret.len()).any(|part| part == secret.as_bytes())
    };
    assert!(says(secret));
    expire_backup(&to, &settings, now).unwrap();
    assert!(!says(secret), "not merely unlinked");
    assert!(check_backup(&to).unwrap().is_empty());
    assert!(!to.join("held/0001").exists() && to.join("held/0002/hold.json").exists());
    assert_eq!(expire_backup(&to, &settings, now).unwrap().expired, 0);
    let again = StoreSettings { dir: folder.path().join("again"), ..settings.clone() };
    restore(&to, &again, now).unwrap();
    let restored = Store::open(again.clone()).unwrap();
    let k1 = CameraId::new("k1").unwrap();
    assert_eq!(restored.coverage(std::slice::from_ref(&k1), TimeSpan::ALL).unwrap(), [young]);
    assert_eq!(restored.corrections_in(TimeSpan::ALL).unwrap(), []);
    let ledger = Deliveries::open(&again.dir, Durability::Full).unwrap();
    assert_eq!(ledger.deliveries(&told.alert).unwrap(), []);
    assert_eq!(
        ledger.standing(&told.receiver).unwrap(),
        Some(standing()),
        "what is to come goes on"
    );

    // Cut off between the list of files and the file: the next call goes on.
    let bytes = std::fs::read(to.join("context.db")).unwrap();
    std::fs::write(to.join("context.db.new"), &bytes).unwrap();
    std::fs::write(to.join("context.db"), b"what was there before").unwrap();
    expire_backup(&to, &settings, now).unwrap();
    assert!(check_backup(&to).unwrap().is_empty());
    // A damaged one is not made sound by writing it anew.
    flip(&to.join("context.db"), 5000, 1);
    assert!(expire_backup(&to, &settings, now).is_err());
    assert!(!check_backup(&to).unwrap().is_empty());
}

/// A file system of a few megabytes; needs root, as a build machine's container has.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m", "none"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().ok();
    }
}

/// The same without root, by a layer that refuses to write, is in durability.rs.
#[test]
fn a_disk_that_is_really_full_loses_nothing_acknowledged_and_leaves_a_gap() {
    let Some(disk) = SmallDisk::mount() else {
        println!("not root: no small disk can be mounted");
        return;
    };
    let settings = StoreSettings { seal_days: 0, ..settings(&disk.0.path().join("store")) };
    let store = Store::open(settings.clone()).unwrap();
    let mut acknowledged = Vec::new();
    let mut next = 0;
    let mut refused = loop {
        let batch: Vec<_> = (next..next + 20).map(|n| on_day(0, n)).collect();
        match store.record(&batch) {
            Ok(_) => acknowledged.extend(batch),
            Err(error) => {
                assert!(matches!(error, StoreError::Full { .. }), "{error}");
                break batch;
            }
        }
        next += 20;
        assert!(next < 100_000, "the disk is never full");
    };
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    assert!(store.record(&refused).is_err()); // once more: counted once
    next += 20;
    let another: Vec<_> = (next..next + 20).map(|n| on_day(0, n)).collect();
    assert!(store.record(&another).is_err());
    refused.extend(another);
    // Of each camera: from the first moment of what was refused to its last.
    let gaps: Vec<_> = ["k1", "k2"]
        .into_iter()
        .map(|camera| {
            let of = refused.iter().map(|item| &item.sighting);
            let of: Vec<_> = of.filter(|sighting| sighting.camera.as_str() == camera).collect();
            StoreGap {
                camera: CameraId::new(camera).ok(),
                cause: GapCause::DiskFull,
                from: of[0].span.first(),
                to: of[of.len() - 1].span.last(),
                refused: of.len() as u64,
            }
        })
        .collect();
    assert_eq!(store.gaps(), gaps);
    // What a process that is killed now leaves says so too: the file's space was taken before the disk was full.
    let killed = tempfile::tempdir().unwrap();
    std::fs::copy(disk.0.path().join("store/gaps.slots"), killed.path().join("gaps.slots"))
        .unwrap();
    assert_eq!(Store::open(StoreSettings::new(killed.path())).unwrap().gaps(), gaps);
    let whole = |store: &Store, items: &[Recorded]| {
        for item in items {
            assert_eq!(store.get(item.sighting.id).unwrap().as_ref(), Some(&*item.sighting));
            for (evidence, picture) in item.sighting.evidence.iter().zip(&item.pictures) {
                assert_eq!(store.evidence(&evidence.digest).unwrap().as_deref(), Some(&**picture));
            }
        }
    };
    whole(&store, &acknowledged);
    assert_eq!(store.get(refused[0].sighting.id).unwrap(), None);

    let larger = Command::new("mount").args(["-o", "remount,size=24m"]).arg(disk.0.path()).status();
    assert!(larger.unwrap().success());
    store.record(&refused).unwrap();
    acknowledged.extend(refused);
    assert_eq!(store.gaps(), gaps);
    drop(store);
    let store = Store::open(settings).unwrap();
    whole(&store, &acknowledged);
    let k1 = CameraId::new("k1").unwrap();
    let span = TimeSpan::new(gaps[0].from, gaps[0].to).unwrap();
    let told = store.coverage(std::slice::from_ref(&k1), span).unwrap();
    let unknown =
        Coverage { camera: k1, span, state: CoverageState::Unknown, cause: "disk full".into() };
    assert_eq!(told, [unknown], "nobody can say what was not seen then");
    assert_eq!(store.coverage(&[CameraId::new("k9").unwrap()], span).unwrap(), []);
    assert_eq!(store.gaps(), gaps);
    let check = store.check().unwrap();
    assert!(check.is_sound(), "{check:?}");
}
