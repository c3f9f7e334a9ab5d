use guiji_domain::{PatrolDuty, PatrolUnit};

use super::{Word, area_from_pb, area_to_pb, hours_from_pb, hours_to_pb};
use crate::error::Problem;
use crate::pb;
use crate::violations::{Violations, camera_id, patrol_unit_id};

pub(crate) fn unit_to_pb(unit: &PatrolUnit) -> pb::PatrolUnit {
    pb::PatrolUnit {
        name: format!("patrolUnits/{}", unit.id),
        display_name: unit.name.clone(),
        duty: unit.duty.to_pb(),
        cameras: unit.cameras.iter().map(|camera| format!("cameras/{camera}")).collect(),
        area: unit.area.as_ref().map(area_to_pb),
        shifts: unit.shifts.iter().copied().map(hours_to_pb).collect(),
        neighbours: unit.neighbours.iter().map(|unit| format!("patrolUnits/{unit}")).collect(),
    }
}

/// Checks the field `patrol_unit` of a request.
pub(crate) fn unit_from_pb(unit: Option<&pb::PatrolUnit>) -> Result<PatrolUnit, Problem> {
    let field = |name: &str| format!("patrol_unit.{name}");
    let mut wrong = Violations::default();
    let Some(unit) = wrong.require("patrol_unit", unit) else {
        return Err(wrong.done().err().unwrap_or(Problem::field("patrol_unit", "is required")));
    };
    let id = wrong.take(field("name"), patrol_unit_id(&unit.name));
    if unit.display_name.trim().is_empty() {
        wrong.add(field("display_name"), "is required: 1 to 200 printable characters");
    }
    wrong.check_text(&field("display_name"), &unit.display_name, 200);
    let duty = wrong.take(field("duty"), PatrolDuty::from_pb(unit.duty)).flatten();
    let cameras = wrong.take_list(
        &field("cameras"),
        &unit.cameras,
        PatrolUnit::CAMERAS_MAX,
        |name: &String| camera_id(name),
    );
    let area = unit.area.as_ref().and_then(|area| area_from_pb(&mut wrong, &field("area"), area));
    let shifts =
        wrong.take_list(&field("shifts"), &unit.shifts, PatrolUnit::SHIFTS_MAX, hours_from_pb);
    let neighbours = wrong.take_list(
        &field("neighbours"),
        &unit.neighbours,
        PatrolUnit::NEIGHBOURS_MAX,
        |name: &String| patrol_unit_id(name),
    );
    wrong.done()?;
    let Some(id) = id else { return Err(Problem::field("patrol_unit.name", "is required")) };
    let unit = PatrolUnit {
        id,
        name: unit.display_name.clone(),
        duty: duty.unwrap_or(PatrolDuty::Patrol),
        cameras,
        area,
        shifts,
        neighbours,
    };
    unit.checked().map_err(|error| Problem::field("patrol_unit", error.to_string()))
}
