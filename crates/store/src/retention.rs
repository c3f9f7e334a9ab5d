//! What is kept no longer: whole files, deleted for real.

use std::collections::BTreeSet;
use std::path::Path;

use guiji_domain::{EvidenceKind, SortOrder, StoreError, Timestamp};
use tracing::info;

use crate::day::Day;
use crate::errors::io_at;
use crate::pack::PackName;
use crate::partition::Partition;
use crate::schema::sync_folder_of;
use crate::seal::segment_files;
use crate::settings::StoreSettings;
use crate::store::{Shared, files_in};
use crate::wal;
use crate::writer::Writer;

const DOING: &str = "delete what is kept no longer";

/// What retention deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionReport {
    /// Days of sightings.
    pub partitions: usize,
    /// Files of pictures.
    pub packs: usize,
    /// Intervals of coverage, and corrections of sightings that are gone.
    pub context_rows: usize,
    /// Bytes that they took.
    pub bytes: u64,
}

/// The space that a store takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUsage {
    /// Sightings, alerts and indexes, with their logs.
    pub sightings: u64,
    /// Plate crops.
    pub plates: u64,
    /// Vehicle crops.
    pub vehicles: u64,
    /// Whole frames.
    pub frames: u64,
    /// Cameras, watch-list, coverage, roads and corrections, with their logs.
    pub registry: u64,
    /// What legal holds keep, with its pictures.
    pub held: u64,
}

impl DiskUsage {
    /// Everything.
    pub fn total(&self) -> u64 {
        self.sightings + self.plates + self.vehicles + self.frames + self.registry + self.held
    }
}

pub(crate) fn enforce(
    shared: &Shared,
    writer: &mut Writer,
    now: Timestamp,
) -> Result<RetentionReport, StoreError> {
    // A note of an unfinished batch may name a day that is about to go.
    writer.settle(shared)?;
    let mut report = RetentionReport::default();
    for partition in shared.partitions_by(SortOrder::OldestFirst) {
        let day = partition.day;
        if !day.is_past(shared.settings.sightings_days, now) {
            continue;
        }
        writer.close_day(day);
        shared.pool.retire(day);
        shared.remove_partition(day);
        let deleted = delete_partition(shared, &partition);
        shared.pool.release(day);
        report.bytes += deleted?;
        report.partitions += 1;
        info!(%day, "deleted a day of sightings");
    }
    // What a crash left of a day that was being deleted.
    for (day, path) in segment_files(&shared.sightings_folder())? {
        if day.is_past(shared.settings.sightings_days, now) && shared.partition(day).is_err() {
            report.bytes += delete(&path)?;
        }
    }
    for kind in EvidenceKind::ALL {
        delete_packs(shared, writer, *kind, now, &mut report)?;
    }
    report.context_rows = shared.context.forget_before(first_kept(&shared.settings, now))?;
    Ok(report)
}

/// The midnight from which on sightings are kept.
pub(crate) fn first_kept(settings: &StoreSettings, now: Timestamp) -> Timestamp {
    let kept_days = i64::from(now.utc_day()) - i64::from(settings.sightings_days);
    Timestamp::from_secs(kept_days.saturating_mul(86_400))
}

/// The log goes before the file: a log without its file would be played into a later file of the same name. Segments
/// go last: without the database nothing takes them for the day's.
fn delete_partition(shared: &Shared, partition: &Partition) -> Result<u64, StoreError> {
    let path = &partition.path;
    let mut bytes = 0;
    for companion in wal::companions(path) {
        bytes += delete(&companion)?;
    }
    bytes += delete(path)?;
    sync_folder_of(path)?;
    let segments = segment_files(&shared.sightings_folder())?;
    for (_, path) in segments.iter().filter(|(day, _)| *day == partition.day) {
        bytes += delete(path)?;
    }
    sync_folder_of(path)?;
    Ok(bytes)
}

fn delete_packs(
    shared: &Shared,
    writer: &mut Writer,
    kind: EvidenceKind,
    now: Timestamp,
    report: &mut RetentionReport,
) -> Result<(), StoreError> {
    let folder = shared.evidence_folder();
    let mut any = false;
    for (name, bytes) in doomed_packs(shared, kind, now)? {
        writer.close_pack(name);
        delete(&name.path_in(&folder))?;
        report.bytes += bytes;
        report.packs += 1;
        any = true;
        info!(day = %name.day, %kind, number = name.number, bytes, "deleted a pack of pictures");
    }
    if any { sync_folder_of(&folder.join("any")) } else { Ok(()) }
}

/// The packs that are to go, the oldest first.
fn doomed_packs(
    shared: &Shared,
    kind: EvidenceKind,
    now: Timestamp,
) -> Result<Vec<(PackName, u64)>, StoreError> {
    let limit = shared.settings.evidence.of(kind);
    let mut packs = packs_of(shared, kind)?;
    packs.sort_by_key(|(name, _)| *name);
    let mut total: u64 = packs.iter().map(|(_, bytes)| bytes).sum();
    packs.retain(|(name, bytes)| {
        // Without its partition nothing points to a pack any more.
        let orphan = shared.partition(name.day).is_err();
        let doomed = orphan || name.day.is_past(limit.days, now) || total > limit.bytes;
        total -= if doomed { *bytes } else { 0 };
        doomed
    });
    Ok(packs)
}

/// The days of which something is to go.
pub(crate) fn doomed_days(shared: &Shared, now: Timestamp) -> Result<BTreeSet<Day>, StoreError> {
    let days = shared.partitions_by(SortOrder::OldestFirst).into_iter().map(|p| p.day);
    let mut doomed: BTreeSet<Day> =
        days.filter(|day| day.is_past(shared.settings.sightings_days, now)).collect();
    for kind in EvidenceKind::ALL {
        doomed.extend(doomed_packs(shared, *kind, now)?.into_iter().map(|(name, _)| name.day));
    }
    Ok(doomed)
}

fn packs_of(shared: &Shared, kind: EvidenceKind) -> Result<Vec<(PackName, u64)>, StoreError> {
    let mut packs = Vec::new();
    for path in files_in(&shared.evidence_folder())? {
        let name = path.file_name().and_then(|n| n.to_str()).and_then(PackName::of_file);
        if let Some(name) = name.filter(|name| name.kind == kind) {
            packs.push((name, size(&path)?));
        }
    }
    Ok(packs)
}

pub(crate) fn disk_usage(shared: &Shared) -> Result<DiskUsage, StoreError> {
    let sum = |folder: &Path, prefix: &str| -> Result<u64, StoreError> {
        files_in(folder)?
            .iter()
            .filter(|path| {
                path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(prefix))
            })
            .map(|path| size(path))
            .sum()
    };
    let evidence = |kind| -> Result<u64, StoreError> {
        Ok(packs_of(shared, kind)?.iter().map(|(_, bytes)| bytes).sum())
    };
    Ok(DiskUsage {
        sightings: sum(&shared.sightings_folder(), "")?,
        plates: evidence(EvidenceKind::Plate)?,
        vehicles: evidence(EvidenceKind::Vehicle)?,
        frames: evidence(EvidenceKind::Frame)?,
        registry: sum(&shared.settings.dir, "registry.db")?
            + sum(&shared.settings.dir, "context.db")?,
        held: 0,
    })
}

/// The size of a file, 0 when it is gone.
fn size(path: &Path) -> Result<u64, StoreError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(io_at("measure a file", path)(error)),
    }
}

/// Deletes a file that may be gone already, and says what it took.
fn delete(path: &Path) -> Result<u64, StoreError> {
    let bytes = size(path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_at(DOING, path)(error))
        }
        Ok(()) | Err(_) => Ok(bytes),
    }
}
