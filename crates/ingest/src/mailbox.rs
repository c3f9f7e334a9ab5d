use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::failure::Failure;

/// What the media framework's threads tell the supervisor.
#[derive(Debug)]
pub(crate) enum Event {
    /// The first picture of the connection was decoded.
    FirstPicture,
    /// The picture size changed: before, now.
    Resized((u32, u32), (u32, u32)),
    /// The decoder complained or marked a picture as damaged, or something was lost on the way.
    Damage,
    /// The camera's own clock is refused, being so many nanoseconds behind ours; or trusted again.
    ClockJudged(Option<i64>),
    /// Everything was delivered.
    EndOfStream,
    /// The connection cannot go on.
    Failed(Failure),
    /// A callback panicked, with this message.
    Panicked(String),
}

/// Why a wait ended.
#[derive(Debug)]
pub(crate) enum Wake {
    Event(Event),
    Closing,
    Timeout,
}

/// How the media framework's threads and the owner of a stream reach its supervisor.
///
/// Bounded: when it is full, the newest event is dropped. Only the first few matter, for each connection ends with
/// the first failure, and the kinds that repeat are sent once until seen.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inside: Mutex<Inside>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    events: VecDeque<Event>,
    closing: bool,
}

const EVENTS_MAX: usize = 64;

impl Mailbox {
    pub(crate) fn post(&self, event: Event) {
        let mut inside = self.lock();
        if inside.events.len() < EVENTS_MAX {
            inside.events.push_back(event);
            self.arrived.notify_one();
        }
    }

    /// From now on every wait ends at once.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_all();
    }

    /// Forgets what an ended connection left.
    pub(crate) fn clear(&self) {
        self.lock().events.clear();
    }

    pub(crate) fn wait_until(&self, deadline: Instant) -> Wake {
        let mut inside = self.lock();
        loop {
            if inside.closing {
                return Wake::Closing;
            }
            if let Some(event) = inside.events.pop_front() {
                return Wake::Event(event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Wake::Timeout;
            }
            inside = match self.arrived.wait_timeout(inside, left) {
                Ok((inside, _)) => inside,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing here can panic half-way through a change.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn events_come_in_order_and_closing_comes_first() {
        let mailbox = Mailbox::default();
        let now = Instant::now();
        assert!(matches!(mailbox.wait_until(now), Wake::Timeout));
        for _ in 0..1000 {
            mailbox.post(Event::FirstPicture);
        }
        assert_eq!(mailbox.lock().events.len(), EVENTS_MAX);
        assert!(matches!(mailbox.wait_until(now), Wake::Event(Event::FirstPicture)));
        mailbox.close();
        let later = now + Duration::from_secs(60);
        assert!(matches!(mailbox.wait_until(later), Wake::Closing));
    }
}
