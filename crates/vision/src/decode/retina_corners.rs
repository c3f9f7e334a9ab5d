//! A RetinaFace-like head: boxes and four corners as offsets from prior boxes.

use guiji_domain::{BBox, Point, Quad};
use ndarray::{Axis, Ix3, s};

use super::{FoundPlate, Outputs, PlateHead, cells, expect_len};
use crate::manifest::{Corner, RetinaCornersEntry};

/// Source: Deng et al. 2019 (RetinaFace). Priors are square, one per `min_size` centred in each cell, stride by
/// stride and row by row; offsets are in prior sizes times `variances[0]`, sizes are `exp(offset * variances[1])`.
pub(crate) struct RetinaCorners {
    pub(crate) strides: Vec<usize>,
    pub(crate) min_sizes: Vec<Vec<f32>>,
    pub(crate) variances: [f32; 2],
    /// Where top left, top right, bottom right and bottom left stand in the model's output.
    pub(crate) corners: [usize; 4],
}

impl RetinaCorners {
    pub(crate) fn new(entry: &RetinaCornersEntry) -> Result<Self, &'static str> {
        let place = |corner| entry.corners.iter().position(|c| *c == corner);
        let order = [Corner::LeftTop, Corner::RightTop, Corner::RightBottom, Corner::LeftBottom];
        let [Some(a), Some(b), Some(c), Some(d)] = order.map(place) else {
            return Err("corners must name all four corners");
        };
        if entry.min_sizes.len() != entry.strides.len() {
            return Err("min_sizes must have a list for each stride");
        }
        Ok(Self {
            strides: entry.strides.clone(),
            min_sizes: entry.min_sizes.clone(),
            variances: entry.variances,
            corners: [a, b, c, d],
        })
    }

    /// Centre x, centre y and size of every prior, pixels.
    fn priors(&self, width: usize, height: usize) -> impl Iterator<Item = (f32, f32, f32)> {
        self.strides.iter().zip(&self.min_sizes).flat_map(move |(stride, sizes)| {
            let (columns, rows) = (cells(width, *stride), cells(height, *stride));
            (0..columns * rows).flat_map(move |i| {
                let x = ((i % columns) as f32 + 0.5) * *stride as f32;
                let y = ((i / columns) as f32 + 0.5) * *stride as f32;
                sizes.iter().map(move |size| (x, y, *size))
            })
        })
    }
}

impl PlateHead for RetinaCorners {
    fn decode(
        &self,
        outputs: &Outputs<'_>,
        width: usize,
        height: usize,
        score_min: f32,
    ) -> Result<Vec<Vec<FoundPlate>>, String> {
        let boxes = outputs.get::<Ix3>("loc")?;
        let scores = outputs.get::<Ix3>("conf")?;
        let points = outputs.get::<Ix3>("landms")?;
        let priors: Vec<_> = self.priors(width, height).collect();
        for (name, tensor, columns) in
            [("loc", &boxes, 4), ("conf", &scores, 2), ("landms", &points, 8)]
        {
            expect_len(name, tensor.shape()[1], priors.len())?;
            expect_len(name, tensor.shape()[2], columns)?;
            expect_len(name, tensor.shape()[0], scores.shape()[0])?;
        }
        let decode_picture = |picture: usize| {
            let scores = scores.slice(s![picture, .., 1]);
            let strong = scores.iter().zip(&priors).enumerate();
            let strong = strong.filter(|(_, (score, _))| (score_min..=1.0).contains(*score));
            strong
                .filter_map(|(i, (score, prior))| {
                    let offsets = boxes.index_axis(Axis(0), picture);
                    let points = points.index_axis(Axis(0), picture);
                    self.plate(*prior, &offsets.row(i), &points.row(i), *score)
                })
                .collect()
        };
        Ok((0..scores.shape()[0]).map(decode_picture).collect())
    }
}

impl RetinaCorners {
    fn plate(
        &self,
        (x, y, size): (f32, f32, f32),
        offsets: &ndarray::ArrayView1<'_, f32>,
        points: &ndarray::ArrayView1<'_, f32>,
        score: f32,
    ) -> Option<FoundPlate> {
        let [centre, scale] = self.variances;
        let (cx, cy) = (x + offsets[0] * centre * size, y + offsets[1] * centre * size);
        let (w, h) = (size * (offsets[2] * scale).exp(), size * (offsets[3] * scale).exp());
        let bbox = BBox::new(cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0)?;
        let corners = Quad(self.corners.map(|i| Point {
            x: x + points[2 * i] * centre * size,
            y: y + points[2 * i + 1] * centre * size,
        }));
        corners.bbox()?; // finite
        Some(FoundPlate { bbox, corners, score })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    fn head() -> RetinaCorners {
        RetinaCorners {
            strides: vec![8, 16],
            min_sizes: vec![vec![24.0, 48.0], vec![96.0, 192.0]],
            variances: [0.1, 0.2],
            corners: [2, 3, 0, 1], // the model says: right bottom, left bottom, left top, right top
        }
    }

    #[test]
    fn priors_stand_in_the_cells() {
        let priors: Vec<_> = head().priors(20, 16).collect();
        assert_eq!(priors.len(), 3 * 2 * 2 + 2 * 2);
        assert_eq!(priors[..3], [(4.0, 4.0, 24.0), (4.0, 4.0, 48.0), (12.0, 4.0, 24.0)]);
        assert_eq!(priors[15], (24.0, 8.0, 192.0));
    }

    #[test]
    fn offsets_become_corners() {
        let count = head().priors(32, 16).count();
        let (mut boxes, mut scores, mut points) = (
            Array3::zeros((1, count, 4)),
            Array3::zeros((1, count, 2)),
            Array3::zeros((1, count, 8)),
        );
        // Prior 5: cell (2, 0), size 48: centre (20, 4).
        scores[[0, 5, 1]] = 0.9;
        boxes[[0, 5, 0]] = 1.0; // centre moves by 0.1 * 48
        boxes[[0, 5, 3]] = -5.0 * std::f32::consts::LN_2; // height halves
        for (i, (x, y)) in
            [(4.0, 1.0), (-4.0, 1.0), (-4.0, -1.0), (4.0, -1.0)].into_iter().enumerate()
        {
            points[[0, 5, 2 * i]] = x;
            points[[0, 5, 2 * i + 1]] = y;
        }
        let outputs = Outputs(vec![
            ("loc", boxes.view().into_dyn()),
            ("conf", scores.view().into_dyn()),
            ("landms", points.view().into_dyn()),
        ]);
        let found = head().decode(&outputs, 32, 16, 0.5).unwrap();
        let [plate] = found[0][..] else { panic!("{found:?}") };
        let expected = BBox::new(24.8 - 24.0, 4.0 - 12.0, 24.8 + 24.0, 4.0 + 12.0).unwrap();
        assert!(plate.bbox.iou(&expected) > 0.999, "{plate:?}");
        let near = |p: Point, x: f32, y: f32| (p.x - x).abs() < 1e-3 && (p.y - y).abs() < 1e-3;
        let [tl, tr, br, bl] = plate.corners.0;
        assert!(near(tl, 0.8, -0.8) && near(tr, 39.2, -0.8), "{plate:?}");
        assert!(near(br, 39.2, 8.8) && near(bl, 0.8, 8.8), "{plate:?}");
        assert!(head().decode(&outputs, 64, 16, 0.5).is_err());
    }
}
