use std::sync::atomic::Ordering::Relaxed;

use gstreamer as gst;
use guiji_domain::{CameraState, StatusReason};

use crate::link::{Line, Progress};

/// Why a connection ended, in the words of the domain. The detail is clean: no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) state: CameraState,
    pub(crate) reason: StatusReason,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(state: CameraState, reason: StatusReason, detail: impl Into<String>) -> Self {
        Self { state, reason, detail: detail.into() }
    }

    /// The stream holds no video that we can decode; `found` is what it holds.
    pub(crate) fn no_video(found: Option<String>) -> Self {
        let detail = match found {
            Some(codec) => format!("the video is {codec}: set the camera to H.264 or H.265"),
            None => "no video can be found in it".to_owned(),
        };
        Self::new(CameraState::Misconfigured, StatusReason::UnsupportedCodec, detail)
    }

    /// Whether only a person can mend it: then it is tried again slowly.
    pub(crate) fn needs_a_person(&self) -> bool {
        matches!(self.state, CameraState::Refused | CameraState::Misconfigured)
    }
}

/// What kind of source an address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Rtsp,
    Http,
    File,
}

/// Names what GStreamer reports.
pub(crate) fn classify(
    origin: Origin,
    error: &gst::glib::Error,
    debug: Option<&str>,
    line: &Line,
    progress: &Progress,
) -> Failure {
    use CameraState::{Connecting, Misconfigured, Refused, Stalled};
    use gst::{ResourceError as R, StreamError as S};

    let debug = debug.unwrap_or_default();
    let said = line.redactor.clean(&format!("{error} ({})", gist(debug)));
    let failure =
        |state, reason, what: &str| Failure::new(state, reason, format!("{what}: {said}"));
    let chosen = progress.chosen.load(Relaxed);
    let answered = progress.answered.load(Relaxed);
    let foreign_codec = progress.foreign_codec();
    let status_code = status_code(debug);

    match (error.kind::<R>(), error.kind::<S>()) {
        _ if matches!(status_code, Some(401 | 403 | 407)) => not_authorised(&failure),
        (Some(R::NotAuthorized), _) => not_authorised(&failure),
        _ if matches!(status_code, Some(404 | 410)) => {
            failure(Misconfigured, StatusReason::NotFound, "the server knows no such stream")
        }
        (Some(R::NotFound), _) if origin == Origin::File => {
            failure(Misconfigured, StatusReason::NotFound, "there is no such file")
        }
        // souphttpsrc says "not found" of a host name, too.
        (Some(R::NotFound), _) if debug.contains("resolve") => {
            failure(Connecting, StatusReason::Unreachable, "the host name cannot be resolved")
        }
        (Some(R::NotFound), _) => {
            failure(Misconfigured, StatusReason::NotFound, "the server knows no such stream")
        }
        _ if status_code.is_some() => failure(Refused, StatusReason::Other, "the server refused"),
        _ if foreign_codec.is_some() && !chosen => Failure::no_video(foreign_codec),
        (Some(R::Settings), _) if origin == Origin::Rtsp && !chosen => {
            failure(Misconfigured, StatusReason::UnsupportedCodec, "no stream in it can be used")
        }
        (Some(_), _) if origin == Origin::File => {
            failure(Misconfigured, StatusReason::Other, "the file cannot be read")
        }
        (Some(_), _) if debug.contains("UDP") => failure(
            Stalled,
            StatusReason::Silence,
            "no datagrams arrive (a firewall between? set transport to tcp)",
        ),
        (Some(_), _) => {
            failure(Connecting, StatusReason::Unreachable, "the host does not answer as it should")
        }
        (_, Some(S::Decode)) => failure(Stalled, StatusReason::DecodeErrors, "the decoder gave up"),
        (_, Some(S::TypeNotFound | S::WrongType | S::CodecNotFound | S::Demux | S::Format))
            if !chosen =>
        {
            failure(Misconfigured, StatusReason::UnsupportedCodec, "no video can be found in it")
        }
        // Of a refused connection souphttpsrc says no more than this.
        (_, Some(S::Failed)) if origin == Origin::Http && !answered => {
            failure(Connecting, StatusReason::Unreachable, "the host does not answer as it should")
        }
        // Streams were found, but none to put a decoder behind: nothing takes what the demuxer pushes.
        (_, Some(S::Failed)) if origin != Origin::Rtsp && answered && !chosen => {
            Failure::no_video(None)
        }
        _ if progress.since_picture().is_some() => {
            failure(Connecting, StatusReason::Other, "the stream broke off")
        }
        _ => failure(Connecting, StatusReason::Other, "the stream cannot be opened"),
    }
}

/// A login that did not work. `failure` adds what was said.
pub(crate) fn not_authorised(
    failure: &dyn Fn(CameraState, StatusReason, &str) -> Failure,
) -> Failure {
    failure(
        CameraState::Refused,
        StatusReason::NotAuthorised,
        "user name or password is wrong or missing",
    )
}

/// The status of an RTSP or HTTP answer that says no, from the debug texts of rtspsrc ("Got error response: 453 (Not
/// Enough Bandwidth)") and souphttpsrc ("Forbidden (403), URL: …").
fn status_code(debug: &str) -> Option<u16> {
    let after = |mark: &str| Some(debug.split_once(mark)?.1);
    let digits = after("error response: ").or_else(|| {
        let before_url = debug.split_once("), URL").map(|(before, _)| before)?;
        before_url.rsplit_once('(').map(|(_, digits)| digits)
    })?;
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|code| (400..600).contains(code))
}

/// The last line of a debug text, which says what happened; the lines before say where in GStreamer's source.
fn gist(debug: &str) -> &str {
    let mut lines = debug.lines().rev().filter(|line| !line.trim().is_empty());
    lines.next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes() {
        for (debug, code) in [
            ("gstrtspsrc.c(1): x ():\nGot error response: 453 (Not Enough Bandwidth).", Some(453)),
            (
                "gstsouphttpsrc.c(1): x ():\nForbidden (403), URL: http://h/x, Redirect to: (NULL)",
                Some(403),
            ),
            ("Got error response: 200 (OK)", None),
            ("Failed to connect. (Generic error)", None),
            ("", None),
        ] {
            assert_eq!(status_code(debug), code, "{debug}");
        }
    }
}
