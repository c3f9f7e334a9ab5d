//! How a closed day becomes a segment.
//!
//! A day's database keeps what may still change or come: provisional sightings, sightings that came late, alerts,
//! where pictures lie. What is final moves into a segment, and the database says which one is the day's. That row is
//! the commit point: it changes in the same transaction in which the rows that moved are dropped, after the segment
//! and its name are durable. A segment that no database names is what a crash left, and is deleted at the next start.
//!
//! The segment is built from a snapshot, while others read and write. What came or changed since the snapshot stays
//! in the database; nothing that is final in the snapshot can change (a batch that might be taken back is settled
//! before it is taken).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use guiji_domain::{Sighting, SightingId, SightingStage, SortOrder, StoreError, Timestamp};
use rusqlite::{Connection, params};
use tracing::{info, warn};

use crate::codes::Coded;
use crate::day::Day;
use crate::errors::{damaged, io_at, sql_at};
use crate::partition::{Partition, RawSighting, read_summary, sealed_number};
use crate::schema::{self, FileKind, sync_folder_of};
use crate::segment::{Rows, Segment, SegmentRows, SegmentWriter};
use crate::store::{Shared, files_in};
use crate::writer::Writer;

const DOING: &str = "seal a day";

/// A sealed day is sealed again when it has more than one late sighting for this many sealed ones.
const LATE_SHARE: i64 = 32;

/// What [`crate::Store::seal_days`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SealReport {
    /// Days whose segment was written.
    pub days: usize,
    /// Sightings in these segments.
    pub sightings: u64,
    /// Bytes of these segments.
    pub bytes: u64,
}

pub(crate) fn seal_days(
    shared: &Shared,
    writer: &Mutex<Writer>,
    now: Timestamp,
) -> Result<SealReport, StoreError> {
    // Holds nothing that a panic could leave half done.
    let _one_at_a_time = shared.sealing.lock().unwrap_or_else(PoisonError::into_inner);
    let mut report = SealReport::default();
    for partition in shared.partitions_by(SortOrder::OldestFirst) {
        if !partition.day.is_past(shared.settings.seal_days, now)
            || partition.summary().captured.is_none()
        {
            continue;
        }
        let Some(sealing) = Sealing::begin(shared, writer, &partition)? else { continue };
        if sealing.is_worth_it()?
            && let Sealed::Done(segment) = sealing.finish(&Rows::default())?
        {
            report.days += 1;
            report.sightings += u64::from(segment.rows());
            report.bytes += segment.bytes();
            info!(day = %partition.day, sightings = segment.rows(), bytes = segment.bytes(), "sealed a day");
        }
    }
    Ok(report)
}

/// How a sealing ended.
pub(crate) enum Sealed {
    /// The day has this segment now.
    Done(Arc<Segment>),
    /// Retention took the day.
    Deleted,
    /// Meanwhile somebody wrote sightings that were to come in from outside: it is to be begun anew.
    Overtaken,
}

/// One day being sealed.
pub(crate) struct Sealing<'a> {
    shared: &'a Shared,
    writer: &'a Mutex<Writer>,
    partition: &'a Arc<Partition>,
    /// Sees the snapshot.
    connection: Connection,
    sealed: Option<Arc<Segment>>,
    /// The number of the segment to be.
    number: u32,
}

/// What of the snapshot stays in the database.
#[derive(Debug, Default)]
struct Stays {
    /// The last row of the snapshot: what comes later stays.
    last: i64,
    /// Rows that are not final, or damaged.
    rows: HashSet<i64>,
    /// Rows whose final form comes from outside, which takes their place.
    replaced: Vec<i64>,
}

impl<'a> Sealing<'a> {
    /// Takes the snapshot; `None` when retention took the day.
    pub(crate) fn begin(
        shared: &'a Shared,
        writer: &'a Mutex<Writer>,
        partition: &'a Arc<Partition>,
    ) -> Result<Option<Self>, StoreError> {
        let failed = sql_at(DOING, &partition.path);
        let mut guard = lock(writer);
        if partition.is_deleted() {
            return Ok(None); // opening it would make it anew
        }
        guard.settle(shared)?;
        let durability = shared.settings.durability;
        let connection = schema::open_writer(&partition.path, FileKind::Partition, durability)?;
        // The log is folded in afterwards, not while the commit keeps readers waiting.
        connection.execute_batch("PRAGMA wal_autocheckpoint = 0; BEGIN").map_err(&failed)?;
        let number = sealed_number(&connection)?.unwrap_or(0); // the snapshot is taken here
        drop(guard);
        let sealed = partition.segment();
        let number = number.checked_add(1).ok_or_else(|| {
            damaged(partition.path.display(), "the number of its segment is impossible")
        })?;
        Ok(Some(Self { shared, writer, partition, connection, sealed, number }))
    }

    /// Whether enough has come since the day was sealed.
    fn is_worth_it(&self) -> Result<bool, StoreError> {
        let late: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sighting WHERE stage = ?1", [FINAL.code()], |row| {
                row.get(0)
            })
            .map_err(sql_at(DOING, &self.partition.path))?;
        let there = self.sealed.as_ref().map_or(0, |segment| i64::from(segment.rows()));
        Ok(late > 0 && late.saturating_mul(LATE_SHARE) >= there)
    }

    /// Those of the ids of which the day has the final form, and those of which it has a provisional one.
    pub(crate) fn known(
        &self,
        ids: &HashSet<SightingId>,
    ) -> Result<(HashSet<SightingId>, HashSet<SightingId>), StoreError> {
        let failed = sql_at(DOING, &self.partition.path);
        let (mut last, mut provisional) = (HashSet::new(), HashSet::new());
        if let Some(segment) = &self.sealed {
            SegmentRows::new(segment).ids(|id| {
                if ids.contains(&id) {
                    last.insert(id);
                }
            })?;
        }
        let mut statement =
            self.connection.prepare("SELECT id, stage FROM sighting").map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let id = row.get(0).map_err(&failed)?;
            let id = SightingId::from_u128(u128::from_be_bytes(id));
            if ids.contains(&id) {
                // As the writer sees it: a damaged final form keeps its place.
                let stage = SightingStage::from_code(row.get(1).map_err(&failed)?);
                let known = stage == Some(SightingStage::Provisional);
                if known { &mut provisional } else { &mut last }.insert(id);
            }
        }
        Ok((last, provisional))
    }

    /// Makes the new segment the day's. `others` are rows from outside, in order, of which the day has none in its
    /// final form ([`Self::known`]); they come in with it.
    pub(crate) fn finish(self, others: &Rows) -> Result<Sealed, StoreError> {
        let path = self.partition.segment_path(self.number);
        let ids: HashSet<_> = others.ids().collect();
        let built = self.build(&path, others, &ids);
        match built.and_then(|stays| self.commit(&path, &stays, &ids)) {
            Ok(Sealed::Done(segment)) => Ok(Sealed::Done(segment)),
            other => {
                // The next start does it, if this cannot.
                if let Err(error) = std::fs::remove_file(&path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    warn!(path = %path.display(), %error, "cannot remove an unfinished segment");
                }
                other
            }
        }
    }

    /// Writes the segment: what was sealed before, what is final in the snapshot, and what comes from outside, merged.
    fn build(
        &self,
        path: &Path,
        others: &Rows,
        ids: &HashSet<SightingId>,
    ) -> Result<Stays, StoreError> {
        let failed = sql_at(DOING, &self.partition.path);
        let mut segment = SegmentWriter::create(path)?;
        let mut merge =
            Merge { sealed: self.sealed.as_deref().map(SegmentRows::new), others, next_other: 0 };
        let mut stays = Stays::default();
        let mut statement = self
            .connection
            .prepare(
                "SELECT seq, captured, id, stage, checksum, record FROM sighting INDEXED BY sighting_by_time
                 ORDER BY captured, id",
            )
            .map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let seq: i64 = row.get(0).map_err(&failed)?;
            stays.last = stays.last.max(seq);
            let captured: i64 = row.get(1).map_err(&failed)?;
            let raw = RawSighting {
                id: row.get(2).map_err(&failed)?,
                checksum: row.get(4).map_err(&failed)?,
                record: row.get(5).map_err(&failed)?,
            };
            let stage: u8 = row.get(3).map_err(&failed)?;
            if ids.contains(&SightingId::from_u128(u128::from_be_bytes(raw.id))) {
                stays.replaced.push(seq);
                continue;
            }
            let Some(sighting) = whole_and_final(&raw, captured, stage) else {
                stays.rows.insert(seq);
                continue;
            };
            merge.push_before(Some(key(&sighting)), &mut segment)?;
            segment.push(&sighting)?;
        }
        merge.push_before(None, &mut segment)?;
        segment.finish()?;
        Ok(stays)
    }

    /// Makes the segment the day's, and drops from the database what is in it.
    fn commit(
        &self,
        path: &Path,
        stays: &Stays,
        ids: &HashSet<SightingId>,
    ) -> Result<Sealed, StoreError> {
        let failed = sql_at(DOING, &self.partition.path);
        let segment = Arc::new(Segment::open(path, &self.shared.blocks)?);
        self.connection.execute_batch("COMMIT").map_err(&failed)?; // of the snapshot
        let mut writer = lock(self.writer);
        if self.partition.is_deleted() {
            return Ok(Sealed::Deleted);
        }
        if !ids.is_empty() && self.is_overtaken(stays, ids)? {
            return Ok(Sealed::Overtaken);
        }
        let prepare = || {
            self.connection.execute_batch("BEGIN IMMEDIATE").map_err(&failed)?;
            drop_rows(&self.connection, stays).map_err(&failed)?;
            self.connection
                .execute(
                    "INSERT OR REPLACE INTO sealed (one, segment) VALUES (1, ?1)",
                    [self.number],
                )
                .map_err(&failed)?;
            read_summary(&self.connection, &self.partition.path)
        };
        let committed = prepare().and_then(|summary| {
            self.partition.seal(Arc::clone(&segment), summary, || {
                self.connection.execute_batch("COMMIT").map_err(&failed)
            })
        });
        if let Err(error) = committed {
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                warn!(day = %self.partition.day, %error, "a failed sealing is not yet taken back");
            }
            return Err(error);
        }
        // It knows neither the new segment nor the new numbers of plates and cameras.
        writer.close_day(self.partition.day);
        give_space_back(&self.connection, &self.partition.path);
        drop(writer);
        if let Some(old) = &self.sealed
            && let Err(error) = std::fs::remove_file(old.path())
        {
            // The next start does it.
            warn!(path = %old.path().display(), %error, "cannot remove a superseded segment");
        }
        Ok(Sealed::Done(segment))
    }

    /// Whether, since the snapshot, somebody wrote one of these. Nobody may be writing.
    fn is_overtaken(&self, stays: &Stays, ids: &HashSet<SightingId>) -> Result<bool, StoreError> {
        let overtaken = || -> rusqlite::Result<bool> {
            let mut statement =
                self.connection.prepare("SELECT id FROM sighting WHERE seq > ?1")?;
            let mut rows = statement.query([stays.last])?;
            while let Some(row) = rows.next()? {
                if ids.contains(&SightingId::from_u128(u128::from_be_bytes(row.get(0)?))) {
                    return Ok(true);
                }
            }
            // A provisional form may have become final in its place.
            let mut statement =
                self.connection.prepare("SELECT 1 FROM sighting WHERE seq = ?1 AND stage = ?2")?;
            for seq in &stays.replaced {
                if statement.exists(params![seq, FINAL.code()])? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        overtaken().map_err(sql_at(DOING, &self.partition.path))
    }
}

/// What goes into a segment beside the database's rows, in order.
struct Merge<'a> {
    sealed: Option<SegmentRows<'a>>,
    others: &'a Rows,
    next_other: usize,
}

impl Merge<'_> {
    /// Pushes what comes before a place in the order, or all that is left.
    fn push_before(
        &mut self,
        bound: Option<Key>,
        segment: &mut SegmentWriter,
    ) -> Result<(), StoreError> {
        let before = |key: &Key| bound.is_none_or(|bound| *key < bound);
        loop {
            let sealed = match &mut self.sealed {
                Some(rows) => rows.key()?.filter(before),
                None => None,
            };
            let other = self.others.get(self.next_other).filter(|row| before(&row.key()));
            match (sealed, other) {
                (None, None) => return Ok(()),
                (sealed, Some(other)) if sealed.is_none_or(|key| other.key() < key) => {
                    segment.push_row(&other)?;
                    self.next_other += 1;
                }
                _ => {
                    if let Some(rows) = &mut self.sealed {
                        segment.push_row(&rows.take()?)?;
                    }
                }
            }
        }
    }
}

const FINAL: SightingStage = SightingStage::Final;

fn lock(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    // As `Store::writer`.
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Place in time order: capture time in nanoseconds, then the id.
type Key = (i64, SightingId);

fn key(sighting: &Sighting) -> Key {
    (sighting.captured.at.as_nanos(), sighting.id)
}

/// The sighting, when it is to be sealed. One that is damaged stays where it is and is found there by the check.
fn whole_and_final(raw: &RawSighting, captured: i64, stage: u8) -> Option<Sighting> {
    if stage != FINAL.code() {
        return None;
    }
    match raw.checked() {
        Ok(sighting) => {
            let as_indexed = sighting.captured.at.as_nanos() == captured && sighting.stage == FINAL;
            as_indexed.then_some(sighting)
        }
        Err(error) => {
            warn!(%error, "a damaged sighting is not sealed");
            None
        }
    }
}

/// Drops all sightings but those that stay. Tables are made anew, as they were: that costs what stays, where deleting
/// would cost what goes.
fn drop_rows(connection: &Connection, stays: &Stays) -> rusqlite::Result<()> {
    connection.execute_batch(
        "DROP TABLE IF EXISTS temp.stays; CREATE TEMP TABLE stays (seq INTEGER PRIMARY KEY);",
    )?;
    let mut insert = connection.prepare("INSERT INTO temp.stays VALUES (?1)")?;
    stays.rows.iter().try_for_each(|seq| insert.execute([seq]).map(drop))?;
    drop(insert);
    connection.execute(
        "INSERT OR IGNORE INTO temp.stays SELECT seq FROM sighting WHERE seq > ?1",
        params![stays.last],
    )?;
    let tables = [
        ("sighting", "seq IN (SELECT seq FROM temp.stays)"),
        ("plate", "id IN (SELECT plate FROM temp.kept_sighting)"),
        ("camera", "id IN (SELECT camera FROM temp.kept_sighting)"),
    ];
    for (table, condition) in tables {
        connection.execute_batch(&format!(
            "DROP TABLE IF EXISTS temp.kept_{table};
             CREATE TEMP TABLE kept_{table} AS SELECT * FROM main.{table} WHERE {condition};"
        ))?;
    }
    for (table, _) in tables {
        let mut made: Vec<String> = connection
            .prepare("SELECT sql FROM main.sqlite_schema WHERE tbl_name = ?1 AND sql IS NOT NULL ORDER BY type DESC")?
            .query_map([table], |row| row.get(0))?
            .collect::<Result<_, _>>()?; // the table before its indexes
        made.push(format!("INSERT INTO main.{table} SELECT * FROM temp.kept_{table}"));
        connection.execute_batch(&format!("DROP TABLE main.{table}; {};", made.join(";")))?;
        connection.execute_batch(&format!("DROP TABLE temp.kept_{table}"))?;
    }
    Ok(())
}

/// Gives a database's free pages back to the system, when most of it is free: after a sealing. If that fails, or
/// somebody still reads what was, the next time does it.
pub(crate) fn give_space_back(connection: &Connection, path: &Path) {
    let number = |pragma: &str| {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
    };
    let shrunk = number("freelist_count").and_then(|free| {
        if free * 2 < number("page_count")? || free < 16 {
            return Ok(());
        }
        connection.execute_batch("VACUUM")?;
        // As far as those who read let it, and without holding them up.
        number("wal_checkpoint(PASSIVE)").map(drop)
    });
    if let Err(error) = shrunk {
        warn!(path = %path.display(), %error, "cannot give back the space of a sealed day");
    }
}

/// The files of segments in the folder of partitions, with their days.
pub(crate) fn segment_files(folder: &Path) -> Result<Vec<(Day, PathBuf)>, StoreError> {
    let mut files = Vec::new();
    for path in files_in(folder)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if let Some((day, rest)) = name.split_once('.')
            && rest.ends_with(".seg")
            && let Ok(day) = day.parse()
        {
            files.push((day, path));
        }
    }
    Ok(files)
}

/// The partition with the segment that its database names; what else there is of that day's segments is deleted.
pub(crate) fn with_segment(
    shared: &Shared,
    partition: Partition,
    sealed: Option<u32>,
) -> Result<Partition, StoreError> {
    let named = sealed.map(|number| partition.segment_path(number));
    // Before anything is removed: a damaged number must not cost the day its segment.
    if let Some(path) = &named
        && !path.is_file()
    {
        return Err(damaged(path.display(), "the segment of a sealed day is missing"));
    }
    let mut any = false;
    for (day, path) in segment_files(&shared.sightings_folder())? {
        if day == partition.day && Some(&path) != named.as_ref() {
            std::fs::remove_file(&path).map_err(io_at("remove an unfinished segment", &path))?;
            any = true;
        }
    }
    if any {
        sync_folder_of(&partition.path)?;
    }
    let Some(path) = named else { return Ok(partition) };
    let segment = Arc::new(Segment::open(&path, &shared.blocks)?);
    let summary = partition.summary();
    Ok(Partition::new(partition.day, partition.path, summary, Some(segment)))
}
