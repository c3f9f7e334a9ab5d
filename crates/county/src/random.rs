//! Seeded random numbers: every part of the world has its own generator, so that parts do not disturb each other and
//! can be made in any order.

use rand::{RngExt as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Documented to give the same numbers in every version, which `rand`'s own generators are not.
pub(crate) type Random = Xoshiro256PlusPlus;

/// What a generator is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Roads = 1,
    Cameras,
    Vehicles,
    Planted,
    Day,
    Trip,
    Outage,
    Sighting,
}

/// The generator of the `n`-th thing of a part.
pub(crate) fn random(seed: u64, part: Part, n: u64) -> Random {
    Random::seed_from_u64(mixed(mixed(mixed(seed) ^ part as u64) ^ n))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every bit in changes every bit out.
pub(crate) fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Choices in proportion to weights.
#[derive(Debug, Clone)]
pub(crate) struct Weighted(Vec<f64>);

impl Weighted {
    /// At least one weight is above 0.
    pub(crate) fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let sums = weights.into_iter().scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self(sums.collect())
    }

    /// An index.
    pub(crate) fn pick(&self, random: &mut Random) -> usize {
        let total = self.0.last().copied().unwrap_or(0.0);
        let at = random.random::<f64>() * total;
        self.0.partition_point(|sum| *sum <= at).min(self.0.len().saturating_sub(1))
    }
}
