//! `guiji bench store`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use guiji_api::pb;
use guiji_county::{County, CountySettings};
use guiji_domain::{
    Camera, PlatePattern, Recorded, Sighting, SightingIntake as _, SightingQuery,
    SightingStore as _, SortOrder, TimeSpan, Timestamp,
};
use guiji_engine::{Intake, IntakeParts, PatrolBook, WatchBook};
use guiji_store::{Store, StoreSettings};
use serde::Serialize;

use super::questions::{self, AnswerFigures, Answers, Asked, LIKELY, PAGE, POINTS_MAX, Picker};
use super::{answers, postgres};
use crate::clock::SystemClock;
use crate::simulate::surroundings;

/// Arguments of `guiji bench store`.
#[derive(Debug, Args)]
pub(super) struct StoreArguments {
    /// How many sightings.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    rows: u64,
    /// Over how many days, each a partition of the store.
    #[arg(long, value_name = "D", default_value_t = 7)]
    days: u32,
    /// The seed of county and questions.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Where the store is made, and removed afterwards.
    #[arg(long, value_name = "FOLDER", default_value = ".guiji/bench-store")]
    dir: PathBuf,
    /// Do the same with this database, and print its figures beside.
    #[arg(long, value_name = "DATABASE")]
    baseline: Option<Baseline>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What the store is compared with.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Baseline {
    /// PostgreSQL 15, from the system's package, in a cluster of its own that is removed afterwards.
    Postgres,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct StoreFigures {
    pub(super) rows: u64,
    /// Sightings of days that are over, a second: all days but the last, straight into segments, durable.
    pub(super) import_per_s: f64,
    /// Sightings of the last day, a second, durable in transactions of [`CHUNK`], while others ask without a pause.
    pub(super) ingest_per_s: f64,
    /// Questions answered a second meanwhile.
    pub(super) asked_meanwhile_per_s: f64,
    /// One question after the other, on everything, in the second round.
    #[serde(flatten)]
    pub(super) answers: AnswerFigures,
    /// Files, indexes included, for each sighting.
    pub(super) bytes_per_sighting: f64,
}

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Figures {
    #[serde(flatten)]
    store: StoreFigures,
    /// The same of PostgreSQL, with `--baseline postgres`.
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres: Option<StoreFigures>,
}

/// Sightings of a transaction, as an import brings them.
pub(super) const CHUNK: usize = 1000;
/// Sightings that are made before they are stored: making them is not counted.
const BULK_CHUNK: usize = 20_000;

/// Runs the command.
pub(super) fn run(arguments: &StoreArguments) -> Result<ExitCode> {
    super::in_folder(&arguments.dir, arguments.json, || bench(arguments))
}

fn bench(arguments: &StoreArguments) -> Result<Figures> {
    let StoreArguments { rows, days, seed, dir, baseline, .. } = arguments;
    let county = County::new(CountySettings {
        seed: *seed,
        sightings: *rows,
        days: *days,
        error_rate: 0.01,
        start: super::START,
    })?;
    // First what may be missing.
    let server = baseline.map(|Baseline::Postgres| postgres::Server::start()).transpose()?;
    let store = bench_store(&county, dir)?;
    let postgres = server.map(|server| postgres::bench(&server, &county)).transpose()?;
    Ok(Figures { store, postgres })
}

fn bench_store(county: &County, dir: &Path) -> Result<StoreFigures> {
    let Filled { import_per_s, ingest_per_s, asked_meanwhile_per_s, asked } = fill(county, dir)?;
    // As days are in the field when they are over.
    let settings = StoreSettings { seal_days: 0, ..StoreSettings::new(dir) };
    Store::open(settings)
        .and_then(|store| store.seal_days(Timestamp::MAX))
        .context("seal the days")?;
    // Opened anew, so that nothing is in its caches and the logs are folded in.
    let store = Arc::new(Store::open(StoreSettings::new(dir)).context("open the store again")?);
    let used = store.disk_usage().context("measure the store")?;
    let rows = county.settings().sightings;
    Ok(StoreFigures {
        rows,
        import_per_s,
        ingest_per_s,
        asked_meanwhile_per_s,
        answers: questions::ask(&mut Asking::of(&store, county.cameras())?, &asked)?,
        bytes_per_sighting: used.sightings as f64 / rows as f64,
    })
}

struct Filled {
    import_per_s: f64,
    ingest_per_s: f64,
    asked_meanwhile_per_s: f64,
    asked: Vec<Asked>,
}

/// The sightings of a county: those of days that are over, then those of the last day (UTC).
pub(super) struct Parts<'a> {
    county: &'a County,
    sightings: Box<dyn Iterator<Item = Sighting> + 'a>,
    picker: Picker,
    /// Of the last day, met among the others.
    early: Vec<Sighting>,
    last_day: i32,
}

impl<'a> Parts<'a> {
    pub(super) fn of(county: &'a County) -> Self {
        let settings = county.settings();
        let days = Duration::from_secs(u64::from(settings.days) * 86_400);
        Self {
            county,
            sightings: Box::new(county.passages().map(|passage| passage.sighting)),
            picker: Picker::of(settings.sightings),
            early: Vec::new(),
            last_day: settings.start.plus(days).minus(Duration::from_secs(1)).utc_day(),
        }
    }

    fn next(&mut self) -> Option<Sighting> {
        let sighting = self.sightings.next()?;
        self.picker.look(&sighting);
        Some(sighting)
    }

    /// The next sightings of days that are over; empty when there are no more.
    pub(super) fn over(&mut self) -> Vec<Sighting> {
        let mut chunk = Vec::with_capacity(BULK_CHUNK);
        // Around midnight they are not in order.
        while chunk.len() < BULK_CHUNK && self.early.len() < BULK_CHUNK {
            let Some(sighting) = self.next() else { break };
            if sighting.id.started().utc_day() < self.last_day {
                chunk.push(sighting);
            } else {
                self.early.push(sighting);
            }
        }
        chunk
    }

    /// The next sightings of the last day, after all others; empty when there are no more.
    pub(super) fn live(&mut self) -> Vec<Sighting> {
        let early = self.early.len().min(CHUNK);
        let mut chunk: Vec<_> = self.early.drain(..early).collect();
        while chunk.len() < CHUNK
            && let Some(sighting) = self.next()
        {
            chunk.push(sighting);
        }
        chunk
    }

    /// What to ask about so far.
    pub(super) fn asked(self) -> Vec<Asked> {
        self.picker.asked()
    }

    pub(super) fn cameras(&self) -> &'a [Camera] {
        self.county.cameras()
    }
}

/// Stores the county's sightings as they would come: a history, then a day while people ask.
fn fill(county: &County, dir: &Path) -> Result<Filled> {
    let store = Arc::new(Store::open(StoreSettings::new(dir)).context("open the store")?);
    // What a trajectory is told by.
    surroundings::keep(county, &store)?;
    let mut parts = Parts::of(county);
    let (mut took, mut rows) = (Duration::ZERO, 0);
    let mut bulk = store.begin_bulk(Timestamp::MAX);
    loop {
        let chunk = parts.over();
        if chunk.is_empty() {
            break;
        }
        let begun = Instant::now();
        bulk.push(&chunk).context("take in sightings")?;
        took += begun.elapsed();
        rows += chunk.len();
    }
    let begun = Instant::now();
    bulk.commit().context("take in sightings")?;
    let import_per_s = per_s(rows, took + begun.elapsed());

    let intake = intake_of(&store)?;
    if parts.early.is_empty() {
        bail!("the last day has no sightings: give more --rows or fewer --days");
    }
    let asked_now = {
        let first: Vec<_> = parts.early.iter().take(questions::COUNT).cloned().collect();
        let mut picker = Picker::of(first.len() as u64);
        first.iter().for_each(|sighting| picker.look(sighting));
        picker.asked()
    };
    let cameras = parts.cameras();
    let (count, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let ingest_per_s = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_until(&ended, &count, &store, cameras, &asked_now));
        let ingested = ingest(&mut parts, &intake);
        ended.store(true, Ordering::SeqCst);
        match asking.join() {
            Ok(asking) => asking.and(ingested),
            Err(_) => bail!("the thread that asks has panicked"),
        }
    })?;
    let (ingest_per_s, took) = ingest_per_s;
    let asked_meanwhile_per_s = count.load(Ordering::SeqCst) as f64 / took.as_secs_f64().max(1e-9);
    Ok(Filled { import_per_s, ingest_per_s, asked_meanwhile_per_s, asked: parts.asked() })
}

fn intake_of(store: &Arc<Store>) -> Result<Intake> {
    Ok(Intake::new(IntakeParts {
        store: store.clone(),
        alerts: store.clone(),
        watchbook: Arc::new(WatchBook::load(store.clone()).context("read the watch-list")?),
        patrols: Arc::new(PatrolBook::load(store.clone()).context("read the patrol units")?),
        clock: Arc::new(SystemClock),
        repeat_within: Duration::from_secs(30),
        live_queue: 1,
    })?)
}

fn ingest(parts: &mut Parts<'_>, intake: &Intake) -> Result<(f64, Duration)> {
    let (mut took, mut rows) = (Duration::ZERO, 0);
    let whole = Instant::now();
    loop {
        let chunk = parts.live();
        if chunk.is_empty() {
            return Ok((per_s(rows, took), whole.elapsed()));
        }
        rows += chunk.len();
        let mut records: Vec<_> = chunk
            .into_iter()
            .map(|sighting| Recorded {
                sighting: Arc::new(sighting),
                pictures: Vec::new(),
                alerts: Vec::new(),
            })
            .collect();
        let begun = Instant::now();
        intake.take_in(&mut records).context("store sightings")?;
        took += begun.elapsed();
    }
}

/// Asks one question after the other, of every kind in turn.
fn ask_until(
    ended: &AtomicBool,
    count: &AtomicU64,
    store: &Arc<Store>,
    cameras: &[Camera],
    asked: &[Asked],
) -> Result<()> {
    let mut asking = Asking::of(store, cameras)?;
    for asked in asked.iter().cycle() {
        if ended.load(Ordering::SeqCst) {
            break;
        }
        asking.trajectory(asked)?;
        asking.wildcard(asked)?;
        asking.area(asked)?;
        asking.fuzzy(asked)?;
        count.fetch_add(4, Ordering::SeqCst);
    }
    Ok(())
}

pub(super) fn per_s(rows: usize, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64().max(1e-9)
}

struct Asking<'a> {
    store: Arc<Store>,
    cameras: &'a [Camera],
    answers: guiji_api::Answers,
}

impl<'a> Asking<'a> {
    fn of(store: &Arc<Store>, cameras: &'a [Camera]) -> Result<Self> {
        let answers = answers::over(store, cameras, Arc::new(intake_of(store)?))?;
        Ok(Self { store: store.clone(), cameras, answers })
    }
}

impl Asking<'_> {
    fn way(&self, asked: &Asked, exact_only: bool) -> Result<(usize, Duration)> {
        timed(|| {
            let plate = asked.plate.to_string();
            let request = pb::GetTrajectoryRequest { plate, exact_only, ..Default::default() };
            let (way, _) = self.answers.get_trajectory(&request)?;
            Ok(way.points.len())
        })
    }
}

fn timed(ask: impl FnOnce() -> Result<usize>) -> Result<(usize, Duration)> {
    let begun = Instant::now();
    let found = ask()?;
    Ok((found, begun.elapsed()))
}

impl Answers for Asking<'_> {
    fn trajectory_rows(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        timed(|| {
            let plate = Some(PlatePattern::parse(asked.plate.as_str())?);
            let query = SightingQuery { plate, ..SightingQuery::all_in(TimeSpan::ALL, POINTS_MAX) };
            Ok(self.store.search(&query)?.sightings.len())
        })
    }

    fn trajectory(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        self.way(asked, true)
    }

    fn trajectory_misreads(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        self.way(asked, false)
    }

    fn wildcard(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        timed(|| {
            let page = self.store.search(&SightingQuery {
                plate: Some(PlatePattern::parse(&asked.pattern())?),
                order: SortOrder::NewestFirst,
                ..SightingQuery::all_in(TimeSpan::ALL, PAGE)
            })?;
            Ok(page.sightings.len())
        })
    }

    fn area(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        timed(|| {
            let (cameras, span) = asked.area(self.cameras)?;
            let cameras = Some(cameras);
            let query = SightingQuery { cameras, ..SightingQuery::all_in(span, PAGE) };
            Ok(self.store.search(&query)?.sightings.len())
        })
    }

    fn fuzzy(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        timed(|| {
            let filter =
                pb::SightingFilter { plate_pattern: asked.plate.to_string(), ..Default::default() };
            let request = pb::SearchLikelyRequest {
                filter: Some(filter),
                page_size: i32::try_from(LIKELY)?,
                ..Default::default()
            };
            let (answer, _) = self.answers.search_likely(&request)?;
            Ok(answer.results.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_store_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = StoreArguments {
            rows: 5_000,
            days: 2,
            seed: 1,
            dir: folder.path().join("store"),
            baseline: None,
            json: true,
        };
        let StoreFigures { import_per_s, ingest_per_s, answers, bytes_per_sighting, .. } =
            bench(&arguments).unwrap().store;
        assert!(import_per_s > 100.0 && ingest_per_s > 100.0, "{import_per_s} {ingest_per_s}");
        assert!((50.0..5_000.0).contains(&bytes_per_sighting), "{bytes_per_sighting}");
        let AnswerFigures { trajectory_p99_ms, wildcard_p99_ms, area_p99_ms, fuzzy_p99_ms, .. } =
            answers;
        let rows_p99_ms = answers.trajectory_rows_p99_ms;
        for ms in [rows_p99_ms, trajectory_p99_ms, wildcard_p99_ms, area_p99_ms, fuzzy_p99_ms] {
            assert!(ms > 0.0, "{answers:?}");
        }
        assert!(run(&arguments).unwrap_err().to_string().contains("not empty"));
    }

    #[test]
    fn a_county_is_parted_into_days_that_are_over_and_the_last_one() {
        let county = County::new(CountySettings {
            seed: 1,
            sightings: 5_000,
            days: 2,
            error_rate: 0.01,
            start: super::super::START,
        })
        .unwrap();
        let mut parts = Parts::of(&county);
        let all = |next: &mut dyn FnMut() -> Vec<Sighting>| {
            let chunks = std::iter::from_fn(|| Some(next()).filter(|chunk| !chunk.is_empty()));
            chunks.flatten().collect::<Vec<_>>()
        };
        let over = all(&mut || parts.over());
        let live = all(&mut || parts.live());
        assert_eq!(over.len() + live.len(), 5_000);
        let day = |sighting: &Sighting| sighting.id.started().utc_day();
        let (first, last) = (over.iter().map(day).max(), live.iter().map(day).min());
        assert!(first < Some(parts.last_day) && first.is_some(), "{first:?}");
        assert!(last >= Some(parts.last_day), "{last:?}, {}", parts.last_day);
        assert!(parts.asked().len() > questions::COUNT / 2);
    }
}
