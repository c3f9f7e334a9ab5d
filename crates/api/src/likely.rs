//! Search on probabilities over the store's seams: what `SearchLikely` and trajectories answer with.

use std::collections::{HashMap, HashSet};

use guiji_analysis::likely::{Ranked, rank, rivals};
use guiji_domain::{
    LikelyQuery, LikelySearch, PlatePattern, PlateText, SightingQuery, SightingStore, StoreError,
    TimeSpan,
};

/// Most texts whose commonness is looked up.
const RIVALS_MAX: usize = 64;
/// Most plates are rarer than this: counting costs the reading of so many sightings.
const RARE: usize = 30;
/// A plate that passes this often is common; how much oftener makes no difference.
const COMMON: usize = 1000;

/// The likeliest sightings of a plate, the most probable first: P(plate | reads), as
/// [`guiji_analysis::likely`] has it. As many as the query says, and as many misread ones, which a plate that passes often
/// would else leave no room for.
///
/// # Errors
/// When the store fails.
pub fn likeliest(
    store: &dyn SightingStore,
    likely: &dyn LikelySearch,
    query: &LikelyQuery,
) -> Result<Vec<Ranked>, StoreError> {
    let mut found = likely.likely(query)?;
    if found.len() >= query.limit {
        let known: HashSet<_> = found.iter().map(|one| one.sighting.id).collect();
        let misreads = likely.misreads(query)?.into_iter();
        found.extend(misreads.filter(|one| !known.contains(&one.sighting.id)));
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let mut counts = HashMap::new();
    for text in rivals(&query.plate, &found, RIVALS_MAX) {
        let count = passes(store, &text, query.span)?;
        counts.insert(text, count);
    }
    Ok(rank(&query.plate, found, &counts))
}

/// How many sightings have exactly this text, as far as it matters.
fn passes(store: &dyn SightingStore, text: &PlateText, span: TimeSpan) -> Result<u32, StoreError> {
    let pattern = PlatePattern::parse(text.as_str())?;
    let count = |most: usize| -> Result<usize, StoreError> {
        let query =
            SightingQuery { plate: Some(pattern.clone()), ..SightingQuery::all_in(span, most) };
        Ok(store.search(&query)?.sightings.len())
    };
    let passes = match count(RARE)? {
        RARE => count(COMMON)?,
        rare => rare,
    };
    Ok(u32::try_from(passes).unwrap_or(u32::MAX))
}
