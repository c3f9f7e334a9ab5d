use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use guiji_domain::{
    Direction, PlateState, PlateText, Sighting, SightingId, SightingStage, TimeSpan, Timestamp,
    TrackId, Vehicle, VehicleClass, VehicleColour, grammar,
};
use rand::RngExt as _;

use crate::cameras::CLOCK_ERROR_MAX;
use crate::county::County;
use crate::plan::{DAY_MS, Planner, Trip};
use crate::random::{Part, Random, mixed, random};
use crate::vehicles::VehicleId;

/// Share of the vehicles that a working camera does not notice.
pub(crate) const MISSED: f64 = 0.01;
/// Shares of the sightings whose plate could not be read, or was not even found.
const UNREADABLE: f64 = 0.01;
const NOT_READ: f64 = 0.005;
/// Hours of the night, local time, and how much oftener plates are misread then and by day: 1 on average.
const NIGHT: [u64; 10] = [19, 20, 21, 22, 23, 0, 1, 2, 3, 4];
const ERROR_BY_NIGHT: f64 = 1.3;
const ERROR_BY_DAY: f64 = 0.9;

/// A sighting and what is true of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    /// What the camera made of it.
    pub sighting: Sighting,
    /// What it was.
    pub truth: Truth,
}

/// What is true of a sighting.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Who passed.
    pub vehicle: VehicleId,
    /// What stands on its plate.
    pub plate: PlateText,
    /// When, by the true time.
    pub passed: Timestamp,
    /// Whether a plate was read, and not the true one.
    pub misread: bool,
    /// The convoy in which it drove just then: a place in [`County::convoys`].
    pub convoy: Option<u16>,
}

/// A passage before its sighting is made: what waits until nothing earlier can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    captured_ns: i64,
    camera: u16,
    vehicle: VehicleId,
    passed_ns: i64,
    convoy: Option<u16>,
}

/// The passages of a county, in the order of their capture times.
pub struct Passages<'a> {
    county: &'a County,
    planner: Planner<'a>,
    /// Trips of the day, latest first.
    trips: Vec<Trip>,
    next_day: u32,
    waiting: BinaryHeap<Reverse<Seen>>,
    left: u64,
}

impl<'a> Passages<'a> {
    pub(crate) fn new(county: &'a County) -> Self {
        Self {
            county,
            planner: county.planner(),
            trips: Vec::new(),
            next_day: 0,
            waiting: BinaryHeap::new(),
            left: county.settings().sightings,
        }
    }

    /// Nothing that is still to come is captured before this.
    fn horizon(&self) -> Timestamp {
        let begins_ms = match self.trips.last() {
            Some(trip) => trip.start_ms,
            None => u64::from(self.next_day) * DAY_MS,
        };
        self.county.settings().start.plus(Duration::from_millis(begins_ms)).minus(CLOCK_ERROR_MAX)
    }

    /// Drives the next trip, or plans the next day.
    fn advance(&mut self) {
        let Some(trip) = self.trips.pop() else {
            self.trips = self.planner.day(self.next_day);
            self.trips.reverse();
            self.next_day += 1;
            return;
        };
        let county = self.county;
        let mut rng = random(trip.seed, Part::Sighting, u64::from(trip.vehicle));
        for pass in trip.passes(county.roads()) {
            let lanes = county.cameras.of_approach(pass.node, pass.from);
            if lanes.is_empty() || rng.random_bool(MISSED) {
                continue;
            }
            let camera = lanes[rng.random_range(0..lanes.len())];
            let passed = county.settings().start.plus(Duration::from_millis(pass.at_ms));
            let day = u32::try_from(pass.at_ms / DAY_MS).unwrap_or(u32::MAX);
            let outage = county.outage(usize::from(camera), day);
            if outage.is_some_and(|outage| outage.span.contains(passed)) {
                continue;
            }
            let device = &county.cameras.devices[usize::from(camera)];
            self.waiting.push(Reverse(Seen {
                captured_ns: device.captured(passed).at.as_nanos(),
                camera,
                vehicle: trip.vehicle,
                passed_ns: passed.as_nanos(),
                convoy: trip.convoy,
            }));
        }
    }
}

impl Iterator for Passages<'_> {
    type Item = Passage;

    fn next(&mut self) -> Option<Passage> {
        if self.left == 0 {
            return None;
        }
        let mut horizon = self.horizon().as_nanos();
        while self.waiting.peek().is_none_or(|Reverse(seen)| seen.captured_ns >= horizon) {
            self.advance();
            horizon = self.horizon().as_nanos();
        }
        let Reverse(seen) = self.waiting.pop()?;
        self.left -= 1;
        Some(self.county.passage(&seen))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl County {
    /// The sighting that a camera makes of a passage: depends on nothing but the passage.
    fn passage(&self, seen: &Seen) -> Passage {
        let key =
            mixed(seen.passed_ns as u64) ^ u64::from(seen.vehicle) << 16 ^ u64::from(seen.camera);
        let mut rng = random(self.settings().seed, Part::Sighting, key);
        let vehicle = self.vehicle(seen.vehicle);
        let device = &self.cameras.devices[usize::from(seen.camera)];
        let passed = Timestamp::from_nanos(seen.passed_ns);
        let captured = device.captured(passed);

        let kind = rng.random::<f64>();
        let (plate, misread) = if kind < UNREADABLE {
            (PlateState::Unreadable, false)
        } else if kind < UNREADABLE + NOT_READ {
            (PlateState::NotRead, false)
        } else {
            // Of two layouts the second is that of the rear.
            let rows = grammar::rows(vehicle.kind);
            let behind = device.heading == guiji_domain::Heading::Receding;
            let rows = rows[if behind { rows.len() - 1 } else { 0 }];
            let rate = self.settings().error_rate * device.error_factor * self.light(passed);
            let read =
                self.reader.read(&mut rng, &vehicle.plate, vehicle.kind, rows, rate.min(0.95));
            (PlateState::Read(read.plate), read.misread)
        };
        let before = Duration::from_millis(rng.random_range(300..2500));
        let after = Duration::from_millis(rng.random_range(100..1500));
        let first = captured.at.minus(before);
        let camera = self.cameras()[usize::from(seen.camera)].id.clone();
        let sighting = Sighting {
            id: SightingId::for_track(&camera, TrackId(u64::from(seen.vehicle)), first),
            stage: SightingStage::Final,
            camera,
            span: TimeSpan::new(first, captured.at.plus(after)).unwrap_or(TimeSpan::at(first)),
            captured,
            plate,
            vehicle: looks(&mut rng, vehicle.class, vehicle.colour),
            direction: Some(Direction {
                heading: device.heading,
                course_deg: Some(device.course_deg),
            }),
            frames: ((before + after).as_millis() / 40) as u32,
            evidence: Vec::new(),
        };
        let truth = Truth {
            vehicle: seen.vehicle,
            plate: vehicle.plate.clone(),
            passed,
            misread,
            convoy: seen.convoy,
        };
        Passage { sighting, truth }
    }

    fn light(&self, at: Timestamp) -> f64 {
        let hour = at.since(self.settings().start).as_secs() / 3600 % 24;
        if NIGHT.contains(&hour) { ERROR_BY_NIGHT } else { ERROR_BY_DAY }
    }
}

/// The vehicle as the camera judges it: seldom of another class, sometimes of another colour.
fn looks(rng: &mut Random, class: VehicleClass, colour: VehicleColour) -> Vehicle {
    let class = if rng.random_bool(0.01) {
        VehicleClass::ALL[rng.random_range(0..VehicleClass::ALL.len())]
    } else {
        class
    };
    let colour = match rng.random_range(0..100) {
        0..6 => None,
        6..12 => Some(VehicleColour::ALL[rng.random_range(0..VehicleColour::ALL.len())]),
        _ => Some(colour),
    };
    Vehicle {
        class: Some((class, rng.random_range(0.7..1.0))),
        colour: colour.map(|colour| (colour, rng.random_range(0.5..1.0))),
    }
}
