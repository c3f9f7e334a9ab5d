//! One camera's decisions and the pictures kept for its evidence.

use std::collections::HashMap;
use std::time::Duration;

use guiji_analysis::motion::{MotionGate, MotionSettings, Worth};
use guiji_analysis::passage::{
    BestShot, PassageEvent, PassageSettings, Passages, PlateSearch, ReadWish, ShotId,
    vehicles_around,
};
use guiji_domain::{
    BBox, Camera, CaptureTime, Detection, EvidenceKind, Findings, Frame, OwnedPicture, PlateRead,
    Sighting, Stream, Timestamp, VehicleColour, View,
};

/// Which pictures are kept of a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceSettings {
    /// These kinds, in this order. 262 sightings a second at 50 kB would be 1.1 TB a day: choose.
    pub kinds: Vec<EvidenceKind>,
}

impl Default for EvidenceSettings {
    fn default() -> Self {
        Self { kinds: EvidenceKind::ALL.to_vec() }
    }
}

/// The best view of a vehicle so far, in memory of ours: a decoder's pool is too small to wait in.
#[derive(Debug)]
pub(crate) struct Shot {
    pub(crate) captured: CaptureTime,
    pub(crate) picture: OwnedPicture,
    pub(crate) vehicle: BBox,
    pub(crate) plate: Option<BBox>,
}

/// A sighting with the view that proves it, on its way to the recorder.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) sighting: Sighting,
    pub(crate) shot: Option<Shot>,
}

/// What is to be done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing has changed, and nothing is followed: no vehicle.
    Nothing,
    /// It was looked at a moment ago, and there is no hurry: nothing has changed and what is followed stands, or everything's
    /// plate is read.
    Later,
    /// The detector is to look.
    Vehicles,
    /// The same; something has changed, so that a vehicle that it overlooks may be given away by its plate.
    VehiclesAndPlates,
}

/// How often vehicles are looked at that stand, while nothing changes: a track that is not confirmed for longer ends.
const STANDING_EVERY: Duration = Duration::from_millis(500);

/// How often a view is looked at in which every vehicle's plate is read beyond doubt. One that comes is found so much later, and
/// then looked at in every picture; at 110 km/h it drives 6 m in that time.
const SETTLED_EVERY: Duration = Duration::from_millis(200);

/// The state of one camera's perception.
pub(crate) struct Lane {
    gate: MotionGate,
    looked: Option<Timestamp>,
    plate_search: PlateSearch,
    passages: Passages,
    shots: HashMap<ShotId, Shot>,
    /// Of the main stream's pictures, in whose pixels vehicles are followed.
    size: Option<(u32, u32)>,
}

impl Lane {
    pub(crate) fn new(settings: &PassageSettings, camera: &Camera) -> Self {
        Self {
            gate: MotionGate::new(MotionSettings::default()),
            looked: None,
            plate_search: PlateSearch::default(),
            passages: Passages::new(settings.clone(), camera),
            shots: HashMap::new(),
            size: None,
        }
    }

    /// What the frame is worth.
    pub(crate) fn worth(&mut self, frame: &Frame) -> Look {
        let now = frame.captured.at;
        let looked_within = |time| self.looked.is_some_and(|at| now >= at && now.since(at) < time);
        // The gate sees every frame, so that it knows the view when the vehicle is gone.
        let look = match self.gate.look(frame.captured, frame.small.as_ref(), frame.view) {
            Worth::Changed if frame.stream == Stream::Substream => Look::Vehicles,
            Worth::Changed
                if frame.view != View::Asked
                    && looked_within(SETTLED_EVERY)
                    && self.passages.are_settled() =>
            {
                Look::Later
            }
            Worth::Changed => Look::VehiclesAndPlates,
            Worth::Proof => Look::Vehicles,
            Worth::Nothing if self.passages.live_tracks() == 0 => Look::Nothing,
            Worth::Nothing => {
                match looked_within(STANDING_EVERY) && self.passages.follows_standing_only(now) {
                    true => Look::Later,
                    false => Look::Vehicles,
                }
            }
        };
        if matches!(look, Look::Vehicles | Look::VehiclesAndPlates) {
            self.looked = Some(now);
        }
        look
    }

    /// What the detections of a frame say, before they are taken.
    pub(crate) fn findings(&self, frame: &Frame, detections: &[Detection]) -> Findings {
        let now = frame.captured.at;
        let answering = frame.view == View::Asked;
        match frame.stream {
            Stream::Main => self.passages.findings(now, detections, answering),
            Stream::Substream => {
                let detections = self.in_main_pixels(frame, detections);
                self.passages.findings(now, &detections, answering)
            }
        }
    }

    /// What was found in a picture of the substream, as the main stream's would show it.
    fn in_main_pixels(&self, frame: &Frame, detections: &[Detection]) -> Vec<Detection> {
        let Some(main) = self.size else { return detections.to_vec() };
        let (across, down) =
            (main.0 as f32 / frame.full.width() as f32, main.1 as f32 / frame.full.height() as f32);
        let scaled = |it: &Detection| {
            let (x1, x2) = (it.bbox.x1() * across, it.bbox.x2() * across);
            let (y1, y2) = (it.bbox.y1() * down, it.bbox.y2() * down);
            Some(Detection { bbox: BBox::new(x1, y1, x2, y2)?, ..*it })
        };
        detections.iter().filter_map(scaled).collect()
    }

    /// Takes a picture of the substream without news: what stands still stands, and what was held back is told. Nothing
    /// is read in it or kept of it.
    pub(crate) fn observe_aside(
        &mut self,
        frame: &Frame,
        detections: &[Detection],
    ) -> Vec<Passage> {
        let size = self.size.unwrap_or((frame.full.width(), frame.full.height()));
        let detections = self.in_main_pixels(frame, detections);
        let observation = self.passages.observe(frame.captured, size, &detections);
        self.deliver(observation.events)
    }

    /// How many vehicles are being followed.
    pub(crate) fn live_tracks(&self) -> usize {
        self.passages.live_tracks()
    }

    /// Whether to search the whole frame for plates: the detector looked and found no vehicle to read.
    pub(crate) fn is_worth_searching(&mut self, frame: &Frame, detections: &[Detection]) -> bool {
        self.plate_search.is_due(frame.captured.at, detections, self.passages.settings())
    }

    /// The vehicles that only their plates give away.
    pub(crate) fn vehicles_around(
        &self,
        frame: &Frame,
        reads: &[PlateRead],
        found: &[Detection],
    ) -> Vec<Detection> {
        let size = (frame.full.width(), frame.full.height());
        vehicles_around(reads, found, size, self.passages.settings())
    }

    /// Takes the detections of a frame; says which vehicles' plates to read in it.
    pub(crate) fn observe(
        &mut self,
        frame: &Frame,
        detections: &[Detection],
    ) -> (Vec<ReadWish>, Vec<Passage>) {
        let size = (frame.full.width(), frame.full.height());
        self.size = Some(size);
        if frame.view == View::Asked {
            self.passages.resume(frame.captured.at, detections);
        }
        let observation = self.passages.observe(frame.captured, size, detections);
        self.keep(frame, observation.views);
        (observation.wishes, self.deliver(observation.events))
    }

    /// Takes what was read for a wish.
    pub(crate) fn reads(
        &mut self,
        frame: &Frame,
        wish: &ReadWish,
        reads: &[PlateRead],
        colour: Option<(VehicleColour, f32)>,
    ) -> Vec<Passage> {
        let outcome = self.passages.reads(frame.captured, wish.track, reads, colour);
        self.keep(frame, outcome.best_shot);
        self.deliver(outcome.events)
    }

    /// Ends every track: the stream broke off or ended.
    pub(crate) fn finish(&mut self) -> Vec<Passage> {
        let events = self.passages.finish();
        self.deliver(events)
    }

    fn keep(&mut self, frame: &Frame, best: impl IntoIterator<Item = BestShot>) {
        for BestShot { shot, vehicle, plate } in best {
            let plate = plate.and_then(|corners| corners.bbox());
            let picture = OwnedPicture::copy_of(frame.full.as_ref());
            self.shots.insert(shot, Shot { captured: frame.captured, picture, vehicle, plate });
        }
    }

    fn deliver(&mut self, events: Vec<PassageEvent>) -> Vec<Passage> {
        let mut passages = Vec::with_capacity(events.len());
        for event in events {
            match event {
                PassageEvent::Provisional { sighting, .. } => {
                    passages.push(Passage { sighting, shot: None });
                }
                PassageEvent::Final { sighting, shot } => {
                    passages.push(Passage { sighting, shot: self.shots.remove(&shot) });
                }
                PassageEvent::Discarded { shot } => drop(self.shots.remove(&shot)),
            }
        }
        passages
    }
}
