//! NanoDet: per stride, scores of each class and a distribution over the distance to each side.

use guiji_domain::{BBox, VehicleClass};
use ndarray::{ArrayView1, Ix3};

use super::{DetectionHead, FoundVehicle, Outputs, cells, expect_len};

/// Source: generalised focal loss, Li et al. 2020: a distance is the expectation of a softmax over 0 to `reg_max`,
/// times the stride; cell centres at `(x + 0.5) * stride`.
pub(crate) struct NanoDet {
    pub(crate) strides: Vec<usize>,
    pub(crate) reg_max: usize,
    /// What each score means; `None` for what is no vehicle.
    pub(crate) classes: Vec<Option<VehicleClass>>,
}

impl DetectionHead for NanoDet {
    fn decode(
        &self,
        outputs: &Outputs<'_>,
        width: usize,
        height: usize,
        score_min: f32,
    ) -> Result<Vec<Vec<FoundVehicle>>, String> {
        let mut found: Vec<Vec<FoundVehicle>> = Vec::new();
        for stride in &self.strides {
            let (scores_name, sides_name) = (format!("scores_{stride}"), format!("sides_{stride}"));
            let scores = outputs.get::<Ix3>(&scores_name)?;
            let sides = outputs.get::<Ix3>(&sides_name)?;
            let columns = cells(width, *stride);
            let expected = columns * cells(height, *stride);
            expect_len(&scores_name, scores.shape()[1], expected)?;
            expect_len(&sides_name, sides.shape()[1], expected)?;
            expect_len(&scores_name, scores.shape()[2], self.classes.len())?;
            expect_len(&sides_name, sides.shape()[2], 4 * (self.reg_max + 1))?;
            expect_len(&sides_name, sides.shape()[0], scores.shape()[0])?;
            found.resize_with(scores.shape()[0].max(found.len()), Vec::new);
            for (picture, found) in found.iter_mut().enumerate() {
                for (cell, scores) in
                    scores.index_axis(ndarray::Axis(0), picture).outer_iter().enumerate()
                {
                    let Some((class, score)) = best(&scores, &self.classes, score_min) else {
                        continue;
                    };
                    let distances = self.distances(&sides.slice(ndarray::s![picture, cell, ..]));
                    let [left, top, right, bottom] = distances.map(|d| d * *stride as f32);
                    let x = ((cell % columns) as f32 + 0.5) * *stride as f32;
                    let y = ((cell / columns) as f32 + 0.5) * *stride as f32;
                    if let Some(bbox) = BBox::new(x - left, y - top, x + right, y + bottom) {
                        found.push(FoundVehicle { bbox, class, score });
                    }
                }
            }
        }
        Ok(found)
    }
}

impl NanoDet {
    /// Expected distances to left, top, right and bottom, in strides.
    fn distances(&self, logits: &ArrayView1<'_, f32>) -> [f32; 4] {
        let bins = self.reg_max + 1;
        std::array::from_fn(|side| {
            let logits = logits.iter().skip(side * bins).take(bins);
            let max = logits.clone().copied().fold(f32::NEG_INFINITY, f32::max);
            let (mut sum, mut expectation) = (0.0, 0.0);
            for (i, logit) in logits.enumerate() {
                let weight = (logit - max).exp();
                sum += weight;
                expectation += weight * i as f32;
            }
            expectation / sum
        })
    }
}

/// The vehicle class with the best score, where that is high enough.
pub(super) fn best(
    scores: &ArrayView1<'_, f32>,
    classes: &[Option<VehicleClass>],
    score_min: f32,
) -> Option<(VehicleClass, f32)> {
    let known = scores.iter().zip(classes).filter_map(|(s, c)| c.map(|c| (c, *s)));
    known.filter(|(_, s)| *s >= score_min && *s <= 1.0).max_by(|a, b| a.1.total_cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn head() -> NanoDet {
        NanoDet {
            strides: vec![8, 16],
            reg_max: 10,
            classes: vec![Some(VehicleClass::Car), None, Some(VehicleClass::Truck)],
        }
    }

    #[test]
    fn a_peak_becomes_a_box() {
        // 32x16 pixels: 4x2 cells of stride 8, 2x1 of stride 16.
        let mut scores = Array3::zeros((2, 8, 3));
        let mut sides = Array3::zeros((2, 8, 44));
        scores[[1, 6, 2]] = 0.9; // second picture, cell (2, 1): centre (20, 12)
        scores[[1, 6, 1]] = 0.95; // no vehicle
        scores[[0, 0, 0]] = 0.2; // too weak
        for (side, bin) in [1, 0, 2, 10].into_iter().enumerate() {
            sides[[1, 6, side * 11 + bin]] = 50.0;
        }
        let (small_scores, small_sides) = (Array3::zeros((2, 2, 3)), Array3::zeros((2, 2, 44)));
        let outputs = Outputs(vec![
            ("scores_8", scores.view().into_dyn()),
            ("sides_8", sides.view().into_dyn()),
            ("scores_16", small_scores.view().into_dyn()),
            ("sides_16", small_sides.view().into_dyn()),
        ]);
        let found = head().decode(&outputs, 32, 16, 0.35).unwrap();
        assert!(found[0].is_empty());
        let [vehicle] = found[1][..] else { panic!("{found:?}") };
        assert_eq!((vehicle.class, vehicle.score), (VehicleClass::Truck, 0.9));
        let expected = BBox::new(12.0, 12.0, 36.0, 92.0).unwrap();
        assert!(vehicle.bbox.iou(&expected) > 0.999, "{vehicle:?}");
        let error = head().decode(&outputs, 64, 16, 0.35).unwrap_err();
        assert!(error.contains("scores_8") && error.contains("16"), "{error}");
    }

    #[test]
    fn equal_logits_mean_the_middle() {
        let logits = ndarray::Array1::from_elem(44, 3.0);
        assert_eq!(head().distances(&logits.view()), [5.0; 4]);
    }

    #[test]
    fn a_score_that_is_not_a_number_is_no_vehicle() {
        let scores = ndarray::arr1(&[f32::NAN, 0.0, f32::INFINITY]);
        assert_eq!(best(&scores.view(), &head().classes, 0.3), None);
    }
}
