use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::StreamExt as _;
use gstreamer as gst;
use guiji_domain::{Camera, CameraState, StatusReason, Transport};
use retina::client::{
    Credentials, Described, PlayOptions, Session, SessionGroup, SessionOptions, SetupOptions,
    Stream, TeardownPolicy,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame};
use retina::rtcp::ReceivedCompoundPacket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use crate::failure::{Failure, not_authorised};
use crate::intake::Intake;
use crate::link::{Line, Progress};
use crate::mailbox::Event;
use crate::pipeline::Tail;
use crate::timeline::{Place, Timeline};
use crate::unit::{Codec, is_irap};

/// How long to wait for a TEARDOWN to be answered.
const TEARDOWN: Duration = Duration::from_millis(500);

/// One session of the client `retina`: a task that asks for the first stream we can decode and hands its access
/// units to the desk.
pub(crate) struct RtspClient {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl RtspClient {
    /// Begins. Trouble comes by the mailbox.
    ///
    /// # Errors
    /// When the address cannot be understood.
    pub(crate) fn start(
        line: &Arc<Line>,
        progress: &Arc<Progress>,
        tail: Tail,
    ) -> Result<Self, Failure> {
        let url = url_of(&line.camera)?;
        let reactor = line.shared.reactor().ok_or_else(|| {
            Failure::new(CameraState::Connecting, StatusReason::Other, "shutting down")
        })?;
        let (stop, stopped) = oneshot::channel();
        let ntp = gst::Caps::builder("timestamp/x-ntp").build();
        let (line, progress) = (Arc::clone(line), Arc::clone(progress));
        let conversation = Conversation { line, progress, tail, ntp };
        let ended = reactor.spawn(conversation.run(url, stopped));
        Ok(Self { stop, ended })
    }

    /// Says goodbye. Afterwards no unit comes any more.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.ended.await {
            tracing::error!(%error, "an RTSP session ended by a programming error");
        }
    }
}

fn url_of(camera: &Camera) -> Result<Url, Failure> {
    let url = Url::parse(camera.address.as_str()).ok();
    url.filter(|it| it.has_host() && it.scheme() == "rtsp").ok_or_else(|| {
        Failure::new(
            CameraState::Misconfigured,
            StatusReason::BadAddress,
            "the address cannot be understood: use rtsp://HOST[:PORT]/PATH",
        )
    })
}

struct Conversation {
    line: Arc<Line>,
    progress: Arc<Progress>,
    tail: Tail,
    /// Marks the camera's own time on a unit.
    ntp: gst::Caps,
}

impl Conversation {
    async fn run(self, url: Url, stopped: oneshot::Receiver<()>) {
        let group = Arc::new(SessionGroup::default());
        tokio::select! {
            _ = stopped => {}
            event = self.talk(url, &group) => self.line.mailbox.post(event),
        }
        // The session is dropped, and says goodbye on a task of its own.
        if !matches!(timeout(TEARDOWN, group.await_teardown()).await, Ok(Ok(()))) {
            tracing::debug!(camera = %self.line.camera.id, "no answer to TEARDOWN");
        }
    }

    /// Everything from the connection to its end.
    async fn talk(&self, url: Url, group: &Arc<SessionGroup>) -> Event {
        match self.play(url, group).await {
            Ok(()) => Event::EndOfStream,
            Err(failure) => Event::Failed(failure),
        }
    }

    async fn play(&self, url: Url, group: &Arc<SessionGroup>) -> Result<(), Failure> {
        let patience = self.line.settings.answer_timeout;
        let late = |_| {
            let detail = format!("no answer within {:.1} s", patience.as_secs_f64());
            Failure::new(CameraState::Connecting, StatusReason::Unreachable, detail)
        };
        let failed = |error| self.classify(&error);
        let options = self.session_options(group);
        let described = Session::describe(url, options);
        let mut session = timeout(patience, described).await.map_err(late)?.map_err(failed)?;
        self.progress.answered.store(true, Relaxed);
        let (number, codec) = self.choose(&session)?;
        let setup = session.setup(number, self.setup_options());
        timeout(patience, setup).await.map_err(late)?.map_err(failed)?;
        let clock_rate = session.streams().get(number).map_or(90_000, |it| it.clock_rate_hz());
        let play = session.play(PlayOptions::default());
        let session = timeout(patience, play).await.map_err(late)?.map_err(failed)?;
        let mut items = session.demuxed().map_err(failed)?;

        let mut intake = self.tail.intake(codec);
        let mut timeline = Timeline::new(clock_rate);
        while let Some(item) = items.next().await {
            match item.map_err(failed)? {
                CodecItem::VideoFrame(unit) => {
                    let unit = Received::of(unit, codec, items.streams().get(number));
                    self.take(unit, &mut timeline, &mut intake);
                }
                CodecItem::Rtcp(packet) if says_goodbye(&packet) => return Ok(()),
                CodecItem::Rtcp(packet) => hear_reports(&packet, &mut timeline),
                _ => {}
            }
        }
        Ok(())
    }

    fn session_options(&self, group: &Arc<SessionGroup>) -> SessionOptions {
        let login =
            self.line.camera.credentials.as_ref().map(|it| Credentials {
                username: it.username.clone(),
                password: it.password.clone(),
            });
        SessionOptions::default()
            .creds(login)
            .user_agent(concat!("guiji/", env!("CARGO_PKG_VERSION")).to_owned())
            .session_group(Arc::clone(group))
            .teardown(TeardownPolicy::Auto)
    }

    fn setup_options(&self) -> SetupOptions {
        let transport = match self.line.camera.transport {
            Transport::Tcp => retina::client::Transport::Tcp(Default::default()),
            Transport::Udp => retina::client::Transport::Udp(Default::default()),
        };
        SetupOptions::default().transport(transport).frame_format(FrameFormat::SIMPLE)
    }

    /// The first video stream that we decode. Audio and metadata are not even set up.
    fn choose(&self, session: &Session<Described>) -> Result<(usize, Codec), Failure> {
        for (number, stream) in session.streams().iter().enumerate() {
            if stream.media() != "video" {
                continue;
            }
            match Codec::of_encoding(stream.encoding_name()) {
                Some(codec) => return Ok((number, codec)),
                None => self.progress.found_foreign_codec(stream.encoding_name()),
            }
        }
        Err(Failure::no_video(self.progress.foreign_codec()))
    }

    fn take(&self, unit: Received, timeline: &mut Timeline, intake: &mut Intake) {
        let Received { data, elapsed, keyframe, lost } = unit;
        let place = timeline.place(elapsed);
        let data = self.buffer(data, &place, keyframe, lost);
        // A panic is reported like one of a callback of GStreamer; a desk that is closed wants no more.
        let taken = self.line.guarded(Ok(()), || intake.take(data, place.running));
        if taken.is_err() {
            tracing::trace!(camera = %self.line.camera.id, "a unit after the end");
        }
    }

    fn buffer(&self, data: Vec<u8>, place: &Place, keyframe: bool, lost: bool) -> gst::Buffer {
        let mut buffer = gst::Buffer::from_mut_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            if lost || place.broken {
                buffer.set_flags(gst::BufferFlags::DISCONT);
            }
            if !keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
            if let Some(ntp) = place.ntp {
                let time = gst::ClockTime::from_nseconds(ntp);
                gst::ReferenceTimestampMeta::add(buffer, &self.ntp, time, gst::ClockTime::NONE);
            }
        }
        buffer
    }

    fn classify(&self, error: &retina::Error) -> Failure {
        use CameraState::{Connecting, Misconfigured, Refused, Stalled};
        let text = error.to_string();
        // The first line says what happened; the others, which connection and packet.
        let said = self.line.redactor.clean(text.lines().next().unwrap_or_default());
        let failure =
            |state, reason, what: &str| Failure::new(state, reason, format!("{what}: {said}"));
        let unreachable = |what| failure(Connecting, StatusReason::Unreachable, what);
        match error.status_code() {
            Some(401 | 403 | 407) => return not_authorised(&failure),
            Some(404 | 410) => {
                let what = "the server knows no such stream";
                return failure(Misconfigured, StatusReason::NotFound, what);
            }
            Some(400..) => return failure(Refused, StatusReason::Other, "the server refused"),
            // A description that makes no sense, in an answer that says yes.
            Some(_) => return unreachable("the host does not answer as it should"),
            None => {}
        }
        if text.contains("\npkt: ") {
            return failure(Stalled, StatusReason::DecodeErrors, "what arrives makes no sense");
        }
        if self.progress.since_picture().is_some() {
            return failure(Connecting, StatusReason::Other, "the stream broke off");
        }
        if text.contains("lookup") {
            return unreachable("the host name cannot be resolved");
        }
        unreachable("the host does not answer as it should")
    }
}

/// A unit of a session.
struct Received {
    /// As [`Codec::units`] says.
    data: Vec<u8>,
    /// Ticks of the stream's clock since it began.
    elapsed: i64,
    keyframe: bool,
    /// Something was lost before it.
    lost: bool,
}

impl Received {
    /// `retina` takes no keyframe of an open H.265 group for one, and gives it no parameter sets.
    fn of(unit: VideoFrame, codec: Codec, stream: Option<&Stream>) -> Self {
        let elapsed = unit.timestamp().elapsed();
        let (known, lost) = (unit.is_random_access_point(), unit.loss() > 0);
        let mut data = unit.into_data();
        let opens = !known && codec == Codec::H265 && is_irap(&data);
        if opens && let Some(ParametersRef::Video(sets)) = stream.and_then(Stream::parameters) {
            data.splice(..0, sets.extra_data().iter().copied());
        }
        Self { data, elapsed, keyframe: known || opens, lost }
    }
}

/// Whether the server ends the stream (RFC 3550, section 6.6).
fn says_goodbye(packet: &ReceivedCompoundPacket) -> bool {
    const BYE: u8 = 203;
    packet.pkts().any(|it| it.payload_type() == BYE)
}

fn hear_reports(packet: &ReceivedCompoundPacket, timeline: &mut Timeline) {
    let Some(ticks) = packet.rtp_timestamp() else { return };
    for packet in packet.pkts() {
        if let Ok(Some(report)) = packet.as_sender_report() {
            timeline.report(report.ntp_timestamp().0, ticks.elapsed());
        }
    }
}
