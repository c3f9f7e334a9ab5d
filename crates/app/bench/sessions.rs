//! `guiji bench sessions`: many cameras in one process.
//!
//! `guiji run` begins without a camera; a table of cameras is imported into it while it runs, all of them sessions of
//! their own with one small stream of 25 kbit/s, and one more with a server of its own. That server is killed and
//! started again, then halted, so that its connection stays open and nothing answers any more, and let go on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use guiji_api::client::Client;
use guiji_api::pb;
use guiji_domain::Authority;
use serde::Serialize;

use super::process::{ByThread, Look};
use crate::child::{self, Process};
use crate::query::bare;

/// Arguments of `guiji bench sessions`.
#[derive(Debug, Args)]
pub(super) struct SessionsArguments {
    /// So many cameras, besides the one that dies.
    #[arg(long, value_name = "N", default_value_t = 200)]
    cameras: usize,
    /// How long the sessions are left alone and looked at.
    #[arg(long, value_name = "S", default_value_t = 20)]
    seconds: u64,
    /// Folder for what the programs write meanwhile.
    #[arg(long, value_name = "FOLDER", default_value = ".guiji/sessions")]
    dir: PathBuf,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command; exit code 1 when a camera did not come up, did not come back, or another one noticed.
pub(super) fn run(arguments: &SessionsArguments) -> Result<ExitCode> {
    if arguments.cameras == 0 || arguments.seconds == 0 {
        bail!("give at least one camera and one second");
    }
    let mut well = false;
    let code = super::in_folder(&arguments.dir, arguments.json, || {
        fs::create_dir_all(&arguments.dir)
            .with_context(|| format!("make the folder {}", arguments.dir.display()))?;
        let figures = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?
            .block_on(measure(arguments))?;
        well = figures.is_well();
        Ok(figures)
    })?;
    Ok(if well { code } else { ExitCode::from(1) })
}

/// What came of it. Memory and files of a session are the growth from the first camera to all of them.
#[derive(Debug, Serialize)]
struct Figures {
    cameras: usize,
    /// From the table's first line to the answer that all are registered.
    import_s: f64,
    /// From then on until pictures of all had come.
    all_live_s: f64,
    live: usize,
    threads: usize,
    /// With one camera.
    threads_before: usize,
    rss_mb: f64,
    rss_mb_per_session: f64,
    files_per_session: f64,
    cpu_ms_per_second_and_session: f64,
    /// Its server is killed: the connection breaks, the port is closed.
    killed: Death,
    /// Its server is halted: nothing answers any more, and no connection breaks.
    halted: Death,
}

/// How a camera goes and comes back.
#[derive(Debug, Serialize)]
struct Death {
    /// Until its state says so.
    noticed_s: f64,
    /// What its state says then.
    state: String,
    /// How long it stays away after that.
    away_s: f64,
    /// From its server's return to the first picture.
    back_s: f64,
    /// Other cameras that lost their connection or stopped sending meanwhile.
    others_hit: usize,
}

/// A camera that is back must be seen again within this: the wait between two tries, 8 s at most, and the next keyframe
/// of a clip that has one in ten seconds.
const BACK_MAX_S: f64 = 19.0;
/// How long it stays away: long enough for the waits between tries to have grown.
const AWAY: Duration = Duration::from_secs(20);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(250);
/// The camera that dies.
const MORTAL: &str = "mortal";

impl Figures {
    fn is_well(&self) -> bool {
        let well = |it: &Death| it.back_s <= BACK_MAX_S && it.others_hit == 0;
        self.live == self.cameras + 1 && well(&self.killed) && well(&self.halted)
    }
}

async fn measure(arguments: &SessionsArguments) -> Result<Figures> {
    let dir = &arguments.dir;
    let scene_tool = crate::demo::sibling("guiji-scenes")?;
    let clip = dir.join("small.mp4");
    let made = Command::new(&scene_tool).args(["small", "--out"]).arg(&clip).status();
    if !made.context("run guiji-scenes small")?.success() {
        bail!("guiji-scenes small failed");
    }
    let clip = fs::canonicalize(&clip).context("find the clip")?;
    let [many, mortal, api] = child::free_ports()?;
    let _many = serve(&scene_tool, dir, &clip, "many", many.port()).await?;
    let mut own = serve(&scene_tool, dir, &clip, MORTAL, mortal.port()).await?;

    let config = dir.join("guiji.toml");
    fs::write(&config, child::configuration(api))
        .with_context(|| format!("write {}", config.display()))?;
    let mut server = Process::server(&config, &dir.join("guiji.log"))?;
    let authority = Authority::new("benchmark of sessions", "BENCH-1", "bench")?;
    let client = child::connect(api, &authority, &mut server).await?;

    let mut table = format!("{HEAD}{}", row(MORTAL, mortal.port(), MORTAL));
    import(dir, &table, api).await?;
    live(&client, 1).await?;
    let first = Look::at(server.id())?;
    for number in 0..arguments.cameras {
        table += &row(&format!("k{number:04}"), many.port(), "many");
    }
    let begun = Instant::now();
    import(dir, &table, api).await?;
    let import_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let live = live(&client, arguments.cameras + 1).await?;
    let all_live_s = begun.elapsed().as_secs_f64();

    let rest = Duration::from_secs(arguments.seconds);
    let before = Look::at(server.id())?;
    tokio::time::sleep(rest).await;
    let after = Look::at(server.id())?;
    server.check()?;
    let killed = {
        let dying = Dying::begin(&client).await?;
        own.kill();
        let noticed = dying.noticed(&client).await?;
        tokio::time::sleep(AWAY).await;
        own = serve(&scene_tool, dir, &clip, MORTAL, mortal.port()).await?;
        dying.back(&client, noticed).await?
    };
    let halted = {
        let dying = Dying::begin(&client).await?;
        own.signal("STOP")?;
        let noticed = dying.noticed(&client).await?;
        tokio::time::sleep(AWAY).await;
        own.signal("CONT")?;
        dying.back(&client, noticed).await?
    };
    server.check()?;
    let each = |value: f64| value / arguments.cameras as f64;
    Ok(Figures {
        cameras: arguments.cameras,
        import_s,
        all_live_s,
        live,
        threads: after.threads,
        threads_before: first.threads,
        rss_mb: after.rss_mb,
        rss_mb_per_session: each(after.rss_mb - first.rss_mb),
        files_per_session: each(after.files as f64 - first.files as f64),
        cpu_ms_per_second_and_session: each(ByThread::between(&before, &after).total()) * 1e3
            / rest.as_secs_f64(),
        killed,
        halted,
    })
}

const HEAD: &str = "id,lat,lon,address,policy\n";

fn row(id: &str, port: u16, stream: &str) -> String {
    format!("{id},29.1,121.4,rtsp://127.0.0.1:{port}/{stream},keyframe-only\n")
}

/// Serves one stream, by a process of its own.
async fn serve(tool: &Path, dir: &Path, clip: &Path, id: &str, port: u16) -> Result<Process> {
    let (plan, times) =
        (dir.join(format!("{id}.json")), dir.join(format!("{id}-{port}-times.json")));
    let streams = serde_json::json!([{ "id": id, "file": clip, "phase_ms": 0 }]);
    fs::write(&plan, streams.to_string()).with_context(|| format!("write {}", plan.display()))?;
    if times.exists() {
        fs::remove_file(&times).with_context(|| format!("remove {}", times.display()))?;
    }
    let mut scenes = Process::start(
        "guiji-scenes load",
        Command::new(tool)
            .args(["load", "--port", &port.to_string(), "--streams"])
            .arg(&plan)
            .arg("--times")
            .arg(&times),
        &dir.join(format!("{id}.log")),
    )?;
    let begun = Instant::now();
    while !times.exists() {
        scenes.check()?;
        if begun.elapsed() > PATIENCE {
            bail!("the stream {id} is not served after {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(scenes)
}

/// Registers a table of cameras as an operator does.
async fn import(dir: &Path, table: &str, api: std::net::SocketAddr) -> Result<()> {
    let file = dir.join("cameras.csv");
    fs::write(&file, table).with_context(|| format!("write {}", file.display()))?;
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.args(["cameras", "--server", &api.to_string()]);
    command.args(["--purpose", "benchmark", "--case", "BENCH-1", "--officer", "bench", "import"]);
    command.arg(&file);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .context("wait for guiji cameras")?
        .context("run guiji cameras import")?;
    if !output.status.success() {
        bail!("guiji cameras import failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Waits until pictures of so many cameras come; how many there are in the end.
async fn live(client: &Client, wanted: usize) -> Result<usize> {
    let begun = Instant::now();
    loop {
        let live = client.cameras().await?.iter().filter(|camera| is_live(camera)).count();
        if live >= wanted || begun.elapsed() > PATIENCE {
            return Ok(live);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn is_live(camera: &pb::Camera) -> bool {
    camera.health.as_ref().is_some_and(|health| health.state() == pb::CameraState::Live)
}

/// What a camera's connection is known by.
fn connection(camera: &pb::Camera) -> (String, u64, u64) {
    let health = camera.health.as_ref();
    let (connects, units) =
        health.map_or((0, 0), |health| (health.connect_count, health.unit_count));
    (bare(&camera.name).to_owned(), connects, units)
}

/// A camera about to die, and how the others were before.
struct Dying {
    begun: Instant,
    before: Vec<(String, u64, u64)>,
}

struct Noticed {
    after: Duration,
    state: String,
    at: Instant,
}

impl Dying {
    async fn begin(client: &Client) -> Result<Self> {
        let before = client.cameras().await?.iter().map(connection).collect();
        Ok(Self { begun: Instant::now(), before })
    }

    async fn mortal(client: &Client) -> Result<pb::Camera> {
        let cameras = client.cameras().await?;
        cameras.into_iter().find(|it| bare(&it.name) == MORTAL).context("the camera is gone")
    }

    async fn noticed(&self, client: &Client) -> Result<Noticed> {
        loop {
            let camera = Self::mortal(client).await?;
            if !is_live(&camera) {
                let state = camera.health.map_or_else(String::new, |health| {
                    format!("{} {}", health.state().as_str_name(), health.reason().as_str_name())
                });
                return Ok(Noticed { after: self.begun.elapsed(), state, at: Instant::now() });
            }
            if self.begun.elapsed() > PATIENCE {
                bail!("nobody noticed within {PATIENCE:?} that the camera is dead");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn back(&self, client: &Client, noticed: Noticed) -> Result<Death> {
        let away = noticed.at.elapsed();
        let returned = Instant::now();
        while !is_live(&Self::mortal(client).await?) {
            if returned.elapsed() > PATIENCE {
                bail!("the camera is not back after {PATIENCE:?}");
            }
            tokio::time::sleep(POLL).await;
        }
        let back = returned.elapsed();
        let after = client.cameras().await?;
        // The same connection, and more has come through it.
        let unhurt = |(id, connects, units): &(String, u64, u64)| {
            after.iter().map(connection).any(|(it, c, u)| it == *id && c == *connects && u > *units)
        };
        let others = self.before.iter().filter(|(id, ..)| id != MORTAL);
        Ok(Death {
            noticed_s: noticed.after.as_secs_f64(),
            state: noticed.state,
            away_s: away.as_secs_f64(),
            back_s: back.as_secs_f64(),
            others_hit: others.filter(|before| !unhurt(before)).count(),
        })
    }
}
