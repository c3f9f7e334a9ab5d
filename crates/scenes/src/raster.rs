//! Masks, polygons and homographies on plain buffers.

use guiji_domain::{Point, Quad};

/// Coverage, 0 to 255, row by row.
#[derive(Debug, Clone)]
pub(crate) struct Mask {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) data: Vec<u8>,
}

/// Sub-scanlines a row is cut into; across a row coverage is exact.
const SUBROWS: usize = 4;

impl Mask {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self { width, height, data: vec![0; width * height] }
    }

    /// Fills a polygon (even-odd), antialiased; overlapping fills take the larger coverage.
    pub(crate) fn fill(&mut self, polygon: &[Point]) {
        let mut row = vec![0.0f32; self.width];
        let mut crossings: Vec<f32> = Vec::new();
        for y in 0..self.height {
            row.fill(0.0);
            let mut touched = false;
            for sub in 0..SUBROWS {
                let at = y as f32 + (sub as f32 + 0.5) / SUBROWS as f32;
                crossings.clear();
                for (i, a) in polygon.iter().enumerate() {
                    let b = polygon[(i + 1) % polygon.len()];
                    if (a.y <= at) != (b.y <= at) {
                        crossings.push(a.x + (at - a.y) * (b.x - a.x) / (b.y - a.y));
                    }
                }
                crossings.sort_by(f32::total_cmp);
                for pair in crossings.chunks_exact(2) {
                    touched |= add_span(&mut row, pair[0], pair[1]);
                }
            }
            if touched {
                let out = &mut self.data[y * self.width..][..self.width];
                for (o, r) in out.iter_mut().zip(&row) {
                    *o = (*o).max((r * (255.0 / SUBROWS as f32)).round().min(255.0) as u8);
                }
            }
        }
    }

    /// Blurs with a box of `2 * radius + 1`, twice (nearly Gaussian).
    pub(crate) fn blur(&mut self, radius: usize) {
        for _ in 0..2 {
            blur_lines(&mut self.data, self.width, self.height, 1, self.width, radius);
            blur_lines(&mut self.data, self.height, self.width, self.width, 1, radius);
        }
    }

    pub(crate) fn at(&self, x: usize, y: usize) -> u8 {
        self.data[y * self.width + x]
    }
}

fn add_span(row: &mut [f32], from: f32, to: f32) -> bool {
    let (from, to) = (from.max(0.0), to.min(row.len() as f32));
    if from >= to {
        return false;
    }
    let (first, last) = (from as usize, (to.ceil() as usize).min(row.len()));
    for (x, cover) in row.iter_mut().enumerate().take(last).skip(first) {
        *cover += (to.min(x as f32 + 1.0) - from.max(x as f32)).clamp(0.0, 1.0);
    }
    true
}

fn blur_lines(
    data: &mut [u8],
    length: usize,
    lines: usize,
    step: usize,
    line_step: usize,
    radius: usize,
) {
    let span = 2 * radius + 1;
    let mut copy = vec![0u8; length];
    for line in 0..lines {
        let base = line * line_step;
        for (i, c) in copy.iter_mut().enumerate() {
            *c = data[base + i * step];
        }
        let at = |i: isize| {
            usize::try_from(i).ok().and_then(|i| copy.get(i)).map_or(0, |v| usize::from(*v))
        };
        let mut sum: usize = (0..=radius as isize).map(at).sum();
        for i in 0..length {
            data[base + i * step] = (sum / span) as u8;
            sum = sum + at(i as isize + radius as isize + 1) - at(i as isize - radius as isize);
        }
    }
}

/// A projective map of the plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Homography([f64; 9]);

impl Homography {
    /// Maps the corners of `from` to those of `to`. `None` when a quad is degenerate.
    ///
    /// Heckbert, "Fundamentals of Texture Mapping and Image Warping" (1989), section 2.2.3: both through the unit
    /// square.
    pub(crate) fn between(from: &Quad, to: &Quad) -> Option<Self> {
        Some(Self::from_unit_square(to)?.after(&Self::from_unit_square(from)?.inverse()?))
    }

    fn from_unit_square(quad: &Quad) -> Option<Self> {
        let [p0, p1, p2, p3] = quad.0.map(|p| (f64::from(p.x), f64::from(p.y)));
        let (dx1, dx2, dx3) = (p1.0 - p2.0, p3.0 - p2.0, p0.0 - p1.0 + p2.0 - p3.0);
        let (dy1, dy2, dy3) = (p1.1 - p2.1, p3.1 - p2.1, p0.1 - p1.1 + p2.1 - p3.1);
        let det = dx1 * dy2 - dx2 * dy1;
        if det.abs() < 1e-9 {
            return None;
        }
        let (g, h) = ((dx3 * dy2 - dx2 * dy3) / det, (dx1 * dy3 - dx3 * dy1) / det);
        Some(Self([
            p1.0 - p0.0 + g * p1.0,
            p3.0 - p0.0 + h * p3.0,
            p0.0,
            p1.1 - p0.1 + g * p1.1,
            p3.1 - p0.1 + h * p3.1,
            p0.1,
            g,
            h,
            1.0,
        ]))
    }

    fn after(&self, first: &Self) -> Self {
        let mut out = [0.0; 9];
        for (i, o) in out.iter_mut().enumerate() {
            let (r, c) = (i / 3, i % 3);
            *o = (0..3).map(|k| self.0[r * 3 + k] * first.0[k * 3 + c]).sum();
        }
        Self(out)
    }

    fn inverse(&self) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, i] = self.0;
        let det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
        if det.abs() < 1e-12 {
            return None;
        }
        Some(Self(
            [
                e * i - f * h,
                c * h - b * i,
                b * f - c * e,
                f * g - d * i,
                a * i - c * g,
                c * d - a * f,
                d * h - e * g,
                b * g - a * h,
                a * e - b * d,
            ]
            .map(|v| v / det),
        ))
    }

    pub(crate) fn apply(&self, x: f64, y: f64) -> (f64, f64) {
        let m = &self.0;
        let w = m[6] * x + m[7] * y + m[8];
        ((m[0] * x + m[1] * y + m[2]) / w, (m[3] * x + m[4] * y + m[5]) / w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn square(x: f32, y: f32, w: f32, h: f32) -> [Point; 4] {
        [(x, y), (x + w, y), (x + w, y + h), (x, y + h)].map(|(x, y)| Point { x, y })
    }

    #[test]
    fn coverage_is_area() {
        let mut mask = Mask::new(20, 20);
        mask.fill(&square(2.5, 3.25, 10.0, 7.5));
        let area: f64 = mask.data.iter().map(|v| f64::from(*v) / 255.0).sum();
        assert!((area - 75.0).abs() < 0.5, "{area}");
        assert_eq!((mask.at(5, 5), mask.at(15, 5)), (255, 0));
    }

    #[test]
    fn a_blur_keeps_the_middle_and_softens_the_edge() {
        let mut mask = Mask::new(40, 40);
        mask.fill(&square(10.0, 10.0, 20.0, 20.0));
        mask.blur(2);
        assert_eq!(mask.at(20, 20), 255);
        assert!((60..200).contains(&mask.at(10, 20)), "{}", mask.at(10, 20));
        assert_eq!(mask.at(2, 20), 0);
    }

    proptest! {
        #[test]
        fn a_homography_maps_corners_to_corners(
            d in proptest::array::uniform8(-3.0f32..3.0), w in 20.0f32..200.0, h in 20.0f32..200.0,
        ) {
            let from = Quad(square(0.0, 0.0, w, h));
            let mut to = from;
            for (i, p) in to.0.iter_mut().enumerate() {
                p.x += d[2 * i];
                p.y += d[2 * i + 1];
            }
            let map = Homography::between(&from, &to).unwrap();
            for (a, b) in from.0.iter().zip(&to.0) {
                let (x, y) = map.apply(f64::from(a.x), f64::from(a.y));
                prop_assert!((x - f64::from(b.x)).abs() < 1e-3 && (y - f64::from(b.y)).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn a_degenerate_quad_is_refused() {
        let flat =
            Quad([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (3.0, 3.0)].map(|(x, y)| Point { x, y }));
        assert!(Homography::between(&flat, &Quad(square(0.0, 0.0, 1.0, 1.0))).is_none());
    }
}
