//! Passages in, durable sightings and alerts out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use guiji_domain::{
    BBox, Digest, Evidence, EvidenceKind, PictureEncoder, Recorded, Sighting, SightingStage,
    StoreError,
};
use sha2::{Digest as _, Sha256};
use tracing::{error, info, warn};

use crate::counters::counters;
use crate::coverage::CoverageKeeper;
use crate::intake::Intake;
use crate::lane::{EvidenceSettings, Passage, Shot};

counters! {
    /// What the recorder did since the start, beyond what it took in (see [`crate::IntakeCounts`]).
    RecorderCounters, RecorderCounts {
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
    pub(crate) intake: Arc<Intake>,
    pub(crate) encoder: Arc<dyn PictureEncoder>,
    pub(crate) evidence: EvidenceSettings,
    pub(crate) counters: Arc<RecorderCounters>,
    /// Hears from when until when the store refuses.
    pub(crate) coverage: Arc<CoverageKeeper>,
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
        if !self.store_patiently(&mut records) {
            self.counters.lost.fetch_add(records.len() as u64, Relaxed);
            for Recorded { sighting, .. } in &records {
                self.coverage.lost(&sighting.camera, sighting.span);
            }
            error!(
                sightings = records.len(),
                "sightings are lost: the store kept failing until the deadline"
            );
        }
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

    /// Stores, trying again for as long as it takes. False when told to give up.
    fn store_patiently(&self, records: &mut [Recorded]) -> bool {
        let mut pause = RETRY.0;
        loop {
            match self.intake.take_in_own(records) {
                Ok(_) => {
                    self.coverage.store_took();
                    if pause > RETRY.0 {
                        info!("the store works again");
                    }
                    return true;
                }
                Err(error) => {
                    self.counters.retries.fetch_add(1, Relaxed);
                    if let Some(since) = records.iter().map(|it| it.sighting.span.first()).min() {
                        self.coverage.store_refused(cause(&error), since);
                    }
                    warn!(%error, retry_in = ?pause, "sightings could not be stored");
                }
            }
            if self.give_up.load(Relaxed) {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

/// In the words of coverage.
fn cause(error: &StoreError) -> &'static str {
    match error {
        StoreError::Full { .. } => "disk full",
        _ => "store failed",
    }
}
