//! Files of every version that was ever released stay in `testdata/` and must open.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::path::{Path, PathBuf};

use common::*;
use guiji_domain::*;
use guiji_store::Store;

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

/// Makes the fixture of the present version: run once, when a version is released.
#[test]
#[ignore = "writes testdata/"]
fn make_the_fixture() {
    let folder = fixture("v1");
    let store = Store::open(settings(&folder)).unwrap();
    store.record(&contents_v1()).unwrap();
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

#[test]
fn version_1_opens() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture("v1"), folder.path());
    let store = Store::open(settings(folder.path())).unwrap();
    let report = store.check().unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.sightings, report.alerts, report.pictures), (4, 1, 2));
    let items = contents_v1();
    for item in &items {
        assert_eq!(store.get(item.sighting.id).unwrap().as_ref(), Some(&*item.sighting));
        for (evidence, picture) in item.sighting.evidence.iter().zip(&item.pictures) {
            assert_eq!(store.evidence(&evidence.digest).unwrap().as_deref(), Some(&**picture));
        }
    }
    let mut expected = items[0].alerts[0].clone();
    expected.cursor = 1;
    assert_eq!(store.alerts_after(0, 9).unwrap(), [expected]);
    assert_eq!(store.cameras().unwrap(), [camera_v1()]);
    assert_eq!(store.entries().unwrap(), [entry("w1")]);
    // And it can be written to.
    let next = sighting("k1", 9, at(50), plate("浙J12345"));
    store.record(&[plain(next.clone())]).unwrap();
    assert_eq!(store.get(next.id).unwrap(), Some(next));
}
