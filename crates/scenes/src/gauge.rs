//! What pure decoding of a clip costs, and how its bits lie.

use std::path::Path;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use serde::Serialize;

use crate::SceneError;
use crate::encode::Codec;
use crate::reader::{Unit, UnitReader};
use crate::truth::ClipTruth;

/// What decoding a clip's pictures costs, in one thread, and nothing else: seconds of CPU a picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DecodeCost {
    /// Pictures decoded, of both sorts.
    pub frames: u64,
    /// Of both sorts together, as the clip has them.
    pub frame_s: f64,
    /// Of a keyframe. They cost two to three times as much, so whoever decodes mostly keyframes must know it apart.
    pub key_s: f64,
    /// Of another picture.
    pub delta_s: f64,
}

/// Most keyframes decoded by themselves.
const KEYS_MAX: usize = 25;

/// Decodes the beginning of a clip in one thread, then keyframes alone, and throws the pictures away.
///
/// # Errors
/// When the clip cannot be decoded.
pub fn decode_cost(file: &Path, frames_max: usize) -> Result<DecodeCost, SceneError> {
    let mut reader = UnitReader::open(file)?;
    let (mut all, mut keys) = (Vec::new(), Vec::new());
    while all.len() < frames_max || keys.len() < KEYS_MAX {
        let Some(unit) = reader.next()? else { break };
        if unit.is_key && keys.len() < KEYS_MAX {
            keys.push(unit.clone());
        }
        if all.len() < frames_max {
            all.push(unit);
        }
    }
    let codec = reader.codec;
    drop(reader);
    let key_s = decode(file, codec, &keys)? / keys.len().max(1) as f64;
    let all_s = decode(file, codec, &all)?;
    let keys_in_all = all.iter().filter(|unit| unit.is_key).count();
    let deltas = all.len() - keys_in_all;
    let delta_s = match deltas {
        0 => key_s,
        _ => (all_s - keys_in_all as f64 * key_s).max(0.0) / deltas as f64,
    };
    let frame_s = all_s / all.len().max(1) as f64;
    Ok(DecodeCost { frames: (all.len() + keys.len()) as u64, frame_s, key_s, delta_s })
}

/// CPU time of this process while the units are decoded.
fn decode(file: &Path, codec: Codec, units: &[Unit]) -> Result<f64, SceneError> {
    let name = file.display().to_string();
    let kind = codec.as_str();
    let description = format!(
        "appsrc name=source format=time max-bytes=0 \
         caps=video/x-{kind},stream-format=byte-stream,alignment=au ! avdec_{kind} max-threads=1 \
         ! fakesink name=sink sync=false enable-last-sample=false"
    );
    let pipeline = gst::parse::launch(&description)
        .map_err(SceneError::media(&*name))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| SceneError::media(&*name)("no pipeline"))?;
    let source = pipeline
        .by_name("source")
        .and_downcast::<gst_app::AppSrc>()
        .ok_or_else(|| SceneError::media(&*name)("no source"))?;
    let begun = cpu_s();
    pipeline.set_state(gst::State::Playing).map_err(SceneError::media(&*name))?;
    for unit in units {
        source.push_buffer(unit.buffer.copy()).map_err(SceneError::media(&*name))?;
    }
    source.end_of_stream().map_err(SceneError::media(&*name))?;
    let end = pipeline.bus().and_then(|bus| {
        bus.timed_pop_filtered(
            gst::ClockTime::from_seconds(300),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        )
    });
    let cpu_s = cpu_s() - begun;
    let rendered = pipeline.by_name("sink").map(|sink| sink.property::<gst::Structure>("stats"));
    pipeline.set_state(gst::State::Null).map_err(SceneError::media(&*name))?;
    match end.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => {}
        Some(gst::MessageView::Error(e)) => return Err(SceneError::media(&*name)(e.error())),
        _ => return Err(SceneError::media(&*name)("was not decoded within 300 s")),
    }
    if rendered.and_then(|stats| stats.get::<u64>("rendered").ok()).unwrap_or(0) == 0 {
        return Err(SceneError::media(&*name)("gave no picture"));
    }
    Ok(cpu_s)
}

fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// How a clip's bits lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BitShares {
    /// Mean rate, 1000 bits a second.
    pub kbit_s: f64,
    /// Bits of the delta units of a group of pictures without a vehicle, over those of a whole group with one, keyframe
    /// included; means of both. Where every group has a vehicle, as many of their idle delta units as such a group would
    /// have. `None` when no vehicle comes, or one is always in view.
    pub idle_delta_share: Option<f64>,
}

/// A unit as it counts here.
#[derive(Debug, Clone, Copy)]
struct Weight {
    bytes: usize,
    is_key: bool,
    is_busy: bool,
}

/// Weighs a composed clip's units.
///
/// # Errors
/// When the clip cannot be read.
pub fn bit_shares(file: &Path, truth: &ClipTruth) -> Result<BitShares, SceneError> {
    let busy: std::collections::HashSet<u64> =
        truth.passages.iter().flat_map(|p| p.track.iter().map(|f| f.pts_ms)).collect();
    let mut reader = UnitReader::open(file)?;
    let mut weights = Vec::new();
    while let Some(unit) = reader.next()? {
        let frame = (unit.pts.nseconds() as f64 * truth.fps / 1e9).round();
        weights.push(Weight {
            bytes: unit.buffer.size(),
            is_key: unit.is_key,
            is_busy: busy.contains(&((frame * 1000.0 / truth.fps).round() as u64)),
        });
    }
    let bytes: usize = weights.iter().map(|w| w.bytes).sum();
    let seconds = weights.len().max(1) as f64 / truth.fps;
    Ok(BitShares {
        kbit_s: bytes as f64 * 8.0 / 1000.0 / seconds,
        idle_delta_share: idle_delta_share(&weights),
    })
}

fn idle_delta_share(weights: &[Weight]) -> Option<f64> {
    let (mut idle, mut busy, mut idle_units) = (Vec::new(), Vec::new(), Vec::new());
    let groups: Vec<_> = weights.chunk_by(|_, next| !next.is_key).collect();
    // The last group may be cut short.
    for group in groups.get(..groups.len().saturating_sub(1))? {
        let all: usize = group.iter().map(|w| w.bytes).sum();
        if group.iter().any(|w| w.is_busy) {
            busy.push(all);
            idle_units.extend(group.iter().filter(|w| !w.is_key && !w.is_busy).map(|w| w.bytes));
        } else {
            idle.push(group.iter().filter(|w| !w.is_key).map(|w| w.bytes).sum());
        }
    }
    let mean = |sums: &[usize]| {
        let total: usize = sums.iter().sum();
        (total > 0).then(|| total as f64 / sums.len() as f64)
    };
    // Where vehicles come so often that no group is without, as many idle units as such a group would have.
    let idle = mean(&idle)
        .or_else(|| Some(mean(&idle_units)? * (weights.len() as f64 / groups.len() as f64 - 1.0)));
    Some(idle? / mean(&busy)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_deltas_are_weighed_against_whole_busy_groups() {
        let group = |key: usize, delta: usize, is_busy: bool| {
            [(key, true), (delta, false), (delta, false)].map(|(bytes, is_key)| Weight {
                bytes,
                is_key,
                is_busy: is_busy && !is_key,
            })
        };
        let clip: Vec<_> = [
            group(100, 30, false),
            group(100, 50, true),
            group(100, 20, false),
            // Cut short: not counted.
            group(9999, 9999, true),
        ]
        .concat();
        // Idle deltas: (60 + 40) / 2; busy group: 200.
        assert_eq!(idle_delta_share(&clip), Some(0.25));
        // Only a busy group, one of whose deltas is idle: two such are 100 of 200.
        let mut alone = [group(100, 50, true), group(9999, 9999, true)].concat();
        alone[1].is_busy = false;
        assert_eq!(idle_delta_share(&alone), Some(0.5));
        assert_eq!(idle_delta_share(&clip[3..6]), None);
        assert_eq!(idle_delta_share(&[]), None);
    }
}
