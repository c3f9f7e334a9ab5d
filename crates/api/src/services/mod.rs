//! The services: each method checks its request, asks the parts and turns the answer into messages.

mod acknowledge;
mod alert;
mod audit;
mod camera;
mod correction;
mod coverage;
mod delivery;
mod evidence;
mod forecast;
mod import;
mod import_context;
mod likely;
mod patrol;
mod release;
mod sighting;
mod tactics;
mod trajectory;
mod watchlist;

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::call::Core;

pub(crate) use evidence::checked as checked_export;
pub(crate) use release::release_from_pb as checked_release;
pub(crate) use trajectory::Told;

/// The answer of a unary method.
type Answer<T> = Result<Response<T>, Status>;
/// The messages of a streaming method.
type Messages<T> = ReceiverStream<Result<T, Status>>;

/// Implements every service over what they share.
#[derive(Clone)]
pub(crate) struct Services {
    core: Arc<Core>,
}

impl Services {
    pub(crate) fn new(core: Core) -> Self {
        Self { core: Arc::new(core) }
    }
}
