use std::path::PathBuf;

use guiji_domain::{
    BBox, Detection, Detector, Frame, Picture, PictureEncoder, PlateChar, PlateColour, PlateRead,
    PlateReader, SharedPicture, VehicleClass, VehicleColour, VisionError,
};
use ort::environment::Environment;

use crate::VisionLoadError;
use crate::corners::CornerFinder;
use crate::decode::cell_corners::CellCorners;
use crate::decode::ctc::Ctc;
use crate::decode::nanodet::NanoDet;
use crate::decode::positions::Positions;
use crate::decode::retina_corners::RetinaCorners;
use crate::decode::yolox::Yolox;
use crate::decode::{DetectionHead, PlateHead, TextHead};
use crate::manifest::{DecodeEntry, Fit, ModelEntry, Models, Role};
use crate::pixels::View;
use crate::plates::{CloserLook, PlateFinder};
use crate::reader::TextReader;
use crate::runtime::{self, Model};
use crate::vehicles::VehicleDetector;
use crate::{colour, jpeg};

/// Most sessions a model: more threads than this on one machine are a mistake in a setting.
const WORKERS_MAX: usize = 256;

/// What vision needs to know to begin.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionSettings {
    /// `models/manifest.toml`, or the folder that holds it.
    pub manifest: PathBuf,
    /// Where fetched models and the runtime library lie: `models/.cache`.
    pub cache_dir: PathBuf,
    /// ONNX Runtime's library, 1.24 or newer. `None` takes the manifest's, digest checked.
    pub runtime_library: Option<PathBuf>,
    /// How many threads call at once: each model gets as many sessions of one thread. 1 to 256.
    pub workers: usize,
    /// Thresholds that differ from the manifest's.
    pub thresholds: Thresholds,
    /// Id of the plate detector in the manifest. `None` takes the first one listed.
    pub plate_detector: Option<String>,
    /// Id of the plate reader in the manifest. `None` takes the first one listed.
    pub plate_reader: Option<String>,
}

/// Scores below which findings are not reported. `None` takes the manifest's.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Thresholds {
    /// Of a vehicle, above 0 and at most 1.
    pub vehicle_score: Option<f32>,
    /// Of a plate, above 0 and at most 1.
    pub plate_score: Option<f32>,
}

/// The models of a process, ready to run. Share it between threads; calls beyond `workers` wait.
pub struct Vision {
    vehicles: VehicleDetector,
    plates: PlateFinder,
    corners: Option<CornerFinder>,
    reader: TextReader,
}

impl Vision {
    /// Loads the library and the models: vehicle detector, plate detector, plate corners (where the manifest lists a
    /// model for them), plate reader. Every file's digest is
    /// checked before it is used.
    ///
    /// # Errors
    /// When a file is missing or another than the manifest pins, or a model is not as the manifest describes it. The
    /// message says how to mend it.
    pub fn load(settings: &VisionSettings) -> Result<Self, VisionLoadError> {
        if !(1..=WORKERS_MAX).contains(&settings.workers) {
            return Err(VisionLoadError::Setting {
                setting: "workers",
                value: settings.workers.to_string(),
                fix: "use 1 to 256, at most the number of processor cores",
            });
        }
        for (setting, score) in [
            ("vehicle_score", settings.thresholds.vehicle_score),
            ("plate_score", settings.thresholds.plate_score),
        ] {
            if let Some(score) = score.filter(|s| !(*s > 0.0 && *s <= 1.0)) {
                let fix = "use a score above 0 and at most 1";
                return Err(VisionLoadError::Setting { setting, value: score.to_string(), fix });
            }
        }
        let models = Models::locate(&settings.manifest, &settings.cache_dir)?;
        let library = match &settings.runtime_library {
            Some(library) => library.clone(),
            None => models.runtime_library()?,
        };
        let load = Loader { environment: runtime::environment(&library)?, models, settings };
        let vision = Self {
            vehicles: load.vehicles()?,
            plates: load.plates()?,
            corners: load.corners()?,
            reader: load.reader()?,
        };
        tracing::info!(
            vehicle_detector = vision.vehicles.model.id(),
            plate_detector = vision.plates.model.id(),
            plate_corners = vision.corners.as_ref().map(|corners| corners.model.id()),
            plate_reader = vision.reader.model.id(),
            workers = settings.workers,
            "models loaded"
        );
        Ok(vision)
    }

    /// Runs every model once on grey, so that the first frames of a camera do not wait for memory to be laid out.
    ///
    /// # Errors
    /// When a model cannot be run.
    pub fn warm_up(&self) -> Result<(), VisionError> {
        let (width, height) = self.vehicles.input;
        self.vehicles.model.infer(|batch| batch.reset(1, width, height), |_| Ok(()))?;
        self.plates.model.infer(|batch| batch.reset(1, 320, 256), |_| Ok(()))?;
        if let Some(corners) = &self.corners {
            let (width, height) = corners.input;
            corners.model.infer(|batch| batch.reset(1, width, height), |_| Ok(()))?;
        }
        let (width, height) = self.reader.input;
        self.reader.model.infer(|batch| batch.reset(1, width, height), |_| Ok(()))
    }

    /// Ids of the models in the manifest: vehicle detector, plate detector, plate corners where used, plate reader.
    pub fn model_ids(&self) -> Vec<&str> {
        let corners = self.corners.as_ref().map(|corners| &corners.model);
        let models = [Some(&self.vehicles.model), Some(&self.plates.model), corners];
        models.into_iter().flatten().chain([&self.reader.model]).map(Model::id).collect()
    }
}

impl Detector for Vision {
    fn input_size(&self) -> (u32, u32) {
        self.vehicles.wanted()
    }

    fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
        self.vehicles.detect(frames)
    }

    fn body_colour(&self, picture: &dyn Picture, vehicle: &BBox) -> Option<(VehicleColour, f32)> {
        colour::body_colour(&View::of(picture)?, vehicle)
    }
}

impl PlateReader for Vision {
    fn read(&self, requests: &[(SharedPicture, BBox)]) -> Result<Vec<Vec<PlateRead>>, VisionError> {
        let found = self.plates.find(requests)?;
        let counts: Vec<_> = found.iter().map(Vec::len).collect();
        let plates = found.into_iter().zip(requests).flat_map(|(plates, (picture, _))| {
            let view = View::of(picture.as_ref());
            plates.into_iter().filter_map(move |plate| Some((view?, plate)))
        });
        let mut plates: Vec<_> = plates.collect();
        if let Some(corners) = &self.corners {
            corners.correct(&mut plates)?;
        }
        let mut reads = self.reader.read(&plates)?.into_iter();
        let of_request = |count| reads.by_ref().take(count).flatten().collect();
        Ok(counts.into_iter().map(of_request).collect())
    }
}

impl PictureEncoder for Vision {
    fn media_type(&self) -> &'static str {
        "image/jpeg"
    }

    fn encode(&self, picture: &dyn Picture, region: Option<&BBox>) -> Result<Vec<u8>, VisionError> {
        jpeg::encode(picture, region)
    }
}

/// Makes the parts from the manifest's entries: the one place where a decoder's name becomes code.
struct Loader<'s> {
    models: Models,
    environment: Environment,
    settings: &'s VisionSettings,
}

impl Loader<'_> {
    fn model(&self, entry: &ModelEntry) -> Result<Model, VisionLoadError> {
        let bytes = self.models.model_bytes(entry)?;
        Model::load(&self.environment, entry, &bytes, self.settings.workers)
    }

    fn vehicles(&self) -> Result<VehicleDetector, VisionLoadError> {
        let entry = self.models.model(Role::VehicleDetector, None)?;
        let (head, score_min, overlap_max): (Box<dyn DetectionHead>, _, _) = match &entry.decode {
            DecodeEntry::Nanodet(d) => {
                let classes = vehicle_classes(&d.classes);
                let head = NanoDet { strides: d.strides.clone(), reg_max: d.reg_max, classes };
                (Box::new(head), d.score_min, d.overlap_max)
            }
            DecodeEntry::Yolox(d) => {
                let (output, strides) = (d.output.clone(), d.strides.clone());
                let head = Yolox { output, strides, classes: vehicle_classes(&d.classes) };
                (Box::new(head), d.score_min, d.overlap_max)
            }
            _ => return Err(wrong_decoder(entry, "nanodet or yolox")),
        };
        Ok(VehicleDetector {
            model: self.model(entry)?,
            head,
            input: input_size(entry)?,
            letterbox: entry.input.fit == Fit::Letterbox,
            score_min: self.settings.thresholds.vehicle_score.unwrap_or(score_min),
            overlap_max,
        })
    }

    fn plates(&self) -> Result<PlateFinder, VisionLoadError> {
        let wanted = self.settings.plate_detector.as_deref();
        let entry = self.models.model(Role::PlateDetector, wanted)?;
        let mut closer = None;
        let (head, score_min, overlap_max): (Box<dyn PlateHead>, _, _) = match &entry.decode {
            DecodeEntry::CellCorners(d) => {
                let head = CellCorners { strides: d.strides.clone(), reach: d.reach };
                closer = d.closer.as_ref().map(|closer| CloserLook {
                    size: (closer.width, closer.height),
                    plate_width: closer.plate_width,
                    score_min: closer.candidate_min,
                });
                (Box::new(head), d.score_min, d.overlap_max)
            }
            DecodeEntry::RetinaCorners(d) => {
                let head = RetinaCorners::new(d).map_err(|reason| wrong(entry, reason))?;
                (Box::new(head), d.score_min, d.overlap_max)
            }
            _ => return Err(wrong_decoder(entry, "cell-corners or retina-corners")),
        };
        Ok(PlateFinder {
            model: self.model(entry)?,
            head,
            vehicle_side: input_size(entry)?.0 as f32,
            scene_sides: entry.input.scene_sides.iter().map(|side| *side as f32).collect(),
            closer,
            size_multiple: entry.input.size_multiple.max(1),
            score_min: self.settings.thresholds.plate_score.unwrap_or(score_min),
            overlap_max,
        })
    }

    fn corners(&self) -> Result<Option<CornerFinder>, VisionLoadError> {
        if !self.models.has(Role::PlateCorners) {
            return Ok(None);
        }
        let entry = self.models.model(Role::PlateCorners, None)?;
        let DecodeEntry::CornerOffsets(decode) = &entry.decode else {
            return Err(wrong_decoder(entry, "corner-offsets"));
        };
        Ok(Some(CornerFinder {
            model: self.model(entry)?,
            input: input_size(entry)?,
            margin: margin(entry)?,
            output: decode.output.clone(),
        }))
    }

    fn reader(&self) -> Result<TextReader, VisionLoadError> {
        let entry = self.models.model(Role::PlateReader, self.settings.plate_reader.as_deref())?;
        let lines = self.models.charset(entry)?;
        let plate_char = |line: &String| {
            let mut chars = line.trim().chars();
            chars.next().filter(|_| chars.next().is_none()).and_then(PlateChar::new)
        };
        let head: Box<dyn TextHead> = match &entry.decode {
            DecodeEntry::Ctc(d) => {
                let mut characters: Vec<_> = lines.iter().map(plate_char).collect();
                if d.blank > characters.len() || d.classes != characters.len() + 1 {
                    return Err(wrong(entry, "classes must be the charset's lines and the blank"));
                }
                characters.insert(d.blank, None);
                let Some(output) = entry.output.first() else {
                    return Err(wrong(entry, "an [[output]] is missing"));
                };
                Box::new(Ctc { output: output.name.clone(), blank: d.blank, characters })
            }
            DecodeEntry::Positions(d) => {
                let colours = d.colours.iter().map(|c| c.replace('_', "-").parse());
                let colours = colours
                    .collect::<Result<Vec<PlateColour>, _>>()
                    .map_err(|e| wrong(entry, &e.to_string()))?;
                // The first class stands for nothing; the file may say so in a line of its own or leave it out.
                let mut characters: Vec<_> = lines.iter().map(plate_char).collect();
                if characters.first() != Some(&None) {
                    characters.insert(0, None);
                }
                Box::new(Positions { characters, colours })
            }
            _ => return Err(wrong_decoder(entry, "ctc or positions")),
        };
        let input = input_size(entry)?;
        let plate_width = entry.input.plate_width.unwrap_or(input.0);
        if plate_width == 0 || plate_width > input.0 {
            return Err(wrong(entry, "plate_width must be 1 to width"));
        }
        let margin = margin(entry)?;
        Ok(TextReader { model: self.model(entry)?, head, input, plate_width, margin })
    }
}

/// What the names mean; `None` for what is no vehicle, so that models with more classes can be used as they are.
fn vehicle_classes(names: &[String]) -> Vec<Option<VehicleClass>> {
    names.iter().map(|name| name.parse().ok()).collect()
}

fn input_size(entry: &ModelEntry) -> Result<(usize, usize), VisionLoadError> {
    const SIDE_MAX: usize = 4096;
    let (width, height) = (entry.input.width, entry.input.height);
    let fits = |side: usize| {
        (1..=SIDE_MAX).contains(&side) && side.is_multiple_of(entry.input.size_multiple.max(1))
    };
    if !fits(width) || !fits(height) {
        return Err(wrong(
            entry,
            "width and height must be multiples of size_multiple, at most 4096",
        ));
    }
    Ok((width, height))
}

fn margin(entry: &ModelEntry) -> Result<[f32; 2], VisionLoadError> {
    let margin = entry.input.margin;
    match margin.iter().all(|m| (0.0..1.0).contains(m)) {
        true => Ok(margin),
        false => Err(wrong(entry, "margin must be shares from 0 to below 1")),
    }
}

fn wrong(entry: &ModelEntry, reason: &str) -> VisionLoadError {
    VisionLoadError::Model { model: entry.id.clone(), reason: reason.to_owned() }
}

fn wrong_decoder(entry: &ModelEntry, known: &str) -> VisionLoadError {
    wrong(entry, &format!("a {} is decoded by {known}", entry.role))
}
