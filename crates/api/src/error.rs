use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use guiji_domain::{ControlError, InvalidValue, StoreError};
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tracing::error;

/// Why the server could not start, or did not end well.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The address is reachable from other machines, and the port is not protected.
    #[error("{address} is reachable from other machines, and there is no {}", lacking.join(" and no "))]
    Exposed {
        /// The address.
        address: SocketAddr,
        /// What would protect it.
        lacking: Vec<&'static str>,
    },
    /// Certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The listener is unusable.
    #[error("listener: {0}")]
    Listener(#[source] std::io::Error),
    /// The descriptors built into the program are damaged.
    #[error("reflection: {0}")]
    Reflection(String),
    /// The transport failed.
    #[error("serving: {0}")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A question that is answered without a server was refused, or its answer failed.
    #[error("{0}")]
    Unanswered(String),
    /// Calls were still open when the time to drain was over; they were cut off.
    #[error("calls were still open {waited:?} after the shutdown signal and were cut off")]
    CutOff {
        /// How long the server waited for them.
        waited: Duration,
    },
}

/// One field of a request that is wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) field: String,
    pub(crate) description: String,
}

/// Why a call was refused or failed: the closed list of kinds.
#[derive(Debug)]
pub(crate) enum Problem {
    /// Fields are wrong.
    Invalid(Vec<Violation>),
    /// A cursor lies beyond the end of the log.
    BeyondEnd { field: &'static str, end: u64 },
    /// There is no such resource.
    NotFound { kind: &'static str, name: String },
    /// The name is taken.
    Exists { kind: &'static str, name: String },
    /// The resource is not any more as the caller last saw it.
    Changed { name: String },
    /// The camera needs no opening.
    AlwaysOpen { name: String },
    /// A limit on what may be registered is reached.
    LimitReached { what: &'static str, limit: usize },
    /// The caller did not show who they are.
    Unauthenticated { reason: &'static str, message: String },
    /// The caller may not do this, or not see that.
    Forbidden { reason: &'static str, message: String },
    /// Too many calls or streams at the same time.
    Busy { what: &'static str },
    /// The answer took longer than the server allows.
    TooLate { doing: &'static str },
    /// The server is stopping.
    Draining,
    /// The transport could not give us the whole request.
    Broken { code: Code, message: String },
    /// The store's disk is full.
    StoreFull { doing: &'static str },
    /// The store failed.
    StoreFailed { doing: &'static str, reason: String },
    /// Stored bytes are not what was written.
    Damaged { what: String, reason: String },
    /// A programming error; it was contained to this call.
    Panicked { doing: &'static str },
}

/// The domain of `google.rpc.ErrorInfo`.
const DOMAIN: &str = "guiji";
/// When to try again while the server is busy or restarts.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Problem {
    /// One wrong field.
    pub(crate) fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), description: description.into() }])
    }

    /// What the transport says of a stream that it cannot go on with: the client has gone, a message is too large.
    pub(crate) fn broken(status: Status) -> Self {
        Self::Broken { code: status.code(), message: status.message().to_owned() }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(invalid) => invalid.into(),
            StoreError::Medium { doing, reason } => Self::StoreFailed { doing, reason },
            StoreError::Full { doing } => Self::StoreFull { doing },
            StoreError::Stopped { doing } => Self::TooLate { doing },
            StoreError::Damaged { what, reason } => Self::Damaged { what, reason },
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Exists(id) => {
                Self::Exists { kind: "guiji.v1.Camera", name: format!("cameras/{id}") }
            }
            ControlError::NotFound(id) => {
                Self::NotFound { kind: "guiji.v1.Camera", name: format!("cameras/{id}") }
            }
            ControlError::Changed(id) => Self::Changed { name: format!("cameras/{id}") },
            ControlError::AlwaysOpen(id) => Self::AlwaysOpen { name: format!("cameras/{id}") },
            ControlError::TooManyOpen { limit } => {
                Self::LimitReached { what: "cameras open for a while", limit }
            }
            ControlError::TooMany { limit } => Self::LimitReached { what: "cameras", limit },
            ControlError::Store(error) => error.into(),
        }
    }
}

impl From<InvalidValue> for Problem {
    /// For values that only a deeper layer could judge; the thing's own name stands for the field.
    fn from(invalid: InvalidValue) -> Self {
        Self::field(invalid.what.replace(' ', "_"), invalid.to_string())
    }
}

/// The one place where kinds become gRPC statuses. Every status carries `google.rpc.ErrorInfo`; what the server's
/// operator must know is logged here, what the client must not know (paths, causes) stays here.
impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let mut details = ErrorDetails::new();
        let (code, reason, message) = match problem {
            Problem::Invalid(violations) => {
                let mut message = String::from("invalid request");
                for (i, Violation { field, description }) in violations.into_iter().enumerate() {
                    message += if i == 0 { ": " } else { "; " };
                    message += &format!("{field}: {description}");
                    details.add_bad_request_violation(field, description);
                }
                (Code::InvalidArgument, "INVALID_FIELD", message)
            }
            Problem::BeyondEnd { field, end } => {
                let fix = format!(
                    "lies beyond the end of the log ({end}), so it came from another log: begin with from_beginning"
                );
                details.add_bad_request_violation(field, fix.clone());
                (Code::OutOfRange, "CURSOR_BEYOND_END", format!("{field}: {fix}"))
            }
            Problem::NotFound { kind, name } => {
                details.set_resource_info(kind, name.clone(), "", "there is no such resource");
                (Code::NotFound, "RESOURCE_NOT_FOUND", format!("there is no {name}"))
            }
            Problem::Exists { kind, name } => {
                details.set_resource_info(kind, name.clone(), "", "the name is taken");
                let message =
                    format!("{name} exists already: delete it first, or choose another id");
                (Code::AlreadyExists, "RESOURCE_EXISTS", message)
            }
            Problem::Changed { name } => {
                let message =
                    format!("{name} was changed meanwhile: get it again, then give its new etag");
                (Code::Aborted, "RESOURCE_CHANGED", message)
            }
            Problem::AlwaysOpen { name } => {
                let message = format!(
                    "{name} is always open: only cameras that are registered with enabled = false are opened for a while"
                );
                (Code::FailedPrecondition, "CAMERA_ALWAYS_OPEN", message)
            }
            Problem::LimitReached { what, limit } => {
                let message = format!("there are {limit} {what}, which is this server's limit");
                details.add_quota_failure_violation(what, message.clone());
                (Code::ResourceExhausted, "LIMIT_REACHED", message)
            }
            Problem::Unauthenticated { reason, message } => {
                (Code::Unauthenticated, reason, message)
            }
            Problem::Forbidden { reason, message } => (Code::PermissionDenied, reason, message),
            Problem::Busy { what } => {
                details.set_retry_info(Some(RETRY_AFTER));
                let message = format!("too many {what} at the same time: try again in a second");
                (Code::ResourceExhausted, "SERVER_BUSY", message)
            }
            Problem::TooLate { doing } => {
                let message = format!("{doing}: took too long: ask for less, or later");
                (Code::DeadlineExceeded, "TOO_LATE", message)
            }
            Problem::Draining => {
                details.set_retry_info(Some(RETRY_AFTER));
                let message = "the server is stopping: connect again".to_owned();
                (Code::Unavailable, "SERVER_STOPPING", message)
            }
            Problem::Broken { code, message } => (code, "REQUEST_BROKEN", message),
            Problem::StoreFull { doing } => {
                error!(doing, "the store's disk is full");
                let message =
                    format!("{doing}: the store's disk is full: its operator must free space");
                (Code::ResourceExhausted, "STORE_FULL", message)
            }
            Problem::StoreFailed { doing, reason } => {
                error!(doing, reason, "the store failed");
                let message = format!("{doing}: the store failed: the server's log says why");
                (Code::Internal, "STORE_FAILED", message)
            }
            Problem::Damaged { what, reason } => {
                error!(what, reason, "stored data is damaged");
                let message = format!("{what} is damaged: the server's log says how");
                (Code::DataLoss, "STORE_DAMAGED", message)
            }
            Problem::Panicked { doing } => {
                let message = format!("{doing}: a programming error: the server's log has it");
                (Code::Internal, "PANICKED", message)
            }
        };
        details.set_error_info(reason, DOMAIN, HashMap::new());
        Status::with_error_details(code, message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_code_reason_and_details() {
        let name = || "cameras/k1".to_owned();
        let kind = "guiji.v1.Camera";
        for (problem, code, reason) in [
            (Problem::field("a", "b"), Code::InvalidArgument, "INVALID_FIELD"),
            (
                Problem::BeyondEnd { field: "after_cursor", end: 3 },
                Code::OutOfRange,
                "CURSOR_BEYOND_END",
            ),
            (Problem::NotFound { kind, name: name() }, Code::NotFound, "RESOURCE_NOT_FOUND"),
            (Problem::Exists { kind, name: name() }, Code::AlreadyExists, "RESOURCE_EXISTS"),
            (Problem::Changed { name: name() }, Code::Aborted, "RESOURCE_CHANGED"),
            (Problem::AlwaysOpen { name: name() }, Code::FailedPrecondition, "CAMERA_ALWAYS_OPEN"),
            (
                Problem::LimitReached { what: "cameras", limit: 3 },
                Code::ResourceExhausted,
                "LIMIT_REACHED",
            ),
            (
                Problem::Unauthenticated { reason: "TOKEN_MISSING", message: "x".into() },
                Code::Unauthenticated,
                "TOKEN_MISSING",
            ),
            (
                Problem::Forbidden { reason: "ROLE_FORBIDS", message: "x".into() },
                Code::PermissionDenied,
                "ROLE_FORBIDS",
            ),
            (Problem::Busy { what: "calls" }, Code::ResourceExhausted, "SERVER_BUSY"),
            (Problem::TooLate { doing: "x" }, Code::DeadlineExceeded, "TOO_LATE"),
            (Problem::Draining, Code::Unavailable, "SERVER_STOPPING"),
            (
                Problem::broken(Status::out_of_range("too large")),
                Code::OutOfRange,
                "REQUEST_BROKEN",
            ),
            (Problem::StoreFull { doing: "x" }, Code::ResourceExhausted, "STORE_FULL"),
            (
                Problem::StoreFailed { doing: "x", reason: "/secret/path".into() },
                Code::Internal,
                "STORE_FAILED",
            ),
            (
                Problem::Damaged { what: "x".into(), reason: "/secret/path".into() },
                Code::DataLoss,
                "STORE_DAMAGED",
            ),
            (Problem::Panicked { doing: "x" }, Code::Internal, "PANICKED"),
        ] {
            let shown = format!("{problem:?}");
            let status = Status::from(problem);
            let details = status.get_error_details();
            assert_eq!(status.code(), code, "{shown}");
            let info = details.error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "guiji"), "{shown}");
            assert!(!status.message().contains("/secret"), "{shown}");
            let retry = matches!(reason, "SERVER_BUSY" | "SERVER_STOPPING");
            assert_eq!(details.retry_info().is_some(), retry, "{shown}");
        }
    }
}
