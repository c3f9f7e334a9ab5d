use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::scripted::{Running, camera, now, sighting};
use guiji_api::client::{Client, ErrorCode};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb::watchlist_entry::Target;
use guiji_api::{ApiSettings, pb};
use guiji_domain::{Authority, Candidate, Lattice, PlateChar, PlateState, Position, VehicleColour};

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
async fn a_change_that_is_kept_but_not_in_force_is_said_to_be_so() {
    let server = Running::start().await;
    let client = server.client().await;
    client.create_watchlist_entry("w1", entry()).await.unwrap();
    client.create_watchlist_entry("wide", pattern()).await.unwrap();
    let chief = Authority::new("test", "A-1", "Li").unwrap();
    let second = Client::connect(&server.address.to_string(), &chief).await.unwrap();
    server.parts.reload_fails.store(true, Ordering::SeqCst);
    let import = vec![pb::WatchlistEntry { name: "watchlistEntries/w3".into(), ..entry() }];
    let unit = pb::PatrolUnit {
        name: "patrolUnits/east".into(),
        display_name: "East".into(),
        ..Default::default()
    };
    for (refused, what) in [
        (client.create_watchlist_entry("w2", entry()).await.err(), "watchlistEntries/w2"),
        (client.delete_watchlist_entry("watchlistEntries/w1").await.err(), "removal of"),
        (second.approve_watchlist_entry("watchlistEntries/wide").await.err(), "approval of"),
        (client.import_watchlist_entries(import.clone(), false).await.err(), "1 watch-list"),
        (client.create_patrol_unit(unit.clone()).await.err(), "patrolUnits/east"),
        (client.update_patrol_unit(unit).await.err(), "patrolUnits/east"),
        (client.delete_patrol_unit("patrolUnits/east").await.err(), "removal of"),
    ] {
        let refused = refused.expect(what);
        assert_eq!(
            (refused.code, refused.reason.as_deref()),
            (ErrorCode::Unavailable, Some("NOT_IN_FORCE"))
        );
        assert!(refused.message.contains(what) && !refused.message.contains("secret"), "{refused}");
    }
    // All of it is kept; calls that may be repeated say so once it is in force.
    server.parts.reload_fails.store(false, Ordering::SeqCst);
    let names: Vec<_> = client.watchlist().await.unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["w2", "w3", "wide"].map(|id| format!("watchlistEntries/{id}")));
    let approved = second.approve_watchlist_entry("watchlistEntries/wide").await.unwrap();
    assert_eq!(approved.state(), pb::WatchlistEntryState::Active);
    assert_eq!(client.import_watchlist_entries(import, false).await.unwrap().present_count, 1);
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
    assert_eq!(server.parts.watchlist_changes.load(Ordering::SeqCst), 3, "each time in force");

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

#[tokio::test]
async fn a_dry_run_finds_what_rings_by_the_doubts_of_its_lattice() {
    let server = Running::start().await;
    server.register([camera("k1", 28.0, 121.0)]);
    let mut doubtful = sighting("k1", "浙J12845", 0);
    doubtful.captured.at = now().minus(Duration::from_secs(60));
    let candidates = |c: char| {
        let sure = vec![('8', 0.55), ('B', 0.44)];
        let listed = if c == '8' { sure } else { vec![(c, 0.99)] };
        let listed = listed
            .into_iter()
            .map(|(c, probability)| Candidate { character: PlateChar::new(c), probability });
        Position::new(listed).unwrap()
    };
    let PlateState::Read(plate) = &mut doubtful.plate else { panic!("it is read") };
    plate.lattice = Lattice::new("浙J12845".chars().map(candidates).collect()).unwrap();
    server.see([doubtful]);
    let client = server.client().await;
    let since = timestamp_to_pb(now().minus(Duration::from_secs(86_400)));
    let entry = pb::WatchlistEntry {
        target: Some(Target::PlatePattern("浙J12B4?".into())),
        threshold: Some(0.3),
        ..entry()
    };
    let answer = client.dry_run_watchlist_entry(entry, since).await.unwrap();
    assert_eq!((answer.ring_count, answer.examples[0].plate.as_str()), (1, "浙J12845"));
    assert!((0.35..0.45).contains(&answer.expected_true_count), "{answer:?}");
}

#[tokio::test]
async fn a_dry_run_over_more_than_can_be_looked_at_samples_the_whole_time() {
    const COUNT: u64 = 4000;
    let settings = ApiSettings { dry_run_examined_max: 400, ..ApiSettings::default() };
    let server = Running::start_with(settings).await;
    server.register([camera("k1", 28.0, 121.0)]);
    // A quarter is white, and all of it in the first half of the time.
    server.see((0..COUNT).map(|i| {
        let mut seen = sighting("k1", "浙J12345", i);
        seen.captured.at = now().minus(Duration::from_secs(80_000 - i * 20));
        let white = i < COUNT / 2 && i % 2 == 0;
        let colour = if white { VehicleColour::White } else { VehicleColour::Red };
        seen.vehicle.colour = Some((colour, 0.8));
        seen
    }));
    let client = server.client().await;
    let since = now().minus(Duration::from_secs(80_001));
    let entry = pb::WatchlistEntry {
        target: Some(Target::AnyPlate(pb::AnyPlate {})),
        vehicle: Some(pb::VehicleDescription {
            colour: pb::VehicleColour::White.into(),
            ..Default::default()
        }),
        // So low that another colour is no reason to leave one out.
        threshold: Some(0.1),
        ..entry()
    };
    let answer =
        client.dry_run_watchlist_entry(entry.clone(), timestamp_to_pb(since)).await.unwrap();
    assert!(answer.truncated && (0.05..0.2).contains(&answer.sampled_share), "{answer:?}");
    assert!((400..600).contains(&answer.examined_count), "{answer:?}");
    assert!((850..1150).contains(&answer.ring_count), "{answer:?}");
    assert_eq!(answer.examined_start_time, Some(timestamp_to_pb(since)));
    // Surer, so that the colour is asked of the index: still too many.
    let entry = pb::WatchlistEntry { threshold: None, ..entry };
    let answer = client.dry_run_watchlist_entry(entry, timestamp_to_pb(since)).await.unwrap();
    assert!((850..1150).contains(&answer.ring_count), "{answer:?}");
}
