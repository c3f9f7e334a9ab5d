//! Composes and serves traffic scenes with exact ground truth.

mod background;
mod canvas;
mod compose;
mod encode;
mod error;
mod font;
mod outline;
mod plate;
mod random;
mod raster;
mod reader;
mod scene;
mod serve;
mod sprite;
mod story;
mod truth;
mod vehicle;
mod view;

pub use compose::{Composed, Composer, Progress, default_photo};
pub use encode::{Codec, EncoderSpec, Rate};
pub use error::SceneError;
pub use font::PlateFonts;
pub use plate::{PX_PER_MM, Plate};
pub use serve::{AtEnd, Fault, SceneServer, ServeOptions, ServedClip, StartRule};
pub use story::{CameraSpec, NamedVehicle, RouteSpec, Side, StorySpec};
pub use truth::{
    CameraTruth, ClipTruth, FrameTruth, PassageTruth, StopTruth, StoryTruth, VehicleTruth,
};
pub use vehicle::VehicleModel;
pub use view::Light;
