//! The way of one photo through the product: plates, a text under the grammar. A still photo is searched as a whole,
//! as the engine searches a frame in which no vehicle was found; or, as the engine does with a camera's frames,
//! vehicle by vehicle.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use guiji_analysis::fusion::PlateFusion;
use guiji_analysis::passage::PassageSettings;
use guiji_domain::{
    BBox, CameraId, CaptureTime, ClockSource, Detector, Frame, FusedPlate, OwnedPicture, PlateRead,
    PlateReader, SharedPicture, Stream, Timestamp, View,
};
use rustix::time::{ClockId, clock_gettime};

/// Two plates that overlap this much are one, seen twice.
const SAME_PLATE_IOU: f32 = 0.4;

/// Where plates are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// In the whole photo.
    Whole,
    /// In the vehicles that are found, and when none contains a plate, in the whole photo.
    Vehicles,
}

/// The parts that a photo passes, with the engine's settings.
pub(super) struct Route<'p> {
    pub(super) detector: &'p dyn Detector,
    pub(super) reader: &'p dyn PlateReader,
    pub(super) settings: PassageSettings,
    pub(super) way: Way,
}

/// A plate as the product sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// Around the corners, pixels.
    pub(super) bbox: BBox,
    /// What the models say.
    pub(super) read: PlateRead,
    /// What the product says; `None`: unreadable.
    pub(super) plate: Option<FusedPlate>,
}

/// What came of a photo.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// Vehicles detected, small ones included.
    pub(super) vehicles: Vec<BBox>,
    /// Whether no vehicle contained a plate, so that the whole photo was searched.
    pub(super) searched_whole: bool,
    /// Plates, the most conspicuous first: by detector score times width, which uses no label.
    pub(super) found: Vec<Found>,
    /// What it cost.
    pub(super) cost: Cost,
}

/// Processor time of this process, all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cost {
    /// Vehicle detection, scaling included.
    pub(super) detect: Duration,
    /// Plate detection and reading.
    pub(super) read: Duration,
    /// Decoding under the grammar.
    pub(super) decode: Duration,
}

impl Cost {
    /// From decoded pixels to the answer.
    pub(super) fn total(&self) -> Duration {
        self.detect + self.read + self.decode
    }
}

impl Route<'_> {
    /// Takes a photo the whole way.
    ///
    /// # Errors
    /// When a model cannot be run.
    pub(super) fn take(&self, picture: OwnedPicture) -> Result<Seen> {
        let picture: SharedPicture = Arc::new(picture);
        let mut cost = Cost::default();
        let vehicles = match self.way {
            Way::Whole => Vec::new(),
            Way::Vehicles => timed(&mut cost.detect, || self.vehicles(&picture))?,
        };
        let (reads, searched_whole) = timed(&mut cost.read, || self.reads(&picture, &vehicles))?;
        let found = timed(&mut cost.decode, || self.decode(reads));
        Ok(Seen { vehicles, searched_whole, found, cost })
    }

    /// Looks into one vehicle of a frame, wherever that was seen.
    ///
    /// # Errors
    /// When a model cannot be run.
    pub(super) fn look_into(&self, picture: &SharedPicture, vehicle: BBox) -> Result<Seen> {
        let mut cost = Cost::default();
        let reads = timed(&mut cost.read, || self.reads_in(picture, &[vehicle]))?;
        let found = timed(&mut cost.decode, || self.decode(reads));
        Ok(Seen { vehicles: vec![vehicle], searched_whole: false, found, cost })
    }

    fn vehicles(&self, picture: &SharedPicture) -> Result<Vec<BBox>> {
        // The detector scales what it is handed into its input, in the photo's proportions.
        let frame = Frame {
            camera: CameraId::new("photo")?,
            captured: CaptureTime {
                at: Timestamp::EPOCH,
                uncertainty: Duration::ZERO,
                source: ClockSource::Stated,
            },
            stream: Stream::Main,
            pts: Duration::ZERO,
            full: picture.clone(),
            small: picture.clone(),
            view: View::Unknown,
        };
        let found = self.detector.detect(&[&frame])?;
        Ok(found.into_iter().flatten().map(|detection| detection.bbox).collect())
    }

    /// The plates in the vehicles, or, when none contains one, in the whole photo.
    fn reads(&self, picture: &SharedPicture, vehicles: &[BBox]) -> Result<(Vec<PlateRead>, bool)> {
        let large = vehicles.iter().copied();
        let large: Vec<_> =
            large.filter(|v| v.width() >= self.settings.read_vehicle_width_min_px).collect();
        let reads = self.reads_in(picture, &large)?;
        if !reads.is_empty() {
            return Ok((reads, false));
        }
        let whole = BBox::new(0.0, 0.0, picture.width() as f32, picture.height() as f32);
        let requests: Vec<_> = whole.map(|whole| (picture.clone(), whole)).into_iter().collect();
        Ok((self.reader.read(&requests)?.into_iter().flatten().collect(), true))
    }

    fn reads_in(&self, picture: &SharedPicture, vehicles: &[BBox]) -> Result<Vec<PlateRead>> {
        let size = (picture.width(), picture.height());
        let margin = self.settings.region_margin;
        let regions = vehicles.iter().filter_map(|v| v.padded(margin).clipped(size.0, size.1));
        let requests: Vec<_> = regions.map(|region| (picture.clone(), region)).collect();
        Ok(self.reader.read(&requests)?.into_iter().flatten().collect())
    }

    /// One found plate for each plate: neighbouring vehicles show the same one.
    fn decode(&self, mut reads: Vec<PlateRead>) -> Vec<Found> {
        reads.sort_by(|a, b| conspicuity(b).total_cmp(&conspicuity(a)));
        let mut found: Vec<Found> = Vec::with_capacity(reads.len());
        for read in reads {
            let Some(bbox) = read.corners.bbox() else { continue };
            if found.iter().any(|kept| kept.bbox.iou(&bbox) >= SAME_PLATE_IOU) {
                continue;
            }
            let mut fusion = PlateFusion::new(self.settings.fusion.clone());
            fusion.add(&read);
            found.push(Found { bbox, plate: fusion.plate(), read });
        }
        found
    }
}

fn conspicuity(read: &PlateRead) -> f32 {
    read.detector_score * read.corners.width()
}

fn timed<T>(spent: &mut Duration, work: impl FnOnce() -> T) -> T {
    let begun = process_cpu();
    let value = work();
    *spent += process_cpu().saturating_sub(begun);
    value
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use guiji_domain::{
        Detection, Lattice, Picture, PlateColour, PlateRows, PlateText, Quad, VehicleClass,
        VehicleColour, VisionError,
    };

    use super::*;

    struct Vehicles(Vec<BBox>);

    impl Detector for Vehicles {
        fn input_size(&self) -> (u32, u32) {
            (64, 36)
        }
        fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
            let of =
                |bbox: &BBox| Detection { bbox: *bbox, class: Some(VehicleClass::Car), score: 0.9 };
            Ok(frames.iter().map(|_| self.0.iter().map(of).collect()).collect())
        }
        fn body_colour(&self, _: &dyn Picture, _: &BBox) -> Option<(VehicleColour, f32)> {
            None
        }
    }

    /// Sees plates that lie inside a region; remembers the regions.
    struct Plates {
        plates: Vec<(BBox, &'static str, f32)>,
        asked: Mutex<Vec<BBox>>,
    }

    impl PlateReader for Plates {
        fn read(
            &self,
            requests: &[(SharedPicture, BBox)],
        ) -> Result<Vec<Vec<PlateRead>>, VisionError> {
            let read = |(_, region): &(SharedPicture, BBox)| {
                self.asked.lock().unwrap().push(*region);
                let inside = self.plates.iter().filter(|(b, ..)| b.covered_by(region) > 0.9);
                inside
                    .map(|(bbox, text, score)| PlateRead {
                        lattice: Lattice::certain(&PlateText::parse(text).unwrap()),
                        rows: (PlateRows::One, 0.99),
                        colour: Some((PlateColour::Blue, 0.99)),
                        corners: Quad::from_bbox(bbox),
                        detector_score: *score,
                        sharpness: 0.8,
                    })
                    .collect()
            };
            Ok(requests.iter().map(read).collect())
        }
    }

    fn at(x: f32, y: f32, w: f32, h: f32) -> BBox {
        BBox::new(x, y, x + w, y + h).unwrap()
    }

    fn take_by_vehicles(
        vehicles: Vec<BBox>,
        plates: Vec<(BBox, &'static str, f32)>,
    ) -> (Seen, Vec<BBox>) {
        let (detector, reader) = (Vehicles(vehicles), Plates { plates, asked: Mutex::default() });
        let settings = PassageSettings::default();
        let picture = OwnedPicture::rgb(640, 480, vec![0; 640 * 480 * 3]).unwrap();
        let way = Way::Vehicles;
        let route = Route { detector: &detector, reader: &reader, settings, way };
        let seen = route.take(picture).unwrap();
        (seen, reader.asked.into_inner().unwrap())
    }

    fn texts(seen: &Seen) -> Vec<&str> {
        seen.found.iter().map(|f| f.plate.as_ref().unwrap().text.as_str()).collect()
    }

    #[test]
    fn plates_are_looked_for_in_vehicles_with_a_margin() {
        let (seen, asked) = take_by_vehicles(
            vec![at(100.0, 100.0, 200.0, 100.0)],
            vec![(at(150.0, 160.0, 100.0, 30.0), "浙J12345", 0.9)],
        );
        assert_eq!((texts(&seen), seen.searched_whole), (vec!["浙J12345"], false));
        assert_eq!(asked, [at(88.0, 94.0, 224.0, 112.0)]);
    }

    #[test]
    fn without_a_plate_in_a_vehicle_the_whole_photo_is_searched() {
        for vehicles in
            [vec![], vec![at(100.0, 100.0, 200.0, 100.0)], vec![at(5.0, 5.0, 90.0, 90.0)]]
        {
            let (seen, asked) =
                take_by_vehicles(vehicles, vec![(at(400.0, 300.0, 100.0, 30.0), "浙J12345", 0.9)]);
            assert_eq!((texts(&seen), seen.searched_whole), (vec!["浙J12345"], true));
            assert_eq!(asked.last(), Some(&at(0.0, 0.0, 640.0, 480.0)));
        }
    }

    #[test]
    fn a_plate_in_two_vehicles_is_one_and_the_conspicuous_come_first() {
        let (seen, _) = take_by_vehicles(
            vec![at(100.0, 100.0, 200.0, 120.0), at(90.0, 100.0, 500.0, 200.0)],
            vec![
                (at(150.0, 180.0, 60.0, 20.0), "浙J12345", 0.9),
                (at(350.0, 180.0, 100.0, 30.0), "皖A54321", 0.9),
            ],
        );
        assert_eq!(texts(&seen), ["皖A54321", "浙J12345"]);
    }

    #[test]
    fn time_is_counted() {
        let mut spent = Duration::ZERO;
        timed(&mut spent, || (0..2_000_000u64).fold(0, |a, b| std::hint::black_box(a ^ b)));
        assert!(spent > Duration::ZERO && spent < Duration::from_secs(5), "{spent:?}");
    }
}
