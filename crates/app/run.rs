//! `guiji run`: builds the parts, joins them at the seams, and drains them in order.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use guiji_api::{
    ApiParts, ApiServer, ApiSettings, Exposure, FileCameras, PassageSettings, Protection,
};
use guiji_delivery::{Couriers, Onvif};
use guiji_domain::{
    Camera, CameraControl as _, CameraRegistry as _, CameraState, Clock, Detector as _, Pace,
    PixelFormat, Sighting, SightingStage, Stop, StoreError, Timestamp,
};
use guiji_engine::{
    Cameras, Engine, EngineParts, EngineSettings, Escalation, EscalationParts, EvidenceSettings,
};
use guiji_ingest::{GstSource, IngestSettings};
use guiji_store::bundle::{BundleSealer, ModelStatement, SoftwareStatement};
use guiji_store::{Audit, AuditSettings, Deliveries, Durability, ReleaseFile, Store};
use guiji_vision::{ModelFacts, Models, Mosaic};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tracing::{error, info, warn};

use crate::clock::SystemClock;
use crate::config::{Config, DRAIN_PATIENCE, source_camera};
use crate::store::{commands_audit, open_when_free};
use crate::{access, audit, evidence, models, query, receivers, reload, telemetry};

/// Arguments of `guiji run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A stream or file to watch besides the configured cameras; may be given again.
    #[arg(long, value_name = "URL|FILE")]
    pub(crate) source: Vec<String>,
    /// Play the sources as fast as analysis allows instead of in real time (files only).
    #[arg(long)]
    pub(crate) fast: bool,
    /// Stop when every source has ended.
    #[arg(long)]
    pub(crate) until_end: bool,
    /// Print each final sighting to standard output.
    #[arg(long)]
    pub(crate) print: bool,
}

/// How often old data is looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(600);

/// Runs the command.
pub(crate) fn run(arguments: RunArguments) -> Result<ExitCode> {
    telemetry::init_logs();
    let config = match &arguments.config {
        Some(path) => Config::load(path)?,
        None if arguments.source.is_empty() => bail!("give --config FILE or --source URL|FILE"),
        None => Config::parse("", Path::new("."))?,
    };
    let sources = sources(&arguments)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        cameras = config.cameras.len() + sources.len(),
        "guiji starts"
    );
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(serve(arguments, config, sources))
}

fn sources(arguments: &RunArguments) -> Result<Vec<Camera>> {
    arguments
        .source
        .iter()
        .enumerate()
        .map(|(i, source)| {
            let mut camera = source_camera(&format!("source-{}", i + 1), source, None)?;
            if arguments.fast {
                if camera.address.file_path().is_none() {
                    bail!("--fast is for files: {} is a live stream", camera.address);
                }
                camera.pace = Pace::AsFastAsPossible;
            }
            Ok(camera)
        })
        .collect()
}

/// Everything that runs, in the order in which it is drained.
struct Running {
    engine: Engine,
    store: Arc<Store>,
    audit: Arc<Audit>,
    couriers: Arc<Couriers>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

async fn serve(arguments: RunArguments, config: Config, sources: Vec<Camera>) -> Result<ExitCode> {
    let exposure = access::exposure(&config);
    let protection = access::protection(&config);
    guiji_api::listen_address_allowed(config.listen, protection, exposure)
        .context(access::HOW_TO_PROTECT)?;
    let (tls, tokens) = access::load(&config)?;
    let clients = access::clients(&config)?;
    // Ports first: a second server on this machine is told so before a store or a camera is touched.
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {} (server.listen)", config.listen))?;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Arc::new(open_store(&config, clock.as_ref())?);
    let audit_log = Arc::new(open_audit(&config)?);
    let deliveries = Arc::new(
        Deliveries::open(&config.store_dir, Durability::Full)
            .context("open the proofs of delivery")?,
    );
    let engine = start_engine(&config, store.clone(), clock.clone())?;
    // Whoever follows the log has its place in it before anything can ring: at the very first start too, nothing is
    // raised that nobody delivers or escalates.
    let escalation =
        start_escalation(&config, &engine, store.clone(), deliveries.clone(), clock.clone())?;
    let couriers =
        receivers::start(&config.receivers, store.clone(), deliveries.clone(), clock.clone())?;
    let couriers = Arc::new(couriers);
    let cameras = engine.cameras();
    let recorder = reload::Recorder { audit: audit_log.clone(), clock: clock.clone() };
    let registered = store.cameras().context("list the registered cameras")?;
    recorder.at_start(&registered, &config.cameras);
    open_cameras(&cameras, &store, config.cameras.clone(), sources)?;

    let (stop, stopped) = watch::channel(false);
    let mut tasks = Vec::new();
    let (watchbook, patrolbook) = (engine.watchbook(), engine.patrolbook());
    let parts = ApiParts {
        stop: Stop::default(),
        passages: store.clone(),
        store: store.clone(),
        alerts: store.clone(),
        deliveries: deliveries.clone(),
        audit: audit_log.clone(),
        watchlist: store.clone(),
        likely: store.clone(),
        coverage: store.clone(),
        roads: store.clone(),
        patrols: store.clone(),
        corrections: store.clone(),
        cameras: cameras.clone(),
        clock: clock.clone(),
        intake: engine.intake(),
        sealer: Arc::new(open_sealer(&config, store.clone())?),
        releases: Arc::new(open_releases(&config)?),
        odd: Arc::new({
            let dir = config.store_dir.join("audit");
            move |since| audit::odd_patterns(&dir, since)
        }),
        alert_wake: engine.alert_wake(),
        live: engine.live(),
        patrols_changed: Arc::new(move || patrolbook.reload()),
        watchlist_changed: Arc::new(move || watchbook.reload()),
    };
    let passages = PassageSettings {
        days: config.tactics_days,
        kept_days: config.sightings_days,
        passages_max: config.tactics_passages_max,
    };
    let file_cameras = FileCameras::Refused;
    let settings = ApiSettings { exposure, file_cameras, passages, ..ApiSettings::default() };
    let mut api = ApiServer::new(parts, settings).with_client_certificates(clients);
    if let Some(tls) = tls {
        api = api.with_tls(tls);
    }
    if let (Some(tokens), Some(files)) = (tokens, config.tokens.clone()) {
        let following = access::follow_token_files(files, tokens.clone(), until(stopped.clone()));
        tasks.push(tokio::spawn(following));
        api = api.with_tokens(tokens);
    }
    info!(
        address = %config.listen,
        tls = protection.tls,
        identified = protection.identified,
        "the API listens"
    );
    tasks.push(tokio::spawn({
        let stopped = stopped.clone();
        async move {
            if let Err(error) = api.serve(listener, until(stopped)).await {
                error!(%error, "the API ended");
            }
        }
    }));
    if let Some(address) = config.metrics {
        tasks.push(
            serve_metrics(address, exposure, &engine, couriers.clone(), stopped.clone()).await?,
        );
    }
    tasks.push(tokio::spawn(wake_couriers(
        engine.alert_wake(),
        couriers.clone(),
        until(stopped.clone()),
    )));
    tasks.push(tokio::spawn(escalate(escalation, until(stopped.clone()))));
    let kept_for = Duration::from_secs(u64::from(config.sightings_days) * 86_400);
    tasks.push(tokio::spawn(retain(
        store.clone(),
        (deliveries, kept_for),
        clock.clone(),
        until(stopped.clone()),
    )));
    if let Some(days) = config.audit_payload_days {
        let audit = audit_log.clone();
        let commands = commands_audit(&config);
        let audits = (audit, commands);
        tasks.push(tokio::spawn(forget(audits, days, clock.clone(), until(stopped.clone()))));
    }
    if arguments.print {
        tasks
            .push(tokio::spawn(print_sightings(engine.live().subscribe(), until(stopped.clone()))));
    }
    let hangup = reload::listen()?;
    tasks.push(tokio::spawn(reload::follow(
        hangup,
        arguments.config.clone(),
        config.cameras,
        (cameras.clone(), recorder),
        until(stopped.clone()),
    )));
    let running = Running { engine, store, audit: audit_log, couriers, stop, tasks };

    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => info!("interrupted"),
        _ = terminate.recv() => info!("told to stop"),
        () = all_ended(&cameras), if arguments.until_end => info!("every source has ended"),
    }
    tokio::select! {
        code = drain(running) => Ok(code),
        _ = tokio::signal::ctrl_c() => bail!("interrupted twice: stopped without draining"),
    }
}

async fn drain(running: Running) -> ExitCode {
    let Running { engine, store, audit, couriers, stop, tasks } = running;
    // Cameras first, so that what is in view still reaches the listeners; then the listeners.
    let drained = tokio::task::spawn_blocking(move || engine.drain(DRAIN_PATIENCE)).await;
    stop.send_replace(true);
    for task in tasks {
        if tokio::time::timeout(DRAIN_PATIENCE, task).await.is_err() {
            warn!("a task did not end in time");
        }
    }
    // They end after the message that each is carrying; what waits is in the log.
    drop(tokio::task::spawn_blocking(move || drop(couriers)).await);
    drop(store);
    // Writes what waits and seals it.
    drop(audit);
    match drained {
        Ok(report) if report.in_time && report.sightings_lost == 0 => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    }
}

fn open_store(config: &Config, clock: &dyn Clock) -> Result<Store> {
    let settings = crate::store::settings(config);
    let store = Store::open(settings)
        .with_context(|| format!("open the store {}", config.store_dir.display()))?;
    let report = store.enforce_retention(clock.now()).context("delete what is too old")?;
    info!(folder = %config.store_dir.display(), ?report, "store opened");
    Ok(store)
}

fn open_audit(config: &Config) -> Result<Audit> {
    let dir = config.store_dir.join("audit");
    let settings =
        AuditSettings { export: config.audit_checkpoints.clone(), ..AuditSettings::new(&dir) };
    // Who asks for tokens has users to answer for.
    if settings.export.is_none() && config.tokens.is_some() {
        warn!(
            "audit.checkpoints is not set: somebody with rights on this machine could write the audit anew unnoticed"
        );
    }
    Audit::open(settings).with_context(|| format!("open the audit {}", dir.display()))
}

fn open_sealer(config: &Config, store: Arc<Store>) -> Result<BundleSealer> {
    let models = Models::locate(&config.manifest, &config.models_cache)?.in_use();
    let models = models.into_iter().map(|ModelFacts { role, id, sha256 }| ModelStatement {
        role,
        id,
        sha256,
    });
    let software =
        SoftwareStatement { name: "guiji".into(), version: env!("CARGO_PKG_VERSION").into() };
    let key = config.store_dir.join(evidence::KEY_FILE);
    BundleSealer::open(&key, store, Arc::new(Mosaic), software, models.collect())
        .context("open the key that seals evidence")
}

fn open_releases(config: &Config) -> Result<ReleaseFile> {
    ReleaseFile::open(&config.store_dir.join("releases.jsonl")).context("open the releases")
}

/// How long a camera may take to answer a wish for a keyframe.
const KEYFRAME_PATIENCE: Duration = Duration::from_secs(5);

fn start_engine(config: &Config, store: Arc<Store>, clock: Arc<dyn Clock>) -> Result<Engine> {
    let mut settings = EngineSettings {
        batch_max: config.batch_max,
        repeat_within: config.repeat_within,
        evidence: EvidenceSettings {
            kinds: config.evidence.iter().map(|limit| limit.kind).collect(),
        },
        ..EngineSettings::default()
    };
    settings.workers = config.workers.unwrap_or(settings.workers);
    settings.cameras_max = config.ingest.cameras_max.unwrap_or(settings.cameras_max);
    settings.opened_max = config.ingest.opened_max.unwrap_or(settings.opened_max);
    let wishes = &mut settings.keyframes;
    wishes.farther_than = config.ingest.blind_max.unwrap_or(wishes.farther_than);
    wishes.every = config.ingest.keyframe_every.unwrap_or(wishes.every);
    let vision = Arc::new(models::load(config, settings.workers, models::Chosen::default())?);
    let ingest = IngestSettings::new(vision.input_size(), PixelFormat::Bgr);
    let source = GstSource::new(config.ingest.apply(ingest), clock.clone())?;
    let onvif =
        Onvif::new(clock.clone(), KEYFRAME_PATIENCE).context("ask cameras for keyframes")?;
    let parts = EngineParts {
        source: Arc::new(source),
        detector: vision.clone(),
        reader: vision.clone(),
        encoder: vision,
        store: store.clone(),
        alerts: store.clone(),
        watchlist: store.clone(),
        patrols: store.clone(),
        registry: store.clone(),
        coverage: store.clone(),
        read_before: store,
        keyframes: Some(Arc::new(onvif)),
        clock,
    };
    Engine::start(parts, settings).context("start the engine")
}

/// Opens what the file names, what was registered at run time before, and the sources of the command line.
fn open_cameras(
    cameras: &Cameras,
    store: &Store,
    configured: Vec<Camera>,
    sources: Vec<Camera>,
) -> Result<()> {
    for camera in &configured {
        store.put_camera(camera).with_context(|| format!("register camera {}", camera.id))?;
    }
    let mut registered = store.cameras().context("list the registered cameras")?;
    registered.retain(|camera| sources.iter().all(|source| source.id != camera.id));
    cameras.check_room_for(registered.iter().chain(&sources))?;
    for camera in registered {
        if !configured.iter().any(|known| known.id == camera.id) {
            info!(camera = %camera.id, "camera is registered, but not in the configuration; it is opened");
        }
        cameras.open(camera)?;
    }
    for source in sources {
        // Not registered: a source belongs to this run of the program.
        cameras.open(source)?;
    }
    Ok(())
}

fn start_escalation(
    config: &Config,
    engine: &Engine,
    store: Arc<Store>,
    deliveries: Arc<Deliveries>,
    clock: Arc<dyn Clock>,
) -> Result<Escalation> {
    let parts =
        EscalationParts { alerts: store, intake: engine.intake(), ledger: deliveries, clock };
    Escalation::new(parts, config.escalate_after).context("find alerts that nobody acknowledged")
}

/// Sends alerts up that nobody acknowledges.
async fn escalate(mut escalation: Escalation, stopped: impl Future<Output = ()>) {
    const EVERY: Duration = Duration::from_millis(500);
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let run = move || {
            if let Err(error) = escalation.run() {
                error!(%error, "alerts could not be escalated; the next round tries again");
            }
            escalation
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(back) => escalation = back,
            // The runtime is shutting down: a panic of the escalation itself is an error of its round.
            Err(_) => return,
        }
    }
}

async fn serve_metrics(
    address: std::net::SocketAddr,
    exposure: Exposure,
    engine: &Engine,
    couriers: Arc<Couriers>,
    stopped: watch::Receiver<bool>,
) -> Result<tokio::task::JoinHandle<()>> {
    guiji_api::listen_address_allowed(address, Protection::default(), exposure).context(
        "server.metrics: the page is plain HTTP, so listen on 127.0.0.1 and let a collector of this machine fetch it",
    )?;
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (server.metrics)"))?;
    let (cameras, counts) = (engine.cameras(), engine.counts());
    let end = engine.alert_wake();
    let render = move || {
        telemetry::render_metrics(&counts, &cameras)
            + &telemetry::render_receivers(*end.borrow(), &couriers.health())
    };
    info!(%address, "metrics are served");
    Ok(tokio::spawn(guiji_api::serve_metrics(listener, render, until(stopped))))
}

/// Tells the couriers that the log has grown.
async fn wake_couriers(
    mut grown: watch::Receiver<u64>,
    couriers: Arc<Couriers>,
    stopped: impl Future<Output = ()>,
) {
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            changed = grown.changed() => match changed {
                Ok(()) => couriers.wake(),
                Err(_) => return,
            },
        }
    }
}

async fn retain(
    store: Arc<Store>,
    (deliveries, kept_for): (Arc<Deliveries>, Duration),
    clock: Arc<dyn Clock>,
    stopped: impl Future<Output = ()>,
) {
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(RETENTION_EVERY) => {}
        }
        let (store, deliveries, now) = (store.clone(), deliveries.clone(), clock.now());
        let tend = move || {
            if let Err(error) = deliveries.expire(now.minus(kept_for)) {
                error!(%error, "old proofs of delivery could not be deleted");
            }
            (store.enforce_retention(now), store.seal_days(now))
        };
        match tokio::task::spawn_blocking(tend).await {
            Ok((deleted, sealed)) => {
                match deleted {
                    Ok(report) => info!(?report, "old data deleted"),
                    Err(error) => error!(%error, "old data could not be deleted"),
                }
                match sealed {
                    Ok(report) => info!(?report, "closed days sealed"),
                    Err(error) => error!(%error, "closed days could not be sealed"),
                }
            }
            Err(error) => error!(%error, "the retention task failed"),
        }
    }
}

/// Deletes what the records of both audits say that are older; how many files that were.
fn erase_old(
    audit: &Audit,
    commands: &AuditSettings,
    before: Timestamp,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let erase = |audit: &Audit| audit.erase_days(before, "audit.payload_days", now);
    let of_server = erase(audit)?;
    let of_commands = if commands.dir.is_dir() { erase(&open_when_free(commands)?)? } else { 0 };
    Ok(of_server + of_commands)
}

/// Erases what old records of the audits say, of the server's and of that of commands, at the start and once an hour.
async fn forget(
    (audit, commands): (Arc<Audit>, AuditSettings),
    days: u32,
    clock: Arc<dyn Clock>,
    stopped: impl Future<Output = ()>,
) {
    const EVERY: Duration = Duration::from_secs(3600);
    tokio::pin!(stopped);
    loop {
        let (audit, commands, now) = (Arc::clone(&audit), commands.clone(), clock.now());
        let before = now.minus(Duration::from_secs(86_400) * days);
        let erased = move || erase_old(&audit, &commands, before, now);
        match tokio::task::spawn_blocking(erased).await {
            Ok(Ok(0)) => {}
            Ok(Ok(files)) => info!(files, "old payloads of the audit erased"),
            Ok(Err(error)) => error!(%error, "old payloads of the audit could not be erased"),
            Err(error) => error!(%error, "the erasure of old payloads failed"),
        }
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn print_sightings(
    mut live: broadcast::Receiver<Arc<Sighting>>,
    stopped: impl Future<Output = ()>,
) {
    tokio::pin!(stopped);
    loop {
        let sighting = tokio::select! {
            sighting = live.recv() => sighting,
            // What the drain stored just before is still in the queue.
            () = &mut stopped => match live.try_recv() {
                Ok(sighting) => Ok(sighting),
                Err(_) => return,
            },
        };
        match sighting {
            Ok(sighting) if sighting.stage == SightingStage::Final => {
                query::print_sighting(&sighting)
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "sightings were not printed; they are stored")
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Ends when no camera will deliver any more.
async fn all_ended(cameras: &Cameras) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let over = |state| {
            matches!(state, CameraState::Ended | CameraState::Misconfigured | CameraState::Disabled)
        };
        if cameras.list().iter().all(|(_, health)| over(health.status.state)) {
            return;
        }
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same as `true`.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

#[cfg(test)]
mod tests {
    use guiji_domain::{AuditEntry, AuditLog as _};
    use guiji_store::AuditRecords;

    use super::*;

    #[test]
    fn old_records_of_both_audits_are_erased() {
        let folder = tempfile::tempdir().unwrap();
        let settings = |name| AuditSettings::new(folder.path().join(name));
        let day = |days: u32| Timestamp::EPOCH.plus(Duration::from_secs(86_400) * (20_000 + days));
        let audit = Audit::open(settings("audit")).unwrap();
        let commands = settings("commands");
        assert_eq!(erase_old(&audit, &commands, day(1), day(9)).unwrap(), 0);
        assert!(!commands.dir.exists(), "nothing is made for nothing");

        let record = |audit: &Audit| {
            let (told, heard) = std::sync::mpsc::sync_channel(1);
            let entry = AuditEntry { at: day(0), officer: "wang".into(), ..AuditEntry::default() };
            audit.submit(entry, Box::new(move |done| told.send(done).unwrap()));
            heard.recv().unwrap().unwrap();
        };
        record(&audit);
        record(&open_when_free(&commands).unwrap());
        let said = |settings: &AuditSettings| {
            let all = AuditRecords::open(&settings.dir).unwrap();
            all.filter(|record| record.as_ref().unwrap().field("officer") == Some("wang")).count()
        };
        assert_eq!(erase_old(&audit, &commands, day(0), day(9)).unwrap(), 0);
        assert_eq!((said(&settings("audit")), said(&commands)), (1, 1));
        assert_eq!(erase_old(&audit, &commands, day(1), day(9)).unwrap(), 2);
        assert_eq!((said(&settings("audit")), said(&commands)), (0, 0));
    }
}
