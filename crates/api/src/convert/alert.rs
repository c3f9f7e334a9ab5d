use guiji_domain::{Alert, Delivery, WatchTarget};

use super::{Word, capture_to_pb, timestamp_to_pb};
use crate::pb;

pub(crate) fn alert_to_pb(alert: &Alert) -> pb::Alert {
    use pb::alert::Target;
    pb::Alert {
        name: format!("alerts/{}", alert.id),
        cursor: alert.cursor,
        stage: alert.stage.to_pb(),
        raise_time: Some(timestamp_to_pb(alert.raised)),
        sighting: format!("sightings/{}", alert.sighting()),
        watchlist_entry: format!("watchlistEntries/{}", alert.id.entry),
        camera: format!("cameras/{}", alert.camera),
        capture: Some(capture_to_pb(&alert.captured)),
        plate: alert.read.as_ref().map_or_else(String::new, |read| read.as_str().to_owned()),
        target: Some(match &alert.target {
            WatchTarget::Plate(plate) => Target::TargetPlate(plate.as_str().to_owned()),
            WatchTarget::Pattern(pattern) => {
                Target::TargetPlatePattern(pattern.as_str().to_owned())
            }
            WatchTarget::Description => Target::TargetAnyPlate(pb::AnyPlate {}),
        }),
        case_number: alert.case_number.clone(),
        probability: alert.probability,
        forecast: None,
        repeat_of: alert
            .repeat
            .as_ref()
            .map_or_else(String::new, |repeat| format!("alerts/{}", repeat.of)),
        repeat_number: alert.repeat.as_ref().map_or(0, |repeat| repeat.number),
        patrol_units: alert.units.iter().map(|unit| format!("patrolUnits/{unit}")).collect(),
        acknowledgement: alert.acknowledgement.as_ref().map(|given| pb::Acknowledgement {
            officer: given.officer.clone(),
            patrol_unit: given
                .unit
                .as_ref()
                .map_or_else(String::new, |unit| format!("patrolUnits/{unit}")),
            note: given.note.clone(),
        }),
    }
}

pub(crate) fn delivery_to_pb(proof: &Delivery) -> pb::Delivery {
    pb::Delivery {
        receiver: proof.receiver.to_string(),
        stage: proof.stage.to_pb(),
        cursor: proof.cursor,
        deliver_time: Some(timestamp_to_pb(proof.delivered)),
        tries: proof.tries,
        message_sha256: proof.message.to_string(),
        answer: proof.answer.clone(),
    }
}
