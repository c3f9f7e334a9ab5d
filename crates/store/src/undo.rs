//! How a batch of several days is kept whole or not at all.
//!
//! SQLite commits each file atomically, but not several in WAL mode. So before the first of several days commits,
//! the registry durably learns how to take the batch back; after the last has committed, it forgets. Forgetting is
//! the commit point: whoever finds the note (the next call after a failure, or the next start after a crash) takes
//! back what had been committed. Taking back twice does no harm.

use guiji_domain::{SightingId, StoreError};
use rusqlite::Connection;

use crate::codec::{Malformed, Reader, Writer};
use crate::day::Day;
use crate::errors::{damaged, sql};
use crate::partition::sql_number;
use crate::record::restore_sighting;

/// What a batch changed in one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DayUndo {
    pub(crate) day: Day,
    /// Sightings with what stood in their place before, in the order of the batch.
    pub(crate) sightings: Vec<(SightingId, Option<Vec<u8>>)>,
    /// Cursors of alerts.
    pub(crate) alerts: Vec<u64>,
}

impl DayUndo {
    pub(crate) fn new(day: Day) -> Self {
        Self { day, sightings: Vec::new(), alerts: Vec::new() }
    }

    /// Takes the batch back in its day, in one transaction.
    pub(crate) fn apply(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let failed = sql("take back a batch");
        let transaction = connection.transaction().map_err(&failed)?;
        // The latest first, so that the earliest form is what stays when a batch held a sighting twice.
        for (id, prior) in self.sightings.iter().rev() {
            restore_sighting(&transaction, *id, prior.as_deref())?;
        }
        for cursor in &self.alerts {
            transaction
                .execute("DELETE FROM alert WHERE cursor = ?1", [sql_number(*cursor)])
                .map_err(&failed)?;
        }
        transaction.commit().map_err(&failed)
    }
}

/// Layout: version 1u8, days var, then for each: day i64, sightings var, (id 16 bytes, 0u8 | 1u8 and blob)...,
/// alerts var, cursor var...; numbers as in `codec.rs`.
pub(crate) fn encode(undo: &[DayUndo]) -> Vec<u8> {
    let mut out = Writer::default();
    out.byte(1);
    out.var(undo.len() as u64);
    for day in undo {
        out.i64(i64::from(day.day.0));
        out.var(day.sightings.len() as u64);
        for (id, prior) in &day.sightings {
            out.bytes(&id.as_u128().to_le_bytes());
            out.byte(u8::from(prior.is_some()));
            if let Some(record) = prior {
                out.blob(record);
            }
        }
        out.var(day.alerts.len() as u64);
        for cursor in &day.alerts {
            out.var(*cursor);
        }
    }
    out.0
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<DayUndo>, StoreError> {
    decode_days(bytes).map_err(|reason| damaged("the note of an unfinished batch", reason))
}

fn decode_days(bytes: &[u8]) -> Result<Vec<DayUndo>, Malformed> {
    let mut input = Reader(bytes);
    if input.byte()? != 1 {
        return Err(Malformed("version"));
    }
    let mut days = Vec::new();
    for _ in 0..input.var()? {
        let day = i32::try_from(input.i64()?).map_err(|_| Malformed("day"))?;
        let mut undo = DayUndo::new(Day(day));
        for _ in 0..input.var()? {
            let id = SightingId::from_u128(input.u128()?);
            let prior = match input.byte()? {
                0 => None,
                1 => Some(input.blob()?.to_vec()),
                _ => return Err(Malformed("earlier form")),
            };
            undo.sightings.push((id, prior));
        }
        for _ in 0..input.var()? {
            undo.alerts.push(input.var()?);
        }
        days.push(undo);
    }
    input.end()?;
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_undo()(
            day: i32,
            sightings in prop::collection::vec(
                (any::<u128>().prop_map(SightingId::from_u128), any::<Option<Vec<u8>>>()), 0..4),
            alerts: Vec<u64>,
        ) -> DayUndo {
            DayUndo { day: Day(day), sightings, alerts }
        }
    }

    proptest! {
        #[test]
        fn notes_round_trip(undo in prop::collection::vec(any_undo(), 0..4)) {
            prop_assert_eq!(decode_days(&encode(&undo)), Ok(undo));
        }

        #[test]
        fn nothing_panics_on_any_bytes(bytes: Vec<u8>) {
            drop(decode_days(&bytes));
            drop(decode_days(&[1].into_iter().chain(bytes).collect::<Vec<_>>()));
        }
    }
}
