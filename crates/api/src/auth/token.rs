use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use guiji_domain::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, TokenData, Validation, decode, decode_header};
use tokio::sync::watch;

use super::claims::{Claims, instant};
use super::keys::{KeyError, TokenKeys};
use super::revoked::RevokedTokens;
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

/// Checks bearer tokens: JSON Web Tokens (RFC 7519) signed with EdDSA, ES256 or RS256. Clones share their keys.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    /// Replaced while the server runs; open streams watch it.
    believed: watch::Sender<Arc<Believed>>,
    leeway: Duration,
    /// For each algorithm, what `jsonwebtoken` checks; times are checked here, by the server's clock.
    validation: Validation,
}

/// What may change while the server runs.
#[derive(Debug)]
struct Believed {
    keys: TokenKeys,
    revoked: Option<RevokedTokens>,
}

/// Tells an open stream when its token is revoked.
#[derive(Debug, Clone)]
pub(crate) struct TokenWatch(watch::Receiver<Arc<Believed>>);

impl TokenWatch {
    /// Waits until the token of this name is revoked.
    pub(crate) async fn revoked(mut self, token_id: Option<&str>) {
        let listed = |believed: &Arc<Believed>| {
            let revoked = believed.revoked.as_ref();
            revoked.is_some_and(|revoked| token_id.is_none_or(|id| revoked.contains(id)))
        };
        if self.0.wait_for(listed).await.is_err() {
            // The verifier is gone, and the server with it.
            std::future::pending::<()>().await;
        }
    }
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
    Expired {
        at: Timestamp,
    },
    NotYet {
        from: Timestamp,
    },
    Revoked,
    Unnamed,
    Claims(String),
    /// No token, and a certificate of nobody who is known.
    Stranger,
    /// No token, and a certificate whose owner's right has ended.
    RightEnded {
        at: Timestamp,
    },
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
        let believed = watch::Sender::new(Arc::new(Believed { keys, revoked: None }));
        Ok(Self { believed, leeway: settings.leeway, validation })
    }

    /// Believes these keys from now on and no others, and none of the revoked tokens: open streams of theirs end.
    /// Where there is a list of revoked tokens, even an empty one, each token must have a name (`jti`), since one without could not be
    /// revoked.
    ///
    /// # Errors
    /// When there is no key; the old ones then stay.
    pub fn believe(&self, keys: TokenKeys, revoked: Option<RevokedTokens>) -> Result<(), KeyError> {
        if keys.is_empty() {
            return Err(KeyError("give at least one key".into()));
        }
        self.believed.send_replace(Arc::new(Believed { keys, revoked }));
        Ok(())
    }

    pub(crate) fn watch(&self) -> TokenWatch {
        TokenWatch(self.believed.subscribe())
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
        let believed = Arc::clone(&self.believed.borrow());
        let claims = self.signed(&believed.keys, token, header.alg, header.kid.as_deref())?;
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
        match (&believed.revoked, &identity.token_id) {
            (Some(_), None) => return Err(TokenFault::Unnamed),
            (Some(revoked), Some(id)) if revoked.contains(id) => return Err(TokenFault::Revoked),
            _ => {}
        }
        // Open streams end when the token would no longer be taken.
        identity.expires = identity.expires.plus(self.leeway);
        Ok(identity)
    }

    /// The claims, if one of the keys signed them for us.
    fn signed(
        &self,
        keys: &TokenKeys,
        token: &str,
        algorithm: Algorithm,
        key_id: Option<&str>,
    ) -> Result<Claims, TokenFault> {
        if !matches!(algorithm, Algorithm::EdDSA | Algorithm::ES256 | Algorithm::RS256) {
            return Err(TokenFault::Algorithm);
        }
        let validation = Validation { algorithms: vec![algorithm], ..self.validation.clone() };
        for candidate in keys.candidates(algorithm, key_id) {
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
            Self::Revoked => f.write_str("the token was revoked: get a new one"),
            Self::Unnamed => f.write_str(
                "the token has no name (jti), so it could not be revoked: this server takes none such",
            ),
            Self::Claims(what) => write!(f, "the token's claims are wrong: {what}"),
            Self::Stranger => f.write_str(
                "this server knows no owner of the client's certificate (server.client), and no token came with the call",
            ),
            Self::RightEnded { at } => write!(f, "the right of the client's certificate ended at {at}"),
        }
    }
}

impl From<TokenFault> for Problem {
    fn from(fault: TokenFault) -> Self {
        let reason = match fault {
            TokenFault::Missing => "TOKEN_MISSING",
            TokenFault::Expired { .. } => "TOKEN_EXPIRED",
            TokenFault::Revoked => "TOKEN_REVOKED",
            TokenFault::Stranger => "CERTIFICATE_UNKNOWN",
            TokenFault::RightEnded { .. } => "CERTIFICATE_RIGHT_ENDED",
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
    fn keys_and_revocations_are_replaced_for_all_clones() {
        let (signer, verifier) = pair();
        let (other, _) = pair();
        let clone = verifier.clone();
        let keys = |signer: &TokenSigner| {
            let mut keys = TokenKeys::default();
            keys.add(signer.public_key_pem().as_bytes()).unwrap();
            keys
        };
        let revoked = TokenSpec { id: "lost".into(), ..spec() };
        let lost = signer.sign(&revoked, now()).unwrap();
        let good = signer.sign(&spec(), now()).unwrap();
        assert!(clone.verify(&lost, now()).is_ok());
        let list = RevokedTokens::parse("lost").unwrap();
        verifier.believe(keys(&signer), Some(list)).unwrap();
        assert_eq!(clone.verify(&lost, now()), Err(TokenFault::Revoked));
        assert!(clone.verify(&good, now()).is_ok());
        // The next key of the issuer, and the end of the old one.
        verifier.believe(keys(&other), None).unwrap();
        assert_eq!(clone.verify(&good, now()), Err(TokenFault::Signature));
        assert!(clone.verify(&other.sign(&spec(), now()).unwrap(), now()).is_ok());
        assert!(verifier.believe(TokenKeys::default(), None).is_err());
        assert!(clone.verify(&other.sign(&spec(), now()).unwrap(), now()).is_ok());
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
