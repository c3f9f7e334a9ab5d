//! Starting, watching and draining the whole.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use guiji_analysis::passage::PassageSettings;
use guiji_domain::{
    AlertLog, CameraId, CameraRegistry, Clock, CoverageStore, Detector, FrameSource, KeyframeAsker,
    PassageSource, PatrolUnits, PictureEncoder, PlateReader, Sighting, SightingStore, StoreError,
    Watchlist,
};
use tokio::sync::{broadcast, watch};
use tracing::{info, warn};

use crate::cameras::{Cameras, CamerasParts, Cells};
use crate::coverage::CoverageKeeper;
use crate::intake::{Intake, IntakeCounts, IntakeParts};
use crate::keyframes::{KeyframeKeeper, KeyframeSettings, WishCounters, WishCounts};
use crate::lane::EvidenceSettings;
use crate::patrol::PatrolBook;
use crate::perception::{Perception, PerceptionCounters, PerceptionCounts};
use crate::reads::ReadKeeper;
use crate::recorder::{Recorder, RecorderCounters, RecorderCounts};
use crate::slots::Slots;
use crate::watchbook::WatchBook;

/// What a user may choose.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Perception threads: one a core that analysis may have.
    pub workers: usize,
    /// Most frames in a batch, each of another camera.
    pub batch_max: usize,
    /// How long a batch waits to fill.
    pub batch_linger: Duration,
    /// Most passages waiting for the recorder; when full, analysis waits.
    pub record_queue: usize,
    /// Most sightings a slow live listener may be behind before it misses some (it is told).
    pub live_queue: usize,
    /// The same plate at the same camera within this time repeats an alert, and rings nothing new; zero for never.
    pub repeat_within: Duration,
    /// Most cameras registered, closed ones included.
    pub cameras_max: usize,
    /// Most closed cameras open for a while at the same time: they are not reckoned with when a machine is chosen.
    pub opened_max: usize,
    /// Which pictures are kept.
    pub evidence: EvidenceSettings,
    /// How tracks become sightings.
    pub passages: PassageSettings,
    /// When cameras are asked for keyframes.
    pub keyframes: KeyframeSettings,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            workers: thread::available_parallelism().map_or(1, usize::from),
            batch_max: 4,
            batch_linger: Duration::from_millis(2),
            record_queue: 64,
            live_queue: 1024,
            repeat_within: Duration::from_secs(30),
            cameras_max: 20_000,
            opened_max: 32,
            evidence: EvidenceSettings::default(),
            passages: PassageSettings::default(),
            keyframes: KeyframeSettings::default(),
        }
    }
}

/// The parts behind the seams.
#[derive(Clone)]
pub struct EngineParts {
    /// Opens cameras.
    pub source: Arc<dyn FrameSource>,
    /// Finds vehicles.
    pub detector: Arc<dyn Detector>,
    /// Reads plates.
    pub reader: Arc<dyn PlateReader>,
    /// Encodes evidence.
    pub encoder: Arc<dyn PictureEncoder>,
    /// Keeps sightings.
    pub store: Arc<dyn SightingStore>,
    /// Keeps alerts; the same store.
    pub alerts: Arc<dyn AlertLog>,
    /// Keeps the watch-list.
    pub watchlist: Arc<dyn Watchlist>,
    /// Keeps the patrol units.
    pub patrols: Arc<dyn PatrolUnits>,
    /// Keeps the cameras.
    pub registry: Arc<dyn CameraRegistry>,
    /// Keeps what the cameras could see.
    pub coverage: Arc<dyn CoverageStore>,
    /// Tells what was read in earlier weeks; the same store.
    pub read_before: Arc<dyn PassageSource>,
    /// Asks cameras for keyframes; `None`: nobody does.
    pub keyframes: Option<Arc<dyn KeyframeAsker>>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// A running engine.
pub struct Engine {
    cameras: Arc<Cameras>,
    slots: Arc<Slots>,
    watchbook: Arc<WatchBook>,
    patrolbook: Arc<PatrolBook>,
    perception: Arc<PerceptionCounters>,
    recorder: Arc<RecorderCounters>,
    intake: Arc<Intake>,
    coverage: Arc<CoverageKeeper>,
    give_up: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    recorder_thread: JoinHandle<()>,
    wishes: Arc<WishCounters>,
    /// Threads that go on until what they listen to is gone: rates, wishes for keyframes, what is usual.
    stop_sampling: Vec<SyncSender<()>>,
    samplers: Vec<JoinHandle<()>>,
}

/// What the engine did since its start.
#[derive(Clone)]
pub struct EngineCounts {
    perception: Arc<PerceptionCounters>,
    recorder: Arc<RecorderCounters>,
    intake: Arc<Intake>,
    wishes: Arc<WishCounters>,
}

impl EngineCounts {
    /// Wishes for keyframes.
    pub fn wishes(&self) -> WishCounts {
        self.wishes.counts()
    }

    /// The perception path.
    pub fn perception(&self) -> PerceptionCounts {
        self.perception.counts()
    }

    /// The recorder.
    pub fn recorder(&self) -> RecorderCounts {
        self.recorder.counts()
    }

    /// What was stored, whoever brought it.
    pub fn intake(&self) -> IntakeCounts {
        self.intake.counts()
    }
}

/// What a drain left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Sightings that could not be stored before the deadline.
    pub sightings_lost: u64,
    /// Whether everything ended in time.
    pub in_time: bool,
}

pub(crate) fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name).spawn(work).expect("the system starts threads")
}

impl Engine {
    /// Starts the threads, after ending what an earlier run left in view. No camera is opened yet: see
    /// [`Cameras::open`].
    ///
    /// # Errors
    /// When the watch-list or the alert log cannot be read, or what was left cannot be ended.
    pub fn start(parts: EngineParts, settings: EngineSettings) -> Result<Self, StoreError> {
        let slots = Arc::new(Slots::default());
        let cells = Arc::new(Cells::default());
        let perception = Arc::new(PerceptionCounters::default());
        let recorder = Arc::new(RecorderCounters::default());
        let watchbook = Arc::new(WatchBook::load(parts.watchlist.clone())?);
        let patrolbook = Arc::new(PatrolBook::load(parts.patrols)?);
        let give_up = Arc::new(AtomicBool::new(false));
        let intake = IntakeParts {
            store: parts.store,
            alerts: parts.alerts,
            watchbook: watchbook.clone(),
            patrols: patrolbook.clone(),
            clock: parts.clock.clone(),
            repeat_within: settings.repeat_within,
            live_queue: settings.live_queue,
        };
        let reads = Arc::new(ReadKeeper::new(
            parts.read_before,
            parts.coverage.clone(),
            parts.clock.clone(),
            cells.clone(),
        ));
        let intake = Intake::with_cells(intake, cells.clone())?.counting(reads.clone());
        let intake = Arc::new(intake);
        // Cameras that are registered as closed belong to whoever imports their sightings.
        let foreign: BTreeSet<CameraId> = (parts.registry.cameras()?.into_iter())
            .filter(|camera| !camera.enabled)
            .map(|camera| camera.id)
            .collect();
        let finished = intake.finish_passages(|camera| !foreign.contains(camera))?;
        if finished > 0 {
            info!(sightings = finished, "passages of an earlier run are ended as they stood");
        }
        let (passages, passages_in) = sync_channel(settings.record_queue);
        let coverage = Arc::new(CoverageKeeper::new(parts.coverage, parts.clock.clone()));

        let recording = Recorder {
            intake: intake.clone(),
            encoder: parts.encoder,
            evidence: settings.evidence,
            counters: recorder.clone(),
            coverage: coverage.clone(),
            give_up: give_up.clone(),
        };
        let recorder_thread = spawn("recorder".into(), move || recording.run(&passages_in));

        let analysing = Arc::new(Perception {
            slots: slots.clone(),
            cells: cells.clone(),
            detector: parts.detector,
            reader: parts.reader,
            passages,
            counters: perception.clone(),
            batch_max: settings.batch_max.max(1),
            batch_linger: settings.batch_linger,
        });
        let workers = (0..settings.workers.max(1))
            .map(|i| {
                let analysing = analysing.clone();
                spawn(format!("perception-{i}"), move || analysing.run())
            })
            .collect();

        let wishes = Arc::new(WishCounters::default());
        let (mut stop_sampling, mut samplers) = (Vec::new(), Vec::new());
        if let Some(asker) = parts.keyframes {
            let (stop, stopped) = sync_channel::<()>(0);
            let (cells, seed) = (cells.clone(), parts.clock.now().as_nanos() as u64);
            let keeper =
                KeyframeKeeper::new(settings.keyframes, asker, cells, wishes.clone(), seed);
            samplers.extend(keeper.start(stopped));
            stop_sampling.push(stop);
        }
        let (stop, stopped) = sync_channel::<()>(0);
        samplers.push(spawn("reads".into(), move || reads.run(&stopped)));
        stop_sampling.push(stop);
        let cameras = Arc::new(Cameras::new(CamerasParts {
            coverage: coverage.clone(),
            cells,
            slots: slots.clone(),
            counters: perception.clone(),
            source: parts.source,
            registry: parts.registry,
            clock: parts.clock,
            settings: settings.passages,
            cameras_max: settings.cameras_max,
            opened_max: settings.opened_max,
        }));
        let (stop, stopped) = sync_channel::<()>(0);
        stop_sampling.push(stop);
        let (sampled, written) = (cameras.clone(), coverage.clone());
        let begun = Instant::now();
        let books = (watchbook.clone(), patrolbook.clone());
        samplers.push(spawn("rates".into(), move || {
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                sampled.sample_rates();
                sampled.close_due();
                written.loaded(sampled.loads(), begun.elapsed());
                written.tend();
                books.0.tend();
                books.1.tend();
            }
        }));
        Ok(Self {
            cameras,
            slots,
            watchbook,
            patrolbook,
            perception,
            recorder,
            intake,
            coverage,
            give_up,
            workers,
            recorder_thread,
            wishes,
            stop_sampling,
            samplers,
        })
    }

    /// The cameras: open, register, remove, list.
    pub fn cameras(&self) -> Arc<Cameras> {
        self.cameras.clone()
    }

    /// The watch-list in force.
    pub fn watchbook(&self) -> Arc<WatchBook> {
        self.watchbook.clone()
    }

    /// The patrol units in force.
    pub fn patrolbook(&self) -> Arc<PatrolBook> {
        self.patrolbook.clone()
    }

    /// The way in for sightings, the cameras' own and those from elsewhere, with its announcements.
    pub fn intake(&self) -> Arc<Intake> {
        self.intake.clone()
    }

    /// Shows the cursor of the last alert, whenever there is a new one.
    pub fn alert_wake(&self) -> watch::Receiver<u64> {
        self.intake.alert_wake()
    }

    /// Sends every sighting once it is stored.
    pub fn live(&self) -> broadcast::Sender<Arc<Sighting>> {
        self.intake.live()
    }

    /// A handle on what the engine did so far, for whoever shows it.
    pub fn counts(&self) -> EngineCounts {
        EngineCounts {
            perception: self.perception.clone(),
            recorder: self.recorder.clone(),
            intake: self.intake.clone(),
            wishes: self.wishes.clone(),
        }
    }

    /// Stops the sources, lets what is in view end, stores what waits, and reports what was lost.
    pub fn drain(self, patience: Duration) -> DrainReport {
        let deadline = Instant::now() + patience;
        drop(self.stop_sampling);
        self.cameras.close_all();
        self.coverage.flush();
        self.slots.close_all();
        let workers_done = join_all(self.workers, deadline);
        // The workers held the last senders, so the recorder ends when its queue is empty.
        let mut done = workers_done && join_all(vec![self.recorder_thread], deadline);
        done &= join_all(self.samplers, deadline);
        if !done {
            self.give_up.store(true, Relaxed);
            warn!("the drain's deadline is over; work is cut off");
        }
        // What the recorder refused or lost meanwhile.
        self.coverage.flush();
        let report = DrainReport { sightings_lost: self.recorder.counts().lost, in_time: done };
        info!(sightings_lost = report.sightings_lost, in_time = report.in_time, "engine stopped");
        report
    }
}

/// Joins threads until the deadline; false when one was still running.
fn join_all(threads: Vec<JoinHandle<()>>, deadline: Instant) -> bool {
    let mut all = true;
    for handle in threads {
        while !handle.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        all &= handle.is_finished() && handle.join().is_ok();
    }
    all
}
