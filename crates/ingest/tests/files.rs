//! Recordings: every frame once, at the right time, and an end with a name.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, and takes helpers for something else

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use guiji_domain::{
    Camera, CameraState, ClockSource, DecodePolicy, FrameSink, FrameSource, Pace, Picture,
    StatusReason, Timestamp,
};

fn recording(path: &std::path::Path) -> Camera {
    Camera { pace: Pace::AsFastAsPossible, ..camera(path.to_str().unwrap()) }
}

#[test]
fn every_container_and_codec_delivers_every_frame_once() {
    let dir = tempfile::tempdir().unwrap();
    let b_frames = "x264enc key-int-max=10 bframes=2 b-adapt=false threads=1";
    for (name, chain) in [
        ("264.mp4", format!("{H264} ! mp4mux")),
        ("b.mp4", format!("{b_frames} ! h264parse ! mp4mux")),
        ("265.mp4", format!("{H265} ! h265parse ! mp4mux")),
        ("264.mkv", format!("{H264} ! matroskamux")),
        ("265.ts", format!("{H265} ! h265parse ! mpegtsmux")),
        ("264.ts", format!("{H264} ! h264parse ! mpegtsmux")),
        ("422.mkv", format!("videoconvert ! video/x-raw,format=Y42B ! {H264} ! matroskamux")),
    ] {
        let path = dir.path().join(name);
        make_clip(&path, 50, &chain);
        let sink = Recorder::new();
        let start = Timestamp::from_secs(1_700_000_000);
        let stream = open(&Camera { recorded_at: Some(start), ..recording(&path) }, &sink);
        let ended = sink.wait_status(CameraState::Ended, Some(StatusReason::EndOfStream));
        assert_eq!(ended.retry_at, None, "{name}");
        let frames = sink.frames();
        assert_eq!(frames.len(), 50, "{name}");
        for pair in frames.windows(2) {
            let step = pair[1].pts.as_millis() - pair[0].pts.as_millis();
            assert!((39..=41).contains(&step), "{name}: {step} ms");
        }
        for frame in &frames {
            assert_eq!(frame.captured.at, start.plus(frame.pts), "{name}");
            assert_eq!(frame.captured.source, ClockSource::Stated, "{name}");
            assert_eq!(frame.size, (160, 120), "{name}");
            assert_eq!((frame.small.width(), frame.small.height()), (64, 48), "{name}");
        }
        let counters = stream.counters();
        assert_eq!((counters.units, counters.decoded), (50, 50), "{name}");
        assert_eq!((counters.keyframes, counters.skipped, counters.connects), (5, 0, 1), "{name}");
        assert!(counters.bytes > 1000, "{name}");
    }
}

#[test]
fn colours_are_right_in_both_orders() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("red.mkv");
    run_pipeline(&format!(
        "videotestsrc num-buffers=3 pattern=red ! video/x-raw,format=I420,width=160,height=120 \
         ! {H264} ! matroskamux ! filesink location={}",
        path.display()
    ));
    for (format, red) in [(guiji_domain::PixelFormat::Rgb, 0), (guiji_domain::PixelFormat::Bgr, 2)]
    {
        let sink = Recorder::new();
        // A width whose rows need padding in GStreamer.
        let settings = guiji_ingest::IngestSettings {
            small_size: (33, 17),
            small_format: format,
            ..settings()
        };
        let _stream = open_with(settings, &recording(&path), &sink);
        sink.wait_frames(1);
        let small = sink.frames()[0].small.clone();
        assert_eq!(small.plane(0).len(), 33 * 17 * 3);
        for pixel in small.plane(0).chunks(3) {
            assert!(pixel[red] > 230 && pixel[1] < 25 && pixel[2 - red] < 25, "{pixel:?}");
        }
    }
}

#[test]
fn real_time_takes_its_time_and_the_limit_passes_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    make_clip(&path, 50, &format!("{H264} ! mp4mux"));
    let sink = Recorder::new();
    let began = Instant::now();
    let camera = Camera { pace: Pace::RealTime, analysed_fps_max: 5.0, ..recording(&path) };
    let stream = open(&camera, &sink);
    sink.wait_status(CameraState::Ended, Some(StatusReason::EndOfStream));
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1800) && took < PATIENCE, "{took:?}");
    assert_eq!(sink.frames().len(), 10);
    assert_eq!(stream.counters().skipped, 40);
    assert_eq!(sink.frames()[0].captured.source, ClockSource::Arrival);
}

#[test]
fn keyframes_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    make_clip(&path, 50, &format!("{H264} ! mp4mux"));
    let sink = Recorder::new();
    let stream = open(&Camera { policy: DecodePolicy::KeyframeOnly, ..recording(&path) }, &sink);
    sink.wait_status(CameraState::Ended, Some(StatusReason::EndOfStream));
    let pts: Vec<_> = sink.frames().iter().map(|it| it.pts.as_millis()).collect();
    assert_eq!(pts, [0, 400, 800, 1200, 1600]);
    let counters = stream.counters();
    assert_eq!((counters.units, counters.decoded), (50, 5));
}

#[test]
fn a_slow_sink_loses_nothing_of_a_recording() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.ts");
    make_clip(&path, 30, &format!("{H264} ! h264parse ! mpegtsmux"));
    let sink = Recorder::with(|_| std::thread::sleep(Duration::from_millis(30)));
    let _stream = open(&recording(&path), &sink);
    sink.wait_status(CameraState::Ended, Some(StatusReason::EndOfStream));
    assert_eq!(sink.frames().len(), 30);
}

#[test]
fn broken_and_foreign_files_have_names() {
    use CameraState::Misconfigured;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let garbage: Vec<u8> =
        (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(file("garbage.mp4"), garbage).unwrap();
    std::fs::write(file("empty.mp4"), []).unwrap();
    make_clip(&file("whole.mp4"), 50, &format!("{H264} ! mp4mux"));
    let whole = std::fs::read(file("whole.mp4")).unwrap();
    std::fs::write(file("truncated.mp4"), &whole[..whole.len() / 2]).unwrap();
    make_clip(&file("mjpeg.mkv"), 5, "jpegenc ! matroskamux");
    run_pipeline(&format!(
        "audiotestsrc num-buffers=20 ! vorbisenc ! matroskamux ! filesink location={}",
        file("audio.mkv").display()
    ));
    for (name, reason) in [
        ("missing.mp4", StatusReason::NotFound),
        ("garbage.mp4", StatusReason::UnsupportedCodec),
        ("empty.mp4", StatusReason::UnsupportedCodec),
        ("truncated.mp4", StatusReason::UnsupportedCodec),
        ("mjpeg.mkv", StatusReason::UnsupportedCodec),
        ("audio.mkv", StatusReason::UnsupportedCodec),
    ] {
        let sink = Recorder::new();
        let stream = open(&recording(&file(name)), &sink);
        sink.wait(&format!("failure of {name}"), |it| {
            it.statuses.iter().any(|s| s.retry_at.is_some())
        });
        let status = sink.statuses().into_iter().find(|it| it.retry_at.is_some()).unwrap();
        assert_eq!(
            (status.state, status.reason),
            (Misconfigured, Some(reason)),
            "{name}: {status:?}"
        );
        sink.wait("a second try", |it| {
            it.statuses.iter().filter(|s| s.retry_at.is_some()).count() > 1
        });
        assert!(stream.counters().connects >= 2, "{name}");
        assert!(sink.frames().is_empty(), "{name}");
    }
}

#[test]
fn a_recording_that_breaks_off_ends_with_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.mkv");
    make_clip(&path, 100, &format!("{H264} ! matroskamux"));
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let sink = Recorder::new();
    let _stream = open(&recording(&path), &sink);
    sink.wait("its end", |it| it.statuses.iter().any(|s| s.state == CameraState::Ended));
    let frames = sink.frames().len();
    assert!((20..100).contains(&frames), "{frames}");
}

#[test]
fn a_missing_file_is_found_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later.mkv");
    let sink = Recorder::new();
    let _stream = open(&recording(&path), &sink);
    sink.wait_status(CameraState::Misconfigured, Some(StatusReason::NotFound));
    let other = dir.path().join("made.mkv");
    make_clip(&other, 10, &format!("{H264} ! matroskamux"));
    std::fs::rename(other, path).unwrap();
    sink.wait_status(CameraState::Ended, Some(StatusReason::EndOfStream));
    assert_eq!(sink.frames().len(), 10);
}

#[test]
fn a_file_url_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a b.mkv");
    run_pipeline(&format!(
        "videotestsrc num-buffers=5 ! {H264} ! matroskamux ! filesink location=\"{}\"",
        path.display()
    ));
    let sink = Recorder::new();
    let url = format!("file://{}", path.display()).replace(' ', "%20");
    let _stream = open(&Camera { pace: Pace::AsFastAsPossible, ..camera(&url) }, &sink);
    sink.wait_frames(5);
}

#[test]
fn a_sink_that_panics_harms_only_its_own_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mkv");
    make_clip(&path, 20, &format!("{H264} ! matroskamux"));
    let panicked = AtomicBool::new(false);
    let sink = Recorder::with(move |number| {
        if number == 3 && !panicked.swap(true, Ordering::SeqCst) {
            panic!("on purpose, with secret hunter2");
        }
    });
    let camera = Camera { credentials: credentials("admin", "hunter2"), ..recording(&path) };
    let stream = open(&camera, &sink);
    let status = sink.wait_status(CameraState::Connecting, Some(StatusReason::Panicked));
    assert!(status.retry_at.is_some() && status.detail.contains("on purpose"), "{status:?}");
    assert!(!status.detail.contains("hunter2"), "{status:?}");
    sink.wait_status(CameraState::Ended, Some(StatusReason::EndOfStream));
    assert_eq!(sink.frames().len(), 4 + 20); // begun anew
    assert_eq!(stream.counters().connects, 2);
}

#[test]
fn a_sink_whose_status_panics_is_survived() {
    struct Hostile(Arc<Recorder>);
    impl FrameSink for Hostile {
        fn frame(&self, frame: guiji_domain::Frame) {
            self.0.frame(frame);
        }
        fn status(&self, _: &guiji_domain::CameraId, _: guiji_domain::CameraStatus) {
            panic!("on purpose");
        }
    }
    let sink = Recorder::new();
    let source = guiji_ingest::GstSource::new(settings(), Arc::new(WallClock)).unwrap();
    let camera = recording(std::path::Path::new("missing.mp4"));
    let stream = source.open(&camera, Arc::new(Hostile(Arc::clone(&sink))));
    let deadline = Instant::now() + PATIENCE;
    while stream.counters().connects < 3 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_disabled_camera_is_not_opened() {
    let sink = Recorder::new();
    let stream = open(&Camera { enabled: false, ..camera("rtsp://127.0.0.1:1/x") }, &sink);
    sink.wait_status(CameraState::Disabled, None);
    assert_eq!(stream.counters().connects, 0);
}

#[test]
fn closing_is_prompt_and_final() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mkv");
    make_clip(&path, 200, &format!("{H264} ! matroskamux"));
    for pace in [Pace::RealTime, Pace::AsFastAsPossible] {
        let sink = Recorder::with(|_| std::thread::sleep(Duration::from_millis(5)));
        let stream = open(&Camera { pace, ..recording(&path) }, &sink);
        sink.wait_frames(3);
        let began = Instant::now();
        drop(stream);
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
        let (frames, statuses) = (sink.frames().len(), sink.statuses().len());
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!((sink.frames().len(), sink.statuses().len()), (frames, statuses));
    }
}
