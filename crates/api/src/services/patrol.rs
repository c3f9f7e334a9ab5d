use std::sync::Arc;

use guiji_domain::PatrolUnit;
use tonic::{Request, async_trait};

use super::{Answer, Services};
use crate::ApiParts;
use crate::auth::Method;
use crate::call::{Call, CallKind};
use crate::convert::{unit_from_pb, unit_to_pb};
use crate::error::{Problem, not_in_force};
use crate::pb;
use crate::violations::patrol_unit_id;

#[async_trait]
impl pb::patrol_service_server::PatrolService for Services {
    async fn list_patrol_units(
        &self,
        request: Request<pb::ListPatrolUnitsRequest>,
    ) -> Answer<pb::ListPatrolUnitsResponse> {
        let mut call = Call::new(&self.core, Method::ListPatrolUnits, &request);
        let answer = self.list_units(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn create_patrol_unit(
        &self,
        request: Request<pb::CreatePatrolUnitRequest>,
    ) -> Answer<pb::CreatePatrolUnitResponse> {
        let mut call = Call::new(&self.core, Method::CreatePatrolUnit, &request);
        let request = request.into_inner();
        let (authority, unit) = (request.authority.as_ref(), request.patrol_unit.as_ref());
        let answer = self.put_unit(&mut call, authority, unit, Put::New).await;
        call.end(answer.map(|unit| pb::CreatePatrolUnitResponse { patrol_unit: Some(unit) })).await
    }

    async fn update_patrol_unit(
        &self,
        request: Request<pb::UpdatePatrolUnitRequest>,
    ) -> Answer<pb::UpdatePatrolUnitResponse> {
        let mut call = Call::new(&self.core, Method::UpdatePatrolUnit, &request);
        let request = request.into_inner();
        let (authority, unit) = (request.authority.as_ref(), request.patrol_unit.as_ref());
        let answer = self.put_unit(&mut call, authority, unit, Put::Present).await;
        call.end(answer.map(|unit| pb::UpdatePatrolUnitResponse { patrol_unit: Some(unit) })).await
    }

    async fn delete_patrol_unit(
        &self,
        request: Request<pb::DeletePatrolUnitRequest>,
    ) -> Answer<pb::DeletePatrolUnitResponse> {
        let mut call = Call::new(&self.core, Method::DeletePatrolUnit, &request);
        let answer = self.delete_unit(&mut call, request.into_inner()).await;
        call.end(answer).await
    }
}

/// Whether there must be a unit of the name before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    New,
    Present,
}

impl Services {
    async fn list_units(
        &self,
        call: &mut Call,
        request: pb::ListPatrolUnitsRequest,
    ) -> Result<pb::ListPatrolUnitsResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        call.asks("all");
        let all = |parts: &ApiParts| Ok(parts.patrols.units()?);
        let units = self.core.blocking("list the patrol units", all).await?;
        call.found(units.len());
        Ok(pb::ListPatrolUnitsResponse { patrol_units: units.iter().map(unit_to_pb).collect() })
    }

    async fn put_unit(
        &self,
        call: &mut Call,
        authority: Option<&pb::Authority>,
        unit: Option<&pb::PatrolUnit>,
        put: Put,
    ) -> Result<pb::PatrolUnit, Problem> {
        call.admit(CallKind::Unary, authority)?;
        let unit = unit_from_pb(unit)?;
        call.asks(format!("patrolUnits/{}", unit.id));
        let core = Arc::clone(&self.core);
        let enter = move |parts: &ApiParts| {
            let _writing = core.writing_patrols();
            let units = parts.patrols.units()?;
            match (put, units.iter().any(|known| known.id == unit.id)) {
                (Put::New, true) => {
                    let name = format!("patrolUnits/{}", unit.id);
                    return Err(Problem::Exists { kind: "guiji.v1.PatrolUnit", name });
                }
                (Put::New, false) if units.len() >= PatrolUnit::COUNT_MAX => {
                    let limit = PatrolUnit::COUNT_MAX;
                    return Err(Problem::LimitReached { what: "patrol units", limit });
                }
                (Put::Present, false) => {
                    return Err(no_unit(&format!("patrolUnits/{}", unit.id)));
                }
                (Put::New, false) | (Put::Present, true) => {}
            }
            parts.patrols.put_unit(&unit)?;
            in_force(parts, format!("patrolUnits/{}", unit.id))?;
            Ok(unit_to_pb(&unit))
        };
        let unit = self.core.blocking("enter a patrol unit", enter).await?;
        call.found(1);
        Ok(unit)
    }

    async fn delete_unit(
        &self,
        call: &mut Call,
        request: pb::DeletePatrolUnitRequest,
    ) -> Result<pb::DeletePatrolUnitResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let id = patrol_unit_id(&request.name)
            .map_err(|error| Problem::field("name", error.to_string()))?;
        call.asks(request.name.as_str());
        let core = Arc::clone(&self.core);
        let remove = move |parts: &ApiParts| {
            let _writing = core.writing_patrols();
            if !parts.patrols.remove_unit(&id)? {
                return Err(no_unit(&request.name));
            }
            in_force(parts, format!("the removal of {}", request.name))
        };
        self.core.blocking("remove a patrol unit", remove).await?;
        call.found(1);
        Ok(pb::DeletePatrolUnitResponse {})
    }
}

/// Brings what was kept into force.
fn in_force(parts: &ApiParts, what: String) -> Result<(), Problem> {
    (parts.patrols_changed)().map_err(|error| not_in_force(what, &error))
}

/// There is no unit of the name.
pub(super) fn no_unit(name: &str) -> Problem {
    Problem::NotFound { kind: "guiji.v1.PatrolUnit", name: name.to_owned() }
}
