use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::scripted::{Running, authority_pb, eventually, sighting};
use guiji_api::client::{AlertsFrom, Client, ErrorCode};
use guiji_api::pb::sighting_service_client::SightingServiceClient;
use guiji_api::{ApiError, ApiSettings, pb};
use guiji_domain::{AuditEntry, Authority, Stop};
use prost::Message;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt;

/// Every method of the contract, from its descriptors: a method added later is tested too.
pub(crate) fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
    let own = set.file.iter().filter(|file| file.package() == "guiji.v1");
    own.flat_map(|file| &file.service)
        .flat_map(|service| {
            service.method.iter().map(|m| format!("/guiji.v1.{}/{}", service.name(), m.name()))
        })
        .collect()
}

#[tokio::test]
async fn every_method_is_refused_without_authority() {
    let server = Running::start().await;
    let methods = methods();
    assert!(methods.len() >= 18, "{methods:?}");
    for method in methods {
        let mut grpc = tonic::client::Grpc::new(server.channel().await);
        for (authority, fields) in [
            (None, vec!["authority"]),
            (
                Some(pb::Authority::default()),
                vec!["authority.purpose", "authority.case_number", "authority.officer"],
            ),
            (
                Some(pb::Authority {
                    purpose: "x".into(),
                    case_number: " ".into(),
                    officer: "y".repeat(201),
                }),
                vec!["authority.case_number", "authority.officer"],
            ),
        ] {
            grpc.ready().await.unwrap();
            // Each request has its authority as field 1, so any of them will do.
            let request =
                tonic::Request::new(pb::GetCameraRequest { authority, name: String::new() });
            let codec = tonic_prost::ProstCodec::<pb::GetCameraRequest, ()>::default();
            let path = method.parse().unwrap();
            let status = match grpc.server_streaming(request, path, codec).await {
                Err(status) => status,
                Ok(answer) => answer.into_inner().message().await.unwrap_err(),
            };
            assert_eq!(status.code(), Code::InvalidArgument, "{method}: {status}");
            let details = status.get_error_details();
            let told: Vec<_> = details
                .bad_request()
                .unwrap()
                .field_violations
                .iter()
                .map(|v| v.field.as_str())
                .collect();
            assert_eq!(told, fields, "{method}");
        }
    }
}

#[tokio::test]
async fn health_and_reflection_answer_without_authority() {
    let server = Running::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "guiji.v1.AlertService", "guiji.v1.TrajectoryService"] {
        let request = HealthCheckRequest { service: service.into() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let ask =
        |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("guiji.v1.TrajectoryService".into())),
    ]);
    let mut answers = reflection.server_reflection_info(requests).await.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let names: Vec<_> = listed.service.iter().map(|s| s.name.as_str()).collect();
    for service in ["Camera", "Import", "Sighting", "Trajectory", "Watchlist", "Alert"] {
        let name = format!("guiji.v1.{service}Service");
        assert!(names.contains(&name.as_str()), "{name} in {names:?}");
    }
    let file = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(file, MessageResponse::FileDescriptorResponse(_)), "{file:?}");
}

/// Until the store searches.
async fn search_begun(server: &Running) {
    while server.parts.searches_begun.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_drain_ends_streams_and_answers_what_is_in_progress() {
    let server = Running::start().await;
    let client = server.client().await;
    let mut alerts = client.alerts(AlertsFrom::Now, None).await.unwrap();
    alerts.next().await.unwrap().unwrap();
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: String::new() };
    let mut watched = health.watch(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    *server.parts.search_takes.lock().unwrap() = Duration::from_millis(500);
    server.see([sighting("k1", "浙J12345", 1)]);
    let searching = {
        let client = server.client().await;
        tokio::spawn(async move { client.search(pb::SearchSightingsRequest::default()).await })
    };
    search_begun(&server).await;

    server.stop.send(()).unwrap();
    let end = alerts.next().await.unwrap_err();
    assert_eq!(
        (end.code, end.reason.as_deref()),
        (ErrorCode::Unavailable, Some("SERVER_STOPPING"))
    );
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(searching.await.unwrap().unwrap().sightings.len(), 1);
    server.served.await.unwrap().unwrap(); // not cut off
    assert!(
        Client::connect(&server.address.to_string(), &crate::scripted::authority()).await.is_err()
    );
}

#[tokio::test]
async fn a_drain_that_takes_too_long_is_cut_off() {
    let drain_max = Duration::from_millis(200);
    let server = Running::start_with(ApiSettings { drain_max, ..ApiSettings::default() }).await;
    *server.parts.search_takes.lock().unwrap() = Duration::from_secs(2);
    let client = server.client().await;
    let searching =
        tokio::spawn(async move { client.search(pb::SearchSightingsRequest::default()).await });
    search_begun(&server).await;
    server.stop.send(()).unwrap();
    let end = server.served.await.unwrap().unwrap_err();
    assert!(matches!(end, ApiError::CutOff { .. }), "{end}");
    searching.abort();
}

#[tokio::test]
async fn too_many_calls_fail_fast_and_late_ones_end() {
    let settings = ApiSettings {
        calls_max: 1,
        deadline_max: Duration::from_secs(4),
        ..ApiSettings::default()
    };
    let server = Running::start_with(settings).await;
    *server.parts.search_takes.lock().unwrap() = Duration::from_secs(5);
    let mut raw = SightingServiceClient::new(server.channel().await);
    let request = || pb::SearchSightingsRequest { authority: authority_pb(), ..Default::default() };
    let late = {
        let mut raw = raw.clone();
        tokio::spawn(async move { raw.search_sightings(request()).await })
    };
    search_begun(&server).await;
    let busy = raw.search_sightings(request()).await.unwrap_err();
    assert_eq!(busy.code(), Code::ResourceExhausted, "{busy}");
    assert!(busy.get_error_details().retry_info().is_some());
    assert_eq!(late.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    // The place is free as soon as its call has ended, and the client's own, shorter deadline counts.
    let mut hasty = tonic::Request::new(request());
    hasty.set_timeout(Duration::from_millis(50));
    let begun = Instant::now();
    let code = raw.search_sightings(hasty).await.unwrap_err().code();
    assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code}");
    assert!(begun.elapsed() < Duration::from_secs(4), "the server's own");
}

#[tokio::test]
async fn a_failing_store_tells_no_secret_and_a_panic_ends_one_call() {
    let server = Running::start().await;
    let client = server.client().await;
    let search = async || client.search(pb::SearchSightingsRequest::default()).await;
    server.parts.medium_fails.store(true, Ordering::SeqCst);
    let failed = search().await.unwrap_err();
    assert_eq!(
        (failed.code, failed.reason.as_deref()),
        (ErrorCode::Internal, Some("STORE_FAILED"))
    );
    assert!(!failed.message.contains("secret"), "{failed}");
    server.parts.medium_fails.store(false, Ordering::SeqCst);
    server.parts.search_panics.store(true, Ordering::SeqCst);
    assert_eq!(search().await.unwrap_err().reason.as_deref(), Some("PANICKED"));
    server.parts.search_panics.store(false, Ordering::SeqCst);
    assert!(search().await.is_ok());
}

#[tokio::test]
async fn an_oversized_request_is_refused() {
    let server = Running::start().await;
    let client = server.client().await;
    let filter =
        Some(pb::SightingFilter { plate_pattern: "?".repeat(300 * 1024), ..Default::default() });
    let request = pb::SearchSightingsRequest { filter, ..Default::default() };
    assert!(client.search(request).await.is_err());
    assert!(client.search(pb::SearchSightingsRequest::default()).await.is_ok());
}

#[tokio::test]
async fn it_listens_to_loopback_only() {
    let (_wake, alert_wake) = tokio::sync::watch::channel(0);
    let scripted = Arc::new(crate::scripted::Scripted::default());
    let context = Arc::new(guiji_store::MemoryStore::new());
    let api = guiji_api::ApiServer::new(
        guiji_api::ApiParts {
            stop: Stop::default(),
            store: scripted.clone(),
            likely: scripted.clone(),
            passages: scripted.clone(),
            intake: scripted.clone(),
            alerts: scripted.clone(),
            deliveries: scripted.clone(),
            audit: scripted.clone(),
            watchlist: scripted.clone(),
            coverage: context.clone(),
            roads: context.clone(),
            patrols: context.clone(),
            corrections: context,
            cameras: scripted.clone(),
            sealer: scripted.clone(),
            releases: scripted.clone(),
            odd: crate::scripted::odd_of(&scripted),
            clock: Arc::new(guiji_domain::SimulatedClock::default()),
            alert_wake,
            live: tokio::sync::broadcast::Sender::new(1),
            watchlist_changed: Arc::new(|| Ok(())),
            patrols_changed: Arc::new(|| Ok(())),
        },
        ApiSettings::default(),
    );
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = api.serve(listener, std::future::pending()).await.unwrap_err();
    assert!(matches!(refused, ApiError::Exposed { .. }), "{refused}");
}

#[tokio::test]
async fn each_data_call_leaves_its_audit_record() {
    let server = Running::start().await;
    server.see((0..3).map(|i| sighting("k1", "浙J12345", i)));
    server.ring(2);
    let address = server.address.to_string();
    let officer = |name| Authority::new("search", "Case-9", name).unwrap();
    let records = |name: &str| -> Vec<AuditEntry> {
        let all = server.parts.audit.lock().unwrap();
        all.iter().filter(|entry| entry.officer == name).cloned().collect()
    };

    let client = Client::connect(&address, &officer("one")).await.unwrap();
    client.trajectory("浙J12345", None, None).await.unwrap();
    // The answer came after the record.
    let told = records("one");
    assert_eq!(told.len(), 1, "{told:?}");
    let AuditEntry { method, purpose, case_number, question, results, outcome, .. } = &told[0];
    assert_eq!(method, "TrajectoryService/GetTrajectory");
    assert_eq!((purpose.as_str(), case_number.as_str()), ("search", "Case-9"));
    assert!(question.contains("浙J12345"), "{question}");
    assert_eq!((*results, outcome.as_str()), (3, "Ok"));

    let client = Client::connect(&address, &officer("two")).await.unwrap();
    let mut alerts = client.alerts(AlertsFrom::Beginning, None).await.unwrap();
    for _ in 0..3 {
        alerts.next().await.unwrap().unwrap();
    }
    let outcomes = || -> Vec<(u64, String)> {
        records("two").into_iter().map(|entry| (entry.results, entry.outcome)).collect()
    };
    assert_eq!(outcomes(), [(0, "Opened".to_owned())], "the call has not ended");
    drop(alerts);
    eventually("a record", async || outcomes().len() > 1).await;
    assert_eq!(outcomes(), [(0, "Opened".to_owned()), (2, "Cancelled".to_owned())]);

    let client = Client::connect(&address, &officer("three")).await.unwrap();
    client.trajectory("浙J*", None, None).await.unwrap_err();
    assert_eq!(records("three")[0].outcome, "InvalidArgument");
}

#[tokio::test]
async fn no_answer_leaves_without_its_record() {
    let server = Running::start().await;
    let client = server.client().await;
    server.parts.audit_fails.store(true, Ordering::SeqCst);
    let mut failures = vec![
        client.cameras().await.unwrap_err(),
        client.delete_watchlist_entry("watchlistEntries/w1").await.unwrap_err(),
        client.alerts(AlertsFrom::Now, None).await.unwrap_err(),
    ];
    server.parts.audit_fails.store(false, Ordering::SeqCst);
    let mut alerts = client.alerts(AlertsFrom::Now, None).await.unwrap();
    alerts.next().await.unwrap().unwrap();
    server.parts.audit_fails.store(true, Ordering::SeqCst);
    server.stop.send(()).unwrap();
    failures.push(alerts.next().await.unwrap_err());
    for error in failures {
        let told = (error.code, error.reason.as_deref());
        assert_eq!(told, (ErrorCode::Internal, Some("STORE_FAILED")), "{error}");
        assert!(!error.message.contains("secret"), "{error}");
    }
}

/// Needs Python with `tests/python/requirements.txt`; `PYTHON` names another interpreter than `python3`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with grpcio"]
async fn a_peer_in_python_that_knows_only_the_protos_agrees() {
    let server = Running::start().await;
    server.register([crate::scripted::camera("k1", 28.0, 121.0)]);
    server.see((0..120).map(|i| sighting("k1", "浙J12345", i)));
    server.ring(7);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let address = server.address.to_string();
    let run = move || {
        std::process::Command::new(python)
            .arg(root.join("tests/python/peer.py"))
            .args([address.as_str(), "浙J12345"])
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    for part in ["\"cameras\": 1", "\"sightings\": 120", "\"points\": 120", "\"seen\": 7"] {
        assert!(told.contains(part), "{part} in {told}");
    }
}
