use crate::InvalidValue;

/// A point of a picture, in pixels of the full-resolution frame; x to the right, y down, the centre of the top
/// left pixel at (0.5, 0.5).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// To the right.
    pub x: f32,
    /// Down.
    pub y: f32,
}

/// An axis-aligned box in pixels of the full-resolution frame. Finite and `x1 <= x2`, `y1 <= y2` always hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BBox {
    x1: f32,
    y1: f32,
    x2: f32,
    y2: f32,
}

impl BBox {
    /// From two opposite corners in any order. `None` when a coordinate is not finite.
    pub fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Option<Self> {
        [x1, y1, x2, y2].iter().all(|v| v.is_finite()).then(|| Self {
            x1: x1.min(x2),
            y1: y1.min(y2),
            x2: x1.max(x2),
            y2: y1.max(y2),
        })
    }

    /// Left edge.
    pub fn x1(&self) -> f32 {
        self.x1
    }
    /// Top edge.
    pub fn y1(&self) -> f32 {
        self.y1
    }
    /// Right edge.
    pub fn x2(&self) -> f32 {
        self.x2
    }
    /// Bottom edge.
    pub fn y2(&self) -> f32 {
        self.y2
    }
    /// Width in pixels.
    pub fn width(&self) -> f32 {
        self.x2 - self.x1
    }
    /// Height in pixels.
    pub fn height(&self) -> f32 {
        self.y2 - self.y1
    }
    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }
    /// The middle.
    pub fn centre(&self) -> Point {
        Point { x: (self.x1 + self.x2) / 2.0, y: (self.y1 + self.y2) / 2.0 }
    }

    /// Whether the point lies inside or on the edge.
    pub fn contains(&self, p: Point) -> bool {
        self.x1 <= p.x && p.x <= self.x2 && self.y1 <= p.y && p.y <= self.y2
    }

    /// The common part, if the boxes touch.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (x1, y1) = (self.x1.max(other.x1), self.y1.max(other.y1));
        let (x2, y2) = (self.x2.min(other.x2), self.y2.min(other.y2));
        (x1 <= x2 && y1 <= y2).then_some(Self { x1, y1, x2, y2 })
    }

    /// Intersection over union, 0 to 1; 0 for two empty boxes.
    pub fn iou(&self, other: &Self) -> f32 {
        let common = self.intersection(other).map_or(0.0, |b| b.area());
        let union = self.area() + other.area() - common;
        if union > 0.0 { (common / union).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The share of this box that lies inside the other, 0 to 1; 0 for an empty box.
    pub fn covered_by(&self, other: &Self) -> f32 {
        let common = self.intersection(other).map_or(0.0, |b| b.area());
        if self.area() > 0.0 { (common / self.area()).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The part inside a picture of this size, if any.
    pub fn clipped(&self, width: u32, height: u32) -> Option<Self> {
        self.intersection(&Self { x1: 0.0, y1: 0.0, x2: width as f32, y2: height as f32 })
    }

    /// Grown by a share of width and height on every side.
    #[must_use]
    pub fn padded(&self, share: f32) -> Self {
        let (dx, dy) = (self.width() * share, self.height() * share);
        Self::new(self.x1 - dx, self.y1 - dy, self.x2 + dx, self.y2 + dy).unwrap_or(*self)
    }

    /// Coordinates multiplied, x and y apart.
    #[must_use]
    pub fn scaled(&self, sx: f32, sy: f32) -> Self {
        Self::new(self.x1 * sx, self.y1 * sy, self.x2 * sx, self.y2 * sy).unwrap_or(*self)
    }
}

/// The four corners of a plate in pixels of the full-resolution frame, as the plate is read: top left, top right,
/// bottom right, bottom left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quad(pub [Point; 4]);

impl Quad {
    /// The smallest axis-aligned box around it. `None` when a coordinate is not finite.
    pub fn bbox(&self) -> Option<BBox> {
        let fold = |f: fn(f32, f32) -> f32, get: fn(&Point) -> f32, from: f32| {
            self.0.iter().map(get).fold(from, f)
        };
        BBox::new(
            fold(f32::min, |p| p.x, f32::INFINITY),
            fold(f32::min, |p| p.y, f32::INFINITY),
            fold(f32::max, |p| p.x, f32::NEG_INFINITY),
            fold(f32::max, |p| p.y, f32::NEG_INFINITY),
        )
    }

    /// Mean length of the upper and lower edge, pixels: the plate's width as it appears.
    pub fn width(&self) -> f32 {
        let [tl, tr, br, bl] = self.0;
        (distance(tl, tr) + distance(bl, br)) / 2.0
    }

    /// Mean length of the left and right edge, pixels.
    pub fn height(&self) -> f32 {
        let [tl, tr, br, bl] = self.0;
        (distance(tl, bl) + distance(tr, br)) / 2.0
    }

    /// The corners of an axis-aligned box.
    pub fn from_bbox(b: &BBox) -> Self {
        let at = |x, y| Point { x, y };
        Self([at(b.x1, b.y1), at(b.x2, b.y1), at(b.x2, b.y2), at(b.x1, b.y2)])
    }
}

fn distance(a: Point, b: Point) -> f32 {
    (a.x - b.x).hypot(a.y - b.y)
}

/// A place on Earth, WGS-84 degrees. Latitude within ±90 and longitude within ±180 always hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GeoPoint {
    lat_deg: f64,
    lon_deg: f64,
}

impl GeoPoint {
    /// # Errors
    /// When a coordinate is not finite or out of range; the usual cause, exchanged coordinates, is said.
    pub fn new(lat_deg: f64, lon_deg: f64) -> Result<Self, InvalidValue> {
        if !(-90.0..=90.0).contains(&lat_deg) {
            let fix = if (-90.0..=90.0).contains(&lon_deg) && (-180.0..=180.0).contains(&lat_deg) {
                "latitude must be within ±90 degrees: are latitude and longitude exchanged?"
            } else {
                "latitude must be within ±90 degrees"
            };
            return Err(InvalidValue::new("latitude", lat_deg, fix));
        }
        if !(-180.0..=180.0).contains(&lon_deg) {
            return Err(InvalidValue::new(
                "longitude",
                lon_deg,
                "longitude must be within ±180 degrees",
            ));
        }
        Ok(Self { lat_deg, lon_deg })
    }

    /// Degrees north.
    pub fn lat_deg(&self) -> f64 {
        self.lat_deg
    }

    /// Degrees east.
    pub fn lon_deg(&self) -> f64 {
        self.lon_deg
    }

    /// Great-circle distance in metres on a sphere of radius 6,371,008.8 m (the IUGG mean radius), by the
    /// haversine formula; at most 0.6 % off the ellipsoid.
    pub fn distance_m(&self, other: &Self) -> f64 {
        const EARTH_RADIUS_M: f64 = 6_371_008.8;
        let (lat1, lat2) = (self.lat_deg.to_radians(), other.lat_deg.to_radians());
        let half_dlat = (lat2 - lat1) / 2.0;
        let half_dlon = (other.lon_deg - self.lon_deg).to_radians() / 2.0;
        let a = half_dlat.sin().powi(2) + lat1.cos() * lat2.cos() * half_dlon.sin().powi(2);
        2.0 * EARTH_RADIUS_M * a.sqrt().min(1.0).asin()
    }
}

/// A part of the Earth's surface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GeoArea {
    /// Everything within a distance of a place, the edge included.
    Circle {
        /// The middle.
        centre: GeoPoint,
        /// Great-circle distance, metres.
        radius_m: f64,
    },
    /// Everything between two parallels and two meridians, the edges included.
    Rectangle {
        /// The corner with the least latitude and longitude.
        south_west: GeoPoint,
        /// The corner with the greatest latitude and longitude.
        north_east: GeoPoint,
    },
}

impl GeoArea {
    /// Whether the place lies inside or on the edge.
    pub fn contains(&self, place: &GeoPoint) -> bool {
        match self {
            Self::Circle { centre, radius_m } => centre.distance_m(place) <= *radius_m,
            Self::Rectangle { south_west, north_east } => {
                (south_west.lat_deg()..=north_east.lat_deg()).contains(&place.lat_deg())
                    && (south_west.lon_deg()..=north_east.lon_deg()).contains(&place.lon_deg())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_box() -> impl Strategy<Value = BBox> {
        (-1e4f32..1e4, -1e4f32..1e4, -1e4f32..1e4, -1e4f32..1e4)
            .prop_map(|(a, b, c, d)| BBox::new(a, b, c, d).unwrap())
    }

    proptest! {
        #[test]
        fn iou_is_symmetric_and_bounded(a in any_box(), b in any_box()) {
            prop_assert!((a.iou(&b) - b.iou(&a)).abs() < 1e-5);
            prop_assert!((0.0..=1.0).contains(&a.iou(&b)));
            prop_assert!(a.area() == 0.0 || (a.iou(&a) - 1.0).abs() < 1e-5);
        }

        #[test]
        fn an_intersection_lies_in_both(a in any_box(), b in any_box()) {
            if let Some(c) = a.intersection(&b) {
                prop_assert!(c.area() <= a.area() && c.area() <= b.area());
                prop_assert!(a.contains(c.centre()) && b.contains(c.centre()));
            }
        }

        #[test]
        fn distance_is_a_metric(
            p in (-90f64..=90.0, -180f64..=180.0), q in (-90f64..=90.0, -180f64..=180.0),
            r in (-90f64..=90.0, -180f64..=180.0),
        ) {
            let [p, q, r] = [p, q, r].map(|(lat, lon)| GeoPoint::new(lat, lon).unwrap());
            prop_assert!((p.distance_m(&q) - q.distance_m(&p)).abs() < 1e-3);
            prop_assert!(p.distance_m(&r) <= p.distance_m(&q) + q.distance_m(&r) + 1e-3);
            prop_assert!(p.distance_m(&q) <= 20_016_000.0);
        }
    }

    #[test]
    fn known_distance() {
        // One degree of latitude on the mean sphere.
        let (a, b) = (GeoPoint::new(29.0, 121.0).unwrap(), GeoPoint::new(30.0, 121.0).unwrap());
        assert!((a.distance_m(&b) - 111_195.08).abs() < 0.1);
    }

    #[test]
    fn exchanged_coordinates_are_named() {
        let error = GeoPoint::new(121.4, 29.1).unwrap_err().to_string();
        assert!(error.contains("exchanged"), "{error}");
    }
}
