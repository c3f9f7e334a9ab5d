use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use guiji_domain::{
    Camera, Clock, Feedback, Findings, Frame, FrameSink, FrameSource, KeyframeRhythm, OpenStream,
    Stream, StreamCounters,
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
use crate::sentinel::Sentinel;
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

impl GstSource {
    fn line(
        &self,
        camera: Camera,
        stream: Stream,
        sentinel: Option<Arc<Sentinel>>,
        sink: Arc<dyn FrameSink>,
    ) -> Arc<Line> {
        Arc::new(Line {
            redactor: Redactor::new(camera.credentials.as_ref()),
            camera,
            stream,
            sentinel,
            settings: Arc::clone(&self.settings),
            clock: Arc::clone(&self.clock),
            shared: Arc::clone(&self.shared),
            mailbox: Mailbox::default(),
            outlet: Outlet::new(sink),
            tally: Tally::default(),
            pool: Arc::clone(&self.pool),
            desk: Mutex::default(),
            learnt: Mutex::default(),
            feedback: Mutex::default(),
            urgent: watch::Sender::default(),
        })
    }
}

/// Pictures of the substream shown to the detector at most, a second: one with a vehicle ends it.
const SUBSTREAM_FPS_MAX: f64 = 4.0;

impl FrameSource for GstSource {
    fn open(&self, camera: &Camera, sink: Arc<dyn FrameSink>) -> Box<dyn OpenStream> {
        let open = |line| Open { ended: Mutex::new(start_supervisor(&line)), line };
        let Some(address) = camera.watched_by().filter(|_| camera.enabled) else {
            if camera.substream.is_some() {
                let (camera, policy) = (&camera.id, camera.policy);
                tracing::debug!(%camera, %policy, "the substream is not opened: only RTSP and policy motion use it");
            }
            let main = open(self.line(camera.clone(), Stream::Main, None, sink));
            return Box::new(GstStream { main, substream: None });
        };
        let sentinel = Arc::new(Sentinel::default());
        let watching = Camera {
            address: address.clone(),
            substream: None,
            analysed_fps_max: camera.analysed_fps_max.min(SUBSTREAM_FPS_MAX),
            ..camera.clone()
        };
        let shared = Some(Arc::clone(&sentinel));
        let main = self.line(camera.clone(), Stream::Main, shared.clone(), sink);
        let substream = self.line(watching, Stream::Substream, shared, Arc::clone(&sentinel) as _);
        sentinel.post(&main, &substream);
        Box::new(GstStream { main: open(main), substream: Some(open(substream)) })
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
            if supervised.stream == Stream::Substream
                && let Some(sentinel) = &supervised.sentinel
            {
                sentinel.lost(panic);
            }
        }
        drop(alive);
    };
    if let Some(reactor) = line.shared.reactor() {
        reactor.spawn(run);
    }
    ended
}

/// One of a camera's streams.
struct Open {
    line: Arc<Line>,
    ended: Mutex<Receiver<()>>,
}

impl Open {
    fn feedback(&self, feedback: Feedback) {
        *self.line.feedback.lock().unwrap_or_else(PoisonError::into_inner) = feedback;
        self.line.urgent.send_replace(feedback.urgent);
        if let Some(desk) = self.line.desk() {
            desk.follows(feedback);
        }
    }

    fn wait_for_its_end(&self) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        waiting(|| {
            while ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let camera = &self.line.camera.id;
                tracing::warn!(%camera, "closing a camera takes long: does its sink block?");
            }
        });
    }
}

/// A camera being watched.
struct GstStream {
    main: Open,
    /// Where it watches in place of the main stream.
    substream: Option<Open>,
}

impl GstStream {
    fn streams(&self) -> impl Iterator<Item = &Open> {
        [&self.main].into_iter().chain(&self.substream)
    }
}

impl OpenStream for GstStream {
    fn counters(&self) -> StreamCounters {
        let main = self.main.line.tally.counters();
        let Some(substream) = &self.substream else { return main };
        let watched = substream.line.tally.counters();
        StreamCounters {
            substream_decoded: watched.decoded,
            shed: main.shed + watched.shed,
            ..main
        }
    }

    fn feedback(&self, feedback: Feedback) {
        self.main.feedback(feedback);
        if let Some(substream) = &self.substream {
            // Nobody follows anything in it.
            substream.feedback(Feedback { live_tracks: 0, ..feedback });
        }
    }

    fn detected(&self, frame: &Frame, findings: Findings) {
        let open = match (frame.stream, &self.substream) {
            (Stream::Main, _) => &self.main,
            (Stream::Substream, Some(substream)) => substream,
            (Stream::Substream, None) => return,
        };
        if let Some(desk) = open.line.desk() {
            desk.detected(frame.pts, findings);
        }
        if frame.stream == Stream::Substream
            && let Some(sentinel) = &open.line.sentinel
        {
            sentinel.answered(frame.captured, findings.news);
        }
    }

    fn room(&self) {
        self.streams().filter_map(|open| open.line.desk()).for_each(|desk| desk.room());
    }

    fn blind_time(&self) -> Duration {
        let watching = match (&self.substream, &self.main.line.sentinel) {
            (Some(substream), Some(sentinel)) if sentinel.watches() => substream,
            _ => &self.main,
        };
        watching.line.desk().map_or(Duration::ZERO, |desk| desk.blind())
    }

    fn keyframes(&self) -> KeyframeRhythm {
        let of = |open: &Open| open.line.desk().map(|desk| desk.keyframes()).unwrap_or_default();
        let main = of(&self.main);
        let dense = main.dense || self.substream.as_ref().is_some_and(|open| of(open).dense);
        KeyframeRhythm { dense, ..main }
    }
}

impl Drop for GstStream {
    fn drop(&mut self) {
        for Open { line, .. } in self.streams() {
            line.outlet.close();
            line.mailbox.close();
        }
        // From inside a call of its own sink, waiting would be waiting for ourselves: that call is the last one.
        if self.streams().any(|open| open.line.outlet.is_calling_here()) {
            return;
        }
        self.streams().for_each(Open::wait_for_its_end);
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
