//! Guiji's gRPC interface: the contract in `proto/guiji/v1`, a server over the domain's seams, and a client.
//!
//! Owns: the messages ([`pb`]), their conversion to and from the domain ([`convert`]), the checking of requests, the
//! mapping of errors to `google.rpc` details, deadlines and limits, the audit line of each data call, health,
//! reflection, drain ([`ApiServer`]), a client that hides gRPC from the program ([`client`]), the messages as JSON
//! ([`json`]), and the page of metrics over HTTP ([`serve_metrics`]).
//!
//! Never does: decisions about vehicles (those are `analysis`), storage, video. Nobody else in the workspace knows
//! tonic.
//!
//! Invariants:
//! * A data call without a complete [`guiji_domain::Authority`] reaches no part; health and reflection are exempt.
//! * Each data call leaves exactly one `tracing` event of target `audit` when it ends, however it ends: method,
//!   authority, question, number of results, outcome.
//! * Everything is bounded: message sizes, calls, streams, blocking threads, time, page sizes, messages ahead of a
//!   slow client. A slow alert client delays nobody and loses nothing: what waits for it waits in the log. A slow
//!   live feed is told how many sightings it missed.
//! * Credentials go in and never come out, neither in answers nor in logs.
//! * No path, cause or other secret of the server is in an error sent to a client.
//! * It listens beyond the loopback interface only when that was allowed explicitly, since there is no TLS yet.

mod call;
pub mod client;
pub mod convert;
mod error;
mod filter;
pub mod json;
mod metrics;
mod page_token;
mod parts;
pub mod pb;
mod server;
mod services;
mod settings;
mod violations;

pub use error::ApiError;
pub use metrics::serve_metrics;
pub use parts::ApiParts;
pub use server::ApiServer;
pub use settings::{ApiSettings, Exposure, FileCameras, listen_address_allowed};
