//! A story into a folder: clips, truth, `story.json`.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use image::{Rgb, RgbImage};
use sha2::{Digest, Sha256};

use crate::SceneError;
use crate::canvas::Canvas;
use crate::encode::Encoder;
use crate::font::PlateFonts;
use crate::scene::Scene;
use crate::story::{PlannedVehicle, StorySpec};
use crate::truth::{
    CameraTruth, ClipTruth, STORY_FILE, StopTruth, StoryTruth, VehicleTruth, write_json,
};
use crate::vehicle::VehicleModel;

/// Raised whenever the same story would look different: old clips are then made anew.
const GENERATION: u32 = 1;

const MARK_FILE: &str = "composed.sha256";

/// What a story is composed of.
pub struct Composer {
    spec: StorySpec,
    plan: Vec<PlannedVehicle>,
    models: Vec<VehicleModel>,
    fonts: PlateFonts,
    mark: String,
}

/// Whether anything had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Composed {
    /// The clips were made.
    Made,
    /// They were there, from the same story.
    UpToDate,
}

/// Told how far composing has come: frames done, frames in all.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

impl Composer {
    /// Plans a story that is played by the given vehicles in turn.
    ///
    /// # Errors
    /// When there is no vehicle, no font, or the story cannot be planned.
    pub fn new(spec: StorySpec, models: Vec<VehicleModel>) -> Result<Self, SceneError> {
        if models.is_empty() {
            return Err(spec.problem("there is no photograph of a vehicle to play it with"));
        }
        let plan = spec.plan()?;
        let mut hash = Sha256::new();
        hash.update(format!("{GENERATION} {} {spec:?}", env!("CARGO_PKG_VERSION")));
        for model in &models {
            hash.update(model.name());
            hash.update(model.pixels());
        }
        let mark = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { spec, plan, models, fonts: PlateFonts::load()?, mark })
    }

    /// Makes all clips in `folder`, `threads` at a time, unless they are there already.
    ///
    /// # Errors
    /// When a file cannot be written or an encoder fails. Nothing half-made is taken for whole later.
    pub fn compose(
        &self,
        folder: &Path,
        threads: usize,
        progress: Progress<'_>,
    ) -> Result<Composed, SceneError> {
        let mark = folder.join(MARK_FILE);
        if std::fs::read_to_string(&mark).is_ok_and(|m| m.trim() == self.mark) {
            return Ok(Composed::UpToDate);
        }
        for name in ["clips", "truth"] {
            let path = folder.join(name);
            std::fs::create_dir_all(&path).map_err(SceneError::file("create", path))?;
        }
        for stale in [&mark, &folder.join(STORY_FILE)] {
            match std::fs::remove_file(stale) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(SceneError::file("remove", stale)(e)),
            }
        }
        self.compose_clips(folder, threads, progress)?;
        self.story_truth()?.save(folder)?;
        std::fs::write(&mark, &self.mark).map_err(SceneError::file("write", mark))?;
        Ok(Composed::Made)
    }

    fn compose_clips(
        &self,
        folder: &Path,
        threads: usize,
        progress: Progress<'_>,
    ) -> Result<(), SceneError> {
        let cameras = self.spec.cameras.len();
        let total = u64::from(self.spec.frames()) * cameras as u64;
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let stop = AtomicBool::new(false);
        let first_error = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, cameras.max(1)) {
                scope.spawn(|| {
                    loop {
                        let camera = next.fetch_add(1, Ordering::Relaxed);
                        if camera >= cameras || stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let step = || {
                            progress(done.fetch_add(1, Ordering::Relaxed) as u64 + 1, total);
                            !stop.load(Ordering::Relaxed)
                        };
                        if let Err(error) = self.compose_clip(folder, camera, step) {
                            stop.store(true, Ordering::Relaxed);
                            if let Ok(mut slot) = first_error.lock() {
                                slot.get_or_insert(error);
                            }
                        }
                    }
                });
            }
        });
        match first_error.into_inner() {
            Ok(Some(error)) => Err(error),
            Ok(None) => Ok(()),
            Err(_) => Err(self.spec.problem("a composing thread panicked")),
        }
    }

    fn compose_clip(
        &self,
        folder: &Path,
        camera: usize,
        step: impl Fn() -> bool,
    ) -> Result<(), SceneError> {
        let spec = &self.spec;
        let (clip, truth) = self.files(camera);
        let file = folder.join(clip);
        let how = spec.encoder_of(camera);
        let mut encoder = Encoder::open(&file, spec.width, spec.height, spec.fps, how)?;
        let mut scene = self.scene(camera);
        for frame in 0..spec.frames() {
            encoder.push(scene.paint(frame)?)?;
            if !step() {
                return Ok(()); // another clip failed; that one reports
            }
        }
        encoder.finish()?;
        let truth_of_clip = ClipTruth {
            camera: spec.cameras[camera].id.clone(),
            width: spec.width as u32,
            height: spec.height as u32,
            fps: spec.fps,
            frames: spec.frames(),
            light: spec.cameras[camera].light,
            codec: how.codec.as_str().to_owned(),
            passages: scene.truth(),
        };
        write_json(&folder.join(truth), &truth_of_clip)
    }

    fn scene(&self, camera: usize) -> Scene<'_> {
        Scene::new(&self.spec, camera, &self.plan, &self.models, &self.fonts)
    }

    fn files(&self, camera: usize) -> (String, String) {
        let id = &self.spec.cameras[camera].id;
        (format!("clips/{id}.mp4"), format!("truth/{id}.json"))
    }

    fn story_truth(&self) -> Result<StoryTruth, SceneError> {
        let spec = &self.spec;
        let mut cameras = Vec::new();
        for (index, camera) in spec.cameras.iter().enumerate() {
            let position = spec.position(index)?;
            let (clip, truth) = self.files(index);
            cameras.push(CameraTruth {
                id: camera.id.clone(),
                name: camera.name.clone(),
                lat: position.lat_deg(),
                lon: position.lon_deg(),
                bearing_deg: camera.bearing_deg,
                clip,
                truth,
            });
        }
        let vehicles = self
            .plan
            .iter()
            .map(|v| VehicleTruth {
                vehicle: v.name.clone(),
                plate: v.plate.text.to_string(),
                kind: v.plate.kind.to_string(),
                body_colour: v.colour.to_string(),
                stops: v
                    .stops
                    .iter()
                    .map(|s| StopTruth {
                        camera: spec.cameras[s.camera].id.clone(),
                        at_ms: s.at_s * 1000.0,
                        speed_kmh: s.speed_mps * 3.6,
                    })
                    .collect(),
            })
            .collect();
        Ok(StoryTruth {
            name: spec.name.clone(),
            duration_ms: (spec.duration_s * 1000.0) as u64,
            started_ns: None,
            cameras,
            vehicles,
        })
    }

    /// Single frames of a camera as RGB pictures, for looking at: `times_s` in rising order.
    ///
    /// # Errors
    /// When a sprite cannot be made.
    pub fn frames(&self, camera: usize, times_s: &[f64]) -> Result<Vec<RgbImage>, SceneError> {
        let mut scene = self.scene(camera);
        times_s
            .iter()
            .map(|t| Ok(to_rgb(scene.paint((t.max(0.0) * self.spec.fps).round() as u32)?)))
            .collect()
    }

    /// A sheet of sample frames, one row a camera, each frame where a vehicle is readable.
    ///
    /// # Errors
    /// When a sprite cannot be made.
    pub fn contact_sheet(&self, columns: usize, tile_width: u32) -> Result<RgbImage, SceneError> {
        let columns = columns.clamp(1, 12);
        let tile_width = tile_width.clamp(64, 1920);
        let tile_height = tile_width * self.spec.height as u32 / self.spec.width as u32;
        let rows = self.spec.cameras.len() as u32;
        let mut sheet = RgbImage::new(tile_width * columns as u32, tile_height * rows);
        for camera in 0..self.spec.cameras.len() {
            let mut times: Vec<f64> = self
                .plan
                .iter()
                .flat_map(|v| v.stops.iter().filter(|s| s.camera == camera).map(|s| s.at_s))
                .collect();
            times.sort_by(f64::total_cmp);
            let step = (times.len() / columns).max(1);
            let times: Vec<_> = times
                .into_iter()
                .step_by(step)
                .take(columns)
                .enumerate()
                // Some nearer, some farther than the reference.
                .map(|(i, t)| t - 0.4 + 0.45 * (i % 3) as f64)
                .collect();
            for (column, frame) in self.frames(camera, &times)?.iter().enumerate() {
                let tile = image::imageops::thumbnail(frame, tile_width, tile_height);
                let (x, y) = (column as u32 * tile_width, camera as u32 * tile_height);
                image::imageops::replace(&mut sheet, &tile, i64::from(x), i64::from(y));
            }
        }
        Ok(sheet)
    }
}

/// BT.709, limited range.
fn to_rgb(canvas: &Canvas) -> RgbImage {
    RgbImage::from_fn(canvas.width as u32, canvas.height as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let half = (y / 2) * (canvas.width / 2) + x / 2;
        let luma = (f32::from(canvas.planes[0][y * canvas.width + x]) - 16.0) * 255.0 / 219.0;
        let u = (f32::from(canvas.planes[1][half]) - 128.0) * 255.0 / 224.0;
        let v = (f32::from(canvas.planes[2][half]) - 128.0) * 255.0 / 224.0;
        Rgb([luma + 1.5748 * v, luma - 0.1873 * u - 0.4681 * v, luma + 1.8556 * u]
            .map(|c| c.round().clamp(0.0, 255.0) as u8))
    })
}

/// Where the set-up puts the photograph, seen from the checkout's root.
pub fn default_photo() -> PathBuf {
    PathBuf::from("models/.cache/test_image.png")
}
