use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use guiji_domain::{
    Alert, AlertId, AlertLog, Camera, CameraId, CameraRegistry, Correction, CorrectionStore,
    Coverage, CoverageStore, Digest, Kept, Likely, LikelyQuery, LikelySearch, PlatePattern,
    PlateText, Receipt, Recorded, RoadGraph, RoadGraphStore, Sighting, SightingId, SightingPage,
    SightingQuery, SightingStore, SortOrder, StoreError, TimeSpan, Timestamp, WatchEntry,
    WatchEntryId, Watchlist,
};
use tracing::warn;

use crate::backup::Housekeeping;
use crate::check::{self, CheckReport};
use crate::context::Context;
use crate::day::Day;
use crate::errors::io_at;
use crate::gaps::{GapCause, Gaps, StoreGap};
use crate::holds::Holds;
use crate::likely::{Count, Likeliest};
use crate::pack;
use crate::partition::{
    Partition, Summary, alert_stages, alerts_between, find_sighting, latest_alerts,
    provisional_after, read_summary, sealed_number,
};
use crate::pool::{Lent, ReadPool, View};
use crate::registry::Registry;
use crate::retention::{self, DiskUsage, RetentionReport};
use crate::schema::{self, FileKind};
use crate::seal::{self, SealReport};
use crate::search::Search;
use crate::segment::BlockCache;
use crate::settings::StoreSettings;
use crate::validate;
use crate::wal::{self, LostCommits};
use crate::writer::{Writer, proved_records};

/// The store in a folder. Shared by reference; every method may be called from any thread.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Shared,
    pub(crate) writer: Mutex<Writer>,
    holds: Holds,
    gaps: Mutex<Gaps>,
    /// Held as long as the store is open.
    _lock: FolderLock,
}

/// What the writer, the readers and the housekeeping have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: StoreSettings,
    registry: Mutex<Registry>,
    pub(crate) context: Context,
    partitions: RwLock<BTreeMap<Day, Arc<Partition>>>,
    pub(crate) pool: ReadPool,
    /// Of all segments.
    pub(crate) blocks: Arc<BlockCache>,
    /// Held while a day is sealed.
    pub(crate) sealing: Mutex<()>,
    /// Alerts up to this cursor are visible.
    published_cursor: AtomicU64,
}

impl Store {
    /// Opens the store in a folder; makes it when there is none, brings it to the newest format, and takes back what
    /// a crash left unfinished.
    ///
    /// # Errors
    /// When another process has it open (the message names the folder), a file is damaged or of a newer program, or
    /// the medium fails.
    pub fn open(settings: StoreSettings) -> Result<Self, StoreError> {
        let folders =
            [settings.dir.clone(), settings.dir.join("sightings"), settings.dir.join("evidence")];
        for folder in &folders {
            make_folder(folder)?;
        }
        let lock = lock(&settings.dir)?;
        let key = settings.key_file.clone().unwrap_or_else(|| settings.dir.join("registry.key"));
        let registry = settings.dir.join("registry.db");
        // Before anything is opened: SQLite folds logs in, damaged ones as far as they go.
        for path in [&registry, &settings.dir.join("context.db")] {
            wal::examine(path)?;
        }
        let mut gaps = Gaps::open(&settings.dir)?;
        let registry = Registry::open(&registry, &key, settings.durability)?;
        let reserved_cursor = registry.reserved_cursor()?;
        let context = Context::open(&settings.dir, settings.durability)?;
        let shared = Shared {
            registry: Mutex::new(registry),
            context,
            partitions: RwLock::default(),
            pool: ReadPool::new(settings.readers_max),
            blocks: Arc::new(BlockCache::new(settings.segment_cache_bytes)),
            sealing: Mutex::default(),
            published_cursor: AtomicU64::new(0),
            settings,
        };
        for (day, path) in shared.partition_files()? {
            let lost = wal::examine(&path)?;
            // For writing, so that an old format is migrated and a log left by a crash is folded in.
            let connection =
                schema::open_writer(&path, FileKind::Partition, shared.settings.durability)?;
            let summary = read_summary(&connection, &path)?;
            let sealed = sealed_number(&connection)?;
            if let Some(lost) = lost {
                gaps.add([lost_span(day, summary, &lost)]);
            }
            seal::give_space_back(&connection, &path);
            let partition = Partition::new(day, path, summary, None);
            let partition = seal::with_segment(&shared, partition, sealed)?;
            shared.add_partition(Arc::new(partition));
        }
        let mut writer = Writer::new(reserved_cursor);
        writer.settle(&shared)?;
        // After the undoing, which may have taken alerts back.
        for partition in shared.partitions_by(SortOrder::OldestFirst) {
            shared.publish(shared.last_cursor_of(&partition)?);
        }
        let holds = Holds::of(&shared.settings.dir);
        if let Err(error) = holds.refresh() {
            warn!(%error, "a hold cannot be read: nothing is deleted until it is mended");
        }
        let gaps = Mutex::new(gaps);
        Ok(Self { shared, writer: Mutex::new(writer), holds, gaps, _lock: lock })
    }

    /// Deletes what is older than the settings allow, and the oldest evidence beyond its quota, after copying out what
    /// a [`crate::LegalHold`] wants. Whole files go, so the space is free at once. Writing waits meanwhile, but for most
    /// of the copying; reading does not. Does nothing while a back-up is made.
    ///
    /// # Errors
    /// When the medium fails, or something that may be held cannot be read; what was deleted until then stays deleted.
    pub fn enforce_retention(&self, now: Timestamp) -> Result<RetentionReport, StoreError> {
        let Some(_nobody_copies) = Housekeeping::share(self.dir())? else {
            return Ok(RetentionReport::default()); // the next time
        };
        self.holds.refresh()?;
        self.keep_held(now)?;
        let mut writer = self.writer();
        self.keep_held(now)?; // what came meanwhile
        let first_kept = retention::first_kept(self.settings(), now);
        self.holds.keep_context(&self.shared.context, &self.gaps(), first_kept)?;
        let mut report = retention::enforce(&self.shared, &mut writer, now)?;
        report.context_rows += self.own_gaps().forget_before(first_kept);
        Ok(report)
    }

    fn keep_held(&self, now: Timestamp) -> Result<(), StoreError> {
        for day in retention::doomed_days(&self.shared, now)? {
            if let Some(partition) = self.shared.find_partition(day) {
                self.holds.keep(&self.shared, &partition)?;
            }
        }
        Ok(())
    }

    /// Keeps what was copied out of another store: a picture that it had no more is empty here, and is then none.
    pub(crate) fn record_held(&self, batch: &[Recorded]) -> Result<Receipt, StoreError> {
        self.writer().record(&self.shared, batch, &proved_records(batch)?)
    }

    /// Times of which sightings could not be kept, the oldest first, of earlier runs too.
    pub fn gaps(&self) -> Vec<StoreGap> {
        self.own_gaps().all()
    }

    fn own_gaps(&self) -> MutexGuard<'_, Gaps> {
        // A panic in there leaves a change unwritten at worst, which the next one writes.
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what is final of the days that [`StoreSettings::seal_days`] says into segments, a tenth of the size and
    /// quicker to search. Call it now and then: a day whose sightings came late is sealed again when it is worth it.
    /// Reading goes on meanwhile, and writing but for the moment at the end. Does nothing while a back-up is made.
    ///
    /// Needs some 100 bytes of memory for each sighting of a day, and the space of the segment on disk.
    ///
    /// # Errors
    /// When the medium fails or what was sealed before is damaged. A day is sealed wholly or not at all; days sealed
    /// before the failure stay so.
    pub fn seal_days(&self, now: Timestamp) -> Result<SealReport, StoreError> {
        let Some(_nobody_copies) = Housekeeping::share(self.dir())? else {
            return Ok(SealReport::default()); // the next time
        };
        seal::seal_days(&self.shared, &self.writer, now)
            .map_err(|error| self.shared.recognise_full(error))
    }

    /// Reads and verifies everything: structure, records, digests of pictures. Takes as long as reading the disk;
    /// may run beside everything else.
    ///
    /// # Errors
    /// When the medium fails. Damage is in the report, not an error.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        let mut report = check::run(&self.shared, &self.holds)?;
        if let Some((path, reason)) = self.own_gaps().damage() {
            report.found(path.display(), reason);
        }
        Ok(report)
    }

    /// The space that the store takes.
    ///
    /// # Errors
    /// When the medium fails.
    pub fn disk_usage(&self) -> Result<DiskUsage, StoreError> {
        let mut used = retention::disk_usage(&self.shared)?;
        self.holds.each(|_, store| {
            used.held +=
                store?.map_or(Ok(0), |store| store.disk_usage().map(|used| used.total()))?;
            Ok(())
        })?;
        Ok(used)
    }

    /// The folder that it lies in.
    pub fn dir(&self) -> &Path {
        &self.shared.settings.dir
    }

    pub(crate) fn settings(&self) -> &StoreSettings {
        &self.shared.settings
    }

    /// What sealing a day needs.
    pub(crate) fn sealing_parts(&self) -> (&Shared, &Mutex<Writer>) {
        (&self.shared, &self.writer)
    }

    pub(crate) fn recognise_full(&self, error: StoreError) -> StoreError {
        self.shared.recognise_full(error)
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.shared.registry()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // A panic in the writer leaves transactions open at worst, which its next call rolls back by closing.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SightingStore for Store {
    fn record(&self, batch: &[Recorded]) -> Result<Receipt, StoreError> {
        validate::recorded(batch)?;
        let records = proved_records(batch)?;
        let recorded = self.writer().record(&self.shared, batch, &records);
        let recorded = recorded.map_err(|error| self.shared.recognise_full(error));
        match &recorded {
            Ok(_) => self.own_gaps().kept(),
            Err(StoreError::Full { .. }) => self.own_gaps().refused(batch),
            Err(_) => {}
        }
        recorded
    }

    fn get(&self, id: SightingId) -> Result<Option<Sighting>, StoreError> {
        match self.get_own(id)? {
            Some(sighting) => Ok(Some(sighting)),
            None => self.holds.first(|store| store.get(id)),
        }
    }

    fn unfinished(
        &self,
        after: Option<SightingId>,
        limit: usize,
    ) -> Result<Vec<Sighting>, StoreError> {
        let mut found = Vec::new();
        let length = validate::page_length(limit);
        // Ids begin with the time, so that a day's come before the next day's.
        for partition in self.shared.partitions_by(SortOrder::OldestFirst) {
            if found.len() < length
                && after.is_none_or(|after| Day::of(after.started()) <= partition.day)
                && partition.summary().captured.is_some()
                && let Some(connection) = self.shared.reader(&partition)?
            {
                found.extend(provisional_after(&connection, after, length - found.len())?);
            }
        }
        Ok(found)
    }

    fn search(&self, query: &SightingQuery) -> Result<SightingPage, StoreError> {
        self.holds.search(query, self.search_own(query)?)
    }

    fn evidence(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        match self.evidence_own(digest)? {
            Some(picture) => Ok(Some(picture)),
            None => self.holds.first(|store| store.evidence(digest)),
        }
    }
}

/// Answers without what is held.
impl Store {
    fn alert_history_own(&self, id: &AlertId) -> Result<Vec<Alert>, StoreError> {
        let published = self.last_cursor()?;
        let day = Day::of(id.sighting.started());
        let Some(partition) = self.shared.find_partition(day) else { return Ok(Vec::new()) };
        match self.shared.reader(&partition)? {
            Some(connection) => alert_stages(&connection, id, published),
            None => Ok(Vec::new()),
        }
    }

    fn get_own(&self, id: SightingId) -> Result<Option<Sighting>, StoreError> {
        let Some(partition) = self.shared.find_partition(Day::of(id.started())) else {
            return Ok(None);
        };
        let loose = partition.summary().captured.is_some();
        let Some(view) = self.shared.view(&partition, loose)? else { return Ok(None) };
        if let Some(connection) = view.database()
            && let Some(raw) = find_sighting(connection, id)?
        {
            return raw.checked().map(Some);
        }
        let Some(segment) = view.segment() else { return Ok(None) };
        segment.find(id)?.map(|row| segment.sighting(row)).transpose()
    }

    fn search_own(&self, query: &SightingQuery) -> Result<SightingPage, StoreError> {
        let mut search = Search::new(query);
        if !search.is_empty() {
            for partition in self.shared.partitions_by(query.order) {
                let loose = search.wants(partition.summary().captured);
                let Some(view) = self.shared.view(&partition, loose)? else { continue };
                if let Some(connection) = view.database() {
                    search.visit(connection)?;
                }
                if let Some(segment) = view.segment()
                    && search.wants(segment.captured())
                {
                    search.visit_segment(segment)?;
                }
            }
        }
        search.finish()
    }

    /// Looks from the newest day to the oldest, since a digest does not say its day: the first read of an old
    /// picture costs a look into each later day.
    fn evidence_own(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let folder = self.shared.evidence_folder();
        let mut failure = None;
        for partition in self.shared.partitions_by(SortOrder::NewestFirst) {
            let Some(connection) = self.shared.reader(&partition)? else { continue };
            let places = pack::places(&connection, partition.day, digest)?;
            drop(connection);
            for place in places {
                match pack::read_picture(&folder, place, digest) {
                    Ok(Some(bytes)) => return Ok(Some(bytes)),
                    Ok(None) => {}
                    // There may be another, undamaged copy.
                    Err(error) => failure = Some(error),
                }
            }
        }
        failure.map_or(Ok(None), Err)
    }
}

impl LikelySearch for Store {
    fn likely(&self, query: &LikelyQuery) -> Result<Vec<Likely>, StoreError> {
        let found = self.likeliest(Likeliest::new(query))?;
        self.holds.likely(query, found)
    }

    fn times_read(
        &self,
        plates: &[PlateText],
        span: TimeSpan,
        cameras: Option<&[CameraId]>,
        most: usize,
    ) -> Result<Vec<usize>, StoreError> {
        let mut count = Count { plates, span, cameras, most, counts: vec![0; plates.len()] };
        for partition in self.shared.partitions_by(SortOrder::NewestFirst) {
            let loose = count.wants(partition.summary().captured);
            let Some(view) = self.shared.view(&partition, loose)? else { continue };
            if let Some(connection) = view.database() {
                count.visit(connection)?;
            }
            if let Some(segment) = view.segment()
                && count.wants(segment.captured())
            {
                count.visit_segment(segment)?;
            }
        }
        let Count { mut counts, .. } = count;
        for (plate, count) in plates.iter().zip(&mut counts) {
            let query = SightingQuery {
                plate: Some(PlatePattern::parse(plate.as_str())?),
                cameras: cameras.map(<[CameraId]>::to_vec),
                ..SightingQuery::all_in(span, most.saturating_sub(*count))
            };
            let nothing = SightingPage { sightings: Vec::new(), more: false };
            for held in self.holds.search(&query, nothing)?.sightings {
                // What is about to be deleted is in both.
                *count += usize::from(self.get_own(held.id)?.is_none());
            }
        }
        Ok(counts)
    }
}

impl Store {
    fn likeliest(&self, mut best: Likeliest<'_>) -> Result<Vec<Likely>, StoreError> {
        // The plate itself over all days first: what is sure leaves little room for what is not.
        for places in best.rounds() {
            for partition in self.shared.partitions_by(SortOrder::NewestFirst) {
                let loose = best.wants(partition.summary().captured);
                let Some(view) = self.shared.view(&partition, loose)? else { continue };
                if let Some(connection) = view.database() {
                    best.visit(connection, &places)?;
                }
                if let Some(segment) = view.segment()
                    && best.wants(segment.captured())
                {
                    best.visit_segment(segment, &places)?;
                }
            }
        }
        Ok(best.finish())
    }
}

impl AlertLog for Store {
    fn alerts_after(&self, cursor: u64, limit: usize) -> Result<Vec<Alert>, StoreError> {
        let published = self.last_cursor()?;
        let length = validate::page_length(limit);
        let mut alerts = Vec::new();
        for partition in self.shared.partitions_by(SortOrder::OldestFirst) {
            if cursor < published
                && partition.summary().last_cursor > cursor
                && let Some(connection) = self.shared.reader(&partition)?
            {
                alerts.extend(alerts_between(&connection, cursor, published, length)?);
                // Cursors follow the order of recording, days the order of sightings: no day is before another.
                alerts.sort_by_key(|alert: &Alert| alert.cursor);
                alerts.truncate(length);
            }
        }
        Ok(alerts)
    }

    fn last_cursor(&self) -> Result<u64, StoreError> {
        Ok(self.shared.published_cursor.load(Ordering::SeqCst))
    }

    fn alerts_of(&self, sightings: &[SightingId]) -> Result<Vec<Alert>, StoreError> {
        let published = self.last_cursor()?;
        let mut by_day: BTreeMap<Day, Vec<SightingId>> = BTreeMap::new();
        for sighting in sightings {
            by_day.entry(Day::of(sighting.started())).or_default().push(*sighting);
        }
        let mut alerts = Vec::new();
        for (day, sightings) in by_day {
            let Some(partition) = self.shared.find_partition(day) else {
                alerts.extend(self.holds.gather(|store| store.alerts_of(&sightings))?);
                continue;
            };
            // Most days have no alert, and most batches are of such a day.
            if partition.summary().last_cursor > 0
                && let Some(connection) = self.shared.reader(&partition)?
            {
                alerts.extend(latest_alerts(&connection, &sightings, published)?);
            }
        }
        Ok(alerts)
    }

    fn alert_history(&self, id: &AlertId) -> Result<Vec<Alert>, StoreError> {
        let own = self.alert_history_own(id)?;
        if !own.is_empty() {
            return Ok(own);
        }
        let held = self.holds.first(|store| {
            let stages = store.alert_history(id)?;
            Ok((!stages.is_empty()).then_some(stages))
        })?;
        Ok(held.unwrap_or_default())
    }

    fn append(&self, alert: &Alert) -> Result<Option<Alert>, StoreError> {
        // Held over both, so that retention does not take the day in between.
        let mut writer = self.writer();
        // What is held does not change any more.
        if self.alert_history_own(&alert.id)?.is_empty() {
            return Ok(None);
        }
        let logged = writer.append(&self.shared, alert);
        logged.map_err(|error| self.shared.recognise_full(error))
    }
}

impl Watchlist for Store {
    fn put_entries(&self, entries: &[WatchEntry]) -> Result<(), StoreError> {
        entries.iter().try_for_each(validate::entry)?;
        self.shared
            .registry()
            .put_entries(entries)
            .map_err(|error| self.shared.recognise_full(error))
    }

    fn remove_entry(&self, id: &WatchEntryId) -> Result<bool, StoreError> {
        self.shared.registry().remove_entry(id).map_err(|error| self.shared.recognise_full(error))
    }

    fn entry(&self, id: &WatchEntryId) -> Result<Option<WatchEntry>, StoreError> {
        self.shared.registry().entry(id)
    }

    fn entries_after(
        &self,
        after: Option<&WatchEntryId>,
        limit: usize,
    ) -> Result<Vec<WatchEntry>, StoreError> {
        self.shared.registry().entries_after(after, limit)
    }

    fn entries(&self) -> Result<Vec<WatchEntry>, StoreError> {
        self.shared.registry().entries()
    }
}

impl CameraRegistry for Store {
    fn put_cameras(&self, cameras: &[Camera]) -> Result<(), StoreError> {
        cameras.iter().try_for_each(validate::camera)?;
        let put = self.shared.registry().put_cameras(cameras);
        put.map_err(|error| self.shared.recognise_full(error))
    }

    fn remove_camera(&self, id: &CameraId) -> Result<bool, StoreError> {
        self.shared.registry().remove_camera(id).map_err(|error| self.shared.recognise_full(error))
    }

    fn cameras(&self) -> Result<Vec<Camera>, StoreError> {
        self.shared.registry().cameras()
    }
}

impl CoverageStore for Store {
    fn keep_coverage(&self, intervals: &[Coverage]) -> Result<Vec<Kept>, StoreError> {
        intervals.iter().try_for_each(validate::coverage)?;
        let kept = self.shared.context.keep_coverage(intervals);
        kept.map_err(|error| self.shared.recognise_full(error))
    }

    fn coverage(&self, cameras: &[CameraId], span: TimeSpan) -> Result<Vec<Coverage>, StoreError> {
        let mut intervals = self.shared.context.coverage(cameras, span)?;
        intervals.extend(self.holds.gather(|store| store.coverage(cameras, span))?);
        // What was refused may be of any time in between: nobody can say that nothing was seen.
        for gap in self.gaps() {
            let gaps = cameras.iter().filter_map(|camera| gap.unknown(camera));
            intervals.extend(gaps.filter(|gap| gap.span.overlaps(span)));
        }
        intervals.sort_by(|a, b| {
            let key = |interval: &Coverage| (interval.span.first(), interval.state);
            a.camera.cmp(&b.camera).then_with(|| key(a).cmp(&key(b)))
        });
        intervals.dedup(); // held, and not yet gone
        Ok(intervals)
    }
}

impl RoadGraphStore for Store {
    fn put_road_graph(&self, graph: RoadGraph) -> Result<(), StoreError> {
        let put = self.shared.context.put_road_graph(graph);
        put.map_err(|error| self.shared.recognise_full(error))
    }

    fn road_graph(&self) -> Result<Option<Arc<RoadGraph>>, StoreError> {
        self.shared.context.road_graph()
    }
}

impl CorrectionStore for Store {
    fn correct(&self, correction: &Correction) -> Result<bool, StoreError> {
        validate::correction(correction)?;
        let kept = self.shared.context.correct(correction);
        kept.map_err(|error| self.shared.recognise_full(error))
    }

    fn corrections_of(&self, sightings: &[SightingId]) -> Result<Vec<Correction>, StoreError> {
        let own = self.shared.context.corrections_of(sightings)?;
        Ok(with_held(own, self.holds.gather(|store| store.corrections_of(sightings))?))
    }

    fn corrections_in(&self, began: TimeSpan) -> Result<Vec<Correction>, StoreError> {
        let own = self.shared.context.corrections_in(began)?;
        Ok(with_held(own, self.holds.gather(|store| store.corrections_in(began))?))
    }
}

/// Corrections with those that are held, each once: by sighting, and those of one in the order of their making.
fn with_held(mut own: Vec<Correction>, held: Vec<Correction>) -> Vec<Correction> {
    if held.is_empty() {
        return own;
    }
    // What is held was made before what came since.
    let mut all: Vec<Correction> = Vec::with_capacity(own.len() + held.len());
    for correction in held.into_iter().chain(own.drain(..)) {
        if !all.contains(&correction) {
            all.push(correction);
        }
    }
    all.sort_by_key(|correction| correction.sighting);
    all
}

/// The time of which a damaged log may have lost sightings: from the last one that is there to the last time that
/// the log was written to; the whole day when that cannot be said.
fn lost_span(day: Day, kept: Summary, lost: &LostCommits) -> StoreGap {
    let (first, last) = day.bounds();
    let from = kept.captured.map(|(_, last)| Timestamp::from_nanos(last));
    let to = lost.written_ns.map(Timestamp::from_nanos);
    let span = from.zip(to).filter(|(from, to)| from < to && first <= *from && *to <= last);
    let (from, to) = span.unwrap_or((first, last));
    StoreGap { camera: None, cause: GapCause::DamagedLog, from, to, refused: 0 }
}

impl Shared {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        // Each use is one statement: a panic leaves nothing half done.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sightings_folder(&self) -> PathBuf {
        self.settings.dir.join("sightings")
    }

    pub(crate) fn evidence_folder(&self) -> PathBuf {
        self.settings.dir.join("evidence")
    }

    /// The partitions on disk, by the names of their files.
    fn partition_files(&self) -> Result<Vec<(Day, PathBuf)>, StoreError> {
        let mut files = Vec::new();
        for path in files_in(&self.sightings_folder())? {
            let is_db = path.extension().is_some_and(|extension| extension == "db");
            let day = path.file_stem().and_then(|stem| stem.to_str()).and_then(|s| s.parse().ok());
            if let (true, Some(day)) = (is_db, day) {
                files.push((day, path));
            }
        }
        Ok(files)
    }

    pub(crate) fn partitions_by(&self, order: SortOrder) -> Vec<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let oldest_first = partitions.values().cloned();
        match order {
            SortOrder::OldestFirst => oldest_first.collect(),
            SortOrder::NewestFirst => oldest_first.rev().collect(),
        }
    }

    fn find_partition(&self, day: Day) -> Option<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&day).cloned()
    }

    pub(crate) fn partition(&self, day: Day) -> Result<Arc<Partition>, StoreError> {
        self.find_partition(day).ok_or_else(|| StoreError::Medium {
            doing: "find a partition",
            reason: format!("there is none for {day}"),
        })
    }

    pub(crate) fn partition_or_new(&self, day: Day) -> Arc<Partition> {
        self.find_partition(day).unwrap_or_else(|| {
            let path = Partition::path_in(&self.sightings_folder(), day);
            Arc::new(Partition::new(day, path, Summary::default(), None))
        })
    }

    pub(crate) fn add_partition(&self, partition: Arc<Partition>) {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.entry(partition.day).or_insert(partition);
    }

    pub(crate) fn remove_partition(&self, day: Day) {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(partition) = partitions.remove(&day) {
            partition.mark_deleted();
        }
    }

    /// A connection to a partition; `None` when retention took it.
    pub(crate) fn reader(&self, partition: &Partition) -> Result<Option<Lent<'_>>, StoreError> {
        match self.pool.lend(partition) {
            Err(_) if partition.is_deleted() => Ok(None),
            lent => lent,
        }
    }

    /// What a day holds at this moment; its database only if it is wanted. `None` when retention took it.
    pub(crate) fn view<'a>(
        &'a self,
        partition: &Partition,
        database: bool,
    ) -> Result<Option<View<'a>>, StoreError> {
        let connection = match database {
            true => match self.reader(partition)? {
                Some(connection) => Some(connection),
                None => return Ok(None),
            },
            false if partition.is_deleted() => return Ok(None),
            false => None,
        };
        let segment = partition.hold_segment();
        View::begin(connection, segment.clone()).map(Some)
    }

    fn last_cursor_of(&self, partition: &Partition) -> Result<u64, StoreError> {
        match self.reader(partition)? {
            Some(connection) => Ok(read_summary(&connection, &partition.path)?.last_cursor),
            None => Ok(0),
        }
    }

    /// Makes alerts up to a cursor visible.
    pub(crate) fn publish(&self, cursor: u64) {
        self.published_cursor.fetch_max(cursor, Ordering::SeqCst);
    }

    /// SQLite says "disk I/O error" or "unable to open" where a log or its index finds no space; whether space is
    /// what is missing is found out by trying.
    fn recognise_full(&self, error: StoreError) -> StoreError {
        let StoreError::Medium { doing, .. } = error else { return error };
        let path = self.settings.dir.join("space.probe");
        let probe = std::fs::write(&path, [0x5a; 64 * 1024]);
        let removed = std::fs::remove_file(&path);
        match probe.and(removed).map_err(io_at(doing, &path)) {
            Err(StoreError::Full { doing }) => StoreError::Full { doing },
            _ => error,
        }
    }
}

/// Makes a folder with its name durable, readable by its owner only, unless there is one.
fn make_folder(folder: &Path) -> Result<(), StoreError> {
    let doing = "make the store's folder";
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_at(doing, folder))?;
    // A relative folder of one part has the empty path as its parent.
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => schema::sync_folder_of(folder),
        _ => Ok(()),
    }
}

/// The lock on the store's folder. Released by hand: closing alone would leave it to a child process that is between
/// fork and exec and so holds a copy of the descriptor.
#[derive(Debug)]
pub(crate) struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            warn!(%error, "cannot unlock the store's folder");
        }
    }
}

const OPENING: &str = "open the store";

fn lock(dir: &Path) -> Result<FolderLock, StoreError> {
    try_lock(dir)?.ok_or_else(|| StoreError::Medium {
        doing: OPENING,
        reason: format!(
            "{} is in use by another process: stop it, or choose another folder",
            dir.display()
        ),
    })
}

/// The lock on a store's folder; `None` while somebody has the store open.
pub(crate) fn try_lock(dir: &Path) -> Result<Option<FolderLock>, StoreError> {
    let path = dir.join("store.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_at(OPENING, &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(FolderLock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(io_at(OPENING, &path)(error)),
    }
}

/// The files of a folder, in no order.
pub(crate) fn files_in(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = io_at("read a folder", folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(&failed)? {
        files.push(entry.map_err(&failed)?.path());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::Fault;
    use guiji_domain::{
        CaptureTime, ClockSource, PlateState, SightingStage, TimeSpan, TrackId, Vehicle,
    };
    use std::time::Duration;

    fn item(track: u64, hours: i64, stage: SightingStage) -> Recorded {
        let camera = CameraId::new("k1").unwrap();
        let started = Timestamp::from_secs(hours * 3600);
        let sighting = Sighting {
            id: SightingId::for_track(&camera, TrackId(track), started),
            stage,
            camera,
            span: TimeSpan::at(started),
            captured: CaptureTime {
                at: started,
                uncertainty: Duration::ZERO,
                source: ClockSource::Rtcp,
            },
            plate: PlateState::NotRead,
            vehicle: Vehicle { class: None, colour: None },
            direction: None,
            frames: 1,
            evidence: Vec::new(),
        };
        Recorded { sighting: Arc::new(sighting), pictures: Vec::new(), alerts: Vec::new() }
    }

    /// A provisional sighting before midnight becomes final in the same batch as one after midnight, which fails.
    fn fail_over_midnight(store: &Store, fault: Fault) -> (Recorded, Vec<Recorded>) {
        let before = item(1, 23, SightingStage::Provisional);
        let batch = vec![
            item(1, 23, SightingStage::Final),
            item(2, 22, SightingStage::Final),
            item(3, 25, SightingStage::Final),
        ];
        store.record(std::slice::from_ref(&before)).unwrap();
        store.writer().fault = Some(fault);
        assert!(store.record(&batch).is_err());
        (before, batch)
    }

    fn assert_taken_back(store: &Store, before: &Recorded, batch: &[Recorded]) {
        assert_eq!(store.get(before.sighting.id).unwrap().as_ref(), Some(&*before.sighting));
        for item in &batch[1..] {
            assert_eq!(store.get(item.sighting.id).unwrap(), None);
        }
        assert!(store.check().unwrap().is_sound());
    }

    #[test]
    fn a_batch_that_fails_in_its_second_day_is_taken_back_in_its_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreSettings::new(folder.path())).unwrap();
        let (before, batch) = fail_over_midnight(&store, Fault::SecondCommit);
        assert_taken_back(&store, &before, &batch);
        store.writer().fault = None;
        store.record(&batch).unwrap();
        assert_eq!(store.get(batch[2].sighting.id).unwrap().as_ref(), Some(&*batch[2].sighting));
    }

    #[test]
    fn a_batch_that_could_not_be_taken_back_is_so_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreSettings::new(folder.path())).unwrap();
        let (before, batch) = fail_over_midnight(&store, Fault::SecondCommitAndUndo);
        // Until then nothing new is taken.
        assert!(store.record(&[item(9, 1, SightingStage::Final)]).is_err());
        drop(store);
        let store = Store::open(StoreSettings::new(folder.path())).unwrap();
        assert_taken_back(&store, &before, &batch);
    }
}
