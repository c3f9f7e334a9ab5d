use super::super::town::{HOUR_S, camera_id, index_of, position, secs, traffic, trip};
use super::super::travel::TravelTimes;
use super::*;
use crate::testing::Noise;
use guiji_domain::{ClockSource, GeoPoint, VehicleClass, VehicleColour};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

struct Town {
    travel: TravelTimes,
    positions: HashMap<CameraId, GeoPoint>,
}

impl Town {
    fn learnt() -> Self {
        let index = index_of(&traffic(600, 8, &mut Noise(9)));
        let travel = TravelTimes::learn(&index, Duration::from_secs(3600)).unwrap();
        Self { travel, positions: (0..36).map(|c| (camera_id(c), position(c))).collect() }
    }

    fn roads(&self) -> Roads<'_> {
        Roads { travel: &self.travel, positions: &self.positions }
    }

    fn judge(&self, sightings: &[PlateSighting]) -> Verdict {
        judge(sightings, self.roads(), &CloneSettings::default()).unwrap()
    }
}

/// At noon and some seconds.
fn seen(camera: u32, at: i64, misread: f64) -> PlateSighting {
    PlateSighting {
        camera: camera_id(camera),
        captured: CaptureTime {
            at: secs(12 * HOUR_S + at),
            uncertainty: Duration::from_secs(1),
            source: ClockSource::Rtcp,
        },
        misread,
        others: Vec::new(),
        clock_known: false,
        vehicle: Vehicle { class: Some((VehicleClass::Car, 0.9)), colour: None },
    }
}

fn coloured(colour: VehicleColour, sighting: PlateSighting) -> PlateSighting {
    let vehicle = Vehicle { colour: Some((colour, 0.9)), ..sighting.vehicle };
    PlateSighting { vehicle, ..sighting }
}

#[test]
fn an_ordinary_drive_is_one_vehicle() {
    let way: Vec<_> = (0..6).map(|i| seen(6 + i, 85 * i64::from(i), 0.003)).collect();
    let verdict = Town::learnt().judge(&way);
    assert_eq!((verdict.finding, verdict.reasons.len()), (Finding::OneVehicle, 0), "{verdict:?}");
    assert!(verdict.probability > 0.95);
}

#[test]
fn two_vehicles_at_both_ends_of_town_are_a_clone() {
    // One drives along the south, the other along the north, in turn every 90 s: 5 km apart.
    let way: Vec<_> = (0..5)
        .flat_map(|i| {
            let at = 90 * i64::from(i);
            let south = coloured(VehicleColour::Black, seen(i, at, 0.002));
            [south, coloured(VehicleColour::Red, seen(30 + i, at + 40, 0.002))]
        })
        .collect();
    let verdict = Town::learnt().judge(&way);
    assert_eq!(verdict.finding, Finding::Clone, "{verdict:#?}");
    let words: Vec<_> = verdict.reasons.iter().map(ToString::to_string).collect();
    assert!(
        words[0].contains("sightings 1 and 2: at least") && words[0].contains("km/h"),
        "{words:?}"
    );
    assert!(words.contains(&"sightings 1 and 2: black, then red".to_owned()), "{words:?}");
    assert!(words.contains(&"9 trips contradict one vehicle".to_owned()), "{words:?}");
}

#[test]
fn a_doubtful_read_out_of_place_is_a_misread() {
    let mut way: Vec<_> = (0..6).map(|i| seen(6 + i, 85 * i64::from(i), 0.003)).collect();
    way.push(seen(33, 190, 0.2));
    let verdict = Town::learnt().judge(&way);
    assert_eq!(verdict.finding, Finding::Misread, "{verdict:#?}");
    let doubt = Reason::LatticeAmbiguity { sighting: 3, misread: 0.2 };
    assert!(verdict.reasons.contains(&doubt), "{:?}", verdict.reasons);
}

#[test]
fn one_camera_out_of_step_is_its_clock() {
    // To and fro past camera 9, whose clock is over nine minutes slow; neighbours 8 and 10 are right.
    let cameras = [8, 9, 10, 9, 8, 9, 10, 9, 8];
    let way: Vec<_> = (0..)
        .zip(cameras)
        .map(|(i, c)| seen(c, 600 * i - if c == 9 { 570 } else { 0 }, 0.002))
        .collect();
    let verdict = Town::learnt().judge(&way);
    assert_eq!(verdict.finding, Finding::ClockError, "{verdict:#?}");
    let camera = Reason::OneCameraInAll { camera: camera_id(9) };
    assert!(verdict.reasons.contains(&camera), "{:?}", verdict.reasons);
}

#[test]
fn one_contradiction_of_perfect_reads_is_undecided() {
    let verdict = Town::learnt().judge(&[seen(0, 0, 0.002), seen(35, 30, 0.002)]);
    assert_eq!(verdict.finding, Finding::Undecided, "{verdict:#?}");
    assert!(verdict.posterior[0] < 0.01, "but hardly one vehicle");
}

#[test]
fn uncertain_clocks_hide_a_contradiction() {
    let unsure = |camera, at| {
        let mut sighting = seen(camera, at, 0.002);
        sighting.captured.uncertainty = Duration::from_secs(300);
        sighting
    };
    let verdict = Town::learnt().judge(&[unsure(0, 0), unsure(35, 30)]);
    assert_eq!(verdict.finding, Finding::Undecided, "{verdict:#?}");
    let words = verdict.reasons[0].to_string();
    assert!(words.contains("may be off by 600.0 s together"), "{words}");
}

/// 40 s for a kilometre: 90 km/h, possible, but twice as fast as anybody.
#[test]
fn faster_than_everybody_is_said_with_the_quantile() {
    let verdict = Town::learnt().judge(&[seen(8, 0, 0.3), seen(9, 38, 0.002)]);
    let words = verdict.reasons[0].to_string();
    assert!(
        words.contains("at most 40 s, as fast as 0.2 % of") && words.contains("at all hours"),
        "{words}"
    );
    assert!(verdict.posterior[2] > verdict.posterior[0], "{verdict:?}");
}

/// Of drives through town, single and two at a time under one plate, with every tenth colour wrong: no innocent is
/// accused, though some stay undecided for a wrong colour, and the clones are nearly always found.
#[test]
fn planted_clones_are_found_and_the_innocent_left_alone() {
    let (town, noise) = (Town::learnt(), &mut Noise(4));
    let drive = |start: i64, colour: usize, noise: &mut Noise| -> Vec<_> {
        trip(0, 12 * HOUR_S + start, 12, noise)
            .into_iter()
            .map(|(_, camera, at)| {
                let wrong = noise.uniform() < 0.1;
                let read = if wrong { noise.below(9) } else { colour };
                let misread = 0.02 * f64::from(noise.uniform());
                coloured(VehicleColour::ALL[read], seen(camera, at - 12 * HOUR_S, misread))
            })
            .collect()
    };
    let mut found: BTreeMap<(bool, String), usize> = BTreeMap::new();
    for case in 0..100 {
        let colours = [noise.below(9), noise.below(9)];
        let mut way = drive(0, colours[0], noise);
        let cloned = case % 2 == 0;
        if cloned {
            way.extend(drive(noise.below(60) as i64, colours[1], noise));
        }
        *found.entry((cloned, format!("{:?}", town.judge(&way).finding))).or_default() += 1;
    }
    let count =
        |cloned, finding: &str| found.get(&(cloned, finding.to_owned())).copied().unwrap_or(0);
    assert!(count(true, "Clone") >= 45 && count(true, "OneVehicle") == 0, "{found:?}");
    let (innocent, open) = (count(false, "OneVehicle"), count(false, "Undecided"));
    assert!(innocent >= 30 && innocent + open == 50, "{found:?}");
}

#[test]
fn too_few_or_too_many_sightings_are_refused() {
    let town = Town { travel: TravelTimes::default(), positions: HashMap::new() };
    for n in [1, SIGHTINGS_MAX + 1] {
        let way: Vec<_> = (0..n).map(|i| seen(0, i as i64, 0.1)).collect();
        assert!(judge(&way, town.roads(), &CloneSettings::default()).is_err());
    }
    let way = [seen(0, 0, 0.1), seen(1, 60, 0.1)];
    let certain = CloneSettings { clone_prior: 1.0, ..CloneSettings::default() };
    let error = judge(&way, town.roads(), &certain).unwrap_err().to_string();
    assert!(error.contains("prior of a clone") && error.contains("between 0 and 1"), "{error}");
}

fn any_sighting() -> impl Strategy<Value = PlateSighting> {
    let colour = prop::option::of((0..VehicleColour::ALL.len(), 0f32..=1.0));
    (0u32..36, 0i64..1200, 0.0f64..=1.0, colour).prop_map(|(camera, at, misread, colour)| {
        let mut sighting = seen(camera, at, misread);
        sighting.vehicle.colour = colour.map(|(c, p)| (VehicleColour::ALL[c], p));
        sighting
    })
}

proptest! {
    /// Adds up the splits one by one.
    #[test]
    fn equals_the_sum_over_all_splits(sightings in prop::collection::vec(any_sighting(), 2..8)) {
        let positions = (0..36).map(|c| (camera_id(c), position(c))).collect();
        let town = Town { travel: TravelTimes::default(), positions };
        let settings = CloneSettings { clone_prior: 0.2, ..CloneSettings::default() };
        let case = Case::new(&sightings, town.roads(), &settings);
        let n = sightings.len();
        let chain = |members: &[usize]| members.windows(2).map(|w| case.same(w[0], w[1])).product::<f64>();
        let factorial = |k: usize| (1..=k).map(|i| i as f64).product::<f64>();
        let (mut clone, mut misread) = (0.0, 0.0);
        for split in 0_u32..1 << n {
            let (firsts, seconds): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| split >> i & 1 == 1);
            if !firsts.is_empty() && !seconds.is_empty() {
                // The urn's probability of one order with these numbers.
                let urn = factorial(firsts.len()) * factorial(seconds.len()) / factorial(n + 1);
                clone += urn * chain(&firsts) * chain(&seconds) * case.all_right();
            }
            if !seconds.is_empty() {
                let mut p: f64 = firsts.iter().map(|i| case.right(*i)).product::<f64>() * chain(&firsts);
                let again = |j: usize| case.misread_of(j).powf(settings.misread_again).min(0.5) * settings.misread_same;
                p *= firsts.iter().filter(|i| **i > seconds[0]).map(|i| 1.0 - again(*i)).product::<f64>();
                p *= case.misread_of(seconds[0]);
                for pair in seconds.windows(2) {
                    let (i, j) = (pair[0], pair[1]);
                    p *= case.misread_of(j) + case.right(j) * again(j) * case.same(i, j);
                }
                misread += p;
            }
        }
        clone /= 1.0 - 2.0 / (n as f64 + 1.0);
        prop_assert!((case.clone() / clone - 1.0).abs() < 1e-9 || clone.max(case.clone()) == 0.0);
        prop_assert!((case.misread() / misread - 1.0).abs() < 1e-9 || misread.max(case.misread()) == 0.0);

        let verdict = judge(&sightings, town.roads(), &settings).unwrap();
        prop_assert!((verdict.posterior.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let mut reversed = sightings.clone();
        reversed.reverse();
        let again = judge(&reversed, town.roads(), &settings).unwrap();
        let places: BTreeSet<_> = sightings.iter().map(|s| (s.captured.at, &s.camera)).collect();
        prop_assert!(places.len() < n || again == verdict, "the order given does not matter");
    }
}
