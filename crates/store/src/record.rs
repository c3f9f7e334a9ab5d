//! The rows of one day, inside a transaction of the writer.

use std::collections::HashMap;

use guiji_domain::{Alert, Sighting, SightingId, SightingStage, StoreError};
use rusqlite::{Connection, OptionalExtension, params};
use tracing::warn;

use crate::codec::{decode_alert, decode_sighting, encode_alert, encode_sighting};
use crate::codes::{Coded, NONE};
use crate::errors::sql;
use crate::partition::{Summary, checksum, id_key, sql_number};
use crate::segment::Segment;

const DOING: &str = "append sightings";

/// What an upsert found in its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Prior {
    /// Nothing.
    None,
    /// A provisional form, as its record.
    Provisional(Vec<u8>),
    /// The final form; nothing was changed.
    Final,
}

/// Enters a sighting or replaces its provisional form, unless it is final already: here, or in what was sealed.
pub(crate) fn put_sighting(
    connection: &Connection,
    words: &mut Words,
    sealed: Option<&Segment>,
    (sighting, record): (&Sighting, &[u8]),
    summary: &mut Summary,
) -> Result<Prior, StoreError> {
    let sealed_final = match sealed {
        Some(segment) => segment.find(sighting.id)?.is_some(),
        None => false,
    };
    // Most are new: it is found out while they are entered, not before.
    let mut prior = Prior::None;
    if sealed_final || !write_sighting(connection, words, sighting, record, WhenThere::Leave)? {
        prior = find_prior(connection, sighting.id)?;
        match prior {
            Prior::None | Prior::Final => return Ok(Prior::Final),
            Prior::Provisional(_) => {
                write_sighting(connection, words, sighting, record, WhenThere::Replace)?;
            }
        }
    }
    summary.include_captured(sighting.captured.at.as_nanos());
    Ok(prior)
}

/// The record of a sighting. A value that cannot be read back must not be acknowledged.
pub(crate) fn proved_record(sighting: &Sighting) -> Result<Vec<u8>, StoreError> {
    let record = encode_sighting(sighting);
    decode_sighting(&record).map_err(|reason| {
        guiji_domain::InvalidValue::new("sighting", sighting.id, reason.to_string())
    })?;
    Ok(record)
}

fn find_prior(connection: &Connection, id: SightingId) -> Result<Prior, StoreError> {
    // By the column, not by the record: a damaged provisional form must not keep out the final one.
    connection
        .prepare_cached("SELECT stage, record FROM sighting WHERE id = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([id_key(id)], |row| {
                    let stage: u8 = row.get(0)?;
                    Ok(match SightingStage::from_code(stage) {
                        Some(SightingStage::Provisional) => Prior::Provisional(row.get(1)?),
                        Some(SightingStage::Final) | None => Prior::Final,
                    })
                })
                .optional()
        })
        .map(|prior| prior.unwrap_or(Prior::None))
        .map_err(sql(DOING))
}

macro_rules! insert {
    () => {
        "INSERT INTO sighting (id, captured, plate, camera, stage, class, colour, checksum, record)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id)"
    };
}

/// What becomes of a row of the same id.
#[derive(Debug, Clone, Copy)]
enum WhenThere {
    Leave,
    Replace,
}

/// Enters a row; whether it was entered.
fn write_sighting(
    connection: &Connection,
    words: &mut Words,
    sighting: &Sighting,
    record: &[u8],
    when_there: WhenThere,
) -> Result<bool, StoreError> {
    let plate = sighting
        .plate_text()
        .map(|text| words.id(connection, Dictionary::Plates, text.as_str()))
        .transpose()?;
    let camera = words.id(connection, Dictionary::Cameras, sighting.camera.as_str())?;
    let id = id_key(sighting.id);
    let query = match when_there {
        WhenThere::Leave => concat!(insert!(), " DO NOTHING"),
        WhenThere::Replace => concat!(
            insert!(),
            " DO UPDATE SET captured = excluded.captured, plate = excluded.plate,
             camera = excluded.camera, stage = excluded.stage, class = excluded.class,
             colour = excluded.colour, checksum = excluded.checksum, record = excluded.record"
        ),
    };
    let entered = connection
        .prepare_cached(query)
        .and_then(|mut statement| {
            statement.execute(params![
                id,
                sighting.captured.at.as_nanos(),
                plate,
                camera,
                sighting.stage.code(),
                sighting.vehicle.class.map_or(NONE, |(class, _)| class.code()),
                sighting.vehicle.colour.map_or(NONE, |(colour, _)| colour.code()),
                checksum(&id, record),
                record,
            ])
        })
        .map_err(sql(DOING))?;
    Ok(entered > 0)
}

/// Puts back what an upsert found in its place.
pub(crate) fn restore_sighting(
    connection: &Connection,
    id: SightingId,
    prior: Option<&[u8]>,
) -> Result<(), StoreError> {
    match prior.map(|record| (decode_sighting(record), record)) {
        Some((Ok(sighting), record)) => {
            let words = &mut Words::default();
            write_sighting(connection, words, &sighting, record, WhenThere::Replace).map(drop)
        }
        other => {
            if let Some((Err(reason), _)) = other {
                warn!(sighting = %id, %reason, "an earlier form was damaged and is not put back");
            }
            connection
                .execute("DELETE FROM sighting WHERE id = ?1", [id_key(id)])
                .map_err(sql("take back sightings"))?;
            Ok(())
        }
    }
}

/// Logs those alerts that the log does not have at that stage, under the next cursors.
pub(crate) fn put_alerts(
    connection: &Connection,
    alerts: &[Alert],
    next_cursor: &mut u64,
    summary: &mut Summary,
) -> Result<Vec<Alert>, StoreError> {
    let failed = sql("append alerts");
    let mut logged = Vec::new();
    for alert in alerts {
        let record = encode_alert(alert);
        decode_alert(*next_cursor, &record).map_err(|reason| {
            guiji_domain::InvalidValue::new("alert", &alert.id, reason.to_string())
        })?;
        let inserted = connection
            .prepare_cached(
                "INSERT INTO alert (cursor, sighting, entry, stage, checksum, record)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (sighting, entry, stage) DO NOTHING",
            )
            .and_then(|mut statement| {
                let cursor = sql_number(*next_cursor);
                statement.execute(params![
                    cursor,
                    id_key(alert.id.sighting),
                    alert.id.entry.as_str(),
                    alert.stage.code(),
                    checksum(&cursor.to_le_bytes(), &record),
                    record,
                ])
            })
            .map_err(&failed)?;
        if inserted > 0 {
            summary.include_cursor(*next_cursor);
            logged.push(Alert { cursor: *next_cursor, ..alert.clone() });
            *next_cursor += 1;
        }
    }
    Ok(logged)
}

/// A table of distinct texts.
#[derive(Debug, Clone, Copy)]
enum Dictionary {
    Plates,
    Cameras,
}

/// Numbers of texts that were lately looked up in a day. Must be forgotten when a transaction is rolled back, which may
/// have given some.
#[derive(Debug, Default)]
pub(crate) struct Words {
    plates: HashMap<Box<str>, i64>,
    cameras: HashMap<Box<str>, i64>,
}

impl Words {
    /// So many are kept: some 100 bytes each.
    const KEPT_MAX: usize = 100_000;

    fn id(
        &mut self,
        connection: &Connection,
        dictionary: Dictionary,
        text: &str,
    ) -> Result<i64, StoreError> {
        let known = match dictionary {
            Dictionary::Plates => &mut self.plates,
            Dictionary::Cameras => &mut self.cameras,
        };
        if let Some(id) = known.get(text) {
            return Ok(*id);
        }
        let id = word_id(connection, dictionary, text)?;
        if known.len() >= Self::KEPT_MAX {
            known.clear();
        }
        known.insert(text.into(), id);
        Ok(id)
    }
}

/// The number of a text, given now if it is new.
fn word_id(connection: &Connection, dictionary: Dictionary, text: &str) -> Result<i64, StoreError> {
    let (find, insert) = match dictionary {
        Dictionary::Plates => (
            "SELECT id FROM plate WHERE text = ?1",
            "INSERT INTO plate (text) VALUES (?1) RETURNING id",
        ),
        Dictionary::Cameras => (
            "SELECT id FROM camera WHERE name = ?1",
            "INSERT INTO camera (name) VALUES (?1) RETURNING id",
        ),
    };
    let run = |query| {
        connection
            .prepare_cached(query)
            .and_then(|mut statement| {
                statement.query_row([text], |row| row.get::<_, i64>(0)).optional()
            })
            .map_err(sql(DOING))
    };
    match run(find)? {
        Some(id) => Ok(id),
        None => run(insert)?.ok_or_else(|| StoreError::Medium {
            doing: DOING,
            reason: "a dictionary gave no number".into(),
        }),
    }
}
