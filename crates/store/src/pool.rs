use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use guiji_domain::StoreError;
use rusqlite::Connection;
use tracing::debug;

use crate::day::Day;
use crate::errors::sql;
use crate::partition::{Partition, sealed_number};
use crate::schema;
use crate::segment::Segment;

/// Read connections of all partitions: opened when needed, kept for the next query, closed least recently used
/// first. Never more than a fixed number are open; who needs one more waits.
#[derive(Debug)]
pub(crate) struct ReadPool {
    open_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Least recently used first.
    idle: Vec<(Day, Connection)>,
    /// Connections lent out, by day.
    lent: HashMap<Day, usize>,
    /// Days about to be deleted: nothing is lent any more.
    retiring: HashSet<Day>,
}

impl State {
    fn open(&self) -> usize {
        self.idle.len() + self.lent.values().sum::<usize>()
    }
}

impl ReadPool {
    pub(crate) fn new(open_max: usize) -> Self {
        Self { open_max: open_max.max(1), state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to a partition; `None` when retention has taken it.
    ///
    /// A caller must give one back before it asks for another, or two callers could wait for each other.
    pub(crate) fn lend(&self, partition: &Partition) -> Result<Option<Lent<'_>>, StoreError> {
        let day = partition.day;
        let mut state = self.lock();
        loop {
            if state.retiring.contains(&day) || partition.is_deleted() {
                return Ok(None);
            }
            if let Some(at) = state.idle.iter().rposition(|(idle, _)| *idle == day) {
                let (_, connection) = state.idle.remove(at);
                *state.lent.entry(day).or_default() += 1;
                return Ok(Some(Lent { pool: self, day, connection: Some(connection) }));
            }
            if state.open() < self.open_max {
                *state.lent.entry(day).or_default() += 1;
                drop(state);
                // From here on, dropping it corrects the count, also when opening fails.
                let mut lent = Lent { pool: self, day, connection: None };
                lent.connection = Some(schema::open_reader(&partition.path)?);
                return Ok(Some(lent));
            }
            if !state.idle.is_empty() {
                let least_recent = state.idle.remove(0);
                drop(state);
                drop(least_recent); // closing may write to disk: not under the lock
                state = self.lock();
                continue;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes every connection to a day and lends none until [`Self::release`].
    pub(crate) fn retire(&self, day: Day) {
        let mut state = self.lock();
        state.retiring.insert(day);
        while state.lent.contains_key(&day) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (closing, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.idle).into_iter().partition(|(idle, _)| *idle == day);
        state.idle = kept;
        drop(state);
        drop(closing);
    }

    /// Lends the day again.
    pub(crate) fn release(&self, day: Day) {
        self.lock().retiring.remove(&day);
        self.changed.notify_all();
    }
}

/// What a day holds, as it was at one moment.
pub(crate) struct View<'a> {
    /// Inside a transaction.
    database: Option<Lent<'a>>,
    segment: Option<Arc<Segment>>,
}

impl<'a> View<'a> {
    /// Takes a connection's present state. No sealing may commit meanwhile.
    pub(crate) fn begin(
        database: Option<Lent<'a>>,
        segment: Option<Arc<Segment>>,
    ) -> Result<Self, StoreError> {
        if let Some(connection) = &database {
            // A transaction sees what is there at its first read.
            let begun = connection.execute_batch("BEGIN");
            begun.map_err(sql("read a partition"))?;
            sealed_number(connection)?;
        }
        Ok(Self { database, segment })
    }

    pub(crate) fn database(&self) -> Option<&Connection> {
        self.database.as_deref()
    }

    pub(crate) fn segment(&self) -> Option<&Arc<Segment>> {
        self.segment.as_ref()
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Some(connection) = &self.database
            && let Err(error) = connection.execute_batch("COMMIT")
        {
            // It is closed then when it is given back.
            debug!(%error, "a transaction that only read does not end");
        }
    }
}

/// A connection on loan.
pub(crate) struct Lent<'a> {
    pool: &'a ReadPool,
    day: Day,
    connection: Option<Connection>,
}

impl Deref for Lent<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("a loan without a connection never leaves the pool"),
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        if let Some(count) = state.lent.get_mut(&self.day) {
            *count -= 1;
            if *count == 0 {
                state.lent.remove(&self.day);
            }
        }
        // A connection left inside a transaction would pin its snapshot: close it instead.
        if let Some(connection) = self.connection.take().filter(Connection::is_autocommit) {
            state.idle.push((self.day, connection));
        }
        drop(state);
        self.pool.changed.notify_all();
    }
}
