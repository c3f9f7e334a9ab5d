//! Putting a plate's corners right: a small window around the detector's corners through a model that says how far
//! off they are. The detector need only find the plate; the reader gets it as straight as it was trained to read it.

use guiji_domain::{Point, Quad, VisionError};
use ndarray::{ArrayView1, Axis, Ix2};

use crate::decode::{FoundPlate, Outputs, expect_len};
use crate::pixels::View;
use crate::rectify::{Homography, Window, plausible, rectify};
use crate::runtime::Model;

/// Most windows in one run.
const BATCH_MAX: usize = 16;
/// What encloses less than this of the detector's box is another thing than the plate that was found.
const SAME_PLATE_IOU: f32 = 0.3;
/// Numbers that the model says of a plate: x and y of four corners.
const OFFSETS: usize = 8;

/// Makes the corners of found plates exact.
pub(crate) struct CornerFinder {
    pub(crate) model: Model,
    /// Width and height of the tensor.
    pub(crate) input: (usize, usize),
    /// Surroundings shown around the detector's corners, as shares of width and height on every side.
    pub(crate) margin: [f32; 2],
    /// Output `[N, 8]`: by how much the true corners lie off the detector's, x and y of left top, right top, right
    /// bottom, left bottom, as shares of the plate's width and height by the detector's corners.
    pub(crate) output: String,
}

impl CornerFinder {
    /// Replaces the corners of each plate, and its box by theirs; where the answer makes no sense the detector's stay.
    pub(crate) fn correct(&self, plates: &mut [(View<'_>, FoundPlate)]) -> Result<(), VisionError> {
        let [x, y] = self.margin;
        let (width, height) = self.input;
        for plates in plates.chunks_mut(BATCH_MAX) {
            let windows = plates.iter().map(|(view, plate)| {
                rectify(view, &plate.corners, Window::with_margin(x, y), width, height)
            });
            let windows: Vec<_> = windows.collect();
            let corrected = self.model.infer(
                |batch| {
                    batch.reset(windows.len(), width, height);
                    for (index, window) in windows.iter().enumerate() {
                        window.iter().for_each(|window| batch.put_strip(index, window));
                    }
                },
                |outputs| self.decode(outputs, plates),
            )?;
            for (((_, plate), window), corners) in plates.iter_mut().zip(&windows).zip(corrected) {
                if let (Some(corners), Some(_)) = (corners, window) {
                    *plate = corners;
                }
            }
        }
        Ok(())
    }

    fn decode(
        &self,
        outputs: &Outputs<'_>,
        plates: &[(View<'_>, FoundPlate)],
    ) -> Result<Vec<Option<FoundPlate>>, String> {
        let offsets = outputs.get::<Ix2>(&self.output)?;
        expect_len(&self.output, offsets.shape()[0], plates.len())?;
        expect_len(&self.output, offsets.shape()[1], OFFSETS)?;
        let rows = offsets.axis_iter(Axis(0)).zip(plates);
        Ok(rows.map(|(row, (_, plate))| corrected(plate, &row)).collect())
    }
}

/// The plate with the corners that the offsets mean; `None` when they cannot be those of this plate.
fn corrected(plate: &FoundPlate, offsets: &ArrayView1<'_, f32>) -> Option<FoundPlate> {
    let homography = Homography::from_unit_square(&plate.corners)?;
    let unit = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)];
    let corners = Quad(std::array::from_fn(|i| {
        let (u, v) = unit[i];
        let (du, dv) = (f64::from(offsets[2 * i]), f64::from(offsets[2 * i + 1]));
        let (x, y) = homography.map(u + du, v + dv);
        Point { x: x as f32, y: y as f32 }
    }));
    let bbox = corners.bbox()?;
    let same = plausible(&corners) && bbox.iou(&plate.bbox) >= SAME_PLATE_IOU;
    same.then_some(FoundPlate { bbox, corners, score: plate.score })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::BBox;
    use proptest::prelude::*;

    fn found() -> FoundPlate {
        let bbox = BBox::new(100.0, 50.0, 200.0, 80.0).unwrap();
        FoundPlate { bbox, corners: Quad::from_bbox(&bbox), score: 0.8 }
    }

    fn with(offsets: [f32; OFFSETS]) -> Option<FoundPlate> {
        corrected(&found(), &ArrayView1::from(&offsets))
    }

    #[test]
    fn offsets_are_shares_of_the_plate() {
        let plate = with([0.1, -0.5, 0.0, 0.0, -0.1, 0.2, 0.0, 0.0]).unwrap();
        let expected = [(110.0, 35.0), (200.0, 50.0), (190.0, 86.0), (100.0, 80.0)];
        for (corner, (x, y)) in plate.corners.0.iter().zip(expected) {
            assert!((corner.x - x).abs() < 1e-3 && (corner.y - y).abs() < 1e-3, "{corner:?}");
        }
        assert_eq!((plate.bbox, plate.score), (plate.corners.bbox().unwrap(), 0.8));
    }

    #[test]
    fn what_cannot_be_the_plate_is_not_taken() {
        for nonsense in [
            [f32::NAN; OFFSETS],
            [0.0, 5.0, 0.0, 5.0, 0.0, 5.0, 0.0, 5.0],
            [1.0, 1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0],
        ] {
            assert_eq!(with(nonsense), None);
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_taken_or_left(offsets in prop::array::uniform8(prop::num::f32::ANY)) {
            if let Some(plate) = with(offsets) {
                prop_assert!(plausible(&plate.corners));
                prop_assert!(plate.bbox.iou(&found().bbox) >= SAME_PLATE_IOU);
            }
        }
    }
}
