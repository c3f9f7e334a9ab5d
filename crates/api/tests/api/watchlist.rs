use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::scripted::{Running, camera, now};
use guiji_api::client::ErrorCode;
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb;
use guiji_api::pb::watchlist_entry::Target;

fn entry() -> pb::WatchlistEntry {
    pb::WatchlistEntry {
        target: Some(Target::Plate("浙J12345".into())),
        reason: "stolen".into(),
        expire_time: Some(timestamp_to_pb(now().plus(Duration::from_secs(3600)))),
        ..Default::default()
    }
}

#[tokio::test]
async fn entries_come_and_go_and_the_engine_hears_of_it() {
    let server = Running::start().await;
    let client = server.client().await;
    let made = client.create_watchlist_entry("", entry()).await.unwrap();
    assert_eq!((made.owner.as_str(), made.case_number.as_str()), ("Wang", "A-1"));
    assert_eq!((made.threshold, made.create_time), (Some(0.5), Some(timestamp_to_pb(now()))));
    // The clock stands still: the server's next id must differ all the same.
    let again = client.create_watchlist_entry("", entry()).await.unwrap();
    assert_ne!(again.name, made.name);
    let given = client.create_watchlist_entry("w1", entry()).await.unwrap();
    assert_eq!(given.name, "watchlistEntries/w1");
    let taken = client.create_watchlist_entry("w1", entry()).await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::AlreadyExists);
    assert_eq!(server.parts.watchlist_changes.load(Ordering::SeqCst), 3);

    let all = client.watchlist().await.unwrap();
    assert_eq!(all.len(), 3);
    assert!(all.is_sorted_by(|a, b| a.name < b.name));
    client.delete_watchlist_entry("watchlistEntries/w1").await.unwrap();
    let gone = client.delete_watchlist_entry("watchlistEntries/w1").await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::NotFound);
    assert_eq!(server.parts.watchlist_changes.load(Ordering::SeqCst), 4);
    assert_eq!(client.watchlist().await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_entry_for_an_unknown_camera_is_refused() {
    let server = Running::start().await;
    server.register([camera("k1", 28.0, 121.0)]);
    let client = server.client().await;
    let at = |names: [&str; 2]| pb::WatchlistEntry {
        cameras: names.map(str::to_owned).to_vec(),
        ..entry()
    };
    let error = client.create_watchlist_entry("w1", at(["cameras/k1", "cameras/k2"])).await;
    let error = error.unwrap_err();
    assert_eq!(error.violations[0].field, "watchlist_entry.cameras[1]");
    server.register([camera("k2", 28.0, 121.0)]);
    let entered = client.create_watchlist_entry("w1", at(["cameras/k1", "cameras/k2"])).await;
    assert_eq!(entered.unwrap().cameras.len(), 2);
    let absent = client.create_watchlist_entry("w2", pb::WatchlistEntry::default()).await;
    let fields: Vec<_> = absent.unwrap_err().violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["watchlist_entry.target", "watchlist_entry.expire_time"]);
}
