use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_rtsp as gst_rtsp;
use guiji_domain::{Camera, CameraState, ClockSource, Pace, StatusReason, Transport};

use crate::RtspReceiver;
use crate::capture_clock::{CaptureClock, LiveClock};
use crate::desk::Desk;
use crate::failure::{Failure, Origin, classify};
use crate::gate::Gate;
use crate::intake::Intake;
use crate::link::{Line, Progress};
use crate::mailbox::Event;
use crate::rtsp_client::RtspClient;
use crate::shared::wait_here;
use crate::unit::Codec;

/// Error of a start time that a person states: they say it to the second.
const STATED_ERROR: Duration = Duration::from_secs(1);
/// Picture to arrival over RTSP: exposure, encoding, network, and what a relay holds back. Taken for a recording of
/// unknown time, too, which counts as captured while it is played.
const LIVE_ARRIVAL_ERROR: Duration = Duration::from_millis(500);
/// Picture to arrival over HTTP: players' protocols hold back three segments of several seconds.
const HTTP_ARRIVAL_ERROR: Duration = Duration::from_secs(20);
/// How long to wait for a TEARDOWN to leave.
const TEARDOWN: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// The elements of one connection. Dropping it stops all its threads.
///
/// ```text
/// rtspsrc ! depay                 \
/// filesrc | souphttpsrc ! parsebin / ! parse ! appsink -> intake -> desk
///                                         retina client -> intake -> desk
/// ```
///
/// From `parse` on it is built when the source tells what it holds. It receives and nothing else: one thread runs
/// from the source's queue through to the desk, which has the units decoded elsewhere. Behind `retina` there are no
/// elements at all, and no threads: a task takes the place of all that.
pub(crate) struct Pipeline {
    pipeline: gst::Pipeline,
    desk: Arc<Desk>,
    origin: Origin,
    client: Option<RtspClient>,
}

impl Pipeline {
    /// Everything wired, nothing running.
    pub(crate) fn build(line: &Arc<Line>, progress: &Arc<Progress>) -> Result<Self, Failure> {
        let origin = origin_of(&line.camera);
        let pipeline = gst::Pipeline::new();
        // What waits for a slow sink must not hold up a thread that live cameras need.
        let whole = line.camera.pace == Pace::AsFastAsPossible;
        let pool = (!whole).then(|| Arc::clone(&line.pool));
        let learnt = line.recall();
        let gate = Gate::new(line.camera.policy, line.settings.ring())
            .heeding_sizes(line.settings.heed_sizes)
            .glimpsing(line.settings.glimpse)
            .turning_away(line.settings.turn_away)
            .seeing_within(line.settings.blind_max)
            .recalling(learnt.sizes, learnt.experience);
        let desk = Desk::new(line, progress, gate, learnt.views, pool);
        line.seat(&desk);
        let mut this = Self { pipeline, desk, origin, client: None };
        this.listen(line, progress)?;
        let tail = Tail {
            pipeline: this.pipeline.downgrade(),
            line: Arc::clone(line),
            progress: Arc::clone(progress),
            desk: Arc::clone(&this.desk),
            origin,
        };
        match origin {
            Origin::Rtsp if by_retina(line) => {
                this.client = Some(RtspClient::start(line, progress, tail)?);
            }
            Origin::Rtsp => this.add_rtsp(line, progress, tail)?,
            Origin::Http | Origin::File => this.add_bytes(line, tail)?,
        }
        Ok(this)
    }

    /// Begins. Trouble comes by the mailbox.
    pub(crate) fn play(&self) {
        if let Err(error) = self.pipeline.set_state(gst::State::Playing) {
            // The element that refused has posted why.
            tracing::debug!(%error, "pipeline refuses to play");
        }
    }

    /// Ends it and all its threads.
    pub(crate) async fn stop(mut self) {
        if let Some(client) = self.client.take() {
            client.stop().await;
        }
        wait_here(|| drop(self));
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether the source knows its length, so that it is a recording.
    pub(crate) fn has_duration(&self) -> bool {
        self.pipeline.query_duration::<gst::ClockTime>().is_some()
    }

    fn listen(&self, line: &Arc<Line>, progress: &Arc<Progress>) -> Result<(), Failure> {
        let bus = self.pipeline.bus().ok_or_else(|| internal("a pipeline has no bus"))?;
        let (line, progress, origin) = (Arc::clone(line), Arc::clone(progress), self.origin);
        bus.set_sync_handler(move |_, message| {
            line.guarded((), || hear(message, origin, &line, &progress));
            gst::BusSyncReply::Drop
        });
        Ok(())
    }

    fn add_rtsp(
        &self,
        line: &Arc<Line>,
        progress: &Arc<Progress>,
        tail: Tail,
    ) -> Result<(), Failure> {
        let (camera, settings) = (&line.camera, &line.settings);
        let address = camera.address.as_str();
        if gst_rtsp::RTSPUrl::parse(address).1.is_none() {
            return Err(Failure::new(
                CameraState::Misconfigured,
                StatusReason::BadAddress,
                "the address cannot be understood: use rtsp://HOST[:PORT]/PATH",
            ));
        }
        let (protocols, latency) = match camera.transport {
            Transport::Tcp => (gst_rtsp::RTSPLowerTrans::TCP, settings.jitter_tcp),
            Transport::Udp => (gst_rtsp::RTSPLowerTrans::UDP, settings.jitter_udp),
        };
        let source = make("rtspsrc")?;
        source.set_property("location", address);
        source.set_property("protocols", protocols);
        source.set_property("latency", latency.as_millis() as u32);
        source.set_property("drop-on-latency", true);
        source.set_property_from_str("buffer-mode", "slave");
        source.set_property("do-rtsp-keep-alive", true);
        source.set_property("tcp-timeout", settings.answer_timeout.as_micros() as u64);
        source.set_property("timeout", settings.answer_timeout.as_micros() as u64);
        source.set_property("teardown-timeout", TEARDOWN.nseconds());
        source.set_property("add-reference-timestamp-meta", true);
        source.set_property("user-agent", concat!("guiji/", env!("CARGO_PKG_VERSION")));
        log_in(&source, camera);

        // Audio and metadata are not even set up: that is half of the packets of many a camera.
        let (selecting, selected) = (Arc::clone(line), Arc::clone(progress));
        source.connect("select-stream", false, move |values| {
            let chosen = selecting.guarded(false, || select(values, &selected));
            Some(chosen.to_value())
        });
        let guard = Arc::clone(line);
        source.connect_pad_added(move |_, pad| {
            guard.guarded((), || {
                let codec = structure_of(pad).and_then(|it| Codec::of_rtp(&it));
                if let Some(codec) = codec {
                    tail.attach(pad, codec, Some(codec.depay()));
                }
            });
        });
        add_all(&self.pipeline, &[&source])
    }

    fn add_bytes(&self, line: &Arc<Line>, tail: Tail) -> Result<(), Failure> {
        let camera = &line.camera;
        let source = match self.origin {
            Origin::Http => {
                let source = make("souphttpsrc")?;
                source.set_property("location", camera.address.as_str());
                let seconds = line.settings.answer_timeout.as_secs().max(1);
                source.set_property("timeout", seconds as u32);
                source.set_property("retries", 0i32);
                log_in(&source, camera);
                source
            }
            Origin::File | Origin::Rtsp => {
                let source = make("filesrc")?;
                source.set_property("location", file_path(camera)?);
                source
            }
        };
        let parse = make("parsebin")?;
        let tail = Arc::new(tail);
        let (guard, on_pad) = (Arc::clone(line), Arc::clone(&tail));
        parse.connect_pad_added(move |_, pad| {
            guard.guarded((), || on_pad.take_parsed(pad));
        });
        // Whichever comes first: all streams are known, or a short file is read through.
        for signal in ["no-more-pads", "drained"] {
            let (guard, tail) = (Arc::clone(line), Arc::clone(&tail));
            parse.connect(signal, false, move |_| {
                guard.guarded((), || tail.complete());
                None
            });
        }
        add_all(&self.pipeline, &[&source, &parse])?;
        source.link(&parse).map_err(internal)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.desk.close(); // first, for a receiving thread may be waiting in it
        if let Err(error) = self.pipeline.set_state(gst::State::Null) {
            tracing::warn!(%error, "pipeline does not stop");
        }
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

/// What is built when the source has told what it holds.
pub(crate) struct Tail {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    line: Arc<Line>,
    progress: Arc<Progress>,
    desk: Arc<Desk>,
    origin: Origin,
}

impl Tail {
    /// A stream that `parsebin` found.
    fn take_parsed(&self, pad: &gst::Pad) {
        self.progress.answered.store(true, Relaxed);
        let Some(structure) = structure_of(pad) else { return };
        let name = structure.name().as_str();
        match Codec::of_parsed(name) {
            Some(codec) => self.attach(pad, codec, None),
            None if name.starts_with("video/") || name.starts_with("image/") => {
                self.progress.found_foreign_codec(name);
            }
            None => {}
        }
    }

    /// There is nothing more to be found.
    fn complete(&self) {
        if !self.progress.chosen.load(Relaxed) {
            let failure = Failure::no_video(self.progress.foreign_codec());
            self.line.mailbox.post(Event::Failed(failure));
        }
    }

    /// Takes the first stream; further ones (a second view in the same file) stay unlinked.
    fn attach(&self, pad: &gst::Pad, codec: Codec, depay: Option<&'static str>) {
        if self.progress.chosen.swap(true, Relaxed) {
            return;
        }
        if let Err(failure) = self.build(pad, codec, depay) {
            self.line.mailbox.post(Event::Failed(failure));
        }
    }

    /// Where units go that do not come from an element.
    pub(crate) fn intake(&self, codec: Codec) -> Intake {
        self.progress.chosen.store(true, Relaxed);
        Intake::new(&self.line, &self.progress, &self.desk, codec, self.capture_clock())
    }

    fn build(
        &self,
        pad: &gst::Pad,
        codec: Codec,
        depay: Option<&'static str>,
    ) -> Result<(), Failure> {
        let pipeline = self.pipeline.upgrade().ok_or_else(|| internal("the pipeline is gone"))?;
        let depay = depay.map(make).transpose()?;
        let parse = make(codec.parser())?;
        parse.set_property("config-interval", -1i32); // parameter sets with every keyframe
        let sink = self.sink(codec);

        let elements: Vec<&gst::Element> =
            depay.iter().chain([&parse, sink.upcast_ref()]).collect();
        add_all(&pipeline, &elements)?;
        gst::Element::link_many(elements.iter().copied()).map_err(internal)?;
        self.intake(codec).attach(&sink);

        for element in elements.iter().rev() {
            element.sync_state_with_parent().map_err(internal)?;
        }
        let first = elements.first().ok_or_else(|| internal("an empty pipeline"))?;
        pad.link(&static_pad(first, "sink")?).map_err(internal)?;
        Ok(())
    }

    /// Where the units leave the framework. A recording is played at its own speed here, unless it is wanted as fast
    /// as possible.
    fn sink(&self, codec: Codec) -> gst_app::AppSink {
        let whole = self.line.camera.pace == Pace::AsFastAsPossible;
        let sink = gst_app::AppSink::builder()
            .caps(&codec.units())
            .sync(self.origin != Origin::Rtsp && !whole)
            .max_buffers(1)
            .build();
        sink.set_property("qos", false); // nothing before it is to leave out units by itself
        sink.set_property("enable-last-sample", false); // it would pin a unit
        sink
    }

    fn capture_clock(&self) -> CaptureClock {
        let (camera, settings) = (&self.line.camera, &self.line.settings);
        let live =
            |error| CaptureClock::Live(LiveClock::new(error, settings.clock_disagreement_max));
        match (self.origin, camera.recorded_at) {
            (Origin::Rtsp, _) => live(LIVE_ARRIVAL_ERROR),
            (Origin::File | Origin::Http, Some(start)) => CaptureClock::Fixed {
                start,
                uncertainty: STATED_ERROR,
                source: ClockSource::Stated,
            },
            (Origin::Http, None) => live(HTTP_ARRIVAL_ERROR),
            (Origin::File, None) => CaptureClock::Fixed {
                start: self.line.clock.now(),
                uncertainty: LIVE_ARRIVAL_ERROR,
                source: ClockSource::Arrival,
            },
        }
    }
}

impl Codec {
    fn of_rtp(structure: &gst::Structure) -> Option<Self> {
        structure.get::<&str>("encoding-name").ok().and_then(Self::of_encoding)
    }

    /// By the encoding name of an SDP description (RFC 8866, section 6.6), which has no case.
    pub(crate) fn of_encoding(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("H264") {
            Some(Self::H264)
        } else if name.eq_ignore_ascii_case("H265") {
            Some(Self::H265)
        } else {
            None
        }
    }

    fn of_parsed(name: &str) -> Option<Self> {
        match name {
            "video/x-h264" => Some(Self::H264),
            "video/x-h265" => Some(Self::H265),
            _ => None,
        }
    }

    fn depay(self) -> &'static str {
        match self {
            Self::H264 => "rtph264depay",
            Self::H265 => "rtph265depay",
        }
    }

    fn parser(self) -> &'static str {
        match self {
            Self::H264 => "h264parse",
            Self::H265 => "h265parse",
        }
    }
}

/// What is to be done about a message.
fn hear(message: &gst::Message, origin: Origin, line: &Line, progress: &Progress) {
    match message.view() {
        gst::MessageView::Eos(_) => line.mailbox.post(Event::EndOfStream),
        gst::MessageView::Error(it) => {
            let debug = it.debug();
            let failure = classify(origin, &it.error(), debug.as_deref(), line, progress);
            line.mailbox.post(Event::Failed(failure));
        }
        gst::MessageView::Warning(it) => {
            let decoding = it.error().kind::<gst::StreamError>() == Some(gst::StreamError::Decode);
            if decoding {
                line.complain(progress);
            }
            let text = line.redactor.clean(&it.error().to_string());
            tracing::debug!(camera = %line.camera.id, text, "media framework warns");
        }
        _ => {}
    }
}

/// Whether a stream of an RTSP session is to be set up: the first video stream that we decode.
fn select(values: &[gst::glib::Value], progress: &Progress) -> bool {
    progress.answered.store(true, Relaxed);
    let caps = values.get(2).and_then(|it| it.get::<gst::Caps>().ok());
    let Some(structure) = caps.as_ref().and_then(|it| it.structure(0)) else { return false };
    if structure.get::<&str>("media") != Ok("video") {
        return false;
    }
    let structure = structure.to_owned();
    let known = Codec::of_rtp(&structure).is_some();
    if !known {
        progress.found_foreign_codec(structure.get::<&str>("encoding-name").unwrap_or("unknown"));
    }
    known && !progress.selected.swap(true, Relaxed)
}

fn origin_of(camera: &Camera) -> Origin {
    let address = camera.address.as_str();
    match address.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
        Some("rtsp" | "rtsps") => Origin::Rtsp,
        Some("http" | "https") => Origin::Http,
        _ => Origin::File,
    }
}

/// `retina` speaks no TLS.
fn by_retina(line: &Line) -> bool {
    let secure =
        line.camera.address.as_str().get(..6).is_some_and(|it| it.eq_ignore_ascii_case("rtsps:"));
    line.settings.receiver == RtspReceiver::Retina && !secure
}

fn file_path(camera: &Camera) -> Result<String, Failure> {
    let address = camera.address.as_str();
    if !address.contains("://") {
        return Ok(address.to_owned());
    }
    let path = gst::glib::filename_from_uri(address)
        .ok()
        .and_then(|(path, _)| path.into_os_string().into_string().ok());
    path.ok_or_else(|| {
        Failure::new(
            CameraState::Misconfigured,
            StatusReason::BadAddress,
            "the address cannot be understood: use file:///PATH or the path alone",
        )
    })
}

/// Credentials are properties of the source, never part of an address.
fn log_in(source: &gst::Element, camera: &Camera) {
    if let Some(credentials) = &camera.credentials {
        source.set_property("user-id", &credentials.username);
        source.set_property("user-pw", &credentials.password);
    }
}

fn structure_of(pad: &gst::Pad) -> Option<gst::Structure> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    caps.structure(0).map(ToOwned::to_owned)
}

fn static_pad(element: &gst::Element, name: &str) -> Result<gst::Pad, Failure> {
    element.static_pad(name).ok_or_else(|| internal("an element lacks a pad"))
}

fn add_all(pipeline: &gst::Pipeline, elements: &[&gst::Element]) -> Result<(), Failure> {
    elements.iter().try_for_each(|element| pipeline.add(*element)).map_err(internal)
}

fn make(element: &str) -> Result<gst::Element, Failure> {
    gst::ElementFactory::make(element).build().map_err(|_| {
        let detail =
            format!("GStreamer lacks the element {element}: guiji doctor says what to install");
        Failure::new(CameraState::Misconfigured, StatusReason::Other, detail)
    })
}

/// Something that GStreamer never refuses in a pipeline of ours, and did.
fn internal(error: impl ToString) -> Failure {
    Failure::new(CameraState::Connecting, StatusReason::Other, error.to_string())
}
