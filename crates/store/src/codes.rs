//! The numbers by which choices stand on disk. A number is never given a second meaning; a new variant of the
//! domain does not compile until it has one.

use guiji_domain::{
    AlertStage, ClockSource, CompassPoint, CoverageState, DecodePolicy, EvidenceKind, Heading,
    Pace, PatrolDuty, PlateColour, PlateKind, PlateRows, SightingStage, Transport, VehicleClass,
    VehicleColour,
};

/// A choice with a number on disk.
pub(crate) trait Coded: Sized + Copy {
    fn code(self) -> u8;
    fn from_code(code: u8) -> Option<Self>;
}

/// Says "not known" where a choice is optional.
pub(crate) const NONE: u8 = 0xff;

macro_rules! coded {
    ($name:ident: $($variant:ident = $code:literal),+ $(,)?) => {
        impl Coded for $name {
            fn code(self) -> u8 {
                match self { $(Self::$variant => $code),+ }
            }
            fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

coded!(CoverageState: Seeing = 0, Blind = 1, Unknown = 2);
coded!(SightingStage: Provisional = 0, Final = 1);
coded!(ClockSource: Rtcp = 0, Stated = 1, Arrival = 2);
coded!(VehicleClass: Car = 0, Truck = 1, Bus = 2, Motorcycle = 3);
coded!(
    VehicleColour: White = 0, Silver = 1, Grey = 2, Black = 3, Red = 4, Yellow = 5, Green = 6,
    Blue = 7, Brown = 8
);
coded!(Heading: Approaching = 0, Receding = 1, Leftward = 2, Rightward = 3);
coded!(
    CompassPoint: North = 0, NorthEast = 1, East = 2, SouthEast = 3, South = 4, SouthWest = 5, West = 6,
    NorthWest = 7
);
coded!(PlateColour: Blue = 0, Yellow = 1, Green = 2, YellowGreen = 3, White = 4, Black = 5);
coded!(PlateRows: One = 0, Two = 1);
coded!(EvidenceKind: Plate = 0, Vehicle = 1, Frame = 2);
coded!(
    AlertStage: Provisional = 0, Confirmed = 1, Withdrawn = 2, Acknowledged = 3, EscalatedToNeighbours = 4,
    EscalatedToControlRoom = 5, Corrected = 6
);
coded!(PatrolDuty: Patrol = 0, ControlRoom = 1);
coded!(Transport: Tcp = 0, Udp = 1);
coded!(Pace: RealTime = 0, AsFastAsPossible = 1);
coded!(DecodePolicy: Full = 0, KeyframeOnly = 1, Referenced = 2, Motion = 3);
coded!(
    PlateKind: Small = 0, Large = 1, Trailer = 2, Coach = 3, NewEnergySmall = 4,
    NewEnergyLarge = 5, Police = 6, Emergency = 7, HongKongMacau = 8, Embassy = 9, Consulate = 10,
    Motorcycle = 11, LowSpeed = 12, Temporary = 13, ArmedPolice = 14, Military = 15, Tractor = 16,
    CivilAviation = 17
);

/// The code of an optional choice.
pub(crate) fn code_or_none<T: Coded>(choice: Option<T>) -> u8 {
    choice.map_or(NONE, Coded::code)
}
