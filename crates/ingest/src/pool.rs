//! The decode pool: a few threads that decode for all cameras.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;

use crate::decoder::Decoder;
use crate::outlet::caught;
use crate::unit::Codec;

/// Work of one camera, taken in turns.
pub(crate) trait Turns: Send + Sync {
    /// Does a bounded piece of work. True when more waits: the camera then queues again, behind the others.
    fn turn(&self, shelf: &Shelf) -> bool;
    /// Whether its turns come before those of others.
    fn is_urgent(&self) -> bool;
}

/// Decoders that nobody uses just now, ready to be lent.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<Vec<Decoder>>);

/// More than these are not kept: an idle decoder still holds its pictures.
const SHELVED_MAX: usize = 8;

impl Shelf {
    /// A decoder that has forgotten everything. `may_hold_back`: the stream is known to need that (B-frames); any other must
    /// not get one that does, for it would take its own pictures to be out of order.
    ///
    /// # Errors
    /// When none is there and none can be made.
    pub(crate) fn lend(&self, codec: Codec, may_hold_back: bool) -> Result<Decoder, String> {
        let mut decoders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found =
            decoders.iter().position(|it| it.codec() == codec && it.holds_back() == may_hold_back);
        let found = found.map(|index| decoders.swap_remove(index));
        drop(decoders);
        found.map_or_else(|| Decoder::new(codec), Ok)
    }

    /// Takes back one that works.
    pub(crate) fn give_back(&self, decoder: Decoder) {
        let mut decoders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if decoders.len() < SHELVED_MAX {
            decoders.push(decoder);
        }
    }
}

/// Threads that decode. They end when it is dropped.
///
/// Cameras queue for turns: each at most once, first come first served, so one that floods gets no more turns than
/// the others, and the queue is never longer than there are cameras. Urgent ones (a watch-list alert, an analyst
/// watching) come first, but one turn in four goes to the others.
pub(crate) struct DecodePool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    shelf: Shelf,
}

#[derive(Default)]
struct Queue {
    urgent: VecDeque<Weak<dyn Turns>>,
    common: VecDeque<Weak<dyn Turns>>,
    urgent_in_a_row: u32,
    closed: bool,
}

const URGENT_IN_A_ROW: u32 = 3;

impl Queue {
    fn push(&mut self, turns: &Arc<dyn Turns>) {
        let queue = if turns.is_urgent() { &mut self.urgent } else { &mut self.common };
        queue.push_back(Arc::downgrade(turns));
    }

    fn pop(&mut self) -> Option<Weak<dyn Turns>> {
        let others_wait = !self.common.is_empty();
        if (self.urgent_in_a_row < URGENT_IN_A_ROW || !others_wait)
            && let Some(next) = self.urgent.pop_front()
        {
            self.urgent_in_a_row = if others_wait { self.urgent_in_a_row + 1 } else { 0 };
            return Some(next);
        }
        self.urgent_in_a_row = 0;
        self.common.pop_front()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let mut queue = self.lock();
            let next = loop {
                if queue.closed {
                    return;
                }
                if let Some(next) = queue.pop() {
                    break next;
                }
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            // A camera that was closed meanwhile is gone.
            let Some(turns) = next.upgrade() else { continue };
            // Nothing of one camera may end a thread that all share, whatever was forgotten to be caught in it; nor may
            // its last breath, which may be here.
            let more = caught(|| {
                let more = turns.turn(&self.shelf);
                more.then(|| self.lock().push(&turns));
                drop(turns);
                more
            });
            match more {
                Ok(true) => self.work.notify_one(),
                Ok(false) => {}
                Err(panic) => tracing::error!(panic, "the turn of a camera panicked"),
            }
        }
    }
}

impl DecodePool {
    /// # Errors
    /// When not a single thread can be started.
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let this = Self { shared: Arc::new(Shared::default()) };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&this.shared);
            let started =
                Builder::new().name(format!("guiji-decode-{number}")).spawn(move || shared.work());
            match started {
                Ok(_) => {}
                Err(error) if number == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, threads = number, "fewer decoding threads than wished");
                    break;
                }
            }
        }
        Ok(this)
    }

    /// Queues a camera for a turn. It must not be queued already.
    pub(crate) fn queue(&self, turns: &Arc<dyn Turns>) {
        self.shared.lock().push(turns);
        self.shared.work.notify_one();
    }
}

impl Drop for DecodePool {
    /// The threads end after the turn they are in; nobody waits for them, for this may be one of them.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slices::tests::encoded;
    use gstreamer as gst;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::time::Duration;

    struct Camera {
        name: &'static str,
        urgent: bool,
        left: AtomicUsize,
        told: Mutex<SyncSender<&'static str>>,
    }

    impl Turns for Camera {
        fn turn(&self, _: &Shelf) -> bool {
            self.told.lock().unwrap().send(self.name).unwrap();
            self.left.fetch_sub(1, SeqCst) > 1
        }
        fn is_urgent(&self) -> bool {
            self.urgent
        }
    }

    #[test]
    fn what_holds_pictures_back_is_lent_to_streams_with_b_frames_only() {
        let shelf = Shelf::default();
        let (in_order, reordered) = (encoded("bframes=0"), encoded("bframes=2 b-adapt=false"));
        let unit = |data: &Vec<u8>| gst::Buffer::from_slice(data.clone());
        let mut decoder = shelf.lend(Codec::H264, false).unwrap();
        decoder.begin();
        reordered.iter().for_each(|it| drop(decoder.decode(unit(it)).unwrap()));
        assert!(!decoder.drain().is_empty());
        shelf.give_back(decoder);
        for (may_hold_back, at_once) in [(false, 1), (true, 0)] {
            let mut decoder = shelf.lend(Codec::H264, may_hold_back).unwrap();
            decoder.begin();
            assert_eq!(decoder.decode(unit(&in_order[0])).unwrap().len(), at_once);
        }
    }

    #[test]
    fn a_panic_ends_no_thread_of_the_pool() {
        struct Panics;
        impl Turns for Panics {
            fn turn(&self, _: &Shelf) -> bool {
                panic!("scripted")
            }
            fn is_urgent(&self) -> bool {
                false
            }
        }
        let pool = DecodePool::start(1).unwrap();
        let bad: Arc<dyn Turns> = Arc::new(Panics);
        pool.queue(&bad);
        let (told, heard) = sync_channel(1);
        let good: Arc<dyn Turns> = Arc::new(Camera {
            name: "good",
            urgent: false,
            left: AtomicUsize::new(1),
            told: Mutex::new(told),
        });
        pool.queue(&good);
        assert_eq!(heard.recv_timeout(Duration::from_secs(10)), Ok("good"));
    }

    fn order(cameras: &[(&'static str, bool, usize)]) -> String {
        let (told, heard) = sync_channel(100);
        let (gate, held) = sync_channel(1);
        struct Hold(Mutex<std::sync::mpsc::Receiver<()>>);
        impl Turns for Hold {
            fn turn(&self, _: &Shelf) -> bool {
                self.0.lock().unwrap().recv().unwrap();
                false
            }
            fn is_urgent(&self) -> bool {
                false
            }
        }
        let pool = DecodePool::start(1).unwrap();
        let hold: Arc<dyn Turns> = Arc::new(Hold(Mutex::new(held)));
        pool.queue(&hold); // the one thread waits until all have queued
        let cameras: Vec<Arc<dyn Turns>> = cameras
            .iter()
            .map(|&(name, urgent, turns)| -> Arc<dyn Turns> {
                let (left, told) = (AtomicUsize::new(turns), Mutex::new(told.clone()));
                Arc::new(Camera { name, urgent, left, told })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        cameras.iter().for_each(|camera| pool.queue(camera));
        gate.send(()).unwrap();
        let mut order = String::new();
        while let Ok(name) = heard.recv_timeout(Duration::from_millis(300)) {
            order += name;
        }
        order
    }

    #[test]
    fn turns_go_round() {
        assert_eq!(order(&[("a", false, 4), ("b", false, 2), ("c", false, 1)]), "abcabaa");
    }

    #[test]
    fn the_urgent_come_first_but_starve_nobody() {
        assert_eq!(order(&[("a", false, 2), ("u", true, 7)]), "uuuauuuau");
    }
}
