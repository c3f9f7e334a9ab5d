//! Not seen, and why one can say so: what the cameras on a vehicle's likely ways could see meanwhile.
//!
//! The likely ways from one place to another are all those that are at most [`DETOUR`] times as long as the shortest,
//! or [`SLACK_M`] longer, whichever is more: along roads where there is a road graph, else along great circles (the
//! cameras of an ellipse). The cameras at both ends are left out: they did see the vehicle.

use guiji_domain::{CameraId, Coverage, Covered, GeoPoint, TimeSpan};

use crate::roads::RoadNetwork;

/// How many times the shortest way a likely way is long at most.
pub const DETOUR: f64 = 1.3;
/// How much longer than the shortest way a likely way may always be, metres.
pub const SLACK_M: f64 = 1000.0;
/// A camera could see when it did so for at least this share of a time.
pub const SEEING_SHARE: f64 = 0.95;
/// A camera was blind when it was so for more than this share of a time.
pub const BLIND_SHARE: f64 = 0.05;

/// What distances go along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DistanceBasis {
    /// The shortest way along the roads of the graph.
    Roads,
    /// A great circle: the road is at least as long.
    GreatCircle,
}

/// What a camera could do over a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sight {
    /// It was blind for more than [`BLIND_SHARE`] of it.
    Blind,
    /// Too little is known to say either.
    Unknown,
    /// It could see for at least [`SEEING_SHARE`] of it.
    CouldSee,
}

/// A camera on the likely ways.
#[derive(Debug, Clone, PartialEq)]
pub struct Watching {
    /// Which.
    pub camera: CameraId,
    /// The verdict.
    pub sight: Sight,
    /// How long it was in which state.
    pub covered: Covered,
}

/// The cameras on the likely ways during a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct GapCoverage {
    /// What the ways go along.
    pub basis: DistanceBasis,
    /// The cameras: blind ones first, then those nobody can say anything of, each by id.
    pub cameras: Vec<Watching>,
}

impl GapCoverage {
    /// How many have this verdict.
    pub fn count(&self, sight: Sight) -> usize {
        self.cameras.iter().filter(|watching| watching.sight == sight).count()
    }
}

/// The cameras on the likely ways from one camera to another, by id, and what the ways go along. `None` when one of the
/// two is not registered.
pub fn cameras_on_likely_ways(
    from: &CameraId,
    to: &CameraId,
    cameras: &[(CameraId, GeoPoint)],
    roads: Option<&RoadNetwork>,
) -> Option<(DistanceBasis, Vec<CameraId>)> {
    let position = |id: &CameraId| cameras.iter().find(|(c, _)| c == id).map(|(_, at)| *at);
    let (start, goal) = (position(from)?, position(to)?);
    let straight_m = start.distance_m(&goal);
    let longest = |shortest_m: f64| (shortest_m * DETOUR).max(shortest_m + SLACK_M);
    if let Some(roads) = roads
        && let Some(shortest_m) = roads.distance_m(from, to, road_bound_m(straight_m))
        && let Some(between) = roads.cameras_between(from, to, longest(shortest_m))
    {
        return Some((DistanceBasis::Roads, between));
    }
    let longest_m = longest(straight_m);
    let inside = |(camera, at): &&(CameraId, GeoPoint)| {
        let through_m = start.distance_m(at) + at.distance_m(&goal);
        camera != from && camera != to && through_m <= longest_m
    };
    let mut between: Vec<_> =
        cameras.iter().filter(inside).map(|(camera, _)| camera.clone()).collect();
    between.sort();
    Some((DistanceBasis::GreatCircle, between))
}

/// No way along roads is looked for that is longer than this: five times as far as the crow flies and 20 km, so that a
/// search ends where a graph has no way.
pub fn road_bound_m(straight_m: f64) -> f64 {
    straight_m * 5.0 + 20_000.0
}

/// Judges each camera by its history over a span; intervals of other times do no harm.
pub fn judge<'a>(
    basis: DistanceBasis,
    cameras: &[CameraId],
    history_of: impl Fn(&CameraId) -> &'a [Coverage],
    span: TimeSpan,
) -> GapCoverage {
    let mut watching: Vec<_> = cameras
        .iter()
        .map(|camera| {
            let covered = Covered::of(history_of(camera), span);
            Watching { camera: camera.clone(), sight: verdict(&covered), covered }
        })
        .collect();
    watching.sort_by(|a, b| (a.sight, &a.camera).cmp(&(b.sight, &b.camera)));
    GapCoverage { basis, cameras: watching }
}

fn verdict(covered: &Covered) -> Sight {
    let all =
        (covered.seeing_ns as f64 + covered.blind_ns as f64 + covered.unknown_ns as f64).max(1.0);
    if covered.blind_ns as f64 > BLIND_SHARE * all {
        Sight::Blind
    } else if covered.seeing_ns as f64 >= SEEING_SHARE * all {
        Sight::CouldSee
    } else {
        Sight::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{camera_at, places};
    use guiji_domain::{Camera, CoverageState, RoadEdge, RoadGraph, Timestamp};
    use std::sync::Arc;

    fn id(name: &str) -> CameraId {
        CameraId::new(name).unwrap()
    }

    /// A straight road north with cameras each 1112 m, one beside it on a road of its own, and one behind.
    fn cameras() -> Vec<Camera> {
        vec![
            camera_at("a", 29.00, 121.0),
            camera_at("b", 29.01, 121.0),
            camera_at("c", 29.02, 121.0),
            camera_at("d", 29.03, 121.0),
            camera_at("beside", 29.015, 121.005), // 486 m off, as the crow flies on nearly the same way
            camera_at("behind", 28.99, 121.0),
        ]
    }

    fn ways(roads: Option<&RoadNetwork>) -> (DistanceBasis, Vec<String>) {
        let (basis, found) =
            cameras_on_likely_ways(&id("a"), &id("d"), &places(&cameras()), roads).unwrap();
        (basis, found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn roads_know_better_than_the_crow() {
        let (basis, found) = ways(None);
        assert_eq!(basis, DistanceBasis::GreatCircle);
        assert_eq!(found, ["b", "beside", "c"]);
        // The road beside leads elsewhere.
        let place = |lat, lon| GeoPoint::new(lat, lon).unwrap();
        let nodes = vec![
            place(28.98, 121.0),
            place(29.04, 121.0),
            place(29.0, 121.005),
            place(29.03, 121.005),
        ];
        let edge =
            |from, to, length_m| RoadEdge { from, to, length_m, limit_kmh: None, one_way: false };
        let graph = RoadGraph::new(nodes, vec![edge(0, 1, 6700.0), edge(2, 3, 3400.0)]).unwrap();
        let roads = RoadNetwork::new(Arc::new(graph), &places(&cameras()));
        let (basis, found) = ways(Some(&roads));
        assert_eq!(basis, DistanceBasis::Roads);
        assert_eq!(found, ["b", "c"]);
        assert_eq!(cameras_on_likely_ways(&id("a"), &id("gone"), &places(&cameras()), None), None);
    }

    #[test]
    fn a_gap_says_who_could_see() {
        let at = Timestamp::from_secs;
        let interval = |camera: &str, first, last, state| Coverage {
            camera: id(camera),
            span: TimeSpan::new(at(first), at(last)).unwrap(),
            state,
            cause: String::new(),
        };
        use CoverageState::{Blind, Seeing};
        let history = [
            interval("b", 0, 990, Seeing),
            interval("c", 0, 900, Seeing),
            interval("c", 900, 2000, Blind),
            interval("d", 0, 500, Seeing),
        ];
        let span = TimeSpan::new(at(0), at(1000)).unwrap();
        let of = |camera: &CameraId| {
            let first = history.iter().position(|one| one.camera == *camera).unwrap_or(4);
            let rest = &history[first..];
            let end = rest.iter().position(|one| one.camera != *camera).unwrap_or(rest.len());
            &rest[..end]
        };
        let judged = judge(DistanceBasis::Roads, &["b", "c", "d", "e"].map(id), of, span);
        let shown: Vec<_> = judged.cameras.iter().map(|w| (w.camera.as_str(), w.sight)).collect();
        use Sight::{CouldSee, Unknown};
        assert_eq!(shown, [("c", Sight::Blind), ("d", Unknown), ("e", Unknown), ("b", CouldSee)]);
        assert_eq!((judged.count(Sight::CouldSee), judged.count(Unknown)), (1, 2));
        assert_eq!(judged.cameras[0].covered.blind_ns, 100_000_000_000);
    }
}
