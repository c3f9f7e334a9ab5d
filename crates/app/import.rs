//! `guiji import`: recordings from elsewhere, into a running server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use guiji_api::client::Client;
use guiji_api::pb;
use guiji_domain::{Camera, CaptureTime, ClockSource, Sighting, Timestamp};
use guiji_engine::EngineSettings;

use crate::clock::{SystemClock, parse_time};
use crate::config::source_camera;
use crate::eval::ModelArguments;
use crate::query::{Connection, bare, line};
use crate::recording::Player;
use crate::simulate::told;

/// Arguments of `guiji import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    what: Imported,
}

#[derive(Debug, Subcommand)]
enum Imported {
    /// Analyse a clip here, every picture of it, and import what passed in it as sightings of a registered camera.
    ///
    /// All times rest on what you say of the recorder's clock, and every sighting says so. The clip itself stays with
    /// you: pictures are not imported. The same clip imported again, stated alike, is there already.
    Clip(Box<ClipArguments>),
}

#[derive(Debug, Args)]
struct ClipArguments {
    /// The clip: mp4, mkv or ts with H.264 or H.265.
    file: PathBuf,
    /// The id of the camera that recorded it. Register one that is not a stream as closed.
    #[arg(long, value_name = "ID")]
    camera: String,
    /// When the recorder says that the first picture was taken: 2026-11-24T08:00:00+08:00.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    recorded_at: Timestamp,
    /// By how many seconds the recorder's clock was fast; negative when it was slow.
    #[arg(long, value_name = "S", default_value_t = 0.0, allow_negative_numbers = true)]
    clock_offset: f64,
    /// By how many seconds a time may be wrong after that, either way.
    #[arg(long, value_name = "S")]
    clock_error: f64,
    #[command(flatten)]
    models: ModelArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: ImportArguments) -> Result<ExitCode> {
    let ImportArguments { connection, what: Imported::Clip(clip) } = arguments;
    let stated = StatedClock::new(clip.recorded_at, clip.clock_offset, clip.clock_error)?;
    if !clip.file.is_file() {
        bail!("{}: there is no such file: give a recording (mp4, mkv, ts)", clip.file.display());
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(import(connection, *clip, stated))
}

/// What somebody says of a recorder's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
struct StatedClock {
    /// When the first picture was taken, by a right clock.
    start: Timestamp,
    error: Duration,
}

/// A recorder further off than ten years was never set.
const OFFSET_MAX_S: f64 = 10.0 * 366.0 * 86_400.0;
/// A time that may be wrong by more than a day says nothing.
const ERROR_MAX_S: f64 = 86_400.0;

impl StatedClock {
    fn new(recorded_at: Timestamp, offset_s: f64, error_s: f64) -> Result<Self> {
        if !(-OFFSET_MAX_S..=OFFSET_MAX_S).contains(&offset_s) {
            bail!("--clock-offset {offset_s}: give seconds, at most ten years");
        }
        if !(0.0..=ERROR_MAX_S).contains(&error_s) {
            bail!(
                "--clock-error {error_s}: give seconds, 0 to a day: how far a time may be off after --clock-offset"
            );
        }
        let offset = Duration::from_secs_f64(offset_s.abs());
        let start =
            if offset_s < 0.0 { recorded_at.plus(offset) } else { recorded_at.minus(offset) };
        Ok(Self { start, error: Duration::from_secs_f64(error_s) })
    }

    /// A sighting as it is imported: its time rests on what was said, and its pictures stay here.
    fn marked(self, sighting: Sighting) -> Sighting {
        let captured = CaptureTime {
            uncertainty: self.error,
            source: ClockSource::Stated,
            ..sighting.captured
        };
        Sighting { captured, evidence: Vec::new(), ..sighting }
    }
}

async fn import(
    connection: Connection,
    clip: ClipArguments,
    stated: StatedClock,
) -> Result<ExitCode> {
    let client = connection.open().await?;
    let registered = registered(&client, &clip.camera).await?;
    let played = tokio::task::spawn_blocking(move || -> Result<_> {
        let camera = source_camera(&clip.camera, &clip.file.to_string_lossy(), Some(stated.start))?;
        let camera = Camera { bearing_deg: registered.bearing_deg, ..camera };
        let vision = Arc::new(clip.models.load(EngineSettings::default().workers)?);
        Player::new(vision, Arc::new(SystemClock))?.play(camera)
    });
    let sightings = played.await.context("analyse the clip")??;
    let messages: Vec<_> =
        sightings.into_iter().map(|it| pb::Sighting::from(&stated.marked(it))).collect();
    let mut stream = client.import_sightings();
    // When it takes no more, the end says why.
    stream.send(messages).await;
    let answer = stream.finish().await.context("import the sightings")?;
    line(format!(
        "sightings: {} stored, {} there already, {} refused",
        answer.stored_count, answer.present_count, answer.refused_count
    ))?;
    if let Some(refusal) = answer.refusals.first() {
        eprintln!("the first refused: {}", told(refusal));
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

async fn registered(client: &Client, id: &str) -> Result<pb::Camera> {
    let cameras = client.cameras().await?;
    cameras.into_iter().find(|camera| bare(&camera.name) == id).with_context(|| {
        format!(
            "camera {id} is not registered: register the place where the clip was taken first, with `enabled` no \
             (guiji cameras import)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_is_put_back_and_a_slow_one_forward() {
        let at = Timestamp::from_secs(1_795_000_000);
        let clock = |offset| StatedClock::new(at, offset, 2.5).unwrap();
        assert_eq!(clock(90.5).start, at.minus(Duration::from_millis(90_500)));
        assert_eq!(clock(-90.5).start, at.plus(Duration::from_millis(90_500)));
        assert_eq!(clock(0.0), StatedClock { start: at, error: Duration::from_millis(2500) });
    }

    #[test]
    fn clocks_that_say_nothing_are_refused() {
        let refused = |offset, error| {
            StatedClock::new(Timestamp::from_secs(0), offset, error).unwrap_err().to_string()
        };
        assert!(refused(f64::NAN, 1.0).contains("--clock-offset"));
        assert!(refused(1e12, 1.0).contains("ten years"));
        assert!(refused(0.0, -1.0).contains("--clock-error"));
        assert!(refused(0.0, 1e6).contains("a day"));
    }
}
