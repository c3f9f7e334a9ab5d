//! The words of Guiji and the seams between its parts.
//!
//! Owns: the value types that travel from a camera to an answer, one per step of the flow
//! ([`Frame`] → [`Detection`] → [`PlateRead`] → [`Sighting`] → [`Alert`]), and the few small traits at which a
//! real part can be replaced by a scripted one ([`FrameSource`], [`Detector`], [`PlateReader`],
//! [`SightingStore`] and its sisters).
//!
//! Never does: I/O, async, serialisation, reading a clock. Outer formats (protobuf, TOML, rows on disk) are made
//! from these types at the edges, so none of them can freeze a type here.
//!
//! Invariants: a value with an invariant has private fields and one checked constructor; a value without has
//! public fields. No type grows while it travels: a later step makes a new value from the earlier one.

mod audit;
mod authority;
mod backoff;
mod camera;
mod correction;
mod coverage;
mod delivery;
mod error;
mod export;
mod frame;
mod geometry;
pub mod grammar;
mod ids;
mod lattice;
mod passages;
mod patrol;
mod pattern;
mod picture;
mod plate;
mod release;
mod roads;
mod seams;
mod sighting;
mod stop;
mod time;
mod vehicle;
mod watch;

pub use audit::{AuditDone, AuditEntry, AuditLog};
pub use authority::Authority;
pub use backoff::{BackOff, Luck};
pub use camera::{
    Camera, CameraHealth, CameraState, CameraStatus, Credentials, DecodePolicy, KeyframeRhythm,
    KeyframeWishes, OnvifAddress, Opening, Pace, ReadRate, StatusReason, StreamAddress,
    StreamCounters, Transport,
};
pub use correction::{Correction, CorrectionStore};
pub use coverage::{Coverage, CoverageState, CoverageStore, Covered};
pub use delivery::{Delivery, DeliveryLedger, Standing};
pub use error::InvalidValue;
pub use export::{
    EvidenceSealer, ExportOrder, Hidden, LeavingPicture, People, PictureRedactor, RedactedPicture,
    Sealing,
};
pub use frame::{CaptureTime, ClockSource, Frame, Stream, View};
pub use geometry::{BBox, GeoArea, GeoPoint, Point, Quad};
pub use ids::{
    AlertId, CameraId, Digest, PatrolUnitId, ReceiverId, SightingId, SiteId, TrackId, WatchEntryId,
};
pub use lattice::{Candidate, Lattice, Position};
pub use passages::{PassageSource, PlatePassage};
pub use patrol::{Acknowledgement, PatrolDuty, PatrolUnit, PatrolUnits};
pub use pattern::PlatePattern;
pub use picture::{OwnedPicture, Picture, PixelFormat, SharedPicture};
pub use plate::{PlateChar, PlateColour, PlateKind, PlateRead, PlateRows, PlateText};
pub use release::{PatternTactic, Release, ReleaseBook};
pub use roads::{RoadEdge, RoadGraph, RoadGraphStore};
pub use seams::{
    AlertLog, CameraControl, CameraRegistry, Clock, ControlError, Detector, Feedback, Findings,
    FrameSink, FrameSource, Kept, KeyframeAsker, Likely, LikelyQuery, LikelySearch, OpenStream,
    PictureEncoder, PlateReader, ReadAs, Receipt, Registered, SightingIntake, SightingStore,
    SimulatedClock, StoreError, VisionError, Watchlist,
};
pub use sighting::{
    Direction, Evidence, EvidenceKind, FusedPlate, Heading, PlateState, Recorded, Sighting,
    SightingPage, SightingQuery, SightingStage, SortOrder,
};
pub use stop::Stop;
pub use time::{TimeSpan, Timestamp};
pub use vehicle::{Detection, Vehicle, VehicleClass, VehicleColour};
pub use watch::{
    Alert, AlertStage, Approval, CompassPoint, DailyHours, Repeat, VehicleDescription, WatchEntry,
    WatchTarget, Weekday, Weekdays,
};
