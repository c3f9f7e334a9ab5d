use guiji_domain::{
    Camera, CameraHealth, CameraId, Credentials, InvalidValue, OnvifAddress, Pace, SiteId,
    StreamAddress,
};

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::word::optional;
use super::{Word, duration_to_pb, point_from_pb, point_to_pb, timestamp_from_pb, timestamp_to_pb};
use crate::FileCameras;
use crate::error::Problem;
use crate::pb;
use crate::violations::Violations;

/// Pictures analysed a second where a registration does not say.
const ANALYSED_FPS_DEFAULT: f64 = 25.0;
/// Most pictures analysed a second that a registration may ask for.
const ANALYSED_FPS_MAX: f64 = 120.0;
/// Most lanes that a view may have.
const LANES_MAX: u8 = 32;
/// Longest free text, characters.
const TEXT_CHARS_MAX: usize = 200;

/// A camera without its credentials: nobody gets them back.
pub(crate) fn camera_to_pb(camera: &Camera, health: &CameraHealth) -> pb::Camera {
    let camera = pb::Camera { credentials: None, ..camera.into() };
    pb::Camera { etag: etag(&camera), health: Some(health_to_pb(health)), ..camera }
}

/// What changes when the registration changes, its credentials excepted: their hash would help to guess them.
fn etag(registration: &pb::Camera) -> String {
    let hash = Sha256::digest(registration.encode_to_vec());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A registration, credentials included.
impl From<&Camera> for pb::Camera {
    fn from(camera: &Camera) -> Self {
        let credentials = camera.credentials.as_ref().map(|secret| pb::Credentials {
            username: secret.username.clone(),
            password: secret.password.clone(),
        });
        Self {
            name: format!("cameras/{}", camera.id),
            site: camera.site.to_string(),
            display_name: camera.name.clone(),
            position: Some(point_to_pb(&camera.position)),
            bearing_deg: camera.bearing_deg,
            stream_address: camera.address.as_str().to_owned(),
            credentials,
            transport: camera.transport.to_pb(),
            pace: camera.pace.to_pb(),
            decode_policy: camera.policy.to_pb(),
            analysed_fps_max: camera.analysed_fps_max,
            record_time: camera.recorded_at.map(timestamp_to_pb),
            disabled: !camera.enabled,
            health: None,
            lane_count: camera.lanes.map(i32::from),
            substream_address: camera
                .substream
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            onvif_address: camera.onvif.as_ref().map(ToString::to_string).unwrap_or_default(),
            etag: String::new(),
        }
    }
}

fn health_to_pb(health: &CameraHealth) -> pb::CameraHealth {
    let (status, counters) = (&health.status, &health.counters);
    pb::CameraHealth {
        state: status.state.to_pb(),
        state_time: Some(timestamp_to_pb(status.since)),
        reason: optional(status.reason),
        detail: status.detail.clone(),
        retry_time: status.retry_at.map(timestamp_to_pb),
        unit_count: counters.units,
        keyframe_count: counters.keyframes,
        received_bytes: counters.bytes,
        decoded_count: counters.decoded,
        skipped_count: counters.skipped,
        connect_count: counters.connects,
        units_per_s: health.units_per_s,
        analysed_count: health.analysed,
        dropped_count: health.dropped,
        sighting_count: health.sightings,
        last_frame_time: health.last_frame.map(timestamp_to_pb),
        last_sighting_time: health.last_sighting.map(timestamp_to_pb),
        clock_uncertainty: health.clock_uncertainty.map(duration_to_pb),
        blind_period: Some(duration_to_pb(health.blind_time)),
        closing_time: health.opening.as_ref().map(|opening| timestamp_to_pb(opening.until)),
        keyframe_period: Some(duration_to_pb(health.keyframes.period)),
        decoded_densely: health.keyframes.dense,
        keyframes_asked_count: health.wishes.asked,
        keyframes_refused_count: health.wishes.failed,
        read_rate: health.reads.map(|reads| pb::ReadRate {
            start_time: Some(timestamp_to_pb(reads.since)),
            read_count: reads.read,
            usual_count: reads.usual,
            ratio: reads.ratio(),
            too_few: reads.too_few,
        }),
        opened_by: health.opening.as_ref().map_or_else(String::new, |opening| opening.by.clone()),
    }
}

/// The camera that CreateCamera asks for.
pub(crate) fn camera_from_pb(
    id: &str,
    camera: Option<&pb::Camera>,
    files: FileCameras,
) -> Result<Camera, Problem> {
    let mut wrong = Violations::default();
    let id = wrong.take("camera_id", CameraId::new(id));
    let taken = wrong
        .require("camera", camera)
        .and_then(|camera| registration_from_pb(&mut wrong, "camera.", id, camera, files));
    wrong.done()?;
    taken.ok_or_else(|| Problem::field("camera", "is incomplete"))
}

/// The camera that a registration asks for, under an id already checked. Everything wrong is noted, its field after
/// the prefix.
pub(crate) fn registration_from_pb(
    wrong: &mut Violations,
    prefix: &str,
    id: Option<CameraId>,
    camera: &pb::Camera,
    files: FileCameras,
) -> Option<Camera> {
    let field = |name: &str| format!("{prefix}{name}");
    let site = wrong.take(field("site"), SiteId::new(&camera.site));
    wrong.check_text(&field("display_name"), &camera.display_name, TEXT_CHARS_MAX);
    let position = wrong
        .require(&field("position"), camera.position.as_ref())
        .and_then(|point| wrong.take(field("position"), point_from_pb(point)));
    if camera.bearing_deg.is_some_and(|bearing| !(0.0..=360.0).contains(&bearing)) {
        wrong.add(field("bearing_deg"), "use degrees clockwise from north, 0 to 360");
    }
    let address = wrong.take(field("stream_address"), StreamAddress::new(&camera.stream_address));
    let is_file = address.as_ref().is_some_and(|address| address.file_path().is_some());
    if is_file && files == FileCameras::Refused {
        wrong.add(
            field("stream_address"),
            "files are not taken by this server: use rtsp://, rtsps://, http:// or https://",
        );
    }
    let lanes = camera.lane_count.and_then(|count| wrong.take(field("lane_count"), lanes(count)));
    let substream = Some(camera.substream_address.as_str()).filter(|given| !given.is_empty());
    let substream = substream.and_then(|given| {
        let substream = wrong.take(field("substream_address"), StreamAddress::new(given))?;
        if substream.file_path().is_some() != is_file {
            let fix = "must be of the same kind as stream_address: both streams or both files";
            wrong.add(field("substream_address"), fix);
        }
        Some(substream)
    });
    let onvif = Some(camera.onvif_address.as_str()).filter(|given| !given.is_empty());
    let onvif =
        onvif.and_then(|given| wrong.take(field("onvif_address"), OnvifAddress::new(given)));
    let credentials = camera.credentials.as_ref().map(|given| {
        wrong.check_text(&field("credentials.username"), &given.username, TEXT_CHARS_MAX);
        wrong.check_text(&field("credentials.password"), &given.password, TEXT_CHARS_MAX);
        if given.username.is_empty() {
            wrong.add(field("credentials.username"), "is required with credentials");
        }
        Credentials { username: given.username.clone(), password: given.password.clone() }
    });
    let transport = wrong.take(field("transport"), Word::from_pb(camera.transport)).flatten();
    let pace = wrong.take(field("pace"), Word::from_pb(camera.pace)).flatten();
    if pace == Some(Pace::AsFastAsPossible) && address.is_some() && !is_file {
        wrong.add(field("pace"), "only recordings play as fast as possible: leave it out");
    }
    let policy = wrong.take(field("decode_policy"), Word::from_pb(camera.decode_policy)).flatten();
    let analysed_fps_max = wrong.take(field("analysed_fps_max"), fps(camera.analysed_fps_max));
    let recorded_at = camera
        .record_time
        .as_ref()
        .and_then(|time| wrong.take(field("record_time"), timestamp_from_pb(time)));
    if !wrong.is_empty() {
        return None;
    }
    Some(Camera {
        id: id?,
        site: site?,
        name: camera.display_name.clone(),
        position: position?,
        bearing_deg: camera.bearing_deg,
        address: address?,
        credentials,
        transport: transport.unwrap_or_default(),
        pace: pace.unwrap_or_default(),
        policy: policy.unwrap_or_default(),
        analysed_fps_max: analysed_fps_max.unwrap_or(ANALYSED_FPS_DEFAULT),
        recorded_at,
        lanes,
        substream,
        onvif,
        enabled: !camera.disabled,
    })
}

fn lanes(count: i32) -> Result<u8, InvalidValue> {
    let lanes = u8::try_from(count).ok().filter(|lanes| (1..=LANES_MAX).contains(lanes));
    let fix = format!("use 1 to {LANES_MAX}, or leave it out");
    lanes.ok_or_else(|| InvalidValue::new("lane count", count, fix))
}

/// How a field of a registration is changed.
struct Change {
    field: &'static str,
    given: fn(&pb::Camera) -> bool,
    take: fn(&mut pb::Camera, pb::Camera),
}

macro_rules! changes {
    ($($field:ident: $given:expr;)+) => {
        &[$(Change {
            field: stringify!($field),
            given: |camera| { let given: fn(&pb::Camera) -> bool = $given; given(camera) },
            take: |to, from| to.$field = from.$field,
        }),+]
    };
}

/// The fields that UpdateCamera changes, and whether one is given where no mask says so.
const CHANGES: &[Change] = changes! {
    site: |c| !c.site.is_empty();
    display_name: |c| !c.display_name.is_empty();
    position: |c| c.position.is_some();
    bearing_deg: |c| c.bearing_deg.is_some();
    stream_address: |c| !c.stream_address.is_empty();
    credentials: |c| c.credentials.is_some();
    transport: |c| c.transport != 0;
    pace: |c| c.pace != 0;
    decode_policy: |c| c.decode_policy != 0;
    analysed_fps_max: |c| c.analysed_fps_max != 0.0;
    record_time: |c| c.record_time.is_some();
    disabled: |c| c.disabled;
    lane_count: |c| c.lane_count.is_some();
    substream_address: |c| !c.substream_address.is_empty();
    onvif_address: |c| !c.onvif_address.is_empty();
};

/// The registration that UpdateCamera asks for.
pub(crate) fn changed_camera(
    known: &Camera,
    given: &pb::Camera,
    mask: Option<&prost_types::FieldMask>,
    files: FileCameras,
) -> Result<Camera, Problem> {
    let mut wrong = Violations::default();
    let paths: &[String] = mask.map_or(&[], |mask| &mask.paths);
    let all = paths.iter().any(|path| path == "*");
    for path in paths.iter().filter(|path| *path != "*") {
        if !CHANGES.iter().any(|change| change.field == path) {
            let fields: Vec<_> = CHANGES.iter().map(|change| change.field).collect();
            let fix = format!("has {path:?}: use *, or some of {}", fields.join(", "));
            wrong.add("update_mask", fix);
        }
    }
    let chosen = CHANGES.iter().filter(|change| match paths {
        [] => (change.given)(given),
        paths => all || paths.iter().any(|path| path == change.field),
    });
    let before = pb::Camera::from(known);
    let mut after = before.clone();
    chosen.for_each(|change| (change.take)(&mut after, given.clone()));
    // A file that the operator's configuration named may stay.
    let same = after.stream_address == before.stream_address
        && after.substream_address == before.substream_address;
    let files = if same { FileCameras::Allowed } else { files };
    let taken = registration_from_pb(&mut wrong, "camera.", Some(known.id.clone()), &after, files);
    wrong.done()?;
    taken.ok_or_else(|| Problem::field("camera", "is incomplete"))
}

fn fps(asked: f64) -> Result<f64, InvalidValue> {
    if asked == 0.0 {
        Ok(ANALYSED_FPS_DEFAULT)
    } else if asked > 0.0 && asked <= ANALYSED_FPS_MAX {
        Ok(asked)
    } else {
        let fix = format!("use pictures a second above 0 and at most {ANALYSED_FPS_MAX}");
        Err(InvalidValue::new("analysed_fps_max", asked, fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::{CameraState, CameraStatus, StreamCounters, Timestamp};

    fn good() -> pb::Camera {
        pb::Camera {
            site: "s1".into(),
            display_name: "路口".into(),
            position: Some(pb::GeoPoint { latitude_deg: 28.6, longitude_deg: 121.4 }),
            bearing_deg: Some(90.0),
            stream_address: "rtsp://10.0.0.1/ch1".into(),
            transport: pb::Transport::Udp.into(),
            pace: pb::Pace::RealTime.into(),
            decode_policy: pb::DecodePolicy::KeyframeOnly.into(),
            analysed_fps_max: 12.5,
            record_time: Some(prost_types::Timestamp { seconds: 5, nanos: 7 }),
            disabled: true,
            lane_count: Some(3),
            substream_address: "rtsp://10.0.0.1/ch2".into(),
            onvif_address: "http://10.0.0.1/onvif/device_service".into(),
            ..Default::default()
        }
    }

    fn health() -> CameraHealth {
        CameraHealth {
            status: CameraStatus {
                state: CameraState::Live,
                since: Timestamp::EPOCH,
                reason: None,
                detail: String::new(),
                retry_at: None,
            },
            counters: StreamCounters::default(),
            units_per_s: 12.5,
            analysed: 1,
            dropped: 2,
            sightings: 3,
            last_frame: None,
            last_sighting: None,
            clock_uncertainty: None,
            blind_time: std::time::Duration::ZERO,
            keyframes: Default::default(),
            wishes: Default::default(),
            reads: None,
            opening: None,
        }
    }

    #[test]
    fn cameras_round_trip_without_their_credentials() {
        let secret = pb::Credentials { username: "admin".into(), password: "hunter2".into() };
        let given = pb::Camera { credentials: Some(secret), ..good() };
        assert!(!format!("{given:?}").contains("hunter2"));
        let camera = camera_from_pb("k1", Some(&given), FileCameras::Refused).unwrap();
        assert_eq!(camera.credentials.as_ref().unwrap().password, "hunter2");
        let answer = camera_to_pb(&camera, &health());
        assert_eq!(answer.credentials, None);
        let again = camera_from_pb("k1", Some(&answer), FileCameras::Refused).unwrap();
        assert_eq!(again, Camera { credentials: None, ..camera });
    }

    #[test]
    fn wrong_cameras_name_field_and_fix() {
        let with = |change: fn(&mut pb::Camera)| {
            let mut camera = good();
            change(&mut camera);
            Some(camera)
        };
        for (id, camera, field, fix) in [
            ("", with(|_| ()), "camera_id", "1 to 64"),
            ("k1", None, "camera", "required"),
            ("k1", with(|c| c.site.clear()), "camera.site", "1 to 64"),
            ("k1", with(|c| c.display_name = "x".repeat(201)), "camera.display_name", "200"),
            ("k1", with(|c| c.position = None), "camera.position", "required"),
            (
                "k1",
                with(|c| {
                    c.position = Some(pb::GeoPoint { latitude_deg: 121.4, longitude_deg: 28.6 })
                }),
                "camera.position",
                "exchanged",
            ),
            ("k1", with(|c| c.bearing_deg = Some(361.0)), "camera.bearing_deg", "0 to 360"),
            ("k1", with(|c| c.stream_address = "ftp://h".into()), "camera.stream_address", "rtsp"),
            (
                "k1",
                with(|c| c.stream_address = "rtsp://u:p@h/".into()),
                "camera.stream_address",
                "user name",
            ),
            (
                "k1",
                with(|c| c.stream_address = "/etc/passwd".into()),
                "camera.stream_address",
                "files are not taken",
            ),
            (
                "k1",
                with(|c| c.pace = pb::Pace::AsFastAsPossible.into()),
                "camera.pace",
                "recordings",
            ),
            ("k1", with(|c| c.lane_count = Some(0)), "camera.lane_count", "1 to 32"),
            (
                "k1",
                with(|c| c.substream_address = "a.mp4".into()),
                "camera.substream_address",
                "same kind",
            ),
            (
                "k1",
                with(|c| c.onvif_address = "rtsp://10.0.0.1/".into()),
                "camera.onvif_address",
                "http(s)://",
            ),
            ("k1", with(|c| c.transport = 9), "camera.transport", "Tcp"),
            ("k1", with(|c| c.analysed_fps_max = -1.0), "camera.analysed_fps_max", "above 0"),
            ("k1", with(|c| c.analysed_fps_max = f64::NAN), "camera.analysed_fps_max", "above 0"),
            (
                "k1",
                with(|c| c.credentials = Some(pb::Credentials::default())),
                "camera.credentials.username",
                "required",
            ),
        ] {
            let problem = camera_from_pb(id, camera.as_ref(), FileCameras::Refused).unwrap_err();
            let status = tonic::Status::from(problem);
            assert!(status.message().contains(field), "{field}: {status}");
            assert!(status.message().contains(fix), "{fix}: {status}");
        }
        let file = with(|c| {
            c.stream_address = "clips/a.mp4".into();
            c.substream_address.clear();
        });
        assert!(camera_from_pb("k1", file.as_ref(), FileCameras::Allowed).is_ok());
    }
}
