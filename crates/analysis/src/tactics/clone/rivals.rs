//! Who else a sighting may be of.
//!
//! A lattice says how well its reads fit a text, all texts being equally common. Most texts are nobody's: a doubtful
//! character makes a misread only if the other text is a vehicle's, and one that passes here now. So the probability
//! that the sighting is another vehicle's is
//!
//! m = Σ L(a) w(a) / (L(p) w(p) + Σ L(a) w(a)),
//!
//! where p is the plate as read, a runs over the other texts of the lattice and "any other", L is the lattice's
//! probability and w how many passages of that plate there are to be expected: those of the index, less the share of
//! the plate's own that is read as the other ([`READ_AS_ANOTHER`]), and [`UNKNOWN`] for a vehicle that never showed. A
//! vehicle that was seen shortly before or after, where it can have come from or gone to, is [`BESIDE`] times as likely
//! to be here as at any time; one that was not, [`ALONE`] times.

use std::time::Duration;

use guiji_domain::PlateText;

use super::super::PassageIndex;
use super::super::travel::Roads;
use super::PlateSighting;

/// Other texts of a lattice that are looked up.
pub(super) const TEXTS: usize = 4;
/// A less probable text is not looked up.
pub(super) const LEAST: f32 = 1e-3;
/// Passages to be expected of a plate that was never read; assumed.
const UNKNOWN: f64 = 0.1;
/// The share of a plate's passages that is read as one certain other text, at most; assumed.
const READ_AS_ANOTHER: f64 = 0.02;
/// A drive has sightings at least this often.
const NEAR: Duration = Duration::from_secs(900);
/// Nobody drives faster on average, km/h.
const FASTEST_KMH: f64 = 150.0;
/// How much likelier a vehicle passes here now if it was seen near in place and time: a drive's five minutes stand
/// against days.
const BESIDE: f64 = 100.0;
/// How much less likely if not: one sighting in ten is alone in its drive.
const ALONE: f64 = 0.1;

/// The formula of the module.
pub(super) fn misread(
    sighting: &PlateSighting,
    plate: &PlateText,
    index: &PassageIndex,
    roads: Roads<'_>,
) -> f64 {
    let passages = |text: &PlateText| {
        let way = index.vehicle(text).map(|vehicle| index.way(vehicle).times.len());
        way.unwrap_or(0) as f64
    };
    let read = 1.0 - sighting.misread.clamp(0.0, 1.0);
    // Its own read is no evidence of how common the plate is.
    let own_passages = (passages(plate) - 1.0).max(0.0);
    let own = read * (own_passages + UNKNOWN);
    let mut named = 0.0;
    let mut others = 0.0;
    for (text, p) in &sighting.others {
        let theirs = (passages(text) - READ_AS_ANOTHER * own_passages).max(0.0);
        let here = if is_beside(sighting, text, index, roads) { BESIDE } else { ALONE };
        named += p;
        others += p * (theirs * here + UNKNOWN);
    }
    others += (1.0 - read - named).max(0.0) * UNKNOWN;
    let all = own + others;
    if all > 0.0 { others / all } else { sighting.misread }
}

/// Whether a vehicle was seen elsewhere so near in time that it can have been here.
fn is_beside(
    sighting: &PlateSighting,
    text: &PlateText,
    index: &PassageIndex,
    roads: Roads<'_>,
) -> bool {
    let Some(vehicle) = index.vehicle(text) else { return false };
    let way = index.way(vehicle);
    let at = sighting.captured.at;
    let place = way.times.partition_point(|t| *t < at);
    let reachable = |place: usize| {
        let (Some(then), Some(there)) = (way.times.get(place), way.cameras.get(place)) else {
            return false;
        };
        let apart = at.abs_diff(*then);
        let metres = index.camera_id(*there).and_then(|c| roads.distance_m(c, &sighting.camera));
        apart <= NEAR && metres.is_none_or(|m| m <= FASTEST_KMH / 3.6 * apart.as_secs_f64() + 100.0)
    };
    place.checked_sub(1).is_some_and(reachable) || reachable(place)
}

#[cfg(test)]
mod tests {
    use super::super::super::town::{Passage, camera_id, index_of, plate, position, secs};
    use super::super::super::travel::TravelTimes;
    use super::*;
    use guiji_domain::{CaptureTime, ClockSource, Vehicle};
    use std::collections::HashMap;

    /// 浙J00001 as it was read 0.7, or 浙J00007.
    fn misread_of(passages: &[Passage]) -> f64 {
        let index = index_of(passages);
        let travel = TravelTimes::default();
        let positions: HashMap<_, _> = (0..36).map(|c| (camera_id(c), position(c))).collect();
        let mut sighting = PlateSighting {
            camera: camera_id(3),
            captured: CaptureTime {
                at: secs(50_000),
                uncertainty: Duration::ZERO,
                source: ClockSource::Rtcp,
            },
            misread: 0.3,
            others: vec![(plate(7), 0.25)],
            clock_known: false,
            vehicle: Vehicle { class: None, colour: None },
        };
        let roads = Roads { travel: &travel, positions: &positions };
        sighting.weigh_rivals(&plate(1), &index, roads);
        sighting.misread
    }

    #[test]
    fn a_text_that_is_nobodys_is_no_misread_and_a_vehicle_nearby_is() {
        // Vehicle 1 passes twenty times, not now.
        let own: Vec<Passage> = (0..20).map(|i| (1, 0, 1000 * i)).collect();
        let with = |times: &[(u32, i64)]| {
            let theirs = times.iter().map(|(camera, at)| (7, *camera, *at));
            misread_of(&own.iter().copied().chain(theirs).collect::<Vec<_>>())
        };
        let nobody = with(&[]);
        let elsewhere = with(&(0..20).map(|i| (0, 1000 * i + 500)).collect::<Vec<_>>());
        // A kilometre away a minute before.
        let near = with(&[(2, 49_940), (0, 500)]);
        // A kilometre away ten seconds before: it cannot have come from there.
        let too_near = with(&[(2, 49_990), (0, 500)]);
        assert!(nobody < 0.01, "{nobody}");
        assert!(nobody < elsewhere && elsewhere < 0.1, "{elsewhere}");
        assert!(near > 0.7, "{near}");
        assert!(too_near < 0.05, "{too_near}");
    }
}
