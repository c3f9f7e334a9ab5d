//! Imports over the wire into the real intake and the real store.

use std::sync::Arc;
use std::time::Duration;

use crate::scripted::{Running, Scripted, authority_pb, camera, now, sighting};
use guiji_api::client::{AlertsFrom, Client, ErrorCode};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb::import_service_client::ImportServiceClient;
use guiji_api::{ApiParts, ApiSettings, pb};
use guiji_domain::*;
use guiji_engine::{Intake, IntakeParts, PatrolBook, WatchBook};
use guiji_store::{Audit, AuditRecords, AuditSettings, Store, StoreSettings, verify_audit};
use tonic::Code;
use tonic_types::StatusExt;

pub(crate) struct Importing {
    pub(crate) server: Running,
    store: Arc<Store>,
    folder: tempfile::TempDir,
    pub(crate) clock: Arc<SimulatedClock>,
}

impl Importing {
    pub(crate) async fn start() -> Self {
        Self::start_with(ApiSettings::default()).await
    }

    async fn start_with(settings: ApiSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(StoreSettings::new(folder.path())).unwrap());
        let clock = Arc::new(SimulatedClock::at(now()));
        let watchbook = Arc::new(WatchBook::load(store.clone()).unwrap());
        let patrols = Arc::new(PatrolBook::load(store.clone()).unwrap());
        let intake = IntakeParts {
            store: store.clone(),
            alerts: store.clone(),
            watchbook: watchbook.clone(),
            patrols: patrols.clone(),
            clock: clock.clone(),
            repeat_within: Duration::from_secs(30),
            live_queue: 16,
        };
        let (intake, cameras) =
            (Arc::new(Intake::new(intake).unwrap()), Arc::new(Scripted::default()));
        let audit = AuditSettings::new(folder.path().join("audit"));
        let audit = Arc::new(Audit::open(audit).unwrap());
        let parts = ApiParts {
            stop: Stop::default(),
            store: store.clone(),
            likely: store.clone(),
            passages: store.clone(),
            alerts: store.clone(),
            audit,
            watchlist: store.clone(),
            coverage: store.clone(),
            roads: store.clone(),
            patrols: store.clone(),
            corrections: store.clone(),
            cameras: cameras.clone(),
            sealer: cameras.clone(),
            releases: cameras.clone(),
            odd: crate::scripted::odd_of(&cameras),
            clock: clock.clone(),
            alert_wake: intake.alert_wake(),
            live: intake.live(),
            intake,
            patrols_changed: Arc::new(move || patrols.reload().unwrap()),
            watchlist_changed: Arc::new(move || watchbook.reload().unwrap()),
        };
        let wake = tokio::sync::watch::Sender::new(0);
        let server = Running::serve(cameras, parts, wake, settings).await;
        server.register([camera("k1", 29.1, 121.4)]);
        Self { server, store, folder, clock }
    }

    /// The questions of all calls of a method that are in the audit, in their order.
    pub(crate) fn audit_of(&self, method: &str) -> Vec<String> {
        let records = AuditRecords::open(&self.folder.path().join("audit")).unwrap();
        let records: Vec<_> = records.map(Result::unwrap).collect();
        let of_method = records.iter().filter(|r| r.field("method") == Some(method));
        of_method.map(|r| r.field("question").unwrap_or_default().to_owned()).collect()
    }

    pub(crate) fn stored(&self) -> Vec<Sighting> {
        self.store.search(&SightingQuery::all_in(TimeSpan::ALL, 10_000)).unwrap().sightings
    }
}

pub(crate) async fn import(
    client: &Client,
    chunks: impl IntoIterator<Item = Vec<pb::Sighting>>,
) -> Result<pb::ImportSightingsResponse, guiji_api::client::ClientError> {
    let mut stream = client.import_sightings();
    for chunk in chunks {
        if !stream.send(chunk).await {
            break;
        }
    }
    stream.finish().await
}

fn counts(answer: &pb::ImportSightingsResponse) -> (u64, u64, u64) {
    (answer.stored_count, answer.present_count, answer.refused_count)
}

#[tokio::test]
async fn sightings_are_stored_once_and_ring() {
    let rig = Importing::start().await;
    let client = rig.server.client().await;
    let entry = pb::WatchlistEntry {
        target: Some(pb::watchlist_entry::Target::Plate("浙J12345".into())),
        reason: "test".into(),
        expire_time: Some(timestamp_to_pb(now().plus(Duration::from_secs(86_400)))),
        ..Default::default()
    };
    client.create_watchlist_entry("w1", entry).await.unwrap();
    let mut alerts = client.alerts(AlertsFrom::Beginning, None).await.unwrap();
    alerts.next().await.unwrap().unwrap();

    let plate = |i| if i == 1234 { "浙J12345" } else { "浙J12346" };
    let sightings: Vec<_> = (0..2500).map(|i| sighting("k1", plate(i), i)).collect();
    let chunks = || sightings.chunks(1000).map(|c| c.iter().map(pb::Sighting::from).collect());
    let answer = import(&client, chunks()).await.unwrap();
    assert_eq!((counts(&answer), answer.refusals.len()), ((2500, 0, 0), 0));
    assert_eq!(rig.stored(), sightings, "as they were given, lattices included");
    // Again, as after a lost acknowledgement.
    assert_eq!(counts(&import(&client, chunks()).await.unwrap()), (0, 2500, 0));
    assert_eq!(rig.stored().len(), 2500);

    let Some(pb::stream_alerts_response::Event::Alert(alert)) =
        alerts.next().await.unwrap().unwrap().event
    else {
        panic!("no alert")
    };
    assert_eq!(alert.sighting, format!("sightings/{}", sightings[1234].id));
    assert_eq!(alert.stage(), pb::AlertStage::Confirmed);
    assert_eq!(
        client.list_alerts(0, 10).await.unwrap().len(),
        1,
        "the second import rings nothing"
    );
}

#[tokio::test]
async fn a_provisional_sighting_becomes_final() {
    let rig = Importing::start().await;
    let client = rig.server.client().await;
    let last = sighting("k1", "浙J12345", 1);
    let first = Sighting { stage: SightingStage::Provisional, frames: 2, ..last.clone() };
    for (given, expected) in [(&first, (1, 0, 0)), (&last, (1, 0, 0)), (&first, (0, 1, 0))] {
        let answer = import(&client, [vec![given.into()]]).await.unwrap();
        assert_eq!(counts(&answer), expected);
    }
    assert_eq!(rig.stored(), [last]);
}

#[tokio::test]
async fn what_cannot_be_taken_is_told_by_its_place_and_the_rest_is_stored() {
    let rig = Importing::start().await;
    let client = rig.server.client().await;
    let good = |i| pb::Sighting::from(&sighting("k1", "浙J12345", i));
    let with = |i, change: fn(&mut pb::Sighting)| {
        let mut sighting = good(i);
        change(&mut sighting);
        sighting
    };
    let chunks = [
        vec![good(0), with(1, |s| s.plate.as_mut().unwrap().text = "浙112345".into()), good(2)],
        vec![
            with(3, |s| s.camera = "cameras/nowhere".into()),
            pb::Sighting::from(&sighting("k1", "浙J12345", 400_000)),
            with(5, |s| (s.name, s.camera) = ("x".repeat(100_000), "cameras/nowhere".into())),
            good(6),
        ],
    ];
    let answer = import(&client, chunks).await.unwrap();
    assert_eq!(counts(&answer), (3, 0, 4));
    let told: Vec<_> = answer
        .refusals
        .iter()
        .map(|r| (r.index, r.violations[0].field.as_str(), r.violations[0].description.as_str()))
        .collect();
    for ((index, field, fix), (told_index, told_field, description)) in [
        (1, "plate.text", "fits no kind"),
        (3, "camera", "ImportCameras first"),
        (4, "capture.time", "in the future"),
        (5, "name", "sightings/ID"),
    ]
    .into_iter()
    .zip(told)
    {
        assert_eq!((index, field), (told_index, told_field));
        assert!(description.contains(fix), "{description} lacks {fix}");
    }
    assert_eq!(answer.refusals[3].name, "x".repeat(64));
    assert_eq!(
        answer.refusals[3].violations[1].field, "camera",
        "all that is wrong is told at once"
    );
    assert_eq!(rig.stored().len(), 3);
    // A camera that is registered while a client imports is known from then on.
    rig.server.register([camera("nowhere", 29.0, 121.0)]);
    let given = pb::Sighting::from(&sighting("nowhere", "浙J12345", 3));
    assert_eq!(counts(&import(&client, [vec![good(0)], vec![given]]).await.unwrap()), (1, 1, 0));
}

#[tokio::test]
async fn a_stream_that_breaks_the_limits_is_ended_and_says_why() {
    let rig = Importing::start().await;
    let client = rig.server.client().await;
    let one = pb::Sighting::from(&sighting("k1", "浙J12345", 1));
    let error = import(&client, [vec![one.clone()], vec![one.clone(); 10_001]]).await.unwrap_err();
    assert_eq!(
        (error.code, error.violations[0].field.as_str()),
        (ErrorCode::InvalidArgument, "sightings")
    );
    assert!(error.message.contains("at most 10000"), "{error}");
    assert_eq!(rig.stored().len(), 1, "what came before is stored");

    let mut large = one.clone();
    large.name = "x".repeat(5 << 20);
    let error = import(&client, [vec![large]]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::OutOfRange);
    assert_eq!(error.reason.as_deref(), Some("REQUEST_BROKEN"));

    let mut grpc = ImportServiceClient::new(rig.server.channel().await);
    let other = pb::Authority { officer: "Li".into(), ..authority_pb().unwrap() };
    let messages = [authority_pb(), None, authority_pb(), Some(other)]
        .map(|authority| pb::ImportSightingsRequest { authority, sightings: vec![one.clone()] });
    let status = grpc.import_sightings(tokio_stream::iter(messages)).await.unwrap_err();
    let details = status.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "authority");
    let status = grpc.import_sightings(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn sightings_of_many_days_and_many_small_messages_are_taken() {
    let rig = Importing::start().await;
    let client = rig.server.client().await;
    let daily = (0..100_i64).map(|day| {
        let at = Timestamp::from_nanos(now().as_nanos() - day * 86_400_000_000_000);
        let old = sighting("k1", "浙J12345", 1);
        let id = SightingId::for_track(&old.camera, TrackId(1), at);
        let captured = CaptureTime { at, ..old.captured };
        pb::Sighting::from(&Sighting { id, span: TimeSpan::at(at), captured, ..old })
    });
    let daily: Vec<_> = daily.collect();
    assert_eq!(counts(&import(&client, [daily.clone()]).await.unwrap()), (100, 0, 0));
    let one_each = daily.into_iter().map(|sighting| vec![sighting]);
    assert_eq!(counts(&import(&client, one_each).await.unwrap()), (0, 100, 0));
}

#[tokio::test]
async fn a_stream_that_never_ends_is_ended() {
    let deadline_max = Duration::from_millis(300);
    let settings = ApiSettings { deadline_max, ..ApiSettings::default() };
    let rig = Importing::start_with(settings).await;
    let client = rig.server.client().await;
    let mut stream = client.import_sightings();
    assert!(stream.send(vec![pb::Sighting::from(&sighting("k1", "浙J12345", 1))]).await);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let error = stream.finish().await.unwrap_err();
    assert_eq!(
        (error.code, error.reason.as_deref()),
        (ErrorCode::DeadlineExceeded, Some("TOO_LATE"))
    );
    assert_eq!(rig.stored().len(), 1);
}

#[tokio::test]
async fn a_stopping_server_ends_an_import() {
    let rig = Importing::start().await;
    let client = rig.server.client().await;
    let mut stream = client.import_sightings();
    assert!(stream.send(vec![pb::Sighting::from(&sighting("k1", "浙J12345", 1))]).await);
    while rig.stored().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.server.stop.send(()).unwrap();
    rig.server.served.await.unwrap().unwrap();
    let error = stream.finish().await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
}

#[tokio::test]
async fn many_cameras_are_registered_once() {
    let rig = Importing::start().await;
    let client = rig.server.client().await;
    let idle = |id: &str| Camera { enabled: false, ..camera(id, 29.0, 121.0) };
    let mut given: Vec<_> = ["k2", "k3", "k2"].map(|id| pb::Camera::from(&idle(id))).to_vec();
    let mut wrong = given[0].clone();
    (wrong.name, wrong.position) = ("k4".into(), None);
    given.push(wrong);
    given.push(pb::Camera { display_name: "moved".into(), ..given[0].clone() });
    let would = client.check_cameras(given.clone()).await.unwrap();
    let registered = |id: &str| {
        rig.server.parts.cameras.lock().unwrap().contains_key(&CameraId::new(id).unwrap())
    };
    assert!(!registered("k2") && !registered("k3"), "it was only asked");
    let answer = client.import_cameras(given.clone()).await.unwrap();
    assert_eq!(would, answer);
    assert_eq!((answer.registered_count, answer.present_count, answer.refused_count), (2, 1, 2));
    let told = |i: usize| {
        let refusal = &answer.refusals[i];
        let fields = refusal.violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>();
        (refusal.index, fields)
    };
    assert_eq!(told(0), (3, vec!["name", "position"]));
    assert_eq!(told(1), (4, vec!["name"]));
    assert!(answer.refusals[1].violations[0].description.contains("differently"));
    let again = client.import_cameras(given[..3].to_vec()).await.unwrap();
    assert_eq!((again.registered_count, again.present_count), (0, 3));
    let many = (0..12).map(|i| pb::Camera::from(&idle(&format!("m{i}")))).collect();
    let full = client.import_cameras(many).await.unwrap();
    assert_eq!((full.registered_count, full.refused_count), (7, 5), "the limit is ten");
    let error = client.import_cameras(vec![given[0].clone(); 2001]).await.unwrap_err();
    assert!(error.message.contains("at most 2000"), "{error}");
    let listed = client.cameras().await.unwrap();
    let k2 = listed.iter().find(|camera| camera.name == "cameras/k2").unwrap();
    assert!(k2.disabled && k2.position == given[0].position);
}

#[tokio::test]
async fn the_answer_to_a_change_comes_after_its_link_in_the_chain() {
    let importing = Importing::start().await;
    let client = importing.server.client().await;
    import(&client, [vec![pb::Sighting::from(&sighting("k1", "浙J12345", 1))]]).await.unwrap();
    client.search(pb::SearchSightingsRequest::default()).await.unwrap();
    // The server runs on, and nothing is waited for.
    let dir = importing.folder.path().join("audit");
    let records: Vec<_> = AuditRecords::open(&dir).unwrap().map(Result::unwrap).collect();
    let told: Vec<_> =
        records.iter().map(|r| (r.field("method").unwrap(), r.field("results").unwrap())).collect();
    let expected =
        [("ImportService/ImportSightings", "1"), ("SightingService/SearchSightings", "1")];
    assert_eq!(told, expected);
    let report = verify_audit(&dir, None).unwrap();
    assert_eq!((report.records, report.first_break), (2, None));
}
