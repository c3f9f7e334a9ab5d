//! `guiji eval scenes`: composed clips with exact truth, decoded as a camera's, and what fusion over frames gains.
//!
//! The plates are read where the truth says the vehicles are: this measures plates, not the finding of vehicles. Each
//! vehicle is looked at when its plate is about 40, 50, 60 and 80 pixels wide.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use guiji_analysis::fusion::PlateFusion;
use guiji_analysis::passage::PassageSettings;
use guiji_domain::{
    BBox, CameraId, CameraState, CameraStatus, Detector as _, Frame, FrameSink, FrameSource as _,
    Pace, PixelFormat, Point, Quad, Timestamp,
};
use guiji_ingest::{GstSource, IngestSettings};
use guiji_vision::Vision;
use serde::{Deserialize, Serialize};

use super::figures::{self, Bin, Figures, Kept, Outcome, Scope, rounded};
use super::labels::Label;
use super::plates::{judge, nearest};
use super::route::{Found, Route, Way};
use super::{ModelArguments, output, print_json};
use crate::clock::SystemClock;
use crate::config::source_camera;

/// Arguments of `guiji eval scenes`.
#[derive(Debug, Args)]
pub(crate) struct ScenesArguments {
    /// A folder made by `guiji-scenes compose`: clips/ID.mp4 and truth/ID.json.
    folder: PathBuf,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    models: ModelArguments,
}

/// Plate widths at which vehicles are looked at, pixels.
const WIDTHS: [u16; 4] = [40, 50, 60, 80];
/// A plate counts for a width when it is at most this share wider or narrower.
const WIDTH_SLACK: f32 = 0.1;
/// Most frames of a passage at one width, evenly over those that there are.
const FRAMES_MAX: usize = 5;
/// Fusion is measured where at least this many frames are at hand.
const FRAMES_MIN: usize = 3;
/// Plates of which less is seen are hidden by something.
const VISIBLE_MIN: f32 = 0.999;
/// Frames that wait to be read; the decoder then waits too.
const QUEUE: usize = 2;
/// How long a clip may give neither frame nor end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the command prints.
#[derive(Debug, Serialize)]
struct Report {
    models: Vec<String>,
    /// Different vehicles at different cameras.
    passages: usize,
    /// The figures of single frames: a photo is a plate in a frame.
    #[serde(flatten)]
    figures: Figures,
    reliability: Vec<Bin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
    /// Several frames of a passage against one, by plate width; `all` is all of them.
    fusion: BTreeMap<String, Fusion>,
    /// The figures of single frames for parts of them: by what, then by which.
    by: BTreeMap<&'static str, BTreeMap<String, Figures>>,
}

/// What several frames of one passage at one plate width say together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
struct Fusion {
    /// Passages with at least three frames at that width.
    passages: usize,
    /// Mean over their frames: whole plates read right.
    frame_exact: f64,
    /// Of the passages, those whose surest frame is read right.
    best_frame_exact: f64,
    /// Of the passages, those whose fused frames are read right.
    fused_exact: f64,
    /// Of the answers that fusion gives, those that are right.
    fused_right_of_answered: f64,
}

/// `truth/ID.json`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct ClipTruth {
    camera: String,
    light: String,
    passages: Vec<PassageTruth>,
}

#[derive(Debug, Deserialize)]
struct PassageTruth {
    plate: String,
    kind: String,
    plate_colour: String,
    rows: u8,
    track: Vec<FrameTruth>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct FrameTruth {
    pts_ms: u64,
    vehicle: [f32; 4],
    plate: [[f32; 2]; 4],
    plate_visible: f32,
}

impl FrameTruth {
    fn plate(&self) -> Quad {
        Quad(self.plate.map(|[x, y]| Point { x, y }))
    }
}

/// A plate to be read in a frame.
#[derive(Debug)]
struct Wish {
    passage: usize,
    width: u16,
    truth: FrameTruth,
}

/// A plate that was read in a frame.
#[derive(Debug)]
struct Read {
    /// Which passage of all clips.
    passage: (usize, usize),
    width: u16,
    kind: String,
    light: String,
    outcome: Outcome,
    found: Option<Found>,
}

/// Runs the command.
pub(crate) fn run(arguments: &ScenesArguments) -> Result<ExitCode> {
    let truths = load_truths(&arguments.folder)?;
    let vision = arguments.models.load(1)?;
    let mut reads = Vec::new();
    for (clip, truth) in truths.iter().enumerate() {
        let file = arguments.folder.join("clips").join(format!("{}.mp4", truth.camera));
        let read = read_clip(&vision, &file, clip, truth);
        reads.extend(read.with_context(|| file.display().to_string())?);
    }
    let report = Report::of(&reads, &vision).context(
        "no plate is ever 36 to 88 pixels wide and unhidden: compose a story with more vehicles",
    )?;
    match arguments.json {
        true => print_json(&report)?,
        false => print_tables(&report)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load_truths(folder: &Path) -> Result<Vec<ClipTruth>> {
    let truth = folder.join("truth");
    let entries = fs::read_dir(&truth).with_context(|| {
        format!("open {}: give a folder that `guiji-scenes compose` made", truth.display())
    })?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let load = |file: PathBuf| {
        let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| {
            format!("{} is no truth of a clip: compose the story again", file.display())
        })
    };
    files.into_iter().map(load).collect()
}

/// What is read in which frame, by the frame's time.
fn wishes(truth: &ClipTruth) -> HashMap<u64, Vec<Wish>> {
    let mut wishes: HashMap<u64, Vec<Wish>> = HashMap::new();
    for (passage, seen) in truth.passages.iter().enumerate() {
        for width in WIDTHS {
            let wanted = f32::from(width);
            let fits = |frame: &&FrameTruth| {
                frame.plate_visible >= VISIBLE_MIN
                    && (frame.plate().width() / wanted - 1.0).abs() <= WIDTH_SLACK
            };
            let frames: Vec<_> = seen.track.iter().filter(fits).collect();
            let count = frames.len().min(FRAMES_MAX);
            for i in 0..count {
                let truth = *frames[i * (frames.len() - 1) / (count - 1).max(1)];
                wishes.entry(truth.pts_ms).or_default().push(Wish { passage, width, truth });
            }
        }
    }
    wishes
}

fn read_clip(vision: &Vision, file: &Path, clip: usize, truth: &ClipTruth) -> Result<Vec<Read>> {
    let mut wishes = wishes(truth);
    let route = Route {
        detector: vision,
        reader: vision,
        settings: PassageSettings::default(),
        way: Way::Vehicles,
    };
    let ingest = IngestSettings::new(vision.input_size(), PixelFormat::Bgr);
    let source = GstSource::new(ingest, Arc::new(SystemClock))?;
    let mut camera = source_camera("clip", &file.to_string_lossy(), Some(Timestamp::EPOCH))?;
    camera.pace = Pace::AsFastAsPossible;
    camera.analysed_fps_max = f64::from(u8::MAX);
    let (sender, happened) = sync_channel(QUEUE);
    let stream = source.open(&camera, Arc::new(Forward(sender)));
    let mut reads = Vec::new();
    while let Some(frame) = next_frame(&happened)? {
        let pts_ms = (frame.pts.as_secs_f64() * 1e3).round() as u64;
        for wish in wishes.remove(&pts_ms).unwrap_or_default() {
            reads.push(read_plate(&route, &frame, clip, truth, &wish)?);
        }
    }
    drop(happened); // a sink that waits to hand over ends now
    drop(stream);
    if !wishes.is_empty() {
        bail!("{} frames of the truth are not in the clip: compose the story again", wishes.len());
    }
    Ok(reads)
}

fn read_plate(
    route: &Route<'_>,
    frame: &Frame,
    clip: usize,
    truth: &ClipTruth,
    wish: &Wish,
) -> Result<Read> {
    let passage = &truth.passages[wish.passage];
    let [x1, y1, x2, y2] = wish.truth.vehicle;
    let vehicle = BBox::new(x1, y1, x2, y2).context("a vehicle of the truth has no size")?;
    let label = Label {
        line: 0,
        photo: format!("{} {}", truth.camera, wish.truth.pts_ms),
        text: passage.plate.clone(),
        colour: passage.plate_colour.clone(),
        rows: passage.rows.to_string(),
        bbox: wish.truth.plate().bbox().context("a plate of the truth has no size")?,
    };
    let seen = route.look_into(&frame.full, vehicle)?;
    Ok(Read {
        passage: (clip, wish.passage),
        width: wish.width,
        kind: passage.kind.clone(),
        light: truth.light.clone(),
        outcome: judge(&label, &seen, 0.0),
        found: nearest(&seen.found, &label.bbox, |found| found.bbox).map(|(_, f)| f.clone()),
    })
}

/// What a clip gave.
enum Happened {
    Frame(Frame),
    Status(CameraStatus),
}

/// Hands frames over to the thread that reads; the decoder waits for it.
struct Forward(SyncSender<Happened>);

impl FrameSink for Forward {
    fn frame(&self, frame: Frame) {
        // An error means that nobody reads any more: the clip is being closed.
        drop(self.0.send(Happened::Frame(frame)));
    }

    fn status(&self, _: &CameraId, status: CameraStatus) {
        drop(self.0.send(Happened::Status(status)));
    }
}

/// The next frame; `None` at the end.
fn next_frame(happened: &Receiver<Happened>) -> Result<Option<Frame>> {
    loop {
        match happened.recv_timeout(PATIENCE).context("the clip gives no more frames")? {
            Happened::Frame(frame) => return Ok(Some(frame)),
            Happened::Status(status) => match status.state {
                CameraState::Ended => return Ok(None),
                CameraState::Misconfigured | CameraState::Refused | CameraState::Disabled => {
                    bail!("it cannot be played: {}", status.detail)
                }
                _ => {}
            },
        }
    }
}

impl Report {
    /// `None` without reads.
    fn of(reads: &[Read], vision: &Vision) -> Option<Self> {
        let figures = Figures::of(reads.iter().map(|read| &read.outcome), Scope::Reading)?;
        let answers = figures::answers(reads.iter().map(|read| &read.outcome));
        let mut passages: Vec<_> = reads.iter().map(|read| read.passage).collect();
        passages.sort_unstable();
        passages.dedup();
        Some(Self {
            models: vision.model_ids().into_iter().map(str::to_owned).collect(),
            passages: passages.len(),
            figures,
            reliability: figures::reliability(&answers),
            kept: figures::kept(answers),
            fusion: fusion(reads),
            by: by(reads),
        })
    }
}

fn by(reads: &[Read]) -> BTreeMap<&'static str, BTreeMap<String, Figures>> {
    type Part = fn(&Read) -> String;
    let parts: [(&'static str, Part); 5] = [
        ("width", |read| read.width.to_string()),
        ("light", |read| read.light.clone()),
        ("colour", |read| read.outcome.colour.clone()),
        ("rows", |read| read.outcome.rows.clone()),
        ("kind", |read| read.kind.clone()),
    ];
    let split = |part: Part| {
        let mut groups: BTreeMap<String, Vec<&Outcome>> = BTreeMap::new();
        for read in reads {
            groups.entry(part(read)).or_default().push(&read.outcome);
        }
        let figures = |(name, group)| Some((name, Figures::of::<'_>(group, Scope::Reading)?));
        groups.into_iter().filter_map(figures).collect()
    };
    parts.into_iter().map(|(name, part)| (name, split(part))).collect()
}

fn fusion(reads: &[Read]) -> BTreeMap<String, Fusion> {
    let mut groups: BTreeMap<(u16, (usize, usize)), Vec<&Read>> = BTreeMap::new();
    for read in reads {
        groups.entry((read.width, read.passage)).or_default().push(read);
    }
    groups.retain(|_, frames| frames.len() >= FRAMES_MIN);
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for ((width, _), frames) in &groups {
        for name in [width.to_string(), "all".to_owned()] {
            tallies.entry(name).or_default().add(frames);
        }
    }
    tallies.into_iter().map(|(name, tally)| (name, tally.fusion())).collect()
}

/// Counts of passages.
#[derive(Default)]
struct Tally {
    passages: usize,
    frame_share: f64,
    best_frame: usize,
    fused: usize,
    answered: usize,
}

impl Tally {
    fn add(&mut self, frames: &[&Read]) {
        let exact = frames.iter().filter(|read| read.outcome.exact()).count();
        let confidence =
            |read: &&&Read| read.outcome.answer.as_ref().map_or(0.0, |answer| answer.confidence);
        let best = frames.iter().max_by(|a, b| confidence(a).total_cmp(&confidence(b)));
        let mut fusion = PlateFusion::new(PassageSettings::default().fusion);
        frames.iter().filter_map(|read| read.found.as_ref()).for_each(|f| fusion.add(&f.read));
        let fused = fusion.plate().map(|plate| plate.text.to_string());
        self.passages += 1;
        self.frame_share += exact as f64 / frames.len() as f64;
        self.best_frame += usize::from(best.is_some_and(|read| read.outcome.exact()));
        self.answered += usize::from(fused.is_some());
        self.fused += usize::from(fused.is_some_and(|t| t == frames[0].outcome.expected));
    }

    fn fusion(&self) -> Fusion {
        let share = |count: f64, of: usize| rounded(count / of.max(1) as f64, 4);
        Fusion {
            passages: self.passages,
            frame_exact: share(self.frame_share, self.passages),
            best_frame_exact: share(self.best_frame as f64, self.passages),
            fused_exact: share(self.fused as f64, self.passages),
            fused_right_of_answered: share(self.fused as f64, self.answered),
        }
    }
}

fn print_tables(report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "models   {}", report.models.join(", "))?;
    writeln!(out, "passages {}, plates in frames {}\n", report.passages, report.figures.photos)?;
    output::print_figures(&mut out, &report.figures, &report.by)?;
    if let Some(kept) = &report.kept {
        output::print_kept(&mut out, kept)?;
    }
    output::print_reliability(&mut out, &report.reliability)?;
    writeln!(
        out,
        "\n{:<8} {:>8} {:>9} {:>10} {:>7} {:>17}",
        "fusion", "passages", "a frame", "best frame", "fused", "right of answered"
    )?;
    for (width, fusion) in &report.fusion {
        writeln!(
            out,
            "{width:<8} {:>8} {:>9.1} {:>10.1} {:>7.1} {:>17.1}",
            fusion.passages,
            fusion.frame_exact * 100.0,
            fusion.best_frame_exact * 100.0,
            fusion.fused_exact * 100.0,
            fusion.fused_right_of_answered * 100.0
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use guiji_domain::{Lattice, PlateColour, PlateRead, PlateRows, PlateText};

    use super::*;
    use crate::eval::figures::tests::outcome;

    fn frame(pts_ms: u64, width: f32, plate_visible: f32) -> FrameTruth {
        let plate = [[0.0, 0.0], [width, 0.0], [width, width / 3.0], [0.0, width / 3.0]];
        FrameTruth { pts_ms, vehicle: [0.0, 0.0, 300.0, 200.0], plate, plate_visible }
    }

    fn truth(track: Vec<FrameTruth>) -> ClipTruth {
        let passage = PassageTruth {
            plate: "浙J12345".into(),
            kind: "small".into(),
            plate_colour: "blue".into(),
            rows: 1,
            track,
        };
        ClipTruth { camera: "a".into(), light: "day".into(), passages: vec![passage] }
    }

    fn read(width: u16, exact: bool, confidence: f32) -> Read {
        let text = if exact { "浙J12345" } else { "浙J12346" };
        let bbox = BBox::new(0.0, 0.0, 60.0, 20.0).unwrap();
        let read = PlateRead {
            lattice: Lattice::certain(&PlateText::parse(text).unwrap()),
            rows: (PlateRows::One, 0.9),
            colour: Some((PlateColour::Blue, 0.9)),
            corners: Quad::from_bbox(&bbox),
            detector_score: 0.9,
            sharpness: confidence,
        };
        Read {
            passage: (0, 0),
            width,
            kind: "small".into(),
            light: "day".into(),
            outcome: outcome("浙J12345", Some(text), confidence),
            found: Some(Found { bbox, read, plate: None }),
        }
    }

    #[test]
    fn each_width_is_looked_at_in_a_few_frames_spread_over_those_there_are() {
        let mut track: Vec<_> = (0..9).map(|i| frame(i * 80, 39.0, 1.0)).collect();
        track.push(frame(800, 60.0, 0.5)); // hidden
        track.push(frame(900, 80.0, 1.0));
        track.push(frame(1000, 100.0, 1.0)); // no width that counts
        let wishes = wishes(&truth(track));
        let mut times: Vec<_> = wishes.iter().map(|(pts, w)| (*pts, w[0].width)).collect();
        times.sort_unstable();
        assert_eq!(times, [(0, 40), (160, 40), (320, 40), (480, 40), (640, 40), (900, 80)]);
    }

    #[test]
    fn several_frames_are_held_against_one() {
        // Two right and sharp, one wrong and blurred; two frames are too few to count.
        let reads = [
            read(40, true, 0.9),
            read(40, true, 0.8),
            read(40, false, 0.3),
            read(50, true, 0.9),
            read(50, true, 0.9),
        ];
        let found = fusion(&reads);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["40", "all"]);
        let expected = Fusion {
            passages: 1,
            frame_exact: 0.6667,
            best_frame_exact: 1.0,
            fused_exact: 1.0,
            fused_right_of_answered: 1.0,
        };
        assert_eq!(found["40"], expected);
    }

    #[test]
    fn a_folder_without_truth_says_what_to_give() {
        let error = load_truths(Path::new("nowhere")).unwrap_err().to_string();
        assert!(error.contains("guiji-scenes compose"), "{error}");
    }
}
