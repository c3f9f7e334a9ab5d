use std::sync::Arc;

use guiji_domain::{
    Digest, Evidence, InvalidValue, LeavingPicture, People, Sighting, SightingId, SightingQuery,
    SortOrder, Timestamp,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, async_trait};

use super::{Answer, Messages, Services, people_from_pb};
use crate::ApiParts;
use crate::auth::{Method, Reach};
use crate::call::{Call, CallKind, Core, Sink, StreamEnd};
use crate::convert::{View, Word, evidence_to_pb, sighting_to_pb, timestamp_to_pb};
use crate::corrected;
use crate::error::Problem;
use crate::filter::Filter;
use crate::page_token::{PageScope, garbled_place};
use crate::pb;
use crate::violations::{Violations, page_size, sighting_id};

#[async_trait]
impl pb::sighting_service_server::SightingService for Services {
    async fn search_sightings(
        &self,
        request: Request<pb::SearchSightingsRequest>,
    ) -> Answer<pb::SearchSightingsResponse> {
        let mut call = Call::new(&self.core, Method::SearchSightings, &request);
        let answer = self.search(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    type StreamSightingsStream = Messages<pb::StreamSightingsResponse>;

    async fn stream_sightings(
        &self,
        request: Request<pb::StreamSightingsRequest>,
    ) -> Answer<Self::StreamSightingsStream> {
        let mut call = Call::new(&self.core, Method::StreamSightings, &request);
        let begun = self.begin_stream(&mut call, request.into_inner()).await;
        call.stream(
            begun.map(|(search, query)| move |core, sink| send_pages(core, sink, search, query)),
        )
        .await
    }

    type WatchSightingsStream = Messages<pb::WatchSightingsResponse>;

    async fn watch_sightings(
        &self,
        request: Request<pb::WatchSightingsRequest>,
    ) -> Answer<Self::WatchSightingsStream> {
        let mut call = Call::new(&self.core, Method::WatchSightings, &request);
        let begun = self.begin_watch(&mut call, request.into_inner()).await;
        call.stream(begun.map(|(query, view)| move |core, sink| send_live(core, sink, query, view)))
            .await
    }

    async fn get_sighting(
        &self,
        request: Request<pb::GetSightingRequest>,
    ) -> Answer<pb::GetSightingResponse> {
        let mut call = Call::new(&self.core, Method::GetSighting, &request);
        let answer = self.get_sighting(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    type GetEvidenceStream = Messages<pb::GetEvidenceResponse>;

    async fn get_evidence(
        &self,
        request: Request<pb::GetEvidenceRequest>,
    ) -> Answer<Self::GetEvidenceStream> {
        let mut call = Call::new(&self.core, Method::GetEvidence, &request);
        let begun = self.begin_evidence(&mut call, request.into_inner()).await;
        call.stream(begun.map(|picture| move |_, sink| send_picture(sink, picture))).await
    }
}

/// A paged question: what is asked, and how answers and tokens are made.
struct Search {
    filter: Filter,
    order: SortOrder,
    view: View,
    after: Option<(Timestamp, SightingId)>,
    limit: usize,
    scope: PageScope,
}

impl Search {
    fn from_pb(request: &pb::SearchSightingsRequest, size_field: &str) -> Result<Self, Problem> {
        let mut wrong = Violations::default();
        let filter = Filter::from_pb(&mut wrong, request.filter.as_ref());
        let order = wrong.take("order", SortOrder::from_pb(request.order)).flatten();
        let view = wrong.take("view", View::from_pb(request.view));
        let limit = wrong.take(size_field, page_size(request.page_size));
        // Only what decides which sightings come in which order: the view may change from page to page.
        let scope = PageScope::of(
            "sightings",
            &pb::SearchSightingsRequest {
                filter: request.filter.clone(),
                order: request.order,
                ..Default::default()
            },
        );
        let token = &request.page_token;
        let place = wrong.take("page_token", scope.open(token)).flatten();
        let after = place.and_then(|place| wrong.take("page_token", place_from(&place, token)));
        wrong.done()?;
        Ok(Self {
            filter,
            order: order.unwrap_or(SortOrder::NewestFirst),
            view: view.unwrap_or(View::Basic),
            after,
            limit: limit.unwrap_or(1),
            scope,
        })
    }

    /// The query for the first page; blocking.
    fn resolve(&self, parts: &ApiParts, reach: &Reach) -> Result<SightingQuery, Problem> {
        let query = self.filter.clone().resolve(parts, reach, self.order)?;
        Ok(SightingQuery { after: self.after, limit: self.limit, ..query })
    }
}

/// The place after a sighting: capture time and id, big-endian.
fn place_after(sighting: &Sighting) -> Vec<u8> {
    let (time, id) = (sighting.captured.at.as_nanos(), sighting.id.as_u128());
    time.to_be_bytes().into_iter().chain(id.to_be_bytes()).collect()
}

fn place_from(place: &[u8], token: &str) -> Result<(Timestamp, SightingId), InvalidValue> {
    let parts = place.split_first_chunk::<8>().and_then(|(time, id)| {
        Some((i64::from_be_bytes(*time), u128::from_be_bytes(id.try_into().ok()?)))
    });
    let (time, id) = parts.ok_or_else(|| garbled_place(token))?;
    Ok((Timestamp::from_nanos(time), SightingId::from_u128(id)))
}

impl Services {
    async fn search(
        &self,
        call: &mut Call,
        request: pb::SearchSightingsRequest,
    ) -> Result<pb::SearchSightingsResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let search = Search::from_pb(&request, "page_size")?;
        call.asks(search.filter.to_string());
        let (scope, view, reach) = (search.scope, search.view, call.reach());
        let found = move |parts: &ApiParts| {
            let query = search.resolve(parts, &reach)?;
            let page = corrected::search(parts, &query)?;
            let mut found: Vec<_> =
                page.sightings.iter().map(|s| sighting_to_pb(s, view)).collect();
            corrected::annotate(parts, &mut found)?;
            Ok((page, found, query.cameras.map(|cameras| cameras.len())))
        };
        let (page, sightings, camera_count) = self.core.blocking("search sightings", found).await?;
        call.found(page.sightings.len());
        let last = page.sightings.last().filter(|_| page.more);
        Ok(pb::SearchSightingsResponse {
            next_page_token: last.map_or_else(String::new, |last| scope.seal(&place_after(last))),
            sightings,
            camera_count: camera_count.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        })
    }

    async fn begin_stream(
        &self,
        call: &mut Call,
        request: pb::StreamSightingsRequest,
    ) -> Result<(Search, SightingQuery), Problem> {
        call.admit(CallKind::Stream, request.authority.as_ref())?;
        // The same question as a search, so that a broken stream can go on as a search and the other way round.
        let request = pb::SearchSightingsRequest {
            authority: request.authority,
            filter: request.filter,
            order: request.order,
            view: request.view,
            page_size: request.chunk_size,
            page_token: request.page_token,
        };
        let search = Search::from_pb(&request, "chunk_size")?;
        call.asks(search.filter.to_string());
        let reach = call.reach();
        let resolved = move |parts: &ApiParts| {
            let query = search.resolve(parts, &reach)?;
            Ok((search, query))
        };
        self.core.blocking("resolve a filter", resolved).await
    }

    async fn begin_watch(
        &self,
        call: &mut Call,
        request: pb::WatchSightingsRequest,
    ) -> Result<(SightingQuery, View), Problem> {
        call.admit(CallKind::Stream, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let filter = Filter::from_pb(&mut wrong, request.filter.as_ref());
        let view = wrong.take("view", View::from_pb(request.view)).unwrap_or(View::Basic);
        wrong.done()?;
        call.asks(filter.to_string());
        let reach = call.reach();
        let resolved =
            move |parts: &ApiParts| filter.resolve(parts, &reach, SortOrder::OldestFirst);
        Ok((self.core.blocking("resolve a filter", resolved).await?, view))
    }

    async fn get_sighting(
        &self,
        call: &mut Call,
        request: pb::GetSightingRequest,
    ) -> Result<pb::GetSightingResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let id = wrong.take("name", sighting_id(&request.name));
        let view = wrong.take("view", View::from_pb(request.view)).unwrap_or(View::Basic);
        wrong.done()?;
        let id = id.ok_or_else(|| Problem::field("name", "is required"))?;
        call.asks(id.to_string());
        let reach = call.reach();
        let found = move |parts: &ApiParts| {
            let sighting = find(parts, &reach, id)?;
            let mut found = sighting_to_pb(&sighting, view);
            corrected::annotate(parts, [&mut found])?;
            Ok((found, sighting.plate_text().cloned()))
        };
        let (found, plate) = self.core.blocking("get a sighting", found).await?;
        call.about(plate.as_ref());
        call.found(1);
        Ok(pb::GetSightingResponse { sighting: Some(found) })
    }

    async fn begin_evidence(
        &self,
        call: &mut Call,
        request: pb::GetEvidenceRequest,
    ) -> Result<SentPicture, Problem> {
        call.admit(CallKind::Stream, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let name = wrong.take("name", evidence_name(&request.name));
        let people = people_from_pb(&mut wrong, request.people);
        wrong.done()?;
        let (id, digest) = name.ok_or_else(|| Problem::field("name", "is required"))?;
        let people = people.unwrap_or(match call.may_show_people() {
            true => People::Shown,
            false => People::Blurred,
        });
        call.asks(format!("{}, people {people}", request.name));
        call.may_have(people)?;
        let absent = move || Problem::NotFound { kind: "guiji.v1.Evidence", name: request.name };
        let reach = call.reach();
        let picture = move |parts: &ApiParts| {
            let sighting = find(parts, &reach, id)?;
            let named = |evidence: &&Evidence| evidence.digest == digest;
            let Some(evidence) = sighting.evidence.iter().find(named) else {
                return Err(absent());
            };
            let picture = parts.sealer.picture(&sighting, evidence, people)?.ok_or_else(absent)?;
            let mut header = evidence_to_pb(id, evidence);
            let (bytes, blurred) = match picture {
                LeavingPicture::Original(bytes) => (bytes, false),
                LeavingPicture::Redacted(redacted) => {
                    header.sha256 = Digest(Sha256::digest(&redacted.bytes).into()).to_string();
                    header.size_bytes = u32::try_from(redacted.bytes.len()).unwrap_or(u32::MAX);
                    header.media_type = redacted.media_type.to_owned();
                    (redacted.bytes, true)
                }
            };
            let plate = sighting.plate_text().cloned();
            Ok((SentPicture { header, bytes, blurred }, plate))
        };
        let (picture, plate) = self.core.blocking("get evidence", picture).await?;
        call.about(plate.as_ref());
        Ok(picture)
    }
}

/// A sighting that may be seen.
pub(super) fn find(parts: &ApiParts, reach: &Reach, id: SightingId) -> Result<Sighting, Problem> {
    let sighting = parts.store.get(id)?.ok_or_else(|| Problem::NotFound {
        kind: "guiji.v1.Sighting",
        name: format!("sightings/{id}"),
    })?;
    let reach = reach.for_plate(sighting.plate_text());
    reach.view(parts).check(&sighting.camera, sighting.captured.at)?;
    Ok(sighting)
}

/// The parts of `sightings/ID/evidence/DIGEST`.
fn evidence_name(name: &str) -> Result<(SightingId, Digest), InvalidValue> {
    let (sighting, digest) = name.split_once("/evidence/").ok_or_else(|| {
        InvalidValue::new(
            "evidence name",
            name,
            "write it as sightings/ID/evidence/DIGEST, as sightings do",
        )
    })?;
    Ok((sighting_id(sighting)?, digest.parse()?))
}

async fn send_pages(
    core: Arc<Core>,
    sink: Sink<pb::StreamSightingsResponse>,
    search: Search,
    mut query: SightingQuery,
) -> Result<(), StreamEnd> {
    loop {
        let asked = query.clone();
        let view = search.view;
        let found = move |parts: &ApiParts| {
            let page = corrected::search(parts, &asked)?;
            let mut found: Vec<_> =
                page.sightings.iter().map(|s| sighting_to_pb(s, view)).collect();
            corrected::annotate(parts, &mut found)?;
            Ok((page, found))
        };
        let (page, sightings) = core.blocking("search sightings", found).await?;
        let last = page.sightings.last().filter(|_| page.more);
        let chunk = pb::StreamSightingsResponse {
            next_page_token: last
                .map_or_else(String::new, |last| search.scope.seal(&place_after(last))),
            sightings,
        };
        sink.send(chunk, page.sightings.len()).await?;
        match last {
            Some(last) => query.after = Some((last.captured.at, last.id)),
            None => return Ok(()),
        }
    }
}

async fn send_live(
    core: Arc<Core>,
    sink: Sink<pb::WatchSightingsResponse>,
    query: SightingQuery,
    view: View,
) -> Result<(), StreamEnd> {
    use pb::watch_sightings_response::Event;
    let mut live = core.parts.live.subscribe();
    let opened = pb::FeedOpened { server_time: Some(timestamp_to_pb(core.parts.clock.now())) };
    let mut event = Some((Event::Opened(opened), 0));
    loop {
        if let Some((event, results)) = event {
            sink.send(pb::WatchSightingsResponse { event: Some(event) }, results).await?;
        }
        event = match live.recv().await {
            Ok(sighting) => query
                .accepts(&sighting)
                .then(|| (Event::Sighting(sighting_to_pb(&sighting, view)), 1)),
            Err(RecvError::Lagged(sighting_count)) => {
                Some((Event::Missed(pb::FeedMissed { sighting_count }), 0))
            }
            Err(RecvError::Closed) => return Err(Problem::Draining.into()),
        };
    }
}

/// A picture as it is sent.
struct SentPicture {
    header: pb::Evidence,
    bytes: Vec<u8>,
    blurred: bool,
}

async fn send_picture(
    sink: Sink<pb::GetEvidenceResponse>,
    picture: SentPicture,
) -> Result<(), StreamEnd> {
    use pb::get_evidence_response::Part;
    /// The protos promise it.
    const CHUNK_BYTES: usize = 65_536;
    let SentPicture { header, bytes, blurred } = picture;
    let header =
        pb::GetEvidenceResponse { part: Some(Part::Header(header)), people_blurred: blurred };
    sink.send(header, 1).await?;
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let part = Some(Part::Chunk(chunk.to_vec()));
        sink.send(pb::GetEvidenceResponse { part, people_blurred: false }, 0).await?;
    }
    Ok(())
}
