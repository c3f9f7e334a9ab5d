use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Which block: the number of an opened segment, and where the block begins in its file.
pub(super) type BlockKey = (u64, u64);

/// Blocks of segments as they are used, checked and unpacked, at most so many bytes of them. What was not used since
/// the last round goes first (the clock algorithm).
#[derive(Debug)]
pub(crate) struct BlockCache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Nobody from outside chooses the keys.
    blocks: HashMap<BlockKey, Entry, foldhash::fast::RandomState>,
    /// In the order in which they are looked at when space is needed.
    clock: VecDeque<BlockKey>,
    bytes: usize,
    /// The last number given to a segment.
    segments: u64,
}

#[derive(Debug)]
struct Entry {
    block: Arc<[u8]>,
    used: bool,
}

impl BlockCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in here can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a segment that was opened, never given before.
    pub(super) fn number(&self) -> u64 {
        let mut state = self.lock();
        state.segments += 1;
        state.segments
    }

    pub(super) fn get(&self, key: BlockKey) -> Option<Arc<[u8]>> {
        let mut state = self.lock();
        let entry = state.blocks.get_mut(&key)?;
        entry.used = true;
        Some(Arc::clone(&entry.block))
    }

    pub(super) fn put(&self, key: BlockKey, block: Arc<[u8]>) {
        let mut state = self.lock();
        let State { blocks, clock, bytes, .. } = &mut *state;
        *bytes += block.len();
        match blocks.insert(key, Entry { block, used: false }) {
            Some(old) => *bytes -= old.block.len(),
            None => clock.push_back(key),
        }
        while *bytes > self.bytes_max {
            let Some(key) = clock.pop_front() else { break };
            if let Some(entry) = blocks.get_mut(&key)
                && std::mem::take(&mut entry.used)
            {
                clock.push_back(key);
            } else if let Some(entry) = blocks.remove(&key) {
                *bytes -= entry.block.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_bytes_are_bounded() {
        let cache = BlockCache::new(100);
        let block = || Arc::from(vec![0_u8; 10]);
        cache.put((1, 0), block());
        for i in 1..1000 {
            cache.put((1, i), block());
            assert!(cache.get((1, 0)).is_some(), "{i}");
            assert!(cache.lock().bytes <= 100);
        }
        assert!(cache.get((1, 500)).is_none());
        let state = cache.lock();
        assert_eq!(state.blocks.len(), state.clock.len());
        drop(state);
        cache.put((2, 0), Arc::from(vec![0_u8; 1000]));
        assert!(cache.lock().bytes <= 100);
    }
}
