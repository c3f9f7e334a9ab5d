//! Secrets at rest: ChaCha20-Poly1305 (RFC 8439), a random nonce before each ciphertext, its tag after it.

use std::path::Path;

use guiji_domain::StoreError;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::audit::{random, read_or_make_private};
use crate::errors::damaged;

/// The key that seals what must not be read from a stolen copy of the registry.
pub(crate) struct SealKey(LessSafeKey);

impl SealKey {
    /// Reads the key; makes it, readable by its owner only, when there is none.
    pub(crate) fn load_or_make(path: &Path) -> Result<Self, StoreError> {
        let bytes = read_or_make_private(path, || Ok(random::<32>()?.to_vec()))?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes)
            .map_err(|_| damaged(path.display(), "it is no key: 32 bytes are expected"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals a secret of `whose`: it opens for the same owner only, so that rows cannot be exchanged.
    pub(crate) fn seal(&self, whose: &str, secret: &str) -> Result<Vec<u8>, StoreError> {
        let nonce = random::<NONCE_LEN>()?;
        let mut text = secret.as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(whose.as_bytes()),
                &mut text,
            )
            .map_err(|_| damaged(whose, "its secret is too long to be sealed"))?;
        Ok([&nonce[..], &text].concat())
    }

    /// Opens what [`Self::seal`] made; `None` when this key did not seal it for `whose`, or it was changed.
    pub(crate) fn open(&self, whose: &str, sealed: &[u8]) -> Option<String> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(whose.as_bytes()), &mut text).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_for_its_owner_and_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let key = |name: &str| SealKey::load_or_make(&folder.path().join(name)).unwrap();
        let sealed = key("one").seal("k1", "p@ss").unwrap();
        assert_ne!(sealed, key("one").seal("k1", "p@ss").unwrap(), "two nonces");
        assert_eq!(key("one").open("k1", &sealed).as_deref(), Some("p@ss"));
        assert_eq!(key("one").open("k2", &sealed), None);
        assert_eq!(key("two").open("k1", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key("one").open("k1", &changed), None, "byte {at}");
            assert_eq!(key("one").open("k1", &sealed[..at]), None);
        }
    }
}
