//! `guiji query patrol`: who goes out when a watched vehicle passes.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use guiji_api::client::Client;
use guiji_api::convert::Word as _;
use guiji_api::pb;
use guiji_domain::PatrolDuty;

use super::{bare, circle, found, json_line, line, word};
use crate::watchlist::{hours, hours_text};

/// Commands of `guiji query patrol`.
#[derive(Debug, Subcommand)]
pub(super) enum PatrolCommand {
    /// All units.
    List,
    /// Enter a unit.
    Add {
        /// A name for it, of letters and digits.
        id: String,
        #[command(flatten)]
        unit: UnitArguments,
    },
    /// Change what is said of a unit; the rest stays. Lists are replaced whole.
    Change {
        /// Its name.
        id: String,
        #[command(flatten)]
        unit: UnitArguments,
    },
    /// Take a unit off; alerts keep its name.
    Remove {
        /// Its name.
        id: String,
    },
}

/// What a unit is.
#[derive(Debug, Args)]
pub(super) struct UnitArguments {
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    /// patrol, or control_room: asked when no patrol answers.
    #[arg(long)]
    duty: Option<PatrolDuty>,
    /// A camera of its area; may be given again.
    #[arg(long)]
    camera: Vec<String>,
    /// Its area, a circle.
    #[arg(long, value_name = "LAT,LON,METRES")]
    near: Option<String>,
    /// A shift in China, such as 22:00-06:00 or mon,tue 22:00-06:00; may be given again. None: always.
    #[arg(long, value_name = "[DAYS ]HH:MM-HH:MM")]
    shift: Vec<String>,
    /// Who is asked when it does not answer; may be given again.
    #[arg(long)]
    neighbour: Vec<String>,
}

impl UnitArguments {
    /// The unit as it is to be, given what it is.
    fn apply(&self, mut unit: pb::PatrolUnit) -> Result<pb::PatrolUnit> {
        if let Some(name) = &self.name {
            unit.display_name.clone_from(name);
        }
        if let Some(duty) = self.duty {
            unit.duty = duty.to_pb();
        }
        if let Some(near) = &self.near {
            unit.area = Some(circle(near)?);
        }
        if !self.camera.is_empty() {
            unit.cameras = self.camera.iter().map(|id| format!("cameras/{id}")).collect();
        }
        if !self.shift.is_empty() {
            unit.shifts = self.shift.iter().map(|shift| hours(shift)).collect::<Result<_>>()?;
        }
        if !self.neighbour.is_empty() {
            unit.neighbours = self.neighbour.iter().map(|id| unit_name(id)).collect();
        }
        Ok(unit)
    }
}

/// People paste either form.
pub(super) fn unit_name(unit: &str) -> String {
    if unit.contains('/') { unit.to_owned() } else { format!("patrolUnits/{unit}") }
}

/// Runs a command.
pub(super) async fn run(client: &Client, json: bool, command: PatrolCommand) -> Result<ExitCode> {
    match command {
        PatrolCommand::List => {
            let units = client.patrol_units().await?;
            units.iter().try_for_each(|unit| show(json, unit))?;
            return Ok(found(!units.is_empty()));
        }
        PatrolCommand::Add { id, unit } => {
            let fresh = pb::PatrolUnit {
                name: unit_name(&id),
                display_name: bare(&id).to_owned(),
                ..Default::default()
            };
            show(json, &client.create_patrol_unit(unit.apply(fresh)?).await?)?;
        }
        PatrolCommand::Change { id, unit } => {
            let name = unit_name(&id);
            let known = client.patrol_units().await?.into_iter().find(|unit| unit.name == name);
            let known = known.with_context(|| {
                format!("there is no unit {}: `guiji query patrol list` has all", bare(&name))
            })?;
            show(json, &client.update_patrol_unit(unit.apply(known)?).await?)?;
        }
        PatrolCommand::Remove { id } => client.delete_patrol_unit(&unit_name(&id)).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(json: bool, unit: &pb::PatrolUnit) -> Result<()> {
    if json { json_line(unit) } else { line(unit_text(unit)) }
}

fn unit_text(unit: &pb::PatrolUnit) -> String {
    use pb::area::Shape;
    let list = |names: &[String]| names.iter().map(|name| bare(name)).collect::<Vec<_>>().join(" ");
    let mut text = format!(
        "{:<12} {:<12} {}",
        bare(&unit.name),
        word::<PatrolDuty>(unit.duty),
        unit.display_name
    );
    let area = match unit.area.as_ref().and_then(|area| area.shape.as_ref()) {
        Some(Shape::Circle(circle)) => {
            let centre = circle.centre.unwrap_or_default();
            format!(
                "{:.0} m around {:.5},{:.5}",
                circle.radius_m, centre.latitude_deg, centre.longitude_deg
            )
        }
        Some(Shape::Rectangle(_)) => "a rectangle".to_owned(),
        None if unit.cameras.is_empty() => "everywhere".to_owned(),
        None => String::new(),
    };
    for (what, said) in [
        ("", area),
        ("cameras ", list(&unit.cameras)),
        ("on duty ", unit.shifts.iter().map(hours_text).collect::<Vec<_>>().join(" ")),
        ("neighbours ", list(&unit.neighbours)),
    ] {
        if !said.is_empty() {
            text += &format!("  {what}{said}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_the_rest_and_a_unit_is_a_line() {
        let nothing = || UnitArguments {
            name: None,
            duty: None,
            camera: Vec::new(),
            near: None,
            shift: Vec::new(),
            neighbour: Vec::new(),
        };
        let fresh = pb::PatrolUnit {
            name: "patrolUnits/east".into(),
            display_name: "east".into(),
            ..Default::default()
        };
        assert_eq!(nothing().apply(fresh.clone()).unwrap(), fresh);
        let entered = UnitArguments {
            duty: Some(PatrolDuty::Patrol),
            camera: vec!["k1".into(), "k2".into()],
            near: Some("29.1,121.4,1500".into()),
            shift: vec!["22:00-06:00".into(), "sat,sun 10:00-18:00".into()],
            neighbour: vec!["west".into()],
            ..nothing()
        };
        let east = entered.apply(fresh).unwrap();
        assert_eq!(east.neighbours, ["patrolUnits/west"]);
        assert_eq!(
            unit_text(&east),
            "east         patrol       east  1500 m around 29.10000,121.40000  cameras k1 k2  \
             on duty 22:00-06:00 sat,sun 10:00-18:00  neighbours west"
        );
        let renamed = UnitArguments { name: Some("East ring".into()), ..nothing() };
        let renamed = renamed.apply(east.clone()).unwrap();
        assert_eq!(renamed, pb::PatrolUnit { display_name: "East ring".into(), ..east });
        let wrong = UnitArguments { shift: vec!["25:00-26:00".into()], ..nothing() };
        assert!(wrong.apply(renamed).unwrap_err().to_string().contains("HH:MM"));
    }
}
