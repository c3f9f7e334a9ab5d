//! Keeping sightings, durably: the store against a plain table, by the clock on the wall.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use criterion::Criterion;
use criterion::measurement::WallTime;
use guiji_domain::{EvidenceKind, Recorded, SightingStore as _};
use guiji_store::Store;

use crate::plain::Plain;
use crate::traffic::Traffic;
use crate::{Comparison, scratch, slow_group, values};

const BATCH: usize = 64;

/// What is appended: name of our function, name of the baseline, pictures of each sighting.
type Case = (&'static str, &'static str, &'static [(EvidenceKind, usize)]);
const CASES: [Case; 2] = [
    ("store, no pictures", "plain table, no pictures", &[]),
    (
        "store, 50 kB of pictures",
        "plain table, 50 kB of pictures",
        &[
            (EvidenceKind::Plate, 4_000),
            (EvidenceKind::Vehicle, 12_000),
            (EvidenceKind::Frame, 34_000),
        ],
    ),
];

pub(crate) fn compare(criterion: &mut Criterion<WallTime>) -> anyhow::Result<Vec<Comparison>> {
    let mut group = slow_group(criterion, "append", 20);
    let mut comparisons = Vec::new();
    for (ours, baseline, pictures) in CASES {
        let folder = tempfile::tempdir_in(scratch())?;
        let store = Store::open(values::settings(&folder.path().join("store")))?;
        let mut plain = Plain::open(&folder.path().join("plain.db"))?;
        let mut traffic = Traffic::default();
        let mut timed = |rounds, record: &mut dyn FnMut(&[Recorded])| {
            let one = |_| {
                let batch = traffic.batch(BATCH, pictures);
                let start = Instant::now();
                record(&batch);
                start.elapsed()
            };
            (0..rounds).map(one).sum::<Duration>()
        };
        group.bench_function(ours, |b| {
            b.iter_custom(|rounds: u64| {
                timed(rounds, &mut |batch| drop(store.record(batch).expect("it is kept")))
            });
        });
        group.bench_function(baseline, |b| {
            b.iter_custom(|rounds| {
                timed(rounds, &mut |batch| plain.record(batch).expect("it is kept"))
            });
        });
        comparisons.push(Comparison {
            stage: "append",
            ours: ours.to_owned(),
            baselines: vec![baseline.to_owned()],
            unit: "sighting, in batches of 64, durable",
            units: BATCH,
            note: String::new(),
        });
        folder.close().context("cannot remove the stores")?;
    }
    group.finish();
    Ok(comparisons)
}
