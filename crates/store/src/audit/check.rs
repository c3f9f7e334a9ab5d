//! What of an audit's files [`super::verify_audit`] does not see, since it may be reading while others write.

use std::fs;
use std::path::{Path, PathBuf};

use guiji_domain::StoreError;

use super::checkpoint::Checkpoint;
use super::format::{Link, Payload};
use super::key::{SigningKey, hex};
use super::log::payload_files;
use crate::errors::{damaged, io_at};

/// Whether a text is a line of a file.
type IsLine<'a> = &'a dyn Fn(&str) -> bool;

/// The files of an audit whose last line is whole but for its end. A crash leaves a line unfinished, but writes no
/// other end: it was changed, and the next start would cut a record off that was acknowledged.
pub(crate) fn cut_ends(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let is_link = |line: &str| Link::parse(line).is_some();
    let is_payload = |line: &str| serde_json::from_str::<Payload>(line).is_ok();
    let is_checkpoint = |line: &str| serde_json::from_str::<Checkpoint>(line).is_ok();
    let mut files: Vec<(PathBuf, IsLine<'_>)> =
        vec![(dir.join("chain"), &is_link), (dir.join("checkpoints.jsonl"), &is_checkpoint)];
    files.extend(payload_files(dir)?.into_iter().map(|path| (path, &is_payload as _)));
    let mut cut = Vec::new();
    for (path, is_line) in files.into_iter().filter(|(path, _)| path.is_file()) {
        let bytes = fs::read(&path).map_err(io_at("read the audit", &path))?;
        if ends_changed(&bytes, is_line) {
            cut.push(path);
        }
    }
    Ok(cut)
}

/// Whether what follows the last line's end is a line with one byte after it.
pub(crate) fn ends_changed(bytes: &[u8], is_line: impl Fn(&str) -> bool) -> bool {
    let begin = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let Some((_, line)) = bytes.get(begin..).and_then(<[u8]>::split_last) else { return false };
    std::str::from_utf8(line).is_ok_and(is_line)
}

/// Whether the key is the one that signed the last checkpoint.
pub(crate) fn check_key(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join("key");
    if !path.is_file() {
        return Ok(());
    }
    let key = hex(&SigningKey::load_or_make(&path)?.public());
    let checkpoints = dir.join("checkpoints.jsonl");
    let Ok(text) = fs::read_to_string(&checkpoints) else { return Ok(()) };
    let last = text.lines().last().and_then(|line| serde_json::from_str::<Checkpoint>(line).ok());
    match last {
        Some(last) if last.key != key => {
            Err(damaged(path.display(), "it is not the key that signed the last checkpoint"))
        }
        _ => Ok(()),
    }
}
