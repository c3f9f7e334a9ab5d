//! A small story, its cameras, and the program that watches them.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use guiji_api::client::{AlertsFrom, Client, Messages};
use guiji_api::convert::{Word, timestamp_from_pb, timestamp_to_pb};
use guiji_api::pb;
use guiji_domain::{Authority, CameraId, Clock, Timestamp};
use guiji_scenes::{
    AtEnd, Composer, SceneServer, Seen, ServeOptions, ServedClip, StartRule, StorySpec, StoryTruth,
    VehicleModel,
};
use tempfile::TempDir;

/// The program under test.
pub(crate) const GUIJI: &str = env!("CARGO_BIN_EXE_guiji");

/// Two cameras one behind the other, by day and by night, a suspect and a decoy that differs in one character.
const STORY: &str = include_str!("story.toml");

pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // a test is its own outermost edge
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::EPOCH.plus(since.expect("after 1970"))
    }
}

/// Held by a story: two at a time would starve each other of the two cores.
pub(crate) fn exclusive() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The composed story: made once, kept with the build's other products.
pub(crate) fn story() -> &'static Path {
    static STORY_DIR: OnceLock<PathBuf> = OnceLock::new();
    STORY_DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("system-story");
        let photo = repository().join("models/.cache/test_image.png");
        let model = VehicleModel::from_fast_alpr(&photo).expect("the photograph: run ./x models");
        let spec = StorySpec::parse(STORY).expect("the story");
        let composer = Composer::new(spec, vec![model]).expect("a composer");
        composer.compose(&dir, 2, &|_, _| {}).expect("composed");
        dir
    })
}

pub(crate) fn passages_of(camera: &str) -> usize {
    let truth = StoryTruth::load(story()).expect("the truth");
    let clips = truth.clips(story()).expect("the truth of the clips");
    clips.iter().find(|clip| clip.camera == camera).expect("the clip").passages.len()
}

/// A program that is ended with the test.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    pub(crate) fn start(dir: &Path, config: &Path) -> Self {
        let log = dir.join("guiji.log");
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let child = Command::new(GUIJI)
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("guiji starts");
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, name: &str) {
        let words = [format!("-{name}"), self.child.id().to_string()];
        assert!(Command::new("kill").args(words).status().expect("kill").success());
    }

    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the program does not drain\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// SIGKILL: no chance to tidy up.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            eprintln!(
                "the program's log:\n{}",
                log.lines().rev().take(40).collect::<Vec<_>>().join("\n")
            );
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) struct Rig {
    dir: TempDir,
    config: PathBuf,
    api: String,
    truth: StoryTruth,
    pub(crate) scenes: SceneServer,
    pub(crate) server: Server,
    /// A folder that looks like the composed one, with the times at which it was served.
    served: PathBuf,
}

impl Rig {
    /// The story is told once, beginning when both cameras are watched.
    pub(crate) fn serve_once() -> Self {
        let start = StartRule::Watched { cameras: 2, patience: Duration::from_secs(60) };
        Self::new(start, AtEnd::Silence)
    }

    pub(crate) fn serve_again_and_again() -> Self {
        Self::new(StartRule::AtOnce, AtEnd::Loop)
    }

    fn new(start: StartRule, at_end: AtEnd) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let truth = StoryTruth::load(story()).expect("the truth");
        let clips = truth
            .cameras
            .iter()
            .map(|camera| ServedClip {
                id: camera_id(&camera.id),
                file: story().join(&camera.clip),
            })
            .collect();
        let options = ServeOptions { port: 0, start, at_end, login: None };
        let scenes =
            SceneServer::start(clips, &options, Arc::new(SystemClock)).expect("scenes are served");

        let api = free_address();
        let mut text = header(&api);
        for camera in &truth.cameras {
            let id = camera_id(&camera.id);
            text += &format!(
                "\n[[camera]]\nid = \"{id}\"\nlat = {}\nlon = {}\nbearing_deg = {}\naddress = \"{}\"\n",
                camera.lat,
                camera.lon,
                camera.bearing_deg,
                scenes.url(&id),
            );
        }
        let config = dir.path().join("guiji.toml");
        fs::write(&config, text).expect("a configuration");
        let server = Server::start(dir.path(), &config);
        let served = dir.path().join("served");
        Self { dir, config, api, truth, scenes, server, served }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn api(&self) -> String {
        self.api.clone()
    }

    pub(crate) fn plate(&self, vehicle: &str) -> String {
        let found = self.truth.vehicles.iter().find(|v| v.vehicle == vehicle);
        found.expect("the vehicle").plate.clone()
    }

    pub(crate) fn restart_server(&mut self) {
        self.server = Server::start(self.dir.path(), &self.config);
    }

    /// Waits until the story has been told and its last tracks have ended.
    pub(crate) async fn wait_told(&mut self) {
        let patience = Duration::from_secs(60);
        let started = self.scenes.wait_started(patience).expect("both cameras are watched");
        let end =
            started.plus(Duration::from_millis(self.truth.duration_ms) + Duration::from_secs(5));
        tokio::time::sleep(end.since(SystemClock.now())).await;
        // The score reads the start from the folder; the composed one is shared, so it gets a copy.
        fs::create_dir_all(self.served.join("truth")).expect("a folder");
        for camera in &self.truth.cameras {
            fs::copy(story().join(&camera.truth), self.served.join(&camera.truth)).expect("copied");
        }
        self.truth.started_ns = Some(started.as_nanos());
        self.truth.save(&self.served).expect("saved");
    }

    pub(crate) fn story_dir(&self) -> &Path {
        &self.served
    }
}

pub(crate) fn header(api: &str) -> String {
    let models = repository().join("models");
    format!(
        "[server]\nlisten = \"{api}\"\n[models]\nmanifest = {:?}\ncache = {:?}\n",
        models.join("manifest.toml"),
        models.join(".cache")
    )
}

/// The program without cameras, and where it answers. Call again to start it anew over the same store.
pub(crate) fn serve_without_cameras(dir: &Path, api: &str) -> Server {
    let config = dir.join("guiji.toml");
    fs::write(&config, header(api)).expect("a configuration");
    Server::start(dir, &config)
}

pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

pub(crate) fn config_without_cameras(dir: &Path) -> PathBuf {
    let config = dir.join("guiji.toml");
    fs::write(&config, header("127.0.0.1:0")).expect("a configuration");
    config
}

pub(crate) fn camera_id(id: &str) -> CameraId {
    CameraId::new(id).expect("an id")
}

pub(crate) async fn connect(rig: &Rig) -> Client {
    connect_to(&rig.api, &rig.server).await
}

pub(crate) async fn connect_to(api: &str, server: &Server) -> Client {
    let authority = Authority::new("system test", "T-1", "tester").expect("an authority");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Client::connect(api, &authority).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "{error}\n{}", server.log()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) fn wait_for(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub(crate) fn guiji(rig: &Rig, arguments: &[&str]) -> Output {
    Command::new(GUIJI)
        .args(arguments)
        .args([
            "--server",
            &rig.api,
            "--purpose",
            "system test",
            "--case",
            "T-1",
            "--officer",
            "tester",
        ])
        .output()
        .expect("guiji runs")
}

pub(crate) fn query(rig: &Rig, question: &[&str]) -> Output {
    guiji(rig, &[&["query"], question].concat())
}

pub(crate) fn entry(plate: &str) -> pb::WatchlistEntry {
    let target = if plate.contains('?') {
        pb::watchlist_entry::Target::PlatePattern(plate.to_owned())
    } else {
        pb::watchlist_entry::Target::Plate(plate.to_owned())
    };
    let expires = SystemClock.now().plus(Duration::from_secs(3600));
    pb::WatchlistEntry {
        target: Some(target),
        reason: "system test".into(),
        expire_time: Some(timestamp_to_pb(expires)),
        ..Default::default()
    }
}

/// The name of the next alert of a vehicle in view.
pub(crate) async fn provisional_alert(client: &Client, patience: Duration) -> String {
    let mut stream = client.alerts(AlertsFrom::Now, None).await.expect("alerts stream");
    let waiting = async {
        loop {
            let message = stream.next().await.expect("a stream").expect("no end");
            if let Some(pb::stream_alerts_response::Event::Alert(alert)) = message.event
                && alert.stage() == pb::AlertStage::Provisional
            {
                return alert.name;
            }
        }
    };
    tokio::time::timeout(patience, waiting).await.expect("the watched vehicle comes in time")
}

/// What an alert stream holds until it is silent for a while.
pub(crate) async fn stream_alerts(
    mut stream: Messages<pb::StreamAlertsResponse>,
    silence: Duration,
) -> Vec<pb::Alert> {
    let mut alerts = Vec::new();
    while let Ok(message) = tokio::time::timeout(silence, stream.next()).await {
        let Some(message) = message.expect("a stream") else { break };
        if let Some(pb::stream_alerts_response::Event::Alert(alert)) = message.event {
            alerts.push(alert);
        }
    }
    alerts
}

/// Names of final sightings as the live feed announces them.
pub(crate) async fn announced_finals(
    client: &Client,
    wanted: usize,
    patience: Duration,
) -> Vec<String> {
    let mut feed =
        client.watch_sightings(pb::WatchSightingsRequest::default()).await.expect("a feed");
    let mut names = Vec::new();
    let listening = async {
        while names.len() < wanted {
            let message = feed.next().await.expect("a feed").expect("the feed goes on");
            if let Some(pb::watch_sightings_response::Event::Sighting(sighting)) = message.event
                && sighting.stage() == pb::SightingStage::Final
            {
                names.push(sighting.name);
            }
        }
    };
    tokio::time::timeout(patience, listening).await.expect("sightings are announced in time");
    names
}

pub(crate) async fn all_finals(client: &Client) -> Vec<pb::Sighting> {
    let (mut sightings, mut page_token) = (Vec::new(), String::new());
    loop {
        // Small pages, so that paging is used.
        let request = pb::SearchSightingsRequest { page_size: 3, page_token, ..Default::default() };
        let page = client.search(request).await.expect("a page");
        sightings.extend(page.sightings);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return sightings;
        }
    }
}

fn time(capture: Option<&pb::CaptureTime>) -> Timestamp {
    let time = capture.and_then(|capture| capture.time.as_ref()).expect("a capture time");
    timestamp_from_pb(time).expect("a time")
}

fn uncertainty(capture: Option<&pb::CaptureTime>) -> Duration {
    let stated = capture.and_then(|capture| capture.uncertainty).expect("an uncertainty");
    stated.try_into().expect("not negative")
}

fn bare(camera: &str) -> String {
    camera.trim_start_matches("cameras/").to_owned()
}

pub(crate) fn seen(sighting: &pb::Sighting) -> Seen {
    Seen {
        camera: bare(&sighting.camera),
        at: time(sighting.capture.as_ref()),
        uncertainty: uncertainty(sighting.capture.as_ref()),
        plate: sighting.plate.as_ref().map(|plate| plate.text.clone()),
    }
}

pub(crate) fn seen_alert(alert: &pb::Alert) -> Seen {
    Seen {
        camera: bare(&alert.camera),
        at: time(alert.capture.as_ref()),
        uncertainty: uncertainty(alert.capture.as_ref()),
        plate: Some(alert.plate.clone()),
    }
}

pub(crate) fn word<W: Word>(number: i32) -> W {
    W::from_pb(number).ok().flatten().expect("a word")
}

/// The interpreter with the packages of `tests/python/requirements.txt`. `./x test` prepares it; without it a test
/// fails rather than passing over the peer in silence.
pub(crate) fn peer_python() -> PathBuf {
    let python = repository().join(".guiji/peer/bin/python");
    assert!(python.is_file(), "{} is missing: run ./x test", python.display());
    python
}

/// Runs the Python peer.
pub(crate) fn python_peer(rig: &Rig, plate: &str) {
    let output = Command::new(peer_python())
        .arg(repository().join("tests/python/peer.py"))
        .args([rig.api(), plate.to_owned()])
        .output()
        .expect("the peer runs");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
