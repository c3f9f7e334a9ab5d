//! Glyphs of free fonts, stretched to the boxes a plate prescribes.

use std::path::Path;

use ab_glyph::{Font, FontVec, PxScale, point};

use crate::SceneError;
use crate::raster::Mask;

/// Where Debian puts them, best first, with the face's index (Noto's collections: 2 is simplified Chinese).
const CHINESE: &[(&str, u32)] = &[
    ("/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc", 2),
    ("/usr/share/fonts/opentype/noto/NotoSansCJK-Black.ttc", 2),
    ("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", 2),
    ("/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc", 0),
];
const LATIN: &[(&str, u32)] = &[
    ("/usr/share/fonts/truetype/dejavu/DejaVuSansCondensed-Bold.ttf", 0),
    ("/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc", 2),
    ("/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf", 0),
];

/// The faces plates are drawn with.
pub struct PlateFonts {
    chinese: FontVec,
    latin: FontVec,
}

impl PlateFonts {
    /// Loads the best faces installed.
    ///
    /// # Errors
    /// When no known face is installed.
    pub fn load() -> Result<Self, SceneError> {
        Ok(Self {
            chinese: first(CHINESE, "Chinese characters", "fonts-noto-cjk, fonts-wqy-zenhei")?,
            latin: first(LATIN, "letters and digits", "fonts-dejavu-extra, fonts-noto-cjk")?,
        })
    }

    /// The glyph stretched to fill a box of `width` x `height` pixels. A 1 keeps its natural narrowness.
    pub(crate) fn glyph(&self, c: char, width: f32, height: f32) -> Result<Mask, SceneError> {
        let font = if c.is_ascii() { &self.latin } else { &self.chinese };
        let id = font.glyph_id(c);
        let no_glyph = || SceneError::NoGlyph(c);
        if id.0 == 0 {
            return Err(no_glyph());
        }
        const PROBE: f32 = 200.0;
        let natural = font
            .outline_glyph(id.with_scale_and_position(PROBE, point(0.0, 0.0)))
            .ok_or_else(no_glyph)?
            .px_bounds();
        let share = if c == '1' { 0.55 } else { 1.0 };
        let scale = PxScale {
            x: PROBE * width * share / natural.width(),
            y: PROBE * height / natural.height(),
        };
        let outline = font
            .outline_glyph(id.with_scale_and_position(scale, point(0.0, 0.0)))
            .ok_or_else(no_glyph)?;
        let (w, h) = (width.ceil() as usize + 2, height.ceil() as usize + 2);
        let mut mask = Mask::new(w, h);
        let inset = (width - outline.px_bounds().width()).max(0.0) / 2.0;
        outline.draw(|x, y, cover| {
            let (x, y) = (x as usize + inset as usize, y as usize);
            if x < w && y < h {
                mask.data[y * w + x] = (cover * 255.0).round().clamp(0.0, 255.0) as u8;
            }
        });
        Ok(mask)
    }
}

fn first(
    faces: &[(&str, u32)],
    what: &'static str,
    wanted: &'static str,
) -> Result<FontVec, SceneError> {
    faces
        .iter()
        .filter(|(path, _)| Path::new(path).is_file())
        .find_map(|(path, index)| {
            FontVec::try_from_vec_and_index(std::fs::read(path).ok()?, *index).ok()
        })
        .ok_or(SceneError::NoFont { what, wanted })
}
