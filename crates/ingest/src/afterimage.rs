use std::time::Duration;

use guiji_domain::{Picture, PixelFormat};

use crate::glance::{ACROSS, DOWN, Glance, STEP, largest_group};

/// What is known of a camera's view.
#[derive(Debug, Default)]
pub(crate) struct Views {
    whole: Glance,
    afterimage: Afterimage,
}

impl Views {
    /// The stream broke off: time begins anew.
    pub(crate) fn interrupted(&mut self) {
        self.whole.interrupted();
        self.afterimage.samples.clear();
    }

    /// Takes a picture with all that it refers to. True when it differs from what is usual, and for the first of its size.
    pub(crate) fn whole(&mut self, at: Duration, picture: &dyn Picture) -> bool {
        self.afterimage.keep(picture);
        self.whole.look(at, picture)
    }

    /// Takes a picture of some time ago, behind which others are to be decoded.
    pub(crate) fn base(&mut self, picture: &dyn Picture) {
        self.afterimage.keep(picture);
    }

    /// Takes one that was decoded behind the picture that came last, which it does not refer to. True when it differs from
    /// that as such pictures usually do not.
    pub(crate) fn glimpse(&mut self, picture: &dyn Picture) -> bool {
        self.afterimage.differs(picture)
    }
}

/// The picture behind which the next glimpse is decoded, and how much glimpses usually differ from what came before them,
/// cell by cell as [`Glance`] has them.
///
/// A vehicle moves what lies around it to places where it does not belong: little in the mean of a cell, much pixel by
/// pixel. Noise adds up too, but everywhere, and where it is stronger (leaves, water) that is learnt.
#[derive(Debug, Default)]
struct Afterimage {
    size: (u32, u32),
    /// Every [`STEP`]th pixel of every so manyth row, luma.
    samples: Vec<u8>,
    /// The usual mean absolute difference, levels of 255; empty before the first.
    usual: Vec<f32>,
    glimpses: u32,
    before: Vec<u8>,
}

/// A cell differs when it does so by as many times what is usual, and as many levels more.
const TIMES_USUAL: f32 = 3.0;
const LEVELS_MORE: f32 = 1.5;
/// So many such cells, side by side or one upon the other, are a change. On 12 clips the largest group without a vehicle
/// was 8 (18 in one where trees sway, while that was learnt), and with one that covers a fiftieth of the picture, 44.
const CELLS_MIN: usize = 12;
/// What is usual is the mean of so many glimpses, older ones fading.
const MEMORY: f32 = 30.0;

impl Afterimage {
    fn keep(&mut self, picture: &dyn Picture) {
        if picture.format() != PixelFormat::I420 {
            self.samples.clear();
            return; // the decoders give nothing else
        }
        let size = (picture.width(), picture.height());
        if self.size != size {
            (self.size, self.glimpses) = (size, 0);
            self.usual.clear();
        }
        let across = (size.0 as usize).div_ceil(STEP);
        let (luma, stride) = (picture.plane(0), picture.stride(0));
        self.samples.resize(across * (size.1 as usize).div_ceil(STEP), 0);
        let rows = self.samples.chunks_exact_mut(across).zip(luma.chunks(stride * STEP));
        for (samples, row) in rows {
            // By index: chains of adapters cost several times as much where they are not inlined.
            for (x, sample) in samples.iter_mut().enumerate() {
                *sample = row[x * STEP];
            }
        }
    }

    fn differs(&mut self, picture: &dyn Picture) -> bool {
        let mut before = std::mem::take(&mut self.before);
        std::mem::swap(&mut before, &mut self.samples);
        self.keep(picture);
        let comparable = before.len() == self.samples.len() && !before.is_empty();
        let differences = comparable.then(|| self.differences(&before));
        self.before = before;
        differences.is_some_and(|it| self.judge(&it))
    }

    /// The mean absolute difference of each cell.
    fn differences(&self, before: &[u8]) -> Vec<f32> {
        let across = (self.size.0 as usize).div_ceil(STEP);
        let down = self.samples.len() / across;
        let mut sums = vec![(0u32, 0u32); ACROSS * DOWN];
        let rows = self.samples.chunks_exact(across).zip(before.chunks_exact(across));
        for (y, (row, row_before)) in rows.enumerate() {
            let cells = &mut sums[y * DOWN / down * ACROSS..][..ACROSS];
            for (column, (sum, count)) in cells.iter_mut().enumerate() {
                let columns = column * across / ACROSS..(column + 1) * across / ACROSS;
                *count += columns.len() as u32;
                for x in columns {
                    *sum += u32::from(row[x].abs_diff(row_before[x]));
                }
            }
        }
        sums.into_iter().map(|(sum, count)| sum as f32 / count.max(1) as f32).collect()
    }

    fn judge(&mut self, differences: &[f32]) -> bool {
        let first = self.usual.is_empty();
        if first {
            self.usual = differences.to_vec();
        }
        // What all differ by is noise, or light.
        let mut shifts: Vec<f32> =
            differences.iter().zip(&self.usual).map(|(it, usual)| it - usual).collect();
        let middle = shifts.len() / 2;
        let shift = *shifts.select_nth_unstable_by(middle, f32::total_cmp).1;
        self.glimpses = self.glimpses.saturating_add(1);
        let share = 1.0 / MEMORY.min(self.glimpses as f32);
        let mut changed = Vec::with_capacity(differences.len());
        for (difference, usual) in differences.iter().zip(&mut self.usual) {
            let limit = TIMES_USUAL * *usual + LEVELS_MORE;
            changed.push(difference - shift > limit);
            // A vehicle is not what is usual.
            *usual += (difference.min(limit) - *usual) * share;
        }
        largest_group(&changed) >= CELLS_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::OwnedPicture;

    const WIDTH: usize = 640;
    const HEIGHT: usize = 360;

    /// A textured road with noise of so many levels, stronger in its upper left quarter, and a square of other texture.
    fn road(seed: u32, noise: u32, square: Option<(usize, usize)>) -> OwnedPicture {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut luma = Vec::with_capacity(WIDTH * HEIGHT);
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let leaves = if x < WIDTH / 2 && y < HEIGHT / 2 { 8 } else { 1 };
                let shake = (state >> 16) % (noise * leaves + 1);
                let moved = square.is_some_and(|(left, top)| {
                    (left..left + 60).contains(&x) && (top..top + 60).contains(&y)
                });
                // Both have the same mean.
                let texture = ((x + if moved { 3 } else { 0 }) / 3 % 2 * 40) as u32;
                luma.push((80 + texture + shake) as u8);
            }
        }
        let chroma = vec![128; WIDTH * HEIGHT / 4];
        let planes = vec![luma, chroma.clone(), chroma];
        OwnedPicture::new(PixelFormat::I420, WIDTH as u32, HEIGHT as u32, planes).unwrap()
    }

    fn at(n: u32) -> Duration {
        Duration::from_secs(n.into())
    }

    #[test]
    fn what_is_moved_differs_even_where_its_mean_does_not_and_noise_does_not() {
        for noise in [0, 2, 10] {
            let mut views = Views::default();
            for n in 0..30 {
                views.whole(at(n), &road(2 * n, noise, None));
                assert!(!views.glimpse(&road(2 * n + 1, noise, None)), "noise {noise}, {n}");
            }
            views.whole(at(31), &road(70, noise, None));
            assert!(views.glimpse(&road(71, noise, Some((400, 250)))), "noise {noise}");
            assert!(views.glimpse(&road(72, noise, None)), "it is gone again");
            assert!(!views.glimpse(&road(73, noise, None)));
        }
    }

    #[test]
    fn without_a_picture_before_it_a_glimpse_says_nothing() {
        let mut views = Views::default();
        assert!(!views.glimpse(&road(0, 2, None)));
        views.interrupted();
        assert!(!views.glimpse(&road(1, 2, Some((400, 250)))));
        let planes = vec![vec![90; 16 * 8], vec![128; 32], vec![128; 32]];
        let small = OwnedPicture::new(PixelFormat::I420, 16, 8, planes).unwrap();
        assert!(!views.glimpse(&small));
    }
}
