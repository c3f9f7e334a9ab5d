use crate::{InvalidValue, PlateText, SightingId, StoreError, TimeSpan, Timestamp};

/// What a person says that a plate is. The sighting stays as it was read; both are shown, and both are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The sighting.
    pub sighting: SightingId,
    /// What the plate is.
    pub plate: PlateText,
    /// When it was said.
    pub at: Timestamp,
    /// Who said it.
    pub officer: String,
    /// In which case.
    pub case_number: String,
    /// How they know: "read from the frame".
    pub reason: String,
}

impl Correction {
    /// Longest reason, officer and case number, characters.
    pub const TEXT_CHARS_MAX: usize = 200;

    /// # Errors
    /// When a text is blank, too long or has control characters.
    pub fn checked(self) -> Result<Self, InvalidValue> {
        let texts = [
            ("officer", &self.officer),
            ("case number", &self.case_number),
            ("reason", &self.reason),
        ];
        for (what, text) in texts {
            let fits = !text.trim().is_empty()
                && text.chars().count() <= Self::TEXT_CHARS_MAX
                && !text.chars().any(char::is_control);
            if !fits {
                let fix = "is required: 1 to 200 printable characters";
                return Err(InvalidValue::new(what, text, fix));
            }
        }
        Ok(self)
    }
}

/// Keeps corrections for as long as their sightings. Every implementation passes the same contract suite.
pub trait CorrectionStore: Send + Sync {
    /// Adds a correction. Durable when it returns. Nothing replaces anything: the latest of a sighting counts, the
    /// earlier ones stay beside it. False when the very same (time apart) is the sighting's latest already.
    ///
    /// # Errors
    /// When the medium fails or a text cannot be kept.
    fn correct(&self, correction: &Correction) -> Result<bool, StoreError>;

    /// All corrections of these sightings, by sighting, then in the order in which they were made.
    ///
    /// # Errors
    /// When the medium fails or a record is damaged.
    fn corrections_of(&self, sightings: &[SightingId]) -> Result<Vec<Correction>, StoreError>;

    /// All corrections of sightings that began within a span, likewise.
    ///
    /// # Errors
    /// When the medium fails or a record is damaged.
    fn corrections_in(&self, began: TimeSpan) -> Result<Vec<Correction>, StoreError>;
}
