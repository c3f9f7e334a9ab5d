use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use guiji_domain::{
    CameraId, CameraState, CameraStatus, CaptureTime, Frame, FrameSink, Picture, StatusReason,
    Stream, Timestamp, View,
};

use crate::link::Line;
use crate::mailbox::Event;

/// The watch that a camera's substream keeps in place of the main stream, while nothing is there.
///
/// The substream is a stream like any other, with a supervisor, a desk and a gate of its own (policy `motion`); this is
/// its sink. While it stands and the main stream sleeps, the main stream's gate is relieved: its units are only kept. What the
/// substream shows goes to the camera's sink; where something has changed, as a question. When the answer is that a
/// vehicle is there, the main stream wakes, from the last moment at which there was none, and the substream rests until
/// the main stream sleeps again. The two are aligned by capture time.
///
/// When the substream fails, falls silent or freezes, the main stream watches by itself at once, and the camera says so.
#[derive(Default)]
pub(crate) struct Sentinel {
    watch: Mutex<Watch>,
    main: OnceLock<Weak<Line>>,
    substream: OnceLock<Weak<Line>>,
    /// Held while both are told who watches, so that what is told last is what holds.
    telling: Mutex<()>,
}

/// What is known of the substream, and who watches.
#[derive(Debug)]
struct Watch {
    link: Link,
    /// When its last unit came.
    heard: Option<Instant>,
    /// None came for [`LATE`].
    late: bool,
    stillness: Stillness,
    main_awake: bool,
    /// Up to when the main stream saw the view.
    main_saw: Timestamp,
    /// The latest moment at which the substream showed nothing, or nothing new.
    clear: Option<Timestamp>,
}

#[derive(Debug)]
enum Link {
    /// Being opened for the first time.
    Opening,
    /// Pictures come.
    Up,
    /// For this reason, and in these words, none come.
    Down(StatusReason, String),
}

/// The main stream's units go on and none of the substream's came for so long: do not wait for its watchdog.
const LATE: Duration = Duration::from_secs(2);
/// The main stream is not decoded further back than this before the vehicle was seen.
const BACK_MAX: Duration = Duration::from_secs(4);
/// What is older than what was seen by so much belongs to another time.
const BREAK: Duration = Duration::from_secs(30);

impl Default for Watch {
    fn default() -> Self {
        Self {
            link: Link::Opening,
            heard: None,
            late: false,
            stillness: Stillness::default(),
            main_awake: false,
            main_saw: Timestamp::MIN,
            clear: None,
        }
    }
}

impl Watch {
    /// Whether the substream watches, or could if the main stream slept.
    fn stands(&self) -> bool {
        matches!(self.link, Link::Up) && self.trouble().is_none()
    }

    /// Why it does not, where that is a fault.
    fn trouble(&self) -> Option<(StatusReason, String)> {
        match &self.link {
            Link::Down(reason, detail) => Some((*reason, detail.clone())),
            Link::Up if self.late => {
                let detail = format!("nothing came for {:.0} s", LATE.as_secs_f64());
                Some((StatusReason::Silence, detail))
            }
            Link::Up if self.stillness.frozen => {
                let detail = "the same picture comes again and again".to_owned();
                Some((StatusReason::Frozen, detail))
            }
            Link::Up | Link::Opening => None,
        }
    }

    fn says(&mut self, status: &CameraStatus) {
        self.link = match (status.state, status.reason) {
            (CameraState::Live | CameraState::Degraded, _) => Link::Up,
            (_, Some(reason)) => Link::Down(reason, status.detail.clone()),
            (_, None) => return, // being opened
        };
        self.late = false;
        if !matches!(self.link, Link::Up) {
            self.stillness = Stillness::default();
        }
    }

    fn heard(&mut self, stream: Stream, now: Instant) {
        match stream {
            Stream::Substream => {
                self.heard = Some(now);
                self.late = false;
            }
            Stream::Main => {
                let silent = self.heard.map(|heard| now.saturating_duration_since(heard));
                self.late = matches!(self.link, Link::Up) && silent.is_some_and(|it| it > LATE);
            }
        }
    }

    /// A picture of the substream: as what it goes to the camera's sink.
    fn shown(&mut self, captured: CaptureTime, view: View, fingerprint: u64) -> Option<View> {
        self.stillness.look(captured.at, fingerprint);
        if captured.at.plus(BREAK) < self.seen() {
            (self.main_saw, self.clear) = (Timestamp::MIN, None); // the camera's clock was set back
        }
        if !self.stands() || self.main_awake || captured.at <= self.main_saw {
            return None;
        }
        if view == View::Usual {
            self.is_clear(captured.at);
            return Some(View::Usual);
        }
        Some(View::Asked)
    }

    fn is_clear(&mut self, at: Timestamp) {
        self.clear = Some(self.clear.map_or(at, |clear| clear.max(at)));
    }

    /// The detector found so many vehicles that are new or move in such a picture. From when on the main stream is to be
    /// decoded, if it is.
    fn answered(&mut self, captured: CaptureTime, vehicles: usize) -> Option<Timestamp> {
        if vehicles == 0 {
            self.is_clear(captured.at);
            return None;
        }
        let wakes = self.stands() && captured.at > self.main_saw;
        let earliest = captured.at.minus(BACK_MAX).max(self.main_saw);
        wakes.then(|| self.clear.map_or(earliest, |clear| clear.clamp(earliest, captured.at)))
    }

    /// Up to when somebody has seen the view.
    fn seen(&self) -> Timestamp {
        self.clear.map_or(self.main_saw, |clear| clear.max(self.main_saw))
    }
}

/// Whether a stream shows the same picture again and again: a sensor has noise, a frozen picture has none.
#[derive(Debug, Default)]
struct Stillness {
    /// The last picture, since when it is the same, and how often it was.
    last: Option<(u64, Timestamp)>,
    times: u32,
    frozen: bool,
}

/// So often, and for so long.
const STILL_TIMES: u32 = 4;
const STILL_FOR: Duration = Duration::from_secs(30);

impl Stillness {
    fn look(&mut self, at: Timestamp, fingerprint: u64) {
        match self.last {
            Some((last, since)) if last == fingerprint => {
                self.times += 1;
                self.frozen = self.times >= STILL_TIMES && at.since(since) >= STILL_FOR;
            }
            _ => {
                self.last = Some((fingerprint, at));
                (self.times, self.frozen) = (1, false);
            }
        }
    }
}

fn fingerprint(picture: &dyn Picture) -> u64 {
    let mut hasher = DefaultHasher::new();
    picture.plane(0).hash(&mut hasher);
    hasher.finish()
}

impl Sentinel {
    /// Of these two.
    pub(crate) fn post(&self, main: &Arc<Line>, substream: &Arc<Line>) {
        self.main.get_or_init(|| Arc::downgrade(main));
        self.substream.get_or_init(|| Arc::downgrade(substream));
    }

    /// Why the substream does not watch, where that is a fault.
    pub(crate) fn trouble(&self) -> Option<(StatusReason, String)> {
        self.lock().trouble()
    }

    /// Whether the substream watches while the main stream sleeps.
    pub(crate) fn watches(&self) -> bool {
        self.lock().stands()
    }

    /// A unit of one of the two came.
    pub(crate) fn heard(&self, stream: Stream) {
        self.change(|watch| watch.heard(stream, Instant::now()));
    }

    /// A connection of one of the two begins.
    pub(crate) fn seated(&self, stream: Stream) {
        if stream == Stream::Main {
            self.lock().main_awake = false;
        }
        self.tell();
    }

    /// The main stream woke, or fell asleep, and has seen the view until then.
    pub(crate) fn main_is(&self, awake: bool, saw: Option<Timestamp>) {
        let mut watch = self.lock();
        watch.main_awake = awake;
        watch.main_saw = saw.map_or(watch.main_saw, |saw| saw.max(watch.main_saw));
        drop(watch);
        self.tell();
    }

    /// So many vehicles that are new or move were found in a picture of the substream.
    pub(crate) fn answered(&self, captured: CaptureTime, vehicles: usize) {
        let Some(clear) = self.lock().answered(captured, vehicles) else { return };
        if let Some(desk) = self.main().and_then(|line| line.desk()) {
            desk.wake_for(captured, clear);
        }
    }

    /// The substream's supervisor is gone: nobody opens it again.
    pub(crate) fn lost(&self, detail: String) {
        self.change(|watch| watch.link = Link::Down(StatusReason::Panicked, detail));
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn main(&self) -> Option<Arc<Line>> {
        self.main.get().and_then(Weak::upgrade)
    }

    /// Changes what is known, and tells whoever it concerns.
    fn change<T>(&self, change: impl FnOnce(&mut Watch) -> T) -> T {
        let mut watch = self.lock();
        let before = (watch.stands(), watch.trouble().map(|(reason, _)| reason));
        let value = change(&mut watch);
        let now = (watch.stands(), watch.trouble().map(|(reason, _)| reason));
        drop(watch);
        if now != before {
            self.tell();
            if let Some(main) = self.main() {
                main.mailbox.post(Event::SubstreamJudged);
            }
        }
        value
    }

    /// Tells both who watches.
    fn tell(&self) {
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let (stands, rests, seen, main_saw) = {
            let watch = self.lock();
            (watch.stands(), watch.stands() && watch.main_awake, watch.seen(), watch.main_saw)
        };
        if let Some(desk) = self.main().and_then(|line| line.desk()) {
            desk.relieve(stands, seen);
        }
        let substream = self.substream.get().and_then(Weak::upgrade);
        if let Some(desk) = substream.and_then(|line| line.desk()) {
            if rests { desk.rest() } else { desk.relieve(false, main_saw) }
        }
    }
}

impl FrameSink for Sentinel {
    fn frame(&self, frame: Frame) {
        let Some(main) = self.main() else { return };
        let fingerprint = fingerprint(frame.small.as_ref());
        // What the main stream cannot follow need not be seen: its failure is the camera's.
        let followed = main.desk().is_some_and(|desk| desk.receives());
        let shown = self.change(|watch| watch.shown(frame.captured, frame.view, fingerprint));
        let Some(view) = shown.filter(|_| followed) else { return };
        if let Err(panic) = main.outlet.frame(Frame { view, ..frame }) {
            resume_unwind(Box::new(panic)); // to be reported where the substream's work is guarded
        }
    }

    fn has_room(&self) -> bool {
        self.main().is_none_or(|main| main.outlet.has_room())
    }

    fn status(&self, _: &CameraId, status: CameraStatus) {
        self.change(|watch| watch.says(&status));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::ClockSource;

    fn at(ms: i64) -> CaptureTime {
        CaptureTime {
            at: Timestamp::from_millis(ms),
            uncertainty: Duration::from_millis(50),
            source: ClockSource::Rtcp,
        }
    }

    fn status(state: CameraState, reason: Option<StatusReason>) -> CameraStatus {
        let (since, detail) = (Timestamp::EPOCH, "words".to_owned());
        CameraStatus { state, since, reason, detail, retry_at: None }
    }

    fn standing() -> Watch {
        let mut watch = Watch::default();
        watch.says(&status(CameraState::Live, None));
        watch
    }

    /// No two pictures are alike.
    fn shown(watch: &mut Watch, ms: i64, view: View) -> Option<View> {
        watch.shown(at(ms), view, ms as u64)
    }

    #[test]
    fn a_vehicle_wakes_the_main_stream_from_when_there_was_none() {
        let mut watch = standing();
        assert_eq!(shown(&mut watch, 1000, View::Usual), Some(View::Usual));
        assert_eq!(shown(&mut watch, 3000, View::Usual), Some(View::Usual));
        assert_eq!(shown(&mut watch, 3250, View::Changed), Some(View::Asked));
        assert_eq!(watch.answered(at(3250), 1), Some(at(3000).at));
        // What had no vehicle in it is clear, too, however changed it is.
        let mut watch = standing();
        for ms in [3250, 3500] {
            assert_eq!(shown(&mut watch, ms, View::Changed), Some(View::Asked));
            assert_eq!(watch.answered(at(ms), 0), None);
        }
        assert_eq!(watch.answered(at(3750), 1), Some(at(3500).at));
        assert_eq!(watch.answered(at(60_000), 1), Some(at(56_000).at), "not for ever");
    }

    #[test]
    fn while_the_main_stream_is_awake_and_of_what_it_saw_nothing_is_shown() {
        let mut watch = standing();
        watch.main_awake = true;
        assert_eq!(shown(&mut watch, 1000, View::Changed), None);
        (watch.main_awake, watch.main_saw) = (false, at(2000).at);
        assert_eq!(shown(&mut watch, 1500, View::Changed), None);
        assert_eq!(watch.answered(at(1500), 1), None, "a late answer");
        assert_eq!(shown(&mut watch, 2040, View::Changed), Some(View::Asked));
        assert_eq!(watch.answered(at(2040), 1), Some(at(2000).at));
    }

    #[test]
    fn a_clock_set_back_blinds_nobody() {
        let mut watch = standing();
        watch.main_saw = at(7_200_000).at;
        assert_eq!(shown(&mut watch, 1000, View::Changed), Some(View::Asked));
        assert_eq!(watch.answered(at(1000), 1), Some(at(-3000).at));
    }

    #[test]
    fn every_fault_has_a_name_and_being_opened_is_none() {
        let mut watch = Watch::default();
        watch.says(&status(CameraState::Connecting, None));
        assert!(!watch.stands() && watch.trouble().is_none());
        watch.says(&status(CameraState::Refused, Some(StatusReason::NotAuthorised)));
        assert_eq!(watch.trouble().unwrap().0, StatusReason::NotAuthorised);
        watch.says(&status(CameraState::Degraded, Some(StatusReason::DecodeErrors)));
        assert!(watch.stands(), "worse pictures are pictures");
    }

    #[test]
    fn silence_is_noticed_by_the_units_of_the_other_stream() {
        let (mut watch, start) = (standing(), Instant::now());
        watch.heard(Stream::Substream, start);
        watch.heard(Stream::Main, start + LATE);
        assert!(watch.stands());
        watch.heard(Stream::Main, start + LATE + Duration::from_millis(40));
        assert!(!watch.stands());
        assert_eq!(watch.trouble().unwrap().0, StatusReason::Silence);
        watch.heard(Stream::Substream, start + LATE * 2);
        assert!(watch.stands());
    }

    #[test]
    fn a_frozen_picture_is_no_watch_until_it_moves() {
        let mut watch = standing();
        for second in 0..30 {
            assert!(watch.shown(at(second * 1000), View::Usual, 7).is_some(), "{second}");
        }
        assert_eq!(watch.shown(at(30_000), View::Usual, 7), None);
        assert_eq!(watch.trouble().unwrap().0, StatusReason::Frozen);
        assert!(watch.shown(at(31_000), View::Usual, 8).is_some());
        assert!(watch.stands());
    }
}
