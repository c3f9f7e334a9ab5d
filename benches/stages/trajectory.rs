//! Asking the store: the way of a vehicle, and patterns, against a plain table with the same sightings.

use std::cell::Cell;
use std::path::Path;

use anyhow::Context as _;
use criterion::Criterion;
use guiji_analysis::trajectory::Trajectory;
use guiji_domain::{PlatePattern, Sighting, SightingQuery, SightingStore as _, TimeSpan};
use guiji_store::Store;

use crate::plain::{By, Plain};
use crate::traffic::{PLATES, Traffic, cameras, text};
use crate::{Comparison, CpuTime, scratch, slow_group, values};

/// 96,000 sightings: three days of traffic, in three partitions.
const BATCHES: usize = 96;
const BATCH: usize = 1000;

const ROUTE: &str = "store and trajectory";
const STORE: &str = "store";
const INDEXED: &str = "plain table, indexed, nothing decoded";
const SCANNED: &str = "plain table, full scan, nothing decoded";
const ROUTE_MAX: usize = 1000;
const PAGE: usize = 100;

pub(crate) fn compare(criterion: &mut Criterion<CpuTime>) -> anyhow::Result<Vec<Comparison>> {
    let folder = tempfile::tempdir_in(scratch())?;
    let store = Store::open(values::settings(&folder.path().join("store")))?;
    let mut plain = Plain::open(&folder.path().join("plain.db"))?;
    let mut traffic = Traffic::default();
    for _ in 0..BATCHES {
        let batch = traffic.batch(BATCH, &[]);
        drop(store.record(&batch)?);
        plain.record(&batch)?;
    }
    let cameras = cameras()?;

    let mut comparisons = Vec::new();
    let exact: Vec<_> = (0..2000).map(|n| text(n * 13 % PLATES)).collect();
    let prefix: Vec<_> =
        (0..200).map(|n| text(n * 131).chars().take(3).chain(['*']).collect::<String>()).collect();
    let gaps: Vec<_> = (0..200).map(|n| format!("浙??{:02}?{}", n % 100, n % 10)).collect();

    let mut group = slow_group(criterion, "trajectory", 20);
    let next = Turns::of(&exact);
    let route = |plate: &str| {
        let sightings = search(&store, plate, ROUTE_MAX).expect("the store answers");
        Trajectory::build(&sightings, &cameras).points.len()
    };
    group.bench_function(ROUTE, |b| b.iter(|| route(next.take())));
    group.bench_function(STORE, |b| {
        b.iter(|| search(&store, next.take(), ROUTE_MAX).expect("the store answers").len());
    });
    for (name, by) in [(INDEXED, By::Index), (SCANNED, By::Scan)] {
        group.bench_function(name, |b| {
            b.iter(|| plain.search(by, next.take(), ROUTE_MAX).expect("the table answers"));
        });
    }
    group.finish();
    let (found, count) = (exact.iter().map(|plate| route(plate)).sum::<usize>(), BATCHES * BATCH);
    let bytes = |total: u64| total / count as u64;
    let note = format!(
        "{count} sightings, {:.1} found a plate; bytes a sighting: store {}, plain table {}",
        found as f64 / exact.len() as f64,
        bytes(store.disk_usage()?.sightings),
        bytes(size(folder.path(), "plain.db")?),
    );
    for (ours, baselines, note) in
        [(ROUTE, vec![INDEXED, SCANNED], note), (STORE, vec![INDEXED], String::new())]
    {
        comparisons.push(Comparison {
            stage: "trajectory",
            ours: ours.to_owned(),
            baselines: baselines.into_iter().map(str::to_owned).collect(),
            unit: "whole plate",
            units: 1,
            note,
        });
    }

    for (stage, unit, patterns) in [
        ("trajectory-prefix", "pattern with a prefix, page of 100", &prefix),
        ("trajectory-gaps", "pattern with gaps, page of 100", &gaps),
    ] {
        let mut group = slow_group(criterion, stage, 20);
        let next = Turns::of(patterns);
        group.bench_function(STORE, |b| {
            b.iter(|| search(&store, next.take(), PAGE).expect("the store answers").len());
        });
        group.bench_function(INDEXED, |b| {
            b.iter(|| plain.search(By::Index, next.take(), PAGE).expect("the table answers"));
        });
        group.finish();
        comparisons.push(Comparison {
            stage,
            ours: STORE.to_owned(),
            baselines: vec![INDEXED.to_owned()],
            unit,
            units: 1,
            note: String::new(),
        });
    }
    folder.close().context("cannot remove the stores")?;
    Ok(comparisons)
}

/// Bytes of the files of this name and of those that SQLite keeps beside it, as the store counts its own.
fn size(folder: &Path, name: &str) -> anyhow::Result<u64> {
    let mut total = 0;
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(name) {
            total += file.metadata()?.len();
        }
    }
    Ok(total)
}

fn search(store: &Store, plate: &str, limit: usize) -> anyhow::Result<Vec<Sighting>> {
    let mut query = SightingQuery::all_in(TimeSpan::ALL, limit);
    query.plate = Some(PlatePattern::parse(plate)?);
    Ok(store.search(&query)?.sightings)
}

/// One after the other, for ever.
struct Turns<'t> {
    of: &'t [String],
    turn: Cell<usize>,
}

impl<'t> Turns<'t> {
    fn of(of: &'t [String]) -> Self {
        Self { of, turn: Cell::new(0) }
    }

    fn take(&self) -> &'t str {
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        self.of.get(turn % self.of.len()).map_or("", String::as_str)
    }
}
