//! What the county promises, counted.
#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use std::collections::{BTreeMap, HashMap, HashSet};

use guiji_county::*;
use guiji_domain::*;

/// A Monday, at local midnight: 2026-01-05T00:00:00+08:00.
const START: Timestamp = Timestamp::from_secs(1_767_542_400);

fn settings(seed: u64, sightings: u64, days: u32) -> CountySettings {
    CountySettings { seed, sightings, days, error_rate: 0.01, start: START }
}

fn county(seed: u64, sightings: u64, days: u32) -> County {
    County::new(settings(seed, sightings, days)).unwrap()
}

fn camera_indexes(county: &County) -> HashMap<CameraId, usize> {
    county.cameras().iter().enumerate().map(|(i, camera)| (camera.id.clone(), i)).collect()
}

fn read(passage: &Passage) -> Option<&FusedPlate> {
    match &passage.sighting.plate {
        PlateState::Read(plate) => Some(plate),
        PlateState::Unreadable | PlateState::NotRead => None,
    }
}

#[test]
fn the_same_seed_gives_the_same_county() {
    let (a, b, c) = (county(7, 30_000, 2), county(7, 30_000, 2), county(8, 30_000, 2));
    assert_eq!(a.cameras(), b.cameras());
    assert_eq!((a.convoys(), a.clones()), (b.convoys(), b.clones()));
    assert!(a.passages().eq(b.passages()));
    // And a stream that is begun anew is the same stream.
    assert!(a.passages().take(1000).eq(a.passages().take(1000)));
    assert!(a.passages().take(1000).ne(c.passages().take(1000)));
}

#[test]
fn passages_come_in_order_and_fill_the_days() {
    for (sightings, days) in [(20_000, 1), (150_000, 3)] {
        let county = county(1, sightings, days);
        let passages: Vec<_> = county.passages().collect();
        assert_eq!(passages.len() as u64, sightings);
        let captured = |p: &Passage| p.sighting.captured.at;
        assert!(passages.is_sorted_by_key(captured));
        let ids: HashSet<_> = passages.iter().map(|p| p.sighting.id).collect();
        assert_eq!(ids.len() as u64, sightings, "every sighting has an id of its own");
        let lasted = captured(passages.last().unwrap()).since(START).as_secs_f64() / 86_400.0;
        let days = f64::from(days);
        assert!((days - 0.25..days + 0.25).contains(&lasted), "{lasted} of {days} days");
        for passage in &passages {
            assert_eq!(passage.sighting.id.started(), passage.sighting.span.first());
            assert!(passage.sighting.span.contains(captured(passage)));
        }
        let mut by_hour = [0; 24];
        for passage in &passages {
            by_hour[(captured(passage).since(START).as_secs() / 3600 % 24) as usize] += 1;
        }
        let (least, most) = (by_hour.iter().min().unwrap(), by_hour.iter().max().unwrap());
        assert!(most > &(least * 4), "days have a curve: {by_hour:?}");
    }
}

#[test]
fn there_are_304_sites_with_1131_cameras_in_the_county() {
    let county = county(1, 1_000, 1);
    let middle = GeoPoint::new(29.1, 121.4).unwrap();
    let sites: HashSet<_> = county.cameras().iter().map(|camera| camera.site.clone()).collect();
    assert_eq!((sites.len(), county.cameras().len()), (SITES, CAMERAS));
    assert_eq!(camera_indexes(&county).len(), CAMERAS, "ids are unique");
    let mut central = 0;
    for camera in county.cameras() {
        let distance_m = camera.position.distance_m(&middle);
        assert!(distance_m < 35_000.0, "{camera:?}");
        central += usize::from(distance_m < 5_000.0);
        assert!(!camera.enabled && (0.0..=360.0).contains(&camera.bearing_deg.unwrap()));
    }
    assert!((CAMERAS / 4..CAMERAS * 9 / 10).contains(&central), "{central} in town");
}

#[test]
fn what_vehicles_do_is_possible() {
    let county = county(3, 200_000, 2);
    let cameras = camera_indexes(&county);
    let mut last: HashMap<VehicleId, (NodeId, Timestamp)> = HashMap::new();
    let mut passages: Vec<_> = county.passages().map(|p| (p.truth, p.sighting.camera)).collect();
    passages.sort_by_key(|(truth, _)| truth.passed); // clocks that are off may exchange two
    let mut legs = 0;
    for (truth, camera) in passages {
        let node = county.junction(cameras[&camera]);
        if let Some((before, then)) = last.insert(truth.vehicle, (node, truth.passed)) {
            let elapsed_s = truth.passed.since(then).as_secs_f64();
            let least_s = county.roads().least_seconds(before, node);
            assert!(elapsed_s >= least_s, "{truth:?} from {before}: {elapsed_s} < {least_s}");
            legs += usize::from(before != node);
        }
    }
    assert!(legs > 100_000, "{legs}");
}

#[test]
fn an_outage_leaves_no_sightings() {
    let county = county(4, 300_000, 3);
    let outages: HashMap<(usize, u32), Outage> = (0..3)
        .flat_map(|day| (0..CAMERAS).map(move |camera| (camera, day)))
        .filter_map(|(camera, day)| Some(((camera, day), county.outage(camera, day)?)))
        .collect();
    let share = outages.len() as f64 / (3.0 * CAMERAS as f64);
    assert!((0.02..0.04).contains(&share), "{share}");
    let (cameras, mut on_such_days) = (camera_indexes(&county), 0);
    for passage in county.passages() {
        let passed = passage.truth.passed;
        let camera = cameras[&passage.sighting.camera];
        let day = (passed.since(START).as_secs() / 86_400) as u32;
        if let Some(outage) = outages.get(&(camera, day)) {
            assert!(!outage.span.contains(passed), "{outage:?} {passed}");
            on_such_days += 1;
        }
    }
    assert!(on_such_days > 1_000, "cameras see before and after: {on_such_days}");
}

#[test]
fn plates_are_misread_as_often_as_asked_for() {
    for error_rate in [0.0, 0.01, 0.1] {
        let county = County::new(CountySettings { error_rate, ..settings(5, 150_000, 2) }).unwrap();
        let (mut plates, mut misread, mut listed) = (0_u32, 0_u32, 0_u32);
        for passage in county.passages() {
            let Some(plate) = read(&passage) else {
                assert!(!passage.truth.misread);
                continue;
            };
            plates += 1;
            assert_eq!(passage.truth.misread, plate.text != passage.truth.plate);
            if passage.truth.misread {
                misread += 1;
                listed += u32::from(plate.lattice.probability(&passage.truth.plate) > 1e-3);
            }
        }
        assert!((0.97..0.995).contains(&(f64::from(plates) / 150_000.0)), "{plates}");
        let rate = f64::from(misread) / f64::from(plates);
        assert!((error_rate * 0.85..=error_rate * 1.15).contains(&rate), "{rate} for {error_rate}");
        assert!(
            f64::from(listed) >= 0.6 * f64::from(misread),
            "the truth is a candidate: {listed} of {misread}"
        );
    }
}

#[test]
fn plates_fit_their_grammar_and_are_mostly_local() {
    let county = county(6, 100_000, 1);
    let clones: HashSet<_> = county.clones().iter().map(|clone| clone.clone).collect();
    let (mut texts, mut kinds) = (HashSet::new(), BTreeMap::new());
    for (id, vehicle) in (0..).zip(county.vehicles()) {
        assert!(vehicle.plate.kinds().contains(&vehicle.kind), "{vehicle:?}");
        assert!(clones.contains(&id) || texts.insert(vehicle.plate.clone()), "{vehicle:?}");
        *kinds.entry(vehicle.kind).or_insert(0) += 1;
    }
    assert_eq!(kinds.len(), PlateKind::ALL.len(), "{kinds:?}");
    let count = county.vehicles().len();
    let local = texts.iter().filter(|text| text.as_str().starts_with("浙J")).count();
    assert!((count * 65 / 100..count * 85 / 100).contains(&local), "{local} of {count}");
    for passage in county.passages().take(50_000) {
        let Some(plate) = read(&passage) else { continue };
        let kind = plate.kind.unwrap();
        assert!(plate.text.kinds().contains(&kind), "{plate:?}");
        assert!(grammar::rows(kind).contains(&plate.rows));
        assert_eq!(plate.lattice.top_texts(1)[0].0, plate.text);
        assert!((plate.lattice.probability(&plate.text) - plate.confidence).abs() < 1e-3);
    }
}

#[test]
fn clocks_are_off_by_what_they_say_but_for_a_few() {
    let county = county(9, 50_000, 1);
    let mut within = 0;
    for passage in county.passages() {
        let captured = passage.sighting.captured;
        let off = captured.at.abs_diff(passage.truth.passed);
        assert!(off <= CLOCK_ERROR_MAX);
        within += usize::from(off <= captured.uncertainty);
    }
    assert!((45_000..50_000).contains(&within), "{within}");
}

#[test]
fn few_vehicles_make_many_of_the_trips() {
    let county = county(10, 400_000, 2);
    let mut activity: Vec<_> = county.vehicles().iter().map(|v| v.trips_a_day).collect();
    activity.sort_by(|a, b| b.total_cmp(a));
    // Zipf: ten times the rank, a tenth to the power of the exponent.
    let ratio = activity[10_000] / activity[1_000];
    assert!((ratio - 10_f64.powf(-0.8)).abs() < 0.02, "{ratio}");
    assert!(activity[0] <= 30.0);
    let mut seen: HashMap<VehicleId, u32> = HashMap::new();
    county.passages().for_each(|p| *seen.entry(p.truth.vehicle).or_default() += 1);
    let mut counts: Vec<_> = seen.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let top: u32 = counts.iter().take(county.vehicles().len() / 100).sum();
    assert!((40_000..240_000).contains(&top), "the busiest hundredth: {top} of 400000");
}

#[test]
fn convoys_and_clones_are_where_the_truth_says() {
    let county = county(11, 200_000, 3);
    assert!(county.convoys().len() >= 3 && county.clones().len() >= 3);
    let mut together: HashMap<(u16, CameraId), Vec<(VehicleId, Timestamp)>> = HashMap::new();
    let mut seen: HashMap<VehicleId, usize> = HashMap::new();
    for Passage { sighting, truth } in county.passages() {
        *seen.entry(truth.vehicle).or_default() += 1;
        if let Some(convoy) = truth.convoy {
            assert!(county.convoys()[usize::from(convoy)].vehicles.contains(&truth.vehicle));
            let entry = together.entry((convoy, sighting.camera)).or_default();
            entry.push((truth.vehicle, truth.passed));
        }
    }
    for (number, convoy) in (0..).zip(county.convoys()) {
        let mut meetings = 0;
        for (_, passes) in together.iter().filter(|((n, _), _)| *n == number) {
            for (vehicle, at) in passes {
                let place = convoy.vehicles.iter().position(|v| v == vehicle).unwrap() as f64;
                let leads = passes.iter().any(|(other, then)| {
                    let behind_s = (at.as_nanos() - then.as_nanos()) as f64 / 1e9;
                    *other == convoy.vehicles[0] && (behind_s - place * convoy.gap_s).abs() < 0.1
                });
                // A camera may see one lane only, or miss the first.
                meetings += usize::from(place > 0.0 && leads);
            }
        }
        assert!(meetings > 0, "convoy {number} is seen together: {convoy:?}");
    }
    for clone in county.clones() {
        let plate = |id| &county.vehicle(id).plate;
        assert_eq!((plate(clone.original), plate(clone.clone)), (&clone.plate, &clone.plate));
        assert!(seen[&clone.original] > 3 && seen[&clone.clone] > 3, "{clone:?}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let good = settings(1, 1000, 1);
    for (settings, hint) in [
        (CountySettings { sightings: 0, ..good }, "1 to 1000000000"),
        (CountySettings { days: 0, ..good }, "1 to 366"),
        (CountySettings { days: 367, ..good }, "1 to 366"),
        (CountySettings { error_rate: 0.6, ..good }, "0 to 0.5"),
        (CountySettings { error_rate: f64::NAN, ..good }, "0 to 0.5"),
        (CountySettings { sightings: 100_000_000, ..good }, "at least 6 days"),
    ] {
        let error = County::new(settings).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn a_county_of_few_sites_has_as_many_fewer_cameras_farther_apart() {
    let county = County::with_sites(settings(6, 3_000, 1), 60).unwrap();
    let sites: std::collections::BTreeSet<_> =
        county.cameras().iter().map(|camera| camera.site.clone()).collect();
    assert_eq!((sites.len(), county.cameras().len()), (60, CAMERAS * 60 / SITES));
    assert_eq!(county.passages().count(), 3_000);
    for wrong in [0, 19, SITES + 1] {
        let error = County::with_sites(settings(6, 3_000, 1), wrong).unwrap_err();
        assert!(error.to_string().contains("20 to 304"), "{error}");
    }
}
