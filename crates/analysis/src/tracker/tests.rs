use std::collections::{BTreeMap, BTreeSet};

use guiji_domain::{BBox, VehicleClass};
use proptest::prelude::*;

use super::*;
use crate::testing::{Noise, RoadUser, approaching, crossing, detect};

#[derive(Debug, PartialEq, Eq, Default, Clone, Copy)]
struct Faults {
    /// Times that a vehicle's track changed.
    switches: usize,
    /// Confirmed tracks that held more than one vehicle.
    mixed: usize,
    /// Detections of vehicles without a track.
    untracked: usize,
    /// Tracks of two or more frames made of false detections.
    false_tracks: usize,
}

fn follow(vehicles: &[RoadUser], fps: f32, seconds: f32, seed: u64) -> Faults {
    let mut noise = Noise(seed);
    let mut tracker = Tracker::new(TrackerSettings::default());
    let mut last: BTreeMap<usize, TrackId> = BTreeMap::new();
    let mut held: BTreeMap<TrackId, BTreeSet<usize>> = BTreeMap::new();
    let mut false_hits: BTreeMap<TrackId, usize> = BTreeMap::new();
    let mut faults = Faults::default();
    for frame in 0..(seconds * fps) as u32 {
        // Cameras are not punctual.
        let t = (frame as f32 + 0.2 * (noise.uniform() - 0.5)) / fps;
        let found = detect(vehicles, t.max(0.0), &mut noise);
        let detections: Vec<_> = found.iter().map(|(d, _)| *d).collect();
        let at = Timestamp::from_millis(1_700_000_000_000 + (t * 1000.0) as i64);
        let update = tracker.update(at, &detections);
        let mut tracked = BTreeSet::new();
        for (track, index) in update.matched {
            tracked.insert(index);
            match found[index].1 {
                Some(vehicle) => {
                    held.entry(track).or_default().insert(vehicle);
                    if last.insert(vehicle, track).is_some_and(|before| before != track) {
                        faults.switches += 1;
                    }
                }
                None => *false_hits.entry(track).or_default() += 1,
            }
        }
        faults.untracked += found
            .iter()
            .enumerate()
            .filter(|(i, (d, v))| v.is_some() && d.score >= 0.45 && !tracked.contains(i))
            .count();
    }
    faults.mixed = held.values().filter(|v| v.len() > 1).count();
    faults.false_tracks =
        false_hits.iter().filter(|(t, n)| **n > 1 && !held.contains_key(t)).count();
    faults
}

fn scenes() -> Vec<(&'static str, Vec<RoadUser>)> {
    let pairs = (0..10).flat_map(|i| {
        let enters = 3.0 * i as f32;
        [approaching(-1.9, enters, 14.0), approaching(1.9, enters + 0.1, 14.5)]
    });
    let column = (0..16).map(|i| approaching(1.0, 1.8 * i as f32, 13.0));
    let crossings = (0..12).map(|i| {
        let z = if i % 2 == 0 { 18.0 } else { 23.0 };
        crossing(i % 2 == 0, z, 2.4 * (i / 2) as f32, 9.0 + i as f32 % 3.0)
    });
    let away = (0..12).map(|i| RoadUser {
        x: (-3.5, 0.0),
        z: (11.0, 12.0 + i as f32 % 4.0),
        enters_s: 2.5 * i as f32,
    });
    vec![
        ("two abreast", pairs.clone().collect()),
        ("column", column.collect()),
        ("crossing", crossings.collect()),
        ("both ways", away.chain(pairs.map(|v| RoadUser { x: (v.x.0 + 3.0, 0.0), ..v })).collect()),
    ]
}

/// Faults summed over five seeds. Golden: a change is to be explained.
#[test]
fn golden_faults_at_four_rates() {
    let mut report = String::new();
    for (name, vehicles) in scenes() {
        for fps in [25.0, 12.5, 5.0, 3.0] {
            let mut sum = Faults::default();
            for seed in 0..5 {
                let f = follow(&vehicles, fps, 34.0, seed);
                sum.switches += f.switches;
                sum.mixed += f.mixed;
                sum.untracked += f.untracked;
                sum.false_tracks += f.false_tracks;
            }
            let Faults { switches, mixed, untracked, false_tracks } = sum;
            report += &format!(
                "{name:<12}{fps:>5} fps: {} vehicles, switches {switches}, mixed {mixed}, untracked {untracked}, false {false_tracks}\n",
                5 * vehicles.len(),
            );
        }
    }
    assert_eq!(report, include_str!("../../testdata/tracker_faults.txt"), "\n{report}");
}

fn car(x: f32, score: f32) -> Detection {
    let bbox = BBox::new(x, 100.0, x + 100.0, 180.0).unwrap();
    Detection { bbox, class: Some(VehicleClass::Car), score }
}

fn ms(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

#[test]
fn a_track_ends_after_its_time_whatever_the_rate() {
    for step in [40, 100, 200] {
        let mut tracker = Tracker::new(TrackerSettings::default());
        for t in (0..=1000).step_by(step) {
            assert!(tracker.update(ms(t), &[car(0.0, 0.9)]).ended.is_empty());
        }
        let mut t = 1000;
        let ended_at = loop {
            t += step as i64;
            if !tracker.update(ms(t), &[]).ended.is_empty() {
                break t;
            }
        };
        assert!((2200..=2200 + 2 * step as i64).contains(&ended_at), "{step} ms: {ended_at}");
    }
}

#[test]
fn a_change_of_class_does_not_split_a_track() {
    let mut tracker = Tracker::new(TrackerSettings::default());
    let classes = [VehicleClass::Car, VehicleClass::Truck, VehicleClass::Bus, VehicleClass::Car];
    let ids: BTreeSet<_> = (0..)
        .zip(classes)
        .map(|(i, class)| {
            let detection = Detection { class: Some(class), ..car(5.0 * i as f32, 0.8) };
            tracker.update(ms(40 * i), &[detection]).matched[0].0
        })
        .collect();
    assert_eq!(ids.len(), 1);
}

#[test]
fn doubtful_detections_continue_but_never_begin() {
    let mut tracker = Tracker::new(TrackerSettings::default());
    assert!(tracker.update(ms(0), &[car(0.0, 0.3)]).matched.is_empty());
    let id = tracker.update(ms(40), &[car(0.0, 0.8)]).matched[0].0;
    tracker.update(ms(80), &[car(0.0, 0.8)]);
    assert_eq!(tracker.update(ms(120), &[car(2.0, 0.3)]).matched, [(id, 0)]);
}

#[test]
fn one_vehicle_found_twice_is_one_track() {
    let mut tracker = Tracker::new(TrackerSettings::default());
    let matched = tracker.update(ms(0), &[car(0.0, 0.9), car(3.0, 0.7)]).matched;
    assert_eq!(matched, [(TrackId(1), 0)]);
}

#[test]
fn tracks_are_bounded_and_given_up_ones_are_counted() {
    let settings = TrackerSettings { tracks_max: 4, ..Default::default() };
    let mut tracker = Tracker::new(settings);
    let crowd: Vec<_> = (0..10).map(|i| car(200.0 * i as f32, 0.5 + 0.04 * i as f32)).collect();
    assert_eq!(tracker.update(ms(0), &crowd).matched.len(), 4);
    assert_eq!((tracker.tracks.len(), tracker.dropped()), (4, 6));
    // The best detections got the room.
    let update = tracker.update(ms(40), &crowd);
    assert!(update.matched.iter().all(|(_, d)| *d >= 6));
    // What was seen gives no way; what is lost does.
    let update = tracker.update(ms(80), &[car(5000.0, 0.9)]);
    assert_eq!((update.matched.len(), update.ended.len(), tracker.tracks.len()), (1, 1, 4));
}

#[test]
fn finishing_ends_everything() {
    let mut tracker = Tracker::new(TrackerSettings::default());
    tracker.update(ms(5000), &[car(0.0, 0.9), car(400.0, 0.9)]);
    assert_eq!(tracker.finish(), [TrackId(1), TrackId(2)]);
    // A new beginning may be earlier, and ids go on.
    assert_eq!(tracker.update(ms(0), &[car(0.0, 0.9)]).matched, [(TrackId(3), 0)]);
}

fn any_frames() -> impl Strategy<Value = Vec<(i64, Vec<Detection>)>> {
    let detection = (-200f32..2000.0, -200f32..1200.0, 0f32..600.0, 0f32..500.0, 0f32..1.0)
        .prop_map(|(x, y, w, h, score)| Detection {
            bbox: BBox::new(x, y, x + w, y + h).unwrap(),
            class: Some(VehicleClass::Car),
            score,
        });
    let time = prop_oneof![0i64..3000, Just(0), any::<i64>()];
    prop::collection::vec((time, prop::collection::vec(detection, 0..8)), 0..30)
}

proptest! {
    #[test]
    fn one_track_a_detection_and_ids_never_return(frames in any_frames()) {
        let settings = TrackerSettings { tracks_max: 6, ..Default::default() };
        let mut tracker = Tracker::new(settings);
        let (mut ended, mut begun) = (BTreeSet::new(), BTreeSet::new());
        for (millis, detections) in &frames {
            let update = tracker.update(ms(*millis), detections);
            let tracks: BTreeSet<_> = update.matched.iter().map(|(t, _)| *t).collect();
            let used: BTreeSet<_> = update.matched.iter().map(|(_, d)| *d).collect();
            prop_assert_eq!(tracks.len(), update.matched.len());
            prop_assert_eq!(used.len(), update.matched.len());
            prop_assert!(used.iter().all(|d| *d < detections.len()));
            begun.extend(tracks.iter().copied());
            for id in update.ended {
                prop_assert!(ended.insert(id), "ended once");
                prop_assert!(!tracks.contains(&id));
            }
            prop_assert!(tracks.is_disjoint(&ended));
            prop_assert!(tracker.tracks.len() <= 6);
        }
        ended.extend(tracker.finish());
        prop_assert_eq!(ended, begun);
    }

    #[test]
    fn the_order_of_detections_does_not_matter(frames in any_frames()) {
        let (mut forward, mut backward) =
            (Tracker::new(TrackerSettings::default()), Tracker::new(TrackerSettings::default()));
        for (millis, detections) in &frames {
            let reversed: Vec<_> = detections.iter().rev().copied().collect();
            let a = forward.update(ms(*millis), detections);
            let mut b = backward.update(ms(*millis), &reversed);
            for (_, index) in &mut b.matched {
                *index = detections.len() - 1 - *index;
            }
            prop_assert_eq!(a, b);
        }
    }
}
