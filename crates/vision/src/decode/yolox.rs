//! YOLOX: one tensor, per cell of every stride a box, an objectness and class scores.

use guiji_domain::{BBox, VehicleClass};
use ndarray::{Axis, Ix3, s};

use super::nanodet::best;
use super::{DetectionHead, FoundVehicle, Outputs, cells, expect_len};

/// Source: Ge et al. 2021 and its `demo_postprocess`: centre `(x + grid) * stride`, size `exp(wh) * stride`, score
/// objectness times class, both sigmoid already.
pub(crate) struct Yolox {
    pub(crate) output: String,
    pub(crate) strides: Vec<usize>,
    /// What each score means; `None` for what is no vehicle.
    pub(crate) classes: Vec<Option<VehicleClass>>,
}

impl DetectionHead for Yolox {
    fn decode(
        &self,
        outputs: &Outputs<'_>,
        width: usize,
        height: usize,
        score_min: f32,
    ) -> Result<Vec<Vec<FoundVehicle>>, String> {
        let tensor = outputs.get::<Ix3>(&self.output)?;
        let grid = |stride: &usize| (cells(width, *stride), cells(height, *stride));
        let rows = self.strides.iter().map(grid).map(|(w, h)| w * h).sum();
        expect_len(&self.output, tensor.shape()[1], rows)?;
        expect_len(&self.output, tensor.shape()[2], 5 + self.classes.len())?;
        let places = self.strides.iter().flat_map(|stride| {
            let (columns, rows) = grid(stride);
            (0..columns * rows).map(move |i| (i % columns, i / columns, *stride as f32))
        });
        let places: Vec<_> = places.collect();
        let decode_picture = |picture: ndarray::ArrayView2<'_, f32>| {
            let rows = picture.axis_iter(Axis(0)).zip(&places);
            rows.filter_map(|(row, (x, y, stride))| {
                let (class, class_score) = best(&row.slice(s![5..]), &self.classes, score_min)?;
                let score = class_score * row[4];
                let (cx, cy) = ((row[0] + *x as f32) * stride, (row[1] + *y as f32) * stride);
                let (w, h) = (row[2].exp() * stride, row[3].exp() * stride);
                let bbox = BBox::new(cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0)?;
                (score_min..=1.0).contains(&score).then_some(FoundVehicle { bbox, class, score })
            })
            .collect()
        };
        Ok(tensor.axis_iter(Axis(0)).map(decode_picture).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn a_row_becomes_a_box() {
        let head = Yolox {
            output: "output".into(),
            strides: vec![8, 16],
            classes: vec![None, Some(VehicleClass::Bus)],
        };
        // 32x16 pixels: 8 cells of stride 8, then 2 of stride 16; the last is (1, 0).
        let mut tensor = Array3::zeros((1, 10, 7));
        let row = [0.5, 0.25, 0.0, f32::ln(2.0), 0.8, 0.99, 0.5];
        tensor.slice_mut(s![0, 9, ..]).assign(&ndarray::arr1(&row));
        let outputs = Outputs(vec![("output", tensor.view().into_dyn())]);
        let found = head.decode(&outputs, 32, 16, 0.3).unwrap();
        let [vehicle] = found[0][..] else { panic!("{found:?}") };
        assert_eq!(vehicle.class, VehicleClass::Bus);
        assert!((vehicle.score - 0.4).abs() < 1e-6);
        let expected = BBox::new(16.0, -12.0, 32.0, 20.0).unwrap();
        assert!(vehicle.bbox.iou(&expected) > 0.999, "{vehicle:?}");
        assert!(head.decode(&outputs, 32, 16, 0.45).unwrap()[0].is_empty());
        assert!(head.decode(&outputs, 32, 32, 0.3).is_err());
    }
}
