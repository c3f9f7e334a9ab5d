//! Whether everything on disk is what was written.

use std::collections::BTreeMap;
use std::path::Path;

use guiji_domain::{CameraId, Digest, Sighting, SightingId, SightingStage, SortOrder, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::audit::{self, AuditBreak, verify_audit};
use crate::codes::{Coded, NONE};
use crate::day::Day;
use crate::errors::sql;
use crate::holds::Holds;
use crate::pack::{PackCheck, place};
use crate::partition::{RawSighting, checked_alert};
use crate::releases::ReleaseFile;
use crate::road_record;
use crate::segment::{self, Segment};
use crate::store::Shared;
use crate::{bundle, context, deliveries, wal};

const DOING: &str = "check the store";

/// Most findings listed one by one.
const DAMAGES_MAX: usize = 1000;

/// What a check looked at and found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// Days.
    pub partitions: usize,
    /// Sightings.
    pub sightings: u64,
    /// Alerts.
    pub alerts: u64,
    /// Pictures that were read and proved.
    pub pictures: u64,
    /// Pictures whose pack retention has deleted.
    pub pictures_deleted: u64,
    /// How many findings there are.
    pub damage_count: u64,
    /// The findings, the first thousand of them.
    pub damages: Vec<Damage>,
}

impl CheckReport {
    /// Whether nothing was found.
    pub fn is_sound(&self) -> bool {
        self.damage_count == 0
    }

    pub(crate) fn found(&mut self, what: impl ToString, reason: impl ToString) {
        self.damage_count += 1;
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push(Damage { what: what.to_string(), reason: reason.to_string() });
        }
    }

    /// Takes damage as a finding; passes other errors on.
    pub(crate) fn accept<T>(
        &mut self,
        result: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Damaged { what, reason }) => {
                self.found(what, reason);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Something that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which record, picture or file.
    pub what: String,
    /// How it shows.
    pub reason: String,
}

pub(crate) fn run(shared: &Shared, holds: &Holds) -> Result<CheckReport, StoreError> {
    let mut report = CheckReport::default();
    check_registry(shared, &mut report)?;
    check_context(shared, &mut report)?;
    check_beside(&shared.settings.dir, &mut report)?;
    for partition in shared.partitions_by(SortOrder::OldestFirst) {
        // A file whose header is damaged cannot even be opened.
        let opened = shared.view(&partition, true);
        let Some(Some(view)) = report.accept(opened)? else { continue };
        if let Some((path, reason)) = wal::damage_aside(&partition.path) {
            report.found(path.display(), reason);
        }
        let Some(connection) = view.database() else { continue };
        report.partitions += 1;
        let mut inner = CheckReport::default();
        let checked = check_partition(shared, connection, partition.day, &mut inner);
        report.add(inner);
        // SQLite may give up halfway through a damaged file; what it says then is the finding.
        match checked {
            Err(StoreError::Damaged { reason, .. }) => {
                report.found(partition.path.display(), reason)
            }
            other => other?,
        }
        if let Some(segment) = view.segment() {
            check_segment(connection, segment, partition.day, &mut report)?;
        }
    }
    holds.each(|folder, store| {
        if let Some(Some(store)) = report.accept(store)? {
            let mut inner = store.check()?;
            for damage in &mut inner.damages {
                damage.what = format!("{}: {}", folder.display(), damage.what);
            }
            report.add(inner);
        }
        Ok(())
    })?;
    Ok(report)
}

fn check_registry(shared: &Shared, report: &mut CheckReport) -> Result<(), StoreError> {
    for name in ["registry.db", "context.db"] {
        if let Some((path, reason)) = wal::damage_aside(&shared.settings.dir.join(name)) {
            report.found(path.display(), reason);
        }
    }
    let registry = shared.registry();
    let structure = check_structure(&registry.connection, "registry.db", report);
    report.accept(structure)?;
    report.accept(registry.cameras())?;
    report.accept(registry.entries())?;
    report.accept(registry.units())?;
    report.accept(registry.unfinished())?;
    let reserved = report.accept(registry.reserved_cursor())?;
    drop(registry);
    for partition in shared.partitions_by(SortOrder::OldestFirst) {
        let last = partition.summary().last_cursor;
        if reserved.is_some_and(|reserved| reserved < last) {
            report.found("the alert cursor", format!("it is below that of an alert, {last}"));
        }
    }
    Ok(())
}

/// What lies in the folder beside the databases of sightings.
fn check_beside(dir: &Path, report: &mut CheckReport) -> Result<(), StoreError> {
    deliveries::check(dir, report)?;
    let releases = dir.join("releases.jsonl");
    if releases.is_file() {
        report.accept(ReleaseFile::open(&releases).map(drop))?;
    }
    report.accept(bundle::check_keys(dir))?;
    // The server's own, and that of the commands beside it.
    for audit in [dir.join("audit"), dir.join("audit/commands")] {
        if audit.join("chain").is_file() {
            let checked = check_audit(&audit, report);
            report.accept(checked)?;
        }
    }
    Ok(())
}

fn check_audit(audit: &Path, report: &mut CheckReport) -> Result<(), StoreError> {
    let verified = verify_audit(audit, None);
    if let Some(verified) = report.accept(verified)?
        && let Some(AuditBreak { number, what }) = verified.first_break
    {
        report.found(format!("{}: record {number}", audit.display()), what);
    }
    for path in audit::cut_ends(audit)? {
        report.found(path.display(), "the end of its last line was changed");
    }
    report.accept(audit::check_key(audit)).map(drop)
}

fn check_context(shared: &Shared, report: &mut CheckReport) -> Result<(), StoreError> {
    let failed = sql(DOING);
    let connection = shared.context.connection();
    let structure = check_structure(&connection, "context.db", report);
    report.accept(structure)?;
    let coverage = "SELECT camera, first, state, last, cause, checksum, scale FROM coverage";
    let corrections =
        "SELECT sighting, plate, at, officer, case_number, reason, checksum FROM correction";
    let mut statement = connection.prepare(coverage).map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        if let Some(interval) = report.accept(context::coverage_of(row, CameraId::new))?
            && row.get::<_, i64>(6).map_err(&failed)? != context::scale_of(interval.span)
        {
            let what = format!("coverage of {} from {}", interval.camera, interval.span.first());
            report.found(what, "its length is said to be another");
        }
    }
    let mut statement = connection.prepare(corrections).map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        report.accept(context::correction_of(row))?;
    }
    let roads = context::stored_roads(&connection);
    if let Some(Some(record)) = report.accept(roads)? {
        report.accept(road_record::decode(&record))?;
    }
    Ok(())
}

impl CheckReport {
    pub(crate) fn add(&mut self, other: Self) {
        self.partitions += other.partitions;
        self.sightings += other.sightings;
        self.alerts += other.alerts;
        self.pictures += other.pictures;
        self.pictures_deleted += other.pictures_deleted;
        self.damage_count += other.damage_count;
        let room = DAMAGES_MAX.saturating_sub(self.damages.len());
        self.damages.extend(other.damages.into_iter().take(room));
    }
}

fn check_partition(
    shared: &Shared,
    connection: &Connection,
    day: Day,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    check_structure(connection, &format!("sightings/{day}.db"), report)?;
    check_sightings(connection, day, report)?;
    check_alerts(connection, report)?;
    check_pictures(shared, connection, day, report)
}

pub(crate) fn check_structure(
    connection: &Connection,
    file: &str,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let failed = sql(DOING);
    let mut statement = connection.prepare("PRAGMA integrity_check(100)").map_err(&failed)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(&failed)?;
    for row in rows {
        let line = row.map_err(&failed)?;
        if line != "ok" {
            report.found(file, line);
        }
    }
    Ok(())
}

fn check_sightings(
    connection: &Connection,
    day: Day,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let failed = sql(DOING);
    let mut statement = connection
        .prepare(
            "SELECT s.id, checksum, record, captured, stage, class, colour, p.text, c.name
             FROM sighting AS s LEFT JOIN plate AS p ON p.id = s.plate LEFT JOIN camera AS c ON c.id = s.camera",
        )
        .map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        report.sightings += 1;
        let raw = RawSighting {
            id: row.get(0).map_err(&failed)?,
            checksum: row.get(1).map_err(&failed)?,
            record: row.get(2).map_err(&failed)?,
        };
        let Some(sighting) = report.accept(raw.checked())? else { continue };
        let expected = (
            sighting.captured.at.as_nanos(),
            sighting.stage.code(),
            sighting.vehicle.class.map_or(NONE, |(class, _)| class.code()),
            sighting.vehicle.colour.map_or(NONE, |(colour, _)| colour.code()),
            sighting.plate_text().map(|text| text.as_str().to_owned()),
            Some(sighting.camera.as_str().to_owned()),
        );
        if columns(row).map_err(&failed)? != expected {
            report.found(
                format!("sighting {}", sighting.id),
                "its index columns differ from its record",
            );
        }
        if Day::of(sighting.id.started()) != day {
            report.found(format!("sighting {}", sighting.id), "it lies in another day's file");
        }
        check_evidence(connection, &sighting, report)?;
    }
    Ok(())
}

fn check_segment(
    connection: &Connection,
    segment: &Segment,
    day: Day,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    report.sightings += u64::from(segment.rows());
    let (mut findings, mut damages) = (CheckReport::default(), CheckReport::default());
    let mut each = |sighting: Sighting| {
        if sighting.stage != SightingStage::Final || Day::of(sighting.id.started()) != day {
            findings.found(format!("sighting {}", sighting.id), "it lies in another day's segment");
        }
        check_evidence(connection, &sighting, &mut findings)
    };
    let mut found = |error: StoreError| match error {
        StoreError::Damaged { what, reason } => damages.found(what, reason),
        error => damages.found(segment.path().display(), error),
    };
    segment::check(segment, &mut each, &mut found)?;
    report.add(damages);
    report.add(findings);
    Ok(())
}

/// Whether a row says where each picture lies.
fn check_evidence(
    connection: &Connection,
    sighting: &Sighting,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    for evidence in &sighting.evidence {
        let known = connection
            .prepare_cached("SELECT 1 FROM picture WHERE digest = ?1 AND kind = ?2")
            .and_then(|mut statement| {
                statement
                    .query_row(params![evidence.digest.0, evidence.kind.code()], |_| Ok(()))
                    .optional()
            })
            .map_err(sql(DOING))?;
        if known.is_none() {
            report.found(
                format!("picture {} of sighting {}", evidence.digest, sighting.id),
                "no row says where it lies",
            );
        }
    }
    Ok(())
}

type Columns = (i64, u8, u8, u8, Option<String>, Option<String>);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?))
}

fn check_alerts(connection: &Connection, report: &mut CheckReport) -> Result<(), StoreError> {
    let failed = sql(DOING);
    let mut statement = connection
        .prepare("SELECT cursor, checksum, record, sighting, entry, stage FROM alert")
        .map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        report.alerts += 1;
        let (cursor, checksum) = (row.get(0).map_err(&failed)?, row.get(1).map_err(&failed)?);
        let record: Vec<u8> = row.get(2).map_err(&failed)?;
        let Some(alert) = report.accept(checked_alert(cursor, checksum, &record))? else {
            continue;
        };
        let sighting: [u8; 16] = row.get(3).map_err(&failed)?;
        let entry: String = row.get(4).map_err(&failed)?;
        let stage: u8 = row.get(5).map_err(&failed)?;
        if SightingId::from_u128(u128::from_be_bytes(sighting)) != alert.id.sighting
            || entry != alert.id.entry.as_str()
            || stage != alert.stage.code()
        {
            report.found(format!("alert {cursor}"), "its index columns differ from its record");
        }
    }
    Ok(())
}

fn check_pictures(
    shared: &Shared,
    connection: &Connection,
    day: Day,
    report: &mut CheckReport,
) -> Result<(), StoreError> {
    let failed = sql(DOING);
    let folder = shared.evidence_folder();
    let kinds: BTreeMap<i64, i64> = connection
        .prepare("SELECT number, kind FROM pack")
        .and_then(|mut all| all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(&failed)?;
    let mut open: Option<PackCheck> = None;
    // In the order of the disk.
    let mut statement = connection
        .prepare("SELECT digest, kind, pack, start, length FROM picture ORDER BY pack, start")
        .map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let digest = Digest(row.get(0).map_err(&failed)?);
        let number = |column| row.get::<_, i64>(column).map_err(&failed);
        let (kind, pack) = (number(1)?, number(2)?);
        let Some(place) = place(day, kind, pack, number(3)?, number(4)?) else {
            report.found(format!("picture {digest}"), "its place is impossible");
            continue;
        };
        // Pack 0 stands for one that was gone before; any other was entered, and a pack that is gone stays so.
        if pack != 0 && kinds.get(&pack) != Some(&kind) {
            report.found(format!("picture {digest}"), "it is said to lie in a pack that never was");
            continue;
        }
        if open.as_ref().is_none_or(|open| open.name() != place.pack) {
            let opened = PackCheck::open(&folder, place.pack);
            open = report.accept(opened)?;
        }
        let Some(open) = &open else { continue };
        match report.accept(open.prove(place, &digest))? {
            Some(true) => report.pictures += 1,
            Some(false) => report.pictures_deleted += 1,
            None => {}
        }
    }
    Ok(())
}
