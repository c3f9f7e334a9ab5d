use std::collections::BinaryHeap;

use arrayvec::ArrayVec;

use crate::{InvalidValue, PlateChar, PlateText};

/// One possibility at one position: a character, or that nothing stands there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The character; `None` says that the text ends before this position.
    pub character: Option<PlateChar>,
    /// Its probability given the picture, 0 to 1.
    pub probability: f32,
}

/// The likeliest characters at one position, best first.
///
/// Probabilities add up to at most 1. What is missing belongs to the characters not listed, in equal shares: a
/// character outside the top few is unlikely, not impossible.
#[derive(Debug, Clone, PartialEq)]
pub struct Position(ArrayVec<Candidate, CANDIDATES_MAX>);

/// [`Position::CANDIDATES_MAX`]; held in place, since every sighting that is read has some eight positions.
const CANDIDATES_MAX: usize = 6;

impl Position {
    /// How many candidates are kept: enough for the province, the weakest character.
    pub const CANDIDATES_MAX: usize = CANDIDATES_MAX;
    /// The least probability of anything: one read never excludes a character for good.
    pub const FLOOR: f32 = 1e-6;

    /// Sorts, drops what is zero, merges nothing: a character must not be listed twice. Keeps the best
    /// [`Self::CANDIDATES_MAX`].
    ///
    /// # Errors
    /// When a probability is not within 0 to 1, they add up to more than 1 (by over 0.1 %), or a character is
    /// listed twice.
    pub fn new(candidates: impl IntoIterator<Item = Candidate>) -> Result<Self, InvalidValue> {
        let wrong = |value: String, fix| Err(InvalidValue::new("lattice position", value, fix));
        let mut kept: ArrayVec<Candidate, CANDIDATES_MAX> = ArrayVec::new();
        // A bit for each character met, and one for nothing.
        let (mut sum, mut met, mut twice) = (0.0, 0_u128, None);
        for candidate in candidates {
            let Candidate { character, probability } = candidate;
            if !(0.0..=1.0).contains(&probability) {
                return wrong(probability.to_string(), "probabilities lie within 0 and 1");
            }
            sum += probability;
            if probability == 0.0 {
                continue;
            }
            let bit = 1 << character.map_or(PlateChar::COUNT, PlateChar::index);
            if met & bit != 0 {
                twice = twice.or(Some(character));
            }
            met |= bit;
            let better = |c: &Candidate| {
                c.probability.total_cmp(&probability).reverse().then(c.character.cmp(&character))
            };
            let at = kept.iter().take_while(|c| better(c).is_le()).count();
            if kept.is_full() && at < kept.len() {
                kept.pop();
            }
            if !kept.is_full() {
                kept.insert(at, candidate);
            }
        }
        if sum > 1.001 {
            return wrong(sum.to_string(), "probabilities of a position add up to at most 1");
        }
        match twice {
            Some(character) => wrong(format!("{character:?}"), "a character is listed once"),
            None => Ok(Self(kept)),
        }
    }

    /// A position at which one character is certain.
    pub fn certain(character: Option<PlateChar>) -> Self {
        Self(ArrayVec::from_iter([Candidate { character, probability: 1.0 }]))
    }

    /// The candidates, best first.
    pub fn candidates(&self) -> &[Candidate] {
        &self.0
    }

    /// The probability of a character (or of nothing) here, never below [`Self::FLOOR`].
    pub fn probability(&self, character: Option<PlateChar>) -> f32 {
        let listed = self.0.iter().find(|c| c.character == character).map(|c| c.probability);
        listed.unwrap_or_else(|| self.unlisted()).max(Self::FLOOR)
    }

    /// The probability of each character that is not listed.
    fn unlisted(&self) -> f32 {
        let listed: f32 = self.0.iter().map(|c| c.probability).sum();
        let others = (PlateChar::COUNT + 1).saturating_sub(self.0.len()).max(1);
        (1.0 - listed).max(0.0) / others as f32
    }
}

/// A distribution over plate texts: per position, the likeliest characters. Positions are taken as independent.
///
/// A text of *n* characters means those characters at the first *n* positions and nothing at the rest, so texts of
/// different lengths compete. At most [`PlateText::CHARS_MAX`] positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Lattice(Vec<Position>);

impl Lattice {
    /// # Errors
    /// When there are more positions than any plate has characters.
    pub fn new(positions: Vec<Position>) -> Result<Self, InvalidValue> {
        if positions.len() > PlateText::CHARS_MAX {
            return Err(InvalidValue::new(
                "lattice",
                format!("{} positions", positions.len()),
                "a plate has at most 9 characters",
            ));
        }
        Ok(Self(positions))
    }

    /// The lattice in which one text is certain: a plate typed in by a person, or truth in a test.
    pub fn certain(text: &PlateText) -> Self {
        Self(text.chars().map(|c| Position::certain(Some(c))).collect())
    }

    /// The positions from left to right (upper row first).
    pub fn positions(&self) -> &[Position] {
        &self.0
    }

    /// Natural logarithm of the probability of a text. Never minus infinity, since each position has a floor.
    pub fn log_probability(&self, text: &PlateText) -> f32 {
        let mut chars = text.chars();
        let mut log_p: f32 = self.0.iter().map(|p| p.probability(chars.next()).ln()).sum();
        // Characters beyond the last position were not seen at all.
        log_p += chars.count() as f32 * Position::FLOOR.ln();
        log_p
    }

    /// The probability of a text, 0 to 1.
    pub fn probability(&self, text: &PlateText) -> f32 {
        self.probability_of(text.chars())
    }

    /// The same of the characters of a text.
    pub fn probability_of(&self, chars: impl IntoIterator<Item = PlateChar>) -> f32 {
        let mut chars = chars.into_iter();
        // Nine factors of at least [`Position::FLOOR`] are nothing to this type.
        let mut p = 1.0_f64;
        for position in &self.0 {
            p *= f64::from(position.probability(chars.next()));
        }
        // Characters beyond the last position were not seen at all.
        (p * f64::from(Position::FLOOR).powi(chars.count() as i32)) as f32
    }

    /// The probability of a character (or of nothing) at a place of any text: beyond the last position nothing was seen.
    pub fn probability_at(&self, place: usize, character: Option<PlateChar>) -> f32 {
        match (self.0.get(place), character) {
            (Some(position), character) => position.probability(character),
            (None, Some(_)) => Position::FLOOR,
            (None, None) => 1.0,
        }
    }

    /// What the second likeliest of all combinations of listed candidates has at most; 0 where there is none.
    pub fn second_probability(&self) -> f32 {
        let mut best = 1.0;
        let mut closest = 0.0_f32;
        for Position(candidates) in &self.0 {
            let Some(first) = candidates.first() else { return 0.0 };
            best *= first.probability;
            if let Some(second) = candidates.get(1) {
                closest = closest.max(second.probability / first.probability);
            }
        }
        best * closest
    }

    /// The likeliest texts among the listed candidates, best first, with their probabilities. Texts shorter than
    /// [`PlateText::CHARS_MIN`] and texts with a gap in the middle are left out; at most `n`.
    pub fn top_texts(&self, n: usize) -> Vec<(PlateText, f32)> {
        self.top_texts_from(n, 0.0)
    }

    /// The same of those that have at least so much, which takes less time the more that is.
    pub fn top_texts_from(&self, n: usize, least: f32) -> Vec<(PlateText, f32)> {
        // Best-first search over choices of a candidate a position: each step moves one position to its next
        // candidate, at or after the last position moved, so that every combination comes up once.
        struct State {
            /// Of nine positions at most, so that no product is lost.
            p: f64,
            choice: [u8; PlateText::CHARS_MAX],
            from: usize,
        }
        impl PartialEq for State {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }
        impl Eq for State {}
        impl PartialOrd for State {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for State {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.p.total_cmp(&other.p)
            }
        }

        /// How many combinations are looked at before giving up on finding more texts.
        const COMBINATIONS_MAX: usize = 4096;

        if self.0.iter().any(|p| p.0.is_empty()) {
            return Vec::new();
        }
        let p = self.0.iter().map(|p| f64::from(p.0[0].probability)).product();
        let mut heap = BinaryHeap::with_capacity(32);
        // What moves on from a combination has less.
        let enough = |p: f64| p as f32 >= least;
        if enough(p) {
            heap.push(State { p, choice: Default::default(), from: 0 });
        }
        let mut texts = Vec::new();
        let mut looked_at = 0;
        while let Some(state) = heap.pop() {
            looked_at += 1;
            let chosen = self.0.iter().zip(state.choice);
            let mut chosen = chosen.map(|(p, i)| p.0[usize::from(i)].character);
            let text: ArrayVec<_, { PlateText::CHARS_MAX }> =
                chosen.by_ref().map_while(|c| c).collect();
            // `map_while` took the first position with nothing, too.
            if chosen.all(|c| c.is_none())
                && let Some(text) = PlateText::from_chars(&text)
            {
                texts.push((text, state.p as f32));
            }
            if texts.len() >= n || looked_at >= COMBINATIONS_MAX {
                break;
            }
            for i in state.from..self.0.len() {
                let (position, at) = (&self.0[i].0, usize::from(state.choice[i]));
                if at + 1 < position.len() {
                    let [now, next] = [at, at + 1].map(|at| f64::from(position[at].probability));
                    let p = state.p * (next / now);
                    if enough(p) {
                        let mut choice = state.choice;
                        choice[i] += 1;
                        heap.push(State { p, choice, from: i });
                    }
                }
            }
        }
        texts
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position(entries: &[(char, f32)]) -> Position {
        Position::new(
            entries
                .iter()
                .map(|(c, p)| Candidate { character: PlateChar::new(*c), probability: *p }),
        )
        .unwrap()
    }

    /// `_` stands for nothing.
    pub(crate) fn lattice(positions: &[&[(char, f32)]]) -> Lattice {
        Lattice::new(positions.iter().map(|p| position(p)).collect()).unwrap()
    }

    #[test]
    fn ranks_texts_of_different_length() {
        let certain: Vec<&[(char, f32)]> =
            vec![&[('浙', 0.7), ('湘', 0.3)], &[('J', 1.0)], &[('D', 1.0)], &[('1', 1.0)]];
        let mut positions = certain;
        positions.extend_from_slice(&[
            &[('2', 1.0)],
            &[('3', 1.0)],
            &[('4', 1.0)],
            &[('5', 0.6), ('_', 0.4)],
        ]);
        let texts = lattice(&positions).top_texts(3);
        let shown: Vec<_> = texts.iter().map(|(t, _)| t.as_str()).collect();
        assert_eq!(shown, ["浙JD12345", "浙JD1234", "湘JD12345"]);
        assert!((texts[0].1 - 0.42).abs() < 1e-5);
    }

    #[test]
    fn unlisted_characters_share_the_rest() {
        let p = position(&[('A', 0.8), ('B', 0.1)]);
        let share = 0.1 / (PlateChar::COUNT + 1 - 2) as f32;
        assert!((p.probability(PlateChar::new('C')) - share).abs() < 1e-7);
        assert!(Position::certain(None).probability(PlateChar::new('C')) > 0.0);
    }

    #[test]
    fn wrong_positions_are_refused() {
        let candidate = |c, probability| Candidate { character: PlateChar::new(c), probability };
        assert!(Position::new(vec![candidate('A', 0.6), candidate('B', 0.6)]).is_err());
        assert!(Position::new(vec![candidate('A', f32::NAN)]).is_err());
        assert!(Position::new(vec![candidate('A', 0.2), candidate('A', 0.2)]).is_err());
        assert!(Lattice::new(vec![Position::certain(None); 10]).is_err());
    }

    prop_compose! {
        fn any_lattice()(weights in prop::collection::vec(prop::collection::vec(0.01f32..1.0, 1..5), 7)) -> Lattice {
            Lattice::new(weights.iter().map(|w| {
                let sum: f32 = w.iter().sum::<f32>() * 1.01;
                Position::new(w.iter().enumerate().map(|(i, w)| Candidate {
                    character: PlateChar::from_index(31 + i), probability: w / sum,
                })).unwrap()
            }).collect()).unwrap()
        }
    }

    proptest! {
        #[test]
        fn top_texts_are_sorted_and_agree_with_log_probability(lattice in any_lattice()) {
            let texts = lattice.top_texts(20);
            prop_assert!(!texts.is_empty());
            for pair in texts.windows(2) {
                prop_assert!(pair[0].1 >= pair[1].1 - 1e-6);
                prop_assert!(pair[0].0 != pair[1].0);
            }
            if let Some((_, second)) = texts.get(1) {
                prop_assert!((lattice.second_probability() - second).abs() < 1e-4);
            }
            for least in [0.5, 0.01] {
                let from = lattice.top_texts_from(20, least);
                prop_assert!(from.iter().eq(texts.iter().filter(|(_, p)| *p >= least)));
            }
            for (text, p) in &texts {
                prop_assert!((lattice.probability(text) - p).abs() < 1e-4);
                prop_assert!((lattice.log_probability(text).exp() - p).abs() < 1e-4);
            }
        }

        #[test]
        fn the_best_text_is_the_best_of_each_position(lattice in any_lattice()) {
            let best: Vec<_> = lattice.positions().iter().map(|p| p.candidates()[0].character.unwrap()).collect();
            prop_assert_eq!(&lattice.top_texts(1)[0].0, &PlateText::from_chars(&best).unwrap());
        }
    }
}
