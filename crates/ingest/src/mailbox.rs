use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

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
    /// The substream watches, or does not, for another reason than before.
    SubstreamJudged,
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

/// How the threads of a connection and the owner of a stream reach its supervisor.
///
/// Bounded: when it is full, the newest event is dropped. Only the first few matter, for each connection ends with
/// the first failure, and the kinds that repeat are sent once until seen.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inside: Mutex<Inside>,
    arrived: Notify,
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
        self.arrived.notify_one();
    }

    /// Forgets what an ended connection left.
    pub(crate) fn clear(&self) {
        self.lock().events.clear();
    }

    /// Waits for the next event, the closing or the deadline. Only one may wait at a time.
    pub(crate) async fn wait_until(&self, deadline: Instant) -> Wake {
        loop {
            if let Some(wake) = self.next() {
                return wake;
            }
            // What comes from here on leaves its mark in `arrived`.
            let arrived = tokio::time::timeout_at(deadline.into(), self.arrived.notified());
            if arrived.await.is_err() {
                return Wake::Timeout;
            }
        }
    }

    /// Waits for the closing alone; events stay where they are.
    pub(crate) async fn closing(&self) {
        while !self.lock().closing {
            self.arrived.notified().await;
        }
    }

    fn next(&self) -> Option<Wake> {
        let mut inside = self.lock();
        if inside.closing {
            return Some(Wake::Closing);
        }
        inside.events.pop_front().map(Wake::Event)
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

    #[tokio::test]
    async fn events_come_in_order_and_closing_comes_first() {
        let mailbox = Mailbox::default();
        let now = Instant::now();
        assert!(matches!(mailbox.wait_until(now).await, Wake::Timeout));
        for _ in 0..1000 {
            mailbox.post(Event::FirstPicture);
        }
        assert_eq!(mailbox.lock().events.len(), EVENTS_MAX);
        assert!(matches!(mailbox.wait_until(now).await, Wake::Event(Event::FirstPicture)));
        mailbox.close();
        let later = now + Duration::from_secs(60);
        assert!(matches!(mailbox.wait_until(later).await, Wake::Closing));
    }
}
