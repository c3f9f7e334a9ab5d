use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use guiji_domain::StreamCounters;

use crate::gate::GateTally;

/// [`StreamCounters`] that many threads may raise. Lives as long as the camera is open, over all its connections.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) units: AtomicU64,
    pub(crate) keyframes: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) decoded: AtomicU64,
    pub(crate) decoded_keyframes: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) woken_by_view: AtomicU64,
    pub(crate) woken_by_size: AtomicU64,
    pub(crate) woken_by_glimpse: AtomicU64,
    pub(crate) glimpses: AtomicU64,
    pub(crate) dense: AtomicU64,
    pub(crate) woken_by_substream: AtomicU64,
    pub(crate) turned_away: AtomicU64,
}

impl Tally {
    pub(crate) fn counters(&self) -> StreamCounters {
        StreamCounters {
            units: self.units.load(Relaxed),
            keyframes: self.keyframes.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            decoded: self.decoded.load(Relaxed),
            decoded_keyframes: self.decoded_keyframes.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            connects: self.connects.load(Relaxed),
            shed: self.shed.load(Relaxed),
            woken_by_view: self.woken_by_view.load(Relaxed),
            woken_by_size: self.woken_by_size.load(Relaxed),
            woken_by_glimpse: self.woken_by_glimpse.load(Relaxed),
            glimpses: self.glimpses.load(Relaxed),
            dense: self.dense.load(Relaxed),
            woken_by_substream: self.woken_by_substream.load(Relaxed),
            turned_away: self.turned_away.load(Relaxed),
            substream_decoded: 0,
        }
    }

    /// Adds what happened at the gate of the open connection.
    pub(crate) fn gate(&self, gate: GateTally) {
        let GateTally {
            shed,
            woken_by_view,
            woken_by_size,
            woken_by_glimpse,
            dense,
            woken_by_substream,
            turned_away,
        } = gate;
        self.shed.fetch_add(shed, Relaxed);
        self.woken_by_view.fetch_add(woken_by_view, Relaxed);
        self.woken_by_size.fetch_add(woken_by_size, Relaxed);
        self.woken_by_glimpse.fetch_add(woken_by_glimpse, Relaxed);
        self.dense.fetch_add(dense, Relaxed);
        self.woken_by_substream.fetch_add(woken_by_substream, Relaxed);
        self.turned_away.fetch_add(turned_away, Relaxed);
    }
}

/// Raises a counter by one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
