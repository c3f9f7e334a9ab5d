use std::path::Path;

use guiji_domain::{
    Approval, Camera, CameraId, Credentials, DailyHours, GeoPoint, InvalidValue, OnvifAddress,
    PlatePattern, PlateText, SiteId, StoreError, StreamAddress, Timestamp, VehicleDescription,
    WatchEntry, WatchEntryId, WatchTarget, Weekdays,
};
use rusqlite::{Connection, Row, params};

use crate::codes::{Coded, NONE, code_or_none};
use crate::errors::{damaged, sql};
use crate::partition::sql_number;
use crate::patrol;
use crate::rows;
use crate::schema::{self, FileKind};
use crate::secrets::SealKey;
use crate::settings::Durability;

/// `registry.db`: what is not bound to a day.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) connection: Connection,
    key: SealKey,
}

impl Registry {
    pub(crate) fn open(
        path: &Path,
        key: &Path,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let key = SealKey::load_or_make(key)?;
        let connection = schema::open_writer(path, FileKind::Registry, durability)?;
        let registry = Self { connection, key };
        registry.seal_what_is_open()?;
        Ok(registry)
    }

    /// Seals the passwords of version 1, and leaves no copy of them in free pages and logs.
    fn seal_what_is_open(&self) -> Result<(), StoreError> {
        let failed = sql("seal the cameras' passwords");
        let open: Vec<(String, String)> = self
            .connection
            .prepare("SELECT id, password FROM camera WHERE password IS NOT NULL")
            .and_then(|mut all| all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(&failed)?;
        if open.is_empty() {
            return Ok(());
        }
        self.connection.execute_batch("PRAGMA secure_delete = ON").map_err(&failed)?;
        let transaction = self.connection.unchecked_transaction().map_err(&failed)?;
        for (id, password) in open {
            let sealed = self.key.seal(&id, &password)?;
            let change = "UPDATE camera SET password = NULL, sealed = ?2 WHERE id = ?1";
            transaction.execute(change, params![id, sealed]).map_err(&failed)?;
            rows::seal(&transaction, "camera", &id)?;
        }
        transaction.commit().map_err(&failed)?;
        self.connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").map_err(&failed)
    }

    pub(crate) fn put_cameras(&self, cameras: &[Camera]) -> Result<(), StoreError> {
        let failed = sql("register cameras");
        // Unchecked, since the lock on the registry already keeps others out.
        let transaction = self.connection.unchecked_transaction().map_err(&failed)?;
        cameras.iter().try_for_each(|camera| self.put_camera(camera))?;
        transaction.commit().map_err(&failed)
    }

    fn put_camera(&self, camera: &Camera) -> Result<(), StoreError> {
        let credentials = camera.credentials.as_ref();
        let username = credentials.map(|credentials| &credentials.username);
        let sealed = credentials.map(|c| self.key.seal(camera.id.as_str(), &c.password));
        let sealed = sealed.transpose()?;
        self.connection
            .execute(
                "INSERT OR REPLACE INTO camera (id, site, name, lat_deg, lon_deg, bearing_deg, address, username,
                 sealed, transport, pace, policy, analysed_fps_max, recorded_at, enabled, lanes, substream, onvif)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
                params![
                    camera.id.as_str(),
                    camera.site.as_str(),
                    camera.name,
                    camera.position.lat_deg(),
                    camera.position.lon_deg(),
                    camera.bearing_deg,
                    camera.address.as_str(),
                    username,
                    sealed,
                    camera.transport.code(),
                    camera.pace.code(),
                    camera.policy.code(),
                    camera.analysed_fps_max,
                    camera.recorded_at.map(Timestamp::as_nanos),
                    camera.enabled,
                    camera.lanes,
                    camera.substream.as_ref().map(StreamAddress::as_str),
                    camera.onvif.as_ref().map(OnvifAddress::as_str),
                ],
            )
            .map_err(sql("register a camera"))?;
        rows::seal(&self.connection, "camera", &camera.id.as_str())
    }

    pub(crate) fn remove_camera(&self, id: &CameraId) -> Result<bool, StoreError> {
        self.connection
            .execute("DELETE FROM camera WHERE id = ?1", [id.as_str()])
            .map(|removed| removed > 0)
            .map_err(sql("remove a camera"))
    }

    pub(crate) fn cameras(&self) -> Result<Vec<Camera>, StoreError> {
        self.all(
            "id, site, name, lat_deg, lon_deg, bearing_deg, address, username, sealed,
             transport, pace, policy, analysed_fps_max, recorded_at, enabled, lanes, substream, onvif",
            "camera ORDER BY id",
            params![],
            "camera",
            |row| camera_of(row, &self.key),
        )
    }

    pub(crate) fn put_entries(&self, entries: &[WatchEntry]) -> Result<(), StoreError> {
        let failed = sql("enter watch-list entries");
        // Unchecked, since the lock on the registry already keeps others out.
        let transaction = self.connection.unchecked_transaction().map_err(&failed)?;
        entries.iter().try_for_each(|entry| self.put_entry(entry))?;
        transaction.commit().map_err(&failed)
    }

    fn put_entry(&self, entry: &WatchEntry) -> Result<(), StoreError> {
        let (kind, target) = match &entry.target {
            WatchTarget::Plate(text) => (0, text.as_str()),
            WatchTarget::Pattern(pattern) => (1, pattern.as_str()),
            WatchTarget::Description => (2, ""),
        };
        let cameras: Vec<_> = entry.cameras.iter().map(CameraId::as_str).collect();
        let approval = entry.approval.as_ref();
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO watch_entry (id, kind, target, case_number, reason, owner, created, expires,
                 threshold, cameras, class, colour, heading, hours_from, hours_until, approved_by, approved, area, course,
                 hours_days)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
            )
            .and_then(|mut one| {
                one.execute(params![
                    entry.id.as_str(),
                    kind,
                    target,
                    entry.case_number,
                    entry.reason,
                    entry.owner,
                    entry.created.as_nanos(),
                    entry.expires.as_nanos(),
                    entry.threshold,
                    cameras.join(" "),
                    code_or_none(entry.vehicle.class),
                    code_or_none(entry.vehicle.colour),
                    code_or_none(entry.vehicle.heading),
                    entry.hours.map(|hours| hours.from()),
                    entry.hours.map(|hours| hours.until()),
                    approval.map(|approval| &approval.by),
                    approval.map(|approval| approval.at.as_nanos()),
                    entry.area.as_ref().map(|area| patrol::encode_area(Some(area))),
                    code_or_none(entry.vehicle.course),
                    entry.hours.map_or(Weekdays::ALL, |hours| hours.days()).bits(),
                ])
            })
            .map_err(sql("enter a watch-list entry"))?;
        rows::seal(&self.connection, "watch_entry", &entry.id.as_str())
    }

    pub(crate) fn remove_entry(&self, id: &WatchEntryId) -> Result<bool, StoreError> {
        self.connection
            .execute("DELETE FROM watch_entry WHERE id = ?1", [id.as_str()])
            .map(|removed| removed > 0)
            .map_err(sql("remove a watch-list entry"))
    }

    pub(crate) fn entry(&self, id: &WatchEntryId) -> Result<Option<WatchEntry>, StoreError> {
        Ok(self.entries_where("id = ?1", params![id.as_str()])?.pop())
    }

    pub(crate) fn entries_after(
        &self,
        after: Option<&WatchEntryId>,
        limit: usize,
    ) -> Result<Vec<WatchEntry>, StoreError> {
        let after = after.map_or("", WatchEntryId::as_str);
        self.entries_where("id > ?1 ORDER BY id LIMIT ?2", params![after, sql_number(limit as u64)])
    }

    pub(crate) fn entries(&self) -> Result<Vec<WatchEntry>, StoreError> {
        self.entries_where("TRUE ORDER BY id", params![])
    }

    fn entries_where(
        &self,
        condition: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<WatchEntry>, StoreError> {
        self.all(
            "id, kind, target, case_number, reason, owner, created, expires, threshold, cameras, class, colour,
             heading, hours_from, hours_until, approved_by, approved, area, course, hours_days",
            &format!("watch_entry WHERE {condition}"),
            parameters,
            "watch-list entry",
            entry_of,
        )
    }

    /// No alert has a cursor above this.
    pub(crate) fn reserved_cursor(&self) -> Result<u64, StoreError> {
        const WHAT: &str = "the alert cursor";
        let query = ("reserved", "alert_cursor");
        let reserved: Option<i64> = rows::only(&self.connection, query, WHAT, |row| row.get(0))?;
        let reserved = reserved.ok_or_else(|| damaged(WHAT, "it is missing"))?;
        u64::try_from(reserved).map_err(|_| damaged(WHAT, "it is negative"))
    }

    /// Durably raises the bound of cursors.
    pub(crate) fn reserve_cursors(&self, until: u64) -> Result<(), StoreError> {
        self.write_sealed(
            "UPDATE alert_cursor SET reserved = ?1",
            params![sql_number(until)],
            "alert_cursor",
            sql("reserve alert cursors"),
        )
    }

    /// Writes the single row of a table, in one commit with its checksum.
    fn write_sealed(
        &self,
        query: &str,
        values: &[&dyn rusqlite::ToSql],
        table: &str,
        failed: impl Fn(rusqlite::Error) -> StoreError,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.unchecked_transaction().map_err(&failed)?;
        transaction.execute(query, values).map_err(&failed)?;
        rows::seal(&transaction, table, &1)?;
        transaction.commit().map_err(&failed)
    }

    /// The note of a batch that is being committed, or was when the store stopped.
    pub(crate) fn unfinished(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let what = "the note of an unfinished batch";
        rows::only(&self.connection, ("undo", "unfinished"), what, |row| row.get(0))
    }

    pub(crate) fn note_unfinished(&self, undo: &[u8]) -> Result<(), StoreError> {
        self.write_sealed(
            "INSERT INTO unfinished (one, undo) VALUES (1, ?1)",
            params![undo],
            "unfinished",
            sql("note an unfinished batch"),
        )
    }

    pub(crate) fn clear_unfinished(&self) -> Result<(), StoreError> {
        self.connection
            .execute("DELETE FROM unfinished", [])
            .map_err(sql("clear the note of an unfinished batch"))?;
        Ok(())
    }

    /// Rows of a table (`from` may go on with a condition), each proved: their first columns by `make`.
    fn all<T>(
        &self,
        columns: &str,
        from: &str,
        parameters: &[&dyn rusqlite::ToSql],
        what: &'static str,
        make: impl Fn(&Row<'_>) -> rusqlite::Result<Result<T, InvalidValue>>,
    ) -> Result<Vec<T>, StoreError> {
        let failed = sql("read the registry");
        let query = format!("SELECT {columns}, * FROM {from}");
        let count = columns.split(',').count();
        let mut statement = self.connection.prepare_cached(&query).map_err(&failed)?;
        let mut rows = statement.query(parameters).map_err(&failed)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            let id = row.get_ref(0).map_err(&failed)?;
            let id = String::from_utf8_lossy(id.as_bytes().unwrap_or_default()).into_owned();
            if let Some(reason) = rows::fault(row, count).map_err(&failed)? {
                return Err(damaged(format!("{what} {id}"), reason));
            }
            let value = make(row).map_err(&failed)?;
            all.push(value.map_err(|reason| damaged(format!("{what} {id}"), reason))?);
        }
        Ok(all)
    }
}

type Text = String;

fn camera_of(row: &Row<'_>, key: &SealKey) -> rusqlite::Result<Result<Camera, InvalidValue>> {
    let (id, site, name): (Text, Text, Text) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (lat, lon, bearing_deg) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let address: Text = row.get(6)?;
    let credentials: (Option<Text>, Option<Vec<u8>>) = (row.get(7)?, row.get(8)?);
    let (transport, pace, policy) = (row.get(9)?, row.get(10)?, row.get(11)?);
    let (analysed_fps_max, recorded_at, enabled) =
        (row.get(12)?, row.get::<_, Option<i64>>(13)?, row.get(14)?);
    let (lanes, substream): (_, Option<Text>) = (row.get(15)?, row.get(16)?);
    let onvif: Option<Text> = row.get(17)?;
    let make = move || {
        Ok(Camera {
            id: CameraId::new(&id)?,
            site: SiteId::new(&site)?,
            name,
            position: GeoPoint::new(lat, lon)?,
            bearing_deg,
            address: StreamAddress::new(&address)?,
            credentials: match credentials {
                (Some(username), Some(sealed)) => {
                    let password = key.open(&id, &sealed).ok_or_else(|| {
                        let fix = "was sealed with another key: bring the registry's key back";
                        InvalidValue::new("password", "of the camera", fix)
                    })?;
                    Some(Credentials { username, password })
                }
                _ => None,
            },
            transport: choice("transport", transport)?,
            pace: choice("pace", pace)?,
            policy: choice("decode policy", policy)?,
            analysed_fps_max,
            recorded_at: recorded_at.map(Timestamp::from_nanos),
            enabled,
            lanes,
            substream: substream.as_deref().map(StreamAddress::new).transpose()?,
            onvif: onvif.as_deref().map(OnvifAddress::new).transpose()?,
        })
    };
    Ok(make())
}

fn entry_of(row: &Row<'_>) -> rusqlite::Result<Result<WatchEntry, InvalidValue>> {
    let (id, kind, target): (Text, i64, Text) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (case_number, reason, owner) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let (created, expires) = (row.get(6)?, row.get(7)?);
    let (threshold, cameras): (f32, Text) = (row.get(8)?, row.get(9)?);
    let (class, colour, heading) = (row.get(10)?, row.get(11)?, row.get(12)?);
    let hours: (Option<u16>, Option<u16>) = (row.get(13)?, row.get(14)?);
    let approval: (Option<Text>, Option<i64>) = (row.get(15)?, row.get(16)?);
    let (area, course): (Option<Vec<u8>>, _) = (row.get(17)?, row.get(18)?);
    let days: u8 = row.get(19)?;
    let make = move || {
        Ok(WatchEntry {
            id: WatchEntryId::new(&id)?,
            target: match kind {
                0 => WatchTarget::Plate(PlateText::parse(&target)?),
                1 => WatchTarget::Pattern(PlatePattern::parse(&target)?),
                2 => WatchTarget::Description,
                _ => return Err(InvalidValue::new("target kind", kind, "is unknown")),
            },
            case_number,
            reason,
            owner,
            created: Timestamp::from_nanos(created),
            expires: Timestamp::from_nanos(expires),
            threshold,
            cameras: cameras.split_whitespace().map(CameraId::new).collect::<Result<_, _>>()?,
            area: match area {
                None => None,
                Some(area) => patrol::decode_area(&area).map_err(|reason| {
                    InvalidValue::new("area", "of the entry", reason.to_string())
                })?,
            },
            vehicle: VehicleDescription {
                class: optional_choice("vehicle class", class)?,
                colour: optional_choice("vehicle colour", colour)?,
                heading: optional_choice("heading", heading)?,
                course: optional_choice("course", course)?,
            },
            hours: match hours {
                (Some(from), Some(until)) => {
                    let days = Weekdays::from_bits(days)
                        .ok_or_else(|| InvalidValue::new("weekdays", days, "is an unknown set"))?;
                    Some(DailyHours::new(from, until)?.on(days))
                }
                _ => None,
            },
            approval: match approval {
                (Some(by), Some(at)) => Some(Approval { by, at: Timestamp::from_nanos(at) }),
                _ => None,
            },
        })
    };
    Ok(make())
}

fn optional_choice<T: Coded>(what: &'static str, code: u8) -> Result<Option<T>, InvalidValue> {
    if code == NONE { Ok(None) } else { choice(what, code).map(Some) }
}

fn choice<T: Coded>(what: &'static str, code: u8) -> Result<T, InvalidValue> {
    T::from_code(code).ok_or_else(|| InvalidValue::new(what, code, "is an unknown code"))
}
