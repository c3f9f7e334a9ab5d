//! Guiji's gRPC interface: the contract in `proto/guiji/v1`, a server over the domain's seams, and a client.
//!
//! Owns: the messages ([`pb`]), their conversion to and from the domain ([`convert`]), the checking of requests, the
//! mapping of errors to `google.rpc` details, TLS, tokens and roles, deadlines and limits, the audit record of each
//! data call, health,
//! reflection, drain ([`ApiServer`]), a client that hides gRPC from the program ([`client`]), the messages as JSON
//! ([`json`]), and the page of metrics over HTTP ([`serve_metrics`]).
//!
//! Never does: decisions about vehicles (those are `analysis`), storage, video. Nobody else in the workspace knows
//! tonic.
//!
//! Invariants:
//! * A data call without a complete [`guiji_domain::Authority`] reaches no part; health and reflection are exempt.
//! * Each data call leaves exactly one record in the audit when it ends, however it ends: method, authority, question,
//!   number of results, outcome. A stream leaves one more when it opens. No answer leaves whose record is not durable.
//! * Everything is bounded: message sizes, calls, streams, blocking threads, time, page sizes, messages ahead of a
//!   slow client. A slow alert client delays nobody and loses nothing: what waits for it waits in the log. A slow
//!   live feed is told how many sightings it missed.
//! * Credentials go in and never come out, neither in answers nor in logs.
//! * No path, cause or other secret of the server is in an error sent to a client.
//! * Beyond the loopback interface it listens only with TLS and tokens, or when that was allowed explicitly.
//! * With tokens, a data call without one that holds reaches no part, and whose it is decides what it may do and see;
//!   the officer of the audit is the token's subject, whatever the request says.

mod answers;
mod asked;
mod auth;
mod call;
pub mod client;
mod clone_watch;
pub mod convert;
mod corrected;
mod error;
mod filter;
#[doc(hidden)]
pub mod fuzz;
pub mod json;
pub mod likely;
mod metrics;
mod network;
mod page_token;
mod parts;
mod passages;
pub mod pb;
mod releases;
mod server;
mod services;
mod settings;
mod violations;

pub use answers::Answers;
pub use auth::{
    ClientCertificate, ClientCertificates, KeyError, RevokedTokens, Rights, Role, TokenKeys,
    TokenScope, TokenSettings, TokenSigner, TokenSpec, TokenVerifier, new_signing_key,
};
pub use error::ApiError;
pub use metrics::serve_metrics;
pub use parts::ApiParts;
pub use passages::PassageSettings;
pub use server::{ApiServer, ServerTls};
pub use settings::{ApiSettings, Exposure, FileCameras, Protection, listen_address_allowed};
