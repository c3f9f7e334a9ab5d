use crate::vehicle::words;
use crate::{Authority, Evidence, Sighting, StoreError, Timestamp, VisionError};

/// What becomes of people in the pictures of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum People {
    /// Nobody can be recognised.
    Blurred,
    /// The pictures are as they were taken.
    Shown,
}
words!(People, "people in pictures", Blurred => "blurred", Shown => "shown");

/// What a bundle of evidence shall hold, and by what right it was asked for.
#[derive(Debug, Clone)]
pub struct ExportOrder {
    /// The sightings whose pictures go in.
    pub sightings: Vec<Sighting>,
    /// Texts that go in beside the pictures: name in the bundle and bytes.
    pub documents: Vec<(String, Vec<u8>)>,
    /// What becomes of people in the pictures.
    pub people: People,
    /// When it was asked for.
    pub at: Timestamp,
    /// By what right.
    pub authority: Authority,
    /// The asker's role, empty where the server asks for no tokens.
    pub role: String,
    /// Whom the request named as the officer, where its token named another; empty otherwise.
    pub on_behalf_of: String,
    /// What was asked, in the words of the audit.
    pub question: String,
    /// The audit record of the request.
    pub audit_record: u64,
}

/// Lets evidence out of the house. Real: signed archives. Scripted: tests.
pub trait EvidenceSealer: Send + Sync {
    /// One picture of a sighting as a bundle with `people` would have it; `None` when it is not kept any more. Blocks.
    ///
    /// # Errors
    /// When the store fails, or people in it could not be hidden.
    fn picture(
        &self,
        sighting: &Sighting,
        evidence: &Evidence,
        people: People,
    ) -> Result<Option<LeavingPicture>, StoreError>;

    /// Begins a bundle; nothing is read yet.
    fn begin(&self, order: ExportOrder) -> Box<dyn Sealing>;
}

/// A bundle in the making, piece by piece, so that no more than a picture is in memory.
pub trait Sealing: Send {
    /// The next bytes of the bundle, at most a picture's; `None` after the last. Blocks.
    ///
    /// # Errors
    /// When the store fails. The bundle is then worth nothing.
    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StoreError>;
}

/// What was hidden in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hidden {
    /// Everything around the vehicle.
    pub surroundings: bool,
    /// The upper part of the vehicle, where its people are.
    pub occupants: bool,
    /// The vehicle too, since nobody could tell where it is.
    pub vehicle: bool,
}

/// A picture in which nobody can be recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactedPicture {
    /// The encoded bytes.
    pub bytes: Vec<u8>,
    /// `image/jpeg` and the like.
    pub media_type: &'static str,
    /// What was hidden.
    pub hidden: Hidden,
}

/// A picture that leaves the house.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeavingPicture {
    /// As it was taken: the people in it are shown, or nobody can be recognised.
    Original(Vec<u8>),
    /// Changed so that nobody can be recognised.
    Redacted(RedactedPicture),
}

/// Makes people in encoded pictures unrecognisable. Real: pixels. Scripted: tests.
pub trait PictureRedactor: Send + Sync {
    /// A whole frame in which only the vehicle is left, and of it, where `occupants` are to be hidden, only the lower
    /// part. The vehicle is where its cut-out was taken from; without the cut-out, or when it cannot be found in the
    /// frame, everything is hidden.
    ///
    /// # Errors
    /// When the frame cannot be decoded.
    fn redact_frame(
        &self,
        frame: &[u8],
        vehicle: Option<&[u8]>,
        occupants: bool,
    ) -> Result<RedactedPicture, VisionError>;

    /// The cut-out of a vehicle whose upper part is hidden.
    ///
    /// # Errors
    /// When it cannot be decoded.
    fn redact_vehicle(&self, vehicle: &[u8]) -> Result<RedactedPicture, VisionError>;
}
