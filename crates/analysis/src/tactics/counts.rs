use std::ops::Range;

/// How often each key came: sorted keys with their counts. Small, mergeable, and a range of keys is a slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    keys: Vec<u64>,
    counts: Vec<u32>,
}

impl Counts {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys of a range with their counts, in order.
    pub(super) fn range(&self, keys: Range<u64>) -> impl Iterator<Item = (u64, u32)> {
        let from = self.keys.partition_point(|k| *k < keys.start);
        let to = from + self.keys[from..].partition_point(|k| *k < keys.end);
        self.keys[from..to].iter().copied().zip(self.counts[from..to].iter().copied())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.keys.iter().copied().zip(self.counts.iter().copied())
    }

    pub(super) fn get(&self, key: u64) -> u32 {
        self.keys.binary_search(&key).map_or(0, |i| self.counts[i])
    }

    /// Adds up pairs in any order.
    pub(super) fn sum(pairs: impl Iterator<Item = (u64, u32)>) -> Self {
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort(); // not unstable: mostly two sorted runs, which this merges
        let mut sum = Self::default();
        pairs.into_iter().for_each(|(key, count)| sum.push(key, count));
        sum
    }

    /// Appends a key that is not below the last.
    fn push(&mut self, key: u64, count: u32) {
        match self.counts.last_mut() {
            Some(last) if self.keys.last() == Some(&key) => *last = last.saturating_add(count),
            _ => {
                self.keys.push(key);
                self.counts.push(count);
            }
        }
    }
}

/// Counts keys as they come, in bounded memory beside the result.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pending: Vec<u64>,
    done: Counts,
}

impl Tally {
    /// Keys held before they are sorted in: 32 MiB.
    const PENDING_MAX: usize = 1 << 22;

    pub(super) fn add(&mut self, key: u64) {
        self.pending.push(key);
        if self.pending.len() >= Self::PENDING_MAX {
            self.flush();
        }
    }

    pub(super) fn finish(mut self) -> Counts {
        self.flush();
        self.done
    }

    fn flush(&mut self) {
        self.pending.sort_unstable();
        let mut fresh = Counts::default();
        self.pending.drain(..).for_each(|key| fresh.push(key, 1));
        self.done = Counts::sum(self.done.iter().chain(fresh.iter()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn tally(keys: &[u64]) -> Counts {
        let mut tally = Tally::default();
        keys.iter().for_each(|k| tally.add(*k));
        tally.finish()
    }

    proptest! {
        #[test]
        fn equals_a_map(a in prop::collection::vec(0u64..40, 0..80), b in prop::collection::vec(0u64..40, 0..80)) {
            let mut map = BTreeMap::new();
            a.iter().copied().chain(b.iter().map(|k| k ^ 1)).for_each(|k| *map.entry(k).or_insert(0) += 1);
            let (a, b) = (tally(&a), tally(&b));
            let merged = Counts::sum(a.iter().chain(b.iter().map(|(k, n)| (k ^ 1, n))));
            prop_assert_eq!(merged.iter().collect::<Vec<_>>(), map.clone().into_iter().collect::<Vec<_>>());
            let part: Vec<_> = map.range(10..20).map(|(k, n)| (*k, *n)).collect();
            prop_assert_eq!(merged.range(10..20).collect::<Vec<_>>(), part);
            prop_assert_eq!(merged.get(7), map.get(&7).copied().unwrap_or(0));
        }
    }
}
