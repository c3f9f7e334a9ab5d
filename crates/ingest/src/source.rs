use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use guiji_domain::{
    Camera, CameraState, Clock, Feedback, FrameSink, FrameSource, OpenStream, StatusReason,
    StreamCounters,
};

use crate::elements::require_elements;
use crate::link::Line;
use crate::mailbox::Mailbox;
use crate::outlet::{Outlet, caught};
use crate::pool::DecodePool;
use crate::redact::Redactor;
use crate::report::Reporter;
use crate::supervisor::supervise;
use crate::tally::Tally;
use crate::{IngestError, IngestSettings};

/// Opens cameras with GStreamer.
pub struct GstSource {
    settings: Arc<IngestSettings>,
    clock: Arc<dyn Clock>,
    pool: Arc<DecodePool>,
}

impl GstSource {
    /// Starts GStreamer and checks that all its parts are there.
    ///
    /// # Errors
    /// When GStreamer does not start, is too old, lacks elements (the error names the packages to install), or a
    /// setting is out of range.
    pub fn new(settings: IngestSettings, clock: Arc<dyn Clock>) -> Result<Self, IngestError> {
        settings.check()?;
        require_elements()?;
        let pool = DecodePool::start(settings.decoders).map_err(IngestError::Threads)?;
        Ok(Self { settings: Arc::new(settings), clock, pool: Arc::new(pool) })
    }
}

impl FrameSource for GstSource {
    fn open(&self, camera: &Camera, sink: Arc<dyn FrameSink>) -> Box<dyn OpenStream> {
        let line = Arc::new(Line {
            camera: camera.clone(),
            settings: Arc::clone(&self.settings),
            clock: Arc::clone(&self.clock),
            mailbox: Mailbox::default(),
            outlet: Outlet::new(sink),
            tally: Tally::default(),
            redactor: Redactor::new(camera.credentials.as_ref()),
            pool: Arc::clone(&self.pool),
            desk: Mutex::default(),
        });
        let supervisor = start_supervisor(&line);
        Box::new(GstStream { line, supervisor: Mutex::new(supervisor) })
    }
}

fn start_supervisor(line: &Arc<Line>) -> Option<JoinHandle<()>> {
    let supervised = Arc::clone(line);
    let run = move || {
        if let Err(panic) = caught(|| supervise(&supervised)) {
            let panic = supervised.redactor.clean(&panic);
            tracing::error!(camera = %supervised.camera.id, panic, "supervisor ended by a programming error");
        }
    };
    // Its stack is shallow; a thousand of them should not reserve gigabytes.
    match Builder::new().name("guiji-camera".to_owned()).stack_size(512 * 1024).spawn(run) {
        Ok(handle) => Some(handle),
        Err(error) => {
            tracing::error!(camera = %line.camera.id, %error, "no thread for a camera");
            let detail = format!("no thread can be started for it: {error}");
            let mut reporter = Reporter::new(Arc::clone(line));
            reporter.now(CameraState::Misconfigured, Some(StatusReason::Other), &detail);
            None
        }
    }
}

/// A camera being watched.
struct GstStream {
    line: Arc<Line>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl OpenStream for GstStream {
    fn counters(&self) -> StreamCounters {
        self.line.tally.counters()
    }

    fn feedback(&self, feedback: Feedback) {
        if let Some(desk) = self.line.desk() {
            desk.follows(feedback);
        }
    }

    fn blind_time(&self) -> Duration {
        self.line.desk().map_or(Duration::ZERO, |desk| desk.blind())
    }
}

impl Drop for GstStream {
    fn drop(&mut self) {
        self.line.outlet.close();
        self.line.mailbox.close();
        let handle = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        // From inside a call of its own sink, waiting would be waiting for ourselves: that call is the last one.
        if let Some(handle) = handle
            && !self.line.outlet.is_calling_here()
            && handle.join().is_err()
        {
            tracing::error!(camera = %self.line.camera.id, "supervisor did not end well");
        }
    }
}
