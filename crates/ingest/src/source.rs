use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use guiji_domain::{
    Camera, Clock, Feedback, FrameSink, FrameSource, KeyframeRhythm, OpenStream, StreamCounters,
};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;

use crate::descriptors::make_room_for;
use crate::elements::require_elements;
use crate::link::Line;
use crate::mailbox::Mailbox;
use crate::outlet::{Outlet, text_of};
use crate::pool::DecodePool;
use crate::redact::Redactor;
use crate::shared::{Shared, wait_here};
use crate::supervisor::supervise;
use crate::tally::Tally;
use crate::{IngestError, IngestSettings};

/// Opens cameras.
pub struct GstSource {
    settings: Arc<IngestSettings>,
    clock: Arc<dyn Clock>,
    pool: Arc<DecodePool>,
    shared: Arc<Shared>,
}

impl GstSource {
    /// Starts GStreamer, checks that all its parts are there, and starts the threads that all cameras share.
    ///
    /// # Errors
    /// When GStreamer does not start, is too old, lacks elements (the error names the packages to install), a
    /// setting is out of range, or there are no threads to be had.
    pub fn new(settings: IngestSettings, clock: Arc<dyn Clock>) -> Result<Self, IngestError> {
        settings.check()?;
        require_elements()?;
        let pool = Arc::new(DecodePool::start(settings.decoders).map_err(IngestError::Threads)?);
        let shared = Arc::new(Shared::start(&settings, clock.now().as_nanos() as u64)?);
        Ok(Self { settings: Arc::new(settings), clock, pool, shared })
    }
}

impl FrameSource for GstSource {
    fn open(&self, camera: &Camera, sink: Arc<dyn FrameSink>) -> Box<dyn OpenStream> {
        let line = Arc::new(Line {
            camera: camera.clone(),
            settings: Arc::clone(&self.settings),
            clock: Arc::clone(&self.clock),
            shared: Arc::clone(&self.shared),
            mailbox: Mailbox::default(),
            outlet: Outlet::new(sink),
            tally: Tally::default(),
            redactor: Redactor::new(camera.credentials.as_ref()),
            pool: Arc::clone(&self.pool),
            desk: Mutex::default(),
            learnt: Mutex::default(),
            feedback: Mutex::default(),
            urgent: watch::Sender::default(),
        });
        let ended = start_supervisor(&line);
        Box::new(GstStream { line, ended: Mutex::new(ended) })
    }

    fn make_room(&self, open: usize) -> Result<(), String> {
        make_room_for(open).map_err(|error| error.to_string())
    }
}

/// What it gives back is disconnected when the supervisor has ended.
fn start_supervisor(line: &Arc<Line>) -> Receiver<()> {
    let (alive, ended) = sync_channel::<()>(1);
    let supervised = Arc::clone(line);
    let run = async move {
        if let Err(panic) = AssertUnwindSafe(supervise(&supervised)).catch_unwind().await {
            let panic = supervised.redactor.clean(&text_of(panic.as_ref()));
            tracing::error!(camera = %supervised.camera.id, panic, "supervisor ended by a programming error");
        }
        drop(alive);
    };
    if let Some(reactor) = line.shared.reactor() {
        reactor.spawn(run);
    }
    ended
}

/// A camera being watched.
struct GstStream {
    line: Arc<Line>,
    ended: Mutex<Receiver<()>>,
}

impl OpenStream for GstStream {
    fn counters(&self) -> StreamCounters {
        self.line.tally.counters()
    }

    fn feedback(&self, feedback: Feedback) {
        *self.line.feedback.lock().unwrap_or_else(PoisonError::into_inner) = feedback;
        self.line.urgent.send_replace(feedback.urgent);
        if let Some(desk) = self.line.desk() {
            desk.follows(feedback);
        }
    }

    fn detected(&self, pts: Duration, vehicles: usize) {
        if let Some(desk) = self.line.desk() {
            desk.detected(pts, vehicles);
        }
    }

    fn room(&self) {
        if let Some(desk) = self.line.desk() {
            desk.room();
        }
    }

    fn blind_time(&self) -> Duration {
        self.line.desk().map_or(Duration::ZERO, |desk| desk.blind())
    }

    fn keyframes(&self) -> KeyframeRhythm {
        self.line.desk().map(|desk| desk.keyframes()).unwrap_or_default()
    }
}

impl Drop for GstStream {
    fn drop(&mut self) {
        self.line.outlet.close();
        self.line.mailbox.close();
        // From inside a call of its own sink, waiting would be waiting for ourselves: that call is the last one.
        if self.line.outlet.is_calling_here() {
            return;
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        waiting(|| {
            while ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let camera = &self.line.camera.id;
                tracing::warn!(%camera, "closing a camera takes long: does its sink block?");
            }
        });
    }
}

/// How long closing may take until somebody hears of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits without keeping an async runtime's thread from its other tasks, ours above all: they may be what is waited for.
fn waiting(wait: impl FnOnce()) {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            wait_here(wait);
        }
        _ => wait(),
    }
}
