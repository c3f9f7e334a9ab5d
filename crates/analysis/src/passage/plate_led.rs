//! Vehicles that only their plate gives away.
//!
//! A detector overlooks vehicles: seen from an odd side, cut by the frame, dark ones at night. Where the view changes
//! and no vehicle is found, the whole frame is searched for plates now and then, and a plate that reads well stands
//! for a vehicle around it.

use std::time::Duration;

use guiji_domain::{BBox, Detection, PlateRead, Point, Timestamp};

use super::PassageSettings;
use super::passing::region;
use crate::fusion::PlateFusion;

/// Between two searches of whole frames of a camera: a search costs several times a look at one vehicle, and a
/// vehicle stays readable for more than a second.
const SEARCH_EVERY: Duration = Duration::from_millis(400);
/// A text of this confidence is no lettering on a wall.
const CONFIDENCE_MIN: f32 = 0.8;
/// A car around its plate, in plate widths (440 mm): 1.8 m wide, from 1.2 m above the plate to 0.5 m below.
const WIDTH: f32 = 4.1;
const ABOVE: f32 = 2.7;
const BELOW: f32 = 1.1;

/// So long no vehicle must be found where something has changed: what comes is small at first, and is found soon.
const UNEXPLAINED: Duration = Duration::from_millis(300);
/// So long after a vehicle was found, a change is taken for what is left of it.
const EXPLAINED: Duration = Duration::from_secs(1);
/// A change so long after the one before it is another.
const APART: Duration = Duration::from_secs(5);

/// When a camera's whole frame is searched for plates, and what comes of it.
#[derive(Debug, Clone, Default)]
pub struct PlateSearch {
    searched: Option<Timestamp>,
    /// The last frame that it was asked about, and the last of these with a readable vehicle.
    asked: Option<Timestamp>,
    explained: Option<Timestamp>,
    /// The first of the frames without, one after the other.
    unexplained: Option<Timestamp>,
}

impl PlateSearch {
    /// Whether to search a frame: something has been changing for a while, no vehicle large enough to be read was found, and
    /// the last search was a while ago. Ask only for frames in which something has changed: one that was looked at for
    /// another reason is not worth it.
    pub fn is_due(
        &mut self,
        now: Timestamp,
        detections: &[Detection],
        settings: &PassageSettings,
    ) -> bool {
        // A clock set back begins anew.
        if self.asked.is_some_and(|last| now < last) {
            *self = Self::default();
        }
        let within = |at: Option<Timestamp>, time| at.is_some_and(|at| now.since(at) < time);
        if !within(self.asked.replace(now), APART) {
            self.unexplained = None;
        }
        if detections.iter().any(|it| it.bbox.width() >= settings.read_vehicle_width_min_px) {
            (self.explained, self.unexplained) = (Some(now), None);
            return false;
        }
        let since = *self.unexplained.get_or_insert(now);
        let due = now.since(since) >= UNEXPLAINED
            && !within(self.explained, EXPLAINED)
            && !within(self.searched, SEARCH_EVERY);
        if due {
            self.searched = Some(now);
        }
        due
    }
}

/// The vehicles around the plates that were read in a whole frame of `frame_size` pixels: plates that read well and
/// that lie in none of the vehicles found already.
pub fn vehicles_around(
    reads: &[PlateRead],
    found: &[Detection],
    frame_size: (u32, u32),
    settings: &PassageSettings,
) -> Vec<Detection> {
    let around = |read: &PlateRead| {
        let plate = read.corners.bbox()?;
        if found.iter().any(|vehicle| plate.covered_by(&vehicle.bbox) > 0.5) {
            return None;
        }
        let mut fusion = PlateFusion::new(settings.fusion.clone());
        fusion.add(read);
        fusion.plate().filter(|plate| plate.confidence >= CONFIDENCE_MIN)?;
        let (Point { x, y }, w) = (plate.centre(), plate.width());
        let vehicle =
            BBox::new(x - w * WIDTH / 2.0, y - w * ABOVE, x + w * WIDTH / 2.0, y + w * BELOW)?;
        let bbox = region(&vehicle, 0.0, frame_size)?;
        Some(Detection { bbox, class: None, score: read.detector_score })
    };
    reads.iter().filter_map(around).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::{Lattice, PlateColour, PlateRows, PlateText, Quad, VehicleClass};

    fn at(x: f32, y: f32, w: f32, h: f32) -> BBox {
        BBox::new(x, y, x + w, y + h).unwrap()
    }

    fn read(bbox: BBox, lattice: Lattice) -> PlateRead {
        PlateRead {
            lattice,
            rows: (PlateRows::One, 0.95),
            colour: Some((PlateColour::Blue, 0.95)),
            corners: Quad::from_bbox(&bbox),
            detector_score: 0.9,
            sharpness: 0.7,
        }
    }

    fn certain(text: &str) -> Lattice {
        Lattice::certain(&PlateText::parse(text).unwrap())
    }

    #[test]
    fn a_plate_that_reads_well_stands_for_a_vehicle() {
        let settings = PassageSettings::default();
        let plates = [read(at(300.0, 400.0, 100.0, 32.0), certain("浙J12345"))];
        let [vehicle] = vehicles_around(&plates, &[], (1280, 720), &settings)[..] else { panic!() };
        assert_eq!((vehicle.class, vehicle.score), (None, 0.9));
        assert!(at(300.0, 400.0, 100.0, 32.0).covered_by(&vehicle.bbox) > 0.99);
        assert!(vehicle.bbox.width() >= settings.read_vehicle_width_min_px);
        // At the edge it is cut, not moved.
        let plates = [read(at(10.0, 680.0, 100.0, 32.0), certain("浙J12345"))];
        let [vehicle] = vehicles_around(&plates, &[], (1280, 720), &settings)[..] else { panic!() };
        assert_eq!((vehicle.bbox.x1(), vehicle.bbox.y2()), (0.0, 720.0));
    }

    #[test]
    fn lettering_and_plates_of_known_vehicles_do_not() {
        let settings = PassageSettings::default();
        let inside = at(300.0, 400.0, 100.0, 32.0);
        let known = [Detection {
            bbox: at(200.0, 100.0, 400.0, 400.0),
            class: Some(VehicleClass::Car),
            score: 0.3,
        }];
        let plates = [read(inside, certain("浙J12345"))];
        assert_eq!(vehicles_around(&plates, &known, (1280, 720), &settings), []);
        let lettering = [read(inside, certain("1234567"))];
        assert_eq!(vehicles_around(&lettering, &[], (1280, 720), &settings), []);
    }

    #[test]
    fn whole_frames_are_searched_now_and_then() {
        let settings = PassageSettings::default();
        let mut search = PlateSearch::default();
        let second = |s: f64| Timestamp::EPOCH.plus(Duration::from_secs_f64(s));
        let small = [Detection { bbox: at(0.0, 0.0, 40.0, 30.0), class: None, score: 0.9 }];
        let large = [Detection { bbox: at(0.0, 0.0, 140.0, 90.0), class: None, score: 0.9 }];
        let mut due = |at, detections: &[_]| search.is_due(second(at), detections, &settings);
        // What comes is small at first.
        assert!(!due(10.0, &small) && !due(10.2, &small));
        assert!(due(10.3, &small) && !due(10.6, &[]) && due(10.7, &[]));
        // A vehicle, and what is left of it.
        assert!(!due(10.8, &large) && !due(11.0, &small) && !due(11.7, &small));
        assert!(due(11.9, &small));
        // Another change, and pictures two seconds apart.
        assert!(!due(30.0, &[]) && due(32.0, &[]));
        // The clock was set back.
        assert!(!due(3.0, &[]) && due(3.3, &[]));
    }
}
