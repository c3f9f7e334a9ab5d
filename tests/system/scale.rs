//! A county's register in one program: imported at once, most of it closed; one camera dies, one is opened for a while,
//! one comes with the configuration, and a clip comes from elsewhere.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use guiji_api::convert::{Word as _, timestamp_from_pb};
use guiji_api::pb;
use guiji_domain::{CameraState, ClockSource, Timestamp};
use guiji_scenes::{AtEnd, Fault, SceneServer, ServeOptions, ServedClip, StartRule, small_clip};
use tempfile::TempDir;

use crate::rig::{self, GUIJI, Server, SystemClock, all_finals, connect_to, exclusive, wait_for};

/// Cameras of the county, and how many of them are always open here.
const REGISTERED: usize = 1131;
const OPEN: usize = 20;
const PATIENCE: Duration = Duration::from_secs(40);

struct County {
    dir: TempDir,
    api: String,
    runtime: tokio::runtime::Runtime,
    scenes: SceneServer,
    server: Server,
}

impl County {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let small = dir.path().join("small.mp4");
        small_clip(&small).expect("a clip");
        let clip = |id: &str, file| ServedClip { id: rig::camera_id(id), file };
        let clips = vec![
            clip("many", small.clone()),
            clip("mortal", small),
            clip("street", rig::story().join("clips/a.mp4")),
        ];
        let (start, at_end) = (StartRule::AtOnce, AtEnd::Loop);
        let options = ServeOptions { port: 0, start, at_end, login: None };
        let scenes = SceneServer::start(clips, &options, Arc::new(SystemClock)).expect("served");
        let api = rig::free_address();
        let server = rig::serve_without_cameras(dir.path(), &api);
        let runtime = rig::runtime();
        runtime.block_on(connect_to(&api, &server));
        Self { dir, api, runtime, scenes, server }
    }

    fn cameras(&self) -> Vec<pb::Camera> {
        let client = connect_to(&self.api, &self.server);
        self.runtime.block_on(async { client.await.cameras().await.expect("cameras") })
    }

    fn health(&self, id: &str) -> pb::CameraHealth {
        let name = format!("cameras/{id}");
        let camera = self.cameras().into_iter().find(|camera| camera.name == name);
        camera.expect("the camera").health.expect("health")
    }

    fn is_live(&self, id: &str) -> bool {
        rig::word::<CameraState>(self.health(id).state) == CameraState::Live
    }

    /// How often each of the many was connected, of those that are live.
    fn connects(&self) -> Vec<u64> {
        let of_many = |camera: &pb::Camera| {
            let health = camera.health.as_ref()?;
            let live = health.state() == pb::CameraState::Live;
            (live && camera.name.starts_with("cameras/open")).then_some(health.connect_count)
        };
        self.cameras().iter().filter_map(of_many).collect()
    }

    fn guiji(&self, arguments: &[&str]) -> Output {
        let by = ["--purpose", "system test", "--case", "T-1", "--officer", "tester"];
        let output = Command::new(GUIJI)
            .args(arguments)
            .args(["--server", &self.api])
            .args(by)
            .output()
            .expect("guiji runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn register(&self) {
        let mut table = "id,lat,lon,address,policy,enabled\n".to_owned();
        let mut row = |id: &str, stream: &str, policy: &str, enabled: &str| {
            let url = self.scenes.url(&rig::camera_id(stream));
            table += &format!("{id},29.1,121.4,{url},{policy},{enabled}\n");
        };
        for number in 0..OPEN {
            row(&format!("open{number:02}"), "many", "keyframe-only", "yes");
        }
        row("mortal", "mortal", "keyframe-only", "yes");
        row("shut", "street", "motion", "no");
        for number in OPEN + 2..REGISTERED {
            row(&format!("c{number:04}"), "many", "full", "no");
        }
        let file = self.dir.path().join("cameras.csv");
        fs::write(&file, table).expect("written");
        let output = self.guiji(&["cameras", "import", &file.to_string_lossy()]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.starts_with(&format!("{REGISTERED} registered")), "{told}");
        wait_for("all that are open to be live", PATIENCE, || {
            self.connects().len() == OPEN && self.is_live("mortal")
        });
    }

    fn one_dies(&self) {
        let mortal = rig::camera_id("mortal");
        let before = self.connects();
        self.scenes.set_fault(&mortal, Fault::Down);
        wait_for("the dead camera to be named", PATIENCE, || !self.is_live("mortal"));
        self.scenes.set_fault(&mortal, Fault::None);
        wait_for("it to come back", PATIENCE, || self.is_live("mortal"));
        assert_eq!(self.connects(), before, "no other was disturbed");
    }

    fn one_is_opened(&self) {
        let begun = Instant::now();
        self.guiji(&["cameras", "open", "shut", "--minutes", "1"]);
        wait_for("its first picture", PATIENCE, || self.health("shut").analysed_count > 0);
        println!("first picture {:?} after it was opened", begun.elapsed());
        let health = self.health("shut");
        assert!(health.opened_by == "tester" && health.closing_time.is_some(), "{health:?}");
    }

    fn one_comes_with_the_configuration(&self) {
        let before = self.connects();
        let mut config = fs::OpenOptions::new()
            .append(true)
            .open(self.dir.path().join("guiji.toml"))
            .expect("the configuration");
        let url = self.scenes.url(&rig::camera_id("many"));
        writeln!(
            config,
            "[[camera]]\nid = \"filed\"\nlat = 29.1\nlon = 121.4\naddress = \"{url}\"\npolicy = \"keyframe-only\""
        )
        .expect("written");
        self.server.signal("HUP");
        wait_for("the new camera", PATIENCE, || {
            self.cameras().iter().any(|camera| camera.name == "cameras/filed")
        });
        wait_for("it to be live", PATIENCE, || self.is_live("filed"));
        assert_eq!(self.connects(), before, "no other was opened anew");
    }

    fn a_clip_comes_from_elsewhere(&self) {
        let recorded = Timestamp::from_secs(1_795_000_000);
        let clip = rig::story().join("clips/b.mp4");
        let config = self.dir.path().join("guiji.toml");
        let arguments = [
            "import",
            "clip",
            &clip.to_string_lossy(),
            "--camera",
            "c0100",
            "--recorded-at",
            "2026-11-18T11:06:40Z",
            "--clock-offset",
            "90",
            "--clock-error",
            "20",
            "--config",
            &config.to_string_lossy(),
        ];
        let passages = rig::passages_of("b") as u64;
        let stored = |output: &Output, what: &str| -> u64 {
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            let counts = told.trim_start_matches("sightings: ").split(", ");
            let counted = counts.filter_map(|part| part.split_once(' '));
            let count = counted.filter(|(_, it)| *it == what).map(|(count, _)| count).next();
            count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{told}"))
        };
        let first = stored(&self.guiji(&arguments), "stored");
        assert!((passages - 1..=passages + 1).contains(&first), "{first} of {passages}");
        let sightings: Vec<_> = self
            .runtime
            .block_on(async { all_finals(&connect_to(&self.api, &self.server).await).await })
            .into_iter()
            .filter(|sighting| sighting.camera == "cameras/c0100")
            .collect();
        assert_eq!(sightings.len() as u64, first);
        for sighting in sightings {
            let capture = sighting.capture.expect("a capture time");
            assert_eq!(capture.source, ClockSource::Stated.to_pb());
            assert_eq!(capture.uncertainty.map(|it| it.seconds), Some(20));
            let time = timestamp_from_pb(&capture.time.expect("a time")).expect("a time");
            let began = recorded.minus(Duration::from_secs(90));
            assert!(time > began && time < began.plus(Duration::from_secs(60)), "{time}");
        }
        // The same again, stated alike, is there already.
        assert_eq!(stored(&self.guiji(&arguments), "there already"), first);
    }
}

#[test]
fn a_countys_register_runs_in_one_program() {
    let _one_at_a_time = exclusive();
    let mut county = County::new();
    county.register();
    county.one_dies();
    county.one_is_opened();
    county.one_comes_with_the_configuration();
    county.a_clip_comes_from_elsewhere();
    assert!(county.server.terminate().success());
}
