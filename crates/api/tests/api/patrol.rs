//! Patrol units, their alerts, and who deals with them; over the real intake and store.

use std::time::Duration;

use guiji_api::client::{AlertsFrom, Client, ErrorCode, Messages};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb;
use guiji_api::pb::alert_service_client::AlertServiceClient;
use guiji_api::pb::stream_alerts_response::Event;
use guiji_api::{Role, TokenScope, TokenSpec};
use guiji_domain::{AlertStage, CameraId, Delivery, Digest, ReceiverId};

use crate::access::{Guarded, spec};
use crate::imports::{Importing, import};
use crate::scripted::{Running, authority, authority_pb, camera, now, sighting};

fn unit(id: &str, cameras: &[&str]) -> pb::PatrolUnit {
    pb::PatrolUnit {
        name: format!("patrolUnits/{id}"),
        display_name: format!("Unit {id}"),
        duty: pb::PatrolDuty::Patrol.into(),
        cameras: cameras.iter().map(|id| format!("cameras/{id}")).collect(),
        ..Default::default()
    }
}

async fn next_alert(stream: &mut Messages<pb::StreamAlertsResponse>) -> pb::Alert {
    let wait = async {
        loop {
            if let Some(Event::Alert(alert)) = stream.next().await.unwrap().unwrap().event {
                return alert;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("an alert within 10 s")
}

#[tokio::test]
async fn units_are_entered_changed_and_removed() {
    let served = Importing::start().await;
    let client = served.server.client().await;
    let circle = pb::Circle {
        centre: Some(pb::GeoPoint { latitude_deg: 28.85, longitude_deg: 121.1 }),
        radius_m: 1500.0,
    };
    let east = pb::PatrolUnit {
        area: Some(pb::Area { shape: Some(pb::area::Shape::Circle(circle)) }),
        shifts: vec![pb::DailyHours { start_minute: 1320, end_minute: 360, weekdays: vec![] }],
        neighbours: vec!["patrolUnits/desk".into()],
        ..unit("east", &["k1", "k2"])
    };
    assert_eq!(client.create_patrol_unit(east.clone()).await.unwrap(), east);
    let taken = client.create_patrol_unit(east.clone()).await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::AlreadyExists);
    let desk = pb::PatrolUnit { duty: pb::PatrolDuty::ControlRoom.into(), ..unit("desk", &[]) };
    let absent = client.update_patrol_unit(desk.clone()).await.unwrap_err();
    assert_eq!(absent.code, ErrorCode::NotFound);
    client.create_patrol_unit(desk.clone()).await.unwrap();
    let renamed = pb::PatrolUnit { display_name: "East".into(), ..east };
    client.update_patrol_unit(renamed.clone()).await.unwrap();
    assert_eq!(client.patrol_units().await.unwrap(), [desk, renamed]);
    client.delete_patrol_unit("patrolUnits/desk").await.unwrap();
    let gone = client.delete_patrol_unit("patrolUnits/desk").await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_unit_hears_of_its_own_alerts_and_everybody_of_who_deals_with_them() {
    let served = Importing::start().await;
    served.server.register([camera("k2", 29.2, 121.4)]);
    let client = served.server.client().await;
    client.create_patrol_unit(unit("east", &["k1"])).await.unwrap();
    client.create_patrol_unit(unit("west", &["k2"])).await.unwrap();
    let absent = client.alerts_for("patrolUnits/none", AlertsFrom::Now, None).await.unwrap_err();
    assert_eq!(absent.code, ErrorCode::NotFound);
    let follow =
        async |unit: &str| client.alerts_for(unit, AlertsFrom::Beginning, None).await.unwrap();
    let mut all = follow("").await;
    let mut east = follow("patrolUnits/east").await;
    let mut west = follow("patrolUnits/west").await;
    let entry = pb::WatchlistEntry {
        target: Some(pb::watchlist_entry::Target::Plate("浙J12345".into())),
        reason: "test".into(),
        expire_time: Some(timestamp_to_pb(now().plus(Duration::from_secs(86_400)))),
        ..Default::default()
    };
    client.create_watchlist_entry("w1", entry).await.unwrap();
    let seen = [sighting("k2", "浙J12345", 1), sighting("k1", "浙J12345", 2)];
    let answer = import(&client, [seen.iter().map(pb::Sighting::from).collect()]).await.unwrap();
    assert_eq!(answer.stored_count, 2, "{answer:?}");

    let at_k2 = next_alert(&mut west).await;
    let at_k1 = next_alert(&mut east).await;
    assert_eq!((at_k1.camera.as_str(), at_k2.camera.as_str()), ("cameras/k1", "cameras/k2"));
    assert_eq!(at_k1.patrol_units, ["patrolUnits/east"]);
    assert_eq!(at_k2.patrol_units, ["patrolUnits/west"]);

    let bad = client.acknowledge_alert("alerts/1", "", "").await.unwrap_err();
    assert_eq!(bad.violations[0].field, "name");
    let other = at_k1.name.rsplit_once('.').unwrap().0.to_owned() + ".other";
    let absent = client.acknowledge_alert(&other, "", "").await.unwrap_err();
    assert_eq!(absent.code, ErrorCode::NotFound);
    let absent = client.acknowledge_alert(&at_k1.name, "patrolUnits/none", "").await.unwrap_err();
    assert_eq!(absent.code, ErrorCode::NotFound);
    let taken =
        client.acknowledge_alert(&at_k1.name, "patrolUnits/east", "on our way").await.unwrap();
    assert_eq!(taken.stage(), pb::AlertStage::Acknowledged);
    let expected = pb::Acknowledgement {
        officer: authority().officer().into(),
        patrol_unit: "patrolUnits/east".into(),
        note: "on our way".into(),
    };
    assert_eq!(taken.acknowledgement, Some(expected.clone()));
    // The first counts.
    let late = client.acknowledge_alert(&at_k1.name, "patrolUnits/west", "me too").await.unwrap();
    assert_eq!((late.cursor, late.acknowledgement), (taken.cursor, Some(expected)));
    assert_eq!(next_alert(&mut east).await, taken);
    for known in [&at_k2, &at_k1, &taken] {
        assert_eq!(next_alert(&mut all).await.cursor, known.cursor);
    }
    let asked = served.audit_of("AlertService/AcknowledgeAlert");
    assert!(
        asked.iter().any(|q| *q == format!("{} for patrolUnits/east", at_k1.name)),
        "{asked:?}"
    );
}

#[tokio::test]
async fn who_may_see_an_alert_may_answer_it_and_nobody_else() {
    let guarded = Guarded::start().await;
    guarded.server.ring(1);
    let alert = guarded.server.parts.alerts.lock().unwrap()[0].clone();
    let name = format!("alerts/{}", alert.id);
    let with_scope = async |camera: &str| -> Client {
        let scope = TokenScope::Cameras(vec![CameraId::new(camera).unwrap()]);
        guarded.client(&TokenSpec { scope, ..spec(Role::Patrol) }).await
    };
    let hidden = with_scope("k2").await.acknowledge_alert(&name, "", "").await.unwrap_err();
    assert_eq!(hidden.code, ErrorCode::NotFound);
    assert_eq!(guarded.server.parts.alerts.lock().unwrap().len(), 1);
    let taken = with_scope("k1").await.acknowledge_alert(&name, "", "").await.unwrap();
    assert_eq!(taken.acknowledgement.unwrap().officer, "wang");
}

#[tokio::test]
async fn what_was_delivered_is_proven_page_by_page_to_who_may_see_the_alert() {
    let guarded = Guarded::start().await;
    guarded.server.ring(2);
    let [alert, other] = [0, 1].map(|i| guarded.server.parts.alerts.lock().unwrap()[i].clone());
    let proof = |cursor: u64, stage, receiver: &str| Delivery {
        receiver: ReceiverId::new(receiver).unwrap(),
        alert: alert.id.clone(),
        stage,
        cursor,
        delivered: now(),
        tries: 2,
        message: Digest([7; 32]),
        answer: "HTTP 204".into(),
    };
    use AlertStage::{Confirmed, Provisional};
    let mut kept = vec![
        proof(1, Provisional, "broker"),
        proof(1, Provisional, "desk"),
        proof(3, Confirmed, "broker"),
    ];
    kept.push(Delivery { alert: other.id, ..kept[0].clone() });
    *guarded.server.parts.deliveries.lock().unwrap() = kept;

    let name = format!("alerts/{}", alert.id);
    let analyst = guarded.client(&spec(Role::Analyst)).await;
    let all = analyst.deliveries(&name).await.unwrap();
    let told: Vec<_> = all.iter().map(|p| (p.cursor, p.stage(), p.receiver.as_str())).collect();
    use pb::AlertStage as Stage;
    assert_eq!(
        told,
        [
            (1, Stage::Provisional, "broker"),
            (1, Stage::Provisional, "desk"),
            (3, Stage::Confirmed, "broker")
        ]
    );
    assert_eq!((all[0].tries, all[0].answer.as_str()), (2, "HTTP 204"));
    assert_eq!(all[0].message_sha256, "07".repeat(32));
    assert_eq!(all[0].deliver_time, Some(timestamp_to_pb(now())));

    // The same in pages, without tokens for guards.
    let open = Running::start().await;
    open.ring(1);
    *open.parts.deliveries.lock().unwrap() =
        guarded.server.parts.deliveries.lock().unwrap().clone();
    let mut raw = AlertServiceClient::new(open.channel().await);
    let (mut paged, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListDeliveriesRequest {
            authority: authority_pb(),
            name: name.clone(),
            page_size: 1,
            page_token,
        };
        let page = raw.list_deliveries(request).await.unwrap().into_inner();
        assert_eq!(page.deliveries.len(), 1);
        paged.extend(page.deliveries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);

    let scope = TokenScope::Cameras(vec![CameraId::new("k2").unwrap()]);
    let elsewhere = guarded.client(&TokenSpec { scope, ..spec(Role::Analyst) }).await;
    assert_eq!(elsewhere.deliveries(&name).await.unwrap_err().code, ErrorCode::NotFound);
    let unknown = name.rsplit_once('.').unwrap().0.to_owned() + ".other";
    assert_eq!(analyst.deliveries(&unknown).await.unwrap_err().code, ErrorCode::NotFound);
}
