//! Alerts that nobody acknowledged in time go up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use guiji_analysis::patrol::{is_waited_for, next_level};
use guiji_domain::{
    Alert, AlertLog, Clock, DeliveryLedger, ReceiverId, SightingIntake as _, Standing, StoreError,
    Timestamp,
};

use crate::intake::Intake;

/// Most alerts that are looked at between two syncs.
const BATCH: usize = 256;

/// What is needed to find alerts that nobody deals with.
#[derive(Clone)]
pub struct EscalationParts {
    /// The log that is followed.
    pub alerts: Arc<dyn AlertLog>,
    /// Logs and announces what is escalated.
    pub intake: Arc<Intake>,
    /// Remembers how far the log has been followed.
    pub ledger: Arc<dyn DeliveryLedger>,
    /// The present.
    pub clock: Arc<dyn Clock>,
}

/// Follows the alert log at a distance in time: each stage is looked at when the time to answer it is over, after a
/// restart too. What it escalates is in the log itself, once at most, and is followed like the rest.
pub struct Escalation {
    parts: EscalationParts,
    after: Duration,
    reached: u64,
}

impl Escalation {
    /// Under this name its place in the log is kept, beside those of the receivers.
    pub const NAME: &str = "guiji.escalation";

    /// Escalates what is not acknowledged `after` it was raised, or raised to the level before. At the very first start,
    /// what the log holds already is past.
    ///
    /// # Errors
    /// When log or ledger fail.
    pub fn new(parts: EscalationParts, after: Duration) -> Result<Self, StoreError> {
        let reached = match parts.ledger.standing(&ReceiverId::new(Self::NAME)?)? {
            Some(standing) => standing.reached,
            None => parts.alerts.last_cursor()?,
        };
        let escalation = Self { parts, after, reached };
        escalation.remember()?;
        Ok(escalation)
    }

    /// Escalates what is due; how many alerts that were. Call it every second or so.
    ///
    /// # Errors
    /// When an alert could not be read or logged, or its escalation panicked: nothing is passed over, the next call tries
    /// again.
    pub fn run(&mut self) -> Result<usize, StoreError> {
        let (begun_at, now) = (self.reached, self.parts.clock.now());
        // What was reached before a panic was dealt with, and stays so.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.go_through(now)));
        if self.reached != begun_at {
            self.remember()?;
        }
        outcome.unwrap_or_else(|_| {
            let reason = format!("a programming error at the alert after {}", self.reached);
            Err(StoreError::Medium { doing: "escalate alerts", reason })
        })
    }

    fn go_through(&mut self, now: Timestamp) -> Result<usize, StoreError> {
        let mut escalated = 0;
        loop {
            let batch = self.parts.alerts.alerts_after(self.reached, BATCH)?;
            for alert in &batch {
                if is_waited_for(alert.stage) {
                    if alert.raised.plus(self.after) > now {
                        return Ok(escalated);
                    }
                    escalated += usize::from(self.escalate(alert, now)?);
                }
                self.reached = alert.cursor;
            }
            if batch.len() < BATCH {
                return Ok(escalated);
            }
        }
    }

    fn escalate(&self, stage: &Alert, now: Timestamp) -> Result<bool, StoreError> {
        let units = self.parts.intake.patrol_units();
        if units.is_empty() {
            return Ok(false);
        }
        let history = self.parts.alerts.alert_history(&stage.id)?;
        let place = self.parts.intake.place_of(&stage.camera);
        match next_level(&units, &history, stage, place.as_ref(), now) {
            Some(next) => Ok(self.parts.intake.log_alert(next)?.is_some()),
            None => Ok(false),
        }
    }

    fn remember(&self) -> Result<(), StoreError> {
        let standing = Standing { reached: self.reached, aside: Vec::new() };
        self.parts.ledger.settle(&ReceiverId::new(Self::NAME)?, &standing, &[])
    }
}
