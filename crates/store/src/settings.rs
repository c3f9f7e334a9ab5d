use std::path::PathBuf;

use guiji_domain::EvidenceKind;

/// Where a store lies and how long it keeps what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// The folder. Made (readable by its owner only) when it is missing.
    pub dir: PathBuf,
    /// The file of the key that seals the cameras' passwords; made, readable by its owner only, when it is missing.
    /// `None`: `registry.key` in the folder, which guards a copy of `registry.db` alone.
    pub key_file: Option<PathBuf>,
    /// Sightings and their alerts are deleted when their day is more than this many days before today (UTC).
    pub sightings_days: u32,
    /// A day is sealed when it is more than this many days before today (UTC).
    pub seal_days: u32,
    /// Most bytes of sealed days kept in memory, as they are used.
    pub segment_cache_bytes: usize,
    /// How long and how much evidence is kept.
    pub evidence: EvidenceLimits,
    /// A pack that has reached this size in bytes is followed by a new one: the grain of the evidence quota.
    pub pack_bytes_max: u64,
    /// Most read connections open at once, all days together: 8 MB of cache each. More readers wait.
    pub readers_max: usize,
    /// How much a crash may cost.
    pub durability: Durability,
}

impl StoreSettings {
    /// The defaults: sightings for a year and sealed when their day has been over for a day, plates for a year and 50 GB, vehicles for 90 days and 200 GB, whole
    /// frames for 30 days and 200 GB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        const GB: u64 = 1_000_000_000;
        Self {
            dir: dir.into(),
            key_file: None,
            sightings_days: 365,
            seal_days: 1,
            segment_cache_bytes: 256 * 1024 * 1024,
            evidence: EvidenceLimits {
                plate: KeepLimit { days: 365, bytes: 50 * GB },
                vehicle: KeepLimit { days: 90, bytes: 200 * GB },
                frame: KeepLimit { days: 30, bytes: 200 * GB },
            },
            pack_bytes_max: 256 * 1024 * 1024,
            readers_max: 32,
            durability: Durability::Full,
        }
    }
}

/// Limits for each kind of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvidenceLimits {
    /// Plate crops.
    pub plate: KeepLimit,
    /// Vehicle crops.
    pub vehicle: KeepLimit,
    /// Whole frames.
    pub frame: KeepLimit,
}

impl EvidenceLimits {
    /// The limit of a kind.
    pub fn of(&self, kind: EvidenceKind) -> KeepLimit {
        match kind {
            EvidenceKind::Plate => self.plate,
            EvidenceKind::Vehicle => self.vehicle,
            EvidenceKind::Frame => self.frame,
        }
    }
}

/// How long and how much of something is kept; whichever limit is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepLimit {
    /// Deleted when its day is more than this many days before today (UTC).
    pub days: u32,
    /// Most bytes on disk; the oldest packs beyond it are deleted.
    pub bytes: u64,
}

/// How much a crash may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was acknowledged.
    Full,
    /// Everything since the system last wrote back by itself. Only for showing that the durability tests can fail.
    #[doc(hidden)]
    UnsafeNoSync,
}
