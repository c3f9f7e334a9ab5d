//! Plates made upright: a homography from the four corners, and the crop read straight from the picture's planes.

use guiji_domain::{Point, Quad};

use crate::pixels::{Bgr, View};

/// A plane projective map, row by row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Homography([[f64; 3]; 3]);

impl Homography {
    /// The map that carries the unit square (0,0), (1,0), (1,1), (0,1) to the corners of the quad in their order.
    /// `None` when three corners lie on a line.
    ///
    /// Source: P. Heckbert, "Fundamentals of Texture Mapping and Image Warping", 1989, section 2.2.3.
    pub(crate) fn from_unit_square(quad: &Quad) -> Option<Self> {
        let [p0, p1, p2, p3] = quad.0.map(|p| (f64::from(p.x), f64::from(p.y)));
        let (dx1, dy1) = (p1.0 - p2.0, p1.1 - p2.1);
        let (dx2, dy2) = (p3.0 - p2.0, p3.1 - p2.1);
        let (sx, sy) = (p0.0 - p1.0 + p2.0 - p3.0, p0.1 - p1.1 + p2.1 - p3.1);
        let det = dx1 * dy2 - dx2 * dy1;
        if !det.is_finite() || det.abs() < 1e-6 {
            return None;
        }
        let (g, h) = ((sx * dy2 - dx2 * sy) / det, (dx1 * sy - sx * dy1) / det);
        let map = Self([
            [p1.0 - p0.0 + g * p1.0, p3.0 - p0.0 + h * p3.0, p0.0],
            [p1.1 - p0.1 + g * p1.1, p3.1 - p0.1 + h * p3.1, p0.1],
            [g, h, 1.0],
        ]);
        map.0.iter().flatten().all(|v| v.is_finite()).then_some(map)
    }

    /// Where a point goes. Points on the horizon go far away, not to infinity.
    pub(crate) fn map(&self, x: f64, y: f64) -> (f64, f64) {
        let [a, b, c] = self.0.map(|row| row[0] * x + row[1] * y + row[2]);
        let c = if c.abs() < 1e-9 { 1e-9 } else { c };
        (a / c, b / c)
    }
}

/// A part of the unit square that is the plate: x to the right, y down; beyond 0 and 1 lies the surrounding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    pub(crate) x1: f64,
    pub(crate) y1: f64,
    pub(crate) x2: f64,
    pub(crate) y2: f64,
}

impl Window {
    /// The plate with a margin on every side, as shares of its width and height.
    pub(crate) fn with_margin(x: f32, y: f32) -> Self {
        let (x, y) = (f64::from(x), f64::from(y));
        Self { x1: -x, y1: -y, x2: 1.0 + x, y2: 1.0 + y }
    }
}

/// A small upright picture, rows one after the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Strip {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<Bgr>,
}

impl Strip {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[Bgr]> {
        self.pixels.chunks_exact(self.width)
    }
}

/// Most samples averaged along one axis for a pixel of the strip: plates up to eight times its size.
const SAMPLES_MAX: f32 = 8.0;

/// Reads the window of the plate into an upright strip. Where the plate is larger than the strip, several samples
/// are averaged, so that nothing aliases. `None` for degenerate corners or an empty strip.
pub(crate) fn rectify(
    view: &View<'_>,
    quad: &Quad,
    window: Window,
    width: usize,
    height: usize,
) -> Option<Strip> {
    if width == 0 || height == 0 {
        return None;
    }
    let homography = Homography::from_unit_square(quad)?;
    let (du, dv) =
        ((window.x2 - window.x1) / width as f64, (window.y2 - window.y1) / height as f64);
    let samples = |pixels: f64| (pixels as f32).round().clamp(1.0, SAMPLES_MAX) as usize;
    let across = samples(f64::from(quad.width()) * du);
    let down = samples(f64::from(quad.height()) * dv);
    let share = 1.0 / (across * down) as f32;
    let mut pixels = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let mut sum = [0.0; 3];
            for j in 0..down {
                let v = window.y1 + (y as f64 + (j as f64 + 0.5) / down as f64) * dv;
                for i in 0..across {
                    let u = window.x1 + (x as f64 + (i as f64 + 0.5) / across as f64) * du;
                    let (px, py) = homography.map(u, v);
                    let sample = view.bilinear(px as f32, py as f32);
                    sum.iter_mut().zip(sample).for_each(|(sum, value)| *sum += value);
                }
            }
            pixels.push(sum.map(|value| value * share));
        }
    }
    Some(Strip { width, height, pixels })
}

/// Whether the corners can be those of a plate: in the promised order (clockwise on the screen from the top left),
/// upright, convex, and of a plate's proportions even when seen from the side.
pub(crate) fn plausible(quad: &Quad) -> bool {
    let turns_right = (0..4).all(|i| {
        let [a, b, c] = [quad.0[i], quad.0[(i + 1) % 4], quad.0[(i + 2) % 4]];
        (b.x - a.x) * (c.y - b.y) - (b.y - a.y) * (c.x - b.x) > 0.0
    });
    let [tl, tr, br, bl] = quad.0;
    let upright = tl.x + bl.x < tr.x + br.x && tl.y + tr.y < bl.y + br.y;
    let (width, height) = (quad.width(), quad.height());
    turns_right && upright && height >= 2.0 && (0.7..=9.0).contains(&(width / height))
}

/// The same corners, scaled about the origin and then moved.
pub(crate) fn moved(quad: &Quad, scale: (f32, f32), offset: (f32, f32)) -> Quad {
    Quad(quad.0.map(|p| Point { x: p.x * scale.0 + offset.0, y: p.y * scale.1 + offset.1 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::tests::{as_i420, painted};
    use guiji_domain::{BBox, OwnedPicture};
    use proptest::prelude::*;

    fn point(x: f32, y: f32) -> Point {
        Point { x, y }
    }

    prop_compose! {
        /// A convex quad: a rectangle with each corner moved by less than a quarter of the sides.
        fn any_quad()(
            x in -500f32..500.0, y in -500f32..500.0, w in 40f32..400.0, h in 20f32..200.0,
            shifts in prop::array::uniform8(-0.2f32..0.2),
        ) -> Quad {
            let corner = |dx: f32, dy: f32, i: usize| point(x + w * (dx + shifts[i]), y + h * (dy + shifts[i + 1]));
            Quad([corner(0.0, 0.0, 0), corner(1.0, 0.0, 2), corner(1.0, 1.0, 4), corner(0.0, 1.0, 6)])
        }
    }

    proptest! {
        #[test]
        fn corners_go_to_corners(quad in any_quad()) {
            let homography = Homography::from_unit_square(&quad).unwrap();
            for ((u, v), corner) in [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)].into_iter().zip(quad.0) {
                let (x, y) = homography.map(u, v);
                prop_assert!((x as f32 - corner.x).abs() < 1e-2 && (y as f32 - corner.y).abs() < 1e-2);
            }
        }

        #[test]
        fn lines_stay_lines(quad in any_quad(), u in 0f64..1.0, v in 0f64..1.0) {
            // The image of a point of the diagonal lies on the diagonal of the quad.
            let homography = Homography::from_unit_square(&quad).unwrap();
            let ([a, _, c, _], (x, y)) = (quad.0, homography.map(u, u));
            let cross = f64::from(c.x - a.x) * (y - f64::from(a.y)) - f64::from(c.y - a.y) * (x - f64::from(a.x));
            let length = f64::from((c.x - a.x).hypot(c.y - a.y));
            prop_assert!((cross / length).abs() < 1e-2, "{}", cross / length);
            // And the map of a convex quad keeps the inside inside.
            let (x, y) = homography.map(u, v);
            let bbox = quad.bbox().unwrap().padded(1e-3);
            prop_assert!(bbox.contains(point(x as f32, y as f32)));
        }

        #[test]
        fn a_rectangle_is_scaled_only(x in 0f32..50.0, y in 0f32..50.0, w in 5f32..50.0, h in 5f32..50.0, u in -0.2f64..1.2) {
            let quad = Quad::from_bbox(&BBox::new(x, y, x + w, y + h).unwrap());
            let (px, py) = Homography::from_unit_square(&quad).unwrap().map(u, 1.0 - u);
            prop_assert!((px as f32 - (x + w * u as f32)).abs() < 1e-3);
            prop_assert!((py as f32 - (y + h * (1.0 - u) as f32)).abs() < 1e-3);
        }

        #[test]
        fn anything_is_taken_without_panic(values in prop::array::uniform8(prop::num::f32::ANY)) {
            let quad = Quad([0, 2, 4, 6].map(|i| point(values[i], values[i + 1])));
            let picture = painted(8, 8, |_, _| [9; 3]);
            let view = View::of(&picture).unwrap();
            if let Some(strip) = rectify(&view, &quad, Window::with_margin(0.1, 0.1), 4, 3) {
                prop_assert_eq!(strip.pixels.len(), 12);
            }
            let _ = plausible(&quad);
        }
    }

    /// A picture with a four-coloured quad: red, green, blue and white quarters of the plate.
    fn quarters(quad: Quad) -> OwnedPicture {
        // The inverse map by search: find (u, v) whose image is nearest; exact enough for flat quarters.
        let homography = Homography::from_unit_square(&quad).unwrap();
        let mut plate = vec![[40u8; 3]; 200 * 160];
        for j in 0..800 {
            for i in 0..800 {
                let (u, v) = (f64::from(i) / 800.0, f64::from(j) / 800.0);
                let (x, y) = homography.map(u, v);
                let colour = match (u < 0.5, v < 0.5) {
                    (true, true) => [220, 30, 30],
                    (false, true) => [30, 220, 30],
                    (false, false) => [30, 30, 220],
                    (true, false) => [230, 230, 230],
                };
                plate[y as usize * 200 + x as usize] = colour;
            }
        }
        painted(200, 160, |x, y| plate[y as usize * 200 + x as usize])
    }

    #[test]
    fn a_tilted_plate_becomes_upright() {
        let quad =
            Quad([point(40.0, 50.0), point(150.0, 30.0), point(160.0, 80.0), point(35.0, 105.0)]);
        let picture = quarters(quad);
        for picture in [&picture, &as_i420(&picture)] {
            let view = View::of(picture).unwrap();
            let strip = rectify(&view, &quad, Window::with_margin(0.0, 0.0), 40, 16).unwrap();
            let at = |x: usize, y: usize| strip.pixels[y * 40 + x];
            for ((x, y), [b, g, r]) in [
                ((8, 3), [30.0, 30.0, 220.0]),
                ((31, 3), [30.0, 220.0, 30.0]),
                ((31, 12), [220.0, 30.0, 30.0]),
                ((8, 12), [230.0, 230.0, 230.0]),
            ] {
                let near = at(x, y).iter().zip([b, g, r]).all(|(a, b)| (a - b).abs() < 12.0);
                assert!(near, "({x},{y}): {:?}", at(x, y));
            }
        }
    }

    #[test]
    fn a_margin_shows_the_surrounding() {
        let quad = Quad::from_bbox(&BBox::new(20.0, 20.0, 60.0, 40.0).unwrap());
        let picture = painted(80, 60, |x, y| {
            if (20..60).contains(&x) && (20..40).contains(&y) { [200; 3] } else { [10; 3] }
        });
        let view = View::of(&picture).unwrap();
        let strip = rectify(&view, &quad, Window::with_margin(0.25, 0.25), 60, 30).unwrap();
        assert!(strip.pixels[15 * 60 + 3][0] < 20.0 && strip.pixels[15 * 60 + 30][0] > 190.0);
        assert!(strip.pixels[30][0] < 20.0);
    }

    #[test]
    fn a_large_plate_does_not_alias() {
        let picture = painted(400, 200, |x, _| if x % 2 == 0 { [0; 3] } else { [200; 3] });
        let view = View::of(&picture).unwrap();
        let quad = Quad::from_bbox(&BBox::new(0.0, 0.0, 400.0, 200.0).unwrap());
        let strip = rectify(&view, &quad, Window::with_margin(0.0, 0.0), 50, 25).unwrap();
        assert!(strip.pixels.iter().all(|p| (p[0] - 100.0).abs() < 15.0));
    }

    #[test]
    fn implausible_corners() {
        let right = Quad([point(0.0, 0.0), point(90.0, 5.0), point(90.0, 35.0), point(2.0, 30.0)]);
        assert!(plausible(&right));
        let [a, b, c, d] = right.0;
        for (wrong, why) in [
            (Quad([d, c, b, a]), "mirrored"),
            (Quad([c, d, a, b]), "upside down"),
            (Quad([a, c, b, d]), "crossed"),
            (Quad([a, b, point(5.0, 4.0), d]), "not convex"),
            (Quad([a, a, a, a]), "a point"),
            (Quad([a, b, point(90.0, 6.0), point(2.0, 1.0)]), "a line"),
            (Quad([a, b, c, point(f32::NAN, 0.0)]), "not a number"),
        ] {
            assert!(!plausible(&wrong), "{why}");
        }
    }
}
