use guiji_domain::{Evidence, FusedPlate, InvalidValue, Lattice, PlateState, Sighting, SightingId};

use super::word::optional;
use super::{Word, camera_name, capture_to_pb, timestamp_to_pb};
use crate::pb;

/// How much of a sighting is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// All but the lattice.
    Basic,
    /// Everything.
    Full,
}

impl View {
    pub(crate) fn from_pb(number: i32) -> Result<Self, InvalidValue> {
        match pb::SightingView::try_from(number) {
            Ok(pb::SightingView::Unspecified | pb::SightingView::Basic) => Ok(Self::Basic),
            Ok(pb::SightingView::Full) => Ok(Self::Full),
            Err(_) => Err(InvalidValue::new("view", number, "use Basic or Full")),
        }
    }
}

pub(crate) fn sighting_to_pb(sighting: &Sighting, view: View) -> pb::Sighting {
    let (plate_state, plate) = match &sighting.plate {
        PlateState::Read(plate) => (pb::PlateState::Read, Some(plate_to_pb(plate, view))),
        PlateState::Unreadable => (pb::PlateState::Unreadable, None),
        PlateState::NotRead => (pb::PlateState::NotRead, None),
    };
    let (class, colour) = (sighting.vehicle.class, sighting.vehicle.colour);
    pb::Sighting {
        name: format!("sightings/{}", sighting.id),
        stage: sighting.stage.to_pb(),
        camera: camera_name(&sighting.camera),
        capture: Some(capture_to_pb(&sighting.captured)),
        first_time: Some(timestamp_to_pb(sighting.span.first())),
        last_time: Some(timestamp_to_pb(sighting.span.last())),
        plate_state: plate_state.into(),
        plate,
        vehicle: Some(pb::Vehicle {
            class: optional(class.map(|(class, _)| class)),
            class_confidence: class.map_or(0.0, |(_, share)| share),
            colour: optional(colour.map(|(colour, _)| colour)),
            colour_confidence: colour.map_or(0.0, |(_, share)| share),
        }),
        direction: sighting.direction.map(|direction| pb::Direction {
            heading: direction.heading.to_pb(),
            course_deg: direction.course_deg,
        }),
        frame_count: sighting.frames,
        evidence: sighting.evidence.iter().map(|e| evidence_to_pb(sighting.id, e)).collect(),
        corrections: Vec::new(),
    }
}

/// A sighting with everything.
impl From<&Sighting> for pb::Sighting {
    fn from(sighting: &Sighting) -> Self {
        sighting_to_pb(sighting, View::Full)
    }
}

pub(crate) fn evidence_to_pb(sighting: SightingId, evidence: &Evidence) -> pb::Evidence {
    pb::Evidence {
        name: format!("sightings/{sighting}/evidence/{}", evidence.digest),
        kind: evidence.kind.to_pb(),
        sha256: evidence.digest.to_string(),
        size_bytes: evidence.bytes,
        media_type: evidence.media_type.clone(),
        capture: Some(capture_to_pb(&evidence.captured)),
    }
}

fn plate_to_pb(plate: &FusedPlate, view: View) -> pb::Plate {
    pb::Plate {
        text: plate.text.as_str().to_owned(),
        confidence: plate.confidence,
        kind: optional(plate.kind),
        colour: optional(plate.colour),
        rows: plate.rows.to_pb(),
        read_count: plate.reads,
        lattice: (view == View::Full).then(|| lattice_to_pb(&plate.lattice)),
    }
}

fn lattice_to_pb(lattice: &Lattice) -> pb::Lattice {
    let positions = lattice.positions().iter().map(|position| pb::LatticePosition {
        candidates: position
            .candidates()
            .iter()
            .map(|candidate| pb::LatticeCandidate {
                character: candidate.character.map(|c| c.to_string()).unwrap_or_default(),
                probability: candidate.probability,
            })
            .collect(),
    });
    pb::Lattice { positions: positions.collect() }
}
