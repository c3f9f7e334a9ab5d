//! Vehicles: a photograph cut out, recoloured and fitted with a plate.

use std::path::{Path, PathBuf};

use guiji_domain::{InvalidValue, PlateRows, Point, Quad, VehicleColour};
use image::{RgbImage, imageops};

use crate::SceneError;
use crate::font::PlateFonts;
use crate::outline;
use crate::plate::Plate;
use crate::raster::{Homography, Mask};
use crate::sprite::{Level, Sprite};
use crate::view::Light;

/// Sprite pixels a photograph pixel ("unit"): plates are composited at this resolution.
pub(crate) const DETAIL: f32 = 3.0;

/// Nominal width of a vehicle in units; photographs of other widths are scaled to it.
const NOMINAL_WIDTH: f32 = 404.0;

/// A vehicle's picture and what is known of it. Coordinates are units: pixels of the photograph.
#[derive(Clone)]
pub struct VehicleModel {
    name: String,
    /// Top left corner of the canvas that the masks and the picture cover.
    origin: Point,
    picture: RgbImage,
    cover: Mask,
    body: Mask,
    lamps: Mask,
    shadow: Mask,
    glow: Mask,
    pool: Mask,
    seat: Seat,
    contact: Point,
    extent: [f32; 4],
}

#[derive(Clone)]
enum Seat {
    /// A place of known direction, that plates of any size are centred on.
    Centred { centre: Point, across: Point, down: Point },
    /// Four given corners, whatever the plate's shape.
    Corners(Quad),
}

/// How one passage looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) colour: VehicleColour,
    pub(crate) light: Light,
    /// Mirrored left to right (never the plate).
    pub(crate) mirror: bool,
    /// Rise to the right, unit for unit: fits the photograph to a camera that stands higher.
    pub(crate) lean: f32,
    /// Brightness of the plate, 1 is as drawn.
    pub(crate) plate_gain: f32,
}

impl VehicleModel {
    /// The silver car of `fast-alpr`'s test picture.
    ///
    /// # Errors
    /// When the file cannot be read or is not that picture.
    pub fn from_fast_alpr(photo: &Path) -> Result<Self, SceneError> {
        let picture = image::open(photo).map_err(SceneError::picture(photo))?.to_rgb8();
        if picture.dimensions() != outline::SIZE {
            return Err(InvalidValue::new(
                "vehicle photograph",
                photo.display(),
                "is not fast-alpr 0.4.0's assets/test_image.png (518 x 331)",
            )
            .into());
        }
        let canvas = Canvas::new(-110.0, 30.0, 610.0, 260.0);
        let mut cover = canvas.mask(&[outline::CAR]);
        cover.blur(1);
        let mut kept = canvas.mask(outline::KEPT);
        let mut lamps = canvas.mask(outline::LAMPS);
        for (k, l) in kept.data.iter_mut().zip(&lamps.data) {
            *k = (*k).max(*l);
        }
        kept.blur(2);
        lamps.blur(1);
        let mut body = kept;
        body.data.iter_mut().for_each(|v| *v = 255 - *v);
        let mut shadow = canvas.mask(&[outline::SHADOW]);
        shadow.blur(14);
        let mut glow = canvas.mask(outline::LAMPS);
        glow.blur(22);
        let mut pool = canvas.mask(&[outline::HEADLIGHT_POOL]);
        pool.blur(30);
        let mut enlarged = canvas.enlarge(&picture);
        paint_over_plate(&mut enlarged, &canvas);
        let ([cx, cy], across, down) = outline::SEAT;
        Ok(Self {
            name: "fast-alpr".to_owned(),
            origin: canvas.origin,
            picture: enlarged,
            cover,
            body,
            lamps,
            shadow,
            glow,
            pool,
            seat: Seat::Centred {
                centre: Point { x: cx, y: cy },
                across: Point { x: across[0], y: across[1] },
                down: Point { x: down[0], y: down[1] },
            },
            contact: Point { x: outline::CONTACT.0, y: outline::CONTACT.1 },
            extent: extent_of(outline::CAR.iter().map(|(x, y)| Point { x: *x, y: *y })),
        })
    }

    /// Any photograph of a vehicle's rear: its plate's corners from top left clockwise, and, where given, an outline
    /// (255 inside). Without an outline the whole picture is taken. It is not recoloured.
    ///
    /// # Errors
    /// When the outline's size differs from the picture's, or nothing is inside, or the picture is below 32 pixels.
    pub fn from_picture(
        name: &str,
        picture: &RgbImage,
        plate: Quad,
        outline: Option<&image::GrayImage>,
    ) -> Result<Self, SceneError> {
        let wrong =
            |fix: &str| SceneError::Value(InvalidValue::new("vehicle photograph", name, fix));
        let (w, h) = picture.dimensions();
        if w.min(h) < 32 || w.max(h) > 8192 {
            return Err(wrong("must have 32 to 8192 pixels a side"));
        }
        if outline.is_some_and(|o| o.dimensions() != (w, h)) {
            return Err(wrong("and its outline must have the same size"));
        }
        let inside = |x: u32, y: u32| outline.is_none_or(|o| o.get_pixel(x, y).0[0] > 127);
        let mut extent = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        for (x, y, _) in picture.enumerate_pixels().filter(|(x, y, _)| inside(*x, *y)) {
            let (x, y) = (x as f32, y as f32);
            extent = [
                extent[0].min(x),
                extent[1].min(y),
                extent[2].max(x + 1.0),
                extent[3].max(y + 1.0),
            ];
        }
        if extent[2] <= extent[0] {
            return Err(wrong("has an outline with nothing inside"));
        }
        let unit = NOMINAL_WIDTH / (extent[2] - extent[0]);
        let (uw, uh) = (w as f32 * unit, h as f32 * unit);
        let canvas = Canvas::new(0.0, 0.0, uw.ceil(), uh.ceil());
        let (pw, ph) = (canvas.width as u32, canvas.height as u32);
        let cover = match outline {
            Some(outline) => {
                let scaled = imageops::resize(outline, pw, ph, imageops::FilterType::Triangle);
                Mask { width: canvas.width, height: canvas.height, data: scaled.into_raw() }
            }
            None => Mask { data: vec![255; canvas.width * canvas.height], ..canvas.mask(&[]) },
        };
        let nothing = || canvas.mask(&[]);
        Ok(Self {
            name: name.to_owned(),
            origin: canvas.origin,
            picture: imageops::resize(picture, pw, ph, imageops::FilterType::CatmullRom),
            cover,
            body: nothing(),
            lamps: nothing(),
            shadow: nothing(),
            glow: nothing(),
            pool: nothing(),
            seat: Seat::Corners(Quad(plate.0.map(|p| Point { x: p.x * unit, y: p.y * unit }))),
            contact: Point { x: (extent[0] + extent[2]) / 2.0 * unit, y: extent[3] * unit },
            extent: extent.map(|v| v * unit),
        })
    }

    /// All vehicles of a folder: `vehicles.csv` with lines `file,x1,y1,x2,y2,x3,y3,x4,y4[,outline.png]`, corners from
    /// top left clockwise in the picture's pixels.
    ///
    /// # Errors
    /// When a file is missing or a line is wrong; the message names the line.
    pub fn from_folder(folder: &Path) -> Result<Vec<Self>, SceneError> {
        let list = folder.join("vehicles.csv");
        let text = std::fs::read_to_string(&list).map_err(SceneError::file("read", &list))?;
        let mut models = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with("file,") {
                continue;
            }
            let wrong = |problem: &str| SceneError::Format {
                path: list.clone(),
                problem: format!("line {}: {problem}", number + 1),
            };
            let fields: Vec<_> = line.split(',').map(str::trim).collect();
            if !(9..=10).contains(&fields.len()) {
                return Err(wrong("needs a file, eight coordinates and perhaps an outline"));
            }
            let mut corners = [Point::default(); 4];
            for (i, corner) in corners.iter_mut().enumerate() {
                let read = |at: usize| fields[at].parse::<f32>().ok().filter(|v| v.is_finite());
                let (x, y) = read(1 + 2 * i)
                    .zip(read(2 + 2 * i))
                    .ok_or_else(|| wrong("has a coordinate that is no number"))?;
                *corner = Point { x, y };
            }
            let file = folder.join(fields[0]);
            let picture = image::open(&file).map_err(SceneError::picture(&file))?.to_rgb8();
            let outline = match fields.get(9).filter(|f| !f.is_empty()) {
                Some(name) => {
                    let file: PathBuf = folder.join(name);
                    Some(image::open(&file).map_err(SceneError::picture(&file))?.to_luma8())
                }
                None => None,
            };
            models.push(Self::from_picture(fields[0], &picture, Quad(corners), outline.as_ref())?);
        }
        Ok(models)
    }

    /// The photograph's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The picture's bytes, for telling models apart.
    pub(crate) fn pixels(&self) -> &[u8] {
        self.picture.as_raw()
    }

    /// Corners of a plate on the unmirrored, upright vehicle, in units.
    fn plate_quad(&self, plate: &Plate) -> Quad {
        match &self.seat {
            Seat::Corners(quad) => *quad,
            Seat::Centred { centre, across, down } => {
                let (w_mm, h_mm) = plate.size_mm();
                // A little larger than life (0.148 units a millimetre would be exact): it has to cover the longer
                // European plate's holder.
                let unit = if plate.rows == PlateRows::Two { 0.145 } else { 0.172 };
                let (w, h) = (w_mm * unit / 2.0, h_mm * unit / 2.0);
                Quad([(-w, -h), (w, -h), (w, h), (-w, h)].map(|(a, d)| Point {
                    x: centre.x + a * across.x + d * down.x,
                    y: centre.y + a * across.y + d * down.y,
                }))
            }
        }
    }

    /// Makes the sprite of one passage.
    pub(crate) fn sprite(
        &self,
        plate: &Plate,
        fonts: &PlateFonts,
        look: Look,
    ) -> Result<Sprite, SceneError> {
        let quad = self.plate_quad(plate);
        let drawn = plate.draw(fonts)?;
        let plate_image = imageops::resize(
            &drawn,
            drawn.width() / 2,
            drawn.height() / 2,
            imageops::FilterType::Triangle,
        );
        let (w, h) = (self.cover.width, self.cover.height);
        // Mirroring is about the contact point, so that it stays where it is.
        let origin = if look.mirror {
            Point { x: 2.0 * self.contact.x - self.origin.x - w as f32 / DETAIL, ..self.origin }
        } else {
            self.origin
        };
        let place = |p: Point| {
            let x = if look.mirror { 2.0 * self.contact.x - p.x } else { p.x };
            let lean = if look.mirror { -look.lean } else { look.lean };
            Point { x, y: p.y + lean * (x - self.contact.x) }
        };
        let corners = {
            let [tl, tr, br, bl] = quad.0.map(place);
            if look.mirror { Quad([tr, tl, bl, br]) } else { Quad([tl, tr, br, bl]) }
        };
        let lean = if look.mirror { -look.lean } else { look.lean };
        let paint = BodyPaint::of(look.colour);
        let light = look.light.on_vehicle();
        let mut top = Level::new(w, h, DETAIL, origin);
        for x in 0..w {
            let shift = (lean * (origin.x + x as f32 / DETAIL - self.contact.x) * DETAIL).round();
            let sx = if look.mirror { w - 1 - x } else { x };
            for y in 0..h {
                let sy = y as isize - shift as isize;
                let Some(sy) = usize::try_from(sy).ok().filter(|v| *v < h) else { continue };
                let cover = self.cover.at(sx, sy);
                let below = (self.shadow.at(sx, sy), self.pool.at(sx, sy), self.glow.at(sx, sy));
                if cover == 0 && below == (0, 0, 0) {
                    continue;
                }
                let pixel = self.picture.get_pixel(sx as u32, sy as u32).0;
                let painted = paint.apply(pixel, self.body.at(sx, sy));
                let lamp = self.lamps.at(sx, sy);
                let lit = light.vehicle(painted, lamp);
                let (rgb, alpha) = light.ground(lit, cover, below);
                top.put(x, y, rgb, alpha, cover);
            }
        }
        hang_plate(&mut top, &plate_image, &corners, look.plate_gain * light.plate_gain);
        let extent = {
            let [x1, y1, x2, y2] = self.extent;
            // The outline leans with the picture: its box is that of the covered pixels.
            covered_box(&top).unwrap_or([x1, y1, x2, y2])
        };
        Ok(Sprite::new(top, corners, self.contact, extent))
    }
}

/// Lays the plate's picture over the sprite by homography, each sprite pixel from 3 x 3 samples.
fn hang_plate(top: &mut Level, plate: &RgbImage, corners: &Quad, gain: f32) {
    let (pw, ph) = (plate.width() as f32, plate.height() as f32);
    let source = Quad([(0.0, 0.0), (pw, 0.0), (pw, ph), (0.0, ph)].map(|(x, y)| Point { x, y }));
    let target = Quad(corners.0.map(|p| top.pixel_of(p)));
    let (Some(map), Some(around)) = (Homography::between(&target, &source), target.bbox()) else {
        return;
    };
    const SAMPLES: usize = 3;
    let (x1, y1) = (around.x1().floor().max(0.0) as usize, around.y1().floor().max(0.0) as usize);
    let (x2, y2) = (
        (around.x2().ceil().max(0.0) as usize).min(top.width),
        (around.y2().ceil().max(0.0) as usize).min(top.height),
    );
    for y in y1..y2 {
        for x in x1..x2 {
            let (mut sum, mut count) = ([0.0f32; 3], 0.0f32);
            for i in 0..SAMPLES * SAMPLES {
                let offset = |k: usize| (k as f64 + 0.5) / SAMPLES as f64;
                let (u, v) =
                    map.apply(x as f64 + offset(i % SAMPLES), y as f64 + offset(i / SAMPLES));
                if u >= 0.0 && v >= 0.0 && u < f64::from(pw) && v < f64::from(ph) {
                    let pixel = plate.get_pixel(u as u32, v as u32).0;
                    sum.iter_mut().zip(pixel).for_each(|(s, p)| *s += f32::from(p));
                    count += 1.0;
                }
            }
            if count > 0.0 {
                let rgb = sum.map(|s| (s / count * gain).clamp(0.0, 255.0) as u8);
                top.mix(x, y, rgb, count / (SAMPLES * SAMPLES) as f32);
            }
        }
    }
}

/// The box of what the vehicle itself covers at least by half, in units.
fn covered_box(level: &Level) -> Option<[f32; 4]> {
    let mut found: Option<[usize; 4]> = None;
    for y in 0..level.height {
        let row = &level.solid[y * level.width..][..level.width];
        let first = row.iter().position(|v| *v > 127);
        let last = row.iter().rposition(|v| *v > 127);
        if let (Some(first), Some(last)) = (first, last) {
            let [x1, y1, x2, _] = found.unwrap_or([first, y, last, y]);
            found = Some([x1.min(first), y1, x2.max(last), y]);
        }
    }
    let [x1, y1, x2, y2] = found?;
    let (a, b) =
        (level.unit_of(x1 as f32, y1 as f32), level.unit_of(x2 as f32 + 1.0, y2 as f32 + 1.0));
    Some([a.x, a.y, b.x, b.y])
}

/// A rectangle in units, [`DETAIL`] pixels each.
struct Canvas {
    origin: Point,
    width: usize,
    height: usize,
}

impl Canvas {
    fn new(x: f32, y: f32, width: f32, height: f32) -> Self {
        let px = |v: f32| ((v * DETAIL) as usize).max(2);
        Self { origin: Point { x, y }, width: px(width), height: px(height) }
    }

    fn mask(&self, polygons: &[outline::Outline]) -> Mask {
        let mut mask = Mask::new(self.width, self.height);
        for polygon in polygons {
            let scaled: Vec<_> = polygon
                .iter()
                .map(|(x, y)| Point {
                    x: (x - self.origin.x) * DETAIL,
                    y: (y - self.origin.y) * DETAIL,
                })
                .collect();
            mask.fill(&scaled);
        }
        mask
    }

    /// The part of the picture the canvas covers, enlarged; black outside it.
    fn enlarge(&self, picture: &RgbImage) -> RgbImage {
        let (w, h) = picture.dimensions();
        let (pw, ph) = ((w as f32 * DETAIL) as u32, (h as f32 * DETAIL) as u32);
        let large = imageops::resize(picture, pw, ph, imageops::FilterType::CatmullRom);
        let (dx, dy) = ((self.origin.x * DETAIL) as i64, (self.origin.y * DETAIL) as i64);
        RgbImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            let at = |v: u32, d: i64| u32::try_from(i64::from(v) + d).unwrap_or(u32::MAX);
            large.get_pixel_checked(at(x, dx), at(y, dy)).copied().unwrap_or(image::Rgb([0; 3]))
        })
    }
}

/// Paints the old plate over with the dark of its recess.
fn paint_over_plate(picture: &mut RgbImage, canvas: &Canvas) {
    let mut mask = canvas.mask(&[outline::OLD_PLATE]);
    mask.blur(1);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let cover = u32::from(mask.at(x as usize, y as usize));
        for (p, dark) in pixel.0.iter_mut().zip([58u32, 58, 60]) {
            *p = ((u32::from(*p) * (255 - cover) + dark * cover) / 255) as u8;
        }
    }
}

/// Body paint: the photograph's brightness keeps the shape, the colour is replaced.
struct BodyPaint {
    base: [f32; 3],
    /// How much of the highlights shows as white: dark paint mirrors more visibly.
    gloss: f32,
}

/// Brightness of the silver car's paint in even light.
const PAINT_LEVEL: f32 = 176.0;

impl BodyPaint {
    fn of(colour: VehicleColour) -> Self {
        let (base, gloss) = match colour {
            VehicleColour::White => ([232.0, 233.0, 234.0], 0.2),
            VehicleColour::Silver => ([174.0, 176.0, 178.0], 0.3),
            VehicleColour::Grey => ([92.0, 95.0, 99.0], 0.4),
            VehicleColour::Black => ([40.0, 41.0, 45.0], 0.7),
            VehicleColour::Red => ([150.0, 24.0, 28.0], 0.4),
            VehicleColour::Yellow => ([206.0, 160.0, 30.0], 0.3),
            VehicleColour::Green => ([34.0, 92.0, 62.0], 0.4),
            VehicleColour::Blue => ([30.0, 62.0, 136.0], 0.45),
            VehicleColour::Brown => ([96.0, 68.0, 50.0], 0.4),
        };
        Self { base, gloss }
    }

    fn apply(&self, pixel: [u8; 3], body: u8) -> [f32; 3] {
        let own = pixel.map(f32::from);
        if body == 0 {
            return own;
        }
        let luma = 0.2126 * own[0] + 0.7152 * own[1] + 0.0722 * own[2];
        let shade = luma / PAINT_LEVEL;
        let highlight = (luma - 205.0).max(0.0) * self.gloss;
        let share = f32::from(body) / 255.0;
        std::array::from_fn(|i| own[i] + (self.base[i] * shade + highlight - own[i]) * share)
    }
}

fn extent_of(points: impl Iterator<Item = Point>) -> [f32; 4] {
    points.fold(
        [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY],
        |[x1, y1, x2, y2], p| [x1.min(p.x), y1.min(p.y), x2.max(p.x), y2.max(p.y)],
    )
}
