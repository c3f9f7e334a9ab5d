//! Alerts to receivers outside: webhooks and MQTT brokers.
//!
//! Owns: who has received what. Each [`Receiver`] follows the durable alert log with a standing of its own, on a
//! thread of its own: a slow or absent receiver delays nobody else, and what waits, waits in the log on disk, not in
//! memory. A delivery counts when the receiver's answer (HTTP 2xx, MQTT PUBACK) is here; the proof and the standing
//! are then kept in one durable step ([`DeliveryLedger`](guiji_domain::DeliveryLedger)).
//!
//! Beside that, for want of another crate that may speak HTTP to the outside: wishes to cameras ([`Onvif`]).
//!
//! Never does: decide what is an alert, lose one, give a receiver up. Text of messages is made by the caller
//! ([`CourierParts::write`]), so that a receiver gets the same JSON as every other client.
//!
//! # Invariants
//! * At least once: a crash between an answer and its proof repeats a message, with the same id.
//! * In order of the log, but for messages that the receiver refuses while it takes others: those are set aside and
//!   tried again for ever, with longer pauses ([`CourierSettings::aside`]). When [`CourierSettings::aside_max`] wait,
//!   the receiver is treated as one that takes nothing.
//! * Failures are retried for ever, never switched off; they show in [`Couriers::health`].

mod carrier;
mod courier;
mod health;
mod message;
mod mqtt;
mod onvif;
mod soap;
mod tls;
mod webhook;

pub use carrier::{Carrier, Failure};
pub use courier::{CourierParts, CourierSettings, Couriers, Receiver};
pub use health::ReceiverHealth;
pub use message::Message;
pub use mqtt::{Mqtt, MqttSettings};
pub use onvif::Onvif;
pub use webhook::{Webhook, WebhookSecret, WebhookSettings};
