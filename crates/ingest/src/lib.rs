//! Cameras in, frames out.
//!
//! Owns: the way from a registered [`guiji_domain::Camera`] to [`guiji_domain::Frame`]s: opening RTSP, HTTP and
//! file sources with GStreamer, finding the H.264 or H.265 stream in them, the gate on encoded units
//! (`gate`, over the `ring` of the last groups of pictures, heeding the `sizes` of units and `glimpses` between keyframes; `sentinel`, where a substream watches in its place), decoding (`pool`, `decoder`), the capture time of every picture (`capture_clock`), the detector-sized copy
//! (`scaler`), and the supervision that turns every trouble into a named state, a reason and a retry
//! (`supervisor`, `failure`).
//!
//! Never does: knowing what a vehicle is, keeping frames, ending the process. Of pixels it knows only whether a view
//! has changed (`glance`). It holds no queue of decoded pictures: the sink is called from the decoding thread, so
//! what a slow sink may cost is the sink's decision ([`guiji_domain::FrameSink`]).
//!
//! The way: a receiver (`pipeline`, `intake`) brings units to the connection's `desk`; the desk's gate says which of
//! them are decoded; whoever has the turn decodes them and hands frames to the sink (`delivery`). Nothing behind the
//! desk knows where a unit came from.
//!
//! Invariants:
//! * Opening never fails and never blocks; from then on trouble is a status.
//! * After [`guiji_domain::OpenStream`] is dropped the sink is not called any more. Dropped from inside one of the
//!   sink's own calls, closing is only begun: that one call is still on its way.
//! * No callback unwinds into C: a panic, ours or the sink's, ends that connection, is counted and retried.
//! * User name and password go to GStreamer as properties, never in an address, and every text that leaves this
//!   crate is cut by `redact`. (GStreamer's own debug log, if somebody turns it on by `GST_DEBUG`, is not ours.)
//! * Encoded units are the last place where a stream can be made cheaper: everything between the source and the
//!   gate costs microseconds a unit, everything behind it milliseconds.
//!
//! Threads: two for the supervision of all cameras and all sessions of `retina` (tasks of a small runtime), one a
//! core for decoding (`pool`), and those that GStreamer starts for each camera that it
//! receives itself: `rtsps://`, HTTP, files, and `rtsp://` if so configured. docs/adr/0006-rtsp-receiver.md has why.

mod afterimage;
mod capture_clock;
mod decoder;
mod delivery;
mod dense;
mod descriptors;
mod desk;
mod doorway;
mod elements;
mod error;
mod failure;
mod gate;
mod glance;
mod glimpses;
mod h265;
mod intake;
mod link;
mod mailbox;
mod moments;
mod outlet;
mod picture;
mod pipeline;
mod pool;
mod redact;
mod renumber;
mod report;
mod ring;
mod rtsp_client;
mod scaler;
mod score;
mod sentinel;
mod session;
mod settings;
mod shared;
mod sizes;
mod slices;
mod source;
mod supervisor;
mod tally;
mod timeline;
mod unit;

pub use descriptors::make_room_for;
pub use elements::{MissingElement, Need, missing_elements};
pub use error::IngestError;
pub use settings::{IngestSettings, RtspReceiver};
pub use source::GstSource;
