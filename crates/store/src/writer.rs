use std::collections::BTreeSet;
use std::sync::Arc;

use guiji_domain::{Alert, Kept, Receipt, Recorded, StoreError};
use rusqlite::Connection;
use tracing::warn;

use crate::day::Day;
use crate::errors::sql;
use crate::pack::{self, PackName, PackWriter};
use crate::partition::Summary;
use crate::record::{Prior, Words, proved_record, put_alerts, put_sighting};
use crate::schema::{self, FileKind};
use crate::segment::Segment;
use crate::store::Shared;
use crate::undo::{self, DayUndo};

const DOING: &str = "append sightings";

/// Days kept open for appending: today's, and yesterday's for the tracks that began before midnight.
const OPEN_DAYS_MAX: usize = 4;
/// Most days one batch may touch: each holds files open.
const BATCH_DAYS_MAX: usize = 64;
/// Alert cursors are reserved this many at a time, so that an alert costs no write to the registry.
const CURSOR_BLOCK: u64 = 1024;

/// The one that appends. Whatever fails, it rolls back and lets its packs go.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Least recently used first.
    days: Vec<DayWriter>,
    next_cursor: u64,
    reserved_cursor: u64,
    /// Whether the registry may hold the note of an unfinished batch.
    unsettled: bool,
    #[cfg(test)]
    pub(crate) fault: Option<Fault>,
}

/// A place to fail at, for tests.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The second day cannot commit.
    SecondCommit,
    /// Nor can the first be taken back.
    SecondCommitAndUndo,
}

/// A day's file and packs, open for appending.
#[derive(Debug)]
struct DayWriter {
    day: Day,
    connection: Connection,
    words: Words,
    /// What was sealed before it was opened; sealing closes the day.
    sealed: Option<Arc<Segment>>,
    packs: PackWriter,
}

/// What a batch did in a day, before its commit.
#[derive(Debug)]
struct Prepared {
    summary: Summary,
    undo: DayUndo,
}

impl Writer {
    /// Goes on after the reserved cursors, of which some were given by an earlier run.
    pub(crate) fn new(reserved_cursor: u64) -> Self {
        Self {
            days: Vec::new(),
            next_cursor: reserved_cursor + 1,
            reserved_cursor,
            unsettled: true,
            #[cfg(test)]
            fault: None,
        }
    }

    /// Keeps a batch, whose [`proved_records`] these are, durably and whole, or leaves nothing of it.
    pub(crate) fn record(
        &mut self,
        shared: &Shared,
        batch: &[Recorded],
        records: &[Vec<u8>],
    ) -> Result<Receipt, StoreError> {
        self.settle(shared)?;
        match self.try_record(shared, batch, records) {
            Ok(receipt) => {
                // Before this, readers pass over the new alerts: those of a batch appear together.
                if let Some(last) = receipt.alerts.last() {
                    shared.publish(last.cursor);
                }
                self.close_least_recent();
                Ok(receipt)
            }
            Err(failure) => {
                self.roll_back(shared);
                if let Err(error) = self.settle(shared) {
                    warn!(%error, "a failed batch is not yet taken back, the next call tries again");
                }
                Err(failure)
            }
        }
    }

    /// Logs a further stage of an alert whose day has alerts: durably, or not at all.
    pub(crate) fn append(
        &mut self,
        shared: &Shared,
        alert: &Alert,
    ) -> Result<Option<Alert>, StoreError> {
        self.settle(shared)?;
        match self.try_append(shared, alert) {
            Ok(logged) => {
                if let Some(logged) = &logged {
                    shared.publish(logged.cursor);
                }
                self.close_least_recent();
                Ok(logged)
            }
            Err(failure) => {
                self.roll_back(shared);
                Err(failure)
            }
        }
    }

    fn try_append(&mut self, shared: &Shared, alert: &Alert) -> Result<Option<Alert>, StoreError> {
        let day = Day::of(alert.sighting().started());
        self.reserve(shared, 1)?;
        self.open(shared, day)?;
        let (mut next_cursor, mut summary) = (self.next_cursor, Summary::default());
        let connection = &self.day(day)?.connection;
        connection.execute_batch("BEGIN IMMEDIATE").map_err(sql(DOING))?;
        let alert = std::slice::from_ref(alert);
        let logged = put_alerts(connection, alert, &mut next_cursor, &mut summary)?;
        shared.partition(day)?.widen(summary);
        connection.execute_batch("COMMIT").map_err(sql(DOING))?;
        self.next_cursor = next_cursor;
        Ok(logged.into_iter().next())
    }

    fn try_record(
        &mut self,
        shared: &Shared,
        batch: &[Recorded],
        records: &[Vec<u8>],
    ) -> Result<Receipt, StoreError> {
        let days: BTreeSet<Day> = batch.iter().map(day_of).collect();
        if days.len() > BATCH_DAYS_MAX {
            return Err(guiji_domain::InvalidValue::new(
                "batch",
                format!("{} days", days.len()),
                format!("touch at most {BATCH_DAYS_MAX} days at once: split it"),
            )
            .into());
        }
        self.reserve(shared, batch.iter().map(|item| item.alerts.len() as u64).sum())?;
        for day in &days {
            self.open(shared, *day)?;
        }
        // In the order of the days, which is the order of the commits.
        let mut prepared: Vec<Prepared> = days
            .iter()
            .map(|day| Prepared { summary: Summary::default(), undo: DayUndo::new(*day) })
            .collect();
        for day in &days {
            let writer = self.day(*day)?;
            writer.connection.execute_batch("BEGIN IMMEDIATE").map_err(sql(DOING))?;
        }

        let mut receipt = Receipt::default();
        let mut next_cursor = self.next_cursor;
        for (item, record) in batch.iter().zip(records) {
            let day = day_of(item);
            let writer = self.day(day)?;
            if let Some(prepared) = prepared.iter_mut().find(|p| p.undo.day == day) {
                let (kept, alerts) = writer.put((item, record), &mut next_cursor, prepared)?;
                receipt.kept.push(kept);
                receipt.alerts.extend(alerts);
            }
        }
        for day in &days {
            self.day(*day)?.packs.sync()?;
        }
        self.commit(shared, prepared)?;
        self.next_cursor = next_cursor;
        Ok(receipt)
    }

    fn commit(&mut self, shared: &Shared, prepared: Vec<Prepared>) -> Result<(), StoreError> {
        let several = prepared.len() > 1;
        if several {
            let undo: Vec<_> = prepared.iter().map(|p| p.undo.clone()).collect();
            self.unsettled = true;
            shared.registry().note_unfinished(&undo::encode(&undo))?;
        }
        for (i, prepared) in prepared.into_iter().enumerate() {
            self.fail_if_asked(i)?;
            shared.partition(prepared.undo.day)?.widen(prepared.summary);
            let writer = self.day(prepared.undo.day)?;
            writer.connection.execute_batch("COMMIT").map_err(sql(DOING))?;
            writer.packs.committed();
        }
        if several {
            shared.registry().clear_unfinished()?;
            self.unsettled = false;
        }
        Ok(())
    }

    /// Takes back a batch of several days that did not commit in all of them.
    pub(crate) fn settle(&mut self, shared: &Shared) -> Result<(), StoreError> {
        if !self.unsettled {
            return Ok(());
        }
        let note = shared.registry().unfinished()?;
        if let Some(note) = note {
            self.fail_undo_if_asked()?;
            for day in undo::decode(&note)? {
                self.open(shared, day.day)?;
                day.apply(&mut self.day(day.day)?.connection)?;
                warn!(day = %day.day, sightings = day.sightings.len(), "took back an unfinished batch");
            }
            shared.registry().clear_unfinished()?;
        }
        self.unsettled = false;
        Ok(())
    }

    /// Makes sure that `count` cursors are free to give, and above every cursor ever given.
    fn reserve(&mut self, shared: &Shared, count: u64) -> Result<(), StoreError> {
        let needed = self.next_cursor.saturating_add(count).saturating_sub(1);
        if needed > self.reserved_cursor {
            let until = needed.saturating_add(CURSOR_BLOCK);
            shared.registry().reserve_cursors(until)?;
            self.reserved_cursor = until;
        }
        Ok(())
    }

    /// Opens a day, or moves it to the end of the list.
    fn open(&mut self, shared: &Shared, day: Day) -> Result<(), StoreError> {
        if let Some(at) = self.days.iter().position(|open| open.day == day) {
            let recent = self.days.remove(at);
            self.days.push(recent);
            return Ok(());
        }
        let partition = shared.partition_or_new(day);
        let settings = &shared.settings;
        let connection =
            schema::open_writer(&partition.path, FileKind::Partition, settings.durability)?;
        let sealed = partition.segment();
        shared.add_partition(partition);
        let packs = pack_writer(shared, day);
        self.days.push(DayWriter { day, connection, words: Words::default(), sealed, packs });
        Ok(())
    }

    fn day(&mut self, day: Day) -> Result<&mut DayWriter, StoreError> {
        self.days.iter_mut().find(|open| open.day == day).ok_or_else(|| StoreError::Medium {
            doing: DOING,
            reason: format!("the partition of {day} is not open"),
        })
    }

    fn close_least_recent(&mut self) {
        let surplus = self.days.len().saturating_sub(OPEN_DAYS_MAX);
        self.days.drain(..surplus);
    }

    /// Rolls back what has not committed. Connections stay open where that works, since on a full disk they could
    /// not be opened again, and readers of these days neither.
    fn roll_back(&mut self, shared: &Shared) {
        self.days.retain_mut(|open| {
            // First the rows, then what they would have pointed to.
            let rolled_back = open.connection.is_autocommit()
                || open.connection.execute_batch("ROLLBACK").is_ok();
            let fresh = pack_writer(shared, open.day);
            std::mem::replace(&mut open.packs, fresh).abandon();
            open.words = Words::default();
            rolled_back
        });
    }

    /// Closes a day, since its file is about to be deleted or was rewritten.
    pub(crate) fn close_day(&mut self, day: Day) {
        self.days.retain(|open| open.day != day);
    }

    /// Closes a pack, since its file is about to be deleted.
    pub(crate) fn close_pack(&mut self, name: PackName) {
        for open in self.days.iter_mut().filter(|open| open.day == name.day) {
            open.packs.close(name);
        }
    }
}

#[cfg(not(test))]
impl Writer {
    fn fail_if_asked(&self, _nth_commit: usize) -> Result<(), StoreError> {
        Ok(())
    }

    fn fail_undo_if_asked(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
impl Writer {
    fn fail_if_asked(&self, nth_commit: usize) -> Result<(), StoreError> {
        match self.fault {
            Some(_) if nth_commit == 1 => Err(StoreError::Full { doing: DOING }),
            _ => Ok(()),
        }
    }

    fn fail_undo_if_asked(&self) -> Result<(), StoreError> {
        match self.fault {
            Some(Fault::SecondCommitAndUndo) => Err(StoreError::Full { doing: DOING }),
            _ => Ok(()),
        }
    }
}

impl DayWriter {
    /// Enters one item in the open transaction.
    fn put(
        &mut self,
        (item, record): (&Recorded, &[u8]),
        next_cursor: &mut u64,
        prepared: &mut Prepared,
    ) -> Result<(Kept, Vec<Alert>), StoreError> {
        let sighting = &item.sighting;
        let sealed = self.sealed.as_deref();
        let prior = put_sighting(
            &self.connection,
            &mut self.words,
            sealed,
            (sighting, record),
            &mut prepared.summary,
        )?;
        if prior != Prior::Final {
            for (evidence, picture) in sighting.evidence.iter().zip(&item.pictures) {
                // Of what is held: retention had taken it before.
                if picture.is_empty() && evidence.bytes > 0 {
                    pack::put_deleted(&self.connection, evidence.kind, &evidence.digest)?;
                    continue;
                }
                self.packs.put(&self.connection, evidence.kind, &evidence.digest, picture)?;
            }
        }
        let alerts =
            put_alerts(&self.connection, &item.alerts, next_cursor, &mut prepared.summary)?;
        prepared.undo.alerts.extend(alerts.iter().map(|alert| alert.cursor));
        let kept = match prior {
            Prior::Final => Kept::Present,
            Prior::None => {
                prepared.undo.sightings.push((sighting.id, None));
                Kept::New
            }
            Prior::Provisional(record) => {
                prepared.undo.sightings.push((sighting.id, Some(record)));
                Kept::Replaced
            }
        };
        Ok((kept, alerts))
    }
}

/// The records of a batch: before the writer is taken, so that others write meanwhile.
pub(crate) fn proved_records(batch: &[Recorded]) -> Result<Vec<Vec<u8>>, StoreError> {
    batch.iter().map(|item| proved_record(&item.sighting)).collect()
}

fn pack_writer(shared: &Shared, day: Day) -> PackWriter {
    let settings = &shared.settings;
    PackWriter::new(shared.evidence_folder(), day, settings.pack_bytes_max, settings.durability)
}

fn day_of(item: &Recorded) -> Day {
    Day::of(item.sighting.id.started())
}
