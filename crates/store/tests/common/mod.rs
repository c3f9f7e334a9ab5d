//! Values that several tests make.
#![allow(dead_code)] // each test binary takes what it needs

use std::sync::Arc;
use std::time::Duration;

use guiji_domain::*;
use guiji_store::StoreSettings;

/// 2026-11-24T00:00:00Z.
pub(crate) const MIDNIGHT: Timestamp = Timestamp::from_secs(1_795_478_400);

pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp::from_nanos(MIDNIGHT.as_nanos() + secs * 1_000_000_000)
}

pub(crate) fn time(at: Timestamp) -> CaptureTime {
    CaptureTime { at, uncertainty: Duration::from_millis(40), source: ClockSource::Rtcp }
}

/// A plate whose probabilities a sealed day keeps exactly, which it does not do with all.
pub(crate) fn plate(text: &str) -> PlateState {
    plate_with(text, [0.875, 0.0625, 0.03125, 0.015625])
}

pub(crate) fn plate_with(text: &str, probabilities: [f32; 4]) -> PlateState {
    let text = PlateText::parse(text).unwrap();
    // A lattice as a reader gives it: the character and a few that look like it.
    let positions = text
        .chars()
        .map(|c| {
            let other = |k: usize| PlateChar::from_index((c.index() + k) % PlateChar::COUNT);
            let characters = [Some(c), other(1), other(2), other(3)];
            let candidates = characters.into_iter().zip(probabilities);
            Position::new(
                candidates.map(|(character, probability)| Candidate { character, probability }),
            )
            .unwrap()
        })
        .collect();
    PlateState::Read(FusedPlate {
        text,
        kind: Some(PlateKind::Small),
        colour: Some(PlateColour::Blue),
        rows: PlateRows::One,
        lattice: Lattice::new(positions).unwrap(),
        confidence: 0.93,
        reads: 7,
    })
}

/// A final sighting without evidence: a white car, captured two seconds after its track began.
pub(crate) fn sighting(
    camera: &str,
    track: u64,
    started: Timestamp,
    state: PlateState,
) -> Sighting {
    let camera = CameraId::new(camera).unwrap();
    let captured = started.plus(Duration::from_secs(2));
    Sighting {
        id: SightingId::for_track(&camera, TrackId(track), started),
        stage: SightingStage::Final,
        camera,
        span: TimeSpan::new(started, started.plus(Duration::from_secs(4))).unwrap(),
        captured: time(captured),
        plate: state,
        vehicle: Vehicle {
            class: Some((VehicleClass::Car, 0.8)),
            colour: Some((VehicleColour::White, 0.6)),
        },
        direction: Some(Direction { heading: Heading::Approaching, course_deg: Some(12.5) }),
        frames: 31,
        evidence: Vec::new(),
    }
}

pub(crate) fn provisional(of: &Sighting) -> Sighting {
    Sighting { stage: SightingStage::Provisional, evidence: Vec::new(), ..of.clone() }
}

pub(crate) fn plain(sighting: Sighting) -> Recorded {
    Recorded { sighting: Arc::new(sighting), pictures: Vec::new(), alerts: Vec::new() }
}

/// The sighting with these pictures as its evidence.
pub(crate) fn with_pictures(
    mut sighting: Sighting,
    pictures: &[(EvidenceKind, Vec<u8>)],
) -> Recorded {
    sighting.evidence = pictures
        .iter()
        .map(|(kind, bytes)| Evidence {
            kind: *kind,
            digest: digest(bytes),
            bytes: bytes.len() as u32,
            media_type: "image/jpeg".into(),
            captured: sighting.captured,
        })
        .collect();
    Recorded {
        sighting: Arc::new(sighting),
        pictures: pictures.iter().map(|(_, bytes)| bytes.as_slice().into()).collect(),
        alerts: Vec::new(),
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest(sha2::Sha256::digest(bytes).into())
}

/// Bytes that do not compress and differ from seed to seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

pub(crate) fn alert(sighting: &Sighting, entry: &str, stage: AlertStage) -> Alert {
    let read = PlateText::parse("浙J12345").unwrap();
    Alert {
        id: AlertId { sighting: sighting.id, entry: WatchEntryId::new(entry).unwrap() },
        cursor: 0,
        stage,
        raised: sighting.captured.at,
        camera: sighting.camera.clone(),
        captured: sighting.captured,
        read: Some(read.clone()),
        target: WatchTarget::Plate(read),
        case_number: "2026-0117".into(),
        probability: 0.97,
        units: Vec::new(),
        acknowledgement: None,
        repeat: None,
    }
}

pub(crate) fn entry(id: &str) -> WatchEntry {
    WatchEntry {
        id: WatchEntryId::new(id).unwrap(),
        target: WatchTarget::Plate(PlateText::parse("浙J12345").unwrap()),
        case_number: "2026-0117".into(),
        reason: "stolen".into(),
        owner: "Officer 12".into(),
        created: at(0),
        expires: at(86_400),
        threshold: 0.5,
        cameras: Vec::new(),
        area: None,
        vehicle: VehicleDescription::default(),
        hours: None,
        approval: None,
    }
}

pub(crate) fn camera(id: &str) -> Camera {
    Camera {
        id: CameraId::new(id).unwrap(),
        site: SiteId::new("S1").unwrap(),
        name: "中心路口 东".into(),
        position: GeoPoint::new(28.66, 121.42).unwrap(),
        bearing_deg: Some(90.0),
        address: StreamAddress::new("rtsp://10.0.0.7:554/ch1").unwrap(),
        credentials: None,
        transport: Transport::Tcp,
        pace: Pace::RealTime,
        policy: DecodePolicy::Full,
        analysed_fps_max: 12.5,
        recorded_at: None,
        lanes: None,
        substream: None,
        onvif: None,
        enabled: true,
    }
}

pub(crate) fn settings(folder: &std::path::Path) -> StoreSettings {
    StoreSettings::new(folder)
}

/// A patrol unit.
pub(crate) fn unit() -> PatrolUnit {
    PatrolUnit {
        id: PatrolUnitId::new("east").unwrap(),
        name: "East ring".into(),
        duty: PatrolDuty::Patrol,
        cameras: vec![CameraId::new("k1").unwrap()],
        area: None,
        shifts: vec![DailyHours::new(1320, 360).unwrap()],
        neighbours: Vec::new(),
    }
}

/// What a camera could see of a day, in seconds from midnight.
pub(crate) fn covered(camera: &str, first: i64, last: i64, state: CoverageState) -> Coverage {
    Coverage {
        camera: CameraId::new(camera).unwrap(),
        span: TimeSpan::new(at(first), at(last)).unwrap(),
        state,
        cause: "live".into(),
    }
}

/// One road of two nodes.
pub(crate) fn roads() -> RoadGraph {
    let node = |lat, lon| GeoPoint::new(lat, lon).unwrap();
    let edge =
        RoadEdge { from: 0, to: 1, length_m: 14_750.5, limit_kmh: Some(70.0), one_way: true };
    RoadGraph::new(vec![node(29.1, 121.4), node(29.2, 121.5)], vec![edge]).unwrap()
}

pub(crate) fn correction(of: SightingId, plate: &str, secs: i64) -> Correction {
    Correction {
        sighting: of,
        plate: PlateText::parse(plate).unwrap(),
        at: at(secs),
        officer: "Wang".into(),
        case_number: "C1".into(),
        reason: "read from the frame".into(),
    }
}

/// That a receiver took the first stage of an alert.
pub(crate) fn delivered(alert: &Alert) -> Delivery {
    Delivery {
        receiver: ReceiverId::new("desk").unwrap(),
        alert: alert.id.clone(),
        stage: alert.stage,
        cursor: 1,
        delivered: at(60),
        tries: 1,
        message: Digest([7; 32]),
        answer: "HTTP 204".into(),
    }
}

/// How far a receiver has come.
pub(crate) fn standing() -> Standing {
    Standing { reached: 5, aside: vec![3, 4] }
}

pub(crate) fn release() -> Release {
    Release {
        number: 1,
        officer: "wang".into(),
        case_number: "2026-0417".into(),
        plate: PlateText::parse("浙J12345").ok(),
        tactic: None,
        reason: "old case".into(),
        granted_by: "chen".into(),
        granted: at(0),
        expires: at(86_400 * 7),
    }
}
