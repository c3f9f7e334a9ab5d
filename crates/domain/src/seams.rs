use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use thiserror::Error;

use crate::{
    Alert, AlertId, BBox, Camera, CameraHealth, CameraId, CameraStatus, DailyHours, Detection,
    Digest, Frame, GeoPoint, InvalidValue, KeyframeRhythm, Opening, Picture, PlateRead, PlateState,
    PlateText, Recorded, SharedPicture, Sighting, SightingId, SightingPage, SightingQuery,
    SightingStage, Stop, StreamCounters, TimeSpan, Timestamp, VehicleColour, WatchEntry,
    WatchEntryId,
};

/// The only source of the present.
pub trait Clock: Send + Sync {
    /// UTC now. May jump when the machine's clock is set.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct SimulatedClock(AtomicI64);

impl SimulatedClock {
    /// A clock that shows this time.
    pub fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.as_nanos()))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// Opens cameras. Real: GStreamer. Scripted: tests.
pub trait FrameSource: Send + Sync {
    /// Begins to open a camera and returns at once. From then on the sink hears of frames and of every change of
    /// state; trouble is a state with a retry, never an error here.
    fn open(&self, camera: &Camera, sink: Arc<dyn FrameSink>) -> Box<dyn OpenStream>;

    /// Sees to it that so many streams can be open at the same time ([`Camera::streams`]).
    ///
    /// # Errors
    /// When this machine does not let us; says what it lacks.
    fn make_room(&self, open: usize) -> Result<(), String> {
        let _ = open;
        Ok(())
    }
}

/// A camera being watched. Dropping it closes the stream and waits until the sink is not called any more.
pub trait OpenStream: Send + Sync {
    /// What it delivered so far.
    fn counters(&self) -> StreamCounters;

    /// Hears what was seen in the frames, so that no more is decoded than is needed. Returns at once.
    fn feedback(&self, feedback: Feedback) {
        let _ = feedback;
    }

    /// Hears what was found in a frame: how it learns that a view moves without vehicles, and the answer to a frame of
    /// [`View::Asked`](crate::View::Asked) and to any of the [substream](crate::Stream::Substream). Returns at once.
    fn detected(&self, frame: &Frame, findings: Findings) {
        let _ = (frame, findings);
    }

    /// Hears that [`FrameSink::has_room`] again. Returns at once.
    fn room(&self) {}

    /// For how long at a time nothing is known of the view, by what is decoded: what comes and goes in it may be
    /// missed. Zero when every picture is decoded.
    fn blind_time(&self) -> Duration {
        Duration::ZERO
    }

    /// How its keyframes come.
    fn keyframes(&self) -> KeyframeRhythm {
        KeyframeRhythm::default()
    }
}

/// Asks cameras for keyframes. Real: ONVIF. Scripted: tests.
pub trait KeyframeAsker: Send + Sync {
    /// Asks the camera, at its [`Camera::onvif`], for a keyframe now, and waits for its answer: seconds at most. May be
    /// called from several threads.
    ///
    /// # Errors
    /// When it refuses or cannot be reached; in words for a person, without the login.
    fn ask(&self, camera: &Camera) -> Result<(), String>;
}

/// What analysis tells a stream of what it saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Feedback {
    /// Vehicles being followed.
    pub live_tracks: usize,
    /// Somebody waits for what this camera sees: a watch-list alert or an analyst. Its work comes before others'.
    pub urgent: bool,
    /// Analysis cannot keep up: decode what cannot be done without, and no more.
    pub sparing: bool,
}

/// What analysis found in one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Findings {
    /// Vehicles that are new or move. In an answer to [`View::Asked`](crate::View::Asked) those that are known, in the sense
    /// of [`Self::known_for`], are none.
    pub news: usize,
    /// Set when vehicles are in view that move, and all of these are known: their plates are read beyond doubt, and they drive
    /// away from the camera, so that no better picture of them is to come. So long another vehicle that comes now can be told
    /// from them, and is in view: most of the time that the one that came last has been.
    pub known_for: Option<Duration>,
}

/// Takes what a camera delivers. Called from the media framework's threads.
pub trait FrameSink: Send + Sync {
    /// Takes a frame. May block for recordings played as fast as possible; must not otherwise.
    fn frame(&self, frame: Frame);
    /// Whether a frame would be taken without the loss of another. Asked, for live cameras, before old pictures are
    /// decoded that can wait; [`OpenStream::room`] says when to ask again.
    fn has_room(&self) -> bool {
        true
    }
    /// Hears of a change of state.
    fn status(&self, camera: &CameraId, status: CameraStatus);
}

/// Finds vehicles. Real: ONNX Runtime. Scripted: tests.
pub trait Detector: Send + Sync {
    /// Width and height of the picture that it wants as [`Frame::small`].
    fn input_size(&self) -> (u32, u32);

    /// The vehicles of each frame, in the order of the frames, boxes in full-resolution pixels, after NMS.
    ///
    /// # Errors
    /// When the model cannot be run; the frames are then lost, not the program.
    fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError>;

    /// The body colour of the vehicle in the region of a full-resolution picture, with its share of the evidence,
    /// 0 to 1. `None` when the light does not allow a judgement. Pure computation on pixels, below a millisecond.
    fn body_colour(&self, picture: &dyn Picture, vehicle: &BBox) -> Option<(VehicleColour, f32)>;
}

/// Encodes evidence pictures. Real: JPEG. Scripted: tests.
pub trait PictureEncoder: Send + Sync {
    /// The media type of what it makes: `image/jpeg`.
    fn media_type(&self) -> &'static str;

    /// Encodes the region (everything, when `None`; clipped to the picture) of a picture.
    ///
    /// # Errors
    /// When the region lies outside the picture or encoding fails.
    fn encode(&self, picture: &dyn Picture, region: Option<&BBox>) -> Result<Vec<u8>, VisionError>;
}

/// Finds and reads plates. Real: ONNX Runtime. Scripted: tests.
pub trait PlateReader: Send + Sync {
    /// The plates inside each region of each picture, in the order of the requests. A request is a full-resolution
    /// picture and the region to look at, in its pixels; results are in the same pixels.
    ///
    /// # Errors
    /// When a model cannot be run.
    fn read(&self, requests: &[(SharedPicture, BBox)]) -> Result<Vec<Vec<PlateRead>>, VisionError>;
}

/// Why a model could not answer.
#[derive(Debug, Error)]
pub enum VisionError {
    /// The runtime or the model file is missing or wrong.
    #[error("{model}: {reason}")]
    Model {
        /// Name in the manifest.
        model: String,
        /// What happened and how to mend it.
        reason: String,
    },
    /// The run failed.
    #[error("{model}: inference failed: {reason}")]
    Inference {
        /// Name in the manifest.
        model: String,
        /// What the runtime said.
        reason: String,
    },
}

/// Why a store could not do what it was asked to.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The value cannot be kept.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// The medium failed; nothing was acknowledged.
    #[error("{doing}: {reason}")]
    Medium {
        /// What the store was doing: "append sightings".
        doing: &'static str,
        /// What the medium said.
        reason: String,
    },
    /// The medium is full; nothing was acknowledged, and the same call may work later.
    #[error("{doing}: the disk is full: free space in the store's folder")]
    Full {
        /// What the store was doing.
        doing: &'static str,
    },
    /// Nobody waits for the answer any more ([`crate::Stop`]).
    #[error("{doing}: nobody waits for the answer any more")]
    Stopped {
        /// What the store was doing.
        doing: &'static str,
    },
    /// Stored bytes are not what was written.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// Which record, picture or file.
        what: String,
        /// How it shows.
        reason: String,
    },
}

/// What [`SightingStore::record`] did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Receipt {
    /// What became of each sighting, in the order given.
    pub kept: Vec<Kept>,
    /// The alerts logged, with their cursors, in the order given.
    pub alerts: Vec<Alert>,
}

/// What became of a sighting that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kept {
    /// There was none of its id.
    New,
    /// It took the place of a provisional form.
    Replaced,
    /// A final one of its id was there already and stays.
    Present,
}

/// Keeps sightings and their evidence. Every implementation passes the same contract suite.
pub trait SightingStore: Send + Sync {
    /// Keeps sightings, their pictures and alerts, all or nothing. Returns when they survive a power cut: one sync a
    /// call, so that many sightings a call cost little more than one.
    ///
    /// The same id again replaces a provisional sighting; a final one never changes (the call succeeds and keeps
    /// the old). An alert that the log already has with the same stage is not logged again and not in the receipt.
    ///
    /// # Errors
    /// When anything could not be kept; then nothing of the call was.
    fn record(&self, batch: &[Recorded]) -> Result<Receipt, StoreError>;

    /// One sighting.
    ///
    /// # Errors
    /// When the medium fails or the record is damaged.
    fn get(&self, id: SightingId) -> Result<Option<Sighting>, StoreError>;

    /// Provisional sightings whose final form never came, ordered by id, at most `limit` of those after an id. They are
    /// few: finding them costs little however much is stored.
    ///
    /// # Errors
    /// When the medium fails or a record is damaged.
    fn unfinished(
        &self,
        after: Option<SightingId>,
        limit: usize,
    ) -> Result<Vec<Sighting>, StoreError>;

    /// A page of sightings, equal to filtering everything by [`SightingQuery::accepts`].
    ///
    /// # Errors
    /// When the medium fails or a record is damaged.
    fn search(&self, query: &SightingQuery) -> Result<SightingPage, StoreError>;

    /// The bytes of a picture, checked against the digest.
    ///
    /// # Errors
    /// When the medium fails or the bytes no longer have this digest.
    fn evidence(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError>;
}

/// What text a sighting that is sought was read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadAs {
    /// As any.
    #[default]
    Any,
    /// As the plate that is sought.
    Sought,
    /// As another: if it is of the plate, that was a misread.
    Another,
}

/// A plate that may have been read wrongly, to be found all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct LikelyQuery {
    /// The plate that is sought.
    pub plate: PlateText,
    /// When it was captured.
    pub span: TimeSpan,
    /// By which cameras; `None` for any.
    pub cameras: Option<Vec<CameraId>>,
    /// Only at these hours of the days.
    pub hours: Option<DailyHours>,
    /// As which text it was read. Of a vehicle that passes often, what was read right leaves no room for what was not.
    pub read_as: ReadAs,
    /// At most this many.
    pub limit: usize,
    /// Ends the search when nobody waits any more.
    pub stop: Stop,
}

impl LikelyQuery {
    /// Whatever any camera saw in a span.
    pub fn all_in(plate: PlateText, span: TimeSpan, limit: usize) -> Self {
        Self {
            plate,
            span,
            cameras: None,
            hours: None,
            read_as: ReadAs::Any,
            limit,
            stop: Stop::default(),
        }
    }

    /// As many answers as a person looks through.
    pub const LIMIT_DEFAULT: usize = 50;
    /// Most places in which the text that was read may differ from the plate; a missing character at the end is a
    /// place as well.
    pub const PLACES_MAX: usize = 2;
    /// The least probability of an answer.
    pub const PROBABILITY_MIN: f32 = 1e-3;

    /// The probability that the sighting is of the plate, given its reads: by its lattice, not by its text. `None`
    /// when it is no answer. Stores may answer by indexes; this is what they must equal.
    pub fn probability(&self, sighting: &Sighting) -> Option<f32> {
        let PlateState::Read(read) = &sighting.plate else { return None };
        // Most that are asked about were read so.
        let so = self.plate == read.text;
        let near = so || Self::places_apart(&self.plate, &read.text) <= Self::PLACES_MAX;
        let read_as_wanted = match self.read_as {
            ReadAs::Any => true,
            ReadAs::Sought => so,
            ReadAs::Another => !so,
        };
        if sighting.stage != SightingStage::Final
            || !self.span.contains(sighting.captured.at)
            || !self.cameras.as_ref().is_none_or(|cameras| cameras.contains(&sighting.camera))
            || !self.hours.is_none_or(|hours| hours.contains(sighting.captured.at))
            || !near
            || !read_as_wanted
        {
            return None;
        }
        let probability = read.lattice.probability(&self.plate);
        (probability >= Self::PROBABILITY_MIN).then_some(probability)
    }

    /// In how many places two texts differ, the places behind their ends included.
    pub fn places_apart(one: &PlateText, other: &PlateText) -> usize {
        let (mut one, mut other) = (one.chars(), other.chars());
        (0..PlateText::CHARS_MAX).filter(|_| one.next() != other.next()).count()
    }
}

/// A sighting that may be of the plate that was sought.
#[derive(Debug, Clone, PartialEq)]
pub struct Likely {
    /// The sighting.
    pub sighting: Sighting,
    /// The probability that it is of the plate, given its reads, 0 to 1.
    pub probability: f32,
    /// Whether another text was read: if it is of the plate, that was a misread.
    pub misread: bool,
}

/// Finds a plate among what may have been read wrongly. Every implementation passes the same contract suite.
pub trait LikelySearch: Send + Sync {
    /// The likeliest sightings of a plate, equal to filtering everything by [`LikelyQuery::probability`]: the most
    /// probable first, of equal ones the latest.
    ///
    /// # Errors
    /// When the medium fails or a record is damaged.
    fn likely(&self, query: &LikelyQuery) -> Result<Vec<Likely>, StoreError>;

    /// How often each of these texts was read, by final sightings in a span and by these cameras (`None` for any).
    /// Counting stops at `most`. No sighting need be read for it where there is an index.
    ///
    /// # Errors
    /// When the medium fails or an index is damaged.
    fn times_read(
        &self,
        plates: &[PlateText],
        span: TimeSpan,
        cameras: Option<&[CameraId]>,
        most: usize,
    ) -> Result<Vec<usize>, StoreError>;
}

/// The one way in for sightings, whether they were seen here or come from elsewhere: matched against the watch-list,
/// kept durably with their alerts, then announced.
pub trait SightingIntake: Send + Sync {
    /// Takes a batch in, all or nothing: as [`SightingStore::record`] does, after working out the alerts that the
    /// sightings raise. Alerts already in `records` are replaced. What was there already is not announced again.
    ///
    /// # Errors
    /// When anything could not be kept; then nothing was kept or announced, and the same call may be made again.
    fn take_in(&self, records: &mut [Recorded]) -> Result<Receipt, StoreError>;

    /// Logs what was done about an alert and announces it: as [`AlertLog::append`] does.
    ///
    /// # Errors
    /// When it could not be kept; then it was not announced.
    fn log_alert(&self, alert: Alert) -> Result<Option<Alert>, StoreError>;
}

/// Keeps the alert log.
pub trait AlertLog: Send + Sync {
    /// Alerts after a cursor in log order, at most `limit`. 0 is the beginning.
    ///
    /// # Errors
    /// When the medium fails.
    fn alerts_after(&self, cursor: u64, limit: usize) -> Result<Vec<Alert>, StoreError>;

    /// The cursor of the last alert, 0 for an empty log.
    ///
    /// # Errors
    /// When the medium fails.
    fn last_cursor(&self) -> Result<u64, StoreError>;

    /// The latest finding ([`AlertStage::is_finding`](crate::AlertStage::is_finding)) of each entry that each of these
    /// sightings rang; of one sighting, in the order of the entries.
    ///
    /// # Errors
    /// When the medium fails.
    fn alerts_of(&self, sightings: &[SightingId]) -> Result<Vec<Alert>, StoreError>;

    /// All stages of an alert, in log order.
    ///
    /// # Errors
    /// When the medium fails.
    fn alert_history(&self, id: &AlertId) -> Result<Vec<Alert>, StoreError>;

    /// Logs a further stage of an alert that is in the log, without a sighting. Durable when it returns; with its cursor.
    /// `None`, and nothing logged, when the log has that stage already or knows nothing of the alert.
    ///
    /// # Errors
    /// When it could not be kept.
    fn append(&self, alert: &Alert) -> Result<Option<Alert>, StoreError>;
}

/// Keeps the watch-list.
pub trait Watchlist: Send + Sync {
    /// Enters or replaces, all or none. Durable when it returns.
    ///
    /// # Errors
    /// When the medium fails or an entry cannot be kept; then none was.
    fn put_entries(&self, entries: &[WatchEntry]) -> Result<(), StoreError>;

    /// Enters or replaces one. Durable when it returns.
    ///
    /// # Errors
    /// When the medium fails or the entry cannot be kept.
    fn put_entry(&self, entry: &WatchEntry) -> Result<(), StoreError> {
        self.put_entries(std::slice::from_ref(entry))
    }

    /// Removes; false when there was none.
    ///
    /// # Errors
    /// When the medium fails.
    fn remove_entry(&self, id: &WatchEntryId) -> Result<bool, StoreError>;

    /// One entry, expired or not.
    ///
    /// # Errors
    /// When the medium fails or the record is damaged.
    fn entry(&self, id: &WatchEntryId) -> Result<Option<WatchEntry>, StoreError>;

    /// Entries after an id, expired ones included, ordered by id, at most `limit`.
    ///
    /// # Errors
    /// When the medium fails or a record is damaged.
    fn entries_after(
        &self,
        after: Option<&WatchEntryId>,
        limit: usize,
    ) -> Result<Vec<WatchEntry>, StoreError>;

    /// All entries, expired ones included, ordered by id.
    ///
    /// # Errors
    /// When the medium fails.
    fn entries(&self) -> Result<Vec<WatchEntry>, StoreError>;
}

/// Keeps the registered cameras.
pub trait CameraRegistry: Send + Sync {
    /// Enters or replaces, all or none. Durable when it returns.
    ///
    /// # Errors
    /// When the medium fails or a camera cannot be kept; then none was.
    fn put_cameras(&self, cameras: &[Camera]) -> Result<(), StoreError>;

    /// Enters or replaces one. Durable when it returns.
    ///
    /// # Errors
    /// When the medium fails or the camera cannot be kept.
    fn put_camera(&self, camera: &Camera) -> Result<(), StoreError> {
        self.put_cameras(std::slice::from_ref(camera))
    }

    /// Removes from the registry; sightings stay. False when there was none.
    ///
    /// # Errors
    /// When the medium fails.
    fn remove_camera(&self, id: &CameraId) -> Result<bool, StoreError>;

    /// All cameras, ordered by id.
    ///
    /// # Errors
    /// When the medium fails.
    fn cameras(&self) -> Result<Vec<Camera>, StoreError>;
}

/// Opens and closes cameras of a running engine.
pub trait CameraControl: Send + Sync {
    /// Registers a camera and begins to open it. Durable when it returns.
    ///
    /// # Errors
    /// When the id is taken or the registry fails.
    fn register(&self, camera: Camera) -> Result<(), ControlError>;

    /// Registers many cameras and begins to open those that are new. Durable when it returns: all that are new, or
    /// none. What became of each, in the order given: one registered alike already is [`Registered::Present`], one
    /// registered differently [`ControlError::Exists`], one too many [`ControlError::TooMany`].
    ///
    /// # Errors
    /// When the registry fails.
    fn register_all(
        &self,
        cameras: Vec<Camera>,
    ) -> Result<Vec<Result<Registered, ControlError>>, StoreError>;

    /// Puts another registration in the place of one. Durable when it returns. The stream is opened anew only when
    /// [`Camera::streams_otherwise`] says so; the other cameras do not notice.
    ///
    /// # Errors
    /// When there is no such camera, it is not registered as `before` has it any more, or the registry fails. Nothing
    /// is changed then.
    fn update(&self, before: &Camera, after: Camera) -> Result<(), ControlError>;

    /// Opens a camera that is registered as closed (`enabled` is false), until the given time; then it closes by itself,
    /// and after a restart it is closed. One that is open so already stays open until the later of both times.
    ///
    /// # Errors
    /// When there is no such camera, it is always open, or too many are open so.
    fn open_until(&self, id: &CameraId, opening: Opening) -> Result<(), ControlError>;

    /// Closes a camera and takes it off the registry.
    ///
    /// # Errors
    /// When there is no such camera or the registry fails.
    fn remove(&self, id: &CameraId) -> Result<(), ControlError>;

    /// All cameras with their health, ordered by id.
    fn list(&self) -> Vec<(Camera, CameraHealth)>;

    /// Where all cameras stand, ordered by id. Asked with every trajectory: what has not changed since the last call
    /// should be the same slice.
    fn places(&self) -> Arc<[(CameraId, GeoPoint)]> {
        self.list().into_iter().map(|(camera, _)| (camera.id, camera.position)).collect()
    }
}

/// What became of a camera that was to be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Registered {
    /// It is registered now.
    New,
    /// It was registered alike already.
    Present,
}

/// Why a camera could not be registered, changed or removed.
#[derive(Debug, Error)]
pub enum ControlError {
    /// There is a camera of that id already.
    #[error("camera {0} is registered already: remove it first, or choose another id")]
    Exists(CameraId),
    /// There is no camera of that id.
    #[error("there is no camera {0}")]
    NotFound(CameraId),
    /// Somebody else changed the camera in the meantime.
    #[error("camera {0} was changed meanwhile: look at it again, then decide")]
    Changed(CameraId),
    /// The camera needs no opening.
    #[error(
        "camera {0} is always open: only closed ones (enabled is false) are opened for a while"
    )]
    AlwaysOpen(CameraId),
    /// No more cameras can be opened for a while.
    #[error(
        "{limit} cameras are open for a while, which is this server's limit: wait until one closes"
    )]
    TooManyOpen {
        /// The limit.
        limit: usize,
    },
    /// No more cameras can be registered.
    #[error(
        "{limit} cameras are registered, which is this server's limit (ingest.cameras_max): raise it, or remove some"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The machine does not let so many cameras be open at the same time; says what it lacks.
    #[error("{0}")]
    NoRoom(String),
    /// The registry failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
