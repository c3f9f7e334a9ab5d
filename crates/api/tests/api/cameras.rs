use std::time::Duration;

use crate::scripted::{Running, authority_pb, camera, now};
use guiji_api::client::ErrorCode;
use guiji_api::pb;
use guiji_api::pb::camera_service_client::CameraServiceClient;
use tonic_types::StatusExt;

fn request(address: &str) -> pb::Camera {
    pb::Camera {
        site: "s1".into(),
        position: Some(pb::GeoPoint { latitude_deg: 28.6, longitude_deg: 121.4 }),
        stream_address: address.into(),
        credentials: Some(pb::Credentials { username: "u".into(), password: "hunter2".into() }),
        ..Default::default()
    }
}

#[tokio::test]
async fn cameras_come_and_go_while_the_server_runs() {
    let server = Running::start().await;
    let client = server.client().await;
    let camera = client.create_camera("k1", request("rtsp://h/p")).await.unwrap();
    assert_eq!((camera.name.as_str(), camera.credentials), ("cameras/k1", None));
    let health = camera.health.unwrap();
    assert_eq!(health.state(), pb::CameraState::Stalled);
    assert_eq!(health.reason(), pb::StatusReason::Silence);
    assert_eq!((health.unit_count, health.clock_uncertainty.unwrap().nanos), (7, 40_000_000));

    let taken = client.create_camera("k1", request("rtsp://h/p")).await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::AlreadyExists);
    assert_eq!(client.cameras().await.unwrap().len(), 1);

    client.delete_camera("cameras/k1").await.unwrap();
    let gone = client.delete_camera("cameras/k1").await.unwrap_err();
    assert_eq!(
        (gone.code, gone.reason.as_deref()),
        (ErrorCode::NotFound, Some("RESOURCE_NOT_FOUND"))
    );
    assert!(client.cameras().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_register_and_a_file_of_the_server_are_refused() {
    let server = Running::start().await;
    let client = server.client().await;
    let file = client.create_camera("k1", request("/etc/passwd")).await.unwrap_err();
    assert_eq!(file.violations[0].field, "camera.stream_address");
    server.register((0..10).map(|i| camera(&format!("k{i}"), 28.0, 121.0)));
    let full = client.create_camera("k99", request("rtsp://h/p")).await.unwrap_err();
    assert_eq!(full.code, ErrorCode::ResourceExhausted);
    assert_eq!(full.reason.as_deref(), Some("LIMIT_REACHED"));
}

#[tokio::test]
async fn lists_are_paged() {
    let server = Running::start().await;
    server.register((0..7).map(|i| camera(&format!("k{i}"), 28.0, 121.0)));
    let mut client = CameraServiceClient::new(server.channel().await);
    let (mut names, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request =
            pb::ListCamerasRequest { authority: authority_pb(), page_size: 3, page_token };
        let page = client.list_cameras(request).await.unwrap().into_inner();
        names.extend(page.cameras.into_iter().map(|c| c.name));
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(names, (0..7).map(|i| format!("cameras/k{i}")).collect::<Vec<_>>());
    for (page_size, page_token, field) in
        [(-1, "", "page_size"), (1001, "", "page_size"), (1, "zz", "page_token")]
    {
        let page_token = page_token.to_owned();
        let request = pb::ListCamerasRequest { authority: authority_pb(), page_size, page_token };
        let status = client.list_cameras(request).await.unwrap_err();
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
}

#[tokio::test]
async fn one_camera_is_found_by_its_name_only() {
    let server = Running::start().await;
    server.register([camera("k1", 28.0, 121.0)]);
    let mut client = CameraServiceClient::new(server.channel().await);
    let mut get = async |name: &str| {
        let request = pb::GetCameraRequest { authority: authority_pb(), name: name.into() };
        client.get_camera(request).await.map(|answer| answer.into_inner().camera.unwrap().name)
    };
    assert_eq!(get("cameras/k1").await.unwrap(), "cameras/k1");
    let absent = get("cameras/k2").await.unwrap_err();
    let details = absent.get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!(resource.resource_type, "guiji.v1.Camera");
    assert_eq!(resource.resource_name, "cameras/k2");
    assert_eq!(get("k1").await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn only_the_fields_of_the_mask_change_and_credentials_stay() {
    let server = Running::start().await;
    let client = server.client().await;
    let first = client.create_camera("k1", request("rtsp://h/p")).await.unwrap();
    let change = |change: &dyn Fn(&mut pb::Camera)| {
        let mut camera = pb::Camera { name: "cameras/k1".into(), ..Default::default() };
        change(&mut camera);
        camera
    };
    // Without a mask, what is not empty.
    let named = change(&|c| c.display_name = "路口".into());
    let named = client.update_camera(named, &[]).await.unwrap();
    assert_eq!((named.display_name.as_str(), named.site.as_str()), ("路口", "s1"));
    assert_eq!((named.stream_address.as_str(), named.credentials), ("rtsp://h/p", None));
    assert_ne!(named.etag, first.etag);
    let kept = server.parts.cameras.lock().unwrap().values().next().unwrap().clone();
    assert_eq!(kept.credentials.unwrap().password, "hunter2");
    // With one, that alone, empty or not.
    let lanes = change(&|c| (c.lane_count, c.site) = (Some(3), "s9".into()));
    let lanes = client.update_camera(lanes, &["lane_count", "display_name"]).await.unwrap();
    assert_eq!((lanes.lane_count, lanes.display_name.as_str()), (Some(3), ""));
    assert_eq!(lanes.site, "s1");
    // Somebody who saw it before that must look again.
    let stale = change(&|c| (c.etag, c.disabled) = (named.etag.clone(), true));
    let stale = client.update_camera(stale, &["disabled"]).await.unwrap_err();
    assert_eq!(
        (stale.code, stale.reason.as_deref()),
        (ErrorCode::Aborted, Some("RESOURCE_CHANGED"))
    );
    let fresh = change(&|c| (c.etag, c.disabled) = (lanes.etag.clone(), true));
    assert!(client.update_camera(fresh, &["disabled"]).await.unwrap().disabled);
    // All of it is checked as at registration, and a wrong change is none.
    let wrong = change(&|c| c.stream_address = "ftp://h".into());
    let wrong = client.update_camera(wrong, &["*"]).await.unwrap_err();
    let fields: Vec<_> = wrong.violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["camera.site", "camera.position", "camera.stream_address"]);
    let absent = pb::Camera { name: "cameras/k2".into(), ..Default::default() };
    let absent = client.update_camera(absent, &[]).await.unwrap_err();
    assert_eq!(absent.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn the_history_of_what_a_camera_saw_is_paged() {
    let server = Running::start().await;
    server.register([camera("k1", 28.0, 121.0)]);
    let client = server.client().await;
    let time = |secs: i64| Some(pb::Timestamp { seconds: 1_790_000_000 + secs, nanos: 0 });
    let interval = |from: i64, to: i64, state: pb::CoverageState, cause: &str| pb::Coverage {
        camera: "cameras/k1".into(),
        start_time: time(from),
        end_time: time(to),
        state: state.into(),
        cause: cause.into(),
    };
    let history = vec![
        interval(0, 50, pb::CoverageState::Seeing, "live"),
        interval(50, 75, pb::CoverageState::Blind, "silence"),
        interval(75, 90, pb::CoverageState::Seeing, "live"),
    ];
    client.import_coverage(history.clone()).await.unwrap();
    let mut request = pb::ListCoverageRequest {
        camera: "cameras/k1".into(),
        start_time: time(0),
        end_time: time(100),
        page_size: 2,
        ..Default::default()
    };
    let first = client.coverage(request.clone()).await.unwrap();
    assert_eq!(first.coverage, history[..2]);
    let ratios = [first.seeing_ratio, first.blind_ratio, first.unknown_ratio];
    for (ratio, expected) in ratios.into_iter().zip([0.65, 0.25, 0.10]) {
        assert!((ratio - expected).abs() < 1e-9, "{ratios:?}");
    }
    request.page_token = first.next_page_token;
    let second = client.coverage(request.clone()).await.unwrap();
    assert_eq!((&second.coverage[..], second.next_page_token.as_str()), (&history[2..], ""));
    // A token belongs to its question.
    request.end_time = time(99);
    let other = client.coverage(request).await.unwrap_err();
    assert_eq!(other.violations[0].field, "page_token");
    let absent = pb::ListCoverageRequest {
        camera: "cameras/k2".into(),
        start_time: time(0),
        end_time: time(1),
        ..Default::default()
    };
    assert_eq!(client.coverage(absent).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_closed_camera_is_opened_for_a_while() {
    let server = Running::start().await;
    let closed = guiji_domain::Camera { enabled: false, ..camera("k1", 28.0, 121.0) };
    server.register([closed, camera("k2", 28.0, 121.0)]);
    let client = server.client().await;
    let open = async |name, s| client.open_camera(name, Duration::from_secs(s)).await;
    let health = open("cameras/k1", 600).await.unwrap().health.unwrap();
    let closing = health.closing_time.unwrap();
    assert_eq!(closing.seconds, now().plus(Duration::from_secs(600)).as_nanos() / 1_000_000_000);
    assert_eq!(health.opened_by, crate::scripted::authority().officer());
    let always = open("cameras/k2", 600).await.unwrap_err();
    assert_eq!(
        (always.code, always.reason.as_deref()),
        (ErrorCode::FailedPrecondition, Some("CAMERA_ALWAYS_OPEN"))
    );
    assert_eq!(open("cameras/k9", 600).await.unwrap_err().code, ErrorCode::NotFound);
}
