use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use guiji_analysis::coverage::{DistanceBasis, cameras_on_likely_ways};
use guiji_analysis::roads::RoadNetwork;
use guiji_domain::{Camera, CameraId, GeoPoint, StoreError};

use crate::ApiParts;

/// The last road network, which holds as long as roads and cameras stay.
#[derive(Default)]
pub(crate) struct NetworkCache(Mutex<Option<Arc<Network>>>);

/// Roads with cameras on them, and what was asked of them.
pub(crate) struct Network {
    roads: RoadNetwork,
    cameras: Vec<Camera>,
    ways: Mutex<HashMap<(CameraId, CameraId), Option<LikelyWays>>>,
}

/// What likely ways go along, and the cameras on them.
pub(crate) type LikelyWays = (DistanceBasis, Arc<[CameraId]>);

/// Pairs of cameras whose ways are kept; beyond, all are forgotten.
const WAYS_MAX: usize = 20_000;

impl NetworkCache {
    /// The roads with these cameras on them; `None` where no roads were imported. Blocking.
    pub(crate) fn get(
        &self,
        parts: &ApiParts,
        cameras: &[Camera],
    ) -> Result<Option<Arc<Network>>, StoreError> {
        let Some(graph) = parts.roads.road_graph()? else { return Ok(None) };
        // Held while it is made, so that it is made once. It guards nothing that could be left half done.
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = &*cached
            && Arc::ptr_eq(network.roads.graph(), &graph)
            && network.cameras.iter().map(place).eq(cameras.iter().map(place))
        {
            return Ok(Some(Arc::clone(network)));
        }
        let roads = RoadNetwork::new(graph, cameras);
        let network = Network { roads, cameras: cameras.to_vec(), ways: Mutex::default() };
        Ok(Some(Arc::clone(cached.insert(Arc::new(network)))))
    }
}

fn place(camera: &Camera) -> (&CameraId, GeoPoint) {
    (&camera.id, camera.position)
}

impl Network {
    pub(crate) fn roads(&self) -> &RoadNetwork {
        &self.roads
    }

    /// [`cameras_on_likely_ways`], found once for each pair: most vehicles drive the same few ways.
    pub(crate) fn likely_ways(&self, from: &CameraId, to: &CameraId) -> Option<LikelyWays> {
        let pair = (from.clone(), to.clone());
        let kept = || self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(&pair) {
            return known.clone();
        }
        let found = likely_ways(from, to, &self.cameras, Some(&self.roads));
        let mut kept = kept();
        if kept.len() >= WAYS_MAX {
            kept.clear();
        }
        kept.insert(pair, found.clone());
        found
    }
}

/// [`cameras_on_likely_ways`].
pub(crate) fn likely_ways(
    from: &CameraId,
    to: &CameraId,
    cameras: &[Camera],
    roads: Option<&RoadNetwork>,
) -> Option<LikelyWays> {
    let (basis, between) = cameras_on_likely_ways(from, to, cameras, roads)?;
    Some((basis, between.into()))
}
