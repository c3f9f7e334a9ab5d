//! `guiji bench capacity`: how many live cameras one core bears.
//!
//! Three processes: `guiji-scenes load` plays clips in loops as many RTSP cameras on one core, `guiji run` watches them
//! on another, and this one follows the alerts and knows the truth. docs/capacity.md says what the figures mean.

mod clips;
mod matching;
mod plan;
mod plot;
mod reference;
mod report;
mod search;
mod trial;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use clips::Clip;
use plan::Planned;
use report::Figures;
use trial::Bench;

/// Arguments of `guiji bench capacity`.
#[derive(Debug, Args)]
pub(super) struct CapacityArguments {
    /// Which of our clips: those in which no vehicle is in view for this share of the time; 0.5, 0.8 or 0.95. Clips of
    /// your own are held against it: a share that differs is said.
    #[arg(long, value_name = "SHARE")]
    idle: Option<f64>,
    /// Only clips at constant quality (vbr) or at constant rate (cbr); otherwise both, one after the other.
    #[arg(long, value_parser = ["vbr", "cbr"], conflicts_with = "clip")]
    rate: Option<String>,
    /// A clip of your own, with its truth in a JSON file of the same name beside it; may be given again.
    #[arg(long, value_name = "FILE")]
    clip: Vec<PathBuf>,
    /// So many streams; without it, the largest number that holds is searched for.
    #[arg(long, value_name = "N")]
    streams: Option<usize>,
    /// Search up to so many.
    #[arg(long, value_name = "N", default_value_t = 128)]
    most: usize,
    /// Length of a trial's window. A search makes it longer where too few vehicles pass.
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u32,
    /// The cameras' decode policy.
    #[arg(long, value_name = "NAME", default_value = "motion")]
    policy: String,
    /// The engine's core, counted from 0; streams are served from another. The last by default.
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,
    /// Where clips and answers of `full` are kept.
    #[arg(long, value_name = "FOLDER", default_value = ".guiji/capacity")]
    dir: PathBuf,
    /// Draw the trials into an SVG file; with several rates, one a rate (NAME-vbr.svg).
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The class that capacity is promised for.
const IDLE: f64 = 0.95;
/// So far a clip's idle share may lie from the one asked for.
const IDLE_SLACK: f64 = 0.1;

/// What is printed. On top stand the figures of the rate that fares worst.
#[derive(Debug, Serialize)]
struct Report {
    /// The largest number of streams that held; of a given number, that number if it held, 0 if not.
    streams_per_core: usize,
    policy: String,
    #[serde(flatten)]
    figures: Figures,
    /// What counties of cameras need by these figures.
    plan: Planned,
    by_rate: BTreeMap<String, Load>,
}

/// One kind of clips.
#[derive(Debug, Serialize)]
struct Load {
    streams_per_core: usize,
    /// The server of the streams was what gave out first: the core bears at least so many.
    limited_by_server: bool,
    clips: usize,
    /// Of the largest load that held, else of the smallest that did not.
    figures: Figures,
    trials: Vec<Figures>,
}

/// Runs the command; exit code 1 when not even one stream, or not the given number, is borne.
pub(super) fn run(arguments: &CapacityArguments) -> Result<ExitCode> {
    if arguments.streams == Some(0) || arguments.most == 0 || arguments.seconds < 5 {
        bail!("give at least one stream and 5 seconds");
    }
    let scene_tool = crate::demo::sibling("guiji-scenes")?;
    let (engine_core, scene_core) = cores(arguments.core)?;
    let mut by_rate: BTreeMap<String, Vec<Clip>> = BTreeMap::new();
    for clip in find_clips(arguments, &scene_tool)? {
        by_rate.entry(clip.rate.clone()).or_default().push(clip);
    }
    let mut loads = BTreeMap::new();
    for (rate, clips) in by_rate {
        let full = clips
            .iter()
            .map(|clip| reference::full(clip, &arguments.dir))
            .collect::<Result<_>>()?;
        let bench = Bench {
            decode: reference::decode_cost(&scene_tool, &clips, engine_core)?,
            clips,
            full,
            policy: arguments.policy.clone(),
            seconds: arguments.seconds,
            stretch: arguments.streams.is_none(),
            scene_tool: scene_tool.clone(),
            dir: arguments.dir.clone(),
            engine_core,
            scene_core,
        };
        let load = measure(arguments, &bench, &rate)?;
        if let Some(file) = &arguments.plot {
            let file = if arguments.clip.is_empty() { beside(file, &rate) } else { file.clone() };
            let title = format!("{rate}, policy {}", arguments.policy);
            fs::write(&file, plot::svg(&title, &load.trials))
                .with_context(|| format!("write {}", file.display()))?;
        }
        loads.insert(rate, load);
    }
    let worst = loads.values().min_by_key(|load| load.streams_per_core).context("no clips")?;
    let report = Report {
        streams_per_core: worst.streams_per_core,
        policy: arguments.policy.clone(),
        figures: worst.figures.clone(),
        plan: plan::planned(worst.streams_per_core, worst.figures.rss_mb_per_stream),
        by_rate: loads,
    };
    print(&report, arguments.json)?;
    Ok(ExitCode::from(u8::from(report.streams_per_core == 0)))
}

fn measure(arguments: &CapacityArguments, bench: &Bench, rate: &str) -> Result<Load> {
    let mut trials: Vec<Figures> = Vec::new();
    let mut holds = |streams: usize| -> Result<bool> {
        eprintln!("{rate}: {streams} streams for {} s", bench.seconds);
        let figures = bench.run(streams)?;
        eprint!("{}", figures.table());
        let holds = figures.holds();
        trials.push(figures);
        Ok(holds)
    };
    let streams_per_core = match arguments.streams {
        Some(streams) => usize::from(holds(streams)?) * streams,
        None => search::largest(arguments.most, holds)?,
    };
    let best = trials.iter().filter(|t| t.holds()).max_by_key(|t| t.streams);
    let figures = best
        .or_else(|| trials.iter().min_by_key(|t| t.streams))
        .context("no trial was run")?
        .clone();
    if let Some(idle) = arguments.idle
        && (idle - figures.idle).abs() > IDLE_SLACK
    {
        eprintln!(
            "the truth of these clips has no vehicle in view for {:.0} % of the time, not {:.0} %",
            figures.idle * 100.0,
            idle * 100.0
        );
    }
    // What failed first above what held.
    let above = trials.iter().filter(|t| t.streams > streams_per_core).min_by_key(|t| t.streams);
    let limited_by_server = above.is_some_and(|trial| !trial.server_kept_pace);
    Ok(Load { streams_per_core, limited_by_server, clips: bench.clips.len(), figures, trials })
}

fn print(report: &Report, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    for (rate, load) in &report.by_rate {
        println!(
            "{rate}, {} clips, policy {}: {} streams a core",
            load.clips, report.policy, load.streams_per_core
        );
        if load.limited_by_server {
            println!("  at least: the server of the streams gave out first");
        }
        print!("{}", load.figures.table());
    }
    print!("{}", report.plan.text());
    Ok(())
}

fn find_clips(arguments: &CapacityArguments, scene_tool: &Path) -> Result<Vec<Clip>> {
    if !arguments.clip.is_empty() {
        return arguments.clip.iter().map(|file| clips::own(file)).collect();
    }
    let mut compose = Command::new("nice");
    let idle = arguments.idle.unwrap_or(IDLE).to_string();
    compose.arg(scene_tool).args(["capacity", "--idle", &idle, "--out"]);
    compose.arg(&arguments.dir);
    if let Some(rate) = &arguments.rate {
        compose.args(["--rate", rate]);
    }
    let status = compose.status().context("run guiji-scenes capacity")?;
    if !status.success() {
        bail!("guiji-scenes capacity failed ({status})");
    }
    clips::composed(&arguments.dir)
}

/// The engine's core and another for the streams.
fn cores(wanted: Option<usize>) -> Result<(usize, usize)> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let engine = wanted.unwrap_or(count - 1);
    if engine >= count {
        bail!("--core {engine}: this machine has cores 0 to {}", count - 1);
    }
    if count == 1 {
        eprintln!("one core only: server and streams share it, the figures are too low");
    }
    Ok((engine, if engine == 0 { count - 1 } else { 0 }))
}

/// `plot.svg` and `vbr` make `plot-vbr.svg`.
fn beside(file: &Path, rate: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let ending = file.extension().map_or("svg".into(), |e| e.to_string_lossy().into_owned());
    file.with_file_name(format!("{stem}-{rate}.{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: CapacityArguments,
    }

    #[test]
    fn the_load_may_be_chosen_in_every_way_at_once() {
        use clap::Parser as _;
        let words = ["capacity", "--json", "--idle", "0.95", "--streams", "8", "--seconds", "30"];
        let clips = ["--clip", "a.mp4", "--clip", "b.mp4"];
        let line = Line::try_parse_from(words.iter().chain(&clips)).unwrap();
        let CapacityArguments { idle, streams, seconds, clip, json, .. } = line.arguments;
        assert_eq!((idle, streams, seconds, clip.len(), json), (Some(0.95), Some(8), 30, 2, true));
    }

    #[test]
    fn the_json_has_what_its_readers_count_on() {
        let figures = report::tests::raw().figures();
        let plan = plan::planned(4, figures.rss_mb_per_stream);
        let load = Load {
            streams_per_core: 4,
            limited_by_server: false,
            clips: 2,
            figures: figures.clone(),
            trials: vec![figures.clone()],
        };
        let report = Report {
            streams_per_core: 4,
            policy: "motion".into(),
            figures,
            plan,
            by_rate: [("own".to_owned(), load)].into(),
        };
        let json = serde_json::to_value(&report).unwrap();
        for key in [
            "streams_per_core",
            "passages_found_ratio",
            "plate_exact_ratio",
            "cpu_over_floor",
            "alert_p99_ms",
            "threads",
            "rss_mb_per_stream",
        ] {
            assert!(json[key].is_number(), "{key}: {json:#}");
        }
        assert_eq!(json["plan"]["plans"][1]["cameras"], 8215);
        assert_eq!(json["by_rate"]["own"]["trials"][0]["streams"], 4);
    }
}
