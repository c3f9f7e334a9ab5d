//! Keyframes on demand: ONVIF `SetSynchronizationPoint`, of the Media service (ver10) or of Media2 (ver20), with the
//! login as a WS-Security UsernameToken (its password digested by SHA-1, as the profile demands).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use guiji_domain::{
    Camera, CameraId, Clock, Credentials, InvalidValue, KeyframeAsker, OnvifAddress, StreamAddress,
    Timestamp,
};
use http_auth::{PasswordClient, PasswordParams};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use ring::rand::{SecureRandom as _, SystemRandom};
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

use crate::soap::{elements, escaped};
use crate::tls;

const DEVICE: &str = "http://www.onvif.org/ver10/device/wsdl";
const MEDIA: &str = "http://www.onvif.org/ver10/media/wsdl";
const MEDIA2: &str = "http://www.onvif.org/ver20/media/wsdl";
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 512 * 1024;
/// Profiles that are asked which stream is theirs.
const PROFILES_MAX: usize = 8;
/// Longest words of a camera that are repeated.
const WORDS_CHARS_MAX: usize = 120;
/// Cameras of which is remembered where their profile is.
const REMEMBERED_MAX: usize = 20_000;

/// Asks cameras for keyframes by ONVIF. Where the service is and which profile makes the stream is asked once a camera,
/// and again after a failure.
pub struct Onvif {
    agent: Agent,
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<CameraId, Arc<Route>>>,
}

/// Where the keyframes of a stream are asked for.
#[derive(Debug, PartialEq)]
struct Route {
    device: OnvifAddress,
    stream: StreamAddress,
    media: Service,
    profile: String,
    /// What its clock is ahead of ours: it takes no login of another time.
    ahead_s: i64,
}

#[derive(Debug, PartialEq)]
struct Service {
    address: Uri,
    namespace: &'static str,
}

impl Onvif {
    /// Opens nothing yet. `patience`: longest wait for an answer.
    ///
    /// # Errors
    /// When the system's authorities cannot be read.
    pub fn new(clock: Arc<dyn Clock>, patience: Duration) -> Result<Self, InvalidValue> {
        let agent = tls::agent(None, patience)?;
        Ok(Self { agent, clock, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<CameraId, Arc<Route>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(&self, camera: &Camera, device: &OnvifAddress) -> Result<Arc<Route>, String> {
        let fits = |it: &&Arc<Route>| it.device == *device && it.stream == camera.address;
        if let Some(route) = self.known().get(&camera.id).filter(fits) {
            return Ok(Arc::clone(route));
        }
        let route = Arc::new(self.find_route(camera, device)?);
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.clear(); // they are asked anew
        }
        known.insert(camera.id.clone(), Arc::clone(&route));
        Ok(route)
    }

    fn find_route(&self, camera: &Camera, device: &OnvifAddress) -> Result<Route, String> {
        let home: Uri = device.as_str().parse().map_err(|_| "the ONVIF address is none")?;
        let service = Service { address: home.clone(), namespace: DEVICE };
        // A camera that does not tell its time is taken to have ours.
        let time = self.call(&service, "GetSystemDateAndTime", "", None);
        let ahead_s = time.ok().and_then(|xml| stated_time(&xml)).map_or(0, |stated| {
            let ours = self.clock.now().as_nanos().div_euclid(1_000_000_000);
            stated.saturating_sub(ours)
        });
        let login = camera.credentials.as_ref().map(|login| (login, ahead_s));
        let media = self.media_service(&service, &home, login)?;
        let profiles = self.call(&media, "GetProfiles", "", login)?;
        let tokens: Vec<String> = elements(&profiles)
            .filter(|it| it.name == "Profiles")
            .filter_map(|it| it.attribute("token"))
            .take(PROFILES_MAX)
            .collect();
        let first = tokens.first().ok_or("the camera has no media profile")?.clone();
        let is_its = |token: &&String| self.streams_at(&media, token, &camera.address, login);
        let profile = match tokens.len() {
            1 => first,
            // Where none says that the stream is its own, the first is the main one with every maker.
            _ => tokens.iter().find(is_its).cloned().unwrap_or(first),
        };
        Ok(Route {
            device: device.clone(),
            stream: camera.address.clone(),
            media,
            profile,
            ahead_s,
        })
    }

    fn media_service(
        &self,
        device: &Service,
        home: &Uri,
        login: Option<(&Credentials, i64)>,
    ) -> Result<Service, String> {
        let wish = "<IncludeCapability>false</IncludeCapability>";
        let services = self.call(device, "GetServices", wish, login)?;
        let mut found: HashMap<&'static str, String> = HashMap::new();
        let mut namespace = None;
        for element in elements(&services) {
            match element.name {
                "Namespace" => {
                    let text = element.text();
                    namespace = [MEDIA, MEDIA2].into_iter().find(|it| *it == text);
                }
                "XAddr" => {
                    if let Some(namespace) = namespace.take() {
                        found.insert(namespace, element.text());
                    }
                }
                _ => {}
            }
        }
        let (namespace, address) = [MEDIA, MEDIA2]
            .into_iter()
            .find_map(|namespace| Some((namespace, found.remove(namespace)?)))
            .ok_or("the camera has no media service")?;
        // Only its path: behind an address translation the camera does not know its own, and the login must not leave
        // for another machine.
        let path = address.parse::<Uri>().ok();
        let path = path.as_ref().and_then(Uri::path_and_query).map_or("/", |it| it.as_str());
        let mut parts = home.clone().into_parts();
        parts.path_and_query = path.parse().ok();
        let address = Uri::from_parts(parts).map_err(|_| "the media service has no address")?;
        Ok(Service { address, namespace })
    }

    /// Whether a profile makes the stream of this address, as far as it says so.
    fn streams_at(
        &self,
        media: &Service,
        profile: &str,
        stream: &StreamAddress,
        login: Option<(&Credentials, i64)>,
    ) -> bool {
        let token = format!("<ProfileToken>{}</ProfileToken>", escaped(profile));
        let wish = if media.namespace == MEDIA {
            const SCHEMA: &str = "http://www.onvif.org/ver10/schema";
            format!(
                "<StreamSetup><Stream xmlns=\"{SCHEMA}\">RTP-Unicast</Stream><Transport xmlns=\"{SCHEMA}\">\
                 <Protocol>RTSP</Protocol></Transport></StreamSetup>{token}"
            )
        } else {
            format!("<Protocol>RTSP</Protocol>{token}")
        };
        let Ok(answer) = self.call(media, "GetStreamUri", &wish, login) else { return false };
        let uri = elements(&answer).find(|it| it.name == "Uri").map(|it| it.text());
        let wanted = path_of(stream.as_str());
        uri.is_some_and(|uri| !wanted.is_empty() && path_of(uri.trim()) == wanted)
    }

    /// Calls an operation; the answer's XML.
    fn call(
        &self,
        service: &Service,
        operation: &str,
        content: &str,
        login: Option<(&Credentials, i64)>,
    ) -> Result<String, String> {
        let header = match login {
            Some((login, ahead_s)) => security(login, self.clock.now(), ahead_s)?,
            None => String::new(),
        };
        let answer =
            self.post(service, operation, &envelope(service, operation, content, &header), None)?;
        // Some want the login as HTTP has it (digest), and then no other.
        let challenge =
            answer.headers().get(header::WWW_AUTHENTICATE).and_then(|it| it.to_str().ok());
        let client = challenge.filter(|_| answer.status() == StatusCode::UNAUTHORIZED);
        let client = client.and_then(|it| PasswordClient::try_from(it).ok());
        let answer = match (client, login) {
            (Some(PasswordClient::Digest(mut client)), Some((login, _))) => {
                let params = PasswordParams {
                    username: &login.username,
                    password: &login.password,
                    uri: service.address.path_and_query().map_or("/", |it| it.as_str()),
                    method: "POST",
                    body: None,
                };
                let proof = client.respond(&params)?;
                let body = envelope(service, operation, content, "");
                self.post(service, operation, &body, Some(&proof))?
            }
            _ => answer,
        };
        read(answer)
    }

    fn post(
        &self,
        Service { address, namespace }: &Service,
        operation: &str,
        body: &str,
        proof: Option<&str>,
    ) -> Result<Response<Body>, String> {
        let kind =
            format!("application/soap+xml; charset=utf-8; action=\"{namespace}/{operation}\"");
        let mut request = self.agent.post(address).header(header::CONTENT_TYPE, kind);
        if let Some(proof) = proof {
            request = request.header(header::AUTHORIZATION, proof);
        }
        request.send(body).map_err(|error| error.to_string())
    }
}

fn envelope(service: &Service, operation: &str, content: &str, header: &str) -> String {
    let namespace = service.namespace;
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header>{header}</s:Header>\
         <s:Body><{operation} xmlns=\"{namespace}\">{content}</{operation}></s:Body></s:Envelope>"
    )
}

/// The XML of an answer, or what a refusal says.
fn read(mut answer: Response<Body>) -> Result<String, String> {
    let status = answer.status();
    let read = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    if status.is_success() {
        return read.map_err(|error| error.to_string());
    }
    let said =
        read.ok().and_then(|xml| fault(&xml)).map_or_else(String::new, |it| format!(": {it}"));
    Err(format!("HTTP {}{said}", status.as_u16()))
}

impl KeyframeAsker for Onvif {
    fn ask(&self, camera: &Camera) -> Result<(), String> {
        let device = camera.onvif.as_ref().ok_or("the camera has no ONVIF address")?;
        let asked = self.route(camera, device).and_then(|route| {
            let wish = format!("<ProfileToken>{}</ProfileToken>", escaped(&route.profile));
            let login = camera.credentials.as_ref().map(|login| (login, route.ahead_s));
            self.call(&route.media, "SetSynchronizationPoint", &wish, login)
        });
        asked.map(drop).map_err(|reason| {
            // Profile, place and clock may have changed.
            self.known().remove(&camera.id);
            without_login(reason, camera.credentials.as_ref())
        })
    }
}

/// Some cameras repeat the login that they refuse.
fn without_login(reason: String, login: Option<&Credentials>) -> String {
    let Some(login) = login else { return reason };
    let secrets = [login.password.as_str(), login.username.as_str()];
    let hidden = |text: String, secret: &&str| text.replace(*secret, "•••");
    secrets.iter().filter(|it| !it.is_empty()).fold(reason, hidden)
}

/// The header that says who asks, at the camera's time.
fn security(login: &Credentials, now: Timestamp, ahead_s: i64) -> Result<String, String> {
    let mut nonce = [0; 16];
    SystemRandom::new().fill(&mut nonce).map_err(|_| "the system has no randomness")?;
    let seconds = now.as_nanos().div_euclid(1_000_000_000).saturating_add(ahead_s);
    // Whole seconds, as every camera takes them.
    let created = Timestamp::from_secs(seconds).to_string().replace(".000Z", "Z");
    const WSS: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss";
    Ok(format!(
        "<Security s:mustUnderstand=\"1\" xmlns=\"{WSS}-wssecurity-secext-1.0.xsd\"><UsernameToken>\
         <Username>{}</Username>\
         <Password Type=\"{WSS}-username-token-profile-1.0#PasswordDigest\">{}</Password>\
         <Nonce EncodingType=\"{WSS}-soap-message-security-1.0#Base64Binary\">{}</Nonce>\
         <Created xmlns=\"{WSS}-wssecurity-utility-1.0.xsd\">{created}</Created></UsernameToken></Security>",
        escaped(&login.username),
        password_digest(&nonce, &created, &login.password),
        BASE64.encode(nonce),
    ))
}

/// As WS-Security's UsernameToken profile 1.0 has it.
fn password_digest(nonce: &[u8], created: &str, password: &str) -> String {
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    [nonce, created.as_bytes(), password.as_bytes()].iter().for_each(|part| digest.update(part));
    BASE64.encode(digest.finish())
}

/// What a camera says the time is, seconds since the epoch.
fn stated_time(xml: &str) -> Option<i64> {
    let mut parts: HashMap<&str, i64> = HashMap::new();
    let mut in_utc = false;
    for element in elements(xml) {
        match element.name {
            "UTCDateTime" => in_utc = true,
            "LocalDateTime" => in_utc = false,
            "Year" | "Month" | "Day" | "Hour" | "Minute" | "Second" if in_utc => {
                parts.insert(element.name, element.text().trim().parse().ok()?);
            }
            _ => {}
        }
    }
    let part = |name| parts.get(name).copied();
    let (year, month, day) = (part("Year")?, part("Month")?, part("Day")?);
    let in_range =
        (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let days = days_from_civil(year, month, day);
    let seconds = part("Hour")? * 3600 + part("Minute")? * 60 + part("Second")?;
    (in_range && (0..=86_400).contains(&seconds)).then_some(days * 86_400 + seconds)
}

/// Days since the epoch (Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Path and query of an address, whatever its host.
fn path_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.find('/').and_then(|at| rest.get(at + 1..)).unwrap_or_default()
}

/// What a refusal says, on one line.
fn fault(xml: &str) -> Option<String> {
    let text =
        elements(xml).filter(|it| matches!(it.name, "Text" | "faultstring")).map(|it| it.text());
    let text = text
        .map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "))
        .find(|it| !it.is_empty())?;
    Some(text.chars().filter(|it| !it.is_control()).take(WORDS_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of ONVIF's programmer's guide.
    #[test]
    fn digests_as_the_profile_says() {
        let nonce = BASE64.decode("LKqI6G/AikKCQrN0zqZFlg==").unwrap();
        let digest = password_digest(&nonce, "2010-09-16T07:50:45Z", "userpassword");
        assert_eq!(digest, "tuOSpGlFlIXsozq4HFNeeGeFLEI=");
    }

    #[test]
    fn a_header_names_who_asks_and_never_the_password() {
        let login = Credentials { username: "a&b".into(), password: "hunter2".into() };
        let header = security(&login, Timestamp::from_secs(1_795_478_400), -3600).unwrap();
        assert!(header.contains("<Username>a&amp;b</Username>") && !header.contains("hunter2"));
        assert!(header.contains(">2026-11-23T23:00:00Z</Created>"), "{header}");
        let said = without_login("user a&b with hunter2 is unknown".into(), Some(&login));
        assert_eq!(said, "user ••• with ••• is unknown");
    }

    #[test]
    fn times_of_cameras() {
        let xml = |year, hour| {
            format!(
                "<tt:UTCDateTime><tt:Time><tt:Hour>{hour}</tt:Hour><tt:Minute>1</tt:Minute><tt:Second>2</tt:Second>\
                 </tt:Time><tt:Date><tt:Year>{year}</tt:Year><tt:Month>2</tt:Month><tt:Day>29</tt:Day></tt:Date>\
                 </tt:UTCDateTime><tt:LocalDateTime><tt:Time><tt:Hour>11</tt:Hour></tt:Time></tt:LocalDateTime>"
            )
        };
        assert_eq!(stated_time(&xml("2024", "3")), Some(1_709_175_662));
        for wrong in [xml("x", "3"), xml("12", "3"), xml("2024", "99999999"), "<a/>".to_owned()] {
            assert_eq!(stated_time(&wrong), None, "{wrong}");
        }
        assert_eq!(days_from_civil(1970, 1, 1), 0);
    }

    #[test]
    fn streams_are_told_apart_by_their_paths() {
        assert_eq!(path_of("rtsp://10.0.0.1:554/ch1?x=1"), "ch1?x=1");
        assert_eq!(path_of("rtsp://10.0.0.1"), "");
    }
}
