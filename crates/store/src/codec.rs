//! Records as bytes.
//!
//! # Layout, version 1
//! Numbers are little-endian; `var` is LEB128, at most 10 bytes; `str` is a `var` length and UTF-8; an optional
//! choice is its code in `codes.rs` or 255. Nothing may follow the last field.
//! ```text
//! sighting  1u8, id u128, stage u8, camera str, first i64, (last - first) var, time, plate, vehicle, direction,
//!           frames var, evidence count var, evidence...
//! time      at i64, uncertainty seconds var, nanoseconds var, source u8
//! plate     0u8 not read | 1u8 unreadable | 2u8, text, kind u8, colour u8, rows u8, lattice, confidence f32, reads var
//! text      length u8, place in the alphabet u8...
//! lattice   positions u8, (candidates u8, (character u8 or 255, probability f32)...)...
//! vehicle   class u8, share f32 unless 255, colour u8, share f32 unless 255
//! direction heading u8, then unless 255: 0u8 | 1u8, course f32
//! evidence  kind u8, digest 32 bytes, size var, media type str, time
//! alert     1u8 | 2u8, sighting u128, entry str, stage u8, raised i64, camera str, time, read (text | 0u8),
//!           (0u8, plate text | 1u8, pattern str | 2u8), case number str, probability f32,
//!           and of version 2, which is written when there is any of them:
//!           units (count var, each str), (0u8 | 1u8, officer str, unit str or empty, note str),
//!           (0u8 | 1u8, repeated sighting u128, entry str, number var)
//! ```
//! A lattice keeps its probabilities exactly: an answer today and after a restart must be the same number.

use std::time::Duration;

use guiji_domain::{
    Acknowledgement, Alert, AlertId, CameraId, Candidate, CaptureTime, Digest, Direction, Evidence,
    FusedPlate, Lattice, PatrolUnitId, PlateChar, PlatePattern, PlateState, PlateText, Position,
    Repeat, Sighting, SightingId, TimeSpan, Timestamp, Vehicle, WatchEntryId, WatchTarget,
};

use crate::codes::{Coded, NONE, code_or_none};

const VERSION: u8 = 1;
/// Of alerts with units or an acknowledgement, and of repetitions.
const VERSION_HANDLED: u8 = 2;

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "its {} cannot be decoded", self.0)
    }
}

/// A sighting as bytes.
pub(crate) fn encode_sighting(sighting: &Sighting) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(512));
    out.byte(VERSION);
    out.bytes(&sighting.id.as_u128().to_le_bytes());
    out.byte(sighting.stage.code());
    out.str(sighting.camera.as_str());
    out.i64(sighting.span.first().as_nanos());
    // The distance of two i64 always fits a u64, and wraps to it.
    let length = sighting.span.last().as_nanos().wrapping_sub(sighting.span.first().as_nanos());
    out.var(length as u64);
    out.time(&sighting.captured);
    out.plate(&sighting.plate);
    for (code, share) in [
        sighting.vehicle.class.map_or((NONE, 0.0), |(c, share)| (c.code(), share)),
        sighting.vehicle.colour.map_or((NONE, 0.0), |(c, share)| (c.code(), share)),
    ] {
        out.byte(code);
        if code != NONE {
            out.f32(share);
        }
    }
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
        out.time(&evidence.captured);
    }
    out.0
}

/// The sighting that the bytes say. Never panics, whatever the bytes.
pub(crate) fn decode_sighting(bytes: &[u8]) -> Result<Sighting, Malformed> {
    let mut input = Reader(bytes);
    input.version()?;
    let id = SightingId::from_u128(input.u128()?);
    let stage = input.coded("stage")?;
    let camera = input.camera()?;
    let first = Timestamp::from_nanos(input.i64()?);
    let last = Timestamp::from_nanos(first.as_nanos().wrapping_add(input.var()? as i64));
    let span = TimeSpan::new(first, last).map_err(|_| Malformed("span"))?;
    let captured = input.time()?;
    let plate = input.plate()?;
    let vehicle = Vehicle { class: input.shared("class")?, colour: input.shared("colour")? };
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
    let count = input.var()?;
    let mut evidence = Vec::new();
    // The count is not trusted: each turn needs bytes that must be there.
    for _ in 0..count {
        evidence.push(Evidence {
            kind: input.coded("evidence kind")?,
            digest: Digest(input.array()?),
            bytes: input.var_u32("evidence size")?,
            media_type: input.str()?.to_owned(),
            captured: input.time()?,
        });
    }
    input.end()?;
    Ok(Sighting { id, stage, camera, span, captured, plate, vehicle, direction, frames, evidence })
}

/// An alert as bytes. Its cursor is the key it is stored by, and not in them.
pub(crate) fn encode_alert(alert: &Alert) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(160));
    // Alerts of a county without patrol units are what they were before there were any.
    let handled =
        !alert.units.is_empty() || alert.acknowledgement.is_some() || alert.repeat.is_some();
    out.byte(if handled { VERSION_HANDLED } else { VERSION });
    out.bytes(&alert.id.sighting.as_u128().to_le_bytes());
    out.str(alert.id.entry.as_str());
    out.byte(alert.stage.code());
    out.i64(alert.raised.as_nanos());
    out.str(alert.camera.as_str());
    out.time(&alert.captured);
    match &alert.read {
        Some(read) => out.text(read),
        None => out.byte(0),
    }
    match &alert.target {
        WatchTarget::Plate(text) => {
            out.byte(0);
            out.text(text);
        }
        WatchTarget::Pattern(pattern) => {
            out.byte(1);
            out.str(pattern.as_str());
        }
        WatchTarget::Description => out.byte(2),
    }
    out.str(&alert.case_number);
    out.f32(alert.probability);
    if handled {
        out.var(alert.units.len() as u64);
        alert.units.iter().for_each(|unit| out.str(unit.as_str()));
        match &alert.acknowledgement {
            None => out.byte(0),
            Some(Acknowledgement { officer, unit, note }) => {
                out.byte(1);
                out.str(officer);
                out.str(unit.as_ref().map_or("", PatrolUnitId::as_str));
                out.str(note);
            }
        }
        match &alert.repeat {
            None => out.byte(0),
            Some(Repeat { of, number }) => {
                out.byte(1);
                out.bytes(&of.sighting.as_u128().to_le_bytes());
                out.str(of.entry.as_str());
                out.var((*number).into());
            }
        }
    }
    out.0
}

/// The alert that the bytes say, under its cursor. Never panics, whatever the bytes.
pub(crate) fn decode_alert(cursor: u64, bytes: &[u8]) -> Result<Alert, Malformed> {
    let mut input = Reader(bytes);
    let handled = match input.byte()? {
        VERSION => false,
        VERSION_HANDLED => true,
        _ => return Err(Malformed("version")),
    };
    let sighting = SightingId::from_u128(input.u128()?);
    let entry = WatchEntryId::new(input.str()?).map_err(|_| Malformed("entry"))?;
    let mut alert = Alert {
        id: AlertId { sighting, entry },
        cursor,
        stage: input.coded("stage")?,
        raised: Timestamp::from_nanos(input.i64()?),
        camera: input.camera()?,
        captured: input.time()?,
        read: input.optional_text()?,
        target: match input.byte()? {
            0 => WatchTarget::Plate(input.text()?),
            1 => WatchTarget::Pattern(
                PlatePattern::parse(input.str()?).map_err(|_| Malformed("pattern"))?,
            ),
            2 => WatchTarget::Description,
            _ => return Err(Malformed("target")),
        },
        case_number: input.str()?.to_owned(),
        probability: input.f32()?,
        units: Vec::new(),
        acknowledgement: None,
        repeat: None,
    };
    if handled {
        let unit = |text: &str| PatrolUnitId::new(text).map_err(|_| Malformed("patrol unit"));
        for _ in 0..input.var()? {
            alert.units.push(unit(input.str()?)?);
        }
        alert.acknowledgement = match input.byte()? {
            0 => None,
            1 => Some(Acknowledgement {
                officer: input.str()?.to_owned(),
                unit: Some(input.str()?).filter(|text| !text.is_empty()).map(unit).transpose()?,
                note: input.str()?.to_owned(),
            }),
            _ => return Err(Malformed("acknowledgement")),
        };
        alert.repeat = match input.byte()? {
            0 => None,
            1 => {
                let sighting = SightingId::from_u128(input.u128()?);
                let entry = WatchEntryId::new(input.str()?).map_err(|_| Malformed("entry"))?;
                let number = input.var_u32("repetition")?;
                Some(Repeat { of: AlertId { sighting, entry }, number })
            }
            _ => return Err(Malformed("repetition")),
        };
    }
    input.end()?;
    Ok(alert)
}

/// Puts values at the end of a buffer.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn i64(&mut self, number: i64) {
        self.bytes(&number.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, number: f32) {
        self.bytes(&number.to_le_bytes());
    }

    pub(crate) fn var(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    pub(crate) fn str(&mut self, text: &str) {
        self.blob(text.as_bytes());
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) {
        self.var(bytes.len() as u64);
        self.bytes(bytes);
    }

    pub(crate) fn time(&mut self, time: &CaptureTime) {
        self.i64(time.at.as_nanos());
        self.var(time.uncertainty.as_secs());
        self.var(u64::from(time.uncertainty.subsec_nanos()));
        self.byte(time.source.code());
    }

    fn text(&mut self, text: &PlateText) {
        let count = text.chars().count();
        self.byte(count as u8); // at most PlateText::CHARS_MAX
        self.0.extend(text.chars().map(char_code));
    }

    fn plate(&mut self, plate: &PlateState) {
        let plate = match plate {
            PlateState::NotRead => return self.byte(0),
            PlateState::Unreadable => return self.byte(1),
            PlateState::Read(plate) => plate,
        };
        self.byte(2);
        self.text(&plate.text);
        self.byte(code_or_none(plate.kind));
        self.byte(code_or_none(plate.colour));
        self.byte(plate.rows.code());
        self.byte(plate.lattice.positions().len() as u8); // at most PlateText::CHARS_MAX
        for position in plate.lattice.positions() {
            self.byte(position.candidates().len() as u8); // at most Position::CANDIDATES_MAX
            for candidate in position.candidates() {
                self.byte(candidate.character.map_or(NONE, char_code));
                self.f32(candidate.probability);
            }
        }
        self.f32(plate.confidence);
        self.var(u64::from(plate.reads));
    }
}

/// The alphabet is shorter than [`NONE`], and only ever appended to.
fn char_code(c: PlateChar) -> u8 {
    const { assert!(PlateChar::COUNT < NONE as usize) };
    c.index() as u8
}

/// Takes values from the front of a slice; whatever is not there is an error.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    fn version(&mut self) -> Result<(), Malformed> {
        if self.byte()? == VERSION { Ok(()) } else { Err(Malformed("version")) }
    }

    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("end")) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("length"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("length"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn f32(&mut self) -> Result<f32, Malformed> {
        self.array().map(f32::from_le_bytes)
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Malformed> {
        self.array().map(f64::from_le_bytes)
    }

    pub(crate) fn var(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("number"))
    }

    pub(crate) fn var_u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        u32::try_from(self.var()?).map_err(|_| Malformed(what))
    }

    pub(crate) fn blob(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.var()?).map_err(|_| Malformed("length"))?;
        self.take(length)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.blob()?).map_err(|_| Malformed("text"))
    }

    fn camera(&mut self) -> Result<CameraId, Malformed> {
        CameraId::new(self.str()?).map_err(|_| Malformed("camera"))
    }

    pub(crate) fn coded<T: Coded>(&mut self, what: &'static str) -> Result<T, Malformed> {
        T::from_code(self.byte()?).ok_or(Malformed(what))
    }

    pub(crate) fn optional<T: Coded>(
        &mut self,
        what: &'static str,
    ) -> Result<Option<T>, Malformed> {
        match self.byte()? {
            NONE => Ok(None),
            code => T::from_code(code).map(Some).ok_or(Malformed(what)),
        }
    }

    pub(crate) fn shared<T: Coded>(
        &mut self,
        what: &'static str,
    ) -> Result<Option<(T, f32)>, Malformed> {
        self.optional(what)?.map(|choice| Ok((choice, self.f32()?))).transpose()
    }

    pub(crate) fn time(&mut self) -> Result<CaptureTime, Malformed> {
        let at = Timestamp::from_nanos(self.i64()?);
        let secs = self.var()?;
        let nanos = self.var_u32("uncertainty")?;
        if nanos >= 1_000_000_000 {
            return Err(Malformed("uncertainty"));
        }
        let source = self.coded("clock source")?;
        Ok(CaptureTime { at, uncertainty: Duration::new(secs, nanos), source })
    }

    fn text(&mut self) -> Result<PlateText, Malformed> {
        let count = usize::from(self.byte()?);
        let chars: Option<Vec<_>> =
            self.take(count)?.iter().map(|i| PlateChar::from_index(usize::from(*i))).collect();
        chars.and_then(|c| PlateText::from_chars(&c)).ok_or(Malformed("plate"))
    }

    fn optional_text(&mut self) -> Result<Option<PlateText>, Malformed> {
        if self.0.first() == Some(&0) {
            self.byte()?;
            return Ok(None);
        }
        self.text().map(Some)
    }

    fn plate(&mut self) -> Result<PlateState, Malformed> {
        match self.byte()? {
            0 => return Ok(PlateState::NotRead),
            1 => return Ok(PlateState::Unreadable),
            2 => {}
            _ => return Err(Malformed("plate state")),
        }
        Ok(PlateState::Read(FusedPlate {
            text: self.text()?,
            kind: self.optional("plate kind")?,
            colour: self.optional("plate colour")?,
            rows: self.coded("plate rows")?,
            lattice: self.lattice()?,
            confidence: self.f32()?,
            reads: self.var_u32("read count")?,
        }))
    }

    fn lattice(&mut self) -> Result<Lattice, Malformed> {
        const WRONG: Malformed = Malformed("lattice");
        let mut positions = Vec::new();
        for _ in 0..self.byte()? {
            let mut candidates = Vec::new();
            for _ in 0..self.byte()? {
                let character = match self.byte()? {
                    NONE => None,
                    i => Some(PlateChar::from_index(usize::from(i)).ok_or(WRONG)?),
                };
                candidates.push(Candidate { character, probability: self.f32()? });
            }
            positions.push(Position::new(candidates).map_err(|_| WRONG)?);
        }
        Lattice::new(positions).map_err(|_| WRONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::{
        AlertStage, ClockSource, EvidenceKind, Heading, PlateColour, PlateKind, PlateRows,
        SightingStage, TrackId, VehicleClass, VehicleColour,
    };
    use proptest::prelude::*;
    use proptest::sample::select;

    fn any_time() -> impl Strategy<Value = CaptureTime> {
        let sources = vec![ClockSource::Rtcp, ClockSource::Stated, ClockSource::Arrival];
        (any::<i64>(), any::<u64>(), 0..1_000_000_000u32, select(sources)).prop_map(
            |(at, secs, nanos, source)| CaptureTime {
                at: Timestamp::from_nanos(at),
                uncertainty: Duration::new(secs, nanos),
                source,
            },
        )
    }

    fn any_text() -> impl Strategy<Value = PlateText> {
        prop::collection::vec(0..PlateChar::COUNT, 6..=9).prop_map(|indexes| {
            let chars: Vec<_> =
                indexes.into_iter().map(|i| PlateChar::from_index(i).unwrap()).collect();
            PlateText::from_chars(&chars).unwrap()
        })
    }

    fn any_lattice() -> impl Strategy<Value = Lattice> {
        let position = prop::collection::btree_map(
            0..=PlateChar::COUNT,
            0.0f32..=1.0 / Position::CANDIDATES_MAX as f32,
            0..=Position::CANDIDATES_MAX,
        )
        .prop_map(|candidates| {
            Position::new(candidates.into_iter().map(|(i, probability)| Candidate {
                character: PlateChar::from_index(i),
                probability,
            }))
            .unwrap()
        });
        prop::collection::vec(position, 0..=9).prop_map(|p| Lattice::new(p).unwrap())
    }

    fn any_plate() -> impl Strategy<Value = PlateState> {
        let read = (
            any_text(),
            prop::option::of(select(PlateKind::ALL)),
            prop::option::of(select(PlateColour::ALL)),
            select(PlateRows::ALL),
            any_lattice(),
            0.0f32..=1.0,
            any::<u32>(),
        )
            .prop_map(|(text, kind, colour, rows, lattice, confidence, reads)| {
                PlateState::Read(FusedPlate {
                    text,
                    kind,
                    colour,
                    rows,
                    lattice,
                    confidence,
                    reads,
                })
            });
        prop_oneof![1 => Just(PlateState::NotRead), 1 => Just(PlateState::Unreadable), 6 => read]
    }

    fn any_evidence() -> impl Strategy<Value = Evidence> {
        (select(EvidenceKind::ALL), any::<[u8; 32]>(), any::<u32>(), "\\PC{0,12}", any_time())
            .prop_map(|(kind, digest, bytes, media_type, captured)| Evidence {
                kind,
                digest: Digest(digest),
                bytes,
                media_type,
                captured,
            })
    }

    prop_compose! {
        fn any_sighting()(
            name in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}", track: u64, a: i64, b: i64,
            stage in select(SightingStage::ALL),
            captured in any_time(), plate in any_plate(),
            class in prop::option::of((select(VehicleClass::ALL), 0f32..=1.0)),
            colour in prop::option::of((select(VehicleColour::ALL), 0f32..=1.0)),
            direction in prop::option::of(
                (select(Heading::ALL), prop::option::of(0f32..360.0))
                    .prop_map(|(heading, course_deg)| Direction { heading, course_deg })
            ),
            frames: u32,
            evidence in prop::collection::vec(any_evidence(), 0..4),
        ) -> Sighting {
            let camera = CameraId::new(&name).unwrap();
            let [first, last] = [a.min(b), a.max(b)].map(Timestamp::from_nanos);
            Sighting {
                id: SightingId::for_track(&camera, TrackId(track), first),
                stage, camera,
                span: TimeSpan::new(first, last).unwrap(),
                captured, plate,
                vehicle: Vehicle { class, colour },
                direction, frames, evidence,
            }
        }
    }

    prop_compose! {
        fn any_alert()(
            sighting: u128, entry in "[a-z0-9]{1,64}", stage in select(AlertStage::ALL), raised: i64,
            camera in "[a-z0-9]{1,64}", captured in any_time(), read in prop::option::of(any_text()),
            target in prop_oneof![
                Just(WatchTarget::Description),
                any_text().prop_map(WatchTarget::Plate),
                "[浙?]\\*[A-Z&&[^IO]]{2}[0-9?]{1,4}"
                    .prop_map(|t| WatchTarget::Pattern(PlatePattern::parse(&t).unwrap())),
            ],
            case_number in "\\PC{0,40}", probability in 0f32..=1.0, cursor: u64,
            units in prop::collection::vec("[a-z0-9]{1,64}", 0..3),
            repeated in prop::option::of((any::<u128>(), any::<u32>())),
            acknowledged in prop::option::of(("\\PC{1,20}", prop::option::of("[a-z0-9]{1,64}"), "\\PC{0,40}")),
        ) -> Alert {
            let unit = |id: String| PatrolUnitId::new(&id).unwrap();
            Alert {
                id: AlertId {
                    sighting: SightingId::from_u128(sighting),
                    entry: WatchEntryId::new(&entry).unwrap(),
                },
                cursor, stage, raised: Timestamp::from_nanos(raised),
                camera: CameraId::new(&camera).unwrap(),
                captured, read, target, case_number, probability,
                repeat: repeated.map(|(sighting, number)| Repeat {
                    of: AlertId {
                        sighting: SightingId::from_u128(sighting),
                        entry: WatchEntryId::new(&entry).unwrap(),
                    },
                    number,
                }),
                units: units.into_iter().map(unit).collect(),
                acknowledgement: acknowledged.map(|(officer, id, note)| {
                    Acknowledgement { officer, unit: id.map(unit), note }
                }),
            }
        }
    }

    proptest! {
        #[test]
        fn sightings_round_trip(sighting in any_sighting()) {
            let bytes = encode_sighting(&sighting);
            prop_assert_eq!(decode_sighting(&bytes), Ok(sighting));
        }

        #[test]
        fn alerts_round_trip(alert in any_alert()) {
            let bytes = encode_alert(&alert);
            prop_assert_eq!(decode_alert(alert.cursor, &bytes), Ok(alert));
        }

        #[test]
        fn nothing_panics_on_any_bytes(bytes: Vec<u8>) {
            drop(decode_sighting(&bytes));
            drop(decode_alert(1, &bytes));
            let versioned: Vec<u8> = [VERSION].into_iter().chain(bytes).collect();
            drop(decode_sighting(&versioned));
            drop(decode_alert(1, &versioned));
        }

        #[test]
        fn nothing_panics_on_a_damaged_record(
            sighting in any_sighting(), alert in any_alert(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
        ) {
            for mut bytes in [encode_sighting(&sighting), encode_alert(&alert)] {
                let i = at.index(bytes.len());
                bytes[i] = byte;
                drop(decode_sighting(&bytes));
                drop(decode_alert(1, &bytes));
                bytes.truncate(cut.index(bytes.len()));
                drop(decode_sighting(&bytes));
                drop(decode_alert(1, &bytes));
            }
        }
    }

    #[test]
    fn a_cut_or_longer_record_is_refused() {
        let mut bytes = encode_alert(&Alert {
            id: AlertId {
                sighting: SightingId::from_u128(1),
                entry: WatchEntryId::new("w1").unwrap(),
            },
            cursor: 1,
            stage: AlertStage::Confirmed,
            raised: Timestamp::EPOCH,
            camera: CameraId::new("k1").unwrap(),
            captured: CaptureTime {
                at: Timestamp::EPOCH,
                uncertainty: Duration::ZERO,
                source: ClockSource::Rtcp,
            },
            read: PlateText::parse("浙J12345").ok(),
            target: WatchTarget::Plate(PlateText::parse("浙J12345").unwrap()),
            case_number: "c".into(),
            units: Vec::new(),
            acknowledgement: None,
            repeat: None,
            probability: 1.0,
        });
        for cut in 0..bytes.len() {
            assert!(decode_alert(1, &bytes[..cut]).is_err(), "{cut}");
        }
        bytes.push(0);
        assert_eq!(decode_alert(1, &bytes), Err(Malformed("end")));
    }
}
