//! The gate: the last place where a stream can be made cheaper, between parser and decoder.
//!
//! It sees encoded units only (size, kind, times), judges each before the decoder spends milliseconds on it, and
//! counts what came. Richer policies, and a ring that keeps the current group of pictures, belong here: they need
//! nothing but [`AccessUnit`]s in decoding order.

use std::time::Duration;

use guiji_domain::{CaptureTime, DecodePolicy};

/// One encoded picture, as it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessUnit {
    pub(crate) bytes: usize,
    pub(crate) kind: UnitKind,
    /// Presentation time in the stream.
    pub(crate) running: Duration,
    pub(crate) captured: CaptureTime,
}

/// Whether a unit can be decoded by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitKind {
    Key,
    Delta,
}

/// What becomes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Decode,
    Skip,
}

/// Judges the units of one connection.
#[derive(Debug)]
pub(crate) struct Gate {
    policy: DecodePolicy,
    key_seen: bool,
}

impl Gate {
    pub(crate) fn new(policy: DecodePolicy) -> Self {
        Self { policy, key_seen: false }
    }

    /// Units come in decoding order. Before the first keyframe nothing is decoded: it would only be garbage.
    pub(crate) fn judge(&mut self, unit: &AccessUnit) -> Verdict {
        self.key_seen |= unit.kind == UnitKind::Key;
        match (self.policy, unit.kind) {
            (_, UnitKind::Key) => Verdict::Decode,
            (DecodePolicy::Full, UnitKind::Delta) if self.key_seen => Verdict::Decode,
            (DecodePolicy::Full | DecodePolicy::KeyframeOnly, UnitKind::Delta) => Verdict::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::{ClockSource, Timestamp};

    fn verdicts(policy: DecodePolicy, kinds: &str) -> String {
        let mut gate = Gate::new(policy);
        let unit = |kind| AccessUnit {
            bytes: 1,
            kind,
            running: Duration::ZERO,
            captured: CaptureTime {
                at: Timestamp::EPOCH,
                uncertainty: Duration::ZERO,
                source: ClockSource::Arrival,
            },
        };
        let judge = |kind: char| {
            let kind = if kind == 'K' { UnitKind::Key } else { UnitKind::Delta };
            if gate.judge(&unit(kind)) == Verdict::Decode { 'y' } else { '-' }
        };
        kinds.chars().map(judge).collect()
    }

    #[test]
    fn policies() {
        assert_eq!(verdicts(DecodePolicy::Full, "ddKddKd"), "--yyyyy");
        assert_eq!(verdicts(DecodePolicy::KeyframeOnly, "ddKddKd"), "--y--y-");
    }
}
