//! Encoded video to the detector's picture: ingest as it is, against orders of GStreamer's own elements.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use criterion::Criterion;
use gstreamer as gst;
use gstreamer::prelude::*;
use guiji_domain::{
    Camera, CameraId, CameraState, CameraStatus, Frame, FrameSink, FrameSource as _, Pace,
    PixelFormat, SimulatedClock, StreamAddress, Timestamp,
};
use guiji_ingest::{GstSource, IngestSettings};

use crate::{Comparison, CpuTime, scratch, slow_group, values};

const FRAMES: usize = 60;
/// What the vehicle detector asks for of 16:9 cameras.
const SMALL: (u32, u32) = (320, 180);
const PATIENCE: Duration = Duration::from_secs(120);

const OURS: &str = "ingest";
/// What a pipeline written from memory does: colours at full size, then scaling.
const CONVERT_FIRST: &str = "videoconvert, then videoscale";
/// The better order of the same elements.
const SCALE_FIRST: &str = "videoscale, then videoconvert";
/// Not a competitor: what no order of scaling can save.
const DECODE_ONLY: &str = "decoding alone";

pub(crate) fn compare(criterion: &mut Criterion<CpuTime>) -> anyhow::Result<Vec<Comparison>> {
    let source = GstSource::new(
        IngestSettings::new(SMALL, PixelFormat::Rgb),
        Arc::new(SimulatedClock::at(Timestamp::EPOCH)),
    )?;
    let folder = tempfile::tempdir_in(scratch())?;
    let clip = folder.path().join("clip.mkv");
    encode(&clip).context("cannot encode a clip")?;
    let address = clip.to_str().context("the path of the clip is no text")?.to_owned();
    let camera = Camera {
        address: StreamAddress::new(&address)?,
        pace: Pace::AsFastAsPossible,
        analysed_fps_max: 1000.0,
        ..values::camera("k1")
    };

    let mut group = slow_group(criterion, "decode", 12);
    group.bench_function(OURS, |b| b.iter(|| ingest(&source, &camera).expect("all frames come")));
    let small = format!("width={},height={}", SMALL.0, SMALL.1);
    let baselines = [
        (
            CONVERT_FIRST,
            format!("videoconvert ! video/x-raw,format=RGB ! videoscale ! video/x-raw,{small} !"),
        ),
        (
            SCALE_FIRST,
            format!("videoscale ! video/x-raw,{small} ! videoconvert ! video/x-raw,format=RGB !"),
        ),
        (DECODE_ONLY, String::new()),
    ];
    for (name, scaling) in &baselines {
        let pipeline = format!(
            "filesrc location=\"{address}\" ! matroskademux ! h264parse ! avdec_h264 max-threads=1 ! {scaling} \
             fakesink sync=false"
        );
        group.bench_function(*name, |b| b.iter(|| play(&pipeline).expect("the clip plays")));
    }
    group.finish();
    Ok(vec![Comparison {
        stage: "decode",
        ours: OURS.to_owned(),
        baselines: baselines.map(|(name, _)| name.to_owned()).to_vec(),
        unit: "1920x1080 H.264 frame to 320x180 RGB",
        units: FRAMES,
        note: String::new(),
    }])
}

/// A moving picture with noise in a part of it, so that the bits are like a camera's.
fn encode(clip: &Path) -> anyhow::Result<()> {
    play(&format!(
        "videotestsrc num-buffers={FRAMES} pattern=ball \
         ! video/x-raw,format=I420,width=1920,height=1080,framerate=25/1 ! mix.sink_0 \
         videotestsrc num-buffers={FRAMES} pattern=snow \
         ! video/x-raw,format=I420,width=480,height=270,framerate=25/1 ! mix.sink_1 \
         compositor name=mix sink_1::xpos=64 sink_1::ypos=64 ! video/x-raw,format=I420 \
         ! x264enc speed-preset=veryfast tune=zerolatency bitrate=4000 key-int-max=50 ! h264parse \
         ! matroskamux ! filesink location=\"{}\"",
        clip.display()
    ))
}

/// Runs a pipeline to its end.
fn play(description: &str) -> anyhow::Result<()> {
    let pipeline = gst::parse::launch(description)?;
    let bus = pipeline.bus().context("a pipeline without a bus")?;
    pipeline.set_state(gst::State::Playing)?;
    let patience = gst::ClockTime::from_nseconds(PATIENCE.as_nanos() as u64);
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(patience, &kinds);
    pipeline.set_state(gst::State::Null)?;
    match end.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(it)) => Err(it.error().into()),
        _ => anyhow::bail!("no end within {PATIENCE:?}"),
    }
}

struct Counter {
    frames: AtomicUsize,
    ended: SyncSender<()>,
}

impl FrameSink for Counter {
    fn frame(&self, frame: Frame) {
        debug_assert_eq!((frame.small.width(), frame.small.height()), SMALL);
        self.frames.fetch_add(1, Relaxed);
    }
    fn status(&self, _: &CameraId, status: CameraStatus) {
        if status.state == CameraState::Ended {
            // A second end, or one that nobody waits for, says nothing new.
            self.ended.try_send(()).unwrap_or_default();
        }
    }
}

fn ingest(source: &GstSource, camera: &Camera) -> anyhow::Result<()> {
    let (ended, end) = sync_channel(1);
    let counter = Arc::new(Counter { frames: AtomicUsize::new(0), ended });
    let stream = source.open(camera, Arc::clone(&counter) as Arc<dyn FrameSink>);
    end.recv_timeout(PATIENCE).context("the clip does not end")?;
    drop(stream);
    let frames = counter.frames.load(Relaxed);
    ensure!(frames == FRAMES, "{frames} of {FRAMES} frames came");
    Ok(())
}
