use std::fmt;
use std::time::Duration;

use guiji_domain::{CameraId, VehicleClass, VehicleColour};

use super::super::travel::Basis;

/// One piece of evidence. Formats in words.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// No vehicle goes from one to the next in the time, whatever the clocks.
    ImpossibleSpeed {
        /// The earlier sighting; the later is the next.
        from: usize,
        /// Mean speed at least, km/h, along the great circle with the clocks at their worst.
        least_kmh: f64,
    },
    /// The trip was faster than nearly all that were learnt for this road and hour.
    TravelTimeBelowQuantile {
        /// The earlier sighting; the later is the next.
        from: usize,
        /// Elapsed time with the clocks at their worst.
        elapsed_most: Duration,
        /// The learnt quantile that is the limit.
        usual_least: Duration,
        /// Share of the learnt trips that were as fast.
        share: f64,
        /// How many trips were learnt.
        trips: u64,
        /// Of which hours.
        basis: Basis,
    },
    /// Another kind of vehicle.
    ClassConflict {
        /// The earlier sighting; the later is the next.
        from: usize,
        /// Both.
        classes: (VehicleClass, VehicleClass),
    },
    /// Another colour.
    ColourConflict {
        /// The earlier sighting; the later is the next.
        from: usize,
        /// Both.
        colours: (VehicleColour, VehicleColour),
    },
    /// A read that contradicts a neighbour is in doubt itself.
    LatticeAmbiguity {
        /// The sighting.
        sighting: usize,
        /// Probability that it was another plate.
        misread: f64,
    },
    /// It is not the only contradiction.
    RepeatedContradiction {
        /// How many trips contradict.
        times: usize,
    },
    /// One camera has a part in all of several contradictions.
    OneCameraInAll {
        /// The camera.
        camera: CameraId,
    },
    /// A contradiction by the times as they stand, but not with the clocks at their worst.
    ClockUncertainty {
        /// The earlier sighting; the later is the next.
        from: usize,
        /// Elapsed time.
        elapsed: Duration,
        /// Sum of both uncertainties.
        uncertainty: Duration,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Places count from 0 in the data and from 1 in words.
        let pair = |from: &usize| format!("sightings {} and {}", from + 1, from + 2);
        match self {
            Self::ImpossibleSpeed { from, least_kmh } => {
                write!(f, "{}: at least {least_kmh:.0} km/h, which no vehicle drives", pair(from))
            }
            Self::TravelTimeBelowQuantile {
                from,
                elapsed_most,
                usual_least,
                share,
                trips,
                basis,
            } => {
                let (took, usual) = (elapsed_most.as_secs_f64(), usual_least.as_secs_f64());
                let hours = match basis {
                    Basis::ThisHour => "at this hour of the day",
                    Basis::AllHours => "at all hours",
                };
                write!(
                    f,
                    "{}: at most {took:.0} s, as fast as {:.1} % of {trips} trips {hours}; below {usual:.0} s is early",
                    pair(from),
                    100.0 * share
                )
            }
            Self::ClassConflict { from, classes: (a, b) } => {
                write!(f, "{}: a {a}, then a {b}", pair(from))
            }
            Self::ColourConflict { from, colours: (a, b) } => {
                write!(f, "{}: {a}, then {b}", pair(from))
            }
            Self::LatticeAmbiguity { sighting, misread } => {
                let number = sighting + 1;
                write!(f, "sighting {number}: another plate with {:.1} %", 100.0 * misread)
            }
            Self::RepeatedContradiction { times } => {
                write!(f, "{times} trips contradict one vehicle")
            }
            Self::OneCameraInAll { camera } => {
                write!(f, "camera {camera} has a part in every contradiction")
            }
            Self::ClockUncertainty { from, elapsed, uncertainty } => write!(
                f,
                "{}: {:.1} s are too short, but the clocks may be off by {:.1} s together",
                pair(from),
                elapsed.as_secs_f64(),
                uncertainty.as_secs_f64()
            ),
        }
    }
}
