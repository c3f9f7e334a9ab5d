//! `guiji eval search`: does the search on probabilities find what was misread? On a simulated county, whose truth is
//! known, through the real store and the code that answers `SearchLikely`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use guiji_analysis::likely::Ranked;
use guiji_api::likely::likeliest;
use guiji_county::{County, CountySettings};
use guiji_domain::{
    LikelyQuery, PlateText, Recorded, SightingId, SightingStore as _, TimeSpan, Timestamp,
};
use guiji_store::{Store, StoreSettings};
use serde::Serialize;

use super::print_json;

/// Arguments of `guiji eval search`.
#[derive(Debug, Args)]
pub(crate) struct SearchArguments {
    /// How many sightings the county has.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    sightings: u64,
    /// Over how many days.
    #[arg(long, value_name = "D", default_value_t = 7)]
    days: u32,
    /// The seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Share of the read plates that are misread; may be given again.
    #[arg(long, value_name = "SHARE", default_values_t = [0.01, 0.03, 0.05])]
    error_rate: Vec<f64>,
    /// Searches of each kind.
    #[arg(long, value_name = "N", default_value_t = 500)]
    searches: usize,
    /// Where the stores are made, and removed afterwards.
    #[arg(long, value_name = "FOLDER", default_value = ".guiji/eval-search")]
    dir: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What was measured at one error rate.
#[derive(Debug, Serialize)]
struct Figures {
    error_rate: f64,
    sightings: u64,
    /// Sightings whose plate was misread.
    misreads: usize,
    /// Of these, searched for by their true plate.
    searches: usize,
    /// Share of them that the search over all days has in its answer at all.
    found_share: f64,
    /// Share of them before which at most four sightings of other vehicles stand, over all days.
    rank5_share: f64,
    /// Share of them among the first five answers over all days, whatever the others are: a vehicle that was read right
    /// five times has no room for its misreads there.
    plain_rank5_share: f64,
    /// Share of them among the first five answers of the search over the hour around them.
    plain_rank5_hour_share: f64,
    /// Share of them among the first five answers of the search for misreads only over the hour around them: the
    /// vehicle's sightings that were read right, a dozen of a busy one, are left out as an ordinary search finds them.
    rank5_misreads_hour_share: f64,
    /// Plates searched for to compare, as often as they pass.
    plates: usize,
    /// Their sightings, by texts that are the plate.
    exact: Score,
    /// By texts at an edit distance of at most one from it.
    edit_distance_1: Score,
    /// By P(plate | reads) of at least one half.
    likely: Score,
    /// Mean time of a search over all days.
    search_ms: f64,
}

/// Over all searches together.
#[derive(Debug, Clone, Copy, Serialize, Default)]
struct Score {
    /// Share of the answers that are of the plate.
    precision: f64,
    /// Share of the plate's sightings, as far as anything was read, that are in the answer.
    recall: f64,
    /// The same of those that were misread.
    misread_recall: f64,
}

/// Counts towards a score.
#[derive(Debug, Default)]
struct Tally {
    answers: usize,
    right: usize,
    all: usize,
    misread_right: usize,
    misread_all: usize,
}

impl Tally {
    fn add(&mut self, answer: impl IntoIterator<Item = SightingId>, wanted: &Wanted) {
        for id in answer {
            self.answers += 1;
            self.right += usize::from(wanted.all.contains(&id));
            self.misread_right += usize::from(wanted.misread.contains(&id));
        }
        self.all += wanted.all.len();
        self.misread_all += wanted.misread.len();
    }

    fn score(&self) -> Score {
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        Score {
            precision: share(self.right, self.answers),
            recall: share(self.right, self.all),
            misread_recall: share(self.misread_right, self.misread_all),
        }
    }
}

/// The sightings of a plate, of which something was read.
#[derive(Debug, Default)]
struct Wanted {
    all: HashSet<SightingId>,
    misread: HashSet<SightingId>,
}

/// The truth about what was stored.
#[derive(Default)]
struct Truth {
    plates: HashMap<SightingId, PlateText>,
    wanted: HashMap<PlateText, Wanted>,
    texts: HashMap<PlateText, Vec<SightingId>>,
    misread: Vec<(SightingId, Timestamp)>,
    read: Vec<SightingId>,
}

/// Local midnight of the first day: 2026-01-05 in China, a Monday.
const START: Timestamp = Timestamp::from_secs(1_767_542_400);
/// Sightings of a transaction.
const CHUNK: usize = 5000;
/// As many as `SearchLikely` looks at.
const LIKELIEST_MAX: usize = 10_000;
/// Either way of a sighting, for the search over an hour.
const HALF_HOUR: Duration = Duration::from_secs(1800);

/// Runs the command.
pub(crate) fn run(arguments: &SearchArguments) -> Result<ExitCode> {
    let folder = &arguments.dir;
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: empty it, or choose another --dir", folder.display());
    }
    let measured: Result<Vec<_>> =
        arguments.error_rate.iter().map(|rate| measure(arguments, *rate)).collect();
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    let measured = measured?;
    if arguments.json {
        print_json(&serde_json::json!({ "search": measured }))?;
    } else {
        measured.iter().for_each(print_figures);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_figures(figures: &Figures) {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    println!(
        "reader error {}: {} of {} misread; {} searched for: {} found, {} behind at most 4 of others, {} among the first 5 of all, {} of their hour, {} of the misreads of their hour; {:.1} ms a search",
        percent(figures.error_rate),
        figures.misreads,
        figures.sightings,
        figures.searches,
        percent(figures.found_share),
        percent(figures.rank5_share),
        percent(figures.plain_rank5_share),
        percent(figures.plain_rank5_hour_share),
        percent(figures.rank5_misreads_hour_share),
        figures.search_ms,
    );
    for (name, score) in [
        ("exact text", figures.exact),
        ("edit distance 1", figures.edit_distance_1),
        ("P(plate | reads) >= 50 %", figures.likely),
    ] {
        println!(
            "  {name:<26} precision {:>7}  recall {:>7}  of misreads {:>7}",
            percent(score.precision),
            percent(score.recall),
            percent(score.misread_recall)
        );
    }
}

fn measure(arguments: &SearchArguments, error_rate: f64) -> Result<Figures> {
    let SearchArguments { sightings, days, seed, searches, dir, .. } = arguments;
    let county = County::new(CountySettings {
        seed: *seed,
        sightings: *sightings,
        days: *days,
        error_rate,
        start: START,
    })?;
    let dir = dir.join(format!("{error_rate}"));
    let (store, truth) = fill(&county, &dir)?;

    let every = (truth.misread.len() / searches.max(&1)).max(1);
    let sought: Vec<_> = truth.misread.iter().step_by(every).take(*searches).collect();
    let (mut found, mut rank5, mut rank5_hour) = (0, 0, 0);
    let (mut plain, mut plain_hour) = (0, 0);
    let mut took = Duration::ZERO;
    for (id, at) in &sought {
        let plate = &truth.plates[id];
        let begun = Instant::now();
        let ranked = search(&store, plate, TimeSpan::ALL)?;
        took += begun.elapsed();
        if let Some(place) = ranked.iter().position(|one| one.sighting.id == *id) {
            found += 1;
            plain += usize::from(place < 5);
            let wrong = ranked[..place].iter().filter(|r| truth.plates[&r.sighting.id] != *plate);
            rank5 += usize::from(wrong.count() < 5);
        }
        let hour = TimeSpan::new(at.minus(HALF_HOUR), at.plus(HALF_HOUR))?;
        let ranked = search(&store, plate, hour)?;
        plain_hour += usize::from(ranked.iter().take(5).any(|one| one.sighting.id == *id));
        let mut misreads = ranked.iter().filter(|one| one.misread).take(5);
        rank5_hour += usize::from(misreads.any(|one| one.sighting.id == *id));
    }

    let every = (truth.read.len() / searches.max(&1)).max(1);
    let plates: Vec<_> =
        truth.read.iter().step_by(every).take(*searches).map(|id| &truth.plates[id]).collect();
    let (mut exact, mut edit, mut likely) = (Tally::default(), Tally::default(), Tally::default());
    for plate in &plates {
        let wanted = &truth.wanted[*plate];
        exact.add(truth.texts.get(*plate).into_iter().flatten().copied(), wanted);
        let near = truth.texts.iter().filter(|(text, _)| {
            // Most differ in length or in most characters; the distance costs more than this.
            LikelyQuery::places_apart(text, plate) <= 1
                || strsim::levenshtein(text.as_str(), plate.as_str()) <= 1
        });
        edit.add(near.flat_map(|(_, ids)| ids).copied(), wanted);
        let ranked = search(&store, plate, TimeSpan::ALL)?;
        let probable = ranked.iter().filter(|one| one.probability >= 0.5);
        likely.add(probable.map(|one| one.sighting.id), wanted);
    }
    drop(store);
    std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    let share = |count: usize| count as f64 / sought.len().max(1) as f64;
    Ok(Figures {
        error_rate,
        sightings: *sightings,
        misreads: truth.misread.len(),
        searches: sought.len(),
        found_share: share(found),
        rank5_share: share(rank5),
        plain_rank5_share: share(plain),
        plain_rank5_hour_share: share(plain_hour),
        rank5_misreads_hour_share: share(rank5_hour),
        plates: plates.len(),
        exact: exact.score(),
        edit_distance_1: edit.score(),
        likely: likely.score(),
        search_ms: took.as_secs_f64() * 1e3 / sought.len().max(1) as f64,
    })
}

fn search(store: &Store, plate: &PlateText, span: TimeSpan) -> Result<Vec<Ranked>> {
    let query = LikelyQuery::all_in(plate.clone(), span, LIKELIEST_MAX);
    Ok(likeliest(store, &query, None)?.0)
}

/// Stores the county's sightings and keeps the truth about those of which something was read.
fn fill(county: &County, dir: &Path) -> Result<(Store, Truth)> {
    let settings = StoreSettings { seal_days: 0, ..StoreSettings::new(dir) };
    let store = Store::open(settings).context("open the store")?;
    let mut truth = Truth::default();
    let mut records = Vec::with_capacity(CHUNK);
    for passage in county.passages() {
        let sighting = passage.sighting;
        if let Some(text) = sighting.plate_text() {
            let (id, plate) = (sighting.id, passage.truth.plate);
            let wanted = truth.wanted.entry(plate.clone()).or_default();
            wanted.all.insert(id);
            if passage.truth.misread {
                wanted.misread.insert(id);
                truth.misread.push((id, sighting.captured.at));
            }
            truth.texts.entry(text.clone()).or_default().push(id);
            truth.plates.insert(id, plate);
            truth.read.push(id);
        }
        let sighting = Arc::new(sighting);
        records.push(Recorded { sighting, pictures: Vec::new(), alerts: Vec::new() });
        if records.len() == CHUNK {
            store.record(&records).context("store sightings")?;
            records.clear();
        }
    }
    store.record(&records).context("store sightings")?;
    // Most of what is searched lies in days that are over.
    store.seal_days(Timestamp::MAX).context("seal the days")?;
    Ok((store, truth))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misreads_are_found_in_a_small_county() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = SearchArguments {
            sightings: 20_000,
            days: 2,
            seed: 7,
            error_rate: vec![0.05],
            searches: 150,
            dir: folder.path().join("stores"),
            json: true,
        };
        let figures = measure(&arguments, 0.05).unwrap();
        assert!(figures.searches == 150 && figures.misreads > 500, "{figures:?}");
        assert!(figures.rank5_share >= 0.95, "{figures:?}");
        assert!(figures.rank5_misreads_hour_share >= 0.95, "{figures:?}");
        let Figures { exact, edit_distance_1, likely, .. } = figures;
        assert_eq!(exact.misread_recall, 0.0, "no text of a misread is the plate");
        assert!(likely.recall > exact.recall, "{likely:?} {exact:?}");
        assert!(likely.precision > 0.97, "{likely:?}");
        assert!(likely.precision > edit_distance_1.precision, "{likely:?} {edit_distance_1:?}");
        assert!(!arguments.dir.join("0.05").exists(), "what was made is removed");
    }
}
