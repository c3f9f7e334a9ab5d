//! What the tactics cost as sightings grow from 1e5 to 1e7: a week of passages at 1,000 cameras, ten a vehicle.
//!
//! `cargo bench -p guiji-analysis --bench tactics -- '/1000000$'` runs one size. Baselines of the same run:
//! `convoy/scan` and `collision/scan` find the same vehicles by passes over plain rows with hash maps.

#![allow(missing_docs)]

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use guiji_analysis::tactics::clone::{CloneSettings, PlateSighting, SIGHTINGS_MAX, judge};
use guiji_analysis::tactics::collision::{Area, collisions};
use guiji_analysis::tactics::convoy::{ConvoySettings, companions};
use guiji_analysis::tactics::first_entry::first_entries;
use guiji_analysis::tactics::forecast::{Forecaster, LastSeen, Smoothing};
use guiji_analysis::tactics::frequent::frequent;
use guiji_analysis::tactics::night::{NightSettings, night_active};
use guiji_analysis::tactics::travel::{Roads, TravelTimes};
use guiji_analysis::tactics::{CameraKey, PassageIndex, PassageIndexBuilder};
use guiji_domain::{
    CameraId, CaptureTime, ClockSource, GeoPoint, PlateText, TimeSpan, Timestamp, Vehicle,
};

const SIZES: [usize; 3] = [100_000, 1_000_000, 10_000_000];
const CAMERAS: u64 = 1000;
const DAY_S: i64 = 86_400;
const DAYS: i64 = 7;

/// Vehicle, camera, second.
type Row = (u32, u32, i64);

struct Data {
    rows: Vec<Row>,
    builder_input: Vec<(PlateText, CameraId, Timestamp)>,
    index: PassageIndex,
}

/// SplitMix64.
fn bits(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn plate(vehicle: u32) -> PlateText {
    let letters = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
    let letter = char::from(letters[(vehicle / 100_000) as usize]);
    PlateText::parse(&format!("浙{letter}{:05}", vehicle % 100_000)).expect("a plate")
}

fn camera(number: u32) -> CameraId {
    CameraId::new(&format!("c{number:04}")).expect("an id")
}

/// Trips of five cameras in a row, two minutes apart; vehicle 1 follows vehicle 0 on twelve trips.
fn data(passages: usize) -> Data {
    let (seed, vehicles) = (&mut 1, (passages / 10) as u64);
    let mut rows = Vec::with_capacity(passages + 120);
    let trip = |vehicle, seed: &mut u64| {
        let (start, first) = (bits(seed) % (DAYS * DAY_S) as u64, bits(seed) % CAMERAS);
        let late = (bits(seed) % 30) as i64;
        (0..5).map(move |i| {
            (vehicle, ((first + i) % CAMERAS) as u32, start as i64 + 120 * i as i64 + late)
        })
    };
    while rows.len() < passages {
        rows.extend(trip((bits(seed) % vehicles) as u32, seed));
    }
    for _ in 0..12 {
        let way: Vec<Row> = trip(0, seed).collect();
        rows.extend(way.iter().map(|(_, c, at)| (1, *c, at + 10)));
        rows.extend(way);
    }
    let plates: Vec<_> = (0..vehicles as u32).map(plate).collect();
    let cameras: Vec<_> = (0..CAMERAS as u32).map(camera).collect();
    let builder_input: Vec<_> = rows
        .iter()
        .map(|(v, c, at)| {
            let (plate, camera) = (&plates[*v as usize], &cameras[*c as usize]);
            (plate.clone(), camera.clone(), Timestamp::from_secs(*at))
        })
        .collect();
    let index = build(&builder_input);
    // The largest would take a gigabyte for nothing.
    let builder_input = if passages > 1_000_000 { Vec::new() } else { builder_input };
    Data { rows, builder_input, index }
}

fn build(input: &[(PlateText, CameraId, Timestamp)]) -> PassageIndex {
    let mut builder = PassageIndexBuilder::default();
    for (plate, camera, at) in input {
        builder.add(plate, camera, *at).expect("within the limits");
    }
    builder.build()
}

fn span(from: i64, to: i64) -> TimeSpan {
    TimeSpan::new(Timestamp::from_secs(from), Timestamp::from_secs(to)).expect("in order")
}

/// Who met vehicle 0 at three or more of its points within a minute.
fn convoy_by_scan(rows: &[Row]) -> HashMap<u32, usize> {
    let mut points: HashMap<u32, Vec<i64>> = HashMap::new();
    for (_, camera, at) in rows.iter().filter(|r| r.0 == 0) {
        points.entry(*camera).or_default().push(*at);
    }
    let mut met: HashSet<(u32, u32, i64)> = HashSet::new();
    for (vehicle, camera, at) in rows.iter().filter(|r| r.0 != 0) {
        for point in points.get(camera).into_iter().flatten() {
            if at.abs_diff(*point) <= 60 {
                met.insert((*vehicle, *camera, *point));
            }
        }
    }
    let mut counts: HashMap<u32, usize> = HashMap::new();
    met.into_iter().for_each(|(vehicle, _, _)| *counts.entry(vehicle).or_default() += 1);
    counts.retain(|_, n| *n >= 3);
    counts
}

/// Eight areas of fifty cameras, each for a day.
fn areas() -> impl Iterator<Item = (std::ops::Range<u32>, i64)> {
    (0..8).map(|i| (100 * i..100 * i + 50, i64::from(i) % DAYS * DAY_S))
}

fn collision_by_scan(rows: &[Row], areas_min: usize) -> usize {
    let mut seen: HashMap<u32, u8> = HashMap::new();
    for (bit, (cameras, from)) in areas().enumerate() {
        for (vehicle, camera, at) in rows {
            if cameras.contains(camera) && (from..=from + DAY_S).contains(at) {
                *seen.entry(*vehicle).or_default() |= 1 << bit;
            }
        }
    }
    seen.values().filter(|mask| mask.count_ones() as usize >= areas_min).count()
}

fn tactics(c: &mut Criterion) {
    for size in SIZES {
        let cell = OnceCell::new();
        let data = || cell.get_or_init(|| data(size));
        let mut bench = |name: &str, run: &mut dyn FnMut(&Data) -> usize| {
            let mut group = c.benchmark_group(name);
            group.sample_size(10).measurement_time(Duration::from_secs(2));
            group.warm_up_time(Duration::from_millis(500));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                let data = data();
                b.iter(|| black_box(run(data)));
            });
        };
        if size <= 1_000_000 {
            bench("build", &mut |d| build(&d.builder_input).len());
        }
        bench("convoy/index", &mut |d| {
            let target = d.index.vehicle(&plate(0)).expect("vehicle 0");
            let found = companions(&d.index, target, TimeSpan::ALL, &ConvoySettings::default());
            let found = found.expect("within the limits").found;
            assert_eq!(d.index.plate(found[0].vehicle), Some(&plate(1)), "the shadow is found");
            found.len()
        });
        bench("convoy/scan", &mut |d| convoy_by_scan(&d.rows).len());
        bench("collision/index", &mut |d| {
            let areas: Vec<_> = areas()
                .map(|(cameras, from)| Area {
                    cameras: cameras.filter_map(|c| d.index.camera(&camera(c))).collect(),
                    span: span(from, from + DAY_S),
                })
                .collect();
            let found = collisions(&d.index, &areas, 2, 1000).expect("within the limits");
            found.found.len() + found.cut
        });
        bench("collision/scan", &mut |d| collision_by_scan(&d.rows, 2));
        let gates = |d: &Data| -> Vec<CameraKey> { d.index.camera_keys().take(20).collect() };
        bench("first_entry", &mut |d| {
            let window = span((DAYS - 1) * DAY_S, DAYS * DAY_S);
            let absence = Duration::from_secs(5 * 86_400);
            let found = first_entries(&d.index, &gates(d), window, absence, Timestamp::MIN, 1000);
            found.expect("records reach back").found.len()
        });
        bench("night", &mut |d| {
            let found = night_active(&d.index, TimeSpan::ALL, &NightSettings::default());
            found.expect("right hours").found.len()
        });
        bench("frequent", &mut |d| {
            let found =
                frequent(&d.index, &gates(d), TimeSpan::ALL, 5, Duration::from_secs(60), 1000);
            found.expect("at least one").found.len()
        });
        let horizon = Duration::from_secs(1800);
        bench("travel/learn", &mut |d| {
            TravelTimes::learn(&d.index, horizon).expect("a horizon").bytes()
        });
        let model = OnceCell::new();
        bench("forecast", &mut |d| {
            let model = model.get_or_init(|| {
                Forecaster::learn(&d.index, &HashMap::new(), horizon, Smoothing::default())
                    .expect("a horizon")
            });
            let (before, here) = ([camera(10)], camera(11));
            let at = Timestamp::from_secs(40_000);
            model.forecast(LastSeen { before: &before, camera: &here, at }).next.len()
        });
    }
}

/// The most sightings of one plate, in turn at two ends of a road.
fn clone(c: &mut Criterion) {
    let seen = |i: u32| PlateSighting {
        camera: camera(i % 2 * 10),
        captured: CaptureTime {
            at: Timestamp::from_secs(i64::from(i) * 60),
            uncertainty: Duration::from_secs(1),
            source: ClockSource::Rtcp,
        },
        misread: 0.01,
        others: Vec::new(),
        clock_known: false,
        vehicle: Vehicle { class: None, colour: None },
    };
    let sightings: Vec<_> = (0..SIGHTINGS_MAX as u32).map(seen).collect();
    let at = |lon| GeoPoint::new(29.0, lon).expect("on Earth");
    let positions = HashMap::from([(camera(0), at(121.0)), (camera(10), at(121.2))]);
    let travel = TravelTimes::default();
    let roads = Roads { travel: &travel, positions: &positions };
    c.bench_function("clone/32", |b| {
        b.iter(|| judge(&sightings, roads, &CloneSettings::default()).expect("within the limits"));
    });
}

criterion_group!(benches, tactics, clone);
criterion_main!(benches);
