//! Reading plates: upright crops through the text model, in batches over all plates at hand.

use guiji_domain::{PlateRead, PlateRows, Quad, VisionError};

use crate::colour::plate_colour;
use crate::decode::{FoundPlate, FoundText, TextHead, TwoRows};
use crate::pixels::View;
use crate::rectify::{Strip, Window, rectify};
use crate::runtime::Model;
use crate::sharpness::sharpness;

/// Most crops in one run.
const BATCH_MAX: usize = 16;
/// Width over height below which a plate may have two rows. One-row plates are 3.1 (440x140 mm) or 3.4 (480x140 mm),
/// two-row ones 2.0 (440x220 mm) or 1.6 (220x140 mm); a view from the side narrows both.
const TWO_ROWS_ASPECT_MAX: f32 = 2.5;
/// Aspect at which one and two rows are equally likely.
const EVEN_ASPECT: f32 = 2.35;
/// The upper row of a two-row plate and the lower one, as parts of the plate.
const UPPER: Window = Window { x1: 0.18, y1: 0.0, x2: 0.82, y2: 0.4 };
const LOWER: Window = Window { x1: 0.0, y1: 0.4, x2: 1.0, y2: 1.0 };
/// Their widths, as shares of a one-row plate's: the characters then come out about as wide as there.
const UPPER_SHARE: f32 = 0.39;
const LOWER_SHARE: f32 = 0.8;
/// The same for a model that knows two-row plates, with the surroundings that it was trained on (`folded` in
/// `models/training/render.py`: 58 and 110 of 168 pixels): squeezed into one picture, the upper row is too small.
const FOLDED_UPPER: Window = Window { x1: 0.12, y1: -0.1, x2: 0.88, y2: 0.46 };
const FOLDED_LOWER: Window = Window { x1: -0.05, y1: 0.36, x2: 1.05, y2: 1.1 };
const FOLDED_UPPER_SHARE: f32 = 58.0 / 168.0;
const FOLDED_LOWER_SHARE: f32 = 110.0 / 168.0;

pub(crate) struct TextReader {
    pub(crate) model: Model,
    pub(crate) head: Box<dyn TextHead>,
    /// Width and height of the tensor.
    pub(crate) input: (usize, usize),
    /// Width of the plate in it; the rest is filled.
    pub(crate) plate_width: usize,
    /// Shown surrounding, as shares of width and height on every side.
    pub(crate) margin: [f32; 2],
}

/// One way to read one plate.
struct Attempt {
    plate: usize,
    rows: Option<PlateRows>,
    strip: Strip,
}

impl TextReader {
    /// One read for each plate, in order. A plate of degenerate corners gives none.
    pub(crate) fn read(
        &self,
        plates: &[(View<'_>, FoundPlate)],
    ) -> Result<Vec<Option<PlateRead>>, VisionError> {
        let uprights: Vec<_> =
            plates.iter().map(|(view, plate)| self.upright(view, &plate.corners)).collect();
        let attempts: Vec<_> = plates
            .iter()
            .zip(&uprights)
            .enumerate()
            .filter_map(|(i, ((view, plate), upright))| Some((i, view, plate, upright.as_ref()?)))
            .flat_map(|(i, view, plate, upright)| self.attempts(i, view, &plate.corners, upright))
            .collect();
        let mut texts: Vec<Option<(f32, FoundText)>> = plates.iter().map(|_| None).collect();
        for attempts in attempts.chunks(BATCH_MAX) {
            for (attempt, mut text) in attempts.iter().zip(self.run(attempts)?) {
                let certainty = certainty(&text);
                let (_, plate) = &plates[attempt.plate];
                text.rows = text.rows.or_else(|| Some(rows(attempt.rows, &plate.corners)));
                let best = &mut texts[attempt.plate];
                if best.as_ref().is_none_or(|(before, _)| certainty > *before) {
                    *best = Some((certainty, text));
                }
            }
        }
        self.read_folded(plates, &mut texts)?;
        let reads = plates.iter().zip(uprights).zip(texts);
        Ok(reads
            .map(|(((_, plate), upright), text)| plate_read(plate, &upright?, text?.1))
            .collect())
    }

    /// Reads once more, row beside row, what a model that knows two-row plates said has two rows; the surer text
    /// wins, everything else stays as it was.
    fn read_folded(
        &self,
        plates: &[(View<'_>, FoundPlate)],
        texts: &mut [Option<(f32, FoundText)>],
    ) -> Result<(), VisionError> {
        if self.head.two_rows() == TwoRows::SideBySide {
            return Ok(());
        }
        let has_two = |text: &Option<(f32, FoundText)>| {
            text.as_ref()
                .and_then(|(_, text)| text.rows)
                .is_some_and(|(rows, _)| rows == PlateRows::Two)
        };
        let folded: Vec<_> = plates
            .iter()
            .zip(&*texts)
            .enumerate()
            .filter(|(_, (_, text))| has_two(text))
            .filter_map(|(plate, ((view, found), _))| {
                let corners = &found.corners;
                let upper = self.row(view, corners, FOLDED_UPPER, FOLDED_UPPER_SHARE)?;
                let lower = self.row(view, corners, FOLDED_LOWER, FOLDED_LOWER_SHARE)?;
                let strip = side_by_side(&upper, &lower);
                Some(Attempt { plate, rows: Some(PlateRows::Two), strip })
            })
            .collect();
        for attempts in folded.chunks(BATCH_MAX) {
            for (attempt, text) in attempts.iter().zip(self.run(attempts)?) {
                let surer = certainty(&text);
                if let Some((before, plain)) = &mut texts[attempt.plate]
                    && surer > *before
                {
                    (*before, plain.lattice) = (surer, text.lattice);
                }
            }
        }
        Ok(())
    }

    /// One row of a plate, as wide as its share of a one-row plate.
    fn row(&self, view: &View<'_>, corners: &Quad, window: Window, share: f32) -> Option<Strip> {
        let width = (self.plate_width as f32 * share).round() as usize;
        rectify(view, corners, window, width, self.input.1)
    }

    fn upright(&self, view: &View<'_>, corners: &Quad) -> Option<Strip> {
        let [x, y] = self.margin;
        rectify(view, corners, Window::with_margin(x, y), self.plate_width, self.input.1)
    }

    /// How a plate goes into the model: as it is, and where it may have two rows and the model cannot take them, with
    /// the rows side by side as well; the surer text wins.
    fn attempts(
        &self,
        plate: usize,
        view: &View<'_>,
        corners: &Quad,
        upright: &Strip,
    ) -> Vec<Attempt> {
        let whole = |rows| Attempt { plate, rows, strip: upright.clone() };
        let splits = self.head.two_rows() == TwoRows::SideBySide;
        if !splits {
            return vec![whole(None)];
        }
        if corners.width() / corners.height() >= TWO_ROWS_ASPECT_MAX {
            return vec![whole(Some(PlateRows::One))];
        }
        let upper = self.row(view, corners, UPPER, UPPER_SHARE);
        let lower = self.row(view, corners, LOWER, LOWER_SHARE);
        let two = upper.zip(lower).map(|(upper, lower)| Attempt {
            plate,
            rows: Some(PlateRows::Two),
            strip: side_by_side(&upper, &lower),
        });
        std::iter::once(whole(Some(PlateRows::One))).chain(two).collect()
    }

    fn run(&self, attempts: &[Attempt]) -> Result<Vec<FoundText>, VisionError> {
        self.model.infer(
            |batch| {
                batch.reset(attempts.len(), self.input.0, self.input.1);
                for (index, attempt) in attempts.iter().enumerate() {
                    batch.put_strip(index, &attempt.strip);
                }
            },
            |outputs| self.head.decode(outputs),
        )
    }
}

/// The probability of the likeliest text.
fn certainty(text: &FoundText) -> f32 {
    text.lattice.top_texts(1).first().map_or(0.0, |(_, p)| *p)
}

/// Rows where the model does not say: by the way that read better, and by the proportions.
fn rows(read_as: Option<PlateRows>, corners: &Quad) -> (PlateRows, f32) {
    let aspect = corners.width() / corners.height().max(1.0);
    let two = 1.0 / (1.0 + ((aspect - EVEN_ASPECT) * 6.0).exp());
    match read_as {
        Some(PlateRows::Two) => (PlateRows::Two, two.max(0.5)),
        Some(PlateRows::One) => (PlateRows::One, (1.0 - two).max(0.5)),
        None if two > 0.5 => (PlateRows::Two, two),
        None => (PlateRows::One, 1.0 - two),
    }
}

fn side_by_side(left: &Strip, right: &Strip) -> Strip {
    let rows = left.rows().zip(right.rows());
    let pixels = rows.flat_map(|(l, r)| l.iter().chain(r).copied()).collect();
    Strip { width: left.width + right.width, height: left.height, pixels }
}

fn plate_read(plate: &FoundPlate, upright: &Strip, text: FoundText) -> Option<PlateRead> {
    Some(PlateRead {
        lattice: text.lattice,
        rows: text.rows?,
        colour: text.colour.or_else(|| plate_colour(upright)),
        corners: plate.corners,
        detector_score: plate.score,
        sharpness: sharpness(upright),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::BBox;

    #[test]
    fn proportions_tell_the_rows() {
        let quad = |w, h| Quad::from_bbox(&BBox::new(0.0, 0.0, w, h).unwrap());
        assert_eq!(rows(None, &quad(440.0, 140.0)).0, PlateRows::One);
        assert_eq!(rows(None, &quad(440.0, 220.0)).0, PlateRows::Two);
        assert!(rows(None, &quad(440.0, 140.0)).1 > 0.95);
        assert_eq!(rows(Some(PlateRows::One), &quad(440.0, 200.0)), (PlateRows::One, 0.5));
    }

    #[test]
    fn strips_are_joined_row_by_row() {
        let strip = |width, v: f32| Strip { width, height: 2, pixels: vec![[v; 3]; width * 2] };
        let joined = side_by_side(&strip(1, 1.0), &strip(2, 2.0));
        let values: Vec<_> = joined.pixels.iter().map(|p| p[0]).collect();
        assert_eq!((joined.width, values), (3, vec![1.0, 2.0, 2.0, 1.0, 2.0, 2.0]));
    }
}
