//! A reader that answers position by position: our own.

use guiji_domain::{Candidate, Lattice, PlateChar, PlateColour, PlateRows, Position};
use ndarray::{ArrayView1, ArrayView2, Axis, Ix2, Ix3};

use super::{FoundText, Outputs, TextHead, TwoRows, expect_len};

/// Outputs: `characters` `[N, positions, characters]`, and where the model has them `rows` `[N, 2]`,
/// `colour` `[N, colours]` and `readable` `[N, 1]`, all probabilities.
pub(crate) struct Positions {
    /// What each class of `characters` is; the first means that nothing stands there. A character that can stand
    /// on no plate is `None`.
    pub(crate) characters: Vec<Option<PlateChar>>,
    pub(crate) colours: Vec<PlateColour>,
}

impl TextHead for Positions {
    fn two_rows(&self) -> TwoRows {
        TwoRows::Whole
    }

    fn decode(&self, outputs: &Outputs<'_>) -> Result<Vec<FoundText>, String> {
        let characters = outputs.get::<Ix3>("characters")?;
        expect_len("characters", characters.shape()[2], self.characters.len())?;
        let side = |name: &str, columns: usize| -> Result<_, String> {
            if !outputs.has(name) || columns == 0 {
                return Ok(None);
            }
            let tensor = outputs.get::<Ix2>(name)?;
            expect_len(name, tensor.shape()[0], characters.shape()[0])?;
            expect_len(name, tensor.shape()[1], columns)?;
            Ok(Some(tensor))
        };
        let (rows, colour, readable) =
            (side("rows", 2)?, side("colour", self.colours.len())?, side("readable", 1)?);
        let decode_plate = |(n, characters): (usize, ArrayView2<'_, f32>)| {
            let readable = readable.map_or(1.0, |r| r[[n, 0]].clamp(0.0, 1.0));
            Ok(FoundText {
                lattice: self.lattice(&characters, readable)?,
                rows: rows.and_then(|r| best(&r.row(n), &[PlateRows::One, PlateRows::Two])),
                colour: colour.and_then(|c| best(&c.row(n), &self.colours)),
            })
        };
        characters.axis_iter(Axis(0)).enumerate().map(decode_plate).collect()
    }
}

impl Positions {
    /// Probabilities are multiplied by that of the plate being readable at all: what is missing then belongs to
    /// every character alike, so an unreadable plate says nothing rather than something wrong.
    fn lattice(&self, characters: &ArrayView2<'_, f32>, readable: f32) -> Result<Lattice, String> {
        let positions = characters.axis_iter(Axis(0)).map(|row| {
            let listed = row.iter().zip(&self.characters).enumerate();
            let candidates = listed.filter_map(|(i, (p, c))| {
                let known = i == 0 || c.is_some();
                let probability = if p.is_finite() { p.clamp(0.0, 1.0) * readable } else { 0.0 };
                known.then_some(Candidate { character: *c, probability })
            });
            Position::new(candidates).map_err(|e| e.to_string())
        });
        let positions = positions.collect::<Result<_, _>>()?;
        Lattice::new(positions).map_err(|e| e.to_string())
    }
}

/// The likeliest of the choices with its probability.
fn best<T: Copy>(row: &ArrayView1<'_, f32>, choices: &[T]) -> Option<(T, f32)> {
    let choice = row.iter().zip(choices).max_by(|a, b| a.0.total_cmp(b.0))?;
    choice.0.is_finite().then(|| (*choice.1, choice.0.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Array3};

    fn head() -> Positions {
        let characters = [' '].into_iter().chain("浙J12345D".chars()).map(PlateChar::new);
        Positions {
            characters: characters.collect(),
            colours: vec![PlateColour::Blue, PlateColour::Green],
        }
    }

    /// Each entry: class, its probability; the rest goes to the next class.
    fn characters(entries: &[(usize, f32)]) -> Array3<f32> {
        let mut tensor = Array3::zeros((1, entries.len(), 9));
        for (i, (class, p)) in entries.iter().enumerate() {
            tensor[[0, i, *class]] = *p;
            tensor[[0, i, (*class + 1) % 9]] = 1.0 - p;
        }
        tensor
    }

    #[test]
    fn lengths_compete() {
        let text = characters(&[
            (1, 1.0),
            (2, 1.0),
            (3, 0.9),
            (4, 1.0),
            (5, 1.0),
            (6, 1.0),
            (7, 1.0),
            (0, 0.7),
        ]);
        let (rows, colour) = (Array2::from_elem((1, 2), 0.5), ndarray::arr2(&[[0.2, 0.8]]));
        let outputs = Outputs(vec![
            ("characters", text.view().into_dyn()),
            ("rows", rows.view().into_dyn()),
            ("colour", colour.view().into_dyn()),
        ]);
        let found = head().decode(&outputs).unwrap();
        let texts = found[0].lattice.top_texts(2);
        assert_eq!(texts[0].0.as_str(), "浙J12345");
        assert!((texts[0].1 - 0.63).abs() < 1e-5);
        assert_eq!(texts[1].0.as_str(), "浙J12345浙");
        assert_eq!(found[0].colour, Some((PlateColour::Green, 0.8)));
    }

    #[test]
    fn an_unreadable_plate_says_nothing() {
        let text =
            characters(&[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 1.0), (6, 1.0), (7, 1.0)]);
        let readable = ndarray::arr2(&[[0.1]]);
        let outputs = Outputs(vec![
            ("characters", text.view().into_dyn()),
            ("readable", readable.view().into_dyn()),
        ]);
        let found = head().decode(&outputs).unwrap();
        assert!(found[0].lattice.top_texts(1)[0].1 < 1e-6);
        assert_eq!((found[0].rows, found[0].colour), (None, None));
    }

    #[test]
    fn another_charset_is_an_error() {
        let text = Array3::zeros((1, 8, 12));
        let outputs = Outputs(vec![("characters", text.view().into_dyn())]);
        assert!(head().decode(&outputs).unwrap_err().contains("12"));
    }
}
