//! The commands behind `guiji bench capacity`: clips, many streams of them, and what pure decoding costs.

use std::fs::File;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use guiji_scenes::{
    CapacitySet, LoadStream, RateKind, VehicleModel, decode_cost, default_photo, save_times,
    serve_load, small_clip,
};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::control::SystemClock;

#[derive(Args)]
pub(crate) struct CapacityArgs {
    /// Folder for the clips
    #[arg(long)]
    out: PathBuf,
    /// Only the clips of this class: 0.5, 0.8 or 0.95
    #[arg(long)]
    idle: Option<f64>,
    /// Only clips at constant quality (vbr) or constant rate (cbr)
    #[arg(long)]
    rate: Option<String>,
    /// Only the first so many
    #[arg(long)]
    first: Option<usize>,
    /// The car's photograph: fast-alpr 0.4.0's assets/test_image.png
    #[arg(long, env = "GUIJI_SCENES_PHOTO", default_value_os_t = default_photo())]
    photo: PathBuf,
}

/// Makes what is missing.
pub(crate) fn capacity(args: &CapacityArgs) -> Result<()> {
    let rate = match args.rate.as_deref() {
        None => None,
        Some("vbr") => Some(RateKind::Vbr),
        Some("cbr") => Some(RateKind::Cbr),
        Some(other) => bail!("--rate {other}: say vbr or cbr"),
    };
    let mut set = CapacitySet::built_in()?;
    set.retain(args.idle, rate);
    set.clips.truncate(args.first.unwrap_or(usize::MAX));
    if set.clips.is_empty() {
        bail!("there is no such clip: use --idle 0.5, 0.8 or 0.95");
    }
    let models =
        vec![VehicleModel::from_fast_alpr(&args.photo).context(
            "load the car's photograph (the set-up fetches it; --photo says where it is)",
        )?];
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
        "composing {bar:40} {pos}/{len} frames of a clip, {eta} left",
    )?);
    let ready = set.compose(&args.out, &models, &|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    for clip in ready {
        eprintln!(
            "{:<20} idle {:.2}, {:.0} kbit/s, idle delta units {} of a busy group's bits",
            clip.id,
            clip.idle_measured,
            clip.kbit_s,
            clip.idle_delta_share.map_or("?".to_owned(), |share| format!("{:.0} %", share * 100.0))
        );
    }
    Ok(())
}

#[derive(Args)]
pub(crate) struct LoadArgs {
    /// JSON list of streams: id, file, `phase_ms`
    #[arg(long)]
    streams: PathBuf,
    /// Port on 127.0.0.1
    #[arg(long, default_value_t = 8554)]
    port: u16,
    /// Where to write when each stream shows what, once they run: id, `zero_ns`, `length_ns`, frames
    #[arg(long)]
    times: PathBuf,
    /// Where to write how the pace is kept: a JSON object a line and second
    #[arg(long)]
    pace: Option<PathBuf>,
}

/// A thousand clients need more open files than a process may have at first.
fn raise_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Serves until told to quit.
pub(crate) fn load(args: &LoadArgs) -> Result<()> {
    raise_files();
    let text = std::fs::read_to_string(&args.streams)
        .with_context(|| format!("read {}", args.streams.display()))?;
    let streams: Vec<LoadStream> = serde_json::from_str(&text)
        .with_context(|| format!("understand {}", args.streams.display()))?;
    let mut log = match &args.pace {
        Some(file) => {
            Some(File::create(file).with_context(|| format!("write {}", file.display()))?)
        }
        None => None,
    };
    let told = move |pace| {
        let Some(file) = &mut log else { return };
        if let Err(error) = writeln!(file, "{}", json!(pace)) {
            tracing::warn!(%error, "the pace is not written down any more");
            log = None;
        }
    };
    let (server, times) = serve_load(&streams, args.port, Arc::new(SystemClock), told)?;
    save_times(&args.times, &times)?;
    println!("serving {} streams on port {}", times.len(), server.port());
    for line in std::io::stdin().lock().lines() {
        if line.context("read standard input")?.trim() == "quit" {
            return Ok(());
        }
    }
    // No one steers: a service in the background.
    loop {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
}

#[derive(Args)]
pub(crate) struct SmallArgs {
    /// The clip
    #[arg(long)]
    out: PathBuf,
}

/// Writes the small clip.
pub(crate) fn small(args: &SmallArgs) -> Result<()> {
    Ok(small_clip(&args.out)?)
}

#[derive(Args)]
pub(crate) struct DecodeArgs {
    /// The clips
    files: Vec<PathBuf>,
    /// At most so many pictures of each
    #[arg(long, default_value_t = 250)]
    frames: usize,
}

/// Prints a line for each clip.
pub(crate) fn decode(args: &DecodeArgs) -> Result<()> {
    for file in &args.files {
        let cost = decode_cost(file, args.frames)?;
        println!("{}", json!({ "file": file, "cost": cost }));
    }
    Ok(())
}
