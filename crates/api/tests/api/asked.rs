//! What the audit keeps of a question: all of it, and which plates it is about.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::access::{Guarded, spec, told};
use crate::scripted::{Running, authority_pb, camera, eventually, now, sighting};
use guiji_api::client::ErrorCode;
use guiji_api::convert::timestamp_to_pb;
use guiji_api::{ApiSettings, Role, pb};
use guiji_domain::{AuditEntry, Digest, Evidence, EvidenceKind};
use prost::Message as _;
use prost_reflect::ReflectMessage as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, Value,
};
use sha2::Digest as _;

const PLATE: &str = "浙J12345";

/// Puts the plate into every field that is one; whether there is any.
fn fill(message: &mut DynamicMessage, depth: usize) -> bool {
    let mut any = false;
    for field in message.descriptor().fields() {
        let value = match field.kind() {
            Kind::String if ["plate", "plate_pattern"].contains(&field.name()) => {
                any = true;
                Value::String(PLATE.into())
            }
            Kind::Message(inner) if depth < 4 && field.name() != "authority" => {
                let mut inner = DynamicMessage::new(inner);
                if !fill(&mut inner, depth + 1) {
                    continue;
                }
                any = true;
                Value::Message(inner)
            }
            _ => continue,
        };
        let value = if field.is_list() { Value::List(vec![value]) } else { value };
        message.set_field(&field, value);
    }
    any
}

fn request_about_a_plate(descriptor: MessageDescriptor) -> Option<DynamicMessage> {
    let authority = authority_pb().unwrap().encode_to_vec();
    let mut request = DynamicMessage::new(descriptor);
    if !fill(&mut request, 0) {
        return None;
    }
    let field = request.descriptor().get_field_by_name("authority").unwrap();
    let Kind::Message(kind) = field.kind() else { panic!("no authority") };
    let authority = DynamicMessage::decode(kind, authority.as_slice()).unwrap();
    request.set_field(&field, Value::Message(authority));
    Some(request)
}

fn calls() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
    let own = pool.services().filter(|service| service.package_name() == "guiji.v1");
    // What comes as a stream is told by its numbers: there is no one request.
    own.flat_map(|service| service.methods().collect::<Vec<_>>())
        .filter(|method| !method.is_client_streaming())
        .collect()
}

#[tokio::test]
async fn every_call_about_a_plate_says_so_in_the_audit() {
    let server = Running::start().await;
    server.register([camera("k1", 28.0, 121.0)]);
    let mut tried = Vec::new();
    for method in calls() {
        let Some(request) = request_about_a_plate(method.input()) else { continue };
        let name = format!("{}/{}", method.parent_service().name(), method.name());
        let path = format!("/guiji.v1.{name}").parse().unwrap();
        let mut grpc = tonic::client::Grpc::new(server.channel().await);
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<DynamicMessage, ()>::default();
        // Some are refused for what they lack: who asked for what is kept all the same.
        let answer = grpc.server_streaming(tonic::Request::new(request), path, codec).await;
        drop(answer);
        let entry = async || {
            let audit = server.parts.audit.lock().unwrap();
            audit.iter().find(|entry| entry.method == name).cloned()
        };
        eventually(&name, async || entry().await.is_some()).await;
        let entry = entry().await.unwrap();
        assert_eq!(entry.plates, [PLATE], "{name}");
        assert!(entry.request.contains(PLATE), "{name}: {}", entry.request);
        assert!(!entry.request.contains("authority"), "{name}: it stands beside");
        tried.push(name);
    }
    for known in ["SearchLikely", "FindConvoys", "ListStops", "GetVehicleCard", "GrantRelease"] {
        assert!(tried.iter().any(|name| name.ends_with(known)), "{known} of {tried:?}");
    }
    assert!(tried.len() >= 14, "{tried:?}");
}

fn last(server: &Running, method: &str) -> AuditEntry {
    let audit = server.parts.audit.lock().unwrap();
    audit.iter().rev().find(|entry| entry.method.ends_with(method)).unwrap().clone()
}

#[tokio::test]
async fn a_question_can_be_asked_again_from_its_record() {
    let server = Running::start().await;
    let names: Vec<_> = (0..300).map(|i| format!("cam-{i:03}")).collect();
    server.register(names.iter().map(|id| camera(id, 28.0, 121.0)));
    let client = server.client().await;
    let filter = pb::SightingFilter {
        plate_pattern: "浙j?12*".into(),
        cameras: names.iter().map(|id| format!("cameras/{id}")).collect(),
        hours: Some(pb::DailyHours { start_minute: 840, end_minute: 900, weekdays: Vec::new() }),
        ..Default::default()
    };
    let request = pb::SearchSightingsRequest { filter: Some(filter), ..Default::default() };
    client.search(request).await.unwrap();
    let entry = last(&server, "SearchSightings");
    assert_eq!(entry.plates, ["浙J?12*"], "in its normal form");
    for id in &names {
        assert!(entry.request.contains(&format!("cameras/{id}\"")), "{id}");
        assert!(entry.question.contains(id), "{id}");
    }
    assert!(entry.question.contains("daily 14:00 to 15:00"), "{}", entry.question);
    assert!(entry.request.contains("\"startMinute\":840"), "{}", entry.request);
}

#[tokio::test]
async fn what_changed_of_a_camera_is_kept_without_its_password() {
    let server = Running::start().await;
    server.register([camera("k1", 28.0, 121.0)]);
    let client = server.client().await;
    let change = pb::Camera {
        name: "cameras/k1".into(),
        display_name: "the new one".into(),
        credentials: Some(pb::Credentials { username: "admin".into(), password: "hunter2".into() }),
        ..Default::default()
    };
    client.update_camera(change, &["display_name", "credentials"]).await.unwrap();
    let entry = last(&server, "UpdateCamera");
    assert!(entry.question.contains("k1: name "), "{}", entry.question);
    assert!(entry.question.ends_with("to \"the new one\", login"), "{}", entry.question);
    assert!(entry.request.contains("the new one") && entry.request.contains("admin"));
    assert!(!format!("{entry:?}").contains("hunter2"), "{entry:?}");
}

#[tokio::test]
async fn calls_of_nobody_known_are_in_the_audit() {
    let guarded = Guarded::start().await;
    let token = guarded.signer.sign(&spec(Role::Analyst), guiji_domain::Timestamp::EPOCH).unwrap();
    let client = guarded.client_with(Some(token)).await;
    for _ in 0..40 {
        let error = client.cameras().await.unwrap_err();
        assert_eq!(told(&error), (ErrorCode::Unauthenticated, "TOKEN_EXPIRED"));
    }
    let audit = guarded.server.parts.audit.lock().unwrap();
    assert!((20..30).contains(&audit.len()), "bounded: {}", audit.len());
    let first = &audit[0];
    assert_eq!((&*first.method, &*first.outcome), ("CameraService/refused", "Unauthenticated"));
    assert!(first.question.starts_with("from 127.0.0.1:"), "{}", first.question);
    assert_eq!(first.officer, "", "who that was nobody knows");
}

/// A picture of k1, original bytes `b"picture"`.
fn pictured() -> (guiji_domain::Sighting, Digest) {
    let mut sighting = sighting("k1", PLATE, 1);
    let digest = Digest(sha2::Sha256::digest(b"picture").into());
    sighting.evidence = vec![Evidence {
        kind: EvidenceKind::Frame,
        digest,
        bytes: 7,
        media_type: "image/jpeg".into(),
        captured: sighting.captured,
    }];
    (sighting, digest)
}

#[tokio::test]
async fn people_are_hidden_in_single_pictures_as_in_exports() {
    let guarded = Guarded::start().await;
    let (sighting, digest) = pictured();
    let name = format!("sightings/{}/evidence/{digest}", sighting.id);
    guarded.server.see([sighting]);
    guarded.server.parts.pictures.lock().unwrap().insert(digest, b"picture".to_vec());
    let with_leave =
        guiji_api::TokenSpec { people_shown_by: Some("li".into()), ..spec(Role::Analyst) };
    for (spec, shown) in [
        (spec(Role::Analyst), false),
        (spec(Role::Patrol), false),
        (with_leave, true),
        (spec(Role::Supervisor), true),
    ] {
        let client = guarded.client(&spec).await;
        let picture = client.evidence(&name).await.unwrap();
        assert_eq!(picture.bytes == b"picture", shown, "{spec:?}");
        assert_eq!(picture.header.size_bytes as usize, picture.bytes.len());
        assert_eq!(picture.header.name, name, "what it was made of");
        let asked = client.evidence_with(&name, pb::PeopleInPictures::Shown).await;
        match shown {
            true => assert_eq!(asked.unwrap().bytes, b"picture"),
            false => assert_eq!(
                told(&asked.unwrap_err()),
                (ErrorCode::PermissionDenied, "PEOPLE_BLURRED")
            ),
        }
        let hidden = client.evidence_with(&name, pb::PeopleInPictures::Blurred).await.unwrap();
        assert_eq!(hidden.bytes, b"nobody");
    }
    let entry = last(&guarded.server, "GetEvidence");
    assert_eq!(entry.plates, [PLATE], "whose picture it was");
}

#[tokio::test]
async fn a_search_that_nobody_waits_for_leaves_its_place() {
    let settings = ApiSettings {
        store_calls_max: 1,
        deadline_max: Duration::from_millis(50),
        ..ApiSettings::default()
    };
    let server = Running::start_with(settings).await;
    let client = server.client().await;
    server.parts.searches_until_stopped.store(true, Ordering::SeqCst);
    let error = client.search(pb::SearchSightingsRequest::default()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::DeadlineExceeded);
    // It has the only place until it notices.
    eventually("the place is free", async || client.cameras().await.is_ok()).await;
    server.parts.searches_until_stopped.store(false, Ordering::SeqCst);
}

#[tokio::test]
async fn a_scope_bounds_likely_searches_coverage_feeds_and_dry_runs() {
    use guiji_api::TokenScope;
    let guarded = Guarded::start().await;
    let server = &guarded.server;
    server.register([camera("k1", 28.0, 121.0), camera("k2", 28.5, 121.5)]);
    let [own, other] = ["k1", "k2"].map(|camera| {
        let mut seen = sighting(camera, PLATE, 1);
        seen.captured.at = now().minus(Duration::from_secs(60));
        seen
    });
    let inside = format!("sightings/{}", own.id);
    server.see([own, other]);
    let k1 = TokenScope::Cameras(vec![guiji_domain::CameraId::new("k1").unwrap()]);
    let scoped = guiji_api::TokenSpec { scope: k1.clone(), ..spec(Role::Analyst) };
    let client = guarded.client(&scoped).await;

    let filter = pb::SightingFilter { plate_pattern: PLATE.into(), ..Default::default() };
    let likely = pb::SearchLikelyRequest { filter: Some(filter), ..Default::default() };
    let answer = client.search_likely(likely).await.unwrap();
    let seen: Vec<_> =
        answer.results.iter().map(|r| &*r.sighting.as_ref().unwrap().camera).collect();
    assert_eq!(seen, ["cameras/k1"]);

    let coverage = |camera: &str| pb::ListCoverageRequest {
        camera: format!("cameras/{camera}"),
        start_time: Some(timestamp_to_pb(now().minus(Duration::from_secs(3600)))),
        end_time: Some(timestamp_to_pb(now())),
        ..Default::default()
    };
    assert!(client.coverage(coverage("k1")).await.is_ok());
    let error = client.coverage(coverage("k2")).await.unwrap_err();
    assert_eq!(told(&error), (ErrorCode::PermissionDenied, "OUTSIDE_SCOPE"));

    use pb::watch_sightings_response::Event;
    let mut feed = client.watch_sightings(pb::WatchSightingsRequest::default()).await.unwrap();
    assert!(matches!(feed.next().await.unwrap().unwrap().event, Some(Event::Opened(_))));
    for camera in ["k2", "k1"] {
        server.live.send(std::sync::Arc::new(sighting(camera, PLATE, 3))).unwrap();
    }
    let Some(Event::Sighting(first)) = feed.next().await.unwrap().unwrap().event else {
        panic!("no sighting")
    };
    assert_eq!(first.camera, "cameras/k1", "the other one is not shown");

    let entry = pb::WatchlistEntry {
        target: Some(pb::watchlist_entry::Target::Plate(PLATE.into())),
        reason: "a test".into(),
        expire_time: Some(timestamp_to_pb(now().plus(Duration::from_secs(3600)))),
        ..Default::default()
    };
    let since = timestamp_to_pb(now().minus(Duration::from_secs(3600)));
    let dry = client.dry_run_watchlist_entry(entry, since).await.unwrap();
    assert_eq!(dry.examples.len(), 1, "{dry:?}");
    assert_eq!(dry.examples[0].sighting, inside);

    let scoped = guiji_api::TokenSpec { scope: k1, ..spec(Role::Supervisor) };
    let supervisor = guarded.client(&scoped).await;
    for error in
        [supervisor.odd_patterns(7).await.unwrap_err(), supervisor.releases().await.unwrap_err()]
    {
        assert_eq!(told(&error), (ErrorCode::PermissionDenied, "SCOPE_FORBIDS"));
    }
}
