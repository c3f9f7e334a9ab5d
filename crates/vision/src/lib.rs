//! Finds vehicles, finds and reads plates, and encodes evidence, by ONNX Runtime on the processor.
//!
//! Owns: the models' manifest and the check of every file against its digest; the runtime library and its sessions;
//! how pictures become tensors and tensors become boxes, corners and lattices; colours, sharpness, JPEG.
//!
//! Never does: decode video, track, decide what a plate's text is (it returns the distribution), keep a picture
//! longer than a call, fetch anything from a network.
//!
//! Invariants: no model file is used whose digest is not the manifest's; a picture is converted only where it is
//! looked at (no full-resolution colour copy); every session has one thread, and at most `workers` calls run at
//! once, the others wait; results are in full-resolution pixels; no picture, tensor or manifest can make it panic.
//!
//! A model with another head is a new decoder in `decode` and an entry in the manifest, nothing else.

mod colour;
mod corners;
mod decode;
mod error;
mod jpeg;
mod locate;
mod manifest;
mod nms;
mod pixels;
mod plates;
mod reader;
mod rectify;
mod redact;
mod runtime;
mod sharpness;
mod still;
mod tensor;
mod vehicles;
mod vision;

pub use error::VisionLoadError;
pub use manifest::{ModelFacts, Models};
pub use redact::Mosaic;
pub use still::load_picture;
pub use vision::{Thresholds, Vision, VisionSettings};
