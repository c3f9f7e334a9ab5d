//! The real server on a real socket over scripted parts.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod access;
mod alerts;
mod cameras;
mod imports;
mod operation;
mod proto_lint;
mod scripted;
mod sightings;
mod tactics;
mod trajectory;
mod watchlist;
