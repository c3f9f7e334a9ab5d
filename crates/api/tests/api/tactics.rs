use std::sync::Arc;

use crate::access::{Guarded, spec};
use crate::scripted::{Running, authority_pb, camera, eventually, now, sighting};
use guiji_api::client::{Client, ErrorCode};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb::tactics_service_client::TacticsServiceClient;
use guiji_api::{ApiSettings, PassageSettings, Role, TokenScope, pb};
use guiji_domain::*;

const DAY_S: u64 = 86_400;

/// 0.01 degrees of latitude are 1112 m.
fn register(server: &Running) {
    server.register((0..6).map(|i| camera(&format!("k{i}"), 29.0 + 0.01 * f64::from(i), 121.0)));
}

/// Vehicle 1 and, 20 s behind it, vehicle 2 along the road on three days; a hundred others past one camera each.
fn convoy() -> Vec<Sighting> {
    let mut sightings = Vec::new();
    for day in 0..3 {
        for place in 0..6 {
            let at = day * DAY_S + 3600 * (day + 1) + 90 * place;
            sightings.push(sighting(&format!("k{place}"), "浙J00001", at));
            sightings.push(sighting(&format!("k{place}"), "浙J00002", at + 20));
        }
    }
    for other in 0..100 {
        let camera = format!("k{}", other % 6);
        sightings.push(sighting(&camera, &format!("浙J1{other:04}"), 1000 + 2500 * other));
    }
    sightings
}

/// The simulated present is before all these; a day later than the clocks may be ahead.
async fn seen(server: &Running, sightings: Vec<Sighting>) {
    let back = std::time::Duration::from_secs(5 * DAY_S);
    server.see(sightings.into_iter().map(|mut s| {
        s.captured.at = s.captured.at.minus(back);
        s
    }));
}

fn ask(plate: &str) -> pb::FindConvoysRequest {
    pb::FindConvoysRequest { plate: plate.into(), ..Default::default() }
}

#[tokio::test]
async fn company_is_found_and_the_index_is_fresh() {
    let server = Running::start().await;
    register(&server);
    seen(&server, convoy()).await;
    let client = server.client().await;
    let answer = client.find_convoys(ask("浙J00001")).await.unwrap();
    let companions: Vec<_> = answer.companions.iter().map(|c| c.plate.as_str()).collect();
    assert_eq!(companions, ["浙J00002"]);
    let companion = &answer.companions[0];
    assert_eq!((companion.meeting_count, companion.meetings.len()), (18, 18));
    assert!(companion.chance < 1e-6, "{}", companion.chance);
    assert_eq!(answer.coverage.unwrap().passage_count, 136);
    let nobody = client.find_convoys(ask("浙J99999")).await.unwrap();
    assert!(nobody.companions.is_empty() && nobody.coverage.is_some());

    // What the live feed announces is in the next answer.
    let new = sighting("k1", "浙J00003", 1);
    server.see([new.clone()]);
    server.live.send(Arc::new(new)).unwrap();
    eventually("the new passage is in the index", async || {
        let request = pb::GetVehicleCardRequest { plate: "浙J00003".into(), ..Default::default() };
        client.get_vehicle_card(request).await.is_ok()
    })
    .await;

    let card = pb::GetVehicleCardRequest { plate: "浙J00001".into(), ..Default::default() };
    let card = client.get_vehicle_card(card).await.unwrap().card.unwrap();
    assert_eq!((card.passage_count, card.active_day_count), (18, 3));
    assert_eq!(card.hour_passage_counts.iter().sum::<u32>(), 18);
    let stops = pb::ListStopsRequest { plate: "浙J00001".into(), ..Default::default() };
    let stops = client.list_stops(stops).await.unwrap();
    assert_eq!(stops.places[0].stop_count, 2);
    let unknown = pb::GetVehicleCardRequest { plate: "浙J77777".into(), ..Default::default() };
    let error = client.get_vehicle_card(unknown).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn collisions_come_in_pages() {
    let server = Running::start().await;
    register(&server);
    seen(&server, convoy()).await;
    let client = server.client().await;
    let all = [now().minus(std::time::Duration::from_secs(6 * DAY_S)), now()].map(timestamp_to_pb);
    let area = |cameras: &[&str]| pb::CollisionArea {
        place: Some(pb::CameraChoice {
            cameras: cameras.iter().map(|c| format!("cameras/{c}")).collect(),
            area: None,
        }),
        start_time: Some(all[0]),
        end_time: Some(all[1]),
    };
    let request = pb::FindCollisionsRequest {
        areas: vec![area(&["k0"]), area(&["k5", "k4"])],
        page_size: 1,
        ..Default::default()
    };
    let (mut plates, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::FindCollisionsRequest { page_token, ..request.clone() };
        let page = client.find_collisions(request).await.unwrap();
        plates.extend(page.collisions.into_iter().map(|c| {
            assert_eq!(c.first_seen.len(), 2);
            c.plate
        }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(plates, ["浙J00001", "浙J00002"]);
    for (request, field) in [
        (pb::FindCollisionsRequest::default(), "areas"),
        (
            pb::FindCollisionsRequest { areas: vec![area(&["k0"]); 9], ..Default::default() },
            "areas",
        ),
        (
            pb::FindCollisionsRequest { areas: vec![area(&["nowhere"])], ..Default::default() },
            "areas[0].place.cameras[0]",
        ),
        (
            pb::FindCollisionsRequest {
                areas: vec![pb::CollisionArea { start_time: None, ..area(&["k0"]) }],
                ..Default::default()
            },
            "areas[0].start_time",
        ),
    ] {
        let error = client.find_collisions(request).await.unwrap_err();
        assert_eq!(
            (error.code, error.violations[0].field.as_str()),
            (ErrorCode::InvalidArgument, field)
        );
    }
}

fn night() -> pb::ListNightActiveRequest {
    pb::ListNightActiveRequest::default()
}

async fn release(client: &Client, officer: &str) -> Result<(), ErrorCode> {
    let request = pb::ApproveTacticRequest {
        tactic: pb::PatternTactic::NightActive.into(),
        officer: officer.into(),
        expire_time: Some(timestamp_to_pb(now().plus(std::time::Duration::from_secs(3600)))),
        ..Default::default()
    };
    client.approve_tactic(request).await.map(drop).map_err(|error| error.code)
}

#[tokio::test]
async fn patterns_over_many_vehicles_need_a_second_person() {
    let guarded = Guarded::start().await;
    let analyst = guarded.client(&spec(Role::Analyst)).await;
    let refused = analyst.list_night_active(night()).await.unwrap_err();
    assert_eq!(refused.reason.as_deref(), Some("RELEASE_REQUIRED"));
    // Nobody releases for themselves, and analysts for nobody.
    assert_eq!(release(&analyst, "li").await, Err(ErrorCode::PermissionDenied));
    let supervisor = guarded.client(&guarded.named("li", Role::Supervisor)).await;
    assert_eq!(release(&supervisor, "li").await, Err(ErrorCode::InvalidArgument));
    assert!(supervisor.list_night_active(night()).await.is_err());
    release(&supervisor, "wang").await.unwrap();
    analyst.list_night_active(night()).await.unwrap();
    {
        let audit = guarded.server.parts.audit.lock().unwrap();
        let last = audit.last().unwrap();
        assert_eq!(last.method, "TacticsService/ListNightActive");
        assert!(last.question.ends_with("released by li"), "{}", last.question);
    }
    // Another tactic is another release.
    let frequent = pb::ListFrequentRequest { times_min: 2, ..Default::default() };
    assert!(analyst.list_frequent(frequent).await.is_err());
}

#[tokio::test]
async fn a_scope_hides_what_other_cameras_saw() {
    let guarded = Guarded::start().await;
    register(&guarded.server);
    seen(&guarded.server, convoy()).await;
    let mut scoped = spec(Role::Analyst);
    let cameras = ["k0", "k1"].map(|id| CameraId::new(id).unwrap());
    scoped.scope = TokenScope::Cameras(cameras.into());
    let client = guarded.client(&scoped).await;
    let answer = client.find_convoys(ask("浙J00001")).await.unwrap();
    let companion = &answer.companions[0];
    assert_eq!((companion.plate.as_str(), companion.meeting_count), ("浙J00002", 6));
    let seen = answer.coverage.unwrap().passage_count;
    let all = guarded.client(&spec(Role::Analyst)).await;
    let everything = all.find_convoys(ask("浙J00001")).await.unwrap();
    assert_eq!(everything.companions[0].meeting_count, 18);
    assert!(seen < everything.coverage.unwrap().passage_count);
}

/// The plate of vehicle 1 is also on a red bus, which drives along the same road the other way at the same time.
#[tokio::test]
async fn a_clone_is_judged_with_reasons_and_two_sightings() {
    let server = Running::start().await;
    register(&server);
    let mut sightings = convoy();
    for place in 0..6_u64 {
        let at = 3600 + 90 * place + 45;
        let mut other = sighting(&format!("k{}", 5 - place), "浙J00001", at);
        other.vehicle = Vehicle {
            class: Some((VehicleClass::Bus, 0.9)),
            colour: Some((VehicleColour::Red, 0.9)),
        };
        let PlateState::Read(read) = &mut other.plate else { unreachable!() };
        read.confidence = 0.995;
        sightings.push(other);
    }
    seen(&server, sightings).await;
    let client = server.client().await;
    let request = pb::JudgeCloneRequest { plate: "浙J00001".into(), ..Default::default() };
    let verdict = client.judge_clone(request).await.unwrap().verdict.unwrap();
    assert_eq!(verdict.finding(), pb::CloneFinding::Clone, "{verdict:#?}");
    assert!(verdict.probability > 0.9 && verdict.contradiction_count >= 5);
    assert!(verdict.reasons.iter().any(|r| r.contains("km/h")), "{:?}", verdict.reasons);
    assert!(verdict.reasons.iter().any(|r| r.contains("white, then red")), "{:?}", verdict.reasons);
    assert_eq!(verdict.side_by_side.len(), 2);
    let all = client.list_clones(pb::ListClonesRequest::default()).await.unwrap();
    let plates: Vec<_> = all.verdicts.iter().map(|v| v.plate.as_str()).collect();
    assert_eq!((plates, all.suspect_count), (vec!["浙J00001"], 1));
    let honest = pb::JudgeCloneRequest { plate: "浙J00002".into(), ..Default::default() };
    let honest = client.judge_clone(honest).await.unwrap().verdict.unwrap();
    assert_eq!(honest.finding(), pb::CloneFinding::OneVehicle, "{honest:#?}");
}

/// The last to arrive is the first of its two contradictions in time: a camera that was cut off sends it late.
#[tokio::test]
async fn a_clone_that_shows_is_told_with_the_two_that_contradict_each_other() {
    let server = Running::start().await;
    register(&server);
    let mut sightings = convoy();
    for place in 0..6_u64 {
        let at = 3600 + 90 * place + 45;
        sightings.push(sighting(&format!("k{}", 5 - place), "浙J00001", at));
    }
    let shift = std::time::Duration::from_secs(5 * DAY_S);
    sightings.iter_mut().for_each(|s| s.captured.at = s.captured.at.minus(shift));
    server.see(sightings.clone());
    let mut client = TacticsServiceClient::new(server.channel().await);
    let request = pb::WatchClonesRequest { authority: authority_pb() };
    let mut shown = client.watch_clones(request).await.unwrap().into_inner();
    let opened = shown.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(opened, pb::watch_clones_response::Event::Opened(_)));
    // At k0, and 45 s after it at k5, 5.5 km away; sightings of later days are newer than both.
    let last = sightings.len();
    for seen in [&sightings[0], &sightings[last - 6]] {
        server.live.send(Arc::new(seen.clone())).unwrap();
    }
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), shown.message()).await;
    let event = told.expect("it is told").unwrap().unwrap().event.unwrap();
    let pb::watch_clones_response::Event::Verdict(verdict) = event else { panic!("{event:?}") };
    let ends: Vec<_> = verdict.side_by_side.iter().map(|s| s.camera.as_str()).collect();
    assert_eq!(ends, ["cameras/k0", "cameras/k5"]);
    assert!(verdict.contradiction_count >= 5, "{verdict:?}");
}

#[tokio::test]
async fn a_section_speed_is_an_interval_or_a_refusal() {
    use pb::measure_section_speed_response::Result as Answered;
    let server = Running::start().await;
    register(&server);
    let (from, to) = (sighting("k0", "浙J00001", 0), sighting("k1", "浙J00001", 40));
    let other = sighting("k1", "浙J00002", 50);
    server.see([from.clone(), to.clone(), other.clone()]);
    let client = server.client().await;
    let request = |to: &Sighting, error_max| pb::MeasureSectionSpeedRequest {
        from_sighting: format!("sightings/{}", from.id),
        to_sighting: format!("sightings/{}", to.id),
        length_m: 1112.0,
        length_error_m: 5.0,
        limit_kmh: Some(80.0),
        relative_error_max: Some(error_max),
        ..Default::default()
    };
    let Some(Answered::Speed(speed)) =
        client.measure_section_speed(request(&to, 0.05)).await.unwrap().result
    else {
        panic!("refused")
    };
    assert!(speed.low_kmh < 100.08 && 100.08 < speed.high_kmh, "{speed:?}");
    assert_eq!(speed.verdict(), pb::LimitVerdict::Above);
    let Some(Answered::Refusal(why)) =
        client.measure_section_speed(request(&to, 0.001)).await.unwrap().result
    else {
        panic!("not refused")
    };
    assert!(why.contains("more than"), "{why}");
    let error = client.measure_section_speed(request(&other, 0.05)).await.unwrap_err();
    assert_eq!(error.violations[0].field, "to_sighting");
}

/// In the middle three cameras hang side by side, of which c1 is ten seconds ahead; around them stand four others.
#[tokio::test]
async fn a_clock_that_others_show_to_be_wrong_is_set_right_before_a_speed_is_said() {
    use pb::measure_section_speed_response::Result as Answered;
    let server = Running::start().await;
    let around = [(29.01, 121.0), (28.99, 121.0), (29.0, 121.01), (29.0, 120.99)];
    server.register(
        (0..)
            .zip(around)
            .map(|(i, (lat, lon))| camera(&format!("k{i}"), lat, lon))
            .chain([camera("c1", 29.0, 121.0), camera("c2", 29.00002, 121.0)]),
    );
    let mut sightings = Vec::new();
    let mut vehicle = 0;
    for (place, middle, trip) in (0..4).flat_map(|k| {
        ["c1", "c2", "c3"].into_iter().flat_map(move |c| (0..12).map(move |t| (k, c, t)))
    }) {
        let ahead = if middle == "c1" { 10 } else { 0 };
        let takes = 80 + 7 * trip % 11;
        for inwards in [true, false] {
            vehicle += 1;
            let (plate, begins) = (format!("浙J{vehicle:05}"), 250 * vehicle);
            let outer = |at| sighting(&format!("k{place}"), &plate, at);
            let inner = |at: u64| sighting(middle, &plate, at + ahead);
            sightings.extend(match inwards {
                true => [outer(begins), inner(begins + takes)],
                false => [inner(begins), outer(begins + takes)],
            });
        }
    }
    let (from, to) = (sightings[0].clone(), sightings[1].clone());
    server.see(sightings);
    let client = server.client().await;
    let request = pb::MeasureSectionSpeedRequest {
        from_sighting: format!("sightings/{}", from.id),
        to_sighting: format!("sightings/{}", to.id),
        length_m: 1112.0,
        relative_error_max: Some(0.5),
        ..Default::default()
    };
    let Some(Answered::Speed(speed)) = client.measure_section_speed(request).await.unwrap().result
    else {
        panic!("refused")
    };
    let corrected = speed.clock_correction_s.unwrap();
    assert!((corrected + 10.0).abs() < 2.0, "{speed:?}");
    // 80 s in truth, 90 s by the clocks.
    assert!(speed.low_kmh < 50.04 && 50.04 < speed.high_kmh && speed.best_kmh > 46.0, "{speed:?}");
}

#[tokio::test]
async fn what_lies_in_the_past_is_found_and_an_answer_says_when_it_is_cut_short() {
    let passages = PassageSettings { days: 30, ..PassageSettings::default() };
    let server = Running::start_with(ApiSettings { passages, ..ApiSettings::default() }).await;
    register(&server);
    let back = |days: u64| std::time::Duration::from_secs(days * DAY_S);
    server.see(convoy().into_iter().map(|mut s| {
        s.captured.at = s.captured.at.minus(back(100));
        s
    }));
    let client = server.client().await;
    let answer = client.find_convoys(ask("浙J00001")).await.unwrap();
    assert_eq!(answer.companions.len(), 1, "the window ends with the newest passage");
    assert!(!answer.coverage.unwrap().cut_short);
    let since = |days| pb::FindConvoysRequest {
        start_time: Some(timestamp_to_pb(now().minus(back(days)))),
        ..ask("浙J00001")
    };
    let client = &client;
    let asked =
        |request| async move { client.find_convoys(request).await.unwrap().coverage.unwrap() };
    assert!(asked(since(200)).await.cut_short);
    assert!(!asked(since(99)).await.cut_short);
}

#[tokio::test]
async fn what_retention_deletes_leaves_the_tactics() {
    let passages = PassageSettings { kept_days: 3, ..PassageSettings::default() };
    let server = Running::start_with(ApiSettings { passages, ..ApiSettings::default() }).await;
    register(&server);
    // Five, four and three days before the present; of the store's days, which are those of UTC, three are kept.
    seen(&server, convoy()).await;
    let client = server.client().await;
    let card = pb::GetVehicleCardRequest { plate: "浙J00001".into(), ..Default::default() };
    let answer = client.get_vehicle_card(card).await.unwrap();
    let since = answer.coverage.unwrap().since_time.unwrap();
    let kept = i64::from(now().utc_day()) - 3;
    assert!(since.seconds >= kept * DAY_S as i64, "{since:?}");
    assert_eq!(answer.card.unwrap().passage_count, 6, "of the last of three days");
}

#[tokio::test]
async fn a_forecast_is_drawn_anew_when_nothing_came() {
    let server = Running::start().await;
    register(&server);
    seen(&server, convoy()).await;
    let client = server.client().await;
    let last = now()
        .minus(std::time::Duration::from_secs(5 * DAY_S))
        .plus(std::time::Duration::from_secs(2 * DAY_S + 3 * 3600 + 90 * 2));
    let at = |after: u64| pb::ForecastVehicleRequest {
        plate: "浙J00001".into(),
        as_of_time: Some(timestamp_to_pb(last.plus(std::time::Duration::from_secs(after)))),
        ..Default::default()
    };
    let next = client.forecast_vehicle(at(0)).await.unwrap();
    assert_eq!(next.next[0].camera, "cameras/k3");
    assert!(next.next[0].probability > 0.5, "{next:?}");
    let late = client.forecast_vehicle(at(89)).await.unwrap();
    assert_eq!(late.last_seen, next.last_seen);
    let share = |f: &pb::ForecastVehicleResponse| {
        f.next.iter().find(|n| n.camera == "cameras/k3").map_or(0.0, |n| n.probability)
    };
    let total = |f: &pb::ForecastVehicleResponse| {
        f.next.iter().map(|n| n.probability).sum::<f64>() + f.ended + f.passed_unseen + f.elsewhere
    };
    assert!(share(&late) < share(&next), "{late:?}");
    assert!((total(&late) - 1.0).abs() < 1e-9 && (total(&next) - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_forecast_opens_closed_cameras_along_its_way_by_the_askers_right() {
    let guarded = Guarded::start().await;
    let server = &guarded.server;
    register(server);
    let closed = |id: &str, lat, lon| Camera { enabled: false, ..camera(id, lat, lon) };
    // It was last seen at k2 and goes on to the north.
    server.register([closed("between", 29.025, 121.0005), closed("aside", 29.02, 121.05)]);
    seen(server, convoy()).await;
    let last = now()
        .minus(std::time::Duration::from_secs(5 * DAY_S))
        .plus(std::time::Duration::from_secs(2 * DAY_S + 3 * 3600 + 90 * 2));
    let ask = pb::ForecastVehicleRequest {
        plate: "浙J00001".into(),
        as_of_time: Some(timestamp_to_pb(last)),
        ..Default::default()
    };
    let open = pb::ForecastVehicleRequest {
        open_period: Some(pb::Duration { seconds: 600, nanos: 0 }),
        ..ask.clone()
    };
    let analyst = guarded.client(&spec(Role::Analyst)).await;
    let patrol = guarded.client(&guarded.named("zhao", Role::Patrol)).await;
    assert!(analyst.forecast_vehicle(ask.clone()).await.unwrap().opened.is_empty());
    patrol.forecast_vehicle(ask).await.unwrap();
    let refused = patrol.forecast_vehicle(open.clone()).await.unwrap_err();
    assert_eq!(refused.reason.as_deref(), Some("ROLE_FORBIDS"));
    assert!(server.parts.openings.lock().unwrap().is_empty());

    assert_eq!(analyst.forecast_vehicle(open).await.unwrap().opened, ["cameras/between"]);
    let openings = server.parts.openings.lock().unwrap().clone();
    let opened: Vec<_> = openings.iter().map(|(id, it)| (id.as_str(), it.by.as_str())).collect();
    assert_eq!(opened, [("between", "wang")]);
    let record = server.parts.audit.lock().unwrap().last().cloned().unwrap();
    assert!(record.question.contains("closed cameras along its way for 600 s"), "{record:?}");
}

#[tokio::test]
async fn cameras_are_graded() {
    let server = Running::start().await;
    register(&server);
    seen(&server, convoy()).await;
    let client = server.client().await;
    let request = pb::ListCameraGradesRequest { page_size: 4, ..Default::default() };
    let page = client.list_camera_grades(request.clone()).await.unwrap();
    let page_token = page.next_page_token.clone();
    let rest = client
        .list_camera_grades(pb::ListCameraGradesRequest { page_token, ..request })
        .await
        .unwrap();
    let cameras: std::collections::BTreeSet<_> =
        page.grades.iter().chain(&rest.grades).map(|g| g.camera.clone()).collect();
    assert_eq!((page.grades.len(), rest.grades.len(), cameras.len()), (4, 2, 6));
    assert!(page.grades.iter().all(|g| g.agreement > 0.1 && g.hours.len() == 24));
}

#[tokio::test]
async fn a_released_tactic_is_listed_ends_when_revoked_and_opens_no_old_data() {
    let guarded = Guarded::start().await;
    let analyst = guarded.client(&spec(Role::Analyst)).await;
    let supervisor = guarded.client(&guarded.named("li", Role::Supervisor)).await;
    release(&supervisor, "wang").await.unwrap();
    let listed = supervisor.releases().await.unwrap();
    let [given] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((given.tactic(), given.officer.as_str()), (pb::PatternTactic::NightActive, "wang"));
    assert_eq!(given.granted_by, "li");
    analyst.list_night_active(night()).await.unwrap();
    // Of any plate, as a release of old data for any plate is; but it is none.
    let old = timestamp_to_pb(now().minus(std::time::Duration::from_secs(91 * 86_400)));
    let stops = |plate: &str| pb::ListStopsRequest {
        plate: plate.into(),
        start_time: Some(old),
        ..Default::default()
    };
    let refused = analyst.list_stops(stops("浙J12345")).await.unwrap_err();
    assert_eq!(refused.reason.as_deref(), Some("DATA_TOO_OLD"));
    supervisor.revoke_release(&given.name).await.unwrap();
    let refused = analyst.list_night_active(night()).await.unwrap_err();
    assert_eq!(refused.reason.as_deref(), Some("RELEASE_REQUIRED"));

    // A release of old data counts for the questions about its plate, and releases no tactic.
    let leave = pb::Release {
        officer: "wang".into(),
        case_number: "A-1".into(),
        plate: "浙J12345".into(),
        reason: "series of thefts".into(),
        expire_time: Some(timestamp_to_pb(now().plus(std::time::Duration::from_secs(3600)))),
        ..Default::default()
    };
    supervisor.grant_release(leave.clone()).await.unwrap();
    analyst.list_stops(stops("浙J12345")).await.unwrap();
    assert!(analyst.list_stops(stops("浙J54321")).await.is_err());
    assert!(analyst.list_night_active(night()).await.is_err());
    let both = pb::Release { tactic: pb::PatternTactic::Frequent.into(), ..leave };
    let refused = supervisor.grant_release(both.clone()).await.unwrap_err();
    assert_eq!(refused.violations[0].field, "release.plate");
    let alone = pb::Release { plate: String::new(), ..both };
    assert_eq!(
        supervisor.grant_release(alone).await.unwrap().tactic(),
        pb::PatternTactic::Frequent
    );
    let frequent = pb::ListFrequentRequest { times_min: 2, ..Default::default() };
    analyst.list_frequent(frequent).await.unwrap();
}
