use crate::vehicle::words;
use crate::{PlateText, StoreError, Timestamp};

/// A tactic over many people's vehicles, which somebody may ask only by a supervisor's leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PatternTactic {
    /// Who came in after a long absence.
    FirstEntry,
    /// Who moves by night and rests by day.
    NightActive,
    /// Who passes a place again and again.
    Frequent,
}
words!(
    PatternTactic, "tactic",
    FirstEntry => "first_entry", NightActive => "night_active", Frequent => "frequent",
);

/// A supervisor's leave for somebody else: to see data older than what everybody may see, or to ask a tactic over many
/// people's vehicles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its number; 0 before it is given.
    pub number: u64,
    /// Who may look.
    pub officer: String,
    /// The case that their calls must name.
    pub case_number: String,
    /// Only for this plate; `None` for any.
    pub plate: Option<PlateText>,
    /// The tactic that may be asked; `None` for a release of old data. One is never the other.
    pub tactic: Option<PatternTactic>,
    /// Why.
    pub reason: String,
    /// Who gave it.
    pub granted_by: String,
    /// When it was given.
    pub granted: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

impl Release {
    /// Whether it counts for a call of this officer in this case at this time, apart from what it is a release of.
    pub fn covers(&self, officer: &str, case_number: &str, now: Timestamp) -> bool {
        self.officer == officer && self.case_number == case_number && now < self.expires
    }
}

/// Keeps releases.
pub trait ReleaseBook: Send + Sync {
    /// Enters a release under the next number, which is the answer. Durable when it returns.
    ///
    /// # Errors
    /// When the medium fails, or there are too many that have not ended.
    fn grant(&self, release: Release) -> Result<u64, StoreError>;

    /// Ends a release; false when there is none of the number. Durable when it returns.
    ///
    /// # Errors
    /// When the medium fails.
    fn revoke(&self, number: u64) -> Result<bool, StoreError>;

    /// Those that have not ended at this time, in the order of their numbers. From memory: does not block.
    fn releases(&self, now: Timestamp) -> Vec<Release>;
}
