//! Evidence that leaves the house, and what supervisors ask.

use super::{Client, ClientError, Messages, incomplete};
use crate::pb;
use crate::pb::audit_service_client::AuditServiceClient;
use crate::pb::evidence_service_client::EvidenceServiceClient;
use crate::pb::release_service_client::ReleaseServiceClient;

impl Client {
    /// A sealed bundle of evidence: a header, then bytes. The request's authority is filled in.
    ///
    /// # Errors
    /// What the server or the connection says. Only when the stream has ended well is the bundle whole.
    pub async fn export_evidence(
        &self,
        request: pb::ExportEvidenceRequest,
    ) -> Result<Messages<pb::ExportEvidenceResponse>, ClientError> {
        let request = pb::ExportEvidenceRequest { authority: self.authority(), ..request };
        let mut client = EvidenceServiceClient::new(self.channel.clone());
        Ok(client.export_evidence(request).await?.into_inner().into())
    }

    /// What a supervisor should ask about, looking back so many days.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn odd_patterns(&self, days: i32) -> Result<Vec<pb::OddPattern>, ClientError> {
        let request = pb::ListOddPatternsRequest { authority: self.authority(), days };
        let mut client = AuditServiceClient::new(self.channel.clone());
        Ok(client.list_odd_patterns(request).await?.into_inner().patterns)
    }

    /// Gives leave to see old data; the answer is the release as given.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn grant_release(&self, release: pb::Release) -> Result<pb::Release, ClientError> {
        let request =
            pb::GrantReleaseRequest { authority: self.authority(), release: Some(release) };
        let mut client = ReleaseServiceClient::new(self.channel.clone());
        let answer = client.grant_release(request).await?.into_inner();
        answer.release.ok_or_else(incomplete)
    }

    /// The releases that have not ended.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn releases(&self) -> Result<Vec<pb::Release>, ClientError> {
        let request = pb::ListReleasesRequest { authority: self.authority() };
        let mut client = ReleaseServiceClient::new(self.channel.clone());
        Ok(client.list_releases(request).await?.into_inner().releases)
    }

    /// Ends the release `releases/NUMBER`.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn revoke_release(&self, name: &str) -> Result<(), ClientError> {
        let request =
            pb::RevokeReleaseRequest { authority: self.authority(), name: name.to_owned() };
        let mut client = ReleaseServiceClient::new(self.channel.clone());
        client.revoke_release(request).await?;
        Ok(())
    }
}
