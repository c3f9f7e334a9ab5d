//! What a county's sightings are judged by: its roads, and what its cameras could see.

use anyhow::{Context as _, Result};
use guiji_county::{County, Hop, NodeId};
use guiji_domain::{
    CameraRegistry as _, Coverage, CoverageState, CoverageStore as _, RoadEdge, RoadGraph,
    RoadGraphStore as _, TimeSpan, Timestamp,
};
use guiji_store::Store;
use serde_json::{Value, json};

/// Puts cameras, roads and coverage of a county into a store that no server has open.
pub(crate) fn keep(county: &County, store: &Store) -> Result<()> {
    store.put_cameras(county.cameras()).context("register the cameras")?;
    store.put_road_graph(road_graph(county)?).context("keep the roads")?;
    store.keep_coverage(&coverage(county)).context("keep the coverage")?;
    Ok(())
}

/// The roads, each once.
fn roads_once(county: &County) -> impl Iterator<Item = (NodeId, Hop)> {
    let roads = county.roads();
    roads.nodes().flat_map(move |from| {
        roads.hops(from).iter().filter(move |hop| from < hop.to).map(move |hop| (from, *hop))
    })
}

fn road_graph(county: &County) -> Result<RoadGraph> {
    let roads = county.roads();
    let edges = roads_once(county).map(|(from, hop)| RoadEdge {
        from: from.into(),
        to: hop.to.into(),
        length_m: hop.length_m,
        limit_kmh: Some(hop.limit_kmh as f32),
        one_way: false,
    });
    Ok(RoadGraph::new(roads.nodes().map(|node| roads.position(node)).collect(), edges.collect())?)
}

/// The roads as GeoJSON, each once.
pub(super) fn roads_geojson(county: &County) -> String {
    let roads = county.roads();
    let position = |node| {
        let place = roads.position(node);
        let rounded = |deg: f64| (deg * 1e7).round() / 1e7;
        json!([rounded(place.lon_deg()), rounded(place.lat_deg())])
    };
    let features: Vec<Value> = roads_once(county)
        .map(|(from, hop)| {
            json!({
                "type": "Feature",
                "properties": {
                    "length_m": (hop.length_m * 1000.0).round() / 1000.0,
                    "limit_kmh": hop.limit_kmh,
                },
                "geometry": {
                    "type": "LineString",
                    "coordinates": [position(from), position(hop.to)],
                },
            })
        })
        .collect();
    json!({ "type": "FeatureCollection", "features": features }).to_string()
}

/// What the cameras could see over the county's days: everything but their outages.
pub(super) fn coverage(county: &County) -> Vec<Coverage> {
    let days = county.settings().days;
    let (begin, end) = (county.midnight(0), county.midnight(days));
    let mut all = Vec::new();
    for (number, camera) in county.cameras().iter().enumerate() {
        let mut add = |first: Timestamp, last: Timestamp, state, cause: &str| {
            // Nothing of no length.
            if let Ok(span) = TimeSpan::new(first, last)
                && first < last
            {
                let (camera, cause) = (camera.id.clone(), cause.to_owned());
                all.push(Coverage { camera, span, state, cause });
            }
        };
        let mut since = begin;
        for outage in (0..days).filter_map(|day| county.outage(number, day)) {
            let last = outage.span.last().min(end);
            add(since, outage.span.first(), CoverageState::Seeing, "live");
            add(outage.span.first(), last, CoverageState::Blind, "outage");
            since = last;
        }
        add(since, end, CoverageState::Seeing, "live");
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_county::CountySettings;
    use guiji_domain::Covered;

    #[test]
    fn coverage_is_what_the_outages_leave() {
        let start = Timestamp::from_secs(1_767_542_400);
        let settings =
            CountySettings { seed: 1, sightings: 1000, days: 3, error_rate: 0.01, start };
        let county = County::new(settings).unwrap();
        let all = coverage(&county);
        let span = TimeSpan::new(start, county.midnight(3)).unwrap();
        let mut blind = 0;
        for (number, camera) in county.cameras().iter().enumerate() {
            let covered = Covered::of(all.iter().filter(|c| c.camera == camera.id), span);
            let outages: u64 = (0..3)
                .filter_map(|day| county.outage(number, day))
                .map(|outage| outage.span.duration().as_nanos() as u64)
                .sum();
            assert_eq!((covered.blind_ns, covered.unknown_ns), (outages, 0), "{}", camera.id);
            blind += u32::from(outages > 0);
        }
        assert!(blind > 50, "there are outages: {blind}");
    }
}
