use std::collections::VecDeque;
use std::time::Duration;

use crate::unit::{Unit, UnitKind};

/// The last groups of pictures of a camera, encoded: each begins with a keyframe, so each can be decoded later.
///
/// Units have numbers, counted from 0, in decoding order. Bounded in bytes and in time; when it is full the oldest
/// group goes as a whole, for the rest of a group without its keyframe is of no use. When a single group fills it, the
/// rest of that group is refused.
#[derive(Debug)]
pub(crate) struct GopRing {
    units: VecDeque<Unit>,
    /// The numbers of the keyframes.
    keys: VecDeque<u64>,
    first: u64,
    bytes: usize,
    limits: RingLimits,
    /// The next unit to be decoded.
    wanted: u64,
    /// The rest of the newest group is refused.
    cut: bool,
    last_key_evicted: Option<u64>,
}

/// How much a camera's ring may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingLimits {
    /// Bytes of memory: what is encoded, and what it takes to hold each unit.
    pub(crate) bytes: usize,
    /// A group that ended longer ago than this goes, but for the last before the newest; one that is still to be decoded
    /// may become [`PATIENCE`] times as old.
    pub(crate) age: Duration,
}

/// Cameras that wake together take turns, and are all done some seconds later; a unit that is given up is a hole.
const PATIENCE: u32 = 4;

/// Memory that a unit takes besides its bytes: a buffer of GStreamer with its allocation, and our own record. A
/// camera that floods with tiny units is bounded by this.
const UNIT_OVERHEAD: usize = 1000;

fn cost(unit: &Unit) -> usize {
    unit.data.size() + UNIT_OVERHEAD
}

impl GopRing {
    pub(crate) fn new(limits: RingLimits) -> Self {
        let (units, keys) = (VecDeque::new(), VecDeque::new());
        Self {
            units,
            keys,
            first: 0,
            bytes: 0,
            limits,
            wanted: 0,
            cut: true,
            last_key_evicted: None,
        }
    }

    /// Keeps it; false when it is refused: no keyframe came before it, or its group is too large.
    pub(crate) fn push(&mut self, unit: Unit) -> bool {
        let (is_key, size) = (unit.kind == UnitKind::Key, cost(&unit));
        if is_key {
            self.cut = false;
            let old = |ring: &Self| {
                let done = ring.keys.get(1).is_some_and(|next| *next <= ring.wanted);
                let age = ring.limits.age * if done { 1 } else { PATIENCE };
                ring.ended(1).is_some_and(|end| end + age < unit.running)
            };
            while self.keys.len() > 1 && old(self) {
                self.evict();
            }
        } else if self.cut {
            return false;
        }
        let groups_kept = if is_key { 0 } else { 1 };
        while self.bytes + size > self.limits.bytes && self.keys.len() > groups_kept {
            self.evict();
        }
        if self.bytes + size > self.limits.bytes {
            self.cut = true;
            return false;
        }
        if is_key {
            self.keys.push_back(self.end());
        }
        self.bytes += size;
        self.units.push_back(unit);
        true
    }

    /// This unit is to be decoded next.
    pub(crate) fn want_from(&mut self, number: u64) {
        self.wanted = number;
    }

    /// The time of the last unit before the keyframe of this index.
    fn ended(&self, key: usize) -> Option<Duration> {
        let number = self.keys.get(key)?.checked_sub(1)?;
        self.get(number).map(|unit| unit.running)
    }

    fn evict(&mut self) {
        self.last_key_evicted = self.keys.pop_front().or(self.last_key_evicted);
        let next = self.keys.front().copied().unwrap_or(self.end());
        self.drop_before(next);
    }

    /// Lets go of what lies before a unit.
    pub(crate) fn release_before(&mut self, number: u64) {
        self.drop_before(number.min(self.end()));
        while self.keys.get(1).is_some_and(|next| *next <= self.first) {
            self.keys.pop_front();
        }
    }

    fn drop_before(&mut self, number: u64) {
        while self.first < number
            && let Some(unit) = self.units.pop_front()
        {
            self.bytes -= cost(&unit);
            self.first += 1;
        }
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Unit> {
        let index = number.checked_sub(self.first)?;
        self.units.get(usize::try_from(index).ok()?)
    }

    /// The oldest unit's number; that of the next one when empty.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the next unit.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.units.len() as u64
    }

    /// The newest keyframe that gave way to others.
    pub(crate) fn last_key_evicted(&self) -> Option<u64> {
        self.last_key_evicted
    }

    /// The keyframe of this time in the stream.
    pub(crate) fn key_at(&self, running: Duration) -> Option<u64> {
        let is_it = |key: &u64| self.get(*key).is_some_and(|unit| unit.running == running);
        self.keys.iter().rev().copied().find(is_it)
    }

    /// The last keyframe before a unit.
    pub(crate) fn key_before(&self, number: u64) -> Option<u64> {
        self.keys.iter().rev().copied().find(|key| *key < number && *key >= self.first)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::unit::Codec;
    use guiji_domain::{CaptureTime, ClockSource, Timestamp};
    use proptest::prelude::*;

    /// The unit of a 25 Hz stream.
    pub(crate) fn unit(number: u64, kind: UnitKind, bytes: usize) -> Unit {
        gstreamer::init().unwrap();
        let running = Duration::from_millis(40 * number);
        let captured = CaptureTime {
            at: Timestamp::EPOCH.plus(running),
            uncertainty: Duration::ZERO,
            source: ClockSource::Arrival,
        };
        let data = gstreamer::Buffer::from_slice(vec![0u8; bytes]);
        Unit { codec: Codec::H264, data, kind, quantiser: None, numbering: None, running, captured }
    }

    proptest! {
        #[test]
        fn bounded_and_whole(
            units in prop::collection::vec((0u8..10, 1usize..400), 1..300),
            bytes in 1500usize..40_000,
            age_ms in 0u64..4000,
        ) {
            let mut ring = GopRing::new(RingLimits { bytes, age: Duration::from_millis(age_ms) });
            for (number, (kind, size)) in units.into_iter().enumerate() {
                let kind = if kind == 0 { UnitKind::Key } else { UnitKind::Delta };
                ring.push(unit(number as u64, kind, size));
                let held: usize = ring.units.iter().map(cost).sum();
                prop_assert_eq!(held, ring.bytes);
                prop_assert!(held <= bytes);
                prop_assert!(ring.units.front().is_none_or(|it| it.kind == UnitKind::Key));
                // The keys are just the keyframes, by number.
                let keys: Vec<u64> = (ring.first()..ring.end())
                    .filter(|it| ring.get(*it).unwrap().kind == UnitKind::Key).collect();
                prop_assert_eq!(keys, ring.keys.iter().copied().collect::<Vec<_>>());
                // Within a group nothing is missing: times follow each other.
                for number in ring.first() + 1..ring.end() {
                    let (before, it) = (ring.get(number - 1).unwrap(), ring.get(number).unwrap());
                    let step = it.running - before.running;
                    prop_assert!(it.kind == UnitKind::Key || step == Duration::from_millis(40));
                }
            }
        }
    }

    #[test]
    fn a_flood_of_tiny_units_is_bounded() {
        let limits = RingLimits { bytes: 100_000, age: Duration::from_secs(3600) };
        let mut ring = GopRing::new(limits);
        for number in 0..10_000 {
            let kind = if number % 50 == 0 { UnitKind::Key } else { UnitKind::Delta };
            ring.push(unit(number, kind, 1));
        }
        assert!((40..100).contains(&ring.units.len()), "{}", ring.units.len());
    }

    #[test]
    fn what_is_over_goes_with_its_time() {
        let mut ring = GopRing::new(RingLimits { bytes: 1_000_000, age: Duration::from_secs(1) });
        for number in 0..200 {
            let kind = if number % 25 == 0 { UnitKind::Key } else { UnitKind::Delta };
            ring.want_from(number);
            assert!(ring.push(unit(number, kind, 10)));
        }
        assert!(ring.first() >= 100 && ring.first().is_multiple_of(25), "{}", ring.first());
        ring.release_before(190);
        assert_eq!((ring.first(), ring.end(), ring.bytes), (190, 200, 10 * (10 + UNIT_OVERHEAD)));
        assert_eq!(ring.key_before(200), None);
    }
}
