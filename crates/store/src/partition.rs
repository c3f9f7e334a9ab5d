use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use guiji_domain::{Alert, AlertId, Sighting, SightingId, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::codec::{decode_alert, decode_sighting};
use crate::day::Day;
use crate::errors::{damaged, sql, sql_at};
use crate::segment::Segment;

/// The files of one day, and what is known of them without opening them: its database, and once it is sealed, the
/// segment with what was final then.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) day: Day,
    pub(crate) path: PathBuf,
    summary: Mutex<Summary>,
    segment: RwLock<Option<Arc<Segment>>>,
    deleted: AtomicBool,
}

/// Bounds of what is in the database, that let a query pass it over. They widen before a commit, so that no committed
/// row lies outside, and narrow only when rows have gone into a segment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Summary {
    /// Earliest and latest capture time, nanoseconds.
    pub(crate) captured: Option<(i64, i64)>,
    /// The highest alert cursor, 0 for none.
    pub(crate) last_cursor: u64,
}

impl Summary {
    pub(crate) fn include_captured(&mut self, at: i64) {
        let (first, last) = self.captured.unwrap_or((at, at));
        self.captured = Some((first.min(at), last.max(at)));
    }

    pub(crate) fn include_cursor(&mut self, cursor: u64) {
        self.last_cursor = self.last_cursor.max(cursor);
    }
}

impl Partition {
    pub(crate) fn new(
        day: Day,
        path: PathBuf,
        summary: Summary,
        segment: Option<Arc<Segment>>,
    ) -> Self {
        Self {
            day,
            path,
            summary: Mutex::new(summary),
            segment: RwLock::new(segment),
            deleted: AtomicBool::new(false),
        }
    }

    /// The path of a day's file in the folder of partitions.
    pub(crate) fn path_in(folder: &Path, day: Day) -> PathBuf {
        folder.join(format!("{day}.db"))
    }

    /// The path of a day's segment of that number.
    pub(crate) fn segment_path(&self, number: u32) -> PathBuf {
        self.path.with_extension(format!("{number:04}.seg"))
    }

    /// What was sealed.
    pub(crate) fn segment(&self) -> Option<Arc<Segment>> {
        self.hold_segment().clone()
    }

    /// While this is held, no sealing commits: what a transaction on the database sees that begins meanwhile goes
    /// with this segment.
    pub(crate) fn hold_segment(&self) -> RwLockReadGuard<'_, Option<Arc<Segment>>> {
        self.segment.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits a sealing, after which `summary` is what stays in the database. No reader sees rows in both places or
    /// in neither.
    pub(crate) fn seal(
        &self,
        segment: Arc<Segment>,
        summary: Summary,
        commit: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut held = self.segment.write().unwrap_or_else(PoisonError::into_inner);
        commit()?;
        *self.lock() = summary;
        *held = Some(segment);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Summary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn summary(&self) -> Summary {
        *self.lock()
    }

    pub(crate) fn widen(&self, by: Summary) {
        let mut summary = self.lock();
        for at in by.captured.into_iter().flat_map(|(first, last)| [first, last]) {
            summary.include_captured(at);
        }
        summary.include_cursor(by.last_cursor);
    }

    /// Retention took the file; a reader that still holds this handle finds nothing.
    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::SeqCst)
    }
}

/// The number of the segment that belongs to a database.
pub(crate) fn sealed_number(connection: &Connection) -> Result<Option<u32>, StoreError> {
    connection
        .prepare_cached("SELECT segment FROM sealed")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)).optional())
        .map_err(sql("find a sealed day"))
}

/// The bounds of a partition, from its indexes.
pub(crate) fn read_summary(connection: &Connection, path: &Path) -> Result<Summary, StoreError> {
    let failed = sql_at("read a partition's bounds", path);
    let edge = |sql: &str| {
        connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).map_err(&failed)
    };
    // Apart, since SQLite takes an index for one min or max alone.
    let first = edge("SELECT min(captured) FROM sighting")?;
    let last = edge("SELECT max(captured) FROM sighting")?;
    let cursor = edge("SELECT max(cursor) FROM alert")?.unwrap_or(0);
    Ok(Summary {
        captured: first.zip(last),
        last_cursor: u64::try_from(cursor)
            .map_err(|_| damaged(path.display(), "an alert cursor is negative"))?,
    })
}

/// An id as it stands in a key.
pub(crate) fn id_key(id: SightingId) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

/// The CRC-32 that stands beside a record.
pub(crate) fn checksum(key: &[u8], record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(record);
    hasher.finalize()
}

/// A sighting row as it lies on disk, not yet checked.
#[derive(Debug)]
pub(crate) struct RawSighting {
    pub(crate) id: [u8; 16],
    pub(crate) checksum: i64,
    pub(crate) record: Vec<u8>,
}

impl RawSighting {
    /// The sighting, when the bytes are what was written.
    pub(crate) fn checked(&self) -> Result<Sighting, StoreError> {
        let what = || format!("sighting {}", SightingId::from_u128(u128::from_be_bytes(self.id)));
        if i64::from(checksum(&self.id, &self.record)) != self.checksum {
            return Err(damaged(what(), "its checksum does not match"));
        }
        let sighting = decode_sighting(&self.record).map_err(|reason| damaged(what(), reason))?;
        if id_key(sighting.id) != self.id {
            return Err(damaged(what(), "its record is that of another sighting"));
        }
        Ok(sighting)
    }
}

pub(crate) fn find_sighting(
    connection: &Connection,
    id: SightingId,
) -> Result<Option<RawSighting>, StoreError> {
    let failed = sql("read a sighting");
    let key = id_key(id);
    connection
        .prepare_cached("SELECT checksum, record FROM sighting WHERE id = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([key], |row| {
                    Ok(RawSighting { id: key, checksum: row.get(0)?, record: row.get(1)? })
                })
                .optional()
        })
        .map_err(failed)
}

/// Alerts with `after < cursor <= until`, in log order.
pub(crate) fn alerts_between(
    connection: &Connection,
    after: u64,
    until: u64,
    limit: usize,
) -> Result<Vec<Alert>, StoreError> {
    read_alerts(
        connection,
        "SELECT cursor, checksum, record FROM alert WHERE cursor > ?1 AND cursor <= ?2 ORDER BY cursor LIMIT ?3",
        params![sql_number(after), sql_number(until), sql_number(limit as u64)],
    )
}

/// The latest alert of each entry that each of the sightings rang, up to a cursor, ordered by entry.
pub(crate) fn latest_alerts(
    connection: &Connection,
    sightings: &[SightingId],
    until: u64,
) -> Result<Vec<Alert>, StoreError> {
    // One snapshot for all: beginning to read costs more than what is read.
    let snapshot = connection.unchecked_transaction().map_err(sql("read alerts"))?;
    let mut alerts = Vec::new();
    for sighting in sightings {
        // With a bare max(), SQLite takes the other columns from the row of the maximum. Stages 0 to 2 are findings.
        alerts.extend(read_alerts(
            &snapshot,
            "SELECT max(cursor), checksum, record FROM alert WHERE sighting = ?1 AND cursor <= ?2 \
             AND stage <= 2 GROUP BY entry ORDER BY entry",
            params![id_key(*sighting), sql_number(until)],
        )?);
    }
    snapshot.commit().map_err(sql("read alerts"))?;
    Ok(alerts)
}

/// All stages of all alerts that a sighting rang, in log order.
pub(crate) fn alerts_of_sighting(
    connection: &Connection,
    sighting: SightingId,
) -> Result<Vec<Alert>, StoreError> {
    read_alerts(
        connection,
        "SELECT cursor, checksum, record FROM alert WHERE sighting = ?1 ORDER BY cursor",
        params![id_key(sighting)],
    )
}

/// All stages of an alert, up to a cursor, in log order.
pub(crate) fn alert_stages(
    connection: &Connection,
    id: &AlertId,
    until: u64,
) -> Result<Vec<Alert>, StoreError> {
    read_alerts(
        connection,
        "SELECT cursor, checksum, record FROM alert WHERE sighting = ?1 AND entry = ?2 AND cursor <= ?3 ORDER BY cursor",
        params![id_key(id.sighting), id.entry.as_str(), sql_number(until)],
    )
}

fn read_alerts(
    connection: &Connection,
    query: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Alert>, StoreError> {
    let failed = sql("read alerts");
    let mut statement = connection.prepare_cached(query).map_err(&failed)?;
    let mut rows = statement.query(parameters).map_err(&failed)?;
    let mut alerts = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        let (cursor, checksum, record) = alert_row(row).map_err(&failed)?;
        alerts.push(checked_alert(cursor, checksum, &record)?);
    }
    Ok(alerts)
}

fn alert_row(row: &Row<'_>) -> rusqlite::Result<(i64, i64, Vec<u8>)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

/// The alert, when the bytes are what was written.
pub(crate) fn checked_alert(cursor: i64, stored: i64, record: &[u8]) -> Result<Alert, StoreError> {
    let what = || format!("alert {cursor}");
    if i64::from(checksum(&cursor.to_le_bytes(), record)) != stored {
        return Err(damaged(what(), "its checksum does not match"));
    }
    let number = u64::try_from(cursor).map_err(|_| damaged(what(), "its cursor is negative"))?;
    decode_alert(number, record).map_err(|reason| damaged(what(), reason))
}

/// SQLite's integers are signed: a larger number bounds nothing anyway.
pub(crate) fn sql_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
