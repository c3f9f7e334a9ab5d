//! `guiji query watchlist`: plates, patterns and descriptions that are watched for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use guiji_api::client::Client;
use guiji_api::convert::{Word as _, timestamp_to_pb};
use guiji_api::pb;
use guiji_api::pb::watchlist_entry::Target;
use guiji_domain::{Clock as _, Heading, PlatePattern, VehicleClass, VehicleColour, WatchEntryId};
use serde::Deserialize;

use crate::clock::SystemClock;
use crate::query::{bare, found, json_line, line, pb_time};

/// Commands of `guiji query watchlist`.
#[derive(Debug, Subcommand)]
pub(crate) enum WatchlistCommand {
    /// All entries.
    List,
    /// Enter a plate, a pattern or a description.
    Add {
        /// A name for the entry.
        id: String,
        #[command(flatten)]
        target: TargetArguments,
        /// Why it is watched for.
        #[arg(long)]
        reason: String,
        /// Days until the entry ends.
        #[arg(long, default_value_t = 7)]
        days: u32,
    },
    /// Say what an entry would have rung in the past, without entering it.
    Try {
        #[command(flatten)]
        target: TargetArguments,
        /// How many days back.
        #[arg(long, default_value_t = 30)]
        back: u32,
    },
    /// Agree to somebody else's pattern or description: it is in force from then on.
    Approve {
        /// Its name.
        id: String,
    },
    /// Enter many from a CSV file, all that are right.
    ///
    /// Columns, of which `id` and `reason` are required: id, plate (a pattern; empty for any), reason, case_number,
    /// days (7), threshold (0.5), class, colour, heading, hours (22:30-05:00), cameras (separated by blanks).
    Import {
        /// The file; its first line names the columns.
        file: PathBuf,
        /// Only check.
        #[arg(long)]
        check: bool,
    },
    /// Take an entry off.
    Remove {
        /// Its name.
        id: String,
    },
}

/// What rings.
#[derive(Debug, Args)]
pub(crate) struct TargetArguments {
    /// A plate, or a pattern with ? and *; `*` alone for any vehicle that looks as described.
    plate: String,
    /// Ring at this probability of a match.
    #[arg(long)]
    threshold: Option<f32>,
    /// Only this kind of vehicle.
    #[arg(long)]
    class: Option<VehicleClass>,
    /// Only this body colour.
    #[arg(long)]
    colour: Option<VehicleColour>,
    /// Only when it moves so through the picture.
    #[arg(long)]
    heading: Option<Heading>,
    /// Only at these hours of the day in China.
    #[arg(long, value_name = "HH:MM-HH:MM")]
    hours: Option<String>,
    /// Only at this camera; may be given again.
    #[arg(long)]
    camera: Vec<String>,
}

impl TargetArguments {
    /// A plate alone.
    pub(crate) fn plate(plate: &str) -> Self {
        Self {
            plate: plate.to_owned(),
            threshold: None,
            class: None,
            colour: None,
            heading: None,
            hours: None,
            camera: Vec::new(),
        }
    }
}

/// Most entries of a call.
const BATCH: usize = 1000;

/// Runs a command.
pub(crate) async fn run(
    client: &Client,
    json: bool,
    command: WatchlistCommand,
) -> Result<ExitCode> {
    let name = |id: &str| format!("watchlistEntries/{id}");
    match command {
        WatchlistCommand::List => {
            let entries = client.watchlist().await?;
            entries.iter().try_for_each(|entry| show(json, entry))?;
            return Ok(found(!entries.is_empty()));
        }
        WatchlistCommand::Add { id, target, reason, days } => {
            let entry = entry(&target, reason, days)?;
            show(json, &client.create_watchlist_entry(&id, entry).await?)?;
        }
        WatchlistCommand::Try { target, back } => {
            let entry = entry(&target, "dry run".into(), 1)?;
            let start = SystemClock.now().minus(Duration::from_secs(u64::from(back) * 86_400));
            let answer = client.dry_run_watchlist_entry(entry, timestamp_to_pb(start)).await?;
            if json { json_line(&answer)? } else { show_rings(&answer)? }
        }
        WatchlistCommand::Approve { id } => {
            show(json, &client.approve_watchlist_entry(&name(&id)).await?)?;
        }
        WatchlistCommand::Import { file, check } => return import(client, &file, check).await,
        WatchlistCommand::Remove { id } => client.delete_watchlist_entry(&name(&id)).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(json: bool, entry: &pb::WatchlistEntry) -> Result<()> {
    if json { json_line(entry) } else { line(entry_text(entry)) }
}

fn show_rings(answer: &pb::DryRunWatchlistEntryResponse) -> Result<()> {
    let since = answer.examined_start_time.as_ref().map(pb_time).unwrap_or_default();
    line(format!(
        "would have rung {} times since {since}, about {:.0} of them truly ({} sightings looked at)",
        answer.ring_count, answer.expected_true_count, answer.examined_count
    ))?;
    if answer.truncated {
        line("there are more sightings further back than a call looks at")?;
    }
    answer.examples.iter().try_for_each(|ring| {
        let at = ring.capture_time.as_ref().map(pb_time).unwrap_or_default();
        let plate = if ring.plate.is_empty() { "-" } else { &ring.plate };
        line(format!(
            "{at}  {:<12}  {plate:<10}  {:.2}  {}",
            bare(&ring.camera),
            ring.probability,
            bare(&ring.sighting)
        ))
    })
}

/// A watch-list entry as the server takes it; owner and case come from the caller's authority.
pub(crate) fn entry(
    target: &TargetArguments,
    reason: String,
    days: u32,
) -> Result<pb::WatchlistEntry> {
    let expires = SystemClock.now().plus(Duration::from_secs(u64::from(days) * 86_400));
    let vehicle = pb::VehicleDescription {
        class: target.class.map_or(0, |class| class.to_pb()),
        colour: target.colour.map_or(0, |colour| colour.to_pb()),
        heading: target.heading.map_or(0, |heading| heading.to_pb()),
    };
    Ok(pb::WatchlistEntry {
        target: Some(target_of(&target.plate)?),
        reason,
        expire_time: Some(timestamp_to_pb(expires)),
        threshold: target.threshold,
        cameras: target.camera.iter().map(|id| format!("cameras/{id}")).collect(),
        vehicle: (vehicle != pb::VehicleDescription::default()).then_some(vehicle),
        hours: target.hours.as_deref().map(hours).transpose()?,
        ..Default::default()
    })
}

fn target_of(plate: &str) -> Result<Target> {
    if plate.is_empty() || plate == "*" {
        return Ok(Target::AnyPlate(pb::AnyPlate {}));
    }
    let pattern = PlatePattern::parse(plate)?;
    Ok(match pattern.exact() {
        Some(plate) => Target::Plate(plate.to_string()),
        None => Target::PlatePattern(pattern.to_string()),
    })
}

/// `22:30-05:00`.
pub(crate) fn hours(text: &str) -> Result<pb::DailyHours> {
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (i32, i32) = (hour.parse().ok()?, minute.parse().ok()?);
        ((0..=24).contains(&hour) && (0..60).contains(&minute)).then_some(hour * 60 + minute)
    };
    let parts = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    let (start_minute, end_minute) =
        parts.ok_or_else(|| anyhow!("hours {text:?}: use HH:MM-HH:MM, such as 22:30-05:00"))?;
    Ok(pb::DailyHours { start_minute, end_minute })
}

/// A line of the CSV file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Row {
    id: String,
    plate: String,
    reason: String,
    case_number: String,
    days: Option<u32>,
    threshold: Option<f32>,
    class: String,
    colour: String,
    heading: String,
    hours: String,
    cameras: String,
}

impl Row {
    fn entry(self) -> Result<pb::WatchlistEntry> {
        fn word<T: std::str::FromStr<Err = guiji_domain::InvalidValue>>(
            text: &str,
        ) -> Result<Option<T>> {
            Ok((!text.is_empty()).then(|| text.parse()).transpose()?)
        }
        let id = WatchEntryId::new(&self.id)?;
        if self.reason.trim().is_empty() {
            bail!("reason is empty: say why it is watched for");
        }
        let target = TargetArguments {
            plate: self.plate,
            threshold: self.threshold,
            class: word(&self.class)?,
            colour: word(&self.colour)?,
            heading: word(&self.heading)?,
            hours: (!self.hours.is_empty()).then_some(self.hours),
            camera: self.cameras.split_whitespace().map(str::to_owned).collect(),
        };
        Ok(pb::WatchlistEntry {
            name: format!("watchlistEntries/{id}"),
            case_number: self.case_number,
            ..entry(&target, self.reason, self.days.unwrap_or(7))?
        })
    }
}

/// An entry and the line of the file that it stands in.
type Numbered = (u64, pb::WatchlistEntry);

/// The entries of a CSV text, and what is wrong with the others.
fn parse(text: &[u8]) -> Result<(Vec<Numbered>, Vec<String>)> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let columns = reader.headers().context("line 1: cannot be read as CSV")?.clone();
    for required in ["id", "reason"] {
        if !columns.iter().any(|column| column.trim_start_matches('\u{feff}') == required) {
            bail!("line 1: the column {required} is missing: the first line names the columns");
        }
    }
    // Spreadsheets put a mark before the first name.
    let columns: csv::StringRecord =
        columns.iter().map(|column| column.trim_start_matches('\u{feff}')).collect();
    let (mut entries, mut wrong) = (Vec::new(), Vec::new());
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => return Ok((entries, wrong)),
            Ok(true) => {
                let line = record.position().map_or(0, csv::Position::line);
                let row = record.deserialize(Some(&columns));
                let row = row.map_err(|error| explain(error, &columns));
                match row.and_then(Row::entry) {
                    Ok(entry) => entries.push((line, entry)),
                    Err(error) => wrong.push(format!("line {line}: {error}")),
                }
            }
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                wrong.push(format!("line {line}: {}", explain(error, &columns)));
            }
        }
    }
}

/// What csv says, without its own way of naming places.
fn explain(error: csv::Error, columns: &csv::StringRecord) -> anyhow::Error {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => {
            let column = err.field().and_then(|field| columns.get(usize::try_from(field).ok()?));
            anyhow!("{}: {}", column.unwrap_or("a field"), err.kind())
        }
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            anyhow!("has {len} fields, the first line names {expected_len}")
        }
        _ => error.into(),
    }
}

async fn import(client: &Client, file: &Path, check: bool) -> Result<ExitCode> {
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let (entries, mut wrong) = parse(&text).with_context(|| file.display().to_string())?;
    let (mut entered, mut present) = (0, 0);
    for batch in entries.chunks(BATCH) {
        let messages = batch.iter().map(|(_, entry)| entry.clone()).collect();
        let answer = client.import_watchlist_entries(messages, check).await?;
        entered += answer.entered_count;
        present += answer.present_count;
        for refusal in answer.refusals {
            let place = usize::try_from(refusal.index).ok().and_then(|index| batch.get(index));
            let line = place.map_or(0, |(line, _)| *line);
            wrong.extend(
                refusal
                    .violations
                    .iter()
                    .map(|v| format!("line {line}: {}: {}", v.field, v.description)),
            );
        }
    }
    let verb = if check { "would be entered" } else { "entered" };
    line(format!("{entered} {verb}, {present} there already, {} errors", wrong.len()))?;
    wrong.iter().for_each(|error| eprintln!("{}: {error}", file.display()));
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn entry_text(entry: &pb::WatchlistEntry) -> String {
    let target = match &entry.target {
        Some(Target::Plate(text) | Target::PlatePattern(text)) => text,
        Some(Target::AnyPlate(_)) => "any plate",
        None => "",
    };
    let vehicle = entry.vehicle.as_ref().map_or_else(String::new, |vehicle| {
        let words = [
            vehicle.colour().as_str_name().strip_prefix("VEHICLE_COLOUR_"),
            vehicle.class().as_str_name().strip_prefix("VEHICLE_CLASS_"),
            vehicle.heading().as_str_name().strip_prefix("HEADING_"),
        ];
        let said = words.into_iter().flatten().filter(|word| *word != "UNSPECIFIED");
        said.fold(String::new(), |text, word| text + " " + &word.to_lowercase())
    });
    let hours = entry.hours.as_ref().map_or_else(String::new, |hours| {
        let clock = |minute: i32| format!("{:02}:{:02}", minute / 60, minute % 60);
        format!("  {}-{}", clock(hours.start_minute), clock(hours.end_minute))
    });
    let expires = entry.expire_time.as_ref().map(pb_time).unwrap_or_default();
    let state = match entry.state() {
        pb::WatchlistEntryState::AwaitingApproval => "  (waits for approval)",
        pb::WatchlistEntryState::Expired => "  (expired)",
        _ => "",
    };
    format!(
        "{}  {target}{vehicle}{hours}  until {expires}  case {}  {}{state}",
        bare(&entry.name),
        entry.case_number,
        entry.reason
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_entries_and_errors_with_lines() {
        let text = "\u{feff}id,plate,reason,days,class,colour,hours,cameras\n\
            w1,浙J12345,stolen,7,,,,\n\
            w2,浙J?12*,\"hit,\nand run\",,,,22:30-05:00,k1 k2\n\
            w3,,van,3,truck,white,,\n\
            -,浙J12345,stolen,7,,,,\n\
            w5,浙J12345,,7,,,,\n\
            w6,浙J12345,x,seven,,,,\n\
            w7,浙J12345,x,7,,,25:00-26:00,\n\
            w8,浙J12345,x,7,lorry,,,\n\
            w9,浙J12345\n";
        let (entries, wrong) = parse(text.as_bytes()).unwrap();
        let lines: Vec<_> =
            entries.iter().map(|(line, entry)| (*line, entry.name.as_str())).collect();
        assert_eq!(
            lines,
            [(2, "watchlistEntries/w1"), (3, "watchlistEntries/w2"), (5, "watchlistEntries/w3")]
        );
        let pattern = &entries[1].1;
        assert_eq!(pattern.target, Some(Target::PlatePattern("浙J?12*".into())));
        assert_eq!(pattern.hours, Some(pb::DailyHours { start_minute: 1350, end_minute: 300 }));
        assert_eq!(pattern.cameras, ["cameras/k1", "cameras/k2"]);
        let described = &entries[2].1;
        assert_eq!(described.target, Some(Target::AnyPlate(pb::AnyPlate {})));
        assert_eq!(described.vehicle.unwrap().class(), pb::VehicleClass::Truck);
        for (number, (place, hint)) in [
            ("line 6: ", "entry id"),
            ("line 7: ", "reason is empty"),
            ("line 8: ", "days"),
            ("line 9: ", "HH:MM-HH:MM"),
            ("line 10: ", "truck"),
            ("line 11: ", "has 2 fields"),
        ]
        .into_iter()
        .enumerate()
        {
            let error = &wrong[number];
            assert!(error.starts_with(place) && error.contains(hint), "{place}{hint}: {error}");
        }
        assert_eq!(wrong.len(), 6);
        let error = parse(b"id,plate\n").unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("reason"), "{error}");
    }
}
