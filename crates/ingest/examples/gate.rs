//! What each decode policy costs and what it misses, on clips with known passages.
//!
//! `cargo run -p guiji-ingest --example gate FOLDER`, where FOLDER is one that `guiji-scenes compose` made, or has
//! `clips/NAME.mp4` and `truth/NAME.json` alike. A passage counts as caught when at least three of its frames with a
//! whole plate of 60 pixels or more are delivered at 8 frames a second, or all that there are if `full` delivers
//! fewer. `ONLY=NAME` plays for one line of the table. No detector runs, so no vehicle is followed: what the gate keeps awake for is what it sees itself.

use std::error::Error;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use gstreamer as gst;
use guiji_domain::{
    Camera, CameraId, CameraState, CameraStatus, Clock, DecodePolicy, Frame, FrameSink,
    FrameSource, GeoPoint, Pace, PixelFormat, SiteId, StreamAddress, StreamCounters, Timestamp,
    Transport,
};
use guiji_ingest::{GstSource, IngestSettings};
use serde_json::Value;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Frames with a readable plate that a passage needs.
const FRAMES_MIN: usize = 3;
/// Width of such a plate, pixels.
const PLATE_PX: f64 = 60.0;

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(gst::glib::real_time() * 1000)
    }
}

struct Times {
    delivered_ms: Mutex<Vec<u64>>,
    ended: SyncSender<()>,
}

impl FrameSink for Times {
    fn frame(&self, frame: Frame) {
        let ms = (frame.pts.as_secs_f64() * 1e3).round() as u64;
        self.delivered_ms.lock().unwrap_or_else(|it| it.into_inner()).push(ms);
    }
    fn status(&self, _: &CameraId, status: CameraStatus) {
        if !matches!(status.state, CameraState::Connecting | CameraState::Live) {
            // Nobody listens any more after the first.
            self.ended.try_send(()).unwrap_or_default();
        }
    }
}

fn main() -> Outcome<()> {
    let folder = std::env::args().nth(1).ok_or("say which folder")?;
    let mut clips: Vec<_> = std::fs::read_dir(Path::new(&folder).join("clips"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    clips.sort();
    println!(
        "policy              CPU s  decoded (keys)  woken view/size/glimpse  glimpses  caught  of full"
    );
    let mut by_full = Vec::new();
    for (name, policy, heed_sizes, heed_quantiser, glimpse) in [
        ("full", DecodePolicy::Full, false, false, false),
        ("keyframe-only", DecodePolicy::KeyframeOnly, false, false, false),
        ("motion", DecodePolicy::Motion, true, true, true),
        ("- quantiser", DecodePolicy::Motion, true, false, true),
        ("- sizes", DecodePolicy::Motion, false, false, true),
        ("- glimpses", DecodePolicy::Motion, true, true, false),
        ("- both", DecodePolicy::Motion, false, false, false),
    ] {
        if std::env::var("ONLY").is_ok_and(|it| it != name) {
            continue;
        }
        let settings =
            |settings| IngestSettings { heed_sizes, heed_quantiser, glimpse, ..settings };
        let began = cpu_seconds()?;
        let mut total = StreamCounters::default();
        let mut caught = Vec::new();
        for clip in &clips {
            let (delivered, counters) = play(clip, policy, settings)?;
            total = total.plus(counters);
            for readable in passages(&folder, clip)? {
                caught.push(readable.iter().filter(|ms| delivered.contains(ms)).count());
            }
        }
        let cpu = cpu_seconds()? - began;
        if policy == DecodePolicy::Full {
            by_full.clone_from(&caught);
        }
        let wanted = by_full.iter().filter(|full| **full > 0).count();
        let pairs = caught.iter().zip(&by_full);
        let found = pairs.filter(|(it, full)| **full > 0 && **it >= FRAMES_MIN.min(**full)).count();
        println!(
            "{name:<18} {cpu:6.1} {:8} ({:4}) {:10}/{:4}/{:<7} {:5} {found:7} {wanted:8}",
            total.decoded,
            total.decoded_keyframes,
            total.woken_by_view,
            total.woken_by_size,
            total.woken_by_glimpse,
            total.glimpses,
        );
    }
    Ok(())
}

fn play(
    clip: &Path,
    policy: DecodePolicy,
    chosen: impl Fn(IngestSettings) -> IngestSettings,
) -> Outcome<(Vec<u64>, StreamCounters)> {
    let settings = chosen(IngestSettings::new((320, 192), PixelFormat::Bgr));
    let source = GstSource::new(settings, Arc::new(WallClock))?;
    let camera = Camera {
        id: CameraId::new("clip")?,
        site: SiteId::new("clip")?,
        name: "clip".into(),
        position: GeoPoint::new(0.0, 0.0)?,
        bearing_deg: None,
        lanes: None,
        substream: None,
        onvif: None,
        address: StreamAddress::new(&clip.to_string_lossy())?,
        credentials: None,
        transport: Transport::Tcp,
        pace: Pace::AsFastAsPossible,
        policy,
        analysed_fps_max: 8.0,
        recorded_at: None,
        enabled: true,
    };
    let (ended, end) = sync_channel(1);
    let sink = Arc::new(Times { delivered_ms: Mutex::default(), ended });
    let stream = source.open(&camera, sink.clone());
    end.recv()?;
    let counters = stream.counters();
    drop(stream);
    let delivered = sink.delivered_ms.lock().unwrap_or_else(|it| it.into_inner()).clone();
    Ok((delivered, counters))
}

/// The times of each passage's frames with a readable plate.
fn passages(folder: &str, clip: &Path) -> Outcome<Vec<Vec<u64>>> {
    let name = clip.file_stem().ok_or("a clip has no name")?;
    let file = Path::new(folder).join("truth").join(name).with_extension("json");
    let truth: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let of = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    Ok(of(&truth, "passages")
        .iter()
        .map(|passage| {
            let track = of(passage, "track");
            let readable = track.iter().filter(|frame| {
                let corner = |at: usize| frame["plate"][at][0].as_f64().unwrap_or_default();
                let whole = frame["plate_visible"].as_f64().is_some_and(|share| share >= 0.999);
                whole && corner(1) - corner(0) >= PLATE_PX
            });
            readable.filter_map(|frame| frame["pts_ms"].as_u64()).collect()
        })
        .collect())
}

fn cpu_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // User and system time, the 14th and 15th field, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').ok_or("no process state")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}
