use crate::score::{HOURS, Score};
use crate::unit::UnitKind;

/// What the sizes of delta units say of a view, and how far they can be believed.
///
/// At constant quality a vehicle makes its units larger at once; at a constant rate the encoder quantises more coarsely
/// instead, which is why sizes are weighed by the quantiser ([`weight`]), and noise is most of what it encodes, so that
/// even so they may say little. Which of the two a camera does is not asked but learnt, for each hour of the day apart:
/// by night the noise is another.
///
/// What is counted is events: from the moment that something was noticed to the moment that the view is calm again. A
/// false alarm raises the threshold, a vehicle that was not announced lowers it. How many vehicles are announced is
/// reckoned from those only that a keyframe showed, because nobody knows how many others went by unheard: those that
/// an alarm found between keyframes would count, and those that it did not find would not. A vehicle that a keyframe
/// shows first is announced when its sizes say so while it is in view, for then it would have been found without the
/// keyframe.
#[derive(Debug)]
pub(crate) struct Sizes {
    delta: Baseline,
    leaf: Baseline,
    /// The deviation of the last few units, in standard deviations, smoothed.
    level: f32,
    /// The highest level since the last keyframe, or since the event before that.
    peak: f32,
    hours: [Option<Trust>; HOURS],
    hour: usize,
    event: Option<Event>,
}

/// What is known of one hour of the day.
#[derive(Debug, Clone, Copy)]
struct Trust {
    threshold: f32,
    /// Of vehicles on keyframes.
    score: Score,
}

/// Something is there.
#[derive(Debug)]
struct Event {
    /// The level passed the threshold.
    announced: bool,
    on_keyframe: bool,
}

/// The logarithm of how much there is to encode in a unit. Six steps of the quantiser halve what is left of it in bytes.
pub(crate) fn weight(bytes: usize, quantiser: Option<i32>) -> f32 {
    (bytes.max(1) as f32).ln() + quantiser.unwrap_or_default() as f32 / 6.0 * std::f32::consts::LN_2
}

/// Mean and spread of weights, forgetting.
#[derive(Debug, Default)]
struct Baseline {
    mean: f32,
    spread: f32,
    seen: u32,
}

const THRESHOLD_FIRST: f32 = 4.0;
const THRESHOLD_MIN: f32 = 2.5;
const THRESHOLD_MAX: f32 = 50.0;
/// Units until a baseline is believed.
const LEARNING: u32 = 50;
/// A baseline's memory, units: twenty seconds at 25 Hz.
const MEMORY: u32 = 500;
/// Spread of the logarithm that every encoder has.
const SPREAD_MIN: f32 = 0.05;
/// The weight of a new unit in the smoothed level: single large units happen, a vehicle stays for a second.
const SMOOTHING: f32 = 0.3;
/// Ten verdicts weigh so much.
const PROOF_MIN: f32 = 8.0;

impl Default for Sizes {
    fn default() -> Self {
        Self {
            delta: Baseline::default(),
            leaf: Baseline::default(),
            level: 0.0,
            peak: 0.0,
            hours: [None; HOURS],
            hour: 0,
            event: None,
        }
    }
}

impl Sizes {
    /// Takes the next unit, captured in this hour of the day. True when it says that something is there and that was
    /// not known; [`Self::begins`] is then to be called.
    pub(crate) fn alarms(&mut self, kind: UnitKind, weight: f32, hour: usize) -> bool {
        if self.event.is_none() {
            self.enter(hour);
        }
        let baseline = match kind {
            UnitKind::Key => {
                if self.event.is_none() {
                    self.peak = 0.0;
                }
                return false;
            }
            UnitKind::Delta => &mut self.delta,
            UnitKind::Leaf => &mut self.leaf,
        };
        // A vehicle is not what is usual.
        let deviation = match self.event {
            None => baseline.take(weight),
            Some(_) => baseline.deviation(weight),
        };
        let Some(deviation) = deviation else { return false };
        self.level += (deviation - self.level) * SMOOTHING;
        self.peak = self.peak.max(self.level);
        let loud = self.level > self.trust().threshold;
        if let Some(event) = &mut self.event {
            event.announced |= loud;
            return false;
        }
        loud
    }

    /// A new hour begins with the threshold of the one before.
    fn enter(&mut self, hour: usize) {
        let hour = hour % HOURS;
        if hour != self.hour {
            let threshold = self.trust().threshold;
            self.hour = hour;
            self.hours[hour].get_or_insert(Trust { threshold, ..Trust::default() });
        }
    }

    fn trust(&self) -> Trust {
        self.hours[self.hour].unwrap_or_default()
    }

    /// Something was noticed: by an alarm, or otherwise.
    pub(crate) fn begins(&mut self, by_alarm: bool) {
        self.event = Some(Event { announced: by_alarm, on_keyframe: false });
    }

    /// A keyframe shows what was noticed.
    pub(crate) fn keyframe_showed(&mut self) {
        if let Some(event) = &mut self.event {
            event.on_keyframe = true;
        }
    }

    /// The view is calm again; pictures have shown that something was there, or that nothing was.
    pub(crate) fn ends(&mut self, real: bool) {
        let Some(event) = self.event.take() else { return };
        let peak = std::mem::take(&mut self.peak);
        self.level = 0.0;
        if self.delta.seen < LEARNING {
            return; // they had no say yet
        }
        let mut trust = self.trust();
        match (real, event.announced) {
            (false, true) => trust.threshold = (trust.threshold * 1.25).min(THRESHOLD_MAX),
            // Only where the sizes did say something.
            (true, false) if peak > trust.threshold / 2.0 => {
                trust.threshold = (trust.threshold * 0.95).max(THRESHOLD_MIN);
            }
            _ => {}
        }
        if real && event.on_keyframe {
            trust.score.note(event.announced);
        }
        self.hours[self.hour] = Some(trust);
    }

    /// The connection broke off: what was there then is not known, and what comes next begins in mid-air.
    pub(crate) fn interrupted(&mut self) {
        (self.event, self.level, self.peak) = (None, 0.0, 0.0);
    }

    /// Whether nine of ten vehicles are announced in this hour, by at least ten that keyframes showed.
    pub(crate) fn are_proven(&self) -> bool {
        self.trust().score.is_proven(PROOF_MIN)
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self { threshold: THRESHOLD_FIRST, score: Score::default() }
    }
}

impl Baseline {
    /// How many standard deviations it lies above the mean; nothing while learning.
    fn deviation(&self, weight: f32) -> Option<f32> {
        let above = (weight - self.mean) / self.spread.sqrt().max(SPREAD_MIN);
        (self.seen >= LEARNING).then_some(above)
    }

    /// The same, and learns from it.
    fn take(&mut self, weight: f32) -> Option<f32> {
        let deviation = self.deviation(weight);
        if self.seen == 0 {
            self.mean = weight;
        }
        self.seen = (self.seen + 1).min(MEMORY);
        let share = 1.0 / self.seen as f32;
        let difference = weight - self.mean;
        // A vehicle is not what is usual.
        let taken = if deviation.is_some() { difference.clamp(-0.5, 0.5) } else { difference };
        self.mean += taken * share;
        self.spread += (taken * taken - self.spread) * share;
        deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes that shake by ±10 %, times a factor.
    fn alarm(sizes: &mut Sizes, units: u32, factor: f32) -> bool {
        (0..units).any(|n| {
            let bytes =
                (5000.0 * factor * (1.0 + 0.1 * ((n * 7919 % 21) as f32 / 10.0 - 1.0))) as usize;
            sizes.alarms(UnitKind::Delta, weight(bytes, None), 8)
        })
    }

    fn taught() -> Sizes {
        let mut sizes = Sizes::default();
        assert!(!alarm(&mut sizes, 1000, 1.0));
        sizes
    }

    #[test]
    fn a_vehicle_is_heard_and_noise_is_not() {
        let mut sizes = taught();
        assert!(!alarm(&mut sizes, 1, 2.0), "a single large unit");
        assert!(!alarm(&mut sizes, 100, 1.0));
        assert!(alarm(&mut sizes, 10, 2.0));
    }

    #[test]
    fn a_coarser_quantiser_weighs_as_much_as_more_bytes() {
        assert!((weight(8000, Some(30)) - weight(4000, Some(36))).abs() < 1e-4);
    }

    #[test]
    fn false_alarms_wear_off() {
        let mut sizes = taught();
        let mut alarms = 0;
        for _ in 0..40 {
            if alarm(&mut sizes, 10, 1.6) {
                alarms += 1;
                sizes.begins(true);
                sizes.ends(false);
            }
            alarm(&mut sizes, 100, 1.0);
        }
        assert!((1..20).contains(&alarms), "{alarms}");
        assert!(!sizes.are_proven());
    }

    /// A vehicle that a keyframe shows first, whose units are larger by a factor.
    fn shown(sizes: &mut Sizes, factor: f32) {
        sizes.begins(false);
        sizes.keyframe_showed();
        assert!(!alarm(sizes, 20, factor), "it is known");
        sizes.ends(true);
        alarm(sizes, 50, 1.0);
    }

    #[test]
    fn trust_is_earned_by_vehicles_on_keyframes_only() {
        // What an alarm found between keyframes proves nothing: others may have gone by unheard.
        let mut sizes = taught();
        for _ in 0..50 {
            sizes.begins(true);
            sizes.ends(true);
        }
        assert!(!sizes.are_proven());
        // What a keyframe shows and the sizes say as well, does; even if the keyframe came first.
        (0..12).for_each(|_| shown(&mut sizes, 2.0));
        assert!(sizes.are_proven());
        for _ in 0..12 {
            sizes.begins(true);
            sizes.keyframe_showed();
            sizes.ends(true);
        }
        assert!(sizes.are_proven());
        // Alarms between keyframes do not make up for vehicles that keyframes show and no alarm announced.
        for _ in 0..4 {
            shown(&mut sizes, 1.0);
            sizes.begins(true);
            sizes.ends(true);
        }
        assert!(!sizes.are_proven());
    }

    #[test]
    fn before_the_sizes_are_known_nothing_counts() {
        let mut sizes = Sizes::default();
        for _ in 0..20 {
            sizes.begins(false);
            sizes.keyframe_showed();
            sizes.ends(true);
        }
        assert_eq!(sizes.trust().score, Score::default());
    }

    #[test]
    fn each_hour_is_proven_by_itself() {
        let mut sizes = taught();
        (0..12).for_each(|_| shown(&mut sizes, 2.0));
        assert!(sizes.are_proven());
        sizes.alarms(UnitKind::Delta, weight(5000, None), 9);
        assert!(!sizes.are_proven());
        sizes.alarms(UnitKind::Delta, weight(5000, None), 32);
        assert!(sizes.are_proven(), "the next day");
    }
}
