//! The real server on a real socket over scripted parts.

mod alerts;
mod cameras;
mod operation;
mod proto_lint;
mod scripted;
mod sightings;
mod trajectory;
mod watchlist;
