//! Evidence pictures as JPEG.

use guiji_domain::{BBox, Picture, VisionError};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use crate::pixels::View;

/// Quality of the encoder, 1 to 100: plates stay readable, a vehicle crop stays below 50 kB.
const QUALITY: u8 = 85;
/// Longest side that JPEG can say.
const SIDE_MAX: usize = 65_535;

/// Encodes the region at its true pixels; its edges go outward to whole pixels.
pub(crate) fn encode(picture: &dyn Picture, region: Option<&BBox>) -> Result<Vec<u8>, VisionError> {
    let failed = |reason: String| VisionError::Inference { model: "jpeg".into(), reason };
    let view = View::of(picture)
        .ok_or_else(|| failed("the picture is empty or shorter than it says".into()))?;
    let (x, y, width, height) = match region {
        None => (0, 0, view.width() as usize, view.height() as usize),
        Some(region) => whole_pixels(region, &view).ok_or_else(|| {
            failed(format!(
                "the region {:.0},{:.0} to {:.0},{:.0} lies outside the picture of {}x{}",
                region.x1(),
                region.y1(),
                region.x2(),
                region.y2(),
                view.width(),
                view.height()
            ))
        })?,
    };
    if width > SIDE_MAX || height > SIDE_MAX {
        return Err(failed(format!("{width}x{height} is too large for JPEG")));
    }
    let rgb = view.rgb_bytes(x, y, width, height);
    let mut out = Vec::with_capacity(width * height / 4);
    JpegEncoder::new_with_quality(&mut out, QUALITY)
        .encode(&rgb, width as u32, height as u32, ExtendedColorType::Rgb8)
        .map_err(|e| failed(e.to_string()))?;
    Ok(out)
}

/// Left, top, width and height. `None` when nothing is left inside the picture.
fn whole_pixels(region: &BBox, view: &View<'_>) -> Option<(usize, usize, usize, usize)> {
    let inside = region.clipped(view.width(), view.height())?;
    let (x1, y1) = (inside.x1().floor() as usize, inside.y1().floor() as usize);
    let (x2, y2) = (inside.x2().ceil() as usize, inside.y2().ceil() as usize);
    let (x2, y2) = (x2.min(view.width() as usize), y2.min(view.height() as usize));
    (x2 > x1 && y2 > y1).then(|| (x1, y1, x2 - x1, y2 - y1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::tests::{as_i420, painted};
    use proptest::prelude::*;

    #[test]
    fn a_region_comes_back_in_its_colours() {
        let rgb = painted(64, 48, |x, _| if x < 32 { [200, 30, 30] } else { [30, 30, 200] });
        for picture in [&rgb, &as_i420(&rgb)] {
            let region = BBox::new(40.2, 8.0, 59.7, 40.0).unwrap();
            let bytes = encode(picture, Some(&region)).unwrap();
            let decoded = image::load_from_memory(&bytes).unwrap().to_rgb8();
            assert_eq!(decoded.dimensions(), (20, 32));
            let pixel = decoded.get_pixel(10, 16).0;
            assert!(
                pixel.iter().zip([30u8, 30, 200]).all(|(a, b)| a.abs_diff(b) < 10),
                "{pixel:?}"
            );
            let whole = image::load_from_memory(&encode(picture, None).unwrap()).unwrap();
            assert_eq!((whole.width(), whole.height()), (64, 48));
        }
    }

    #[test]
    fn a_region_outside_is_an_error() {
        let picture = painted(8, 8, |_, _| [0; 3]);
        let region = BBox::new(20.0, 0.0, 30.0, 8.0).unwrap();
        let error = encode(&picture, Some(&region)).unwrap_err().to_string();
        assert!(error.contains("outside the picture of 8x8"), "{error}");
    }

    proptest! {
        #[test]
        fn any_region_is_encoded_or_refused(x in -20f32..20.0, y in -20f32..20.0, w in 0f32..30.0, h in 0f32..30.0) {
            let picture = as_i420(&painted(9, 7, |x, y| [x as u8 * 20, y as u8 * 20, 7]));
            let region = BBox::new(x, y, x + w, y + h).unwrap();
            if let Ok(bytes) = encode(&picture, Some(&region)) {
                prop_assert!(image::load_from_memory(&bytes).is_ok());
            }
        }
    }
}
