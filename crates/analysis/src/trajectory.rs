//! The way of one vehicle: its sightings in order of time, and what lies between them.
//!
//! Nothing is dropped: a sighting at a camera that is no longer registered is a point without a position, a doubtful
//! one is marked. Speeds carry the uncertainty of both clocks, and a conflict (two places too far apart for the time
//! between) is only said when no error of the clocks could explain it, and by the great circle, which no road undercuts,
//! whatever a road graph lacks.
//!
//! Sightings whose plate was read as another one come in with the probability that it is this plate all the same. What
//! is probable enough and could have been driven is a point of the way, marked; the rest stands beside it
//! ([`Trajectory::possible`]).

use std::collections::HashMap;
use std::time::Duration;

use guiji_domain::{Camera, CameraId, CaptureTime, GeoPoint, PlateState, Sighting, TimeSpan};

use crate::coverage::{DistanceBasis, road_bound_m};
use crate::roads::RoadNetwork;

/// What counts as doubtful, as a gap and as a conflict.
#[derive(Debug, Clone, PartialEq)]
pub struct TrajectorySettings {
    /// Sightings below this confidence are marked doubtful.
    pub confidence_min: f32,
    /// A leg that even at its highest possible speed is slower than this had a stop or a detour, km/h.
    pub slow_below_kmh: f64,
    /// A leg that even at its lowest possible speed is faster than this is a conflict, km/h.
    pub impossible_above_kmh: f64,
    /// A slow leg that took longer than this is a gap: where the vehicle was is not known.
    pub gap_after: Duration,
    /// Nearer than this, two places are the same: no speed is said, metres.
    pub same_place_m: f64,
    /// No vehicle drives faster on an ordinary leg, km/h: the least time that a leg takes.
    pub fast_above_kmh: f64,
    /// Shorter than this, a stay is not told from traffic.
    pub dwell_min: Duration,
    /// A sighting whose plate was read otherwise is part of the way from this probability on.
    pub misread_min: f32,
}

impl Default for TrajectorySettings {
    fn default() -> Self {
        Self {
            confidence_min: 0.6,
            slow_below_kmh: 20.0,
            impossible_above_kmh: 200.0,
            gap_after: Duration::from_secs(30 * 60),
            same_place_m: 30.0,
            fast_above_kmh: 120.0,
            dwell_min: Duration::from_secs(10 * 60),
            misread_min: 0.1,
        }
    }
}

/// How a sighting came to be taken for the vehicle's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FoundBy {
    /// Its plate was read so.
    Text,
    /// Another text was read, which may have been a misread.
    Misread,
    /// A person said so.
    Correction,
}

/// A sighting that may be the vehicle's.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The sighting.
    pub sighting: Sighting,
    /// The probability that it is this plate, 0 to 1.
    pub probability: f32,
    /// How it was found.
    pub by: FoundBy,
}

impl Seen {
    /// A sighting whose plate was read so.
    pub fn read(sighting: Sighting) -> Self {
        let probability = confidence(&sighting);
        Self { sighting, probability, by: FoundBy::Text }
    }
}

/// The ordered sightings of one vehicle, with legs and gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct Trajectory {
    /// Sightings in order of capture time, ties by id.
    pub points: Vec<Point>,
    /// What lies between neighbouring points: one fewer than points.
    pub legs: Vec<Leg>,
    /// Legs over which the vehicle's whereabouts are unknown, in order.
    pub gaps: Vec<Gap>,
    /// Sum of the distances between the points that are not misreads, metres: at most what was driven where they go
    /// along great circles or along the shortest roads. Legs in conflict and legs without a distance are left out.
    pub distance_m: f64,
    /// Sightings that may be the vehicle's, but are too improbable or could not have been driven to: in order of
    /// capture time, ties by id.
    pub possible: Vec<Possible>,
}

/// A sighting beside the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Possible {
    /// The sighting with its probability.
    pub seen: Seen,
    /// Where the camera stands; `None` when it is not registered any more.
    pub position: Option<GeoPoint>,
    /// Whether no vehicle could have come there from the point before, or from there to the point after.
    pub impossible: bool,
}

/// One sighting of the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The sighting.
    pub sighting: Sighting,
    /// Where the camera stands; `None` when it is not registered any more.
    pub position: Option<GeoPoint>,
    /// Probability that the plate was read right, 0 to 1; 0 when it was not read.
    pub confidence: f32,
    /// Probability that it is the plate of this way, 0 to 1.
    pub probability: f32,
    /// How it was found.
    pub by: FoundBy,
    /// Whether the probability is low.
    pub doubtful: bool,
    /// Whether a leg to or from here is in conflict.
    pub conflict: bool,
}

/// From one point to the next.
#[derive(Debug, Clone, PartialEq)]
pub struct Leg {
    /// Index of the earlier point.
    pub from: usize,
    /// Index of the later point.
    pub to: usize,
    /// Distance between the cameras, metres. `None` when a position is unknown.
    pub distance_m: Option<f64>,
    /// What the distance goes along.
    pub basis: DistanceBasis,
    /// Great-circle distance between the cameras, metres: no road is shorter.
    pub straight_m: Option<f64>,
    /// Time between the two captures.
    pub elapsed: Duration,
    /// How far `elapsed` may be off: the sum of both clocks' uncertainties.
    pub elapsed_uncertainty: Duration,
    /// Mean speed over the distance, so at most what was driven. `None` without a distance or at the same place.
    pub speed: Option<ImpliedSpeed>,
    /// The stay on the way; `None` when it needs none.
    pub dwell: Option<Dwell>,
    /// What is remarkable about it.
    pub remark: Option<Remark>,
}

/// A stay between two points. Cameras see it only from its sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dwell {
    /// It lasted at least this long: what a drive at the slowest ordinary speed, and the clocks, leave of the time.
    pub least: Duration,
    /// And at most this long: what a drive at the fastest ordinary speed leaves.
    pub most: Duration,
}

/// A speed with both ends of its error bar, km/h.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImpliedSpeed {
    /// If the elapsed time is as long as the clocks allow.
    pub low_kmh: f64,
    /// By the clocks as they are; infinite when no time passed.
    pub best_kmh: f64,
    /// If the elapsed time is as short as the clocks allow; infinite when they allow none.
    pub high_kmh: f64,
}

/// What is remarkable about a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remark {
    /// No vehicle can be this fast, whatever the clocks: a misread, a cloned plate or a wrong clock.
    Impossible,
    /// So slow that the vehicle stopped or went another way.
    Slow,
    /// The same place again.
    Returned,
}

/// A time over which nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Index of the leg.
    pub leg: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// How much of that a drive at the slowest ordinary speed leaves unexplained; all of it when the distance is
    /// unknown.
    pub unexplained: Duration,
}

impl Trajectory {
    /// Orders the sightings and says what lies between them, with ordinary settings, along great circles.
    pub fn build(sightings: &[Sighting], cameras: &[Camera]) -> Self {
        let seen = sightings.iter().cloned().map(Seen::read).collect();
        let positions = cameras.iter().map(|c| (c.id.clone(), c.position)).collect();
        Self::build_on(&TrajectorySettings::default(), seen, &positions, None)
    }

    /// The same of sightings found in several ways, past cameras that stand at these places, along roads where there are
    /// any. Of a sighting given twice, the final form counts, and the surer way of finding it: a person's word before a
    /// text before a misread.
    pub fn build_on(
        settings: &TrajectorySettings,
        mut seen: Vec<Seen>,
        positions: &HashMap<CameraId, GeoPoint>,
        roads: Option<&RoadNetwork>,
    ) -> Self {
        let rank = |by| match by {
            FoundBy::Correction => 0,
            FoundBy::Text => 1,
            FoundBy::Misread => 2,
        };
        seen.sort_by_key(|s| (s.sighting.id, std::cmp::Reverse(s.sighting.stage), rank(s.by)));
        seen.dedup_by_key(|s| s.sighting.id);
        seen.sort_by_key(|s| (s.sighting.captured.at, s.sighting.id));
        let verdicts = misread_verdicts(settings, &seen, positions);
        let (mut points, mut possible) = (Vec::with_capacity(seen.len()), Vec::new());
        for (seen, verdict) in seen.into_iter().zip(verdicts) {
            let position = positions.get(&seen.sighting.camera).copied();
            if let MisreadVerdict::Beside { impossible } = verdict {
                possible.push(Possible { seen, position, impossible });
                continue;
            }
            points.push(Point {
                position,
                confidence: confidence(&seen.sighting),
                probability: seen.probability,
                by: seen.by,
                doubtful: seen.probability.is_nan() || seen.probability < settings.confidence_min,
                conflict: false,
                sighting: seen.sighting,
            });
        }
        let legs: Vec<_> =
            (1..points.len()).map(|to| leg_of(settings, &points, to - 1, to, roads)).collect();
        for leg in legs.iter().filter(|l| l.remark == Some(Remark::Impossible)) {
            points[leg.from].conflict = true;
            points[leg.to].conflict = true;
        }
        let gaps = legs.iter().enumerate().filter_map(|(i, l)| gap(settings, i, l)).collect();
        let distance_m = sure_distance_m(settings, &points, &legs, roads);
        Self { points, legs, gaps, distance_m, possible }
    }

    /// The time of a gap, by the clocks of both ends.
    pub fn gap_span(&self, gap: &Gap) -> Option<TimeSpan> {
        let leg = self.legs.get(gap.leg)?;
        let ends = [leg.from, leg.to].map(|i| self.points.get(i).map(|p| p.sighting.captured.at));
        TimeSpan::new(ends[0]?, ends[1]?).ok()
    }

    /// The cameras at both ends of a gap; what lies between them, [`crate::coverage::cameras_on_likely_ways`] says.
    pub fn gap_ends(&self, gap: &Gap) -> Option<(&CameraId, &CameraId)> {
        let leg = self.legs.get(gap.leg)?;
        let camera = |i: usize| self.points.get(i).map(|point| &point.sighting.camera);
        camera(leg.from).zip(camera(leg.to))
    }

    /// Largest uncertainty of any point's capture time.
    pub fn clock_uncertainty(&self) -> Option<Duration> {
        self.points.iter().map(|p| p.sighting.captured.uncertainty).max()
    }
}

/// What becomes of a sighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MisreadVerdict {
    /// It is a point of the way.
    OnTheWay,
    /// A misread that stands beside the way.
    Beside {
        /// [`Possible::impossible`].
        impossible: bool,
    },
}

/// Judges sightings that stand in order of time.
fn misread_verdicts(
    settings: &TrajectorySettings,
    seen: &[Seen],
    positions: &HashMap<CameraId, GeoPoint>,
) -> Vec<MisreadVerdict> {
    let sure = |s: &&Seen| s.by != FoundBy::Misread;
    let judge = |(at, one): (usize, &Seen)| {
        if one.by != FoundBy::Misread {
            return MisreadVerdict::OnTheWay;
        }
        // Could it have come from the last sure point before, and gone on to the first after?
        let (before, after) = (seen[..at].iter().rfind(sure), seen[at + 1..].iter().find(sure));
        let pair = |a: &Seen, b: &Seen| {
            let [a, b] = [a, b].map(|seen| Passing {
                captured: seen.sighting.captured,
                camera: &seen.sighting.camera,
                position: positions.get(&seen.sighting.camera).copied(),
            });
            leg(settings, (0, &a), (1, &b), None).remark == Some(Remark::Impossible)
        };
        let impossible =
            before.is_some_and(|b| pair(b, one)) || after.is_some_and(|a| pair(one, a));
        let improbable = one.probability.is_nan() || one.probability < settings.misread_min;
        match impossible || improbable {
            true => MisreadVerdict::Beside { impossible },
            false => MisreadVerdict::OnTheWay,
        }
    };
    seen.iter().enumerate().map(judge).collect()
}

fn confidence(sighting: &Sighting) -> f32 {
    match &sighting.plate {
        PlateState::Read(plate) => plate.confidence,
        PlateState::Unreadable | PlateState::NotRead => 0.0,
    }
}

/// A misread in between must not lengthen the way: where there is one, the way is measured past it.
fn sure_distance_m(
    settings: &TrajectorySettings,
    points: &[Point],
    legs: &[Leg],
    roads: Option<&RoadNetwork>,
) -> f64 {
    let sure: Vec<_> = (0..points.len()).filter(|i| points[*i].by != FoundBy::Misread).collect();
    let pairs = sure.iter().zip(sure.iter().skip(1));
    let legs = pairs.map(|(from, to)| match legs.get(*from) {
        Some(leg) if *to == from + 1 => leg.clone(),
        _ => leg_of(settings, points, *from, *to, roads),
    });
    legs.filter(|l| l.remark != Some(Remark::Impossible)).filter_map(|l| l.distance_m).sum()
}

/// Where and when a vehicle passed.
struct Passing<'a> {
    captured: CaptureTime,
    camera: &'a CameraId,
    position: Option<GeoPoint>,
}

fn leg_of(
    settings: &TrajectorySettings,
    points: &[Point],
    from: usize,
    to: usize,
    roads: Option<&RoadNetwork>,
) -> Leg {
    let passing = |point: usize| Passing {
        captured: points[point].sighting.captured,
        camera: &points[point].sighting.camera,
        position: points[point].position,
    };
    leg(settings, (from, &passing(from)), (to, &passing(to)), roads)
}

/// From one numbered point to another.
fn leg(
    settings: &TrajectorySettings,
    (from, a): (usize, &Passing<'_>),
    (to, b): (usize, &Passing<'_>),
    roads: Option<&RoadNetwork>,
) -> Leg {
    let (left, arrived) = (a.captured, b.captured);
    let elapsed = arrived.at.since(left.at);
    let elapsed_uncertainty = left.uncertainty.saturating_add(arrived.uncertainty);
    let straight_m = a.position.zip(b.position).map(|(a, b)| a.distance_m(&b));
    let moved = straight_m.is_some_and(|d| d > settings.same_place_m);
    let by_road = roads.zip(straight_m).filter(|_| moved).and_then(|(roads, straight_m)| {
        let found = roads.distance_m(a.camera, b.camera, road_bound_m(straight_m))?;
        // Cameras stand beside the road: their places on it may be a little nearer to each other.
        Some(found.max(straight_m))
    });
    let basis = if by_road.is_some() { DistanceBasis::Roads } else { DistanceBasis::GreatCircle };
    let distance_m = by_road.or(straight_m);
    let speed_over = |distance_m: f64| ImpliedSpeed {
        low_kmh: kmh(distance_m, elapsed.saturating_add(elapsed_uncertainty)),
        best_kmh: kmh(distance_m, elapsed),
        high_kmh: kmh(distance_m, elapsed.saturating_sub(elapsed_uncertainty)),
    };
    let speed = distance_m.filter(|_| moved).map(speed_over);
    let least = straight_m.filter(|_| moved).map(speed_over);
    let remark = match (speed, least) {
        (_, Some(least)) if least.low_kmh > settings.impossible_above_kmh => {
            Some(Remark::Impossible)
        }
        (Some(s), _) if s.high_kmh < settings.slow_below_kmh => Some(Remark::Slow),
        (Some(_), _) => None,
        (None, _) => distance_m.map(|_| Remark::Returned),
    };
    let dwell = dwell(settings, distance_m, elapsed, elapsed_uncertainty);
    Leg {
        from,
        to,
        distance_m,
        basis,
        straight_m,
        elapsed,
        elapsed_uncertainty,
        speed,
        dwell,
        remark,
    }
}

fn dwell(
    settings: &TrajectorySettings,
    distance_m: Option<f64>,
    elapsed: Duration,
    uncertainty: Duration,
) -> Option<Dwell> {
    let distance_m = distance_m?;
    let drive = |kmh: f64| Duration::from_secs_f64(distance_m / (kmh.max(0.1) / 3.6));
    let least = elapsed.saturating_sub(uncertainty).saturating_sub(drive(settings.slow_below_kmh));
    let most = elapsed.saturating_add(uncertainty).saturating_sub(drive(settings.fast_above_kmh));
    (least >= settings.dwell_min).then_some(Dwell { least, most })
}

fn gap(settings: &TrajectorySettings, index: usize, leg: &Leg) -> Option<Gap> {
    let slow_mps = settings.slow_below_kmh.max(0.1) / 3.6;
    let explained = leg.distance_m.map_or(0.0, |d| d / slow_mps);
    // Beyond a century `from_secs_f64` has nothing to fear from an Earth's circumference.
    let unexplained = leg.elapsed.saturating_sub(Duration::from_secs_f64(explained.max(0.0)));
    (leg.elapsed > settings.gap_after && !unexplained.is_zero()).then_some(Gap {
        leg: index,
        elapsed: leg.elapsed,
        unexplained,
    })
}

fn kmh(distance_m: f64, elapsed: Duration) -> f64 {
    let secs = elapsed.as_secs_f64();
    if secs > 0.0 { distance_m / secs * 3.6 } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{camera_at, places, plain_lattice, sighting_of, text};
    use guiji_domain::*;
    use proptest::prelude::*;

    fn sighting(camera: &str, at_s: i64, uncertainty_ms: u64, confidence: f32) -> Sighting {
        let mut seen = sighting_of(&camera_at(camera, 0.0, 0.0), Timestamp::from_secs(at_s));
        seen.captured.uncertainty = Duration::from_millis(uncertainty_ms);
        seen.plate = PlateState::Read(FusedPlate {
            text: text("浙J12345"),
            kind: None,
            colour: None,
            rows: PlateRows::One,
            lattice: plain_lattice("浙J12345", 0.98),
            confidence,
            reads: 3,
        });
        seen
    }

    /// 0.01° of latitude are 1112 m.
    fn cameras() -> Vec<Camera> {
        vec![
            camera_at("a", 29.00, 121.0),
            camera_at("b", 29.01, 121.0),
            camera_at("c", 29.05, 121.0),
        ]
    }

    fn positions() -> HashMap<CameraId, GeoPoint> {
        places(&cameras()).into_iter().collect()
    }

    #[test]
    fn orders_points_and_implies_speeds() {
        let seen = [sighting("b", 180, 100, 0.9), sighting("a", 100, 100, 0.9)];
        let way = Trajectory::build(&seen, &cameras());
        let names: Vec<_> = way.points.iter().map(|p| p.sighting.camera.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let leg = &way.legs[0];
        assert_eq!(
            (leg.elapsed, leg.elapsed_uncertainty),
            (Duration::from_secs(80), Duration::from_millis(200))
        );
        let speed = leg.speed.unwrap();
        assert!((speed.best_kmh - 50.04).abs() < 0.1, "{speed:?}");
        assert!(speed.low_kmh < speed.best_kmh && speed.best_kmh < speed.high_kmh);
        assert_eq!((leg.remark, way.gaps.len()), (None, 0));
        assert!((way.distance_m - 1112.0).abs() < 1.0);
        assert_eq!(way.clock_uncertainty(), Some(Duration::from_millis(100)));
    }

    #[test]
    fn too_fast_is_a_conflict_only_when_clocks_cannot_explain_it() {
        // 4448 m in 20 s: 800 km/h.
        let sure = [sighting("b", 100, 50, 0.9), sighting("c", 120, 50, 0.9)];
        let way = Trajectory::build(&sure, &cameras());
        assert_eq!(way.legs[0].remark, Some(Remark::Impossible));
        assert!(way.points.iter().all(|p| p.conflict));
        assert_eq!(way.distance_m, 0.0);
        let unsure = [sighting("b", 100, 60_000, 0.9), sighting("c", 120, 60_000, 0.9)];
        let way = Trajectory::build(&unsure, &cameras());
        assert_eq!(way.legs[0].remark, None);
        assert!(way.legs[0].speed.unwrap().high_kmh.is_infinite());
    }

    #[test]
    fn a_long_silence_is_a_gap_and_a_slow_leg_a_stop() {
        let seen = [
            sighting("a", 0, 100, 0.9),
            sighting("b", 600, 100, 0.9),
            sighting("c", 2 * 3600, 100, 0.9),
        ];
        let way = Trajectory::build(&seen, &cameras());
        assert_eq!(way.legs[0].remark, Some(Remark::Slow));
        assert_eq!(way.gaps.len(), 1);
        assert_eq!((way.gaps[0].leg, way.gaps[0].elapsed), (1, Duration::from_secs(6600)));
        // 4448 m at 20 km/h explain 800 s.
        assert_eq!(way.gaps[0].unexplained.as_secs(), 6600 - 801);
    }

    #[test]
    fn nothing_is_dropped() {
        let mut unread = sighting("a", 50, 0, 0.9);
        unread.plate = PlateState::NotRead;
        let seen = [sighting("gone", 20, 0, 0.9), sighting("a", 0, 0, 0.3), unread];
        let way = Trajectory::build(&seen, &cameras());
        let marks: Vec<_> = way.points.iter().map(|p| (p.position.is_some(), p.doubtful)).collect();
        assert_eq!(marks, [(true, true), (false, false), (true, true)]);
        assert!(way.legs.iter().all(|l| l.distance_m.is_none() && l.speed.is_none()));
        assert_eq!(Trajectory::build(&[], &[]).points, []);
    }

    #[test]
    fn the_same_place_again_has_no_speed() {
        let way =
            Trajectory::build(&[sighting("a", 0, 0, 0.9), sighting("a", 0, 9, 0.9)], &cameras());
        assert_eq!(way.points.len(), 1, "the same sighting twice is one point");
        let way =
            Trajectory::build(&[sighting("a", 0, 0, 0.9), sighting("a", 9, 0, 0.9)], &cameras());
        assert_eq!((way.legs[0].remark, way.legs[0].speed), (Some(Remark::Returned), None));
    }

    #[test]
    fn the_final_form_replaces_the_provisional() {
        let last = sighting("a", 5, 0, 0.9);
        let first = Sighting { stage: SightingStage::Provisional, ..sighting("a", 5, 0, 0.7) };
        let way = Trajectory::build(&[first, last.clone()], &cameras());
        assert_eq!(way.points.len(), 1);
        assert_eq!(way.points[0].sighting, last);
    }

    fn found(sighting: Sighting, probability: f32, by: FoundBy) -> Seen {
        Seen { sighting, probability, by }
    }

    #[test]
    fn misreads_join_the_way_where_they_could_have_been_driven() {
        let settings = TrajectorySettings::default();
        let read = |camera, at_s| Seen::read(sighting(camera, at_s, 50, 0.95));
        let maybe = |camera, at_s, p| found(sighting(camera, at_s, 50, 0.5), p, FoundBy::Misread);
        // b lies on the way from a to c; at 205 s nobody comes to c from b, seen at 200 s: 3200 km/h.
        let seen = vec![
            read("a", 0),
            read("c", 400),
            maybe("b", 100, 0.4),
            maybe("b", 300, 0.01),
            maybe("a", 395, 0.9),
            found(sighting("b", 120, 50, 0.2), 1.0, FoundBy::Correction),
        ];
        let way = Trajectory::build_on(&settings, seen, &positions(), None);
        let shown: Vec<_> = way
            .points
            .iter()
            .map(|p| (p.sighting.camera.as_str(), p.probability, p.doubtful, p.by))
            .collect();
        assert_eq!(
            shown,
            [
                ("a", 0.95, false, FoundBy::Text),
                ("b", 0.4, true, FoundBy::Misread),
                ("b", 1.0, false, FoundBy::Correction),
                ("c", 0.95, false, FoundBy::Text),
            ]
        );
        let beside: Vec<_> =
            way.possible.iter().map(|p| (p.seen.probability, p.impossible)).collect();
        assert_eq!(beside, [(0.01, false), (0.9, true)]);
        // a to b, corrected, to c: the misread changes nothing.
        assert!((way.distance_m - 5560.0).abs() < 5.0, "{}", way.distance_m);
    }

    #[test]
    fn a_misread_elsewhere_does_not_lengthen_the_way() {
        let maybe = found(sighting("c", 1000, 50, 0.5), 0.3, FoundBy::Misread);
        let seen = vec![
            Seen::read(sighting("a", 0, 50, 0.9)),
            maybe,
            Seen::read(sighting("b", 2000, 50, 0.9)),
        ];
        let way = Trajectory::build_on(&TrajectorySettings::default(), seen, &positions(), None);
        assert_eq!(way.points.len(), 3);
        assert!((way.distance_m - 1112.0).abs() < 1.0, "{}", way.distance_m);
    }

    #[test]
    fn roads_give_distances_and_the_crow_the_conflicts() {
        let node = |lat| GeoPoint::new(lat, 121.0).unwrap();
        // Twice as long as it looks.
        let edge = RoadEdge { from: 0, to: 1, length_m: 11_120.0, limit_kmh: None, one_way: false };
        let graph = RoadGraph::new(vec![node(29.0), node(29.05)], vec![edge]).unwrap();
        let roads = RoadNetwork::new(std::sync::Arc::new(graph), &places(&cameras()));
        let settings = TrajectorySettings::default();
        let way = |seconds| {
            let seen =
                [("a", 0), ("c", seconds)].map(|(c, at)| Seen::read(sighting(c, at, 50, 0.9)));
            Trajectory::build_on(&settings, seen.to_vec(), &positions(), Some(&roads))
        };
        let leg = &way(400).legs[0];
        assert_eq!(leg.basis, DistanceBasis::Roads);
        assert!((leg.distance_m.unwrap() - 11_120.0).abs() < 1.0, "{leg:?}");
        assert!((leg.straight_m.unwrap() - 5560.0).abs() < 1.0);
        assert!((leg.speed.unwrap().best_kmh - 100.1).abs() < 0.1);
        // 267 km/h along this road, 133 as the crow flies: a road may be missing, so it is no conflict.
        assert_eq!(way(150).legs[0].remark, None);
        assert_eq!(way(80).legs[0].remark, Some(Remark::Impossible));
        // A drive of 11.12 km at 20 km/h takes 2002 s, at 120 km/h 334 s.
        let dwell = way(7200).legs[0].dwell.unwrap();
        assert_eq!((dwell.least.as_secs(), dwell.most.as_secs()), (5198, 6866));
        assert_eq!(way(2000).legs[0].dwell, None);
    }

    proptest! {
        #[test]
        fn any_times_make_an_ordered_way(
            seen in prop::collection::vec((0usize..4, any::<i64>(), any::<u64>()), 0..20),
        ) {
            let sightings: Vec<_> = seen
                .into_iter()
                .map(|(c, at, unc)| {
                    let mut s = sighting(["a", "b", "c", "gone"][c], 0, unc, 0.9);
                    s.captured.at = Timestamp::from_nanos(at);
                    s.id = SightingId::for_track(&s.camera, TrackId(at as u64), s.captured.at);
                    s
                })
                .collect();
            let way = Trajectory::build(&sightings, &cameras());
            prop_assert_eq!(way.legs.len(), way.points.len().saturating_sub(1));
            prop_assert!(way.points.is_sorted_by_key(|p| p.sighting.captured.at));
            for leg in &way.legs {
                if let Some(s) = leg.speed {
                    prop_assert!(s.low_kmh <= s.best_kmh && s.best_kmh <= s.high_kmh);
                }
            }
        }
    }
}
