//! From tracks and plate reads of one camera to sightings: what to read, what to tell, what to keep quiet about.
//!
//! The caller hands in each frame's detections ([`Passages::observe`]), reads the plates that are wished for and
//! hands those in too ([`Passages::reads`]), and acts on the events of both.
//!
//! One vehicle passing is one final sighting:
//! * A track that breaks is mended by its plate. A final sighting is held back for `merge_within` after the vehicle
//!   was last seen; a track that begins in that time and turns out to have the same plate takes over the earlier
//!   one with its identity, so its provisional alert is not raised twice either. A twin that shows its plate too
//!   late for that is dropped.
//! * A track that jumps from one vehicle to another is split: after three sure reads in a row of another plate, the
//!   passage ends and a new one begins.
//! * A vehicle that stands still is told once. Its place and plate are remembered as long as something is seen
//!   there, so that flicker, a restart of its track or a passing lorry in front of it make no further sighting.
//!
//! Pictures are the caller's: a [`BestShot`] says "keep pictures of this frame under this number, instead of earlier
//! ones", and each number is closed by exactly one [`PassageEvent::Final`] or [`PassageEvent::Discarded`].

mod choice;
mod passing;
mod path;
mod plate_led;
mod settings;
mod still;

use std::collections::VecDeque;
use std::time::Duration;

use guiji_domain::{
    BBox, Camera, CaptureTime, Detection, Findings, FusedPlate, PlateRead, Quad, Sighting,
    SightingStage, Timestamp, TrackId, VehicleColour,
};

pub use plate_led::{PlateSearch, vehicles_around};
pub use settings::PassageSettings;

use crate::tracker::Tracker;
use choice::{Owner, choose};
use passing::{Passing, ReadEffect, Shot, region};
use path::Path;
use still::StillVehicles;

/// Names the pictures of one passage between the caller and [`Passages`]. Unique within one `Passages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShotId(pub u64);

/// A plate read that is worth its cost now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadWish {
    /// Whose plate; handed back with the reads.
    pub track: TrackId,
    /// Where to look, pixels: the vehicle's box with a margin, clipped to the frame.
    pub region: BBox,
    /// The vehicle's box as detected, pixels.
    pub vehicle: BBox,
    /// Higher is more urgent; comparable between cameras.
    pub priority: f32,
}

/// This frame shows a passage best so far: keep its pictures under `shot`, instead of earlier ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestShot {
    /// Under which number.
    pub shot: ShotId,
    /// The vehicle, pixels.
    pub vehicle: BBox,
    /// The plate's corners; `None` when only the vehicle is seen.
    pub plate: Option<Quad>,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum PassageEvent {
    /// A plate was read with confidence; the vehicle is still in view. Told again when the text changes.
    Provisional {
        /// Without evidence.
        sighting: Sighting,
        /// Where its pictures are so far.
        shot: ShotId,
    },
    /// The passage is over.
    Final {
        /// Without evidence: the caller adds it.
        sighting: Sighting,
        /// Where its pictures are; not used again.
        shot: ShotId,
    },
    /// No sighting comes of these pictures.
    Discarded {
        /// Their number; not used again.
        shot: ShotId,
    },
}

/// What one frame brought.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observation {
    /// Plates to read in this frame, most urgent first.
    pub wishes: Vec<ReadWish>,
    /// Vehicles without a plate so far that this frame shows best.
    pub views: Vec<BestShot>,
    /// What there is to tell, in order.
    pub events: Vec<PassageEvent>,
}

/// What reads of one vehicle in one frame brought.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadOutcome {
    /// Set when the frame that was read shows the plate best so far.
    pub best_shot: Option<BestShot>,
    /// What there is to tell, in order.
    pub events: Vec<PassageEvent>,
}

/// What was given up or came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassageCounters {
    /// Tracks given up because there were too many.
    pub dropped_tracks: u64,
    /// Passages with too little evidence for a sighting: flicker.
    pub unproven: u64,
    /// Passages that a standing vehicle made again.
    pub standing: u64,
    /// Broken tracks mended by their plate.
    pub merged: u64,
    /// Tracks split because they changed vehicles.
    pub split: u64,
    /// Reads that came back after their passage was told.
    pub late_reads: u64,
}

/// The passages of one camera.
#[derive(Debug, Clone)]
pub struct Passages {
    settings: PassageSettings,
    camera: Camera,
    tracker: Tracker,
    live: Vec<Passing>,
    /// Ended, and held back for a continuation. In order of ending.
    held: VecDeque<Passing>,
    /// Plates told a moment ago, with the way they went and the time they were last seen.
    told: VecDeque<(FusedPlate, Path, Timestamp)>,
    still: StillVehicles,
    next_shot: u64,
    now: Option<Timestamp>,
    counters: PassageCounters,
}

/// A vehicle that was not found for so long is no longer followed, if it comes to looking where nothing has changed.
const FLICKER: Duration = Duration::from_millis(400);
/// Time may step back by this much without being a new beginning.
const BACKWARD_MAX: Duration = Duration::from_secs(1);
/// A vehicle that did not move for so long stands.
const STANDS_AFTER: Duration = Duration::from_secs(2);
/// Plates remembered against late twins.
const TOLD_MAX: usize = 32;
/// Pixels from the frame's edge within which a box counts as cut.
const EDGE_PX: f32 = 2.0;

impl Passages {
    /// Nothing seen yet.
    pub fn new(settings: PassageSettings, camera: &Camera) -> Self {
        Self {
            tracker: Tracker::new(settings.tracker.clone()),
            still: StillVehicles::new(settings.parked_after, settings.still_max),
            settings,
            camera: camera.clone(),
            live: Vec::new(),
            held: VecDeque::new(),
            told: VecDeque::new(),
            next_shot: 1,
            now: None,
            counters: PassageCounters::default(),
        }
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &PassageSettings {
        &self.settings
    }

    /// What was given up or came to nothing so far.
    pub fn counters(&self) -> PassageCounters {
        PassageCounters { dropped_tracks: self.tracker.dropped(), ..self.counters }
    }

    /// How many vehicles are being followed: their next frames must be looked at even if nothing else changes. One that was not
    /// found for a moment is waited for, but not looked for where nothing has changed.
    pub fn live_tracks(&self) -> usize {
        let now = self.now.unwrap_or(Timestamp::MIN);
        self.live.iter().filter(|passing| now.since(passing.seen) <= FLICKER).count()
    }

    /// Whether vehicles are followed and every one's plate needs no more reads.
    pub fn are_settled(&self) -> bool {
        !self.live.is_empty() && self.live.iter().all(Passing::is_settled)
    }

    /// Whether all that is followed has been standing for a while: it need not be looked at in every frame as long as
    /// nothing changes in the view.
    pub fn follows_standing_only(&self, now: Timestamp) -> bool {
        self.live.iter().all(|passing| passing.path.resting(now) >= STANDS_AFTER)
    }

    /// What the detections of a frame say, before they are taken. Those that stand where a vehicle was known to are no news;
    /// in the answer to a question, neither are those that may be vehicles known before.
    pub fn findings(&self, now: Timestamp, detections: &[Detection], answering: bool) -> Findings {
        let (known, unknown) = self.recognised(now, detections);
        let all_known = self.live.iter().all(|it| it.is_known() || self.stands(&it.path.latest()));
        let known_for = known.iter().map(|(passing, _)| passing.ahead_for(now)).min();
        Findings {
            news: unknown + if answering { 0 } else { known.len() },
            known_for: known_for.filter(|_| unknown == 0 && all_known),
        }
    }

    /// The detections of a frame answer a question that was asked after a time in which nobody looked: the known vehicles
    /// among them are followed on from where they are now. To be called before [`Self::observe`].
    pub fn resume(&mut self, now: Timestamp, detections: &[Detection]) {
        let known = self.recognised(now, detections).0;
        let known: Vec<_> = known.iter().map(|(passing, found)| (passing.track, *found)).collect();
        for (track, found) in known {
            self.tracker.resume(track, &found.bbox, now);
        }
    }

    /// The sure detections that may be known vehicles driving away, with these, and how many others do not stand.
    fn recognised<'a>(
        &self,
        now: Timestamp,
        detections: &'a [Detection],
    ) -> (Vec<(&Passing, &'a Detection)>, usize) {
        let sure = |found: &&Detection| found.score >= self.settings.tracker.high_score;
        let mut left: Vec<&Passing> = self.live.iter().filter(|it| it.is_known()).collect();
        let (mut known, mut unknown) = (Vec::new(), 0);
        for found in detections.iter().filter(sure).filter(|found| !self.stands(&found.bbox)) {
            match left.iter().position(|it| it.may_be_at(now, &found.bbox)) {
                Some(index) => known.push((left.swap_remove(index), found)),
                None => unknown += 1,
            }
        }
        (known, unknown)
    }

    /// Whether a vehicle is known to stand there.
    fn stands(&self, bbox: &BBox) -> bool {
        // As of when it was seen: what has not been looked at since may have driven on, and another be there.
        let here = |passing: &Passing| {
            passing.path.resting(passing.seen) >= STANDS_AFTER
                && passing.path.latest().iou(bbox) >= still::SAME_PLACE
        };
        self.still.told(bbox, None).is_some() || self.live.iter().any(here)
    }

    /// Takes the detections of one frame.
    ///
    /// A capture time more than a second before the latest one (a clock set back, a recording played again) ends
    /// everything and begins anew.
    pub fn observe(
        &mut self,
        captured: CaptureTime,
        frame_size: (u32, u32),
        detections: &[Detection],
    ) -> Observation {
        let mut events = Vec::new();
        if self.now.is_some_and(|now| captured.at < now.minus(BACKWARD_MAX)) {
            events = self.finish();
        }
        let now = self.now.map_or(captured.at, |latest| latest.max(captured.at));
        self.now = Some(now);
        let captured = CaptureTime { at: now, ..captured };

        let update = self.tracker.update(now, detections);
        for (track, index) in update.matched {
            let detection = &detections[index];
            let whole = is_whole(&detection.bbox, frame_size);
            self.take_detection(captured, track, detection, whole);
        }
        for track in update.ended {
            self.hold(track, &mut events);
        }
        self.tell_standing(now, &mut events);
        self.release_held(now, &mut events);
        self.still.forget_old(now);

        let views = self.best_views(captured);
        Observation { wishes: self.wishes(now, frame_size), views, events }
    }

    /// Takes the plates found in the region of a wish, with the body colour if it was judged.
    ///
    /// `captured` is the capture time of the frame that was read.
    pub fn reads(
        &mut self,
        captured: CaptureTime,
        track: TrackId,
        reads: &[PlateRead],
        colour: Option<(VehicleColour, f32)>,
    ) -> ReadOutcome {
        let mut outcome = ReadOutcome::default();
        // Plates and boxes of the other vehicles in that frame, taken before the own one is changed.
        let others: Vec<_> = self
            .live
            .iter()
            .filter(|p| p.track != track)
            .filter_map(|p| Some((p.path.at(captured.at)?, p.plate.clone())))
            .collect();
        let Some((passing, stage)) = self.find_mut(track, captured.at) else {
            self.counters.late_reads += 1;
            return outcome;
        };
        if let Some((colour, share)) = colour {
            passing.coloured(colour, share);
        }
        let vehicle = passing.path.at(captured.at).unwrap_or_else(|| passing.path.latest());
        let own = Owner { bbox: vehicle, plate: passing.plate.as_ref() };
        let others: Vec<_> = others
            .iter()
            .map(|(bbox, plate)| Owner { bbox: *bbox, plate: plate.as_ref() })
            .collect();
        let Some(read) = choose(reads, &own, &others).map(|i| &reads[i]) else {
            return outcome;
        };

        let shot = match passing.read(captured, read) {
            ReadEffect::Fused(Shot::Best) => Some(passing.shot),
            ReadEffect::Fused(Shot::Other) | ReadEffect::Waiting => None,
            ReadEffect::OtherVehicle if stage == Stage::Live => self.split(track, captured, read),
            ReadEffect::OtherVehicle => None,
        };
        if stage == Stage::Live {
            self.mend(track, &mut outcome.events);
            self.tell_provisional(track, &mut outcome.events);
        }
        outcome.best_shot = shot
            // An earlier track of the same vehicle may have had the better picture.
            .filter(|s| !outcome.events.contains(&PassageEvent::Discarded { shot: *s }))
            .map(|shot| BestShot { shot, vehicle, plate: Some(read.corners) });
        outcome
    }

    /// Ends and tells everything: the stream is over or the camera removed.
    pub fn finish(&mut self) -> Vec<PassageEvent> {
        let mut events = Vec::new();
        for track in self.tracker.finish() {
            self.hold(track, &mut events);
        }
        while let Some(passing) = self.held.pop_front() {
            self.conclude(passing, &mut events);
        }
        self.told.clear();
        self.still.clear();
        self.now = None;
        events
    }

    fn take_detection(
        &mut self,
        captured: CaptureTime,
        track: TrackId,
        detection: &Detection,
        whole: bool,
    ) {
        match self.live.iter_mut().find(|p| p.track == track) {
            Some(passing) => passing.extend(captured.at, detection, whole),
            None => {
                let shot = self.new_shot();
                let mut passing = Passing::new(
                    &self.camera,
                    shot,
                    track,
                    captured,
                    detection,
                    whole,
                    &self.settings,
                );
                passing.told_standing = self.still.told(&detection.bbox, None);
                self.live.push(passing);
            }
        }
    }

    fn new_shot(&mut self) -> ShotId {
        let shot = ShotId(self.next_shot);
        self.next_shot += 1;
        shot
    }

    /// Ends a track's passage, to be told when no other track continues it.
    fn hold(&mut self, track: TrackId, events: &mut Vec<PassageEvent>) {
        if let Some(i) = self.live.iter().position(|p| p.track == track) {
            let passing = self.live.remove(i);
            self.held.push_back(passing);
        }
        while self.held.len() > self.settings.held_max {
            if let Some(oldest) = self.held.pop_front() {
                self.conclude(oldest, events);
            }
        }
    }

    /// A vehicle that stands for long is told now; what is seen of it from here on begins anew, as a vehicle that
    /// was told of.
    fn tell_standing(&mut self, now: Timestamp, events: &mut Vec<PassageEvent>) {
        let after = self.settings.still_told_after;
        while let Some(i) = self.live.iter().position(|p| p.path.resting(now) >= after) {
            let passing = self.live.remove(i);
            self.conclude(passing, events);
        }
    }

    fn release_held(&mut self, now: Timestamp, events: &mut Vec<PassageEvent>) {
        let within = self.settings.merge_within;
        while let Some(i) = self.held.iter().position(|p| now.since(p.seen) > within) {
            if let Some(passing) = self.held.remove(i) {
                self.conclude(passing, events);
            }
        }
    }

    /// Tells the final sighting of a passage, or why there is none.
    fn conclude(&mut self, mut passing: Passing, events: &mut Vec<PassageEvent>) {
        let discarded = PassageEvent::Discarded { shot: passing.shot };
        passing.recall_standing(&self.still);
        let plate = passing.plate.as_ref().map(|p| &p.lattice);
        // What was told provisionally must have its end, whatever came after.
        if !passing.was_told_provisionally() {
            if passing.tells_again(&self.settings) {
                self.counters.standing += 1;
                self.still.seen(&passing.path.latest(), plate, passing.seen);
                return events.push(discarded);
            }
            if !passing.is_proven(&self.settings) {
                self.counters.unproven += 1;
                return events.push(discarded);
            }
            if self.is_late_twin(&passing) {
                self.counters.merged += 1;
                return events.push(discarded);
            }
        }
        if passing.path.is_standing_at(passing.seen) {
            self.still.remember(passing.path.latest(), plate, passing.seen);
        }
        if let Some(plate) = &passing.plate {
            if self.told.len() >= TOLD_MAX {
                self.told.pop_front();
            }
            self.told.push_back((plate.clone(), passing.path.clone(), passing.seen));
        }
        let sighting = passing.sighting(&self.camera, SightingStage::Final);
        events.push(PassageEvent::Final { sighting, shot: passing.shot });
    }

    /// Whether it began right after a passage of the same plate that has been told already.
    fn is_late_twin(&self, passing: &Passing) -> bool {
        self.told.iter().any(|(plate, path, seen)| {
            passing.started >= *seen
                && passing.started.since(*seen) <= self.settings.merge_within
                && passing.is_same_vehicle(Some(plate), path, *seen)
        })
    }

    /// Joins a live passage with the earlier tracks that it continues.
    fn mend(&mut self, track: TrackId, events: &mut Vec<PassageEvent>) {
        let within = self.settings.merge_within;
        loop {
            let Some(i) = self.live.iter().position(|p| p.track == track) else { return };
            let passing = &self.live[i];
            let earlier = if let Some(h) =
                self.held.iter().position(|earlier| passing.continues(earlier, within))
            {
                self.held.remove(h)
            } else {
                // Not ended yet, but not seen since this one began.
                let lost = self.live.iter().position(|earlier| passing.continues(earlier, within));
                lost.map(|l| self.live.remove(l))
            };
            let (Some(earlier), Some(passing)) =
                (earlier, self.live.iter_mut().find(|p| p.track == track))
            else {
                return;
            };
            self.counters.merged += 1;
            events.push(PassageEvent::Discarded { shot: passing.absorb(earlier) });
        }
    }

    fn tell_provisional(&mut self, track: TrackId, events: &mut Vec<PassageEvent>) {
        let Some(i) = self.live.iter().position(|p| p.track == track) else { return };
        if self.is_late_twin(&self.live[i]) {
            return;
        }
        let passing = &mut self.live[i];
        passing.recall_standing(&self.still);
        if let Some(sighting) = passing.provisional(&self.camera, &self.settings) {
            events.push(PassageEvent::Provisional { sighting, shot: passing.shot });
        }
    }

    /// Ends the passage of a track that changed vehicles, and begins the other vehicle's.
    fn split(&mut self, track: TrackId, captured: CaptureTime, read: &PlateRead) -> Option<ShotId> {
        let shot = self.new_shot();
        let passing = self.live.iter_mut().find(|p| p.track == track)?;
        let next = passing.hand_over(&self.camera, shot, captured, read, &self.settings);
        self.held.push_back(std::mem::replace(passing, next));
        self.counters.split += 1;
        Some(shot)
    }

    fn best_views(&mut self, captured: CaptureTime) -> Vec<BestShot> {
        self.live
            .iter_mut()
            .filter(|p| p.seen == captured.at)
            .filter_map(|p| {
                p.is_best_view(captured).then(|| BestShot {
                    shot: p.shot,
                    vehicle: p.path.latest(),
                    plate: None,
                })
            })
            .collect()
    }

    fn wishes(&mut self, now: Timestamp, frame_size: (u32, u32)) -> Vec<ReadWish> {
        let settings = &self.settings;
        let mut urgent: Vec<_> = (0..self.live.len())
            .filter_map(|i| Some((i, self.live[i].read_priority(now, settings)?)))
            .collect();
        urgent.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        urgent.truncate(settings.reads_a_frame_max);
        urgent
            .into_iter()
            .filter_map(|(i, priority)| {
                let passing = &mut self.live[i];
                let vehicle = passing.path.latest();
                let region = region(&vehicle, settings.region_margin, frame_size)?;
                passing.asked(now);
                Some(ReadWish { track: passing.track, region, vehicle, priority })
            })
            .collect()
    }

    /// The passage that a frame of a track belongs to: the live one, unless the frame is older than it.
    fn find_mut(&mut self, track: TrackId, at: Timestamp) -> Option<(&mut Passing, Stage)> {
        let live = self.live.iter_mut().find(|p| p.track == track && p.began <= at);
        if let Some(passing) = live {
            return Some((passing, Stage::Live));
        }
        self.held.iter_mut().rfind(|p| p.track == track).map(|p| (p, Stage::Held))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Live,
    Held,
}

fn is_whole(bbox: &BBox, (width, height): (u32, u32)) -> bool {
    bbox.x1() > EDGE_PX
        && bbox.y1() > EDGE_PX
        && bbox.x2() < width as f32 - EDGE_PX
        && bbox.y2() < height as f32 - EDGE_PX
}

#[cfg(test)]
mod tests;
