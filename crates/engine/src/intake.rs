//! The one way into the store, for what cameras saw here and for what comes from elsewhere.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use guiji_analysis::repeats::{REMEMBERED_MAX, Repeats};
use guiji_analysis::{patrol, watch};
use guiji_domain::{
    Alert, AlertLog, AlertStage, CameraId, Clock, GeoPoint, Kept, PatrolUnit, Receipt, Recorded,
    Sighting, SightingId, SightingIntake, SightingStage, SightingStore, StoreError, Timestamp,
};
use tokio::sync::{broadcast, watch as latest};

use crate::cameras::Cells;
use crate::counters::counters;
use crate::coverage::is_live;
use crate::patrol::PatrolBook;
use crate::reads::ReadKeeper;
use crate::watchbook::WatchBook;

counters! {
    /// What was taken in since the start.
    IntakeCounters, IntakeCounts {
        /// Provisional sightings stored.
        provisional,
        /// Final sightings stored.
        finals,
        /// Alerts logged.
        alerts,
        /// Alerts acknowledged.
        acknowledged,
        /// Times that an alert went up a level because nobody had acknowledged it.
        escalated,
        /// Pictures stored.
        pictures,
    }
}

/// The parts that sightings go through.
#[derive(Clone)]
pub struct IntakeParts {
    /// Keeps sightings.
    pub store: Arc<dyn SightingStore>,
    /// Keeps alerts; the same store.
    pub alerts: Arc<dyn AlertLog>,
    /// The watch-list in force.
    pub watchbook: Arc<WatchBook>,
    /// The patrol units that alerts go to.
    pub patrols: Arc<PatrolBook>,
    /// Tells when an alert is raised.
    pub clock: Arc<dyn Clock>,
    /// The same plate at the same camera within this time repeats an alert; zero for never.
    pub repeat_within: Duration,
    /// Most sightings a slow live listener may be behind before it misses some (it is told).
    pub live_queue: usize,
}

/// Matches, stores, and only then announces. May be called from any thread.
pub struct Intake {
    parts: IntakeParts,
    cells: Arc<Cells>,
    counters: IntakeCounters,
    reads: Option<Arc<ReadKeeper>>,
    repeats: Mutex<Repeats>,
    alert_wake: latest::Sender<u64>,
    live: broadcast::Sender<Arc<Sighting>>,
}

impl Intake {
    /// An intake that belongs to no running camera.
    ///
    /// # Errors
    /// When the alert log cannot be read.
    pub fn new(parts: IntakeParts) -> Result<Self, StoreError> {
        Self::with_cells(parts, Arc::default())
    }

    pub(crate) fn with_cells(parts: IntakeParts, cells: Arc<Cells>) -> Result<Self, StoreError> {
        Ok(Self {
            cells,
            counters: IntakeCounters::default(),
            reads: None,
            repeats: Mutex::new(recall_repeats(parts.alerts.as_ref(), parts.repeat_within)?),
            alert_wake: latest::Sender::new(parts.alerts.last_cursor()?),
            live: broadcast::Sender::new(parts.live_queue.max(1)),
            parts,
        })
    }

    /// Tells of plates that were read.
    pub(crate) fn counting(self, reads: Arc<ReadKeeper>) -> Self {
        Self { reads: Some(reads), ..self }
    }

    /// Shows the cursor of the last alert, whenever there is a new one.
    pub fn alert_wake(&self) -> latest::Receiver<u64> {
        self.alert_wake.subscribe()
    }

    /// Sends every sighting once it is stored.
    pub fn live(&self) -> broadcast::Sender<Arc<Sighting>> {
        self.live.clone()
    }

    /// What was taken in so far.
    pub fn counts(&self) -> IntakeCounts {
        self.counters.counts()
    }

    fn announce(&self, records: &[Recorded], receipt: &Receipt) {
        for (record, kept) in records.iter().zip(&receipt.kept) {
            if *kept == Kept::Present {
                continue;
            }
            self.counters.pictures.fetch_add(record.pictures.len() as u64, Relaxed);
            match record.sighting.stage {
                SightingStage::Provisional => self.counters.provisional.fetch_add(1, Relaxed),
                SightingStage::Final => {
                    if let Some(cell) = self.cells.get(&record.sighting.camera) {
                        cell.sighted(record.sighting.captured.at);
                    }
                    if let Some(reads) = &self.reads {
                        reads.stored(&record.sighting);
                    }
                    self.counters.finals.fetch_add(1, Relaxed)
                }
            };
            // Nobody listening is the normal case.
            drop(self.live.send(record.sighting.clone()));
        }
        self.announce_alerts(&receipt.alerts);
    }

    fn announce_alerts(&self, alerts: &[Alert]) {
        for alert in alerts {
            use AlertStage::{
                Acknowledged, Confirmed, Corrected, EscalatedToControlRoom, EscalatedToNeighbours,
                Provisional, Withdrawn,
            };
            self.counters.alerts.fetch_add(1, Relaxed);
            match alert.stage {
                Acknowledged => _ = self.counters.acknowledged.fetch_add(1, Relaxed),
                EscalatedToNeighbours | EscalatedToControlRoom => {
                    self.counters.escalated.fetch_add(1, Relaxed);
                }
                Provisional | Corrected | Confirmed => {
                    if let Some(cell) = self.cells.get(&alert.camera) {
                        cell.alerted();
                    }
                }
                Withdrawn => {}
            }
        }
        if let Some(last) = alerts.iter().map(|alert| alert.cursor).max() {
            // Two callers may get here in either order.
            self.alert_wake.send_modify(|cursor| *cursor = last.max(*cursor));
        }
    }

    /// The patrol units in force.
    pub(crate) fn patrol_units(&self) -> Arc<[PatrolUnit]> {
        self.parts.patrols.units()
    }

    /// Where a camera stands, if the engine knows it.
    pub(crate) fn place_of(&self, camera: &CameraId) -> Option<GeoPoint> {
        self.cells.get(camera).map(|cell| cell.position())
    }

    /// Names the units that an alert is for: those that were told of it before, or those that it reaches first.
    fn route(&self, alert: &mut Alert, known: bool) -> Result<(), StoreError> {
        if known {
            alert.units = patrol::told(&self.parts.alerts.alert_history(&alert.id)?);
        }
        let units = self.patrol_units();
        if alert.units.is_empty() && !units.is_empty() {
            let place = self.place_of(&alert.camera);
            alert.units = patrol::routed(&units, &alert.camera, place.as_ref(), alert.raised);
        }
        Ok(())
    }
}

impl Intake {
    /// Takes in what a camera of this engine saw. Before a watched vehicle in view, it is the present that an entry must
    /// be in force at: a camera whose clock is slow would else miss who was entered just now.
    pub(crate) fn take_in_own(&self, records: &mut [Recorded]) -> Result<Receipt, StoreError> {
        self.take(records, |sighting, now| {
            let live = self.cells.get(&sighting.camera).is_some_and(|cell| is_live(&cell.camera));
            if live { now.max(sighting.captured.at) } else { latest_capture(sighting) }
        })
    }

    /// Alerts are worked out anew at each call: the log may have changed under one that failed half-way.
    fn take(
        &self,
        records: &mut [Recorded],
        in_force_at: impl Fn(&Sighting, Timestamp) -> Timestamp,
    ) -> Result<Receipt, StoreError> {
        let matcher = self.parts.watchbook.matcher();
        let ids: Vec<_> = records.iter().map(|record| record.sighting.id).collect();
        let mut earlier: HashMap<SightingId, Vec<Alert>> = HashMap::new();
        for alert in self.parts.alerts.alerts_of(&ids)? {
            earlier.entry(alert.id.sighting).or_default().push(alert);
        }
        let now = self.parts.clock.now();
        for record in records.iter_mut() {
            let earlier = earlier.get(&record.sighting.id).map_or(&[][..], Vec::as_slice);
            let judged = |sighting: &Sighting| {
                let place = self.place_of(&sighting.camera);
                let at = in_force_at(sighting, now);
                let matches = matcher.matches(sighting, place.as_ref(), at);
                watch::alerts(sighting, &matches, earlier, now)
            };
            record.alerts = judged(&record.sighting);
            // What is final stays as it is, whatever comes under its name again.
            if !record.alerts.is_empty()
                && let Some(kept) = self.parts.store.get(record.sighting.id)?
                && kept.stage == SightingStage::Final
            {
                record.alerts = judged(&kept);
            }
            for alert in &mut record.alerts {
                self.route(alert, earlier.iter().any(|known| known.id == alert.id))?;
            }
        }
        let receipt = if records.iter().all(|record| record.alerts.is_empty()) {
            self.parts.store.record(records)?
        } else {
            // Held until they are logged: of two that come at the same time, one rings and the other repeats it.
            let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            let marked = repeats.mark(records.iter_mut().flat_map(|record| &mut record.alerts));
            let receipt = self.parts.store.record(records)?;
            repeats.note(marked);
            receipt
        };
        self.announce(records, &receipt);
        Ok(receipt)
    }
}

impl Intake {
    /// Ends the passages whose end was never told, since the process that saw the vehicles was killed: each becomes final
    /// as it stands, without pictures, and its alerts confirmed or withdrawn. What comes from outside is left alone
    /// (`is_ours` says which): who sent its beginning sends its end. To be called before a camera is opened. How many
    /// there were.
    pub(crate) fn finish_passages(
        &self,
        is_ours: impl Fn(&CameraId) -> bool,
    ) -> Result<usize, StoreError> {
        const PAGE: usize = 256;
        let (mut after, mut finished) = (None, 0);
        loop {
            let page = self.parts.store.unfinished(after, PAGE)?;
            let Some(last) = page.last() else { return Ok(finished) };
            after = Some(last.id);
            let ours = page.into_iter().filter(|sighting| is_ours(&sighting.camera));
            let mut records: Vec<_> = ours
                .map(|sighting| Recorded {
                    sighting: Arc::new(Sighting { stage: SightingStage::Final, ..sighting }),
                    pictures: Vec::new(),
                    alerts: Vec::new(),
                })
                .collect();
            if !records.is_empty() {
                self.take_in_own(&mut records)?;
                finished += records.len();
            }
        }
    }
}

/// What rang before the start, as the end of the log has it.
fn recall_repeats(alerts: &dyn AlertLog, within: Duration) -> Result<Repeats, StoreError> {
    const PAGE: usize = 1000;
    let mut repeats = Repeats::new(within);
    if within.is_zero() {
        return Ok(repeats);
    }
    let mut cursor = alerts.last_cursor()?.saturating_sub(REMEMBERED_MAX as u64);
    loop {
        let page = alerts.alerts_after(cursor, PAGE)?;
        page.iter().for_each(|alert| repeats.recall(alert));
        match page.last() {
            Some(last) => cursor = last.cursor,
            None => return Ok(repeats),
        }
    }
}

/// The latest moment at which it may have been seen.
fn latest_capture(sighting: &Sighting) -> Timestamp {
    sighting.captured.at.plus(sighting.captured.uncertainty)
}

impl SightingIntake for Intake {
    fn take_in(&self, records: &mut [Recorded]) -> Result<Receipt, StoreError> {
        self.take(records, |sighting, _| latest_capture(sighting))
    }

    fn log_alert(&self, alert: Alert) -> Result<Option<Alert>, StoreError> {
        let logged = self.parts.alerts.append(&alert)?;
        self.announce_alerts(logged.as_slice());
        Ok(logged)
    }
}
