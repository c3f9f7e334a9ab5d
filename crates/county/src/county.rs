use std::collections::HashMap;

use guiji_domain::{Camera, InvalidValue, Timestamp};

use crate::cameras::{self, Cameras, Outage, SITES, SITES_POSSIBLE};
use crate::convoy::{self, CloneTruth, ConvoyTruth};
use crate::passages::{MISSED, Passages};
use crate::plan::{Planner, Trip, World};
use crate::reader::Reader;
use crate::roads::{NodeId, Roads};
use crate::vehicles::{self, SimulatedVehicle, VehicleId};

/// Which county, and how much of its life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CountySettings {
    /// The same seed gives the same county.
    pub seed: u64,
    /// How many sightings there are, 1 to 10^9.
    pub sightings: u64,
    /// Over how many days, 1 to 366: so many vehicles drive so much that they fill them.
    pub days: u32,
    /// Share of the read plates that are misread, 0 to 0.5.
    pub error_rate: f64,
    /// Local midnight of the first day; the county's clocks are 8 hours ahead of UTC.
    pub start: Timestamp,
}

/// Most sightings a day: more than this many vehicles do not fit on the roads.
const SIGHTINGS_A_DAY_MAX: u64 = 18_000_000;
/// Sightings of a vehicle a day, as far as their number is free to choose.
const SIGHTINGS_A_VEHICLE: u64 = 10;
const VEHICLES: std::ops::RangeInclusive<u64> = 1_500..=300_000;
/// Vehicles whose day is tried out to learn how many sightings a trip gives.
const SAMPLE: usize = 30_000;
/// Sightings planned for each one wanted, so that they do not end long after the last day.
const MARGIN: f64 = 1.03;
/// Least activity of a planted clone, trips a day, so that there is something to find.
const CLONE_TRIPS_A_DAY: f64 = 3.0;

/// A county: roads, cameras, vehicles and what is planted among them.
#[derive(Debug)]
pub struct County {
    settings: CountySettings,
    roads: Roads,
    pub(crate) cameras: Cameras,
    vehicles: Vec<SimulatedVehicle>,
    convoys: Vec<ConvoyTruth>,
    clones: Vec<CloneTruth>,
    pub(crate) reader: Reader,
}

impl County {
    /// Builds the county; takes some seconds for the largest.
    ///
    /// # Errors
    /// When a setting is out of its range, or the sightings do not fit into the days.
    pub fn new(settings: CountySettings) -> Result<Self, InvalidValue> {
        Self::with_sites(settings, SITES)
    }

    /// The same with cameras at fewer sites: the same roads, on which a vehicle is seen less often.
    ///
    /// # Errors
    /// As [`Self::new`], and when there are fewer than 20 sites or more than [`SITES`].
    pub fn with_sites(settings: CountySettings, sites: usize) -> Result<Self, InvalidValue> {
        check(&settings)?;
        if !SITES_POSSIBLE.contains(&sites) {
            let fix = format!("use {} to {SITES}", SITES_POSSIBLE.start());
            return Err(InvalidValue::new("sites", sites, fix));
        }
        let CountySettings { seed, sightings, days, .. } = settings;
        let wanted_a_day = sightings as f64 / f64::from(days);
        let a_vehicle = (SIGHTINGS_A_VEHICLE * sites as u64).div_ceil(SITES as u64);
        let count =
            (sightings / u64::from(days) / a_vehicle).clamp(*VEHICLES.start(), *VEHICLES.end());
        let roads = Roads::new(seed);
        // At most 300,000.
        let mut vehicles = vehicles::vehicles(seed, &roads, count as u32);
        let (convoys, clones) = convoy::plant(seed, &roads, &mut vehicles);
        let set_activity = |vehicles: &mut [SimulatedVehicle], trips_a_day: f64| {
            vehicles::set_activity(seed, vehicles, trips_a_day);
            for id in clones.iter().flat_map(|clone| [clone.original, clone.clone]) {
                let vehicle = &mut vehicles[id as usize];
                vehicle.trips_a_day = vehicle.trips_a_day.max(CLONE_TRIPS_A_DAY);
            }
        };
        let mut trips_a_day = 2.0 * count as f64;
        set_activity(&mut vehicles, trips_a_day);

        let weekday = weekday(settings.start);
        let trial = |vehicles: &[SimulatedVehicle]| -> Vec<Trip> {
            let vehicles = &vehicles[..vehicles.len().min(SAMPLE)];
            // Without convoys, which are few and may lie outside the sample.
            Planner::new(World { seed, roads: &roads, vehicles, convoys: &[], weekday }).day(0)
        };
        let mut passes: HashMap<(NodeId, NodeId), u32> = HashMap::new();
        for pass in trial(&vehicles).iter().flat_map(|trip| trip.passes(&roads)) {
            *passes.entry((pass.node, pass.from)).or_default() += 1;
        }
        let cameras = Cameras::new(seed, &roads, &passes, sites);

        for _ in 0..3 {
            let trips = trial(&vehicles);
            let watched = trips
                .iter()
                .flat_map(|trip| trip.passes(&roads))
                .filter(|pass| !cameras.of_approach(pass.node, pass.from).is_empty())
                .count();
            let share = count as f64 / vehicles.len().min(SAMPLE) as f64;
            let seen_a_day = watched as f64 * share * (1.0 - MISSED);
            trips_a_day *= MARGIN * wanted_a_day / seen_a_day.max(1.0);
            set_activity(&mut vehicles, trips_a_day);
        }
        Ok(Self { settings, roads, cameras, vehicles, convoys, clones, reader: Reader::new() })
    }

    /// What it was made from.
    pub fn settings(&self) -> &CountySettings {
        &self.settings
    }

    /// The roads.
    pub fn roads(&self) -> &Roads {
        &self.roads
    }

    /// The cameras as they are to be registered: disabled, since no stream is behind them.
    pub fn cameras(&self) -> &[Camera] {
        &self.cameras.registrations
    }

    /// The junction that a camera watches: a place in [`Self::cameras`].
    pub fn junction(&self, camera: usize) -> NodeId {
        self.cameras.devices[camera].node
    }

    /// The vehicles; a [`VehicleId`] is a place in it.
    pub fn vehicles(&self) -> &[SimulatedVehicle] {
        &self.vehicles
    }

    /// A vehicle.
    pub fn vehicle(&self, id: VehicleId) -> &SimulatedVehicle {
        &self.vehicles[id as usize]
    }

    /// The convoys; [`crate::Truth::convoy`] is a place in it.
    pub fn convoys(&self) -> &[ConvoyTruth] {
        &self.convoys
    }

    /// The cloned plates.
    pub fn clones(&self) -> &[CloneTruth] {
        &self.clones
    }

    /// Whether and when a camera fails on a day, by true time.
    pub fn outage(&self, camera: usize, day: u32) -> Option<Outage> {
        cameras::outage(self.settings.seed, camera, day, self.midnight(day))
    }

    /// When a day begins.
    pub fn midnight(&self, day: u32) -> Timestamp {
        self.settings.start.plus(std::time::Duration::from_secs(u64::from(day) * 86_400))
    }

    /// The passages from the beginning, in the order of their capture times; as many as the settings say.
    pub fn passages(&self) -> Passages<'_> {
        Passages::new(self)
    }

    pub(crate) fn planner(&self) -> Planner<'_> {
        Planner::new(World {
            seed: self.settings.seed,
            roads: &self.roads,
            vehicles: &self.vehicles,
            convoys: &self.convoys,
            weekday: weekday(self.settings.start),
        })
    }
}

fn check(settings: &CountySettings) -> Result<(), InvalidValue> {
    let CountySettings { sightings, days, error_rate, .. } = *settings;
    if !(1..=1_000_000_000).contains(&sightings) {
        return Err(InvalidValue::new("sightings", sightings, "use 1 to 1000000000"));
    }
    if !(1..=366).contains(&days) {
        return Err(InvalidValue::new("days", days, "use 1 to 366"));
    }
    if !(0.0..=0.5).contains(&error_rate) {
        return Err(InvalidValue::new("error rate", error_rate, "use a share of 0 to 0.5"));
    }
    if sightings / u64::from(days) > SIGHTINGS_A_DAY_MAX {
        let least = sightings.div_ceil(SIGHTINGS_A_DAY_MAX);
        let fix = format!(
            "give at least {least} days: a day has at most {SIGHTINGS_A_DAY_MAX} sightings"
        );
        return Err(InvalidValue::new("days", days, fix));
    }
    Ok(())
}

/// 0 for Monday. The first day of the epoch was a Thursday; local midnight is 8 hours before that of UTC.
fn weekday(start: Timestamp) -> u32 {
    let local = start.plus(std::time::Duration::from_secs(8 * 3600));
    (local.utc_day() + 3).rem_euclid(7) as u32
}
