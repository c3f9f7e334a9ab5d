//! `guiji bench alerts`: from the import of a watched vehicle to the client that follows the alerts.
//!
//! The server is a process of its own, over a store of its own on disk; this one is an importer and, on another
//! connection, a follower, and kills the server when it is told to. What should have rung is worked out here from the
//! sightings that the server acknowledged.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use guiji_analysis::watch::WatchMatcher;
use guiji_api::client::{AlertsFrom, Client};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb;
use guiji_api::pb::stream_alerts_response::Event;
use guiji_county::{County, CountySettings, Passage};
use guiji_domain::{
    Authority, Clock as _, PlateText, Sighting, SightingId, TimeSpan, Timestamp, TrackId,
    VehicleDescription, WatchEntry, WatchEntryId, WatchTarget,
};
use serde::Serialize;
use tokio::sync::watch;

use crate::child::{self, Process};
use crate::clock::SystemClock;
use crate::demo::sibling;

/// Arguments of `guiji bench alerts`.
#[derive(Debug, Args)]
pub(super) struct AlertsArguments {
    /// How long sightings are imported.
    #[arg(long, value_name = "S", default_value_t = 30)]
    seconds: u32,
    /// Imported sightings a second.
    #[arg(long, value_name = "N", default_value_t = 300)]
    rate: u32,
    /// Entries on the watch-list, plates of the sightings.
    #[arg(long, value_name = "N", default_value_t = 200)]
    entries: usize,
    /// How often the server is killed (SIGKILL) and started again meanwhile.
    #[arg(long, value_name = "N", default_value_t = 0)]
    kills: u32,
    /// Live cameras that the server watches meanwhile: clips of the demo, played without end by another process.
    #[arg(long, value_name = "N", default_value_t = 2)]
    live: usize,
    /// Where the clips of the live cameras are; composed when they are not there yet.
    #[arg(long, value_name = "FOLDER", default_value = ".guiji/demo/scenes")]
    scenes: PathBuf,
    /// A live stream besides; may be given again.
    #[arg(long, value_name = "URL|FILE")]
    camera: Vec<String>,
    /// The seed of the county.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Where store and log are made, and removed afterwards.
    #[arg(long, value_name = "FOLDER", default_value = ".guiji/bench-alerts")]
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct AlertFigures {
    sightings: usize,
    cameras: usize,
    kills: u32,
    /// Alerts that the acknowledged sightings must raise.
    alerts: usize,
    /// From the moment at which a sighting was handed to the connection to that at which its alert was taken from
    /// the other one. Of alerts that a kill came between, the way through it.
    alert_p50_ms: f64,
    alert_p99_ms: f64,
    /// Alerts that never came. Must be 0.
    lost: usize,
    /// Alerts that came more than once: allowed after a kill, and told apart by their names.
    duplicated: usize,
    /// Alerts that no acknowledged sighting raises. Must be 0.
    unfounded: usize,
}

/// Sightings go out so often.
const BEAT: Duration = Duration::from_millis(100);
/// Beats of an import stream: a second, then its acknowledgement is waited for.
const BEATS: usize = 10;
/// How long alerts may be awaited after the last acknowledgement.
const PATIENCE: Duration = Duration::from_secs(30);

/// When each sighting was handed over.
type Sent = Arc<Mutex<HashMap<SightingId, Instant>>>;

/// Runs the command.
pub(super) fn run(arguments: &AlertsArguments) -> Result<ExitCode> {
    super::in_folder(&arguments.dir, arguments.json, || bench(arguments))
}

fn bench(arguments: &AlertsArguments) -> Result<AlertFigures> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(measure(arguments))
}

async fn measure(arguments: &AlertsArguments) -> Result<AlertFigures> {
    let dir = &arguments.dir;
    fs::create_dir_all(dir).with_context(|| format!("make the folder {}", dir.display()))?;
    let [api, rtsp] = child::free_ports()?;
    let config = dir.join("guiji.toml");
    let mut text = child::configuration(api);
    let (_scenes, mut addresses) = live_cameras(arguments, rtsp.port())?;
    addresses.extend(arguments.camera.iter().cloned());
    for (number, address) in addresses.iter().enumerate() {
        text += &format!(
            "\n[[camera]]\nid = \"live-{number}\"\nlat = 29.1\nlon = 121.4\naddress = {address:?}\n"
        );
    }
    fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    let log = dir.join("guiji.log");
    let authority = Authority::new("benchmark of alerts", "BENCH-1", "bench")?;

    let count = (arguments.rate as usize * arguments.seconds as usize).max(1);
    let county = County::new(CountySettings {
        seed: arguments.seed,
        sightings: count as u64,
        days: 1,
        error_rate: 0.01,
        start: super::START,
    })?;
    let mut server = Process::server(&config, &log)?;
    let client = child::connect(api, &authority, &mut server).await?;
    let cameras = county.cameras().iter().map(pb::Camera::from).collect();
    client.import_cameras(cameras).await.context("register the cameras")?;
    let passages: Vec<Passage> = county.passages().collect();
    let entries = watch(&client, &passages, arguments.entries).await?;

    let sent = Sent::default();
    let (done, following) = watch::channel(usize::MAX);
    let follower = tokio::spawn(follow(api, authority.clone(), following));
    let import = Importer { client, sent: sent.clone(), beat: arguments.rate as usize };
    let importer = tokio::spawn(import.run(passages));
    let server = kill_now_and_then(arguments, server, &config, &log).await?;
    let acknowledged = importer.await.context("the importer")??;

    let matcher = WatchMatcher::new(entries);
    let mut due = HashSet::new();
    for sighting in &acknowledged {
        for found in matcher.matches(sighting, None, sighting.captured.at) {
            due.insert(format!("alerts/{}.{}", sighting.id, found.entry.id));
        }
    }
    done.send_replace(due.len());
    let heard = follower.await.context("the follower")??;
    drop(server);
    let counts = (acknowledged.len(), addresses.len());
    figures(arguments, counts, &due, &heard, &sent)
}

/// A stream as `guiji-scenes load` takes it.
#[derive(Serialize)]
struct Stream {
    id: String,
    file: PathBuf,
    phase_ms: u64,
}

/// Starts the process that plays the live cameras, if there are any; their addresses.
fn live_cameras(arguments: &AlertsArguments, port: u16) -> Result<(Option<Process>, Vec<String>)> {
    if arguments.live == 0 {
        return Ok((None, Vec::new()));
    }
    let scene_tool = sibling("guiji-scenes")?;
    let composed = Command::new(&scene_tool)
        .args(["compose", "--story", "demo", "--out"])
        .arg(&arguments.scenes)
        .stdout(std::io::stderr())
        .status()
        .context("run guiji-scenes compose")?;
    if !composed.success() {
        bail!("guiji-scenes compose failed ({composed})");
    }
    let clips = arguments.scenes.join("clips");
    let mut files: Vec<PathBuf> = fs::read_dir(&clips)
        .with_context(|| format!("look into {}", clips.display()))?
        .map(|entry| fs::canonicalize(entry?.path()))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("look into {}", clips.display()))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "mp4"));
    files.sort_unstable();
    let streams: Vec<_> = (files.iter().cycle().take(arguments.live).enumerate())
        .map(|(i, file)| Stream { id: format!("live-{i}"), file: file.clone(), phase_ms: 0 })
        .collect();
    let (plan, told) = (arguments.dir.join("streams.json"), arguments.dir.join("times.json"));
    fs::write(&plan, serde_json::to_vec(&streams)?)
        .with_context(|| format!("write {}", plan.display()))?;
    let scenes = Process::start(
        "guiji-scenes load",
        Command::new(&scene_tool)
            .args(["load", "--port", &port.to_string(), "--streams"])
            .arg(&plan)
            .arg("--times")
            .arg(&told),
        &arguments.dir.join("scenes.log"),
    )?;
    let address = |stream: &Stream| format!("rtsp://127.0.0.1:{port}/{}", stream.id);
    Ok((Some(scenes), streams.iter().map(address).collect()))
}

/// Puts plates of the passages on the watch-list.
async fn watch(client: &Client, passages: &[Passage], count: usize) -> Result<Vec<WatchEntry>> {
    let mut plates: Vec<&PlateText> =
        passages.iter().filter_map(|passage| passage.sighting.plate_text()).collect();
    plates.sort_unstable();
    plates.dedup();
    let step = (plates.len() / count.max(1)).max(1);
    let now = SystemClock.now();
    let mut entries = Vec::new();
    for (number, plate) in plates.into_iter().step_by(step).take(count).enumerate() {
        let entry = WatchEntry {
            id: WatchEntryId::new(&format!("w{number}"))?,
            target: WatchTarget::Plate(plate.clone()),
            case_number: "BENCH-1".into(),
            reason: "benchmark".into(),
            owner: "bench".into(),
            created: now,
            expires: now.plus(Duration::from_secs(86_400)),
            threshold: WatchEntry::THRESHOLD_DEFAULT,
            cameras: Vec::new(),
            area: None,
            vehicle: VehicleDescription::default(),
            hours: None,
            approval: None,
        };
        let message = pb::WatchlistEntry {
            target: Some(pb::watchlist_entry::Target::Plate(plate.as_str().to_owned())),
            reason: entry.reason.clone(),
            expire_time: Some(timestamp_to_pb(entry.expires)),
            ..Default::default()
        };
        client.create_watchlist_entry(entry.id.as_str(), message).await?;
        entries.push(entry);
    }
    Ok(entries)
}

struct Importer {
    client: Client,
    sent: Sent,
    /// Sightings a second.
    beat: usize,
}

impl Importer {
    /// Imports at the asked pace, a stream a second; what was not acknowledged goes again until it is.
    async fn run(self, passages: Vec<Passage>) -> Result<Vec<Sighting>> {
        let mut acknowledged = Vec::with_capacity(passages.len());
        let mut ticks = tokio::time::interval(BEAT);
        let mut number = 0;
        for second in passages.chunks(self.beat.max(1)) {
            let mut stream = self.client.import_sightings();
            let mut sightings = Vec::with_capacity(second.len());
            for beat in second.chunks(second.len().div_ceil(BEATS)) {
                ticks.tick().await;
                let now = SystemClock.now();
                let fresh: Vec<Sighting> = beat
                    .iter()
                    .map(|passage| {
                        number += 1;
                        seen_now(&passage.sighting, number, now)
                    })
                    .collect::<Result<_>>()?;
                self.note(&fresh);
                // A stream that broke says so at its end.
                stream.send(fresh.iter().map(pb::Sighting::from).collect()).await;
                sightings.extend(fresh);
            }
            let mut answer = stream.finish().await;
            let begun = Instant::now();
            while answer.is_err() && begun.elapsed() < PATIENCE {
                tokio::time::sleep(BEAT).await;
                let mut again = self.client.import_sightings();
                again.send(sightings.iter().map(pb::Sighting::from).collect()).await;
                answer = again.finish().await;
            }
            let answer = answer.context("import sightings")?;
            if answer.refused_count > 0 {
                bail!("the server refused {} sightings", answer.refused_count);
            }
            acknowledged.extend(sightings);
        }
        Ok(acknowledged)
    }

    fn note(&self, sightings: &[Sighting]) {
        let now = Instant::now();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.extend(sightings.iter().map(|sighting| (sighting.id, now)));
    }
}

/// The sighting as if the vehicle had just passed.
fn seen_now(sighting: &Sighting, number: u64, now: Timestamp) -> Result<Sighting> {
    let started = now.minus(Duration::from_secs(2));
    let mut seen = sighting.clone();
    seen.id = SightingId::for_track(&seen.camera, TrackId(number), started);
    seen.span = TimeSpan::new(started, now)?;
    seen.captured.at = now;
    Ok(seen)
}

async fn kill_now_and_then(
    arguments: &AlertsArguments,
    mut server: Process,
    config: &Path,
    log: &Path,
) -> Result<Process> {
    let pause = Duration::from_secs(u64::from(arguments.seconds)) / (arguments.kills + 1);
    for _ in 0..arguments.kills {
        tokio::time::sleep(pause).await;
        server.check()?;
        server.kill();
        server = Process::server(config, log)?;
    }
    Ok(server)
}

/// The alerts in the order of their arrival, until there are so many different ones or nobody waits any longer. Comes back with its
/// cursor whenever the server does.
async fn follow(
    api: std::net::SocketAddr,
    authority: Authority,
    mut until: watch::Receiver<usize>,
) -> Result<Vec<(String, Instant)>> {
    let (mut heard, mut cursor) = (Vec::new(), 0);
    let mut names = HashSet::new();
    let mut deadline: Option<Instant> = None;
    loop {
        let Ok(client) = Client::connect(&api.to_string(), &authority).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(mut stream) = client.alerts(AlertsFrom::AfterCursor(cursor), None).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            if until.has_changed().unwrap_or(true) {
                until.mark_unchanged();
                deadline = Some(Instant::now() + PATIENCE);
            }
            let due = *until.borrow();
            if names.len() >= due || deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Ok(heard);
            }
            match tokio::time::timeout(Duration::from_millis(500), stream.next()).await {
                Err(_silence) => {}
                Ok(Ok(Some(message))) => {
                    if let Some(Event::Alert(alert)) = message.event {
                        cursor = alert.cursor;
                        names.insert(alert.name.clone());
                        heard.push((alert.name, Instant::now()));
                    }
                }
                Ok(Ok(None) | Err(_)) => break,
            }
        }
    }
}

fn figures(
    arguments: &AlertsArguments,
    (sightings, cameras): (usize, usize),
    due: &HashSet<String>,
    heard: &[(String, Instant)],
    sent: &Sent,
) -> Result<AlertFigures> {
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    let mut took = HashMap::new();
    for (name, at) in heard.iter().filter(|(name, _)| due.contains(name)) {
        let id = name.trim_start_matches("alerts/").split('.').next().unwrap_or_default();
        let sent = sent.get(&id.parse()?).context("an alert of a sighting that was not sent")?;
        took.entry(name).or_insert_with(|| at.duration_since(*sent));
    }
    let mut times: Vec<_> = took.values().copied().collect();
    times.sort_unstable();
    if times.is_empty() {
        bail!("no sighting rang: give more --seconds, --rate or --entries");
    }
    let known = heard.iter().filter(|(name, _)| due.contains(name)).count();
    Ok(AlertFigures {
        sightings,
        cameras,
        kills: arguments.kills,
        alerts: due.len(),
        alert_p50_ms: super::percentile_ms(&times, 50),
        alert_p99_ms: super::percentile_ms(&times, 99),
        lost: due.len() - took.len(),
        duplicated: known - took.len(),
        unfounded: heard.iter().filter(|(name, _)| !due.contains(name)).count(),
    })
}
