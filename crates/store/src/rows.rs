//! Checksums of whole rows, for tables whose columns are read one by one.
//!
//! The column `checksum` of such a row is the CRC-32 of all others that are not null: name, 0, kind (`i`, `r`, `t` or
//! `b`), length (8 bytes, little-endian) and value of each, in the order of the table. A column that is added later
//! and null at first leaves old rows' checksums as they are.

use guiji_domain::StoreError;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, ToSql};

use crate::errors::{damaged, sql};

/// The checksum of a row whose columns, from `from` on, are all those of its table; `None` inside when it has none.
fn checksums(row: &Row<'_>, from: usize) -> rusqlite::Result<(u32, Option<i64>)> {
    let (mut hasher, mut stated) = (crc32fast::Hasher::new(), None);
    let statement: &rusqlite::Statement<'_> = row.as_ref();
    for at in from..statement.column_count() {
        let name = statement.column_name(at)?;
        let value = row.get_ref(at)?;
        if name == "checksum" {
            if let ValueRef::Integer(number) = value {
                stated = Some(number);
            }
            continue;
        }
        let mut add = |kind: u8, bytes: &[u8]| {
            hasher.update(name.as_bytes());
            hasher.update(&[0, kind]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        match value {
            ValueRef::Null => {}
            ValueRef::Integer(number) => add(b'i', &number.to_le_bytes()),
            ValueRef::Real(number) => add(b'r', &number.to_bits().to_le_bytes()),
            ValueRef::Text(text) => add(b't', text),
            ValueRef::Blob(bytes) => add(b'b', bytes),
        }
    }
    Ok((hasher.finalize(), stated))
}

/// What is wrong with a row whose columns, from `from` on, are all those of its table.
pub(crate) fn fault(row: &Row<'_>, from: usize) -> rusqlite::Result<Option<&'static str>> {
    let (sum, stated) = checksums(row, from)?;
    Ok((stated != Some(i64::from(sum))).then_some("its checksum does not match"))
}

/// Gives a row its checksum. `key` is the value of the table's first column. Inside the transaction that wrote it.
pub(crate) fn seal(
    connection: &Connection,
    table: &str,
    key: &dyn ToSql,
) -> Result<(), StoreError> {
    let sealed = || {
        let key_column = first_column(connection, table)?;
        let sum = connection
            .prepare_cached(&format!("SELECT * FROM {table} WHERE {key_column} = ?1"))?
            .query_row([key], |row| checksums(row, 0))?
            .0;
        connection
            .prepare_cached(&format!("UPDATE {table} SET checksum = ?2 WHERE {key_column} = ?1"))?
            .execute(rusqlite::params![key, sum])
    };
    sealed().map(drop).map_err(sql("give a row its checksum"))
}

/// Gives all rows of a table their checksums: when they get the column.
pub(crate) fn seal_all(connection: &Connection, table: &str) -> Result<(), StoreError> {
    let keys = || -> rusqlite::Result<Vec<rusqlite::types::Value>> {
        let key_column = first_column(connection, table)?;
        let mut all = connection.prepare(&format!("SELECT {key_column} FROM {table}"))?;
        all.query_map([], |row| row.get(0))?.collect()
    };
    let keys = keys().map_err(sql("give a row its checksum"))?;
    keys.iter().try_for_each(|key| seal(connection, table, key))
}

fn first_column(connection: &Connection, table: &str) -> rusqlite::Result<String> {
    let statement = connection.prepare_cached(&format!("SELECT * FROM {table} LIMIT 0"))?;
    statement.column_name(0).map(str::to_owned)
}

/// The single row of a table, proved: its first columns by `read`.
pub(crate) fn only<T>(
    connection: &Connection,
    query: (&str, &str),
    what: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    let failed = sql("read the registry");
    let (column, table) = query;
    let mut statement =
        connection.prepare_cached(&format!("SELECT {column}, * FROM {table}")).map_err(&failed)?;
    let mut rows = statement.query([]).map_err(&failed)?;
    let Some(row) = rows.next().map_err(&failed)? else { return Ok(None) };
    match fault(row, 1).map_err(&failed)? {
        Some(reason) => Err(damaged(what, reason)),
        None => read(row).map(Some).map_err(&failed),
    }
}
