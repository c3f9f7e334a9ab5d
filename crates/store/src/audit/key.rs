use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use guiji_domain::{Digest, StoreError};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::errors::{damaged, io_at};

/// SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes (RFC 8410, section 4).
const PUBLIC_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];

/// The 32 bytes of a public Ed25519 key in PEM; `None` when it is none.
pub fn public_key_from_pem(text: &str) -> Option<Vec<u8>> {
    let read = pem::parse(text).ok().filter(|read| read.tag() == "PUBLIC KEY")?;
    let key = read.contents().strip_prefix(&PUBLIC_HEAD)?;
    (key.len() == 32).then(|| key.to_vec())
}

/// The key that signs checkpoints, or bundles of evidence.
pub(crate) struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads the key; makes it when there is none.
    pub(crate) fn load_or_make(path: &Path) -> Result<Self, StoreError> {
        let der = read_or_make_private(path, || {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            Ok(made.map_err(|_| no_randomness())?.as_ref().to_vec())
        })?;
        let pair = Ed25519KeyPair::from_pkcs8(&der)
            .map_err(|error| damaged(path.display(), format!("no Ed25519 key: {error}")))?;
        Ok(Self(pair))
    }

    /// The public key, 32 bytes.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    /// The public key as PEM (SubjectPublicKeyInfo).
    pub(crate) fn public_pem(&self) -> String {
        pem::encode(&pem::Pem::new("PUBLIC KEY", [&PUBLIC_HEAD[..], &self.public()].concat()))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// Whether a key signed a message.
pub(crate) fn is_signed(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| no_randomness())?;
    Ok(bytes)
}

/// Reads a key; makes the file, readable by its owner only, when there is none.
pub(crate) fn read_or_make_private(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, StoreError>,
) -> Result<Vec<u8>, StoreError> {
    let doing = io_at("read a key", path);
    match File::open(path) {
        Ok(mut file) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(&doing)?;
            Ok(bytes)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = make()?;
            write_private(path, &made)?;
            Ok(made)
        }
        Err(error) => Err(doing(error)),
    }
}

fn no_randomness() -> StoreError {
    let reason = "the system gives no randomness".to_owned();
    StoreError::Medium { doing: "make a key or a salt", reason }
}

/// Written whole or not at all: a half-written key would end the chain of trust.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let doing = "write a key";
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(io_at(doing, &unfinished))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_at(doing, &unfinished))?;
    std::fs::rename(&unfinished, path).map_err(io_at(doing, path))?;
    sync_folder_of(path)
}

/// Makes a new or renamed file's name durable.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_at("sync a folder", folder))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    match <[u8; 32]>::try_from(bytes) {
        Ok(bytes) => Digest(bytes).to_string(),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// The bytes of hexadecimal digits.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
