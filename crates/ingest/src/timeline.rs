use std::time::Duration;

/// A step back further than this, of pictures that are sent in decoding order, is a break.
const BACK_MAX: i64 = 1_000_000_000;
/// So is a step ahead further than this: a camera that paused so long was given up as silent.
const AHEAD_MAX: i64 = 10_000_000_000;
/// What a break is bridged with.
const BRIDGE: i64 = 40_000_000;
/// A sender report older than this, in stream time, says nothing any more: they come every few seconds.
const REPORT_AGE_MAX: i64 = 600_000_000_000;

/// The time stamps of one connection's units: from RTP ticks (unwrapped) to presentation times that have no breaks,
/// and to the camera's own clock by its RTCP sender reports (RFC 3550, section 6.4.1).
pub(crate) struct Timeline {
    clock_rate: u32,
    /// Nanoseconds of the ticks of the last unit.
    last: Option<i64>,
    /// To be added to the nanoseconds of the ticks.
    shift: i64,
    furthest: i64,
    report: Option<Report>,
}

#[derive(Clone, Copy)]
struct Report {
    /// Nanoseconds since 1900.
    ntp: i128,
    /// Nanoseconds of the ticks at that moment.
    ticks: i64,
}

/// When a unit belongs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Presentation time since the connection began.
    pub(crate) running: Duration,
    /// The camera's own time, nanoseconds since 1900, if it reports one.
    pub(crate) ntp: Option<u64>,
    /// The time stamps began anew here.
    pub(crate) broken: bool,
}

impl Timeline {
    pub(crate) fn new(clock_rate: u32) -> Self {
        Self { clock_rate: clock_rate.max(1), last: None, shift: 0, furthest: 0, report: None }
    }

    /// A sender report: NTP time (32.32 fixed point seconds since 1900) and the ticks that belong to it.
    pub(crate) fn report(&mut self, ntp: u64, ticks: i64) {
        let nanos = (i128::from(ntp) * 1_000_000_000) >> 32;
        self.report = Some(Report { ntp: nanos, ticks: self.nanos(ticks) });
    }

    /// Places a unit with these ticks.
    pub(crate) fn place(&mut self, ticks: i64) -> Place {
        let now = self.nanos(ticks);
        let step = now.saturating_sub(self.last.unwrap_or(now));
        let broken = !(-BACK_MAX..=AHEAD_MAX).contains(&step);
        if broken {
            self.shift = (self.furthest + BRIDGE).saturating_sub(now);
            self.report = None; // of the time before
        } else if self.last.is_none() {
            self.shift = now.saturating_neg();
        }
        self.last = Some(now);
        let running = now.saturating_add(self.shift).max(0);
        self.furthest = self.furthest.max(running);
        Place { running: Duration::from_nanos(running as u64), ntp: self.ntp_at(now), broken }
    }

    fn ntp_at(&self, now: i64) -> Option<u64> {
        let report = self.report?;
        let since = now.saturating_sub(report.ticks);
        if since.saturating_abs() > REPORT_AGE_MAX {
            return None;
        }
        u64::try_from(report.ntp + i128::from(since)).ok()
    }

    fn nanos(&self, ticks: i64) -> i64 {
        let nanos = i128::from(ticks) * 1_000_000_000 / i128::from(self.clock_rate);
        // Far from both ends, so that sums of two of them do not overflow.
        nanos.clamp(i128::from(i64::MIN / 4), i128::from(i64::MAX / 4)) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 90_000;

    fn running(timeline: &mut Timeline, ticks: i64) -> (u64, bool) {
        let place = timeline.place(ticks);
        (place.running.as_millis() as u64, place.broken)
    }

    #[test]
    fn pictures_out_of_order_are_no_break_and_jumps_are_bridged() {
        let mut timeline = Timeline::new(90_000);
        let at = 5 * SECOND;
        assert_eq!(running(&mut timeline, at), (0, false));
        assert_eq!(running(&mut timeline, at + 10_800), (120, false));
        assert_eq!(running(&mut timeline, at + 3_600), (40, false));
        assert_eq!(running(&mut timeline, at + 7_200), (80, false));
        assert_eq!(running(&mut timeline, at + 3_600 * SECOND), (160, true));
        assert_eq!(running(&mut timeline, at + 3_600 * SECOND + 3_600), (200, false));
        assert_eq!(running(&mut timeline, 0), (240, true));
    }

    #[test]
    fn the_cameras_clock_follows_its_reports_until_a_break() {
        let mut timeline = Timeline::new(90_000);
        assert_eq!(timeline.place(0).ntp, None);
        timeline.report((100 << 32) + (1 << 31), 2 * SECOND);
        assert_eq!(timeline.place(3 * SECOND).ntp, Some(101_500_000_000));
        assert_eq!(timeline.place(2 * SECOND + SECOND / 2).ntp, Some(101_000_000_000));
        assert_eq!(timeline.place(500 * SECOND).ntp, None);
        timeline.report(0, 500 * SECOND);
        assert_eq!(timeline.place(501 * SECOND).ntp, Some(1_000_000_000));
    }

    proptest! {
        /// Whatever the ticks: no panic, and no step of the running time is longer than a break.
        #[test]
        fn steps_are_bounded(rate in any::<u32>(), ticks in prop::collection::vec(any::<(i64, Option<u64>)>(), 1..50)) {
            let mut timeline = Timeline::new(rate);
            let mut before = 0i128;
            for (ticks, ntp) in ticks {
                if let Some(ntp) = ntp {
                    timeline.report(ntp, ticks);
                }
                let now = timeline.place(ticks).running.as_nanos() as i128;
                prop_assert!(now - before <= i128::from(AHEAD_MAX + BACK_MAX), "{before} {now}");
                before = now;
            }
        }
    }
}
