//! Whether anything has changed in a camera's view: the test that is cheap enough for every frame.
//!
//! The picture is cut into cells of 16 x 16 pixels; each cell's mean brightness is held against a slow average of
//! itself. A cell has changed when it differs by more than its own usual deviation allows, so that swaying trees and
//! the pulse of keyframes teach their cells to be patient while an empty road stays alert. A vehicle of 30 pixels
//! changes a cell by ten levels and more; sensor noise averages out below one.
//!
//! Costs about 0.1 ms for a picture of 416 x 234. What it saves is the detector on every frame of an empty road.

use guiji_domain::{CaptureTime, Picture, PixelFormat, Timestamp, View};
use std::time::Duration;

/// When a view counts as changed.
#[derive(Debug, Clone, PartialEq)]
pub struct MotionSettings {
    /// A cell that differs by no more than this is quiet, whatever its past, levels of 255.
    pub difference_min: f32,
    /// A cell that differs by more than this has changed, whatever its past: on a busy road the vehicles themselves
    /// are a cell's usual deviation, and must not hide themselves.
    pub difference_max: f32,
    /// In between, a cell must differ by this many of its usual deviations.
    pub deviations: f32,
    /// Frames until the averages can be trusted; till then everything counts as changed.
    pub learning_frames: u32,
    /// A look is worth while at least this often: what stands or creeps must not be learnt away unseen.
    pub look_every: Duration,
    /// The same where whoever decoded the pictures found the view as usual, by a background of his own that learns by
    /// time and takes changes of light out: only to prove him right.
    pub prove_every: Duration,
}

/// Whether a picture is worth a detector's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Nothing has changed.
    Nothing,
    /// Nothing has changed, but none has been looked at for long.
    Proof,
    /// Something has changed.
    Changed,
}

impl Default for MotionSettings {
    fn default() -> Self {
        Self {
            difference_min: 4.0,
            difference_max: 8.0,
            deviations: 5.0,
            learning_frames: 8,
            look_every: Duration::from_secs(2),
            prove_every: Duration::from_secs(60),
        }
    }
}

/// The averages of one camera's view.
#[derive(Debug, Clone)]
pub struct MotionGate {
    settings: MotionSettings,
    size: (u32, u32),
    cells: Vec<Cell>,
    seen: u32,
    looked: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    mean: f32,
    deviation: f32,
}

/// Pixels a side of a cell.
const CELL: usize = 16;
/// Every so many pixels of a row and rows of a cell are looked at.
const STEP: usize = 2;
/// Share of a new value in the average of a quiet cell: a memory of some twenty frames.
const QUIET_SHARE: f32 = 0.05;
/// The same where it is known to be usual: there is nothing in it that could become road, and keyframes are seconds apart,
/// in which dawn goes on.
const USUAL_SHARE: f32 = 0.2;
/// The same while the cell differs: a vehicle must not become road before it has a track.
const CHANGED_SHARE: f32 = 0.004;
/// Share of a new difference in the usual deviation: a memory of some hundred frames.
const DEVIATION_SHARE: f32 = 0.01;

impl MotionGate {
    /// Nothing seen yet.
    pub fn new(settings: MotionSettings) -> Self {
        Self { settings, size: (0, 0), cells: Vec::new(), seen: 0, looked: None }
    }

    /// Takes the next picture of the view, and what is known of it already; whether it is worth a detector's time.
    /// Always, while learning and after a change of size, unless it is known to be as usual.
    pub fn look(&mut self, captured: CaptureTime, picture: &dyn Picture, known: View) -> Worth {
        let size = (picture.width(), picture.height());
        if size != self.size {
            let across = (size.0 as usize).div_ceil(CELL) * (size.1 as usize).div_ceil(CELL);
            (self.size, self.cells, self.seen) = (size, vec![Cell::default(); across], 0);
        }
        let learning = self.seen < self.settings.learning_frames;
        self.seen = self.seen.saturating_add(1);
        // While learning, the average is that of all frames so far.
        let share = match known {
            _ if learning => 1.0 / self.seen as f32,
            View::Usual => USUAL_SHARE,
            View::Unknown | View::Changed | View::Asked => QUIET_SHARE,
        };
        // What is known to be as usual is what is usual, be it darker than before.
        let trusted = learning || known == View::Usual;
        let mut changed = false;
        for (cell, mean) in self.cells.iter_mut().zip(cell_means(picture)) {
            changed |= cell.take(mean, share, trusted, &self.settings);
        }
        let (changed, every) = match known {
            View::Unknown | View::Changed => (learning || changed, self.settings.look_every),
            View::Usual => (false, self.settings.prove_every),
            View::Asked => (true, self.settings.look_every),
        };
        let due = self.looked.is_none_or(|at| captured.at < at || captured.at.since(at) >= every);
        let worth = match (changed, due) {
            (true, _) => Worth::Changed,
            (false, true) => Worth::Proof,
            (false, false) => Worth::Nothing,
        };
        if worth != Worth::Nothing {
            self.looked = Some(captured.at);
        }
        worth
    }
}

impl Cell {
    /// `trusted`: it is known to show what is usual.
    fn take(&mut self, mean: f32, share: f32, trusted: bool, settings: &MotionSettings) -> bool {
        let difference = (mean - self.mean).abs();
        let usual = (self.deviation * settings.deviations)
            .clamp(settings.difference_min, settings.difference_max);
        let changed = !trusted && difference > usual;
        self.mean += (mean - self.mean) * if changed { CHANGED_SHARE } else { share };
        if !trusted {
            // Clipped: one vehicle must not make a cell patient.
            self.deviation += (difference.min(usual) - self.deviation) * DEVIATION_SHARE;
        }
        changed
    }
}

/// Mean of the green samples (of the luma samples, for I420) of every cell, row by row.
fn cell_means(picture: &dyn Picture) -> impl Iterator<Item = f32> + '_ {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (step, first) = match picture.format() {
        PixelFormat::I420 => (1, 0),
        PixelFormat::Rgb | PixelFormat::Bgr => (3, 1),
    };
    let (plane, stride) = (picture.plane(0), picture.stride(0));
    (0..height).step_by(CELL).flat_map(move |top| {
        (0..width).step_by(CELL).map(move |left| {
            let (right, bottom) = ((left + CELL).min(width), (top + CELL).min(height));
            let (mut sum, mut count) = (0_u32, 0_u32);
            for y in (top..bottom).step_by(STEP) {
                let row = &plane[y * stride..];
                for x in (left..right).step_by(STEP) {
                    sum += u32::from(row[x * step + first]);
                    count += 1;
                }
            }
            sum as f32 / count as f32
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::{ClockSource, OwnedPicture};

    fn at(millis: i64) -> CaptureTime {
        CaptureTime {
            at: Timestamp::from_millis(millis),
            uncertainty: Duration::ZERO,
            source: ClockSource::Stated,
        }
    }

    /// A noisy grey road, with a square of another grey.
    fn picture(seed: u32, square: Option<(usize, usize, u8)>) -> OwnedPicture {
        let (width, height) = (208, 117);
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut pixels = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (state >> 28) as u8; // 0 to 15
                let inside = |(sx, sy, _): (usize, usize, u8)| {
                    (sx..sx + 24).contains(&x) && (sy..sy + 18).contains(&y)
                };
                let ground = square.filter(|s| inside(*s)).map_or(90, |(.., grey)| grey);
                pixels.extend([ground + noise; 3]);
            }
        }
        OwnedPicture::rgb(width as u32, height as u32, pixels).unwrap()
    }

    fn taught() -> MotionGate {
        let mut gate = MotionGate::new(MotionSettings::default());
        for i in 0..50 {
            look(&mut gate, i * 100, &picture(i as u32, None));
        }
        gate
    }

    fn look(gate: &mut MotionGate, millis: i64, picture: &OwnedPicture) -> bool {
        gate.look(at(millis), picture, View::Unknown) != Worth::Nothing
    }

    #[test]
    fn noise_is_quiet_but_for_the_regular_look() {
        let mut gate = taught();
        let looks =
            (50..250).filter(|i| look(&mut gate, i * 100, &picture(*i as u32, None))).count();
        assert!((9..=11).contains(&looks), "{looks} looks in 20 seconds, one due every 2");
    }

    #[test]
    fn a_view_known_to_be_as_usual_is_only_proven() {
        let mut gate = taught();
        // A keyframe every two seconds; clouds that the decoder's background takes out.
        let mut worth = |known: View| {
            let keyframe = |i: i64| {
                let cloudy = picture(i as u32, Some((0, 0, if i % 9 < 4 { 90 } else { 120 })));
                gate.look(at(10_000 + i * 2000), &cloudy, known)
            };
            (0..300).map(keyframe).collect::<Vec<_>>()
        };
        let usual = worth(View::Usual);
        assert!(!usual.contains(&Worth::Changed));
        let proofs = usual.iter().filter(|it| **it == Worth::Proof).count();
        assert!((9..=11).contains(&proofs), "{proofs} in ten minutes");
        assert_eq!(worth(View::Asked), [Worth::Changed; 300]);
    }

    #[test]
    fn dawn_between_two_vehicles_is_no_change_for_the_second() {
        let mut gate = taught();
        let brighter = |i: i64, by: i64| picture(i as u32, Some((0, 0, 90 + by as u8)));
        for i in 0..100 {
            gate.look(at(10_000 + i * 2000), &brighter(i, i / 5), View::Usual);
        }
        // Awake, and the vehicle is not in view yet.
        let worth = |i: i64| gate.look(at(210_000 + i * 100), &brighter(i, 20), View::Changed);
        assert!((0..10).map(worth).all(|it| it != Worth::Changed));
    }

    #[test]
    fn a_small_vehicle_is_a_change_bright_or_dark() {
        for grey in [60, 105, 200] {
            for (x, y) in [(0, 0), (8, 8), (100, 50), (184, 99)] {
                let mut gate = taught();
                look(&mut gate, 5000, &picture(1, None)); // the regular look is not due next
                assert!(
                    look(&mut gate, 5100, &picture(2, Some((x, y, grey)))),
                    "{grey} at {x},{y}"
                );
            }
        }
    }

    #[test]
    fn a_vehicle_that_waits_stays_a_change_until_it_has_a_track() {
        let mut gate = taught();
        let waiting = |i: i64| picture(i as u32, Some((80, 40, 160)));
        let noticed = (0..100).filter(|i| look(&mut gate, 5000 + i * 100, &waiting(*i))).count();
        assert_eq!(noticed, 100);
    }

    #[test]
    fn a_swaying_tree_teaches_its_cells_patience() {
        let mut gate = taught();
        let tree = |i: i64| {
            let grey = if i % 2 == 0 { 92 } else { 102 };
            picture(i as u32, Some((150, 10, grey)))
        };
        for i in 0..1200 {
            look(&mut gate, 5000 + i * 100, &tree(i));
        }
        let looks = (1200..1400).filter(|i| look(&mut gate, 5000 + i * 100, &tree(*i))).count();
        assert!(looks < 40, "{looks} of 200");
    }

    #[test]
    fn another_size_is_learnt_anew() {
        let mut gate = taught();
        let small = OwnedPicture::rgb(7, 5, vec![0; 105]).unwrap();
        assert!((0..8).all(|i| look(&mut gate, 5000 + i, &small)));
    }
}
