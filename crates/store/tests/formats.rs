//! Files of every version that was ever released stay in `testdata/` and must open.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::path::{Path, PathBuf};

use common::*;
use guiji_domain::*;
use guiji_store::{
    Deliveries, Durability, LegalHold, ReleaseFile, Store, StoreSettings, holds, place_hold,
};

fn fixture(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(version)
}

fn plate_v1(text: &str) -> PlateState {
    plate_with(text, [0.9, 0.05, 0.02, 0.01])
}

/// What the store of version 1 holds.
fn contents_v1() -> Vec<Recorded> {
    let read = sighting("k1", 1, at(10), plate_v1("浙J12345"));
    let mut first = with_pictures(
        read,
        &[(EvidenceKind::Plate, noise(1, 60)), (EvidenceKind::Frame, noise(2, 90))],
    );
    first.alerts = vec![alert(&first.sighting, "w1", AlertStage::Confirmed)];
    let mut plateless = sighting("k2", 2, at(20), PlateState::NotRead);
    plateless.vehicle = Vehicle { class: None, colour: None };
    plateless.direction = None;
    let open = provisional(&sighting("k2", 3, at(30), plate_v1("浙JD12345")));
    vec![
        first,
        plain(plateless),
        plain(open),
        plain(sighting("k2", 4, at(40), PlateState::Unreadable)),
    ]
}

fn camera_v1() -> Camera {
    Camera {
        credentials: Some(Credentials { username: "u".into(), password: "p".into() }),
        ..camera("k1")
    }
}

/// Version 2 has the same, sealed, and what came afterwards.
fn late_v2() -> Recorded {
    plain(sighting("k3", 5, at(15), plate_v1("苏E5K888")))
}

/// Makes the fixture of the present version: run once, when a version is released.
#[test]
#[ignore = "writes testdata/"]
fn make_the_fixture() {
    let folder = fixture("v5");
    let store = Store::open(StoreSettings { seal_days: 0, ..settings(&folder) }).unwrap();
    store.record(&contents_v1()).unwrap();
    assert_eq!(store.seal_days(at(86_400)).unwrap().sightings, 3);
    store.record(&[late_v2()]).unwrap();
    store.put_camera(&camera_v1()).unwrap();
    store.put_entry(&entry("w1")).unwrap();
    add_v3(&store, &folder);
}

/// Version 3 has what came beside the sightings too: coverage, roads, corrections, patrol units, deliveries, releases,
/// a gap, and a hold that keeps one sighting.
fn add_v3(store: &Store, folder: &Path) {
    let first = contents_v1().remove(0);
    store.put_unit(&unit()).unwrap();
    store.keep_coverage(&coverage_v3()).unwrap();
    store.put_road_graph(roads()).unwrap();
    store.correct(&correction(first.sighting.id, "浙J12346", 100)).unwrap();
    store.correct(&correction(first.sighting.id, "浙J12345", 200)).unwrap();
    let ledger = Deliveries::open(folder, Durability::Full).unwrap();
    let told = delivered(&first.alerts[0]);
    ledger.settle(&told.receiver.clone(), &standing(), &[told]).unwrap();
    let releases = ReleaseFile::open(&folder.join("releases.jsonl")).unwrap();
    assert_eq!(releases.grant(release()).unwrap(), 1);
    let old = held_v3();
    store.record(std::slice::from_ref(&old)).unwrap();
    let hold = LegalHold {
        case_number: "2026-0417".into(),
        plates: Vec::new(),
        cameras: vec![old.sighting.camera.clone()],
        span: TimeSpan::ALL,
        placed: at(0),
    };
    place_hold(folder, &hold).unwrap();
    store.enforce_retention(at(0)).unwrap();
    assert_eq!(store.get(old.sighting.id).unwrap().as_ref(), Some(&*old.sighting));
    let gap = "1795478401000000000 1795478402000000000 3";
    let line = format!("{gap} {:08x}\n", crc32fast::hash(gap.as_bytes()));
    std::fs::write(folder.join("gaps"), line).unwrap();
}

/// Too old to be kept, but for the hold.
fn held_v3() -> Recorded {
    plain(sighting("k7", 1, at(-400 * 86_400), plate("浙J12345")))
}

fn coverage_v3() -> Vec<Coverage> {
    vec![
        covered("k1", 0, 50, CoverageState::Seeing),
        covered("k1", 20, 86_000, CoverageState::Blind),
        covered("k2", 10, 10, CoverageState::Unknown),
    ]
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Sealing rounds the probabilities of a lattice, and nothing else.
fn without_lattice(mut sighting: Sighting) -> Sighting {
    if let PlateState::Read(plate) = &mut sighting.plate {
        plate.lattice = Lattice::certain(&plate.text);
    }
    sighting
}

#[test]
fn version_1_opens_and_can_be_sealed() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("v1"), folder.path());
    let store = Store::open(StoreSettings { seal_days: 0, ..settings(folder.path()) }).unwrap();
    for item in contents_v1() {
        assert_eq!(store.get(item.sighting.id).unwrap().as_ref(), Some(&*item.sighting));
    }
    assert_holds(&store, &contents_v1());
    assert_eq!(store.seal_days(at(86_400)).unwrap().sightings, 4); // with the one just written
    assert_holds(&store, &contents_v1());
}

#[test]
fn version_2_opens() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("v2"), folder.path());
    let store = Store::open(settings(folder.path())).unwrap();
    let mut items = contents_v1();
    items.push(late_v2());
    assert_holds(&store, &items);
    // What the format says of the first: 0.9, 0.05, 0.02 and 0.01 rounded, the best with what the others leave.
    let kept = store.get(items[0].sighting.id).unwrap().unwrap();
    let PlateState::Read(plate) = kept.plate else { panic!("{kept:?}") };
    let shown: Vec<_> =
        plate.lattice.positions()[0].candidates().iter().map(|c| c.probability).collect();
    assert_eq!(shown, [0.90234375, 0.048828125, 0.01953125, 0.009765625]);
}

#[test]
fn version_3_opens() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("v3"), folder.path());
    assert_holds_v3(folder.path());
}

/// The same in segments of version 2, with what notes commits and gaps beside the databases.
#[test]
fn version_4_opens() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("v4"), folder.path());
    assert_holds_v3(folder.path());
}

/// The same in segments of version 3, with cameras that may be asked for keyframes.
#[test]
fn version_5_opens() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("v5"), folder.path());
    assert_holds_v3(folder.path());
}

fn assert_holds_v3(folder: &Path) {
    let store = Store::open(settings(folder)).unwrap();
    let mut items = contents_v1();
    let (first, held) = (items[0].clone(), held_v3());
    assert_eq!(store.get(held.sighting.id).unwrap().as_ref(), Some(&*held.sighting));
    assert_eq!(holds(folder).unwrap().len(), 1);
    assert_eq!(store.units().unwrap(), [unit()]);
    assert_eq!(store.road_graph().unwrap().as_deref(), Some(&roads()));
    let cameras = ["k1", "k2"].map(|id| CameraId::new(id).unwrap());
    let told = store.coverage(&cameras, TimeSpan::ALL).unwrap();
    let (gaps, told): (Vec<_>, Vec<_>) = told.into_iter().partition(|it| it.cause == "disk full");
    assert_eq!(told, coverage_v3());
    let gap = TimeSpan::new(at(1), at(2)).unwrap();
    assert!(gaps.len() == 2 && gaps.iter().all(|it| it.span == gap), "of any camera");
    let expected = [
        correction(first.sighting.id, "浙J12346", 100),
        correction(first.sighting.id, "浙J12345", 200),
    ];
    assert_eq!(store.corrections_of(&[first.sighting.id]).unwrap(), expected);
    let ledger = Deliveries::open(folder, Durability::Full).unwrap();
    let proof = delivered(&first.alerts[0]);
    assert_eq!(ledger.standing(&proof.receiver).unwrap(), Some(standing()));
    assert_eq!(ledger.deliveries(&proof.alert).unwrap(), [proof]);
    drop(ledger);
    let releases = ReleaseFile::open(&folder.join("releases.jsonl")).unwrap();
    assert_eq!(releases.releases(at(1)), [release()]);
    items.push(late_v2());
    assert_holds(&store, &items);
}

fn assert_holds(store: &Store, items: &[Recorded]) {
    let report = store.check().unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(report.sightings >= items.len() as u64);
    assert_eq!((report.alerts, report.pictures), (1, 2));
    for item in items {
        let found = store.get(item.sighting.id).unwrap().map(without_lattice);
        assert_eq!(found, Some(without_lattice((*item.sighting).clone())));
        for (evidence, picture) in item.sighting.evidence.iter().zip(&item.pictures) {
            assert_eq!(store.evidence(&evidence.digest).unwrap().as_deref(), Some(&**picture));
        }
    }
    let mut expected = items[0].alerts[0].clone();
    expected.cursor = 1;
    assert_eq!(store.alerts_after(0, 9).unwrap(), [expected]);
    assert_eq!(store.cameras().unwrap(), [camera_v1()]);
    assert_eq!(store.entries().unwrap(), [entry("w1")]);
    let open: Vec<_> = store.unfinished(None, 9).unwrap().iter().map(|s| s.id).collect();
    assert_eq!(open, [items[2].sighting.id]);
    // And it can be written to; what is final stays.
    assert_eq!(
        store.record(items).unwrap().kept.iter().filter(|k| **k == Kept::Present).count(),
        items.len() - 1
    );
    let next = plain(sighting("k1", 9, at(50), plate("浙J12345")));
    store.record(std::slice::from_ref(&next)).unwrap();
    assert_eq!(store.get(next.sighting.id).unwrap().as_ref(), Some(&*next.sighting));
}

#[test]
fn passwords_are_sealed_on_disk_and_open_with_their_key_only() {
    let folder = tempfile::tempdir().unwrap();
    let password = "correct horse battery staple";
    let camera = Camera {
        credentials: Some(Credentials { username: "u".into(), password: password.into() }),
        ..camera("k1")
    };
    let is_anywhere = |secret: &str| {
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
            path.is_file()
                && std::fs::read(&path)
                    .unwrap()
                    .windows(secret.len())
                    .any(|bytes| bytes == secret.as_bytes())
        })
    };
    let store = Store::open(settings(folder.path())).unwrap();
    store.put_camera(&camera).unwrap();
    assert!(is_anywhere("rtsp://"), "the log beside the registry is looked at too");
    assert!(!is_anywhere(password));
    drop(store);
    let store = Store::open(settings(folder.path())).unwrap();
    assert_eq!(store.cameras().unwrap(), [camera]);
    drop(store);

    // As version 1 had it: in the clear, until it is opened.
    let registry = rusqlite::Connection::open(folder.path().join("registry.db")).unwrap();
    registry.execute("UPDATE camera SET password = ?1, sealed = NULL", [password]).unwrap();
    registry.close().unwrap();
    assert!(is_anywhere(password));
    let store = Store::open(settings(folder.path())).unwrap();
    assert!(!is_anywhere(password));
    drop(store);

    let key = folder.path().join("registry.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_file(key).unwrap();
    let store = Store::open(settings(folder.path())).unwrap();
    let error = store.cameras().unwrap_err().to_string();
    assert!(error.contains("camera k1") && error.contains("key back"), "{error}");
}
