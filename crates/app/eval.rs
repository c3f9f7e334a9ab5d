//! `guiji eval`: the product's own perception on labelled photos and clips, and its search, in figures.
//!
//! What each figure means is in `docs/eval.md`.

mod baseline;
mod clip;
mod contact_sheet;
mod figures;
mod labels;
mod output;
mod plates;
mod route;
mod scenes;
mod search;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use guiji_vision::Vision;
use serde::Serialize;

use crate::config::Config;
use crate::models;

/// Arguments of `guiji eval`.
#[derive(Debug, Args)]
pub(crate) struct EvalArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Read a folder of photos with a labels.csv and keep the score.
    Plates(plates::PlatesArguments),
    /// Read the plates of composed clips with exact truth, frame by frame and fused.
    Scenes(scenes::ScenesArguments),
    /// Search a simulated county for plates that were misread.
    Search(search::SearchArguments),
    /// Play a clip through the whole engine and say which vehicles passed.
    Clip(clip::ClipArguments),
}

/// Which models are measured.
#[derive(Debug, Args)]
pub(crate) struct ModelArguments {
    /// The configuration file that names the models; the defaults otherwise.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Id of the plate reader in the models' manifest; the one `guiji run` uses otherwise.
    #[arg(long, value_name = "ID")]
    reader: Option<String>,
    /// Id of the plate detector, likewise.
    #[arg(long, value_name = "ID")]
    plate_detector: Option<String>,
}

impl ModelArguments {
    /// Loads the models, warmed up, for this many threads.
    pub(crate) fn load(&self, workers: usize) -> Result<Vision> {
        let config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::parse("", Path::new("."))?,
        };
        let chosen = models::Chosen {
            plate_detector: self.plate_detector.clone(),
            plate_reader: self.reader.clone(),
        };
        models::load(&config, workers, chosen)
    }
}

/// Runs the command.
pub(crate) fn run(arguments: EvalArguments) -> Result<ExitCode> {
    match arguments.what {
        What::Plates(arguments) => plates::run(&arguments),
        What::Scenes(arguments) => scenes::run(&arguments),
        What::Search(arguments) => search::run(&arguments),
        What::Clip(arguments) => clip::run(&arguments),
    }
}

/// Prints one JSON object on a line of its own.
fn print_json(value: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}
