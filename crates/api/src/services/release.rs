use std::time::Duration;

use guiji_domain::{Authority, PatternTactic, Release};
use tonic::{Request, async_trait};

use super::trajectory::whole_plate;
use super::{Answer, Services};
use crate::ApiParts;
use crate::auth::Method;
use crate::call::{Call, CallKind};
use crate::convert::{Word as _, optional, timestamp_from_pb, timestamp_to_pb};
use crate::error::Problem;
use crate::pb;
use crate::violations::Violations;

/// Longest release of old data, days. The protos promise it.
const OLD_DATA_DAYS: u32 = 90;
/// Longest release of a tactic, days. The protos promise it.
const TACTIC_DAYS: u32 = 7;
const DAY: Duration = Duration::from_secs(86_400);
const TEXT_CHARS_MAX: usize = 200;

#[async_trait]
impl pb::release_service_server::ReleaseService for Services {
    async fn grant_release(
        &self,
        request: Request<pb::GrantReleaseRequest>,
    ) -> Answer<pb::GrantReleaseResponse> {
        let mut call = Call::new(&self.core, Method::GrantRelease, &request);
        let answer = self.grant(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn list_releases(
        &self,
        request: Request<pb::ListReleasesRequest>,
    ) -> Answer<pb::ListReleasesResponse> {
        let mut call = Call::new(&self.core, Method::ListReleases, &request);
        let answer = self.list_releases(&mut call, &request.into_inner());
        call.end(answer).await
    }

    async fn revoke_release(
        &self,
        request: Request<pb::RevokeReleaseRequest>,
    ) -> Answer<pb::RevokeReleaseResponse> {
        let mut call = Call::new(&self.core, Method::RevokeRelease, &request);
        let answer = self.revoke(&mut call, request.into_inner()).await;
        call.end(answer).await
    }
}

impl Services {
    async fn grant(
        &self,
        call: &mut Call,
        request: pb::GrantReleaseRequest,
    ) -> Result<pb::GrantReleaseResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let now = self.core.parts.clock.now();
        let release = release_from_pb(request.release.as_ref(), &authority, now)?;
        let plate =
            release.plate.as_ref().map_or("any plate".into(), |plate| format!("plate {plate}"));
        let what = release.tactic.map_or("old data", PatternTactic::as_str);
        call.asks(format!(
            "{plate}, {what} for {} in case {} until {}",
            release.officer, release.case_number, release.expires
        ));
        let granted = move |parts: &ApiParts| {
            let number = parts.releases.grant(release.clone())?;
            Ok(Release { number, ..release })
        };
        let release = self.core.blocking("give a release", granted).await?;
        call.found(1);
        Ok(pb::GrantReleaseResponse { release: Some(release_to_pb(&release)) })
    }

    fn list_releases(
        &self,
        call: &mut Call,
        request: &pb::ListReleasesRequest,
    ) -> Result<pb::ListReleasesResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        call.asks("all");
        let releases = self.core.parts.releases.releases(self.core.parts.clock.now());
        call.found(releases.len());
        Ok(pb::ListReleasesResponse { releases: releases.iter().map(release_to_pb).collect() })
    }

    async fn revoke(
        &self,
        call: &mut Call,
        request: pb::RevokeReleaseRequest,
    ) -> Result<pb::RevokeReleaseResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let number = request.name.strip_prefix("releases/").and_then(|n| n.parse::<u64>().ok());
        let number = number.ok_or_else(|| {
            Problem::field("name", "write it as releases/NUMBER, as ListReleases does")
        })?;
        call.asks(request.name.as_str());
        let revoked = move |parts: &ApiParts| Ok(parts.releases.revoke(number)?);
        if !self.core.blocking("end a release", revoked).await? {
            return Err(Problem::NotFound { kind: "guiji.v1.Release", name: request.name });
        }
        call.found(1);
        Ok(pb::RevokeReleaseResponse {})
    }
}

pub(crate) fn release_from_pb(
    given: Option<&pb::Release>,
    authority: &Authority,
    now: guiji_domain::Timestamp,
) -> Result<Release, Problem> {
    let Some(given) = given else {
        return Err(Problem::field(
            "release",
            "is required: officer, case_number, reason, expire_time",
        ));
    };
    let mut wrong = Violations::default();
    for (field, text) in [
        ("release.officer", &given.officer),
        ("release.case_number", &given.case_number),
        ("release.reason", &given.reason),
    ] {
        if text.trim().is_empty() {
            wrong.add(field, format!("is required: 1 to {TEXT_CHARS_MAX} printable characters"));
        }
        wrong.check_text(field, text, TEXT_CHARS_MAX);
    }
    if given.officer.trim() == authority.officer() {
        wrong.add(
            "release.officer",
            "is yourself: leave is given by another supervisor than who looks",
        );
    }
    let plate = (!given.plate.is_empty())
        .then(|| wrong.take("release.plate", whole_plate(&given.plate)))
        .flatten();
    let tactic = wrong.take("release.tactic", PatternTactic::from_pb(given.tactic)).flatten();
    if tactic.is_some() && plate.is_some() {
        wrong.add("release.plate", "a tactic is released for all plates: leave the plate out");
    }
    let days = if tactic.is_some() { TACTIC_DAYS } else { OLD_DATA_DAYS };
    let expires = wrong
        .require("release.expire_time", given.expire_time.as_ref())
        .and_then(|time| wrong.take("release.expire_time", timestamp_from_pb(time)));
    if expires.is_some_and(|expires| expires <= now || expires > now.plus(DAY * days)) {
        wrong.add("release.expire_time", format!("must lie after now and within {days} days"));
    }
    wrong.done()?;
    Ok(Release {
        number: 0,
        officer: given.officer.trim().to_owned(),
        case_number: given.case_number.trim().to_owned(),
        plate,
        tactic,
        reason: given.reason.trim().to_owned(),
        granted_by: authority.officer().to_owned(),
        granted: now,
        expires: expires.unwrap_or(now),
    })
}

fn release_to_pb(release: &Release) -> pb::Release {
    pb::Release {
        name: format!("releases/{}", release.number),
        officer: release.officer.clone(),
        case_number: release.case_number.clone(),
        plate: release.plate.as_ref().map(|plate| plate.as_str().to_owned()).unwrap_or_default(),
        tactic: optional(release.tactic),
        reason: release.reason.clone(),
        granted_by: release.granted_by.clone(),
        grant_time: Some(timestamp_to_pb(release.granted)),
        expire_time: Some(timestamp_to_pb(release.expires)),
    }
}
