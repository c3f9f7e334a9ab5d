//! One waiting frame a camera, and fair batches over all of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use guiji_domain::{CameraId, Frame};

/// What happens to a frame that comes while another of its camera still waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// The waiting one gives way: live cameras.
    ReplaceOlder,
    /// The newcomer waits: recordings played as fast as possible.
    Block,
}

/// What a worker is to do for a camera.
#[derive(Debug)]
pub(crate) enum Work {
    /// Analyse a frame.
    Frame(Frame),
    /// The stream broke off or ended: end all tracks.
    Flush,
}

/// What became of a frame that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It waits.
    Waiting,
    /// It waits in place of an older one, which is lost.
    Replaced,
    /// The camera or the whole engine is closed; it is lost.
    Closed,
}

#[derive(Default)]
struct Slot {
    frame: Option<Frame>,
    /// Somebody waits for what this camera sees.
    urgent: bool,
    flush: bool,
    queued: bool,
    busy: bool,
}

#[derive(Default)]
struct Inner {
    slots: BTreeMap<CameraId, Slot>,
    /// Cameras with work and no worker, in the order in which the work came: each at most once, so a camera that
    /// floods gets no more turns than the others.
    queue: VecDeque<CameraId>,
    /// The urgent ones of them, which come first; but one turn in four goes to the others.
    urgent: VecDeque<CameraId>,
    urgent_in_a_row: u32,
    /// No more frames are taken in.
    shut: bool,
    /// Workers end when nothing waits.
    closed: bool,
}

impl Inner {
    fn enqueue(&mut self, camera: &CameraId) {
        if let Some(slot) = self.slots.get_mut(camera)
            && !slot.queued
            && !slot.busy
            && (slot.frame.is_some() || slot.flush)
        {
            slot.queued = true;
            let queue = if slot.urgent { &mut self.urgent } else { &mut self.queue };
            queue.push_back(camera.clone());
        }
    }

    fn waiting(&self) -> usize {
        self.queue.len() + self.urgent.len()
    }

    fn pop(&mut self) -> Option<CameraId> {
        let others_wait = !self.queue.is_empty();
        if (self.urgent_in_a_row < URGENT_IN_A_ROW || !others_wait)
            && let Some(next) = self.urgent.pop_front()
        {
            self.urgent_in_a_row = if others_wait { self.urgent_in_a_row + 1 } else { 0 };
            return Some(next);
        }
        self.urgent_in_a_row = 0;
        self.queue.pop_front()
    }
}

const URGENT_IN_A_ROW: u32 = 3;

/// The slots of all cameras.
#[derive(Default)]
pub(crate) struct Slots {
    inner: Mutex<Inner>,
    work: Condvar,
    space: Condvar,
}

impl Slots {
    /// A poisoned lock means a panic while moving small values about; the state is still whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a camera.
    pub(crate) fn open(&self, camera: &CameraId) {
        self.lock().slots.entry(camera.clone()).or_default();
    }

    /// Takes the room away; a frame that waits there is lost, and whoever waits for space is sent off.
    pub(crate) fn close(&self, camera: &CameraId) {
        let mut inner = self.lock();
        inner.slots.remove(camera);
        inner.queue.retain(|queued| queued != camera);
        inner.urgent.retain(|queued| queued != camera);
        self.space.notify_all();
    }

    /// Whether a frame of this camera would be taken without the loss of another.
    pub(crate) fn has_room(&self, camera: &CameraId) -> bool {
        self.lock().slots.get(camera).is_none_or(|slot| slot.frame.is_none())
    }

    /// Says whether the camera's frames come before those of others, from the next one on.
    pub(crate) fn set_urgent(&self, camera: &CameraId, urgent: bool) {
        if let Some(slot) = self.lock().slots.get_mut(camera) {
            slot.urgent = urgent;
        }
    }

    /// Puts a frame, blocking only with [`WhenFull::Block`].
    pub(crate) fn put(&self, frame: Frame, when_full: WhenFull) -> Put {
        let camera = frame.camera.clone();
        let mut inner = self.lock();
        loop {
            if inner.shut {
                return Put::Closed;
            }
            let Some(slot) = inner.slots.get_mut(&camera) else { return Put::Closed };
            if slot.frame.is_some() && when_full == WhenFull::Block {
                inner = self.space.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let replaced = slot.frame.replace(frame).is_some();
            inner.enqueue(&camera);
            self.work.notify_one();
            return if replaced { Put::Replaced } else { Put::Waiting };
        }
    }

    /// Asks for the camera's tracks to be ended, after the frame that may still wait.
    pub(crate) fn flush(&self, camera: &CameraId) {
        let mut inner = self.lock();
        if let Some(slot) = inner.slots.get_mut(camera) {
            slot.flush = true;
            inner.enqueue(camera);
            self.work.notify_one();
        }
    }

    /// Waits for work and takes up to `max` cameras' worth, waiting up to `linger` for a batch to fill. Every camera
    /// taken must be given back with [`Self::done`]. `None` when closed and empty.
    pub(crate) fn take_batch(&self, max: usize, linger: Duration) -> Option<Vec<(CameraId, Work)>> {
        let mut inner = self.lock();
        while inner.waiting() == 0 {
            if inner.closed {
                return None;
            }
            inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let deadline = Instant::now() + linger;
        while inner.waiting() < max && !inner.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = self.work.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut batch = Vec::with_capacity(max);
        while batch.len() < max
            && let Some(camera) = inner.pop()
        {
            let Some(slot) = inner.slots.get_mut(&camera) else { continue };
            slot.queued = false;
            slot.busy = true;
            let work = match slot.frame.take() {
                Some(frame) => Work::Frame(frame),
                None => {
                    slot.flush = false;
                    Work::Flush
                }
            };
            batch.push((camera, work));
        }
        self.space.notify_all();
        Some(batch)
    }

    /// Gives a camera back after its work.
    pub(crate) fn done(&self, camera: &CameraId) {
        let mut inner = self.lock();
        if let Some(slot) = inner.slots.get_mut(camera) {
            slot.busy = false;
            inner.enqueue(camera);
            self.work.notify_one();
            self.space.notify_all();
        }
    }

    /// Waits until the camera has neither work waiting nor in hand. False when that takes longer than `patience`.
    pub(crate) fn wait_idle(&self, camera: &CameraId, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            let idle =
                inner.slots.get(camera).is_none_or(|s| s.frame.is_none() && !s.flush && !s.busy);
            let left = deadline.saturating_duration_since(Instant::now());
            if idle || left.is_zero() {
                return idle;
            }
            inner = self.space.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes in no more frames; whoever waits for space is sent off. What waits is still handed out.
    pub(crate) fn shut(&self) {
        self.lock().shut = true;
        self.space.notify_all();
    }

    /// Shut for good: workers end when what waits is done.
    pub(crate) fn close_all(&self) {
        let mut inner = self.lock();
        inner.shut = true;
        inner.closed = true;
        self.work.notify_all();
        self.space.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use guiji_domain::{CaptureTime, ClockSource, OwnedPicture, Stream, Timestamp, View};

    use super::*;

    fn frame(camera: &str, millis: u64) -> Frame {
        let picture = Arc::new(OwnedPicture::rgb(1, 1, vec![0; 3]).unwrap());
        Frame {
            camera: CameraId::new(camera).unwrap(),
            captured: CaptureTime {
                at: Timestamp::from_millis(millis as i64),
                uncertainty: Duration::ZERO,
                source: ClockSource::Stated,
            },
            stream: Stream::Main,
            pts: Duration::from_millis(millis),
            full: picture.clone(),
            small: picture,
            view: View::Unknown,
        }
    }

    fn slots(cameras: &[&str]) -> Slots {
        let slots = Slots::default();
        for camera in cameras {
            slots.open(&CameraId::new(camera).unwrap());
        }
        slots
    }

    fn taken(batch: &[(CameraId, Work)]) -> Vec<(String, Option<u128>)> {
        batch
            .iter()
            .map(|(camera, work)| {
                let pts = match work {
                    Work::Frame(frame) => Some(frame.pts.as_millis()),
                    Work::Flush => None,
                };
                (camera.to_string(), pts)
            })
            .collect()
    }

    #[test]
    fn the_newest_frame_wins() {
        let slots = slots(&["a"]);
        assert_eq!(slots.put(frame("a", 1), WhenFull::ReplaceOlder), Put::Waiting);
        assert_eq!(slots.put(frame("a", 2), WhenFull::ReplaceOlder), Put::Replaced);
        let batch = slots.take_batch(4, Duration::ZERO).unwrap();
        assert_eq!(taken(&batch), [("a".into(), Some(2))]);
    }

    #[test]
    fn a_flooding_camera_gets_no_more_turns() {
        let slots = slots(&["a", "b", "c"]);
        for millis in 0..5 {
            slots.put(frame("a", millis), WhenFull::ReplaceOlder);
        }
        slots.put(frame("b", 7), WhenFull::ReplaceOlder);
        slots.put(frame("c", 8), WhenFull::ReplaceOlder);
        let batch = slots.take_batch(2, Duration::ZERO).unwrap();
        assert_eq!(taken(&batch), [("a".into(), Some(4)), ("b".into(), Some(7))]);
    }

    #[test]
    fn urgent_cameras_come_first_and_leave_a_turn_in_four_to_the_others() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let slots = slots(&names);
        for name in &names[2..] {
            slots.set_urgent(&CameraId::new(name).unwrap(), true);
        }
        for name in names {
            slots.put(frame(name, 1), WhenFull::ReplaceOlder);
        }
        let order: String =
            std::iter::from_fn(|| slots.lock().pop()).map(|it| it.to_string()).collect();
        assert_eq!(order, "cdeafgb");
    }

    #[test]
    fn there_is_room_until_a_frame_waits() {
        let slots = slots(&["a"]);
        let a = CameraId::new("a").unwrap();
        assert!(slots.has_room(&a));
        slots.put(frame("a", 1), WhenFull::ReplaceOlder);
        assert!(!slots.has_room(&a));
        drop(slots.take_batch(4, Duration::ZERO));
        assert!(slots.has_room(&a), "one in work, and room for the next");
    }

    #[test]
    fn one_worker_a_camera() {
        let slots = slots(&["a"]);
        let a = CameraId::new("a").unwrap();
        slots.put(frame("a", 1), WhenFull::ReplaceOlder);
        drop(slots.take_batch(4, Duration::ZERO));
        slots.put(frame("a", 2), WhenFull::ReplaceOlder);
        assert!(slots.lock().queue.is_empty(), "busy: must wait until it is given back");
        slots.done(&a);
        assert_eq!(taken(&slots.take_batch(4, Duration::ZERO).unwrap()), [("a".into(), Some(2))]);
    }

    #[test]
    fn a_flush_comes_after_the_waiting_frame() {
        let slots = slots(&["a"]);
        let a = CameraId::new("a").unwrap();
        slots.put(frame("a", 1), WhenFull::ReplaceOlder);
        slots.flush(&a);
        assert_eq!(taken(&slots.take_batch(4, Duration::ZERO).unwrap()), [("a".into(), Some(1))]);
        slots.done(&a);
        assert_eq!(taken(&slots.take_batch(4, Duration::ZERO).unwrap()), [("a".into(), None)]);
    }

    #[test]
    fn a_blocked_recording_loses_nothing_and_is_freed_by_closing() {
        let slots = Arc::new(slots(&["a"]));
        let a = CameraId::new("a").unwrap();
        let feeder = thread::spawn({
            let slots = slots.clone();
            move || (0..20).map(|i| slots.put(frame("a", i), WhenFull::Block)).collect::<Vec<_>>()
        });
        let mut seen = Vec::new();
        while seen.len() < 20 {
            seen.extend(taken(&slots.take_batch(1, Duration::ZERO).unwrap()));
            slots.done(&a);
        }
        assert_eq!(feeder.join().unwrap(), vec![Put::Waiting; 20]);
        assert_eq!(
            seen.iter().map(|(_, pts)| pts.unwrap()).collect::<Vec<_>>(),
            (0..20).collect::<Vec<_>>()
        );

        slots.put(frame("a", 1), WhenFull::Block);
        let blocked = thread::spawn({
            let slots = slots.clone();
            move || slots.put(frame("a", 2), WhenFull::Block)
        });
        thread::sleep(Duration::from_millis(20));
        slots.close(&a);
        assert_eq!(blocked.join().unwrap(), Put::Closed);
    }

    #[test]
    fn closed_slots_hand_out_what_waits_and_then_end() {
        let slots = slots(&["a"]);
        slots.put(frame("a", 1), WhenFull::ReplaceOlder);
        slots.close_all();
        assert_eq!(slots.put(frame("a", 2), WhenFull::ReplaceOlder), Put::Closed);
        assert_eq!(slots.take_batch(4, Duration::ZERO).unwrap().len(), 1);
        slots.done(&CameraId::new("a").unwrap());
        assert!(slots.take_batch(4, Duration::ZERO).is_none());
    }
}
