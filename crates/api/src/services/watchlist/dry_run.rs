use std::collections::{HashMap, HashSet};
use std::time::Duration;

use guiji_analysis::watch::WatchMatcher;
use guiji_domain::{
    Approval, CameraId, GeoPoint, InvalidValue, LikelyQuery, Sighting, SightingQuery, SortOrder,
    TimeSpan, Timestamp, VehicleClass, VehicleColour, WatchEntry, WatchEntryId, WatchTarget,
};

use super::{asked, refuse_unknown_cameras};
use crate::ApiParts;
use crate::auth::{Reach, View};
use crate::call::{Call, CallKind};
use crate::convert::{entry_from_pb, timestamp_from_pb, timestamp_to_pb};
use crate::error::Problem;
use crate::pb;
use crate::services::Services;
use crate::violations::Violations;

/// How far back, unless asked otherwise.
const BACK_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
/// How far back at most.
const BACK_MAX: Duration = Duration::from_secs(90 * 86_400);
/// Most examples of an answer.
const EXAMPLES_MAX: usize = 10;
/// Sightings of a page.
const PAGE: usize = 1000;
/// Where not all can be looked at: about so many sightings of each moment of the sample.
const SLICE: usize = 50;
/// Most parts that a time is cut into for sampling.
const SLICES_MAX: u32 = 1 << 20;

impl Services {
    pub(super) async fn dry_run(
        &self,
        call: &mut Call,
        request: pb::DryRunWatchlistEntryRequest,
    ) -> Result<pb::DryRunWatchlistEntryResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let now = self.core.parts.clock.now();
        let mut wrong = Violations::default();
        let given = wrong.require("watchlist_entry", request.watchlist_entry.as_ref());
        let start = match &request.start_time {
            None => Some(now.minus(BACK_DEFAULT)),
            Some(time) => wrong.take("start_time", timestamp_from_pb(time)),
        };
        if let Some(start) = start
            && (start < now.minus(BACK_MAX) || start > now)
        {
            wrong.add("start_time", format!("time {start}: give one of the last 90 days"));
        }
        wrong.done()?;
        let (Some(given), Some(start)) = (given, start) else {
            return Err(Problem::field("watchlist_entry", "is required"));
        };
        let entry = entry_from_pb(WatchEntryId::new("dry-run")?, given, &authority, now)?;
        call.asks(format!("{} since {start}", asked(&entry)));
        let reach = call.reach();
        let examined_max = self.core.settings.dry_run_examined_max;
        let ran = move |parts: &ApiParts| {
            refuse_unknown_cameras(parts, &entry)?;
            let span = reach.span("", TimeSpan::new(start, now)?)?;
            run(parts, &reach, entry, span, examined_max)
        };
        let answer = self.core.blocking("try a watch-list entry on the past", ran).await?;
        call.found(usize::try_from(answer.ring_count).unwrap_or(usize::MAX));
        Ok(answer)
    }
}

/// What was found on the way.
struct Rings<'a> {
    parts: &'a ApiParts,
    view: View,
    places: HashMap<CameraId, GeoPoint>,
    matcher: WatchMatcher,
    examined_max: usize,
    examined: u64,
    rings: f64,
    expected_true: f64,
    /// The least part of anything that was looked at.
    share: f64,
    examples: Vec<pb::DryRunRing>,
}

fn run(
    parts: &ApiParts,
    reach: &Reach,
    entry: WatchEntry,
    span: TimeSpan,
    examined_max: usize,
) -> Result<pb::DryRunWatchlistEntryResponse, Problem> {
    let view = reach.view(parts);
    let places: HashMap<CameraId, GeoPoint> = (parts.cameras.list().into_iter())
        .map(|(camera, _)| (camera.id, camera.position))
        .collect();
    let query = view.narrow(SightingQuery {
        cameras: cameras_of(&entry, &places),
        order: SortOrder::NewestFirst,
        ..SightingQuery::all_in(span, PAGE)
    });
    let target = entry.target.clone();
    let looks = looks_that_can_ring(&entry);
    // In force over the whole span, as if it had been entered and agreed to at its beginning.
    let hypothetical = WatchEntry {
        created: span.first(),
        expires: Timestamp::MAX,
        approval: Some(Approval { by: "dry run".into(), at: span.first() }),
        ..entry
    };
    let mut rings = Rings {
        parts,
        view,
        places,
        matcher: WatchMatcher::new(vec![hypothetical]),
        examined_max: examined_max.max(1),
        examined: 0,
        rings: 0.0,
        expected_true: 0.0,
        share: 1.0,
        examples: Vec::new(),
    };
    match target {
        WatchTarget::Plate(plate) => {
            let query = LikelyQuery {
                cameras: query.cameras,
                ..LikelyQuery::all_in(plate, span, examined_max)
            };
            let found = parts.likely.likely(&query)?;
            if found.len() >= examined_max {
                // The likeliest ones: what is left out is too improbable to ring for most thresholds.
                rings.share = 0.0;
            }
            found.iter().for_each(|likely| rings.look_at(&likely.sighting, 1.0));
        }
        // What was read as a text that matches is nearly all that rings, and found by an index. The rest rings by its
        // doubts.
        WatchTarget::Pattern(pattern) => {
            let texts = SightingQuery { plate: Some(pattern.clone()), ..query.clone() };
            rings.survey(&texts, |_| true)?;
            rings.survey(&query, |sighting| {
                sighting.plate_text().is_some_and(|text| !pattern.matches(text))
            })?;
        }
        WatchTarget::Description => {
            rings
                .survey(&SightingQuery { classes: looks.0, colours: looks.1, ..query }, |_| true)?;
        }
    }
    let Rings { examined, share, mut examples, .. } = rings;
    examples.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    examples.truncate(EXAMPLES_MAX);
    Ok(pb::DryRunWatchlistEntryResponse {
        ring_count: rings.rings.round() as u64,
        expected_true_count: rings.expected_true,
        examined_count: examined,
        truncated: share < 1.0,
        examined_start_time: Some(timestamp_to_pb(span.first())),
        examples,
        sampled_share: share,
    })
}

/// The cameras at which an entry can ring; `None` for all.
fn cameras_of(entry: &WatchEntry, places: &HashMap<CameraId, GeoPoint>) -> Option<Vec<CameraId>> {
    let named = (!entry.cameras.is_empty()).then(|| entry.cameras.clone());
    let Some(area) = entry.area else { return named };
    let inside = |id: &CameraId| places.get(id).is_some_and(|place| area.contains(place));
    Some(named.unwrap_or_else(|| places.keys().cloned().collect()))
        .map(|cameras| cameras.into_iter().filter(inside).collect())
}

/// The classes and colours that a vehicle may have been seen as to ring a description; empty for any. Whoever was seen
/// as another kind has at most an equal part of the rest.
fn looks_that_can_ring(entry: &WatchEntry) -> (Vec<VehicleClass>, Vec<VehicleColour>) {
    let sure = |kinds: usize| entry.threshold > 1.0 / (kinds - 1) as f32;
    let class = entry.vehicle.class.filter(|_| sure(VehicleClass::ALL.len()));
    let colour = entry.vehicle.colour.filter(|_| sure(VehicleColour::ALL.len()));
    (class.into_iter().collect(), colour.into_iter().collect())
}

impl Rings<'_> {
    /// Looks at all sightings of a query that are `wanted`; or, when there are more than a call may look at, at those of
    /// moments that are spread evenly over its whole time, each of which then stands for its like.
    fn survey(
        &mut self,
        query: &SightingQuery,
        wanted: impl Fn(&Sighting) -> bool,
    ) -> Result<(), Problem> {
        let count = self.count(query)?;
        if count <= self.examined_max {
            let mut all = Vec::new();
            if self.gather(query, self.examined_max, &mut all)? {
                self.take(all.iter().filter(|s| wanted(s)), 1.0);
                return Ok(());
            }
        }
        let slices = u32::try_from(count.max(self.examined_max) / SLICE).unwrap_or(SLICES_MAX);
        let slices = slices.clamp(1, SLICES_MAX).next_power_of_two();
        let (mut sample, mut looked_at) = (Vec::new(), 0);
        for number in 0..slices {
            if sample.len() >= self.examined_max {
                break;
            }
            // Counted backwards in bits: however many there will have been, they lie evenly.
            let unused_bits = u32::BITS - slices.trailing_zeros();
            let place = number.reverse_bits().checked_shr(unused_bits).unwrap_or(0);
            let slice = SightingQuery {
                span: part(query.span, place, slices)?,
                after: None,
                ..query.clone()
            };
            // A moment so full that it is cut off would have to hold more than all that is looked at otherwise.
            self.gather(&slice, self.examined_max, &mut sample)?;
            looked_at += 1;
        }
        let share = f64::from(looked_at) / f64::from(slices);
        self.take(sample.iter().filter(|s| wanted(s)), 1.0 / share);
        self.share = self.share.min(share);
        Ok(())
    }

    /// About how many sightings a query has, without those whose plate was not read.
    fn count(&self, query: &SightingQuery) -> Result<usize, Problem> {
        let cameras: Option<HashSet<&CameraId>> =
            query.cameras.as_ref().map(|cameras| cameras.iter().collect());
        let mut count = 0;
        self.parts.passages.passages(query.span, &mut |passage| {
            let listed = |wanted: bool, any: bool| any || wanted;
            count += usize::from(
                cameras.as_ref().is_none_or(|cameras| cameras.contains(passage.camera))
                    && listed(
                        passage.class.is_some_and(|class| query.classes.contains(&class)),
                        query.classes.is_empty(),
                    )
                    && listed(
                        passage.colour.is_some_and(|colour| query.colours.contains(&colour)),
                        query.colours.is_empty(),
                    )
                    && query.plate.as_ref().is_none_or(|plate| plate.matches(passage.plate)),
            );
        })?;
        Ok(count)
    }

    /// Reads the sightings of a query; false, when there are more than so many.
    fn gather(
        &self,
        query: &SightingQuery,
        most: usize,
        found: &mut Vec<Sighting>,
    ) -> Result<bool, Problem> {
        let mut query = query.clone();
        let limit = found.len().saturating_add(most);
        loop {
            let page = self.parts.store.search(&query)?;
            query.after = page.sightings.last().map(|last| (last.captured.at, last.id));
            found.extend(page.sightings);
            if found.len() > limit {
                return Ok(false);
            }
            if !page.more || query.after.is_none() {
                return Ok(true);
            }
        }
    }

    fn take<'s>(&mut self, sightings: impl Iterator<Item = &'s Sighting>, weight: f64) {
        sightings.for_each(|sighting| self.look_at(sighting, weight));
    }

    /// One that stands for so many.
    fn look_at(&mut self, sighting: &Sighting, weight: f64) {
        let at = sighting.captured.at;
        if !self.view.sees(&sighting.camera, at) {
            return;
        }
        self.examined += 1;
        let place = self.places.get(&sighting.camera);
        let Some(probability) =
            self.matcher.matches(sighting, place, at).first().map(|ring| ring.probability)
        else {
            return;
        };
        self.rings += weight;
        self.expected_true += f64::from(probability) * weight;
        self.examples.push(pb::DryRunRing {
            sighting: format!("sightings/{}", sighting.id),
            plate: sighting.plate_text().map_or_else(String::new, |text| text.as_str().to_owned()),
            camera: format!("cameras/{}", sighting.camera),
            capture_time: Some(timestamp_to_pb(at)),
            probability,
        });
    }
}

/// One of so many equal parts of a time.
fn part(span: TimeSpan, place: u32, parts: u32) -> Result<TimeSpan, InvalidValue> {
    let (first, last) = (i128::from(span.first().as_nanos()), i128::from(span.last().as_nanos()));
    let edge = |place: u32| first + (last - first + 1) * i128::from(place) / i128::from(parts);
    let nanos = |edge: i128| i64::try_from(edge).unwrap_or(i64::MAX);
    let (from, to) = (nanos(edge(place)), nanos(edge(place + 1) - 1));
    TimeSpan::new(Timestamp::from_nanos(from), Timestamp::from_nanos(to.max(from)))
}
