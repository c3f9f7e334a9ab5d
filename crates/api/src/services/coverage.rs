use std::time::Duration;

use guiji_domain::{Covered, Timestamp};

use super::Services;
use super::camera::find;
use crate::ApiParts;
use crate::call::{Call, CallKind};
use crate::convert::span_from_pb;
use crate::error::Problem;
use crate::page_token::{PageScope, garbled_place};
use crate::pb;
use crate::violations::{Violations, camera_id, page_size};

/// Longest time that a call asks about.
const SPAN_MAX: Duration = Duration::from_secs(400 * 86_400);

impl Services {
    pub(super) async fn list_coverage(
        &self,
        call: &mut Call,
        request: pb::ListCoverageRequest,
    ) -> Result<pb::ListCoverageResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let camera = wrong.take("camera", camera_id(&request.camera));
        let (start, end) = (request.start_time.as_ref(), request.end_time.as_ref());
        wrong.require("start_time", start);
        wrong.require("end_time", end);
        let span = span_from_pb(&mut wrong, "", start, end);
        if start.is_some() && end.is_some() && span.last().since(span.first()) > SPAN_MAX {
            wrong.add("end_time", "is more than 400 days after start_time: ask for less");
        }
        let question = pb::ListCoverageRequest {
            authority: None,
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let scope = PageScope::of("coverage", &question);
        let limit = wrong.take("page_size", page_size(request.page_size)).unwrap_or_default();
        let token = &request.page_token;
        let place = wrong.take("page_token", scope.open(token)).flatten();
        let place = place.and_then(|bytes| {
            let place = <[u8; 4]>::try_from(bytes).map_err(|_| garbled_place(token));
            wrong.take("page_token", place.map(u32::from_be_bytes))
        });
        wrong.done()?;
        let camera = camera.ok_or_else(|| Problem::field("camera", "is required"))?;
        let reach = call.reach();
        let span = reach.span("", span)?;
        call.asks(format!("{camera}, from {} to {}", span.first(), span.last()));
        let history = move |parts: &ApiParts| {
            reach.view(parts).check_camera(&camera)?;
            find(parts, &camera)?;
            Ok(parts.coverage.coverage(&[camera], span)?)
        };
        let history = self.core.blocking("list coverage", history).await?;
        // The place is a number of intervals: those of the past stay as they are, new ones come at the end.
        let skipped = place.map_or(0, |place| usize::try_from(place).unwrap_or(usize::MAX));
        let coverage: Vec<pb::Coverage> =
            history.iter().skip(skipped).take(limit).map(Into::into).collect();
        let next = skipped.saturating_add(coverage.len());
        let next = u32::try_from(next).ok().filter(|_| next < history.len());
        let covered = Covered::of(&history, span);
        let ratio = |nanos: u64| nanos as f64 / length(span.first(), span.last());
        let (seeing_ratio, blind_ratio) = (ratio(covered.seeing_ns), ratio(covered.blind_ns));
        call.found(coverage.len());
        Ok(pb::ListCoverageResponse {
            coverage,
            next_page_token: next.map_or_else(String::new, |next| scope.seal(&next.to_be_bytes())),
            seeing_ratio,
            blind_ratio,
            unknown_ratio: (1.0 - seeing_ratio - blind_ratio).max(0.0),
        })
    }
}

/// Nanoseconds, at least one: an instant is in one state too, and divides nothing by nothing.
fn length(first: Timestamp, last: Timestamp) -> f64 {
    (last.since(first).as_nanos() as f64).max(1.0)
}
