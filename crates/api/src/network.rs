use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use guiji_analysis::coverage::{DistanceBasis, cameras_on_likely_ways};
use guiji_analysis::roads::RoadNetwork;
use guiji_domain::{CameraId, GeoPoint, StoreError};

use crate::ApiParts;

/// The last network, which holds as long as roads and cameras stay.
#[derive(Default)]
pub(crate) struct NetworkCache(Mutex<Option<Arc<Network>>>);

/// Where cameras stand, and the roads that they stand on.
pub(crate) struct Network {
    /// By id.
    cameras: Arc<[(CameraId, GeoPoint)]>,
    positions: HashMap<CameraId, GeoPoint>,
    /// `None` where no roads were imported.
    roads: Option<RoadNetwork>,
    ways: Mutex<HashMap<(CameraId, CameraId), Option<LikelyWays>>>,
}

/// What likely ways go along, and the cameras on them.
pub(crate) type LikelyWays = (DistanceBasis, Arc<[CameraId]>);

/// Pairs of cameras whose ways are kept; beyond, all are forgotten.
const WAYS_MAX: usize = 20_000;

impl NetworkCache {
    /// The cameras as they are registered now, on the roads of now. Blocking.
    pub(crate) fn get(&self, parts: &ApiParts) -> Result<Arc<Network>, StoreError> {
        let (cameras, graph) = (parts.cameras.places(), parts.roads.road_graph()?);
        // Held while it is made, so that it is made once. It guards nothing that could be left half done.
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = &*cached
            && network.roads.as_ref().map(|roads| Arc::as_ptr(roads.graph()))
                == graph.as_ref().map(Arc::as_ptr)
            && (Arc::ptr_eq(&network.cameras, &cameras) || network.cameras == cameras)
        {
            return Ok(Arc::clone(network));
        }
        let network = Network {
            positions: cameras.iter().cloned().collect(),
            roads: graph.map(|graph| RoadNetwork::new(graph, &cameras)),
            cameras,
            ways: Mutex::default(),
        };
        Ok(Arc::clone(cached.insert(Arc::new(network))))
    }
}

impl Network {
    pub(crate) fn positions(&self) -> &HashMap<CameraId, GeoPoint> {
        &self.positions
    }

    pub(crate) fn roads(&self) -> Option<&RoadNetwork> {
        self.roads.as_ref()
    }

    /// [`cameras_on_likely_ways`], found once for each pair: most vehicles drive the same few ways.
    pub(crate) fn likely_ways(&self, from: &CameraId, to: &CameraId) -> Option<LikelyWays> {
        let pair = (from.clone(), to.clone());
        let kept = || self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(&pair) {
            return known.clone();
        }
        let found = cameras_on_likely_ways(from, to, &self.cameras, self.roads.as_ref());
        let found = found.map(|(basis, between)| (basis, between.into()));
        let mut kept = kept();
        if kept.len() >= WAYS_MAX {
            kept.clear();
        }
        kept.insert(pair, found.clone());
        found
    }
}
