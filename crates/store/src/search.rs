//! Answers to queries, equal to filtering everything by [`SightingQuery::accepts`].
//!
//! A day's database is searched along *lanes*: ranges of an index whose rows come in the order asked for, by
//! `(captured, id)`. One lane a matching plate or camera, or one over time. A segment is one lane. All lanes of all
//! days feed one heap that keeps the best page; a lane ends as soon as its next row could not enter the page.

use std::collections::{BinaryHeap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use guiji_domain::{PlatePattern, SightingPage, SightingQuery, SortOrder, StoreError, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codes::Coded;
use crate::errors::sql;
use crate::partition::{RawSighting, id_key};
use crate::segment::{self, Cursor, Segment, Spot};
use crate::validate;

const DOING: &str = "search sightings";

/// With more lanes than this, walking all rows in time order is as good.
const LANES_MAX: usize = 256;

/// Place in time order: capture time in nanoseconds, then the id's bytes.
type Key = (i64, [u8; 16]);

/// A query with its bounds worked out, and the best page so far.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    query: &'a SightingQuery,
    /// Both excluded.
    bounds: (Bound, Bound),
    length: usize,
    page: BinaryHeap<Found>,
}

/// An excluded end of the range of keys. The id may be shorter or longer than any id, and so before or after all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Bound(i64, Vec<u8>);

/// A row of the page; the heap's greatest is the one that a better row displaces.
#[derive(Debug)]
struct Found {
    rank: Rank,
    row: Row,
}

/// Where the record of a row is. Only those of the page are read.
#[derive(Debug)]
enum Row {
    Loose(RawSighting),
    Sealed(Arc<Segment>, Spot),
}

/// Orders rows by the order asked for: the first wanted is the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rank(Key, SortOrder);

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match self.1 {
            SortOrder::OldestFirst => self.0.cmp(&other.0),
            SortOrder::NewestFirst => other.0.cmp(&self.0),
        }
    }
}
impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}
impl Eq for Found {}
impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Found {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

/// One range of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Plate(i64),
    /// Of one hour: see [`hours`].
    Camera(i64, i64),
    Time,
}

/// What a row must fulfil beyond its lane; `None` is anything.
#[derive(Debug, Default)]
struct Filter {
    plates: Option<HashSet<i64>>,
    cameras: Option<HashSet<i64>>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(query: &'a SightingQuery) -> Self {
        let mut low = Bound(query.span.first().as_nanos(), Vec::new());
        let mut high = Bound(query.span.last().as_nanos(), vec![0xff; 17]);
        if let Some((at, id)) = query.after {
            let after = Bound(at.as_nanos(), id_key(id).to_vec());
            match query.order {
                SortOrder::OldestFirst => low = low.max(after),
                SortOrder::NewestFirst => high = high.min(after),
            }
        }
        let length = validate::page_length(query.limit);
        Self { query, bounds: (low, high), length, page: BinaryHeap::new() }
    }

    /// Whether nothing can match, wherever it lies.
    pub(crate) fn is_empty(&self) -> bool {
        self.bounds.0 >= self.bounds.1 || self.query.cameras.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether what was captured within these bounds may enter the page.
    pub(crate) fn wants(&self, captured: Option<(i64, i64)>) -> bool {
        let Some((first, last)) = captured else { return false };
        let (low, high) = &self.bounds;
        if last < low.0 || first > high.0 {
            return false;
        }
        let best = match self.query.order {
            SortOrder::OldestFirst => (first, [0; 16]),
            SortOrder::NewestFirst => (last, [0xff; 16]),
        };
        self.has_room_for(Rank(best, self.query.order))
    }

    /// One row more than the page is kept, to know whether there are more.
    fn has_room_for(&self, rank: Rank) -> bool {
        self.page.len() <= self.length || self.page.peek().is_some_and(|worst| rank <= worst.rank)
    }

    /// Searches the database of one day. It must be inside a transaction, one for all lanes: a sighting made final in
    /// between must not be met twice or missed.
    pub(crate) fn visit(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let Some((lanes, filter)) = self.plan(connection)? else { return Ok(()) };
        for lane in lanes {
            if let Lane::Camera(_, hour) = lane
                && !self.wants(Some(times_of(hour)))
            {
                continue; // the page is full of what comes before
            }
            self.walk(connection, lane, &filter)?;
        }
        Ok(())
    }

    /// Searches the segment of one day.
    pub(crate) fn visit_segment(&mut self, segment: &Arc<Segment>) -> Result<(), StoreError> {
        let query = self.query;
        let (low, high) = self.bounds.clone();
        let bound = |(captured, id): segment::Key| Bound(captured, id_key(id).to_vec());
        let request = segment::Request {
            begins: &|key| bound(key) > low,
            ended: &|key| bound(key) >= high,
            span: (low.0, high.0),
            order: query.order,
            plate: query.plate.as_ref(),
            cameras: query.cameras.as_deref(),
            classes: mask(&query.classes),
            colours: mask(&query.colours),
            enough: self.length + 1,
            stop: &query.stop,
        };
        segment.rows_wanted(&request, |(captured, id), spot| {
            let rank = Rank((captured, id_key(id)), query.order);
            if !self.has_room_for(rank) {
                return ControlFlow::Break(());
            }
            if !self.is_in_hours(captured) {
                return ControlFlow::Continue(());
            }
            self.put(Found { rank, row: Row::Sealed(Arc::clone(segment), spot) });
            ControlFlow::Continue(())
        })
    }

    fn is_in_hours(&self, captured: i64) -> bool {
        self.query.hours.is_none_or(|hours| hours.contains(Timestamp::from_nanos(captured)))
    }

    fn put(&mut self, found: Found) {
        self.page.push(found);
        if self.page.len() > self.length + 1 {
            self.page.pop();
        }
    }

    /// The lanes to walk and what to look at in their rows; `None` when the day cannot match.
    fn plan(&self, connection: &Connection) -> Result<Option<(Vec<Lane>, Filter)>, StoreError> {
        let plates = match &self.query.plate {
            None => None,
            Some(pattern) => Some(matching_plates(connection, pattern)?),
        };
        let cameras = match &self.query.cameras {
            None => None,
            Some(names) => {
                let mut ids = HashSet::new();
                for name in names {
                    ids.extend(word(
                        connection,
                        "SELECT id FROM camera WHERE name = ?1",
                        name.as_str(),
                    )?);
                }
                Some(ids)
            }
        };
        if [&plates, &cameras].iter().any(|set| set.as_ref().is_some_and(HashSet::is_empty)) {
            return Ok(None);
        }
        let few = |set: &Option<HashSet<i64>>| set.as_ref().is_some_and(|s| s.len() <= LANES_MAX);
        let (lanes, filter) = if few(&plates) {
            let lanes = plates.into_iter().flatten().map(Lane::Plate).collect();
            (lanes, Filter { plates: None, cameras })
        } else if few(&cameras) {
            let cameras: Vec<_> = cameras.into_iter().flatten().collect();
            let mut hours = hours(connection, (self.bounds.0.0, self.bounds.1.0))?;
            if self.query.order == SortOrder::NewestFirst {
                hours.reverse();
            }
            let of = |hour: &i64| {
                let hour = *hour;
                cameras.iter().map(move |camera| Lane::Camera(*camera, hour))
            };
            (hours.iter().flat_map(of).collect(), Filter { plates, cameras: None })
        } else {
            (vec![Lane::Time], Filter { plates, cameras })
        };
        Ok(Some((lanes, filter)))
    }

    fn walk(
        &mut self,
        connection: &Connection,
        lane: Lane,
        filter: &Filter,
    ) -> Result<(), StoreError> {
        let failed = sql(DOING);
        let mut statement =
            connection.prepare_cached(lane_query(lane, self.query.order)).map_err(&failed)?;
        let (word, hour) = match lane {
            Lane::Plate(id) => (id, 0),
            Lane::Camera(id, hour) => (id, hour),
            Lane::Time => (0, 0),
        };
        let (low, high) = &self.bounds;
        let (from, to) = match self.query.order {
            SortOrder::OldestFirst => (low.clone(), high.clone()),
            SortOrder::NewestFirst => (high.clone(), low.clone()),
        };
        let stage_min = i64::from(!self.query.provisional);
        let classes = mask(&self.query.classes);
        let colours = mask(&self.query.colours);
        let mut rows = statement
            .query(params![word, from.0, from.1, to.0, stage_min, classes, colours, hour])
            .map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let key: Key = (row.get(0).map_err(&failed)?, row.get(1).map_err(&failed)?);
            let beyond = match self.query.order {
                SortOrder::OldestFirst => Bound(key.0, key.1.to_vec()) >= to,
                SortOrder::NewestFirst => Bound(key.0, key.1.to_vec()) <= to,
            };
            let rank = Rank(key, self.query.order);
            self.query.stop.check(DOING)?;
            if beyond || !self.has_room_for(rank) {
                break;
            }
            if !self.is_in_hours(key.0) {
                continue;
            }
            let among = |set: &Option<HashSet<i64>>, column| match set {
                None => Ok(true),
                Some(set) => row
                    .get::<_, Option<i64>>(column)
                    .map(|id| id.is_some_and(|id| set.contains(&id))),
            };
            if !among(&filter.plates, 2).map_err(&failed)?
                || !among(&filter.cameras, 3).map_err(&failed)?
            {
                continue;
            }
            let row = RawSighting {
                id: key.1,
                checksum: row.get(4).map_err(&failed)?,
                record: row.get(5).map_err(&failed)?,
            };
            self.put(Found { rank, row: Row::Loose(row) });
        }
        Ok(())
    }

    /// The page, each record checked.
    pub(crate) fn finish(self) -> Result<SightingPage, StoreError> {
        let more = self.page.len() > self.length;
        let found = self.page.into_sorted_vec();
        let mut sightings = Vec::with_capacity(found.len());
        let mut cursor: Option<(&Arc<Segment>, Cursor<'_>)> = None;
        for found in found.iter().take(self.length) {
            self.query.stop.check(DOING)?;
            sightings.push(match &found.row {
                Row::Loose(raw) => raw.checked()?,
                Row::Sealed(segment, spot) => {
                    let kept = cursor.take().filter(|(of, _)| Arc::ptr_eq(of, segment));
                    let kept = kept.map_or_else(|| Cursor::new(segment), |(_, cursor)| cursor);
                    cursor.insert((segment, kept)).1.sighting(*spot)?
                }
            });
        }
        Ok(SightingPage { sightings, more })
    }
}

/// Bits of the codes asked for; all bits when none is.
fn mask<T: Coded>(choices: &[T]) -> i64 {
    if choices.is_empty() {
        return -1;
    }
    choices.iter().fold(0, |mask, choice| mask | (1 << choice.code()))
}

/// Nanoseconds of an hour.
const HOUR: i64 = 3_600_000_000_000;

/// The capture times whose quotient by an hour, as SQLite and Rust cut it, is this.
fn times_of(hour: i64) -> (i64, i64) {
    let (at, rest) = (hour.saturating_mul(HOUR), HOUR - 1);
    let first = if hour > 0 { at } else { at.saturating_sub(rest) };
    let last = if hour < 0 { at } else { at.saturating_add(rest) };
    (first, last)
}

/// The hours between two capture times in which anything was captured, rising.
fn hours(connection: &Connection, (first, last): (i64, i64)) -> Result<Vec<i64>, StoreError> {
    let failed = sql(DOING);
    let mut statement = connection
        .prepare_cached(
            "SELECT captured FROM sighting INDEXED BY sighting_by_time
             WHERE captured >= ?1 AND captured <= ?2 ORDER BY captured LIMIT 1",
        )
        .map_err(&failed)?;
    let (mut hours, mut from) = (Vec::new(), Some(first));
    while let Some(start) = from {
        let next: Option<i64> = statement
            .query_row(params![start, last], |row| row.get(0))
            .optional()
            .map_err(&failed)?;
        let Some(captured) = next else { break };
        hours.push(captured / HOUR);
        from = times_of(captured / HOUR).1.checked_add(1);
    }
    Ok(hours)
}

/// The statement of a lane. Parameters: 1 plate or camera, 2 and 3 the excluded key to start after, 4 the capture
/// time to end at, 5 the least stage, 6 and 7 the masks of classes and colours, 8 the hour of a camera's lane and 0 of
/// others. Code 255 (not known) passes only the mask of all: SQLite shifts by more than 63 bits give 0 or, for -1, -1.
fn lane_query(lane: Lane, order: SortOrder) -> &'static str {
    macro_rules! lane_sql {
        ($index:literal, $fixed:literal, $after:literal, $until:literal, $direction:literal) => {
            concat!(
                "SELECT captured, id, plate, camera, checksum, record FROM sighting INDEXED BY ",
                $index,
                " WHERE ",
                $fixed,
                " AND (captured, id) ",
                $after,
                " (?2, ?3) AND captured ",
                $until,
                " ?4",
                " AND stage >= ?5 AND (?6 >> class) & 1 AND (?7 >> colour) & 1",
                " ORDER BY captured ",
                $direction,
                ", id ",
                $direction
            )
        };
        ($index:literal, $fixed:literal, oldest) => {
            lane_sql!($index, $fixed, ">", "<=", "ASC")
        };
        ($index:literal, $fixed:literal, newest) => {
            lane_sql!($index, $fixed, "<", ">=", "DESC")
        };
    }
    match (lane, order) {
        (Lane::Plate(_), SortOrder::OldestFirst) => {
            lane_sql!("sighting_by_plate", "plate = ?1 AND ?8 = 0", oldest)
        }
        (Lane::Plate(_), SortOrder::NewestFirst) => {
            lane_sql!("sighting_by_plate", "plate = ?1 AND ?8 = 0", newest)
        }
        (Lane::Camera(..), SortOrder::OldestFirst) => {
            lane_sql!("sighting_by_camera", "captured / 3600000000000 = ?8 AND camera = ?1", oldest)
        }
        (Lane::Camera(..), SortOrder::NewestFirst) => {
            lane_sql!("sighting_by_camera", "captured / 3600000000000 = ?8 AND camera = ?1", newest)
        }
        (Lane::Time, SortOrder::OldestFirst) => {
            lane_sql!("sighting_by_time", "?1 = 0 AND ?8 = 0", oldest)
        }
        (Lane::Time, SortOrder::NewestFirst) => {
            lane_sql!("sighting_by_time", "?1 = 0 AND ?8 = 0", newest)
        }
    }
}

/// The numbers of the day's plates that match.
fn matching_plates(
    connection: &Connection,
    pattern: &PlatePattern,
) -> Result<HashSet<i64>, StoreError> {
    if let Some(text) = pattern.exact() {
        let found = word(connection, "SELECT id FROM plate WHERE text = ?1", text.as_str())?;
        return Ok(found.into_iter().collect());
    }
    let prefix = pattern.prefix();
    // Text sorts by its UTF-8 bytes, and so by code point: everything with the prefix lies below this.
    let end = format!("{prefix}{}", char::MAX);
    // The normal form of a pattern is a GLOB pattern: the same ?, * and [..], and no other special character.
    connection
        .prepare_cached("SELECT id FROM plate WHERE text >= ?1 AND text < ?2 AND text GLOB ?3")
        .and_then(|mut statement| {
            statement
                .query_map([prefix.as_str(), end.as_str(), pattern.as_str()], |row| row.get(0))?
                .collect()
        })
        .map_err(sql(DOING))
}

fn word(connection: &Connection, query: &str, text: &str) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached(query)
        .and_then(|mut statement| statement.query_row([text], |row| row.get(0)).optional())
        .map_err(sql(DOING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{FileKind, open_writer};
    use crate::settings::Durability;
    use proptest::prelude::*;

    #[test]
    fn every_lane_is_a_range_of_its_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("day.db");
        let connection = open_writer(&path, FileKind::Partition, Durability::Full).unwrap();
        for lane in [Lane::Plate(1), Lane::Camera(1, 2), Lane::Time] {
            for order in [SortOrder::OldestFirst, SortOrder::NewestFirst] {
                let query = format!("EXPLAIN QUERY PLAN {}", lane_query(lane, order));
                let mut statement = connection.prepare(&query).unwrap();
                let none: [u8; 0] = [];
                let plan: Vec<String> = statement
                    .query_map(params![0, 0, none, 0, 0, 0, 0, 0], |row| row.get(3))
                    .unwrap()
                    .collect::<Result<_, _>>()
                    .unwrap();
                let plan = plan.join("; ");
                assert!(plan.contains("SEARCH sighting USING INDEX sighting_by_"), "{plan}");
                // Both ends bound the range, whichever way round.
                let ranges = plan.matches("captured>").count()
                    + plan.matches("captured<").count()
                    + plan.matches("(captured,id)").count();
                assert_eq!(ranges, 2, "{plan}");
                assert!(!plan.contains("TEMP B-TREE"), "{plan}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_time_is_of_its_hour_and_hours_do_not_overlap(at: i64, hour in i64::MIN / HOUR..=i64::MAX / HOUR) {
            let (first, last) = times_of(at / HOUR);
            prop_assert!((first..=last).contains(&at));
            prop_assert_eq!(times_of(hour).1.checked_add(1), (hour < i64::MAX / HOUR).then(|| times_of(hour + 1).0));
        }
    }
}
