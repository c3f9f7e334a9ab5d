use std::sync::Arc;

use guiji_analysis::odd::Finding;
use guiji_domain::{
    AlertLog, AuditLog, CameraControl, Clock, CorrectionStore, CoverageStore, EvidenceSealer,
    LikelySearch, PassageSource, PatrolUnits, ReleaseBook, RoadGraphStore, Sighting,
    SightingIntake, SightingStore, Stop, StoreError, Timestamp, Watchlist,
};
use tokio::sync::{broadcast, watch};

/// What the server answers from.
#[derive(Clone)]
pub struct ApiParts {
    /// Sightings and evidence.
    pub store: Arc<dyn SightingStore>,
    /// The passages of the same store, for the tactics.
    pub passages: Arc<dyn PassageSource>,
    /// Takes imported sightings in: stored, matched and announced as the cameras' own are.
    pub intake: Arc<dyn SightingIntake>,
    /// The alert log.
    pub alerts: Arc<dyn AlertLog>,
    /// Keeps a record of each call.
    pub audit: Arc<dyn AuditLog>,
    /// Seals evidence that leaves the house.
    pub sealer: Arc<dyn EvidenceSealer>,
    /// Who may see old data.
    pub releases: Arc<dyn ReleaseBook>,
    /// What is odd about the calls of the audit since a time; blocks.
    pub odd: Arc<dyn Fn(Timestamp) -> Result<Vec<Finding>, StoreError> + Send + Sync>,
    /// The watch-list.
    pub watchlist: Arc<dyn Watchlist>,
    /// The patrol units.
    pub patrols: Arc<dyn PatrolUnits>,
    /// Finds plates among what may have been read wrongly; the same store.
    pub likely: Arc<dyn LikelySearch>,
    /// What the cameras could see.
    pub coverage: Arc<dyn CoverageStore>,
    /// The roads.
    pub roads: Arc<dyn RoadGraphStore>,
    /// What people corrected.
    pub corrections: Arc<dyn CorrectionStore>,
    /// The cameras of the running engine.
    pub cameras: Arc<dyn CameraControl>,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Changes (to any value) after alerts were logged, so that alert streams read on. Closing it ends the streams.
    pub alert_wake: watch::Receiver<u64>,
    /// The live feed: each sighting after it was recorded. Its capacity is how far a slow watcher may lag.
    pub live: broadcast::Sender<Arc<Sighting>>,
    /// Called after the watch-list has changed durably, on a blocking thread.
    pub watchlist_changed: Arc<dyn Fn() + Send + Sync>,
    /// Called after the patrol units have changed durably, on a blocking thread.
    pub patrols_changed: Arc<dyn Fn() + Send + Sync>,
    /// Raised when nobody waits for what is being done with the parts: the server gives each call its own.
    pub stop: Stop,
}
