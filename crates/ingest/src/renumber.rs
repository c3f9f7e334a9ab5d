//! Puts a picture behind another than the one that it was encoded behind, so that the decoder takes the last picture that it
//! has for the one that is referred to.

use crate::h265;

/// What must be known of a stream's slices to renumber them, and the number of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Numbering {
    H264(Numbers),
    H265(h265::Numbers),
}

impl Numbering {
    /// Which parameter sets are in force: counted up when others come.
    pub(crate) fn sets(&self) -> u32 {
        match self {
            Self::H264(it) => it.sets,
            Self::H265(it) => it.sets,
        }
    }

    /// The stream says that its pictures are shown in another order than they are decoded in.
    pub(crate) fn reorders(&self) -> bool {
        match self {
            Self::H264(_) => false, // few say so: it is noticed
            Self::H265(it) => it.reorders,
        }
    }

    /// The numbers of the picture that comes so many reference pictures after this one.
    pub(crate) fn after(&self, steps: u32) -> Self {
        match self {
            Self::H264(it) => Self::H264(it.after(steps)),
            Self::H265(it) => Self::H265(it.after(steps)),
        }
    }
}

/// A unit with start codes, its slices renumbered. `None` when it is no plain picture of frames that refer to others.
pub(crate) fn renumbered(unit: &[u8], numbering: &Numbering) -> Option<Vec<u8>> {
    match numbering {
        Numbering::H264(numbers) => renumbered_h264(unit, numbers),
        Numbering::H265(numbers) => h265::renumbered(unit, numbers),
    }
}

/// Where a stream's slices of H.264 state their number (ITU-T H.264 section 7.3.3), and what one of them says.
///
/// A decoder fills what `frame_num` says is missing with copies, and orders pictures by their picture order count; after a
/// second gap the order may be wrong and the picture is thrown away. With both rewritten, each in its place and width, the
/// decoder sees a stream without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) sets: u32,
    /// Width of `frame_num`, bits: 4 to 16.
    pub(crate) frame_num_bits: u32,
    /// Width of `pic_order_cnt_lsb`, bits; 0 where the order follows from `frame_num`.
    pub(crate) order_bits: u32,
    /// Slices have a flag that says whether they are of a field.
    pub(crate) may_be_fields: bool,
    /// Slices state their colour plane.
    pub(crate) planes_apart: bool,
    pub(crate) frame_num: u32,
    pub(crate) order: u32,
}

impl Numbers {
    fn after(self, steps: u32) -> Self {
        let low = |value: u32, bits: u32| value & ((1u32 << bits) - 1);
        Self {
            frame_num: low(self.frame_num.wrapping_add(steps), self.frame_num_bits),
            // Twice, for each frame counts as two fields.
            order: low(self.order.wrapping_add(2 * steps), self.order_bits),
            ..self
        }
    }
}

fn renumbered_h264(unit: &[u8], numbers: &Numbers) -> Option<Vec<u8>> {
    const SLICE: u8 = 1;
    const KEY_SLICE: u8 = 5;
    let mut out = Vec::with_capacity(unit.len() + 16);
    let mut slices = 0;
    for nal in nals(unit) {
        let (header, payload) = nal.split_first()?;
        out.extend([0, 0, 0, 1, *header]);
        match header & 0x1f {
            SLICE => {
                let mut bits = Bits { bytes: unescaped(payload), at: 0 };
                bits.renumber(numbers)?;
                escape(&bits.bytes, &mut out);
                slices += 1;
            }
            2..=KEY_SLICE => return None,
            _ => out.extend(payload),
        }
    }
    (slices > 0).then_some(out)
}

/// The NAL units of an access unit, without start codes; never empty.
pub(crate) fn nals(unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    const START: &[u8] = &[0, 0, 1];
    let mut starts = memchr::memmem::find_iter(unit, START).map(|at| at + START.len()).peekable();
    std::iter::from_fn(move || {
        let begin = starts.next()?;
        let end = starts.peek().map_or(unit.len(), |next| next - START.len());
        unit.get(begin..end)
    })
    // Zeros before a start code belong to it.
    .filter_map(|nal| nal.get(..=nal.iter().rposition(|it| *it != 0)?))
}

/// Without the bytes that keep start codes from occurring within (ITU-T H.264 section 7.4.1.1).
pub(crate) fn unescaped(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len());
    let mut zeros = 0;
    for byte in payload {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    out
}

/// Appends it with the bytes that keep start codes from occurring within.
pub(crate) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut zeros = 0;
    for byte in bytes {
        if zeros >= 2 && *byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
}

/// A slice, bit by bit, the most significant of each byte first.
pub(crate) struct Bits {
    pub(crate) bytes: Vec<u8>,
    pub(crate) at: usize,
}

impl Bits {
    fn renumber(&mut self, numbers: &Numbers) -> Option<()> {
        self.pass_exp_golomb(3)?; // first_mb_in_slice, slice_type, pic_parameter_set_id
        self.at += if numbers.planes_apart { 2 } else { 0 };
        self.write(numbers.frame_num, numbers.frame_num_bits)?;
        if numbers.may_be_fields && self.read()? {
            return None;
        }
        self.write(numbers.order, numbers.order_bits)
    }

    pub(crate) fn read(&mut self) -> Option<bool> {
        let bit = self.bytes.get(self.at / 8)? >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// A number of so many bits, at most 32.
    pub(crate) fn number(&mut self, bits: u32) -> Option<u32> {
        (0..bits).try_fold(0, |value, _| Some(value << 1 | u32::from(self.read()?)))
    }

    /// So many zeros, a one, and as many bits more (ITU-T H.264 section 9.1).
    pub(crate) fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.read()? {
            zeros += 1;
        }
        Some((1u32.checked_shl(zeros)? - 1).wrapping_add(self.number(zeros)?))
    }

    /// Over so many of these.
    pub(crate) fn pass_exp_golomb(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.exp_golomb().map(drop))
    }

    fn write(&mut self, value: u32, bits: u32) -> Option<()> {
        for bit in (0..bits).rev() {
            let byte = self.bytes.get_mut(self.at / 8)?;
            let mask = 1 << (7 - self.at % 8);
            *byte = if value >> bit & 1 == 1 { *byte | mask } else { *byte & !mask };
            self.at += 1;
        }
        Some(())
    }
}
