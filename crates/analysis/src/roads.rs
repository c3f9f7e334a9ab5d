//! Distances along roads between cameras, and the cameras that stand on the way.
//!
//! A camera stands at the nearest point of the nearest road within [`SNAP_M`]; a camera farther off has no road
//! distance. Roads are straight between the nodes of the graph, which is how GeoJSON and OpenStreetMap draw them.
//!
//! Distances are shortest ones (Dijkstra's algorithm with a bound: it ends where the bound does). With one-way roads
//! the way there may be longer than the way back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use guiji_domain::{CameraId, GeoPoint, RoadGraph};

/// A camera within this of a road stands at it, metres.
pub const SNAP_M: f64 = 200.0;
/// Metres a degree of latitude on the sphere of [`GeoPoint::distance_m`].
const METRES_A_DEGREE: f64 = 111_195.08;
/// Side of the cells in which roads are looked for, degrees; about 500 m north to south.
const CELL_DEG: f64 = 0.005;

/// Pairs of cameras whose distance is kept, 40 bytes each; beyond, all are forgotten.
const KNOWN_MAX: usize = 200_000;

/// Where a camera stands on a road.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    /// The camera's number, in the order in which cameras were put on the roads.
    camera: u32,
    edge: u32,
    /// Along the edge from its beginning, metres.
    along_m: f64,
}

/// A way out of a node.
#[derive(Debug, Clone, Copy)]
struct Hop {
    to: u32,
    length_m: f64,
}

/// Which way roads are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Towards {
    /// As they are driven: distances from a place.
    Elsewhere,
    /// Against it: distances to a place.
    Here,
}

/// A road graph with the cameras that stand on it.
#[derive(Debug)]
pub struct RoadNetwork {
    graph: Arc<RoadGraph>,
    out: Adjacency,
    back: Adjacency,
    places: HashMap<CameraId, Place>,
    /// What was found of pairs of cameras: most vehicles drive the same few ways.
    known: Mutex<HashMap<(u32, u32), Known>>,
}

/// What is known of the shortest way between two cameras.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// It is so long, metres.
    Distance(f64),
    /// It is longer than this, metres, if there is one.
    Beyond(f64),
}

impl Known {
    /// What it says of a way that is at most so long; the outer `None` when it says nothing.
    fn within(self, bound_m: f64) -> Option<Option<f64>> {
        match self {
            Self::Distance(distance_m) => Some(Some(distance_m).filter(|d| *d <= bound_m)),
            Self::Beyond(searched_m) => (bound_m <= searched_m).then_some(None),
        }
    }
}

/// The hops of all nodes, one after another.
#[derive(Debug)]
struct Adjacency {
    starts: Vec<u32>,
    hops: Vec<Hop>,
}

impl Adjacency {
    fn new(graph: &RoadGraph, towards: Towards) -> Self {
        let pairs = || {
            graph.edges().iter().flat_map(move |edge| {
                let (there, back) = ((edge.from, edge.to), (edge.to, edge.from));
                let one_way = if towards == Towards::Elsewhere { there } else { back };
                let other = (!edge.one_way).then_some((one_way.1, one_way.0));
                [Some(one_way), other].into_iter().flatten().map(|(a, b)| (a, b, edge.length_m))
            })
        };
        let mut starts = vec![0_u32; graph.nodes().len() + 1];
        for (from, ..) in pairs() {
            starts[from as usize + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut hops = vec![Hop { to: 0, length_m: 0.0 }; *starts.last().unwrap_or(&0) as usize];
        for (from, to, length_m) in pairs() {
            hops[next[from as usize] as usize] = Hop { to, length_m };
            next[from as usize] += 1;
        }
        Self { starts, hops }
    }

    fn of(&self, node: u32) -> &[Hop] {
        let node = node as usize;
        &self.hops[self.starts[node] as usize..self.starts[node + 1] as usize]
    }
}

impl RoadNetwork {
    /// Puts cameras on the roads. About 1 s for a million edges and a thousand cameras.
    pub fn new(graph: Arc<RoadGraph>, cameras: &[(CameraId, GeoPoint)]) -> Self {
        let grid = Grid::new(&graph);
        let place = |(number, (camera, position)): (u32, &(CameraId, GeoPoint))| {
            Some((camera.clone(), grid.nearest(&graph, number, position)?))
        };
        let places = (0..).zip(cameras).filter_map(place).collect();
        Self {
            out: Adjacency::new(&graph, Towards::Elsewhere),
            back: Adjacency::new(&graph, Towards::Here),
            graph,
            places,
            known: Mutex::default(),
        }
    }

    /// The graph that it was made from.
    pub fn graph(&self) -> &Arc<RoadGraph> {
        &self.graph
    }

    /// How many cameras stand on a road.
    pub fn cameras_on_roads(&self) -> usize {
        self.places.len()
    }

    /// The shortest way from one camera to another along roads, metres, if it is at most `bound_m`. `None` too when
    /// one of them stands at no road.
    pub fn distance_m(&self, from: &CameraId, to: &CameraId, bound_m: f64) -> Option<f64> {
        let (start, goal) = (*self.places.get(from)?, *self.places.get(to)?);
        let pair = (start.camera, goal.camera);
        // It guards nothing that could be left half done.
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known().get(&pair).and_then(|known| known.within(bound_m)) {
            return known;
        }
        let reached = self.reach(start, Towards::Elsewhere, bound_m, Some(goal));
        let found = self.at(&reached, start, goal, Towards::Elsewhere).filter(|d| *d <= bound_m);
        let mut known = known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(pair, found.map_or(Known::Beyond(bound_m), Known::Distance));
        found
    }

    /// The cameras by which the way from one camera to another leads, if it is at most `longest_m` long in all, without
    /// these two; in order. `None` when one of the two stands at no road.
    pub fn cameras_between(
        &self,
        from: &CameraId,
        to: &CameraId,
        longest_m: f64,
    ) -> Option<Vec<CameraId>> {
        let (start, goal) = (*self.places.get(from)?, *self.places.get(to)?);
        let there = self.reach(start, Towards::Elsewhere, longest_m, None);
        let back = self.reach(goal, Towards::Here, longest_m, None);
        let mut between = Vec::new();
        for (camera, place) in self.places.iter().filter(|(c, _)| *c != from && *c != to) {
            let before = self.at(&there, start, *place, Towards::Elsewhere);
            let after = self.at(&back, goal, *place, Towards::Here);
            if before.zip(after).is_some_and(|(before, after)| before + after <= longest_m) {
                between.push(camera.clone());
            }
        }
        between.sort();
        Some(between)
    }

    /// Shortest distances of nodes from (or to) a place, up to the bound, or as far as the goal needs.
    fn reach(
        &self,
        start: Place,
        towards: Towards,
        bound_m: f64,
        goal: Option<Place>,
    ) -> HashMap<u32, f64> {
        let hops = if towards == Towards::Elsewhere { &self.out } else { &self.back };
        let mut queue = BinaryHeap::new();
        for (node, length_m) in self.ends(start, towards) {
            queue.push(Reverse((Metres(length_m), node)));
        }
        let mut ends: Vec<u32> = goal
            .map(|goal| {
                let other = match towards {
                    Towards::Elsewhere => Towards::Here,
                    Towards::Here => Towards::Elsewhere,
                };
                self.ends(goal, other).map(|(node, _)| node).collect()
            })
            .unwrap_or_default();
        let mut reached = HashMap::new();
        while let Some(Reverse((Metres(length_m), node))) = queue.pop() {
            if length_m > bound_m {
                break;
            }
            if reached.contains_key(&node) {
                continue;
            }
            reached.insert(node, length_m);
            if goal.is_some() {
                ends.retain(|end| *end != node);
                // Both ends of the goal's road are known: no shorter way will come.
                if ends.is_empty() {
                    break;
                }
            }
            for hop in hops.of(node) {
                if !reached.contains_key(&hop.to) {
                    queue.push(Reverse((Metres(length_m + hop.length_m), hop.to)));
                }
            }
        }
        reached
    }

    /// The nodes that a place's road leads to, with how far they are: forwards, or where it can be come from.
    fn ends(&self, place: Place, towards: Towards) -> impl Iterator<Item = (u32, f64)> + use<> {
        let edge = self.graph.edges()[place.edge as usize];
        let end = (edge.to, edge.length_m - place.along_m);
        let beginning = (edge.from, place.along_m);
        let open = match (towards, edge.one_way) {
            (_, false) => [Some(end), Some(beginning)],
            (Towards::Elsewhere, true) => [Some(end), None],
            (Towards::Here, true) => [Some(beginning), None],
        };
        open.into_iter().flatten()
    }

    /// How far a place is from (or to) the start of a search.
    fn at(
        &self,
        reached: &HashMap<u32, f64>,
        start: Place,
        place: Place,
        towards: Towards,
    ) -> Option<f64> {
        let other = match towards {
            Towards::Elsewhere => Towards::Here,
            Towards::Here => Towards::Elsewhere,
        };
        let by_node = self
            .ends(place, other)
            .filter_map(|(node, rest)| Some(reached.get(&node)? + rest))
            .min_by(f64::total_cmp);
        let ahead = match towards {
            Towards::Elsewhere => place.along_m >= start.along_m,
            Towards::Here => place.along_m <= start.along_m,
        };
        let one_way = self.graph.edges()[place.edge as usize].one_way;
        let along = (place.edge == start.edge && (ahead || !one_way))
            .then(|| (place.along_m - start.along_m).abs());
        [by_node, along].into_iter().flatten().min_by(f64::total_cmp)
    }
}

/// Metres in their order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Metres(f64);

impl Eq for Metres {}
impl PartialOrd for Metres {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Metres {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Edges by the cells that they touch.
struct Grid(HashMap<(i32, i32), Vec<u32>>);

fn cell(lat_deg: f64, lon_deg: f64) -> (i32, i32) {
    // Within ±36,000.
    ((lat_deg / CELL_DEG).floor() as i32, (lon_deg / CELL_DEG).floor() as i32)
}

impl Grid {
    fn new(graph: &RoadGraph) -> Self {
        let mut cells: HashMap<_, Vec<u32>> = HashMap::new();
        for (number, edge) in (0..).zip(graph.edges()) {
            let [a, b] = [edge.from, edge.to].map(|node| graph.nodes()[node as usize]);
            // Every cell of the box around a straight piece of road; such pieces are short.
            let (south, west) = cell(a.lat_deg().min(b.lat_deg()), a.lon_deg().min(b.lon_deg()));
            let (north, east) = cell(a.lat_deg().max(b.lat_deg()), a.lon_deg().max(b.lon_deg()));
            for row in south..=north {
                for column in west..=east {
                    cells.entry((row, column)).or_default().push(number);
                }
            }
        }
        Self(cells)
    }

    /// The nearest point of a road, if it is within [`SNAP_M`]; of equally near ones the first road's.
    fn nearest(&self, graph: &RoadGraph, camera: u32, to: &GeoPoint) -> Option<Place> {
        let reach_deg = SNAP_M / METRES_A_DEGREE;
        let reach_lon_deg = reach_deg / to.lat_deg().to_radians().cos().max(0.01);
        let (south, west) = cell(to.lat_deg() - reach_deg, to.lon_deg() - reach_lon_deg);
        let (north, east) = cell(to.lat_deg() + reach_deg, to.lon_deg() + reach_lon_deg);
        let cells = (south..=north).flat_map(|row| (west..=east).map(move |column| (row, column)));
        let mut edges: Vec<_> =
            cells.filter_map(|cell| self.0.get(&cell)).flatten().copied().collect();
        edges.sort_unstable();
        edges.dedup();
        let places = edges.into_iter().map(|number| {
            let edge = graph.edges()[number as usize];
            let [a, b] = [edge.from, edge.to].map(|node| graph.nodes()[node as usize]);
            let (share, off_m) = project(&a, &b, to);
            (off_m, Place { camera, edge: number, along_m: share * edge.length_m })
        });
        let nearest = places.min_by(|(a, _), (b, _)| a.total_cmp(b));
        nearest.filter(|(off_m, _)| *off_m <= SNAP_M).map(|(_, place)| place)
    }
}

/// The point of a straight road nearest to a place: its share of the road, 0 to 1, and how far off it is, metres. In a
/// plane that touches the sphere at the place: exact enough over a few kilometres.
fn project(a: &GeoPoint, b: &GeoPoint, to: &GeoPoint) -> (f64, f64) {
    let scale = to.lat_deg().to_radians().cos();
    let flat = |p: &GeoPoint| {
        let x = (p.lon_deg() - to.lon_deg()) * scale * METRES_A_DEGREE;
        (x, (p.lat_deg() - to.lat_deg()) * METRES_A_DEGREE)
    };
    let ((ax, ay), (bx, by)) = (flat(a), flat(b));
    let (dx, dy) = (bx - ax, by - ay);
    let square = dx * dx + dy * dy;
    let share = if square > 0.0 { (-(ax * dx + ay * dy) / square).clamp(0.0, 1.0) } else { 0.0 };
    (share, (ax + dx * share).hypot(ay + dy * share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{camera_at, places};
    use guiji_domain::{Camera, RoadEdge};
    use proptest::prelude::*;

    fn id(name: &str) -> CameraId {
        CameraId::new(name).unwrap()
    }

    /// Nodes on a line north, 0.01 degrees (1112 m) apart, joined with roads of these lengths.
    fn line(lengths: &[f64], one_way: bool) -> Arc<RoadGraph> {
        let node = |i: usize| GeoPoint::new(29.0 + 0.01 * i as f64, 121.0).unwrap();
        let edges = lengths.iter().enumerate().map(|(i, length_m)| RoadEdge {
            from: i as u32,
            to: i as u32 + 1,
            length_m: *length_m,
            limit_kmh: None,
            one_way,
        });
        Arc::new(RoadGraph::new((0..=lengths.len()).map(node).collect(), edges.collect()).unwrap())
    }

    #[test]
    fn cameras_stand_at_the_nearest_point_and_distances_follow_the_road() {
        // The second road winds: it is twice as long as it looks.
        let cameras = [
            camera_at("a", 29.005, 121.0001), // in the middle of the first, 10 m beside
            camera_at("b", 29.0125, 121.0),   // a quarter along the second
            camera_at("far", 29.005, 121.05),
        ];
        let roads = RoadNetwork::new(line(&[1112.0, 2224.0, 1112.0], false), &places(&cameras));
        assert_eq!(roads.cameras_on_roads(), 2);
        let d = roads.distance_m(&id("a"), &id("b"), 1e6).unwrap();
        assert!((d - (556.0 + 556.0)).abs() < 3.0, "{d}");
        assert!((roads.distance_m(&id("b"), &id("a"), 1e6).unwrap() - d).abs() < 1e-6);
        assert_eq!(roads.distance_m(&id("a"), &id("b"), 1000.0), None, "beyond the bound");
        assert_eq!(roads.distance_m(&id("a"), &id("far"), 1e6), None);
        assert_eq!(roads.distance_m(&id("a"), &id("a"), 1e6), Some(0.0));
    }

    #[test]
    fn one_way_roads_are_driven_one_way() {
        let cameras = [
            camera_at("a", 29.002, 121.0),
            camera_at("b", 29.008, 121.0),
            camera_at("c", 29.015, 121.0),
        ];
        let roads = RoadNetwork::new(line(&[1112.0, 1112.0], true), &places(&cameras));
        assert!(roads.distance_m(&id("a"), &id("b"), 1e6).is_some());
        assert!(roads.distance_m(&id("a"), &id("c"), 1e6).is_some());
        assert_eq!(roads.distance_m(&id("b"), &id("a"), 1e6), None);
        assert_eq!(roads.cameras_between(&id("a"), &id("c"), 1e5), Some(vec![id("b")]));
        assert_eq!(roads.cameras_between(&id("c"), &id("a"), 1e5), Some(vec![]));
    }

    type Streets = Vec<(u32, u32, u32, bool)>;

    fn any_streets() -> impl Strategy<Value = Streets> {
        prop::collection::vec((0u32..9, 0u32..9, 0u32..3000, any::<bool>()), 1..25)
    }

    /// Nodes a kilometre apart on a grid of three by three; one camera exactly at each.
    fn town(streets: &Streets) -> (RoadNetwork, Vec<Camera>) {
        let place = |i: u32| (29.0 + 0.01 * f64::from(i / 3), 121.0 + 0.01 * f64::from(i % 3));
        let nodes = (0..9).map(|i| GeoPoint::new(place(i).0, place(i).1).unwrap()).collect();
        let edges = streets.iter().map(|(from, to, extra, one_way)| RoadEdge {
            from: *from,
            to: *to,
            length_m: f64::from(*extra),
            limit_kmh: None,
            one_way: *one_way,
        });
        let graph = Arc::new(RoadGraph::new(nodes, edges.collect()).unwrap());
        let cameras: Vec<_> =
            (0..9).map(|i| camera_at(&format!("n{i}"), place(i).0, place(i).1)).collect();
        (RoadNetwork::new(graph, &places(&cameras)), cameras)
    }

    /// Distances between nodes by Floyd and Warshall.
    fn all_distances(streets: &Streets) -> [[f64; 9]; 9] {
        let mut d = [[f64::INFINITY; 9]; 9];
        for (i, row) in d.iter_mut().enumerate() {
            row[i] = 0.0;
        }
        for (from, to, length, one_way) in streets {
            let (a, b, length) = (*from as usize, *to as usize, f64::from(*length));
            d[a][b] = d[a][b].min(length);
            if !one_way {
                d[b][a] = d[b][a].min(length);
            }
        }
        for via in 0..9 {
            for a in 0..9 {
                for b in 0..9 {
                    d[a][b] = d[a][b].min(d[a][via] + d[via][b]);
                }
            }
        }
        d
    }

    proptest! {
        #[test]
        fn distances_equal_those_of_all_pairs(streets in any_streets(), bound in 0f64..10_000.0) {
            let (roads, cameras) = town(&streets);
            let want = all_distances(&streets);
            // A camera at a junction stands at the beginning or the end of some street there; which one matters where
            // streets are one-way, so the oracle goes by the place that was chosen.
            let ends = |camera: &Camera, towards| -> Vec<(usize, f64)> {
                roads.places.get(&camera.id).map_or_else(Vec::new, |place| {
                    roads.ends(*place, towards).map(|(node, rest)| (node as usize, rest)).collect()
                })
            };
            for a in &cameras {
                for b in &cameras {
                    let mut least = f64::INFINITY;
                    for (i, before) in ends(a, Towards::Elsewhere) {
                        for (j, after) in ends(b, Towards::Here) {
                            least = least.min(before + want[i][j] + after);
                        }
                    }
                    let both = roads.places.get(&a.id).zip(roads.places.get(&b.id));
                    if let Some((p, q)) = both && p.edge == q.edge {
                        let one_way = roads.graph.edges()[p.edge as usize].one_way;
                        if !one_way || q.along_m >= p.along_m {
                            least = least.min((q.along_m - p.along_m).abs());
                        }
                    }
                    let got = roads.distance_m(&a.id, &b.id, bound);
                    prop_assert_eq!(got.is_some(), both.is_some() && least <= bound, "{:?} {}", got, least);
                    if let Some(got) = got {
                        prop_assert!((got - least).abs() < 1e-6, "{} {}", got, least);
                    }
                    let between = roads.cameras_between(&a.id, &b.id, bound);
                    prop_assert_eq!(between.is_some(), both.is_some());
                    for c in between.iter().flatten() {
                        let through = roads.distance_m(&a.id, c, 1e9).unwrap() + roads.distance_m(c, &b.id, 1e9).unwrap();
                        prop_assert!(through <= bound + 1e-6);
                    }
                }
            }
        }
    }
}
