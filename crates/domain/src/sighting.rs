use std::sync::Arc;

use crate::vehicle::words;
use crate::{
    Alert, CameraId, CaptureTime, DailyHours, Digest, Lattice, PlateColour, PlateKind,
    PlatePattern, PlateRows, PlateText, SightingId, Stop, TimeSpan, Vehicle, VehicleClass,
    VehicleColour,
};

/// One vehicle passing one camera (过车记录).
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// Who it is; the same for the provisional and the final form.
    pub id: SightingId,
    /// Provisional or final.
    pub stage: SightingStage,
    /// The camera.
    pub camera: CameraId,
    /// From the first frame of the track to the last.
    pub span: TimeSpan,
    /// Capture time of the frame that shows the plate best (or the vehicle, without a plate): the time of the
    /// passage in answers.
    pub captured: CaptureTime,
    /// What is known of the plate.
    pub plate: PlateState,
    /// What is known of the vehicle.
    pub vehicle: Vehicle,
    /// How it moved.
    pub direction: Option<Direction>,
    /// Frames of the track in which the vehicle was detected.
    pub frames: u32,
    /// Pictures that prove it, by digest. Empty while provisional.
    pub evidence: Vec<Evidence>,
}

impl Sighting {
    /// The plate's text, where one was read.
    pub fn plate_text(&self) -> Option<&PlateText> {
        match &self.plate {
            PlateState::Read(plate) => Some(&plate.text),
            PlateState::NotRead | PlateState::Unreadable => None,
        }
    }
}

/// How far a sighting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SightingStage {
    /// The vehicle is still in view; said early for the sake of alerts. A later form replaces it.
    Provisional,
    /// The track has ended; nothing changes any more.
    Final,
}
words!(SightingStage, "sighting stage", Provisional => "provisional", Final => "final");

/// What is known of a plate. That nothing could be read is an answer, never a guess.
#[derive(Debug, Clone, PartialEq)]
pub enum PlateState {
    /// Read.
    Read(FusedPlate),
    /// A plate was found, but no text fits its reads well enough.
    Unreadable,
    /// No plate was found.
    NotRead,
}

/// A plate fused from all reads of a track.
#[derive(Debug, Clone, PartialEq)]
pub struct FusedPlate {
    /// The likeliest text under the grammar.
    pub text: PlateText,
    /// Its kind, where text, colour and rows leave one.
    pub kind: Option<PlateKind>,
    /// Ground colour.
    pub colour: Option<PlateColour>,
    /// Layout.
    pub rows: PlateRows,
    /// Fused distribution: search and matching use it, not the text.
    pub lattice: Lattice,
    /// Probability that the text is right, 0 to 1.
    pub confidence: f32,
    /// How many reads were fused.
    pub reads: u32,
}

/// How a vehicle moved through the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Direction {
    /// Towards the camera, away from it, or across.
    pub heading: Heading,
    /// Compass course, degrees clockwise from north, where the camera's bearing is known. Rough: ±45°.
    pub course_deg: Option<f32>,
}

/// Motion as seen from the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Heading {
    /// Growing and moving down the picture.
    Approaching,
    /// Shrinking and moving up the picture.
    Receding,
    /// Across, to the left of the picture.
    Leftward,
    /// Across, to the right of the picture.
    Rightward,
}
words!(
    Heading, "heading",
    Approaching => "approaching", Receding => "receding", Leftward => "leftward", Rightward => "rightward",
);

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceKind {
    /// The plate, cut from the full-resolution frame.
    Plate,
    /// The vehicle, cut likewise.
    Vehicle,
    /// The whole frame.
    Frame,
}
words!(EvidenceKind, "evidence kind", Plate => "plate", Vehicle => "vehicle", Frame => "frame");

/// A picture that proves a sighting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What it shows.
    pub kind: EvidenceKind,
    /// SHA-256 of the encoded bytes, taken before they were written anywhere.
    pub digest: Digest,
    /// Size of the encoded bytes.
    pub bytes: u32,
    /// `image/jpeg` and the like.
    pub media_type: String,
    /// Capture time of the picture.
    pub captured: CaptureTime,
}

/// A sighting on its way into the store, with what must be kept in the same breath.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The sighting.
    pub sighting: Arc<Sighting>,
    /// The encoded pictures that `sighting.evidence` names, in the same order.
    pub pictures: Vec<Arc<[u8]>>,
    /// The alerts that it raised. Their cursors are given by the store.
    pub alerts: Vec<Alert>,
}

/// Which sightings are wanted. Conditions are joined by *and*; an empty list means *any*.
#[derive(Debug, Clone, PartialEq)]
pub struct SightingQuery {
    /// Text or pattern of the plate.
    pub plate: Option<PlatePattern>,
    /// When it was captured.
    pub span: TimeSpan,
    /// Only at these hours of the days.
    pub hours: Option<DailyHours>,
    /// At one of these cameras. `Some(empty)` matches nothing: an area without cameras.
    pub cameras: Option<Vec<CameraId>>,
    /// Of one of these classes.
    pub classes: Vec<VehicleClass>,
    /// Of one of these body colours.
    pub colours: Vec<VehicleColour>,
    /// Provisional sightings too; else only final ones.
    pub provisional: bool,
    /// Which end comes first.
    pub order: SortOrder,
    /// Only what comes after this one, in the order asked for: `(captured, id)` of the last answer of a page.
    pub after: Option<(crate::Timestamp, SightingId)>,
    /// At most this many.
    pub limit: usize,
    /// Ends the search when nobody waits any more.
    pub stop: Stop,
}

impl SightingQuery {
    /// Everything final in a span, oldest first.
    pub fn all_in(span: TimeSpan, limit: usize) -> Self {
        Self {
            plate: None,
            span,
            hours: None,
            cameras: None,
            classes: Vec::new(),
            colours: Vec::new(),
            provisional: false,
            order: SortOrder::OldestFirst,
            after: None,
            limit,
            stop: Stop::default(),
        }
    }

    /// Whether a sighting is wanted, page limits apart. Stores may answer by indexes; this is what they must equal.
    pub fn accepts(&self, sighting: &Sighting) -> bool {
        let key = (sighting.captured.at, sighting.id);
        let listed = |wanted: bool, any: bool| any || wanted;
        (self.provisional || sighting.stage == SightingStage::Final)
            && self.span.contains(sighting.captured.at)
            && self.hours.is_none_or(|hours| hours.contains(sighting.captured.at))
            && self.cameras.as_ref().is_none_or(|c| c.contains(&sighting.camera))
            && listed(
                sighting.vehicle.class.is_some_and(|(c, _)| self.classes.contains(&c)),
                self.classes.is_empty(),
            )
            && listed(
                sighting.vehicle.colour.is_some_and(|(c, _)| self.colours.contains(&c)),
                self.colours.is_empty(),
            )
            && self
                .plate
                .as_ref()
                .is_none_or(|p| sighting.plate_text().is_some_and(|t| p.matches(t)))
            && self.after.is_none_or(|after| match self.order {
                SortOrder::OldestFirst => key > after,
                SortOrder::NewestFirst => key < after,
            })
    }
}

/// Which end of time comes first. Ties are broken by the sighting's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SortOrder {
    /// As it happened.
    OldestFirst,
    /// The latest first.
    NewestFirst,
}

/// A page of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SightingPage {
    /// The sightings, in the order asked for.
    pub sightings: Vec<Sighting>,
    /// Whether there are more after the last one.
    pub more: bool,
}
