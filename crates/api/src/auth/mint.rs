use std::time::Duration;

use guiji_domain::{CameraId, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Map, Value, json};

use super::keys::KeyError;
use super::{Role, jwt};

/// What a token shall say.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSpec {
    /// Who issues it (`iss`).
    pub issuer: String,
    /// Which server it is for (`aud`).
    pub audience: String,
    /// The user (`sub`).
    pub subject: String,
    /// What they do.
    pub role: Role,
    /// Where they may look.
    pub scope: TokenScope,
    /// The supervisor who lets them see data older than 90 days.
    pub old_data_released_by: Option<String>,
    /// The supervisor who lets them export pictures in which people can be recognised.
    pub people_shown_by: Option<String>,
    /// Its name (`jti`), by which it can be revoked.
    pub id: String,
    /// How long it holds.
    pub valid_for: Duration,
}

/// Where the bearer of a token may look.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenScope {
    /// Everywhere.
    Everywhere,
    /// At these cameras.
    Cameras(Vec<CameraId>),
    /// Within a circle: its middle, degrees north and east, and its radius in metres.
    Circle {
        /// Degrees north.
        latitude_deg: f64,
        /// Degrees east.
        longitude_deg: f64,
        /// Metres.
        radius_m: f64,
    },
}

impl TokenSpec {
    /// A token of eight hours, one shift, without limits of place, with a name that no other has.
    pub fn new(issuer: &str, audience: &str, subject: &str, role: Role) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            subject: subject.to_owned(),
            role,
            scope: TokenScope::Everywhere,
            old_data_released_by: None,
            people_shown_by: None,
            id: format!("{:032x}", random_id()),
            valid_for: Duration::from_secs(8 * 3600),
        }
    }

    fn claims(&self, now: Timestamp) -> Value {
        let mut own = Map::from_iter([("role".to_owned(), json!(self.role.as_str()))]);
        match &self.scope {
            TokenScope::Everywhere => {}
            TokenScope::Cameras(ids) => {
                let ids: Vec<_> = ids.iter().map(CameraId::as_str).collect();
                own.insert("cameras".into(), json!(ids));
            }
            TokenScope::Circle { latitude_deg, longitude_deg, radius_m } => {
                let circle = json!({
                    "latitude_deg": latitude_deg,
                    "longitude_deg": longitude_deg,
                    "radius_m": radius_m,
                });
                own.insert("area".into(), json!({ "circle": circle }));
            }
        }
        if let Some(supervisor) = &self.old_data_released_by {
            own.insert("old_data_released_by".into(), json!(supervisor));
        }
        if let Some(supervisor) = &self.people_shown_by {
            own.insert("people_shown_by".into(), json!(supervisor));
        }
        let seconds = now.as_nanos().div_euclid(1_000_000_000);
        let ends = seconds.saturating_add_unsigned(self.valid_for.as_secs());
        json!({
            "iss": self.issuer,
            "aud": self.audience,
            "sub": self.subject,
            "jti": self.id,
            "iat": seconds,
            "nbf": seconds,
            "exp": ends,
            "guiji": own,
        })
    }
}

/// Names are no secrets: should the system give no randomness, they are only less useful.
fn random_id() -> u128 {
    let mut bytes = [0; 16];
    let made = SystemRandom::new().fill(&mut bytes);
    made.map_or(0, |()| u128::from_be_bytes(bytes))
}

/// Signs tokens with an Ed25519 key: for tests, and for installations too small for an identity provider.
pub struct TokenSigner {
    key: EncodingKey,
    public: Vec<u8>,
}

/// A new Ed25519 private key as PEM (PKCS#8).
///
/// # Errors
/// When the system gives no randomness.
pub fn new_signing_key() -> Result<String, KeyError> {
    let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| KeyError("the system gives no randomness".into()))?;
    Ok(pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref())))
}

impl TokenSigner {
    /// Takes a private Ed25519 key as PEM (PKCS#8), made by [`new_signing_key`] or by OpenSSL.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError("is no private Ed25519 key in PEM (BEGIN PRIVATE KEY)".into());
        let read = pem::parse(text).map_err(|_| wrong())?;
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(read.contents()).map_err(|_| wrong())?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self { key: EncodingKey::from_ed_der(read.contents()), public })
    }

    /// The public key as PEM (SubjectPublicKeyInfo): what the server is given.
    pub fn public_key_pem(&self) -> String {
        /// SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes (RFC 8410, section 4).
        const HEAD: [u8; 12] =
            [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];
        pem::encode(&pem::Pem::new("PUBLIC KEY", [&HEAD[..], &self.public].concat()))
    }

    /// A signed token that begins now.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign(&self, spec: &TokenSpec, now: Timestamp) -> Result<String, KeyError> {
        jwt::install();
        encode(&Header::new(Algorithm::EdDSA), &spec.claims(now), &self.key)
            .map_err(|error| KeyError(format!("sign a token: {error}")))
    }
}
