//! Corrections beside what was read: searches find both, answers show both.

use std::collections::BTreeMap;
use std::time::Duration;

use guiji_domain::{
    Correction, PlatePattern, Sighting, SightingId, SightingPage, SightingQuery, SightingStage,
    SortOrder, StoreError, TimeSpan,
};

use crate::convert::correction_to_pb;
use crate::violations::sighting_id;
use crate::{ApiParts, pb};

/// No passage begins longer than this before its capture time.
const LONGEST_PASSAGE: Duration = Duration::from_secs(6 * 3600);

/// The corrections that count of sightings captured within a span.
pub(crate) fn latest_in(
    parts: &ApiParts,
    span: TimeSpan,
) -> Result<BTreeMap<SightingId, Correction>, StoreError> {
    let began = TimeSpan::new(span.first().minus(LONGEST_PASSAGE), span.last()).unwrap_or(span);
    let all = parts.corrections.corrections_in(began)?;
    // They come in the order of making: the later replaces the earlier.
    Ok(all.into_iter().map(|correction| (correction.sighting, correction)).collect())
}

/// Final sightings whose correction matches and whose text does not, as far as the query, its plate apart, wants them.
pub(crate) fn found_by_correction(
    parts: &ApiParts,
    query: &SightingQuery,
    pattern: &PlatePattern,
    corrections: &BTreeMap<SightingId, Correction>,
) -> Result<Vec<Sighting>, StoreError> {
    let whatever_plate = SightingQuery { plate: None, ..query.clone() };
    let mut found = Vec::new();
    for correction in corrections.values().filter(|c| pattern.matches(&c.plate)) {
        // Retention may have taken it meanwhile.
        let Some(sighting) = parts.store.get(correction.sighting)? else { continue };
        let by_text = sighting.plate_text().is_some_and(|text| pattern.matches(text));
        if !by_text && whatever_plate.accepts(&sighting) {
            found.push(sighting);
        }
    }
    Ok(found)
}

/// A page of what was read so or corrected to be so.
pub(crate) fn search(parts: &ApiParts, query: &SightingQuery) -> Result<SightingPage, StoreError> {
    let mut page = parts.store.search(query)?;
    let Some(pattern) = &query.plate else { return Ok(page) };
    let corrections = latest_in(parts, query.span)?;
    if corrections.is_empty() {
        return Ok(page);
    }
    page.sightings.extend(found_by_correction(parts, query, pattern, &corrections)?);
    page.sightings.sort_by_key(|s| (s.captured.at, s.id));
    if query.order == SortOrder::NewestFirst {
        page.sightings.reverse();
    }
    page.more |= page.sightings.len() > query.limit;
    page.sightings.truncate(query.limit);
    Ok(page)
}

/// Puts the corrections of final sightings beside them.
pub(crate) fn annotate<'a>(
    parts: &ApiParts,
    sightings: impl IntoIterator<Item = &'a mut pb::Sighting>,
) -> Result<(), StoreError> {
    let sightings = sightings.into_iter();
    annotate_known(parts, sightings.filter_map(|one| Some((sighting_id(&one.name).ok()?, one))))
}

/// The same where the ids are at hand.
pub(crate) fn annotate_known<'a>(
    parts: &ApiParts,
    sightings: impl IntoIterator<Item = (SightingId, &'a mut pb::Sighting)>,
) -> Result<(), StoreError> {
    let last = i32::from(pb::SightingStage::Final);
    let mut of_id: Vec<_> =
        sightings.into_iter().filter(|(_, sighting)| sighting.stage == last).collect();
    of_id.sort_by_key(|(id, _)| *id);
    let ids: Vec<_> = of_id.iter().map(|(id, _)| *id).collect();
    for correction in parts.corrections.corrections_of(&ids)? {
        let first = of_id.partition_point(|(id, _)| *id < correction.sighting);
        let same = of_id[first..].iter_mut().take_while(|(id, _)| *id == correction.sighting);
        for (_, sighting) in same {
            sighting.corrections.push(correction_to_pb(&correction));
        }
    }
    Ok(())
}

/// Whether a sighting is one that can be corrected: nothing of a provisional one is settled.
pub(crate) fn can_be_corrected(sighting: &Sighting) -> bool {
    sighting.stage == SightingStage::Final
}
