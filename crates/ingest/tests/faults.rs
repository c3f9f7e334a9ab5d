//! Cameras and networks that misbehave: nothing leaks, nobody is stuck, the others do not notice, and what comes back
//! is seen again.
//!
//! `GUIJI_FAULT_CYCLES` is the number of connect-drop cycles (30 if not set).

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, and takes helpers for something else

mod common;
#[path = "common/wire.rs"]
mod wire;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{PATIENCE, Recorder, SECOND, WallClock, camera, open_with, settings};
use guiji_domain::{
    Camera, CameraId, CameraState, DecodePolicy, Feedback, FrameSink, FrameSource, OpenStream,
    StatusReason, Transport,
};
use guiji_ingest::{GstSource, IngestSettings, RtspReceiver, make_room_for};
use wire::{Clip, Wire};

/// A camera that is back must be seen again within this.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
const H264: &str = "x264enc tune=zerolatency key-int-max=10 speed-preset=ultrafast threads=1";
const H265: &str = "x265enc tune=zerolatency key-int-max=10 speed-preset=ultrafast log-level=none";

fn clip(encoder: &str) -> Arc<Clip> {
    Clip::encode(encoder, (320, 240), 25, 4)
}

fn open(camera: &Camera, sink: &Arc<Recorder>) -> Box<dyn OpenStream> {
    open_with(settings(), camera, sink)
}

fn named(name: &str, address: &str) -> Camera {
    Camera { id: CameraId::new(name).unwrap(), ..camera(address) }
}

/// Resident memory of this process, MB.
fn resident_mb() -> f64 {
    status_field("VmRSS:") / 1024.0
}

fn threads() -> f64 {
    status_field("Threads:")
}

fn status_field(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Waits for new frames and says how long it took.
fn time_to_frames(sink: &Recorder, more: usize) -> Duration {
    let (began, wanted) = (Instant::now(), sink.frames().len() + more);
    sink.wait_frames(wanted);
    began.elapsed()
}

#[test]
fn connections_dropped_again_and_again_leave_nothing() {
    let cycles = std::env::var("GUIJI_FAULT_CYCLES").map_or(30, |it| it.parse().unwrap());
    let server = Wire::start(0, &clip(H264), |it| it.hang_up = it.number == 3);
    let quick =
        guiji_domain::BackOff { first: Duration::from_millis(20), cap: Duration::from_millis(20) };
    let source =
        GstSource::new(IngestSettings { retry: quick, ..settings() }, Arc::new(WallClock)).unwrap();
    let sink = Arc::new(Tally::default());
    let stream = source.open(&camera(&server.address()), sink.clone());
    let reach = |wanted: u64| {
        let deadline = Instant::now() + PATIENCE + Duration::from_millis(500 * wanted);
        while stream.counters().connects < wanted {
            assert!(Instant::now() < deadline, "stuck at {:?}", stream.counters());
            std::thread::sleep(Duration::from_millis(5));
        }
        (resident_mb(), threads())
    };
    // The first third fills the allocator's pools; what grows afterwards grows for ever.
    let first = cycles / 3;
    let early = reach(first);
    let late = reach(cycles);
    let slope = (late.0 - early.0) * 1024.0 / (cycles - first) as f64;
    println!("{cycles} cycles: {slope:.1} kB each, {} threads then {}", early.1, late.1);
    // Other tests of this process run meanwhile, hence the constant; a leaked pipeline is some hundred kB.
    assert!(late.0 - early.0 < 30.0 + 0.02 * cycles as f64, "{early:?} {late:?}");
    assert!(sink.frames.load(SeqCst) >= cycles - 1);
}

/// Counts only, so that its own memory is no part of what is measured.
#[derive(Default)]
struct Tally {
    frames: AtomicU64,
    live: AtomicBool,
}

impl FrameSink for Tally {
    fn frame(&self, _: guiji_domain::Frame) {
        self.frames.fetch_add(1, SeqCst);
    }
    fn status(&self, _: &CameraId, status: guiji_domain::CameraStatus) {
        self.live.store(status.state == CameraState::Live, SeqCst);
    }
}

#[test]
fn a_peer_that_vanishes_without_a_word_is_given_up_and_found_again() {
    let gone = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&gone);
    let server = Wire::start(0, &clip(H264), move |it| {
        it.vanish = it.number >= 10 && told.load(SeqCst);
    });
    for transport in [Transport::Tcp, Transport::Udp] {
        gone.store(true, SeqCst);
        let sink = Recorder::new();
        let _stream = open(&Camera { transport, ..camera(&server.address()) }, &sink);
        sink.wait_status(CameraState::Stalled, Some(StatusReason::Silence));
        gone.store(false, SeqCst);
        let took = time_to_frames(&sink, 15);
        assert!(took < RECOVERY_MAX, "{transport}: {took:?}");
    }
}

#[test]
fn lost_datagrams_cost_pictures_and_no_connection() {
    for (encoder, loss) in [(H264, 100), (H264, 20), (H265, 20)] {
        let luck = AtomicU64::new(1);
        // Loss begins when the camera is live, so that the first keyframe is there.
        let server = Wire::start(0, &clip(encoder), move |it| {
            for lost in &mut it.lost {
                let draw = luck.fetch_add(0x9e37_79b9_7f4a_7c15, SeqCst) >> 33;
                *lost = it.number > 10 && draw.is_multiple_of(loss);
            }
        });
        let sink = Recorder::new();
        let udp = Camera { transport: Transport::Udp, ..camera(&server.address()) };
        let stream = open(&udp, &sink);
        sink.wait_frames(60);
        sink.wait("word of the loss", |it| {
            it.statuses.iter().any(|s| s.state == CameraState::Degraded)
        });
        assert_eq!(stream.counters().connects, 1, "1 in {loss}: {:#?}", sink.statuses());
    }
}

/// Set in the network namespace in which the next test runs once more: the loss in percent.
const LOSS: &str = "GUIJI_FAULT_LOSS";

#[test]
fn loss_in_the_network_itself_costs_pictures_and_no_connection() {
    if let Ok(loss) = std::env::var(LOSS) {
        return watch_over_a_lossy_network(&loss);
    }
    for loss in ["1", "5"] {
        let name = format!("guiji-loss-{}-{loss}", std::process::id());
        let Some(namespace) = LossyNamespace::make(&name, loss) else {
            println!("skipped: this needs root, iproute2, and netem or nftables");
            return;
        };
        let mut again = namespace.command(std::env::current_exe().unwrap());
        again.arg("loss_in_the_network_itself_costs_pictures_and_no_connection");
        let output = again.args(["--exact", "--nocapture"]).env(LOSS, loss).output().unwrap();
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn watch_over_a_lossy_network(loss: &str) {
    let server = Wire::sound(&clip(H264));
    let sink = Recorder::new();
    let udp = Camera { transport: Transport::Udp, ..camera(&server.address()) };
    let stream = open(&udp, &sink);
    sink.wait_frames(60);
    if loss == "5" {
        sink.wait("word of the loss", |it| {
            it.statuses.iter().any(|s| s.state == CameraState::Degraded)
        });
    }
    assert_eq!(stream.counters().connects, 1, "{:#?}", sink.statuses());
    println!("{loss} % lost: {:?}", stream.counters());
}

/// A network of its own with nothing in it but a loopback that loses packets.
struct LossyNamespace(String);

impl LossyNamespace {
    /// None where this machine does not let us.
    fn make(name: &str, loss: &str) -> Option<Self> {
        let ran = |command: &mut Command| command.output().is_ok_and(|it| it.status.success());
        if !ran(Command::new("ip").args(["netns", "add", name])) {
            return None;
        }
        let made = Self(name.to_owned());
        let inside = |words: &[&str]| ran(made.command(words[0].into()).args(&words[1..]));
        let netem = format!("tc qdisc add dev lo root netem loss {loss}%");
        // Datagrams only, which is all that TCP would not send again.
        let nft = format!(
            "add table inet loss; add chain inet loss in {{ type filter hook input priority 0; }}; \
             add rule inet loss in ip protocol udp numgen random mod 100 < {loss} drop"
        );
        let lossy = inside(&["ip", "link", "set", "lo", "up"])
            && (inside(&netem.split(' ').collect::<Vec<_>>()) || inside(&["nft", &nft]));
        lossy.then_some(made)
    }

    fn command(&self, program: std::path::PathBuf) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for LossyNamespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.0]).output());
    }
}

#[test]
fn garbage_and_truncated_units_spoil_only_themselves() {
    for encoder in [H264, H265] {
        for truncate in [false, true] {
            let luck = AtomicU64::new(7);
            let spoilt = Arc::new(AtomicBool::new(true));
            let told = Arc::clone(&spoilt);
            let server = Wire::start(0, &clip(encoder), move |it| {
                let spoil = told.load(SeqCst) && it.number > 10 && it.number.is_multiple_of(3);
                for payload in it.payloads.iter_mut().filter(|_| spoil) {
                    if truncate {
                        payload.truncate(payload.len() / 2);
                    } else {
                        for byte in payload.iter_mut() {
                            let draw = luck.fetch_add(0x9e37_79b9_7f4a_7c15, SeqCst);
                            *byte = (draw >> 37) as u8;
                        }
                    }
                }
            });
            let (sink, other) = (Recorder::new(), Recorder::new());
            let sound = Wire::sound(&clip(encoder));
            let source = GstSource::new(settings(), Arc::new(WallClock)).unwrap();
            let _bad = source.open(&named("bad", &server.address()), sink.clone());
            let good = source.open(&named("good", &sound.address()), other.clone());
            sink.wait("trouble", |it| {
                it.statuses.iter().any(|s| s.reason == Some(StatusReason::DecodeErrors))
            });
            let took = time_to_frames(&other, 20);
            assert!(took < SECOND * 4, "{took:?}");
            spoilt.store(false, SeqCst);
            let took = time_to_frames(&sink, 25);
            assert!(took < RECOVERY_MAX, "{encoder} truncated {truncate}: {took:?}");
            assert_eq!(good.counters().connects, 1);
            assert!(other.statuses().iter().all(|s| s.state != CameraState::Degraded));
        }
    }
}

#[test]
fn new_parameter_sets_in_mid_stream_go_on() {
    for encoder in [H264, H265] {
        let (small, large) = (clip(encoder), Clip::encode(encoder, (640, 360), 25, 4));
        let (sets, h265) = (large.units.clone(), large.h265);
        let server = Wire::start(0, &small, move |it| {
            if it.number >= 20 {
                it.payloads = sets[(it.number - 20) % sets.len()]
                    .iter()
                    .flat_map(|nal| wire::fragments(nal, h265))
                    .collect();
                it.lost = vec![false; it.payloads.len()];
            }
        });
        let sink = Recorder::new();
        let stream = open(&camera(&server.address()), &sink);
        sink.wait("larger pictures", |it| {
            it.frames.iter().filter(|f| f.size == (640, 360)).count() > 9
        });
        sink.wait_status(CameraState::Live, Some(StatusReason::ResolutionChanged));
        assert_eq!(stream.counters().connects, 1, "{encoder}");
    }
}

#[test]
fn jumps_and_wraps_of_time_stamps_are_bridged() {
    // The first connection's stamps wrap after a second; then they jump on an hour, back a day, and to nothing.
    let server = Wire::start(0, &clip(H264), |it| {
        let wrapped = it.ticks.wrapping_sub(wire::CLOCK_RATE);
        it.ticks = match it.number {
            0..40 => wrapped,
            40..60 => wrapped.wrapping_add(3600 * wire::CLOCK_RATE),
            60..80 => wrapped.wrapping_sub(20_000 * wire::CLOCK_RATE),
            _ => it.ticks,
        };
    });
    let sink = Recorder::new();
    let stream = open(&camera(&server.address()), &sink);
    sink.wait_frames(100);
    assert_eq!(stream.counters().connects, 1);
    for pair in sink.frames().windows(2) {
        let step = pair[1].pts.checked_sub(pair[0].pts).expect("rising");
        assert!(step > Duration::ZERO && step < SECOND, "{pair:?}");
        let (captured, arrived) = (pair[1].captured.at, pair[1].arrived);
        assert!(captured.abs_diff(arrived) < SECOND * 2, "{:?}", pair[1]);
    }
}

#[test]
fn a_flood_is_cut_and_the_others_go_on() {
    let flood = Wire::start(0, &Clip::encode(H264, (1280, 720), 25, 4), |it| it.times = 80);
    let sound = Wire::sound(&clip(H264));
    let source = GstSource::new(settings(), Arc::new(WallClock)).unwrap();
    let (sink, other) = (Arc::new(Tally::default()), Recorder::new());
    let flooding = source.open(&named("flood", &flood.address()), sink.clone());
    let good = source.open(&named("good", &sound.address()), other.clone());
    other.wait_frames(10);
    let before = resident_mb();
    let took = time_to_frames(&other, 75);
    assert!(took < SECOND * 6, "3 s of pictures took {took:?}");
    assert!(flooding.counters().skipped > 0, "{:?}", flooding.counters());
    assert!(resident_mb() - before < 150.0);
    assert_eq!(good.counters().connects, 1);
}

/// One camera dies while many run: bounded threads, the others do not notice, and it comes back.
#[test]
fn one_of_many_dies_and_the_others_do_not_notice() {
    const MANY: usize = 60;
    make_room_for(MANY * 2).unwrap();
    let clip = Clip::encode(H264, (160, 120), 5, 4);
    let server = Wire::sound(&clip);
    let mut mortal = Wire::sound(&clip);
    let source = GstSource::new(
        IngestSettings { receiver: RtspReceiver::Retina, opening_max: 8, ..settings() },
        Arc::new(WallClock),
    )
    .unwrap();
    let before = threads();
    let many: Vec<_> = (0..MANY)
        .map(|number| {
            let sink = Arc::new(Tally::default());
            let address = server.address();
            let camera = Camera {
                policy: DecodePolicy::KeyframeOnly,
                ..named(&format!("k{number}"), &address)
            };
            (source.open(&camera, sink.clone()), sink)
        })
        .collect();
    let one = Recorder::new();
    let _stream = source.open(&named("mortal", &mortal.address()), one.clone());
    let deadline = Instant::now() + PATIENCE;
    while !many.iter().all(|(_, sink)| sink.live.load(SeqCst)) {
        assert!(Instant::now() < deadline, "not all are live");
        std::thread::sleep(Duration::from_millis(20));
    }
    one.wait_frames(3);
    // Other tests of this process have threads, too; a thread a camera would show.
    println!("{MANY} sessions: {} threads more", threads() - before);
    assert!(threads() - before < MANY as f64, "{} threads", threads());
    let port = mortal.port;
    drop(mortal);
    one.wait("the loss", |it| it.statuses.iter().any(|s| s.retry_at.is_some()));
    mortal = Wire::start(port, &clip, |_| {});
    let took = time_to_frames(&one, 3);
    assert!(took < RECOVERY_MAX, "{took:?}");
    assert_eq!(mortal.connections.load(SeqCst), 1);
    for (stream, sink) in &many {
        assert_eq!(stream.counters().connects, 1);
        assert!(sink.live.load(SeqCst));
    }
}

/// A camera that somebody waits for passes a long line of those that do not answer.
#[test]
fn an_urgent_camera_is_opened_before_those_that_wait() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("rtsp://{}/cam", listener.local_addr().unwrap());
    let server = Wire::sound(&clip(H264));
    let patient = IngestSettings { opening_max: 1, answer_timeout: PATIENCE, ..settings() };
    let source = GstSource::new(patient, Arc::new(WallClock)).unwrap();
    let (nothing, sink) = (Recorder::new(), Recorder::new());
    // One after the other they hold the only place for minutes.
    let _silent: Vec<_> = (0..90)
        .map(|it| source.open(&named(&format!("k{it}"), &silent), nothing.clone()))
        .collect();
    let stream = source.open(&named("wanted", &server.address()), sink.clone());
    stream.feedback(Feedback { urgent: true, ..Feedback::default() });
    let took = time_to_frames(&sink, 1);
    println!("first frame after {took:?}");
}

/// No more connections are being opened at a time than is allowed.
#[test]
fn connections_are_opened_a_few_at_a_time() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Servers that accept and do not answer hold their places.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("rtsp://{}/cam", listener.local_addr().unwrap());
    let (counted, maximum) = (Arc::clone(&now), Arc::clone(&most));
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for socket in listener.incoming() {
            held.push(socket);
            maximum.fetch_max(counted.fetch_add(1, SeqCst) + 1, SeqCst);
        }
    });
    let source =
        GstSource::new(IngestSettings { opening_max: 4, ..settings() }, Arc::new(WallClock));
    let source = source.unwrap();
    let sink = Recorder::new();
    let _streams: Vec<_> =
        (0..20).map(|it| source.open(&named(&format!("k{it}"), &address), sink.clone())).collect();
    std::thread::sleep(SECOND);
    assert_eq!(most.load(SeqCst), 4);
}
