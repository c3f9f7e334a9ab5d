use std::collections::HashSet;

use guiji_domain::{PlateKind, PlateText, VehicleClass, VehicleColour, grammar};
use rand::RngExt as _;
use rand_distr::Distribution as _;

use crate::random::{Part, Random, Weighted, random};
use crate::roads::{NodeId, Place, Roads};

/// A vehicle of the county: its place in [`crate::County::vehicles`].
pub type VehicleId = u32;

/// A vehicle and how it is used.
#[derive(Debug, Clone)]
pub struct SimulatedVehicle {
    /// What stands on its plate: another vehicle's text where it is a clone.
    pub plate: PlateText,
    /// The plate's kind.
    pub kind: PlateKind,
    /// What it is.
    pub class: VehicleClass,
    /// Body colour.
    pub colour: VehicleColour,
    /// Why it moves.
    pub habit: Habit,
    /// Where it stays at night. The gate that it comes in by, for visitors.
    pub home: NodeId,
    /// Where it goes most.
    pub work: NodeId,
    /// Mean trips a day: Zipf-distributed over the vehicles.
    pub trips_a_day: f64,
    /// Seconds after local midnight at which it usually sets out and returns.
    pub(crate) leaves_s: f64,
    pub(crate) returns_s: f64,
}

/// Why a vehicle moves, and so when and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Habit {
    /// To work in the morning and back in the evening.
    Commuter,
    /// By day, here and there.
    Errands,
    /// Taxis and deliveries: all day and half the night.
    Trade,
    /// Between the gates and the villages, much of it at night.
    Lorry,
    /// By day, between two ends.
    Bus,
    /// In by a gate, and out again.
    Visitor,
}

impl Habit {
    /// How likely a trip begins in each hour, local time.
    pub(crate) fn day_curve(self) -> &'static [f64; 24] {
        match self {
            Self::Commuter => &[
                0.3, 0.1, 0.1, 0.1, 0.2, 0.6, 2.0, 5.0, 4.0, 2.0, 2.0, 3.0, 3.0, 2.0, 2.0, 2.5,
                4.0, 6.0, 4.0, 3.0, 2.5, 2.0, 1.2, 0.6,
            ],
            Self::Errands => &[
                0.2, 0.1, 0.1, 0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 6.0, 5.0, 3.5, 2.5, 3.0, 5.0, 5.0,
                4.0, 3.5, 3.0, 3.0, 2.0, 1.0, 0.5, 0.3,
            ],
            Self::Trade => &[
                2.0, 1.5, 1.0, 0.8, 0.8, 1.2, 2.5, 4.0, 4.5, 4.5, 4.5, 4.5, 4.0, 4.0, 4.5, 4.5,
                4.5, 5.0, 5.0, 4.5, 4.5, 4.0, 3.5, 3.0,
            ],
            Self::Lorry => &[
                4.0, 4.0, 4.0, 4.0, 4.0, 3.0, 2.0, 1.0, 1.5, 2.5, 3.0, 3.0, 2.5, 3.0, 3.0, 2.5,
                1.5, 1.0, 1.5, 2.5, 3.5, 4.0, 4.0, 4.0,
            ],
            Self::Bus => &[
                0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 4.0, 5.0, 5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0,
                5.0, 5.0, 4.0, 2.0, 1.0, 0.5, 0.0, 0.0,
            ],
            Self::Visitor => &[
                0.5, 0.4, 0.3, 0.3, 0.4, 0.8, 1.5, 2.5, 3.5, 4.0, 4.0, 3.5, 3.0, 3.0, 3.5, 4.0,
                4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 0.8,
            ],
        }
    }
}

/// Exponent of the Zipf law of activity: the vehicle of rank *r* makes trips in proportion to *r* to the minus this.
pub(crate) const ZIPF_EXPONENT: f64 = 0.8;
/// No vehicle makes more trips a day on average: a taxi's day.
pub(crate) const TRIPS_A_DAY_MAX: f64 = 30.0;

/// Shares of the kinds of plates. All 18 are there in every county.
const KINDS: [(PlateKind, f64); 18] = [
    (PlateKind::Small, 0.640),
    (PlateKind::NewEnergySmall, 0.190),
    (PlateKind::Large, 0.050),
    (PlateKind::Motorcycle, 0.045),
    (PlateKind::Trailer, 0.020),
    (PlateKind::NewEnergyLarge, 0.010),
    (PlateKind::LowSpeed, 0.010),
    (PlateKind::Coach, 0.008),
    (PlateKind::Temporary, 0.008),
    (PlateKind::Tractor, 0.007),
    (PlateKind::Police, 0.005),
    (PlateKind::ArmedPolice, 0.002),
    (PlateKind::Military, 0.002),
    (PlateKind::Emergency, 0.001),
    (PlateKind::HongKongMacau, 0.001),
    (PlateKind::Embassy, 0.0004),
    (PlateKind::Consulate, 0.0004),
    (PlateKind::CivilAviation, 0.0002),
];

/// Makes the vehicles. Their activity sums to one trip a vehicle; see [`set_activity`].
pub(crate) fn vehicles(seed: u64, roads: &Roads, count: u32) -> Vec<SimulatedVehicle> {
    let mut random = random(seed, Part::Vehicles, 0);
    let towns = Towns::new(roads);
    let kinds = Weighted::new(KINDS.map(|(_, share)| share));
    let mut taken = HashSet::new();
    (0..count as usize)
        .map(|i| {
            // The first are one of each kind.
            let (kind, _) = KINDS[if i < KINDS.len() { i } else { kinds.pick(&mut random) }];
            let plate = loop {
                let plate = plate_of(kind, &mut random);
                if taken.insert(plate.clone()) {
                    break plate;
                }
            };
            let class = class_of(kind, &mut random);
            let habit = habit_of(kind, class, &plate, &mut random);
            let (home, work) = match habit {
                Habit::Visitor => (towns.gate(&mut random), towns.anywhere(&mut random)),
                Habit::Lorry => (towns.anywhere(&mut random), towns.gate(&mut random)),
                _ => (towns.anywhere(&mut random), towns.anywhere(&mut random)),
            };
            SimulatedVehicle {
                plate,
                kind,
                class,
                colour: colour_of(habit, &mut random),
                habit,
                home,
                work,
                trips_a_day: 0.0,
                leaves_s: 3600.0 * random.random_range(6.3..8.8),
                returns_s: 3600.0 * random.random_range(16.2..19.5),
            }
        })
        .collect()
}

/// Gives every vehicle its share of `trips_a_day` of all of them: Zipf's law over a random ranking, with the most
/// active held to [`TRIPS_A_DAY_MAX`].
pub(crate) fn set_activity(seed: u64, vehicles: &mut [SimulatedVehicle], trips_a_day: f64) {
    let weights: Vec<f64> = ranking(seed, vehicles.len())
        .into_iter()
        .map(|rank| ((rank + 1) as f64).powf(-ZIPF_EXPONENT))
        .collect();
    let total = |scale: f64| weights.iter().map(|w| (w * scale).min(TRIPS_A_DAY_MAX)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1e12);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if total(middle) < trips_a_day { low = middle } else { high = middle }
    }
    for (vehicle, weight) in vehicles.iter_mut().zip(weights) {
        vehicle.trips_a_day = (weight * high).min(TRIPS_A_DAY_MAX);
    }
}

/// A random rank for each vehicle (Fisher and Yates).
fn ranking(seed: u64, count: usize) -> Vec<usize> {
    let mut random = random(seed, Part::Vehicles, 1);
    let mut ranks: Vec<_> = (0..count).collect();
    for i in (1..count).rev() {
        ranks.swap(i, random.random_range(0..=i));
    }
    ranks
}

/// Junctions by how many people live and work there.
#[derive(Debug)]
pub(crate) struct Towns {
    nodes: Vec<NodeId>,
    weights: Weighted,
    gates: Vec<NodeId>,
}

impl Towns {
    pub(crate) fn new(roads: &Roads) -> Self {
        let nodes: Vec<_> = roads.nodes().collect();
        let weight = |node: &NodeId| match roads.place(*node) {
            Place::Town => 3.0,
            Place::Village => 1.5,
            Place::Road | Place::Gate => 0.1,
        };
        let gates = nodes.iter().copied().filter(|n| roads.place(*n) == Place::Gate).collect();
        Self { weights: Weighted::new(nodes.iter().map(weight)), nodes, gates }
    }

    pub(crate) fn anywhere(&self, random: &mut Random) -> NodeId {
        self.nodes[self.weights.pick(random)]
    }

    pub(crate) fn gate(&self, random: &mut Random) -> NodeId {
        self.gates[random.random_range(0..self.gates.len())]
    }
}

fn class_of(kind: PlateKind, random: &mut Random) -> VehicleClass {
    match kind {
        PlateKind::Motorcycle => VehicleClass::Motorcycle,
        PlateKind::Trailer | PlateKind::LowSpeed | PlateKind::Tractor => VehicleClass::Truck,
        PlateKind::Large if random.random_bool(0.25) => VehicleClass::Bus,
        PlateKind::Large => VehicleClass::Truck,
        PlateKind::NewEnergyLarge => VehicleClass::Bus,
        PlateKind::Small if random.random_bool(0.08) => VehicleClass::Truck,
        _ => VehicleClass::Car,
    }
}

fn habit_of(kind: PlateKind, class: VehicleClass, plate: &PlateText, random: &mut Random) -> Habit {
    let local = plate.as_str().starts_with("浙J");
    match (kind, class) {
        (PlateKind::Large | PlateKind::Trailer, VehicleClass::Truck) => Habit::Lorry,
        (_, VehicleClass::Bus) => Habit::Bus,
        (PlateKind::Small | PlateKind::NewEnergySmall, _) if !local => {
            if random.random_bool(0.6) {
                Habit::Visitor
            } else {
                Habit::Errands
            }
        }
        (PlateKind::Police | PlateKind::Emergency, _) => Habit::Trade,
        _ => match random.random_range(0..100) {
            0..66 => Habit::Commuter,
            66..90 => Habit::Errands,
            _ => Habit::Trade,
        },
    }
}

fn colour_of(habit: Habit, random: &mut Random) -> VehicleColour {
    use VehicleColour::{Black, Blue, Brown, Green, Grey, Red, Silver, White, Yellow};
    match (habit, random.random_range(0..100)) {
        (Habit::Bus, 0..50) => Green,
        (Habit::Lorry, 0..25) => Red,
        (Habit::Lorry, 25..45) => Blue,
        (_, 0..38) => White,
        (_, 38..56) => Black,
        (_, 56..69) => Grey,
        (_, 69..80) => Silver,
        (_, 80..87) => Red,
        (_, 87..93) => Blue,
        (_, 93..96) => Brown,
        (_, 96..98) => Yellow,
        _ => Green,
    }
}

/// A plate of the kind: mostly from here (浙J), else from the province, else from another.
fn plate_of(kind: PlateKind, random: &mut Random) -> PlateText {
    const OTHERS: &str = "沪苏皖闽赣豫鲁粤湘鄂京川津渝冀云辽黑桂甘晋蒙陕吉贵青藏宁琼新";
    const OFFICES: &str = "ABCDEFGHKL";
    let templates = grammar::templates(kind);
    let template = templates[random.random_range(0..templates.len())];
    let origin = random.random_range(0..100);
    // Ordinary plates have at most two letters in their serial, mostly none or one.
    let mut letters_left = [0, 0, 1, 1, 1, 2][random.random_range(0..6)];
    let mut text = String::with_capacity(16);
    let pick = |set: &str, random: &mut Random| {
        let n = set.chars().count();
        set.chars().nth(random.random_range(0..n)).unwrap_or('0')
    };
    for (place, slot) in template.iter().enumerate() {
        text.push(match slot {
            grammar::Slot::Province if origin < 90 => '浙',
            grammar::Slot::Province => pick(OTHERS, random),
            grammar::Slot::Office if origin < 78 => 'J',
            grammar::Slot::Office => pick(OFFICES, random),
            grammar::Slot::Serial if letters_left > 0 && random.random_bool(0.4) => {
                letters_left -= 1;
                pick("ABCDEFGHJKLMNPQRSTUVWXYZ", random)
            }
            grammar::Slot::Serial | grammar::Slot::Digit => pick("0123456789", random),
            // The energy letter and the like: the first listed are the commonest.
            grammar::Slot::OneOf(set) if place >= 2 => {
                let n = set.chars().count();
                let skewed = rand_distr::Beta::new(1.0, 3.0)
                    .map_or(0.0, |beta: rand_distr::Beta<f64>| beta.sample(random));
                set.chars().nth((skewed * n as f64) as usize).unwrap_or('0')
            }
            grammar::Slot::OneOf(set) => pick(set, random),
        });
    }
    PlateText::parse(&text).expect("templates make plates")
}
