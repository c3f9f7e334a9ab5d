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

/// What other texts may have of a lattice, in 27 bits: the likeliest character at any position that is not the text's
/// (its byte, rounded up; its place; which it is), and the byte of the next likeliest, rounded up. Most reads are sure
/// of all characters but one, so that the two together say of most texts that they are out of the question.
///
/// ```text
/// bits 0-7 byte of the likeliest, 8-11 its place, 12-18 its character, 19-26 byte of the next
/// ```
/// Rows of earlier days have the likeliest byte alone, the rest being 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubt(u32);

impl Doubt {
    /// Of a row without a plate.
    pub(super) const NONE: Self = Self(0);

    /// As the column has it. What no version writes bounds nothing.
    pub(super) fn of_column(number: u64) -> Self {
        Self(u32::try_from(number).unwrap_or(u32::from(u8::MAX)))
    }

    /// For the column.
    pub(super) fn number(self) -> u64 {
        u64::from(self.0)
    }

    /// The bytes of the likeliest and, where it is known, of the next.
    fn bytes(self) -> (u8, Option<u8>) {
        let next = (self.0 >> 19) as u8;
        (self.0 as u8, (next > 0).then_some(next))
    }

    /// No text with these other characters, each at its place, has more than this; none at all is the text that was
    /// read.
    pub(super) fn probability_max(
        self,
        others: impl IntoIterator<Item = (usize, Option<PlateChar>)>,
    ) -> f32 {
        let (likeliest, next) = self.bytes();
        let (place, character) =
            ((self.0 >> 8 & 15) as usize, (self.0 >> 12) as u8 & CHARACTER_MASK);
        let bound = |byte: u8| if byte == u8::MAX { 1.0 } else { value(byte) };
        let mut others = others.into_iter().peekable();
        let most = if others.peek().is_none() {
            // What another character has at some position, the text that was read has not.
            1.0 - value(likeliest.saturating_sub(1))
        } else {
            let of = |(at, c)| match next {
                Some(next) if (at, char_code(c) & CHARACTER_MASK) != (place, character) => next,
                _ => likeliest,
            };
            others.map(|other| bound(of(other))).product()
        };
        // A little more, since probabilities of texts are rounded.
        most * 1.001
    }
}

/// What other texts may have of all rows of a plate, place by place: in 4 bits each, the first place the least
/// significant, the greatest number n such that no other character has more than 2^-n there in any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places(u64);

impl Places {
    /// Of no row.
    pub(super) const NONE: Self = Self((1 << (4 * PlateText::CHARS_MAX)) - 1);

    pub(super) fn of_column(number: u64) -> Self {
        Self(number)
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }

    fn at(self, place: usize) -> u64 {
        self.0 >> (4 * place) & 15
    }

    /// Some character that is not the text's has this much at a place.
    fn offer(&mut self, p: f32, place: usize) {
        // p is at most 2 to the power of one more than its exponent; a power of two is itself.
        let exponent = ((p.max(f32::MIN_POSITIVE).to_bits() - 1) >> 23) as i32 - 127 + 1;
        let most = (-exponent).clamp(0, 15) as u64;
        if most < self.at(place) {
            self.0 = self.0 & !(15 << (4 * place)) | most << (4 * place);
        }
    }

    /// Of the rows of both.
    pub(super) fn with(self, other: Self) -> Self {
        let all = (0..PlateText::CHARS_MAX)
            .map(|place| self.at(place).min(other.at(place)) << (4 * place));
        Self(all.sum())
    }

    /// No text with other characters at these places has more than this in any row.
    pub(super) fn probability_max(self, places: impl Iterator<Item = usize>) -> f32 {
        let halvings: u64 = places.map(|place| self.at(place)).sum();
        // A little more, since probabilities of texts are rounded.
        0.5_f32.powi(halvings as i32) * 1.001
    }
}

/// Of [`char_code`], as much as tells all characters and nothing apart.
const CHARACTER_MASK: u8 = 127;
const _: () = assert!(PlateChar::COUNT < CHARACTER_MASK as usize);

/// The likeliest two of what is offered, and the likeliest of each place.
struct Likeliest {
    first: (f32, usize, u8),
    next: f32,
    places: Places,
}

impl Likeliest {
    fn offer(&mut self, p: f32, place: usize, character: u8) {
        self.places.offer(p, place);
        if p > self.first.0 {
            self.next = self.first.0;
            self.first = (p, place, character);
        } else {
            self.next = self.next.max(p);
        }
    }
}

/// What other texts may have of a sighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubts {
    pub(super) doubt: Doubt,
    pub(super) places: Places,
}

impl Doubts {
    /// Of a sighting without a plate.
    pub(super) const NONE: Self = Self { doubt: Doubt::NONE, places: Places::NONE };
}

/// The doubts of a lattice as it was put down. Without making the lattice, since every sighting that is sealed comes
/// here.
pub(super) fn doubts(kept: &mut Reader<'_>, text: &[PlateChar]) -> Result<Doubts, Malformed> {
    // Every character has the floor at every position.
    const FLOOR: f32 = Position::FLOOR;
    let mut likeliest = Likeliest { first: (FLOOR, 0, 0), next: FLOOR, places: Places::NONE };
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
                likeliest.offer(p, i, character);
            }
        }
        if let Some((character, rest)) = best.filter(|_| head & BEST_IS_SURE > 0) {
            let p = 1.0 - rest - listed;
            listed += p;
            characters += usize::from(p > 0.0);
            if character != own {
                likeliest.offer(p, i, character);
            }
        }
        // There are far more characters than candidates, so that several are not listed, of which none is named.
        let others = (PlateChar::COUNT + 1).saturating_sub(characters).max(1);
        let unlisted = (1.0 - listed).max(0.0) / others as f32;
        likeliest.offer(unlisted, i, 0);
        likeliest.offer(unlisted, i, 0);
    }
    let up = |p: f32| match code(p) {
        code if value(code) < p => code.saturating_add(1),
        code => code,
    };
    let (p, place, character) = likeliest.first;
    let character = u32::from(character & CHARACTER_MASK);
    let next = up(likeliest.next).max(1);
    let doubt =
        Doubt(u32::from(up(p)) | (place as u32) << 8 | character << 12 | u32::from(next) << 19);
    Ok(Doubts { doubt, places: likeliest.places })
}

/// What a lattice says of a text, as [`Lattice::probability_of`] has it, without making the lattice: of most that are
/// looked at nothing else is wanted.
pub(super) fn probability_of(
    input: &mut Reader<'_>,
    text: &[PlateChar],
    sought: &[PlateChar],
) -> Result<f32, Malformed> {
    let mut p = 1.0_f64;
    let positions = usize::from(input.byte()?);
    for i in 0..positions {
        let position = decode_position(input, text.get(i).copied())?;
        p *= f64::from(position.probability(sought.get(i).copied()));
    }
    let behind = sought.len().saturating_sub(positions);
    Ok((p * f64::from(Position::FLOOR).powi(behind as i32)) as f32)
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
            let own: Vec<_> = text.chars().collect();
            let mut kept = Writer::default();
            encode(&lattice, &own, &mut kept);
            let differing = |one: &PlateText, other: &PlateText| {
                let (mut one, mut other) = (one.chars(), other.chars());
                let pairs = (0..PlateText::CHARS_MAX).map(|place| (place, one.next(), other.next()));
                pairs.filter(|(_, one, other)| one != other).map(|(place, _, other)| (place, other)).collect::<Vec<_>>()
            };
            let Doubts { doubt, places } = doubts(&mut Reader(&kept.0), &own).unwrap();
            let max = doubt.probability_max(differing(&text, &other));
            prop_assert_eq!(Doubt::of_column(doubt.number()), doubt);
            // Days that were sealed earlier have the first byte alone.
            let earlier = Doubt(doubt.0 & 0xff).probability_max(differing(&text, &other));
            prop_assert!(earlier >= max * 0.999, "{earlier} {max}");
            let p = decode(&mut Reader(&kept.0), &own).unwrap().probability(&other);
            prop_assert!(p <= max.max(1e-4), "{p} {max}");
            let by_places = places.probability_max(differing(&text, &other).into_iter().map(|(place, _)| place));
            prop_assert!(p <= by_places.max(1e-4), "{p} {by_places}");
            let sought: Vec<_> = other.chars().collect();
            let quick = probability_of(&mut Reader(&kept.0), &own, &sought).unwrap();
            prop_assert!((quick - p).abs() <= p * 1e-5, "{quick} {p}");
        }

        #[test]
        fn the_doubt_is_what_the_kept_lattice_says(lattice in any_lattice()) {
            let text: Vec<_> = PlateText::parse("浙J12345").unwrap().chars().collect();
            let mut kept = Writer::default();
            encode(&lattice, &text, &mut kept);
            let lattice = decode(&mut Reader(&kept.0), &text).unwrap();
            let mut all = vec![Position::FLOOR; 2];
            for (i, position) in lattice.positions().iter().enumerate() {
                let others = PlateChar::all().map(Some).chain([None]);
                all.extend(others.filter(|c| *c != text.get(i).copied()).map(|c| position.probability(c)));
            }
            all.sort_by(|a, b| b.total_cmp(a));
            let (first, next) = doubts(&mut Reader(&kept.0), &text).unwrap().doubt.bytes();
            for (code, most) in [(first, all[0]), (next.unwrap(), all[1])] {
                // The least byte that is not below; past the greatest value there is none.
                prop_assert!(code == u8::MAX || value(code) >= most, "{} {most}", value(code));
                prop_assert!(code <= 1 || value(code - 1) < most * 1.00001, "{} {most}", value(code));
            }
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
