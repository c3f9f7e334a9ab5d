//! `guiji bench`: figures of this machine, from the parts that run in the field.

mod tactics;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use guiji_analysis::trajectory::Trajectory;
use guiji_county::{County, CountySettings, Passage};
use guiji_domain::{
    Camera, CameraId, PlatePattern, PlateText, Recorded, SightingIntake as _, SightingQuery,
    SightingStore as _, SortOrder, TimeSpan, Timestamp,
};
use guiji_engine::{Intake, IntakeParts, WatchBook};
use guiji_store::{Store, StoreSettings};
use serde::Serialize;

use crate::clock::SystemClock;

/// Arguments of `guiji bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    what: Benched,
}

#[derive(Debug, Subcommand)]
enum Benched {
    /// Fill a store with a simulated county's sightings, then ask it what people ask.
    Store(StoreArguments),
    /// What the tactics cost, and how good they are where the truth is known.
    Tactics(tactics::TacticsArguments),
}

/// Arguments of `guiji bench store`.
#[derive(Debug, Args)]
struct StoreArguments {
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
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was measured. Questions are asked one after the other, on a store just opened.
#[derive(Debug, Serialize)]
struct StoreFigures {
    rows: u64,
    /// Durable sightings a second through the intake, the watch-list empty, [`CHUNK`] a transaction. Making the
    /// sightings is not counted.
    ingest_per_s: f64,
    /// The whole way of a plate that was seen.
    trajectory_p99_ms: f64,
    /// The newest 100 sightings of a plate of which two characters are unknown.
    wildcard_p99_ms: f64,
    /// Up to 1000 sightings within a kilometre in an hour.
    area_p99_ms: f64,
    /// Null: there is no search by probability yet.
    fuzzy_p99_ms: Option<f64>,
    /// Files of the store, indexes included, for each sighting.
    bytes_per_sighting: f64,
}

/// Sightings of a transaction, as an import brings them.
const CHUNK: usize = 1000;
/// Questions of each kind.
const QUESTIONS: usize = 300;
/// As many points as an answer of the API has.
const POINTS_MAX: usize = 1000;
/// Local midnight of the first day: 2026-01-05 in China, a Monday.
const START: Timestamp = Timestamp::from_secs(1_767_542_400);

/// Runs the command.
pub(crate) fn run(arguments: BenchArguments) -> Result<ExitCode> {
    let arguments = match arguments.what {
        Benched::Store(arguments) => arguments,
        Benched::Tactics(arguments) => return tactics::run(&arguments),
    };
    let folder = &arguments.dir;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: empty it, or choose another --dir", folder.display());
    }
    let figures = bench_store(&arguments);
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    let figures = figures?;
    if arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn bench_store(arguments: &StoreArguments) -> Result<StoreFigures> {
    let StoreArguments { rows, days, seed, dir, .. } = arguments;
    let county = County::new(CountySettings {
        seed: *seed,
        sightings: *rows,
        days: *days,
        error_rate: 0.01,
        start: START,
    })?;
    let (took, asked) = fill(&county, dir)?;
    // As days are in the field when they are over.
    let settings = StoreSettings { seal_days: 0, ..StoreSettings::new(dir) };
    Store::open(settings)
        .and_then(|store| store.seal_days(Timestamp::MAX))
        .context("seal the days")?;
    // Opened anew, so that nothing is in its caches and the logs are folded in.
    let store = Store::open(StoreSettings::new(dir)).context("open the store again")?;
    let used = store.disk_usage().context("measure the store")?;
    let cameras = county.cameras();
    Ok(StoreFigures {
        rows: *rows,
        ingest_per_s: *rows as f64 / took.as_secs_f64(),
        trajectory_p99_ms: p99_ms(&asked, |asked| trajectory(&store, cameras, asked))?,
        wildcard_p99_ms: p99_ms(&asked, |asked| wildcard(&store, asked))?,
        area_p99_ms: p99_ms(&asked, |asked| area(&store, cameras, asked))?,
        fuzzy_p99_ms: None,
        bytes_per_sighting: used.sightings as f64 / *rows as f64,
    })
}

/// What a question is about: a read plate, picked from all over the days.
struct Asked {
    plate: PlateText,
    camera: CameraId,
    at: Timestamp,
}

/// Stores the county's sightings; how long that took, and what to ask about.
fn fill(county: &County, dir: &Path) -> Result<(Duration, Vec<Asked>)> {
    let store = Arc::new(Store::open(StoreSettings::new(dir)).context("open the store")?);
    let intake = Intake::new(IntakeParts {
        store: store.clone(),
        alerts: store.clone(),
        watchbook: Arc::new(WatchBook::load(store.clone()).context("read the watch-list")?),
        clock: Arc::new(SystemClock),
        live_queue: 1,
    })?;
    let every = (county.settings().sightings as usize / QUESTIONS).max(1);
    let (mut took, mut asked, mut count) = (Duration::ZERO, Vec::with_capacity(QUESTIONS), 0);
    let mut passages = county.passages();
    loop {
        let chunk: Vec<Passage> = passages.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok((took, asked));
        }
        let mut records = Vec::with_capacity(chunk.len());
        for Passage { sighting, .. } in chunk {
            count += 1;
            if let Some(plate) = sighting.plate_text()
                && count >= (asked.len() + 1) * every
            {
                let (plate, camera) = (plate.clone(), sighting.camera.clone());
                asked.push(Asked { plate, camera, at: sighting.captured.at });
            }
            let sighting = Arc::new(sighting);
            records.push(Recorded { sighting, pictures: Vec::new(), alerts: Vec::new() });
        }
        let begun = Instant::now();
        intake.take_in(&mut records).context("store sightings")?;
        took += begun.elapsed();
    }
}

/// The time that 99 of 100 questions do not exceed, milliseconds.
fn p99_ms(asked: &[Asked], ask: impl Fn(&Asked) -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(asked.len());
    for question in asked {
        let begun = Instant::now();
        ask(question)?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let place = (times.len() * 99).div_ceil(100).saturating_sub(1);
    Ok(times.get(place).map_or(0.0, Duration::as_secs_f64) * 1e3)
}

fn trajectory(store: &Store, cameras: &[Camera], asked: &Asked) -> Result<()> {
    let query = SightingQuery {
        plate: Some(PlatePattern::parse(asked.plate.as_str())?),
        provisional: true,
        ..SightingQuery::all_in(TimeSpan::ALL, POINTS_MAX)
    };
    let page = store.search(&query)?;
    let way = Trajectory::build(&page.sightings, cameras);
    found(!way.points.is_empty(), asked)
}

/// The third and the last character are not known.
fn wildcard(store: &Store, asked: &Asked) -> Result<()> {
    let last = asked.plate.chars().count() - 1;
    let known = |(i, c): (usize, guiji_domain::PlateChar)| {
        if i == 2 || i == last { '?' } else { c.as_char() }
    };
    let pattern: String = asked.plate.chars().enumerate().map(known).collect();
    let page = store.search(&SightingQuery {
        plate: Some(PlatePattern::parse(&pattern)?),
        order: SortOrder::NewestFirst,
        ..SightingQuery::all_in(TimeSpan::ALL, 100)
    })?;
    found(!page.sightings.is_empty(), asked)
}

fn area(store: &Store, cameras: &[Camera], asked: &Asked) -> Result<()> {
    const RADIUS_M: f64 = 1000.0;
    const HALF: Duration = Duration::from_secs(1800);
    let centre = cameras.iter().find(|camera| camera.id == asked.camera);
    let centre = centre.context("a sighting of an unknown camera")?.position;
    let near = cameras.iter().filter(|camera| camera.position.distance_m(&centre) <= RADIUS_M);
    let span = TimeSpan::new(asked.at.minus(HALF), asked.at.plus(HALF))?;
    let page = store.search(&SightingQuery {
        cameras: Some(near.map(|camera| camera.id.clone()).collect()),
        ..SightingQuery::all_in(span, 1000)
    })?;
    found(!page.sightings.is_empty(), asked)
}

/// A figure of a store that does not answer is no figure.
fn found(anything: bool, asked: &Asked) -> Result<()> {
    if anything {
        return Ok(());
    }
    let Asked { plate, camera, at } = asked;
    bail!("the store does not find {plate}, which camera {camera} saw at {at}")
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
            json: true,
        };
        let figures = bench_store(&arguments).unwrap();
        assert!(figures.ingest_per_s > 100.0 && figures.fuzzy_p99_ms.is_none(), "{figures:?}");
        assert!((50.0..5_000.0).contains(&figures.bytes_per_sighting), "{figures:?}");
        for ms in [figures.trajectory_p99_ms, figures.wildcard_p99_ms, figures.area_p99_ms] {
            assert!(ms > 0.0, "{figures:?}");
        }
        let full = BenchArguments { what: Benched::Store(arguments) };
        assert!(run(full).unwrap_err().to_string().contains("not empty"));
    }
}
