//! Composes traffic video with exact ground truth, and serves it as RTSP cameras: a fresh clone has no recordings.
//!
//! It owns: the drawing of plates, vehicles (one photograph cut out, recoloured, re-plated) and roads; stories (who
//! drives where and when); the encoding; the RTSP server; the truth. It never tells the engine anything: truth is in
//! files of its own, nothing of it is in a stream, and no other crate of the product depends on this one.
//!
//! Invariants
//! - The same story, photograph and fonts give the same pictures: all chance comes from the story's seed, and each
//!   camera has its own, so that clips can be made in any order.
//! - What is written as truth is where the pixels were laid: boxes and corners come from the placement that laid them,
//!   visible shares from a buffer that says whose each pixel is.
//! - Distance between two cameras over the time between two passages is the vehicle's speed.
//! - In a composed clip the first two seconds are an empty road; a server repeats its clip's first group of pictures
//!   until the story starts, and then all clips begin at pts 0 in the same instant.
//!
//! # Files
//! `Composer::compose` fills a folder: `clips/ID.mp4`, `truth/ID.json` ([`ClipTruth`]), `story.json`
//! ([`StoryTruth`]; its `started_ns` is written by `guiji-scenes serve`), and `composed.sha256`, by which the next
//! call sees that nothing has to be done. An event at `pts_ms` of any clip happened at `started_ns + pts_ms`.

mod background;
mod canvas;
mod capacity;
mod compose;
mod encode;
mod error;
mod font;
mod gauge;
mod load;
mod outline;
mod plate;
mod random;
mod raster;
mod reader;
mod scene;
mod score;
mod serve;
mod small;
mod sprite;
mod story;
mod truth;
mod vehicle;
mod view;

pub use capacity::{CapacityClip, CapacitySet, RateKind, ReadyClip};
pub use compose::{Composed, Composer, Progress, default_photo};
pub use encode::{Codec, EncoderSpec, Rate};
pub use error::SceneError;
pub use font::PlateFonts;
pub use gauge::{BitShares, DecodeCost, bit_shares, decode_cost};
pub use load::{LoadPace, LoadStream, LoadTimes, save_times, serve_load};
pub use plate::{PX_PER_MM, Plate};
pub use score::{RingScore, Score, Seen, Tally, score, score_rings};
pub use serve::{AtEnd, Fault, SceneServer, ServeOptions, ServedClip, StartRule};
pub use small::small_clip;
pub use story::{CameraSpec, NamedVehicle, RouteSpec, Side, StorySpec};
pub use truth::{
    CameraTruth, ClipTruth, FrameTruth, PassageTruth, StopTruth, StoryTruth, VehicleTruth,
};
pub use vehicle::VehicleModel;
pub use view::Light;
