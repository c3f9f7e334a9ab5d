//! The services: each method checks its request, asks the parts and turns the answer into messages.

mod alert;
mod camera;
mod import;
mod sighting;
mod tactics;
mod trajectory;
mod watchlist;

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::call::Core;

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
