//! Reads a folder of photos with a `labels.csv` and says how many plates were found and read.
//!
//! `cargo run -p guiji-vision --example photos -- FOLDER [--reader ID] [--models FOLDER] [--crops] [--errors]`
//!
//! `--crops` looks only at the detected vehicle around the label, as the engine does, instead of the whole photo.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use guiji_domain::{
    BBox, CameraId, CaptureTime, ClockSource, Detector, Frame, PlateRead, PlateReader,
    SharedPicture, Timestamp,
};
use guiji_vision::{Thresholds, Vision, VisionSettings, load_picture};

#[derive(Default)]
struct Figures {
    counts: HashMap<&'static str, usize>,
}

impl Figures {
    fn add(&mut self, what: &'static str, holds: bool) {
        *self.counts.entry(what).or_default() += usize::from(holds);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let folder = PathBuf::from(arguments.first().ok_or("give a folder with labels.csv")?);
    let has = |flag: &str| arguments.iter().any(|a| a == flag);
    let value = |flag: &str| arguments.iter().skip_while(|a| *a != flag).nth(1).cloned();
    let reader = value("--reader");
    let models = value("--models").map(PathBuf::from);
    let models =
        models.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models"));
    let cache = std::env::var_os("GUIJI_MODELS_CACHE").map(PathBuf::from);
    let vision = Vision::load(&VisionSettings {
        cache_dir: cache.unwrap_or_else(|| models.join(".cache")),
        manifest: models,
        runtime_library: None,
        workers: 1,
        thresholds: Thresholds::default(),
        plate_reader: reader,
    })?;
    writeln!(out, "models: {}", vision.model_ids().join(", "))?;

    let labels = std::fs::read_to_string(folder.join("labels.csv"))?;
    let (mut figures, mut photos, mut spent) = (Figures::default(), 0, Duration::ZERO);
    for line in labels.lines().skip(1) {
        let columns: Vec<_> = line.split(',').collect();
        let [id, _, _, text, colour, rows, x1, y1, x2, y2, ..] = columns[..] else { continue };
        let truth = BBox::new(x1.parse()?, y1.parse()?, x2.parse()?, y2.parse()?).ok_or("box")?;
        let text = text.split(';').next().unwrap_or_default();
        let picture: SharedPicture = Arc::new(load_picture(&folder.join(id))?);
        let whole =
            BBox::new(0.0, 0.0, picture.width() as f32, picture.height() as f32).ok_or("box")?;
        photos += 1;

        let start = Instant::now();
        let region = if has("--crops") {
            let found = vehicle_around(&vision, &picture, &truth)?;
            figures.add("vehicle found around the plate", found.is_some());
            found.unwrap_or(whole)
        } else {
            whole
        };
        let reads = vision.read(&[(picture.clone(), region)])?.remove(0);
        spent += start.elapsed();

        let at_label = reads.iter().filter(|r| overlap(r, &truth) >= 0.3);
        let nearest = at_label.max_by(|a, b| overlap(a, &truth).total_cmp(&overlap(b, &truth)));
        let best = reads.first();
        let fits = |r: &PlateRead| best_text(r).is_some_and(|t| same(&t, text));
        figures.add("plate found (IoU 0.5)", nearest.is_some_and(|r| overlap(r, &truth) >= 0.5));
        figures.add("plate found (IoU 0.3)", nearest.is_some());
        figures.add("whole text, plate at the label", nearest.is_some_and(fits));
        figures.add("whole text, best-scored plate", best.is_some_and(fits));
        figures.add("whole text, any plate", reads.iter().any(fits));
        figures.add(
            "last six characters",
            nearest.and_then(best_text).is_some_and(|t| same(tail(&t), tail(text))),
        );
        let in_lattice =
            |r: &PlateRead| r.lattice.top_texts(5).iter().any(|(t, _)| same(t.as_str(), text));
        figures.add("whole text among the lattice's first five", nearest.is_some_and(in_lattice));
        figures.add("rows", nearest.is_some_and(|r| (r.rows.0.as_str() == "two") == (rows == "2")));
        figures.add(
            "colour",
            nearest.and_then(|r| r.colour).is_some_and(|(c, _)| c.as_str() == colour),
        );
        figures.add("plates elsewhere", reads.iter().any(|r| overlap(r, &truth) < 0.1));
        let wrong_colour =
            nearest.is_some_and(|r| r.colour.is_none_or(|(c, _)| c.as_str() != colour));
        if has("--errors") && (wrong_colour || !nearest.is_some_and(fits)) {
            let read =
                nearest.map(|r| (best_text(r), r.colour, r.rows, r.sharpness, r.detector_score));
            writeln!(out, "{id} {text} {colour} {rows}: {read:?}")?;
        }
    }
    let mut counts: Vec<_> = figures.counts.into_iter().collect();
    counts.sort_unstable();
    for (what, count) in counts {
        writeln!(
            out,
            "{what:45} {count:4} of {photos}  {:.3}",
            count as f32 / photos.max(1) as f32
        )?;
    }
    writeln!(out, "{:.1} ms a photo (wall)", spent.as_secs_f64() * 1e3 / photos.max(1) as f64)?;
    Ok(())
}

fn overlap(read: &PlateRead, truth: &BBox) -> f32 {
    read.corners.bbox().map_or(0.0, |b| b.iou(truth))
}

fn best_text(read: &PlateRead) -> Option<String> {
    read.lattice.top_texts(1).first().map(|(t, _)| t.to_string())
}

/// `?` in the truth stands for what nobody could read.
fn same(read: &str, truth: &str) -> bool {
    read.chars().count() == truth.chars().count()
        && read.chars().zip(truth.chars()).all(|(a, b)| b == '?' || a == b)
}

/// All but the first character.
fn tail(text: &str) -> &str {
    text.char_indices().nth(1).and_then(|(i, _)| text.get(i..)).unwrap_or_default()
}

fn vehicle_around(
    vision: &Vision,
    picture: &SharedPicture,
    plate: &BBox,
) -> Result<Option<BBox>, Box<dyn Error>> {
    let frame = Frame {
        camera: "photo".parse::<CameraId>()?,
        captured: CaptureTime {
            at: Timestamp::EPOCH,
            uncertainty: Duration::ZERO,
            source: ClockSource::Stated,
        },
        pts: Duration::ZERO,
        full: picture.clone(),
        small: picture.clone(),
    };
    let found = vision.detect(&[&frame])?.remove(0);
    let around = found.iter().filter(|d| d.bbox.contains(plate.centre()));
    Ok(around.max_by(|a, b| a.score.total_cmp(&b.score)).map(|d| d.bbox.padded(0.05)))
}
