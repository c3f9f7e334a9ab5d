use std::collections::BTreeMap;
use std::sync::Arc;

use guiji_domain::Timestamp;
use sha2::{Digest as _, Sha256};

use super::token::TokenFault;
use super::{Identity, KeyError, Rights};

/// The owner of a client certificate, as the operator names them.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// SHA-256 of the certificate's DER form, as `openssl x509 -fingerprint -sha256` prints it: 64 hexadecimal digits,
    /// colons allowed.
    pub sha256: String,
    /// The user: the officer of the audit.
    pub user: String,
    /// Their right ends here, however long the certificate lasts.
    pub valid_until: Timestamp,
    /// What they may.
    pub rights: Rights,
}

/// Whose the certificates are that clients connect with.
///
/// A certificate is known by its digest alone: one that the same authority issued to somebody else gives no right, and
/// taking an entry out revokes it.
#[derive(Debug, Clone, Default)]
pub struct ClientCertificates(Arc<BTreeMap<[u8; 32], Identity>>);

impl ClientCertificates {
    /// # Errors
    /// When a digest or rights cannot be understood, or two entries have the same digest.
    pub fn new(clients: impl IntoIterator<Item = ClientCertificate>) -> Result<Self, KeyError> {
        let mut known = BTreeMap::new();
        for client in clients {
            let told = |what: String| KeyError(format!("client {}: {what}", client.user));
            let digest = digest(&client.sha256).ok_or_else(|| {
                told(format!("{:?} is no SHA-256: give 64 hexadecimal digits", client.sha256))
            })?;
            let identity = (client.rights.clone())
                .identity(&client.user, None, client.valid_until)
                .map_err(told)?;
            if known.insert(digest, identity).is_some() {
                return Err(told("another client has the same certificate".into()));
            }
        }
        Ok(Self(Arc::new(known)))
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The owner of a certificate (DER), if they are known and their right has not ended.
    pub(crate) fn owner(&self, certificate: &[u8], now: Timestamp) -> Result<Identity, TokenFault> {
        let digest: [u8; 32] = Sha256::digest(certificate).into();
        let owner = self.0.get(&digest).ok_or(TokenFault::Stranger)?;
        if owner.expires <= now {
            return Err(TokenFault::RightEnded { at: owner.expires });
        }
        Ok(owner.clone())
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().filter(|c| *c != ':').map_while(|c| c.to_digit(16)).map(|d| d as u8).collect();
    if digits.len() != 64 || text.chars().filter(|c| *c != ':').count() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;

    fn client(sha256: &str, user: &str) -> ClientCertificate {
        ClientCertificate {
            sha256: sha256.into(),
            user: user.into(),
            valid_until: Timestamp::from_secs(1_000),
            rights: serde_json::from_value(serde_json::json!({"role": "patrol"})).unwrap(),
        }
    }

    /// SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    const ABC: &str = "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD";

    #[test]
    fn an_owner_is_known_by_the_digest_until_their_right_ends() {
        let known = ClientCertificates::new([client(ABC, "car 7")]).unwrap();
        let owner = known.owner(b"abc", Timestamp::from_secs(999)).unwrap();
        assert_eq!((owner.subject.as_str(), owner.role), ("car 7", Role::Patrol));
        assert_eq!(known.owner(b"abd", Timestamp::EPOCH), Err(TokenFault::Stranger));
        let ended = known.owner(b"abc", Timestamp::from_secs(1_000));
        assert_eq!(ended, Err(TokenFault::RightEnded { at: Timestamp::from_secs(1_000) }));
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let small = ABC.to_lowercase().replace(':', "");
        assert!(ClientCertificates::new([client(&small, "a")]).is_ok());
        for (clients, hint) in [
            (vec![client("", "a")], "64 hexadecimal"),
            (vec![client(ABC.trim_start_matches("BA:"), "a")], "64 hexadecimal"),
            (vec![client(&format!("{ABC}x"), "a")], "64 hexadecimal"),
            (vec![client(ABC, " ")], "is empty"),
            (vec![client(ABC, "a"), client(&small, "b")], "same certificate"),
        ] {
            let error = ClientCertificates::new(clients).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
