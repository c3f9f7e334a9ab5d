use guiji_analysis::trajectory::{Leg, Point, Remark, Trajectory};
use guiji_domain::{PlateText, Timestamp};

use super::{View, duration_to_pb, point_to_pb, sighting_to_pb, timestamp_to_pb};
use crate::pb;

/// The answer; `next` says where to go on when it was cut.
pub(crate) fn trajectory_to_pb(
    plate: &PlateText,
    way: &Trajectory,
    next: Option<Timestamp>,
    view: View,
) -> pb::Trajectory {
    let gaps = way.gaps.iter().map(|gap| pb::Gap {
        leg_index: index(gap.leg),
        elapsed: Some(duration_to_pb(gap.elapsed)),
        unexplained: Some(duration_to_pb(gap.unexplained)),
    });
    pb::Trajectory {
        plate: plate.as_str().to_owned(),
        points: way.points.iter().map(|point| point_of_way(point, view)).collect(),
        legs: way.legs.iter().map(leg_to_pb).collect(),
        gaps: gaps.collect(),
        distance_m: way.distance_m,
        clock_uncertainty: way.clock_uncertainty().map(duration_to_pb),
        next_start_time: next.map(timestamp_to_pb),
    }
}

fn point_of_way(point: &Point, view: View) -> pb::TrajectoryPoint {
    let flags =
        [(point.doubtful, pb::PointFlag::Doubtful), (point.conflict, pb::PointFlag::Conflict)];
    pb::TrajectoryPoint {
        sighting: Some(sighting_to_pb(&point.sighting, view)),
        position: point.position.as_ref().map(point_to_pb),
        confidence: point.confidence,
        flags: flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag.into()).collect(),
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
    }
}

/// An answer has at most a thousand points.
fn index(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
