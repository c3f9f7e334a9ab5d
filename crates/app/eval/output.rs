//! Figures as people read them, and the folder with everything.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::contact_sheet::{Failure, write_failures};
use super::figures::{Bin, Figures, Kept, Outcome, confusions};
use super::plates::Report;

/// A line of `photos.csv`.
#[derive(Serialize)]
struct PhotoRow<'o> {
    photo: &'o str,
    expected: &'o str,
    read: &'o str,
    exact: bool,
    confidence: f32,
    iou: f32,
    likeliest: String,
    colour: &'o str,
    colour_read: &'o str,
    rows: &'o str,
    rows_read: &'o str,
    best_scored: &'o str,
    width_px: f32,
    luma: f32,
    vehicles: usize,
    searched_whole: bool,
    cpu_ms: f64,
}

impl<'o> From<&'o Outcome> for PhotoRow<'o> {
    fn from(outcome: &'o Outcome) -> Self {
        let answer = outcome.answer.as_ref();
        Self {
            photo: &outcome.photo,
            expected: &outcome.expected,
            read: outcome.read().unwrap_or_default(),
            exact: outcome.exact(),
            confidence: answer.map_or(0.0, |a| a.confidence),
            iou: answer.map_or(0.0, |a| a.iou),
            likeliest: answer.map_or_else(String::new, |a| a.likeliest.join(";")),
            colour: &outcome.colour,
            colour_read: answer.and_then(|a| a.colour.as_deref()).unwrap_or_default(),
            rows: &outcome.rows,
            rows_read: answer.map_or("", |a| a.rows),
            best_scored: outcome.best_scored.as_deref().unwrap_or_default(),
            width_px: outcome.width,
            luma: outcome.luma.round(),
            vehicles: outcome.vehicles,
            searched_whole: outcome.searched_whole,
            cpu_ms: (outcome.cost.total().as_secs_f64() * 1e5).round() / 100.0,
        }
    }
}

/// Writes `report.json`, `photos.csv`, `confusions.csv`, the crops and the contact sheets.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write_folder(
    folder: &Path,
    report: &Report,
    outcomes: &[Outcome],
    failures: &[Failure],
) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    let path = folder.join("report.json");
    let json = serde_json::to_vec_pretty(report).context("write the report as JSON")?;
    fs::write(&path, json).with_context(|| format!("write {}", path.display()))?;
    write_table(&folder.join("photos.csv"), outcomes.iter().map(PhotoRow::from))?;
    write_table(&folder.join("confusions.csv"), confusions(outcomes))?;
    write_failures(folder, failures)
}

fn write_table<R: Serialize>(path: &Path, rows: impl IntoIterator<Item = R>) -> Result<()> {
    let write = || {
        let mut table = csv::Writer::from_path(path)?;
        rows.into_iter().try_for_each(|row| table.serialize(row))?;
        table.flush().map_err(csv::Error::from)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Prints the report for people.
///
/// # Errors
/// When standard output is closed.
pub(super) fn print_tables(report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "models   {}", report.models.join(", "))?;
    writeln!(
        out,
        "photos   {} ({} skipped: first plate unclear), {:.1} % of them searched whole",
        report.figures.photos,
        report.skipped,
        report.searched_whole * 100.0
    )?;
    let cost = &report.cpu_ms_by_stage;
    writeln!(
        out,
        "CPU ms   {:.1} a photo (median; 95 % below {:.1}): vehicles {:.1}, plates {:.1}, text {:.2}",
        report.figures.cpu_ms_per_photo,
        cost.total_p95,
        cost.detect_vehicles,
        cost.read_plates,
        cost.decode_text
    )?;
    if let Some(all) = report.all_plates {
        writeln!(
            out,
            "plates   {} labelled, {} of them found; {} found elsewhere (precision {:.1} or more)",
            all.labelled,
            all.found,
            all.elsewhere,
            all.precision_min * 100.0
        )?;
    }
    if let Some(peer) = &report.baseline {
        let [low, high] = peer.first_plate_exact_interval.map(|share| share * 100.0);
        writeln!(
            out,
            "{:<8} found {:.1}, exact {:.1} ({low:.1} to {high:.1}; any plate {:.1}), province {:.1}, last six {:.1}, \
             {:.1} CPU ms: {:.2} times ours",
            peer.name,
            peer.detector_recall * 100.0,
            peer.first_plate_exact * 100.0,
            peer.any_plate_exact * 100.0,
            peer.province_exact * 100.0,
            peer.last6_exact * 100.0,
            peer.cpu_ms_per_photo,
            peer.cpu_ratio
        )?;
    }
    writeln!(out)?;
    print_figures(&mut out, &report.figures, &report.by)?;
    print_reading(&mut out, report)?;
    Ok(())
}

/// Prints the table of all photos and of parts of them.
pub(super) fn print_figures(
    out: &mut impl Write,
    all: &Figures,
    by: &BTreeMap<&'static str, BTreeMap<String, Figures>>,
) -> Result<()> {
    let reading = all.reading.is_some();
    write!(out, "{:<22} {:>6} {:>7}", "", "photos", "found")?;
    if reading {
        write!(
            out,
            " {:>7} {:>8} {:>6} {:>6} {:>9} {:>11} {:>6}",
            "exact", "province", "last6", "top5", "answered", "best-scored", "ECE"
        )?;
    }
    writeln!(out, " {:>8}", "CPU ms")?;
    print_row(out, "all", all)?;
    for (by, groups) in by {
        for (name, figures) in groups {
            print_row(out, &format!("{by} {name}"), figures)?;
        }
    }
    Ok(())
}

fn print_row(out: &mut impl Write, name: &str, figures: &Figures) -> Result<()> {
    let percent = |share: f64| format!("{:.1}", share * 100.0);
    write!(out, "{name:<22} {:>6} {:>7}", figures.photos, percent(figures.detector_recall))?;
    if let Some(reading) = &figures.reading {
        write!(
            out,
            " {:>7} {:>8} {:>6} {:>6} {:>9} {:>11} {:>6}",
            percent(reading.first_plate_exact),
            percent(reading.province_exact),
            percent(reading.last6_exact),
            percent(reading.top5_recall),
            percent(reading.answered),
            percent(reading.best_scored_exact),
            reading.ece.map_or_else(|| "-".into(), |ece| format!("{ece:.3}")),
        )?;
    }
    writeln!(out, " {:>8.1}", figures.cpu_ms_per_photo)?;
    Ok(())
}

/// Prints what the surest answers are worth.
pub(super) fn print_kept(out: &mut impl Write, kept: &Kept) -> Result<()> {
    Ok(writeln!(
        out,
        "surest {:.0} % of the answers: {:.1} right ({} answers of confidence {:.3} and more)",
        kept.share * 100.0,
        kept.exact * 100.0,
        kept.answers,
        kept.confidence_min
    )?)
}

/// Prints how often answers of what confidence are right.
pub(super) fn print_reliability(out: &mut impl Write, bins: &[Bin]) -> Result<()> {
    for bin in bins {
        writeln!(
            out,
            "confidence {:.1} to {:.1}: {:>4} answers, mean {:.3}, right {:.3}",
            bin.from, bin.to, bin.answers, bin.mean_confidence, bin.exact
        )?;
    }
    Ok(())
}

fn print_reading(out: &mut impl Write, report: &Report) -> Result<()> {
    let Some(reading) = &report.figures.reading else { return Ok(()) };
    let [low, high] = reading.first_plate_exact_interval;
    writeln!(
        out,
        "\nexact, 95 % interval {:.1} to {:.1}; any plate of the photo {:.1}; colour {:.1}; rows {:.1}",
        low * 100.0,
        high * 100.0,
        reading.any_plate_exact * 100.0,
        reading.colour_exact * 100.0,
        reading.rows_exact * 100.0
    )?;
    let positions = report.positions.iter();
    let positions: Vec<_> =
        positions.map(|p| format!("{}: {:.1}", p.position, p.exact * 100.0)).collect();
    writeln!(out, "by position from the left  {}", positions.join("  "))?;
    if let Some(kept) = &report.kept {
        print_kept(out, kept)?;
    }
    print_reliability(out, &report.reliability)?;
    let confused = report.confusions.iter();
    let confused: Vec<_> =
        confused.map(|c| format!("{}→{} {}", c.expected, c.read, c.count)).collect();
    if !confused.is_empty() {
        writeln!(out, "confused  {}", confused.join("  "))?;
    }
    Ok(())
}
