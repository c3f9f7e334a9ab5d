//! Cameras that come and go while everything else runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use guiji_analysis::passage::PassageSettings;
use guiji_domain::{
    Camera, CameraControl, CameraHealth, CameraId, CameraRegistry, CameraState, CameraStatus,
    CaptureTime, Clock, ControlError, Feedback, Findings, Frame, FrameSink, FrameSource, GeoPoint,
    KeyframeRhythm, OpenStream, Opening, Pace, ReadRate, Registered, StatusReason, StoreError,
    StreamCounters, Timestamp, View,
};
use tracing::{info, warn};

use crate::coverage::{CameraLoad, CoverageKeeper, is_live};
use crate::keyframes::Wishing;
use crate::lane::Lane;
use crate::load::{Load, LoadLevel, LoadWatch};
use crate::perception::PerceptionCounters;
use crate::reads::in_words;
use crate::slots::{Put, Slots, WhenFull};
use crate::view::{Viewed, seeing};

/// How long a camera that is taken off may take to finish the frame in work.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);
/// Threads that close streams side by side at shutdown: a stream may take two seconds.
const CLOSERS: usize = 16;

/// A camera with everything that belongs to it alone.
pub(crate) struct CameraCell {
    /// As its stream was opened.
    pub(crate) camera: Camera,
    /// As it is registered: edits that leave the stream alone are here only.
    registered: Mutex<Camera>,
    settings: PassageSettings,
    lane: Mutex<Lane>,
    health: Mutex<Health>,
    stream: Mutex<Option<Box<dyn OpenStream>>>,
    /// What the stream was told last.
    told: Mutex<Told>,
    /// Where a camera that is registered as closed is open for a while.
    opening: Mutex<Option<Opening>>,
    wishing: Mutex<Wishing>,
    reads: Mutex<Option<ReadRate>>,
}

struct Health {
    status: CameraStatus,
    /// Of streams already closed.
    closed_counters: StreamCounters,
    analysed: u64,
    dropped: u64,
    sightings: u64,
    last_frame: Option<CaptureTime>,
    last_sighting: Option<Timestamp>,
    sampled: (Instant, u64),
    units_per_s: f64,
}

/// What the stream was told, and what that rests on.
#[derive(Default)]
struct Told {
    feedback: Feedback,
    alerted: Option<Instant>,
    /// Somebody had the camera opened to watch it.
    watched: bool,
    /// Analysis cannot keep up.
    sparing: bool,
}

/// So long after its last alert a camera goes before others: a watched vehicle may still be in view.
const URGENT_FOR: Duration = Duration::from_secs(30);

impl Told {
    fn update(&mut self, live_tracks: usize, stream: Option<&dyn OpenStream>) {
        let alerted = self.alerted.is_some_and(|at| at.elapsed() < URGENT_FOR);
        let urgent = alerted || self.watched;
        let feedback = Feedback { live_tracks, urgent, sparing: self.sparing && !urgent };
        if self.feedback != feedback
            && let Some(stream) = stream
        {
            stream.feedback(feedback);
        }
        self.feedback = feedback;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic is caught where it happens and the lane behind it replaced, so a poisoned value is never used on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CameraCell {
    fn new(camera: Camera, settings: PassageSettings, now: Timestamp) -> Self {
        let state = if camera.enabled { CameraState::Connecting } else { CameraState::Disabled };
        let lane = Mutex::new(Lane::new(&settings, &camera));
        let status =
            CameraStatus { state, since: now, reason: None, detail: String::new(), retry_at: None };
        let health = Health {
            status,
            closed_counters: StreamCounters::default(),
            analysed: 0,
            dropped: 0,
            sightings: 0,
            last_frame: None,
            last_sighting: None,
            sampled: (Instant::now(), 0),
            units_per_s: 0.0,
        };
        let registered = Mutex::new(camera.clone());
        let opening = Mutex::new(None);
        let (health, stream) = (Mutex::new(health), Mutex::new(None));
        let told = Mutex::new(Told::default());
        let (wishing, reads) = (Mutex::default(), Mutex::default());
        Self { camera, registered, settings, lane, health, stream, told, opening, wishing, reads }
    }

    /// Its wishes for keyframes.
    pub(crate) fn wishing(&self) -> MutexGuard<'_, Wishing> {
        lock(&self.wishing)
    }

    /// How its keyframes come and what has come, where it can be asked for them.
    pub(crate) fn keyframes_to_ask_for(&self) -> Option<(KeyframeRhythm, StreamCounters)> {
        if !is_live(&self.camera) || lock(&self.registered).onvif.is_none() {
            return None;
        }
        let stream = lock(&self.stream);
        let stream = stream.as_ref()?;
        Some((stream.keyframes(), stream.counters()))
    }

    /// Whether it is open, and its pictures are of the present.
    pub(crate) fn is_live(&self) -> bool {
        self.camera.enabled && is_live(&self.camera)
    }

    /// Takes note of how many plates it reads; what was noted before.
    pub(crate) fn reads_at(&self, rate: Option<ReadRate>) -> Option<ReadRate> {
        std::mem::replace(&mut *lock(&self.reads), rate)
    }

    /// As it is registered.
    pub(crate) fn registered(&self) -> Camera {
        lock(&self.registered).clone()
    }

    /// Where it stands, as it is registered: moving it leaves the stream alone.
    pub(crate) fn position(&self) -> GeoPoint {
        lock(&self.registered).position
    }

    pub(crate) fn lane(&self) -> MutexGuard<'_, Lane> {
        lock(&self.lane)
    }

    /// Begins anew after a panic.
    pub(crate) fn restart_lane(&self) {
        *lock(&self.lane) = Lane::new(&self.settings, &self.camera);
        let mut health = lock(&self.health);
        health.status.reason = Some(StatusReason::Panicked);
        health.status.detail = "the analysis of this camera failed and was started anew".into();
    }

    pub(crate) fn analysed(&self, captured: CaptureTime) {
        let mut health = lock(&self.health);
        health.analysed += 1;
        health.last_frame = Some(captured);
    }

    /// Tells the stream how many vehicles are being followed, so that it decodes no more than is needed.
    pub(crate) fn follows(&self, live_tracks: usize) {
        let mut told = lock(&self.told);
        told.update(live_tracks, lock(&self.stream).as_deref());
    }

    /// Tells the stream what was found in a frame.
    pub(crate) fn detected(&self, frame: &Frame, findings: Findings) {
        if let Some(stream) = lock(&self.stream).as_deref() {
            stream.detected(frame, findings);
        }
    }

    /// Tells the stream that its frame was taken: there is room for the next.
    pub(crate) fn taken(&self) {
        if let Some(stream) = lock(&self.stream).as_deref() {
            stream.room();
        }
    }

    /// Whether somebody waits for what it sees.
    fn is_urgent(&self) -> bool {
        lock(&self.told).feedback.urgent
    }

    /// Whether analysis cannot keep up.
    fn spare(&self, sparing: bool) {
        let mut told = lock(&self.told);
        told.sparing = sparing;
        let live_tracks = told.feedback.live_tracks;
        told.update(live_tracks, lock(&self.stream).as_deref());
    }

    /// A watch-list alert rang here: for a while its pictures come before those of others.
    pub(crate) fn alerted(&self) {
        let mut told = lock(&self.told);
        told.alerted = Some(Instant::now());
        let live_tracks = told.feedback.live_tracks;
        told.update(live_tracks, lock(&self.stream).as_deref());
    }

    pub(crate) fn sighted(&self, captured: Timestamp) {
        let mut health = lock(&self.health);
        health.sightings += 1;
        health.last_sighting = Some(captured);
    }

    fn counters(&self) -> StreamCounters {
        match lock(&self.stream).as_ref() {
            Some(stream) => stream.counters(),
            None => lock(&self.health).closed_counters,
        }
    }

    fn close_stream(&self) {
        let stream = lock(&self.stream).take();
        if let Some(stream) = stream {
            let counters = stream.counters();
            lock(&self.health).closed_counters = counters;
            // Waits until the sink is not called any more: must not hold a lock that the sink takes.
            drop(stream);
        }
    }

    fn sample_rate(&self) {
        let units = self.counters().units;
        let mut health = lock(&self.health);
        let (then, before) = health.sampled;
        let elapsed = then.elapsed().as_secs_f64();
        if elapsed > 0.0 {
            let rate = units.saturating_sub(before) as f64 / elapsed;
            // About three seconds of memory at one sample a second.
            health.units_per_s += (rate - health.units_per_s) * 0.3;
            health.sampled = (Instant::now(), units);
        }
    }

    fn health(&self) -> CameraHealth {
        let counters = self.counters();
        let (blind_time, keyframes) = match lock(&self.stream).as_ref() {
            Some(stream) => (stream.blind_time(), stream.keyframes()),
            None => Default::default(),
        };
        let (wishes, trouble) = {
            let wishing = self.wishing();
            (wishing.counts(), wishing.trouble())
        };
        let reads = *lock(&self.reads);
        let health = lock(&self.health);
        let mut status = health.status.clone();
        if seeing(status.state) {
            let few = reads.filter(|it| it.too_few).map(|it| in_words(&it));
            if few.is_some() {
                status.reason.get_or_insert(StatusReason::FewReads);
            }
            let said = [Some(std::mem::take(&mut status.detail)), few, trouble];
            let said = said.into_iter().flatten().filter(|it| !it.is_empty());
            status.detail = said.collect::<Vec<_>>().join("; ");
        }
        CameraHealth {
            status,
            counters,
            units_per_s: health.units_per_s,
            analysed: health.analysed,
            dropped: health.dropped,
            sightings: health.sightings,
            last_frame: health.last_frame.map(|captured| captured.at),
            last_sighting: health.last_sighting,
            clock_uncertainty: health.last_frame.map(|captured| captured.uncertainty),
            blind_time,
            keyframes,
            wishes,
            reads,
            opening: lock(&self.opening).clone(),
        }
    }
}

/// Where cameras stand, by id.
type Places = Arc<[(CameraId, GeoPoint)]>;

/// All cameras by id.
#[derive(Default)]
pub(crate) struct Cells {
    held: RwLock<Held>,
    /// Where they stand, once somebody asked and until something changes.
    places: Mutex<Option<Places>>,
}

#[derive(Default)]
struct Held {
    by_id: BTreeMap<CameraId, Arc<CameraCell>>,
    /// What the streams delivered of cameras that were removed or edited since: totals never fall.
    gone: StreamCounters,
}

impl Held {
    fn let_go(&mut self, cell: Option<Arc<CameraCell>>) {
        self.gone = cell.map_or(self.gone, |cell| self.gone.plus(cell.counters()));
    }
}

impl Cells {
    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &CameraId) -> Option<Arc<CameraCell>> {
        self.read().by_id.get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<CameraCell>> {
        self.read().by_id.values().cloned().collect()
    }

    fn totals(&self) -> StreamCounters {
        let held = self.read();
        held.by_id.values().fold(held.gone, |sum, cell| sum.plus(cell.counters()))
    }

    fn insert(&self, cell: Arc<CameraCell>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let before = held.by_id.insert(cell.camera.id.clone(), cell);
        held.let_go(before);
        drop(held);
        *lock(&self.places) = None;
    }

    fn remove(&self, id: &CameraId) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let removed = held.by_id.remove(id);
        held.let_go(removed);
        drop(held);
        *lock(&self.places) = None;
    }

    /// Puts another registration in the place of a camera's, whose stream goes on.
    fn register_anew(&self, cell: &CameraCell, camera: Camera) {
        *lock(&cell.registered) = camera;
        *lock(&self.places) = None;
    }

    fn places(&self) -> Places {
        // Held while they are gathered, so that what changes meanwhile is forgotten afterwards.
        let mut places = lock(&self.places);
        let gathered = || {
            let all = self.all();
            all.iter().map(|cell| (cell.camera.id.clone(), cell.position())).collect()
        };
        Arc::clone(places.get_or_insert_with(gathered))
    }
}

/// The cameras that are being changed just now, each by one caller. Closing a stream takes seconds: whoever changes
/// another camera must not wait for it.
#[derive(Default)]
struct Changing {
    now: Mutex<InChange>,
    done: Condvar,
}

#[derive(Default)]
struct InChange {
    ids: BTreeSet<CameraId>,
    all: bool,
}

/// A camera, or all of them, that nobody else changes meanwhile.
struct Change<'a> {
    changing: &'a Changing,
    /// `None`: all.
    id: Option<CameraId>,
}

impl Changing {
    /// Waits until nobody else changes this camera.
    fn begin(&self, id: &CameraId) -> Change<'_> {
        let mut now = lock(&self.now);
        while now.all || now.ids.contains(id) {
            now = self.done.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        now.ids.insert(id.clone());
        Change { changing: self, id: Some(id.clone()) }
    }

    /// Waits until nobody else changes any camera.
    fn begin_all(&self) -> Change<'_> {
        let mut now = lock(&self.now);
        while now.all || !now.ids.is_empty() {
            now = self.done.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        now.all = true;
        Change { changing: self, id: None }
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut now = lock(&self.changing.now);
        match &self.id {
            Some(id) => _ = now.ids.remove(id),
            None => now.all = false,
        }
        self.changing.done.notify_all();
    }
}

/// How many cameras are registered.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Census {
    /// Always open.
    enabled: usize,
    /// Streams that these have.
    streams: usize,
    /// Opened for a while at most.
    closed: usize,
    /// Of these, such as have two streams.
    closed_with_two: usize,
}

impl Census {
    fn with(self, camera: &Camera) -> Self {
        let (enabled, closed) = (usize::from(camera.enabled), usize::from(!camera.enabled));
        Self {
            enabled: self.enabled + enabled,
            streams: self.streams + enabled * camera.streams(),
            closed: self.closed + closed,
            closed_with_two: self.closed_with_two + closed * (camera.streams() - 1),
        }
    }

    fn without(self, camera: &Camera) -> Self {
        let (enabled, closed) = (usize::from(camera.enabled), usize::from(!camera.enabled));
        Self {
            enabled: self.enabled - enabled,
            streams: self.streams - enabled * camera.streams(),
            closed: self.closed - closed,
            closed_with_two: self.closed_with_two - closed * (camera.streams() - 1),
        }
    }
}

/// What the stream of one camera talks to.
struct CameraSink {
    cell: Arc<CameraCell>,
    slots: Arc<Slots>,
    counters: Arc<PerceptionCounters>,
    coverage: Arc<CoverageKeeper>,
    when_full: WhenFull,
    clock: Arc<dyn Clock>,
    load: Arc<LoadLevel>,
    /// The last frame that was put while some are given up.
    spared: Mutex<Option<Duration>>,
    /// The watchdog of the view; recordings have none.
    viewed: Option<Mutex<Viewed>>,
}

impl CameraSink {
    /// Takes note of the camera's status and tells whoever needs to know.
    fn tell(&self, status: CameraStatus) {
        let camera = &self.cell.camera.id;
        let before = std::mem::replace(&mut lock(&self.cell.health).status, status.clone());
        self.coverage.noted(&self.cell.camera, &status);
        if before.state != status.state || before.reason != status.reason {
            let reason = status.reason.map_or("", StatusReason::as_str);
            if matches!(status.state, CameraState::Live | CameraState::Ended) {
                info!(%camera, state = %status.state, reason, detail = status.detail, "camera state");
            } else {
                warn!(%camera, state = %status.state, reason, detail = status.detail, "camera state");
            }
        }
        if seeing(before.state) && !seeing(status.state) {
            // No more frames of use for now: what was in view has passed.
            self.slots.flush(camera);
        }
    }
}

/// Between two frames of a camera while some are given up.
const FEWER_LOOKS: Duration = Duration::from_millis(250);

impl CameraSink {
    /// Whether the frame is given up because analysis cannot keep up.
    fn is_given_up(&self, frame: &Frame, urgent: bool) -> bool {
        let gives = self.when_full == WhenFull::ReplaceOlder && frame.view != View::Asked;
        if self.load.get() == Load::Normal || urgent || !gives {
            return false;
        }
        let mut last = lock(&self.spared);
        let early = |it: Duration| frame.pts >= it && frame.pts - it < FEWER_LOOKS;
        let given_up = last.is_some_and(early);
        if !given_up {
            *last = Some(frame.pts);
        }
        given_up
    }
}

impl FrameSink for CameraSink {
    fn frame(&self, frame: Frame) {
        if let Some(viewed) = &self.viewed {
            let mut viewed = lock(viewed);
            if let Some(status) = viewed.shown(&frame, self.clock.now()) {
                self.tell(status);
            }
        }
        let urgent = self.cell.is_urgent();
        if self.is_given_up(&frame, urgent) {
            self.counters.given_up.fetch_add(1, Relaxed);
            return;
        }
        self.slots.set_urgent(&frame.camera, urgent);
        match self.slots.put(frame, self.when_full) {
            Put::Waiting => {}
            Put::Replaced => {
                lock(&self.cell.health).dropped += 1;
                self.counters.replaced.fetch_add(1, Relaxed);
            }
            Put::Closed => {
                self.counters.late.fetch_add(1, Relaxed);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.slots.has_room(&self.cell.camera.id)
    }

    fn status(&self, _: &CameraId, status: CameraStatus) {
        match &self.viewed {
            // Held while telling, so that what the stream and the pictures say is told in its order.
            Some(viewed) => {
                let mut viewed = lock(viewed);
                self.tell(viewed.stream_says(status));
            }
            None => self.tell(status),
        }
    }
}

/// Opens, closes and describes cameras.
pub struct Cameras {
    pub(crate) cells: Arc<Cells>,
    slots: Arc<Slots>,
    counters: Arc<PerceptionCounters>,
    coverage: Arc<CoverageKeeper>,
    source: Arc<dyn FrameSource>,
    registry: Arc<dyn CameraRegistry>,
    clock: Arc<dyn Clock>,
    settings: PassageSettings,
    cameras_max: usize,
    opened_max: usize,
    /// Held while cameras are added, so that two callers cannot pass a limit together. Nothing slow is done with it.
    adding: Mutex<()>,
    changing: Changing,
    load: Arc<LoadLevel>,
    load_watch: Mutex<LoadWatch>,
}

pub(crate) struct CamerasParts {
    pub(crate) cells: Arc<Cells>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) counters: Arc<PerceptionCounters>,
    pub(crate) coverage: Arc<CoverageKeeper>,
    pub(crate) source: Arc<dyn FrameSource>,
    pub(crate) registry: Arc<dyn CameraRegistry>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: PassageSettings,
    pub(crate) cameras_max: usize,
    pub(crate) opened_max: usize,
}

impl Cameras {
    pub(crate) fn new(parts: CamerasParts) -> Self {
        let CamerasParts {
            cells,
            slots,
            counters,
            coverage,
            source,
            registry,
            clock,
            settings,
            cameras_max,
            opened_max,
        } = parts;
        Self {
            cells,
            slots,
            counters,
            coverage,
            source,
            registry,
            clock,
            settings,
            cameras_max,
            opened_max,
            adding: Mutex::default(),
            changing: Changing::default(),
            load: Arc::default(),
            load_watch: Mutex::default(),
        }
    }

    /// Opens a camera that the registry already has.
    ///
    /// # Errors
    /// When one of that id is open, or there are too many.
    pub fn open(&self, camera: Camera) -> Result<(), ControlError> {
        let _change = self.changing.begin(&camera.id);
        let _adding = lock(&self.adding);
        self.check_new(&camera)?;
        self.start(camera);
        Ok(())
    }

    /// Whether all of these may be opened, before the first of them is.
    ///
    /// # Errors
    /// When there are too many, or this machine does not let so many be open at the same time.
    pub fn check_room_for<'a>(
        &self,
        cameras: impl IntoIterator<Item = &'a Camera>,
    ) -> Result<(), ControlError> {
        self.check_room(cameras.into_iter().fold(self.census(), Census::with))
    }

    fn check_new(&self, camera: &Camera) -> Result<(), ControlError> {
        if self.cells.get(&camera.id).is_some() {
            return Err(ControlError::Exists(camera.id.clone()));
        }
        self.check_room(self.census().with(camera))
    }

    /// Whether so many cameras may be registered, and those of them be open that then may be at the same time.
    fn check_room(&self, census: Census) -> Result<(), ControlError> {
        if census.enabled + census.closed > self.cameras_max {
            return Err(ControlError::TooMany { limit: self.cameras_max });
        }
        let opened = |closed: usize| closed.min(self.opened_max);
        let open = census.streams + opened(census.closed) + opened(census.closed_with_two);
        self.source.make_room(open).map_err(ControlError::NoRoom)
    }

    fn census(&self) -> Census {
        let cells = self.cells.all();
        cells.iter().fold(Census::default(), |sum, cell| sum.with(&lock(&cell.registered)))
    }

    /// What is to become of one of many cameras, given those already chosen from the same call; `census` is of these
    /// and of those registered.
    fn sort_in(
        &self,
        camera: &Camera,
        chosen: &BTreeMap<CameraId, Camera>,
        census: Census,
    ) -> Result<Registered, ControlError> {
        let known = self.cells.get(&camera.id).map(|cell| cell.registered());
        match known.as_ref().or(chosen.get(&camera.id)) {
            Some(known) if known == camera => Ok(Registered::Present),
            Some(_) => Err(ControlError::Exists(camera.id.clone())),
            None => self.check_room(census.with(camera)).map(|()| Registered::New),
        }
    }

    fn start(&self, camera: Camera) {
        self.start_cell(CameraCell::new(camera, self.settings.clone(), self.clock.now()));
    }

    fn start_cell(&self, cell: CameraCell) {
        let cell = Arc::new(cell);
        self.slots.open(&cell.camera.id);
        self.cells.insert(cell.clone());
        if !cell.camera.enabled {
            return;
        }
        let when_full = match cell.camera.pace {
            Pace::RealTime => WhenFull::ReplaceOlder,
            Pace::AsFastAsPossible => WhenFull::Block,
        };
        let sink = CameraSink {
            cell: cell.clone(),
            slots: self.slots.clone(),
            counters: self.counters.clone(),
            coverage: self.coverage.clone(),
            when_full,
            clock: self.clock.clone(),
            load: self.load.clone(),
            spared: Mutex::default(),
            viewed: is_live(&cell.camera).then(|| Mutex::new(Viewed::new())),
        };
        self.coverage.noted(&cell.camera, &lock(&cell.health).status);
        let stream = self.source.open(&cell.camera, Arc::new(sink));
        lock(&cell.told).update(0, Some(&*stream));
        *lock(&cell.stream) = Some(stream);
        cell.spare(self.load.get() == Load::FewerPictures); // and it may be urgent from the beginning
    }

    /// What the streams of all cameras delivered since the start, those of cameras removed or edited since included.
    pub fn stream_totals(&self) -> StreamCounters {
        self.cells.totals()
    }

    /// Closes the cameras whose time is over; to be called about once a second.
    pub(crate) fn close_due(&self) {
        let over = |cell: &CameraCell| {
            lock(&cell.opening).as_ref().is_some_and(|it| it.until <= self.clock.now())
        };
        let due: Vec<_> = self.cells.all().into_iter().filter(|cell| over(cell)).collect();
        thread::scope(|scope| {
            for id in due.iter().map(|cell| &cell.camera.id) {
                scope.spawn(move || {
                    let _change = self.changing.begin(id);
                    // Looked at again: somebody may have prolonged it, or taken it off meanwhile.
                    let Some(cell) = self.cells.get(id).filter(|cell| over(cell)) else { return };
                    self.stop(&cell);
                    info!(camera = %id, "the camera's time is over: closed");
                    self.start(cell.registered());
                });
            }
        });
    }

    /// Closes the stream of one camera and lets the tracks in view end.
    fn stop(&self, cell: &CameraCell) {
        let id = &cell.camera.id;
        cell.close_stream();
        self.coverage.closed(id);
        self.slots.flush(id);
        if !self.slots.wait_idle(id, REMOVAL_PATIENCE) {
            warn!(camera = %id, "camera closed while a frame was still in work");
        }
        self.slots.close(id);
    }

    /// Closes every stream and lets the tracks in view end. The cameras stay registered.
    pub(crate) fn close_all(&self) {
        let _change = self.changing.begin_all();
        let _adding = lock(&self.adding);
        let cells = self.cells.all();
        // A recording that waits for room must be let go before its stream can be closed.
        self.slots.shut();
        thread::scope(|scope| {
            for share in cells.chunks(cells.len().div_ceil(CLOSERS).max(1)) {
                scope.spawn(move || share.iter().for_each(|cell| cell.close_stream()));
            }
        });
        for cell in &cells {
            self.coverage.closed(&cell.camera.id);
            self.slots.flush(&cell.camera.id);
        }
    }

    /// How much is being given up because analysis cannot keep up.
    pub fn load(&self) -> Load {
        self.load.get()
    }

    /// Brings the rates up to date, and what is given up; to be called about once a second.
    pub(crate) fn sample_rates(&self) {
        let cells = self.cells.all();
        cells.iter().for_each(|cell| cell.sample_rate());
        let counts = self.counters.counts();
        let mut watch = lock(&self.load_watch);
        if watch.sample(&self.load, counts.analysed, counts.replaced) {
            let load = self.load.get();
            warn!(?load, "analysis is behind, or no longer: what is given up has changed");
            cells.iter().for_each(|cell| cell.spare(load == Load::FewerPictures));
        }
    }

    /// What became of the pictures of each open camera so far.
    pub(crate) fn loads(&self) -> Vec<(CameraId, CameraLoad)> {
        let load = |cell: &Arc<CameraCell>| {
            let shed = cell.counters().shed;
            let health = lock(&cell.health);
            CameraLoad { analysed: health.analysed, shed: health.dropped.saturating_add(shed) }
        };
        self.cells.all().iter().map(|cell| (cell.camera.id.clone(), load(cell))).collect()
    }
}

impl CameraControl for Cameras {
    fn register(&self, camera: Camera) -> Result<(), ControlError> {
        let _change = self.changing.begin(&camera.id);
        let _adding = lock(&self.adding);
        self.check_new(&camera)?;
        self.registry.put_camera(&camera)?;
        info!(camera = %camera.id, "camera registered");
        self.start(camera);
        Ok(())
    }

    fn register_all(
        &self,
        cameras: Vec<Camera>,
    ) -> Result<Vec<Result<Registered, ControlError>>, StoreError> {
        let _adding = lock(&self.adding);
        let (mut new, mut census) = (BTreeMap::new(), self.census());
        let outcomes: Vec<_> = cameras
            .into_iter()
            .map(|camera| {
                let outcome = self.sort_in(&camera, &new, census)?;
                if outcome == Registered::New {
                    census = census.with(&camera);
                    new.insert(camera.id.clone(), camera);
                }
                Ok(outcome)
            })
            .collect();
        let new: Vec<_> = new.into_values().collect();
        self.registry.put_cameras(&new)?;
        info!(cameras = new.len(), "cameras registered");
        new.into_iter().for_each(|camera| self.start(camera));
        Ok(outcomes)
    }

    fn update(&self, before: &Camera, after: Camera) -> Result<(), ControlError> {
        let id = after.id.clone();
        let _change = self.changing.begin(&id);
        let cell = self.cells.get(&id).ok_or_else(|| ControlError::NotFound(id.clone()))?;
        if cell.registered() != *before {
            return Err(ControlError::Changed(id));
        }
        if after == *before {
            return Ok(());
        }
        if after.enabled && (!before.enabled || after.streams() > before.streams()) {
            self.check_room(self.census().without(before).with(&after))?;
        }
        self.registry.put_camera(&after)?;
        let reopened = after.streams_otherwise(before);
        if reopened {
            self.stop(&cell);
            self.start(after); // takes the place of the old cell
        } else {
            self.cells.register_anew(&cell, after);
        }
        info!(camera = %id, reopened, "camera changed");
        Ok(())
    }

    fn open_until(&self, id: &CameraId, opening: Opening) -> Result<(), ControlError> {
        let _change = self.changing.begin(id);
        let _adding = lock(&self.adding);
        let cell = self.cells.get(id).ok_or_else(|| ControlError::NotFound(id.clone()))?;
        let registered = cell.registered();
        if registered.enabled {
            return Err(ControlError::AlwaysOpen(id.clone()));
        }
        if let Some(known) = &mut *lock(&cell.opening) {
            *known = Opening { until: known.until.max(opening.until), by: opening.by };
            return Ok(());
        }
        let open = self.cells.all().iter().filter(|cell| lock(&cell.opening).is_some()).count();
        if open >= self.opened_max {
            return Err(ControlError::TooManyOpen { limit: self.opened_max });
        }
        self.stop(&cell);
        info!(camera = %id, until = %opening.until, by = opening.by, "camera opened for a while");
        let running = Camera { enabled: true, ..registered.clone() };
        let opened = CameraCell::new(running, self.settings.clone(), self.clock.now());
        *lock(&opened.registered) = registered;
        *lock(&opened.opening) = Some(opening);
        lock(&opened.told).watched = true;
        self.start_cell(opened);
        Ok(())
    }

    fn remove(&self, id: &CameraId) -> Result<(), ControlError> {
        let _change = self.changing.begin(id);
        let cell = self.cells.get(id).ok_or_else(|| ControlError::NotFound(id.clone()))?;
        self.registry.remove_camera(id)?;
        self.stop(&cell);
        self.cells.remove(id);
        info!(camera = %id, "camera removed");
        Ok(())
    }

    fn list(&self) -> Vec<(Camera, CameraHealth)> {
        self.cells.all().iter().map(|cell| (cell.registered(), cell.health())).collect()
    }

    fn places(&self) -> Places {
        self.cells.places()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<Feedback>>);

    impl OpenStream for Heard {
        fn counters(&self) -> StreamCounters {
            StreamCounters::default()
        }
        fn feedback(&self, feedback: Feedback) {
            lock(&self.0).push(feedback);
        }
    }

    #[test]
    fn a_stream_hears_what_changed_and_goes_first_for_a_while_after_an_alert() {
        let (stream, mut told) = (Heard::default(), Told::default());
        told.watched = true;
        told.update(0, Some(&stream));
        told.watched = false;
        told.update(1, Some(&stream));
        told.update(1, Some(&stream));
        told.alerted = Some(Instant::now());
        told.update(1, Some(&stream));
        told.alerted = Instant::now().checked_sub(URGENT_FOR);
        told.update(0, Some(&stream));
        let heard: Vec<_> = lock(&stream.0).iter().map(|it| (it.live_tracks, it.urgent)).collect();
        assert_eq!(heard, [(0, true), (1, false), (1, true), (0, false)]);
    }
}
