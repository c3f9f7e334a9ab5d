use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use guiji_domain::{AuditDone, AuditEntry, Authority, People, PlateText, Stop, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tracing::error;

use crate::asked::AskedRequest;
use crate::auth::{Caller, Method, Reach, Role, TokenWatch};
use crate::clone_watch::CloneWatch;
use crate::error::Problem;
use crate::json::JsonMessage;
use crate::network::NetworkCache;
use crate::passages::PassageKeeper;
use crate::violations::{Violations, check_authority};
use crate::{ApiParts, ApiSettings, pb};

/// What all services share: the parts, and the bounds on using them.
pub(crate) struct Core {
    pub(crate) parts: ApiParts,
    pub(crate) settings: ApiSettings,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    store_calls: Arc<Semaphore>,
    draining: watch::Receiver<bool>,
    watchlist_writing: Mutex<()>,
    patrols_writing: Mutex<()>,
    pub(crate) networks: Arc<NetworkCache>,
    pub(crate) passages: PassageKeeper,
    pub(crate) clones: CloneWatch,
}

impl Core {
    /// `draining` turns true when the server begins to stop.
    pub(crate) fn new(
        parts: ApiParts,
        settings: ApiSettings,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let permits = |n: usize| Arc::new(Semaphore::new(n.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            calls: permits(settings.calls_max),
            streams: permits(settings.streams_max),
            store_calls: permits(settings.store_calls_max),
            passages: PassageKeeper::new(settings.passages),
            clones: CloneWatch::default(),
            parts,
            settings,
            draining,
            watchlist_writing: Mutex::new(()),
            patrols_writing: Mutex::new(()),
            networks: Arc::default(),
        }
    }

    /// Held from looking whether a watch-list id is free until it is taken.
    pub(crate) fn writing_watchlist(&self) -> MutexGuard<'_, ()> {
        // It guards no data of its own, so a panic elsewhere leaves nothing half done here.
        self.watchlist_writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held from looking whether there is a patrol unit until it is changed.
    pub(crate) fn writing_patrols(&self) -> MutexGuard<'_, ()> {
        self.patrols_writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the server begins to stop.
    pub(crate) async fn drain_begun(&self) {
        // An error means that the server is gone, which is draining too.
        drop(self.draining.clone().wait_for(|draining| *draining).await);
    }

    /// Does blocking work on a thread for it, when one of the few is free, within the longest deadline. Searches end when
    /// their caller has gone or its time is over; other work that has begun is finished, and keeps its place until then.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &'static str,
        work: impl FnOnce(&ApiParts) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let done = async {
            let place = Arc::clone(&self.store_calls);
            let place = place.acquire_owned().await.map_err(|_| Problem::Draining)?;
            let stop = Stop::new();
            let parts = ApiParts { stop: stop.clone(), ..self.parts.clone() };
            let _nobody_waits = RaiseOnDrop(stop);
            let done = tokio::task::spawn_blocking(move || {
                let _place = place;
                work(&parts)
            });
            done.await.unwrap_or_else(|error| {
                error!(doing, %error, "a call panicked");
                Err(Problem::Panicked { doing })
            })
        };
        let in_time = tokio::time::timeout(self.settings.deadline_max, done).await;
        in_time.unwrap_or(Err(Problem::TooLate { doing }))
    }
}

/// Tells those who work for somebody that they have gone.
struct RaiseOnDrop(Stop);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

/// How long a call lives, and so which limit it counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// One answer.
    Unary,
    /// Answers until somebody ends it.
    Stream,
}

/// One data call, from its arrival to its audit record.
///
/// The answer leaves when the record is durable; a stream leaves one when it opens and one when it ends. A call whose
/// client has gone or whose time is over leaves one too, when it is dropped.
pub(crate) struct Call {
    core: Arc<Core>,
    method: Method,
    caller: Option<Caller>,
    tokens: Option<TokenWatch>,
    authority: Option<Authority>,
    /// Whom the request names as the officer, where its token names another.
    on_behalf_of: Option<String>,
    question: String,
    request: AskedRequest,
    /// Whether a record says what was asked already.
    opened: bool,
    /// The releases of old data that cover the call, in words; empty until it asks what it may see.
    released: OnceLock<String>,
    results: Arc<AtomicU64>,
    recorded: bool,
    arrived: Instant,
    place: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// Notes the arrival of a call, whose it is and what it asks.
    pub(crate) fn new<T: JsonMessage>(
        core: &Arc<Core>,
        method: Method,
        request: &Request<T>,
    ) -> Self {
        let mut call = Self::in_parts(core, method, request);
        call.request = AskedRequest::of(request.get_ref());
        call
    }

    /// The same of a call whose request is a stream: what it asks is known when it has come.
    pub(crate) fn in_parts<T>(core: &Arc<Core>, method: Method, request: &Request<T>) -> Self {
        Self {
            core: Arc::clone(core),
            method,
            caller: request.extensions().get::<Caller>().cloned(),
            tokens: request.extensions().get::<TokenWatch>().cloned(),
            authority: None,
            on_behalf_of: None,
            question: String::new(),
            request: AskedRequest::default(),
            opened: false,
            released: OnceLock::new(),
            results: Arc::default(),
            recorded: false,
            arrived: Instant::now(),
            place: None,
        }
    }

    /// Lets the call in, if its caller may make it, it says by what right it asks and the server has room for it.
    pub(crate) fn admit(
        &mut self,
        kind: CallKind,
        authority: Option<&pb::Authority>,
    ) -> Result<Authority, Problem> {
        // Every request comes through the interceptor; should one ever not, it has no rights.
        let Some(caller) = &self.caller else {
            return Err(Problem::Panicked { doing: "find out who calls" });
        };
        let authority = match caller {
            Caller::Unnamed => check_authority(authority)?,
            Caller::Known(identity) => {
                let (authority, said) = named_authority(authority, &identity.subject)?;
                self.on_behalf_of = said;
                authority
            }
        };
        self.authority = Some(authority.clone());
        self.method.permit(caller)?;
        if *self.core.draining.borrow() {
            return Err(Problem::Draining);
        }
        let (places, what) = match kind {
            CallKind::Unary => (&self.core.calls, "calls"),
            CallKind::Stream => (&self.core.streams, "streams"),
        };
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| Problem::Busy { what })?;
        self.place = Some(place);
        Ok(authority)
    }

    /// What of the data the caller may see.
    pub(crate) fn reach(&self) -> Reach {
        // Only calls that were let in ask for it; they have a caller.
        let caller = self.caller.as_ref().unwrap_or(&Caller::Unnamed);
        let now = self.core.parts.clock.now();
        let mut releases = Vec::new();
        if let (Caller::Known(identity), Some(authority)) = (caller, &self.authority) {
            releases = self.core.parts.releases.releases(now);
            releases.retain(|r| {
                r.tactic.is_none() && r.covers(&identity.subject, authority.case_number(), now)
            });
        }
        if !releases.is_empty() {
            let names: Vec<_> = releases.iter().map(|r| format!("releases/{}", r.number)).collect();
            self.released.get_or_init(|| format!(", with {}", names.join(" ")));
        }
        Reach::of(caller, now, &releases)
    }

    /// The caller's role, empty without a token, and whom the request names as the officer instead.
    pub(crate) fn asker(&self) -> (&'static str, &str) {
        let role = match &self.caller {
            Some(Caller::Known(identity)) => identity.role.as_str(),
            _ => "",
        };
        (role, self.on_behalf_of.as_deref().unwrap_or_default())
    }

    /// Whether the caller may have pictures in which people can be recognised.
    pub(crate) fn may_show_people(&self) -> bool {
        match &self.caller {
            Some(Caller::Known(identity)) => {
                identity.role == Role::Supervisor || identity.people_shown_by.is_some()
            }
            Some(Caller::Unnamed) => true,
            None => false,
        }
    }

    /// Refuses pictures in which people can be recognised to whom they are not for.
    pub(crate) fn may_have(&self, people: People) -> Result<(), Problem> {
        if people == People::Blurred || self.may_show_people() {
            return Ok(());
        }
        Err(Problem::Forbidden {
            reason: "PEOPLE_BLURRED",
            message: "people: pictures in which people can be recognised need a supervisor, or a token with a \
                      supervisor's leave (people_shown_by)"
                .into(),
        })
    }

    /// How long the caller's token holds, if there is one.
    fn token_left(&self) -> Option<Duration> {
        match &self.caller {
            Some(Caller::Known(identity)) => {
                Some(identity.expires.since(self.core.parts.clock.now()))
            }
            _ => None,
        }
    }

    /// Says what was asked, for the audit.
    pub(crate) fn asks(&mut self, question: impl Into<String>) {
        self.question = question.into();
    }

    /// Says which plate it turned out to be about.
    pub(crate) fn about(&mut self, plate: Option<&PlateText>) {
        self.request.plates.extend(plate.map(|plate| plate.as_str().to_owned()));
    }

    /// Says how many results the answer has.
    pub(crate) fn found(&mut self, results: usize) {
        self.results.store(results as u64, Ordering::Relaxed);
    }

    /// Ends a unary call: its answer leaves when its record is durable, and never if it is not.
    pub(crate) async fn end<T>(
        mut self,
        answer: Result<T, Problem>,
    ) -> Result<Response<T>, Status> {
        let answer = answer.map(Response::new).map_err(Status::from);
        self.record_end(answer.as_ref().map_or_else(Status::code, |_| Code::Ok)).await?;
        answer
    }

    /// Turns the call into a stream, made by `produce` as fast as the client takes it, or refuses it.
    ///
    /// The stream ends when `produce` ends, when the client goes (noticed even while `produce` waits for something
    /// else), with UNAVAILABLE when the server stops and with UNAUTHENTICATED when the client's token ends.
    pub(crate) async fn stream<T, P, F>(
        mut self,
        begun: Result<P, Problem>,
    ) -> Result<Response<ReceiverStream<Result<T, Status>>>, Status>
    where
        T: Send + 'static,
        P: FnOnce(Arc<Core>, Sink<T>) -> F,
        F: Future<Output = Result<(), StreamEnd>> + Send + 'static,
    {
        /// Messages between producer and connection: enough to keep the connection busy, few enough that a slow
        /// client holds no memory.
        const AHEAD: usize = 8;

        let produce = match begun {
            Ok(produce) => produce,
            Err(problem) => {
                let status = Status::from(problem);
                self.record_end(status.code()).await?;
                return Err(status);
            }
        };
        // A stream may last for days, and end with the machine: its beginning is recorded too.
        let opened = match self.record("Opened".to_owned()).await {
            Ok(number) => {
                self.opened = true;
                number
            }
            Err(problem) => {
                self.recorded = true;
                return Err(problem.into());
            }
        };
        let (messages, receiver) = mpsc::channel(AHEAD);
        let results = Arc::clone(&self.results);
        let sink = Sink { messages: messages.clone(), results, opened };
        let producing = produce(Arc::clone(&self.core), sink);
        let token_left = self.token_left();
        let revoked = token_revoked(self.tokens.clone(), self.caller.clone());
        tokio::spawn(async move {
            // The whole call moves in: its place and its audit record end with the stream.
            let mut call = self;
            let end = tokio::select! {
                end = producing => end,
                () = messages.closed() => Err(StreamEnd::ClientGone),
                () = call.core.drain_begun() => Err(Problem::Draining.into()),
                () = end_of_token(token_left) => Err(token_ended().into()),
                () = revoked => Err(token_was_revoked().into()),
            };
            let status = match end {
                Ok(()) => None,
                Err(StreamEnd::ClientGone) => return,
                Err(StreamEnd::Problem(problem)) => Some(Status::from(problem)),
            };
            if messages.is_closed() {
                return;
            }
            // The stream's end, which dropping `messages` is, waits for the record.
            let code = status.as_ref().map_or(Code::Ok, Status::code);
            let recorded = call.record_end(code).await.map_err(Status::from);
            if let Some(status) = recorded.err().or(status) {
                // An error means that the client has gone meanwhile.
                drop(messages.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Call {
    /// Writes the call's last record; the call has ended then, whether or not that works.
    async fn record_end(&mut self, code: Code) -> Result<(), Problem> {
        self.recorded = true;
        self.record(format!("{code:?}")).await.map(drop)
    }

    /// Writes a record and waits until it is durable; its number.
    async fn record(&self, outcome: String) -> Result<u64, Problem> {
        let (told, hears) = oneshot::channel();
        // An error means that the call is over and nobody waits any more; the record stays.
        let done: AuditDone = Box::new(move |done| drop(told.send(done)));
        self.core.parts.audit.submit(self.entry(outcome), done);
        let lost = || StoreError::Medium {
            doing: "write the audit",
            reason: "it ended without an answer".into(),
        };
        Ok(hears.await.unwrap_or_else(|_| Err(lost()))?)
    }

    fn entry(&self, outcome: String) -> AuditEntry {
        let part = |get: fn(&Authority) -> &str| {
            self.authority.as_ref().map(get).unwrap_or_default().to_owned()
        };
        let (user, role) = match &self.caller {
            Some(Caller::Known(identity)) => (identity.subject.clone(), identity.role.as_str()),
            _ => (part(Authority::officer), ""),
        };
        AuditEntry {
            at: self.core.parts.clock.now(),
            method: self.method.name().to_owned(),
            officer: user,
            role: role.to_owned(),
            on_behalf_of: self.on_behalf_of.clone().unwrap_or_default(),
            purpose: part(Authority::purpose),
            case_number: part(Authority::case_number),
            question: format!(
                "{}{}",
                self.question,
                self.released.get().map_or("", String::as_str)
            ),
            plates: self.request.plates.clone(),
            request: if self.opened { String::new() } else { self.request.json.clone() },
            results: self.results.load(Ordering::Relaxed),
            outcome,
            took_ms: u64::try_from(self.arrived.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Drop for Call {
    /// A call that did not come to its end: its client has gone, or its time is over.
    fn drop(&mut self) {
        if self.recorded {
            return;
        }
        let entry = self.entry("Cancelled".to_owned());
        // The place is free when the record is written, so that no client can pile records up.
        let (place, told) = (self.place.take(), entry.clone());
        let done: AuditDone = Box::new(move |done| {
            drop(place);
            if let Err(error) = done {
                error!(%error, entry = ?told, "the audit record of a cancelled call is only here");
            }
        });
        self.core.parts.audit.submit(entry, done);
    }
}

/// The authority of a call with a token: its officer is the token's subject. Second, whom the request says instead.
fn named_authority(
    given: Option<&pb::Authority>,
    subject: &str,
) -> Result<(Authority, Option<String>), Problem> {
    let said = given.map(|given| given.officer.trim()).filter(|said| !said.is_empty());
    let mut wrong = Violations::default();
    if let Some(said) = said {
        wrong.check_text("authority.officer", said, 200);
    }
    wrong.done()?;
    let given = given.map(|given| pb::Authority { officer: subject.to_owned(), ..given.clone() });
    let authority = check_authority(given.as_ref())?;
    Ok((authority, said.filter(|said| *said != subject).map(str::to_owned)))
}

async fn end_of_token(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}

async fn token_revoked(tokens: Option<TokenWatch>, caller: Option<Caller>) {
    match (tokens, caller) {
        (Some(tokens), Some(Caller::Known(identity))) => {
            tokens.revoked(identity.token_id.as_deref()).await;
        }
        _ => std::future::pending().await,
    }
}

fn token_was_revoked() -> Problem {
    Problem::Unauthenticated {
        reason: "TOKEN_REVOKED",
        message: "the token was revoked while the stream was open".into(),
    }
}

fn token_ended() -> Problem {
    Problem::Unauthenticated {
        reason: "TOKEN_EXPIRED",
        message: "the token ended while the stream was open: begin again with a new one".into(),
    }
}

/// Why a stream ended before its producer was done.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// Nobody listens any more.
    ClientGone,
    /// Something failed.
    Problem(Problem),
}

impl From<Problem> for StreamEnd {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Takes the messages of a stream, waiting while the client is slow.
pub(crate) struct Sink<T> {
    messages: mpsc::Sender<Result<T, Status>>,
    results: Arc<AtomicU64>,
    opened: u64,
}

impl<T> Sink<T> {
    /// The number of the audit record that says that the stream was opened.
    pub(crate) fn audit_record(&self) -> u64 {
        self.opened
    }

    /// Sends a message that carries so many results.
    pub(crate) async fn send(&self, message: T, results: usize) -> Result<(), StreamEnd> {
        self.messages.send(Ok(message)).await.map_err(|_| StreamEnd::ClientGone)?;
        self.results.fetch_add(results as u64, Ordering::Relaxed);
        Ok(())
    }
}
