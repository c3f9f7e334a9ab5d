//! Patrol units, in `registry.db`. A record, in the notation of `codec.rs`:
//!
//! ```text
//! 1u8, name str, duty u8, cameras (count var, each str),
//! area (0u8 | 1u8, latitude, longitude, radius f64 | 2u8, latitude, longitude, latitude, longitude f64),
//! shifts (count var, each from var, until var), neighbours (count var, each str)
//! ```

use guiji_domain::{
    CameraId, DailyHours, GeoArea, GeoPoint, PatrolUnit, PatrolUnitId, PatrolUnits, StoreError,
};
use rusqlite::params;

use crate::codec::{Malformed, Reader, Writer};
use crate::codes::Coded as _;
use crate::errors::{damaged, sql};
use crate::memory::MemoryStore;
use crate::partition::checksum;
use crate::registry::Registry;
use crate::store::Store;

const VERSION: u8 = 1;

impl Registry {
    fn put_unit(&self, unit: &PatrolUnit) -> Result<(), StoreError> {
        let record = encode(unit);
        let checksum = checksum(unit.id.as_str().as_bytes(), &record);
        self.connection
            .execute(
                "INSERT OR REPLACE INTO patrol_unit (id, record, checksum) VALUES (?1, ?2, ?3)",
                params![unit.id.as_str(), record, checksum],
            )
            .map(drop)
            .map_err(sql("enter a patrol unit"))
    }

    fn remove_unit(&self, id: &PatrolUnitId) -> Result<bool, StoreError> {
        self.connection
            .execute("DELETE FROM patrol_unit WHERE id = ?1", [id.as_str()])
            .map(|removed| removed > 0)
            .map_err(sql("remove a patrol unit"))
    }

    pub(crate) fn units(&self) -> Result<Vec<PatrolUnit>, StoreError> {
        let failed = sql("read the patrol units");
        let rows: Vec<(String, Vec<u8>, i64)> = self
            .connection
            .prepare_cached("SELECT id, record, checksum FROM patrol_unit ORDER BY id")
            .and_then(|mut all| {
                all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
            })
            .map_err(&failed)?;
        let unit = |(id, record, stored): (String, Vec<u8>, i64)| {
            let what = || format!("patrol unit {id}");
            if i64::from(checksum(id.as_bytes(), &record)) != stored {
                return Err(damaged(what(), "its checksum does not match"));
            }
            decode(&id, &record).map_err(|reason| damaged(what(), reason))
        };
        rows.into_iter().map(unit).collect()
    }
}

impl PatrolUnits for Store {
    fn put_unit(&self, unit: &PatrolUnit) -> Result<(), StoreError> {
        let unit = unit.clone().checked()?;
        self.registry().put_unit(&unit).map_err(|error| self.recognise_full(error))
    }

    fn remove_unit(&self, id: &PatrolUnitId) -> Result<bool, StoreError> {
        self.registry().remove_unit(id).map_err(|error| self.recognise_full(error))
    }

    fn units(&self) -> Result<Vec<PatrolUnit>, StoreError> {
        self.registry().units()
    }
}

impl PatrolUnits for MemoryStore {
    fn put_unit(&self, unit: &PatrolUnit) -> Result<(), StoreError> {
        let unit = unit.clone().checked()?;
        self.units_mut().insert(unit.id.clone(), unit);
        Ok(())
    }

    fn remove_unit(&self, id: &PatrolUnitId) -> Result<bool, StoreError> {
        Ok(self.units_mut().remove(id).is_some())
    }

    fn units(&self) -> Result<Vec<PatrolUnit>, StoreError> {
        Ok(self.units_mut().values().cloned().collect())
    }
}

fn encode(unit: &PatrolUnit) -> Vec<u8> {
    let mut out = Writer::default();
    out.byte(VERSION);
    out.str(&unit.name);
    out.byte(unit.duty.code());
    out.var(unit.cameras.len() as u64);
    unit.cameras.iter().for_each(|camera| out.str(camera.as_str()));
    let mut degrees = |kind: u8, numbers: &[f64]| {
        out.byte(kind);
        numbers.iter().for_each(|number| out.bytes(&number.to_le_bytes()));
    };
    match &unit.area {
        None => degrees(0, &[]),
        Some(GeoArea::Circle { centre, radius_m }) => {
            degrees(1, &[centre.lat_deg(), centre.lon_deg(), *radius_m]);
        }
        Some(GeoArea::Rectangle { south_west, north_east }) => degrees(
            2,
            &[
                south_west.lat_deg(),
                south_west.lon_deg(),
                north_east.lat_deg(),
                north_east.lon_deg(),
            ],
        ),
    }
    out.var(unit.shifts.len() as u64);
    for shift in &unit.shifts {
        out.var(shift.from().into());
        out.var(shift.until().into());
    }
    out.var(unit.neighbours.len() as u64);
    unit.neighbours.iter().for_each(|unit| out.str(unit.as_str()));
    out.0
}

fn decode(id: &str, record: &[u8]) -> Result<PatrolUnit, Malformed> {
    let mut input = Reader(record);
    if input.byte()? != VERSION {
        return Err(Malformed("version"));
    }
    let id = PatrolUnitId::new(id).map_err(|_| Malformed("id"))?;
    let name = input.str()?.to_owned();
    let duty = input.coded("duty")?;
    let cameras =
        list(&mut input, |input| CameraId::new(input.str()?).map_err(|_| Malformed("camera")))?;
    let area = match input.byte()? {
        0 => None,
        1 => Some(GeoArea::Circle { centre: point(&mut input)?, radius_m: input.f64()? }),
        2 => Some(GeoArea::Rectangle {
            south_west: point(&mut input)?,
            north_east: point(&mut input)?,
        }),
        _ => return Err(Malformed("area")),
    };
    let shifts = list(&mut input, |input| {
        let mut minute = || u16::try_from(input.var()?).map_err(|_| Malformed("shift"));
        DailyHours::new(minute()?, minute()?).map_err(|_| Malformed("shift"))
    })?;
    let neighbours = list(&mut input, |input| {
        PatrolUnitId::new(input.str()?).map_err(|_| Malformed("neighbour"))
    })?;
    input.end()?;
    PatrolUnit { id, name, duty, cameras, area, shifts, neighbours }
        .checked()
        .map_err(|_| Malformed("unit"))
}

fn point(input: &mut Reader<'_>) -> Result<GeoPoint, Malformed> {
    GeoPoint::new(input.f64()?, input.f64()?).map_err(|_| Malformed("area"))
}

fn list<T>(
    input: &mut Reader<'_>,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    (0..input.var()?).map(|_| item(input)).collect()
}
