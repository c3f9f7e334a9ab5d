use std::sync::Arc;

use guiji_domain::Approval;

use super::{absent, asked, in_force, name_of_entry};
use crate::ApiParts;
use crate::call::{Call, CallKind};
use crate::convert::entry_to_pb;
use crate::error::Problem;
use crate::pb;
use crate::services::Services;

impl Services {
    pub(super) async fn approve_entry(
        &self,
        call: &mut Call,
        request: pb::ApproveWatchlistEntryRequest,
    ) -> Result<pb::ApproveWatchlistEntryResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let id = name_of_entry(&request.name)?;
        call.asks(id.as_str());
        let now = self.core.parts.clock.now();
        let core = Arc::clone(&self.core);
        let approved = move |parts: &ApiParts| {
            let _writing = core.writing_watchlist();
            let mut entry = parts.watchlist.entry(&id)?.ok_or_else(|| absent(&id))?;
            if !entry.needs_approval() {
                return Err(Problem::field(
                    "name",
                    "is an entry for one plate: it needs no approval",
                ));
            }
            if entry.owner == authority.officer() {
                return Err(Problem::Forbidden {
                    reason: "OWN_ENTRY",
                    message: format!(
                        "{} entered {}: approval is a second person's",
                        authority.officer(),
                        asked(&entry)
                    ),
                });
            }
            // Agreeing twice changes nothing: the first agreement counts.
            if entry.approval.is_none() {
                entry.approval = Some(Approval { by: authority.officer().to_owned(), at: now });
                parts.watchlist.put_entry(&entry)?;
            }
            // Also when it was given before: the call may be repeated because it was not in force.
            in_force(parts, format!("the approval of watchlistEntries/{id}"))?;
            Ok(entry)
        };
        let entry = self.core.blocking("approve a watch-list entry", approved).await?;
        call.found(1);
        Ok(pb::ApproveWatchlistEntryResponse { watchlist_entry: Some(entry_to_pb(&entry, now)) })
    }
}
