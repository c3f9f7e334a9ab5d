use std::time::Duration;

use guiji_analysis::watch::WatchMatcher;
use guiji_domain::{
    Approval, LikelyQuery, Sighting, SightingQuery, SortOrder, TimeSpan, Timestamp, WatchEntry,
    WatchEntryId, WatchTarget,
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
/// Most sightings looked at: some seconds.
const EXAMINED_MAX: usize = 20_000;
/// Most examples of an answer.
const EXAMPLES_MAX: usize = 10;
/// Sightings of a page.
const PAGE: usize = 1000;

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
        let ran = move |parts: &ApiParts| {
            refuse_unknown_cameras(parts, &entry)?;
            let span = reach.span("", TimeSpan::new(start, now)?)?;
            run(parts, &reach, entry, span)
        };
        let answer = self.core.blocking("try a watch-list entry on the past", ran).await?;
        call.found(usize::try_from(answer.ring_count).unwrap_or(usize::MAX));
        Ok(answer)
    }
}

/// Rings on the way.
struct Rings {
    matcher: WatchMatcher,
    answer: pb::DryRunWatchlistEntryResponse,
}

fn run(
    parts: &ApiParts,
    reach: &Reach,
    entry: WatchEntry,
    span: TimeSpan,
) -> Result<pb::DryRunWatchlistEntryResponse, Problem> {
    let view = reach.view(parts);
    let target = entry.target.clone();
    let query = view.narrow(SightingQuery {
        plate: match &target {
            WatchTarget::Plate(_) | WatchTarget::Description => None,
            WatchTarget::Pattern(pattern) => Some(pattern.clone()),
        },
        cameras: (!entry.cameras.is_empty()).then(|| entry.cameras.clone()),
        order: SortOrder::NewestFirst,
        ..SightingQuery::all_in(span, PAGE)
    });
    // In force over the whole span, as if it had been entered and agreed to at its beginning.
    let hypothetical = WatchEntry {
        created: span.first(),
        expires: Timestamp::MAX,
        approval: Some(Approval { by: "dry run".into(), at: span.first() }),
        ..entry
    };
    let mut rings = Rings {
        matcher: WatchMatcher::new(vec![hypothetical]),
        answer: pb::DryRunWatchlistEntryResponse {
            examined_start_time: Some(timestamp_to_pb(span.first())),
            ..Default::default()
        },
    };
    match target {
        WatchTarget::Plate(plate) => {
            let found = parts.likely.likely(&LikelyQuery {
                cameras: query.cameras,
                ..LikelyQuery::all_in(plate, span, PAGE)
            })?;
            rings.answer.truncated = found.len() >= PAGE;
            found.iter().for_each(|likely| rings.look_at(&view, &likely.sighting));
        }
        WatchTarget::Pattern(_) | WatchTarget::Description => {
            rings.look_through(parts, &view, query)?;
        }
    }
    let examples = &mut rings.answer.examples;
    examples.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    examples.truncate(EXAMPLES_MAX);
    Ok(rings.answer)
}

impl Rings {
    fn look_through(
        &mut self,
        parts: &ApiParts,
        view: &View,
        mut query: SightingQuery,
    ) -> Result<(), Problem> {
        loop {
            let page = parts.store.search(&query)?;
            page.sightings.iter().for_each(|sighting| self.look_at(view, sighting));
            let Some(last) = page.sightings.last().filter(|_| page.more) else {
                return Ok(());
            };
            if self.answer.examined_count as usize >= EXAMINED_MAX {
                self.answer.truncated = true;
                self.answer.examined_start_time = Some(timestamp_to_pb(last.captured.at));
                return Ok(());
            }
            query.after = Some((last.captured.at, last.id));
        }
    }

    fn look_at(&mut self, view: &View, sighting: &Sighting) {
        let at = sighting.captured.at;
        if !view.sees(&sighting.camera, at) {
            return;
        }
        self.answer.examined_count += 1;
        let Some(probability) =
            self.matcher.matches(sighting, at).first().map(|ring| ring.probability)
        else {
            return;
        };
        self.answer.ring_count += 1;
        self.answer.expected_true_count += f64::from(probability);
        self.answer.examples.push(pb::DryRunRing {
            sighting: format!("sightings/{}", sighting.id),
            plate: sighting.plate_text().map_or_else(String::new, |text| text.as_str().to_owned()),
            camera: format!("cameras/{}", sighting.camera),
            capture_time: Some(timestamp_to_pb(at)),
            probability,
        });
    }
}
