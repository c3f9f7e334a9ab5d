use crate::BBox;

/// What kind of vehicle, as far as the detector can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VehicleClass {
    /// Passenger car, van, pick-up.
    Car,
    /// Lorry.
    Truck,
    /// Bus or coach.
    Bus,
    /// Motorcycle or moped.
    Motorcycle,
}

/// The colour of a vehicle's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the names say it
pub enum VehicleColour {
    White,
    Silver,
    Grey,
    Black,
    Red,
    Yellow,
    Green,
    Blue,
    Brown,
}

macro_rules! words {
    ($name:ident, $what:literal, $($variant:ident => $word:literal),+ $(,)?) => {
        impl $name {
            /// All of them, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in files, on the command line and in logs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::InvalidValue;
            fn from_str(text: &str) -> Result<Self, $crate::InvalidValue> {
                Self::ALL.iter().copied().find(|v| v.as_str() == text).ok_or_else(|| {
                    $crate::InvalidValue::new($what, text, concat!("use one of", $(" ", $word),+))
                })
            }
        }
    };
}
pub(crate) use words;

words!(VehicleClass, "vehicle class", Car => "car", Truck => "truck", Bus => "bus", Motorcycle => "motorcycle");
words!(
    VehicleColour, "vehicle colour",
    White => "white", Silver => "silver", Grey => "grey", Black => "black", Red => "red",
    Yellow => "yellow", Green => "green", Blue => "blue", Brown => "brown",
);

/// A vehicle in one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Where, in pixels of the full-resolution frame.
    pub bbox: BBox,
    /// What; `None` when only its plate was seen.
    pub class: Option<VehicleClass>,
    /// The detector's score, 0 to 1; not a calibrated probability.
    pub score: f32,
}

/// What was seen of the vehicle itself over a whole track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vehicle {
    /// The class with most evidence, and its share of the evidence, 0 to 1. `None` when only a plate was seen.
    pub class: Option<(VehicleClass, f32)>,
    /// The colour with most evidence, and its share, 0 to 1. `None` when the light did not allow a judgement.
    pub colour: Option<(VehicleColour, f32)>,
}
