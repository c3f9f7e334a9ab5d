use std::time::Duration;

use gstreamer as gst;
use guiji_domain::CaptureTime;

use crate::h265;
use crate::renumber::Numbering;

/// The codecs we decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Codec {
    H264,
    H265,
}

impl Codec {
    /// The element that decodes it.
    pub(crate) fn decoder(self) -> &'static str {
        match self {
            Self::H264 => "avdec_h264",
            Self::H265 => "avdec_h265",
        }
    }

    /// One access unit a buffer, start codes before each NAL unit, parameter sets at every keyframe.
    pub(crate) fn units(self) -> gst::Caps {
        let name = match self {
            Self::H264 => "video/x-h264",
            Self::H265 => "video/x-h265",
        };
        gst::Caps::builder(name)
            .field("stream-format", "byte-stream")
            .field("alignment", "au")
            .build()
    }
}

/// Whether a unit can be decoded by itself, and whether others need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitKind {
    /// Begins a group of pictures.
    Key,
    /// Needs those before it in its group.
    Delta,
    /// The same, but no other unit needs it: it may be left out.
    Leaf,
}

/// One encoded picture, whoever received it: what every receiver makes, and all that the gate and the decoders know.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) codec: Codec,
    /// As [`Codec::units`] says.
    pub(crate) data: gst::Buffer,
    pub(crate) kind: UnitKind,
    /// How coarsely its first slice is quantised, where that is known.
    pub(crate) quantiser: Option<i32>,
    /// Its numbers, where it can be put behind another picture than its own.
    pub(crate) numbering: Option<Numbering>,
    /// Presentation time since the connection began.
    pub(crate) running: Duration,
    pub(crate) captured: CaptureTime,
}

/// Whether an H.265 unit can be decoded with nothing before it, but for pictures that are shown before it (IRAP, ITU-T H.265
/// table 7-1): an encoder with open groups makes no other keyframes after its first.
pub(crate) fn is_irap(unit: &[u8]) -> bool {
    let searched = unit.get(..SEARCHED).unwrap_or(unit);
    let headers = searched.windows(4).filter(|it| it[..3] == [0, 0, 1]).map(|it| it[3]);
    let mut kinds = headers.map(|header| (header >> 1) & 0x3f);
    kinds.find(|kind| *kind < 32).is_some_and(h265::is_irap)
}

/// Finds the units that no other needs.
///
/// H.264 says so in each slice (`nal_ref_idc` 0, ITU-T H.264 section 7.4.1). H.265 says it for the picture's own
/// temporal sub-layer only (odd and even `nal_unit_type` below 16, ITU-T H.265 table 7-1), so that only pictures of the
/// highest sub-layer seen so far count.
#[derive(Debug, Default)]
pub(crate) struct LeafFinder {
    highest_layer: u8,
}

/// Parameter sets and messages before the first slice take at most a few hundred bytes.
const SEARCHED: usize = 4096;

impl LeafFinder {
    /// Whether the unit, not a keyframe, is needed by no other. `false` when in doubt.
    pub(crate) fn is_leaf(&mut self, codec: Codec, unit: &[u8]) -> bool {
        let searched = unit.get(..SEARCHED).unwrap_or(unit);
        let headers =
            searched.windows(5).filter(|it| it[..3] == [0, 0, 1]).map(|it| (it[3], it[4]));
        for (first, second) in headers {
            match codec {
                Codec::H264 if matches!(first & 0x1f, 1 | 2 | 5) => return first & 0x60 == 0,
                Codec::H265 if (first >> 1) & 0x3f < 32 => {
                    let layer = (second & 7).saturating_sub(1);
                    self.highest_layer = self.highest_layer.max(layer);
                    let kind = (first >> 1) & 0x3f;
                    return kind < 16 && kind % 2 == 0 && layer == self.highest_layer;
                }
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_groups_begin_with_keyframes_too() {
        let unit = |kind: u8| [0, 0, 1, 35 << 1, 1, 0x50, 0, 0, 1, kind << 1, 1, 0xaf];
        // IDR_W_RADL, CRA, TRAIL_R, RASL_N, and nothing but a delimiter.
        assert_eq!(
            [19, 21, 1, 8, 35].map(|kind| is_irap(&unit(kind))),
            [true, true, false, false, false]
        );
        assert!(!is_irap(&[]) && !is_irap(&[0, 0, 1]));
    }

    #[test]
    fn leaves() {
        let mut finder = LeafFinder::default();
        // Delimiter, then a slice with nal_ref_idc 0, and one with 2.
        assert!(finder.is_leaf(Codec::H264, &[0, 0, 0, 1, 9, 0x30, 0, 0, 1, 0x01, 0x9a, 0]));
        assert!(!finder.is_leaf(Codec::H264, &[0, 0, 0, 1, 9, 0x30, 0, 0, 1, 0x41, 0x9a, 0]));
        // TRAIL_N and TRAIL_R of the lowest layer, then TSA_N of a higher one, after which TRAIL_N is needed.
        assert!(finder.is_leaf(Codec::H265, &[0, 0, 1, 0 << 1, 1, 0]));
        assert!(!finder.is_leaf(Codec::H265, &[0, 0, 1, 1 << 1, 1, 0]));
        assert!(finder.is_leaf(Codec::H265, &[0, 0, 1, 2 << 1, 2, 0]));
        assert!(!finder.is_leaf(Codec::H265, &[0, 0, 1, 0 << 1, 1, 0]));
        for nothing in [&[][..], &[0, 0, 1], &[1, 2, 3, 4, 5, 6, 7]] {
            assert!(!finder.is_leaf(Codec::H264, nothing) && !finder.is_leaf(Codec::H265, nothing));
        }
    }
}
