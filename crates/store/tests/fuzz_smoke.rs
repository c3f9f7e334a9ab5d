//! The targets of `fuzz/` on changed copies of real files, for a few seconds on stable Rust.

use std::path::Path;
use std::time::{Duration, Instant};

use guiji_store::fuzz;
use proptest::test_runner::{RngAlgorithm, TestRng};

const SECONDS: Duration = Duration::from_secs(2);

/// Bytes that are nearly right: flips, cuts, doubled and swapped parts.
fn changed(seed: &[u8], rng: &mut TestRng) -> Vec<u8> {
    use proptest::prelude::Rng as _;
    let mut bytes = seed.to_vec();
    for _ in 0..1 + rng.next_u32() % 4 {
        let length = bytes.len().max(1);
        let place = rng.next_u32() as usize % length;
        match rng.next_u32() % 5 {
            0 => bytes.truncate(place),
            1 => bytes.extend_from_within(place.min(bytes.len())..),
            2 => bytes.insert(place.min(bytes.len()), rng.next_u32() as u8),
            3 if place + 8 <= bytes.len() => {
                bytes[place..place + 8].copy_from_slice(&rng.next_u64().to_le_bytes());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << (rng.next_u32() % 8);
                }
            }
        }
    }
    bytes
}

/// Every file below a folder.
fn files(folder: &Path, all: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"))
    {
        match entry.path() {
            path if path.is_dir() => files(&path, all),
            path => all.push(std::fs::read(path).expect("a file")),
        }
    }
}

fn run(target: &mut dyn FnMut(&[u8])) -> u64 {
    let mut seeds = vec![Vec::new(), vec![0; 64], vec![255; 1024]];
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"), &mut seeds);
    assert!(seeds.len() > 5, "the stored files of all versions");
    let mut rng = TestRng::from_seed(RngAlgorithm::XorShift, &[3; 16]);
    seeds.iter().for_each(|seed| target(seed));
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < SECONDS {
        for seed in &seeds {
            target(&changed(seed, &mut rng));
            count += 1;
        }
    }
    count
}

#[test]
fn stored_bytes_of_any_kind_are_refused_or_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("day.seg");
    for (name, target) in [
        ("record", &mut fuzz::record as &mut dyn FnMut(&[u8])),
        ("audit", &mut fuzz::audit),
        ("bundle", &mut fuzz::bundle),
        ("segment", &mut |data: &[u8]| fuzz::segment(&path, data)),
    ] {
        println!("{name}: {} inputs", run(target));
    }
}
