use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use guiji_analysis::coverage::{GapCoverage, judge};
use guiji_analysis::tactics::stops::{StopPlace, StopSettings, stop_places};
use guiji_analysis::tactics::travel::{Roads, TravelTimes};
use guiji_analysis::tactics::{PassageIndex, PassageIndexBuilder};
use guiji_analysis::trajectory::{FoundBy, Seen, Trajectory, TrajectorySettings};
use guiji_domain::{
    CameraId, Coverage, GeoPoint, InvalidValue, Likely, LikelyQuery, PlatePattern, PlateState,
    PlateText, ReadAs, Sighting, SightingQuery, StoreError, TimeSpan, Timestamp,
};
use tonic::{Request, async_trait};

use super::{Answer, Services};
use crate::ApiParts;
use crate::auth::{Method, Reach};
use crate::call::{Call, CallKind};
use crate::convert::{View, span_from_pb, trajectory_to_pb};
use crate::error::Problem;
use crate::network::NetworkCache;
use crate::violations::Violations;
use crate::{corrected, likely, pb};

/// Most passages of an answer: it then fits into the 4 MiB that gRPC clients take, lattices included. The protos
/// promise it, and the next two.
const POINTS_MAX: usize = 1000;
/// Most sightings beside the way.
const POSSIBLE_MAX: usize = 100;
/// Most gaps of which the coverage is told.
const COVERED_GAPS_MAX: usize = 100;
/// Most sightings that are looked at for misreads: the likeliest by their reads.
const LIKELIEST_MAX: usize = 500;

#[async_trait]
impl pb::trajectory_service_server::TrajectoryService for Services {
    async fn get_trajectory(
        &self,
        request: Request<pb::GetTrajectoryRequest>,
    ) -> Answer<pb::GetTrajectoryResponse> {
        let mut call = Call::new(&self.core, Method::GetTrajectory, &request);
        let answer = self.get_trajectory(&mut call, request.into_inner()).await;
        call.end(answer).await
    }
}

/// A checked question.
pub(crate) struct Question {
    plate: PlateText,
    span: TimeSpan,
    view: View,
    exact_only: bool,
}

/// A trajectory with everything that is told of it.
pub(crate) struct Told {
    pub(crate) way: Trajectory,
    /// Of each gap, where it was judged.
    pub(crate) coverage: Vec<Option<GapCoverage>>,
    pub(crate) stays: Vec<StopPlace>,
    pub(crate) index: PassageIndex,
    /// Where to go on when it was cut.
    pub(crate) next: Option<Timestamp>,
}

impl Services {
    async fn get_trajectory(
        &self,
        call: &mut Call,
        request: pb::GetTrajectoryRequest,
    ) -> Result<pb::GetTrajectoryResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let question = Question::from_pb(&request)?;
        let reach = call.reach().for_plate(Some(&question.plate));
        let question = Question { span: reach.span("", question.span)?, ..question };
        call.asks(question.to_string());
        let networks = Arc::clone(&self.core.networks);
        let told = move |parts: &ApiParts| question.answer(parts, &reach, &networks);
        let trajectory = self.core.blocking("build a trajectory", told).await?;
        call.found(trajectory.points.len() + trajectory.possible_points.len());
        Ok(pb::GetTrajectoryResponse { trajectory: Some(trajectory) })
    }
}

impl std::fmt::Display for Question {
    /// The question in short, for the audit.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "plate {}, from {} to {}", self.plate, self.span.first(), self.span.last())?;
        if self.exact_only { f.write_str(", as it was read only") } else { Ok(()) }
    }
}

impl Question {
    pub(crate) fn from_pb(request: &pb::GetTrajectoryRequest) -> Result<Self, Problem> {
        let mut wrong = Violations::default();
        let plate = wrong.take("plate", whole_plate(&request.plate));
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        let span = span_from_pb(&mut wrong, "", start, end);
        let view = wrong.take("view", View::from_pb(request.view)).unwrap_or(View::Basic);
        wrong.done()?;
        let plate = plate.ok_or_else(|| Problem::field("plate", "is required"))?;
        Ok(Self { plate, span, view, exact_only: request.exact_only })
    }

    /// The answer; blocking.
    pub(crate) fn answer(
        &self,
        parts: &ApiParts,
        reach: &Reach,
        networks: &NetworkCache,
    ) -> Result<pb::Trajectory, Problem> {
        let seen_by = reach.view(parts);
        let (seen, next) = self.seen(parts, reach)?;
        let network = networks.get(parts)?;
        let settings = TrajectorySettings::default();
        let mut way = Trajectory::build_on(&settings, seen, network.positions(), network.roads());
        way.possible.sort_by(|a, b| b.seen.probability.total_cmp(&a.seen.probability));
        way.possible.truncate(POSSIBLE_MAX);

        let mut longest: Vec<_> = (0..way.gaps.len()).collect();
        longest.sort_by_key(|gap| std::cmp::Reverse(way.gaps[*gap].elapsed));
        longest.truncate(COVERED_GAPS_MAX);
        let ways = longest.into_iter().filter_map(|number| {
            let gap = &way.gaps[number];
            let ((from, to), span) = (way.gap_ends(gap)?, way.gap_span(gap)?);
            let (basis, mut between) = network.likely_ways(from, to)?;
            // A limit on what somebody sees holds for the cameras on the way too.
            if !seen_by.sees_every_camera() {
                let sees = |camera: &&CameraId| seen_by.sees_camera(camera);
                between = between.iter().filter(sees).cloned().collect();
            }
            Some((number, basis, between, span))
        });
        let ways: Vec<(_, _, Arc<[CameraId]>, _)> = ways.collect();
        let asked = ways.iter().map(|(_, _, cameras, span)| (&**cameras, *span));
        let histories = Histories::read(parts, asked)?;
        let mut coverage = vec![None; way.gaps.len()];
        for (number, basis, cameras, span) in ways {
            coverage[number] = Some(judge(basis, &cameras, |camera| histories.of(camera), span));
        }
        let (stays, index) = stays(&self.plate, &way, network.positions())?;
        let told = Told { way, coverage, stays, index, next };
        let mut answer = trajectory_to_pb(&self.plate, &told, self.view);
        let ids = told.way.points.iter().map(|point| point.sighting.id);
        let beside = told.way.possible.iter().map(|possible| possible.seen.sighting.id);
        let points = answer.points.iter_mut().map(|point| point.sighting.as_mut());
        let possible = answer.possible_points.iter_mut().map(|p| p.sighting.as_mut());
        let all = ids.chain(beside).zip(points.chain(possible));
        corrected::annotate_known(parts, all.filter_map(|(id, sighting)| Some((id, sighting?))))?;
        flag_corrections(&self.plate, &mut answer);
        Ok(answer)
    }

    /// Everything that may be the vehicle, and where to go on when that is too much.
    fn seen(
        &self,
        parts: &ApiParts,
        reach: &Reach,
    ) -> Result<(Vec<Seen>, Option<Timestamp>), Problem> {
        let seen_by = reach.view(parts);
        let query = seen_by.narrow(SightingQuery {
            plate: Some(PlatePattern::parse(self.plate.as_str())?),
            // A vehicle in view right now is the end of its way.
            provisional: true,
            stop: parts.stop.clone(),
            ..SightingQuery::all_in(self.span, POINTS_MAX)
        });
        let page = corrected::search(parts, &query)?;
        let next = page.sightings.last().filter(|_| page.more).map(|last| last.captured.at);
        let corrections = corrected::latest_in(parts, self.span)?;
        let last = next.unwrap_or(self.span.last());
        let span = TimeSpan::new(self.span.first(), last).unwrap_or(self.span);
        let cameras = seen_by.camera_list();
        let query = LikelyQuery {
            cameras: cameras.clone(),
            stop: parts.stop.clone(),
            ..LikelyQuery::all_in(self.plate.clone(), span, LIKELIEST_MAX)
        };
        // Each sighting is read once: those with the plate are here already.
        let mut found = match self.exact_only {
            true => Vec::new(),
            false => {
                parts.likely.likely(&LikelyQuery { read_as: ReadAs::Another, ..query.clone() })?
            }
        };
        let mut seen = Vec::with_capacity(page.sightings.len());
        for sighting in page.sightings {
            let (probability, by) = match corrections.get(&sighting.id) {
                Some(correction) if correction.plate == self.plate => (1.0, FoundBy::Correction),
                Some(_) => (0.0, FoundBy::Text),
                None => match query.probability(&sighting) {
                    Some(probability) => {
                        found.push(Likely { sighting, probability, misread: false });
                        continue;
                    }
                    // Provisional ones are not judged against others.
                    None => (by_reads(&self.plate, &sighting), FoundBy::Text),
                },
            };
            seen.push(Seen { sighting, probability, by });
        }
        // What a person said to be another plate is no misread of this one.
        found.retain(|one| !corrections.contains_key(&one.sighting.id));
        let judged =
            likely::judged(parts.likely.as_ref(), &self.plate, span, cameras.as_deref(), found)?;
        let (misread, read): (Vec<_>, Vec<_>) = judged.into_iter().partition(|one| one.misread);
        let room = POINTS_MAX.saturating_sub(seen.len() + read.len()).max(POSSIBLE_MAX);
        for (found, by) in [(read, FoundBy::Text), (misread, FoundBy::Misread)] {
            let most = if by == FoundBy::Misread { room } else { usize::MAX };
            seen.extend(found.into_iter().take(most).map(|one| Seen {
                sighting: one.sighting,
                probability: one.probability,
                by,
            }));
        }
        Ok((seen, next))
    }
}

/// What is known of each camera over all gaps that ask for it, read once: gaps share most of their cameras.
struct Histories {
    /// By camera.
    intervals: Vec<Coverage>,
    of: HashMap<CameraId, Range<usize>>,
}

impl Histories {
    fn read<'a>(
        parts: &ApiParts,
        asked: impl Iterator<Item = (&'a [CameraId], TimeSpan)>,
    ) -> Result<Self, StoreError> {
        let mut all: Option<TimeSpan> = None;
        let mut cameras = HashSet::new();
        for (some, span) in asked {
            let wider = |all: TimeSpan| all.including(span.first()).including(span.last());
            all = Some(all.map_or(span, wider));
            cameras.extend(some);
        }
        let Some(span) = all else { return Ok(Self { intervals: Vec::new(), of: HashMap::new() }) };
        let cameras: Vec<_> = cameras.into_iter().cloned().collect();
        let intervals = parts.coverage.coverage(&cameras, span)?;
        let (mut of, mut start) = (HashMap::new(), 0);
        for same in intervals.chunk_by(|one, next| one.camera == next.camera) {
            let end = start + same.len();
            of.extend(same.first().map(|interval| (interval.camera.clone(), start..end)));
            start = end;
        }
        Ok(Self { intervals, of })
    }

    fn of(&self, camera: &CameraId) -> &[Coverage] {
        let known = self.of.get(camera).and_then(|range| self.intervals.get(range.clone()));
        known.unwrap_or_default()
    }
}

/// What the reads say of the plate.
fn by_reads(plate: &PlateText, sighting: &Sighting) -> f32 {
    match &sighting.plate {
        PlateState::Read(read) => read.lattice.probability(plate),
        PlateState::Unreadable | PlateState::NotRead => 0.0,
    }
}

/// Where the vehicle stayed, by its sure sightings.
fn stays(
    plate: &PlateText,
    way: &Trajectory,
    positions: &HashMap<CameraId, GeoPoint>,
) -> Result<(Vec<StopPlace>, PassageIndex), Problem> {
    let mut index = PassageIndexBuilder::default();
    for point in way.points.iter().filter(|point| point.by != FoundBy::Misread) {
        index.add(plate, &point.sighting.camera, point.sighting.captured.at)?;
    }
    let index = index.build();
    let travel = TravelTimes::default();
    let roads = Roads { travel: &travel, positions };
    let vehicle = index.vehicle(plate);
    let places = vehicle.map(|vehicle| {
        stop_places(&index, vehicle, TimeSpan::ALL, roads, &StopSettings::default())
    });
    Ok((places.unwrap_or_default(), index))
}

fn flag_corrections(plate: &PlateText, answer: &mut pb::Trajectory) {
    for point in &mut answer.points {
        let last = point.sighting.as_ref().and_then(|sighting| sighting.corrections.last());
        match last {
            Some(correction) if correction.plate == plate.as_str() => {
                point.flags.push(pb::PointFlag::Corrected.into());
            }
            Some(_) => point.flags.push(pb::PointFlag::CorrectedAway.into()),
            None => {}
        }
    }
}

pub(super) fn whole_plate(text: &str) -> Result<PlateText, InvalidValue> {
    if text.contains(['?', '*', '[', '？', '＊']) {
        let fix = "give one whole plate: a pattern belongs in SearchSightings";
        return Err(InvalidValue::new("plate", text, fix));
    }
    PlateText::parse(text)
}
