use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use guiji_domain::{CaptureTime, Timestamp};

use crate::capture_clock::CaptureClock;
use crate::gate::{AccessUnit, Gate, UnitKind, Verdict};
use crate::link::{Line, Progress};
use crate::mailbox::Event;
use crate::tally::count;

/// Takes encoded units off the pad before the decoder, dates them and lets the gate judge.
pub(crate) struct Intake {
    gate: Gate,
    clock: CaptureClock,
    segment: gst::FormattedSegment<gst::ClockTime>,
    moments: Arc<Moments>,
    clock_refused: bool,
}

impl Intake {
    pub(crate) fn new(gate: Gate, clock: CaptureClock, moments: Arc<Moments>) -> Self {
        Self { gate, clock, segment: gst::FormattedSegment::new(), moments, clock_refused: false }
    }

    /// Puts it on a pad where parsed units flow, one a buffer.
    pub(crate) fn attach(self, pad: &gst::Pad, line: &Arc<Line>, progress: &Arc<Progress>) {
        let (line, progress) = (Arc::clone(line), Arc::clone(progress));
        let intake = Mutex::new(self);
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        pad.add_probe(kinds, move |_, info| {
            // "Handled" and not "Drop": with the latter gstreamer-rs 0.25 and GStreamer 1.22 both believe that the
            // other frees the unit, and complain of each one.
            line.guarded(gst::PadProbeReturn::Handled, || {
                let mut intake = intake.lock().unwrap_or_else(PoisonError::into_inner);
                match &info.data {
                    Some(gst::PadProbeData::Buffer(unit)) => {
                        match intake.unit(unit, &line, &progress) {
                            Verdict::Decode => gst::PadProbeReturn::Ok,
                            Verdict::Skip => gst::PadProbeReturn::Handled,
                        }
                    }
                    Some(gst::PadProbeData::Event(event)) => {
                        intake.event(event);
                        gst::PadProbeReturn::Ok
                    }
                    _ => gst::PadProbeReturn::Ok,
                }
            })
        });
    }

    fn event(&mut self, event: &gst::EventRef) {
        if let gst::EventView::Segment(event) = event.view()
            && let Some(segment) = event.segment().downcast_ref::<gst::ClockTime>()
        {
            self.segment = segment.clone();
        }
    }

    fn unit(&mut self, buffer: &gst::BufferRef, line: &Line, progress: &Progress) -> Verdict {
        let kind = if buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            UnitKind::Delta
        } else {
            UnitKind::Key
        };
        let stamp = buffer.pts().or(buffer.dts()).unwrap_or(gst::ClockTime::ZERO);
        let running = self.segment.to_running_time(stamp).map_or(Duration::ZERO, Duration::from);
        let captured = self.clock.observe(line.clock.now(), running, camera_time(buffer));
        self.tell_of_clock(line);
        let unit = AccessUnit { bytes: buffer.size(), kind, running, captured };

        count(&line.tally.units);
        line.tally.bytes.fetch_add(unit.bytes as u64, Relaxed);
        if unit.kind == UnitKind::Key {
            count(&line.tally.keyframes);
        }
        let gap = buffer.flags().contains(gst::BufferFlags::DISCONT);
        if gap && progress.since_picture().is_some() {
            line.complain(progress); // something was lost before this unit
        }
        progress.unit_came(unit.kind == UnitKind::Key);

        let verdict = self.gate.judge(&unit);
        if verdict == Verdict::Decode {
            self.moments.keep(stamp, Moment { running: unit.running, captured: unit.captured });
        }
        verdict
    }

    fn tell_of_clock(&mut self, line: &Line) {
        let refused = self.clock.refused();
        if refused.is_some() != self.clock_refused {
            self.clock_refused = refused.is_some();
            line.mailbox.post(Event::ClockJudged(refused));
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

/// When a picture belongs: in the stream and in the world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) running: Duration,
    pub(crate) captured: CaptureTime,
}

/// Carries moments past the decoder, by time stamp, so that they are those of arrival and not of decoding.
#[derive(Debug, Default)]
pub(crate) struct Moments(Mutex<Carried>);

#[derive(Debug, Default)]
struct Carried {
    waiting: VecDeque<(gst::ClockTime, Moment)>,
    last: Option<(gst::ClockTime, Moment)>,
}

/// More than a decoder may hold back (16 pictures, H.264 and H.265).
const WAITING_MAX: usize = 64;

impl Moments {
    fn keep(&self, stamp: gst::ClockTime, moment: Moment) {
        let mut carried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if carried.waiting.len() >= WAITING_MAX {
            carried.waiting.pop_front();
        }
        carried.waiting.push_back((stamp, moment));
    }

    /// The moment of a decoded picture. One whose unit is unknown (a decoder may make up time stamps) is dated from
    /// the picture before it.
    pub(crate) fn take(&self, stamp: Option<gst::ClockTime>) -> Option<Moment> {
        let mut carried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match stamp {
            Some(stamp) => carried.waiting.iter().find(|(it, _)| *it == stamp).copied(),
            None => carried.waiting.front().copied(),
        };
        let taken = found.or_else(|| {
            let ((last, moment), stamp) = carried.last.zip(stamp)?;
            let since = Duration::from(stamp.saturating_sub(last));
            let captured = CaptureTime { at: moment.captured.at.plus(since), ..moment.captured };
            Some((stamp, Moment { running: moment.running + since, captured }))
        })?;
        // Pictures come in the order of presentation: what lies before this one comes no more.
        carried.waiting.retain(|(it, _)| *it > taken.0);
        carried.last = Some(taken);
        Some(taken.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::ClockSource;

    fn moment(ms: u64) -> (gst::ClockTime, Moment) {
        let captured = CaptureTime {
            at: Timestamp::from_millis(1_000_000 + ms as i64),
            uncertainty: Duration::ZERO,
            source: ClockSource::Arrival,
        };
        let running = Duration::from_millis(ms);
        (gst::ClockTime::from_mseconds(ms), Moment { running, captured })
    }

    #[test]
    fn moments_come_back_by_time_stamp() {
        let moments = Moments::default();
        for ms in [0, 120, 40, 80] {
            let (stamp, it) = moment(ms);
            moments.keep(stamp, it);
        }
        let take = |ms| moments.take(Some(gst::ClockTime::from_mseconds(ms)));
        assert_eq!(take(0).unwrap().running, Duration::from_millis(0));
        assert_eq!(take(80).unwrap().running, Duration::from_millis(80));
        assert_eq!(moments.0.lock().unwrap().waiting.len(), 1); // 40 was lost in decoding
        let made_up = take(100).unwrap();
        assert_eq!(made_up.running, Duration::from_millis(100));
        assert_eq!(made_up.captured.at, Timestamp::from_millis(1_000_100));
        assert!(Moments::default().take(None).is_none());
    }

    #[test]
    fn bounded() {
        let moments = Moments::default();
        for ms in 0..1000 {
            let (stamp, it) = moment(ms);
            moments.keep(stamp, it);
        }
        assert_eq!(moments.0.lock().unwrap().waiting.len(), WAITING_MAX);
    }
}
