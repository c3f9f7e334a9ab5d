//! Clips as live RTSP cameras on one time line.
//!
//! Every clip is paced by a thread of its own against one clock. Before the story starts it repeats its first group
//! of pictures (in composed clips: an empty road); at the start instant all clips begin at pts 0 together. A client
//! that comes later joins in at the next keyframe, as with a real camera. The running time of each picture is its
//! instant of capture, so RTCP sender reports carry the true wall clock.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;
use guiji_domain::{CameraId, Clock, Timestamp};

use crate::SceneError;
use crate::encode::Codec;
use crate::reader::{Unit, UnitReader};

/// A file to be served as a camera.
#[derive(Debug, Clone)]
pub struct ServedClip {
    /// Path of the stream: `rtsp://HOST:PORT/ID`.
    pub id: CameraId,
    /// The video: mp4, mkv or ts with H.264 or H.265.
    pub file: PathBuf,
}

/// How clips are served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// When the story starts.
    pub start: StartRule,
    /// What follows the end.
    pub at_end: AtEnd,
    /// User name and password that clients must give, if any.
    pub login: Option<(String, String)>,
}

/// When pts 0 of all clips is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartRule {
    /// As soon as possible.
    AtOnce,
    /// A second after so many cameras are watched, or when patience ends after the first is.
    Watched {
        /// Number of cameras.
        cameras: usize,
        /// Longest wait after the first client.
        patience: Duration,
    },
}

/// What a clip does after its last picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// Sends nothing more; connections stay open.
    Silence,
    /// Begins again, in step with the longest clip's end only if all are equally long.
    Loop,
}

/// What is wrong with a camera on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The stream does not exist: clients are cut off, new ones get 404.
    Down,
    /// Connected, but no picture is sent.
    Frozen,
}

/// A running server. Dropping it ends all streams.
pub struct SceneServer {
    port: u16,
    shared: Arc<Shared>,
    server: rtsp::RTSPServer,
    mounts: rtsp::RTSPMountPoints,
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) struct Shared {
    pub(crate) cameras: Vec<Arc<Channel>>,
    clock: gst::Clock,
    start: Mutex<Option<Start>>,
    started: Condvar,
    stop: AtomicBool,
    clients: Mutex<Vec<(String, glib::WeakRef<rtsp::RTSPClient>)>>,
    needs_login: bool,
}

#[derive(Clone, Copy)]
struct Start {
    /// On the pipeline clock, nanoseconds.
    ticks: u64,
    /// The same instant in UTC.
    utc: Timestamp,
}

/// One camera: what it plays and to whom.
pub(crate) struct Channel {
    clip: ServedClip,
    codec: Codec,
    live: Mutex<Option<Live>>,
    fault: AtomicU8,
    ended: AtomicBool,
}

struct Live {
    source: gst_app::AppSrc,
    /// Nothing is sent before a keyframe.
    has_begun: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No holder leaves a half-made state behind: a poisoned lock is usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SceneServer {
    /// Starts serving. `clock` tells the wall time at which the story starts.
    ///
    /// # Errors
    /// When a clip cannot be read or the port is taken.
    pub fn start(
        clips: Vec<ServedClip>,
        options: &ServeOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SceneError> {
        let mut cameras = Vec::new();
        let mut readers = Vec::new();
        for clip in clips {
            let reader = UnitReader::open(&clip.file)?;
            cameras.push(Arc::new(Channel::new(clip, reader.codec)));
            readers.push(reader);
        }
        let mut this = Self::listen(cameras, options)?;
        this.spawn_threads(readers, options, clock)?;
        Ok(this)
    }

    /// A server that answers clients, and sends nothing yet.
    pub(crate) fn listen(
        cameras: Vec<Arc<Channel>>,
        options: &ServeOptions,
    ) -> Result<Self, SceneError> {
        let fail = |problem: &dyn std::fmt::Display| SceneError::media("rtsp server")(problem);
        gst::init().map_err(|e| fail(&e))?;
        let shared = Arc::new(Shared {
            cameras,
            clock: gst::SystemClock::obtain(),
            start: Mutex::new(None),
            started: Condvar::new(),
            stop: AtomicBool::new(false),
            clients: Mutex::new(Vec::new()),
            needs_login: options.login.is_some(),
        });
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service(&options.port.to_string());
        if let Some((user, password)) = &options.login {
            server.set_auth(Some(&basic_login(user, password)));
        }
        let mounts = server.mount_points().ok_or_else(|| fail(&"no mount points"))?;
        for camera in &shared.cameras {
            mounts.add_factory(&camera.path(), factory(camera, &shared));
        }
        remember_clients(&server, &shared);
        let attached = server.attach(Some(&context)).map_err(|_| {
            fail(&format!("port {} is taken or not allowed: choose another", options.port))
        })?;
        tracing::debug!(source = ?attached, "server attached");
        let port = u16::try_from(server.bound_port()).map_err(|_| fail(&"has no port"))?;
        let mut this =
            Self { port, shared, server, mounts, context, main_loop, threads: Vec::new() };
        let (context, main_loop) = (this.context.clone(), this.main_loop.clone());
        this.spawn("rtsp", move || {
            if context.with_thread_default(|| main_loop.run()).is_err() {
                tracing::error!("rtsp main loop could not take its context");
            }
        })?;
        Ok(this)
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Starts a thread that ends when the server does.
    pub(crate) fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), SceneError> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(SceneError::file("start thread", name))?;
        self.threads.push(thread);
        Ok(())
    }

    fn spawn_threads(
        &mut self,
        readers: Vec<UnitReader>,
        options: &ServeOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<(), SceneError> {
        let (shared, rule) = (self.shared.clone(), options.start);
        self.spawn("start", move || shared.await_start(rule, &*clock))?;
        for (camera, reader) in self.shared.cameras.clone().into_iter().zip(readers) {
            let (shared, at_end) = (self.shared.clone(), options.at_end);
            self.spawn("camera", move || {
                if let Err(error) = play(&shared, &camera, reader, at_end) {
                    tracing::warn!(camera = %camera.clip.id, %error, "clip ended early");
                }
                camera.ended.store(true, Ordering::Release);
            })?;
        }
        Ok(())
    }

    /// The port in use.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address of a camera's stream.
    pub fn url(&self, camera: &CameraId) -> String {
        format!("rtsp://127.0.0.1:{}/{camera}", self.port)
    }

    /// When pts 0 of all clips was (or will be, within a second) sent, once that is decided.
    pub fn started(&self) -> Option<Timestamp> {
        lock(&self.shared.start).map(|s| s.utc)
    }

    /// Waits until the start is decided.
    pub fn wait_started(&self, timeout: Duration) -> Option<Timestamp> {
        let waited = self
            .shared
            .started
            .wait_timeout_while(lock(&self.shared.start), timeout, |s| s.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        waited.0.map(|s| s.utc)
    }

    /// Whether every clip has sent its last picture.
    pub fn has_ended(&self) -> bool {
        self.shared.cameras.iter().all(|c| c.ended.load(Ordering::Acquire))
    }

    /// Breaks or mends a camera. The story's time goes on meanwhile. Says whether there is such a camera.
    pub fn set_fault(&self, camera: &CameraId, fault: Fault) -> bool {
        let Some(channel) = self.shared.cameras.iter().find(|c| c.clip.id == *camera) else {
            return false;
        };
        let before = channel.fault.swap(fault as u8, Ordering::AcqRel);
        let was_down = before == Fault::Down as u8;
        if fault == Fault::Down && !was_down {
            self.mounts.remove_factory(&channel.path());
            lock(&channel.live).take();
            self.disconnect(&channel.path());
        } else if fault != Fault::Down && was_down {
            self.mounts.add_factory(&channel.path(), factory(channel, &self.shared));
        }
        true
    }

    fn disconnect(&self, path: &str) {
        let gone: Vec<_> = {
            let mut clients = lock(&self.shared.clients);
            let all = std::mem::take(&mut *clients);
            let (gone, kept) = all.into_iter().partition(|(url, _)| url.ends_with(path));
            *clients = kept;
            gone
        };
        self.context.invoke(move || {
            for client in gone.iter().filter_map(|(_, client)| client.upgrade()) {
                client.close();
            }
        });
    }
}

impl Drop for SceneServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.started.notify_all();
        for camera in &self.shared.cameras {
            lock(&camera.live).take();
        }
        let server = self.server.clone();
        let main_loop = self.main_loop.clone();
        self.context.invoke(move || {
            server.client_filter(Some(&mut |_, client| {
                client.close();
                rtsp::RTSPFilterResult::Remove
            }));
            main_loop.quit();
        });
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a serving thread panicked");
            }
        }
    }
}

fn basic_login(user: &str, password: &str) -> rtsp::RTSPAuth {
    let auth = rtsp::RTSPAuth::new();
    let token = rtsp::RTSPToken::builder().field("media.factory.role", ROLE).build();
    auth.add_basic(&rtsp::RTSPAuth::make_basic(user, password), &token);
    auth
}

/// Who may watch, where a login is asked for.
const ROLE: &str = "viewer";

fn remember_clients(server: &rtsp::RTSPServer, shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    server.connect_client_connected(move |_, client| {
        let shared = shared.clone();
        client.connect_play_request(move |client, context| {
            if let (Some(shared), Some(url)) = (shared.upgrade(), context.uri()) {
                let url = url.request_uri().trim_end_matches('/').to_owned();
                let mut clients = lock(&shared.clients);
                clients.retain(|(_, c)| c.upgrade().is_some());
                clients.push((url, client.downgrade()));
            }
        });
    });
}

fn factory(camera: &Arc<Channel>, shared: &Arc<Shared>) -> rtsp::RTSPMediaFactory {
    let kind = camera.codec.as_str();
    let factory = rtsp::RTSPMediaFactory::new();
    factory.set_launch(&format!(
        "( appsrc name=source is-live=true format=time max-bytes=8000000 leaky-type=downstream \
         caps=video/x-{kind},stream-format=byte-stream,alignment=au \
         ! {kind}parse ! rtp{kind}pay name=pay0 pt=96 config-interval=1 )",
        kind = kind
    ));
    factory.set_shared(true);
    if shared.needs_login {
        let role = gst::Structure::builder(ROLE)
            .field("media.factory.access", true)
            .field("media.factory.construct", true)
            .build();
        factory.add_role_from_structure(&role);
    }
    let clock = shared.clock.clone();
    factory.set_clock(Some(&clock));
    let camera = Arc::downgrade(camera);
    factory.connect_media_configure(move |_, media| {
        let source = media
            .element()
            .downcast::<gst::Bin>()
            .ok()
            .and_then(|bin| bin.by_name("source"))
            .and_downcast::<gst_app::AppSrc>();
        let (Some(camera), Some(source)) = (camera.upgrade(), source) else { return };
        *lock(&camera.live) = Some(Live { source: source.clone(), has_begun: false });
        let weak = Arc::downgrade(&camera);
        media.connect_unprepared(move |_| {
            if let Some(camera) = weak.upgrade() {
                let mut live = lock(&camera.live);
                // A newer media may have taken its place already.
                if live.as_ref().is_some_and(|l| l.source == source) {
                    live.take();
                }
            }
        });
    });
    factory
}

impl Channel {
    pub(crate) fn new(clip: ServedClip, codec: Codec) -> Self {
        Self {
            codec,
            clip,
            live: Mutex::new(None),
            fault: AtomicU8::new(Fault::None as u8),
            ended: AtomicBool::new(false),
        }
    }

    fn path(&self) -> String {
        format!("/{}", self.clip.id)
    }

    /// Hands a picture that was captured at `due` (clock ticks) to whoever is watching.
    pub(crate) fn send(&self, unit: &Unit, due: u64) {
        if self.fault.load(Ordering::Acquire) != Fault::None as u8 {
            return;
        }
        let mut slot = lock(&self.live);
        let Some(live) = slot.as_mut() else { return };
        let (_, state, _) = live.source.state(gst::ClockTime::ZERO);
        if state != gst::State::Playing || (!live.has_begun && !unit.is_key) {
            return;
        }
        let Some(base) = live.source.base_time() else { return };
        let Some(running) = due.checked_sub(base.nseconds()) else { return };
        live.has_begun = true;
        let mut buffer = unit.buffer.copy();
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(running));
            buffer.set_dts(gst::ClockTime::NONE);
        }
        if live.source.push_buffer(buffer).is_err() {
            slot.take(); // the media is going away; its next client makes a new one
        }
    }

    fn is_watched(&self) -> bool {
        lock(&self.live).as_ref().is_some_and(|l| l.has_begun)
    }
}

/// From decision to start: long enough for every pacing thread to notice.
const START_DELAY: Duration = Duration::from_millis(300);
/// Time for the last client's decoder to settle.
const SETTLE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

impl Shared {
    pub(crate) fn now(&self) -> u64 {
        self.clock.time().nseconds()
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn await_start(&self, rule: StartRule, clock: &dyn Clock) {
        if let StartRule::Watched { cameras, patience } = rule {
            let mut first = None;
            loop {
                if self.is_stopping() {
                    return;
                }
                let watched = self.cameras.iter().filter(|c| c.is_watched()).count();
                if watched > 0 {
                    let since = *first.get_or_insert_with(|| self.now());
                    let waited = Duration::from_nanos(self.now().saturating_sub(since));
                    if watched >= cameras.min(self.cameras.len()) || waited >= patience {
                        break;
                    }
                }
                std::thread::sleep(POLL);
            }
            std::thread::sleep(SETTLE);
        }
        let start = Start {
            ticks: self.now() + START_DELAY.as_nanos() as u64,
            utc: clock.now().plus(START_DELAY),
        };
        *lock(&self.start) = Some(start);
        self.started.notify_all();
    }

    /// Sleeps until an instant of the clock. `false` when the server is stopping.
    pub(crate) fn sleep_until(&self, due: u64) -> bool {
        loop {
            if self.is_stopping() {
                return false;
            }
            let Some(left) = due.checked_sub(self.now()).filter(|l| *l > 0) else { return true };
            std::thread::sleep(Duration::from_nanos(left).min(Duration::from_millis(200)));
        }
    }

    fn start_ticks(&self) -> Option<u64> {
        lock(&self.start).map(|s| s.ticks)
    }
}

/// Most pictures that are kept for the time before the start.
const HOLD_MAX: usize = 300;

fn play(
    shared: &Shared,
    camera: &Channel,
    mut reader: UnitReader,
    at_end: AtEnd,
) -> Result<(), SceneError> {
    let (hold, mut ahead) = read_first_group(&mut reader)?;
    let Some(mut zero) = repeat_until_start(shared, camera, &hold) else { return Ok(()) };
    let mut pending = hold.into_iter();
    let (mut last, mut step) = (0, 0);
    loop {
        let unit = match pending.next().or_else(|| ahead.take()) {
            Some(unit) => Some(unit),
            None => reader.next()?,
        };
        let Some(unit) = unit else {
            if at_end == AtEnd::Silence {
                return Ok(());
            }
            zero += last + step;
            (last, step) = (0, 0);
            reader = UnitReader::open(&camera.clip.file)?;
            continue;
        };
        let pts = unit.pts.nseconds();
        // In decoding order; a B-frame's time lies before its predecessor's.
        if pts > last {
            step = pts - last;
            last = pts;
        }
        if !shared.sleep_until(zero + last) {
            return Ok(());
        }
        camera.send(&unit, zero + pts);
    }
}

/// The pictures up to the second keyframe, and that keyframe.
fn read_first_group(reader: &mut UnitReader) -> Result<(Vec<Unit>, Option<Unit>), SceneError> {
    let mut group: Vec<Unit> = Vec::new();
    while group.len() < HOLD_MAX {
        match reader.next()? {
            Some(unit) if unit.is_key && !group.is_empty() => return Ok((group, Some(unit))),
            Some(unit) => group.push(unit),
            None => break,
        }
    }
    Ok((group, None))
}

/// Repeats the group until the story starts; gives the start on the clock, or `None` when the server stops first.
fn repeat_until_start(shared: &Shared, camera: &Channel, hold: &[Unit]) -> Option<u64> {
    let longest = hold.iter().map(|u| u.pts.nseconds()).max().unwrap_or(0);
    let step = longest.checked_div(hold.len().saturating_sub(1) as u64).unwrap_or(40_000_000);
    let mut zero = shared.now();
    loop {
        for unit in hold {
            let due = zero + unit.pts.nseconds();
            // The story may be due before this picture is.
            loop {
                match shared.start_ticks() {
                    Some(start) if start <= due => return Some(start),
                    _ if due <= shared.now() => break,
                    _ if shared.is_stopping() => return None,
                    _ => std::thread::sleep(
                        Duration::from_nanos(due.saturating_sub(shared.now())).min(POLL),
                    ),
                }
            }
            if shared.is_stopping() {
                return None;
            }
            camera.send(unit, due);
        }
        zero += longest + step.max(1_000_000);
    }
}
