use std::fmt;
use std::time::Duration;

use crate::vehicle::words;
use crate::{CameraId, GeoPoint, InvalidValue, SiteId, Timestamp};

/// A fixed viewpoint, as it is registered.
#[derive(Debug, Clone, PartialEq)]
pub struct Camera {
    /// Unique name.
    pub id: CameraId,
    /// The place it stands at, shared with other cameras.
    pub site: SiteId,
    /// What people call it, any language.
    pub name: String,
    /// Where it stands.
    pub position: GeoPoint,
    /// Where it looks, degrees clockwise from north, 0 to 360.
    pub bearing_deg: Option<f64>,
    /// Where its stream is.
    pub address: StreamAddress,
    /// How to log in, if needed.
    pub credentials: Option<Credentials>,
    /// RTP transport, for RTSP addresses.
    pub transport: Transport,
    /// How fast the stream is taken.
    pub pace: Pace,
    /// Which pictures are decoded.
    pub policy: DecodePolicy,
    /// Upper limit of pictures analysed a second. Decoded pictures beyond it are passed over.
    pub analysed_fps_max: f64,
    /// When the recording began, for files whose start a person knows.
    pub recorded_at: Option<Timestamp>,
    /// How many lanes are in view.
    pub lanes: Option<u8>,
    /// Where the same view comes in low resolution, where the camera has such a stream. Same login and transport as
    /// `address`. Who watches by it, [`Camera::watched_by`] says.
    pub substream: Option<StreamAddress>,
    /// Where it is asked for keyframes, where it takes such wishes. Same login as `address`.
    pub onvif: Option<OnvifAddress>,
    /// Whether it is to be opened at all.
    pub enabled: bool,
}

impl Camera {
    /// The substream that is opened beside the main stream and watches in its place while nothing is there: with
    /// [`DecodePolicy::Motion`], where both are live RTSP streams. Other policies decode the main stream by rules that a
    /// second stream has no say in; they leave it alone.
    pub fn watched_by(&self) -> Option<&StreamAddress> {
        let substream = self.substream.as_ref()?;
        let watches = self.policy == DecodePolicy::Motion
            && self.pace == Pace::RealTime
            && self.address.is_rtsp()
            && substream.is_rtsp();
        watches.then_some(substream)
    }

    /// How many streams are open while it is.
    pub fn streams(&self) -> usize {
        1 + usize::from(self.watched_by().is_some())
    }

    /// Whether the stream must be opened anew when this registration takes the place of the other: everything but
    /// what people call the camera, where they say that it stands and where it is asked for keyframes. (Directions of
    /// travel rest on the bearing: what is in view ends before it changes.)
    pub fn streams_otherwise(&self, other: &Self) -> bool {
        let described_alike = Self {
            site: self.site.clone(),
            name: self.name.clone(),
            position: self.position,
            lanes: self.lanes,
            onvif: self.onvif.clone(),
            ..other.clone()
        };
        *self != described_alike
    }

    /// In words for the audit, what another registration in the place of this one changes; empty when nothing. Logins
    /// are named, not told.
    pub fn changes_to(&self, after: &Self) -> String {
        // Named one by one, so that a new field is not forgotten.
        let told = |camera: &Self| {
            let Self {
                id: _,
                site,
                name,
                position,
                bearing_deg,
                address,
                credentials: _,
                transport,
                pace,
                policy,
                analysed_fps_max,
                recorded_at,
                lanes,
                substream,
                onvif,
                enabled,
            } = camera;
            fn or_none(value: Option<impl fmt::Display>) -> String {
                value.map_or_else(|| "none".to_owned(), |value| value.to_string())
            }
            [
                ("site", site.to_string()),
                ("name", format!("{name:?}")),
                ("position", format!("{},{}", position.lat_deg(), position.lon_deg())),
                ("bearing", or_none(*bearing_deg)),
                ("address", address.to_string()),
                ("transport", transport.to_string()),
                ("pace", pace.to_string()),
                ("policy", policy.to_string()),
                ("analysed_fps_max", analysed_fps_max.to_string()),
                ("recorded_at", or_none(*recorded_at)),
                ("lanes", or_none(*lanes)),
                ("substream", or_none(substream.as_ref())),
                ("onvif", or_none(onvif.as_ref())),
                ("enabled", enabled.to_string()),
            ]
        };
        let differing = told(self).into_iter().zip(told(after)).filter(|(was, is)| was != is);
        let mut changes: Vec<_> =
            differing.map(|((what, was), (_, is))| format!("{what} {was} to {is}")).collect();
        if self.credentials != after.credentials {
            changes.push("login".to_owned());
        }
        changes.join(", ")
    }
}

/// Where a stream is: `rtsp://`, `rtsps://`, `http://`, `https://` or a file. Never carries credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamAddress(String);

impl StreamAddress {
    /// # Errors
    /// When the scheme is unknown, the address is empty or too long, or a user name or password stands in it.
    pub fn new(text: &str) -> Result<Self, InvalidValue> {
        let text = text.trim();
        if text.is_empty() || text.len() > 2048 || text.chars().any(char::is_control) {
            return Err(InvalidValue::new(
                "stream address",
                "",
                "use 1 to 2048 printable characters: rtsp://HOST/PATH, http(s)://… or a file's path",
            ));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self(text.to_owned())); // a path
        };
        if !["rtsp", "rtsps", "http", "https", "file"]
            .contains(&scheme.to_ascii_lowercase().as_str())
        {
            return Err(InvalidValue::new(
                "stream address",
                format!("{scheme}://…"),
                "use rtsp, rtsps, http, https or a file's path",
            ));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') && scheme != "file" {
            // The value is left out: it holds the secret.
            return Err(InvalidValue::new(
                "stream address",
                format!("{scheme}://…@…"),
                "has a user name or password in it: give them as username and password_file (or password_env)",
            ));
        }
        if authority.is_empty() && scheme != "file" {
            return Err(InvalidValue::new("stream address", text, "names no host"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The address as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a live stream by RTSP.
    pub fn is_rtsp(&self) -> bool {
        let scheme = self.0.split_once("://").map_or("", |(scheme, _)| scheme);
        ["rtsp", "rtsps"].iter().any(|it| scheme.eq_ignore_ascii_case(it))
    }

    /// The path of a local file, where it is one.
    pub fn file_path(&self) -> Option<&str> {
        match self.0.split_once("://") {
            None => Some(&self.0),
            Some(("file", path)) => Some(path),
            Some(_) => None,
        }
    }
}

impl fmt::Display for StreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the ONVIF service of a camera is: `http://` or `https://`. Never carries credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OnvifAddress(String);

impl OnvifAddress {
    /// # Errors
    /// When it is no such address, or a user name or password stands in it.
    pub fn new(text: &str) -> Result<Self, InvalidValue> {
        let text = text.trim();
        let stream = StreamAddress::new(text)
            .map_err(|error| InvalidValue { what: "ONVIF address", ..error })?;
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            let fix = "use http(s)://HOST/onvif/device_service, or another path of the camera";
            return Err(InvalidValue::new("ONVIF address", text, fix));
        }
        Ok(Self(stream.0))
    }

    /// The address as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OnvifAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// User name and password of a camera. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// How RTP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Transport {
    /// Interleaved in the RTSP connection: nothing is lost, a slow network delays.
    #[default]
    Tcp,
    /// Separate datagrams: a slow network loses.
    Udp,
}
words!(Transport, "transport", Tcp => "tcp", Udp => "udp");

/// How fast a stream is taken, and so what happens when analysis is slower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pace {
    /// As it comes; a picture not yet analysed gives way to a newer one. Files play at their own speed.
    #[default]
    RealTime,
    /// As fast as analysis allows; nothing is passed over. For recordings only.
    AsFastAsPossible,
}
words!(Pace, "pace", RealTime => "real-time", AsFastAsPossible => "as-fast-as-possible");

/// Which pictures of a stream are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DecodePolicy {
    /// Every picture: the reference that other policies are measured against.
    #[default]
    Full,
    /// Keyframes only: about a twentieth of the cost, misses fast vehicles.
    KeyframeOnly,
    /// Every picture that others refer to: with B-frames a third to a half of `full`, without them the same.
    Referenced,
    /// Keyframes while nothing changes in the view; all pictures, from the keyframe before the change on, while
    /// something does or a vehicle is being followed. Where keyframes are far apart and nothing else sees between
    /// them, every picture that others refer to.
    Motion,
}
words!(
    DecodePolicy, "decode policy",
    Full => "full", KeyframeOnly => "keyframe-only", Referenced => "referenced", Motion => "motion",
);

/// What a camera is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CameraState {
    /// Being opened, or waiting for the next try.
    Connecting,
    /// Pictures arrive and are decoded.
    Live,
    /// Pictures arrive, but worse than they should (decoder errors, gaps).
    Degraded,
    /// Connected, but nothing usable arrives.
    Stalled,
    /// The camera answered and said no.
    Refused,
    /// It cannot work as registered: wrong address, unknown codec, missing file.
    Misconfigured,
    /// Switched off by its registration.
    Disabled,
    /// A recording played to its end.
    Ended,
}
words!(
    CameraState, "camera state",
    Connecting => "connecting", Live => "live", Degraded => "degraded", Stalled => "stalled",
    Refused => "refused", Misconfigured => "misconfigured", Disabled => "disabled", Ended => "ended",
);

/// Why a camera is in its state: countable, so that a dashboard can group a thousand cameras.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatusReason {
    /// The host does not answer or closes the connection.
    Unreachable,
    /// User name or password is wrong or missing.
    NotAuthorised,
    /// The server knows no such stream, or the file does not exist.
    NotFound,
    /// The address cannot be understood.
    BadAddress,
    /// Neither H.264 nor H.265, or the stream holds no video.
    UnsupportedCodec,
    /// Units arrive, but never a keyframe to begin with.
    NoKeyframe,
    /// Nothing arrives any more.
    Silence,
    /// The stream ended.
    EndOfStream,
    /// The decoder reports errors.
    DecodeErrors,
    /// The picture size changed in mid-stream; the pipeline was rebuilt.
    ResolutionChanged,
    /// A programming error in this camera's work; it was ended and counted.
    Panicked,
    /// Pictures come, all black.
    Black,
    /// Pictures come, all of one shade: something hangs before the lens, or fog.
    Covered,
    /// The same picture comes again and again.
    Frozen,
    /// Pictures come out of focus.
    Blurred,
    /// The camera was turned.
    Moved,
    /// Pictures come, and the camera's own clock is so far off that it is not believed.
    ClockWrong,
    /// Pictures come, and far fewer plates are read than is usual at this hour of the week.
    FewReads,
    /// Anything else the media framework reported.
    Other,
}
words!(
    StatusReason, "status reason",
    Unreachable => "unreachable", NotAuthorised => "not-authorised", NotFound => "not-found",
    BadAddress => "bad-address", UnsupportedCodec => "unsupported-codec", NoKeyframe => "no-keyframe",
    Silence => "silence", EndOfStream => "end-of-stream", DecodeErrors => "decode-errors",
    ResolutionChanged => "resolution-changed", Panicked => "panicked", Other => "other",
    Black => "black", Covered => "covered", Frozen => "frozen", Blurred => "blurred", Moved => "moved",
    ClockWrong => "clock-wrong", FewReads => "few-reads",
);

/// A camera's state with its history's last word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraStatus {
    /// What it is doing.
    pub state: CameraState,
    /// Since when.
    pub since: Timestamp,
    /// Why, where there is a reason.
    pub reason: Option<StatusReason>,
    /// One sentence for a person; never holds credentials.
    pub detail: String,
    /// When the next try is due.
    pub retry_at: Option<Timestamp>,
}

/// What a stream delivered since it was registered, over all its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamCounters {
    /// Encoded access units received.
    pub units: u64,
    /// Of these, keyframes.
    pub keyframes: u64,
    /// Bytes of encoded video.
    pub bytes: u64,
    /// Pictures decoded.
    pub decoded: u64,
    /// Of these, keyframes.
    pub decoded_keyframes: u64,
    /// Decoded pictures passed over because of `analysed_fps_max`.
    pub skipped: u64,
    /// Connections opened, tries included.
    pub connects: u64,
    /// Units that the policy wanted decoded and that were not, because decoding could not keep up.
    pub shed: u64,
    /// Times that a keyframe showed a change ([`DecodePolicy::Motion`]).
    pub woken_by_view: u64,
    /// Times that the sizes of units announced one.
    pub woken_by_size: u64,
    /// Times that a unit decoded out of its order, between keyframes, showed one.
    pub woken_by_glimpse: u64,
    /// Such units.
    pub glimpses: u64,
    /// Units decoded only because keyframes are far apart and nothing else sees between them.
    pub dense: u64,
    /// Times that a vehicle in the substream woke the main stream.
    pub woken_by_substream: u64,
    /// Times that decoding stopped until the next keyframe because every vehicle in view was known and drove away.
    pub turned_away: u64,
    /// Pictures of the substream decoded; all else here is of the main stream, but for `shed`, which is of both.
    pub substream_decoded: u64,
}

impl StreamCounters {
    /// Of two streams together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            units: self.units + other.units,
            keyframes: self.keyframes + other.keyframes,
            bytes: self.bytes + other.bytes,
            decoded: self.decoded + other.decoded,
            decoded_keyframes: self.decoded_keyframes + other.decoded_keyframes,
            skipped: self.skipped + other.skipped,
            connects: self.connects + other.connects,
            shed: self.shed + other.shed,
            woken_by_view: self.woken_by_view + other.woken_by_view,
            woken_by_size: self.woken_by_size + other.woken_by_size,
            woken_by_glimpse: self.woken_by_glimpse + other.woken_by_glimpse,
            glimpses: self.glimpses + other.glimpses,
            dense: self.dense + other.dense,
            woken_by_substream: self.woken_by_substream + other.woken_by_substream,
            turned_away: self.turned_away + other.turned_away,
            substream_decoded: self.substream_decoded + other.substream_decoded,
        }
    }
}

/// How the keyframes of a stream come, and what that means for its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyframeRhythm {
    /// The longest of the last few distances of keyframes, and of the one that still grows.
    pub period: Duration,
    /// Nothing but keyframes shows what happens in the view: closer ones would show more, or the same for less.
    pub matters: bool,
    /// They are too far apart for that: everything that others refer to is decoded until they come closer.
    pub dense: bool,
}

/// How often a camera was asked for a keyframe since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyframeWishes {
    /// Times that it was asked.
    pub asked: u64,
    /// Of these, times that it refused, did not answer, or sent none.
    pub failed: u64,
}

/// How many plates a camera reads, beside what is usual at this hour of the week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadRate {
    /// Since when is counted: the beginning of this hour or of the last one, whichever says more.
    pub since: Timestamp,
    /// Plates read since then.
    pub read: u32,
    /// As many are usual in as much time: the median of the same hours of the last weeks.
    pub usual: f64,
    /// So few are no chance.
    pub too_few: bool,
}

impl ReadRate {
    /// How many of the usual ones were read; 1 where none are usual.
    pub fn ratio(&self) -> f64 {
        if self.usual > 0.0 { f64::from(self.read) / self.usual } else { 1.0 }
    }
}

/// For how long, and for whom, a camera is open that is otherwise closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// When it closes.
    pub until: Timestamp,
    /// Who had it opened last.
    pub by: String,
}

/// Everything an operator wants to see of one camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraHealth {
    /// State, reason, retry.
    pub status: CameraStatus,
    /// What the stream delivered.
    pub counters: StreamCounters,
    /// Encoded units a second over the last few seconds.
    pub units_per_s: f64,
    /// Pictures analysed.
    pub analysed: u64,
    /// Decoded pictures dropped because a newer one came before analysis had time.
    pub dropped: u64,
    /// Final sightings stored.
    pub sightings: u64,
    /// Capture time of the last picture analysed.
    pub last_frame: Option<Timestamp>,
    /// Capture time of the last final sighting.
    pub last_sighting: Option<Timestamp>,
    /// How far the capture time of the last picture may be off.
    pub clock_uncertainty: Option<Duration>,
    /// For how long at a time nothing is known of the view, by what its policy decodes: what comes and goes within it
    /// may be missed. Zero when every picture is decoded.
    pub blind_time: Duration,
    /// How its keyframes come.
    pub keyframes: KeyframeRhythm,
    /// How often it was asked for keyframes.
    pub wishes: KeyframeWishes,
    /// How many plates it reads; `None` where it is not known yet what is usual.
    pub reads: Option<ReadRate>,
    /// Where a closed camera is open for a while.
    pub opening: Option<Opening>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_refused_and_never_shown() {
        let error =
            StreamAddress::new("rtsp://admin:hunter2@10.0.0.1/ch1").unwrap_err().to_string();
        assert!(!error.contains("hunter2") && !error.contains("admin"), "{error}");
        assert!(error.contains("password_file"), "{error}");
        let secret = Credentials { username: "admin".into(), password: "hunter2".into() };
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    fn login(password: &str) -> Option<Credentials> {
        Some(Credentials { username: "admin".into(), password: password.into() })
    }

    fn camera() -> Camera {
        Camera {
            id: CameraId::new("k1").unwrap(),
            site: SiteId::new("s1").unwrap(),
            name: "north".into(),
            position: GeoPoint::new(29.1, 121.4).unwrap(),
            bearing_deg: None,
            address: StreamAddress::new("rtsp://h/a").unwrap(),
            credentials: login("hunter1"),
            transport: Transport::Tcp,
            pace: Pace::RealTime,
            policy: DecodePolicy::Full,
            analysed_fps_max: 8.0,
            recorded_at: None,
            lanes: None,
            substream: None,
            onvif: None,
            enabled: true,
        }
    }

    #[test]
    fn changes_are_told_without_secrets() {
        let before = camera();
        assert_eq!(before.changes_to(&before), "");
        let after = Camera {
            address: StreamAddress::new("rtsp://h/b").unwrap(),
            credentials: login("hunter2"),
            lanes: Some(3),
            onvif: OnvifAddress::new("http://h/onvif").ok(),
            enabled: false,
            ..before.clone()
        };
        assert_eq!(
            before.changes_to(&after),
            "address rtsp://h/a to rtsp://h/b, lanes none to 3, onvif none to http://h/onvif, \
             enabled true to false, login"
        );
        let asked = Camera { onvif: after.onvif.clone(), ..before.clone() };
        assert!(!asked.streams_otherwise(&before));
    }

    #[test]
    fn addresses() {
        for right in ["rtsp://h/p", "RTSP://h", "http://h:1/x.ts", "clips/a.mp4", "file:///a@b.mkv"]
        {
            assert!(StreamAddress::new(right).is_ok(), "{right}");
        }
        for wrong in ["", "ftp://h/p", "rtsp:///nohost", "rtsp://u@h/p", "a\nb"] {
            assert!(StreamAddress::new(wrong).is_err(), "{wrong}");
        }
        assert_eq!(StreamAddress::new("a/b.mp4").unwrap().file_path(), Some("a/b.mp4"));
        assert_eq!(StreamAddress::new("rtsp://h/p").unwrap().file_path(), None);
    }

    #[test]
    fn onvif_addresses_are_of_http_and_carry_no_login() {
        assert!(OnvifAddress::new("http://10.0.0.1/onvif/device_service").is_ok());
        for (wrong, fix) in [
            ("", "printable"),
            ("10.0.0.1", "http(s)://"),
            ("rtsp://10.0.0.1/", "http(s)://"),
            ("http://admin:hunter2@10.0.0.1/", "password_file"),
        ] {
            let error = OnvifAddress::new(wrong).unwrap_err().to_string();
            assert!(error.contains(fix) && !error.contains("hunter2"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_substream_watches_where_both_are_live_and_the_policy_asks_for_it() {
        let address = |text: &str| StreamAddress::new(text).unwrap();
        let main = Camera { policy: DecodePolicy::Motion, ..camera() };
        assert_eq!((main.watched_by(), main.streams()), (None, 1));
        let sub = address("RTSP://h/b");
        let both = Camera { substream: Some(sub.clone()), ..main };
        assert_eq!((both.watched_by(), both.streams()), (Some(&sub), 2));
        let without = [
            Camera { policy: DecodePolicy::Full, ..both.clone() },
            Camera { pace: Pace::AsFastAsPossible, ..both.clone() },
            Camera { address: address("http://h/a"), ..both.clone() },
            Camera { substream: Some(address("b.mp4")), ..both },
        ];
        for camera in without {
            assert_eq!((camera.watched_by(), camera.streams()), (None, 1), "{camera:?}");
        }
    }

    #[test]
    fn words_round_trip() {
        for state in CameraState::ALL {
            assert_eq!(state.as_str().parse::<CameraState>().unwrap(), *state);
        }
        assert!("Live".parse::<CameraState>().unwrap_err().to_string().contains("stalled"));
    }
}
