//! Cloned plates: the index says which sightings contradict, the store has what they look like.

use guiji_analysis::tactics::clone::{
    CloneSettings, PlateSighting, SIGHTINGS_MAX, Suspect, SuspectSettings, judge, suspects,
    suspicion, telling,
};
use guiji_analysis::tactics::{PassageIndex, VehicleKey};
use guiji_domain::{PlatePattern, PlateText, Sighting, SightingQuery, TimeSpan};

use super::question::Page;
use super::{plate_and_span, roads, vehicle};
use crate::ApiParts;
use crate::auth::Reach;
use crate::call::{Call, CallKind};
use crate::convert::{Names, View, sighting_to_pb, span_from_pb, verdict_to_pb};
use crate::error::Problem;
use crate::passages::{Learnt, Seen};
use crate::pb;
use crate::services::Services;
use crate::violations::Violations;

impl Services {
    pub(super) async fn judge_clone(
        &self,
        call: &mut Call,
        request: pb::JudgeCloneRequest,
    ) -> Result<pb::JudgeCloneResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        let (plate, span) = plate_and_span(call, &request.plate, start, end)?;
        call.asks(format!("is {plate} cloned, from {} to {}", span.first(), span.last()));
        let asked = start.map(|_| span.first());
        let named = plate.clone();
        let ask = move |parts: &ApiParts, seen: &Seen, reach: &Reach| {
            let key = vehicle(&seen.index, &plate)?;
            let settings = SuspectSettings::default();
            let suspect = suspicion(&seen.index, &seen.learnt.positions, key, span, &settings);
            let verdict = verdict(parts, seen, reach, &suspect, span)?;
            let verdict = verdict.ok_or_else(|| {
                Problem::field(
                    "plate",
                    format!("{plate} has fewer than two sightings: none to judge"),
                )
            })?;
            let coverage = Some(Names(&seen.index).coverage(asked));
            Ok(pb::JudgeCloneResponse { verdict: Some(verdict), coverage })
        };
        let answer = self.on_index_of(call, &named, "judge a plate", ask).await?;
        call.found(1);
        Ok(answer)
    }

    pub(super) async fn list_clones(
        &self,
        call: &mut Call,
        request: pb::ListClonesRequest,
    ) -> Result<pb::ListClonesResponse, Problem> {
        /// Each suspect of a page costs some dozen looks into the store.
        const PAGE_MAX: usize = 100;
        const PAGE_USUAL: i32 = 20;
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        let span = span_from_pb(&mut wrong, "", start, end);
        let question = pb::ListClonesRequest {
            authority: None,
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let size = if request.page_size == 0 { PAGE_USUAL } else { request.page_size };
        let page = Page::from_pb(&mut wrong, "clones", &question, size, &request.page_token);
        let page = page.of_at_most(PAGE_MAX);
        wrong.done()?;
        let span = call.reach().span("", span)?;
        let asked = start.map(|_| span.first());
        call.asks(format!("cloned plates from {} to {}", span.first(), span.last()));
        let cleared_too = request.include_cleared;
        let ask = move |parts: &ApiParts, seen: &Seen, reach: &Reach| {
            let settings = SuspectSettings::default();
            let all = suspects(&seen.index, &seen.learnt.positions, span, &settings);
            let (on_page, next_page_token) = page.slice(&all);
            let mut verdicts = Vec::new();
            for suspect in on_page {
                let verdict = verdict(parts, seen, reach, suspect, span)?;
                let told =
                    |v: &pb::CloneVerdict| cleared_too || v.finding() == pb::CloneFinding::Clone;
                verdicts.extend(verdict.filter(told));
            }
            Ok(pb::ListClonesResponse {
                verdicts,
                next_page_token,
                suspect_count: u32::try_from(all.len()).unwrap_or(u32::MAX),
                coverage: Some(Names(&seen.index).coverage(asked)),
            })
        };
        let answer = self.on_index(call, "look for clones", ask).await?;
        call.found(answer.verdicts.len());
        Ok(answer)
    }
}

/// Judges the sightings of a plate that tell most; `None` when there are fewer than two.
fn verdict(
    parts: &ApiParts,
    seen: &Seen,
    reach: &Reach,
    suspect: &Suspect,
    span: TimeSpan,
) -> Result<Option<pb::CloneVerdict>, Problem> {
    let (index, learnt) = (&seen.index, &seen.learnt);
    let Some(plate) = index.plate(suspect.vehicle) else { return Ok(None) };
    let places = places_to_judge(seen, suspect.vehicle, suspect, span);
    let way: Vec<_> = index.way(suspect.vehicle).within(span).iter().collect();
    let mut judged = Vec::new();
    for (at, camera) in places.into_iter().filter_map(|place| way.get(place)) {
        let Some(camera) = index.camera_id(*camera) else { continue };
        let query = SightingQuery {
            plate: Some(PlatePattern::parse(plate.as_str())?),
            cameras: Some(vec![camera.clone()]),
            ..SightingQuery::all_in(TimeSpan::at(*at), 1)
        };
        let found = parts.store.search(&reach.view(parts).narrow(query))?.sightings;
        // Retention may have taken it since the index was built.
        let Some(sighting) = found.into_iter().next() else { continue };
        judged.push(sighting);
    }
    let side_by_side = side_by_side(suspect, &way, &judged, seen);
    let verdict = judge_sightings(plate, judged, &seen.whole, learnt)?;
    Ok(verdict.map(|verdict| pb::CloneVerdict {
        side_by_side,
        contradiction_count: u32::try_from(suspect.contradictions.len()).unwrap_or(u32::MAX),
        ..verdict
    }))
}

/// Judges these sightings of a plate, the clocks that are known to be wrong set right and the reads' doubts weighed by who
/// passes, of all that pass; `None` when there are fewer than two.
pub(super) fn judge_sightings(
    plate: &PlateText,
    sightings: Vec<Sighting>,
    whole: &PassageIndex,
    learnt: &Learnt,
) -> Result<Option<pb::CloneVerdict>, Problem> {
    let set_right = |sighting: Sighting| {
        let mut plain = PlateSighting::of(&sighting)?;
        plain.set_right(learnt.clocks.get(&plain.camera).copied());
        plain.weigh_rivals(plate, whole, roads(learnt));
        Some((plain, sighting))
    };
    let mut judged: Vec<_> = sightings.into_iter().filter_map(set_right).collect();
    if judged.len() < 2 {
        return Ok(None);
    }
    // In the order in which the verdict counts them.
    judged.sort_by(|(a, _), (b, _)| (a.captured.at, &a.camera).cmp(&(b.captured.at, &b.camera)));
    let plain: Vec<_> = judged.iter().map(|(plain, _)| plain.clone()).collect();
    let verdict = judge(&plain, roads(learnt), &CloneSettings::default())?;
    Ok(Some(pb::CloneVerdict {
        sightings: judged.iter().map(|(_, s)| format!("sightings/{}", s.id)).collect(),
        ..verdict_to_pb(plate.as_str(), &verdict)
    }))
}

/// What contradicts and what lies beside it, or the latest.
fn places_to_judge(
    seen: &Seen,
    vehicle: VehicleKey,
    suspect: &Suspect,
    span: TimeSpan,
) -> Vec<usize> {
    let length = seen.index.way(vehicle).within(span).times.len();
    if suspect.contradictions.is_empty() {
        return (length.saturating_sub(SIGHTINGS_MAX)..length).collect();
    }
    telling(suspect, length)
}

/// Both ends of the fastest trip.
fn side_by_side(
    suspect: &Suspect,
    way: &[(guiji_domain::Timestamp, guiji_analysis::tactics::CameraKey)],
    judged: &[Sighting],
    seen: &Seen,
) -> Vec<pb::Sighting> {
    let Some(from) = suspect.contradictions.first() else { return Vec::new() };
    let ends = [way.get(*from), way.get(from + 1)].into_iter().flatten();
    let found = ends.filter_map(|(at, camera)| {
        let camera = seen.index.camera_id(*camera)?;
        judged.iter().find(|s| s.captured.at == *at && s.camera == *camera)
    });
    found.map(|sighting| sighting_to_pb(sighting, View::Basic)).collect()
}
