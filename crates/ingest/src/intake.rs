use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use gstreamer as gst;
use gstreamer_app as gst_app;
use guiji_domain::{DecodePolicy, Timestamp};

use crate::capture_clock::CaptureClock;
use crate::desk::{Closed, Desk};
use crate::link::{Line, Progress};
use crate::mailbox::Event;
use crate::slices::{Slice, SliceReader};
use crate::tally::count;
use crate::unit::{Codec, LeafFinder, Unit, UnitKind};

/// Takes parsed units off the end of a pipeline, dates them and brings them to the desk.
pub(crate) struct Intake {
    line: Arc<Line>,
    progress: Arc<Progress>,
    desk: Arc<Desk>,
    codec: Codec,
    clock: CaptureClock,
    leaves: LeafFinder,
    slices: SliceReader,
    clock_refused: bool,
}

impl Intake {
    pub(crate) fn new(
        line: &Arc<Line>,
        progress: &Arc<Progress>,
        desk: &Arc<Desk>,
        codec: Codec,
        clock: CaptureClock,
    ) -> Self {
        Self {
            line: Arc::clone(line),
            progress: Arc::clone(progress),
            desk: Arc::clone(desk),
            codec,
            clock,
            leaves: LeafFinder::default(),
            slices: SliceReader::default(),
            clock_refused: false,
        }
    }

    /// Puts it on the appsink in which the units end.
    pub(crate) fn attach(mut self, sink: &gst_app::AppSink) {
        let (line, desk) = (Arc::clone(&self.line), Arc::clone(&self.desk));
        let guard = Arc::clone(&self.line);
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                line.guarded(Err(gst::FlowError::Error), || {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    self.sample(&sample)
                })
            })
            // The end is announced when this returns: when everything is delivered.
            .eos(move |_| guard.guarded((), || desk.finish()));
        sink.set_callbacks(callbacks.build());
    }

    fn sample(&mut self, sample: &gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(data) = sample.buffer_owned() else { return Ok(gst::FlowSuccess::Ok) };
        let segment = sample.segment().and_then(|it| it.downcast_ref::<gst::ClockTime>());
        let stamp = data.pts().or(data.dts()).unwrap_or(gst::ClockTime::ZERO);
        let running = segment.and_then(|it| it.to_running_time(stamp));
        let running = running.map_or(Duration::ZERO, Duration::from);
        self.take(data, running).map_err(|_| gst::FlowError::Flushing)?;
        Ok(gst::FlowSuccess::Ok)
    }

    /// Takes a unit; its flags say whether it is a keyframe and whether something was lost before it.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(crate) fn take(&mut self, data: gst::Buffer, running: Duration) -> Result<(), Closed> {
        let unit = self.date(data, running);
        self.desk.put(unit)
    }

    fn parse(&mut self, data: &gst::BufferRef) -> (UnitKind, Slice) {
        let bytes = data.map_readable().ok();
        let bytes = bytes.as_deref().unwrap_or_default();
        let kind = match data.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            false => UnitKind::Key,
            true if self.leaves.is_leaf(self.codec, bytes) => UnitKind::Leaf,
            true => UnitKind::Delta,
        };
        // Only the smart policy asks.
        let asked = self.line.camera.policy == DecodePolicy::Motion;
        let mut slice = if asked { self.slices.read(self.codec, bytes) } else { Slice::default() };
        slice.quantiser = slice.quantiser.filter(|_| self.line.settings.heed_quantiser);
        (kind, slice)
    }

    fn date(&mut self, data: gst::Buffer, running: Duration) -> Unit {
        let (kind, Slice { quantiser, numbering }) = self.parse(&data);
        let (line, progress) = (&self.line, &self.progress);
        let captured = self.clock.observe(line.clock.now(), running, camera_time(&data));
        count(&line.tally.units);
        line.tally.bytes.fetch_add(data.size() as u64, Relaxed);
        if kind == UnitKind::Key {
            count(&line.tally.keyframes);
        }
        let gap = data.flags().contains(gst::BufferFlags::DISCONT);
        if gap && progress.since_picture().is_some() {
            line.complain(progress); // something was lost before this unit
        }
        progress.unit_came(kind == UnitKind::Key);
        self.tell_of_clock();
        Unit { codec: self.codec, data, kind, quantiser, numbering, running, captured }
    }

    fn tell_of_clock(&mut self) {
        let refused = self.clock.refused();
        if refused.is_some() != self.clock_refused {
            self.clock_refused = refused.is_some();
            self.line.mailbox.post(Event::ClockJudged(refused));
        }
    }
}

/// The camera's own time of a unit, by RTCP sender reports (RFC 3550, section 6.4.1), if the source knows it.
fn camera_time(buffer: &gst::BufferRef) -> Option<Timestamp> {
    /// From 1900-01-01 to 1970-01-01.
    const NTP_TO_UNIX: Duration = Duration::from_secs(2_208_988_800);
    buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find(|meta| meta.reference().structure(0).is_some_and(|it| it.name() == "timestamp/x-ntp"))
        .map(|meta| {
            let nanos = i128::from(meta.timestamp().nseconds()) - NTP_TO_UNIX.as_nanos() as i128;
            Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
        })
}
