//! The moving parts between a camera's frames and durable sightings.
//!
//! Owns: every queue and thread of the perception path. Frames wait in one slot a camera (`slots`); workers take
//! batches over cameras, detect, track, read plates and decide on passages (`perception`); the recorder encodes
//! evidence, and the intake matches the watch-list, stores, and only then tells listeners (`intake`): what is
//! imported goes through it too. Cameras come and go at run time (`cameras`).
//!
//! Never does: decoding, inference or storage itself (those are parts behind the seams of `domain`), or decisions
//! (those are `analysis`).
//!
//! Invariants: every queue is bounded. Frames may be dropped (newest wins) and are counted; sightings block instead,
//! so a slow disk slows analysis and never loses a passage. One camera's frames are analysed in order, by one worker
//! at a time. A panic in one camera's work ends that work, is counted, and never the process. Nothing is announced
//! before it is durable.

mod cameras;
mod counters;
mod coverage;
mod engine;
mod escalation;
mod intake;
mod keyframes;
mod lane;
mod load;
mod patrol;
mod perception;
mod reads;
mod recorder;
mod slots;
mod snapshot;
mod view;
mod watchbook;

pub use cameras::Cameras;
pub use engine::{DrainReport, Engine, EngineCounts, EngineParts, EngineSettings};
pub use escalation::{Escalation, EscalationParts};
pub use intake::{Intake, IntakeCounts, IntakeParts};
pub use keyframes::{KeyframeSettings, WishCounts};
pub use lane::EvidenceSettings;
pub use load::Load;
pub use patrol::PatrolBook;
pub use perception::PerceptionCounts;
pub use recorder::RecorderCounts;
pub use watchbook::WatchBook;
