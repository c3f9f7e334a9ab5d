//! What each stage of the engine costs, beside a named baseline measured in the same run.
//!
//! `./x bench [STAGE]` runs it and prints a table of medians and ratios at the end; `docs/benchmarks.md` says what
//! is compared and keeps the latest figures. Everything but `append` is measured in CPU time of the process (user
//! and system, all threads), so that other work on the machine matters little; `append` waits for the disk and is
//! measured by the clock on the wall.

#![allow(missing_docs)]

mod append;
mod decode;
mod detect;
mod models;
mod plain;
mod read;
mod table;
mod track;
mod traffic;
mod trajectory;
#[allow(clippy::unwrap_used)]
#[path = "../../crates/store/tests/common/mod.rs"]
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use rustix::time::{ClockId, clock_gettime};

use table::Comparison;

const STAGES: [&str; 6] = ["decode", "detect", "read", "track", "append", "trajectory"];

fn main() -> anyhow::Result<()> {
    let results = scratch().join("criterion");
    if results.exists() {
        std::fs::remove_dir_all(&results).context("cannot clear the last run's results")?;
    }
    let named: Vec<_> = STAGES.into_iter().filter(|s| std::env::args().any(|a| a == *s)).collect();
    let stages = if named.is_empty() { STAGES.to_vec() } else { named };
    let criterion = || Criterion::default().output_directory(&results).without_plots();
    let mut cpu = criterion().with_measurement(CpuTime).configure_from_args();
    let mut wall = criterion().configure_from_args();

    let mut comparisons = Vec::new();
    for stage in stages {
        comparisons.extend(match stage {
            "decode" => decode::compare(&mut cpu)?,
            "detect" => detect::compare(&mut cpu)?,
            "read" => read::compare(&mut cpu)?,
            "track" => track::compare(&mut cpu)?,
            "append" => append::compare(&mut wall)?,
            _ => trajectory::compare(&mut cpu)?,
        });
    }
    table::print(&results, &comparisons)
}

/// A folder inside the target folder: on the same disk as a store would be, not in a memory file system.
fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A group for things that take milliseconds or longer: every sample the same number of rounds.
fn slow_group<'c, M: Measurement>(
    criterion: &'c mut Criterion<M>,
    stage: &str,
    samples: usize,
) -> BenchmarkGroup<'c, M> {
    let mut group = criterion.benchmark_group(stage);
    group.sampling_mode(SamplingMode::Flat).sample_size(samples);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    group
}

/// CPU time of this process: user and system, all threads.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::ProcessCPUTime);
        // Never negative: it counts from the start of the process.
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }
    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }
    fn zero(&self) -> Duration {
        Duration::ZERO
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
