//! The engine with scripted cameras and models, and the real tracker, fusion, rules and store.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use guiji_domain::*;
use guiji_engine::{Engine, EngineParts, EngineSettings, Escalation, EscalationParts};
use guiji_store::{Deliveries, Durability, MemoryStore};

const FRAME_MS: u64 = 100;
const FRAMES: u64 = 40;

/// Plays one vehicle past each camera, then says that the recording has ended.
#[derive(Default)]
struct ScriptedSource {
    /// Cameras whose stream stays open with the vehicle in view until it is closed.
    endless: bool,
    /// The picture from which on the camera sees nothing.
    dark_after: Option<u64>,
    /// More cameras than this cannot be open at the same time.
    room: Option<usize>,
}

struct ScriptedStream {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl OpenStream for ScriptedStream {
    fn counters(&self) -> StreamCounters {
        StreamCounters { units: FRAMES, ..StreamCounters::default() }
    }
}

impl Drop for ScriptedStream {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn status(state: CameraState) -> CameraStatus {
    CameraStatus {
        state,
        since: Timestamp::EPOCH,
        reason: None,
        detail: String::new(),
        retry_at: None,
    }
}

/// A view with structure and a little noise, as a sensor has it; or none.
fn small_picture(number: u64, dark: bool) -> OwnedPicture {
    let pixel = |i: usize| {
        let (x, y) = (i % 64, i / 64);
        let shade = ((x / 4) * 53 + (y / 4) * 97) % 180 + (x % 2) * 30 + number as usize % 3;
        [if dark { 2 } else { shade as u8 }; 3]
    };
    OwnedPicture::rgb(64, 36, (0..64 * 36).flat_map(pixel).collect()).unwrap()
}

impl FrameSource for ScriptedSource {
    fn open(&self, camera: &Camera, sink: Arc<dyn FrameSink>) -> Box<dyn OpenStream> {
        let stop = Arc::new(AtomicBool::new(false));
        let (id, endless, stopped) = (camera.id.clone(), self.endless, stop.clone());
        let dark_after = self.dark_after;
        // A live camera does not wait: so fast that a test is quick, so slow that most pictures are looked at.
        let pause = Duration::from_millis(if camera.pace == Pace::RealTime { 2 } else { 0 });
        let thread = thread::spawn(move || {
            sink.status(&id, status(CameraState::Live));
            let full = Arc::new(OwnedPicture::rgb(640, 360, vec![90; 640 * 360 * 3]).unwrap());
            for i in 0.. {
                if stopped.load(SeqCst) || (!endless && i == FRAMES) {
                    break;
                }
                thread::sleep(pause);
                let pts = Duration::from_millis(i * FRAME_MS);
                let small = Arc::new(small_picture(i, dark_after.is_some_and(|after| i >= after)));
                sink.frame(Frame {
                    camera: id.clone(),
                    captured: CaptureTime {
                        at: Timestamp::from_secs(1_795_000_000).plus(pts),
                        uncertainty: Duration::from_millis(10),
                        source: ClockSource::Stated,
                    },
                    stream: Stream::Main,
                    pts,
                    full: full.clone(),
                    small,
                    view: View::Unknown,
                });
            }
            if !endless {
                sink.status(&id, status(CameraState::Ended));
            }
        });
        Box::new(ScriptedStream { stop, thread: Some(thread) })
    }

    fn make_room(&self, open: usize) -> Result<(), String> {
        if self.room.is_none_or(|room| open <= room) {
            return Ok(());
        }
        Err(format!("{open} cameras need more files"))
    }
}

/// A car that drives through the picture in 30 frames, and another one every 60.
struct ScriptedDetector;

fn car_at(frame: &Frame) -> Option<BBox> {
    let i = frame.pts.as_millis() as f32 / FRAME_MS as f32 % 60.0;
    (i < 30.0).then(|| BBox::new(100.0, 40.0 + i * 4.0, 300.0 + i, 190.0 + i * 4.5).unwrap())
}

impl Detector for ScriptedDetector {
    fn input_size(&self) -> (u32, u32) {
        (64, 36)
    }
    fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
        let see = |frame: &&Frame| {
            car_at(frame)
                .map(|bbox| Detection { bbox, class: Some(VehicleClass::Car), score: 0.8 })
                .into_iter()
                .collect()
        };
        Ok(frames.iter().map(see).collect())
    }
    fn body_colour(&self, _: &dyn Picture, _: &BBox) -> Option<(VehicleColour, f32)> {
        Some((VehicleColour::Silver, 0.9))
    }
}

/// Reads the same plate from every vehicle, and from whole frames if told so.
#[derive(Default)]
struct ScriptedReader {
    panics: AtomicU32,
    sees_in_whole_frames: bool,
}

impl PlateReader for ScriptedReader {
    fn read(&self, requests: &[(SharedPicture, BBox)]) -> Result<Vec<Vec<PlateRead>>, VisionError> {
        if self.panics.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
            panic!("scripted");
        }
        let text = PlateText::parse("浙J12345").unwrap();
        let positions = text.chars().map(|c| {
            Position::new(vec![Candidate { character: Some(c), probability: 0.99 }]).unwrap()
        });
        let lattice = Lattice::new(positions.collect()).unwrap();
        let read = |(picture, region): &(SharedPicture, BBox)| {
            let whole = region.width() >= picture.width() as f32;
            if whole && !self.sees_in_whole_frames {
                return Vec::new();
            }
            let (centre, w) = (region.centre(), if whole { 40.0 } else { region.width() / 4.0 });
            let plate =
                BBox::new(centre.x - w, centre.y + 10.0, centre.x + w, centre.y + 10.0 + w * 0.6);
            vec![PlateRead {
                lattice: lattice.clone(),
                rows: (PlateRows::One, 0.99),
                colour: Some((PlateColour::Blue, 0.99)),
                corners: Quad::from_bbox(&plate.unwrap()),
                detector_score: 0.95,
                sharpness: 0.8,
            }]
        };
        Ok(requests.iter().map(read).collect())
    }
}

/// Encodes to the region's numbers: enough to see that the right picture is kept.
struct ScriptedEncoder;

impl PictureEncoder for ScriptedEncoder {
    fn media_type(&self) -> &'static str {
        "text/plain"
    }
    fn encode(&self, picture: &dyn Picture, region: Option<&BBox>) -> Result<Vec<u8>, VisionError> {
        Ok(format!("{}x{} {region:?}", picture.width(), picture.height()).into_bytes())
    }
}

/// A store that fails its first calls.
struct Unreliable {
    inner: Arc<MemoryStore>,
    failures: AtomicU32,
}

impl SightingStore for Unreliable {
    fn record(&self, batch: &[Recorded]) -> Result<Receipt, StoreError> {
        if self.failures.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(StoreError::Full { doing: "append sightings" });
        }
        self.inner.record(batch)
    }
    fn get(&self, id: SightingId) -> Result<Option<Sighting>, StoreError> {
        self.inner.get(id)
    }
    fn unfinished(
        &self,
        after: Option<SightingId>,
        limit: usize,
    ) -> Result<Vec<Sighting>, StoreError> {
        self.inner.unfinished(after, limit)
    }
    fn search(&self, query: &SightingQuery) -> Result<SightingPage, StoreError> {
        self.inner.search(query)
    }
    fn evidence(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.evidence(digest)
    }
}

struct Rig {
    store: Arc<MemoryStore>,
    parts: EngineParts,
}

fn rig() -> Rig {
    let store = Arc::new(MemoryStore::new());
    let parts = EngineParts {
        source: Arc::new(ScriptedSource::default()),
        detector: Arc::new(ScriptedDetector),
        reader: Arc::new(ScriptedReader::default()),
        encoder: Arc::new(ScriptedEncoder),
        store: store.clone(),
        alerts: store.clone(),
        watchlist: store.clone(),
        patrols: store.clone(),
        registry: store.clone(),
        coverage: store.clone(),
        read_before: store.clone(),
        keyframes: None,
        clock: Arc::new(SimulatedClock::at(Timestamp::from_secs(1_795_000_100))),
    };
    Rig { store, parts }
}

fn camera(id: &str) -> Camera {
    Camera {
        id: CameraId::new(id).unwrap(),
        site: SiteId::new("s1").unwrap(),
        name: id.into(),
        position: GeoPoint::new(29.1, 121.4).unwrap(),
        bearing_deg: Some(90.0),
        address: StreamAddress::new("scripted.mp4").unwrap(),
        credentials: None,
        transport: Transport::Tcp,
        pace: Pace::AsFastAsPossible,
        policy: DecodePolicy::Full,
        analysed_fps_max: 10.0,
        recorded_at: None,
        lanes: None,
        substream: None,
        onvif: None,
        enabled: true,
    }
}

fn watch_entry(plate: &str) -> WatchEntry {
    WatchEntry {
        id: WatchEntryId::new(&format!("w-{}", plate.len())).unwrap(),
        target: WatchTarget::Plate(PlateText::parse(plate).unwrap()),
        case_number: "A-1".into(),
        reason: "test".into(),
        owner: "Li".into(),
        created: Timestamp::from_secs(1_794_000_000),
        expires: Timestamp::from_secs(1_796_000_000),
        threshold: 0.5,
        cameras: Vec::new(),
        area: None,
        vehicle: VehicleDescription::default(),
        hours: None,
        approval: None,
    }
}

fn finals(store: &MemoryStore) -> Vec<Sighting> {
    store.search(&SightingQuery::all_in(TimeSpan::ALL, 1000)).unwrap().sightings
}

fn wait_until(what: &str, mut true_at_last: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !true_at_last() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_passage_becomes_one_sighting_with_evidence_and_an_alert() {
    let Rig { store, parts } = rig();
    store.put_entry(&watch_entry("浙J12345")).unwrap();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let (mut live, wake) = (engine.live().subscribe(), engine.alert_wake());
    for id in ["k1", "k2", "k3"] {
        engine.cameras().register(camera(id)).unwrap();
    }
    wait_until("three sightings", || finals(&store).len() == 3);
    let report = engine.drain(Duration::from_secs(10));
    assert!(report.in_time && report.sightings_lost == 0);

    let sightings = finals(&store);
    assert_eq!(sightings.len(), 3, "one a passage, also after the drain");
    for sighting in &sightings {
        assert_eq!(sighting.plate_text().unwrap().as_str(), "浙J12345");
        assert_eq!(sighting.vehicle.colour.unwrap().0, VehicleColour::Silver);
        let kinds: Vec<_> = sighting.evidence.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, EvidenceKind::ALL);
        for evidence in &sighting.evidence {
            let bytes = store.evidence(&evidence.digest).unwrap().expect("kept");
            assert_eq!(bytes.len() as u32, evidence.bytes);
        }
    }
    // Every sighting rang early and was confirmed.
    let mut stages: HashMap<SightingId, Vec<AlertStage>> = HashMap::new();
    for alert in store.alerts_after(0, 100).unwrap() {
        stages.entry(alert.id.sighting).or_default().push(alert.stage);
    }
    assert_eq!(stages.len(), 3);
    for stages in stages.values() {
        assert_eq!(stages, &[AlertStage::Provisional, AlertStage::Confirmed]);
    }
    assert_eq!(*wake.borrow(), store.last_cursor().unwrap());
    let mut heard = Vec::new();
    while let Ok(sighting) = live.try_recv() {
        heard.push(sighting.stage);
    }
    assert_eq!(heard.iter().filter(|s| **s == SightingStage::Final).count(), 3);
}

#[test]
fn a_plate_that_differs_in_one_character_rings_nothing() {
    let Rig { store, parts } = rig();
    store.put_entry(&watch_entry("浙J12346")).unwrap();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    wait_until("the sighting", || finals(&store).len() == 1);
    engine.drain(Duration::from_secs(10));
    assert_eq!(store.last_cursor().unwrap(), 0);
}

#[test]
fn a_recording_is_analysed_to_the_last_frame() {
    let Rig { store, parts } = rig();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    wait_until("the sighting", || finals(&store).len() == 1);
    let counts = engine.counts().perception();
    assert_eq!((counts.analysed, counts.replaced), (FRAMES, 0));
    engine.drain(Duration::from_secs(10));
}

/// Sees no vehicle at all.
struct BlindDetector;

impl Detector for BlindDetector {
    fn input_size(&self) -> (u32, u32) {
        (64, 36)
    }
    fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
        Ok(vec![Vec::new(); frames.len()])
    }
    fn body_colour(&self, _: &dyn Picture, _: &BBox) -> Option<(VehicleColour, f32)> {
        None
    }
}

#[test]
fn a_plate_without_a_vehicle_makes_a_sighting() {
    let Rig { store, mut parts } = rig();
    parts.detector = Arc::new(BlindDetector);
    parts.reader = Arc::new(ScriptedReader { sees_in_whole_frames: true, ..Default::default() });
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    wait_until("the sighting", || finals(&store).len() == 1);
    let counts = engine.counts().perception();
    assert_eq!(engine.drain(Duration::from_secs(10)).sightings_lost, 0);
    assert!(counts.plate_led > 0 && counts.searched < counts.analysed, "{counts:?}");
    let [sighting] = &finals(&store)[..] else { panic!("one passage, one sighting") };
    assert_eq!(sighting.plate_text().unwrap().as_str(), "浙J12345");
    assert_eq!(sighting.vehicle.class, None, "only its plate was seen");
    assert!(!sighting.evidence.is_empty());
}

#[test]
fn a_panic_is_counted_and_ends_no_process() {
    let Rig { store, mut parts } = rig();
    let reader = ScriptedReader::default();
    reader.panics.store(3, SeqCst);
    parts.reader = Arc::new(reader);
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    wait_until("the sighting", || finals(&store).len() == 1);
    assert_eq!(engine.counts().perception().panics, 3);
    engine.drain(Duration::from_secs(10));
}

#[test]
fn a_failing_store_delays_and_loses_nothing() {
    let Rig { store, mut parts } = rig();
    parts.store = Arc::new(Unreliable { inner: store.clone(), failures: AtomicU32::new(3) });
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    wait_until("the sighting", || finals(&store).len() == 1);
    assert!(engine.counts().recorder().retries >= 3);
    let report = engine.drain(Duration::from_secs(10));
    assert_eq!(report.sightings_lost, 0);
}

#[test]
fn a_store_that_never_works_is_given_up_at_the_deadline_and_said() {
    let Rig { store, mut parts } = rig();
    parts.store = Arc::new(Unreliable { inner: store, failures: AtomicU32::new(u32::MAX) });
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    wait_until("a retry", || engine.counts().recorder().retries > 0);
    let report = engine.drain(Duration::from_millis(300));
    assert!(!report.in_time);
}

#[test]
fn removing_a_camera_ends_what_is_in_view_and_leaves_the_others() {
    let Rig { store, mut parts } = rig();
    parts.source = Arc::new(ScriptedSource { endless: true, ..ScriptedSource::default() });
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let cameras = engine.cameras();
    cameras.register(camera("k1")).unwrap();
    cameras.register(camera("k2")).unwrap();
    assert!(matches!(cameras.register(camera("k1")), Err(ControlError::Exists(_))));
    wait_until("frames", || engine.counts().perception().analysed > 30);
    cameras.remove(&CameraId::new("k1").unwrap()).unwrap();
    assert!(matches!(
        cameras.remove(&CameraId::new("k1").unwrap()),
        Err(ControlError::NotFound(_))
    ));
    wait_until("its sighting", || finals(&store).iter().any(|s| s.camera.as_str() == "k1"));
    let left: Vec<_> = cameras
        .list()
        .into_iter()
        .map(|(camera, health)| (camera.id.to_string(), health))
        .collect();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].0.as_str(), left[0].1.status.state), ("k2", CameraState::Live));
    let analysed = left[0].1.analysed;
    wait_until("more frames of k2", || cameras.list()[0].1.analysed > analysed);
    assert_eq!(store.cameras().unwrap().len(), 1);
    assert!(engine.drain(Duration::from_secs(10)).in_time);
}

#[test]
fn an_edit_reopens_only_its_own_stream_and_only_when_it_must() {
    let Rig { store, mut parts } = rig();
    parts.source = Arc::new(ScriptedSource { endless: true, ..ScriptedSource::default() });
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let cameras = engine.cameras();
    cameras.register(camera("k1")).unwrap();
    cameras.register(camera("k2")).unwrap();
    let analysed = |place: usize| cameras.list()[place].1.analysed;
    wait_until("frames of both", || analysed(0) > 20 && analysed(1) > 20);
    let places = cameras.places();
    assert!(Arc::ptr_eq(&places, &cameras.places()), "nothing has changed");
    // A new name and place: the stream goes on, and so do its counters.
    let position = GeoPoint::new(29.5, 121.5).unwrap();
    let named = Camera { name: "路口".into(), position, lanes: Some(3), ..camera("k1") };
    let before = analysed(0);
    cameras.update(&camera("k1"), named.clone()).unwrap();
    assert!(analysed(0) >= before && cameras.list()[0].0 == named);
    assert_ne!(places[0], cameras.places()[0]);
    assert_eq!(*cameras.places(), [(named.id.clone(), position), places[1].clone()]);
    assert!(matches!(cameras.update(&camera("k1"), named.clone()), Err(ControlError::Changed(_))));
    // Another address: what was in view ends, and the stream begins anew; that of the other does not.
    let moved = Camera { address: StreamAddress::new("other.mp4").unwrap(), ..named.clone() };
    let (before, other) = (analysed(0), analysed(1));
    cameras.update(&named, moved.clone()).unwrap();
    assert!(analysed(0) < before, "counts from its beginning");
    assert!(analysed(1) >= other);
    wait_until("frames of the new stream", || analysed(0) > 0);
    let off = Camera { enabled: false, ..moved.clone() };
    cameras.update(&moved, off.clone()).unwrap();
    assert_eq!(cameras.list()[0].1.status.state, CameraState::Disabled);
    cameras.update(&off, moved.clone()).unwrap();
    wait_until("frames again", || analysed(0) > 0);
    assert_eq!(store.cameras().unwrap(), [moved, camera("k2")]);
    assert!(matches!(cameras.update(&camera("k9"), camera("k9")), Err(ControlError::NotFound(_))));
    cameras.remove(&camera("k1").id).unwrap();
    assert_eq!(*cameras.places(), [places[1].clone()]);
    assert!(engine.drain(Duration::from_secs(10)).in_time);
}

#[test]
fn a_closed_camera_is_opened_for_a_while_and_closes_by_itself() {
    let Rig { store, mut parts } = rig();
    let now = Timestamp::from_secs(1_795_000_100);
    let clock = Arc::new(SimulatedClock::at(now));
    parts.clock = clock.clone();
    parts.source = Arc::new(ScriptedSource { endless: true, ..ScriptedSource::default() });
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let cameras = engine.cameras();
    let closed = Camera { enabled: false, ..camera("k1") };
    cameras.register(closed.clone()).unwrap();
    cameras.register(camera("k2")).unwrap();
    let until =
        |seconds| Opening { until: now.plus(Duration::from_secs(seconds)), by: "wang".into() };
    let id = |id| CameraId::new(id).unwrap();
    assert!(matches!(cameras.open_until(&id("k2"), until(60)), Err(ControlError::AlwaysOpen(_))));
    assert!(matches!(cameras.open_until(&id("k9"), until(60)), Err(ControlError::NotFound(_))));
    assert_eq!(cameras.list()[0].1.status.state, CameraState::Disabled);
    cameras.open_until(&id("k1"), until(60)).unwrap();
    wait_until("frames", || cameras.list()[0].1.analysed > 5);
    // Asked for again: the later time counts, and the stream goes on.
    let analysed = cameras.list()[0].1.analysed;
    cameras.open_until(&id("k1"), until(30)).unwrap();
    let (registered, health) = cameras.list()[0].clone();
    assert_eq!((registered, health.opening), (closed.clone(), Some(until(60))));
    assert!(health.analysed >= analysed);
    clock.advance(Duration::from_secs(60));
    wait_until("it is closed", || cameras.list()[0].1.status.state == CameraState::Disabled);
    assert_eq!(cameras.list()[0].1.opening, None);
    wait_until("its sighting", || finals(&store).iter().any(|s| s.camera.as_str() == "k1"));
    // Nothing of this is kept: after a restart it is closed.
    assert_eq!(store.cameras().unwrap()[0], closed);
    assert!(engine.drain(Duration::from_secs(10)).in_time);
}

#[test]
fn what_the_cameras_could_see_is_written_down() {
    let Rig { store, mut parts } = rig();
    let clock = Arc::new(SimulatedClock::at(Timestamp::from_secs(1_795_000_100)));
    parts.clock = clock.clone();
    parts.source = Arc::new(ScriptedSource { endless: true, ..ScriptedSource::default() });
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let cameras = engine.cameras();
    let live = |id| Camera { pace: Pace::RealTime, ..camera(id) };
    cameras.register(live("k1")).unwrap();
    cameras.register(live("k2")).unwrap();
    cameras.register(Camera { enabled: false, ..live("elsewhere") }).unwrap();
    cameras.register(camera("recording")).unwrap();
    wait_until("frames", || engine.counts().perception().analysed > 30);
    clock.advance(Duration::from_secs(60));
    cameras.remove(&CameraId::new("k1").unwrap()).unwrap();
    clock.advance(Duration::from_secs(40));
    assert!(engine.drain(Duration::from_secs(10)).in_time);
    let seeing = |id: &str| {
        let all = store.coverage(&[CameraId::new(id).unwrap()], TimeSpan::ALL).unwrap();
        let span =
            TimeSpan::new(Timestamp::from_secs(1_795_000_100), Timestamp::from_secs(1_795_000_300));
        (all.len(), Covered::of(&all, span.unwrap()).seeing_ns / 1_000_000_000)
    };
    assert_eq!((seeing("k1").1, seeing("k2").1), (60, 100));
    assert_eq!((seeing("elsewhere").0, seeing("recording").0), (0, 0));
}

#[test]
fn while_the_disk_is_full_no_camera_is_said_to_see() {
    let Rig { store, mut parts } = rig();
    let clock = Arc::new(SimulatedClock::at(Timestamp::from_secs(1_795_000_100)));
    parts.clock = clock.clone();
    parts.source = Arc::new(ScriptedSource { endless: true, ..ScriptedSource::default() });
    let full = Arc::new(Unreliable { inner: store.clone(), failures: AtomicU32::new(u32::MAX) });
    parts.store = full.clone();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    for id in ["k1", "k2"] {
        engine.cameras().register(Camera { pace: Pace::RealTime, ..camera(id) }).unwrap();
    }
    // Of which no picture is left out: what the store refuses.
    engine.cameras().register(camera("recording")).unwrap();
    wait_until("a refusal", || engine.counts().recorder().retries > 0);
    clock.advance(Duration::from_secs(3600));
    full.failures.store(0, SeqCst);
    let ids = ["k1", "k2"].map(|id| CameraId::new(id).unwrap());
    let history = |id: &CameraId| store.coverage(std::slice::from_ref(id), TimeSpan::ALL).unwrap();
    // It ends when the store takes sightings again, and not before.
    let ended = |id: &CameraId| {
        let unknown = history(id).into_iter().find(|it| it.state == CoverageState::Unknown);
        unknown.is_some_and(|it| clock.now().since(it.span.last()) > Duration::from_secs(30))
    };
    wait_until("the end of the gap", || {
        clock.advance(Duration::from_secs(1));
        !finals(&store).is_empty() && ids.iter().all(ended)
    });
    assert!(engine.drain(Duration::from_secs(10)).in_time);
    for id in &ids {
        let second = |secs: i64| Timestamp::from_secs(1_795_000_100 + secs);
        let hour = TimeSpan::new(second(0), second(3600)).unwrap();
        let all = history(id);
        assert_eq!(Covered::of(&all, hour).seeing_ns, 0, "{all:?}");
        let gap = all.iter().find(|it| it.state == CoverageState::Unknown).unwrap();
        assert_eq!((gap.cause.as_str(), gap.span.first()), ("disk full", second(-60)));
        let later = TimeSpan::new(gap.span.last(), clock.now()).unwrap();
        assert!(Covered::of(&all, later).seeing_ns > 0, "{all:?}");
    }
}

#[test]
fn a_camera_that_sees_nothing_is_said_to_be_blind_though_pictures_come() {
    let Rig { store, mut parts } = rig();
    let seconds = |secs: u64| secs * 1000 / FRAME_MS;
    parts.source = Arc::new(ScriptedSource {
        endless: true,
        dark_after: Some(seconds(20)),
        ..ScriptedSource::default()
    });
    let clock = Arc::new(SimulatedClock::at(Timestamp::from_secs(1_795_000_100)));
    parts.clock = clock.clone();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let cameras = engine.cameras();
    cameras.register(Camera { pace: Pace::RealTime, ..camera("k1") }).unwrap();
    // Not by its pictures' shade alone: a recording is what it is.
    cameras.register(camera("recording")).unwrap();
    let status = |place: usize| cameras.list()[place].1.status.clone();
    wait_until("the alarm", || {
        clock.advance(Duration::from_secs(1));
        status(0).reason == Some(StatusReason::Black)
    });
    assert_eq!(status(0).state, CameraState::Stalled);
    assert!(status(0).detail.contains("black"));
    wait_until("much of the recording", || {
        let last = cameras.list()[1].1.last_frame;
        last.is_some_and(|at| at > Timestamp::from_secs(1_795_000_060))
    });
    assert_eq!(status(1).state, CameraState::Live);
    assert!(engine.drain(Duration::from_secs(10)).in_time);
    let history = store.coverage(&[CameraId::new("k1").unwrap()], TimeSpan::ALL).unwrap();
    let blind = history.iter().any(|c| c.state == CoverageState::Blind && c.cause == "black");
    assert!(blind, "{history:?}");
}

#[test]
fn a_watch_list_change_is_in_force_at_once() {
    let Rig { store, mut parts } = rig();
    parts.source = Arc::new(ScriptedSource { endless: true, ..ScriptedSource::default() });
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    store.put_entry(&watch_entry("浙J12345")).unwrap();
    engine.watchbook().reload().unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    wait_until("the alert", || store.last_cursor().unwrap() > 0);
    engine.drain(Duration::from_secs(10));
}

/// A passage as it may be imported, so many seconds after a time.
fn foreign(camera: &str, plate: &str, second: i64) -> Recorded {
    let (camera, at) =
        (CameraId::new(camera).unwrap(), Timestamp::from_secs(1_795_000_000 + second));
    let text = PlateText::parse(plate).unwrap();
    let sighting = Sighting {
        id: SightingId::for_track(&camera, TrackId(0), at),
        stage: SightingStage::Final,
        camera,
        span: TimeSpan::at(at),
        captured: CaptureTime { at, uncertainty: Duration::ZERO, source: ClockSource::Rtcp },
        plate: PlateState::Read(FusedPlate {
            kind: None,
            colour: None,
            rows: PlateRows::One,
            lattice: Lattice::certain(&text),
            text,
            confidence: 0.9,
            reads: 1,
        }),
        vehicle: Vehicle { class: None, colour: None },
        direction: None,
        frames: 1,
        evidence: Vec::new(),
    };
    Recorded { sighting: Arc::new(sighting), pictures: Vec::new(), alerts: Vec::new() }
}

fn provisional(mut record: Recorded) -> Recorded {
    Arc::make_mut(&mut record.sighting).stage = SightingStage::Provisional;
    record
}

#[test]
fn what_comes_from_elsewhere_rings_and_is_announced_once() {
    let Rig { store, parts } = rig();
    store.put_entry(&watch_entry("浙J12345")).unwrap();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(Camera { enabled: false, ..camera("k9") }).unwrap();
    let (intake, mut live, wake) =
        (engine.intake(), engine.live().subscribe(), engine.alert_wake());
    let mut batch = [
        foreign("k9", "浙J12345", 1),
        foreign("k9", "浙J12346", 2),
        foreign("gone", "浙J99999", 3),
    ];
    for (kept, alerts) in [(Kept::New, 1), (Kept::Present, 0)] {
        let receipt = intake.take_in(&mut batch).unwrap();
        assert_eq!((receipt.kept, receipt.alerts.len()), (vec![kept; 3], alerts));
    }
    let alerts = store.alerts_after(0, 10).unwrap();
    assert_eq!(
        alerts.iter().map(|a| (a.stage, a.id.sighting)).collect::<Vec<_>>(),
        [(AlertStage::Confirmed, batch[0].sighting.id)]
    );
    assert_eq!(*wake.borrow(), alerts[0].cursor);
    let mut heard = Vec::new();
    while let Ok(sighting) = live.try_recv() {
        heard.push(sighting.id);
    }
    assert_eq!(heard, batch.each_ref().map(|record| record.sighting.id));
    let counts = engine.counts().intake();
    assert_eq!((counts.finals, counts.alerts), (3, 1));
    let (_, health) = &engine.cameras().list()[0];
    assert_eq!(
        (health.sightings, health.last_sighting),
        (2, Some(Timestamp::from_secs(1_795_000_002)))
    );
    engine.drain(Duration::from_secs(10));
}

#[test]
fn many_cameras_are_registered_at_once_and_again() {
    let Rig { store, parts } = rig();
    let settings = EngineSettings { cameras_max: 4, ..EngineSettings::default() };
    let engine = Engine::start(parts, settings).unwrap();
    let cameras = engine.cameras();
    let idle = |id: &str| Camera { enabled: false, ..camera(id) };
    let register = |ids: &[&str]| {
        let outcomes = cameras.register_all(ids.iter().map(|id| idle(id)).collect()).unwrap();
        outcomes.into_iter().map(|o| o.map_err(|e| e.to_string())).collect::<Vec<_>>()
    };
    use Registered::{New, Present};
    assert_eq!(register(&["k1", "k2", "k1"]), [Ok(New), Ok(New), Ok(Present)]);
    let full = register(&["k3", "k1", "k4", "k5"]);
    assert_eq!(full[..3], [Ok(New), Ok(Present), Ok(New)]);
    assert!(full[3].as_ref().unwrap_err().contains("limit"), "{full:?}");
    let moved = Camera { name: "elsewhere".into(), ..idle("k1") };
    let outcome = cameras.register_all(vec![moved]).unwrap().remove(0);
    assert!(matches!(outcome, Err(ControlError::Exists(_))), "{outcome:?}");
    assert_eq!(store.cameras().unwrap().len(), 4);
    assert_eq!(cameras.list().len(), 4);
    engine.drain(Duration::from_secs(10));
}

/// Cameras whose frames the test sends itself, and what their streams are told.
#[derive(Default)]
struct ManualSource {
    opened: Mutex<Vec<Arc<dyn FrameSink>>>,
    heard: Arc<Heard>,
    /// Streams do not close before this is let go.
    hold: Arc<Mutex<()>>,
}

impl ManualSource {
    /// How many vehicles the camera was told of in the picture of this time.
    fn answer(&self, millis: u64) -> Option<usize> {
        let pts = Duration::from_millis(millis);
        let heard = self.heard.detected.lock().unwrap();
        heard.iter().find(|it| it.0 == pts).map(|it| it.1)
    }
}

#[derive(Default)]
struct Heard {
    detected: Mutex<Vec<(Duration, usize)>>,
    room: AtomicU32,
    urgent: AtomicBool,
}

struct ManualStream {
    heard: Arc<Heard>,
    hold: Arc<Mutex<()>>,
}

impl OpenStream for ManualStream {
    fn counters(&self) -> StreamCounters {
        StreamCounters { units: 100, ..StreamCounters::default() }
    }
    fn feedback(&self, feedback: Feedback) {
        self.heard.urgent.store(feedback.urgent, SeqCst);
    }
    fn detected(&self, frame: &Frame, findings: Findings) {
        self.heard.detected.lock().unwrap().push((frame.pts, findings.news));
    }
    fn room(&self) {
        self.heard.room.fetch_add(1, SeqCst);
    }
}

impl Drop for ManualStream {
    fn drop(&mut self) {
        drop(self.hold.lock().unwrap());
    }
}

impl FrameSource for ManualSource {
    fn open(&self, camera: &Camera, sink: Arc<dyn FrameSink>) -> Box<dyn OpenStream> {
        sink.status(&camera.id, status(CameraState::Live));
        self.opened.lock().unwrap().push(sink);
        Box::new(ManualStream { heard: self.heard.clone(), hold: self.hold.clone() })
    }
}

fn manual_frame(camera: &str, millis: u64, view: View) -> Frame {
    let pts = Duration::from_millis(millis);
    Frame {
        camera: CameraId::new(camera).unwrap(),
        captured: CaptureTime {
            at: Timestamp::from_secs(1_795_000_000).plus(pts),
            uncertainty: Duration::from_millis(10),
            source: ClockSource::Stated,
        },
        stream: Stream::Main,
        pts,
        full: Arc::new(OwnedPicture::rgb(640, 360, vec![90; 640 * 360 * 3]).unwrap()),
        small: Arc::new(small_picture(millis, millis.is_multiple_of(3))), // clouds
        view,
    }
}

/// Sees the car of [`ScriptedDetector`], and counts the frames.
#[derive(Default)]
struct CountingDetector(AtomicU32);

impl Detector for CountingDetector {
    fn input_size(&self) -> (u32, u32) {
        (64, 36)
    }
    fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
        self.0.fetch_add(frames.len() as u32, SeqCst);
        ScriptedDetector.detect(frames)
    }
    fn body_colour(&self, _: &dyn Picture, _: &BBox) -> Option<(VehicleColour, f32)> {
        None
    }
}

#[test]
fn keyframes_of_a_view_as_usual_cost_no_model_but_for_a_proof_a_minute() {
    let Rig { mut parts, .. } = rig();
    let (source, detector) =
        (Arc::new(ManualSource::default()), Arc::new(CountingDetector::default()));
    (parts.source, parts.detector) = (source.clone(), detector.clone());
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    let sink = source.opened.lock().unwrap()[0].clone();
    // After the car has gone: five minutes of keyframes, two seconds apart.
    for number in 0..150 {
        sink.frame(manual_frame("k1", 10_000 + number * 2001, View::Usual));
    }
    wait_until("all frames", || engine.counts().perception().analysed == 150);
    let counts = engine.counts().perception();
    let looks = detector.0.load(SeqCst);
    assert!((5..=6).contains(&looks), "{looks} looks in five minutes");
    assert_eq!((counts.searched, counts.still), (0, 150 - u64::from(looks)));
    assert!(source.heard.room.load(SeqCst) >= 150);
    engine.drain(Duration::from_secs(10));
}

#[test]
fn a_question_is_answered_and_what_it_shows_comes_again() {
    let Rig { store, mut parts } = rig();
    let source = Arc::new(ManualSource::default());
    parts.source = source.clone();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    let sink = source.opened.lock().unwrap()[0].clone();
    // The car is in view until 3 s, and the next one from 6 s on.
    for (millis, vehicles) in [(1000, 1), (5000, 0)] {
        sink.frame(manual_frame("k1", millis, View::Asked));
        wait_until("the answer", || source.answer(millis).is_some());
        assert_eq!(source.answer(millis), Some(vehicles));
    }
    assert_eq!(engine.counts().perception().asked, 2);
    engine.drain(Duration::from_secs(10));
    assert!(finals(&store).is_empty(), "nobody followed it");
}

#[test]
fn what_the_substream_shows_is_answered_and_not_followed() {
    let Rig { store, mut parts } = rig();
    let source = Arc::new(ManualSource::default());
    parts.source = source.clone();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    let sink = source.opened.lock().unwrap()[0].clone();
    // The car is in view until 3 s. What is as usual is proven now and then.
    let looks = [(1000, View::Usual, 1), (1500, View::Asked, 1), (2000, View::Asked, 1)];
    for (millis, view, vehicles) in looks.into_iter().chain([(5000, View::Asked, 0)]) {
        sink.frame(Frame { stream: Stream::Substream, ..manual_frame("k1", millis, view) });
        wait_until("the answer", || source.answer(millis).is_some());
        assert_eq!(source.answer(millis), Some(vehicles), "{millis}");
    }
    let counts = engine.counts().perception();
    assert_eq!((counts.regions, counts.searched), (0, 0), "nothing is read in it");
    engine.drain(Duration::from_secs(10));
    assert!(finals(&store).is_empty(), "nobody followed it");
}

#[test]
fn what_stands_in_the_main_stream_is_no_news_in_the_substream() {
    /// A car that stands, at the same place of a picture of any size.
    struct Standing;
    impl Detector for Standing {
        fn input_size(&self) -> (u32, u32) {
            (64, 36)
        }
        fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
            let car = |frame: &&Frame| {
                let scale = frame.full.width() as f32 / 640.0;
                let [x1, y1, x2, y2] = [100.0, 40.0, 300.0, 190.0].map(|it| it * scale);
                let bbox = BBox::new(x1, y1, x2, y2).unwrap();
                vec![Detection { bbox, class: Some(VehicleClass::Car), score: 0.8 }]
            };
            Ok(frames.iter().map(car).collect())
        }
        fn body_colour(&self, _: &dyn Picture, _: &BBox) -> Option<(VehicleColour, f32)> {
            None
        }
    }
    let Rig { store, mut parts } = rig();
    let source = Arc::new(ManualSource::default());
    (parts.source, parts.detector) = (source.clone(), Arc::new(Standing));
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    let sink = source.opened.lock().unwrap()[0].clone();
    for number in 0..50 {
        sink.frame(manual_frame("k1", number * 100, View::Changed));
    }
    let small = Arc::new(OwnedPicture::rgb(320, 180, vec![90; 320 * 180 * 3]).unwrap());
    for number in 0..20 {
        let view = if number % 4 == 3 { View::Asked } else { View::Usual };
        let frame = manual_frame("k1", 5000 + number * 1000, view);
        sink.frame(Frame { stream: Stream::Substream, full: small.clone(), ..frame });
    }
    wait_until("all frames", || engine.counts().perception().analysed == 70);
    let late = Duration::from_millis(5000);
    let heard = source.heard.detected.lock().unwrap().clone();
    let news: Vec<_> = heard.iter().filter(|it| it.0 >= late && it.1 > 0).collect();
    assert!(news.is_empty() && heard.iter().any(|it| it.0 >= late), "{news:?}");
    engine.drain(Duration::from_secs(10));
    assert_eq!(finals(&store).len(), 1, "one vehicle, known all the time");
}

#[test]
fn vehicles_that_stand_are_looked_at_now_and_then() {
    /// A car that stands.
    struct Standing(AtomicU32);
    impl Detector for Standing {
        fn input_size(&self) -> (u32, u32) {
            (64, 36)
        }
        fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
            self.0.fetch_add(frames.len() as u32, SeqCst);
            let bbox = BBox::new(100.0, 40.0, 300.0, 190.0).unwrap();
            let car = Detection { bbox, class: Some(VehicleClass::Car), score: 0.8 };
            Ok(vec![vec![car]; frames.len()])
        }
        fn body_colour(&self, _: &dyn Picture, _: &BBox) -> Option<(VehicleColour, f32)> {
            None
        }
    }
    let Rig { store, mut parts } = rig();
    let (source, detector) = (Arc::new(ManualSource::default()), Arc::new(Standing(0.into())));
    (parts.source, parts.detector) = (source.clone(), detector.clone());
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    let sink = source.opened.lock().unwrap()[0].clone();
    for number in 0..200 {
        sink.frame(manual_frame("k1", number * 100, View::Usual));
    }
    wait_until("all frames", || engine.counts().perception().analysed == 200);
    let looks = detector.0.load(SeqCst);
    // Each of the first two seconds' frames, then two a second.
    assert!((50..=75).contains(&looks), "{looks} of 200");
    engine.drain(Duration::from_secs(10));
    assert_eq!(finals(&store).len(), 1, "one vehicle, followed all the time");
}

#[test]
fn once_plates_are_read_beyond_doubt_vehicles_are_looked_at_less_often() {
    let Rig { store, mut parts } = rig();
    let (source, detector) =
        (Arc::new(ManualSource::default()), Arc::new(CountingDetector::default()));
    (parts.source, parts.detector) = (source.clone(), detector.clone());
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("k1")).unwrap();
    let sink = source.opened.lock().unwrap()[0].clone();
    // The car is in view in all of these.
    for number in 0..29 {
        sink.frame(manual_frame("k1", number * 100, View::Changed));
    }
    wait_until("all frames", || engine.counts().perception().analysed == 29);
    let looks = detector.0.load(SeqCst);
    assert!((16..=24).contains(&looks), "{looks} of 29");
    assert_eq!(engine.counts().perception().standing, u64::from(29 - looks));
    // A question is always looked at.
    sink.frame(manual_frame("k1", 2850, View::Asked));
    wait_until("the answer", || source.answer(2850).is_some());
    engine.drain(Duration::from_secs(10));
    let sightings = finals(&store);
    assert_eq!(sightings.len(), 1);
    let span = sightings[0].span.last().since(sightings[0].span.first());
    assert!(span >= Duration::from_millis(2600), "{span:?}");
}

#[test]
fn a_camera_that_closes_slowly_keeps_nobody_from_changing_others() {
    let Rig { mut parts, .. } = rig();
    let source = Arc::new(ManualSource::default());
    parts.source = source.clone();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let cameras = engine.cameras();
    let id = |id| CameraId::new(id).unwrap();
    cameras.register(camera("k1")).unwrap();
    let held = source.hold.lock().unwrap();
    let removing = thread::spawn({
        let cameras = cameras.clone();
        move || cameras.remove(&CameraId::new("k1").unwrap())
    });
    wait_until("it is being closed", || cameras.list()[0].1.counters.units == 100);
    cameras.register(camera("k2")).unwrap();
    let renamed = Camera { name: "路口".into(), ..camera("k2") };
    cameras.update(&camera("k2"), renamed).unwrap();
    assert!(!removing.is_finished());
    drop(held);
    removing.join().unwrap().unwrap();
    assert!(matches!(cameras.remove(&id("k1")), Err(ControlError::NotFound(_))));
    engine.drain(Duration::from_secs(10));
}

#[test]
fn totals_do_not_fall_when_a_camera_is_edited_or_removed() {
    let Rig { mut parts, .. } = rig();
    parts.source = Arc::new(ManualSource::default());
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let cameras = engine.cameras();
    cameras.register(camera("k1")).unwrap();
    cameras.register(camera("k2")).unwrap();
    assert_eq!(cameras.stream_totals().units, 200);
    let edited = Camera { analysed_fps_max: 5.0, ..camera("k1") };
    cameras.update(&camera("k1"), edited).unwrap();
    assert_eq!(cameras.stream_totals().units, 300);
    cameras.remove(&CameraId::new("k2").unwrap()).unwrap();
    assert_eq!(cameras.stream_totals().units, 300);
    engine.drain(Duration::from_secs(10));
}

#[test]
fn a_camera_opened_by_an_analyst_goes_first() {
    let Rig { mut parts, .. } = rig();
    let source = Arc::new(ManualSource::default());
    parts.source = source.clone();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let cameras = engine.cameras();
    cameras.register(Camera { enabled: false, ..camera("k1") }).unwrap();
    let until = Timestamp::from_secs(1_795_000_160);
    let opening = Opening { until, by: "wang".into() };
    cameras.open_until(&CameraId::new("k1").unwrap(), opening).unwrap();
    assert!(source.heard.urgent.load(SeqCst));
    engine.drain(Duration::from_secs(10));
}

#[test]
fn room_is_made_for_what_may_be_open_at_once_and_for_no_more() {
    let Rig { parts, .. } = rig();
    let source = ScriptedSource { endless: true, room: Some(3), ..ScriptedSource::default() };
    let parts = EngineParts { source: Arc::new(source), ..parts };
    let settings = EngineSettings { opened_max: 1, ..EngineSettings::default() };
    let engine = Engine::start(parts, settings).unwrap();
    let cameras = engine.cameras();
    let closed = |id: &str| Camera { enabled: false, ..camera(id) };
    // However many are closed, only one of them is ever open.
    let many: Vec<_> = (0..50).map(|number| closed(&format!("c{number}"))).collect();
    cameras.check_room_for(&many).unwrap();
    assert!(cameras.register_all(many).unwrap().iter().all(Result::is_ok));
    let outcomes = cameras.register_all(vec![camera("k1"), camera("k2"), camera("k3")]).unwrap();
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok(), "{outcomes:?}");
    // The one that is too much is refused when it is registered, changed, or opened at the start.
    let refused = |outcome: Result<(), ControlError>| {
        let Err(ControlError::NoRoom(what)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(what, "4 cameras need more files");
    };
    refused(outcomes.into_iter().nth(2).unwrap().map(drop));
    refused(cameras.register(camera("k3")));
    refused(cameras.update(&closed("c0"), camera("c0")));
    refused(cameras.open(camera("k3")));
    refused(cameras.check_room_for(&[camera("k3")]));
    // A second stream that watches takes as much as another camera.
    let doubled = Camera {
        address: StreamAddress::new("rtsp://h/a").unwrap(),
        substream: Some(StreamAddress::new("rtsp://h/b").unwrap()),
        pace: Pace::RealTime,
        policy: DecodePolicy::Motion,
        ..camera("k1")
    };
    refused(cameras.update(&camera("k1"), doubled));
    // What is closed instead makes room.
    cameras.update(&camera("k1"), closed("k1")).unwrap();
    cameras.register(camera("k3")).unwrap();
    engine.drain(Duration::from_secs(10));
}

/// The stages of all alerts in the log's order, by camera.
fn stages(store: &MemoryStore) -> Vec<(String, AlertStage)> {
    let log = store.alerts_after(0, 1000).unwrap();
    log.iter().map(|alert| (alert.camera.to_string(), alert.stage)).collect()
}

#[test]
fn what_a_killed_process_had_in_view_is_ended_at_the_next_start() {
    use AlertStage::{Confirmed, Withdrawn};
    let Rig { store, parts } = rig();
    store.put_entry(&watch_entry("浙J12345")).unwrap();
    store.put_camera(&camera("k1")).unwrap();
    store.put_camera(&camera("k2")).unwrap();
    store.put_camera(&Camera { enabled: false, ..camera("outside") }).unwrap();
    let engine = Engine::start(parts.clone(), EngineSettings::default()).unwrap();
    let mut seen = ["k1", "k2", "outside", "gone"].map(|camera| foreign(camera, "浙J12345", 1));
    let mut begun = seen.clone().map(provisional);
    engine.intake().take_in(&mut begun).unwrap();
    // The second one ends as it should.
    engine.intake().take_in(&mut seen[1..2]).unwrap();
    // A kill: nothing is drained. (The engine's threads see no camera and do nothing more.)
    let open = stages(&store);
    let again = Engine::start(parts.clone(), EngineSettings::default()).unwrap();
    let told = stages(&store);
    assert_eq!(told[..open.len()], open);
    let settled = [("k1".to_owned(), Confirmed), ("gone".to_owned(), Confirmed)];
    let mut fresh = told[open.len()..].to_vec();
    fresh.sort_by_key(|(camera, _)| camera != "k1");
    assert_eq!(fresh, settled, "one whose end comes from outside is left to it");
    for record in [&begun[0], &begun[3]] {
        let ended = store.get(record.sighting.id).unwrap().unwrap();
        assert_eq!(ended, Sighting { stage: SightingStage::Final, ..(*record.sighting).clone() });
    }
    // Its end from outside still counts, and another start changes nothing.
    let mut other = foreign("outside", "浙J12345", 1);
    let wrong = foreign("outside", "浙J99999", 1);
    Arc::make_mut(&mut other.sighting).plate = wrong.sighting.plate.clone();
    again.intake().take_in(&mut [other]).unwrap();
    assert_eq!(stages(&store).last(), Some(&("outside".to_owned(), Withdrawn)));
    let count = stages(&store).len();
    let third = Engine::start(parts, EngineSettings::default()).unwrap();
    assert_eq!(stages(&store).len(), count);
    for engine in [engine, again, third] {
        engine.drain(Duration::from_secs(10));
    }
}

#[test]
fn a_late_beginning_does_not_reopen_an_alert() {
    let Rig { store, parts } = rig();
    store.put_entry(&watch_entry("浙J12345")).unwrap();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    // The final sighting reads another plate; its beginning, which rang, comes after it.
    let mut last = [foreign("k9", "浙J99999", 1)];
    let beginning = provisional(foreign("k9", "浙J12345", 1));
    engine.intake().take_in(&mut last).unwrap();
    let receipt = engine.intake().take_in(&mut [beginning]).unwrap();
    assert_eq!((receipt.kept, receipt.alerts), (vec![Kept::Present], Vec::new()));
    engine.drain(Duration::from_secs(10));
}

#[test]
fn a_repetition_is_known_after_a_restart_and_among_imports_at_the_same_time() {
    let Rig { store, parts } = rig();
    store.put_entry(&watch_entry("浙J12345")).unwrap();
    let engine = Engine::start(parts.clone(), EngineSettings::default()).unwrap();
    // At the same time, so many seconds apart, all within the time of a repetition.
    let intake = engine.intake();
    thread::scope(|scope| {
        for second in 0..8 {
            let intake = intake.clone();
            scope.spawn(move || intake.take_in(&mut [foreign("k9", "浙J12345", second)]).unwrap());
        }
    });
    engine.drain(Duration::from_secs(10));
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.intake().take_in(&mut [foreign("k9", "浙J12345", 9)]).unwrap();
    engine.drain(Duration::from_secs(10));
    let log = store.alerts_after(0, 100).unwrap();
    let rung: Vec<_> = log.iter().filter(|alert| alert.repeat.is_none()).collect();
    let [first] = rung[..] else { panic!("{} rang", rung.len()) };
    let mut numbers: Vec<_> = log.iter().filter_map(|alert| alert.repeat.as_ref()).collect();
    assert!(numbers.iter().all(|repeat| repeat.of == first.id));
    numbers.sort_by_key(|repeat| repeat.number);
    assert_eq!(numbers.iter().map(|r| r.number).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
}

#[test]
fn a_moved_camera_rings_where_it_stands_now() {
    let Rig { store, parts } = rig();
    store.put_entry(&watch_entry("浙J12345")).unwrap();
    let place = |lat| GeoPoint::new(lat, 121.4).unwrap();
    for (id, lat) in [("south", 29.1), ("north", 29.9)] {
        let area = GeoArea::Circle { centre: place(lat), radius_m: 1000.0 };
        let unit = PatrolUnit {
            id: PatrolUnitId::new(id).unwrap(),
            name: id.into(),
            duty: PatrolDuty::Patrol,
            cameras: Vec::new(),
            area: Some(area),
            shifts: Vec::new(),
            neighbours: Vec::new(),
        };
        store.put_unit(&unit).unwrap();
    }
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let closed = Camera { enabled: false, ..camera("k9") };
    engine.cameras().register(closed.clone()).unwrap();
    let told = |second| {
        let receipt = engine.intake().take_in(&mut [foreign("k9", "浙J12345", second)]).unwrap();
        receipt.alerts[0].units.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(1), ["south"]);
    let moved = Camera { position: place(29.9), ..closed.clone() };
    engine.cameras().update(&closed, moved).unwrap();
    assert_eq!(told(2), ["north"]);
    engine.drain(Duration::from_secs(10));
}

#[test]
fn a_live_camera_whose_clock_is_slow_misses_no_new_entry() {
    let Rig { store, mut parts } = rig();
    parts.source = Arc::new(ScriptedSource { endless: true, ..ScriptedSource::default() });
    // Captures are dated days before the present, at which somebody is entered.
    let now = Timestamp::from_secs(1_795_900_000);
    parts.clock = Arc::new(SimulatedClock::at(now));
    let entry = WatchEntry { created: now, ..watch_entry("浙J12345") };
    store.put_entry(&entry).unwrap();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(camera("recording")).unwrap();
    wait_until("the recording", || !finals(&store).is_empty());
    assert_eq!(store.last_cursor().unwrap(), 0, "it shows what was before the entry");
    engine.cameras().register(Camera { pace: Pace::RealTime, ..camera("live") }).unwrap();
    wait_until("the alert", || store.last_cursor().unwrap() > 0);
    assert!(stages(&store).iter().all(|(camera, _)| camera == "live"));
    engine.drain(Duration::from_secs(10));
}

/// A watch-list that cannot be read for a while.
struct Unreadable {
    inner: Arc<MemoryStore>,
    broken: AtomicBool,
}

impl Watchlist for Unreadable {
    fn put_entries(&self, entries: &[WatchEntry]) -> Result<(), StoreError> {
        self.inner.put_entries(entries)
    }
    fn remove_entry(&self, id: &WatchEntryId) -> Result<bool, StoreError> {
        self.inner.remove_entry(id)
    }
    fn entry(&self, id: &WatchEntryId) -> Result<Option<WatchEntry>, StoreError> {
        self.inner.entry(id)
    }
    fn entries_after(
        &self,
        after: Option<&WatchEntryId>,
        limit: usize,
    ) -> Result<Vec<WatchEntry>, StoreError> {
        self.inner.entries_after(after, limit)
    }
    fn entries(&self) -> Result<Vec<WatchEntry>, StoreError> {
        if self.broken.load(SeqCst) {
            return Err(StoreError::Medium { doing: "read the registry", reason: "broken".into() });
        }
        self.inner.entries()
    }
}

#[test]
fn a_change_that_could_not_be_read_comes_into_force_by_itself() {
    let Rig { store, mut parts } = rig();
    let list = Arc::new(Unreadable { inner: store.clone(), broken: AtomicBool::new(false) });
    parts.watchlist = list.clone();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    list.broken.store(true, SeqCst);
    list.put_entry(&watch_entry("浙J12345")).unwrap();
    assert!(engine.watchbook().reload().is_err());
    engine.intake().take_in(&mut [foreign("k9", "浙J12345", 1)]).unwrap();
    assert_eq!(store.last_cursor().unwrap(), 0);
    list.broken.store(false, SeqCst);
    let mut second = 100;
    wait_until("the entry to be in force", || {
        second += 100;
        engine.intake().take_in(&mut [foreign("k9", "浙J12345", second)]).unwrap();
        store.last_cursor().unwrap() > 0
    });
    engine.drain(Duration::from_secs(10));
}

/// An alert log whose first reading after a while panics.
struct Panicking {
    inner: Arc<MemoryStore>,
    panics: AtomicU32,
}

impl AlertLog for Panicking {
    fn alerts_after(&self, cursor: u64, limit: usize) -> Result<Vec<Alert>, StoreError> {
        self.inner.alerts_after(cursor, limit)
    }
    fn last_cursor(&self) -> Result<u64, StoreError> {
        self.inner.last_cursor()
    }
    fn alerts_of(&self, sightings: &[SightingId]) -> Result<Vec<Alert>, StoreError> {
        self.inner.alerts_of(sightings)
    }
    fn alert_history(&self, id: &AlertId) -> Result<Vec<Alert>, StoreError> {
        if self.panics.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
            panic!("scripted");
        }
        self.inner.alert_history(id)
    }
    fn append(&self, alert: &Alert) -> Result<Option<Alert>, StoreError> {
        self.inner.append(alert)
    }
}

#[test]
fn escalation_goes_on_after_a_panic() {
    let Rig { store, parts } = rig();
    let clock = Arc::new(SimulatedClock::at(Timestamp::from_secs(1_795_000_100)));
    let parts = EngineParts { clock: clock.clone(), ..parts };
    store.put_entry(&watch_entry("浙J12345")).unwrap();
    let room = PatrolUnit {
        id: PatrolUnitId::new("room").unwrap(),
        name: "room".into(),
        duty: PatrolDuty::ControlRoom,
        cameras: Vec::new(),
        area: None,
        shifts: Vec::new(),
        neighbours: Vec::new(),
    };
    store.put_unit(&room).unwrap();
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledger = Deliveries::open(folder.path(), Durability::UnsafeNoSync).unwrap();
    let following = EscalationParts {
        alerts: Arc::new(Panicking { inner: store.clone(), panics: AtomicU32::new(2) }),
        intake: engine.intake(),
        ledger: Arc::new(ledger),
        clock: clock.clone(),
    };
    let mut escalation = Escalation::new(following, Duration::from_secs(60)).unwrap();
    let mut seen = [foreign("k1", "浙J12345", 1), foreign("k2", "浙J12345", 1)];
    engine.intake().take_in(&mut seen).unwrap();
    clock.advance(Duration::from_secs(61));
    for _ in 0..2 {
        assert!(escalation.run().is_err());
    }
    assert_eq!(escalation.run().unwrap(), 2);
    engine.drain(Duration::from_secs(10));
}

#[test]
fn a_stream_is_told_whether_its_frames_have_room() {
    /// Looks for as long as it is held.
    struct Slow(Arc<Mutex<()>>);
    impl Detector for Slow {
        fn input_size(&self) -> (u32, u32) {
            (64, 36)
        }
        fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
            drop(self.0.lock().unwrap());
            Ok(vec![Vec::new(); frames.len()])
        }
        fn body_colour(&self, _: &dyn Picture, _: &BBox) -> Option<(VehicleColour, f32)> {
            None
        }
    }
    let Rig { mut parts, .. } = rig();
    let (source, hold) = (Arc::new(ManualSource::default()), Arc::new(Mutex::new(())));
    (parts.source, parts.detector) = (source.clone(), Arc::new(Slow(hold.clone())));
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    engine.cameras().register(Camera { pace: Pace::RealTime, ..camera("k1") }).unwrap();
    let sink = source.opened.lock().unwrap()[0].clone();
    assert!(sink.has_room());
    let held = hold.lock().unwrap();
    sink.frame(manual_frame("k1", 0, View::Changed));
    wait_until("it is taken", || sink.has_room());
    sink.frame(manual_frame("k1", 100, View::Changed));
    assert!(!sink.has_room(), "one in work, one waits");
    let heard = source.heard.room.load(SeqCst);
    drop(held);
    wait_until("there is room", || sink.has_room());
    wait_until("word of it", || source.heard.room.load(SeqCst) > heard);
    assert_eq!(engine.counts().perception().replaced, 0);
    engine.drain(Duration::from_secs(10));
}

#[test]
fn a_camera_that_reads_far_fewer_plates_than_usual_says_so() {
    let Rig { store, mut parts } = rig();
    // Half past an hour. What was read in the same and the last hour of four weeks before, by two cameras.
    let now = 1_795_001_400;
    let read_at = |camera: &str, at: i64| foreign(camera, "浙J12345", at - 1_795_000_000);
    let week = 7 * 86_400;
    for camera in ["k1", "k2"] {
        let id = CameraId::new(camera).unwrap();
        for weeks in 1..=4 {
            let hour = now - 1800 - weeks * week;
            let span =
                TimeSpan::new(Timestamp::from_secs(hour - 3600), Timestamp::from_secs(hour + 3600));
            let (state, cause) = (CoverageState::Seeing, "live".to_owned());
            store
                .keep_coverage(&[Coverage {
                    camera: id.clone(),
                    span: span.unwrap(),
                    state,
                    cause,
                }])
                .unwrap();
            let seconds = (0..60).map(|n| hour - 3600 + n * 120 + 5);
            let records: Vec<_> = seconds.map(|at| read_at(camera, at)).collect();
            store.record(&records).unwrap();
        }
        // It could see, until now; of the last hour and a half k2 read as always, and k1 nothing.
        let span = TimeSpan::new(Timestamp::from_secs(now - 5400), Timestamp::from_secs(now + 300));
        let (state, cause) = (CoverageState::Seeing, "live".to_owned());
        store.keep_coverage(&[Coverage { camera: id, span: span.unwrap(), state, cause }]).unwrap();
    }
    let recent: Vec<_> = (0..44).map(|n| read_at("k2", now - 5400 + n * 120 + 5)).collect();
    store.record(&recent).unwrap();
    let clock = Arc::new(SimulatedClock::at(Timestamp::from_secs(now)));
    (parts.source, parts.clock) = (Arc::new(ManualSource::default()), clock.clone());
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    for id in ["k1", "k2"] {
        engine.cameras().register(Camera { pace: Pace::RealTime, ..camera(id) }).unwrap();
    }
    let health = |at: usize| engine.cameras().list().swap_remove(at).1;
    wait_until("a judgement", || health(0).reads.is_some() && health(1).reads.is_some());
    let (few, usual) = (health(0), health(1).reads.unwrap());
    assert!(!usual.too_few && (0.9..1.1).contains(&usual.ratio()), "{usual:?}");
    let reads = few.reads.unwrap();
    assert!(reads.too_few && reads.read == 0 && (44.0..46.0).contains(&reads.usual), "{reads:?}");
    assert_eq!(
        (few.status.state, few.status.reason),
        (CameraState::Live, Some(StatusReason::FewReads))
    );
    assert!(few.status.detail.starts_with("reads 100 % fewer plates than is usual"), "{few:?}");
    // What is stored from now on counts, once it is looked at again.
    clock.advance(Duration::from_secs(120));
    let mut records: Vec<_> = (0..40).map(|n| read_at("k1", now + 1 + n)).collect();
    engine.intake().take_in(&mut records).unwrap();
    wait_until("the end of it", || health(0).status.reason.is_none());
    assert_eq!(health(0).reads.unwrap().read, 40);
    engine.drain(Duration::from_secs(10));
}
