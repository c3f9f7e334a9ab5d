//! Cameras that come and go while everything else runs.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use guiji_analysis::passage::PassageSettings;
use guiji_domain::{
    Camera, CameraControl, CameraHealth, CameraId, CameraRegistry, CameraState, CameraStatus,
    CaptureTime, Clock, ControlError, Feedback, Frame, FrameSink, FrameSource, OpenStream, Opening,
    Pace, Registered, StatusReason, StoreError, StreamCounters, Timestamp,
};
use tracing::{info, warn};

use crate::coverage::{CoverageKeeper, Load, is_live};
use crate::lane::Lane;
use crate::perception::PerceptionCounters;
use crate::slots::{Put, Slots, WhenFull};
use crate::view::{Viewed, seeing};

/// How long a camera that is taken off may take to finish the frame in work.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);
/// Threads that close streams side by side at shutdown: a stream may take two seconds.
const CLOSERS: usize = 16;
/// Most closed cameras that are open for a while at the same time: they were not reckoned with when the machine was
/// chosen.
const OPEN_FOR_A_WHILE_MAX: usize = 32;

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
}

/// So long after its last alert a camera goes before others: a watched vehicle may still be in view.
const URGENT_FOR: Duration = Duration::from_secs(30);

impl Told {
    fn update(&mut self, live_tracks: usize, stream: Option<&dyn OpenStream>) {
        let urgent = self.alerted.is_some_and(|at| at.elapsed() < URGENT_FOR);
        let feedback = Feedback { live_tracks, urgent };
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
        Self { camera, registered, settings, lane, health, stream, told, opening }
    }

    /// As it is registered.
    fn registered(&self) -> Camera {
        lock(&self.registered).clone()
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

    /// A watch-list alert rang here: for a while its pictures are decoded before those of others.
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
        let blind_time = lock(&self.stream).as_ref().map_or(Duration::ZERO, |it| it.blind_time());
        let health = lock(&self.health);
        CameraHealth {
            status: health.status.clone(),
            counters,
            units_per_s: health.units_per_s,
            analysed: health.analysed,
            dropped: health.dropped,
            sightings: health.sightings,
            last_frame: health.last_frame.map(|captured| captured.at),
            last_sighting: health.last_sighting,
            clock_uncertainty: health.last_frame.map(|captured| captured.uncertainty),
            blind_time,
            opening: lock(&self.opening).clone(),
        }
    }
}

/// All cameras by id.
#[derive(Default)]
pub(crate) struct Cells(RwLock<BTreeMap<CameraId, Arc<CameraCell>>>);

impl Cells {
    pub(crate) fn get(&self, id: &CameraId) -> Option<Arc<CameraCell>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn all(&self) -> Vec<Arc<CameraCell>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn insert(&self, cell: Arc<CameraCell>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(cell.camera.id.clone(), cell);
    }

    fn remove(&self, id: &CameraId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(id);
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

impl FrameSink for CameraSink {
    fn frame(&self, frame: Frame) {
        if let Some(viewed) = &self.viewed {
            let mut viewed = lock(viewed);
            if let Some(status) = viewed.shown(&frame, self.clock.now()) {
                self.tell(status);
            }
        }
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
    /// Held while the set changes, so that two callers cannot register the same id.
    changing: Mutex<()>,
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
            changing: Mutex::default(),
        }
    }

    /// Opens a camera that the registry already has.
    ///
    /// # Errors
    /// When one of that id is open, or there are too many.
    pub fn open(&self, camera: Camera) -> Result<(), ControlError> {
        let _changing = lock(&self.changing);
        self.check_room(&camera.id)?;
        self.start(camera);
        Ok(())
    }

    fn check_room(&self, id: &CameraId) -> Result<(), ControlError> {
        if self.cells.get(id).is_some() {
            return Err(ControlError::Exists(id.clone()));
        }
        if self.cells.len() >= self.cameras_max {
            return Err(ControlError::TooMany { limit: self.cameras_max });
        }
        Ok(())
    }

    /// What is to become of one of many cameras, given those already chosen from the same call.
    fn sort_in(
        &self,
        camera: &Camera,
        chosen: &BTreeMap<CameraId, Camera>,
    ) -> Result<Registered, ControlError> {
        let known = self.cells.get(&camera.id).map(|cell| cell.registered());
        match known.as_ref().or(chosen.get(&camera.id)) {
            Some(known) if known == camera => Ok(Registered::Present),
            Some(_) => Err(ControlError::Exists(camera.id.clone())),
            None if self.cells.len() + chosen.len() >= self.cameras_max => {
                Err(ControlError::TooMany { limit: self.cameras_max })
            }
            None => Ok(Registered::New),
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
            viewed: is_live(&cell.camera).then(|| Mutex::new(Viewed::new())),
        };
        self.coverage.noted(&cell.camera, &lock(&cell.health).status);
        let stream = self.source.open(&cell.camera, Arc::new(sink));
        *lock(&cell.stream) = Some(stream);
    }

    /// Closes the cameras whose time is over; to be called about once a second.
    pub(crate) fn close_due(&self) {
        let over = |cell: &Arc<CameraCell>| {
            lock(&cell.opening).as_ref().is_some_and(|it| it.until <= self.clock.now())
        };
        if !self.cells.all().iter().any(over) {
            return;
        }
        let _changing = lock(&self.changing);
        // Looked at again: somebody may have prolonged one, or taken it off, before the lock was had.
        for cell in self.cells.all().into_iter().filter(over) {
            self.stop(&cell);
            info!(camera = %cell.camera.id, "the camera's time is over: closed");
            self.start(cell.registered());
        }
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
        let _changing = lock(&self.changing);
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

    /// Brings the rates up to date; to be called about once a second.
    pub(crate) fn sample_rates(&self) {
        self.cells.all().iter().for_each(|cell| cell.sample_rate());
    }

    /// What became of the pictures of each open camera so far.
    pub(crate) fn loads(&self) -> Vec<(CameraId, Load)> {
        let load = |cell: &Arc<CameraCell>| {
            let shed = cell.counters().shed;
            let health = lock(&cell.health);
            Load { analysed: health.analysed, shed: health.dropped.saturating_add(shed) }
        };
        self.cells.all().iter().map(|cell| (cell.camera.id.clone(), load(cell))).collect()
    }
}

impl CameraControl for Cameras {
    fn register(&self, camera: Camera) -> Result<(), ControlError> {
        let _changing = lock(&self.changing);
        self.check_room(&camera.id)?;
        self.registry.put_camera(&camera)?;
        info!(camera = %camera.id, "camera registered");
        self.start(camera);
        Ok(())
    }

    fn register_all(
        &self,
        cameras: Vec<Camera>,
    ) -> Result<Vec<Result<Registered, ControlError>>, StoreError> {
        let _changing = lock(&self.changing);
        let mut new = BTreeMap::new();
        let outcomes: Vec<_> = cameras
            .into_iter()
            .map(|camera| {
                let outcome = self.sort_in(&camera, &new)?;
                if outcome == Registered::New {
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
        let _changing = lock(&self.changing);
        let id = after.id.clone();
        let cell = self.cells.get(&id).ok_or_else(|| ControlError::NotFound(id.clone()))?;
        if cell.registered() != *before {
            return Err(ControlError::Changed(id));
        }
        if after == *before {
            return Ok(());
        }
        self.registry.put_camera(&after)?;
        let reopened = after.streams_otherwise(before);
        if reopened {
            self.stop(&cell);
            self.start(after); // takes the place of the old cell
        } else {
            *lock(&cell.registered) = after;
        }
        info!(camera = %id, reopened, "camera changed");
        Ok(())
    }

    fn open_until(&self, id: &CameraId, opening: Opening) -> Result<(), ControlError> {
        let _changing = lock(&self.changing);
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
        if open >= OPEN_FOR_A_WHILE_MAX {
            return Err(ControlError::TooManyOpen { limit: OPEN_FOR_A_WHILE_MAX });
        }
        self.stop(&cell);
        info!(camera = %id, until = %opening.until, by = opening.by, "camera opened for a while");
        let running = Camera { enabled: true, ..registered.clone() };
        let opened = CameraCell::new(running, self.settings.clone(), self.clock.now());
        *lock(&opened.registered) = registered;
        *lock(&opened.opening) = Some(opening);
        self.start_cell(opened);
        Ok(())
    }

    fn remove(&self, id: &CameraId) -> Result<(), ControlError> {
        let _changing = lock(&self.changing);
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
        told.update(0, Some(&stream));
        told.update(1, Some(&stream));
        told.update(1, Some(&stream));
        told.alerted = Some(Instant::now());
        told.update(1, Some(&stream));
        told.alerted = Instant::now().checked_sub(URGENT_FOR);
        told.update(0, Some(&stream));
        let heard: Vec<_> = lock(&stream.0).iter().map(|it| (it.live_tracks, it.urgent)).collect();
        assert_eq!(heard, [(1, false), (1, true), (0, false)]);
    }
}
