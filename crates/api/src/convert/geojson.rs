//! Roads from GeoJSON (RFC 7946), such as `osmium export` and `ogr2ogr` write.

use std::collections::HashMap;

use guiji_domain::{GeoPoint, RoadEdge, RoadGraph};
use serde::Deserialize;
use serde_json::Value;

use crate::violations::Violations;

/// Roads, and what else there was.
#[derive(Debug)]
pub(crate) struct Roads {
    pub(crate) graph: RoadGraph,
    /// Features that are no roads.
    pub(crate) others: u64,
}

#[derive(Deserialize)]
struct Collection {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    features: Vec<Feature>,
}

#[derive(Deserialize)]
struct Feature {
    geometry: Option<Geometry>,
    #[serde(default)]
    properties: Option<Properties>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Geometry {
    LineString {
        coordinates: Vec<Vec<f64>>,
    },
    MultiLineString {
        coordinates: Vec<Vec<Vec<f64>>>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize, Default)]
struct Properties {
    length_m: Option<f64>,
    limit_kmh: Option<f64>,
    maxspeed: Option<Value>,
    oneway: Option<Value>,
}

/// Which way a road may be driven.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    Both,
    Forward,
    Backward,
}

/// Reads a document; what is wrong is noted with its place in it.
pub(crate) fn roads_from_geojson(wrong: &mut Violations, text: &[u8]) -> Option<Roads> {
    let collection: Collection = match serde_json::from_slice(text) {
        Ok(collection) => collection,
        Err(error) => {
            wrong.add("geojson", format!("is no GeoJSON FeatureCollection: {error}"));
            return None;
        }
    };
    if collection.kind != "FeatureCollection" {
        wrong.add("geojson", format!("is a {:?}: give a FeatureCollection", collection.kind));
        return None;
    }
    let mut building = Building::default();
    for (number, feature) in collection.features.iter().enumerate() {
        let lines: &[Vec<Vec<f64>>] = match &feature.geometry {
            Some(Geometry::LineString { coordinates }) => std::slice::from_ref(coordinates),
            Some(Geometry::MultiLineString { coordinates }) => coordinates,
            Some(Geometry::Other) | None => {
                building.others += 1;
                continue;
            }
        };
        let field = format!("geojson.features[{number}]");
        let absent = Properties::default();
        building.add(wrong, &field, lines, feature.properties.as_ref().unwrap_or(&absent));
    }
    if !wrong.is_empty() {
        return None;
    }
    let Building { nodes, edges, others, .. } = building;
    let graph = wrong.take("geojson", RoadGraph::new(nodes, edges))?;
    Some(Roads { graph, others })
}

#[derive(Default)]
struct Building {
    nodes: Vec<GeoPoint>,
    /// By coordinates in 10^-7 degrees.
    known: HashMap<(i64, i64), u32>,
    edges: Vec<RoadEdge>,
    others: u64,
}

impl Building {
    fn add(
        &mut self,
        wrong: &mut Violations,
        field: &str,
        lines: &[Vec<Vec<f64>>],
        properties: &Properties,
    ) {
        let ways = ways_of(properties.oneway.as_ref());
        let limit_kmh = match properties.limit_kmh {
            Some(limit) if !(limit > 0.0 && limit <= 300.0) => {
                let fix = "use km/h above 0 and up to 300, or leave it out";
                wrong.add(format!("{field}.properties.limit_kmh"), format!("is {limit}: {fix}"));
                None
            }
            Some(limit) => Some(limit as f32),
            None => properties.maxspeed.as_ref().and_then(limit_of),
        };
        if let Some(length_m) = properties.length_m.filter(|m| !(m.is_finite() && *m > 0.0)) {
            let told = format!("is {length_m}: use metres above 0, or leave it out");
            wrong.add(format!("{field}.properties.length_m"), told);
        }
        let first = self.edges.len();
        for (number, line) in lines.iter().enumerate() {
            let place = match lines.len() {
                1 => format!("{field}.geometry.coordinates"),
                _ => format!("{field}.geometry.coordinates[{number}]"),
            };
            if line.len() < 2 {
                wrong.add(place, "has fewer than two positions");
                continue;
            }
            let mut last = None;
            for (i, position) in line.iter().enumerate() {
                let Some(node) = self.node(wrong, &format!("{place}[{i}]"), position) else {
                    return;
                };
                if let Some(from) = last.filter(|last| *last != node) {
                    let [a, b] = [from, node].map(|node| self.nodes[node as usize]);
                    let (from, to) =
                        if ways == Ways::Backward { (node, from) } else { (from, node) };
                    let one_way = ways != Ways::Both;
                    let length_m = a.distance_m(&b);
                    self.edges.push(RoadEdge { from, to, length_m, limit_kmh, one_way });
                }
                last = Some(node);
            }
        }
        // A road that winds between its positions is as long as it is said to be.
        if let Some(length_m) = properties.length_m {
            let edges = &mut self.edges[first..];
            let drawn: f64 = edges.iter().map(|edge| edge.length_m).sum();
            if drawn > 0.0 {
                edges.iter_mut().for_each(|edge| edge.length_m *= length_m / drawn);
            }
        }
    }

    fn node(&mut self, wrong: &mut Violations, field: &str, position: &[f64]) -> Option<u32> {
        let [lon_deg, lat_deg, ..] = position else {
            wrong.add(field, "is no position: give longitude and latitude, degrees");
            return None;
        };
        let place = wrong.take(field, GeoPoint::new(*lat_deg, *lon_deg))?;
        let grain = |deg: f64| (deg * 1e7).round() as i64;
        let next = u32::try_from(self.nodes.len()).ok()?;
        let node = *self.known.entry((grain(*lat_deg), grain(*lon_deg))).or_insert(next);
        if node == next {
            self.nodes.push(place);
        }
        Some(node)
    }
}

fn ways_of(oneway: Option<&Value>) -> Ways {
    match oneway {
        Some(Value::Bool(true)) => Ways::Forward,
        Some(Value::Number(number)) if number.as_f64() == Some(1.0) => Ways::Forward,
        Some(Value::Number(number)) if number.as_f64() == Some(-1.0) => Ways::Backward,
        Some(Value::String(text)) if ["yes", "true", "1"].contains(&text.as_str()) => Ways::Forward,
        Some(Value::String(text)) if ["-1", "reverse"].contains(&text.as_str()) => Ways::Backward,
        _ => Ways::Both,
    }
}

/// OpenStreetMap writes numbers as texts, and much else (`none`, `CN:urban`), which says nothing in km/h.
fn limit_of(maxspeed: &Value) -> Option<f32> {
    let limit = match maxspeed {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().trim_end_matches("km/h").trim().parse().ok()?,
        _ => return None,
    };
    (limit > 0.0 && limit <= 300.0).then_some(limit as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Roads, Vec<(String, String)>> {
        let mut wrong = Violations::default();
        roads_from_geojson(&mut wrong, text.as_bytes()).ok_or_else(|| wrong.into_iter().collect())
    }

    fn line(coordinates: &str, properties: &str) -> String {
        format!(
            r#"{{"type":"FeatureCollection","features":[{{"type":"Feature","properties":{properties},
               "geometry":{{"type":"LineString","coordinates":{coordinates}}}}}]}}"#
        )
    }

    #[test]
    fn lines_that_meet_are_joined() {
        let text = r#"{"type":"FeatureCollection","name":"extract","features":[
            {"type":"Feature","id":"w1","properties":{"highway":"primary","maxspeed":"70","oneway":"-1"},
             "geometry":{"type":"LineString","coordinates":[[121.0,29.0],[121.0,29.01,8.5],[121.0,29.01]]}},
            {"type":"Feature","properties":{"length_m":3000,"limit_kmh":40},
             "geometry":{"type":"MultiLineString","coordinates":[[[121.0,29.01],[121.01,29.01]],[[121.0,29.0],[121.01,29.0]]]}},
            {"type":"Feature","properties":null,"geometry":{"type":"Point","coordinates":[121.0,29.0]}},
            {"type":"Feature","properties":{},"geometry":null}]}"#;
        let roads = read(text).unwrap();
        assert_eq!((roads.graph.nodes().len(), roads.others), (4, 2));
        let edges = roads.graph.edges();
        assert_eq!(edges.len(), 3);
        assert_eq!((edges[0].from, edges[0].to, edges[0].one_way), (1, 0, true));
        assert!((edges[0].length_m - 1111.95).abs() < 0.01 && edges[0].limit_kmh == Some(70.0));
        assert_eq!((edges[1].from, edges[1].one_way, edges[1].limit_kmh), (1, false, Some(40.0)));
        assert!((edges[1].length_m + edges[2].length_m - 3000.0).abs() < 1e-6);
    }

    #[test]
    fn wrong_roads_name_their_place_and_the_fix() {
        for (text, field, fix) in [
            ("[".to_owned(), "geojson", "no GeoJSON"),
            (r#"{"type":"Feature"}"#.into(), "geojson", "give a FeatureCollection"),
            (r#"{"type":"FeatureCollection","features":[]}"#.into(), "geojson", "at least one"),
            (
                line("[[29.0,121.0],[29.1,121.0]]", "{}"),
                "geojson.features[0].geometry.coordinates[0]",
                "exchanged",
            ),
            (line("[[\"121.0\",\"29.0\"]]", "{}"), "geojson", "no GeoJSON"),
            (
                line("[[121.0,29.0]]", "{}"),
                "geojson.features[0].geometry.coordinates",
                "two positions",
            ),
            (
                line("[[121.0],[121.0,29.0]]", "{}"),
                "geojson.features[0].geometry.coordinates[0]",
                "longitude and",
            ),
            (
                line("[[121.0,29.0],[121.0,29.1]]", r#"{"length_m":-3}"#),
                "geojson.features[0].properties.length_m",
                "above 0",
            ),
            (
                line("[[121.0,29.0],[121.0,29.1]]", r#"{"limit_kmh":900}"#),
                "geojson.features[0].properties.limit_kmh",
                "up to 300",
            ),
        ] {
            let told = read(&text).unwrap_err();
            assert_eq!(told[0].0, field, "{told:?}");
            assert!(told[0].1.contains(fix), "{told:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(
            text in "\\PC{0,80}",
            positions in prop::collection::vec(prop::collection::vec(-400f64..400.0, 0..4), 0..5),
        ) {
            prop_assert!(read(&text).is_err());
            let coordinates = serde_json::to_string(&positions).unwrap();
            if let Ok(roads) = read(&line(&coordinates, "{}")) {
                prop_assert!(roads.graph.edges().len() < positions.len());
            }
        }
    }
}
