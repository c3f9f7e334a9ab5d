use std::time::Duration;

use guiji_domain::{BackOff, InvalidValue, PixelFormat};

use crate::ring::RingLimits;

/// What talks to RTSP cameras.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RtspReceiver {
    /// The client `retina`: all sessions on two threads.
    #[default]
    Retina,
    /// GStreamer's `rtspsrc`: about four threads a session. Reorders datagrams, and knows odd cameras.
    GStreamer,
}

impl RtspReceiver {
    /// Every receiver.
    pub const ALL: [Self; 2] = [Self::Retina, Self::GStreamer];

    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retina => "retina",
            Self::GStreamer => "gstreamer",
        }
    }
}

impl std::fmt::Display for RtspReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for RtspReceiver {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let named = |it: &Self| it.as_str() == text;
        Self::ALL
            .into_iter()
            .find(named)
            .ok_or_else(|| InvalidValue::new("receiver", text, "use retina or gstreamer"))
    }
}

/// What holds for all cameras. Start from [`IngestSettings::new`].
#[derive(Debug, Clone, PartialEq)]
pub struct IngestSettings {
    /// Width and height of [`guiji_domain::Frame::small`], pixels, each 16 to 4096.
    pub small_size: (u32, u32),
    /// Its format: [`PixelFormat::Rgb`] or [`PixelFormat::Bgr`].
    pub small_format: PixelFormat,
    /// What receives `rtsp://`. `rtsps://` is always received by GStreamer.
    pub receiver: RtspReceiver,
    /// How many connections may be opened at the same time, at least 1. The others wait, and come in random order.
    pub opening_max: usize,
    /// How long a server may take to answer a request, and until its first unit must arrive.
    pub answer_timeout: Duration,
    /// How long a connected stream may be silent.
    pub silence_timeout: Duration,
    /// How long units may arrive without a keyframe, or keyframes without a decoded picture. Longer than the
    /// longest distance of keyframes: "smart" codecs of cameras make 10 s of it.
    pub keyframe_timeout: Duration,
    /// How much the jitter buffer may hold over TCP. Nothing is lost or reordered there, so this only bounds memory
    /// when decoding falls behind; it delays nothing.
    pub jitter_tcp: Duration,
    /// How long over UDP a lost datagram is waited for. Delays only what comes after a loss.
    pub jitter_udp: Duration,
    /// Between tries, when a camera is out of reach, silent or broken off. Short to the end, so that what is back is seen
    /// within ten seconds; how many try at the same time, `opening_max` says.
    pub retry: BackOff,
    /// Between tries, when it said no or is wrongly registered. Slow: cameras lock an account after a few wrong
    /// passwords.
    pub retry_refused: BackOff,
    /// How long a connection must deliver pictures for the back-off to begin anew.
    pub stable_after: Duration,
    /// How long after the last decoder error a camera counts as degraded.
    pub degraded_for: Duration,
    /// How far a camera's own clock (RTCP) may be off ours. Beyond it the arrival time is used. Catches years like 1900 or 1970 and
    /// cameras that send local time as UTC; below it, the difference goes into the uncertainty.
    pub clock_disagreement_max: Duration,
    /// Threads that decode for all live cameras together.
    pub decoders: usize,
    /// Memory for encoded units of each camera, about a kilobyte a unit for holding it included: what waits for a
    /// decoder, and the group of pictures before, in case the next keyframe shows a vehicle. 12 MB are two groups of
    /// 250 pictures at 25 Hz and 4 Mb/s; where keyframes are 2 s apart, 3 MB are used.
    pub ring_bytes_max: usize,
    /// How old what was decoded may become before it gives way, and a quarter of how old what waits for a decoder may.
    pub ring_age_max: Duration,
    /// The longest time that `DecodePolicy::Motion` may be blind. Where keyframes are further apart and nothing proves that
    /// it sees between them, everything that others refer to is decoded. A vehicle at 50 km/h crosses 40 m of view in 3 s:
    /// with keyframes no further apart one of them shows it, and the group before is still there. Usual streams have
    /// one every 2 s; "smart" codecs, every 4 to 10 s.
    pub blind_max: Duration,
    /// Whether the sizes of units may announce a vehicle between keyframes (`DecodePolicy::Motion`). Off to measure
    /// what they are worth.
    pub heed_sizes: bool,
    /// Whether they are weighed by how coarsely they are quantised (H.264). Off to measure what that is worth.
    pub heed_quantiser: bool,
    /// Whether single units are decoded between keyframes to see if something has changed (`DecodePolicy::Motion`). Off
    /// to measure what they are worth.
    pub glimpse: bool,
    /// Whether decoding stops until the next keyframe when every vehicle in view is known and drives away
    /// (`DecodePolicy::Motion`). Off where sightings are to say to the moment when a vehicle left the view.
    pub turn_away: bool,
}

impl IngestSettings {
    /// The defaults, for a detector that wants pictures of this size (width, height) and format.
    pub fn new(small_size: (u32, u32), small_format: PixelFormat) -> Self {
        let s = Duration::from_secs;
        Self {
            small_size,
            small_format,
            receiver: RtspReceiver::default(),
            opening_max: 16,
            answer_timeout: s(10),
            silence_timeout: s(8),
            keyframe_timeout: s(30),
            jitter_tcp: s(2),
            jitter_udp: Duration::from_millis(200),
            retry: BackOff { first: s(1), cap: s(8) },
            retry_refused: BackOff { first: s(30), cap: s(600) },
            stable_after: s(30),
            degraded_for: s(10),
            clock_disagreement_max: s(10),
            decoders: std::thread::available_parallelism().map_or(2, usize::from),
            ring_bytes_max: 12_000_000,
            ring_age_max: s(3),
            blind_max: s(3),
            heed_sizes: true,
            heed_quantiser: true,
            glimpse: true,
            turn_away: true,
        }
    }

    pub(crate) fn ring(&self) -> RingLimits {
        RingLimits { bytes: self.ring_bytes_max, age: self.ring_age_max }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        let (w, h) = self.small_size;
        if !(16..=4096).contains(&w) || !(16..=4096).contains(&h) {
            let size = format!("{w}x{h}");
            return Err(InvalidValue::new("detector picture size", size, "use 16 to 4096 a side"));
        }
        if self.small_format == PixelFormat::I420 {
            return Err(InvalidValue::new("detector picture format", "I420", "use RGB or BGR"));
        }
        for (what, number) in
            [("connections opened at a time", self.opening_max), ("decoders", self.decoders)]
        {
            if !(1..=1024).contains(&number) {
                return Err(InvalidValue::new(what, number, "use 1 to 1024"));
            }
        }
        if !(100_000..=1_000_000_000).contains(&self.ring_bytes_max) {
            let bytes = self.ring_bytes_max;
            return Err(InvalidValue::new("ring size", bytes, "use 100 kB to 1 GB a camera"));
        }
        if self.ring_age_max > Duration::from_secs(60) {
            let age = format!("{:?}", self.ring_age_max);
            return Err(InvalidValue::new("ring age", age, "use at most 60 s"));
        }
        let durations = [
            ("answer timeout", self.answer_timeout),
            ("silence timeout", self.silence_timeout),
            ("longest blind time", self.blind_max),
            ("keyframe timeout", self.keyframe_timeout),
            ("first wait before a retry", self.retry.first),
            ("longest wait before a retry", self.retry.cap),
            ("first wait after a refusal", self.retry_refused.first),
            ("longest wait after a refusal", self.retry_refused.cap),
        ];
        for (what, value) in durations {
            if value < Duration::from_millis(10) || value > Duration::from_secs(86_400) {
                return Err(InvalidValue::new(what, format!("{value:?}"), "use 10 ms to one day"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_right_and_nonsense_is_refused() {
        let right = IngestSettings::new((416, 256), PixelFormat::Bgr);
        assert!(right.check().is_ok());
        let wrong = [
            IngestSettings { small_size: (0, 256), ..right.clone() },
            IngestSettings { small_format: PixelFormat::I420, ..right.clone() },
            IngestSettings { decoders: 0, ..right.clone() },
            IngestSettings { ring_bytes_max: 10, ..right.clone() },
            IngestSettings { silence_timeout: Duration::ZERO, ..right.clone() },
            IngestSettings { opening_max: 0, ..right.clone() },
        ];
        for settings in wrong {
            assert!(settings.check().is_err(), "{settings:?}");
        }
    }
}
