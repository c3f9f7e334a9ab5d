//! Files of every version that was ever released stay in `testdata/` and must open.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::path::{Path, PathBuf};

use common::*;
use guiji_domain::*;
use guiji_store::{Store, StoreSettings};

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
    let folder = fixture("v2");
    let store = Store::open(StoreSettings { seal_days: 0, ..settings(&folder) }).unwrap();
    store.record(&contents_v1()).unwrap();
    assert_eq!(store.seal_days(at(86_400)).unwrap().sightings, 3);
    store.record(&[late_v2()]).unwrap();
    store.put_camera(&camera_v1()).unwrap();
    store.put_entry(&entry("w1")).unwrap();
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
