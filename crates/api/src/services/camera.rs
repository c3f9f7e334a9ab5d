use std::time::Duration;

use guiji_domain::{Camera, CameraHealth, CameraId, InvalidValue, Opening};
use tonic::{Request, async_trait};

use super::{Answer, Services};
use crate::ApiParts;
use crate::auth::Method;
use crate::call::{Call, CallKind};
use crate::convert::{camera_from_pb, camera_to_pb, changed_camera, duration_from_pb};
use crate::error::Problem;
use crate::page_token::{PageScope, garbled_place};
use crate::pb;
use crate::violations::{Violations, camera_id, page_size};

#[async_trait]
impl pb::camera_service_server::CameraService for Services {
    async fn list_cameras(
        &self,
        request: Request<pb::ListCamerasRequest>,
    ) -> Answer<pb::ListCamerasResponse> {
        let mut call = Call::new(&self.core, Method::ListCameras, &request);
        let answer = self.list_cameras(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn get_camera(
        &self,
        request: Request<pb::GetCameraRequest>,
    ) -> Answer<pb::GetCameraResponse> {
        let mut call = Call::new(&self.core, Method::GetCamera, &request);
        let answer = self.get_camera(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn create_camera(
        &self,
        request: Request<pb::CreateCameraRequest>,
    ) -> Answer<pb::CreateCameraResponse> {
        let mut call = Call::new(&self.core, Method::CreateCamera, &request);
        let answer = self.create_camera(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn update_camera(
        &self,
        request: Request<pb::UpdateCameraRequest>,
    ) -> Answer<pb::UpdateCameraResponse> {
        let mut call = Call::new(&self.core, Method::UpdateCamera, &request);
        let answer = self.update_camera(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn open_camera(
        &self,
        request: Request<pb::OpenCameraRequest>,
    ) -> Answer<pb::OpenCameraResponse> {
        let mut call = Call::new(&self.core, Method::OpenCamera, &request);
        let answer = self.open_camera(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn list_coverage(
        &self,
        request: Request<pb::ListCoverageRequest>,
    ) -> Answer<pb::ListCoverageResponse> {
        let mut call = Call::new(&self.core, Method::ListCoverage, &request);
        let answer = self.list_coverage(&mut call, request.into_inner()).await;
        call.end(answer).await
    }

    async fn delete_camera(
        &self,
        request: Request<pb::DeleteCameraRequest>,
    ) -> Answer<pb::DeleteCameraResponse> {
        let mut call = Call::new(&self.core, Method::DeleteCamera, &request);
        let answer = self.delete_camera(&mut call, request.into_inner()).await;
        call.end(answer).await
    }
}

impl Services {
    async fn list_cameras(
        &self,
        call: &mut Call,
        request: pb::ListCamerasRequest,
    ) -> Result<pb::ListCamerasResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let scope = PageScope::of("cameras", &());
        let limit = wrong.take("page_size", page_size(request.page_size)).unwrap_or_default();
        let token = &request.page_token;
        let after = wrong.take("page_token", scope.open(token)).flatten();
        let after = after.and_then(|place| {
            let id = std::str::from_utf8(&place).ok().and_then(|id| CameraId::new(id).ok());
            wrong.take("page_token", id.ok_or_else(|| garbled_place(token)))
        });
        wrong.done()?;
        call.asks("all");
        let reach = call.reach();
        let seen = move |parts: &ApiParts| {
            let view = reach.view(parts);
            let mut all = parts.cameras.list();
            all.retain(|(camera, _)| view.sees_camera(&camera.id));
            Ok(all)
        };
        let all = self.core.blocking("list cameras", seen).await?;
        let mut rest = all.iter().filter(|(c, _)| after.as_ref().is_none_or(|after| c.id > *after));
        let cameras: Vec<_> = rest.by_ref().take(limit).collect();
        let last = cameras.last().filter(|_| rest.next().is_some());
        call.found(cameras.len());
        Ok(pb::ListCamerasResponse {
            next_page_token: last
                .map_or_else(String::new, |(camera, _)| scope.seal(camera.id.as_str().as_bytes())),
            cameras: cameras.iter().map(|(camera, health)| camera_to_pb(camera, health)).collect(),
        })
    }

    async fn get_camera(
        &self,
        call: &mut Call,
        request: pb::GetCameraRequest,
    ) -> Result<pb::GetCameraResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let id = name_of_camera(&request.name)?;
        call.asks(id.as_str());
        let reach = call.reach();
        let found = move |parts: &ApiParts| {
            reach.view(parts).check_camera(&id)?;
            find(parts, &id)
        };
        let found = self.core.blocking("get a camera", found).await?;
        call.found(1);
        Ok(pb::GetCameraResponse { camera: Some(camera_to_pb(&found.0, &found.1)) })
    }

    async fn create_camera(
        &self,
        call: &mut Call,
        request: pb::CreateCameraRequest,
    ) -> Result<pb::CreateCameraResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let files = self.core.settings.file_cameras;
        let camera = camera_from_pb(&request.camera_id, request.camera.as_ref(), files)?;
        call.asks(camera.id.as_str());
        let registered = move |parts: &ApiParts| {
            let id = camera.id.clone();
            parts.cameras.register(camera)?;
            find(parts, &id)
        };
        let (camera, health) = self.core.blocking("register a camera", registered).await?;
        call.found(1);
        Ok(pb::CreateCameraResponse { camera: Some(camera_to_pb(&camera, &health)) })
    }

    async fn update_camera(
        &self,
        call: &mut Call,
        request: pb::UpdateCameraRequest,
    ) -> Result<pb::UpdateCameraResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let given = request.camera.ok_or_else(|| Problem::field("camera", "is required"))?;
        let id = camera_id(&given.name)
            .map_err(|error| Problem::field("camera.name", error.to_string()))?;
        call.asks(id.as_str());
        let files = self.core.settings.file_cameras;
        let changed = move |parts: &ApiParts| {
            let (known, health) = find(parts, &id)?;
            if !given.etag.is_empty() && given.etag != camera_to_pb(&known, &health).etag {
                return Err(Problem::Changed { name: given.name });
            }
            let after = changed_camera(&known, &given, request.update_mask.as_ref(), files)?;
            let question = format!("{id}: {}", known.changes_to(&after));
            parts.cameras.update(&known, after)?;
            Ok((find(parts, &id)?, question))
        };
        let ((camera, health), question) = self.core.blocking("change a camera", changed).await?;
        call.asks(question);
        call.found(1);
        Ok(pb::UpdateCameraResponse { camera: Some(camera_to_pb(&camera, &health)) })
    }

    async fn open_camera(
        &self,
        call: &mut Call,
        request: pb::OpenCameraRequest,
    ) -> Result<pb::OpenCameraResponse, Problem> {
        let authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let id = name_of_camera(&request.name)?;
        let period = open_period(request.open_period.as_ref())
            .map_err(|error| Problem::field("open_period", error.to_string()))?;
        call.asks(format!("{id} for {} s", period.as_secs()));
        let (reach, by) = (call.reach(), authority.officer().to_owned());
        let opened = move |parts: &ApiParts| {
            reach.view(parts).check_camera(&id)?;
            let until = parts.clock.now().plus(period);
            parts.cameras.open_until(&id, Opening { until, by })?;
            find(parts, &id)
        };
        let (camera, health) = self.core.blocking("open a camera", opened).await?;
        call.found(1);
        Ok(pb::OpenCameraResponse { camera: Some(camera_to_pb(&camera, &health)) })
    }

    async fn delete_camera(
        &self,
        call: &mut Call,
        request: pb::DeleteCameraRequest,
    ) -> Result<pb::DeleteCameraResponse, Problem> {
        call.admit(CallKind::Unary, request.authority.as_ref())?;
        let id = name_of_camera(&request.name)?;
        call.asks(id.as_str());
        let removed = move |parts: &ApiParts| Ok(parts.cameras.remove(&id)?);
        self.core.blocking("remove a camera", removed).await?;
        call.found(1);
        Ok(pb::DeleteCameraResponse {})
    }
}

/// For how long a closed camera may be opened.
fn open_period(given: Option<&prost_types::Duration>) -> Result<Duration, InvalidValue> {
    const SHORTEST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(12 * 3600);
    let period = given.map(duration_from_pb).transpose()?;
    period.filter(|it| (SHORTEST..=LONGEST).contains(it)).ok_or_else(|| {
        let given = period.map_or_else(String::new, |it| format!("{} s", it.as_secs()));
        InvalidValue::new("open period", given, "is required: 10 seconds to 12 hours")
    })
}

fn name_of_camera(name: &str) -> Result<CameraId, Problem> {
    camera_id(name).map_err(|error| Problem::field("name", error.to_string()))
}

pub(super) fn find(parts: &ApiParts, id: &CameraId) -> Result<(Camera, CameraHealth), Problem> {
    parts
        .cameras
        .list()
        .into_iter()
        .find(|(camera, _)| camera.id == *id)
        .ok_or_else(|| Problem::NotFound { kind: "guiji.v1.Camera", name: format!("cameras/{id}") })
}
