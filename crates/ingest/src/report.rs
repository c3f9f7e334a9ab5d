use std::sync::Arc;
use std::time::Duration;

use guiji_domain::{CameraState, CameraStatus, StatusReason};

use crate::failure::Failure;
use crate::link::Line;
use crate::shared::wait_here;

/// Tells sink and log what the camera is doing, once a change.
pub(crate) struct Reporter {
    line: Arc<Line>,
    last: Option<CameraStatus>,
}

impl Reporter {
    pub(crate) fn new(line: Arc<Line>) -> Self {
        Self { line, last: None }
    }

    /// A state without trouble, or with trouble that does not end the connection.
    pub(crate) fn now(&mut self, state: CameraState, reason: Option<StatusReason>, detail: &str) {
        if self.last.as_ref().is_none_or(|last| last.state != state) {
            let (camera, stream) = (&self.line.camera.id, self.line.stream);
            let reason = reason.map(StatusReason::as_str);
            tracing::info!(%camera, %stream, %state, reason, detail, "camera changed state");
        }
        self.report(state, reason, detail.to_owned(), None);
    }

    /// The connection is over; the next try comes after `wait`.
    pub(crate) fn failed(&mut self, failure: Failure, wait: Duration, failures: u32) {
        let Failure { state, reason, detail } = failure;
        let (camera, stream) = (&self.line.camera.id, self.line.stream);
        let (wait_ms, detail_text) = (wait.as_millis() as u64, detail.as_str());
        if failures <= 1 {
            tracing::warn!(%camera, %stream, %state, %reason, wait_ms, detail = detail_text, "stream lost");
        } else {
            tracing::info!(%camera, %stream, %state, %reason, wait_ms, failures, detail = detail_text, "stream still lost");
        }
        self.report(state, Some(reason), detail, Some(wait));
    }

    fn report(
        &mut self,
        state: CameraState,
        reason: Option<StatusReason>,
        detail: String,
        wait: Option<Duration>,
    ) {
        let now = self.line.clock.now();
        let since = match &self.last {
            Some(last) if last.state == state => last.since,
            _ => now,
        };
        let retry_at = wait.map(|wait| now.plus(wait));
        let status = CameraStatus { state, since, reason, detail, retry_at };
        if self.last.as_ref() == Some(&status) {
            return;
        }
        self.last = Some(status.clone());
        let told = wait_here(|| self.line.outlet.status(&self.line.camera.id, status));
        if let Err(panic) = told {
            self.line.panicked(panic);
        }
    }
}
