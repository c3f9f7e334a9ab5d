use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use guiji_domain::{
    Digest, Evidence, EvidenceKind, EvidenceSealer, ExportOrder, Heading, People, PictureRedactor,
    RedactedPicture, Sealing, Sighting, SightingStore, StoreError, VehicleClass, VisionError,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::archive::{BLOCK, header, padding};
use super::manifest::{
    Absent, ClockStatement, Manifest, ManifestAuthority, ManifestFile, ModelStatement, Original,
    SoftwareStatement, made, picture_name,
};
use super::{MANIFEST, SIGNATURE, SIGNED};
use crate::audit::{SigningKey, hex};
use crate::errors::damaged;

const DOING: &str = "seal evidence";

const README: &str = "\
Evidence sealed by Guiji. Check it, offline, with the public key that the sealing house gave you by another way:

    guiji verify FILE --key KEY.pub

manifest.json lists every file with its SHA-256, the clock error of each sighting, and by what right this was made.
manifest.sig is an Ed25519 signature over the bytes \"guiji evidence bundle 1\", one zero byte, and manifest.json.
";

const BLURRED: &str = "hidden: of a frame only the vehicle is left; of vehicles seen otherwise than from behind, and of \
                       motorcycles, only the lower two fifths; mosaic, not reversible";
const SHOWN: &str = "shown: the pictures are the originals, by the authority below";

/// Makes signed bundles from a store's pictures. Cloning shares it.
#[derive(Clone)]
pub struct BundleSealer(Arc<Parts>);

struct Parts {
    store: Arc<dyn SightingStore>,
    redactor: Arc<dyn PictureRedactor>,
    key: SigningKey,
    software: SoftwareStatement,
    models: Vec<ModelStatement>,
}

impl BundleSealer {
    /// A sealer whose Ed25519 key lies in a file, made when there is none. The public key is written beside it, with
    /// the ending `pub`, as PEM: what those who check bundles are given.
    ///
    /// # Errors
    /// When the key cannot be read or made.
    pub fn open(
        key: &Path,
        store: Arc<dyn SightingStore>,
        redactor: Arc<dyn PictureRedactor>,
        software: SoftwareStatement,
        models: Vec<ModelStatement>,
    ) -> Result<Self, StoreError> {
        let signing = SigningKey::load_or_make(key)?;
        let public = key.with_extension("pub");
        std::fs::write(&public, signing.public_pem())
            .map_err(crate::errors::io_at("write a public key", &public))?;
        Ok(Self(Arc::new(Parts { store, redactor, key: signing, software, models })))
    }

    /// The public key, PEM.
    pub fn public_key_pem(&self) -> String {
        self.0.key.public_pem()
    }
}

/// Whether the key in a store's folder, if there is one, is a key, and its public half its own.
pub(crate) fn check_keys(dir: &Path) -> Result<(), StoreError> {
    let (key, public) = (dir.join("evidence.key"), dir.join("evidence.pub"));
    if !key.is_file() {
        return Ok(());
    }
    let signing = SigningKey::load_or_make(&key)?;
    let stated = std::fs::read(&public).map_err(crate::errors::io_at("read a key", &public))?;
    if stated == signing.public_pem().as_bytes() {
        Ok(())
    } else {
        Err(damaged(public.display(), "it is not the public half of evidence.key"))
    }
}

impl EvidenceSealer for BundleSealer {
    fn begin(&self, order: ExportOrder) -> Box<dyn Sealing> {
        let pictures = order.sightings.iter().enumerate();
        let pictures = pictures.flat_map(|(s, sighting)| {
            (0..sighting.evidence.len()).map(move |e| Step::Picture(s, e))
        });
        let documents = (0..order.documents.len()).map(Step::Document);
        let ends = [Step::Manifest, Step::Signature, Step::End];
        let steps =
            [Step::Readme].into_iter().chain(documents).chain(pictures).chain(ends).collect();
        let manifest = Manifest {
            format: 1,
            made: made(order.at),
            software: self.0.software.clone(),
            models_at_export: self.0.models.clone(),
            authority: ManifestAuthority::of(&order),
            people: match order.people {
                People::Blurred => BLURRED.to_owned(),
                People::Shown => SHOWN.to_owned(),
            },
            clock: order.sightings.iter().map(ClockStatement::of).collect(),
            files: Vec::new(),
            absent: Vec::new(),
        };
        let sealer = Arc::clone(&self.0);
        Box::new(Bundle { sealer, order, steps, manifest, written: Vec::new() })
    }
}

enum Step {
    Readme,
    Document(usize),
    Picture(usize, usize),
    Manifest,
    Signature,
    End,
}

/// A bundle in the making.
struct Bundle {
    sealer: Arc<Parts>,
    order: ExportOrder,
    steps: VecDeque<Step>,
    manifest: Manifest,
    /// The manifest's bytes, when they were written.
    written: Vec<u8>,
}

impl Sealing for Bundle {
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        while let Some(step) = self.steps.pop_front() {
            let piece = match step {
                Step::Readme => self.listed("README.txt".into(), README.as_bytes().to_vec())?,
                Step::Document(index) => {
                    let Some((name, bytes)) = self.order.documents.get_mut(index) else { continue };
                    let (name, bytes) = (name.clone(), std::mem::take(bytes));
                    self.listed(name, bytes)?
                }
                Step::Picture(sighting, evidence) => match self.picture(sighting, evidence)? {
                    Some(piece) => piece,
                    None => continue,
                },
                Step::Manifest => {
                    let text = serde_json::to_vec_pretty(&self.manifest);
                    self.written = text.map_err(|error| medium(error.to_string()))?;
                    member(MANIFEST, &self.written)?
                }
                Step::Signature => {
                    let signature = self.sealer.key.sign(&[SIGNED, &self.written].concat());
                    let key = hex(&self.sealer.key.public());
                    let text = json!({ "key": key, "signature": hex(&signature) });
                    member(SIGNATURE, format!("{text}\n").as_bytes())?
                }
                Step::End => vec![0; 2 * BLOCK],
            };
            return Ok(Some(piece));
        }
        Ok(None)
    }
}

impl Bundle {
    /// A file that is no picture.
    fn listed(&mut self, name: String, bytes: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        self.manifest.files.push(ManifestFile {
            bytes: bytes.len() as u64,
            sha256: digest(&bytes).to_string(),
            sighting: None,
            shows: None,
            original: None,
            hidden: None,
            name: name.clone(),
        });
        member(&name, &bytes)
    }

    fn picture(&mut self, sighting: usize, index: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(sighting) = self.order.sightings.get(sighting) else { return Ok(None) };
        let Some(evidence) = sighting.evidence.get(index) else { return Ok(None) };
        let absent = |reason: &str| Absent {
            sighting: sighting.id.to_string(),
            shows: evidence.kind.to_string(),
            sha256: evidence.digest.to_string(),
            reason: reason.to_owned(),
        };
        let Some(original) = self.sealer.store.evidence(&evidence.digest)? else {
            self.manifest.absent.push(absent("not kept any more, or never kept"));
            return Ok(None);
        };
        let redacted = match self.order.people {
            People::Shown => None,
            People::Blurred => match self.redact(sighting, evidence, &original) {
                Ok(redacted) => redacted,
                Err(error) => {
                    warn!(%error, sighting = %sighting.id, "a picture could not be redacted and is left out");
                    self.manifest.absent.push(absent("people in it could not be hidden"));
                    return Ok(None);
                }
            },
        };
        let mut file = ManifestFile {
            name: picture_name(sighting, index, evidence.kind, &evidence.media_type),
            bytes: original.len() as u64,
            sha256: evidence.digest.to_string(),
            sighting: Some(sighting.id.to_string()),
            shows: Some(evidence.kind.to_string()),
            original: None,
            hidden: None,
        };
        let bytes = match redacted {
            None => original,
            Some(RedactedPicture { bytes, media_type, hidden }) => {
                file.name = picture_name(sighting, index, evidence.kind, media_type);
                file.original = Some(Original { sha256: file.sha256, bytes: file.bytes });
                file.hidden = Some(hidden.into());
                (file.sha256, file.bytes) = (digest(&bytes).to_string(), bytes.len() as u64);
                bytes
            }
        };
        let piece = member(&file.name, &bytes)?;
        self.manifest.files.push(file);
        Ok(Some(piece))
    }

    /// The picture without people; `None` when nobody can be seen in it.
    fn redact(
        &self,
        sighting: &Sighting,
        evidence: &Evidence,
        original: &[u8],
    ) -> Result<Option<RedactedPicture>, RedactionFailed> {
        let redactor = &self.sealer.redactor;
        let occupants = shows_people(sighting);
        let redacted = match evidence.kind {
            EvidenceKind::Plate => return Ok(None),
            EvidenceKind::Vehicle if !occupants => return Ok(None),
            EvidenceKind::Vehicle => redactor.redact_vehicle(original)?,
            EvidenceKind::Frame => {
                let cut_out =
                    sighting.evidence.iter().find(|other| other.kind == EvidenceKind::Vehicle);
                let cut_out = cut_out.map(|cut_out| self.sealer.store.evidence(&cut_out.digest));
                let cut_out = cut_out.transpose()?.flatten();
                redactor.redact_frame(original, cut_out.as_deref(), occupants)?
            }
        };
        Ok(Some(redacted))
    }
}

/// Whether people in or on a vehicle may be recognised: not from behind, unless they sit on it.
fn shows_people(sighting: &Sighting) -> bool {
    let behind = sighting.direction.is_some_and(|way| way.heading == Heading::Receding);
    let closed = sighting.vehicle.class.is_some_and(|(class, _)| class != VehicleClass::Motorcycle);
    !(behind && closed)
}

/// Why a picture could not be redacted.
#[derive(Debug)]
enum RedactionFailed {
    Store(StoreError),
    Vision(VisionError),
}

impl std::fmt::Display for RedactionFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Vision(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for RedactionFailed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<VisionError> for RedactionFailed {
    fn from(error: VisionError) -> Self {
        Self::Vision(error)
    }
}

/// A file as it stands in the archive.
fn member(name: &str, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let size = bytes.len() as u64;
    let header =
        header(name, size).ok_or_else(|| medium(format!("{name:?} is no name for a file")))?;
    let zeros = vec![0; padding(size)];
    Ok([&header[..], bytes, &zeros].concat())
}

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn medium(reason: String) -> StoreError {
    StoreError::Medium { doing: DOING, reason }
}
