//! A real broker (mosquitto), killed and started again.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::*;
use guiji_delivery::*;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

struct Broker {
    port: u16,
    config: PathBuf,
    process: Child,
}

impl Broker {
    fn start(folder: &Path) -> Self {
        let place = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = place.local_addr().unwrap().port();
        drop(place);
        let config = folder.join("mosquitto.conf");
        std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n"))
            .unwrap();
        Self { port, process: run(&config), config }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Until it listens.
    fn wait(&self) {
        eventually("the broker listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn start_again(&mut self) {
        self.process = run(&self.config);
    }

    fn carrier(&self) -> Mqtt {
        Mqtt::new(&MqttSettings {
            address: format!("mqtt://127.0.0.1:{}", self.port),
            client_id: "guiji-test".into(),
            login: None,
            authorities: None,
            topic_prefix: "guiji/alerts".into(),
            patience: Duration::from_secs(3),
        })
        .unwrap()
    }

    /// Listens to everything, coming back whenever the broker does.
    fn listen(&self) -> Arc<Mutex<Vec<(String, String)>>> {
        let heard: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let (heard_there, port) = (heard.clone(), self.port);
        let (ready, subscribed) = std::sync::mpsc::sync_channel(100);
        thread::spawn(move || {
            loop {
                let (client, mut connection) =
                    Client::new(MqttOptions::new("listener", "127.0.0.1", port), 10);
                client.try_subscribe("guiji/#", QoS::AtLeastOnce).unwrap();
                for event in connection.iter() {
                    match event {
                        Ok(Event::Incoming(Packet::Publish(publish))) => {
                            let body = String::from_utf8(publish.payload.to_vec()).unwrap();
                            heard_there.lock().unwrap().push((publish.topic, body));
                        }
                        Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.send(())),
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        subscribed.recv_timeout(PATIENCE).unwrap();
        heard
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
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

#[test]
fn alerts_reach_a_broker_that_is_killed_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    let mut broker = Broker::start(folder.path());
    let heard = broker.listen();
    let couriers = rig.couriers(vec![receiver("broker", broker.carrier())]);
    for round in 0..4 {
        for number in 0..5 {
            rig.ring(round * 10 + number);
            couriers.wake();
        }
        let reached = 5 * (round as u64 + 1) - 2;
        if round % 2 == 0 {
            eventually("most of them", || rig.standing("broker").reached >= reached);
        }
        broker.kill();
        rig.ring(round * 10 + 5);
        rig.ring(round * 10 + 6);
        broker.start_again();
    }
    eventually("everything is proved", || rig.standing("broker").reached == 28);
    let proved = (0..28).filter(|number| {
        let alert =
            &guiji_domain::AlertLog::alerts_after(rig.store.as_ref(), *number, 1).unwrap()[0];
        !guiji_domain::DeliveryLedger::deliveries(rig.ledger.as_ref(), &alert.id)
            .unwrap()
            .is_empty()
    });
    assert_eq!(proved.count(), 28);
    // What this broker acknowledged just before it was killed, or while nobody listened, it may have lost itself. Once
    // the listener is back, everything is heard.
    let mut number = 100;
    eventually("the listener is back", || {
        number += 1;
        let last = rig.ring(number);
        couriers.wake();
        eventually("it is proved", || rig.standing("broker").reached == last.cursor);
        heard.lock().unwrap().iter().any(|(_, body)| body.contains(&format!(":{}}}", last.cursor)))
    });
    let due: Vec<_> =
        (200..210).map(|number| format!("{{\"cursor\":{}}}", rig.ring(number).cursor)).collect();
    couriers.wake();
    eventually("all ten are heard", || {
        let heard = heard.lock().unwrap();
        due.iter().all(|body| heard.iter().any(|(_, other)| other == body))
    });
    let heard = heard.lock().unwrap();
    assert!(heard.iter().all(|(topic, _)| topic == "guiji/alerts/k1"), "{heard:?}");
}

#[test]
fn an_idle_line_that_broke_is_replaced_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    let mut broker = Broker::start(folder.path());
    broker.wait();
    let couriers = rig.couriers(vec![receiver("broker", broker.carrier())]);
    rig.ring(0);
    couriers.wake();
    eventually("the first", || rig.standing("broker").reached == 1);
    broker.kill();
    broker.start_again();
    broker.wait();
    let heard = broker.listen();
    rig.ring(1);
    couriers.wake();
    eventually("the second", || rig.standing("broker").reached == 2);
    eventually("it is heard", || !heard.lock().unwrap().is_empty());
    assert_eq!(couriers.health()[0].failed, 0, "nobody noticed");
}
