//! The real models on a real photograph: the rear of a silver car, from the cache that `./x models` fills.

#![allow(clippy::unwrap_used)] // everything here is a test

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use guiji_domain::{
    BBox, CameraId, CaptureTime, ClockSource, Detector, Frame, OwnedPicture, Picture,
    PictureEncoder, PlateReader, SharedPicture, Stream, Timestamp, VehicleClass, VehicleColour,
    View,
};
use guiji_vision::{Models, Thresholds, Vision, VisionSettings, load_picture};

fn settings() -> VisionSettings {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let cache = std::env::var_os("GUIJI_MODELS_CACHE").map(PathBuf::from);
    VisionSettings {
        cache_dir: cache.unwrap_or_else(|| models.join(".cache")),
        manifest: models,
        runtime_library: None,
        workers: 2,
        thresholds: Thresholds::default(),
        plate_detector: None,
        plate_reader: None,
    }
}

fn vision() -> &'static Vision {
    static VISION: OnceLock<Vision> = OnceLock::new();
    VISION.get_or_init(|| {
        let vision = Vision::load(&settings());
        vision
            .unwrap_or_else(|e| panic!("the models are not in place, run `./x models` first: {e}"))
    })
}

fn photo() -> OwnedPicture {
    let settings = settings();
    let models = Models::locate(&settings.manifest, &settings.cache_dir).unwrap();
    let path = models.picture("silver-car");
    load_picture(&path.unwrap_or_else(|e| panic!("run `./x models` first: {e}"))).unwrap()
}

/// Puts the photo on a grey 16:9 frame, as a camera would see it, with a small picture of the wanted size.
fn frame(photo: &OwnedPicture, wanted: (u32, u32)) -> Frame {
    let (width, height) = (960, 540);
    let full = canvas(width, height, |x, y| {
        let (px, py) = (x.checked_sub(OFFSET.0)?, y.checked_sub(OFFSET.1)?);
        (px < photo.width() && py < photo.height()).then(|| pixel(photo, px, py))
    });
    let small = canvas(wanted.0, wanted.1, |x, y| {
        let (x, y) = ((2 * x + 1) * width / (2 * wanted.0), (2 * y + 1) * height / (2 * wanted.1));
        Some(pixel(&full, x, y))
    });
    Frame {
        camera: "test".parse::<CameraId>().unwrap(),
        captured: CaptureTime {
            at: Timestamp::EPOCH,
            uncertainty: Duration::ZERO,
            source: ClockSource::Stated,
        },
        stream: Stream::Main,
        pts: Duration::ZERO,
        full: Arc::new(full),
        small: Arc::new(small),
        view: View::Unknown,
    }
}

const OFFSET: (u32, u32) = (200, 100);

fn canvas(width: u32, height: u32, pixel: impl Fn(u32, u32) -> Option<[u8; 3]>) -> OwnedPicture {
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let pixels = places.flat_map(|(x, y)| pixel(x, y).unwrap_or([120; 3])).collect();
    OwnedPicture::rgb(width, height, pixels).unwrap()
}

fn pixel(picture: &OwnedPicture, x: u32, y: u32) -> [u8; 3] {
    let at = ((y * picture.width() + x) * 3) as usize;
    [0, 1, 2].map(|c| picture.plane(0)[at + c])
}

#[test]
fn the_car_is_found_once_and_its_colour_told() {
    let (vision, photo) = (vision(), photo());
    let frame = frame(&photo, vision.input_size());
    let found = vision.detect(&[&frame, &frame]).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], found[1], "a batch changes nothing");
    let whole = BBox::new(200.0, 100.0, 718.0, 431.0).unwrap();
    let strong: Vec<_> = found[0].iter().filter(|d| d.bbox.area() > whole.area() * 0.3).collect();
    let [car] = strong[..] else { panic!("{:?}", found[0]) };
    assert_eq!(car.class, Some(VehicleClass::Car));
    assert!(car.bbox.covered_by(&whole.padded(0.05)) > 0.95, "{car:?}");
    let colour = vision.body_colour(frame.full.as_ref(), &car.bbox);
    assert!(
        matches!(
            colour,
            Some((VehicleColour::Silver | VehicleColour::Grey | VehicleColour::White, _))
        ),
        "{colour:?}"
    );
}

#[test]
fn the_plate_is_found_where_it_is() {
    let picture: SharedPicture = Arc::new(photo());
    let whole = BBox::new(0.0, 0.0, 518.0, 331.0).unwrap();
    let outside = BBox::new(900.0, 900.0, 990.0, 990.0).unwrap();
    let requests = [(picture.clone(), whole), (picture.clone(), outside), (picture, whole)];
    let reads = vision().read(&requests).unwrap();
    assert_eq!(reads.len(), 3);
    assert!(reads[1].is_empty());
    assert_eq!(reads[0], reads[2]);
    let truth = BBox::new(307.0, 190.0, 388.0, 211.0).unwrap();
    let plate = reads[0].iter().find(|r| r.corners.bbox().is_some_and(|b| b.iou(&truth) > 0.5));
    let plate = plate.unwrap_or_else(|| panic!("{:?}", reads[0]));
    assert!((0.0..=1.0).contains(&plate.sharpness) && plate.sharpness > 0.05, "{plate:?}");
    assert!(plate.detector_score >= 0.5);
}

#[test]
fn more_threads_than_sessions_wait_for_each_other() {
    let picture: SharedPicture = Arc::new(photo());
    let whole = BBox::new(0.0, 0.0, 518.0, 331.0).unwrap();
    let expected = vision().read(&[(picture.clone(), whole)]).unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| vision().read(&[(picture.clone(), whole)]).unwrap()))
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), expected);
        }
    });
}

#[test]
fn it_warms_up_and_encodes() {
    vision().warm_up().unwrap();
    assert!(vision().model_ids().iter().all(|id| !id.is_empty()));
    let bytes = vision().encode(&photo(), None).unwrap();
    assert_eq!((vision().media_type(), &bytes[..2]), ("image/jpeg", &[0xff, 0xd8][..]));
}

#[test]
fn wrong_settings_are_named() {
    let wrong = [
        (VisionSettings { workers: 0, ..settings() }, "workers"),
        (
            VisionSettings {
                thresholds: Thresholds { plate_score: Some(1.5), ..Thresholds::default() },
                ..settings()
            },
            "plate_score",
        ),
        (VisionSettings { plate_reader: Some("none".into()), ..settings() }, "plate-reader"),
        (VisionSettings { manifest: "nowhere".into(), ..settings() }, "manifest.toml"),
        (VisionSettings { cache_dir: "nowhere".into(), ..settings() }, "./x models"),
    ];
    for (settings, hint) in wrong {
        let Err(error) = Vision::load(&settings) else { panic!("{hint} was taken") };
        assert!(error.to_string().contains(hint), "{hint}: {error}");
    }
}
