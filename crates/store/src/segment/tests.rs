//! Segments as a whole: what goes in comes out, indexes change nothing, flipped bits are seen, the format stands.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use guiji_domain::{
    CameraId, Candidate, CaptureTime, ClockSource, Digest, Direction, Evidence, EvidenceKind,
    FusedPlate, Heading, Lattice, PlateChar, PlateColour, PlateKind, PlateRows, PlateState,
    PlateText, Position, Sighting, SightingId, SightingStage, StoreError, TimeSpan, Timestamp,
    TrackId, Vehicle, VehicleClass, VehicleColour,
};
use proptest::prelude::*;

use super::probability::tests::any_lattice;
use super::probability::{Doubt, Doubts, Places};
use super::*;

fn cache() -> Arc<BlockCache> {
    Arc::new(BlockCache::new(1 << 20))
}

fn write(path: &Path, sightings: &[Sighting]) {
    let mut writer = SegmentWriter::create(path).unwrap();
    sightings.iter().for_each(|sighting| writer.push(sighting).unwrap());
    writer.finish().unwrap();
}

/// What was found to be damaged, and how many sightings were whole.
fn checked(segment: &Segment) -> (Vec<String>, usize) {
    let (mut damages, mut whole) = (Vec::new(), 0);
    let mut each = |_| {
        whole += 1;
        Ok(())
    };
    check(segment, &mut each, &mut |error| damages.push(error.to_string())).unwrap();
    (damages, whole)
}

fn any_time() -> impl Strategy<Value = CaptureTime> {
    let source = prop::sample::select(vec![ClockSource::Rtcp, ClockSource::Arrival]);
    let at = prop_oneof![any::<i64>(), 1_795_478_400_000_000_000..1_795_478_401_000_000_000i64];
    (at, any::<u64>(), 0..1_000_000_000u32, source).prop_map(|(at, secs, nanos, source)| {
        let uncertainty = Duration::new(secs, nanos);
        CaptureTime { at: Timestamp::from_nanos(at), uncertainty, source }
    })
}

prop_compose! {
    fn any_evidence()(
        kind in prop::sample::select(EvidenceKind::ALL), digest: [u8; 32], bytes: u32,
        media_type in "\\PC{0,9}", captured in any_time(),
    ) -> Evidence {
        Evidence { kind, digest: Digest(digest), bytes, media_type, captured }
    }
}

prop_compose! {
    fn any_plate()(
        text in prop::sample::select(vec!["浙J12345", "浙J12346", "浙JD12345", "苏E5K888", "粤Z1234港"]),
        kind in prop::option::of(prop::sample::select(PlateKind::ALL)),
        colour in prop::option::of(prop::sample::select(PlateColour::ALL)),
        rows in prop::sample::select(PlateRows::ALL),
        lattice in any_lattice(), confidence: f32, reads: u32,
    ) -> FusedPlate {
        FusedPlate { text: PlateText::parse(text).unwrap(), kind, colour, rows, lattice, confidence, reads }
    }
}

prop_compose! {
    fn any_sighting()(
        id: u128, near: bool, captured in any_time(),
        ends in (any::<i64>(), any::<i64>()),
        camera in prop::sample::select(vec!["k1", "k2", "k10"]),
        plate in prop_oneof![
            Just(PlateState::NotRead), Just(PlateState::Unreadable), any_plate().prop_map(PlateState::Read),
        ],
        class in prop::option::of((prop::sample::select(VehicleClass::ALL), 0.0f32..1.0)),
        colour in prop::option::of((prop::sample::select(VehicleColour::ALL), 0.0f32..1.0)),
        direction in prop::option::of((prop::sample::select(Heading::ALL), prop::option::of(0.0f32..360.0))),
        frames: u32, evidence in prop::collection::vec(any_evidence(), 0..3),
    ) -> Sighting {
        let camera = CameraId::new(camera).unwrap();
        let id = if near {
            SightingId::for_track(&camera, TrackId(id as u64), captured.at.minus(Duration::from_secs(2)))
        } else {
            SightingId::from_u128(id)
        };
        let span = TimeSpan::new(
            Timestamp::from_nanos(ends.0.min(ends.1)), Timestamp::from_nanos(ends.0.max(ends.1)),
        ).unwrap();
        Sighting {
            id, stage: SightingStage::Final, camera, span, captured, plate,
            vehicle: Vehicle { class, colour },
            direction: direction.map(|(heading, course_deg)| Direction { heading, course_deg }),
            frames, evidence,
        }
    }
}

/// In the order of a segment, ids once.
fn in_order(sightings: Vec<Sighting>) -> Vec<Sighting> {
    let by_id: BTreeMap<_, _> = sightings.into_iter().map(|s| (s.id, s)).collect();
    let mut sightings: Vec<_> = by_id.into_values().collect();
    sightings.sort_by_key(|s| (s.captured.at, s.id));
    sightings
}

/// The sighting without its lattice, which has a test of its own, and with its floats as bits.
fn bare(sighting: &Sighting) -> (Sighting, Option<u32>) {
    let mut bare = sighting.clone();
    let PlateState::Read(plate) = &mut bare.plate else { return (bare, None) };
    plate.lattice = Lattice::certain(&plate.text);
    let confidence = std::mem::take(&mut plate.confidence).to_bits();
    (bare, Some(confidence))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(sightings in prop::collection::vec(any_sighting(), 0..300)) {
        let sightings = in_order(sightings);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.seg");
        write(&path, &sightings);
        let segment = Segment::open(&path, &cache()).unwrap();
        prop_assert_eq!(segment.rows() as usize, sightings.len());
        prop_assert_eq!(
            segment.captured(),
            sightings.first().zip(sightings.last())
                .map(|(first, last)| (first.captured.at.as_nanos(), last.captured.at.as_nanos()))
        );
        for (row, sighting) in (0..).zip(&sightings) {
            prop_assert_eq!(bare(&segment.sighting(row).unwrap()), bare(sighting));
            prop_assert_eq!(segment.find(sighting.id).unwrap(), Some(row));
            let other = SightingId::from_u128(sighting.id.as_u128() ^ 1);
            if !sightings.iter().any(|s| s.id == other) {
                prop_assert_eq!(segment.find(other).unwrap(), None);
            }
        }
        prop_assert_eq!(checked(&segment), (Vec::new(), sightings.len()));
    }
}

/// A few thousand sightings, so that columns have more than one block: always the same.
fn many(count: u64) -> Vec<Sighting> {
    let texts = ["浙J12345", "浙J12346", "浙JD12345", "苏E5K888"];
    let sightings = (0..count).map(|i| {
        let camera = CameraId::new(["k1", "k2", "k3"][i as usize % 3]).unwrap();
        let started = Timestamp::from_nanos(1_795_478_400_000_000_000 + (i * 7_919 % 1000) as i64);
        let text = PlateText::parse(texts[(i / 2) as usize % 4]).unwrap();
        let lattice = Lattice::certain(&text);
        let at = started.plus(Duration::from_millis(i % 40));
        Sighting {
            id: SightingId::for_track(&camera, TrackId(i), started),
            stage: SightingStage::Final,
            camera,
            span: TimeSpan::new(started, started.plus(Duration::from_secs(3))).unwrap(),
            captured: CaptureTime {
                at,
                uncertainty: Duration::from_millis(40),
                source: ClockSource::Rtcp,
            },
            plate: if i % 5 == 0 {
                PlateState::NotRead
            } else {
                PlateState::Read(FusedPlate {
                    text,
                    kind: Some(PlateKind::Small),
                    colour: Some(PlateColour::Blue),
                    rows: PlateRows::One,
                    lattice,
                    confidence: 0.75,
                    reads: 7,
                })
            },
            vehicle: Vehicle { class: Some((VehicleClass::Car, 0.5)), colour: None },
            direction: Some(Direction { heading: Heading::Approaching, course_deg: Some(12.5) }),
            frames: 31,
            evidence: Vec::new(),
        }
    });
    in_order(sightings.collect())
}

#[test]
fn columns_of_several_blocks() {
    let sightings = many(9000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.seg");
    write(&path, &sightings);
    // A cache that holds next to nothing.
    let segment = Segment::open(&path, &Arc::new(BlockCache::new(40_000))).unwrap();
    assert_eq!(checked(&segment), (Vec::new(), 9000));
    for (row, sighting) in (0..).zip(&sightings).step_by(97) {
        assert_eq!(&segment.sighting(row).unwrap(), sighting);
        assert_eq!(segment.find(sighting.id).unwrap(), Some(row));
    }
}

/// Whatever bit is flipped: the file is refused, or the check finds it, and nothing panics.
#[test]
fn every_flipped_bit_is_found() {
    let sightings = many(150);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.seg");
    write(&path, &sightings);
    let good = std::fs::read(&path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for at in 0..good.len() {
        file.write_all_at(&[good[at] ^ 1 << (at % 8)], at as u64).unwrap();
        match Segment::open(&path, &cache()) {
            Err(error) => {
                assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                assert!(error.to_string().contains("a.seg"), "{error}");
            }
            Ok(segment) => {
                let (damages, _) = checked(&segment);
                assert!(!damages.is_empty(), "byte {at}");
                for (row, sighting) in (0..).zip(&sightings) {
                    // An error or the truth.
                    if let Ok(read) = segment.sighting(row) {
                        assert_eq!(&read, sighting, "byte {at}");
                    }
                }
            }
        }
        file.write_all_at(&good[at..=at], at as u64).unwrap();
    }
    for length in [0, 7, 8, 100, good.len() - 1] {
        file.set_len(length as u64).unwrap();
        assert!(matches!(Segment::open(&path, &cache()), Err(StoreError::Damaged { .. })));
    }
}

/// A search that believed such columns would pass over the row.
#[test]
fn columns_that_hide_a_doubt_are_found() {
    let mut sighting = many(2).remove(1);
    let PlateState::Read(plate) = &mut sighting.plate else { unreachable!("it was read") };
    let candidates = [('3', 0.6), ('8', 0.4)]
        .map(|(c, probability)| Candidate { character: PlateChar::new(c), probability });
    let mut positions = plate.lattice.positions().to_vec();
    positions[4] = Position::new(candidates).unwrap();
    plate.lattice = Lattice::new(positions).unwrap();
    let mut maker = row::RowMaker::default();
    let row = maker.row(&sighting).unwrap();
    let hidden = [
        Doubts { places: Places::NONE, ..row.doubts },
        Doubts { doubt: Doubt::NONE, ..row.doubts },
    ];
    for (doubts, found) in [(row.doubts, 0), (hidden[0], 1), (hidden[1], 1)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.seg");
        let mut writer = SegmentWriter::create(&path).unwrap();
        writer.push_row(&row::Row { doubts, ..row }).unwrap();
        writer.finish().unwrap();
        let (damages, _) = checked(&Segment::open(&path, &cache()).unwrap());
        assert_eq!(damages.len(), found, "{damages:?}");
        assert!(damages.iter().all(|it| it.contains("what other plates may have of it")));
    }
}

#[test]
fn what_is_out_of_order_or_not_final_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(&folder.path().join("a.seg")).unwrap();
    let sightings = many(3);
    writer.push(&sightings[1]).unwrap();
    assert!(writer.push(&sightings[1]).is_err());
    assert!(writer.push(&sightings[0]).is_err());
    let provisional = Sighting { stage: SightingStage::Provisional, ..sightings[2].clone() };
    assert!(writer.push(&provisional).is_err());
}
