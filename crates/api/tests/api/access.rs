//! TLS, tokens, roles and scopes, over the wire: a real server, real certificates, real tokens.

use std::sync::Arc;
use std::time::Duration;

use guiji_api::client::{Access, AlertsFrom, Client, ClientError, ErrorCode};
use guiji_api::{
    ApiSettings, ClientCertificate, ClientCertificates, Role, ServerTls, TokenKeys, TokenScope,
    TokenSettings, TokenSigner, TokenSpec, TokenVerifier, new_signing_key, pb,
};
use guiji_domain::{CameraId, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sha2::Digest as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::operation::methods;
use crate::scripted::{Running, Secured, authority, camera, now, sighting};

const ISSUER: &str = "https://id.example";
const DAY: Duration = Duration::from_secs(86_400);

/// An authority for certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key for a name.
    fn issue(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        (pem.into_bytes(), key.serialize_pem().into_bytes())
    }
}

fn signer() -> TokenSigner {
    TokenSigner::from_pem(&new_signing_key().unwrap()).unwrap()
}

fn verifier(signer: &TokenSigner) -> TokenVerifier {
    let mut keys = TokenKeys::default();
    keys.add(signer.public_key_pem().as_bytes()).unwrap();
    let leeway = Duration::from_secs(30);
    let settings = TokenSettings { issuer: ISSUER.into(), audience: "guiji".into(), leeway };
    TokenVerifier::new(keys, &settings).unwrap()
}

pub(crate) fn spec(role: Role) -> TokenSpec {
    TokenSpec::new(ISSUER, "guiji", "wang", role)
}

/// A server with TLS and tokens, and those who made both.
pub(crate) struct Guarded {
    pub(crate) server: Running,
    certificates: Authority,
    pub(crate) signer: TokenSigner,
    pub(crate) verifier: TokenVerifier,
}

impl Guarded {
    /// What a token of somebody else says.
    pub(crate) fn named(&self, subject: &str, role: Role) -> TokenSpec {
        TokenSpec::new(ISSUER, "guiji", subject, role)
    }

    pub(crate) async fn start() -> Self {
        Self::start_with(|_| None).await
    }

    async fn start_with(client_ca: impl Fn(&Authority) -> Option<Vec<u8>>) -> Self {
        let (certificates, signer) = (Authority::new(), signer());
        let (certificate_pem, key_pem) = certificates.issue("127.0.0.1");
        let client_ca_pem = client_ca(&certificates);
        let verifier = verifier(&signer);
        let secured = Secured {
            tls: Some(ServerTls { certificate_pem, key_pem, client_ca_pem }),
            tokens: Some(verifier.clone()),
            ..Secured::default()
        };
        let server = Running::start_secured(ApiSettings::default(), secured).await;
        Self { server, certificates, signer, verifier }
    }

    fn access(&self, token: Option<String>) -> Access {
        Access { token, ca_pem: Some(self.certificates.pem.clone().into()), ..Access::default() }
    }

    async fn connect(&self, access: &Access) -> Result<Client, ClientError> {
        Client::connect_with(&self.server.address.to_string(), &authority(), access).await
    }

    pub(crate) async fn client_with(&self, token: Option<String>) -> Client {
        self.connect(&self.access(token)).await.unwrap()
    }

    /// A client whose token says this.
    pub(crate) async fn client(&self, spec: &TokenSpec) -> Client {
        self.client_with(Some(self.signer.sign(spec, now()).unwrap())).await
    }
}

pub(crate) fn told(error: &ClientError) -> (ErrorCode, &str) {
    (error.code, error.reason.as_deref().unwrap_or("none"))
}

#[tokio::test]
async fn only_a_token_that_holds_lets_in() {
    let guarded = Guarded::start().await;
    let sign = |spec: &TokenSpec, at| Some(guarded.signer.sign(spec, at).unwrap());
    let good = spec(Role::Analyst);
    let other_audience = TokenSpec { audience: "another".into(), ..good.clone() };
    let other_issuer = TokenSpec { issuer: "https://other".into(), ..good.clone() };
    let long_ago = now().minus(DAY);
    for (what, token, reason) in [
        ("none", None, "TOKEN_MISSING"),
        ("garbled", Some("x.y.z".to_owned()), "TOKEN_INVALID"),
        ("expired", sign(&good, long_ago), "TOKEN_EXPIRED"),
        ("not yet", sign(&good, now().plus(DAY)), "TOKEN_INVALID"),
        ("another audience", sign(&other_audience, now()), "TOKEN_INVALID"),
        ("another issuer", sign(&other_issuer, now()), "TOKEN_INVALID"),
        ("another key", Some(signer().sign(&good, now()).unwrap()), "TOKEN_INVALID"),
    ] {
        let error = guarded.client_with(token).await.cameras().await.unwrap_err();
        assert_eq!(told(&error), (ErrorCode::Unauthenticated, reason), "{what}: {error}");
    }
    assert!(guarded.client(&good).await.cameras().await.is_ok());
}

#[tokio::test]
async fn no_method_answers_without_a_token_or_to_the_wrong_role() {
    let (server, signer) = {
        let signer = signer();
        let secured = Secured { tokens: Some(verifier(&signer)), ..Secured::default() };
        (Running::start_secured(ApiSettings::default(), secured).await, signer)
    };
    let tokens = Role::ALL.map(|role| (role, signer.sign(&spec(role), now()).unwrap()));
    let (mut refused, mut taken) = (0, 0);
    for method in methods() {
        let mut grpc = tonic::client::Grpc::new(server.channel().await);
        let mut ask = async |token: Option<&str>| {
            grpc.ready().await.unwrap();
            // Each request has its authority as field 1, so any of them will do.
            let said = pb::GetCameraRequest {
                authority: crate::scripted::authority_pb(),
                name: String::new(),
            };
            let mut request = tonic::Request::new(said);
            if let Some(token) = token {
                let header = format!("Bearer {token}").parse().unwrap();
                request.metadata_mut().insert("authorization", header);
            }
            let codec = tonic_prost::ProstCodec::<pb::GetCameraRequest, ()>::default();
            let answer = grpc.server_streaming(request, method.parse().unwrap(), codec).await;
            match answer {
                Err(status) => Some(status),
                // A live stream says nothing while nothing happens.
                Ok(answer) => {
                    let first = answer.into_inner();
                    let mut first = first;
                    let patience = Duration::from_millis(200);
                    tokio::time::timeout(patience, first.message()).await.ok()?.err()
                }
            }
        };
        let status = ask(None).await.unwrap();
        assert_eq!(status.code(), Code::Unauthenticated, "{method}: {status}");
        for (role, token) in &tokens {
            let status = ask(Some(token)).await;
            let code = status.as_ref().map_or(Code::Ok, tonic::Status::code);
            if code == Code::PermissionDenied {
                let details = status.unwrap().get_error_details();
                match details.error_info().unwrap().reason.as_str() {
                    "ROLE_FORBIDS" => refused += 1,
                    // The role may; the case needs a second person first.
                    "RELEASE_REQUIRED" => taken += 1,
                    other => panic!("{method} by {role}: {other}"),
                }
            } else {
                assert_ne!(code, Code::Unauthenticated, "{method} by {role}");
                taken += 1;
            }
        }
    }
    // The table itself is tested beside it; here, that it is asked for every method.
    assert_eq!((taken, refused), (115, 145));
}

#[tokio::test]
async fn health_is_open_and_everything_else_is_tls() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let guarded = Guarded::start().await;
    let address = guarded.server.address;
    let ca = tonic::transport::Certificate::from_pem(&guarded.certificates.pem);
    let tls = tonic::transport::ClientTlsConfig::new().ca_certificate(ca);
    let channel = tonic::transport::Channel::from_shared(format!("https://{address}"))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let request = HealthCheckRequest { service: String::new() };
    assert!(HealthClient::new(channel).check(request).await.is_ok());
    // In the clear, and with an authority that did not sign the server's certificate.
    let token = guarded.signer.sign(&spec(Role::Analyst), now()).unwrap();
    let plain = Access { token: Some(token.clone()), ..Access::default() };
    let failed = match guarded.connect(&plain).await {
        Ok(client) => client.cameras().await.is_err(),
        Err(_) => true,
    };
    assert!(failed, "answered in the clear");
    let stranger = Authority::new().pem.into_bytes();
    let other = Access { token: Some(token), ca_pem: Some(stranger), ..Access::default() };
    let error = guarded.connect(&other).await.unwrap_err();
    assert!(error.message.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_server_may_ask_for_client_certificates() {
    let guarded = Guarded::start_with(|ca| Some(ca.pem.clone().into_bytes())).await;
    let token = Some(guarded.signer.sign(&spec(Role::Analyst), now()).unwrap());
    let with = |certificate_and_key_pem| Access {
        certificate_and_key_pem,
        ..guarded.access(token.clone())
    };
    for (certificate, may) in [
        (None, false),
        (Some(Authority::new().issue("client")), false),
        (Some(guarded.certificates.issue("client")), true),
    ] {
        let answered = match guarded.connect(&with(certificate)).await {
            Ok(client) => client.cameras().await.is_ok(),
            Err(_) => false,
        };
        assert_eq!(answered, may);
    }
}

#[tokio::test]
async fn a_certificate_shows_who_calls_where_its_owner_is_known() {
    let authority = Authority::new();
    let (certificate_pem, key_pem) = authority.issue("127.0.0.1");
    let (own, other) = (authority.issue("car-7"), authority.issue("car-8"));
    let der = pem::parse(&own.0).unwrap();
    let car = ClientCertificate {
        sha256: sha2::Sha256::digest(der.contents()).iter().map(|b| format!("{b:02x}")).collect(),
        user: "car 7".into(),
        valid_until: now().plus(DAY),
        rights: serde_json::from_str(r#"{"role": "patrol", "cameras": ["k1"]}"#).unwrap(),
    };
    let client_ca_pem = Some(authority.pem.clone().into_bytes());
    let secured = Secured {
        tls: Some(ServerTls { certificate_pem, key_pem, client_ca_pem }),
        certificates: ClientCertificates::new([car]).unwrap(),
        ..Secured::default()
    };
    let server = Running::start_secured(ApiSettings::default(), secured).await;
    server.register([camera("k1", 28.0, 121.0), camera("k2", 28.5, 121.5)]);
    let connect = async |certificate_and_key_pem| {
        let access = Access {
            token: None,
            ca_pem: Some(authority.pem.clone().into()),
            certificate_and_key_pem: Some(certificate_and_key_pem),
        };
        let address = server.address.to_string();
        Client::connect_with(&address, &crate::scripted::authority(), &access).await.unwrap()
    };
    let patrol = connect(own).await;
    let seen = patrol.cameras().await.unwrap();
    assert_eq!(seen.iter().map(|camera| camera.name.as_str()).collect::<Vec<_>>(), ["cameras/k1"]);
    let error = patrol.delete_camera("cameras/k1").await.unwrap_err();
    assert_eq!(told(&error), (ErrorCode::PermissionDenied, "ROLE_FORBIDS"));
    let (officer, role) = {
        let entry = &server.parts.audit.lock().unwrap()[0];
        (entry.officer.clone(), entry.role.clone())
    };
    assert_eq!((officer.as_str(), role.as_str()), ("car 7", "patrol"));
    let error = connect(other).await.cameras().await.unwrap_err();
    assert_eq!(told(&error), (ErrorCode::Unauthenticated, "CERTIFICATE_UNKNOWN"));
}

#[tokio::test]
async fn a_token_is_not_sent_to_another_machine_in_the_clear() {
    let access = Access { token: Some("x".into()), ..Access::default() };
    let error = Client::connect_with("192.0.2.1:7654", &authority(), &access).await.unwrap_err();
    assert!(error.message.contains("in the clear"), "{error}");
}

#[tokio::test]
async fn a_scope_bounds_every_way_to_the_data() {
    let guarded = Guarded::start().await;
    let server = &guarded.server;
    server.register([camera("k1", 28.0, 121.0), camera("k2", 28.5, 121.5)]);
    let (inside, outside) = (sighting("k1", "浙J12345", 1), sighting("k2", "浙J12345", 2));
    let name = |sighting: &guiji_domain::Sighting| format!("sightings/{}", sighting.id);
    let (mine, theirs) = (name(&inside), name(&outside));
    server.see([inside, outside]);
    server.ring(2);
    let ids =
        |sightings: &[pb::Sighting]| sightings.iter().map(|s| s.camera.clone()).collect::<Vec<_>>();
    let k1 = TokenScope::Cameras(vec![CameraId::new("k1").unwrap()]);
    let near = TokenScope::Circle { latitude_deg: 28.0, longitude_deg: 121.0, radius_m: 500.0 };
    for scope in [k1, near] {
        let client = guarded.client(&TokenSpec { scope, ..spec(Role::Analyst) }).await;
        let found = client.search(pb::SearchSightingsRequest::default()).await.unwrap();
        assert_eq!(ids(&found.sightings), ["cameras/k1"]);
        let way = client.trajectory("浙J12345", None, None).await.unwrap();
        assert_eq!(way.points.len(), 1);
        let mut all = client.stream_sightings(pb::StreamSightingsRequest::default()).await.unwrap();
        assert_eq!(ids(&all.next().await.unwrap().unwrap().sightings), ["cameras/k1"]);
        assert!(client.sighting(&mine).await.is_ok());
        let cameras = client.cameras().await.unwrap();
        assert_eq!(cameras.len(), 1);
        // Asked for by name, what is outside is refused.
        let filter =
            pb::SightingFilter { cameras: vec!["cameras/k2".into()], ..Default::default() };
        let request = pb::SearchSightingsRequest { filter: Some(filter), ..Default::default() };
        for error in [
            client.search(request).await.unwrap_err(),
            client.sighting(&theirs).await.unwrap_err(),
            client.evidence(&format!("{theirs}/evidence/{}", "0".repeat(64))).await.unwrap_err(),
        ] {
            assert_eq!(told(&error), (ErrorCode::PermissionDenied, "OUTSIDE_SCOPE"), "{error}");
        }
        // The scripted alerts are all of k1.
        assert_eq!(client.list_alerts(0, 10).await.unwrap().len(), 2);
        // A limit on reading would mean little beside writing.
        let error = client.delete_watchlist_entry("watchlistEntries/w1").await.unwrap_err();
        assert_eq!(told(&error), (ErrorCode::PermissionDenied, "SCOPE_FORBIDS"));
    }
    let k2 = TokenScope::Cameras(vec![CameraId::new("k2").unwrap()]);
    let client = guarded.client(&TokenSpec { scope: k2, ..spec(Role::Patrol) }).await;
    assert_eq!(client.list_alerts(0, 10).await.unwrap().len(), 0);
    let mut alerts =
        client.alerts(AlertsFrom::Beginning, Some(Duration::from_secs(1))).await.unwrap();
    for _ in 0..2 {
        let event = alerts.next().await.unwrap().unwrap().event;
        assert!(
            matches!(event, Some(pb::stream_alerts_response::Event::Heartbeat(_))),
            "{event:?}"
        );
    }
}

#[tokio::test]
async fn old_data_needs_a_supervisor_or_a_release() {
    let guarded = Guarded::start().await;
    let seconds_ago = |days: u64| now().minus(DAY * u32::try_from(days).unwrap());
    let mut old = sighting("k1", "浙J12345", 1);
    old.captured.at = seconds_ago(91);
    let name = format!("sightings/{}", old.id);
    guarded.server.see([old, sighting("k1", "浙J12345", 2)]);
    let from = |at: Timestamp| pb::SearchSightingsRequest {
        filter: Some(pb::SightingFilter {
            start_time: Some(guiji_api::convert::timestamp_to_pb(at)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let count = async |client: &Client, request| {
        client.search(request).await.map(|page| page.sightings.len())
    };

    let analyst = guarded.client(&spec(Role::Analyst)).await;
    assert_eq!(count(&analyst, pb::SearchSightingsRequest::default()).await, Ok(1));
    for error in [
        count(&analyst, from(seconds_ago(92))).await.unwrap_err(),
        analyst.sighting(&name).await.unwrap_err(),
        analyst.trajectory("浙J12345", Some(seconds_ago(92)), None).await.unwrap_err(),
    ] {
        assert_eq!(told(&error), (ErrorCode::PermissionDenied, "DATA_TOO_OLD"), "{error}");
    }
    let released = TokenSpec { old_data_released_by: Some("li".into()), ..spec(Role::Analyst) };
    for spec in [released, spec(Role::Supervisor)] {
        let client = guarded.client(&spec).await;
        assert_eq!(count(&client, from(seconds_ago(92))).await, Ok(2));
        assert!(client.sighting(&name).await.is_ok());
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let guarded = Guarded::start().await;
    // With the server's leeway of 30 s, one second is left.
    let ending = TokenSpec { valid_for: Duration::from_secs(60), ..spec(Role::Patrol) };
    let began = now().minus(Duration::from_secs(89));
    let token = guarded.signer.sign(&ending, began).unwrap();
    let client = guarded.client_with(Some(token)).await;
    let mut alerts = client.alerts(AlertsFrom::Now, None).await.unwrap();
    alerts.next().await.unwrap().unwrap();
    let end = tokio::time::timeout(Duration::from_secs(10), alerts.next()).await.unwrap();
    let end = end.unwrap_err();
    assert_eq!(told(&end), (ErrorCode::Unauthenticated, "TOKEN_EXPIRED"), "{end}");
}

/// Tokens that OpenSSL signed, and two that nobody should believe.
#[tokio::test]
async fn tokens_of_other_makers_are_read() {
    let tokens: std::collections::BTreeMap<String, String> =
        serde_json::from_str(include_str!("../../testdata/tokens/tokens.json")).unwrap();
    let settings =
        TokenSettings { issuer: ISSUER.into(), audience: "guiji".into(), leeway: Duration::ZERO };
    let from = |files: &[&[u8]]| {
        let mut keys = TokenKeys::default();
        files.iter().for_each(|file| keys.add(file).unwrap());
        TokenVerifier::new(keys, &settings).unwrap()
    };
    let jwks: &[u8] = include_bytes!("../../testdata/tokens/jwks.json");
    let ed: &[u8] = include_bytes!("../../testdata/tokens/ed.pub.pem");
    let ec: &[u8] = include_bytes!("../../testdata/tokens/ec.pub.pem");
    let rsa: &[u8] = include_bytes!("../../testdata/tokens/rsa.pub.pem");
    for (verifier, good) in [
        (from(&[jwks]), vec!["EdDSA", "ES256", "RS256"]),
        (from(&[ed, ec, rsa]), vec!["EdDSA", "ES256", "RS256"]),
        (from(&[rsa]), vec!["RS256"]),
        (from(&[ec]), vec!["ES256"]),
    ] {
        let secured = Secured { tokens: Some(verifier), ..Secured::default() };
        let server = Running::start_secured(ApiSettings::default(), secured).await;
        for (maker, token) in &tokens {
            let access = Access { token: Some(token.clone()), ..Access::default() };
            let address = server.address.to_string();
            let client = Client::connect_with(&address, &authority(), &access).await.unwrap();
            let answered = client.cameras().await;
            let may = good.contains(&maker.as_str());
            assert_eq!(answered.is_ok(), may, "{maker}: {answered:?}");
        }
    }
}

#[test]
fn unfit_keys_are_refused() {
    let add = |text: &[u8]| TokenKeys::default().add(text).map_err(|error| error.to_string());
    for (file, hint) in [
        (&include_bytes!("../../testdata/tokens/p384.pub.pem")[..], "P-256"),
        (&include_bytes!("../../testdata/tokens/rsa1024.pub.pem")[..], "2048"),
        (b"nonsense", "no key"),
        (b"{\"keys\": []}", "no key for signatures"),
        (b"{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\"}]}", "Ed25519"),
        (b"{\"kexs\": []}", "keys"),
    ] {
        let error = add(file).unwrap_err();
        assert!(error.contains(hint), "{error}");
    }
}

#[tokio::test]
async fn the_officer_is_the_tokens_user() {
    let guarded = Guarded::start().await;
    let client = guarded.client(&spec(Role::Supervisor)).await;
    let entry = pb::WatchlistEntry {
        target: Some(pb::watchlist_entry::Target::Plate("浙J12345".into())),
        reason: "stolen".into(),
        expire_time: Some(guiji_api::convert::timestamp_to_pb(now().plus(DAY))),
        ..Default::default()
    };
    // `authority()` says "Wang"; the token says "wang".
    let entered = client.create_watchlist_entry("w1", entry).await.unwrap();
    assert_eq!(entered.owner, "wang");
    let parts = Arc::clone(&guarded.server.parts);
    assert_eq!(parts.entries.lock().unwrap().len(), 1);
    let audit = parts.audit.lock().unwrap();
    let told = (audit[0].officer.as_str(), audit[0].on_behalf_of.as_str(), audit[0].role.as_str());
    assert_eq!(told, ("wang", "Wang", "supervisor"));
}
