//! What the questions have in common: pages, places, shares and durations.

use std::collections::HashSet;
use std::time::Duration;

use guiji_analysis::tactics::{CameraKey, Findings};
use guiji_domain::{CameraId, GeoArea};
use prost::Message;

use crate::ApiParts;
use crate::auth::Reach;
use crate::convert::{area_from_pb, duration_from_pb};
use crate::error::Problem;
use crate::filter::CAMERAS_MAX;
use crate::page_token::{PageScope, garbled_place};
use crate::passages::Seen;
use crate::pb;
use crate::violations::{Violations, camera_id, page_size};

/// A page of an answer that is worked out anew for each page: so many are skipped.
pub(super) struct Page {
    scope: PageScope,
    skip: usize,
    size: usize,
}

impl Page {
    /// Checks size and token. The question is the request without authority and page.
    pub(super) fn from_pb(
        wrong: &mut Violations,
        list: &str,
        question: &impl Message,
        size: i32,
        token: &str,
    ) -> Self {
        let scope = PageScope::of(list, question);
        let size = wrong.take("page_size", page_size(size)).unwrap_or(1);
        let place = wrong.take("page_token", scope.open(token)).flatten();
        let skip = place.and_then(|place| {
            let skip = <[u8; 4]>::try_from(place).map_err(|_| garbled_place(token));
            wrong.take("page_token", skip.map(u32::from_be_bytes))
        });
        Self { scope, skip: skip.unwrap_or(0) as usize, size }
    }

    /// With no more than so many on it.
    pub(super) fn of_at_most(self, size: usize) -> Self {
        Self { size: self.size.min(size), ..self }
    }

    /// How many findings this page and those before it have.
    pub(super) fn wanted(&self) -> usize {
        self.skip.saturating_add(self.size)
    }

    /// What is on this page of the first [`Self::wanted`] findings, and the token of the next.
    pub(super) fn cut<T>(&self, findings: Findings<T>) -> (Vec<T>, String) {
        let more = findings.cut > 0;
        (findings.found.into_iter().skip(self.skip).collect(), self.token(more))
    }

    /// What is on this page of all findings, and the token of the next.
    pub(super) fn slice<'a, T>(&self, all: &'a [T]) -> (&'a [T], String) {
        let from = self.skip.min(all.len());
        let to = self.wanted().min(all.len());
        (&all[from..to], self.token(to < all.len()))
    }

    fn token(&self, more: bool) -> String {
        let next = u32::try_from(self.wanted()).ok().filter(|_| more);
        next.map_or_else(String::new, |next| self.scope.seal(&next.to_be_bytes()))
    }
}

/// A choice of cameras, checked in itself.
#[derive(Debug, Clone)]
pub(super) struct Place {
    cameras: Vec<CameraId>,
    area: Option<GeoArea>,
}

impl Place {
    pub(super) fn from_pb(
        wrong: &mut Violations,
        field: &str,
        place: Option<&pb::CameraChoice>,
    ) -> Self {
        let Some(place) = place else { return Self { cameras: Vec::new(), area: None } };
        let names = |name: &String| camera_id(name);
        Self {
            cameras: wrong.take_list(
                &format!("{field}.cameras"),
                &place.cameras,
                CAMERAS_MAX,
                names,
            ),
            area: place
                .area
                .as_ref()
                .and_then(|area| area_from_pb(wrong, &format!("{field}.area"), area)),
        }
    }

    /// The cameras of the index. A camera that is neither registered nor in the index is a mistake, not a place at which
    /// nobody passed.
    pub(super) fn keys(
        &self,
        parts: &ApiParts,
        seen: &Seen,
        reach: &Reach,
        field: &str,
    ) -> Result<Vec<CameraKey>, Problem> {
        let (index, positions) = (&seen.index, &seen.learnt.positions);
        let view = reach.view(parts);
        for (i, camera) in self.cameras.iter().enumerate() {
            view.check_camera(camera)?;
            if index.camera(camera).is_none() && !positions.contains_key(camera) {
                let fix = "is neither registered nor in any passage: ListCameras has the names";
                return Err(Problem::field(
                    format!("{field}.cameras[{i}]"),
                    format!("camera {camera}: {fix}"),
                ));
            }
        }
        let listed: HashSet<_> = self.cameras.iter().collect();
        let wanted = |camera: &CameraId| {
            (listed.is_empty() || listed.contains(camera))
                && self.area.as_ref().is_none_or(|area| {
                    positions.get(camera).is_some_and(|place| area.contains(place))
                })
        };
        let cameras = index.camera_keys().zip(index.cameras());
        Ok(cameras.filter(|(_, id)| wanted(id)).map(|(key, _)| key).collect())
    }
}

/// A duration of a request, or what stands for its absence.
pub(super) fn duration_or(
    wrong: &mut Violations,
    field: &str,
    given: Option<&pb::Duration>,
    usual: Duration,
) -> Duration {
    given.and_then(|given| wrong.take(field, duration_from_pb(given))).unwrap_or(usual)
}

/// A share of a request, or what stands for its absence.
pub(super) fn share_or(wrong: &mut Violations, field: &str, given: Option<f64>, usual: f64) -> f64 {
    match given {
        Some(share) if share > 0.0 && share <= 1.0 => share,
        Some(_) => {
            wrong.add(field, "use a number above 0 and at most 1");
            usual
        }
        None => usual,
    }
}
