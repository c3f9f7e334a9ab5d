//! `guiji eval clip`: a recording through ingest, vision, engine and an in-memory store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use guiji_domain::{
    BBox, Camera, CameraId, CameraStatus, Detection, Detector, Frame, FrameSink, FrameSource,
    OpenStream, Picture, PlateState, Sighting, Timestamp, VehicleColour, VisionError,
};
use guiji_engine::EngineSettings;
use serde::{Deserialize, Serialize};

use super::figures::rounded;
use super::{ModelArguments, print_json};
use crate::clock::SystemClock;
use crate::config::source_camera;
use crate::recording::Player;

/// Arguments of `guiji eval clip`.
#[derive(Debug, Args)]
pub(crate) struct ClipArguments {
    /// The recording.
    file: PathBuf,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Vehicles counted by eye: a CSV file with frame_index and visible_vehicle_count.
    #[arg(long, value_name = "CSV")]
    counts: Option<PathBuf>,
    #[command(flatten)]
    models: ModelArguments,
}

/// What the command prints.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    models: Vec<String>,
    /// Pictures decoded.
    frames: usize,
    /// Pictures in which vehicles were looked for: those in which something had changed.
    looked_at: usize,
    /// From the first picture to the last, seconds.
    duration_s: f64,
    /// Wall time of it all, seconds.
    wall_s: f64,
    sightings: Vec<Seen>,
    /// Detections second by second, where vehicles were looked for.
    seconds: Vec<Second>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
}

/// One final sighting.
#[derive(Debug, Serialize)]
struct Seen {
    /// From this second of the clip ...
    from_s: f64,
    /// ... to this one.
    to_s: f64,
    /// Frames with a detection.
    frames: u32,
    class: Option<&'static str>,
    colour: Option<&'static str>,
    heading: Option<&'static str>,
    /// `read`, `unreadable` or `not-read`.
    plate_state: &'static str,
    plate: Option<String>,
    confidence: Option<f32>,
}

/// Vehicles detected in one second of the clip.
#[derive(Debug, PartialEq, Serialize)]
struct Second {
    second: u64,
    /// Pictures in which vehicles were looked for.
    looked_at: usize,
    /// Mean over them.
    mean: f64,
    most: usize,
    /// Greatest score of a detection, 0 without any.
    score_max: f32,
}

/// Detections held against counts by eye.
#[derive(Debug, PartialEq, Serialize)]
struct Counts {
    /// Frames that were counted.
    frames: usize,
    /// Of these, with the right number of vehicles.
    equal: usize,
    /// Vehicles by eye, summed over frames.
    expected: usize,
    /// Of these, detected: in each frame at most as many as are there.
    detected: usize,
    /// Detections beyond the vehicles there.
    surplus: usize,
    rows: Vec<CountRow>,
}

#[derive(Debug, PartialEq, Serialize)]
struct CountRow {
    frame: usize,
    expected: usize,
    /// In that frame, or, where nothing had changed, in the last one that was looked at.
    detected: usize,
}

/// A line of the counts file.
#[derive(Debug, Deserialize)]
struct RawCount {
    frame_index: usize,
    visible_vehicle_count: usize,
}

/// Runs the command.
pub(crate) fn run(arguments: &ClipArguments) -> Result<ExitCode> {
    if !arguments.file.is_file() {
        bail!(
            "{}: there is no such file: give a recording (mp4, mkv, ts)",
            arguments.file.display()
        );
    }
    let counts = arguments.counts.as_deref().map(load_counts).transpose()?;
    let report = play(arguments, counts)?;
    if arguments.json {
        print_json(&report)?
    } else {
        print_tables(&report)?
    }
    Ok(ExitCode::SUCCESS)
}

fn play(arguments: &ClipArguments, counts: Option<Vec<RawCount>>) -> Result<Report> {
    let begun = Instant::now();
    let vision = Arc::new(arguments.models.load(EngineSettings::default().workers)?);
    let models = vision.model_ids().into_iter().map(str::to_owned).collect();
    let notes = Arc::new(Notes::default());
    let player = Player::new(vision, Arc::new(SystemClock))?;
    let player = Player {
        source: Arc::new(NotedSource { source: player.source, notes: notes.clone() }),
        detector: Arc::new(NotedDetector { detector: player.detector, notes: notes.clone() }),
        ..player
    };
    // Stated as the beginning of time, so that times of sightings are times in the clip.
    let address = arguments.file.to_string_lossy();
    let sightings = player.play(source_camera("clip", &address, Some(Timestamp::EPOCH))?)?;

    let frames = notes.in_order();
    let length = frames.last().map_or(Duration::ZERO, |(pts, _)| *pts);
    Ok(Report {
        file: address.into_owned(),
        models,
        frames: frames.len(),
        looked_at: frames.iter().filter(|(_, looked)| looked.is_some()).count(),
        duration_s: hundredths(length.as_secs_f64()),
        wall_s: hundredths(begun.elapsed().as_secs_f64()),
        sightings: sightings.iter().map(Seen::from).collect(),
        seconds: by_second(&frames),
        counts: counts.map(|counts| compare(&counts, &frames)).transpose()?,
    })
}

/// A frame by its time in the clip, with what was detected; `None`: it was not looked at.
type Noted = (Duration, Option<LookedAt>);

/// What the detector said of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
struct LookedAt {
    vehicles: usize,
    score_max: f32,
}

impl LookedAt {
    fn of(found: &[Detection]) -> Self {
        let score_max = found.iter().map(|detection| detection.score).fold(0.0, f32::max);
        Self { vehicles: found.len(), score_max }
    }
}

/// What passed the seams.
#[derive(Default)]
struct Notes(Mutex<BTreeMap<Duration, Option<LookedAt>>>);

impl Notes {
    fn frames(&self) -> MutexGuard<'_, BTreeMap<Duration, Option<LookedAt>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_order(&self) -> Vec<Noted> {
        self.frames().iter().map(|(pts, looked)| (*pts, *looked)).collect()
    }
}

/// The real source, with a note of each frame.
struct NotedSource {
    source: Arc<dyn FrameSource>,
    notes: Arc<Notes>,
}

impl FrameSource for NotedSource {
    fn open(&self, camera: &Camera, sink: Arc<dyn FrameSink>) -> Box<dyn OpenStream> {
        self.source.open(camera, Arc::new(NotedSink { sink, notes: self.notes.clone() }))
    }
}

struct NotedSink {
    sink: Arc<dyn FrameSink>,
    notes: Arc<Notes>,
}

impl FrameSink for NotedSink {
    fn frame(&self, frame: Frame) {
        self.notes.frames().entry(frame.pts).or_default();
        self.sink.frame(frame);
    }

    fn status(&self, camera: &CameraId, status: CameraStatus) {
        self.sink.status(camera, status);
    }
}

/// The real detector, with a note of how many vehicles each frame showed.
struct NotedDetector {
    detector: Arc<dyn Detector>,
    notes: Arc<Notes>,
}

impl Detector for NotedDetector {
    fn input_size(&self) -> (u32, u32) {
        self.detector.input_size()
    }

    fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
        let found = self.detector.detect(frames)?;
        let noted =
            frames.iter().zip(&found).map(|(frame, found)| (frame.pts, Some(LookedAt::of(found))));
        self.notes.frames().extend(noted);
        Ok(found)
    }

    fn body_colour(&self, picture: &dyn Picture, vehicle: &BBox) -> Option<(VehicleColour, f32)> {
        self.detector.body_colour(picture, vehicle)
    }
}

impl From<&Sighting> for Seen {
    fn from(sighting: &Sighting) -> Self {
        let plate = match &sighting.plate {
            PlateState::Read(plate) => Some(plate),
            PlateState::Unreadable | PlateState::NotRead => None,
        };
        Self {
            from_s: hundredths(sighting.span.first().as_secs_f64()),
            to_s: hundredths(sighting.span.last().as_secs_f64()),
            frames: sighting.frames,
            class: sighting.vehicle.class.map(|(class, _)| class.as_str()),
            colour: sighting.vehicle.colour.map(|(colour, _)| colour.as_str()),
            heading: sighting.direction.map(|direction| direction.heading.as_str()),
            plate_state: match sighting.plate {
                PlateState::Read(_) => "read",
                PlateState::Unreadable => "unreadable",
                PlateState::NotRead => "not-read",
            },
            plate: plate.map(|plate| plate.text.to_string()),
            confidence: plate.map(|plate| plate.confidence),
        }
    }
}

fn by_second(frames: &[Noted]) -> Vec<Second> {
    let same = frames.chunk_by(|(a, _), (b, _)| a.as_secs() == b.as_secs());
    let second = |frames: &[Noted]| {
        let looked: Vec<LookedAt> = frames.iter().filter_map(|(_, looked)| *looked).collect();
        let vehicles = looked.iter().map(|looked| looked.vehicles);
        let mean = vehicles.clone().sum::<usize>() as f64 / looked.len() as f64;
        Some(Second {
            second: frames.first()?.0.as_secs(),
            looked_at: looked.len(),
            mean: hundredths(mean),
            most: vehicles.max()?,
            score_max: looked.iter().map(|looked| looked.score_max).fold(0.0, f32::max),
        })
    };
    same.filter_map(second).collect()
}

fn load_counts(path: &Path) -> Result<Vec<RawCount>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut table = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    // The parser's messages name line and column.
    let counts: Result<Vec<_>, _> = table.deserialize().collect();
    counts.with_context(|| {
        format!("{}: give the columns frame_index and visible_vehicle_count", path.display())
    })
}

/// # Errors
/// When a frame was counted that the clip does not have.
fn compare(counts: &[RawCount], frames: &[Noted]) -> Result<Counts> {
    let row = |count: &RawCount| {
        let RawCount { frame_index: frame, visible_vehicle_count: expected } = *count;
        let until = frames.get(..=frame).with_context(|| {
            format!(
                "frame {frame} was counted, but the clip has {}: is it another clip's file?",
                frames.len()
            )
        })?;
        let detected =
            until.iter().rev().find_map(|(_, looked)| Some((*looked)?.vehicles)).unwrap_or(0);
        Ok(CountRow { frame, expected, detected })
    };
    let rows: Vec<CountRow> = counts.iter().map(row).collect::<Result<_>>()?;
    Ok(Counts {
        frames: rows.len(),
        equal: rows.iter().filter(|r| r.expected == r.detected).count(),
        expected: rows.iter().map(|r| r.expected).sum(),
        detected: rows.iter().map(|r| r.expected.min(r.detected)).sum(),
        surplus: rows.iter().map(|r| r.detected.saturating_sub(r.expected)).sum(),
        rows,
    })
}

/// Times and means to two digits.
fn hundredths(value: f64) -> f64 {
    rounded(value, 2)
}

fn print_tables(report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "models     {}", report.models.join(", "))?;
    writeln!(
        out,
        "clip       {}: {} frames in {:.1} s; vehicles looked for in {}; took {:.1} s",
        report.file, report.frames, report.duration_s, report.looked_at, report.wall_s
    )?;
    writeln!(out, "sightings  {}", report.sightings.len())?;
    for seen in &report.sightings {
        let plate = match (&seen.plate, seen.confidence) {
            (Some(text), Some(confidence)) => format!("{text} {:.1} %", confidence * 100.0),
            _ => format!("({})", seen.plate_state),
        };
        writeln!(
            out,
            "  {:>6.2} to {:>6.2} s  {:>4} frames  {:<10} {:<10} {:<11} {plate}",
            seen.from_s,
            seen.to_s,
            seen.frames,
            seen.class.unwrap_or("-"),
            seen.colour.unwrap_or("-"),
            seen.heading.unwrap_or("-"),
        )?;
    }
    writeln!(out, "vehicles detected, by second (mean, most, greatest score)")?;
    for second in report.seconds.iter().filter(|second| second.most > 0) {
        writeln!(
            out,
            "  {:>4} s  {:>5.2} {:>3}  {:.2}",
            second.second, second.mean, second.most, second.score_max
        )?;
    }
    if let Some(counts) = &report.counts {
        writeln!(
            out,
            "counted    {} frames, right number in {}; {} of {} vehicles detected, {} surplus",
            counts.frames, counts.equal, counts.detected, counts.expected, counts.surplus
        )?;
        for row in counts.rows.iter().filter(|row| row.expected != row.detected) {
            writeln!(
                out,
                "  frame {:>5}: {} there, {} detected",
                row.frame, row.expected, row.detected
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64, vehicles: Option<usize>) -> Noted {
        let looked = vehicles.map(|vehicles| LookedAt { vehicles, score_max: 0.5 });
        (Duration::from_millis(ms), looked)
    }

    #[test]
    fn seconds_are_those_of_the_clip() {
        let seconds = by_second(&[
            at(0, Some(1)),
            at(300, None),
            at(500, Some(2)),
            at(1500, None),
            at(2100, Some(3)),
        ]);
        assert_eq!(
            seconds,
            [
                Second { second: 0, looked_at: 2, mean: 1.5, most: 2, score_max: 0.5 },
                Second { second: 2, looked_at: 1, mean: 3.0, most: 3, score_max: 0.5 },
            ]
        );
    }

    #[test]
    fn counts_are_held_against_frames() {
        let count =
            |frame_index, visible_vehicle_count| RawCount { frame_index, visible_vehicle_count };
        let frames = [at(0, Some(1)), at(80, None), at(160, Some(2)), at(240, Some(1))];
        let counts = [count(0, 0), count(1, 1), count(2, 2), count(3, 3)];
        let counts = compare(&counts, &frames).unwrap();
        assert_eq!(
            (counts.frames, counts.equal, counts.expected, counts.detected, counts.surplus),
            (4, 2, 6, 4, 1)
        );
        let error = compare(&[count(9, 0)], &frames).unwrap_err().to_string();
        assert!(error.contains("frame 9") && error.contains("4"), "{error}");
        assert!(compare(&[count(0, 0)], &[]).is_err());
    }

    #[test]
    fn a_wrong_counts_file_names_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.csv");
        std::fs::write(&path, "frame_index,visible_vehicle_count,note\n0,1,\n15,many,\n").unwrap();
        let error = format!("{:#}", load_counts(&path).unwrap_err());
        for hint in ["counts.csv", "line: 3", "visible_vehicle_count"] {
            assert!(error.contains(hint), "{error}");
        }
    }
}
