//! Parts that answer from memory and can be told to be slow, to fail and to panic.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use guiji_analysis::odd::Finding;
use guiji_api::client::Client;
use guiji_api::{
    ApiError, ApiParts, ApiServer, ApiSettings, ClientCertificates, ServerTls, TokenVerifier, pb,
};
use guiji_domain::*;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) sightings: Mutex<Vec<Sighting>>,
    pub(crate) pictures: Mutex<HashMap<Digest, Vec<u8>>>,
    pub(crate) alerts: Mutex<Vec<Alert>>,
    pub(crate) deliveries: Mutex<Vec<Delivery>>,
    pub(crate) entries: Mutex<BTreeMap<WatchEntryId, WatchEntry>>,
    pub(crate) cameras: Mutex<BTreeMap<CameraId, Camera>>,
    /// Closed cameras that are open for a while.
    pub(crate) openings: Mutex<BTreeMap<CameraId, Opening>>,
    pub(crate) watchlist_changes: AtomicU64,
    pub(crate) reload_fails: AtomicBool,
    /// The latest alert that was ever read out of the log.
    pub(crate) alerts_read_to: AtomicU64,
    pub(crate) search_takes: Mutex<Duration>,
    pub(crate) searches_begun: AtomicU64,
    pub(crate) search_panics: AtomicBool,
    /// Whether a search ends only when it is told that nobody waits.
    pub(crate) searches_until_stopped: AtomicBool,
    pub(crate) medium_fails: AtomicBool,
    pub(crate) audit: Mutex<Vec<AuditEntry>>,
    pub(crate) audit_fails: AtomicBool,
    pub(crate) releases: Mutex<Vec<Release>>,
    pub(crate) orders: Mutex<Vec<ExportOrder>>,
    /// What the audit is said to show, and since when it was asked for.
    pub(crate) odd: Mutex<Vec<Finding>>,
    pub(crate) odd_since: Mutex<Option<Timestamp>>,
}

impl Scripted {
    fn medium(&self) -> Result<(), StoreError> {
        if self.medium_fails.load(Ordering::SeqCst) {
            let reason = "/var/lib/secret.db: input/output error".into();
            return Err(StoreError::Medium { doing: "read", reason });
        }
        Ok(())
    }

    fn reload(&self) -> Result<(), StoreError> {
        if self.reload_fails.load(Ordering::SeqCst) {
            let reason = "/var/lib/secret.db: input/output error".into();
            return Err(StoreError::Medium { doing: "read", reason });
        }
        Ok(())
    }

    /// Logs so many alerts.
    pub(crate) fn ring(&self, count: usize) {
        let mut alerts = self.alerts.lock().unwrap();
        for _ in 0..count {
            let cursor = alerts.len() as u64 + 1;
            alerts.push(alert(cursor));
        }
    }
}

impl SightingStore for Scripted {
    fn record(&self, _: &[Recorded]) -> Result<Receipt, StoreError> {
        unreachable!("the API records nothing")
    }

    fn get(&self, id: SightingId) -> Result<Option<Sighting>, StoreError> {
        self.medium()?;
        Ok(self.sightings.lock().unwrap().iter().find(|s| s.id == id).cloned())
    }

    fn unfinished(&self, _: Option<SightingId>, _: usize) -> Result<Vec<Sighting>, StoreError> {
        unreachable!("the API finishes nothing")
    }

    fn search(&self, query: &SightingQuery) -> Result<SightingPage, StoreError> {
        // What learns the roads asks for the newest sighting alone, whenever it likes.
        self.searches_begun.fetch_add(u64::from(query.limit > 1), Ordering::SeqCst);
        std::thread::sleep(*self.search_takes.lock().unwrap());
        assert!(!self.search_panics.load(Ordering::SeqCst), "scripted panic");
        while self.searches_until_stopped.load(Ordering::SeqCst) {
            query.stop.check("search")?;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.medium()?;
        let sightings = self.sightings.lock().unwrap();
        let mut found: Vec<_> = sightings.iter().filter(|s| query.accepts(s)).cloned().collect();
        found.sort_by_key(|s| (s.captured.at, s.id));
        if query.order == SortOrder::NewestFirst {
            found.reverse();
        }
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        Ok(SightingPage { sightings: found, more })
    }

    fn evidence(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.pictures.lock().unwrap().get(digest).cloned())
    }
}

impl LikelySearch for Scripted {
    fn likely(&self, query: &LikelyQuery) -> Result<Vec<Likely>, StoreError> {
        let sightings = self.sightings.lock().unwrap();
        let found = sightings.iter().filter_map(|sighting| {
            query.probability(sighting).map(|probability| Likely {
                sighting: sighting.clone(),
                probability,
                misread: sighting.plate_text() != Some(&query.plate),
            })
        });
        Ok(found.take(query.limit).collect())
    }

    fn times_read(
        &self,
        plates: &[PlateText],
        span: TimeSpan,
        cameras: Option<&[CameraId]>,
        most: usize,
    ) -> Result<Vec<usize>, StoreError> {
        let sightings = self.sightings.lock().unwrap();
        let cameras = cameras.map(<[CameraId]>::to_vec);
        let query = SightingQuery { cameras, ..SightingQuery::all_in(span, most) };
        let counts = plates.iter().map(|plate| {
            let read = |s: &&Sighting| s.plate_text() == Some(plate) && query.accepts(s);
            sightings.iter().filter(read).take(most).count()
        });
        Ok(counts.collect())
    }
}

impl PassageSource for Scripted {
    fn passages(
        &self,
        span: TimeSpan,
        visit: &mut dyn FnMut(&PlatePassage<'_>),
    ) -> Result<(), StoreError> {
        self.medium()?;
        let sightings = self.sightings.lock().unwrap();
        for sighting in sightings.iter().filter(|s| span.contains(s.captured.at)) {
            let Some(plate) = sighting.plate_text() else { continue };
            visit(&PlatePassage {
                plate,
                camera: &sighting.camera,
                at: sighting.captured.at,
                class: sighting.vehicle.class.map(|(class, _)| class),
                colour: sighting.vehicle.colour.map(|(colour, _)| colour),
            });
        }
        Ok(())
    }
}

impl SightingIntake for Scripted {
    fn take_in(&self, _: &mut [Recorded]) -> Result<Receipt, StoreError> {
        unreachable!("imports are tested with the real intake")
    }

    fn log_alert(&self, alert: Alert) -> Result<Option<Alert>, StoreError> {
        self.append(&alert)
    }
}

impl AlertLog for Scripted {
    fn alerts_after(&self, cursor: u64, limit: usize) -> Result<Vec<Alert>, StoreError> {
        self.medium()?;
        let alerts = self.alerts.lock().unwrap();
        let found: Vec<_> =
            alerts.iter().filter(|a| a.cursor > cursor).take(limit).cloned().collect();
        if let Some(last) = found.last() {
            self.alerts_read_to.fetch_max(last.cursor, Ordering::SeqCst);
        }
        Ok(found)
    }

    fn last_cursor(&self) -> Result<u64, StoreError> {
        Ok(self.alerts.lock().unwrap().last().map_or(0, |a| a.cursor))
    }

    fn alerts_of(&self, sightings: &[SightingId]) -> Result<Vec<Alert>, StoreError> {
        let alerts = self.alerts.lock().unwrap();
        Ok(alerts.iter().filter(|a| sightings.contains(&a.id.sighting)).cloned().collect())
    }

    fn alert_history(&self, id: &AlertId) -> Result<Vec<Alert>, StoreError> {
        let alerts = self.alerts.lock().unwrap();
        Ok(alerts.iter().filter(|a| a.id == *id).cloned().collect())
    }

    fn append(&self, alert: &Alert) -> Result<Option<Alert>, StoreError> {
        let mut alerts = self.alerts.lock().unwrap();
        if alerts.iter().any(|a| a.id == alert.id && a.stage == alert.stage) {
            return Ok(None);
        }
        let alert = Alert { cursor: alerts.len() as u64 + 1, ..alert.clone() };
        alerts.push(alert.clone());
        Ok(Some(alert))
    }
}

impl DeliveryLedger for Scripted {
    fn standing(&self, _: &ReceiverId) -> Result<Option<Standing>, StoreError> {
        unreachable!("the API delivers nothing outside")
    }

    fn settle(&self, _: &ReceiverId, _: &Standing, _: &[Delivery]) -> Result<(), StoreError> {
        unreachable!("the API delivers nothing outside")
    }

    fn deliveries(&self, alert: &AlertId) -> Result<Vec<Delivery>, StoreError> {
        let all = self.deliveries.lock().unwrap();
        Ok(all.iter().filter(|proof| proof.alert == *alert).cloned().collect())
    }
}

impl AuditLog for Scripted {
    fn submit(&self, entry: AuditEntry, done: AuditDone) {
        if self.audit_fails.load(Ordering::SeqCst) {
            let reason = "/var/lib/secret: input/output error".into();
            return done(Err(StoreError::Medium { doing: "write the audit", reason }));
        }
        let mut audit = self.audit.lock().unwrap();
        audit.push(entry);
        let number = audit.len() as u64;
        drop(audit);
        done(Ok(number));
    }
}

/// A bundle of two pieces, the second of which is longer than a chunk.
impl EvidenceSealer for Scripted {
    fn picture(
        &self,
        _: &Sighting,
        evidence: &Evidence,
        people: People,
    ) -> Result<Option<LeavingPicture>, StoreError> {
        let original = self.evidence(&evidence.digest)?;
        Ok(original.map(|original| match people {
            People::Shown => LeavingPicture::Original(original),
            People::Blurred => LeavingPicture::Redacted(RedactedPicture {
                bytes: b"nobody".to_vec(),
                media_type: "image/png",
                hidden: Hidden::default(),
            }),
        }))
    }

    fn begin(&self, order: ExportOrder) -> Box<dyn Sealing> {
        self.orders.lock().unwrap().push(order);
        Box::new(Pieces(vec![vec![2; 100_000], b"begin".to_vec()]))
    }
}

struct Pieces(Vec<Vec<u8>>);

impl Sealing for Pieces {
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.pop())
    }
}

impl ReleaseBook for Scripted {
    fn grant(&self, release: Release) -> Result<u64, StoreError> {
        let mut releases = self.releases.lock().unwrap();
        let number = releases.len() as u64 + 1;
        releases.push(Release { number, ..release });
        Ok(number)
    }

    fn revoke(&self, number: u64) -> Result<bool, StoreError> {
        let mut releases = self.releases.lock().unwrap();
        let before = releases.len();
        releases.retain(|release| release.number != number);
        Ok(releases.len() < before)
    }

    fn releases(&self, now: Timestamp) -> Vec<Release> {
        let releases = self.releases.lock().unwrap();
        releases.iter().filter(|release| now < release.expires).cloned().collect()
    }
}

fn changed(parts: &Arc<Scripted>) -> guiji_api::Changed {
    let parts = Arc::clone(parts);
    Arc::new(move || parts.reload())
}

type OddSince = Arc<dyn Fn(Timestamp) -> Result<Vec<Finding>, StoreError> + Send + Sync>;

pub(crate) fn odd_of(parts: &Arc<Scripted>) -> OddSince {
    let parts = Arc::clone(parts);
    Arc::new(move |since| {
        *parts.odd_since.lock().unwrap() = Some(since);
        Ok(parts.odd.lock().unwrap().clone())
    })
}

impl Watchlist for Scripted {
    fn put_entries(&self, entries: &[WatchEntry]) -> Result<(), StoreError> {
        let entries = entries.iter().map(|entry| (entry.id.clone(), entry.clone()));
        self.entries.lock().unwrap().extend(entries);
        Ok(())
    }

    fn remove_entry(&self, id: &WatchEntryId) -> Result<bool, StoreError> {
        Ok(self.entries.lock().unwrap().remove(id).is_some())
    }

    fn entry(&self, id: &WatchEntryId) -> Result<Option<WatchEntry>, StoreError> {
        Ok(self.entries.lock().unwrap().get(id).cloned())
    }

    fn entries_after(
        &self,
        after: Option<&WatchEntryId>,
        limit: usize,
    ) -> Result<Vec<WatchEntry>, StoreError> {
        let entries = self.entries.lock().unwrap();
        let found = entries.values().filter(|e| after.is_none_or(|after| e.id > *after));
        Ok(found.take(limit).cloned().collect())
    }

    fn entries(&self) -> Result<Vec<WatchEntry>, StoreError> {
        Ok(self.entries.lock().unwrap().values().cloned().collect())
    }
}

impl CameraControl for Scripted {
    fn register(&self, camera: Camera) -> Result<(), ControlError> {
        let mut cameras = self.cameras.lock().unwrap();
        if cameras.contains_key(&camera.id) {
            return Err(ControlError::Exists(camera.id));
        }
        if cameras.len() >= 10 {
            return Err(ControlError::TooMany { limit: 10 });
        }
        cameras.insert(camera.id.clone(), camera);
        Ok(())
    }

    fn register_all(
        &self,
        cameras: Vec<Camera>,
    ) -> Result<Vec<Result<Registered, ControlError>>, StoreError> {
        self.medium()?;
        let outcome = |camera: Camera| {
            let known = self.cameras.lock().unwrap().get(&camera.id).cloned();
            match known {
                Some(known) if known == camera => Ok(Registered::Present),
                _ => self.register(camera).map(|()| Registered::New),
            }
        };
        Ok(cameras.into_iter().map(outcome).collect())
    }

    fn update(&self, before: &Camera, after: Camera) -> Result<(), ControlError> {
        let mut cameras = self.cameras.lock().unwrap();
        let id = after.id.clone();
        let known = cameras.get_mut(&id).ok_or_else(|| ControlError::NotFound(id.clone()))?;
        if known != before {
            return Err(ControlError::Changed(id));
        }
        *known = after;
        Ok(())
    }

    fn open_until(&self, id: &CameraId, opening: Opening) -> Result<(), ControlError> {
        let cameras = self.cameras.lock().unwrap();
        let camera = cameras.get(id).ok_or_else(|| ControlError::NotFound(id.clone()))?;
        if camera.enabled {
            return Err(ControlError::AlwaysOpen(id.clone()));
        }
        self.openings.lock().unwrap().insert(id.clone(), opening);
        Ok(())
    }

    fn remove(&self, id: &CameraId) -> Result<(), ControlError> {
        let removed = self.cameras.lock().unwrap().remove(id);
        removed.map(drop).ok_or_else(|| ControlError::NotFound(id.clone()))
    }

    fn list(&self) -> Vec<(Camera, CameraHealth)> {
        let cameras = self.cameras.lock().unwrap();
        let openings = self.openings.lock().unwrap();
        let of = |camera: &Camera| {
            let opening = openings.get(&camera.id).cloned();
            (camera.clone(), CameraHealth { opening, ..health() })
        };
        cameras.values().map(of).collect()
    }
}

pub(crate) fn health() -> CameraHealth {
    CameraHealth {
        status: CameraStatus {
            state: CameraState::Stalled,
            since: now(),
            reason: Some(StatusReason::Silence),
            detail: "nothing arrives".into(),
            retry_at: Some(now().plus(Duration::from_secs(3))),
        },
        counters: StreamCounters { units: 7, ..StreamCounters::default() },
        units_per_s: 12.5,
        analysed: 5,
        dropped: 1,
        sightings: 2,
        last_frame: Some(now()),
        last_sighting: None,
        clock_uncertainty: Some(Duration::from_millis(40)),
        blind_time: Duration::from_secs(2),
        keyframes: Default::default(),
        wishes: Default::default(),
        reads: None,
        opening: None,
    }
}

pub(crate) fn camera(id: &str, lat_deg: f64, lon_deg: f64) -> Camera {
    Camera {
        id: CameraId::new(id).unwrap(),
        site: SiteId::new("s1").unwrap(),
        name: id.to_owned(),
        position: GeoPoint::new(lat_deg, lon_deg).unwrap(),
        bearing_deg: None,
        address: StreamAddress::new("rtsp://10.0.0.1/ch1").unwrap(),
        credentials: None,
        transport: Transport::Tcp,
        pace: Pace::RealTime,
        policy: DecodePolicy::Full,
        analysed_fps_max: 25.0,
        recorded_at: None,
        lanes: None,
        substream: None,
        onvif: None,
        enabled: true,
    }
}

/// The simulated present: 15 January 2027, 08:00 UTC.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

pub(crate) fn captured(at: Timestamp) -> CaptureTime {
    CaptureTime { at, uncertainty: Duration::from_millis(50), source: ClockSource::Rtcp }
}

/// A final sighting so many seconds after the simulated present.
pub(crate) fn sighting(camera: &str, plate: &str, secs: u64) -> Sighting {
    let (camera, at) = (CameraId::new(camera).unwrap(), now().plus(Duration::from_secs(secs)));
    let text = PlateText::parse(plate).unwrap();
    Sighting {
        id: SightingId::for_track(&camera, TrackId(secs), at),
        stage: SightingStage::Final,
        camera,
        span: TimeSpan::at(at),
        captured: captured(at),
        plate: PlateState::Read(FusedPlate {
            kind: text.kinds().first().copied(),
            colour: Some(PlateColour::Blue),
            rows: PlateRows::One,
            lattice: Lattice::certain(&text),
            text,
            confidence: 0.97,
            reads: 4,
        }),
        vehicle: Vehicle {
            class: Some((VehicleClass::Car, 0.9)),
            colour: Some((VehicleColour::White, 0.8)),
        },
        direction: Some(Direction { heading: Heading::Approaching, course_deg: Some(91.0) }),
        frames: 20,
        evidence: Vec::new(),
    }
}

pub(crate) fn alert(cursor: u64) -> Alert {
    let seen = sighting("k1", "浙J12345", cursor);
    Alert {
        id: AlertId { sighting: seen.id, entry: WatchEntryId::new("w1").unwrap() },
        cursor,
        stage: AlertStage::Confirmed,
        raised: seen.captured.at,
        camera: seen.camera,
        captured: seen.captured,
        read: PlateText::parse("浙J12345").ok(),
        target: WatchTarget::Pattern(PlatePattern::parse("浙J*").unwrap()),
        case_number: "A-1".into(),
        probability: 0.97,
        units: Vec::new(),
        acknowledgement: None,
        repeat: None,
    }
}

pub(crate) fn authority() -> Authority {
    Authority::new("test", "A-1", "Wang").unwrap()
}

pub(crate) fn authority_pb() -> Option<pb::Authority> {
    Some(pb::Authority {
        purpose: "test".into(),
        case_number: "A-1".into(),
        officer: "Wang".into(),
    })
}

/// What guards a server.
#[derive(Default)]
pub(crate) struct Secured {
    pub(crate) tls: Option<ServerTls>,
    pub(crate) tokens: Option<TokenVerifier>,
    pub(crate) certificates: ClientCertificates,
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) parts: Arc<Scripted>,
    pub(crate) address: SocketAddr,
    pub(crate) wake: watch::Sender<u64>,
    pub(crate) live: broadcast::Sender<Arc<Sighting>>,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) served: JoinHandle<Result<(), ApiError>>,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_with(ApiSettings::default()).await
    }

    pub(crate) async fn start_with(settings: ApiSettings) -> Self {
        Self::start_secured(settings, Secured::default()).await
    }

    pub(crate) async fn start_secured(settings: ApiSettings, secured: Secured) -> Self {
        let parts = Arc::new(Scripted::default());
        let (wake, alert_wake) = watch::channel(0);
        let live = broadcast::Sender::new(4);
        let changes = Arc::clone(&parts);
        let context = Arc::new(guiji_store::MemoryStore::new());
        let served = ApiParts {
            stop: Stop::default(),
            passages: parts.clone(),
            store: parts.clone(),
            likely: parts.clone(),
            intake: parts.clone(),
            alerts: parts.clone(),
            deliveries: parts.clone(),
            audit: parts.clone(),
            watchlist: parts.clone(),
            coverage: context.clone(),
            roads: context.clone(),
            patrols: context.clone(),
            corrections: context,
            cameras: parts.clone(),
            clock: Arc::new(SimulatedClock::at(now())),
            alert_wake,
            live,
            sealer: parts.clone(),
            releases: parts.clone(),
            odd: odd_of(&parts),
            patrols_changed: changed(&parts),
            watchlist_changed: Arc::new(move || {
                changes.watchlist_changes.fetch_add(1, Ordering::SeqCst);
                changes.reload()
            }),
        };
        Self::serve_secured(parts, served, wake, settings, secured).await
    }

    /// A server over these parts, of which the scripted ones may be some.
    pub(crate) async fn serve(
        parts: Arc<Scripted>,
        served: ApiParts,
        wake: watch::Sender<u64>,
        settings: ApiSettings,
    ) -> Self {
        Self::serve_secured(parts, served, wake, settings, Secured::default()).await
    }

    async fn serve_secured(
        parts: Arc<Scripted>,
        served: ApiParts,
        wake: watch::Sender<u64>,
        settings: ApiSettings,
        secured: Secured,
    ) -> Self {
        let live = served.live.clone();
        let mut api =
            ApiServer::new(served, settings).with_client_certificates(secured.certificates);
        if let Some(tls) = secured.tls {
            api = api.with_tls(tls);
        }
        if let Some(tokens) = secured.tokens {
            api = api.with_tokens(tokens);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(api.serve(listener, async {
            stopped.await.unwrap_or_default();
        }));
        Self { parts, address, wake, live, stop, served }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address.to_string(), &authority()).await.unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// Logs so many alerts and says so.
    pub(crate) fn ring(&self, count: usize) {
        self.parts.ring(count);
        self.wake.send_modify(|n| *n += 1);
    }

    pub(crate) fn see(&self, sightings: impl IntoIterator<Item = Sighting>) {
        self.parts.sightings.lock().unwrap().extend(sightings);
    }

    pub(crate) fn register(&self, cameras: impl IntoIterator<Item = Camera>) {
        let mut registered = self.parts.cameras.lock().unwrap();
        registered.extend(cameras.into_iter().map(|camera| (camera.id.clone(), camera)));
    }
}

/// Tries until it is so, for at most five seconds.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds: {what}");
}
