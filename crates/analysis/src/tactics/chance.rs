//! How likely coincidences are when nothing is behind them.

/// One opportunity for a coincidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Chance {
    /// Probability when the opportunity before was missed (or there was none).
    pub(super) alone: f64,
    /// Probability when the opportunity before was met: the same as `alone` when the two have nothing to do with each
    /// other, more on a common road.
    pub(super) following: f64,
}

/// The probability of at least `k` coincidences: the upper tail of the Poisson-binomial distribution, or of its
/// Markov-chained form where opportunities follow each other.
///
/// By dynamic programming over the number met so far and whether the last was met (for independent opportunities
/// this is the direct convolution, Hong 2013, "On computing the distribution function for the Poisson binomial
/// distribution", section 2). All terms are positive, so that even a tail of 1e-200 keeps its digits. O(n k).
pub(super) fn at_least(k: usize, chances: &[Chance]) -> f64 {
    if k == 0 {
        return 1.0;
    }
    let (mut missed, mut met, mut reached) = (vec![0.0; k], vec![0.0; k], 0.0);
    missed[0] = 1.0;
    for chance in chances {
        let (p, q) = (chance.alone, chance.following);
        let step = |i: usize, missed: &[f64], met: &[f64]| missed[i] * p + met[i] * q;
        reached += step(k - 1, &missed, &met);
        for i in (0..k).rev() {
            let stays = missed[i] * (1.0 - p) + met[i] * (1.0 - q);
            met[i] = if i == 0 { 0.0 } else { step(i - 1, &missed, &met) };
            missed[i] = stays;
        }
    }
    reached.min(1.0)
}

/// The probability that the best of `n` candidates looks at least this good by chance, when each does with
/// probability `p`: the Šidák correction, 1 - (1 - p)^n without its rounding.
pub(super) fn of_any(p: f64, n: usize) -> f64 {
    -f64::exp_m1(n as f64 * f64::ln_1p(-p.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Adds up all 2^n outcomes.
    fn by_enumeration(k: usize, chances: &[Chance]) -> f64 {
        let outcomes = 0_u32..1 << chances.len();
        outcomes
            .filter(|met| met.count_ones() as usize >= k)
            .map(|met| {
                let mut before = false;
                chances.iter().enumerate().fold(1.0, |p, (i, chance)| {
                    let now = met >> i & 1 == 1;
                    let q = if before { chance.following } else { chance.alone };
                    before = now;
                    p * if now { q } else { 1.0 - q }
                })
            })
            .sum()
    }

    proptest! {
        #[test]
        fn equals_the_sum_over_all_outcomes(
            chances in prop::collection::vec((0.0f64..=1.0, 0.0f64..=1.0), 0..11),
            k in 0usize..12,
        ) {
            let chances: Vec<_> = chances.into_iter().map(|(alone, following)| Chance { alone, following }).collect();
            prop_assert!((at_least(k, &chances) - by_enumeration(k, &chances)).abs() < 1e-12);
        }
    }

    #[test]
    fn small_tails_keep_their_digits() {
        let rare = [Chance { alone: 1e-4, following: 1e-4 }; 10];
        assert!((at_least(10, &rare) / 1e-40 - 1.0).abs() < 1e-9);
        assert!((of_any(1e-20, 1_000_000) / 1e-14 - 1.0).abs() < 1e-9);
        assert_eq!(of_any(1.0, 5), 1.0);
    }
}
