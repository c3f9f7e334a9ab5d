//! How probable it is that a sighting is of a plate, given its reads and what else passes.
//!
//! A lattice says how well its reads fit a text, all texts being equally common. They are not: the car next door with
//! almost the same plate passes every day, and a text that no vehicle ever showed again was probably misread. So
//!
//! P(sought | reads) = L(sought) w(sought) / (Σ L(t) w(t) + L(rest) w(rest)),
//!
//! where L is the lattice's probability, t runs over the texts that were read in that time and that the lattices of the
//! sightings found may be, `rest` is all other texts together, and w is how often a plate passes: the sightings with exactly that text in the time asked about,
//! without the one that is judged, plus 1/2 (the Krichevsky-Trofimov estimate: a plate never seen may pass too); the rest
//! has 1/2.

use std::collections::HashMap;

use guiji_domain::{
    FusedPlate, Lattice, Likely, PlateChar, PlatePattern, PlateState, PlateText, Sighting,
    VehicleClass, VehicleColour,
};

/// A sighting with the probability that it is of the plate.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The sighting.
    pub sighting: Sighting,
    /// The probability that it is what was sought, 0 to 1.
    pub probability: f32,
    /// What the lattice alone says of the plate.
    pub by_reads: f32,
    /// Whether another text was read.
    pub misread: bool,
}

/// How many texts of a lattice are held against each other.
const TEXTS: usize = 4;
/// A less probable text of a lattice is not looked up: it would have to be fifty times as common to matter.
const RIVAL_MIN: f32 = 0.01;

/// The texts whose commonness decides: that which is sought, what was read, and what the reads may be besides; at most
/// `max`, those of the likeliest first.
pub fn rivals(sought: &PlateText, found: &[Likely], max: usize) -> Vec<PlateText> {
    let mut texts = vec![sought.clone()];
    for likely in found {
        let Some(plate) = read_of(&likely.sighting) else { continue };
        let others = others(likely.probability, plate);
        for text in std::iter::once(&plate.text).chain(&others) {
            if texts.len() >= max {
                return texts;
            }
            if !texts.contains(text) {
                texts.push(text.clone());
            }
        }
    }
    texts
}

/// The likeliest texts of a lattice beside the first; none where the one that is sought leaves them too little to
/// matter, as in most that are read right.
fn others(by_reads: f32, plate: &FusedPlate) -> Vec<PlateText> {
    if 1.0 - by_reads < RIVAL_MIN || plate.lattice.second_probability() < RIVAL_MIN {
        return Vec::new();
    }
    let texts = plate.lattice.top_texts_from(TEXTS, RIVAL_MIN);
    texts.into_iter().map(|(text, _)| text).collect()
}

fn read_of(sighting: &Sighting) -> Option<&FusedPlate> {
    match &sighting.plate {
        PlateState::Read(plate) => Some(plate),
        PlateState::Unreadable | PlateState::NotRead => None,
    }
}

/// Judges what the store found by how often each text was read in the time asked about; texts that are not in
/// `counts` count as never. The most probable first, of equal ones the latest.
pub fn rank(
    sought: &PlateText,
    found: Vec<Likely>,
    counts: &HashMap<PlateText, u32>,
) -> Vec<Ranked> {
    let sought_count = counts.get(sought).copied().unwrap_or(0);
    let others = counts.iter().filter(|(text, seen)| *text != sought && **seen > 0);
    let others: Vec<_> = others.map(|(text, seen)| Rival::of(text, sought, *seen)).collect();
    let ranked = found.into_iter().filter_map(|likely| {
        let plate = read_of(&likely.sighting)?;
        let (by_reads, misread) = (likely.probability, plate.text != *sought);
        // Its own reads are no evidence of how common its text is.
        let weight = |text: &PlateText, seen: u32| {
            f64::from(seen.saturating_sub(u32::from(*text == plate.text))) + NEVER_SEEN
        };
        let own = f64::from(by_reads) * weight(sought, sought_count);
        let (mut rivals, mut told) = (0.0, 0.0);
        for rival in &others {
            let p = f64::from(by_reads) * rival.times_as_probable(&plate.lattice);
            rivals += p * weight(rival.text, rival.seen);
            told += p;
        }
        let rest = (1.0 - f64::from(by_reads) - told).max(0.0) * NEVER_SEEN;
        let all = own + rivals + rest;
        let probability = if all > 0.0 { (own / all) as f32 } else { 0.0 };
        Some(Ranked { sighting: likely.sighting, probability, by_reads, misread })
    });
    let mut ranked: Vec<_> = ranked.collect();
    sort(&mut ranked);
    ranked
}

/// A text that competes with the one that is sought.
struct Rival<'a> {
    text: &'a PlateText,
    /// Where they differ: the place, what the rival has there, and what the other has.
    places: Vec<(usize, Option<PlateChar>, Option<PlateChar>)>,
    /// How often it was read.
    seen: u32,
}

impl<'a> Rival<'a> {
    fn of(text: &'a PlateText, sought: &PlateText, seen: u32) -> Self {
        Self { text, places: differing(text, sought).collect(), seen }
    }

    /// What a lattice says of the rival, as a multiple of what it says of the text that is sought. Thousands are held
    /// against each rival, and texts mostly differ in a place or two.
    fn times_as_probable(&self, lattice: &Lattice) -> f64 {
        let at = |place, c| f64::from(lattice.probability_at(place, c));
        self.places
            .iter()
            .map(|(place, own, sought)| at(*place, *own) / at(*place, *sought))
            .product()
    }
}

/// The places in which two texts differ, with what each has there; `None` behind its end.
fn differing(
    one: &PlateText,
    other: &PlateText,
) -> impl Iterator<Item = (usize, Option<PlateChar>, Option<PlateChar>)> {
    let (mut one, mut other) = (one.chars(), other.chars());
    let pairs = (0..PlateText::CHARS_MAX).map(move |place| (place, one.next(), other.next()));
    pairs.filter(|(_, one, other)| one != other)
}

/// What a text weighs that was never read.
const NEVER_SEEN: f64 = 0.5;

fn sort(ranked: &mut [Ranked]) {
    ranked.sort_by(|a, b| {
        let key = |r: &Ranked| (r.sighting.captured.at, r.sighting.id);
        b.probability.total_cmp(&a.probability).then_with(|| key(b).cmp(&key(a)))
    });
}

/// Ranks sightings by the probability that their plate matches a pattern; those below `least` are left out.
pub fn rank_by_pattern(
    pattern: &PlatePattern,
    sightings: Vec<Sighting>,
    least: f32,
) -> Vec<Ranked> {
    let judged = sightings.into_iter().filter_map(|sighting| {
        let plate = read_of(&sighting)?;
        let probability = pattern.probability(&plate.lattice);
        let misread = !pattern.matches(&plate.text);
        (probability >= least).then_some(Ranked {
            sighting,
            probability,
            by_reads: probability,
            misread,
        })
    });
    let mut ranked: Vec<_> = judged.collect();
    sort(&mut ranked);
    ranked
}

/// What is believed of the vehicle beside its plate; empty lists say nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VehicleBelief {
    /// One of these classes.
    pub classes: Vec<VehicleClass>,
    /// One of these body colours.
    pub colours: Vec<VehicleColour>,
}

impl VehicleBelief {
    /// Weighs each sighting with the probability that its vehicle is as believed, taken as independent of the plate, and
    /// sorts anew.
    pub fn weigh(&self, ranked: &mut [Ranked]) {
        for one in &mut *ranked {
            one.probability *= self.probability(&one.sighting);
        }
        sort(ranked);
    }

    /// The probability that the vehicle of a sighting is as believed: its confidence where what was seen is believed,
    /// else the share of what the confidence leaves to the others. Nothing seen says nothing: the believed share of all
    /// classes or colours.
    pub fn probability(&self, sighting: &Sighting) -> f32 {
        share(sighting.vehicle.class, &self.classes, VehicleClass::ALL.len())
            * share(sighting.vehicle.colour, &self.colours, VehicleColour::ALL.len())
    }
}

fn share<T: Copy + PartialEq>(seen: Option<(T, f32)>, believed: &[T], all: usize) -> f32 {
    let count = believed.iter().enumerate().filter(|(i, b)| !believed[..*i].contains(b)).count();
    if count == 0 {
        return 1.0;
    }
    let Some((seen, confidence)) = seen else { return count as f32 / all as f32 };
    let confidence = confidence.clamp(0.0, 1.0);
    let each_other = (1.0 - confidence) / (all - 1).max(1) as f32;
    match believed.contains(&seen) {
        true => confidence + each_other * (count - 1) as f32,
        false => each_other * count as f32,
    }
}

/// A character that was read otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Misreading {
    /// Place in the plate, from 0.
    pub place: usize,
    /// What was read there; `None` where the text that was read had ended.
    pub read: Option<PlateChar>,
    /// What stands there in the plate that was sought; `None` where that has ended.
    pub sought: Option<PlateChar>,
    /// What the reads say of the sought one, 0 to 1.
    pub probability: f32,
}

/// The characters in which a sighting's text differs from a plate.
pub fn misreadings(sighting: &Sighting, sought: &PlateText) -> Vec<Misreading> {
    let Some(plate) = read_of(sighting) else { return Vec::new() };
    differing(&plate.text, sought)
        .map(|(place, read, sought)| {
            let probability = plate.lattice.probability_at(place, sought);
            Misreading { place, read, sought, probability }
        })
        .collect()
}

/// How many of these answers are to be expected not to be what was sought.
pub fn expected_false(probabilities: impl IntoIterator<Item = f32>) -> f64 {
    probabilities.into_iter().map(|p| 1.0 - f64::from(p.clamp(0.0, 1.0))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{camera_at, lattice, plain_lattice, sighting_of, text};
    use guiji_domain::*;

    fn seen(shown: &str, lattice: Lattice, secs: i64) -> Sighting {
        let mut sighting = sighting_of(&camera_at("a", 29.0, 121.0), Timestamp::from_secs(secs));
        sighting.plate = PlateState::Read(FusedPlate {
            text: text(shown),
            kind: None,
            colour: None,
            rows: PlateRows::One,
            confidence: 0.5,
            lattice,
            reads: 3,
        });
        sighting
    }

    /// Read 浙J12345, of which the last may be a 6.
    fn doubtful(secs: i64) -> Sighting {
        let sure = |c| [(c, 1.0)];
        let places = ['浙', 'J', '1', '2', '3', '4'].map(sure);
        let last = [('5', 0.6), ('6', 0.4)];
        let positions: Vec<&[(char, f32)]> =
            places.iter().map(|p| &p[..]).chain([&last[..]]).collect();
        seen("浙J12345", lattice(&positions), secs)
    }

    fn likely(sighting: Sighting, sought: &PlateText) -> Likely {
        let PlateState::Read(plate) = &sighting.plate else { panic!("not read") };
        let (probability, misread) = (plate.lattice.probability(sought), plate.text != *sought);
        Likely { sighting, probability, misread }
    }

    #[test]
    fn the_car_next_door_is_no_misread() {
        let sought = text("浙J12346");
        let judged = |own: u32, next_door: u32| {
            let counts = HashMap::from([(sought.clone(), own), (text("浙J12345"), next_door)]);
            rank(&sought, vec![likely(doubtful(1), &sought)], &counts)[0].probability
        };
        // 0.4 x 30.5 against 0.6 x 0.5 for a text that was read this once.
        assert!((judged(30, 1) - 12.2 / 12.5).abs() < 1e-3);
        // 0.4 x 30.5 against 0.6 x 99.5 for a car that passes three times as often.
        assert!((judged(30, 100) - 12.2 / 71.9).abs() < 1e-3);
        assert!((judged(0, 1) - 0.4).abs() < 1e-3, "nothing known: as the reads say");
    }

    #[test]
    fn a_plate_that_only_a_doubtful_read_shows_is_doubted() {
        // 浙J12345 was read this once; 浙J12346, which it may be too, passes every day.
        let sought = text("浙J12345");
        let counts = HashMap::from([(sought.clone(), 1), (text("浙J12346"), 30)]);
        let judged = &rank(&sought, vec![likely(doubtful(1), &sought)], &counts)[0];
        assert!(!judged.misread);
        // 0.6 x 0.5 against 0.4 x 30.5.
        assert!((judged.probability - 0.3 / 12.5).abs() < 1e-3, "{}", judged.probability);
    }

    #[test]
    fn ranks_by_probability_then_time() {
        let sought = text("浙J12346");
        let exact = |secs| seen("浙J12346", plain_lattice("浙J12346", 0.99), secs);
        let found = [exact(1), doubtful(5), exact(3)].map(|s| likely(s, &sought));
        let counts = HashMap::from([(sought.clone(), 2), (text("浙J12345"), 1)]);
        assert_eq!(rivals(&sought, &found, 9), [sought.clone(), text("浙J12345")]);
        assert_eq!(rivals(&sought, &found, 1).len(), 1);
        let ranked = rank(&sought, found.to_vec(), &counts);
        let shown: Vec<_> = ranked
            .iter()
            .map(|r| (r.sighting.captured.at.as_nanos() / 1_000_000_000, r.misread))
            .collect();
        assert_eq!(shown, [(3, false), (1, false), (5, true)]);
        let wrong = expected_false(ranked.iter().map(|r| r.probability));
        assert!(wrong > 0.0 && wrong < 1.0, "{wrong}");
    }

    #[test]
    fn misreadings_name_place_and_characters() {
        let shown: Vec<_> = misreadings(&doubtful(1), &text("浙JD2346"))
            .iter()
            .map(|m| {
                (
                    m.place,
                    m.read.map(PlateChar::as_char),
                    m.sought.map(PlateChar::as_char),
                    m.probability,
                )
            })
            .collect();
        assert_eq!(shown[0].0, 2);
        assert_eq!((shown[0].1, shown[0].2), (Some('1'), Some('D')));
        assert_eq!((shown[1].0, shown[1].1, shown[1].2), (6, Some('5'), Some('6')));
        assert!((shown[1].3 - 0.4).abs() < 1e-6);
        assert_eq!(misreadings(&doubtful(1), &text("浙J12345")), []);
        assert_eq!(misreadings(&doubtful(1), &text("浙J123456")).len(), 1, "a longer plate");
    }

    #[test]
    fn a_pattern_finds_what_was_read_otherwise() {
        let pattern = PlatePattern::parse("浙J*6").unwrap();
        let other = seen("浙J99999", plain_lattice("浙J99999", 0.99), 9);
        let ranked = rank_by_pattern(&pattern, vec![doubtful(1), other], 1e-2);
        assert_eq!(ranked.len(), 1);
        assert!(ranked[0].misread && (ranked[0].probability - 0.4).abs() < 1e-3);
    }

    #[test]
    fn attributes_are_evidence_not_filters() {
        let belief = VehicleBelief {
            classes: vec![VehicleClass::Car],
            colours: vec![VehicleColour::White, VehicleColour::Silver],
        };
        let with = |class, colour| {
            let mut sighting = doubtful(1);
            sighting.vehicle = Vehicle { class, colour };
            belief.probability(&sighting)
        };
        let car = Some((VehicleClass::Car, 0.9));
        let right = with(car, Some((VehicleColour::White, 0.84)));
        assert!((right - 0.9 * (0.84 + 0.02)).abs() < 1e-5, "{right}");
        let wrong = with(car, Some((VehicleColour::Red, 0.84)));
        assert!((wrong - 0.9 * 0.04).abs() < 1e-5, "{wrong}");
        assert!((with(None, None) - 0.25 * 2.0 / 9.0).abs() < 1e-5);
        assert_eq!(VehicleBelief::default().probability(&doubtful(1)), 1.0);
    }
}
