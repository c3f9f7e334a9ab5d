use std::fmt;
use std::time::Duration;

use guiji_domain::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, TokenData, Validation, decode, decode_header};

use super::claims::{Claims, instant};
use super::keys::{KeyError, TokenKeys};
use super::{Identity, jwt};
use crate::error::Problem;

/// Longest token, bytes: a scope of some hundred cameras fits.
const TOKEN_BYTES_MAX: usize = 12 * 1024;

/// Which tokens are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Who must have issued them: the claim `iss`.
    pub issuer: String,
    /// Whom they must be for: the claim `aud`, or one of them.
    pub audience: String,
    /// How far the issuer's clock may be off: a token counts so long before its beginning and after its end.
    pub leeway: Duration,
}

/// Checks bearer tokens: JSON Web Tokens (RFC 7519) signed with EdDSA, ES256 or RS256.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    keys: TokenKeys,
    leeway: Duration,
    /// For each algorithm, what `jsonwebtoken` checks; times are checked here, by the server's clock.
    validation: Validation,
}

/// Why a token does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenFault {
    Missing,
    Garbled(String),
    Algorithm,
    Signature,
    Issuer,
    Audience,
    Expired { at: Timestamp },
    NotYet { from: Timestamp },
    Claims(String),
}

impl TokenVerifier {
    /// # Errors
    /// When there is no key, or issuer or audience is empty.
    pub fn new(keys: TokenKeys, settings: &TokenSettings) -> Result<Self, KeyError> {
        if keys.is_empty() {
            return Err(KeyError("give at least one key".into()));
        }
        for (name, value) in [("issuer", &settings.issuer), ("audience", &settings.audience)] {
            if value.trim().is_empty() {
                return Err(KeyError(format!("{name} is empty: tokens of anybody would do")));
            }
        }
        jwt::install();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&[&settings.audience]);
        Ok(Self { keys, leeway: settings.leeway, validation })
    }

    /// The bearer of a token, if it holds now.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            let bytes = token.len();
            let told = format!("{bytes} bytes: at most {TOKEN_BYTES_MAX} are taken");
            return Err(TokenFault::Garbled(told));
        }
        let header = decode_header(token).map_err(|error| match error.kind() {
            // "none" and other words that are no algorithm.
            ErrorKind::Json(_) | ErrorKind::InvalidAlgorithmName => TokenFault::Algorithm,
            _ => TokenFault::Garbled(error.to_string()),
        })?;
        let claims = self.signed(token, header.alg, header.kid.as_deref())?;
        if let Some(from) = claims.nbf {
            let from = instant("nbf", from).map_err(TokenFault::Claims)?;
            if now.plus(self.leeway) < from {
                return Err(TokenFault::NotYet { from });
            }
        }
        let mut identity = claims.identity().map_err(TokenFault::Claims)?;
        if identity.expires.plus(self.leeway) <= now {
            return Err(TokenFault::Expired { at: identity.expires });
        }
        // Open streams end when the token would no longer be taken.
        identity.expires = identity.expires.plus(self.leeway);
        Ok(identity)
    }

    /// The claims, if one of the keys signed them for us.
    fn signed(
        &self,
        token: &str,
        algorithm: Algorithm,
        key_id: Option<&str>,
    ) -> Result<Claims, TokenFault> {
        if !matches!(algorithm, Algorithm::EdDSA | Algorithm::ES256 | Algorithm::RS256) {
            return Err(TokenFault::Algorithm);
        }
        let validation = Validation { algorithms: vec![algorithm], ..self.validation.clone() };
        for candidate in self.keys.candidates(algorithm, key_id) {
            match decode::<Claims>(token, &candidate.key, &validation) {
                Ok(TokenData { claims, .. }) => return Ok(claims),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => {}
                    ErrorKind::InvalidIssuer => return Err(TokenFault::Issuer),
                    ErrorKind::InvalidAudience => return Err(TokenFault::Audience),
                    ErrorKind::Json(_) | ErrorKind::MissingRequiredClaim(_) => {
                        return Err(TokenFault::Claims(error.to_string()));
                    }
                    _ => return Err(TokenFault::Garbled(error.to_string())),
                },
            }
        }
        Err(TokenFault::Signature)
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "this server asks for a token: send it as the metadata `authorization: Bearer TOKEN`",
            ),
            Self::Garbled(what) => write!(f, "the token cannot be read: {what}"),
            Self::Algorithm => {
                f.write_str("the token is not signed with EdDSA, ES256 or RS256, which alone are taken")
            }
            Self::Signature => f.write_str("no key of this server fits the token's signature"),
            Self::Issuer => f.write_str("the token's issuer (iss) is not the one that is believed here"),
            Self::Audience => f.write_str("the token is for another server (aud)"),
            Self::Expired { at } => write!(f, "the token ended at {at}: get a new one"),
            Self::NotYet { from } => write!(f, "the token begins at {from}"),
            Self::Claims(what) => write!(f, "the token's claims are wrong: {what}"),
        }
    }
}

impl From<TokenFault> for Problem {
    fn from(fault: TokenFault) -> Self {
        let reason = match fault {
            TokenFault::Missing => "TOKEN_MISSING",
            TokenFault::Expired { .. } => "TOKEN_EXPIRED",
            _ => "TOKEN_INVALID",
        };
        Self::Unauthenticated { reason, message: fault.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Role, TokenSigner, TokenSpec, new_signing_key};

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn settings() -> TokenSettings {
        TokenSettings {
            issuer: "https://id.example".into(),
            audience: "guiji".into(),
            leeway: Duration::from_secs(30),
        }
    }

    fn pair() -> (TokenSigner, TokenVerifier) {
        let signer = TokenSigner::from_pem(&new_signing_key().unwrap()).unwrap();
        let mut keys = TokenKeys::default();
        keys.add(signer.public_key_pem().as_bytes()).unwrap();
        (signer, TokenVerifier::new(keys, &settings()).unwrap())
    }

    fn spec() -> TokenSpec {
        TokenSpec {
            valid_for: Duration::from_secs(3600),
            ..TokenSpec::new("https://id.example", "guiji", "wang", Role::Analyst)
        }
    }

    #[test]
    fn a_good_token_names_its_bearer() {
        let (signer, verifier) = pair();
        let token = signer.sign(&spec(), now()).unwrap();
        let identity = verifier.verify(&token, now()).unwrap();
        assert_eq!((identity.subject.as_str(), identity.role), ("wang", Role::Analyst));
    }

    #[test]
    fn times_are_the_servers_with_leeway() {
        let (signer, verifier) = pair();
        let token = signer.sign(&spec(), now()).unwrap();
        let at = |seconds: i64| {
            let nanos = now().as_nanos() + seconds * 1_000_000_000;
            verifier.verify(&token, Timestamp::from_nanos(nanos))
        };
        assert!(at(3600).is_ok() && at(3629).is_ok());
        assert!(matches!(at(3630), Err(TokenFault::Expired { .. })));
        assert!(at(-30).is_ok());
        assert!(matches!(at(-31), Err(TokenFault::NotYet { .. })));
    }

    #[test]
    fn every_part_is_checked() {
        let (signer, verifier) = pair();
        let (other, _) = pair();
        let changed = |change: fn(&mut TokenSpec)| {
            let mut spec = spec();
            change(&mut spec);
            signer.sign(&spec, now()).unwrap()
        };
        let good = signer.sign(&spec(), now()).unwrap();
        let parts: Vec<_> = good.split('.').collect();
        let none = ["eyJhbGciOiJub25lIn0", parts[1], ""].join("."); // {"alg":"none"}
        let hmac = ["eyJhbGciOiJIUzI1NiJ9", parts[1], parts[2]].join("."); // {"alg":"HS256"}
        let supervisor = changed(|s| s.role = Role::Supervisor);
        let stolen = [parts[0], supervisor.split('.').nth(1).unwrap(), parts[2]].join(".");
        for (token, fault) in [
            (changed(|s| s.issuer = "https://other".into()), TokenFault::Issuer),
            (changed(|s| s.audience = "another".into()), TokenFault::Audience),
            (other.sign(&spec(), now()).unwrap(), TokenFault::Signature),
            (stolen, TokenFault::Signature),
            (none, TokenFault::Algorithm),
            (hmac, TokenFault::Algorithm),
        ] {
            assert_eq!(verifier.verify(&token, now()), Err(fault), "{token}");
        }
        for garbled in ["", "x", "a.b.c", "a.b.c.d", &"x".repeat(20_000)] {
            assert!(verifier.verify(garbled, now()).is_err(), "{garbled}");
        }
    }

    #[test]
    fn nothing_is_believed_without_key_issuer_and_audience() {
        assert!(TokenVerifier::new(TokenKeys::default(), &settings()).is_err());
        let signer = TokenSigner::from_pem(&new_signing_key().unwrap()).unwrap();
        let mut keys = TokenKeys::default();
        keys.add(signer.public_key_pem().as_bytes()).unwrap();
        for change in
            [(|s: &mut TokenSettings| s.issuer.clear()) as fn(&mut _), |s: &mut TokenSettings| {
                s.audience.clear()
            }]
        {
            let mut settings = settings();
            change(&mut settings);
            assert!(TokenVerifier::new(keys.clone(), &settings).is_err());
        }
        let private = new_signing_key().unwrap();
        let error = TokenKeys::default().add(private.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("private key"), "{error}");
    }
}
