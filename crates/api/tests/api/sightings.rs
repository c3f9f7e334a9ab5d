use std::sync::Arc;
use std::time::Duration;

use crate::scripted::{Running, camera, captured, now, sighting};
use guiji_api::client::{Client, ErrorCode};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb;
use guiji_api::pb::watch_sightings_response::Event;
use guiji_domain::{Digest, Evidence, EvidenceKind, Sighting, SightingStage};
use sha2::Digest as _;

fn filter(plate: &str) -> Option<pb::SightingFilter> {
    Some(pb::SightingFilter { plate_pattern: plate.into(), ..Default::default() })
}

fn search(plate: &str) -> pb::SearchSightingsRequest {
    pb::SearchSightingsRequest { filter: filter(plate), ..Default::default() }
}

async fn times(client: &Client, request: pb::SearchSightingsRequest) -> Vec<i64> {
    let page = client.search(request).await.unwrap();
    page.sightings.iter().map(second).collect()
}

/// Seconds after the simulated present.
fn second(sighting: &pb::Sighting) -> i64 {
    let time = sighting.capture.as_ref().unwrap().time.unwrap();
    time.seconds - timestamp_to_pb(now()).seconds
}

async fn ten_sightings() -> Running {
    let server = Running::start().await;
    server.register([camera("k1", 28.0, 121.0), camera("k2", 29.0, 121.0)]);
    server.see((0..10).map(|i| {
        let camera = if i % 2 == 0 { "k1" } else { "k2" };
        sighting(camera, if i < 5 { "浙J12345" } else { "浙JB1234" }, i)
    }));
    server
}

#[tokio::test]
async fn sightings_are_found_by_plate_time_camera_area_and_looks() {
    let server = ten_sightings().await;
    let client = server.client().await;
    let at = |secs| Some(timestamp_to_pb(now().plus(Duration::from_secs(secs))));
    let circle = |latitude_deg, radius_m| {
        let centre = Some(pb::GeoPoint { latitude_deg, longitude_deg: 121.0 });
        Some(pb::Area { shape: Some(pb::area::Shape::Circle(pb::Circle { centre, radius_m })) })
    };
    let any = pb::SightingFilter::default;
    let k1 = || vec!["cameras/k1".to_owned()];
    for (filter, expected) in [
        (any(), (0..10).rev().collect::<Vec<_>>()),
        (pb::SightingFilter { plate_pattern: "浙j·12345".into(), ..any() }, vec![4, 3, 2, 1, 0]),
        (pb::SightingFilter { plate_pattern: "浙J[8B]*".into(), ..any() }, vec![9, 8, 7, 6, 5]),
        (pb::SightingFilter { start_time: at(8), ..any() }, vec![9, 8]),
        (pb::SightingFilter { start_time: at(3), end_time: at(4), ..any() }, vec![4, 3]),
        (pb::SightingFilter { cameras: k1(), ..any() }, vec![8, 6, 4, 2, 0]),
        (pb::SightingFilter { area: circle(29.0, 500.0), ..any() }, vec![9, 7, 5, 3, 1]),
        (pb::SightingFilter { area: circle(29.0, 500.0), cameras: k1(), ..any() }, vec![]),
        (pb::SightingFilter { classes: vec![pb::VehicleClass::Bus.into()], ..any() }, vec![]),
        (
            pb::SightingFilter {
                colours: vec![pb::VehicleColour::White.into()],
                plate_pattern: "*1234".into(),
                end_time: at(5),
                ..any()
            },
            vec![5],
        ),
    ] {
        let shown = format!("{filter:?}");
        let request = pb::SearchSightingsRequest { filter: Some(filter), ..Default::default() };
        assert_eq!(times(&client, request).await, expected, "{shown}");
    }
    let nowhere = pb::SightingFilter { area: circle(40.0, 500.0), ..any() };
    let nowhere = pb::SearchSightingsRequest { filter: Some(nowhere), ..Default::default() };
    assert_eq!(client.search(nowhere).await.unwrap().camera_count, Some(0));
    assert_eq!(client.search(search("")).await.unwrap().camera_count, None);
}

#[tokio::test]
async fn a_misspelt_camera_is_named_and_a_removed_one_is_known_by_its_sightings() {
    let server = ten_sightings().await;
    server.see([sighting("removed", "浙J12345", 77)]);
    let client = server.client().await;
    let of = |name: &str| pb::SearchSightingsRequest {
        filter: Some(pb::SightingFilter { cameras: vec![name.into()], ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(times(&client, of("cameras/removed")).await, [77]);
    let error = client.search(of("cameras/k3")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert_eq!(error.violations[0].field, "filter.cameras[0]");
    assert!(error.violations[0].description.contains("ListCameras"), "{error}");
}

#[tokio::test]
async fn pages_and_chunks_add_up_to_everything() {
    let server = ten_sightings().await;
    let client = server.client().await;
    let order = pb::SortOrder::OldestFirst.into();
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            pb::SearchSightingsRequest { order, page_size: 3, page_token, ..search("浙J*") };
        let page = client.search(request).await.unwrap();
        seen.extend(page.sightings.iter().map(second));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());

    let stream = |page_token: &str| pb::StreamSightingsRequest {
        filter: filter("浙J*"),
        order,
        chunk_size: 4,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let mut chunks = client.stream_sightings(stream("")).await.unwrap();
    let (mut streamed, mut tokens) = (Vec::new(), Vec::new());
    while let Some(chunk) = chunks.next().await.unwrap() {
        streamed.push(chunk.sightings.len());
        tokens.push(chunk.next_page_token);
    }
    assert_eq!(streamed, [4, 4, 2]);
    assert!(tokens[2].is_empty());
    let mut rest = client.stream_sightings(stream(&tokens[1])).await.unwrap();
    assert_eq!(rest.next().await.unwrap().unwrap().sightings.len(), 2);

    let other = pb::SearchSightingsRequest { page_token: tokens[0].clone(), ..search("浙A*") };
    let error = client.search(other).await.unwrap_err();
    assert_eq!(error.violations[0].field, "page_token");
    assert!(error.message.contains("another question"), "{error}");
}

#[tokio::test]
async fn the_lattice_comes_on_request() {
    let server = ten_sightings().await;
    let client = server.client().await;
    let view = pb::SightingView::Full.into();
    let full = client.search(pb::SearchSightingsRequest { view, ..search("") }).await.unwrap();
    let lattice = full.sightings[0].plate.as_ref().unwrap().lattice.clone().unwrap();
    assert_eq!(lattice.positions[0].candidates[0].character, "浙");
    let basic = client.search(search("")).await.unwrap();
    assert_eq!(basic.sightings[0].plate.as_ref().unwrap().lattice, None);
    let one = client.sighting(&basic.sightings[0].name).await.unwrap();
    assert_eq!(one, full.sightings[0]);
    assert_eq!(one.direction.unwrap().heading(), pb::Heading::Approaching);
    assert_eq!(one.vehicle.unwrap().class(), pb::VehicleClass::Car);
}

#[tokio::test]
async fn evidence_comes_whole_and_proved() {
    let server = Running::start().await;
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let digest = Digest(sha2::Sha256::digest(&bytes).into());
    let evidence = Evidence {
        kind: EvidenceKind::Frame,
        digest,
        bytes: 200_000,
        media_type: "image/jpeg".into(),
        captured: captured(now()),
    };
    let seen = Sighting { evidence: vec![evidence], ..sighting("k1", "浙J12345", 1) };
    server.see([seen]);
    server.parts.pictures.lock().unwrap().insert(digest, bytes.clone());
    let client = server.client().await;
    let page = client.search(search("")).await.unwrap();
    let name = page.sightings[0].evidence[0].name.clone();
    let picture = client.evidence(&name).await.unwrap();
    assert_eq!(picture.bytes, bytes);
    assert_eq!(picture.header.media_type, "image/jpeg");

    server.parts.pictures.lock().unwrap().insert(digest, b"damaged".to_vec());
    assert_eq!(client.evidence(&name).await.unwrap_err().code, ErrorCode::DataLoss);
    let other = name.replace(&digest.to_string(), &"0".repeat(64));
    assert_eq!(client.evidence(&other).await.unwrap_err().code, ErrorCode::NotFound);
    for wrong in ["", "evidence/1", "sightings/1/evidence/2", name.get(..40).unwrap()] {
        let error = client.evidence(wrong).await.unwrap_err();
        assert_eq!(
            (error.code, error.violations[0].field.as_str()),
            (ErrorCode::InvalidArgument, "name")
        );
    }
}

#[tokio::test]
async fn the_live_feed_filters_and_says_what_was_missed() {
    let server = Running::start().await;
    let client = server.client().await;
    let request = pb::WatchSightingsRequest { filter: filter("浙J1*"), ..Default::default() };
    let mut feed = client.watch_sightings(request).await.unwrap();
    let opened = feed.next().await.unwrap().unwrap().event;
    assert!(matches!(opened, Some(Event::Opened(_))), "{opened:?}");
    let send = |s: Sighting| assert!(server.live.send(Arc::new(s)).is_ok());
    send(sighting("k1", "浙A99999", 1));
    send(Sighting { stage: SightingStage::Provisional, ..sighting("k1", "浙J12345", 2) });
    send(sighting("k1", "浙J12345", 3));
    let Some(Event::Sighting(first)) = feed.next().await.unwrap().unwrap().event else {
        panic!("no sighting")
    };
    assert_eq!(second(&first), 3);

    // A burst beyond the feed's capacity, with no chance to read in between: nobody yields on this thread.
    (10..1010).for_each(|i| send(sighting("k1", "浙J12345", i)));
    let Some(Event::Missed(missed)) = feed.next().await.unwrap().unwrap().event else {
        panic!("nothing missed")
    };
    let mut delivered = 0;
    while let Some(Event::Sighting(s)) = feed.next().await.unwrap().unwrap().event {
        delivered += 1;
        if second(&s) == 1009 {
            break;
        }
    }
    assert_eq!(missed.sighting_count + delivered, 1000);
}
