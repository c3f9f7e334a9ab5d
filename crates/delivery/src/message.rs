use guiji_domain::{Alert, CameraId, Digest};

/// What goes to a receiver: one form of one alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same for each try and each repetition: `SIGHTING.ENTRY.STAGE`. A receiver that may do a thing only once
    /// remembers it.
    pub id: String,
    /// Where it rang.
    pub camera: CameraId,
    /// The alert as JSON, UTF-8.
    pub body: String,
}

impl Message {
    /// The message of an alert with this text.
    pub fn of(alert: &Alert, body: String) -> Self {
        Self { id: format!("{}.{}", alert.id, alert.stage), camera: alert.camera.clone(), body }
    }

    /// SHA-256 of the body.
    pub fn digest(&self) -> Digest {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.body.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Digest(bytes)
    }
}
