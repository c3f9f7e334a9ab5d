use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use guiji_domain::{Digest, StoreError};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::archive::{BLOCK, header, padding, said};
use super::manifest::Manifest;
use super::{MANIFEST, SIGNATURE, SIGNED};
use crate::audit::{from_hex, hex, is_signed};
use crate::errors::io_at;

/// Largest manifest that is read into memory.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// What became of a bundle.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BundleReport {
    /// The manifest, when it could be read. Believe it only when nothing is wrong.
    pub manifest: Option<Manifest>,
    /// Files of the archive, manifest and signature included.
    pub files: usize,
    /// Everything that is wrong, in the order of the archive. Empty: the bundle is what was sealed.
    pub faults: Vec<BundleFault>,
}

/// A file that is not what was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFault {
    /// The file of the bundle.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

/// Checks a bundle against the Ed25519 public key (32 bytes) of the house that sealed it. Every byte counts.
///
/// # Errors
/// When the file cannot be read. What is wrong with its contents is in the report.
pub fn verify_bundle(path: &Path, key: &[u8]) -> Result<BundleReport, StoreError> {
    let doing = io_at("read a bundle", path);
    let file = File::open(path).map_err(&doing)?;
    verify_archive(BufReader::with_capacity(1 << 18, file), key).map_err(doing)
}

/// A file of the archive as it was found.
struct Found {
    name: String,
    bytes: u64,
    digest: Digest,
    /// What is wrong with the archive's own bytes around it.
    wrong: Option<&'static str>,
}

pub(crate) fn verify_archive(mut archive: impl Read, key: &[u8]) -> std::io::Result<BundleReport> {
    let mut found: Vec<Found> = Vec::new();
    let mut texts: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let broken_off = loop {
        let mut block = [0; BLOCK];
        match fill(&mut archive, &mut block)? {
            BLOCK => {}
            0 => break Some("the archive ends here: it was cut off"),
            _ => break Some("the archive ends within what follows: it was cut off"),
        }
        if block == [0; BLOCK] {
            break end(&mut archive)?;
        }
        let Some((name, bytes)) = said(&block) else {
            break Some("what follows is no file of an archive");
        };
        let straight = header(&name, bytes).is_some_and(|written| written == block);
        let keep = [MANIFEST, SIGNATURE].into_iter().find(|kept| *kept == name);
        let keep = keep.filter(|_| bytes <= MANIFEST_BYTES_MAX);
        let mut hasher = Sha256::new();
        let mut text = Vec::new();
        let whole = copy(&mut archive, bytes, |part| {
            hasher.update(part);
            if keep.is_some() {
                text.extend_from_slice(part);
            }
        })?;
        let mut zeros = [0; BLOCK];
        let zeros = &mut zeros[..padding(bytes)];
        let padded =
            fill(&mut archive, zeros)? == zeros.len() && zeros.iter().all(|byte| *byte == 0);
        let wrong = match () {
            () if !straight => Some("its entry in the archive was altered"),
            () if !whole => Some("is cut off"),
            () if !padded => Some("the bytes after it were altered or cut off"),
            () => None,
        };
        found.push(Found { name, bytes, digest: Digest(hasher.finalize().into()), wrong });
        if let Some(kept) = keep {
            texts.insert(kept, text);
        }
        if !whole {
            break Some("the archive ends within it");
        }
    };
    Ok(judge(&found, &texts, broken_off, key))
}

/// Says what is wrong, in the order of the archive.
fn judge(
    found: &[Found],
    texts: &BTreeMap<&str, Vec<u8>>,
    broken_off: Option<&str>,
    key: &[u8],
) -> BundleReport {
    let manifest =
        texts.get(MANIFEST).and_then(|text| serde_json::from_slice::<Manifest>(text).ok());
    let vouched = match (texts.get(MANIFEST), texts.get(SIGNATURE)) {
        (None, _) => Err((MANIFEST, "is missing")),
        (Some(_), None) => Err((SIGNATURE, "is missing: nothing vouches for the manifest")),
        (Some(text), Some(signature)) => signed(text, signature, key).and_then(|()| {
            let unknown = "is signed, but of a form that this program does not know";
            manifest.as_ref().map(drop).ok_or((MANIFEST, unknown))
        }),
    };
    let listed = manifest.as_ref().map_or(&[][..], |manifest| &manifest.files);
    let mut faults = Vec::new();
    let mut fault = |file: &str, what: &str| {
        faults.push(BundleFault { file: file.to_owned(), what: what.to_owned() });
    };
    // Where an entry was altered, its name may be what was: the manifest has the right one at the same place.
    let renamed: Vec<&str> = found
        .iter()
        .enumerate()
        .map(|(i, file)| {
            let expected = match found.len() - i {
                1 if broken_off.is_none() => Some(SIGNATURE),
                2 if broken_off.is_none() => Some(MANIFEST),
                _ => listed.get(i).map(|listed| listed.name.as_str()),
            };
            let known = listed.iter().any(|listed| listed.name == file.name)
                || [MANIFEST, SIGNATURE].contains(&file.name.as_str());
            let own = file.name.as_str();
            if file.wrong.is_some() && !known { expected.unwrap_or(own) } else { own }
        })
        .collect();
    for (i, (file, name)) in found.iter().zip(&renamed).enumerate() {
        if let Some(wrong) = file.wrong {
            fault(name, wrong);
            continue;
        }
        if renamed[..i].contains(name) {
            fault(name, "is there twice");
            continue;
        }
        // Against a manifest for which nothing vouches nothing can be said.
        if [MANIFEST, SIGNATURE].contains(name) || vouched.is_err() {
            continue;
        }
        match listed.iter().find(|listed| listed.name == *name) {
            None => fault(name, "is not in the manifest: it was added"),
            Some(listed) if listed.bytes != file.bytes => {
                fault(name, "does not have the size of the manifest: it was altered");
            }
            Some(listed) if listed.sha256 != file.digest.to_string() => {
                fault(name, "does not have the SHA-256 of the manifest: it was altered");
            }
            Some(_) => {}
        }
    }
    if let Some(what) = broken_off {
        let last = renamed.last().copied().unwrap_or("the beginning");
        fault(&format!("after {last}"), what);
    }
    match vouched {
        // It lay in what was cut off, which is said already.
        Err((_, "is missing")) if broken_off.is_some() => {}
        Err((file, what)) => fault(file, what),
        Ok(()) => {
            let missing = listed.iter().filter(|listed| !renamed.contains(&listed.name.as_str()));
            missing.for_each(|listed| fault(&listed.name, "is in the manifest and missing"));
            let order: Vec<&str> = (listed.iter().map(|listed| listed.name.as_str()))
                .chain([MANIFEST, SIGNATURE])
                .collect();
            let same: Vec<&str> =
                renamed.iter().copied().filter(|name| order.contains(name)).collect();
            if same.len() == order.len() && same != order {
                fault(MANIFEST, "the files are not in the order in which they were sealed");
            }
        }
    }
    BundleReport { manifest, files: found.len(), faults }
}

/// The signature as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    key: String,
    signature: String,
}

fn signed(
    manifest: &[u8],
    signature: &[u8],
    key: &[u8],
) -> Result<(), (&'static str, &'static str)> {
    let read: Signature = serde_json::from_slice(signature)
        .map_err(|_| (SIGNATURE, "is no signature: it was altered"))?;
    let written =
        format!("{}\n", serde_json::json!({ "key": read.key, "signature": read.signature }));
    if written.as_bytes() != signature {
        return Err((SIGNATURE, "was altered"));
    }
    if read.key != hex(key) {
        return Err((SIGNATURE, "is by another key than the one that you gave"));
    }
    let Some(signature) = from_hex(&read.signature) else {
        return Err((SIGNATURE, "is no signature: it was altered"));
    };
    if is_signed(key, &[SIGNED, manifest].concat(), &signature) {
        Ok(())
    } else {
        Err((
            MANIFEST,
            "does not have the signature of the key that you gave: it, or the signature, was altered",
        ))
    }
}

/// What is wrong with the archive's end, whose first block of zeros was read.
fn end(archive: &mut impl Read) -> std::io::Result<Option<&'static str>> {
    let mut block = [0; BLOCK];
    if fill(archive, &mut block)? != BLOCK || block != [0; BLOCK] {
        return Ok(Some("the archive's end was altered or cut off"));
    }
    let more = fill(archive, &mut block[..1])?;
    Ok((more > 0).then_some("something was added behind the archive's end"))
}

/// Reads until the buffer is full or the file ends; how much was read.
fn fill(archive: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match archive.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Hands on so many bytes; false when the file ends before.
fn copy(
    archive: &mut impl Read,
    mut bytes: u64,
    mut each: impl FnMut(&[u8]),
) -> std::io::Result<bool> {
    let mut buffer = vec![0; 1 << 16];
    while bytes > 0 {
        let wanted = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        let read = fill(archive, &mut buffer[..wanted])?;
        each(&buffer[..read]);
        if read < wanted {
            return Ok(false);
        }
        bytes -= read as u64;
    }
    Ok(true)
}
