//! What lies along the ways that a vehicle may take.

use guiji_domain::GeoPoint;

/// Going over a place that lies along a way makes it at most this much longer: a tenth, and the width of a few blocks.
const DETOUR_SHARE: f64 = 0.1;
const DETOUR_M: f64 = 100.0;

/// The places along the ways from one point to others, those near the beginning first, at most `most`.
pub fn along<T>(
    from: GeoPoint,
    to: &[GeoPoint],
    places: impl IntoIterator<Item = (T, GeoPoint)>,
    most: usize,
) -> Vec<T> {
    let mut found: Vec<_> = places
        .into_iter()
        .map(|(place, at)| (from.distance_m(&at), place, at))
        .filter(|(after, _, at)| {
            to.iter().any(|to| {
                let longest = from.distance_m(to) * (1.0 + DETOUR_SHARE) + DETOUR_M;
                after + at.distance_m(to) <= longest
            })
        })
        .map(|(after, place, _)| (after, place))
        .collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.truncate(most);
    found.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(lat: f64, lon: f64) -> GeoPoint {
        GeoPoint::new(lat, lon).unwrap()
    }

    #[test]
    fn what_lies_between_is_found_in_the_order_of_the_drive() {
        // A hundredth of a degree is 1.1 km to the north and 1 km to the east.
        let (from, to) = (point(29.1, 121.4), [point(29.1, 121.44), point(29.13, 121.4)]);
        let places = [
            ("east, far", point(29.1005, 121.43)),
            ("behind", point(29.1, 121.38)),
            ("east, near", point(29.1, 121.41)),
            ("aside", point(29.08, 121.42)),
            ("north", point(29.12, 121.4005)),
            ("beyond", point(29.1, 121.47)),
        ];
        assert_eq!(along(from, &to, places, 9), ["east, near", "north", "east, far"]);
        assert_eq!(along(from, &to, places, 1), ["east, near"]);
        assert!(along(from, &[], places, 9).is_empty());
    }

    proptest! {
        /// Both ends lie along every way, whatever it is.
        #[test]
        fn the_ends_lie_along_the_way(a in -60.0..60.0f64, b in -170.0..170.0f64, c in -0.5..0.5f64, d in -0.5..0.5f64) {
            let (from, to) = (point(a, b), point(a + c, b + d));
            prop_assert_eq!(along(from, &[to], [(1, from), (2, to)], 2), [1, 2]);
        }
    }
}
