//! The index of passages that the tactics read: one for all calls, kept in memory, fresh at each question.
//!
//! It holds the latest days before the newest passage (an imported county may lie in the past), none that retention has
//! deleted, and as many passages as are allowed. It is built from the store at the first question, and from then on takes
//! what the live feed says was stored; what came since is merged in when somebody asks. Should the feed lose something,
//! or more arrive between two questions than is kept waiting, it is built anew.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guiji_analysis::tactics::cameras::{ClockOffset, clock_offsets};
use guiji_analysis::tactics::forecast::{Forecaster, Smoothing};
use guiji_analysis::tactics::{PassageIndex, PassageIndexBuilder};
use guiji_domain::{
    CameraId, GeoPoint, InvalidValue, Sighting, SightingQuery, SightingStage, SortOrder, TimeSpan,
    Timestamp,
};
use tokio::sync::Notify;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tracing::{info, warn};

use crate::ApiParts;
use crate::auth::{Reach, View};
use crate::error::Problem;

const DAY: Duration = Duration::from_secs(86_400);
/// Passages that wait to be merged. More than this, and the store is gone through again.
const WAITING_MAX: usize = 200_000;
/// The longest drive from camera to camera.
pub(crate) const HORIZON: Duration = Duration::from_secs(1800);
/// What was learnt is learnt anew when it is older, or a tenth of the passages is new.
pub(crate) const LEARNT_FOR: Duration = Duration::from_secs(600);

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassageSettings {
    /// Days of passages before the newest one.
    pub days: u32,
    /// Days that the store keeps sightings: what it deletes leaves the index too.
    pub kept_days: u32,
    /// Most passages, at about 60 bytes each with their dictionaries and while they are merged; whole days are left out
    /// beyond.
    pub passages_max: usize,
}

impl Default for PassageSettings {
    fn default() -> Self {
        Self { days: 365, kept_days: 365, passages_max: 20_000_000 }
    }
}

/// Keeps the index.
#[derive(Debug)]
pub(crate) struct PassageKeeper {
    settings: PassageSettings,
    waiting: Mutex<Waiting>,
    /// Held while the index is built or merged, so that one build serves all who ask.
    built: Mutex<Option<Arc<PassageIndex>>>,
    learnt: Mutex<Option<Arc<Learnt>>>,
    /// The same, never held for long: for those who cannot wait.
    latest: Mutex<Latest>,
    /// What of the index those see who do not see everything, for the last few of them.
    narrowed: Mutex<Vec<Narrowed>>,
    followed: Notify,
}

/// The index and what it taught, as they were made last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latest {
    pub(crate) index: Option<Arc<PassageIndex>>,
    pub(crate) learnt: Option<Arc<Learnt>>,
}

/// A part of the index, which is made once for all questions of those who see the same.
#[derive(Debug)]
struct Narrowed {
    whole: Arc<PassageIndex>,
    cameras: Option<HashSet<CameraId>>,
    since_day: i32,
    part: Arc<PassageIndex>,
}

/// How many parts are kept.
const NARROWED_MAX: usize = 4;

#[derive(Debug, Default)]
struct Waiting {
    passages: PassageIndexBuilder,
    count: usize,
    /// Whether there is an index that it could be merged into.
    wanted: bool,
    /// Whether something was lost.
    lost: bool,
}

/// What all passages together teach.
#[derive(Debug)]
pub(crate) struct Learnt {
    pub(crate) forecaster: Forecaster,
    pub(crate) positions: HashMap<CameraId, GeoPoint>,
    pub(crate) clocks: HashMap<CameraId, ClockOffset>,
    passages: usize,
    at: Timestamp,
}

/// An index as far as its caller may see it.
pub(crate) struct Seen {
    pub(crate) index: Arc<PassageIndex>,
    /// All passages: for what is asked of everybody, and never told.
    pub(crate) whole: Arc<PassageIndex>,
    pub(crate) learnt: Arc<Learnt>,
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in here is whole at any moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PassageKeeper {
    pub(crate) fn new(settings: PassageSettings) -> Self {
        let (waiting, built, learnt, latest, narrowed) = Default::default();
        Self { settings, waiting, built, learnt, latest, narrowed, followed: Notify::new() }
    }

    /// Takes what the live feed brings, until it ends; `each` hears of it too.
    pub(crate) async fn listen(
        &self,
        mut live: broadcast::Receiver<Arc<Sighting>>,
        each: impl Fn(&Sighting),
    ) {
        loop {
            match live.recv().await {
                Ok(sighting) => {
                    self.take(&sighting);
                    each(&sighting);
                }
                Err(RecvError::Lagged(count)) => {
                    let mut waiting = hold(&self.waiting);
                    if waiting.wanted && !waiting.lost {
                        warn!(count, "the index of passages missed sightings and is built anew");
                    }
                    waiting.lost = true;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn take(&self, sighting: &Sighting) {
        let (SightingStage::Final, Some(plate)) = (sighting.stage, sighting.plate_text()) else {
            return;
        };
        let mut waiting = hold(&self.waiting);
        if !waiting.wanted || waiting.lost {
            return;
        }
        let added = waiting.passages.add(plate, &sighting.camera, sighting.captured.at);
        waiting.count += 1;
        if added.is_err() || waiting.count > WAITING_MAX {
            *waiting = Waiting { wanted: true, lost: true, ..Waiting::default() };
        }
    }

    /// The index with everything that was stored before the call; blocking, seconds where it must be built.
    pub(crate) fn index(&self, parts: &ApiParts) -> Result<Arc<PassageIndex>, Problem> {
        let mut built = hold(&self.built);
        let waiting = {
            let mut waiting = hold(&self.waiting);
            let begun = Waiting { wanted: true, ..Waiting::default() };
            std::mem::replace(&mut *waiting, begun)
        };
        let kept = built.as_ref().filter(|_| !waiting.lost);
        let now = parts.clock.now();
        let result = match kept {
            Some(index) if waiting.count == 0 && !self.has_deleted(index, now) => {
                Ok(Arc::clone(index))
            }
            Some(index) => self.merge(index, waiting, now),
            None => self.build(parts),
        };
        match result {
            Ok(index) => {
                *built = Some(Arc::clone(&index));
                hold(&self.latest).index = Some(Arc::clone(&index));
                Ok(index)
            }
            Err(problem) => {
                // What waited is gone, so the next call begins from the store.
                hold(&self.waiting).lost = true;
                Err(problem)
            }
        }
    }

    fn merge(
        &self,
        index: &PassageIndex,
        waiting: Waiting,
        now: Timestamp,
    ) -> Result<Arc<PassageIndex>, Problem> {
        let mut merged = index.merged(&waiting.passages.build())?;
        if let Some(span) = merged.span() {
            // A day later than it must, so that not every merge leaves something out; but nothing that is deleted.
            let begins = self.begins(span.last(), now);
            if span.first() < begins.minus(DAY) || self.has_deleted(&merged, now) {
                merged = merged.narrowed(begins, |_| true);
            }
        }
        if merged.len() > self.settings.passages_max + self.settings.passages_max / 8 {
            merged = self.fewer_days(&merged);
        }
        Ok(Arc::new(merged))
    }

    /// Since when passages are held, the newest being at `last`.
    fn begins(&self, last: Timestamp, now: Timestamp) -> Timestamp {
        last.minus(DAY * self.settings.days).max(self.kept_since(now))
    }

    /// Retention deletes by whole days (UTC).
    fn kept_since(&self, now: Timestamp) -> Timestamp {
        let day = i64::from(now.utc_day()) - i64::from(self.settings.kept_days);
        Timestamp::from_secs(day * 86_400)
    }

    /// Whether the index holds what retention has deleted since.
    fn has_deleted(&self, index: &PassageIndex, now: Timestamp) -> bool {
        index.span().is_some_and(|span| span.first() < self.kept_since(now))
    }

    /// Without the oldest days, so many that it fits again.
    fn fewer_days(&self, index: &PassageIndex) -> PassageIndex {
        let mut narrowed = index.clone();
        while narrowed.len() > self.settings.passages_max {
            let Some(span) = narrowed.span() else { break };
            narrowed = narrowed.narrowed(span.first().plus(DAY), |_| true);
        }
        narrowed
    }

    /// From the newest day back.
    fn build(&self, parts: &ApiParts) -> Result<Arc<PassageIndex>, Problem> {
        let now = parts.clock.now();
        // Clocks ahead of ours included.
        let ahead = TimeSpan::new(Timestamp::MIN, now.plus(DAY))?;
        let newest = parts.store.search(&SightingQuery {
            order: SortOrder::NewestFirst,
            ..SightingQuery::all_in(ahead, 1)
        })?;
        let newest = newest.sightings.first().map_or(now, |sighting| sighting.captured.at);
        let (begins, mut end) = (self.begins(newest, now), newest.plus(Duration::from_nanos(1)));
        let mut builder = PassageIndexBuilder::default();
        let (mut count, mut wrong) = (0, None::<InvalidValue>);
        while begins < end && count < self.settings.passages_max {
            let first = end.minus(DAY).max(begins);
            let last = Timestamp::from_nanos(end.as_nanos().saturating_sub(1));
            parts.passages.passages(TimeSpan::new(first, last)?, &mut |passage| {
                count += 1;
                if let Err(error) = builder.add(passage.plate, passage.camera, passage.at) {
                    wrong = Some(error);
                }
            })?;
            if let Some(error) = wrong {
                return Err(error.into());
            }
            end = first;
        }
        let index = Arc::new(builder.build());
        info!(
            passages = index.len(),
            vehicles = index.plates().len(),
            "the index of passages is built"
        );
        Ok(index)
    }

    /// What the passages teach; seconds where it must be learnt anew.
    pub(crate) fn learnt(
        &self,
        parts: &ApiParts,
        index: &PassageIndex,
    ) -> Result<Arc<Learnt>, Problem> {
        let now = parts.clock.now();
        let mut learnt = hold(&self.learnt);
        let holds = |l: &&Arc<Learnt>| {
            now.abs_diff(l.at) < LEARNT_FOR && index.len().abs_diff(l.passages) <= l.passages / 10
        };
        if let Some(learnt) = learnt.as_ref().filter(holds) {
            return Ok(Arc::clone(learnt));
        }
        let cameras = parts.cameras.list();
        let positions: HashMap<_, _> =
            cameras.into_iter().map(|(camera, _)| (camera.id, camera.position)).collect();
        let clocks = index.cameras().iter().cloned().zip(clock_offsets(index, &positions));
        let new = Arc::new(Learnt {
            forecaster: Forecaster::learn(index, &positions, HORIZON, Smoothing::default())?,
            clocks: clocks.filter_map(|(camera, clock)| Some((camera, clock?))).collect(),
            positions,
            passages: index.len(),
            at: now,
        });
        *learnt = Some(Arc::clone(&new));
        hold(&self.latest).learnt = Some(Arc::clone(&new));
        Ok(new)
    }

    /// What was made last, if anything was; does not wait.
    pub(crate) fn latest(&self) -> Latest {
        hold(&self.latest).clone()
    }

    /// Somebody needs what is learnt without waiting for it: from now on it is kept fresh.
    pub(crate) fn keep_learnt(&self) {
        self.followed.notify_one();
    }

    /// Waits until somebody wants it kept fresh.
    pub(crate) async fn learning_wanted(&self) {
        self.followed.notified().await;
    }

    /// The index and what it taught, not older than [`LEARNT_FOR`]: for those who ask all the time.
    pub(crate) fn lately(
        &self,
        parts: &ApiParts,
    ) -> Result<(Arc<PassageIndex>, Arc<Learnt>), Problem> {
        let now = parts.clock.now();
        if let Latest { index: Some(index), learnt: Some(learnt) } = self.latest()
            && now.abs_diff(learnt.at) < LEARNT_FOR
        {
            return Ok((index, learnt));
        }
        let index = self.index(parts)?;
        let learnt = self.learnt(parts, &index)?;
        Ok((index, learnt))
    }

    /// The index as far as a caller may see it, and what all passages teach.
    pub(crate) fn seen(&self, parts: &ApiParts, reach: &Reach) -> Result<Seen, Problem> {
        let whole = self.index(parts)?;
        let learnt = self.learnt(parts, &whole)?;
        let view = reach.view(parts);
        let begins = whole.span().map_or(Timestamp::MAX, TimeSpan::first);
        let since = view.since().unwrap_or(Timestamp::MIN);
        let index = if view.sees_every_camera() && since <= begins {
            Arc::clone(&whole)
        } else {
            self.part(&whole, &view, since)
        };
        Ok(Seen { index, whole, learnt })
    }

    /// The part of the index that may be seen. Its beginning is rounded up to a day, so that it serves all day.
    fn part(&self, whole: &Arc<PassageIndex>, view: &View, since: Timestamp) -> Arc<PassageIndex> {
        let first = whole.span().map_or(since, |span| span.first().max(since));
        let since_day = first.utc_day() + i32::from(first == since);
        let serves = |n: &&Narrowed| {
            Arc::ptr_eq(&n.whole, whole)
                && n.since_day == since_day
                && n.cameras.as_ref() == view.cameras()
        };
        let mut kept = hold(&self.narrowed);
        if let Some(narrowed) = kept.iter().find(serves) {
            return Arc::clone(&narrowed.part);
        }
        kept.retain(|n| Arc::ptr_eq(&n.whole, whole));
        kept.truncate(NARROWED_MAX - 1);
        let begins = if first == since {
            Timestamp::from_secs(i64::from(since_day) * 86_400)
        } else {
            first
        };
        let part = Arc::new(whole.narrowed(begins, |camera| view.sees_camera(camera)));
        kept.insert(
            0,
            Narrowed {
                whole: Arc::clone(whole),
                cameras: view.cameras().cloned(),
                since_day,
                part: Arc::clone(&part),
            },
        );
        part
    }
}
