use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;

use crate::unit::Codec;

/// A decoded picture: its planes, and how they lie.
pub(crate) type Decoded = (gst::Buffer, gst::Caps);

/// A decoder that belongs to no pipeline: units go in and pictures come out on the caller's thread.
///
/// ```text
/// (entry) ! avdec_* ! videoconvert ! (exit)
/// ```
///
/// `entry` and `exit` are pads of ours. It has no thread and no queue of its own, so a few threads can drive any
/// number of them, and one can serve camera after camera.
pub(crate) struct Decoder {
    codec: Codec,
    pipeline: gst::Pipeline,
    entry: gst::Pad,
    /// Kept alive; its peer does not hold it.
    _exit: gst::Pad,
    decoded: Arc<Out>,
    stream: u64,
    holds_back: bool,
}

#[derive(Default)]
struct Out {
    pictures: Mutex<Vec<Decoded>>,
    caps: Mutex<Option<gst::Caps>>,
    damaged: AtomicBool,
}

impl Decoder {
    /// # Errors
    /// When GStreamer lacks a part or refuses to put them together; says which.
    pub(crate) fn new(codec: Codec) -> Result<Self, String> {
        let make = |name: &str| {
            let made = gst::ElementFactory::make(name).build();
            made.map_err(|_| {
                format!("GStreamer lacks the element {name}: guiji doctor says what to install")
            })
        };
        let (element, convert) = (make(codec.decoder())?, make("videoconvert")?);
        element.set_property("max-threads", 1i32);
        let pipeline = gst::Pipeline::new();
        let decoded = Arc::new(Out::default());
        let (entry, exit) = (entry_pad(codec)?, exit_pad(&decoded)?);
        let pad = |element: &gst::Element, name| {
            element.static_pad(name).ok_or_else(|| "an element lacks a pad".to_owned())
        };
        pipeline.add_many([&element, &convert]).map_err(text)?;
        element.link(&convert).map_err(text)?;
        entry.link(&pad(&element, "sink")?).map_err(text)?;
        pad(&convert, "src")?.link(&exit).map_err(text)?;

        let bus = pipeline.bus().ok_or("a pipeline has no bus")?;
        let heard = Arc::clone(&decoded);
        bus.set_sync_handler(move |_, message| {
            if matches!(message.type_(), gst::MessageType::Warning | gst::MessageType::Error) {
                heard.damaged.store(true, Relaxed);
            }
            gst::BusSyncReply::Drop
        });
        entry.set_active(true).map_err(text)?;
        exit.set_active(true).map_err(text)?;
        pipeline.set_state(gst::State::Playing).map_err(text)?;
        Ok(Self { codec, pipeline, entry, _exit: exit, decoded, stream: 0, holds_back: false })
    }

    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// Whether it held pictures back at the end of a stream. The H.264 decoder of libav never holds back fewer than it once
    /// had to, whatever it has forgotten.
    pub(crate) fn holds_back(&self) -> bool {
        self.holds_back
    }

    /// Forgets what came before: the next unit must be a keyframe.
    pub(crate) fn begin(&mut self) {
        self.entry.push_event(gst::event::FlushStart::new());
        self.entry.push_event(gst::event::FlushStop::new(true));
        self.announce();
        self.take();
    }

    fn announce(&mut self) {
        self.stream += 1;
        self.entry.push_event(gst::event::StreamStart::new(&self.stream.to_string()));
        self.entry.push_event(gst::event::Caps::new(&self.codec.units()));
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        self.entry.push_event(gst::event::Segment::new(&segment));
    }

    /// Decodes a unit. The pictures that are ready, in the order of presentation: none, one, or several.
    ///
    /// # Errors
    /// When the decoder takes no more; it is of no use any longer.
    pub(crate) fn decode(&mut self, unit: gst::Buffer) -> Result<Vec<Decoded>, String> {
        self.entry.push(unit).map_err(text)?;
        Ok(self.take())
    }

    /// The pictures still held back. Afterwards the next unit must be a keyframe.
    pub(crate) fn drain(&mut self) -> Vec<Decoded> {
        self.announce(); // a new stream makes the base class of decoders drain
        let pictures = self.take();
        self.holds_back |= !pictures.is_empty();
        pictures
    }

    /// Whether it complained since last asked.
    pub(crate) fn complained(&self) -> bool {
        self.decoded.damaged.swap(false, Relaxed)
    }

    fn take(&self) -> Vec<Decoded> {
        std::mem::take(&mut *lock(&self.decoded.pictures))
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        if let Err(error) = self.pipeline.set_state(gst::State::Null) {
            tracing::warn!(%error, "a decoder does not stop");
        }
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

fn entry_pad(codec: Codec) -> Result<gst::Pad, String> {
    let (source, always) = (gst::PadDirection::Src, gst::PadPresence::Always);
    let template = gst::PadTemplate::new("entry", source, always, &codec.units()).map_err(text)?;
    Ok(gst::Pad::builder_from_template(&template).name("entry").build())
}

fn exit_pad(decoded: &Arc<Out>) -> Result<gst::Pad, String> {
    let i420 = gst::Caps::builder("video/x-raw").field("format", "I420").build();
    let (sink, always) = (gst::PadDirection::Sink, gst::PadPresence::Always);
    let template = gst::PadTemplate::new("exit", sink, always, &i420).map_err(text)?;
    let (chained, told) = (Arc::clone(decoded), Arc::clone(decoded));
    // These run inside C: nothing in them can panic.
    let pad = gst::Pad::builder_from_template(&template)
        .name("exit")
        .chain_function(move |_, _, picture| {
            if let Some(caps) = lock(&chained.caps).clone() {
                lock(&chained.pictures).push((picture, caps));
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |_, _, event| {
            if let gst::EventView::Caps(caps) = event.view() {
                *lock(&told.caps) = Some(caps.caps_owned());
            }
            true
        })
        .query_function(|pad, parent, query| {
            // Pictures with strides and offsets of their own are welcome: the decoder's memory comes as it is.
            if let gst::QueryViewMut::Allocation(query) = query.view_mut() {
                query.add_allocation_meta::<gst_video::VideoMeta>(None);
                return true;
            }
            gst::Pad::query_default(pad, parent, query)
        })
        .build();
    Ok(pad)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
