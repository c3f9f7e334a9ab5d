//! Sightings of days that are over, straight into segments: for histories of other systems, which come by the
//! hundred million. Beside [`crate::Store::seal_days`] it is the only maker of segments, and it is a sealing: what
//! comes in is merged with what the day has, and is there from the commit on that names the new segment.

use std::collections::{BTreeMap, HashSet};

use guiji_domain::{
    InvalidValue, Kept, Sighting, SightingId, SightingStage, StoreError, Timestamp,
};
use tracing::info;

use crate::backup::Housekeeping;
use crate::codec::Malformed;
use crate::day::Day;
use crate::seal::{Sealed, Sealing};
use crate::segment::Rows;
use crate::store::Store;

const DOING: &str = "take in days that are over";

/// Tries at a day that others write to at the same time.
const TRIES_MAX: usize = 4;

/// What a [`Bulk`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BulkReport {
    /// Sightings that were new.
    pub new: u64,
    /// Sightings that took the place of a provisional form.
    pub replaced: u64,
    /// Sightings whose final form was there already and stays, or that came twice.
    pub present: u64,
    /// Segments that were written.
    pub segments: usize,
}

impl BulkReport {
    /// How many sightings became of a kind.
    pub fn count(&self, kept: Kept) -> u64 {
        match kept {
            Kept::New => self.new,
            Kept::Replaced => self.replaced,
            Kept::Present => self.present,
        }
    }
}

/// Sightings of days that are over, on their way in. Nothing of them is durable or can be found before
/// [`Self::commit`]; dropping it gives up what was not committed.
///
/// Keeps some 200 bytes a sighting in memory, at most about [`Self::BYTES_MAX`]: beyond, the days before the latest are
/// committed on the way. It costs least when sightings come in the order of time, day after day: each commit writes
/// its days' segments anew.
pub struct Bulk<'a> {
    store: &'a Store,
    now: Timestamp,
    days: BTreeMap<Day, Rows>,
    report: BulkReport,
}

impl Store {
    /// Begins to take in sightings of days that are over at that time ([`crate::StoreSettings::seal_days`]).
    pub fn begin_bulk(&self, now: Timestamp) -> Bulk<'_> {
        Bulk { store: self, now, days: BTreeMap::new(), report: BulkReport::default() }
    }
}

impl Bulk<'_> {
    /// Bytes of memory beyond which what came is committed.
    pub const BYTES_MAX: usize = 1 << 30;

    /// Whether a sighting may come in here: final, without pictures, of a day that is over.
    pub fn takes(&self, sighting: &Sighting) -> bool {
        self.refusal(sighting).is_none()
    }

    fn refusal(&self, sighting: &Sighting) -> Option<&'static str> {
        let day = Day::of(sighting.id.started());
        if !day.is_past(self.store.settings().seal_days, self.now) {
            Some("is of a day that is not over: record it")
        } else if sighting.stage != SightingStage::Final {
            Some("is provisional: record it")
        } else if !sighting.evidence.is_empty() {
            Some("has pictures: record it with them")
        } else {
            None
        }
    }

    /// Adds sightings, in any order; of an id that comes twice the first one counts.
    ///
    /// # Errors
    /// When one is not [taken](Self::takes): then none was. When what came before had to be committed and that
    /// failed, as [`Self::commit`].
    pub fn push<'s>(
        &mut self,
        sightings: impl IntoIterator<Item = &'s Sighting> + Clone,
    ) -> Result<(), StoreError> {
        let invalid =
            |id: SightingId, fix: String| StoreError::from(InvalidValue::new("sighting", id, fix));
        for sighting in sightings.clone() {
            if let Some(reason) = self.refusal(sighting) {
                return Err(invalid(sighting.id, reason.to_owned()));
            }
        }
        let mut open: Option<(Day, Rows)> = None; // mostly all are of one day
        for sighting in sightings {
            let day = Day::of(sighting.id.started());
            if open.as_ref().is_none_or(|(open, _)| *open != day) {
                self.days.extend(open.take());
                open = Some((day, self.days.remove(&day).unwrap_or_default()));
            }
            if let Some((_, rows)) = &mut open {
                rows.push(sighting)
                    .map_err(|reason: Malformed| invalid(sighting.id, reason.to_string()))?;
            }
        }
        self.days.extend(open);
        let bytes: usize = self.days.values().map(Rows::bytes).sum();
        if bytes <= Self::BYTES_MAX {
            return Ok(());
        }
        // More of the latest day is likely to come.
        let latest = if self.days.len() > 1 { self.days.pop_last() } else { None };
        let committed = self.commit();
        self.days.extend(latest);
        committed.map(drop)
    }

    /// Makes everything that came durable and findable, day by day, and says what became of all since the beginning.
    ///
    /// # Errors
    /// When the medium fails or is full, or what the day has is damaged. A day comes in wholly or not at all; days
    /// before the failure stay, and the rest is given up: push it again.
    pub fn commit(&mut self) -> Result<BulkReport, StoreError> {
        for (day, rows) in std::mem::take(&mut self.days) {
            let done = self.store.take_in_day(day, rows);
            let done = done.map_err(|error| self.store.recognise_full(error))?;
            self.report.new += done.new;
            self.report.replaced += done.replaced;
            self.report.present += done.present;
            self.report.segments += done.segments;
        }
        Ok(self.report)
    }
}

impl Store {
    fn take_in_day(&self, day: Day, mut rows: Rows) -> Result<BulkReport, StoreError> {
        let _nobody_copies = Housekeeping::share_waiting(self.dir())?;
        let (shared, writer) = self.sealing_parts();
        let _one_at_a_time =
            shared.sealing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let came = rows.len() as u64;
        rows.keep_first_of_each();
        rows.sort();
        for _ in 0..TRIES_MAX {
            let partition = shared.partition_or_new(day);
            let Some(sealing) = Sealing::begin(shared, writer, &partition)? else { continue };
            shared.add_partition(partition.clone());
            let ids: HashSet<SightingId> = rows.ids().collect();
            let (last, provisional) = sealing.known(&ids)?;
            rows.drop_ids(&last);
            let taken = rows.len() as u64;
            let report = BulkReport {
                new: taken.saturating_sub(provisional.len() as u64),
                replaced: provisional.len() as u64,
                present: came - taken,
                segments: usize::from(taken > 0),
            };
            if taken == 0 {
                return Ok(report);
            }
            if let Sealed::Done(segment) = sealing.finish(&rows)? {
                info!(%day, sightings = segment.rows(), bytes = segment.bytes(), "took in a day");
                return Ok(report);
            }
        }
        Err(StoreError::Medium {
            doing: DOING,
            reason: format!("{day} is being written to by others all the time: try again later"),
        })
    }
}
