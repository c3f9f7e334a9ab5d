use std::sync::Arc;
use std::time::Duration;

use guiji_domain::Clock;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::info;

use crate::auth::{Authenticate, ClientCertificates, Refusals, TokenVerifier};
use crate::call::Core;
use crate::pb::alert_service_server::AlertServiceServer;
use crate::pb::audit_service_server::AuditServiceServer;
use crate::pb::camera_service_server::CameraServiceServer;
use crate::pb::correction_service_server::CorrectionServiceServer;
use crate::pb::evidence_service_server::EvidenceServiceServer;
use crate::pb::import_service_server::ImportServiceServer;
use crate::pb::likely_service_server::LikelyServiceServer;
use crate::pb::patrol_service_server::PatrolServiceServer;
use crate::pb::release_service_server::ReleaseServiceServer;
use crate::pb::sighting_service_server::SightingServiceServer;
use crate::pb::tactics_service_server::TacticsServiceServer;
use crate::pb::trajectory_service_server::TrajectoryServiceServer;
use crate::pb::watchlist_service_server::WatchlistServiceServer;
use crate::services::Services;
use crate::{ApiError, ApiParts, ApiSettings, Protection, listen_address_allowed, pb};

/// Answers `guiji.v1` over gRPC, with the standard health and reflection services beside it.
pub struct ApiServer {
    parts: ApiParts,
    settings: ApiSettings,
    tls: Option<ServerTls>,
    tokens: Option<Arc<TokenVerifier>>,
    certificates: ClientCertificates,
}

/// How the server shows who it is, and whom it lets connect.
#[derive(Clone)]
pub struct ServerTls {
    /// The certificate, those of its issuers after it; PEM.
    pub certificate_pem: Vec<u8>,
    /// The certificate's private key; PEM.
    pub key_pem: Vec<u8>,
    /// Only clients with a certificate of this authority may connect; PEM.
    pub client_ca_pem: Option<Vec<u8>>,
}

/// The names under which health is asked for; the empty one is the whole server.
const HEALTH_NAMES: &[&str] = &[
    "",
    CameraServiceServer::<Services>::NAME,
    ImportServiceServer::<Services>::NAME,
    SightingServiceServer::<Services>::NAME,
    TrajectoryServiceServer::<Services>::NAME,
    LikelyServiceServer::<Services>::NAME,
    CorrectionServiceServer::<Services>::NAME,
    WatchlistServiceServer::<Services>::NAME,
    AlertServiceServer::<Services>::NAME,
    PatrolServiceServer::<Services>::NAME,
    EvidenceServiceServer::<Services>::NAME,
    AuditServiceServer::<Services>::NAME,
    ReleaseServiceServer::<Services>::NAME,
    TacticsServiceServer::<Services>::NAME,
];

impl ApiServer {
    /// A server over these parts; nothing runs until [`Self::serve`].
    pub fn new(parts: ApiParts, settings: ApiSettings) -> Self {
        Self {
            parts,
            settings,
            tls: None,
            tokens: None,
            certificates: ClientCertificates::default(),
        }
    }

    /// Encrypts connections.
    #[must_use]
    pub fn with_tls(self, tls: ServerTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Asks every data call for a token that holds. Health and reflection stay open: they tell of no data.
    #[must_use]
    pub fn with_tokens(self, tokens: TokenVerifier) -> Self {
        Self { tokens: Some(Arc::new(tokens)), ..self }
    }

    /// Knows the owners of client certificates by [`ServerTls::client_ca_pem`]'s authority: a call without a token is
    /// its connection's owner's. Without tokens, every data call must come from one of them.
    #[must_use]
    pub fn with_client_certificates(self, certificates: ClientCertificates) -> Self {
        Self { certificates, ..self }
    }

    /// Serves until `shutdown` completes, then drains: health says NOT_SERVING, streams end with UNAVAILABLE, no new
    /// connection is taken, calls in progress are answered, and what is still open after
    /// [`ApiSettings::drain_max`] is cut off.
    ///
    /// # Errors
    /// When the listener is reachable from other machines without leave, certificate or key cannot be used, the
    /// transport fails, or calls had to be cut off.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ApiError> {
        let address = listener.local_addr().map_err(ApiError::Listener)?;
        let asks = self.tls.as_ref().is_some_and(|tls| tls.client_ca_pem.is_some());
        let identified = self.tokens.is_some() || (asks && !self.certificates.is_empty());
        let protection = Protection { tls: self.tls.is_some(), identified };
        listen_address_allowed(address, protection, self.settings.exposure)?;
        let clock = Arc::clone(&self.parts.clock);
        let refusals = Refusals::new(Arc::clone(&self.parts.audit), Arc::clone(&clock));
        let refusals = Arc::new(refusals);
        let authenticate = Authenticate::new(
            self.tokens,
            self.certificates,
            Arc::clone(&clock),
            Arc::clone(&refusals),
        );
        let _refusing = AbortOnDrop(tokio::spawn(tell_refusals(refusals, clock)));
        let (drain, draining) = watch::channel(false);
        let settings = self.settings.clone();
        let live = self.parts.live.subscribe();
        let services = Services::new(Core::new(self.parts, self.settings, draining.clone()));
        let _watching = AbortOnDrop(tokio::spawn(services.clone().watch_for_clones(live)));
        let _learning = AbortOnDrop(tokio::spawn(services.clone().keep_forecasts_learnt()));
        let (health, health_service) = tonic_health::server::health_reporter();
        set_health(&health, ServingStatus::Serving).await;

        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let wrong =
            |error: tonic_reflection::server::Error| ApiError::Reflection(error.to_string());
        let writes = settings.response_bytes_max;
        // Every generated server has these two methods, but no trait says so.
        macro_rules! bounded {
            ($server:ident) => {
                bounded!($server, settings.request_bytes_max)
            };
            ($server:ident, $reads:expr) => {
                InterceptedService::new(
                    $server::new(services.clone())
                        .max_decoding_message_size($reads)
                        .max_encoding_message_size(writes),
                    authenticate.before($server::<Services>::NAME),
                )
            };
        }
        let mut server = Server::builder();
        if let Some(tls) = self.tls {
            server =
                server.tls_config(tls.config()).map_err(|error| ApiError::Tls(error.into()))?;
        }
        let router = server
            // The calls keep the deadline themselves, with a proper status; this is for what they might forget.
            // A client's shorter `grpc-timeout` is honoured here.
            .timeout(settings.call_max)
            .http2_keepalive_interval(Some(settings.keepalive_interval))
            .http2_keepalive_timeout(Some(settings.keepalive_timeout))
            .add_service(health_service)
            .add_service(reflection().build_v1().map_err(wrong)?)
            .add_service(reflection().build_v1alpha().map_err(wrong)?)
            .add_service(bounded!(CameraServiceServer))
            .add_service(bounded!(ImportServiceServer, settings.import_bytes_max))
            .add_service(bounded!(SightingServiceServer))
            .add_service(bounded!(TrajectoryServiceServer))
            .add_service(bounded!(LikelyServiceServer))
            .add_service(bounded!(CorrectionServiceServer))
            .add_service(bounded!(WatchlistServiceServer))
            .add_service(bounded!(AlertServiceServer))
            .add_service(bounded!(PatrolServiceServer))
            .add_service(bounded!(EvidenceServiceServer))
            .add_service(bounded!(AuditServiceServer))
            .add_service(bounded!(ReleaseServiceServer))
            .add_service(bounded!(TacticsServiceServer));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));

        let signal = async {
            shutdown.await;
            info!("api is draining");
            stop_health(health).await;
            drain.send_replace(true);
        };
        info!(%address, "api is serving");
        tokio::select! {
            served = router.serve_with_incoming_shutdown(incoming, signal) => {
                served.map_err(|error| ApiError::Transport(error.into()))
            }
            () = drain_deadline(draining, settings.drain_max) => {
                Err(ApiError::CutOff { waited: settings.drain_max })
            }
        }
    }
}

/// What nobody known asks for is told when its minute is over, also when no other call comes.
async fn tell_refusals(refusals: Arc<Refusals>, clock: Arc<dyn Clock>) {
    const EVERY: Duration = Duration::from_secs(30);
    loop {
        tokio::time::sleep(EVERY).await;
        refusals.tell_more(clock.now());
    }
}

/// A task that ends with what it belongs to.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ServerTls {
    /// Whether certificate, key and authority can be used together: for telling so before anything is started.
    ///
    /// # Errors
    /// [`ApiError::Tls`] when they cannot.
    pub fn check(&self) -> Result<(), ApiError> {
        let server = Server::builder().tls_config(self.clone().config());
        server.map(drop).map_err(|error| ApiError::Tls(error.into()))
    }

    fn config(self) -> ServerTlsConfig {
        /// A client that connects and says nothing holds a place no longer than this.
        const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
        let config = ServerTlsConfig::new()
            .identity(Identity::from_pem(self.certificate_pem, self.key_pem))
            .timeout(HANDSHAKE_MAX);
        match self.client_ca_pem {
            Some(pem) => config.client_ca_root(Certificate::from_pem(pem)),
            None => config,
        }
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for name in HEALTH_NAMES {
        health.set_service_status(name, status).await;
    }
}

/// Says NOT_SERVING to those who watch, then ends their streams, which would hold up the drain.
async fn stop_health(mut health: HealthReporter) {
    set_health(&health, ServingStatus::NotServing).await;
    for name in HEALTH_NAMES {
        health.clear_service_status(name).await;
    }
}

async fn drain_deadline(mut draining: watch::Receiver<bool>, drain_max: Duration) {
    // An error means that the other branch, which owns the sender, has ended.
    if draining.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(drain_max).await;
}
