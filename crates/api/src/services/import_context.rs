//! Importing what sightings are judged by: coverage and roads.

use std::sync::Arc;

use guiji_domain::{Coverage, Digest, Kept};
use sha2::{Digest as _, Sha256};
use tonic::Streaming;

use super::Services;
use super::import::{
    AHEAD_MAX, Incoming, KnownCameras, REFUSALS_MAX, StreamMessage, limited, not_after, refusal,
};
use crate::ApiParts;
use crate::call::{Call, CallKind};
use crate::convert::{coverage_from_pb, roads_from_geojson};
use crate::error::Problem;
use crate::pb;
use crate::violations::{Violations, camera_id};

/// Most intervals of a message.
const COVERAGE_MAX: usize = 10_000;
/// Largest GeoJSON text, bytes. The protos promise it.
const GEOJSON_BYTES_MAX: usize = 256 << 20;

impl StreamMessage for pb::ImportCoverageRequest {
    const WHAT: &'static str = "wait for more coverage";

    fn authority(&self) -> Option<&pb::Authority> {
        self.authority.as_ref()
    }

    fn check(&self) -> Result<(), Problem> {
        limited("coverage", self.coverage.len(), COVERAGE_MAX)
    }
}

impl StreamMessage for pb::ImportRoadGraphRequest {
    const WHAT: &'static str = "wait for more roads";

    fn authority(&self) -> Option<&pb::Authority> {
        self.authority.as_ref()
    }

    fn check(&self) -> Result<(), Problem> {
        Ok(())
    }
}

impl Services {
    pub(super) async fn take_coverage(
        &self,
        call: &mut Call,
        stream: Streaming<pb::ImportCoverageRequest>,
    ) -> Result<pb::ImportCoverageResponse, Problem> {
        let (mut incoming, mut next) = Incoming::begin(Arc::clone(&self.core), stream).await?;
        call.admit(CallKind::Stream, incoming.authority.as_ref())?;
        call.asks("a stream of coverage");
        let mut import = CoverageImport::default();
        while let Some(message) = next {
            let taken = move |parts: &ApiParts| {
                import.take(parts, &message.coverage)?;
                Ok(import)
            };
            import = self.core.blocking("import coverage", taken).await?;
            call.asks(format!("{} intervals of coverage", import.index));
            call.found(usize::try_from(import.answer.stored_count).unwrap_or(usize::MAX));
            next = incoming.next().await?;
        }
        Ok(import.answer)
    }

    pub(super) async fn take_road_graph(
        &self,
        call: &mut Call,
        stream: Streaming<pb::ImportRoadGraphRequest>,
    ) -> Result<pb::ImportRoadGraphResponse, Problem> {
        let (mut incoming, mut next) = Incoming::begin(Arc::clone(&self.core), stream).await?;
        call.admit(CallKind::Stream, incoming.authority.as_ref())?;
        call.asks("the road graph");
        let (mut text, mut hash) = (Vec::new(), Sha256::new());
        while let Some(message) = next {
            if text.len() + message.geojson.len() > GEOJSON_BYTES_MAX {
                let fix = "is longer than 256 MiB: cut out the area of the cameras";
                return Err(Problem::field("geojson", fix));
            }
            hash.update(&message.geojson);
            text.extend(message.geojson);
            next = incoming.next().await?;
        }
        let digest = Digest(hash.finalize().into());
        call.asks(format!("a road graph of {} bytes, SHA-256 {digest}", text.len()));
        let networks = Arc::clone(&self.core.networks);
        let taken = move |parts: &ApiParts| {
            let mut wrong = Violations::default();
            let roads = roads_from_geojson(&mut wrong, &text);
            drop(text);
            wrong.done()?;
            let Some(roads) = roads else {
                return Err(Problem::field("geojson", "holds no roads"));
            };
            let before = parts.roads.road_graph()?;
            let metres: f64 = roads.graph.edges().iter().map(|edge| edge.length_m).sum();
            let mut answer = pb::ImportRoadGraphResponse {
                node_count: roads.graph.nodes().len() as u64,
                edge_count: roads.graph.edges().len() as u64,
                length_km: metres / 1000.0,
                other_count: roads.others,
                ..Default::default()
            };
            parts.roads.put_road_graph(roads.graph)?;
            // What is kept is rounded, so that only what was kept can be compared.
            answer.present = before.is_some() && parts.roads.road_graph()? == before;
            let network = networks.get(parts)?;
            if let Some(roads) = network.roads() {
                answer.camera_count = roads.cameras_on_roads() as u64;
                answer.stray_camera_count = network.positions().len() as u64 - answer.camera_count;
            }
            Ok(answer)
        };
        let answer = self.core.blocking("import the roads", taken).await?;
        call.found(usize::try_from(answer.edge_count).unwrap_or(usize::MAX));
        Ok(answer)
    }
}

/// A stream of coverage as far as it was taken.
#[derive(Default)]
struct CoverageImport {
    /// Place of the next interval in the stream.
    index: u64,
    cameras: KnownCameras,
    answer: pb::ImportCoverageResponse,
}

impl CoverageImport {
    /// Takes intervals in, in one transaction; blocking.
    fn take(&mut self, parts: &ApiParts, given: &[pb::Coverage]) -> Result<(), Problem> {
        let latest = parts.clock.now().plus(AHEAD_MAX);
        let mut intervals: Vec<Coverage> = Vec::with_capacity(given.len());
        self.cameras.look_again();
        for (index, given) in (self.index..).zip(given) {
            let mut wrong = Violations::default();
            let coverage = coverage_from_pb(&mut wrong, given);
            if let Some(coverage) = &coverage {
                wrong.take("end_time", not_after(coverage.span.last(), latest));
            }
            if let Ok(camera) = camera_id(&given.camera) {
                wrong.take("camera", self.cameras.knows(parts, &camera));
            }
            match coverage.filter(|_| wrong.is_empty()) {
                Some(coverage) => intervals.push(coverage),
                None => {
                    self.answer.refused_count += 1;
                    if self.answer.refusals.len() < REFUSALS_MAX {
                        self.answer.refusals.push(refusal(index, &given.camera, wrong));
                    }
                }
            }
        }
        self.index += given.len() as u64;
        for kept in parts.coverage.keep_coverage(&intervals)? {
            match kept {
                Kept::New | Kept::Replaced => self.answer.stored_count += 1,
                Kept::Present => self.answer.present_count += 1,
            }
        }
        Ok(())
    }
}
