//! Stories: a small road network, its cameras, and who drives where and when.

use std::collections::BTreeMap;

use guiji_domain::{
    CameraId, GeoPoint, InvalidValue, PlateKind, PlateRows, PlateText, VehicleColour, grammar,
};
use serde::Deserialize;

use crate::SceneError;
use crate::encode::EncoderSpec;
use crate::plate::Plate;
use crate::random::Random;
use crate::view::{Light, View};

/// The story `./x demo` plays.
const DEMO: &str = include_str!("../stories/demo.toml");
/// Plates of all kinds, for `guiji eval scenes`.
const PLATES: &str = include_str!("../stories/plates.toml");

/// A story as written: TOML, unknown keys fail.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorySpec {
    /// Its name.
    pub name: String,
    /// Where all chance comes from.
    pub seed: u64,
    /// Length in seconds, 4 to 3600.
    pub duration_s: f64,
    /// Pixels, even, 320 to 3840.
    pub width: usize,
    /// Pixels, even, 180 to 2160.
    pub height: usize,
    /// Frames a second, 1 to 60.
    pub fps: f64,
    /// How many vehicles besides suspect and decoy.
    pub vehicles: usize,
    /// Slowest and fastest of them.
    pub speed_kmh: [f64; 2],
    /// The vehicle that is looked for.
    pub suspect: Option<NamedVehicle>,
    /// One that resembles it.
    pub decoy: Option<NamedVehicle>,
    /// Weights of plate kinds, by the words of `PlateKind`. Motorcycle plates and the like are the writer's choice.
    pub plates: BTreeMap<String, f64>,
    /// Weights of body colours, by the words of `VehicleColour`.
    pub colours: BTreeMap<String, f64>,
    /// How clips are encoded.
    #[serde(default)]
    pub encoder: EncoderSpec,
    /// The cameras.
    #[serde(rename = "camera")]
    pub cameras: Vec<CameraSpec>,
    /// The ways vehicles take.
    #[serde(rename = "route")]
    pub routes: Vec<RouteSpec>,
}

/// A vehicle whose way is fixed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedVehicle {
    /// Its plate.
    pub plate: String,
    /// Kind of the plate.
    pub kind: String,
    /// Body colour.
    pub colour: String,
    /// Index of its route.
    pub route: usize,
    /// When it passes the first camera.
    pub enters_s: f64,
    /// Its speed.
    pub speed_kmh: f64,
}

/// A camera and its view.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraSpec {
    /// Unique name, also the path of its stream.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Metres east of the network's origin (29.10 N, 121.40 E).
    pub east_m: f64,
    /// Metres north of it.
    pub north_m: f64,
    /// Where it looks, which is where traffic goes.
    pub bearing_deg: f64,
    /// Light of the scene.
    pub light: Light,
    /// On which side of the road it stands.
    pub side: Side,
    /// Whether it rains.
    #[serde(default)]
    pub rain: bool,
    /// Whether the trees move.
    #[serde(default)]
    pub trees_sway: bool,
    /// How many times the usual noise of such light its sensor has, 0 to 8.
    #[serde(default = "usual")]
    pub noise: f64,
    /// How its clip is encoded, if not as the story's others.
    #[serde(default)]
    pub encoder: Option<EncoderSpec>,
}

fn usual() -> f64 {
    1.0
}

/// A side of the road.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Left of the traffic: left flanks are seen, vehicles leave to the left.
    Left,
    /// Right of it.
    Right,
}

/// A way through the network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// How often it is taken, against the others.
    pub weight: f64,
    /// Cameras in the order passed.
    pub cameras: Vec<String>,
}

/// Origin of the network.
const ORIGIN_DEG: (f64, f64) = (29.10, 121.40);

/// Seconds at a clip's start in which nothing drives: a server repeats them until the story starts.
pub(crate) const LEAD_IN_S: f64 = 2.0;

/// A vehicle with its way through the story.
#[derive(Debug, Clone)]
pub(crate) struct PlannedVehicle {
    pub(crate) name: String,
    pub(crate) plate: Plate,
    pub(crate) colour: VehicleColour,
    pub(crate) stops: Vec<Stop>,
}

/// A vehicle at a camera.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    /// Index of the camera.
    pub(crate) camera: usize,
    /// When it is at the reference distance.
    pub(crate) at_s: f64,
    pub(crate) speed_mps: f64,
    pub(crate) lane: usize,
}

impl StorySpec {
    /// The built-in demo story.
    ///
    /// # Errors
    /// Never for the text as shipped (a test reads it).
    pub fn demo() -> Result<Self, SceneError> {
        Self::parse(DEMO)
    }

    /// The built-in story of plates of all kinds.
    ///
    /// # Errors
    /// Never for the text as shipped (a test reads it).
    pub fn plates() -> Result<Self, SceneError> {
        Self::parse(PLATES)
    }

    /// Reads and checks a story.
    ///
    /// # Errors
    /// When the TOML is wrong or the story cannot be played; the message says what to mend.
    pub fn parse(text: &str) -> Result<Self, SceneError> {
        let spec: Self = toml::from_str(text).map_err(|e| SceneError::Story {
            story: "(unread)".to_owned(),
            problem: e.to_string(),
        })?;
        spec.check()?;
        Ok(spec)
    }

    pub(crate) fn problem(&self, problem: impl Into<String>) -> SceneError {
        SceneError::Story { story: self.name.clone(), problem: problem.into() }
    }

    pub(crate) fn check(&self) -> Result<(), SceneError> {
        let bounded = [
            ("duration_s", self.duration_s, 4.0, 3600.0),
            ("width", self.width as f64, 320.0, 3840.0),
            ("height", self.height as f64, 180.0, 2160.0),
            ("fps", self.fps, 1.0, 60.0),
            ("vehicles", self.vehicles as f64, 0.0, 2000.0),
            ("speed_kmh[0]", self.speed_kmh[0], 5.0, 200.0),
            ("speed_kmh[1]", self.speed_kmh[1], self.speed_kmh[0], 200.0),
            ("number of cameras", self.cameras.len() as f64, 1.0, 64.0),
            ("number of routes", self.routes.len() as f64, 1.0, 64.0),
        ];
        for (what, value, least, most) in bounded {
            if !(least..=most).contains(&value) {
                return Err(self.problem(format!("{what} is {value}, use {least} to {most}")));
            }
        }
        if self.width % 2 == 1 || self.height % 2 == 1 {
            return Err(self.problem("width and height must be even"));
        }
        for (i, camera) in self.cameras.iter().enumerate() {
            CameraId::new(&camera.id)?;
            self.position(i)?;
            if !(0.0..=8.0).contains(&camera.noise) {
                return Err(self.problem(format!("camera {}: use a noise of 0 to 8", camera.id)));
            }
            self.encoder_of(i).check().map_err(|problem| self.problem(problem))?;
            if self.cameras.iter().take(i).any(|c| c.id == camera.id) {
                return Err(self.problem(format!("camera {} is there twice", camera.id)));
            }
        }
        for route in &self.routes {
            for name in &route.cameras {
                self.camera_index(name)?;
            }
            if route.cameras.is_empty() || route.weight.is_nan() || route.weight <= 0.0 {
                return Err(self.problem("a route needs cameras and a weight above 0"));
            }
        }
        self.encoder.check().map_err(|problem| self.problem(problem))
    }

    fn camera_index(&self, id: &str) -> Result<usize, SceneError> {
        self.cameras
            .iter()
            .position(|c| c.id == id)
            .ok_or_else(|| self.problem(format!("no camera is called {id}")))
    }

    /// Number of frames of a clip.
    pub fn frames(&self) -> u32 {
        (self.duration_s * self.fps).round() as u32
    }

    /// How a camera's clip is encoded.
    pub(crate) fn encoder_of(&self, camera: usize) -> &EncoderSpec {
        self.cameras.get(camera).and_then(|c| c.encoder.as_ref()).unwrap_or(&self.encoder)
    }

    /// Where a camera stands.
    ///
    /// # Errors
    /// When it would stand outside the globe.
    pub fn position(&self, camera: usize) -> Result<GeoPoint, SceneError> {
        const METRES_A_DEGREE: f64 = 111_195.08; // on the mean sphere
        let spec = self.cameras.get(camera).ok_or_else(|| self.problem("no such camera"))?;
        let (lat, lon) = ORIGIN_DEG;
        let north = lat + spec.north_m / METRES_A_DEGREE;
        let east = lon + spec.east_m / (METRES_A_DEGREE * lat.to_radians().cos());
        Ok(GeoPoint::new(north, east)?)
    }

    /// The camera's view: each has its own place beside the road.
    pub(crate) fn view(&self, camera: usize) -> View {
        let spec = &self.cameras[camera];
        let mut random = Random::for_part(self.seed, &format!("view {}", spec.id));
        let near = random.between(830.0, 890.0) as f32;
        View {
            width: self.width,
            height: self.height,
            mirror: spec.side == Side::Right,
            vanishing_x: random.between(-590.0, -530.0) as f32,
            horizon_y: random.between(270.0, 310.0) as f32,
            rise: random.between(140.0, 165.0) as f32,
            focal_m: random.between(27.0, 31.0) as f32,
            lanes: vec![near, near + 420.0],
            light: spec.light,
        }
    }

    /// Who drives where and when. The same seed gives the same plan.
    ///
    /// # Errors
    /// When a named vehicle is wrong, or no gap in traffic is found for a vehicle.
    pub(crate) fn plan(&self) -> Result<Vec<PlannedVehicle>, SceneError> {
        let mut random = Random::for_part(self.seed, "traffic");
        let mut planned: Vec<PlannedVehicle> = Vec::new();
        for (name, vehicle) in [("suspect", &self.suspect), ("decoy", &self.decoy)] {
            if let Some(vehicle) = vehicle {
                planned.push(self.named(name, vehicle, &planned, &mut random)?);
            }
        }
        let kinds = weights::<PlateKind>(&self.plates)?;
        let colours = weights::<VehicleColour>(&self.colours)?;
        let routes: Vec<_> = self.routes.iter().map(|r| (r, r.weight)).collect();
        for index in 0..self.vehicles {
            let mut fitted = None;
            for _ in 0..2000 {
                let Some(route) = random.weighted(&routes).copied() else { break };
                let speed = random.between(self.speed_kmh[0], self.speed_kmh[1]) / 3.6;
                let stops = self.drive(route, 0.0, speed, &mut random)?;
                let way = stops.last().map_or(0.0, |s| s.at_s);
                let latest = self.duration_s - way - EXIT_S;
                if latest < ENTRY_S {
                    continue;
                }
                let enters = random.between(ENTRY_S, latest);
                let stops: Vec<_> =
                    stops.into_iter().map(|s| Stop { at_s: s.at_s + enters, ..s }).collect();
                if !planned.iter().any(|p| collides(&p.stops, &stops)) {
                    fitted = Some(stops);
                    break;
                }
            }
            let stops = fitted.ok_or_else(|| {
                self.problem("the roads are full: use fewer vehicles, more time or slower ones")
            })?;
            let kind = random.weighted(&kinds).copied().unwrap_or(PlateKind::Small);
            let mut plate = Plate::random(kind, &mut random)?;
            while planned.iter().any(|p| p.plate.text == plate.text) {
                plate = Plate::random(kind, &mut random)?;
            }
            let colour = random.weighted(&colours).copied().unwrap_or(VehicleColour::Silver);
            planned.push(PlannedVehicle {
                name: format!("v{:02}", index + 1),
                plate,
                colour,
                stops,
            });
        }
        Ok(planned)
    }

    fn named(
        &self,
        name: &str,
        vehicle: &NamedVehicle,
        others: &[PlannedVehicle],
        random: &mut Random,
    ) -> Result<PlannedVehicle, SceneError> {
        let kind: PlateKind = vehicle.kind.parse()?;
        let rows = *grammar::rows(kind).first().unwrap_or(&PlateRows::One);
        let plate = Plate::new(PlateText::parse(&vehicle.plate)?, kind, rows)?;
        let route = self
            .routes
            .get(vehicle.route)
            .ok_or_else(|| self.problem(format!("{name}: there is no route {}", vehicle.route)))?;
        if !(5.0..=200.0).contains(&vehicle.speed_kmh) || !(ENTRY_S..).contains(&vehicle.enters_s) {
            return Err(self.problem(format!(
                "{name}: use 5 to 200 km/h, and enter {ENTRY_S} s after the start or later"
            )));
        }
        let stops = self.drive(route, vehicle.enters_s, vehicle.speed_kmh / 3.6, random)?;
        if stops.last().is_some_and(|s| s.at_s > self.duration_s - EXIT_S) {
            return Err(self.problem(format!("{name} does not arrive before the end")));
        }
        if others.iter().any(|o| collides(&o.stops, &stops)) {
            return Err(self.problem(format!("{name} drives into another vehicle")));
        }
        Ok(PlannedVehicle { name: name.to_owned(), plate, colour: vehicle.colour.parse()?, stops })
    }

    /// Drives a route from an entry time; each leg is a little faster or slower than the vehicle's own speed.
    fn drive(
        &self,
        route: &RouteSpec,
        enters_s: f64,
        speed_mps: f64,
        random: &mut Random,
    ) -> Result<Vec<Stop>, SceneError> {
        let mut stops: Vec<Stop> = Vec::with_capacity(route.cameras.len());
        for id in &route.cameras {
            let camera = self.camera_index(id)?;
            let speed_mps = speed_mps * random.between(0.94, 1.06);
            let at_s = match stops.last() {
                None => enters_s,
                Some(before) => {
                    let way = self.position(before.camera)?.distance_m(&self.position(camera)?);
                    before.at_s + way / speed_mps
                }
            };
            let lane = random.below(self.view(camera).lanes.len());
            stops.push(Stop { camera, at_s, speed_mps, lane });
        }
        Ok(stops)
    }
}

/// Nobody is at a camera's reference distance earlier than this.
const ENTRY_S: f64 = LEAD_IN_S + 2.5;
/// Nor later than this before the end.
const EXIT_S: f64 = 5.0;
/// Least time between two vehicles in a lane.
const HEADWAY_S: f64 = 2.4;

/// Two vehicles in one lane too close, or side by side in a way that hides one for most of its passage.
fn collides(a: &[Stop], b: &[Stop]) -> bool {
    a.iter().any(|a| {
        b.iter().any(|b| {
            let gap = (a.at_s - b.at_s).abs();
            a.camera == b.camera && a.lane == b.lane && gap < HEADWAY_S
        })
    })
}

fn weights<T>(words: &BTreeMap<String, f64>) -> Result<Vec<(T, f64)>, InvalidValue>
where
    T: std::str::FromStr<Err = InvalidValue>,
{
    words.iter().map(|(word, weight)| Ok((word.parse()?, *weight))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_keeps_its_promises() {
        let spec = StorySpec::demo().unwrap();
        let plan = spec.plan().unwrap();
        let passages: usize = plan.iter().map(|v| v.stops.len()).sum();
        assert!(passages >= 75, "{passages}");
        assert!(plan[0].name == "suspect" && plan[0].stops.len() >= 4);
        let (suspect, decoy) = (plan[0].plate.text.as_str(), plan[1].plate.text.as_str());
        let differences = suspect.chars().zip(decoy.chars()).filter(|(a, b)| a != b).count();
        assert_eq!(differences, 1);
        let nights = spec.cameras.iter().filter(|c| c.light == Light::Night).count();
        assert!(nights >= 2 && spec.cameras.len() == 6);
        let kinds: std::collections::BTreeSet<_> = plan.iter().map(|v| v.plate.kind).collect();
        assert!(kinds.len() >= 3, "{kinds:?}");
        let abreast = (0..6).any(|camera| {
            let times: Vec<_> =
                plan.iter().flat_map(|v| v.stops.iter().filter(|s| s.camera == camera)).collect();
            times
                .iter()
                .any(|a| times.iter().any(|b| a.lane != b.lane && (a.at_s - b.at_s).abs() < 0.7))
        });
        assert!(abreast, "nobody drives side by side");
    }

    #[test]
    fn the_story_of_plates_has_all_that_is_scored() {
        let plan = StorySpec::plates().unwrap().plan().unwrap();
        assert!(plan.len() >= 500, "{}", plan.len());
        let share = |test: fn(&Plate) -> bool| {
            plan.iter().filter(|v| test(&v.plate)).count() as f64 / plan.len() as f64
        };
        assert!(share(|plate| plate.rows == PlateRows::Two) > 0.15);
        assert!(share(|plate| plate.text.chars().count() == 8) > 0.2);
        assert!(share(|plate| plate.colour == guiji_domain::PlateColour::White) > 0.05);
    }

    #[test]
    fn speeds_are_true() {
        let spec = StorySpec::demo().unwrap();
        for vehicle in spec.plan().unwrap() {
            for pair in vehicle.stops.windows(2) {
                let [a, b] = [&pair[0], &pair[1]];
                let way =
                    spec.position(a.camera).unwrap().distance_m(&spec.position(b.camera).unwrap());
                let speed = way / (b.at_s - a.at_s);
                assert!((speed - b.speed_mps).abs() < 1e-6);
                assert!((30.0..80.0).contains(&(speed * 3.6)), "{}", speed * 3.6);
                assert!((8.0..30.0).contains(&(b.at_s - a.at_s)), "{}", b.at_s - a.at_s);
            }
        }
    }

    #[test]
    fn a_seed_is_a_plan() {
        let spec = StorySpec::demo().unwrap();
        let line = |spec: &StorySpec| format!("{:?}", spec.plan().unwrap());
        assert_eq!(line(&spec), line(&spec));
        let other = StorySpec { seed: 1, ..spec.clone() };
        assert_ne!(line(&spec), line(&other));
    }

    #[test]
    fn wrong_stories_say_what_is_wrong() {
        for (from, to, hint) in [
            ("fps = 12.5", "fps = 0.0", "fps is 0"),
            ("width = 1280", "width = 1281", "even"),
            ("\"sm-04\"]", "\"sm-99\"]", "sm-99"),
            ("seed =", "sead =", "sead"),
            ("plate = \"浙J7F249\"", "plate = \"浙J7F24\"", "浙J7F24"),
            ("enters_s = 14.0", "enters_s = 0.0", "suspect"),
            ("route = 1,", "route = 9,", "no route 9"),
            ("vehicles = 23", "vehicles = 1900", "roads are full"),
        ] {
            let text = DEMO.replacen(from, to, 1);
            let error = StorySpec::parse(&text).and_then(|s| s.plan()).unwrap_err().to_string();
            assert!(error.contains(hint), "{hint}: {error}");
        }
    }
}
