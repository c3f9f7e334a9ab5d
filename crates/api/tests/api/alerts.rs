use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::scripted::{Running, authority_pb, eventually};
use guiji_api::client::{AlertsFrom, Client, ErrorCode, Messages};
use guiji_api::pb::alert_service_client::AlertServiceClient;
use guiji_api::pb::stream_alerts_response::Event;
use guiji_api::{ApiSettings, pb};

type Alerts = Messages<pb::StreamAlertsResponse>;

/// A stream and the cursor that its first message names.
async fn open(client: &Client, from: AlertsFrom) -> (Alerts, u64) {
    let mut alerts = client.alerts(from, None).await.unwrap();
    match alerts.next().await.unwrap().unwrap().event {
        Some(Event::Heartbeat(beat)) => (alerts, beat.cursor),
        other => panic!("first message: {other:?}"),
    }
}

async fn cursors(alerts: &mut Alerts, count: usize) -> Vec<u64> {
    let mut cursors = Vec::new();
    while cursors.len() < count {
        if let Some(Event::Alert(alert)) = alerts.next().await.unwrap().unwrap().event {
            cursors.push(alert.cursor);
        }
    }
    cursors
}

#[tokio::test]
async fn a_stream_begins_where_it_was_told_and_goes_on_after_a_break() {
    let server = Running::start().await;
    server.ring(5);
    let client = server.client().await;
    let (mut all, begun) = open(&client, AlertsFrom::Beginning).await;
    assert_eq!((begun, cursors(&mut all, 5).await), (0, vec![1, 2, 3, 4, 5]));
    let (mut new, begun) = open(&client, AlertsFrom::Now).await;
    assert_eq!(begun, 5);
    server.ring(2);
    assert_eq!(cursors(&mut new, 2).await, [6, 7]);
    assert_eq!(cursors(&mut all, 2).await, [6, 7]);

    drop(all);
    server.ring(3); // while nobody listens to it
    let (mut resumed, begun) = open(&client, AlertsFrom::AfterCursor(6)).await;
    assert_eq!((begun, cursors(&mut resumed, 4).await), (6, vec![7, 8, 9, 10]));
    let (mut at_end, begun) = open(&client, AlertsFrom::AfterCursor(10)).await;
    server.ring(1);
    assert_eq!((begun, cursors(&mut at_end, 1).await), (10, vec![11]));
}

#[tokio::test]
async fn wrong_beginnings_are_refused() {
    let server = Running::start().await;
    server.ring(5);
    let client = server.client().await;
    let beyond = client.alerts(AlertsFrom::AfterCursor(6), None).await.unwrap_err();
    assert_eq!(beyond.code, ErrorCode::OutOfRange);
    assert!(beyond.message.contains("from_beginning"), "{beyond}");
    let hasty = client.alerts(AlertsFrom::Now, Some(Duration::from_millis(1))).await.unwrap_err();
    assert_eq!(hasty.violations[0].field, "heartbeat_interval");
    let mut raw = AlertServiceClient::new(server.channel().await);
    let request = pb::StreamAlertsRequest { authority: authority_pb(), ..Default::default() };
    let unsaid = raw.stream_alerts(request).await.unwrap_err();
    assert!(unsaid.message().contains("start: is required"), "{unsaid}");
}

#[tokio::test]
async fn a_quiet_stream_beats() {
    let server = Running::start().await;
    server.ring(2);
    let client = server.client().await;
    let beat = Some(Duration::from_secs(1));
    let mut alerts = client.alerts(AlertsFrom::AfterCursor(1), beat).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(match alerts.next().await.unwrap().unwrap().event.unwrap() {
            Event::Heartbeat(beat) => ("beat", beat.cursor),
            Event::Alert(alert) => ("alert", alert.cursor),
            Event::Redrawn(anew) => panic!("{anew:?}"),
        });
    }
    assert_eq!(heard, [("beat", 1), ("alert", 2), ("beat", 2)]);
}

#[tokio::test]
async fn a_stream_beats_though_all_that_is_logged_is_for_others() {
    let server = Running::start().await;
    let client = server.client().await;
    let east = pb::PatrolUnit {
        name: "patrolUnits/east".into(),
        display_name: "East".into(),
        ..Default::default()
    };
    client.create_patrol_unit(east).await.unwrap();
    let beat = Some(Duration::from_secs(1));
    let mut alerts =
        client.alerts_for("patrolUnits/east", AlertsFrom::Beginning, beat).await.unwrap();
    let mut heard = Vec::new();
    // Something that is not for it is logged ten times within each of its intervals.
    let begun = std::time::Instant::now();
    while heard.len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(20), "no beat: {heard:?}");
        server.ring(1);
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(100), alerts.next()).await {
            match message.unwrap().unwrap().event.unwrap() {
                Event::Heartbeat(beat) => heard.push(beat.cursor),
                other => panic!("{other:?}"),
            }
        }
    }
    // After a break, nothing that it has passed over is read again.
    assert!(heard[0] == 0 && heard[0] < heard[1] && heard[1] < heard[2], "{heard:?}");
}

#[tokio::test]
async fn a_slow_client_loses_nothing_and_holds_no_memory() {
    const COUNT: usize = 60_000;
    let server = Running::start().await;
    server.ring(COUNT);
    let client = server.client().await;
    let (mut slow, _) = open(&client, AlertsFrom::Beginning).await;
    // Time enough to read ahead, if the server did; what it has read must
    // fit into HTTP/2's windows (2 MB) and the few messages ahead.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ahead = server.parts.alerts_read_to.load(Ordering::SeqCst);
    assert!(ahead < 20_000, "{ahead} alerts read ahead of a client that takes none");
    let (mut quick, _) = open(&client, AlertsFrom::AfterCursor(COUNT as u64 - 1)).await;
    assert_eq!(cursors(&mut quick, 1).await, [COUNT as u64]);
    let all = cursors(&mut slow, COUNT).await;
    assert!(all.iter().copied().eq(1..=COUNT as u64));
}

#[tokio::test]
async fn a_client_that_vanishes_frees_its_place() {
    let settings = ApiSettings { streams_max: 1, ..ApiSettings::default() };
    let server = Running::start_with(settings).await;
    let client = server.client().await;
    let (held, _) = open(&client, AlertsFrom::Now).await;
    let busy = client.alerts(AlertsFrom::Now, None).await.unwrap_err();
    assert_eq!(
        (busy.code, busy.reason.as_deref()),
        (ErrorCode::ResourceExhausted, Some("SERVER_BUSY"))
    );
    assert!(busy.retry_after.is_some());
    drop(held); // It waits for an alert that never comes: only its end can free the place.
    eventually("the place is free", async || client.alerts(AlertsFrom::Now, None).await.is_ok())
        .await;
}

#[tokio::test]
async fn the_log_is_paged() {
    let server = Running::start().await;
    server.ring(5);
    let mut client = AlertServiceClient::new(server.channel().await);
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListAlertsRequest {
            authority: authority_pb(),
            after_cursor: 1,
            page_size: 2,
            page_token,
        };
        let page = client.list_alerts(request).await.unwrap().into_inner();
        seen.extend(page.alerts.iter().map(|a| a.cursor));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [2, 3, 4, 5]);
    let one = &server.client().await.list_alerts(4, 0).await.unwrap()[0];
    assert_eq!(
        (one.plate.as_str(), one.watchlist_entry.as_str()),
        ("浙J12345", "watchlistEntries/w1")
    );
    assert_eq!(one.target, Some(pb::alert::Target::TargetPlatePattern("浙J*".into())));
    assert_eq!(one.stage(), pb::AlertStage::Confirmed);
}
