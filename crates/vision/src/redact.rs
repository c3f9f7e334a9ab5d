//! Makes people in evidence pictures unrecognisable: for what leaves the house.
//!
//! There is no detector of people here, and one that misses somebody would be worse than none. The rule is stricter and
//! needs none: of a frame only the vehicle is left, and of the vehicle, where people may be seen in or on it, only the
//! lower part. The rest becomes a mosaic, whose patches hold one colour each: what was averaged away cannot be
//! calculated back, as it can after a mild blur.

use guiji_domain::{Hidden, PictureRedactor, RedactedPicture, VisionError};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageReader, Limits, Rgb, RgbImage};

use crate::locate::{Place, locate};

/// A frame's shorter side has so many patches: a face of a sixth of the picture's height becomes nine colours.
const PATCHES_A_SIDE: u32 = 16;
/// A vehicle's width has so many: a head is about as wide as one.
const PATCHES_A_VEHICLE: u32 = 6;
/// The smallest side of a patch, pixels.
const PATCH_MIN: u32 = 24;
/// The part of a vehicle's height, from its top, in which its people are: windscreens of cars and buses, riders.
const PEOPLE_SHARE: f32 = 0.6;
/// As the pictures of the evidence itself.
const QUALITY: u8 = 85;
const SIDE_MAX: u32 = 16_384;
const MEMORY_MAX: u64 = 512 << 20;

/// Hides everything but the vehicle, and its people.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mosaic;

impl PictureRedactor for Mosaic {
    fn redact_frame(
        &self,
        frame: &[u8],
        vehicle: Option<&[u8]>,
        occupants: bool,
    ) -> Result<RedactedPicture, VisionError> {
        let frame = decode(frame)?;
        // A cut-out that cannot be read is as good as none.
        let place = vehicle
            .and_then(|vehicle| decode(vehicle).ok())
            .and_then(|vehicle| locate(&frame, &vehicle));
        let mut hidden = frame.clone();
        let side = frame.width().min(frame.height());
        mosaic(&mut hidden, whole(&frame), (side / PATCHES_A_SIDE).max(PATCH_MIN));
        if let Some(place) = place {
            for y in place.y..place.y + place.height {
                for x in place.x..place.x + place.width {
                    hidden.put_pixel(x, y, *frame.get_pixel(x, y));
                }
            }
            if occupants {
                hide_people(&mut hidden, place);
            }
        }
        let what = Hidden {
            surroundings: true,
            occupants: occupants || place.is_none(),
            vehicle: place.is_none(),
        };
        encode(&hidden, what)
    }

    fn redact_vehicle(&self, vehicle: &[u8]) -> Result<RedactedPicture, VisionError> {
        let mut vehicle = decode(vehicle)?;
        let place = whole(&vehicle);
        hide_people(&mut vehicle, place);
        encode(&vehicle, Hidden { occupants: true, ..Hidden::default() })
    }
}

fn whole(picture: &RgbImage) -> Place {
    Place { x: 0, y: 0, width: picture.width(), height: picture.height() }
}

fn hide_people(picture: &mut RgbImage, vehicle: Place) {
    let height = (vehicle.height as f32 * PEOPLE_SHARE).ceil() as u32;
    let patch = (vehicle.width / PATCHES_A_VEHICLE).max(PATCH_MIN);
    mosaic(picture, Place { height: height.min(vehicle.height), ..vehicle }, patch);
}

/// Gives each patch of a region the mean of its own pixels.
fn mosaic(picture: &mut RgbImage, region: Place, patch: u32) {
    let ends = |from: u32, length: u32, size: u32| {
        (0..length.div_ceil(size))
            .map(move |i| (from + i * size, (from + (i + 1) * size).min(from + length)))
    };
    for (top, bottom) in ends(region.y, region.height, patch) {
        for (left, right) in ends(region.x, region.width, patch) {
            let mut sum = [0u64; 3];
            for y in top..bottom {
                for x in left..right {
                    let pixel = picture.get_pixel(x, y).0;
                    sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(value));
                }
            }
            let count = u64::from(bottom - top) * u64::from(right - left);
            // A mean of bytes is a byte.
            let mean = Rgb(sum.map(|sum| (sum / count.max(1)) as u8));
            for y in top..bottom {
                for x in left..right {
                    picture.put_pixel(x, y, mean);
                }
            }
        }
    }
}

fn failed(reason: impl Into<String>) -> VisionError {
    VisionError::Inference { model: "redaction".into(), reason: reason.into() }
}

fn decode(bytes: &[u8]) -> Result<RgbImage, VisionError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(MEMORY_MAX);
    let mut reader = ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| failed(error.to_string()))?;
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| failed(error.to_string()))?.into_rgb8();
    if picture.width() == 0 || picture.height() == 0 {
        return Err(failed("the picture is empty"));
    }
    Ok(picture)
}

/// Written anew, so that no thumbnail or remark of the original file goes along.
fn encode(picture: &RgbImage, hidden: Hidden) -> Result<RedactedPicture, VisionError> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode(picture, picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|error| failed(error.to_string()))?;
    Ok(RedactedPicture { bytes, media_type: "image/jpeg", hidden })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A street that is nowhere alike: two waves and a hash.
    fn street(width: u32, height: u32, seed: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let wave = ((x as f32 / 17.0).sin() + (y as f32 / 23.0).cos()) * 40.0 + 120.0;
            let hash = (x / 3).wrapping_mul(2_654_435_761) ^ (y / 3).wrapping_mul(40_503) ^ seed;
            let grain = (hash.wrapping_mul(2_246_822_519) >> 26) as f32;
            let value = (wave + grain) as u8;
            Rgb([value, value / 2 + 40, 255 - value])
        })
    }

    fn jpeg(picture: &RgbImage) -> Vec<u8> {
        encode(picture, Hidden::default()).unwrap().bytes
    }

    fn cut(picture: &RgbImage, at: Place) -> RgbImage {
        image::imageops::crop_imm(picture, at.x, at.y, at.width, at.height).to_image()
    }

    /// The largest difference between neighbours across a row: detail that survived.
    fn detail(picture: &RgbImage, region: Place, patch: u32) -> u32 {
        let mut most = 0;
        for y in region.y..region.y + region.height {
            for x in region.x..region.x + region.width - 1 {
                // Borders of patches, and the ringing of JPEG's 8 pixels around them, are no detail.
                let from_border = x % patch;
                if from_border < 8 || from_border > patch - 9 {
                    continue;
                }
                let (a, b) = (picture.get_pixel(x, y).0, picture.get_pixel(x + 1, y).0);
                most = most.max(a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b))).sum());
            }
        }
        most
    }

    const VEHICLE: Place = Place { x: 211, y: 133, width: 190, height: 150 };

    #[test]
    fn only_the_lower_part_of_the_vehicle_is_left_of_a_frame() {
        let frame = street(640, 480, 1);
        let vehicle = jpeg(&cut(&frame, VEHICLE));
        let redacted = Mosaic.redact_frame(&jpeg(&frame), Some(&vehicle), true).unwrap();
        assert_eq!(redacted.hidden, Hidden { surroundings: true, occupants: true, vehicle: false });
        let shown = decode(&redacted.bytes).unwrap();
        let patch = 480 / PATCHES_A_SIDE;
        for region in [
            Place { x: 0, y: 0, width: 640, height: 120 },
            Place { x: 0, y: 300, width: 640, height: 180 },
            Place { x: 0, y: 0, width: 180, height: 480 },
            Place { x: 420, y: 0, width: 220, height: 480 },
        ] {
            assert!(detail(&frame, region, patch) > 60, "the street has detail");
            assert!(
                detail(&shown, region, patch) < 30,
                "{region:?}: {}",
                detail(&shown, region, patch)
            );
        }
        // The lower part is as it was, apart from what JPEG takes twice.
        let mut off = 0u64;
        let lower = Place { y: VEHICLE.y + 96, height: 50, ..VEHICLE };
        for y in lower.y..lower.y + lower.height {
            for x in lower.x + 8..lower.x + lower.width - 8 {
                let (a, b) = (shown.get_pixel(x, y).0, frame.get_pixel(x, y).0);
                off += u64::from(a[1].abs_diff(b[1]));
            }
        }
        assert!(off / (50 * 174) < 12, "{}", off / (50 * 174));
        // The upper part is not.
        let upper = Place { x: VEHICLE.x, y: VEHICLE.y + 8, width: 186, height: 74 };
        let relative = cut(&shown, upper);
        let patch = VEHICLE.width / PATCHES_A_VEHICLE;
        let inside = Place { x: 0, y: 0, width: 186, height: 74 };
        assert!(detail(&relative, inside, patch) < 30);
    }

    #[test]
    fn two_people_of_the_same_mean_look_the_same() {
        let mut one = RgbImage::from_pixel(480, 480, Rgb([90; 3]));
        let mut other = one.clone();
        for y in 60..90 {
            for x in 60..90 {
                one.put_pixel(x, y, Rgb([if x % 2 == 0 { 40 } else { 200 }; 3]));
                other.put_pixel(x, y, Rgb([if y % 2 == 0 { 40 } else { 200 }; 3]));
            }
        }
        let mosaic = |mut picture: RgbImage| {
            let region = whole(&picture);
            mosaic(&mut picture, region, 30);
            picture
        };
        assert_ne!(one, other);
        assert_eq!(mosaic(one), mosaic(other));
    }

    #[test]
    fn without_the_vehicle_everything_is_hidden() {
        let (frame, other) = (street(640, 480, 1), street(640, 480, 99));
        let foreign = jpeg(&cut(&other, VEHICLE));
        let flat = jpeg(&RgbImage::from_pixel(100, 80, Rgb([20; 3])));
        let too_large = jpeg(&street(800, 500, 1));
        for vehicle in
            [None, Some(&foreign), Some(&flat), Some(&too_large), Some(&b"no picture".to_vec())]
        {
            let redacted =
                Mosaic.redact_frame(&jpeg(&frame), vehicle.map(Vec::as_slice), false).unwrap();
            assert!(redacted.hidden.vehicle && redacted.hidden.occupants);
            let shown = decode(&redacted.bytes).unwrap();
            assert!(detail(&shown, whole(&shown), 480 / PATCHES_A_SIDE) < 30);
        }
    }

    #[test]
    fn a_cut_out_keeps_its_lower_part() {
        let vehicle = cut(&street(640, 480, 1), VEHICLE);
        let redacted = Mosaic.redact_vehicle(&jpeg(&vehicle)).unwrap();
        assert_eq!(redacted.hidden, Hidden { occupants: true, ..Hidden::default() });
        let shown = decode(&redacted.bytes).unwrap();
        let (upper, lower) = (
            Place { x: 0, y: 0, width: 190, height: 82 },
            Place { x: 0, y: 98, width: 190, height: 50 },
        );
        assert!(detail(&shown, upper, VEHICLE.width / PATCHES_A_VEHICLE) < 30);
        assert!(detail(&shown, lower, 48) > 60);
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        assert!(Mosaic.redact_frame(b"", None, true).is_err());
        assert!(Mosaic.redact_vehicle(b"\xff\xd8\xff garbled").is_err());
    }
}
