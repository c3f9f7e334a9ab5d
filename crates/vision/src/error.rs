use std::path::PathBuf;

use thiserror::Error;

/// Why vision could not be set up, or a picture file could not be read. Each message says how to mend it.
#[derive(Debug, Error)]
pub enum VisionLoadError {
    /// The manifest cannot be read or says something that makes no sense.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong, with line where known.
        reason: String,
    },
    /// A file that the manifest names is not there.
    #[error("{what}: {} is missing: {fix}", path.display())]
    Missing {
        /// Id in the manifest.
        what: String,
        /// Where it should be.
        path: PathBuf,
        /// What brings it there.
        fix: &'static str,
    },
    /// A file is there, but cannot be read.
    #[error("{what}: {} cannot be read: {reason}: check the file's permissions", path.display())]
    Unreadable {
        /// Id in the manifest.
        what: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file is not the one that the manifest pins.
    #[error("{what}: {} has the wrong digest: expected sha256 {expected}, found {found}: {fix}", path.display())]
    WrongDigest {
        /// Id in the manifest.
        what: String,
        /// The file.
        path: PathBuf,
        /// Pinned digest, hexadecimal.
        expected: String,
        /// Digest of the file, hexadecimal.
        found: String,
        /// What to do.
        fix: &'static str,
    },
    /// ONNX Runtime's library cannot be loaded.
    #[error("ONNX Runtime: {reason}")]
    Runtime {
        /// What happened and how to mend it.
        reason: String,
    },
    /// A model file is the pinned one, but cannot be used as the manifest describes it.
    #[error("model {model}: {reason}")]
    Model {
        /// Id in the manifest.
        model: String,
        /// What does not fit.
        reason: String,
    },
    /// A setting is out of range.
    #[error("{setting} = {value}: {fix}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        fix: &'static str,
    },
    /// A picture file cannot be read.
    #[error("{}: {reason}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
