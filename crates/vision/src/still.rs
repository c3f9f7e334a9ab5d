//! Picture files as domain pictures, for slideshows and evaluation.

use std::path::Path;

use guiji_domain::OwnedPicture;
use image::{ImageReader, Limits};

use crate::VisionLoadError;

/// Longest side that is read, pixels.
const SIDE_MAX: u32 = 16_384;
/// Most memory that decoding may take, bytes.
const MEMORY_MAX: u64 = 512 << 20;

/// Reads a JPEG or PNG file (told apart by content, not by name) into an RGB picture. A hint of orientation in the
/// file (EXIF) is not followed.
///
/// # Errors
/// When the file cannot be read, is no such picture, or is larger than 16,384 pixels a side or 512 MiB decoded.
pub fn load_picture(path: &Path) -> Result<OwnedPicture, VisionLoadError> {
    let wrong = |reason: String| VisionLoadError::Picture { path: path.to_owned(), reason };
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(MEMORY_MAX);
    let mut reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|e| wrong(format!("cannot be read: {e}")))?;
    reader.limits(limits);
    let picture = reader.decode().map_err(|e| wrong(format!("is no usable JPEG or PNG: {e}")))?;
    let (width, height) = (picture.width(), picture.height());
    OwnedPicture::rgb(width, height, picture.into_rgb8().into_raw())
        .ok_or_else(|| wrong("is empty".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::{Picture, PixelFormat};

    #[test]
    fn files_become_pictures_and_other_things_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.dat");
        image::RgbImage::from_pixel(5, 3, image::Rgb([1, 2, 3]))
            .save_with_format(&path, image::ImageFormat::Png)
            .unwrap();
        let picture = load_picture(&path).unwrap();
        assert_eq!((picture.width(), picture.height(), picture.format()), (5, 3, PixelFormat::Rgb));
        assert_eq!(picture.plane(0)[..3], [1, 2, 3]);

        std::fs::write(&path, "no picture at all").unwrap();
        let error = load_picture(&path).unwrap_err().to_string();
        assert!(error.contains("a.dat") && error.contains("JPEG or PNG"), "{error}");
        assert!(load_picture(&folder.path().join("none.png")).is_err());
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        // A PNG whose header says 60,000 by 60,000 pixels.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.png");
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes);
        image::RgbImage::new(1, 1)
            .write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Png)
            .unwrap();
        bytes[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let crc = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        std::fs::write(&path, bytes).unwrap();
        assert!(load_picture(&path).is_err());
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }
}
