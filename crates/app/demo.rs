//! `guiji demo`: a made-up county through the whole system, scored against the truth.
//!
//! Three real processes talk to each other as they would in the field: the scene server plays six cameras by RTSP,
//! `guiji run` watches them, and this process is a client of its API. Only the scene server and the score know the
//! truth.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use guiji_api::client::{AlertsFrom, Client};
use guiji_api::json::to_json;
use guiji_api::pb;
use guiji_domain::{Authority, Clock as _, Timestamp};
use serde::Deserialize;

use crate::child::{self, Process};
use crate::clock::SystemClock;
use crate::run::RunArguments;
use crate::watchlist::TargetArguments;
use crate::{query, run, watchlist};

/// Arguments of `guiji demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Watch this stream or file instead of the made-up county.
    #[arg(long, value_name = "URL|FILE")]
    source: Option<String>,
    /// Where clips, store and evidence go.
    #[arg(long, default_value = ".guiji/demo")]
    dir: PathBuf,
}

/// The right by which the demo asks.
const AUTHORITY: [(&str, &str); 3] =
    [("purpose", "demonstration"), ("case", "DEMO-1"), ("officer", "demo")];

/// How long tracks may take to end after the last frame.
const AFTERMATH: Duration = Duration::from_secs(6);

/// What the demo reads of `story.json`; the truth about passages is not among it.
#[derive(Debug, Deserialize)]
struct Story {
    duration_ms: u64,
    started_ns: Option<i64>,
    cameras: Vec<StoryCamera>,
    vehicles: Vec<StoryVehicle>,
}

#[derive(Debug, Deserialize)]
struct StoryCamera {
    id: String,
    name: String,
    lat: f64,
    lon: f64,
    bearing_deg: f64,
}

#[derive(Debug, Deserialize)]
struct StoryVehicle {
    vehicle: String,
    plate: String,
}

/// Runs the command; exit code 1 when the score is below what the README promises.
pub(crate) fn run(arguments: DemoArguments) -> Result<ExitCode> {
    match arguments.source {
        Some(source) => own_source(&arguments.dir, source),
        None => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("start the runtime")?
            .block_on(county(&arguments.dir)),
    }
}

/// The user's own stream or file: every final sighting is printed, the store is kept for questions.
fn own_source(dir: &Path, source: String) -> Result<ExitCode> {
    fs::create_dir_all(dir).with_context(|| format!("make the folder {}", dir.display()))?;
    let config = dir.join("own.toml");
    let models = std::env::current_dir().context("find the current folder")?.join("models");
    let text = format!(
        "[store]\ndir = \"own\"\n[models]\nmanifest = {:?}\ncache = {:?}\n",
        models.join("manifest.toml"),
        models.join(".cache"),
    );
    fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    let is_file = !source.contains("://");
    eprintln!(
        "watching {}; stop with Ctrl-C",
        if is_file { source.as_str() } else { "the stream" }
    );
    run::run(RunArguments {
        config: Some(config),
        source: vec![source],
        fast: false,
        until_end: is_file,
        print: true,
    })
}

async fn county(dir: &Path) -> Result<ExitCode> {
    let scenes = dir.join("scenes");
    let scene_tool = sibling("guiji-scenes")?;
    headline("composing the clips (once)");
    succeed(Command::new(&scene_tool).args(["compose", "--story", "demo", "--out"]).arg(&scenes))?;

    // A demo begins with an empty store; what an earlier one left would be seen again.
    let store = dir.join("store");
    if store.exists() {
        fs::remove_dir_all(&store).with_context(|| format!("empty {}", store.display()))?;
    }
    let story = load_story(&scenes)?;
    let [rtsp, api] = child::free_ports()?;
    let config = dir.join("guiji.toml");
    fs::write(&config, configuration(&story, rtsp, api))
        .with_context(|| format!("write {}", config.display()))?;

    headline(&format!(
        "starting {} cameras and guiji run --config {}",
        story.cameras.len(),
        config.display()
    ));
    let clients = story.cameras.len().to_string();
    let mut scene_server = Process::start(
        "the scene server",
        Command::new(&scene_tool).args(["serve", "--dir"]).arg(&scenes).args([
            "--port",
            &rtsp.port().to_string(),
            "--start-when-clients",
            &clients,
        ]),
        &dir.join("scenes.log"),
    )?;
    let mut server = Process::server(&config, &dir.join("guiji.log"))?;
    let [purpose, case, officer] = AUTHORITY.map(|(_, value)| value);
    let authority = Authority::new(purpose, case, officer)?;
    let client = child::connect(api, &authority, &mut server).await?;

    let suspect = suspect(&story)?;
    let entry = watchlist::entry(&TargetArguments::plate(suspect), "wanted in the demo".into(), 1)?;
    client.create_watchlist_entry("suspect", entry).await?;
    headline(&format!("watching for {suspect}; sightings as they are stored:"));
    let alerts = follow(&client, &scenes, &mut [&mut scene_server, &mut server]).await?;

    headline(&format!("guiji query trajectory {suspect}"));
    let mut ask = Command::new(std::env::current_exe().context("find this program")?);
    ask.args(["query", "trajectory", suspect, "--server", &api.to_string()]);
    for (name, value) in AUTHORITY {
        ask.args([format!("--{name}"), value.to_owned()]);
    }
    // "Not seen" is exit code 1 and an answer; the score says what it is worth.
    ask.status().context("run guiji query")?;

    let pictures = save_evidence(&client, suspect, &dir.join("evidence")).await?;
    println!("{pictures} evidence pictures of it are in {}", dir.join("evidence").display());

    headline("the score against the scenes' ground truth");
    let sightings = dir.join("sightings.jsonl");
    save_sightings(&client, &sightings).await?;
    let alerts_file = dir.join("alerts.jsonl");
    write_lines(&alerts_file, alerts.iter().map(to_json))?;
    drop(client);
    server.stop();
    scene_server.stop();
    let scored = Command::new(&scene_tool)
        .args(["score", "--dir"])
        .arg(&scenes)
        .arg("--sightings")
        .arg(&sightings)
        .arg("--alerts")
        .arg(&alerts_file)
        .args(["--recall-min", "0.9", "--plates-min", "0.85"])
        .status()
        .context("run guiji-scenes score")?;
    println!("logs, store and clips are in {}", dir.display());
    Ok(if scored.success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn headline(text: &str) {
    println!("\n\x1b[1m== {text}\x1b[0m");
}

/// A program that was built beside this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe().context("find this program")?.with_file_name(name);
    if !path.is_file() {
        bail!("{} is missing: run ./x demo, or cargo build -p {name}", path.display());
    }
    Ok(path)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

fn load_story(scenes: &Path) -> Result<Story> {
    let path = scenes.join("story.json");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))
}

fn suspect(story: &Story) -> Result<&str> {
    let suspect = story.vehicles.iter().find(|vehicle| vehicle.vehicle == "suspect");
    Ok(&suspect.context("the story has no suspect")?.plate)
}

fn configuration(story: &Story, rtsp: SocketAddr, api: SocketAddr) -> String {
    let mut text = child::configuration(api);
    for camera in &story.cameras {
        let StoryCamera { id, name, lat, lon, bearing_deg } = camera;
        text += &format!(
            "\n[[camera]]\nid = \"{id}\"\nname = {name:?}\nlat = {lat}\nlon = {lon}\nbearing_deg = {bearing_deg}\n\
             address = \"rtsp://{rtsp}/{id}\"\n"
        );
    }
    text
}

/// Prints sightings and alerts until the story has been told; returns the alerts.
async fn follow(
    client: &Client,
    scenes: &Path,
    children: &mut [&mut Process],
) -> Result<Vec<pb::Alert>> {
    let mut sightings = client.watch_sightings(pb::WatchSightingsRequest::default()).await?;
    let mut rung = client.alerts(AlertsFrom::Beginning, None).await?;
    let mut alerts = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let begun = Instant::now();
    let mut end: Option<Timestamp> = None;
    println!("{}", query::SIGHTING_HEAD);
    loop {
        tokio::select! {
            message = sightings.next() => match message? {
                Some(message) => show(message),
                None => bail!("the server closed the live stream"),
            },
            message = rung.next() => {
                let Some(message) = message? else { bail!("the server closed the alert stream") };
                if let Some(pb::stream_alerts_response::Event::Alert(alert)) = message.event {
                    println!("\x1b[31m!! {}\x1b[0m", query::alert_text(&alert));
                    alerts.push(alert);
                }
            },
            _ = tick.tick() => {
                children.iter_mut().try_for_each(|child| child.check())?;
                if end.is_none() {
                    end = story_end(scenes)?;
                    if begun.elapsed() > Duration::from_secs(60) && end.is_none() {
                        bail!("the cameras did not connect within a minute: see the logs beside the store");
                    }
                }
                if end.is_some_and(|end| SystemClock.now() > end) {
                    return Ok(alerts);
                }
            }
        }
    }
}

fn story_end(scenes: &Path) -> Result<Option<Timestamp>> {
    let story = load_story(scenes)?;
    let length = Duration::from_millis(story.duration_ms) + AFTERMATH;
    Ok(story.started_ns.map(|started| Timestamp::from_nanos(started).plus(length)))
}

fn show(message: pb::WatchSightingsResponse) {
    match message.event {
        Some(pb::watch_sightings_response::Event::Sighting(sighting))
            if sighting.stage() == pb::SightingStage::Final =>
        {
            println!("{}", query::sighting_row(&sighting));
        }
        Some(pb::watch_sightings_response::Event::Missed(missed)) => {
            println!("({} sightings not shown)", missed.sighting_count);
        }
        _ => {}
    }
}

async fn all_sightings(client: &Client, plate_pattern: &str) -> Result<Vec<pb::Sighting>> {
    let filter =
        Some(pb::SightingFilter { plate_pattern: plate_pattern.to_owned(), ..Default::default() });
    let (mut sightings, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::SearchSightingsRequest {
            filter: filter.clone(),
            order: pb::SortOrder::OldestFirst.into(),
            page_size: 500,
            page_token,
            ..Default::default()
        };
        let page = client.search(request).await?;
        sightings.extend(page.sightings);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(sightings);
        }
    }
}

async fn save_sightings(client: &Client, path: &Path) -> Result<()> {
    let sightings = all_sightings(client, "").await?;
    write_lines(path, sightings.iter().map(to_json))
}

fn write_lines<E: std::error::Error + Send + Sync + 'static>(
    path: &Path,
    lines: impl Iterator<Item = std::result::Result<String, E>>,
) -> Result<()> {
    let file = File::create(path).with_context(|| format!("write {}", path.display()))?;
    let mut file = BufWriter::new(file);
    for line in lines {
        writeln!(file, "{}", line?)?;
    }
    file.flush().with_context(|| format!("write {}", path.display()))
}

async fn save_evidence(client: &Client, plate: &str, dir: &Path) -> Result<usize> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("empty {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("make the folder {}", dir.display()))?;
    let mut count = 0;
    for sighting in all_sightings(client, plate).await? {
        count += query::save_evidence(client, &sighting, dir).await?.len();
    }
    Ok(count)
}
