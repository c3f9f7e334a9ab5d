//! A real store with alerts in it, and a webhook that answers as it is told.
#![allow(dead_code)] // each test binary takes what it needs

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use guiji_delivery::*;
use guiji_domain::*;
use guiji_store::{Deliveries, Durability, Store, StoreSettings};

pub(crate) const START: Timestamp = Timestamp::from_secs(1_795_478_400);
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The store of a folder, and what couriers need of it.
pub(crate) struct Rig {
    pub(crate) store: Arc<Store>,
    pub(crate) ledger: Arc<Deliveries>,
}

impl Rig {
    pub(crate) fn open(folder: &Path) -> Self {
        let store = Arc::new(Store::open(StoreSettings::new(folder)).unwrap());
        let ledger = Arc::new(Deliveries::open(folder, Durability::Full).unwrap());
        Self { store, ledger }
    }

    /// Logs the alert of a sighting at camera k1; its cursor.
    pub(crate) fn ring(&self, number: i64) -> Alert {
        let camera = CameraId::new("k1").unwrap();
        let started = START.plus(Duration::from_secs(number.unsigned_abs()));
        let captured =
            CaptureTime { at: started, uncertainty: Duration::ZERO, source: ClockSource::Stated };
        let sighting = Sighting {
            id: SightingId::for_track(&camera, TrackId(number.unsigned_abs()), started),
            stage: SightingStage::Final,
            camera: camera.clone(),
            span: TimeSpan::new(started, started).unwrap(),
            captured,
            plate: PlateState::NotRead,
            vehicle: Vehicle { class: None, colour: None },
            direction: None,
            frames: 1,
            evidence: Vec::new(),
        };
        let plate = PlateText::parse("浙J12345").unwrap();
        let alert = Alert {
            id: AlertId { sighting: sighting.id, entry: WatchEntryId::new("w1").unwrap() },
            cursor: 0,
            stage: AlertStage::Confirmed,
            raised: started,
            camera,
            captured,
            read: Some(plate.clone()),
            target: WatchTarget::Plate(plate),
            case_number: "A-1".into(),
            probability: 0.9,
            units: Vec::new(),
            acknowledgement: None,
            repeat: None,
        };
        let record =
            Recorded { sighting: Arc::new(sighting), pictures: Vec::new(), alerts: vec![alert] };
        self.store.record(&[record]).unwrap().alerts.remove(0)
    }

    pub(crate) fn couriers(&self, receivers: Vec<Receiver>) -> Couriers {
        let parts = CourierParts {
            log: self.store.clone(),
            ledger: self.ledger.clone(),
            clock: Arc::new(SimulatedClock::at(START)),
            write: Arc::new(|alert| format!("{{\"cursor\":{}}}", alert.cursor)),
        };
        let quick = |first, cap| BackOff {
            first: Duration::from_millis(first),
            cap: Duration::from_millis(cap),
        };
        let settings =
            CourierSettings { retry: quick(20, 100), aside: quick(50, 100), aside_max: 2 };
        Couriers::start(&parts, &settings, receivers).unwrap()
    }

    pub(crate) fn standing(&self, receiver: &str) -> Standing {
        self.ledger.standing(&ReceiverId::new(receiver).unwrap()).unwrap().unwrap()
    }
}

pub(crate) fn receiver(id: &str, carrier: impl Carrier + 'static) -> Receiver {
    Receiver {
        id: ReceiverId::new(id).unwrap(),
        carrier: Box::new(carrier),
        concerns: Box::new(|_| true),
        from_beginning: true,
    }
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request that a webhook got.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// An HTTP/1.1 server on a port of its own.
pub(crate) struct Hook {
    pub(crate) port: u16,
    pub(crate) got: Arc<Mutex<Vec<Posted>>>,
    /// The status of the next answers; 204 when there is none.
    pub(crate) answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Hook {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let hook = Self {
            port: listener.local_addr().unwrap().port(),
            got: Arc::default(),
            answers: Arc::default(),
        };
        let (got, answers) = (hook.got.clone(), hook.answers.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (got, answers) = (got.clone(), answers.clone());
                thread::spawn(move || while serve(&stream, &got, &answers).is_some() {});
            }
        });
        hook
    }

    pub(crate) fn carrier(&self) -> Webhook {
        Webhook::new(WebhookSettings {
            url: format!("http://127.0.0.1:{}/alerts", self.port),
            secret: WebhookSecret::parse(SECRET).unwrap(),
            authorities: None,
            patience: Duration::from_secs(5),
        })
        .unwrap()
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.got.lock().unwrap().iter().map(|posted| posted.body.clone()).collect()
    }
}

fn serve(
    mut stream: &TcpStream,
    got: &Mutex<Vec<Posted>>,
    answers: &Mutex<VecDeque<u16>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    got.lock().unwrap().push(Posted { headers, body });
    let status = answers.lock().unwrap().pop_front().unwrap_or(204);
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").ok()
}
