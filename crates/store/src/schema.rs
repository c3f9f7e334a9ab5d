//! Opening SQLite files: creation, pragmas, migrations.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use guiji_domain::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::errors::{damaged, io_at, sql_at};
use crate::settings::Durability;
use crate::{context, deliveries, rows, wal};

/// What a file is for. Its `application_id` says so on disk, so that a stray file is never taken for ours.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FileKind {
    Registry,
    Partition,
    Context,
    Deliveries,
}

impl FileKind {
    fn application_id(self) -> i32 {
        match self {
            Self::Registry => 0x474a_5231,   // "GJR1"
            Self::Partition => 0x474a_5031,  // "GJP1"
            Self::Context => 0x474a_4331,    // "GJC1"
            Self::Deliveries => 0x474a_4431, // "GJD1"
        }
    }

    /// Step `i` leads from version `i` to version `i + 1`. Steps are appended, never changed: files of every version
    /// that was ever released lie in `testdata/` and must open.
    fn migrations(self) -> &'static [&'static str] {
        match self {
            Self::Registry => &[
                REGISTRY_V1,
                REGISTRY_V2,
                REGISTRY_V3,
                REGISTRY_V4,
                REGISTRY_V5,
                REGISTRY_V6,
                REGISTRY_SUMS,
                REGISTRY_V8,
            ],
            Self::Partition => &[PARTITION_V1, PARTITION_V2, PARTITION_V3, PARTITION_V4],
            Self::Context => &[CONTEXT_V1, CONTEXT_V2],
            Self::Deliveries => &[DELIVERIES_V1, DELIVERIES_V2],
        }
    }
}

/// What of a step SQL cannot say, after it.
fn finish_step(connection: &Connection, step: &str) -> Result<(), StoreError> {
    match step {
        REGISTRY_SUMS => ["camera", "watch_entry", "alert_cursor", "unfinished"]
            .iter()
            .try_for_each(|table| rows::seal_all(connection, table)),
        CONTEXT_V2 => context::fill_scales(connection),
        DELIVERIES_V2 => deliveries::seal_standings(connection),
        _ => Ok(()),
    }
}

const REGISTRY_V1: &str = "
CREATE TABLE camera (
    id TEXT PRIMARY KEY, site TEXT NOT NULL, name TEXT NOT NULL,
    lat_deg REAL NOT NULL, lon_deg REAL NOT NULL, bearing_deg REAL,
    address TEXT NOT NULL, username TEXT, password TEXT,
    transport INTEGER NOT NULL, pace INTEGER NOT NULL, policy INTEGER NOT NULL,
    analysed_fps_max REAL NOT NULL, recorded_at INTEGER, enabled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- cameras: names joined by blanks, empty for everywhere. kind: 0 plate, 1 pattern.
CREATE TABLE watch_entry (
    id TEXT PRIMARY KEY, kind INTEGER NOT NULL, target TEXT NOT NULL,
    case_number TEXT NOT NULL, reason TEXT NOT NULL, owner TEXT NOT NULL,
    created INTEGER NOT NULL, expires INTEGER NOT NULL, threshold REAL NOT NULL,
    cameras TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- No alert has a cursor above this.
CREATE TABLE alert_cursor (one INTEGER PRIMARY KEY CHECK (one = 1), reserved INTEGER NOT NULL) STRICT;
INSERT INTO alert_cursor VALUES (1, 0);
-- How to take back a batch of several days that is being committed.
CREATE TABLE unfinished (one INTEGER PRIMARY KEY CHECK (one = 1), undo BLOB NOT NULL) STRICT;
";

// sealed: the password, encrypted (`seal.rs`); `password` is empty since.
const REGISTRY_V2: &str = "ALTER TABLE camera ADD COLUMN sealed BLOB;";

// kind: 2 description, whose target is empty. class, colour, heading: codes, 255 for anything. hours: minutes after
// midnight in China, null for always.
const REGISTRY_V3: &str = "
ALTER TABLE watch_entry ADD COLUMN class INTEGER NOT NULL DEFAULT 255;
ALTER TABLE watch_entry ADD COLUMN colour INTEGER NOT NULL DEFAULT 255;
ALTER TABLE watch_entry ADD COLUMN heading INTEGER NOT NULL DEFAULT 255;
ALTER TABLE watch_entry ADD COLUMN hours_from INTEGER;
ALTER TABLE watch_entry ADD COLUMN hours_until INTEGER;
ALTER TABLE watch_entry ADD COLUMN approved_by TEXT;
ALTER TABLE watch_entry ADD COLUMN approved INTEGER;
";

// record: see `patrol.rs`. checksum: CRC-32 of id and record.
const REGISTRY_V4: &str = "
CREATE TABLE patrol_unit (id TEXT PRIMARY KEY, record BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

// lanes: how many are in view. substream: where the view comes in low resolution.
const REGISTRY_V5: &str = "
ALTER TABLE camera ADD COLUMN lanes INTEGER;
ALTER TABLE camera ADD COLUMN substream TEXT;
";

// area: as in a patrol unit's record (`patrol.rs`), null for everywhere. course: a code, 255 for anything. hours_days:
// a bit for each day of the week, Monday's the lowest.
const REGISTRY_V6: &str = "
ALTER TABLE watch_entry ADD COLUMN area BLOB;
ALTER TABLE watch_entry ADD COLUMN course INTEGER NOT NULL DEFAULT 255;
ALTER TABLE watch_entry ADD COLUMN hours_days INTEGER NOT NULL DEFAULT 127;
";

// checksum: of the whole row (see `rows.rs`).
const REGISTRY_SUMS: &str = "
ALTER TABLE camera ADD COLUMN checksum INTEGER;
ALTER TABLE watch_entry ADD COLUMN checksum INTEGER;
ALTER TABLE alert_cursor ADD COLUMN checksum INTEGER;
ALTER TABLE unfinished ADD COLUMN checksum INTEGER;
";

// onvif: where the camera is asked for keyframes. Null at first, so that checksums stay (`rows.rs`).
const REGISTRY_V8: &str = "ALTER TABLE camera ADD COLUMN onvif TEXT;";

const DELIVERIES_V1: &str = "
-- reached: everything in the alert log up to it is dealt with, what lies aside excepted.
CREATE TABLE receiver (id TEXT PRIMARY KEY, reached INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE aside (receiver TEXT, cursor INTEGER, PRIMARY KEY (receiver, cursor)) STRICT, WITHOUT ROWID;
-- sighting: 16 bytes, big-endian; message: SHA-256; checksum: CRC-32 of the other columns (`deliveries.rs`).
CREATE TABLE delivery (
    sighting BLOB, entry TEXT, stage INTEGER, receiver TEXT, cursor INTEGER NOT NULL,
    delivered INTEGER NOT NULL, tries INTEGER NOT NULL, message BLOB NOT NULL, answer TEXT NOT NULL,
    checksum INTEGER NOT NULL, PRIMARY KEY (sighting, entry, stage, receiver)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_by_time ON delivery (delivered);
";

// aside_sum: CRC-32 of the cursors that lie aside (`deliveries.rs`). checksum: of the whole row (see `rows.rs`).
const DELIVERIES_V2: &str = "
ALTER TABLE receiver ADD COLUMN aside_sum INTEGER;
ALTER TABLE receiver ADD COLUMN checksum INTEGER;
";

const PARTITION_V1: &str = "
CREATE TABLE plate (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE camera (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
-- id: 16 bytes, big-endian, so that bytes sort as ids. The record holds everything; the other columns are copies for
-- the indexes, checked against it. checksum: CRC-32 of id and record. Records lie in the order of arrival; the
-- narrow indexes are what stays in memory.
CREATE TABLE sighting (
    seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, captured INTEGER NOT NULL,
    plate INTEGER, camera INTEGER NOT NULL, stage INTEGER NOT NULL,
    class INTEGER NOT NULL, colour INTEGER NOT NULL,
    checksum INTEGER NOT NULL, record BLOB NOT NULL
) STRICT;
CREATE INDEX sighting_by_plate ON sighting (plate, captured, id) WHERE plate IS NOT NULL;
CREATE INDEX sighting_by_camera ON sighting (camera, captured, id);
CREATE INDEX sighting_by_time ON sighting (captured, id);
-- checksum: CRC-32 of cursor and record.
CREATE TABLE alert (
    cursor INTEGER PRIMARY KEY, sighting BLOB NOT NULL, entry TEXT NOT NULL, stage INTEGER NOT NULL,
    checksum INTEGER NOT NULL, record BLOB NOT NULL,
    UNIQUE (sighting, entry, stage)
) STRICT;
CREATE TABLE pack (number INTEGER PRIMARY KEY, kind INTEGER NOT NULL) STRICT;
CREATE TABLE picture (
    digest BLOB NOT NULL, kind INTEGER NOT NULL, pack INTEGER NOT NULL,
    start INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (digest, kind)
) STRICT, WITHOUT ROWID;
";

const PARTITION_V2: &str = "
-- Which segment holds what was sealed: the number in its file's name. No row, no segment.
CREATE TABLE sealed (one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER NOT NULL) STRICT;
";

// What a crash left provisional is looked for at every start.
const PARTITION_V3: &str = "CREATE INDEX sighting_provisional ON sighting (id) WHERE stage = 0;";

// By the hour first (3.6e12 ns): what comes live then falls on few pages, whichever cameras it is of (ADR 4).
const PARTITION_V4: &str = "
DROP INDEX sighting_by_camera;
CREATE INDEX sighting_by_camera ON sighting (captured / 3600000000000, camera, captured, id);
";

const CONTEXT_V1: &str = "
-- checksum, everywhere: CRC-32 of all that the row says (see `context.rs`). Times: nanoseconds.
CREATE TABLE coverage (
    camera TEXT NOT NULL, first INTEGER NOT NULL, state INTEGER NOT NULL, last INTEGER NOT NULL,
    cause TEXT NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (camera, first, state)
) STRICT, WITHOUT ROWID;
CREATE INDEX coverage_by_end ON coverage (last);
CREATE TABLE road_graph (
    one INTEGER PRIMARY KEY CHECK (one = 1), record BLOB NOT NULL, checksum INTEGER NOT NULL
) STRICT;
-- sighting: 16 bytes, big-endian. number: the order of making.
CREATE TABLE correction (
    number INTEGER PRIMARY KEY, sighting BLOB NOT NULL, plate TEXT NOT NULL, at INTEGER NOT NULL,
    officer TEXT NOT NULL, case_number TEXT NOT NULL, reason TEXT NOT NULL, checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX correction_by_sighting ON correction (sighting, number);
";

// scale: the class of the interval's length (see `context.rs`), so that those of a time are found without walking all
// earlier ones.
const CONTEXT_V2: &str = "
ALTER TABLE coverage ADD COLUMN scale INTEGER NOT NULL DEFAULT 0;
CREATE INDEX coverage_by_scale ON coverage (camera, scale, first);
";

/// How long a connection waits for a lock: only recovery and checkpoints of another connection hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a file for writing, makes it when it is missing and brings it to the newest version.
pub(crate) fn open_writer(
    path: &Path,
    kind: FileKind,
    durability: Durability,
) -> Result<Connection, StoreError> {
    const DOING: &str = "open a file of the store";
    create_private(path)?;
    let mut connection = connect(path)?;
    let failed = sql_at(DOING, path);
    connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))
        .map_err(&failed)?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::UnsafeNoSync => "OFF",
    };
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA cache_size = -65536; PRAGMA journal_size_limit = 67108864;"
        ))
        .map_err(&failed)?;
    migrate(&mut connection, kind, path)?;
    wal::note_commits(&mut connection, path)?;
    Ok(connection)
}

/// Opens an existing file of the newest version for queries.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path)?;
    connection
        .execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -8192;")
        .map_err(sql_at("open a file of the store", path))?;
    Ok(connection)
}

/// Opens an existing file.
pub(crate) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let failed = sql_at("open a file of the store", path);
    // A reader needs to write too: to the index of the write-ahead log.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(&failed)?;
    // Else a statement is compiled anew for each value that it is given.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(&failed)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn migrate(connection: &mut Connection, kind: FileKind, path: &Path) -> Result<(), StoreError> {
    const DOING: &str = "migrate a file of the store";
    let failed = sql_at(DOING, path);
    let number = |pragma: &str| {
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i32>(0))
    };
    let version = number("user_version").map_err(&failed)?;
    let application = number("application_id").map_err(&failed)?;
    let steps = kind.migrations();
    if version == 0 {
        let tables = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
            .map_err(&failed)?;
        if tables > 0 {
            return Err(damaged(path.display(), "it is not a file of this store"));
        }
    } else if application != kind.application_id() {
        return Err(damaged(path.display(), "it is not a file of this store"));
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    let Some(pending) = steps.get(done..) else {
        return Err(StoreError::Medium {
            doing: "open the store",
            reason: format!(
                "{} has format {version}, this program knows up to {}: use a newer program",
                path.display(),
                steps.len()
            ),
        });
    };
    if pending.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction().map_err(&failed)?;
    for step in pending {
        transaction.execute_batch(step).map_err(&failed)?;
        finish_step(&transaction, step)?;
    }
    transaction
        .execute_batch(&format!(
            "PRAGMA application_id = {}; PRAGMA user_version = {};",
            kind.application_id(),
            steps.len()
        ))
        .map_err(&failed)?;
    transaction.commit().map_err(&failed)
}

/// Makes an empty file, readable by its owner only, unless there is one. Its name is durable on return, also when a
/// crash came between the making and the syncing before.
pub(crate) fn create_private(path: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(io_at("create a file", path)(error))
        }
        Ok(_) | Err(_) => sync_folder_of(path),
    }
}

/// Makes the names in the folder of a file durable.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_at("sync a folder", folder))
}
