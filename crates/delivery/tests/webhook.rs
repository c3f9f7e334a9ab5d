//! A real store, couriers and a webhook that misbehaves.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod common;

use common::*;
use guiji_delivery::*;
use guiji_domain::*;
use std::time::Duration;

#[test]
fn delivers_in_order_signed_and_proved() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    let before: Vec<_> = (0..3).map(|number| rig.ring(number)).collect();
    let hook = Hook::start();
    let couriers = rig.couriers(vec![receiver("desk", hook.carrier())]);
    let later = rig.ring(3);
    couriers.wake();
    eventually("four alerts", || hook.bodies().len() == 4);
    assert_eq!(
        hook.bodies(),
        (1..=4).map(|cursor| format!("{{\"cursor\":{cursor}}}")).collect::<Vec<_>>()
    );
    eventually("the proofs", || rig.standing("desk").reached == 4);

    let posted = hook.got.lock().unwrap()[3].clone();
    assert_eq!(posted.headers["webhook-id"], format!("{}.confirmed", later.id));
    assert_eq!(posted.headers["webhook-timestamp"], "1795478400");
    let key = ring::hmac::Key::new(
        ring::hmac::HMAC_SHA256,
        &base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            SECRET.strip_prefix("whsec_").unwrap(),
        )
        .unwrap(),
    );
    let signed = format!("{}.1795478400.{}", posted.headers["webhook-id"], posted.body);
    let tag = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        posted.headers["webhook-signature"].strip_prefix("v1,").unwrap(),
    )
    .unwrap();
    ring::hmac::verify(&key, signed.as_bytes(), &tag).unwrap();

    let proofs = rig.ledger.deliveries(&before[0].id).unwrap();
    assert_eq!(proofs.len(), 1);
    assert_eq!((proofs[0].cursor, proofs[0].tries, proofs[0].answer.as_str()), (1, 1, "HTTP 204"));
    let digest = Message::of(&before[0], "{\"cursor\":1}".into()).digest();
    assert_eq!(proofs[0].message, digest);
}

#[test]
fn a_receiver_that_fails_is_tried_for_ever_and_gets_everything() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    let hook = Hook::start();
    hook.answers.lock().unwrap().extend([500, 503, 404, 401, 302, 429]);
    let couriers = rig.couriers(vec![receiver("desk", hook.carrier())]);
    rig.ring(0);
    rig.ring(1);
    couriers.wake();
    eventually("both, after six failures", || rig.standing("desk").reached == 2);
    let health = &couriers.health()[0];
    assert_eq!((health.delivered, health.failed, health.failing_since), (2, 6, None));
    assert!(health.last_failure.is_some());
    assert_eq!(hook.bodies().len(), 8);
}

#[test]
fn an_absent_receiver_delays_nobody_and_gets_everything_later() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    // A port where nobody listens: a free one could be given to another test's webhook.
    let port = 1;
    let absent = Webhook::new(WebhookSettings {
        url: format!("http://127.0.0.1:{port}/"),
        secret: WebhookSecret::parse(SECRET).unwrap(),
        authorities: None,
        patience: Duration::from_secs(1),
    })
    .unwrap();
    let hook = Hook::start();
    let receivers = || {
        let mut away = receiver("away", hook.carrier());
        away.carrier = Box::new(hook.carrier());
        vec![away, receiver("desk", hook.carrier())]
    };
    let mut first = receivers();
    first[0].carrier = Box::new(absent);
    let couriers = rig.couriers(first);
    (0..5).for_each(|number| drop(rig.ring(number)));
    couriers.wake();
    eventually("the one that is there", || rig.standing("desk").reached == 5);
    eventually("the other's trouble shows", || couriers.health()[0].failing_since.is_some());
    assert_eq!(rig.standing("away").reached, 0);
    drop(couriers);
    // The server was started anew, and so was the receiver.
    let couriers = rig.couriers(receivers());
    eventually("all five, later", || rig.standing("away").reached == 5);
    assert_eq!(hook.bodies().len(), 10);
    drop(couriers);
}

#[test]
fn what_is_refused_is_set_aside_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    let hook = Hook::start();
    hook.answers.lock().unwrap().extend([422, 204, 204, 422]);
    let refused = rig.ring(0);
    rig.ring(1);
    rig.ring(2);
    let couriers = rig.couriers(vec![receiver("desk", hook.carrier())]);
    eventually("the rest is not held up", || rig.standing("desk").reached == 3);
    eventually("the refused one at last", || rig.standing("desk").aside.is_empty());
    let tries: Vec<_> =
        rig.ledger.deliveries(&refused.id).unwrap().iter().map(|proof| proof.tries).collect();
    assert_eq!(tries, [3]);
    // The ledger knows before the health shows it.
    eventually("the health tells so", || couriers.health()[0].aside == 0);
}

#[test]
fn too_many_refusals_hold_the_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    let hook = Hook::start();
    hook.answers.lock().unwrap().extend([400; 12]);
    (0..6).for_each(|number| drop(rig.ring(number)));
    let couriers = rig.couriers(vec![receiver("desk", hook.carrier())]);
    eventually("all six in the end", || {
        let standing = rig.standing("desk");
        standing.reached == 6 && standing.aside.is_empty()
    });
    for number in 1..=6 {
        let body = format!("{{\"cursor\":{number}}}");
        assert!(hook.bodies().contains(&body), "{number}");
    }
    assert_eq!(couriers.health()[0].delivered, 6);
}

/// Refuses the first two messages once, and the third always.
#[derive(Default)]
struct Picky(std::collections::BTreeSet<String>);

impl Carrier for Picky {
    fn carry(&mut self, message: &Message, _: Timestamp) -> Result<String, Failure> {
        let first_time = self.0.insert(message.body.clone());
        if first_time || message.body == "{\"cursor\":3}" {
            return Err(Failure::Refused { reason: "no".into() });
        }
        Ok("taken".into())
    }
}

#[test]
fn what_is_set_aside_is_tried_while_a_refusal_holds_the_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    (0..3).for_each(|number| drop(rig.ring(number)));
    let couriers = rig.couriers(vec![receiver("desk", Picky::default())]);
    // Two may lie aside, so the third holds the receiver until one of them is taken.
    eventually("the third alone lies aside", || {
        rig.standing("desk") == Standing { reached: 3, aside: vec![3] }
    });
    assert_eq!(couriers.health()[0].delivered, 2); // counted before the ledger is written
}

#[test]
fn a_new_receiver_begins_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    rig.ring(0);
    let hook = Hook::start();
    let mut from_now = receiver("desk", hook.carrier());
    from_now.from_beginning = false;
    from_now.concerns = Box::new(|alert| alert.cursor != 2);
    let _couriers = rig.couriers(vec![from_now]);
    rig.ring(1);
    rig.ring(2);
    eventually("the third", || rig.standing("desk").reached == 3);
    assert_eq!(
        hook.bodies(),
        ["{\"cursor\":3}"],
        "not the first, and not what does not concern it"
    );
}

/// Panics at the first message.
struct Clumsy(Option<Webhook>, u32);

impl Carrier for Clumsy {
    fn carry(&mut self, message: &Message, now: Timestamp) -> Result<String, Failure> {
        self.1 += 1;
        assert!(self.1 > 1, "dropped it");
        self.0.as_mut().unwrap().carry(message, now)
    }
}

#[test]
fn a_panic_ends_a_try_and_not_the_courier() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    let hook = Hook::start();
    rig.ring(0);
    let couriers = rig.couriers(vec![receiver("desk", Clumsy(Some(hook.carrier()), 0))]);
    eventually("delivered after all", || rig.standing("desk").reached == 1);
    assert_eq!(couriers.health()[0].panics, 1);
}
