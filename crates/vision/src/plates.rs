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
/// Most candidates of one region that are looked at closely.
const CANDIDATES_MAX: usize = 12;
/// A closer look has found the candidate, and not its neighbour, when the two overlap this much.
const SAME_PLATE_IOU: f32 = 0.2;
/// A candidate is enlarged at most this much.
const CLOSER_ENLARGED_MAX: f32 = 4.0;
/// Corners that enclose a box of less than this overlap with the model's own box are not trusted.
const CORNERS_AGREE_MIN: f32 = 0.35;

pub(crate) struct PlateFinder {
    pub(crate) model: Model,
    pub(crate) head: Box<dyn PlateHead>,
    /// Long side to which a vehicle's crop is brought, pixels: the model finds the plate in it.
    pub(crate) vehicle_side: f32,
    /// Long sides at which a whole scene is looked at: near plates are found at the first, far ones at the last.
    pub(crate) scene_sides: Vec<f32>,
    /// The closer look at what may be a plate, for a model that was trained for it.
    pub(crate) closer: Option<CloserLook>,
    /// Sides of the tensor are multiples of this.
    pub(crate) size_multiple: usize,
    pub(crate) score_min: f32,
    pub(crate) overlap_max: f32,
}

/// What may be a plate is looked at once more, by itself and at the size that suits the model best: its corners come
/// out finer, and most of what is no plate is told apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CloserLook {
    /// Width and height of the tensor.
    pub(crate) size: (usize, usize),
    /// Width of the plate in it, pixels.
    pub(crate) plate_width: f32,
    /// What scores this at the first look is looked at closely.
    pub(crate) score_min: f32,
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
    /// What is looked at closely, full-resolution pixels.
    candidate: Option<BBox>,
}

impl PlateFinder {
    /// The plates of each request in full-resolution pixels, best first.
    pub(crate) fn find(
        &self,
        requests: &[(SharedPicture, BBox)],
    ) -> Result<Vec<Vec<FoundPlate>>, VisionError> {
        let mut looks = Vec::new();
        for (request, (picture, region)) in requests.iter().enumerate() {
            let Some(region) = region.clipped(picture.width(), picture.height()) else { continue };
            if region.width().min(region.height()) < REGION_SIDE_MIN {
                continue;
            }
            let sides = match is_whole(&region, picture.as_ref()) {
                true => self.scene_sides.clone(),
                false => self.vehicle_sides(&region),
            };
            looks.extend(sides.into_iter().map(|side| self.look(request, region, side)));
        }
        let score_min = self.closer.map_or(self.score_min, |closer| closer.score_min);
        let mut found = vec![Vec::new(); requests.len()];
        for (look, plates) in self.run_all(requests, looks, score_min)? {
            found[look.request].extend(plates);
        }
        let best = |plates, most| {
            suppress(
                plates,
                most,
                |p: &FoundPlate| p.score,
                |kept, p| overlaps(&kept.bbox, &p.bbox, self.overlap_max),
            )
        };
        let Some(closer) = self.closer else {
            return Ok(found.into_iter().map(|plates| best(plates, PLATES_MAX)).collect());
        };
        let candidates: Vec<_> =
            found.into_iter().map(|plates| best(plates, CANDIDATES_MAX)).collect();
        let found = self.look_closer(requests, &candidates, closer)?;
        Ok(found.into_iter().map(|plates| best(plates, PLATES_MAX)).collect())
    }

    /// The candidates that are plates at a closer look too, as they are there.
    fn look_closer(
        &self,
        requests: &[(SharedPicture, BBox)],
        candidates: &[Vec<FoundPlate>],
        closer: CloserLook,
    ) -> Result<Vec<Vec<FoundPlate>>, VisionError> {
        let mut looks = Vec::new();
        for (request, candidates) in candidates.iter().enumerate() {
            let picture = requests[request].0.as_ref();
            looks.extend(
                candidates
                    .iter()
                    .filter_map(|candidate| close_look(request, &candidate.bbox, picture, closer)),
            );
        }
        let mut found = vec![Vec::new(); requests.len()];
        for (look, plates) in self.run_all(requests, looks, self.score_min)? {
            let seen = plates.into_iter().filter(|plate| {
                look.candidate.is_some_and(|bbox| bbox.iou(&plate.bbox) >= SAME_PLATE_IOU)
            });
            found[look.request].extend(seen.max_by(|a, b| a.score.total_cmp(&b.score)));
        }
        Ok(found)
    }

    /// At which long sides a part of a picture, most likely one vehicle, is looked at.
    fn vehicle_sides(&self, region: &BBox) -> Vec<f32> {
        let long = region.width().max(region.height());
        let Some(largest) = self.scene_sides.last().copied() else {
            return vec![self.vehicle_side];
        };
        match self.closer {
            // One look finds what is at least a fifteenth of the region; only large ones have smaller plates.
            Some(_) if long <= self.vehicle_side * 2.5 => vec![self.vehicle_side],
            Some(_) => vec![self.vehicle_side, largest],
            None if long <= self.vehicle_side * 1.75 => vec![self.vehicle_side],
            None if long <= self.scene_sides[0] * 1.75 => vec![self.scene_sides[0]],
            None => self.scene_sides.clone(),
        }
    }

    /// The plates of every look in full-resolution pixels. Looks of equal size run together.
    fn run_all(
        &self,
        requests: &[(SharedPicture, BBox)],
        mut looks: Vec<Look>,
        score_min: f32,
    ) -> Result<Vec<(Look, Vec<FoundPlate>)>, VisionError> {
        looks.sort_by_key(|look| (look.tensor, look.request));
        let mut found = Vec::with_capacity(looks.len());
        for same_size in looks.chunk_by(|a, b| a.tensor == b.tensor) {
            for looks in same_size.chunks(BATCH_MAX) {
                found.extend(looks.iter().copied().zip(self.run(requests, looks, score_min)?));
            }
        }
        Ok(found)
    }

    fn look(&self, request: usize, region: BBox, long_side: f32) -> Look {
        let scale = (long_side / region.width().max(region.height())).min(ENLARGED_MAX);
        let side = |length: f32| ((length * scale).round() as usize).max(1);
        let (width, height) = (side(region.width()), side(region.height()));
        let whole = |side: usize| side.next_multiple_of(self.size_multiple);
        let tensor = (whole(width), whole(height));
        Look { request, region, width, height, tensor, candidate: None }
    }

    fn run(
        &self,
        requests: &[(SharedPicture, BBox)],
        looks: &[Look],
        score_min: f32,
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
            |outputs| self.head.decode(outputs, width, height, score_min),
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

/// The look at a candidate: it in the middle, as wide as the model likes it.
fn close_look(
    request: usize,
    candidate: &BBox,
    picture: &dyn Picture,
    closer: CloserLook,
) -> Option<Look> {
    let scale = (closer.plate_width / candidate.width()).min(CLOSER_ENLARGED_MAX);
    let (width, height) = (closer.size.0 as f32 / scale, closer.size.1 as f32 / scale);
    let centre = candidate.centre();
    let window = BBox::new(
        centre.x - width / 2.0,
        centre.y - height / 2.0,
        centre.x + width / 2.0,
        centre.y + height / 2.0,
    )?;
    let region = window.clipped(picture.width(), picture.height())?;
    let side = |length: f32, most: usize| ((length * scale).round() as usize).clamp(1, most);
    Some(Look {
        request,
        region,
        width: side(region.width(), closer.size.0),
        height: side(region.height(), closer.size.1),
        tensor: closer.size,
        candidate: Some(*candidate),
    })
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
        Look {
            request: 0,
            region: region(w, h),
            width,
            height,
            tensor: (320, 256),
            candidate: None,
        }
    }

    #[test]
    fn a_closer_look_has_the_candidate_in_the_middle() {
        let picture = crate::pixels::tests::painted(400, 300, |_, _| [0; 3]);
        let closer = CloserLook { size: (160, 96), plate_width: 80.0, score_min: 0.2 };
        let candidate = BBox::new(180.0, 140.0, 220.0, 152.0).unwrap();
        let look = close_look(3, &candidate, &picture, closer).unwrap();
        assert_eq!(look.region, BBox::new(160.0, 122.0, 240.0, 170.0).unwrap());
        assert_eq!((look.width, look.height, look.tensor), (160, 96, (160, 96)));
        // At the edge the window is cut, and the rest of the tensor stays empty.
        let candidate = BBox::new(0.0, 0.0, 40.0, 12.0).unwrap();
        let look = close_look(3, &candidate, &picture, closer).unwrap();
        assert_eq!(look.region, BBox::new(0.0, 0.0, 60.0, 30.0).unwrap());
        assert_eq!((look.width, look.height, look.tensor), (120, 60, (160, 96)));
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
