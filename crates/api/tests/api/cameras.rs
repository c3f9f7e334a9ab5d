use crate::scripted::{Running, authority_pb, camera};
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
