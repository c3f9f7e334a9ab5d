//! Webhooks signed by the [Standard Webhooks](https://www.standardwebhooks.com) convention, version 1: the headers
//! `webhook-id`, `webhook-timestamp` and `webhook-signature`, so that receivers can use the libraries that exist.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use guiji_domain::{InvalidValue, Timestamp};
use ring::hmac;
use ureq::Agent;
use ureq::http::{Response, StatusCode, Uri, header};

use crate::{Carrier, Failure, Message, tls};

/// The key that signs a webhook's messages, shared with the receiver.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret(•••)")
    }
}

impl WebhookSecret {
    /// From its usual form: `whsec_` and 24 to 64 bytes in base64.
    ///
    /// # Errors
    /// When it has another form; the message does not show it.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let bytes = text.trim().strip_prefix("whsec_").and_then(|rest| BASE64.decode(rest).ok());
        match bytes {
            Some(bytes) if (24..=64).contains(&bytes.len()) => {
                Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
            }
            _ => Err(InvalidValue::new(
                "webhook secret",
                "•••",
                "use `whsec_` followed by 24 to 64 random bytes in base64",
            )),
        }
    }

    /// The value of `webhook-signature`.
    fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{seconds}.{body}").as_bytes());
        format!("v1,{}", BASE64.encode(tag))
    }
}

/// Where a webhook is, and how it is trusted.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Where to post to: `https://`, or `http://` to this machine.
    pub url: String,
    /// Signs the messages.
    pub secret: WebhookSecret,
    /// Authorities in PEM to trust instead of the system's.
    pub authorities: Option<String>,
    /// Longest wait for an answer.
    pub patience: Duration,
}

/// Posts messages to a webhook.
pub struct Webhook {
    agent: Agent,
    url: Uri,
    secret: WebhookSecret,
}

impl Webhook {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// When the address or the authorities cannot be right.
    pub fn new(settings: WebhookSettings) -> Result<Self, InvalidValue> {
        let wrong = |fix: &str| InvalidValue::new("webhook address", &settings.url, fix);
        let url: Uri = settings.url.parse().map_err(|_| wrong("is not an address"))?;
        let host = url.host().ok_or_else(|| wrong("has no host"))?;
        match url.scheme_str() {
            Some("https") => {}
            Some("http") if is_this_machine(host) => {}
            Some("http") => {
                return Err(wrong("alerts leave this machine encrypted only: use https://"));
            }
            _ => return Err(wrong("begins with https://")),
        }
        let agent = tls::agent(settings.authorities.as_deref(), settings.patience)?;
        Ok(Self { agent, url, secret: settings.secret })
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl Carrier for Webhook {
    fn carry(&mut self, message: &Message, now: Timestamp) -> Result<String, Failure> {
        let seconds = now.as_nanos().div_euclid(1_000_000_000);
        let answer = self
            .agent
            .post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", self.secret.sign(&message.id, seconds, &message.body))
            .send(message.body.as_bytes())
            .map_err(Failure::unreachable)?;
        judge(&answer)
    }
}

/// Longest pause that a receiver may ask for: alerts are urgent.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Only an answer about the content of a message is about that message. What speaks of the address, the caller or
/// the moment holds for every message.
fn judge<B>(answer: &Response<B>) -> Result<String, Failure> {
    let status = answer.status();
    let reason = format!("HTTP {}", status.as_u16());
    match status {
        _ if status.is_success() => Ok(reason),
        StatusCode::BAD_REQUEST
        | StatusCode::CONFLICT
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Refused { reason }),
        _ => Err(Failure::Unreachable {
            reason,
            pause: answer
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .map(|seconds| Duration::from_secs(seconds).min(PAUSE_MAX)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the convention's own text, made anew with `openssl dgst -sha256 -hmac`.
    #[test]
    fn signs_as_the_convention_says() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert!(!format!("{secret:?}").contains("MfKQ"));
        for wrong in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert!(WebhookSecret::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_checked() {
        let at = |url: &str| {
            Webhook::new(WebhookSettings {
                url: url.into(),
                secret: WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
                authorities: None,
                patience: Duration::from_secs(1),
            })
            .map(drop)
        };
        for right in
            ["https://a.example/x", "http://127.0.0.1:80", "http://[::1]:1/", "http://localhost"]
        {
            assert_eq!(at(right), Ok(()), "{right}");
        }
        for wrong in
            ["", "a.example", "http://a.example", "http://127.0.0.1.example/", "ftp://a.example"]
        {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_answers_about_the_message_set_it_aside() {
        let judged = |status: u16, retry_after: Option<&str>| {
            let mut answer = Response::builder().status(status);
            if let Some(value) = retry_after {
                answer = answer.header("retry-after", value);
            }
            judge(&answer.body(()).unwrap())
        };
        assert_eq!(judged(204, None), Ok("HTTP 204".into()));
        assert_eq!(judged(422, None), Err(Failure::Refused { reason: "HTTP 422".into() }));
        for status in [301, 401, 403, 404, 410, 429, 500, 503] {
            assert!(matches!(judged(status, None), Err(Failure::Unreachable { .. })), "{status}");
        }
        let asked = |seconds| {
            Err(Failure::Unreachable {
                reason: "HTTP 429".into(),
                pause: Some(Duration::from_secs(seconds)),
            })
        };
        assert_eq!(judged(429, Some("7")), asked(7));
        assert_eq!(judged(429, Some("99999")), asked(60), "alerts are urgent");
    }
}
