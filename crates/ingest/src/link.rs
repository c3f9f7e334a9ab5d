use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use guiji_domain::{Camera, Clock, Feedback, Stream};
use tokio::sync::watch;

use crate::IngestSettings;
use crate::afterimage::Views;
use crate::desk::Desk;
use crate::glimpses::Experience;
use crate::mailbox::{Event, Mailbox};
use crate::outlet::{Outlet, caught};
use crate::pool::DecodePool;
use crate::redact::Redactor;
use crate::sentinel::Sentinel;
use crate::shared::Shared;
use crate::sizes::Sizes;
use crate::tally::{Tally, count};

/// What lasts as long as a camera is open: shared by its supervisor and the callbacks of each connection.
pub(crate) struct Line {
    /// A substream has its own address here, and all else of its camera.
    pub(crate) camera: Camera,
    /// Which of the camera's streams it is.
    pub(crate) stream: Stream,
    /// What a substream watches by, where there is one; both have it.
    pub(crate) sentinel: Option<Arc<Sentinel>>,
    pub(crate) settings: Arc<IngestSettings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailbox: Mailbox,
    pub(crate) outlet: Outlet,
    pub(crate) tally: Tally,
    pub(crate) redactor: Redactor,
    pub(crate) pool: Arc<DecodePool>,
    /// The desk of the connection that is open just now.
    pub(crate) desk: Mutex<Weak<Desk>>,
    /// What the last connection learnt of the view.
    pub(crate) learnt: Mutex<Learnt>,
    /// What the engine said last, for connections to come.
    pub(crate) feedback: Mutex<Feedback>,
    /// Somebody waits for what this camera sees: it does not stand in line to be opened.
    pub(crate) urgent: watch::Sender<bool>,
}

/// What the connections of a camera learn of its view, one from the other.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    pub(crate) sizes: Sizes,
    pub(crate) experience: Experience,
    pub(crate) views: Views,
}

impl Line {
    /// From now on this is the desk of the open connection.
    pub(crate) fn seat(&self, desk: &Arc<Desk>) {
        *self.desk.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(desk);
        if let Some(sentinel) = &self.sentinel {
            sentinel.seated(self.stream);
        }
    }

    /// The desk of the open connection, if there is one.
    pub(crate) fn desk(&self) -> Option<Arc<Desk>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// What the last connection learnt of the view; to be given back by [`Self::learn`].
    pub(crate) fn recall(&self) -> Learnt {
        std::mem::take(&mut *self.learnt.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a connection has learnt, for the next one.
    pub(crate) fn learn(&self, learnt: Learnt) {
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner) = learnt;
    }

    /// What the engine said last.
    pub(crate) fn feedback(&self) -> Feedback {
        *self.feedback.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a callback of the media framework. A panic must not unwind into C: it is reported, and `fallback` returned.
    pub(crate) fn guarded<T>(&self, fallback: T, run: impl FnOnce() -> T) -> T {
        caught(run).unwrap_or_else(|text| {
            self.panicked(text);
            fallback
        })
    }

    /// Tells the supervisor of damage, once until it has heard.
    pub(crate) fn complain(&self, progress: &Progress) {
        if !progress.damage_posted.swap(true, Relaxed) {
            self.mailbox.post(Event::Damage);
        }
    }

    /// Reports a caught panic to the supervisor.
    pub(crate) fn panicked(&self, text: String) {
        count(&self.tally.panics);
        self.mailbox.post(Event::Panicked(text));
    }
}

/// How far a connection has come, for the watchdog. Times are milliseconds since its start, plus one; 0 is never.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    /// The server answered, or the file was opened and understood.
    pub(crate) answered: AtomicBool,
    /// A video stream that we can decode was announced and asked for (RTSP only).
    pub(crate) selected: AtomicBool,
    /// A video stream that we can decode was found, and the decoder put behind it.
    pub(crate) chosen: AtomicBool,
    /// The sink has the word just now: nothing is late because of the camera.
    pub(crate) delivering: AtomicBool,
    /// Damage was posted and not yet seen.
    pub(crate) damage_posted: AtomicBool,
    /// A video codec that the stream has and we do not decode.
    foreign_codec: Mutex<Option<String>>,
    first_unit: AtomicU64,
    last_unit: AtomicU64,
    last_key: AtomicU64,
    last_picture: AtomicU64,
    /// Since the last picture: the first unit that a decoder was given, and how many pictures it owes.
    fed_first: AtomicU64,
    owed: AtomicU64,
}

/// A decoder may hold back so many pictures (H.264 and H.265).
const HELD_BACK_MAX: u64 = 16;

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            answered: AtomicBool::new(false),
            selected: AtomicBool::new(false),
            chosen: AtomicBool::new(false),
            delivering: AtomicBool::new(false),
            damage_posted: AtomicBool::new(false),
            foreign_codec: Mutex::new(None),
            first_unit: AtomicU64::new(0),
            last_unit: AtomicU64::new(0),
            last_key: AtomicU64::new(0),
            last_picture: AtomicU64::new(0),
            fed_first: AtomicU64::new(0),
            owed: AtomicU64::new(0),
        }
    }

    pub(crate) fn foreign_codec(&self) -> Option<String> {
        self.foreign_codec.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn found_foreign_codec(&self, name: &str) {
        let name = name.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
        *self.foreign_codec.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
    }

    pub(crate) fn unit_came(&self, keyframe: bool) {
        let now = self.stamp();
        self.last_unit.store(now, Relaxed);
        if self.first_unit.load(Relaxed) == 0 {
            self.first_unit.store(now, Relaxed);
        }
        if keyframe {
            self.last_key.store(now, Relaxed);
        }
    }

    /// A decoder was given a unit, or asked for all that it holds back.
    pub(crate) fn fed(&self, drained: bool) {
        if drained && self.owed.load(Relaxed) == 0 {
            return; // it gave everything: the next unit may be a minute away, and is not owed since now
        }
        if self.owed.fetch_add(if drained { HELD_BACK_MAX } else { 1 }, Relaxed) == 0 {
            self.fed_first.store(self.stamp(), Relaxed);
        }
    }

    /// For how long decoders have been given units and made no picture of them. Not for how long there was no picture:
    /// where decoding is too slow for all cameras, a camera waits through no fault of its own.
    pub(crate) fn since_fed_in_vain(&self) -> Option<Duration> {
        (self.owed.load(Relaxed) > HELD_BACK_MAX).then(|| self.since(&self.fed_first)).flatten()
    }

    /// True for the first one.
    pub(crate) fn picture_came(&self) -> bool {
        self.owed.store(0, Relaxed);
        self.fed_first.store(0, Relaxed);
        self.last_picture.swap(self.stamp(), Relaxed) == 0
    }

    /// The sink gave the word back: what was late because of it is not late any more.
    pub(crate) fn delivered(&self) {
        let now = self.stamp();
        self.last_picture.store(now, Relaxed);
        self.last_unit.store(now, Relaxed);
        self.delivering.store(false, Relaxed);
    }

    pub(crate) fn since_start(&self) -> Duration {
        self.started.elapsed()
    }
    pub(crate) fn since_first_unit(&self) -> Option<Duration> {
        self.since(&self.first_unit)
    }
    pub(crate) fn since_unit(&self) -> Option<Duration> {
        self.since(&self.last_unit)
    }
    pub(crate) fn since_key(&self) -> Option<Duration> {
        self.since(&self.last_key)
    }
    pub(crate) fn since_picture(&self) -> Option<Duration> {
        self.since(&self.last_picture)
    }

    fn stamp(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    fn since(&self, stamp: &AtomicU64) -> Option<Duration> {
        let then = stamp.load(Relaxed);
        (then > 0).then(|| Duration::from_millis(self.stamp().saturating_sub(then)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_to_a_decoder_can_be_decoded_in_vain() {
        let progress = Progress::new();
        progress.unit_came(true);
        assert_eq!(progress.since_fed_in_vain(), None, "nobody had time to decode it");
        (0..HELD_BACK_MAX).for_each(|_| progress.fed(false));
        assert_eq!(progress.since_fed_in_vain(), None, "a decoder may hold back so many");
        progress.fed(false);
        assert!(progress.since_fed_in_vain().is_some());
        progress.picture_came();
        progress.fed(true);
        progress.fed(false);
        assert_eq!(progress.since_fed_in_vain(), None, "nothing was owed when it was emptied");
        progress.picture_came();
        // A single keyframe, and then all that came of it.
        progress.fed(false);
        progress.fed(true);
        assert!(progress.since_fed_in_vain().is_some());
    }
}
