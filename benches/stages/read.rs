//! Photos to plate texts: our readers against PyPI's agentclpr on the same photos.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use criterion::Criterion;
use guiji_domain::{
    BBox, Detector as _, Frame, PlateKind, PlateRead, PlateReader as _, PlateRows, PlateText,
};
use guiji_scenes::{Plate, PlateFonts};
use guiji_vision::Vision;
use image::imageops::{self, FilterType};

use crate::{Comparison, CpuTime, checkout, models, scratch, slow_group};

const WHOLE: &str = "the whole photo";
const VEHICLES: &str = "vehicles found first, as the engine does";
const PEER: &str = "agentclpr 1.1.0";

/// At most this many photos of a folder of the user's.
const PHOTOS_MAX: usize = 24;

/// Twice the size of the test picture: 1036x662.
const SCALE: u32 = 2;
/// Middle and size of the car's number plate in the test picture, pixels.
const SEAT: (f32, f32) = (347.4, 200.4);
const PLATE: (f32, f32) = (83.0, 26.4);

const PLATES: [(&str, PlateKind); 6] = [
    ("浙J12345", PlateKind::Small),
    ("京B8X672", PlateKind::Small),
    ("粤C30D91", PlateKind::Small),
    ("沪AD12345", PlateKind::NewEnergySmall),
    ("川A6123学", PlateKind::Coach),
    ("苏E70542", PlateKind::Large),
];

pub(crate) fn compare(criterion: &mut Criterion<CpuTime>) -> anyhow::Result<Vec<Comparison>> {
    let vision = models::load(None)?;
    let folder = tempfile::tempdir_in(scratch())?;
    let truth = match std::env::var_os("GUIJI_BENCH_PHOTOS") {
        Some(theirs) => {
            gather(Path::new(&theirs), folder.path()).context("cannot gather the photos")?;
            None
        }
        None => {
            draw(folder.path()).context("cannot draw the photos")?;
            Some(PLATES.map(|(text, _)| text))
        }
    };
    let frames = frames(folder.path(), &vision)?;
    let mut peer = Peer::start(folder.path())?;

    let mut group = slow_group(criterion, "read", 12);
    let photos = |how: fn(&Vision, &Frame) -> anyhow::Result<Vec<PlateRead>>| {
        let (frames, vision) = (&frames, &vision);
        move || frames.iter().map(|f| how(vision, f)).collect::<anyhow::Result<Vec<_>>>()
    };
    let (whole, vehicles) = (photos(whole), photos(vehicles));
    group.bench_function(WHOLE, |b| b.iter(|| whole().expect("it runs")));
    group.bench_function(VEHICLES, |b| b.iter(|| vehicles().expect("it runs")));
    if let Some(peer) = &mut peer {
        group.bench_function(PEER, |b| {
            b.iter_custom(|rounds| {
                (0..rounds).map(|_| peer.round().expect("the peer answers")).sum()
            });
        });
    }
    group.finish();

    let right = |texts: &[Vec<String>]| match &truth {
        Some(truth) => {
            let right = texts.iter().zip(truth).filter(|(t, truth)| t.iter().any(|t| t == *truth));
            format!("{} of {} plates right", right.count(), truth.len())
        }
        None => format!("plates in {} of {} photos", count(texts), texts.len()),
    };
    let (whole_right, vehicles_right) = (right(&texts(&whole()?)), right(&texts(&vehicles()?)));
    let note = match &peer {
        Some(peer) => format!(
            "{WHOLE}: {whole_right}; {VEHICLES}: {vehicles_right}; {PEER}: {}",
            right(&peer.texts)
        ),
        None => "agentclpr is not installed: `./x bench` does it".to_owned(),
    };
    let of = |ours: &str, note| Comparison {
        stage: "read",
        ours: ours.to_owned(),
        baselines: vec![PEER.to_owned()],
        unit: "photo",
        units: frames.len(),
        note,
    };
    Ok(vec![of(WHOLE, note), of(VEHICLES, String::new())])
}

fn count(texts: &[Vec<String>]) -> usize {
    texts.iter().filter(|texts| !texts.is_empty()).count()
}

/// What the peer does: plates are looked for everywhere.
fn whole(vision: &Vision, frame: &Frame) -> anyhow::Result<Vec<PlateRead>> {
    let (width, height) = (frame.full.width() as f32, frame.full.height() as f32);
    let all = BBox::new(0.0, 0.0, width, height).context("an empty photo")?;
    Ok(vision.read(&[(frame.full.clone(), all)])?.into_iter().flatten().collect())
}

/// What the engine does with a frame.
fn vehicles(vision: &Vision, frame: &Frame) -> anyhow::Result<Vec<PlateRead>> {
    let found = vision.detect(&[frame])?.into_iter().flatten();
    let requests: Vec<_> = found.map(|vehicle| (frame.full.clone(), vehicle.bbox)).collect();
    Ok(vision.read(&requests)?.into_iter().flatten().collect())
}

fn texts(photos: &[Vec<PlateRead>]) -> Vec<Vec<String>> {
    let best = |read: &PlateRead| read.lattice.top_texts(1).first().map(|(t, _)| t.to_string());
    photos.iter().map(|reads| reads.iter().filter_map(best).collect()).collect()
}

/// The test picture's car with our plates on it.
fn draw(folder: &Path) -> anyhow::Result<()> {
    let car = models::car()?;
    let car =
        imageops::resize(&car, car.width() * SCALE, car.height() * SCALE, FilterType::Triangle);
    let fonts = PlateFonts::load()?;
    let scale = SCALE as f32;
    for (index, (text, kind)) in PLATES.into_iter().enumerate() {
        let plate = Plate::new(PlateText::parse(text)?, kind, PlateRows::One)?.draw(&fonts)?;
        let (width, height) = ((PLATE.0 * scale) as u32, (PLATE.1 * scale) as u32);
        let plate = imageops::resize(&plate, width, height, FilterType::Triangle);
        let mut photo = car.clone();
        let corner = |middle: f32, side: f32| ((middle - side / 2.0) * scale) as i64;
        imageops::overlay(&mut photo, &plate, corner(SEAT.0, PLATE.0), corner(SEAT.1, PLATE.1));
        photo.save(folder.join(format!("{index}.png")))?;
    }
    Ok(())
}

/// The first photos of a folder, by name.
fn gather(from: &Path, to: &Path) -> anyhow::Result<()> {
    let is_photo = |file: &PathBuf| file.extension().is_some_and(|e| e == "jpg" || e == "png");
    let mut files = files(from)?;
    files.retain(is_photo);
    for file in files.iter().take(PHOTOS_MAX) {
        fs::copy(file, to.join(file.file_name().context("a file without a name")?))?;
    }
    Ok(())
}

/// The photos of a folder by name, decoded and scaled beforehand, as the peer's are.
fn frames(folder: &Path, vision: &Vision) -> anyhow::Result<Vec<Frame>> {
    let files = files(folder)?;
    let photos = files.iter().map(|file| models::frame(&image::open(file)?.to_rgb8(), vision));
    photos.collect()
}

/// The files of a folder by name.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = files.collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// agentclpr in a process of its own.
struct Peer {
    process: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    photos: Vec<PathBuf>,
    texts: Vec<Vec<String>>,
}

impl Peer {
    /// `None` when it is not installed.
    fn start(photos: &Path) -> anyhow::Result<Option<Self>> {
        let python = checkout().join(".guiji/agentclpr/bin/python");
        if !python.exists() {
            return Ok(None);
        }
        let mut process = Command::new(python)
            .arg(checkout().join("crates/app/eval/peers/peer.py"))
            .arg("agentclpr")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start agentclpr")?;
        let asks = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("no answers")?);
        let photos = files(photos)?;
        let mut peer = Self { process, asks, answers, photos, texts: Vec::new() };
        peer.round()?;
        Ok(Some(peer))
    }

    /// The CPU time it takes for all photos, decoding left out.
    fn round(&mut self) -> anyhow::Result<Duration> {
        let asks = self.asks.as_mut().context("it was told to end")?;
        let mut spent = Duration::ZERO;
        self.texts.clear();
        for photo in &self.photos {
            writeln!(asks, "{}", photo.display())?;
            asks.flush()?;
            let mut line = String::new();
            let length = self.answers.read_line(&mut line)?;
            anyhow::ensure!(length > 0, "agentclpr ended: run its peer.py to see why");
            let found: serde_json::Value = serde_json::from_str(&line)?;
            let plates = found["plates"].as_array().context("no plates")?;
            let texts = plates.iter().filter_map(|plate| plate["text"].as_str());
            self.texts.push(texts.map(str::to_owned).collect());
            spent += Duration::from_secs_f64(found["cpu_s"].as_f64().context("no time")?);
        }
        Ok(spent)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.asks.take());
        if let Err(error) = self.process.wait() {
            eprintln!("agentclpr does not end: {error}");
        }
    }
}
