use guiji_domain::{ClockSource, EvidenceKind, ExportOrder, Hidden, Sighting, Timestamp};
use serde::{Deserialize, Serialize};

/// What a bundle holds and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format: 1.
    pub format: u32,
    /// When the bundle was asked for, RFC 3339, UTC.
    pub made: String,
    /// The program that made it.
    pub software: SoftwareStatement,
    /// The models of the server when the bundle was made. Sightings from before a change of models, or imported, were
    /// read by others.
    pub models_at_export: Vec<ModelStatement>,
    /// By what right.
    pub authority: ManifestAuthority,
    /// What became of people in the pictures, and by which rule.
    pub people: String,
    /// For each sighting, how far its time may be off and how that is known.
    pub clock: Vec<ClockStatement>,
    /// Every other file but the signature, in the order of the archive.
    pub files: Vec<ManifestFile>,
    /// Pictures that the sightings name and the bundle lacks.
    pub absent: Vec<Absent>,
}

/// The program that made a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftwareStatement {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A model of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelStatement {
    /// What it is for.
    pub role: String,
    /// Its name.
    pub id: String,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
}

/// The question and by what right it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestAuthority {
    /// Who asked.
    pub officer: String,
    /// Their role; empty where the server asks for no tokens.
    pub role: String,
    /// Whom the request named, where the token named another.
    pub on_behalf_of: String,
    /// Why.
    pub purpose: String,
    /// The case.
    pub case_number: String,
    /// What was asked, in the words of the audit.
    pub question: String,
    /// The record of the server's audit that has it.
    pub audit_record: u64,
}

/// How far the time of a sighting may be off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockStatement {
    /// The sighting.
    pub sighting: String,
    /// The best estimate, RFC 3339, UTC.
    pub captured: String,
    /// The same, nanoseconds since 1970.
    pub captured_ns: i64,
    /// The true time lies within so many seconds of it, as far as the source can tell.
    pub error_s: f64,
    /// What the estimate rests on.
    pub source: String,
    /// The same in a sentence.
    pub known_by: String,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Its name in the archive.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Of a picture: the sighting that it proves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sighting: Option<String>,
    /// Of a picture: what it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shows: Option<String>,
    /// Of a picture in which people were hidden: the one in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
    /// Of a picture in which people were hidden: what was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<HiddenParts>,
}

/// The picture in the store of which a changed one is in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Original {
    /// Its SHA-256, hexadecimal: the one that the sighting names.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// What was hidden in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HiddenParts {
    /// Everything around the vehicle.
    pub surroundings: bool,
    /// The upper part of the vehicle.
    pub occupants: bool,
    /// The vehicle too, since it could not be found in the picture.
    pub vehicle: bool,
}

impl From<Hidden> for HiddenParts {
    fn from(hidden: Hidden) -> Self {
        let Hidden { surroundings, occupants, vehicle } = hidden;
        Self { surroundings, occupants, vehicle }
    }
}

/// A picture that a sighting names and the bundle lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// The sighting.
    pub sighting: String,
    /// What it showed.
    pub shows: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Why it is not here.
    pub reason: String,
}

impl ManifestAuthority {
    pub(crate) fn of(order: &ExportOrder) -> Self {
        Self {
            officer: order.authority.officer().to_owned(),
            role: order.role.clone(),
            on_behalf_of: order.on_behalf_of.clone(),
            purpose: order.authority.purpose().to_owned(),
            case_number: order.authority.case_number().to_owned(),
            question: order.question.clone(),
            audit_record: order.audit_record,
        }
    }
}

impl ClockStatement {
    pub(crate) fn of(sighting: &Sighting) -> Self {
        let captured = sighting.captured;
        let (source, known_by) = match captured.source {
            ClockSource::Rtcp => (
                "rtcp",
                "the camera's own clock, as its RTCP sender reports gave it, compared with the server's clock",
            ),
            ClockSource::Stated => (
                "stated",
                "a person stated when the recording began; the time within the recording was added",
            ),
            ClockSource::Arrival => (
                "arrival",
                "the server's clock when the stream arrived; the camera gave no usable time",
            ),
        };
        Self {
            sighting: sighting.id.to_string(),
            captured: captured.at.to_string(),
            captured_ns: captured.at.as_nanos(),
            error_s: captured.uncertainty.as_secs_f64(),
            source: source.to_owned(),
            known_by: known_by.to_owned(),
        }
    }
}

/// The name of a picture in the archive.
pub(crate) fn picture_name(
    sighting: &Sighting,
    index: usize,
    kind: EvidenceKind,
    media_type: &str,
) -> String {
    let ending = match media_type {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        _ => "bin",
    };
    format!("pictures/{}/{}-{kind}.{ending}", sighting.id, index + 1)
}

pub(crate) fn made(at: Timestamp) -> String {
    at.to_string()
}
