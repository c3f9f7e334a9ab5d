//! The clips that capacity is measured with: each a story of one camera, as idle as its line says.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::SceneError;
use crate::compose::{Composer, Progress};
use crate::encode::{Codec, EncoderSpec, Rate};
use crate::gauge::bit_shares;
use crate::random::Random;
use crate::story::{CameraSpec, RouteSpec, Side, StorySpec};
use crate::truth::{ClipTruth, write_json};
use crate::vehicle::VehicleModel;
use crate::view::Light;

const SET: &str = include_str!("../stories/capacity.toml");

/// The file that lists a folder's clips.
const LIST_FILE: &str = "capacity.json";

/// The set of clips as written: TOML, unknown keys fail.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapacitySet {
    seed: u64,
    width: usize,
    height: usize,
    fps: f64,
    /// Bits a second that CBR clips have and VBR clips may have, in thousands.
    kbit_s: u32,
    /// What VBR clips hold where they may.
    quantiser: u32,
    plates: BTreeMap<String, f64>,
    colours: BTreeMap<String, f64>,
    /// The clips.
    #[serde(rename = "clip")]
    pub clips: Vec<CapacityClip>,
}

/// A clip of the set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapacityClip {
    /// Its name.
    pub id: String,
    /// Share of the time in which no vehicle is in view, 0.2 to 0.99.
    pub idle: f64,
    /// How many vehicles pass.
    pub vehicles: usize,
    /// Slowest and fastest.
    pub speed_kmh: [f64; 2],
    /// `vbr` or `cbr`.
    pub rate: RateKind,
    /// Light of the scene.
    pub light: Light,
    /// Where the camera stands.
    pub side: Side,
    /// H.264 or H.265.
    pub codec: Codec,
    /// Frames from keyframe to keyframe.
    pub gop: u32,
    /// B-frames between two others.
    #[serde(default)]
    pub b_frames: u8,
    /// Whether it rains.
    #[serde(default)]
    pub rain: bool,
    /// Whether trees move.
    #[serde(default)]
    pub trees_sway: bool,
    /// How many times the usual noise the sensor has.
    pub noise: f64,
    /// What a VBR clip holds where it may, where that is not the set's: an x265 leaves out noise that x264 keeps.
    pub quantiser: Option<u32>,
}

/// What a camera keeps constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateKind {
    /// Quality, up to a rate.
    Vbr,
    /// The rate.
    Cbr,
}

/// A clip that is ready, as `capacity.json` lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReadyClip {
    /// Its name.
    pub id: String,
    /// The video, relative to the list's folder.
    pub clip: String,
    /// Its truth, relative to the list's folder.
    pub truth: String,
    /// The class it belongs to.
    pub idle: f64,
    /// Share of its frames in which no vehicle is in view.
    pub idle_measured: f64,
    /// `vbr` or `cbr`.
    pub rate: RateKind,
    /// Mean rate, 1000 bits a second.
    pub kbit_s: f64,
    /// See [`crate::BitShares::idle_delta_share`].
    pub idle_delta_share: Option<f64>,
}

/// Least share of a busy group's bits that the delta units of idle groups must hold: below it sizes tell too easily
/// what passes, and the clip would flatter a gate.
const IDLE_DELTA_SHARE_MIN: f64 = 0.3;

/// Metres of road in view, as composed clips show it: a vehicle counts from its first to its last pixel in the picture.
const VIEW_M: f64 = 48.0;

impl CapacitySet {
    /// The built-in set.
    ///
    /// # Errors
    /// Never for the text as shipped (a test reads it).
    pub fn built_in() -> Result<Self, SceneError> {
        Self::parse(SET)
    }

    fn parse(text: &str) -> Result<Self, SceneError> {
        let set: Self = toml::from_str(text).map_err(|e| SceneError::Story {
            story: "capacity".to_owned(),
            problem: e.to_string(),
        })?;
        for clip in &set.clips {
            let story = set.story(clip);
            if !(0.2..=0.99).contains(&clip.idle) {
                return Err(story.problem(format!("idle is {}, use 0.2 to 0.99", clip.idle)));
            }
            story.check()?;
        }
        Ok(set)
    }

    /// Keeps the clips of one class.
    pub fn retain(&mut self, idle: Option<f64>, rate: Option<RateKind>) {
        self.clips.retain(|clip| {
            idle.is_none_or(|idle| (clip.idle - idle).abs() < 0.005)
                && rate.is_none_or(|rate| clip.rate == rate)
        });
    }

    /// The story of one clip.
    ///
    /// Vehicles come at random, so the view is empty for a share of exp(-load) of the time (Poisson), where the load is
    /// the time that all vehicles are in view over the clip's length: that gives the length.
    fn story(&self, clip: &CapacityClip) -> StorySpec {
        let speed_mps = (clip.speed_kmh[0] + clip.speed_kmh[1]) / 2.0 / 3.6;
        let in_view_s = clip.vehicles as f64 * VIEW_M / speed_mps;
        let gop_s = f64::from(clip.gop) / self.fps;
        // Whole groups of pictures, so that the seam of a loop is not denser with keyframes than the rest.
        let duration_s = (in_view_s / -clip.idle.ln() / gop_s).ceil() * gop_s;
        let encoder = EncoderSpec {
            codec: clip.codec,
            rate: match clip.rate {
                RateKind::Vbr => Rate::Vbr {
                    quantiser: clip.quantiser.unwrap_or(self.quantiser),
                    kbit_s: self.kbit_s,
                },
                RateKind::Cbr => Rate::Cbr { kbit_s: self.kbit_s },
            },
            gop_s,
            b_frames: clip.b_frames,
            preset: if clip.codec == Codec::H264 { "superfast" } else { "ultrafast" }.to_owned(),
            zero_latency: clip.b_frames == 0,
        };
        StorySpec {
            name: clip.id.clone(),
            // Others plates in every clip.
            seed: Random::for_part(self.seed, &clip.id).next(),
            duration_s,
            width: self.width,
            height: self.height,
            fps: self.fps,
            vehicles: clip.vehicles,
            speed_kmh: clip.speed_kmh,
            suspect: None,
            decoy: None,
            plates: self.plates.clone(),
            colours: self.colours.clone(),
            encoder,
            cameras: vec![CameraSpec {
                id: clip.id.clone(),
                name: clip.id.clone(),
                east_m: 0.0,
                north_m: 0.0,
                bearing_deg: 90.0,
                light: clip.light,
                side: clip.side,
                rain: clip.rain,
                trees_sway: clip.trees_sway,
                noise: clip.noise,
                encoder: None,
            }],
            routes: vec![RouteSpec { weight: 1.0, cameras: vec![clip.id.clone()] }],
        }
    }

    /// Makes the clips that are not there yet, each in a folder of its own, and lists all in `capacity.json`.
    ///
    /// # Errors
    /// As [`Composer::compose`]; and when a clip's bits tell too easily where a vehicle is. All clips are made and listed
    /// before that is said.
    pub fn compose(
        &self,
        folder: &Path,
        models: &[VehicleModel],
        progress: Progress<'_>,
    ) -> Result<Vec<ReadyClip>, SceneError> {
        let mut ready = Vec::new();
        for clip in &self.clips {
            let composer = Composer::new(self.story(clip), models.to_vec())?;
            composer.compose(&folder.join(&clip.id), 1, progress)?;
            ready.push(ready_clip(folder, clip)?);
        }
        write_json(&folder.join(LIST_FILE), &ready)?;
        self.check_shares(&ready)?;
        Ok(ready)
    }

    fn check_shares(&self, ready: &[ReadyClip]) -> Result<(), SceneError> {
        let easy: Vec<_> = ready
            .iter()
            .filter(|clip| clip.idle_delta_share.is_none_or(|it| it < IDLE_DELTA_SHARE_MIN))
            .map(|clip| match clip.idle_delta_share {
                Some(share) => format!("{} {:.0} %", clip.id, share * 100.0),
                None => format!("{} is never without a vehicle, or always", clip.id),
            })
            .collect();
        if easy.is_empty() {
            return Ok(());
        }
        Err(SceneError::Story {
            story: "capacity".to_owned(),
            problem: format!(
                "idle delta units must hold {:.0} % of a busy group's bits: {}; raise their noise or lower the quantiser",
                IDLE_DELTA_SHARE_MIN * 100.0,
                easy.join(", ")
            ),
        })
    }
}

fn ready_clip(folder: &Path, clip: &CapacityClip) -> Result<ReadyClip, SceneError> {
    let id = &clip.id;
    let (file, truth_file) = (format!("{id}/clips/{id}.mp4"), format!("{id}/truth/{id}.json"));
    let truth = ClipTruth::load(&folder.join(&truth_file))?;
    let busy: std::collections::HashSet<u64> =
        truth.passages.iter().flat_map(|p| p.track.iter().map(|f| f.pts_ms)).collect();
    let bits = bit_shares(&folder.join(&file), &truth)?;
    Ok(ReadyClip {
        id: id.clone(),
        clip: file,
        truth: truth_file,
        idle: clip.idle,
        idle_measured: 1.0 - busy.len() as f64 / f64::from(truth.frames.max(1)),
        rate: clip.rate,
        kbit_s: bits.kbit_s,
        idle_delta_share: bits.idle_delta_share,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_has_every_kind_of_clip() {
        let set = CapacitySet::built_in().unwrap();
        assert!(set.clips.len() >= 20 && set.width == 1920 && set.fps == 25.0);
        let has = |test: &dyn Fn(&CapacityClip) -> bool| set.clips.iter().any(test);
        for idle in [0.5, 0.8, 0.95] {
            for rate in [RateKind::Vbr, RateKind::Cbr] {
                let mut part = set.clone();
                part.retain(Some(idle), Some(rate));
                // Of the class that capacity is promised for, so many that forty streams are not four clips.
                assert!(part.clips.len() >= if idle == 0.95 { 10 } else { 3 }, "{idle} {rate:?}");
                if idle == 0.95 {
                    let has = |test: &dyn Fn(&CapacityClip) -> bool| part.clips.iter().any(test);
                    assert!(has(&|c| c.codec == Codec::H265) && has(&|c| c.b_frames > 0));
                    assert!(has(&|c| c.rain) && has(&|c| c.light == Light::Night));
                    assert!(has(&|c| c.speed_kmh[0] <= 32.0) && has(&|c| c.speed_kmh[1] >= 110.0));
                }
                for gop in [50, 250] {
                    assert!(part.clips.iter().any(|c| c.gop == gop), "{idle} {rate:?} {gop}");
                }
            }
        }
        assert!(has(&|c| c.light == Light::Night) && has(&|c| c.rain) && has(&|c| c.trees_sway));
        assert!(has(&|c| c.codec == Codec::H265) && has(&|c| c.b_frames > 0));
        assert!(has(&|c| c.speed_kmh[0] <= 32.0) && has(&|c| c.speed_kmh[1] >= 110.0));
        let mut ids: Vec<_> = set.clips.iter().map(|c| &c.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), set.clips.len());
    }

    #[test]
    fn clips_can_be_planned_and_end_with_a_whole_group() {
        let set = CapacitySet::built_in().unwrap();
        for clip in &set.clips {
            let story = set.story(clip);
            assert_eq!(story.plan().unwrap().len(), clip.vehicles, "{}", clip.id);
            assert_eq!(story.frames() % clip.gop, 0, "{}", clip.id);
            assert!(story.duration_s < 300.0, "{} {}", clip.id, story.duration_s);
        }
    }

    #[test]
    fn clips_whose_bits_tell_too_much_are_named() {
        let set = CapacitySet::built_in().unwrap();
        let clip = |id: &str, idle_delta_share| ReadyClip {
            id: id.to_owned(),
            clip: String::new(),
            truth: String::new(),
            idle: 0.95,
            idle_measured: 0.95,
            rate: RateKind::Vbr,
            kbit_s: 4000.0,
            idle_delta_share,
        };
        set.check_shares(&[clip("a", Some(0.3)), clip("b", Some(0.9))]).unwrap();
        let wrong = [clip("a", Some(0.29)), clip("b", Some(0.9)), clip("c", None)];
        let error = set.check_shares(&wrong).unwrap_err().to_string();
        assert!(error.contains("a 29 %, c is never without") && !error.contains("b 90"), "{error}");
    }

    #[test]
    fn wrong_sets_say_what_is_wrong() {
        let text = SET.replacen("idle = 0.95", "idle = 1.0", 1);
        assert!(CapacitySet::parse(&text).unwrap_err().to_string().contains("idle is 1"));
    }
}
