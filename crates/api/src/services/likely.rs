use std::collections::{BTreeMap, HashSet};

use guiji_analysis::likely::{Ranked, VehicleBelief, expected_false, misreadings, rank_by_pattern};
use guiji_domain::{
    CameraId, Correction, InvalidValue, LikelyQuery, PlatePattern, PlateText, ReadAs, SightingId,
    SightingQuery, SiteId, SortOrder, TimeSpan, Timestamp,
};
use tonic::{Request, async_trait};

use super::{Answer, Services};
use crate::ApiParts;
use crate::auth::{Method, Reach};
use crate::call::{Call, CallKind};
use crate::convert::{View, sighting_to_pb};
use crate::error::Problem;
use crate::filter::{Filter, pattern_from_pb, words};
use crate::page_token::{PageScope, garbled_place};
use crate::violations::Violations;
use crate::{corrected, likely, pb};

/// Most sightings of a whole plate that are looked at. The protos promise these two.
const LIKELIEST_MAX: usize = 2_000;
/// Most sightings of a time that are looked through for a pattern.
const SCAN_MAX: usize = 20_000;
/// What is less probable is no answer.
const PROBABILITY_MIN: f32 = LikelyQuery::PROBABILITY_MIN;
const SITES_MAX: usize = 200;

#[async_trait]
impl pb::likely_service_server::LikelyService for Services {
    async fn search_likely(
        &self,
        request: Request<pb::SearchLikelyRequest>,
    ) -> Answer<pb::SearchLikelyResponse> {
        let mut call = Call::new(&self.core, Method::SearchLikely, &request);
        let answer = self.search_likely(&mut call, request.into_inner()).await;
        call.end(answer).await
    }
}

/// A checked question.
pub(crate) struct Question {
    filter: Filter,
    pattern: PlatePattern,
    sites: Vec<SiteId>,
    belief: VehicleBelief,
    misreads_only: bool,
    limit: usize,
    after: Option<Onward>,
    scope: PageScope,
    view: View,
}

/// Where an answer stands: probability, capture time, id; the later in the order of answers is the lesser.
type Place = (f32, Timestamp, SightingId);

fn place_of(ranked: &Ranked) -> Place {
    (ranked.probability, ranked.sighting.captured.at, ranked.sighting.id)
}

fn comes_after(place: &Place, other: &Place) -> bool {
    let by_probability = place.0.total_cmp(&other.0);
    by_probability.then_with(|| (place.1, place.2).cmp(&(other.1, other.2))).is_lt()
}

/// Where the next page begins. What is captured after `until` came later than the first page and is in none of them.
#[derive(Debug, Clone, Copy)]
struct Onward {
    last: Place,
    until: Timestamp,
}

impl Onward {
    fn sealed(&self) -> Vec<u8> {
        let (probability, at, id) = self.last;
        let times = [at, self.until].map(|at| at.as_nanos().to_be_bytes());
        let probability = probability.to_bits().to_be_bytes();
        probability.into_iter().chain(times.concat()).chain(id.as_u128().to_be_bytes()).collect()
    }

    fn from_place(place: &[u8], token: &str) -> Result<Self, InvalidValue> {
        let parts = || {
            let (probability, rest) = place.split_first_chunk::<4>()?;
            let (at, rest) = rest.split_first_chunk::<8>()?;
            let (until, id) = rest.split_first_chunk::<8>()?;
            let [at, until] = [at, until].map(|at| Timestamp::from_nanos(i64::from_be_bytes(*at)));
            let id = SightingId::from_u128(u128::from_be_bytes(id.try_into().ok()?));
            let probability = f32::from_bits(u32::from_be_bytes(*probability));
            Some(Self { last: (probability, at, id), until })
        };
        parts().ok_or_else(|| garbled_place(token))
    }

    /// Leaves what comes after the last answer. Late sightings change probabilities a little, all alike: what was behind
    /// it is behind it still, wherever it stands now.
    fn drop_before(&self, ranked: &mut Vec<Ranked>) {
        match ranked.iter().position(|one| one.sighting.id == self.last.2) {
            Some(place) => drop(ranked.drain(..=place)),
            // Retention took it, or a person said that it is another plate.
            None => ranked.retain(|one| comes_after(&place_of(one), &self.last)),
        }
    }
}

impl Question {
    pub(crate) fn from_pb(request: &pb::SearchLikelyRequest) -> Result<Self, Problem> {
        let mut wrong = Violations::default();
        let plate = request.filter.as_ref().map_or("", |filter| filter.plate_pattern.as_str());
        let pattern = match plate {
            "" => {
                wrong.add("filter.plate_pattern", "is required: * is any plate");
                None
            }
            // What is wrong with it the filter says.
            text => pattern_from_pb(text).ok(),
        };
        if request.filter.as_ref().is_some_and(|filter| filter.include_provisional) {
            wrong.add("filter.include_provisional", "provisional sightings are not searched");
        }
        let filter = Filter::from_pb(&mut wrong, request.filter.as_ref());
        let sites = wrong.take_list("sites", &request.sites, SITES_MAX, |id| SiteId::new(id));
        let belief = VehicleBelief {
            classes: words(&mut wrong, "likely_classes", &request.likely_classes),
            colours: words(&mut wrong, "likely_colours", &request.likely_colours),
        };
        let view = wrong.take("view", View::from_pb(request.view));
        let limit = wrong.take("page_size", page_size(request.page_size));
        let question = pb::SearchLikelyRequest {
            authority: None,
            page_size: 0,
            page_token: String::new(),
            view: 0,
            ..request.clone()
        };
        let scope = PageScope::of("likely", &question);
        let place = wrong.take("page_token", scope.open(&request.page_token)).flatten();
        let after = place
            .and_then(|p| wrong.take("page_token", Onward::from_place(&p, &request.page_token)));
        wrong.done()?;
        let pattern =
            pattern.ok_or_else(|| Problem::field("filter.plate_pattern", "is required"))?;
        Ok(Self {
            filter,
            pattern,
            sites,
            belief,
            misreads_only: request.misreads_only,
            limit: limit.unwrap_or(1),
            after,
            scope,
            view: view.unwrap_or(View::Basic),
        })
    }

    /// The answer; blocking.
    pub(crate) fn answer(
        self,
        parts: &ApiParts,
        reach: &Reach,
    ) -> Result<pb::SearchLikelyResponse, Problem> {
        let mut query = self.filter.clone().resolve(parts, reach, SortOrder::NewestFirst)?;
        query.cameras = self.cameras_of_sites(parts, query.cameras)?;
        if let Some(after) = self.after {
            let until = query.span.last().min(after.until);
            query.span = TimeSpan::new(query.span.first(), until).unwrap_or(query.span);
        }
        let sought = self.pattern.exact();
        let (mut ranked, extent) = match &sought {
            Some(plate) => {
                let seen = reach.for_plate(Some(plate)).view(parts).camera_list();
                self.of_plate(parts, plate, &query, seen.as_deref())?
            }
            None => self.of_pattern(parts, &query)?,
        };
        self.belief.weigh(&mut ranked);
        self.as_corrected(parts, &query, &mut ranked)?;
        ranked.retain(|one| !self.misreads_only || one.misread);
        let latest = ranked.iter().map(|one| one.sighting.captured.at).max();
        // Clocks ahead of ours included.
        let until = parts.clock.now().max(latest.unwrap_or(Timestamp::MIN));
        let until = self.after.map_or(until, |after| after.until);
        if let Some(after) = self.after {
            after.drop_before(&mut ranked);
        }
        let more = ranked.len() > self.limit;
        ranked.truncate(self.limit);
        let last = ranked.last().filter(|_| more).map(place_of);
        let mut answer = pb::SearchLikelyResponse {
            expected_false_count: expected_false(ranked.iter().map(|one| one.probability)),
            next_page_token: last
                .map_or_else(String::new, |last| self.scope.seal(&Onward { last, until }.sealed())),
            extent: extent.into(),
            results: ranked.iter().map(|one| self.result(one, sought.as_ref())).collect(),
        };
        let found = answer.results.iter_mut().filter_map(|result| result.sighting.as_mut());
        corrected::annotate(parts, found)?;
        Ok(answer)
    }

    /// Those of the cameras that stand at one of the sites. A misspelt site must not look like one without sightings.
    fn cameras_of_sites(
        &self,
        parts: &ApiParts,
        cameras: Option<Vec<CameraId>>,
    ) -> Result<Option<Vec<CameraId>>, Problem> {
        if self.sites.is_empty() {
            return Ok(cameras);
        }
        let registered = parts.cameras.list();
        let mut wrong = Violations::default();
        for (i, site) in self.sites.iter().enumerate() {
            if !registered.iter().any(|(camera, _)| camera.site == *site) {
                let fix = "has no registered camera: ListCameras tells the sites";
                wrong.add(format!("sites[{i}]"), format!("site {site}: {fix}"));
            }
        }
        wrong.done()?;
        let listed: Option<HashSet<_>> = cameras.map(|cameras| cameras.into_iter().collect());
        let at_sites = registered
            .into_iter()
            .map(|(camera, _)| camera)
            .filter(|camera| self.sites.contains(&camera.site))
            .filter(|camera| listed.as_ref().is_none_or(|listed| listed.contains(&camera.id)));
        Ok(Some(at_sites.map(|camera| camera.id).collect()))
    }

    fn of_plate(
        &self,
        parts: &ApiParts,
        plate: &PlateText,
        query: &SightingQuery,
        seen: Option<&[CameraId]>,
    ) -> Result<(Vec<Ranked>, pb::SearchExtent), Problem> {
        let asked = LikelyQuery {
            cameras: query.cameras.clone(),
            hours: query.hours,
            read_as: if self.misreads_only { ReadAs::Another } else { ReadAs::Any },
            stop: query.stop.clone(),
            ..LikelyQuery::all_in(plate.clone(), query.span, LIKELIEST_MAX)
        };
        let (mut ranked, all) = likely::likeliest(parts.likely.as_ref(), &asked, seen)?;
        let extent = if all { pb::SearchExtent::All } else { pb::SearchExtent::Likeliest };
        let whatever_plate = SightingQuery { plate: None, ..query.clone() };
        ranked.retain(|one| whatever_plate.accepts(&one.sighting));
        Ok((ranked, extent))
    }

    fn of_pattern(
        &self,
        parts: &ApiParts,
        query: &SightingQuery,
    ) -> Result<(Vec<Ranked>, pb::SearchExtent), Problem> {
        let all = SightingQuery { plate: None, limit: SCAN_MAX, ..query.clone() };
        let page = parts.store.search(&all)?;
        let (sightings, extent) = if page.more {
            let texts = SightingQuery { limit: SCAN_MAX, ..query.clone() };
            (parts.store.search(&texts)?.sightings, pb::SearchExtent::Texts)
        } else {
            (page.sightings, pb::SearchExtent::All)
        };
        Ok((rank_by_pattern(&self.pattern, sightings, PROBABILITY_MIN), extent))
    }

    /// A person's word is certain: what was corrected to match comes first, what was corrected to something else last.
    fn as_corrected(
        &self,
        parts: &ApiParts,
        query: &SightingQuery,
        ranked: &mut Vec<Ranked>,
    ) -> Result<(), Problem> {
        let corrections: BTreeMap<SightingId, Correction> =
            corrected::latest_in(parts, query.span)?;
        if corrections.is_empty() {
            return Ok(());
        }
        let known: HashSet<_> = ranked.iter().map(|one| one.sighting.id).collect();
        let found = corrected::found_by_correction(parts, query, &self.pattern, &corrections)?;
        let new = found.into_iter().filter(|sighting| !known.contains(&sighting.id));
        ranked.extend(new.map(|sighting| Ranked {
            sighting,
            probability: 1.0,
            by_reads: 0.0,
            misread: true,
        }));
        for one in &mut *ranked {
            if let Some(correction) = corrections.get(&one.sighting.id) {
                one.probability = f32::from(self.pattern.matches(&correction.plate));
            }
        }
        ranked.sort_by(|a, b| match comes_after(&place_of(a), &place_of(b)) {
            true => std::cmp::Ordering::Greater,
            false if place_of(a) == place_of(b) => std::cmp::Ordering::Equal,
            false => std::cmp::Ordering::Less,
        });
        Ok(())
    }

    fn result(&self, ranked: &Ranked, sought: Option<&PlateText>) -> pb::LikelySighting {
        let misread = sought.map_or_else(Vec::new, |plate| misreadings(&ranked.sighting, plate));
        let text =
            |c: Option<guiji_domain::PlateChar>| c.map(|c| c.to_string()).unwrap_or_default();
        pb::LikelySighting {
            sighting: Some(sighting_to_pb(&ranked.sighting, self.view)),
            probability: ranked.probability,
            read_probability: ranked.by_reads,
            misread: ranked.misread,
            misread_characters: misread
                .into_iter()
                .map(|one| pb::MisreadCharacter {
                    index: u32::try_from(one.place).unwrap_or(u32::MAX),
                    read: text(one.read),
                    sought: text(one.sought),
                    probability: one.probability,
                })
                .collect(),
        }
    }
}

impl std::fmt::Display for Question {
    /// The question in short, for the audit.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "likely {}", self.filter)?;
        self.sites.iter().try_for_each(|site| write!(f, ", site {site}"))?;
        self.belief.classes.iter().try_for_each(|class| write!(f, ", likely a {class}"))?;
        self.belief.colours.iter().try_for_each(|colour| write!(f, ", likely {colour}"))?;
        if self.misreads_only { f.write_str(", misreads only") } else { Ok(()) }
    }
}

impl Services {
    async fn search_likely(
        &self,
        call: &mut Call,
        request: pb::SearchLikelyRequest,
    ) -> Result<pb::SearchLikelyResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let question = Question::from_pb(&request)?;
        call.asks(question.to_string());
        let reach = call.reach();
        let answered = move |parts: &ApiParts| question.answer(parts, &reach);
        let answer = self.core.blocking("search likely sightings", answered).await?;
        call.found(answer.results.len());
        Ok(answer)
    }
}

/// How many answers a page has: 0 means 50, at most 500.
fn page_size(asked: i32) -> Result<usize, InvalidValue> {
    match usize::try_from(asked) {
        Ok(0) => Ok(LikelyQuery::LIMIT_DEFAULT),
        Ok(n) if n <= 500 => Ok(n),
        _ => Err(InvalidValue::new("size", asked, "use 1 to 500, or 0 for 50")),
    }
}
