use crate::unit::UnitKind;

/// What the sizes of delta units say of a view, and how far they can be believed.
///
/// At constant quality a vehicle makes its units larger at once; at a constant rate the encoder takes the bits from
/// somewhere else, and noise is most of what it encodes, so that sizes say little. Which of the two a camera does is
/// not asked but learnt: every alarm is afterwards found right or wrong by decoded pictures, and every vehicle that a
/// keyframe shows was announced by an alarm or missed. A wrong alarm raises the threshold, a missed one lowers it.
#[derive(Debug)]
pub(crate) struct Sizes {
    delta: Baseline,
    leaf: Baseline,
    /// The deviation of the last few units, in standard deviations, smoothed.
    level: f32,
    /// The highest level since the last keyframe.
    peak: f32,
    threshold: f32,
    right: f32,
    wrong: f32,
    missed: f32,
}

/// Mean and spread of the logarithm of sizes, forgetting.
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
/// What older verdicts weigh after a new one: a memory of some twenty.
const FORGETTING: f32 = 0.95;

impl Default for Sizes {
    fn default() -> Self {
        Self {
            delta: Baseline::default(),
            leaf: Baseline::default(),
            level: 0.0,
            peak: 0.0,
            threshold: THRESHOLD_FIRST,
            right: 0.0,
            wrong: 0.0,
            missed: 0.0,
        }
    }
}

impl Sizes {
    /// Takes the next unit of a view that is believed empty; true when it says that something is there.
    pub(crate) fn alarms(&mut self, kind: UnitKind, bytes: usize) -> bool {
        let baseline = match kind {
            UnitKind::Key => {
                self.peak = 0.0;
                return false;
            }
            UnitKind::Delta => &mut self.delta,
            UnitKind::Leaf => &mut self.leaf,
        };
        let Some(deviation) = baseline.take(bytes) else { return false };
        self.level += (deviation - self.level) * SMOOTHING;
        self.peak = self.peak.max(self.level);
        self.level > self.threshold
    }

    /// An alarm was followed by pictures, which showed a change or not.
    pub(crate) fn judged(&mut self, right: bool) {
        self.forget();
        self.level = 0.0;
        if right {
            self.right += 1.0;
        } else {
            self.wrong += 1.0;
            self.threshold = (self.threshold * 1.25).min(THRESHOLD_MAX);
        }
    }

    /// A keyframe showed a change that no alarm had announced.
    pub(crate) fn missed(&mut self) {
        self.forget();
        self.missed += 1.0;
        // Only where the sizes did say something.
        if self.peak > self.threshold / 2.0 {
            self.threshold = (self.threshold * 0.95).max(THRESHOLD_MIN);
        }
    }

    fn forget(&mut self) {
        for count in [&mut self.right, &mut self.wrong, &mut self.missed] {
            *count *= FORGETTING;
        }
    }

    /// Whether nine of ten vehicles are announced, by at least ten that were.
    pub(crate) fn are_proven(&self) -> bool {
        let vehicles = self.right + self.missed;
        vehicles >= 8.0 && self.right / vehicles >= 0.9
    }
}

impl Baseline {
    /// How many standard deviations the size lies above the mean; nothing while learning.
    fn take(&mut self, bytes: usize) -> Option<f32> {
        let size = (bytes.max(1) as f32).ln();
        let learnt = self.seen >= LEARNING;
        if self.seen == 0 {
            self.mean = size;
        }
        self.seen = (self.seen + 1).min(MEMORY);
        let share = 1.0 / self.seen as f32;
        let difference = size - self.mean;
        let deviation = difference / self.spread.sqrt().max(SPREAD_MIN);
        // A vehicle is not what is usual.
        let taken = if learnt { difference.clamp(-0.5, 0.5) } else { difference };
        self.mean += taken * share;
        self.spread += (taken * taken - self.spread) * share;
        learnt.then_some(deviation)
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
            sizes.alarms(UnitKind::Delta, bytes)
        })
    }

    #[test]
    fn a_vehicle_is_heard_and_noise_is_not() {
        let mut sizes = Sizes::default();
        assert!(!alarm(&mut sizes, 1000, 1.0));
        assert!(!alarm(&mut sizes, 1, 2.0), "a single large unit");
        assert!(!alarm(&mut sizes, 100, 1.0));
        assert!(alarm(&mut sizes, 10, 2.0));
    }

    #[test]
    fn false_alarms_wear_off_and_reports_are_earned() {
        let mut sizes = Sizes::default();
        alarm(&mut sizes, 500, 1.0);
        let mut alarms = 0;
        for _ in 0..40 {
            if alarm(&mut sizes, 10, 1.6) {
                alarms += 1;
                sizes.judged(false);
            }
            alarm(&mut sizes, 100, 1.0);
        }
        assert!((1..20).contains(&alarms), "{alarms}");
        assert!(!sizes.are_proven());
        let mut sizes = Sizes::default();
        (0..20).for_each(|_| sizes.judged(true));
        assert!(sizes.are_proven());
        (0..3).for_each(|_| sizes.missed());
        assert!(!sizes.are_proven());
    }
}
