//! What changes at a running camera, and what it could see.

use super::{Client, ClientError, incomplete};
use crate::pb;
use crate::pb::import_service_client::ImportServiceClient;

impl Client {
    /// Changes a camera, which its `name` says: the fields of the mask, or with none those that are not empty.
    ///
    /// # Errors
    /// What the server or the connection says; ABORTED when it was changed since its `etag`.
    pub async fn update_camera(
        &self,
        camera: pb::Camera,
        mask: &[&str],
    ) -> Result<pb::Camera, ClientError> {
        let paths: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
        let request = pb::UpdateCameraRequest {
            authority: self.authority(),
            camera: Some(camera),
            update_mask: (!paths.is_empty()).then_some(prost_types::FieldMask { paths }),
        };
        let answer = self.cameras_client().update_camera(request).await?.into_inner();
        answer.camera.ok_or_else(incomplete)
    }

    /// Says what `import_cameras` would do, and does nothing.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn check_cameras(
        &self,
        cameras: Vec<pb::Camera>,
    ) -> Result<pb::ImportCamerasResponse, ClientError> {
        let authority = self.authority();
        let request = pb::ImportCamerasRequest { authority, cameras, validate_only: true };
        let mut client = ImportServiceClient::new(self.channel.clone());
        Ok(client.import_cameras(request).await?.into_inner())
    }

    /// A page of what a camera could see. The request's authority is filled in.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn coverage(
        &self,
        request: pb::ListCoverageRequest,
    ) -> Result<pb::ListCoverageResponse, ClientError> {
        let request = pb::ListCoverageRequest { authority: self.authority(), ..request };
        Ok(self.cameras_client().list_coverage(request).await?.into_inner())
    }
}
