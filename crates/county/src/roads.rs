use std::cmp::Reverse;
use std::collections::BinaryHeap;

use guiji_domain::GeoPoint;
use rand::RngExt as _;

use crate::random::{Part, Random, random};

/// A junction of the road network: its place in [`Roads`].
pub type NodeId = u16;

/// From a junction to its neighbour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hop {
    /// The neighbour.
    pub to: NodeId,
    /// Length of the road between them, metres; at least the straight line.
    pub length_m: f64,
    /// Speed limit, km/h.
    pub limit_kmh: f64,
}

impl Hop {
    /// Seconds at the speed limit.
    pub fn least_seconds(&self) -> f64 {
        self.length_m * 3.6 / self.limit_kmh
    }
}

/// What stands around a junction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Town,
    Village,
    /// Between places.
    Road,
    /// Where a road leaves the county.
    Gate,
}

/// The road network: a town on a grid, villages around it, roads that join them, an expressway across, and gates to
/// the world outside. Roads run both ways; every junction can be reached from every other.
#[derive(Debug)]
pub struct Roads {
    points: Vec<Point>,
    places: Vec<Place>,
    hops: Vec<Vec<Hop>>,
    /// By destination, then by junction: where to go next on the fastest way, and how long it takes at the limits.
    next: Vec<NodeId>,
    seconds: Vec<f32>,
}

/// Metres east and north of the middle of the county.
#[derive(Debug, Clone, Copy)]
struct Point {
    x: f64,
    y: f64,
}

impl Point {
    fn distance(self, other: Self) -> f64 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}

/// The middle: the seat of Sanmen county. Degrees.
const MIDDLE: (f64, f64) = (29.1, 121.4);
/// Metres a degree of latitude, on the sphere that `GeoPoint::distance_m` uses.
const METRES_A_DEGREE: f64 = 111_195.08;
/// Junctions on a side of the town.
const TOWN_SIDE: usize = 16;
const TOWN_SPACING_M: f64 = 350.0;
const VILLAGES: usize = 48;
const GATES: usize = 6;
/// From the middle to the gates.
const RADIUS_M: f64 = 28_000.0;
/// A junction at least this often along a road.
const ROAD_SPACING_M: f64 = 2_500.0;
/// How much longer a country road is than the straight line.
const WINDING: f64 = 1.15;

impl Roads {
    pub(crate) fn new(seed: u64) -> Self {
        let mut building = Building { roads: Self::empty(), random: random(seed, Part::Roads, 0) };
        building.town();
        building.country();
        building.expressway();
        building.join_strays();
        let mut roads = building.roads;
        roads.find_ways();
        roads
    }

    fn empty() -> Self {
        Self {
            points: Vec::new(),
            places: Vec::new(),
            hops: Vec::new(),
            next: Vec::new(),
            seconds: Vec::new(),
        }
    }

    /// How many junctions there are.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are none; there always are.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// All junctions.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..).take(self.points.len())
    }

    /// The roads from a junction.
    pub fn hops(&self, node: NodeId) -> &[Hop] {
        &self.hops[usize::from(node)]
    }

    /// Where a junction lies.
    pub fn position(&self, node: NodeId) -> GeoPoint {
        let point = self.points[usize::from(node)];
        let lat_deg = MIDDLE.0 + point.y / METRES_A_DEGREE;
        let lon_deg = MIDDLE.1 + point.x / (METRES_A_DEGREE * MIDDLE.0.to_radians().cos());
        GeoPoint::new(lat_deg, lon_deg).expect("the county lies far from poles and date line")
    }

    /// The compass bearing from one junction to another, degrees, 0 to 360.
    pub(crate) fn bearing_deg(&self, from: NodeId, to: NodeId) -> f64 {
        let (a, b) = (self.points[usize::from(from)], self.points[usize::from(to)]);
        (b.x - a.x).atan2(b.y - a.y).to_degrees().rem_euclid(360.0)
    }

    pub(crate) fn place(&self, node: NodeId) -> Place {
        self.places[usize::from(node)]
    }

    /// The shortest time from one junction to another, at the speed limits all the way. Seconds.
    pub fn least_seconds(&self, from: NodeId, to: NodeId) -> f64 {
        f64::from(self.seconds[usize::from(to) * self.len() + usize::from(from)])
    }

    /// The fastest way from one junction to another: the hops, each with where it begins.
    pub fn way(&self, from: NodeId, to: NodeId) -> impl Iterator<Item = (NodeId, Hop)> + '_ {
        let mut at = from;
        std::iter::from_fn(move || {
            if at == to {
                return None;
            }
            let next = self.next[usize::from(to) * self.len() + usize::from(at)];
            let hop = self.hops(at).iter().find(|hop| hop.to == next)?;
            Some((std::mem::replace(&mut at, next), *hop))
        })
    }

    fn add(&mut self, point: Point, place: Place) -> NodeId {
        self.points.push(point);
        self.places.push(place);
        self.hops.push(Vec::new());
        NodeId::try_from(self.points.len() - 1).expect("some hundreds of junctions")
    }

    fn join(&mut self, a: NodeId, b: NodeId, winding: f64, limit_kmh: f64) {
        if a == b || self.hops(a).iter().any(|hop| hop.to == b) {
            return;
        }
        let straight = self.points[usize::from(a)].distance(self.points[usize::from(b)]);
        // A little more than the straight line, whatever the rounding of degrees.
        let length_m = straight * winding.max(1.001) + 1.0;
        self.hops[usize::from(a)].push(Hop { to: b, length_m, limit_kmh });
        self.hops[usize::from(b)].push(Hop { to: a, length_m, limit_kmh });
    }

    fn nearest(&self, to: Point, among: impl IntoIterator<Item = NodeId>) -> Option<NodeId> {
        let distance = |node: &NodeId| self.points[usize::from(*node)].distance(to);
        among.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    /// Dijkstra's algorithm towards every junction.
    fn find_ways(&mut self) {
        let n = self.len();
        self.next = vec![0; n * n];
        self.seconds = vec![f32::INFINITY; n * n];
        for to in self.nodes() {
            let row = usize::from(to) * n;
            self.seconds[row + usize::from(to)] = 0.0;
            // Milliseconds, so that they order.
            let mut queue = BinaryHeap::from([Reverse((0_u64, to))]);
            let mut least = vec![u64::MAX; n];
            least[usize::from(to)] = 0;
            while let Some(Reverse((cost, node))) = queue.pop() {
                if cost > least[usize::from(node)] {
                    continue;
                }
                for hop in &self.hops[usize::from(node)] {
                    let there = usize::from(hop.to);
                    let reached = cost + (hop.least_seconds() * 1000.0) as u64;
                    if reached < least[there] {
                        least[there] = reached;
                        self.next[row + there] = node;
                        self.seconds[row + there] = reached as f32 / 1000.0;
                        queue.push(Reverse((reached, hop.to)));
                    }
                }
            }
        }
    }

    /// Junctions that can be reached from the first one.
    fn reached(&self) -> Vec<bool> {
        let mut reached = vec![false; self.len()];
        let mut open = vec![0];
        while let Some(node) = open.pop() {
            if !std::mem::replace(&mut reached[usize::from(node)], true) {
                open.extend(self.hops(node).iter().map(|hop| hop.to));
            }
        }
        reached
    }
}

struct Building {
    roads: Roads,
    random: Random,
}

impl Building {
    fn jittered(&mut self, x: f64, y: f64, by: f64) -> Point {
        let mut off = || self.random.random_range(-by..by);
        Point { x: x + off(), y: y + off() }
    }

    /// A grid of streets, every fourth an arterial road, some of the others missing.
    fn town(&mut self) {
        let middle = (TOWN_SIDE - 1) as f64 / 2.0;
        let arterial = |line: usize| line % 4 == 1;
        for row in 0..TOWN_SIDE {
            for column in 0..TOWN_SIDE {
                let (x, y) = ((column as f64 - middle), (row as f64 - middle));
                let point = self.jittered(x * TOWN_SPACING_M, y * TOWN_SPACING_M, 60.0);
                let node = usize::from(self.roads.add(point, Place::Town));
                let street = |building: &mut Self, back: usize, line: usize| {
                    if arterial(line) || building.random.random_bool(0.85) {
                        let limit_kmh = if arterial(line) { 60.0 } else { 40.0 };
                        let (a, b) = ((node - back) as NodeId, node as NodeId);
                        building.roads.join(a, b, 1.0, limit_kmh);
                    }
                };
                if column > 0 {
                    street(self, 1, row);
                }
                if row > 0 {
                    street(self, TOWN_SIDE, column);
                }
            }
        }
    }

    /// Villages and gates, joined to each other and to the town by a spanning tree and some shortcuts.
    fn country(&mut self) {
        let town: Vec<_> = self.roads.nodes().collect();
        let corner = |row: usize, column: usize| (row * TOWN_SIDE + column) as NodeId;
        let (near, far) = (1, TOWN_SIDE - 3);
        let mut anchors =
            vec![corner(near, near), corner(near, far), corner(far, near), corner(far, far)];
        let mut centres = Vec::new();
        while centres.len() < VILLAGES {
            let (angle, share) =
                (self.random.random_range(0.0..std::f64::consts::TAU), self.random.random::<f64>());
            let distance = 5_000.0 + share.sqrt() * (RADIUS_M - 8_000.0);
            let point = Point { x: distance * angle.cos(), y: distance * angle.sin() };
            if centres.iter().all(|other: &Point| other.distance(point) > 1_800.0) {
                centres.push(point);
            }
        }
        for centre in centres {
            let node = self.roads.add(centre, Place::Village);
            for _ in 0..self.random.random_range(2..=5) {
                let point = self.jittered(centre.x, centre.y, 500.0);
                let house = self.roads.add(point, Place::Village);
                self.roads.join(node, house, 1.1, 30.0);
            }
            anchors.push(node);
        }
        for gate in 0..GATES {
            let angle = (gate as f64 + 0.3) * std::f64::consts::TAU / GATES as f64;
            let point = Point { x: RADIUS_M * angle.cos(), y: RADIUS_M * angle.sin() };
            anchors.push(self.roads.add(point, Place::Gate));
        }
        // Prim: the next anchor is always the one nearest to those already joined.
        let mut joined = vec![anchors.swap_remove(0)];
        let mut pairs = Vec::new();
        let all: Vec<_> = joined.iter().chain(&anchors).copied().collect();
        while !anchors.is_empty() {
            let gap = |node: NodeId, roads: &Roads| {
                let point = roads.points[usize::from(node)];
                let to = roads.nearest(point, joined.iter().copied()).unwrap_or(node);
                (roads.points[usize::from(to)].distance(point), to)
            };
            let gaps = anchors.iter().map(|node| gap(*node, &self.roads)).enumerate();
            let Some((at, (_, to))) = gaps.min_by(|a, b| a.1.0.total_cmp(&b.1.0)) else { break };
            let node = anchors.swap_remove(at);
            pairs.push((node, to));
            joined.push(node);
        }
        for node in &all {
            let point = self.roads.points[usize::from(*node)];
            let mut others: Vec<_> = all.iter().copied().filter(|other| other != node).collect();
            others.sort_by(|a, b| {
                let distance = |n: &NodeId| self.roads.points[usize::from(*n)].distance(point);
                distance(a).total_cmp(&distance(b))
            });
            pairs.extend(others.into_iter().take(2).map(|other| (*node, other)));
        }
        let mut done = std::collections::BTreeSet::new();
        for (a, b) in pairs {
            let both_in_town = town.contains(&a) && town.contains(&b);
            if !both_in_town && done.insert((a.min(b), a.max(b))) {
                let limit_kmh = if self.random.random_bool(0.4) { 80.0 } else { 70.0 };
                self.road(a, b, ROAD_SPACING_M, WINDING, limit_kmh);
            }
        }
    }

    /// A road with junctions along it; returns those.
    fn road(
        &mut self,
        a: NodeId,
        b: NodeId,
        spacing_m: f64,
        winding: f64,
        limit_kmh: f64,
    ) -> Vec<NodeId> {
        let (from, to) = (self.roads.points[usize::from(a)], self.roads.points[usize::from(b)]);
        let parts = (from.distance(to) / spacing_m).ceil().max(1.0) as usize;
        let (mut last, mut along) = (a, Vec::new());
        for part in 1..parts {
            let share = part as f64 / parts as f64;
            let (x, y) = (from.x + (to.x - from.x) * share, from.y + (to.y - from.y) * share);
            let point = self.jittered(x, y, 150.0);
            let node = self.roads.add(point, Place::Road);
            self.roads.join(last, node, winding, limit_kmh);
            along.push(node);
            last = node;
        }
        self.roads.join(last, b, winding, limit_kmh);
        along
    }

    /// Between two opposite gates, past the town, with interchanges.
    fn expressway(&mut self) {
        let gates: Vec<_> =
            self.roads.nodes().filter(|node| self.roads.place(*node) == Place::Gate).collect();
        let ordinary: Vec<_> =
            self.roads.nodes().filter(|node| self.roads.place(*node) == Place::Road).collect();
        let along = self.road(gates[0], gates[GATES / 2], 3_000.0, 1.02, 110.0);
        for interchange in along.iter().skip(1).step_by(3) {
            let point = self.roads.points[usize::from(*interchange)];
            if let Some(near) = self.roads.nearest(point, ordinary.iter().copied()) {
                self.roads.join(*interchange, near, 1.2, 60.0);
            }
        }
    }

    /// What the missing streets cut off is joined to the nearest junction of the rest.
    fn join_strays(&mut self) {
        loop {
            let reached = self.roads.reached();
            let (inside, outside): (Vec<_>, Vec<_>) =
                self.roads.nodes().partition(|node| reached[usize::from(*node)]);
            let Some(stray) = outside.first() else { return };
            let point = self.roads.points[usize::from(*stray)];
            if let Some(near) = self.roads.nearest(point, inside) {
                self.roads.join(*stray, near, 1.1, 40.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_as_fast_as_it_says_and_ends_where_it_should() {
        let roads = Roads::new(1);
        assert!((500..1000).contains(&roads.len()), "{}", roads.len());
        for (from, to) in [(0, 200), (17, 450), (300, 5), (9, 9)] {
            let way: Vec<_> = roads.way(from, to).collect();
            let seconds: f64 = way.iter().map(|(_, hop)| hop.least_seconds()).sum();
            assert!((seconds - roads.least_seconds(from, to)).abs() < 0.1, "{from} to {to}");
            assert_eq!(way.last().map_or(from, |(_, hop)| hop.to), to);
        }
    }

    #[test]
    fn no_road_is_shorter_than_the_straight_line() {
        let roads = Roads::new(2);
        for node in roads.nodes() {
            assert!(roads.least_seconds(node, 0).is_finite(), "{node} is cut off");
            for hop in roads.hops(node) {
                let straight = roads.position(node).distance_m(&roads.position(hop.to));
                assert!(hop.length_m >= straight, "{node} to {}", hop.to);
            }
        }
    }
}
