use std::time::Duration;

use guiji_domain::{
    BBox, Camera, CaptureTime, Detection, FusedPlate, PlateRead, PlateState, Sighting, SightingId,
    SightingStage, TimeSpan, Timestamp, TrackId, Vehicle, VehicleClass, VehicleColour,
};

use super::ShotId;
use super::choice::SAME_PLATE;
use super::path::Path;
use super::settings::PassageSettings;
use super::still::StillVehicles;
use crate::fusion::{PlateFusion, decode, differences, similarity};

/// One vehicle on its way past the camera.
#[derive(Debug, Clone)]
pub(super) struct Passing {
    pub(super) track: TrackId,
    pub(super) id: SightingId,
    pub(super) shot: ShotId,
    /// When the passage began, earlier tracks of the same vehicle included.
    pub(super) started: Timestamp,
    /// When this track began to be this vehicle's.
    pub(super) began: Timestamp,
    pub(super) seen: Timestamp,
    pub(super) path: Path,
    /// The plate as far as known; kept because fusing costs more than asking.
    pub(super) plate: Option<FusedPlate>,
    /// When this vehicle, standing here, was told of before this track.
    pub(super) told_standing: Option<Timestamp>,
    frames: u32,
    score_sum: f32,
    latest_score: f32,
    latest_whole: bool,
    classes: [f32; VehicleClass::ALL.len()],
    colours: [f32; VehicleColour::ALL.len()],
    captured: CaptureTime,
    best_view: f32,
    best_plate_shot: f32,
    fusion: PlateFusion,
    plates_found: u32,
    plate_width_max: f32,
    asked: u32,
    last_asked: Option<(Timestamp, f32)>,
    confident_reads: u32,
    /// Reads of another plate than the one believed in, one after the other.
    contradicting: PlateFusion,
    provisional: Option<FusedPlate>,
    provisionals: u32,
}

/// What a read changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEffect {
    /// It was fused; the frame shows the plate best so far, or not.
    Fused(Shot),
    /// It contradicts what is believed and waits for company.
    Waiting,
    /// So many in a row contradict that the track must have changed vehicles.
    OtherVehicle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shot {
    Best,
    Other,
}

/// A sure read that differs from a sure plate in this many characters is of another one; fewer are a misread.
const OTHER_PLATE_FROM: usize = 3;
/// What makes a read or a plate sure.
const SURE: f32 = 0.9;
/// Sure reads in a row that are needed to believe in another vehicle.
const CONTRADICTIONS_MAX: u32 = 3;
/// Provisional sightings of one passage.
const PROVISIONALS_MAX: u32 = 3;
/// A view must be this much better to replace the last, so that evidence is not encoded at every frame.
const VIEW_GAIN: f32 = 1.3;
const SHOT_GAIN: f32 = 1.1;
/// A plate that needs no more reads: this sure, by so many sure reads.
const SETTLED: (f32, u32) = (0.97, 3);
/// A detector's score from which on something unread counts as a plate.
const PLATE_SCORE_MIN: f32 = 0.5;

impl Passing {
    pub(super) fn new(
        camera: &Camera,
        shot: ShotId,
        track: TrackId,
        captured: CaptureTime,
        first: &Detection,
        whole: bool,
        settings: &PassageSettings,
    ) -> Self {
        let mut passing = Self {
            track,
            id: SightingId::for_track(&camera.id, track, captured.at),
            shot,
            started: captured.at,
            began: captured.at,
            seen: captured.at,
            path: Path::new(captured.at, first.bbox, whole),
            plate: None,
            told_standing: None,
            frames: 0,
            score_sum: 0.0,
            latest_score: 0.0,
            latest_whole: whole,
            classes: [0.0; VehicleClass::ALL.len()],
            colours: [0.0; VehicleColour::ALL.len()],
            captured,
            best_view: 0.0,
            best_plate_shot: 0.0,
            fusion: PlateFusion::new(settings.fusion.clone()),
            plates_found: 0,
            plate_width_max: 0.0,
            asked: 0,
            last_asked: None,
            confident_reads: 0,
            contradicting: PlateFusion::new(settings.fusion.clone()),
            provisional: None,
            provisionals: 0,
        };
        passing.count(first, whole);
        passing
    }

    /// Takes the detection of a further frame.
    pub(super) fn extend(&mut self, at: Timestamp, detection: &Detection, whole: bool) {
        self.seen = self.seen.max(at);
        self.path.extend(at, detection.bbox, whole);
        self.count(detection, whole);
    }

    fn count(&mut self, detection: &Detection, whole: bool) {
        let score = finite(detection.score).clamp(0.0, 1.0);
        self.frames = self.frames.saturating_add(1);
        self.score_sum += score;
        self.latest_score = score;
        self.latest_whole = whole;
        // A large box shows more: its width counts.
        if let Some(class) = detection.class {
            self.classes[class as usize] += score * detection.bbox.width().max(1.0);
        }
    }

    /// Whether this frame shows the vehicle best so far; only as long as no plate was seen.
    pub(super) fn is_best_view(&mut self, captured: CaptureTime) -> bool {
        let whole = if self.latest_whole { 1.0 } else { 0.2 };
        let view = self.path.latest().area() * (0.2 + self.latest_score) * whole;
        let best = self.best_plate_shot == 0.0
            && view > self.best_view * if self.best_view > 0.0 { VIEW_GAIN } else { 1.0 };
        if best {
            self.best_view = view;
            self.captured = captured;
        }
        best
    }

    /// How urgent a plate read is. `None` when there is nothing to gain.
    pub(super) fn read_priority(&self, now: Timestamp, settings: &PassageSettings) -> Option<f32> {
        let width = self.path.latest().width();
        let standing = self.told_standing.is_some() && !self.path.has_moved();
        // A vehicle that was told of and stands is read just often enough to notice a new one in its place.
        let reads_max = if standing { 3 } else { settings.reads_a_track_max };
        let credible = self.frames >= 2 || self.latest_score >= 0.6;
        if self.seen < now
            || width < settings.read_vehicle_width_min_px
            || self.asked >= reads_max
            || !credible
        {
            return None;
        }
        let settled = self.is_settled();
        let hopeless = self.plates_found == 0 && self.asked >= 4;
        if let Some((asked_at, asked_width)) = self.last_asked {
            let (growth_min, wait) = match (settled, hopeless) {
                (true, _) => (1.3, Duration::from_secs(2)),
                (_, true) => (1.2, Duration::from_millis(700)),
                _ => (1.08, Duration::from_millis(250)),
            };
            if width < asked_width * growth_min && now.since(asked_at) < wait {
                return None;
            }
        }
        let first = if self.asked == 0 { 2.0 } else { 1.0 };
        let news = if settled { 0.3 } else { 1.0 };
        let whole = if self.latest_whole { 1.0 } else { 0.7 };
        Some(first * news * whole * self.latest_score * (width / 300.0).sqrt().min(1.5))
    }

    /// Whether its plate needs no more reads.
    pub(super) fn is_settled(&self) -> bool {
        self.confident_reads >= SETTLED.1
            && self.plate.as_ref().is_some_and(|p| p.confidence >= SETTLED.0)
    }

    /// Whether there is nothing more to learn of it: no better picture is to come of what drives away.
    pub(super) fn is_known(&self) -> bool {
        self.is_settled() && self.path.recedes()
    }

    /// Whether a vehicle found now, of which the picture says no more than its box, can be this one and no other that has come
    /// since it was last seen: that one, driving like it, would not have come as far in that time.
    pub(super) fn may_be_at(&self, now: Timestamp, bbox: &BBox) -> bool {
        now.since(self.seen) <= self.ahead_for(self.seen) && self.path.has_ahead(bbox)
    }

    /// For how long after this one that comes then and drives like it has not come as far as it has by then, by a margin
    /// for one that is faster.
    pub(super) fn ahead_for(&self, then: Timestamp) -> Duration {
        then.since(self.started) * 7 / 10
    }

    pub(super) fn asked(&mut self, now: Timestamp) {
        self.asked = self.asked.saturating_add(1);
        self.last_asked = Some((now, self.path.latest().width()));
    }

    /// Takes the plate that was chosen out of a frame's.
    pub(super) fn read(&mut self, captured: CaptureTime, read: &PlateRead) -> ReadEffect {
        if read.detector_score >= PLATE_SCORE_MIN {
            self.plates_found = self.plates_found.saturating_add(1);
        }
        let alone = decode(&read.lattice, read.colour, Some(read.rows));
        let sure = alone.texts.first().is_some_and(|t| t.posterior >= SURE);
        let believed = self.plate.as_ref().filter(|p| p.reads >= 2 && p.confidence >= SURE);
        if sure
            && believed.is_some_and(|p| differences(&p.lattice, &read.lattice) >= OTHER_PLATE_FROM)
        {
            self.contradicting.add(read);
            let certain = self.contradicting.plate().is_some_and(|p| p.confidence >= SURE);
            return if certain && self.contradicting.reads() >= CONTRADICTIONS_MAX {
                ReadEffect::OtherVehicle
            } else {
                ReadEffect::Waiting
            };
        }
        if sure {
            self.confident_reads = self.confident_reads.saturating_add(1);
            self.contradicting.clear();
        }
        self.fusion.add(read);
        self.plate = self.fusion.plate();
        self.plate_width_max = self.plate_width_max.max(finite(read.corners.width()));
        let shot = shot_value(read);
        let best = shot > self.best_plate_shot * SHOT_GAIN;
        if best {
            self.best_plate_shot = shot;
            self.captured = captured;
        }
        ReadEffect::Fused(if best { Shot::Best } else { Shot::Other })
    }

    pub(super) fn coloured(&mut self, colour: VehicleColour, share: f32) {
        self.colours[colour as usize] +=
            finite(share).clamp(0.0, 1.0) * self.path.latest().width().max(1.0);
    }

    /// The passage of the vehicle that took over this track, with what was read of it so far.
    pub(super) fn hand_over(
        &mut self,
        camera: &Camera,
        shot: ShotId,
        captured: CaptureTime,
        read: &PlateRead,
        settings: &PassageSettings,
    ) -> Self {
        let class = most(&self.classes).map(|(i, _)| VehicleClass::ALL[i]);
        let latest = Detection { bbox: self.path.latest(), class, score: self.latest_score };
        let mut next =
            Self::new(camera, shot, self.track, captured, &latest, self.latest_whole, settings);
        next.fusion =
            std::mem::replace(&mut self.contradicting, PlateFusion::new(settings.fusion.clone()));
        next.plate = next.fusion.plate();
        next.plates_found = next.fusion.reads();
        next.plate_width_max = finite(read.corners.width());
        next.best_plate_shot = shot_value(read);
        next.asked = next.fusion.reads();
        next.last_asked = self.last_asked;
        next
    }

    /// The provisional sighting, if there is reason to tell one now.
    pub(super) fn provisional(
        &mut self,
        camera: &Camera,
        settings: &PassageSettings,
    ) -> Option<Sighting> {
        let plate = self.plate.as_ref()?;
        let fresh = match &self.provisional {
            None => true,
            Some(told) => told.text != plate.text && plate.confidence > told.confidence,
        };
        if !fresh
            || self.provisionals >= PROVISIONALS_MAX
            || plate.confidence < settings.provisional_confidence_min
            || self.plate_width_max < settings.provisional_plate_width_min_px
            || self.tells_again(settings)
        {
            return None;
        }
        self.provisional = Some(plate.clone());
        self.provisionals += 1;
        Some(self.sighting(camera, SightingStage::Provisional))
    }

    /// Asks again whether this vehicle was told of while it stood: another plate in the same place is another vehicle.
    pub(super) fn recall_standing(&mut self, still: &StillVehicles) {
        if self.told_standing.is_some() {
            let plate = self.plate.as_ref().map(|p| &p.lattice);
            self.told_standing = still.told(&self.path.first(), plate);
        }
    }

    /// Whether somebody waits for a final form.
    pub(super) fn was_told_provisionally(&self) -> bool {
        self.provisional.is_some()
    }

    /// Whether this is a standing vehicle that was told of already.
    pub(super) fn tells_again(&self, settings: &PassageSettings) -> bool {
        self.told_standing.is_some_and(|told| {
            !self.path.has_moved() || self.seen.since(told) < settings.parked_after
        })
    }

    /// Whether enough was seen for a sighting.
    pub(super) fn is_proven(&self, settings: &PassageSettings) -> bool {
        let read = self.plate.as_ref().is_some_and(|p| p.confidence >= 0.5);
        let mean_score = self.score_sum / self.frames.max(1) as f32;
        let lasted = self.seen.since(self.started);
        let convincing = if self.path.has_moved() {
            // At few frames a second, two far apart in place and time say as much as three.
            (self.frames >= settings.frames_min && lasted >= settings.moving_duration_min)
                || (self.frames >= 2 && lasted >= 2 * settings.moving_duration_min)
        } else {
            self.frames >= settings.frames_min && lasted >= settings.still_duration_min
        };
        read || (convincing && mean_score >= settings.score_mean_min)
    }

    pub(super) fn sighting(&self, camera: &Camera, stage: SightingStage) -> Sighting {
        let plate = match &self.plate {
            Some(plate) => PlateState::Read(plate.clone()),
            None if self.plates_found > 0 => PlateState::Unreadable,
            None => PlateState::NotRead,
        };
        Sighting {
            id: self.id,
            stage,
            camera: camera.id.clone(),
            span: TimeSpan::at(self.started).including(self.seen),
            captured: self.captured,
            plate,
            vehicle: Vehicle {
                class: most(&self.classes).map(|(i, share)| (VehicleClass::ALL[i], share)),
                colour: most(&self.colours).map(|(i, share)| (VehicleColour::ALL[i], share)),
            },
            direction: self.path.direction(camera.bearing_deg),
            frames: self.frames,
            evidence: Vec::new(),
        }
    }

    /// Whether this track continues an earlier one: the same plate, soon after.
    pub(super) fn continues(&self, earlier: &Self, within: Duration) -> bool {
        self.track != earlier.track
            // Two that were told provisionally must both have their end.
            && !(self.was_told_provisionally() && earlier.was_told_provisionally())
            && self.started >= earlier.seen
            && self.started.since(earlier.seen) <= within
            && self.is_same_vehicle(earlier.plate.as_ref(), &earlier.path, earlier.seen)
    }

    /// Whether it may be the vehicle of an earlier plate and path, last seen then.
    pub(super) fn is_same_vehicle(
        &self,
        plate: Option<&FusedPlate>,
        path: &Path,
        seen: Timestamp,
    ) -> bool {
        match (&self.plate, plate) {
            (Some(a), Some(b)) => {
                let doubtful = a.confidence.min(b.confidence) < SURE;
                let alike = similarity(&a.lattice, &b.lattice) >= SAME_PLATE
                    // Two vehicles in a row whose plates differ in one character are much rarer than a misread.
                    || (doubtful && differences(&a.lattice, &b.lattice) <= 1);
                // A decoy may follow right behind: while in doubt, the way through the picture must fit as well.
                alike && (!doubtful || path.leads_to(&self.path, self.started.since(seen)))
            }
            _ => false,
        }
    }

    /// Takes over an earlier track of the same vehicle, and its identity unless this one's was told already. Returns
    /// the pictures no longer needed.
    pub(super) fn absorb(&mut self, earlier: Self) -> ShotId {
        if !self.was_told_provisionally() {
            self.id = earlier.id;
        }
        self.started = earlier.started;
        self.seen = self.seen.max(earlier.seen);
        self.path.prepend(&earlier.path);
        self.frames = self.frames.saturating_add(earlier.frames);
        self.score_sum += earlier.score_sum;
        self.classes.iter_mut().zip(earlier.classes).for_each(|(a, b)| *a += b);
        self.colours.iter_mut().zip(earlier.colours).for_each(|(a, b)| *a += b);
        self.fusion.absorb(&earlier.fusion);
        self.plate = self.fusion.plate();
        self.plates_found = self.plates_found.saturating_add(earlier.plates_found);
        self.plate_width_max = self.plate_width_max.max(earlier.plate_width_max);
        self.confident_reads = self.confident_reads.saturating_add(earlier.confident_reads);
        self.told_standing = self.told_standing.or(earlier.told_standing);
        self.provisionals = self.provisionals.max(earlier.provisionals);
        self.provisional = earlier.provisional.or(self.provisional.take());
        let mut unneeded = earlier.shot;
        let earlier_is_better =
            (earlier.best_plate_shot, earlier.best_view) > (self.best_plate_shot, self.best_view);
        if earlier_is_better {
            unneeded = std::mem::replace(&mut self.shot, earlier.shot);
            self.best_plate_shot = earlier.best_plate_shot;
            self.best_view = earlier.best_view;
            self.captured = earlier.captured;
        }
        unneeded
    }
}

/// How well a frame shows a plate.
fn shot_value(read: &PlateRead) -> f32 {
    let unit = |x: f32| finite(x).clamp(0.0, 1.0);
    finite(read.corners.width()) * (0.2 + unit(read.sharpness)) * (0.2 + unit(read.detector_score))
}

fn finite(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}

/// The choice with most votes and its share of them.
fn most(votes: &[f32]) -> Option<(usize, f32)> {
    let sum: f32 = votes.iter().sum();
    let (i, v) = votes.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)))?;
    (sum > 0.0).then_some((i, v / sum))
}

/// The region in which a vehicle's plate is looked for.
pub(super) fn region(vehicle: &BBox, margin: f32, size: (u32, u32)) -> Option<BBox> {
    vehicle.padded(margin).clipped(size.0, size.1).filter(|r| r.area() > 0.0)
}
