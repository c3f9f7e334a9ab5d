use guiji_domain::{
    AlertId, Authority, CameraId, InvalidValue, PatrolUnitId, SightingId, WatchEntryId,
};

use crate::error::{Problem, Violation};
use crate::pb;

/// Collects everything that is wrong with a request, so that a caller mends it in one go.
#[derive(Debug, Default)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    /// How many are told: a request can be wrong in more places than anybody reads.
    const TOLD_MAX: usize = 20;

    /// Notes a wrong field.
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.0.len() < Self::TOLD_MAX {
            self.0.push(Violation { field: field.into(), description: description.into() });
        }
    }

    /// Takes a value, or notes why there is none.
    pub(crate) fn take<T>(
        &mut self,
        field: impl Into<String>,
        value: Result<T, InvalidValue>,
    ) -> Option<T> {
        value.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// Takes a required message.
    pub(crate) fn require<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(field, "is required");
        }
        value
    }

    /// Checks the length of a list.
    pub(crate) fn check_count(&mut self, field: &str, count: usize, limit: usize) -> bool {
        if count > limit {
            self.add(field, format!("has {count} elements: give at most {limit}"));
        }
        count <= limit
    }

    /// Takes a list of limited length, element by element.
    pub(crate) fn take_list<A, T>(
        &mut self,
        field: &str,
        values: &[A],
        limit: usize,
        parse: impl Fn(&A) -> Result<T, InvalidValue>,
    ) -> Vec<T> {
        if !self.check_count(field, values.len(), limit) {
            return Vec::new();
        }
        let parsed = values.iter().enumerate();
        parsed.filter_map(|(i, v)| self.take(format!("{field}[{i}]"), parse(v))).collect()
    }

    /// Checks a free text.
    pub(crate) fn check_text(&mut self, field: &str, text: &str, chars_max: usize) {
        if text.chars().count() > chars_max || text.chars().any(char::is_control) {
            self.add(field, format!("use at most {chars_max} printable characters"));
        }
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing, or all that is wrong.
    pub(crate) fn done(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::Invalid(self.0)) }
    }
}

impl IntoIterator for Violations {
    type Item = (String, String);
    type IntoIter = std::iter::Map<std::vec::IntoIter<Violation>, fn(Violation) -> Self::Item>;

    /// Fields with their descriptions.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(|violation| (violation.field, violation.description))
    }
}

/// The right by which a question is asked, or every part of it that is missing.
pub(crate) fn check_authority(authority: Option<&pb::Authority>) -> Result<Authority, Problem> {
    let Some(given) = authority else {
        return Err(Problem::field(
            "authority",
            "is required: give purpose, case_number and officer of the question",
        ));
    };
    let pb::Authority { purpose, case_number, officer } = given;
    let checked = Authority::new(purpose, case_number, officer);
    checked.map_err(|first| {
        // The constructor stops at the first bad part; try each beside good ones to tell them all.
        let mut wrong = Violations::default();
        for (field, alone) in [
            ("authority.purpose", Authority::new(purpose, "-", "-")),
            ("authority.case_number", Authority::new("-", case_number, "-")),
            ("authority.officer", Authority::new("-", "-", officer)),
        ] {
            wrong.take(field, alone);
        }
        wrong.done().err().unwrap_or_else(|| first.into())
    })
}

/// Splits `COLLECTION/ID`.
fn id_of<'a>(
    what: &'static str,
    collection: &'static str,
    name: &'a str,
) -> Result<&'a str, InvalidValue> {
    name.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/')).ok_or_else(|| {
        InvalidValue::new(what, name, format!("write it as {collection}/ID, as answers do"))
    })
}

/// The id in `cameras/ID`.
pub(crate) fn camera_id(name: &str) -> Result<CameraId, InvalidValue> {
    CameraId::new(id_of("camera name", "cameras", name)?)
}

/// The id in `sightings/ID`.
pub(crate) fn sighting_id(name: &str) -> Result<SightingId, InvalidValue> {
    id_of("sighting name", "sightings", name)?.parse()
}

/// The id in `watchlistEntries/ID`.
pub(crate) fn watch_entry_id(name: &str) -> Result<WatchEntryId, InvalidValue> {
    WatchEntryId::new(id_of("watch-list entry name", "watchlistEntries", name)?)
}

/// The id in `patrolUnits/ID`.
pub(crate) fn patrol_unit_id(name: &str) -> Result<PatrolUnitId, InvalidValue> {
    PatrolUnitId::new(id_of("patrol unit name", "patrolUnits", name)?)
}

/// The id in `alerts/SIGHTING.ENTRY`.
pub(crate) fn alert_id(name: &str) -> Result<AlertId, InvalidValue> {
    let id = id_of("alert name", "alerts", name)?;
    let (sighting, entry) = id.split_once('.').ok_or_else(|| {
        InvalidValue::new("alert name", name, "write it as alerts/SIGHTING.ENTRY, as alerts do")
    })?;
    Ok(AlertId { sighting: sighting.parse()?, entry: entry.parse()? })
}

/// How many answers a page has: 0 means 100, at most 1000.
pub(crate) fn page_size(asked: i32) -> Result<usize, InvalidValue> {
    const DEFAULT: usize = 100;
    const MAX: usize = 1000;
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT),
        Ok(n) if n <= MAX => Ok(n),
        _ => Err(InvalidValue::new("size", asked, "use 1 to 1000, or 0 for 100")),
    }
}
