//! `guiji bench`: figures of this machine, from the parts that run in the field.

mod alerts;
mod answers;
mod capacity;
mod postgres;
mod questions;
mod store;
mod tactics;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use guiji_domain::Timestamp;
use serde::Serialize;

/// Arguments of `guiji bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    what: Benched,
}

#[derive(Debug, Subcommand)]
enum Benched {
    /// Fill a store with a simulated county's sightings, then ask it what people ask.
    Store(store::StoreArguments),
    /// Import watched vehicles into a server, and follow its alerts.
    Alerts(alerts::AlertsArguments),
    /// How many live cameras one core bears: streams from another process, truth known.
    Capacity(capacity::CapacityArguments),
    /// What the tactics cost, and how good they are where the truth is known.
    Tactics(tactics::TacticsArguments),
}

/// Local midnight of the first day: 2026-01-05 in China, a Monday.
const START: Timestamp = Timestamp::from_secs(1_767_542_400);

/// Runs the command.
pub(crate) fn run(arguments: BenchArguments) -> Result<ExitCode> {
    match arguments.what {
        Benched::Store(arguments) => store::run(&arguments),
        Benched::Alerts(arguments) => alerts::run(&arguments),
        Benched::Capacity(arguments) => capacity::run(&arguments),
        Benched::Tactics(arguments) => tactics::run(&arguments),
    }
}

/// Measures in a folder of its own, removes it, and prints the figures.
fn in_folder<T: Serialize>(
    folder: &Path,
    one_line: bool,
    measure: impl FnOnce() -> Result<T>,
) -> Result<ExitCode> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: empty it, or choose another --dir", folder.display());
    }
    let figures = measure();
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    let figures = figures?;
    if one_line {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// The time that so many of 100 do not exceed, milliseconds; of times in rising order.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(place).map_or(0.0, Duration::as_secs_f64) * 1e3
}
