//! Keyframes on demand, from the RTSP stream of a real encoder to the camera's health: the camera's ONVIF service has
//! its encoder make one whenever it is asked.
#![allow(clippy::unwrap_used)] // clippy.toml allows it in tests, and does not know that this is one

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gstreamer as gst;
use gstreamer_rtsp_server as gst_rtsp_server;
use guiji_delivery::Onvif;
use guiji_domain::*;
use guiji_engine::{Engine, EngineParts, EngineSettings};
use guiji_ingest::{GstSource, IngestSettings};
use guiji_store::MemoryStore;

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(gst::glib::real_time() * 1000)
    }
}

/// Sees nothing.
struct Nothing;

impl Detector for Nothing {
    fn input_size(&self) -> (u32, u32) {
        (64, 48)
    }
    fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
        Ok(vec![Vec::new(); frames.len()])
    }
    fn body_colour(&self, _: &dyn Picture, _: &BBox) -> Option<(VehicleColour, f32)> {
        None
    }
}

impl PlateReader for Nothing {
    fn read(&self, requests: &[(SharedPicture, BBox)]) -> Result<Vec<Vec<PlateRead>>, VisionError> {
        Ok(vec![Vec::new(); requests.len()])
    }
}

impl PictureEncoder for Nothing {
    fn media_type(&self) -> &'static str {
        "image/jpeg"
    }
    fn encode(&self, _: &dyn Picture, _: Option<&BBox>) -> Result<Vec<u8>, VisionError> {
        Ok(Vec::new())
    }
}

/// The encoder of the stream, once somebody watches it.
type Encoder = Arc<Mutex<Option<gst::Element>>>;

/// An RTSP stream of an empty road whose keyframes are 10 s apart; its port. It lives as long as the test.
fn serve_stream(encoder: Encoder) -> u16 {
    gst::init().unwrap();
    let (ready, port) = std::sync::mpsc::sync_channel(1);
    thread::spawn(move || {
        let context = gst::glib::MainContext::new();
        let run = || {
            let server = gst_rtsp_server::RTSPServer::new();
            server.set_address("127.0.0.1");
            server.set_service("0");
            let factory = gst_rtsp_server::RTSPMediaFactory::new();
            factory.set_launch(
                "( videotestsrc is-live=true pattern=black ! video/x-raw,width=160,height=120,framerate=25/1 \
                 ! x264enc name=encoder tune=zerolatency key-int-max=250 speed-preset=ultrafast threads=1 \
                 ! rtph264pay config-interval=-1 name=pay0 pt=96 )",
            );
            factory.set_shared(true);
            factory.connect_media_configure(move |_, media| {
                let bin = media.element().downcast::<gst::Bin>().unwrap();
                *encoder.lock().unwrap() = bin.by_name("encoder");
            });
            server.mount_points().unwrap().add_factory("/cam", factory);
            server.attach(Some(&context)).unwrap();
            ready.send(server.bound_port() as u16).unwrap();
            gst::glib::MainLoop::new(Some(&context), false).run();
        };
        context.with_thread_default(run).unwrap();
    });
    port.recv_timeout(Duration::from_secs(20)).unwrap()
}

/// The camera's ONVIF service; its port.
fn serve_onvif(encoder: Encoder) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let encoder = encoder.clone();
            thread::spawn(move || while answer(&stream, &encoder).is_some() {});
        }
    });
    port
}

fn answer(mut stream: &TcpStream, encoder: &Encoder) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        head += &line.to_lowercase();
    }
    let after = |name: &str| head.split_once(name).map(|(_, rest)| rest);
    let length = after("content-length: ")?.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let action = after("action=\"")?.split('"').next()?;
    let said = match action.rsplit('/').next()? {
        "getservices" => {
            "<Namespace>http://www.onvif.org/ver10/media/wsdl</Namespace><XAddr>http://cam/media</XAddr>"
        }
        "getprofiles" => "<Profiles token=\"main\"/>",
        "setsynchronizationpoint" => {
            let wish = gst::Structure::builder("GstForceKeyUnit").field("all-headers", true);
            let pad = encoder.lock().unwrap().as_ref()?.static_pad("src")?;
            assert!(pad.send_event(gst::event::CustomUpstream::new(wish.build())));
            ""
        }
        _ => "",
    };
    let length = said.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{said}").ok()
}

#[test]
fn a_camera_that_makes_keyframes_on_demand_is_blind_no_longer_than_between_them() {
    let encoder = Encoder::default();
    let (rtsp, http) = (serve_stream(encoder.clone()), serve_onvif(encoder));
    let (clock, store): (Arc<dyn Clock>, _) = (Arc::new(WallClock), Arc::new(MemoryStore::new()));
    // As with H.265 or B-frames, nothing but keyframes shows anything.
    let ingest = IngestSettings {
        glimpse: false,
        heed_sizes: false,
        ..IngestSettings::new((64, 48), PixelFormat::Rgb)
    };
    let parts = EngineParts {
        source: Arc::new(GstSource::new(ingest, clock.clone()).unwrap()),
        detector: Arc::new(Nothing),
        reader: Arc::new(Nothing),
        encoder: Arc::new(Nothing),
        store: store.clone(),
        alerts: store.clone(),
        watchlist: store.clone(),
        patrols: store.clone(),
        registry: store.clone(),
        coverage: store.clone(),
        read_before: store,
        keyframes: Some(Arc::new(Onvif::new(clock.clone(), Duration::from_secs(5)).unwrap())),
        clock,
    };
    let engine = Engine::start(parts, EngineSettings::default()).unwrap();
    let camera = Camera {
        id: CameraId::new("k1").unwrap(),
        site: SiteId::new("s1").unwrap(),
        name: String::new(),
        position: GeoPoint::new(29.1, 121.4).unwrap(),
        bearing_deg: None,
        address: StreamAddress::new(&format!("rtsp://127.0.0.1:{rtsp}/cam")).unwrap(),
        credentials: None,
        transport: Transport::Tcp,
        pace: Pace::RealTime,
        policy: DecodePolicy::Motion,
        analysed_fps_max: 8.0,
        recorded_at: None,
        lanes: None,
        substream: None,
        onvif: OnvifAddress::new(&format!("http://127.0.0.1:{http}/onvif/device_service")).ok(),
        enabled: true,
    };
    engine.cameras().register(camera).unwrap();
    let cameras = engine.cameras();
    let health = || cameras.list().remove(0).1;
    let wait_for = |what: &str, holds: &dyn Fn(&CameraHealth) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !holds(&health()) {
            assert!(Instant::now() < deadline, "{what} did not come: {:?}", health());
            thread::sleep(Duration::from_millis(50));
        }
        health()
    };
    // At first its keyframes are far apart, and everything is decoded until they come closer.
    wait_for("dense decoding", &|it| it.keyframes.dense && it.blind_time.is_zero());
    let after = wait_for("sleep", &|it| !it.keyframes.dense && it.wishes.asked >= 8);
    assert!(after.keyframes.period < Duration::from_secs(3), "{after:?}");
    assert!(after.blind_time < Duration::from_secs(3), "{after:?}");
    assert_eq!((after.wishes.failed, after.status.detail.as_str()), (0, ""), "{after:?}");
    assert!(engine.counts().wishes().taken >= 8);
    // And so it stays.
    thread::sleep(Duration::from_secs(5));
    let later = health();
    assert!(!later.keyframes.dense && later.keyframes.period < Duration::from_secs(3), "{later:?}");
    engine.drain(Duration::from_secs(20));
}
