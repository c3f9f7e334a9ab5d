//! Writes down what the cameras could see, while they do.
//!
//! Each camera has one open interval, that of its present state. It is written again and again with a later end, so
//! that a process that dies leaves it ending a few seconds earlier: what comes then is covered by nothing, which is
//! "unknown".

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guiji_domain::{
    Camera, CameraId, CameraStatus, Clock, Coverage, CoverageStore, Pace, StatusReason, TimeSpan,
    Timestamp,
};
use tracing::error;

/// How often open intervals are written, and so how much a crash turns into "unknown".
const EVERY: Duration = Duration::from_secs(10);
/// Most ended intervals that wait for the store. When it is down for longer, the oldest are dropped and counted: their
/// time is "unknown" then.
const WAITING_MAX: usize = 100_000;

/// Keeps the open intervals.
pub(crate) struct CoverageKeeper {
    store: Arc<dyn CoverageStore>,
    clock: Arc<dyn Clock>,
    kept: Mutex<Intervals>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Intervals {
    open: BTreeMap<CameraId, Coverage>,
    ended: VecDeque<Coverage>,
    written: Option<Timestamp>,
}

/// Whether the times at which a camera's pictures were taken are those at which they come.
pub(crate) fn is_live(camera: &Camera) -> bool {
    camera.pace == Pace::RealTime && camera.recorded_at.is_none()
}

impl CoverageKeeper {
    pub(crate) fn new(store: Arc<dyn CoverageStore>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, kept: Mutex::default(), dropped: AtomicU64::new(0) }
    }

    fn kept(&self) -> MutexGuard<'_, Intervals> {
        // Nothing in here panics halfway through a change.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a camera's state. Never waits for the store.
    pub(crate) fn noted(&self, camera: &Camera, status: &CameraStatus) {
        if !is_live(camera) {
            return;
        }
        let now = self.clock.now();
        let mut kept = self.kept();
        let state = status.state.coverage();
        let cause = status.reason.map_or(status.state.as_str(), StatusReason::as_str);
        if let Some(open) = kept.open.get(&camera.id)
            && state == Some(open.state)
            && open.cause == cause
        {
            return;
        }
        self.end(&mut kept, &camera.id, now);
        if let Some(state) = state {
            let (camera, cause) = (camera.id.clone(), cause.to_owned());
            let open = Coverage { camera: camera.clone(), span: TimeSpan::at(now), state, cause };
            kept.open.insert(camera, open);
        }
    }

    /// A camera was closed: nobody looks any more.
    pub(crate) fn closed(&self, camera: &CameraId) {
        let now = self.clock.now();
        self.end(&mut self.kept(), camera, now);
    }

    fn end(&self, kept: &mut Intervals, camera: &CameraId, now: Timestamp) {
        let Some(mut open) = kept.open.remove(camera) else { return };
        extend(&mut open, now);
        kept.ended.push_back(open);
        if kept.ended.len() > WAITING_MAX {
            kept.ended.pop_front();
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Writes what is due; to be called about once a second.
    pub(crate) fn tend(&self) {
        let now = self.clock.now();
        let due = self.kept().written.is_none_or(|written| now.abs_diff(written) >= EVERY);
        if due {
            self.write(now);
        }
    }

    /// Writes everything up to now.
    pub(crate) fn flush(&self) {
        self.write(self.clock.now());
    }

    fn write(&self, now: Timestamp) {
        let (batch, ended) = {
            let mut kept = self.kept();
            kept.written = Some(now);
            kept.open.values_mut().for_each(|open| extend(open, now));
            let ended = kept.ended.len();
            (kept.ended.iter().chain(kept.open.values()).cloned().collect::<Vec<_>>(), ended)
        };
        if batch.is_empty() {
            return;
        }
        match self.store.keep_coverage(&batch) {
            // The written ones are the oldest, unless some were dropped meanwhile: then they are fewer, and those that
            // are left are written twice, which changes nothing.
            Ok(_) => {
                let mut kept = self.kept();
                let written = batch.get(..ended).unwrap_or_default();
                while kept.ended.front().is_some_and(|first| written.contains(first)) {
                    kept.ended.pop_front();
                }
            }
            Err(error) => {
                let dropped = self.dropped.load(Relaxed);
                error!(%error, dropped, "what the cameras can see could not be written; tried again in 10 s");
            }
        }
    }
}

/// A clock that was set back ends nothing before its beginning.
fn extend(open: &mut Coverage, now: Timestamp) {
    open.span = TimeSpan::new(open.span.first(), now.max(open.span.last())).unwrap_or(open.span);
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::*;
    use std::sync::atomic::AtomicBool;

    /// Fails as long as it is told to.
    #[derive(Default)]
    struct Flaky {
        fails: AtomicBool,
        store: guiji_store::MemoryStore,
    }

    impl CoverageStore for Flaky {
        fn keep_coverage(&self, intervals: &[Coverage]) -> Result<Vec<Kept>, StoreError> {
            if self.fails.load(Relaxed) {
                return Err(StoreError::Full { doing: "keep coverage" });
            }
            self.store.keep_coverage(intervals)
        }
        fn coverage(&self, c: &[CameraId], span: TimeSpan) -> Result<Vec<Coverage>, StoreError> {
            self.store.coverage(c, span)
        }
    }

    fn camera() -> Camera {
        Camera {
            id: CameraId::new("k1").unwrap(),
            site: SiteId::new("s").unwrap(),
            name: String::new(),
            position: GeoPoint::new(29.1, 121.4).unwrap(),
            bearing_deg: None,
            address: StreamAddress::new("rtsp://h/p").unwrap(),
            credentials: None,
            transport: Transport::Tcp,
            pace: Pace::RealTime,
            policy: DecodePolicy::Full,
            analysed_fps_max: 25.0,
            recorded_at: None,
            lanes: None,
            substream: None,
            enabled: true,
        }
    }

    fn status(state: CameraState, reason: Option<StatusReason>) -> CameraStatus {
        CameraStatus {
            state,
            since: Timestamp::EPOCH,
            reason,
            detail: String::new(),
            retry_at: None,
        }
    }

    struct Watched {
        keeper: CoverageKeeper,
        clock: Arc<SimulatedClock>,
        store: Arc<Flaky>,
    }

    impl Watched {
        fn new() -> Self {
            let clock = Arc::new(SimulatedClock::at(Timestamp::from_secs(1000)));
            let store = Arc::new(Flaky::default());
            Self { keeper: CoverageKeeper::new(store.clone(), clock.clone()), clock, store }
        }

        fn after(&self, secs: u64, state: CameraState, reason: Option<StatusReason>) {
            self.clock.advance(Duration::from_secs(secs));
            self.keeper.noted(&camera(), &status(state, reason));
        }

        fn written(&self) -> Vec<(i64, i64, CoverageState, String)> {
            let all = self.store.coverage(&[camera().id], TimeSpan::ALL).unwrap();
            let secs = |at: Timestamp| at.as_nanos() / 1_000_000_000 - 1000;
            all.into_iter()
                .map(|c| (secs(c.span.first()), secs(c.span.last()), c.state, c.cause))
                .collect()
        }
    }

    #[test]
    fn a_history_without_holes_until_the_process_dies() {
        use CoverageState::{Blind, Seeing};
        let watched = Watched::new();
        watched.after(0, CameraState::Connecting, None);
        watched.after(5, CameraState::Live, None);
        watched.after(30, CameraState::Live, None);
        watched.after(5, CameraState::Stalled, Some(StatusReason::Silence));
        watched.after(20, CameraState::Live, None);
        watched.clock.advance(Duration::from_secs(12));
        watched.keeper.tend();
        // Killed 9 s later: nothing after 72 s is known.
        watched.clock.advance(Duration::from_secs(9));
        watched.keeper.tend();
        let word = str::to_owned;
        let expected = [
            (0, 5, Blind, word("connecting")),
            (5, 40, Seeing, word("live")),
            (40, 60, Blind, word("silence")),
            (60, 72, Seeing, word("live")),
        ];
        assert_eq!(watched.written(), expected);
        // Stopped in order: everything is.
        watched.keeper.closed(&camera().id);
        watched.keeper.flush();
        assert_eq!(watched.written().last(), Some(&(60, 81, Seeing, word("live"))));
        watched.clock.advance(Duration::from_secs(100));
        watched.keeper.flush();
        assert_eq!(watched.written().len(), 4, "a closed camera has no open interval");
    }

    #[test]
    fn a_store_that_is_down_loses_nothing() {
        let watched = Watched::new();
        watched.store.fails.store(true, Relaxed);
        watched.after(0, CameraState::Live, None);
        watched.after(20, CameraState::Refused, Some(StatusReason::NotAuthorised));
        watched.keeper.tend();
        assert_eq!(watched.written(), []);
        watched.store.fails.store(false, Relaxed);
        watched.clock.advance(Duration::from_secs(10));
        watched.keeper.tend();
        let ends: Vec<_> = watched.written().into_iter().map(|(a, b, ..)| (a, b)).collect();
        assert_eq!(ends, [(0, 20), (20, 30)]);
        assert!(watched.keeper.kept().ended.is_empty());
    }

    #[test]
    fn recordings_have_no_history() {
        let watched = Watched::new();
        let recording = Camera { recorded_at: Some(Timestamp::EPOCH), ..camera() };
        watched.keeper.noted(&recording, &status(CameraState::Live, None));
        watched.keeper.flush();
        assert_eq!(watched.written(), []);
    }
}
