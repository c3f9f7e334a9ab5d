use guiji_domain::Correction;

use super::timestamp_to_pb;
use crate::pb;

pub(crate) fn correction_to_pb(correction: &Correction) -> pb::Correction {
    pb::Correction {
        plate: correction.plate.as_str().to_owned(),
        time: Some(timestamp_to_pb(correction.at)),
        officer: correction.officer.clone(),
        case_number: correction.case_number.clone(),
        reason: correction.reason.clone(),
    }
}
