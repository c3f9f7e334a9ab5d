use std::time::Duration;

/// How long to wait before the next try: doubling from `first` to `cap`.
///
/// The upper half of each wait is random, so that what was lost at once does not come back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// The longest wait after the first failure.
    pub first: Duration,
    /// The longest wait ever.
    pub cap: Duration,
}

impl BackOff {
    /// The wait after `failures` failures in a row (counted from 1). `luck` in 0 to 1 chooses within its upper half.
    pub fn wait(&self, failures: u32, luck: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let longest = self.first.saturating_mul(1 << doublings).min(self.cap);
        longest.mul_f64(0.5 + 0.5 * luck.clamp(0.0, 1.0))
    }
}

/// Luck for the back-off: SplitMix64 (Steele, Lea, Flood 2014). Not for secrets.
#[derive(Debug)]
pub struct Luck(u64);

impl Luck {
    /// The same seed gives the same luck.
    pub fn seeded(text: &str, number: u64) -> Self {
        let hash = text
            .bytes()
            .fold(number, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        Self(hash)
    }

    /// From 0 up to 1.
    pub fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACK_OFF: BackOff =
        BackOff { first: Duration::from_secs(1), cap: Duration::from_secs(60) };

    #[test]
    fn doubles_up_to_the_cap() {
        let waits: Vec<_> = (1..=8).map(|n| BACK_OFF.wait(n, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    proptest! {
        #[test]
        fn stays_within_half_of_the_cap(failures: u32, seed: u64) {
            let luck = Luck::seeded("k1", seed).draw();
            prop_assert!((0.0..1.0).contains(&luck));
            let wait = BACK_OFF.wait(failures, luck);
            prop_assert!(wait >= BACK_OFF.first / 2 && wait <= BACK_OFF.cap);
        }
    }
}
