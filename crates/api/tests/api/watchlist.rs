use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::scripted::{Running, camera, now, sighting};
use guiji_api::client::{Client, ErrorCode};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb;
use guiji_api::pb::watchlist_entry::Target;
use guiji_domain::Authority;

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

fn pattern() -> pb::WatchlistEntry {
    pb::WatchlistEntry { target: Some(Target::PlatePattern("浙J?23*".into())), ..entry() }
}

#[tokio::test]
async fn a_pattern_waits_for_a_second_persons_approval() {
    let server = Running::start().await;
    let client = server.client().await;
    let entered = client.create_watchlist_entry("wide", pattern()).await.unwrap();
    assert_eq!(entered.state(), pb::WatchlistEntryState::AwaitingApproval);
    let own = client.approve_watchlist_entry("watchlistEntries/wide").await.unwrap_err();
    assert_eq!(own.code, ErrorCode::PermissionDenied);
    assert!(own.message.contains("second person"), "{}", own.message);

    let chief = Authority::new("test", "A-1", "Li").unwrap();
    let second = Client::connect(&server.address.to_string(), &chief).await.unwrap();
    let approved = second.approve_watchlist_entry("watchlistEntries/wide").await.unwrap();
    assert_eq!(approved.state(), pb::WatchlistEntryState::Active);
    let approval = approved.approval.clone().unwrap();
    assert_eq!(
        (approval.approver.as_str(), approval.approve_time),
        ("Li", Some(timestamp_to_pb(now())))
    );
    assert_eq!(second.approve_watchlist_entry("watchlistEntries/wide").await.unwrap(), approved);
    assert_eq!(server.parts.watchlist_changes.load(Ordering::SeqCst), 2, "entered and approved");

    client.create_watchlist_entry("one", entry()).await.unwrap();
    let needless = second.approve_watchlist_entry("watchlistEntries/one").await.unwrap_err();
    assert_eq!(needless.code, ErrorCode::InvalidArgument);
    let absent = second.approve_watchlist_entry("watchlistEntries/none").await.unwrap_err();
    assert_eq!(absent.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn many_entries_are_entered_once_and_the_wrong_ones_named() {
    let server = Running::start().await;
    let client = server.client().await;
    let named = |id: &str, entry: pb::WatchlistEntry| pb::WatchlistEntry {
        name: format!("watchlistEntries/{id}"),
        ..entry
    };
    let wrong = pb::WatchlistEntry { reason: String::new(), ..entry() };
    let batch = vec![named("a", entry()), named("b", pattern()), named("c", wrong), entry()];
    let counts = |answer: &pb::ImportWatchlistEntriesResponse| {
        (answer.entered_count, answer.present_count, answer.refused_count)
    };
    let checked = client.import_watchlist_entries(batch.clone(), true).await.unwrap();
    assert_eq!(counts(&checked), (2, 0, 2));
    assert!(client.watchlist().await.unwrap().is_empty(), "only checked");
    let answer = client.import_watchlist_entries(batch.clone(), false).await.unwrap();
    assert_eq!(counts(&answer), (2, 0, 2));
    let told: Vec<_> = answer
        .refusals
        .iter()
        .map(|r| (r.index, r.name.as_str(), r.violations[0].field.as_str()))
        .collect();
    assert_eq!(told, [(2, "watchlistEntries/c", "reason"), (3, "", "name")]);
    let again = client.import_watchlist_entries(batch, false).await.unwrap();
    assert_eq!(counts(&again), (0, 2, 2));
    assert_eq!(client.watchlist().await.unwrap().len(), 2);
    let other = pb::WatchlistEntry { reason: "other".into(), ..entry() };
    let taken = client.import_watchlist_entries(vec![named("a", other)], false).await.unwrap();
    assert_eq!(
        (counts(&taken), taken.refusals[0].violations[0].field.as_str()),
        ((0, 0, 1), "name")
    );
    let many = (0..1001).map(|i| named(&format!("m{i}"), entry())).collect();
    let error = client.import_watchlist_entries(many, false).await.unwrap_err();
    assert_eq!(error.violations[0].field, "watchlist_entries");
}

#[tokio::test]
async fn a_dry_run_counts_what_would_have_rung_and_enters_nothing() {
    let server = Running::start().await;
    server.register([camera("k1", 28.0, 121.0), camera("k2", 28.0, 121.0)]);
    let past = |camera: &str, plate: &str, secs: u64| {
        let mut seen = sighting(camera, plate, secs);
        seen.captured.at = now().minus(Duration::from_secs(3600 - secs));
        seen
    };
    server.parts.sightings.lock().unwrap().extend([
        past("k1", "浙J12345", 1),
        past("k1", "浙J12345", 2),
        past("k2", "浙J12345", 3),
        past("k1", "浙J99999", 4),
    ]);
    let client = server.client().await;
    let since = timestamp_to_pb(now().minus(Duration::from_secs(86_400)));
    let whole = client.dry_run_watchlist_entry(entry(), since).await.unwrap();
    assert_eq!(whole.ring_count, 3);
    assert!((whole.expected_true_count - 3.0).abs() < 0.5, "{whole:?}");
    assert_eq!((whole.examples.len(), whole.truncated), (3, false));
    let here = pb::WatchlistEntry { cameras: vec!["cameras/k2".into()], ..pattern() };
    let here = client.dry_run_watchlist_entry(here, since).await.unwrap();
    assert_eq!((here.ring_count, here.examples[0].camera.as_str()), (1, "cameras/k2"));
    assert!(client.watchlist().await.unwrap().is_empty());
    let long_ago = timestamp_to_pb(now().minus(Duration::from_secs(91 * 86_400)));
    let error = client.dry_run_watchlist_entry(entry(), long_ago).await.unwrap_err();
    assert_eq!(error.violations[0].field, "start_time");
}
