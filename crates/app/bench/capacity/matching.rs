//! Which sighting belongs to which passage of the truth, and which passages take place while a clip plays in a loop.

use super::clips::Passage;

/// A sighting in the terms of the truth; times in milliseconds on the same line as the passages'.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) from_ms: f64,
    pub(super) to_ms: f64,
    pub(super) plate: Option<String>,
}

/// What became of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Missed,
    /// Seen, the plate wrong or not read.
    Found,
    /// Seen, every character right.
    Exact,
}

/// How far a sighting may lie outside the time in view: half a second for the clocks.
const SLACK_MS: f64 = 500.0;

/// Gives each sighting to at most one passage and the reverse: right plates first, then the longest common time.
pub(super) fn outcomes(passages: &[Passage], seen: &[Seen]) -> Vec<Outcome> {
    let mut pairs = Vec::new();
    for (p, passage) in passages.iter().enumerate() {
        for (s, sighting) in seen.iter().enumerate() {
            let common = sighting.to_ms.min(passage.last_seen_ms)
                - sighting.from_ms.max(passage.first_seen_ms);
            if common >= -SLACK_MS {
                pairs.push((sighting.plate.as_deref() == Some(&passage.plate), common, p, s));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
    let mut outcomes = vec![Outcome::Missed; passages.len()];
    let mut taken = vec![false; seen.len()];
    for (exact, _, p, s) in pairs {
        if outcomes[p] == Outcome::Missed && !taken[s] {
            taken[s] = true;
            outcomes[p] = if exact { Outcome::Exact } else { Outcome::Found };
        }
    }
    outcomes
}

/// Share of a clip in which no passage has anything in view.
pub(super) fn idle_share(passages: &[Passage], length_ms: f64) -> f64 {
    let mut times: Vec<_> = passages.iter().map(|p| (p.first_seen_ms, p.last_seen_ms)).collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut busy, mut until) = (0.0, 0.0f64);
    for (first, last) in times {
        busy += (last.min(length_ms) - first.max(until)).max(0.0);
        until = until.max(last);
    }
    1.0 - busy / length_ms.max(f64::MIN_POSITIVE)
}

/// A passage of one round of the loop.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instance {
    /// Which passage of the clip.
    pub(super) index: usize,
    /// Its times, milliseconds after the beginning of the window.
    pub(super) passage: Passage,
}

/// The passages that take place wholly within a window of `window_ms`, when the clip's first picture was captured
/// `zero_ms` after the window's beginning (before it, when negative) and again every `length_ms`.
pub(super) fn instances(
    passages: &[Passage],
    zero_ms: f64,
    length_ms: f64,
    window_ms: f64,
) -> Vec<Instance> {
    let mut found = Vec::new();
    let first = ((-zero_ms) / length_ms).floor();
    let mut start = zero_ms + first * length_ms;
    while start < window_ms {
        for (index, passage) in passages.iter().enumerate() {
            let moved = Passage {
                plate: passage.plate.clone(),
                first_seen_ms: passage.first_seen_ms + start,
                last_seen_ms: passage.last_seen_ms + start,
                readable_ms: passage.readable_ms.map(|ms| ms + start),
            };
            if moved.first_seen_ms >= 0.0 && moved.last_seen_ms <= window_ms {
                found.push(Instance { index, passage: moved });
            }
        }
        start += length_ms;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(plate: &str, from: f64, to: f64) -> Passage {
        Passage {
            plate: plate.into(),
            first_seen_ms: from,
            last_seen_ms: to,
            readable_ms: Some(from + 100.0),
        }
    }

    fn seen(plate: Option<&str>, from: f64, to: f64) -> Seen {
        Seen { from_ms: from, to_ms: to, plate: plate.map(Into::into) }
    }

    #[test]
    fn right_plates_come_first_and_no_sighting_counts_twice() {
        let passages = [passage("A", 0.0, 5000.0), passage("B", 1000.0, 6000.0)];
        // The sighting of B overlaps A longer than anything else does.
        let sightings = [seen(Some("B"), 0.0, 5000.0), seen(None, 500.0, 2000.0)];
        assert_eq!(outcomes(&passages, &sightings), [Outcome::Found, Outcome::Exact]);
        assert_eq!(outcomes(&passages, &sightings[..1]), [Outcome::Missed, Outcome::Exact]);
        assert_eq!(outcomes(&passages, &[]), [Outcome::Missed; 2]);
    }

    #[test]
    fn a_sighting_at_another_time_is_not_the_passage() {
        let passages = [passage("A", 0.0, 1000.0)];
        assert_eq!(outcomes(&passages, &[seen(Some("A"), 1400.0, 2000.0)]), [Outcome::Exact]);
        assert_eq!(outcomes(&passages, &[seen(Some("A"), 1600.0, 2000.0)]), [Outcome::Missed]);
    }

    #[test]
    fn time_in_view_counts_once() {
        let passages = [passage("A", 0.0, 2000.0), passage("B", 1000.0, 3000.0)];
        assert_eq!(idle_share(&passages, 10_000.0), 0.7);
        assert_eq!(idle_share(&[passage("A", 500.0, 1500.0), passages[0].clone()], 4000.0), 0.5);
        assert_eq!(idle_share(&[], 4000.0), 1.0);
    }

    #[test]
    fn rounds_before_and_after_the_seam_are_counted_whole_ones_only() {
        let clip = [passage("A", 2000.0, 4000.0)];
        let starts = |zero: f64, window: f64| -> Vec<f64> {
            instances(&clip, zero, 10_000.0, window)
                .iter()
                .map(|instance| instance.passage.first_seen_ms)
                .collect()
        };
        // At the beginning of the window the clip is at 3 s: A is half through and does not count.
        assert_eq!(starts(-3000.0, 20_000.0), [9000.0]);
        assert_eq!(starts(-3000.0, 21_000.0), [9000.0, 19_000.0]);
        // Many rounds ago, and one that begins within the window.
        assert_eq!(starts(-1_000_000.0, 5000.0), [2000.0]);
        assert_eq!(starts(500.0, 5000.0), [2500.0]);
        let moved = &instances(&clip, 500.0, 10_000.0, 5000.0)[0].passage;
        assert_eq!(moved.readable_ms, Some(2600.0));
    }
}
