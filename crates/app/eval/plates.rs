//! `guiji eval plates`: a folder of labelled photos.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use guiji_analysis::passage::PassageSettings;
use guiji_domain::{BBox, OwnedPicture, Picture as _, PlateRows};
use guiji_vision::load_picture;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::baseline::{Baseline, BaselineReport, Peer};
use super::contact_sheet::Failure;
use super::figures::{
    Answer, Bin, Confusion, Figures, Kept, Outcome, PositionScore, Scope, Stages,
};
use super::labels::{Label, Task, load_boxes, load_labels};
use super::route::{Found, Route, Seen, Way};
use super::{ModelArguments, figures, output, print_json};

/// Arguments of `guiji eval plates`.
#[derive(Debug, Args)]
pub(crate) struct PlatesArguments {
    /// The folder: photos, labels.csv and, if all plates are labelled, boxes_all.csv.
    folder: PathBuf,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Leave tables and pictures of every failure in this folder. They show real plates: keep them to yourself.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Ask only where the plates are: for foreign ones, or labels without colour and rows.
    #[arg(long)]
    only_detection: bool,
    /// Look into the vehicles that are found, as the engine does with a camera's frames, before the whole photo.
    #[arg(long)]
    by_vehicles: bool,
    /// Another reader's real package on the same photos, to compare with.
    #[arg(long, value_name = "NAME", conflicts_with = "only_detection")]
    baseline: Option<Peer>,
    #[command(flatten)]
    models: ModelArguments,
}

/// A read that overlaps the label less than this is of another plate.
const AT_LABEL_IOU: f32 = 0.3;
/// Overlap from which on a labelled plate counts as found.
const FOUND_IOU: f32 = 0.5;
/// How many texts of a lattice are looked at.
const LIKELIEST: usize = 5;
/// How many confusions are reported; the file has all.
const CONFUSIONS_MAX: usize = 20;
/// Surroundings of a plate that tell the light, as a share of its size on every side.
const LIGHT_MARGIN: f32 = 1.0;

/// What the command prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Photos left out because their first plate has a `?`.
    pub(super) skipped: usize,
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// Ids of vehicle detector, plate detector, plate corners and reader.
    pub(super) models: Vec<String>,
    /// Share of photos in which no vehicle contained a plate.
    pub(super) searched_whole: f64,
    pub(super) cpu_ms_by_stage: Stages,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) all_plates: Option<AllPlates>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) positions: Vec<PositionScore>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) reliability: Vec<Bin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<Kept>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) confusions: Vec<Confusion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) baseline: Option<BaselineReport>,
    /// The same figures for parts of the photos: by what, then by which.
    pub(super) by: BTreeMap<&'static str, BTreeMap<String, Figures>>,
}

/// Detection held against every labelled plate, not only the first.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(super) struct AllPlates {
    /// Labelled.
    pub(super) labelled: usize,
    /// Of these, found with IoU of at least 0.5.
    pub(super) found: usize,
    /// Found plates at no label: not all plates in the background are labelled, so these need not be wrong.
    pub(super) elsewhere: usize,
    /// Of what was found, the share at a label: the precision, or less where plates are not labelled.
    pub(super) precision_min: f64,
}

/// Runs the command.
pub(crate) fn run(arguments: &PlatesArguments) -> Result<ExitCode> {
    let (task, scope) = match arguments.only_detection {
        true => (Task::Detection, Scope::Detection),
        false => (Task::Reading, Scope::Reading),
    };
    let labels = load_labels(&arguments.folder, task)?;
    let boxes = load_boxes(&arguments.folder)?;
    let vision = arguments.models.load(1)?;
    let way = if arguments.by_vehicles { Way::Vehicles } else { Way::Whole };
    let settings = PassageSettings::default();
    let route = Route { detector: &vision, reader: &vision, settings, way };

    let baseline = arguments.baseline.map(Baseline::start).transpose()?;
    let mut examined = Examined { baseline, ..Examined::default() };
    let progress = progress(labels.len());
    for label in &labels {
        progress.inc(1);
        if scope == Scope::Reading && label.unclear() {
            examined.skipped += 1;
            continue;
        }
        examined.take(arguments, &route, label, boxes.as_ref(), scope)?;
    }
    progress.finish_and_clear();

    let report =
        examined.report(scope, vision.model_ids().into_iter().map(str::to_owned).collect())?;
    if let Some(folder) = &arguments.out {
        output::write_folder(folder, &report, &examined.outcomes, &examined.failures)?;
    }
    if arguments.json {
        print_json(&report)?
    } else {
        output::print_tables(&report)?
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known so far.
#[derive(Default)]
struct Examined {
    skipped: usize,
    outcomes: Vec<Outcome>,
    failures: Vec<Failure>,
    all_plates: Option<AllPlates>,
    baseline: Option<Baseline>,
}

impl Examined {
    fn take(
        &mut self,
        arguments: &PlatesArguments,
        route: &Route<'_>,
        label: &Label,
        boxes: Option<&HashMap<String, Vec<BBox>>>,
        scope: Scope,
    ) -> Result<()> {
        let path = arguments.folder.join(&label.photo);
        let picture = load_picture(&path).with_context(|| {
            format!("labels.csv, line {}: put the photo there, or take the line out", label.line)
        })?;
        // Pictures of failures are cut afterwards; only then is a second copy needed.
        let kept = arguments.out.is_some().then(|| picture.clone());
        let luma = light(&picture, &label.bbox);
        let seen = route.take(picture).with_context(|| path.display().to_string())?;
        let outcome = judge(label, &seen, luma);
        if let Some(baseline) = &mut self.baseline {
            baseline.take(&path, &label.bbox, &outcome)?;
        }
        if let Some(boxes) = boxes.and_then(|boxes| boxes.get(&label.photo)) {
            let so_far = self.all_plates.get_or_insert_default();
            so_far.add(boxes, &seen.found);
        }
        let failed = match scope {
            Scope::Reading => !outcome.exact(),
            Scope::Detection => !outcome.found(),
        };
        if failed && let Some(picture) = kept {
            self.failures.extend(Failure::cut(&outcome, &label.bbox, &picture));
        }
        self.outcomes.push(outcome);
        Ok(())
    }

    fn report(&self, scope: Scope, models: Vec<String>) -> Result<Report> {
        let outcomes = &self.outcomes;
        let figures = Figures::of(outcomes, scope)
            .context("every photo is skipped: give one whose first plate has no ?")?;
        let whole = outcomes.iter().filter(|o| o.searched_whole).count();
        let answers = figures::answers(outcomes);
        let reading = scope == Scope::Reading;
        let mut confusions = figures::confusions(outcomes);
        confusions.truncate(CONFUSIONS_MAX);
        let baseline = self.baseline.as_ref().and_then(|baseline| baseline.report(&figures));
        Ok(Report {
            skipped: self.skipped,
            baseline,
            figures,
            models,
            searched_whole: figures::rounded(whole as f64 / outcomes.len() as f64, 4),
            cpu_ms_by_stage: figures::stages(outcomes),
            all_plates: self.all_plates,
            positions: if reading { figures::positions(outcomes) } else { Vec::new() },
            reliability: if reading { figures::reliability(&answers) } else { Vec::new() },
            kept: figures::kept(answers).filter(|_| reading),
            confusions: if reading { confusions } else { Vec::new() },
            by: by(outcomes, scope),
        })
    }
}

impl AllPlates {
    fn add(&mut self, labelled: &[BBox], found: &[Found]) {
        let at = |a: &BBox, b: &BBox| a.iou(b) >= FOUND_IOU;
        self.labelled += labelled.len();
        self.found += labelled.iter().filter(|l| found.iter().any(|f| at(l, &f.bbox))).count();
        self.elsewhere += found.iter().filter(|f| !labelled.iter().any(|l| at(l, &f.bbox))).count();
        let all = (self.found + self.elsewhere).max(1);
        self.precision_min = figures::rounded(self.found as f64 / all as f64, 4);
    }
}

/// What overlaps the label best and well enough to be that plate, with the overlap.
pub(super) fn nearest<'f, F>(
    found: &'f [F],
    label: &BBox,
    bbox: impl Fn(&F) -> BBox,
) -> Option<(f32, &'f F)> {
    let overlaps = found.iter().map(|found| (bbox(found).iou(label), found));
    overlaps.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(iou, _)| *iou >= AT_LABEL_IOU)
}

pub(super) fn judge(label: &Label, seen: &Seen, luma: f32) -> Outcome {
    let nearest = nearest(&seen.found, &label.bbox, |found| found.bbox);
    let text = |found: &Found| found.plate.as_ref().map(|plate| plate.text.to_string());
    Outcome {
        photo: label.photo.clone(),
        expected: label.text.clone(),
        colour: label.colour.clone(),
        rows: label.rows.clone(),
        width: label.bbox.width(),
        luma,
        answer: nearest.map(|(iou, found)| Answer {
            iou,
            text: text(found),
            confidence: found.plate.as_ref().map_or(0.0, |plate| plate.confidence),
            likeliest: found.plate.as_ref().map_or_else(Vec::new, |plate| {
                let texts = plate.lattice.top_texts(LIKELIEST).into_iter();
                texts.map(|(text, _)| text.to_string()).collect()
            }),
            colour: found.read.colour.map(|(colour, _)| colour.to_string()),
            rows: match found.read.rows.0 {
                PlateRows::One => "1",
                PlateRows::Two => "2",
            },
        }),
        best_scored: seen.found.first().and_then(text),
        any_exact: seen.found.iter().any(|found| text(found).as_deref() == Some(&label.text)),
        vehicles: seen.vehicles.len(),
        searched_whole: seen.searched_whole,
        cost: seen.cost,
    }
}

/// Mean luma (BT.601) of the plate's surroundings, 0 to 255.
fn light(picture: &OwnedPicture, plate: &BBox) -> f32 {
    let around = plate.padded(LIGHT_MARGIN).clipped(picture.width(), picture.height());
    let Some(around) = around else { return 0.0 };
    let (x1, x2) = (around.x1() as usize, around.x2() as usize);
    let (y1, y2) = (around.y1() as usize, around.y2() as usize);
    let (pixels, stride) = (picture.plane(0), picture.stride(0));
    let rows = pixels.chunks_exact(stride).take(y2).skip(y1);
    let values = rows.flat_map(|row| row.as_chunks::<3>().0.iter().take(x2).skip(x1));
    let (sum, count) = values.fold((0.0_f64, 0usize), |(sum, count), [r, g, b]| {
        let luma = 0.299 * f64::from(*r) + 0.587 * f64::from(*g) + 0.114 * f64::from(*b);
        (sum + luma, count + 1)
    });
    (sum / count.max(1) as f64) as f32
}

fn by(outcomes: &[Outcome], scope: Scope) -> BTreeMap<&'static str, BTreeMap<String, Figures>> {
    type Part = fn(&Outcome) -> String;
    let mut parts: Vec<(&'static str, Part)> =
        vec![("width", |o| width_word(o.width).into()), ("light", |o| light_word(o.luma).into())];
    if scope == Scope::Reading {
        parts.push(("colour", |o| o.colour.clone()));
        parts.push(("rows", |o| o.rows.clone()));
    }
    let split = |part: Part| {
        let mut groups: BTreeMap<String, Vec<&Outcome>> = BTreeMap::new();
        for outcome in outcomes {
            groups.entry(part(outcome)).or_default().push(outcome);
        }
        let figures = |(name, group)| Some((name, Figures::of::<'_>(group, scope)?));
        groups.into_iter().filter_map(figures).collect()
    };
    parts.into_iter().map(|(name, part)| (name, split(part))).collect()
}

fn width_word(width: f32) -> &'static str {
    match width {
        w if w < 75.0 => "below-75-px",
        w if w < 120.0 => "75-to-120-px",
        _ => "from-120-px",
    }
}

fn light_word(luma: f32) -> &'static str {
    match luma {
        l if l < 60.0 => "dark",
        l if l < 110.0 => "dim",
        _ => "bright",
    }
}

fn progress(photos: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} photos, {eta} left");
    // Hidden by itself where standard error is no terminal.
    ProgressBar::new(photos as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use guiji_domain::{Lattice, PlateColour, PlateRead, PlateText, Quad};

    use super::*;
    use crate::eval::route::Cost;

    fn at(x: f32, y: f32, w: f32, h: f32) -> BBox {
        BBox::new(x, y, x + w, y + h).unwrap()
    }

    fn found(bbox: BBox) -> Found {
        let read = PlateRead {
            lattice: Lattice::certain(&PlateText::parse("浙J12345").unwrap()),
            rows: (PlateRows::One, 0.9),
            colour: Some((PlateColour::Blue, 0.9)),
            corners: Quad::from_bbox(&bbox),
            detector_score: 0.9,
            sharpness: 0.5,
        };
        Found { bbox, read, plate: None }
    }

    fn seen(found: Vec<Found>) -> Seen {
        Seen { vehicles: Vec::new(), searched_whole: true, found, cost: Cost::default() }
    }

    #[test]
    fn the_plate_at_the_label_answers_and_no_other() {
        let label = Label {
            line: 2,
            photo: "a.jpg".into(),
            text: "浙J12345".into(),
            colour: "blue".into(),
            rows: "1".into(),
            bbox: at(100.0, 100.0, 100.0, 30.0),
        };
        let elsewhere = found(at(400.0, 100.0, 100.0, 30.0));
        let near = found(at(110.0, 100.0, 100.0, 30.0));
        assert_eq!(judge(&label, &seen(vec![elsewhere.clone()]), 0.0).answer, None);
        let outcome = judge(&label, &seen(vec![elsewhere, near]), 0.0);
        let answer = outcome.answer.clone().unwrap();
        assert!(answer.iou > 0.8 && outcome.found());
        assert_eq!((answer.text, outcome.best_scored), (None, None), "unreadable is no answer");
    }

    #[test]
    fn every_labelled_plate_counts_once() {
        let mut all = AllPlates::default();
        all.add(
            &[at(0.0, 0.0, 100.0, 30.0), at(200.0, 0.0, 100.0, 30.0)],
            &[found(at(2.0, 0.0, 100.0, 30.0)), found(at(500.0, 0.0, 100.0, 30.0))],
        );
        assert_eq!(all, AllPlates { labelled: 2, found: 1, elsewhere: 1, precision_min: 0.5 });
    }

    #[test]
    fn light_is_that_around_the_plate() {
        let mut pixels = vec![0u8; 100 * 20 * 3];
        for row in pixels.chunks_exact_mut(300) {
            row[150..].fill(200);
        }
        let picture = OwnedPicture::rgb(100, 20, pixels).unwrap();
        assert!((light(&picture, &at(70.0, 8.0, 10.0, 4.0)) - 200.0).abs() < 0.5);
        assert!(light(&picture, &at(20.0, 8.0, 10.0, 4.0)) < 0.5);
        assert_eq!(light(&picture, &at(500.0, 500.0, 10.0, 4.0)), 0.0);
    }
}
