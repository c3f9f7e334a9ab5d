//! The audit: one record for each data call, chained by hashes, so that nothing in it can be changed, left out or
//! reordered unnoticed, while what it says of people can be erased.
//!
//! # On disk
//! ```text
//! audit/chain                       one line a record: NUMBER NANOSECONDS PAYLOAD HASH
//! audit/payload/2026-11-24.jsonl    what the records of a UTC day say, one JSON object a line; may be erased
//! audit/checkpoints.jsonl           signed checkpoints, one JSON object a line; the outside file looks the same
//! audit/key                         the Ed25519 key that signs them, PKCS#8, made at the first start
//! ```
//! All are readable by their owner only. Numbers rise by one from 1; times are nanoseconds since 1970, UTC; hashes are
//! SHA-256 in lower-case hexadecimal. With `‖` for concatenation and numbers as eight bytes, big-endian:
//! ```text
//! digest  = SHA-256("guiji audit field 1\0" ‖ salt (16 bytes) ‖ name ‖ 0 ‖ value)      for each field
//! PAYLOAD = SHA-256("guiji audit payload 1\0" ‖ the fields' digests, in the order of [`FIELDS`])
//! HASH    = SHA-256("guiji audit record 1\0" ‖ HASH of the record before ‖ number ‖ time ‖ PAYLOAD)
//! ```
//! The first record follows 32 zero bytes. A checkpoint signs `"guiji audit checkpoint 1\0" ‖ number ‖ time ‖ HASH`.
//!
//! # Erasing
//! A field is erased by putting its `digest` in the place of `salt` and `value`, a record or a day by deleting the line
//! or the file. The chain still verifies, and since each value is hashed with a salt of its own that goes with it, what
//! was erased cannot be guessed from the chain.
//!
//! # What is found
//! A changed, missing or reordered record breaks the chain at that place. A chain cut off at its end, or written anew
//! from some place on, is whole in itself: an older checkpoint that was exported to another machine tells. So does one
//! signed by another key.

mod check;
mod checkpoint;
mod erase;
mod format;
mod key;
mod log;
mod read;
mod verify;

pub(crate) use check::{check_key, cut_ends, ends_changed};
pub use checkpoint::Checkpoint;
pub use erase::{AuditErasure, erase_audit_days, erase_audit_records};
pub use key::public_key_from_pem;
pub(crate) use key::{SigningKey, from_hex, hex, is_signed, random, read_or_make_private};
pub use log::{Audit, AuditSettings};
pub use read::{AuditRecord, AuditRecords};
pub use verify::{AuditBreak, AuditReport, verify_audit};

/// Whether a line is a record of the chain, a payload or a checkpoint that holds: for fuzzers.
pub(crate) fn parse_line(line: &str) -> bool {
    let link = format::Link::parse(line);
    if let Some(link) = &link {
        assert_eq!(link.line().trim_end(), line, "one way to write each record");
    }
    let payload = serde_json::from_str::<format::Payload>(line).ok();
    let checkpoint = serde_json::from_str::<Checkpoint>(line).ok();
    link.is_some()
        || payload.is_some_and(|payload| payload.digest().is_some())
        || checkpoint.is_some_and(|checkpoint| checkpoint.proved().is_some())
}
