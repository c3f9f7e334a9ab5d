//! Which vehicle drives when from where to where.

use std::collections::HashMap;

use rand::RngExt as _;
use rand_distr::{Distribution as _, Normal, Poisson};

use crate::convoy::ConvoyTruth;
use crate::random::{Part, Random, Weighted, mixed, random};
use crate::roads::{NodeId, Place, Roads};
use crate::vehicles::{Habit, SimulatedVehicle, Towns, VehicleId};

pub(crate) const DAY_MS: u64 = 86_400_000;
/// Between two drives of a vehicle.
const STOP_MS: u64 = 120_000;

/// One drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trip {
    /// Since the county's beginning.
    pub(crate) start_ms: u64,
    pub(crate) vehicle: VehicleId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// Which convoy it is made in.
    pub(crate) convoy: Option<u16>,
    /// How it is driven.
    pub(crate) seed: u64,
}

/// A vehicle at a junction, on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) node: NodeId,
    /// The junction before.
    pub(crate) from: NodeId,
    pub(crate) at_ms: u64,
}

impl Trip {
    /// The junctions on the way, never earlier than the speed limits allow.
    pub(crate) fn passes<'a>(&self, roads: &'a Roads) -> impl Iterator<Item = Pass> + use<'a> {
        let mut rng = random(self.seed, Part::Trip, 0);
        let pace = rng.random_range(0.6..0.97);
        let mut at = self.start_ms as f64;
        roads.way(self.from, self.to).map(move |(from, hop)| {
            at += 1000.0 * hop.least_seconds() / (pace * rng.random_range(0.85..1.0));
            let pass = Pass { node: hop.to, from, at_ms: at as u64 + 1 };
            if roads.place(hop.to) == Place::Town && rng.random_bool(0.35) {
                at += rng.random_range(0.0..40_000.0); // a red light
            }
            pass
        })
    }

    fn ends_ms(&self, roads: &Roads) -> u64 {
        self.passes(roads).last().map_or(self.start_ms, |pass| pass.at_ms)
    }
}

/// The world that trips are made in.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) seed: u64,
    pub(crate) roads: &'a Roads,
    pub(crate) vehicles: &'a [SimulatedVehicle],
    pub(crate) convoys: &'a [ConvoyTruth],
    /// Day of the week of the first day, 0 for Monday.
    pub(crate) weekday: u32,
}

/// Plans day after day; knows where each vehicle stands and until when it is on the road.
pub(crate) struct Planner<'a> {
    world: World<'a>,
    towns: Towns,
    curves: HashMap<Habit, Weighted>,
    convoy_of: HashMap<VehicleId, u16>,
    stands: Vec<(NodeId, u64)>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(world: World<'a>) -> Self {
        use Habit::{Bus, Commuter, Errands, Lorry, Trade, Visitor};
        let members = (0..).zip(world.convoys);
        Self {
            towns: Towns::new(world.roads),
            curves: [Commuter, Errands, Trade, Lorry, Bus, Visitor]
                .map(|habit| (habit, Weighted::new(*habit.day_curve())))
                .into(),
            convoy_of: members
                .flat_map(|(number, convoy)| convoy.vehicles.iter().map(move |v| (*v, number)))
                .collect(),
            stands: world.vehicles.iter().map(|vehicle| (vehicle.home, 0)).collect(),
            world,
        }
    }

    /// The trips that begin on a day, in the order of their beginning. Days are planned in order.
    pub(crate) fn day(&mut self, day: u32) -> Vec<Trip> {
        let mut trips = Vec::new();
        for (vehicle, id) in self.world.vehicles.iter().zip(0..) {
            let convoy = self.convoy_of.get(&id).copied();
            match convoy.filter(|n| self.world.convoys[usize::from(*n)].drives_on(day)) {
                Some(convoy) => self.convoy_day(&mut trips, day, id, convoy),
                None => self.own_day(&mut trips, day, id, vehicle),
            }
        }
        trips.sort_unstable_by_key(|trip| (trip.start_ms, trip.vehicle));
        trips
    }

    fn own_day(
        &mut self,
        trips: &mut Vec<Trip>,
        day: u32,
        id: VehicleId,
        vehicle: &SimulatedVehicle,
    ) {
        let mut rng = random(self.world.seed, Part::Day, u64::from(day) << 32 | u64::from(id));
        let count = Poisson::new(vehicle.trips_a_day.max(1e-9))
            .map_or(0.0, |law: Poisson<f64>| law.sample(&mut rng)) as usize;
        if count == 0 {
            return;
        }
        let works = vehicle.habit == Habit::Commuter && (self.world.weekday + day) % 7 < 5;
        let at_home = self.stands[id as usize].0 == vehicle.home;
        for (i, second) in
            self.start_seconds(&mut rng, count, vehicle, works, at_home).into_iter().enumerate()
        {
            let to = self.destination(&mut rng, id, vehicle, works, i + 1 == count);
            let start_ms = u64::from(day) * DAY_MS + (second * 1000.0) as u64;
            // What would begin tomorrow is left out: tomorrow has its own plan.
            if start_ms.max(self.stands[id as usize].1 + STOP_MS) / DAY_MS == u64::from(day) {
                self.drive(trips, id, start_ms, to, None, rng.random());
            }
        }
    }

    /// Seconds after midnight, in order.
    fn start_seconds(
        &self,
        rng: &mut Random,
        count: usize,
        vehicle: &SimulatedVehicle,
        works: bool,
        at_home: bool,
    ) -> Vec<f64> {
        let curve = match vehicle.habit {
            Habit::Commuter if !works => &self.curves[&Habit::Errands],
            habit => &self.curves[&habit],
        };
        let about = |mean: f64, rng: &mut Random| {
            let law = Normal::new(mean, 720.0);
            law.map_or(mean, |law| law.sample(rng)).clamp(0.0, 86_399.0)
        };
        let mut seconds: Vec<f64> = (0..count)
            .map(|i| match i {
                0 if works && at_home => about(vehicle.leaves_s, rng),
                0 | 1 if works => about(vehicle.returns_s, rng),
                _ => (curve.pick(rng) as f64 + rng.random::<f64>()) * 3600.0,
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    }

    fn destination(
        &self,
        rng: &mut Random,
        id: VehicleId,
        vehicle: &SimulatedVehicle,
        works: bool,
        last: bool,
    ) -> NodeId {
        let at = self.stands[id as usize].0;
        match vehicle.habit {
            Habit::Commuter if works && at == vehicle.home => vehicle.work,
            Habit::Bus if at == vehicle.home => vehicle.work,
            Habit::Bus => vehicle.home,
            Habit::Lorry if rng.random_bool(0.4) => self.towns.gate(rng),
            Habit::Visitor if at == vehicle.home && rng.random_bool(0.5) => self.towns.gate(rng),
            _ if last => vehicle.home,
            // One of four places that it goes to again and again, or anywhere.
            _ if rng.random_bool(0.7) => {
                let favourite = mixed(u64::from(id) << 2 | rng.random_range(0..4));
                self.towns.anywhere(&mut random(self.world.seed, Part::Vehicles, favourite))
            }
            _ => self.towns.anywhere(rng),
        }
    }

    /// To the meeting place, there together, back together, home.
    fn convoy_day(&mut self, trips: &mut Vec<Trip>, day: u32, id: VehicleId, number: u16) {
        let convoy = &self.world.convoys[usize::from(number)];
        let place = convoy.vehicles.iter().position(|v| *v == id).unwrap_or_default();
        let midnight = u64::from(day) * DAY_MS;
        let behind = (place as f64 * convoy.gap_s * 1000.0) as u64;
        let departs = midnight + (convoy.departs_s * 1000.0) as u64;
        let seed = convoy.drive_seed(day);
        let mut rng = random(seed, Part::Day, u64::from(id));

        // A way takes at most about twice its least time, and a red light at every junction.
        let (at, free_ms) = self.stands[id as usize];
        let way_ms = |from, to| {
            let waits = self.world.roads.way(from, to).count() as u64 * 40_000;
            (self.world.roads.least_seconds(from, to) * 2_000.0) as u64 + waits
        };
        let sets_out = departs.saturating_sub(way_ms(at, convoy.from) + 600_000);
        if sets_out < free_ms + STOP_MS || sets_out < midnight {
            return; // on the road elsewhere: the others drive without it
        }
        self.drive(trips, id, sets_out, convoy.from, None, rng.random());
        let there = Trip {
            start_ms: departs,
            vehicle: id,
            from: convoy.from,
            to: convoy.to,
            convoy: Some(number),
            seed,
        };
        let back_ms = there.ends_ms(self.world.roads) + 1_800_000;
        self.drive(trips, id, departs + behind, convoy.to, Some(number), seed);
        self.drive(trips, id, back_ms + behind, convoy.from, Some(number), mixed(seed));
        let home = self.world.vehicles[id as usize].home;
        self.drive(trips, id, 0, home, None, rng.random());
    }

    /// Adds a trip from where the vehicle stands, once it stands there.
    fn drive(
        &mut self,
        trips: &mut Vec<Trip>,
        vehicle: VehicleId,
        start_ms: u64,
        to: NodeId,
        convoy: Option<u16>,
        seed: u64,
    ) {
        let (from, free_ms) = self.stands[vehicle as usize];
        if from == to {
            return;
        }
        let start_ms = start_ms.max(free_ms + STOP_MS);
        let trip = Trip { start_ms, vehicle, from, to, convoy, seed };
        self.stands[vehicle as usize] = (to, trip.ends_ms(self.world.roads));
        trips.push(trip);
    }
}
