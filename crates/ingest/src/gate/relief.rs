//! How a gate is relieved of its watch by that of another stream of the same camera: the main stream's by the
//! substream's while nothing is there, and the reverse while something is.

use std::time::Duration;

use guiji_domain::{CaptureTime, DecodePolicy, Timestamp};

use super::Gate;
use super::motion::Awake;
use crate::unit::{Unit, UnitKind};

/// A relieved gate that sleeps looks at a keyframe so often, for nothing but to know how the view is without vehicles when it
/// is woken, and that the stream can still be decoded.
const BACKGROUND_EVERY: Duration = Duration::from_secs(60);
/// The clocks of two streams may be taken to differ by no more, whatever they say of themselves: what is delivered must
/// not lie further back than analysis allows time to go.
const MARGIN_MAX: Duration = Duration::from_millis(900);

impl Gate {
    /// Whether somebody else watches the view. While that is so and it sleeps, it decodes nothing but a keyframe a minute,
    /// delivers nothing and wakes by nothing of its own. When that ends, it looks at what came since `seen`, up to when
    /// the view was watched; nothing older is delivered.
    pub(crate) fn relieve(&mut self, relieved: bool, seen: Option<Timestamp>) {
        if self.policy != DecodePolicy::Motion || self.motion.relieved == relieved {
            return;
        }
        self.motion.relieved = relieved;
        self.dense = None;
        if self.motion.awake.is_some() {
            return;
        }
        self.motion.owed = false;
        self.motion.glimpses.end();
        (self.drain_due, self.continuous) = (true, false);
        if !relieved {
            self.motion.sizes.interrupted();
            let from = seen.map_or(self.ring.end(), |seen| self.first_after(seen));
            self.motion.delivered = self.motion.delivered.max(from);
            self.at = self.ring.key_before(from + 1).unwrap_or(self.ring.first());
        }
    }

    /// Relieved, and asleep at once.
    pub(crate) fn rest(&mut self) {
        if self.policy == DecodePolicy::Motion && !self.motion.relieved {
            self.sleep(false);
            self.relieve(true, None);
        }
    }

    /// Whether it decodes everything, having seen or heard of a reason.
    pub(crate) fn is_awake(&self) -> bool {
        self.motion.awake.is_some()
    }

    /// Up to when it saw everything, before it fell asleep.
    pub(crate) fn saw(&self) -> Option<Timestamp> {
        self.motion.saw
    }

    /// Whether anything came.
    pub(crate) fn receives(&self) -> bool {
        self.ring.end() > 0
    }

    /// Another stream shows a vehicle in a picture captured then, and had shown none until `clear`: what was captured from
    /// there on is delivered, decoded from the keyframe before.
    pub(crate) fn wake_for(&mut self, vehicle: CaptureTime, clear: Timestamp) {
        let running = self.running_at(vehicle.at);
        if let Some(awake) = &mut self.motion.awake {
            awake.changed = awake.changed.max(running);
            awake.vehicle = awake.vehicle.max(running);
            return;
        }
        self.tally.woken_by_substream += 1;
        self.motion.is_told_what_became();
        self.motion.awake = Some(Awake { confirmed: true, ..Awake::at(running) });
        let ours = self.newest().map_or(Duration::ZERO, |unit| unit.captured.uncertainty);
        let margin = vehicle.uncertainty.saturating_add(ours).min(MARGIN_MAX);
        let from = self.first_after(clear.minus(margin));
        self.motion.delivered = self.motion.delivered.max(from);
        self.go_back(self.ring.key_before(from + 1).unwrap_or(self.ring.first()));
    }

    /// Whether a relieved gate that sleeps looks at the unit.
    pub(super) fn keeps_background_by(&self, unit: &Unit) -> bool {
        let due = |last| unit.running >= last + BACKGROUND_EVERY;
        unit.kind == UnitKind::Key && self.motion.background.is_none_or(due)
    }

    /// The first unit that was captured after this.
    fn first_after(&self, at: Timestamp) -> u64 {
        let later = |number: &u64| self.ring.get(*number).is_some_and(|it| it.captured.at > at);
        (self.ring.first()..self.ring.end()).find(later).unwrap_or(self.ring.end())
    }

    /// The time in the stream of what was captured then.
    fn running_at(&self, at: Timestamp) -> Duration {
        let Some(newest) = self.newest() else { return Duration::ZERO };
        let captured = newest.captured.at;
        if at >= captured {
            newest.running + at.since(captured)
        } else {
            newest.running.saturating_sub(captured.since(at))
        }
    }

    fn newest(&self) -> Option<&Unit> {
        self.ring.get(self.ring.end().checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Driver, dense, numbered};
    use super::*;
    use crate::ring::tests::unit;

    /// When this unit was captured.
    fn captured(number: u64) -> CaptureTime {
        unit(number, UnitKind::Delta, 1).captured
    }

    /// Relieved since unit 60; keyframes every 50.
    fn relieved() -> Driver {
        let mut driver = numbered();
        driver.stream(60, 50, |_| false);
        driver.gate.relieve(true, None);
        driver.decode(|_| false);
        driver.seen.clear();
        driver.glimpses.clear();
        driver
    }

    #[test]
    fn relieved_it_decodes_a_keyframe_a_minute_and_delivers_nothing() {
        let mut driver = relieved();
        // Whatever is to be seen.
        driver.stream(3100, 50, |it| it > 200);
        let decoded: Vec<u64> = driver.seen.iter().map(|it| it.number).collect();
        assert_eq!(decoded, [100, 1600, 3100]);
        assert!(driver.seen.iter().all(|it| it.key && !it.delivered) && driver.glimpses.is_empty());
        assert_eq!(driver.gate.take_tally(), Default::default());
    }

    #[test]
    fn woken_it_delivers_from_the_moment_that_was_clear_and_sleeps_when_it_is_calm() {
        let mut driver = relieved();
        driver.stream(200, 50, |_| false);
        driver.seen.clear();
        // The vehicle came at 225, was found at 250, and told of at 259.
        driver.gate.wake_for(captured(250), captured(224).at);
        assert!(driver.gate.is_awake());
        driver.decode(|it| (225..300).contains(&it));
        driver.stream(140, 50, |it| (225..300).contains(&it));
        let delivered = driver.delivered();
        assert_eq!(delivered, (225..=312).collect::<Vec<_>>());
        assert_eq!(driver.seen.first().map(|it| it.number), Some(200), "it needs its keyframe");
        assert!(driver.has_references() && !driver.gate.is_awake() && driver.glimpses.is_empty());
        assert_eq!(driver.gate.saw(), Some(captured(312).at), "not what it passed over since");
        assert_eq!(driver.gate.take_tally().woken_by_substream, 1);
    }

    #[test]
    fn clocks_that_may_differ_are_given_a_margin() {
        let mut driver = relieved();
        driver.stream(200, 50, |_| false);
        driver.seen.clear();
        let vehicle = CaptureTime { uncertainty: Duration::from_millis(400), ..captured(250) };
        driver.gate.wake_for(vehicle, captured(224).at);
        driver.decode(|_| true);
        assert_eq!(driver.delivered().first(), Some(&215));
    }

    #[test]
    fn what_it_is_not_relieved_of_any_more_it_looks_at_from_when_nobody_watched() {
        let mut driver = relieved();
        driver.stream(200, 50, |_| false);
        driver.seen.clear();
        // Somebody saw the view up to 195; a vehicle came and went since.
        driver.gate.relieve(false, Some(captured(195).at));
        driver.decode(|it| (197..230).contains(&it));
        let delivered = driver.delivered();
        assert!((197..230).all(|it| delivered.contains(&it)), "{delivered:?}");
        assert!(delivered.iter().all(|it| *it > 195), "{delivered:?}");
        assert!(driver.has_references());
    }

    #[test]
    fn what_another_stream_watches_is_not_decoded_densely() {
        let mut driver = dense();
        driver.stream(100, 250, |_| false);
        assert!(driver.gate.keyframes().dense);
        driver.gate.relieve(true, None);
        driver.decode(|_| false);
        driver.seen.clear();
        driver.stream(100, 250, |_| false);
        assert!(!driver.gate.keyframes().dense && driver.seen.is_empty());
        driver.gate.relieve(false, Some(captured(195).at));
        driver.stream(10, 250, |_| false);
        assert!(driver.gate.keyframes().dense && driver.has_references());
        assert_eq!(driver.delivered(), (196..210).collect::<Vec<_>>());
    }

    #[test]
    fn at_rest_it_sleeps_at_once_and_goes_on_from_what_the_other_saw() {
        let mut driver = numbered();
        driver.stream(120, 50, |it| it >= 100);
        assert!(driver.gate.is_awake());
        driver.gate.rest();
        assert!(!driver.gate.is_awake());
        driver.decode(|_| true);
        driver.seen.clear();
        driver.stream(200, 50, |_| true);
        assert!(driver.delivered().is_empty());
        driver.gate.relieve(false, Some(captured(310).at));
        driver.stream(80, 50, |it| it >= 330);
        let delivered = driver.delivered();
        assert!((330..400).all(|it| delivered.contains(&it)), "{delivered:?}");
    }
}
