//! What a camera sees: a straight road in perspective, and the light.

use guiji_domain::{Point, Quad};
use serde::{Deserialize, Serialize};

use crate::sprite::{Placement, Sprite};

/// Width of picture that distances in units are given for.
const REFERENCE_WIDTH: f32 = 1280.0;

/// The light on a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Light {
    /// An overcast day.
    Day,
    /// Late afternoon: darker and warmer.
    Dusk,
    /// Street lamps and an infra-red lamp beside the camera, which plates reflect.
    Night,
}

impl Light {
    /// The word used in stories and scores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Dusk => "dusk",
            Self::Night => "night",
        }
    }

    pub(crate) fn on_vehicle(self) -> VehicleLight {
        match self {
            Self::Day => VehicleLight {
                gain: [1.0, 1.0, 1.0],
                lamp: 0.0,
                plate_gain: 0.94,
                shadow: 0.72,
                glow: 0.0,
                pool: 0.0,
            },
            Self::Dusk => VehicleLight {
                gain: [0.70, 0.64, 0.58],
                lamp: 0.6,
                plate_gain: 0.78,
                shadow: 0.6,
                glow: 0.12,
                pool: 0.06,
            },
            Self::Night => VehicleLight {
                gain: [0.40, 0.38, 0.36],
                lamp: 1.0,
                plate_gain: 0.98,
                shadow: 0.55,
                glow: 0.34,
                pool: 0.42,
            },
        }
    }

    /// Shutter time in seconds: short, as traffic cameras are set.
    pub(crate) fn shutter_s(self) -> f32 {
        match self {
            Self::Day => 1.0 / 1500.0,
            Self::Dusk => 1.0 / 1000.0,
            Self::Night => 1.0 / 800.0,
        }
    }

    /// Standard deviation of the sensor's noise in luma and chroma, of 255.
    pub(crate) fn noise(self) -> (f64, f64) {
        match self {
            Self::Day => (1.7, 0.8),
            Self::Dusk => (2.4, 1.1),
            Self::Night => (3.6, 1.6),
        }
    }
}

/// How light falls on a vehicle and the ground around it.
pub(crate) struct VehicleLight {
    gain: [f32; 3],
    /// How bright the tail lamps burn, 0 to 1.
    lamp: f32,
    pub(crate) plate_gain: f32,
    shadow: f32,
    glow: f32,
    pool: f32,
}

impl VehicleLight {
    /// A pixel of the vehicle; `lamp` is 255 inside a tail lamp.
    pub(crate) fn vehicle(&self, rgb: [f32; 3], lamp: u8) -> [f32; 3] {
        let burning = self.lamp * f32::from(lamp) / 255.0;
        let lit: [f32; 3] = std::array::from_fn(|i| rgb[i] * self.gain[i]);
        let fire = [rgb[0] * 0.8 + 90.0, rgb[1] * 0.45 + 16.0, rgb[2] * 0.45 + 14.0];
        std::array::from_fn(|i| lit[i] + (fire[i] - lit[i]) * burning)
    }

    /// Lays the vehicle over its shadow, the pool of its headlights and the glow of its lamps. `below` are the three
    /// coverages. Gives the colour and how opaque it is.
    pub(crate) fn ground(
        &self,
        vehicle: [f32; 3],
        cover: u8,
        below: (u8, u8, u8),
    ) -> ([f32; 3], f32) {
        let layers = [
            ([6.0, 6.0, 8.0], self.shadow * f32::from(below.0) / 255.0),
            ([232.0, 222.0, 196.0], self.pool * f32::from(below.1) / 255.0),
            (vehicle, f32::from(cover) / 255.0),
            ([214.0, 40.0, 32.0], self.glow * f32::from(below.2) / 255.0),
        ];
        let (mut sum, mut alpha) = ([0.0f32; 3], 0.0f32);
        for (colour, share) in layers {
            alpha += (1.0 - alpha) * share;
            for (s, c) in sum.iter_mut().zip(colour) {
                *s += (c - *s) * share;
            }
        }
        // `sum` is premultiplied; the caller wants plain colour.
        (if alpha > 0.0 { sum.map(|s| s / alpha) } else { sum }, alpha)
    }
}

/// A camera's view of the road.
///
/// Pinhole with one vanishing point. A vehicle `z` metres away has scale `s = focal_m / z` (pixels a unit at 1280
/// pixels width); lane `a` lies at `x = vanishing_x + a * s`, `y = horizon_y + rise * s`. All vehicles drive away,
/// towards the vanishing point.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// The whole view mirrored left to right.
    pub(crate) mirror: bool,
    pub(crate) vanishing_x: f32,
    pub(crate) horizon_y: f32,
    /// Height of the camera over the road, in units.
    pub(crate) rise: f32,
    /// Distance in metres at which a unit is a pixel.
    pub(crate) focal_m: f32,
    /// Where vehicles drive, in units from the vanishing line.
    pub(crate) lanes: Vec<f32>,
    pub(crate) light: Light,
}

/// Nearest distance looked at, in scale: anything larger is behind the camera.
const SCALE_MAX: f32 = 3.2;

impl View {
    /// Pixels for one at the reference width.
    pub(crate) fn zoom(&self) -> f32 {
        self.width as f32 / REFERENCE_WIDTH
    }

    /// How much a photograph taken from the height of the plate has to lean for this view's road.
    pub(crate) fn lean(&self) -> f32 {
        0.045
    }

    /// The placement of a vehicle `z_m` away that drives off at `speed_mps`. `None` behind the camera.
    pub(crate) fn place(
        &self,
        sprite: &Sprite,
        lane: f32,
        z_m: f32,
        speed_mps: f32,
    ) -> Option<Placement> {
        let scale = self.focal_m / z_m;
        if z_m <= 0.0 || scale > SCALE_MAX {
            return None;
        }
        let zoom = self.zoom();
        let ground = self.ground(lane, scale);
        let s = scale * zoom;
        let contact = sprite.contact();
        let offset = Point { x: ground.x - contact.x * s, y: ground.y - contact.y * s };
        // d(scale)/dt = -scale * v / z; the ground point moves along its line to the vanishing point.
        let change = scale * speed_mps / z_m * self.light.shutter_s();
        let blur = Point { x: lane * change * zoom, y: self.rise * change * zoom };
        Some(Placement { scale: s, offset, blur })
    }

    /// Pixel of a point of the road.
    pub(crate) fn ground(&self, lane: f32, scale: f32) -> Point {
        let zoom = self.zoom();
        let x = (self.vanishing_x + lane * scale) * zoom;
        Point {
            x: if self.mirror { self.width as f32 - x } else { x },
            y: (self.horizon_y + self.rise * scale) * zoom,
        }
    }

    /// Box of a placed vehicle: left, top, right, bottom, not clipped.
    pub(crate) fn extent(&self, sprite: &Sprite, place: &Placement) -> [f32; 4] {
        let [x1, y1, x2, y2] = sprite.extent();
        let (a, b) = (place.apply(Point { x: x1, y: y1 }), place.apply(Point { x: x2, y: y2 }));
        [a.x, a.y, b.x, b.y]
    }

    /// Corners of a placed vehicle's plate.
    pub(crate) fn plate(&self, sprite: &Sprite, place: &Placement) -> Quad {
        Quad(sprite.plate().0.map(|p| place.apply(p)))
    }
}
