//! How the media's errors become the domain's.

use std::io;
use std::path::Path;

use guiji_domain::StoreError;
use rusqlite::ErrorCode;

/// For `map_err`: what SQLite said while `doing`.
pub(crate) fn sql(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| match error.sqlite_error_code() {
        // What stands there is not of the kind that was written.
        None if is_another_kind(&error) => {
            StoreError::Damaged { what: doing.to_owned(), reason: error.to_string() }
        }
        Some(ErrorCode::DiskFull) => StoreError::Full { doing },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged { what: doing.to_owned(), reason: error.to_string() }
        }
        _ => StoreError::Medium { doing, reason: error.to_string() },
    }
}

fn is_another_kind(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
    };
    matches!(
        error,
        FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | Utf8Error(..)
    )
}

/// For `map_err`: what SQLite said of a file while `doing`; damage names the file.
pub(crate) fn sql_at<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl Fn(rusqlite::Error) -> StoreError + 'a {
    move |error| match sql(doing)(error) {
        StoreError::Damaged { reason, .. } => {
            StoreError::Damaged { what: path.display().to_string(), reason }
        }
        StoreError::Medium { doing, reason } => {
            StoreError::Medium { doing, reason: format!("{}: {reason}", path.display()) }
        }
        other => other,
    }
}

/// For `map_err`: what the system said of a file while `doing`.
pub(crate) fn io_at<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> StoreError + 'a {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { doing },
        _ => StoreError::Medium { doing, reason: format!("{}: {error}", path.display()) },
    }
}

/// Bytes that are not what was written.
pub(crate) fn damaged(what: impl ToString, reason: impl ToString) -> StoreError {
    StoreError::Damaged { what: what.to_string(), reason: reason.to_string() }
}
