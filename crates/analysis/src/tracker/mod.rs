//! Which detections are the same vehicle: a tracker of the ByteTrack class (Zhang et al. 2022) that counts time, not
//! frames.
//!
//! What it takes from where:
//! * two associations, first with sure detections, then with doubtful ones that continue a known track (ByteTrack);
//! * a Kalman filter whose uncertainty, and with it the gates, grows with the time that passed, so that 25 and 3
//!   frames a second need no settings of their own;
//! * boxes enlarged by that uncertainty before their overlap is taken (C-BIoU, Yang et al. 2023), so that a fast
//!   vehicle at 3 fps, whose boxes do not overlap, still finds its track.
//!
//! Class is never asked: a detector that hesitates between car and truck must not split a vehicle.

mod motion;

use std::time::Duration;

use guiji_domain::{BBox, Detection, Timestamp, TrackId};

use crate::assignment::assign;
use motion::Motion;

/// How detections become tracks.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackerSettings {
    /// Detections of at least this score can begin a track and take part in the first association.
    pub high_score: f32,
    /// Detections below this score are not looked at.
    pub low_score: f32,
    /// A track ends when it found no detection for this long.
    pub lost_after: Duration,
    /// Detections until a track is confirmed.
    pub confirm_hits: u32,
    /// Most live tracks. When full, the weakest gives way.
    pub tracks_max: usize,
    /// Most detections of one frame that are looked at, the best first.
    pub detections_max: usize,
}

impl Default for TrackerSettings {
    fn default() -> Self {
        Self {
            high_score: 0.4,
            low_score: 0.15,
            lost_after: Duration::from_millis(1200),
            confirm_hits: 2,
            tracks_max: 64,
            detections_max: 256,
        }
    }
}

/// What one frame did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrackerUpdate {
    /// Which track each used detection continues or begins, with the detection's index, ordered by track.
    pub matched: Vec<(TrackId, usize)>,
    /// Tracks that will not come back, in order of their ids.
    pub ended: Vec<TrackId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TrackState {
    /// Seen too few times to be believed.
    Tentative,
    /// Believed, and seen in the latest frame.
    Confirmed,
    /// Believed, but not seen in the latest frame.
    Lost,
}

#[derive(Debug, Clone)]
struct Track {
    id: TrackId,
    state: TrackState,
    motion: Motion,
    hits: u32,
    seen: Timestamp,
}

/// Follows the vehicles of one camera.
#[derive(Debug, Clone)]
pub struct Tracker {
    settings: TrackerSettings,
    tracks: Vec<Track>,
    next_id: u64,
    now: Option<Timestamp>,
    /// Typical time between frames, seconds: a moving average.
    interval_s: f32,
    dropped: u64,
}

/// A lost track may wait for this many typical intervals, when they are longer than `lost_after`.
const LOST_INTERVALS: f32 = 2.2;
/// ... up to this time: slower than that is a slideshow.
const LOST_MAX: Duration = Duration::from_secs(3);
/// What was seen too few times to be believed waits shorter.
const TENTATIVE_LOST_AFTER: Duration = Duration::from_millis(300);
/// Squared standard deviations beyond which centre or size cannot be the same vehicle's (chi-square, 2 degrees of
/// freedom, 99.97 %).
const SURPRISE_MAX: f32 = 16.0;
/// Least overlap of the enlarged boxes.
const OVERLAP_MIN: f32 = 0.1;
/// Least likeness, so that an uncertain track does not take whatever comes near.
const LIKENESS_MIN: f32 = 0.25;
/// A detection that covers a known vehicle this much is the same vehicle found twice.
const DUPLICATE_IOU: f32 = 0.7;

impl Tracker {
    /// No tracks yet.
    pub fn new(settings: TrackerSettings) -> Self {
        Self { settings, tracks: Vec::new(), next_id: 1, now: None, interval_s: 0.0, dropped: 0 }
    }

    /// How many tracks and possible tracks were given up because there were too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes the detections of one frame. A time before the latest one counts as the latest one.
    pub fn update(&mut self, at: Timestamp, detections: &[Detection]) -> TrackerUpdate {
        let now = self.now.map_or(at, |latest| latest.max(at));
        let dt_s = self.now.map_or(0.0, |latest| now.since(latest).as_secs_f32());
        self.now = Some(now);
        if dt_s > 0.0 {
            let share = if self.interval_s > 0.0 { 0.1 } else { 1.0 };
            self.interval_s += share * (dt_s.min(LOST_MAX.as_secs_f32()) - self.interval_s);
        }

        let mut ended = self.end_stale(now);
        for track in &mut self.tracks {
            track.motion.predict(dt_s);
        }
        let (sure, doubtful) = self.sorted(detections);
        let mut matched = Vec::with_capacity(sure.len());

        // 1. Known vehicles and sure detections.
        let known = self.unmatched(&matched, |t| t.state != TrackState::Tentative);
        let sure = self.associate(known, sure, detections, &mut matched);
        // 2. Doubtful detections only continue what is known: occluded, blurred, at the edge.
        let known = self.unmatched(&matched, |t| t.state != TrackState::Tentative);
        self.associate(known, doubtful, detections, &mut matched);
        // 3. What is not yet believed.
        let tentative = self.unmatched(&matched, |t| t.state == TrackState::Tentative);
        let sure = self.associate(tentative, sure, detections, &mut matched);

        for (track, detection) in &matched {
            self.continue_track(*track, &detections[*detection], now);
        }
        for track in &mut self.tracks {
            if track.state == TrackState::Confirmed && track.seen < now {
                track.state = TrackState::Lost;
            }
        }
        let mut matched: Vec<_> =
            matched.into_iter().map(|(track, d)| (self.tracks[track].id, d)).collect();

        // 4. What is left begins new tracks.
        for detection in sure {
            let duplicate = matched.iter().any(|(_, other)| {
                detections[*other].bbox.iou(&detections[detection].bbox) >= DUPLICATE_IOU
            });
            if duplicate {
                continue;
            }
            match self.begin_track(&detections[detection], now) {
                Begun::Track(id, given_up) => {
                    ended.extend(given_up);
                    matched.push((id, detection));
                }
                Begun::NoRoom => {}
            }
        }
        matched.retain(|(id, _)| !ended.contains(id));
        matched.sort_unstable();
        ended.sort_unstable();
        TrackerUpdate { matched, ended }
    }

    /// Says where a track's vehicle is, found by other means after a time without updates: it goes on from there with the
    /// next one, however long it was.
    pub fn resume(&mut self, track: TrackId, bbox: &BBox, at: Timestamp) {
        if let Some(track) = self.tracks.iter_mut().find(|it| it.id == track) {
            track.motion = Motion::new(bbox);
            track.seen = track.seen.max(at);
        }
    }

    /// Ends every track. The next update may have any time.
    pub fn finish(&mut self) -> Vec<TrackId> {
        self.now = None;
        self.tracks.drain(..).map(|t| t.id).collect()
    }

    /// How long a track may go unseen at the present rate of frames.
    pub fn patience(&self) -> Duration {
        self.settings.lost_after.max(self.intervals().min(LOST_MAX))
    }

    /// The time in which a track may miss one frame.
    fn intervals(&self) -> Duration {
        Duration::from_secs_f32(LOST_INTERVALS * self.interval_s)
    }

    fn end_stale(&mut self, now: Timestamp) -> Vec<TrackId> {
        let (patience, tentative) = (self.patience(), self.intervals().max(TENTATIVE_LOST_AFTER));
        let stale = |t: &Track| {
            let unseen = now.since(t.seen);
            unseen
                > if t.state == TrackState::Tentative { tentative.min(patience) } else { patience }
        };
        let ended = self.tracks.iter().filter(|t| stale(t)).map(|t| t.id).collect();
        self.tracks.retain(|t| !stale(t));
        ended
    }

    /// Indices of sure and of doubtful detections, in an order that depends on the detections alone.
    fn sorted(&self, detections: &[Detection]) -> (Vec<usize>, Vec<usize>) {
        let mut order: Vec<_> = (0..detections.len())
            .filter(|i| detections[*i].score >= self.settings.low_score)
            .collect();
        order.sort_by(|a, b| {
            let (a, b) = (&detections[*a], &detections[*b]);
            b.score
                .total_cmp(&a.score)
                .then(a.bbox.x1().total_cmp(&b.bbox.x1()))
                .then(a.bbox.y1().total_cmp(&b.bbox.y1()))
                .then(a.bbox.x2().total_cmp(&b.bbox.x2()))
                .then(a.bbox.y2().total_cmp(&b.bbox.y2()))
        });
        order.truncate(self.settings.detections_max);
        order.into_iter().partition(|i| detections[*i].score >= self.settings.high_score)
    }

    fn unmatched(&self, matched: &[(usize, usize)], wanted: impl Fn(&Track) -> bool) -> Vec<usize> {
        (0..self.tracks.len())
            .filter(|i| wanted(&self.tracks[*i]) && matched.iter().all(|(track, _)| track != i))
            .collect()
    }

    /// Adds the best pairs to `matched` and returns the detections left over.
    fn associate(
        &self,
        tracks: Vec<usize>,
        candidates: Vec<usize>,
        detections: &[Detection],
        matched: &mut Vec<(usize, usize)>,
    ) -> Vec<usize> {
        let pairs = assign(tracks.len(), candidates.len(), |row, column| {
            likeness(&self.tracks[tracks[row]], &detections[candidates[column]].bbox)
        });
        matched.extend(pairs.iter().map(|(row, column)| (tracks[*row], candidates[*column])));
        let taken: Vec<_> = pairs.into_iter().map(|(_, column)| candidates[column]).collect();
        candidates.into_iter().filter(|c| !taken.contains(c)).collect()
    }

    fn continue_track(&mut self, index: usize, detection: &Detection, now: Timestamp) {
        let confirm_hits = self.settings.confirm_hits;
        let track = &mut self.tracks[index];
        track.motion.correct(&detection.bbox);
        track.hits = track.hits.saturating_add(1);
        track.seen = now;
        if track.hits >= confirm_hits {
            track.state = TrackState::Confirmed;
        }
    }

    fn begin_track(&mut self, detection: &Detection, now: Timestamp) -> Begun {
        let mut given_up = None;
        if self.tracks.len() >= self.settings.tracks_max {
            self.dropped += 1;
            // Only what was not seen now may give way, the least established first.
            let weakest = (0..self.tracks.len())
                .filter(|i| self.tracks[*i].seen < now)
                .min_by_key(|i| (self.tracks[*i].hits, self.tracks[*i].seen, self.tracks[*i].id));
            match weakest {
                Some(i) => given_up = Some(self.tracks.remove(i).id),
                None => return Begun::NoRoom,
            }
        }
        let id = TrackId(self.next_id);
        self.next_id += 1;
        let state = if self.settings.confirm_hits <= 1 {
            TrackState::Confirmed
        } else {
            TrackState::Tentative
        };
        let motion = Motion::new(&detection.bbox);
        self.tracks.push(Track { id, state, motion, hits: 1, seen: now });
        Begun::Track(id, given_up)
    }
}

enum Begun {
    Track(TrackId, Option<TrackId>),
    NoRoom,
}

/// How well a box continues a track, 0 to 1. `None` when it cannot.
fn likeness(track: &Track, bbox: &BBox) -> Option<f32> {
    let (centre, size) = track.motion.surprise(bbox);
    if centre > SURPRISE_MAX || size > SURPRISE_MAX {
        return None;
    }
    // As uncertain as the expectation is, so much larger are the boxes that are laid over each other.
    let share = (0.1 + track.motion.uncertainty()).min(1.0);
    let overlap = track.motion.bbox()?.padded(share).iou(&bbox.padded(share));
    if overlap < OVERLAP_MIN {
        return None;
    }
    let fit = (-(centre + 0.5 * size) / 8.0).exp();
    Some(0.5 * overlap + 0.5 * fit).filter(|g| *g >= LIKENESS_MIN)
}

#[cfg(test)]
mod tests;
