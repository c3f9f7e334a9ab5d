use std::fmt;
use std::sync::Arc;

use crate::{InvalidValue, Timestamp};

/// The name of a camera: 1 to 64 of `a-z A-Z 0-9 . _ -`, beginning with a letter or digit.
///
/// The alphabet is narrow because the id becomes a resource name (`cameras/ID`), a metric label and a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CameraId(Arc<str>);

/// The name of a site, a place with one or more cameras. Same alphabet as [`CameraId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(Arc<str>);

/// The name of a watch-list entry. Same alphabet as [`CameraId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchEntryId(Arc<str>);

/// The name of a patrol unit. Same alphabet as [`CameraId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatrolUnitId(Arc<str>);

/// The name of a receiver of alerts outside: a webhook or a broker. Same alphabet as [`CameraId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverId(Arc<str>);

fn checked_name(what: &'static str, text: &str) -> Result<Arc<str>, InvalidValue> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if fits {
        Ok(text.into())
    } else {
        Err(InvalidValue::new(
            what,
            text,
            "use 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first",
        ))
    }
}

macro_rules! name_type {
    ($name:ident, $what:literal) => {
        impl $name {
            /// # Errors
            /// When the text is empty, longer than 64 bytes or has a character outside the alphabet.
            pub fn new(text: &str) -> Result<Self, InvalidValue> {
                checked_name($what, text).map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidValue;
            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                Self::new(text)
            }
        }
    };
}
name_type!(CameraId, "camera id");
name_type!(SiteId, "site id");
name_type!(WatchEntryId, "watch-list entry id");
name_type!(PatrolUnitId, "patrol unit id");
name_type!(ReceiverId, "receiver id");

/// One vehicle through many frames of one camera. Unique within a camera and a run of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u64);

/// The identity of a sighting, 128 bits, ordered by the time at which its track began.
///
/// Bits from the top: 64 of the start time (nanoseconds since the epoch, sign bit flipped so that the order of the
/// integers is the order of the times), then 64 that tell apart what began at the same nanosecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SightingId(u128);

/// The identity of an alert: which sighting rang which entry. Ringing twice makes the same id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId {
    /// The sighting that matched.
    pub sighting: SightingId,
    /// The entry that it matched.
    pub entry: WatchEntryId,
}

impl SightingId {
    /// The id of the sighting made from a track. The same camera, track and start give the same id, so that a
    /// provisional sighting and its final form are one record, and importing twice stores once.
    pub fn for_track(camera: &CameraId, track: TrackId, started: Timestamp) -> Self {
        let time = (started.as_nanos() as u64) ^ (1 << 63);
        // FNV-1a, 64 bits: stable over versions and machines, which std's hasher does not promise.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in camera.as_str().bytes().chain([0]).chain(track.0.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self((u128::from(time) << 64) | u128::from(hash))
    }

    /// From the number that [`Self::as_u128`] gave.
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// The id as a number, ordered by start time.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// When the sighting's track began: the partition that it is stored in.
    pub const fn started(self) -> Timestamp {
        Timestamp::from_nanos((((self.0 >> 64) as u64) ^ (1 << 63)) as i64)
    }
}

impl fmt::Display for SightingId {
    /// 32 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: answers have hundreds of them.
        let digit = |place: usize| b"0123456789abcdef"[(self.0 >> (124 - 4 * place)) as usize & 15];
        let digits: [u8; 32] = std::array::from_fn(digit);
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

impl fmt::Debug for SightingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for SightingId {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(number) if hex => Ok(Self(number)),
            _ => Err(InvalidValue::new(
                "sighting id",
                text,
                "use the 32 hexadecimal digits of an answer",
            )),
        }
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.sighting, self.entry)
    }
}

impl fmt::Debug for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A SHA-256 digest: the name and the proof of a piece of evidence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Digest {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = || InvalidValue::new("digest", text, "use 64 hexadecimal digits (SHA-256)");
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn camera_ids_are_narrow() {
        for right in ["k12", "S304-c2", "0.a_B-9"] {
            assert_eq!(CameraId::new(right).unwrap().as_str(), right);
        }
        for wrong in ["", "-a", "a b", "路口", "a/b", &"x".repeat(65)] {
            assert!(CameraId::new(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn sighting_ids_keep_their_time_and_order(a: i64, b: i64, track: u64) {
            let camera = CameraId::new("k1").unwrap();
            let id = |nanos| SightingId::for_track(&camera, TrackId(track), Timestamp::from_nanos(nanos));
            prop_assert_eq!(id(a).started().as_nanos(), a);
            prop_assert_eq!(id(a).cmp(&id(b)), a.cmp(&b));
            prop_assert_eq!(id(a).to_string().parse::<SightingId>().unwrap(), id(a));
        }

        #[test]
        fn digests_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(Digest(bytes).to_string().parse::<Digest>().unwrap(), Digest(bytes));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            drop(text.parse::<Digest>());
            drop(text.parse::<SightingId>());
            drop(text.parse::<CameraId>());
        }
    }
}
