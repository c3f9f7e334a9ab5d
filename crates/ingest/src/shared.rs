use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::doorway::Doorway;
use crate::{IngestError, IngestSettings};

/// Threads on which the supervision of all cameras and the sessions of `retina` run. None of them ever waits.
const REACTOR_THREADS: usize = 2;
/// Threads for what must wait: names being resolved, pipelines of GStreamer being closed.
const BLOCKING_THREADS_MAX: usize = 32;

/// What all cameras of a source have in common.
pub(crate) struct Shared {
    reactor: Option<Runtime>,
    pub(crate) doorway: Arc<Doorway>,
}

impl Shared {
    /// `seed` decides the order in which cameras are opened.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub(crate) fn start(settings: &IngestSettings, seed: u64) -> Result<Self, IngestError> {
        let reactor = Builder::new_multi_thread()
            .worker_threads(REACTOR_THREADS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("guiji-cameras")
            .enable_all()
            .build()
            .map_err(IngestError::Threads)?;
        Ok(Self { reactor: Some(reactor), doorway: Doorway::new(settings.opening_max, seed) })
    }

    /// Where tasks are spawned. None when it is being shut down.
    pub(crate) fn reactor(&self) -> Option<&Handle> {
        self.reactor.as_ref().map(Runtime::handle)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last stream may be dropped on a thread of any runtime, ours included, where waiting is forbidden. All
        // supervisors have ended: they hold this.
        if let Some(reactor) = self.reactor.take() {
            reactor.shutdown_background();
        }
    }
}

/// Runs what may wait (a pipeline being closed, a sink's call) on a thread of the reactor, whose other tasks go on
/// elsewhere meanwhile.
#[allow(clippy::disallowed_methods)] // the reactor has another thread, and what is run borrows its surroundings
pub(crate) fn wait_here<T>(run: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(run)
}
