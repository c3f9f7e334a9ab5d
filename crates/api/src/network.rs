use std::sync::{Arc, Mutex, PoisonError};

use guiji_analysis::roads::RoadNetwork;
use guiji_domain::{Camera, CameraId, GeoPoint, StoreError};

use crate::ApiParts;

/// The last road network, which holds as long as roads and cameras stay.
#[derive(Default)]
pub(crate) struct NetworkCache(Mutex<Option<Cached>>);

struct Cached {
    cameras: Vec<(CameraId, GeoPoint)>,
    network: Arc<RoadNetwork>,
}

impl NetworkCache {
    /// The roads with these cameras on them; `None` where no roads were imported. Blocking.
    pub(crate) fn get(
        &self,
        parts: &ApiParts,
        cameras: &[Camera],
    ) -> Result<Option<Arc<RoadNetwork>>, StoreError> {
        let Some(graph) = parts.roads.road_graph()? else { return Ok(None) };
        let places: Vec<_> = cameras.iter().map(|c| (c.id.clone(), c.position)).collect();
        // Held while it is made, so that it is made once. It guards nothing that could be left half done.
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = &*cached
            && Arc::ptr_eq(cached.network.graph(), &graph)
            && cached.cameras == places
        {
            return Ok(Some(Arc::clone(&cached.network)));
        }
        let network = Arc::new(RoadNetwork::new(graph, cameras));
        *cached = Some(Cached { cameras: places, network: Arc::clone(&network) });
        Ok(Some(network))
    }
}
