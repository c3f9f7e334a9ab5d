//! Sightings from elsewhere, checked as strictly as if we had made them: what is stored is believed for ever.

use guiji_domain::{
    Candidate, CaptureTime, Direction, FusedPlate, InvalidValue, Lattice, PlateChar, PlateKind,
    PlateRows, PlateState, PlateText, Position, Sighting, SightingId, SightingStage, TimeSpan,
    Timestamp, Vehicle,
};

use super::{Word, capture_from_pb, seen_from_pb};
use crate::pb;
use crate::violations::{Violations, camera_id, sighting_id};

/// The sighting that a message says, with everything wrong noted by field; `None` when anything is.
pub(crate) fn sighting_from_pb(wrong: &mut Violations, given: &pb::Sighting) -> Option<Sighting> {
    let camera = wrong.take("camera", camera_id(&given.camera));
    let stage = wrong.take("stage", SightingStage::from_pb(given.stage)).flatten();
    let captured = capture_from_pb(wrong, given.capture.as_ref());
    let span = captured.and_then(|captured| span_of(wrong, given, &captured));
    let id = span.and_then(|span| wrong.take("name", id_of(&given.name, span.first())));
    let plate = plate_of(wrong, given);
    let vehicle = vehicle_of(wrong, given.vehicle.as_ref());
    let direction = direction_of(wrong, given.direction.as_ref());
    if !given.evidence.is_empty() {
        wrong.add("evidence", "pictures are not imported: leave it empty");
    }
    if !wrong.is_empty() {
        return None;
    }
    Some(Sighting {
        id: id?,
        stage: stage.unwrap_or(SightingStage::Final),
        camera: camera?,
        span: span?,
        captured: captured?,
        plate: plate?,
        vehicle,
        direction,
        frames: given.frame_count,
        evidence: Vec::new(),
    })
}

/// The id, whose first half is the beginning: stores find a sighting's day by it.
fn id_of(name: &str, first: Timestamp) -> Result<SightingId, InvalidValue> {
    let id = sighting_id(name)?;
    if id.started() == first {
        return Ok(id);
    }
    let right = SightingId::from_u128((first.as_nanos() as u64 ^ 1 << 63) as u128).to_string();
    let fix = format!(
        "the first 16 digits are first_time in nanoseconds plus 2^63: {}",
        right.get(16..).unwrap_or_default()
    );
    Err(InvalidValue::new("sighting name", name, fix))
}

fn span_of(
    wrong: &mut Violations,
    given: &pb::Sighting,
    captured: &CaptureTime,
) -> Option<TimeSpan> {
    let mut end = |field: &str, time: Option<&prost_types::Timestamp>| match time {
        Some(time) => wrong.take(field, seen_from_pb(time)),
        None => Some(captured.at),
    };
    let first = end("first_time", given.first_time.as_ref());
    let last = end("last_time", given.last_time.as_ref());
    let span = wrong.take("last_time", TimeSpan::new(first?, last?))?;
    if !span.contains(captured.at) {
        wrong.add("capture.time", "lies outside first_time to last_time");
        return None;
    }
    Some(span)
}

fn plate_of(wrong: &mut Violations, given: &pb::Sighting) -> Option<PlateState> {
    let state = match pb::PlateState::try_from(given.plate_state) {
        Ok(pb::PlateState::Read) => {
            let plate = wrong.require("plate", given.plate.as_ref())?;
            return fused_plate(wrong, plate).map(PlateState::Read);
        }
        Ok(pb::PlateState::Unreadable) => PlateState::Unreadable,
        Ok(pb::PlateState::NotRead) => PlateState::NotRead,
        Ok(pb::PlateState::Unspecified) | Err(_) => {
            wrong.add("plate_state", "is required: use one of Read Unreadable NotRead");
            return None;
        }
    };
    if given.plate.is_some() {
        wrong.add("plate", "goes with plate_state Read only: leave it out");
    }
    Some(state)
}

fn fused_plate(wrong: &mut Violations, given: &pb::Plate) -> Option<FusedPlate> {
    let text = wrong.take("plate.text", PlateText::parse(&given.text));
    let kind = wrong.take("plate.kind", PlateKind::from_pb(given.kind)).flatten();
    if let Some(text) = &text {
        let kinds = text.kinds();
        if kinds.is_empty() {
            let fix = "fits no kind of plate: check it, or give plate_state Unreadable";
            wrong.add("plate.text", InvalidValue::new("plate", text, fix).to_string());
        } else if let Some(kind) = kind.filter(|kind| !kinds.contains(kind)) {
            let names = kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ");
            let fix = format!("{text} does not fit it: use one of {names}, or leave it out");
            wrong.add("plate.kind", InvalidValue::new("plate kind", kind, fix).to_string());
        }
    }
    let colour = wrong.take("plate.colour", Word::from_pb(given.colour)).flatten();
    let rows = wrong.take("plate.rows", Word::from_pb(given.rows)).flatten();
    let confidence = wrong.take("plate.confidence", share(given.confidence));
    let lattice = match &given.lattice {
        Some(lattice) => lattice_of(wrong, lattice, text.as_ref()),
        None => Some(plain_lattice(text.as_ref()?, confidence?)),
    };
    Some(FusedPlate {
        text: text?,
        kind,
        colour,
        rows: rows.unwrap_or(PlateRows::One),
        lattice: lattice?,
        confidence: confidence?,
        reads: given.read_count,
    })
}

fn lattice_of(
    wrong: &mut Violations,
    given: &pb::Lattice,
    text: Option<&PlateText>,
) -> Option<Lattice> {
    const FIELD: &str = "plate.lattice.positions";
    if !wrong.check_count(FIELD, given.positions.len(), PlateText::CHARS_MAX) {
        return None;
    }
    let mut positions = Vec::with_capacity(given.positions.len());
    for (i, position) in given.positions.iter().enumerate() {
        match position_of(position) {
            Ok(position) => positions.push(position),
            Err(error) => wrong.add(format!("{FIELD}[{i}]"), error.to_string()),
        }
    }
    if positions.len() < given.positions.len() {
        return None;
    }
    // Search goes by the text and matching by the lattice: they must speak of the same plate.
    if let Some(text) = text {
        let mut chars = text.chars();
        for (i, position) in positions.iter().enumerate() {
            let c = chars.next();
            if !position.candidates().iter().any(|candidate| candidate.character == c) {
                let shown = c.map_or_else(|| "the end of the text".to_owned(), |c| c.to_string());
                wrong.add(format!("{FIELD}[{i}]"), format!("does not list {shown} of plate.text"));
            }
        }
        if chars.next().is_some() {
            wrong.add(FIELD, "are fewer than the characters of plate.text");
        }
    }
    wrong.take(FIELD, Lattice::new(positions))
}

fn position_of(given: &pb::LatticePosition) -> Result<Position, InvalidValue> {
    if given.candidates.len() > Position::CANDIDATES_MAX {
        let fix = format!("give at most the {} likeliest", Position::CANDIDATES_MAX);
        return Err(InvalidValue::new("candidates", given.candidates.len(), fix));
    }
    let candidates = given.candidates.iter().map(|candidate| {
        let mut chars = candidate.character.chars();
        let character = match (chars.next(), chars.next()) {
            (None, _) => None,
            (Some(c), None) => Some(PlateChar::new(c).ok_or_else(|| {
                InvalidValue::new("character", c, "stands on no plate: leave the candidate out")
            })?),
            (Some(_), Some(_)) => {
                let fix = "give one character, or none for the end of the text";
                return Err(InvalidValue::new("character", &candidate.character, fix));
            }
        };
        Ok(Candidate { character, probability: candidate.probability })
    });
    Position::new(candidates.collect::<Result<Vec<_>, InvalidValue>>()?)
}

/// The lattice of a reader that tells only its best text: every character equally sure, and all of them together as
/// sure as the text.
fn plain_lattice(text: &PlateText, confidence: f32) -> Lattice {
    let probability = confidence.powf(1.0 / text.chars().count() as f32);
    let position = |character| {
        // One candidate within 0 to 1 is always a position.
        Position::new(vec![Candidate { character: Some(character), probability }]).ok()
    };
    let positions = text.chars().filter_map(position).collect();
    Lattice::new(positions).unwrap_or_else(|_| Lattice::certain(text))
}

fn vehicle_of(wrong: &mut Violations, given: Option<&pb::Vehicle>) -> Vehicle {
    let Some(given) = given else { return Vehicle { class: None, colour: None } };
    let class = wrong.take("vehicle.class", Word::from_pb(given.class)).flatten();
    let colour = wrong.take("vehicle.colour", Word::from_pb(given.colour)).flatten();
    let class_share = wrong.take("vehicle.class_confidence", share(given.class_confidence));
    let colour_share = wrong.take("vehicle.colour_confidence", share(given.colour_confidence));
    Vehicle { class: class.zip(class_share), colour: colour.zip(colour_share) }
}

fn direction_of(wrong: &mut Violations, given: Option<&pb::Direction>) -> Option<Direction> {
    let given = given?;
    let heading = wrong.take("direction.heading", Word::from_pb(given.heading)).flatten();
    if given.heading == 0 {
        wrong.add("direction.heading", "is required with a direction");
    }
    if given.course_deg.is_some_and(|course| !(0.0..=360.0).contains(&course)) {
        wrong.add("direction.course_deg", "use degrees clockwise from north, 0 to 360");
    }
    Some(Direction { heading: heading?, course_deg: given.course_deg })
}

fn share(given: f32) -> Result<f32, InvalidValue> {
    if (0.0..=1.0).contains(&given) {
        Ok(given)
    } else {
        Err(InvalidValue::new("probability", given, "lies within 0 and 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{View, sighting_to_pb, timestamp_from_pb, timestamp_to_pb};
    use guiji_domain::{
        CameraId, ClockSource, Heading, PlateColour, TrackId, VehicleClass, VehicleColour,
    };
    use proptest::prelude::*;
    use std::time::Duration;

    /// As a reader gives it: one doubtful character.
    fn read(text: &str, doubtful: usize, other: char) -> PlateState {
        let text = PlateText::parse(text).unwrap();
        let position = |(i, c): (usize, PlateChar)| {
            let of = |c, probability| Candidate { character: Some(c), probability };
            let mut candidates = vec![of(c, if i == doubtful { 0.6 } else { 0.99 })];
            if i == doubtful {
                candidates.push(of(PlateChar::new(other).unwrap(), 0.3));
            }
            Position::new(candidates).unwrap()
        };
        PlateState::Read(FusedPlate {
            kind: text.kinds().first().copied(),
            colour: Some(PlateColour::Blue),
            rows: PlateRows::Two,
            lattice: Lattice::new(text.chars().enumerate().map(position).collect()).unwrap(),
            confidence: 0.58,
            reads: 3,
            text,
        })
    }

    fn sighting(nanos: i64, plate: PlateState) -> Sighting {
        let (camera, first) = (CameraId::new("k1").unwrap(), Timestamp::from_nanos(nanos));
        let captured = CaptureTime {
            at: first.plus(Duration::from_millis(700)),
            uncertainty: Duration::from_millis(40),
            source: ClockSource::Arrival,
        };
        Sighting {
            id: SightingId::for_track(&camera, TrackId(7), first),
            stage: SightingStage::Final,
            camera,
            span: TimeSpan::new(first, captured.at.plus(Duration::from_secs(1))).unwrap(),
            captured,
            plate,
            vehicle: Vehicle {
                class: Some((VehicleClass::Bus, 0.75)),
                colour: Some((VehicleColour::Brown, 0.5)),
            },
            direction: Some(Direction { heading: Heading::Leftward, course_deg: Some(271.5) }),
            frames: 12,
            evidence: Vec::new(),
        }
    }

    fn good() -> pb::Sighting {
        sighting_to_pb(&sighting(1_795_000_000_123_456_789, read("浙J12345", 3, 'Z')), View::Full)
    }

    fn taken(given: &pb::Sighting) -> Result<Sighting, Vec<(String, String)>> {
        let mut wrong = Violations::default();
        let sighting = sighting_from_pb(&mut wrong, given);
        assert_eq!(
            sighting.is_none(),
            !wrong.is_empty(),
            "refused exactly when something is wrong"
        );
        sighting.ok_or_else(|| wrong.into_iter().collect())
    }

    #[test]
    fn what_a_server_answers_another_takes() {
        for plate in [
            read("浙JD12345", 2, 'Q'),
            read("浙J1234挂", 0, '湘'),
            PlateState::Unreadable,
            PlateState::NotRead,
        ] {
            let mut given = sighting(1_795_000_000_000_000_005, plate);
            for stage in SightingStage::ALL {
                given.stage = *stage;
                assert_eq!(taken(&sighting_to_pb(&given, View::Full)), Ok(given.clone()));
            }
            (given.vehicle, given.direction) = (Vehicle { class: None, colour: None }, None);
            assert_eq!(taken(&sighting_to_pb(&given, View::Full)), Ok(given));
        }
    }

    #[test]
    fn what_is_left_out_has_a_plain_meaning() {
        let mut given = good();
        given.stage = 0;
        (given.first_time, given.last_time) = (None, None);
        let captured = given.capture.as_ref().unwrap().time.unwrap();
        let nanos = timestamp_from_pb(&captured).unwrap().as_nanos() as u64 ^ 1 << 63;
        given.name = format!("sightings/{nanos:016x}00000000000000ff");
        let plate = given.plate.as_mut().unwrap();
        (plate.lattice, plate.kind, plate.rows) = (None, 0, 0);
        let sighting = taken(&given).unwrap();
        assert_eq!(sighting.stage, SightingStage::Final);
        assert_eq!(sighting.span, TimeSpan::at(sighting.captured.at));
        let PlateState::Read(plate) = &sighting.plate else { panic!("no plate") };
        assert_eq!((plate.kind, plate.rows), (None, PlateRows::One));
        assert!((plate.lattice.probability(&plate.text) - plate.confidence).abs() < 1e-5);
    }

    #[test]
    fn wrong_sightings_name_field_and_fix() {
        type Change = fn(&mut pb::Sighting);
        fn plate(s: &mut pb::Sighting) -> &mut pb::Plate {
            s.plate.as_mut().unwrap()
        }
        fn lattice(s: &mut pb::Sighting) -> &mut Vec<pb::LatticePosition> {
            &mut plate(s).lattice.as_mut().unwrap().positions
        }
        fn capture(s: &mut pb::Sighting) -> &mut pb::CaptureTime {
            s.capture.as_mut().unwrap()
        }
        let cases: &[(Change, &str, &str)] = &[
            (|s| s.name.clear(), "name", "sightings/ID"),
            (|s| s.name = "sightings/12".into(), "name", "32 hexadecimal"),
            (|s| s.name = format!("sightings/{:032x}", 7), "name", "98e91efd632f4d15"),
            (|s| s.stage = 9, "stage", "Provisional Final"),
            (|s| s.camera.clear(), "camera", "cameras/ID"),
            (|s| s.camera = format!("cameras/{}", "x".repeat(65)), "camera", "1 to 64"),
            (|s| s.capture = None, "capture", "required"),
            (|s| capture(s).time = None, "capture.time", "required"),
            (|s| capture(s).time.as_mut().unwrap().nanos = -1, "capture.time", "nanos"),
            (
                |s| capture(s).time.as_mut().unwrap().seconds = 946_684_799,
                "capture.time",
                "years 2000 to 2099",
            ),
            (|s| s.first_time.as_mut().unwrap().seconds = -1, "first_time", "set the clock"),
            (
                |s| s.last_time.as_mut().unwrap().seconds = 4_102_444_800,
                "last_time",
                "years 2000 to 2099",
            ),
            (|s| capture(s).uncertainty = None, "capture.uncertainty", "required"),
            (
                |s| capture(s).uncertainty.as_mut().unwrap().seconds = -1,
                "capture.uncertainty",
                "not negative",
            ),
            (
                |s| capture(s).uncertainty.as_mut().unwrap().seconds = 90_000,
                "capture.uncertainty",
                "at most a day",
            ),
            (|s| capture(s).source = 0, "capture.source", "rests on"),
            (|s| capture(s).source = 8, "capture.source", "Rtcp Stated Arrival"),
            (
                |s| std::mem::swap(&mut s.first_time, &mut s.last_time),
                "last_time",
                "exchange the two times",
            ),
            (|s| s.last_time = s.first_time, "capture.time", "outside first_time"),
            (|s| s.plate_state = 0, "plate_state", "Read Unreadable NotRead"),
            (|s| s.plate_state = 3, "plate", "leave it out"),
            (|s| s.plate = None, "plate", "required"),
            (|s| plate(s).text = "浙JI2345".into(), "plate.text", "digit 1"),
            (|s| plate(s).text = "浙J12".into(), "plate.text", "6 to 9"),
            (|s| plate(s).text = "浙J1234567890".into(), "plate.text", "6 to 9"),
            (|s| plate(s).text = "浙112345".into(), "plate.text", "fits no kind"),
            (|s| plate(s).text = "浙JZ12345".into(), "plate.text", "fits no kind"),
            (|s| plate(s).kind = 6, "plate.kind", "use one of small"),
            (|s| plate(s).kind = 99, "plate.kind", "use one of"),
            (|s| plate(s).colour = 99, "plate.colour", "use one of"),
            (|s| plate(s).rows = 3, "plate.rows", "One Two"),
            (|s| plate(s).confidence = 1.5, "plate.confidence", "within 0 and 1"),
            (|s| plate(s).confidence = f32::NAN, "plate.confidence", "within 0 and 1"),
            (
                |s| lattice(s)[3].candidates[0].probability = 0.9,
                "plate.lattice.positions[3]",
                "at most 1",
            ),
            (
                |s| lattice(s)[0].candidates[0].probability = -0.1,
                "plate.lattice.positions[0]",
                "within 0 and 1",
            ),
            (
                |s| lattice(s)[0].candidates[0].probability = f32::NAN,
                "plate.lattice.positions[0]",
                "within 0 and 1",
            ),
            (
                |s| lattice(s)[3].candidates[1].character = "2".into(),
                "plate.lattice.positions[3]",
                "listed once",
            ),
            (
                |s| lattice(s)[3].candidates[1].character = "I".into(),
                "plate.lattice.positions[3]",
                "stands on no plate",
            ),
            (
                |s| lattice(s)[3].candidates[1].character = "AB".into(),
                "plate.lattice.positions[3]",
                "one character",
            ),
            (
                |s| {
                    let one = lattice(s)[3].candidates[1].clone();
                    lattice(s)[3].candidates = vec![one; 7];
                },
                "plate.lattice.positions[3]",
                "at most the 6",
            ),
            (
                |s| {
                    let one = lattice(s)[0].clone();
                    lattice(s).resize(10, one);
                },
                "plate.lattice.positions",
                "at most 9",
            ),
            (
                |s| drop(lattice(s)[3].candidates.remove(0)),
                "plate.lattice.positions[3]",
                "does not list 2",
            ),
            (|s| drop(lattice(s).pop()), "plate.lattice.positions", "fewer"),
            (|s| s.vehicle.as_mut().unwrap().class = 9, "vehicle.class", "Car Truck"),
            (|s| s.vehicle.as_mut().unwrap().colour = 99, "vehicle.colour", "White"),
            (
                |s| s.vehicle.as_mut().unwrap().class_confidence = 2.0,
                "vehicle.class_confidence",
                "within 0 and 1",
            ),
            (|s| s.direction.as_mut().unwrap().heading = 0, "direction.heading", "required"),
            (
                |s| s.direction.as_mut().unwrap().course_deg = Some(361.0),
                "direction.course_deg",
                "0 to 360",
            ),
            (|s| s.evidence.push(pb::Evidence::default()), "evidence", "leave it empty"),
        ];
        for (change, field, fix) in cases {
            let mut given = good();
            change(&mut given);
            let told = taken(&given).unwrap_err();
            let found = told.iter().find(|(told, _)| told == field);
            let (_, description) = found.unwrap_or_else(|| panic!("{field} not in {told:?}"));
            assert!(description.contains(fix), "{field}: {description} lacks {fix}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut given = good();
        given.camera.clear();
        given.plate.as_mut().unwrap().text = "?".into();
        given.capture.as_mut().unwrap().source = 0;
        let fields: Vec<_> =
            taken(&given).unwrap_err().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["camera", "capture.source", "plate.text"]);
    }

    proptest! {
        #[test]
        fn nothing_panics(seconds: i64, nanos: i32, word in -2i32..30, p: f32, text in "\\PC{0,12}") {
            let mut given = good();
            let time = Some(prost_types::Timestamp { seconds, nanos });
            (given.first_time, given.capture.as_mut().unwrap().time) = (time, time);
            (given.stage, given.plate_state) = (word, word);
            given.name = format!("sightings/{text}");
            let plate = given.plate.as_mut().unwrap();
            (plate.kind, plate.colour, plate.rows, plate.confidence) = (word, word, word, p);
            plate.text = text.clone();
            let candidate = &mut plate.lattice.as_mut().unwrap().positions[0].candidates[0];
            (candidate.character, candidate.probability) = (text, p);
            drop(taken(&given));
        }

        #[test]
        fn any_beginning_makes_a_name_that_is_taken(
            nanos in 946_684_800_000_000_000_i64..4_102_444_798_000_000_000,
        ) {
            let given = sighting(nanos, PlateState::NotRead);
            prop_assert_eq!(taken(&sighting_to_pb(&given, View::Full)), Ok(given.clone()));
            let mut message = sighting_to_pb(&given, View::Full);
            let later = Timestamp::from_nanos(nanos + 1);
            message.first_time = Some(timestamp_to_pb(later));
            prop_assert!(taken(&message).is_err());
        }
    }
}
