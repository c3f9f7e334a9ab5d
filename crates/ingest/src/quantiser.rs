use h264_reader::Context;
use h264_reader::nal::pps::PicParameterSet;
use h264_reader::nal::slice::SliceHeader;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal as _, RefNal, UnitType};

use crate::outlet::caught;
use crate::unit::Codec;

/// Reads how coarsely pictures are quantised: an encoder that keeps a constant rate answers a vehicle with a coarser
/// quantiser, not with more bytes.
///
/// H.264 only; the slice header of H.265 lies behind much more that would have to be understood.
#[derive(Default)]
pub(crate) struct Quantiser {
    sets: Context,
    last: Option<i32>,
}

/// What lies before the first slice of a unit takes at most a few hundred bytes, and its header some ten.
const SEARCHED: usize = 4096;
const START: [u8; 3] = [0, 0, 1];

impl Quantiser {
    /// The quantiser of the unit's first slice; that of the unit before where it cannot be read.
    pub(crate) fn read(&mut self, codec: Codec, unit: &[u8]) -> Option<i32> {
        if codec == Codec::H264 {
            let searched = unit.get(..SEARCHED).unwrap_or(unit);
            // What a camera sends must not end its connection because a parser did not expect it.
            let read = caught(|| self.first_slice(searched)).unwrap_or_default();
            self.last = read.or(self.last);
        }
        self.last
    }

    fn first_slice(&mut self, unit: &[u8]) -> Option<i32> {
        let starts = || unit.windows(3).enumerate().filter(|(_, it)| *it == START).map(|it| it.0);
        for start in starts() {
            let begin = start + START.len();
            let end = starts().find(|it| *it >= begin).unwrap_or(unit.len());
            let Some(bytes) = unit.get(begin..end).filter(|it| !it.is_empty()) else { continue };
            let nal = RefNal::new(bytes, &[], end < unit.len());
            let header = nal.header().ok()?;
            match header.nal_unit_type() {
                UnitType::SeqParameterSet => {
                    if let Ok(set) = SeqParameterSet::from_bits(nal.rbsp_bits()) {
                        self.sets.put_seq_param_set(set);
                    }
                }
                UnitType::PicParameterSet => {
                    if let Ok(set) = PicParameterSet::from_bits(&self.sets, nal.rbsp_bits()) {
                        self.sets.put_pic_param_set(set);
                    }
                }
                UnitType::SliceLayerWithoutPartitioningIdr
                | UnitType::SliceLayerWithoutPartitioningNonIdr => {
                    let mut bits = nal.rbsp_bits();
                    let (slice, _, set) =
                        SliceHeader::from_bits(&self.sets, &mut bits, header).ok()?;
                    return Some(26 + set.pic_init_qp_minus26 + slice.slice_qp_delta);
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gstreamer as gst;
    use gstreamer::prelude::*;
    use gstreamer_app as gst_app;
    use proptest::prelude::*;

    /// The units that x264 makes of a test picture.
    fn encoded(options: &str) -> Vec<Vec<u8>> {
        gst::init().unwrap();
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers=6 pattern=ball \
             ! video/x-raw,format=I420,width=160,height=120,framerate=25/1 \
             ! x264enc key-int-max=3 speed-preset=veryfast threads=1 {options} \
             ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=out sync=false"
        ));
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
            let mut reader = Quantiser::default();
            let options =
                format!("pass=quant quantizer={quantiser} option-string=ipratio=1:pbratio=1");
            let read: Vec<_> =
                encoded(&options).iter().map(|it| reader.read(Codec::H264, it)).collect();
            assert_eq!(read, [Some(quantiser); 6]);
        }
        assert_eq!(Quantiser::default().read(Codec::H265, &[0, 0, 1, 1 << 1, 1, 0]), None);
    }

    proptest! {
        #[test]
        fn whatever_comes(units in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6)) {
            let mut reader = Quantiser::default();
            for unit in units {
                // With a start code before what looks like a set or a slice.
                for kind in [0x67, 0x68, 0x65, 0x41] {
                    reader.read(Codec::H264, &[&[0, 0, 1, kind], &unit[..]].concat());
                }
            }
        }
    }
}
