//! `context.db`: what sightings are judged by: what the cameras could see, the roads, and what people corrected.
//!
//! Each record carries a CRC-32 of everything that it says.
//!
//! Intervals of coverage may overlap in any way. So that those of a time are found without walking all earlier ones,
//! they are indexed by classes of length, each up to four times as long as the one before: those of a class that reach
//! into a time began at most that long before it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use guiji_domain::{
    CameraId, Correction, Coverage, InvalidValue, Kept, PlateText, RoadGraph, SightingId,
    StoreError, TimeSpan, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use tracing::warn;

use crate::codes::Coded;
use crate::errors::{damaged, sql};
use crate::partition::id_key;
use crate::road_record;
use crate::schema::{self, FileKind};
use crate::settings::Durability;

/// The open file. Its calls are short, so one connection does.
#[derive(Debug)]
pub(crate) struct Context {
    connection: Mutex<Connection>,
    /// The classes of length that a camera's intervals have, a bit each, of cameras that were asked about; some may
    /// have gone since.
    scales: Mutex<HashMap<CameraId, u64>>,
    /// The road graph once it was read; `None` inside when there is none.
    roads: Mutex<Option<Option<Arc<RoadGraph>>>>,
}

impl Context {
    pub(crate) fn open(dir: &Path, durability: Durability) -> Result<Self, StoreError> {
        let path = dir.join("context.db");
        let connection = schema::open_writer(&path, FileKind::Context, durability)?;
        // What retention deletes shall be gone, not merely unlinked.
        connection.execute_batch("PRAGMA secure_delete = ON").map_err(sql("open the context"))?;
        let (scales, roads) = (Mutex::default(), Mutex::default());
        Ok(Self { connection: Mutex::new(connection), scales, roads })
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic leaves a transaction at worst, which its guard has rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn keep_coverage(&self, intervals: &[Coverage]) -> Result<Vec<Kept>, StoreError> {
        let failed = sql("keep coverage");
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(&failed)?;
        let mut kept = Vec::with_capacity(intervals.len());
        for interval in intervals {
            let (camera, state) = (interval.camera.as_str(), interval.state.code());
            let (first, last) = (interval.span.first().as_nanos(), interval.span.last().as_nanos());
            let known: Option<i64> = transaction
                .prepare_cached(
                    "SELECT last FROM coverage WHERE camera = ?1 AND first = ?2 AND state = ?3",
                )
                .and_then(|mut known| {
                    known.query_row(params![camera, first, state], |row| row.get(0)).optional()
                })
                .map_err(&failed)?;
            kept.push(match known {
                Some(known) if known >= last => Kept::Present,
                Some(_) => Kept::Replaced,
                None => Kept::New,
            });
            if kept.last() != Some(&Kept::Present) {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO coverage (camera, first, state, last, cause, checksum, scale)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    )
                    .and_then(|mut insert| {
                        let (checksum, scale) =
                            (coverage_checksum(interval), scale_of(interval.span));
                        insert.execute(params![
                            camera,
                            first,
                            state,
                            last,
                            interval.cause,
                            checksum,
                            scale
                        ])
                    })
                    .map_err(&failed)?;
            }
        }
        transaction.commit().map_err(&failed)?;
        let mut scales = self.scales.lock().unwrap_or_else(PoisonError::into_inner);
        for interval in intervals {
            if let Some(known) = scales.get_mut(&interval.camera) {
                *known |= 1 << scale_of(interval.span);
            }
        }
        Ok(kept)
    }

    pub(crate) fn coverage(
        &self,
        cameras: &[CameraId],
        span: TimeSpan,
    ) -> Result<Vec<Coverage>, StoreError> {
        let failed = sql("read coverage");
        let mut cameras: Vec<_> = cameras.iter().collect();
        cameras.sort_unstable();
        cameras.dedup();
        let connection = self.connection();
        // One, so that the file is locked once.
        let transaction = connection.unchecked_transaction().map_err(&failed)?;
        let mut of_scale = transaction.prepare_cached(OF_SCALE).map_err(&failed)?;
        let mut scales = self.scales.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (span.first().as_nanos(), span.last().as_nanos());
        let mut found = Vec::new();
        for camera in cameras {
            let begin = found.len();
            let known = match scales.get(camera) {
                Some(known) => *known,
                None => *scales.entry(camera.clone()).or_insert(scales_of(&transaction, camera)?),
            };
            for scale in (0..=SCALE_MAX).filter(|scale| known >> scale & 1 == 1) {
                let bounds = params![camera.as_str(), scale, earliest(first, scale), last, first];
                let mut rows = of_scale.query(bounds).map_err(&failed)?;
                while let Some(row) = rows.next().map_err(&failed)? {
                    found.push(coverage_of(row, |_| Ok(camera.clone()))?);
                }
            }
            if let Some(found) = found.get_mut(begin..) {
                found.sort_by_key(|interval: &Coverage| (interval.span.first(), interval.state));
            }
        }
        Ok(found)
    }

    /// Intervals that end before a time and share an instant with a span, of some cameras or, when none is named, of
    /// all; damaged ones are left out.
    pub(crate) fn coverage_ended_before(
        &self,
        time: Timestamp,
        span: TimeSpan,
        cameras: &[CameraId],
    ) -> Result<Vec<Coverage>, StoreError> {
        let failed = sql("read coverage");
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached(
                "SELECT camera, first, state, last, cause, checksum FROM coverage
                 WHERE last < ?1 AND last >= ?2 AND first <= ?3",
            )
            .map_err(&failed)?;
        let (first, last) = (span.first().as_nanos(), span.last().as_nanos());
        let mut rows = statement.query(params![time.as_nanos(), first, last]).map_err(&failed)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            match coverage_of(row, CameraId::new) {
                Ok(interval) if cameras.is_empty() || cameras.contains(&interval.camera) => {
                    found.push(interval);
                }
                Ok(_) => {}
                // Else nothing could ever be deleted any more.
                Err(error) => warn!(%error, "coverage is not held"),
            }
        }
        Ok(found)
    }

    /// Corrections of sightings that began before a time.
    pub(crate) fn corrections_before(
        &self,
        time: Timestamp,
    ) -> Result<Vec<Correction>, StoreError> {
        let (first, _) = ids_of(TimeSpan::at(time));
        corrections(&self.connection(), "sighting < ?1", &[&first])
    }

    pub(crate) fn put_road_graph(&self, graph: RoadGraph) -> Result<(), StoreError> {
        let record = road_record::encode(&graph)?;
        let mut roads = self.roads.lock().unwrap_or_else(PoisonError::into_inner);
        self.connection()
            .execute(
                "INSERT OR REPLACE INTO road_graph (one, record, checksum) VALUES (1, ?1, ?2)",
                params![record, crc32fast::hash(&record)],
            )
            .map_err(sql("keep the road graph"))?;
        // As it will be read: a graph must not be another one after a restart.
        *roads = Some(Some(Arc::new(road_record::decode(&record)?)));
        Ok(())
    }

    pub(crate) fn road_graph(&self) -> Result<Option<Arc<RoadGraph>>, StoreError> {
        let mut roads = self.roads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*roads {
            return Ok(known.clone());
        }
        let record = stored_roads(&self.connection())?;
        let graph = record.map(|record| road_record::decode(&record)).transpose()?.map(Arc::new);
        Ok(roads.insert(graph).clone())
    }

    pub(crate) fn correct(&self, correction: &Correction) -> Result<bool, StoreError> {
        let failed = sql("keep a correction");
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(&failed)?;
        let earlier = corrections(&transaction, "sighting = ?1", &[&id_key(correction.sighting)])?;
        let same = |latest: &Correction| Correction { at: correction.at, ..latest.clone() };
        if earlier.last().is_some_and(|latest| same(latest) == *correction) {
            return Ok(false);
        }
        let Correction { sighting, plate, at, officer, case_number, reason } = correction;
        transaction
            .execute(
                "INSERT INTO correction (sighting, plate, at, officer, case_number, reason, checksum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    id_key(*sighting),
                    plate.as_str(),
                    at.as_nanos(),
                    officer,
                    case_number,
                    reason,
                    correction_checksum(correction),
                ],
            )
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(true)
    }

    pub(crate) fn corrections_of(
        &self,
        sightings: &[SightingId],
    ) -> Result<Vec<Correction>, StoreError> {
        let failed = sql("read corrections");
        let mut sightings: Vec<_> = sightings.iter().copied().map(id_key).collect();
        sightings.sort_unstable();
        sightings.dedup();
        let connection = self.connection();
        let mut next_corrected = connection
            .prepare_cached("SELECT min(sighting) FROM correction WHERE sighting >= ?1")
            .map_err(&failed)?;
        let mut found = Vec::new();
        let mut next = 0;
        // Corrections are rare: from one that is asked about to the next that there is.
        while let Some(sighting) = sightings.get(next) {
            let corrected: Option<[u8; 16]> =
                next_corrected.query_row([sighting], |row| row.get(0)).map_err(&failed)?;
            let Some(corrected) = corrected else { break };
            next += sightings[next..].partition_point(|sighting| *sighting < corrected);
            if sightings.get(next) == Some(&corrected) {
                found.extend(corrections(&connection, "sighting = ?1", &[&corrected])?);
                next += 1;
            }
        }
        Ok(found)
    }

    pub(crate) fn corrections_in(&self, began: TimeSpan) -> Result<Vec<Correction>, StoreError> {
        let (first, last) = ids_of(began);
        corrections(&self.connection(), "sighting >= ?1 AND sighting <= ?2", &[&first, &last])
    }

    /// Deletes coverage that ended, and corrections of sightings that began, before the midnight.
    pub(crate) fn forget_before(&self, midnight: Timestamp) -> Result<usize, StoreError> {
        let connection = self.connection();
        let gone = forget_before(&connection, midnight)?;
        if gone > 0 {
            // The log holds what the deleted pages were.
            connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .map_err(sql("delete what is kept no longer"))?;
        }
        Ok(gone)
    }
}

/// Deletes coverage that ended, and corrections of sightings that began, before a time; how many rows that were.
pub(crate) fn forget_before(connection: &Connection, time: Timestamp) -> Result<usize, StoreError> {
    let failed = sql("delete what is kept no longer");
    // Unchecked, since whoever has the connection is alone.
    let transaction = connection.unchecked_transaction().map_err(&failed)?;
    let mut gone = transaction
        .execute("DELETE FROM coverage WHERE last < ?1", [time.as_nanos()])
        .map_err(&failed)?;
    let (first, _) = ids_of(TimeSpan::at(time));
    gone += transaction
        .execute("DELETE FROM correction WHERE sighting < ?1", [first])
        .map_err(&failed)?;
    transaction.commit().map_err(&failed)?;
    Ok(gone)
}

/// What of a class of length reaches into a span.
const OF_SCALE: &str =
    "SELECT camera, first, state, last, cause, checksum FROM coverage INDEXED BY coverage_by_scale
     WHERE camera = ?1 AND scale = ?2 AND first >= ?3 AND first <= ?4 AND last >= ?5";

/// The classes of length that a camera's intervals have, a bit each.
fn scales_of(connection: &Connection, camera: &CameraId) -> Result<u64, StoreError> {
    let failed = sql("read coverage");
    let mut next = connection
        .prepare_cached("SELECT min(scale) FROM coverage WHERE camera = ?1 AND scale > ?2")
        .map_err(&failed)?;
    let (mut found, mut scale) = (0, -1);
    while let Some(above) = next
        .query_row(params![camera.as_str(), scale], |row| row.get::<_, Option<i64>>(0))
        .map_err(&failed)?
    {
        scale = above;
        found |= 1 << scale.clamp(0, SCALE_MAX);
    }
    Ok(found)
}

/// The class of the longest interval that there can be.
const SCALE_MAX: i64 = 32;

/// The class of a length: the least `k` for which it is shorter than `4^k` nanoseconds.
pub(crate) fn scale_of(span: TimeSpan) -> i64 {
    let length = span.last().as_nanos().wrapping_sub(span.first().as_nanos()) as u64;
    i64::from((u64::BITS - length.leading_zeros()).div_ceil(2))
}

/// When an interval of a class may have begun that reaches a time.
fn earliest(time: i64, scale: i64) -> i64 {
    let longest = u32::try_from(scale).ok().and_then(|scale| 4_i64.checked_pow(scale));
    longest.map_or(i64::MIN, |longest| time.saturating_sub(longest))
}

/// Gives intervals their classes: when they get the column.
pub(crate) fn fill_scales(connection: &Connection) -> Result<(), StoreError> {
    let cases: String = (0..=31)
        .map(|scale| format!("WHEN last - first < {} THEN {scale} ", 4_i64.pow(scale)))
        .collect();
    connection
        .execute_batch(&format!("UPDATE coverage SET scale = CASE {cases} ELSE 32 END"))
        .map_err(sql("give coverage its classes of length"))
}

/// The least and the greatest id of sightings that began within a span, as they are stored.
fn ids_of(span: TimeSpan) -> ([u8; 16], [u8; 16]) {
    let time = |at: Timestamp| u128::from((at.as_nanos() as u64) ^ (1 << 63)) << 64;
    let least = SightingId::from_u128(time(span.first()));
    let greatest = SightingId::from_u128(time(span.last()) | u128::from(u64::MAX));
    (id_key(least), id_key(greatest))
}

/// The bytes of the road graph, proved.
pub(crate) fn stored_roads(connection: &Connection) -> Result<Option<Vec<u8>>, StoreError> {
    let row: Option<(Vec<u8>, u32)> = connection
        .query_row("SELECT record, checksum FROM road_graph", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .map_err(sql("read the road graph"))?;
    match row {
        Some((record, checksum)) if crc32fast::hash(&record) != checksum => {
            Err(damaged("the road graph", "its checksum differs"))
        }
        row => Ok(row.map(|(record, _)| record)),
    }
}

/// An interval; `camera` makes an id of the name in the row, or knows it.
pub(crate) fn coverage_of(
    row: &Row<'_>,
    camera: impl FnOnce(&str) -> Result<CameraId, InvalidValue>,
) -> Result<Coverage, StoreError> {
    let failed = sql("read coverage");
    let name = row.get_ref(0).map_err(&failed)?;
    let name = name.as_str().map_err(|error| damaged("coverage", error))?;
    let first: i64 = row.get(1).map_err(&failed)?;
    let wrong = |reason: &dyn std::fmt::Display| {
        damaged(format!("coverage of {name} from {}", Timestamp::from_nanos(first)), reason)
    };
    let invalid = |error: InvalidValue| wrong(&error);
    let last: i64 = row.get(3).map_err(&failed)?;
    let span = TimeSpan::new(Timestamp::from_nanos(first), Timestamp::from_nanos(last));
    let coverage = Coverage {
        camera: camera(name).map_err(invalid)?,
        span: span.map_err(invalid)?,
        state: Coded::from_code(row.get(2).map_err(&failed)?)
            .ok_or_else(|| wrong(&"its state is an unknown code"))?,
        cause: row.get(4).map_err(&failed)?,
    };
    let checksum: u32 = row.get(5).map_err(&failed)?;
    if checksum == coverage_checksum(&coverage) {
        Ok(coverage)
    } else {
        Err(wrong(&"its checksum differs"))
    }
}

fn coverage_checksum(coverage: &Coverage) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(coverage.camera.as_str().as_bytes());
    hasher.update(&[0, coverage.state.code()]);
    hasher.update(&coverage.span.first().as_nanos().to_le_bytes());
    hasher.update(&coverage.span.last().as_nanos().to_le_bytes());
    hasher.update(coverage.cause.as_bytes());
    hasher.finalize()
}

fn corrections(
    connection: &Connection,
    condition: &str,
    values: &[&[u8; 16]],
) -> Result<Vec<Correction>, StoreError> {
    let failed = sql("read corrections");
    let query = format!(
        "SELECT sighting, plate, at, officer, case_number, reason, checksum FROM correction
         WHERE {condition} ORDER BY sighting, number"
    );
    let mut statement = connection.prepare_cached(&query).map_err(&failed)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values)).map_err(&failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        found.push(correction_of(row)?);
    }
    Ok(found)
}

pub(crate) fn correction_of(row: &Row<'_>) -> Result<Correction, StoreError> {
    let failed = sql("read corrections");
    let id: [u8; 16] = row.get(0).map_err(&failed)?;
    let sighting = SightingId::from_u128(u128::from_be_bytes(id));
    let wrong = |reason: &dyn std::fmt::Display| {
        damaged(format!("a correction of sighting {sighting}"), reason)
    };
    let plate: String = row.get(1).map_err(&failed)?;
    let correction = Correction {
        sighting,
        plate: PlateText::parse(&plate).map_err(|error| wrong(&error))?,
        at: Timestamp::from_nanos(row.get(2).map_err(&failed)?),
        officer: row.get(3).map_err(&failed)?,
        case_number: row.get(4).map_err(&failed)?,
        reason: row.get(5).map_err(&failed)?,
    };
    let checksum: u32 = row.get(6).map_err(&failed)?;
    if checksum == correction_checksum(&correction) {
        Ok(correction)
    } else {
        Err(wrong(&"its checksum differs"))
    }
}

fn correction_checksum(correction: &Correction) -> u32 {
    let Correction { sighting, plate, at, officer, case_number, reason } = correction;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id_key(*sighting));
    hasher.update(&at.as_nanos().to_le_bytes());
    for text in [plate.as_str(), officer, case_number, reason] {
        hasher.update(text.as_bytes());
        hasher.update(&[0]);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::CoverageState;
    use proptest::prelude::*;
    use rusqlite::StatementStatus;

    fn interval(first: i64, length: i64) -> Coverage {
        let at = Timestamp::from_nanos;
        Coverage {
            camera: CameraId::new("k1").unwrap(),
            span: TimeSpan::new(at(first), at(first + length)).unwrap(),
            state: CoverageState::Seeing,
            cause: String::new(),
        }
    }

    fn context(folder: &Path) -> Context {
        Context::open(folder, Durability::Full).unwrap()
    }

    #[test]
    fn classes_hold_what_they_say() {
        for length in [0, 1, 3, 4, 15, 16, 1 << 40, (1 << 62) - 1, 1 << 62, i64::MAX] {
            let span = TimeSpan::new(Timestamp::EPOCH, Timestamp::from_nanos(length)).unwrap();
            let scale = scale_of(span);
            assert!(earliest(length, scale) <= 0, "{length}");
            assert!(scale == 0 || earliest(length, scale - 1) >= 0, "{length}");
        }
        assert_eq!(scale_of(TimeSpan::ALL), 32);
        assert_eq!(earliest(7, 32), i64::MIN);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn what_reaches_into_a_span_is_found(
            kept in prop::collection::vec((-500..500_i64, prop_oneof![0..4_i64, 0..900_i64]), 0..40),
            first in -500..500_i64, length in 0..200_i64,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let context = context(folder.path());
            let kept: Vec<_> = kept.into_iter().map(|(first, length)| interval(first, length)).collect();
            context.keep_coverage(&kept).unwrap();
            let span = interval(first, length).span;
            let found = context.coverage(&[kept.first().map_or(interval(0, 0), Clone::clone).camera], span).unwrap();
            // Of the same beginning, the longest is there.
            let longest = |one: &Coverage| {
                kept.iter().filter(|k| k.span.first() == one.span.first()).map(|k| k.span.last()).max()
            };
            let mut expected: Vec<_> = kept.iter()
                .filter(|one| longest(one) == Some(one.span.last()) && one.span.overlaps(span))
                .cloned().collect();
            expected.sort_by_key(|one| one.span.first());
            expected.dedup();
            prop_assert_eq!(found, expected);
            // As the migration gives them.
            let scales = || -> Vec<i64> {
                let connection = context.connection();
                let mut all = connection.prepare("SELECT scale FROM coverage ORDER BY first").unwrap();
                all.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
            };
            let before = scales();
            fill_scales(&context.connection()).unwrap();
            prop_assert_eq!(scales(), before);
        }
    }

    /// In steps of SQLite's machine, which do not depend on how busy this one is.
    #[test]
    fn a_question_costs_the_same_however_much_came_before() {
        const HOUR: i64 = 3_600_000_000_000;
        let folder = tempfile::tempdir().unwrap();
        let context = context(folder.path());
        let mut kept = 0;
        let mut steps = |hours: i64| {
            let more: Vec<_> = (kept..hours).map(|n| interval(n * HOUR, HOUR - 1)).collect();
            context.keep_coverage(&more).unwrap();
            kept = hours;
            let connection = context.connection();
            let mut statement = connection.prepare(OF_SCALE).unwrap();
            let (first, last) = ((hours - 2) * HOUR, (hours - 1) * HOUR - 2);
            let scale = scale_of(interval(0, HOUR - 1).span);
            let bounds = params!["k1", scale, earliest(first, scale), last, first];
            assert_eq!(statement.query(bounds).unwrap().mapped(|_| Ok(())).count(), 1);
            statement.get_status(StatementStatus::VmStep)
        };
        let (few, many) = (steps(20), steps(4000));
        assert!(many <= few * 2, "{few} steps among 20 intervals, {many} among 4000");
    }
}
