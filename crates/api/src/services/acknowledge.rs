//! Somebody deals with an alert.

use guiji_analysis::patrol;
use guiji_domain::{Acknowledgement, Alert, AlertStage, PatrolUnitId};

use super::Services;
use super::patrol::no_unit;
use crate::ApiParts;
use crate::call::{Call, CallKind};
use crate::convert::alert_to_pb;
use crate::error::Problem;
use crate::pb;
use crate::violations::{Violations, alert_id, patrol_unit_id};

const NOTE_CHARS_MAX: usize = 1000;

impl Services {
    pub(super) async fn acknowledge(
        &self,
        call: &mut Call,
        request: pb::AcknowledgeAlertRequest,
    ) -> Result<pb::AcknowledgeAlertResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let id = wrong.take("name", alert_id(&request.name));
        let unit = unit_of_request(&mut wrong, &request.patrol_unit);
        wrong.check_text("note", &request.note, NOTE_CHARS_MAX);
        wrong.done()?;
        let Some(id) = id else { return Err(Problem::field("name", "is required")) };
        call.asks(match &unit {
            Some(unit) => format!("{} for patrolUnits/{unit}", request.name),
            None => request.name.clone(),
        });
        let now = self.core.parts.clock.now();
        let reach = call.reach();
        let given = Acknowledgement {
            officer: authority.officer().to_owned(),
            unit,
            note: request.note.clone(),
        };
        let acknowledge = move |parts: &ApiParts| {
            if let Some(unit) = &given.unit {
                check_unit(parts, unit)?;
            }
            let history = parts.alerts.alert_history(&id)?;
            let view = reach.view(parts);
            let latest = history.last().filter(|a| view.sees(&a.camera, a.captured.at));
            let Some(latest) = latest else {
                return Err(Problem::NotFound { kind: "guiji.v1.Alert", name: request.name });
            };
            let taken = Alert {
                cursor: 0,
                stage: AlertStage::Acknowledged,
                raised: now,
                units: patrol::told(&history),
                acknowledgement: Some(given),
                ..latest.clone()
            };
            if let Some(logged) = parts.intake.log_alert(taken)? {
                return Ok(logged);
            }
            // Somebody was first; who it was is in the log, unless retention has just taken it.
            let mut stages = parts.alerts.alert_history(&id)?.into_iter();
            stages
                .find(|alert| alert.stage == AlertStage::Acknowledged)
                .ok_or(Problem::NotFound { kind: "guiji.v1.Alert", name: request.name })
        };
        let alert = self.core.blocking("acknowledge an alert", acknowledge).await?;
        call.found(1);
        Ok(pb::AcknowledgeAlertResponse { alert: Some(alert_to_pb(&alert)) })
    }
}

/// The unit that a request names, if it names one.
pub(super) fn unit_of_request(wrong: &mut Violations, name: &str) -> Option<PatrolUnitId> {
    (!name.is_empty()).then(|| wrong.take("patrol_unit", patrol_unit_id(name))).flatten()
}

/// Refuses a unit that does not exist: nothing would ever be for it.
pub(super) fn check_unit(parts: &ApiParts, unit: &PatrolUnitId) -> Result<(), Problem> {
    if parts.patrols.units()?.iter().any(|known| known.id == *unit) {
        Ok(())
    } else {
        Err(no_unit(&format!("patrolUnits/{unit}")))
    }
}
