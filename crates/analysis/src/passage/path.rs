use std::collections::VecDeque;
use std::time::Duration;

use guiji_domain::{BBox, Direction, Heading, Timestamp};

/// The way of a vehicle through the picture.
#[derive(Debug, Clone)]
pub(super) struct Path {
    first: BBox,
    /// First and last box that did not touch the picture's edge: cut boxes seem to shrink.
    first_whole: Option<BBox>,
    last_whole: Option<BBox>,
    recent: VecDeque<(Timestamp, BBox)>,
    /// Farthest distance from the first box, in box sizes, or change of size, as a share.
    moved: f32,
    rest: (Timestamp, BBox),
}

/// Boxes remembered for reads that come back late.
const RECENT_MAX: usize = 12;
/// Displacement, in box sizes, that is movement and not a detector's jitter.
const MOVED_MIN: f32 = 0.25;
/// From this on there is a heading.
const HEADING_MIN: f32 = 0.25;

impl Path {
    pub(super) fn new(at: Timestamp, bbox: BBox, whole: bool) -> Self {
        let seen_whole = whole.then_some(bbox);
        Self {
            first: bbox,
            first_whole: seen_whole,
            last_whole: seen_whole,
            recent: VecDeque::from([(at, bbox)]),
            moved: 0.0,
            rest: (at, bbox),
        }
    }

    pub(super) fn extend(&mut self, at: Timestamp, bbox: BBox, whole: bool) {
        if whole {
            self.first_whole.get_or_insert(bbox);
            self.last_whole = Some(bbox);
        }
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((at, bbox));
        self.moved = self.moved.max(displacement(&self.first, &bbox));
        if displacement(&self.rest.1, &bbox) >= MOVED_MIN {
            self.rest = (at, bbox);
        }
    }

    /// The latest box.
    pub(super) fn latest(&self) -> BBox {
        self.recent.back().map_or(self.first, |(_, b)| *b)
    }

    /// The box in the frame of that time, if it was seen in it and not long ago.
    pub(super) fn at(&self, at: Timestamp) -> Option<BBox> {
        self.recent.iter().rev().find(|(t, _)| *t == at).map(|(_, b)| *b)
    }

    pub(super) fn has_moved(&self) -> bool {
        self.moved >= MOVED_MIN
    }

    /// How long it has been standing where it is now.
    pub(super) fn resting(&self, now: Timestamp) -> Duration {
        now.since(self.rest.0)
    }

    /// Where it was first seen.
    pub(super) fn first(&self) -> BBox {
        self.first
    }

    /// Whether it stood when it was last seen.
    pub(super) fn is_standing_at(&self, seen: Timestamp) -> bool {
        !self.has_moved() || self.resting(seen) >= Duration::from_secs(1)
    }

    /// Whether a vehicle on this path can turn up on the later one after the gap: what grows smaller in the picture
    /// does not come back large, and what passes across does not leap.
    pub(super) fn leads_to(&self, later: &Self, gap: Duration) -> bool {
        const LEAP: f32 = 1.0;
        const LEAP_A_SECOND: f32 = 1.5;
        let (from, to) = (self.latest(), later.latest());
        let trend = self.growth();
        if trend.abs() < HEADING_MIN {
            let (a, b) = (from.centre(), to.centre());
            let leap = (a.x - b.x).hypot(a.y - b.y) / ((size(&from) + size(&to)) / 2.0);
            return leap <= LEAP + LEAP_A_SECOND * gap.as_secs_f32();
        }
        growth(&from, &to) * trend.signum() >= -HEADING_MIN
    }

    /// By how much it has grown in the picture, as a logarithm.
    fn growth(&self) -> f32 {
        match (self.first_whole, self.last_whole) {
            (Some(first), Some(last)) => growth(&first, &last),
            _ => growth(&self.first, &self.latest()),
        }
    }

    /// Whether it drives away.
    pub(super) fn recedes(&self) -> bool {
        self.growth() <= -HEADING_MIN
    }

    /// Whether a box is further along the way of a vehicle that drives away: no larger, and not back where it came from
    /// nor far beside.
    pub(super) fn has_ahead(&self, bbox: &BBox) -> bool {
        const JITTER: f32 = 0.05;
        const BACK_MAX: f32 = 0.25;
        const BESIDE_MAX: f32 = 0.5;
        /// Of the way ahead: its course bends, in the picture if not on the road.
        const BEND_MAX: f32 = 0.35;
        let (from, last) = (self.first_whole.unwrap_or(self.first).centre(), self.latest());
        let (at, to, scale) = (last.centre(), bbox.centre(), size(&last));
        let (course_x, course_y) = (at.x - from.x, at.y - from.y);
        let length = course_x.hypot(course_y);
        if length < f32::EPSILON || growth(&last, bbox) > JITTER {
            return false;
        }
        let (right, down) = (to.x - at.x, to.y - at.y);
        let along = (right * course_x + down * course_y) / length;
        let beside = (right * course_y - down * course_x).abs() / length;
        along >= -BACK_MAX * scale && beside <= BESIDE_MAX * scale + BEND_MAX * along.max(0.0)
    }

    /// Continues the path of an earlier track of the same vehicle.
    pub(super) fn prepend(&mut self, earlier: &Self) {
        self.first = earlier.first;
        self.first_whole = earlier.first_whole.or(self.first_whole);
        self.last_whole = self.last_whole.or(earlier.last_whole);
        self.moved = self.moved.max(earlier.moved).max(displacement(&self.first, &self.latest()));
    }

    /// Heading from growth and motion; compass course from where the camera looks.
    pub(super) fn direction(&self, bearing_deg: Option<f64>) -> Option<Direction> {
        let (first, last) = match (self.first_whole, self.last_whole) {
            (Some(first), Some(last)) if first != last => (first, last),
            _ => (self.first, self.latest()),
        };
        let size = (size(&first) + size(&last)) / 2.0;
        let (from, to) = (first.centre(), last.centre());
        let across = (to.x - from.x) / size;
        // A vehicle that comes nearer grows and sinks in the picture; growth is the surer sign.
        let nearer = 2.0 * growth(&first, &last) + 0.5 * (last.y2() - first.y2()) / size;
        if across.abs().max(nearer.abs()) < HEADING_MIN {
            return None;
        }
        // Perspective moves what comes nearer sideways too, hence the head start.
        let heading = if nearer.abs() >= 0.5 * across.abs() {
            if nearer > 0.0 { Heading::Approaching } else { Heading::Receding }
        } else if across > 0.0 {
            Heading::Rightward
        } else {
            Heading::Leftward
        };
        let turn = match heading {
            Heading::Receding => 0.0,
            Heading::Rightward => 90.0,
            Heading::Approaching => 180.0,
            Heading::Leftward => 270.0,
        };
        let course_deg = bearing_deg
            .filter(|b| b.is_finite())
            .map(|bearing| (bearing + turn).rem_euclid(360.0) as f32);
        Some(Direction { heading, course_deg })
    }
}

/// Distance of two boxes in box sizes, or their change of size as a share, whichever is more.
fn displacement(a: &BBox, b: &BBox) -> f32 {
    let (from, to) = (a.centre(), b.centre());
    let distance = (to.x - from.x).hypot(to.y - from.y) / ((size(a) + size(b)) / 2.0);
    distance.max(growth(a, b).abs())
}

/// By how much the second box is larger, as a logarithm.
fn growth(a: &BBox, b: &BBox) -> f32 {
    (size(b) / size(a)).ln()
}

fn size(bbox: &BBox) -> f32 {
    (bbox.width().max(1.0) * bbox.height().max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(boxes: &[(f32, f32, f32)]) -> Path {
        let bbox = |(x, y, w): (f32, f32, f32)| BBox::new(x, y, x + w, y + 0.8 * w).unwrap();
        let mut path = Path::new(Timestamp::EPOCH, bbox(boxes[0]), true);
        for (i, b) in boxes.iter().enumerate().skip(1) {
            path.extend(Timestamp::from_millis(100 * i as i64), bbox(*b), true);
        }
        path
    }

    #[test]
    fn headings_and_courses() {
        for (boxes, heading, course) in [
            ([(300.0, 100.0, 100.0), (280.0, 250.0, 250.0)], Some(Heading::Approaching), 270.0),
            ([(280.0, 250.0, 250.0), (300.0, 100.0, 100.0)], Some(Heading::Receding), 90.0),
            ([(0.0, 300.0, 150.0), (700.0, 300.0, 155.0)], Some(Heading::Rightward), 180.0),
            ([(700.0, 300.0, 150.0), (0.0, 300.0, 150.0)], Some(Heading::Leftward), 0.0),
            ([(300.0, 300.0, 150.0), (303.0, 301.0, 151.0)], None, 0.0),
        ] {
            let direction = path(&boxes).direction(Some(90.0));
            assert_eq!(direction.map(|d| d.heading), heading);
            if let Some(d) = direction {
                assert_eq!(d.course_deg, Some(course), "{heading:?}");
            }
            assert!(path(&boxes).direction(None).is_none_or(|d| d.course_deg.is_none()));
        }
    }

    #[test]
    fn jitter_is_no_movement() {
        let still = path(&[(300.0, 300.0, 150.0), (310.0, 295.0, 158.0), (296.0, 303.0, 149.0)]);
        assert!(!still.has_moved());
        assert!(still.resting(Timestamp::from_secs(9)) == Duration::from_secs(9));
        assert!(path(&[(300.0, 300.0, 150.0), (360.0, 300.0, 150.0)]).has_moved());
    }
}
