//! The grammar of Chinese plates: which character may stand where, for each kind.
//!
//! After GA 36-2018 as public code states it; the standard's own text was not at hand, and rules marked *unverified*
//! come from general knowledge. A rule that is too narrow hides a suspect, so where sources differ the wider one
//! stands. Letter positions take O only where an office letter stands (legacy provincial bureaus used it), and the
//! serial positions take neither I nor O.

use crate::{PlateChar, PlateColour, PlateKind, PlateRows};

/// What may stand at one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// One of the 31 province characters.
    Province,
    /// The issuing office: A-Z without I.
    Office,
    /// Serial: A-Z without I and O, or a digit.
    Serial,
    /// A digit.
    Digit,
    /// One of these characters.
    OneOf(&'static str),
}

impl Slot {
    /// Whether the character may stand here.
    pub fn allows(self, c: PlateChar) -> bool {
        match self {
            Self::Province => c.is_province(),
            Self::Office => c.is_letter(),
            Self::Serial => c.is_digit() || (c.is_letter() && c.as_char() != 'O'),
            Self::Digit => c.is_digit(),
            Self::OneOf(set) => set.contains(c.as_char()),
        }
    }
}

/// Why one plate's form is as it is: a sequence of slots.
pub type Template = &'static [Slot];

use Slot::{Digit as D, Office as L, OneOf, Province as P, Serial as S};

/// Energy letters of new-energy plates: D A B C E pure electric, F G H J K other (the letters beyond D and F are
/// unverified).
const ENERGY: Slot = OneOf("DFABCEGHJK");
/// Last character of armed-police plates.
const ARMED: Slot = OneOf("0123456789TDSHBXJ");

const ORDINARY: &[Template] = &[&[P, L, S, S, S, S, S]];

/// The forms that a kind of plate can take.
pub fn templates(kind: PlateKind) -> &'static [Template] {
    match kind {
        PlateKind::Small | PlateKind::Large | PlateKind::Motorcycle | PlateKind::LowSpeed => {
            ORDINARY
        }
        PlateKind::Trailer => &[&[P, L, S, S, S, S, OneOf("挂")]],
        PlateKind::Coach => &[&[P, L, S, S, S, S, OneOf("学")]],
        PlateKind::NewEnergySmall => &[&[P, L, ENERGY, S, D, D, D, D]],
        PlateKind::NewEnergyLarge => &[&[P, L, D, D, D, D, D, ENERGY]],
        PlateKind::Police => &[&[P, L, S, S, S, S, OneOf("警")]],
        // Unverified: X fire and rescue, S forest fire.
        PlateKind::Emergency => &[&[P, OneOf("XS"), D, D, D, D, OneOf("应"), OneOf("急")]],
        PlateKind::HongKongMacau => &[&[OneOf("粤"), OneOf("Z"), S, S, S, S, OneOf("港澳")]],
        // Three digits of country and three of vehicle; the older form has 使 in front.
        PlateKind::Embassy => &[&[D, D, D, D, D, D, OneOf("使")], &[OneOf("使"), D, D, D, D, D, D]],
        PlateKind::Consulate => &[&[P, L, D, D, D, D, OneOf("领")]],
        // Unverified.
        PlateKind::Temporary => &[&[P, L, S, S, S, S, S, OneOf("临")]],
        PlateKind::ArmedPolice => &[
            &[OneOf("W"), OneOf("J"), D, D, D, D, ARMED],
            &[OneOf("W"), OneOf("J"), P, D, D, D, D, ARMED],
        ],
        PlateKind::Military => &[&[OneOf("VKHBSLJNGCE"), OneOf("ABCDJKLMNOPRSTVY"), D, D, D, D, D]],
        PlateKind::Tractor => &[&[P, D, D, S, S, S, S, S]],
        // Unverified.
        PlateKind::CivilAviation => &[&[OneOf("民"), OneOf("航"), L, S, S, S, S]],
    }
}

/// Whether the characters fit a form of the kind.
pub fn fits(kind: PlateKind, chars: &[PlateChar]) -> bool {
    templates(kind).iter().any(|template| {
        template.len() == chars.len() && template.iter().zip(chars).all(|(slot, c)| slot.allows(*c))
    })
}

/// The ground colours that a kind has.
pub fn colours(kind: PlateKind) -> &'static [PlateColour] {
    use PlateColour::{Black, Blue, Green, White, Yellow, YellowGreen};
    match kind {
        PlateKind::Small => &[Blue],
        PlateKind::Large | PlateKind::Trailer | PlateKind::Coach | PlateKind::LowSpeed => &[Yellow],
        PlateKind::NewEnergySmall => &[Green],
        PlateKind::NewEnergyLarge => &[YellowGreen, Green],
        PlateKind::Police
        | PlateKind::Emergency
        | PlateKind::ArmedPolice
        | PlateKind::Military
        | PlateKind::Temporary => &[White],
        PlateKind::HongKongMacau | PlateKind::Embassy | PlateKind::Consulate => &[Black],
        PlateKind::Motorcycle => &[Yellow, Blue],
        PlateKind::Tractor | PlateKind::CivilAviation => &[Green],
    }
}

/// The layouts that a kind has.
pub fn rows(kind: PlateKind) -> &'static [PlateRows] {
    use PlateRows::{One, Two};
    match kind {
        PlateKind::Trailer | PlateKind::Motorcycle | PlateKind::LowSpeed | PlateKind::Tractor => {
            &[Two]
        }
        PlateKind::Large | PlateKind::ArmedPolice | PlateKind::Military => &[One, Two],
        _ => &[One],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlateText;

    fn kinds(text: &str) -> Vec<PlateKind> {
        PlateText::parse(text).unwrap().kinds()
    }

    #[test]
    fn every_kind_has_examples() {
        use PlateKind::*;
        for (kind, examples) in [
            (Small, ["浙J12345", "粤O1A2B3"].as_slice()),
            (Large, &["浙J8A123"]),
            (Trailer, &["浙J1234挂", "鲁QA12B挂"]),
            (Coach, &["浙J1234学"]),
            (NewEnergySmall, &["浙JD12345", "浙JFA2345", "浙AK12345"]),
            (NewEnergyLarge, &["浙J12345D", "粤B00001F"]),
            (Police, &["浙J1234警", "浙OA123警"]),
            (Emergency, &["浙X1234应急", "川S0001应急"]),
            (HongKongMacau, &["粤Z1234港", "粤ZG96Y澳"]),
            (Embassy, &["224578使", "使198476"]),
            (Consulate, &["沪A1234领"]),
            (Motorcycle, &["浙J12345"]),
            (LowSpeed, &["浙J12345"]),
            (Temporary, &["浙J12345临"]),
            (ArmedPolice, &["WJ12345", "WJ浙1234X", "WJ1234T"]),
            (Military, &["VA30093", "KO12345"]),
            (Tractor, &["浙0112345"]),
            (CivilAviation, &["民航A1234"]),
        ] {
            for example in examples {
                assert!(kinds(example).contains(&kind), "{example} is {kind}");
            }
        }
        assert_eq!(PlateKind::ALL.len(), 18, "add examples for a new kind");
    }

    #[test]
    fn impossible_texts_fit_nothing() {
        for text in [
            "浙112345",   // a digit as office letter
            "浙J1234O",   // O in the serial
            "AJ12345",    // no province, and not military: J is no second letter there
            "浙JZ12345",  // 8 characters without an energy letter
            "浙J123456",  // 8 digits without one
            "浙JD123456", // 9 characters
            "粤Z12345港", // five serial characters: some regular expressions take it
            "浙B1234港",  // 港 outside 粤Z
        ] {
            assert!(kinds(text).is_empty(), "{text}: {:?}", kinds(text));
        }
    }

    #[test]
    fn seven_characters_are_never_a_green_plate() {
        for kind in PlateKind::ALL.iter().filter(|k| {
            colours(**k).contains(&PlateColour::Green) && **k != PlateKind::CivilAviation
        }) {
            assert!(templates(*kind).iter().all(|t| t.len() == 8), "{kind}");
        }
    }
}
