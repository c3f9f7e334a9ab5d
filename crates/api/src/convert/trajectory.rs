use std::time::Duration;

use guiji_analysis::coverage::{DistanceBasis, GapCoverage, Sight};
use guiji_analysis::tactics::PassageIndex;
use guiji_analysis::tactics::stops::StopPlace;
use guiji_analysis::trajectory::{FoundBy, Gap, Leg, Point, Possible, Remark, Trajectory};
use guiji_domain::PlateText;

use super::{View, camera_name, duration_to_pb, point_to_pb, sighting_to_pb, timestamp_to_pb};
use crate::pb;
use crate::services::Told;

/// Most cameras named of a gap, and most places: an answer has its limit. The protos promise them.
const WATCHING_MAX: usize = 20;
const PLACES_MAX: usize = 50;

/// The answer, as far as the analysis says it.
pub(crate) fn trajectory_to_pb(plate: &PlateText, told: &Told, view: View) -> pb::Trajectory {
    let way = &told.way;
    let gaps = way.gaps.iter().zip(&told.coverage);
    pb::Trajectory {
        plate: plate.as_str().to_owned(),
        points: way.points.iter().map(|point| point_of_way(point, view)).collect(),
        legs: way.legs.iter().map(leg_to_pb).collect(),
        gaps: gaps.map(|(gap, coverage)| gap_to_pb(way, gap, coverage.as_ref())).collect(),
        distance_m: way.distance_m,
        clock_uncertainty: way.clock_uncertainty().map(duration_to_pb),
        next_start_time: told.next.map(timestamp_to_pb),
        possible_points: way.possible.iter().map(|one| possible_to_pb(one, view)).collect(),
        dwell_places: told
            .stays
            .iter()
            .take(PLACES_MAX)
            .map(|place| place_to_pb(&told.index, place))
            .collect(),
    }
}

fn point_of_way(point: &Point, view: View) -> pb::TrajectoryPoint {
    let flags = [
        (point.doubtful, pb::PointFlag::Doubtful),
        (point.conflict, pb::PointFlag::Conflict),
        (point.by == FoundBy::Misread, pb::PointFlag::Misread),
    ];
    pb::TrajectoryPoint {
        sighting: Some(sighting_to_pb(&point.sighting, view)),
        position: point.position.as_ref().map(point_to_pb),
        confidence: point.confidence,
        flags: flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag.into()).collect(),
        probability: point.probability,
    }
}

fn possible_to_pb(possible: &Possible, view: View) -> pb::PossiblePoint {
    pb::PossiblePoint {
        sighting: Some(sighting_to_pb(&possible.seen.sighting, view)),
        position: possible.position.as_ref().map(point_to_pb),
        probability: possible.seen.probability,
        impossible: possible.impossible,
    }
}

fn basis_to_pb(basis: DistanceBasis) -> pb::DistanceBasis {
    match basis {
        DistanceBasis::Roads => pb::DistanceBasis::Roads,
        DistanceBasis::GreatCircle => pb::DistanceBasis::GreatCircle,
    }
}

fn leg_to_pb(leg: &Leg) -> pb::Leg {
    let bounded = |kmh: f64| kmh.is_finite().then_some(kmh);
    let remark = match leg.remark {
        None => pb::LegRemark::Unspecified,
        Some(Remark::Impossible) => pb::LegRemark::Impossible,
        Some(Remark::Slow) => pb::LegRemark::Slow,
        Some(Remark::Returned) => pb::LegRemark::Returned,
    };
    let basis = leg.distance_m.map_or(pb::DistanceBasis::Unspecified, |_| basis_to_pb(leg.basis));
    pb::Leg {
        from_index: index(leg.from),
        to_index: index(leg.to),
        distance_m: leg.distance_m,
        elapsed: Some(duration_to_pb(leg.elapsed)),
        elapsed_uncertainty: Some(duration_to_pb(leg.elapsed_uncertainty)),
        implied_speed: leg.speed.map(|speed| pb::ImpliedSpeed {
            low_kmh: speed.low_kmh,
            best_kmh: bounded(speed.best_kmh),
            high_kmh: bounded(speed.high_kmh),
        }),
        remark: remark.into(),
        distance_basis: basis.into(),
        great_circle_m: leg.straight_m,
        dwell_least: leg.dwell.map(|dwell| duration_to_pb(dwell.least)),
        dwell_most: leg.dwell.map(|dwell| duration_to_pb(dwell.most)),
    }
}

fn gap_to_pb(way: &Trajectory, gap: &Gap, coverage: Option<&GapCoverage>) -> pb::Gap {
    let span = way.gap_span(gap);
    pb::Gap {
        leg_index: index(gap.leg),
        elapsed: Some(duration_to_pb(gap.elapsed)),
        unexplained: Some(duration_to_pb(gap.unexplained)),
        last_seen_time: span.map(|span| timestamp_to_pb(span.first())),
        next_seen_time: span.map(|span| timestamp_to_pb(span.last())),
        coverage: coverage.map(coverage_to_pb),
    }
}

fn coverage_to_pb(coverage: &GapCoverage) -> pb::GapCoverage {
    let nanos = |nanos| Some(duration_to_pb(Duration::from_nanos(nanos)));
    let cameras = coverage.cameras.iter().take(WATCHING_MAX).map(|watching| pb::WatchingCamera {
        camera: camera_name(&watching.camera),
        seeing: nanos(watching.covered.seeing_ns),
        blind: nanos(watching.covered.blind_ns),
        unknown: nanos(watching.covered.unknown_ns),
    });
    pb::GapCoverage {
        basis: basis_to_pb(coverage.basis).into(),
        camera_count: index(coverage.cameras.len()),
        could_see_count: index(coverage.count(Sight::CouldSee)),
        blind_count: index(coverage.count(Sight::Blind)),
        unknown_count: index(coverage.count(Sight::Unknown)),
        cameras: cameras.collect(),
    }
}

fn place_to_pb(passages: &PassageIndex, place: &StopPlace) -> pb::DwellPlace {
    let camera = |key| passages.camera_id(key).map(camera_name);
    pb::DwellPlace {
        cameras: place.cameras.iter().filter_map(|key| camera(*key)).collect(),
        centre: place.centre.as_ref().map(point_to_pb),
        stays: place
            .stops
            .iter()
            .map(|stop| pb::DwellStay {
                last_seen_time: Some(timestamp_to_pb(stop.before.0)),
                next_seen_time: Some(timestamp_to_pb(stop.after.0)),
                least: Some(duration_to_pb(stop.dwell_least)),
                most: Some(duration_to_pb(stop.dwell_most)),
            })
            .collect(),
        overnight_count: index(place.overnight),
    }
}

/// An answer has at most a thousand points.
fn index(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
