use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use guiji_domain::{
    Camera, CameraId, ControlError, Digest, InvalidValue, Kept, Recorded, Registered, Timestamp,
};
use sha2::{Digest as _, Sha256};
use tonic::{Request, Status, Streaming, async_trait};

use super::{Answer, Services};
use crate::ApiParts;
use crate::auth::Method;
use crate::call::{Call, CallKind, Core};
use crate::convert::{registration_from_pb, sighting_from_pb};
use crate::error::Problem;
use crate::filter::CAMERAS_MAX;
use crate::pb;
use crate::violations::{Violations, camera_id};

/// Most sightings of a message.
const SIGHTINGS_MAX: usize = 10_000;
/// Most sightings of a transaction, which must not keep the cameras' own sightings waiting for long. Small messages
/// that have arrived already share one, so that one sighting a message is no slow import.
const TRANSACTION_MAX: usize = 1000;
/// Most days of a transaction: each is a file that is written and synced.
const TRANSACTION_DAYS_MAX: usize = 32;
/// Most refusals told: an answer has its limit too.
pub(super) const REFUSALS_MAX: usize = 500;
/// How far in the future a capture may lie: beyond it a clock is wrong.
pub(super) const AHEAD_MAX: Duration = Duration::from_secs(86_400);

#[async_trait]
impl pb::import_service_server::ImportService for Services {
    async fn import_sightings(
        &self,
        request: Request<Streaming<pb::ImportSightingsRequest>>,
    ) -> Answer<pb::ImportSightingsResponse> {
        let mut call = Call::in_parts(&self.core, Method::ImportSightings, &request);
        let answer = self.import_sightings(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn import_cameras(
        &self,
        request: Request<pb::ImportCamerasRequest>,
    ) -> Answer<pb::ImportCamerasResponse> {
        let mut call = Call::new(&self.core, Method::ImportCameras, &request);
        let answer = self.import_cameras(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn import_coverage(
        &self,
        request: Request<Streaming<pb::ImportCoverageRequest>>,
    ) -> Answer<pb::ImportCoverageResponse> {
        let mut call = Call::in_parts(&self.core, Method::ImportCoverage, &request);
        let answer = self.take_coverage(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn import_road_graph(
        &self,
        request: Request<Streaming<pb::ImportRoadGraphRequest>>,
    ) -> Answer<pb::ImportRoadGraphResponse> {
        let mut call = Call::in_parts(&self.core, Method::ImportRoadGraph, &request);
        let answer = self.take_road_graph(&mut call, request.into_inner()).await;
        call.end(answer).await
    }
}

impl StreamMessage for pb::ImportSightingsRequest {
    const WHAT: &'static str = "wait for more sightings";

    fn authority(&self) -> Option<&pb::Authority> {
        self.authority.as_ref()
    }

    fn check(&self) -> Result<(), Problem> {
        limited("sightings", self.sightings.len(), SIGHTINGS_MAX)
    }
}

impl Services {
    async fn import_sightings(
        &self,
        call: &mut Call,
        stream: Streaming<pb::ImportSightingsRequest>,
    ) -> Result<pb::ImportSightingsResponse, Problem> {
        let (mut incoming, mut next) = Incoming::begin(Arc::clone(&self.core), stream).await?;
        call.admit(CallKind::Stream, incoming.authority.as_ref())?;
        call.asks("a stream of sightings");
        let mut import = SightingImport::default();
        while let Some(message) = next {
            let mut sightings = message.sightings;
            let known = loop {
                if sightings.len() >= TRANSACTION_MAX {
                    break None;
                }
                match incoming.arrived().await {
                    Some(Ok(Some(message))) => sightings.extend(message.sightings),
                    end_or_nothing => break end_or_nothing,
                }
            };
            let taking = self.core.blocking("import sightings", move |parts| {
                import.take(parts, &sightings)?;
                Ok(import)
            });
            // The next message arrives while these are stored.
            let receiving = async {
                match known {
                    Some(known) => known,
                    None => incoming.next().await,
                }
            };
            let (taken, received) = tokio::join!(taking, receiving);
            import = taken?;
            call.asks(import.to_string());
            call.found(usize::try_from(import.answer.stored_count).unwrap_or(usize::MAX));
            next = received?;
        }
        Ok(import.answer)
    }

    async fn import_cameras(
        &self,
        call: &mut Call,
        request: pb::ImportCamerasRequest,
    ) -> Result<pb::ImportCamerasResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        call.asks(format!("{} cameras", request.cameras.len()));
        limited("cameras", request.cameras.len(), CAMERAS_MAX)?;
        let files = self.core.settings.file_cameras;
        let registered = move |parts: &ApiParts| {
            let mut refusals = Vec::new();
            let (mut places, mut cameras) = (Vec::new(), Vec::new());
            for (index, given) in (0..).zip(&request.cameras) {
                let mut wrong = Violations::default();
                let id = wrong.take("name", camera_id(&given.name));
                match registration_from_pb(&mut wrong, "", id, given, files) {
                    Some(camera) => {
                        places.push((index, given.name.as_str()));
                        cameras.push(camera);
                    }
                    None => refusals.push(refusal(index, &given.name, wrong)),
                }
            }
            let outcomes = if request.validate_only {
                would_register(parts, cameras)
            } else {
                parts.cameras.register_all(cameras)?
            };
            let mut answer = pb::ImportCamerasResponse::default();
            for ((index, name), outcome) in places.into_iter().zip(outcomes) {
                match outcome {
                    Ok(Registered::New) => answer.registered_count += 1,
                    Ok(Registered::Present) => answer.present_count += 1,
                    Err(error) => {
                        let mut wrong = Violations::default();
                        wrong.add("name", not_registered(error)?);
                        refusals.push(refusal(index, name, wrong));
                    }
                }
            }
            refusals.sort_by_key(|refusal| refusal.index);
            answer.refused_count = refusals.len() as u64;
            refusals.truncate(REFUSALS_MAX);
            answer.refusals = refusals;
            Ok(answer)
        };
        let answer = self.core.blocking("import cameras", registered).await?;
        call.found(usize::try_from(answer.registered_count).unwrap_or(usize::MAX));
        Ok(answer)
    }
}

/// What would become of cameras, their number aside.
fn would_register(parts: &ApiParts, cameras: Vec<Camera>) -> Vec<Result<Registered, ControlError>> {
    let registered = parts.cameras.list().into_iter();
    let mut known: HashMap<_, _> = registered.map(|(c, _)| (c.id.clone(), c)).collect();
    let outcome = |camera: Camera| match known.entry(camera.id.clone()) {
        Entry::Occupied(known) if *known.get() == camera => Ok(Registered::Present),
        Entry::Occupied(_) => Err(ControlError::Exists(camera.id)),
        Entry::Vacant(place) => {
            place.insert(camera);
            Ok(Registered::New)
        }
    };
    cameras.into_iter().map(outcome).collect()
}

/// Why one camera of many was not registered; what concerns them all is a problem of the call.
fn not_registered(error: ControlError) -> Result<String, Problem> {
    match error {
        ControlError::Exists(_) => {
            Ok("is registered differently: give it as it is registered, or delete it first".into())
        }
        error @ ControlError::TooMany { .. } => Ok(error.to_string()),
        error @ (ControlError::NotFound(_)
        | ControlError::Changed(_)
        | ControlError::AlwaysOpen(_)
        | ControlError::TooManyOpen { .. }
        | ControlError::Store(_)) => Err(error.into()),
    }
}

/// A message of a stream that imports something.
pub(super) trait StreamMessage: Sized {
    /// What waiting for the next one is.
    const WHAT: &'static str;
    /// By what right, where it says so.
    fn authority(&self) -> Option<&pb::Authority>;
    /// Whether it is within the limits.
    fn check(&self) -> Result<(), Problem>;
}

/// The messages of a stream, each within the limits.
pub(super) struct Incoming<M> {
    core: Arc<Core>,
    stream: Streaming<M>,
    /// By what right, once the first message has said it.
    pub(super) authority: Option<pb::Authority>,
}

/// The next message; `None` at the end of the stream.
type Next<M> = Result<Option<M>, Problem>;

impl<M: StreamMessage> Incoming<M> {
    /// The stream with its first message.
    pub(super) async fn begin(
        core: Arc<Core>,
        stream: Streaming<M>,
    ) -> Result<(Self, Option<M>), Problem> {
        let mut incoming = Self { core, stream, authority: None };
        let first = incoming.next().await?;
        incoming.authority = first.as_ref().and_then(|first| first.authority().cloned());
        Ok((incoming, first))
    }

    /// Waits for the next message. A client that is silent for longer than a call may take has gone astray.
    pub(super) async fn next(&mut self) -> Next<M> {
        let silent_max = self.core.settings.deadline_max;
        tokio::select! {
            message = self.stream.message() => self.checked(message),
            () = self.core.drain_begun() => Err(Problem::Draining),
            () = tokio::time::sleep(silent_max) => Err(Problem::TooLate { doing: M::WHAT }),
        }
    }

    /// The next message if it is there already; `None` when it would have to be waited for.
    async fn arrived(&mut self) -> Option<Next<M>> {
        tokio::select! {
            biased;
            message = self.stream.message() => Some(self.checked(message)),
            () = std::future::ready(()) => None,
        }
    }

    fn checked(&self, message: Result<Option<M>, Status>) -> Next<M> {
        let Some(message) = message.map_err(Problem::broken)? else { return Ok(None) };
        let other = self.authority.is_some() && message.authority().is_some();
        if other && message.authority() != self.authority.as_ref() {
            let fix = "differs from that of the stream's first message: begin another stream";
            return Err(Problem::field("authority", fix));
        }
        message.check()?;
        Ok(Some(message))
    }
}

pub(super) fn limited(field: &str, count: usize, limit: usize) -> Result<(), Problem> {
    let mut wrong = Violations::default();
    wrong.check_count(field, count, limit);
    wrong.done()
}

pub(super) fn refusal(index: u64, name: &str, wrong: Violations) -> pb::ImportRefusal {
    pb::ImportRefusal {
        index,
        name: name.chars().take(64).collect(),
        violations: wrong
            .into_iter()
            .map(|(field, description)| pb::ImportViolation { field, description })
            .collect(),
    }
}

/// A stream of sightings as far as it was taken.
#[derive(Default)]
struct SightingImport {
    /// Place of the next sighting in the stream.
    index: u64,
    cameras: KnownCameras,
    /// Over the names that came, one a line.
    names: Sha256,
    /// Earliest and latest capture.
    captured: Option<(Timestamp, Timestamp)>,
    answer: pb::ImportSightingsResponse,
}

impl std::fmt::Display for SightingImport {
    /// What came so far, for the audit: enough to tell whether a file is what was imported.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} sightings", self.index)?;
        if let Some((first, last)) = self.captured {
            write!(f, ", captured from {first} to {last}")?;
        }
        let digest = Digest(self.names.clone().finalize().into());
        write!(f, ", SHA-256 of their names, one a line: {digest}")
    }
}

impl SightingImport {
    /// Takes sightings in, in transactions of bounded size; blocking.
    fn take(&mut self, parts: &ApiParts, sightings: &[pb::Sighting]) -> Result<(), Problem> {
        let latest = parts.clock.now().plus(AHEAD_MAX);
        let mut records = Vec::with_capacity(sightings.len());
        self.cameras.look_again();
        for (index, given) in (self.index..).zip(sightings) {
            self.names.update(given.name.as_bytes());
            self.names.update(b"\n");
            let mut wrong = Violations::default();
            let sighting = sighting_from_pb(&mut wrong, given);
            if let Some(at) = sighting.as_ref().map(|sighting| sighting.captured.at) {
                let (first, last) = self.captured.unwrap_or((at, at));
                self.captured = Some((first.min(at), last.max(at)));
            }
            // Whatever else is wrong, an unknown camera is told in the same go.
            let camera = match &sighting {
                Some(sighting) => {
                    wrong.take("capture.time", not_after(sighting.captured.at, latest));
                    Some(sighting.camera.clone())
                }
                None => camera_id(&given.camera).ok(),
            };
            if let Some(camera) = camera {
                wrong.take("camera", self.cameras.knows(parts, &camera));
            }
            match sighting.filter(|_| wrong.is_empty()) {
                Some(sighting) => records.push(Recorded {
                    sighting: Arc::new(sighting),
                    pictures: Vec::new(),
                    alerts: Vec::new(),
                }),
                None => {
                    self.answer.refused_count += 1;
                    if self.answer.refusals.len() < REFUSALS_MAX {
                        self.answer.refusals.push(refusal(index, &given.name, wrong));
                    }
                }
            }
        }
        self.index += sightings.len() as u64;
        let mut left = &mut records[..];
        while !left.is_empty() {
            let (transaction, later) = left.split_at_mut(transaction_len(left));
            for kept in parts.intake.take_in(transaction)?.kept {
                match kept {
                    Kept::New | Kept::Replaced => self.answer.stored_count += 1,
                    Kept::Present => self.answer.present_count += 1,
                }
            }
            left = later;
        }
        Ok(())
    }
}

/// Cameras that were registered when last looked.
#[derive(Default)]
pub(super) struct KnownCameras {
    ids: HashSet<CameraId>,
    looked_again: bool,
}

impl KnownCameras {
    /// A message begins: one that was not registered yet may be looked for again, once.
    pub(super) fn look_again(&mut self) {
        self.looked_again = false;
    }

    /// Whether a camera is registered.
    pub(super) fn knows(
        &mut self,
        parts: &ApiParts,
        camera: &CameraId,
    ) -> Result<(), InvalidValue> {
        if !self.ids.contains(camera) && !self.looked_again {
            self.looked_again = true;
            self.ids = parts.cameras.list().into_iter().map(|(camera, _)| camera.id).collect();
        }
        if self.ids.contains(camera) {
            Ok(())
        } else {
            Err(InvalidValue::new("camera", camera, "is not registered: ImportCameras first"))
        }
    }
}

/// How many of the sightings, from the first on, go into one transaction.
fn transaction_len(records: &[Recorded]) -> usize {
    let mut days = HashSet::new();
    let fits = |record: &&Recorded| {
        days.insert(record.sighting.span.first().utc_day());
        days.len() <= TRANSACTION_DAYS_MAX
    };
    records.iter().take(TRANSACTION_MAX).take_while(fits).count()
}

pub(super) fn not_after(at: Timestamp, latest: Timestamp) -> Result<(), InvalidValue> {
    if at <= latest {
        Ok(())
    } else {
        let fix = "lies more than a day in the future: which clock is wrong?";
        Err(InvalidValue::new("time", at, fix))
    }
}
