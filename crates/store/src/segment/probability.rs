//! Lattices in few bytes: probabilities as a byte each.
//!
//! A byte is a number of 4 bits of mantissa between 2^-16 and 1; 0 is zero. A probability is rounded down, so that it
//! loses less than a seventeenth of itself. Where the best candidate of a position has at least a half, its own is not
//! kept but what no candidate has: the best has what the others leave, so that the surer the read, the smaller the
//! error. Candidates below [`KEPT_MIN`] join the rest, which is everybody else's in equal shares.
//!
//! # Layout
//! ```text
//! lattice   positions u8, position...
//! position  head u8: candidates in bits 0-2, bit 3: the best is the text's character here, bit 4: the best has at
//!           least a half
//!           then, with any candidate: character u8 unless bit 3, byte of the rest (bit 4) or of the best, and for
//!           each other candidate: character u8, byte
//! character place in the alphabet, 255 for nothing
//! ```

use guiji_domain::{Candidate, Lattice, PlateChar, PlateText, Position};

use crate::codec::{Malformed, Reader, Writer};
use crate::codes::NONE;

/// The least probability that a candidate other than the best keeps for itself.
pub(super) const KEPT_MIN: f32 = 1.0 / 4096.0;

const WRONG: Malformed = Malformed("lattice");
const BEST_IS_TEXT: u8 = 8;
const BEST_IS_SURE: u8 = 16;

/// The greatest byte whose value is at most `p`.
fn code(p: f32) -> u8 {
    if p >= 1.0 {
        return u8::MAX;
    }
    let bits = p.to_bits();
    let exponent = (bits >> 23) as i32 - 127; // p is not negative
    if exponent < -16 || !p.is_normal() {
        return 0;
    }
    ((exponent + 16) as u8) << 4 | (bits >> 19) as u8 & 15
}

/// The probability that a byte stands for: a multiple of 2^-20, so that sums of them are exact.
fn value(code: u8) -> f32 {
    if code == 0 {
        return 0.0;
    }
    f32::from(16 + (code & 15)) * f32::from(1_u16 << (code >> 4)) / (1 << 20) as f32
}

fn char_code(c: Option<PlateChar>) -> u8 {
    c.map_or(NONE, |c| c.index() as u8) // the alphabet is shorter than NONE
}

/// Puts down a lattice; `text` is what was read.
pub(super) fn encode(lattice: &Lattice, text: &[PlateChar], out: &mut Writer) {
    out.byte(lattice.positions().len() as u8); // at most PlateText::CHARS_MAX
    for (i, position) in lattice.positions().iter().enumerate() {
        let Some((best, others)) = position.candidates().split_first() else {
            out.byte(0);
            continue;
        };
        let others: Vec<_> = others.iter().filter(|c| c.probability >= KEPT_MIN).collect();
        let sure = best.probability >= 0.5;
        let is_text = best.character == text.get(i).copied();
        // At most Position::CANDIDATES_MAX, which is below 8.
        let mut head = 1 + others.len() as u8;
        head |= if is_text { BEST_IS_TEXT } else { 0 };
        head |= if sure { BEST_IS_SURE } else { 0 };
        out.byte(head);
        if !is_text {
            out.byte(char_code(best.character));
        }
        if sure {
            let listed = best.probability + others.iter().map(|c| c.probability).sum::<f32>();
            out.byte(code((1.0 - listed).max(0.0)));
        } else {
            out.byte(code(best.probability));
        }
        for other in others {
            out.byte(char_code(other.character));
            out.byte(code(other.probability));
        }
    }
}

/// The inverse of [`encode`], but for the rounding.
pub(super) fn decode(input: &mut Reader<'_>, text: &[PlateChar]) -> Result<Lattice, Malformed> {
    let mut positions = Vec::with_capacity(PlateText::CHARS_MAX);
    for i in 0..usize::from(input.byte()?) {
        positions.push(decode_position(input, text.get(i).copied())?);
    }
    Lattice::new(positions).map_err(|_| WRONG)
}

/// The greatest probability that any other character than the text's has at any position of a lattice as it was put
/// down, as a byte: rounded up. Without making the lattice, since every sighting that is sealed comes here.
pub(super) fn doubt(kept: &mut Reader<'_>, text: &[PlateChar]) -> Result<u8, Malformed> {
    let mut doubt = Position::FLOOR;
    for i in 0..usize::from(kept.byte()?) {
        let own = char_code(text.get(i).copied());
        let head = kept.byte()?;
        let (mut listed, mut characters) = (0.0, 0);
        let mut best = None;
        for candidate in 0..head & 7 {
            let is_text = candidate == 0 && head & BEST_IS_TEXT > 0;
            let character = if is_text { own } else { kept.byte()? };
            let p = value(kept.byte()?);
            if candidate == 0 {
                best = Some((character, p));
                if head & BEST_IS_SURE > 0 {
                    continue; // it has what the others leave
                }
            }
            listed += p;
            characters += usize::from(p > 0.0);
            if character != own {
                doubt = doubt.max(p);
            }
        }
        if let Some((character, rest)) = best.filter(|_| head & BEST_IS_SURE > 0) {
            let p = 1.0 - rest - listed;
            listed += p;
            characters += usize::from(p > 0.0);
            if character != own {
                doubt = doubt.max(p);
            }
        }
        // There are more characters than candidates, so that one is not listed.
        let others = (PlateChar::COUNT + 1).saturating_sub(characters).max(1);
        doubt = doubt.max((1.0 - listed).max(0.0) / others as f32);
    }
    let code = code(doubt);
    Ok(if value(code) < doubt { code.saturating_add(1) } else { code })
}

/// No text that differs in so many places has more than this, by the byte that [`doubt`] gave.
pub(super) fn probability_max(doubt: u64, places: usize) -> f32 {
    let doubt = u8::try_from(doubt).unwrap_or(u8::MAX);
    let most = match (places, doubt) {
        // What another character has at some position, the text that was read has not.
        (0, doubt) => 1.0 - value(doubt.saturating_sub(1)),
        (_, u8::MAX) => 1.0,
        (places, doubt) => value(doubt).powi(places as i32),
    };
    // A little more, since probabilities of texts are rounded.
    most * 1.001
}

fn decode_position(input: &mut Reader<'_>, text: Option<PlateChar>) -> Result<Position, Malformed> {
    let head = input.byte()?;
    // On the stack: every sighting that is read has some eight positions.
    let mut candidates = [Candidate { character: None, probability: 0.0 }; 7];
    let candidates = &mut candidates[..usize::from(head & 7)];
    if let Some((best, others)) = candidates.split_first_mut() {
        best.character = if head & BEST_IS_TEXT > 0 { text } else { character(input)? };
        let first = value(input.byte()?);
        for other in &mut *others {
            other.character = character_of(input.byte()?)?;
            other.probability = value(input.byte()?);
        }
        best.probability = if head & BEST_IS_SURE > 0 {
            1.0 - first - others.iter().map(|c| c.probability).sum::<f32>()
        } else {
            first
        };
    }
    Position::new(candidates.iter().copied()).map_err(|_| WRONG)
}

fn character(input: &mut Reader<'_>) -> Result<Option<PlateChar>, Malformed> {
    character_of(input.byte()?)
}

fn character_of(code: u8) -> Result<Option<PlateChar>, Malformed> {
    match code {
        NONE => Ok(None),
        code => PlateChar::from_index(usize::from(code)).map(Some).ok_or(WRONG),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::segment) fn any_lattice() -> impl Strategy<Value = Lattice> {
        let position = (
            prop::collection::vec((0.0f32..1.0, 0usize..=PlateChar::COUNT), 0..=6),
            0.0f32..=1.0,
            prop::sample::select(vec![1.0f32, 8.0, 40.0]),
        )
            .prop_map(|(mut weights, rest, power)| {
                weights.sort_by_key(|(_, character)| *character);
                weights.dedup_by_key(|(_, character)| *character);
                let sum: f32 = weights.iter().map(|(w, _)| w.powf(power)).sum::<f32>();
                let sum = (sum + rest).max(1e-30) * 1.00001;
                let candidates = weights.iter().map(|(w, character)| Candidate {
                    character: PlateChar::from_index(*character),
                    probability: w.powf(power) / sum,
                });
                Position::new(candidates).unwrap()
            });
        prop::collection::vec(position, 0..=PlateText::CHARS_MAX)
            .prop_map(|positions| Lattice::new(positions).unwrap())
    }

    #[test]
    fn bytes_are_rounded_down_and_rise() {
        assert_eq!((code(0.0), code(0.5), code(1.0), code(f32::MIN_POSITIVE)), (0, 0xf0, 0xff, 0));
        for byte in 1..=u8::MAX {
            assert_eq!(code(value(byte)), byte);
            assert_eq!(code(value(byte) * 1.001), byte);
            assert!(value(byte - 1) < value(byte));
        }
    }

    proptest! {
        #[test]
        fn a_byte_loses_less_than_a_seventeenth(p in 2e-5f32..1.0) {
            let kept = value(code(p));
            prop_assert!(kept <= p && kept > p * (16.0 / 17.0 - 1e-6), "{p} {kept}");
        }

        #[test]
        fn no_other_text_has_more_than_the_doubt_allows(
            lattice in any_lattice(), changes in prop::collection::vec((0usize..8, 0..PlateChar::COUNT), 1..4),
        ) {
            let text = PlateText::parse("浙J12345").unwrap();
            let mut chars: Vec<_> = text.chars().collect();
            for (place, c) in changes {
                let c = PlateChar::from_index(c).unwrap();
                match chars.get_mut(place) {
                    Some(changed) => *changed = c,
                    None => chars.push(c),
                }
            }
            let other = PlateText::from_chars(&chars).unwrap();
            let places = guiji_domain::LikelyQuery::places_apart(&text, &other);
            let own: Vec<_> = text.chars().collect();
            let mut kept = Writer::default();
            encode(&lattice, &own, &mut kept);
            let max = probability_max(u64::from(doubt(&mut Reader(&kept.0), &own).unwrap()), places);
            let p = decode(&mut Reader(&kept.0), &own).unwrap().probability(&other);
            prop_assert!(p <= max.max(1e-4), "{p} {max}");
        }

        #[test]
        fn the_doubt_is_what_the_kept_lattice_says(lattice in any_lattice()) {
            let text: Vec<_> = PlateText::parse("浙J12345").unwrap().chars().collect();
            let mut kept = Writer::default();
            encode(&lattice, &text, &mut kept);
            let lattice = decode(&mut Reader(&kept.0), &text).unwrap();
            let mut most = Position::FLOOR;
            for (i, position) in lattice.positions().iter().enumerate() {
                let others = PlateChar::all().map(Some).chain([None]);
                for other in others.filter(|c| *c != text.get(i).copied()) {
                    most = most.max(position.probability(other));
                }
            }
            let code = doubt(&mut Reader(&kept.0), &text).unwrap();
            // The least byte that is not below; past the greatest value there is none.
            prop_assert!(code == u8::MAX || value(code) >= most, "{} {most}", value(code));
            prop_assert!(code == 0 || value(code - 1) < most * 1.00001, "{} {most}", value(code));
        }

        #[test]
        fn every_candidate_keeps_its_probability_nearly(lattice in any_lattice()) {
            let text: Vec<_> = PlateText::parse("浙J12345").unwrap().chars().collect();
            let mut out = Writer::default();
            encode(&lattice, &text, &mut out);
            let mut input = Reader(&out.0);
            let kept = decode(&mut input, &text).unwrap();
            prop_assert!(input.end().is_ok());
            prop_assert_eq!(kept.positions().len(), lattice.positions().len());
            for (was, is) in lattice.positions().iter().zip(kept.positions()) {
                for c in was.candidates() {
                    let (p, q) = (c.probability, is.probability(c.character));
                    if p >= 0.5 {
                        prop_assert!((p - q).abs() <= (1.0 - p) / 16.0 + 2e-5, "{p} {q}");
                    } else if p >= KEPT_MIN {
                        prop_assert!(q <= p * 1.00001 && q >= p * 16.0 / 17.0 * 0.9999, "{p} {q}");
                    }
                }
                // Nothing is made up.
                for c in is.candidates() {
                    prop_assert!(was.candidates().iter().any(|w| w.character == c.character));
                }
            }
            // Keeping what was kept changes nothing any more.
            let mut again = Writer::default();
            encode(&kept, &text, &mut again);
            prop_assert_eq!(decode(&mut Reader(&again.0), &text).unwrap(), kept);
        }
    }
}
