use crate::{AlertId, AlertStage, Digest, ReceiverId, StoreError, Timestamp};

/// The proof that a receiver outside took an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Who took it.
    pub receiver: ReceiverId,
    /// Which alert…
    pub alert: AlertId,
    /// …in which form.
    pub stage: AlertStage,
    /// Its place in the alert log.
    pub cursor: u64,
    /// When the receiver's answer was here.
    pub delivered: Timestamp,
    /// Tries it took since the program started, 1 at least.
    pub tries: u32,
    /// What was sent: SHA-256 of the message's bytes.
    pub message: Digest,
    /// What the receiver answered: `HTTP 204`, `PUBACK`.
    pub answer: String,
}

/// How far a receiver has come in the alert log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Everything up to this cursor is delivered, does not concern the receiver, or is set aside.
    pub reached: u64,
    /// Cursors of alerts that the receiver refused while it took others, rising. They are tried again for ever.
    pub aside: Vec<u64>,
}

/// Keeps what was delivered to whom.
pub trait DeliveryLedger: Send + Sync {
    /// How far a receiver has come; `None` when it is new.
    ///
    /// # Errors
    /// When the medium fails.
    fn standing(&self, receiver: &ReceiverId) -> Result<Option<Standing>, StoreError>;

    /// Keeps a receiver's new standing with the proofs that led to it, all or nothing. Durable when it returns. The
    /// proof of an alert's form that has one already is kept as it was.
    ///
    /// # Errors
    /// When the medium fails; then nothing was kept.
    fn settle(
        &self,
        receiver: &ReceiverId,
        standing: &Standing,
        proofs: &[Delivery],
    ) -> Result<(), StoreError>;

    /// The proofs of an alert, by cursor, then by receiver.
    ///
    /// # Errors
    /// When the medium fails or a record is damaged.
    fn deliveries(&self, alert: &AlertId) -> Result<Vec<Delivery>, StoreError>;
}
