use std::time::Duration;

use guiji_domain::{Picture, PixelFormat};

/// Whether anything has changed in a camera's view, by the luma of the full picture before it is scaled: the view is
/// cut into [`ACROSS`] x [`DOWN`] cells, each cell's mean held against a running average of itself.
///
/// A change of light of the whole view (clouds, exposure) is taken out by the median of all differences. A cell's
/// usual deviation (noise, swaying trees, rain) is learnt, so that such a cell must differ by more: from what goes to and
/// fro, not from what came to stay, for that would hide the next vehicle there. Averages follow stream time and not the
/// number of pictures, because keyframes of an empty road come every few seconds and pictures of a busy one many times
/// a second.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    size: (u32, u32),
    cells: Vec<Cell>,
    values: Vec<f32>,
    differences: Vec<f32>,
    last: Option<Duration>,
    /// When the cells' values were last sampled, at least [`SAMPLED_EVERY`] after the time before.
    sampled: Option<Duration>,
    /// How long the view has been looked at, breaks left out.
    watched: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    mean: f32,
    /// Mean absolute difference, levels of 255.
    deviation: f32,
    /// How long it has been changed without a break.
    changed_for: Duration,
    /// Its value at the last sample.
    sample: f32,
}

/// What a cell learns from one look.
#[derive(Debug, Clone, Copy)]
struct Lesson {
    /// Since the last look.
    passed: Duration,
    /// Since the last sample, when this is to be the next.
    step: Option<Duration>,
    /// What has been there for so long belongs to the road.
    stands_after: Duration,
}

pub(crate) const ACROSS: usize = 64;
pub(crate) const DOWN: usize = 36;
/// Every so many pixels of a row and rows of a cell are looked at.
pub(crate) const STEP: usize = 3;
/// A cell that differs by no more is quiet, whatever its past, levels of 255.
const DIFFERENCE_MIN: f32 = 4.0;
/// Beyond that it must differ by this many of its usual deviations.
const DEVIATIONS: f32 = 5.0;
/// A cell that has not been watched for long is taken to deviate so much.
const DEVIATION_FIRST: f32 = 1.0;
/// So many changed cells, side by side or one upon the other, are a change. A car that fills a tenth of the
/// picture's width covers ten.
const CELLS_MIN: usize = 3;
/// How fast a quiet cell's average follows.
const MEMORY_QUIET: Duration = Duration::from_secs(20);
/// A changed cell's average stays, so that a vehicle leaves no trace; after so long it is taken over at once: what has
/// parked is part of the road.
const STANDS_AFTER: Duration = Duration::from_secs(60);
/// Of a view that is new, as for this share of the time that it has been watched: what its first picture showed may have
/// been a vehicle, and until its traces are gone everything is a change.
const STANDS_SHARE: u32 = 4;
/// Two values so far apart tell what goes to and fro from what stays.
const SAMPLED_EVERY: Duration = Duration::from_secs(1);
/// How fast the usual deviation follows.
const MEMORY_DEVIATION: Duration = Duration::from_secs(120);

impl Glance {
    /// Takes the next picture of the view, at this time in the stream. True when it differs from what is usual, and
    /// for the first of its size.
    pub(crate) fn look(&mut self, at: Duration, picture: &dyn Picture) -> bool {
        if picture.format() != PixelFormat::I420 {
            return true; // the decoders give nothing else
        }
        self.measure(picture);
        let size = (picture.width(), picture.height());
        if self.size != size || self.cells.len() != self.values.len() {
            let cell = |mean: &f32| Cell {
                mean: *mean,
                deviation: DEVIATION_FIRST,
                changed_for: Duration::ZERO,
                sample: *mean,
            };
            self.cells = self.values.iter().map(cell).collect();
            (self.size, self.last, self.sampled) = (size, Some(at), Some(at));
            self.watched = Duration::ZERO;
            return true;
        }
        let lesson = self.lesson(at);
        let light = self.change_of_light();
        let changed: Vec<bool> = self
            .cells
            .iter_mut()
            .zip(&self.values)
            .map(|(cell, value)| cell.take(value - light, light, lesson))
            .collect();
        largest_group(&changed) >= CELLS_MIN
    }

    /// The stream broke off: time begins anew.
    pub(crate) fn interrupted(&mut self) {
        (self.last, self.sampled) = (None, None);
    }

    fn lesson(&mut self, at: Duration) -> Lesson {
        let since = |then: Option<Duration>| at.saturating_sub(then.unwrap_or(at));
        let (passed, step) = (since(self.last), since(self.sampled));
        self.watched += passed;
        self.last = Some(at);
        let step = (step >= SAMPLED_EVERY).then_some(step);
        if step.is_some() || self.sampled.is_none() {
            self.sampled = Some(at);
        }
        Lesson { passed, step, stands_after: STANDS_AFTER.min(self.watched / STANDS_SHARE) }
    }

    fn measure(&mut self, picture: &dyn Picture) {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let (luma, stride) = (picture.plane(0), picture.stride(0));
        self.values.clear();
        for row in 0..DOWN {
            let rows = row * height / DOWN..(row + 1) * height / DOWN;
            for column in 0..ACROSS {
                let columns = column * width / ACROSS..(column + 1) * width / ACROSS;
                let (mut sum, mut count) = (0u32, 0u32);
                for y in rows.clone().step_by(STEP) {
                    let line = luma.get(y * stride..).and_then(|it| it.get(columns.clone()));
                    for pixel in line.unwrap_or_default().iter().step_by(STEP) {
                        sum += u32::from(*pixel);
                        count += 1;
                    }
                }
                self.values.push(sum as f32 / count.max(1) as f32);
            }
        }
    }

    /// The median difference from the averages.
    fn change_of_light(&mut self) -> f32 {
        self.differences.clear();
        let pairs = self.cells.iter().zip(&self.values);
        self.differences.extend(pairs.map(|(cell, value)| value - cell.mean));
        let middle = self.differences.len() / 2;
        let (_, median, _) = self.differences.select_nth_unstable_by(middle, f32::total_cmp);
        *median
    }
}

impl Cell {
    /// `value` without the change of light.
    fn take(&mut self, value: f32, light: f32, lesson: Lesson) -> bool {
        let difference = (value - self.mean).abs();
        let limit = DIFFERENCE_MIN.max(DEVIATIONS * self.deviation);
        let changed = difference > limit;
        if changed {
            self.changed_for += lesson.passed;
        } else {
            self.changed_for = Duration::ZERO;
            self.mean += (value + light - self.mean) * share(lesson.passed, MEMORY_QUIET);
        }
        if let Some(step) = lesson.step {
            let moved = (value - self.sample).abs();
            self.sample = value;
            // A vehicle is not what is usual, nor what stays.
            let usual = if changed { difference.min(moved) } else { difference };
            let usual = usual.min(2.0 * DIFFERENCE_MIN);
            self.deviation += (usual - self.deviation) * share(step, MEMORY_DEVIATION);
            if self.changed_for > lesson.stands_after && moved <= limit {
                (self.mean, self.changed_for) = (value + light, Duration::ZERO);
            }
        }
        changed
    }
}

/// The weight of a new value after so much time, for an average with this memory.
fn share(passed: Duration, memory: Duration) -> f32 {
    1.0 - (-passed.as_secs_f32() / memory.as_secs_f32()).exp()
}

/// How many changed cells hang together, the most of any group.
pub(crate) fn largest_group(changed: &[bool]) -> usize {
    let mut left = changed.to_vec();
    let mut largest = 0;
    let mut reached = Vec::new();
    for start in 0..left.len() {
        let mut size = 0;
        reached.push(start);
        while let Some(cell) = reached.pop() {
            if !left.get_mut(cell).is_some_and(std::mem::take) {
                continue;
            }
            size += 1;
            let column = cell % ACROSS;
            reached.extend((column > 0).then(|| cell - 1));
            reached.extend((column + 1 < ACROSS).then_some(cell + 1));
            reached.extend(cell.checked_sub(ACROSS));
            reached.push(cell + ACROSS);
        }
        largest = largest.max(size);
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::OwnedPicture;

    /// A grey road of 640x360 with noise of ±6 levels a pixel, and a block on it.
    fn road(seed: u32, grey: u8, block: Option<(usize, usize, usize)>) -> OwnedPicture {
        road_with(seed, grey, block, 190)
    }

    fn road_with(
        seed: u32,
        grey: u8,
        block: Option<(usize, usize, usize)>,
        shade: u8,
    ) -> OwnedPicture {
        let (width, height) = (640, 360);
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut bytes = vec![0u8; width * height];
        for y in 0..height {
            for x in 0..width {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (state >> 24) % 13;
                let inside = block.is_some_and(|(left, top, side)| {
                    (left..left + side).contains(&x) && (top..top + side).contains(&y)
                });
                bytes[y * width + x] = if inside { shade } else { grey } + noise as u8;
            }
        }
        let chroma = vec![128; width * height / 4];
        let planes = vec![bytes, chroma.clone(), chroma];
        OwnedPicture::new(PixelFormat::I420, width as u32, height as u32, planes).unwrap()
    }

    fn seconds(n: u32) -> Duration {
        Duration::from_secs(u64::from(n) * 2)
    }

    #[test]
    fn an_empty_road_is_quiet_in_changing_light_and_a_vehicle_is_not() {
        let mut glance = Glance::default();
        assert!(glance.look(Duration::ZERO, &road(0, 90, None)), "nothing is known yet");
        for n in 1..60 {
            let grey = 90 + (n / 4) as u8; // dawn
            assert!(!glance.look(seconds(n), &road(n, grey, None)), "picture {n}");
        }
        assert!(glance.look(seconds(60), &road(60, 105, Some((200, 100, 40)))));
        assert!(!glance.look(seconds(61), &road(61, 105, None)));
        assert!(!glance.look(seconds(62), &road(62, 105, Some((200, 100, 8)))), "a bird");
    }

    #[test]
    fn what_has_parked_becomes_part_of_the_road() {
        let mut glance = Glance::default();
        let parked = Some((300, 200, 40));
        for n in 0..120 {
            glance.look(seconds(n), &road(n, 90, None));
        }
        assert!(glance.look(seconds(120), &road(120, 90, parked)));
        let last = (121..300).filter(|n| glance.look(seconds(*n), &road(*n, 90, parked))).last();
        assert!(last.is_some_and(|n| (150..155).contains(&n)), "{last:?}");
    }

    const FAINT: u8 = 102;
    const VEHICLE: Option<(usize, usize, usize)> = Some((200, 100, 40));

    #[test]
    fn what_the_first_picture_showed_is_soon_forgotten() {
        let mut glance = Glance::default();
        glance.look(Duration::ZERO, &road_with(0, 90, VEHICLE, FAINT));
        let changed = (1..34).filter(|n| glance.look(seconds(*n), &road(*n, 90, None))).count();
        assert!(changed <= 2, "{changed}");
        assert!(glance.look(seconds(34), &road_with(34, 90, VEHICLE, FAINT)));
    }

    #[test]
    fn where_a_vehicle_waited_the_next_one_is_seen() {
        let mut glance = Glance::default();
        for n in 0..200 {
            let waits = (150..175).contains(&n).then_some(VEHICLE).flatten();
            glance.look(seconds(n), &road_with(n, 90, waits, FAINT));
        }
        assert!(glance.look(seconds(200), &road_with(200, 90, VEHICLE, FAINT)));
    }

    /// Such cells must differ by more.
    #[test]
    fn what_sways_becomes_usual() {
        let mut glance = Glance::default();
        let tree = |n: u32| n.is_multiple_of(2).then_some((200, 100, 60));
        let changed =
            (0..120).filter(|n| glance.look(seconds(*n), &road_with(*n, 90, tree(*n), 98))).last();
        assert!(changed.is_some_and(|last| last < 60), "{changed:?}");
    }

    #[test]
    fn a_new_connection_knows_the_view() {
        let mut glance = Glance::default();
        (0..20).for_each(|n| _ = glance.look(seconds(n), &road(n, 90, None)));
        glance.interrupted();
        assert!(!glance.look(Duration::ZERO, &road(20, 90, None)));
        assert!(glance.look(seconds(1), &road(21, 90, Some((200, 100, 40)))));
    }

    #[test]
    fn a_new_size_is_a_change() {
        let mut glance = Glance::default();
        glance.look(Duration::ZERO, &road(0, 90, None));
        let planes = vec![vec![90; 16 * 8], vec![128; 32], vec![128; 32]];
        let small = OwnedPicture::new(PixelFormat::I420, 16, 8, planes).unwrap();
        assert!(glance.look(seconds(1), &small));
        assert!(!glance.look(seconds(2), &small));
    }
}
