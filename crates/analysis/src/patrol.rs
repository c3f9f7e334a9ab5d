//! Which patrol units an alert is for, and who is asked when nobody acknowledges it.

use guiji_domain::{
    Alert, AlertStage, CameraId, GeoPoint, PatrolDuty, PatrolUnit, PatrolUnitId, Timestamp,
};

/// The patrols in whose area and shift an alert is raised. The shift is that of the moment at which it is raised: an
/// import of old sightings concerns who is on duty now. `place` is where the camera stands, if that is known.
pub fn routed(
    units: &[PatrolUnit],
    camera: &CameraId,
    place: Option<&GeoPoint>,
    raised: Timestamp,
) -> Vec<PatrolUnitId> {
    let told = units.iter().filter(|unit| {
        unit.duty == PatrolDuty::Patrol && unit.on_duty(raised) && unit.covers(camera, place)
    });
    told.map(|unit| unit.id.clone()).collect()
}

/// All units that were told of an alert in any of its stages, ordered.
pub fn told(history: &[Alert]) -> Vec<PatrolUnitId> {
    let mut told: Vec<_> = history.iter().flat_map(|alert| &alert.units).cloned().collect();
    told.sort_unstable();
    told.dedup();
    told
}

/// Whether the time to answer runs from this stage of an alert.
pub fn is_waited_for(stage: AlertStage) -> bool {
    use AlertStage::{Confirmed, EscalatedToNeighbours, Provisional};
    matches!(stage, Provisional | Confirmed | EscalatedToNeighbours)
}

/// Who is asked next, once the time to answer `stage` is over: the stage to log, not yet in the log. `history` is the
/// whole alert in log order, `stage` one of it.
///
/// First those neighbours of the units that were told which are on duty and were not told yet; then, or when there are
/// none, the control rooms that are on duty for the place. Nobody, when the alert is acknowledged or withdrawn, when the
/// time runs from another stage (a confirmation does not start it anew), when the alert repeats another one, and in a county without patrol units.
pub fn next_level(
    units: &[PatrolUnit],
    history: &[Alert],
    stage: &Alert,
    place: Option<&GeoPoint>,
    now: Timestamp,
) -> Option<Alert> {
    use AlertStage::{Acknowledged, EscalatedToControlRoom, EscalatedToNeighbours, Withdrawn};
    let logged = |wanted| history.iter().any(|alert| alert.stage == wanted);
    // What was withdrawn early may be confirmed after all: the time runs from then.
    let withdrawn = history.iter().rposition(|alert| alert.stage == Withdrawn);
    let standing = history.get(withdrawn.map_or(0, |place| place + 1)..).unwrap_or_default();
    let asked = standing.iter().find(|alert| alert.stage == EscalatedToNeighbours);
    let waited_for = asked.or(standing.first())?;
    if units.is_empty()
        || logged(Acknowledged)
        || logged(EscalatedToControlRoom)
        || waited_for.cursor != stage.cursor
        || waited_for.repeat.is_some()
    {
        return None;
    }
    let told = told(history);
    let level =
        |stage, units| Some(Alert { cursor: 0, stage, raised: now, units, ..waited_for.clone() });
    if !logged(EscalatedToNeighbours) {
        let beside: Vec<_> = units
            .iter()
            .filter(|unit| told.contains(&unit.id))
            .flat_map(|unit| &unit.neighbours)
            .collect();
        let neighbours: Vec<_> = units
            .iter()
            .filter(|unit| {
                beside.contains(&&unit.id) && !told.contains(&unit.id) && unit.on_duty(now)
            })
            .map(|unit| unit.id.clone())
            .collect();
        if !neighbours.is_empty() {
            return level(EscalatedToNeighbours, neighbours);
        }
    }
    let rooms = units.iter().filter(|unit| {
        unit.duty == PatrolDuty::ControlRoom
            && unit.on_duty(now)
            && unit.covers(&stage.camera, place)
    });
    level(EscalatedToControlRoom, rooms.map(|unit| unit.id.clone()).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use guiji_domain::{
        AlertId, CaptureTime, ClockSource, DailyHours, GeoArea, SightingId, WatchEntryId,
        WatchTarget,
    };

    use super::*;

    fn id(id: &str) -> PatrolUnitId {
        PatrolUnitId::new(id).unwrap()
    }

    fn unit(name: &str, duty: PatrolDuty, cameras: &[&str], neighbours: &[&str]) -> PatrolUnit {
        PatrolUnit {
            id: id(name),
            name: name.into(),
            duty,
            cameras: cameras.iter().map(|id| CameraId::new(id).unwrap()).collect(),
            area: None,
            shifts: Vec::new(),
            neighbours: neighbours.iter().map(|name| id(name)).collect(),
        }
    }

    fn alert(cursor: u64, stage: AlertStage, units: &[&str]) -> Alert {
        let at = Timestamp::from_secs(100);
        Alert {
            id: AlertId {
                sighting: SightingId::from_u128(7),
                entry: WatchEntryId::new("w").unwrap(),
            },
            cursor,
            stage,
            raised: at,
            camera: CameraId::new("k1").unwrap(),
            captured: CaptureTime { at, uncertainty: Duration::ZERO, source: ClockSource::Stated },
            read: None,
            target: WatchTarget::Description,
            case_number: "A-1".into(),
            probability: 0.9,
            units: units.iter().map(|name| id(name)).collect(),
            acknowledgement: None,
            repeat: None,
        }
    }

    #[test]
    fn an_alert_is_for_the_patrols_of_its_area_and_shift() {
        let here = GeoPoint::new(28.85, 121.1).unwrap();
        let at = Timestamp::from_secs(4 * 3600); // noon in China
        let day = DailyHours::new(8 * 60, 16 * 60).unwrap();
        let night = DailyHours::new(22 * 60, 6 * 60).unwrap();
        let circle = |radius_m| Some(GeoArea::Circle { centre: here, radius_m });
        let there = GeoPoint::new(28.86, 121.1).unwrap(); // 1.1 km away
        let patrol = |name, cameras| unit(name, PatrolDuty::Patrol, cameras, &[]);
        let units = [
            patrol("named", &["k1", "k2"]),
            patrol("other", &["k2"]),
            PatrolUnit { area: circle(2000.0), ..patrol("round", &[]) },
            PatrolUnit { area: circle(500.0), ..patrol("far", &[]) },
            PatrolUnit { area: circle(500.0), ..patrol("far-but-named", &["k1"]) },
            PatrolUnit { shifts: vec![night, day], ..patrol("day", &[]) },
            PatrolUnit { shifts: vec![night], ..patrol("night", &[]) },
            unit("desk", PatrolDuty::ControlRoom, &[], &[]),
        ];
        let told = |place| {
            let told = routed(&units, &CameraId::new("k1").unwrap(), place, at);
            told.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(Some(&there)), ["named", "round", "far-but-named", "day"]);
        assert_eq!(told(None), ["named", "far-but-named", "day"], "of an unknown place");
    }

    #[test]
    fn who_does_not_answer_is_followed_by_neighbours_and_then_the_control_room() {
        use AlertStage::*;
        let patrol =
            |name, neighbours: &[&str]| unit(name, PatrolDuty::Patrol, &["k1"], neighbours);
        let units = [
            patrol("east", &["west", "north", "gone"]),
            patrol("north", &[]),
            patrol("west", &["east"]),
            unit("desk", PatrolDuty::ControlRoom, &[], &[]),
            unit("elsewhere", PatrolDuty::ControlRoom, &["k9"], &[]),
        ];
        let now = Timestamp::from_secs(200);
        let next = |history: &[Alert], of: usize| {
            let next = next_level(&units, history, &history[of], None, now)?;
            assert_eq!((next.raised, next.cursor), (now, 0));
            let units: Vec<_> = next.units.iter().map(ToString::to_string).collect();
            Some((next.stage, units.join(" ")))
        };
        let raised = alert(1, Provisional, &["east"]);
        let confirmed = alert(2, Confirmed, &["east"]);
        let asked = alert(3, EscalatedToNeighbours, &["north", "west"]);
        let history = [raised.clone(), confirmed.clone()];
        assert_eq!(next(&history, 0), Some((EscalatedToNeighbours, "north west".into())));
        assert_eq!(next(&history, 1), None, "a confirmation does not start the time anew");
        let history = [raised.clone(), confirmed.clone(), asked.clone()];
        assert_eq!(next(&history, 0), None);
        assert_eq!(next(&history, 2), Some((EscalatedToControlRoom, "desk".into())));
        // Nobody was there, so nobody has neighbours.
        let history = [alert(1, Confirmed, &[])];
        assert_eq!(next(&history, 0), Some((EscalatedToControlRoom, "desk".into())));
        for over in [Acknowledged, Withdrawn, EscalatedToControlRoom] {
            let history = [raised.clone(), asked.clone(), alert(4, over, &[])];
            assert_eq!((next(&history, 0), next(&history, 1)), (None, None), "{over}");
        }
        // Withdrawn while it was in view, and confirmed in the end: it goes up, but asks nobody twice.
        let again = alert(6, Confirmed, &["east"]);
        let history = [raised.clone(), alert(5, Withdrawn, &["east"]), again.clone()];
        assert_eq!(next(&history, 0), None);
        assert_eq!(next(&history, 2), Some((EscalatedToNeighbours, "north west".into())));
        let history = [raised.clone(), asked.clone(), alert(5, Withdrawn, &["east"]), again];
        assert_eq!(next(&history, 1), None);
        assert_eq!(next(&history, 3), Some((EscalatedToControlRoom, "desk".into())));
        let repeat = Some(guiji_domain::Repeat { of: raised.id.clone(), number: 1 });
        let history = [Alert { repeat, ..raised.clone() }];
        assert_eq!(next(&history, 0), None, "the one that it repeats goes up");
        assert_eq!(next_level(&[], std::slice::from_ref(&raised), &raised, None, now), None);
        assert_eq!(told(&[raised, asked]), [id("east"), id("north"), id("west")]);
    }
}
