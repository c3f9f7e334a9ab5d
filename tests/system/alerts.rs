//! Alerts while server, broker and client are killed: no client and no receiver outside loses one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use guiji_api::client::Client;
use guiji_api::pb;
use guiji_county::{County, CountySettings};
use guiji_domain::{
    Authority, Clock as _, PlateState, Sighting, SightingId, SightingStage, TimeSpan, TrackId,
};
use rumqttc::{Event, MqttOptions, Packet, QoS};

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
        .args(["--live", "0"])
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

/// A sighting of which the plate is sure: of one that is not, a watch-list's entry rightly hears nothing.
fn read_well(county: &County) -> Sighting {
    let sure =
        |seen: &Sighting| matches!(&seen.plate, PlateState::Read(plate) if plate.confidence > 0.9);
    county.passages().map(|passage| passage.sighting).find(sure).expect("a plate")
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
    let seen = read_well(&county);
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
    let seen = read_well(&county);
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

/// What was told to somebody: the alert's name and stage, as the same JSON says it everywhere.
type Told = Arc<Mutex<BTreeSet<String>>>;

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cursor, name and stage of an alert; `None` for half a line of somebody who was killed.
fn told_of(json: &str) -> Option<(u64, String)> {
    let alert: serde_json::Value = serde_json::from_str(json).ok()?;
    let cursor = alert["cursor"].as_str()?.parse().ok()?;
    Some((cursor, format!("{} {}", alert["name"].as_str()?, alert["stage"].as_str()?)))
}

/// A mosquitto that keeps its sessions over a kill.
struct Broker {
    address: String,
    config: PathBuf,
    process: Child,
}

impl Broker {
    fn start(dir: &Path) -> Self {
        let address = free_address();
        let port = address.rsplit_once(':').expect("a port").1;
        let config = dir.join("mosquitto.conf");
        // A user of its own could not write to our folder; who is not root ignores it. Whoever listens gets at once what
        // comes, so that what was acknowledged is on its way.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {}/\nautosave_on_changes true\nautosave_interval 1\n\
             max_inflight_messages 0\nmax_queued_messages 0\n",
            dir.display()
        );
        fs::write(&config, text).expect("written");
        let process = Self::run(&config);
        Self { address, config, process }
    }

    fn run(config: &Path) -> Child {
        // Debian keeps daemons where only root's PATH looks.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        Command::new("mosquitto")
            .env("PATH", path)
            .arg("-c")
            .arg(config)
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto runs: it is a system package that `./x test` installs")
    }

    fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }

    fn start_again(&mut self) {
        self.process = Self::run(&self.config);
    }

    /// Listens with a session that outlives connections; says whenever it is there.
    fn listen(&self, told: Told) -> std::sync::mpsc::Receiver<()> {
        let (here, is_here) = sync_channel(100);
        let (host, port) = self.address.split_once(':').expect("an address");
        let (host, port) = (host.to_owned(), port.parse().expect("a port"));
        thread::spawn(move || {
            loop {
                let mut options = MqttOptions::new("listener", &host, port);
                options.set_clean_session(false);
                let (client, mut connection) = rumqttc::Client::new(options, 10);
                client.try_subscribe("guiji/#", QoS::AtLeastOnce).expect("room for it");
                for event in connection.iter() {
                    match event {
                        Ok(Event::Incoming(Packet::Publish(publish))) => {
                            let body = String::from_utf8_lossy(&publish.payload);
                            held(&told).insert(told_of(&body).expect("an alert").1);
                        }
                        Ok(Event::Incoming(Packet::SubAck(_))) => drop(here.try_send(())),
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        is_here
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// `guiji query alerts --follow`, started again with its cursor whenever it ends.
struct Follower {
    child: Arc<Mutex<Option<Child>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    fn start(api: &str, told: Told) -> Self {
        let (child, stop) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let (running, stopped, api) = (child.clone(), stop.clone(), api.to_owned());
        let thread = thread::spawn(move || {
            let mut cursor = 0;
            while !stopped.load(SeqCst) {
                let mut process = Command::new(GUIJI)
                    .args(["query", "alerts", "--follow", "--json", "--server", &api])
                    .args(["--after", &u64::to_string(&cursor)])
                    .args(["--purpose", "system test", "--case", "T-1", "--officer", "tester"])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("guiji starts");
                let out = process.stdout.take().expect("its output");
                *held(&running) = Some(process);
                // Who wanted to stop just before has not seen it.
                if stopped.load(SeqCst) {
                    drop(held(&running).as_mut().map(Child::kill));
                }
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if let Some((place, key)) = told_of(&line) {
                        cursor = place;
                        held(&told).insert(key);
                    }
                }
                let ended = held(&running).take();
                drop(ended.map(|mut process| process.wait()));
                thread::sleep(Duration::from_millis(50));
            }
        });
        Self { child, stop, thread: Some(thread) }
    }

    fn kill(&self) {
        drop(held(&self.child).as_mut().map(Child::kill));
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.kill();
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Numbers that look like chance (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Imports until it is acknowledged, whoever is killed meanwhile.
async fn import_patiently(api: &str, sightings: &[Sighting]) {
    let authority = Authority::new("system test", "T-1", "tester").expect("an authority");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(client) = Client::connect(api, &authority).await {
            let mut import = client.import_sightings();
            import.send(sightings.iter().map(pb::Sighting::from).collect()).await;
            if let Ok(answer) = import.finish().await {
                assert_eq!(answer.refused_count, 0, "{answer:?}");
                return;
            }
        }
        assert!(std::time::Instant::now() < deadline, "the import is never acknowledged");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Imports a passage of the watched vehicle after another, until told to stop; what must be told of them.
fn import_without_end(
    api: String,
    seen: Sighting,
    stop: Arc<AtomicBool>,
    imported: Arc<AtomicU64>,
) -> JoinHandle<BTreeSet<String>> {
    thread::spawn(move || {
        runtime().block_on(async {
            let mut due = BTreeSet::new();
            for number in 0.. {
                if stop.load(SeqCst) {
                    break;
                }
                let now = SystemClock.now();
                let mut passing = seen.clone();
                passing.id = SightingId::for_track(&passing.camera, TrackId(number), now);
                passing.span = TimeSpan::at(now);
                passing.captured.at = now;
                // Every other one is told of while it is in view, and then once more.
                if number % 2 == 0 {
                    let begun = Sighting { stage: SightingStage::Provisional, ..passing.clone() };
                    import_patiently(&api, &[begun]).await;
                    due.insert(format!("alerts/{}.w1 ALERT_STAGE_PROVISIONAL", passing.id));
                }
                due.insert(format!("alerts/{}.w1 ALERT_STAGE_CONFIRMED", passing.id));
                import_patiently(&api, &[passing]).await;
                imported.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            due
        })
    })
}

#[test]
fn nobody_loses_an_alert_while_server_broker_and_client_are_killed_at_random() {
    const KILLS_EACH: usize = 2;
    let _one_at_a_time = exclusive();
    let dir = tempfile::tempdir().expect("a folder");
    let mut chance = Chance(u64::from(std::process::id()));
    let mut broker = Broker::start(dir.path());
    let (outside, followed) = (Told::default(), Told::default());
    let listener = broker.listen(outside.clone());
    listener.recv_timeout(Duration::from_secs(20)).expect("the broker takes a listener");

    let api = free_address();
    let config = dir.path().join("guiji.toml");
    let receiver = format!(
        "[alerts]\nrepeat_within_s = 0\n[[receiver]]\nid = \"broker\"\nmqtt = \"mqtt://{}\"\n",
        broker.address
    );
    fs::write(&config, header(&api) + &receiver).expect("written");
    let mut server = Server::start(dir.path(), &config);
    let county = County::new(CountySettings {
        seed: 7,
        sightings: 5000,
        days: 1,
        error_rate: 0.0,
        start: SystemClock.now().minus(Duration::from_secs(86_400)),
    })
    .expect("a county");
    let seen = read_well(&county);
    let plate = seen.plate_text().expect("a plate").to_string();
    runtime().block_on(async {
        let client = connect_to(&api, &server).await;
        let cameras = county.cameras().iter().map(pb::Camera::from).collect();
        client.import_cameras(cameras).await.expect("cameras");
        client.create_watchlist_entry("w1", entry(&plate)).await.expect("an entry");
    });
    let follower = Follower::start(&api, followed.clone());
    let (stop, imported) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let importer = import_without_end(api.clone(), seen, stop.clone(), imported.clone());

    let mut kills: Vec<usize> = (0..3 * KILLS_EACH).map(|number| number % 3).collect();
    for last in (1..kills.len()).rev() {
        kills.swap(last, chance.below(last as u64 + 1) as usize);
    }
    println!("killed in this order: {kills:?}");
    for victim in kills {
        thread::sleep(Duration::from_millis(chance.below(300)));
        match victim {
            0 => {
                server.kill();
                server = Server::start(dir.path(), &config);
            }
            1 => {
                broker.kill();
                while listener.try_recv().is_ok() {}
                broker.start_again();
                // What a broker has acknowledged while its listener was away, it may lose in the next kill.
                listener.recv_timeout(Duration::from_secs(20)).expect("the listener is back");
            }
            _ => follower.kill(),
        }
        // Something goes through between two kills, at least into the log.
        let before = imported.load(SeqCst);
        wait_for("an import", Duration::from_secs(60), || imported.load(SeqCst) > before);
    }
    stop.store(true, SeqCst);
    let due = importer.join().expect("the importer");
    assert!(due.len() > 10, "{}", due.len());
    for (who, told) in [("the follower", &followed), ("the broker", &outside)] {
        wait_for(who, Duration::from_secs(60), || {
            let missing = due.difference(&held(told)).count();
            println!("{who} lacks {missing} of {}", due.len());
            missing == 0
        });
        let told = held(told);
        assert!(told.is_subset(&due), "{who} was told of what nobody saw: {told:?}");
    }

    // And each is proven.
    let alert = due.first().and_then(|key| key.split(' ').next()).expect("an alert");
    let proof = || {
        Command::new(GUIJI)
            .args(["query", "alerts", "--proof", alert, "--json", "--server", &api])
            .args(["--purpose", "system test", "--case", "T-1", "--officer", "tester"])
            .output()
            .expect("guiji runs")
    };
    wait_for("the proof of the last stage", Duration::from_secs(60), || {
        String::from_utf8_lossy(&proof().stdout).contains("ALERT_STAGE_CONFIRMED")
    });
    let printed = String::from_utf8_lossy(&proof().stdout).into_owned();
    let told = due.iter().filter(|key| key.starts_with(alert)).count();
    assert_eq!(printed.lines().count(), told, "{printed}");
    assert!(printed.lines().all(|line| line.contains("PUBACK")), "{printed}");
}
