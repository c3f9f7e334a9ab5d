//! What a camera's stream says of itself, and what its pictures say of the view, made into one status.

use guiji_analysis::view::{ViewFault, ViewSettings, ViewWatch};
use guiji_domain::{CameraState, CameraStatus, Frame, StatusReason, Timestamp};

/// The status of one camera out of two sources.
pub(crate) struct Viewed {
    watch: ViewWatch,
    stream: Option<CameraStatus>,
    fault: Option<(ViewFault, Timestamp)>,
}

impl Viewed {
    pub(crate) fn new() -> Self {
        Self { watch: ViewWatch::new(ViewSettings::default()), stream: None, fault: None }
    }

    /// Takes what the stream says; the status that follows.
    pub(crate) fn stream_says(&mut self, status: CameraStatus) -> CameraStatus {
        if !seeing(status.state) {
            self.watch.interrupted();
            self.fault = None;
        }
        let told = self.combined(&status);
        self.stream = Some(status);
        told
    }

    /// Takes a picture; the status that follows, when it is another one than before.
    pub(crate) fn shown(&mut self, frame: &Frame, now: Timestamp) -> Option<CameraStatus> {
        let stream = self.stream.as_ref().filter(|status| seeing(status.state))?;
        let fault = self.watch.look(frame.captured.at, frame.small.as_ref());
        if fault == self.fault.map(|(fault, _)| fault) {
            return None;
        }
        self.fault = fault.map(|fault| (fault, now));
        let told = self.combined(stream);
        // It sees again from now on, not from when the stream came.
        Some(if fault.is_none() { CameraStatus { since: now, ..told } } else { told })
    }

    fn combined(&self, stream: &CameraStatus) -> CameraStatus {
        let Some((fault, since)) = self.fault else { return stream.clone() };
        let state = match (stream.state, fault.is_blind()) {
            (CameraState::Live | CameraState::Degraded, true) => CameraState::Stalled,
            (CameraState::Live, false) => CameraState::Degraded,
            _ => return stream.clone(),
        };
        let (reason, detail) = in_words(fault);
        CameraStatus { state, since, reason: Some(reason), detail: detail.into(), retry_at: None }
    }
}

/// Whether pictures come.
pub(crate) fn seeing(state: CameraState) -> bool {
    matches!(state, CameraState::Live | CameraState::Degraded)
}

fn in_words(fault: ViewFault) -> (StatusReason, &'static str) {
    match fault {
        ViewFault::Black => (StatusReason::Black, "the picture is black"),
        ViewFault::Covered => {
            (StatusReason::Covered, "the picture is one shade: covered, fogged in or washed out")
        }
        ViewFault::Frozen => (StatusReason::Frozen, "the same picture comes again and again"),
        ViewFault::Blurred => (StatusReason::Blurred, "the picture is out of focus or dirty"),
        ViewFault::Moved => {
            (StatusReason::Moved, "the camera looks elsewhere than it did: check where it points")
        }
    }
}
