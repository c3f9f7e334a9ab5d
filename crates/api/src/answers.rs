use prost::Message as _;

use crate::auth::{Caller, Reach};
use crate::error::Problem;
use crate::network::NetworkCache;
use crate::services::{LikelyQuestion, TrajectoryQuestion};
use crate::{ApiError, ApiParts, pb};

/// What calls do between a request that was let in and an answer that leaves: what a server's share of a client's wait is,
/// without network and audit. For benchmarks.
pub struct Answers {
    parts: ApiParts,
    networks: NetworkCache,
}

impl Answers {
    /// From these parts, to somebody who may see everything.
    pub fn new(parts: ApiParts) -> Self {
        Self { parts, networks: NetworkCache::default() }
    }

    fn reach(&self) -> Reach {
        Reach::of(&Caller::Unnamed, self.parts.clock.now(), &[])
    }

    /// `SearchLikely`: the answer and its size on the wire. Blocking.
    ///
    /// # Errors
    /// When the call would be refused or fails.
    pub fn search_likely(
        &self,
        request: &pb::SearchLikelyRequest,
    ) -> Result<(pb::SearchLikelyResponse, usize), ApiError> {
        let answered = LikelyQuestion::from_pb(request)
            .and_then(|question| question.answer(&self.parts, &self.reach()));
        let answer = answered.map_err(unanswered)?;
        let bytes = answer.encode_to_vec().len();
        Ok((answer, bytes))
    }

    /// `GetTrajectory`: the answer and its size on the wire. Blocking.
    ///
    /// # Errors
    /// When the call would be refused or fails.
    pub fn get_trajectory(
        &self,
        request: &pb::GetTrajectoryRequest,
    ) -> Result<(pb::Trajectory, usize), ApiError> {
        let answered = TrajectoryQuestion::from_pb(request)
            .and_then(|question| question.answer(&self.parts, &self.reach(), &self.networks));
        let answer = answered.map_err(unanswered)?;
        let bytes = answer.encode_to_vec().len();
        Ok((answer, bytes))
    }
}

fn unanswered(problem: Problem) -> ApiError {
    ApiError::Unanswered(tonic::Status::from(problem).message().to_owned())
}
