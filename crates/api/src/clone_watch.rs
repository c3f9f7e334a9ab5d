//! Which plates have just contradicted themselves, and who wants to hear of clones.

use std::collections::{HashMap, VecDeque};
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
/// Plates that are remembered; of more, the one not seen for longest is forgotten.
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
    /// What `seen` took in, in this order; plates that were seen again since are in it twice.
    order: VecDeque<(PlateText, Timestamp)>,
    told: HashMap<PlateText, Timestamp>,
}

impl Last {
    /// Puts a plate in the place of its last sighting, and makes room for it.
    fn note(
        &mut self,
        plate: &PlateText,
        at: Timestamp,
        camera: &CameraId,
    ) -> Option<(Timestamp, CameraId)> {
        let before = self.seen.insert(plate.clone(), (at, camera.clone()));
        self.order.push_back((plate.clone(), at));
        while self.seen.len() > PLATES_MAX || self.order.len() > 2 * PLATES_MAX {
            let Some((oldest, at)) = self.order.pop_front() else { break };
            if self.seen.get(&oldest).is_some_and(|(seen, _)| *seen == at) {
                self.seen.remove(&oldest);
            }
        }
        before
    }
}

/// Two sightings of a plate that no one vehicle can have made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contradiction {
    pub(crate) plate: PlateText,
    /// Where and when, in order of arrival.
    pub(crate) ends: [(CameraId, Timestamp); 2],
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

    /// What this sighting and the last of its plate contradict each other in, if the plate was not told lately.
    pub(crate) fn consider(
        &self,
        sighting: &Sighting,
        positions: &HashMap<CameraId, GeoPoint>,
    ) -> Option<Contradiction> {
        let plate = sighting.plate_text()?;
        if sighting.stage != SightingStage::Final {
            return None;
        }
        let (at, camera) = (sighting.captured.at, &sighting.camera);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.note(plate, at, camera);
        let (earlier, from) = before.filter(|(seen, _)| seen.abs_diff(at) <= REMEMBERED)?;
        let settings = SuspectSettings::default();
        let metres = positions.get(&from)?.distance_m(positions.get(camera)?);
        let kmh = least_kmh(metres, earlier.abs_diff(at), settings.slack)?;
        let lately = last.told.get(plate).is_some_and(|told| told.abs_diff(at) < AGAIN_AFTER);
        (kmh >= settings.least_kmh && !lately).then(|| Contradiction {
            plate: plate.clone(),
            ends: [(from, earlier), (camera.clone(), at)],
        })
    }

    /// Notes that a plate was told.
    pub(crate) fn told(&self, plate: &PlateText, at: Timestamp) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.told.insert(plate.clone(), at);
        if last.told.len() > PLATES_MAX {
            last.told.retain(|_, told| told.abs_diff(at) < AGAIN_AFTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_plates_the_oldest_is_forgotten() {
        let plate = |n: usize| {
            PlateText::parse(&format!("浙{}{:05}", ["A", "B", "C", "D"][n / 100_000], n % 100_000))
                .unwrap()
        };
        let (camera, at) =
            (CameraId::new("k1").unwrap(), |n: usize| Timestamp::from_secs(n as i64));
        let mut last = Last::default();
        for n in 0..PLATES_MAX {
            assert_eq!(last.note(&plate(n), at(n), &camera), None);
        }
        // The first is seen again and so no longer the oldest: the second is.
        assert!(last.note(&plate(0), at(PLATES_MAX), &camera).is_some());
        last.note(&plate(PLATES_MAX), at(PLATES_MAX + 1), &camera);
        assert_eq!(last.seen.len(), PLATES_MAX);
        assert!(last.seen.contains_key(&plate(0)) && !last.seen.contains_key(&plate(1)));
        assert!(last.seen.contains_key(&plate(2)));
    }
}
