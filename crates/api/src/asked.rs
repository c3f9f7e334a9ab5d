//! A request as the audit keeps it: whole, but for what must not be kept.

use guiji_domain::PlatePattern;
use prost_reflect::{DynamicMessage, Value};

use crate::json::{JsonMessage, dynamic_of, dynamic_to_json};

/// What a request asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AskedRequest {
    /// The message as JSON, without its authority, which the audit has apart, and without passwords.
    pub(crate) json: String,
    /// The plates and patterns in it, in their normal form where they have one.
    pub(crate) plates: Vec<String>,
}

impl AskedRequest {
    /// Reads a message. One that cannot be read, which none of the contract is, leaves its reason.
    pub(crate) fn of<M: JsonMessage>(message: &M) -> Self {
        let mut dynamic = match dynamic_of(message) {
            Ok(dynamic) => dynamic,
            Err(error) => return Self { json: error.to_string(), plates: Vec::new() },
        };
        dynamic.clear_field_by_name("authority");
        let mut plates = Vec::new();
        walk(&mut dynamic, &mut plates);
        // A time outside what JSON can say is refused later, and its record says so.
        let json = dynamic_to_json(&dynamic).unwrap_or_else(|error| error.to_string());
        Self { json, plates }
    }
}

fn walk(message: &mut DynamicMessage, plates: &mut Vec<String>) {
    for (field, value) in message.fields_mut() {
        match value {
            Value::String(text) if field.name() == "password" => "hidden".clone_into(text),
            Value::String(text) if is_plate(field.name()) => add(text, plates),
            Value::Message(inner) => walk(inner, plates),
            Value::List(values) => {
                for value in values {
                    match value {
                        Value::Message(inner) => walk(inner, plates),
                        Value::String(text) if is_plate(field.name()) => add(text, plates),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a field of this name holds a plate or a pattern.
pub(crate) fn is_plate(name: &str) -> bool {
    name.split('_').any(|word| word == "plate" || word == "plates")
}

fn add(text: &str, plates: &mut Vec<String>) {
    let normal = PlatePattern::parse(text).map(|pattern| pattern.as_str().to_owned());
    // What is no plate is refused, and a person may want to see it: without blanks, which part the plates.
    let raw = || text.split_whitespace().collect::<String>().chars().take(64).collect();
    let plate = normal.unwrap_or_else(|_| raw());
    if !plate.is_empty() && !plates.contains(&plate) {
        plates.push(plate);
    }
}
