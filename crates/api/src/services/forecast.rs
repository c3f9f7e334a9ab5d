//! Forecasts as they are told: with alerts, and when asked for.

use std::sync::Arc;
use std::time::Duration;

use guiji_analysis::tactics::forecast::{Habit, LastSeen};
use guiji_domain::{
    Alert, AlertId, AlertStage, CameraId, CameraState, PlatePattern, PlateText, SightingQuery,
    SortOrder, TimeSpan, Timestamp,
};
use tracing::warn;

use super::Services;
use crate::ApiParts;
use crate::auth::View;
use crate::call::Core;
use crate::convert::{camera_name, point_to_pb, timestamp_to_pb};
use crate::error::Problem;
use crate::passages::{HORIZON, LEARNT_FOR, Latest, Learnt};
use crate::pb;

/// Cameras told with an alert.
const CAMERAS_TOLD: usize = 5;
/// Alerts of a stream whose vehicles may still come; of more, the oldest are given up.
const FOLLOWED_MAX: usize = 256;
/// Times that the forecast of an alert is drawn anew.
const REDRAWS_MAX: u32 = 5;
/// Only when it does not come to a camera this likely is the forecast drawn anew.
pub(super) const LIKELY: f64 = 0.05;

/// What comes after a sighting, as far as somebody may see it.
pub(super) struct Told {
    pub(super) next: Vec<pb::NextCamera>,
    pub(super) ended: f64,
    pub(super) passed_unseen: f64,
    pub(super) elsewhere: f64,
    /// When the first window ends that has not ended yet.
    due: Option<Timestamp>,
}

/// Draws what comes after a sighting when nothing was seen until `as_of`; at most so many cameras of it.
pub(super) fn tell(
    parts: &ApiParts,
    learnt: &Learnt,
    view: &View,
    (seen, habit): (LastSeen<'_>, &Habit),
    as_of: Timestamp,
    most: usize,
) -> Told {
    /// The share of the vehicles that a camera which runs does see.
    const SEES: f64 = 0.97;
    /// In so short a time, no camera can have missed it.
    const FRESH: Duration = Duration::from_secs(5);
    // A camera that does not run now saw nothing of late either: its share stays.
    let mut blind = Vec::new();
    if as_of.since(seen.at) > FRESH {
        blind.extend(parts.cameras.list().into_iter().filter_map(|(camera, health)| {
            (camera.enabled && health.status.state != CameraState::Live).then_some(camera.id)
        }));
    }
    let sees = |camera: &CameraId| if blind.contains(camera) { 0.0 } else { SEES };
    let drawn = learnt.forecaster.redraw(seen, habit, as_of, sees);
    let mut told = Told {
        next: Vec::new(),
        ended: drawn.ended,
        passed_unseen: drawn.passed_unseen,
        elsewhere: drawn.elsewhere,
        due: None,
    };
    for outcome in &drawn.next {
        if told.next.len() >= most || !view.sees_camera(&outcome.camera) {
            told.elsewhere += outcome.probability;
            continue;
        }
        let window = outcome.window;
        if outcome.probability >= LIKELY && window.last() > as_of {
            told.due = Some(told.due.map_or(window.last(), |due| due.min(window.last())));
        }
        told.next.push(pb::NextCamera {
            camera: camera_name(&outcome.camera),
            probability: outcome.probability,
            window_start_time: Some(timestamp_to_pb(window.first())),
            window_end_time: Some(timestamp_to_pb(window.last())),
            median_time: Some(timestamp_to_pb(outcome.median)),
            position: learnt.positions.get(&outcome.camera).map(point_to_pb),
        });
    }
    told
}

/// A vehicle that rang and may come somewhere.
#[derive(Debug, Clone)]
struct Followed {
    alert: AlertId,
    camera: CameraId,
    at: Timestamp,
    plate: Option<PlateText>,
    /// The cameras that it passed before in this drive, latest first.
    before: Vec<CameraId>,
    due: Timestamp,
    redraws: u32,
}

/// The vehicles of one stream that have not come yet.
#[derive(Debug, Default)]
pub(super) struct Awaited(Vec<Followed>);

impl Awaited {
    /// The alert as it is sent, with its forecast. Never waits for anything to be learnt.
    pub(super) fn forecast(
        &mut self,
        core: &Core,
        view: &View,
        alert: &Alert,
    ) -> Option<pb::AlertForecast> {
        // Whatever is known of it now, it was known less before.
        self.0.retain(|followed| followed.alert != alert.id || !alert.stage.is_finding());
        if !alert.stage.is_finding() || alert.stage == AlertStage::Withdrawn {
            return None;
        }
        let now = core.parts.clock.now();
        let (at, camera) = (alert.captured.at, alert.camera.clone());
        let (alert, plate) = (alert.id.clone(), alert.read.clone());
        let before = plate.as_ref().map(|plate| drive_before(core, view, plate, at));
        let mut followed = Followed {
            alert,
            camera,
            at,
            plate,
            before: before.unwrap_or_default(),
            due: at,
            redraws: 0,
        };
        let (forecast, due) = draw(core, view, &followed, now);
        if let Some(due) = due.filter(|_| followed.plate.is_some()) {
            if self.0.len() >= FOLLOWED_MAX {
                self.0.remove(0);
            }
            followed.due = due;
            self.0.push(followed);
        }
        Some(forecast)
    }

    /// When to look next whether one has come.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.0.iter().map(|followed| followed.due).min()
    }

    /// Forgets those that have come, and draws anew for those that should have; blocking.
    pub(super) fn redraw(
        &mut self,
        core: &Core,
        view: &View,
    ) -> Result<Vec<pb::ForecastRedrawn>, Problem> {
        let now = core.parts.clock.now();
        let mut redrawn = Vec::new();
        for mut followed in std::mem::take(&mut self.0) {
            if followed.due > now {
                self.0.push(followed);
                continue;
            }
            if has_come(&core.parts, &followed, now)? {
                continue;
            }
            let (forecast, due) = draw(core, view, &followed, now);
            let alert = format!("alerts/{}", followed.alert);
            redrawn.push(pb::ForecastRedrawn { alert, forecast: Some(forecast) });
            followed.redraws += 1;
            if let Some(due) = due.filter(|_| followed.redraws < REDRAWS_MAX) {
                followed.due = due;
                self.0.push(followed);
            }
        }
        Ok(redrawn)
    }
}

/// Whether the plate was seen after the sighting that rang.
fn has_come(parts: &ApiParts, followed: &Followed, now: Timestamp) -> Result<bool, Problem> {
    let after = Timestamp::from_nanos(followed.at.as_nanos().saturating_add(1));
    let Some(plate) = &followed.plate else { return Ok(false) };
    let query = SightingQuery {
        plate: Some(PlatePattern::parse(plate.as_str())?),
        ..SightingQuery::all_in(TimeSpan::new(after, now.max(after))?, 1)
    };
    Ok(!parts.store.search(&query)?.sightings.is_empty())
}

/// The cameras at which a plate was seen before a time in the same drive, latest first; none where that cannot be read,
/// since an alert goes out without it too.
fn drive_before(core: &Core, view: &View, plate: &PlateText, at: Timestamp) -> Vec<CameraId> {
    /// So many decide; the first of a longer drive hardly does.
    const SIGHTINGS_MAX: usize = 12;
    let look = || {
        let span = TimeSpan::new(
            at.minus(HORIZON * SIGHTINGS_MAX as u32),
            Timestamp::from_nanos(at.as_nanos().saturating_sub(1)),
        )?;
        let query = SightingQuery {
            plate: Some(PlatePattern::parse(plate.as_str())?),
            order: SortOrder::NewestFirst,
            ..SightingQuery::all_in(span, SIGHTINGS_MAX)
        };
        Ok::<_, Problem>(core.parts.store.search(&view.narrow(query))?.sightings)
    };
    let found = look().unwrap_or_else(|problem| {
        warn!(?problem, "an alert's drive could not be read; it is forecast without");
        Vec::new()
    });
    let mut later = at;
    let same_drive = found.into_iter().take_while(|sighting| {
        let near = later.since(sighting.captured.at) <= HORIZON;
        later = sighting.captured.at;
        near && view.sees(&sighting.camera, later)
    });
    same_drive.map(|sighting| sighting.camera).collect()
}

/// With what everybody does and what this vehicle does, as far as it was learnt and may be seen.
fn draw(
    core: &Core,
    view: &View,
    followed: &Followed,
    now: Timestamp,
) -> (pb::AlertForecast, Option<Timestamp>) {
    use pb::AlertForecastState::{Drawn, NotLearnt, Over};
    let none = |state: pb::AlertForecastState| {
        let as_of_time = Some(timestamp_to_pb(now));
        pb::AlertForecast { state: state.into(), as_of_time, ..Default::default() }
    };
    let Followed { camera, at, before, plate, .. } = followed;
    if at.plus(HORIZON) <= now {
        return (none(Over), None);
    }
    let Latest { index, learnt } = core.passages.latest();
    let Some(learnt) = learnt.filter(|learnt| learnt.forecaster.knows(camera)) else {
        return (none(NotLearnt), None);
    };
    let known = index.as_ref().zip(plate.as_ref());
    let vehicle = known.and_then(|(index, plate)| Some((index, index.vehicle(plate)?)));
    let habit = vehicle.map_or_else(Habit::default, |(index, vehicle)| {
        learnt.forecaster.habit(index, vehicle, *at, |camera, at| view.sees(camera, at))
    });
    let seen = LastSeen { before, camera, at: *at };
    let told = tell(&core.parts, &learnt, view, (seen, &habit), now.max(*at), CAMERAS_TOLD);
    let forecast = pb::AlertForecast {
        next: told.next,
        ended: told.ended,
        passed_unseen: told.passed_unseen,
        elsewhere: told.elsewhere,
        ..none(Drawn)
    };
    (forecast, told.due)
}

impl Services {
    /// Keeps what is learnt fresh, from the first follower of alerts on.
    pub(crate) async fn keep_forecasts_learnt(self) {
        self.core.passages.learning_wanted().await;
        loop {
            let core = Arc::clone(&self.core);
            let learning = tokio::task::spawn_blocking(move || {
                let index = core.passages.index(&core.parts)?;
                core.passages.learnt(&core.parts, &index)
            });
            match learning.await {
                Ok(Ok(_)) => {}
                Ok(Err(problem)) => warn!(?problem, "the roads could not be learnt; tried again"),
                Err(error) => warn!(%error, "learning the roads panicked; tried again"),
            }
            tokio::time::sleep(LEARNT_FOR).await;
        }
    }
}
