//! The way of one vehicle: its sightings in order of time, and what lies between them.
//!
//! Nothing is dropped: a sighting at a camera that is no longer registered is a point without a position, a doubtful
//! one is marked. Speeds carry the uncertainty of both clocks, and a conflict (two places too far apart for the time
//! between) is only said when no error of the clocks could explain it.

use std::collections::HashMap;
use std::time::Duration;

use guiji_domain::{Camera, CameraId, GeoPoint, PlateState, Sighting};

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
}

impl Default for TrajectorySettings {
    fn default() -> Self {
        Self {
            confidence_min: 0.6,
            slow_below_kmh: 20.0,
            impossible_above_kmh: 200.0,
            gap_after: Duration::from_secs(30 * 60),
            same_place_m: 30.0,
        }
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
    /// Sum of the legs' distances, metres along great circles: at most what was driven. Legs in conflict and legs
    /// without a distance are left out.
    pub distance_m: f64,
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
    /// Whether the confidence is low.
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
    /// Great-circle distance between the cameras, metres: the road is at least as long. `None` when a position is
    /// unknown.
    pub distance_m: Option<f64>,
    /// Time between the two captures.
    pub elapsed: Duration,
    /// How far `elapsed` may be off: the sum of both clocks' uncertainties.
    pub elapsed_uncertainty: Duration,
    /// Mean speed along the great circle, so at most what was driven. `None` without a distance or at the same place.
    pub speed: Option<ImpliedSpeed>,
    /// What is remarkable about it.
    pub remark: Option<Remark>,
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
    /// Orders the sightings and says what lies between them, with ordinary settings.
    pub fn build(sightings: &[Sighting], cameras: &[Camera]) -> Self {
        Self::build_with(&TrajectorySettings::default(), sightings, cameras)
    }

    /// The same with settings. Of a sighting given twice, the final form counts.
    pub fn build_with(
        settings: &TrajectorySettings,
        sightings: &[Sighting],
        cameras: &[Camera],
    ) -> Self {
        let positions: HashMap<&CameraId, GeoPoint> =
            cameras.iter().map(|c| (&c.id, c.position)).collect();
        let mut ordered: Vec<_> = sightings.iter().collect();
        ordered.sort_by_key(|s| (s.id, std::cmp::Reverse(s.stage)));
        ordered.dedup_by_key(|s| s.id);
        ordered.sort_by_key(|s| (s.captured.at, s.id));

        let mut points: Vec<_> = ordered
            .into_iter()
            .map(|sighting| {
                let confidence = match &sighting.plate {
                    PlateState::Read(plate) => plate.confidence,
                    PlateState::Unreadable | PlateState::NotRead => 0.0,
                };
                Point {
                    sighting: sighting.clone(),
                    position: positions.get(&sighting.camera).copied(),
                    confidence,
                    doubtful: confidence.is_nan() || confidence < settings.confidence_min,
                    conflict: false,
                }
            })
            .collect();
        let legs: Vec<_> = (1..points.len()).map(|to| leg(settings, &points, to - 1, to)).collect();
        for leg in legs.iter().filter(|l| l.remark == Some(Remark::Impossible)) {
            points[leg.from].conflict = true;
            points[leg.to].conflict = true;
        }
        let gaps = legs.iter().enumerate().filter_map(|(i, l)| gap(settings, i, l)).collect();
        let distance_m = legs
            .iter()
            .filter(|l| l.remark != Some(Remark::Impossible))
            .filter_map(|l| l.distance_m)
            .sum();
        Self { points, legs, gaps, distance_m }
    }

    /// Largest uncertainty of any point's capture time.
    pub fn clock_uncertainty(&self) -> Option<Duration> {
        self.points.iter().map(|p| p.sighting.captured.uncertainty).max()
    }
}

fn leg(settings: &TrajectorySettings, points: &[Point], from: usize, to: usize) -> Leg {
    let (a, b) = (&points[from], &points[to]);
    let (left, arrived) = (a.sighting.captured, b.sighting.captured);
    let elapsed = arrived.at.since(left.at);
    let elapsed_uncertainty = left.uncertainty.saturating_add(arrived.uncertainty);
    let distance_m = a.position.zip(b.position).map(|(a, b)| a.distance_m(&b));
    let moved_m = distance_m.filter(|d| *d > settings.same_place_m);
    let speed = moved_m.map(|distance_m| ImpliedSpeed {
        low_kmh: kmh(distance_m, elapsed.saturating_add(elapsed_uncertainty)),
        best_kmh: kmh(distance_m, elapsed),
        high_kmh: kmh(distance_m, elapsed.saturating_sub(elapsed_uncertainty)),
    });
    let remark = match speed {
        Some(s) if s.low_kmh > settings.impossible_above_kmh => Some(Remark::Impossible),
        Some(s) if s.high_kmh < settings.slow_below_kmh => Some(Remark::Slow),
        Some(_) => None,
        None => distance_m.map(|_| Remark::Returned),
    };
    Leg { from, to, distance_m, elapsed, elapsed_uncertainty, speed, remark }
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
    use crate::testing::{camera_at, plain_lattice, sighting_of, text};
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
