//! The exact truth about a clip, written beside it and never into it.

use std::path::Path;

use guiji_domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::SceneError;
use crate::view::Light;

/// What passes in a clip. Times are milliseconds of the clip; a served story adds its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipTruth {
    /// The camera's id, also the name of the clip.
    pub camera: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second.
    pub fps: f64,
    /// Number of frames.
    pub frames: u32,
    /// Light of the scene.
    pub light: Light,
    /// `h264` or `h265`.
    pub codec: String,
    /// Every passage, by first time in view.
    pub passages: Vec<PassageTruth>,
}

/// One vehicle driving through one view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassageTruth {
    /// The vehicle's name in the story: the same at every camera.
    pub vehicle: String,
    /// What stands on its plate.
    pub plate: String,
    /// Plate kind, a word of `guiji_domain::PlateKind`.
    pub kind: String,
    /// Plate colour, a word of `guiji_domain::PlateColour`.
    pub plate_colour: String,
    /// Plate rows, 1 or 2.
    pub rows: u8,
    /// Body colour, a word of `guiji_domain::VehicleColour`.
    pub body_colour: String,
    /// Vehicle class, a word of `guiji_domain::VehicleClass`.
    pub class: String,
    /// `receding`: seen from behind, driving away.
    pub heading: String,
    /// Lane, counted from the vanishing side.
    pub lane: u8,
    /// Speed on the road.
    pub speed_kmh: f64,
    /// When the vehicle is at the camera's reference distance, not rounded to a frame.
    pub at_reference_ms: f64,
    /// First frame in which any of it is seen.
    pub first_seen_ms: u64,
    /// Last frame in which any of it is seen.
    pub last_seen_ms: u64,
    /// First frame with a whole plate of at least [`PassageTruth::READABLE_PX`].
    pub readable_ms: Option<u64>,
    /// Number of frames with such a plate.
    pub readable_frames: u32,
    /// Every frame in which any of it is seen.
    pub track: Vec<FrameTruth>,
}

impl PassageTruth {
    /// Width of a plate that counts as readable, pixels.
    pub const READABLE_PX: f32 = 60.0;
}

/// A vehicle in a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameTruth {
    /// Presentation time stamp.
    pub pts_ms: u64,
    /// Left, top, right, bottom of the vehicle in pixels, clipped to the picture; hidden parts included.
    pub vehicle: [f32; 4],
    /// Corners of the plate in pixels: top left, top right, bottom right, bottom left; not clipped.
    pub plate: [[f32; 2]; 4],
    /// Share of the whole vehicle that is in the picture and not hidden by a nearer one, 0 to 1.
    pub visible: f32,
    /// The same of the plate.
    pub plate_visible: f32,
}

/// What a story is: cameras, vehicles and their ways. Written as `story.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoryTruth {
    /// The story's name.
    pub name: String,
    /// Length in milliseconds.
    pub duration_ms: u64,
    /// When pts 0 of every clip was sent, nanoseconds since the Unix epoch: `null` until it has been served.
    pub started_ns: Option<i64>,
    /// The cameras.
    pub cameras: Vec<CameraTruth>,
    /// The vehicles, the suspect first where there is one.
    pub vehicles: Vec<VehicleTruth>,
}

/// A camera of a story.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraTruth {
    /// Unique name.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// WGS-84, degrees.
    pub lat: f64,
    /// WGS-84, degrees.
    pub lon: f64,
    /// Where it looks, degrees clockwise from north.
    pub bearing_deg: f64,
    /// The clip, relative to the story's folder.
    pub clip: String,
    /// The truth of the clip, relative to the story's folder.
    pub truth: String,
}

/// A vehicle of a story.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VehicleTruth {
    /// Its name in the story: `suspect`, `decoy`, `v03` ...
    pub vehicle: String,
    /// What stands on its plate.
    pub plate: String,
    /// Plate kind.
    pub kind: String,
    /// Body colour.
    pub body_colour: String,
    /// Cameras in the order passed.
    pub stops: Vec<StopTruth>,
}

/// A vehicle at a camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopTruth {
    /// The camera.
    pub camera: String,
    /// When it is at the reference distance, milliseconds of the story.
    pub at_ms: f64,
    /// Speed on the way here from the stop before, or in view at the first.
    pub speed_kmh: f64,
}

impl StoryTruth {
    /// The instant of a time in the story, once it has been served.
    pub fn instant(&self, story_ms: f64) -> Option<Timestamp> {
        Some(Timestamp::from_nanos(self.started_ns? + (story_ms * 1e6) as i64))
    }

    /// Number of passages over all cameras.
    pub fn passages(&self) -> usize {
        self.vehicles.iter().map(|v| v.stops.len()).sum()
    }

    /// Reads `story.json` in a story's folder.
    ///
    /// # Errors
    /// When it is missing or not what [`StoryTruth`] describes.
    pub fn load(folder: &Path) -> Result<Self, SceneError> {
        read_json(&folder.join(STORY_FILE))
    }

    /// Writes `story.json` into a story's folder, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), SceneError> {
        write_json(&folder.join(STORY_FILE), self)
    }

    /// Reads the truth of all clips, in the order of the cameras.
    ///
    /// # Errors
    /// When a file is missing or not what [`ClipTruth`] describes.
    pub fn clips(&self, folder: &Path) -> Result<Vec<ClipTruth>, SceneError> {
        self.cameras.iter().map(|c| ClipTruth::load(&folder.join(&c.truth))).collect()
    }
}

impl ClipTruth {
    /// Reads a clip's truth.
    ///
    /// # Errors
    /// When the file is missing or not what [`ClipTruth`] describes.
    pub fn load(file: &Path) -> Result<Self, SceneError> {
        read_json(file)
    }
}

pub(crate) const STORY_FILE: &str = "story.json";

fn read_json<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, SceneError> {
    let text = std::fs::read(file).map_err(SceneError::file("read", file))?;
    serde_json::from_slice(&text)
        .map_err(|e| SceneError::Format { path: file.to_owned(), problem: e.to_string() })
}

pub(crate) fn write_json<T: Serialize>(file: &Path, value: &T) -> Result<(), SceneError> {
    let text = serde_json::to_vec(value)
        .map_err(|e| SceneError::Format { path: file.to_owned(), problem: e.to_string() })?;
    let part = file.with_extension("json.part");
    std::fs::write(&part, text).map_err(SceneError::file("write", &part))?;
    std::fs::rename(&part, file).map_err(SceneError::file("write", file))
}
