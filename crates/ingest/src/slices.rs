use h264_reader::Context;
use h264_reader::nal::pps::PicParameterSet;
use h264_reader::nal::slice::{FieldPic, PicOrderCountLsb, SliceHeader};
use h264_reader::nal::sps::{FrameMbsFlags, PicOrderCntType, SeqParameterSet};
use h264_reader::nal::{Nal as _, RefNal, UnitType};

use crate::h265::NumberReader;
use crate::outlet::caught;
use crate::renumber::{Numbering, Numbers};
use crate::unit::Codec;

/// What the first slice of a unit says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Slice {
    /// How coarsely it is quantised: an encoder that keeps a constant rate answers a vehicle with a coarser quantiser, not
    /// with more bytes.
    pub(crate) quantiser: Option<i32>,
    /// Its numbers; `None` of what cannot be renumbered.
    pub(crate) numbering: Option<Numbering>,
}

/// Reads the first slice of each unit of a stream; of H.265 its number only.
#[derive(Default)]
pub(crate) struct SliceReader {
    sets: Context,
    /// The parameter sets of the last unit that had any, as they came, and how often others had come before.
    sets_sent: Vec<u8>,
    sets_changed: u32,
    quantiser: Option<i32>,
    h265: NumberReader,
}

/// What lies before the first slice of a unit takes at most a few hundred bytes, and its header some ten.
const SEARCHED: usize = 4096;
const START: [u8; 3] = [0, 0, 1];

impl SliceReader {
    /// Reads a unit; where its quantiser cannot be read, that of the unit before.
    pub(crate) fn read(&mut self, codec: Codec, unit: &[u8]) -> Slice {
        let searched = unit.get(..SEARCHED).unwrap_or(unit);
        // What a camera sends must not end its connection because a parser did not expect it.
        if codec == Codec::H265 {
            let read = caught(|| self.h265.read(searched)).ok().flatten();
            return Slice { quantiser: None, numbering: read.map(Numbering::H265) };
        }
        let read = caught(|| self.first_slice(searched)).ok().flatten();
        self.quantiser = read.map(|(quantiser, _)| quantiser).or(self.quantiser);
        let numbers = read.and_then(|(_, numbers)| numbers);
        Slice { quantiser: self.quantiser, numbering: numbers.map(Numbering::H264) }
    }

    fn first_slice(&mut self, unit: &[u8]) -> Option<(i32, Option<Numbers>)> {
        let starts: Vec<usize> = memchr::memmem::find_iter(unit, &START).collect();
        let mut sent = Vec::new();
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(unit.len());
            let bytes = unit.get(start + START.len()..end);
            let Some(bytes) = bytes.filter(|it| !it.is_empty()) else { continue };
            let nal = RefNal::new(bytes, &[], end < unit.len());
            let header = nal.header().ok()?;
            match header.nal_unit_type() {
                UnitType::SeqParameterSet => {
                    sent.extend(bytes);
                    if let Ok(set) = SeqParameterSet::from_bits(nal.rbsp_bits()) {
                        self.sets.put_seq_param_set(set);
                    }
                }
                UnitType::PicParameterSet => {
                    sent.extend(bytes);
                    if let Ok(set) = PicParameterSet::from_bits(&self.sets, nal.rbsp_bits()) {
                        self.sets.put_pic_param_set(set);
                    }
                }
                UnitType::SliceLayerWithoutPartitioningIdr
                | UnitType::SliceLayerWithoutPartitioningNonIdr => {
                    if !sent.is_empty() && sent != self.sets_sent {
                        self.sets_changed += 1;
                        self.sets_sent = sent;
                    }
                    let mut bits = nal.rbsp_bits();
                    let (slice, of_sequence, of_picture) =
                        SliceHeader::from_bits(&self.sets, &mut bits, header).ok()?;
                    let quantiser = 26 + of_picture.pic_init_qp_minus26 + slice.slice_qp_delta;
                    return Some((quantiser, numbers(&slice, of_sequence, self.sets_changed)));
                }
                _ => {}
            }
        }
        None
    }
}

fn numbers(slice: &SliceHeader, set: &SeqParameterSet, sets: u32) -> Option<Numbers> {
    let (order_bits, order) = match (&set.pic_order_cnt, &slice.pic_order_cnt_lsb) {
        (
            PicOrderCntType::TypeZero { log2_max_pic_order_cnt_lsb_minus4 },
            Some(
                PicOrderCountLsb::Frame(order)
                | PicOrderCountLsb::FieldsAbsolute { pic_order_cnt_lsb: order, .. },
            ),
        ) => (u32::from(*log2_max_pic_order_cnt_lsb_minus4) + 4, *order),
        (PicOrderCntType::TypeTwo, _) => (0, 0),
        _ => return None,
    };
    (slice.field_pic == FieldPic::Frame).then(|| Numbers {
        sets,
        frame_num_bits: u32::from(set.log2_max_frame_num()),
        order_bits,
        may_be_fields: set.frame_mbs_flags != FrameMbsFlags::Frames,
        planes_apart: set.chroma_info.separate_colour_plane_flag,
        frame_num: u32::from(slice.frame_num),
        order,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::renumber::renumbered;
    use gstreamer as gst;
    use gstreamer::prelude::*;
    use gstreamer_app as gst_app;
    use proptest::prelude::*;

    /// The units that x264 makes of a test picture.
    pub(crate) fn encoded(options: &str) -> Vec<Vec<u8>> {
        units_of(&format!(
            "videotestsrc num-buffers=6 pattern=ball \
             ! video/x-raw,format=I420,width=160,height=120,framerate=25/1 \
             ! x264enc key-int-max=3 speed-preset=veryfast threads=1 {options} \
             ! video/x-h264,stream-format=byte-stream,alignment=au"
        ))
    }

    /// What comes out at the end of these elements.
    pub(crate) fn units_of(elements: &str) -> Vec<Vec<u8>> {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(&format!("{elements} ! appsink name=out sync=false"));
        let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
        let out = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let units = std::iter::from_fn(|| out.pull_sample().ok());
        let units = units.map(|it| it.buffer().unwrap().map_readable().unwrap().to_vec()).collect();
        pipeline.set_state(gst::State::Null).unwrap();
        units
    }

    #[test]
    fn the_quantiser_is_the_encoders() {
        for quantiser in [18, 30, 41] {
            let mut reader = SliceReader::default();
            let options =
                format!("pass=quant quantizer={quantiser} option-string=ipratio=1:pbratio=1");
            let read: Vec<_> =
                encoded(&options).iter().map(|it| reader.read(Codec::H264, it).quantiser).collect();
            assert_eq!(read, [Some(quantiser); 6]);
        }
        let foreign = SliceReader::default().read(Codec::H265, &[0, 0, 1, 1 << 1, 1, 0]);
        assert_eq!(foreign, Slice::default());
    }

    #[test]
    fn a_renumbered_unit_says_its_new_numbers() {
        // The order follows from the number, or is stated; slices of fields are possible; a picture has several slices.
        for options in [
            "bframes=0",
            "bframes=2 b-adapt=false",
            "bframes=0 interlaced=true",
            "bframes=0 sliced-threads=true",
        ] {
            let mut reader = SliceReader::default();
            let mut renumbered_units = 0;
            for unit in encoded(options) {
                let Some(own) = reader.read(Codec::H264, &unit).numbering else { continue };
                let Some(same) = renumbered(&unit, &own) else { continue };
                let read = reader.read(Codec::H264, &same).numbering;
                assert_eq!(read.as_ref(), Some(&own), "{options}");
                let zeroless = |unit: &[u8]| unit.iter().filter(|it| **it != 0).count();
                assert_eq!(zeroless(&same), zeroless(&unit), "{options}");
                let later = own.after(7);
                let other = renumbered(&unit, &later).unwrap();
                assert_eq!(reader.read(Codec::H264, &other).numbering, Some(later), "{options}");
                renumbered_units += 1;
            }
            assert_eq!(renumbered_units, 4, "all but two keyframes, {options}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_renumbered(unit in prop::collection::vec(any::<u8>(), 0..200), order_bits in 0u32..=16) {
            let numbers = Numbering::H264(Numbers {
                sets: 0,
                frame_num_bits: 16,
                order_bits,
                may_be_fields: true,
                planes_apart: true,
                frame_num: 0xffff,
                order: 0,
            });
            for kind in [0x65, 0x41, 0x01] {
                renumbered(&[&[0, 0, 1, kind], &unit[..]].concat(), &numbers.after(3));
            }
        }

        #[test]
        fn whatever_comes(units in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6)) {
            let mut reader = SliceReader::default();
            for unit in units {
                // With a start code before what looks like a set or a slice.
                for kind in [0x67, 0x68, 0x65, 0x41] {
                    reader.read(Codec::H264, &[&[0, 0, 1, kind], &unit[..]].concat());
                }
            }
        }
    }
}
