use std::fmt;
use std::time::Duration;

use crate::vehicle::words;
use crate::{CameraId, SharedPicture, Timestamp};

/// Where a capture time comes from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockSource {
    /// The camera's own clock by RTCP sender reports (NTP to RTP time), RFC 3550 section 6.4.1.
    Rtcp,
    /// A start time stated by a person for a recording, plus the presentation time stamp.
    Stated,
    /// Our clock at the arrival of the stream's first unit, plus the difference of presentation time stamps.
    Arrival,
}

/// When a frame was captured, and how far that may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureTime {
    /// Best estimate.
    pub at: Timestamp,
    /// The true time is within `at ± uncertainty`, as far as the source can tell.
    pub uncertainty: Duration,
    /// What the estimate rests on.
    pub source: ClockSource,
}

/// What whoever decoded a frame knows of its view already, so that nothing is searched where nothing can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum View {
    /// Nothing.
    #[default]
    Unknown,
    /// It differs nowhere from what is usual.
    Usual,
    /// It differs from what is usual.
    Changed,
    /// It differs, as this view often does without a vehicle. The frame only asks whether there is one that was not
    /// there before: [`OpenStream::detected`](crate::OpenStream::detected) answers. If there is, the frame comes again
    /// in its turn, after the pictures before it.
    Asked,
}

/// Which of a camera's streams a picture comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stream {
    /// The one in which vehicles are followed and plates read.
    #[default]
    Main,
    /// The same view in low resolution, decoded while nothing is there, to see when that ends. What is found in it is
    /// never followed, and no plate can be read in it: a frame of [`View::Asked`] asks whether there is a vehicle, and if
    /// there is, the main stream's pictures follow, from the time before.
    Substream,
}
words!(Stream, "stream", Main => "main", Substream => "substream");

/// One decoded picture of one camera.
///
/// Holds pixels by handle: cloning copies no pixel. A decoder has a bounded pool of pictures, so do not keep
/// frames longer than a decision needs them.
#[derive(Clone)]
pub struct Frame {
    /// Who took it.
    pub camera: CameraId,
    /// When it was taken.
    pub captured: CaptureTime,
    /// Of which stream it is.
    pub stream: Stream,
    /// Presentation time stamp: time in that stream since its start. Never derived from a frame counter.
    pub pts: Duration,
    /// Full-resolution planes, as the decoder made them.
    pub full: SharedPicture,
    /// The same view scaled (each axis apart, nothing cropped, nothing padded) to the detector's input size, RGB or BGR.
    pub small: SharedPicture,
    /// Whether anything has changed in it.
    pub view: View,
}

impl Frame {
    /// Factors that carry x and y from `small` to `full`.
    pub fn small_to_full(&self) -> (f32, f32) {
        (
            self.full.width() as f32 / self.small.width() as f32,
            self.full.height() as f32 / self.small.height() as f32,
        )
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("camera", &self.camera)
            .field("captured", &self.captured)
            .field("pts", &self.pts)
            .field("size", &(self.full.width(), self.full.height()))
            .finish_non_exhaustive()
    }
}
