use std::sync::Arc;

use guiji_domain::{
    Digest, Evidence, InvalidValue, Sighting, SightingId, SightingQuery, SortOrder, Timestamp,
};
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, async_trait};

use super::{Answer, Messages, Services};
use crate::ApiParts;
use crate::auth::{Method, Reach};
use crate::call::{Call, CallKind, Core, Sink, StreamEnd};
use crate::convert::{View, Word, evidence_to_pb, sighting_to_pb, timestamp_to_pb};
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
        call.stream(begun.map(|(header, bytes)| move |_, sink| send_picture(sink, header, bytes)))
            .await
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
            Ok((parts.store.search(&query)?, query.cameras.map(|cameras| cameras.len())))
        };
        let (page, camera_count) = self.core.blocking("search sightings", found).await?;
        call.found(page.sightings.len());
        let last = page.sightings.last().filter(|_| page.more);
        Ok(pb::SearchSightingsResponse {
            next_page_token: last.map_or_else(String::new, |last| scope.seal(&place_after(last))),
            sightings: page.sightings.iter().map(|s| sighting_to_pb(s, view)).collect(),
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
        let found = move |parts: &ApiParts| find(parts, &reach, id);
        let found = self.core.blocking("get a sighting", found).await?;
        call.found(1);
        Ok(pb::GetSightingResponse { sighting: Some(sighting_to_pb(&found, view)) })
    }

    async fn begin_evidence(
        &self,
        call: &mut Call,
        request: pb::GetEvidenceRequest,
    ) -> Result<(pb::Evidence, Vec<u8>), Problem> {
        call.admit(CallKind::Stream, request.authority.as_ref())?;
        let (id, digest) = evidence_name(&request.name)
            .map_err(|error| Problem::field("name", error.to_string()))?;
        call.asks(request.name.as_str());
        let absent = move || Problem::NotFound { kind: "guiji.v1.Evidence", name: request.name };
        let reach = call.reach();
        let picture = move |parts: &ApiParts| {
            let sighting = find(parts, &reach, id)?;
            let named = |evidence: &&Evidence| evidence.digest == digest;
            let Some(evidence) = sighting.evidence.iter().find(named) else {
                return Err(absent());
            };
            let bytes = parts.store.evidence(&digest)?.ok_or_else(absent)?;
            Ok((evidence_to_pb(id, evidence), bytes))
        };
        self.core.blocking("get evidence", picture).await
    }
}

/// A sighting that may be seen.
pub(super) fn find(parts: &ApiParts, reach: &Reach, id: SightingId) -> Result<Sighting, Problem> {
    let sighting = parts.store.get(id)?.ok_or_else(|| Problem::NotFound {
        kind: "guiji.v1.Sighting",
        name: format!("sightings/{id}"),
    })?;
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
        let page =
            core.blocking("search sightings", move |parts| Ok(parts.store.search(&asked)?)).await?;
        let last = page.sightings.last().filter(|_| page.more);
        let chunk = pb::StreamSightingsResponse {
            next_page_token: last
                .map_or_else(String::new, |last| search.scope.seal(&place_after(last))),
            sightings: page.sightings.iter().map(|s| sighting_to_pb(s, search.view)).collect(),
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

async fn send_picture(
    sink: Sink<pb::GetEvidenceResponse>,
    header: pb::Evidence,
    bytes: Vec<u8>,
) -> Result<(), StreamEnd> {
    use pb::get_evidence_response::Part;
    /// The protos promise it.
    const CHUNK_BYTES: usize = 65_536;
    sink.send(pb::GetEvidenceResponse { part: Some(Part::Header(header)) }, 1).await?;
    for chunk in bytes.chunks(CHUNK_BYTES) {
        sink.send(pb::GetEvidenceResponse { part: Some(Part::Chunk(chunk.to_vec())) }, 0).await?;
    }
    Ok(())
}
