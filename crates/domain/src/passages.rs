use crate::{CameraId, PlateText, StoreError, TimeSpan, Timestamp, VehicleClass, VehicleColour};

/// What the tactics over many vehicles want of a final sighting with a read plate: all that a store has at hand without
/// unpacking it. How probable the text is, how far the clock may be off and which pictures prove it is in the sighting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlatePassage<'a> {
    /// The likeliest text.
    pub plate: &'a PlateText,
    /// Where.
    pub camera: &'a CameraId,
    /// When it was captured.
    pub at: Timestamp,
    /// The class, where it was judged.
    pub class: Option<VehicleClass>,
    /// The body colour, where it was judged.
    pub colour: Option<VehicleColour>,
}

/// Goes through the passages of a span, fast. Every implementation passes the same contract suite.
pub trait PassageSource: Send + Sync {
    /// Calls `visit` with every final sighting that was captured within the span and whose plate was read, each once.
    /// Oldest day first (the UTC day on which the passage began), in order of time within what is sealed.
    ///
    /// # Errors
    /// When the medium fails or a record is damaged; some may have been visited then.
    fn passages(
        &self,
        span: TimeSpan,
        visit: &mut dyn FnMut(&PlatePassage<'_>),
    ) -> Result<(), StoreError>;
}
