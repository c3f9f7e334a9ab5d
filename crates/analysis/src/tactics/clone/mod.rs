//! Cloned plates (套牌): two vehicles with one plate, or a misread, or a wrong clock?
//!
//! The input is the sightings of one plate in order of time. Four explanations compete by Bayes' rule:
//!
//! | explanation | prior | what it says of the sightings |
//! |---|---|---|
//! | one vehicle | the rest | each follows the one before it |
//! | clone | [`CloneSettings::clone_prior`] | two vehicles, each sighting belongs to either |
//! | misread | of each read, from its lattice | some sightings are another vehicle with another plate |
//! | clock error | [`CloneSettings::clock_prior`] per camera | one camera's times say nothing, all else holds |
//!
//! Evidence is the likelihood ratio of two sightings, "the same vehicle" over "two vehicles that have nothing to do
//! with each other":
//! * *travel time*: F(elapsed + both clocks' uncertainties) / `early_share`, at most 1, where F is the learnt
//!   distribution of that road and hour (at least [`TRIPS_MIN`] trips); not below `beyond_learnt`, since someone always
//!   drives faster than all before. If even along the great circle the speed were above `impossible_kmh`:
//!   `impossible_ratio`. An unrelated vehicle is taken to come as early as that with `early_share`, no more often,
//!   though two vehicles contradict each other more often than that: an error in favour of innocence.
//! * *class and colour*: the share of equal or unequal attributes among sightings of one vehicle over that among any
//!   two, weighed by how sure both attributes are. White, silver and grey pass for each other.
//!
//! For the clone, every split of the sightings into two vehicles is added up, its weight that of Pólya's urn (any mix
//! of the two is as likely as any other). For the misread, every choice of misread sightings: the first costs the
//! probability m that this read is wrong; after it, what misled the reader is still on that vehicle's plate, and a
//! further misread of it (which must fit the one before) has probability m to the power of
//! [`CloneSettings::misread_again`], at most a half, times [`CloneSettings::misread_same`], since it must give the very
//! same text again. Sums over splits are exact, by dynamic
//! programming; a test adds them up one by one.
//!
//! Among many sightings some read is likely to be wrong even where all fit. That much doubt, the likelihood of one
//! vehicle times (1 / P(all right) - 1), is no finding and counts as one vehicle; a misread is what goes beyond.
//!
//! So an attribute conflict tells two vehicles but not clone from misread; the reads' own probabilities and repetition
//! tell that, which is why one contradiction between two perfect reads stays undecided.

use guiji_domain::{CameraId, CaptureTime, InvalidValue, PlateState, PlateText, Sighting, Vehicle};

use super::PassageIndex;
use super::cameras::ClockOffset;
use super::travel::Roads;
use super::within;
use weigh::Case;

mod reason;
mod rivals;
mod search;
mod weigh;

pub use reason::Reason;
pub use search::{Suspect, SuspectSettings, least_kmh, suspects, suspicion, telling};

/// One sighting of the plate in question.
#[derive(Debug, Clone, PartialEq)]
pub struct PlateSighting {
    /// Where.
    pub camera: CameraId,
    /// When, with its uncertainty.
    pub captured: CaptureTime,
    /// Probability that the plate was another one: 1 - the plate's probability under the fused lattice, until
    /// [`Self::weigh_rivals`] has asked who else there is.
    pub misread: f64,
    /// What else the reads may be, likeliest first, with the lattice's probabilities.
    pub others: Vec<(PlateText, f64)>,
    /// Whether other vehicles show how far the camera's clock is off, and [`Self::set_right`] took it out.
    pub clock_known: bool,
    /// What was seen of the vehicle.
    pub vehicle: Vehicle,
}

impl PlateSighting {
    /// Takes what is known of the camera's clock out of the time. Nothing changes where the clock seems right.
    pub fn set_right(&mut self, clock: Option<ClockOffset>) {
        /// With a larger error the clock counts as unknown.
        const KNOWN_S: f64 = 3.0;
        self.clock_known = clock.is_some_and(|c| c.error_s <= KNOWN_S);
        if let Some(clock) = clock {
            self.captured = clock.set_right(self.captured);
        }
    }

    /// From a sighting; `None` when its plate was not read.
    pub fn of(sighting: &Sighting) -> Option<Self> {
        let PlateState::Read(plate) = &sighting.plate else { return None };
        let texts = plate.lattice.top_texts(rivals::TEXTS + 1).into_iter();
        let others = texts.filter(|(text, p)| *text != plate.text && *p >= rivals::LEAST);
        Some(Self {
            camera: sighting.camera.clone(),
            captured: sighting.captured,
            misread: 1.0 - f64::from(plate.confidence),
            others: others.map(|(text, p)| (text, f64::from(p))).collect(),
            clock_known: false,
            vehicle: sighting.vehicle,
        })
    }

    /// Makes of the lattice's doubt the probability that another vehicle passed: by how often the other texts pass,
    /// and whether they were near. The reads alone call one right read in three doubtful.
    pub fn weigh_rivals(&mut self, plate: &PlateText, index: &PassageIndex, roads: Roads<'_>) {
        self.misread = rivals::misread(self, plate, index, roads);
        self.others.clear();
    }
}

/// Priors and rates; [`CloneSettings::assumptions`] lists them with their sources.
#[derive(Debug, Clone, PartialEq)]
pub struct CloneSettings {
    /// Prior that a plate looked at is cloned.
    pub clone_prior: f64,
    /// Prior that a camera's clock is off by more than it says.
    pub clock_prior: f64,
    /// How much less likely that is of a clock that other vehicles have shown.
    pub clock_known: f64,
    /// The power to which the probability of a misread is raised for a vehicle that was misread before.
    pub misread_again: f64,
    /// Share of a vehicle's further misreads that give the very text of the first.
    pub misread_same: f64,
    /// The quantile of the learnt times below which a trip is early.
    pub early_share: f64,
    /// Least ratio from learnt times alone.
    pub beyond_learnt: f64,
    /// Above this mean speed a trip is impossible, km/h.
    pub impossible_kmh: f64,
    /// Ratio of an impossible trip.
    pub impossible_ratio: f64,
    /// Unequal classes among sightings of one vehicle, and among any two.
    pub class_unequal: (f64, f64),
    /// Unequal colours among sightings of one vehicle, and among any two.
    pub colour_unequal: (f64, f64),
    /// Probability from which on an explanation is the verdict.
    pub decide_at: f64,
}

/// A number that a verdict rests on beside the sightings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assumption {
    /// What it is.
    pub what: &'static str,
    /// Its value.
    pub value: f64,
    /// Where it comes from.
    pub source: &'static str,
}

impl CloneSettings {
    /// Every prior and rate with its source, to be shown beside a verdict. No published figures were found for those
    /// that are called assumed: replace them by your own counts.
    pub fn assumptions(&self) -> Vec<Assumption> {
        let entry = |what, value, source| Assumption { what, value, source };
        vec![
            entry("prior of a clone", self.clone_prior, "assumed: 1 of 1000 plates asked about"),
            entry(
                "prior of a wrong clock",
                self.clock_prior,
                "assumed: 1 of 1000 cameras at a time",
            ),
            entry(
                "the same of a clock that other vehicles have shown, over the other",
                self.clock_known,
                "assumed: it would have gone wrong just now",
            ),
            entry(
                "power of a repeated misread",
                self.misread_again,
                "chosen on simulated counties: little likelier than the first",
            ),
            entry(
                "further misreads that give the same text",
                self.misread_same,
                "chosen on simulated counties: a plate has some ten lookalike texts",
            ),
            entry("share of early trips", self.early_share, "convention: the 5 % quantile"),
            entry(
                "ratio beyond all learnt trips",
                self.beyond_learnt,
                "assumed: 1 of 1000 knows a faster way than any seen",
            ),
            entry(
                "ratio of an impossible trip",
                self.impossible_ratio,
                "assumed: what is left for a camera at a wrong position",
            ),
            entry(
                "one vehicle, two classes",
                self.class_unequal.0,
                "assumed: the detector's error",
            ),
            entry("two vehicles, two classes", self.class_unequal.1, "assumed: most are cars"),
            entry(
                "one vehicle, two colours",
                self.colour_unequal.0,
                "assumed: error of the colours",
            ),
            entry(
                "two vehicles, two colours",
                self.colour_unequal.1,
                "assumed: mix of the colours",
            ),
            entry(
                "probability to decide at",
                self.decide_at,
                "choice: 1 wrong verdict of 10 at most",
            ),
        ]
    }
}

impl Default for CloneSettings {
    fn default() -> Self {
        Self {
            clone_prior: 1e-3,
            clock_prior: 1e-3,
            clock_known: 0.01,
            misread_again: 0.95,
            misread_same: 0.1,
            early_share: 0.05,
            beyond_learnt: 1e-3,
            impossible_kmh: 220.0,
            impossible_ratio: 1e-6,
            class_unequal: (0.05, 0.3),
            colour_unequal: (0.1, 0.75),
            decide_at: 0.9,
        }
    }
}

/// What the sightings amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nothing contradicts one vehicle.
    OneVehicle,
    /// Two vehicles carry the plate.
    Clone,
    /// At least one sighting is another plate, misread.
    Misread,
    /// A camera's clock is wrong.
    ClockError,
    /// No explanation is likely enough, or the clocks' uncertainty hides what there is.
    Undecided,
}

/// A verdict with its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What it is.
    pub finding: Finding,
    /// Probability of the likeliest explanation, which is the finding unless undecided.
    pub probability: f64,
    /// Probabilities of one vehicle, clone, misread, clock error; together 1.
    pub posterior: [f64; 4],
    /// What speaks for it, in order of the sightings. Numbers are places in that order.
    pub reasons: Vec<Reason>,
}

/// Most sightings of one question: the sums over splits cost their cube, a few milliseconds for this many.
pub const SIGHTINGS_MAX: usize = 32;
/// Fewest learnt trips of a road that count as knowledge.
pub const TRIPS_MIN: u64 = 30;
/// Weighs the explanations. The order of the sightings does not matter: they are sorted by time, then camera.
///
/// # Errors
/// With fewer than two sightings or more than [`SIGHTINGS_MAX`], or when an assumption is not between 0 and 1.
pub fn judge(
    sightings: &[PlateSighting],
    roads: Roads<'_>,
    settings: &CloneSettings,
) -> Result<Verdict, InvalidValue> {
    within("sightings of one plate", sightings.len(), 2..=SIGHTINGS_MAX)?;
    let wrong = |a: &Assumption| !(a.value > 0.0 && a.value < 1.0);
    if let Some(Assumption { what, value, .. }) = settings.assumptions().into_iter().find(wrong) {
        return Err(InvalidValue::new(what, value, "use a number between 0 and 1"));
    }
    let case = Case::new(sightings, roads, settings);
    let prior_rest = (1.0 - settings.clone_prior - settings.clock_prior).max(0.0);
    let (one_vehicle, misread) = (case.one_vehicle(), case.misread());
    let unnoticed = (case.all_legs() - one_vehicle).min(misread);
    let weights = [
        prior_rest * (one_vehicle + unnoticed),
        settings.clone_prior * case.clone(),
        prior_rest * (misread - unnoticed),
        settings.clock_prior * case.clock_error(),
    ];
    let sum: f64 = weights.iter().sum();
    // Reads that are all certain and contradict in every way leave nothing over: then nothing is known.
    let posterior = if sum > 0.0 { weights.map(|w| w / sum) } else { [0.25; 4] };
    let mut finding = Finding::Undecided;
    let mut probability = 0.0;
    let named = [Finding::OneVehicle, Finding::Clone, Finding::Misread, Finding::ClockError];
    for (name, p) in named.into_iter().zip(posterior) {
        if p > probability {
            probability = p;
            finding = if p >= settings.decide_at { name } else { Finding::Undecided };
        }
    }
    let reasons = case.reasons();
    let hidden = reasons.iter().any(|r| matches!(r, Reason::ClockUncertainty { .. }));
    if finding == Finding::OneVehicle && hidden {
        finding = Finding::Undecided;
    }
    Ok(Verdict { finding, probability, posterior, reasons })
}

#[cfg(test)]
mod tests;
