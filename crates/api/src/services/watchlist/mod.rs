mod approve;
mod dry_run;
mod import;

use std::collections::HashSet;
use std::sync::Arc;

use guiji_domain::{Authority, CameraId, InvalidValue, Timestamp, WatchEntry, WatchEntryId};
use tonic::{Request, async_trait};

use super::{Answer, Services};
use crate::ApiParts;
use crate::auth::Method;
use crate::call::{Call, CallKind, Core};
use crate::convert::{entry_from_pb, entry_to_pb};
use crate::error::{Problem, not_in_force};
use crate::page_token::{PageScope, garbled_place};
use crate::pb;
use crate::violations::{Violations, page_size, watch_entry_id};

#[async_trait]
impl pb::watchlist_service_server::WatchlistService for Services {
    async fn list_watchlist_entries(
        &self,
        request: Request<pb::ListWatchlistEntriesRequest>,
    ) -> Answer<pb::ListWatchlistEntriesResponse> {
        let mut call = Call::new(&self.core, Method::ListWatchlistEntries, &request);
        let answer = self.list_entries(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn get_watchlist_entry(
        &self,
        request: Request<pb::GetWatchlistEntryRequest>,
    ) -> Answer<pb::GetWatchlistEntryResponse> {
        let mut call = Call::new(&self.core, Method::GetWatchlistEntry, &request);
        let answer = self.get_entry(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn create_watchlist_entry(
        &self,
        request: Request<pb::CreateWatchlistEntryRequest>,
    ) -> Answer<pb::CreateWatchlistEntryResponse> {
        let mut call = Call::new(&self.core, Method::CreateWatchlistEntry, &request);
        let answer = self.create_entry(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn delete_watchlist_entry(
        &self,
        request: Request<pb::DeleteWatchlistEntryRequest>,
    ) -> Answer<pb::DeleteWatchlistEntryResponse> {
        let mut call = Call::new(&self.core, Method::DeleteWatchlistEntry, &request);
        let answer = self.delete_entry(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn approve_watchlist_entry(
        &self,
        request: Request<pb::ApproveWatchlistEntryRequest>,
    ) -> Answer<pb::ApproveWatchlistEntryResponse> {
        let mut call = Call::new(&self.core, Method::ApproveWatchlistEntry, &request);
        let answer = self.approve_entry(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn import_watchlist_entries(
        &self,
        request: Request<pb::ImportWatchlistEntriesRequest>,
    ) -> Answer<pb::ImportWatchlistEntriesResponse> {
        let mut call = Call::new(&self.core, Method::ImportWatchlistEntries, &request);
        let answer = self.import_entries(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn dry_run_watchlist_entry(
        &self,
        request: Request<pb::DryRunWatchlistEntryRequest>,
    ) -> Answer<pb::DryRunWatchlistEntryResponse> {
        let mut call = Call::new(&self.core, Method::DryRunWatchlistEntry, &request);
        let answer = self.dry_run(&mut call, request.into_inner()).await;
        call.end(answer).await
    }
}

impl Services {
    async fn list_entries(
        &self,
        call: &mut Call,
        request: pb::ListWatchlistEntriesRequest,
    ) -> Result<pb::ListWatchlistEntriesResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let scope = PageScope::of("watchlistEntries", &());
        let limit = wrong.take("page_size", page_size(request.page_size)).unwrap_or(1);
        let token = &request.page_token;
        let place = wrong.take("page_token", scope.open(token)).flatten();
        let after = place.and_then(|place| {
            let id = std::str::from_utf8(&place).ok().and_then(|id| WatchEntryId::new(id).ok());
            wrong.take("page_token", id.ok_or_else(|| garbled_place(token)))
        });
        wrong.done()?;
        call.asks("all");
        // One more than asked for tells whether there is another page.
        let page =
            move |parts: &ApiParts| Ok(parts.watchlist.entries_after(after.as_ref(), limit + 1)?);
        let mut entries = self.core.blocking("list the watch-list", page).await?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let last = entries.last().filter(|_| more);
        let now = self.core.parts.clock.now();
        call.found(entries.len());
        Ok(pb::ListWatchlistEntriesResponse {
            next_page_token: last
                .map_or_else(String::new, |last| scope.seal(last.id.as_str().as_bytes())),
            watchlist_entries: entries.iter().map(|entry| entry_to_pb(entry, now)).collect(),
        })
    }

    async fn get_entry(
        &self,
        call: &mut Call,
        request: pb::GetWatchlistEntryRequest,
    ) -> Result<pb::GetWatchlistEntryResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let id = name_of_entry(&request.name)?;
        call.asks(id.as_str());
        let found = move |parts: &ApiParts| parts.watchlist.entry(&id)?.ok_or_else(|| absent(&id));
        let entry = self.core.blocking("get a watch-list entry", found).await?;
        call.found(1);
        let entry = entry_to_pb(&entry, self.core.parts.clock.now());
        Ok(pb::GetWatchlistEntryResponse { watchlist_entry: Some(entry) })
    }

    async fn create_entry(
        &self,
        call: &mut Call,
        request: pb::CreateWatchlistEntryRequest,
    ) -> Result<pb::CreateWatchlistEntryResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let entry = checked_entry(&request, &authority, self.core.parts.clock.now())?;
        call.asks(asked(&entry));
        let choice = match request.watchlist_entry_id.as_str() {
            "" => IdChoice::Made,
            _ => IdChoice::Given,
        };
        let core = Arc::clone(&self.core);
        let entered = move |_: &ApiParts| enter(&core, entry, choice);
        let entry = self.core.blocking("enter into the watch-list", entered).await?;
        call.found(1);
        let entry = entry_to_pb(&entry, self.core.parts.clock.now());
        Ok(pb::CreateWatchlistEntryResponse { watchlist_entry: Some(entry) })
    }

    async fn delete_entry(
        &self,
        call: &mut Call,
        request: pb::DeleteWatchlistEntryRequest,
    ) -> Result<pb::DeleteWatchlistEntryResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let id = name_of_entry(&request.name)?;
        call.asks(id.as_str());
        let core = Arc::clone(&self.core);
        let removed = move |parts: &ApiParts| {
            let _writing = core.writing_watchlist();
            if !parts.watchlist.remove_entry(&id)? {
                return Err(absent(&id));
            }
            in_force(parts, format!("the removal of watchlistEntries/{id}"))
        };
        self.core.blocking("remove from the watch-list", removed).await?;
        call.found(1);
        Ok(pb::DeleteWatchlistEntryResponse {})
    }
}

/// What an entry watches for, for the audit.
fn asked(entry: &WatchEntry) -> String {
    if entry.vehicle.is_empty() {
        entry.target.to_string()
    } else {
        format!("{}, {}", entry.target, entry.vehicle)
    }
}

/// The entry that a request asks for; its id is still to be chosen where the request gives none.
fn checked_entry(
    request: &pb::CreateWatchlistEntryRequest,
    authority: &Authority,
    now: Timestamp,
) -> Result<WatchEntry, Problem> {
    let mut wrong = Violations::default();
    let id = match request.watchlist_entry_id.as_str() {
        "" => made_id(now.as_nanos()),
        given => WatchEntryId::new(given),
    };
    let id = wrong.take("watchlist_entry_id", id);
    let entry = wrong.require("watchlist_entry", request.watchlist_entry.as_ref());
    wrong.done()?;
    match (id, entry) {
        (Some(id), Some(entry)) => entry_from_pb(id, entry, authority, now),
        _ => Err(Problem::field("watchlist_entry", "is required")),
    }
}

/// Who chose the id of a new entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdChoice {
    /// The client: taken is taken.
    Given,
    /// The server: the next free one will do.
    Made,
}

/// The id that the server makes: `w` and 16 hexadecimal digits, the time of creation in nanoseconds.
fn made_id(nanos: i64) -> Result<WatchEntryId, InvalidValue> {
    WatchEntryId::new(&format!("w{nanos:016x}"))
}

/// Enters a new entry; blocking.
fn enter(core: &Core, mut entry: WatchEntry, choice: IdChoice) -> Result<WatchEntry, Problem> {
    let parts = &core.parts;
    refuse_unknown_cameras(parts, &entry)?;
    let _writing = core.writing_watchlist();
    let mut nanos = entry.created.as_nanos();
    while parts.watchlist.entry(&entry.id)?.is_some() {
        if choice == IdChoice::Given {
            let name = format!("watchlistEntries/{}", entry.id);
            return Err(Problem::Exists { kind: "guiji.v1.WatchlistEntry", name });
        }
        nanos = nanos.wrapping_add(1);
        entry.id = made_id(nanos)?;
    }
    parts.watchlist.put_entry(&entry)?;
    in_force(parts, format!("watchlistEntries/{}", entry.id))?;
    Ok(entry)
}

/// Brings what was kept into force.
fn in_force(parts: &ApiParts, what: String) -> Result<(), Problem> {
    (parts.watchlist_changed)().map_err(|error| not_in_force(what, &error))
}

/// An entry for a camera that does not exist would stay silent for ever.
fn refuse_unknown_cameras(parts: &ApiParts, entry: &WatchEntry) -> Result<(), Problem> {
    let mut wrong = Violations::default();
    if !entry.cameras.is_empty() {
        let registered: HashSet<CameraId> =
            parts.cameras.list().into_iter().map(|(camera, _)| camera.id).collect();
        for (i, id) in entry.cameras.iter().enumerate().filter(|(_, id)| !registered.contains(id)) {
            wrong.add(
                format!("watchlist_entry.cameras[{i}]"),
                format!("camera {id}: is not registered: ListCameras has the names"),
            );
        }
    }
    wrong.done()
}

fn name_of_entry(name: &str) -> Result<WatchEntryId, Problem> {
    watch_entry_id(name).map_err(|error| Problem::field("name", error.to_string()))
}

fn absent(id: &WatchEntryId) -> Problem {
    Problem::NotFound { kind: "guiji.v1.WatchlistEntry", name: format!("watchlistEntries/{id}") }
}
