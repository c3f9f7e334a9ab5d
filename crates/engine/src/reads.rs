//! Whether the cameras read as many plates as usual: counts what they read, and asks the store what they read in the
//! same hours of the last weeks. Nothing of it needs to be kept: after a restart the store is asked again.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guiji_analysis::reads::{
    Counted, HOUR, Usual, Verdict, hour_of, judge, share_of_all, weeks_before,
};
use guiji_domain::{
    CameraId, Clock, CoverageStore, Covered, PassageSource, ReadRate, Sighting, SightingStage,
    StoreError, TimeSpan, Timestamp,
};
use tracing::{error, info, warn};

use crate::cameras::{CameraCell, Cells};

/// How often cameras are judged.
const JUDGED_EVERY: Duration = Duration::from_secs(60);
/// How soon what could not be read is read again.
const LEARNT_AGAIN: Duration = Duration::from_secs(60);
/// Below this share of what is usual it is worth asking for how long the camera could see.
const DOUBTFUL: f64 = 0.9;

/// Counts and judges.
pub(crate) struct ReadKeeper {
    passages: Arc<dyn PassageSource>,
    coverage: Arc<dyn CoverageStore>,
    clock: Arc<dyn Clock>,
    cells: Arc<Cells>,
    /// What was captured until then is in the store.
    begun: Timestamp,
    counts: Mutex<Counts>,
}

/// Plates read, by hour and camera, of this hour and the last one.
#[derive(Default)]
struct Counts(BTreeMap<Timestamp, HashMap<CameraId, u32>>);

impl Counts {
    fn add(&mut self, hour: Timestamp, camera: &CameraId) {
        let of_hour = self.0.entry(hour).or_default();
        match of_hour.get_mut(camera) {
            Some(count) => *count = count.saturating_add(1),
            None => _ = of_hour.insert(camera.clone(), 1),
        }
    }

    fn of(&self, hour: Timestamp, camera: &CameraId) -> u32 {
        self.0.get(&hour).and_then(|cameras| cameras.get(camera)).copied().unwrap_or_default()
    }
}

/// What is usual in an hour, of each camera that was asked about.
type Hour = HashMap<CameraId, Option<Usual>>;

/// What is usual in this hour and the last one, as far as it is learnt.
#[derive(Default)]
struct Learnt {
    hours: BTreeMap<Timestamp, Hour>,
    /// What this run of the program did not count itself was taken from the store.
    caught_up: bool,
    not_before: Option<Timestamp>,
    judged: Option<Timestamp>,
}

fn whole(hour: Timestamp) -> Option<TimeSpan> {
    TimeSpan::new(hour, hour.plus(HOUR).minus(Duration::from_nanos(1))).ok()
}

impl ReadKeeper {
    pub(crate) fn new(
        passages: Arc<dyn PassageSource>,
        coverage: Arc<dyn CoverageStore>,
        clock: Arc<dyn Clock>,
        cells: Arc<Cells>,
    ) -> Self {
        let begun = clock.now();
        Self { passages, coverage, clock, cells, begun, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a sighting that was stored.
    pub(crate) fn stored(&self, sighting: &Sighting) {
        let at = sighting.captured.at;
        let counts = sighting.stage == SightingStage::Final
            && sighting.plate_text().is_some()
            && at > self.begun
            && at.abs_diff(self.clock.now()) < 2 * HOUR;
        if counts {
            self.counts().add(hour_of(at), &sighting.camera);
        }
    }

    /// Runs until the stop's sender is gone.
    pub(crate) fn run(&self, stopped: &Receiver<()>) {
        let mut learnt = Learnt::default();
        while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            self.tend(&mut learnt);
        }
    }

    /// Learns what is due, and judges once a minute.
    fn tend(&self, learnt: &mut Learnt) {
        let now = self.clock.now();
        if learnt.judged.is_some_and(|at| now.abs_diff(at) < JUDGED_EVERY)
            || learnt.not_before.is_some_and(|at| now < at && at.since(now) <= LEARNT_AGAIN)
        {
            return;
        }
        if let Err(error) = self.learn(learnt, now) {
            learnt.not_before = Some(now.plus(LEARNT_AGAIN));
            error!(%error, "how many plates are usual could not be read; tried again in a minute");
            return;
        }
        learnt.judged = Some(now);
        self.judge_all(learnt, now);
    }

    fn learn(&self, learnt: &mut Learnt, now: Timestamp) -> Result<(), StoreError> {
        let hour = hour_of(now);
        let hours = [hour.minus(HOUR), hour];
        if !learnt.caught_up {
            let earlier = TimeSpan::new(hours[0], self.begun);
            let mut before = Counts::default();
            if let Ok(span) = earlier {
                self.passages.passages(span, &mut |it| before.add(hour_of(it.at), it.camera))?;
            }
            let mut counts = self.counts();
            for (hour, cameras) in before.0 {
                for (camera, count) in cameras {
                    *counts.0.entry(hour).or_default().entry(camera).or_default() += count;
                }
            }
            learnt.caught_up = true;
        }
        for hour in hours {
            let of_hour = learnt.hours.entry(hour).or_default();
            let live = self.cells.all().into_iter().filter(|cell| cell.is_live());
            let mut new: Vec<_> = live.map(|cell| cell.camera.id.clone()).collect();
            new.retain(|camera| !of_hour.contains_key(camera));
            if !new.is_empty() {
                of_hour.extend(self.usual_of(hour, new)?);
            }
        }
        learnt.hours.retain(|hour, _| hours.contains(hour));
        self.counts().0.retain(|hour, _| *hour >= hours[0]);
        Ok(())
    }

    /// What each of these cameras reads in this hour of the week.
    fn usual_of(&self, hour: Timestamp, cameras: Vec<CameraId>) -> Result<Hour, StoreError> {
        let mut weeks: HashMap<CameraId, Vec<Counted>> =
            cameras.into_iter().map(|camera| (camera, Vec::new())).collect();
        for before in weeks_before(hour) {
            let Some(span) = whole(before) else { continue };
            let mut read: HashMap<CameraId, u32> = HashMap::new();
            self.passages.passages(span, &mut |it| {
                if weeks.contains_key(it.camera) {
                    *read.entry(it.camera.clone()).or_default() += 1;
                }
            })?;
            for (camera, weeks) in &mut weeks {
                let seen = self.share_seen(camera, span)?;
                weeks.push(Counted { read: read.remove(camera).unwrap_or_default(), seen });
            }
        }
        Ok(weeks.into_iter().map(|(camera, weeks)| (camera, Usual::of(&weeks))).collect())
    }

    /// The share of a span in which a camera could see.
    fn share_seen(&self, camera: &CameraId, span: TimeSpan) -> Result<f64, StoreError> {
        let told = self.coverage.coverage(std::slice::from_ref(camera), span)?;
        let nanos = span.duration().as_nanos().max(1) as f64;
        Ok(Covered::of(&told, span).seeing_ns as f64 / nanos)
    }

    fn judge_all(&self, learnt: &Learnt, now: Timestamp) {
        let cells: Vec<_> = self.cells.all().into_iter().filter(|cell| cell.is_live()).collect();
        let first: Vec<_> =
            cells.iter().map(|cell| self.judged(cell, learnt, now, false, 1.0)).collect();
        let all = share_of_all(first.iter().flatten().filter_map(Verdict::ratio));
        for (cell, first) in cells.iter().zip(first) {
            let doubtful = first.is_some_and(|it| it.ratio().is_some_and(|it| it < DOUBTFUL));
            let verdict = if doubtful { self.judged(cell, learnt, now, true, all) } else { first };
            self.tell(cell, verdict, now);
        }
    }

    /// `narrowly`: by the time that the camera could see.
    fn judged(
        &self,
        cell: &CameraCell,
        learnt: &Learnt,
        now: Timestamp,
        narrowly: bool,
        all: f64,
    ) -> Option<Verdict> {
        let (camera, hour) = (&cell.camera.id, hour_of(now));
        let counted = |hour: Timestamp| {
            let end = hour.plus(HOUR).minus(Duration::from_nanos(1)).min(now);
            let over = end.since(hour).as_secs_f64() / HOUR.as_secs_f64();
            let seen = match TimeSpan::new(hour, end) {
                Ok(span) if narrowly => over * self.share_seen(camera, span).ok()?,
                _ => over,
            };
            let read = self.counts().of(hour, camera);
            let usual = learnt.hours.get(&hour).and_then(|usual| *usual.get(camera)?);
            Some((Counted { read, seen }, usual))
        };
        judge(counted(hour)?, counted(hour.minus(HOUR)), all)
    }

    fn tell(&self, cell: &CameraCell, verdict: Option<Verdict>, now: Timestamp) {
        let rate = verdict.map(|it| ReadRate {
            since: if it.with_last_hour { hour_of(now).minus(HOUR) } else { hour_of(now) },
            read: it.read,
            usual: it.usual,
            too_few: it.too_few,
        });
        let before = cell.reads_at(rate);
        let (was, is) = [before, rate].map(|it| it.is_some_and(|it| it.too_few)).into();
        let camera = &cell.camera.id;
        match rate {
            Some(rate) if is && !was => {
                let detail = in_words(&rate);
                warn!(%camera, detail, "camera reads far fewer plates than usual");
            }
            _ if was && !is => info!(%camera, "camera reads as many plates as usual again"),
            _ => {}
        }
    }
}

/// One sentence for a person.
pub(crate) fn in_words(rate: &ReadRate) -> String {
    let fewer = ((1.0 - rate.ratio()) * 100.0).round();
    let ReadRate { read, usual, .. } = rate;
    format!(
        "reads {fewer} % fewer plates than is usual at this hour of the week: {read} of about {usual:.0}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let since = Timestamp::EPOCH;
        let rate = ReadRate { since, read: 9, usual: 50.4, too_few: true };
        let words = "reads 82 % fewer plates than is usual at this hour of the week: 9 of about 50";
        assert_eq!(in_words(&rate), words);
    }
}
