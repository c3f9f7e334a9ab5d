use std::collections::VecDeque;
use std::time::Duration;

use guiji_domain::{CaptureTime, ClockSource, Timestamp};

/// Error of a capture time by RTCP when camera and we agree: cameras stamp a picture when it is packed, not when it
/// is exposed, and hold NTP time to some tens of milliseconds.
const RTCP_ERROR: Duration = Duration::from_millis(50);
/// Picture to arrival, when all is well: exposure, encoding, network. A camera whose reports say more or less than
/// this is off by the rest, or we are.
const TRAVEL_MAX: Duration = Duration::from_millis(500);
/// Beyond this a difference is no drift but a break in the time stamps, or a first estimate that was wrong (what was
/// queued before the first report): a wrong time of a second is worse than a break in the tracks, so follow at once.
const JUMP: Duration = Duration::from_secs(1);
/// The offset moves at most by this share of the stream's progress, so that capture times keep rising, pictures out
/// of decoding order (up to 7 places) included.
const SLEW_SHARE: i64 = 8;
/// Window of the minimum-delay filter: this many buckets of [`BUCKET`].
const BUCKETS: usize = 12;
const BUCKET: Duration = Duration::from_secs(5);

/// Gives each unit of one connection its capture time.
pub(crate) enum CaptureClock {
    /// A recording: start plus presentation time.
    Fixed {
        /// The capture time of presentation time zero.
        start: Timestamp,
        /// How far it may be off.
        uncertainty: Duration,
        /// What it rests on.
        source: ClockSource,
    },
    /// A live stream.
    Live(LiveClock),
}

impl CaptureClock {
    /// `running`: presentation time since the connection began. `reference`: the camera's own time of this unit.
    pub(crate) fn observe(
        &mut self,
        arrival: Timestamp,
        running: Duration,
        reference: Option<Timestamp>,
    ) -> CaptureTime {
        match self {
            Self::Fixed { start, uncertainty, source } => {
                CaptureTime { at: start.plus(running), uncertainty: *uncertainty, source: *source }
            }
            Self::Live(clock) => clock.observe(arrival, running, reference),
        }
    }

    /// How far the camera's own clock is from ours (positive: behind), if it was refused for that.
    pub(crate) fn refused(&self) -> Option<i64> {
        match self {
            Self::Fixed { .. } => None,
            Self::Live(clock) => clock.refused,
        }
    }
}

/// Capture times of a live stream: presentation time plus an offset that follows the better of two sources.
///
/// *Arrival.* The offset is the least `arrival - presentation` of the last minute: the unit that travelled fastest.
/// Queueing only ever adds delay, so the least is the best estimate, and a sliding window follows the drift between
/// the camera's sampling clock and ours (100 ppm over a minute are 6 ms) instead of summing it up. A group of
/// pictures sent in a burst at the beginning of a connection corrects itself the same way.
///
/// *RTCP.* The offset is `report - presentation`, by the camera's sender reports. Compared with arrival it must lie
/// 0 to 500 ms earlier, give or take a report's own error; beyond that somebody is off, by as much as the two may be
/// apart: that goes into the uncertainty, or refuses the report when it is too much.
///
/// The offset in use moves towards the chosen one slowly (see [`SLEW_SHARE`]), what is missing still goes into the
/// uncertainty.
pub(crate) struct LiveClock {
    arrival_error: Duration,
    disagreement_max: Duration,
    delays: LeastDelay,
    offset: Option<i64>,
    furthest: i64,
    refused: Option<i64>,
}

impl LiveClock {
    /// `arrival_error`: how far picture and arrival may be apart.
    pub(crate) fn new(arrival_error: Duration, disagreement_max: Duration) -> Self {
        Self {
            arrival_error,
            disagreement_max,
            delays: LeastDelay::default(),
            offset: None,
            furthest: i64::MIN,
            refused: None,
        }
    }

    fn observe(
        &mut self,
        arrival: Timestamp,
        running: Duration,
        reference: Option<Timestamp>,
    ) -> CaptureTime {
        let running = nanos(running);
        let least = self.delays.least(running, arrival.as_nanos().saturating_sub(running));
        let by_arrival = (least, self.arrival_error, ClockSource::Arrival);
        let (target, error, source) = match reference {
            None => by_arrival,
            Some(reference) => {
                let target = reference.as_nanos().saturating_sub(running);
                let travel = least.saturating_sub(target);
                let disagreement =
                    travel.saturating_neg().max(travel.saturating_sub(nanos(TRAVEL_MAX))).max(0);
                if disagreement > nanos(self.disagreement_max) {
                    self.refused = Some(travel);
                    by_arrival
                } else {
                    self.refused = None;
                    let disagreement = Duration::from_nanos(disagreement as u64);
                    let error = if disagreement <= RTCP_ERROR {
                        RTCP_ERROR // no more than reports are off by in any case
                    } else {
                        // Off by the disagreement if the picture travelled as long as it may, by all if not at all.
                        RTCP_ERROR + TRAVEL_MAX + disagreement
                    };
                    (target, error, ClockSource::Rtcp)
                }
            }
        };
        let offset = self.follow(running, target);
        CaptureTime {
            at: Timestamp::from_nanos(running.saturating_add(offset)),
            uncertainty: error.saturating_add(Duration::from_nanos(target.abs_diff(offset))),
            source,
        }
    }

    fn follow(&mut self, running: i64, target: i64) -> i64 {
        let offset = match self.offset {
            Some(offset) if offset.abs_diff(target) <= JUMP.as_nanos() as u64 => {
                let step = running.saturating_sub(self.furthest).max(0) / SLEW_SHARE;
                offset.saturating_add((target - offset).clamp(-step, step))
            }
            _ => {
                self.furthest = running;
                target
            }
        };
        self.furthest = self.furthest.max(running);
        self.offset = Some(offset);
        offset
    }
}

/// The least delay within a sliding window, kept by bucket. Bounded.
#[derive(Default)]
struct LeastDelay(VecDeque<(i64, i64)>);

impl LeastDelay {
    fn least(&mut self, running: i64, delay: i64) -> i64 {
        let bucket = running / nanos(BUCKET);
        match self.0.back_mut() {
            // Pictures out of order may fall into the bucket before: they count for the newest.
            Some((last, least)) if bucket == *last || bucket == *last - 1 => {
                *least = delay.min(*least)
            }
            Some((last, _)) if bucket < *last => {
                self.0.clear(); // the time stamps began anew
                self.0.push_back((bucket, delay));
            }
            _ => self.0.push_back((bucket, delay)),
        }
        while self.0.front().is_some_and(|(first, _)| bucket - first >= BUCKETS as i64) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, least)| *least).min().unwrap_or(delay)
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);
    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn clock() -> CaptureClock {
        CaptureClock::Live(LiveClock::new(MS(500), Duration::from_secs(10)))
    }

    /// Picture `n` of a 25 fps stream.
    fn pts(n: u64) -> Duration {
        MS(40 * n)
    }

    #[test]
    fn drift_does_not_add_up() {
        // A day in which the camera's clock runs 200 ppm slow; network delay 30 to 90 ms.
        let mut clock = clock();
        for n in (0..25 * 86_400).step_by(5) {
            let true_time = START.plus(pts(n)).plus(pts(n) / 5000);
            let arrival = true_time.plus(MS(30 + n * 7919 % 61));
            let captured = clock.observe(arrival, pts(n), None);
            if n > 25 * 60 {
                let off = captured.at.abs_diff(true_time);
                assert!(off < MS(120), "{off:?} after {:?}", pts(n));
                assert!(off <= captured.uncertainty);
            }
        }
    }

    #[test]
    fn a_burst_at_the_beginning_is_found_out() {
        // Two seconds of stored pictures come at once, then live ones.
        let mut clock = clock();
        let mut last = CaptureTime { at: START, uncertainty: MS(0), source: ClockSource::Arrival };
        for n in 0..1000 {
            let arrival = START.plus(pts(n).max(MS(2000))).plus(MS(50));
            last = clock.observe(arrival, pts(n), None);
            let off = last.at.abs_diff(START.plus(pts(n)));
            assert!(off <= last.uncertainty + MS(2050), "{n}: {off:?}");
        }
        assert_eq!(last.at, START.plus(pts(999)).plus(MS(50)));
    }

    #[test]
    fn rtcp_wins_and_disagreement_shows() {
        for (camera_is_behind_ms, uncertainty_ms) in
            [(100, 50), (0, 50), (-4, 50), (540, 50), (700, 750), (-60, 610), (-3000, 3550)]
        {
            let mut clock = clock();
            let reference = START.minus(MS(2000)).plus(MS((2000 - camera_is_behind_ms) as u64));
            let captured = clock.observe(START, pts(0), Some(reference));
            assert_eq!(captured.source, ClockSource::Rtcp);
            assert_eq!(captured.at, reference);
            assert_eq!(captured.uncertainty, MS(uncertainty_ms));
        }
    }

    #[test]
    fn a_senseless_rtcp_clock_is_refused() {
        let years_70 = Duration::from_secs(2_208_988_800);
        for reference in [
            Timestamp::EPOCH,
            Timestamp::EPOCH.minus(years_70),
            START.plus(Duration::from_secs(8 * 3600)),
            Timestamp::MAX,
            Timestamp::MIN,
        ] {
            let mut clock = clock();
            let captured = clock.observe(START, pts(0), Some(reference));
            assert_eq!(
                (captured.source, captured.at),
                (ClockSource::Arrival, START),
                "{reference}"
            );
            assert!(clock.refused().is_some());
            clock.observe(START.plus(pts(1)), pts(1), Some(START.plus(pts(1))));
            assert_eq!(clock.refused(), None);
        }
    }

    #[test]
    fn the_first_report_moves_the_offset_gently() {
        let mut clock = clock();
        clock.observe(START, pts(0), None);
        let mut before = START;
        for n in 1..200 {
            let now = START.plus(pts(n));
            let captured = clock.observe(now, pts(n), Some(now.minus(MS(400))));
            assert!(captured.at > before);
            assert!(captured.at.abs_diff(now.minus(MS(400))) <= captured.uncertainty);
            before = captured.at;
        }
        assert_eq!(before, START.plus(pts(199)).minus(MS(400)));
    }

    #[test]
    fn a_first_estimate_that_was_far_off_is_given_up_at_once() {
        // Pictures queued for eight seconds before the first one was looked at; then the report comes.
        let mut clock = clock();
        clock.observe(START.plus(MS(8000)), pts(0), None);
        let captured = clock.observe(START.plus(MS(8040)), pts(1), Some(START.plus(pts(1))));
        assert_eq!((captured.at, captured.source), (START.plus(pts(1)), ClockSource::Rtcp));
    }

    #[test]
    fn a_break_in_the_time_stamps_is_followed() {
        let mut clock = clock();
        for n in 0..100 {
            clock.observe(START.plus(pts(n)), Duration::from_secs(50_000) + pts(n), None);
        }
        let captured = clock.observe(START.plus(pts(100)), pts(0), None);
        assert_eq!(captured.at, START.plus(pts(100)));
    }

    #[test]
    fn recordings_count_from_their_start() {
        let mut clock = CaptureClock::Fixed {
            start: START,
            uncertainty: MS(1000),
            source: ClockSource::Stated,
        };
        let captured = clock.observe(Timestamp::EPOCH, pts(3), Some(Timestamp::MAX));
        assert_eq!(captured.at, START.plus(pts(3)));
    }

    proptest! {
        /// In presentation order, capture times rise whatever a sound network does, B pictures included.
        #[test]
        fn capture_times_rise(
            delays in prop::collection::vec(0u64..500, 60),
            reports in prop::collection::vec(prop::option::of(0u64..400), 60),
        ) {
            let mut clock = clock();
            let mut out = Vec::new();
            for (i, (delay, report)) in delays.iter().zip(&reports).enumerate() {
                // Decoding order I P B B P B B …
                let n = match i { 0 => 0, i if i % 3 == 1 => i + 2, i => i - 1 } as u64;
                let arrival = START.plus(pts(i as u64 + 3)).plus(MS(*delay));
                let reference = report.map(|early| arrival.minus(MS(early)));
                out.push((n, clock.observe(arrival, pts(n), reference).at));
            }
            out.sort_unstable();
            prop_assert!(out.windows(2).all(|it| it[0].1 < it[1].1), "{out:?}");
        }

        #[test]
        fn never_panics(samples in prop::collection::vec(any::<(i64, u64, Option<i64>)>(), 0..50)) {
            let mut clock = clock();
            for (arrival, running, reference) in samples {
                clock.observe(
                    Timestamp::from_nanos(arrival),
                    Duration::from_nanos(running),
                    reference.map(Timestamp::from_nanos),
                );
            }
        }
    }
}
