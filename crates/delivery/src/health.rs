use guiji_domain::{ReceiverId, Timestamp};

/// How a receiver is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverHealth {
    /// Which.
    pub receiver: ReceiverId,
    /// Everything in the alert log up to here is dealt with, [`Self::aside`] excepted.
    pub reached: u64,
    /// How many alerts it refused, each tried again for ever.
    pub aside: usize,
    /// Alerts that it took since the program started.
    pub delivered: u64,
    /// Tries that failed since the program started.
    pub failed: u64,
    /// Since when every try has failed; `None` while it works.
    pub failing_since: Option<Timestamp>,
    /// What the last failure was. Stays after it is mended.
    pub last_failure: Option<String>,
    /// Panics of its work, each survived. A panic is a bug: report it.
    pub panics: u64,
}

impl ReceiverHealth {
    pub(crate) fn new(receiver: ReceiverId) -> Self {
        Self {
            receiver,
            reached: 0,
            aside: 0,
            delivered: 0,
            failed: 0,
            failing_since: None,
            last_failure: None,
            panics: 0,
        }
    }
}
