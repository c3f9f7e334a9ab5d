use guiji_analysis::trajectory::Trajectory;
use guiji_domain::{InvalidValue, PlatePattern, PlateText, SightingQuery};
use tonic::{Request, async_trait};

use super::{Answer, Services};
use crate::ApiParts;
use crate::auth::Method;
use crate::call::{Call, CallKind};
use crate::convert::{View, span_from_pb, trajectory_to_pb};
use crate::error::Problem;
use crate::pb;
use crate::violations::Violations;

/// Most passages of an answer: it then fits into the 4 MiB that gRPC clients take, lattices included. The protos
/// promise it.
const POINTS_MAX: usize = 1000;

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

impl Services {
    async fn get_trajectory(
        &self,
        call: &mut Call,
        request: pb::GetTrajectoryRequest,
    ) -> Result<pb::GetTrajectoryResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let plate = wrong.take("plate", whole_plate(&request.plate));
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        let span = span_from_pb(&mut wrong, "", start, end);
        let view = wrong.take("view", View::from_pb(request.view)).unwrap_or(View::Basic);
        wrong.done()?;
        let plate = plate.ok_or_else(|| Problem::field("plate", "is required"))?;
        let reach = call.reach();
        let span = reach.span("", span)?;
        call.asks(format!("plate {plate}, from {} to {}", span.first(), span.last()));
        let query = SightingQuery {
            plate: Some(PlatePattern::parse(plate.as_str())?),
            // A vehicle in view right now is the end of its way.
            provisional: true,
            ..SightingQuery::all_in(span, POINTS_MAX)
        };
        let way = move |parts: &ApiParts| {
            let page = parts.store.search(&reach.view(parts).narrow(query))?;
            let cameras: Vec<_> =
                parts.cameras.list().into_iter().map(|(camera, _)| camera).collect();
            let next = page.sightings.last().filter(|_| page.more).map(|last| last.captured.at);
            Ok((Trajectory::build(&page.sightings, &cameras), next))
        };
        let (way, next) = self.core.blocking("build a trajectory", way).await?;
        call.found(way.points.len());
        let trajectory = trajectory_to_pb(&plate, &way, next, view);
        Ok(pb::GetTrajectoryResponse { trajectory: Some(trajectory) })
    }
}

pub(super) fn whole_plate(text: &str) -> Result<PlateText, InvalidValue> {
    if text.contains(['?', '*', '[', '？', '＊']) {
        let fix = "give one whole plate: a pattern belongs in SearchSightings";
        return Err(InvalidValue::new("plate", text, fix));
    }
    PlateText::parse(text)
}
