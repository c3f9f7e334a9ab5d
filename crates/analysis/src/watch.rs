//! Which watch-list entries a sighting rings, and what the alert log should say of it.
//!
//! The probability of a match is the probability of the entry's plate or pattern under the fused lattice, which the
//! fusion has already brought under the grammar: a plate that differs in one character from a good read has
//! next to none, and a doubtful character rings each of its readings with its own share.
//!
//! Exact plates, and patterns with a fixed beginning, are found by hash: the texts and beginnings that a lattice can
//! mean with at least the probability [`INDEXED_FROM`] are few (at most one over it at each length), so they are
//! enumerated and looked up. Entries with a lower threshold, and patterns without a fixed beginning, are tried one by
//! one. The answer equals trying all (a property test proves it).

use std::collections::HashMap;

use guiji_domain::{
    Alert, AlertId, AlertStage, PlateChar, PlateState, Position, Sighting, SightingStage,
    Timestamp, WatchEntry, WatchTarget,
};

/// An entry that a sighting rings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match<'a> {
    /// The entry.
    pub entry: &'a WatchEntry,
    /// The probability that the sighting is truly meant, at least the entry's threshold.
    pub probability: f32,
}

/// Entries with at least this threshold can be found by hash. A symbol that a lattice position does not list has at
/// most 1/73 (79 symbols less six listed), which lies below: so listed symbols are all that need be enumerated.
pub const INDEXED_FROM: f32 = 0.02;

/// A watch-list, indexed. Building it costs about a microsecond an entry; rebuild it when the list changes.
#[derive(Debug, Clone, Default)]
pub struct WatchMatcher {
    entries: Vec<WatchEntry>,
    /// Entry numbers by the characters that their plate or pattern begins with.
    by_beginning: HashMap<u64, Vec<u32>>,
    /// Entry numbers that the index cannot hold.
    unindexed: Vec<u32>,
}

impl WatchMatcher {
    /// Indexes the entries. Expired ones may be among them; they never match.
    pub fn new(entries: Vec<WatchEntry>) -> Self {
        let mut by_beginning: HashMap<u64, Vec<u32>> = HashMap::new();
        let mut unindexed = Vec::new();
        for (number, entry) in (0..).zip(&entries) {
            match beginning(entry) {
                Some(key) => by_beginning.entry(key).or_default().push(number),
                None => unindexed.push(number),
            }
        }
        Self { entries, by_beginning, unindexed }
    }

    /// The entries, in the order given.
    pub fn entries(&self) -> &[WatchEntry] {
        &self.entries
    }

    /// The entries that a sighting rings, likeliest first. `at` is the time that entries must be in force at: the
    /// present for live video, the capture time for recordings.
    pub fn matches(&self, sighting: &Sighting, at: Timestamp) -> Vec<Match<'_>> {
        let mut candidates = self.unindexed.clone();
        if let PlateState::Read(plate) = &sighting.plate
            && !self.by_beginning.is_empty()
        {
            for_each_beginning(plate.lattice.positions(), 0, 1.0, 0, &mut |key| {
                candidates.extend(self.by_beginning.get(&key).into_iter().flatten());
            });
        }
        let mut matches: Vec<_> = candidates
            .into_iter()
            .filter_map(|number| {
                let entry = &self.entries[number as usize];
                matched(entry, sighting, at)
            })
            .collect();
        sort(&mut matches);
        matches
    }
}

fn matched<'a>(entry: &'a WatchEntry, sighting: &Sighting, at: Timestamp) -> Option<Match<'a>> {
    if !entry.applies(&sighting.camera, at) {
        return None;
    }
    let probability = entry.probability(sighting);
    (probability >= entry.threshold).then_some(Match { entry, probability })
}

fn sort(matches: &mut [Match<'_>]) {
    matches.sort_by(|a, b| {
        b.probability.total_cmp(&a.probability).then_with(|| a.entry.id.cmp(&b.entry.id))
    });
}

/// The key of an entry whose probability cannot exceed that of a beginning of the text. `None` when there is no such
/// bound, or the threshold is too low for the index.
fn beginning(entry: &WatchEntry) -> Option<u64> {
    if entry.threshold.is_nan() || entry.threshold < INDEXED_FROM {
        return None;
    }
    match &entry.target {
        WatchTarget::Plate(text) => Some(text.chars().fold(0, extend_key)),
        // With two `*` a text may be counted more than once, and more than its beginning.
        WatchTarget::Pattern(pattern) if pattern.as_str().matches('*').count() > 1 => None,
        WatchTarget::Pattern(pattern) => {
            let prefix = pattern.prefix();
            let key = prefix.chars().filter_map(PlateChar::new).fold(0, extend_key);
            (!prefix.is_empty()).then_some(key)
        }
        WatchTarget::Description => None,
    }
}

/// Injective for up to nine characters: a number in base 79, below 2^57.
fn extend_key(key: u64, c: PlateChar) -> u64 {
    key * (PlateChar::COUNT as u64 + 1) + c.index() as u64 + 1
}

/// Calls `found` with every beginning of at least the probability [`INDEXED_FROM`], a little rounding allowed.
fn for_each_beginning(
    positions: &[Position],
    depth: usize,
    probability: f32,
    key: u64,
    found: &mut impl FnMut(u64),
) {
    let Some(position) = positions.get(depth) else { return };
    for candidate in position.candidates() {
        let probability = probability * candidate.probability;
        if probability < INDEXED_FROM * 0.99 {
            break; // candidates are sorted
        }
        if let Some(c) = candidate.character {
            let key = extend_key(key, c);
            found(key);
            for_each_beginning(positions, depth + 1, probability, key, found);
        }
    }
}

/// What the alert log should be told of a sighting, given the latest logged alert of each entry that it rang before
/// (see [`guiji_domain::AlertLog::alerts_of`]).
///
/// * Provisional sighting: a provisional alert for each match that has no alert yet.
/// * Final sighting: a confirmed alert for each match not yet confirmed, and a withdrawn one for each provisional
///   alert without a match, because the text changed or the entry is no longer in force.
pub fn alerts(
    sighting: &Sighting,
    matches: &[Match<'_>],
    earlier: &[Alert],
    now: Timestamp,
) -> Vec<Alert> {
    let stage = match sighting.stage {
        SightingStage::Provisional => AlertStage::Provisional,
        SightingStage::Final => AlertStage::Confirmed,
    };
    let mut alerts = Vec::new();
    for Match { entry, probability } in matches {
        let id = AlertId { sighting: sighting.id, entry: entry.id.clone() };
        let told = earlier.iter().find(|a| a.id == id).map(|a| a.stage);
        let due = match (stage, told) {
            (AlertStage::Provisional, told) => told.is_none(),
            (_, told) => told != Some(AlertStage::Confirmed),
        };
        if due {
            alerts.push(Alert {
                id,
                cursor: 0,
                stage,
                raised: now,
                camera: sighting.camera.clone(),
                captured: sighting.captured,
                read: sighting.plate_text().cloned(),
                target: entry.target.clone(),
                case_number: entry.case_number.clone(),
                probability: *probability,
                units: Vec::new(),
                acknowledgement: None,
                repeat: None,
            });
        }
    }
    if sighting.stage == SightingStage::Final {
        let unmatched = earlier.iter().filter(|a| {
            a.stage == AlertStage::Provisional
                && a.sighting() == sighting.id
                && matches.iter().all(|m| m.entry.id != a.id.entry)
        });
        alerts.extend(unmatched.map(|alert| withdrawn(alert, sighting, now)));
    }
    alerts
}

fn withdrawn(alert: &Alert, sighting: &Sighting, now: Timestamp) -> Alert {
    let (read, probability) = match &sighting.plate {
        PlateState::Read(plate) => {
            (Some(plate.text.clone()), alert.target.probability(&plate.lattice))
        }
        // Nothing was read after all: what the withdrawn alert showed stays to be seen.
        PlateState::Unreadable | PlateState::NotRead => (alert.read.clone(), 0.0),
    };
    Alert {
        cursor: 0,
        stage: AlertStage::Withdrawn,
        raised: now,
        captured: sighting.captured,
        read,
        probability,
        ..alert.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fusion::{FusionSettings, PlateFusion};
    use crate::testing::{
        Noise, camera_at, lattice, noisy_lattice, plain_lattice, read_of, sighting_of, text,
    };
    use guiji_domain::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn camera(name: &str) -> CameraId {
        CameraId::new(name).unwrap()
    }

    fn entry(id: &str, target: WatchTarget, threshold: f32) -> WatchEntry {
        WatchEntry {
            id: WatchEntryId::new(id).unwrap(),
            target,
            case_number: "A-1".into(),
            reason: "theft".into(),
            owner: "desk".into(),
            created: Timestamp::from_secs(0),
            expires: Timestamp::from_secs(1000),
            threshold,
            cameras: Vec::new(),
            vehicle: VehicleDescription::default(),
            hours: None,
            approval: Some(Approval { by: "chief".into(), at: Timestamp::from_secs(0) }),
        }
    }

    fn plate_entry(id: &str, plate: &str) -> WatchEntry {
        entry(id, WatchTarget::Plate(text(plate)), WatchEntry::THRESHOLD_DEFAULT)
    }

    fn pattern(text: &str) -> WatchTarget {
        WatchTarget::Pattern(PlatePattern::parse(text).unwrap())
    }

    fn sighting(plate: PlateState, stage: SightingStage) -> Sighting {
        let camera = camera_at("k1", 29.0, 121.0);
        Sighting { plate, stage, ..sighting_of(&camera, Timestamp::from_secs(10)) }
    }

    fn seen_as(lattice: Lattice) -> Sighting {
        let plate = FusedPlate {
            text: text("浙J12345"),
            kind: None,
            colour: None,
            rows: PlateRows::One,
            lattice,
            confidence: 0.9,
            reads: 1,
        };
        sighting(PlateState::Read(plate), SightingStage::Final)
    }

    fn read(plate: &str, stage: SightingStage) -> Sighting {
        let mut fusion = PlateFusion::new(FusionSettings::default());
        (0..3).for_each(|_| fusion.add(&read_of(plain_lattice(plate, 0.97), None)));
        sighting(PlateState::Read(fusion.plate().unwrap()), stage)
    }

    fn ids(matches: &[Match<'_>]) -> Vec<String> {
        matches.iter().map(|m| m.entry.id.to_string()).collect()
    }

    const NOW: Timestamp = Timestamp::from_secs(11);

    #[test]
    fn rings_for_the_plate_and_not_for_its_neighbours() {
        let matcher = WatchMatcher::new(vec![
            plate_entry("right", "浙J12345"),
            plate_entry("one-off", "浙J12346"),
            plate_entry("province-off", "苏J12345"),
            plate_entry("longer", "浙JD12345"),
            entry("wide", pattern("浙J?23*"), 0.5),
            entry("beside", pattern("浙K*"), 0.5),
        ]);
        let sighting = read("浙J12345", SightingStage::Final);
        let matches = matcher.matches(&sighting, NOW);
        assert_eq!(ids(&matches), ["wide", "right"]);
        assert!(matches.iter().all(|m| m.probability > 0.9), "{matches:?}");
    }

    #[test]
    fn a_doubtful_character_rings_for_both_readings_at_a_low_threshold() {
        let doubtful = lattice(&[
            &[('浙', 0.99)],
            &[('J', 0.99)],
            &[('1', 0.99)],
            &[('2', 0.99)],
            &[('8', 0.6), ('B', 0.39)],
            &[('4', 0.99)],
            &[('5', 0.99)],
        ]);
        let at = |threshold| {
            WatchMatcher::new(vec![
                entry("eight", WatchTarget::Plate(text("浙J12845")), threshold),
                entry("b", WatchTarget::Plate(text("浙J12B45")), threshold),
            ])
        };
        let sighting = seen_as(doubtful);
        assert_eq!(ids(&at(0.5).matches(&sighting, NOW)), ["eight"]);
        assert_eq!(ids(&at(0.3).matches(&sighting, NOW)), ["eight", "b"]);
    }

    #[test]
    fn time_camera_and_plate_state_decide() {
        let mut elsewhere = plate_entry("elsewhere", "浙J12345");
        elsewhere.cameras = vec![camera("k9")];
        let matcher = WatchMatcher::new(vec![plate_entry("here", "浙J12345"), elsewhere]);
        let seen = read("浙J12345", SightingStage::Final);
        assert_eq!(ids(&matcher.matches(&seen, NOW)), ["here"]);
        assert!(matcher.matches(&seen, Timestamp::from_secs(1000)).is_empty());
        let unread = sighting(PlateState::Unreadable, SightingStage::Final);
        assert!(matcher.matches(&unread, NOW).is_empty());
    }

    #[test]
    fn descriptions_hours_and_approval_decide() {
        let white_car = VehicleDescription {
            class: Some(VehicleClass::Car),
            colour: Some(VehicleColour::White),
            heading: None,
        };
        let described = |id: &str, vehicle, threshold| WatchEntry {
            vehicle,
            ..entry(id, WatchTarget::Description, threshold)
        };
        let mut unapproved = described("unapproved", white_car, 0.3);
        unapproved.approval = None;
        let mut plate = plate_entry("plate-and-looks", "浙J12345");
        plate.vehicle = VehicleDescription { class: Some(VehicleClass::Bus), ..Default::default() };
        plate.approval = None;
        let mut at_night = described("at-night", white_car, 0.3);
        // The sighting is at eight in the morning in China.
        at_night.hours = Some(DailyHours::new(20 * 60, 6 * 60).unwrap());
        let red = VehicleDescription { colour: Some(VehicleColour::Red), ..white_car };
        let matcher = WatchMatcher::new(vec![
            described("white-car", white_car, 0.3),
            described("red-car", red, 0.3),
            unapproved,
            plate,
            at_night,
        ]);
        let looks = |class, colour| Sighting {
            vehicle: Vehicle { class, colour },
            ..sighting(PlateState::Unreadable, SightingStage::Final)
        };
        let white = looks(Some((VehicleClass::Car, 0.8)), Some((VehicleColour::White, 0.6)));
        let matches = matcher.matches(&white, NOW);
        assert_eq!(ids(&matches), ["white-car"]);
        assert!((matches[0].probability - 0.48).abs() < 1e-6);
        let raised = alerts(&white, &matches, &[], NOW);
        assert_eq!((raised.len(), raised[0].read.clone()), (1, None), "no plate is needed");
        assert!(matcher.matches(&looks(None, None), NOW).is_empty(), "nothing seen is no match");

        // A plate that was read rings whatever was not seen of the body, and not against what was.
        let read = read("浙J12345", SightingStage::Final);
        let body = |class| Sighting { vehicle: Vehicle { class, colour: None }, ..read.clone() };
        assert_eq!(ids(&matcher.matches(&body(None), NOW)), ["plate-and-looks"]);
        assert_eq!(
            ids(&matcher.matches(&body(Some((VehicleClass::Bus, 0.9))), NOW)),
            ["plate-and-looks"]
        );
        assert!(matcher.matches(&body(Some((VehicleClass::Car, 0.9))), NOW).is_empty());
    }

    #[test]
    fn alerts_are_raised_confirmed_and_withdrawn_once() {
        let entries = [plate_entry("a", "浙J12345"), plate_entry("b", "浙J12346")];
        let provisional = read("浙J12345", SightingStage::Provisional);
        let first = [Match { entry: &entries[0], probability: 0.9 }];
        let raised = alerts(&provisional, &first, &[], NOW);
        assert_eq!((raised.len(), raised[0].stage), (1, AlertStage::Provisional));
        assert!(alerts(&provisional, &first, &raised, NOW).is_empty(), "raised once");

        // The final sighting agrees.
        let same = read("浙J12345", SightingStage::Final);
        let confirmed = alerts(&same, &first, &raised, NOW);
        assert_eq!((confirmed.len(), confirmed[0].stage), (1, AlertStage::Confirmed));
        assert_eq!(confirmed[0].id, raised[0].id);
        assert!(alerts(&same, &first, &confirmed, NOW).is_empty(), "confirmed once");

        // Or it reads another plate, which is watched for too.
        let other = read("浙J12346", SightingStage::Final);
        let second = [Match { entry: &entries[1], probability: 0.9 }];
        let changed = alerts(&other, &second, &raised, NOW);
        let stages: Vec<_> = changed.iter().map(|a| (a.id.entry.to_string(), a.stage)).collect();
        assert_eq!(
            stages,
            [("b".into(), AlertStage::Confirmed), ("a".into(), AlertStage::Withdrawn)]
        );
        assert!(changed[1].probability < 0.1 && changed[1].read == Some(text("浙J12346")));

        // Or nothing.
        let unread = sighting(PlateState::Unreadable, SightingStage::Final);
        let withdrawn = alerts(&unread, &[], &raised, NOW);
        assert_eq!((withdrawn.len(), withdrawn[0].stage), (1, AlertStage::Withdrawn));
        assert!(alerts(&unread, &[], &withdrawn, NOW).is_empty(), "withdrawn once");
    }

    /// The scale asked for: 100,000 entries and 1000 sightings a second on one core.
    #[test]
    fn a_large_list_is_fast() {
        let mut noise = Noise(1);
        let mut plates = Vec::new();
        for i in 0..100_000_u32 {
            plates.push(plate_entry(&format!("e{i}"), &format!("浙J{i:05}")));
        }
        let matcher = WatchMatcher::new(plates);
        let sightings: Vec<_> = (0..1000)
            .map(|i| seen_as(noisy_lattice(&text(&format!("浙J{:05}", i * 97)), 3.5, &mut noise)))
            .collect();
        let begin = std::time::Instant::now();
        let found: usize = sightings.iter().map(|s| matcher.matches(s, NOW).len()).sum();
        let took = begin.elapsed();
        assert!(found > 300, "{found}");
        assert!(took < Duration::from_secs(1), "{took:?} for 1000 sightings");
    }

    fn any_target() -> impl Strategy<Value = WatchTarget> {
        prop_oneof![
            "[浙苏][AB][AB01]{4,6}".prop_filter_map("a plate", |t| {
                PlateText::parse(&t).ok().map(WatchTarget::Plate)
            }),
            "[浙苏?*][AB?*][AB01?*]{1,5}\\*?".prop_filter_map("a pattern", |t| {
                PlatePattern::parse(&t).ok().map(WatchTarget::Pattern)
            }),
        ]
    }

    /// Lattices over a small alphabet, so that matches are common, with absent and unlisted symbols.
    fn any_lattice() -> impl Strategy<Value = Lattice> {
        let position = |symbols: &'static str| {
            prop::collection::vec(0.0f32..1.0, symbols.chars().count()).prop_map(move |weights| {
                let sum: f32 = weights.iter().map(|w| w.powi(6)).sum::<f32>().max(1e-9) * 1.002;
                let candidates = symbols.chars().zip(weights).map(|(c, w)| Candidate {
                    character: PlateChar::new(c),
                    probability: w.powi(6) / sum,
                });
                Position::new(candidates.collect()).unwrap()
            })
        };
        (
            position("浙苏"),
            position("AB8"),
            prop::collection::vec(position("AB01"), 4..5),
            prop::collection::vec(position("AB01_"), 0..4),
        )
            .prop_map(|(province, office, serial, end)| {
                let all = [province, office].into_iter().chain(serial).chain(end);
                Lattice::new(all.take(9).collect()).unwrap()
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn the_index_equals_trying_all(
            targets in prop::collection::vec((any_target(), 0.001f32..1.0), 0..60),
            lattice in any_lattice(),
        ) {
            let entries: Vec<_> = targets
                .into_iter()
                .enumerate()
                .map(|(i, (target, t))| entry(&format!("e{i}"), target, t * t))
                .collect();
            let sighting = seen_as(lattice.clone());
            let mut all: Vec<_> =
                entries.iter().filter_map(|e| matched(e, &sighting, NOW)).collect();
            sort(&mut all);
            let matcher = WatchMatcher::new(entries.clone());
            prop_assert_eq!(matcher.matches(&sighting, NOW), all);
        }
    }
}
