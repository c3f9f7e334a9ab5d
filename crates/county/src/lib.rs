//! A simulated county: a road network, 304 sites with 1131 cameras, vehicles with habits, and the sightings that the
//! cameras make of them, each beside the exact truth.
//!
//! Owns: the world ([`County`]) and the stream of its passages ([`Passages`]). Sightings are as a server of ours makes
//! them: lattices with doubtful and wrong characters, clocks that are off, cameras that fail. Convoys and cloned
//! plates are planted and known.
//!
//! Never does: I/O, reading a clock, anything that depends on the machine's load or number of cores.
//!
//! Invariants:
//! * The same settings give the same passages, byte for byte, in the order of their capture times.
//! * What a vehicle does is possible: it is in one place at a time and never faster than the roads' limits.
//! * A camera that is out makes no sightings. Every plate fits the grammar of its kind, every misread one too.
//! * Memory: the vehicles (about 150 bytes each, at most 300,000) and the trips of one day; not the sightings.

mod cameras;
mod convoy;
mod county;
mod passages;
mod plan;
mod random;
mod reader;
mod roads;
mod vehicles;

pub use cameras::{CAMERAS, CLOCK_ERROR_MAX, Outage, SITES};
pub use convoy::{CloneTruth, ConvoyTruth};
pub use county::{County, CountySettings};
pub use passages::{Passage, Passages, Truth};
pub use roads::{Hop, NodeId, Roads};
pub use vehicles::{Habit, SimulatedVehicle, VehicleId};
