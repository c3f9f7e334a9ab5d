//! Other plate readers on the same photos in the same run: their real packages, in virtual environments of their own.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use guiji_domain::BBox;
use serde::{Deserialize, Serialize};

use super::figures::{Answer, Figures, Outcome, Scope, rounded};
use super::plates::nearest;
use super::route::Cost;

/// A package from PyPI that reads Chinese plates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Peer {
    /// agentclpr 1.1.0: a RetinaFace-like detector and a CRNN, on ONNX Runtime.
    Agentclpr,
    /// hyperlpr2 2.0.0: SSD, refinement and a segmentation-free reader, on OpenCV.
    Hyperlpr2,
}

/// The peers' side of the conversation.
const SCRIPT: &str = include_str!("peers/peer.py");
/// Where the environments are: the folder that `./x` uses, under the working directory.
const ENVIRONMENTS: &str = ".guiji";

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Agentclpr => "agentclpr",
            Self::Hyperlpr2 => "hyperlpr2",
        }
    }

    fn requirements(self) -> &'static str {
        match self {
            Self::Agentclpr => include_str!("peers/agentclpr.txt"),
            Self::Hyperlpr2 => include_str!("peers/hyperlpr2.txt"),
        }
    }

    /// The environment's interpreter; installs the packages once.
    fn interpreter(self) -> Result<PathBuf> {
        let environment = Path::new(ENVIRONMENTS).join(self.name());
        let python = environment.join("bin/python");
        let installed = environment.join("installed.txt");
        if fs::read_to_string(&installed).is_ok_and(|list| list == self.requirements()) {
            return Ok(python);
        }
        eprintln!("installing {} into {} (once)", self.name(), environment.display());
        let list = environment.join("requirements.txt");
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        fs::write(&list, self.requirements())?;
        let mut pip = Command::new(&python);
        run(pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "-r"]).arg(&list))?;
        fs::rename(&list, &installed)?;
        Ok(python)
    }
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status}): it needs Python with venv, and PyPI");
    }
    Ok(())
}

/// A peer at work.
pub(super) struct Baseline {
    peer: Peer,
    process: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Answered {
    plates: Vec<PeerPlate>,
    cpu_s: f64,
}

#[derive(Deserialize)]
struct PeerPlate {
    text: String,
    confidence: f32,
    #[serde(rename = "box")]
    bbox: [f32; 4],
}

/// A peer's figures, defined as ours.
#[derive(Debug, Serialize)]
pub(super) struct BaselineReport {
    pub(super) name: &'static str,
    pub(super) first_plate_exact: f64,
    pub(super) first_plate_exact_interval: [f64; 2],
    pub(super) best_scored_exact: f64,
    pub(super) any_plate_exact: f64,
    pub(super) province_exact: f64,
    pub(super) last6_exact: f64,
    pub(super) detector_recall: f64,
    pub(super) cpu_ms_per_photo: f64,
    /// Its processor time over ours, medians over the photos.
    pub(super) cpu_ratio: f64,
}

impl Baseline {
    /// Starts the peer, installing it first where it is not.
    ///
    /// # Errors
    /// When it cannot be installed or started.
    pub(super) fn start(peer: Peer) -> Result<Self> {
        let mut process = Command::new(peer.interpreter()?)
            .args(["-c", SCRIPT, peer.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", peer.name()))?;
        let asks = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("a peer without output")?);
        Ok(Self { peer, process, asks, answers, outcomes: Vec::new() })
    }

    /// Has it read a photo that we have judged.
    ///
    /// # Errors
    /// When it ends or says what is no answer.
    pub(super) fn take(&mut self, photo: &Path, label: &BBox, ours: &Outcome) -> Result<()> {
        let name = self.peer.name();
        let asks = self.asks.as_mut().context("the peer was told to end")?;
        writeln!(asks, "{}", photo.display())?;
        asks.flush()?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("{name} ended: remove {ENVIRONMENTS}/{name} to have it installed anew");
        }
        let answered: Answered =
            serde_json::from_str(&line).with_context(|| format!("{name} said {line}"))?;
        self.outcomes.push(judge(answered, label, ours));
        Ok(())
    }

    /// What it is worth; `None` without photos.
    pub(super) fn report(&self, ours: &Figures) -> Option<BaselineReport> {
        let figures = Figures::of(&self.outcomes, Scope::Reading)?;
        let reading = figures.reading.as_ref()?;
        Some(BaselineReport {
            name: self.peer.name(),
            first_plate_exact: reading.first_plate_exact,
            first_plate_exact_interval: reading.first_plate_exact_interval,
            best_scored_exact: reading.best_scored_exact,
            any_plate_exact: reading.any_plate_exact,
            province_exact: reading.province_exact,
            last6_exact: reading.last6_exact,
            detector_recall: figures.detector_recall,
            cpu_ms_per_photo: figures.cpu_ms_per_photo,
            cpu_ratio: rounded(figures.cpu_ms_per_photo / ours.cpu_ms_per_photo.max(1e-9), 2),
        })
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        drop(self.asks.take());
        if let Err(error) = self.process.wait() {
            tracing::warn!(%error, peer = self.peer.name(), "the peer does not end");
        }
    }
}

/// The peer's answer by the rules that ours is judged by.
fn judge(answered: Answered, label: &BBox, ours: &Outcome) -> Outcome {
    let plates: Vec<(BBox, String, f32)> = answered
        .plates
        .into_iter()
        .filter_map(|plate| {
            let [x1, y1, x2, y2] = plate.bbox;
            Some((BBox::new(x1, y1, x2, y2)?, plate.text, plate.confidence))
        })
        .collect();
    let conspicuous =
        plates.iter().max_by(|(a, _, p), (b, _, q)| (a.width() * p).total_cmp(&(b.width() * q)));
    Outcome {
        answer: nearest(&plates, label, |(bbox, ..)| *bbox).map(|(iou, (_, text, confidence))| {
            Answer {
                iou,
                text: Some(text.clone()),
                confidence: *confidence,
                likeliest: vec![text.clone()],
                colour: None,
                rows: "",
            }
        }),
        best_scored: conspicuous.map(|(_, text, _)| text.clone()),
        any_exact: plates.iter().any(|(_, text, _)| *text == ours.expected),
        vehicles: 0,
        searched_whole: true,
        cost: Cost { read: Duration::from_secs_f64(answered.cpu_s.max(0.0)), ..Cost::default() },
        ..ours.clone()
    }
}
