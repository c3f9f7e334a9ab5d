//! What the decisions cost: `cargo test -p guiji-analysis -- --ignored --nocapture what_it_costs`.

use std::hint::black_box;
use std::time::Instant;

use guiji_domain::{
    BBox, Detection, PlateColour, SightingId, Timestamp, TrackId, VehicleClass, VehicleDescription,
    WatchEntry, WatchEntryId, WatchTarget,
};

use crate::fusion::{FusionSettings, PlateFusion, decode};
use crate::testing::{Noise, noisy_lattice, read_of, text};
use crate::tracker::{Tracker, TrackerSettings};
use crate::watch::WatchMatcher;

fn time(what: &str, times: u32, mut run: impl FnMut(u32)) {
    let begin = Instant::now();
    (0..times).for_each(&mut run);
    println!("{what}: {:?}", begin.elapsed() / times);
}

#[test]
#[ignore = "prints costs, checks nothing"]
fn what_it_costs() {
    let mut noise = Noise(1);
    let plate = text("浙J12345");
    let reads: Vec<_> = (0..16)
        .map(|_| read_of(noisy_lattice(&plate, 3.0, &mut noise), Some(PlateColour::Blue)))
        .collect();
    time("decode a lattice", 1000, |_| {
        black_box(decode(&reads[0].lattice, reads[0].colour, Some(reads[0].rows)));
    });
    let mut fusion = PlateFusion::new(FusionSettings::default());
    reads.iter().for_each(|r| fusion.add(r));
    time("fuse 16 reads", 1000, |_| {
        black_box(fusion.plate());
    });

    for vehicles in [5, 20, 60] {
        let mut tracker = Tracker::new(TrackerSettings::default());
        let frames: Vec<Vec<_>> = (0..100)
            .map(|frame| {
                (0..vehicles)
                    .map(|i| {
                        let (x, y) = (200.0 * (i % 10) as f32, 180.0 * (i / 10) as f32);
                        let x = x + 2.0 * frame as f32 + noise.normal();
                        let bbox = BBox::new(x, y, x + 150.0, y + 120.0).unwrap();
                        Detection { bbox, class: Some(VehicleClass::Car), score: 0.8 }
                    })
                    .collect()
            })
            .collect();
        time(&format!("track {vehicles} vehicles"), 100, |i| {
            let at = Timestamp::from_millis(80 * i64::from(i));
            black_box(tracker.update(at, &frames[i as usize]));
        });
    }

    let entries: Vec<_> = (0..100_000_u32)
        .map(|i| WatchEntry {
            id: WatchEntryId::new(&format!("e{i}")).unwrap(),
            target: WatchTarget::Plate(text(&format!("浙J{i:05}"))),
            case_number: "A-1".into(),
            reason: "theft".into(),
            owner: "desk".into(),
            created: Timestamp::from_secs(0),
            expires: Timestamp::from_secs(1000),
            threshold: 0.5,
            cameras: Vec::new(),
            area: None,
            vehicle: VehicleDescription::default(),
            hours: None,
            approval: None,
        })
        .collect();
    let begin = Instant::now();
    let matcher = WatchMatcher::new(entries);
    println!("index 100,000 plates: {:?}", begin.elapsed());
    let camera = crate::testing::camera_at("k1", 29.0, 121.0);
    let mut sighting = crate::testing::sighting_of(&camera, Timestamp::from_secs(1));
    sighting.plate =
        fusion.plate().map_or(guiji_domain::PlateState::NotRead, guiji_domain::PlateState::Read);
    sighting.id = SightingId::for_track(&camera.id, TrackId(2), Timestamp::from_secs(1));
    time("match one sighting against them", 10_000, |_| {
        black_box(matcher.matches(&sighting, None, Timestamp::from_secs(2)));
    });
}
