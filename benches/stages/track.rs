//! Detections to tracks: our tracker against SORT's idea without its filter.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::Context as _;
use criterion::Criterion;
use guiji_analysis::tracker::{Tracker, TrackerSettings};
use guiji_domain::{BBox, Detection, Timestamp, VehicleClass};

use crate::{Comparison, CpuTime};

const OURS: &str = "tracker";
const GREEDY: &str = "greedy IoU (SORT without its filter)";

const VEHICLES: usize = 20;
const FRAMES: usize = 100;
const FPS: f64 = 12.5;
const SLOW_FPS: f64 = 3.0;

pub(crate) fn compare(criterion: &mut Criterion<CpuTime>) -> anyhow::Result<Vec<Comparison>> {
    let road = road(FPS)?;
    let mut group = criterion.benchmark_group("track");
    group.bench_function(OURS, |b| b.iter(|| ours(&road)));
    group.bench_function(GREEDY, |b| b.iter(|| greedy(&road)));
    group.finish();
    let slow = self::road(SLOW_FPS)?;
    let note = format!(
        "identities given to {VEHICLES} vehicles at {FPS} and at {SLOW_FPS} fps: ours {} and {}, greedy IoU {} and {}",
        ours(&road),
        ours(&slow),
        greedy(&road),
        greedy(&slow)
    );
    Ok(vec![Comparison {
        stage: "track",
        ours: OURS.to_owned(),
        baselines: vec![GREEDY.to_owned()],
        unit: "update with 20 vehicles",
        units: FRAMES,
        note,
    }])
}

type Frames = Vec<(Timestamp, Vec<Detection>)>;

/// Four lanes of five cars, 100 to 500 pixels a second; boxes shake, every tenth detection is missing.
fn road(fps: f64) -> anyhow::Result<Frames> {
    let mut chance = Chance(7);
    let frames = (0..FRAMES).map(|frame| {
        let seconds = frame as f64 / fps;
        let mut seen = Vec::with_capacity(VEHICLES);
        for vehicle in 0..VEHICLES {
            let (lane, place) = (vehicle % 4, vehicle / 4);
            let speed = 100.0 + 130.0 * lane as f32;
            let x = 400.0 * place as f32 + speed * seconds as f32 + 6.0 * chance.next();
            let y = 200.0 * lane as f32 + 6.0 * chance.next();
            let score = 0.75 + 0.4 * chance.next();
            if chance.next() < 0.4 {
                let bbox = BBox::new(x, y, x + 150.0, y + 120.0).context("a box")?;
                seen.push(Detection { bbox, class: Some(VehicleClass::Car), score });
            }
        }
        Ok((Timestamp::from_millis((seconds * 1000.0) as i64), seen))
    });
    frames.collect()
}

/// Numbers from -0.5 to 0.5, the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}

/// How many tracks there were of at least two detections.
fn ours(frames: &Frames) -> usize {
    let mut tracker = Tracker::new(TrackerSettings::default());
    let mut hits = HashMap::new();
    for (at, seen) in frames {
        for (track, _) in tracker.update(*at, seen).matched {
            *hits.entry(track).or_insert(0) += 1;
        }
    }
    hits.into_values().filter(|hits| *hits >= 2).count()
}

/// What SORT (Bewley et al. 2016) does, with a plain constant velocity in place of the Kalman filter and the best
/// pair first in place of the assignment: overlap of at least 0.3 with where the box should be.
#[derive(Default)]
struct Greedy {
    tracks: Vec<GreedyTrack>,
    next: u64,
}

struct GreedyTrack {
    id: u64,
    bbox: BBox,
    /// Pixels a second.
    velocity: (f32, f32),
    seen: Timestamp,
}

impl Greedy {
    const IOU_MIN: f32 = 0.3;
    const LOST_AFTER_S: f32 = 1.2;

    fn update(&mut self, at: Timestamp, seen: &[Detection]) -> Vec<u64> {
        self.tracks.retain(|t| at.since(t.seen).as_secs_f32() <= Self::LOST_AFTER_S);
        let mut pairs = Vec::new();
        for (t, track) in self.tracks.iter().enumerate() {
            let expected = track.expected(at);
            for (d, detection) in seen.iter().enumerate() {
                let iou = expected.map_or(0.0, |bbox| bbox.iou(&detection.bbox));
                if iou >= Self::IOU_MIN {
                    pairs.push((iou, t, d));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut track_of: HashMap<usize, usize> = HashMap::new();
        let mut taken = vec![false; self.tracks.len()];
        for (_, t, d) in pairs {
            if let (false, Entry::Vacant(free)) = (taken[t], track_of.entry(d)) {
                free.insert(t);
                taken[t] = true;
            }
        }
        let ids = seen.iter().enumerate().map(|(d, detection)| match track_of.get(&d) {
            Some(t) => self.tracks[*t].follow(at, detection.bbox),
            None => {
                self.next += 1;
                let (id, bbox) = (self.next, detection.bbox);
                self.tracks.push(GreedyTrack { id, bbox, velocity: (0.0, 0.0), seen: at });
                id
            }
        });
        ids.collect()
    }
}

impl GreedyTrack {
    fn expected(&self, at: Timestamp) -> Option<BBox> {
        let dt = at.since(self.seen).as_secs_f32();
        let (dx, dy) = (self.velocity.0 * dt, self.velocity.1 * dt);
        let b = &self.bbox;
        BBox::new(b.x1() + dx, b.y1() + dy, b.x2() + dx, b.y2() + dy)
    }

    fn follow(&mut self, at: Timestamp, bbox: BBox) -> u64 {
        let dt = at.since(self.seen).as_secs_f32();
        if dt > 0.0 {
            let (from, to) = (self.bbox.centre(), bbox.centre());
            self.velocity = ((to.x - from.x) / dt, (to.y - from.y) / dt);
        }
        (self.bbox, self.seen) = (bbox, at);
        self.id
    }
}

fn greedy(frames: &Frames) -> usize {
    let mut tracker = Greedy::default();
    let mut hits = HashMap::new();
    for (at, seen) in frames {
        for track in tracker.update(*at, seen) {
            *hits.entry(track).or_insert(0) += 1;
        }
    }
    hits.into_values().filter(|hits| *hits >= 2).count()
}
