//! Alerts while the server is killed: no client and no receiver outside loses one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use guiji_api::pb;
use guiji_county::{County, CountySettings};
use guiji_domain::{Clock as _, SightingId, TimeSpan, TrackId};

use crate::rig::{
    GUIJI, Server, SystemClock, connect_to, entry, exclusive, free_address, header, repository,
    runtime, wait_for,
};

#[test]
fn a_follower_loses_no_alert_while_the_server_is_killed() {
    let _one_at_a_time = exclusive();
    let dir = tempfile::tempdir().expect("a folder");
    let run = Command::new(GUIJI)
        .current_dir(repository())
        .args(["bench", "alerts", "--json", "--seconds", "9", "--rate", "50", "--kills", "2"])
        .args(["--dir", &dir.path().join("bench").to_string_lossy()])
        .output()
        .expect("guiji runs");
    let printed = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{printed}{}", String::from_utf8_lossy(&run.stderr));
    let figures: serde_json::Value = serde_json::from_str(&printed).expect("one JSON object");
    let number = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
    assert!(number("alerts") > 20.0, "{printed}");
    assert_eq!((number("lost"), number("unfounded")), (0.0, 0.0), "{printed}");
    assert!(number("alert_p50_ms") > 0.0 && number("alert_p99_ms") > 0.0, "{printed}");
}

/// A webhook that notes the `webhook-id` of what it takes.
fn webhook() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = taken.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let notes = notes.clone();
            std::thread::spawn(move || while take(&stream, &notes).is_some() {});
        }
    });
    (port, taken)
}

fn take(mut stream: &TcpStream, notes: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut id, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("webhook-id") => {
                id = Some(value.to_owned());
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            _ if line.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    notes.lock().unwrap_or_else(PoisonError::into_inner).push(id?);
    write!(stream, "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").ok()
}

#[test]
fn a_webhook_gets_every_alert_of_a_server_that_is_killed() {
    const ROUNDS: u64 = 4;
    const EACH: usize = 40;
    let _one_at_a_time = exclusive();
    let dir = tempfile::tempdir().expect("a folder");
    let (port, taken) = webhook();
    let api = free_address();
    let config = dir.path().join("guiji.toml");
    fs::write(dir.path().join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .expect("written");
    let receiver = format!(
        "[[receiver]]\nid = \"desk\"\nwebhook = \"http://127.0.0.1:{port}/\"\nsecret_file = \"secret\"\n"
    );
    fs::write(&config, header(&api) + &receiver).expect("written");

    let now = SystemClock.now();
    let county = County::new(CountySettings {
        seed: 7,
        sightings: 5000,
        days: 1,
        error_rate: 0.0,
        start: now.minus(Duration::from_secs(86_400)),
    })
    .expect("a county");
    // One vehicle, read well, passing again and again.
    let read = county.passages().find(|passage| passage.sighting.plate_text().is_some());
    let seen = read.expect("a plate").sighting;
    let plate = seen.plate_text().expect("a plate").to_string();
    let runtime = runtime();
    let mut server = Server::start(dir.path(), &config);
    let mut due = BTreeSet::new();
    for round in 0..ROUNDS {
        runtime.block_on(async {
            let client = connect_to(&api, &server).await;
            if round == 0 {
                let cameras = county.cameras().iter().map(pb::Camera::from).collect();
                client.import_cameras(cameras).await.expect("cameras");
                client.create_watchlist_entry("w1", entry(&plate)).await.expect("an entry");
            }
            let now = SystemClock.now();
            let passing: Vec<_> = (0..EACH as u64)
                .map(|number| {
                    let mut again = seen.clone();
                    let track = TrackId(round * 1000 + number);
                    again.id = SightingId::for_track(&again.camera, track, now);
                    again.span = TimeSpan::new(now, now).expect("a span");
                    again.captured.at = now;
                    again
                })
                .collect();
            let mut import = client.import_sightings();
            import.send(passing.iter().map(pb::Sighting::from).collect()).await;
            let answer = import.finish().await.expect("acknowledged");
            assert_eq!(answer.stored_count, EACH as u64, "{answer:?}");
            due.extend(passing.iter().map(|seen| format!("{}.w1.confirmed", seen.id)));
        });
        // In the middle of the deliveries, as a look at the notes shows in most runs.
        server.kill();
        server = Server::start(dir.path(), &config);
    }
    wait_for("every alert", Duration::from_secs(60), || {
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        due.iter().all(|id| taken.contains(id))
    });
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(taken.iter().all(|id| due.contains(id)), "nothing else came");
}

/// A unit without an area, shift or neighbours.
fn unit(id: &str, duty: pb::PatrolDuty) -> pb::PatrolUnit {
    pb::PatrolUnit {
        name: format!("patrolUnits/{id}"),
        display_name: id.into(),
        duty: duty.into(),
        ..Default::default()
    }
}

#[test]
fn an_alert_that_nobody_answers_goes_up_once_a_level_whenever_the_server_is_killed() {
    const COUNT: usize = 30;
    const ANSWERED: usize = 10;
    let _one_at_a_time = exclusive();
    let dir = tempfile::tempdir().expect("a folder");
    let (port, taken) = webhook();
    let api = free_address();
    let config = dir.path().join("guiji.toml");
    fs::write(dir.path().join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .expect("written");
    let rest = format!(
        "[alerts]\nescalate_after_s = 3\nrepeat_within_s = 0\n\
         [[receiver]]\nid = \"desk\"\nwebhook = \"http://127.0.0.1:{port}/\"\nsecret_file = \"secret\"\n"
    );
    fs::write(&config, header(&api) + &rest).expect("written");
    let now = SystemClock.now();
    let county = County::new(CountySettings {
        seed: 7,
        sightings: 5000,
        days: 1,
        error_rate: 0.0,
        start: now.minus(Duration::from_secs(86_400)),
    })
    .expect("a county");
    let read = county.passages().find(|passage| passage.sighting.plate_text().is_some());
    let seen = read.expect("a plate").sighting;
    let plate = seen.plate_text().expect("a plate").to_string();

    let runtime = runtime();
    let mut server = Server::start(dir.path(), &config);
    let names: Vec<String> = runtime.block_on(async {
        let client = connect_to(&api, &server).await;
        let cameras = county.cameras().iter().map(pb::Camera::from).collect();
        client.import_cameras(cameras).await.expect("cameras");
        client.create_watchlist_entry("w1", entry(&plate)).await.expect("an entry");
        let east = pb::PatrolUnit {
            cameras: vec![format!("cameras/{}", seen.camera)],
            neighbours: vec!["patrolUnits/north".into()],
            ..unit("east", pb::PatrolDuty::Patrol)
        };
        // North's own area is elsewhere.
        let elsewhere = county.cameras().iter().find(|camera| camera.id != seen.camera);
        let north = pb::PatrolUnit {
            cameras: vec![format!("cameras/{}", elsewhere.expect("another camera").id)],
            ..unit("north", pb::PatrolDuty::Patrol)
        };
        for unit in [east, north, unit("room", pb::PatrolDuty::ControlRoom)] {
            client.create_patrol_unit(unit).await.expect("a unit");
        }
        let now = SystemClock.now();
        let passing: Vec<_> = (0..COUNT as u64)
            .map(|number| {
                let mut again = seen.clone();
                again.id = SightingId::for_track(&again.camera, TrackId(number), now);
                again.span = TimeSpan::new(now, now).expect("a span");
                again.captured.at = now;
                again
            })
            .collect();
        let mut import = client.import_sightings();
        import.send(passing.iter().map(pb::Sighting::from).collect()).await;
        let answer = import.finish().await.expect("acknowledged");
        assert_eq!(answer.stored_count, COUNT as u64, "{answer:?}");
        let names: Vec<_> = passing.iter().map(|seen| format!("alerts/{}.w1", seen.id)).collect();
        for name in &names[..ANSWERED] {
            client.acknowledge_alert(name, "patrolUnits/east", "").await.expect("acknowledged");
        }
        names
    });
    // Before, and again in the middle of going up.
    server.kill();
    server = Server::start(dir.path(), &config);
    let come = |stage: &str| {
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().filter(|id| id.ends_with(stage)).collect::<BTreeSet<_>>().len()
    };
    let patience = Duration::from_secs(60);
    wait_for("the first to go up", patience, || come(".escalated_to_neighbours") > 0);
    server.kill();
    server = Server::start(dir.path(), &config);
    wait_for("all that nobody answered to be at the top", patience, || {
        come(".escalated_to_control_room") >= COUNT - ANSWERED
    });

    let log = runtime.block_on(async {
        connect_to(&api, &server).await.list_alerts(0, 1000).await.expect("the log")
    });
    use pb::AlertStage::{Acknowledged, Confirmed, EscalatedToControlRoom, EscalatedToNeighbours};
    let told = |stage| match stage {
        EscalatedToNeighbours => "patrolUnits/north",
        EscalatedToControlRoom => "patrolUnits/room",
        _ => "patrolUnits/east",
    };
    for (number, name) in names.iter().enumerate() {
        let stages: Vec<_> = log.iter().filter(|alert| alert.name == *name).collect();
        let order: Vec<_> = stages.iter().map(|alert| alert.stage()).collect();
        if number < ANSWERED {
            // On a machine that stood still, some may have gone up before the answer came; none does after it.
            assert_eq!(order.last(), Some(&Acknowledged), "{name}: {order:?}");
        } else {
            let due = [Confirmed, EscalatedToNeighbours, EscalatedToControlRoom];
            assert_eq!(order, due, "{name}, each stage once");
            for alert in stages {
                assert_eq!(alert.patrol_units, [told(alert.stage())], "{alert:?}");
            }
        }
    }
    wait_for("the acknowledgements outside", patience, || come(".acknowledged") == ANSWERED);
}
