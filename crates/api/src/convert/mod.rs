//! Between the domain's values and the messages of `guiji.v1`. Everything that crosses does so here.

mod alert;
mod camera;
mod correction;
mod coverage;
mod geojson;
mod patrol;
mod place;
mod sighting;
mod sighting_in;
mod tactics;
mod time;
mod trajectory;
mod watch;
mod word;

pub(crate) use alert::alert_to_pb;
pub(crate) use camera::{camera_from_pb, camera_to_pb, changed_camera, registration_from_pb};
pub(crate) use correction::correction_to_pb;
pub(crate) use coverage::coverage_from_pb;
pub(crate) use geojson::roads_from_geojson;
pub(crate) use patrol::{unit_from_pb, unit_to_pb};
pub(crate) use place::{area_from_pb, area_to_pb, point_from_pb, point_to_pb};
pub(crate) use sighting::{View, evidence_to_pb, sighting_to_pb};
pub(crate) use sighting_in::sighting_from_pb;
pub(crate) use tactics::{Names, camera_name, speed_to_pb, verdict_to_pb};
pub(crate) use time::{capture_from_pb, capture_to_pb, seen_from_pb, span_from_pb};
pub use time::{duration_from_pb, duration_to_pb, timestamp_from_pb, timestamp_to_pb};
pub(crate) use trajectory::trajectory_to_pb;

pub(crate) use watch::{entry_from_pb, entry_to_pb, hours_from_pb, hours_to_pb};
pub use word::Word;
pub(crate) use word::optional;
