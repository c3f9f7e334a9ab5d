use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use guiji_domain::{AuditDone, AuditEntry, AuditLog, Clock, Timestamp};
use tracing::error;

/// Calls of nobody known that get a record of their own each minute; of more, one record has the number.
const RECORDED_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// Keeps calls that were refused before anybody knew whose they are in the audit, so few that whoever makes them cannot
/// fill a disk.
pub(crate) struct Refusals {
    audit: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the minute began.
    since: Timestamp,
    recorded: u32,
    /// Calls that got no record of their own.
    more: u64,
}

impl Refusals {
    pub(crate) fn new(audit: Arc<dyn AuditLog>, clock: Arc<dyn Clock>) -> Self {
        Self { audit, clock, state: Mutex::default() }
    }

    /// Notes that a call to a service was refused.
    pub(crate) fn note(&self, service: &str, peer: Option<&str>, fault: &dyn std::fmt::Display) {
        let now = self.clock.now();
        self.tell_more(now);
        let mut state = self.state();
        if state.recorded >= RECORDED_MAX {
            state.more += 1;
            return;
        }
        state.recorded += 1;
        drop(state);
        let from = peer.unwrap_or("an unknown address");
        self.submit(service, format!("from {from}: {fault}"), 1, now);
    }

    /// Tells how many more there were, when their minute is over. Call it now and then: nobody else may.
    pub(crate) fn tell_more(&self, now: Timestamp) {
        let mut state = self.state();
        // A clock that was set back begins a minute too.
        if now.abs_diff(state.since) < WINDOW {
            return;
        }
        let (since, more) = (state.since, state.more);
        *state = State { since: now, recorded: 0, more: 0 };
        drop(state);
        if more > 0 {
            self.submit("", format!("{more} more since {since}"), more, now);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in here can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, service: &str, question: String, calls: u64, at: Timestamp) {
        let entry = AuditEntry {
            at,
            method: format!("{service}/refused"),
            question,
            results: calls,
            outcome: "Unauthenticated".to_owned(),
            ..AuditEntry::default()
        };
        let told = entry.clone();
        let done: AuditDone = Box::new(move |done| {
            if let Err(error) = done {
                error!(%error, entry = ?told, "the audit record of a refused call is only here");
            }
        });
        self.audit.submit(entry, done);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<AuditEntry>>);

    impl AuditLog for Kept {
        fn submit(&self, entry: AuditEntry, done: AuditDone) {
            self.0.lock().unwrap().push(entry);
            done(Ok(1));
        }
    }

    #[derive(Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_secs(1_800_000_000 + self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn the_first_of_a_minute_are_recorded_and_the_rest_counted() {
        let (kept, clock) = (Arc::new(Kept::default()), Arc::new(Hand::default()));
        let refusals = Refusals::new(kept.clone(), clock.clone());
        for _ in 0..50 {
            refusals.note("SightingService", Some("10.0.0.9:4711"), &"no token");
        }
        let told = || {
            let kept = kept.0.lock().unwrap();
            kept.iter().map(|entry| entry.question.clone()).collect::<Vec<_>>()
        };
        assert_eq!(told(), vec!["from 10.0.0.9:4711: no token"; RECORDED_MAX as usize]);
        clock.0.store(59, Ordering::SeqCst);
        refusals.tell_more(clock.now());
        assert_eq!(told().len(), 20, "the minute is not over");
        clock.0.store(60, Ordering::SeqCst);
        refusals.tell_more(clock.now());
        refusals.tell_more(clock.now());
        assert_eq!(told()[20..], ["30 more since 2027-01-15T08:00:00.000Z"]);
        refusals.note("LikelyService", None, &"it has expired");
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept[20].results, 30);
        assert_eq!(kept[21].question, "from an unknown address: it has expired");
        assert_eq!(
            (&*kept[21].method, &*kept[21].outcome),
            ("LikelyService/refused", "Unauthenticated")
        );
    }
}
