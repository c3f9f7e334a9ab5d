use std::collections::HashSet;

use guiji_domain::{
    CameraId, DailyHours, GeoArea, InvalidValue, PlatePattern, SightingQuery, SortOrder, TimeSpan,
    VehicleClass, VehicleColour,
};

use crate::ApiParts;
use crate::auth::Reach;
use crate::convert::{Word, area_from_pb, hours_from_pb, span_from_pb};
use crate::error::Problem;
use crate::pb;
use crate::violations::{Violations, camera_id};

/// Most cameras that a request may list.
pub(crate) const CAMERAS_MAX: usize = 2000;
/// Longest plate pattern, characters: brackets included, more than any sensible one needs.
const PATTERN_CHARS_MAX: usize = 64;
/// Most classes or colours that a request may list.
const WORDS_MAX: usize = 16;

/// A pattern of limited length.
pub(crate) fn pattern_from_pb(text: &str) -> Result<PlatePattern, InvalidValue> {
    if text.chars().count() > PATTERN_CHARS_MAX {
        let fix = format!("use at most {PATTERN_CHARS_MAX} characters");
        return Err(InvalidValue::new("plate pattern", text, fix));
    }
    PlatePattern::parse(text)
}

/// Which sightings a request wants: checked in itself, not yet against the cameras there are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filter {
    plate: Option<PlatePattern>,
    span: TimeSpan,
    hours: Option<DailyHours>,
    area: Option<GeoArea>,
    cameras: Vec<CameraId>,
    classes: Vec<VehicleClass>,
    colours: Vec<VehicleColour>,
    provisional: bool,
}

impl Filter {
    /// Checks the filter of a request; everything wrong is noted under `filter.`.
    pub(crate) fn from_pb(wrong: &mut Violations, filter: Option<&pb::SightingFilter>) -> Self {
        let absent = pb::SightingFilter::default();
        let filter = filter.unwrap_or(&absent);
        let plate = (!filter.plate_pattern.is_empty())
            .then(|| wrong.take("filter.plate_pattern", pattern_from_pb(&filter.plate_pattern)))
            .flatten();
        let (start, end) = (filter.start_time.as_ref(), filter.end_time.as_ref());
        Self {
            plate,
            span: span_from_pb(wrong, "filter.", start, end),
            hours: filter
                .hours
                .as_ref()
                .and_then(|hours| wrong.take("filter.hours", hours_from_pb(hours))),
            area: filter.area.as_ref().and_then(|area| area_from_pb(wrong, "filter.area", area)),
            cameras: wrong
                .take_list("filter.cameras", &filter.cameras, CAMERAS_MAX, |name| camera_id(name)),
            classes: wrong.take_list("filter.classes", &filter.classes, WORDS_MAX, word),
            colours: wrong.take_list("filter.colours", &filter.colours, WORDS_MAX, word),
            provisional: filter.include_provisional,
        }
    }

    /// The query, its area turned into cameras, and no more of it than its caller may see. May ask the store about
    /// cameras that are not registered: blocking.
    pub(crate) fn resolve(
        self,
        parts: &ApiParts,
        reach: &Reach,
        order: SortOrder,
    ) -> Result<SightingQuery, Problem> {
        let plate = self.plate.as_ref().and_then(PlatePattern::exact);
        let reach = reach.for_plate(plate.as_ref());
        let view = reach.view(parts);
        self.cameras.iter().try_for_each(|id| view.check_camera(id))?;
        let cameras = self.cameras_to_search(parts)?;
        Ok(view.narrow(SightingQuery {
            plate: self.plate,
            cameras,
            classes: self.classes,
            colours: self.colours,
            provisional: self.provisional,
            hours: self.hours,
            order,
            stop: parts.stop.clone(),
            ..SightingQuery::all_in(reach.span("filter.", self.span)?, 1)
        }))
    }

    /// The cameras that area and list leave; `None` when neither was given.
    fn cameras_to_search(&self, parts: &ApiParts) -> Result<Option<Vec<CameraId>>, Problem> {
        if self.area.is_none() && self.cameras.is_empty() {
            return Ok(None);
        }
        let registered = parts.cameras.list();
        if !self.cameras.is_empty() {
            let known: HashSet<_> = registered.iter().map(|(camera, _)| &camera.id).collect();
            self.refuse_unknown(parts, &known)?;
        }
        let Some(area) = self.area else {
            return Ok(Some(self.cameras.clone()));
        };
        let listed: HashSet<_> = self.cameras.iter().collect();
        let inside = registered
            .iter()
            .map(|(camera, _)| camera)
            .filter(|camera| listed.is_empty() || listed.contains(&camera.id))
            .filter(|camera| area.contains(&camera.position));
        Ok(Some(inside.map(|camera| camera.id.clone()).collect()))
    }

    /// A misspelt camera must not look like a camera at which nothing was seen. A camera that is registered no more
    /// is known by its sightings.
    fn refuse_unknown(&self, parts: &ApiParts, known: &HashSet<&CameraId>) -> Result<(), Problem> {
        let mut wrong = Violations::default();
        for (i, id) in self.cameras.iter().enumerate().filter(|(_, id)| !known.contains(id)) {
            let seen = SightingQuery {
                cameras: Some(vec![id.clone()]),
                provisional: true,
                ..SightingQuery::all_in(TimeSpan::ALL, 1)
            };
            if parts.store.search(&seen)?.sightings.is_empty() {
                wrong.add(
                    format!("filter.cameras[{i}]"),
                    format!("camera {id}: is neither registered nor in any sighting: ListCameras has the names"),
                );
                break; // One is enough to mend a list, and each costs a search.
            }
        }
        wrong.done()
    }
}

impl std::fmt::Display for Filter {
    /// The question in short, for the audit.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.plate {
            Some(plate) => write!(f, "plate {plate}")?,
            None => f.write_str("any plate")?,
        }
        if self.span.first() != TimeSpan::ALL.first() {
            write!(f, ", from {}", self.span.first())?;
        }
        if self.span.last() != TimeSpan::ALL.last() {
            write!(f, ", to {}", self.span.last())?;
        }
        if let Some(hours) = self.hours {
            write!(f, ", daily {hours}")?;
        }
        match &self.area {
            Some(GeoArea::Circle { centre, radius_m }) => {
                write!(f, ", {radius_m} m around {} {}", centre.lat_deg(), centre.lon_deg())?;
            }
            Some(GeoArea::Rectangle { south_west: sw, north_east: ne }) => write!(
                f,
                ", rectangle {} {} to {} {}",
                sw.lat_deg(),
                sw.lon_deg(),
                ne.lat_deg(),
                ne.lon_deg()
            )?,
            None => {}
        }
        match self.cameras.as_slice() {
            [] => {}
            [one] => write!(f, ", camera {one}")?,
            many => {
                write!(f, ", {} cameras", many.len())?;
                many.iter().try_for_each(|camera| write!(f, " {camera}"))?;
            }
        }
        self.classes.iter().try_for_each(|class| write!(f, ", {class}"))?;
        self.colours.iter().try_for_each(|colour| write!(f, ", {colour}"))
    }
}

/// A list of classes or colours of limited length.
pub(crate) fn words<W: Word>(wrong: &mut Violations, field: &str, numbers: &[i32]) -> Vec<W> {
    wrong.take_list(field, numbers, WORDS_MAX, word)
}

/// A word of a list, where 0 says nothing and so is a mistake.
fn word<W: Word>(number: &i32) -> Result<W, InvalidValue> {
    W::from_pb(*number)?.ok_or_else(|| {
        InvalidValue::new("list element", number, "is unspecified: leave it out for any")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::timestamp_to_pb;
    use guiji_domain::Timestamp;

    fn check(filter: &pb::SightingFilter) -> Result<Filter, Problem> {
        let mut wrong = Violations::default();
        let checked = Filter::from_pb(&mut wrong, Some(filter));
        wrong.done().map(|()| checked)
    }

    #[test]
    fn wrong_filters_name_field_and_fix() {
        let with = |change: fn(&mut pb::SightingFilter)| {
            let mut filter = pb::SightingFilter::default();
            change(&mut filter);
            filter
        };
        let time = |secs| Some(timestamp_to_pb(Timestamp::from_secs(secs)));
        let reversed =
            pb::SightingFilter { start_time: time(9), end_time: time(3), ..Default::default() };
        let impossible = pb::SightingFilter {
            start_time: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
            ..Default::default()
        };
        for (filter, field, fix) in [
            (with(|f| f.plate_pattern = "浙JI2345".into()), "plate_pattern", "digit 1"),
            (with(|f| f.plate_pattern = "浙J12".into()), "plate_pattern", "use *"),
            (with(|f| f.plate_pattern = "?".repeat(65)), "plate_pattern", "at most 64"),
            (reversed, "end_time", "exchange"),
            (impossible, "start_time", "nanos"),
            (with(|f| f.area = Some(pb::Area::default())), "area", "circle or a rectangle"),
            (with(|f| f.cameras = vec!["sightings/1".into()]), "cameras[0]", "cameras/ID"),
            (with(|f| f.cameras = vec!["cameras/a b".into()]), "cameras[0]", "1 to 64"),
            (with(|f| f.cameras = vec!["cameras/a".into(); 2001]), "cameras", "at most 2000"),
            (with(|f| f.classes = vec![0]), "classes[0]", "leave it out"),
            (with(|f| f.classes = vec![77]), "classes[0]", "use one of"),
            (with(|f| f.colours = vec![1, 77]), "colours[1]", "use one of"),
            (with(|f| f.colours = vec![1; 17]), "colours", "at most 16"),
        ] {
            let status = tonic::Status::from(check(&filter).unwrap_err());
            let field = format!("filter.{field}");
            assert!(status.message().contains(&field), "{field}: {status}");
            assert!(status.message().contains(fix), "{fix}: {status}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_within_reason() {
        let filter = pb::SightingFilter {
            plate_pattern: "[".into(),
            cameras: vec!["x".into(); 1000],
            ..Default::default()
        };
        let Err(Problem::Invalid(all)) = check(&filter) else { panic!("taken") };
        assert_eq!(all.len(), 20);
        assert_eq!(all[0].field, "filter.plate_pattern");
    }

    #[test]
    fn the_audit_reads_like_a_question() {
        let filter = pb::SightingFilter {
            plate_pattern: "浙j?12*".into(),
            start_time: Some(timestamp_to_pb(Timestamp::EPOCH)),
            cameras: vec!["cameras/k1".into()],
            classes: vec![1],
            ..Default::default()
        };
        assert_eq!(
            check(&filter).unwrap().to_string(),
            "plate 浙J?12*, from 1970-01-01T00:00:00.000Z, camera k1, car"
        );
    }
}
