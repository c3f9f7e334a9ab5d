//! One thread a receiver: reads the log after its standing, carries, keeps the proofs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use guiji_domain::{
    Alert, AlertLog, BackOff, Clock, Delivery, DeliveryLedger, Luck, ReceiverId, Standing,
    StoreError,
};
use tracing::{error, info, warn};

use crate::{Carrier, Failure, Message, ReceiverHealth};

/// Somebody who is told of alerts.
pub struct Receiver {
    /// Its name; its standing in the log is kept under it.
    pub id: ReceiverId,
    /// How messages get there.
    pub carrier: Box<dyn Carrier>,
    /// Which alerts concern it.
    pub concerns: Box<dyn Fn(&Alert) -> bool + Send>,
    /// Whether a new receiver is told of everything in the log, or of what is raised from now on.
    pub from_beginning: bool,
}

/// How deliveries are tried.
#[derive(Debug, Clone)]
pub struct CourierSettings {
    /// Pauses while a receiver takes nothing.
    pub retry: BackOff,
    /// Pauses between the tries of what was refused.
    pub aside: BackOff,
    /// Most refused alerts of a receiver that are passed over.
    pub aside_max: usize,
}

impl Default for CourierSettings {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self {
            retry: BackOff { first: Duration::from_millis(250), cap: s(30) },
            aside: BackOff { first: s(10), cap: s(3600) },
            aside_max: 1000,
        }
    }
}

/// What couriers work with.
#[derive(Clone)]
pub struct CourierParts {
    /// The log that is followed.
    pub log: Arc<dyn AlertLog>,
    /// Where proofs are kept.
    pub ledger: Arc<dyn DeliveryLedger>,
    /// Dates the proofs and signatures.
    pub clock: Arc<dyn Clock>,
    /// An alert as the JSON that receivers get.
    pub write: Arc<dyn Fn(&Alert) -> String + Send + Sync>,
}

/// The running couriers. Dropping them stops them after the message that each is carrying.
pub struct Couriers {
    bell: Arc<Bell>,
    health: Vec<Arc<Mutex<ReceiverHealth>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Couriers {
    /// Starts a thread for each receiver. A new one's standing is durable on return, so that whatever is raised from
    /// then on reaches it.
    ///
    /// # Errors
    /// When the log or the ledger cannot be read, or a thread cannot be made.
    pub fn start(
        parts: &CourierParts,
        settings: &CourierSettings,
        receivers: Vec<Receiver>,
    ) -> Result<Self, StoreError> {
        let mut couriers = Self { bell: Arc::default(), health: Vec::new(), threads: Vec::new() };
        for receiver in receivers {
            let standing = match parts.ledger.standing(&receiver.id)? {
                Some(standing) => standing,
                None => {
                    let reached =
                        if receiver.from_beginning { 0 } else { parts.log.last_cursor()? };
                    let standing = Standing { reached, aside: Vec::new() };
                    parts.ledger.settle(&receiver.id, &standing, &[])?;
                    standing
                }
            };
            let health = Arc::new(Mutex::new(ReceiverHealth::new(receiver.id.clone())));
            couriers.health.push(health.clone());
            let mut courier = Courier {
                luck: Luck::seeded(receiver.id.as_str(), 0),
                parts: parts.clone(),
                settings: settings.clone(),
                bell: couriers.bell.clone(),
                receiver,
                health,
                standing,
                refused: BTreeMap::new(),
                failures: 0,
            };
            courier.show();
            let thread = thread::Builder::new()
                .name("courier".into())
                .spawn(move || courier.run_for_ever())
                .map_err(|error| StoreError::Medium {
                    doing: "start a courier",
                    reason: error.to_string(),
                })?;
            couriers.threads.push(thread);
        }
        Ok(couriers)
    }

    /// Tells them that the log has grown. Without it they look once a second.
    pub fn wake(&self) {
        self.bell.ring();
    }

    /// How each receiver is doing, in the order given at the start.
    pub fn health(&self) -> Vec<ReceiverHealth> {
        self.health.iter().map(|health| locked(health).clone()).collect()
    }
}

impl Drop for Couriers {
    fn drop(&mut self) {
        self.bell.stop();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Wakes every courier; says when to stop.
#[derive(Default)]
struct Bell {
    state: Mutex<BellState>,
    changed: Condvar,
}

#[derive(Default, Clone, Copy)]
struct BellState {
    rung: u64,
    stopped: bool,
}

impl Bell {
    fn ring(&self) {
        locked(&self.state).rung += 1;
        self.changed.notify_all();
    }

    fn stop(&self) {
        locked(&self.state).stopped = true;
        self.changed.notify_all();
    }

    fn state(&self) -> BellState {
        *locked(&self.state)
    }

    /// Waits until it is rung again after `seen`, or stopped, or the time is over.
    fn wait(&self, seen: u64, longest: Duration) {
        let state = locked(&self.state);
        drop(self.changed.wait_timeout_while(state, longest, |s| s.rung == seen && !s.stopped));
    }

    /// Waits until stopped or the time is over.
    fn pause(&self, pause: Duration) {
        let state = locked(&self.state);
        drop(self.changed.wait_timeout_while(state, pause, |state| !state.stopped));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Courier {
    parts: CourierParts,
    settings: CourierSettings,
    bell: Arc<Bell>,
    receiver: Receiver,
    health: Arc<Mutex<ReceiverHealth>>,
    standing: Standing,
    /// When each alert that is set aside is tried again, and how often it was refused. Absent: at once.
    refused: BTreeMap<u64, (Instant, u32)>,
    /// Failures in a row.
    failures: u32,
    luck: Luck,
}

/// Most alerts between two syncs of the ledger: what a crash repeats at most.
const BATCH: usize = 64;
/// Longest sleep while nothing rings.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Courier {
    fn run_for_ever(&mut self) {
        while !self.bell.state().stopped {
            if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
                error!(receiver = %self.receiver.id, "a courier panicked; it goes on");
                locked(&self.health).panics += 1;
                self.bell.pause(LOOK_EVERY);
                // What it was carrying when it panicked may not be in the standing that it remembers.
                if let Ok(Some(standing)) = self.parts.ledger.standing(&self.receiver.id) {
                    self.standing = standing;
                }
            }
        }
    }

    fn run(&mut self) {
        loop {
            let bell = self.bell.state();
            if bell.stopped {
                return;
            }
            match self.round() {
                Ok(true) => {}
                Ok(false) => self.bell.wait(bell.rung, LOOK_EVERY),
                Err(error) => {
                    warn!(receiver = %self.receiver.id, %error, "alerts cannot be delivered");
                    self.failed(&error.to_string());
                    self.pause(None);
                }
            }
        }
    }

    /// Carries a batch. True when there may be more at once.
    fn round(&mut self) -> Result<bool, StoreError> {
        let alerts = self.parts.log.alerts_after(self.standing.reached, BATCH)?;
        let mut standing = self.standing.clone();
        let mut proofs = Vec::new();
        let mut hindrance = None;
        for alert in &alerts {
            if (self.receiver.concerns)(alert) {
                match self.carry(alert) {
                    Ok(proof) => proofs.push(proof),
                    Err(Failure::Refused { .. })
                        if standing.aside.len() < self.settings.aside_max =>
                    {
                        self.set_aside(alert.cursor);
                        standing.aside.push(alert.cursor);
                    }
                    Err(failure) => {
                        hindrance = Some(failure);
                        break;
                    }
                }
            }
            standing.reached = alert.cursor;
            if self.bell.state().stopped {
                break;
            }
        }
        self.settle(standing, &proofs)?;
        match hindrance {
            None if alerts.is_empty() => {
                self.try_aside()?;
                return Ok(false);
            }
            None => {}
            Some(Failure::Unreachable { pause, .. }) => self.pause(pause),
            // No more room beside: it takes nothing more until it takes one of those that lie there.
            Some(Failure::Refused { .. }) => {
                self.failures = self.failures.saturating_add(1);
                self.pause(None);
                self.try_aside()?;
            }
        }
        Ok(true)
    }

    /// Tries what was refused and is due.
    fn try_aside(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        for cursor in self.standing.aside.clone() {
            let due = self.refused.get(&cursor).is_none_or(|(at, _)| *at <= now);
            if !due || self.bell.state().stopped {
                continue;
            }
            let found = self.parts.log.alerts_after(cursor.saturating_sub(1), 1)?;
            let alert = found.first().filter(|alert| alert.cursor == cursor);
            let mut standing = self.standing.clone();
            standing.aside.retain(|one| *one != cursor);
            // Retention may have taken it meanwhile: then nobody is waiting for it any more.
            let proof = match alert.map(|alert| self.carry(alert)) {
                None => None,
                Some(Ok(proof)) => Some(proof),
                Some(Err(Failure::Refused { .. })) => {
                    self.set_aside(cursor);
                    continue;
                }
                Some(Err(Failure::Unreachable { pause, .. })) => {
                    self.pause(pause);
                    return Ok(());
                }
            };
            self.refused.remove(&cursor);
            self.settle(standing, proof.as_slice())?;
        }
        Ok(())
    }

    fn set_aside(&mut self, cursor: u64) {
        let refusals = self.refused.get(&cursor).map_or(1, |(_, refusals)| refusals + 1);
        let wait = self.settings.aside.wait(refusals, self.luck.draw());
        self.refused.insert(cursor, (Instant::now() + wait, refusals));
    }

    fn carry(&mut self, alert: &Alert) -> Result<Delivery, Failure> {
        let message = Message::of(alert, (self.parts.write)(alert));
        match self.receiver.carrier.carry(&message, self.parts.clock.now()) {
            Ok(answer) => {
                let mut health = locked(&self.health);
                health.delivered += 1;
                if let Some(since) = health.failing_since.take() {
                    info!(receiver = %self.receiver.id, %since, "the receiver takes alerts again");
                }
                drop(health);
                let refusals = self.refused.get(&alert.cursor).map_or(0, |(_, refusals)| *refusals);
                let tries = 1 + refusals + self.failures;
                self.failures = 0;
                Ok(Delivery {
                    receiver: self.receiver.id.clone(),
                    alert: alert.id.clone(),
                    stage: alert.stage,
                    cursor: alert.cursor,
                    delivered: self.parts.clock.now(),
                    tries,
                    message: message.digest(),
                    answer,
                })
            }
            Err(failure) => {
                let refused = matches!(failure, Failure::Refused { .. });
                warn!(receiver = %self.receiver.id, alert = %alert.id, %failure, "an alert was not taken");
                if refused {
                    let mut health = locked(&self.health);
                    health.failed += 1;
                    health.last_failure = Some(failure.to_string());
                } else {
                    self.failed(&failure.to_string());
                }
                Err(failure)
            }
        }
    }

    fn failed(&mut self, reason: &str) {
        self.failures = self.failures.saturating_add(1);
        let now = self.parts.clock.now();
        let mut health = locked(&self.health);
        health.failed += 1;
        health.failing_since.get_or_insert(now);
        health.last_failure = Some(reason.to_owned());
    }

    fn pause(&mut self, asked: Option<Duration>) {
        let wait = self.settings.retry.wait(self.failures.max(1), self.luck.draw());
        self.bell.pause(asked.unwrap_or_default().max(wait));
    }

    fn settle(&mut self, standing: Standing, proofs: &[Delivery]) -> Result<(), StoreError> {
        if standing != self.standing {
            self.parts.ledger.settle(&self.receiver.id, &standing, proofs)?;
            self.standing = standing;
            self.show();
        }
        Ok(())
    }

    fn show(&self) {
        let mut health = locked(&self.health);
        health.reached = self.standing.reached;
        health.aside = self.standing.aside.len();
    }
}
