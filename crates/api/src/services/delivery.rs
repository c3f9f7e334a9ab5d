//! What proves that an alert was delivered.

use guiji_domain::{Delivery, InvalidValue, ReceiverId};

use super::Services;
use crate::ApiParts;
use crate::call::{Call, CallKind};
use crate::convert::delivery_to_pb;
use crate::error::Problem;
use crate::page_token::{PageScope, garbled_place};
use crate::pb;
use crate::violations::{Violations, alert_id, page_size};

/// The place of a delivery in the list: its cursor and receiver.
type Place = (u64, ReceiverId);

impl Services {
    pub(super) async fn list_deliveries(
        &self,
        call: &mut Call,
        request: pb::ListDeliveriesRequest,
    ) -> Result<pb::ListDeliveriesResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let scope = PageScope::of("deliveries", &request.name);
        let id = wrong.take("name", alert_id(&request.name));
        let limit = wrong.take("page_size", page_size(request.page_size)).unwrap_or(1);
        let token = &request.page_token;
        let place = wrong.take("page_token", scope.open(token)).flatten();
        let after = place.and_then(|place| wrong.take("page_token", opened(&place, token)));
        wrong.done()?;
        let Some(id) = id else { return Err(Problem::field("name", "is required")) };
        call.asks(request.name.as_str());
        let reach = call.reach();
        let found = move |parts: &ApiParts| {
            let view = reach.view(parts);
            let history = parts.alerts.alert_history(&id)?;
            if !history.iter().any(|alert| view.sees(&alert.camera, alert.captured.at)) {
                return Err(Problem::NotFound { kind: "guiji.v1.Alert", name: request.name });
            }
            let mut proofs = parts.deliveries.deliveries(&id)?;
            proofs.retain(|proof| after.as_ref().is_none_or(|after| place_of(proof) > *after));
            Ok(proofs)
        };
        let mut proofs = self.core.blocking("list deliveries", found).await?;
        let more = proofs.len() > limit;
        proofs.truncate(limit);
        call.found(proofs.len());
        let last = proofs.last().filter(|_| more);
        Ok(pb::ListDeliveriesResponse {
            next_page_token: last.map_or_else(String::new, |last| scope.seal(&sealed(last))),
            deliveries: proofs.iter().map(delivery_to_pb).collect(),
        })
    }
}

fn place_of(proof: &Delivery) -> Place {
    (proof.cursor, proof.receiver.clone())
}

fn sealed(proof: &Delivery) -> Vec<u8> {
    [&proof.cursor.to_be_bytes()[..], proof.receiver.as_str().as_bytes()].concat()
}

fn opened(place: &[u8], token: &str) -> Result<Place, InvalidValue> {
    let parts = place.split_first_chunk().and_then(|(cursor, receiver)| {
        let receiver = ReceiverId::new(std::str::from_utf8(receiver).ok()?).ok()?;
        Some((u64::from_be_bytes(*cursor), receiver))
    });
    parts.ok_or_else(|| garbled_place(token))
}
