//! A vehicle ready to be laid into pictures: premultiplied planes at halving resolutions, and their resampling.

use guiji_domain::{Point, Quad};

/// Rows of planes of one resolution. Luma and chroma are premultiplied by `alpha`.
#[derive(Clone)]
pub(crate) struct Level {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Pixels a unit.
    pub(crate) scale: f32,
    origin: Point,
    planes: [Vec<u8>; 3],
    alpha: Vec<u8>,
    /// What the vehicle itself covers, without shadow and glow.
    pub(crate) solid: Vec<u8>,
}

/// BT.709, limited range: luma 16 to 235, chroma 16 to 240.
pub(crate) fn yuv_of(rgb: [f32; 3]) -> [f32; 3] {
    let [r, g, b] = rgb.map(|v| v / 255.0);
    let luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    [16.0 + 219.0 * luma, 128.0 + 224.0 * (b - luma) / 1.8556, 128.0 + 224.0 * (r - luma) / 1.5748]
}

impl Level {
    pub(crate) fn new(width: usize, height: usize, scale: f32, origin: Point) -> Self {
        let plane = || vec![0; width * height];
        Self {
            width,
            height,
            scale,
            origin,
            planes: [plane(), plane(), plane()],
            alpha: plane(),
            solid: plane(),
        }
    }

    pub(crate) fn pixel_of(&self, unit: Point) -> Point {
        Point { x: (unit.x - self.origin.x) * self.scale, y: (unit.y - self.origin.y) * self.scale }
    }

    pub(crate) fn unit_of(&self, x: f32, y: f32) -> Point {
        Point { x: x / self.scale + self.origin.x, y: y / self.scale + self.origin.y }
    }

    pub(crate) fn put(&mut self, x: usize, y: usize, rgb: [f32; 3], alpha: f32, solid: u8) {
        let at = y * self.width + x;
        let yuv = yuv_of(rgb.map(|v| v.clamp(0.0, 255.0)));
        for (plane, value) in self.planes.iter_mut().zip(yuv) {
            plane[at] = (value * alpha).round() as u8;
        }
        self.alpha[at] = (alpha * 255.0).round() as u8;
        self.solid[at] = solid;
    }

    /// Lays a colour over what is there.
    pub(crate) fn mix(&mut self, x: usize, y: usize, rgb: [u8; 3], share: f32) {
        let at = y * self.width + x;
        let yuv = yuv_of(rgb.map(f32::from));
        for (plane, value) in self.planes.iter_mut().zip(yuv) {
            plane[at] = (f32::from(plane[at]) * (1.0 - share) + value * share).round() as u8;
        }
        let alpha = &mut self.alpha[at];
        *alpha = (f32::from(*alpha) * (1.0 - share) + 255.0 * share).round() as u8;
        self.solid[at] = self.solid[at].max((255.0 * share) as u8);
    }

    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let halve = |plane: &[u8]| {
            let mut out = Vec::with_capacity(width * height);
            for y in 0..height {
                let a = &plane[2 * y * self.width..][..2 * width];
                let b = &plane[(2 * y + 1) * self.width..][..2 * width];
                out.extend(a.chunks_exact(2).zip(b.chunks_exact(2)).map(|(a, b)| {
                    ((u16::from(a[0]) + u16::from(a[1]) + u16::from(b[0]) + u16::from(b[1]) + 2)
                        / 4) as u8
                }));
            }
            out
        };
        let [y, u, v] = &self.planes;
        Self {
            width,
            height,
            scale: self.scale / 2.0,
            origin: self.origin,
            planes: [halve(y), halve(u), halve(v)],
            alpha: halve(&self.alpha),
            solid: halve(&self.solid),
        }
    }
}

/// Smallest level kept, pixels.
const LEVEL_MIN: usize = 24;

/// A vehicle as it looks in one passage.
pub(crate) struct Sprite {
    levels: Vec<Level>,
    plate: Quad,
    contact: Point,
    extent: [f32; 4],
    /// Area of the vehicle, square units.
    area: f32,
}

/// Where a sprite lies in a picture: `pixel = unit * scale + offset`, and how far it moves while the shutter is open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Placement {
    pub(crate) scale: f32,
    pub(crate) offset: Point,
    pub(crate) blur: Point,
}

impl Placement {
    pub(crate) fn apply(&self, p: Point) -> Point {
        Point { x: p.x * self.scale + self.offset.x, y: p.y * self.scale + self.offset.y }
    }
}

/// A resampled cut of a sprite: its planes cover `x..x + width`, `y..y + height` of the picture; chroma half of it.
pub(crate) struct Cut {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) luma: Vec<u8>,
    pub(crate) alpha: Vec<u8>,
    pub(crate) solid: Vec<u8>,
    pub(crate) chroma: [Vec<u8>; 2],
    pub(crate) chroma_alpha: Vec<u8>,
}

impl Sprite {
    pub(crate) fn new(top: Level, plate: Quad, contact: Point, extent: [f32; 4]) -> Self {
        let pixels: f64 = top.solid.iter().map(|v| f64::from(*v) / 255.0).sum();
        let area = (pixels / f64::from(top.scale * top.scale)) as f32;
        let mut levels = vec![top];
        while let Some(last) = levels.last().filter(|l| l.width.min(l.height) >= 2 * LEVEL_MIN) {
            levels.push(last.halved());
        }
        Self { levels, plate, contact, extent, area }
    }

    /// The point on the ground that a placement puts on the road.
    pub(crate) fn contact(&self) -> Point {
        self.contact
    }

    /// Corners of the plate in units.
    pub(crate) fn plate(&self) -> Quad {
        self.plate
    }

    /// Box of the vehicle in units.
    pub(crate) fn extent(&self) -> [f32; 4] {
        self.extent
    }

    /// Area of the vehicle in square units.
    pub(crate) fn area(&self) -> f32 {
        self.area
    }

    /// Resamples what falls into a picture of the given size. `None` when nothing does.
    pub(crate) fn cut(&self, place: &Placement, width: usize, height: usize) -> Option<Cut> {
        let top = self.levels.first()?;
        let near = place.apply(top.origin);
        let far = place.apply(top.unit_of(top.width as f32, top.height as f32));
        let even_floor = |v: f32| (v.floor().max(0.0) as usize) & !1;
        let even_ceil = |v: f32, end: usize| ((v.ceil().max(0.0) as usize + 1) & !1).min(end & !1);
        let (x, y) =
            (even_floor(near.x - place.blur.x.abs()), even_floor(near.y - place.blur.y.abs()));
        let (x2, y2) = (
            even_ceil(far.x + place.blur.x.abs(), width),
            even_ceil(far.y + place.blur.y.abs(), height),
        );
        if x >= x2 || y >= y2 {
            return None;
        }
        let (w, h) = (x2 - x, y2 - y);
        let fine = self.level_for(place.scale)?;
        let taps = Taps::for_window(fine, place, 1.0, [x, y, w, h]);
        let luma = taps.resample(&fine.planes[0], fine.width);
        let alpha = taps.resample(&fine.alpha, fine.width);
        let solid = taps.resample(&fine.solid, fine.width);
        let coarse = self.level_for(place.scale / 2.0)?;
        let taps = Taps::for_window(coarse, place, 0.5, [x / 2, y / 2, w / 2, h / 2]);
        let chroma = [1, 2].map(|i| taps.resample(&coarse.planes[i], coarse.width));
        let chroma_alpha = taps.resample(&coarse.alpha, coarse.width);
        Some(Cut { x, y, width: w, height: h, luma, alpha, solid, chroma, chroma_alpha })
    }

    /// The coarsest level that is still finer than the wanted scale.
    fn level_for(&self, scale: f32) -> Option<&Level> {
        self.levels.iter().rev().find(|l| l.scale >= scale).or(self.levels.first())
    }
}

/// Filter weights of a window: for each output column and row, the first input and its weights (sum 256).
struct Taps {
    columns: Vec<(usize, Vec<u16>)>,
    rows: Vec<(usize, Vec<u16>)>,
}

impl Taps {
    /// `part` is 1 for full-resolution planes, 0.5 for chroma; the window is in pixels of that plane.
    fn for_window(level: &Level, place: &Placement, part: f32, window: [usize; 4]) -> Self {
        let scale = place.scale * part;
        let line =
            |from: usize, count: usize, offset: f32, origin: f32, limit: usize, blur: f32| {
                let ratio = level.scale / scale;
                let reach = ratio.max(1.0);
                let blur = (blur.abs() * part * ratio / 2.0).min(24.0);
                (from..from + count)
                    .map(|out| {
                        let unit = (out as f32 + 0.5 - offset * part) / scale;
                        taps_at((unit - origin) * level.scale - 0.5, reach, blur, limit)
                    })
                    .collect()
            };
        let [x, y, w, h] = window;
        Self {
            columns: line(x, w, place.offset.x, level.origin.x, level.width, place.blur.x),
            rows: line(y, h, place.offset.y, level.origin.y, level.height, place.blur.y),
        }
    }

    fn resample(&self, plane: &[u8], stride: usize) -> Vec<u8> {
        let span = self.columns.iter().filter(|(_, w)| !w.is_empty());
        let first = span.clone().map(|(at, _)| *at).min().unwrap_or(0);
        let last = span.map(|(at, w)| at + w.len()).max().unwrap_or(0);
        let mut sums = vec![0u16; last.saturating_sub(first)];
        let mut out = vec![0u8; self.columns.len() * self.rows.len()];
        for (line, (top, weights)) in out.chunks_exact_mut(self.columns.len()).zip(&self.rows) {
            if weights.is_empty() || sums.is_empty() {
                continue;
            }
            sums.fill(0);
            for (i, weight) in weights.iter().enumerate() {
                let row = &plane[(top + i) * stride + first..][..sums.len()];
                // At most 255 * 256: fits.
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += u16::from(*value) * weight;
                }
            }
            for (o, (at, weights)) in line.iter_mut().zip(&self.columns) {
                if weights.is_empty() {
                    continue;
                }
                let inputs = &sums[at - first..][..weights.len()];
                let sum: u32 =
                    inputs.iter().zip(weights).map(|(s, w)| u32::from(*s) * u32::from(*w)).sum();
                *o = ((sum + 0x8000) >> 16).min(255) as u8;
            }
        }
        out
    }
}

/// A triangle of half-width `reach`, smeared evenly over `2 * blur`; inputs outside `0..limit` count as transparent.
fn taps_at(centre: f32, reach: f32, blur: f32, limit: usize) -> (usize, Vec<u16>) {
    let (from, to) =
        ((centre - reach - blur).ceil() as i64, (centre + reach + blur).floor() as i64);
    let weight = |i: i64| {
        let d = (i as f32 - centre).abs();
        if blur < 0.05 {
            (1.0 - d / reach).max(0.0)
        } else {
            // Integral of the triangle over the smear.
            let integral = |x: f32| {
                let x = (x / reach).clamp(-1.0, 1.0);
                x + 0.5 - x * x.abs() / 2.0
            };
            integral(d + blur) - integral(d - blur)
        }
    };
    let total: f32 = (from..=to).map(weight).sum();
    if total <= 0.0 || to < 0 || from >= limit as i64 {
        return (0, Vec::new());
    }
    let (first, last) = (from.max(0), to.min(limit as i64 - 1));
    let mut weights: Vec<u16> =
        (first..=last).map(|i| (weight(i) / total * 256.0).round() as u16).collect();
    // What rounding took or gave, the largest weight settles: 256 is opaque.
    let sum: u16 = weights.iter().sum();
    let whole = (first, last) == (from, to);
    if (whole || sum > 256)
        && let Some(largest) = weights.iter_mut().max()
    {
        *largest = (*largest + 256).saturating_sub(sum);
    }
    (first as usize, weights)
}
