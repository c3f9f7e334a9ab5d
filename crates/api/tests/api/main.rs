//! The real server on a real socket over scripted parts.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod access;
mod alert_forecasts;
mod alerts;
mod asked;
mod bad_input;
mod cameras;
mod compatibility;
mod imports;
mod judged;
mod operation;
mod oversight;
mod patrol;
mod proto_lint;
mod scripted;
mod sightings;
mod tactics;
mod trajectory;
mod watchlist;
