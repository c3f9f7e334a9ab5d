//! What is found in a clip when every picture of it is analysed, however long that takes; and what decoding alone costs.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::clips::Clip;
use super::matching::{Outcome, Seen, outcomes};

/// What `guiji eval clip --json` prints, as far as it matters here.
#[derive(Deserialize)]
struct Report {
    sightings: Vec<Sighting>,
}

#[derive(Deserialize)]
struct Sighting {
    from_s: f64,
    to_s: f64,
    plate: Option<String>,
}

/// What `full` finds of a clip's passages, offline. The answer is kept in `folder` under the digest of the clip's name,
/// size and age and of the models.
pub(super) fn full(clip: &Clip, folder: &Path) -> Result<Vec<Outcome>> {
    let kept = folder.join(format!("full-{:016x}.json", key(&clip.file)?));
    let text = match fs::read(&kept) {
        Ok(text) => text,
        Err(_) => {
            eprintln!("analysing every picture of {} (once)", clip.file.display());
            let program = std::env::current_exe().context("find this program")?;
            let output = Command::new(program)
                .args(["eval", "clip", "--json"])
                .arg(&clip.file)
                .output()
                .context("run guiji eval clip")?;
            if !output.status.success() {
                bail!("guiji eval clip failed: {}", String::from_utf8_lossy(&output.stderr));
            }
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
            fs::write(&kept, &output.stdout)
                .with_context(|| format!("write {}", kept.display()))?;
            output.stdout
        }
    };
    let report: Report = serde_json::from_slice(&text)
        .with_context(|| format!("understand {}: delete it to make it anew", kept.display()))?;
    let seen: Vec<_> = report
        .sightings
        .into_iter()
        .map(|s| Seen { from_ms: s.from_s * 1e3, to_ms: s.to_s * 1e3, plate: s.plate })
        .collect();
    Ok(outcomes(&clip.passages, &seen))
}

fn key(clip: &Path) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    let models = fs::read_dir("models").into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<_> = models.filter(|path| path.is_file()).collect();
    files.sort();
    files.push(clip.to_owned());
    for file in files {
        let about = fs::metadata(&file).with_context(|| format!("read {}", file.display()))?;
        (&file, about.len(), about.modified().ok()).hash(&mut hasher);
    }
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    Ok(hasher.finish())
}

/// Seconds of CPU that decoding one picture costs, by its sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub(super) struct DecodeCost {
    /// A picture of either sort, as often as the clips have them.
    pub(super) frame_s: f64,
    pub(super) key_s: f64,
    pub(super) delta_s: f64,
}

/// What decoding costs in one thread on `core`, as the mean over clips.
pub(super) fn decode_cost(scene_tool: &Path, clips: &[Clip], core: usize) -> Result<DecodeCost> {
    #[derive(Deserialize)]
    struct Line {
        cost: DecodeCost,
    }
    let output = Command::new("taskset")
        .args(["-c", &core.to_string()])
        .arg(scene_tool)
        .arg("decode")
        .args(clips.iter().map(|clip| &clip.file))
        .output()
        .context("run guiji-scenes decode with taskset (package util-linux)")?;
    if !output.status.success() {
        bail!("guiji-scenes decode failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let costs = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| {
            let line: Line =
                serde_json::from_str(line).context("understand guiji-scenes decode")?;
            Ok(line.cost)
        })
        .collect::<Result<Vec<_>>>()?;
    let mean = |get: fn(&DecodeCost) -> f64| {
        costs.iter().map(get).sum::<f64>() / costs.len().max(1) as f64
    };
    Ok(DecodeCost {
        frame_s: mean(|it| it.frame_s),
        key_s: mean(|it| it.key_s),
        delta_s: mean(|it| it.delta_s),
    })
}
