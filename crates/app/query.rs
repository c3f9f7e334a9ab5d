//! `guiji query`: questions to a running server, answered as tables for people or as JSON for programs.
//!
//! `--json` prints the messages of `proto/guiji/v1` in the canonical JSON form of protocol buffers: one object for a
//! single answer, one a line for lists and streams.

mod coverage;
mod export;
mod likely;
mod trajectory;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use guiji_api::client::{AlertsFrom, Client};
use guiji_api::convert::{Word, timestamp_from_pb, timestamp_to_pb};
use guiji_api::json::{JsonMessage, to_json};
use guiji_api::pb;
use guiji_domain::{
    AlertStage, Clock as _, EvidenceKind, Heading, PlatePattern, PlateState, Sighting,
    SightingStage, VehicleClass, VehicleColour,
};

use crate::access::{self, AccessFiles};
use crate::clock::{SystemClock, local_time, parse_time_or_ago};
use crate::watchlist::{self, WatchlistCommand};

/// Arguments of `guiji query`.
#[derive(Debug, Args)]
pub(crate) struct QueryArguments {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    question: Question,
}

/// Where to ask, and by what right. Every data request carries purpose and case; the officer is the token's user
/// where there is a token.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The server, HOST:PORT.
    #[arg(long, env = "GUIJI_SERVER", default_value = "127.0.0.1:7654", global = true)]
    server: String,
    #[command(flatten)]
    access: AccessFiles,
    /// Why the question is asked.
    #[arg(long, env = "GUIJI_PURPOSE", default_value = "", global = true)]
    purpose: String,
    /// The case it belongs to.
    #[arg(long = "case", env = "GUIJI_CASE", default_value = "", global = true)]
    case_number: String,
    /// Who asks.
    #[arg(long, env = "GUIJI_OFFICER", default_value = "", global = true)]
    officer: String,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When a part of the authority is missing or nobody answers.
    pub(crate) async fn open(&self) -> Result<Client> {
        let access = self.access.load()?;
        let authority = access::authority(&self.purpose, &self.case_number, &self.officer, &access)
            .context("say by what right you ask: --purpose, --case and, without a token, --officer (or GUIJI_PURPOSE, GUIJI_CASE, GUIJI_OFFICER)")?;
        Ok(Client::connect_with(&self.server, &authority, &access).await?)
    }
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Sightings by plate pattern, time, camera, class and colour.
    Search(Search),
    /// Where a vehicle went.
    Trajectory(trajectory::Asked),
    /// Say what the plate of a sighting is; what was read stays.
    Correct {
        /// The sighting, as an answer named it.
        sighting: String,
        /// The whole plate, like 浙J12345.
        plate: String,
        /// How that is known.
        #[arg(long)]
        reason: String,
    },
    /// What rang.
    Alerts {
        /// Only alerts after this cursor of an earlier answer.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Keep waiting for new ones.
        #[arg(long)]
        follow: bool,
    },
    /// New sightings as they are recorded.
    Live,
    /// The cameras and how they are.
    Cameras,
    /// What a camera could see, and when.
    Coverage(coverage::Asked),
    /// The pictures of a sighting, written to files.
    Evidence {
        /// The sighting, as an answer named it.
        sighting: String,
        /// The folder to write to.
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
    /// The watch-list.
    #[command(subcommand)]
    Watchlist(WatchlistCommand),
    #[command(flatten)]
    Tactic(crate::tactics::Tactic),
}

#[derive(Debug, Args)]
pub(crate) struct Window {
    /// From this time: RFC 3339, or before now: 15m, 2h, 7d.
    #[arg(long)]
    from: Option<String>,
    /// To this time.
    #[arg(long)]
    to: Option<String>,
}

#[derive(Debug, Args)]
struct Search {
    /// Plate or pattern: `?` is any one character, `*` any number, `[8B]` one of those.
    plate: Option<PlatePattern>,
    #[command(flatten)]
    window: Window,
    /// Only this camera; may be given again.
    #[arg(long)]
    camera: Vec<String>,
    /// Only this class; may be given again.
    #[arg(long)]
    class: Vec<VehicleClass>,
    /// Only this body colour; may be given again.
    #[arg(long)]
    colour: Vec<VehicleColour>,
    /// Within a circle: LAT,LON,METRES.
    #[arg(long, value_name = "LAT,LON,METRES")]
    near: Option<String>,
    /// Only at these hours of every day in China: 14:00-15:00.
    #[arg(long, value_name = "FROM-TO")]
    hours: Option<String>,
    /// Which end comes first.
    #[arg(long, value_enum, default_value_t = Order::Newest)]
    first: Order,
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    likely: likely::Likely,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Newest,
    Oldest,
}

/// Runs the command.
pub(crate) fn run(arguments: QueryArguments) -> Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(ask(arguments))
}

async fn ask(arguments: QueryArguments) -> Result<ExitCode> {
    let client = arguments.connection.open().await?;
    let json = arguments.json;
    match arguments.question {
        Question::Search(search) => search.run(&client, json).await,
        Question::Trajectory(asked) => asked.run(&client, json).await,
        Question::Correct { sighting, plate, reason } => {
            correct(&client, json, &sighting, &plate, &reason).await
        }
        Question::Alerts { after, follow } => alerts(&client, json, after, follow).await,
        Question::Live => live(&client, json).await,
        Question::Cameras => crate::cameras::list(&client, json).await,
        Question::Coverage(asked) => asked.run(&client, json).await,
        Question::Evidence { sighting, out } => evidence(&client, json, &sighting, &out).await,
        Question::Watchlist(command) => watchlist::run(&client, json, command).await,
        Question::Tactic(tactic) => crate::tactics::run(&client, json, tactic).await,
    }
}

/// Prints a line; a closed pipe ends the program quietly.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

pub(crate) fn json_line<M: JsonMessage>(message: &M) -> Result<()> {
    line(to_json(message)?)
}

/// 0 when there was something, 1 when not, as `grep` does.
pub(crate) fn found(any: bool) -> ExitCode {
    if any { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

impl Window {
    /// Both ends as messages have them.
    pub(crate) fn ends_pb(&self) -> Result<[Option<pb::Timestamp>; 2]> {
        Ok(self.ends()?.map(|end| end.map(timestamp_to_pb)))
    }

    fn ends(&self) -> Result<[Option<guiji_domain::Timestamp>; 2]> {
        let now = SystemClock.now();
        let end =
            |text: &Option<String>| text.as_deref().map(|t| parse_time_or_ago(t, now)).transpose();
        Ok([end(&self.from)?, end(&self.to)?])
    }
}

impl Search {
    fn filter(&self) -> Result<pb::SightingFilter> {
        let [start, end] = self.window.ends()?;
        Ok(pb::SightingFilter {
            plate_pattern: self.plate.as_ref().map(ToString::to_string).unwrap_or_default(),
            start_time: start.map(timestamp_to_pb),
            end_time: end.map(timestamp_to_pb),
            area: self.near.as_deref().map(circle).transpose()?,
            cameras: self.camera.iter().map(|id| format!("cameras/{id}")).collect(),
            classes: self.class.iter().map(|word| word.to_pb()).collect(),
            colours: self.colour.iter().map(|word| word.to_pb()).collect(),
            include_provisional: false,
            hours: self.hours.as_deref().map(watchlist::hours).transpose()?,
        })
    }

    async fn run(&self, client: &Client, json: bool) -> Result<ExitCode> {
        let filter = self.filter()?;
        if self.likely.is_asked() {
            return self.likely.run(client, json, filter, self.limit).await;
        }
        let order = match self.first {
            Order::Newest => pb::SortOrder::NewestFirst,
            Order::Oldest => pb::SortOrder::OldestFirst,
        };
        let (mut page_token, mut count) = (String::new(), 0);
        if !json {
            line(SIGHTING_HEAD)?;
        }
        while count < self.limit {
            let request = pb::SearchSightingsRequest {
                filter: Some(filter.clone()),
                order: order.into(),
                page_size: i32::try_from((self.limit - count).min(500)).unwrap_or(500),
                page_token,
                ..Default::default()
            };
            let page = client.search(request).await?;
            count += page.sightings.len();
            for sighting in &page.sightings {
                if json { json_line(sighting)? } else { line(sighting_row(sighting))? }
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(found(count > 0))
    }
}

pub(crate) fn circle(text: &str) -> Result<pb::Area> {
    let parts: Vec<f64> = text
        .split(',')
        .map(|part| {
            part.trim().parse().with_context(|| format!("--near {text:?}: {part:?} is no number"))
        })
        .collect::<Result<_>>()?;
    let [latitude_deg, longitude_deg, radius_m] = parts[..] else {
        bail!("--near {text:?}: give LAT,LON,METRES");
    };
    let centre = Some(pb::GeoPoint { latitude_deg, longitude_deg });
    Ok(pb::Area { shape: Some(pb::area::Shape::Circle(pb::Circle { centre, radius_m })) })
}

async fn correct(
    client: &Client,
    json: bool,
    sighting: &str,
    plate: &str,
    reason: &str,
) -> Result<ExitCode> {
    let name = sighting_name(sighting);
    let answer = client.correct_sighting(&name, plate, reason).await?;
    let sighting = answer.sighting.context("the server's answer has no sighting")?;
    if json {
        json_line(&sighting)?;
        return Ok(ExitCode::SUCCESS);
    }
    line(sighting_row(&sighting))?;
    for correction in &sighting.corrections {
        let time = correction.time.as_ref().map(pb_time).unwrap_or_default();
        let pb::Correction { plate, officer, case_number, reason, .. } = correction;
        line(format_args!("  {plate}  says {officer}, {time}, case {case_number}: {reason}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// People paste either form.
fn sighting_name(sighting: &str) -> String {
    if sighting.contains('/') { sighting.to_owned() } else { format!("sightings/{sighting}") }
}

/// The words of an enum's name: `LEG_REMARK_IMPOSSIBLE` is "impossible".
pub(crate) fn words(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}

pub(crate) fn seconds(duration: Option<&pb::Duration>) -> String {
    let total = duration.map_or(0.0, |d| d.seconds as f64 + f64::from(d.nanos) / 1e9);
    match total {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

async fn alerts(client: &Client, json: bool, after: u64, follow: bool) -> Result<ExitCode> {
    let mut any = false;
    let mut show = |alert: &pb::Alert| {
        any = true;
        if json { json_line(alert) } else { line(alert_text(alert)) }
    };
    if follow {
        let mut stream = client.alerts(AlertsFrom::AfterCursor(after), None).await?;
        while let Some(message) = stream.next().await? {
            if let Some(pb::stream_alerts_response::Event::Alert(alert)) = message.event {
                show(&alert)?;
            }
        }
    } else {
        let mut after = after;
        loop {
            let page = client.list_alerts(after, 500).await?;
            let Some(last) = page.last() else { break };
            after = last.cursor;
            page.iter().try_for_each(&mut show)?;
        }
    }
    Ok(found(any))
}

/// One line about an alert.
pub(crate) fn alert_text(alert: &pb::Alert) -> String {
    let target = match &alert.target {
        Some(
            pb::alert::Target::TargetPlate(text) | pb::alert::Target::TargetPlatePattern(text),
        ) => text,
        Some(pb::alert::Target::TargetAnyPlate(_)) => "any plate",
        None => "",
    };
    let stage = word::<AlertStage>(alert.stage);
    format!(
        "#{:<5} {stage:<11} {}  {}  read {} for {target}  {:.1} %  case {}",
        alert.cursor,
        capture_time(alert.capture.as_ref()),
        bare(&alert.camera),
        alert.plate,
        alert.probability * 100.0,
        alert.case_number,
    )
}

async fn live(client: &Client, json: bool) -> Result<ExitCode> {
    let mut stream = client.watch_sightings(pb::WatchSightingsRequest::default()).await?;
    while let Some(message) = stream.next().await? {
        match message.event {
            Some(pb::watch_sightings_response::Event::Sighting(sighting)) => {
                if json {
                    json_line(&sighting)?
                } else {
                    line(sighting_row(&sighting))?
                }
            }
            Some(pb::watch_sightings_response::Event::Missed(missed)) => {
                eprintln!(
                    "too slow: {} sightings were passed over; search finds them",
                    missed.sighting_count
                );
            }
            Some(pb::watch_sightings_response::Event::Opened(_)) | None => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn evidence(client: &Client, json: bool, sighting: &str, out: &Path) -> Result<ExitCode> {
    let sighting = client.sighting(&sighting_name(sighting)).await?;
    std::fs::create_dir_all(out).with_context(|| format!("make the folder {}", out.display()))?;
    let saved = save_evidence(client, &sighting, out).await?;
    for (path, evidence) in &saved {
        if json {
            json_line(evidence)?;
        } else {
            line(format_args!("{}  sha256 {}", path.display(), evidence.sha256))?;
        }
    }
    Ok(found(!saved.is_empty()))
}

/// Writes the pictures of a sighting into a folder; which file holds what.
pub(crate) async fn save_evidence(
    client: &Client,
    sighting: &pb::Sighting,
    dir: &Path,
) -> Result<Vec<(PathBuf, pb::Evidence)>> {
    let mut saved = Vec::with_capacity(sighting.evidence.len());
    for evidence in &sighting.evidence {
        let picture = client.evidence(&evidence.name).await?;
        let kind = word::<EvidenceKind>(evidence.kind);
        let extension =
            evidence.media_type.rsplit('/').next().unwrap_or("bin").replace("jpeg", "jpg");
        let name =
            format!("{}-{}-{kind}.{extension}", bare(&sighting.camera), bare(&sighting.name));
        let path = dir.join(name);
        std::fs::write(&path, &picture.bytes)
            .with_context(|| format!("write {}", path.display()))?;
        saved.push((path, evidence.clone()));
    }
    Ok(saved)
}

/// The head of a table of [`sighting_row`]s.
pub(crate) const SIGHTING_HEAD: &str = "time                            ±        camera        plate      conf.   vehicle         heading      sighting";

/// One line about a sighting.
pub(crate) fn sighting_row(sighting: &pb::Sighting) -> String {
    let plate = match (&sighting.plate, pb::PlateState::try_from(sighting.plate_state)) {
        (Some(plate), _) => format!("{:<9} {:>5.1} %", plate.text, plate.confidence * 100.0),
        (None, Ok(pb::PlateState::Unreadable)) => format!("{:<17}", "(unreadable)"),
        (None, _) => format!("{:<17}", "(no plate)"),
    };
    let vehicle = sighting.vehicle.as_ref().map_or_else(String::new, |vehicle| {
        format!("{} {}", word::<VehicleColour>(vehicle.colour), word::<VehicleClass>(vehicle.class))
    });
    let heading =
        sighting.direction.as_ref().map_or_else(String::new, |d| word::<Heading>(d.heading));
    let uncertainty = sighting.capture.as_ref().and_then(|capture| capture.uncertainty.as_ref());
    format!(
        "{}  ±{:<7} {:<12}  {plate}  {vehicle:<14}  {heading:<11}  {}",
        capture_time(sighting.capture.as_ref()),
        seconds(uncertainty),
        bare(&sighting.camera),
        bare(&sighting.name),
    )
}

/// One line about a sighting of this process.
pub(crate) fn print_sighting(sighting: &Sighting) {
    let plate = match &sighting.plate {
        PlateState::Read(plate) => format!("{:<9} {:>5.1} %", plate.text, plate.confidence * 100.0),
        PlateState::Unreadable => "(unreadable)".into(),
        PlateState::NotRead => "(no plate)".into(),
    };
    let colour = sighting.vehicle.colour.map_or("", |(colour, _)| colour.as_str());
    let class = sighting.vehicle.class.map_or("", |(class, _)| class.as_str());
    debug_assert_eq!(sighting.stage, SightingStage::Final);
    let time = local_time(sighting.captured.at);
    // Printing is a courtesy here; a closed pipe must not end a server.
    drop(line(format_args!("{time}  {}  {plate:<17}  {colour} {class}", sighting.camera)));
}

/// The last part of a resource name.
pub(crate) fn bare(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn capture_time(capture: Option<&pb::CaptureTime>) -> String {
    capture.and_then(|capture| capture.time.as_ref()).map(pb_time).unwrap_or_default()
}

/// A time as people read it, in this machine's zone.
pub(crate) fn pb_time(time: &pb::Timestamp) -> String {
    timestamp_from_pb(time).map(local_time).unwrap_or_default()
}

/// The word of an enum's number; empty for "not said".
pub(crate) fn word<W: Word + std::fmt::Display>(number: i32) -> String {
    W::from_pb(number).ok().flatten().map(|word| word.to_string()).unwrap_or_default()
}
