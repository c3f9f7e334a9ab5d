//! `models/manifest.toml`: which models there are, where their files lie, what goes in and what comes out.
//!
//! Strict: an unknown key is an error, so that a spelling mistake cannot become a silent default. The `[[package]]`
//! tables belong to the script that fetches and are passed over here.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::VisionLoadError;
use crate::tensor::{Channels, Element, Layout};

/// The version of the format that this code reads.
const FORMAT: u32 = 1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    #[serde(default)]
    model: Vec<ModelEntry>,
    #[serde(default)]
    runtime: Vec<RuntimeEntry>,
    #[serde(default)]
    picture: Vec<FileEntry>,
    #[serde(default)]
    #[allow(dead_code)] // read by models/fetch.py
    package: Vec<toml::Table>,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    VehicleDetector,
    PlateDetector,
    PlateCorners,
    PlateReader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VehicleDetector => "vehicle-detector",
            Self::PlateDetector => "plate-detector",
            Self::PlateCorners => "plate-corners",
            Self::PlateReader => "plate-reader",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Location {
    Committed,
    Fetched,
    /// Fetched by those only who compare our models with others.
    Compared,
}

/// One model. Licence, origin and sizes are for people and for the fetching script.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct ModelEntry {
    pub(crate) id: String,
    pub(crate) role: Role,
    file: String,
    location: Location,
    sha256: String,
    bytes: Option<u64>,
    licence: Option<String>,
    licence_file: Option<String>,
    package: Option<String>,
    member: Option<String>,
    made_by: Option<String>,
    origin: Option<String>,
    pub(crate) charset: Option<CharsetEntry>,
    pub(crate) input: InputEntry,
    #[serde(default)]
    pub(crate) output: Vec<OutputEntry>,
    pub(crate) decode: DecodeEntry,
}

/// A reader's characters, one a line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct CharsetEntry {
    file: String,
    location: Location,
    sha256: String,
    bytes: Option<u64>,
    licence: Option<String>,
    package: Option<String>,
    member: Option<String>,
    made_by: Option<String>,
}

/// A file without a meaning for models: a picture.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct FileEntry {
    id: String,
    file: String,
    location: Location,
    sha256: String,
    bytes: Option<u64>,
    licence: Option<String>,
    package: Option<String>,
    member: Option<String>,
}

/// ONNX Runtime's library for one processor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct RuntimeEntry {
    id: String,
    arch: String,
    file: String,
    location: Location,
    sha256: String,
    bytes: Option<u64>,
    licence: Option<String>,
    package: Option<String>,
    member: Option<String>,
}

/// How a picture is made to fit the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fit {
    /// Keeps the proportions; what is left over is filled.
    Letterbox,
    /// At the left, `plate_width` wide; the rest is filled.
    Left,
    /// Fills the tensor, each axis scaled apart.
    Stretch,
}

/// What goes into a model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct InputEntry {
    pub(crate) name: String,
    pub(crate) dtype: ElementName,
    pub(crate) layout: Layout,
    shape: Vec<i64>,
    pub(crate) colour: Channels,
    pub(crate) mean: [f32; 3],
    pub(crate) std: [f32; 3],
    pub(crate) fit: Fit,
    #[serde(default)]
    pub(crate) fill: f32,
    #[serde(default = "one")]
    pub(crate) size_multiple: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Readers: how wide the plate itself is made, where the tensor is wider.
    pub(crate) plate_width: Option<usize>,
    /// Readers and models of corners: how much of the surrounding is shown, as shares of the plate's width and height on every side.
    #[serde(default)]
    pub(crate) margin: [f32; 2],
    /// Plate detectors: long sides at which a whole scene is looked at, pixels.
    #[serde(default)]
    pub(crate) scene_sides: Vec<usize>,
}

fn one() -> usize {
    1
}

/// Element types by the names that the manifest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ElementName {
    U8,
    F32,
}

impl From<ElementName> for Element {
    fn from(name: ElementName) -> Self {
        match name {
            ElementName::U8 => Self::Uint8,
            ElementName::F32 => Self::Float32,
        }
    }
}

/// What comes out of a model, for people; decoders check shapes themselves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct OutputEntry {
    pub(crate) name: String,
    shape: Vec<i64>,
    meaning: Option<String>,
}

/// Which decoder reads the outputs, and its parameters.
#[derive(Debug, Deserialize)]
#[serde(tag = "decoder", rename_all = "kebab-case")]
pub(crate) enum DecodeEntry {
    Nanodet(NanodetEntry),
    Yolox(YoloxEntry),
    RetinaCorners(RetinaCornersEntry),
    CellCorners(CellCornersEntry),
    CornerOffsets(CornerOffsetsEntry),
    Ctc(CtcEntry),
    Positions(PositionsEntry),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NanodetEntry {
    pub(crate) strides: Vec<usize>,
    pub(crate) reg_max: usize,
    pub(crate) classes: Vec<String>,
    pub(crate) score_min: f32,
    pub(crate) overlap_max: f32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct YoloxEntry {
    pub(crate) output: String,
    pub(crate) strides: Vec<usize>,
    pub(crate) classes: Vec<String>,
    pub(crate) score_min: f32,
    pub(crate) overlap_max: f32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetinaCornersEntry {
    pub(crate) strides: Vec<usize>,
    pub(crate) min_sizes: Vec<Vec<f32>>,
    pub(crate) variances: [f32; 2],
    pub(crate) corners: Vec<Corner>,
    pub(crate) score_min: f32,
    pub(crate) overlap_max: f32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellCornersEntry {
    pub(crate) strides: Vec<usize>,
    pub(crate) reach: f32,
    pub(crate) score_min: f32,
    pub(crate) overlap_max: f32,
    pub(crate) closer: Option<CloserEntry>,
}

/// The closer look at what may be a plate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloserEntry {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) plate_width: f32,
    pub(crate) candidate_min: f32,
}

/// What puts a plate's corners right: offsets from those that the detector gave.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CornerOffsetsEntry {
    pub(crate) output: String,
}

/// A corner of a plate as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Corner {
    LeftTop,
    RightTop,
    RightBottom,
    LeftBottom,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct CtcEntry {
    pub(crate) blank: usize,
    pub(crate) classes: usize,
    columns_per_step: Option<usize>,
    score_min: Option<f32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub(crate) struct PositionsEntry {
    /// Colours in the order of the output `colour`.
    #[serde(default)]
    pub(crate) colours: Vec<String>,
    /// Kinds in the order of the output `kind`, which nobody uses yet: grammar tells the kind.
    #[serde(default)]
    kinds: Vec<String>,
    positions: Option<usize>,
    classes: Option<usize>,
    score_min: Option<f32>,
}

/// The manifest with the two folders that its files lie in.
#[derive(Debug)]
pub struct Models {
    manifest: Manifest,
    path: PathBuf,
    folder: PathBuf,
    cache: PathBuf,
}

/// Which model does what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// What it is for: `plate-reader` and the like.
    pub role: String,
    /// Its name in the manifest.
    pub id: String,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
}

/// A file of the manifest.
struct Pinned<'a> {
    id: &'a str,
    file: &'a str,
    location: Location,
    sha256: &'a str,
}

macro_rules! pinned {
    ($entry:expr, $id:expr) => {
        Pinned { id: $id, file: &$entry.file, location: $entry.location, sha256: &$entry.sha256 }
    };
}

impl Models {
    /// Reads the manifest (`manifest.toml` itself or the folder that holds it). Committed files lie beside it,
    /// fetched ones in `cache`. No model file is opened yet.
    ///
    /// # Errors
    /// When the manifest cannot be read or says something that makes no sense; the message names line and key.
    pub fn locate(manifest: &Path, cache: &Path) -> Result<Self, VisionLoadError> {
        let path =
            if manifest.is_dir() { manifest.join("manifest.toml") } else { manifest.to_owned() };
        let wrong = |reason| VisionLoadError::Manifest { path: path.clone(), reason };
        let text = fs::read_to_string(&path).map_err(|e| {
            wrong(format!("cannot be read: {e}: give the path of models/manifest.toml"))
        })?;
        let manifest: Manifest = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if manifest.format != FORMAT {
            return Err(wrong(format!(
                "has format {}, this program reads format {FORMAT}: use the manifest of the same release",
                manifest.format
            )));
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { manifest, path, folder, cache: cache.to_owned() })
    }

    /// The manifest's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks every file that this machine needs: its id, and what is wrong with it. For `guiji doctor`.
    pub fn check(&self) -> Vec<(String, Result<(), VisionLoadError>)> {
        let models = self.manifest.model.iter().flat_map(|m| {
            let charset = m.charset.as_ref().map(|c| pinned!(c, &m.id));
            [Some(pinned!(m, &m.id)), charset]
        });
        let pictures = self.manifest.picture.iter().map(|p| Some(pinned!(p, &p.id)));
        let needed = |file: &Pinned<'_>| file.location != Location::Compared;
        let files = models.chain(pictures).flatten().filter(needed);
        let mut checked: Vec<_> =
            files.map(|f| (format!("{} ({})", f.id, f.file), self.read(&f).map(drop))).collect();
        checked.push(("onnxruntime".to_owned(), self.runtime_library().map(drop)));
        checked
    }

    /// The path of a picture that the manifest names, its digest checked.
    ///
    /// # Errors
    /// When the manifest names no such picture, or the file is missing or another.
    pub fn picture(&self, id: &str) -> Result<PathBuf, VisionLoadError> {
        let entry = self
            .manifest
            .picture
            .iter()
            .find(|p| p.id == id)
            .ok_or_else(|| self.wrong(format!("names no picture {id:?}")))?;
        let pinned = pinned!(entry, &entry.id);
        self.read(&pinned)?;
        Ok(self.place(&pinned))
    }

    /// The path of ONNX Runtime's library for this processor, its digest checked.
    ///
    /// # Errors
    /// When none is known for this processor, or the file is missing or another.
    pub fn runtime_library(&self) -> Result<PathBuf, VisionLoadError> {
        let arch = std::env::consts::ARCH;
        let entry = self.manifest.runtime.iter().find(|r| r.arch == arch).ok_or_else(|| {
            self.wrong(format!(
                "names no ONNX Runtime for {arch}: set the path of its library yourself, or add a [[runtime]] table"
            ))
        })?;
        let pinned = pinned!(entry, &entry.id);
        self.read(&pinned)?;
        Ok(self.place(&pinned))
    }

    /// The models that [`crate::Vision::load`] takes unless told otherwise: of each role the first.
    pub fn in_use(&self) -> Vec<ModelFacts> {
        let mut facts: Vec<ModelFacts> = Vec::new();
        for model in &self.manifest.model {
            let role = model.role.to_string();
            if facts.iter().all(|known| known.role != role) {
                facts.push(ModelFacts { role, id: model.id.clone(), sha256: model.sha256.clone() });
            }
        }
        facts
    }

    /// Whether a model for the role is listed.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.manifest.model.iter().any(|m| m.role == role)
    }

    /// The model for a role: the one of that id, or the first that the manifest lists.
    pub(crate) fn model(
        &self,
        role: Role,
        id: Option<&str>,
    ) -> Result<&ModelEntry, VisionLoadError> {
        let of_role = || self.manifest.model.iter().filter(|m| m.role == role);
        let found = of_role().find(|m| id.is_none_or(|id| m.id == id));
        found.ok_or_else(|| {
            let known: Vec<_> = of_role().map(|m| m.id.as_str()).collect();
            let named = id.map(|id| format!(" with id {id:?}")).unwrap_or_default();
            self.wrong(format!(
                "names no model with role {role}{named}; known: {}",
                known.join(", ")
            ))
        })
    }

    /// The bytes of a model, digest checked.
    pub(crate) fn model_bytes(&self, entry: &ModelEntry) -> Result<Vec<u8>, VisionLoadError> {
        self.read(&pinned!(entry, &entry.id))
    }

    /// The lines of a reader's charset, digest checked.
    pub(crate) fn charset(&self, entry: &ModelEntry) -> Result<Vec<String>, VisionLoadError> {
        let wrong = |reason: &str| VisionLoadError::Model {
            model: entry.id.clone(),
            reason: reason.to_owned(),
        };
        let charset =
            entry.charset.as_ref().ok_or_else(|| wrong("a reader needs a [model.charset]"))?;
        let bytes = self.read(&pinned!(charset, &entry.id))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("the charset is not UTF-8"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn place(&self, file: &Pinned<'_>) -> PathBuf {
        match file.location {
            Location::Committed => self.folder.join(file.file),
            Location::Fetched | Location::Compared => self.cache.join(file.file),
        }
    }

    fn read(&self, file: &Pinned<'_>) -> Result<Vec<u8>, VisionLoadError> {
        let path = self.place(file);
        let what = file.id.to_owned();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let fix = match file.location {
                    Location::Committed => "restore it from git",
                    Location::Fetched => "run `./x models`, which fetches it",
                    Location::Compared => "run `python3 models/fetch.py --compared`",
                };
                return Err(VisionLoadError::Missing { what, path, fix });
            }
            Err(e) => {
                return Err(VisionLoadError::Unreadable { what, path, reason: e.to_string() });
            }
        };
        let found = hex(&Sha256::digest(&bytes));
        if found != file.sha256.to_ascii_lowercase() {
            let fix = match file.location {
                Location::Committed => {
                    "restore it from git, or write the new digest into the manifest if you made it anew"
                }
                Location::Fetched => "delete it and run `./x models`",
                Location::Compared => "delete it and run `python3 models/fetch.py --compared`",
            };
            let expected = file.sha256.to_owned();
            return Err(VisionLoadError::WrongDigest { what, path, expected, found, fix });
        }
        Ok(bytes)
    }

    fn wrong(&self, reason: String) -> VisionLoadError {
        VisionLoadError::Manifest { path: self.path.clone(), reason }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
        format = 1
        [[model]]
        id = "reader"
        role = "plate-reader"
        file = "reader.onnx"
        location = "fetched"
        sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        [model.charset]
        file = "charset.txt"
        location = "committed"
        sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        [model.input]
        name = "plate"
        dtype = "f32"
        layout = "NCHW"
        shape = [-1, 3, 48, 168]
        colour = "RGB"
        mean = [0.0, 0.0, 0.0]
        std = [255.0, 255.0, 255.0]
        fit = "stretch"
        margin = [0.05, 0.1]
        width = 168
        height = 48
        [model.decode]
        decoder = "positions"
        colours = ["blue"]
        [[package]]
        anything = "goes"
    "#;

    fn located(text: &str) -> (tempfile::TempDir, Result<Models, VisionLoadError>) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("manifest.toml"), text).unwrap();
        let models = Models::locate(folder.path(), &folder.path().join("cache"));
        (folder, models)
    }

    #[test]
    fn a_manifest_is_read() {
        let (_folder, models) = located(MANIFEST);
        let models = models.unwrap();
        let reader = models.model(Role::PlateReader, None).unwrap();
        assert_eq!((reader.input.margin, reader.input.size_multiple), ([0.05, 0.1], 1));
        assert!(matches!(&reader.decode, DecodeEntry::Positions(p) if p.colours == ["blue"]));
        let error = models.model(Role::PlateReader, Some("other")).unwrap_err().to_string();
        assert!(error.contains("other") && error.contains("known: reader"), "{error}");
        let error = models.model(Role::VehicleDetector, None).unwrap_err().to_string();
        assert!(error.contains("vehicle-detector"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, hint) in [
            ("margin =", "margins =", "margins"),
            ("colours =", "colors =", "colors"),
            ("\"positions\"", "\"position\"", "positions"),
            ("\"stretch\"", "\"zoom\"", "letterbox"),
            ("format = 1", "format = 2", "format 2"),
            ("role = \"plate-reader\"", "", "role"),
        ] {
            let (_folder, models) = located(&MANIFEST.replace(from, to));
            let error = models.unwrap_err().to_string();
            assert!(error.contains(hint) && error.contains("manifest.toml"), "{hint}: {error}");
        }
        let error = Models::locate(Path::new("no/such/place"), Path::new("")).unwrap_err();
        assert!(error.to_string().contains("models/manifest.toml"), "{error}");
    }

    #[test]
    fn files_are_checked() {
        let (folder, models) = located(MANIFEST);
        let models = models.unwrap();
        let reader = models.model(Role::PlateReader, None).unwrap();
        let error = models.model_bytes(reader).unwrap_err().to_string();
        assert!(error.contains("reader.onnx") && error.contains("./x models"), "{error}");
        let error = models.charset(reader).unwrap_err().to_string();
        assert!(error.contains("charset.txt") && error.contains("git"), "{error}");

        fs::create_dir(folder.path().join("cache")).unwrap();
        fs::write(folder.path().join("cache/reader.onnx"), "hello").unwrap();
        fs::write(folder.path().join("charset.txt"), "hello").unwrap();
        assert_eq!(models.model_bytes(reader).unwrap(), b"hello");
        assert_eq!(models.charset(reader).unwrap(), ["hello"]);

        fs::write(folder.path().join("cache/reader.onnx"), "hallo").unwrap();
        let error = models.model_bytes(reader).unwrap_err().to_string();
        for part in ["reader", "reader.onnx", "2cf24dba", "d3751d33", "./x models"] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
        assert_eq!(models.check().iter().filter(|(_, r)| r.is_err()).count(), 2);
    }
}
