use crate::vehicle::words;
use crate::{
    AlertId, CameraId, CaptureTime, InvalidValue, Lattice, PlatePattern, PlateText, SightingId,
    Timestamp, WatchEntryId,
};

/// A plate or pattern to be watched for (布控), by whose right, and until when.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchEntry {
    /// Unique name.
    pub id: WatchEntryId,
    /// What rings.
    pub target: WatchTarget,
    /// The case it belongs to.
    pub case_number: String,
    /// Why it is watched for.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// When it was entered.
    pub created: Timestamp,
    /// When it ends. There is no entry without an end.
    pub expires: Timestamp,
    /// Rings when the probability of a match is at least this, above 0 and at most 1.
    pub threshold: f32,
    /// Only at these cameras; empty means everywhere.
    pub cameras: Vec<CameraId>,
}

impl WatchEntry {
    /// The threshold where none is asked for: more likely than not.
    pub const THRESHOLD_DEFAULT: f32 = 0.5;
    /// Longest life of an entry.
    pub const DAYS_MAX: i64 = 366;

    /// # Errors
    /// When a required text is blank or over-long, the end is not after the beginning or too far away, or the
    /// threshold is out of range.
    pub fn checked(self) -> Result<Self, InvalidValue> {
        for (what, text) in
            [("case number", &self.case_number), ("reason", &self.reason), ("owner", &self.owner)]
        {
            if text.trim().is_empty()
                || text.chars().count() > 200
                || text.chars().any(char::is_control)
            {
                return Err(InvalidValue::new(
                    what,
                    text,
                    "is required: 1 to 200 printable characters",
                ));
            }
        }
        if self.expires <= self.created {
            return Err(InvalidValue::new(
                "expiry",
                self.expires,
                "lies before the entry's creation: give a later time",
            ));
        }
        if self.expires.since(self.created).as_secs() > Self::DAYS_MAX as u64 * 86_400 {
            return Err(InvalidValue::new(
                "expiry",
                self.expires,
                "an entry lives at most 366 days: renew it later",
            ));
        }
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            return Err(InvalidValue::new(
                "threshold",
                self.threshold,
                "a probability above 0 and at most 1",
            ));
        }
        if let WatchTarget::Plate(plate) = &self.target
            && plate.kinds().is_empty()
        {
            return Err(InvalidValue::new(
                "plate",
                plate,
                "fits no kind of plate: check it, or watch a pattern with ?",
            ));
        }
        Ok(self)
    }

    /// Whether it is in force at that time and camera.
    pub fn applies(&self, camera: &CameraId, at: Timestamp) -> bool {
        self.created <= at
            && at < self.expires
            && (self.cameras.is_empty() || self.cameras.contains(camera))
    }
}

/// What a watch-list entry waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WatchTarget {
    /// One plate.
    Plate(PlateText),
    /// Every plate that matches.
    Pattern(PlatePattern),
}

impl WatchTarget {
    /// The probability that the plate behind the lattice is meant.
    pub fn probability(&self, lattice: &Lattice) -> f32 {
        match self {
            Self::Plate(text) => lattice.probability(text),
            Self::Pattern(pattern) => pattern.probability(lattice),
        }
    }
}

impl std::fmt::Display for WatchTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plate(plate) => plate.fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// A sighting that matches a watch-list entry.
///
/// The log is append-only: a provisional alert is followed by a confirmed or withdrawn one with the same id and a
/// later cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Which sighting rang which entry.
    pub id: AlertId,
    /// Place in the alert log, rising from 1. 0 until the store has given it.
    pub cursor: u64,
    /// Provisional, confirmed or withdrawn.
    pub stage: AlertStage,
    /// When it was raised.
    pub raised: Timestamp,
    /// The camera.
    pub camera: CameraId,
    /// Capture time of the sighting.
    pub captured: CaptureTime,
    /// The plate as read, kept beside what was asked for.
    pub read: PlateText,
    /// What the entry watches for, as it stood then.
    pub target: WatchTarget,
    /// The case, as it stood then.
    pub case_number: String,
    /// The probability that the sighting is truly meant.
    pub probability: f32,
}

impl Alert {
    /// The sighting that rang.
    pub fn sighting(&self) -> SightingId {
        self.id.sighting
    }
}

/// How sure an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertStage {
    /// From a provisional sighting: the vehicle is still in view.
    Provisional,
    /// The final sighting matches.
    Confirmed,
    /// The final sighting does not match after all.
    Withdrawn,
}
words!(
    AlertStage, "alert stage",
    Provisional => "provisional", Confirmed => "confirmed", Withdrawn => "withdrawn",
);
