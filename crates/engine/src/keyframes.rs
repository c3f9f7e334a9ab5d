//! Asks cameras for keyframes whose own are far apart.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use guiji_domain::{BackOff, KeyframeAsker, KeyframeRhythm, KeyframeWishes, Luck, StreamCounters};
use tracing::{info, warn};

use crate::cameras::{CameraCell, Cells};
use crate::counters::counters;
use crate::engine::spawn;

/// When a camera is asked for keyframes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyframeSettings {
    /// When its own are further apart.
    pub farther_than: Duration,
    /// How often, at least a second.
    pub every: Duration,
    /// How long it is left alone after a failure. Long: cameras lock an account after a few wrong passwords, and the
    /// stream's login with it; what its keyframes do not show is decoded meanwhile.
    pub after_failure: BackOff,
}

impl Default for KeyframeSettings {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            farther_than: s(3),
            every: s(2),
            after_failure: BackOff { first: s(60), cap: s(3600) },
        }
    }
}

counters! {
    /// What became of wishes for keyframes since the start.
    WishCounters, WishCounts {
        /// Wishes that a camera took.
        taken,
        /// Wishes that it refused, or did not answer.
        failed,
        /// Wishes given up because too many waited.
        late,
    }
}

/// After so long the camera is left alone until its own keyframes are too far apart again: perhaps they are no more.
const PROBED_EVERY: Duration = Duration::from_secs(3600);
/// So many wishes in a row that no keyframe followed count as a failure.
const IN_VAIN_MAX: u32 = 3;
/// How often is looked whom to ask, threads that ask, and wishes that wait for them.
const BEAT: Duration = Duration::from_millis(250);
const ASKING: usize = 8;
const WAITING_MAX: usize = 64;

/// One camera's wishes. Times are since any beginning.
#[derive(Debug, Default)]
pub(crate) struct Wishing {
    counts: KeyframeWishes,
    /// Since when it is asked again and again.
    since: Option<Duration>,
    /// Not before.
    next: Duration,
    under_way: bool,
    /// Keyframes that had come when it took the last wish.
    taken_at: Option<u64>,
    in_vain: u32,
    failures: u32,
    failure: Option<String>,
}

impl Wishing {
    /// Whether to ask now, given the stream's rhythm and what it has delivered. Then [`Self::answered`] is to be called.
    fn is_due(
        &mut self,
        now: Duration,
        rhythm: KeyframeRhythm,
        counters: &StreamCounters,
        settings: &KeyframeSettings,
        luck: &mut Luck,
    ) -> bool {
        if self.under_way || now < self.next {
            return false;
        }
        let keyframes = counters.keyframes;
        // Whoever opens a camera waits for its first picture.
        let first = keyframes == 0 && counters.units > 0;
        if !rhythm.matters && !first {
            *self = Self { counts: self.counts, ..Self::default() };
            return false;
        }
        if let Some(before) = self.taken_at.take() {
            self.in_vain = if keyframes > before { 0 } else { self.in_vain + 1 };
            if self.in_vain == 0 {
                (self.failures, self.failure) = (0, None);
            } else if self.in_vain >= IN_VAIN_MAX {
                self.in_vain = 0;
                self.fails(now, "it takes the wish and sends none".to_owned(), settings, luck);
                return false;
            }
        }
        if self.since.is_some_and(|since| now.saturating_sub(since) > PROBED_EVERY) {
            self.since = None;
        }
        if self.since.is_none() && rhythm.period <= settings.farther_than && !first {
            return false;
        }
        if !first {
            self.since.get_or_insert(now);
        }
        self.under_way = true;
        self.next = now + settings.every;
        self.counts.asked += 1;
        true
    }

    fn fails(&mut self, now: Duration, why: String, settings: &KeyframeSettings, luck: &mut Luck) {
        self.counts.failed += 1;
        self.failures += 1;
        self.next = now + settings.after_failure.wait(self.failures, luck.draw());
        self.failure = Some(why);
    }

    /// What became of it; `keyframes` as before.
    fn answered(
        &mut self,
        now: Duration,
        answer: Result<(), String>,
        keyframes: u64,
        settings: &KeyframeSettings,
        luck: &mut Luck,
    ) {
        self.under_way = false;
        match answer {
            Ok(()) => self.taken_at = Some(keyframes),
            Err(why) => self.fails(now, why, settings, luck),
        }
    }

    /// The wish was given up.
    fn given_up(&mut self) {
        self.under_way = false;
        self.counts.asked -= 1;
    }

    pub(crate) fn counts(&self) -> KeyframeWishes {
        self.counts
    }

    /// Why it gets no keyframes, in words.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.failure.as_ref().map(|why| format!("no keyframes on demand: {why}"))
    }
}

/// A wish on its way: the camera, and how many keyframes had come.
type Wish = (Arc<CameraCell>, u64);

/// The threads that ask.
pub(crate) struct KeyframeKeeper {
    settings: KeyframeSettings,
    asker: Arc<dyn KeyframeAsker>,
    cells: Arc<Cells>,
    counters: Arc<WishCounters>,
    begun: Instant,
    luck: Mutex<Luck>,
}

impl KeyframeKeeper {
    pub(crate) fn new(
        settings: KeyframeSettings,
        asker: Arc<dyn KeyframeAsker>,
        cells: Arc<Cells>,
        counters: Arc<WishCounters>,
        seed: u64,
    ) -> Self {
        let every = settings.every.max(Duration::from_secs(1));
        let settings = KeyframeSettings { every, ..settings };
        let luck = Mutex::new(Luck::seeded("keyframes", seed));
        Self { settings, asker, cells, counters, begun: Instant::now(), luck }
    }

    /// Runs until the stop's sender is gone.
    pub(crate) fn start(self, stopped: Receiver<()>) -> Vec<JoinHandle<()>> {
        let this = Arc::new(self);
        let (wishes, waiting) = sync_channel::<Wish>(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let asking = (0..ASKING).map(|number| {
            let (this, waiting) = (Arc::clone(&this), Arc::clone(&waiting));
            spawn(format!("keyframes-{number}"), move || this.ask_until_closed(&waiting))
        });
        let mut threads: Vec<_> = asking.collect();
        threads.push(spawn("keyframes".into(), move || {
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                this.look(&wishes);
            }
        }));
        threads
    }

    fn look(&self, wishes: &SyncSender<Wish>) {
        let now = self.begun.elapsed();
        for cell in self.cells.all() {
            let Some((rhythm, counters)) = cell.keyframes_to_ask_for() else { continue };
            let keyframes = counters.keyframes;
            let mut luck = self.luck.lock().unwrap_or_else(PoisonError::into_inner);
            let due = cell.wishing().is_due(now, rhythm, &counters, &self.settings, &mut luck);
            drop(luck);
            if !due {
                continue;
            }
            match wishes.try_send((cell, keyframes)) {
                Ok(()) => {}
                Err(TrySendError::Full((cell, _)) | TrySendError::Disconnected((cell, _))) => {
                    cell.wishing().given_up();
                    self.counters.late.fetch_add(1, Relaxed);
                }
            }
        }
    }

    fn ask_until_closed(&self, waiting: &Mutex<Receiver<Wish>>) {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((cell, keyframes)) = next else { return };
            let camera = cell.registered();
            let answer = self.asker.ask(&camera);
            let counter = if answer.is_ok() { &self.counters.taken } else { &self.counters.failed };
            counter.fetch_add(1, Relaxed);
            let mut wishing = cell.wishing();
            match (&answer, &wishing.failure) {
                (Err(why), None) => {
                    warn!(camera = %camera.id, why, "camera gives no keyframes on demand")
                }
                (Ok(()), Some(_)) => {
                    info!(camera = %camera.id, "camera takes wishes for keyframes again")
                }
                _ => {}
            }
            let mut luck = self.luck.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.begun.elapsed();
            wishing.answered(now, answer, keyframes, &self.settings, &mut luck);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// A camera whose keyframes come every ten seconds, and at once when it is asked and answers so. What is asked when.
    fn play(seconds: u32, answer: impl Fn(u32) -> Result<bool, String>) -> (Vec<u32>, Wishing) {
        let (mut wishing, mut luck) = (Wishing::default(), Luck::seeded("k1", 1));
        let settings = KeyframeSettings::default();
        let (mut asked, mut keyframes, mut last) = (Vec::new(), 1, 0);
        for second in 0..seconds {
            if second - last >= 10 {
                (keyframes, last) = (keyframes + 1, second);
            }
            let period = S * (second - last).max(if asked.is_empty() { 10 } else { 0 });
            let rhythm = KeyframeRhythm { period, matters: true, dense: false };
            let counters = StreamCounters { keyframes, ..StreamCounters::default() };
            if !wishing.is_due(S * second, rhythm, &counters, &settings, &mut luck) {
                continue;
            }
            asked.push(second);
            let before = keyframes;
            let answer = answer(second);
            if answer == Ok(true) {
                (keyframes, last) = (keyframes + 1, second);
            }
            wishing.answered(S * second, answer.map(drop), before, &settings, &mut luck);
        }
        (asked, wishing)
    }

    #[test]
    fn a_camera_is_asked_every_two_seconds_and_left_alone_once_an_hour() {
        let (asked, wishing) = play(5000, |_| Ok(true));
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 2));
        let pauses: Vec<_> = asked.windows(2).filter(|pair| pair[1] - pair[0] > 2).collect();
        assert_eq!(pauses.len(), 1, "{pauses:?}");
        assert!(pauses[0][1] - pauses[0][0] <= 5 && pauses[0][0] >= 3600, "{pauses:?}");
        assert_eq!((wishing.counts().failed, wishing.trouble()), (0, None));
    }

    #[test]
    fn one_that_refuses_is_asked_ever_less_often() {
        let (asked, wishing) = play(3600, |_| Err("HTTP 401".into()));
        assert!((4..12).contains(&asked.len()), "{asked:?}");
        assert_eq!(wishing.counts().failed, wishing.counts().asked);
        assert_eq!(wishing.trouble().unwrap(), "no keyframes on demand: HTTP 401");
        // It comes to its senses.
        let (_, wishing) =
            play(3600, |second| (second > 60).then_some(true).ok_or("HTTP 500".into()));
        assert_eq!(wishing.trouble(), None);
    }

    #[test]
    fn one_that_agrees_and_sends_none_is_found_out() {
        let (asked, wishing) = play(100, |_| Ok(false));
        assert!(asked.len() < 30, "{asked:?}");
        assert!(wishing.trouble().unwrap().contains("sends none"));
    }

    #[test]
    fn one_that_needs_none_is_not_asked() {
        let (mut wishing, mut luck) = (Wishing::default(), Luck::seeded("k1", 1));
        let mut due = |seconds, matters| {
            let rhythm = KeyframeRhythm { period: S * seconds, matters, dense: false };
            let counters = StreamCounters { units: 9, keyframes: 1, ..StreamCounters::default() };
            wishing.is_due(S, rhythm, &counters, &KeyframeSettings::default(), &mut luck)
        };
        assert!(!due(2, true) && !due(10, false) && due(4, true));
        assert!(!due(4, true), "one wish at a time");
    }

    #[test]
    fn one_whose_first_keyframe_is_awaited_is_asked_for_that_one() {
        let (mut wishing, mut luck) = (Wishing::default(), Luck::seeded("k1", 1));
        let settings = KeyframeSettings::default();
        let mut due = |second, units, keyframes| {
            let counters = StreamCounters { units, keyframes, ..StreamCounters::default() };
            let rhythm = KeyframeRhythm { period: S, matters: keyframes > 0, dense: false };
            let due = wishing.is_due(S * second, rhythm, &counters, &settings, &mut luck);
            if due {
                wishing.answered(S * second, Ok(()), keyframes, &settings, &mut luck);
            }
            due
        };
        assert!(!due(0, 0, 0), "it is not connected yet");
        assert!(due(1, 5, 0));
        assert!(!due(3, 60, 1) && !due(9, 200, 4), "its own come close enough");
    }
}
