use std::collections::HashMap;
use std::sync::Arc;

use guiji_domain::{Authority, Timestamp, WatchEntry, WatchEntryId};

use super::{in_force, refuse_unknown_cameras};
use crate::ApiParts;
use crate::call::{Call, CallKind};
use crate::convert::entry_from_pb;
use crate::error::Problem;
use crate::pb;
use crate::services::Services;
use crate::violations::{Violations, watch_entry_id};

/// Most entries of a call.
const ENTRIES_MAX: usize = 1000;

impl Services {
    pub(super) async fn import_entries(
        &self,
        call: &mut Call,
        request: pb::ImportWatchlistEntriesRequest,
    ) -> Result<pb::ImportWatchlistEntriesResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        wrong.check_count("watchlist_entries", request.watchlist_entries.len(), ENTRIES_MAX);
        wrong.done()?;
        call.asks(format!("{} entries", request.watchlist_entries.len()));
        let now = self.core.parts.clock.now();
        let core = Arc::clone(&self.core);
        let entered = move |parts: &ApiParts| {
            let _writing = core.writing_watchlist();
            let mut known: HashMap<WatchEntryId, WatchEntry> =
                parts.watchlist.entries()?.into_iter().map(|e| (e.id.clone(), e)).collect();
            let mut answer = pb::ImportWatchlistEntriesResponse::default();
            let mut fresh = Vec::new();
            for (index, given) in (0..).zip(&request.watchlist_entries) {
                match take(parts, given, &authority, now, &known) {
                    Ok(Some(entry)) => {
                        known.insert(entry.id.clone(), entry.clone());
                        fresh.push(entry);
                    }
                    Ok(None) => answer.present_count += 1,
                    Err(Problem::Invalid(violations)) => answer.refusals.push(pb::ImportRefusal {
                        index,
                        name: given.name.chars().take(64).collect(),
                        violations: violations
                            .into_iter()
                            .map(|violation| pb::ImportViolation {
                                field: of_entry(&violation.field),
                                description: violation.description,
                            })
                            .collect(),
                    }),
                    Err(other) => return Err(other),
                }
            }
            answer.entered_count = fresh.len() as u64;
            answer.refused_count = answer.refusals.len() as u64;
            if !request.validate_only && !fresh.is_empty() {
                parts.watchlist.put_entries(&fresh)?;
            }
            // Also when all are there already: the call may be repeated because they were not in force.
            if !request.validate_only {
                in_force(parts, format!("{} watch-list entries", fresh.len()))?;
            }
            Ok(answer)
        };
        let answer = self.core.blocking("import watch-list entries", entered).await?;
        call.found(usize::try_from(answer.entered_count).unwrap_or(usize::MAX));
        Ok(answer)
    }
}

/// The path of a field within an entry.
fn of_entry(field: &str) -> String {
    field.strip_prefix("watchlist_entry.").unwrap_or(field).to_owned()
}

/// The entry to enter; `None` when it is there already.
fn take(
    parts: &ApiParts,
    given: &pb::WatchlistEntry,
    authority: &Authority,
    now: Timestamp,
    known: &HashMap<WatchEntryId, WatchEntry>,
) -> Result<Option<WatchEntry>, Problem> {
    let id =
        watch_entry_id(&given.name).map_err(|error| Problem::field("name", error.to_string()))?;
    let entry = entry_from_pb(id, given, authority, now)?;
    refuse_unknown_cameras(parts, &entry)?;
    match known.get(&entry.id) {
        None => Ok(Some(entry)),
        Some(there) => {
            let same = WatchEntry {
                created: there.created,
                owner: there.owner.clone(),
                approval: there.approval.clone(),
                ..entry
            };
            if same == *there {
                return Ok(None);
            }
            let fix =
                "is taken by a different entry: delete that one first, or choose another name";
            Err(Problem::field("name", fix))
        }
    }
}
