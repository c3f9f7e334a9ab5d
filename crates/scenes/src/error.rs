use std::path::PathBuf;

use guiji_domain::InvalidValue;
use thiserror::Error;

/// What can go wrong while scenes are made or served.
#[derive(Debug, Error)]
pub enum SceneError {
    /// A file or folder could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A picture could not be decoded or encoded.
    #[error("picture {}: {source}", path.display())]
    Picture {
        /// The picture's file.
        path: PathBuf,
        /// Why it failed.
        source: image::ImageError,
    },
    /// None of the known fonts is installed.
    #[error("no font for {what}: install one of {wanted}")]
    NoFont {
        /// What it is needed for.
        what: &'static str,
        /// The packages that have one.
        wanted: &'static str,
    },
    /// A font has no such glyph.
    #[error("the font has no glyph for {0:?}")]
    NoGlyph(char),
    /// A value in a story, a list of photographs or a truth file is wrong.
    #[error(transparent)]
    Value(#[from] InvalidValue),
    /// A story cannot be played as written.
    #[error("story {story}: {problem}")]
    Story {
        /// The story's name.
        story: String,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// A text file could not be parsed.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The media framework refused.
    #[error("{clip}: {problem}")]
    Media {
        /// Which clip or server.
        clip: String,
        /// What it said.
        problem: String,
    },
}

impl SceneError {
    pub(crate) fn not_served(folder: &std::path::Path) -> Self {
        let problem =
            "has not been served yet, so its times are not known: serve it first".to_owned();
        Self::Format { path: folder.to_owned(), problem }
    }

    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn picture(path: impl Into<PathBuf>) -> impl FnOnce(image::ImageError) -> Self {
        let path = path.into();
        move |source| Self::Picture { path, source }
    }

    pub(crate) fn media<E: std::fmt::Display>(clip: impl Into<String>) -> impl FnOnce(E) -> Self {
        let clip = clip.into();
        move |error| Self::Media { clip, problem: error.to_string() }
    }
}
