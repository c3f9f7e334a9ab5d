//! One trial: a server on one core, N live streams from another, and what came of it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use guiji_api::client::{AlertsFrom, Client};
use guiji_api::convert::timestamp_from_pb;
use guiji_api::pb;
use guiji_domain::{Authority, Clock as _, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::process::{ByThread, Look};
use super::clips::Clip;
use super::matching::{Outcome, Seen, idle_share, instances, outcomes};
use super::reference::DecodeCost;
use super::report::{Figures, Missed, Raw, Served};
use crate::child::{self, Process};
use crate::clock::SystemClock;
use crate::query::bare;
use crate::watchlist::{self, TargetArguments};

/// What all trials have in common.
pub(super) struct Bench {
    pub(super) clips: Vec<Clip>,
    /// What `full` makes of each clip's passages.
    pub(super) full: Vec<Vec<Outcome>>,
    /// What decoding a picture costs, pure.
    pub(super) decode: DecodeCost,
    pub(super) policy: String,
    pub(super) seconds: u32,
    /// Make the window longer where too few vehicles pass in it.
    pub(super) stretch: bool,
    pub(super) scene_tool: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) engine_core: usize,
    pub(super) scene_core: usize,
}

#[derive(Serialize)]
struct Stream {
    id: String,
    file: PathBuf,
    phase_ms: u64,
}

/// Where a stream is in its clip, as the scene server says.
#[derive(Debug, Clone, Deserialize)]
struct Times {
    id: String,
    zero_ns: i64,
    length_ns: u64,
    frames: usize,
    keyframe_ns: u64,
}

/// A line of what the scene server says of itself.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Pace {
    at_ns: i64,
    units: u64,
    late: u64,
    latest_ms: u64,
}

/// Longest wait for clips to be loaded and for cameras to come up.
const PATIENCE: Duration = Duration::from_secs(90);
/// From all cameras live to the beginning of the window, after the longest time between keyframes.
const SETTLE: Duration = Duration::from_secs(2);
/// How long tracks may take to end, and alerts to come, after the window, and after the longest time between keyframes:
/// of a view that sleeps the next keyframe may be the picture that ends a track.
const AFTERMATH: Duration = Duration::from_secs(6);
/// Passages that a window should see: so many that one missed is not yet less than 98 %.
const PASSAGES_MIN: f64 = 50.0;
/// Longest window that is made of a shorter one for their sake, seconds.
const STRETCHED_MAX: f64 = 300.0;
/// The golden ratio spreads any number of streams evenly over their clips.
const SPREAD: f64 = 0.618_033_988_749_895;

/// The file in which the scene server says how it keeps its pace.
const PACE: &str = "pace.jsonl";

/// An alert: camera, watched plate, arrival here.
type Heard = Arc<Mutex<Vec<(String, String, Timestamp)>>>;

impl Bench {
    /// Runs N streams for the window and counts.
    pub(super) fn run(&self, streams: usize) -> Result<Figures> {
        let dir = self.dir.join("trial");
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("empty {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("make the folder {}", dir.display()))?;
        let figures = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?
            .block_on(self.measure(streams, &dir))?;
        // What a failed trial leaves is for looking at; a whole one leaves figures.
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        Ok(figures)
    }

    async fn measure(&self, streams: usize, dir: &Path) -> Result<Figures> {
        let [rtsp, api, metrics] = child::free_ports()?;
        let (mut scenes, times, substreams) = self.serve(streams, rtsp.port(), dir).await?;
        let longest = times.iter().map(|time| time.keyframe_ns).max().unwrap_or(0);
        let keyframe = Duration::from_nanos(longest);
        let window = self.window(&times);
        let config = dir.join("guiji.toml");
        let mut text = child::configuration(api)
            .replace("[store]", &format!("metrics = \"{metrics}\"\n\n[store]"));
        for time in &times {
            text += &format!(
                "\n[[camera]]\nid = \"{0}\"\nlat = 29.1\nlon = 121.4\naddress = \"rtsp://{rtsp}/{0}\"\npolicy = {1:?}\n",
                time.id, self.policy
            );
            if substreams.contains(&substream_of(&time.id)) {
                text += &format!("substream = \"rtsp://{rtsp}/{}\"\n", substream_of(&time.id));
            }
        }
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let program = std::env::current_exe().context("find this program")?;
        let mut server = Process::start(
            "guiji run",
            on_core(self.engine_core).arg(program).args(["run", "--config"]).arg(&config),
            &dir.join("guiji.log"),
        )?;
        let authority = Authority::new("benchmark of capacity", "BENCH-1", "bench")?;
        let client = child::connect(api, &authority, &mut server).await?;
        self.watch(&client).await?;
        let heard = Heard::default();
        let follower = tokio::spawn(follow(client.clone(), heard.clone()));
        all_live(&client, &mut [&mut scenes, &mut server]).await?;
        tokio::time::sleep(keyframe + SETTLE).await;

        let from = SystemClock.now();
        let before = (Look::at(server.id())?, Page::fetch(metrics).await?);
        let serving = Look::at(scenes.id())?;
        let cameras_before = client.cameras().await?;
        let begun = Instant::now();
        tokio::time::sleep(window).await;
        let after = (Look::at(server.id())?, Page::fetch(metrics).await?);
        let cameras = client.cameras().await?;
        let wall_s = begun.elapsed().as_secs_f64();
        let to = SystemClock.now();
        let serving = ByThread::between(&serving, &Look::at(scenes.id())?);
        tokio::time::sleep(keyframe + AFTERMATH).await;
        server.check()?;
        scenes.check()?;
        let sightings = all_sightings(&client).await?;
        follower.abort();

        let units = |cameras: &[pb::Camera]| -> HashMap<String, u64> {
            let count = |c: &pb::Camera| c.health.as_ref().map_or(0, |h| h.unit_count);
            cameras.iter().map(|c| (bare(&c.name).to_owned(), count(c))).collect()
        };
        let (earlier, later) = (units(&cameras_before), units(&cameras));
        let received = times.iter().map(|time| {
            let get = |units: &HashMap<String, u64>| units.get(&time.id).copied().unwrap_or(0);
            let due = wall_s * time.frames as f64 / (time.length_ns as f64 / 1e9);
            get(&later).saturating_sub(get(&earlier)) as f64 / due
        });
        let mut raw = Raw {
            streams,
            wall_s,
            received_min: received.fold(f64::INFINITY, f64::min),
            served: served(&dir.join(PACE), from, to, serving.total() / wall_s)?,
            idle: self.idle(&times),
            cpu: ByThread::between(&before.0, &after.0),
            threads: after.0.threads,
            rss_mb: after.0.rss_mb,
            decode: self.decode,
            decoded: after.1.since(&before.1, "guiji_frames_decoded_total"),
            decoded_keys: after.1.since(&before.1, "guiji_keyframes_decoded_total"),
            analysed: after.1.since(&before.1, "guiji_frames_analysed_total"),
            detect_s: after.1.since(&before.1, "guiji_detect_seconds_total"),
            read_s: after.1.since(&before.1, "guiji_read_seconds_total"),
            drops: after.1.drops_since(&before.1),
            ..Raw::default()
        };
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (index, time) in times.iter().enumerate() {
            self.judge(
                index % self.clips.len(),
                time,
                from,
                wall_s * 1e3,
                &sightings,
                &heard,
                &mut raw,
            );
        }
        drop(server);
        drop(scenes);
        Ok(raw.figures())
    }

    /// Also says which substreams there are.
    async fn serve(
        &self,
        streams: usize,
        port: u16,
        dir: &Path,
    ) -> Result<(Process, Vec<Times>, HashSet<String>)> {
        let (plan, told) = (dir.join("streams.json"), dir.join("times.json"));
        let mut list: Vec<_> = (0..streams)
            .map(|index| Stream {
                id: format!("s{index:03}"),
                file: self.clips[index % self.clips.len()].file.clone(),
                // Longer than any clip: the server takes what is left of it after whole rounds.
                phase_ms: ((index as f64 * SPREAD).fract() * 600_000.0) as u64,
            })
            .collect();
        for index in 0..streams {
            if let Some(file) = self.clips[index % self.clips.len()].substream.clone() {
                let (id, phase_ms) = (substream_of(&list[index].id), list[index].phase_ms);
                list.push(Stream { id, file, phase_ms });
            }
        }
        fs::write(&plan, serde_json::to_vec(&list)?)
            .with_context(|| format!("write {}", plan.display()))?;
        let mut scenes = Process::start(
            "guiji-scenes load",
            on_core(self.scene_core)
                .arg(&self.scene_tool)
                .args(["load", "--port", &port.to_string(), "--streams"])
                .arg(&plan)
                .arg("--times")
                .arg(&told)
                .arg("--pace")
                .arg(dir.join(PACE)),
            &dir.join("scenes.log"),
        )?;
        let begun = Instant::now();
        while !told.exists() {
            scenes.check()?;
            if begun.elapsed() > PATIENCE {
                bail!("the clips were not loaded within {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let text = fs::read(&told).with_context(|| format!("read {}", told.display()))?;
        let mut times: Vec<Times> =
            serde_json::from_slice(&text).context("understand guiji-scenes load")?;
        let beside = times.split_off(streams.min(times.len()));
        for substream in &beside {
            let main = times.iter().find(|time| substream_of(&time.id) == substream.id);
            if main.is_none_or(|it| it.length_ns.abs_diff(substream.length_ns) > 1_000_000) {
                bail!("{}: a clip and its substream must be equally long", substream.id);
            }
        }
        Ok((scenes, times, beside.into_iter().map(|time| time.id).collect()))
    }

    /// The window's length: as given, or longer for the sake of enough passages.
    fn window(&self, times: &[Times]) -> Duration {
        let seconds = f64::from(self.seconds);
        let of_clip = |(index, time): (usize, &Times)| {
            let passages = self.clips[index % self.clips.len()].passages.len();
            passages as f64 / (time.length_ns as f64 / 1e9)
        };
        let a_second: f64 = times.iter().enumerate().map(of_clip).sum();
        let wanted = PASSAGES_MIN / a_second.max(f64::MIN_POSITIVE);
        let stretched = if self.stretch { wanted.ceil().min(STRETCHED_MAX) } else { 0.0 };
        Duration::from_secs_f64(seconds.max(stretched))
    }

    /// Share of the time in which the truth has nothing in view, over the streams.
    fn idle(&self, times: &[Times]) -> f64 {
        let of_clip = |(index, time): (usize, &Times)| {
            let clip = &self.clips[index % self.clips.len()];
            idle_share(&clip.passages, time.length_ns as f64 / 1e6)
        };
        times.iter().enumerate().map(of_clip).sum::<f64>() / times.len().max(1) as f64
    }

    /// Puts every plate of the truth on the watch-list.
    async fn watch(&self, client: &Client) -> Result<()> {
        let all = self.clips.iter().flat_map(|clip| &clip.passages);
        let mut plates: Vec<_> = all.map(|passage| passage.plate.as_str()).collect();
        plates.sort_unstable();
        plates.dedup();
        for (number, plate) in plates.into_iter().enumerate() {
            let entry = watchlist::entry(&TargetArguments::plate(plate), "benchmark".into(), 1)?;
            client.create_watchlist_entry(&format!("w{number}"), entry).await?;
        }
        Ok(())
    }

    /// Holds what was seen and heard of a stream against its truth.
    #[allow(clippy::too_many_arguments)] // one stream's view of everything that was measured
    fn judge(
        &self,
        clip: usize,
        time: &Times,
        from: Timestamp,
        window_ms: f64,
        sightings: &[(String, Seen, Timestamp)],
        heard: &[(String, String, Timestamp)],
        raw: &mut Raw,
    ) {
        let ms = |at: i64| (at - from.as_nanos()) as f64 / 1e6;
        let length_ms = time.length_ns as f64 / 1e6;
        let due = instances(&self.clips[clip].passages, ms(time.zero_ns), length_ms, window_ms);
        let here: Vec<Seen> = sightings
            .iter()
            .filter(|(camera, ..)| *camera == time.id)
            .map(|(_, seen, at)| {
                let start = ms(at.as_nanos());
                Seen { from_ms: start, to_ms: start + seen.to_ms, plate: seen.plate.clone() }
            })
            .collect();
        let passages: Vec<_> = due.iter().map(|instance| instance.passage.clone()).collect();
        for (instance, outcome) in due.iter().zip(outcomes(&passages, &here)) {
            let full = self.full[clip].get(instance.index).copied().unwrap_or(Outcome::Missed);
            raw.passages += 1;
            raw.full_found += usize::from(full != Outcome::Missed);
            raw.found += usize::from(outcome != Outcome::Missed);
            raw.found_of_full += usize::from(outcome != Outcome::Missed && full != Outcome::Missed);
            raw.exact += usize::from(outcome == Outcome::Exact);
            let passage = &instance.passage;
            if outcome == Outcome::Missed {
                raw.missed.push(Missed {
                    stream: time.id.clone(),
                    plate: passage.plate.clone(),
                    from: from
                        .plus(Duration::from_secs_f64(passage.first_seen_ms / 1e3))
                        .to_string(),
                });
            }
            let Some(readable) = passage.readable_ms else { continue };
            let first = heard
                .iter()
                .filter(|(camera, plate, _)| *camera == time.id && *plate == passage.plate)
                .map(|(.., at)| ms(at.as_nanos()))
                .filter(|at| {
                    (passage.first_seen_ms..passage.first_seen_ms + length_ms).contains(at)
                })
                .min_by(f64::total_cmp);
            // Before it counts as readable an alert may be there already: then the wait is none.
            raw.alert_ms.extend(first.map(|at| (at - readable).max(0.0)));
        }
    }
}

/// The path of a stream's substream.
fn substream_of(stream: &str) -> String {
    format!("{stream}-sub")
}

/// What the scene server wrote of its pace between two times.
fn served(log: &Path, from: Timestamp, to: Timestamp, core_use: f64) -> Result<Served> {
    let text = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    let window = from.as_nanos()..=to.as_nanos();
    let (mut units, mut late, mut latest_ms) = (0, 0, 0);
    for line in text.lines() {
        // The last line may be half written.
        let Ok(pace) = serde_json::from_str::<Pace>(line) else { continue };
        if window.contains(&pace.at_ns) {
            units += pace.units;
            late += pace.late;
            latest_ms = pace.latest_ms.max(latest_ms);
        }
    }
    // A pacer that told nothing in the whole window did not keep its pace either.
    let late = if units == 0 { 1.0 } else { late as f64 / units as f64 };
    Ok(Served { core_use, late, latest_ms })
}

/// A program bound to one core.
fn on_core(core: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]);
    command
}

async fn follow(client: Client, heard: Heard) -> Result<()> {
    let mut stream = client.alerts(AlertsFrom::Beginning, None).await?;
    while let Some(message) = stream.next().await? {
        if let Some(pb::stream_alerts_response::Event::Alert(alert)) = message.event {
            let now = SystemClock.now();
            if let Some(pb::alert::Target::TargetPlate(plate)) = alert.target {
                let camera = bare(&alert.camera).to_owned();
                heard.lock().unwrap_or_else(PoisonError::into_inner).push((camera, plate, now));
            }
        }
    }
    Ok(())
}

async fn all_live(client: &Client, children: &mut [&mut Process]) -> Result<()> {
    let begun = Instant::now();
    loop {
        children.iter_mut().try_for_each(|child| child.check())?;
        let cameras = client.cameras().await?;
        let begins = |c: &pb::Camera| c.health.as_ref().is_some_and(|h| h.unit_count > 0);
        let waiting = cameras.iter().filter(|camera| !begins(camera)).count();
        if waiting == 0 {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            // It shows in the share of pictures received: such a load is not borne.
            eprintln!("{waiting} of {} cameras have not come up", cameras.len());
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Camera, length and plate, first picture of every final sighting.
async fn all_sightings(client: &Client) -> Result<Vec<(String, Seen, Timestamp)>> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            pb::SearchSightingsRequest { page_size: 500, page_token, ..Default::default() };
        let page = client.search(request).await?;
        for sighting in page.sightings {
            let time = |at: &Option<pb::Timestamp>| {
                at.as_ref().and_then(|at| timestamp_from_pb(at).ok()).context("a time is missing")
            };
            let (first, last) = (time(&sighting.first_time)?, time(&sighting.last_time)?);
            let seen = Seen {
                from_ms: 0.0,
                to_ms: last.since(first).as_secs_f64() * 1e3,
                plate: sighting.plate.map(|plate| plate.text),
            };
            all.push((bare(&sighting.camera).to_owned(), seen, first));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// The server's page of metrics: name with labels, value.
struct Page(HashMap<String, f64>);

impl Page {
    async fn fetch(address: std::net::SocketAddr) -> Result<Self> {
        let mut stream =
            tokio::net::TcpStream::connect(address).await.context("reach the metrics")?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.context("ask for the metrics")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.context("read the metrics")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let value = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Self(text.lines().filter(|line| line.starts_with("guiji_")).filter_map(value).collect())
    }

    fn since(&self, before: &Self, name: &str) -> f64 {
        let get = |page: &Self| page.0.get(name).copied().unwrap_or(0.0);
        get(self) - get(before)
    }

    /// Pictures lost meanwhile, by reason.
    fn drops_since(&self, before: &Self) -> std::collections::BTreeMap<String, f64> {
        let prefix = "guiji_frames_dropped_total{reason=\"";
        self.0
            .keys()
            .filter_map(|key| {
                let reason = key.strip_prefix(prefix)?.strip_suffix("\"}")?;
                Some((reason.to_owned(), self.since(before, key)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_pace_counts_within_the_window() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join(PACE);
        let line = |at_ns: i64, late: u64, latest_ms: u64| {
            format!(
                "{{\"at_ns\":{at_ns},\"units\":50,\"late\":{late},\"latest_ms\":{latest_ms}}}\n"
            )
        };
        let text = line(5, 50, 9000) + &line(10, 0, 3) + &line(20, 1, 250) + "{\"at_ns\":2";
        fs::write(&log, text).unwrap();
        let time = Timestamp::from_nanos;
        let counted = served(&log, time(10), time(20), 0.25).unwrap();
        assert_eq!(counted, Served { core_use: 0.25, late: 0.01, latest_ms: 250 });
        assert_eq!(served(&log, time(30), time(40), 0.25).unwrap().late, 1.0);
    }

    #[test]
    fn the_page_is_read_and_compared() {
        let page = |decoded: u32, late: u32| {
            Page::parse(&format!(
                "HTTP/1.1 200 OK\r\n\r\n# TYPE x counter\nguiji_frames_decoded_total {decoded}\n\
                 guiji_frames_dropped_total{{reason=\"newer_frame\"}} {late}\n"
            ))
        };
        let (before, after) = (page(10, 1), page(35, 4));
        assert_eq!(after.since(&before, "guiji_frames_decoded_total"), 25.0);
        let drops = after.drops_since(&before);
        assert_eq!(drops.into_iter().collect::<Vec<_>>(), [("newer_frame".to_owned(), 3.0)]);
    }
}
