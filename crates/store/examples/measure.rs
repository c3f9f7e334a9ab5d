//! Fills a store with a simulated county's sightings and asks it what people ask, before its days are sealed and
//! after: size, speed, and the ratio between the two. `cargo run --release -p guiji-store --example measure -- [ROWS]
//! [DAYS]`. The store is made in a temporary folder (`TMPDIR`).
#![allow(clippy::unwrap_used)] // a measurement that fails has no figures

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use guiji_county::{County, CountySettings};
use guiji_domain::{
    CameraId, LikelyQuery, LikelySearch, PlatePattern, PlateText, Recorded, SightingQuery,
    SightingStore, SortOrder, TimeSpan, Timestamp,
};
use guiji_store::{Store, StoreSettings};

/// Sightings of a transaction, as an import brings them.
const BATCH: usize = 1000;
const QUESTIONS: usize = 300;
/// 2026-01-05 in China, local midnight.
const START: Timestamp = Timestamp::from_secs(1_767_542_400);

/// What a question is about: a plate as it was read, and where and when.
struct Asked {
    plate: PlateText,
    camera: CameraId,
    at: Timestamp,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|n| n.parse::<u64>().unwrap());
    let rows = arguments.next().unwrap_or(1_000_000);
    let days = arguments.next().unwrap_or(7) as u32;
    let county = County::new(CountySettings {
        seed: 1,
        sightings: rows,
        days,
        error_rate: 0.01,
        start: START,
    })
    .unwrap();
    take_in(&county, rows);
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { seal_days: 0, ..StoreSettings::new(folder.path()) };

    let store = Store::open(settings.clone()).unwrap();
    let (mut took, mut asked, mut count) = (Duration::ZERO, Vec::new(), 0);
    let mut passages = county.passages().map(|passage| passage.sighting);
    loop {
        let batch: Vec<_> = passages
            .by_ref()
            .take(BATCH)
            .map(|sighting| {
                count += 1;
                if let Some(plate) = sighting.plate_text()
                    && count >= (asked.len() + 1) * (rows as usize / QUESTIONS)
                {
                    let (plate, camera) = (plate.clone(), sighting.camera.clone());
                    asked.push(Asked { plate, camera, at: sighting.captured.at });
                }
                Recorded { sighting: Arc::new(sighting), pictures: Vec::new(), alerts: Vec::new() }
            })
            .collect();
        if batch.is_empty() {
            break;
        }
        let begun = Instant::now();
        store.record(&batch).unwrap();
        took += begun.elapsed();
    }
    println!("{rows} sightings, {days} days, {} questions of each kind", asked.len());
    println!("record        {:8.0} sightings/s", rows as f64 / took.as_secs_f64());
    drop(store); // the logs are folded in
    let store = Store::open(settings.clone()).unwrap();
    let before = ask(&store, county.cameras(), &asked, rows);

    // Somebody asks while it seals.
    let done = AtomicBool::new(false);
    let begun = Instant::now();
    let (report, slowest) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            for asked in asked.iter().cycle() {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let begun = Instant::now();
                trajectory(&store, asked);
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        });
        let report = store.seal_days(Timestamp::MAX).unwrap();
        done.store(true, Ordering::SeqCst);
        (report, asking.join().unwrap())
    });
    let took = begun.elapsed().as_secs_f64();
    println!(
        "seal          {:8.0} sightings/s, {:.1} bytes each, slowest question meanwhile {:.1} ms",
        report.sightings as f64 / took,
        report.bytes as f64 / report.sightings as f64,
        slowest.as_secs_f64() * 1e3
    );
    drop(store);
    let store = Store::open(settings).unwrap();
    let after = ask(&store, county.cameras(), &asked, rows);
    println!("sealed to unsealed, p99:");
    for (name, before, after) in before.iter().zip(&after).map(|(b, a)| (b.0, b.1, a.1)) {
        println!("  {name:12} {:.2}", after / before);
    }
    let begun = Instant::now();
    let check = store.check().unwrap();
    assert!(check.is_sound(), "{check:?}");
    println!("check         {:8.0} sightings/s", rows as f64 / begun.elapsed().as_secs_f64());
}

/// The same sightings straight into segments, in a store of their own.
fn take_in(county: &County, rows: u64) {
    const CHUNK: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(StoreSettings::new(folder.path())).unwrap();
    let (mut pushing, mut bulk) = (Duration::ZERO, store.begin_bulk(Timestamp::MAX));
    let mut passages = county.passages().map(|passage| passage.sighting);
    loop {
        let chunk: Vec<_> = passages.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        let begun = Instant::now();
        bulk.push(&chunk).unwrap();
        pushing += begun.elapsed();
    }
    let begun = Instant::now();
    let report = bulk.commit().unwrap();
    let took = pushing + begun.elapsed();
    assert_eq!(report.new, rows);
    println!(
        "take in       {:8.0} sightings/s, {:.0} % of it encoding",
        rows as f64 / took.as_secs_f64(),
        100.0 * pushing.as_secs_f64() / took.as_secs_f64()
    );
}

/// Asks every question once to warm up and once more; prints, and gives the p99 in milliseconds.
fn ask(
    store: &Store,
    cameras: &[guiji_domain::Camera],
    asked: &[Asked],
    rows: u64,
) -> Vec<(&'static str, f64)> {
    let used = store.disk_usage().unwrap().sightings;
    println!("store         {:8.1} bytes a sighting", used as f64 / rows as f64);
    type Question<'a> = (&'static str, Box<dyn Fn(&Asked) -> usize + 'a>);
    let questions: [Question<'_>; 6] = [
        ("trajectory", Box::new(|asked| trajectory(store, asked))),
        ("two unknown", Box::new(|asked| two_unknown(store, asked))),
        ("浙J?12*", Box::new(|_| pattern(store, "浙J?12*"))),
        ("area, hour", Box::new(|asked| area(store, cameras, asked))),
        ("likely", Box::new(|asked| likely(store, asked))),
        ("get", Box::new(|asked| get(store, asked))),
    ];
    let mut figures = Vec::new();
    for (name, question) in questions {
        let mut found = 0;
        let mut times = Vec::new();
        for round in 0..2 {
            for asked in asked {
                let begun = Instant::now();
                let answer = question(asked);
                assert!(answer > 0, "{name}");
                if round == 1 {
                    times.push(begun.elapsed().as_secs_f64() * 1e3);
                    found += answer;
                }
            }
        }
        times.sort_by(f64::total_cmp);
        let place = |share: usize| times[(times.len() * share).div_ceil(100) - 1];
        println!(
            "{name:13} p50 {:8.3} ms, p99 {:8.3} ms, {:6.1} sightings an answer",
            place(50),
            place(99),
            found as f64 / asked.len() as f64
        );
        figures.push((name, place(99)));
    }
    figures
}

fn search(store: &Store, query: &SightingQuery) -> usize {
    store.search(query).unwrap().sightings.len()
}

/// Everything of a plate.
fn trajectory(store: &Store, asked: &Asked) -> usize {
    let plate = Some(PlatePattern::parse(asked.plate.as_str()).unwrap());
    search(store, &SightingQuery { plate, ..SightingQuery::all_in(TimeSpan::ALL, 1000) })
}

/// The newest hundred of a pattern.
fn pattern(store: &Store, pattern: &str) -> usize {
    let query = SightingQuery {
        plate: Some(PlatePattern::parse(pattern).unwrap()),
        order: SortOrder::NewestFirst,
        ..SightingQuery::all_in(TimeSpan::ALL, 100)
    };
    search(store, &query)
}

/// The third and the last character are not known: few plates, so that every day is looked at.
fn two_unknown(store: &Store, asked: &Asked) -> usize {
    let last = asked.plate.chars().count() - 1;
    let known = |(i, c): (usize, guiji_domain::PlateChar)| {
        if i == 2 || i == last { '?' } else { c.as_char() }
    };
    pattern(store, &asked.plate.chars().enumerate().map(known).collect::<String>())
}

/// The first hundred within a kilometre and an hour.
fn area(store: &Store, cameras: &[guiji_domain::Camera], asked: &Asked) -> usize {
    let half = Duration::from_secs(1800);
    let centre = cameras.iter().find(|camera| camera.id == asked.camera).unwrap().position;
    let near = cameras.iter().filter(|camera| camera.position.distance_m(&centre) <= 1000.0);
    let span = TimeSpan::new(asked.at.minus(half), asked.at.plus(half)).unwrap();
    let cameras = Some(near.map(|camera| camera.id.clone()).collect());
    search(store, &SightingQuery { cameras, ..SightingQuery::all_in(span, 100) })
}

/// The likeliest fifty of a plate, misread ones included.
fn likely(store: &Store, asked: &Asked) -> usize {
    let (plate, limit) = (asked.plate.clone(), LikelyQuery::LIMIT_DEFAULT);
    store.likely(&LikelyQuery::all_in(plate, TimeSpan::ALL, limit)).unwrap().len()
}

/// One sighting by its id, found by its camera and time first.
fn get(store: &Store, asked: &Asked) -> usize {
    let query = SightingQuery {
        cameras: Some(vec![asked.camera.clone()]),
        ..SightingQuery::all_in(TimeSpan::at(asked.at), 1)
    };
    let found = store.search(&query).unwrap().sightings;
    found.iter().filter(|s| store.get(s.id).unwrap().is_some()).count()
}
