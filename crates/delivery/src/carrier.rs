use std::time::Duration;

use guiji_domain::Timestamp;
use thiserror::Error;

use crate::Message;

/// Brings a message to a receiver. Real: [`Webhook`](crate::Webhook), [`Mqtt`](crate::Mqtt).
pub trait Carrier: Send {
    /// Brings it there and waits for the answer, which is the proof: `HTTP 204`, `PUBACK`. Ends within seconds.
    ///
    /// # Errors
    /// When there was no answer that proves it. The message may have arrived all the same.
    fn carry(&mut self, message: &Message, now: Timestamp) -> Result<String, Failure>;
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// The receiver takes nothing now: it cannot be reached, is overloaded, or does not know us.
    #[error("{reason}")]
    Unreachable {
        /// What happened, without secrets.
        reason: String,
        /// The pause that it asked for.
        pause: Option<Duration>,
    },
    /// The receiver takes messages, but not this one.
    #[error("the message was refused: {reason}")]
    Refused {
        /// What it answered.
        reason: String,
    },
}

impl Failure {
    pub(crate) fn unreachable(reason: impl ToString) -> Self {
        Self::Unreachable { reason: reason.to_string(), pause: None }
    }
}
