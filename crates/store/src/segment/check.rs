use guiji_domain::{Sighting, StoreError};

use super::cursor::Cursor;
use super::directory::Column;
use super::packed::{Packed, padded};
use super::probability::{Doubt, Places};
use super::row::traits;
use super::{Segment, plates};
use crate::errors::damaged;

/// Reads every byte of a segment from the disk and proves it: checksums, the order of rows, indexes against columns,
/// every record. Sightings that are whole go to `each`, damage goes to `found`.
///
/// # Errors
/// When the medium fails, or `each` does.
pub(crate) fn check(
    segment: &Segment,
    each: &mut dyn FnMut(Sighting) -> Result<(), StoreError>,
    found: &mut dyn FnMut(StoreError),
) -> Result<(), StoreError> {
    let mut columns = Vec::new();
    for column in Column::ALL {
        if let Some(numbers) = damage_apart(read_column(segment, column), found)? {
            columns.push(numbers);
        }
    }
    // Without a column nothing can be said of the others' content, nor of any sighting.
    let Ok(columns) = <[Vec<u64>; Column::ALL.len()]>::try_from(columns) else {
        return check_details(segment, found);
    };
    if let Err(reason) = check_indexes(segment, &columns) {
        found(damaged(segment.path.display(), reason));
    }
    let layout = segment.directory.layout;
    let [rows_of_places, plates] = [Column::ByPlate, Column::Plate].map(|c| &columns[c as usize]);
    let mut cursor = Cursor::new(segment);
    for block in 0..segment.directory.details.len() - 1 {
        let content = segment.read_details(block);
        let Some(content) = damage_apart(content, found)? else { continue };
        let first = block * layout.details_len;
        for place in first..(first + layout.details_len).min(segment.rows() as usize) {
            let row = match rows_of_places.get(place) {
                Some(row) if layout.by_plate => *row as usize,
                _ => place,
            };
            let plate = plates.get(row).copied().unwrap_or(0);
            let place = place as u32;
            let sighting = cursor.decode(place, plate, &content);
            let sighting = sighting.and_then(|it| agrees(&mut cursor, row as u32, it));
            let sighting = sighting.and_then(|it| {
                doubts_agree(&mut cursor, place, plate, &content)?;
                Ok(it)
            });
            if let Some(sighting) = damage_apart(sighting, found)? {
                each(sighting)?;
            }
        }
    }
    Ok(())
}

/// The sighting, if the columns say the same of its row.
fn agrees(cursor: &mut Cursor<'_>, row: u32, it: Sighting) -> Result<Sighting, StoreError> {
    let camera = cursor.value(Column::Camera, row)?;
    let segment = cursor.segment();
    if cursor.key(row)? == (it.captured.at.as_nanos(), it.id)
        && segment.camera(camera) == Some(&it.camera)
        && cursor.value(Column::Traits, row)? == u64::from(traits(&it))
    {
        Ok(it)
    } else {
        let what = format!("sighting {} in {}", it.id, segment.path.display());
        Err(damaged(what, "the columns say something else of it"))
    }
}

/// Whether a search that looks at the columns alone would not pass over a record; `plate` is the number of its plate
/// plus 1.
fn doubts_agree(
    cursor: &mut Cursor<'_>,
    place: u32,
    plate: u64,
    details: &[u8],
) -> Result<(), StoreError> {
    let segment = cursor.segment();
    let (true, Some((_, chars))) = (segment.directory.layout.by_plate, cursor.plate(plate)?) else {
        return Ok(());
    };
    let (_, body) = cursor.split(place, details)?;
    let doubts = cursor.doubts(place, &chars, body)?;
    let places = Places::of_column(cursor.value(Column::PlatePlaces, (plate - 1) as u32)?);
    let doubt = Doubt::of_column(cursor.value(Column::Doubt, place)?);
    if doubt == doubts.doubt && places == places.with(doubts.places) {
        return Ok(());
    }
    let what = format!("the record at {place} in {}", segment.path.display());
    Err(damaged(what, "the columns say something else of what other plates may have of it"))
}

/// Damage goes to `found`; other errors are passed on.
fn damage_apart<T>(
    result: Result<T, StoreError>,
    found: &mut dyn FnMut(StoreError),
) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ StoreError::Damaged { .. }) => {
            found(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn read_column(segment: &Segment, column: Column) -> Result<Vec<u64>, StoreError> {
    let blocks = segment.directory.blocks(column);
    let mut numbers = Vec::with_capacity(segment.directory.count(column) as usize);
    for (block, frame) in blocks.frames.iter().enumerate() {
        let packed = Packed::new(*frame, padded(segment.read_block(column, block)?));
        let count = segment.directory.block_len(column, block);
        numbers.extend((0..count).map(|at| packed.get(at)));
    }
    Ok(numbers)
}

/// The checksums alone.
fn check_details(segment: &Segment, found: &mut dyn FnMut(StoreError)) -> Result<(), StoreError> {
    for block in 0..segment.directory.details.len() - 1 {
        damage_apart(segment.read_details(block), found)?;
    }
    Ok(())
}

/// Whether what is there twice says the same: in words, where it does not.
fn check_indexes(segment: &Segment, columns: &[Vec<u64>]) -> Result<(), &'static str> {
    let of = |column: Column| columns[column as usize].as_slice();
    let rows = segment.rows() as usize;
    // Ids as they sort: the start, then the tail.
    let start = |row: usize| {
        let lag = super::unordered(of(Column::Lag)[row]);
        super::ordered(super::unordered(of(Column::Captured)[row]).wrapping_sub(lag))
    };
    let id = |row: usize| (start(row), of(Column::Tail)[row]);
    let key = |row: usize| (of(Column::Captured)[row], id(row));
    if (1..rows).any(|row| key(row - 1) >= key(row)) {
        return Err("its sightings are out of order");
    }
    let edges = (segment.directory.captured.0, segment.directory.captured.1);
    if rows > 0 && (super::ordered(edges.0), super::ordered(edges.1)) != (key(0).0, key(rows - 1).0)
    {
        return Err("its directory has wrong times");
    }
    let by_id = of(Column::ById);
    if by_id.iter().any(|row| *row >= rows as u64)
        || by_id.windows(2).any(|pair| id(pair[0] as usize) >= id(pair[1] as usize))
    {
        return Err("its order of ids is wrong");
    }
    let cameras = of(Column::Camera).iter().map(|camera| Some(*camera));
    check_postings(cameras, of(Column::ByCamera), of(Column::CameraEnds))
        .ok_or("its index of cameras is wrong")?;
    let plates = of(Column::Plate).iter().map(|plate| plate.checked_sub(1));
    let by_plate = of(Column::ByPlate);
    let (with_plate, without) = by_plate
        .split_at_checked(segment.directory.plated_rows as usize)
        .ok_or("its index of plates is cut off")?;
    check_postings(plates, with_plate, of(Column::PlateEnds))
        .ok_or("its index of plates is wrong")?;
    if segment.directory.layout.by_plate {
        let rising = without.windows(2).all(|pair| pair[0] < pair[1]);
        let plateless = |row: &u64| of(Column::Plate).get(*row as usize) == Some(&0);
        if !rising || !without.iter().all(plateless) {
            return Err("its order of rows without a plate is wrong");
        }
        let places = of(Column::Place);
        if by_plate.iter().zip(0..).any(|(row, place)| places.get(*row as usize) != Some(&place)) {
            return Err("its places are wrong");
        }
    }
    let dictionary = of(Column::Plates);
    if dictionary.windows(2).any(|pair| pair[0] >= pair[1])
        || dictionary.iter().any(|number| plates::unpack(*number).is_none())
    {
        return Err("its dictionary of plates is wrong");
    }
    Ok(())
}

/// Whether an index has each row with a key once, grouped by key, rising.
fn check_postings(
    keys: impl Iterator<Item = Option<u64>>,
    rows: &[u64],
    ends: &[u64],
) -> Option<()> {
    // Where the next row of each key must stand.
    let mut next: Vec<u64> = std::iter::once(0).chain(ends.iter().copied()).collect();
    next.pop();
    let mut seen = 0;
    for (row, key) in keys.enumerate() {
        let Some(key) = key else { continue };
        let next = next.get_mut(usize::try_from(key).ok()?)?;
        if rows.get(usize::try_from(*next).ok()?) != Some(&(row as u64)) {
            return None;
        }
        *next += 1;
        seen += 1;
    }
    (seen == rows.len() && next == ends).then_some(())
}
