//! What sightings are judged by (coverage, roads, likeness, corrections), over the wire into the real store.

use std::time::Duration;

use crate::imports::{Importing, import};
use crate::scripted::{authority_pb, camera, now, sighting};
use guiji_api::client::{Client, ErrorCode};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb;
use guiji_domain::*;

/// A road north with a camera each 1112 m and one between them on a road of its own.
fn cameras() -> [Camera; 5] {
    let mut cameras = [
        camera("a", 29.00, 121.0),
        camera("b", 29.01, 121.0),
        camera("c", 29.02, 121.0),
        camera("d", 29.03, 121.0),
        camera("beside", 29.015, 121.005),
    ];
    cameras[1].site = SiteId::new("S2").unwrap();
    cameras
}

const ROADS: &str = r#"{"type":"FeatureCollection","features":[
    {"type":"Feature","properties":{"length_m":5000},
     "geometry":{"type":"LineString","coordinates":[[121.0,29.0],[121.0,29.03]]}},
    {"type":"Feature","properties":{},
     "geometry":{"type":"LineString","coordinates":[[121.005,29.0],[121.005,29.02]]}}]}"#;

/// Read as one plate; its last character, with some probability, as the other's.
fn doubtful(camera: &str, read: &str, other: char, probability: f32, secs: u64) -> Sighting {
    let mut sighting = sighting(camera, read, secs);
    let PlateState::Read(plate) = &mut sighting.plate else { unreachable!() };
    let candidate = |character, probability| Candidate { character: Some(character), probability };
    let mut positions: Vec<_> = plate.lattice.positions().to_vec();
    let last = plate.text.chars().last().unwrap();
    positions.pop();
    positions.push(
        Position::new(vec![
            candidate(last, 1.0 - probability),
            candidate(PlateChar::new(other).unwrap(), probability),
        ])
        .unwrap(),
    );
    plate.lattice = Lattice::new(positions).unwrap();
    plate.confidence = 1.0 - probability;
    sighting
}

async fn rig(sightings: &[Sighting]) -> (Importing, Client) {
    let rig = Importing::start().await;
    rig.server.register(cameras());
    let client = rig.server.client().await;
    let answer = import(&client, [sightings.iter().map(pb::Sighting::from).collect()]).await;
    assert_eq!(answer.unwrap().stored_count, sightings.len() as u64);
    (rig, client)
}

fn coverage(camera: &str, first: u64, last: u64, state: pb::CoverageState) -> pb::Coverage {
    let time = |secs| Some(timestamp_to_pb(now().plus(Duration::from_secs(secs))));
    pb::Coverage {
        camera: format!("cameras/{camera}"),
        start_time: time(first),
        end_time: time(last),
        state: state.into(),
        cause: "test".into(),
    }
}

#[tokio::test]
async fn a_gap_says_which_cameras_could_see() {
    let (_rig, client) =
        rig(&[sighting("a", "浙J12345", 0), sighting("d", "浙J12345", 6000)]).await;
    let way = client.trajectory("浙J12345", None, None).await.unwrap();
    let gap = way.gaps[0].coverage.clone().unwrap();
    assert_eq!(gap.basis(), pb::DistanceBasis::GreatCircle);
    // b, c and the one beside; nothing is known of them.
    assert_eq!((gap.camera_count, gap.unknown_count), (3, 3));
    assert_eq!(way.legs[0].distance_basis(), pb::DistanceBasis::GreatCircle);

    let roads = client.import_road_graph(ROADS.into()).await.unwrap();
    assert_eq!((roads.node_count, roads.edge_count, roads.present), (4, 2, false));
    // k1 stands elsewhere.
    assert_eq!((roads.camera_count, roads.stray_camera_count), (5, 1));
    assert!(client.import_road_graph(ROADS.into()).await.unwrap().present);
    use pb::CoverageState::{Blind, Seeing};
    let history = [
        coverage("b", 0, 7000, Seeing),
        coverage("c", 0, 5000, Seeing),
        coverage("c", 5000, 6500, Blind),
    ];
    let kept = client.import_coverage(history.to_vec()).await.unwrap();
    assert_eq!((kept.stored_count, kept.present_count, kept.refused_count), (3, 0, 0));
    let again = client.import_coverage(history.to_vec()).await.unwrap();
    assert_eq!((again.stored_count, again.present_count), (0, 3));

    let way = client.trajectory("浙J12345", None, None).await.unwrap();
    let (leg, gap) = (&way.legs[0], way.gaps[0].coverage.clone().unwrap());
    assert_eq!(leg.distance_basis(), pb::DistanceBasis::Roads);
    assert!(
        (leg.distance_m.unwrap() - 5000.0).abs() < 1.0 && way.distance_m == leg.distance_m.unwrap()
    );
    assert!((leg.great_circle_m.unwrap() - 3336.0).abs() < 1.0);
    // 5 km at 20 km/h take 900 s.
    assert_eq!(leg.dwell_least.unwrap().seconds, 5099);
    assert_eq!(gap.basis(), pb::DistanceBasis::Roads);
    assert_eq!((gap.camera_count, gap.could_see_count, gap.blind_count), (2, 1, 1));
    assert_eq!(gap.cameras[0].camera, "cameras/c");
    assert_eq!(gap.cameras[0].blind.unwrap().seconds, 1000);
    assert_eq!(way.dwell_places.len(), 1);
    assert_eq!(way.dwell_places[0].cameras, ["cameras/a", "cameras/d"]);
}

#[tokio::test]
async fn wrong_coverage_and_roads_are_refused_by_field() {
    let (_rig, client) = rig(&[]).await;
    let right = coverage("a", 0, 10, pb::CoverageState::Blind);
    let with = |change: fn(&mut pb::Coverage)| {
        let mut coverage = right.clone();
        change(&mut coverage);
        coverage
    };
    let given = vec![
        right.clone(),
        with(|c| c.camera = "cameras/nowhere".into()),
        with(|c| c.end_time.as_mut().unwrap().seconds += 90_000 * 10),
        with(|c| c.state = 0),
    ];
    let answer = client.import_coverage(given).await.unwrap();
    assert_eq!((answer.stored_count, answer.refused_count), (1, 3));
    let told: Vec<_> =
        answer.refusals.iter().map(|r| (r.index, r.violations[0].field.as_str())).collect();
    assert_eq!(told, [(1, "camera"), (2, "end_time"), (3, "state")]);
    assert!(answer.refusals[0].violations[0].description.contains("ImportCameras"));
    for (text, field) in
        [("{", "geojson"), (r#"{"type":"FeatureCollection","features":[]}"#, "geojson")]
    {
        let error = client.import_road_graph(text.into()).await.unwrap_err();
        assert_eq!(
            (error.code, error.violations[0].field.as_str()),
            (ErrorCode::InvalidArgument, field)
        );
    }
}

fn likely(pattern: &str) -> pb::SearchLikelyRequest {
    let filter = pb::SightingFilter { plate_pattern: pattern.into(), ..Default::default() };
    pb::SearchLikelyRequest { filter: Some(filter), ..Default::default() }
}

fn shown(answer: &pb::SearchLikelyResponse) -> Vec<(&str, bool)> {
    answer
        .results
        .iter()
        .map(|one| {
            let text = &one.sighting.as_ref().unwrap().plate.as_ref().unwrap().text;
            (text.as_str(), one.misread)
        })
        .collect()
}

#[tokio::test]
async fn a_misread_is_found_and_said_to_be_one() {
    let next_door = (0..20).map(|i| doubtful("b", "浙J12348", '6', 0.2, 3000 + i));
    let mut sightings = vec![
        sighting("a", "浙J12346", 0),
        sighting("c", "浙J12346", 500),
        doubtful("b", "浙J12345", '6', 0.4, 200),
        sighting("b", "浙J99999", 210),
    ];
    sightings.extend(next_door);
    let (_rig, client) = rig(&sightings).await;
    let answer = client.search_likely(likely("浙J12346")).await.unwrap();
    assert_eq!(answer.extent(), pb::SearchExtent::All);
    let first = shown(&answer)[..3].to_vec();
    assert_eq!(first, [("浙J12346", false), ("浙J12346", false), ("浙J12345", true)]);
    let misread = &answer.results[2];
    assert!(misread.probability > 0.75, "a text that nobody else shows: {misread:?}");
    assert!((misread.read_probability - 0.4).abs() < 1e-3);
    let character = &misread.misread_characters[..];
    assert_eq!((character.len(), character[0].index), (1, 6));
    assert_eq!((character[0].read.as_str(), character[0].sought.as_str()), ("5", "6"));
    // The car next door is another car: 0.2 x 2.5 against 0.8 x 19.5.
    assert!(answer.results[3].probability < 0.05, "{:?}", answer.results[3]);
    let expected: f64 = answer.results.iter().map(|r| 1.0 - f64::from(r.probability)).sum();
    assert!((answer.expected_false_count - expected).abs() < 1e-4);

    // Page by page, the same.
    let mut paged = Vec::new();
    let mut request = pb::SearchLikelyRequest { page_size: 4, ..likely("浙J12346") };
    loop {
        let page = client.search_likely(request.clone()).await.unwrap();
        paged.extend(page.results);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(paged, answer.results);
    let only = pb::SearchLikelyRequest { misreads_only: true, ..likely("浙J12346") };
    assert_eq!(shown(&client.search_likely(only).await.unwrap())[0], ("浙J12345", true));

    // And on its way, marked.
    let way = client.trajectory("浙J12346", None, None).await.unwrap();
    let marks: Vec<_> = way
        .points
        .iter()
        .map(|p| (p.sighting.as_ref().unwrap().camera.as_str(), p.flags.clone()))
        .collect();
    let misread = vec![i32::from(pb::PointFlag::Misread)];
    assert_eq!(marks, [("cameras/a", vec![]), ("cameras/b", misread), ("cameras/c", vec![])]);
    assert_eq!(way.possible_points.len(), 20);
    assert!((way.distance_m - 2224.0).abs() < 2.0, "{}", way.distance_m);
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_sightings_come_in() {
    let mut sightings = vec![doubtful("b", "浙J12345", '6', 0.4, 200)];
    sightings.extend((0..6).map(|i| sighting("a", "浙J12346", 10 * i)));
    sightings.extend((0..5).map(|i| doubtful("b", "浙J12348", '6', 0.2, 3000 + i)));
    let (rig, client) = rig(&sightings).await;
    let whole = client.search_likely(likely("浙J12346")).await.unwrap();
    let names = |answer: &pb::SearchLikelyResponse| -> Vec<String> {
        answer.results.iter().map(|r| r.sighting.as_ref().unwrap().name.clone()).collect()
    };
    let mut request = pb::SearchLikelyRequest { page_size: 3, ..likely("浙J12346") };
    let mut paged = Vec::new();
    for round in 0_u64.. {
        let page = client.search_likely(request.clone()).await.unwrap();
        paged.extend(names(&page));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
        // The plate passes on, and so does the car next door: every probability changes.
        let later = (0..9).map(|i| sighting("c", "浙J12346", 9000 + 10 * round + i));
        let others = (0..9).map(|i| sighting("c", "浙J12348", 9500 + 10 * round + i));
        let more: Vec<_> = later.chain(others).collect();
        let chunk = more.iter().map(pb::Sighting::from).collect();
        import(&client, [chunk]).await.unwrap();
    }
    assert!(rig.stored().len() > sightings.len() + 18);
    assert_eq!(paged, names(&whole), "as if all had been asked for at once");
}

/// "浙J, ends 66, a white van, between two and three in the afternoon, at one of these three sites."
#[tokio::test]
async fn what_a_witness_remembers_is_a_question() {
    const DAY: u64 = 86_400;
    // now() is 08:00 UTC, 16:00 in China: 14:30 there was 1.5 hours before, and is 22.5 hours later.
    let half_past_two = DAY - 5400;
    let van = |camera: &str, plate: &str, secs: u64, colour| {
        let mut sighting = sighting(camera, plate, secs);
        sighting.vehicle = Vehicle {
            class: Some((VehicleClass::Car, 0.9)), // vans among them
            colour: Some((colour, 0.9)),
        };
        sighting
    };
    let white = VehicleColour::White;
    let (rig, client) = rig(&[
        van("b", "浙J12366", half_past_two, white),
        van("b", "浙J77766", half_past_two + 60, VehicleColour::Black),
        van("beside", "浙J88866", half_past_two + 120, white), // another site
        van("b", "浙J99966", half_past_two + 3600, white),     // half past three
        van("b", "浙J12367", half_past_two + 180, white),      // ends otherwise
    ])
    .await;
    assert_eq!(rig.stored().len(), 5);
    let filter = pb::SightingFilter {
        plate_pattern: "浙J*66".into(),
        hours: Some(pb::DailyHours {
            start_minute: 14 * 60,
            end_minute: 15 * 60,
            weekdays: Vec::new(),
        }),
        ..Default::default()
    };
    let request = pb::SearchLikelyRequest {
        filter: Some(filter.clone()),
        sites: vec!["S2".into()],
        likely_classes: vec![pb::VehicleClass::Car.into()],
        likely_colours: vec![pb::VehicleColour::White.into()],
        ..Default::default()
    };
    let answer = client.search_likely(request).await.unwrap();
    let found = [("浙J12366", false), ("浙J77766", false)];
    assert_eq!(shown(&answer), found, "the white one first");
    assert!(answer.results[0].probability > 5.0 * answer.results[1].probability);
    // The same hours over days, in an ordinary search.
    let search = pb::SearchSightingsRequest { filter: Some(filter), ..Default::default() };
    assert_eq!(client.search(search).await.unwrap().sightings.len(), 3);
}

#[tokio::test]
async fn what_is_known_of_a_plate_ranks_by_probability() {
    let mut red = sighting("b", "浙J77766", 30);
    red.vehicle.colour = Some((VehicleColour::Red, 0.9));
    let (_rig, client) = rig(&[
        sighting("b", "浙J12366", 10),
        red,
        doubtful("b", "浙J55568", '6', 0.3, 20),
        sighting("a", "浙J12366", 40),
    ])
    .await;
    let request = pb::SearchLikelyRequest {
        sites: vec!["S2".into()],
        likely_classes: vec![pb::VehicleClass::Car.into()],
        likely_colours: vec![pb::VehicleColour::White.into()],
        ..likely("浙J*66")
    };
    let answer = client.search_likely(request.clone()).await.unwrap();
    let found = [("浙J12366", false), ("浙J55568", true), ("浙J77766", false)];
    assert_eq!(shown(&answer), found, "the red one last, and none from elsewhere");
    for (request, field) in [
        (pb::SearchLikelyRequest { sites: vec!["nowhere".into()], ..request.clone() }, "sites[0]"),
        (pb::SearchLikelyRequest { filter: None, ..request.clone() }, "filter.plate_pattern"),
        (likely("浙J12"), "filter.plate_pattern"),
        (
            pb::SearchLikelyRequest { likely_classes: vec![99], ..request.clone() },
            "likely_classes[0]",
        ),
        (pb::SearchLikelyRequest { page_size: 501, ..request.clone() }, "page_size"),
        (pb::SearchLikelyRequest { page_token: "00".into(), ..request }, "page_token"),
    ] {
        let error = client.search_likely(request).await.unwrap_err();
        assert_eq!(error.violations[0].field, field, "{error}");
    }
}

#[tokio::test]
async fn a_correction_stands_beside_what_was_read() {
    let (rig, client) = rig(&[
        sighting("a", "浙J12345", 0),
        sighting("b", "浙J12845", 100),
        sighting("c", "浙J12345", 200),
    ])
    .await;
    let stored = rig.stored();
    let name = format!("sightings/{}", stored[1].id);
    let corrected =
        client.correct_sighting(&name, "浙j·12345", "read from the frame").await.unwrap();
    let correction = corrected.correction.unwrap();
    let authority = authority_pb().unwrap();
    assert_eq!(
        (correction.plate.as_str(), correction.officer, correction.case_number),
        ("浙J12345", authority.officer, authority.case_number)
    );
    let kept = corrected.sighting.unwrap();
    assert_eq!(kept.plate.as_ref().unwrap().text, "浙J12845", "the read stays");
    assert_eq!(kept.corrections.len(), 1);
    assert_eq!(rig.stored(), stored, "the sighting stays");
    client.correct_sighting(&name, "浙J12345", "read from the frame").await.unwrap();
    assert_eq!(client.sighting(&name).await.unwrap().corrections.len(), 1, "the same again");

    for (plate, count) in [("浙J12345", 3), ("浙J12845", 1), ("浙J12?4*", 3)] {
        let filter = pb::SightingFilter { plate_pattern: plate.into(), ..Default::default() };
        let mut request =
            pb::SearchSightingsRequest { filter: Some(filter), page_size: 2, ..Default::default() };
        let mut found = Vec::new();
        loop {
            let page = client.search(request.clone()).await.unwrap();
            found.extend(page.sightings);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found.len(), count, "{plate}");
        let shown = found.iter().find(|sighting| sighting.name == name).unwrap();
        assert_eq!(shown.corrections[0].plate, "浙J12345");
    }
    let way = client.trajectory("浙J12345", None, None).await.unwrap();
    assert_eq!(way.points.len(), 3);
    assert_eq!(way.points[1].flags, [i32::from(pb::PointFlag::Corrected)]);
    assert_eq!(way.points[1].probability, 1.0);
    let other = client.trajectory("浙J12845", None, None).await.unwrap();
    assert!(other.points[0].flags.contains(&pb::PointFlag::CorrectedAway.into()));
    let first = &client.search_likely(likely("浙J12345")).await.unwrap().results[0];
    assert!(first.probability > 0.99);

    for (name, plate, reason, code, field) in [
        ("sightings/x", "浙J12345", "r", ErrorCode::InvalidArgument, Some("name")),
        (name.as_str(), "浙J1*", "r", ErrorCode::InvalidArgument, Some("plate")),
        (name.as_str(), "浙J12345", "  ", ErrorCode::InvalidArgument, Some("reason")),
        ("sightings/00000000000000000000000000000001", "浙J12345", "r", ErrorCode::NotFound, None),
    ] {
        let error = client.correct_sighting(name, plate, reason).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert_eq!(error.violations.first().map(|v| v.field.as_str()), field);
    }
    let audited = rig.audit_of("CorrectionService/CorrectSighting");
    assert!(audited[0].contains(&stored[1].id.to_string()) && audited[0].contains("浙J12345"));
    assert_eq!(audited.len(), 6);
}
