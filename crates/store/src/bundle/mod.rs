//! Bundles of evidence: what leaves the house in one file, sealed so that anybody can check it without us.
//!
//! # Format
//! A POSIX tar (ustar) whose headers say nothing but name and size, so that no byte of the file is free:
//! ```text
//! README.txt                   what this is and how to check it
//! sightings.json               the documents of the order: the sightings, one JSON object a line
//! pictures/ID/1-frame.jpg      the pictures, in the order of the sightings and of their evidence
//! manifest.json                what is in the bundle, where it comes from, by what right it was made
//! manifest.sig                 Ed25519 over "guiji evidence bundle 1\0" ‖ manifest.json
//! ```
//! and two blocks of zeros, nothing after them. The same order gives the same bytes. The manifest has the SHA-256 and
//! the size of each other file, in the order of the archive; where a picture was changed to hide people, the digest of
//! the original, by which the sightings name it, stands beside it.

mod archive;
mod manifest;
mod seal;
mod verify;

pub use manifest::{
    Absent, ClockStatement, HiddenParts, Manifest, ManifestAuthority, ManifestFile, ModelStatement,
    Original, SoftwareStatement,
};
pub use seal::BundleSealer;
pub(crate) use seal::check_keys;
pub(crate) use verify::verify_archive;
pub use verify::{BundleFault, BundleReport, verify_bundle};

/// What is signed begins with it.
const SIGNED: &[u8] = b"guiji evidence bundle 1\0";
const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "manifest.sig";
