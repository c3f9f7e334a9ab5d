//! Encoded pictures of a video file, one by one, without decoding them.

use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use crate::SceneError;
use crate::encode::Codec;

/// One encoded picture (access unit), in decoding order.
#[derive(Clone)]
pub(crate) struct Unit {
    pub(crate) buffer: gst::Buffer,
    pub(crate) pts: gst::ClockTime,
    pub(crate) is_key: bool,
}

/// Reads a file's video in bounded memory.
pub(crate) struct UnitReader {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    file: PathBuf,
    pub(crate) codec: Codec,
    first_pts: Option<gst::ClockTime>,
}

const READ_TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(10);

impl UnitReader {
    pub(crate) fn open(file: &Path) -> Result<Self, SceneError> {
        if !file.is_file() {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(SceneError::file("read", file)(missing));
        }
        // Whoever only reads has had no other reason to start it.
        gst::init().map_err(|error| Self::failure(file, error))?;
        let mut problem = None;
        for codec in [Codec::H264, Codec::H265] {
            match Self::open_as(file, codec) {
                Ok(reader) => return Ok(reader),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem.unwrap_or_else(|| Self::failure(file, "has no H.264 or H.265 video")))
    }

    fn failure(file: &Path, problem: impl std::fmt::Display) -> SceneError {
        SceneError::media(file.display().to_string())(problem)
    }

    fn open_as(file: &Path, codec: Codec) -> Result<Self, SceneError> {
        let fail = |problem: &dyn std::fmt::Display| Self::failure(file, problem);
        let kind = codec.as_str();
        // Parameter sets go before every keyframe, so that a client can begin at any of them.
        let description = format!(
            "filesrc name=file ! parsebin ! {kind}parse config-interval=-1 \
             ! video/x-{kind},stream-format=byte-stream,alignment=au \
             ! appsink name=sink sync=false max-buffers=16"
        );
        let pipeline = gst::parse::launch(&description)
            .map_err(|e| fail(&e))?
            .downcast::<gst::Pipeline>()
            .map_err(|_| fail(&"no pipeline"))?;
        let source = pipeline.by_name("file").ok_or_else(|| fail(&"no source"))?;
        source.set_property("location", file);
        let sink = pipeline
            .by_name("sink")
            .and_downcast::<gst_app::AppSink>()
            .ok_or_else(|| fail(&"no sink"))?;
        let reader = Self { pipeline, sink, file: file.to_owned(), codec, first_pts: None };
        reader.pipeline.set_state(gst::State::Playing).map_err(|e| fail(&e))?;
        if reader.sink.try_pull_preroll(READ_TIMEOUT).is_none() {
            return Err(fail(&"has no H.264 or H.265 video that can be read"));
        }
        Ok(reader)
    }

    /// The next picture, `None` at the end. Time stamps begin at 0.
    pub(crate) fn next(&mut self) -> Result<Option<Unit>, SceneError> {
        let Some(sample) = self.sink.try_pull_sample(READ_TIMEOUT) else {
            if self.sink.is_eos() {
                return Ok(None);
            }
            return Err(Self::failure(&self.file, "could not be read on"));
        };
        let Some(buffer) = sample.buffer_owned() else { return Ok(None) };
        let at = buffer.pts().or(buffer.dts()).unwrap_or(gst::ClockTime::ZERO);
        // The muxer may shift all time stamps when there are B-frames; the first picture shown is the clip's 0.
        let first = *self.first_pts.get_or_insert(at);
        Ok(Some(Unit {
            is_key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            pts: at.saturating_sub(first),
            buffer,
        }))
    }
}

impl Drop for UnitReader {
    fn drop(&mut self) {
        if let Err(error) = self.pipeline.set_state(gst::State::Null) {
            tracing::debug!(file = %self.file.display(), %error, "reader did not stop");
        }
    }
}
