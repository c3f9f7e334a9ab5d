//! A trajectory in the formats of maps and tables.
//!
//! All have every point with a position, marked where it is doubtful. GeoJSON (RFC 7946) and GPX 1.1 draw the way through
//! the points that are not misreads; CSV has the points without a position too.

use std::fmt::Write as _;

use anyhow::Result;
use clap::ValueEnum;
use guiji_api::convert::{duration_from_pb, timestamp_from_pb};
use guiji_api::pb;
use serde_json::{Value, json};

use super::{bare, words};

/// How a trajectory is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// RFC 7946: a line and its points.
    Geojson,
    /// GPX 1.1: a track, and waypoints for what is doubtful.
    Gpx,
    /// One line a point.
    Csv,
}

/// The whole file.
///
/// # Errors
/// When the server gave times that there are not.
pub(crate) fn export(format: ExportFormat, way: &pb::Trajectory) -> Result<String> {
    let rows = way.points.iter().map(Row::new).collect::<Result<Vec<_>>>()?;
    match format {
        ExportFormat::Geojson => Ok(geojson(&way.plate, &rows)?),
        ExportFormat::Gpx => Ok(gpx(&way.plate, &rows)),
        ExportFormat::Csv => csv_table(&way.plate, &rows),
    }
}

/// What is told of a point.
struct Row {
    time: String,
    uncertainty_s: f64,
    position: Option<(f64, f64)>,
    camera: String,
    sighting: String,
    read: String,
    probability: f32,
    flags: Vec<String>,
}

impl Row {
    fn new(point: &pb::TrajectoryPoint) -> Result<Self> {
        let absent = pb::Sighting::default();
        let sighting = point.sighting.as_ref().unwrap_or(&absent);
        let capture = sighting.capture.as_ref();
        let time = capture.and_then(|capture| capture.time.as_ref()).map(timestamp_from_pb);
        let uncertainty =
            capture.and_then(|capture| capture.uncertainty.as_ref()).map(duration_from_pb);
        Ok(Self {
            time: time.transpose()?.map_or_else(String::new, |time| time.to_string()),
            uncertainty_s: uncertainty.transpose()?.map_or(0.0, |u| u.as_secs_f64()),
            position: point.position.map(|p| (p.latitude_deg, p.longitude_deg)),
            camera: bare(&sighting.camera).to_owned(),
            sighting: bare(&sighting.name).to_owned(),
            read: sighting.plate.as_ref().map_or_else(String::new, |plate| plate.text.clone()),
            probability: point.probability,
            flags: point.flags().map(|f| words(f.as_str_name(), "POINT_FLAG_")).collect(),
        })
    }

    fn is_misread(&self) -> bool {
        self.flags.iter().any(|flag| flag == "misread")
    }

    /// To four places: more would be a claim.
    fn probability(&self) -> f64 {
        (f64::from(self.probability) * 1e4).round() / 1e4
    }
}

fn geojson(plate: &str, rows: &[Row]) -> serde_json::Result<String> {
    let line: Vec<Value> = rows
        .iter()
        .filter(|row| !row.is_misread())
        .filter_map(|row| row.position)
        .map(|(lat, lon)| json!([lon, lat]))
        .collect();
    let mut features = Vec::with_capacity(rows.len() + 1);
    // A line has two positions at least.
    if line.len() >= 2 {
        features.push(json!({
            "type": "Feature",
            "geometry": { "type": "LineString", "coordinates": line },
            "properties": { "plate": plate },
        }));
    }
    for row in rows {
        let Some((lat, lon)) = row.position else { continue };
        features.push(json!({
            "type": "Feature",
            "geometry": { "type": "Point", "coordinates": [lon, lat] },
            "properties": {
                "plate": plate,
                "time": row.time,
                "uncertainty_s": row.uncertainty_s,
                "camera": row.camera,
                "sighting": row.sighting,
                "read": row.read,
                "probability": row.probability(),
                "flags": row.flags,
            },
        }));
    }
    let collection = json!({ "type": "FeatureCollection", "features": features });
    Ok(serde_json::to_string_pretty(&collection)? + "\n")
}

fn gpx(plate: &str, rows: &[Row]) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<gpx version=\"1.1\" creator=\"guiji\" \
         xmlns=\"http://www.topografix.com/GPX/1/1\">\n",
    );
    let place = |row: &Row, element: &str, indent: &str| {
        let (lat, lon) = row.position?;
        let mut about = format!("read {}, probability {}", row.read, row.probability());
        if !row.flags.is_empty() {
            // Writing to a string cannot fail.
            write!(about, ", {}", row.flags.join(", ")).unwrap_or_default();
        }
        Some(format!(
            "{indent}<{element} lat=\"{lat}\" lon=\"{lon}\"><time>{}</time><name>{}</name><desc>{}</desc></{element}>\n",
            escaped(&row.time),
            escaped(&row.camera),
            escaped(&about),
        ))
    };
    // Waypoints come before tracks.
    text.extend(
        rows.iter().filter(|row| row.is_misread()).filter_map(|row| place(row, "wpt", "  ")),
    );
    text += &format!("  <trk>\n    <name>{}</name>\n    <trkseg>\n", escaped(plate));
    let sure = rows.iter().filter(|row| !row.is_misread());
    text.extend(sure.filter_map(|row| place(row, "trkpt", "      ")));
    text + "    </trkseg>\n  </trk>\n</gpx>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn csv_table(plate: &str, rows: &[Row]) -> Result<String> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record([
        "plate",
        "time",
        "uncertainty_s",
        "latitude_deg",
        "longitude_deg",
        "camera",
        "read",
        "probability",
        "flags",
        "sighting",
    ])?;
    for row in rows {
        let degrees = |degrees: Option<f64>| degrees.map_or_else(String::new, |d| d.to_string());
        table.write_record([
            plate,
            &row.time,
            &row.uncertainty_s.to_string(),
            &degrees(row.position.map(|(lat, _)| lat)),
            &degrees(row.position.map(|(_, lon)| lon)),
            &row.camera,
            &row.read,
            &row.probability().to_string(),
            &row.flags.join(" "),
            &row.sighting,
        ])?;
    }
    Ok(String::from_utf8(table.into_inner()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_api::convert::{duration_to_pb, timestamp_to_pb};
    use guiji_domain::Timestamp;
    use std::path::Path;
    use std::time::Duration;

    fn point(
        camera: &str,
        secs: i64,
        read: &str,
        position: Option<(f64, f64)>,
        probability: f32,
        flags: &[pb::PointFlag],
    ) -> pb::TrajectoryPoint {
        let time = Timestamp::from_secs(1_795_487_952 + secs);
        pb::TrajectoryPoint {
            sighting: Some(pb::Sighting {
                name: format!("sightings/{secs:032x}"),
                camera: format!("cameras/{camera}"),
                capture: Some(pb::CaptureTime {
                    time: Some(timestamp_to_pb(time)),
                    uncertainty: Some(duration_to_pb(Duration::from_millis(40))),
                    ..Default::default()
                }),
                plate: Some(pb::Plate { text: read.into(), ..Default::default() }),
                ..Default::default()
            }),
            position: position
                .map(|(latitude_deg, longitude_deg)| pb::GeoPoint { latitude_deg, longitude_deg }),
            probability,
            flags: flags.iter().map(|flag| (*flag).into()).collect(),
            ..Default::default()
        }
    }

    fn way() -> pb::Trajectory {
        use pb::PointFlag::{Conflict, Doubtful, Misread};
        pb::Trajectory {
            plate: "浙J12345".into(),
            points: vec![
                point("k1", 0, "浙J12345", Some((29.1, 121.4)), 0.98, &[]),
                point("k2", 60, "浙J12845", Some((29.11, 121.41)), 0.31, &[Doubtful, Misread]),
                point("gone", 90, "浙J12345", None, 0.5, &[Doubtful, Conflict]),
                point("k3", 120, "浙J12345", Some((29.12, 121.4175)), 0.97, &[]),
            ],
            ..Default::default()
        }
    }

    fn assert_golden(name: &str, text: &str) {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/app/query/testdata").join(name);
        if std::env::var_os("GUIJI_GOLDEN_WRITE").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text, golden,
            "{name}: look at the difference; GUIJI_GOLDEN_WRITE=1 takes it over"
        );
    }

    #[test]
    fn exports_are_as_they_were() {
        assert_golden("way.geojson", &export(ExportFormat::Geojson, &way()).unwrap());
        assert_golden("way.gpx", &export(ExportFormat::Gpx, &way()).unwrap());
        assert_golden("way.csv", &export(ExportFormat::Csv, &way()).unwrap());
    }

    #[test]
    fn nothing_seen_is_an_empty_file() {
        let nothing = pb::Trajectory { plate: "浙J12345".into(), ..Default::default() };
        let geojson: Value =
            serde_json::from_str(&export(ExportFormat::Geojson, &nothing).unwrap()).unwrap();
        assert_eq!(geojson["features"].as_array().unwrap().len(), 0);
        assert!(export(ExportFormat::Gpx, &nothing).unwrap().ends_with("</gpx>\n"));
        assert_eq!(export(ExportFormat::Csv, &nothing).unwrap().lines().count(), 1);
    }

    #[test]
    fn names_do_not_break_the_xml() {
        let mut way = way();
        way.points[0].sighting.as_mut().unwrap().camera = "cameras/a<&\"b".into();
        let text = export(ExportFormat::Gpx, &way).unwrap();
        assert!(text.contains("<name>a&lt;&amp;&quot;b</name>"), "{text}");
    }
}
