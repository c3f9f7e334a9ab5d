use std::fmt::Write;

use guiji_domain::InvalidValue;
use prost::Message;
use sha2::{Digest, Sha256};

/// The question that a page token belongs to.
///
/// A token is hexadecimal: a version byte, eight bytes of the question's SHA-256, and the place after which the next
/// page begins. It is opaque to clients, holds no secret and outlives a restart. It guards against mistakes, not
/// against forgery: a forged one shows nothing that a question of one's own would not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageScope([u8; 8]);

const VERSION: u8 = 1;

impl PageScope {
    /// The scope of a kind of list and those parts of the request that decide which answers there are, in which
    /// order.
    pub(crate) fn of(list: &str, question: &impl Message) -> Self {
        let hash = Sha256::new()
            .chain_update(list)
            .chain_update([0])
            .chain_update(question.encode_to_vec())
            .finalize();
        let mut scope = [0; 8];
        scope.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self(scope)
    }

    /// The token for what comes after a place.
    pub(crate) fn seal(self, place: &[u8]) -> String {
        let mut token = String::with_capacity(2 * (1 + self.0.len() + place.len()));
        for byte in [VERSION].iter().chain(&self.0).chain(place) {
            // Writing to a string cannot fail.
            write!(token, "{byte:02x}").unwrap_or_default();
        }
        token
    }

    /// The place in a token; `None` for the first page.
    ///
    /// # Errors
    /// When it is not a token, or the token of another question.
    pub(crate) fn open(self, token: &str) -> Result<Option<Vec<u8>>, InvalidValue> {
        if token.is_empty() {
            return Ok(None);
        }
        let wrong = |fix| InvalidValue::new("page token", token, fix);
        let garbled = || wrong("use next_page_token exactly as the last answer gave it");
        let bytes = from_hex(token).ok_or_else(garbled)?;
        let (head, place) = bytes.split_at_checked(1 + self.0.len()).ok_or_else(garbled)?;
        match head.split_first() {
            Some((&VERSION, scope)) if scope == self.0 => Ok(Some(place.to_vec())),
            Some((&VERSION, _)) => Err(wrong(
                "belongs to another question: leave it empty when filter, order or list change",
            )),
            _ => Err(garbled()),
        }
    }
}

/// The error for a place that the list cannot understand.
pub(crate) fn garbled_place(token: &str) -> InvalidValue {
    InvalidValue::new("page token", token, "use next_page_token exactly as the last answer gave it")
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    const BYTES_MAX: usize = 256;
    if !text.len().is_multiple_of(2) || text.len() > 2 * BYTES_MAX {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb;
    use proptest::prelude::*;

    fn scope(plate: &str) -> PageScope {
        let filter = pb::SightingFilter { plate_pattern: plate.into(), ..Default::default() };
        PageScope::of("sightings", &filter)
    }

    #[test]
    fn a_token_goes_with_its_own_question_only() {
        let token = scope("浙J*").seal(b"place");
        assert_eq!(scope("浙J*").open(&token).unwrap().unwrap(), b"place");
        let other = scope("浙A*").open(&token).unwrap_err().to_string();
        assert!(other.contains("another question"), "{other}");
        let list = PageScope::of("alerts", &pb::SightingFilter::default());
        assert!(list.open(&PageScope::of("x", &pb::SightingFilter::default()).seal(b"")).is_err());
    }

    #[test]
    fn garbled_tokens_say_so() {
        for token in ["x", "xx", "00", "01", "é1", "0102030405060708", &"00".repeat(300)] {
            let error = scope("").open(token).unwrap_err().to_string();
            assert!(error.contains("exactly as"), "{token}: {error}");
        }
        assert_eq!(scope("").open("").unwrap(), None);
    }

    proptest! {
        #[test]
        fn places_round_trip(place in prop::collection::vec(any::<u8>(), 0..64)) {
            let scope = scope("浙J?12*");
            prop_assert_eq!(scope.open(&scope.seal(&place)).unwrap(), Some(place));
        }

        #[test]
        fn opening_never_panics(token in "\\PC{0,40}|[0-9a-f]{0,80}") {
            drop(scope("").open(&token));
        }
    }
}
