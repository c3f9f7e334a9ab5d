//! The other side of the wire: a real RTSP server, real clips, and a sink that remembers.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part
#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, and does not know that this is one

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gstreamer as gst;
use gstreamer_rtsp_server as gst_rtsp_server;
use guiji_domain::{
    BackOff, Camera, CameraId, CameraState, CameraStatus, CaptureTime, Clock, Credentials,
    DecodePolicy, Frame, FrameSink, FrameSource, GeoPoint, OpenStream, OwnedPicture, Pace,
    PixelFormat, SiteId, StatusReason, StreamAddress, Timestamp, Transport,
};
use guiji_ingest::{GstSource, IngestSettings};

pub const SECOND: Duration = Duration::from_secs(1);
/// Long enough on a machine that builds something else at the same time.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The machine's clock, read through GLib.
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(gst::glib::real_time() * 1000)
    }
}

pub fn settings() -> IngestSettings {
    let quick = BackOff { first: Duration::from_millis(200), cap: Duration::from_millis(400) };
    IngestSettings {
        answer_timeout: SECOND * 2,
        silence_timeout: SECOND * 2,
        keyframe_timeout: SECOND * 3,
        retry: quick,
        retry_refused: quick,
        degraded_for: SECOND,
        ..IngestSettings::new((64, 48), PixelFormat::Rgb)
    }
}

pub fn camera(address: &str) -> Camera {
    Camera {
        id: CameraId::new("k1").unwrap(),
        site: SiteId::new("s1").unwrap(),
        name: "crossing".into(),
        position: GeoPoint::new(30.0, 120.0).unwrap(),
        bearing_deg: None,
        address: StreamAddress::new(address).unwrap(),
        credentials: None,
        transport: Transport::Tcp,
        pace: Pace::RealTime,
        policy: DecodePolicy::Full,
        analysed_fps_max: 1000.0,
        recorded_at: None,
        lanes: None,
        substream: None,
        onvif: None,
        enabled: true,
    }
}

pub fn credentials(username: &str, password: &str) -> Option<Credentials> {
    Some(Credentials { username: username.into(), password: password.into() })
}

/// What is remembered of a frame.
#[derive(Debug, Clone)]
pub struct Seen {
    pub pts: Duration,
    pub captured: CaptureTime,
    pub arrived: Timestamp,
    pub size: (u32, u32),
    pub small: OwnedPicture,
    /// Mean of the luma plane.
    pub luma: f64,
}

#[derive(Default)]
pub struct Memory {
    pub frames: Vec<Seen>,
    pub statuses: Vec<CameraStatus>,
}

type OnFrame = Box<dyn Fn(usize) + Send + Sync>;

/// A sink that remembers, and may do something at each frame.
#[derive(Default)]
pub struct Recorder {
    memory: Mutex<Memory>,
    changed: Condvar,
    on_frame: Option<OnFrame>,
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// `on_frame` hears the number of the frame, counted from 0.
    pub fn with(on_frame: impl Fn(usize) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { on_frame: Some(Box::new(on_frame)), ..Self::default() })
    }

    /// Waits until the memory is as wanted, and fails the test when that takes too long.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Memory) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut memory = self.memory.lock().unwrap();
        while !wanted(&memory) {
            let left = deadline.saturating_duration_since(Instant::now());
            let (frames, statuses) = (memory.frames.len(), &memory.statuses);
            let last = memory.frames.last().map(|it| (it.captured, it.arrived));
            assert!(!left.is_zero(), "no {what}: {frames} frames, last {last:?}, {statuses:#?}");
            memory = self.changed.wait_timeout(memory, left).unwrap().0;
        }
    }

    pub fn wait_frames(&self, count: usize) {
        self.wait(&format!("{count} frames"), |it| it.frames.len() >= count);
    }

    pub fn wait_status(&self, state: CameraState, reason: Option<StatusReason>) -> CameraStatus {
        let fits = |it: &CameraStatus| it.state == state && it.reason == reason;
        self.wait(&format!("{state} {reason:?}"), |it| it.statuses.iter().any(fits));
        self.statuses().into_iter().rev().find(fits).unwrap()
    }

    pub fn frames(&self) -> Vec<Seen> {
        self.memory.lock().unwrap().frames.clone()
    }

    pub fn statuses(&self) -> Vec<CameraStatus> {
        self.memory.lock().unwrap().statuses.clone()
    }
}

impl FrameSink for Recorder {
    fn frame(&self, frame: Frame) {
        let full = frame.full.as_ref();
        let (width, height) = (full.width(), full.height());
        let mut sum = 0;
        for y in 0..height as usize {
            let row = &full.plane(0)[y * full.stride(0)..][..width as usize];
            sum += row.iter().map(|it| u64::from(*it)).sum::<u64>();
        }
        let seen = Seen {
            pts: frame.pts,
            captured: frame.captured,
            arrived: WallClock.now(),
            size: (width, height),
            small: OwnedPicture::copy_of(frame.small.as_ref()),
            luma: sum as f64 / f64::from(width * height),
        };
        let number = {
            let mut memory = self.memory.lock().unwrap();
            memory.frames.push(seen);
            memory.frames.len() - 1
        };
        self.changed.notify_all();
        if let Some(on_frame) = &self.on_frame {
            on_frame(number);
        }
    }

    fn status(&self, _: &CameraId, status: CameraStatus) {
        self.memory.lock().unwrap().statuses.push(status);
        self.changed.notify_all();
    }
}

pub fn open(camera: &Camera, sink: &Arc<Recorder>) -> Box<dyn OpenStream> {
    open_with(settings(), camera, sink)
}

pub fn open_with(
    settings: IngestSettings,
    camera: &Camera,
    sink: &Arc<Recorder>,
) -> Box<dyn OpenStream> {
    open_at(settings, Arc::new(WallClock), camera, sink)
}

pub fn open_at(
    settings: IngestSettings,
    clock: Arc<dyn Clock>,
    camera: &Camera,
    sink: &Arc<Recorder>,
) -> Box<dyn OpenStream> {
    let source = GstSource::new(settings, clock).unwrap();
    source.open(camera, Arc::clone(sink) as Arc<dyn FrameSink>)
}

/// Runs a pipeline to its end: to make a clip.
pub fn run_pipeline(description: &str) {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(description).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let timeout = gst::ClockTime::from_seconds(60);
    let message = pipeline.bus().unwrap().timed_pop_filtered(timeout, &kinds).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{description}: {message:?}");
}

/// Makes a clip of 25 pictures a second.
pub fn make_clip(path: &Path, pictures: u32, encode_and_mux: &str) {
    run_pipeline(&format!(
        "videotestsrc num-buffers={pictures} pattern=ball \
         ! video/x-raw,format=I420,width=160,height=120,framerate=25/1 \
         ! {encode_and_mux} ! filesink location={}",
        path.display()
    ));
}

pub const H264: &str = "x264enc tune=zerolatency key-int-max=10 speed-preset=ultrafast threads=1";
pub const H265: &str =
    "x265enc tune=zerolatency key-int-max=10 speed-preset=ultrafast log-level=none";

/// A launch line for a live stream of 25 pictures a second.
pub fn live(encode_and_pay: &str) -> String {
    format!(
        "( videotestsrc is-live=true pattern=ball \
         ! capsfilter name=size caps=video/x-raw,format=I420,width=160,height=120,framerate=25/1 \
         ! {encode_and_pay} name=pay0 pt=96 )"
    )
}

pub fn live_h264() -> String {
    live(&format!("{H264} ! identity name=units ! rtph264pay config-interval=-1"))
}

/// Every other picture refers to a later one, which is sent before it.
pub fn live_b_frames() -> String {
    let encoder = "x264enc bframes=1 b-adapt=false rc-lookahead=2 sync-lookahead=0 key-int-max=10 \
                   speed-preset=ultrafast threads=1";
    live(&format!("{encoder} ! h264parse ! rtph264pay config-interval=-1"))
}

pub fn live_h265() -> String {
    live(&format!("{H265} ! h265parse ! rtph265pay config-interval=-1"))
}

/// An RTSP server on 127.0.0.1 with one stream, `/cam`.
pub struct Server {
    pub port: u16,
    /// How many clients said goodbye.
    pub teardowns: Arc<AtomicUsize>,
    running: Option<(gst::glib::MainLoop, JoinHandle<()>)>,
}

/// How to serve.
pub struct Serving {
    pub launch: String,
    pub port: u16,
    pub login: Option<(&'static str, &'static str)>,
    pub configure: Box<dyn Fn(&gst::Bin) + Send + Sync>,
}

impl Serving {
    pub fn of(launch: String) -> Self {
        Self { launch, port: 0, login: None, configure: Box::new(|_| {}) }
    }

    pub fn start(self) -> Server {
        gst::init().unwrap();
        let (ready, port) = std::sync::mpsc::sync_channel(1);
        let teardowns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&teardowns);
        let thread = std::thread::spawn(move || {
            let context = gst::glib::MainContext::new();
            let run = || {
                let main_loop = gst::glib::MainLoop::new(Some(&context), false);
                let server = self.build();
                server.connect_client_connected(move |_, client| {
                    let counted = Arc::clone(&counted);
                    client.connect_teardown_request(move |_, _| {
                        counted.fetch_add(1, Ordering::SeqCst);
                    });
                });
                // The port of a server just killed may be busy for a moment.
                let deadline = Instant::now() + PATIENCE;
                let source = loop {
                    match server.attach(Some(&context)) {
                        Ok(source) => break source,
                        Err(error) if Instant::now() > deadline => panic!("{error}"),
                        Err(_) => std::thread::sleep(Duration::from_millis(50)),
                    }
                };
                ready.send((server.bound_port() as u16, main_loop.clone())).unwrap();
                main_loop.run();
                server.client_filter(Some(&mut |_, _| gst_rtsp_server::RTSPFilterResult::Remove));
                context.find_source_by_id(&source).unwrap().destroy();
                while context.iteration(false) {}
            };
            context.with_thread_default(run).unwrap();
        });
        let (port, main_loop) = port.recv_timeout(PATIENCE).unwrap();
        Server { port, teardowns, running: Some((main_loop, thread)) }
    }

    fn build(self) -> gst_rtsp_server::RTSPServer {
        let server = gst_rtsp_server::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service(&self.port.to_string());
        let factory = gst_rtsp_server::RTSPMediaFactory::new();
        factory.set_launch(&self.launch);
        factory.set_shared(true);
        let configure = self.configure;
        factory.connect_media_configure(move |_, media| {
            configure(&media.element().downcast::<gst::Bin>().unwrap());
        });
        if let Some((username, password)) = self.login {
            let auth = gst_rtsp_server::RTSPAuth::new();
            let token = gst_rtsp_server::RTSPToken::builder()
                .field(gst_rtsp_server::RTSP_TOKEN_MEDIA_FACTORY_ROLE, "user")
                .build();
            let basic = gst_rtsp_server::RTSPAuth::make_basic(username, password);
            auth.add_basic(&basic, &token);
            server.set_auth(Some(&auth));
            let role = gst::Structure::builder("user")
                .field(gst_rtsp_server::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
                .field(gst_rtsp_server::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
                .build();
            factory.add_role_from_structure(&role);
        }
        server.mount_points().unwrap().add_factory("/cam", factory);
        server
    }
}

impl Server {
    pub fn of(launch: String) -> Self {
        Serving::of(launch).start()
    }

    pub fn address(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    /// Ends it and every connection.
    pub fn kill(&mut self) {
        if let Some((main_loop, thread)) = self.running.take() {
            main_loop.quit();
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
