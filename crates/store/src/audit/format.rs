//! Lines of the chain and of the payload, and their hashes: pure, and frozen by `testdata/audit`.

use guiji_domain::{AuditEntry, Digest, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) type Hash = [u8; 32];

/// What the first record follows.
pub(crate) const BEGINNING: Hash = [0; 32];

/// The fields of a payload, in the order in which they are hashed. The last two are there only
/// where one of them says something.
pub(crate) const FIELDS: [&str; 12] = [
    "method",
    "officer",
    "role",
    "on_behalf_of",
    "purpose",
    "case_number",
    "question",
    "results",
    "outcome",
    "took_ms",
    "plates",
    "request",
];
/// So many are always there.
const ALWAYS: usize = 10;

/// SHA-256 over a mark that says what is hashed, and its parts.
pub(crate) fn sha256(mark: &str, parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(mark.as_bytes());
    hasher.update([0]);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// A record of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) payload: Hash,
    pub(crate) hash: Hash,
}

impl Link {
    /// The record that follows the one with this hash.
    pub(crate) fn after(before: &Hash, number: u64, at: Timestamp, payload: Hash) -> Self {
        let hash = sha256(
            "guiji audit record 1",
            &[before, &number.to_be_bytes(), &at.as_nanos().to_be_bytes(), &payload],
        );
        Self { number, at, payload, hash }
    }

    /// Its line, with the line's end.
    pub(crate) fn line(&self) -> String {
        let (payload, hash) = (Digest(self.payload), Digest(self.hash));
        format!("{} {} {payload} {hash}\n", self.number, self.at.as_nanos())
    }

    /// Reads a line without its end; `None` when it is none.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split(' ');
        let link = Self {
            number: parts.next()?.parse().ok()?,
            at: Timestamp::from_nanos(parts.next()?.parse().ok()?),
            payload: hash(parts.next()?)?,
            hash: hash(parts.next()?)?,
        };
        // One way to write each record, so that no byte of the file is free.
        (parts.next().is_none() && link.line().trim_end() == line).then_some(link)
    }
}

/// 64 hexadecimal digits.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    text.parse::<Digest>().ok().map(|digest| digest.0)
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payload {
    pub(crate) number: u64,
    pub(crate) fields: Vec<Field>,
}

/// A value with its salt, or, erased, what they were hashed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Field {
    Kept { name: String, salt: String, value: String },
    Erased { name: String, digest: String },
}

impl Field {
    pub(crate) fn new(name: &str, salt: [u8; 16], value: String) -> Self {
        let salt = format!("{:032x}", u128::from_be_bytes(salt));
        Self::Kept { name: name.to_owned(), salt, value }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Kept { name, .. } | Self::Erased { name, .. } => name,
        }
    }

    pub(crate) fn digest(&self) -> Option<Hash> {
        match self {
            Self::Kept { name, salt, value } => {
                let salt = u128::from_str_radix(salt, 16).ok()?.to_be_bytes();
                let parts: [&[u8]; 4] = [&salt, name.as_bytes(), &[0], value.as_bytes()];
                Some(sha256("guiji audit field 1", &parts))
            }
            Self::Erased { digest, .. } => hash(digest),
        }
    }
}

impl Payload {
    /// What an entry says, each field salted by `salt`.
    pub(crate) fn new(number: u64, entry: AuditEntry, mut salt: impl FnMut() -> [u8; 16]) -> Self {
        let values = [
            entry.method,
            entry.officer,
            entry.role,
            entry.on_behalf_of,
            entry.purpose,
            entry.case_number,
            entry.question,
            entry.results.to_string(),
            entry.outcome,
            entry.took_ms.to_string(),
        ];
        let more = [entry.plates.join(" "), entry.request];
        let more = Some(more).filter(|more| more.iter().any(|value| !value.is_empty()));
        let fields = FIELDS.into_iter().zip(values.into_iter().chain(more.into_iter().flatten()));
        let fields = fields.map(|(name, value)| Field::new(name, salt(), value)).collect();
        Self { number, fields }
    }

    /// What the chain holds of it; `None` when its fields are not those of a payload.
    pub(crate) fn digest(&self) -> Option<Hash> {
        let names = || self.fields.iter().map(Field::name);
        if !names().eq(FIELDS) && !names().eq(FIELDS.into_iter().take(ALWAYS)) {
            return None;
        }
        let digests: Option<Vec<Hash>> = self.fields.iter().map(Field::digest).collect();
        Some(sha256("guiji audit payload 1", &[&digests?.concat()]))
    }

    /// The value of a field that was not erased.
    pub(crate) fn value(&self, wanted: &str) -> Option<&str> {
        self.fields.iter().find_map(|field| match field {
            Field::Kept { name, value, .. } if name == wanted => Some(value.as_str()),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `testdata/audit` was written by another program than this one, after the description in `mod.rs`.
    #[test]
    fn lines_and_hashes_are_as_described() {
        let chain = include_str!("../../testdata/audit/chain");
        let payloads = include_str!("../../testdata/audit/payload/2027-01-15.jsonl");
        let entry = AuditEntry {
            at: Timestamp::from_nanos(1_800_000_002_500_000_001),
            method: "SightingService/SearchSightings".into(),
            officer: "wang".into(),
            role: "analyst".into(),
            on_behalf_of: String::new(),
            purpose: "search \"quoted\"".into(),
            case_number: "2026-0417".into(),
            question: "any plate".into(),
            plates: Vec::new(),
            request: String::new(),
            results: 0,
            outcome: "PermissionDenied".into(),
            took_ms: 0,
        };
        let lines: Vec<_> = chain.lines().collect();
        let before = Link::parse(lines[1]).unwrap();
        let mut salts = (0x30..).map(|byte| [byte; 16]);
        let at = entry.at;
        let payload = Payload::new(3, entry, || salts.next().unwrap());
        let link = Link::after(&before.hash, 3, at, payload.digest().unwrap());
        assert_eq!(link.line().trim_end(), lines[2]);
        let written = serde_json::to_string(&payload).unwrap();
        assert_eq!(written, payloads.lines().nth(2).unwrap());
    }

    #[test]
    fn each_record_is_written_in_one_way_only() {
        let line = include_str!("../../testdata/audit/chain").lines().next().unwrap();
        assert!(Link::parse(line).is_some());
        for changed in [
            format!("0{line}"),
            format!("+{line}"),
            format!("{line} "),
            format!("{line} x"),
            line.replace(' ', "  "),
            line.to_uppercase(),
        ] {
            assert!(Link::parse(&changed).is_none(), "{changed}");
        }
    }
}
