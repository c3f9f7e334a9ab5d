//! What models' outputs mean. A model with another head is a new file here, a new variant of
//! [`crate::manifest::DecodeEntry`] and an entry in the manifest; nothing else changes.

pub(crate) mod cell_corners;
pub(crate) mod ctc;
pub(crate) mod nanodet;
pub(crate) mod positions;
pub(crate) mod retina_corners;
pub(crate) mod yolox;

use guiji_domain::{BBox, Lattice, PlateColour, PlateRows, Quad, VehicleClass};
use ndarray::{ArrayView, ArrayViewD, Dimension};

/// What a run of a model gave: tensors by name.
pub(crate) struct Outputs<'a>(pub(crate) Vec<(&'a str, ArrayViewD<'a, f32>)>);

impl Outputs<'_> {
    /// The tensor of that name, with the number of axes that the caller knows it has.
    pub(crate) fn get<D: Dimension>(&self, name: &str) -> Result<ArrayView<'_, f32, D>, String> {
        let (_, tensor) = self
            .0
            .iter()
            .find(|(n, _)| *n == name)
            .ok_or_else(|| format!("the model has no output {name}"))?;
        let shape = tensor.shape().to_vec();
        tensor.view().into_dimensionality().map_err(|_| {
            format!("output {name} has shape {shape:?}, which this decoder does not know")
        })
    }

    /// Whether there is a tensor of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| *n == name)
    }
}

/// A vehicle in pixels of the tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FoundVehicle {
    pub(crate) bbox: BBox,
    pub(crate) class: VehicleClass,
    pub(crate) score: f32,
}

/// A plate in pixels of the tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FoundPlate {
    pub(crate) bbox: BBox,
    pub(crate) corners: Quad,
    pub(crate) score: f32,
}

/// What the text of one plate may be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FoundText {
    pub(crate) lattice: Lattice,
    pub(crate) rows: Option<(PlateRows, f32)>,
    pub(crate) colour: Option<(PlateColour, f32)>,
}

/// From raw outputs to vehicles above a score, one list a picture, before suppression.
pub(crate) trait DetectionHead: Send + Sync {
    fn decode(
        &self,
        outputs: &Outputs<'_>,
        width: usize,
        height: usize,
        score_min: f32,
    ) -> Result<Vec<Vec<FoundVehicle>>, String>;
}

/// From raw outputs to plates above a score, one list a picture, before suppression.
pub(crate) trait PlateHead: Send + Sync {
    fn decode(
        &self,
        outputs: &Outputs<'_>,
        width: usize,
        height: usize,
        score_min: f32,
    ) -> Result<Vec<Vec<FoundPlate>>, String>;
}

/// How a text reader wants plates of two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TwoRows {
    /// As they are.
    Whole,
    /// The lower row set to the right of the upper one.
    SideBySide,
}

/// From raw outputs to texts, one a picture.
pub(crate) trait TextHead: Send + Sync {
    /// How plates of two rows go in.
    fn two_rows(&self) -> TwoRows;

    fn decode(&self, outputs: &Outputs<'_>) -> Result<Vec<FoundText>, String>;
}

/// Number of cells of a grid along an axis.
fn cells(size: usize, stride: usize) -> usize {
    size.div_ceil(stride)
}

/// Says that a tensor has another size than the grid.
pub(crate) fn expect_len(name: &str, found: usize, expected: usize) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("output {name} has {found} rows where {expected} were expected"))
}
