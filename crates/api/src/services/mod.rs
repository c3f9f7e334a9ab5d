//! The services: each method checks its request, asks the parts and turns the answer into messages.

mod acknowledge;
mod alert;
mod audit;
mod camera;
mod correction;
mod coverage;
mod evidence;
mod forecast;
mod import;
mod import_context;
mod likely;
mod patrol;
mod release;
mod sighting;
mod tactics;
mod trajectory;
mod watchlist;

use std::sync::Arc;

use guiji_domain::People;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::call::Core;
use crate::pb;
use crate::violations::Violations;

pub(crate) use evidence::checked as checked_export;
pub(crate) use likely::Question as LikelyQuestion;
pub(crate) use release::release_from_pb as checked_release;
pub(crate) use trajectory::{Question as TrajectoryQuestion, Told};

/// What shall become of people in pictures; `None` where the request does not say.
fn people_from_pb(wrong: &mut Violations, people: i32) -> Option<People> {
    match pb::PeopleInPictures::try_from(people) {
        Ok(pb::PeopleInPictures::Shown) => Some(People::Shown),
        Ok(pb::PeopleInPictures::Blurred) => Some(People::Blurred),
        Ok(pb::PeopleInPictures::Unspecified) => None,
        Err(_) => {
            wrong.add("people", format!("is {people}, which is no value: use blurred or shown"));
            None
        }
    }
}

/// The answer of a unary method.
type Answer<T> = Result<Response<T>, Status>;
/// The messages of a streaming method.
type Messages<T> = ReceiverStream<Result<T, Status>>;

/// Implements every service over what they share.
#[derive(Clone)]
pub(crate) struct Services {
    core: Arc<Core>,
}

impl Services {
    pub(crate) fn new(core: Core) -> Self {
        Self { core: Arc::new(core) }
    }
}
