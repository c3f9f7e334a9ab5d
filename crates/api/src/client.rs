//! A client of the API for programs that do not know gRPC: the messages of [`pb`] in, the messages of [`pb`] out.

mod cameras;
mod oversight;
mod patrol;
mod tactics;

use std::fmt;
use std::time::Duration;

use guiji_domain::{Authority, Timestamp};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

use crate::convert::{duration_to_pb, timestamp_to_pb};
use crate::pb;
use crate::pb::alert_service_client::AlertServiceClient;
use crate::pb::camera_service_client::CameraServiceClient;
use crate::pb::correction_service_client::CorrectionServiceClient;
use crate::pb::import_service_client::ImportServiceClient;
use crate::pb::likely_service_client::LikelyServiceClient;
use crate::pb::sighting_service_client::SightingServiceClient;
use crate::pb::trajectory_service_client::TrajectoryServiceClient;
use crate::pb::watchlist_service_client::WatchlistServiceClient;

/// Time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Time for the answer of a unary call or the beginning of a stream.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Largest picture that is taken, bytes.
const PICTURE_BYTES_MAX: usize = 64 << 20;

/// Messages of an import that wait for the connection.
const IMPORT_AHEAD: usize = 2;

/// A connection to a server, with the right by which its user asks. Cloning shares the connection.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Connection,
    authority: pb::Authority,
}

/// A channel that shows the token with each call.
type Connection = InterceptedService<Channel, Bearer>;

/// How a client proves who it is, and knows the server.
#[derive(Clone, Default)]
pub struct Access {
    /// The bearer token.
    pub token: Option<String>,
    /// Connect with TLS, and believe certificates of this authority; PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// The client's own certificate and its private key, for servers that ask for one; PEM.
    pub certificate_and_key_pem: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Access {
    /// Shows no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("token", &self.token.is_some())
            .field("tls", &self.ca_pem.is_some())
            .field("certificate", &self.certificate_and_key_pem.is_some())
            .finish()
    }
}

/// The user that a token names, unchecked: it is the server that checks.
pub fn subject_of_token(token: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Subject {
        sub: String,
    }
    let claims = jsonwebtoken::dangerous::insecure_decode_claims::<Subject>(token.trim());
    claims.ok().map(|claims| claims.sub)
}

#[derive(Debug, Clone)]
struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Bearer {
    fn new(token: Option<&str>) -> Result<Self, ClientError> {
        let header = |token: &str| {
            let header = format!("Bearer {}", token.trim()).parse::<MetadataValue<Ascii>>();
            let mut header = header.map_err(|_| {
                ClientError::new(ErrorCode::InvalidArgument, "the token is no text of one line")
            })?;
            header.set_sensitive(true);
            Ok(header)
        };
        token.map(header).transpose().map(Self)
    }
}

/// Where an alert stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertsFrom {
    /// After the cursor of the last alert that was dealt with.
    AfterCursor(u64),
    /// With what is raised from now on.
    Now,
    /// With the first alert of the log.
    Beginning,
}

/// A picture that proves a sighting; its bytes have the digest that the sighting names.
#[derive(Debug, Clone, PartialEq)]
pub struct EvidencePicture {
    /// What it is.
    pub header: pb::Evidence,
    /// The encoded picture.
    pub bytes: Vec<u8>,
}

impl Client {
    /// Connects to `HOST:PORT` without TLS and token: to a server of this machine.
    ///
    /// # Errors
    /// When the address cannot be understood or nobody answers there within 5 seconds.
    pub async fn connect(address: &str, authority: &Authority) -> Result<Self, ClientError> {
        Self::connect_with(address, authority, &Access::default()).await
    }

    /// Connects to `HOST:PORT`, with TLS where an authority for certificates is given.
    ///
    /// # Errors
    /// As [`Self::connect`], when the server's certificate is not believed or the client's is not wanted, and when a
    /// token would travel to another machine in the clear.
    pub async fn connect_with(
        address: &str,
        authority: &Authority,
        access: &Access,
    ) -> Result<Self, ClientError> {
        let unreachable = |error: tonic::transport::Error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            ClientError::new(ErrorCode::Unavailable, format!("connect to {address}: {cause}"))
        };
        let scheme = if access.ca_pem.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(unreachable)?
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        match &access.ca_pem {
            Some(ca) => {
                let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
                if let Some((certificate, key)) = &access.certificate_and_key_pem {
                    tls = tls.identity(Identity::from_pem(certificate, key));
                }
                endpoint = endpoint.tls_config(tls).map_err(unreachable)?;
            }
            None if access.token.is_some() && !is_local(endpoint.uri().host()) => {
                return Err(ClientError::new(
                    ErrorCode::InvalidArgument,
                    format!(
                        "{address}: a token is not sent to another machine in the clear: give the authority of its \
                         certificate"
                    ),
                ));
            }
            None => {}
        }
        let bearer = Bearer::new(access.token.as_deref())?;
        let channel = endpoint.connect().await.map_err(unreachable)?;
        Ok(Self {
            channel: InterceptedService::new(channel, bearer),
            authority: pb::Authority {
                purpose: authority.purpose().to_owned(),
                case_number: authority.case_number().to_owned(),
                officer: authority.officer().to_owned(),
            },
        })
    }

    fn authority(&self) -> Option<pb::Authority> {
        Some(self.authority.clone())
    }

    fn cameras_client(&self) -> CameraServiceClient<Connection> {
        CameraServiceClient::new(self.channel.clone())
    }

    fn sightings_client(&self) -> SightingServiceClient<Connection> {
        SightingServiceClient::new(self.channel.clone())
    }

    fn watchlist_client(&self) -> WatchlistServiceClient<Connection> {
        WatchlistServiceClient::new(self.channel.clone())
    }

    fn alerts_client(&self) -> AlertServiceClient<Connection> {
        AlertServiceClient::new(self.channel.clone())
    }

    /// All cameras with their health, ordered by id.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn cameras(&self) -> Result<Vec<pb::Camera>, ClientError> {
        let mut cameras = Vec::new();
        let mut page_token = String::new();
        loop {
            let authority = self.authority();
            let request = pb::ListCamerasRequest { authority, page_size: 1000, page_token };
            let page = self.cameras_client().list_cameras(request).await?.into_inner();
            cameras.extend(page.cameras);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(cameras);
            }
        }
    }

    /// Registers a camera; the answer is the camera as registered.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn create_camera(
        &self,
        id: &str,
        camera: pb::Camera,
    ) -> Result<pb::Camera, ClientError> {
        let request = pb::CreateCameraRequest {
            authority: self.authority(),
            camera_id: id.to_owned(),
            camera: Some(camera),
        };
        let answer = self.cameras_client().create_camera(request).await?.into_inner();
        answer.camera.ok_or_else(incomplete)
    }

    /// Opens a closed `cameras/ID` for a while.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn open_camera(
        &self,
        name: &str,
        period: Duration,
    ) -> Result<pb::Camera, ClientError> {
        let request = pb::OpenCameraRequest {
            authority: self.authority(),
            name: name.to_owned(),
            open_period: Some(duration_to_pb(period)),
        };
        let answer = self.cameras_client().open_camera(request).await?.into_inner();
        answer.camera.ok_or_else(incomplete)
    }

    /// Takes `cameras/ID` off the register.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn delete_camera(&self, name: &str) -> Result<(), ClientError> {
        let request =
            pb::DeleteCameraRequest { authority: self.authority(), name: name.to_owned() };
        self.cameras_client().delete_camera(request).await?;
        Ok(())
    }

    /// Registers many cameras, each with its `name`; those registered alike already stay.
    ///
    /// # Errors
    /// What the server or the connection says. Cameras that were refused are in the answer.
    pub async fn import_cameras(
        &self,
        cameras: Vec<pb::Camera>,
    ) -> Result<pb::ImportCamerasResponse, ClientError> {
        let request =
            pb::ImportCamerasRequest { authority: self.authority(), cameras, validate_only: false };
        let mut client = ImportServiceClient::new(self.channel.clone());
        Ok(client.import_cameras(request).await?.into_inner())
    }

    /// Begins a stream of sightings to import; it may last an hour and be silent for 30 s.
    pub fn import_sightings(&self) -> SightingImport {
        let (chunks, waiting) = mpsc::channel(IMPORT_AHEAD);
        let mut client = ImportServiceClient::new(self.channel.clone());
        let answer = tokio::spawn(async move {
            Ok(client.import_sightings(ReceiverStream::new(waiting)).await?.into_inner())
        });
        SightingImport { authority: self.authority(), chunks, answer }
    }

    /// Imports what cameras could see.
    ///
    /// # Errors
    /// What the server or the connection says. Intervals that were refused are in the answer.
    pub async fn import_coverage(
        &self,
        coverage: Vec<pb::Coverage>,
    ) -> Result<pb::ImportCoverageResponse, ClientError> {
        /// Well below 4 MiB.
        const CHUNK: usize = 5000;
        let authority = self.authority();
        let chunks: Vec<_> = coverage.chunks(CHUNK).map(<[_]>::to_vec).collect();
        let messages = chunks.into_iter().chain([Vec::new()]).map(move |coverage| {
            pb::ImportCoverageRequest { authority: authority.clone(), coverage }
        });
        let mut client = ImportServiceClient::new(self.channel.clone());
        let stream = tokio_stream::iter(messages);
        Ok(client.import_coverage(stream).await?.into_inner())
    }

    /// Imports the roads, GeoJSON, in the place of those before.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn import_road_graph(
        &self,
        geojson: Vec<u8>,
    ) -> Result<pb::ImportRoadGraphResponse, ClientError> {
        const CHUNK: usize = 1 << 20;
        let authority = self.authority();
        let chunks: Vec<_> = geojson.chunks(CHUNK).map(<[_]>::to_vec).collect();
        let messages = chunks.into_iter().chain([Vec::new()]).map(move |geojson| {
            pb::ImportRoadGraphRequest { authority: authority.clone(), geojson }
        });
        let mut client = ImportServiceClient::new(self.channel.clone());
        let stream = tokio_stream::iter(messages);
        Ok(client.import_road_graph(stream).await?.into_inner())
    }

    /// The likeliest sightings of what is known of a plate. The request's authority is filled in.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn search_likely(
        &self,
        request: pb::SearchLikelyRequest,
    ) -> Result<pb::SearchLikelyResponse, ClientError> {
        let request = pb::SearchLikelyRequest { authority: self.authority(), ..request };
        let mut client = LikelyServiceClient::new(self.channel.clone());
        Ok(client.search_likely(request).await?.into_inner())
    }

    /// Says what the plate of `sightings/ID` is, and how that is known.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn correct_sighting(
        &self,
        name: &str,
        plate: &str,
        reason: &str,
    ) -> Result<pb::CorrectSightingResponse, ClientError> {
        let request = pb::CorrectSightingRequest {
            authority: self.authority(),
            name: name.to_owned(),
            plate: plate.to_owned(),
            reason: reason.to_owned(),
        };
        let mut client = CorrectionServiceClient::new(self.channel.clone());
        Ok(client.correct_sighting(request).await?.into_inner())
    }

    /// A page of sightings. The request's authority is filled in.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn search(
        &self,
        request: pb::SearchSightingsRequest,
    ) -> Result<pb::SearchSightingsResponse, ClientError> {
        let request = pb::SearchSightingsRequest { authority: self.authority(), ..request };
        Ok(self.sightings_client().search_sightings(request).await?.into_inner())
    }

    /// All sightings that a filter wants, in chunks. The request's authority is filled in.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn stream_sightings(
        &self,
        request: pb::StreamSightingsRequest,
    ) -> Result<Messages<pb::StreamSightingsResponse>, ClientError> {
        let request = pb::StreamSightingsRequest { authority: self.authority(), ..request };
        Ok(self.sightings_client().stream_sightings(request).await?.into_inner().into())
    }

    /// New sightings as they are recorded. The request's authority is filled in.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn watch_sightings(
        &self,
        request: pb::WatchSightingsRequest,
    ) -> Result<Messages<pb::WatchSightingsResponse>, ClientError> {
        let request = pb::WatchSightingsRequest { authority: self.authority(), ..request };
        Ok(self.sightings_client().watch_sightings(request).await?.into_inner().into())
    }

    /// The sighting `sightings/ID`, with everything.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn sighting(&self, name: &str) -> Result<pb::Sighting, ClientError> {
        let request = pb::GetSightingRequest {
            authority: self.authority(),
            name: name.to_owned(),
            view: pb::SightingView::Full.into(),
        };
        let answer = self.sightings_client().get_sighting(request).await?.into_inner();
        answer.sighting.ok_or_else(incomplete)
    }

    /// The picture `sightings/ID/evidence/DIGEST` as the caller may have it, its bytes checked against their digest.
    ///
    /// # Errors
    /// What the server or the connection says; DATA_LOSS when the bytes are not what the digest says.
    pub async fn evidence(&self, name: &str) -> Result<EvidencePicture, ClientError> {
        self.evidence_with(name, pb::PeopleInPictures::Unspecified).await
    }

    /// The same with people in it as asked for.
    ///
    /// # Errors
    /// What the server or the connection says; DATA_LOSS when the bytes are not what the digest says.
    pub async fn evidence_with(
        &self,
        name: &str,
        people: pb::PeopleInPictures,
    ) -> Result<EvidencePicture, ClientError> {
        use pb::get_evidence_response::Part;
        let request = pb::GetEvidenceRequest {
            authority: self.authority(),
            name: name.to_owned(),
            people: people.into(),
        };
        let mut parts = self.sightings_client().get_evidence(request).await?.into_inner();
        let (mut header, mut bytes) = (None, Vec::new());
        while let Some(message) = parts.message().await? {
            match message.part {
                Some(Part::Header(given)) => header = Some(given),
                Some(Part::Chunk(chunk)) if bytes.len() + chunk.len() <= PICTURE_BYTES_MAX => {
                    bytes.extend(chunk);
                }
                Some(Part::Chunk(_)) => {
                    return Err(ClientError::new(ErrorCode::Internal, "the picture is too large"));
                }
                None => {}
            }
        }
        let header = header.ok_or_else(incomplete)?;
        let digest = guiji_domain::Digest(Sha256::digest(&bytes).into());
        if digest.to_string() == header.sha256 {
            Ok(EvidencePicture { header, bytes })
        } else {
            Err(ClientError::new(ErrorCode::DataLoss, format!("{name}: the bytes are damaged")))
        }
    }

    /// The trajectory of a plate between two instants, where given, with sightings that may have been misread.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn trajectory(
        &self,
        plate: &str,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
    ) -> Result<pb::Trajectory, ClientError> {
        self.get_trajectory(plate, start, end, false).await
    }

    /// The same of sightings that were read, or corrected, so.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn exact_trajectory(
        &self,
        plate: &str,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
    ) -> Result<pb::Trajectory, ClientError> {
        self.get_trajectory(plate, start, end, true).await
    }

    async fn get_trajectory(
        &self,
        plate: &str,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
        exact_only: bool,
    ) -> Result<pb::Trajectory, ClientError> {
        let request = pb::GetTrajectoryRequest {
            authority: self.authority(),
            plate: plate.to_owned(),
            start_time: start.map(timestamp_to_pb),
            end_time: end.map(timestamp_to_pb),
            exact_only,
            ..Default::default()
        };
        let mut client = TrajectoryServiceClient::new(self.channel.clone());
        let answer = client.get_trajectory(request).await?.into_inner();
        answer.trajectory.ok_or_else(incomplete)
    }

    /// All watch-list entries, ordered by id.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn watchlist(&self) -> Result<Vec<pb::WatchlistEntry>, ClientError> {
        let mut entries = Vec::new();
        let mut page_token = String::new();
        loop {
            let authority = self.authority();
            let request =
                pb::ListWatchlistEntriesRequest { authority, page_size: 1000, page_token };
            let page = self.watchlist_client().list_watchlist_entries(request).await?.into_inner();
            entries.extend(page.watchlist_entries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(entries);
            }
        }
    }

    /// Enters into the watch-list; an empty id lets the server choose. The answer is the entry as entered.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn create_watchlist_entry(
        &self,
        id: &str,
        entry: pb::WatchlistEntry,
    ) -> Result<pb::WatchlistEntry, ClientError> {
        let request = pb::CreateWatchlistEntryRequest {
            authority: self.authority(),
            watchlist_entry_id: id.to_owned(),
            watchlist_entry: Some(entry),
        };
        let answer = self.watchlist_client().create_watchlist_entry(request).await?.into_inner();
        answer.watchlist_entry.ok_or_else(incomplete)
    }

    /// Agrees to `watchlistEntries/ID`, somebody else's; the entry as it is now in force.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn approve_watchlist_entry(
        &self,
        name: &str,
    ) -> Result<pb::WatchlistEntry, ClientError> {
        let request =
            pb::ApproveWatchlistEntryRequest { authority: self.authority(), name: name.to_owned() };
        let answer = self.watchlist_client().approve_watchlist_entry(request).await?.into_inner();
        answer.watchlist_entry.ok_or_else(incomplete)
    }

    /// Enters at most 1000 entries, each with its `name`, or only checks them.
    ///
    /// # Errors
    /// What the server or the connection says. An entry that is wrong is a refusal in the answer.
    pub async fn import_watchlist_entries(
        &self,
        watchlist_entries: Vec<pb::WatchlistEntry>,
        validate_only: bool,
    ) -> Result<pb::ImportWatchlistEntriesResponse, ClientError> {
        let request = pb::ImportWatchlistEntriesRequest {
            authority: self.authority(),
            watchlist_entries,
            validate_only,
        };
        Ok(self.watchlist_client().import_watchlist_entries(request).await?.into_inner())
    }

    /// What an entry would have rung since a time.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn dry_run_watchlist_entry(
        &self,
        entry: pb::WatchlistEntry,
        since: prost_types::Timestamp,
    ) -> Result<pb::DryRunWatchlistEntryResponse, ClientError> {
        let request = pb::DryRunWatchlistEntryRequest {
            authority: self.authority(),
            watchlist_entry: Some(entry),
            start_time: Some(since),
        };
        Ok(self.watchlist_client().dry_run_watchlist_entry(request).await?.into_inner())
    }

    /// Removes `watchlistEntries/ID`.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn delete_watchlist_entry(&self, name: &str) -> Result<(), ClientError> {
        let request =
            pb::DeleteWatchlistEntryRequest { authority: self.authority(), name: name.to_owned() };
        self.watchlist_client().delete_watchlist_entry(request).await?;
        Ok(())
    }

    /// A page of the alert log after a cursor. Further pages: the cursor of the last alert.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn list_alerts(
        &self,
        after_cursor: u64,
        page_size: i32,
    ) -> Result<Vec<pb::Alert>, ClientError> {
        let request = pb::ListAlertsRequest {
            authority: self.authority(),
            after_cursor,
            page_size,
            page_token: String::new(),
        };
        Ok(self.alerts_client().list_alerts(request).await?.into_inner().alerts)
    }

    /// Follows the alert log. The first message is a heartbeat with the cursor that the stream begins after.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn alerts(
        &self,
        from: AlertsFrom,
        heartbeat: Option<Duration>,
    ) -> Result<Messages<pb::StreamAlertsResponse>, ClientError> {
        self.alerts_for("", from, heartbeat).await
    }

    /// Follows those alerts that name the unit `patrolUnits/ID`.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn alerts_for(
        &self,
        patrol_unit: &str,
        from: AlertsFrom,
        heartbeat: Option<Duration>,
    ) -> Result<Messages<pb::StreamAlertsResponse>, ClientError> {
        use pb::stream_alerts_request::Start;
        let request = pb::StreamAlertsRequest {
            patrol_unit: patrol_unit.to_owned(),
            authority: self.authority(),
            start: Some(match from {
                AlertsFrom::AfterCursor(cursor) => Start::AfterCursor(cursor),
                AlertsFrom::Now => Start::FromNow(pb::FromNow {}),
                AlertsFrom::Beginning => Start::FromBeginning(pb::FromBeginning {}),
            }),
            heartbeat_interval: heartbeat.map(duration_to_pb),
        };
        Ok(self.alerts_client().stream_alerts(request).await?.into_inner().into())
    }
}

/// A stream of sightings on their way to the server. Dropping it leaves open what became of them.
#[derive(Debug)]
pub struct SightingImport {
    authority: Option<pb::Authority>,
    chunks: mpsc::Sender<pb::ImportSightingsRequest>,
    answer: JoinHandle<Result<pb::ImportSightingsResponse, ClientError>>,
}

impl SightingImport {
    /// Sends at most 10,000 sightings; waits while the server is busy. False when the server takes no more:
    /// [`Self::finish`] says why.
    pub async fn send(&mut self, sightings: Vec<pb::Sighting>) -> bool {
        let authority = self.authority.take(); // the first message has it
        let chunk = pb::ImportSightingsRequest { authority, sightings };
        self.chunks.send(chunk).await.is_ok()
    }

    /// Ends the stream and waits for the acknowledgement: everything that it counts is durable.
    ///
    /// # Errors
    /// What the server or the connection says. Some of the stream may be stored then; give all of it again.
    pub async fn finish(self) -> Result<pb::ImportSightingsResponse, ClientError> {
        drop(self.chunks);
        self.answer.await.unwrap_or_else(|_| Err(incomplete()))
    }
}

/// The messages of a stream. Dropping it ends the stream.
pub struct Messages<T>(Streaming<T>);

impl<T> Messages<T> {
    /// The next message; `None` when the server has ended the stream well.
    ///
    /// # Errors
    /// What the server or the connection says; the stream is then over.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        Ok(self.0.message().await?)
    }
}

impl<T> From<Streaming<T>> for Messages<T> {
    fn from(messages: Streaming<T>) -> Self {
        Self(messages)
    }
}

impl<T> fmt::Debug for Messages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Messages")
    }
}

/// Why a call failed, in terms that a person or a program can act on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ClientError {
    /// The kind.
    pub code: ErrorCode,
    /// One sentence, as the server said it.
    pub message: String,
    /// The server's reason as a constant to program against (`INVALID_FIELD`, `SERVER_BUSY`…), where it gave one.
    pub reason: Option<String>,
    /// Each field that is wrong, and how to mend it.
    pub violations: Vec<FieldViolation>,
    /// When to try again, where that helps.
    pub retry_after: Option<Duration>,
}

/// One field of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field: `filter.plate_pattern`.
    pub field: String,
    /// What is wrong with it, and how to mend it.
    pub description: String,
}

/// The kinds of failure that a caller tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is wrong; trying it again does not help.
    InvalidArgument,
    /// There is no such thing.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// Somebody else changed the thing meanwhile: look at it again.
    Aborted,
    /// The thing is not in a state in which this can be done.
    FailedPrecondition,
    /// A cursor lies beyond the end of the log.
    OutOfRange,
    /// A limit is reached, or the server is busy.
    ResourceExhausted,
    /// The server asks for a token that holds.
    Unauthenticated,
    /// The token gives no right to this.
    PermissionDenied,
    /// Nobody answers, or the server is stopping: connect again.
    Unavailable,
    /// The answer took too long.
    DeadlineExceeded,
    /// Stored data is damaged.
    DataLoss,
    /// The server failed.
    Internal,
}

impl ErrorCode {
    /// The name of the gRPC code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Aborted => "ABORTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::Unavailable => "UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::DataLoss => "DATA_LOSS",
            Self::Internal => "INTERNAL",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ClientError {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            reason: None,
            violations: Vec::new(),
            retry_after: None,
        }
    }
}

fn is_local(host: Option<&str>) -> bool {
    let host = host.unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

fn incomplete() -> ClientError {
    ClientError::new(ErrorCode::Internal, "the server's answer is incomplete")
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::InvalidArgument => ErrorCode::InvalidArgument,
            Code::NotFound => ErrorCode::NotFound,
            Code::AlreadyExists => ErrorCode::AlreadyExists,
            Code::Aborted => ErrorCode::Aborted,
            Code::FailedPrecondition => ErrorCode::FailedPrecondition,
            Code::OutOfRange => ErrorCode::OutOfRange,
            Code::ResourceExhausted => ErrorCode::ResourceExhausted,
            Code::Unauthenticated => ErrorCode::Unauthenticated,
            Code::PermissionDenied => ErrorCode::PermissionDenied,
            // A broken connection shows as unknown or cancelled.
            Code::Unavailable | Code::Unknown | Code::Cancelled => ErrorCode::Unavailable,
            Code::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            Code::DataLoss => ErrorCode::DataLoss,
            _ => ErrorCode::Internal,
        };
        let details = status.get_error_details();
        let violations = details.bad_request().map_or_else(Vec::new, |bad| {
            bad.field_violations
                .iter()
                .map(|v| FieldViolation {
                    field: v.field.clone(),
                    description: v.description.clone(),
                })
                .collect()
        });
        Self {
            code,
            message: status.message().to_owned(),
            reason: details.error_info().map(|info| info.reason.clone()),
            violations,
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }
}
