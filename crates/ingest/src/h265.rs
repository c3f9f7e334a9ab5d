//! What must be understood of H.265 to put a picture behind another, and to have keyframes shown at once.
//!
//! Each slice lists the pictures that the decoder must keep for it and later ones (its reference picture set), and a decoder
//! that lacks one puts grey in its place. So the list is written anew: it names one picture, the last one. All indices of the
//! slice then mean that one, for lists are filled up by going round (ITU-T H.265 section 8.3.4).
//!
//! `cros-codecs` understands parameter sets. Of slice headers it allows 32 entry points, and a picture of 1080 rows coded with
//! wavefronts has 33 and more.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use cros_codecs::codec::h264::nalu::Header as _;
use cros_codecs::codec::h265::parser::{Nalu, NaluHeader, Parser, Pps, Sps};

use crate::renumber::{Bits, escape, nals, unescaped};

/// What must be known of a stream's slices to renumber them, and the number of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// Which parameter sets are in force: counted up when others come.
    pub(crate) sets: u32,
    /// These, with start codes.
    parameter_sets: Arc<[u8]>,
    /// Its pictures are shown in another order than they are decoded in.
    pub(crate) reorders: bool,
    /// Width of `slice_pic_order_cnt_lsb`, bits: 4 to 16.
    order_bits: u32,
    order: u32,
}

impl Numbers {
    pub(crate) fn after(&self, steps: u32) -> Self {
        let order = self.order.wrapping_add(steps) & ((1u32 << self.order_bits) - 1);
        Self { order, ..self.clone() }
    }
}

/// Reads the numbers of a stream's units.
#[derive(Default)]
pub(crate) struct NumberReader {
    /// As they came last, and how often others had come before.
    parameter_sets: Arc<[u8]>,
    sets_changed: u32,
    layouts: BTreeMap<u32, Layout>,
}

impl NumberReader {
    /// The numbers of a unit that may be put behind another, or another behind it. Of a unit its first few kilobytes will do.
    pub(crate) fn read(&mut self, unit: &[u8]) -> Option<Numbers> {
        let mut sent = Vec::new();
        for nal in nals(unit) {
            let kind = kind(nal);
            if (VPS..=PPS).contains(&kind) {
                sent.extend([0, 0, 1]);
                sent.extend(nal);
            } else if kind < FIRST_NO_SLICE {
                if !sent.is_empty() && *sent != *self.parameter_sets {
                    self.take_sets(&sent);
                }
                return self.slice(nal);
            }
        }
        None
    }

    fn take_sets(&mut self, sent: &[u8]) {
        self.sets_changed += 1;
        self.parameter_sets = sent.into();
        let parser = parser(sent);
        let of = |id: u32| Some((id, Layout::of(parser.get_pps(u8::try_from(id).ok()?)?)));
        self.layouts = (0..PARAMETER_SETS_MAX).filter_map(of).collect();
    }

    fn slice(&self, nal: &[u8]) -> Option<Numbers> {
        if !is_irap(kind(nal)) && !can_be_put_behind(nal) {
            return None;
        }
        // A header up to here takes some ten bytes.
        let mut bits = Bits { bytes: unescaped(nal.get(..64).unwrap_or(nal)), at: HEADER_BITS };
        let first = bits.read()?;
        bits.at += usize::from(is_irap(kind(nal)));
        let layout = self.layouts.get(&bits.exp_golomb()?)?;
        if !first {
            return None;
        }
        layout.go_to_order(&mut bits)?;
        let order = match kind(nal) {
            IDR_W_RADL | IDR_N_LP => 0,
            _ => bits.number(layout.order_bits)?,
        };
        let Layout { reorders, order_bits, .. } = *layout;
        let (sets, parameter_sets) = (self.sets_changed, Arc::clone(&self.parameter_sets));
        Some(Numbers { sets, parameter_sets, reorders, order_bits, order })
    }
}

/// Kinds of NAL units (ITU-T H.265 table 7-1).
const TRAIL_R: u8 = 1;
const IDR_W_RADL: u8 = 19;
const IDR_N_LP: u8 = 20;
const FIRST_NO_SLICE: u8 = 32;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
/// Of the NAL unit itself.
const HEADER_BITS: usize = 16;
const PARAMETER_SETS_MAX: u32 = 64;

fn kind(nal: &[u8]) -> u8 {
    nal.first().map_or(u8::MAX, |header| header >> 1 & 0x3f)
}

/// Whether a NAL unit of this kind can be decoded with nothing before it.
pub(crate) fn is_irap(kind: u8) -> bool {
    (16..=23).contains(&kind)
}

/// Others refer to it, it does not come with an open group, and it is of the lowest temporal sub-layer, by whose pictures
/// decoders go on counting.
fn can_be_put_behind(nal: &[u8]) -> bool {
    kind(nal) == TRAIL_R && nal.get(1) == Some(&1)
}

/// How the slices of a picture parameter set begin (ITU-T H.265 section 7.3.6.1).
#[derive(Debug, Clone, Copy)]
struct Layout {
    reorders: bool,
    may_depend: bool,
    address_bits: u32,
    extra_bits: usize,
    says_output: bool,
    planes_apart: bool,
    order_bits: u32,
}

impl Layout {
    fn of(pps: &Pps) -> Self {
        let sps = &pps.sps;
        let highest = usize::from(sps.max_sub_layers_minus1);
        Self {
            reorders: sps.max_num_reorder_pics.get(highest).is_some_and(|it| *it > 0),
            may_depend: pps.dependent_slice_segments_enabled_flag,
            address_bits: sps.pic_size_in_ctbs_y.next_power_of_two().trailing_zeros(),
            extra_bits: pps.num_extra_slice_header_bits.into(),
            says_output: pps.output_flag_present_flag,
            planes_apart: sps.separate_colour_plane_flag,
            order_bits: u32::from(sps.log2_max_pic_order_cnt_lsb_minus4) + 4,
        }
    }

    /// From where it is known whether the slice is the first, or from its address, to its order: its kind.
    fn go_to_order(&self, bits: &mut Bits) -> Option<u32> {
        bits.at += self.extra_bits;
        let kind = bits.exp_golomb()?;
        bits.at += usize::from(self.says_output) + if self.planes_apart { 2 } else { 0 };
        Some(kind)
    }
}

/// A parser that knows these parameter sets; what it does not understand it leaves out.
fn parser(sets: &[u8]) -> Parser {
    let mut parser = Parser::default();
    for nal in nals(sets) {
        let Some(nalu) = nalu(nal) else { continue };
        let understood = match kind(nal) {
            VPS => parser.parse_vps(&nalu).map(drop),
            SPS => parser.parse_sps(&nalu).map(drop),
            _ => parser.parse_pps(&nalu).map(drop),
        };
        if let Err(what) = understood {
            tracing::debug!(what, "a parameter set is not understood");
        }
    }
    parser
}

fn nalu(nal: &[u8]) -> Option<Nalu<'_>> {
    let header = NaluHeader::parse(&mut std::io::Cursor::new(nal)).ok()?;
    Some(Nalu { header, data: Cow::Borrowed(nal), size: nal.len(), offset: 0 })
}

/// A unit with start codes, its slices renumbered and referring to the picture before. `None` when it is no plain picture that
/// refers to others, or its slices put these in an order of their own.
pub(crate) fn renumbered(unit: &[u8], numbers: &Numbers) -> Option<Vec<u8>> {
    let parser = parser(&numbers.parameter_sets);
    let mut out = Vec::with_capacity(unit.len() + 16);
    let mut slices = 0;
    for nal in nals(unit) {
        out.extend([0, 0, 0, 1]);
        match kind(nal) {
            _ if can_be_put_behind(nal) => {
                match renumbered_slice(&parser, nal, numbers)? {
                    Some(slice) => escape(&slice, &mut out),
                    None => out.extend(nal),
                }
                slices += 1;
            }
            ..FIRST_NO_SLICE => return None,
            _ => out.extend(nal),
        }
    }
    (slices > 0).then_some(out)
}

/// The NAL unit without escapes; `Some(None)` of one that goes on where another left off, which says no number.
fn renumbered_slice(parser: &Parser, nal: &[u8], numbers: &Numbers) -> Option<Option<Vec<u8>>> {
    let mut old = Bits { bytes: unescaped(nal), at: HEADER_BITS };
    let first = old.read()?;
    let pps = parser.get_pps(u8::try_from(old.exp_golomb()?).ok()?)?;
    let (layout, sps) = (Layout::of(pps), &pps.sps);
    // Not the extension for screens, either, which adds to the header.
    if pps.lists_modification_present_flag
        || pps.scc_extension_flag
        || layout.order_bits != numbers.order_bits
    {
        return None;
    }
    if !first {
        if layout.may_depend && old.read()? {
            return Some(None);
        }
        old.at += layout.address_bits as usize;
    }
    let kind = layout.go_to_order(&mut old)?;
    let mut new = Written::default();
    new.copy(&old, 0..old.at)?;
    new.number(numbers.order, numbers.order_bits);
    old.at += layout.order_bits as usize;
    pass_references(&mut old, sps, layout.order_bits)?;

    new.number(0, 1); // short_term_ref_pic_set_sps_flag
    if sps.num_short_term_ref_pic_sets > 0 {
        new.number(0, 1); // inter_ref_pic_set_prediction_flag
    }
    // One picture before it (010) and none after it (1), the next in order (1), referred to by this one (1).
    new.number(0b01_0111, 6);
    if sps.long_term_ref_pics_present_flag {
        // Of the set none (1), of the slice none (1).
        new.number(0b11, if sps.num_long_term_ref_pics_sps > 0 { 2 } else { 1 });
    }

    let from = old.at;
    pass_rest(&mut old, pps, kind)?;
    new.copy(&old, from..old.at)?;
    new.align();
    // What is coded begins at a byte, after a one and zeros.
    new.bytes.extend(old.bytes.get(old.at / 8 + 1..)?);
    Some(Some(new.bytes))
}

/// Kinds of slices.
const B: u32 = 0;
const P: u32 = 1;

/// Over what a slice says of the pictures to be kept, from `short_term_ref_pic_set_sps_flag` on.
fn pass_references(bits: &mut Bits, sps: &Sps, order_bits: u32) -> Option<()> {
    let index_bits = |choices: u8| u32::from(choices).next_power_of_two().trailing_zeros() as usize;
    let sets = sps.num_short_term_ref_pic_sets;
    if bits.read()? {
        bits.at += index_bits(sets);
    } else if sets > 0 && bits.read()? {
        let back = usize::try_from(bits.exp_golomb()?).ok()? + 1;
        bits.at += 1; // delta_rps_sign
        bits.exp_golomb()?; // abs_delta_rps_minus1
        let like = sps.short_term_ref_pic_set.get(usize::from(sets).checked_sub(back)?)?;
        for _ in 0..=like.num_delta_pocs {
            let used = bits.read()?;
            bits.at += usize::from(!used); // use_delta_flag
        }
    } else {
        let (before, after) = (bits.exp_golomb()?, bits.exp_golomb()?);
        for _ in 0..before.checked_add(after)? {
            bits.exp_golomb()?; // how far
            bits.at += 1; // whether by this picture
        }
    }
    if sps.long_term_ref_pics_present_flag {
        let of_set = match sps.num_long_term_ref_pics_sps {
            0 => 0,
            _ => bits.exp_golomb()?,
        };
        let of_slice = bits.exp_golomb()?;
        for index in 0..of_set.checked_add(of_slice)? {
            bits.at += match index < of_set {
                true => index_bits(sps.num_long_term_ref_pics_sps),
                false => order_bits as usize + 1,
            };
            if bits.read()? {
                bits.exp_golomb()?; // delta_poc_msb_cycle_lt
            }
        }
    }
    Some(())
}

/// From behind the references to the end of a slice's header.
fn pass_rest(bits: &mut Bits, pps: &Pps, kind: u32) -> Option<()> {
    let sps = &pps.sps;
    let (is_b, refers, has_chroma) = (kind == B, kind <= P, sps.chroma_array_type != 0);
    let by_time = sps.temporal_mvp_enabled_flag && bits.read()?;
    let mut is_filtered = false;
    if sps.sample_adaptive_offset_enabled_flag {
        is_filtered |= bits.read()?;
        is_filtered |= has_chroma && bits.read()?;
    }
    if refers {
        let mut lengths =
            [pps.num_ref_idx_l0_default_active_minus1, pps.num_ref_idx_l1_default_active_minus1]
                .map(u32::from);
        if bits.read()? {
            lengths[0] = bits.exp_golomb()?;
            lengths[1] = if is_b { bits.exp_golomb()? } else { 0 };
        }
        bits.at += usize::from(is_b) + usize::from(pps.cabac_init_present_flag);
        if by_time {
            let in_first = !is_b || bits.read()?;
            if lengths[usize::from(!in_first)] > 0 {
                bits.exp_golomb()?; // collocated_ref_idx
            }
        }
        if if is_b { pps.weighted_bipred_flag } else { pps.weighted_pred_flag } {
            bits.exp_golomb()?; // luma_log2_weight_denom
            if has_chroma {
                bits.exp_golomb()?; // delta_chroma_log2_weight_denom
            }
            for minus1 in lengths.into_iter().take(if is_b { 2 } else { 1 }) {
                pass_weights(bits, minus1.checked_add(1)?, has_chroma)?;
            }
        }
        bits.exp_golomb()?; // five_minus_max_num_merge_cand
    }
    bits.exp_golomb()?; // slice_qp_delta
    if pps.slice_chroma_qp_offsets_present_flag {
        bits.pass_exp_golomb(2)?;
    }
    bits.at += usize::from(pps.range_extension.chroma_qp_offset_list_enabled_flag);
    let mut is_deblocked = !pps.deblocking_filter_disabled_flag;
    if pps.deblocking_filter_override_enabled_flag && bits.read()? {
        is_deblocked = !bits.read()?;
        if is_deblocked {
            bits.pass_exp_golomb(2)?;
        }
    }
    if pps.loop_filter_across_slices_enabled_flag && (is_filtered || is_deblocked) {
        bits.at += 1;
    }
    if pps.tiles_enabled_flag || pps.entropy_coding_sync_enabled_flag {
        let entries = bits.exp_golomb()? as usize;
        if entries > 0 {
            let width = bits.exp_golomb()? as usize + 1;
            bits.at = bits.at.checked_add(entries.checked_mul(width)?)?;
        }
    }
    if pps.slice_segment_header_extension_present_flag {
        bits.at += 8 * bits.exp_golomb()? as usize;
    }
    // The alignment begins with a one.
    let alignment = bits.bytes.get(bits.at / 8)? << (bits.at % 8);
    (alignment == 0x80).then_some(())
}

/// Over the weights of so many pictures.
fn pass_weights(bits: &mut Bits, pictures: u32, has_chroma: bool) -> Option<()> {
    const PICTURES_MAX: u32 = 16;
    if pictures > PICTURES_MAX {
        return None;
    }
    let luma = bits.number(pictures)?;
    let chroma = if has_chroma { bits.number(pictures)? } else { 0 };
    // Of each a weight and an offset.
    bits.pass_exp_golomb(2 * luma.count_ones() + 4 * chroma.count_ones())
}

/// A keyframe with start codes, its sequence saying that pictures are shown in the order in which they are decoded: a decoder
/// then gives it at once. For one that is to be looked at by itself, or with what is put behind it. `None` when it says so
/// already, or is not understood.
pub(crate) fn shown_at_once(unit: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(unit.len() + 16);
    let mut changed = false;
    for nal in nals(unit) {
        out.extend([0, 0, 0, 1]);
        match kind(nal) {
            SPS => {
                escape(&unordered(nal)?, &mut out);
                changed = true;
            }
            _ => out.extend(nal),
        }
    }
    changed.then_some(out)
}

/// A sequence parameter set that lets no picture be held back (ITU-T H.265 section 7.3.2.2.1).
fn unordered(nal: &[u8]) -> Option<Vec<u8>> {
    const PROFILE_BITS: usize = 88;
    const LEVEL_BITS: usize = 8;
    const CHROMA_444: u32 = 3;
    let mut old = Bits { bytes: unescaped(nal), at: HEADER_BITS + 4 };
    let layers = old.number(3)?;
    old.at += 1 + PROFILE_BITS + LEVEL_BITS;
    let mut of_layers = 0;
    for _ in 0..layers {
        of_layers += if old.read()? { PROFILE_BITS } else { 0 };
        of_layers += if old.read()? { LEVEL_BITS } else { 0 };
    }
    old.at += of_layers + if layers > 0 { 2 * (8 - layers as usize) } else { 0 };
    old.exp_golomb()?; // its number
    old.at += usize::from(old.exp_golomb()? == CHROMA_444);
    old.pass_exp_golomb(2)?; // size
    if old.read()? {
        old.pass_exp_golomb(4)?; // cropping
    }
    old.pass_exp_golomb(3)?; // depths, width of the order
    let all_layers = old.read()?;
    let mut new = Written::default();
    new.copy(&old, 0..old.at)?;
    for _ in 0..if all_layers { layers + 1 } else { 1 } {
        let from = old.at;
        old.exp_golomb()?; // sps_max_dec_pic_buffering_minus1
        new.copy(&old, from..old.at)?;
        old.pass_exp_golomb(2)?;
        new.number(0b11, 2); // sps_max_num_reorder_pics, sps_max_latency_increase_plus1: 0
    }
    let rest = old.at..last_one(&old.bytes, old.bytes.len())?;
    new.copy(&old, rest)?;
    new.align();
    Some(new.bytes)
}

/// The place of the last one among so many bytes.
fn last_one(bytes: &[u8], end: usize) -> Option<usize> {
    let byte = bytes.get(..end)?.iter().rposition(|it| *it != 0)?;
    Some(byte * 8 + 7 - bytes[byte].trailing_zeros() as usize)
}

/// Bits that are written one after the other.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    /// Of the last byte.
    free: u32,
}

impl Written {
    fn number(&mut self, value: u32, bits: u32) {
        for bit in (0..bits).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << self.free;
            }
        }
    }

    fn copy(&mut self, from: &Bits, range: std::ops::Range<usize>) -> Option<()> {
        for at in range {
            let byte = from.bytes.get(at / 8)?;
            self.number(u32::from(byte >> (7 - at % 8) & 1), 1);
        }
        Some(())
    }

    /// A one, and zeros up to the next byte.
    fn align(&mut self) {
        self.number(1, 1);
        self.free = 0;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::decoder::Decoder;
    use crate::outlet::caught;
    use crate::picture::MappedPicture;
    use crate::slices::SliceReader;
    use crate::slices::tests::units_of;
    use crate::unit::Codec;
    use gstreamer as gst;
    use guiji_domain::Picture as _;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    impl Numbers {
        /// Of a stream with B-frames.
        pub(crate) fn reordering() -> Self {
            let parameter_sets = Arc::from([]);
            Self { sets: 1, parameter_sets, reorders: true, order_bits: 8, order: 0 }
        }
    }

    /// The units that x265 makes of a test picture.
    fn encoded(pattern: &str, options: &str) -> Vec<Vec<u8>> {
        units_of(&format!(
            "videotestsrc num-buffers=24 pattern={pattern} \
             ! video/x-raw,format=I420,width=192,height=640,framerate=25/1 \
             ! x265enc key-int-max=12 speed-preset=fast bitrate=400 \
               option-string=log-level=none:scenecut=0:{options} \
             ! video/x-h265,stream-format=byte-stream,alignment=au ! h265parse config-interval=-1 \
             ! video/x-h265,stream-format=byte-stream,alignment=au"
        ))
    }

    /// The luma of the pictures that come of a unit.
    fn decoded(decoder: &mut Decoder, unit: &[u8]) -> Vec<Vec<u8>> {
        let pictures = decoder.decode(gst::Buffer::from_slice(unit.to_vec())).unwrap();
        let luma = |(buffer, caps): &(gst::Buffer, gst::Caps)| {
            let info = gstreamer_video::VideoInfo::from_caps(caps).unwrap();
            let picture = MappedPicture::map(buffer.clone(), &info).unwrap();
            let rows = picture.plane(0).chunks(picture.stride(0)).take(640);
            rows.flat_map(|row| row[..192].to_vec()).collect()
        };
        pictures.iter().map(luma).collect()
    }

    fn decoder() -> Decoder {
        let mut decoder = Decoder::new(Codec::H265).unwrap();
        decoder.begin();
        decoder
    }

    /// Mean absolute difference, levels of 255.
    fn difference(one: &[u8], other: &[u8]) -> f64 {
        let sum: u64 = one.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / one.len() as f64
    }

    #[test]
    fn behind_its_own_predecessor_a_picture_is_what_it_was() {
        // One slice or several, with more entry points than a parser allows, with fewer, and without.
        for options in ["", ":ctu=16", ":no-wpp=1", ":slices=3"] {
            let units = encoded("ball", &format!("bframes=0:ref=1{options}"));
            let (mut reader, mut plain, mut behind) =
                (NumberReader::default(), decoder(), decoder());
            let mut renumbered_units = 0;
            for unit in &units {
                let own = reader.read(unit).unwrap();
                assert!(!own.reorders);
                let other = renumbered(unit, &own);
                if let Some(other) = &other {
                    assert_eq!(reader.read(other).as_ref(), Some(&own), "{options}");
                    let later = own.after(300);
                    let read = reader.read(&renumbered(unit, &later).unwrap());
                    assert_eq!(read, Some(later), "{options}");
                    renumbered_units += 1;
                }
                let was = decoded(&mut plain, unit);
                assert_eq!(was.len(), 1);
                assert!(decoded(&mut behind, other.as_ref().unwrap_or(unit)) == was, "{options}");
            }
            assert_eq!(renumbered_units, 22, "all but two keyframes, {options}");
        }
    }

    #[test]
    fn behind_a_picture_long_ago_a_still_view_is_what_it_was() {
        for options in [
            "bframes=0:ref=4",
            "bframes=3:b-adapt=0:ref=3",
            "bframes=2:ref=2:open-gop=1",
            "bframes=0:ref=3:weightp=1:slices=2",
        ] {
            let units = encoded("zone-plate kx2=20 ky2=20", options);
            let mut reader = NumberReader::default();
            let numbers: Vec<_> = units.iter().map(|it| reader.read(it)).collect();
            let key = numbers[0].clone().unwrap();
            let reorders = options.contains("bframes=2") || options.contains("bframes=3");
            assert_eq!(key.reorders, reorders, "{options}");
            let mut decoder = decoder();
            // Shown at once though others would come to be shown before it.
            let whole = decoded(&mut decoder, &shown_at_once(&units[0]).unwrap());
            assert_eq!(whole.len(), 1, "{options}");
            // What others refer to, each on what the one before it left.
            let able =
                (1..12).filter(|it| numbers[*it].is_some() && !crate::unit::is_irap(&units[*it]));
            let mut steps = 0;
            for unit in able.map(|it| &units[it]) {
                steps += 1;
                let glimpse = renumbered(unit, &key.after(steps)).unwrap();
                let glimpse = decoded(&mut decoder, &glimpse);
                assert_eq!(glimpse.len(), 1, "{options}");
                let difference = difference(&glimpse[0], &whole[0]);
                assert!(difference < 1.5, "{difference}, {options}");
            }
            assert!(steps > 1, "{steps}, {options}");
            assert!(!decoder.complained(), "{options}");
        }
    }

    #[test]
    fn a_keyframe_shown_at_once_says_so_and_is_otherwise_what_it_was() {
        let units = encoded("ball", "bframes=3:b-adapt=0");
        let changed = shown_at_once(&units[0]).unwrap();
        let mut reader = NumberReader::default();
        let (was, is) = (reader.read(&units[0]).unwrap(), reader.read(&changed).unwrap());
        assert!(was.reorders && !is.reorders && (was.order, was.sets + 1) == (is.order, is.sets));
        assert_eq!(decoded(&mut decoder(), &units[0]).len(), 0, "it is held back");
        assert_eq!(decoded(&mut decoder(), &changed).len(), 1);
    }

    proptest! {
        /// Units of a camera in which some bytes are others: each ends in units or in none, and no panic gets through.
        #[test]
        fn whatever_comes(changes in prop::collection::vec((0usize..24, 0usize..120, any::<u8>()), 0..30)) {
            static UNITS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| encoded("ball", "bframes=2:ref=3"));
            let mut units = UNITS.clone();
            for (unit, at, value) in changes {
                if let Some(byte) = units.get_mut(unit).and_then(|unit| unit.get_mut(at)) {
                    *byte = value;
                }
            }
            let mut reader = SliceReader::default();
            for unit in &units {
                shown_at_once(unit);
                if let Some(numbering) = reader.read(Codec::H265, unit).numbering {
                    drop(caught(|| crate::renumber::renumbered(unit, &numbering.after(3))));
                }
            }
        }
    }
}
