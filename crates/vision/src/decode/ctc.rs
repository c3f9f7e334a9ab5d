//! A reader trained with connectionist temporal classification: per time step (a few columns), the probability of
//! each character and of the blank.

use guiji_domain::{Candidate, Lattice, PlateChar, PlateText, Position};
use ndarray::{ArrayView1, ArrayView2, Axis, Ix3};

use super::{FoundText, Outputs, TextHead, TwoRows, expect_len};

/// Source of the decoding: Graves et al. 2006; the lattice around the best path is ours.
///
/// The best path groups time steps into *runs* that emit one character each. A run becomes a position: the mass of
/// each character is summed over the run's steps, and the position exists with the probability that not all its
/// steps are blank. What follows the last run may be a character too weak to be emitted: it becomes a last position
/// that is probably empty, so that 7 and 8 characters compete.
pub(crate) struct Ctc {
    pub(crate) output: String,
    /// Class of the blank.
    pub(crate) blank: usize,
    /// What each class is; `None` for the blank and for what can stand on no plate.
    pub(crate) characters: Vec<Option<PlateChar>>,
}

/// Below this chance of a further character after the last run, none is considered.
const EXTRA_MIN: f32 = 1e-3;

/// Time steps that emit one character: `from..to`, and the class.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    from: usize,
    to: usize,
    class: usize,
}

impl TextHead for Ctc {
    fn two_rows(&self) -> TwoRows {
        TwoRows::SideBySide
    }

    fn decode(&self, outputs: &Outputs<'_>) -> Result<Vec<FoundText>, String> {
        let steps = outputs.get::<Ix3>(&self.output)?;
        expect_len(&self.output, steps.shape()[2], self.characters.len())?;
        let decode_plate = |steps: ArrayView2<'_, f32>| {
            let lattice = self.lattice(&steps).map_err(|e| e.to_string())?;
            Ok(FoundText { lattice, rows: None, colour: None })
        };
        steps.axis_iter(Axis(0)).map(decode_plate).collect()
    }
}

impl Ctc {
    fn lattice(&self, steps: &ArrayView2<'_, f32>) -> Result<Lattice, guiji_domain::InvalidValue> {
        let runs = self.runs(steps);
        let mut positions: Vec<_> = runs
            .iter()
            .map(|run| (self.existence(steps, *run), self.masses(steps, *run)))
            .collect();
        if let Some(last) = runs.last()
            && runs.len() < PlateText::CHARS_MAX
            && let Some((existence, masses)) = self.extra(steps, *last)
        {
            positions.push((existence, masses));
        }
        while positions.len() > PlateText::CHARS_MAX {
            let weakest = |(_, a): &(usize, f32), (_, b): &(usize, f32)| a.total_cmp(b);
            let found = positions.iter().map(|(existence, masses)| existence * peak(masses));
            let Some((weakest, _)) = found.enumerate().min_by(weakest) else { break };
            positions.remove(weakest);
        }
        let count = positions.len();
        let positions = positions.into_iter().enumerate().map(|(i, (existence, masses))| {
            // Within the text an empty position cannot be said, since the rest would have to move up: what is
            // missing there goes to the unlisted characters.
            let empty = (i + 1 == count && existence < 1.0)
                .then_some(Candidate { character: None, probability: (1.0 - existence).max(0.0) });
            let total: f32 = masses.iter().sum();
            let listed = masses.iter().zip(&self.characters).filter_map(|(mass, character)| {
                let share = if total > 0.0 { mass / total } else { 0.0 };
                character.map(|c| Candidate { character: Some(c), probability: share * existence })
            });
            Position::new(listed.chain(empty))
        });
        Lattice::new(positions.collect::<Result<_, _>>()?)
    }

    /// The best path's runs, left to right.
    fn runs(&self, steps: &ArrayView2<'_, f32>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut before = self.blank;
        for (t, step) in steps.axis_iter(Axis(0)).enumerate() {
            let class = argmax(&step).unwrap_or(self.blank);
            match runs.last_mut() {
                _ if class == self.blank => {}
                Some(run) if class == before => run.to = t + 1,
                _ => runs.push(Run { from: t, to: t + 1, class }),
            }
            before = class;
        }
        // A run of something that can stand on no plate is no character.
        runs.retain(|run| self.characters[run.class].is_some());
        runs
    }

    /// The probability that not all steps of the run are blank.
    fn existence(&self, steps: &ArrayView2<'_, f32>, run: Run) -> f32 {
        let blank = (run.from..run.to).map(|t| probability(steps[[t, self.blank]]));
        1.0 - blank.product::<f32>()
    }

    /// Mass of each class over the run's steps; none for the blank and what is no plate character.
    fn masses(&self, steps: &ArrayView2<'_, f32>, run: Run) -> Vec<f32> {
        let mass = |(class, character): (usize, &Option<PlateChar>)| match character {
            Some(_) => (run.from..run.to).map(|t| probability(steps[[t, class]])).sum(),
            None => 0.0,
        };
        self.characters.iter().enumerate().map(mass).collect()
    }

    /// What may stand after the last run: the likeliest step there, without the tail of the last character.
    fn extra(&self, steps: &ArrayView2<'_, f32>, last: Run) -> Option<(f32, Vec<f32>)> {
        let at = |t: usize| {
            let mut masses = self.masses(steps, Run { from: t, to: t + 1, class: self.blank });
            masses[last.class] = 0.0;
            masses
        };
        let after = (last.to + 1..steps.shape()[0]).map(at);
        let strongest = after.max_by(|a, b| a.iter().sum::<f32>().total_cmp(&b.iter().sum()))?;
        let existence = strongest.iter().sum::<f32>().min(1.0);
        (existence >= EXTRA_MIN).then_some((existence, strongest))
    }
}

/// What a tensor's number is worth as a probability.
fn probability(value: f32) -> f32 {
    if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 }
}

fn argmax(step: &ArrayView1<'_, f32>) -> Option<usize> {
    step.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class)
}

/// The share of the strongest class.
fn peak(masses: &[f32]) -> f32 {
    let (max, sum) = masses.iter().fold((0.0f32, 0.0), |(max, sum), m| (max.max(*m), sum + m));
    if sum > 0.0 { max / sum } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Array3};
    use proptest::prelude::*;

    const CLASSES: &str = "浙湘J12345D";

    fn head() -> Ctc {
        let characters = std::iter::once(None).chain(CLASSES.chars().map(PlateChar::new));
        Ctc { output: "steps".into(), blank: 0, characters: characters.collect() }
    }

    /// Each entry is a step: characters with their probabilities, the rest blank.
    fn steps(entries: &[&[(char, f32)]]) -> Array2<f32> {
        let mut steps = Array2::zeros((entries.len(), 1 + CLASSES.chars().count()));
        for (t, entry) in entries.iter().enumerate() {
            steps[[t, 0]] = 1.0 - entry.iter().map(|(_, p)| p).sum::<f32>();
            for (c, p) in *entry {
                steps[[t, 1 + CLASSES.chars().position(|k| k == *c).unwrap()]] = *p;
            }
        }
        steps
    }

    fn texts(entries: &[&[(char, f32)]], n: usize) -> Vec<(String, f32)> {
        let lattice = head().lattice(&steps(entries).view()).unwrap();
        lattice.top_texts(n).into_iter().map(|(t, p)| (t.to_string(), p)).collect()
    }

    #[test]
    fn repeats_merge_and_blanks_part() {
        let found = texts(
            &[
                &[('浙', 0.9)],
                &[('浙', 0.9)],
                &[],
                &[('J', 1.0)],
                &[],
                &[('1', 1.0)],
                &[],
                &[('1', 1.0)],
                &[('3', 1.0)],
                &[('4', 1.0)],
                &[('5', 1.0)],
            ],
            1,
        );
        assert_eq!(found[0].0, "浙J11345");
        assert!(found[0].1 > 0.98, "two steps of 0.9 make the province sure: {found:?}");
    }

    #[test]
    fn a_doubtful_province_has_an_alternative() {
        let found = texts(
            &[
                &[('浙', 0.55), ('湘', 0.45)],
                &[('J', 1.0)],
                &[('1', 1.0)],
                &[('2', 1.0)],
                &[('3', 1.0)],
                &[('4', 1.0)],
                &[('5', 1.0)],
            ],
            2,
        );
        assert_eq!((found[0].0.as_str(), found[1].0.as_str()), ("浙J12345", "湘J12345"));
        assert!((found[1].1 - 0.45).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn a_weak_last_character_lets_seven_and_eight_compete() {
        let seven: [&[(char, f32)]; 7] = [
            &[('浙', 1.0)],
            &[('J', 1.0)],
            &[('D', 1.0)],
            &[('1', 1.0)],
            &[('2', 1.0)],
            &[('3', 1.0)],
            &[('4', 1.0)],
        ];
        // Emitted, but weak.
        let emitted = [&seven[..], &[&[][..], &[('5', 0.6)]]].concat();
        let found = texts(&emitted, 2);
        assert_eq!((found[0].0.as_str(), found[1].0.as_str()), ("浙JD12345", "浙JD1234"));
        assert!((found[0].1 - 0.6).abs() < 1e-4 && (found[1].1 - 0.4).abs() < 1e-4, "{found:?}");
        // Not emitted, but there.
        let silent = [&seven[..], &[&[][..], &[('5', 0.3)]]].concat();
        let found = texts(&silent, 2);
        assert_eq!((found[0].0.as_str(), found[1].0.as_str()), ("浙JD1234", "浙JD12345"));
        // The tail of the last character is no further one.
        let tail = [&seven[..], &[&[('4', 0.4)][..], &[('4', 0.3)]]].concat();
        assert_eq!(texts(&tail, 2).len(), 1);
    }

    #[test]
    fn the_weakest_of_too_many_runs_goes() {
        let mut entries: Vec<&[(char, f32)]> = vec![&[('浙', 1.0)], &[('J', 1.0)]];
        for _ in 0..4 {
            entries.extend([&[('1', 0.99)][..], &[('2', 0.99)]]);
        }
        entries[4] = &[('D', 0.51)];
        let lattice = head().lattice(&steps(&entries).view()).unwrap();
        assert_eq!(lattice.positions().len(), 9);
        assert_eq!(lattice.top_texts(1)[0].0.as_str(), "浙J1221212".get(..).unwrap());
    }

    #[test]
    fn nothing_read_is_an_empty_lattice() {
        assert!(head().lattice(&steps(&[&[], &[]]).view()).unwrap().positions().is_empty());
        assert!(head().lattice(&Array2::zeros((0, 10)).view()).unwrap().positions().is_empty());
        let wrong = Array3::zeros((1, 4, 3));
        let outputs = Outputs(vec![("steps", wrong.view().into_dyn())]);
        assert!(head().decode(&outputs).is_err());
    }

    proptest! {
        #[test]
        fn any_numbers_make_a_lattice(values in prop::collection::vec(prop::num::f32::ANY, 10 * 20)) {
            let steps = Array2::from_shape_vec((20, 10), values).unwrap();
            prop_assert!(head().lattice(&steps.view()).is_ok());
        }

        #[test]
        fn the_best_path_is_the_best_text(order in prop::collection::vec(0usize..9, 6..9)) {
            // Well-parted certain characters come out as they went in.
            let classes: Vec<char> = CLASSES.chars().collect();
            let mut entries = Vec::new();
            let certain: Vec<[(char, f32); 1]> = order.iter().map(|i| [(classes[*i], 0.999)]).collect();
            for entry in &certain {
                entries.push(&entry[..]);
                entries.push(&[]);
            }
            let expected: String = order.iter().map(|i| classes[*i]).collect();
            prop_assert_eq!(&texts(&entries, 1)[0].0, &expected);
        }
    }
}
