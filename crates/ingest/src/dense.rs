use std::time::Duration;

use crate::glimpses::EVERY;

/// A view that must not sleep, because its keyframes are far apart and nothing else sees between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dense {
    /// Since when, in stream time.
    pub(crate) since: Duration,
    /// The last picture with a change that was delivered although the detector sees nothing in such changes.
    doubted: Option<Duration>,
}

impl Dense {
    pub(crate) fn begun_at(since: Duration) -> Self {
        Self { since, doubted: None }
    }

    /// Whether the detector should look at a change that is most likely none of its business (trees, rain): as often as
    /// a glimpse would look.
    pub(crate) fn is_asked(&mut self, running: Duration) -> bool {
        let early = |last: Duration| last <= running && running - last < EVERY;
        let due = !self.doubted.is_some_and(early);
        if due {
            self.doubted = Some(running);
        }
        due
    }
}
