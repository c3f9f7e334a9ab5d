use std::sync::Arc;

use guiji_domain::{
    Authority, ExportOrder, InvalidValue, People, PlatePattern, Sighting, SightingId,
    SightingQuery, SortOrder, StoreError,
};
use tonic::{Request, async_trait};

use super::sighting::find;
use super::trajectory::whole_plate;
use super::{Answer, Messages, Services, people_from_pb};
use crate::ApiParts;
use crate::auth::{Method, Reach};
use crate::call::{Call, CallKind, Core, Sink, StreamEnd};
use crate::convert::{View, sighting_to_pb, span_from_pb};
use crate::error::Problem;
use crate::json::to_json;
use crate::pb;
use crate::violations::{Violations, sighting_id};

/// Most sightings of a bundle: some hundred megabytes of pictures. The protos promise it.
const SIGHTINGS_MAX: usize = 100;
/// Largest chunk. The protos promise it.
const CHUNK_BYTES: usize = 65_536;

#[async_trait]
impl pb::evidence_service_server::EvidenceService for Services {
    type ExportEvidenceStream = Messages<pb::ExportEvidenceResponse>;

    async fn export_evidence(
        &self,
        request: Request<pb::ExportEvidenceRequest>,
    ) -> Answer<Self::ExportEvidenceStream> {
        let mut call = Call::new(&self.core, Method::ExportEvidence, &request);
        let begun = self.begin_export(&mut call, request.into_inner()).await;
        call.stream(begun.map(|order| move |core, sink| send_bundle(core, sink, order))).await
    }
}

/// Which sightings are wanted.
pub(crate) enum Wanted {
    Named(Vec<SightingId>),
    OfPlate(SightingQuery),
}

impl Services {
    async fn begin_export(
        &self,
        call: &mut Call,
        request: pb::ExportEvidenceRequest,
    ) -> Result<ExportOrder, Problem> {
        let authority = call.admit(CallKind::Stream, request.authority.as_ref())?;
        let (people, wanted) = checked(&request)?;
        let question = question(&request, people);
        call.asks(question.as_str());
        call.may_have(people)?;
        let reach = call.reach();
        let found = move |parts: &ApiParts| wanted.resolve(parts, &reach);
        let sightings = self.core.blocking("find the evidence", found).await?;
        order(call, &self.core, sightings, people, authority, question)
    }
}

pub(crate) fn checked(request: &pb::ExportEvidenceRequest) -> Result<(People, Wanted), Problem> {
    let mut wrong = Violations::default();
    let people = people_from_pb(&mut wrong, request.people).unwrap_or(People::Blurred);
    let ids =
        wrong.take_list("sightings", &request.sightings, SIGHTINGS_MAX, |name| sighting_id(name));
    let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
    let span = span_from_pb(&mut wrong, "", start, end);
    let wanted = match (request.sightings.is_empty(), request.plate.is_empty()) {
        (false, true) => {
            if start.or(end).is_some() {
                wrong.add("start_time", "goes with a plate only: leave the times out");
            }
            Some(Wanted::Named(ids))
        }
        (true, false) => wrong.take("plate", whole_plate(&request.plate)).and_then(|plate| {
            let pattern = wrong.take("plate", PlatePattern::parse(plate.as_str()))?;
            Some(Wanted::OfPlate(SightingQuery {
                plate: Some(pattern),
                ..SightingQuery::all_in(span, SIGHTINGS_MAX)
            }))
        }),
        (true, true) => {
            wrong.add("sightings", "is required, or a plate: what shall the bundle hold?");
            None
        }
        (false, false) => {
            wrong.add("plate", "leave it out beside sightings: give one of the two");
            None
        }
    };
    wrong.done()?;
    wanted.map(|wanted| (people, wanted)).ok_or_else(|| Problem::field("sightings", "is required"))
}

/// In the words of the audit.
fn question(request: &pb::ExportEvidenceRequest, people: People) -> String {
    let what = if request.plate.is_empty() {
        request.sightings.join(" ")
    } else {
        let time = |time: Option<&prost_types::Timestamp>, word| {
            let time = time.and_then(|time| crate::convert::timestamp_from_pb(time).ok());
            time.map_or_else(String::new, |time| format!(", {word} {time}"))
        };
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        format!("plate {}{}{}", request.plate, time(start, "from"), time(end, "to"))
    };
    format!("{what}, people {people}")
}

impl Wanted {
    /// The sightings, all of which may be seen; blocking.
    fn resolve(self, parts: &ApiParts, reach: &Reach) -> Result<Vec<Sighting>, Problem> {
        match self {
            Self::Named(mut ids) => {
                ids.sort_unstable();
                ids.dedup();
                ids.into_iter().map(|id| find(parts, reach, id)).collect()
            }
            Self::OfPlate(query) => {
                let plate = query.plate.as_ref().and_then(PlatePattern::exact);
                let reach = reach.for_plate(plate.as_ref());
                let span = reach.span("", query.span)?;
                let query = SightingQuery { span, order: SortOrder::OldestFirst, ..query };
                let page = parts.store.search(&reach.view(parts).narrow(query))?;
                if page.more {
                    return Err(Problem::field(
                        "end_time",
                        format!(
                            "there are more than {SIGHTINGS_MAX} sightings: ask for a shorter time"
                        ),
                    ));
                }
                if page.sightings.is_empty() {
                    let name = plate.map_or_else(String::new, |plate| plate.to_string());
                    let name = format!("sighting of {name} in this time that you may see");
                    return Err(Problem::NotFound { kind: "guiji.v1.Sighting", name });
                }
                Ok(page.sightings)
            }
        }
    }
}

fn order(
    call: &mut Call,
    core: &Core,
    sightings: Vec<Sighting>,
    people: People,
    authority: Authority,
    question: String,
) -> Result<ExportOrder, Problem> {
    let mut lines = String::new();
    for sighting in &sightings {
        let line = to_json(&sighting_to_pb(sighting, View::Full));
        lines += &line.map_err(|error| {
            Problem::from(InvalidValue::new("sighting", sighting.id, error.to_string()))
        })?;
        lines.push('\n');
    }
    let (role, on_behalf_of) = call.asker();
    Ok(ExportOrder {
        role: role.to_owned(),
        on_behalf_of: on_behalf_of.to_owned(),
        sightings,
        documents: vec![("sightings.json".to_owned(), lines.into_bytes())],
        people,
        at: core.parts.clock.now(),
        authority,
        question,
        // Known when the stream opens.
        audit_record: 0,
    })
}

async fn send_bundle(
    core: Arc<Core>,
    sink: Sink<pb::ExportEvidenceResponse>,
    order: ExportOrder,
) -> Result<(), StreamEnd> {
    use pb::export_evidence_response::Part;
    let audit_record = sink.audit_record();
    let header = pb::BundleHeader {
        media_type: "application/x-tar".into(),
        sighting_count: u32::try_from(order.sightings.len()).unwrap_or(u32::MAX),
        audit_record,
    };
    let count = order.sightings.len();
    let part = Some(Part::Header(header));
    sink.send(pb::ExportEvidenceResponse { part }, count).await?;
    let mut sealing = core.parts.sealer.begin(ExportOrder { audit_record, ..order });
    loop {
        // Piece by piece, so that a slow client holds neither a thread nor more than a picture.
        let next = move |_: &ApiParts| {
            let piece: Result<_, StoreError> = sealing.next_piece();
            Ok((piece?, sealing))
        };
        let (piece, back) = core.blocking("seal evidence", next).await?;
        sealing = back;
        let Some(piece) = piece else { return Ok(()) };
        for chunk in piece.chunks(CHUNK_BYTES) {
            let part = Some(Part::Chunk(chunk.to_vec()));
            sink.send(pb::ExportEvidenceResponse { part }, 0).await?;
        }
    }
}
