//! Which rows of a segment a query wants, by the columns alone.
//!
//! Row numbers stand in the order of answers, so that a query is first a range of rows, then a way through them: the
//! rows of the matching plates or of the cameras, gathered and sorted, or all of them one after the other, whichever
//! is likely to be the shortest.

use std::ops::{ControlFlow, Range, RangeInclusive};

use guiji_domain::{CameraId, PlatePattern, PlateText, SightingId, SortOrder, Stop, StoreError};

use super::cursor::{Cursor, Spot};
use super::directory::Column;
use super::ordered;
use super::packed::{BLOCK_LEN, Packed};
use super::plates::{self, Matcher};
use super::probability::{Doubt, Places};
use super::read::Segment;

/// Gathering and sorting a row costs about as much as passing over this many.
const GATHERING: u64 = 4;

/// Place in time order: capture time in nanoseconds, then the id.
pub(crate) type Key = (i64, SightingId);

/// What is wanted of a segment.
pub(crate) struct Request<'a> {
    /// Of a range of keys: those for which this is false, then those for which it is true.
    pub(crate) begins: &'a dyn Fn(Key) -> bool,
    /// Likewise, those before and those behind the end of the range.
    pub(crate) ended: &'a dyn Fn(Key) -> bool,
    /// A span of capture times in which the range lies, both ends included.
    pub(crate) span: (i64, i64),
    pub(crate) order: SortOrder,
    pub(crate) plate: Option<&'a PlatePattern>,
    pub(crate) cameras: Option<&'a [CameraId]>,
    /// A bit for each code; all bits for any, not known included.
    pub(crate) classes: i64,
    pub(crate) colours: i64,
    /// About how many rows will be taken.
    pub(crate) enough: usize,
    pub(crate) stop: &'a Stop,
}

impl Segment {
    /// Calls `visit` with the rows that are wanted, in the order asked for, until it breaks.
    pub(crate) fn rows_wanted(
        &self,
        request: &Request<'_>,
        mut visit: impl FnMut(Key, Spot) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let rows = self.rows_between(request)?;
        if rows.is_empty() {
            return Ok(());
        }
        let plates = match request.plate {
            None => None,
            Some(pattern) => Some(Wanted::new(
                self.plates_matching(pattern)?,
                Column::PlateEnds,
                Column::ByPlate,
            )),
        };
        let cameras = request.cameras.map(|names| {
            let numbers = names
                .iter()
                .filter_map(|name| self.directory.cameras.binary_search(name).ok())
                .map(|number| number as u32);
            let mut numbers: Vec<_> = numbers.collect();
            numbers.sort_unstable();
            numbers.dedup();
            Wanted::new(numbers, Column::CameraEnds, Column::ByCamera)
        });
        if [&plates, &cameras].iter().any(|set| set.as_ref().is_some_and(Wanted::is_empty)) {
            return Ok(());
        }

        // By plate, by camera, or one after the other until there are enough.
        let mut shortest = (u64::from(rows.end - rows.start), None);
        for set in [&plates, &cameras].into_iter().flatten() {
            let count = set.count(self)?;
            let passing = u64::from(self.rows()) / count.max(1) * request.enough as u64;
            shortest.0 = shortest.0.min(passing.max(request.enough as u64));
        }
        for set in [&plates, &cameras].into_iter().flatten() {
            let cost = set.count(self)?.saturating_mul(GATHERING);
            if cost < shortest.0 {
                shortest = (cost, Some(set));
            }
        }
        // What comes by an index need not be looked up again.
        let other =
            |set: &&Wanted| !shortest.1.is_some_and(|shortest| std::ptr::eq(shortest, *set));
        let cameras_len = self.directory.cameras.len() as u32;
        let filter = Filter {
            plates: plates.as_ref().filter(other).map(|set| set.bits(self.directory.plates)),
            cameras: cameras.as_ref().filter(other).map(|set| set.bits(cameras_len)),
            request,
        };
        let mut looker = Looker { cursor: Cursor::new(self), filter };
        let mut look = |spot| {
            request.stop.check("search a sealed day")?;
            match looker.key_if_wanted(spot)? {
                Some(key) => Ok(visit(key, spot)),
                None => Ok::<_, StoreError>(ControlFlow::Continue(())),
            }
        };
        let spots: Box<dyn DoubleEndedIterator<Item = Spot>> = match shortest.1 {
            None => Box::new(rows.map(Spot::Row)),
            Some(set) => match set.of_one_plate(self, &rows)? {
                Some((places, plate)) => {
                    Box::new(places.map(move |place| Spot::OfPlate { place, plate }))
                }
                None => {
                    let mut gathered = set.rows(self, &rows)?;
                    gathered.sort_unstable();
                    Box::new(gathered.into_iter().map(Spot::Row))
                }
            },
        };
        match request.order {
            SortOrder::OldestFirst => until_break(spots, &mut look),
            SortOrder::NewestFirst => until_break(spots.rev(), &mut look),
        }
    }

    fn rows_between(&self, request: &Request<'_>) -> Result<Range<u32>, StoreError> {
        let Range { start, end } = self.rows_captured(request.span)?;
        let mut cursor = Cursor::new(self);
        let (mut start, mut end) = (start, end);
        // Mostly nothing lies beyond the ends of the span, which is seen at once.
        if start < end && !(request.begins)(cursor.key(start)?) {
            start = partition_point(start..end, |row| Ok(!(request.begins)(cursor.key(row)?)))?;
        }
        if start < end && (request.ended)(cursor.key(end - 1)?) {
            end = partition_point(start..end, |row| Ok(!(request.ended)(cursor.key(row)?)))?;
        }
        Ok(start..end)
    }

    /// The first row captured at that time or later.
    pub(super) fn first_captured_from(&self, at: i64) -> Result<u32, StoreError> {
        self.first_not_below(Column::Captured, ordered(at))
    }

    /// The first place of a rising column whose number is not below a bound.
    fn first_not_below(&self, column: Column, bound: u64) -> Result<u32, StoreError> {
        // The least number of a block is its first.
        let frames = &self.directory.blocks(column).frames;
        let block = frames.partition_point(|frame| frame.min < bound);
        let Some(before) = block.checked_sub(1) else { return Ok(0) };
        let numbers = self.block(column, before)?;
        let count = self.directory.block_len(column, before) as u32;
        let at = partition_point(0..count, |at| Ok(numbers.get(at as usize) < bound))?;
        Ok((before * BLOCK_LEN) as u32 + at)
    }

    /// The number of a plate in the dictionary.
    fn plate_number(&self, text: &PlateText) -> Result<Option<u32>, StoreError> {
        let number = plates::pack(text);
        let at = self.first_not_below(Column::Plates, number)?;
        let found = at < self.directory.plates && self.value(Column::Plates, at)? == number;
        Ok(found.then_some(at))
    }

    /// The numbers of the plates that match, rising.
    pub(super) fn plates_matching(&self, pattern: &PlatePattern) -> Result<Vec<u32>, StoreError> {
        if let Some(text) = pattern.exact() {
            return Ok(self.plate_number(&text)?.into_iter().collect());
        }
        let matcher = Matcher::new(pattern);
        let first = self.first_not_below(Column::Plates, *matcher.range().start())?;
        let end = match matcher.range().end().checked_add(1) {
            Some(after) => self.first_not_below(Column::Plates, after)?,
            None => self.directory.plates,
        };
        let mut found = Vec::new();
        let mut at = first as usize;
        while at < end as usize {
            let block = self.block(Column::Plates, at / BLOCK_LEN)?;
            let stop = (end as usize).min((at / BLOCK_LEN + 1) * BLOCK_LEN);
            for place in at..stop {
                if matcher.matches(block.get(place % BLOCK_LEN)) {
                    found.push(place as u32);
                }
            }
            at = stop;
        }
        Ok(found)
    }
}

/// Plates near to one, and which of their rows are wanted.
pub(crate) struct Near<'a> {
    pub(crate) plate: &'a PlateText,
    /// In how many places they may differ from it.
    pub(crate) places: &'a RangeInclusive<usize>,
    /// Captured in a span, both ends included.
    pub(crate) span: (i64, i64),
    /// By these cameras; `None` for any.
    pub(crate) cameras: Option<&'a [CameraId]>,
    /// Of rows whose probability of the plate may be at least this.
    pub(crate) probability_min: f32,
    /// So many rows will be taken whichever they are.
    pub(crate) room: usize,
}

impl Segment {
    /// Calls `visit` with the rows of near plates: nearer plates first, and of equally near ones the rows that may be the
    /// likeliest, unless there is room for all. With each comes what its probability of the plate is at most. A break
    /// passes over the other rows of plates as near.
    pub(crate) fn rows_like(
        &self,
        wanted: &Near<'_>,
        mut visit: impl FnMut(&mut Cursor<'_>, Spot, f32) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let Near { plate, places, .. } = wanted;
        let within = self.rows_captured(wanted.span)?;
        if within.is_empty() {
            return Ok(());
        }
        let cameras = wanted.cameras.map(|names| self.camera_bits(names));
        let number = plates::pack(plate);
        let mut near = vec![Vec::new(); places.end() + 1];
        if *places.end() == 0 {
            near[0].extend(self.plate_number(plate)?.map(|key| (key, number)));
        } else {
            for block in 0..self.directory.blocks(Column::Plates).frames.len() {
                let numbers = self.block(Column::Plates, block)?;
                let count = self.directory.block_len(Column::Plates, block);
                for (text, key) in numbers.numbers(count).zip((block * BLOCK_LEN) as u32..) {
                    if !plates::are_near(number, text) {
                        continue;
                    }
                    let apart = plates::places_apart(number, text);
                    if places.contains(&apart) {
                        near[apart].push((key, text));
                    }
                }
            }
        }
        let mut postings = Postings::new(self, Column::PlateEnds, Column::ByPlate);
        let by_plate = self.directory.layout.by_plate;
        let mut plate_places = AtHand::new(self, Column::PlatePlaces);
        let mut doubts = AtHand::new(self, Column::Doubt);
        let mut camera_of = AtHand::new(self, Column::Camera);
        let mut cursor = Cursor::new(self);
        let mut taken = 0;
        for keys in near {
            let mut likely = Vec::new();
            for (key, text) in keys {
                let others = plates::differing(text, number);
                // Where no row was ever in doubt at the places that differ, none need be looked at.
                if by_plate && text != number {
                    let places = Places::of_column(plate_places.value(key)?);
                    let most = places.probability_max(others.clone().map(|(place, _)| place));
                    if most < wanted.probability_min {
                        continue;
                    }
                }
                for place in postings.part(key, &within)? {
                    let at = if by_plate { place } else { postings.row(place)? };
                    let doubt = Doubt::of_column(doubts.value(at)?);
                    let most = doubt.probability_max(others.clone());
                    if most >= wanted.probability_min
                        && match &cameras {
                            Some(cameras) => {
                                cameras.contains(camera_of.value(postings.row(place)?)?)
                            }
                            None => true,
                        }
                    {
                        likely.push((most, place, key));
                    }
                }
            }
            if taken + likely.len() > wanted.room {
                likely.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            } else {
                // What is read together lies together then.
                likely.sort_unstable_by_key(|(_, place, _)| *place);
            }
            taken += likely.len();
            for (most, place, plate) in likely {
                if visit(&mut cursor, Spot::OfPlate { place, plate }, most)?.is_break() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// How many rows have each of these plates, captured in a span, both ends included, by these cameras. No record is
    /// unpacked.
    pub(crate) fn times_read(
        &self,
        plates: &[PlateText],
        span: (i64, i64),
        cameras: Option<&[CameraId]>,
    ) -> Result<Vec<usize>, StoreError> {
        let within = self.rows_captured(span)?;
        let whole = within == (0..self.rows());
        let cameras = cameras.map(|names| self.camera_bits(names));
        let mut counts = Vec::with_capacity(plates.len());
        let mut postings = Postings::new(self, Column::PlateEnds, Column::ByPlate);
        let mut camera_of = AtHand::new(self, Column::Camera);
        for plate in plates {
            let Some(key) = self.plate_number(plate)?.filter(|_| !within.is_empty()) else {
                counts.push(0);
                continue;
            };
            counts.push(match &cameras {
                None if whole => postings.range(key)?.len(),
                None => postings.part(key, &within)?.len(),
                Some(cameras) => {
                    let mut count = 0;
                    for at in postings.part(key, &within)? {
                        count += usize::from(cameras.contains(camera_of.value(postings.row(at)?)?));
                    }
                    count
                }
            });
        }
        Ok(counts)
    }

    /// The rows captured in a span, both ends included.
    fn rows_captured(&self, (first, last): (i64, i64)) -> Result<Range<u32>, StoreError> {
        let (earliest, latest) = self.directory.captured;
        let start = if first <= earliest { 0 } else { self.first_captured_from(first)? };
        let end = match last.checked_add(1) {
            Some(after) if last < latest => self.first_captured_from(after)?,
            _ => self.rows(),
        };
        Ok(start..end)
    }

    fn camera_bits(&self, names: &[CameraId]) -> Bits {
        let numbers =
            names.iter().filter_map(|name| self.directory.cameras.binary_search(name).ok());
        Bits::of(numbers.map(|number| number as u32), self.directory.cameras.len() as u32)
    }
}

/// Keys of an index that are wanted, with their rows.
#[derive(Debug)]
struct Wanted {
    /// Rising.
    keys: Vec<u32>,
    ends: Column,
    rows: Column,
}

impl Wanted {
    fn new(keys: Vec<u32>, ends: Column, rows: Column) -> Self {
        Self { keys, ends, rows }
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many rows there are, in all.
    fn count(&self, segment: &Segment) -> Result<u64, StoreError> {
        let mut postings = Postings::new(segment, self.ends, self.rows);
        let mut count = 0;
        for key in &self.keys {
            count += postings.range(*key)?.len() as u64;
        }
        Ok(count)
    }

    /// The rows within a range, in no order.
    fn rows(&self, segment: &Segment, within: &Range<u32>) -> Result<Vec<u32>, StoreError> {
        let mut postings = Postings::new(segment, self.ends, self.rows);
        let mut rows = Vec::new();
        for key in &self.keys {
            for at in postings.part(*key, within)? {
                rows.push(postings.row(at)?);
            }
        }
        Ok(rows)
    }

    /// The places of the rows within a range, if they are those of one plate, and the plate's number.
    fn of_one_plate(
        &self,
        segment: &Segment,
        within: &Range<u32>,
    ) -> Result<Option<(Range<u32>, u32)>, StoreError> {
        let (Column::ByPlate, [plate]) = (self.rows, self.keys.as_slice()) else { return Ok(None) };
        let mut postings = Postings::new(segment, self.ends, self.rows);
        Ok(Some((postings.part(*plate, within)?, *plate)))
    }

    /// As a set of keys below a count.
    fn bits(&self, count: u32) -> Bits {
        Bits::of(self.keys.iter().copied(), count)
    }
}

/// A column of which every block that was read stays at hand: for places in no order, which a [`Cursor`] would fetch
/// from the cache again and again.
struct AtHand<'a> {
    segment: &'a Segment,
    column: Column,
    blocks: Vec<Option<Packed>>,
}

impl<'a> AtHand<'a> {
    fn new(segment: &'a Segment, column: Column) -> Self {
        Self { segment, column, blocks: Vec::new() }
    }

    fn value(&mut self, at: u32) -> Result<u64, StoreError> {
        let (block, at) = (at as usize / BLOCK_LEN, at as usize % BLOCK_LEN);
        if block >= self.blocks.len() {
            self.blocks.resize(block + 1, None);
        }
        let kept = &mut self.blocks[block];
        let packed = match kept {
            Some(packed) => packed,
            None => kept.insert(self.segment.block(self.column, block)?),
        };
        Ok(packed.get(at))
    }
}

/// An index: of each key the rows that have it, rising.
struct Postings<'a> {
    ends: AtHand<'a>,
    rows: AtHand<'a>,
}

impl<'a> Postings<'a> {
    fn new(segment: &'a Segment, ends: Column, rows: Column) -> Self {
        Self { ends: AtHand::new(segment, ends), rows: AtHand::new(segment, rows) }
    }

    /// Where the rows of a key stand.
    fn range(&mut self, key: u32) -> Result<Range<u32>, StoreError> {
        let start = match key.checked_sub(1) {
            Some(before) => self.ends.value(before)?,
            None => 0,
        };
        Ok(start as u32..self.ends.value(key)? as u32)
    }

    /// The row at a place.
    fn row(&mut self, at: u32) -> Result<u32, StoreError> {
        Ok(self.rows.value(at)? as u32)
    }

    /// The part of a key's places whose rows lie within a range.
    fn part(&mut self, key: u32, within: &Range<u32>) -> Result<Range<u32>, StoreError> {
        let range = self.range(key)?;
        let (mut start, mut end) = (range.start, range.end);
        // Mostly a whole day is asked about.
        if within.start > 0 {
            start = partition_point(range.clone(), |at| Ok(self.row(at)? < within.start))?;
        }
        if within.end < self.rows.segment.rows() {
            end = partition_point(start..range.end, |at| Ok(self.row(at)? < within.end))?;
        }
        Ok(start..end)
    }
}

#[derive(Debug)]
struct Bits(Vec<u64>);

impl Bits {
    /// Keys that lie below a count.
    fn of(keys: impl Iterator<Item = u32>, count: u32) -> Self {
        let mut bits = vec![0; (count as usize).div_ceil(64)];
        keys.for_each(|key| bits[key as usize / 64] |= 1 << (key % 64));
        Self(bits)
    }

    fn contains(&self, key: u64) -> bool {
        self.0.get((key / 64) as usize).is_some_and(|word| word >> (key % 64) & 1 == 1)
    }
}

struct Filter<'a> {
    plates: Option<Bits>,
    cameras: Option<Bits>,
    request: &'a Request<'a>,
}

impl Filter<'_> {
    fn wants_camera(&self, camera: u64) -> bool {
        self.cameras.as_ref().is_none_or(|set| set.contains(camera))
    }

    fn asks_for_traits(&self) -> bool {
        (self.request.classes, self.request.colours) != (-1, -1)
    }

    fn wants_traits(&self, traits: u64) -> bool {
        let among = |mask: i64, code: u64| match code.checked_sub(1) {
            None => mask == -1,
            Some(code) => mask >> code & 1 == 1,
        };
        among(self.request.classes, traits & 15) && among(self.request.colours, traits >> 4)
    }
}

/// Looks at rows by their columns, or by the heads of their records.
struct Looker<'a> {
    cursor: Cursor<'a>,
    filter: Filter<'a>,
}

impl Looker<'_> {
    fn key_if_wanted(&mut self, spot: Spot) -> Result<Option<Key>, StoreError> {
        let Self { cursor, filter } = self;
        let row = match spot {
            Spot::Row(row) => row,
            Spot::OfPlate { place, .. } => match cursor.head(place)? {
                None => cursor.value(Column::ByPlate, place)? as u32,
                Some(head) => {
                    let wanted =
                        filter.wants_camera(head.camera) && filter.wants_traits(head.traits);
                    return Ok(wanted.then_some(head.key));
                }
            },
        };
        if let Some(plates) = &filter.plates {
            let plate = cursor.value(Column::Plate, row)?.checked_sub(1);
            if !plate.is_some_and(|plate| plates.contains(plate)) {
                return Ok(None);
            }
        }
        if filter.cameras.is_some() && !filter.wants_camera(cursor.value(Column::Camera, row)?)
            || filter.asks_for_traits() && !filter.wants_traits(cursor.value(Column::Traits, row)?)
        {
            return Ok(None);
        }
        cursor.key(row).map(Some)
    }
}

fn until_break(
    spots: impl Iterator<Item = Spot>,
    look: &mut impl FnMut(Spot) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    for spot in spots {
        if look(spot)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The first of a range for which `before` is false; it must be true for all before.
fn partition_point(
    range: Range<u32>,
    mut before: impl FnMut(u32) -> Result<bool, StoreError>,
) -> Result<u32, StoreError> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
