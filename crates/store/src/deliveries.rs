//! `deliveries.db`: how far receivers outside have come in the alert log, and what they took.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use guiji_domain::{
    AlertId, AlertStage, Delivery, DeliveryLedger, Digest, InvalidValue, ReceiverId, SightingId,
    Standing, StoreError, Timestamp, WatchEntryId,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::check::{CheckReport, check_structure};
use crate::codes::Coded as _;
use crate::errors::{damaged, sql, sql_at};
use crate::partition::sql_number;
use crate::rows;
use crate::schema::{self, FileKind};
use crate::settings::Durability;
use crate::wal;

/// The proofs of delivery, in a file of their own: they are written by other threads than the sightings, and one
/// never waits for the other.
pub struct Deliveries(Mutex<Connection>);

impl Deliveries {
    /// Opens `deliveries.db` in a folder, which must exist, or makes it.
    ///
    /// # Errors
    /// When the file cannot be opened or is not what it should be.
    pub fn open(folder: &Path, durability: Durability) -> Result<Self, StoreError> {
        let path = folder.join("deliveries.db");
        // What is lost is a proof at worst, or something is delivered twice; the check tells.
        wal::examine(&path)?;
        schema::open_writer(&path, FileKind::Deliveries, durability).map(Mutex::new).map(Self)
    }

    /// Deletes the proofs from before a time; how many there were.
    ///
    /// # Errors
    /// When the medium fails.
    pub fn expire(&self, before: Timestamp) -> Result<usize, StoreError> {
        expire_rows(&self.connection(), before)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes the proofs from before a time; how many there were.
pub(crate) fn expire_rows(connection: &Connection, before: Timestamp) -> Result<usize, StoreError> {
    connection
        .execute("DELETE FROM delivery WHERE delivered < ?1", [before.as_nanos()])
        .map_err(sql("delete old proofs of delivery"))
}

impl DeliveryLedger for Deliveries {
    fn standing(&self, receiver: &ReceiverId) -> Result<Option<Standing>, StoreError> {
        let failed = sql("read a receiver's standing");
        let wrong = |reason| damaged(format!("receiver {receiver}"), reason);
        let connection = self.connection();
        let known: Option<(i64, Option<u32>, Option<&str>)> = connection
            .prepare_cached("SELECT reached, aside_sum, * FROM receiver WHERE id = ?1")
            .and_then(|mut one| {
                one.query_row([receiver.as_str()], |row| {
                    Ok((row.get(0)?, row.get(1)?, rows::fault(row, 2)?))
                })
                .optional()
            })
            .map_err(&failed)?;
        let Some((reached, aside_sum, fault)) = known else { return Ok(None) };
        if let Some(reason) = fault {
            return Err(wrong(reason));
        }
        let aside = aside_of(&connection, receiver.as_str()).map_err(&failed)?;
        if aside_sum != Some(sum_of(&aside)) {
            return Err(wrong("what lies aside is not what was written"));
        }
        let cursor = |number: i64| {
            u64::try_from(number)
                .map_err(|_| damaged(format!("receiver {receiver}"), "a cursor is negative"))
        };
        Ok(Some(Standing {
            reached: cursor(reached)?,
            aside: aside.into_iter().map(cursor).collect::<Result<_, _>>()?,
        }))
    }

    fn settle(
        &self,
        receiver: &ReceiverId,
        standing: &Standing,
        proofs: &[Delivery],
    ) -> Result<(), StoreError> {
        let failed = sql("keep proofs of delivery");
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(&failed)?;
        let id = receiver.as_str();
        let write = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
            transaction.prepare_cached(sql).and_then(|mut one| one.execute(values)).map_err(&failed)
        };
        let mut aside: Vec<i64> = standing.aside.iter().copied().map(sql_number).collect();
        aside.sort_unstable();
        aside.dedup();
        write(
            "INSERT OR REPLACE INTO receiver (id, reached, aside_sum) VALUES (?1, ?2, ?3)",
            params![id, sql_number(standing.reached), sum_of(&aside)],
        )?;
        rows::seal(&transaction, "receiver", &id)?;
        write("DELETE FROM aside WHERE receiver = ?1", params![id])?;
        for cursor in &aside {
            write("INSERT INTO aside (receiver, cursor) VALUES (?1, ?2)", params![id, cursor])?;
        }
        for proof in proofs {
            write(
                "INSERT OR IGNORE INTO delivery (sighting, entry, cursor, stage, receiver, delivered, tries, message,
                 answer, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    proof.alert.sighting.as_u128().to_be_bytes(),
                    proof.alert.entry.as_str(),
                    sql_number(proof.cursor),
                    proof.stage.code(),
                    proof.receiver.as_str(),
                    proof.delivered.as_nanos(),
                    proof.tries,
                    proof.message.0,
                    proof.answer,
                    checksum(proof),
                ],
            )?;
        }
        transaction.commit().map_err(&failed)
    }

    fn deliveries(&self, alert: &AlertId) -> Result<Vec<Delivery>, StoreError> {
        let failed = sql("read proofs of delivery");
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached(
                "SELECT cursor, stage, receiver, delivered, tries, message, answer, checksum FROM delivery
                 WHERE sighting = ?1 AND entry = ?2 ORDER BY cursor, receiver",
            )
            .map_err(&failed)?;
        let key = params![alert.sighting.as_u128().to_be_bytes(), alert.entry.as_str()];
        let mut rows = statement.query(key).map_err(&failed)?;
        let mut proofs = Vec::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            proofs.push(proof_of(alert, row).map_err(&failed)??);
        }
        Ok(proofs)
    }
}

/// The cursors that lie aside of a receiver, rising.
fn aside_of(connection: &Connection, receiver: &str) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT cursor FROM aside WHERE receiver = ?1 ORDER BY cursor")?
        .query_map([receiver], |row| row.get(0))?
        .collect()
}

/// CRC-32 of the cursors that lie aside.
fn sum_of(aside: &[i64]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    aside.iter().for_each(|cursor| crc.update(&cursor.to_le_bytes()));
    crc.finalize()
}

/// Gives the standings of version 1 their checksums.
pub(crate) fn seal_standings(connection: &Connection) -> Result<(), StoreError> {
    let receivers = || -> rusqlite::Result<()> {
        let mut all = connection.prepare("SELECT id FROM receiver")?;
        let all: Vec<String> =
            all.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for id in all {
            let sum = sum_of(&aside_of(connection, &id)?);
            let change = "UPDATE receiver SET aside_sum = ?2 WHERE id = ?1";
            connection.execute(change, params![id, sum])?;
        }
        Ok(())
    };
    receivers().map_err(sql("give standings their checksums"))?;
    rows::seal_all(connection, "receiver")
}

/// Reads everything in a folder's `deliveries.db`, if there is one.
pub(crate) fn check(folder: &Path, report: &mut CheckReport) -> Result<(), StoreError> {
    let path = folder.join("deliveries.db");
    if !path.is_file() {
        return Ok(());
    }
    // For writing, so that a file of an earlier version has its checksums.
    let opened = Deliveries::open(folder, Durability::Full);
    if let Some((path, reason)) = wal::damage_aside(&path) {
        report.found(path.display(), reason);
    }
    let Some(ledger) = report.accept(opened)? else { return Ok(()) };
    let checked = ledger.check(&path, report);
    report.accept(checked).map(drop)
}

impl Deliveries {
    fn check(&self, path: &Path, report: &mut CheckReport) -> Result<(), StoreError> {
        let failed = sql_at("check deliveries", path);
        let (receivers, alerts) = {
            let connection = self.connection();
            check_structure(&connection, "deliveries.db", report)?;
            let receivers: rusqlite::Result<Vec<String>> = connection
                .prepare("SELECT id FROM receiver UNION SELECT receiver FROM aside")
                .and_then(|mut all| all.query_map([], |row| row.get(0))?.collect());
            let alerts: rusqlite::Result<Vec<([u8; 16], String)>> =
                connection.prepare("SELECT DISTINCT sighting, entry FROM delivery").and_then(
                    |mut all| all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect(),
                );
            (receivers.map_err(&failed)?, alerts.map_err(&failed)?)
        };
        let invalid = |error: InvalidValue| damaged(path.display(), error);
        for receiver in receivers {
            let standing =
                ReceiverId::new(&receiver).map_err(invalid).and_then(|id| self.standing(&id));
            if report.accept(standing)? == Some(None) {
                report.found(format!("receiver {receiver}"), "its standing is missing");
            }
        }
        for (sighting, entry) in alerts {
            let sighting = SightingId::from_u128(u128::from_be_bytes(sighting));
            let proofs = WatchEntryId::new(&entry)
                .map_err(invalid)
                .and_then(|entry| self.deliveries(&AlertId { sighting, entry }));
            report.accept(proofs)?;
        }
        Ok(())
    }
}

/// CRC-32 of everything that a proof says.
fn checksum(proof: &Delivery) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    let Delivery { receiver, alert, stage, cursor, delivered, tries, message, answer } = proof;
    for text in [receiver.as_str(), alert.entry.as_str(), answer] {
        crc.update(text.as_bytes());
        crc.update(&[0]);
    }
    crc.update(&alert.sighting.as_u128().to_be_bytes());
    crc.update(&[stage.code()]);
    crc.update(&cursor.to_be_bytes());
    crc.update(&delivered.as_nanos().to_be_bytes());
    crc.update(&tries.to_be_bytes());
    crc.update(&message.0);
    crc.finalize()
}

fn proof_of(alert: &AlertId, row: &Row<'_>) -> rusqlite::Result<Result<Delivery, StoreError>> {
    let (cursor, stage): (i64, u8) = (row.get(0)?, row.get(1)?);
    let (receiver, delivered): (String, i64) = (row.get(2)?, row.get(3)?);
    let (tries, message): (u32, [u8; 32]) = (row.get(4)?, row.get(5)?);
    let (answer, kept): (String, u32) = (row.get(6)?, row.get(7)?);
    let what = || format!("the proof that {receiver} took alert {alert}");
    let make = || {
        Ok::<_, InvalidValue>(Delivery {
            receiver: ReceiverId::new(&receiver)?,
            alert: alert.clone(),
            stage: AlertStage::from_code(stage)
                .ok_or_else(|| InvalidValue::new("alert stage", stage, "is an unknown code"))?,
            cursor: u64::try_from(cursor)
                .map_err(|_| InvalidValue::new("cursor", cursor, "is negative"))?,
            delivered: Timestamp::from_nanos(delivered),
            tries,
            message: Digest(message),
            answer,
        })
    };
    Ok(make().map_err(|reason| damaged(what(), reason)).and_then(|proof| {
        if checksum(&proof) == kept {
            Ok(proof)
        } else {
            Err(damaged(what(), "its checksum is wrong"))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(cursor: u64, stage: AlertStage, receiver: &str) -> Delivery {
        Delivery {
            receiver: ReceiverId::new(receiver).unwrap(),
            alert: AlertId {
                sighting: SightingId::from_u128(7 << 64 | 9),
                entry: WatchEntryId::new("w1").unwrap(),
            },
            stage,
            cursor,
            delivered: Timestamp::from_secs(cursor as i64),
            tries: 2,
            message: Digest([3; 32]),
            answer: "HTTP 204".into(),
        }
    }

    #[test]
    fn proofs_and_standings_survive_and_stay_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Deliveries::open(folder.path(), Durability::Full).unwrap();
        let receiver = ReceiverId::new("patrol").unwrap();
        let (first, second) = (
            proof(1, AlertStage::Provisional, "patrol"),
            proof(4, AlertStage::Confirmed, "patrol"),
        );
        let ledger = open();
        assert_eq!(ledger.standing(&receiver).unwrap(), None);
        let standing = Standing { reached: 4, aside: vec![2, 3] };
        ledger.settle(&receiver, &standing, &[first.clone(), second.clone()]).unwrap();
        drop(ledger);

        let ledger = open();
        assert_eq!(ledger.standing(&receiver).unwrap(), Some(standing));
        assert_eq!(ledger.deliveries(&first.alert).unwrap(), [first.clone(), second.clone()]);
        // Delivered once more after a crash: the first proof counts.
        let again = Delivery { tries: 9, ..second.clone() };
        let standing = Standing { reached: 5, aside: Vec::new() };
        ledger.settle(&receiver, &standing, &[again]).unwrap();
        assert_eq!(ledger.standing(&receiver).unwrap(), Some(standing));
        assert_eq!(ledger.deliveries(&first.alert).unwrap(), [first.clone(), second.clone()]);
        assert_eq!(ledger.expire(Timestamp::from_secs(2)).unwrap(), 1);
        assert_eq!(ledger.deliveries(&first.alert).unwrap(), [second]);
    }

    #[test]
    fn a_changed_proof_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Deliveries::open(folder.path(), Durability::Full).unwrap();
        let told = proof(1, AlertStage::Confirmed, "patrol");
        let standing = Standing { reached: 1, aside: Vec::new() };
        ledger.settle(&told.receiver, &standing, std::slice::from_ref(&told)).unwrap();
        for change in [
            "delivered = delivered + 1",
            "tries = 1",
            "stage = 0",
            "cursor = 2",
            "answer = 'HTTP 200'",
            "message = zeroblob(32)",
            "receiver = 'other'",
        ] {
            ledger
                .connection()
                .execute_batch(&format!("SAVEPOINT s; UPDATE delivery SET {change}"))
                .unwrap();
            assert!(
                matches!(ledger.deliveries(&told.alert), Err(StoreError::Damaged { .. })),
                "{change}"
            );
            ledger.connection().execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
        }
        assert_eq!(ledger.deliveries(&told.alert).unwrap(), [told]);
    }
}
