//! A recording through ingest, vision, engine and a store in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use guiji_domain::{
    Camera, CameraControl as _, CameraHealth, CameraState, Clock, Detector, FrameSource, Pace,
    PixelFormat, Sighting, SightingQuery, SightingStore as _, TimeSpan,
};
use guiji_engine::{Engine, EngineParts, EngineSettings};
use guiji_ingest::{GstSource, IngestSettings};
use guiji_store::MemoryStore;
use guiji_vision::Vision;

use crate::config::DRAIN_PATIENCE;

/// Every picture of a recording is analysed.
const ANALYSED_FPS_MAX: f64 = 60.0;
/// Most sightings of a recording.
const SIGHTINGS_MAX: usize = 10_000;
/// How long nothing may be analysed before the recording is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the recording is played from and looked at with.
pub(crate) struct Player {
    pub(crate) source: Arc<dyn FrameSource>,
    pub(crate) detector: Arc<dyn Detector>,
    pub(crate) vision: Arc<Vision>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Player {
    /// The real parts.
    pub(crate) fn new(vision: Arc<Vision>, clock: Arc<dyn Clock>) -> Result<Self> {
        let ingest = IngestSettings::new(vision.input_size(), PixelFormat::Bgr);
        let source = Arc::new(GstSource::new(ingest, clock.clone())?);
        Ok(Self { source, detector: vision.clone(), vision, clock })
    }

    /// Plays the camera's file as fast as analysis allows, every picture of it; the final sightings by their time.
    ///
    /// # Errors
    /// When it cannot be played to its end.
    pub(crate) fn play(self, camera: Camera) -> Result<Vec<Sighting>> {
        let store = Arc::new(MemoryStore::new());
        let parts = EngineParts {
            source: self.source,
            detector: self.detector,
            reader: self.vision.clone(),
            encoder: self.vision,
            store: store.clone(),
            alerts: store.clone(),
            watchlist: store.clone(),
            patrols: store.clone(),
            registry: store.clone(),
            coverage: store.clone(),
            read_before: store.clone(),
            keyframes: None,
            clock: self.clock,
        };
        let engine = Engine::start(parts, EngineSettings::default()).context("start the engine")?;
        let pace = Pace::AsFastAsPossible;
        let cameras = engine.cameras();
        cameras.open(Camera { pace, analysed_fps_max: ANALYSED_FPS_MAX, ..camera })?;
        wait_for_end(|| cameras.list().into_iter().map(|(_, health)| health).next())?;
        let drained = engine.drain(DRAIN_PATIENCE);
        if drained.sightings_lost > 0 || !drained.in_time {
            bail!("the engine did not store everything: {drained:?}");
        }
        Ok(store.search(&SightingQuery::all_in(TimeSpan::ALL, SIGHTINGS_MAX))?.sightings)
    }
}

/// # Errors
/// When the recording cannot be played, or nothing happens any more.
fn wait_for_end(health: impl Fn() -> Option<CameraHealth>) -> Result<()> {
    let (mut analysed, mut since) = (0, Instant::now());
    loop {
        let now = health().context("the clip is gone from the engine")?;
        match now.status.state {
            CameraState::Ended => return Ok(()),
            CameraState::Misconfigured | CameraState::Disabled | CameraState::Refused => {
                bail!("the clip cannot be played: {}", now.status.detail)
            }
            _ => {}
        }
        if now.analysed > analysed {
            (analysed, since) = (now.analysed, Instant::now());
        } else if since.elapsed() > PATIENCE {
            bail!("no picture in {PATIENCE:?}: {} {}", now.status.state, now.status.detail);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
