use guiji_domain::{GeoArea, GeoPoint, InvalidValue};

use crate::pb;
use crate::violations::Violations;

/// Largest radius of a circle, metres: a county is about 60 km across.
const RADIUS_M_MAX: f64 = 200_000.0;
/// Longest diagonal of a rectangle, metres.
const DIAGONAL_M_MAX: f64 = 400_000.0;

pub(crate) fn point_to_pb(point: &GeoPoint) -> pb::GeoPoint {
    pb::GeoPoint { latitude_deg: point.lat_deg(), longitude_deg: point.lon_deg() }
}

pub(crate) fn point_from_pb(point: &pb::GeoPoint) -> Result<GeoPoint, InvalidValue> {
    GeoPoint::new(point.latitude_deg, point.longitude_deg)
}

pub(crate) fn area_to_pb(area: &GeoArea) -> pb::Area {
    use pb::area::Shape;
    let point = |point| Some(point_to_pb(point));
    let shape = match area {
        GeoArea::Circle { centre, radius_m } => {
            Shape::Circle(pb::Circle { centre: point(centre), radius_m: *radius_m })
        }
        GeoArea::Rectangle { south_west, north_east } => Shape::Rectangle(pb::Rectangle {
            south_west: point(south_west),
            north_east: point(north_east),
        }),
    };
    pb::Area { shape: Some(shape) }
}

pub(crate) fn area_from_pb(
    wrong: &mut Violations,
    field: &str,
    area: &pb::Area,
) -> Option<GeoArea> {
    let mut corner = |part: &str, point: &Option<pb::GeoPoint>| {
        let point = wrong.require(&format!("{field}.{part}"), point.as_ref())?;
        wrong.take(format!("{field}.{part}"), point_from_pb(point))
    };
    match &area.shape {
        None => {
            wrong.add(field, "give a circle or a rectangle");
            None
        }
        Some(pb::area::Shape::Circle(circle)) => {
            let centre = corner("circle.centre", &circle.centre);
            let radius_m = circle.radius_m;
            if !(radius_m > 0.0 && radius_m <= RADIUS_M_MAX) {
                let fix = format!("use metres above 0 and at most {RADIUS_M_MAX}");
                let error = InvalidValue::new("radius", radius_m, fix);
                wrong.add(format!("{field}.circle.radius_m"), error.to_string());
                return None;
            }
            Some(GeoArea::Circle { centre: centre?, radius_m })
        }
        Some(pb::area::Shape::Rectangle(rectangle)) => {
            let south_west = corner("rectangle.south_west", &rectangle.south_west);
            let north_east = corner("rectangle.north_east", &rectangle.north_east);
            let (south_west, north_east) = (south_west?, north_east?);
            let ordered = south_west.lat_deg() <= north_east.lat_deg()
                && south_west.lon_deg() <= north_east.lon_deg();
            if !ordered {
                wrong.add(
                    format!("{field}.rectangle"),
                    "south_west must lie south and west of north_east: are the corners exchanged?",
                );
                return None;
            }
            let diagonal_m = south_west.distance_m(&north_east);
            if diagonal_m > DIAGONAL_M_MAX {
                wrong.add(
                    format!("{field}.rectangle"),
                    format!(
                        "is {diagonal_m:.0} m from corner to corner: use at most {DIAGONAL_M_MAX}, or leave it out"
                    ),
                );
                return None;
            }
            Some(GeoArea::Rectangle { south_west, north_east })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::area::Shape;

    fn point(latitude_deg: f64, longitude_deg: f64) -> Option<pb::GeoPoint> {
        Some(pb::GeoPoint { latitude_deg, longitude_deg })
    }

    fn circle(centre: Option<pb::GeoPoint>, radius_m: f64) -> Option<Shape> {
        Some(Shape::Circle(pb::Circle { centre, radius_m }))
    }

    fn rectangle(
        south_west: Option<pb::GeoPoint>,
        north_east: Option<pb::GeoPoint>,
    ) -> Option<Shape> {
        Some(Shape::Rectangle(pb::Rectangle { south_west, north_east }))
    }

    #[test]
    fn wrong_areas_name_field_and_fix() {
        for (shape, field, fix) in [
            (None, "area:", "circle or a rectangle"),
            (circle(None, 5.0), "area.circle.centre", "required"),
            (circle(point(121.0, 28.0), 5.0), "area.circle.centre", "exchanged"),
            (circle(point(28.0, 121.0), 0.0), "area.circle.radius_m", "above 0"),
            (circle(point(28.0, 121.0), f64::NAN), "area.circle.radius_m", "above 0"),
            (circle(point(28.0, 121.0), 3e6), "area.circle.radius_m", "200000"),
            (rectangle(point(28.0, 121.0), None), "area.rectangle.north_east", "required"),
            (rectangle(point(29.0, 121.0), point(28.0, 122.0)), "area.rectangle", "exchanged"),
            (rectangle(point(28.0, 122.0), point(29.0, 121.0)), "area.rectangle", "exchanged"),
            (rectangle(point(20.0, 110.0), point(30.0, 122.0)), "area.rectangle", "400000"),
        ] {
            let mut wrong = Violations::default();
            let shown = format!("{shape:?}");
            assert_eq!(area_from_pb(&mut wrong, "area", &pb::Area { shape }), None, "{shown}");
            let status = tonic::Status::from(wrong.done().unwrap_err());
            assert!(status.message().contains(field), "{shown}: {status}");
            assert!(status.message().contains(fix), "{shown}: {status}");
        }
    }

    #[test]
    fn areas_contain_their_edge() {
        let at = |lat, lon| GeoPoint::new(lat, lon).unwrap();
        let taken = |shape| {
            let mut wrong = Violations::default();
            let area = area_from_pb(&mut wrong, "area", &pb::Area { shape }).unwrap();
            wrong.done().unwrap();
            area
        };
        let square = taken(rectangle(point(28.0, 121.0), point(29.0, 122.0)));
        assert!(square.contains(&at(28.0, 121.0)) && square.contains(&at(28.5, 121.5)));
        assert!(!square.contains(&at(27.99, 121.5)) && !square.contains(&at(28.5, 122.01)));
        let round = taken(circle(point(28.0, 121.0), 1000.0));
        assert!(round.contains(&at(28.0, 121.0)) && round.contains(&at(28.0089, 121.0)));
        assert!(!round.contains(&at(28.0091, 121.0)));
    }
}
