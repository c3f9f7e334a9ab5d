//! Finding vehicles: the model at the input we chose, against the same model at the size it was trained for.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use criterion::Criterion;
use guiji_domain::Detector as _;

use crate::{Comparison, CpuTime, checkout, models, scratch, slow_group};

const OURS: &str = "320x192, one at a time";
const OURS_BATCHED: &str = "320x192, batches of four";
const SQUARE: &str = "the same model at 416x416";
const BATCH: usize = 4;

pub(crate) fn compare(criterion: &mut Criterion<CpuTime>) -> anyhow::Result<Vec<Comparison>> {
    let folder = tempfile::tempdir_in(scratch())?;
    square_manifest(folder.path()).context("cannot write a manifest for 416x416")?;
    let (ours, square) = (models::load(None)?, models::load(Some(folder.path()))?);
    let car = models::car()?;
    let (our_frame, square_frame) = (models::frame(&car, &ours)?, models::frame(&car, &square)?);
    let found = ours.detect(&[&our_frame])?.remove(0);
    let found_square = square.detect(&[&square_frame])?.remove(0);

    // Every function looks at four frames, so that the batch is compared with as many.
    let mut group = slow_group(criterion, "detect", 20);
    group.bench_function(OURS, |b| {
        b.iter(|| {
            (0..BATCH).map(|_| ours.detect(&[&our_frame]).expect("it runs").len()).sum::<usize>()
        });
    });
    group.bench_function(OURS_BATCHED, |b| {
        b.iter(|| ours.detect(&[&our_frame; BATCH]).expect("it runs").len());
    });
    group.bench_function(SQUARE, |b| {
        b.iter(|| {
            (0..BATCH)
                .map(|_| square.detect(&[&square_frame]).expect("it runs").len())
                .sum::<usize>()
        });
    });
    group.finish();
    let note = format!(
        "in the test picture 320x192 finds {} vehicles and 416x416 {}",
        found.len(),
        found_square.len()
    );
    let of = |ours: &str, note| Comparison {
        stage: "detect",
        ours: ours.to_owned(),
        baselines: vec![SQUARE.to_owned()],
        unit: "frame",
        units: BATCH,
        note,
    };
    Ok(vec![of(OURS, note), of(OURS_BATCHED, String::new())])
}

/// The checkout's manifest with the vehicle detector's input made 416x416, its committed files beside it.
fn square_manifest(folder: &Path) -> anyhow::Result<()> {
    let models = checkout().join("models");
    let mut manifest: toml::Table = fs::read_to_string(models.join("manifest.toml"))?.parse()?;
    let entries = manifest.get_mut("model").and_then(toml::Value::as_array_mut);
    for entry in entries.context("no models")? {
        if entry.get("role").and_then(toml::Value::as_str) == Some("vehicle-detector") {
            let input = entry.get_mut("input").and_then(toml::Value::as_table_mut);
            let input = input.context("no input")?;
            for side in ["width", "height"] {
                input.insert(side.to_owned(), 416.into());
            }
        }
    }
    fs::write(folder.join("manifest.toml"), manifest.to_string())?;
    for file in fs::read_dir(models)? {
        let file = file?;
        if file.file_type()?.is_file() && file.file_name() != "manifest.toml" {
            std::os::unix::fs::symlink(file.path(), folder.join(file.file_name()))?;
        }
    }
    Ok(())
}
