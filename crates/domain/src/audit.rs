use crate::{StoreError, Timestamp};

/// What the audit keeps of one data call: who asked what, by what right, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditEntry {
    /// When the call was answered, by the server's clock.
    pub at: Timestamp,
    /// Which call: `TrajectoryService/GetTrajectory`.
    pub method: String,
    /// Who asked: the user of the token, or whom the request named where the server asks for no tokens.
    pub officer: String,
    /// The role of the token, empty without one.
    pub role: String,
    /// Whom the request named as the officer, where the token named another; empty otherwise.
    pub on_behalf_of: String,
    /// Why.
    pub purpose: String,
    /// The case.
    pub case_number: String,
    /// What was asked, in words.
    pub question: String,
    /// The plates and patterns that it is about.
    pub plates: Vec<String>,
    /// The request as it came, as JSON, without its authority and without passwords; empty where it came in parts, and in
    /// the second record of a stream.
    pub request: String,
    /// How many results the answer had.
    pub results: u64,
    /// `Ok`, `Opened` for the beginning of a stream, `Cancelled`, or the code of the error.
    pub outcome: String,
    /// How long the call took, milliseconds.
    pub took_ms: u64,
}

/// Hears the number of the entry's record when it is durable, or that it never will be.
pub type AuditDone = Box<dyn FnOnce(Result<u64, StoreError>) + Send>;

/// Where the audit is kept, append-only. Real: a chain of hashes in files. Scripted: tests.
pub trait AuditLog: Send + Sync {
    /// Takes an entry and returns at once; `done` hears when it is durable, or that it never will be. When too many
    /// entries wait, `done` hears [`StoreError::Full`] before this returns.
    fn submit(&self, entry: AuditEntry, done: AuditDone);
}
