//! One camera's frames, painted one after the other.

use crate::SceneError;
use crate::background;
use crate::canvas::{Canvas, Grain, NOBODY, Rain, sway};
use crate::font::PlateFonts;
use crate::plate::Plate;
use crate::random::Random;
use crate::sprite::{Cut, Placement, Sprite};
use crate::story::{PlannedVehicle, Stop, StorySpec};
use crate::truth::{FrameTruth, PassageTruth};
use crate::vehicle::{Look, VehicleModel};
use crate::view::View;
use guiji_domain::{PlateRows, Point, Quad, VehicleClass, VehicleColour};

/// A vehicle on its way through one view.
pub(crate) struct Passage {
    pub(crate) truth: PassageTruth,
    pub(crate) lane_at: f32,
    pub(crate) at_s: f64,
    pub(crate) speed_mps: f64,
    model: usize,
    plate: Plate,
    colour: VehicleColour,
    plate_gain: f32,
    sprite: Option<Sprite>,
}

/// A camera's scene.
pub(crate) struct Scene<'a> {
    view: View,
    models: &'a [VehicleModel],
    fonts: &'a PlateFonts,
    background: Canvas,
    frame: Canvas,
    grain: Grain,
    rain: Option<Rain>,
    trees_sway: bool,
    random: Random,
    fps: f64,
    passages: Vec<Passage>,
}

/// Vehicles further away than this share of the reference distance have left the scene.
const FAR: f64 = 5.0;

impl<'a> Scene<'a> {
    pub(crate) fn new(
        spec: &StorySpec,
        camera: usize,
        plan: &[PlannedVehicle],
        models: &'a [VehicleModel],
        fonts: &'a PlateFonts,
    ) -> Self {
        let view = spec.view(camera);
        let camera_spec = &spec.cameras[camera];
        let mut random = Random::for_part(spec.seed, &format!("scene {}", camera_spec.id));
        let background = background::draw(&view, &mut random);
        let (luma, chroma) = view.light.noise();
        let grain = Grain::new(&mut random, luma * camera_spec.noise, chroma * camera_spec.noise);
        let rain = camera_spec.rain.then(|| Rain::new(&mut random, 420));
        let mut passages: Vec<_> = plan
            .iter()
            .enumerate()
            .flat_map(|(i, v)| v.stops.iter().map(move |s| (i, v, s)))
            .filter(|(_, _, stop)| stop.camera == camera)
            .map(|(i, vehicle, stop)| {
                let gain = random.between(0.9, 1.04) as f32;
                Passage::new(vehicle, stop, i % models.len().max(1), gain, &view)
            })
            .collect();
        passages.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        Self {
            frame: background.clone(),
            background,
            view,
            models,
            fonts,
            grain,
            rain,
            trees_sway: camera_spec.trees_sway,
            random,
            fps: spec.fps,
            passages,
        }
    }

    /// Paints a frame and notes its truth.
    pub(crate) fn paint(&mut self, number: u32) -> Result<&Canvas, SceneError> {
        let time_s = f64::from(number) / self.fps;
        self.frame.copy_planes(&self.background);
        if self.trees_sway {
            let rows = (self.view.horizon_y * self.view.zoom()) as usize;
            sway(&mut self.frame, rows, time_s);
        }
        let placed = self.place(time_s)?;
        // Far ones first: nearer ones hide them.
        for (index, _, cut) in &placed {
            self.frame.lay(cut, *index as u8);
        }
        let pts_ms = (f64::from(number) * 1000.0 / self.fps).round() as u64;
        for (index, place, cut) in &placed {
            note(
                &mut self.passages[*index],
                &self.view,
                &self.frame,
                place,
                cut,
                *index as u8,
                pts_ms,
            );
        }
        for (_, _, cut) in &placed {
            self.frame.disown(cut);
        }
        if let Some(rain) = &self.rain {
            rain.fall(&mut self.frame, time_s);
        }
        self.grain.add(&mut self.frame, &mut self.random);
        Ok(&self.frame)
    }

    /// The vehicles of a frame, farthest first.
    fn place(&mut self, time_s: f64) -> Result<Vec<(usize, Placement, Cut)>, SceneError> {
        let focal = f64::from(self.view.focal_m);
        let mut placed = Vec::new();
        for (index, passage) in self.passages.iter_mut().enumerate().take(usize::from(NOBODY)) {
            let z_m = focal + passage.speed_mps * (time_s - passage.at_s);
            if z_m > FAR * focal {
                passage.sprite = None;
                continue;
            }
            if z_m < focal / 4.0 {
                continue;
            }
            let sprite = match &passage.sprite {
                Some(sprite) => sprite,
                None => {
                    let look = Look {
                        colour: passage.colour,
                        light: self.view.light,
                        mirror: self.view.mirror,
                        lean: self.view.lean(),
                        plate_gain: passage.plate_gain,
                    };
                    let model = &self.models[passage.model];
                    let made = model.sprite(&passage.plate, self.fonts, look)?;
                    passage.sprite.insert(made)
                }
            };
            let cut = self
                .view
                .place(sprite, passage.lane_at, z_m as f32, passage.speed_mps as f32)
                .and_then(|p| sprite.cut(&p, self.view.width, self.view.height).map(|c| (p, c)));
            if let Some((place, cut)) = cut {
                placed.push((z_m, index, place, cut));
            }
        }
        placed.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(placed.into_iter().map(|(_, index, place, cut)| (index, place, cut)).collect())
    }

    /// The truth of everything painted.
    pub(crate) fn truth(self) -> Vec<PassageTruth> {
        let mut seen: Vec<_> =
            self.passages.into_iter().map(|p| p.truth).filter(|t| !t.track.is_empty()).collect();
        seen.sort_by_key(|t| t.first_seen_ms);
        seen
    }
}

impl Passage {
    fn new(
        vehicle: &PlannedVehicle,
        stop: &Stop,
        model: usize,
        plate_gain: f32,
        view: &View,
    ) -> Self {
        let plate = &vehicle.plate;
        Self {
            truth: PassageTruth {
                vehicle: vehicle.name.clone(),
                plate: plate.text.to_string(),
                kind: plate.kind.to_string(),
                plate_colour: plate.colour.to_string(),
                rows: if plate.rows == PlateRows::Two { 2 } else { 1 },
                body_colour: vehicle.colour.to_string(),
                class: VehicleClass::Car.to_string(),
                heading: "receding".to_owned(),
                lane: stop.lane as u8,
                speed_kmh: stop.speed_mps * 3.6,
                at_reference_ms: stop.at_s * 1000.0,
                first_seen_ms: 0,
                last_seen_ms: 0,
                readable_ms: None,
                readable_frames: 0,
                track: Vec::new(),
            },
            lane_at: view.lanes.get(stop.lane).copied().unwrap_or_default(),
            at_s: stop.at_s,
            speed_mps: stop.speed_mps,
            model,
            plate: plate.clone(),
            colour: vehicle.colour,
            plate_gain,
            sprite: None,
        }
    }
}

/// Writes down where a vehicle is in a frame that has just been painted, if anything of it is in the picture.
fn note(
    passage: &mut Passage,
    view: &View,
    frame: &Canvas,
    place: &Placement,
    cut: &Cut,
    index: u8,
    pts_ms: u64,
) {
    let Some(sprite) = &passage.sprite else { return };
    let (w, h) = (view.width as f32, view.height as f32);
    let [x1, y1, x2, y2] = view.extent(sprite, place);
    let vehicle = [x1.max(0.0), y1.max(0.0), x2.min(w), y2.min(h)];
    if vehicle[0] >= vehicle[2] || vehicle[1] >= vehicle[3] {
        return;
    }
    let plate = view.plate(sprite, place);
    let whole = sprite.area() * place.scale * place.scale;
    let visible = (frame.owned(cut, index) as f32 / whole.max(1.0)).min(1.0);
    let plate_visible = visible_share(frame, &plate, index);
    let truth = &mut passage.truth;
    if truth.track.is_empty() {
        truth.first_seen_ms = pts_ms;
    }
    truth.last_seen_ms = pts_ms;
    if plate.width() >= PassageTruth::READABLE_PX && plate_visible >= 0.999 {
        truth.readable_ms.get_or_insert(pts_ms);
        truth.readable_frames += 1;
    }
    truth.track.push(FrameTruth {
        pts_ms,
        vehicle,
        plate: plate.0.map(|p| [p.x, p.y]),
        visible,
        plate_visible,
    });
}

/// Share of a grid of points in a quad that belong to the vehicle.
fn visible_share(frame: &Canvas, quad: &Quad, index: u8) -> f32 {
    const GRID: (usize, usize) = (16, 6);
    let [tl, tr, br, bl] = quad.0;
    let along =
        |a: Point, b: Point, t: f32| Point { x: a.x + (b.x - a.x) * t, y: a.y + (b.y - a.y) * t };
    let mut seen = 0;
    for i in 0..GRID.0 * GRID.1 {
        let u = ((i % GRID.0) as f32 + 0.5) / GRID.0 as f32;
        let v = ((i / GRID.0) as f32 + 0.5) / GRID.1 as f32;
        let p = along(along(tl, tr, u), along(bl, br, u), v);
        let inside = p.x >= 0.0
            && p.y >= 0.0
            && (p.x as usize) < frame.width
            && (p.y as usize) < frame.height;
        if inside && frame.owner[p.y as usize * frame.width + p.x as usize] == index {
            seen += 1;
        }
    }
    seen as f32 / (GRID.0 * GRID.1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Canvas;
    use crate::view::Light;
    use guiji_domain::{PlateKind, PlateText};

    /// A block of one colour; its truth must be its pixels.
    fn block() -> VehicleModel {
        let picture = image::RgbImage::from_pixel(404, 200, image::Rgb([255, 0, 255]));
        let corners = [(160.0, 140.0), (240.0, 140.0), (240.0, 166.0), (160.0, 166.0)];
        let plate = Quad(corners.map(|(x, y)| Point { x, y }));
        VehicleModel::from_picture("block", &picture, plate, None).unwrap()
    }

    fn view(mirror: bool) -> View {
        View {
            width: 1280,
            height: 720,
            mirror,
            vanishing_x: -560.0,
            horizon_y: 290.0,
            rise: 150.0,
            focal_m: 29.0,
            lanes: vec![860.0, 1280.0],
            light: Light::Day,
        }
    }

    fn sprite(view: &View) -> Sprite {
        let look = Look {
            colour: VehicleColour::Silver,
            light: view.light,
            mirror: view.mirror,
            lean: 0.0,
            plate_gain: 1.0,
        };
        let text = PlateText::parse("浙J12345").unwrap();
        let plate = Plate::new(text, PlateKind::Small, PlateRows::One).unwrap();
        block().sprite(&plate, &PlateFonts::load().unwrap(), look).unwrap()
    }

    fn lay(
        canvas: &mut Canvas,
        view: &View,
        sprite: &Sprite,
        lane: f32,
        z: f32,
        id: u8,
    ) -> (Placement, Cut) {
        let place = view.place(sprite, lane, z, 0.0).unwrap();
        let cut = sprite.cut(&place, view.width, view.height).unwrap();
        canvas.lay(&cut, id);
        (place, cut)
    }

    #[test]
    fn the_true_box_is_that_of_the_pixels() {
        for mirror in [false, true] {
            let view = view(mirror);
            let sprite = sprite(&view);
            for (lane, z) in [(860.0, 26.0), (860.0, 45.0), (1280.0, 29.0), (1280.0, 55.0)] {
                let mut canvas = Canvas::new(view.width, view.height);
                canvas.planes[0].fill(20);
                let (place, _) = lay(&mut canvas, &view, &sprite, lane, z, 1);
                let mut seen = [usize::MAX, usize::MAX, 0, 0];
                for (i, owner) in canvas.owner.iter().enumerate().filter(|(_, o)| **o == 1) {
                    assert_eq!(*owner, 1);
                    let (x, y) = (i % view.width, i / view.width);
                    assert!(canvas.planes[0][i] > 40, "owned, but not painted");
                    seen = [seen[0].min(x), seen[1].min(y), seen[2].max(x + 1), seen[3].max(y + 1)];
                }
                let [x1, y1, x2, y2] = view.extent(&sprite, &place);
                let truth = [x1.max(0.0), y1.max(0.0), x2.min(1280.0), y2.min(720.0)];
                for (pixel, truth) in seen.iter().zip(truth) {
                    assert!((*pixel as f32 - truth).abs() <= 1.0, "{mirror} {seen:?} {truth:?}");
                }
            }
        }
    }

    #[test]
    fn a_plate_is_never_mirrored() {
        let (plain, mirrored) = (sprite(&view(false)), sprite(&view(true)));
        for sprite in [plain, mirrored] {
            let [tl, tr, br, bl] = sprite.plate().0;
            assert!(tl.x < tr.x && bl.x < br.x && tl.y < bl.y && tr.y < br.y);
        }
    }

    #[test]
    fn hidden_shares_are_counted() {
        let view = view(false);
        let sprite = sprite(&view);
        let mut canvas = Canvas::new(view.width, view.height);
        let (far, far_cut) = lay(&mut canvas, &view, &sprite, 1280.0, 40.0, 0);
        let area = sprite.area() * far.scale * far.scale;
        let free = canvas.owned(&far_cut, 0) as f32 / area;
        assert!((free - 1.0).abs() < 0.03, "{free}");
        assert_eq!(visible_share(&canvas, &view.plate(&sprite, &far), 0), 1.0);
        // A nearer one in the same place hides what it covers.
        let (near, _) = lay(&mut canvas, &view, &sprite, 1280.0, 30.0, 1);
        let (a, b) = (view.extent(&sprite, &far), view.extent(&sprite, &near));
        let common =
            (a[2].min(b[2]) - a[0].max(b[0])).max(0.0) * (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
        let left = canvas.owned(&far_cut, 0) as f32 / area;
        assert!((left - (1.0 - common / area)).abs() < 0.03, "{left}");
        canvas.disown(&far_cut);
        assert_eq!(canvas.owned(&far_cut, 0), 0);
    }

    #[test]
    fn what_is_behind_the_camera_or_outside_is_not_painted() {
        let view = view(false);
        let sprite = sprite(&view);
        assert!(view.place(&sprite, 860.0, -3.0, 10.0).is_none());
        assert!(view.place(&sprite, 860.0, 1.0, 10.0).is_none());
        let gone = view.place(&sprite, 860.0, 500.0, 10.0).unwrap();
        assert!(sprite.cut(&gone, view.width, view.height).is_none());
    }
}
