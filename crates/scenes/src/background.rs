//! The empty road: sky, buildings, trees, verge, asphalt and marks, drawn once a camera.

use crate::canvas::Canvas;
use crate::random::Random;
use crate::sprite::yuv_of;
use crate::view::{Light, View};

/// Smooth noise on a lattice of random values.
struct Noise {
    values: Vec<f32>,
}

const LATTICE: usize = 256;

impl Noise {
    fn new(random: &mut Random) -> Self {
        Self { values: (0..LATTICE * LATTICE).map(|_| random.unit() as f32).collect() }
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let (fx, fy) = (x.floor(), y.floor());
        let (tx, ty) = (smooth(x - fx), smooth(y - fy));
        let (ix, iy) = (fx as i64, fy as i64);
        let value = |dx: i64, dy: i64| {
            let wrap = |v: i64| v.rem_euclid(LATTICE as i64) as usize;
            self.values[wrap(iy + dy) * LATTICE + wrap(ix + dx)]
        };
        let top = value(0, 0) + (value(1, 0) - value(0, 0)) * tx;
        let bottom = value(0, 1) + (value(1, 1) - value(0, 1)) * tx;
        top + (bottom - top) * ty
    }

    /// Four octaves, 0 to 1.
    fn cloud(&self, x: f32, y: f32) -> f32 {
        let mut sum = 0.0;
        let (mut share, mut step) = (0.5, 1.0);
        for _ in 0..4 {
            sum += share * self.at(x * step + 17.3 * step, y * step);
            share /= 2.0;
            step *= 2.1;
        }
        sum / 0.9375
    }
}

fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

fn blend(a: [f32; 3], b: [f32; 3], share: f32) -> [f32; 3] {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * share.clamp(0.0, 1.0))
}

/// 1 inside `from..to`, falling to 0 over `soft` on both sides.
fn band(value: f32, from: f32, to: f32, soft: f32) -> f32 {
    (((value - from) / soft + 0.5).clamp(0.0, 1.0)) * (((to - value) / soft + 0.5).clamp(0.0, 1.0))
}

/// Draws the view's background. `seed_part` makes every camera's surroundings its own.
pub(crate) fn draw(view: &View, random: &mut Random) -> Canvas {
    let noise = Noise::new(random);
    let surroundings = Surroundings::new(random);
    let (w, h) = (view.width, view.height);
    let mut rgb = vec![[0.0f32; 3]; w * h];
    let zoom = view.zoom();
    for (at, pixel) in rgb.iter_mut().enumerate() {
        let (px, py) = ((at % w) as f32 + 0.5, (at / w) as f32 + 0.5);
        let x = if view.mirror { w as f32 - px } else { px } / zoom;
        *pixel = surroundings.colour(view, &noise, x, py / zoom);
    }
    into_canvas(&rgb, w, h)
}

fn into_canvas(rgb: &[[f32; 3]], w: usize, h: usize) -> Canvas {
    let mut canvas = Canvas::new(w, h);
    for y in (0..h).step_by(2) {
        for x in (0..w).step_by(2) {
            let mut chroma = [0.0f32; 2];
            for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let at = (y + dy) * w + x + dx;
                let [luma, u, v] = yuv_of(rgb[at].map(|c| c.clamp(0.0, 255.0)));
                canvas.planes[0][at] = luma.round() as u8;
                chroma[0] += u / 4.0;
                chroma[1] += v / 4.0;
            }
            let at = (y / 2) * (w / 2) + x / 2;
            canvas.planes[1][at] = chroma[0].round() as u8;
            canvas.planes[2][at] = chroma[1].round() as u8;
        }
    }
    canvas
}

struct Surroundings {
    tree_base: f32,
    tree_height: f32,
    buildings: Vec<[f32; 4]>,
    phase: f32,
    asphalt: f32,
}

impl Surroundings {
    fn new(random: &mut Random) -> Self {
        let buildings = (0..5)
            .map(|_| {
                let x = random.between(-100.0, 1300.0) as f32;
                [
                    x,
                    x + random.between(90.0, 260.0) as f32,
                    random.between(60.0, 240.0) as f32,
                    random.between(0.55, 0.9) as f32,
                ]
            })
            .collect();
        Self {
            tree_base: random.between(8.0, 20.0) as f32,
            tree_height: random.between(70.0, 150.0) as f32,
            buildings,
            phase: random.between(0.0, 500.0) as f32,
            asphalt: random.between(0.9, 1.1) as f32,
        }
    }

    /// Colour at a point of the unmirrored picture of reference width.
    fn colour(&self, view: &View, noise: &Noise, x: f32, y: f32) -> [f32; 3] {
        let below = y - view.horizon_y;
        let tree_line =
            -self.tree_base - self.tree_height * noise.cloud(x / 150.0 + self.phase, 3.7);
        let scene = if below > 6.0 {
            self.ground(view, noise, x, y)
        } else if below > tree_line {
            self.foliage(noise, x, y, below / tree_line)
        } else {
            self.backdrop(noise, x, below)
        };
        self.lit(view, noise, scene, x, y)
    }

    fn backdrop(&self, noise: &Noise, x: f32, below: f32) -> [f32; 3] {
        for [from, to, height, shade] in &self.buildings {
            if x > *from && x < *to && -below < height + 60.0 {
                let (column, row) = ((x - from) % 22.0, (-below) % 26.0);
                let window = column > 6.0 && column < 17.0 && row > 8.0 && row < 20.0;
                let wall = [188.0, 182.0, 172.0].map(|c| c * shade);
                return if window { wall.map(|c| c * 0.55) } else { wall };
            }
        }
        let cloud = noise.cloud(x / 260.0, below / 90.0);
        blend([172.0, 190.0, 210.0], [226.0, 230.0, 234.0], cloud * 1.2 - 0.1)
    }

    fn foliage(&self, noise: &Noise, x: f32, y: f32, depth: f32) -> [f32; 3] {
        let leaf = noise.cloud(x / 13.0, y / 11.0) * 0.6 + noise.cloud(x / 60.0, y / 45.0) * 0.5;
        let shade = 0.35 + 0.75 * leaf + 0.2 * depth.clamp(0.0, 1.0);
        [66.0, 84.0, 50.0].map(|c| c * shade)
    }

    fn ground(&self, view: &View, noise: &Noise, x: f32, y: f32) -> [f32; 3] {
        let scale = (y - view.horizon_y) / view.rise;
        let lane = (x - view.vanishing_x) / scale;
        let z = view.focal_m / scale;
        let soft = (1.6 / scale).max(2.0);
        let first = view.lanes.first().copied().unwrap_or(800.0);
        let last = view.lanes.last().copied().unwrap_or(800.0);
        let (left, right) = (first - 250.0, last + 260.0);
        // Grain in the plane of the road, fading where it would be finer than a pixel.
        let near = (scale / 1.2).clamp(0.0, 1.0);
        let grain = (noise.at(lane / 2.3, z * 22.0) - 0.5) * near
            + (noise.cloud(lane / 60.0, z / 2.5) - 0.5) * 0.9;
        let wheel: f32 = view
            .lanes
            .iter()
            .map(|l| band(lane, l - 125.0, l - 65.0, 40.0) + band(lane, l + 55.0, l + 115.0, 40.0))
            .sum();
        let road = [101.0, 103.0, 105.0].map(|c| self.asphalt * (c + 26.0 * grain - 7.0 * wheel));
        let verge_shade = 0.7 + 0.6 * noise.cloud(lane / 24.0, z * 2.1);
        let verge = [104.0, 110.0, 72.0].map(|c| c * verge_shade);
        let mut colour = blend(verge, road, band(lane, left, right, soft * 3.0));
        let kerb = band(lane, left - 34.0, left, soft) + band(lane, right, right + 34.0, soft);
        colour = blend(colour, [150.0, 148.0, 142.0], kerb * 0.9);
        let worn = 0.72 + 0.28 * noise.cloud(lane / 9.0, z * 3.0);
        let edge = band(lane, left + 18.0, left + 36.0, soft)
            + band(lane, right - 36.0, right - 18.0, soft);
        colour = blend(colour, [206.0, 205.0, 198.0], edge * worn);
        for pair in view.lanes.windows(2) {
            let middle = (pair[0] + pair[1]) / 2.0;
            // 6 m of line, 9 m of gap.
            let dash =
                band((z + self.phase).rem_euclid(15.0), 1.0, 7.0, (z * z * 0.0006).max(0.12));
            let line = band(lane, middle - 9.0, middle + 9.0, soft) * dash;
            colour = blend(colour, [214.0, 213.0, 206.0], line * worn);
        }
        colour
    }

    fn lit(&self, view: &View, noise: &Noise, colour: [f32; 3], x: f32, y: f32) -> [f32; 3] {
        match view.light {
            Light::Day => colour,
            Light::Dusk => std::array::from_fn(|i| colour[i] * [0.74, 0.66, 0.60][i]),
            Light::Night => {
                let below = y - view.horizon_y;
                if below <= 6.0 {
                    let lamp = 0.10 + 0.05 * noise.cloud(x / 200.0, y / 120.0);
                    return std::array::from_fn(|i| 5.0 + colour[i] * lamp * [1.0, 0.95, 0.9][i]);
                }
                // Street lamps light the road in pools; the camera's own lamp lights what is near.
                let scale = below / view.rise;
                let z = view.focal_m / scale;
                let pools = 0.5 + 0.5 * (z / 4.2 + self.phase).sin();
                let light = 0.20 + 0.13 * pools + 0.10 * (scale / 2.0).min(1.0);
                std::array::from_fn(|i| 6.0 + colour[i] * light * [1.06, 0.96, 0.82][i])
            }
        }
    }
}
