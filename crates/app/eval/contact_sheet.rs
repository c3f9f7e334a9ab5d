//! Pictures of failures, to be looked at by people.

use std::path::Path;

use ab_glyph::{Font as _, FontVec, PxScale, ScaleFont as _, point};
use anyhow::{Context as _, Result};
use guiji_domain::{BBox, OwnedPicture, Picture as _};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::figures::Outcome;

/// Margin shown around the label, as a share of its size on every side.
const MARGIN: f32 = 0.5;
/// Room of a crop on the sheet, pixels.
const CROP: (u32, u32) = (300, 140);
/// Height of a line of text, pixels.
const LINE: u32 = 22;
/// Lines of text below a crop: what was expected, what was read, and where.
const LINES: u32 = 3;
/// Between tiles, pixels.
const GAP: u32 = 10;
const COLUMNS: usize = 5;
/// Most failures on one sheet.
const SHEET_MAX: usize = 60;
const GROUND: Rgb<u8> = Rgb([24, 24, 28]);
/// Colours of the lines of text.
const INK: [Rgb<u8>; LINES as usize] =
    [Rgb([140, 230, 150]), Rgb([255, 140, 130]), Rgb([170, 170, 180])];

/// Where Debian puts faces that have Chinese characters, with the face's index in the collection.
const FACES: [(&str, u32); 3] = [
    ("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", 2),
    ("/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc", 2),
    ("/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc", 0),
];

/// A plate that was not read or found as labelled.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    photo: String,
    expected: String,
    /// What was read instead, or why nothing was.
    read: String,
    confidence: f32,
    crop: RgbImage,
}

impl Failure {
    /// Cuts the surroundings of the label out of an RGB photo. `None` when the label lies outside.
    pub(super) fn cut(outcome: &Outcome, label: &BBox, picture: &OwnedPicture) -> Option<Self> {
        let region = label.padded(MARGIN).clipped(picture.width(), picture.height())?;
        let (x, y) = (region.x1() as u32, region.y1() as u32);
        let (width, height) = (region.width() as u32, region.height() as u32);
        if width == 0 || height == 0 {
            return None;
        }
        let stride = picture.stride(0);
        let pixels = picture.plane(0).chunks_exact(stride).skip(y as usize).take(height as usize);
        let cut = |row: &[u8]| row[x as usize * 3..(x + width) as usize * 3].to_vec();
        let read = match &outcome.answer {
            None => "not-found".to_owned(),
            Some(answer) => answer.text.clone().unwrap_or_else(|| "unreadable".to_owned()),
        };
        Some(Self {
            photo: outcome.photo.clone(),
            expected: outcome.expected.clone(),
            read,
            confidence: outcome.answer.as_ref().map_or(0.0, |answer| answer.confidence),
            crop: RgbImage::from_raw(width, height, pixels.flat_map(cut).collect())?,
        })
    }

    /// `expected__read__photo.png`.
    fn file_name(&self) -> String {
        let stem = Path::new(&self.photo).file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{}__{}__{stem}.png", self.expected, self.read);
        name.chars().map(|c| if "/\\:*?\"<>|".contains(c) { '_' } else { c }).collect()
    }

    fn lines(&self) -> [String; LINES as usize] {
        let read = match self.confidence {
            0.0 => self.read.clone(),
            confidence => format!("{}  {:.1} %", self.read, confidence * 100.0),
        };
        [self.expected.clone(), read, self.photo.clone()]
    }
}

/// Writes each failure's crop into `crops`, and all of them side by side into `failures-N.png`.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write_failures(folder: &Path, failures: &[Failure]) -> Result<()> {
    let crops = folder.join("crops");
    std::fs::create_dir_all(&crops).with_context(|| format!("make {}", crops.display()))?;
    for failure in failures {
        save(&failure.crop, &crops.join(failure.file_name()))?;
    }
    let font = font();
    if font.is_none() && !failures.is_empty() {
        eprintln!("guiji: no Chinese font: the sheets have no text; install fonts-noto-cjk");
    }
    for (index, failures) in failures.chunks(SHEET_MAX).enumerate() {
        let sheet = sheet(failures, font.as_ref());
        save(&sheet, &folder.join(format!("failures-{}.png", index + 1)))?;
    }
    Ok(())
}

fn save(picture: &RgbImage, path: &Path) -> Result<()> {
    picture.save(path).with_context(|| format!("write {}", path.display()))
}

fn font() -> Option<FontVec> {
    FACES.iter().find_map(|(path, index)| {
        FontVec::try_from_vec_and_index(std::fs::read(path).ok()?, *index).ok()
    })
}

fn sheet(failures: &[Failure], font: Option<&FontVec>) -> RgbImage {
    let tile = (CROP.0 + GAP, CROP.1 + LINE * LINES + GAP);
    let columns = failures.len().clamp(1, COLUMNS) as u32;
    let rows = failures.len().div_ceil(COLUMNS) as u32;
    let mut sheet = RgbImage::from_pixel(columns * tile.0 + GAP, rows * tile.1 + GAP, GROUND);
    for (index, failure) in failures.iter().enumerate() {
        let (column, row) = ((index % COLUMNS) as u32, (index / COLUMNS) as u32);
        let (x, y) = (GAP + column * tile.0, GAP + row * tile.1);
        let crop = fitted(&failure.crop);
        let inset = (CROP.1 - crop.height()) / 2;
        imageops::replace(&mut sheet, &crop, x.into(), (y + inset).into());
        let Some(font) = font else { continue };
        for (line, (text, ink)) in failure.lines().iter().zip(INK).enumerate() {
            let baseline = y + CROP.1 + LINE * (line as u32 + 1) - 5;
            write_text(&mut sheet, font, text, (x, baseline), ink);
        }
    }
    sheet
}

/// As large as the room for a crop allows, in its proportions.
fn fitted(crop: &RgbImage) -> RgbImage {
    let scale = (CROP.0 as f32 / crop.width() as f32).min(CROP.1 as f32 / crop.height() as f32);
    let side = |length: u32, max: u32| ((length as f32 * scale) as u32).clamp(1, max);
    let (width, height) = (side(crop.width(), CROP.0), side(crop.height(), CROP.1));
    imageops::resize(crop, width, height, FilterType::Triangle)
}

/// Writes a line, cut off at the width of a crop.
fn write_text(
    sheet: &mut RgbImage,
    font: &FontVec,
    text: &str,
    (left, baseline): (u32, u32),
    ink: Rgb<u8>,
) {
    let scale = PxScale::from(LINE as f32 * 0.85);
    let mut x = left as f32;
    for c in text.chars() {
        let id = font.glyph_id(c);
        let advance = font.as_scaled(scale).h_advance(id);
        if x + advance > (left + CROP.0) as f32 {
            return;
        }
        if let Some(glyph) =
            font.outline_glyph(id.with_scale_and_position(scale, point(x, baseline as f32)))
        {
            let corner = glyph.px_bounds().min;
            glyph.draw(|dx, dy, cover| {
                let (x, y) = (corner.x as i64 + i64::from(dx), corner.y as i64 + i64::from(dy));
                let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
                if let Some(pixel) = sheet.get_pixel_mut_checked(x, y) {
                    for (under, over) in pixel.0.iter_mut().zip(ink.0) {
                        let (a, b) = (f32::from(*under), f32::from(over));
                        *under = (a + (b - a) * cover.clamp(0.0, 1.0)).round() as u8;
                    }
                }
            });
        }
        x += advance;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::figures::tests::outcome;

    fn failure() -> Failure {
        let picture = OwnedPicture::rgb(200, 100, vec![7; 200 * 100 * 3]).unwrap();
        let label = BBox::new(150.0, 40.0, 190.0, 60.0).unwrap();
        Failure::cut(&outcome("浙J12345", Some("皖J12345"), 0.5), &label, &picture).unwrap()
    }

    #[test]
    fn a_crop_has_a_margin_and_stays_in_the_photo() {
        let failure = failure();
        assert_eq!(failure.crop.dimensions(), (70, 40));
        assert_eq!(failure.file_name(), "浙J12345__皖J12345__a.png");
        let outside = BBox::new(500.0, 40.0, 590.0, 60.0).unwrap();
        let picture = OwnedPicture::rgb(200, 100, vec![7; 200 * 100 * 3]).unwrap();
        assert_eq!(Failure::cut(&outcome("浙J12345", None, 0.0), &outside, &picture), None);
    }

    #[test]
    fn every_failure_is_on_a_sheet() {
        let folder = tempfile::tempdir().unwrap();
        let failures = vec![failure(); SHEET_MAX + 1];
        write_failures(folder.path(), &failures).unwrap();
        let first = image::open(folder.path().join("failures-1.png")).unwrap();
        assert_eq!(first.width(), COLUMNS as u32 * (CROP.0 + GAP) + GAP);
        assert!(folder.path().join("failures-2.png").is_file());
        assert!(folder.path().join("crops/浙J12345__皖J12345__a.png").is_file());
    }

    #[test]
    fn names_hold_no_path() {
        let mut failure = failure();
        failure.photo = "sub/c:d.jpg".into();
        assert_eq!(failure.file_name(), "浙J12345__皖J12345__c_d.png");
    }
}
