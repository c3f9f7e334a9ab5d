//! Numbers in frame of reference: of each block the least number and how many bits the distance to it needs are in the
//! directory, the distances stand bit by bit, least significant first, in the block. Any one can be read by itself.

use std::sync::Arc;

/// Numbers of a block; the last of a column may have fewer.
pub(super) const BLOCK_LEN: usize = 4096;

/// Zero bytes kept after a block in memory, so that every number can be read as a whole word.
const PADDING: usize = 9;

/// How the numbers of a block are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// The least of them.
    pub(super) min: u64,
    /// Bits a number, 0 to 64.
    pub(super) width: u8,
}

impl Frame {
    /// The frame that fits.
    pub(super) fn of(numbers: &[u64]) -> Self {
        let min = numbers.iter().copied().min().unwrap_or(0);
        let max = numbers.iter().copied().max().unwrap_or(0);
        Self { min, width: (64 - (max - min).leading_zeros()) as u8 }
    }

    /// Bytes that so many numbers take.
    pub(super) fn bytes(self, count: usize) -> usize {
        (count * usize::from(self.width)).div_ceil(8)
    }

    fn mask(self) -> u64 {
        if self.width == 64 { u64::MAX } else { (1 << self.width) - 1 }
    }
}

/// Packs numbers at the end of a buffer.
pub(super) fn pack(numbers: &[u64], frame: Frame, out: &mut Vec<u8>) {
    let (mut pending, mut bits) = (0_u128, 0);
    for number in numbers {
        pending |= u128::from(number - frame.min) << bits;
        bits += u32::from(frame.width);
        while bits >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(pending as u8);
    }
}

/// The bytes of a block as [`Packed`] wants them.
pub(super) fn padded(mut block: Vec<u8>) -> Arc<[u8]> {
    block.extend_from_slice(&[0; PADDING]);
    block.into()
}

/// A block in memory.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    frame: Frame,
    bytes: Arc<[u8]>,
}

impl Packed {
    /// The block of that frame; `bytes` are [`padded`].
    pub(super) fn new(frame: Frame, bytes: Arc<[u8]>) -> Self {
        Self { frame, bytes }
    }

    /// The numbers, one after the other: so many of those that were packed.
    pub(super) fn numbers(&self, count: usize) -> impl Iterator<Item = u64> {
        let Self { frame, bytes } = self;
        let width = usize::from(frame.width);
        let (min, mask) = (frame.min, frame.mask());
        // Within a word wherever in a byte they begin, as nearly all are.
        let short = width <= 57;
        (0..count).map(move |at| {
            if !short {
                return self.get(at);
            }
            let bit = at * width;
            let word = bytes.get(bit / 8..).and_then(<[u8]>::first_chunk);
            min.wrapping_add(word.map_or(0, |word| u64::from_le_bytes(*word) >> (bit % 8)) & mask)
        })
    }

    /// The number at a place below the count that was packed.
    pub(super) fn get(&self, at: usize) -> u64 {
        let bit = at * usize::from(self.frame.width);
        let (byte, shift) = (bit / 8, bit % 8);
        let Some(Ok(word)) = self.bytes.get(byte..byte + 8).map(<[u8; 8]>::try_from) else {
            return self.frame.min; // not reached: the padding is as long as a word
        };
        let mut distance = u64::from_le_bytes(word) >> shift;
        if shift + usize::from(self.frame.width) > 64 {
            distance |= u64::from(self.bytes[byte + 8]) << (64 - shift);
        }
        self.frame.min.wrapping_add(distance & self.frame.mask())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_known_block() {
        let numbers = [10, 13, 11, 10];
        let frame = Frame::of(&numbers);
        assert_eq!(frame, Frame { min: 10, width: 2 });
        let mut out = Vec::new();
        pack(&numbers, frame, &mut out);
        assert_eq!(out, [0b0001_1100]);
    }

    proptest! {
        #[test]
        fn numbers_round_trip(
            base: u64, width in 0u32..=64, numbers in prop::collection::vec(any::<u64>(), 1..200),
        ) {
            let span = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
            let base = base.min(u64::MAX - span);
            let numbers: Vec<u64> = numbers.iter().map(|n| base + (n & span)).collect();
            let frame = Frame::of(&numbers);
            prop_assert!(u32::from(frame.width) <= width);
            let mut out = Vec::new();
            pack(&numbers, frame, &mut out);
            prop_assert_eq!(out.len(), frame.bytes(numbers.len()));
            let packed = Packed::new(frame, padded(out));
            for (i, number) in numbers.iter().enumerate() {
                prop_assert_eq!(packed.get(i), *number);
            }
            prop_assert_eq!(packed.numbers(numbers.len()).collect::<Vec<_>>(), numbers);
        }
    }
}
