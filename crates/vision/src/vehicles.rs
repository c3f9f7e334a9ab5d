//! Finding vehicles: the detector-sized pictures of several cameras through one model run.

use guiji_domain::{BBox, Detection, Frame, Picture, VehicleClass, VisionError};

use crate::decode::{DetectionHead, FoundVehicle};
use crate::nms::{overlaps, suppress};
use crate::pixels::View;
use crate::runtime::Model;
use crate::tensor::PictureBatch;

/// Most vehicles reported of one frame.
const VEHICLES_MAX: usize = 128;
/// Most pictures in one run: larger batches only cost memory and delay on a processor.
const BATCH_MAX: usize = 8;
/// Boxes narrower or lower than this share of the frame are noise.
const SIDE_MIN: f32 = 1.0 / 200.0;

pub(crate) struct VehicleDetector {
    pub(crate) model: Model,
    pub(crate) head: Box<dyn DetectionHead>,
    /// Width and height of the tensor, pixels.
    pub(crate) input: (usize, usize),
    pub(crate) letterbox: bool,
    pub(crate) score_min: f32,
    pub(crate) overlap_max: f32,
}

/// Where a picture lies in the tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Placement {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Placement {
    /// In the middle of the tensor: as large as fits in its proportions, or, stretched, everywhere.
    pub(crate) fn of(
        (width, height): (u32, u32),
        (tensor_width, tensor_height): (usize, usize),
        letterbox: bool,
    ) -> Self {
        if !letterbox {
            return Self { x: 0, y: 0, width: tensor_width, height: tensor_height };
        }
        let scale = (tensor_width as f32 / width as f32).min(tensor_height as f32 / height as f32);
        let side = |size: u32, max: usize| ((size as f32 * scale).round() as usize).clamp(1, max);
        let (width, height) = (side(width, tensor_width), side(height, tensor_height));
        let (x, y) = ((tensor_width - width) / 2, (tensor_height - height) / 2);
        Self { x, y, width, height }
    }

    /// A box of the tensor in the pixels of a picture of this size.
    pub(crate) fn back(&self, bbox: &BBox, (width, height): (u32, u32)) -> Option<BBox> {
        let x = |v: f32| (v - self.x as f32) * width as f32 / self.width as f32;
        let y = |v: f32| (v - self.y as f32) * height as f32 / self.height as f32;
        BBox::new(x(bbox.x1()), y(bbox.y1()), x(bbox.x2()), y(bbox.y2()))
    }

    fn put(&self, batch: &mut PictureBatch, index: usize, view: &View<'_>) {
        let unscaled = (view.width() as usize, view.height() as usize) == (self.width, self.height);
        if unscaled && batch.put_packed(index, self.x, self.y, view) {
            return;
        }
        let Some(all) = BBox::new(0.0, 0.0, view.width() as f32, view.height() as f32) else {
            return;
        };
        view.scaled_rows(&all, self.width, self.height, |y, row| {
            batch.put_row(index, self.x, self.y + y, row);
        });
    }
}

impl VehicleDetector {
    /// The size of the picture that a camera should hand over.
    pub(crate) fn wanted(&self) -> (u32, u32) {
        let (width, height) = self.input;
        if !self.letterbox {
            return (width as u32, height as u32);
        }
        // Cameras are 16:9; in these proportions nothing is distorted, and nothing is scaled twice.
        let place = Placement::of((16, 9), self.input, true);
        (place.width as u32, place.height as u32)
    }

    pub(crate) fn detect(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
        let mut all = Vec::with_capacity(frames.len());
        for frames in frames.chunks(BATCH_MAX) {
            all.extend(self.detect_batch(frames)?);
        }
        Ok(all)
    }

    fn detect_batch(&self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, VisionError> {
        let (width, height) = self.input;
        let size = |p: &dyn Picture| (p.width(), p.height());
        let places: Vec<_> = frames
            .iter()
            .map(|f| Placement::of(size(f.small.as_ref()), self.input, self.letterbox))
            .collect();
        let found = self.model.infer(
            |batch| {
                batch.reset(frames.len(), width, height);
                for (index, (frame, place)) in frames.iter().zip(&places).enumerate() {
                    match View::of(frame.small.as_ref()) {
                        Some(view) => place.put(batch, index, &view),
                        None => tracing::warn!(camera = %frame.camera, "picture is shorter than it says"),
                    }
                }
            },
            |outputs| self.head.decode(outputs, width, height, self.score_min),
        )?;
        let answers = found.into_iter().zip(frames).zip(&places).map(|((found, frame), place)| {
            let size = size(frame.full.as_ref());
            let found = one_per_vehicle(found, self.overlap_max).into_iter();
            found.filter_map(|v| detection(&v, place, size)).collect()
        });
        Ok(answers.collect())
    }
}

fn detection(found: &FoundVehicle, place: &Placement, size: (u32, u32)) -> Option<Detection> {
    let bbox = place.back(&found.bbox, size)?.clipped(size.0, size.1)?;
    let large =
        bbox.width() >= size.0 as f32 * SIDE_MIN && bbox.height() >= size.1 as f32 * SIDE_MIN;
    large.then_some(Detection { bbox, class: Some(found.class), score: found.score })
}

/// One box a vehicle: first within each class, then between classes, because a pick-up is a car and a truck at once.
/// A rider's motorcycle may stand before a car without being it, so it is compared with motorcycles only.
fn one_per_vehicle(found: Vec<FoundVehicle>, overlap_max: f32) -> Vec<FoundVehicle> {
    let is_motorcycle = |v: &FoundVehicle| v.class == VehicleClass::Motorcycle;
    suppress(
        found,
        VEHICLES_MAX,
        |v| v.score,
        |kept, v| {
            let same_class = kept.class == v.class;
            // A part of the same vehicle (its front, say) often comes as a second box inside the first.
            let inside =
                same_class && v.bbox.covered_by(&kept.bbox) > 0.9 && v.score < kept.score * 0.8;
            let comparable = same_class || (!is_motorcycle(kept) && !is_motorcycle(v));
            comparable && (overlaps(&kept.bbox, &v.bbox, overlap_max) || inside)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(class: VehicleClass, score: f32, [x1, y1, x2, y2]: [f32; 4]) -> FoundVehicle {
        FoundVehicle { bbox: BBox::new(x1, y1, x2, y2).unwrap(), class, score }
    }

    #[test]
    fn one_vehicle_gives_one_box() {
        use VehicleClass::{Car, Motorcycle, Truck};
        let kept = one_per_vehicle(
            vec![
                found(Car, 0.8, [0.0, 0.0, 100.0, 80.0]),
                found(Truck, 0.6, [2.0, 0.0, 100.0, 84.0]),
                found(Car, 0.5, [4.0, 2.0, 98.0, 80.0]),
                found(Car, 0.4, [20.0, 40.0, 60.0, 78.0]),
                found(Motorcycle, 0.4, [0.0, 0.0, 90.0, 80.0]),
                found(Car, 0.7, [150.0, 0.0, 250.0, 80.0]),
            ],
            0.5,
        );
        let classes: Vec<_> = kept.iter().map(|v| (v.class, v.score)).collect();
        assert_eq!(classes, [(Car, 0.8), (Car, 0.7), (Motorcycle, 0.4)]);
    }

    #[test]
    fn two_cars_abreast_stay_two() {
        use VehicleClass::Car;
        let pair =
            [found(Car, 0.8, [0.0, 0.0, 100.0, 80.0]), found(Car, 0.5, [60.0, 0.0, 160.0, 80.0])];
        assert_eq!(one_per_vehicle(pair.to_vec(), 0.5).len(), 2);
    }

    proptest! {
        #[test]
        fn a_letterboxed_box_comes_back(
            w in 1u32..4000, h in 1u32..4000, x in 0f32..0.5, y in 0f32..0.5, letterbox: bool,
        ) {
            let place = Placement::of((w, h), (416, 256), letterbox);
            prop_assert!(place.x + place.width <= 416 && place.y + place.height <= 256);
            let there = BBox::new(
                place.x as f32 + x * place.width as f32, place.y as f32 + y * place.height as f32,
                (place.x + place.width) as f32, (place.y + place.height) as f32,
            ).unwrap();
            let back = place.back(&there, (w, h)).unwrap();
            let near = |a: f32, b: f32, size: u32| (a - b).abs() <= size as f32 * 1e-4;
            prop_assert!(near(back.x1(), x * w as f32, w) && near(back.y1(), y * h as f32, h));
            prop_assert!(near(back.x2(), w as f32, w) && near(back.y2(), h as f32, h));
        }
    }
}
