use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use guiji_domain::{CameraState, Luck, StatusReason};

use crate::doorway::Pass;
use crate::failure::Failure;
use crate::link::Line;
use crate::mailbox::Wake;
use crate::outlet::text_of;
use crate::report::Reporter;
use crate::session::{End, Session};
use crate::shared::wait_here;
use crate::tally::count;

/// Keeps one camera open: connects, runs the connection, names its end, waits, tries again, for ever or until the
/// recording is over.
pub(crate) async fn supervise(line: &Arc<Line>) {
    let mut reporter = Reporter::new(Arc::clone(line));
    if !line.camera.enabled {
        return reporter.now(CameraState::Disabled, None, "switched off by its registration");
    }
    let mut luck = Luck::seeded(line.camera.id.as_str(), line.clock.now().as_nanos() as u64);
    let mut failures = 0;
    reporter.now(CameraState::Connecting, None, "opening");
    loop {
        count(&line.tally.connects);
        let (end, live_for) = connect(line, &mut reporter).await;
        line.mailbox.clear();
        let failure = match end {
            End::Closed => return,
            End::Finished(reason, detail) => {
                reporter.now(CameraState::Ended, Some(reason), &detail);
                return;
            }
            End::Failed(failure) => failure,
        };
        failures = if live_for >= line.settings.stable_after { 1 } else { failures + 1 };
        let back_off = if failure.needs_a_person() {
            line.settings.retry_refused
        } else {
            line.settings.retry
        };
        let wait = back_off.wait(failures, luck.draw());
        reporter.failed(failure, wait, failures);
        if !rest(line, wait).await {
            return;
        }
    }
}

/// One connection. A panic of the supervision itself is an end like any other.
async fn connect(line: &Arc<Line>, reporter: &mut Reporter) -> (End, Duration) {
    let pass = tokio::select! {
        pass = line.shared.doorway.enter() => pass,
        // A few cameras at most: those that were opened for somebody, or have just rung.
        () = becomes_urgent(line) => Pass::beside(),
        () = line.mailbox.closing() => return (End::Closed, Duration::ZERO),
    };
    let connection = async {
        match wait_here(|| Session::open(line, reporter)) {
            Ok(session) => session.run(pass).await,
            Err(failure) => (End::Failed(failure), Duration::ZERO),
        }
    };
    let outcome = AssertUnwindSafe(connection).catch_unwind().await;
    let outcome = outcome.map_err(|payload| text_of(payload.as_ref()));
    outcome.unwrap_or_else(|text| {
        count(&line.tally.panics);
        let detail = line.redactor.clean(&format!("a programming error: {text}"));
        let failure = Failure::new(CameraState::Connecting, StatusReason::Panicked, detail);
        (End::Failed(failure), Duration::ZERO)
    })
}

async fn becomes_urgent(line: &Line) {
    let mut urgent = line.urgent.subscribe();
    // The sender lives in the line.
    drop(urgent.wait_for(|urgent| *urgent).await);
}

/// Waits. False when the stream is to be closed.
async fn rest(line: &Line, wait: Duration) -> bool {
    let deadline = Instant::now() + wait;
    loop {
        match line.mailbox.wait_until(deadline).await {
            Wake::Closing => return false,
            Wake::Timeout => return true,
            Wake::Event(event) => tracing::debug!(camera = %line.camera.id, ?event, "late event"),
        }
    }
}
