//! What a sighting has beyond the columns: its record in a block of details.
//!
//! Numbers and names as in `codec.rs`. Only final sightings come here, so that the stage is not said.
//! ```text
//! head      in the order of plates only: captured less the segment's first var, captured less the start of the id i64 as
//!           zigzag var, low half of the id u64, number of the camera var, traits u8
//! details   first - started i64 as zigzag var, last - first var, quality, plate, shares, direction, frames var,
//!           evidence count var, (kind u8, digest 32 bytes, size var, media type str, at i64, quality)...
//! quality   uncertainty seconds var, nanoseconds var, clock source u8
//! plate     0u8 not read | 1u8 unreadable | 2u8, kind u8, colour u8, rows u8, lattice, confidence f32, reads var
//! shares    f32 of the class, if there is one; f32 of the colour, if there is one
//! direction heading u8, then unless 255: 0u8 | 1u8, course f32
//! ```
//! Class, colour, text and camera are in columns, and but for the text in the head; the lattice is described in `probability.rs`. Everything but the
//! lattice is exact.

use std::time::Duration;

use guiji_domain::{
    CameraId, CaptureTime, ClockSource, Digest, Direction, Evidence, FusedPlate, PlateChar,
    PlateState, PlateText, Sighting, SightingId, SightingStage, TimeSpan, Timestamp, Vehicle,
    VehicleClass, VehicleColour,
};

use super::find::Key;
use super::plates::Chars;
use super::probability::{self, Doubts};
use super::read::id_from;
use crate::codec::{Malformed, Reader, Writer};
use crate::codes::{Coded, code_or_none};

/// What the columns say of a sighting.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Keys {
    pub(super) id: SightingId,
    pub(super) captured: Timestamp,
    pub(super) camera: CameraId,
    pub(super) plate: Option<(PlateText, Chars)>,
    pub(super) class: Option<VehicleClass>,
    pub(super) colour: Option<VehicleColour>,
}

/// What the columns say of a sighting but for its plate, where its record begins with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Head {
    pub(super) key: Key,
    pub(super) camera: u64,
    pub(super) traits: u64,
}

impl Head {
    /// `first`: the earliest capture time of the segment.
    pub(super) fn encode(&self, first: i64, out: &mut Writer) {
        let (captured, id) = self.key;
        // The distance of two i64 always fits a u64, and wraps to it.
        out.var(captured.wrapping_sub(first) as u64);
        out.var(zigzag(captured.wrapping_sub(id.started().as_nanos())));
        out.bytes(&(id.as_u128() as u64).to_le_bytes());
        out.var(self.camera);
        out.byte(self.traits as u8);
    }

    /// The head of a record, and the rest.
    pub(super) fn split(first: i64, record: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut input = Reader(record);
        let captured = first.wrapping_add(input.var()? as i64);
        let started = captured.wrapping_sub(unzigzag(input.var()?));
        let id = id_from(started, u64::from_le_bytes(input.array()?));
        let (camera, traits) = (input.var()?, u64::from(input.byte()?));
        Ok((Self { key: (captured, id), camera, traits }, input.0))
    }
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Puts down the record of a sighting; says how much other plates may have of it.
///
/// # Errors
/// When what was put down of the lattice is none.
pub(super) fn encode(sighting: &Sighting, out: &mut Writer) -> Result<Doubts, Malformed> {
    let mut doubts = Doubts::NONE;
    let (first, last) = (sighting.span.first().as_nanos(), sighting.span.last().as_nanos());
    out.var(zigzag(first.wrapping_sub(sighting.id.started().as_nanos())));
    // The distance of two i64 always fits a u64, and wraps to it.
    out.var(last.wrapping_sub(first) as u64);
    encode_quality(&sighting.captured, out);
    match &sighting.plate {
        PlateState::NotRead => out.byte(0),
        PlateState::Unreadable => out.byte(1),
        PlateState::Read(plate) => {
            out.byte(READ);
            out.byte(code_or_none(plate.kind));
            out.byte(code_or_none(plate.colour));
            out.byte(plate.rows.code());
            let chars: Chars = plate.text.chars().collect();
            let start = out.0.len();
            probability::encode(&plate.lattice, &chars, out);
            doubts = probability::doubts(&mut Reader(&out.0[start..]), &chars)?;
            out.f32(plate.confidence);
            out.var(u64::from(plate.reads));
        }
    }
    let shares = [
        sighting.vehicle.class.map(|(_, share)| share),
        sighting.vehicle.colour.map(|(_, share)| share),
    ];
    shares.into_iter().flatten().for_each(|share| out.f32(share));
    out.byte(code_or_none(sighting.direction.map(|d| d.heading)));
    if let Some(direction) = &sighting.direction {
        out.byte(u8::from(direction.course_deg.is_some()));
        if let Some(course) = direction.course_deg {
            out.f32(course);
        }
    }
    out.var(u64::from(sighting.frames));
    out.var(sighting.evidence.len() as u64);
    for evidence in &sighting.evidence {
        out.byte(evidence.kind.code());
        out.bytes(&evidence.digest.0);
        out.var(u64::from(evidence.bytes));
        out.str(&evidence.media_type);
        out.i64(evidence.captured.at.as_nanos());
        encode_quality(&evidence.captured, out);
    }
    Ok(doubts)
}

/// What the lattice of a record whose plate was read says of a text, and nothing else of it.
pub(super) fn probability_of(
    text: &[PlateChar],
    sought: &[PlateChar],
    bytes: &[u8],
) -> Result<f32, Malformed> {
    probability::probability_of(&mut lattice_of(bytes)?, text, sought)
}

/// The doubts of a record whose plate was read.
pub(super) fn doubts(text: &[PlateChar], bytes: &[u8]) -> Result<Doubts, Malformed> {
    probability::doubts(&mut lattice_of(bytes)?, text)
}

/// A record from its lattice on.
fn lattice_of(bytes: &[u8]) -> Result<Reader<'_>, Malformed> {
    let mut input = Reader(bytes);
    let (_first, _length) = (input.var()?, input.var()?);
    decode_quality(&mut input)?;
    let (state, _kind_colour_rows) = (input.byte()?, input.array::<3>()?);
    if state == READ { Ok(input) } else { Err(Malformed("plate state")) }
}

/// The state of a plate that was read.
const READ: u8 = 2;

pub(super) fn decode(keys: Keys, bytes: &[u8]) -> Result<Sighting, Malformed> {
    let mut input = Reader(bytes);
    let started = keys.id.started().as_nanos();
    let first = Timestamp::from_nanos(started.wrapping_add(unzigzag(input.var()?)));
    let last = Timestamp::from_nanos(first.as_nanos().wrapping_add(input.var()? as i64));
    let span = TimeSpan::new(first, last).map_err(|_| Malformed("span"))?;
    let (uncertainty, source) = decode_quality(&mut input)?;
    let captured = CaptureTime { at: keys.captured, uncertainty, source };
    let plate = match (input.byte()?, keys.plate) {
        (0, None) => PlateState::NotRead,
        (1, None) => PlateState::Unreadable,
        (READ, Some((text, chars))) => PlateState::Read(FusedPlate {
            kind: input.optional("plate kind")?,
            colour: input.optional("plate colour")?,
            rows: input.coded("plate rows")?,
            lattice: probability::decode(&mut input, &chars)?,
            confidence: input.f32()?,
            reads: input.var_u32("read count")?,
            text,
        }),
        _ => return Err(Malformed("plate state")),
    };
    let class = keys.class.map(|class| Ok((class, input.f32()?))).transpose()?;
    let colour = keys.colour.map(|colour| Ok((colour, input.f32()?))).transpose()?;
    let direction = match input.optional("heading")? {
        None => None,
        Some(heading) => {
            let course_deg = match input.byte()? {
                0 => None,
                1 => Some(input.f32()?),
                _ => return Err(Malformed("course")),
            };
            Some(Direction { heading, course_deg })
        }
    };
    let frames = input.var_u32("frame count")?;
    let mut evidence = Vec::new();
    // The count is not trusted: each turn needs bytes that must be there.
    for _ in 0..input.var()? {
        let kind = input.coded("evidence kind")?;
        let digest = Digest(input.array()?);
        let bytes = input.var_u32("evidence size")?;
        let media_type = input.str()?.to_owned();
        let at = Timestamp::from_nanos(input.i64()?);
        let (uncertainty, source) = decode_quality(&mut input)?;
        let captured = CaptureTime { at, uncertainty, source };
        evidence.push(Evidence { kind, digest, bytes, media_type, captured });
    }
    input.end()?;
    Ok(Sighting {
        id: keys.id,
        stage: SightingStage::Final,
        camera: keys.camera,
        span,
        captured,
        plate,
        vehicle: Vehicle { class, colour },
        direction,
        frames,
        evidence,
    })
}

fn encode_quality(time: &CaptureTime, out: &mut Writer) {
    out.var(time.uncertainty.as_secs());
    out.var(u64::from(time.uncertainty.subsec_nanos()));
    out.byte(time.source.code());
}

fn decode_quality(input: &mut Reader<'_>) -> Result<(Duration, ClockSource), Malformed> {
    let secs = input.var()?;
    let nanos = input.var_u32("uncertainty")?;
    if nanos >= 1_000_000_000 {
        return Err(Malformed("uncertainty"));
    }
    Ok((Duration::new(secs, nanos), input.coded("clock source")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn zigzag_round_trips(number: i64) {
            prop_assert_eq!(unzigzag(zigzag(number)), number);
        }

        #[test]
        fn heads_round_trip(id: u128, captured: i64, first: i64, camera: u64, traits: u8) {
            let key = (captured, SightingId::from_u128(id));
            let head = Head { key, camera, traits: u64::from(traits) };
            let mut out = Writer::default();
            head.encode(first, &mut out);
            out.byte(7);
            prop_assert_eq!(Head::split(first, &out.0), Ok((head, &[7][..])));
        }

        #[test]
        fn nothing_panics_on_any_bytes(bytes: Vec<u8>, plate: bool) {
            let keys = Keys {
                id: SightingId::from_u128(1 << 127),
                captured: Timestamp::EPOCH,
                camera: CameraId::new("k1").unwrap(),
                plate: plate.then(|| {
                    let text = PlateText::parse("浙J12345").unwrap();
                    (text.clone(), text.chars().collect())
                }),
                class: Some(VehicleClass::Car),
                colour: None,
            };
            drop(decode(keys.clone(), &bytes));
            drop(Head::split(0, &bytes));
            let head = if plate { [0, 0, 0, 0, 0, 2] } else { [0, 0, 0, 0, 0, 0] };
            drop(decode(keys, &head.into_iter().chain(bytes).collect::<Vec<_>>()));
        }
    }
}
