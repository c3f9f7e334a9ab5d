//! Which plates have just contradicted themselves, and who wants to hear of clones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use guiji_analysis::tactics::clone::{SuspectSettings, least_kmh};
use guiji_domain::{CameraId, GeoPoint, PlateText, Sighting, SightingStage, Timestamp};
use tokio::sync::broadcast;

use crate::pb;

/// Events that a slow watcher may be behind.
const BEHIND_MAX: usize = 64;
/// A sighting is compared with one at most so old.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Plates that are remembered; beyond, the older half hour is forgotten.
const PLATES_MAX: usize = 300_000;
/// A plate is told again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);

/// A clone that has shown.
#[derive(Debug)]
pub(crate) struct ShownClone {
    pub(crate) verdict: pb::CloneVerdict,
    /// Where and when it was seen, for who may not see everything.
    pub(crate) seen: Vec<(CameraId, Timestamp)>,
}

/// Compares each sighting with the last of its plate.
#[derive(Debug)]
pub(crate) struct CloneWatch {
    last: Mutex<Last>,
    shown: broadcast::Sender<Arc<ShownClone>>,
}

#[derive(Debug, Default)]
struct Last {
    seen: HashMap<PlateText, (Timestamp, CameraId)>,
    told: HashMap<PlateText, Timestamp>,
}

impl Default for CloneWatch {
    fn default() -> Self {
        Self { last: Mutex::default(), shown: broadcast::Sender::new(BEHIND_MAX) }
    }
}

impl CloneWatch {
    /// Hears of clones from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<ShownClone>> {
        self.shown.subscribe()
    }

    /// Tells who watches.
    pub(crate) fn show(&self, clone: ShownClone) {
        // Nobody watching is the normal case.
        drop(self.shown.send(Arc::new(clone)));
    }

    /// The plate, if this sighting contradicts the last one and the plate was not a suspect lately.
    pub(crate) fn consider(
        &self,
        sighting: &Sighting,
        positions: &HashMap<CameraId, GeoPoint>,
    ) -> Option<PlateText> {
        let plate = sighting.plate_text()?;
        if sighting.stage != SightingStage::Final {
            return None;
        }
        let (at, camera) = (sighting.captured.at, &sighting.camera);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.seen.len() >= PLATES_MAX {
            last.seen.retain(|_, (seen, _)| seen.abs_diff(at) <= REMEMBERED / 2);
            last.told.retain(|_, told| told.abs_diff(at) <= AGAIN_AFTER);
            if last.seen.len() >= PLATES_MAX {
                last.seen.clear();
            }
        }
        let before = last.seen.insert(plate.clone(), (at, camera.clone()));
        let (earlier, from) = before.filter(|(seen, _)| seen.abs_diff(at) <= REMEMBERED)?;
        let settings = SuspectSettings::default();
        let metres = positions.get(&from)?.distance_m(positions.get(camera)?);
        let kmh = least_kmh(metres, earlier.abs_diff(at), settings.slack)?;
        let lately = last.told.get(plate).is_some_and(|told| told.abs_diff(at) < AGAIN_AFTER);
        (kmh >= settings.least_kmh && !lately).then(|| plate.clone())
    }

    /// Notes that a plate was told.
    pub(crate) fn told(&self, plate: &PlateText, at: Timestamp) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.told.insert(plate.clone(), at);
    }
}
