//! Cameras that work, refuse, fall silent, lie and come back.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, and takes helpers for something else

mod common;

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{
    Memory, PATIENCE, Recorder, SECOND, Seen, Server, Serving, WallClock, camera, credentials,
    live, live_b_frames, live_h264, live_h265, open_at, open_with, settings,
};
use gst::prelude::*;
use gstreamer as gst;
use guiji_domain::{
    Camera, CameraState, Clock, ClockSource, DecodePolicy, OpenStream, StatusReason, Timestamp,
    Transport,
};
use guiji_ingest::{IngestSettings, RtspReceiver};

fn tcp_and_udp_in_both_codecs(receiver: RtspReceiver) {
    for launch in [live_h264(), live_b_frames(), live_h265()] {
        let server = Server::of(launch.clone());
        for transport in [Transport::Tcp, Transport::Udp] {
            let sink = Recorder::new();
            let stream = open(receiver, &Camera { transport, ..camera(&server.address()) }, &sink);
            sink.wait_frames(15);
            sink.wait_status(CameraState::Live, None);
            let frames = sink.frames();
            for pair in frames.windows(2) {
                assert!(pair[1].pts > pair[0].pts, "{transport}");
                assert!(pair[1].captured.at > pair[0].captured.at, "{transport}");
            }
            let counters = stream.counters();
            assert!(counters.units >= 15 && counters.keyframes >= 1 && counters.connects == 1);
        }
    }
}

fn open_groups_of_h265_begin_with_keyframes_too(receiver: RtspReceiver) {
    let options = "open-gop=1:bframes=2:rc-lookahead=3:keyint=10:min-keyint=10:scenecut=0";
    let encoder = format!("x265enc speed-preset=ultrafast log-level=none option-string={options}");
    let server = Server::of(live(&format!("{encoder} ! h265parse ! rtph265pay")));
    let sink = Recorder::new();
    let policy = DecodePolicy::KeyframeOnly;
    let stream = open(receiver, &Camera { policy, ..camera(&server.address()) }, &sink);
    sink.wait_frames(4);
    let counters = stream.counters();
    assert!(counters.keyframes >= 4 && counters.connects == 1, "{counters:?}");
}

fn capture_time_comes_from_the_cameras_reports(receiver: RtspReceiver) {
    let server = Server::of(live_h264());
    let sink = Recorder::new();
    let _stream = open(receiver, &camera(&server.address()), &sink);
    let by_report = |it: &Memory| {
        it.frames.last().is_some_and(|it| {
            it.captured.source == ClockSource::Rtcp
                && it.captured.uncertainty < Duration::from_millis(200)
        })
    };
    sink.wait("capture time by RTCP", by_report);
    let frame = sink.frames().pop().unwrap();
    // Until it is decoded, that is: on a busy machine longer than the camera's clock is uncertain.
    let travelled = frame.arrived.as_nanos() - frame.captured.at.as_nanos();
    assert!((-50..5000).contains(&(travelled / 1_000_000)), "{travelled} ns");
}

/// What is common to both receivers is asked of both.
macro_rules! over_both {
    ($($name:ident)*) => {
        mod by_retina {
            $(#[test] fn $name() { super::$name(super::RtspReceiver::Retina); })*
        }
        mod by_gstreamer {
            $(#[test] fn $name() { super::$name(super::RtspReceiver::GStreamer); })*
        }
    };
}

over_both! {
    tcp_and_udp_in_both_codecs
    open_groups_of_h265_begin_with_keyframes_too
    capture_time_comes_from_the_cameras_reports
    a_camera_clock_a_time_zone_off_is_not_believed
    keyframes_come_at_once
    wrong_password_is_refused_and_right_one_works
    refusals_have_names
    a_server_that_never_answers_is_unreachable
    a_server_killed_and_back_delivers_again
    without_keyframes_it_says_so
    a_stream_that_falls_silent_is_stalled_and_tried_again
    the_end_of_a_live_stream_is_followed_by_a_new_connection
    a_change_of_size_goes_on
    lost_datagrams_degrade_but_frames_still_come
    closing_is_prompt_and_says_goodbye
    a_stream_may_be_dropped_from_inside_its_own_sink
}

fn settings_of(receiver: RtspReceiver) -> IngestSettings {
    IngestSettings { receiver, ..settings() }
}

fn open(receiver: RtspReceiver, camera: &Camera, sink: &Arc<Recorder>) -> Box<dyn OpenStream> {
    open_with(settings_of(receiver), camera, sink)
}

/// The machine's clock, eight hours on: seen from it, the camera is a time zone behind.
struct ShiftedClock;

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        WallClock.now().plus(Duration::from_secs(8 * 3600))
    }
}

fn a_camera_clock_a_time_zone_off_is_not_believed(receiver: RtspReceiver) {
    let server = Server::of(live_h264());
    let sink = Recorder::new();
    let _stream =
        open_at(settings_of(receiver), Arc::new(ShiftedClock), &camera(&server.address()), &sink);
    let told = |it: &Memory| it.statuses.iter().any(|s| s.detail.contains("is 8 h behind ours"));
    sink.wait("word of the camera's clock", told);
    sink.wait_status(CameraState::Live, Some(StatusReason::ClockWrong));
    let frame = sink.frames().pop().unwrap();
    assert_eq!(frame.captured.source, ClockSource::Arrival);
    let shifted = frame.arrived.plus(Duration::from_secs(8 * 3600));
    assert!(frame.captured.at.abs_diff(shifted) < SECOND * 60, "{frame:?}");
}

/// Encoders with B pictures promise a reordering depth, which a decoder that sees keyframes only must not wait for.
fn keyframes_come_at_once(receiver: RtspReceiver) {
    let launch = live(
        "x264enc key-int-max=25 bframes=2 b-adapt=false rc-lookahead=5 threads=1 \
                       ! rtph264pay config-interval=-1",
    );
    let server = Server::of(launch);
    let sink = Recorder::new();
    let policy = DecodePolicy::KeyframeOnly;
    let stream = open(receiver, &Camera { policy, ..camera(&server.address()) }, &sink);
    sink.wait_frames(4);
    // A machine may be busy for a moment, but a decoder that waits is late every time.
    let late = |frame: &Seen| frame.arrived.since(frame.captured.at);
    let least = sink.frames()[1..].iter().map(late).min().unwrap();
    assert!(least < Duration::from_millis(900), "{least:?}");
    assert!(stream.counters().units > 75);
}

fn wrong_password_is_refused_and_right_one_works(receiver: RtspReceiver) {
    let serving = Serving { login: Some(("admin", "s3cr3t-pw")), ..Serving::of(live_h264()) };
    let server = serving.start();
    for login in [None, credentials("admin", "wrong-pw-17")] {
        let sink = Recorder::new();
        let stream =
            open(receiver, &Camera { credentials: login, ..camera(&server.address()) }, &sink);
        let status = sink.wait_status(CameraState::Refused, Some(StatusReason::NotAuthorised));
        assert!(status.retry_at.is_some());
        sink.wait("a retry", |it| it.statuses.iter().filter(|s| s.retry_at.is_some()).count() > 1);
        assert!(stream.counters().connects > 1);
        for status in sink.statuses() {
            assert!(!status.detail.contains("wrong-pw-17"), "{status:?}");
            assert!(!status.detail.contains("admin"), "{status:?}");
        }
    }
    let sink = Recorder::new();
    let login = credentials("admin", "s3cr3t-pw");
    let _stream =
        open(receiver, &Camera { credentials: login, ..camera(&server.address()) }, &sink);
    sink.wait_frames(3);
    assert!(!format!("{:?}", sink.statuses()).contains("s3cr3t-pw"));
}

fn refusals_have_names(receiver: RtspReceiver) {
    let server = Server::of(live_h264());
    let mjpeg = Server::of(live("jpegenc ! rtpjpegpay"));
    let audio =
        Server::of("( audiotestsrc is-live=true ! mulawenc ! rtppcmupay name=pay0 pt=0 )".into());
    let closed_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = format!("rtsp://127.0.0.1:{}/nowhere", server.port);
    for (address, state, reason) in [
        (nowhere, CameraState::Misconfigured, StatusReason::NotFound),
        (mjpeg.address(), CameraState::Misconfigured, StatusReason::UnsupportedCodec),
        (audio.address(), CameraState::Misconfigured, StatusReason::UnsupportedCodec),
        (
            format!("rtsp://127.0.0.1:{closed_port}/cam"),
            CameraState::Connecting,
            StatusReason::Unreachable,
        ),
        (
            "rtsp://no-such-host.invalid/cam".into(),
            CameraState::Connecting,
            StatusReason::Unreachable,
        ),
    ] {
        let sink = Recorder::new();
        let _stream = open(receiver, &camera(&address), &sink);
        sink.wait("a failure", |it| it.statuses.iter().any(|s| s.retry_at.is_some()));
        let status = sink.statuses().into_iter().find(|it| it.retry_at.is_some()).unwrap();
        assert_eq!((status.state, status.reason), (state, Some(reason)), "{address}: {status:?}");
    }
}

fn a_server_that_never_answers_is_unreachable(receiver: RtspReceiver) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("rtsp://{}/cam", listener.local_addr().unwrap());
    let sink = Recorder::new();
    let stream = open(receiver, &camera(&address), &sink);
    let status = sink.wait_status(CameraState::Connecting, Some(StatusReason::Unreachable));
    assert!(status.retry_at.is_some());
    let began = Instant::now();
    drop(stream); // perhaps in the middle of the next try
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

fn a_server_killed_and_back_delivers_again(receiver: RtspReceiver) {
    let mut server = Server::of(live_h264());
    for transport in [Transport::Tcp, Transport::Udp] {
        let sink = Recorder::new();
        let stream = open(receiver, &Camera { transport, ..camera(&server.address()) }, &sink);
        sink.wait_frames(5);
        server.kill();
        sink.wait("the loss", |it| it.statuses.iter().any(|s| s.retry_at.is_some()));
        let before = sink.frames().len();
        server = Serving { port: server.port, ..Serving::of(live_h264()) }.start();
        sink.wait_frames(before + 5);
        sink.wait("live again", |it| {
            it.statuses.last().is_some_and(|s| s.state == CameraState::Live)
        });
        assert!(stream.counters().connects >= 2);
    }
}

/// Drops what `wanted` says no to, behind the encoder. It hears the number of the unit and whether it is a keyframe.
fn filter_units(bin: &gst::Bin, wanted: impl Fn(usize, bool) -> bool + Send + Sync + 'static) {
    let pad = bin.by_name("units").unwrap().static_pad("src").unwrap();
    let number = AtomicUsize::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let key = !info.buffer().unwrap().flags().contains(gst::BufferFlags::DELTA_UNIT);
        if wanted(number.fetch_add(1, Ordering::SeqCst), key) {
            gst::PadProbeReturn::Ok
        } else {
            gst::PadProbeReturn::Handled
        }
    });
}

fn without_keyframes_it_says_so(receiver: RtspReceiver) {
    let serving = Serving {
        configure: Box::new(|bin| filter_units(bin, |_, key| !key)),
        ..Serving::of(live_h264())
    };
    let server = serving.start();
    let sink = Recorder::new();
    let stream = open(receiver, &camera(&server.address()), &sink);
    let status = sink.wait_status(CameraState::Stalled, Some(StatusReason::NoKeyframe));
    assert!(status.retry_at.is_some());
    assert!(sink.frames().is_empty());
    assert!(stream.counters().units > 10 && stream.counters().keyframes == 0);
}

fn a_stream_that_falls_silent_is_stalled_and_tried_again(receiver: RtspReceiver) {
    let serving = Serving {
        configure: Box::new(|bin| filter_units(bin, |number, _| number < 30)),
        ..Serving::of(live_h264())
    };
    let server = serving.start();
    let sink = Recorder::new();
    let _stream = open(receiver, &camera(&server.address()), &sink);
    sink.wait_frames(5);
    sink.wait_status(CameraState::Stalled, Some(StatusReason::Silence));
    let frames = sink.frames().len();
    sink.wait_frames(frames + 5); // a new connection, a new media
}

fn the_end_of_a_live_stream_is_followed_by_a_new_connection(receiver: RtspReceiver) {
    let launch = live_h264().replace("pattern=ball", "pattern=ball num-buffers=30");
    let server = Server::of(launch);
    let sink = Recorder::new();
    let stream = open(receiver, &camera(&server.address()), &sink);
    let status = sink.wait_status(CameraState::Connecting, Some(StatusReason::EndOfStream));
    assert!(status.retry_at.is_some());
    let frames = sink.frames().len();
    sink.wait_frames(frames + 5);
    assert!(stream.counters().connects >= 2);
}

fn a_change_of_size_goes_on(receiver: RtspReceiver) {
    let bin: Arc<Mutex<Option<gst::Bin>>> = Arc::default();
    let configured = Arc::clone(&bin);
    let serving = Serving {
        configure: Box::new(move |bin| *configured.lock().unwrap() = Some(bin.clone())),
        ..Serving::of(live_h264())
    };
    let server = serving.start();
    let sink = Recorder::new();
    let stream = open(receiver, &camera(&server.address()), &sink);
    sink.wait_frames(10);
    let caps = "video/x-raw,format=I420,width=320,height=200,framerate=25/1";
    let caps: gst::Caps = caps.parse().unwrap();
    let size = bin.lock().unwrap().as_ref().unwrap().by_name("size").unwrap();
    size.set_property("caps", caps);
    sink.wait("larger frames", |it| it.frames.iter().filter(|f| f.size == (320, 200)).count() > 5);
    let status = sink.wait_status(CameraState::Live, Some(StatusReason::ResolutionChanged));
    assert!(status.detail.contains("160x120 to 320x200"), "{status:?}");
    assert_eq!(stream.counters().connects, 1);
    let last = sink.frames().pop().unwrap();
    assert_eq!(guiji_domain::Picture::width(&last.small), 64);
}

fn lost_datagrams_degrade_but_frames_still_come(receiver: RtspReceiver) {
    let serving = Serving {
        configure: Box::new(|bin| {
            let pad = bin.by_name("pay0").unwrap().static_pad("src").unwrap();
            let number = AtomicUsize::new(0);
            let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
            pad.add_probe(kinds, move |_, _| {
                let number = number.fetch_add(1, Ordering::SeqCst);
                if (40..60).contains(&number) && number.is_multiple_of(5) {
                    gst::PadProbeReturn::Handled
                } else {
                    gst::PadProbeReturn::Ok
                }
            });
        }),
        ..Serving::of(live_h264())
    };
    let server = serving.start();
    let sink = Recorder::new();
    let udp = Camera { transport: Transport::Udp, ..camera(&server.address()) };
    let stream = open(receiver, &udp, &sink);
    sink.wait_status(CameraState::Degraded, Some(StatusReason::DecodeErrors));
    let frames = sink.frames().len();
    sink.wait_frames(frames + 5);
    let live = |it: &Memory| it.statuses.last().is_some_and(|s| s.state == CameraState::Live);
    sink.wait("calm again", live);
    assert_eq!(stream.counters().connects, 1);
}

fn closing_is_prompt_and_says_goodbye(receiver: RtspReceiver) {
    let server = Server::of(live_h264());
    for (round, transport) in [Transport::Tcp, Transport::Udp].into_iter().enumerate() {
        let sink = Recorder::new();
        let stream = open(receiver, &Camera { transport, ..camera(&server.address()) }, &sink);
        sink.wait_frames(3);
        let began = Instant::now();
        drop(stream);
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
        // The server counts in a thread of its own.
        let taken_down = || server.teardowns.load(Ordering::SeqCst);
        while taken_down() <= round && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(taken_down(), round + 1);
        let frames = sink.frames().len();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(sink.frames().len(), frames);
    }
}

fn a_stream_may_be_dropped_from_inside_its_own_sink(receiver: RtspReceiver) {
    let server = Server::of(live_h264());
    let slot: Arc<Mutex<Option<Box<dyn OpenStream>>>> = Arc::default();
    let inner = Arc::clone(&slot);
    let sink = Recorder::with(move |number| {
        if number == 3 {
            drop(inner.lock().unwrap().take());
        }
    });
    *slot.lock().unwrap() = Some(open(receiver, &camera(&server.address()), &sink));
    sink.wait_frames(4);
    std::thread::sleep(Duration::from_millis(300));
    assert!(slot.lock().unwrap().is_none());
    assert_eq!(sink.frames().len(), 4);
}
