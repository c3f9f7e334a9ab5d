//! The messages, clients and servers generated from `proto/guiji/v1`; the protos are their documentation.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    rustdoc::all,
    reason = "generated code"
)]

pub use prost_types::{Duration, Timestamp};

tonic::include_proto!("guiji.v1");

/// The compiled descriptors of `proto/guiji/v1` and what it imports, comments included.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guiji.v1.fds"));

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}
