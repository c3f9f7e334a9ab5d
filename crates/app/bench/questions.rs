//! What people ask, as a benchmark asks it of one store and of the other.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use guiji_domain::{Camera, CameraId, PlateText, Sighting, TimeSpan, Timestamp};
use serde::Serialize;

/// Questions of each kind.
pub(super) const COUNT: usize = 300;
/// As many points as an answer of the API has.
pub(super) const POINTS_MAX: usize = 1000;
/// Newest sightings of a pattern: a page.
pub(super) const PAGE: usize = 100;
/// Likeliest sightings of a plate.
pub(super) const LIKELY: usize = 50;
/// The area: so far around a camera, and so long before and after.
const RADIUS_M: f64 = 1000.0;
const HALF: Duration = Duration::from_secs(1800);

/// What a question is about: a read plate, picked from all over the days.
pub(super) struct Asked {
    pub(super) plate: PlateText,
    camera: CameraId,
    at: Timestamp,
}

impl Asked {
    /// Where the plate is registered and two characters of it, as somebody remembers it who saw it go by: `浙J?12*`.
    pub(super) fn pattern(&self) -> String {
        let known = self.plate.chars().take(5).enumerate();
        let known = known.map(|(i, c)| if i == 2 { '?' } else { c.as_char() });
        known.chain(['*']).collect()
    }

    /// Cameras within a kilometre, and an hour.
    pub(super) fn area(&self, cameras: &[Camera]) -> Result<(Vec<CameraId>, TimeSpan)> {
        let centre = cameras.iter().find(|camera| camera.id == self.camera);
        let centre = centre.context("a sighting of an unknown camera")?.position;
        let near = cameras.iter().filter(|camera| camera.position.distance_m(&centre) <= RADIUS_M);
        let near = near.map(|camera| camera.id.clone()).collect();
        Ok((near, TimeSpan::new(self.at.minus(HALF), self.at.plus(HALF))?))
    }
}

/// Picks what to ask about while sightings go by.
pub(super) struct Picker {
    every: u64,
    count: u64,
    asked: Vec<Asked>,
}

impl Picker {
    /// Of so many sightings.
    pub(super) fn of(rows: u64) -> Self {
        Self { every: (rows / COUNT as u64).max(1), count: 0, asked: Vec::with_capacity(COUNT) }
    }

    pub(super) fn look(&mut self, sighting: &Sighting) {
        self.count += 1;
        if let Some(plate) = sighting.plate_text()
            && self.count >= (self.asked.len() as u64 + 1) * self.every
        {
            let (plate, camera) = (plate.clone(), sighting.camera.clone());
            self.asked.push(Asked { plate, camera, at: sighting.captured.at });
        }
    }

    pub(super) fn asked(self) -> Vec<Asked> {
        self.asked
    }
}

/// A store that can be asked; each question says how many sightings it found and how long that took.
pub(super) trait Answers {
    /// The rows of a plate, in order of time, and nothing told of them: what any store can give.
    fn trajectory_rows(&mut self, asked: &Asked) -> Result<(usize, Duration)>;
    /// The whole way of a plate, as it was read; of a store that tells nothing of it, the rows.
    fn trajectory(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        self.trajectory_rows(asked)
    }
    /// The same with what may be misreads of it; of a store that cannot tell, the same.
    fn trajectory_misreads(&mut self, asked: &Asked) -> Result<(usize, Duration)> {
        self.trajectory(asked)
    }
    /// The newest page of a plate of which most is not known.
    fn wildcard(&mut self, asked: &Asked) -> Result<(usize, Duration)>;
    /// The first page of an area and hour.
    fn area(&mut self, asked: &Asked) -> Result<(usize, Duration)>;
    /// The likeliest sightings of a plate, misread ones included.
    fn fuzzy(&mut self, asked: &Asked) -> Result<(usize, Duration)>;
}

/// The time that 99 of 100 questions do not exceed, milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct AnswerFigures {
    /// The rows of a plate that was seen, in order of time, at most as many as a way has points: the same question to
    /// every store.
    pub(super) trajectory_rows_p99_ms: f64,
    /// The whole way of a plate that was seen, as `GetTrajectory` answers with `exact_only`: legs along roads, gaps,
    /// coverage, stays.
    pub(super) trajectory_p99_ms: f64,
    /// The same with possible misreads, as it answers else.
    pub(super) trajectory_misreads_p99_ms: f64,
    /// Points of such a way on average: each costs its share.
    pub(super) trajectory_points: f64,
    /// The newest 100 sightings of a pattern such as `浙J?12*`.
    pub(super) wildcard_p99_ms: f64,
    /// The first 100 sightings within a kilometre in an hour.
    pub(super) area_p99_ms: f64,
    /// The 50 likeliest sightings of a plate, misread ones included, as `SearchLikely` answers.
    pub(super) fuzzy_p99_ms: f64,
}

/// Asks every question twice, one after the other, and takes the time of the second round: warm.
pub(super) fn ask(store: &mut dyn Answers, asked: &[Asked]) -> Result<AnswerFigures> {
    type Question = fn(&mut dyn Answers, &Asked) -> Result<(usize, Duration)>;
    let mut p99 = |question: Question| -> Result<(f64, f64)> {
        let mut all = 0;
        let mut times = Vec::with_capacity(asked.len());
        for warm in [false, true] {
            for asked in asked {
                let (found, took) = question(store, asked)?;
                if found == 0 {
                    // A figure of a store that does not answer is no figure.
                    let Asked { plate, camera, at } = asked;
                    bail!("the store does not find {plate}, which camera {camera} saw at {at}");
                }
                times.extend(warm.then_some(took));
                all += if warm { found } else { 0 };
            }
        }
        times.sort_unstable();
        Ok((super::percentile_ms(&times, 99), all as f64 / times.len().max(1) as f64))
    };
    let (trajectory_p99_ms, trajectory_points) = p99(|store, asked| store.trajectory(asked))?;
    Ok(AnswerFigures {
        trajectory_rows_p99_ms: p99(|store, asked| store.trajectory_rows(asked))?.0,
        trajectory_p99_ms,
        trajectory_misreads_p99_ms: p99(|store, asked| store.trajectory_misreads(asked))?.0,
        trajectory_points,
        wildcard_p99_ms: p99(|store, asked| store.wildcard(asked))?.0,
        area_p99_ms: p99(|store, asked| store.area(asked))?.0,
        fuzzy_p99_ms: p99(|store, asked| store.fuzzy(asked))?.0,
    })
}
