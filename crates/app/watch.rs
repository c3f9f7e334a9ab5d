//! `guiji watch`: a live table of the cameras of a running server.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use guiji_api::convert::timestamp_from_pb;
use guiji_api::pb;
use guiji_domain::{CameraState, Clock as _, StatusReason, Timestamp};

use crate::clock::SystemClock;
use crate::query::{Connection, bare, word};

/// Arguments of `guiji watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArguments {
    #[command(flatten)]
    connection: Connection,
    /// Show the table once and end.
    #[arg(long)]
    once: bool,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 1.0)]
    every: f64,
}

/// Runs the command until it is interrupted; exit code 1 with `--once` when a camera is blind.
pub(crate) fn run(arguments: WatchArguments) -> Result<ExitCode> {
    let every = Duration::try_from_secs_f64(arguments.every.clamp(0.1, 3600.0))
        .unwrap_or(Duration::from_secs(1));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(async {
            let client = arguments.connection.open().await?;
            loop {
                let cameras = client.cameras().await?;
                let mut out = std::io::stdout().lock();
                if !arguments.once {
                    // Clear the screen and begin at its top left.
                    write!(out, "\x1b[2J\x1b[H")?;
                }
                writeln!(out, "{}", table(&cameras))?;
                out.flush()?;
                drop(out);
                if arguments.once {
                    let blind = cameras.iter().any(|camera| is_blind(state(camera)));
                    return Ok(if blind { ExitCode::from(1) } else { ExitCode::SUCCESS });
                }
                tokio::select! {
                    () = tokio::time::sleep(every) => {}
                    _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
                }
            }
        })
}

fn state(camera: &pb::Camera) -> String {
    camera.health.as_ref().map_or_else(String::new, |health| word::<CameraState>(health.state))
}

fn is_blind(state: String) -> bool {
    !["live", "degraded", "ended", "disabled"].contains(&state.as_str())
}

/// The worst come first: the lower, the worse.
fn rank(state: &str) -> u8 {
    match state {
        state if is_blind(state.to_owned()) => 0,
        "degraded" => 1,
        _ => 2,
    }
}

/// How many are in each state, and of those that do not see well, why.
fn summary(cameras: &[pb::Camera]) -> String {
    let mut counts: BTreeMap<(u8, String), (usize, BTreeMap<String, usize>)> = BTreeMap::new();
    for camera in cameras {
        let state = state(camera);
        let (count, reasons) = counts.entry((rank(&state), state)).or_default();
        *count += 1;
        let reason = camera.health.as_ref().map(|health| word::<StatusReason>(health.reason));
        if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let blind = cameras.iter().filter(|camera| is_blind(state(camera))).count();
    let counts: Vec<_> = counts
        .iter()
        .map(|((_, state), (count, reasons))| {
            let reasons: Vec<_> = reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
            let why = if reasons.is_empty() {
                String::new()
            } else {
                format!(" ({})", reasons.join(", "))
            };
            format!("{count} {state}{why}")
        })
        .collect();
    format!("{} cameras, {blind} blind: {}", cameras.len(), counts.join(", "))
}

fn table(cameras: &[pb::Camera]) -> String {
    // The blind ones first, those for the longest time before the others: with a thousand cameras nobody scrolls.
    let mut rows: Vec<_> = cameras.iter().collect();
    let since = |camera: &pb::Camera| {
        camera.health.as_ref().and_then(|health| health.state_time).map(|t| (t.seconds, t.nanos))
    };
    rows.sort_by_cached_key(|camera| {
        let rank = rank(&state(camera));
        (rank, if rank < 2 { since(camera) } else { None }, camera.name.clone())
    });
    let head = format!(
        "{:<14} {:<13} {:>7} {:>6} {:>9} {:>9} {:>8} {:>7} {:>9}  {}",
        "camera",
        "state",
        "since",
        "fps in",
        "decoded",
        "analysed",
        "dropped",
        "seen",
        "last seen",
        "reason"
    );
    let rows: Vec<_> = rows.into_iter().map(camera_row).collect();
    format!("{}\n{head}\n{}", summary(cameras), rows.join("\n"))
}

/// One line about a camera.
pub(crate) fn camera_row(camera: &pb::Camera) -> String {
    let Some(health) = &camera.health else { return bare(&camera.name).to_owned() };
    let now = SystemClock.now();
    let time = |time: &Option<pb::Timestamp>| time.as_ref().and_then(|t| timestamp_from_pb(t).ok());
    let mut reason = word::<StatusReason>(health.reason);
    if !health.detail.is_empty() {
        reason = format!("{reason} {}", health.detail);
    }
    if let Some(closing) = time(&health.closing_time) {
        reason +=
            &format!(" (opened by {}, closes in {})", health.opened_by, short(closing.since(now)));
    }
    if let Some(retry) = time(&health.retry_time) {
        reason += &format!(" (next try in {})", short(retry.since(now)));
    }
    let blind = seconds(&health.blind_period);
    if blind > 0.0 {
        reason += &format!(" (sees every {blind:.1} s)");
    }
    if health.decoded_densely {
        let apart = seconds(&health.keyframe_period);
        reason += &format!(" (keyframes {apart:.1} s apart: all is decoded)");
    }
    if health.keyframes_asked_count > 0 {
        let (asked, refused) = (health.keyframes_asked_count, health.keyframes_refused_count);
        reason += &format!(" (asked for {asked} keyframes, {refused} in vain)");
    }
    // What is far too few stands in the detail, in words.
    if let Some(rate) = health.read_rate.as_ref().filter(|it| !it.too_few && it.usual_count > 0.0) {
        reason += &format!(" (reads {:.0} % of the usual)", rate.ratio * 100.0);
    }
    let last = time(&health.last_sighting_time)
        .map_or_else(|| "-".to_owned(), |at: Timestamp| short(now.since(at)));
    let since = time(&health.state_time)
        .map_or_else(|| "-".to_owned(), |at: Timestamp| short(now.since(at)));
    format!(
        "{:<14} {:<13} {:>7} {:>6.1} {:>9} {:>9} {:>8} {:>7} {:>9}  {}",
        bare(&camera.name),
        word::<CameraState>(health.state),
        since,
        health.units_per_s,
        health.decoded_count,
        health.analysed_count,
        health.dropped_count,
        health.sighting_count,
        last,
        reason.trim(),
    )
}

fn seconds(period: &Option<pb::Duration>) -> f64 {
    period.as_ref().map_or(0.0, |it| it.seconds as f64 + f64::from(it.nanos) / 1e9)
}

fn short(duration: Duration) -> String {
    match duration.as_secs() {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_api::convert::Word as _;

    fn camera(
        id: &str,
        state: CameraState,
        reason: Option<StatusReason>,
        since: i64,
    ) -> pb::Camera {
        pb::Camera {
            name: format!("cameras/{id}"),
            health: Some(pb::CameraHealth {
                state: state.to_pb(),
                reason: reason.map_or(0, StatusReason::to_pb),
                state_time: Some(pb::Timestamp { seconds: since, nanos: 0 }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn the_worst_come_first_and_are_counted_with_their_reasons() {
        use CameraState::{Connecting, Degraded, Live, Stalled};
        let cameras = [
            camera("a", Live, None, 1),
            camera("b", Degraded, Some(StatusReason::Blurred), 2),
            camera("c", Stalled, Some(StatusReason::Black), 9),
            camera("d", Stalled, Some(StatusReason::Frozen), 5),
            camera("e", Connecting, Some(StatusReason::Unreachable), 7),
            camera("f", Stalled, Some(StatusReason::Black), 8),
        ];
        let table = table(&cameras);
        let order: String = table.lines().skip(2).filter_map(|row| row.chars().next()).collect();
        assert_eq!(order, "defcba", "{table}");
        let first = table.lines().next().unwrap();
        let expected = "6 cameras, 4 blind: 1 connecting (1 unreachable), 3 stalled (2 black, 1 frozen), \
                        1 degraded (1 blurred), 1 live";
        assert_eq!(first, expected);
    }
}
