//! Finding plates: regions of full-resolution pictures, each at the size that suits the model.

use guiji_domain::{BBox, Picture, Quad, SharedPicture, VisionError};

use crate::decode::{FoundPlate, PlateHead};
use crate::nms::{overlaps, suppress};
use crate::pixels::View;
use crate::rectify::{moved, plausible};
use crate::runtime::Model;

/// Most plates reported of one region.
const PLATES_MAX: usize = 24;
/// Most crops of equal size in one run.
const BATCH_MAX: usize = 8;
/// Regions with a shorter side below this many pixels hold no readable plate.
const REGION_SIDE_MIN: f32 = 12.0;
/// A crop is enlarged at most this much: beyond it there is nothing more to see.
const ENLARGED_MAX: f32 = 3.0;
/// Long sides at which a whole scene is looked at: near plates are found at the first, far ones at the second.
const SCENE_SIDES: [f32; 2] = [640.0, 1280.0];
/// Corners that enclose a box of less than this overlap with the model's own box are not trusted.
const CORNERS_AGREE_MIN: f32 = 0.35;

pub(crate) struct PlateFinder {
    pub(crate) model: Model,
    pub(crate) head: Box<dyn PlateHead>,
    /// Long side to which a vehicle's crop is brought, pixels: its plate is then 60 to 110 pixels wide.
    pub(crate) vehicle_side: f32,
    /// Sides of the tensor are multiples of this.
    pub(crate) size_multiple: usize,
    pub(crate) score_min: f32,
    pub(crate) overlap_max: f32,
}

/// One look at one region.
#[derive(Debug, Clone, Copy)]
struct Look {
    request: usize,
    region: BBox,
    /// Size of the scaled region.
    width: usize,
    height: usize,
    /// Size of the tensor that it lies in, at the top left.
    tensor: (usize, usize),
}

impl PlateFinder {
    /// The plates of each request in full-resolution pixels, best first.
    pub(crate) fn find(
        &self,
        requests: &[(SharedPicture, BBox)],
    ) -> Result<Vec<Vec<FoundPlate>>, VisionError> {
        let mut found = vec![Vec::new(); requests.len()];
        let mut looks = Vec::new();
        for (request, (picture, region)) in requests.iter().enumerate() {
            let Some(region) = region.clipped(picture.width(), picture.height()) else { continue };
            if region.width().min(region.height()) < REGION_SIDE_MIN {
                continue;
            }
            let sides = if is_whole(&region, picture.as_ref()) {
                SCENE_SIDES.to_vec()
            } else {
                vehicle_sides(&region, self.vehicle_side)
            };
            looks.extend(sides.into_iter().map(|side| self.look(request, region, side)));
        }
        looks.sort_by_key(|look| (look.tensor, look.request));
        for same_size in looks.chunk_by(|a, b| a.tensor == b.tensor) {
            for looks in same_size.chunks(BATCH_MAX) {
                for (look, plates) in looks.iter().zip(self.run(requests, looks)?) {
                    found[look.request].extend(plates);
                }
            }
        }
        let best = |plates| {
            suppress(
                plates,
                PLATES_MAX,
                |p: &FoundPlate| p.score,
                |kept, p| overlaps(&kept.bbox, &p.bbox, self.overlap_max),
            )
        };
        Ok(found.into_iter().map(best).collect())
    }

    fn look(&self, request: usize, region: BBox, long_side: f32) -> Look {
        let scale = (long_side / region.width().max(region.height())).min(ENLARGED_MAX);
        let side = |length: f32| ((length * scale).round() as usize).max(1);
        let (width, height) = (side(region.width()), side(region.height()));
        let whole = |side: usize| side.next_multiple_of(self.size_multiple);
        Look { request, region, width, height, tensor: (whole(width), whole(height)) }
    }

    fn run(
        &self,
        requests: &[(SharedPicture, BBox)],
        looks: &[Look],
    ) -> Result<Vec<Vec<FoundPlate>>, VisionError> {
        let Some((width, height)) = looks.first().map(|l| l.tensor) else { return Ok(Vec::new()) };
        let found = self.model.infer(
            |batch| {
                batch.reset(looks.len(), width, height);
                for (index, look) in looks.iter().enumerate() {
                    match View::of(requests[look.request].0.as_ref()) {
                        Some(view) => {
                            view.scaled_rows(&look.region, look.width, look.height, |y, row| {
                                batch.put_row(index, 0, y, row);
                            });
                        }
                        None => tracing::warn!("picture is shorter than it says"),
                    }
                }
            },
            |outputs| self.head.decode(outputs, width, height, self.score_min),
        )?;
        let back = |(plates, look): (Vec<FoundPlate>, &Look)| {
            plates.into_iter().filter_map(|p| in_full_pixels(p, look)).collect()
        };
        Ok(found.into_iter().zip(looks).map(back).collect())
    }
}

/// Whether the region is (nearly) all of the picture, so that plates in it may be of any size.
fn is_whole(region: &BBox, picture: &dyn Picture) -> bool {
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    region.width() >= width * 0.9 && region.height() >= height * 0.9
}

/// At which long sides a part of a picture, most likely one vehicle, is looked at.
fn vehicle_sides(region: &BBox, vehicle_side: f32) -> Vec<f32> {
    let long = region.width().max(region.height());
    match long {
        _ if long <= vehicle_side * 1.75 => vec![vehicle_side],
        _ if long <= SCENE_SIDES[0] * 1.75 => vec![SCENE_SIDES[0]],
        _ => SCENE_SIDES.to_vec(),
    }
}

/// Carries a plate back from the tensor; doubtful corners are replaced by those of the box.
fn in_full_pixels(found: FoundPlate, look: &Look) -> Option<FoundPlate> {
    let scale =
        (look.region.width() / look.width as f32, look.region.height() / look.height as f32);
    let offset = (look.region.x1(), look.region.y1());
    let bbox = found.bbox.scaled(scale.0, scale.1);
    let bbox = BBox::new(
        bbox.x1() + offset.0,
        bbox.y1() + offset.1,
        bbox.x2() + offset.0,
        bbox.y2() + offset.1,
    )?;
    let corners = moved(&found.corners, scale, offset);
    let agree = corners.bbox().is_some_and(|b| b.iou(&bbox) >= CORNERS_AGREE_MIN);
    let corners = if agree && plausible(&corners) { corners } else { Quad::from_bbox(&bbox) };
    plausible(&corners).then_some(FoundPlate { bbox, corners, score: found.score })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::Point;

    fn region(w: f32, h: f32) -> BBox {
        BBox::new(100.0, 50.0, 100.0 + w, 50.0 + h).unwrap()
    }

    fn look(w: f32, h: f32) -> Look {
        let (width, height) = (320, (320.0 * h / w) as usize);
        Look { request: 0, region: region(w, h), width, height, tensor: (320, 256) }
    }

    #[test]
    fn sizes_fit_the_region() {
        assert_eq!(vehicle_sides(&region(100.0, 80.0), 320.0), [320.0]);
        assert_eq!(vehicle_sides(&region(300.0, 470.0), 320.0), [320.0]);
        assert_eq!(vehicle_sides(&region(800.0, 600.0), 320.0), [640.0]);
        assert_eq!(vehicle_sides(&region(1920.0, 1080.0), 320.0), [640.0, 1280.0]);
    }

    #[test]
    fn a_whole_picture_is_a_scene() {
        let picture = crate::pixels::tests::painted(100, 50, |_, _| [0; 3]);
        assert!(is_whole(&BBox::new(0.0, 0.0, 100.0, 48.0).unwrap(), &picture));
        assert!(!is_whole(&BBox::new(0.0, 0.0, 80.0, 50.0).unwrap(), &picture));
    }

    #[test]
    fn corners_come_back_to_the_picture() {
        let at = |x, y| Point { x, y };
        let found = FoundPlate {
            bbox: BBox::new(40.0, 20.0, 120.0, 50.0).unwrap(),
            corners: Quad([at(42.0, 22.0), at(118.0, 24.0), at(119.0, 49.0), at(41.0, 47.0)]),
            score: 0.9,
        };
        let plate = in_full_pixels(found, &look(640.0, 480.0)).unwrap();
        assert_eq!(plate.corners.0[0], at(184.0, 94.0));
        assert_eq!(plate.corners.0[2], at(338.0, 148.0));
        assert_eq!(plate.bbox, BBox::new(180.0, 90.0, 340.0, 150.0).unwrap());
    }

    #[test]
    fn doubtful_corners_give_way_to_the_box() {
        let bbox = BBox::new(40.0, 20.0, 120.0, 50.0).unwrap();
        let [a, b, c, d] = Quad::from_bbox(&bbox).0;
        for corners in [
            Quad([c, d, a, b]),
            Quad([a, a, a, a]),
            moved(&Quad([a, b, c, d]), (1.0, 1.0), (90.0, 0.0)),
        ] {
            let plate =
                in_full_pixels(FoundPlate { bbox, corners, score: 0.9 }, &look(320.0, 240.0))
                    .unwrap();
            assert_eq!(plate.corners, Quad::from_bbox(&plate.bbox));
        }
        let sliver = BBox::new(40.0, 20.0, 120.0, 21.0).unwrap();
        let corners = Quad::from_bbox(&sliver);
        let none =
            in_full_pixels(FoundPlate { bbox: sliver, corners, score: 0.9 }, &look(320.0, 240.0));
        assert_eq!(none, None);
    }
}
