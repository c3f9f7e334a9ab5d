//! `guiji simulate`: sightings of a made-up county, to a running server, into a store or into files.

pub(crate) mod surroundings;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{ArgGroup, Args, Subcommand};
use guiji_api::client::{Access, Client};
use guiji_api::json::to_json;
use guiji_api::pb;
use guiji_county::{County, CountySettings, Passage};
use guiji_domain::{Authority, Clock as _, Kept, Recorded, SightingStore as _, Timestamp};
use guiji_store::{Store, StoreSettings};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::access::{self, AccessFiles};
use crate::clock::{SystemClock, parse_time};

/// Arguments of `guiji simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    #[command(subcommand)]
    what: Simulated,
}

#[derive(Debug, Subcommand)]
enum Simulated {
    /// A county: 304 sites with 1131 cameras or fewer, up to 300,000 vehicles, and what the cameras see in some days.
    County(CountyArguments),
}

/// Arguments of `guiji simulate county`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").required(true).args(["server", "store", "out"])))]
pub(crate) struct CountyArguments {
    #[command(flatten)]
    size: CountySize,
    /// Import cameras, roads, coverage and sightings into this running server, HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    #[command(flatten)]
    access: AccessFiles,
    /// Put them straight into this store, ten times as fast; no server may have it open. A server whose `store.dir` it is
    /// then answers from it.
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// Write cameras.csv, roads.geojson, coverage.jsonl, sightings.jsonl and truth.jsonl into this folder.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Why the server is told.
    #[arg(long, env = "GUIJI_PURPOSE", default_value = "simulation")]
    purpose: String,
    /// The case that it belongs to.
    #[arg(long = "case", env = "GUIJI_CASE", default_value = "simulation")]
    case_number: String,
    /// Who tells it; with a token, its user does.
    #[arg(long, env = "GUIJI_OFFICER", default_value = "")]
    officer: String,
}

/// Which county: the same values give the same sightings, byte for byte.
#[derive(Debug, Args)]
pub(crate) struct CountySize {
    /// How many sightings.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    sightings: u64,
    /// The seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Over how many days; more days, fewer vehicles.
    #[arg(long, value_name = "D", default_value_t = 7)]
    days: u32,
    /// Share of the read plates that are misread.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    error_rate: f64,
    /// Sites with cameras, 20 to 304: with fewer, more ways lead from one to the next.
    #[arg(long, value_name = "N", default_value_t = guiji_county::SITES)]
    sites: usize,
    /// The first day, YYYY-MM-DD in China. Default: so that the last day was yesterday.
    #[arg(long, value_name = "DATE")]
    start: Option<String>,
}

impl CountySize {
    fn build(&self) -> Result<County> {
        let start = match &self.start {
            Some(date) => parse_time(&format!("{date}T00:00:00+08:00"))
                .with_context(|| format!("--start {date}: give a date like 2026-01-05"))?,
            None => days_ago(SystemClock.now(), self.days),
        };
        let CountySize { sightings, seed, days, error_rate, sites, .. } = *self;
        let settings = CountySettings { seed, sightings, days, error_rate, start };
        Ok(County::with_sites(settings, sites)?)
    }
}

/// Local midnight in China, so many days before today's.
fn days_ago(now: Timestamp, days: u32) -> Timestamp {
    const AHEAD: Duration = Duration::from_secs(8 * 3600);
    let today = i64::from(now.plus(AHEAD).utc_day());
    Timestamp::from_secs((today - i64::from(days)) * 86_400).minus(AHEAD)
}

/// Runs the command.
pub(crate) fn run(arguments: SimulateArguments) -> Result<ExitCode> {
    let Simulated::County(arguments) = arguments.what;
    let county = arguments.size.build()?;
    match (&arguments.server, &arguments.store, &arguments.out) {
        (Some(server), ..) => {
            let CountyArguments { purpose, case_number, officer, .. } = &arguments;
            let access = arguments.access.load()?;
            // Without a token somebody must be named.
            let officer = match officer.as_str() {
                "" if access.token.is_none() => "guiji simulate",
                named => named,
            };
            let authority = access::authority(purpose, case_number, officer, &access)?;
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("start the runtime")?
                .block_on(import(county, server, &authority, &access))
        }
        (_, Some(folder), _) => fill(&county, folder).map(|()| ExitCode::SUCCESS),
        (.., Some(folder)) => write_files(&county, folder).map(|()| ExitCode::SUCCESS),
        (None, None, None) => bail!("give --server, --store or --out"),
    }
}

fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {per_sec} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Sightings of a message: as many as the server takes.
const CHUNK: usize = 1000;
/// Chunks made ahead of the connection.
const CHUNKS_AHEAD: usize = 4;
/// Each stream is acknowledged after this time at the latest, well before the server ends it.
const STREAM_MAX: Duration = Duration::from_secs(5);

async fn import(
    county: County,
    server: &str,
    authority: &Authority,
    access: &Access,
) -> Result<ExitCode> {
    // People paste URLs.
    let address = server.trim_start_matches("http://").trim_start_matches("https://");
    let address = address.trim_end_matches('/');
    let client = Client::connect_with(address, authority, access).await?;
    let cameras = county.cameras().iter().map(pb::Camera::from).collect();
    let answer = client.import_cameras(cameras).await.context("import the cameras")?;
    if let Some(refusal) = answer.refusals.first() {
        bail!("{} of the cameras are refused, the first: {}", answer.refused_count, told(refusal));
    }
    println!(
        "cameras: {} registered, {} there already",
        answer.registered_count, answer.present_count
    );

    let roads = surroundings::roads_geojson(&county).into_bytes();
    let answer = client.import_road_graph(roads).await.context("import the roads")?;
    println!(
        "roads: {} pieces, {:.0} km, {} cameras at them",
        answer.edge_count, answer.length_km, answer.camera_count
    );
    let coverage = surroundings::coverage(&county).iter().map(pb::Coverage::from).collect();
    let answer = client.import_coverage(coverage).await.context("import the coverage")?;
    if let Some(refusal) = answer.refusals.first() {
        bail!("{} intervals are refused, the first: {}", answer.refused_count, told(refusal));
    }
    println!(
        "coverage: {} intervals kept, {} there already",
        answer.stored_count, answer.present_count
    );

    let bar = progress(county.settings().sightings);
    let (chunks, mut made) = mpsc::channel(CHUNKS_AHEAD);
    let making = tokio::task::spawn_blocking(move || {
        let mut passages = county.passages();
        loop {
            let chunk: Vec<_> =
                passages.by_ref().take(CHUNK).map(|p| pb::Sighting::from(&p.sighting)).collect();
            // The receiver is gone when the import failed.
            if chunk.is_empty() || chunks.blocking_send(chunk).is_err() {
                return;
            }
        }
    });
    let (begun, mut total) = (Instant::now(), pb::ImportSightingsResponse::default());
    let mut next = made.recv().await;
    while next.is_some() {
        let (mut stream, until) = (client.import_sightings(), Instant::now() + STREAM_MAX);
        while let Some(chunk) = next.take() {
            let count = chunk.len();
            let taken = stream.send(chunk).await;
            bar.inc(count as u64);
            next = if taken { made.recv().await } else { None };
            if Instant::now() > until {
                break;
            }
        }
        let answer = stream.finish().await.context(
            "import the sightings (the same command goes on: what is stored is not stored again)",
        )?;
        total.stored_count += answer.stored_count;
        total.present_count += answer.present_count;
        total.refused_count += answer.refused_count;
        total.refusals.extend(answer.refusals.into_iter().take(1));
    }
    making.await.context("make the sightings")?;
    bar.finish_and_clear();
    let pb::ImportSightingsResponse { stored_count, present_count, refused_count, .. } = total;
    told_total(stored_count, present_count, refused_count, begun.elapsed());
    if let Some(refusal) = total.refusals.first() {
        println!("the first refused: {}", told(refusal));
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// Sightings that are made before they are stored.
const STORE_CHUNK: usize = 20_000;

fn fill(county: &County, folder: &Path) -> Result<()> {
    let store = Store::open(StoreSettings::new(folder))
        .with_context(|| format!("open the store {}", folder.display()))?;
    surroundings::keep(county, &store)?;
    let bar = progress(county.settings().sightings);
    let begun = Instant::now();
    let mut bulk = store.begin_bulk(SystemClock.now());
    let mut sightings = county.passages().map(|passage| passage.sighting);
    let (mut stored, mut present) = (0, 0);
    loop {
        let chunk: Vec<_> = sightings.by_ref().take(STORE_CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        bar.inc(chunk.len() as u64);
        // A day that is not over comes in as the sightings of today do.
        let (over, live): (Vec<_>, Vec<_>) = chunk.into_iter().partition(|it| bulk.takes(it));
        bulk.push(&over).context("take in sightings")?;
        let mut live = live.into_iter().map(|sighting| Recorded {
            sighting: Arc::new(sighting),
            pictures: Vec::new(),
            alerts: Vec::new(),
        });
        loop {
            let some: Vec<_> = live.by_ref().take(CHUNK).collect();
            if some.is_empty() {
                break;
            }
            let kept = store.record(&some).context("store sightings")?.kept;
            let there = kept.iter().filter(|kept| **kept == Kept::Present).count();
            present += there as u64;
            stored += (kept.len() - there) as u64;
        }
    }
    let report = bulk.commit().context("take in sightings")?;
    bar.finish_and_clear();
    told_total(stored + report.new + report.replaced, present + report.present, 0, begun.elapsed());
    Ok(())
}

fn told_total(stored: u64, present: u64, refused: u64, took: Duration) {
    let per_s = (stored + present + refused) as f64 / took.as_secs_f64();
    println!(
        "sightings: {stored} stored, {present} there already, {refused} refused, in {:.1} s ({per_s:.0} a second)",
        took.as_secs_f64()
    );
}

pub(crate) fn told(refusal: &pb::ImportRefusal) -> String {
    let violations = refusal.violations.iter();
    let why: Vec<_> = violations.map(|v| format!("{}: {}", v.field, v.description)).collect();
    format!("{} ({})", refusal.name, why.join("; "))
}

/// A line of `truth.jsonl`; `docs/import.md` explains it.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum TruthLine<'a> {
    Convoy {
        convoy: usize,
        vehicles: &'a [u32],
        plates: Vec<&'a str>,
        gap_s: f64,
    },
    Clone {
        plate: &'a str,
        original: u32,
        clone: u32,
    },
    Outage {
        camera: &'a str,
        first: String,
        last: String,
    },
    Passage {
        sighting: String,
        vehicle: u32,
        plate: &'a str,
        passed: String,
        misread: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        convoy: Option<u16>,
    },
}

/// RFC 3339, to the nanosecond.
fn written(at: Timestamp) -> Result<String> {
    Ok(jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos()))?.to_string())
}

fn write_files(county: &County, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let create = |name: &str| {
        let path = folder.join(name);
        File::create(&path).map(BufWriter::new).with_context(|| format!("write {}", path.display()))
    };
    write_cameras(county, create("cameras.csv")?).context("write cameras.csv")?;
    fs::write(folder.join("roads.geojson"), surroundings::roads_geojson(county))
        .context("write roads.geojson")?;
    let mut coverage = create("coverage.jsonl")?;
    for interval in surroundings::coverage(county) {
        writeln!(coverage, "{}", to_json(&pb::Coverage::from(&interval))?)?;
    }
    coverage.flush().context("write coverage.jsonl")?;
    let (mut sightings, mut truth) = (create("sightings.jsonl")?, create("truth.jsonl")?);
    write_planted(county, &mut truth).context("write truth.jsonl")?;
    let bar = progress(county.settings().sightings);
    for passage in bar.wrap_iter(county.passages()) {
        writeln!(sightings, "{}", to_json(&pb::Sighting::from(&passage.sighting))?)?;
        write_truth(&passage, &mut truth)?;
    }
    sightings.flush().context("write sightings.jsonl")?;
    truth.flush().context("write truth.jsonl")
}

fn write_cameras(county: &County, to: impl Write) -> Result<()> {
    let mut table = csv::Writer::from_writer(to);
    table.write_record(["id", "site", "name", "latitude_deg", "longitude_deg", "bearing_deg"])?;
    for camera in county.cameras() {
        table.write_record([
            camera.id.as_str(),
            camera.site.as_str(),
            &camera.name,
            &format!("{:.6}", camera.position.lat_deg()),
            &format!("{:.6}", camera.position.lon_deg()),
            &camera.bearing_deg.map_or_else(String::new, |bearing| bearing.to_string()),
        ])?;
    }
    Ok(table.flush()?)
}

fn write_planted(county: &County, truth: &mut impl Write) -> Result<()> {
    for (number, convoy) in county.convoys().iter().enumerate() {
        let plates = convoy.vehicles.iter().map(|id| county.vehicle(*id).plate.as_str());
        write_line(
            truth,
            &TruthLine::Convoy {
                convoy: number,
                vehicles: &convoy.vehicles,
                plates: plates.collect(),
                gap_s: convoy.gap_s,
            },
        )?;
    }
    for clone in county.clones() {
        let (original, clone_) = (clone.original, clone.clone);
        write_line(
            truth,
            &TruthLine::Clone { plate: clone.plate.as_str(), original, clone: clone_ },
        )?;
    }
    for day in 0..county.settings().days {
        for (number, camera) in county.cameras().iter().enumerate() {
            let Some(outage) = county.outage(number, day) else { continue };
            let (first, last) = (written(outage.span.first())?, written(outage.span.last())?);
            write_line(truth, &TruthLine::Outage { camera: camera.id.as_str(), first, last })?;
        }
    }
    Ok(())
}

fn write_truth(passage: &Passage, to: &mut impl Write) -> Result<()> {
    let truth = &passage.truth;
    write_line(
        to,
        &TruthLine::Passage {
            sighting: passage.sighting.id.to_string(),
            vehicle: truth.vehicle,
            plate: truth.plate.as_str(),
            passed: written(truth.passed)?,
            misread: truth.misread,
            convoy: truth.convoy,
        },
    )
}

fn write_line(to: &mut impl Write, line: &TruthLine<'_>) -> Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    Ok(to.write_all(b"\n")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_county_ends_yesterday() {
        let now = parse_time("2026-11-24T01:00:00+08:00").unwrap();
        assert_eq!(days_ago(now, 1), parse_time("2026-11-23T00:00:00+08:00").unwrap());
        assert_eq!(days_ago(now, 7), parse_time("2026-11-17T00:00:00+08:00").unwrap());
    }

    #[test]
    fn files_are_the_same_again_and_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        let settings = CountySettings {
            seed: 3,
            sightings: 2_000,
            days: 1,
            error_rate: 0.05,
            start: parse_time("2026-01-05T00:00:00+08:00").unwrap(),
        };
        let read = |part: &str| {
            let folder = folder.path().join(part);
            write_files(&County::new(settings).unwrap(), &folder).unwrap();
            ["cameras.csv", "sightings.jsonl", "truth.jsonl", "roads.geojson", "coverage.jsonl"]
                .map(|name| fs::read_to_string(folder.join(name)).unwrap())
        };
        let all = read("a");
        assert_eq!(read("b"), all);
        let [cameras, sightings, truth, _, coverage] = all;
        assert!(coverage.lines().count() > guiji_county::CAMERAS, "with outages");
        assert_eq!(cameras.lines().count(), 1 + guiji_county::CAMERAS);
        let lines = |text: &str| -> Vec<serde_json::Value> {
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let (sightings, truth) = (lines(&sightings), lines(&truth));
        let passages: Vec<_> = truth.iter().filter(|line| line["kind"] == "passage").collect();
        assert_eq!((sightings.len(), passages.len()), (2_000, 2_000));
        for (sighting, truth) in sightings.iter().zip(passages) {
            let id = truth["sighting"].as_str().unwrap();
            assert_eq!(sighting["name"], format!("sightings/{id}"));
            let read = &sighting["plate"]["text"];
            assert_eq!(truth["misread"] == true, !read.is_null() && *read != truth["plate"]);
        }
        for kind in ["convoy", "clone", "outage"] {
            assert!(truth.iter().any(|line| line["kind"] == kind), "{kind}");
        }
    }
}
