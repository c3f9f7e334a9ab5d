//! What is planted, to be found again: vehicles that drive together, and plates that two vehicles bear.

use guiji_domain::PlateText;
use rand::RngExt as _;

use crate::random::{Part, Random, mixed, random};
use crate::roads::{NodeId, Roads};
use crate::vehicles::{Habit, SimulatedVehicle, Towns, VehicleId};

/// Vehicles that meet and drive together, on some days: there and, half an hour later, back.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvoyTruth {
    /// In the order of driving.
    pub vehicles: Vec<VehicleId>,
    /// Where they meet.
    pub from: NodeId,
    /// Where they go.
    pub to: NodeId,
    /// When the first sets out, seconds after local midnight.
    pub departs_s: f64,
    /// From one vehicle to the next, seconds.
    pub gap_s: f64,
    pub(crate) key: u64,
}

impl ConvoyTruth {
    /// Whether they plan to drive on a day. A member that is on the road elsewhere stays away.
    pub fn drives_on(&self, day: u32) -> bool {
        day == 0 || self.drive_seed(day).is_multiple_of(3)
    }

    /// What the drives of a day have in common, so that all keep the same pace.
    pub(crate) fn drive_seed(&self, day: u32) -> u64 {
        mixed(self.key ^ u64::from(day))
    }
}

/// A plate that two vehicles bear.
#[derive(Debug, Clone, PartialEq)]
pub struct CloneTruth {
    /// The plate.
    pub plate: PlateText,
    /// Whose it is.
    pub original: VehicleId,
    /// Who bears it too.
    pub clone: VehicleId,
}

/// Plants clones and convoys among the vehicles, none of them in two plantings.
pub(crate) fn plant(
    seed: u64,
    roads: &Roads,
    vehicles: &mut [SimulatedVehicle],
) -> (Vec<ConvoyTruth>, Vec<CloneTruth>) {
    let mut rng = random(seed, Part::Planted, 0);
    let ordinary = |v: &SimulatedVehicle| matches!(v.habit, Habit::Commuter | Habit::Errands);
    let mut free: Vec<VehicleId> = (0..)
        .zip(vehicles.iter())
        .filter(|(_, vehicle)| ordinary(vehicle))
        .map(|(id, _)| id)
        .collect();
    let mut take = |rng: &mut Random| free.swap_remove(rng.random_range(0..free.len()));

    let towns = Towns::new(roads);
    let convoys = (0..(vehicles.len() / 3000).max(3))
        .map(|_| {
            let members = rng.random_range(2..=4);
            // Far apart, so that there is something to be seen together at.
            let ends = (0..12).map(|_| (towns.anywhere(&mut rng), towns.anywhere(&mut rng)));
            let apart = |(a, b): &(NodeId, NodeId)| roads.least_seconds(*a, *b);
            let (from, to) = ends.max_by(|a, b| apart(a).total_cmp(&apart(b))).unwrap_or_default();
            ConvoyTruth {
                vehicles: (0..members).map(|_| take(&mut rng)).collect(),
                from,
                to,
                departs_s: 3600.0 * rng.random_range(9.0..19.0),
                gap_s: rng.random_range(4.0..25.0),
                key: rng.random(),
            }
        })
        .collect();

    let clones = (0..(vehicles.len() / 4000).max(3))
        .map(|_| {
            let (original, clone) = (take(&mut rng), take(&mut rng));
            let model = &vehicles[original as usize];
            let (plate, kind, class) = (model.plate.clone(), model.kind, model.class);
            let copy = &mut vehicles[clone as usize];
            // Its colour is its own: two in three differ.
            (copy.plate, copy.kind, copy.class) = (plate.clone(), kind, class);
            CloneTruth { plate, original, clone }
        })
        .collect();
    (convoys, clones)
}
