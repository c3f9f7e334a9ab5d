use std::fmt;

use arrayvec::ArrayString;

use crate::vehicle::words;
use crate::{InvalidValue, Lattice, Quad, grammar};

/// Everything that can stand on a plate, in the order of [`PlateChar::index`]: 31 provinces, digits, letters
/// (no I; O only as an office letter), and the characters of special plates.
const ALPHABET: &str = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼0123456789ABCDEFGHJKLMNOPQRSTUVWXYZ警学挂港澳使领应急民航临";
/// Number of characters of the alphabet.
const ALPHABET_LEN: usize = 31 + 10 + 25 + 12;
/// The alphabet as an array, made at compile time.
const ALPHABET_CHARS: [char; ALPHABET_LEN] = chars_of(ALPHABET);

/// Decodes UTF-8 of one to three bytes a character: what the alphabet holds.
const fn chars_of(text: &str) -> [char; ALPHABET_LEN] {
    let bytes = text.as_bytes();
    let (mut out, mut i, mut n) = (['\0'; ALPHABET_LEN], 0, 0);
    while i < bytes.len() {
        let b = bytes[i] as u32;
        let code = if b < 0x80 {
            i += 1;
            b
        } else {
            let code = ((b & 0x0f) << 12)
                | ((bytes[i + 1] as u32 & 0x3f) << 6)
                | (bytes[i + 2] as u32 & 0x3f);
            i += 3;
            code
        };
        out[n] = match char::from_u32(code) {
            Some(c) => c,
            None => panic!("the alphabet is UTF-8"),
        };
        n += 1;
    }
    assert!(n == ALPHABET_LEN);
    out
}

/// For an ASCII character that stands on no plate.
const NO_PLACE: u8 = u8::MAX;

/// Places of ASCII characters: most of a plate, and so looked up at once.
static PLACE_OF_ASCII: [u8; 128] = {
    let (mut places, mut i) = ([NO_PLACE; 128], 0);
    while i < ALPHABET_LEN {
        let c = ALPHABET_CHARS[i] as usize;
        if c < places.len() {
            places[c] = i as u8;
        }
        i += 1;
    }
    places
};

/// One character that can stand on a plate, a byte long.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlateChar(u8);

impl PlateChar {
    /// How many there are.
    pub const COUNT: usize = ALPHABET_LEN;

    /// The plate character for a character, full-width forms and lower case included. `None` when it can stand on
    /// no plate.
    pub fn new(c: char) -> Option<Self> {
        let c = match c {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0)?,
            c => c,
        }
        .to_ascii_uppercase();
        if let Some(place) = PLACE_OF_ASCII.get(c as usize) {
            return (*place != NO_PLACE).then_some(Self(*place));
        }
        ALPHABET_CHARS.iter().position(|a| *a == c).map(|i| Self(i as u8))
    }

    /// The character at this place of the alphabet.
    pub fn from_index(index: usize) -> Option<Self> {
        (index < Self::COUNT).then_some(Self(index as u8))
    }

    /// Place in the alphabet, below [`Self::COUNT`]. Stable: appended to, never reordered.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// As a `char`.
    pub fn as_char(self) -> char {
        ALPHABET_CHARS[usize::from(self.0)]
    }

    /// Whether it is one of the 31 province characters.
    pub fn is_province(self) -> bool {
        self.0 < 31
    }
    /// Whether it is a digit.
    pub fn is_digit(self) -> bool {
        (31..41).contains(&self.0)
    }
    /// Whether it is a Latin letter.
    pub fn is_letter(self) -> bool {
        (41..66).contains(&self.0)
    }

    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ALPHABET_LEN as u8).map(Self)
    }
}

impl fmt::Display for PlateChar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_char())
    }
}
impl fmt::Debug for PlateChar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_char())
    }
}

/// Nine characters of at most three bytes in UTF-8.
const TEXT_BYTES_MAX: usize = 27;

/// The text of a plate in normal form: upper case, half width, no dots or blanks, 6 to 9 plate characters.
///
/// It need not fit the grammar of any kind ([`Self::kinds`] tells): what somebody reports may be wrong, and a
/// search for it should still be possible.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlateText(ArrayString<TEXT_BYTES_MAX>);

impl PlateText {
    /// Fewest characters of any plate.
    pub const CHARS_MIN: usize = 6;
    /// Most characters of any plate.
    pub const CHARS_MAX: usize = 9;

    /// Reads what people write: dots, blanks and dashes are dropped, full-width and lower-case forms folded.
    ///
    /// # Errors
    /// When a character can stand on no plate, or there are too few or too many.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let mut chars = Vec::with_capacity(Self::CHARS_MAX);
        for c in text.chars() {
            if c.is_whitespace() || "·•.-‧・●".contains(c) {
                continue;
            }
            let Some(plate_char) = PlateChar::new(c) else {
                return Err(InvalidValue::new("plate", text, unknown_character(c)));
            };
            chars.push(plate_char);
            if chars.len() > Self::CHARS_MAX {
                break;
            }
        }
        Self::from_chars(&chars).ok_or_else(|| {
            InvalidValue::new(
                "plate",
                text,
                "a plate has 6 to 9 characters, like 浙J12345 or 浙JD12345",
            )
        })
    }

    /// From plate characters. `None` when there are fewer than 6 or more than 9.
    pub fn from_chars(chars: &[PlateChar]) -> Option<Self> {
        if !(Self::CHARS_MIN..=Self::CHARS_MAX).contains(&chars.len()) {
            return None;
        }
        let mut text = ArrayString::new();
        chars.iter().for_each(|c| text.push(c.as_char()));
        Some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its characters.
    pub fn chars(&self) -> impl Iterator<Item = PlateChar> + '_ {
        self.0.chars().filter_map(PlateChar::new)
    }

    /// The kinds of plate whose grammar it fits; empty for an impossible text.
    pub fn kinds(&self) -> Vec<PlateKind> {
        let chars: Vec<_> = self.chars().collect();
        PlateKind::ALL.iter().copied().filter(|kind| grammar::fits(*kind, &chars)).collect()
    }
}

pub(crate) fn unknown_character(c: char) -> String {
    match c {
        'I' | 'i' => "the letter I is not used on plates: is it the digit 1?".into(),
        c => format!("{c:?} stands on no plate"),
    }
}

impl fmt::Display for PlateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
impl fmt::Debug for PlateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}
impl std::str::FromStr for PlateText {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::parse(text)
    }
}

/// The kinds of plates, after GA 36-2018 and what lies outside it. Their grammars are in [`grammar`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlateKind {
    /// 小型汽车: blue.
    Small,
    /// 大型汽车: yellow; one row in front, two behind.
    Large,
    /// 挂车: yellow, two rows, ends in 挂.
    Trailer,
    /// 教练: yellow, ends in 学.
    Coach,
    /// 小型新能源: green, 8 characters.
    NewEnergySmall,
    /// 大型新能源: yellow-green, 8 characters.
    NewEnergyLarge,
    /// 警车: white, ends in 警.
    Police,
    /// 应急: white, ends in 应急.
    Emergency,
    /// 港澳入出境: black, 粤Z, ends in 港 or 澳.
    HongKongMacau,
    /// 使馆: black, with 使.
    Embassy,
    /// 领馆: black, ends in 领.
    Consulate,
    /// 摩托车: yellow or blue, two rows.
    Motorcycle,
    /// 低速车: yellow, two rows.
    LowSpeed,
    /// 临时: paper.
    Temporary,
    /// 武警: white, begins with WJ.
    ArmedPolice,
    /// 军车: white, two letters and five digits.
    Military,
    /// 拖拉机: green, two rows.
    Tractor,
    /// 民航: begins with 民航.
    CivilAviation,
}
words!(
    PlateKind, "plate kind",
    Small => "small", Large => "large", Trailer => "trailer", Coach => "coach",
    NewEnergySmall => "new-energy-small", NewEnergyLarge => "new-energy-large", Police => "police",
    Emergency => "emergency", HongKongMacau => "hong-kong-macau", Embassy => "embassy",
    Consulate => "consulate", Motorcycle => "motorcycle", LowSpeed => "low-speed",
    Temporary => "temporary", ArmedPolice => "armed-police", Military => "military",
    Tractor => "tractor", CivilAviation => "civil-aviation",
);

/// The ground colour of a plate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlateColour {
    /// White text.
    Blue,
    /// Black text.
    Yellow,
    /// Green gradient, black text.
    Green,
    /// Left part yellow, right part green.
    YellowGreen,
    /// Black text, some characters red.
    White,
    /// White text.
    Black,
}
words!(
    PlateColour, "plate colour",
    Blue => "blue", Yellow => "yellow", Green => "green", YellowGreen => "yellow-green",
    White => "white", Black => "black",
);

/// How the characters are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlateRows {
    /// All in one row.
    One,
    /// Two characters above, the rest below.
    Two,
}
words!(PlateRows, "plate rows", One => "one", Two => "two");

/// What was read from one crop of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct PlateRead {
    /// The distribution over texts.
    pub lattice: Lattice,
    /// Rows, with a probability.
    pub rows: (PlateRows, f32),
    /// Colour, with a probability; `None` where it could not be judged.
    pub colour: Option<(PlateColour, f32)>,
    /// Corners in the full-resolution frame.
    pub corners: Quad,
    /// The plate detector's score, 0 to 1.
    pub detector_score: f32,
    /// Sharpness of the rectified crop, 0 (flat or blurred) to 1: weighs the read in a fusion.
    pub sharpness: f32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_alphabet_is_what_it_says() {
        let of = |test: fn(PlateChar) -> bool| PlateChar::all().filter(|c| test(*c)).count();
        assert_eq!(of(PlateChar::is_province), 31);
        assert_eq!(of(PlateChar::is_digit), 10);
        assert_eq!(of(PlateChar::is_letter), 25);
        assert_eq!(PlateChar::new('I'), None);
        for c in PlateChar::all() {
            assert_eq!(PlateChar::new(c.as_char()), Some(c));
            assert_eq!(PlateChar::from_index(c.index()), Some(c));
        }
    }

    #[test]
    fn people_write_plates_in_many_ways() {
        for text in
            ["浙J12345", "浙j·12345", "浙J-12345", "浙 J 12345", "浙Ｊ１２３４５", "浙J•12345"]
        {
            assert_eq!(PlateText::parse(text).unwrap().as_str(), "浙J12345", "{text}");
        }
    }

    #[test]
    fn wrong_plates_say_what_is_wrong() {
        for (text, hint) in [
            ("浙JI2345", "digit 1"),
            ("浙J12", "6 to 9"),
            ("浙J1234567890", "6 to 9"),
            ("浙J1234?", "stands on no plate"),
            ("", "6 to 9"),
        ] {
            let error = PlateText::parse(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_idempotent(text in "\\PC{0,16}") {
            if let Ok(plate) = PlateText::parse(&text) {
                prop_assert_eq!(PlateText::parse(plate.as_str()).unwrap(), plate);
            }
        }
    }
}
