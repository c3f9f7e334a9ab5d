use super::*;
use crate::testing::{Noise, lattice, noisy_lattice, plain_lattice, read_of, text};
use guiji_domain::Candidate;
use guiji_domain::PlateChar;
use proptest::prelude::*;

fn fuse(lattices: impl IntoIterator<Item = Lattice>, colour: PlateColour) -> Option<FusedPlate> {
    let mut fusion = PlateFusion::new(FusionSettings::default());
    for lattice in lattices {
        fusion.add(&read_of(lattice, Some(colour)));
    }
    fusion.plate()
}

fn random_plate(noise: &mut Noise) -> PlateText {
    const SERIAL: &[u8] = b"0123456789ABCDEFGHJKLMNPQRSTUVWXYZ";
    let provinces: Vec<_> = "浙苏皖赣沪湘鄂鲁豫冀".chars().collect();
    let mut plate = String::from(provinces[noise.below(provinces.len())]);
    plate.push(char::from(b'A' + noise.below(8) as u8));
    for _ in 0..5 {
        plate.push(char::from(SERIAL[noise.below(SERIAL.len())]));
    }
    text(&plate)
}

#[test]
fn five_reads_beat_the_best_of_them() {
    let mut noise = Noise(11);
    let (plates, signal) = (200, 1.9);
    let (mut fused_right, mut best_single_right) = (0, 0);
    for _ in 0..plates {
        let truth = random_plate(&mut noise);
        let reads: Vec<_> = (0..5).map(|_| noisy_lattice(&truth, signal, &mut noise)).collect();
        fused_right += usize::from(
            fuse(reads.clone(), PlateColour::Blue).is_some_and(|plate| plate.text == truth),
        );
        let best = reads
            .iter()
            .filter_map(|r| {
                decode(r, Some((PlateColour::Blue, 0.95)), None).texts.into_iter().next()
            })
            .max_by(|a, b| a.posterior.total_cmp(&b.posterior));
        best_single_right += usize::from(best.is_some_and(|b| b.text == truth));
    }
    // Golden for seed 11; a change is to be explained.
    assert_eq!((fused_right, best_single_right), (194, 90), "of {plates}");
}

#[test]
fn confidence_is_roughly_a_probability() {
    // Reads with half of their noise in common, as frames of one track have.
    let mut noise = Noise(5);
    let (mut claimed, mut right, mut answers) = (0.0, 0, 0);
    for _ in 0..400 {
        let truth = random_plate(&mut noise);
        let signal = 1.6 + noise.uniform();
        let shared = noisy_lattice(&truth, signal, &mut noise);
        let reads = (0..6).map(|i| {
            if i % 3 == 0 { shared.clone() } else { noisy_lattice(&truth, signal, &mut noise) }
        });
        if let Some(plate) = fuse(reads.collect::<Vec<_>>(), PlateColour::Blue) {
            claimed += plate.confidence;
            right += usize::from(plate.text == truth);
            answers += 1;
        }
    }
    let (claimed, right) = (claimed / answers as f32, right as f32 / answers as f32);
    assert!((claimed - right).abs() < 0.1, "claims {claimed}, is right {right} of {answers}");
}

#[test]
fn one_bad_frame_has_no_veto() {
    let good = || plain_lattice("浙J12345", 0.95);
    let plate = fuse([good(), good(), good(), plain_lattice("浙J12845", 0.999)], PlateColour::Blue);
    let plate = plate.unwrap();
    assert_eq!(plate.text.as_str(), "浙J12345");
    assert_eq!(plate.reads, 4);
}

#[test]
fn a_single_good_read_is_confident_and_its_neighbours_are_not() {
    let plate = fuse([plain_lattice("浙J12345", 0.995)], PlateColour::Blue).unwrap();
    assert!(plate.confidence > 0.9, "{}", plate.confidence);
    assert_eq!(plate.kind, Some(PlateKind::Small));
    assert!((plate.lattice.probability(&plate.text) - plate.confidence).abs() < 0.02);
    for other in ["浙J12346", "苏J12345", "浙K12345", "浙JD12345"] {
        assert!(plate.lattice.probability(&text(other)) < 0.01, "{other}");
    }
}

#[test]
fn the_same_frame_again_and_again_is_no_proof() {
    let doubtful = || {
        lattice(&[
            &[('浙', 0.99)],
            &[('J', 0.99)],
            &[('1', 0.99)],
            &[('2', 0.99)],
            &[('8', 0.7), ('B', 0.29)],
            &[('4', 0.99)],
            &[('5', 0.99)],
        ])
    };
    let one = fuse([doubtful()], PlateColour::Blue).unwrap();
    let many = fuse((0..20).map(|_| doubtful()), PlateColour::Blue).unwrap();
    assert!(many.confidence > one.confidence);
    assert!(many.confidence < 0.96, "{}", many.confidence);
}

#[test]
fn a_lost_character_does_not_shift_the_others() {
    let whole = || plain_lattice("浙JD12345", 0.97);
    // A CTC reader lost the 2: everything after it stands one place too far left.
    let lost = || plain_lattice("浙JD1345", 0.97);
    let plate = fuse([whole(), lost(), whole(), lost(), whole()], PlateColour::Green).unwrap();
    assert_eq!(plate.text.as_str(), "浙JD12345");
    assert!(plate.confidence > 0.8, "{}", plate.confidence);
}

#[test]
fn colour_chooses_between_lengths() {
    let reads = || {
        [
            plain_lattice("浙JD1234", 0.97),
            plain_lattice("浙JD12345", 0.97),
            plain_lattice("浙JD1234", 0.97),
        ]
    };
    assert_eq!(fuse(reads(), PlateColour::Green).unwrap().text.as_str(), "浙JD12345");
    assert_eq!(fuse(reads(), PlateColour::Blue).unwrap().text.as_str(), "浙JD1234");
}

#[test]
fn seven_characters_only_on_a_green_plate_are_unreadable() {
    assert_eq!(fuse([plain_lattice("浙JD1234", 0.98)], PlateColour::Green), None);
    assert_eq!(PlateFusion::new(FusionSettings::default()).plate(), None);
}

#[test]
fn fixed_heads_with_an_absent_class_fuse_with_emitted_characters() {
    let mut heads = plain_lattice("浙J12345", 0.97).positions().to_vec();
    heads.push(Position::new(vec![Candidate { character: None, probability: 0.97 }]).unwrap());
    let heads = Lattice::new(heads).unwrap();
    let plate = fuse([heads, plain_lattice("浙J12345", 0.97)], PlateColour::Blue).unwrap();
    assert_eq!(plate.text.as_str(), "浙J12345");
    assert!(plate.confidence > 0.9, "{}", plate.confidence);
}

#[test]
fn a_doubtful_last_head_stays_in_the_lattice() {
    let mut heads = plain_lattice("浙JD1234", 0.98).positions().to_vec();
    let last = [(PlateChar::new('5'), 0.55), (None, 0.44)];
    let last = last.map(|(character, probability)| Candidate { character, probability });
    heads.push(Position::new(last.to_vec()).unwrap());
    let plate = fuse([Lattice::new(heads).unwrap()], PlateColour::Blue).unwrap();
    let [seven, eight] = ["浙JD1234", "浙JD12345"].map(|t| plate.lattice.probability(&text(t)));
    assert!(seven > 0.3 && eight > 0.01 && seven > eight, "{seven} {eight}");
}

#[test]
fn reads_are_bounded_and_the_weakest_give_way() {
    let mut fusion = PlateFusion::new(FusionSettings { reads_max: 4, ..Default::default() });
    for i in 0..100 {
        let mut read = read_of(plain_lattice("浙J12345", 0.9), None);
        read.sharpness = i as f32 / 100.0;
        fusion.add(&read);
    }
    assert_eq!((fusion.reads.len(), fusion.reads()), (4, 100));
    assert!(
        fusion
            .reads
            .iter()
            .all(|r| r.weight > weight(&read_of(plain_lattice("浙J12345", 0.9), None)))
    );
}

#[test]
fn differences_count_characters() {
    for (a, b, n) in [
        ("浙J12345", "浙J12345", 0),
        ("浙J12345", "浙J12845", 1),
        ("浙JD12345", "浙JD1345", 1),
        ("浙J12345", "苏B6789K", 7),
    ] {
        let [a, b] = [a, b].map(|t| plain_lattice(t, 0.97));
        assert_eq!((differences(&a, &b), differences(&b, &a)), (n, n), "{a:?} {b:?}");
    }
}

fn any_lattice() -> impl Strategy<Value = Lattice> {
    let position = prop::collection::vec((0..=PlateChar::COUNT, 0.0f32..1.0), 0..7);
    prop::collection::vec(position, 0..=9).prop_map(|positions| {
        let position = |entries: Vec<(usize, f32)>| {
            let sum: f32 = entries.iter().map(|e| e.1).sum::<f32>().max(1.0);
            let mut candidates: Vec<Candidate> = Vec::new();
            for (i, p) in entries {
                let character = PlateChar::from_index(i);
                if candidates.iter().all(|c| c.character != character) {
                    candidates.push(Candidate { character, probability: p / sum });
                }
            }
            Position::new(candidates).unwrap()
        };
        Lattice::new(positions.into_iter().map(position).collect()).unwrap()
    })
}

proptest! {
    #[test]
    fn any_reads_give_a_grammatical_plate_or_none(
        lattices in prop::collection::vec(any_lattice(), 0..6), green: bool,
    ) {
        let colour = if green { PlateColour::Green } else { PlateColour::Blue };
        if let Some(plate) = fuse(lattices, colour) {
            prop_assert!(!plate.text.kinds().is_empty());
            prop_assert!((0.0..=1.0).contains(&plate.confidence));
            prop_assert!(!(green && plate.text.chars().count() == 7)
                || plate.text.kinds().contains(&PlateKind::CivilAviation));
        }
    }

    #[test]
    fn similarity_is_symmetric_and_bounded(a in any_lattice(), b in any_lattice()) {
        let (ab, ba) = (similarity(&a, &b), similarity(&b, &a));
        prop_assert!((ab - ba).abs() < 1e-4 && (0.0..=1.0).contains(&ab));
    }

    #[test]
    fn the_order_of_reads_hardly_matters(seed: u64) {
        let mut noise = Noise(seed);
        let truth = random_plate(&mut noise);
        let mut reads: Vec<_> = (0..4).map(|_| noisy_lattice(&truth, 3.0, &mut noise)).collect();
        let a = fuse(reads.clone(), PlateColour::Blue);
        reads.reverse();
        let b = fuse(reads, PlateColour::Blue);
        prop_assert_eq!(a.as_ref().map(|p| &p.text), b.as_ref().map(|p| &p.text));
    }
}
