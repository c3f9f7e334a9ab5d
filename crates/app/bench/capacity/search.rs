//! The largest load that is borne.

use anyhow::Result;

/// The search begins here: with fewer streams so few vehicles pass that a trial takes long.
const FIRST: usize = 16;

/// The largest N from 1 to `most` for which `holds`, taken as monotonic; 0 when one is too many. Doubles until it fails,
/// then halves the gap: trials are dear, and a load that is far too great is the dearest.
pub(super) fn largest(most: usize, mut holds: impl FnMut(usize) -> Result<bool>) -> Result<usize> {
    let (mut held, mut failed) = (0, most + 1);
    let mut next = FIRST.min(most);
    while next < failed {
        if holds(next)? {
            held = next;
            next = (next * 2).min(most);
            if held == most {
                return Ok(most);
            }
        } else {
            failed = next;
        }
    }
    while failed - held > 1 {
        let middle = held + (failed - held) / 2;
        if holds(middle)? { held = middle } else { failed = middle }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_found_in_few_trials() {
        for most in [1, 2, 3, 15, 16, 17, 64, 100] {
            for limit in 0..=most {
                let mut trials = Vec::new();
                let found = largest(most, |n| {
                    trials.push(n);
                    Ok(n <= limit)
                });
                assert_eq!(found.unwrap(), limit, "of {most}");
                assert!(trials.len() <= 10, "{trials:?}"); // of 100: four to pass 64, six to halve what is left
                assert!(trials.iter().all(|n| (1..=most).contains(n)), "{trials:?}");
                let mut once = trials.clone();
                once.sort_unstable();
                once.dedup();
                assert_eq!(once.len(), trials.len(), "a trial was repeated: {trials:?}");
            }
        }
    }

    #[test]
    fn a_trial_that_fails_to_run_ends_the_search() {
        assert!(largest(8, |_| anyhow::bail!("no server")).is_err());
    }
}
