//! The targets of `fuzz/` on random and changed requests, for a few seconds on stable Rust.

use std::time::{Duration, Instant};

use guiji_api::{fuzz, pb};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use prost::Message as _;

const SECONDS: Duration = Duration::from_secs(2);

/// Requests with everything in them, each behind the byte that says which it is.
fn requests() -> Vec<Vec<u8>> {
    let time = Some(pb::Timestamp { seconds: 1_800_000_000, nanos: 5 });
    let authority =
        Some(pb::Authority { purpose: "p".into(), case_number: "c".into(), officer: "o".into() });
    let centre = Some(pb::GeoPoint { latitude_deg: 28.0, longitude_deg: 121.0 });
    let circle = pb::area::Shape::Circle(pb::Circle { centre, radius_m: 500.0 });
    let filter = pb::SightingFilter {
        plate_pattern: "浙J[8B]?1*".into(),
        start_time: time,
        end_time: time,
        area: Some(pb::Area { shape: Some(circle) }),
        cameras: vec!["cameras/k1".into()],
        classes: vec![1, 2],
        colours: vec![3],
        include_provisional: true,
        hours: Some(pb::DailyHours { start_minute: 1350, end_minute: 300, weekdays: vec![6, 7] }),
    };
    let search = pb::SearchSightingsRequest {
        authority: authority.clone(),
        filter: Some(filter),
        ..Default::default()
    };
    let candidate =
        |character: &str| pb::LatticeCandidate { character: character.into(), probability: 0.5 };
    let position = pb::LatticePosition { candidates: vec![candidate("8"), candidate("B")] };
    let sighting = pb::Sighting {
        name: "sightings/98fae9d97f4c00000000000000000001".into(),
        camera: "cameras/k1".into(),
        capture: Some(pb::CaptureTime {
            time,
            uncertainty: Some(pb::Duration { seconds: 0, nanos: 9 }),
            source: 1,
        }),
        plate_state: 1,
        plate: Some(pb::Plate {
            text: "浙J12345".into(),
            confidence: 0.9,
            lattice: Some(pb::Lattice { positions: vec![position; 7] }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let camera = pb::CreateCameraRequest {
        authority: authority.clone(),
        camera_id: "k1".into(),
        camera: Some(pb::Camera {
            stream_address: "rtsp://10.0.0.1/1".into(),
            position: centre,
            ..Default::default()
        }),
    };
    let entry = pb::WatchlistEntry {
        target: Some(pb::watchlist_entry::Target::PlatePattern("浙J*".into())),
        reason: "r".into(),
        expire_time: time,
        threshold: Some(0.5),
        ..Default::default()
    };
    let export = pb::ExportEvidenceRequest {
        authority: authority.clone(),
        plate: "浙J12345".into(),
        start_time: time,
        ..Default::default()
    };
    let release = pb::Release {
        officer: "wang".into(),
        case_number: "c".into(),
        plate: "浙J12345".into(),
        reason: "r".into(),
        expire_time: time,
        ..Default::default()
    };
    let grant = pb::GrantReleaseRequest { authority, release: Some(release) };
    let bodies = [
        search.encode_to_vec(),
        sighting.encode_to_vec(),
        camera.encode_to_vec(),
        entry.encode_to_vec(),
        export.encode_to_vec(),
        grant.encode_to_vec(),
    ];
    (0..).zip(bodies).map(|(which, body): (u8, _)| [&[which][..], &body].concat()).collect()
}

fn texts() -> Vec<Vec<u8>> {
    let tokens = include_str!("../testdata/tokens/tokens.json");
    let tokens: std::collections::BTreeMap<String, String> =
        serde_json::from_str(tokens).expect("tokens");
    let jwks = include_str!("../testdata/tokens/jwks.json");
    let texts =
        ["浙J12345", "浙J[8B]?*", "sightings/98fae9d97f4c00000000000000000001", "a\n#b", "", jwks];
    let texts = texts.into_iter().map(str::to_owned).chain(tokens.into_values());
    texts.map(String::into_bytes).collect()
}

fn changed(seed: &[u8], rng: &mut TestRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + rng.next_u32() % 4 {
        let place = rng.next_u32() as usize % bytes.len().max(1);
        match rng.next_u32() % 4 {
            0 => bytes.truncate(place),
            1 => bytes.insert(place.min(bytes.len()), rng.next_u32() as u8),
            2 => bytes.extend_from_within(place.min(bytes.len())..),
            _ => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << (rng.next_u32() % 8);
                }
            }
        }
    }
    bytes
}

#[test]
fn requests_of_any_kind_are_refused_or_taken() {
    for (name, target, seeds) in [
        ("request", fuzz::request as fn(&[u8]), requests()),
        ("filter", fuzz::filter, texts()),
        ("token", fuzz::token, texts()),
    ] {
        let mut rng = TestRng::from_seed(RngAlgorithm::XorShift, &[5; 16]);
        seeds.iter().for_each(|seed| target(seed));
        let (begun, mut count) = (Instant::now(), 0u64);
        while begun.elapsed() < SECONDS {
            for seed in &seeds {
                target(&changed(seed, &mut rng));
                let mut noise = vec![0; rng.next_u32() as usize % 200];
                rng.fill_bytes(&mut noise);
                target(&noise);
                count += 2;
            }
        }
        println!("{name}: {count} inputs");
    }
}
