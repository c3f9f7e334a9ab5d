//! The clips of a load, and what passes in them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Slack of a truth without a time of readability: the vehicle may be read as soon as it is seen.
const FORMAT_HINT: &str = "docs/capacity.md says what stands in it";

/// A clip that streams play.
#[derive(Debug, Clone)]
pub(super) struct Clip {
    pub(super) file: PathBuf,
    /// The same in low resolution, where it is there: `x.sub.mp4` beside `x.mp4`.
    pub(super) substream: Option<PathBuf>,
    /// `vbr`, `cbr`, or `own` for the user's.
    pub(super) rate: String,
    pub(super) passages: Vec<Passage>,
}

/// A vehicle that passes, as the truth has it. A composed clip's truth has more; nothing more is needed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Passage {
    /// What stands on its plate.
    pub(super) plate: String,
    /// First picture that shows it, milliseconds of the clip.
    #[serde(alias = "from_ms")]
    pub(super) first_seen_ms: f64,
    /// Last picture that shows it.
    #[serde(alias = "to_ms")]
    pub(super) last_seen_ms: f64,
    /// First picture whose plate is at least 60 px wide and not hidden; without it no time to the alert is measured.
    #[serde(default)]
    pub(super) readable_ms: Option<f64>,
}

#[derive(Deserialize)]
struct Truth {
    passages: Vec<Passage>,
}

/// `capacity.json`, as far as it matters here.
#[derive(Deserialize)]
struct Listed {
    clip: PathBuf,
    truth: PathBuf,
    rate: String,
}

/// The clips that `guiji-scenes capacity` made.
pub(super) fn composed(folder: &Path) -> Result<Vec<Clip>> {
    let list = folder.join("capacity.json");
    let text = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let listed: Vec<Listed> =
        serde_json::from_str(&text).with_context(|| format!("understand {}", list.display()))?;
    listed
        .into_iter()
        .map(|Listed { clip, truth, rate }| load(&folder.join(clip), &folder.join(truth), rate))
        .collect()
}

/// The user's own clip; its truth is beside it: `x.mp4`, `x.json`.
pub(super) fn own(file: &Path) -> Result<Clip> {
    load(file, &file.with_extension("json"), "own".into())
}

fn load(file: &Path, truth: &Path, rate: String) -> Result<Clip> {
    // Beside the name that was given, wherever that leads.
    let beside = |extension: &str| file.with_extension(format!("sub.{extension}"));
    let substream = file.extension().and_then(|it| it.to_str()).map(beside);
    let substream = substream.filter(|it| it.is_file());
    let file =
        fs::canonicalize(file).with_context(|| format!("find the clip {}", file.display()))?;
    let text = fs::read_to_string(truth)
        .with_context(|| format!("read the truth {}: {FORMAT_HINT}", truth.display()))?;
    let Truth { passages } = serde_json::from_str(&text)
        .with_context(|| format!("understand the truth {}: {FORMAT_HINT}", truth.display()))?;
    for passage in &passages {
        if !(0.0..=passage.last_seen_ms).contains(&passage.first_seen_ms) {
            bail!(
                "{}: {} is seen from {} to {} ms: give times of the clip in rising order",
                truth.display(),
                passage.plate,
                passage.first_seen_ms,
                passage.last_seen_ms
            );
        }
    }
    Ok(Clip { file, substream, rate, passages })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_truth_and_a_composed_one_are_both_read() {
        let short = r#"{"passages":[{"plate":"浙A12345","from_ms":100,"to_ms":900}]}"#;
        let Truth { passages } = serde_json::from_str(short).unwrap();
        assert_eq!(passages[0].last_seen_ms, 900.0);
        assert_eq!(passages[0].readable_ms, None);
        let long = r#"{"camera":"c","passages":[{"vehicle":"v1","plate":"浙A12345","lane":1,
            "first_seen_ms":100,"last_seen_ms":900,"readable_ms":140,"track":[]}]}"#;
        let Truth { passages } = serde_json::from_str(long).unwrap();
        assert_eq!(passages[0].readable_ms, Some(140.0));
    }

    #[test]
    fn times_that_run_backwards_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.mp4");
        fs::write(&file, "").unwrap();
        let text = r#"{"passages":[{"plate":"浙A12345","from_ms":900,"to_ms":100}]}"#;
        fs::write(file.with_extension("json"), text).unwrap();
        assert!(format!("{:#}", own(&file).unwrap_err()).contains("rising order"));
    }
}
