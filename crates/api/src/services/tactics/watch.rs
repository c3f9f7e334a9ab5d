//! Clones as they show: each sighting is compared with the last of its plate as it arrives, and suspects are judged one
//! after the other, on their latest sightings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use guiji_analysis::tactics::clone::{SIGHTINGS_MAX, SuspectSettings, least_kmh};
use guiji_domain::{
    CameraId, GeoPoint, PlatePattern, Sighting, SightingQuery, SortOrder, TimeSpan, Timestamp,
};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::clones::judge_sightings;
use crate::ApiParts;
use crate::auth::Reach;
use crate::call::{Call, CallKind, Core, Sink, StreamEnd};
use crate::clone_watch::{Contradiction, ShownClone};
use crate::convert::{View, sighting_to_pb, timestamp_to_pb};
use crate::error::Problem;
use crate::pb;
use crate::services::Services;

/// Suspects that wait to be judged; one more is left to ListClones.
const SUSPECTS_AHEAD: usize = 256;
/// Where the cameras stand is looked up again after this.
const POSITIONS_FOR: Duration = Duration::from_secs(60);

/// Where the cameras stand, not older than a minute.
type Positions = Mutex<Option<(Instant, Arc<HashMap<CameraId, GeoPoint>>)>>;

fn positions(parts: &ApiParts, kept: &Positions) -> Arc<HashMap<CameraId, GeoPoint>> {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, positions)) = kept.as_ref().filter(|(at, _)| at.elapsed() < POSITIONS_FOR) {
        debug!(age = ?at.elapsed(), "positions are known");
        return Arc::clone(positions);
    }
    let cameras = parts.cameras.list().into_iter();
    let new = Arc::new(cameras.map(|(camera, _)| (camera.id, camera.position)).collect());
    *kept = Some((Instant::now(), Arc::clone(&new)));
    new
}

impl Services {
    /// Keeps the index fresh and looks for clones, until the feed ends.
    pub(crate) async fn watch_for_clones(self, live: broadcast::Receiver<Arc<Sighting>>) {
        let core = self.core;
        let (suspects, mut to_judge) = mpsc::channel::<Contradiction>(SUSPECTS_AHEAD);
        let kept = Positions::default();
        let listening = core.passages.listen(live, |sighting| {
            let positions = positions(&core.parts, &kept);
            if let Some(contradiction) = core.clones.consider(sighting, &positions)
                && suspects.try_send(contradiction).is_err()
            {
                warn!("too many suspects at once: one is left to ListClones");
            }
        });
        let judging = async {
            while let Some(contradiction) = to_judge.recv().await {
                judge_now(&core, contradiction).await;
            }
        };
        tokio::select! {
            () = listening => {}
            () = judging => {}
        }
    }

    pub(super) fn begin_watch_clones(
        &self,
        call: &mut Call,
        request: pb::WatchClonesRequest,
    ) -> Result<Reach, Problem> {
        call.admit(CallKind::Stream, request.authority.as_ref())?;
        call.asks("cloned plates as they show");
        Ok(call.reach())
    }
}

/// Judges a plate by its latest sightings, and tells when it is a clone.
async fn judge_now(core: &Arc<Core>, contradiction: Contradiction) {
    let (judging, plate) = (Arc::clone(core), contradiction.plate.clone());
    let judge = move |parts: &ApiParts| latest(&judging, parts, &contradiction);
    match core.blocking("judge a plate", judge).await {
        Ok(Some(clone)) => {
            info!(%plate, probability = clone.verdict.probability, "a cloned plate shows");
            if let Some((_, at)) = clone.seen.first() {
                core.clones.told(&plate, *at);
            }
            core.clones.show(clone);
        }
        Ok(None) => debug!(%plate, "a suspect is no clone so far"),
        Err(problem) => warn!(%plate, ?problem, "a suspect could not be judged"),
    }
}

/// The verdict on a plate's latest sightings, if it is a clone, with the two that contradict each other.
fn latest(
    core: &Core,
    parts: &ApiParts,
    contradiction: &Contradiction,
) -> Result<Option<ShownClone>, Problem> {
    let (index, learnt) = core.passages.lately(parts)?;
    let Contradiction { plate, ends } = contradiction;
    let query = SightingQuery {
        plate: Some(PlatePattern::parse(plate.as_str())?),
        order: SortOrder::NewestFirst,
        ..SightingQuery::all_in(TimeSpan::ALL, SIGHTINGS_MAX)
    };
    let sightings = parts.store.search(&query)?.sightings;
    let seen = sightings.iter().map(|s| (s.camera.clone(), s.captured.at)).collect();
    let end = |(camera, at): &(CameraId, Timestamp)| {
        sightings.iter().find(|s| s.camera == *camera && s.captured.at == *at)
    };
    let side_by_side =
        ends.iter().filter_map(end).map(|s| sighting_to_pb(s, View::Basic)).collect();
    let contradiction_count = contradictions(&sightings, &learnt.positions);
    let verdict = judge_sightings(plate, sightings, &index, &learnt)?;
    let clone = verdict.filter(|verdict| verdict.finding() == pb::CloneFinding::Clone);
    Ok(clone.map(|verdict| ShownClone {
        verdict: pb::CloneVerdict { side_by_side, contradiction_count, ..verdict },
        seen,
    }))
}

/// How many trips between sightings, newest first, one vehicle can hardly have made.
fn contradictions(sightings: &[Sighting], positions: &HashMap<CameraId, GeoPoint>) -> u32 {
    let settings = SuspectSettings::default();
    let fast = |pair: &&[Sighting]| {
        let [later, earlier] = pair else { return false };
        let place = |sighting: &Sighting| positions.get(&sighting.camera);
        let metres = place(earlier).zip(place(later)).map(|(a, b)| a.distance_m(b));
        let elapsed = later.captured.at.abs_diff(earlier.captured.at);
        let kmh = metres.and_then(|metres| least_kmh(metres, elapsed, settings.slack));
        kmh.is_some_and(|kmh| kmh >= settings.least_kmh)
    };
    u32::try_from(sightings.windows(2).filter(fast).count()).unwrap_or(u32::MAX)
}

/// Sends what shows and may be seen.
pub(super) async fn send_clones(
    core: Arc<Core>,
    sink: Sink<pb::WatchClonesResponse>,
    reach: Reach,
) -> Result<(), StreamEnd> {
    use pb::watch_clones_response::Event;
    let mut shown = core.clones.subscribe();
    let opened = pb::FeedOpened { server_time: Some(timestamp_to_pb(core.parts.clock.now())) };
    sink.send(pb::WatchClonesResponse { event: Some(Event::Opened(opened)) }, 0).await?;
    loop {
        match shown.recv().await {
            Ok(clone) => {
                let view = reach.view(&core.parts);
                // A verdict on sightings of which some are hidden would tell of them.
                if clone.seen.iter().all(|(camera, at)| view.sees(camera, *at)) {
                    let event = Some(Event::Verdict(clone.verdict.clone()));
                    sink.send(pb::WatchClonesResponse { event }, 1).await?;
                }
            }
            // So far behind: ListClones has what was missed.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Err(Problem::Draining.into()),
        }
    }
}
