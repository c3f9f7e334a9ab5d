use std::collections::{BTreeMap, BTreeSet};

use guiji_domain::{
    Candidate, ClockSource, Heading, Lattice, PlateChar, PlateColour, PlateKind, PlateState,
    PlateText, Position, SightingId, VehicleClass,
};
use proptest::prelude::*;

use super::*;
use crate::testing::{
    Noise, RoadUser, approaching, camera_at, crossing, detect, noisy_lattice, plain_lattice,
    read_at, text,
};

const FRAME: (u32, u32) = (2560, 1440);

fn passages() -> Passages {
    Passages::new(PassageSettings::default(), &camera_at("k1", 29.0, 121.0))
}

fn captured(millis: i64) -> CaptureTime {
    CaptureTime {
        at: Timestamp::from_millis(1_700_000_000_000 + millis),
        uncertainty: Duration::from_millis(20),
        source: ClockSource::Rtcp,
    }
}

/// Where the plate sits on a vehicle.
fn plate_box(vehicle: &BBox) -> BBox {
    let (w, c) = (0.25 * vehicle.width(), vehicle.centre());
    let y = vehicle.y2() - 0.2 * vehicle.height();
    BBox::new(c.x - w / 2.0, y - 0.15 * w, c.x + w / 2.0, y + 0.15 * w).unwrap()
}

/// What a run told, checked for its order: every final once, provisional only before it, pictures closed once.
#[derive(Default)]
struct Told {
    finals: Vec<Sighting>,
    provisionals: Vec<Sighting>,
    open_shots: BTreeSet<ShotId>,
    closed_shots: BTreeSet<ShotId>,
}

impl Told {
    fn shot(&mut self, shot: &BestShot) {
        assert!(!self.closed_shots.contains(&shot.shot), "pictures for a closed passage");
        self.open_shots.insert(shot.shot);
    }

    fn take(&mut self, events: Vec<PassageEvent>) {
        for event in events {
            match event {
                PassageEvent::Provisional { sighting, shot } => {
                    assert!(!self.closed_shots.contains(&shot));
                    assert!(self.finals.iter().all(|f| f.id != sighting.id));
                    self.provisionals.push(sighting);
                }
                PassageEvent::Final { sighting, shot } => {
                    assert!(self.closed_shots.insert(shot), "closed twice");
                    assert!(self.open_shots.remove(&shot), "a final sighting without a picture");
                    assert!(self.finals.iter().all(|f| f.id != sighting.id), "final twice");
                    self.finals.push(sighting);
                }
                PassageEvent::Discarded { shot } => {
                    assert!(self.closed_shots.insert(shot), "closed twice");
                    self.open_shots.remove(&shot);
                }
            }
        }
    }

    fn end(&mut self, passages: &mut Passages) {
        self.take(passages.finish());
        assert!(self.open_shots.is_empty(), "pictures never closed");
        let finals: BTreeSet<_> = self.finals.iter().map(|f| f.id).collect();
        assert!(self.provisionals.iter().all(|p| finals.contains(&p.id)), "no end");
    }

    fn plates(&self) -> Vec<String> {
        self.finals.iter().filter_map(|f| f.plate_text()).map(ToString::to_string).collect()
    }
}

/// Plays one frame: what is detected, and the reader's answer to every wish.
fn frame(
    passages: &mut Passages,
    told: &mut Told,
    millis: i64,
    detections: &[Detection],
    mut answer: impl FnMut(&ReadWish) -> Vec<PlateRead>,
) -> Observation {
    let captured = captured(millis);
    let mut observation = passages.observe(captured, FRAME, detections);
    observation.views.iter().for_each(|v| told.shot(v));
    told.take(std::mem::take(&mut observation.events));
    for wish in &observation.wishes {
        let colour = Some((VehicleColour::Silver, 0.8));
        let outcome = passages.reads(captured, wish.track, &answer(wish), colour);
        if let Some(shot) = &outcome.best_shot {
            told.shot(shot);
        }
        told.take(outcome.events);
    }
    observation
}

fn car(x: f32, y: f32, width: f32) -> Detection {
    let bbox = BBox::new(x, y, x + width, y + 0.8 * width).unwrap();
    Detection { bbox, class: Some(VehicleClass::Car), score: 0.8 }
}

fn read_on(vehicle: &BBox, plate: &str) -> PlateRead {
    read_at(plain_lattice(plate, 0.98), plate_box(vehicle), Some(PlateColour::Blue))
}

const A: &str = "浙J12345";
const B: &str = "苏B6789K";

/// A car that comes nearer from time `from` on, 12.5 frames a second.
fn approach(from: i64, frames: std::ops::Range<i64>) -> impl Iterator<Item = (i64, Detection)> {
    frames.map(move |i| {
        let t = i as f32;
        (from + 80 * i, car(600.0 - 3.0 * t, 200.0 + 14.0 * t, 120.0 + 9.0 * t))
    })
}

#[test]
fn a_passage_is_one_provisional_and_one_final_sighting() {
    let (mut passages, mut told) = (passages(), Told::default());
    let mut reads = 0;
    for (t, detection) in approach(0, 0..40) {
        frame(&mut passages, &mut told, t, &[detection], |wish| {
            reads += 1;
            vec![read_on(&wish.vehicle, A)]
        });
    }
    assert!(told.finals.is_empty());
    assert_eq!(told.provisionals.len(), 1);
    // Nothing for a while: it ends and is told without being asked.
    for t in 40..120 {
        frame(&mut passages, &mut told, 80 * t, &[], |_| Vec::new());
    }
    let [seen] = told.finals.as_slice() else { panic!("{:?}", told.finals) };
    assert_eq!((seen.plate_text(), seen.stage), (Some(&text(A)), SightingStage::Final));
    assert_eq!((seen.id, seen.frames), (told.provisionals[0].id, 40));
    assert_eq!(seen.vehicle.class.map(|(c, _)| c), Some(VehicleClass::Car));
    assert_eq!(seen.vehicle.colour.map(|(c, _)| c), Some(VehicleColour::Silver));
    let direction = seen.direction.unwrap();
    assert_eq!((direction.heading, direction.course_deg), (Heading::Approaching, Some(180.0)));
    assert_eq!(seen.span.duration(), Duration::from_millis(39 * 80));
    // The best picture is the last one read, when the plate was largest.
    assert!(seen.captured.at > captured(2000).at, "{}", seen.captured.at);
    assert!((4..=16).contains(&reads), "{reads}");
    told.end(&mut passages);
    assert_eq!(told.finals.len(), 1);
}

#[test]
fn a_plateless_vehicle_makes_a_sighting_and_an_unreadable_plate_is_said() {
    for (score, state) in [(None, PlateState::NotRead), (Some(0.9), PlateState::Unreadable)] {
        let (mut passages, mut told) = (passages(), Told::default());
        for (t, detection) in approach(0, 0..20) {
            frame(&mut passages, &mut told, t, &[detection], |wish| {
                let nonsense = read_on(&wish.vehicle, "333333");
                score.map(|s| PlateRead { detector_score: s, ..nonsense }).into_iter().collect()
            });
        }
        told.end(&mut passages);
        assert_eq!((told.finals.len(), told.provisionals.len()), (1, 0));
        assert_eq!(told.finals[0].plate, state);
    }
}

#[test]
fn flicker_makes_no_sighting() {
    let (mut passages, mut told) = (passages(), Told::default());
    for i in 0..50 {
        // A false detection now and then, never twice at one place.
        let detections = [car(97.0 * (i % 20) as f32, 40.0 * (i % 17) as f32, 110.0)];
        let detections = if i % 5 == 0 { &detections[..] } else { &[] };
        frame(&mut passages, &mut told, 80 * i, detections, |_| Vec::new());
    }
    told.end(&mut passages);
    assert_eq!(told.finals, []);
    assert!(passages.counters().unproven > 5);
}

#[test]
fn a_broken_track_of_one_plate_is_one_sighting() {
    // The middle is hidden for 1.4 s, longer than a track lives.
    let (mut passages, mut told) = (passages(), Told::default());
    for (t, detection) in approach(0, 0..60) {
        let hidden = (1600..3100).contains(&t);
        let detections = if hidden { &[][..] } else { &[detection] };
        frame(&mut passages, &mut told, t, detections, |w| vec![read_on(&w.vehicle, A)]);
    }
    told.end(&mut passages);
    assert_eq!(told.plates(), [A]);
    assert_eq!(told.provisionals.len(), 1, "no second alert for the second track");
    assert_eq!(told.finals[0].span.first(), captured(0).at);
    assert_eq!(passages.counters().merged, 1);
}

/// A decoy with one other character right behind the suspect, its plate read with doubt at first.
#[test]
fn a_decoy_right_behind_is_another_sighting() {
    let (mut passages, mut told) = (passages(), Told::default());
    let decoy = |vehicle: &BBox, frame: i64| {
        let sure = 0.5 + 0.045 * frame.min(10) as f32;
        let mut positions = plain_lattice("浙J7K249", 0.99).positions().to_vec();
        let candidate = |c, probability| Candidate { character: PlateChar::new(c), probability };
        positions[3] =
            Position::new(vec![candidate('K', sure), candidate('F', 0.98 - sure)]).unwrap();
        read_at(Lattice::new(positions).unwrap(), plate_box(vehicle), None)
    };
    for (t, detection) in approach(0, 0..40) {
        frame(&mut passages, &mut told, t, &[detection], |w| vec![read_on(&w.vehicle, "浙J7F249")]);
    }
    for (i, (t, detection)) in (0..).zip(approach(5_200, 0..40)) {
        frame(&mut passages, &mut told, t, &[detection], |w| vec![decoy(&w.vehicle, i)]);
    }
    told.end(&mut passages);
    assert_eq!(told.plates(), ["浙J7F249", "浙J7K249"]);
}

#[test]
fn the_same_plate_a_minute_later_is_another_sighting() {
    let (mut passages, mut told) = (passages(), Told::default());
    for (t, detection) in approach(0, 0..30).chain(approach(60_000, 0..30)) {
        frame(&mut passages, &mut told, t, &[detection], |w| vec![read_on(&w.vehicle, A)]);
    }
    told.end(&mut passages);
    assert_eq!(told.plates(), [A, A]);
}

#[test]
fn a_track_that_jumps_to_another_vehicle_is_split() {
    let (mut passages, mut told) = (passages(), Told::default());
    for (t, detection) in approach(0, 0..60) {
        let plate = if t < 2000 { A } else { B };
        frame(&mut passages, &mut told, t, &[detection], |w| vec![read_on(&w.vehicle, plate)]);
    }
    told.end(&mut passages);
    assert_eq!(told.plates(), [A, B]);
    assert_eq!(passages.counters().split, 1);
}

#[test]
fn one_stray_read_does_not_split() {
    let (mut passages, mut told) = (passages(), Told::default());
    let mut reads = 0;
    for (t, detection) in approach(0, 0..60) {
        frame(&mut passages, &mut told, t, &[detection], |wish| {
            reads += 1;
            vec![read_on(&wish.vehicle, if reads == 4 { B } else { A })]
        });
    }
    told.end(&mut passages);
    assert_eq!(told.plates(), [A]);
}

#[test]
fn a_parked_vehicle_is_told_once_however_often_it_is_found_again() {
    let (mut passages, mut told) = (passages(), Told::default());
    let mut noise = Noise(4);
    // An hour at 5 frames a second; every 20 s something stands in front for 5 s.
    for i in 0..18_000_i64 {
        let jitter = 2.0 * noise.normal();
        let detections = [car(900.0 + jitter, 600.0 - jitter, 300.0 + jitter)];
        let detections = if (i / 5) % 25 < 20 { &detections[..] } else { &[] };
        frame(&mut passages, &mut told, 200 * i, detections, |w| vec![read_on(&w.vehicle, A)]);
    }
    told.end(&mut passages);
    assert_eq!((told.finals.len(), told.provisionals.len()), (1, 1));
}

#[test]
fn a_vehicle_that_stays_is_told_before_it_leaves_and_again_when_it_left_much_later() {
    for (stays_s, sightings) in [(30, 1), (120, 1), (1200, 2)] {
        let (mut passages, mut told) = (passages(), Told::default());
        let mut t = 0;
        for (at, detection) in approach(0, 0..30) {
            frame(&mut passages, &mut told, at, &[detection], |w| vec![read_on(&w.vehicle, A)]);
            t = at;
        }
        let place = approach(0, 29..30).next().unwrap().1;
        for _ in 0..5 * stays_s {
            t += 200;
            frame(&mut passages, &mut told, t, &[place], |w| vec![read_on(&w.vehicle, A)]);
        }
        assert_eq!(told.finals.len(), usize::from(stays_s > 60), "{stays_s} s");
        for (at, detection) in approach(t + 80 - 80 * 30, 30..60) {
            frame(&mut passages, &mut told, at, &[detection], |w| vec![read_on(&w.vehicle, A)]);
        }
        told.end(&mut passages);
        assert_eq!(told.finals.len(), sightings, "{stays_s} s");
    }
}

#[test]
fn another_vehicle_in_a_parked_ones_place_is_told() {
    let (mut passages, mut told) = (passages(), Told::default());
    for (from, plate) in [(0, A), (20_000, B)] {
        for i in 0..40 {
            frame(&mut passages, &mut told, from + 100 * i, &[car(900.0, 600.0, 300.0)], |w| {
                vec![read_on(&w.vehicle, plate)]
            });
        }
    }
    told.end(&mut passages);
    assert_eq!(told.plates(), [A, B]);
}

#[test]
fn a_better_read_corrects_the_provisional_one() {
    let (mut passages, mut told) = (passages(), Told::default());
    for (t, detection) in approach(0, 0..60) {
        frame(&mut passages, &mut told, t, &[detection], |wish| {
            let near = wish.vehicle.width() > 260.0;
            let (plate, p, sharpness) =
                if near { (A, 0.99, 0.95) } else { ("浙J12845", 0.975, 0.2) };
            let read = read_at(plain_lattice(plate, p), plate_box(&wish.vehicle), None);
            vec![PlateRead { sharpness, ..read }]
        });
    }
    told.end(&mut passages);
    let texts: Vec<_> = told.provisionals.iter().filter_map(|p| p.plate_text()).collect();
    assert_eq!(texts, [&text("浙J12845"), &text(A)]);
    assert_eq!(told.plates(), [A], "one passage, not two");
    assert_eq!(told.provisionals[0].id, told.provisionals[1].id);
}

#[test]
fn time_set_back_ends_everything_and_begins_anew() {
    let (mut passages, mut told) = (passages(), Told::default());
    for (t, detection) in approach(50_000, 0..30).chain(approach(0, 0..30)) {
        frame(&mut passages, &mut told, t, &[detection], |w| vec![read_on(&w.vehicle, A)]);
    }
    told.end(&mut passages);
    assert_eq!(told.plates(), [A, A]);
    let ids: BTreeSet<SightingId> = told.finals.iter().map(|f| f.id).collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn reads_are_budgeted() {
    let (mut passages, mut told) = (passages(), Told::default());
    let crowd: Vec<_> = (0..8).map(|i| car(310.0 * i as f32, 300.0, 280.0)).collect();
    let mut asked: BTreeMap<TrackId, u32> = BTreeMap::new();
    for i in 0..400 {
        let seen = frame(&mut passages, &mut told, 100 * i, &crowd, |_| Vec::new());
        assert!(seen.wishes.len() <= 4);
        assert!(seen.wishes.is_sorted_by(|a, b| a.priority >= b.priority));
        for wish in seen.wishes {
            assert!(wish.region.x1() >= 0.0 && wish.region.y2() <= FRAME.1 as f32);
            *asked.entry(wish.track).or_default() += 1;
        }
        let far = frame(&mut passages, &mut told, 100 * i + 50, &[car(1.0, 1.0, 60.0)], |_| vec![]);
        assert!(far.wishes.iter().all(|w| w.vehicle.width() > 90.0), "too far to be read");
    }
    assert_eq!(asked.len(), 8, "everyone gets a turn");
    assert!(asked.values().all(|n| *n <= 16), "{asked:?}");
}

#[test]
fn late_and_foreign_reads_are_taken_or_counted() {
    let (mut passages, mut told) = (passages(), Told::default());
    let mut wish = None;
    for (t, detection) in approach(0, 0..20) {
        let seen = frame(&mut passages, &mut told, t, &[detection], |_| Vec::new());
        wish = seen.wishes.first().copied().or(wish);
    }
    let (wish, last) = (wish.unwrap(), captured(19 * 80));
    // The track has ended, but its passage is held back: the read still counts.
    frame(&mut passages, &mut told, 19 * 80 + 1500, &[], |_| Vec::new());
    let read = read_on(&approach(0, 19..20).next().unwrap().1.bbox, A);
    let outcome = passages.reads(last, wish.track, std::slice::from_ref(&read), None);
    outcome.best_shot.iter().for_each(|s| told.shot(s));
    frame(&mut passages, &mut told, 19 * 80 + 4000, &[], |_| Vec::new());
    assert_eq!(told.plates(), [A]);
    // Now it is told.
    assert_eq!(passages.reads(last, wish.track, &[read], None), ReadOutcome::default());
    assert_eq!(passages.counters().late_reads, 1);
    told.end(&mut passages);
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Score {
    vehicles: usize,
    /// Vehicles with exactly one final sighting of exactly their plate.
    right: usize,
    /// Further final sightings of a plate already told.
    twins: usize,
    /// Final sightings of a plate that nobody has.
    wrong: usize,
    /// Final sightings without a plate's text.
    unread: usize,
    /// Plates alerted provisionally that nobody has.
    false_alarms: usize,
    reads: usize,
}

/// Plays a scene with a reader whose noise falls with the plate's width in pixels.
fn play(vehicles: &[RoadUser], fps: f32, seed: u64) -> Score {
    let mut noise = Noise(seed);
    let plates: Vec<PlateText> = (0..vehicles.len())
        .map(|i| {
            text(&format!("浙{}{:05}", ['J', 'B', 'A', 'C'][i % 4], 10_007 * (i + 3) % 100_000))
        })
        .collect();
    let (mut passages, mut told) = (passages(), Told::default());
    let mut score = Score { vehicles: vehicles.len(), ..Default::default() };
    let seconds = vehicles.iter().map(|v| v.enters_s).fold(0.0, f32::max) + 8.0;
    for i in 0..(seconds * fps) as u32 {
        let t = i as f32 / fps;
        let detections: Vec<_> = detect(vehicles, t, &mut noise)
            .into_iter()
            .map(|(d, _)| Detection { bbox: d.bbox.scaled(2.0, 2.0), ..d })
            .collect();
        let boxes: Vec<_> = vehicles.iter().map(|v| v.at(t).map(|b| b.scaled(2.0, 2.0))).collect();
        frame(&mut passages, &mut told, (t * 1000.0) as i64, &detections, |wish| {
            score.reads += 1;
            let visible = (0..vehicles.len()).filter_map(|v| {
                let plate = plate_box(&boxes[v]?);
                let hidden = boxes.iter().flatten().any(|b| {
                    b.y2() > boxes[v].map_or(0.0, |b| b.y2()) && plate.covered_by(b) > 0.3
                });
                let inside = plate.covered_by(&wish.region) > 0.95;
                (inside && !hidden && plate.width() > 24.0).then_some((v, plate))
            });
            visible
                .map(|(v, plate)| {
                    let signal = (plate.width() / 22.0).clamp(0.5, 4.5);
                    let lattice = noisy_lattice(&plates[v], signal, &mut noise);
                    let read = read_at(lattice, plate, Some(PlateColour::Blue));
                    PlateRead { sharpness: (plate.width() / 120.0).min(1.0), ..read }
                })
                .collect()
        });
    }
    told.end(&mut passages);
    let mut counts: BTreeMap<&PlateText, usize> = BTreeMap::new();
    for seen in &told.finals {
        match seen.plate_text() {
            Some(plate) if plates.contains(plate) => *counts.entry(plate).or_default() += 1,
            Some(_) => score.wrong += 1,
            None => score.unread += 1,
        }
        if let PlateState::Read(plate) = &seen.plate {
            assert_eq!(plate.kind, Some(PlateKind::Small), "{plate:?}");
        }
    }
    score.right = counts.values().filter(|n| **n == 1).count();
    score.twins = counts.values().map(|n| n - 1).sum();
    score.false_alarms = told
        .provisionals
        .iter()
        .filter_map(|p| p.plate_text())
        .filter(|p| !plates.contains(p))
        .count();
    score
}

/// Golden: a change is to be explained.
#[test]
fn golden_passages_at_four_rates() {
    let pairs = |away: bool| {
        (0..15).flat_map(move |i| {
            let enters = 2.6 * i as f32;
            [(-1.9, enters, 12.0), (1.9, enters + 0.15, 12.6)].map(|(lane, enters, speed)| {
                if away {
                    RoadUser { x: (lane, 0.0), z: (11.0, speed), enters_s: enters }
                } else {
                    approaching(lane, enters, speed)
                }
            })
        })
    };
    let crossings = (0..16).map(|i| {
        let z = if i % 2 == 0 { 15.0 } else { 19.0 };
        crossing(i % 2 == 0, z, 2.4 * (i / 2) as f32, 8.0 + (i % 3) as f32)
    });
    let mut report = String::new();
    for (name, vehicles) in [
        ("approaching", pairs(false).collect::<Vec<_>>()),
        ("receding", pairs(true).collect()),
        ("crossing", crossings.collect()),
    ] {
        for fps in [25.0, 12.5, 5.0, 3.0] {
            let mut sum = Score::default();
            for seed in 0..3 {
                let s = play(&vehicles, fps, seed);
                sum.vehicles += s.vehicles;
                sum.right += s.right;
                sum.twins += s.twins;
                sum.wrong += s.wrong;
                sum.unread += s.unread;
                sum.false_alarms += s.false_alarms;
                sum.reads += s.reads;
            }
            report += &format!("{name:<12}{fps:>5} fps: {sum:?}\n");
        }
    }
    assert_eq!(report, include_str!("../../testdata/passages.txt"), "\n{report}");
}

#[test]
fn what_stands_is_no_news_and_what_comes_or_moves_off_is() {
    let (mut passages, mut told) = (passages(), Told::default());
    let at = |millis| captured(millis).at;
    let news = |passages: &Passages, millis, found: &[Detection]| {
        passages.findings(at(millis), found, false).news
    };
    let parked = car(600.0, 400.0, 300.0);
    assert_eq!(news(&passages, 0, &[parked]), 1);
    for i in 0..30 {
        frame(&mut passages, &mut told, i * 100, &[parked], |_| Vec::new());
    }
    assert_eq!(news(&passages, 3000, &[parked]), 0);
    assert!(passages.follows_standing_only(at(3000)));
    let comes = car(1600.0, 400.0, 300.0);
    let faint = Detection { score: 0.2, ..comes };
    assert_eq!(news(&passages, 3000, &[parked, comes, faint]), 1);
    assert_eq!(news(&passages, 3000, &[car(800.0, 400.0, 300.0)]), 1, "it moved off");
    frame(&mut passages, &mut told, 3000, &[parked, comes], |_| Vec::new());
    assert!(!passages.follows_standing_only(at(3000)));
}

/// A car that entered at 0 and drives away up the picture.
fn receding(millis: i64) -> Detection {
    let distance = 1.0 + millis as f32 / 1000.0;
    car(1000.0 + 400.0 / distance, 100.0 + 800.0 / distance, 800.0 / distance)
}

/// Follows it, read at each look until then.
fn following(until: i64) -> (Passages, Told) {
    let (mut passages, mut told) = (passages(), Told::default());
    for i in 0..=until / 100 {
        let reads = |wish: &ReadWish| vec![read_on(&wish.vehicle, A)];
        frame(&mut passages, &mut told, i * 100, &[receding(i * 100)], reads);
    }
    (passages, told)
}

#[test]
fn what_is_read_and_drives_away_is_known() {
    let at = |millis| captured(millis).at;
    let known = |millis, next: &[Detection]| {
        let (passages, _) = following(millis);
        passages.findings(at(millis + 100), next, false)
    };
    let early = known(200, &[receding(300)]);
    assert_eq!((early.news, early.known_for), (1, None), "three reads are not there yet");
    let later = known(1500, &[receding(1600)]);
    assert_eq!((later.news, later.known_for), (1, Some(Duration::from_millis(1120))));
    let other = car(200.0, 800.0, 500.0);
    assert_eq!(known(1500, &[receding(1600), other]).known_for, None, "another comes");
    assert_eq!(known(1500, &[]).known_for, None, "nothing is there");
}

#[test]
fn a_question_is_answered_by_what_was_not_known() {
    let (passages, _) = following(1500);
    let answer = |millis, found: &[Detection]| {
        let findings = passages.findings(captured(millis).at, found, true);
        (findings.news, findings.known_for.map(|it| it.as_millis()))
    };
    // It has driven on.
    assert_eq!(answer(2500, &[receding(2500)]), (0, Some(1750)));
    // It has gone.
    assert_eq!(answer(2500, &[]), (0, None));
    // Another one behind it, and another one alone, which came since.
    for gap in [0, 500, 900] {
        let follower = receding(2500 - 1500 - gap);
        assert_eq!(answer(2500, &[receding(2500), follower]).0, 1, "{gap}");
        assert_eq!(answer(2500, &[follower]).0, 1, "{gap}");
    }
    // Two where one was known.
    assert_eq!(answer(2500, &[receding(2500), receding(2600)]).0, 1);
    // Beside its way.
    assert_eq!(answer(2500, &[car(300.0, 300.0, 200.0)]).0, 1);
    // So late that one that came since could have driven as far.
    assert_eq!(answer(2600, &[receding(2600)]).0, 1);
}

#[test]
fn a_known_vehicle_is_one_passage_whether_it_is_looked_at_all_the_time_or_not() {
    // So far away, its plate is read as another.
    let misread = |wish: &ReadWish| vec![read_on(&wish.vehicle, B)];
    for resumes in [false, true] {
        let (mut passages, mut told) = following(1900);
        let found = [receding(3200)];
        if resumes {
            passages.resume(captured(3200).at, &found);
        }
        frame(&mut passages, &mut told, 3200, &found, misread);
        frame(&mut passages, &mut told, 3300, &[receding(3300)], misread);
        told.end(&mut passages);
        let spans: Vec<_> = told.finals.iter().map(|it| it.span.duration().as_millis()).collect();
        match resumes {
            true => assert_eq!(spans, [3300]),
            false => assert_eq!(spans, [1900, 100], "what this is for"),
        }
    }
}

#[test]
fn what_comes_nearer_or_is_unread_is_never_known() {
    let (mut passages, mut told) = (passages(), Told::default());
    for i in 0..20 {
        let reads = |wish: &ReadWish| vec![read_on(&wish.vehicle, A)];
        frame(&mut passages, &mut told, i * 100, &[receding(4000 - i * 100)], reads);
    }
    assert!(passages.are_settled());
    let found = passages.findings(captured(2000).at, &[receding(2000)], false);
    assert_eq!((found.news, found.known_for), (1, None));
    let (mut unread, mut told) = (self::passages(), Told::default());
    for i in 0..20 {
        frame(&mut unread, &mut told, i * 100, &[receding(i * 100)], |_| Vec::new());
    }
    assert!(!unread.are_settled());
    assert_eq!(unread.findings(captured(2000).at, &[receding(2000)], false).known_for, None);
}

proptest! {
    /// Whatever the speed and the way: one that came since the known one was last seen is news, wherever it is on that way.
    #[test]
    fn a_follower_is_always_news(
        speed in 0.4f32..3.0,
        gap in 0.0f32..1.0,
        seen_s in 0.9f32..2.0,
        later in 0.05f32..1.5,
        sideways in -600f32..600.0,
    ) {
        let way = |seconds: f32| {
            let distance = 1.0 + speed * seconds;
            let x = 1200.0 + sideways / distance;
            car(x - 400.0 / distance, 100.0 + 800.0 / distance, 800.0 / distance)
        };
        let (mut passages, mut told) = (passages(), Told::default());
        let looks = (seen_s * 10.0) as i64;
        for i in 0..=looks {
            let reads = |wish: &ReadWish| vec![read_on(&wish.vehicle, A)];
            frame(&mut passages, &mut told, i * 100, &[way(i as f32 / 10.0)], reads);
        }
        let seen = looks as f32 / 10.0;
        let now = seen + later * seen;
        // It came after the last look.
        let follower = way((now - seen) * (1.0 - gap));
        let at = captured((now * 1000.0) as i64).at;
        let answer = passages.findings(at, &[follower], true);
        prop_assert_eq!(answer.news, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_comes_every_picture_is_closed_once_and_every_alert_has_its_end(
        steps in prop::collection::vec((
            prop_oneof![0i64..400, -3000i64..3000, Just(0), 0i64..200_000],
            prop::collection::vec((0f32..2400.0, 0f32..1300.0, 1f32..700.0, 0f32..1.0), 0..5),
            0usize..3,
        ), 0..80),
    ) {
        let settings = PassageSettings { held_max: 2, still_max: 2, ..Default::default() };
        let mut passages = Passages::new(settings, &camera_at("k1", 29.0, 121.0));
        let (mut told, mut t) = (Told::default(), 0);
        for (step, boxes, plate) in steps {
            t += step;
            let detections: Vec<_> = boxes
                .into_iter()
                .map(|(x, y, w, score)| Detection { score, ..car(x, y, w) })
                .collect();
            frame(&mut passages, &mut told, t, &detections, |wish| match plate {
                0 => Vec::new(),
                1 => vec![read_on(&wish.vehicle, A)],
                _ => vec![read_on(&wish.vehicle, B), read_on(&wish.region, A)],
            });
            prop_assert!(passages.held.len() <= 2 && passages.live.len() <= 64);
        }
        told.end(&mut passages);
        prop_assert!(passages.live.is_empty() && passages.held.is_empty());
    }
}
