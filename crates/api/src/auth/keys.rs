use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use thiserror::Error;

/// Most keys: each may be tried on a token that names none.
const KEYS_MAX: usize = 16;

/// The public keys whose signatures are believed. Each is bound to one algorithm by its kind: Ed25519 to EdDSA,
/// P-256 to ES256, RSA to RS256.
#[derive(Debug, Clone, Default)]
pub struct TokenKeys(Vec<TokenKey>);

#[derive(Debug, Clone)]
pub(crate) struct TokenKey {
    /// The name that tokens give for it, where it has one.
    pub(crate) id: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// Why a key file cannot be used.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct KeyError(pub(crate) String);

impl TokenKeys {
    /// Adds what a file holds: a public key as PEM (SubjectPublicKeyInfo), or a JSON Web Key Set (RFC 7517).
    ///
    /// # Errors
    /// When it is neither, a key is private, or of a kind that is not taken.
    pub fn add(&mut self, text: &[u8]) -> Result<(), KeyError> {
        let keys = match text.trim_ascii_start().first() {
            Some(b'{') => from_jwks(text)?,
            _ => vec![from_pem(text)?],
        };
        self.0.extend(keys);
        if self.0.len() > KEYS_MAX {
            return Err(KeyError(format!("{} keys: give at most {KEYS_MAX}", self.0.len())));
        }
        Ok(())
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that may have signed a token with this header.
    pub(crate) fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        id: Option<&'a str>,
    ) -> impl Iterator<Item = &'a TokenKey> {
        self.0.iter().filter(move |key| {
            let named = match (&key.id, id) {
                (Some(own), Some(asked)) => own == asked,
                // A PEM file gives its key no name.
                (None, _) | (_, None) => true,
            };
            named && key.algorithm == algorithm
        })
    }
}

fn from_pem(text: &[u8]) -> Result<TokenKey, KeyError> {
    const FIX: &str =
        "give a public key as PEM (BEGIN PUBLIC KEY; Ed25519, P-256 or RSA) or a JWKS";
    if String::from_utf8_lossy(text).contains("PRIVATE KEY") {
        return Err(KeyError(format!("is a private key, which this server must not have: {FIX}")));
    }
    type Read = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;
    let kinds: [(Algorithm, Read); 3] = [
        (Algorithm::EdDSA, DecodingKey::from_ed_pem),
        (Algorithm::ES256, DecodingKey::from_ec_pem),
        (Algorithm::RS256, DecodingKey::from_rsa_pem),
    ];
    let mut read =
        kinds.into_iter().filter_map(|(algorithm, read)| Some((algorithm, read(text).ok()?)));
    let (algorithm, key) = read.next().ok_or_else(|| KeyError(format!("is no key: {FIX}")))?;
    checked(None, algorithm, key)
}

fn from_jwks(text: &[u8]) -> Result<Vec<TokenKey>, KeyError> {
    let set: JwkSet = serde_json::from_slice(text)
        .map_err(|error| KeyError(format!("is no JSON Web Key Set: {error}")))?;
    let signing = |jwk: &&Jwk| {
        // Keys for encryption may stand in the same set.
        !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption))
    };
    let keys: Vec<_> = set.keys.iter().filter(signing).map(from_jwk).collect::<Result<_, _>>()?;
    if keys.is_empty() {
        return Err(KeyError("holds no key for signatures".into()));
    }
    Ok(keys)
}

fn from_jwk(jwk: &Jwk) -> Result<TokenKey, KeyError> {
    let id = jwk.common.key_id.clone();
    let wrong =
        |why: &str| KeyError(format!("key {:?}: {why}", id.as_deref().unwrap_or("without kid")));
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        _ => return Err(wrong("use an Ed25519, P-256 or RSA key")),
    };
    if let Some(stated) = jwk.common.key_algorithm
        && stated.to_string() != format!("{algorithm:?}")
    {
        return Err(wrong(&format!(
            "is for {stated}: this server takes it for {algorithm:?} only"
        )));
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| wrong(&error.to_string()))?;
    checked(id, algorithm, key)
}

/// Refuses a key whose size gives away that it is of another curve, or too short.
fn checked(
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
) -> Result<TokenKey, KeyError> {
    const RSA_BITS_MIN: usize = 2048;
    let fits = match (algorithm, key.kind()) {
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(bytes)) => bytes.len() == 32,
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(bytes)) => bytes.len() == 65,
        (Algorithm::RS256, DecodingKeyKind::SecretOrDer(der)) => der.len() * 8 > RSA_BITS_MIN,
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
            n.len() * 8 >= RSA_BITS_MIN
        }
        _ => false,
    };
    if fits {
        Ok(TokenKey { id, algorithm, key })
    } else {
        Err(KeyError("use Ed25519, P-256, or RSA of at least 2048 bits".into()))
    }
}
