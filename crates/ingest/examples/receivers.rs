//! What a session costs by each receiver: threads, memory, processor time.
//!
//! `cargo run --release -p guiji-ingest --example receivers -- RECEIVER SESSIONS [KBIT [OPENING_MAX]]`: RECEIVER is
//! `retina` or `gstreamer`; KBIT is 4000 (1080p25) or left out (160x120 at 5 pictures a second). Only keyframes are
//! decoded, one every ten seconds. The server is a process of its own; the figures are this process's, from
//! `/proc/self`, so other work on the machine does not count.

#![allow(clippy::unwrap_used)] // a measurement ends when something is wrong

#[path = "../tests/common/wire.rs"]
mod wire;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gstreamer as gst;
use guiji_domain::{
    Camera, CameraId, CameraState, CameraStatus, Clock, DecodePolicy, Frame, FrameSink,
    FrameSource, GeoPoint, OpenStream, Pace, PixelFormat, SiteId, StreamAddress, Timestamp,
    Transport,
};
use guiji_ingest::{GstSource, IngestSettings, make_room_for};
use wire::{Clip, Wire};

/// Set to a bit rate, it makes this program the server.
const SERVE: &str = "GUIJI_RECEIVERS_KBIT";
const REST: Duration = Duration::from_secs(5);

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(gst::glib::real_time() * 1000)
    }
}

#[derive(Default)]
struct Counter {
    live: AtomicU64,
    lost: AtomicU64,
}

impl FrameSink for Counter {
    fn frame(&self, _: Frame) {}
    fn status(&self, _: &CameraId, status: CameraStatus) {
        match status.state {
            CameraState::Live => self.live.fetch_add(1, Relaxed),
            _ if status.retry_at.is_some() => self.lost.fetch_add(1, Relaxed),
            _ => 0,
        };
    }
}

fn main() {
    gst::init().unwrap();
    if let Ok(kbit) = std::env::var(SERVE) {
        return serve(kbit.parse().unwrap());
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [receiver, sessions, more @ ..] = words.as_slice() else {
        eprintln!("say which receiver and how many sessions");
        std::process::exit(2);
    };
    let kbit = more.first().map_or(0, |it| it.parse().unwrap());
    let opening_max = more.get(1).map_or(32, |it| it.parse().unwrap());
    let mut server = Command::new(std::env::current_exe().unwrap())
        .env(SERVE, kbit.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let settings = IngestSettings {
        receiver: receiver.parse().unwrap(),
        opening_max,
        ..IngestSettings::new((416, 416), PixelFormat::Bgr)
    };
    let sessions = sessions.parse().unwrap();
    measure(settings, sessions, kbit, line.trim());
    drop(server.stdin.take()); // it ends with us
    server.wait().unwrap();
}

fn serve(kbit: u32) {
    make_room_for(1500).unwrap();
    let clip = if kbit == 0 {
        let x264 = "x264enc tune=zerolatency key-int-max=50 speed-preset=ultrafast threads=1";
        Clip::encode(x264, (160, 120), 5, 10)
    } else {
        let x264 = format!(
            "x264enc tune=zerolatency key-int-max=250 speed-preset=ultrafast bitrate={kbit} \
             pass=cbr nal-hrd=cbr"
        );
        Clip::encode(&x264, (1920, 1080), 25, 10)
    };
    let wire = Wire::sound(&clip);
    println!("{}", wire.address());
    let mut until_it_ends = Vec::new();
    std::io::stdin().read_to_end(&mut until_it_ends).unwrap();
}

fn measure(settings: IngestSettings, sessions: usize, kbit: u32, address: &str) {
    make_room_for(sessions).unwrap();
    let receiver = settings.receiver;
    let source = GstSource::new(settings, Arc::new(WallClock)).unwrap();
    let sink = Arc::new(Counter::default());
    let before = (status_field("VmRSS:"), status_field("Threads:"));
    let began = Instant::now();
    let streams: Vec<_> =
        (0..sessions).map(|number| source.open(&camera(number, address), sink.clone())).collect();
    while sink.live.load(Relaxed) < sessions as u64 && began.elapsed() < Duration::from_secs(90) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let opened = began.elapsed();
    std::thread::sleep(REST);
    let (cpu, units) = (cpu_seconds(), units(&streams));
    std::thread::sleep(REST);
    let each = |value: f64| value / sessions as f64;
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    println!(
        "{receiver}, {sessions} sessions at {}: {} live after {:.1} s, {} lost; {} threads in all \
         ({} before), {:.2} MB, {:.1} open files and {:.2} ms CPU a second a session, at {:.1} units and {:.0} kbit a second",
        if kbit == 0 { "a low rate".to_owned() } else { format!("{kbit} kbit/s") },
        sink.live.load(Relaxed),
        opened.as_secs_f64(),
        sink.lost.load(Relaxed),
        status_field("Threads:"),
        before.1,
        each(status_field("VmRSS:") - before.0) / 1024.0,
        each(files as f64),
        each(cpu_seconds() - cpu) * 1000.0 / REST.as_secs_f64(),
        each((self::units(&streams).0 - units.0) as f64) / REST.as_secs_f64(),
        each((self::units(&streams).1 - units.1) as f64) * 8.0 / 1000.0 / REST.as_secs_f64(),
    );
    let began = Instant::now();
    drop(streams);
    println!("all closed after {:.1} s", began.elapsed().as_secs_f64());
}

/// Units and bytes so far.
fn units(streams: &[Box<dyn OpenStream>]) -> (u64, u64) {
    let counters = streams.iter().map(|it| it.counters());
    counters.fold((0, 0), |sum, it| (sum.0 + it.units, sum.1 + it.bytes))
}

fn camera(number: usize, address: &str) -> Camera {
    Camera {
        id: CameraId::new(&format!("k{number}")).unwrap(),
        site: SiteId::new("s1").unwrap(),
        name: "measured".into(),
        position: GeoPoint::new(30.0, 120.0).unwrap(),
        bearing_deg: None,
        address: StreamAddress::new(address).unwrap(),
        credentials: None,
        transport: Transport::Tcp,
        pace: Pace::RealTime,
        policy: DecodePolicy::KeyframeOnly,
        analysed_fps_max: 1000.0,
        recorded_at: None,
        lanes: None,
        substream: None,
        onvif: None,
        enabled: true,
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|it| it.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn status_field(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
