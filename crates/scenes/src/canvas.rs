//! A picture in I420 planes, and what is laid into it frame by frame.

use crate::random::Random;
use crate::sprite::Cut;

/// Nobody's pixel in [`Canvas::owner`].
pub(crate) const NOBODY: u8 = u8::MAX;

/// Luma at full, chroma at half resolution, tightly packed; width and height are even.
#[derive(Clone)]
pub(crate) struct Canvas {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) planes: [Vec<u8>; 3],
    /// Which vehicle of the frame was painted last, where any was.
    pub(crate) owner: Vec<u8>,
}

impl Canvas {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        let half = (width / 2) * (height / 2);
        Self {
            width,
            height,
            planes: [vec![0; width * height], vec![128; half], vec![128; half]],
            owner: vec![NOBODY; width * height],
        }
    }

    /// Takes over another canvas's pixels; owners are left alone.
    pub(crate) fn copy_planes(&mut self, from: &Self) {
        for (to, from) in self.planes.iter_mut().zip(&from.planes) {
            to.copy_from_slice(from);
        }
    }

    /// Lays a cut over the picture and marks its vehicle's pixels.
    pub(crate) fn lay(&mut self, cut: &Cut, vehicle: u8) {
        for row in 0..cut.height {
            let at = (cut.y + row) * self.width + cut.x;
            let from = row * cut.width;
            let span = from..from + cut.width;
            over(
                &mut self.planes[0][at..][..cut.width],
                &cut.luma[span.clone()],
                &cut.alpha[span.clone()],
            );
            for (owner, solid) in self.owner[at..][..cut.width].iter_mut().zip(&cut.solid[span]) {
                *owner = if *solid > 127 { vehicle } else { *owner };
            }
        }
        let (half, w, h) = (self.width / 2, cut.width / 2, cut.height / 2);
        for (plane, source) in self.planes[1..].iter_mut().zip(&cut.chroma) {
            for row in 0..h {
                let at = (cut.y / 2 + row) * half + cut.x / 2;
                let span = row * w..row * w + w;
                over(&mut plane[at..][..w], &source[span.clone()], &cut.chroma_alpha[span]);
            }
        }
    }

    /// Forgets the owners inside a rectangle.
    pub(crate) fn disown(&mut self, cut: &Cut) {
        for row in cut.y..cut.y + cut.height {
            self.owner[row * self.width + cut.x..][..cut.width].fill(NOBODY);
        }
    }

    /// How many pixels of the cut's rectangle belong to the vehicle.
    pub(crate) fn owned(&self, cut: &Cut, vehicle: u8) -> usize {
        (cut.y..cut.y + cut.height)
            .map(|row| {
                let line = &self.owner[row * self.width + cut.x..][..cut.width];
                line.iter().map(|o| u32::from(*o == vehicle)).sum::<u32>() as usize
            })
            .sum()
    }
}

/// Premultiplied "over": `out = out * (255 - alpha) / 255 + colour`.
fn over(out: &mut [u8], colour: &[u8], alpha: &[u8]) {
    for ((o, c), a) in out.iter_mut().zip(colour).zip(alpha) {
        let kept = u32::from(*o) * (255 - u32::from(*a)) + 127;
        *o = (((kept * 257) >> 16) as u8).saturating_add(*c);
    }
}

/// Sensor noise, drawn once: each frame starts every row elsewhere in it.
pub(crate) struct Grain {
    luma: Vec<i8>,
    chroma: Vec<i8>,
}

const GRAIN: usize = 1 << 18;

impl Grain {
    pub(crate) fn new(random: &mut Random, luma: f64, chroma: f64) -> Self {
        let mut draw = |sigma: f64| {
            (0..GRAIN).map(|_| (random.normal() * sigma).round().clamp(-40.0, 40.0) as i8).collect()
        };
        Self { luma: draw(luma), chroma: draw(chroma) }
    }

    pub(crate) fn add(&self, canvas: &mut Canvas, random: &mut Random) {
        let width = canvas.width;
        for (plane, (noise, width)) in canvas.planes.iter_mut().zip([
            (&self.luma, width),
            (&self.chroma, width / 2),
            (&self.chroma, width / 2),
        ]) {
            for row in plane.chunks_exact_mut(width) {
                let start = random.below(GRAIN.saturating_sub(width));
                for (pixel, n) in row.iter_mut().zip(&noise[start..]) {
                    *pixel = pixel.saturating_add_signed(*n);
                }
            }
        }
    }
}

/// Rain: bright slanted streaks that fall from frame to frame.
pub(crate) struct Rain(Vec<(f64, f64, f64)>);

impl Rain {
    pub(crate) fn new(random: &mut Random, drops: usize) -> Self {
        Self((0..drops).map(|_| (random.unit(), random.unit(), random.between(0.5, 1.0))).collect())
    }

    pub(crate) fn fall(&self, canvas: &mut Canvas, time_s: f64) {
        for (x, y, speed) in &self.0 {
            let fallen = (y + time_s * 1.7 * speed).fract();
            let length = (canvas.height as f64 * 0.05 * speed) as usize;
            let (left, top) =
                ((x * canvas.width as f64) as usize, (fallen * canvas.height as f64) as usize);
            for step in 0..length {
                let (px, py) = (left + step / 5, top + step);
                if px < canvas.width && py < canvas.height {
                    let pixel = &mut canvas.planes[0][py * canvas.width + px];
                    *pixel = pixel.saturating_add(16);
                }
            }
        }
    }
}

/// Lets the trees sway: shifts the rows above the horizon sideways by a pixel or two.
pub(crate) fn sway(canvas: &mut Canvas, rows: usize, time_s: f64) {
    let width = canvas.width;
    for (index, row) in canvas.planes[0].chunks_exact_mut(width).take(rows).enumerate() {
        // Higher branches move further.
        let reach = 2.4 * (1.0 - index as f64 / rows.max(1) as f64);
        let shift = (reach * (time_s * 2.1 + index as f64 * 0.013).sin()).round() as isize;
        match shift {
            1.. => row.copy_within(..width - shift as usize, shift as usize),
            ..=-1 => row.copy_within(shift.unsigned_abs().., 0),
            0 => {}
        }
    }
}
