//! Section speed (区间测速): the mean speed between two cameras, as an interval.
//!
//! Formula: (distance ± error) / (elapsed ± both clocks' uncertainties), each end at its worst. The true mean speed is
//! within the interval if clocks and distance keep what they promise, whatever the errors have in common. Where the
//! errors are wider than the evidence there is no speed but the reason why.

use std::fmt;
use std::time::Duration;

use guiji_domain::CaptureTime;

/// The length of the road between two cameras.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SectionLength {
    /// Best estimate, metres.
    pub metres: f64,
    /// The true length is within `metres ± error_m`.
    pub error_m: f64,
}

/// A mean speed with both ends, km/h.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SectionSpeed {
    /// At least.
    pub low_kmh: f64,
    /// By clocks and distance as stated.
    pub best_kmh: f64,
    /// At most.
    pub high_kmh: f64,
}

/// What a speed interval says about a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitVerdict {
    /// Faster, even at the low end.
    Above,
    /// Not faster, even at the high end.
    Within,
    /// The limit lies within the interval.
    Undecided,
}

/// Why no speed is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SpeedRefusal {
    /// The second sighting is not after the first.
    NotAfter,
    /// The length is unknown: not a positive number, or its error reaches the length itself.
    LengthUnknown(SectionLength),
    /// The clocks' errors together are as long as the trip: any speed fits.
    ClockErrorWiderThanTrip {
        /// Time between the two.
        elapsed: Duration,
        /// Sum of both uncertainties.
        uncertainty: Duration,
    },
    /// A speed can be said, but not to the precision asked for.
    TooWide {
        /// The interval.
        speed: SectionSpeed,
        /// Half its width over the best speed.
        relative_error: f64,
        /// The largest that was allowed.
        allowed: f64,
    },
}

impl fmt::Display for SpeedRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAfter => f.write_str("the second sighting is not after the first"),
            Self::LengthUnknown(l) => {
                write!(f, "the length of the section is not known: {} ± {} m", l.metres, l.error_m)
            }
            Self::ClockErrorWiderThanTrip { elapsed, uncertainty } => write!(
                f,
                "the clocks may be off by {:.1} s together, the trip took {:.1} s: any speed fits",
                uncertainty.as_secs_f64(),
                elapsed.as_secs_f64()
            ),
            Self::TooWide { speed, relative_error, allowed } => write!(
                f,
                "{:.0} to {:.0} km/h is ± {:.0} %, more than the ± {:.0} % allowed",
                speed.low_kmh,
                speed.high_kmh,
                100.0 * relative_error,
                100.0 * allowed
            ),
        }
    }
}

impl std::error::Error for SpeedRefusal {}

impl SectionSpeed {
    /// The mean speed of a vehicle between two sightings. `relative_error_max` is the largest acceptable half width of
    /// the interval over the best speed (0.05 for ± 5 %; infinite to take any).
    ///
    /// # Errors
    /// With the reason, when the evidence does not carry a speed.
    pub fn between(
        from: CaptureTime,
        to: CaptureTime,
        length: SectionLength,
        relative_error_max: f64,
    ) -> Result<Self, SpeedRefusal> {
        let SectionLength { metres, error_m } = length;
        let known = metres.is_finite() && metres > 0.0 && (0.0..metres).contains(&error_m);
        if !known {
            return Err(SpeedRefusal::LengthUnknown(length));
        }
        if to.at <= from.at {
            return Err(SpeedRefusal::NotAfter);
        }
        let elapsed = to.at.since(from.at);
        let uncertainty = from.uncertainty.saturating_add(to.uncertainty);
        if uncertainty >= elapsed {
            return Err(SpeedRefusal::ClockErrorWiderThanTrip { elapsed, uncertainty });
        }
        let kmh = |metres: f64, time: Duration| metres / time.as_secs_f64() * 3.6;
        let speed = Self {
            low_kmh: kmh(metres - error_m, elapsed.saturating_add(uncertainty)),
            best_kmh: kmh(metres, elapsed),
            high_kmh: kmh(metres + error_m, elapsed - uncertainty),
        };
        let relative_error = (speed.high_kmh - speed.low_kmh) / 2.0 / speed.best_kmh;
        if relative_error <= relative_error_max {
            Ok(speed)
        } else {
            Err(SpeedRefusal::TooWide { speed, relative_error, allowed: relative_error_max })
        }
    }

    /// Whether it kept a limit, km/h.
    pub fn against(&self, limit_kmh: f64) -> LimitVerdict {
        if self.low_kmh > limit_kmh {
            LimitVerdict::Above
        } else if self.high_kmh <= limit_kmh {
            LimitVerdict::Within
        } else {
            LimitVerdict::Undecided
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::{ClockSource, Timestamp};
    use proptest::prelude::*;

    fn seen(millis: i64, uncertainty_ms: u64) -> CaptureTime {
        CaptureTime {
            at: Timestamp::from_millis(millis),
            uncertainty: Duration::from_millis(uncertainty_ms),
            source: ClockSource::Rtcp,
        }
    }

    proptest! {
        /// Whatever the truth, errors within the promise keep it within the interval, and only such errors are needed
        /// to reach its ends.
        #[test]
        fn the_true_speed_is_within(
            metres in 100.0f64..20_000.0, kmh in 5.0f64..250.0,
            clock_ms in (0u64..5000, 0u64..5000), off in (-1.0f64..=1.0, -1.0f64..=1.0), length_off in -0.1f64..=0.1,
        ) {
            let truth_ms = metres / kmh * 3.6e3;
            let from = seen((off.0 * clock_ms.0 as f64) as i64, clock_ms.0);
            let to = seen((truth_ms + off.1 * clock_ms.1 as f64) as i64, clock_ms.1);
            let stated = metres * (1.0 + length_off);
            let length = SectionLength { metres: stated, error_m: (metres - stated).abs() + 1e-6 };
            match SectionSpeed::between(from, to, length, f64::INFINITY) {
                Ok(speed) => {
                    // Whole milliseconds in the test's clocks: half a millisecond of slack.
                    let slack = 1.0 + 2.0 / (truth_ms - (clock_ms.0 + clock_ms.1) as f64).abs().max(1.0);
                    prop_assert!(speed.low_kmh <= kmh * slack && kmh <= speed.high_kmh * slack, "{speed:?} {kmh}");
                }
                Err(SpeedRefusal::NotAfter) => prop_assert!(from.at >= to.at),
                Err(SpeedRefusal::ClockErrorWiderThanTrip { elapsed, uncertainty }) => {
                    prop_assert!(uncertainty >= elapsed);
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }

    #[test]
    fn verdicts_and_refusals() {
        let km = SectionLength { metres: 1000.0, error_m: 10.0 };
        let speed = SectionSpeed::between(seen(0, 500), seen(40_000, 500), km, 0.05).unwrap();
        assert!((speed.best_kmh - 90.0).abs() < 1e-9, "{speed:?}");
        let verdicts = [80.0, 90.0, 100.0].map(|limit| speed.against(limit));
        assert_eq!(verdicts, [LimitVerdict::Above, LimitVerdict::Undecided, LimitVerdict::Within]);

        let refused = |from, to, length| {
            SectionSpeed::between(from, to, length, 0.05).unwrap_err().to_string()
        };
        assert!(refused(seen(0, 30_000), seen(40_000, 30_000), km).contains("any speed fits"));
        assert!(refused(seen(0, 3000), seen(40_000, 3000), km).contains("more than the ± 5 %"));
        assert!(refused(seen(5, 0), seen(5, 0), km).contains("not after"));
        for (metres, error_m) in
            [(0.0, 0.0), (f64::NAN, 0.0), (10.0, 10.0), (10.0, f64::NAN), (10.0, -1.0)]
        {
            let length = SectionLength { metres, error_m };
            assert!(refused(seen(0, 0), seen(9, 0), length).contains("not known"), "{length:?}");
        }
    }
}
