//! What a store refuses before it touches the medium, the same for every store.

use guiji_domain::{Camera, Correction, Coverage, InvalidValue, Recorded, StoreError, WatchEntry};
use sha2::{Digest as _, Sha256};

/// Most records of one answer, whatever limit was asked for; `more` then says that it was cut.
pub const PAGE_MAX: usize = 100_000;

/// The length of a page for a limit asked for.
pub(crate) fn page_length(limit: usize) -> usize {
    limit.min(PAGE_MAX)
}

/// Pictures and alerts must belong to their sighting: what cannot be given back is not taken.
pub(crate) fn recorded(batch: &[Recorded]) -> Result<(), StoreError> {
    for item in batch {
        let sighting = &item.sighting;
        if item.pictures.len() != sighting.evidence.len() {
            return Err(InvalidValue::new(
                "evidence",
                sighting.id,
                format!(
                    "give a picture for each of the {} it names: there are {}",
                    sighting.evidence.len(),
                    item.pictures.len()
                ),
            )
            .into());
        }
        for (evidence, picture) in sighting.evidence.iter().zip(&item.pictures) {
            if picture.len() != evidence.bytes as usize || sha256(picture) != evidence.digest.0 {
                return Err(InvalidValue::new(
                    "evidence",
                    evidence.digest,
                    "size and SHA-256 must be those of the picture given",
                )
                .into());
            }
        }
        if let Some(alert) = item.alerts.iter().find(|a| a.id.sighting != sighting.id) {
            return Err(InvalidValue::new(
                "alert",
                &alert.id,
                "must come with the sighting that rang",
            )
            .into());
        }
    }
    Ok(())
}

/// The numbers of a camera must be numbers.
pub(crate) fn camera(camera: &Camera) -> Result<(), StoreError> {
    if camera.bearing_deg.is_some_and(|b| !(0.0..=360.0).contains(&b)) {
        return Err(InvalidValue::new("bearing", &camera.id, "use 0 to 360 degrees").into());
    }
    if !(camera.analysed_fps_max.is_finite() && camera.analysed_fps_max > 0.0) {
        return Err(InvalidValue::new(
            "analysed pictures a second",
            camera.analysed_fps_max,
            "use a number above 0",
        )
        .into());
    }
    Ok(())
}

/// An entry must hold what it promises.
pub(crate) fn entry(entry: &WatchEntry) -> Result<(), StoreError> {
    entry.clone().checked()?;
    Ok(())
}

/// Words of an interval must be printable and few.
pub(crate) fn coverage(coverage: &Coverage) -> Result<(), StoreError> {
    coverage.clone().checked()?;
    Ok(())
}

/// A correction must say who, in which case and why.
pub(crate) fn correction(correction: &Correction) -> Result<(), StoreError> {
    correction.clone().checked()?;
    Ok(())
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
