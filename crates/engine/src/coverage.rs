//! Writes down what the cameras could see, while they do.
//!
//! Each camera has one open interval, that of its present state. It is written again and again with a later end, so
//! that a process that dies leaves it ending a few seconds earlier: what comes then is covered by nothing, which is
//! "unknown".
//!
//! A camera that sees is not enough: what it shows must be analysed and kept. Beside the state's interval there is one
//! of "unknown" from the first time that the store refuses until it takes again, and one while so much is shed that a
//! vehicle may have passed unseen. Intervals may overlap, and the worst of them counts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guiji_domain::{
    Camera, CameraId, CameraStatus, Clock, Coverage, CoverageState, CoverageStore, Pace,
    StatusReason, TimeSpan, Timestamp,
};
use tracing::error;

/// How often open intervals are written, and so how much a crash turns into "unknown".
const EVERY: Duration = Duration::from_secs(10);
/// Most ended intervals that wait for the store. When it is down for longer, the oldest are dropped and counted: their
/// time is "unknown" then.
const WAITING_MAX: usize = 100_000;

/// How long a camera's load is added up before it is judged.
const LOAD_WINDOW: Duration = Duration::from_secs(10);
/// Below so many analysed pictures a second, with more shed than analysed, nobody can say what passed: a vehicle that
/// crosses the view in two seconds is on fewer than four of them, and a passage needs three, a plate one that is near.
const ANALYSED_MIN_PER_S: f64 = 2.0;
/// The first sightings that a store refuses began at most so long before: what was in view then is in doubt too.
const REFUSED_BACK_MAX: Duration = Duration::from_secs(60);

const OVERLOADED: &str = "overloaded";

/// What an interval is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// The state of the camera.
    State,
    /// A store that refuses.
    Store,
    /// Pictures that are shed.
    Load,
}

const LAYERS: [Layer; 3] = [Layer::State, Layer::Store, Layer::Load];

/// Keeps the open intervals.
pub(crate) struct CoverageKeeper {
    store: Arc<dyn CoverageStore>,
    clock: Arc<dyn Clock>,
    kept: Mutex<Intervals>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Intervals {
    open: BTreeMap<(CameraId, Layer), Coverage>,
    ended: VecDeque<Coverage>,
    written: Option<Timestamp>,
    /// Why the store refuses, while it does.
    refused: Option<&'static str>,
    windows: BTreeMap<CameraId, Window>,
}

/// What came of a camera's pictures since the stream was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CameraLoad {
    /// Pictures analysed.
    pub(crate) analysed: u64,
    /// Pictures lost before: not decoded, or replaced by a newer one, because the machine was too slow.
    pub(crate) shed: u64,
}

/// Where the adding-up of a load began.
#[derive(Debug, Clone, Copy)]
struct Window {
    since: Timestamp,
    /// The same, by a clock that nobody sets.
    running: Duration,
    load: CameraLoad,
}

impl CameraLoad {
    /// Whether so much was shed in this time that a vehicle may have passed unseen.
    fn is_too_much(self, time: Duration) -> bool {
        self.shed > self.analysed
            && (self.analysed as f64) < ANALYSED_MIN_PER_S * time.as_secs_f64()
    }
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
        if let Some(open) = kept.open.get(&(camera.id.clone(), Layer::State))
            && state == Some(open.state)
            && open.cause == cause
        {
            return;
        }
        self.end(&mut kept, &camera.id, Layer::State, now);
        match state {
            Some(state) => {
                kept.begin(&camera.id, Layer::State, now, state, cause);
                if let Some(cause) = kept.refused {
                    kept.begin(&camera.id, Layer::Store, now, CoverageState::Unknown, cause);
                }
            }
            // Nothing is said of it any more.
            None => self.end_all(&mut kept, &camera.id, now),
        }
    }

    /// A camera was closed: nobody looks any more.
    pub(crate) fn closed(&self, camera: &CameraId) {
        let now = self.clock.now();
        self.end_all(&mut self.kept(), camera, now);
    }

    /// The store refused sightings, the earliest of which began at `since`: until it takes some again, nobody can say
    /// of any camera what passed.
    pub(crate) fn store_refused(&self, cause: &'static str, since: Timestamp) {
        let now = self.clock.now();
        let mut kept = self.kept();
        if kept.refused.is_some() {
            return;
        }
        kept.refused = Some(cause);
        let since = since.max(now.minus(REFUSED_BACK_MAX)).min(now);
        let states = kept.open.keys().filter(|(_, layer)| *layer == Layer::State);
        let cameras: Vec<_> = states.map(|(camera, _)| camera.clone()).collect();
        for camera in cameras {
            kept.begin(&camera, Layer::Store, since, CoverageState::Unknown, cause);
        }
    }

    /// The store took sightings.
    pub(crate) fn store_took(&self) {
        let mut kept = self.kept();
        if kept.refused.take().is_none() {
            return;
        }
        let now = self.clock.now();
        let refused = kept.open.keys().filter(|(_, layer)| *layer == Layer::Store);
        let cameras: Vec<_> = refused.map(|(camera, _)| camera.clone()).collect();
        for camera in cameras {
            self.end(&mut kept, &camera, Layer::Store, now);
        }
    }

    /// A sighting of a camera was given up: nobody will know of it.
    pub(crate) fn lost(&self, camera: &CameraId, span: TimeSpan) {
        let (state, cause) = (CoverageState::Unknown, "sightings lost".to_owned());
        let lost = Coverage { camera: camera.clone(), span, state, cause };
        self.push_ended(&mut self.kept(), lost);
    }

    /// Takes note of what became of the pictures of cameras that are open, when the engine has run for so long; to be
    /// called about once a second.
    pub(crate) fn loaded(
        &self,
        loads: impl IntoIterator<Item = (CameraId, CameraLoad)>,
        running: Duration,
    ) {
        let now = self.clock.now();
        let mut kept = self.kept();
        for (camera, load) in loads {
            if !kept.open.contains_key(&(camera.clone(), Layer::State)) {
                kept.windows.remove(&camera); // not live
                continue;
            }
            let fresh = Window { since: now, running, load };
            let window = *kept.windows.entry(camera.clone()).or_insert(fresh);
            let so_far = load
                .analysed
                .checked_sub(window.load.analysed)
                .zip(load.shed.checked_sub(window.load.shed))
                .map(|(analysed, shed)| CameraLoad { analysed, shed });
            let Some(so_far) = so_far else {
                kept.windows.insert(camera, fresh); // opened anew: it counts from nothing
                continue;
            };
            let time = running.saturating_sub(window.running);
            if time < LOAD_WINDOW {
                continue;
            }
            if so_far.is_too_much(time) {
                kept.begin(&camera, Layer::Load, window.since, CoverageState::Unknown, OVERLOADED);
            } else {
                self.end(&mut kept, &camera, Layer::Load, window.since);
            }
            kept.windows.insert(camera, fresh);
        }
    }

    fn end_all(&self, kept: &mut Intervals, camera: &CameraId, now: Timestamp) {
        kept.windows.remove(camera);
        for layer in LAYERS {
            self.end(kept, camera, layer, now);
        }
    }

    fn end(&self, kept: &mut Intervals, camera: &CameraId, layer: Layer, now: Timestamp) {
        let Some(mut open) = kept.open.remove(&(camera.clone(), layer)) else { return };
        extend(&mut open, now);
        self.push_ended(kept, open);
    }

    fn push_ended(&self, kept: &mut Intervals, ended: Coverage) {
        kept.ended.push_back(ended);
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

impl Intervals {
    /// Opens an interval, unless one of its kind is open.
    fn begin(
        &mut self,
        camera: &CameraId,
        layer: Layer,
        since: Timestamp,
        state: CoverageState,
        cause: &str,
    ) {
        self.open.entry((camera.clone(), layer)).or_insert_with(|| Coverage {
            camera: camera.clone(),
            span: TimeSpan::at(since),
            state,
            cause: cause.to_owned(),
        });
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
            onvif: None,
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
    fn while_the_store_refuses_nothing_is_claimed_of_any_camera() {
        use CoverageState::{Seeing, Unknown};
        let watched = Watched::new();
        let word = str::to_owned;
        watched.after(0, CameraState::Live, None);
        watched.clock.advance(Duration::from_secs(20));
        watched.keeper.tend();
        // Refused at 20 s, of a vehicle that came into view at 17 s; for an hour.
        let since = Timestamp::from_secs(1017);
        watched.store.fails.store(true, Relaxed);
        watched.keeper.store_refused("disk full", since);
        for _ in 0..360 {
            watched.clock.advance(Duration::from_secs(10));
            watched.keeper.store_refused("disk full", watched.clock.now());
            watched.keeper.tend();
        }
        assert_eq!(watched.written(), [(0, 20, Seeing, word("live"))], "a kill now leaves that");
        watched.store.fails.store(false, Relaxed);
        watched.keeper.store_took();
        watched.clock.advance(Duration::from_secs(10));
        watched.keeper.tend();
        let expected = [(0, 3630, Seeing, word("live")), (17, 3620, Unknown, word("disk full"))];
        assert_eq!(watched.written(), expected);
        // Refused since for ever: a minute at most is taken back. One that comes live meanwhile sees nothing either.
        watched.keeper.store_refused("store failed", Timestamp::EPOCH);
        watched.after(5, CameraState::Stalled, Some(StatusReason::Silence));
        watched.after(5, CameraState::Live, None);
        watched.keeper.closed(&camera().id);
        watched.keeper.flush();
        let unknown: Vec<_> =
            watched.written().into_iter().filter(|(_, _, state, _)| *state == Unknown).collect();
        assert_eq!(unknown.last(), Some(&(3570, 3640, Unknown, word("store failed"))));
        let all = watched.store.coverage(&[camera().id], TimeSpan::ALL).unwrap();
        let span = |first: i64, last: i64| {
            TimeSpan::new(Timestamp::from_secs(1000 + first), Timestamp::from_secs(1000 + last))
                .unwrap()
        };
        assert_eq!(Covered::of(&all, span(17, 3620)).seeing_ns, 0);
        assert_eq!(Covered::of(&all, span(0, 17)).seeing_ns, 17_000_000_000);
    }

    #[test]
    fn what_is_given_up_is_said_to_be_unknown() {
        let watched = Watched::new();
        let span = TimeSpan::new(Timestamp::from_secs(1003), Timestamp::from_secs(1007)).unwrap();
        watched.keeper.lost(&camera().id, span);
        watched.keeper.flush();
        let lost = (3, 7, CoverageState::Unknown, "sightings lost".to_owned());
        assert_eq!(watched.written(), [lost]);
    }

    /// Plays ten seconds a step: pictures analysed and shed in each.
    fn play(steps: &[(u64, u64)]) -> Vec<(i64, i64)> {
        let watched = Watched::new();
        watched.after(0, CameraState::Live, None);
        let (mut analysed, mut shed) = (1000, 500);
        let mut running = Duration::from_secs(77);
        watched.keeper.loaded([(camera().id, CameraLoad { analysed, shed })], running);
        for step in steps {
            (analysed, shed) = (analysed + step.0, shed + step.1);
            for _ in 0..10 {
                watched.clock.advance(Duration::from_secs(1));
                running += Duration::from_secs(1);
                watched.keeper.loaded([(camera().id, CameraLoad { analysed, shed })], running);
            }
        }
        watched.keeper.closed(&camera().id);
        watched.keeper.flush();
        let unknown = watched.written().into_iter().filter(|it| it.2 == CoverageState::Unknown);
        unknown.inspect(|it| assert_eq!(it.3, "overloaded")).map(|it| (it.0, it.1)).collect()
    }

    #[test]
    fn heavy_shedding_is_unknown_and_light_shedding_is_not() {
        // 250 pictures come in ten seconds.
        assert_eq!(play(&[(50, 200), (20, 230), (100, 150)]), [], "five or two a second will do");
        assert_eq!(play(&[(50, 200), (12, 238), (0, 250), (60, 190)]), [(10, 30)]);
        assert_eq!(play(&[(0, 250), (250, 0), (0, 250)]), [(0, 10), (20, 30)]);
        assert_eq!(play(&[(0, 0), (3, 0), (10, 2)]), [], "nothing to analyse, or a still view");
    }

    proptest::proptest! {
        #[test]
        fn an_overload_is_told_exactly_in_its_windows(
            steps in proptest::collection::vec((0..60_u64, 0..300_u64), 1..8),
        ) {
            let told = play(&steps);
            for (at, step) in (0..).zip(&steps) {
                let heavy = CameraLoad { analysed: step.0, shed: step.1 }.is_too_much(LOAD_WINDOW);
                let (first, last) = (at * 10, at * 10 + 10);
                let covered = told.iter().any(|(from, to)| *from <= first && last <= *to);
                proptest::prop_assert_eq!(heavy, covered, "{:?} in {:?}", steps, told);
            }
        }
    }

    #[test]
    fn recordings_have_no_history() {
        let watched = Watched::new();
        let recording = Camera { recorded_at: Some(Timestamp::EPOCH), ..camera() };
        watched.keeper.noted(&recording, &status(CameraState::Live, None));
        watched.keeper.store_refused("disk full", Timestamp::EPOCH);
        watched.keeper.loaded([(camera().id, CameraLoad { analysed: 0, shed: 9 })], Duration::ZERO);
        watched.keeper.flush();
        assert_eq!(watched.written(), []);
    }
}
