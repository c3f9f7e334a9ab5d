//! Plates: texts that the grammar allows, and their pictures.

use guiji_domain::{PlateChar, PlateColour, PlateKind, PlateRows, PlateText, grammar};
use image::{Rgb, RgbImage};

use crate::SceneError;
use crate::font::PlateFonts;
use crate::random::Random;

/// Pixels a millimetre of a drawn plate.
pub const PX_PER_MM: f32 = 2.0;

/// A plate as it hangs on a vehicle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plate {
    /// What stands on it.
    pub text: PlateText,
    /// What kind it is.
    pub kind: PlateKind,
    /// Its background.
    pub colour: PlateColour,
    /// How many rows.
    pub rows: PlateRows,
}

impl Plate {
    /// # Errors
    /// When the text does not fit the kind, or the kind never has that many rows.
    pub fn new(text: PlateText, kind: PlateKind, rows: PlateRows) -> Result<Self, SceneError> {
        let chars: Vec<_> = text.chars().collect();
        let wrong =
            |fix: String| SceneError::Value(guiji_domain::InvalidValue::new("plate", &text, fix));
        if !grammar::fits(kind, &chars) {
            return Err(wrong(format!("does not fit the kind {kind}")));
        }
        if !grammar::rows(kind).contains(&rows) {
            return Err(wrong(format!("a {kind} plate never has {rows} row(s)")));
        }
        let colour = *grammar::colours(kind).first().unwrap_or(&PlateColour::Blue);
        Ok(Self { text, kind, colour, rows })
    }

    /// A random plate of a kind, seven in ten of them 浙J.
    pub(crate) fn random(kind: PlateKind, random: &mut Random) -> Result<Self, SceneError> {
        let all: Vec<_> = PlateChar::all().collect();
        let local = random.unit() < 0.7;
        let template = random.pick(grammar::templates(kind)).copied().unwrap_or_default();
        let mut chars = Vec::with_capacity(template.len());
        for (i, slot) in template.iter().enumerate() {
            let home =
                PlateChar::new(['浙', 'J'][i.min(1)]).filter(|c| local && i < 2 && slot.allows(*c));
            let chosen = match (home, slot) {
                (Some(c), _) => Some(c),
                // Most serials are digits; the office letter O is legacy.
                (None, grammar::Slot::Serial) if random.unit() < 0.75 => {
                    PlateChar::from_index(31 + random.below(10))
                }
                (None, slot) => {
                    let fitting: Vec<_> = all
                        .iter()
                        .copied()
                        .filter(|c| slot.allows(*c) && c.as_char() != 'O')
                        .collect();
                    random.pick(&fitting).copied()
                }
            };
            chars.extend(chosen);
        }
        let text = PlateText::from_chars(&chars).ok_or_else(|| {
            guiji_domain::InvalidValue::new("plate kind", kind, "has no template to draw from")
        })?;
        let rows = *random.pick(grammar::rows(kind)).unwrap_or(&PlateRows::One);
        Self::new(text, kind, rows)
    }

    /// Width and height in millimetres: GA 36-2018 as public sources state it.
    pub fn size_mm(&self) -> (f32, f32) {
        match (self.colour, self.rows) {
            (_, PlateRows::Two) => (440.0, 220.0),
            (PlateColour::Green | PlateColour::YellowGreen, PlateRows::One) => (480.0, 140.0),
            _ => (440.0, 140.0),
        }
    }

    /// Where each character stands: left, top, width, height in millimetres.
    ///
    /// One row: characters 45 x 90, gap 12, and 34 between the office letter and the serial, where the dot is. New
    /// energy: 43 x 90, gap 9, 49 where the emblem is. Two rows: 80 x 60 above, 65 x 110 below.
    pub(crate) fn boxes_mm(&self) -> Vec<[f32; 4]> {
        let count = self.text.chars().count();
        let (width, _) = self.size_mm();
        match self.rows {
            PlateRows::Two => {
                let below = count.saturating_sub(2);
                // Five fit; a tractor's six are squeezed.
                let fit = (5.0 / below as f32).min(1.0);
                let (cell, gap) = (65.0 * fit, 15.0 * fit);
                let left = (width - below as f32 * (cell + gap) + gap) / 2.0;
                let upper = [[110.0, 15.0, 80.0, 60.0], [250.0, 15.0, 80.0, 60.0]];
                let lower = (0..below).map(|i| [left + i as f32 * (cell + gap), 90.0, cell, 110.0]);
                upper.into_iter().take(count).chain(lower).collect()
            }
            PlateRows::One => {
                let (cell, gap, dot) =
                    if width > 440.0 { (43.0, 9.0, 49.0) } else { (45.0, 12.0, 34.0) };
                // Longer texts than the layout was made for are squeezed.
                let natural = 45.0 + cell * (count as f32 - 1.0) + gap * (count as f32 - 2.0) + dot;
                let fit = ((width - 31.0) / natural).min(1.0);
                let mut left = 15.5;
                (0..count)
                    .map(|i| {
                        let cell = if i == 0 { 45.0 } else { cell } * fit;
                        let out = [left, 25.0, cell, 90.0];
                        left += cell + if i == 1 { dot } else { gap } * fit;
                        out
                    })
                    .collect()
            }
        }
    }

    /// Draws it, [`PX_PER_MM`] pixels a millimetre.
    ///
    /// # Errors
    /// When the fonts lack a character.
    pub fn draw(&self, fonts: &PlateFonts) -> Result<RgbImage, SceneError> {
        let (w_mm, h_mm) = self.size_mm();
        let (w, h) = ((w_mm * PX_PER_MM) as u32, (h_mm * PX_PER_MM) as u32);
        let paint = Paint::of(self.colour);
        let mut image = RgbImage::from_fn(w, h, |x, y| paint.ground(x, y, w, h));
        draw_frame(&mut image, paint.line);
        let boxes = self.boxes_mm();
        for (c, [left, top, cell, height]) in self.text.as_str().chars().zip(&boxes) {
            let glyph = fonts.glyph(c, cell * PX_PER_MM, height * PX_PER_MM)?;
            let ink = if paint.is_white && "警应急使领".contains(c) { RED } else { paint.ink };
            let (x0, y0) = ((left * PX_PER_MM) as u32, (top * PX_PER_MM) as u32);
            for y in 0..glyph.height {
                for x in 0..glyph.width {
                    mix(&mut image, x0 + x as u32, y0 + y as u32, ink, glyph.at(x, y));
                }
            }
        }
        if let [_, second, third, ..] = boxes.as_slice() {
            let (x, y) = match self.rows {
                PlateRows::One => ((second[0] + second[2] + third[0]) / 2.0, h_mm / 2.0),
                PlateRows::Two => (w_mm / 2.0, 45.0),
            };
            // New-energy plates have a pale emblem where others have a dot.
            let (radius, ink) =
                if w_mm > 440.0 { (8.0, Rgb([112, 176, 140])) } else { (5.0, paint.ink) };
            disc(&mut image, x, y, radius, ink);
        }
        // Four bolts, as the standard's holes are.
        for (x, y) in [(0.25, 0.07), (0.75, 0.07), (0.25, 0.93), (0.75, 0.93)] {
            disc(&mut image, x * w_mm, y * h_mm, 4.5, Rgb([168, 168, 164]));
        }
        Ok(image)
    }
}

const RED: Rgb<u8> = Rgb([196, 28, 32]);

struct Paint {
    top: Rgb<u8>,
    bottom: Rgb<u8>,
    left: Option<Rgb<u8>>,
    ink: Rgb<u8>,
    line: Rgb<u8>,
    is_white: bool,
}

impl Paint {
    fn of(colour: PlateColour) -> Self {
        let white = Rgb([242, 243, 244]);
        let black = Rgb([18, 18, 20]);
        let plain = |ground, ink, is_white| Self {
            top: ground,
            bottom: ground,
            left: None,
            ink,
            line: ink,
            is_white,
        };
        match colour {
            PlateColour::Blue => plain(Rgb([16, 66, 176]), white, false),
            PlateColour::Yellow => plain(Rgb([238, 178, 20]), black, false),
            PlateColour::White => plain(Rgb([236, 237, 236]), black, true),
            PlateColour::Black => plain(Rgb([20, 20, 24]), white, false),
            PlateColour::Green => Self {
                top: Rgb([226, 240, 228]),
                bottom: Rgb([58, 184, 112]),
                ..plain(white, black, false)
            },
            PlateColour::YellowGreen => {
                Self { left: Some(Rgb([238, 190, 30])), ..plain(Rgb([72, 188, 110]), black, false) }
            }
        }
    }

    fn ground(&self, x: u32, y: u32, w: u32, h: u32) -> Rgb<u8> {
        match self.left {
            Some(left) if x * 480 < w * 112 => left,
            _ => {
                let share = f64::from(y) / f64::from(h.max(1));
                let at = |i: usize| {
                    let (a, b) = (f64::from(self.top.0[i]), f64::from(self.bottom.0[i]));
                    (a + (b - a) * share).round() as u8
                };
                Rgb([at(0), at(1), at(2)])
            }
        }
    }
}

/// A line 1.5 mm wide, 4 mm inside the edge, and the rim outside it.
fn draw_frame(image: &mut RgbImage, line: Rgb<u8>) {
    let (w, h) = image.dimensions();
    let (near, far) = ((4.0 * PX_PER_MM) as u32, (5.5 * PX_PER_MM) as u32);
    for y in 0..h {
        for x in 0..w {
            let edge = x.min(y).min(w - 1 - x).min(h - 1 - y);
            if (near..far).contains(&edge) {
                image.put_pixel(x, y, line);
            }
        }
    }
}

fn disc(image: &mut RgbImage, x_mm: f32, y_mm: f32, radius_mm: f32, ink: Rgb<u8>) {
    let (cx, cy, r) = (x_mm * PX_PER_MM, y_mm * PX_PER_MM, radius_mm * PX_PER_MM);
    for y in (cy - r - 1.0).max(0.0) as u32..=(cy + r + 1.0) as u32 {
        for x in (cx - r - 1.0).max(0.0) as u32..=(cx + r + 1.0) as u32 {
            let distance = (x as f32 + 0.5 - cx).hypot(y as f32 + 0.5 - cy);
            mix(image, x, y, ink, ((r - distance + 0.5).clamp(0.0, 1.0) * 255.0) as u8);
        }
    }
}

fn mix(image: &mut RgbImage, x: u32, y: u32, ink: Rgb<u8>, cover: u8) {
    if x >= image.width() || y >= image.height() {
        return;
    }
    let cover = u32::from(cover);
    for (p, i) in image.get_pixel_mut(x, y).0.iter_mut().zip(ink.0) {
        *p = ((u32::from(*p) * (255 - cover) + u32::from(i) * cover + 127) / 255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plate(text: &str, kind: PlateKind, rows: PlateRows) -> Plate {
        Plate::new(PlateText::parse(text).unwrap(), kind, rows).unwrap()
    }

    #[test]
    fn one_row_fills_the_standard_width() {
        for (text, kind, width) in [
            ("浙J12345", PlateKind::Small, 440.0),
            ("浙J1234警", PlateKind::Police, 440.0),
            ("浙JD12345", PlateKind::NewEnergySmall, 480.0),
        ] {
            let plate = plate(text, kind, PlateRows::One);
            let boxes = plate.boxes_mm();
            let last = boxes.last().unwrap();
            assert!((last[0] + last[2] + 15.5 - width).abs() < 0.6, "{text}: {last:?}");
            assert_eq!(plate.size_mm(), (width, 140.0));
        }
    }

    #[test]
    fn two_rows_are_centred_and_do_not_touch() {
        let boxes = plate("浙J12345", PlateKind::Large, PlateRows::Two).boxes_mm();
        assert_eq!(boxes.len(), 7);
        assert_eq!(boxes[2][0], 440.0 - (boxes[6][0] + boxes[6][2]));
        assert!(boxes[..2].iter().all(|b| b[1] + b[3] < boxes[2][1]));
        assert!(boxes[6][1] + boxes[6][3] < 220.0);
    }

    #[test]
    fn a_text_of_another_kind_is_refused() {
        let text = PlateText::parse("浙J12345").unwrap();
        assert!(Plate::new(text.clone(), PlateKind::Police, PlateRows::One).is_err());
        assert!(Plate::new(text, PlateKind::Small, PlateRows::Two).is_err());
    }

    #[test]
    fn characters_are_drawn_where_the_boxes_are() {
        let fonts = PlateFonts::load().unwrap();
        let plate = plate("浙JH8888", PlateKind::Small, PlateRows::One);
        let image = plate.draw(&fonts).unwrap();
        assert_eq!(image.dimensions(), (880, 280));
        let bright = |x: u32, y: u32| image.get_pixel(x, y).0[0] > 128;
        for [left, top, width, height] in plate.boxes_mm() {
            let columns = (left * 2.0) as u32..((left + width) * 2.0) as u32;
            let rows = (top * 2.0) as u32..((top + height) * 2.0) as u32;
            let inked = columns.clone().filter(|x| rows.clone().any(|y| bright(*x, y))).count();
            assert!(inked as f32 > 0.9 * 2.0 * width, "{inked} of {width} mm");
            // Between this character and the next stands nothing.
            let gap = columns.end + 8;
            assert!(
                gap > 850 || rows.clone().all(|y| !bright(gap, y)) || left > 70.0 && left < 80.0
            );
        }
    }

    proptest! {
        #[test]
        fn every_random_plate_obeys_the_grammar(seed: u64, kind in 0usize..18) {
            let kind = PlateKind::ALL[kind];
            let plate = Plate::random(kind, &mut Random::new(seed)).unwrap();
            let chars: Vec<_> = plate.text.chars().collect();
            prop_assert!(grammar::fits(kind, &chars), "{}", plate.text);
            prop_assert_eq!(plate.boxes_mm().len(), chars.len());
            let (w, h) = plate.size_mm();
            for b in plate.boxes_mm() {
                prop_assert!(b[0] >= 0.0 && b[0] + b[2] <= w && b[1] >= 0.0 && b[1] + b[3] <= h);
            }
        }
    }
}
