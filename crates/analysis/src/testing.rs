//! What the tests of several modules share: a seeded source of noise and a simulated plate reader.

use std::time::Duration;

use guiji_domain::{
    BBox, Camera, CameraId, Candidate, CaptureTime, ClockSource, DecodePolicy, Detection, GeoPoint,
    Lattice, Pace, PlateChar, PlateColour, PlateRead, PlateRows, PlateState, PlateText, Position,
    Quad, Sighting, SightingId, SightingStage, SiteId, StreamAddress, TimeSpan, Timestamp, TrackId,
    Transport, Vehicle, VehicleClass,
};

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0 to 1.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// Standard normal, by the sum of twelve.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }
}

pub(crate) fn text(plate: &str) -> PlateText {
    PlateText::parse(plate).unwrap()
}

/// A lattice from `(character, probability)` lists; `_` stands for nothing.
pub(crate) fn lattice(positions: &[&[(char, f32)]]) -> Lattice {
    let position = |entries: &&[(char, f32)]| {
        let candidates = entries
            .iter()
            .map(|(c, p)| Candidate { character: PlateChar::new(*c), probability: *p });
        Position::new(candidates).unwrap()
    };
    Lattice::new(positions.iter().map(position).collect()).unwrap()
}

/// What a reader gives that is right at each position with probability `p`, the rest unsaid.
pub(crate) fn plain_lattice(plate: &str, p: f32) -> Lattice {
    let plate = text(plate);
    let positions = plate
        .chars()
        .map(|c| Position::new(vec![Candidate { character: Some(c), probability: p }]).unwrap());
    Lattice::new(positions.collect()).unwrap()
}

/// A simulated reader: each character competes with two others of its family, with Gaussian logits. `signal` is
/// the mean lead of the true character; softmax of the logits is then the exact posterior for unit noise.
pub(crate) fn noisy_lattice(plate: &PlateText, signal: f32, noise: &mut Noise) -> Lattice {
    let family = |c: PlateChar| match c {
        c if c.is_province() => "浙苏皖赣沪湘鄂鲁豫冀",
        c if c.is_digit() || c.is_letter() => "0DQ8B2Z5S6G4A1L7T39CEFHJKMNPRUVWXY",
        _ => "警学挂港澳使领应急民航临",
    };
    let positions = plate.chars().map(|c| {
        let others: Vec<_> =
            family(c).chars().filter_map(PlateChar::new).filter(|o| *o != c).collect();
        // The same rivals in every read: confusions are the reader's, not the frame's.
        let mut own = Noise(c.index() as u64);
        let mut rivals = vec![c];
        while rivals.len() < 4 {
            let rival = others[own.below(others.len())];
            if !rivals.contains(&rival) {
                rivals.push(rival);
            }
        }
        let logits: Vec<f32> = rivals
            .iter()
            .map(|r| (if *r == c { signal } else { 0.0 }) * signal + signal * noise.normal())
            .collect();
        let top = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = logits.iter().map(|l| (l - top).exp()).sum();
        let candidates = rivals.iter().zip(&logits).map(|(r, l)| Candidate {
            character: Some(*r),
            probability: ((l - top).exp() / sum * 0.995).max(1e-6),
        });
        Position::new(candidates).unwrap()
    });
    Lattice::new(positions.collect()).unwrap()
}

pub(crate) fn read_at(lattice: Lattice, plate_box: BBox, colour: Option<PlateColour>) -> PlateRead {
    PlateRead {
        lattice,
        rows: (PlateRows::One, 0.98),
        colour: colour.map(|c| (c, 0.95)),
        corners: Quad::from_bbox(&plate_box),
        detector_score: 0.9,
        sharpness: 0.7,
    }
}

pub(crate) fn read_of(lattice: Lattice, colour: Option<PlateColour>) -> PlateRead {
    read_at(lattice, BBox::new(100.0, 100.0, 200.0, 130.0).unwrap(), colour)
}

/// Where cameras stand.
pub(crate) fn places(cameras: &[Camera]) -> Vec<(CameraId, GeoPoint)> {
    cameras.iter().map(|camera| (camera.id.clone(), camera.position)).collect()
}

pub(crate) fn camera_at(id: &str, lat_deg: f64, lon_deg: f64) -> Camera {
    Camera {
        id: CameraId::new(id).unwrap(),
        site: SiteId::new("site").unwrap(),
        name: id.into(),
        position: GeoPoint::new(lat_deg, lon_deg).unwrap(),
        bearing_deg: Some(0.0),
        address: StreamAddress::new("rtsp://camera.invalid/1").unwrap(),
        credentials: None,
        transport: Transport::Tcp,
        pace: Pace::RealTime,
        policy: DecodePolicy::Full,
        analysed_fps_max: 25.0,
        recorded_at: None,
        lanes: None,
        substream: None,
        onvif: None,
        enabled: true,
    }
}

/// A vehicle on a road seen by a camera 6 m above it, in metres and seconds.
#[derive(Clone, Copy)]
pub(crate) struct RoadUser {
    /// To the right of the camera's axis at the start, and its change a second.
    pub(crate) x: (f32, f32),
    /// Distance at the start, and its change a second.
    pub(crate) z: (f32, f32),
    pub(crate) enters_s: f32,
}

impl RoadUser {
    /// Its box at a time, with a focal length of 1000 pixels and the horizon at line 200; `None` out of view.
    pub(crate) fn at(&self, t: f32) -> Option<BBox> {
        let t = t - self.enters_s;
        let (x, z) = (self.x.0 + self.x.1 * t, self.z.0 + self.z.1 * t);
        if t < 0.0 || !(10.0..=60.0).contains(&z) {
            return None;
        }
        let scale = 1000.0 / z;
        let (cx, bottom, w, h) = (640.0 + x * scale, 200.0 + 6.0 * scale, 1.8 * scale, 1.5 * scale);
        let inside = cx > 0.0 && cx < 1280.0;
        BBox::new(cx - w / 2.0, bottom - h, cx + w / 2.0, bottom).filter(|_| inside)
    }
}

pub(crate) fn approaching(lane: f32, enters_s: f32, speed: f32) -> RoadUser {
    RoadUser { x: (lane, 0.0), z: (55.0, -speed), enters_s }
}

pub(crate) fn crossing(from_left: bool, z: f32, enters_s: f32, speed: f32) -> RoadUser {
    let side = if from_left { -1.0 } else { 1.0 };
    RoadUser { x: (side * 0.6 * z, -side * speed), z: (z, 0.0), enters_s }
}

/// Detections of one frame with the vehicle behind each, `None` for a false one.
pub(crate) fn detect(
    vehicles: &[RoadUser],
    t: f32,
    noise: &mut Noise,
) -> Vec<(Detection, Option<usize>)> {
    let mut boxes: Vec<_> =
        vehicles.iter().enumerate().filter_map(|(i, v)| Some((i, v.at(t)?))).collect();
    // Nearest first: what is nearer hides what is farther.
    boxes.sort_by(|a, b| b.1.y2().total_cmp(&a.1.y2()));
    let mut found = Vec::new();
    for (n, (i, bbox)) in boxes.iter().enumerate() {
        let hidden = boxes[..n].iter().map(|(_, near)| bbox.covered_by(near)).fold(0.0, f32::max);
        let missed = noise.uniform() < 0.08;
        if hidden > 0.6 || missed {
            continue;
        }
        let jitter = |at: f32, size: f32, noise: &mut Noise| at + 0.03 * size * noise.normal();
        let (w, h) = (bbox.width(), bbox.height());
        let bbox = BBox::new(
            jitter(bbox.x1(), w, noise),
            jitter(bbox.y1(), h, noise),
            jitter(bbox.x2(), w, noise),
            jitter(bbox.y2(), h, noise),
        );
        let score = (0.75 - 0.6 * hidden + 0.08 * noise.normal()).clamp(0.16, 0.95);
        let class = [VehicleClass::Car, VehicleClass::Car, VehicleClass::Truck, VehicleClass::Bus]
            [noise.below(4)];
        found.extend(bbox.map(|bbox| (Detection { bbox, class: Some(class), score }, Some(*i))));
    }
    if noise.uniform() < 0.08 {
        let (x, y, s) = (
            1200.0 * noise.uniform(),
            220.0 + 400.0 * noise.uniform(),
            40.0 + 80.0 * noise.uniform(),
        );
        let bbox = BBox::new(x, y, x + s, y + s);
        let score = 0.2 + 0.4 * noise.uniform();
        found.extend(
            bbox.map(|b| (Detection { bbox: b, class: Some(VehicleClass::Car), score }, None)),
        );
    }
    // No order to rely on.
    for i in (1..found.len()).rev() {
        found.swap(i, noise.below(i + 1));
    }
    found
}

/// A final sighting without a plate.
pub(crate) fn sighting_of(camera: &Camera, at: Timestamp) -> Sighting {
    Sighting {
        id: SightingId::for_track(&camera.id, TrackId(1), at),
        stage: SightingStage::Final,
        camera: camera.id.clone(),
        span: TimeSpan::at(at),
        captured: CaptureTime {
            at,
            uncertainty: Duration::from_millis(20),
            source: ClockSource::Rtcp,
        },
        plate: PlateState::NotRead,
        vehicle: Vehicle { class: None, colour: None },
        direction: None,
        frames: 5,
        evidence: Vec::new(),
    }
}
