//! Whole-system stories: real RTSP cameras, the real program, real models, a real store, a client over gRPC.
//!
//! The scenes hold the truth; nothing of it reaches the program under test. One story at a time: each keeps two
//! cores busy.

mod access;
mod alerts;
mod county;
mod quickstart;
mod rig;
mod scale;
mod tactics;

use std::process::Command;
use std::time::Duration;

use guiji_api::client::AlertsFrom;
use guiji_api::pb;
use guiji_domain::{CameraState, EvidenceKind};
use guiji_scenes::{Fault, Seen, score, score_rings};
use rig::{GUIJI, Rig, all_finals, connect, exclusive, query, seen, stream_alerts, wait_for, word};

#[test]
fn vehicles_on_streams_become_sightings_alerts_and_a_trajectory() {
    let _one_at_a_time = exclusive();
    let mut rig = Rig::serve_once();
    let (suspect, decoy) = (rig.plate("suspect"), rig.plate("decoy"));
    let runtime = rig::runtime();
    let alerts = runtime.block_on(async {
        let client = connect(&rig).await;
        // Before the first vehicle comes: the watched one, and a pattern that nothing matches.
        for (id, plate) in [("suspect", suspect.as_str()), ("nothing", "琼Z?????")] {
            client.create_watchlist_entry(id, rig::entry(plate)).await.expect("the entry is taken");
        }
        let stream = client.alerts(AlertsFrom::Beginning, None).await.expect("alerts stream");
        rig.wait_told().await;
        stream_alerts(stream, Duration::from_secs(1)).await
    });
    let sightings = runtime.block_on(async { all_finals(&connect(&rig).await).await });

    let score =
        score(rig.story_dir(), &sightings.iter().map(seen).collect::<Vec<_>>()).expect("a score");
    println!("{score}\n{:#?}\n{:#?}", score.failures, score.extra);
    for sighting in &sightings {
        println!("{} {:?} {:?}", sighting.camera, sighting.capture, seen(sighting).plate);
    }
    assert!(score.all().recall() >= 0.85, "passages found");
    assert!(score.all().plate_accuracy() >= 0.75, "plates whole");
    assert!(score.extra.len() <= 1, "sightings of nothing: {:?}", score.extra);

    // Alerts: for the suspect only, early and then confirmed; the decoy differs in one character and stays silent.
    let rung: Vec<Seen> = alerts.iter().map(rig::seen_alert).collect();
    let rings = score_rings(rig.story_dir(), "suspect", &rung).expect("a score");
    assert!(rings.rung > 0 && rings.false_rings.is_empty(), "{rings:?}");
    assert!(alerts.iter().all(|alert| alert.plate != decoy), "{alerts:?}");
    assert!(alerts.iter().any(|alert| alert.stage() == pb::AlertStage::Confirmed), "{alerts:?}");

    // The trajectory as the command line prints it.
    let json = query(&rig, &["trajectory", &suspect, "--json"]);
    let trajectory: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let points = trajectory["points"].as_array().expect("points");
    assert_eq!(points.len(), 2, "{trajectory:#}");
    let leg = &trajectory["legs"][0];
    let speed = leg["impliedSpeed"]["bestKmh"].as_f64().expect("a speed");
    assert!((20.0..120.0).contains(&speed), "{leg:#}");
    let table = query(&rig, &["trajectory", &suspect]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("km/h"));

    // Evidence that can be opened and has the digest that the sighting names.
    let name = points[0]["sighting"]["name"].as_str().expect("a name").to_owned();
    let out = rig.dir().join("evidence");
    let saved = query(&rig, &["evidence", &name, "--out", &out.to_string_lossy()]);
    assert!(saved.status.success());
    assert_eq!(String::from_utf8_lossy(&saved.stdout).lines().count(), EvidenceKind::ALL.len());
    for file in
        std::fs::read_dir(&out).expect("the folder").map(|entry| entry.expect("entry").path())
    {
        let bytes = std::fs::read(&file).expect("a picture");
        assert_eq!(bytes[..3], [0xff, 0xd8, 0xff], "{} is a JPEG", file.display());
    }

    evidence_leaves_the_house(&rig, &suspect);

    // A peer of another language that knows only the protos.
    rig::python_peer(&rig, &suspect);

    // SIGTERM drains: exit code 0, and nothing is lost.
    let status = rig.server.terminate();
    assert!(status.success(), "{status}\n{}", rig.server.log());
}

/// Exports the sightings of a plate as a sealed bundle, checks it, and finds it out when it was touched.
fn evidence_leaves_the_house(rig: &Rig, plate: &str) {
    let path = |name: &str| rig.dir().join(name).to_string_lossy().into_owned();
    let (bundle, key) = (path("bundle.tar"), path("evidence.pub"));
    let asked = ["--purpose", "trial", "--case", "T-1", "--officer", "tester"];
    let export = ["evidence", "export", "--server", &rig.api(), "--plate", plate, "--out", &bundle];
    let run =
        |arguments: &[&str]| Command::new(GUIJI).args(arguments).output().expect("guiji runs");
    let exported = run(&[&export[..], &asked[..]].concat());
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let public = run(&["evidence", "key", "--config", &path("guiji.toml")]);
    std::fs::write(&key, &public.stdout).expect("written");
    let verify = || run(&["verify", &bundle, "--key", &key, "--json"]);
    let verified = verify();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let manifest: serde_json::Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    assert_eq!(manifest["clock"].as_array().map(Vec::len), Some(2), "{manifest:#}");
    assert_eq!(manifest["models_at_export"].as_array().map(Vec::len), Some(4), "{manifest:#}");
    assert_eq!(manifest["absent"].as_array().map(Vec::len), Some(0), "{manifest:#}");
    let frames: Vec<_> = (manifest["files"].as_array().expect("files").iter())
        .filter(|file| file["shows"] == "frame")
        .collect();
    assert_eq!(frames.len(), 2);
    for frame in frames {
        assert_eq!(frame["hidden"]["surroundings"], true, "{frame:#}");
        // Real JPEGs of the same picture: the vehicle was found by its cut-out.
        assert_eq!(frame["hidden"]["vehicle"], false, "{frame:#}");
        assert_ne!(frame["original"]["sha256"], frame["sha256"]);
    }
    let mut bytes = std::fs::read(&bundle).expect("the bundle");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&bundle, bytes).expect("written");
    let altered = verify();
    assert_eq!(altered.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&altered.stdout).contains("ALTERED: pictures/"), "{altered:?}");
}

#[test]
fn nothing_that_was_announced_is_lost_by_kill_9() {
    let _one_at_a_time = exclusive();
    let mut rig = Rig::serve_again_and_again();
    let runtime = rig::runtime();
    let suspect = rig.plate("suspect");
    let (mut announced, mut in_view): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for round in 0..3 {
        runtime.block_on(async {
            let client = connect(&rig).await;
            if round == 0 {
                let entry = rig::entry(&suspect);
                client.create_watchlist_entry("suspect", entry).await.expect("the entry is taken");
            }
            if round < 2 {
                let patience = Duration::from_secs(60);
                announced.extend(rig::announced_finals(&client, 2 + round, patience).await);
            } else {
                // While the watched vehicle is in view.
                in_view.push(rig::provisional_alert(&client, Duration::from_secs(60)).await);
            }
        });
        rig.server.kill();
        rig.restart_server();
        let (kept, log) = runtime.block_on(async {
            let client = connect(&rig).await;
            let log = client.list_alerts(0, 1000).await.expect("the alert log");
            (all_finals(&client).await, log)
        });
        for name in &announced {
            assert!(kept.iter().any(|s| s.name == *name), "{name} was announced and is gone");
        }
        for name in &in_view {
            use pb::AlertStage::{Confirmed, Withdrawn};
            let stages: Vec<_> =
                log.iter().filter(|a| a.name == *name).map(|a| a.stage()).collect();
            let ended = stages.iter().any(|stage| matches!(stage, Confirmed | Withdrawn));
            assert!(ended, "{name} never ends: {stages:?}");
            let sighting = &log.iter().find(|a| a.name == *name).expect("it is kept").sighting;
            assert!(kept.iter().any(|s| s.name == *sighting), "{sighting} is not final");
        }
    }
    assert!(rig.server.terminate().success());
}

#[test]
fn a_camera_that_dies_is_named_and_comes_back_without_disturbing_the_other() {
    let _one_at_a_time = exclusive();
    let mut rig = Rig::serve_again_and_again();
    let runtime = rig::runtime();
    let state = |id: &str| {
        let name = format!("cameras/{id}");
        let cameras =
            runtime.block_on(async { connect(&rig).await.cameras().await.expect("cameras") });
        let camera = cameras.into_iter().find(|camera| camera.name == name).expect("the camera");
        let health = camera.health.expect("health");
        (word::<CameraState>(health.state), health.analysed_count)
    };
    wait_for("both live", Duration::from_secs(40), || {
        state("a").0 == CameraState::Live && state("b").0 == CameraState::Live
    });
    for _ in 0..3 {
        rig.scenes.set_fault(&rig::camera_id("a"), Fault::Down);
        wait_for("the dead camera to be named", Duration::from_secs(30), || {
            state("a").0 != CameraState::Live
        });
        let before = state("b").1;
        wait_for("the other to go on", Duration::from_secs(10), || state("b").1 > before);
        rig.scenes.set_fault(&rig::camera_id("a"), Fault::None);
        wait_for("the camera to come back", Duration::from_secs(40), || {
            state("a").0 == CameraState::Live
        });
    }
    let table = rig::guiji(&rig, &["watch", "--once"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("2 live"), "{table:?}");
    assert!(rig.server.terminate().success());
}

#[test]
fn questions_without_authority_and_bad_questions_are_refused_with_the_mend() {
    let _one_at_a_time = exclusive();
    let mut rig = Rig::serve_again_and_again();
    runtime_ready(&rig);
    for (question, hints) in [
        (["search", "浙J1234I*"].as_slice(), ["digit 1"].as_slice()),
        (&["search", "--from", "1h", "--to", "2h"], &["end_time"]),
        (&["search", "--camera", "nowhere"], &["nowhere"]),
        (&["search", "--near", "121.4,29.1,100"], &["latitude"]),
        (&["trajectory", "浙J12"], &["6 to 9"]),
        (&["watchlist", "add", "w1", "浙J12345", "--reason", "r", "--days", "9999"], &["366"]),
        (
            &["watchlist", "add", "w1", "浙112345", "--reason", "r", "--days", "7"],
            &["fits no kind"],
        ),
        (&["evidence", "00000000000000000000000000000000"], &["sighting"]),
    ] {
        let answer = query(&rig, question);
        let message = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert_eq!(answer.status.code(), Some(2), "{question:?}: {message}");
        for hint in hints {
            assert!(message.contains(hint), "{question:?}: {message} lacks {hint}");
        }
    }
    let nobody = Command::new(GUIJI)
        .args(["query", "search", "--server", &rig.api(), "--purpose", "test"])
        .env_remove("GUIJI_CASE")
        .output()
        .expect("guiji runs");
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("--case"), "{nobody:?}");
    assert!(rig.server.terminate().success());
}

fn runtime_ready(rig: &Rig) {
    rig::runtime().block_on(async {
        connect(rig).await;
    });
}

#[test]
fn a_bad_configuration_ends_the_program_before_anything_is_opened() {
    let dir = tempfile::tempdir().expect("a folder");
    for (text, hint) in [
        ("[analysis]\nwokers = 2\n", "did you mean `workers`"),
        ("[server]\nlisten = \"0.0.0.0:7654\"\n", "server.insecure = true"),
        (
            "[[camera]]\nid = \"a\"\nlat = 1\nlon = 2\naddress = \"rtsp://u:geheim@h/x\"\n",
            "password_file",
        ),
        ("[models]\nmanifest = \"nowhere.toml\"\n", "nowhere.toml"),
    ] {
        let config = dir.path().join("guiji.toml");
        std::fs::write(&config, text).expect("written");
        let run = Command::new(GUIJI)
            .args(["run", "--config"])
            .arg(&config)
            .output()
            .expect("guiji runs");
        let message = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(2), "{text}: {message}");
        assert!(message.contains(hint), "{text}: {message} lacks {hint}");
        assert!(!message.contains("geheim"), "{message}");
    }
}

#[test]
fn a_recording_plays_as_fast_as_possible_and_the_program_ends() {
    let _one_at_a_time = exclusive();
    let dir = tempfile::tempdir().expect("a folder");
    let config = rig::config_without_cameras(dir.path());
    let clip = rig::story().join("clips/a.mp4");
    let run = Command::new(GUIJI)
        .args(["run", "--until-end", "--fast", "--print", "--config"])
        .arg(&config)
        .arg("--source")
        .arg(&clip)
        .output()
        .expect("guiji runs");
    let printed = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let passages = rig::passages_of("a");
    let lines = printed.lines().count();
    assert!((passages - 1..=passages + 1).contains(&lines), "{passages} passages\n{printed}");
}
