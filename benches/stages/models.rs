//! The models of the checkout, and frames to show them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use guiji_domain::{
    CaptureTime, ClockSource, Detector as _, Frame, OwnedPicture, SharedPicture, Stream, Timestamp,
    View,
};
use guiji_vision::{Models, Thresholds, Vision, VisionSettings};
use image::RgbImage;
use image::imageops::{FilterType, resize};

use crate::checkout;

fn cache() -> PathBuf {
    let moved = std::env::var_os("GUIJI_MODELS_CACHE").map(PathBuf::from);
    moved.unwrap_or_else(|| checkout().join("models/.cache"))
}

/// The models as the engine loads them, or by another manifest.
pub(crate) fn load(manifest: Option<&Path>) -> anyhow::Result<Vision> {
    let vision = Vision::load(&VisionSettings {
        manifest: manifest.map_or_else(|| checkout().join("models"), Path::to_owned),
        cache_dir: cache(),
        runtime_library: None,
        workers: 1,
        thresholds: Thresholds::default(),
        plate_detector: None,
        plate_reader: None,
    })?;
    vision.warm_up()?;
    Ok(vision)
}

/// The rear of a silver car, 518x331.
pub(crate) fn car() -> anyhow::Result<RgbImage> {
    let file = Models::locate(&checkout().join("models"), &cache())?.picture("silver-car")?;
    Ok(image::open(&file).with_context(|| format!("cannot open {}", file.display()))?.to_rgb8())
}

pub(crate) fn picture(image: &RgbImage) -> anyhow::Result<SharedPicture> {
    let (width, height) = image.dimensions();
    let picture = OwnedPicture::rgb(width, height, image.as_raw().clone());
    Ok(Arc::new(picture.context("an empty picture")?))
}

/// The picture as a camera's frame, scaled as ingest would.
pub(crate) fn frame(image: &RgbImage, vision: &Vision) -> anyhow::Result<Frame> {
    let (width, height) = vision.input_size();
    Ok(Frame {
        camera: "bench".parse()?,
        captured: CaptureTime {
            at: Timestamp::EPOCH,
            uncertainty: Duration::ZERO,
            source: ClockSource::Stated,
        },
        stream: Stream::Main,
        pts: Duration::ZERO,
        full: picture(image)?,
        small: picture(&resize(image, width, height, FilterType::Triangle))?,
        view: View::Unknown,
    })
}
