//! A small simulated town for tests: a grid of cameras a kilometre apart, traffic that mostly goes straight on and is
//! slower in the rush hours.

use guiji_domain::{CameraId, GeoPoint, PlateText, Timestamp};
use proptest::prelude::*;

use super::{PassageIndex, PassageIndexBuilder};
use crate::testing::{Noise, text};

/// Vehicle, camera, second.
pub(super) type Passage = (u32, u32, i64);

pub(super) const HOUR_S: i64 = 3600;
pub(super) const DAY_S: i64 = 24 * HOUR_S;
/// Cameras along each side of the town.
pub(super) const SIDE: u32 = 6;

pub(super) fn plate(vehicle: u32) -> PlateText {
    text(&format!("浙J{vehicle:05}"))
}

pub(super) fn camera_id(camera: u32) -> CameraId {
    CameraId::new(&format!("c{camera:03}")).unwrap()
}

pub(super) fn secs(at: i64) -> Timestamp {
    Timestamp::from_secs(at)
}

pub(super) fn index_of(passages: &[Passage]) -> PassageIndex {
    let mut builder = PassageIndexBuilder::default();
    for (vehicle, camera, at) in passages {
        builder.add(&plate(*vehicle), &camera_id(*camera), secs(*at)).unwrap();
    }
    builder.build()
}

/// Few vehicles and cameras within two hours and a half: everything collides with everything.
pub(super) fn any_passages(max: usize) -> impl Strategy<Value = Vec<Passage>> {
    prop::collection::vec((0u32..12, 0u32..8, 0i64..9000), 0..max)
}

/// Where a camera stands: 1 km to the next in both directions.
pub(super) fn position(camera: u32) -> GeoPoint {
    let (row, column) = (f64::from(camera / SIDE), f64::from(camera % SIDE));
    // A kilometre is 1/111.195 of a degree of latitude, and of longitude at the equator.
    GeoPoint::new(row / 111.195, column / 111.195).unwrap()
}

/// One trip: `legs` from a camera, going straight on three times in four.
pub(super) fn trip(vehicle: u32, start: i64, legs: usize, noise: &mut Noise) -> Vec<Passage> {
    let side = SIDE as i32;
    let (mut x, mut y) = (noise.below(SIDE as usize) as i32, noise.below(SIDE as usize) as i32);
    let mut heading = noise.below(4);
    let mut at = start as f64;
    let mut passages = vec![(vehicle, (y * side + x) as u32, start)];
    while passages.len() <= legs {
        let turn = match noise.below(8) {
            0 => 1,
            1 => 3,
            _ => 0,
        };
        let mut next = (heading + turn) % 4;
        let ahead = |h: usize| {
            let (dx, dy) = [(1, 0), (0, 1), (-1, 0), (0, -1)][h];
            let (x, y) = (x + dx, y + dy);
            ((0..side).contains(&x) && (0..side).contains(&y)).then_some((x, y))
        };
        while ahead(next).is_none() {
            next = (next + 1) % 4;
        }
        (x, y) = ahead(next).unwrap();
        heading = next;
        at += leg_secs(at, noise);
        passages.push((vehicle, (y * side + x) as u32, at as i64));
    }
    passages
}

/// 1 km at 45 km/h, half of it in the rush hours, give or take 15 %.
fn leg_secs(at: f64, noise: &mut Noise) -> f64 {
    let rush = matches!((at as i64 / HOUR_S) % 24, 7 | 8 | 17 | 18);
    (if rush { 160.0 } else { 80.0 }) * (0.15 * f64::from(noise.normal())).exp()
}

/// Days of ordinary traffic: every vehicle makes one to three trips a day, most by day.
pub(super) fn traffic(vehicles: u32, days: i64, noise: &mut Noise) -> Vec<Passage> {
    let mut passages = Vec::new();
    for day in 0..days {
        for vehicle in 0..vehicles {
            for _ in 0..=noise.below(3) {
                let hour = 6.0 + 16.0 * f64::from(noise.uniform());
                let start = day * DAY_S + (hour * HOUR_S as f64) as i64;
                let legs = 3 + noise.below(8);
                passages.extend(trip(vehicle, start, legs, noise));
            }
        }
    }
    passages
}
