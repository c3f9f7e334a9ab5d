//! Messages as JSON, by protobuf's own mapping (lowerCamelCase names, RFC 3339 times, enum names, 64-bit numbers as
//! strings): what `grpcurl` prints too.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _, SerializeOptions};

use crate::pb;

/// A message of `guiji.v1`.
pub trait JsonMessage: Message + Name {}

impl<M: Message + Name> JsonMessage for M {}

/// Why a message could not be written as JSON: a programming error, since every message of [`pb`] has a form.
#[derive(Debug, thiserror::Error)]
#[error("write {message} as JSON: {reason}")]
pub struct JsonError {
    message: String,
    reason: String,
}

/// A message as one line of JSON. Fields that are absent, empty or zero are left out.
///
/// # Errors
/// When the message is not one of [`pb`], or a time in it is outside what JSON's mapping allows.
pub fn to_json<M: JsonMessage>(message: &M) -> Result<String, JsonError> {
    dynamic_to_json(&dynamic_of(message)?)
}

/// A message whose fields can be gone through.
pub(crate) fn dynamic_of<M: JsonMessage>(message: &M) -> Result<DynamicMessage, JsonError> {
    let wrong = |reason: String| JsonError { message: M::full_name(), reason };
    let pool = descriptors().as_ref().map_err(|reason| wrong(reason.clone()))?;
    let descriptor = pool
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| wrong("it is not part of the contract".into()))?;
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| wrong(error.to_string()))
}

/// As [`to_json`].
pub(crate) fn dynamic_to_json(dynamic: &DynamicMessage) -> Result<String, JsonError> {
    let name = || dynamic.descriptor().full_name().to_owned();
    let wrong = |reason: String| JsonError { message: name(), reason };
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    dynamic
        .serialize_with_options(&mut serializer, &SerializeOptions::new())
        .map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(line).map_err(|error| wrong(error.to_string()))
}

/// An alert as [`to_json`] writes its message.
///
/// # Errors
/// When a time in it is outside what JSON's mapping allows.
pub fn alert_to_json(alert: &guiji_domain::Alert) -> Result<String, JsonError> {
    to_json(&crate::convert::alert_to_pb(alert))
}

/// The calls that answer with a stream, `Service/Method`: each leaves a record when it opens and one when it ends.
pub fn streaming_calls() -> BTreeSet<String> {
    let pool = descriptors().as_ref().ok();
    let services = pool.into_iter().flat_map(DescriptorPool::services);
    let methods = services.flat_map(|service| {
        let name = service.name().to_owned();
        let streams = service.methods().filter(|method| method.is_server_streaming());
        streams.map(|method| format!("{name}/{}", method.name())).collect::<Vec<_>>()
    });
    methods.collect()
}

/// Parsed once: some milliseconds.
fn descriptors() -> &'static Result<DescriptorPool, String> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_lines() {
        let alert = pb::Alert {
            name: "alerts/1.w".into(),
            cursor: 7,
            stage: pb::AlertStage::Confirmed.into(),
            raise_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5_000_000 }),
            plate: "浙J12345".into(),
            target: Some(pb::alert::Target::TargetPlatePattern("浙J*".into())),
            probability: 0.5,
            ..Default::default()
        };
        assert_eq!(
            to_json(&alert).unwrap(),
            "{\"name\":\"alerts/1.w\",\"cursor\":\"7\",\"stage\":\"ALERT_STAGE_CONFIRMED\",\
             \"raiseTime\":\"2027-01-15T08:00:00.005Z\",\"plate\":\"浙J12345\",\
             \"targetPlatePattern\":\"浙J*\",\"probability\":0.5}"
        );
        assert_eq!(to_json(&pb::Trajectory::default()).unwrap(), "{}");
    }
}
