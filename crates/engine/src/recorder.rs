//! Passages in, durable sightings and alerts out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use guiji_analysis::watch;
use guiji_domain::{
    Alert, AlertLog, BBox, Clock, Digest, Evidence, EvidenceKind, PictureEncoder, Recorded,
    Sighting, SightingStage, SightingStore, StoreError,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{broadcast, watch as latest};
use tracing::{error, info, warn};

use crate::cameras::Cells;
use crate::counters::counters;
use crate::lane::{EvidenceSettings, Passage, Shot};
use crate::watchbook::WatchBook;

counters! {
    /// What the recorder did since the start.
    RecorderCounters, RecorderCounts {
        /// Provisional sightings stored.
        provisional,
        /// Final sightings stored.
        finals,
        /// Alerts logged.
        alerts,
        /// Pictures stored.
        pictures,
        /// Pictures that could not be encoded.
        pictures_failed,
        /// Tries to store that failed; each was tried again.
        retries,
        /// Sightings given up at shutdown because the store kept failing.
        lost,
    }
}

/// The recorder's parts and state.
pub(crate) struct Recorder {
    pub(crate) store: Arc<dyn SightingStore>,
    pub(crate) alert_log: Arc<dyn AlertLog>,
    pub(crate) encoder: Arc<dyn PictureEncoder>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watchbook: Arc<WatchBook>,
    pub(crate) cells: Arc<Cells>,
    pub(crate) evidence: EvidenceSettings,
    pub(crate) counters: Arc<RecorderCounters>,
    pub(crate) alert_wake: latest::Sender<u64>,
    pub(crate) live: broadcast::Sender<Arc<Sighting>>,
    /// Set when the drain's deadline is over: a store that still fails is then given up.
    pub(crate) give_up: Arc<AtomicBool>,
}

/// Most passages stored by one call: bounds memory and the wait of an alert behind pictures.
const BATCH_MAX: usize = 16;
/// First and longest pause before a failed store is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl Recorder {
    /// Works until every sender is gone and the queue is empty.
    pub(crate) fn run(&self, passages: &Receiver<Passage>) {
        while let Ok(first) = passages.recv() {
            let mut batch = vec![first];
            batch.extend(passages.try_iter().take(BATCH_MAX - 1));
            // Provisional sightings exist for the sake of alerts: they do not wait behind the encoding of pictures.
            // A sighting's final form comes after its provisional one in the queue, and stays so.
            let (urgent, rest): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|p| p.sighting.stage == SightingStage::Provisional);
            self.store_batch(urgent);
            self.store_batch(rest);
        }
    }

    fn store_batch(&self, batch: Vec<Passage>) {
        if batch.is_empty() {
            return;
        }
        let mut records: Vec<Recorded> =
            batch.into_iter().map(|passage| self.prepare(passage)).collect();
        let Some(alerts) = self.store_patiently(&mut records) else {
            self.counters.lost.fetch_add(records.len() as u64, Relaxed);
            error!(
                sightings = records.len(),
                "sightings are lost: the store kept failing until the deadline"
            );
            return;
        };
        self.announce(&records, &alerts);
    }

    fn prepare(&self, passage: Passage) -> Recorded {
        let Passage { mut sighting, shot } = passage;
        let pictures = match &shot {
            Some(shot) => self.encode(&mut sighting, shot),
            None => Vec::new(),
        };
        Recorded { sighting: Arc::new(sighting), pictures, alerts: Vec::new() }
    }

    fn encode(&self, sighting: &mut Sighting, shot: &Shot) -> Vec<Arc<[u8]>> {
        let mut pictures = Vec::with_capacity(self.evidence.kinds.len());
        for kind in &self.evidence.kinds {
            let region: Option<BBox> = match kind {
                EvidenceKind::Plate => match shot.plate {
                    Some(plate) => Some(plate.padded(0.15)),
                    None => continue,
                },
                EvidenceKind::Vehicle => Some(shot.vehicle.padded(0.05)),
                EvidenceKind::Frame => None,
            };
            match self.encoder.encode(&shot.picture, region.as_ref()) {
                Ok(bytes) => {
                    sighting.evidence.push(Evidence {
                        kind: *kind,
                        digest: Digest(Sha256::digest(&bytes).into()),
                        bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                        media_type: self.encoder.media_type().to_owned(),
                        captured: shot.captured,
                    });
                    pictures.push(bytes.into());
                }
                Err(error) => {
                    // The sighting is worth more than its picture.
                    self.counters.pictures_failed.fetch_add(1, Relaxed);
                    warn!(%error, sighting = %sighting.id, %kind, "a picture could not be encoded");
                }
            }
        }
        pictures
    }

    /// Stores, trying again for as long as it takes. `None` when told to give up.
    ///
    /// Alerts are worked out anew at each try: the log may have changed under a call that failed half-way.
    fn store_patiently(&self, records: &mut [Recorded]) -> Option<Vec<Alert>> {
        let mut pause = RETRY.0;
        loop {
            match self.raise_alerts(records).and_then(|()| self.store.record(records)) {
                Ok(alerts) => {
                    if pause > RETRY.0 {
                        info!("the store works again");
                    }
                    return Some(alerts);
                }
                Err(error) => {
                    self.counters.retries.fetch_add(1, Relaxed);
                    warn!(%error, retry_in = ?pause, "sightings could not be stored");
                }
            }
            if self.give_up.load(Relaxed) {
                return None;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(RETRY.1);
        }
    }

    fn raise_alerts(&self, records: &mut [Recorded]) -> Result<(), StoreError> {
        let matcher = self.watchbook.matcher();
        for record in records {
            let now = self.clock.now();
            let matches = matcher.matches(&record.sighting, record.sighting.captured.at);
            let earlier = self.alert_log.alerts_of(record.sighting.id)?;
            record.alerts = watch::alerts(&record.sighting, &matches, &earlier, now);
        }
        Ok(())
    }

    fn announce(&self, records: &[Recorded], alerts: &[Alert]) {
        for record in records {
            self.counters.pictures.fetch_add(record.pictures.len() as u64, Relaxed);
            match record.sighting.stage {
                SightingStage::Provisional => self.counters.provisional.fetch_add(1, Relaxed),
                SightingStage::Final => {
                    if let Some(cell) = self.cells.get(&record.sighting.camera) {
                        cell.sighted(record.sighting.captured.at);
                    }
                    self.counters.finals.fetch_add(1, Relaxed)
                }
            };
            // Nobody listening is the normal case.
            drop(self.live.send(record.sighting.clone()));
        }
        self.counters.alerts.fetch_add(alerts.len() as u64, Relaxed);
        if let Some(last) = alerts.iter().map(|alert| alert.cursor).max() {
            self.alert_wake.send_replace(last);
        }
    }
}
