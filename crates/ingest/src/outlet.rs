use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use guiji_domain::{CameraId, CameraStatus, Frame, FrameSink};

thread_local! {
    /// The outlet whose sink has the word on this thread.
    static CALLING: Cell<*const Outlet> = const { Cell::new(std::ptr::null()) };
}

/// The way to the sink: closed once, and a panic of the sink stops here.
pub(crate) struct Outlet {
    sink: Arc<dyn FrameSink>,
    closed: AtomicBool,
}

/// What a caught panic said.
pub(crate) type PanicText = String;

impl Outlet {
    pub(crate) fn new(sink: Arc<dyn FrameSink>) -> Self {
        Self { sink, closed: AtomicBool::new(false) }
    }

    /// No call begins after this.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    pub(crate) fn frame(&self, frame: Frame) -> Result<(), PanicText> {
        self.call(|sink| sink.frame(frame))
    }

    /// Whether the sink would take a frame without losing another.
    pub(crate) fn has_room(&self) -> bool {
        caught(|| self.sink.has_room()).unwrap_or(true)
    }

    pub(crate) fn status(&self, camera: &CameraId, status: CameraStatus) -> Result<(), PanicText> {
        self.call(|sink| sink.status(camera, status))
    }

    /// Whether this thread is just now in a call of this sink.
    pub(crate) fn is_calling_here(&self) -> bool {
        std::ptr::eq(CALLING.get(), self)
    }

    fn call(&self, call: impl FnOnce(&dyn FrameSink)) -> Result<(), PanicText> {
        if self.closed.load(SeqCst) {
            return Ok(());
        }
        let outer = CALLING.replace(self);
        let outcome = caught(|| call(self.sink.as_ref()));
        CALLING.set(outer);
        outcome
    }
}

/// Runs it; a panic becomes its message.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, PanicText> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| text_of(payload.as_ref()))
}

/// What a panic said.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> PanicText {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
