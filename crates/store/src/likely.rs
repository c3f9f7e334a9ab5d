//! The likeliest sightings of a plate, misread ones included.
//!
//! Candidates come from the distinct plates of each day that are near in text; their rows are decoded only where they
//! may still enter the answer.

use std::collections::{BinaryHeap, HashSet};
use std::ops::{ControlFlow, RangeInclusive};

use arrayvec::ArrayVec;
use guiji_domain::{
    CameraId, Likely, LikelyQuery, PlateChar, PlateText, ReadAs, Sighting, StoreError, TimeSpan,
};
use rusqlite::{Connection, params};

use crate::codes::Coded;
use crate::errors::{damaged, sql};
use crate::partition::RawSighting;
use crate::segment::{Near, Segment};
use crate::validate;

const DOING: &str = "search likely sightings";

/// The best so far.
#[derive(Debug)]
pub(crate) struct Likeliest<'a> {
    query: &'a LikelyQuery,
    length: usize,
    /// The greatest is the worst, which a better one displaces.
    found: BinaryHeap<Found>,
}

#[derive(Debug)]
struct Found(Likely);

impl Ord for Found {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |likely: &Likely| (likely.sighting.captured.at, likely.sighting.id);
        let by_probability = other.0.probability.total_cmp(&self.0.probability);
        by_probability.then_with(|| key(&other.0).cmp(&key(&self.0)))
    }
}
impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Found {}

impl<'a> Likeliest<'a> {
    pub(crate) fn new(query: &'a LikelyQuery) -> Self {
        let length = validate::page_length(query.limit);
        Self { query, length, found: BinaryHeap::new() }
    }

    fn span(&self) -> (i64, i64) {
        (self.query.span.first().as_nanos(), self.query.span.last().as_nanos())
    }

    /// Whether what was captured within these bounds may be an answer.
    pub(crate) fn wants(&self, captured: Option<(i64, i64)>) -> bool {
        let (first, last) = self.span();
        captured.is_some_and(|captured| captured.0 <= last && first <= captured.1)
    }

    /// The least probability of what, if it is the latest, enters the answer.
    fn probability_min(&self) -> f32 {
        let worst = self.found.peek().filter(|_| self.found.len() >= self.length);
        worst.map_or(LikelyQuery::PROBABILITY_MIN, |worst| worst.0.probability)
    }

    /// Whether one of that probability, if it is the latest, enters the answer.
    fn has_room_for(&self, probability: f32) -> bool {
        probability >= self.probability_min()
    }

    pub(crate) fn consider(&mut self, sighting: Sighting) {
        let Some(probability) = self.query.probability(&sighting) else { return };
        if !self.has_room_for(probability) {
            return;
        }
        let misread = sighting.plate_text() != Some(&self.query.plate);
        self.found.push(Found(Likely { sighting, probability, misread }));
        if self.found.len() > self.length {
            self.found.pop();
        }
    }

    /// In how many places a text may differ, round after round through all days.
    pub(crate) fn rounds(&self) -> Vec<RangeInclusive<usize>> {
        let near = 1..=LikelyQuery::PLACES_MAX;
        match self.query.read_as {
            ReadAs::Any => vec![0..=0, near],
            ReadAs::Sought => vec![0..=0],
            ReadAs::Another => vec![near],
        }
    }

    /// Looks through a day's database, inside a transaction.
    pub(crate) fn visit(
        &mut self,
        connection: &Connection,
        places: &RangeInclusive<usize>,
    ) -> Result<(), StoreError> {
        let failed = sql(DOING);
        let mut near = Vec::new();
        let itself = (*places.end() == 0).then(|| self.query.plate.as_str());
        let mut statement = connection
            .prepare_cached(match itself {
                Some(_) => "SELECT id, text FROM plate WHERE text = ?1",
                None => "SELECT id, text FROM plate",
            })
            .map_err(&failed)?;
        let mut rows = statement.query(rusqlite::params_from_iter(itself)).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            self.query.stop.check(DOING)?;
            let text = row.get_ref(1).map_err(&failed)?;
            let text = text.as_str().map_err(|error| damaged("the dictionary of plates", error))?;
            let apart = places_apart(&self.query.plate, text);
            if places.contains(&apart) {
                near.push((apart, row.get::<_, i64>(0).map_err(&failed)?));
            }
        }
        near.sort_unstable();
        let (first, last) = self.span();
        let mut statement = connection
            .prepare_cached(
                "SELECT id, checksum, record FROM sighting INDEXED BY sighting_by_plate
                 WHERE plate = ?1 AND captured >= ?2 AND captured <= ?3 AND stage = ?4",
            )
            .map_err(&failed)?;
        let last_stage = guiji_domain::SightingStage::Final.code();
        for (_, plate) in near {
            let mut rows =
                statement.query(params![plate, first, last, last_stage]).map_err(&failed)?;
            while let Some(row) = rows.next().map_err(&failed)? {
                self.query.stop.check(DOING)?;
                let raw = RawSighting {
                    id: row.get(0).map_err(&failed)?,
                    checksum: row.get(1).map_err(&failed)?,
                    record: row.get(2).map_err(&failed)?,
                };
                self.consider(raw.checked()?);
            }
        }
        Ok(())
    }

    /// Looks through a segment.
    pub(crate) fn visit_segment(
        &mut self,
        segment: &Segment,
        places: &RangeInclusive<usize>,
    ) -> Result<(), StoreError> {
        let query = self.query;
        let wanted = Near {
            plate: &query.plate,
            places,
            span: self.span(),
            cameras: query.cameras.as_deref(),
            probability_min: self.probability_min(),
            room: self.length - self.found.len(),
        };
        let plate: ArrayVec<_, { PlateText::CHARS_MAX }> = query.plate.chars().collect();
        // What was read so is mostly an answer: it is not worth a look at its lattice alone.
        let itself = *places.end() == 0;
        segment.rows_like(&wanted, |cursor, spot, most| {
            query.stop.check(DOING)?;
            if !self.has_room_for(most) {
                return Ok(ControlFlow::Break(()));
            }
            if itself || self.has_room_for(cursor.probability(spot, &plate)?) {
                self.consider(cursor.sighting(spot)?);
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The best, best first.
    pub(crate) fn finish(self) -> Vec<Likely> {
        self.found.into_sorted_vec().into_iter().map(|found| found.0).collect()
    }
}

/// As [`LikelyQuery::places_apart`], of a text in its normal form: a day's dictionary is gone through for each question.
fn places_apart(plate: &PlateText, text: &str) -> usize {
    let mut chars = text.chars();
    let mut own = plate.chars().map(PlateChar::as_char);
    (0..PlateText::CHARS_MAX).filter(|_| own.next() != chars.next()).count()
}

/// How often texts were read; see [`guiji_domain::LikelySearch::times_read`].
pub(crate) struct Count<'a> {
    pub(crate) plates: &'a [PlateText],
    pub(crate) span: TimeSpan,
    pub(crate) cameras: Option<&'a [CameraId]>,
    pub(crate) most: usize,
    /// Of each text, so far.
    pub(crate) counts: Vec<usize>,
}

impl Count<'_> {
    fn span(&self) -> (i64, i64) {
        (self.span.first().as_nanos(), self.span.last().as_nanos())
    }

    /// Whether what was captured within these bounds may count.
    pub(crate) fn wants(&self, captured: Option<(i64, i64)>) -> bool {
        let (first, last) = self.span();
        captured.is_some_and(|captured| captured.0 <= last && first <= captured.1)
    }

    /// Counts in a day's database, inside a transaction.
    pub(crate) fn visit(&mut self, connection: &Connection) -> Result<(), StoreError> {
        const COUNTING: &str = "count reads of a plate";
        let failed = sql(COUNTING);
        let (first, last) = self.span();
        let cameras: Option<HashSet<&str>> =
            self.cameras.map(|cameras| cameras.iter().map(CameraId::as_str).collect());
        let mut statement = connection
            .prepare_cached(
                "SELECT camera.name FROM plate
                 JOIN sighting INDEXED BY sighting_by_plate ON sighting.plate = plate.id
                 JOIN camera ON camera.id = sighting.camera
                 WHERE plate.text = ?1 AND captured >= ?2 AND captured <= ?3 AND stage = ?4",
            )
            .map_err(&failed)?;
        let stage = guiji_domain::SightingStage::Final.code();
        for (plate, count) in self.plates.iter().zip(&mut self.counts) {
            let mut rows =
                statement.query(params![plate.as_str(), first, last, stage]).map_err(&failed)?;
            while *count < self.most
                && let Some(row) = rows.next().map_err(&failed)?
            {
                let camera = row.get_ref(0).map_err(&failed)?;
                let camera = camera.as_str().map_err(|error| damaged(COUNTING, error))?;
                *count += usize::from(cameras.as_ref().is_none_or(|c| c.contains(camera)));
            }
        }
        Ok(())
    }

    /// Counts in a segment.
    pub(crate) fn visit_segment(&mut self, segment: &Segment) -> Result<(), StoreError> {
        let (span, cameras, most) = (self.span(), self.cameras, self.most);
        for (number, count) in
            segment.times_read(self.plates, span, cameras)?.into_iter().enumerate()
        {
            if let Some(sum) = self.counts.get_mut(number) {
                *sum = sum.saturating_add(count).min(most);
            }
        }
        Ok(())
    }
}
