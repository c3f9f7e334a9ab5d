//! A county's sightings from elsewhere: imported into the real program, killed, started anew, and asked about.

use std::process::Command;
use std::time::Duration;

use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb;
use guiji_county::{CAMERAS, County, CountySettings, Passage};
use guiji_domain::{Clock as _, GeoPoint, Timestamp};

use crate::rig::{
    GUIJI, SystemClock, connect_to, exclusive, free_address, runtime, serve_without_cameras,
};

const SIGHTINGS: u64 = 20_000;

/// Three days ago: the date, and its local midnight in China.
pub(crate) fn start() -> (String, Timestamp) {
    let then = SystemClock.now().minus(Duration::from_secs(3 * 86_400));
    let midnight = Timestamp::from_secs(i64::from(then.utc_day()) * 86_400);
    let date = midnight.to_string().chars().take(10).collect();
    (date, midnight.minus(Duration::from_secs(8 * 3600)))
}

/// Imports the county; what the command printed.
fn import(api: &str, date: &str) -> String {
    simulate(["--server", api], "5", date)
}

/// Makes a county and puts it there; what the command printed.
fn simulate(there: [&str; 2], seed: &str, date: &str) -> String {
    let sightings = SIGHTINGS.to_string();
    let run = Command::new(GUIJI)
        .args(["simulate", "county"])
        .args(there)
        .args(["--sightings", &sightings, "--days", "2", "--seed", seed, "--start", date])
        .output()
        .expect("guiji runs");
    let printed = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{printed}{}", String::from_utf8_lossy(&run.stderr));
    printed
}

#[test]
fn an_imported_county_is_stored_once_survives_and_can_be_asked_about() {
    let _one_at_a_time = exclusive();
    let dir = tempfile::tempdir().expect("a folder");
    let (api, (date, start)) = (free_address(), start());
    let mut server = serve_without_cameras(dir.path(), &api);
    let runtime = runtime();
    runtime.block_on(connect_to(&api, &server));

    let printed = import(&api, &date);
    assert!(
        printed.contains(&format!("cameras: {CAMERAS} registered, 0 there already")),
        "{printed}"
    );
    assert!(printed.contains("sightings: 20000 stored, 0 there already, 0 refused"), "{printed}");
    // What was acknowledged survives SIGKILL, and is not stored again.
    server.kill();
    let server = serve_without_cameras(dir.path(), &api);
    let client = runtime.block_on(connect_to(&api, &server));
    let printed = import(&api, &date);
    assert!(
        printed.contains(&format!("cameras: 0 registered, {CAMERAS} there already")),
        "{printed}"
    );
    assert!(printed.contains("sightings: 0 stored, 20000 there already, 0 refused"), "{printed}");

    // The same county here, as the oracle.
    let (seed, days, error_rate) = (5, 2, 0.01);
    let settings = CountySettings { seed, sightings: SIGHTINGS, days, error_rate, start };
    let county = County::new(settings).expect("a county");
    let passages: Vec<Passage> = county.passages().collect();
    let clone = &county.clones()[0];
    let expected: Vec<_> = passages
        .iter()
        .filter(|p| p.sighting.plate_text() == Some(&clone.plate))
        .map(|p| format!("sightings/{}", p.sighting.id))
        .collect();
    let way =
        runtime.block_on(client.exact_trajectory(clone.plate.as_str(), None, None)).expect("a way");
    let found: Vec<_> =
        way.points.iter().filter_map(|p| Some(p.sighting.as_ref()?.name.clone())).collect();
    assert!(expected.len() > 10 && found == expected, "{found:?} is not {expected:?}");

    // An hour around the town hall.
    let centre = GeoPoint::new(29.1, 121.4).expect("a place");
    let from = start.plus(Duration::from_secs(17 * 3600));
    let to = from.plus(Duration::from_secs(3600));
    let camera = |p: &Passage| county.cameras().iter().find(|c| c.id == p.sighting.camera);
    let near = |p: &&Passage| {
        let captured = p.sighting.captured.at;
        captured >= from
            && captured <= to
            && camera(p).is_some_and(|c| c.position.distance_m(&centre) <= 1000.0)
    };
    let expected = passages.iter().filter(near).count();
    let circle = pb::Circle {
        centre: Some(pb::GeoPoint { latitude_deg: 29.1, longitude_deg: 121.4 }),
        radius_m: 1000.0,
    };
    let request = pb::SearchSightingsRequest {
        filter: Some(pb::SightingFilter {
            area: Some(pb::Area { shape: Some(pb::area::Shape::Circle(circle)) }),
            start_time: Some(timestamp_to_pb(from)),
            end_time: Some(timestamp_to_pb(to)),
            ..Default::default()
        }),
        page_size: 1000,
        ..Default::default()
    };
    let page = runtime.block_on(client.search(request)).expect("a page");
    assert!(expected > 0 && expected < 1000, "{expected}");
    assert_eq!(page.sightings.len(), expected);

    // Straight into the store of the server that is gone: the same is there already, another county is not.
    drop(server);
    let store = dir.path().join("data");
    let there = ["--store", store.to_str().expect("a path")];
    let printed = simulate(there, "5", &date);
    assert!(printed.contains("sightings: 0 stored, 20000 there already, 0 refused"), "{printed}");
    let printed = simulate(there, "6", &date);
    assert!(printed.contains("sightings: 20000 stored, 0 there already, 0 refused"), "{printed}");
    let server = serve_without_cameras(dir.path(), &api);
    let client = runtime.block_on(connect_to(&api, &server));
    let county = County::new(CountySettings { seed: 6, ..settings }).expect("a county");
    let plate = &county.clones()[0].plate;
    let way = runtime.block_on(client.exact_trajectory(plate.as_str(), None, None)).expect("a way");
    assert!(way.points.len() > 10, "{way:?}");
}
