//! Search on probabilities over the store's seams: what `SearchLikely` and trajectories answer with.

use std::collections::HashMap;

use guiji_analysis::likely::{Ranked, rank, rivals};
use guiji_domain::{
    CameraId, Likely, LikelyQuery, LikelySearch, PlateText, ReadAs, StoreError, TimeSpan,
};

/// Most texts whose commonness is looked up.
const RIVALS_MAX: usize = 64;
/// A plate that passes this often is common; how much oftener makes no difference.
const COMMON: usize = 1000;

/// The likeliest sightings of a plate, the most probable first: P(plate | reads), as
/// [`guiji_analysis::likely`] has it, and whether that is all. As many as the query says of those that were read as the
/// plate, and as many misread ones, for which a plate that passes often would else leave no room. How common a text is,
/// the sightings of `seen` say: the cameras that may be looked at, `None` for all.
///
/// # Errors
/// When the store fails.
pub fn likeliest(
    likely: &dyn LikelySearch,
    query: &LikelyQuery,
    seen: Option<&[CameraId]>,
) -> Result<(Vec<Ranked>, bool), StoreError> {
    let wanted: &[ReadAs] = match &query.read_as {
        ReadAs::Any => &[ReadAs::Sought, ReadAs::Another],
        one => std::slice::from_ref(one),
    };
    let (mut found, mut all) = (Vec::new(), true);
    for read_as in wanted {
        let part = likely.likely(&LikelyQuery { read_as: *read_as, ..query.clone() })?;
        all &= part.len() < query.limit;
        found.extend(part);
    }
    // The likeliest first, whose rivals are looked up.
    found.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    Ok((judged(likely, &query.plate, query.span, seen, found)?, all))
}

/// What was found, judged by how common its texts are.
pub(crate) fn judged(
    likely: &dyn LikelySearch,
    plate: &PlateText,
    span: TimeSpan,
    seen: Option<&[CameraId]>,
    found: Vec<Likely>,
) -> Result<Vec<Ranked>, StoreError> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let texts = rivals(plate, &found, RIVALS_MAX);
    let counts = likely.times_read(&texts, span, seen, COMMON)?;
    let counts = counts.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let counts: HashMap<_, _> = texts.into_iter().zip(counts).collect();
    Ok(rank(plate, found, &counts))
}
