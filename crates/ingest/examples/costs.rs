//! What ingest costs: CPU time of decoding and scaling one picture, memory of one RTSP session.
//!
//! `cargo run --release -p guiji-ingest --example costs pictures`, or `sessions [SESSIONS [ROUNDS]]`: rounds open
//! and close all sessions; what a later round leaves is a leak, what the first leaves is the allocator's. CPU time is the process's own (user and
//! system, from `/proc/self/stat`), so other work on the machine does not count.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gstreamer as gst;
use gstreamer_rtsp_server as gst_rtsp_server;
use guiji_domain::{
    Camera, CameraId, CameraState, CameraStatus, Clock, DecodePolicy, Frame, FrameSink,
    FrameSource, GeoPoint, Pace, PixelFormat, SiteId, StreamAddress, Timestamp, Transport,
};
use guiji_ingest::{GstSource, IngestSettings};

/// Set to a port, it makes this program the server.
const SERVE: &str = "GUIJI_MEASURE_PORT";

const CODECS: [&str; 2] =
    ["x264enc speed-preset=veryfast", "x265enc speed-preset=ultrafast log-level=none"];

type Outcome<T> = Result<T, Box<dyn Error>>;

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(gst::glib::real_time() * 1000)
    }
}

#[derive(Default)]
struct Counter {
    frames: AtomicU64,
    ended: AtomicU64,
    live: AtomicU64,
}

impl FrameSink for Counter {
    fn frame(&self, _: Frame) {
        self.frames.fetch_add(1, Relaxed);
    }
    fn status(&self, _: &CameraId, status: CameraStatus) {
        match status.state {
            CameraState::Ended => self.ended.fetch_add(1, Relaxed),
            CameraState::Live => self.live.fetch_add(1, Relaxed),
            _ => 0,
        };
    }
}

fn main() -> Outcome<()> {
    gst::init()?;
    // The server of the sessions is this program once more, so that its memory is not counted.
    if let Ok(port) = std::env::var(SERVE) {
        return serve(&port);
    }
    let settings = IngestSettings::new((416, 416), PixelFormat::Bgr);
    let source = GstSource::new(settings, Arc::new(WallClock))?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| words.get(at).map_or(Ok(default), |it| it.parse());
    match words.first().map(String::as_str) {
        Some("pictures") => {
            for codec in CODECS {
                picture_cost(&source, codec, 1280, 720)?;
                picture_cost(&source, codec, 1920, 1080)?;
            }
            Ok(())
        }
        Some("sessions") => session_cost(&source, number(1, 40)?, number(2, 3)?),
        _ => Err("say what: pictures, or sessions [SESSIONS [ROUNDS]]".into()),
    }
}

fn picture_cost(source: &GstSource, codec: &str, width: u32, height: u32) -> Outcome<()> {
    let path = std::env::temp_dir().join(format!("guiji-measure-{}.mkv", std::process::id()));
    let parse = if codec.starts_with("x265") { "h265parse" } else { "h264parse" };
    // A moving picture with noise in a part of it, so that the bits are like a camera's.
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=150 pattern=ball \
         ! video/x-raw,format=I420,width={width},height={height},framerate=25/1 ! mix.sink_0 \
         videotestsrc num-buffers=150 pattern=snow \
         ! video/x-raw,format=I420,width={},height={},framerate=25/1 ! mix.sink_1 \
         compositor name=mix sink_1::xpos=64 sink_1::ypos=64 \
         ! video/x-raw,format=I420 ! {codec} bitrate=4000 key-int-max=50 tune=zerolatency ! {parse} \
         ! matroskamux ! filesink location={}",
        width / 4,
        height / 4,
        path.display()
    ))?;
    pipeline.set_state(gst::State::Playing)?;
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    if let Some(bus) = pipeline.bus() {
        bus.timed_pop_filtered(gst::ClockTime::from_seconds(300), &kinds);
    }
    pipeline.set_state(gst::State::Null)?;
    let bytes = std::fs::metadata(&path)?.len();

    let mut cost = [0.0; 2];
    for (slot, analysed_fps_max) in [(0, 1000.0), (1, 0.01)] {
        let sink = Arc::new(Counter::default());
        let address = path.to_str().ok_or("path")?;
        let camera = Camera { pace: Pace::AsFastAsPossible, analysed_fps_max, ..camera(address)? };
        let began = cpu_seconds()?;
        let stream = source.open(&camera, Arc::clone(&sink) as Arc<dyn FrameSink>);
        while sink.ended.load(Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        cost[slot] = (cpu_seconds()? - began) * 1000.0 / stream.counters().decoded as f64;
    }
    println!(
        "{codec} {width}x{height}, {} kbit a picture: decode {:.2} ms, scale to 416x416 BGR {:.2} ms",
        bytes * 8 / 150 / 1000,
        cost[1],
        cost[0] - cost[1]
    );
    std::fs::remove_file(path)?;
    Ok(())
}

fn session_cost(source: &GstSource, sessions: u64, rounds: u64) -> Outcome<()> {
    let port = "18554";
    let mut child =
        std::process::Command::new(std::env::current_exe()?).env(SERVE, port).spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    let outcome = (0..rounds).try_for_each(|_| measure_sessions(source, sessions, port));
    child.kill()?;
    child.wait()?;
    outcome
}

fn measure_sessions(source: &GstSource, sessions: u64, port: &str) -> Outcome<()> {
    let sink = Arc::new(Counter::default());
    let before = (resident_mb()?, threads()?);
    let camera = Camera {
        policy: DecodePolicy::KeyframeOnly,
        ..camera(&format!("rtsp://127.0.0.1:{port}/cam"))?
    };
    let streams: Vec<_> = (0..sessions)
        .map(|_| source.open(&camera, Arc::clone(&sink) as Arc<dyn FrameSink>))
        .collect();
    while sink.live.load(Relaxed) < sessions {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(5));
    let (cpu, units) = (cpu_seconds()?, units(&streams));
    std::thread::sleep(Duration::from_secs(5));
    println!(
        "{sessions} RTSP sessions, 1280x720 H.264, keyframes decoded: {:.2} MB and {:.1} threads a session, \
         {:.1} ms CPU a second and session at {:.1} units a second",
        (resident_mb()? - before.0) / sessions as f64,
        (threads()? - before.1) / sessions as f64,
        (cpu_seconds()? - cpu) * 1000.0 / 5.0 / sessions as f64,
        (self::units(&streams) - units) as f64 / 5.0 / sessions as f64
    );
    drop(streams);
    std::thread::sleep(Duration::from_secs(1));
    println!("after closing: {:.1} MB more than before", resident_mb()? - before.0);
    Ok(())
}

fn units(streams: &[Box<dyn guiji_domain::OpenStream>]) -> u64 {
    streams.iter().map(|it| it.counters().units).sum()
}

fn serve(port: &str) -> Outcome<()> {
    let server = gst_rtsp_server::RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service(port);
    let factory = gst_rtsp_server::RTSPMediaFactory::new();
    factory.set_shared(true);
    factory.set_launch(
        "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=1280,height=720,framerate=10/1 \
         ! x264enc speed-preset=ultrafast tune=zerolatency key-int-max=20 bitrate=1000 \
         ! rtph264pay name=pay0 pt=96 config-interval=-1 )",
    );
    server.mount_points().ok_or("no mount points")?.add_factory("/cam", factory);
    let _source = server.attach(None)?;
    gst::glib::MainLoop::new(None, false).run();
    Ok(())
}

fn camera(address: &str) -> Outcome<Camera> {
    Ok(Camera {
        id: CameraId::new("k1")?,
        site: SiteId::new("s1")?,
        name: "measured".into(),
        position: GeoPoint::new(30.0, 120.0)?,
        bearing_deg: None,
        address: StreamAddress::new(address)?,
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
    })
}

fn cpu_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').ok_or("stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 =
        fields.get(11..13).ok_or("stat")?.iter().filter_map(|it| it.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

fn status_field(name: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|it| it.starts_with(name)).ok_or("status")?;
    Ok(line.split_whitespace().nth(1).ok_or("status")?.parse()?)
}

fn resident_mb() -> Outcome<f64> {
    Ok(status_field("VmRSS:")? / 1024.0)
}

fn threads() -> Outcome<f64> {
    status_field("Threads:")
}
