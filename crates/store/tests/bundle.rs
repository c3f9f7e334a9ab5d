//! Sealed bundles: what is in them, and that no byte of one can be changed unnoticed.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use guiji_domain::*;
use guiji_store::bundle::{BundleSealer, ModelStatement, SoftwareStatement, verify_bundle};
use guiji_store::{MemoryStore, public_key_from_pem};
use sha2::{Digest as _, Sha256};

/// Hides by saying so; pixels are tested in `vision`.
struct Marks;

impl PictureRedactor for Marks {
    fn redact_frame(
        &self,
        frame: &[u8],
        vehicle: Option<&[u8]>,
        occupants: bool,
    ) -> Result<RedactedPicture, VisionError> {
        if frame.ends_with(b"garbled") {
            return Err(VisionError::Inference { model: "x".into(), reason: "garbled".into() });
        }
        let hidden = Hidden { surroundings: true, occupants, vehicle: vehicle.is_none() };
        Ok(RedactedPicture {
            bytes: b"frame without people".to_vec(),
            media_type: "image/jpeg",
            hidden,
        })
    }

    fn redact_vehicle(&self, _: &[u8]) -> Result<RedactedPicture, VisionError> {
        let hidden = Hidden { occupants: true, ..Hidden::default() };
        Ok(RedactedPicture {
            bytes: b"vehicle without people".to_vec(),
            media_type: "image/jpeg",
            hidden,
        })
    }
}

fn at(seconds: i64) -> CaptureTime {
    CaptureTime {
        at: Timestamp::from_secs(1_800_000_000 + seconds),
        uncertainty: Duration::from_millis(50),
        source: ClockSource::Rtcp,
    }
}

/// A sighting with these pictures.
fn recorded(n: i64, heading: Heading, pictures: &[(EvidenceKind, &str)]) -> Recorded {
    let camera = CameraId::new("k1").unwrap();
    let captured = at(n);
    let evidence = pictures.iter().map(|(kind, bytes)| Evidence {
        kind: *kind,
        digest: Digest(Sha256::digest(bytes.as_bytes()).into()),
        bytes: u32::try_from(bytes.len()).unwrap(),
        media_type: "image/jpeg".into(),
        captured,
    });
    let sighting = Sighting {
        id: SightingId::for_track(&camera, TrackId(n.unsigned_abs()), captured.at),
        stage: SightingStage::Final,
        camera,
        span: TimeSpan::at(captured.at),
        captured,
        plate: PlateState::NotRead,
        vehicle: Vehicle { class: Some((VehicleClass::Car, 0.9)), colour: None },
        direction: Some(Direction { heading, course_deg: None }),
        frames: 9,
        evidence: evidence.collect(),
    };
    Recorded {
        sighting: Arc::new(sighting),
        pictures: pictures.iter().map(|(_, bytes)| bytes.as_bytes().into()).collect(),
        alerts: Vec::new(),
    }
}

struct House {
    dir: tempfile::TempDir,
    sealer: BundleSealer,
    sightings: Vec<Sighting>,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::default());
        use EvidenceKind::{Frame, Plate, Vehicle};
        let all = [
            recorded(1, Heading::Approaching, &[(Plate, "p1"), (Vehicle, "v1"), (Frame, "f1")]),
            recorded(2, Heading::Receding, &[(Vehicle, "v2"), (Frame, "f2")]),
            recorded(3, Heading::Receding, &[(Frame, "garbled")]),
        ];
        store.record(&all).unwrap();
        let mut sightings: Vec<_> = all.iter().map(|one| (*one.sighting).clone()).collect();
        // A picture that retention took.
        let gone = Evidence { digest: Digest([7; 32]), ..sightings[1].evidence[0].clone() };
        sightings[1].evidence.push(gone);
        let software = SoftwareStatement { name: "guiji".into(), version: "1.2.3".into() };
        let model =
            ModelStatement { role: "plate-reader".into(), id: "r1".into(), sha256: "ab".into() };
        let key = dir.path().join("evidence.key");
        let sealer =
            BundleSealer::open(&key, store, Arc::new(Marks), software, vec![model]).unwrap();
        Self { dir, sealer, sightings }
    }

    fn seal(&self, people: People) -> Vec<u8> {
        let order = ExportOrder {
            sightings: self.sightings.clone(),
            documents: vec![("sightings.json".into(), b"{\"name\":\"sightings/1\"}\n".to_vec())],
            people,
            at: Timestamp::from_secs(1_800_000_100),
            authority: Authority::new("trial", "2026-0417", "wang").unwrap(),
            role: "analyst".into(),
            on_behalf_of: String::new(),
            question: "3 sightings".into(),
            audit_record: 42,
        };
        let mut sealing = self.sealer.begin(order);
        let mut bundle = Vec::new();
        while let Some(piece) = sealing.next_piece().unwrap() {
            bundle.extend(piece);
        }
        bundle
    }

    fn key(&self) -> Vec<u8> {
        let pem = std::fs::read_to_string(self.dir.path().join("evidence.pub")).unwrap();
        assert_eq!(pem, self.sealer.public_key_pem());
        public_key_from_pem(&pem).unwrap()
    }

    /// Files and what is wrong with them.
    fn faults(&self, bundle: &[u8]) -> Vec<(String, String)> {
        self.faults_by(bundle, &self.key())
    }

    fn faults_by(&self, bundle: &[u8], key: &[u8]) -> Vec<(String, String)> {
        let path = self.dir.path().join("bundle.tar");
        std::fs::write(&path, bundle).unwrap();
        let report = verify_bundle(&path, key).unwrap();
        report.faults.into_iter().map(|fault| (fault.file, fault.what)).collect()
    }
}

/// Each file's name with the places of its header and of its bytes, by another reader than ours.
fn members(bundle: &[u8]) -> Vec<(String, std::ops::Range<usize>, Vec<u8>)> {
    let mut archive = tar::Archive::new(bundle);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let start = usize::try_from(entry.raw_header_position()).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let end = start + 512 + bytes.len().div_ceil(512) * 512;
        (name, start..end, bytes)
    });
    entries.collect()
}

#[test]
fn a_bundle_holds_what_its_manifest_says_and_people_are_hidden() {
    let house = House::new();
    let bundle = house.seal(People::Blurred);
    assert_eq!(house.faults(&bundle), []);
    assert_eq!(bundle, house.seal(People::Blurred), "the same order, the same bytes");
    let files: BTreeMap<_, _> =
        members(&bundle).into_iter().map(|(name, _, bytes)| (name, bytes)).collect();
    let [s1, s2] = [0, 1].map(|i| house.sightings[i].id);
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    // A plate shows nobody; a car from behind shows nobody; the rest was changed.
    assert_eq!(text(&format!("pictures/{s1}/1-plate.jpg")), "p1");
    assert_eq!(text(&format!("pictures/{s1}/2-vehicle.jpg")), "vehicle without people");
    assert_eq!(text(&format!("pictures/{s1}/3-frame.jpg")), "frame without people");
    assert_eq!(text(&format!("pictures/{s2}/1-vehicle.jpg")), "v2");
    assert_eq!(text(&format!("pictures/{s2}/2-frame.jpg")), "frame without people");
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let frame = &manifest["files"][4];
    assert_eq!(frame["name"], format!("pictures/{s1}/3-frame.jpg"));
    assert_eq!(frame["original"]["sha256"], Digest(Sha256::digest(b"f1").into()).to_string());
    assert_eq!(frame["hidden"]["surroundings"], true);
    assert_eq!(manifest["clock"][0]["error_s"], 0.05);
    assert_eq!(manifest["clock"][0]["source"], "rtcp");
    assert_eq!(manifest["authority"]["audit_record"], 42);
    assert_eq!(manifest["authority"]["case_number"], "2026-0417");
    assert_eq!(manifest["models_at_export"][0]["id"], "r1");
    assert_eq!(manifest["software"]["version"], "1.2.3");
    // What could not be hidden is left out, and what is gone is said.
    let absent = manifest["absent"].as_array().unwrap();
    assert_eq!(absent.len(), 2, "{absent:#?}");
    assert!(!files.values().any(|bytes| bytes == b"garbled"));
}

#[test]
fn with_leave_the_pictures_are_the_originals() {
    let house = House::new();
    let bundle = house.seal(People::Shown);
    assert_eq!(house.faults(&bundle), []);
    let pictures: Vec<_> = members(&bundle)
        .into_iter()
        .filter(|(name, ..)| name.starts_with("pictures/"))
        .map(|(_, _, bytes)| String::from_utf8(bytes).unwrap())
        .collect();
    assert_eq!(pictures, ["p1", "v1", "f1", "v2", "f2", "garbled"]);
}

#[test]
fn any_changed_byte_is_found_and_its_file_is_named() {
    let house = House::new();
    let bundle = house.seal(People::Blurred);
    for (name, range, bytes) in members(&bundle) {
        let body = range.start + 512..range.start + 512 + bytes.len();
        // Every byte of the header (its zeros included) in steps, the body in steps, the padding's last.
        let header = (range.start..range.start + 512).step_by(7);
        for place in header.chain(body.clone().step_by(11)).chain([body.end - 1, range.end - 1]) {
            for bit in [0x01, 0x80] {
                let mut changed = bundle.clone();
                changed[place] ^= bit;
                let faults = house.faults(&changed);
                assert!(!faults.is_empty(), "{name}: byte {place}");
                // What vouches for what cannot be told apart: the two are named as one.
                let both = name.starts_with("manifest.") && faults[0].0.starts_with("manifest.");
                // An altered size leaves nothing after it readable, the manifest with the right name included.
                let unreadable =
                    place < body.start && faults[0].1.contains("no file of an archive");
                let first = faults[0].0 == name || both || unreadable;
                assert!(first, "{name}: byte {}: {faults:?}", place - range.start);
            }
        }
    }
}

#[test]
fn cut_off_anywhere_it_does_not_verify() {
    let house = House::new();
    let bundle = house.seal(People::Blurred);
    for length in (0..bundle.len()).step_by(97).chain([bundle.len() - 1, bundle.len() - 512]) {
        assert!(!house.faults(&bundle[..length]).is_empty(), "{length}");
    }
    let longer = [&bundle[..], b"x"].concat();
    assert!(house.faults(&longer)[0].1.contains("added behind"));
}

#[test]
fn missing_added_swapped_and_foreign_files_are_named() {
    let house = House::new();
    let bundle = house.seal(People::Blurred);
    let all = members(&bundle);
    let joined = |parts: &[&[u8]]| [&parts.concat()[..], &[0; 1024]].concat();
    let parts: Vec<&[u8]> = all.iter().map(|(_, range, _)| &bundle[range.clone()]).collect();
    let missing = [&parts[..2], &parts[3..]].concat();
    let faults = house.faults(&joined(&missing));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].0, all[2].0);
    assert!(faults[0].1.contains("missing"), "{faults:?}");

    let mut header = tar::Header::new_ustar();
    header.set_path("pictures/planted.jpg").unwrap();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let added = [&parts[..1], &[&header.as_bytes()[..]], &parts[1..]].concat();
    let faults = house.faults(&joined(&added));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].0, "pictures/planted.jpg");

    let mut twice = parts.clone();
    twice.insert(1, parts[0]);
    assert!(house.faults(&joined(&twice)).iter().any(|(_, what)| what.contains("twice")));

    let mut swapped = parts.clone();
    swapped.swap(2, 3);
    assert!(house.faults(&joined(&swapped)).iter().any(|(_, what)| what.contains("order")));

    // Whole in itself, but sealed by somebody else.
    let stranger = House::new();
    assert_eq!(stranger.faults(&stranger.seal(People::Blurred)), []);
    let faults = house.faults_by(&stranger.seal(People::Blurred), &house.key());
    assert_eq!(faults.len(), 1);
    assert!(faults[0].1.contains("another key"), "{faults:?}");
}

#[test]
fn a_key_that_is_none_is_refused() {
    assert!(public_key_from_pem("nonsense").is_none());
    assert!(
        public_key_from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
            .is_none()
    );
}
