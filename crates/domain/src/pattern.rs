use std::fmt;

use crate::plate::unknown_character;
use crate::{InvalidValue, Lattice, PlateChar, PlateText};

/// What one element of a pattern takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Element {
    /// This character.
    Is(PlateChar),
    /// `?`: any one character.
    Any,
    /// `[ABC]`: one of these.
    OneOf(Vec<PlateChar>),
    /// `*`: any characters, none included.
    Many,
}

/// A plate text with gaps: `?` is any one character, `*` any number of them, `[8B]` one of those listed.
///
/// `浙J?12*` is every plate of Taizhou whose serial has 12 at its second place.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PlatePattern {
    text: String,
    elements: Vec<Element>,
}

impl PlatePattern {
    /// Most elements of a pattern.
    const ELEMENTS_MAX: usize = 16;

    /// Reads a pattern; dots, blanks and dashes are dropped and full-width forms folded, as in [`PlateText::parse`].
    ///
    /// # Errors
    /// When a character can stand on no plate, a bracket is empty or not closed, or the pattern is empty, too long
    /// or can match no plate's length.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |fix: String| InvalidValue::new("plate pattern", text, fix);
        let mut elements: Vec<Element> = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let element = match c {
                c if c.is_whitespace() || "·•.-‧・●".contains(c) => continue,
                '?' | '？' => Element::Any,
                '*' | '＊' => Element::Many,
                '[' => {
                    let mut set = Vec::new();
                    loop {
                        match chars.next() {
                            None => return Err(wrong("close the bracket: [8B]".into())),
                            Some(']') => break,
                            Some(c) => {
                                let c =
                                    PlateChar::new(c).ok_or_else(|| wrong(unknown_character(c)))?;
                                // Named twice, it is no likelier.
                                if !set.contains(&c) {
                                    set.push(c);
                                }
                            }
                        }
                    }
                    if set.is_empty() {
                        return Err(wrong("put characters in the bracket: [8B]".into()));
                    }
                    Element::OneOf(set)
                }
                c => Element::Is(PlateChar::new(c).ok_or_else(|| wrong(unknown_character(c)))?),
            };
            if element == Element::Many && elements.last() == Some(&Element::Many) {
                continue;
            }
            elements.push(element);
            if elements.len() > Self::ELEMENTS_MAX {
                return Err(wrong(format!("use at most {} elements", Self::ELEMENTS_MAX)));
            }
        }
        let fixed = elements.iter().filter(|e| **e != Element::Many).count();
        let open = elements.contains(&Element::Many);
        if elements.is_empty()
            || fixed > PlateText::CHARS_MAX
            || (!open && fixed < PlateText::CHARS_MIN)
        {
            return Err(wrong(
                "a plate has 6 to 9 characters; use * for any number of them".into(),
            ));
        }
        let text = elements.iter().map(ToString::to_string).collect();
        Ok(Self { text, elements })
    }

    /// The pattern in normal form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The one text it matches, when it has no gap.
    pub fn exact(&self) -> Option<PlateText> {
        let chars: Option<Vec<_>> = self
            .elements
            .iter()
            .map(|e| if let Element::Is(c) = e { Some(*c) } else { None })
            .collect();
        PlateText::from_chars(&chars?)
    }

    /// The characters before the first gap: a range of the plate dictionary.
    pub fn prefix(&self) -> String {
        self.elements
            .iter()
            .map_while(|e| if let Element::Is(c) = e { Some(c.as_char()) } else { None })
            .collect()
    }

    /// The characters that every text has which matches, in their order. The product over them of how likely each stands
    /// anywhere is an upper bound of [`Self::probability`].
    pub fn required(&self) -> Vec<PlateChar> {
        let is = |element: &Element| if let Element::Is(c) = element { Some(*c) } else { None };
        self.elements.iter().filter_map(is).collect()
    }

    /// Whether it matches the text.
    pub fn matches(&self, text: &PlateText) -> bool {
        // States reached: `reached[i]` says that the first i elements can match what was read so far.
        let mut reached = vec![false; self.elements.len() + 1];
        reached[0] = true;
        self.skip_empty(&mut reached);
        for c in text.chars() {
            reached = self.step(&reached, |element| element.takes(c));
            self.skip_empty(&mut reached);
        }
        reached[self.elements.len()]
    }

    /// The probability that the plate behind the lattice matches, 0 to 1: the sum over all texts that match.
    ///
    /// Forward algorithm over positions × elements; with several `*`, where a text may match in several ways, over
    /// positions × sets of elements, so that it counts once.
    pub fn probability(&self, lattice: &Lattice) -> f32 {
        if self.elements.iter().filter(|it| **it == Element::Many).count() > 1 {
            return self.probability_once(lattice);
        }
        let n = self.elements.len();
        // On the stack: a watch-list asks this of each of its patterns.
        let mut reached = [0.0_f32; Self::ELEMENTS_MAX + 1];
        reached[0] = 1.0;
        self.flow_empty(&mut reached);
        let mut ended = 0.0; // text over, pattern satisfied
        for position in lattice.positions() {
            let nothing = position.probability(None);
            ended = (ended + reached[n]) * nothing;
            let mut next = [0.0_f32; Self::ELEMENTS_MAX + 1];
            for (i, element) in self.elements.iter().enumerate() {
                let p = match element {
                    Element::Is(c) => position.probability(Some(*c)),
                    Element::OneOf(set) => set.iter().map(|c| position.probability(Some(*c))).sum(),
                    Element::Any | Element::Many => 1.0 - nothing,
                };
                let target = if *element == Element::Many { i } else { i + 1 };
                next[target] += reached[i] * p;
            }
            reached = next;
            self.flow_empty(&mut reached);
        }
        (ended + reached[n]).min(1.0)
    }

    /// [`Self::probability`] by the deterministic automaton of the pattern, made as it is needed.
    fn probability_once(&self, lattice: &Lattice) -> f32 {
        let satisfied = |set: u64| set >> self.elements.len() & 1 == 1;
        let named = self.elements.iter().flat_map(|element| match element {
            Element::Is(c) => std::slice::from_ref(c),
            Element::OneOf(set) => set,
            Element::Any | Element::Many => &[],
        });
        let mut named: Vec<PlateChar> = named.copied().collect();
        named.sort_unstable();
        named.dedup();
        // Which elements may come next, a bit each, with the probability of the texts that lead there.
        let mut reached = vec![(self.with_empty(1), 1.0_f64)];
        let mut ended = 0.0;
        for position in lattice.positions() {
            let nothing = f64::from(position.probability(None));
            let own = named.iter().map(|c| (Some(*c), f64::from(position.probability(Some(*c)))));
            let own: Vec<_> = own.collect();
            let rest = 1.0 - nothing - own.iter().map(|(_, p)| p).sum::<f64>();
            let mut next: Vec<(u64, f64)> = Vec::new();
            for (set, so_far) in &reached {
                if satisfied(*set) {
                    ended += so_far;
                }
                for (c, p) in own.iter().copied().chain([(None, rest.max(0.0))]) {
                    let to = self.after(*set, c);
                    match next.iter_mut().find(|(known, _)| *known == to) {
                        _ if to == 0 => {}
                        Some((_, sum)) => *sum += so_far * p,
                        None => next.push((to, so_far * p)),
                    }
                }
            }
            ended *= nothing;
            reached = next;
        }
        let whole = reached.iter().filter(|(set, _)| satisfied(*set)).map(|(_, p)| p);
        (ended + whole.sum::<f64>()).min(1.0) as f32
    }

    /// The elements that may come after those of a set and a character; `None` stands for one that no element names.
    fn after(&self, set: u64, c: Option<PlateChar>) -> u64 {
        let mut next = 0;
        for (i, element) in self.elements.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1) {
            let takes = match (element, c) {
                (Element::Any | Element::Many, _) => true,
                (_, Some(c)) => element.takes(c),
                (_, None) => false,
            };
            if takes {
                next |= 1 << if *element == Element::Many { i } else { i + 1 };
            }
        }
        self.with_empty(next)
    }

    /// `*` may stand for nothing.
    fn with_empty(&self, mut set: u64) -> u64 {
        for (i, _) in self.elements.iter().enumerate().filter(|(_, it)| **it == Element::Many) {
            set |= (set >> i & 1) << (i + 1);
        }
        set
    }

    fn step(&self, reached: &[bool], takes: impl Fn(&Element) -> bool) -> Vec<bool> {
        let mut next = vec![false; reached.len()];
        for (i, element) in self.elements.iter().enumerate() {
            if reached[i] && takes(element) {
                next[if *element == Element::Many { i } else { i + 1 }] = true;
            }
        }
        next
    }

    fn skip_empty(&self, reached: &mut [bool]) {
        for (i, element) in self.elements.iter().enumerate() {
            if reached[i] && *element == Element::Many {
                reached[i + 1] = true;
            }
        }
    }

    fn flow_empty(&self, reached: &mut [f32]) {
        for (i, element) in self.elements.iter().enumerate() {
            if *element == Element::Many {
                reached[i + 1] += reached[i];
            }
        }
    }
}

impl Element {
    fn takes(&self, c: PlateChar) -> bool {
        match self {
            Self::Is(own) => *own == c,
            Self::Any | Self::Many => true,
            Self::OneOf(set) => set.contains(&c),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(c) => write!(f, "{c}"),
            Self::Any => f.write_str("?"),
            Self::Many => f.write_str("*"),
            Self::OneOf(set) => {
                f.write_str("[")?;
                set.iter().try_for_each(|c| write!(f, "{c}"))?;
                f.write_str("]")
            }
        }
    }
}

impl fmt::Display for PlatePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
impl fmt::Debug for PlatePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}
impl std::str::FromStr for PlatePattern {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matches_as_people_expect() {
        for (pattern, plate, matches) in [
            ("浙J12345", "浙J12345", true),
            ("浙J?2345", "浙JA2345", true),
            ("浙J?12*", "浙JA2134", false),
            ("浙J?12*", "浙J312A5", true),
            ("浙J?12*", "浙JD12345", true),
            ("*66", "浙J12366", true),
            ("*66", "浙J12665", false),
            ("浙J[8B]*", "浙JB1234", true),
            ("浙J[8B]*", "浙J31234", false),
            ("??12345", "浙J12345", true),
            ("浙·J??345", "浙J12345", true),
            ("*", "浙J12345", true),
        ] {
            let (p, t) = (PlatePattern::parse(pattern).unwrap(), PlateText::parse(plate).unwrap());
            assert_eq!(p.matches(&t), matches, "{pattern} {plate}");
        }
    }

    #[test]
    fn wrong_patterns_say_what_is_wrong() {
        for (text, hint) in [
            ("", "6 to 9"),
            ("浙J12", "use *"),
            ("浙J[8B", "close the bracket"),
            ("浙J[]123", "put characters"),
            ("浙JI2345", "digit 1"),
            ("浙J1234567890", "6 to 9"),
            ("*?*?*?*?*?*?*?*?*?*?", "at most 16"),
        ] {
            let error = PlatePattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn knows_its_exact_text_prefix_and_characters() {
        let p = PlatePattern::parse("浙J?12*").unwrap();
        assert_eq!((p.prefix().as_str(), p.exact()), ("浙J", None));
        let p = PlatePattern::parse("浙j·12345").unwrap();
        assert_eq!(p.exact().unwrap().as_str(), "浙J12345");
        let required = |pattern: &str| {
            let required = PlatePattern::parse(pattern).unwrap().required();
            required.into_iter().map(PlateChar::as_char).collect::<String>()
        };
        for (pattern, characters) in [
            ("浙J?12*", "浙J12"),
            ("*66", "66"),
            ("*8*6?*", "86"),
            ("[浙苏]?????[8B]", ""),
            ("*[8B]*", ""),
            ("*?*6", "6"),
            ("6*??*", "6"),
        ] {
            assert_eq!(required(pattern), characters, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[浙J?*\\[\\]0-9A-Z ]{0,20}|\\PC{0,20}") {
            if let Ok(pattern) = PlatePattern::parse(&text) {
                prop_assert_eq!(&PlatePattern::parse(pattern.as_str()).unwrap(), &pattern);
            }
        }

        #[test]
        fn probability_on_a_certain_lattice_is_matching(
            pattern in "(浙|\\?)[JA?](\\*|[0-3?]{5})", plate in "浙[JA][0-3]{5}",
        ) {
            let (pattern, plate) = (PlatePattern::parse(&pattern).unwrap(), PlateText::parse(&plate).unwrap());
            let p = pattern.probability(&Lattice::certain(&plate));
            prop_assert_eq!(p > 0.5, pattern.matches(&plate), "{}", p);
        }

        #[test]
        fn every_text_counts_once(
            pattern in "(浙|\\?|\\*)[JA?*][01?*]{1,4}(\\[01\\])?[01?*]{0,4}",
            shares in prop::collection::vec(0.0f32..1.0, 7),
        ) {
            let choices = [['浙', '苏'], ['J', 'A'], ['0', '1'], ['0', '1'], ['0', '1'], ['0', '1'], ['0', '1']];
            let positions: Vec<_> = choices.iter().zip(&shares)
                .map(|([one, other], p)| [(*one, *p), (*other, 1.0 - p)]).collect();
            let positions: Vec<&[(char, f32)]> = positions.iter().map(|it| &it[..]).collect();
            let lattice = crate::lattice::tests::lattice(&positions);
            let Ok(pattern) = PlatePattern::parse(&pattern) else { return Ok(()) };
            let mut expected = 0.0;
            for text in 0..1 << 7 {
                let chosen: String = (0..7).map(|i| choices[i][text >> i & 1]).collect();
                if pattern.matches(&PlateText::parse(&chosen).unwrap()) {
                    expected += (0..7)
                        .map(|i| if text >> i & 1 == 0 { shares[i] } else { 1.0 - shares[i] })
                        .product::<f32>();
                }
            }
            let p = pattern.probability(&lattice);
            prop_assert!((p - expected).abs() < 1e-3, "{p} {expected}");
        }

        #[test]
        fn an_exact_pattern_has_the_probability_of_its_text(p in 0.05f32..0.95) {
            let lattice = crate::lattice::tests::lattice(&[
                &[('浙', p), ('苏', 0.99 - p)], &[('J', 0.9)], &[('1', 0.8)], &[('2', 1.0)],
                &[('3', 1.0)], &[('4', 1.0)], &[('5', 0.5), ('_', 0.2)],
            ]);
            let text = PlateText::parse("浙J12345").unwrap();
            let pattern = PlatePattern::parse("浙J12345").unwrap();
            prop_assert!((pattern.probability(&lattice) - lattice.probability(&text)).abs() < 1e-5);
        }
    }
}
