//! Plate texts as numbers, and patterns over them.
//!
//! A text is nine places of 7 bits, the first the most significant: place in the alphabet plus one, 0 behind the end.
//! So numbers sort as texts do by the alphabet, and all texts with a prefix are one range.

use std::ops::RangeInclusive;

use arrayvec::ArrayVec;
use guiji_domain::{LikelyQuery, PlateChar, PlatePattern, PlateText};

const BITS: u32 = 7;
const PLACES: usize = PlateText::CHARS_MAX;
const _: () = assert!(PlateChar::COUNT < 1 << BITS && PLACES * BITS as usize <= 64);

fn shift(place: usize) -> u32 {
    BITS * (PLACES - 1 - place) as u32
}

/// What stands at a place of every number: 0 behind the end.
fn at(number: u64, place: usize) -> usize {
    (number >> shift(place)) as usize & ((1 << BITS) - 1)
}

fn code(c: PlateChar) -> u64 {
    c.index() as u64 + 1
}

/// The text as a number.
pub(super) fn pack(text: &PlateText) -> u64 {
    text.chars().enumerate().fold(0, |number, (place, c)| number | code(c) << shift(place))
}

/// The characters of a text, in place: every row that is read has some eight.
pub(super) type Chars = ArrayVec<PlateChar, PLACES>;

/// The text that a number says, with its characters; `None` when it says none.
pub(super) fn unpack(number: u64) -> Option<(PlateText, Chars)> {
    let chars = chars(number).collect::<Option<Chars>>()?;
    // Nothing may stand behind the end, nor above the first place.
    let used = chars.iter().zip(0..).fold(0, |used, (c, place)| used | code(*c) << shift(place));
    let text = PlateText::from_chars(&chars).filter(|_| used == number)?;
    Some((text, chars))
}

/// The characters of a number; `None` for what is none.
fn chars(number: u64) -> impl Iterator<Item = Option<PlateChar>> {
    let codes = (0..PLACES).map(move |place| at(number, place)).take_while(|code| *code > 0);
    codes.map(|code| PlateChar::from_index(code - 1))
}

/// The most significant bit of every place.
const HIGHS: u64 = {
    let (mut highs, mut place) = (0, 0);
    while place < PLACES {
        highs |= 1 << (BITS as usize * (place + 1) - 1);
        place += 1;
    }
    highs
};

/// In how many places two numbers differ, a bit each. A dictionary is gone through for each question: no branch, no
/// loop.
#[inline]
fn apart(one: u64, other: u64) -> u64 {
    let (differ, lows) = (one ^ other, HIGHS - (HIGHS >> (BITS - 1)));
    // Adding the lower bits of a place carries into its highest where any of them is set, and never beyond.
    (((differ & lows) + lows) | differ) & HIGHS
}

/// In how many places two numbers differ.
pub(super) fn places_apart(one: u64, other: u64) -> usize {
    apart(one, other).count_ones() as usize
}

const _: () = assert!(LikelyQuery::PLACES_MAX <= 2);

/// Whether two numbers differ in at most two places, as all that is looked for does: without counting them, for which
/// the least of 64-bit processors has no instruction.
#[inline]
pub(super) fn are_near(one: u64, other: u64) -> bool {
    let without_lowest = |bits: u64| bits & bits.wrapping_sub(1);
    without_lowest(without_lowest(apart(one, other))) == 0
}

/// The places in which a text differs from one that is sought, with what is sought there; `None` behind its end.
pub(super) fn differing(
    text: u64,
    sought: u64,
) -> impl Iterator<Item = (usize, Option<PlateChar>)> + Clone {
    let places = (0..PLACES).filter(move |place| at(text, *place) != at(sought, *place));
    places
        .map(move |place| (place, at(sought, place).checked_sub(1).and_then(PlateChar::from_index)))
}

/// A pattern made ready for many numbers: most fail one comparison under a mask, the rest is run through the
/// elements, all states of the match in one word.
#[derive(Debug)]
pub(super) struct Matcher {
    range: RangeInclusive<u64>,
    mask: u64,
    value: u64,
    /// A place that must not be empty, as a mask.
    filled: u64,
    /// Whether the comparisons decide alone.
    decided: bool,
    /// For each code of a character, the elements that take it, a bit each.
    takes: [u32; 1 << BITS],
    /// The elements that take any number of characters.
    many: u32,
    accept: u32,
}

impl Matcher {
    pub(super) fn new(pattern: &PlatePattern) -> Self {
        let mut matcher = Self {
            range: 0..=u64::MAX,
            mask: 0,
            value: 0,
            filled: 0,
            decided: true,
            takes: [0; 1 << BITS],
            many: 0,
            accept: 0,
        };
        // The normal form: one character an element, but for a bracket.
        let (mut chars, mut element, mut open) = (pattern.as_str().chars(), 0_u32, false);
        let mut prefix = (0, 0); // the number so far, and how many places
        while let Some(c) = chars.next() {
            let bit = 1 << element;
            let place = element as usize;
            match c {
                '*' => {
                    matcher.many |= bit;
                    matcher.takes.iter_mut().skip(1).for_each(|takes| *takes |= bit);
                    matcher.decided &= chars.as_str().is_empty();
                    open = true;
                }
                '?' => {
                    matcher.takes.iter_mut().skip(1).for_each(|takes| *takes |= bit);
                }
                '[' => {
                    for c in chars.by_ref().take_while(|c| *c != ']').filter_map(PlateChar::new) {
                        matcher.takes[code(c) as usize] |= bit;
                    }
                    matcher.decided = false;
                }
                c => {
                    let code = PlateChar::new(c).map_or(0, code);
                    matcher.takes[code as usize] |= bit;
                    if !open {
                        matcher.mask |= ((1 << BITS) - 1) << shift(place);
                        matcher.value |= code << shift(place);
                        if prefix.1 == place {
                            prefix = (prefix.0 | code << shift(place), place + 1);
                        }
                    }
                }
            }
            if !open {
                matcher.filled = ((1 << BITS) - 1) << shift(place);
            }
            element += 1;
        }
        let fixed = element as usize;
        if !open && fixed < PLACES {
            matcher.mask |= ((1 << BITS) - 1) << shift(fixed); // nothing may follow
        }
        let below = if prefix.1 == 0 { u64::MAX } else { (1 << shift(prefix.1 - 1)) - 1 };
        matcher.range = prefix.0..=prefix.0 | below;
        matcher.accept = 1 << element;
        matcher
    }

    /// Every number that matches lies in here.
    pub(super) fn range(&self) -> RangeInclusive<u64> {
        self.range.clone()
    }

    pub(super) fn matches(&self, number: u64) -> bool {
        number & self.mask == self.value
            && (self.filled == 0 || number & self.filled != 0)
            && (self.decided || self.run(number))
    }

    fn run(&self, number: u64) -> bool {
        // Normal forms never have one * after another, so that one step skips all that may be empty.
        let skip = |reached: u32| reached | (reached & self.many) << 1;
        let mut reached = skip(1);
        for place in 0..PLACES {
            let code = at(number, place);
            if code == 0 {
                break;
            }
            let moved = reached & self.takes[code];
            reached = skip((moved & !self.many) << 1 | (moved & self.many));
        }
        reached & self.accept != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> PlateText {
        PlateText::parse(text).unwrap()
    }

    #[test]
    fn numbers_sort_by_the_alphabet() {
        let sorted = ["浙J12345", "浙J1234A", "浙JD1234", "浙JD12345", "浙JD2345"].map(text);
        assert!(sorted.windows(2).all(|pair| pack(&pair[0]) < pack(&pair[1])));
        for number in [0, 1, u64::MAX, pack(&sorted[0]) | 1, 0x7f << shift(0)] {
            assert_eq!(unpack(number), None, "{number:x}");
        }
    }

    fn any_plate() -> impl Strategy<Value = PlateText> {
        prop_oneof![
            "[浙苏][JA][0-3]{5,6}".prop_map(|t| text(&t)),
            prop::collection::vec(0..PlateChar::COUNT, 6..=9).prop_map(|chars| {
                let chars: Vec<_> = chars.into_iter().filter_map(PlateChar::from_index).collect();
                PlateText::from_chars(&chars).unwrap()
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn texts_round_trip(plate in any_plate()) {
            let chars = plate.chars().collect();
            prop_assert_eq!(unpack(pack(&plate)), Some((plate, chars)));
        }

        #[test]
        fn places_are_counted_as_the_domain_does(one in any_plate(), other in any_plate()) {
            prop_assert_eq!(places_apart(pack(&one), pack(&other)), LikelyQuery::places_apart(&one, &other));
            let (mut text, mut sought) = (one.chars(), other.chars());
            let pairs = (0..PLACES).map(|place| (place, text.next(), sought.next()));
            let want: Vec<_> =
                pairs.filter(|(_, text, sought)| text != sought).map(|(place, _, sought)| (place, sought)).collect();
            prop_assert_eq!(differing(pack(&one), pack(&other)).collect::<Vec<_>>(), want);
        }

        #[test]
        fn any_two_numbers_are_apart_in_the_places_that_differ(one in 0..1_u64 << 63, other in 0..1_u64 << 63) {
            let apart = (0..PLACES).filter(|place| at(one, *place) != at(other, *place)).count();
            prop_assert_eq!(places_apart(one, other), apart);
            prop_assert_eq!(are_near(one, other), apart <= 2);
        }

        #[test]
        fn patterns_match_as_the_domain_says(
            pattern in "(浙|\\?|\\*|\\[浙苏\\])?[JA?*]?([0-3?*]|\\[12\\]){0,7}[0-3?*]?", plate in any_plate(),
        ) {
            let Ok(pattern) = PlatePattern::parse(&pattern) else { return Ok(()) };
            let (matcher, number) = (Matcher::new(&pattern), pack(&plate));
            prop_assert_eq!(matcher.matches(number), pattern.matches(&plate), "{:?} {}", pattern, plate);
            if pattern.matches(&plate) {
                prop_assert!(matcher.range().contains(&number));
            }
        }
    }
}
