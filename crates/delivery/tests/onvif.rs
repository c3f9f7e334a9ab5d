//! Keyframes asked for at a camera's ONVIF service, over real HTTP.
#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use guiji_delivery::Onvif;
use guiji_domain::*;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

const NOW: Timestamp = Timestamp::from_secs(1_795_478_400);
const PASSWORD: &str = "hunter2";

/// How a camera answers.
#[derive(Clone, Copy)]
struct Ways {
    /// The namespace of its media service.
    media: &'static str,
    /// The login stands in the HTTP request, not in the envelope.
    by_http: bool,
    /// Its clock shows 2026-11-24T01:00:00Z, an hour ahead.
    ahead: bool,
}

const USUAL: Ways =
    Ways { media: "http://www.onvif.org/ver10/media/wsdl", by_http: false, ahead: false };

/// A camera with two profiles, of which the second makes the stream `/Streaming/2?x=1&y=2`.
struct Device {
    port: u16,
    /// Operations with the profile that they name.
    called: Arc<Mutex<Vec<String>>>,
}

impl Device {
    fn start(ways: Ways) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let called: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = called.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let noted = noted.clone();
                thread::spawn(move || while answer(&stream, ways, &noted).is_some() {});
            }
        });
        Self { port, called }
    }

    fn camera(&self, password: &str) -> Camera {
        let address = format!("http://127.0.0.1:{}/onvif/device_service", self.port);
        Camera {
            id: CameraId::new("k1").unwrap(),
            site: SiteId::new("s1").unwrap(),
            name: String::new(),
            position: GeoPoint::new(29.1, 121.4).unwrap(),
            bearing_deg: None,
            address: StreamAddress::new("rtsp://10.0.0.1:554/Streaming/2?x=1&y=2").unwrap(),
            credentials: Some(Credentials { username: "admin".into(), password: password.into() }),
            transport: Transport::Tcp,
            pace: Pace::RealTime,
            policy: DecodePolicy::Motion,
            analysed_fps_max: 8.0,
            recorded_at: None,
            lanes: None,
            substream: None,
            onvif: Some(OnvifAddress::new(&address).unwrap()),
            enabled: true,
        }
    }

    fn called(&self) -> Vec<String> {
        std::mem::take(&mut self.called.lock().unwrap())
    }
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(from)?;
    rest.split_once(to).map(|(found, _)| found)
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let opens = |it: &&str| it.starts_with([' ', '>']);
    let rest = xml.split(&format!("<{name}")).skip(1).find(opens)?;
    let (_, rest) = rest.split_once('>')?;
    rest.split_once("</").map(|(text, _)| text)
}

/// Whether the envelope proves the password, at the camera's time.
fn is_proven(body: &str, ways: Ways) -> bool {
    let part = |name| element(body, name).unwrap_or_default();
    let hour = if ways.ahead { "2026-11-24T01:" } else { "2026-11-24T00:" };
    let nonce = BASE64.decode(part("Nonce")).unwrap_or_default();
    let proof = [&nonce, part("Created").as_bytes(), PASSWORD.as_bytes()].concat();
    let proof = BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &proof));
    nonce.len() >= 16
        && part("Created").starts_with(hour)
        && part("Username") == "admin"
        && part("Password") == proof
}

/// One request; `None` when the client is gone.
fn answer(mut stream: &TcpStream, ways: Ways, called: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            break;
        }
        head += &line.to_lowercase();
    }
    let length = between(&head, "content-length: ", "\r\n")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    assert!(!body.contains(PASSWORD) && !head.contains(PASSWORD));
    let operation = between(&head, "action=\"", "\"")?.rsplit_once('/')?.1.to_owned();
    let profile = element(&body, "ProfileToken").unwrap_or_default();
    let host = "http://192.168.0.64:8000"; // as it is called on its own network
    let media = ways.media;
    let known = if ways.by_http {
        head.contains("authorization: digest") && !body.contains("UsernameToken")
    } else {
        is_proven(&body, ways)
    };
    let said = match operation.as_str() {
        "getsystemdateandtime" => {
            let hour = u8::from(ways.ahead);
            format!(
                "<tt:UTCDateTime><tt:Time><tt:Hour>{hour}</tt:Hour><tt:Minute>0</tt:Minute><tt:Second>0</tt:Second>\
                 </tt:Time><tt:Date><tt:Year>2026</tt:Year><tt:Month>11</tt:Month><tt:Day>24</tt:Day></tt:Date>\
                 </tt:UTCDateTime>"
            )
        }
        _ if !known => {
            called.lock().unwrap().push("refused".into());
            let challenge = match ways.by_http {
                true => "WWW-Authenticate: Digest realm=\"cam\", nonce=\"abc\", qop=\"auth\"\r\n",
                false => "",
            };
            let said = "<s:Fault><s:Reason><s:Text xml:lang=\"en\">Sender not\n Authorized: admin</s:Text></s:Reason></s:Fault>";
            let length = said.len();
            let head = format!("HTTP/1.1 401 X\r\n{challenge}Content-Length: {length}\r\n\r\n");
            return write!(stream, "{head}{said}").ok();
        }
        "getservices" => format!(
            "<tds:Service><tds:Namespace>http://www.onvif.org/ver10/events/wsdl</tds:Namespace>\
             <tds:XAddr>{host}/onvif/events</tds:XAddr></tds:Service><tds:Service>\
             <tds:Namespace>{media}</tds:Namespace><tds:XAddr>{host}/onvif/media</tds:XAddr></tds:Service>"
        ),
        "getprofiles" => {
            "<trt:Profiles fixed=\"true\" token=\"p1\"/><trt:Profiles token=\"p2&amp;x\"/>".into()
        }
        "getstreamuri" => {
            let stream = if profile == "p1" { "1" } else { "2" };
            format!("<tt:Uri>rtsp://192.168.0.64:554/Streaming/{stream}?x=1&amp;y=2</tt:Uri>")
        }
        "setsynchronizationpoint" => {
            assert!(head.starts_with("post /onvif/media "), "{head}");
            assert!(body.contains(&format!("xmlns=\"{media}\"")));
            String::new()
        }
        other => panic!("{other} is not asked for"),
    };
    called.lock().unwrap().push(format!("{operation} {profile}").trim().to_owned());
    let length = said.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{said}").ok()
}

fn onvif() -> Onvif {
    let clock = Arc::new(SimulatedClock::at(NOW));
    Onvif::new(clock, Duration::from_secs(10)).unwrap()
}

#[test]
fn the_profile_of_the_stream_is_found_once_and_asked_with_a_digested_password() {
    let device = Device::start(USUAL);
    let (onvif, camera) = (onvif(), device.camera(PASSWORD));
    onvif.ask(&camera).unwrap();
    let found = ["getsystemdateandtime", "getservices", "getprofiles"];
    let looked = ["getstreamuri p1", "getstreamuri p2&amp;x"];
    let asked = ["setsynchronizationpoint p2&amp;x"];
    assert_eq!(device.called(), [&found[..], &looked, &asked].concat());
    onvif.ask(&camera).unwrap();
    assert_eq!(device.called(), asked);
}

#[test]
fn a_clock_that_is_wrong_a_login_by_http_and_media2_will_do() {
    for ways in [
        Ways { ahead: true, ..USUAL },
        Ways { by_http: true, ..USUAL },
        Ways { media: "http://www.onvif.org/ver20/media/wsdl", ..USUAL },
    ] {
        let device = Device::start(ways);
        onvif().ask(&device.camera(PASSWORD)).unwrap();
        let called = device.called();
        assert_eq!(called.last().unwrap(), "setsynchronizationpoint p2&amp;x", "{called:?}");
    }
}

#[test]
fn refusals_are_told_in_the_cameras_words_without_the_login() {
    let device = Device::start(USUAL);
    let onvif = onvif();
    let refused = onvif.ask(&device.camera("wrong")).unwrap_err();
    assert_eq!(refused, "HTTP 401: Sender not Authorized: •••");
    let none = Camera { onvif: None, ..device.camera(PASSWORD) };
    assert!(onvif.ask(&none).unwrap_err().contains("no ONVIF address"));
    let nobody = OnvifAddress::new("http://127.0.0.1:9/onvif").ok();
    let gone = onvif.ask(&Camera { onvif: nobody, ..device.camera(PASSWORD) }).unwrap_err();
    assert!(!gone.contains(PASSWORD) && !gone.is_empty(), "{gone}");
}
