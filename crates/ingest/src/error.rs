use guiji_domain::InvalidValue;
use thiserror::Error;

use crate::MissingElement;

/// Why no camera can be opened at all. Trouble of a single camera is a status, never an error.
#[derive(Debug, Error)]
pub enum IngestError {
    /// GStreamer does not start.
    #[error("GStreamer does not start: {0}")]
    Init(String),
    /// GStreamer is older than 1.22, which first gives capture times from RTCP.
    #[error("GStreamer {found} is too old: install 1.22 or newer")]
    TooOld {
        /// The version found.
        found: String,
    },
    /// Parts of GStreamer that every camera needs are not installed.
    #[error("GStreamer lacks {}", list(.0))]
    Missing(Vec<MissingElement>),
    /// So many sessions need more open files than this process may have.
    #[error(
        "{sessions} cameras need {needed} open files, and the hard limit is {limit}: raise it, \
         with LimitNOFILE={needed} in the systemd unit or `ulimit -Hn {needed}`"
    )]
    TooFewFiles {
        /// Sessions asked for.
        sessions: usize,
        /// Open files that they need, with everything else.
        needed: u64,
        /// The hard limit of the process.
        limit: u64,
    },
    /// Threads or sockets cannot be had.
    #[error("no threads for the cameras: {0}")]
    Threads(std::io::Error),
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] InvalidValue),
}

fn list(missing: &[MissingElement]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
