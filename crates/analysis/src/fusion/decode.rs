use std::rc::Rc;
use std::sync::LazyLock;

use guiji_domain::grammar::{self, Slot, Template};
use guiji_domain::{Lattice, PlateChar, PlateColour, PlateKind, PlateRows, PlateText};

use super::dense::{Dense, NOTHING, SYMBOLS, spell_out};

/// A text that the lattice may mean.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedText {
    /// The text; it fits the grammar.
    pub text: PlateText,
    /// The kinds whose grammar it fits, likeliest first, with their shares given text, colour and rows (sum 1).
    pub kinds: Vec<(PlateKind, f32)>,
    /// Probability of this text, 0 to 1.
    pub posterior: f32,
}

/// What a lattice means under the grammar.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoding {
    /// The likeliest texts, best first, at most [`Decoding::TEXTS_MAX`]; those below 1e-5 are left out.
    pub texts: Vec<DecodedText>,
    /// Probability that none of the grammatical texts is right: a lost character, no plate at all, a foreign one.
    pub unreadable: f32,
}

impl Decoding {
    /// How many texts are listed.
    pub const TEXTS_MAX: usize = 8;
}

/// Reads a lattice under the plate grammar, with colour and rows (each with its probability) as soft evidence.
///
/// Bayes' rule over grammatical texts and one alternative, *unreadable*:
/// `posterior(text) = lattice(text) · prior(kinds of text | colour, rows) / (sum of the same over all texts + unreadable)`.
/// A character that cannot stand at its place hands half of its probability to the look-alike that can (O to 0 in
/// a serial), the other half to *unreadable*. Colour and rows that disagree lower a kind, never exclude it; but a
/// text of seven characters on a confidently green plate is a lost character, never an answer.
pub fn decode(
    lattice: &Lattice,
    colour: Option<(PlateColour, f32)>,
    rows: Option<(PlateRows, f32)>,
) -> Decoding {
    decode_dense(&spell_out(lattice), Appearance { colour, rows }).decoding()
}

/// The soft evidence beside the characters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Appearance {
    pub(super) colour: Option<(PlateColour, f32)>,
    pub(super) rows: Option<(PlateRows, f32)>,
}

impl Appearance {
    pub(super) fn confidently_green(self) -> bool {
        self.colour.is_some_and(|(c, p)| {
            matches!(c, PlateColour::Green | PlateColour::YellowGreen) && p >= CONFIDENTLY_GREEN
        })
    }
}

/// One form and the probability of every character at each of its places.
struct Form {
    kinds: Vec<(PlateKind, f32)>,
    places: Vec<Rc<Place>>,
    /// Sum over the form's texts of lattice × prior, not yet normalised.
    weight: f64,
}

/// What may stand at one place of a form, with its probability.
struct Place {
    choices: Vec<(PlateChar, f64)>,
    /// Sum of the choices' probabilities.
    mass: f64,
}

/// All forms weighed against each other and against *unreadable*.
pub(super) struct Weighed {
    forms: Vec<Form>,
    unreadable: f64,
    positions: usize,
}

/// Weight of *unreadable* for a lattice that fits the grammar in every place: readers are never perfect.
const UNREADABLE_ALWAYS: f64 = 0.002;
/// Weight of *unreadable* per probability that lies outside the grammar.
const UNREADABLE_OUTSIDE: f64 = 0.03;
/// From this probability on a green plate makes seven characters impossible.
const CONFIDENTLY_GREEN: f32 = 0.8;
/// What a kind keeps when colour or rows are surely another's.
const DISAGREEMENT_KEEPS: f32 = 0.03;
/// Texts less likely than this are not listed.
const POSTERIOR_MIN: f64 = 1e-5;
/// What a character that cannot stand at its place hands to its look-alike.
const HANDED_TO_LOOK_ALIKE: f32 = 0.5;

/// What a character is most easily mistaken for on plates, likeliest first (field notes, section 3).
const LOOK_ALIKES: [(char, &str); 18] = [
    ('O', "0DQ"),
    ('0', "DOQ"),
    ('D', "0OQ"),
    ('Q', "0OD"),
    ('8', "B"),
    ('B', "8"),
    ('2', "Z"),
    ('Z', "2"),
    ('5', "S"),
    ('S', "5"),
    ('6', "G"),
    ('G', "6"),
    ('4', "A"),
    ('A', "4"),
    ('1', "LT"),
    ('L', "1"),
    ('7', "T"),
    ('T', "71"),
];

/// How common a kind is, relative to small cars. Compressed towards 1: a rare kind must stay readable.
fn prior(kind: PlateKind) -> f32 {
    match kind {
        PlateKind::Small => 1.0,
        PlateKind::NewEnergySmall => 0.8,
        PlateKind::Large => 0.3,
        PlateKind::NewEnergyLarge => 0.2,
        PlateKind::Police | PlateKind::Trailer | PlateKind::Coach | PlateKind::Military => 0.15,
        PlateKind::HongKongMacau
        | PlateKind::Embassy
        | PlateKind::Consulate
        | PlateKind::Emergency
        | PlateKind::ArmedPolice => 0.1,
        PlateKind::Motorcycle | PlateKind::Temporary => 0.05,
        PlateKind::LowSpeed | PlateKind::Tractor | PlateKind::CivilAviation => 0.03,
    }
}

fn appearance_likelihood(kind: PlateKind, appearance: Appearance) -> f32 {
    let soft = |fits: bool, p: f32, others: usize| {
        let p = p.clamp(0.0, 1.0);
        // What is not said of the named value is spread over the others.
        let fit = if fits { p } else { (1.0 - p) / others as f32 };
        DISAGREEMENT_KEEPS + (1.0 - DISAGREEMENT_KEEPS) * fit
    };
    let colour = appearance.colour.map_or(1.0, |(c, p)| {
        soft(grammar::colours(kind).contains(&c), p, PlateColour::ALL.len() - 1)
    });
    let rows = appearance.rows.map_or(1.0, |(r, p)| soft(grammar::rows(kind).contains(&r), p, 1));
    colour * rows
}

/// A distinct form, with the kinds that share it. Forms are disjoint (a test proves it), so no text counts twice.
struct KnownForm {
    template: Template,
    kinds: Vec<PlateKind>,
    /// For each place, which of [`Grammar::slots`] it takes.
    slots: Vec<usize>,
}

/// What a slot takes, and which character hands its probability to which look-alike there.
struct KnownSlot {
    slot: Slot,
    allowed: Vec<PlateChar>,
    heirs: Vec<(PlateChar, PlateChar)>,
}

/// The plate grammar, prepared once.
struct Grammar {
    forms: Vec<KnownForm>,
    slots: Vec<KnownSlot>,
}

static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| {
    let mut grammar = Grammar { forms: Vec::new(), slots: Vec::new() };
    for kind in PlateKind::ALL {
        for template in grammar::templates(*kind) {
            match grammar.forms.iter_mut().find(|form| form.template == *template) {
                Some(form) => form.kinds.push(*kind),
                None => {
                    let slots = template.iter().map(|slot| grammar.slot(*slot)).collect();
                    grammar.forms.push(KnownForm { template, kinds: vec![*kind], slots });
                }
            }
        }
    }
    grammar
});

impl Grammar {
    fn slot(&mut self, slot: Slot) -> usize {
        self.slots.iter().position(|known| known.slot == slot).unwrap_or_else(|| {
            self.slots.push(KnownSlot::new(slot));
            self.slots.len() - 1
        })
    }
}

impl KnownSlot {
    fn new(slot: Slot) -> Self {
        let heir = |c: PlateChar| {
            let (_, alike) = LOOK_ALIKES.iter().find(|(own, _)| *own == c.as_char())?;
            alike.chars().filter_map(PlateChar::new).find(|a| slot.allows(*a))
        };
        Self {
            slot,
            allowed: PlateChar::all().filter(|c| slot.allows(*c)).collect(),
            heirs: PlateChar::all()
                .filter(|c| !slot.allows(*c))
                .filter_map(|c| Some((c, heir(c)?)))
                .collect(),
        }
    }
}

pub(super) fn decode_dense(positions: &[Dense], appearance: Appearance) -> Weighed {
    let green = appearance.confidently_green();
    let (mut forms, mut inside, mut lost) = (Vec::new(), 0.0, 0.0);
    let mut known = KnownPlaces::default();
    let fitting = GRAMMAR.forms.iter().filter(|f| f.template.len() <= positions.len());
    for KnownForm { template, kinds, slots } in fitting {
        let places: Vec<_> =
            slots.iter().enumerate().map(|(i, slot)| known.place(*slot, i, positions)).collect();
        let tail: f64 = positions[template.len()..].iter().map(|p| f64::from(p[NOTHING])).product();
        let mass = tail * places.iter().map(|p| p.mass).product::<f64>();
        inside += mass;
        let lost_character = |kind: &PlateKind| {
            green && template.len() == 7 && !grammar::colours(*kind).contains(&PlateColour::Green)
        };
        let kinds: Vec<_> = kinds
            .iter()
            .filter(|k| !lost_character(k))
            .map(|k| (*k, prior(*k) * appearance_likelihood(*k, appearance)))
            .collect();
        if kinds.is_empty() {
            lost += mass;
            continue;
        }
        let weight = mass * kinds.iter().map(|(_, w)| f64::from(*w)).sum::<f64>();
        forms.push(Form { kinds, places, weight });
    }
    let unreadable = UNREADABLE_ALWAYS + UNREADABLE_OUTSIDE * (1.0 - inside).max(0.0) + lost;
    Weighed { forms, unreadable, positions: positions.len() }
}

/// Places worked out already: most forms share their slots.
#[derive(Default)]
struct KnownPlaces(Vec<(usize, usize, Rc<Place>)>);

impl KnownPlaces {
    fn place(&mut self, slot: usize, index: usize, positions: &[Dense]) -> Rc<Place> {
        if let Some((_, _, place)) = self.0.iter().find(|(s, i, _)| *s == slot && *i == index) {
            return Rc::clone(place);
        }
        let place = Rc::new(Place::new(&GRAMMAR.slots[slot], &positions[index]));
        self.0.push((slot, index, Rc::clone(&place)));
        place
    }
}

impl Place {
    fn new(slot: &KnownSlot, dense: &Dense) -> Self {
        let mut dense = *dense;
        for (c, heir) in &slot.heirs {
            dense[heir.index()] += HANDED_TO_LOOK_ALIKE * dense[c.index()];
        }
        let choices: Vec<_> =
            slot.allowed.iter().map(|c| (*c, f64::from(dense[c.index()]))).collect();
        let mass = choices.iter().map(|(_, p)| p).sum();
        Self { choices, mass }
    }

    fn best(&self, n: usize) -> Vec<(PlateChar, f64)> {
        let mut best = self.choices.clone();
        best.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        best.truncate(n);
        best
    }
}

impl Weighed {
    /// Sum over all grammatical texts of lattice × prior: how well the lattice fits the grammar at all.
    pub(super) fn evidence(&self) -> f64 {
        self.forms.iter().map(|f| f.weight).sum()
    }

    fn total(&self) -> f64 {
        self.evidence() + self.unreadable
    }

    /// Texts and posteriors.
    pub(super) fn decoding(&self) -> Decoding {
        let total = self.total();
        let mut texts: Vec<_> = self
            .forms
            .iter()
            .filter(|form| form.weight / total >= POSTERIOR_MIN)
            .flat_map(|form| form.best_texts(total))
            .filter(|text| f64::from(text.posterior) >= POSTERIOR_MIN)
            .collect();
        texts.sort_by(|a, b| b.posterior.total_cmp(&a.posterior).then(a.text.cmp(&b.text)));
        texts.truncate(Decoding::TEXTS_MAX);
        Decoding { texts, unreadable: (self.unreadable / total) as f32 }
    }

    /// Marginals under the grammar: what each position says once impossible texts are gone. The probability that a
    /// lattice made of them gives a text is, up to the independence of positions, the text's posterior.
    pub(super) fn marginals(&self) -> Vec<Dense> {
        let evidence = self.evidence();
        let readable = evidence / self.total();
        // Each position keeps its share of "readable", so that the product over positions has it once.
        let share = readable.powf(1.0 / self.positions.max(1) as f64);
        let mut marginals = vec![[0.0_f32; SYMBOLS]; self.positions];
        if evidence <= 0.0 {
            return marginals;
        }
        for form in &self.forms {
            let weight = form.weight / evidence * share;
            for (i, dense) in marginals.iter_mut().enumerate() {
                let Some(place) = form.places.get(i).filter(|p| p.mass > 0.0) else {
                    dense[NOTHING] += weight as f32;
                    continue;
                };
                for (c, p) in &place.choices {
                    dense[c.index()] += (weight * p / place.mass) as f32;
                }
            }
        }
        marginals
    }
}

impl Form {
    /// The likeliest texts of this form: the best products, position by position. Keeping the best few of every
    /// prefix is exact, since a prefix of a best text is a best prefix.
    fn best_texts(&self, total: f64) -> Vec<DecodedText> {
        let mass: f64 = self.places.iter().map(|p| p.mass).product();
        if mass <= 0.0 {
            return Vec::new();
        }
        let mut prefixes: Vec<(Vec<PlateChar>, f64)> = vec![(Vec::new(), 1.0)];
        for place in &self.places {
            let best = place.best(Decoding::TEXTS_MAX);
            let mut longer: Vec<_> = (0..prefixes.len())
                .flat_map(|i| (0..best.len()).map(move |j| (i, j)))
                .map(|(i, j)| (prefixes[i].1 * best[j].1, i, j))
                .collect();
            longer.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            longer.truncate(Decoding::TEXTS_MAX);
            prefixes = longer
                .into_iter()
                .map(|(p, i, j)| {
                    (prefixes[i].0.iter().copied().chain([best[j].0]).collect::<Vec<_>>(), p)
                })
                .collect();
        }
        let sum: f32 = self.kinds.iter().map(|(_, w)| w).sum();
        let mut kinds: Vec<_> = self.kinds.iter().map(|(k, w)| (*k, w / sum)).collect();
        kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
        prefixes
            .into_iter()
            .filter_map(|(chars, p)| {
                Some(DecodedText {
                    text: PlateText::from_chars(&chars)?,
                    kinds: kinds.clone(),
                    posterior: (p / mass * self.weight / total) as f32,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Noise, lattice, noisy_lattice, plain_lattice, text};

    const EVERY_KIND: [(PlateKind, &str); 22] = {
        use PlateKind::*;
        [
            (Small, "浙J12345"),
            (Small, "粤O1A2B3"),
            (Large, "浙J8A123"),
            (Trailer, "鲁QA12B挂"),
            (Coach, "浙J1234学"),
            (NewEnergySmall, "浙JD12345"),
            (NewEnergySmall, "浙JFA2345"),
            (NewEnergyLarge, "浙J12345D"),
            (Police, "浙OA123警"),
            (Emergency, "浙X1234应急"),
            (HongKongMacau, "粤ZG96Y澳"),
            (Embassy, "224578使"),
            (Embassy, "使198476"),
            (Consulate, "沪A1234领"),
            (Motorcycle, "浙J12345"),
            (LowSpeed, "浙J12345"),
            (Temporary, "浙J12345临"),
            (ArmedPolice, "WJ12345"),
            (ArmedPolice, "WJ浙1234X"),
            (Military, "VA30093"),
            (Tractor, "浙0112345"),
            (CivilAviation, "民航A1234"),
        ]
    };

    #[test]
    fn every_kind_decodes_from_noisy_lattices() {
        let mut noise = Noise(7);
        for kind in PlateKind::ALL {
            assert!(EVERY_KIND.iter().any(|(k, _)| k == kind), "an example for {kind}");
        }
        for (kind, plate) in EVERY_KIND {
            let right = (0..40)
                .filter(|_| {
                    let noisy = noisy_lattice(&text(plate), 4.0, &mut noise);
                    let colour = Some((grammar::colours(kind)[0], 0.9));
                    let decoding = decode(&noisy, colour, Some((grammar::rows(kind)[0], 0.9)));
                    decoding.texts.first().is_some_and(|t| {
                        t.text.as_str() == plate && t.kinds.iter().any(|(k, _)| *k == kind)
                    })
                })
                .count();
            assert!(right >= 34, "{kind} {plate}: {right} of 40");
        }
    }

    #[test]
    fn look_alikes_are_resolved_by_their_place() {
        // No O in a serial.
        let decoding = decode(&plain_lattice("浙J1O34O", 0.98), None, None);
        assert_eq!(decoding.texts[0].text.as_str(), "浙J10340");
        // D, Q and B may stand in a serial and stay.
        let decoding = decode(&plain_lattice("浙JDQ2B4", 0.98), None, None);
        assert_eq!(decoding.texts[0].text.as_str(), "浙JDQ2B4");
        // A small new-energy plate has digits in its last four places: B is 8, D is 0, S is 5.
        let decoding =
            decode(&plain_lattice("浙JDAB1DS", 0.98), Some((PlateColour::Green, 0.9)), None);
        assert_eq!(decoding.texts[0].text.as_str(), "浙JDA8105");
        // The office place takes no digit: 8 is B.
        let decoding = decode(&plain_lattice("浙812345", 0.98), None, None);
        assert_eq!(decoding.texts[0].text.as_str(), "浙B12345");
    }

    #[test]
    fn impossible_texts_get_no_probability() {
        let decoding = decode(&plain_lattice("浙3J2345", 0.99), None, None);
        assert!(decoding.texts.iter().all(|t| !t.text.kinds().is_empty()));
        assert!(decoding.unreadable > 0.5, "{decoding:?}");
        assert!(decode(&Lattice::new(Vec::new()).unwrap(), None, None).texts.is_empty());
    }

    #[test]
    fn seven_characters_on_a_green_plate_are_a_lost_one() {
        let read = plain_lattice("浙JD1234", 0.99);
        let green = decode(&read, Some((PlateColour::Green, 0.95)), None);
        assert!(green.unreadable > 0.9, "{green:?}");
        let doubtful = decode(&read, Some((PlateColour::Green, 0.6)), None);
        assert!(doubtful.texts[0].posterior > 0.7, "{doubtful:?}");
    }

    #[test]
    fn colour_lowers_and_never_zeroes() {
        let read = plain_lattice("浙J12345", 0.995);
        let at = |colour| decode(&read, Some((colour, 0.97)), None).texts[0].posterior;
        assert!(at(PlateColour::Blue) > at(PlateColour::White));
        assert!(at(PlateColour::White) > 0.5);
    }

    #[test]
    fn colour_tells_kinds_of_one_form_apart() {
        let read = plain_lattice("浙J12345", 0.995);
        let kind = |colour, rows| {
            decode(&read, Some((colour, 0.95)), Some((rows, 0.95))).texts[0].kinds[0].0
        };
        assert_eq!(kind(PlateColour::Blue, PlateRows::One), PlateKind::Small);
        assert_eq!(kind(PlateColour::Yellow, PlateRows::Two), PlateKind::Large);
    }

    #[test]
    fn an_absent_last_position_makes_lengths_compete() {
        let mut positions: Vec<&[(char, f32)]> =
            vec![&[('浙', 0.99)], &[('J', 0.99)], &[('D', 0.99)], &[('1', 0.99)]];
        positions.extend::<[&[(char, f32)]; 4]>([
            &[('2', 0.99)],
            &[('3', 0.99)],
            &[('4', 0.99)],
            &[('_', 0.6), ('5', 0.39)],
        ]);
        let read = lattice(&positions);
        let best = |colour| decode(&read, Some((colour, 0.9)), None).texts[0].text.clone();
        assert_eq!(best(PlateColour::Blue).as_str(), "浙JD1234");
        assert_eq!(best(PlateColour::Green).as_str(), "浙JD12345");
    }

    #[test]
    fn no_text_has_two_forms() {
        let both = |a: Slot, b: Slot| PlateChar::all().any(|c| a.allows(c) && b.allows(c));
        for (i, a) in GRAMMAR.forms.iter().enumerate() {
            for b in &GRAMMAR.forms[i + 1..] {
                let (a, b) = (a.template, b.template);
                let overlap = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| both(*a, *b));
                assert!(!overlap, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn posteriors_add_up() {
        let mut noise = Noise(3);
        for _ in 0..200 {
            let decoding = decode(&noisy_lattice(&text("浙J12345"), 2.0, &mut noise), None, None);
            let sum: f32 = decoding.texts.iter().map(|t| t.posterior).sum();
            assert!(sum + decoding.unreadable <= 1.0 + 1e-4, "{decoding:?}");
        }
    }
}
