//! A tiny story composed, encoded, served by RTSP and received again, with true capture times.

#![allow(clippy::unwrap_used)] // the helpers are tests too

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use guiji_domain::{CameraId, Clock, Point, Quad, Timestamp};
use guiji_scenes::{
    AtEnd, Composed, Composer, Fault, SceneServer, ServeOptions, ServedClip, StartRule, StorySpec,
    StoryTruth, VehicleModel,
};

const STORY: &str = r#"
name = "tiny"
seed = 7
duration_s = 14
width = 640
height = 360
fps = 10.0
vehicles = 1
speed_kmh = [50.0, 60.0]
plates = { small = 1 }
colours = { white = 1 }

[[camera]]
id = "a"
name = "A"
east_m = 0.0
north_m = 0.0
bearing_deg = 90.0
light = "day"
side = "left"

[[camera]]
id = "b"
name = "B"
east_m = 60.0
north_m = 0.0
bearing_deg = 90.0
light = "night"
side = "right"

[[route]]
weight = 1
cameras = ["a", "b"]
"#;

struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH
            .plus(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap())
    }
}

/// A grey block with a red rim: enough of a vehicle for a test without photographs.
fn block() -> VehicleModel {
    let picture = image::RgbImage::from_fn(200, 120, |x, y| {
        let edge = x.min(y).min(199 - x).min(119 - y);
        if edge < 6 { image::Rgb([200, 30, 30]) } else { image::Rgb([120, 120, 124]) }
    });
    let corners = [(60.0, 70.0), (140.0, 70.0), (140.0, 96.0), (60.0, 96.0)];
    VehicleModel::from_picture("block", &picture, Quad(corners.map(|(x, y)| Point { x, y })), None)
        .unwrap()
}

fn compose(folder: &Path) -> Composer {
    let composer = Composer::new(StorySpec::parse(STORY).unwrap(), vec![block()]).unwrap();
    assert_eq!(composer.compose(folder, 2, &|_, _| ()).unwrap(), Composed::Made);
    composer
}

struct Client {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
}

impl Client {
    fn open(url: &str, login: Option<(&str, &str)>) -> Self {
        let pipeline = gst::parse::launch(
            "rtspsrc name=source protocols=tcp latency=200 add-reference-timestamp-meta=true \
             ! rtph264depay ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au \
             ! appsink name=sink sync=false",
        )
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let source = pipeline.by_name("source").unwrap();
        source.set_property("location", url);
        if let Some((user, password)) = login {
            source.set_property("user-id", user);
            source.set_property("user-pw", password);
        }
        let sink = pipeline.by_name("sink").and_downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, sink }
    }

    fn next(&self, timeout: Duration) -> Option<gst::Sample> {
        self.sink.try_pull_sample(gst::ClockTime::try_from(timeout).unwrap())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// NTP time of capture in nanoseconds since the Unix epoch.
fn capture_ns(sample: &gst::Sample) -> Option<i64> {
    const NTP_TO_UNIX_S: i64 = 2_208_988_800;
    let meta = sample.buffer()?.meta::<gst::ReferenceTimestampMeta>()?;
    Some(meta.timestamp().nseconds() as i64 - NTP_TO_UNIX_S * 1_000_000_000)
}

fn serve(folder: &Path, login: Option<(String, String)>) -> SceneServer {
    let story = StoryTruth::load(folder).unwrap();
    let clips = story
        .cameras
        .iter()
        .map(|c| ServedClip { id: CameraId::new(&c.id).unwrap(), file: folder.join(&c.clip) })
        .collect();
    let start = StartRule::Watched { cameras: 2, patience: Duration::from_secs(15) };
    let options = ServeOptions { port: 0, start, at_end: AtEnd::Silence, login };
    SceneServer::start(clips, &options, Arc::new(SystemClock)).unwrap()
}

#[test]
fn a_story_is_composed_once_and_always_the_same() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let composer = compose(one.path());
    assert_eq!(composer.compose(one.path(), 1, &|_, _| ()).unwrap(), Composed::UpToDate);
    let again = compose(two.path());
    // An mp4 carries its date, so pictures are compared before they are encoded.
    for camera in [0, 1] {
        let times = [1.0, 6.0, 8.0];
        assert!(composer.frames(camera, &times).unwrap() == again.frames(camera, &times).unwrap());
    }
    for name in ["story.json", "truth/a.json", "truth/b.json"] {
        let read = |f: &tempfile::TempDir| std::fs::read(f.path().join(name)).unwrap();
        assert!(read(&one) == read(&two), "{name} differs");
    }
    let story = StoryTruth::load(one.path()).unwrap();
    let clips = story.clips(one.path()).unwrap();
    assert_eq!(story.passages(), 2);
    for clip in &clips {
        let [passage] = clip.passages.as_slice() else { panic!("one passage: {clip:?}") };
        assert_eq!(passage.plate, story.vehicles[0].plate);
        assert!(passage.first_seen_ms >= 2000, "the first two seconds are empty");
        assert!(passage.track.iter().all(|f| (0.0..=1.0).contains(&f.visible)));
    }
}

#[test]
fn clips_arrive_with_the_wall_clock_of_one_story() {
    let folder = tempfile::tempdir().unwrap();
    compose(folder.path());
    let login = ("viewer".to_owned(), "secret".to_owned());
    let server = serve(folder.path(), Some(login));
    let ids = ["a", "b"].map(|id| CameraId::new(id).unwrap());
    let refused = Client::open(&server.url(&ids[0]), Some(("viewer", "wrong")));
    assert!(refused.next(Duration::from_secs(2)).is_none(), "a wrong password is let in");
    let clients = [0, 1].map(|i| Client::open(&server.url(&ids[i]), Some(("viewer", "secret"))));
    let started = server.wait_started(Duration::from_secs(20)).expect("the story starts");
    for client in &clients {
        let mut stamped = 0;
        let mut frames = 0;
        while frames < 120 {
            let sample = client.next(Duration::from_secs(5)).expect("the stream goes on");
            frames += 1;
            let Some(ns) = capture_ns(&sample) else { continue };
            let story_ms = (ns - started.as_nanos()) as f64 / 1e6;
            if story_ms < 1000.0 {
                continue;
            }
            // Pictures are 100 ms apart from the start on.
            let off = (story_ms / 100.0 - (story_ms / 100.0).round()).abs() * 100.0;
            assert!(off < 10.0, "{story_ms} ms is {off} ms beside a picture's time");
            stamped += 1;
        }
        assert!(stamped > 20, "{stamped} pictures had a wall clock");
    }
}

#[test]
fn a_broken_camera_falls_silent_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    compose(folder.path());
    let server = serve(folder.path(), None);
    let id = CameraId::new("a").unwrap();
    let client = Client::open(&server.url(&id), None);
    assert!(client.next(Duration::from_secs(10)).is_some());
    assert!(server.set_fault(&id, Fault::Down));
    let mut left = 50;
    while client.next(Duration::from_secs(2)).is_some() {
        left -= 1;
        assert!(left > 0, "a camera that is down goes on sending");
    }
    let refused = Client::open(&server.url(&id), None);
    assert!(refused.next(Duration::from_secs(2)).is_none());
    assert!(server.set_fault(&id, Fault::None));
    let again = Client::open(&server.url(&id), None);
    assert!(again.next(Duration::from_secs(10)).is_some(), "it does not come back");
    assert!(!server.set_fault(&CameraId::new("nobody").unwrap(), Fault::Down));
}
