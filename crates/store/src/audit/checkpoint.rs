use guiji_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::format::{Hash, Link, hash};
use super::key::{SigningKey, from_hex, hex, is_signed};

/// A record's place and hash, signed: whoever keeps it elsewhere can tell whether the chain still holds that record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The record's number.
    pub number: u64,
    /// When it was recorded, nanoseconds since 1970, UTC.
    pub at: i64,
    /// The record's hash, hexadecimal.
    pub hash: String,
    /// The Ed25519 public key, hexadecimal.
    pub key: String,
    /// The signature, hexadecimal.
    pub signature: String,
}

impl Checkpoint {
    pub(crate) fn sign(link: &Link, key: &SigningKey) -> Self {
        Self {
            number: link.number,
            at: link.at.as_nanos(),
            hash: hex(&link.hash),
            key: hex(&key.public()),
            signature: hex(&key.sign(&message(link.number, link.at, &link.hash))),
        }
    }

    /// The hash that it vouches for; `None` when its own key did not sign it.
    pub(crate) fn proved(&self) -> Option<Hash> {
        let hash = hash(&self.hash)?;
        let signed = message(self.number, Timestamp::from_nanos(self.at), &hash);
        let (key, signature) = (from_hex(&self.key)?, from_hex(&self.signature)?);
        is_signed(&key, &signed, &signature).then_some(hash)
    }
}

fn message(number: u64, at: Timestamp, hash: &Hash) -> Vec<u8> {
    let mark: &[u8] = b"guiji audit checkpoint 1\0";
    [mark, &number.to_be_bytes(), &at.as_nanos().to_be_bytes(), hash].concat()
}
