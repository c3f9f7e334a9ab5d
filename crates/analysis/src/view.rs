//! Whether a camera that delivers pictures can see anything in them: the watchdog of the view.
//!
//! A picture a second is looked at, on a grid of cells of 8 x 8 pixels and a few thousand pixels in between:
//!
//! | fault | measure |
//! |---|---|
//! | [`ViewFault::Black`] | dark, and no two parts differ: not even sensor noise is left |
//! | [`ViewFault::Covered`] | bright or dark, the cells hardly differ: something hangs before the lens, fog, glare |
//! | [`ViewFault::Frozen`] | not one of some thousand pixels changed: a sensor has noise, a frozen picture has none |
//! | [`ViewFault::Blurred`] | near pixels differ hardly more than a ramp between distant ones would make them |
//! | [`ViewFault::Moved`] | the view learnt so far is found again at another place of the picture, and better than at its own |
//!
//! A fault counts when it was there without a break for its time, and is over when it was absent for
//! [`ViewSettings::clear_after`]. The measures err on the side of silence: night, rain and an empty road are no faults.
//! What it cannot tell: a camera turned so far that nothing of the old view is left looks like a new, healthy view.
//!
//! A look is one pass over half the rows and a sort of a few thousand pixels.

use std::time::Duration;

use guiji_domain::{Picture, PixelFormat, Timestamp};

/// Why a picture is of little or no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViewFault {
    /// Nothing but black.
    Black,
    /// Nothing but one shade: covered, fogged in, washed out.
    Covered,
    /// The same picture again and again.
    Frozen,
    /// Out of focus, or dirty.
    Blurred,
    /// Turned since its view was learnt.
    Moved,
}

impl ViewFault {
    /// Whether nothing at all can be seen; else what is seen is worse than it should be.
    pub fn is_blind(self) -> bool {
        matches!(self, Self::Black | Self::Covered | Self::Frozen)
    }
}

/// When a view counts as faulty.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewSettings {
    /// Pictures that come earlier after the last one than this are passed over.
    pub every: Duration,
    /// How long a fault is there before it counts; a frozen picture twice as long.
    pub hold: Duration,
    /// How long it is absent before it is over.
    pub clear_after: Duration,
    /// Looks until the view is known well enough to say that it moved.
    pub learning_looks: u32,
}

impl Default for ViewSettings {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            hold: Duration::from_secs(30),
            clear_after: Duration::from_secs(5),
            learning_looks: 60,
        }
    }
}

/// Pixels a side of a cell.
const CELL: usize = 8;
/// Brightness up to which a picture without differences is black, levels of 255.
const BLACK_MEAN: f32 = 40.0;
/// Difference of the 1st and 99th percentile of its pixels.
const BLACK_SPREAD: u8 = 6;
/// Difference of the 5th and 95th percentile of the cells, levels, up to which a view is one shade.
const COVERED_SPREAD: f32 = 10.0;
/// Differences of pixel pairs 2 apart over those of pairs 8 apart. A ramp has 0.25; painted road scenes have 0.6 in
/// focus, 0.35 with a blur of two pixels' radius and 0.28 with four. Noise hides blur: at night it may not be told.
const BLURRED_RATIO: f32 = 0.32;
/// Differences of pairs 8 apart, levels, below which focus cannot be judged.
const BLURRED_CONTRAST: f32 = 3.0;
/// Correlation with the learnt view from which on it is in its place: a mast shaken by a few pixels keeps 0.98. A turned
/// camera may keep much, since there is sky above and ground below wherever it looks: a painted road scene shifted by a
/// tenth of its height and a sixth of its width keeps 0.73.
const PLACE_KEPT: f32 = 0.95;
/// Correlation at another place from which on it may be there.
const PLACE_FOUND: f32 = 0.8;
/// Of what the view's own place leaves unexplained, the most that the other place may.
const PLACE_BETTER: f32 = 1.0 / 3.0;
/// Share of a new look in the learnt view: a memory of some four minutes.
const LEARNING_SHARE: f32 = 1.0 / 240.0;

/// The watchdog of one camera's view.
#[derive(Debug, Clone)]
pub struct ViewWatch {
    settings: ViewSettings,
    size: (u32, u32),
    learnt: Grid,
    looks: u32,
    pixels: Vec<u8>,
    looked: Option<Timestamp>,
    /// What the last look showed, and since when.
    shown: Option<(Option<ViewFault>, Timestamp)>,
    fault: Option<ViewFault>,
}

/// Mean brightness of cells, row by row.
#[derive(Debug, Clone, Default, PartialEq)]
struct Grid {
    across: usize,
    cells: Vec<f32>,
}

/// What one picture measures.
#[derive(Debug)]
struct Measures {
    grid: Grid,
    pixels: Vec<u8>,
    /// Mean difference of the means of two neighbours: 2 apart, and 8 apart.
    near: f32,
    far: f32,
}

impl ViewWatch {
    /// Nothing seen yet.
    pub fn new(settings: ViewSettings) -> Self {
        Self {
            settings,
            size: (0, 0),
            learnt: Grid::default(),
            looks: 0,
            pixels: Vec::new(),
            looked: None,
            shown: None,
            fault: None,
        }
    }

    /// The stream broke off: what comes next may be another picture, and the time between was not looked at.
    pub fn interrupted(&mut self) {
        self.pixels.clear();
        (self.looked, self.shown, self.fault) = (None, None, None);
    }

    /// Takes a picture; the fault that counts now.
    pub fn look(&mut self, at: Timestamp, picture: &dyn Picture) -> Option<ViewFault> {
        let early = |last| at >= last && at.since(last) < self.settings.every;
        if self.looked.is_some_and(early) {
            return self.fault;
        }
        self.looked = Some(at);
        let size = (picture.width(), picture.height());
        if size != self.size {
            (self.size, self.looks) = (size, 0);
            self.pixels.clear();
        }
        let Some(measures) = measure(picture) else { return self.fault };
        let shown = self.judge(&measures);
        self.pixels = measures.pixels;
        self.count(at, shown);
        self.fault
    }

    fn judge(&mut self, new: &Measures) -> Option<ViewFault> {
        let mut sorted = new.pixels.clone();
        sorted.sort_unstable();
        let mean = new.grid.cells.iter().sum::<f32>() / new.grid.cells.len() as f32;
        let (low, high) = (percentile(&sorted, 0.01), percentile(&sorted, 0.99));
        if mean <= BLACK_MEAN && high - low <= BLACK_SPREAD {
            return Some(ViewFault::Black);
        }
        let mut cells = new.grid.cells.clone();
        cells.sort_by(f32::total_cmp);
        if percentile(&cells, 0.95) - percentile(&cells, 0.05) <= COVERED_SPREAD
            && mean > BLACK_MEAN
        {
            return Some(ViewFault::Covered);
        }
        if new.pixels == self.pixels {
            return Some(ViewFault::Frozen);
        }
        if new.far >= BLURRED_CONTRAST && new.near < BLURRED_RATIO * new.far {
            return Some(ViewFault::Blurred);
        }
        if self.looks >= self.settings.learning_looks {
            let here = self.learnt.correlation(&new.grid, (0, 0));
            let found = PLACE_FOUND.max(1.0 - (1.0 - here) * PLACE_BETTER);
            if here < PLACE_KEPT && self.learnt.is_elsewhere_in(&new.grid, found) {
                return Some(ViewFault::Moved);
            }
        }
        self.learn(&new.grid);
        None
    }

    fn learn(&mut self, grid: &Grid) {
        if self.looks == 0 {
            self.learnt = grid.clone();
        }
        self.looks = self.looks.saturating_add(1);
        let share = LEARNING_SHARE.max(1.0 / self.looks as f32);
        for (learnt, new) in self.learnt.cells.iter_mut().zip(&grid.cells) {
            *learnt += (new - *learnt) * share;
        }
    }

    fn count(&mut self, at: Timestamp, shown: Option<ViewFault>) {
        let since = match self.shown {
            Some((before, since)) if before == shown && since <= at => since,
            _ => at,
        };
        self.shown = Some((shown, since));
        let needed = match shown {
            None => self.settings.clear_after,
            Some(ViewFault::Frozen) => self.settings.hold * 2,
            Some(_) => self.settings.hold,
        };
        if at.since(since) >= needed {
            self.fault = shown;
        }
    }
}

impl Grid {
    fn down(&self) -> usize {
        self.cells.len() / self.across.max(1)
    }

    /// Correlation of this view with another where they overlap, the other shifted by so many cells. 0 where one of
    /// them has no differences.
    fn correlation(&self, other: &Self, (right, down): (isize, isize)) -> f32 {
        if self.across != other.across || self.cells.len() != other.cells.len() {
            return 0.0;
        }
        let overlap = |length: usize, shift: isize| {
            let shift = shift.unsigned_abs().min(length);
            length - shift
        };
        let (width, height) = (overlap(self.across, right), overlap(self.down(), down));
        let start = |shift: isize| (shift.max(0) as usize, (-shift).max(0) as usize);
        let ((x, other_x), (y, other_y)) = (start(right), start(down));
        let (mut n, mut a1, mut b1, mut a2, mut b2, mut ab) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0_f32);
        for row in 0..height {
            let from = |grid: &Self, y: usize, x: usize| {
                let begin = (y + row) * grid.across + x;
                begin..begin + width
            };
            let (a, b) =
                (self.cells.get(from(self, y, x)), other.cells.get(from(other, other_y, other_x)));
            for (a, b) in a.into_iter().flatten().zip(b.into_iter().flatten()) {
                n += 1.0;
                (a1, b1) = (a1 + a, b1 + b);
                (a2, b2, ab) = (a2 + a * a, b2 + b * b, ab + a * b);
            }
        }
        let spread = (n * a2 - a1 * a1) * (n * b2 - b1 * b1);
        if spread > 0.0 { (n * ab - a1 * b1) / spread.sqrt() } else { 0.0 }
    }

    /// Whether another grid shows this view at another place, shifted by up to a third of it, with this correlation.
    fn is_elsewhere_in(&self, other: &Self, found: f32) -> bool {
        let reach = |length: usize| isize::try_from(length / 3).unwrap_or(0);
        let (across, down) = (reach(self.across), reach(self.down()));
        (-down..=down)
            .flat_map(|y| (-across..=across).map(move |x| (x, y)))
            // Every shift: where a view has fine texture, a cell beside the right one it correlates no more.
            .filter(|(x, y)| x.abs() + y.abs() >= 2)
            .any(|shift| self.correlation(other, shift) >= found)
    }
}

/// The value below which that share of sorted values lies.
fn percentile<T: Copy + Default>(sorted: &[T], share: f32) -> T {
    let place = (share * sorted.len().saturating_sub(1) as f32).round() as usize;
    sorted.get(place).copied().unwrap_or_default()
}

/// Of green samples (luma for I420), every other row. `None` for a picture smaller than four cells.
fn measure(picture: &dyn Picture) -> Option<Measures> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (across, down) = (width / CELL, height / CELL);
    if across < 2 || down < 2 {
        return None;
    }
    let (step, first) = match picture.format() {
        PixelFormat::I420 => (1, 0),
        PixelFormat::Rgb | PixelFormat::Bgr => (3, 1),
    };
    let (plane, stride) = (picture.plane(0), picture.stride(0));
    let mut sums = vec![0_u32; across * down];
    let mut pixels = Vec::with_capacity(across * down * 2);
    let (mut near, mut far, mut pairs) = (0_u64, 0_u64, 0_u64);
    let mut line = Vec::with_capacity(width);
    for y in (0..down * CELL).step_by(2) {
        line.clear();
        line.extend(plane.get(y * stride..)?.iter().skip(first).step_by(step).take(width));
        let cells = sums.get_mut(y / CELL * across..)?;
        for (sum, cell) in cells.iter_mut().zip(line.chunks_exact(CELL)) {
            *sum += cell.iter().map(|&pixel: &u8| u32::from(pixel)).sum::<u32>();
        }
        if y % CELL == 0 {
            pixels.extend(line.iter().step_by(CELL / 2));
        }
        for window in line.windows(CELL + 2) {
            if let [a, b, c, d, .., e, f] = window {
                let pair = |x: &u8, y: &u8| u16::from(*x) + u16::from(*y);
                near += u64::from(pair(a, b).abs_diff(pair(c, d)));
                far += u64::from(pair(a, b).abs_diff(pair(e, f)));
                pairs += 2; // each difference is of two pixels
            }
        }
    }
    let samples = (CELL * CELL / 2) as f32;
    let cells = sums.into_iter().map(|sum| sum as f32 / samples).collect();
    let mean = |sum: u64| sum as f32 / pairs.max(1) as f32;
    Some(Measures { grid: Grid { across, cells }, pixels, near: mean(near), far: mean(far) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;
    use guiji_domain::OwnedPicture;

    const SIZE: (usize, usize) = (416, 234);

    /// A road between fields with trees, lamps and a house, its light and its sensor noise.
    struct Scene {
        light: f32,
        noise: f32,
        shift: (isize, isize),
        blur: usize,
        /// Streaks of rain and a car, at random places.
        busy: bool,
    }

    /// Noise as in a small picture: a sensor's, averaged by the scaling down.
    const DAY: Scene = Scene { light: 1.0, noise: 0.5, shift: (0, 0), blur: 0, busy: false };

    fn paint(scene: &Scene, noise: &mut Noise) -> OwnedPicture {
        let (width, height) = SIZE;
        let mut texture = Noise(7);
        // Grain of the world, larger than the picture so that a turned camera sees more of it.
        let side = 1024;
        let grain: Vec<f32> = (0..side * side).map(|_| texture.uniform()).collect();
        let world = |x: isize, y: isize| {
            let place = |v: isize| v.rem_euclid(side as isize) as usize;
            let grain =
                |scale: isize| grain[place(y / scale + 300) * side + place(x / scale + 300)];
            let base: f32 = if y < 70 { 200.0 } else { 90.0 };
            let road: f32 = if y > 70 && (x - 208).abs() < (y - 60) { 40.0 } else { 0.0 };
            base - road
                + 50.0 * (grain(24) - 0.5)
                + 40.0 * (grain(5) - 0.5)
                + 30.0 * (grain(1) - 0.5)
        };
        let mut light = vec![0.0_f32; width * height];
        for y in 0..height {
            for x in 0..width {
                let at = (x as isize + scene.shift.0, y as isize + scene.shift.1);
                light[y * width + x] = world(at.0, at.1) * scene.light;
            }
        }
        if scene.busy {
            let (left, top) = (noise.below(width - 60), 80 + noise.below(height - 130));
            for y in top..top + 40 {
                light[y * width + left..y * width + left + 60].fill(230.0 * scene.light.max(0.4));
            }
            for _ in 0..150 {
                let (x, y) = (noise.below(width), noise.below(height - 12));
                (y..y + 12).for_each(|y| light[y * width + x] += 25.0);
            }
        }
        if scene.blur > 0 {
            for _ in 0..2 {
                light = blurred(&light, scene.blur);
            }
        }
        let mut pixels = Vec::with_capacity(light.len() * 3);
        for value in light {
            let value = (value + scene.noise * noise.normal()).clamp(0.0, 255.0) as u8;
            pixels.extend([value; 3]);
        }
        OwnedPicture::rgb(width as u32, height as u32, pixels).unwrap()
    }

    /// A box, across and down.
    fn blurred(light: &[f32], radius: usize) -> Vec<f32> {
        let (width, height) = SIZE;
        let mean = |of: &dyn Fn(usize) -> f32, at: usize, end: usize| {
            let (from, to) = (at.saturating_sub(radius), (at + radius + 1).min(end));
            (from..to).map(of).sum::<f32>() / (to - from) as f32
        };
        let places = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rows: Vec<f32> =
            places().map(|(x, y)| mean(&|x| light[y * width + x], x, width)).collect();
        places().map(|(x, y)| mean(&|y| rows[y * width + x], y, height)).collect()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_795_000_000 + secs)
    }

    /// The faults that counted in the course of so many seconds of each scene, without repeats.
    fn course(scenes: &[(Scene, u64)]) -> Vec<Option<ViewFault>> {
        let (mut watch, mut noise, mut now) =
            (ViewWatch::new(ViewSettings::default()), Noise(1), 0);
        let mut told = vec![None];
        for (scene, secs) in scenes {
            for _ in 0..*secs {
                let fault = watch.look(at(now), &paint(scene, &mut noise));
                if told.last() != Some(&fault) {
                    told.push(fault);
                }
                now += 1;
            }
        }
        told
    }

    #[test]
    fn healthy_views_raise_no_alarm() {
        let busy = Scene { busy: true, ..DAY };
        let dusk = Scene { light: 0.4, noise: 3.0, ..DAY };
        let night = Scene { light: 0.12, noise: 5.0, busy: true, ..DAY };
        let dead_of_night = Scene { light: 0.06, noise: 4.0, ..DAY };
        let hazy = Scene { light: 0.7, blur: 1, ..DAY };
        let shaken = Scene { shift: (3, 2), ..DAY };
        let scenes = [
            (DAY, 70),
            (busy, 70),
            (hazy, 70),
            (shaken, 70),
            (dusk, 70),
            (night, 70),
            (dead_of_night, 70),
            (DAY, 70),
        ];
        assert_eq!(course(&scenes), [None]);
    }

    #[test]
    fn each_fault_is_told_and_is_over_when_it_is_over() {
        let black = Scene { light: 0.0, noise: 0.5, ..DAY };
        let covered = Scene { light: 0.0, noise: 0.0, ..DAY };
        let blurred = Scene { blur: 8, ..DAY };
        let moved = Scene { shift: (64, 24), ..DAY };
        use ViewFault::{Black, Blurred, Moved};
        assert_eq!(course(&[(DAY, 70), (black, 40), (DAY, 10)]), [None, Some(Black), None]);
        assert_eq!(course(&[(DAY, 70), (covered, 40)]), [None, Some(Black)]);
        assert_eq!(course(&[(DAY, 70), (blurred, 40), (DAY, 10)]), [None, Some(Blurred), None]);
        assert_eq!(course(&[(DAY, 70), (moved, 40), (DAY, 10)]), [None, Some(Moved), None]);
        // Too short to count: a lorry before the lens, a flash.
        let short = Scene { light: 0.0, noise: 0.5, ..DAY };
        assert_eq!(course(&[(DAY, 70), (short, 25), (DAY, 10)]), [None]);
    }

    #[test]
    fn one_shade_is_covered_and_a_still_picture_frozen() {
        let mut watch = ViewWatch::new(ViewSettings::default());
        let mut noise = Noise(3);
        let (width, height) = SIZE;
        for second in 0..40 {
            let grey = (0..width * height)
                .flat_map(|_| [(120.0 + 3.0 * noise.normal()) as u8; 3])
                .collect();
            let picture = OwnedPicture::rgb(width as u32, height as u32, grey).unwrap();
            watch.look(at(second), &picture);
        }
        assert_eq!(watch.look(at(41), &paint(&DAY, &mut noise)), Some(ViewFault::Covered));
        let still = paint(&DAY, &mut noise);
        let faults: Vec<_> = (42..120).map(|second| watch.look(at(second), &still)).collect();
        let frozen = faults.iter().position(|fault| *fault == Some(ViewFault::Frozen));
        assert!((60..=62).contains(&frozen.unwrap()), "{frozen:?}");
        // A stream that comes back begins without blame.
        watch.interrupted();
        assert_eq!(watch.look(at(121), &still), None);
    }

    #[test]
    fn more_than_a_picture_a_second_is_passed_over() {
        let (mut watch, mut noise) = (ViewWatch::new(ViewSettings::default()), Noise(5));
        watch.look(at(0), &paint(&DAY, &mut noise));
        let before = watch.clone();
        watch.look(at(0).plus(Duration::from_millis(900)), &paint(&DAY, &mut noise));
        assert_eq!((before.pixels, before.looks), (watch.pixels, watch.looks));
    }

    #[test]
    fn tiny_pictures_and_clocks_that_jump_do_no_harm() {
        let mut watch = ViewWatch::new(ViewSettings::default());
        let tiny = OwnedPicture::rgb(7, 3, vec![0; 63]).unwrap();
        for secs in [0, 100, 5, 1_000_000, 6] {
            assert_eq!(watch.look(at(secs), &tiny), None);
        }
    }
}
