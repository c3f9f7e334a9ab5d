//! What the gate lets through, with real decoders.
#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, and does not know that this is one

mod common;

use std::path::Path;
use std::time::Duration;

use common::*;
use guiji_domain::{Camera, CameraState, DecodePolicy, Feedback, Pace, StatusReason};
use guiji_ingest::IngestSettings;

fn recording(path: &Path, policy: DecodePolicy) -> Camera {
    Camera { pace: Pace::AsFastAsPossible, policy, ..camera(path.to_str().unwrap()) }
}

fn play(camera: &Camera) -> (Vec<Seen>, guiji_domain::StreamCounters) {
    play_with(camera, settings())
}

fn play_with(
    camera: &Camera,
    settings: IngestSettings,
) -> (Vec<Seen>, guiji_domain::StreamCounters) {
    let sink = Recorder::new();
    let stream = open_with(settings, camera, &sink);
    sink.wait_status(CameraState::Ended, Some(StatusReason::EndOfStream));
    (sink.frames(), stream.counters())
}

fn numbers(frames: &[Seen]) -> Vec<u64> {
    frames.iter().map(|it| (it.pts.as_millis() as u64 + 20) / 40).collect()
}

const B_FRAMES: &str =
    "x264enc bframes=2 b-adapt=false key-int-max=20 speed-preset=veryfast threads=1";

#[test]
fn pictures_from_the_pool_are_those_of_a_recording_decoded_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    make_clip(&path, 50, &format!("{B_FRAMES} ! mp4mux"));
    let whole = recording(&path, DecodePolicy::Full);
    let (alone, counters) = play(&whole);
    assert_eq!(numbers(&alone), (0..50).collect::<Vec<_>>());
    assert_eq!((counters.decoded, counters.shed), (50, 0));
    let (pooled, _) = play(&Camera { pace: Pace::RealTime, ..whole });
    let pictures = |frames: &[Seen]| -> Vec<_> {
        frames.iter().map(|it| (it.pts, it.luma.to_bits(), it.small.clone())).collect()
    };
    assert!(pictures(&pooled) == pictures(&alone));
}

#[test]
fn unreferenced_pictures_can_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    make_clip(&path, 40, &format!("{B_FRAMES} b-pyramid=false ! mp4mux"));
    let (all, _) = play(&recording(&path, DecodePolicy::Full));
    let (fewer, counters) = play(&recording(&path, DecodePolicy::Referenced));
    assert!((10..=20).contains(&fewer.len()), "{} of {}", fewer.len(), all.len());
    assert_eq!(counters.decoded, fewer.len() as u64);
    for it in &fewer {
        let same = all.iter().find(|other| other.pts == it.pts).unwrap();
        assert!(same.small == it.small, "{:?}", it.pts);
    }
}

/// A moving disc, 160 x 120. An encoder may say no more of it than whence it came.
const BALL: &str = "pattern=ball ! video/x-raw,format=I420,width=160,height=120,framerate=25/1";
/// A patch that is new in each picture, in the middle of an empty view, 160 x 120.
const PATCH: &str = "pattern=snow ! video/x-raw,format=I420,width=64,height=48,framerate=25/1 \
                     ! videobox left=-48 right=-48 top=-36 bottom=-36";

/// An empty view, but for pictures 160 to 184, between two keyframes, and 240 to 279, with keyframe 250 among them.
fn make_road(path: &Path, vehicle: &str, encode_and_mux: &str) {
    let empty = "pattern=black ! video/x-raw,format=I420,width=160,height=120,framerate=25/1";
    let parts = [(empty, 160), (vehicle, 25), (empty, 55), (vehicle, 40), (empty, 90)];
    let part = |(what, pictures)| format!("videotestsrc num-buffers={pictures} {what} ! c. ");
    let parts: String = parts.into_iter().map(part).collect();
    run_pipeline(&format!(
        "concat name=c ! identity single-segment=true ! {encode_and_mux} ! filesink location={} {parts}",
        path.display()
    ));
}

#[test]
fn only_what_happens_is_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    let encoder = "x264enc tune=zerolatency key-int-max=50 speed-preset=ultrafast threads=1";
    make_road(&path, BALL, &format!("{encoder} ! mp4mux"));
    let (all, _) = play(&recording(&path, DecodePolicy::Full));
    assert_eq!(all.len(), 370);
    let (seen, counters) = play(&recording(&path, DecodePolicy::Motion));
    let found = numbers(&seen);
    let missing: Vec<_> = (160..185).chain(240..280).filter(|it| !found.contains(it)).collect();
    assert!(missing.is_empty(), "{missing:?} of {found:?}, {counters:?}");
    // It sleeps before, and after the view has been calm for a while.
    assert!(
        !found.iter().any(|it| (51..150).contains(it) && it % 50 != 0 || (320..350).contains(it)),
        "{found:?}"
    );
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
    assert!(counters.decoded < 250 && counters.woken_by_size > 0, "{counters:?}");
    for it in &seen {
        let same = all.iter().find(|other| other.pts == it.pts).unwrap();
        assert!(same.small == it.small, "{:?}", it.pts);
    }
}

#[test]
fn what_sizes_do_not_tell_a_glimpse_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    // Keyframes 10 s apart: 0 and 250.
    let h265 = "x265enc key-int-max=250 speed-preset=ultrafast log-level=none";
    let encoders = [
        "x264enc tune=zerolatency key-int-max=250 speed-preset=ultrafast threads=1".to_owned(),
        format!("{h265} option-string=scenecut=0:bframes=0:ref=3 ! h265parse"),
        // Keyframe 250 may come some pictures sooner.
        format!("{h265} option-string=scenecut=0:bframes=2:b-adapt=0:rc-lookahead=5 ! h265parse"),
    ];
    let settings = |glimpse| IngestSettings { glimpse, heed_sizes: false, ..settings() };
    for encoder in encoders {
        let scaled = "videoscale ! video/x-raw,width=640,height=480";
        make_road(&path, PATCH, &format!("{scaled} ! {encoder} ! mp4mux"));
        let (seen, counters) = play_with(&recording(&path, DecodePolicy::Motion), settings(true));
        let found = numbers(&seen);
        let missing: Vec<_> = (160..185).chain(240..280).filter(|it| !found.contains(it)).collect();
        assert!(missing.is_empty(), "{encoder}: {missing:?} of {found:?}, {counters:?}");
        assert!(!found.iter().any(|it| (40..140).contains(it)), "{encoder}: it slept: {found:?}");
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{encoder}: {found:?}");
        assert!(
            counters.woken_by_glimpse >= 1 && counters.glimpses >= 6,
            "{encoder}: {counters:?}"
        );
        let (_, counters) = play_with(&recording(&path, DecodePolicy::Motion), settings(false));
        assert_eq!((counters.glimpses, counters.woken_by_glimpse), (0, 0));
    }
}

#[test]
fn where_keyframes_are_far_apart_and_nothing_else_sees_everything_is_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    let encoder = "x265enc tune=zerolatency key-int-max=250 speed-preset=ultrafast log-level=none \
                   option-string=scenecut=0 ! h265parse";
    make_road(&path, BALL, &format!("{encoder} ! mp4mux"));
    let settings = |secs| IngestSettings {
        heed_sizes: false,
        glimpse: false,
        blind_max: Duration::from_secs(secs),
        ..settings()
    };
    let (_, sleeping) = play_with(&recording(&path, DecodePolicy::Motion), settings(60));
    assert_eq!(sleeping.dense, 0);
    let (seen, counters) = play_with(&recording(&path, DecodePolicy::Motion), settings(3));
    let found = numbers(&seen);
    let missing: Vec<_> = (0..280).filter(|it| !found.contains(it)).collect();
    assert!(missing.is_empty(), "{missing:?} of {found:?}, {counters:?}");
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
    assert!(counters.dense > 150 && counters.shed == 0, "{counters:?}");
}

#[test]
fn a_live_camera_says_how_long_it_is_blind_and_hears_what_was_seen() {
    let server = Serving::of(live_h264()).start();
    let sink = Recorder::new();
    let policy = DecodePolicy::Motion;
    let stream = open(&Camera { policy, ..camera(&server.address()) }, &sink);
    // The ball moves all the time.
    sink.wait_frames(60);
    stream.feedback(Feedback { live_tracks: 1, urgent: true, sparing: false });
    sink.wait_frames(90);
    // Keyframes come every 10 pictures, and nothing proves yet that sizes tell of vehicles between them.
    let blind = stream.blind_time();
    assert!(blind.abs_diff(Duration::from_millis(400)) < Duration::from_millis(50), "{blind:?}");
    assert!(stream.counters().woken_by_view + stream.counters().woken_by_size > 0);
}
