//! `guiji.toml`: what was typed ([`Raw`]) and what it means ([`Config`]).
//!
//! Unknown keys fail and name the nearest right one; everything is checked before any camera is opened. Secrets
//! never stand in the file: a camera names a file or an environment variable that holds its password.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use guiji_api::{ClientCertificate, Rights, TokenSettings};
use guiji_domain::{
    Camera, CameraId, Credentials, EvidenceKind, GeoPoint, OnvifAddress, SiteId, StreamAddress,
    Timestamp,
};
use guiji_ingest::{IngestSettings, RtspReceiver};
use serde::Deserialize;

use crate::receivers::{RawReceiver, ReceiverSettings};

/// A checked configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where the API listens.
    pub(crate) listen: SocketAddr,
    /// Where metrics are served, if anywhere.
    pub(crate) metrics: Option<SocketAddr>,
    /// Whether listening beyond loopback without TLS and tokens is accepted.
    pub(crate) insecure: bool,
    /// Certificate and key of the API.
    pub(crate) tls: Option<TlsFiles>,
    /// Which tokens the API believes.
    pub(crate) tokens: Option<TokenFiles>,
    /// Whose the clients' certificates are.
    pub(crate) clients: Vec<ClientCertificate>,
    /// Folder of the store.
    pub(crate) store_dir: PathBuf,
    /// Where the key is that seals the cameras' passwords, if not in the store.
    pub(crate) key_file: Option<PathBuf>,
    /// Another place for the audit's checkpoints.
    pub(crate) audit_checkpoints: Option<PathBuf>,
    /// Days that is kept what the audit's records say; `None` for ever.
    pub(crate) audit_payload_days: Option<u32>,
    /// Days that sightings are kept.
    pub(crate) sightings_days: u32,
    /// Days of passages that are held in memory for the tactics, and how many passages at most.
    pub(crate) tactics_days: u32,
    pub(crate) tactics_passages_max: usize,
    /// What is kept of each evidence kind.
    pub(crate) evidence: Vec<EvidenceLimit>,
    /// How cameras are received.
    pub(crate) ingest: IngestConfig,
    /// Perception threads; `None` means one a core.
    pub(crate) workers: Option<usize>,
    /// Frames in a batch.
    pub(crate) batch_max: usize,
    /// The models' manifest.
    pub(crate) manifest: PathBuf,
    /// The folder of fetched models.
    pub(crate) models_cache: PathBuf,
    /// Cameras named by the file.
    pub(crate) cameras: Vec<Camera>,
    /// Webhooks and brokers that are told of alerts.
    pub(crate) receivers: Vec<ReceiverSettings>,
    /// The same plate at the same camera within this time repeats an alert.
    pub(crate) repeat_within: Duration,
    /// How long an alert waits for an acknowledgement on each level.
    pub(crate) escalate_after: Duration,
}

/// Where certificate and key of the API are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The certificate, its issuers after it.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// The authority of the clients' certificates; clients without one are then refused.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Which tokens the API believes, and where their keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenFiles {
    /// Public keys: PEM files and JSON Web Key Sets.
    pub(crate) keys: Vec<PathBuf>,
    /// The list of revoked tokens.
    pub(crate) revoked: Option<PathBuf>,
    /// Issuer, audience, leeway.
    pub(crate) settings: TokenSettings,
}

/// How long and how much of a kind of evidence is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EvidenceLimit {
    /// The kind.
    pub(crate) kind: EvidenceKind,
    /// Days.
    pub(crate) days: u32,
    /// Bytes.
    pub(crate) bytes_max: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    server: RawServer,
    store: RawStore,
    audit: RawAudit,
    ingest: RawIngest,
    analysis: RawAnalysis,
    alerts: RawAlerts,
    tactics: RawTactics,
    models: RawModels,
    camera: Vec<RawCamera>,
    receiver: Vec<RawReceiver>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAudit {
    checkpoints: Option<PathBuf>,
    payload_days: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAlerts {
    escalate_after_s: u32,
    repeat_within_s: u32,
}

impl Default for RawAlerts {
    fn default() -> Self {
        Self { escalate_after_s: 60, repeat_within_s: 30 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTactics {
    days: Option<u32>,
    passages_max: usize,
}

impl Default for RawTactics {
    fn default() -> Self {
        Self { days: None, passages_max: 20_000_000 }
    }
}

impl RawTactics {
    /// The days, which are no more than sightings are kept.
    fn checked_days(&self, sightings_days: u32) -> Result<u32> {
        let days = self.days.unwrap_or(sightings_days);
        if days == 0 {
            bail!("tactics.days is 0: give at least 1, or leave it out for store.sightings_days");
        }
        if days > sightings_days {
            bail!(
                "tactics.days is {days}, but sightings are kept for store.sightings_days = {sightings_days}: give at most that"
            );
        }
        if !(1000..=1_000_000_000).contains(&self.passages_max) {
            bail!(
                "tactics.passages_max is {}: give 1000 to 1000000000, at about 60 bytes of memory each",
                self.passages_max
            );
        }
        Ok(days)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawServer {
    listen: SocketAddr,
    metrics: Option<SocketAddr>,
    insecure: bool,
    tls: Option<RawTls>,
    tokens: Option<RawTokens>,
    client: Vec<RawClient>,
}

impl Default for RawServer {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 7654).into(),
            metrics: None,
            insecure: false,
            tls: None,
            tokens: None,
            client: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl RawTls {
    fn resolved(self, base: &Path) -> TlsFiles {
        TlsFiles {
            certificate: base.join(self.certificate),
            key: base.join(self.key),
            client_ca: self.client_ca.map(|path| base.join(path)),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTokens {
    keys: Vec<PathBuf>,
    revoked: Option<PathBuf>,
    issuer: String,
    #[serde(default = "our_name")]
    audience: String,
    #[serde(default = "half_a_minute")]
    leeway_s: u64,
}

/// The owner of a client certificate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClient {
    certificate_sha256: String,
    user: String,
    valid_until: String,
    rights: Rights,
}

impl RawClient {
    fn checked(self) -> Result<ClientCertificate> {
        let valid_until = crate::clock::parse_time(&self.valid_until)
            .with_context(|| format!("server.client {:?}: valid_until", self.user))?;
        let Self { certificate_sha256: sha256, user, rights, .. } = self;
        Ok(ClientCertificate { sha256, user, valid_until, rights })
    }
}

fn our_name() -> String {
    "guiji".into()
}

fn half_a_minute() -> u64 {
    30
}

impl RawTokens {
    fn checked(self, base: &Path) -> Result<TokenFiles> {
        if self.keys.is_empty() {
            bail!("server.tokens.keys is empty: name at least one public key or JSON Web Key Set");
        }
        if self.leeway_s > 300 {
            bail!(
                "server.tokens.leeway_s is {}: give at most 300, and mend the clock",
                self.leeway_s
            );
        }
        Ok(TokenFiles {
            keys: self.keys.into_iter().map(|path| base.join(path)).collect(),
            revoked: self.revoked.map(|path| base.join(path)),
            settings: TokenSettings {
                issuer: self.issuer,
                audience: self.audience,
                leeway: Duration::from_secs(self.leeway_s),
            },
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStore {
    dir: PathBuf,
    key_file: Option<PathBuf>,
    sightings_days: u32,
    evidence: RawEvidence,
}

impl Default for RawStore {
    fn default() -> Self {
        Self {
            dir: "data".into(),
            key_file: None,
            sightings_days: 365,
            evidence: RawEvidence::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawEvidence {
    plate: RawLimit,
    vehicle: RawLimit,
    frame: RawLimit,
}

impl Default for RawEvidence {
    fn default() -> Self {
        let limit = |days, gb_max| RawLimit { keep: true, days, gb_max };
        Self { plate: limit(365, 200.0), vehicle: limit(365, 500.0), frame: limit(30, 500.0) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimit {
    #[serde(default = "yes")]
    keep: bool,
    days: u32,
    gb_max: f64,
}

fn yes() -> bool {
    true
}

/// How cameras are received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IngestConfig {
    /// What talks to RTSP cameras.
    pub(crate) receiver: RtspReceiver,
    /// Connections opened at the same time; `None` means what ingest takes.
    pub(crate) opening_max: Option<usize>,
    /// Threads that decode for all live cameras; `None` means one a core.
    pub(crate) decoders: Option<usize>,
    /// Memory for encoded units of each camera, and how old they may become; `None` means what ingest takes.
    pub(crate) ring_bytes_max: Option<usize>,
    pub(crate) ring_age_max: Option<Duration>,
    /// The longest time that `motion` may be blind; `None` means what ingest takes.
    pub(crate) blind_max: Option<Duration>,
    /// Whether vehicles that are known are no longer decoded while they drive away; `None` means what the receiver takes.
    pub(crate) turn_away: Option<bool>,
    /// How often a camera is asked for a keyframe whose own are further apart; `None` means what the engine takes.
    pub(crate) keyframe_every: Option<Duration>,
    /// Cameras that may be registered; `None` means what the engine takes.
    pub(crate) cameras_max: Option<usize>,
    /// Closed cameras that may be open for a while at the same time; `None` means what the engine takes.
    pub(crate) opened_max: Option<usize>,
}

impl IngestConfig {
    /// Changes these settings into those that are configured.
    pub(crate) fn apply(&self, settings: IngestSettings) -> IngestSettings {
        IngestSettings {
            receiver: self.receiver,
            opening_max: self.opening_max.unwrap_or(settings.opening_max),
            decoders: self.decoders.unwrap_or(settings.decoders),
            ring_bytes_max: self.ring_bytes_max.unwrap_or(settings.ring_bytes_max),
            ring_age_max: self.ring_age_max.unwrap_or(settings.ring_age_max),
            blind_max: self.blind_max.unwrap_or(settings.blind_max),
            turn_away: self.turn_away.unwrap_or(settings.turn_away),
            ..settings
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawIngest {
    receiver: Option<String>,
    opening_max: Option<usize>,
    decoders: Option<usize>,
    ring_mb: Option<f64>,
    ring_seconds: Option<f64>,
    blind_max_seconds: Option<f64>,
    turn_away: Option<bool>,
    keyframe_every_seconds: Option<f64>,
    cameras_max: Option<usize>,
    opened_max: Option<usize>,
}

impl RawIngest {
    fn checked(self) -> Result<IngestConfig> {
        for (key, value, most) in [
            ("opening_max", self.opening_max, 1024),
            ("decoders", self.decoders, 1024),
            ("cameras_max", self.cameras_max, 1_000_000),
            ("opened_max", self.opened_max, 1024),
        ] {
            if value.is_some_and(|value| !(1..=most).contains(&value)) {
                bail!(
                    "ingest.{key} is out of range: give at least 1 and at most {most}, or leave it out"
                );
            }
        }
        if self.ring_mb.is_some_and(|it| !(0.1..=1000.0).contains(&it)) {
            bail!("ingest.ring_mb is out of range: give 0.1 to 1000 MB a camera, or leave it out");
        }
        if self.ring_seconds.is_some_and(|it| !(0.0..=60.0).contains(&it)) {
            bail!("ingest.ring_seconds is out of range: give at most 60, or leave it out");
        }
        if self.blind_max_seconds.is_some_and(|it| !(0.2..=3600.0).contains(&it)) {
            bail!("ingest.blind_max_seconds is out of range: give 0.2 to 3600, or leave it out");
        }
        if self.keyframe_every_seconds.is_some_and(|it| !(1.0..=60.0).contains(&it)) {
            bail!("ingest.keyframe_every_seconds is out of range: give 1 to 60, or leave it out");
        }
        let receiver = self.receiver.map(|it| it.parse()).transpose();
        Ok(IngestConfig {
            receiver: receiver.context("ingest.receiver")?.unwrap_or_default(),
            opening_max: self.opening_max,
            decoders: self.decoders,
            ring_bytes_max: self.ring_mb.map(|mb| (mb * 1e6) as usize),
            ring_age_max: self.ring_seconds.map(Duration::from_secs_f64),
            blind_max: self.blind_max_seconds.map(Duration::from_secs_f64),
            turn_away: self.turn_away,
            keyframe_every: self.keyframe_every_seconds.map(Duration::from_secs_f64),
            cameras_max: self.cameras_max,
            opened_max: self.opened_max,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAnalysis {
    workers: Option<usize>,
    batch_max: usize,
    analysed_fps_max: f64,
}

impl Default for RawAnalysis {
    fn default() -> Self {
        Self { workers: None, batch_max: 4, analysed_fps_max: 8.0 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawModels {
    manifest: PathBuf,
    cache: PathBuf,
}

impl Default for RawModels {
    fn default() -> Self {
        Self { manifest: "models/manifest.toml".into(), cache: "models/.cache".into() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCamera {
    id: String,
    site: Option<String>,
    name: Option<String>,
    lat: f64,
    lon: f64,
    bearing_deg: Option<f64>,
    address: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    transport: Option<String>,
    pace: Option<String>,
    policy: Option<String>,
    analysed_fps_max: Option<f64>,
    recorded_at: Option<String>,
    lanes: Option<u8>,
    substream: Option<String>,
    onvif: Option<String>,
    #[serde(default = "yes")]
    enabled: bool,
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key or a value that cannot be right; the message names both the
    /// thing and the mend.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read the configuration {}", path.display()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, base).with_context(|| format!("configuration {}", path.display()))
    }

    /// Checks the text of a configuration.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn parse(text: &str, base: &Path) -> Result<Self> {
        let raw: Raw = toml::from_str(text).map_err(|error| explain(&error))?;
        raw.checked(base)
    }
}

impl Raw {
    fn checked(self, base: &Path) -> Result<Config> {
        let Raw {
            server,
            store,
            audit,
            ingest,
            analysis,
            alerts,
            tactics,
            models,
            camera,
            receiver,
        } = self;
        if analysis.workers == Some(0) {
            bail!("analysis.workers is 0: give at least 1, or leave it out for one a core");
        }
        if !(1..=64).contains(&analysis.batch_max) {
            bail!("analysis.batch_max is {}: give 1 to 64", analysis.batch_max);
        }
        if alerts.escalate_after_s == 0 {
            bail!("alerts.escalate_after_s is 0: give patrols at least 1 second to answer");
        }
        if store.sightings_days == 0 {
            bail!("store.sightings_days is 0: give at least 1, or nothing would be kept");
        }
        if audit.payload_days == Some(0) {
            bail!(
                "audit.payload_days is 0: give at least 1, or leave it out to keep them for ever"
            );
        }
        let evidence = [
            (EvidenceKind::Plate, store.evidence.plate),
            (EvidenceKind::Vehicle, store.evidence.vehicle),
            (EvidenceKind::Frame, store.evidence.frame),
        ]
        .into_iter()
        .filter(|(_, limit)| limit.keep)
        .map(|(kind, limit)| limit.checked(kind))
        .collect::<Result<_>>()?;

        let mut seen = BTreeSet::new();
        let mut cameras = Vec::with_capacity(camera.len());
        for raw in camera {
            let label = raw.id.clone();
            let camera = raw
                .checked(base, analysis.analysed_fps_max)
                .with_context(|| format!("camera {label:?}"))?;
            if !seen.insert(camera.id.clone()) {
                bail!("camera {label:?} is named twice: give each its own id");
            }
            cameras.push(camera);
        }
        let receivers: Vec<_> =
            receiver.into_iter().map(|raw| raw.checked(base)).collect::<Result<_>>()?;
        let mut named = BTreeSet::new();
        if let Some(twice) = receivers.iter().find(|receiver| !named.insert(receiver.id())) {
            bail!("receiver {:?} is named twice: give each its own id", twice.id());
        }
        if !server.client.is_empty()
            && server.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none())
        {
            bail!(
                "server.client names owners of certificates, but server.tls.client_ca is not set: without it nobody shows one"
            );
        }
        Ok(Config {
            listen: server.listen,
            metrics: server.metrics,
            insecure: server.insecure,
            tls: server.tls.map(|tls| tls.resolved(base)),
            tokens: server.tokens.map(|tokens| tokens.checked(base)).transpose()?,
            clients: server.client.into_iter().map(RawClient::checked).collect::<Result<_>>()?,
            store_dir: base.join(store.dir),
            key_file: store.key_file.map(|path| base.join(path)),
            audit_checkpoints: audit.checkpoints.map(|path| base.join(path)),
            audit_payload_days: audit.payload_days,
            sightings_days: store.sightings_days,
            tactics_days: tactics.checked_days(store.sightings_days)?,
            tactics_passages_max: tactics.passages_max,
            evidence,
            ingest: ingest.checked()?,
            workers: analysis.workers,
            batch_max: analysis.batch_max,
            repeat_within: Duration::from_secs(alerts.repeat_within_s.into()),
            escalate_after: Duration::from_secs(alerts.escalate_after_s.into()),
            manifest: base.join(models.manifest),
            models_cache: base.join(models.cache),
            cameras,
            receivers,
        })
    }
}

impl RawLimit {
    fn checked(self, kind: EvidenceKind) -> Result<EvidenceLimit> {
        let at = format!("store.evidence.{kind}");
        if self.days == 0 {
            bail!("{at}.days is 0: give at least 1, or keep = false");
        }
        if !(self.gb_max.is_finite() && self.gb_max > 0.0) {
            bail!("{at}.gb_max is {}: give more than 0, or keep = false", self.gb_max);
        }
        Ok(EvidenceLimit { kind, days: self.days, bytes_max: (self.gb_max * 1e9) as u64 })
    }
}

impl RawCamera {
    fn checked(self, base: &Path, fps_default: f64) -> Result<Camera> {
        let id = CameraId::new(&self.id)?;
        let site = SiteId::new(self.site.as_deref().unwrap_or(&self.id))?;
        let fps = self.analysed_fps_max.unwrap_or(fps_default);
        if !(fps.is_finite() && fps > 0.0 && fps <= 60.0) {
            bail!("analysed_fps_max is {fps}: give more than 0 and at most 60");
        }
        if let Some(bearing) = self.bearing_deg
            && !(0.0..=360.0).contains(&bearing)
        {
            bail!("bearing_deg is {bearing}: give degrees clockwise from north, 0 to 360");
        }
        let credentials = credentials(base, self.username, self.password_file, self.password_env)?;
        if let Some(lanes) = self.lanes
            && !(1..=32).contains(&lanes)
        {
            bail!("lanes is {lanes}: give 1 to 32, or leave it out");
        }
        let address = address(base, &self.address)?;
        let substream = self
            .substream
            .map(|text| self::address(base, &text).context("substream"))
            .transpose()?;
        Ok(Camera {
            name: self.name.unwrap_or_else(|| self.id.clone()),
            id,
            site,
            position: GeoPoint::new(self.lat, self.lon)?,
            bearing_deg: self.bearing_deg,
            address,
            credentials,
            transport: word(self.transport)?,
            pace: word(self.pace)?,
            policy: word(self.policy)?,
            analysed_fps_max: fps,
            recorded_at: self
                .recorded_at
                .map(|text| crate::clock::parse_time(&text))
                .transpose()?,
            lanes: self.lanes,
            substream,
            onvif: self.onvif.as_deref().map(OnvifAddress::new).transpose()?,
            enabled: self.enabled,
        })
    }
}

/// A plain path is relative to the file, like every other path in it.
fn address(base: &Path, text: &str) -> Result<StreamAddress> {
    let address = StreamAddress::new(text)?;
    Ok(match address.file_path() {
        Some(path) => StreamAddress::new(&base.join(path).to_string_lossy())?,
        None => address,
    })
}

fn word<T: Default + std::str::FromStr<Err = guiji_domain::InvalidValue>>(
    text: Option<String>,
) -> Result<T> {
    Ok(text.map(|text| text.parse()).transpose()?.unwrap_or_default())
}

fn credentials(
    base: &Path,
    username: Option<String>,
    file: Option<PathBuf>,
    env: Option<String>,
) -> Result<Option<Credentials>> {
    let password = match (&username, file, env) {
        (None, None, None) => return Ok(None),
        (None, ..) => bail!("a password is given, but no username"),
        (Some(_), Some(_), Some(_)) => bail!("give password_file or password_env, not both"),
        (Some(_), Some(file), None) => {
            let path = base.join(file);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("read password_file {}", path.display()))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        (Some(_), None, Some(name)) => std::env::var(&name)
            .map_err(|_| anyhow!("password_env names {name}, which is not set"))?,
        (Some(_), None, None) => String::new(),
    };
    Ok(username.map(|username| Credentials { username, password }))
}

/// Adds the nearest right key to serde's "unknown field" message, and keeps the line that toml shows.
fn explain(error: &toml::de::Error) -> anyhow::Error {
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let hint = match quoted.split_first() {
        Some((wrong, right)) if message.starts_with("unknown field") => right
            .iter()
            .map(|key| (strsim::damerau_levenshtein(wrong, key), key))
            .min()
            .filter(|(distance, key)| *distance <= key.len().max(wrong.len()) / 2)
            .map(|(_, key)| format!("\ndid you mean `{key}`?"))
            .unwrap_or_default(),
        _ => String::new(),
    };
    // "usize" is a word for programmers.
    let text = error.to_string().replace("expected usize", "expected a whole number");
    anyhow!("{}{hint}", text.trim_end())
}

/// How long the engine may take to drain before work is cut off.
pub(crate) const DRAIN_PATIENCE: Duration = Duration::from_secs(20);

/// A camera for `--source`: one stream or file with no place of its own.
///
/// # Errors
/// When the address cannot be right. Credentials in the address are taken out of it.
pub(crate) fn source_camera(
    id: &str,
    source: &str,
    recorded_at: Option<Timestamp>,
) -> Result<Camera> {
    let (address, credentials) = split_credentials(source)?;
    let address = StreamAddress::new(&address)?;
    Ok(Camera {
        id: CameraId::new(id)?,
        site: SiteId::new(id)?,
        name: format!("{id} (place unknown)"),
        // Nobody said where it stands, and a place nobody drives at cannot be taken for one.
        position: GeoPoint::new(0.0, 0.0)?,
        bearing_deg: None,
        address,
        credentials,
        transport: Default::default(),
        pace: Default::default(),
        policy: Default::default(),
        analysed_fps_max: 12.5,
        recorded_at,
        lanes: None,
        substream: None,
        onvif: None,
        enabled: true,
    })
}

fn split_credentials(source: &str) -> Result<(String, Option<Credentials>)> {
    let Some((scheme, rest)) = source.split_once("://") else {
        return Ok((source.to_owned(), None));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((user, host)) = authority.rsplit_once('@') else {
        return Ok((source.to_owned(), None));
    };
    let (username, password) = user.split_once(':').unwrap_or((user, ""));
    let credentials = Credentials { username: username.to_owned(), password: password.to_owned() };
    Ok((format!("{scheme}://{host}{path}"), Some(credentials)))
}

#[cfg(test)]
mod tests {
    use guiji_domain::PixelFormat;

    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("/etc/guiji"))
    }

    const CAMERA: &str =
        "[[camera]]\nid = \"k1\"\nlat = 29.1\nlon = 121.4\naddress = \"rtsp://h/p\"\n";

    #[test]
    fn an_empty_file_is_a_whole_configuration() {
        let config = parse("").unwrap();
        assert_eq!(config.store_dir, Path::new("/etc/guiji/data"));
        assert!(config.listen.ip().is_loopback());
        assert_eq!(config.evidence.len(), 3);
    }

    #[test]
    fn a_camera_has_defaults() {
        let config = parse(CAMERA).unwrap();
        assert_eq!(config.cameras[0].site.as_str(), "k1");
        assert!((config.cameras[0].analysed_fps_max - 8.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_said_of_streams_reaches_them_and_all_else_is_theirs() {
        let settings = || IngestSettings::new((320, 192), PixelFormat::Bgr);
        assert_eq!(parse("").unwrap().ingest.apply(settings()), settings());
        let said = "[ingest]\nturn_away = false\nblind_max_seconds = 2\nring_mb = 5";
        let applied = parse(said).unwrap().ingest.apply(settings());
        let (turn_away, blind_max) = (false, Duration::from_secs(2));
        let expected =
            IngestSettings { turn_away, blind_max, ring_bytes_max: 5_000_000, ..settings() };
        assert_eq!(applied, expected);
    }

    #[test]
    fn mistakes_name_the_thing_and_the_mend() {
        for (text, hints) in [
            ("[analysis]\nwokers = 2", ["wokers", "did you mean `workers`"].as_slice()),
            ("[servr]", &["servr", "did you mean `server`"]),
            ("[analysis]\nworkers = 0", &["analysis.workers", "at least 1"]),
            ("[ingest]\ndecoders = 0", &["ingest.decoders", "at least 1"]),
            ("[ingest]\nring_mb = 0.01", &["ingest.ring_mb", "0.1 to 1000"]),
            ("[ingest]\nring_seconds = 61", &["ingest.ring_seconds", "at most 60"]),
            ("[ingest]\nblind_max_seconds = 0", &["ingest.blind_max_seconds", "0.2 to 3600"]),
            ("[ingest]\nkeyframe_every_seconds = 0.5", &["keyframe_every_seconds", "1 to 60"]),
            (&format!("{CAMERA}onvif = \"10.0.0.1\""), &["k1", "http(s)://HOST"]),
            (
                "[store.evidence.frame]\ndays = 0\ngb_max = 1",
                &["store.evidence.frame.days", "keep = false"],
            ),
            (&CAMERA.replace("29.1", "291"), &["k1", "latitude"]),
            (&CAMERA.replace("rtsp://h", "rtsp://u:secret@h"), &["k1", "password_file"]),
            (&format!("{CAMERA}transport = \"tpc\""), &["k1", "transport", "tcp udp"]),
            (&format!("{CAMERA}password_env = \"X\""), &["k1", "no username"]),
            (&format!("{CAMERA}bearing_deg = 400"), &["k1", "bearing_deg"]),
            (&format!("{CAMERA}{CAMERA}"), &["k1", "twice"]),
            (&format!("{CAMERA}recorded_at = \"yesterday\""), &["k1", "yesterday", "RFC 3339"]),
            ("[analysis]\nworkers = \"two\"", &["workers", "whole number"]),
            ("[ingest]\nreceiver = \"retna\"", &["ingest.receiver", "retina or gstreamer"]),
            ("[ingest]\nopening_max = 0", &["ingest.opening_max", "at least 1"]),
            ("[ingest]\ncameras_max = 0", &["ingest.cameras_max", "at least 1"]),
            ("[ingest]\nopened_max = 5000", &["ingest.opened_max", "at most 1024"]),
            ("[server.tls]\ncertificate = \"c.pem\"", &["key"]),
            ("[server.tokens]\nkeys = []\nissuer = \"x\"", &["keys", "at least one"]),
            ("[server.tokens]\nkeys = [\"k\"]", &["issuer"]),
            (
                "[server.tokens]\nkeys = [\"k\"]\nissuer = \"x\"\nleeway_s = 301",
                &["leeway_s", "at most 300"],
            ),
            ("[tactics]\ndays = 0", &["tactics.days", "at least 1"]),
            (
                "[store]\nsightings_days = 7\n[tactics]\ndays = 30",
                &["tactics.days is 30", "sightings_days = 7"],
            ),
            ("[tactics]\npassages_max = 1", &["tactics.passages_max", "1000"]),
            ("[audit]\npayload_days = 0", &["audit.payload_days", "at least 1"]),
            ("[server.tokens]\nkey = [\"k\"]\nissuer = \"x\"", &["did you mean `keys`"]),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            for hint in hints {
                assert!(error.contains(hint), "{text}\n→ {error}\nlacks {hint}");
            }
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_tactics_look_back_as_far_as_sightings_are_kept() {
        assert_eq!(parse("[store]\nsightings_days = 7").unwrap().tactics_days, 7);
        assert_eq!(parse("[tactics]\ndays = 30").unwrap().tactics_days, 30);
    }

    #[test]
    fn a_source_may_carry_credentials_which_leave_the_address() {
        let camera = source_camera("mine", "rtsp://admin:p@ss@10.1.2.3:554/ch1?x=1", None).unwrap();
        assert_eq!(camera.address.as_str(), "rtsp://10.1.2.3:554/ch1?x=1");
        assert_eq!(camera.credentials.unwrap().password, "p@ss");
        assert_eq!(source_camera("mine", "a@b.mp4", None).unwrap().address.as_str(), "a@b.mp4");
    }
}
