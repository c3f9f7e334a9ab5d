//! The `score` command: answers of a server, as `guiji query --json` prints them, against the truth.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use guiji_domain::Timestamp;
use guiji_scenes::{Score, Seen, score, score_rings};
use serde::Deserialize;

#[derive(Args)]
pub(crate) struct ScoreArgs {
    /// The folder of a story that was served
    #[arg(long)]
    dir: PathBuf,
    /// Final sightings, one JSON object a line
    #[arg(long)]
    sightings: PathBuf,
    /// Alerts for `--vehicle`, one JSON object a line
    #[arg(long)]
    alerts: Option<PathBuf>,
    /// The vehicle of the story that was watched for
    #[arg(long, default_value = "suspect")]
    vehicle: String,
    /// Fail below this share of passages found
    #[arg(long, default_value_t = 0.0)]
    recall_min: f64,
    /// Fail below this share of plates read whole, of the passages found
    #[arg(long, default_value_t = 0.0)]
    plates_min: f64,
}

/// What is read of a sighting or an alert in the JSON form of `guiji.v1`.
#[derive(Deserialize)]
struct Line {
    camera: String,
    capture: Capture,
    plate: Option<PlateField>,
}

#[derive(Deserialize)]
struct Capture {
    time: String,
    /// Seconds as proto3's JSON has them: `0.050s`.
    uncertainty: Option<String>,
}

/// A sighting holds a message, an alert the text.
#[derive(Deserialize)]
#[serde(untagged)]
enum PlateField {
    Text(String),
    Message { text: String },
}

fn read(file: &Path) -> Result<Vec<Seen>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    text.lines()
        .enumerate()
        .map(|(i, line)| {
            seen(line).with_context(|| format!("understand {} line {}", file.display(), i + 1))
        })
        .collect()
}

fn seen(line: &str) -> Result<Seen> {
    let Line { camera, capture, plate } = serde_json::from_str(line)?;
    let time: jiff::Timestamp = capture.time.parse()?;
    let seconds = capture.uncertainty.as_deref().map_or("0", |it| it.trim_end_matches('s'));
    Ok(Seen {
        camera: camera.trim_start_matches("cameras/").to_owned(),
        at: Timestamp::from_nanos(i64::try_from(time.as_nanosecond())?),
        uncertainty: Duration::try_from_secs_f64(seconds.parse()?)?,
        plate: plate.map(|plate| match plate {
            PlateField::Text(text) | PlateField::Message { text } => text,
        }),
    })
}

/// Prints the score; exit code 1 when it is below what was asked for or an alert was false.
pub(crate) fn run(args: &ScoreArgs) -> Result<ExitCode> {
    let score = score(&args.dir, &read(&args.sightings)?)?;
    println!("{score}");
    for failure in &score.failures {
        println!("  {failure}");
    }
    for extra in &score.extra {
        println!("  extra: {extra}");
    }
    let mut passed = good_enough(&score, args);
    if let Some(alerts) = &args.alerts {
        let rings = score_rings(&args.dir, &args.vehicle, &read(alerts)?)?;
        println!(
            "alerts: {} of {} passages of the {} rang, {} false",
            rings.rung,
            rings.passages,
            args.vehicle,
            rings.false_rings.len()
        );
        for ring in &rings.false_rings {
            println!("  false: {ring}");
        }
        passed &= rings.rung > 0 && rings.false_rings.is_empty();
    }
    println!("{}", if passed { "PASSED" } else { "BELOW WHAT WAS ASKED FOR" });
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn good_enough(score: &Score, args: &ScoreArgs) -> bool {
    let all = score.all();
    all.recall() >= args.recall_min && all.plate_accuracy() >= args.plates_min
}
