use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use guiji_domain::{
    CameraState, CaptureTime, Feedback, Findings, KeyframeRhythm, StatusReason, Stream, Timestamp,
};

use crate::afterimage::Views;
use crate::decoder::{Decoded, Decoder};
use crate::delivery::{Delivery, Undelivered};
use crate::failure::Failure;
use crate::gate::{Form, Gate, Look, Order, Purpose, Step};
use crate::h265::shown_at_once;
use crate::link::{Learnt, Line, Progress};
use crate::mailbox::Event;
use crate::moments::{Moment, Moments};
use crate::outlet::caught;
use crate::pool::{DecodePool, Shelf, Turns};
use crate::renumber::{Numbering, renumbered};
use crate::tally::count;
use crate::unit::{Unit, UnitKind};

/// Where the units of one connection become frames: the receiver brings units, the gate says which are decoded, and
/// whoever has a turn decodes them.
///
/// Live cameras take turns in the shared [`DecodePool`]: their receiver never waits, and what is too much gives way
/// in the gate's ring. A recording played as fast as possible is decoded by the thread that brings its units, so that
/// a slow sink slows the recording and neither loses a picture nor holds up a thread of the pool.
pub(crate) struct Desk {
    line: Arc<Line>,
    progress: Arc<Progress>,
    state: Mutex<State>,
    idle: Condvar,
    work: Mutex<Work>,
    /// `None`: decoded by the thread that brings the units.
    pool: Option<Arc<DecodePool>>,
    /// Whether the sentinel was told that the gate is awake. Held while telling, so that the last word is the true one.
    told_awake: Mutex<bool>,
    urgent: AtomicBool,
}

struct State {
    gate: Gate,
    /// In the pool's queue or having a turn.
    queued: bool,
    /// Having a turn.
    running: bool,
    closed: bool,
    /// What was learnt was given back to the line.
    handed_on: bool,
}

/// What the one who has the turn needs.
struct Work {
    decoder: Option<Decoder>,
    /// Its decoder had pictures left when it was emptied.
    holds_back: bool,
    moments: Moments,
    delivery: Delivery,
}

/// The connection is being closed or has failed: no more units are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// Units decoded in one turn: about 50 ms at 1080p, so that no camera waits long for others.
const TURN: usize = 8;

impl Desk {
    pub(crate) fn new(
        line: &Arc<Line>,
        progress: &Arc<Progress>,
        gate: Gate,
        views: Views,
        pool: Option<Arc<DecodePool>>,
    ) -> Arc<Self> {
        let delivery = Delivery::new(Arc::clone(line), Arc::clone(progress), views);
        let work = Work { decoder: None, holds_back: false, moments: Moments::default(), delivery };
        let state = State { gate, queued: false, running: false, closed: false, handed_on: false };
        let this = Arc::new(Self {
            line: Arc::clone(line),
            progress: Arc::clone(progress),
            state: Mutex::new(state),
            idle: Condvar::new(),
            work: Mutex::new(work),
            pool,
            told_awake: Mutex::new(false),
            urgent: AtomicBool::new(false),
        });
        this.follows(line.feedback());
        this
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next unit, in decoding order. Blocks only for recordings played as fast as possible.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(crate) fn put(self: &Arc<Self>, unit: crate::unit::Unit) -> Result<(), Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        state.gate.push(unit);
        self.go(state);
        if let Some(sentinel) = &self.line.sentinel {
            sentinel.heard(self.line.stream);
        }
        Ok(())
    }

    /// Whether units came.
    pub(crate) fn receives(&self) -> bool {
        self.lock().gate.receives()
    }

    /// No more units come: waits until those that came are decoded and delivered, or it is closed.
    pub(crate) fn finish(self: &Arc<Self>) {
        let mut state = self.lock();
        state.gate.finish();
        self.go(state);
        let mut state = self.lock();
        while state.queued && !state.closed {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sees to it that waiting work is done: here and now, or in the pool.
    fn go(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.queued || state.closed || !state.gate.has_work() {
            return;
        }
        state.queued = true;
        drop(state);
        match &self.pool {
            Some(pool) => {
                let turns: Arc<dyn Turns> = Arc::clone(self) as _;
                pool.queue(&turns);
            }
            None => {
                let shelf = Shelf::default();
                while self.turn(&shelf) {}
            }
        }
    }

    /// What the engine saw.
    pub(crate) fn follows(&self, feedback: Feedback) {
        self.urgent.store(feedback.urgent, Relaxed);
        self.lock().gate.follows(feedback);
    }

    /// What the detector saw in the frame of this time. A recording played as fast as possible does not wait for it:
    /// what is decoded of it must not depend on how fast that is.
    pub(crate) fn detected(self: &Arc<Self>, running: Duration, findings: Findings) {
        if self.pool.is_some() {
            let mut state = self.lock();
            state.gate.detected(running, findings);
            self.go(state);
            self.tell_sentinel();
        }
    }

    /// Another stream watches the view, or no longer, as [`Gate::relieve`] says.
    pub(crate) fn relieve(self: &Arc<Self>, relieved: bool, seen: Timestamp) {
        let mut state = self.lock();
        state.gate.relieve(relieved, Some(seen));
        self.go(state);
    }

    /// Another stream is awake: this one sleeps.
    pub(crate) fn rest(self: &Arc<Self>) {
        let mut state = self.lock();
        state.gate.rest();
        self.go(state);
    }

    /// Another stream shows a vehicle, as [`Gate::wake_for`] says.
    pub(crate) fn wake_for(self: &Arc<Self>, vehicle: CaptureTime, clear: Timestamp) {
        let mut state = self.lock();
        state.gate.wake_for(vehicle, clear);
        self.go(state);
        self.tell_sentinel();
    }

    /// Says whether the main stream is awake, when that has changed. Nothing may be locked.
    fn tell_sentinel(&self) {
        let Some(sentinel) =
            self.line.sentinel.as_ref().filter(|_| self.line.stream == Stream::Main)
        else {
            return;
        };
        let mut told = self.told_awake.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.lock();
        let (awake, saw) = (state.gate.is_awake() && !state.closed, state.gate.saw());
        drop(state);
        if std::mem::replace(&mut *told, awake) != awake {
            sentinel.main_is(awake, saw);
        }
    }

    /// The sink has room again.
    pub(crate) fn room(self: &Arc<Self>) {
        if self.pool.is_some() {
            self.go(self.lock());
        }
    }

    /// For how long at a time nothing is known of the view, as [`Gate::blind`] says.
    pub(crate) fn blind(&self) -> Duration {
        self.lock().gate.blind()
    }

    /// How the keyframes come.
    pub(crate) fn keyframes(&self) -> KeyframeRhythm {
        self.lock().gate.keyframes()
    }

    /// Forgets what waits, and returns when nobody decodes for this connection any more, unless the caller is the one
    /// who does. What was learnt of the view is kept for the next connection.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.idle.notify_all();
        while state.running && !self.line.outlet.is_calling_here() {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if std::mem::replace(&mut state.handed_on, true) {
            return;
        }
        let (sizes, experience) = state.gate.forget();
        drop(state);
        self.tell_sentinel();
        // Not to be had when this is the decoding thread, or it panicked: then the next connection begins anew.
        if let Ok(mut work) = self.work.try_lock() {
            self.line.learn(Learnt { sizes, experience, views: work.delivery.forget() });
        }
    }

    /// The next step, or the end of the turn.
    fn next(&self) -> Option<Step> {
        let mut state = self.lock();
        let waits = self.pool.is_some() && state.gate.can_wait() && !self.line.outlet.has_room();
        let step = if state.closed || waits { None } else { state.gate.next() };
        state.running = step.is_some();
        self.line.tally.gate(state.gate.take_tally());
        if step.is_none() {
            state.queued = false;
            self.idle.notify_all();
        }
        drop(state);
        self.tell_sentinel();
        step
    }

    fn carry_out(&self, step: Step, shelf: &Shelf) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match step {
            Step::Decode(order) => self.decode(&mut work, order, shelf),
            Step::Drain => self.drain(&mut work, shelf),
        };
        if let Err(what) = outcome {
            tracing::debug!(camera = %self.line.camera.id, what, "a decoder gave up");
            work.decoder = None;
            self.line.complain(&self.progress);
            self.lock().gate.broken();
        }
    }

    fn decode(&self, work: &mut Work, order: Order, shelf: &Shelf) -> Result<(), String> {
        let Order { unit, begin, form, purpose } = order;
        let lent = work.decoder.take().filter(|it| it.codec() == unit.codec);
        let mut decoder = match lent {
            Some(decoder) => decoder,
            None => shelf.lend(unit.codec, work.holds_back).inspect_err(|what| {
                let state = CameraState::Misconfigured;
                let failure = Failure::new(state, StatusReason::Other, what.as_str());
                self.line.mailbox.post(Event::Failed(failure));
            })?,
        };
        if begin {
            decoder.begin();
            work.moments = Moments::default();
        }
        let stamp = gst::ClockTime::try_from(unit.running).unwrap_or(gst::ClockTime::ZERO);
        let key = unit.kind == UnitKind::Key;
        let moment = Moment { running: unit.running, captured: unit.captured, purpose, key };
        work.moments.keep(stamp, moment);
        let Some(mut data) = formed(&unit, &form) else {
            work.decoder = Some(decoder);
            return Ok(()); // no picture comes of it: the gate notices
        };
        // The ring has the same buffer: this copies its header, not its memory.
        let header = data.make_mut();
        header.set_pts(stamp);
        header.set_dts(None);
        self.progress.fed(false);
        let pictures = decoder.decode(data)?;
        if unit.kind == UnitKind::Key {
            count(&self.line.tally.decoded_keyframes);
        }
        if purpose == Purpose::Glimpse {
            count(&self.line.tally.glimpses);
        }
        // What refers to another picture than it is given is bound to make it complain.
        if decoder.complained() && purpose != Purpose::Glimpse {
            self.line.complain(&self.progress);
        }
        work.decoder = Some(decoder);
        self.deliver(work, pictures)
    }

    fn drain(&self, work: &mut Work, shelf: &Shelf) -> Result<(), String> {
        let Some(mut decoder) = work.decoder.take() else { return Ok(()) };
        self.progress.fed(true);
        let pictures = decoder.drain();
        work.holds_back |= decoder.holds_back();
        shelf.give_back(decoder);
        self.deliver(work, pictures)
    }

    fn deliver(&self, work: &mut Work, pictures: Vec<Decoded>) -> Result<(), String> {
        for (picture, caps) in pictures {
            let Some(moment) = work.moments.take(picture.pts()) else { continue };
            let Moment { purpose, running, key, .. } = moment;
            let judge = |changed| {
                let camera = &self.line.camera.id;
                tracing::trace!(%camera, ?purpose, ?running, captured = %moment.captured.at, changed, "looked");
                self.lock().gate.looked(Look { purpose, running, key, changed })
            };
            match work.delivery.picture(picture, caps, &moment, judge) {
                Ok(()) => {}
                Err(Undelivered::Refused(what)) => return Err(what),
                // The supervisor ends this connection, and only this one.
                Err(Undelivered::SinkPanicked) => self.lock().closed = true,
            }
            if self.lock().closed {
                break;
            }
        }
        Ok(())
    }
}

/// The unit's data as the decoder is to get it.
fn formed(unit: &Unit, form: &Form) -> Option<gst::Buffer> {
    let changed = |change: &dyn Fn(&[u8]) -> Option<Vec<u8>>| {
        let mapped = unit.data.map_readable().ok()?;
        change(&mapped).map(gst::Buffer::from_slice)
    };
    let reorders = unit.numbering.as_ref().is_some_and(Numbering::reorders);
    match form {
        // What a camera sends must not end its connection because a parser did not expect it.
        Form::Behind(numbering) => {
            changed(&|unit| caught(|| renumbered(unit, numbering)).ok().flatten())
        }
        Form::AtOnce if reorders => changed(&shown_at_once).or_else(|| Some(unit.data.clone())),
        Form::AtOnce | Form::AsItIs => Some(unit.data.clone()),
    }
}

impl Turns for Desk {
    fn turn(&self, shelf: &Shelf) -> bool {
        for _ in 0..TURN {
            let done = caught(|| self.next().map(|step| self.carry_out(step, shelf)));
            match done {
                Ok(Some(())) => {}
                Ok(None) => return false,
                Err(panic) => {
                    self.line.panicked(panic);
                    self.lock().closed = true; // the supervisor ends this connection, and only this one
                }
            }
        }
        let mut state = self.lock();
        state.running = false;
        self.idle.notify_all();
        // The queue is left by `next`, so that nothing that comes now is forgotten.
        true
    }

    fn is_urgent(&self) -> bool {
        self.urgent.load(Relaxed)
    }
}
