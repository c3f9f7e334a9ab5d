//! Which cameras stand at one place.

use std::collections::HashMap;

use guiji_domain::{CameraId, GeoPoint};

use super::PassageIndex;

/// Cameras within a crossing of each other are one site.
pub(super) const SITE_M: f64 = 60.0;
/// The lanes of one approach hang side by side.
pub(super) const APPROACH_M: f64 = 8.0;

/// Names each camera's place by the first camera within some metres; those without a position stand alone.
pub(super) fn places(
    index: &PassageIndex,
    positions: &HashMap<CameraId, GeoPoint>,
    reach_m: f64,
) -> Vec<usize> {
    let points: Vec<_> = index.cameras().iter().map(|c| positions.get(c)).collect();
    let mut places: Vec<usize> = (0..points.len()).collect();
    for i in 0..points.len() {
        let Some(here) = points[i] else { continue };
        let near = |j: &usize| points[*j].is_some_and(|there| here.distance_m(there) <= reach_m);
        if let Some(first) = (0..i).find(near) {
            places[i] = places[first];
        }
    }
    places
}
