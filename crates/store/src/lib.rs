//! The durable, embedded store: sightings, evidence pictures, alerts, watch-list and cameras, and the audit.
//!
//! Owns: everything on disk, its formats and their migrations, indexes, retention and integrity checks.
//! [`Store`] keeps it in SQLite files, sealed segments and append-only packs; [`MemoryStore`] keeps it in memory, for
//! tests and for trying things out. Both pass the same contract suite (`tests/contract.rs`).
//!
//! Never does: decide what is a sighting or an alert, read a clock, encode pictures, talk to the network, drop
//! what it was given. It blocks instead; grouping sightings into batches is the caller's part.
//!
//! # On disk
//! ```text
//! store.lock                              held with flock(2) while a process has the store open
//! registry.db                             cameras, watch-list, alert cursor, unfinished batches
//! registry.key                            32 bytes that seal the cameras' passwords (or elsewhere: `key_file`)
//! context.db                              what cameras could see, the roads, corrections of reads
//! evidence.key, evidence.pub              the key that signs bundles of evidence (see [`bundle`]), and its public half
//! releases.jsonl                          who let whom see old data (see `releases.rs`)
//! sightings/2026-11-24.db                 the partition of a UTC day: sightings by start, their alerts, the
//!                                         plate dictionary, where the pictures lie
//! sightings/2026-11-24.0001.seg           what was final of a closed day when it was sealed (see `segment/mod.rs`)
//! deliveries.db                           how far receivers outside have come, and proofs of what they took
//! evidence/2026-11-24.frame.0001.pack     pictures of one kind of one day, appended
//! held/0001/                              what a legal hold keeps (see `holds.rs`)
//! gaps.slots                              times of which something was not kept (see `gaps.rs`)
//! *.db-acked                              how far the log of a database was acknowledged (see `wal.rs`)
//! *.db-wal.damaged                        the log of one that was damaged, until somebody deletes it
//! ```
//!
//! # Invariants
//! * What a call acknowledged survives `kill -9` and a power cut: write-ahead logs are synced at each commit, and
//!   packs are synced before the row that names a picture commits.
//! * A batch is kept whole or not at all, over several days too (see `undo.rs` for how). While such a batch
//!   is being committed, a reader may see its earlier day without its later one.
//! * A day is sealed wholly or not at all ([`Store::seal_days`]; see `seal.rs` for how), and no reader sees a sighting
//!   twice or not at all meanwhile. A sealed sighting has its lattice at 8 bits a probability, everything else as it was.
//! * A final sighting never changes. An alert cursor is never given twice, deleted partitions included.
//! * What is read is proved: each record and each block of a segment carries a CRC-32, each picture its SHA-256.
//!   Damage is an error that names the record or the place; it is never an empty or a wrong answer.
//! * No camera's password is on disk in the clear; without its key the registry gives none away.
//! * Retention deletes whole files; of `context.db`, rows, overwritten. A picture that retention took is `None`, not an error.
//! * One process at a time. One writer, many readers: readers never wait for the writer.
//! * A full disk is [`guiji_domain::StoreError::Full`], nothing is acknowledged, and the same call works when space
//!   returns. Days open for appending can be read meanwhile; an older day only if a connection to it is open, since
//!   SQLite makes a small file beside it first.
//!
//! # Cost
//! One sync of the day's log a batch, and one a pack touched. A plate's day is one index range; a pattern runs
//! over the day's distinct plates, never over its sightings. Memory is bounded by the number of read connections
//! (8 MB of cache each) and the cache of segments, apart from some 350 bytes of directory for each thousand
//! sealed sightings; while a day is sealed, some 100 bytes for each of its sightings.

mod audit;
mod backup;
mod bulk;
pub mod bundle;
mod check;
mod codec;
mod codes;
mod context;
mod day;
mod deliveries;
mod errors;
#[doc(hidden)]
pub mod fuzz;
mod gaps;
mod holds;
mod likely;
mod memory;
mod pack;
mod partition;
mod passages;
mod patrol;
mod pool;
mod record;
mod registry;
mod releases;
mod retention;
mod road_record;
mod rows;
mod schema;
mod seal;
mod search;
mod secrets;
mod segment;
mod settings;
mod store;
mod undo;
mod validate;
mod wal;
mod writer;

pub use audit::{
    Audit, AuditBreak, AuditErasure, AuditRecord, AuditRecords, AuditReport, AuditSettings,
    Checkpoint, erase_audit_days, erase_audit_records, public_key_from_pem, verify_audit,
};
pub use backup::{BackupReport, back_up, check_backup, expire_backup, restore};
pub use bulk::{Bulk, BulkReport};
pub use check::{CheckReport, Damage};
pub use deliveries::Deliveries;
pub use gaps::{GapCause, StoreGap};
pub use holds::{LegalHold, holds, lift_hold, place_hold};
pub use memory::MemoryStore;
pub use releases::ReleaseFile;
pub use retention::{DiskUsage, RetentionReport};
pub use seal::SealReport;
pub use settings::{Durability, EvidenceLimits, KeepLimit, StoreSettings};
pub use store::Store;
pub use validate::PAGE_MAX;
