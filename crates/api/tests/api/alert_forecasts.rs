//! Where a vehicle that rang may be next, with its alert; over the real intake and store.

use std::time::Duration;

use guiji_api::client::{AlertsFrom, Client, Messages};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb;
use guiji_api::pb::stream_alerts_response::Event;
use guiji_domain::{Camera, Sighting, SightingId, TimeSpan, Timestamp, TrackId};

use crate::imports::{Importing, import};
use crate::scripted::{camera, eventually, now, sighting};

const BEAT: Option<Duration> = Some(Duration::from_secs(1));

fn passing(camera: &str, plate: &str, at: Timestamp) -> Sighting {
    let mut seen = sighting(camera, plate, 0);
    seen.id = SightingId::for_track(&seen.camera, TrackId(at.as_nanos() as u64), at);
    seen.span = TimeSpan::at(at);
    seen.captured.at = at;
    seen
}

async fn take_in(client: &Client, seen: &[Sighting]) {
    let answer = import(client, [seen.iter().map(pb::Sighting::from).collect()]).await.unwrap();
    assert_eq!(answer.stored_count, seen.len() as u64, "{answer:?}");
}

/// Alerts and redrawn forecasts, until the stream has been quiet for so many heartbeats.
async fn until_quiet(stream: &mut Messages<pb::StreamAlertsResponse>, beats: u32) -> Vec<Event> {
    let (mut events, mut quiet) = (Vec::new(), 0);
    while quiet < beats {
        match stream.next().await.unwrap().unwrap().event.unwrap() {
            Event::Heartbeat(_) => quiet += 1,
            event => {
                quiet = 0;
                events.push(event);
            }
        }
    }
    events
}

/// From k1, four in five drive to k2 within a minute and the rest to k3 within five.
async fn rig() -> (Importing, Client) {
    let served = Importing::start().await;
    // Their sightings come from elsewhere: nothing is known against their seeing.
    let elsewhere = |id, lat_deg| Camera { enabled: false, ..camera(id, lat_deg, 121.4) };
    served.server.register([elsewhere("k2", 29.11), elsewhere("k3", 29.15)]);
    let client = served.server.client().await;
    let mut seen = Vec::new();
    for i in 0..50_u64 {
        let plate = format!("浙J2{i:04}");
        let at = now().minus(Duration::from_secs(86_400 - i * 900));
        let (to, after) = if i % 5 == 0 { ("k3", 280 + i % 20) } else { ("k2", 50 + i % 10) };
        seen.push(passing("k1", &plate, at));
        seen.push(passing(to, &plate, at.plus(Duration::from_secs(after))));
    }
    take_in(&client, &seen).await;
    let entry = pb::WatchlistEntry {
        target: Some(pb::watchlist_entry::Target::Plate("浙J12345".into())),
        reason: "test".into(),
        expire_time: Some(timestamp_to_pb(now().plus(Duration::from_secs(86_400)))),
        ..Default::default()
    };
    client.create_watchlist_entry("w1", entry).await.unwrap();
    (served, client)
}

fn of_camera(forecast: &pb::AlertForecast, camera: &str) -> f64 {
    let listed = forecast.next.iter().find(|next| next.camera == format!("cameras/{camera}"));
    listed.map_or(0.0, |next| next.probability)
}

fn sum(forecast: &pb::AlertForecast) -> f64 {
    let next: f64 = forecast.next.iter().map(|next| next.probability).sum();
    next + forecast.ended + forecast.passed_unseen + forecast.elsewhere
}

#[tokio::test]
async fn an_alert_brings_where_the_vehicle_may_be_next_and_again_when_it_does_not_come() {
    use pb::AlertForecastState::{Drawn, NotLearnt};
    let (served, client) = rig().await;
    take_in(&client, &[passing("k1", "浙J12345", now())]).await;
    // The first follower makes the server learn; its alerts do not wait for that.
    let mut stream = client.alerts(AlertsFrom::Beginning, BEAT).await.unwrap();
    let first = until_quiet(&mut stream, 2).await;
    let [Event::Alert(first)] = &first[..] else { panic!("{first:?}") };
    let state = first.forecast.as_ref().unwrap().state();
    assert!(matches!(state, NotLearnt | Drawn), "{state:?}");
    let mut stream = None;
    let mut drawn = None;
    eventually("the roads are learnt", async || {
        let mut opened = client.alerts(AlertsFrom::Beginning, BEAT).await.unwrap();
        let events = until_quiet(&mut opened, 2).await;
        let alert = events.into_iter().find_map(|event| match event {
            Event::Alert(alert) => Some(alert),
            _ => None,
        });
        let forecast = alert.unwrap().forecast.unwrap();
        let learnt = forecast.state() == Drawn;
        (stream, drawn) = (Some(opened), Some(forecast));
        learnt
    })
    .await;
    let (mut stream, drawn) = (stream.unwrap(), drawn.unwrap());
    assert_eq!(drawn.next[0].camera, "cameras/k2");
    assert!(of_camera(&drawn, "k2") > 0.6 && of_camera(&drawn, "k3") > 0.1, "{drawn:?}");
    assert!((sum(&drawn) - 1.0).abs() < 1e-6, "{drawn:?}");
    let window = drawn.next[0].window_end_time.unwrap();
    let end = window.seconds - timestamp_to_pb(now()).seconds;
    assert!((50..=70).contains(&end), "{end} s");

    // Nobody saw it by then: k3 is likelier than it was, and it is told once until the next window ends.
    served.clock.advance(Duration::from_secs(120));
    let events = until_quiet(&mut stream, 3).await;
    let [Event::Redrawn(redrawn)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(redrawn.alert, first.name);
    let anew = redrawn.forecast.as_ref().unwrap();
    assert!(of_camera(anew, "k3") > of_camera(&drawn, "k3"), "{anew:?}");
    assert!(of_camera(anew, "k2") < of_camera(&drawn, "k2"), "{anew:?}");
    assert!((sum(anew) - 1.0).abs() < 1e-6, "{anew:?}");

    // It comes to k3, so nothing is drawn anew for the first alert any more.
    let at = now().plus(Duration::from_secs(200));
    take_in(&client, &[passing("k3", "浙J12345", at)]).await;
    served.clock.advance(Duration::from_secs(400));
    for event in until_quiet(&mut stream, 3).await {
        match event {
            Event::Redrawn(redrawn) => assert_ne!(redrawn.alert, first.name),
            Event::Alert(alert) => assert_eq!(alert.camera, "cameras/k3"),
            Event::Heartbeat(_) => {}
        }
    }
}

/// Everybody goes to k2 most; this one has always gone to k3.
#[tokio::test]
async fn an_alert_is_forecast_by_the_vehicles_own_habit() {
    let (_served, client) = rig().await;
    for day in 1..=6 {
        let at = now().minus(Duration::from_secs(86_400 * day + 37));
        let there = passing("k3", "浙J12345", at.plus(Duration::from_secs(290)));
        take_in(&client, &[passing("k1", "浙J12345", at), there]).await;
    }
    take_in(&client, &[passing("k1", "浙J12345", now())]).await;
    eventually("the habit is learnt", async || {
        let mut opened = client.alerts(AlertsFrom::Beginning, BEAT).await.unwrap();
        let events = until_quiet(&mut opened, 2).await;
        let mut alerts = events.into_iter().filter_map(|event| match event {
            Event::Alert(alert) => alert.forecast,
            _ => None,
        });
        let drawn = alerts.rfind(|f| f.state() == pb::AlertForecastState::Drawn);
        drawn.is_some_and(|forecast| forecast.next[0].camera == "cameras/k3")
    })
    .await;
}

#[tokio::test]
async fn of_an_old_sighting_nothing_is_forecast() {
    let (served, client) = rig().await;
    take_in(&client, &[passing("k1", "浙J12345", now())]).await;
    served.clock.advance(Duration::from_secs(1801));
    let mut stream = client.alerts(AlertsFrom::Beginning, BEAT).await.unwrap();
    let events = until_quiet(&mut stream, 2).await;
    let [Event::Alert(alert)] = &events[..] else { panic!("{events:?}") };
    let forecast = alert.forecast.as_ref().unwrap();
    assert_eq!((forecast.state(), forecast.next.len()), (pb::AlertForecastState::Over, 0));
}
