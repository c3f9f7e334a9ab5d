//! Patrol units, and alerts that they deal with.

use super::{Client, ClientError, incomplete};
use crate::pb;
use crate::pb::patrol_service_client::PatrolServiceClient;

impl Client {
    /// All patrol units, ordered by ID.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn patrol_units(&self) -> Result<Vec<pb::PatrolUnit>, ClientError> {
        let request = pb::ListPatrolUnitsRequest { authority: self.authority() };
        let mut client = PatrolServiceClient::new(self.channel.clone());
        Ok(client.list_patrol_units(request).await?.into_inner().patrol_units)
    }

    /// Enters a patrol unit; the answer is the unit as entered.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn create_patrol_unit(
        &self,
        unit: pb::PatrolUnit,
    ) -> Result<pb::PatrolUnit, ClientError> {
        let request =
            pb::CreatePatrolUnitRequest { authority: self.authority(), patrol_unit: Some(unit) };
        let mut client = PatrolServiceClient::new(self.channel.clone());
        let answer = client.create_patrol_unit(request).await?.into_inner();
        answer.patrol_unit.ok_or_else(incomplete)
    }

    /// Puts a patrol unit in the place of the one of the same name.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn update_patrol_unit(
        &self,
        unit: pb::PatrolUnit,
    ) -> Result<pb::PatrolUnit, ClientError> {
        let request =
            pb::UpdatePatrolUnitRequest { authority: self.authority(), patrol_unit: Some(unit) };
        let mut client = PatrolServiceClient::new(self.channel.clone());
        let answer = client.update_patrol_unit(request).await?.into_inner();
        answer.patrol_unit.ok_or_else(incomplete)
    }

    /// Removes the unit `patrolUnits/ID`.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn delete_patrol_unit(&self, name: &str) -> Result<(), ClientError> {
        let request =
            pb::DeletePatrolUnitRequest { authority: self.authority(), name: name.to_owned() };
        let mut client = PatrolServiceClient::new(self.channel.clone());
        client.delete_patrol_unit(request).await?;
        Ok(())
    }

    /// Says that the alert `alerts/SIGHTING.ENTRY` is dealt with, for a unit or (empty) none. The answer has the
    /// acknowledgement that counts: the first.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn acknowledge_alert(
        &self,
        name: &str,
        patrol_unit: &str,
        note: &str,
    ) -> Result<pb::Alert, ClientError> {
        let request = pb::AcknowledgeAlertRequest {
            authority: self.authority(),
            name: name.to_owned(),
            patrol_unit: patrol_unit.to_owned(),
            note: note.to_owned(),
        };
        let answer = self.alerts_client().acknowledge_alert(request).await?.into_inner();
        answer.alert.ok_or_else(incomplete)
    }

    /// The proofs that receivers outside took the alert `alerts/SIGHTING.ENTRY`.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn deliveries(&self, name: &str) -> Result<Vec<pb::Delivery>, ClientError> {
        let (mut deliveries, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListDeliveriesRequest {
                authority: self.authority(),
                name: name.to_owned(),
                page_size: 1000,
                page_token,
            };
            let page = self.alerts_client().list_deliveries(request).await?.into_inner();
            deliveries.extend(page.deliveries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(deliveries);
            }
        }
    }
}
