use guiji_domain::{
    AlertStage, CameraState, ClockSource, CompassPoint, CoverageState, DecodePolicy, EvidenceKind,
    Heading, InvalidValue, Pace, PatrolDuty, PatternTactic, PlateColour, PlateKind, PlateRows,
    SightingStage, SortOrder, StatusReason, Transport, VehicleClass, VehicleColour, Weekday,
};

use crate::pb;

/// A word of the domain that is an enum of `guiji.v1`.
pub trait Word: Sized {
    /// The number in a message.
    fn to_pb(self) -> i32;

    /// The word; `None` for 0, which says nothing.
    ///
    /// # Errors
    /// When the number is none of the enum's.
    fn from_pb(number: i32) -> Result<Option<Self>, InvalidValue>;
}

/// The number of an optional word, 0 where there is none.
pub(crate) fn optional<W: Word>(word: Option<W>) -> i32 {
    word.map_or(0, Word::to_pb)
}

macro_rules! word {
    ($name:ident, $what:literal: $($variant:ident)+) => {
        impl Word for $name {
            fn to_pb(self) -> i32 {
                i32::from(match self { $(Self::$variant => pb::$name::$variant),+ })
            }

            fn from_pb(number: i32) -> Result<Option<Self>, InvalidValue> {
                match pb::$name::try_from(number) {
                    Ok(pb::$name::Unspecified) => Ok(None),
                    $(Ok(pb::$name::$variant) => Ok(Some(Self::$variant)),)+
                    Err(_) => Err(InvalidValue::new(
                        $what,
                        number,
                        concat!("use one of", $(" ", stringify!($variant)),+),
                    )),
                }
            }
        }
    };
}

word!(AlertStage, "alert stage": Provisional Confirmed Withdrawn Acknowledged EscalatedToNeighbours
    EscalatedToControlRoom Corrected);
word!(CameraState, "camera state": Connecting Live Degraded Stalled Refused Misconfigured Disabled Ended);
word!(ClockSource, "clock source": Rtcp Stated Arrival);
word!(CompassPoint, "course": North NorthEast East SouthEast South SouthWest West NorthWest);
word!(CoverageState, "coverage state": Seeing Blind Unknown);
word!(DecodePolicy, "decode policy": Full KeyframeOnly Referenced Motion);
word!(EvidenceKind, "evidence kind": Plate Vehicle Frame);
word!(Heading, "heading": Approaching Receding Leftward Rightward);
word!(Pace, "pace": RealTime AsFastAsPossible);
word!(PatternTactic, "tactic": FirstEntry NightActive Frequent);
word!(PatrolDuty, "duty": Patrol ControlRoom);
word!(PlateColour, "plate colour": Blue Yellow Green YellowGreen White Black);
word!(PlateKind, "plate kind": Small Large Trailer Coach NewEnergySmall NewEnergyLarge Police Emergency
    HongKongMacau Embassy Consulate Motorcycle LowSpeed Temporary ArmedPolice Military Tractor CivilAviation);
word!(PlateRows, "plate rows": One Two);
word!(SightingStage, "sighting stage": Provisional Final);
word!(SortOrder, "order": OldestFirst NewestFirst);
word!(StatusReason, "status reason": Unreachable NotAuthorised NotFound BadAddress UnsupportedCodec NoKeyframe
    Silence EndOfStream DecodeErrors ResolutionChanged Panicked Other Black Covered Frozen Blurred Moved
    ClockWrong FewReads);
word!(Transport, "transport": Tcp Udp);
word!(VehicleClass, "vehicle class": Car Truck Bus Motorcycle);
word!(VehicleColour, "vehicle colour": White Silver Grey Black Red Yellow Green Blue Brown);
word!(Weekday, "weekday": Monday Tuesday Wednesday Thursday Friday Saturday Sunday);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    /// Every number of the enum is a word that makes the same number, and no number is unknown before the last.
    fn check<W: Word + Debug + Copy>(count: usize) {
        for number in 1..=i32::try_from(count).unwrap() {
            let word = W::from_pb(number).unwrap().unwrap();
            assert_eq!(word.to_pb(), number, "{word:?}");
        }
        assert!(W::from_pb(0).unwrap().is_none());
        for unknown in [-1, i32::try_from(count).unwrap() + 1] {
            let error = W::from_pb(unknown).unwrap_err().to_string();
            assert!(error.contains("use one of"), "{error}");
        }
    }

    #[test]
    fn words_round_trip() {
        check::<AlertStage>(AlertStage::ALL.len());
        check::<CameraState>(CameraState::ALL.len());
        check::<ClockSource>(3);
        check::<DecodePolicy>(DecodePolicy::ALL.len());
        check::<EvidenceKind>(EvidenceKind::ALL.len());
        check::<Heading>(Heading::ALL.len());
        check::<Pace>(Pace::ALL.len());
        check::<PatternTactic>(PatternTactic::ALL.len());
        check::<PatrolDuty>(PatrolDuty::ALL.len());
        check::<PlateColour>(PlateColour::ALL.len());
        check::<PlateKind>(PlateKind::ALL.len());
        check::<PlateRows>(PlateRows::ALL.len());
        check::<SightingStage>(SightingStage::ALL.len());
        check::<SortOrder>(2);
        check::<StatusReason>(StatusReason::ALL.len());
        check::<Transport>(Transport::ALL.len());
        check::<VehicleClass>(VehicleClass::ALL.len());
        check::<VehicleColour>(VehicleColour::ALL.len());
        check::<CompassPoint>(CompassPoint::ALL.len());
        check::<Weekday>(Weekday::ALL.len());
    }
}
