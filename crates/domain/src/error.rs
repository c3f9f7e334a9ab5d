use thiserror::Error;

/// A value that cannot be what its type promises.
///
/// The message names the thing, shows the value and says how to mend it, so that it can be shown to a user as it
/// is, whichever edge (file, command line, gRPC) it came in by.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} {value:?}: {fix}")]
pub struct InvalidValue {
    /// What was being made, in the words of the user: `plate`, `camera id`, `latitude`.
    pub what: &'static str,
    /// The offending value, cut to 64 characters. Never a secret.
    pub value: String,
    /// What would be right.
    pub fix: String,
}

impl InvalidValue {
    /// Makes the error, cutting an over-long value.
    pub fn new(what: &'static str, value: impl ToString, fix: impl Into<String>) -> Self {
        let mut value = value.to_string();
        if value.chars().count() > 64 {
            value = value.chars().take(63).chain(['…']).collect();
        }
        Self { what, value, fix: fix.into() }
    }
}
