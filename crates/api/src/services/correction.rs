use guiji_domain::{Authority, Correction};
use tonic::{Request, async_trait};

use super::sighting::find;
use super::trajectory::whole_plate;
use super::{Answer, Services};
use crate::ApiParts;
use crate::auth::Method;
use crate::call::{Call, CallKind};
use crate::convert::{View, correction_to_pb, sighting_to_pb};
use crate::corrected;
use crate::error::Problem;
use crate::pb;
use crate::violations::{Violations, sighting_id};

#[async_trait]
impl pb::correction_service_server::CorrectionService for Services {
    async fn correct_sighting(
        &self,
        request: Request<pb::CorrectSightingRequest>,
    ) -> Answer<pb::CorrectSightingResponse> {
        let mut call = Call::new(&self.core, Method::CorrectSighting, &request);
        let answer = self.correct(&mut call, request.into_inner()).await;
        call.end(answer).await
    }
}

impl Services {
    async fn correct(
        &self,
        call: &mut Call,
        request: pb::CorrectSightingRequest,
    ) -> Result<pb::CorrectSightingResponse, Problem> {
        let authority: Authority = call.admit(CallKind::Unary, request.authority.as_ref())?;
        let mut wrong = Violations::default();
        let id = wrong.take("name", sighting_id(&request.name));
        let plate = wrong.take("plate", whole_plate(&request.plate));
        let reason = request.reason.trim();
        if reason.is_empty() {
            wrong.add(
                "reason",
                "is required: say how the plate is known, like \"read from the frame\"",
            );
        }
        wrong.check_text("reason", reason, Correction::TEXT_CHARS_MAX);
        wrong.done()?;
        let (Some(sighting), Some(plate)) = (id, plate) else {
            return Err(Problem::field("name", "is required"));
        };
        call.asks(format!("sighting {sighting} is {plate}: {reason}"));
        let correction = Correction {
            sighting,
            plate,
            at: self.core.parts.clock.now(),
            officer: authority.officer().to_owned(),
            case_number: authority.case_number().to_owned(),
            reason: reason.to_owned(),
        };
        let reach = call.reach();
        let corrected = move |parts: &ApiParts| {
            let found = find(parts, &reach, sighting)?;
            if !corrected::can_be_corrected(&found) {
                let fix = "is provisional: its plate is not settled yet, try again in a minute";
                return Err(Problem::field("name", fix));
            }
            parts.corrections.correct(&correction)?;
            let mut found = sighting_to_pb(&found, View::Full);
            corrected::annotate(parts, [&mut found])?;
            let correction =
                found.corrections.last().cloned().unwrap_or_else(|| correction_to_pb(&correction));
            Ok(pb::CorrectSightingResponse { sighting: Some(found), correction: Some(correction) })
        };
        let answer = self.core.blocking("correct a sighting", corrected).await?;
        call.found(1);
        Ok(answer)
    }
}
