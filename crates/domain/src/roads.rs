use std::sync::Arc;

use crate::{GeoPoint, InvalidValue, StoreError};

/// A road between two junctions, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoadEdge {
    /// Where it begins: a place in [`RoadGraph::nodes`].
    pub from: u32,
    /// Where it ends.
    pub to: u32,
    /// How long the way along it is, metres.
    pub length_m: f64,
    /// The speed limit, km/h, where it is known.
    pub limit_kmh: Option<f32>,
    /// Whether it may only be driven from `from` to `to`.
    pub one_way: bool,
}

/// The roads of an area.
#[derive(Debug, Clone, PartialEq)]
pub struct RoadGraph {
    nodes: Vec<GeoPoint>,
    edges: Vec<RoadEdge>,
}

impl RoadGraph {
    /// Most nodes, and most edges: a province.
    pub const SIZE_MAX: usize = 4_000_000;

    /// # Errors
    /// When there is no edge or too many, one names a node that there is not, or a length or limit is no positive
    /// number.
    pub fn new(nodes: Vec<GeoPoint>, edges: Vec<RoadEdge>) -> Result<Self, InvalidValue> {
        let wrong = |value: String, fix: &str| Err(InvalidValue::new("road graph", value, fix));
        if edges.is_empty() {
            return wrong("no roads".into(), "give at least one LineString with two positions");
        }
        if nodes.len() > Self::SIZE_MAX || edges.len() > Self::SIZE_MAX {
            let size = format!("{} nodes and {} roads", nodes.len(), edges.len());
            return wrong(size, "use at most 4000000 of each: cut out the area of the cameras");
        }
        for (i, edge) in edges.iter().enumerate() {
            if edge.from as usize >= nodes.len() || edge.to as usize >= nodes.len() {
                return wrong(format!("edge {i}"), "names a node that there is not");
            }
            if !(edge.length_m.is_finite() && edge.length_m >= 0.0) {
                return wrong(format!("edge {i}: {} m", edge.length_m), "use metres, 0 or more");
            }
            if edge.limit_kmh.is_some_and(|limit| !(limit > 0.0 && limit <= 300.0)) {
                return wrong(format!("edge {i}"), "use a speed limit above 0 and up to 300 km/h");
            }
        }
        Ok(Self { nodes, edges })
    }

    /// Junctions and bends.
    pub fn nodes(&self) -> &[GeoPoint] {
        &self.nodes
    }

    /// The roads between them.
    pub fn edges(&self) -> &[RoadEdge] {
        &self.edges
    }
}

/// Keeps the road graph; there is at most one. Every implementation passes the same contract suite.
pub trait RoadGraphStore: Send + Sync {
    /// Keeps a graph in the place of the one before. Durable when it returns. Coordinates are kept to 10^-7 degrees
    /// (a centimetre), lengths to a millimetre.
    ///
    /// # Errors
    /// When the medium fails.
    fn put_road_graph(&self, graph: RoadGraph) -> Result<(), StoreError>;

    /// The graph; `None` when none was given. As long as no other is put, the same one.
    ///
    /// # Errors
    /// When the medium fails or the record is damaged.
    fn road_graph(&self) -> Result<Option<Arc<RoadGraph>>, StoreError>;
}
