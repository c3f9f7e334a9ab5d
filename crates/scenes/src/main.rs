//! `guiji-scenes`: composes stories, shows samples of them and serves them as RTSP cameras.

mod burden;
mod control;
mod judge;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use guiji_scenes::{Composed, Composer, StorySpec, VehicleModel};
use indicatif::{ProgressBar, ProgressStyle};

#[derive(Parser)]
#[command(
    version,
    about = "Composes traffic scenes with exact ground truth and serves them as RTSP cameras"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a story's clips, their truth and story.json; does nothing when they are up to date
    Compose {
        #[command(flatten)]
        story: StoryArgs,
        /// Folder for the clips
        #[arg(long)]
        out: PathBuf,
        /// Clips made at the same time
        #[arg(long, default_value_t = 2)]
        threads: usize,
    },
    /// Paints sample frames of every camera into one PNG
    ContactSheet {
        #[command(flatten)]
        story: StoryArgs,
        /// The PNG
        #[arg(long)]
        out: PathBuf,
        /// Frames a camera
        #[arg(long, default_value_t = 4)]
        columns: usize,
        /// Width of a frame, pixels
        #[arg(long, default_value_t = 480)]
        tile_width: u32,
    },
    /// Makes the clips of `guiji bench capacity` that are not there yet, and lists them in capacity.json
    Capacity(burden::CapacityArgs),
    /// Plays clips in loops as many live cameras, until its standard input says `quit`
    Load(burden::LoadArgs),
    /// Writes a clip of 160x120 at 5 pictures a second, for serving a thousand sessions
    Small(burden::SmallArgs),
    /// Decodes clips in one thread and prints what it cost, one JSON object a clip
    Decode(burden::DecodeArgs),
    /// Serves a composed story, or any clips, as live RTSP cameras until its standard input says `quit`
    ///
    /// Commands on standard input, one a line: `down ID`, `freeze ID`, `up ID`, `quit`.
    Serve(control::ServeArgs),
    /// Holds what a server saw of a story against its truth
    Score(judge::ScoreArgs),
}

#[derive(Args)]
struct StoryArgs {
    /// `demo`, `plates` (all kinds of plates, for `guiji eval scenes`), or a story's TOML file
    #[arg(long, default_value = "demo")]
    story: String,
    /// The car's photograph: fast-alpr 0.4.0's assets/test_image.png
    #[arg(long, env = "GUIJI_SCENES_PHOTO", default_value_os_t = guiji_scenes::default_photo())]
    photo: PathBuf,
    /// A folder of other vehicle photographs with vehicles.csv, used instead
    #[arg(long)]
    vehicles: Option<PathBuf>,
}

impl StoryArgs {
    fn composer(&self) -> Result<Composer> {
        let spec = match self.story.as_str() {
            "demo" => StorySpec::demo()?,
            "plates" => StorySpec::plates()?,
            file => {
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("read story {file}"))?;
                StorySpec::parse(&text).with_context(|| format!("understand story {file}"))?
            }
        };
        let models = match &self.vehicles {
            Some(folder) => VehicleModel::from_folder(folder)?,
            None => vec![VehicleModel::from_fast_alpr(&self.photo).context(
                "load the car's photograph (the set-up fetches it; --photo says where it is)",
            )?],
        };
        Ok(Composer::new(spec, models)?)
    }
}

fn main() -> Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Compose { story, out, threads } => {
            let composer = story.composer()?;
            let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
                "composing {bar:40} {pos}/{len} frames, {eta} left",
            )?);
            let progress = |done: u64, total: u64| {
                bar.set_length(total);
                bar.set_position(done);
            };
            let composed = composer.compose(&out, threads, &progress)?;
            bar.finish_and_clear();
            match composed {
                Composed::Made => eprintln!("composed into {}", out.display()),
                Composed::UpToDate => eprintln!("{} is up to date", out.display()),
            }
        }
        Command::ContactSheet { story, out, columns, tile_width } => {
            let sheet = story.composer()?.contact_sheet(columns, tile_width)?;
            sheet.save(&out).with_context(|| format!("write {}", out.display()))?;
        }
        Command::Capacity(args) => burden::capacity(&args)?,
        Command::Load(args) => burden::load(&args)?,
        Command::Small(args) => burden::small(&args)?,
        Command::Decode(args) => burden::decode(&args)?,
        Command::Serve(args) => control::serve(&args)?,
        Command::Score(args) => return judge::run(&args),
    }
    Ok(ExitCode::SUCCESS)
}
