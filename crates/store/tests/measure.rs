//! Figures, beside a plain baseline: one SQLite table with texts in it, one file, pictures as blobs, the same
//! durability. `cargo test -p guiji-store --test measure -- --ignored --nocapture`

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use std::time::{Duration, Instant};

use common::*;
use guiji_domain::*;
use guiji_store::Store;
use rusqlite::{Connection, params};

const BATCH: usize = 64;
const PLATES: u64 = 30_000;
const DAYS: i64 = 3;

fn text(n: u64) -> String {
    let letter = |k: u64| b"ABCDEFGHJKLMNPQRSTUVWXYZ"[(k % 24) as usize] as char;
    format!("浙{}{}{:04}", letter(n / 7), letter(n), n % 10_000)
}

fn work(batches: usize, pictures: &[(EvidenceKind, usize)]) -> Vec<Vec<Recorded>> {
    (0..batches)
        .map(|b| {
            let day = (b as i64 * DAYS) / batches as i64;
            (0..BATCH)
                .map(|i| {
                    let n = (b * BATCH + i) as u64;
                    let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
                    let started = at(day * 86_400 + n as i64 % 80_000);
                    let camera = format!("k{}", random % 1131);
                    let seen = sighting(&camera, n, started, plate(&text(random % PLATES)));
                    let made: Vec<_> = pictures
                        .iter()
                        .zip(0..)
                        .map(|((kind, length), k)| (*kind, noise(n * 3 + k, *length)))
                        .collect();
                    with_pictures(seen, &made)
                })
                .collect()
        })
        .collect()
}

/// The baseline.
struct Plain(Connection);

impl Plain {
    fn open(path: &std::path::Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;
                 CREATE TABLE sighting (id BLOB PRIMARY KEY, captured INTEGER, plate TEXT, camera TEXT, record BLOB);
                 CREATE INDEX p ON sighting (plate); CREATE INDEX c ON sighting (camera); CREATE INDEX t ON sighting (captured);
                 CREATE TABLE picture (digest BLOB PRIMARY KEY, bytes BLOB);",
            )
            .unwrap();
        Self(connection)
    }

    fn record(&mut self, batch: &[Recorded]) {
        let transaction = self.0.transaction().unwrap();
        for item in batch {
            let s = &item.sighting;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO sighting VALUES (?1, ?2, ?3, ?4, ?5)")
                .unwrap()
                .execute(params![
                    s.id.as_u128().to_be_bytes(),
                    s.captured.at.as_nanos(),
                    s.plate_text().unwrap().as_str(),
                    s.camera.as_str(),
                    // As much as the real record.
                    [7u8; 350].as_slice(),
                ])
                .unwrap();
            for (evidence, bytes) in s.evidence.iter().zip(&item.pictures) {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO picture VALUES (?1, ?2)")
                    .unwrap()
                    .execute(params![evidence.digest.0, &**bytes])
                    .unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn search(&self, glob: &str, limit: usize) -> usize {
        let exact = !glob.contains(['?', '*']);
        let sql = format!(
            "SELECT id, record FROM sighting WHERE plate {} ?1 ORDER BY captured, id LIMIT ?2",
            if exact { "=" } else { "GLOB" }
        );
        let mut statement = self.0.prepare_cached(&sql).unwrap();
        let mut rows = statement.query(params![glob, limit as i64]).unwrap();
        let mut count = 0;
        while let Some(row) = rows.next().unwrap() {
            assert!(!row.get::<_, Vec<u8>>(1).unwrap().is_empty());
            count += 1;
        }
        count
    }
}

fn append(name: &str, batches: &[Vec<Recorded>], mut record: impl FnMut(&[Recorded])) {
    let mut times = Vec::new();
    let start = Instant::now();
    for batch in batches {
        let one = Instant::now();
        record(batch);
        times.push(one.elapsed());
    }
    let rate = (batches.len() * BATCH) as f64 / start.elapsed().as_secs_f64();
    println!("{name:<44} {rate:>9.0} sightings/s, {}", percentiles(times));
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:.3?} p99 {:.3?}", at(0.5), at(0.99))
}

fn ask(name: &str, patterns: &[String], mut search: impl FnMut(&str) -> usize) {
    let mut times = Vec::new();
    let mut found = 0;
    for pattern in patterns {
        let one = Instant::now();
        found += search(pattern);
        times.push(one.elapsed());
    }
    println!("{name:<44} {} ({} found a query)", percentiles(times), found / patterns.len());
}

#[test]
#[ignore = "measures; takes minutes"]
fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(&folder.path().join("store"))).unwrap();
    let mut baseline = Plain::open(&folder.path().join("plain.db"));

    let batches = work(1500, &[]);
    append("append, no pictures: store", &batches, |b| drop(store.record(b).unwrap()));
    append("append, no pictures: plain table", &batches, |b| baseline.record(b));
    let usage = store.disk_usage().unwrap();
    let plain = std::fs::metadata(folder.path().join("plain.db")).unwrap().len();
    let count = (batches.len() * BATCH) as u64;
    println!("bytes a sighting: store {}, plain table {}", usage.sightings / count, plain / count);

    let exact: Vec<_> = (0..2000).map(|i| text(i * 13 % PLATES)).collect();
    let prefix: Vec<_> =
        (0..200).map(|i| format!("{}*", text(i * 131).get(..5).unwrap())).collect();
    let inner: Vec<_> = (0..200).map(|i| format!("浙??{:02}?{}", i % 100, i % 10)).collect();
    for (name, patterns, limit) in [
        ("whole-plate trajectory", &exact, 1000),
        ("pattern with a prefix, page of 100", &prefix, 100),
        ("pattern with gaps, page of 100", &inner, 100),
    ] {
        ask(&format!("{name}: store"), patterns, |pattern| {
            let mut query = SightingQuery::all_in(TimeSpan::ALL, limit);
            query.plate = Some(PlatePattern::parse(pattern).unwrap());
            store.search(&query).unwrap().sightings.len()
        });
        ask(&format!("{name}: plain table"), patterns, |pattern| baseline.search(pattern, limit));
    }

    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(settings(&folder.path().join("store"))).unwrap();
    let mut baseline = Plain::open(&folder.path().join("plain.db"));
    let sizes = [
        (EvidenceKind::Plate, 4_000),
        (EvidenceKind::Vehicle, 12_000),
        (EvidenceKind::Frame, 34_000),
    ];
    let batches = work(60, &sizes);
    append("append, 50 kB of pictures each: store", &batches, |b| drop(store.record(b).unwrap()));
    append("append, 50 kB of pictures each: plain table", &batches, |b| baseline.record(b));
}
