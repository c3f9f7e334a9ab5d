use std::sync::{Arc, Mutex, PoisonError};

use guiji_domain::Luck;
use tokio::sync::oneshot;

/// Lets a bounded number of connections be opened at a time, and the waiting ones in random order: after a power cut
/// the thousand cameras of a county must not get a thousand requests at once, nor the same ones always be the last.
pub(crate) struct Doorway {
    inside: Mutex<Inside>,
}

struct Inside {
    free: usize,
    waiting: Vec<oneshot::Sender<Pass>>,
    luck: Luck,
}

impl Doorway {
    /// `seed` decides the order.
    pub(crate) fn new(places: usize, seed: u64) -> Arc<Self> {
        let luck = Luck::seeded("doorway", seed);
        let inside = Inside { free: places.max(1), waiting: Vec::new(), luck };
        Arc::new(Self { inside: Mutex::new(inside) })
    }

    /// Waits for a place. Dropping the pass gives it back.
    pub(crate) async fn enter(self: &Arc<Self>) -> Pass {
        let turn = {
            let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
            if inside.free > 0 {
                inside.free -= 1;
                return Pass(Some(Arc::clone(self)));
            }
            let (sender, turn) = oneshot::channel();
            inside.waiting.retain(|it| !it.is_closed());
            inside.waiting.push(sender);
            turn
        };
        // The sender lives as long as the doorway, which we hold: the other case does not happen.
        turn.await.unwrap_or(Pass(None))
    }

    fn leave(self: Arc<Self>) {
        let mut pass = Pass(None);
        loop {
            let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
            if inside.waiting.is_empty() {
                inside.free += 1;
                return;
            }
            let chosen = (inside.luck.draw() * inside.waiting.len() as f64) as usize;
            let next = inside.waiting.swap_remove(chosen);
            drop(inside);
            pass.0 = Some(Arc::clone(&self));
            match next.send(pass) {
                Ok(()) => return,
                // It waits no more: the next one.
                Err(mut back) => {
                    back.0 = None;
                    pass = back;
                }
            }
        }
    }
}

/// A place in the doorway.
pub(crate) struct Pass(Option<Arc<Doorway>>);

impl Pass {
    /// A way in beside the doorway, for those who cannot wait.
    pub(crate) fn beside() -> Self {
        Self(None)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(doorway) = self.0.take() {
            doorway.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    #[tokio::test]
    async fn never_more_than_its_places_and_in_random_order() {
        let doorway = Doorway::new(3, 7);
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let (doorway, inside, most, order) =
                    (doorway.clone(), inside.clone(), most.clone(), order.clone());
                tokio::spawn(async move {
                    let _pass = doorway.enter().await;
                    order.lock().unwrap().push(number);
                    most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    inside.fetch_sub(1, SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(most.load(SeqCst), 3);
        let order = order.lock().unwrap().clone();
        assert_eq!(order.len(), 50);
        assert!(!order.is_sorted(), "{order:?}");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_blocks_nobody() {
        let doorway = Doorway::new(1, 7);
        let pass = doorway.enter().await;
        for _ in 0..20 {
            let patience = Duration::from_millis(1);
            assert!(tokio::time::timeout(patience, doorway.enter()).await.is_err());
        }
        assert!(doorway.inside.lock().unwrap().waiting.len() <= 1);
        drop(pass);
        let patience = Duration::from_secs(5);
        assert!(tokio::time::timeout(patience, doorway.enter()).await.is_ok());
    }
}
