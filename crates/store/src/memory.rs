use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use guiji_domain::{
    Alert, AlertId, AlertLog, Camera, CameraId, CameraRegistry, Correction, CorrectionStore,
    Coverage, CoverageState, CoverageStore, Digest, Kept, Likely, LikelyQuery, LikelySearch,
    PatrolUnit, PatrolUnitId, PlateText, Receipt, Recorded, RoadGraph, RoadGraphStore, Sighting,
    SightingId, SightingPage, SightingQuery, SightingStage, SightingStore, SortOrder, StoreError,
    TimeSpan, Timestamp, WatchEntry, WatchEntryId, Watchlist,
};

use crate::likely::Likeliest;
use crate::validate;

/// A store in memory, gone with the process: for tests, and the plain statement of what [`crate::Store`] must do.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Contents>, Mutex<Units>);

type Units = BTreeMap<PatrolUnitId, PatrolUnit>;

#[derive(Debug, Default)]
struct Contents {
    sightings: BTreeMap<SightingId, Arc<Sighting>>,
    pictures: HashMap<Digest, Arc<[u8]>>,
    alerts: Vec<Alert>,
    entries: BTreeMap<WatchEntryId, WatchEntry>,
    cameras: BTreeMap<CameraId, Camera>,
    coverage: BTreeMap<(CameraId, Timestamp, CoverageState), Coverage>,
    roads: Option<Arc<RoadGraph>>,
    corrections: BTreeMap<SightingId, Vec<Correction>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // Nothing in here can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn units_mut(&self) -> MutexGuard<'_, Units> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `visit` with every sighting, by id.
    pub(crate) fn each_sighting(&self, visit: impl FnMut(&Sighting)) {
        self.contents().sightings.values().map(Arc::as_ref).for_each(visit);
    }
}

impl SightingStore for MemoryStore {
    fn record(&self, batch: &[Recorded]) -> Result<Receipt, StoreError> {
        validate::recorded(batch)?;
        let mut contents = self.contents();
        let mut receipt = Receipt::default();
        for item in batch {
            let id = item.sighting.id;
            let kept = match contents.sightings.get(&id).map(|old| old.stage) {
                None => Kept::New,
                Some(SightingStage::Provisional) => Kept::Replaced,
                Some(SightingStage::Final) => Kept::Present,
            };
            receipt.kept.push(kept);
            if kept != Kept::Present {
                contents.sightings.insert(id, Arc::clone(&item.sighting));
                for (evidence, picture) in item.sighting.evidence.iter().zip(&item.pictures) {
                    contents.pictures.insert(evidence.digest, Arc::clone(picture));
                }
            }
            for alert in &item.alerts {
                if contents.alerts.iter().any(|a| a.id == alert.id && a.stage == alert.stage) {
                    continue;
                }
                let cursor = contents.alerts.len() as u64 + 1;
                let alert = Alert { cursor, ..alert.clone() };
                contents.alerts.push(alert.clone());
                receipt.alerts.push(alert);
            }
        }
        Ok(receipt)
    }

    fn get(&self, id: SightingId) -> Result<Option<Sighting>, StoreError> {
        Ok(self.contents().sightings.get(&id).map(|s| Sighting::clone(s)))
    }

    fn unfinished(
        &self,
        after: Option<SightingId>,
        limit: usize,
    ) -> Result<Vec<Sighting>, StoreError> {
        let contents = self.contents();
        let mut found: Vec<_> = contents
            .sightings
            .values()
            .filter(|s| s.stage == SightingStage::Provisional && Some(s.id) > after)
            .collect();
        found.sort_by_key(|s| s.id);
        let length = validate::page_length(limit);
        Ok(found.into_iter().take(length).map(|s| Sighting::clone(s)).collect())
    }

    fn search(&self, query: &SightingQuery) -> Result<SightingPage, StoreError> {
        let contents = self.contents();
        let mut found: Vec<_> = contents.sightings.values().filter(|s| query.accepts(s)).collect();
        found.sort_by_key(|s| (s.captured.at, s.id));
        if query.order == SortOrder::NewestFirst {
            found.reverse();
        }
        let length = validate::page_length(query.limit);
        Ok(SightingPage {
            more: found.len() > length,
            sightings: found.into_iter().take(length).map(|s| Sighting::clone(s)).collect(),
        })
    }

    fn evidence(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.contents().pictures.get(digest).map(|bytes| bytes.to_vec()))
    }
}

impl LikelySearch for MemoryStore {
    fn likely(&self, query: &LikelyQuery) -> Result<Vec<Likely>, StoreError> {
        let contents = self.contents();
        let mut best = Likeliest::new(query);
        contents.sightings.values().for_each(|sighting| best.consider((**sighting).clone()));
        Ok(best.finish())
    }

    fn times_read(
        &self,
        plates: &[PlateText],
        span: TimeSpan,
        cameras: Option<&[CameraId]>,
        most: usize,
    ) -> Result<Vec<usize>, StoreError> {
        let contents = self.contents();
        let cameras = cameras.map(<[CameraId]>::to_vec);
        let query = SightingQuery { cameras, ..SightingQuery::all_in(span, most) };
        let counts = plates.iter().map(|plate| {
            let read = |s: &&Arc<Sighting>| s.plate_text() == Some(plate) && query.accepts(s);
            contents.sightings.values().filter(read).take(most).count()
        });
        Ok(counts.collect())
    }
}

impl AlertLog for MemoryStore {
    fn alerts_after(&self, cursor: u64, limit: usize) -> Result<Vec<Alert>, StoreError> {
        let contents = self.contents();
        let length = validate::page_length(limit);
        Ok(contents.alerts.iter().filter(|a| a.cursor > cursor).take(length).cloned().collect())
    }

    fn last_cursor(&self) -> Result<u64, StoreError> {
        Ok(self.contents().alerts.last().map_or(0, |a| a.cursor))
    }

    fn alerts_of(&self, sightings: &[SightingId]) -> Result<Vec<Alert>, StoreError> {
        let contents = self.contents();
        let sightings: HashSet<_> = sightings.iter().collect();
        let latest: BTreeMap<_, _> = contents
            .alerts
            .iter()
            .filter(|a| sightings.contains(&a.id.sighting) && a.stage.is_finding())
            .map(|a| (&a.id, a)) // the later replaces the earlier
            .collect();
        Ok(latest.into_values().cloned().collect())
    }

    fn alert_history(&self, id: &AlertId) -> Result<Vec<Alert>, StoreError> {
        Ok(self.contents().alerts.iter().filter(|a| a.id == *id).cloned().collect())
    }

    fn append(&self, alert: &Alert) -> Result<Option<Alert>, StoreError> {
        let mut contents = self.contents();
        let mut stages = contents.alerts.iter().filter(|a| a.id == alert.id).peekable();
        if stages.peek().is_none() || stages.any(|a| a.stage == alert.stage) {
            return Ok(None);
        }
        let cursor = contents.alerts.len() as u64 + 1;
        let alert = Alert { cursor, ..alert.clone() };
        contents.alerts.push(alert.clone());
        Ok(Some(alert))
    }
}

impl Watchlist for MemoryStore {
    fn put_entries(&self, entries: &[WatchEntry]) -> Result<(), StoreError> {
        entries.iter().try_for_each(validate::entry)?;
        let entries = entries.iter().map(|entry| (entry.id.clone(), entry.clone()));
        self.contents().entries.extend(entries);
        Ok(())
    }

    fn remove_entry(&self, id: &WatchEntryId) -> Result<bool, StoreError> {
        Ok(self.contents().entries.remove(id).is_some())
    }

    fn entry(&self, id: &WatchEntryId) -> Result<Option<WatchEntry>, StoreError> {
        Ok(self.contents().entries.get(id).cloned())
    }

    fn entries_after(
        &self,
        after: Option<&WatchEntryId>,
        limit: usize,
    ) -> Result<Vec<WatchEntry>, StoreError> {
        let contents = self.contents();
        let found = contents.entries.values().filter(|e| after.is_none_or(|after| e.id > *after));
        Ok(found.take(limit).cloned().collect())
    }

    fn entries(&self) -> Result<Vec<WatchEntry>, StoreError> {
        Ok(self.contents().entries.values().cloned().collect())
    }
}

impl CameraRegistry for MemoryStore {
    fn put_cameras(&self, cameras: &[Camera]) -> Result<(), StoreError> {
        cameras.iter().try_for_each(validate::camera)?;
        self.contents().cameras.extend(cameras.iter().map(|c| (c.id.clone(), c.clone())));
        Ok(())
    }

    fn remove_camera(&self, id: &CameraId) -> Result<bool, StoreError> {
        Ok(self.contents().cameras.remove(id).is_some())
    }

    fn cameras(&self) -> Result<Vec<Camera>, StoreError> {
        Ok(self.contents().cameras.values().cloned().collect())
    }
}

impl CoverageStore for MemoryStore {
    fn keep_coverage(&self, intervals: &[Coverage]) -> Result<Vec<Kept>, StoreError> {
        intervals.iter().try_for_each(validate::coverage)?;
        let mut contents = self.contents();
        let mut keep = |interval: &Coverage| {
            let key = (interval.camera.clone(), interval.span.first(), interval.state);
            let known = contents.coverage.get(&key).map(|known| known.span.last());
            let kept = match known {
                Some(last) if last >= interval.span.last() => return Kept::Present,
                Some(_) => Kept::Replaced,
                None => Kept::New,
            };
            contents.coverage.insert(key, interval.clone());
            kept
        };
        Ok(intervals.iter().map(&mut keep).collect())
    }

    fn coverage(&self, cameras: &[CameraId], span: TimeSpan) -> Result<Vec<Coverage>, StoreError> {
        let contents = self.contents();
        let wanted = |c: &&Coverage| cameras.contains(&c.camera) && c.span.overlaps(span);
        Ok(contents.coverage.values().filter(wanted).cloned().collect())
    }
}

impl RoadGraphStore for MemoryStore {
    fn put_road_graph(&self, graph: RoadGraph) -> Result<(), StoreError> {
        self.contents().roads = Some(Arc::new(graph));
        Ok(())
    }

    fn road_graph(&self) -> Result<Option<Arc<RoadGraph>>, StoreError> {
        Ok(self.contents().roads.clone())
    }
}

impl CorrectionStore for MemoryStore {
    fn correct(&self, correction: &Correction) -> Result<bool, StoreError> {
        validate::correction(correction)?;
        let mut contents = self.contents();
        let all = contents.corrections.entry(correction.sighting).or_default();
        let same = |latest: &Correction| Correction { at: correction.at, ..latest.clone() };
        if all.last().is_some_and(|latest| same(latest) == *correction) {
            return Ok(false);
        }
        all.push(correction.clone());
        Ok(true)
    }

    fn corrections_of(&self, sightings: &[SightingId]) -> Result<Vec<Correction>, StoreError> {
        let contents = self.contents();
        let sightings: std::collections::BTreeSet<_> = sightings.iter().collect();
        let all = sightings.into_iter().filter_map(|id| contents.corrections.get(id));
        Ok(all.flatten().cloned().collect())
    }

    fn corrections_in(&self, began: TimeSpan) -> Result<Vec<Correction>, StoreError> {
        let contents = self.contents();
        let all = contents.corrections.iter().filter(|(id, _)| began.contains(id.started()));
        Ok(all.flat_map(|(_, corrections)| corrections).cloned().collect())
    }
}
