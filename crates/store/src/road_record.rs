//! The record of a road graph: a Zstandard frame of numbers, little-endian.
//!
//! Count of nodes (u32), their latitudes, then their longitudes (i32 each, 10^-7 degrees); count of edges (u32), then of
//! all edges: from (u32), to (u32), length (u64, millimetres), limit (u16, tenths of km/h, 0 for unknown), one-way (u8).

use std::io::Read as _;

use guiji_domain::{GeoPoint, RoadEdge, RoadGraph, StoreError};

use crate::errors::damaged;

const LEVEL: i32 = 3;
/// Bytes of an edge.
const EDGE: usize = 4 + 4 + 8 + 2 + 1;

pub(crate) fn encode(graph: &RoadGraph) -> Result<Vec<u8>, StoreError> {
    let (nodes, edges) = (graph.nodes(), graph.edges());
    let mut bytes = Vec::with_capacity(8 + nodes.len() * 8 + edges.len() * EDGE);
    // At most four million each, by the graph's constructor.
    bytes.extend((nodes.len() as u32).to_le_bytes());
    let degrees = |deg: f64| ((deg * 1e7).round() as i32).to_le_bytes();
    nodes.iter().for_each(|node| bytes.extend(degrees(node.lat_deg())));
    nodes.iter().for_each(|node| bytes.extend(degrees(node.lon_deg())));
    bytes.extend((edges.len() as u32).to_le_bytes());
    for edge in edges {
        bytes.extend(edge.from.to_le_bytes());
        bytes.extend(edge.to.to_le_bytes());
        bytes.extend(((edge.length_m * 1e3).round() as u64).to_le_bytes());
        bytes.extend(
            (edge.limit_kmh.map_or(0.0, |limit| limit * 10.0).round() as u16).to_le_bytes(),
        );
        bytes.push(u8::from(edge.one_way));
    }
    zstd::bulk::compress(&bytes, LEVEL).map_err(|error| StoreError::Medium {
        doing: "compress the road graph",
        reason: error.to_string(),
    })
}

pub(crate) fn decode(record: &[u8]) -> Result<RoadGraph, StoreError> {
    const BYTES_MAX: usize = 8 + RoadGraph::SIZE_MAX * (8 + EDGE);
    let wrong = |reason: &dyn std::fmt::Display| damaged("the road graph", reason);
    let mut bytes = Vec::new();
    zstd::stream::Decoder::new(record)
        .and_then(|frame| frame.take(BYTES_MAX as u64).read_to_end(&mut bytes))
        .map_err(|error| wrong(&error))?;
    let mut numbers = Numbers(&bytes);
    let mut read = || -> Option<_> {
        let count = u32::from_le_bytes(numbers.take()?) as usize;
        if numbers.0.len() < count.checked_mul(8)? {
            return None;
        }
        let mut degrees = |_| Some(f64::from(i32::from_le_bytes(numbers.take()?)) / 1e7);
        let lats: Vec<f64> = (0..count).map(&mut degrees).collect::<Option<_>>()?;
        let lons: Vec<f64> = (0..count).map(&mut degrees).collect::<Option<_>>()?;
        let count = u32::from_le_bytes(numbers.take()?) as usize;
        if numbers.0.len() != count.checked_mul(EDGE)? {
            return None;
        }
        let mut edge = |_| {
            let from = u32::from_le_bytes(numbers.take()?);
            let to = u32::from_le_bytes(numbers.take()?);
            let length_m = u64::from_le_bytes(numbers.take()?) as f64 / 1e3;
            let limit = u16::from_le_bytes(numbers.take()?);
            let limit_kmh = (limit > 0).then(|| f32::from(limit) / 10.0);
            Some(RoadEdge { from, to, length_m, limit_kmh, one_way: numbers.take()? != [0] })
        };
        let edges: Vec<_> = (0..count).map(&mut edge).collect::<Option<_>>()?;
        Some((lats, lons, edges))
    };
    let (lats, lons, edges) = read().ok_or_else(|| wrong(&"it ends too early or too late"))?;
    let nodes = lats.into_iter().zip(lons).map(|(lat, lon)| GeoPoint::new(lat, lon));
    let nodes = nodes.collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
    RoadGraph::new(nodes, edges).map_err(|error| wrong(&error))
}

struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back_to_the_centimetre(
            nodes in prop::collection::vec((-90f64..=90.0, -180f64..=180.0), 1..20),
            edges in prop::collection::vec((0u32..20, 0u32..20, 0f64..1e6, prop::option::of(1u16..3000), any::<bool>()), 1..30),
        ) {
            let count = nodes.len() as u32;
            let nodes: Vec<_> = nodes.into_iter().map(|(lat, lon)| GeoPoint::new(lat, lon).unwrap()).collect();
            let edges: Vec<_> = edges.into_iter().map(|(from, to, length_m, limit, one_way)| RoadEdge {
                from: from % count, to: to % count, length_m,
                limit_kmh: limit.map(|tenths| f32::from(tenths) / 10.0), one_way,
            }).collect();
            let graph = RoadGraph::new(nodes, edges).unwrap();
            let record = encode(&graph).unwrap();
            let back = decode(&record).unwrap();
            for (a, b) in graph.nodes().iter().zip(back.nodes()) {
                prop_assert!(a.distance_m(b) < 0.02, "{:?} {:?}", a, b);
            }
            for (a, b) in graph.edges().iter().zip(back.edges()) {
                prop_assert_eq!((a.from, a.to, a.one_way, a.limit_kmh), (b.from, b.to, b.one_way, b.limit_kmh));
                prop_assert!((a.length_m - b.length_m).abs() < 1e-3);
            }
            prop_assert_eq!(decode(&encode(&back).unwrap()).unwrap(), back, "what was kept is kept alike");
        }

        #[test]
        fn damage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), nested: bool) {
            let record = if nested { zstd::bulk::compress(&bytes, LEVEL).unwrap() } else { bytes };
            prop_assert!(decode(&record).is_err());
        }
    }
}
