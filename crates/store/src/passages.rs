//! Every passage of a span: sealed days by their columns, open ones by the columns of their table. No record is
//! decoded, so a damaged one is not noticed here: the check finds it.

use std::collections::HashMap;

use guiji_domain::{
    CameraId, PassageSource, PlatePassage, PlateText, SightingStage, SortOrder, StoreError,
    TimeSpan, Timestamp,
};
use rusqlite::{Connection, params};

use crate::codes::{Coded, NONE};
use crate::errors::{damaged, sql};
use crate::{MemoryStore, Store};

const DOING: &str = "go through the sightings";

impl PassageSource for Store {
    fn passages(
        &self,
        span: TimeSpan,
        visit: &mut dyn FnMut(&PlatePassage<'_>),
    ) -> Result<(), StoreError> {
        let (first, last) = (span.first().as_nanos(), span.last().as_nanos());
        let wanted = |captured: Option<(i64, i64)>| {
            captured.is_some_and(|(earliest, latest)| earliest <= last && first <= latest)
        };
        for partition in self.shared.partitions_by(SortOrder::OldestFirst) {
            let loose = wanted(partition.summary().captured);
            let Some(view) = self.shared.view(&partition, loose)? else { continue };
            if let Some(segment) = view.segment()
                && wanted(segment.captured())
            {
                segment.passages(span, visit)?;
            }
            if let Some(connection) = view.database() {
                loose_passages(connection, span, visit)?;
            }
        }
        Ok(())
    }
}

fn loose_passages(
    connection: &Connection,
    span: TimeSpan,
    visit: &mut dyn FnMut(&PlatePassage<'_>),
) -> Result<(), StoreError> {
    let failed = sql(DOING);
    let plates = words(connection, "SELECT id, text FROM plate", PlateText::parse)?;
    let cameras = words(connection, "SELECT id, name FROM camera", CameraId::new)?;
    // In the order of the table: its rows are read one after the other.
    let mut statement = connection
        .prepare_cached(
            "SELECT plate, camera, captured, class, colour FROM sighting NOT INDEXED
             WHERE captured >= ?1 AND captured <= ?2 AND stage = ?3 AND plate IS NOT NULL",
        )
        .map_err(&failed)?;
    let (first, last) = (span.first().as_nanos(), span.last().as_nanos());
    let mut rows =
        statement.query(params![first, last, SightingStage::Final.code()]).map_err(&failed)?;
    let wrong = |what| damaged("a sighting's row", what);
    while let Some(row) = rows.next().map_err(&failed)? {
        let number = |column| row.get::<_, i64>(column).map_err(&failed);
        let at = Timestamp::from_nanos(number(2)?);
        let passage = PlatePassage {
            plate: plates.get(&number(0)?).ok_or_else(|| wrong("its plate is none"))?,
            camera: cameras.get(&number(1)?).ok_or_else(|| wrong("its camera is none"))?,
            at,
            class: choice(number(3)?).ok_or_else(|| wrong("its class is none"))?,
            colour: choice(number(4)?).ok_or_else(|| wrong("its colour is none"))?,
        };
        visit(&passage);
    }
    Ok(())
}

/// A dictionary of the day.
fn words<T>(
    connection: &Connection,
    query: &str,
    parse: fn(&str) -> Result<T, guiji_domain::InvalidValue>,
) -> Result<HashMap<i64, T>, StoreError> {
    let failed = sql(DOING);
    let mut statement = connection.prepare_cached(query).map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    let mut words = HashMap::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        let text: String = row.get(1).map_err(&failed)?;
        let word = parse(&text).map_err(|reason| damaged("a dictionary of the day", reason))?;
        words.insert(row.get(0).map_err(&failed)?, word);
    }
    Ok(words)
}

/// A choice from its number; the outer `None` is an unknown one.
fn choice<T: Coded>(number: i64) -> Option<Option<T>> {
    match u8::try_from(number).ok()? {
        NONE => Some(None),
        code => T::from_code(code).map(Some),
    }
}

impl PassageSource for MemoryStore {
    fn passages(
        &self,
        span: TimeSpan,
        visit: &mut dyn FnMut(&PlatePassage<'_>),
    ) -> Result<(), StoreError> {
        self.each_sighting(|sighting| {
            let at = sighting.captured.at;
            if sighting.stage != SightingStage::Final || !span.contains(at) {
                return;
            }
            let Some(plate) = sighting.plate_text() else { return };
            visit(&PlatePassage {
                plate,
                camera: &sighting.camera,
                at,
                class: sighting.vehicle.class.map(|(class, _)| class),
                colour: sighting.vehicle.colour.map(|(colour, _)| colour),
            });
        });
        Ok(())
    }
}
