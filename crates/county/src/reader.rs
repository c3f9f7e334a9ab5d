//! What a plate reader makes of a plate.

use guiji_domain::{
    Candidate, FusedPlate, Lattice, PlateChar, PlateKind, PlateRows, PlateText, Position, grammar,
};
use rand::RngExt as _;

use crate::random::{Random, Weighted};

/// Characters that readers take for each other.
const LOOKALIKES: &[&str] = &[
    "0DOQ",
    "8B3",
    "2Z",
    "5S6",
    "17T",
    "4A",
    "VYU",
    "MNHW",
    "EFL",
    "CG",
    "KX",
    "PR9",
    "UJ",
    "浙湘皖",
    "京琼",
    "苏赣闽",
    "粤冀藏",
    "鲁晋",
    "豫渝",
    "贵桂",
    "川津",
    "吉青",
    "鄂黑",
    "新蒙",
    "甘宁",
    "港澳",
    "警学",
    "领使",
    "应急",
];

/// Reads plates with doubtful and wrong characters.
#[derive(Debug)]
pub(crate) struct Reader {
    /// By the character's place in the alphabet.
    lookalikes: Vec<Vec<PlateChar>>,
}

/// What was read, and whether it is not what stands there.
pub(crate) struct Reading {
    pub(crate) plate: FusedPlate,
    pub(crate) misread: bool,
}

impl Reader {
    pub(crate) fn new() -> Self {
        let alike = |c: PlateChar| {
            let groups = LOOKALIKES.iter().filter(|group| group.contains(c.as_char()));
            groups
                .flat_map(|group| group.chars().filter_map(PlateChar::new))
                .filter(|other| *other != c)
                .collect()
        };
        Self { lookalikes: PlateChar::all().map(alike).collect() }
    }

    /// Reads a plate; wrongly with the given probability.
    pub(crate) fn read(
        &self,
        rng: &mut Random,
        text: &PlateText,
        kind: PlateKind,
        rows: PlateRows,
        error_rate: f64,
    ) -> Reading {
        let truth: Vec<_> = text.chars().collect();
        let slots = grammar::templates(kind)
            .iter()
            .find(|template| {
                template.len() == truth.len()
                    && template.iter().zip(&truth).all(|(slot, c)| slot.allows(*c))
            })
            .copied()
            .unwrap_or_default();
        let wrong = if rng.random_bool(error_rate) {
            self.wrong_places(rng, &truth, slots)
        } else {
            Vec::new()
        };
        let mut read = truth.clone();
        let mut confidence = 1.0_f32;
        let positions = truth.iter().enumerate().map(|(i, c)| {
            let other = self.other(rng, *c, slots.get(i).copied());
            let misread = wrong.contains(&i) && other.is_some();
            let (first, p) = match other {
                Some(other) if misread => (other, rng.random_range(0.42..0.85)),
                // One character in twenty is doubtful, the others are all but certain.
                _ if rng.random_bool(0.05) => (*c, rng.random_range(0.5..0.93)),
                _ => (*c, 1.0 - 0.02 * rng.random::<f64>().powi(4)),
            };
            read[i] = first;
            confidence *= p as f32;
            let mut candidates = vec![Candidate { character: Some(first), probability: p as f32 }];
            let second = if misread { rng.random_bool(0.9).then_some(*c) } else { other };
            if let Some(second) = second {
                let probability = ((1.0 - p) * rng.random_range(0.5..0.95)).min(0.9 * p) as f32;
                candidates.push(Candidate { character: Some(second), probability });
            }
            Position::new(candidates).expect("two different characters, together at most 1")
        });
        let lattice = Lattice::new(positions.collect()).expect("as long as a plate");
        let text = PlateText::from_chars(&read).expect("as long as it was");
        let misread = read != truth;
        let colour = grammar::colours(kind).first().copied();
        let reads = rng.random_range(3..14);
        let plate = FusedPlate { text, kind: Some(kind), colour, rows, lattice, confidence, reads };
        Reading { plate, misread }
    }

    /// One place that is misread, sometimes two: the province oftenest.
    fn wrong_places(
        &self,
        rng: &mut Random,
        truth: &[PlateChar],
        slots: &[grammar::Slot],
    ) -> Vec<usize> {
        let weight = |(i, c): (usize, &PlateChar)| {
            let possible = self.others(*c, slots.get(i).copied()).next().is_some();
            match (possible, c.is_province()) {
                (false, _) => 0.0,
                (true, true) => 2.0,
                (true, false) => 1.0,
            }
        };
        let weights = Weighted::new(truth.iter().enumerate().map(weight));
        let count = if rng.random_bool(0.12) { 2 } else { 1 };
        (0..count).map(|_| weights.pick(rng)).collect()
    }

    /// Another character that may be taken for this one and may stand in the slot.
    fn other(
        &self,
        rng: &mut Random,
        c: PlateChar,
        slot: Option<grammar::Slot>,
    ) -> Option<PlateChar> {
        let count = self.others(c, slot).count();
        (count > 0).then(|| rng.random_range(0..count)).and_then(|n| self.others(c, slot).nth(n))
    }

    fn others(
        &self,
        c: PlateChar,
        slot: Option<grammar::Slot>,
    ) -> impl Iterator<Item = PlateChar> + '_ {
        let fits = move |other: &PlateChar| slot.is_some_and(|slot| slot.allows(*other));
        self.lookalikes[c.index()].iter().copied().filter(fits)
    }
}
