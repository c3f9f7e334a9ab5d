use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use guiji_domain::{CameraId, GeoArea, PlateText, Release, SightingQuery, TimeSpan, Timestamp};

use super::{Caller, Role};
use crate::ApiParts;
use crate::error::Problem;

/// Where somebody may look.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scope {
    Everywhere,
    /// At these cameras.
    Cameras(Arc<HashSet<CameraId>>),
    /// At registered cameras that stand here.
    Area(GeoArea),
}

/// How old data may be for everybody: older needs a supervisor, or one's release.
const FRESH: Duration = Duration::from_secs(90 * 86_400);

/// What of the data a caller may see, from which places and since when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reach {
    scope: Scope,
    since: Option<Timestamp>,
    /// Plates of which older data may be seen too.
    released: Vec<PlateText>,
}

/// A reach over the cameras as they are registered now.
#[derive(Debug)]
pub(crate) struct View {
    cameras: Option<HashSet<CameraId>>,
    since: Option<Timestamp>,
}

impl Reach {
    /// What this caller may see at this time, with the releases that cover them.
    pub(crate) fn of(caller: &Caller, now: Timestamp, releases: &[Release]) -> Self {
        let Caller::Known(identity) = caller else {
            return Self { scope: Scope::Everywhere, since: None, released: Vec::new() };
        };
        let old_too = identity.role == Role::Supervisor
            || identity.old_data_released_by.is_some()
            || releases.iter().any(|release| release.plate.is_none());
        Self {
            scope: identity.scope.clone(),
            since: (!old_too).then(|| now.minus(FRESH)),
            released: releases.iter().filter_map(|release| release.plate.clone()).collect(),
        }
    }

    /// The reach of a question about one plate.
    pub(crate) fn for_plate(&self, plate: Option<&PlateText>) -> Self {
        let released = plate.is_some_and(|plate| self.released.contains(plate));
        Self { since: self.since.filter(|_| !released), ..self.clone() }
    }

    /// The cameras that there are; blocking.
    pub(crate) fn view(&self, parts: &ApiParts) -> View {
        let cameras = match &self.scope {
            Scope::Everywhere => None,
            Scope::Cameras(ids) => Some((**ids).clone()),
            Scope::Area(area) => {
                let registered = parts.cameras.list().into_iter().map(|(camera, _)| camera);
                let inside = registered.filter(|camera| area.contains(&camera.position));
                Some(inside.map(|camera| camera.id).collect())
            }
        };
        View { cameras, since: self.since }
    }

    /// The part of a time that may be seen. What was asked for by name and may not be seen is refused, so that an
    /// answer is never silently less than the question; what was left open begins where the reach does.
    pub(crate) fn span(&self, field: &str, asked: TimeSpan) -> Result<TimeSpan, Problem> {
        let Some(since) = self.since else { return Ok(asked) };
        if asked.first() >= since {
            return Ok(asked);
        }
        if asked.first() != TimeSpan::ALL.first() {
            return Err(too_old(&format!("{field}start_time"), since));
        }
        TimeSpan::new(since, asked.last()).map_err(|_| too_old(&format!("{field}end_time"), since))
    }
}

impl View {
    /// Whether every camera may be looked at.
    pub(crate) fn sees_every_camera(&self) -> bool {
        self.cameras.is_none()
    }

    /// The cameras that may be looked at; `None` for every one.
    pub(crate) fn cameras(&self) -> Option<Vec<CameraId>> {
        self.cameras.as_ref().map(|cameras| cameras.iter().cloned().collect())
    }

    /// Since when sightings may be seen; `None` for always.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Whether a camera may be looked at.
    pub(crate) fn sees_camera(&self, camera: &CameraId) -> bool {
        self.cameras.as_ref().is_none_or(|cameras| cameras.contains(camera))
    }

    /// Whether what a camera saw at a time may be seen.
    pub(crate) fn sees(&self, camera: &CameraId, at: Timestamp) -> bool {
        self.sees_camera(camera) && self.since.is_none_or(|since| at >= since)
    }

    /// Refuses what may not be seen.
    pub(crate) fn check(&self, camera: &CameraId, at: Timestamp) -> Result<(), Problem> {
        self.check_camera(camera)?;
        match self.since {
            Some(since) if at < since => Err(too_old("capture", since)),
            _ => Ok(()),
        }
    }

    /// Refuses a camera that may not be looked at.
    pub(crate) fn check_camera(&self, camera: &CameraId) -> Result<(), Problem> {
        if self.sees_camera(camera) {
            return Ok(());
        }
        Err(Problem::Forbidden {
            reason: "OUTSIDE_SCOPE",
            message: format!("cameras/{camera} is outside the scope of your token"),
        })
    }

    /// Narrows a query to what may be seen. Cameras that the request listed are checked before.
    pub(crate) fn narrow(&self, mut query: SightingQuery) -> SightingQuery {
        if let Some(seen) = &self.cameras {
            query.cameras = Some(match query.cameras {
                Some(wanted) => wanted.into_iter().filter(|id| seen.contains(id)).collect(),
                None => seen.iter().cloned().collect(),
            });
        }
        query
    }
}

fn too_old(what: &str, since: Timestamp) -> Problem {
    Problem::Forbidden {
        reason: "DATA_TOO_OLD",
        message: format!(
            "{what} lies before {since}: data older than 90 days needs a supervisor's release for the officer, the \
             case and the plate (ReleaseService), or a supervisor"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Identity;

    fn reach(role: Role, release: Option<&str>) -> Reach {
        let identity = Identity {
            subject: "wang".into(),
            role,
            scope: Scope::Everywhere,
            old_data_released_by: release.map(str::to_owned),
            people_shown_by: None,
            token_id: None,
            expires: Timestamp::from_secs(1),
        };
        Reach::of(&Caller::Known(Arc::new(identity)), day(100), &[])
    }

    fn day(n: i64) -> Timestamp {
        Timestamp::from_secs(n * 86_400)
    }

    #[test]
    fn old_data_is_for_supervisors_and_by_release() {
        let old = TimeSpan::new(day(9), day(50)).unwrap();
        for (role, release, may) in [
            (Role::Analyst, None, false),
            (Role::Patrol, None, false),
            (Role::Integrator, None, false),
            (Role::Admin, None, false),
            (Role::Supervisor, None, true),
            (Role::Analyst, Some("li"), true),
        ] {
            assert_eq!(reach(role, release).span("", old).is_ok(), may, "{role} {release:?}");
        }
    }

    #[test]
    fn an_open_beginning_begins_with_the_reach_and_an_old_one_is_refused() {
        let reach = reach(Role::Analyst, None);
        let span = |first, last| reach.span("filter.", TimeSpan::new(first, last).unwrap());
        let (begin, end) = (TimeSpan::ALL.first(), TimeSpan::ALL.last());
        assert_eq!(span(begin, end).unwrap().first(), day(10));
        assert_eq!(span(day(10), end).unwrap().first(), day(10));
        assert_eq!(span(day(11), day(12)).unwrap().first(), day(11));
        for (first, last, field) in [
            (Timestamp::from_nanos(day(10).as_nanos() - 1), end, "filter.start_time"),
            (begin, day(9), "filter.end_time"),
        ] {
            let Err(Problem::Forbidden { reason, message }) = span(first, last) else {
                panic!("taken")
            };
            assert_eq!(reason, "DATA_TOO_OLD");
            assert!(message.contains(field), "{message}");
        }
    }

    #[test]
    fn a_query_is_narrowed_to_the_cameras_that_may_be_seen() {
        let id = |id| CameraId::new(id).unwrap();
        let view = View { cameras: Some([id("k1"), id("k2")].into()), since: Some(day(10)) };
        let query = |cameras| SightingQuery { cameras, ..SightingQuery::all_in(TimeSpan::ALL, 1) };
        let narrowed = |cameras| {
            view.narrow(query(cameras)).cameras.map(|mut ids| {
                ids.sort();
                ids
            })
        };
        assert_eq!(narrowed(None), Some(vec![id("k1"), id("k2")]));
        assert_eq!(narrowed(Some(vec![id("k2"), id("k3")])), Some(vec![id("k2")]));
        assert!(view.check(&id("k1"), day(10)).is_ok());
        assert!(view.check(&id("k3"), day(10)).is_err());
        assert!(view.check(&id("k1"), day(9)).is_err());
        assert!(view.sees(&id("k1"), day(10)) && !view.sees(&id("k1"), day(9)));
    }
}
