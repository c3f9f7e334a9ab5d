//! Our own plate detector's head: at each scale a score and four corners a cell.

use guiji_domain::{Point, Quad};
use ndarray::{ArrayView3, Axis, Ix4};

use super::{FoundPlate, Outputs, PlateHead, cells, expect_len};

/// Outputs for each stride s: `scores_s` `[N, 1, H / s, W / s]`, probabilities, and `corners_s`
/// `[N, 8, H / s, W / s]`: x and y of top left, top right, bottom right and bottom left, from the cell's centre, in
/// `reach` strides.
pub(crate) struct CellCorners {
    pub(crate) strides: Vec<usize>,
    pub(crate) reach: f32,
}

impl PlateHead for CellCorners {
    fn decode(
        &self,
        outputs: &Outputs<'_>,
        width: usize,
        height: usize,
        score_min: f32,
    ) -> Result<Vec<Vec<FoundPlate>>, String> {
        let mut found: Vec<Vec<FoundPlate>> = Vec::new();
        for stride in &self.strides {
            let (scores_name, corners_name) =
                (format!("scores_{stride}"), format!("corners_{stride}"));
            let scores = outputs.get::<Ix4>(&scores_name)?;
            let corners = outputs.get::<Ix4>(&corners_name)?;
            let sides = [cells(height, *stride), cells(width, *stride)];
            for (name, tensor, channels) in
                [(&scores_name, &scores, 1), (&corners_name, &corners, 8)]
            {
                for (axis, length) in [(1, channels), (2, sides[0]), (3, sides[1])] {
                    expect_len(name, tensor.shape()[axis], length)?;
                }
                expect_len(name, tensor.shape()[0], scores.shape()[0])?;
            }
            found.resize_with(scores.shape()[0], Vec::new);
            for ((plates, scores), corners) in
                found.iter_mut().zip(scores.outer_iter()).zip(corners.outer_iter())
            {
                let strong = scores.index_axis(Axis(0), 0);
                let strong = strong.indexed_iter().filter(|(_, s)| (score_min..=1.0).contains(*s));
                plates.extend(
                    strong.filter_map(|(cell, score)| self.plate(&corners, cell, *stride, *score)),
                );
            }
        }
        Ok(found)
    }
}

impl CellCorners {
    fn plate(
        &self,
        offsets: &ArrayView3<'_, f32>,
        (row, column): (usize, usize),
        stride: usize,
        score: f32,
    ) -> Option<FoundPlate> {
        let stride = stride as f32;
        let (x, y) = ((column as f32 + 0.5) * stride, (row as f32 + 0.5) * stride);
        let offset = |channel: usize| offsets[[channel, row, column]] * stride * self.reach;
        let corners = Quad(
            [0, 2, 4, 6]
                .map(|channel| Point { x: x + offset(channel), y: y + offset(channel + 1) }),
        );
        Some(FoundPlate { bbox: corners.bbox()?, corners, score })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array4;

    #[test]
    fn offsets_become_corners() {
        let head = CellCorners { strides: vec![8, 16], reach: 4.0 };
        let zeros =
            |channels, stride: usize| Array4::<f32>::zeros((2, channels, 32 / stride, 64 / stride));
        let mut scores = [8, 16].map(|stride| zeros(1, stride));
        let mut corners = [8, 16].map(|stride| zeros(8, stride));
        // The second picture's cell (column 2, row 1) of stride 16: centre (40, 24).
        scores[1][[1, 0, 1, 2]] = 0.8;
        for (channel, offset) in
            [-0.5, -0.25, 0.5, -0.25, 0.5, 0.125, -0.5, 0.125].into_iter().enumerate()
        {
            corners[1][[1, channel, 1, 2]] = offset;
        }
        let outputs = Outputs(vec![
            ("scores_8", scores[0].view().into_dyn()),
            ("corners_8", corners[0].view().into_dyn()),
            ("scores_16", scores[1].view().into_dyn()),
            ("corners_16", corners[1].view().into_dyn()),
        ]);
        let found = head.decode(&outputs, 64, 32, 0.5).unwrap();
        assert_eq!((found.len(), found[0].len()), (2, 0));
        let [plate] = found[1][..] else { panic!("{found:?}") };
        let [top_left, _, bottom_right, _] = plate.corners.0;
        assert_eq!(
            (top_left, bottom_right),
            (Point { x: 8.0, y: 8.0 }, Point { x: 72.0, y: 32.0 })
        );
        assert_eq!((Some(plate.bbox), plate.score), (plate.corners.bbox(), 0.8));
        assert!(head.decode(&outputs, 128, 32, 0.5).unwrap_err().contains("scores_8"));
    }
}
