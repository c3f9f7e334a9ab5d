//! Legal holds: what a case needs outlives retention.
//!
//! ```text
//! held/0001/hold.json   what is held, with the SHA-256 of what it says
//! held/0001/store/      a store of its own with what was copied out
//! held/0001/lifted      it is to go
//! ```
//! Before retention deletes a day or a pack, the sightings that a hold wants are copied with the pictures that are
//! still there and their alerts into the hold's store; before it deletes coverage and corrections, those of the held
//! cameras and times, and of held sightings, are. Questions look there too. Alerts keep their order, but get cursors
//! of the hold's own. A hold that was lifted goes as a whole: nothing of
//! another hold is in its folder. Holds are placed and lifted by files, so that a command may do it beside a running
//! server, which sees them the next time that it deletes anything.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use guiji_domain::{
    Alert, CameraId, CorrectionStore as _, Coverage, CoverageStore as _, Digest, InvalidValue,
    Likely, LikelyQuery, LikelySearch as _, PlatePattern, Recorded, Sighting, SightingId,
    SightingPage, SightingQuery, SightingStage, SightingStore as _, SortOrder, StoreError,
    TimeSpan, Timestamp,
};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::context::Context;
use crate::day::Day;
use crate::errors::{damaged, io_at};
use crate::gaps::StoreGap;
use crate::pack;
use crate::partition::{Partition, alerts_of_sighting};
use crate::schema::sync_folder_of;
use crate::search::Search;
use crate::settings::{EvidenceLimits, KeepLimit, StoreSettings};
use crate::store::{Shared, Store};
use crate::validate::{page_length, sha256};

const DOING: &str = "hold sightings";
/// Sightings copied in one go: their pictures are in memory meanwhile.
const BATCH: usize = 256;
/// Read connections of a hold's store: it is asked seldom.
const READERS_MAX: usize = 4;

/// What must be kept for a case, whatever retention says.
#[derive(Debug, Clone, PartialEq)]
pub struct LegalHold {
    /// The case that it is for.
    pub case_number: String,
    /// Sightings with one of these plates; of any plate, or none, when there are none of these.
    pub plates: Vec<PlatePattern>,
    /// Sightings of these cameras; of any when there are none.
    pub cameras: Vec<CameraId>,
    /// Sightings captured in this span.
    pub span: TimeSpan,
    /// When it was placed.
    pub placed: Timestamp,
}

impl LegalHold {
    /// Whether it holds a sighting.
    pub fn holds(&self, sighting: &Sighting) -> bool {
        self.queries().iter().any(|query| query.accepts(sighting))
    }

    /// What finds everything that it holds; a sighting may be found twice.
    fn queries(&self) -> Vec<SightingQuery> {
        let plates: Vec<_> = match self.plates.is_empty() {
            true => vec![None],
            false => self.plates.iter().cloned().map(Some).collect(),
        };
        let cameras = (!self.cameras.is_empty()).then(|| self.cameras.clone());
        plates
            .into_iter()
            .map(|plate| SightingQuery {
                plate,
                cameras: cameras.clone(),
                provisional: true,
                ..SightingQuery::all_in(self.span, BATCH)
            })
            .collect()
    }
}

/// A hold as it stands in its file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldFile {
    case_number: String,
    plates: Vec<String>,
    cameras: Vec<String>,
    first_ns: i64,
    last_ns: i64,
    placed_ns: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SealedHold {
    hold: HoldFile,
    /// Of the hold as JSON.
    sha256: String,
}

fn encode(hold: &LegalHold) -> Result<Vec<u8>, serde_json::Error> {
    let hold = HoldFile {
        case_number: hold.case_number.clone(),
        plates: hold.plates.iter().map(|plate| plate.as_str().to_owned()).collect(),
        cameras: hold.cameras.iter().map(|camera| camera.as_str().to_owned()).collect(),
        first_ns: hold.span.first().as_nanos(),
        last_ns: hold.span.last().as_nanos(),
        placed_ns: hold.placed.as_nanos(),
    };
    let sha256 = Digest(sha256(&serde_json::to_vec(&hold)?)).to_string();
    serde_json::to_vec(&SealedHold { hold, sha256 })
}

fn decode(bytes: &[u8]) -> Result<LegalHold, String> {
    let SealedHold { hold, sha256: stated } =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let again = serde_json::to_vec(&hold).map_err(|error| error.to_string())?;
    if Digest(sha256(&again)).to_string() != stated {
        return Err("its SHA-256 does not match".to_owned());
    }
    let wrong = |error: InvalidValue| error.to_string();
    let time = Timestamp::from_nanos;
    Ok(LegalHold {
        case_number: hold.case_number,
        plates: hold
            .plates
            .iter()
            .map(|plate| PlatePattern::parse(plate).map_err(wrong))
            .collect::<Result<_, _>>()?,
        cameras: hold
            .cameras
            .iter()
            .map(|camera| CameraId::new(camera).map_err(wrong))
            .collect::<Result<_, _>>()?,
        span: TimeSpan::new(time(hold.first_ns), time(hold.last_ns)).map_err(wrong)?,
        placed: time(hold.placed_ns),
    })
}

fn held_folder(dir: &Path) -> PathBuf {
    dir.join("held")
}

fn hold_folder(dir: &Path, number: u32) -> PathBuf {
    held_folder(dir).join(format!("{number:04}"))
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Writes a file and makes it and its name durable.
fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let failed = io_at(DOING, path);
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(&failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(&failed)?;
    sync_folder_of(path)
}

/// Places a hold in a store's folder; its number. In force once it returns: a server that has the store open sees it
/// before it deletes anything. The caller audits it before and after.
///
/// # Errors
/// When the case number is empty, or the medium fails.
pub fn place_hold(dir: &Path, hold: &LegalHold) -> Result<u32, StoreError> {
    if hold.case_number.trim().is_empty() {
        return Err(InvalidValue::new("case number", "", "say for which case it is held").into());
    }
    let parent = held_folder(dir);
    match make_folder(&parent) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io_at(DOING, &parent)(error));
        }
        Ok(()) | Err(_) => sync_folder_of(&parent)?,
    }
    let mut number = numbers(dir)?.last().map_or(1, |last| last + 1);
    let folder = loop {
        let folder = hold_folder(dir, number);
        match make_folder(&folder) {
            Ok(()) => break folder,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(io_at(DOING, &folder)(error)),
        }
    };
    let bytes = encode(hold).map_err(|error| damaged("a hold", error))?;
    // Whole or not there.
    let (unfinished, path) = (folder.join("hold.new"), folder.join("hold.json"));
    write_durably(&unfinished, &bytes)?;
    fs::rename(&unfinished, &path).map_err(io_at(DOING, &path))?;
    sync_folder_of(&path)?;
    sync_folder_of(&folder)?;
    Ok(number)
}

/// Lifts a hold; false when there is none of that number. What it held is deleted when the store next deletes what is
/// too old. The caller audits it.
///
/// # Errors
/// When the medium fails.
pub fn lift_hold(dir: &Path, number: u32) -> Result<bool, StoreError> {
    let folder = hold_folder(dir, number);
    if !folder.join("hold.json").is_file() {
        return Ok(false);
    }
    write_durably(&folder.join("lifted"), b"")?;
    Ok(true)
}

/// The holds in force in a store's folder, by number.
///
/// # Errors
/// When the medium fails or a hold is damaged.
pub fn holds(dir: &Path) -> Result<BTreeMap<u32, LegalHold>, StoreError> {
    let mut holds = BTreeMap::new();
    for number in numbers(dir)? {
        let folder = hold_folder(dir, number);
        if folder.join("lifted").exists() {
            continue;
        }
        if let Some(hold) = read(&folder)? {
            holds.insert(number, hold);
        }
    }
    Ok(holds)
}

/// `None` when its placing was not finished.
fn read(folder: &Path) -> Result<Option<LegalHold>, StoreError> {
    let path = folder.join("hold.json");
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_at(DOING, &path))?,
    };
    decode(&bytes).map(Some).map_err(|reason| damaged(path.display(), reason))
}

/// The numbers of all folders of holds, rising.
fn numbers(dir: &Path) -> Result<Vec<u32>, StoreError> {
    let folder = held_folder(dir);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io_at(DOING, &folder))?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_at(DOING, &folder))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The holds of an open store.
#[derive(Debug)]
pub(crate) struct Holds {
    dir: PathBuf,
    held: RwLock<BTreeMap<u32, Arc<Held>>>,
}

/// One hold, and the store with what it holds, once there is anything.
#[derive(Debug)]
struct Held {
    hold: LegalHold,
    folder: PathBuf,
    store: Mutex<Option<Arc<Store>>>,
}

impl Held {
    /// Its store, if there is one.
    fn store(&self) -> Option<Arc<Store>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its store, made if there is none.
    fn store_or_new(&self) -> Result<Arc<Store>, StoreError> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        match &*store {
            Some(store) => Ok(Arc::clone(store)),
            None => Ok(Arc::clone(store.insert(Arc::new(open(&self.folder)?)))),
        }
    }
}

fn store_folder(folder: &Path) -> PathBuf {
    folder.join("store")
}

/// A store that keeps everything.
fn open(folder: &Path) -> Result<Store, StoreError> {
    let all = KeepLimit { days: u32::MAX, bytes: u64::MAX };
    Store::open(StoreSettings {
        sightings_days: u32::MAX,
        seal_days: u32::MAX,
        segment_cache_bytes: 0,
        evidence: EvidenceLimits { plate: all, vehicle: all, frame: all },
        readers_max: READERS_MAX,
        ..StoreSettings::new(store_folder(folder))
    })
}

impl Holds {
    /// The holds of a store's folder, which are looked at by [`Self::refresh`].
    pub(crate) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), held: RwLock::default() }
    }

    /// Takes up what was placed, and deletes what was lifted and is not being read.
    pub(crate) fn refresh(&self) -> Result<(), StoreError> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        for number in numbers(&self.dir)? {
            let folder = hold_folder(&self.dir, number);
            if folder.join("lifted").exists() {
                let in_use = held.get(&number).is_some_and(|held| {
                    held.store().is_some_and(|store| Arc::strong_count(&store) > 2)
                });
                if !in_use {
                    held.remove(&number);
                    delete(&folder)?;
                    info!(number, "deleted what a lifted hold held");
                }
                continue;
            }
            if held.contains_key(&number) {
                continue;
            }
            if let Some(hold) = read(&folder)? {
                let there = store_folder(&folder).is_dir();
                let store = there.then(|| open(&folder).map(Arc::new)).transpose()?;
                let store = Mutex::new(store);
                held.insert(number, Arc::new(Held { hold, folder, store }));
            }
        }
        Ok(())
    }

    fn all(&self) -> Vec<Arc<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The stores that hold anything.
    fn stores(&self) -> Vec<Arc<Store>> {
        self.all().iter().filter_map(|held| held.store()).collect()
    }

    /// Copies out what of a day is held, as far as it is not yet.
    pub(crate) fn keep(&self, shared: &Shared, partition: &Partition) -> Result<(), StoreError> {
        for held in self.all() {
            for mut query in held.hold.queries() {
                loop {
                    let page = search_day(shared, partition, &query)?;
                    let Some(last) = page.sightings.last() else { break };
                    query.after = Some((last.captured.at, last.id));
                    copy(shared, partition, &held, page.sightings)?;
                    if !page.more {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Copies out coverage and corrections that are about to go, and what gaps say of the held times.
    pub(crate) fn keep_context(
        &self,
        context: &Context,
        gaps: &[StoreGap],
        before: Timestamp,
    ) -> Result<(), StoreError> {
        let all = self.all();
        if all.is_empty() {
            return Ok(());
        }
        let corrections = context.corrections_before(before)?;
        for held in all {
            let LegalHold { cameras, span, .. } = &held.hold;
            let mut intervals = context.coverage_ended_before(before, *span, cameras)?;
            let ended = gaps.iter().filter(|gap| gap.to < before);
            intervals.extend(ended.flat_map(|gap| gap_of(gap, cameras)));
            intervals.retain(|interval| interval.span.overlaps(*span));
            if !intervals.is_empty() {
                held.store_or_new()?.keep_coverage(&intervals)?;
            }
            let Some(store) = held.store() else { continue };
            for correction in &corrections {
                if store.get(correction.sighting)?.is_some()
                    && !store.corrections_of(&[correction.sighting])?.contains(correction)
                {
                    store.correct(correction)?;
                }
            }
        }
        Ok(())
    }

    /// What all stores say of something.
    pub(crate) fn gather<T>(
        &self,
        ask: impl Fn(&Store) -> Result<Vec<T>, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut all = Vec::new();
        for store in self.stores() {
            all.extend(ask(&store)?);
        }
        Ok(all)
    }

    /// An answer with what is held.
    pub(crate) fn search(
        &self,
        query: &SightingQuery,
        page: SightingPage,
    ) -> Result<SightingPage, StoreError> {
        let SightingPage { mut sightings, mut more } = page;
        let own = sightings.len();
        for store in self.stores() {
            let page = store.search(query)?;
            sightings.extend(page.sightings);
            more |= page.more;
        }
        if sightings.len() > own {
            // What is about to be deleted is in both.
            drop_doubles(&mut sightings, |sighting| sighting);
            sightings.sort_by_key(|sighting| (sighting.captured.at, sighting.id));
            if query.order == SortOrder::NewestFirst {
                sightings.reverse();
            }
            let length = page_length(query.limit);
            more |= sightings.len() > length;
            sightings.truncate(length);
        }
        Ok(SightingPage { sightings, more })
    }

    /// Likewise of the likeliest.
    pub(crate) fn likely(
        &self,
        query: &LikelyQuery,
        mut found: Vec<Likely>,
    ) -> Result<Vec<Likely>, StoreError> {
        let own = found.len();
        for store in self.stores() {
            found.extend(store.likely(query)?);
        }
        if found.len() > own {
            drop_doubles(&mut found, |likely| &likely.sighting);
            found.sort_by(|a, b| {
                let key = |likely: &Likely| (likely.sighting.captured.at, likely.sighting.id);
                b.probability.total_cmp(&a.probability).then_with(|| key(b).cmp(&key(a)))
            });
            found.truncate(page_length(query.limit));
        }
        Ok(found)
    }

    /// The first that a store has of what is sought.
    pub(crate) fn first<T>(
        &self,
        find: impl Fn(&Store) -> Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        for store in self.stores() {
            if let Some(found) = find(&store)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Calls with each hold's folder and store, if it has one, in order; damaged holds are errors of the reading.
    pub(crate) fn each(
        &self,
        mut each: impl FnMut(&Path, Result<Option<Arc<Store>>, StoreError>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for number in numbers(&self.dir)? {
            let folder = hold_folder(&self.dir, number);
            let open =
                self.held.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
            let there = store_folder(&folder).is_dir() && !folder.join("lifted").exists();
            let store = read(&folder).and_then(|_| match open {
                Some(held) => Ok(held.store()),
                // Opening it failed, or nobody has tried yet.
                None if there => self::open(&folder).map(|store| Some(Arc::new(store))),
                None => Ok(None),
            });
            each(&folder, store)?;
        }
        Ok(())
    }
}

/// What a gap says of the cameras of a hold; of its own one, when the hold names none.
fn gap_of(gap: &StoreGap, cameras: &[CameraId]) -> Vec<Coverage> {
    let whose: Vec<_> = match &gap.camera {
        None => cameras.iter().collect(),
        Some(camera) if cameras.is_empty() || cameras.contains(camera) => vec![camera],
        Some(_) => Vec::new(),
    };
    whose.into_iter().filter_map(|camera| gap.unknown(camera)).collect()
}

/// Of an id that comes twice, the first stays.
fn drop_doubles<T>(all: &mut Vec<T>, sighting: impl Fn(&T) -> &Sighting) {
    let mut met: HashSet<SightingId> = HashSet::with_capacity(all.len());
    all.retain(|one| met.insert(sighting(one).id));
}

/// Deletes a hold's folder; the marker last, so that a crash on the way leaves a lifted hold.
fn delete(folder: &Path) -> Result<(), StoreError> {
    let store = store_folder(folder);
    match fs::remove_dir_all(&store) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_at(DOING, &store)(error));
        }
        Ok(()) | Err(_) => {}
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_at(DOING, folder))?;
    fs::remove_dir_all(folder).map_err(io_at(DOING, folder))?;
    sync_folder_of(folder)
}

fn search_day(
    shared: &Shared,
    partition: &Partition,
    query: &SightingQuery,
) -> Result<SightingPage, StoreError> {
    let mut search = Search::new(query);
    if !search.is_empty()
        && let Some(view) = shared.view(partition, true)?
    {
        if let Some(connection) = view.database() {
            search.visit(connection)?;
        }
        if let Some(segment) = view.segment() {
            search.visit_segment(segment)?;
        }
    }
    search.finish()
}

fn copy(
    shared: &Shared,
    partition: &Partition,
    held: &Held,
    sightings: Vec<Sighting>,
) -> Result<(), StoreError> {
    let store = held.store_or_new()?;
    let mut alerts: HashMap<SightingId, Vec<Alert>> = HashMap::new();
    if partition.summary().last_cursor > 0
        && let Some(connection) = shared.reader(partition)?
    {
        for sighting in &sightings {
            alerts.insert(sighting.id, alerts_of_sighting(&connection, sighting.id)?);
        }
    }
    let mut batch = Vec::new();
    for sighting in sightings {
        let alerts = alerts.remove(&sighting.id).unwrap_or_default();
        let there = store.get(sighting.id)?;
        // Of one that is there already, only later stages of its alerts are new.
        if there.is_some_and(|there| there.stage == SightingStage::Final) && alerts.is_empty() {
            continue;
        }
        let pictures = sighting
            .evidence
            .iter()
            .map(|evidence| picture(shared, partition.day, &evidence.digest).map(Arc::from))
            .collect::<Result<_, _>>()?;
        batch.push(Recorded { sighting: Arc::new(sighting), pictures, alerts });
    }
    if !batch.is_empty() {
        store.record_held(&batch)?;
        info!(day = %partition.day, sightings = batch.len(), case = held.hold.case_number, "held");
    }
    Ok(())
}

/// A picture; empty when there is none any more, or it is damaged.
fn picture(shared: &Shared, day: Day, digest: &Digest) -> Result<Vec<u8>, StoreError> {
    let partition = shared.partition(day)?;
    let Some(connection) = shared.reader(&partition)? else { return Ok(Vec::new()) };
    let places = pack::places(&connection, day, digest)?;
    drop(connection);
    for place in places {
        match pack::read_picture(&shared.evidence_folder(), place, digest) {
            Ok(Some(bytes)) => return Ok(bytes),
            Ok(None) => {}
            // Else nothing could ever be deleted any more.
            Err(error @ StoreError::Damaged { .. }) => warn!(%error, "a picture is not held"),
            Err(error) => return Err(error),
        }
    }
    Ok(Vec::new())
}
