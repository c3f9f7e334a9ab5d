//! The table at the end: medians of this run, and what they are to one another.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

/// A function of ours and what it is held against, all of one benchmark group.
pub(crate) struct Comparison {
    /// Name of the group.
    pub(crate) stage: &'static str,
    /// Name of our function in it.
    pub(crate) ours: String,
    /// Names of the baselines in it.
    pub(crate) baselines: Vec<String>,
    /// What a figure is of.
    pub(crate) unit: &'static str,
    /// How many of them one iteration does.
    pub(crate) units: usize,
    /// What else differs.
    pub(crate) note: String,
}

/// The median of one function, nanoseconds a unit, with the ends of its 95 % confidence interval.
#[derive(Clone, Copy)]
struct Median {
    low: f64,
    best: f64,
    high: f64,
}

/// Prints what was measured; functions that a filter left out are left out here.
pub(crate) fn print(results: &Path, comparisons: &[Comparison]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n| stage | one | Guiji | baseline | its figure | ratio (95 %) |")?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    let mut notes = Vec::new();
    for comparison in comparisons {
        let Comparison { stage, unit, .. } = comparison;
        let Some(ours) = median(results, comparison, &comparison.ours)? else { continue };
        for baseline in &comparison.baselines {
            let Some(theirs) = median(results, comparison, baseline)? else { continue };
            writeln!(
                out,
                "| {stage} | {unit} | {}: {} | {baseline} | {} | {:.2} ({:.2} to {:.2}) |",
                comparison.ours,
                time(ours.best),
                time(theirs.best),
                theirs.best / ours.best,
                theirs.low / ours.high,
                theirs.high / ours.low,
            )?;
        }
        if !comparison.note.is_empty() {
            notes.push(format!("{stage}: {}", comparison.note));
        }
    }
    writeln!(out, "\nRatio: the baseline's median over ours; above 1, Guiji is cheaper.")?;
    notes.iter().try_for_each(|note| writeln!(out, "{note}."))?;
    Ok(())
}

fn median(results: &Path, of: &Comparison, name: &str) -> anyhow::Result<Option<Median>> {
    let file = results.join(of.stage).join(name).join("new/estimates.json");
    if !file.exists() {
        return Ok(None);
    }
    let unread = || format!("cannot read {}", file.display());
    let text = std::fs::read_to_string(&file).with_context(unread)?;
    let estimates: serde_json::Value = serde_json::from_str(&text).with_context(unread)?;
    let number = |pointer: &str| {
        let found = estimates.pointer(pointer).and_then(serde_json::Value::as_f64);
        found.map(|ns| ns / of.units as f64).with_context(unread)
    };
    Ok(Some(Median {
        low: number("/median/confidence_interval/lower_bound")?,
        best: number("/median/point_estimate")?,
        high: number("/median/confidence_interval/upper_bound")?,
    }))
}

fn time(ns: f64) -> String {
    match ns {
        _ if ns < 1e3 => format!("{ns:.0} ns"),
        _ if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        _ => format!("{:.2} ms", ns / 1e6),
    }
}
