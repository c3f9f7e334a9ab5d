use crate::scripted::{Running, camera, sighting};
use guiji_api::client::ErrorCode;
use guiji_api::pb;

#[tokio::test]
async fn a_trajectory_has_points_legs_speeds_and_flags() {
    let server = Running::start().await;
    // 0.01 degrees of latitude are 1112 m.
    server.register([
        camera("a", 29.00, 121.0),
        camera("b", 29.01, 121.0),
        camera("c", 29.05, 121.0),
    ]);
    server.see([
        sighting("b", "浙J12345", 80),
        sighting("a", "浙J12345", 0),
        sighting("c", "浙J12345", 90),
        sighting("c", "浙J12346", 95),
        sighting("gone", "浙J12345", 99),
    ]);
    let client = server.client().await;
    let way = client.trajectory("浙j·12345", None, None).await.unwrap();
    assert_eq!(way.plate, "浙J12345");
    let cameras: Vec<_> =
        way.points.iter().map(|p| p.sighting.as_ref().unwrap().camera.as_str()).collect();
    assert_eq!(cameras, ["cameras/a", "cameras/b", "cameras/c", "cameras/gone"]);
    let first = &way.legs[0];
    assert_eq!((first.from_index, first.to_index), (0, 1));
    assert!((first.distance_m.unwrap() - 1112.0).abs() < 1.0);
    let speed = first.implied_speed.unwrap();
    assert!((speed.best_kmh.unwrap() - 50.0).abs() < 0.2, "{speed:?}");
    assert!(speed.low_kmh < speed.best_kmh.unwrap());
    // 4448 m in 10 s.
    assert_eq!(way.legs[1].remark(), pb::LegRemark::Impossible);
    assert_eq!(way.points[1].flags, [i32::from(pb::PointFlag::Conflict)]);
    assert_eq!((way.points[3].position, way.legs[2].distance_m), (None, None));
    assert_eq!(way.clock_uncertainty.unwrap().nanos, 50_000_000);
    assert_eq!(way.next_start_time, None);
}

#[tokio::test]
async fn a_long_trajectory_is_cut_and_says_where_to_go_on() {
    let server = Running::start().await;
    server.register([camera("a", 29.0, 121.0)]);
    server.see((0..1500).map(|i| sighting("a", "浙J12345", i)));
    let client = server.client().await;
    let way = client.trajectory("浙J12345", None, None).await.unwrap();
    assert_eq!((way.points.len(), way.legs.len()), (1000, 999));
    let next = guiji_api::convert::timestamp_from_pb(&way.next_start_time.unwrap()).unwrap();
    let rest = client.trajectory("浙J12345", Some(next), None).await.unwrap();
    assert_eq!(rest.points.len(), 501);
    assert_eq!(rest.points[0], way.points[999]);
    assert_eq!(rest.next_start_time, None);
}

#[tokio::test]
async fn wrong_questions_name_field_and_fix() {
    let server = Running::start().await;
    let client = server.client().await;
    let at = guiji_domain::Timestamp::from_secs;
    for (plate, start, end, field, fix) in [
        ("浙J?2345", None, None, "plate", "SearchSightings"),
        ("浙JI2345", None, None, "plate", "digit 1"),
        ("", None, None, "plate", "6 to 9"),
        ("浙J12345", Some(at(9)), Some(at(3)), "end_time", "exchange"),
    ] {
        let error = client.trajectory(plate, start, end).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert_eq!(error.violations[0].field, field);
        assert!(error.violations[0].description.contains(fix), "{error}");
    }
    let nothing = client.trajectory("浙J12345", None, None).await.unwrap();
    assert!(nothing.points.is_empty() && nothing.legs.is_empty());
}
