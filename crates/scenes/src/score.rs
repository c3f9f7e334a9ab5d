//! Holds what an engine saw against the truth of a served story.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use guiji_domain::Timestamp;

use crate::SceneError;
use crate::truth::{ClipTruth, PassageTruth, StoryTruth};

/// A sighting as its consumer got it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The camera's id.
    pub camera: String,
    /// Capture time.
    pub at: Timestamp,
    /// How far it may be off, as whoever stated it says.
    pub uncertainty: Duration,
    /// The plate, where one was read.
    pub plate: Option<String>,
}

/// How well passages were seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Score {
    /// All passages, and by group (`light day`, `kind small` …).
    pub groups: BTreeMap<String, Tally>,
    /// Sightings that belong to no passage.
    pub extra: Vec<String>,
    /// Passages that nothing was seen of, or whose plate was read wrong, in words.
    pub failures: Vec<String>,
}

/// Counts of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Passages that took place.
    pub passages: u32,
    /// Passages with a sighting.
    pub found: u32,
    /// Passages whose plate was read whole.
    pub whole: u32,
}

impl Tally {
    /// Share of passages found, 0 to 1; 1 of none.
    pub fn recall(&self) -> f64 {
        share(self.found, self.passages)
    }
    /// Share of the passages found whose plate is whole, 0 to 1; 1 of none.
    pub fn plate_accuracy(&self) -> f64 {
        share(self.whole, self.found)
    }
}

fn share(part: u32, of: u32) -> f64 {
    if of == 0 { 1.0 } else { f64::from(part) / f64::from(of) }
}

/// How far a capture time may lie outside the span in view: half a second for the clocks.
const SLACK_NS: i64 = 500_000_000;

/// Scores sightings against the story in a folder.
///
/// Each sighting is given to at most one passage of its camera: exact plates first, then whatever lies within the
/// span in which the vehicle was in view, nearest in time first.
///
/// # Errors
/// When the truth cannot be read, or the story has not been served yet.
pub fn score(folder: &Path, seen: &[Seen]) -> Result<Score, SceneError> {
    let story = StoryTruth::load(folder)?;
    let started = story.started_ns.ok_or_else(|| SceneError::not_served(folder))?;
    let mut score = Score::default();
    for clip in story.clips(folder)? {
        let here: Vec<&Seen> = seen.iter().filter(|s| s.camera == clip.camera).collect();
        score_camera(&mut score, &clip, started, &here);
    }
    Ok(score)
}

/// What rang for one vehicle of a story.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RingScore {
    /// Passages of the vehicle.
    pub passages: u32,
    /// Of these, passages that rang.
    pub rung: u32,
    /// Rings at a time or camera at which the vehicle was not in view, in words.
    pub false_rings: Vec<String>,
}

/// Scores alerts for one vehicle of the story in a folder.
///
/// # Errors
/// As [`score`].
pub fn score_rings(folder: &Path, vehicle: &str, rings: &[Seen]) -> Result<RingScore, SceneError> {
    let story = StoryTruth::load(folder)?;
    let started = story.started_ns.ok_or_else(|| SceneError::not_served(folder))?;
    let mut score = RingScore::default();
    let mut true_rings = vec![false; rings.len()];
    for clip in story.clips(folder)? {
        for passage in clip.passages.iter().filter(|p| p.vehicle == vehicle) {
            let mut rang = false;
            for (ring, is_true) in rings.iter().zip(&mut true_rings) {
                if ring.camera == clip.camera && may_show(passage, ring, started) {
                    (rang, *is_true) = (true, true);
                }
            }
            score.passages += 1;
            score.rung += u32::from(rang);
        }
    }
    let false_rings = rings.iter().zip(&true_rings).filter(|(_, is_true)| !**is_true);
    score.false_rings.extend(false_rings.map(|(ring, _)| in_words(ring, started)));
    Ok(score)
}

/// When the vehicle was in view, nanoseconds of the clip.
fn in_view(passage: &PassageTruth) -> (i64, i64) {
    let nanos = |ms: u64| ms as i64 * 1_000_000;
    (nanos(passage.first_seen_ms), nanos(passage.last_seen_ms))
}

/// Whether the vehicle was in view when this was seen, as well as the time is known. A time that is stated as
/// doubtful (the first seconds of a connection) is not wrong for it.
fn may_show(passage: &PassageTruth, seen: &Seen, started: i64) -> bool {
    let slack = (seen.uncertainty.as_nanos() as i64).max(SLACK_NS);
    let (first, last) = in_view(passage);
    (first - slack..=last + slack).contains(&(seen.at.as_nanos() - started))
}

fn in_words(seen: &Seen, started: i64) -> String {
    let plate = seen.plate.as_deref().unwrap_or("no plate");
    format!("{} {:.1} s: {plate}", seen.camera, (seen.at.as_nanos() - started) as f64 / 1e9)
}

fn score_camera(score: &mut Score, clip: &ClipTruth, started: i64, seen: &[&Seen]) {
    let mut pairs = Vec::new();
    for (p, passage) in clip.passages.iter().enumerate() {
        let (first, last) = in_view(passage);
        for (s, sighting) in seen.iter().enumerate() {
            if may_show(passage, sighting, started) {
                let exact = sighting.plate.as_deref() == Some(&passage.plate);
                let from_middle = sighting.at.as_nanos() - started - (first / 2 + last / 2);
                pairs.push((!exact, from_middle.abs(), p, s));
            }
        }
    }
    pairs.sort_unstable();
    let mut of_passage: Vec<Option<usize>> = vec![None; clip.passages.len()];
    let mut used = vec![false; seen.len()];
    for (_, _, p, s) in pairs {
        if of_passage[p].is_none() && !used[s] {
            of_passage[p] = Some(s);
            used[s] = true;
        }
    }
    for (passage, sighting) in clip.passages.iter().zip(&of_passage) {
        let sighting = sighting.map(|s| seen[s]);
        let whole = sighting.is_some_and(|s| s.plate.as_deref() == Some(&passage.plate));
        let light = format!("light {}", clip.light.as_str());
        for group in ["all".to_owned(), light, format!("kind {}", passage.kind)] {
            let tally = score.groups.entry(group).or_default();
            tally.passages += 1;
            tally.found += u32::from(sighting.is_some());
            tally.whole += u32::from(whole);
        }
        if !whole {
            score.failures.push(failure(&clip.camera, passage, sighting));
        }
    }
    let extra = seen.iter().zip(&used).filter(|(_, used)| !**used).map(|(s, _)| s);
    score.extra.extend(extra.map(|s| in_words(s, started)));
}

fn failure(camera: &str, passage: &PassageTruth, sighting: Option<&Seen>) -> String {
    let read = match sighting {
        None => "not seen".to_owned(),
        Some(Seen { plate: None, .. }) => "plate not read".to_owned(),
        Some(Seen { plate: Some(plate), .. }) => format!("read as {plate}"),
    };
    let (first, last) = (passage.first_seen_ms as f64 / 1e3, passage.last_seen_ms as f64 / 1e3);
    format!("{camera} {first:.1} to {last:.1} s: {} ({}): {read}", passage.plate, passage.kind)
}

impl Score {
    /// All passages together.
    pub fn all(&self) -> Tally {
        self.groups.get("all").copied().unwrap_or_default()
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:>8} {:>7} {:>8} {:>7} {:>7}",
            "", "passages", "found", "", "whole", ""
        )?;
        for (group, tally) in &self.groups {
            writeln!(
                f,
                "{group:<24} {:>8} {:>7} {:>6.1} % {:>7} {:>6.1} %",
                tally.passages,
                tally.found,
                tally.recall() * 100.0,
                tally.whole,
                tally.plate_accuracy() * 100.0,
            )?;
        }
        write!(f, "{} sightings belong to no passage", self.extra.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Light;

    fn passage(plate: &str, first_seen_ms: u64, last_seen_ms: u64) -> PassageTruth {
        PassageTruth {
            vehicle: plate.into(),
            plate: plate.into(),
            kind: "small".into(),
            plate_colour: "blue".into(),
            rows: 1,
            body_colour: "white".into(),
            class: "car".into(),
            heading: "receding".into(),
            lane: 0,
            speed_kmh: 50.0,
            at_reference_ms: 0.0,
            first_seen_ms,
            last_seen_ms,
            readable_ms: None,
            readable_frames: 0,
            track: Vec::new(),
        }
    }

    fn seen(plate: Option<&str>, at_ms: i64) -> Seen {
        Seen {
            camera: "k1".into(),
            at: Timestamp::from_millis(at_ms),
            uncertainty: Duration::ZERO,
            plate: plate.map(str::to_owned),
        }
    }

    #[test]
    fn sightings_are_given_to_passages_once() {
        let clip = ClipTruth {
            camera: "k1".into(),
            width: 1280,
            height: 720,
            fps: 12.5,
            frames: 100,
            light: Light::Day,
            codec: "h264".into(),
            passages: vec![
                passage("浙J11111", 1000, 4000),
                passage("浙J22222", 2000, 5000),
                passage("浙J33333", 6000, 8000),
                passage("浙J44444", 20_000, 22_000),
            ],
        };
        let sightings = [
            seen(Some("浙J22222"), 2400), // within the first one's span too
            seen(Some("浙J11117"), 2500), // one character wrong
            seen(None, 7000),
            seen(Some("浙J33333"), 15_000), // at no such time
        ];
        let mut score = Score::default();
        score_camera(&mut score, &clip, 0, &sightings.iter().collect::<Vec<_>>());
        assert_eq!(score.all(), Tally { passages: 4, found: 3, whole: 1 });
        assert_eq!(score.extra.len(), 1);
        assert_eq!(score.failures.len(), 3);
        assert!(score.failures[0].contains("浙J11111") && score.failures[0].contains("浙J11117"));
    }

    #[test]
    fn a_time_that_is_stated_as_doubtful_is_not_wrong() {
        let passage = passage("浙J11111", 4000, 7000);
        let early = seen(Some("浙J11111"), 2500);
        assert!(!may_show(&passage, &early, 0));
        assert!(may_show(&passage, &Seen { uncertainty: Duration::from_millis(1600), ..early }, 0));
    }
}
