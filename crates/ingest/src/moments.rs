use std::collections::VecDeque;
use std::time::Duration;

use gstreamer as gst;
use guiji_domain::CaptureTime;

use crate::gate::Purpose;

/// When a picture belongs: in the stream and in the world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) running: Duration,
    pub(crate) captured: CaptureTime,
    pub(crate) purpose: Purpose,
    /// It is a keyframe.
    pub(crate) key: bool,
}

/// Carries moments past the decoder, by time stamp, so that they are those of arrival and not of decoding.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    waiting: VecDeque<(gst::ClockTime, Moment)>,
    last: Option<(gst::ClockTime, Moment)>,
}

/// More than a decoder may hold back (16 pictures, H.264 and H.265).
const WAITING_MAX: usize = 64;

impl Moments {
    pub(crate) fn keep(&mut self, stamp: gst::ClockTime, moment: Moment) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((stamp, moment));
    }

    /// The moment of a decoded picture. One whose unit is unknown (a decoder may make up time stamps) is dated from
    /// the picture before it.
    pub(crate) fn take(&mut self, stamp: Option<gst::ClockTime>) -> Option<Moment> {
        let found = match stamp {
            Some(stamp) => self.waiting.iter().find(|(it, _)| *it == stamp).copied(),
            None => self.waiting.front().copied(),
        };
        let taken = found.or_else(|| {
            let ((last, moment), stamp) = self.last.zip(stamp)?;
            let since = Duration::from(stamp.saturating_sub(last));
            let captured = CaptureTime { at: moment.captured.at.plus(since), ..moment.captured };
            Some((stamp, Moment { running: moment.running + since, captured, ..moment }))
        })?;
        // Pictures come in the order of presentation: what lies before this one comes no more.
        self.waiting.retain(|(it, _)| *it > taken.0);
        self.last = Some(taken);
        Some(taken.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::{ClockSource, Timestamp};

    fn moment(ms: u64) -> (gst::ClockTime, Moment) {
        let captured = CaptureTime {
            at: Timestamp::from_millis(1_000_000 + ms as i64),
            uncertainty: Duration::ZERO,
            source: ClockSource::Arrival,
        };
        let running = Duration::from_millis(ms);
        let (purpose, key) = (Purpose::Deliver, false);
        (gst::ClockTime::from_mseconds(ms), Moment { running, captured, purpose, key })
    }

    #[test]
    fn moments_come_back_by_time_stamp() {
        let mut moments = Moments::default();
        for ms in [0, 120, 40, 80] {
            let (stamp, it) = moment(ms);
            moments.keep(stamp, it);
        }
        let mut take = |ms| moments.take(Some(gst::ClockTime::from_mseconds(ms)));
        assert_eq!(take(0).unwrap().running, Duration::from_millis(0));
        assert_eq!(take(80).unwrap().running, Duration::from_millis(80));
        let made_up = take(100).unwrap();
        assert_eq!(made_up.running, Duration::from_millis(100));
        assert_eq!(made_up.captured.at, Timestamp::from_millis(1_000_100));
        assert_eq!(take(120).unwrap().running, Duration::from_millis(120));
        assert!(moments.waiting.is_empty(), "40 was lost in decoding");
        assert!(Moments::default().take(None).is_none());
    }

    #[test]
    fn bounded() {
        let mut moments = Moments::default();
        for ms in 0..1000 {
            let (stamp, it) = moment(ms);
            moments.keep(stamp, it);
        }
        assert_eq!(moments.waiting.len(), WAITING_MAX);
    }
}
