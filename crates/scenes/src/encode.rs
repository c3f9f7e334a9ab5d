//! Pictures in, a video file out.

use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use serde::Deserialize;

use crate::SceneError;
use crate::canvas::Canvas;

/// How clips are encoded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSpec {
    /// H.264 or H.265.
    pub codec: Codec,
    /// How many bits go in.
    pub rate: Rate,
    /// Seconds between keyframes, 0.1 to 60.
    pub gop_s: f64,
    /// B-frames between two others, 0 to 4.
    pub b_frames: u8,
    /// `ultrafast` to `veryslow`, as x264 and x265 call them.
    pub preset: String,
    /// Tuned as live cameras are: no look-ahead.
    pub zero_latency: bool,
}

/// A video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// H.264 (AVC).
    H264,
    /// H.265 (HEVC).
    H265,
}

/// What is kept constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Rate {
    /// Bits a second.
    Bitrate {
        /// 1000 bits a second.
        kbit_s: u32,
    },
    /// Quality.
    Quality {
        /// Quantiser, 1 (best) to 50.
        quantiser: u32,
    },
    /// Quality, but never more bits than a camera's limit: what cameras call VBR.
    Vbr {
        /// Quantiser that is held where the limit allows, 1 (best) to 50.
        quantiser: u32,
        /// Most 1000 bits a second, over a second.
        kbit_s: u32,
    },
    /// The same bits every second, filled up where the picture does not need them: what cameras call CBR.
    Cbr {
        /// 1000 bits a second, over a second.
        kbit_s: u32,
    },
}

impl Default for EncoderSpec {
    fn default() -> Self {
        Self {
            codec: Codec::H264,
            rate: Rate::Bitrate { kbit_s: 3000 },
            gop_s: 2.0,
            b_frames: 0,
            preset: "superfast".to_owned(),
            zero_latency: true,
        }
    }
}

impl Codec {
    /// `h264` or `h265`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
        }
    }
}

const PRESETS: &[&str] = &[
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
];

impl EncoderSpec {
    pub(crate) fn check(&self) -> Result<(), String> {
        if !PRESETS.contains(&self.preset.as_str()) {
            return Err(format!("preset {}: use one of {}", self.preset, PRESETS.join(" ")));
        }
        if !(0.1..=60.0).contains(&self.gop_s) || self.b_frames > 4 {
            return Err("use 0.1 to 60 seconds between keyframes and 0 to 4 B-frames".to_owned());
        }
        let (kbit_s, quantiser) = match self.rate {
            Rate::Bitrate { kbit_s } | Rate::Cbr { kbit_s } => (kbit_s, 1),
            Rate::Quality { quantiser } => (1, quantiser),
            Rate::Vbr { quantiser, kbit_s } => (kbit_s, quantiser),
        };
        if !(1..=100_000).contains(&kbit_s) || !(1..=50).contains(&quantiser) {
            return Err("use a rate of 1 to 100000 kbit/s and a quantiser of 1 to 50".to_owned());
        }
        Ok(())
    }

    /// The encoder element; one thread, since clips are encoded side by side.
    fn element(&self, fps: f64) -> String {
        let gop = (self.gop_s * fps).round().max(1.0) as u32;
        let (preset, b) = (&self.preset, self.b_frames);
        let tune = if self.zero_latency { "tune=zerolatency" } else { "" };
        match self.codec {
            Codec::H264 => {
                let rate = match self.rate {
                    Rate::Bitrate { kbit_s } => format!("pass=cbr bitrate={kbit_s}"),
                    Rate::Quality { quantiser } => format!("pass=qual quantizer={quantiser}"),
                    Rate::Vbr { quantiser, kbit_s } => format!(
                        "pass=qual quantizer={quantiser} bitrate={kbit_s} vbv-buf-capacity=1000"
                    ),
                    Rate::Cbr { kbit_s } => {
                        format!("pass=cbr bitrate={kbit_s} vbv-buf-capacity=1000")
                    }
                };
                let filled =
                    if matches!(self.rate, Rate::Cbr { .. }) { ":nal-hrd=cbr" } else { "" };
                format!(
                    "x264enc threads=1 key-int-max={gop} bframes={b} speed-preset={preset} {tune} {rate} \
                     option-string=scenecut=0{filled} ! video/x-h264,profile=high ! h264parse"
                )
            }
            Codec::H265 => {
                let rate = match self.rate {
                    Rate::Bitrate { kbit_s } | Rate::Cbr { kbit_s } => format!("bitrate={kbit_s}"),
                    Rate::Quality { quantiser } => format!("qp={quantiser}"),
                    Rate::Vbr { .. } => String::new(),
                };
                let limits = match self.rate {
                    Rate::Vbr { quantiser, kbit_s } => {
                        format!(":crf={quantiser}:vbv-maxrate={kbit_s}:vbv-bufsize={kbit_s}")
                    }
                    // x265 leaves filler data out here; noise alone fills the rate.
                    Rate::Cbr { kbit_s } => {
                        format!(":vbv-maxrate={kbit_s}:vbv-bufsize={kbit_s}:strict-cbr=1")
                    }
                    Rate::Bitrate { .. } | Rate::Quality { .. } => String::new(),
                };
                format!(
                    "x265enc key-int-max={gop} speed-preset={preset} {tune} {rate} \
                     option-string=\"bframes={b}:pools=1:frame-threads=1:scenecut=0:log-level=none{limits}\" \
                     ! h265parse"
                )
            }
        }
    }
}

/// Writes one clip.
pub(crate) struct Encoder {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    frame_ns: f64,
    written: u32,
    name: String,
}

impl Encoder {
    pub(crate) fn open(
        file: &Path,
        width: usize,
        height: usize,
        fps: f64,
        spec: &EncoderSpec,
    ) -> Result<Self, SceneError> {
        let name = file.display().to_string();
        gst::init().map_err(SceneError::media(&*name))?;
        let muxer = match file.extension().and_then(|e| e.to_str()) {
            Some("mkv") => "matroskamux",
            Some("ts") => "mpegtsmux",
            _ => "mp4mux",
        };
        // A queue lets encoding and composing overlap.
        let description = format!(
            "appsrc name=source format=time block=true max-buffers=3 ! queue max-size-buffers=3 ! {} \
             ! {muxer} ! filesink name=sink",
            spec.element(fps)
        );
        let pipeline = gst::parse::launch(&description)
            .map_err(SceneError::media(&*name))?
            .downcast::<gst::Pipeline>()
            .map_err(|_| SceneError::media(&*name)("no pipeline"))?;
        let sink = pipeline.by_name("sink").ok_or_else(|| SceneError::media(&*name)("no sink"))?;
        sink.set_property("location", file);
        let source = pipeline
            .by_name("source")
            .and_downcast::<gst_app::AppSrc>()
            .ok_or_else(|| SceneError::media(&*name)("no source"))?;
        let rate = gst::Fraction::approximate_f64(fps)
            .ok_or_else(|| SceneError::media(&*name)("the frame rate is no fraction"))?;
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", width as i32)
            .field("height", height as i32)
            .field("framerate", rate)
            .field("colorimetry", "bt709")
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .field("interlace-mode", "progressive")
            .build();
        source.set_caps(Some(&caps));
        pipeline.set_state(gst::State::Playing).map_err(SceneError::media(&*name))?;
        Ok(Self { pipeline, source, frame_ns: 1e9 / fps, written: 0, name })
    }

    pub(crate) fn push(&mut self, canvas: &Canvas) -> Result<(), SceneError> {
        // I420 rows in GStreamer are padded to four bytes.
        let mut data = Vec::with_capacity(canvas.width * canvas.height * 3 / 2 + 4 * canvas.height);
        for (plane, width) in
            canvas.planes.iter().zip([canvas.width, canvas.width / 2, canvas.width / 2])
        {
            if width % 4 == 0 {
                data.extend_from_slice(plane);
            } else {
                for row in plane.chunks_exact(width) {
                    data.extend_from_slice(row);
                    data.resize(data.len().next_multiple_of(4), 0);
                }
            }
        }
        let mut buffer = gst::Buffer::from_mut_slice(data);
        let at =
            |frame: u32| gst::ClockTime::from_nseconds((f64::from(frame) * self.frame_ns) as u64);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(at(self.written));
            buffer.set_duration(at(self.written + 1) - at(self.written));
        }
        self.written += 1;
        if self.source.push_buffer(buffer).is_err() {
            return Err(self.failure("the encoder stopped"));
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(), SceneError> {
        self.source.end_of_stream().map_err(SceneError::media(&*self.name))?;
        let bus = self.bus()?;
        let end = bus.timed_pop_filtered(
            gst::ClockTime::from_seconds(120),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        );
        match end.as_ref().map(|m| m.view()) {
            Some(gst::MessageView::Eos(_)) => Ok(()),
            Some(gst::MessageView::Error(e)) => Err(SceneError::media(&*self.name)(e.error())),
            _ => Err(SceneError::media(&*self.name)("the encoder did not finish within 120 s")),
        }
    }

    fn bus(&mut self) -> Result<gst::Bus, SceneError> {
        self.pipeline.bus().ok_or_else(|| SceneError::media(&*self.name)("no bus"))
    }

    /// The first error on the bus, or the given one.
    fn failure(&mut self, otherwise: &str) -> SceneError {
        let said = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        match said.as_ref().map(|m| m.view()) {
            Some(gst::MessageView::Error(e)) => SceneError::media(&*self.name)(e.error()),
            _ => SceneError::media(&*self.name)(otherwise),
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if let Err(error) = self.pipeline.set_state(gst::State::Null) {
            tracing::debug!(clip = self.name, %error, "encoder did not stop");
        }
    }
}
