use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use guiji_domain::{CameraState, Pace, StatusReason, Stream};

use crate::doorway::Pass;
use crate::failure::{Failure, Origin};
use crate::link::{Line, Progress};
use crate::mailbox::{Event, Wake};
use crate::pipeline::Pipeline;
use crate::report::Reporter;

/// How long a connection may keep its place among those that are being opened. One that takes longer goes on without.
const OPENING_MAX: Duration = Duration::from_secs(2);
/// How often is looked whether it stands.
const OPENING_BEAT: Duration = Duration::from_millis(50);

/// How a connection ended.
pub(crate) enum End {
    /// Its owner closed it.
    Closed,
    /// A recording was played to its end.
    Finished(StatusReason, String),
    /// Trouble; to be tried again.
    Failed(Failure),
}

/// One connection, from opening to its end.
pub(crate) struct Session<'a> {
    line: &'a Arc<Line>,
    progress: Arc<Progress>,
    pipeline: Pipeline,
    reporter: &'a mut Reporter,
    health: Health,
}

/// What is worth saying of a stream that delivers pictures.
#[derive(Default)]
struct Health {
    live: bool,
    resized: Option<String>,
    clock_refused: Option<i64>,
    last_damage: Option<Instant>,
}

impl<'a> Session<'a> {
    /// # Errors
    /// When the pipeline cannot even be built.
    pub(crate) fn open(line: &'a Arc<Line>, reporter: &'a mut Reporter) -> Result<Self, Failure> {
        let progress = Arc::new(Progress::new());
        let pipeline = Pipeline::build(line, &progress)?;
        Ok(Self { line, progress, pipeline, reporter, health: Health::default() })
    }

    /// Runs until it ends. Afterwards nothing of the connection runs any more. The pass is given back when the
    /// connection stands, or when it keeps others waiting for too long.
    ///
    /// Also says how long pictures came.
    pub(crate) async fn run(mut self, pass: Pass) -> (End, Duration) {
        self.pipeline.play();
        let mut live_since = None;
        let mut pass = Some(pass);
        let end = loop {
            let beat = if pass.is_some() { OPENING_BEAT } else { self.heartbeat() };
            match self.line.mailbox.wait_until(Instant::now() + beat).await {
                Wake::Closing => break End::Closed,
                Wake::Event(event) => {
                    if let Some(end) = self.handle(event) {
                        break end;
                    }
                }
                Wake::Timeout => {}
            }
            if self.health.live && live_since.is_none() {
                live_since = Some(Instant::now());
            }
            if let Some(failure) = self.overdue() {
                break End::Failed(failure);
            }
            self.calm_down();
            let opening = !self.progress.chosen.load(Relaxed);
            pass = pass.filter(|_| opening && self.progress.since_start() < OPENING_MAX);
        };
        drop(pass);
        self.pipeline.stop().await;
        (end, live_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// Often enough for the shortest timeout to be off by a quarter, seldom enough to cost nothing.
    fn heartbeat(&self) -> Duration {
        let settings = &self.line.settings;
        settings
            .answer_timeout
            .min(settings.silence_timeout)
            .min(settings.keyframe_timeout)
            .min(settings.degraded_for)
            .div_f64(4.0)
            .clamp(Duration::from_millis(20), Duration::from_secs(2))
    }

    fn handle(&mut self, event: Event) -> Option<End> {
        match event {
            Event::FirstPicture => self.health.live = true,
            Event::Resized(before, now) => {
                self.health.resized =
                    Some(format!("from {}x{} to {}x{}", before.0, before.1, now.0, now.1));
            }
            Event::Damage => {
                self.progress.damage_posted.store(false, Relaxed);
                self.health.last_damage = Some(Instant::now());
            }
            Event::ClockJudged(refused) => self.health.clock_refused = refused,
            Event::SubstreamJudged => {}
            Event::EndOfStream => return Some(self.ended()),
            Event::Failed(failure) => return Some(self.broke_off(failure)),
            Event::Panicked(text) => {
                let text = self.line.redactor.clean(&text);
                let count = self.line.tally.panics.load(Relaxed);
                return Some(End::Failed(Failure::new(
                    CameraState::Connecting,
                    StatusReason::Panicked,
                    format!("a programming error, number {count} of this camera: {text}"),
                )));
            }
        }
        self.tell_health();
        None
    }

    fn tell_health(&mut self) {
        if !self.health.live {
            return;
        }
        let mut details = Vec::new();
        if let Some(sizes) = &self.health.resized {
            details.push(format!("the picture size changed {sizes}"));
        }
        if let Some(behind) = self.health.clock_refused {
            details.push(clock_text(behind));
        }
        let substream = match (self.line.stream, &self.line.sentinel) {
            (Stream::Main, Some(sentinel)) => sentinel.trouble(),
            _ => None,
        };
        if let Some((reason, detail)) = &substream {
            details.insert(
                0,
                format!("the main stream watches in place of the substream ({reason}: {detail})"),
            );
        }
        let (state, reason) = if self.health.last_damage.is_some() {
            details.insert(0, "pictures are damaged or missing".to_owned());
            (CameraState::Degraded, Some(StatusReason::DecodeErrors))
        } else if let Some((reason, _)) = substream {
            (CameraState::Degraded, Some(reason))
        } else if self.health.clock_refused.is_some() {
            (CameraState::Live, Some(StatusReason::ClockWrong))
        } else if self.health.resized.is_some() {
            (CameraState::Live, Some(StatusReason::ResolutionChanged))
        } else {
            (CameraState::Live, None)
        };
        self.reporter.now(state, reason, &details.join("; "));
    }

    fn calm_down(&mut self) {
        let calm = |last: Instant| last.elapsed() >= self.line.settings.degraded_for;
        if self.health.last_damage.is_some_and(calm) {
            self.health.last_damage = None;
            self.tell_health();
        }
    }

    /// The watchdog: what should have happened by now and has not.
    fn overdue(&self) -> Option<Failure> {
        let (settings, progress) = (&self.line.settings, &self.progress);
        // A sink that blocks holds up the camera, not the other way round; a file is as fast as its disk once it was
        // understood.
        let file_plays = self.pipeline.origin() == Origin::File && progress.since_unit().is_some();
        if file_plays || progress.delivering.load(Relaxed) {
            return None;
        }
        let stalled =
            |reason, detail: String| Some(Failure::new(CameraState::Stalled, reason, detail));
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let Some(silent) = progress.since_unit() else {
            return self.nothing_yet(progress.since_start());
        };
        if silent > settings.silence_timeout {
            return stalled(StatusReason::Silence, format!("nothing came for {}", seconds(silent)));
        }
        let since_first = progress.since_first_unit()?;
        if progress.since_key().unwrap_or(since_first) > settings.keyframe_timeout {
            let detail =
                format!("units come, but no keyframe for {}", seconds(settings.keyframe_timeout));
            return stalled(StatusReason::NoKeyframe, detail);
        }
        if progress.since_fed_in_vain().is_some_and(|it| it > settings.keyframe_timeout) {
            let detail =
                format!("no picture could be decoded for {}", seconds(settings.keyframe_timeout));
            return stalled(StatusReason::DecodeErrors, detail);
        }
        None
    }

    /// What it means that no unit came for so long.
    fn nothing_yet(&self, waited: Duration) -> Option<Failure> {
        // GStreamer's own timeout for an answer comes first, with better words.
        if waited < self.line.settings.answer_timeout.mul_f64(1.5) {
            return None;
        }
        let seconds = waited.as_secs_f64();
        let (answered, chosen) =
            (self.progress.answered.load(Relaxed), self.progress.chosen.load(Relaxed));
        Some(match self.pipeline.origin() {
            // parsebin swallows a demuxer's error that comes while the demuxer is being put in.
            Origin::File if !chosen => Failure::no_video(self.progress.foreign_codec()),
            _ if !answered => Failure::new(
                CameraState::Connecting,
                StatusReason::Unreachable,
                format!("no answer within {seconds:.1} s"),
            ),
            _ => Failure::new(
                CameraState::Stalled,
                StatusReason::Silence,
                format!("connected, but nothing came in {seconds:.1} s"),
            ),
        })
    }

    fn ended(&self) -> End {
        let recording = match self.pipeline.origin() {
            Origin::File => true,
            Origin::Rtsp => false,
            Origin::Http => {
                self.line.camera.pace == Pace::AsFastAsPossible || self.pipeline.has_duration()
            }
        };
        if !recording {
            return End::Failed(Failure::new(
                CameraState::Connecting,
                StatusReason::EndOfStream,
                "the server ended the stream",
            ));
        }
        if self.progress.since_picture().is_some() {
            return End::Finished(StatusReason::EndOfStream, "played to its end".to_owned());
        }
        End::Failed(match (self.progress.since_first_unit(), self.progress.since_key()) {
            (None, _) => Failure::no_video(self.progress.foreign_codec()),
            (Some(_), None) => Failure::new(
                CameraState::Misconfigured,
                StatusReason::NoKeyframe,
                "the recording has no keyframe",
            ),
            (Some(_), Some(_)) => Failure::new(
                CameraState::Misconfigured,
                StatusReason::DecodeErrors,
                "no picture of the recording can be decoded",
            ),
        })
    }

    /// A recording that breaks off after pictures came has ended: beginning anew would deliver them twice.
    fn broke_off(&self, failure: Failure) -> End {
        if self.pipeline.origin() == Origin::File && self.progress.since_picture().is_some() {
            let detail = format!("the recording is damaged and breaks off: {}", failure.detail);
            return End::Finished(StatusReason::DecodeErrors, detail);
        }
        End::Failed(failure)
    }
}

fn clock_text(behind: i64) -> String {
    let seconds = behind.unsigned_abs() / 1_000_000_000;
    let amount = match seconds {
        0..=7_200 => format!("{seconds} s"),
        7_201..=172_800 => format!("{} h", (seconds + 1_800) / 3_600),
        _ => format!("{} days", (seconds + 43_200) / 86_400),
    };
    let direction = if behind > 0 { "behind" } else { "ahead of" };
    format!(
        "capture times are those of arrival, for the camera's clock is {amount} {direction} ours"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_in_words() {
        assert!(clock_text(-8 * 3_600_000_000_000 + 90_000_000).contains("is 8 h ahead of ours"));
        assert!(clock_text(57 * 365 * 86_400_000_000_000).contains("is 20805 days behind ours"));
        assert!(clock_text(11_000_000_000).contains("is 11 s behind ours"));
    }
}
