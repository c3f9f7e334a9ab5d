//! From outcomes to figures. Every rate is a share of the photos that count, 0 to 1.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::route::Cost;

/// Bins of the reliability table, equally wide.
const BINS: usize = 10;
/// Share of the answers that [`Kept`] keeps.
const KEPT_SHARE: f64 = 0.9;
/// Overlap from which on a plate counts as found.
const FOUND_IOU: f32 = 0.5;
/// Characters from the end that stand for the plate without its province.
const LAST: usize = 6;

/// What came of one photo, beside the truth.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// File name.
    pub(super) photo: String,
    /// Text of the first plate.
    pub(super) expected: String,
    /// Its colour; empty when not asked for.
    pub(super) colour: String,
    /// Its rows; empty when not asked for.
    pub(super) rows: String,
    /// Its width, pixels.
    pub(super) width: f32,
    /// Mean luma of the photo around the plate, 0 to 255.
    pub(super) luma: f32,
    /// The plate that overlaps the label best, if any does at all.
    pub(super) answer: Option<Answer>,
    /// Text of the most conspicuous plate, chosen without the label; `None`: unreadable or no plate.
    pub(super) best_scored: Option<String>,
    /// Whether any plate was read as expected.
    pub(super) any_exact: bool,
    /// Vehicles detected.
    pub(super) vehicles: usize,
    /// Whether the whole photo was searched.
    pub(super) searched_whole: bool,
    /// Processor time.
    pub(super) cost: Cost,
}

/// A found plate, held against the label.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Overlap with the label, 0 to 1.
    pub(super) iou: f32,
    /// The text; `None`: unreadable.
    pub(super) text: Option<String>,
    /// Probability that the text is right, as the product says it.
    pub(super) confidence: f32,
    /// The likeliest texts of the stored lattice, best first, at most 5.
    pub(super) likeliest: Vec<String>,
    /// Word of the colour that the models say.
    pub(super) colour: Option<String>,
    /// Rows that the models say, `1` or `2`.
    pub(super) rows: &'static str,
}

impl Outcome {
    /// The text at the label.
    pub(super) fn read(&self) -> Option<&str> {
        self.answer.as_ref()?.text.as_deref()
    }

    /// Whether the text at the label is right.
    pub(super) fn exact(&self) -> bool {
        self.read() == Some(&self.expected)
    }

    /// Whether the plate was found.
    pub(super) fn found(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.iou >= FOUND_IOU)
    }

    fn in_likeliest(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.likeliest.contains(&self.expected))
    }
}

/// The figures of a group of photos.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Photos that count.
    pub(super) photos: usize,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) reading: Option<Reading>,
    /// First plates found with IoU of at least 0.5.
    pub(super) detector_recall: f64,
    /// Median process CPU from decoded pixels to answer, milliseconds.
    pub(super) cpu_ms_per_photo: f64,
}

/// What a group's texts are worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Reading {
    pub(super) first_plate_exact: f64,
    /// Wilson's 95 % interval of `first_plate_exact`.
    pub(super) first_plate_exact_interval: [f64; 2],
    pub(super) best_scored_exact: f64,
    pub(super) any_plate_exact: f64,
    pub(super) province_exact: f64,
    pub(super) last6_exact: f64,
    pub(super) top5_recall: f64,
    /// Photos with a text at the label, right or wrong.
    pub(super) answered: f64,
    pub(super) colour_exact: f64,
    pub(super) rows_exact: f64,
    /// Expected calibration error over the answers; null without any.
    pub(super) ece: Option<f64>,
}

/// What is measured of the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Texts and boxes.
    Reading,
    /// Boxes alone.
    Detection,
}

impl Figures {
    /// The figures of these photos; `None` of none.
    pub(super) fn of<'o>(
        outcomes: impl IntoIterator<Item = &'o Outcome>,
        scope: Scope,
    ) -> Option<Self> {
        let outcomes: Vec<_> = outcomes.into_iter().collect();
        if outcomes.is_empty() {
            return None;
        }
        let milliseconds = |o: &&Outcome| o.cost.total().as_secs_f64() * 1e3;
        Some(Self {
            photos: outcomes.len(),
            reading: (scope == Scope::Reading).then(|| Reading::of(&outcomes)),
            detector_recall: share(&outcomes, Outcome::found),
            cpu_ms_per_photo: rounded(median(outcomes.iter().map(milliseconds).collect()), 2),
        })
    }
}

impl Reading {
    fn of(outcomes: &[&Outcome]) -> Self {
        let exact = outcomes.iter().filter(|o| o.exact()).count();
        let answer_is = |test: fn(&Answer, &Outcome) -> bool| {
            share(outcomes, |o| o.answer.as_ref().is_some_and(|answer| test(answer, o)))
        };
        let read_is = |test: fn(&str, &str) -> bool| {
            share(outcomes, |o| o.read().is_some_and(|read| test(read, &o.expected)))
        };
        Self {
            first_plate_exact: share(outcomes, Outcome::exact),
            first_plate_exact_interval: wilson(exact, outcomes.len()),
            best_scored_exact: share(outcomes, |o| o.best_scored.as_ref() == Some(&o.expected)),
            any_plate_exact: share(outcomes, |o| o.any_exact),
            province_exact: read_is(|read, expected| {
                read.chars().next() == expected.chars().next()
            }),
            last6_exact: read_is(|read, expected| last(read) == last(expected)),
            top5_recall: share(outcomes, Outcome::in_likeliest),
            answered: share(outcomes, |o| o.read().is_some()),
            colour_exact: answer_is(|answer, o| answer.colour.as_deref() == Some(&o.colour)),
            rows_exact: answer_is(|answer, o| answer.rows == o.rows),
            ece: calibration_error(&reliability(&answers(outcomes.iter().copied()))),
        }
    }
}

/// The confidence of each answer, and whether it was right.
pub(super) fn answers<'o>(outcomes: impl IntoIterator<Item = &'o Outcome>) -> Vec<(f32, bool)> {
    let answered = outcomes.into_iter().filter(|o| o.read().is_some());
    answered.filter_map(|o| Some((o.answer.as_ref()?.confidence, o.exact()))).collect()
}

/// Answers of similar confidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Bin {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) answers: usize,
    pub(super) mean_confidence: f64,
    pub(super) exact: f64,
}

/// The reliability table; empty bins are left out.
pub(super) fn reliability(answers: &[(f32, bool)]) -> Vec<Bin> {
    let bin_of =
        |confidence: f32| ((f64::from(confidence) * BINS as f64).max(0.0) as usize).min(BINS - 1);
    (0..BINS)
        .filter_map(|index| {
            let inside: Vec<_> = answers.iter().filter(|(c, _)| bin_of(*c) == index).collect();
            let n = inside.len();
            let edge = |i: usize| rounded(i as f64 / BINS as f64, 4);
            (n > 0).then(|| Bin {
                from: edge(index),
                to: edge(index + 1),
                answers: n,
                mean_confidence: inside.iter().map(|(c, _)| f64::from(*c)).sum::<f64>() / n as f64,
                exact: inside.iter().filter(|(_, exact)| *exact).count() as f64 / n as f64,
            })
        })
        .collect()
}

/// Mean distance between confidence and accuracy of the bins, weighted by their answers (Naeini 2015).
pub(super) fn calibration_error(bins: &[Bin]) -> Option<f64> {
    let answers: usize = bins.iter().map(|bin| bin.answers).sum();
    let gap = |bin: &Bin| bin.answers as f64 * (bin.exact - bin.mean_confidence).abs();
    (answers > 0).then(|| rounded(bins.iter().map(gap).sum::<f64>() / answers as f64, 4))
}

/// What a user gets who believes only the surest answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Kept {
    /// Share of the answers that are kept: 0.9.
    pub(super) share: f64,
    /// The least confidence kept.
    pub(super) confidence_min: f64,
    /// Answers kept.
    pub(super) answers: usize,
    /// Of these, right.
    pub(super) exact: f64,
    /// Wilson's 95 % interval of `exact`.
    pub(super) exact_interval: [f64; 2],
}

/// The surest nine of ten answers; `None` without answers.
pub(super) fn kept(mut answers: Vec<(f32, bool)>) -> Option<Kept> {
    answers.sort_by(|a, b| b.0.total_cmp(&a.0));
    answers.truncate((answers.len() as f64 * KEPT_SHARE).ceil() as usize);
    let exact = answers.iter().filter(|(_, exact)| *exact).count();
    let (least, _) = answers.last()?;
    Some(Kept {
        share: KEPT_SHARE,
        confidence_min: rounded(f64::from(*least), 4),
        answers: answers.len(),
        exact: rounded(exact as f64 / answers.len() as f64, 4),
        exact_interval: wilson(exact, answers.len()),
    })
}

/// How often a position is right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PositionScore {
    /// From 1, the province's.
    pub(super) position: usize,
    /// Plates that have it.
    pub(super) plates: usize,
    pub(super) exact: f64,
}

/// Scores position by position from the left; a plate without an answer is wrong in all of its positions.
pub(super) fn positions<'o>(outcomes: impl IntoIterator<Item = &'o Outcome>) -> Vec<PositionScore> {
    let mut counts: Vec<(usize, usize)> = Vec::new();
    for outcome in outcomes {
        let mut read = outcome.read().unwrap_or_default().chars();
        for (index, expected) in outcome.expected.chars().enumerate() {
            if counts.len() <= index {
                counts.push((0, 0));
            }
            counts[index].0 += 1;
            counts[index].1 += usize::from(read.next() == Some(expected));
        }
    }
    let score = |(index, (plates, right)): (usize, (usize, usize))| PositionScore {
        position: index + 1,
        plates,
        exact: rounded(right as f64 / plates as f64, 4),
    };
    counts.into_iter().enumerate().map(score).collect()
}

/// One character taken for another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Confusion {
    pub(super) expected: char,
    pub(super) read: char,
    pub(super) count: usize,
}

/// Confusions in texts of the right length, most frequent first.
pub(super) fn confusions<'o>(outcomes: impl IntoIterator<Item = &'o Outcome>) -> Vec<Confusion> {
    let mut counts: BTreeMap<(char, char), usize> = BTreeMap::new();
    for outcome in outcomes {
        let Some(read) = outcome.read() else { continue };
        if read.chars().count() != outcome.expected.chars().count() {
            continue;
        }
        let pairs = outcome.expected.chars().zip(read.chars());
        for pair in pairs.filter(|(expected, read)| expected != read) {
            *counts.entry(pair).or_default() += 1;
        }
    }
    let mut confusions: Vec<_> = counts
        .into_iter()
        .map(|((expected, read), count)| Confusion { expected, read, count })
        .collect();
    confusions.sort_by_key(|confusion| Reverse(confusion.count));
    confusions
}

/// Milliseconds of processor time a stage, median over photos.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Stages {
    pub(super) detect_vehicles: f64,
    pub(super) read_plates: f64,
    pub(super) decode_text: f64,
    /// 95 % of the photos cost at most this.
    pub(super) total_p95: f64,
}

/// What the stages cost.
pub(super) fn stages(outcomes: &[Outcome]) -> Stages {
    let of = |get: fn(&Cost) -> std::time::Duration| -> Vec<f64> {
        outcomes.iter().map(|o| get(&o.cost).as_secs_f64() * 1e3).collect()
    };
    let mut total = of(Cost::total);
    total.sort_by(f64::total_cmp);
    let p95 = total.get((total.len() * 95).div_ceil(100).saturating_sub(1));
    Stages {
        detect_vehicles: rounded(median(of(|c| c.detect)), 2),
        read_plates: rounded(median(of(|c| c.read)), 2),
        decode_text: rounded(median(of(|c| c.decode)), 2),
        total_p95: rounded(p95.copied().unwrap_or(0.0), 2),
    }
}

/// The last characters of a text; all of a shorter one.
fn last(text: &str) -> Vec<char> {
    let skipped = text.chars().count().saturating_sub(LAST);
    text.chars().skip(skipped).collect()
}

fn share(outcomes: &[&Outcome], test: impl Fn(&Outcome) -> bool) -> f64 {
    let holds = outcomes.iter().filter(|o| test(o)).count();
    rounded(holds as f64 / outcomes.len().max(1) as f64, 4)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

/// Wilson's score interval for a share, 95 % (z = 1.96).
fn wilson(holds: usize, of: usize) -> [f64; 2] {
    if of == 0 {
        return [0.0, 1.0];
    }
    const Z: f64 = 1.959_964;
    let (n, p) = (of as f64, holds as f64 / of as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    [rounded((centre - half).max(0.0), 4), rounded((centre + half).min(1.0), 4)]
}

/// To this many digits after the point: what follows is noise.
pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    pub(in super::super) fn outcome(
        expected: &str,
        read: Option<&str>,
        confidence: f32,
    ) -> Outcome {
        Outcome {
            photo: "a.jpg".into(),
            expected: expected.into(),
            colour: "blue".into(),
            rows: "1".into(),
            width: 100.0,
            luma: 120.0,
            answer: Some(Answer {
                iou: 0.8,
                text: read.map(str::to_owned),
                confidence,
                likeliest: read.map(str::to_owned).into_iter().collect(),
                colour: Some("blue".into()),
                rows: "1",
            }),
            best_scored: read.map(str::to_owned),
            any_exact: read == Some(expected),
            vehicles: 1,
            searched_whole: false,
            cost: Cost { detect: Duration::from_millis(10), ..Cost::default() },
        }
    }

    fn figures(outcomes: &[Outcome]) -> (Figures, Reading) {
        let figures = Figures::of(outcomes, Scope::Reading).unwrap();
        (figures.clone(), figures.reading.unwrap())
    }

    #[test]
    fn figures_count_what_they_say() {
        let mut lost = outcome("浙J12345", None, 0.0);
        lost.answer = None;
        let mut askew = outcome("浙J12345", Some("浙J12345"), 0.9);
        askew.answer.as_mut().unwrap().iou = 0.4;
        let mut second = outcome("浙J12345", Some("皖J12345"), 0.6);
        second.answer.as_mut().unwrap().likeliest.push("浙J12345".into());
        let (figures, reading) =
            figures(&[outcome("浙J12345", Some("浙J12346"), 0.9), lost, askew, second]);
        assert_eq!((figures.photos, figures.detector_recall), (4, 0.5));
        assert_eq!(reading.first_plate_exact, 0.25);
        assert_eq!(reading.province_exact, 0.5);
        assert_eq!(reading.last6_exact, 0.5);
        assert_eq!(reading.top5_recall, 0.5);
        assert_eq!((reading.answered, reading.rows_exact), (0.75, 0.75));
        assert_eq!(Figures::of(&[], Scope::Reading), None);
    }

    #[test]
    fn an_unreadable_plate_is_found_but_not_answered() {
        let (figures, reading) = figures(&[outcome("浙J12345", None, 0.0)]);
        assert_eq!((figures.detector_recall, reading.answered), (1.0, 0.0));
        assert_eq!(reading.ece, None);
    }

    #[test]
    fn detection_alone_says_nothing_of_texts() {
        let figures = Figures::of(&[outcome("M5XSX", None, 0.0)], Scope::Detection).unwrap();
        let json = serde_json::to_value(figures).unwrap();
        assert!(json.get("first_plate_exact").is_none() && json["detector_recall"] == 1.0);
    }

    #[test]
    fn the_interface_has_its_names() {
        let json = serde_json::to_value(figures(&[outcome("浙J12345", Some("浙J12345"), 0.9)]).0);
        let json = json.unwrap();
        for name in [
            "photos",
            "first_plate_exact",
            "province_exact",
            "last6_exact",
            "top5_recall",
            "ece",
            "detector_recall",
            "cpu_ms_per_photo",
        ] {
            assert!(json[name].is_number(), "{name} is missing: {json}");
        }
    }

    #[test]
    fn calibration_error_is_the_weighted_gap() {
        // Four answers at 0.85, half of them right, and one at 1.0, right: (4 · 0.35 + 0) / 5.
        let answers = [(0.85, true), (0.85, false), (0.85, true), (0.85, false), (1.0, true)];
        let bins = reliability(&answers);
        assert_eq!(
            bins.iter().map(|b| (b.from, b.answers)).collect::<Vec<_>>(),
            [(0.8, 4), (0.9, 1)]
        );
        assert_eq!(calibration_error(&bins), Some(0.28));
        assert_eq!(calibration_error(&reliability(&[])), None);
    }

    #[test]
    fn the_surest_are_kept() {
        let answers: Vec<_> = (0..20).map(|i| (i as f32 / 20.0, i != 1)).collect();
        let kept = kept(answers).unwrap();
        assert_eq!((kept.answers, kept.exact, kept.confidence_min), (18, 1.0, 0.1));
        assert!(super::kept(Vec::new()).is_none());
    }

    #[test]
    fn positions_are_scored_from_the_left() {
        let outcomes = [
            outcome("浙J12345", Some("浙J12346"), 0.9),
            outcome("浙JD12345", Some("皖JD1234"), 0.9),
            outcome("浙J12345", None, 0.0),
        ];
        let scores: Vec<_> = positions(&outcomes).iter().map(|s| (s.plates, s.exact)).collect();
        assert_eq!(scores.len(), 8);
        assert_eq!((scores[0], scores[6], scores[7]), ((3, 0.3333), (3, 0.3333), (1, 0.0)));
        assert_eq!(scores[1], (3, 0.6667));
    }

    #[test]
    fn confusions_are_of_equal_length_and_most_frequent_first() {
        let outcomes = [
            outcome("浙J0000D", Some("浙JDD00D"), 0.9),
            outcome("皖J00000", Some("浙J00000"), 0.9),
            outcome("皖J00000", Some("浙J0000"), 0.9),
        ];
        let found: Vec<_> =
            confusions(&outcomes).iter().map(|c| (c.expected, c.read, c.count)).collect();
        assert_eq!(found, [('0', 'D', 2), ('皖', '浙', 1)]);
    }

    #[test]
    fn small_statistics() {
        assert_eq!(
            (median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0]), median(vec![])),
            (2.0, 2.5, 0.0)
        );
        // 81 of 263: a textbook value of Wilson's interval.
        assert_eq!(wilson(81, 263), [0.2553, 0.3662]);
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
        assert_eq!(last("浙J12345"), last("皖J12345"));
        assert_eq!(last("浙JD12345").iter().collect::<String>(), "D12345");
    }
}
