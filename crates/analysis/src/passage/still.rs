use std::time::Duration;

use guiji_domain::{BBox, Lattice, Timestamp};

use super::choice::SAME_PLATE;
use crate::fusion::similarity;

/// A vehicle that stands, and was told of.
#[derive(Debug, Clone)]
struct Still {
    bbox: BBox,
    plate: Option<Lattice>,
    seen: Timestamp,
    told: Timestamp,
}

/// The vehicles that stand in a camera's view and need not be told of again.
#[derive(Debug, Clone)]
pub(super) struct StillVehicles {
    vehicles: Vec<Still>,
    forget_after: Duration,
    vehicles_max: usize,
}

/// Overlap from which on two boxes are the same place.
pub(super) const SAME_PLACE: f32 = 0.55;

impl StillVehicles {
    pub(super) fn new(forget_after: Duration, vehicles_max: usize) -> Self {
        Self { vehicles: Vec::new(), forget_after, vehicles_max }
    }

    /// When the vehicle standing there was told of, if it was. A plate that differs is another vehicle's.
    pub(super) fn told(&self, bbox: &BBox, plate: Option<&Lattice>) -> Option<Timestamp> {
        self.find(bbox, plate).map(|i| self.vehicles[i].told)
    }

    /// The vehicle standing there is still there.
    pub(super) fn seen(&mut self, bbox: &BBox, plate: Option<&Lattice>, now: Timestamp) {
        if let Some(i) = self.find(bbox, plate) {
            self.vehicles[i].seen = self.vehicles[i].seen.max(now);
        }
    }

    /// Remembers a vehicle that is told of now and stands there.
    pub(super) fn remember(&mut self, bbox: BBox, plate: Option<&Lattice>, now: Timestamp) {
        self.vehicles.retain(|v| v.bbox.iou(&bbox) < SAME_PLACE);
        if self.vehicles.len() >= self.vehicles_max.max(1) {
            let oldest = (0..self.vehicles.len()).min_by_key(|i| self.vehicles[*i].seen);
            if let Some(i) = oldest {
                self.vehicles.remove(i);
            }
        }
        self.vehicles.push(Still { bbox, plate: plate.cloned(), seen: now, told: now });
    }

    pub(super) fn forget_old(&mut self, now: Timestamp) {
        self.vehicles.retain(|v| now.since(v.seen) < self.forget_after);
    }

    pub(super) fn clear(&mut self) {
        self.vehicles.clear();
    }

    fn find(&self, bbox: &BBox, plate: Option<&Lattice>) -> Option<usize> {
        (0..self.vehicles.len())
            .map(|i| (i, self.vehicles[i].bbox.iou(bbox)))
            .filter(|(i, overlap)| {
                *overlap >= SAME_PLACE
                    && match (&self.vehicles[*i].plate, plate) {
                        (Some(known), Some(plate)) => similarity(known, plate) >= SAME_PLATE,
                        _ => true,
                    }
            })
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(i, _)| i)
    }
}
