//! A store behind the code that answers the calls of the API, without cameras, network and audit.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use guiji_api::{Answers, ApiParts};
use guiji_domain::{
    AuditDone, AuditEntry, AuditLog, Camera, CameraControl, CameraHealth, CameraId, CameraState,
    CameraStatus, ControlError, Evidence, EvidenceSealer, ExportOrder, GeoPoint, LeavingPicture,
    Opening, People, Registered, Sealing, Sighting, SightingIntake, Stop, StoreError,
    StreamCounters, Timestamp,
};
use guiji_store::{Deliveries, Durability, ReleaseFile, Store};
use tokio::sync::{broadcast, watch};

use crate::clock::SystemClock;

/// What answers over a store; `intake` is the store's.
pub(super) fn over(
    store: &Arc<Store>,
    cameras: &[Camera],
    intake: Arc<dyn SightingIntake>,
) -> Result<Answers> {
    let releases = ReleaseFile::open(&store.dir().join("releases.jsonl"));
    let deliveries = Deliveries::open(store.dir(), Durability::UnsafeNoSync);
    Ok(Answers::new(ApiParts {
        stop: Stop::default(),
        store: store.clone(),
        passages: store.clone(),
        intake,
        alerts: store.clone(),
        deliveries: Arc::new(deliveries.context("open the proofs of delivery")?),
        audit: Arc::new(Absent),
        sealer: Arc::new(Absent),
        releases: Arc::new(releases.context("open the releases")?),
        odd: Arc::new(|_| Ok(Vec::new())),
        watchlist: store.clone(),
        patrols: store.clone(),
        likely: store.clone(),
        coverage: store.clone(),
        roads: store.clone(),
        corrections: store.clone(),
        cameras: Arc::new(Fixed::of(cameras)),
        clock: Arc::new(SystemClock),
        alert_wake: watch::channel(0).1,
        live: broadcast::Sender::new(1),
        watchlist_changed: Arc::new(|| Ok(())),
        patrols_changed: Arc::new(|| Ok(())),
    }))
}

/// What no question of a benchmark needs.
struct Absent;

impl AuditLog for Absent {
    fn submit(&self, _: AuditEntry, done: AuditDone) {
        done(Ok(0));
    }
}

impl EvidenceSealer for Absent {
    fn picture(
        &self,
        _: &Sighting,
        _: &Evidence,
        _: People,
    ) -> Result<Option<LeavingPicture>, StoreError> {
        Ok(None)
    }

    fn begin(&self, _: ExportOrder) -> Box<dyn Sealing> {
        Box::new(Self)
    }
}

impl Sealing for Absent {
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }
}

/// The cameras of a county, of which none is open.
struct Fixed {
    cameras: Vec<Camera>,
    places: Arc<[(CameraId, GeoPoint)]>,
}

impl Fixed {
    fn of(cameras: &[Camera]) -> Self {
        let places = cameras.iter().map(|camera| (camera.id.clone(), camera.position)).collect();
        Self { cameras: cameras.to_vec(), places }
    }

    fn refuse(&self) -> ControlError {
        ControlError::TooMany { limit: self.cameras.len() }
    }
}

impl CameraControl for Fixed {
    fn register(&self, _: Camera) -> Result<(), ControlError> {
        Err(self.refuse())
    }

    fn register_all(
        &self,
        cameras: Vec<Camera>,
    ) -> Result<Vec<Result<Registered, ControlError>>, StoreError> {
        Ok(cameras.iter().map(|_| Err(self.refuse())).collect())
    }

    fn update(&self, before: &Camera, _: Camera) -> Result<(), ControlError> {
        Err(ControlError::NotFound(before.id.clone()))
    }

    fn open_until(&self, id: &CameraId, _: Opening) -> Result<(), ControlError> {
        Err(ControlError::NotFound(id.clone()))
    }

    fn remove(&self, id: &CameraId) -> Result<(), ControlError> {
        Err(ControlError::NotFound(id.clone()))
    }

    fn list(&self) -> Vec<(Camera, CameraHealth)> {
        self.cameras.iter().map(|camera| (camera.clone(), closed())).collect()
    }

    fn places(&self) -> Arc<[(CameraId, GeoPoint)]> {
        Arc::clone(&self.places)
    }
}

fn closed() -> CameraHealth {
    CameraHealth {
        status: CameraStatus {
            state: CameraState::Disabled,
            since: Timestamp::EPOCH,
            reason: None,
            detail: String::new(),
            retry_at: None,
        },
        counters: StreamCounters::default(),
        units_per_s: 0.0,
        analysed: 0,
        dropped: 0,
        sightings: 0,
        last_frame: None,
        last_sighting: None,
        clock_uncertainty: None,
        blind_time: Duration::ZERO,
        keyframes: Default::default(),
        wishes: Default::default(),
        reads: None,
        opening: None,
    }
}
