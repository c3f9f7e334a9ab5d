//! The store's baseline: one SQLite table with texts in it, one file, pictures as blobs, the same durability. It
//! decodes nothing: a record is as many bytes as the store's.

use std::path::Path;

use guiji_domain::Recorded;
use rusqlite::{Connection, params};

/// As long as the store's record of a sighting.
const RECORD: [u8; 350] = [7; 350];

pub(crate) struct Plain(Connection);

/// How a plate is looked for.
#[derive(Clone, Copy)]
pub(crate) enum By {
    Index,
    Scan,
}

impl Plain {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;
             CREATE TABLE sighting (id BLOB PRIMARY KEY, captured INTEGER, plate TEXT, camera TEXT, record BLOB);
             CREATE INDEX p ON sighting (plate); CREATE INDEX c ON sighting (camera); CREATE INDEX t ON sighting (captured);
             CREATE TABLE picture (digest BLOB PRIMARY KEY, bytes BLOB);",
        )?;
        Ok(Self(connection))
    }

    pub(crate) fn record(&mut self, batch: &[Recorded]) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        for item in batch {
            let s = &item.sighting;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO sighting VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    s.id.as_u128().to_be_bytes(),
                    s.captured.at.as_nanos(),
                    s.plate_text().map(|text| text.as_str()),
                    s.camera.as_str(),
                    RECORD.as_slice(),
                ])?;
            for (evidence, bytes) in s.evidence.iter().zip(&item.pictures) {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO picture VALUES (?1, ?2)")?
                    .execute(params![evidence.digest.0, &**bytes])?;
            }
        }
        transaction.commit()
    }

    /// How many records a plate or pattern has, at most `limit`, all of them read.
    pub(crate) fn search(&self, by: By, plate: &str, limit: usize) -> rusqlite::Result<usize> {
        let exact = !plate.contains(['?', '*']);
        let sql = format!(
            "SELECT id, record FROM sighting WHERE {}plate {} ?1 ORDER BY captured, id LIMIT ?2",
            match by {
                By::Index => "",
                By::Scan => "+",
            },
            if exact { "=" } else { "GLOB" }
        );
        let mut statement = self.0.prepare_cached(&sql)?;
        let mut rows = statement.query(params![plate, limit as i64])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += usize::from(!row.get::<_, Vec<u8>>(1)?.is_empty());
        }
        Ok(count)
    }
}
