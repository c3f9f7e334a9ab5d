//! Cameras grade themselves: how well they read, whether their clock is right and when they were silent, from the
//! passages alone, without labels.
//!
//! * **Misreads**: a vehicle that passed is seen again, by another camera or on another day. A plate that is read at most
//!   twice, and never within [`GradeSettings::reach`] of another read of it, is *lone*: most lone reads are misreads, for
//!   no car bears what was read. Their share among a camera's reads estimates its error; strangers who pass one camera
//!   only are among them, so it is an estimate from above. *Agreement* is the share of the reads whose plate was read by
//!   another camera within the reach.
//! * **Clocks**: see [`clock_offsets`]; a clock is a fault when it is wrong with [`ClockOffset::is_wrong`] and by more
//!   than [`GradeSettings::clock_off`].
//! * **Silence**: a full hour without a passage in which the camera's own mean of that hour of the day promises at least
//!   [`SILENT_EXPECTED`]: by chance once in e⁸ = 3000 such hours.

use std::collections::HashMap;
use std::time::Duration;

use guiji_domain::{CameraId, GeoPoint, TimeSpan, Timestamp};

use super::clocks::median;
use super::{CameraKey, PassageIndex, utc_hour};

pub use super::clocks::{ClockOffset, clock_offsets};

/// What is judged how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradeSettings {
    /// Two reads of a plate belong to one drive up to here.
    pub reach: Duration,
    /// Fewest reads of a judgement.
    pub reads_min: u32,
    /// A share of lone reads that is this many times the median camera's is a fault.
    pub misread_factor: f64,
    /// A wrong clock that is off by more is a fault.
    pub clock_off: Duration,
}

impl Default for GradeSettings {
    fn default() -> Self {
        Self {
            reach: Duration::from_secs(1800),
            reads_min: 200,
            misread_factor: 2.0,
            clock_off: Duration::from_millis(1500),
        }
    }
}

/// Reads of a camera and how many of them others confirm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// All.
    pub all: u32,
    /// Of plates that another camera read within the reach.
    pub agreed: u32,
    /// Of plates that nobody else read.
    pub lone: u32,
}

impl Reads {
    /// Share of the reads that another camera confirms.
    pub fn agreement(&self) -> f64 {
        f64::from(self.agreed) / f64::from(self.all.max(1))
    }

    /// Share of the reads that are lone: about the share of misreads, strangers included.
    pub fn misread(&self) -> f64 {
        f64::from(self.lone) / f64::from(self.all.max(1))
    }
}

/// What is known of a camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraGrade {
    /// Which.
    pub camera: CameraKey,
    /// Its reads.
    pub reads: Reads,
    /// The same by hour of the day, UTC.
    pub hours: [Reads; 24],
    /// Its clock; `None` when too few vehicles tell.
    pub clock: Option<ClockOffset>,
    /// When it saw nothing though it should have.
    pub silent: Vec<TimeSpan>,
    /// What to mend, worst first.
    pub faults: Vec<Fault>,
}

impl CameraGrade {
    /// Passages a day that are lost or spoilt by all faults: the list is ranked by it.
    pub fn cost(&self) -> f64 {
        self.faults.iter().map(|f| f.cost).sum()
    }
}

/// Something to mend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// What.
    pub cause: Cause,
    /// Passages a day that it costs. A wrong clock leaves plate and picture, and of a view that is out of focus or was
    /// turned something may be left: these passages count a half.
    pub cost: f64,
}

/// What is wrong with a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It is not running, or covered, for hours.
    Silent,
    /// Its clock is wrong.
    Clock,
    /// It reads badly at all hours: dirt, focus, aim.
    Misreads,
    /// It reads badly by night only: lighting.
    NightMisreads,
    /// Its pictures are black, of one shade or always the same.
    Covered,
    /// Its pictures are out of focus.
    Blurred,
    /// It was turned.
    Moved,
}

/// Passages to be expected in an hour for its silence to tell.
pub const SILENT_EXPECTED: f64 = 8.0;
/// Hours of the night in UTC: 19 to 5 in China.
const NIGHT_UTC: std::ops::Range<u8> = 11..21;

/// Grades every camera of the index; the costliest first, then by id. `views` are the cameras whose pictures themselves
/// show what is wrong.
pub fn grade_cameras(
    index: &PassageIndex,
    positions: &HashMap<CameraId, GeoPoint>,
    views: &HashMap<CameraId, Cause>,
    settings: &GradeSettings,
) -> Vec<CameraGrade> {
    let Some(span) = index.span() else { return Vec::new() };
    let hours = reads_by_hour(index, settings.reach);
    let clocks = clock_offsets(index, positions);
    let mut grades: Vec<_> = index
        .camera_keys()
        .zip(hours)
        .zip(clocks)
        .map(|((camera, hours), clock)| CameraGrade {
            camera,
            reads: sum(hours.iter()),
            hours,
            clock,
            silent: silent_hours(index, camera, span),
            faults: Vec::new(),
        })
        .collect();
    let judged = grades.iter().filter(|g| g.reads.all >= settings.reads_min);
    let usual = median(&mut judged.map(|g| g.reads.misread()).collect::<Vec<_>>()).unwrap_or(0.0);
    let days = (span.duration().as_secs_f64() / 86_400.0).max(1.0 / 24.0);
    for grade in &mut grades {
        grade.faults = faults(index, grade, usual, days, settings);
        let view = index.camera_id(grade.camera).and_then(|camera| views.get(camera));
        if let Some(cause) = view.copied() {
            let all = f64::from(grade.reads.all) / days;
            let cost = if cause == Cause::Covered { all } else { all / 2.0 };
            grade.faults.push(Fault { cause, cost });
        }
        grade.faults.sort_by(|a, b| b.cost.total_cmp(&a.cost).then(a.cause.cmp(&b.cause)));
    }
    grades.sort_by(|a, b| b.cost().total_cmp(&a.cost()).then(a.camera.cmp(&b.camera)));
    grades
}

fn sum<'a>(parts: impl Iterator<Item = &'a Reads>) -> Reads {
    parts.fold(Reads::default(), |sum, part| Reads {
        all: sum.all + part.all,
        agreed: sum.agreed + part.agreed,
        lone: sum.lone + part.lone,
    })
}

fn faults(
    index: &PassageIndex,
    grade: &CameraGrade,
    usual: f64,
    days: f64,
    settings: &GradeSettings,
) -> Vec<Fault> {
    let a_day = |passages: f64| passages / days;
    let mut faults = Vec::new();
    let missed: f64 = grade.silent.iter().map(|s| expected(index, grade.camera, *s, days)).sum();
    if missed > 0.0 {
        faults.push(Fault { cause: Cause::Silent, cost: a_day(missed) });
    }
    let off = settings.clock_off.as_secs_f64();
    if grade.clock.is_some_and(|c| c.is_wrong() && c.offset_s.abs() > off) {
        faults.push(Fault { cause: Cause::Clock, cost: a_day(f64::from(grade.reads.all)) / 2.0 });
    }
    let bad = |reads: Reads| {
        reads.all >= settings.reads_min
            && reads.misread() > settings.misread_factor * usual.max(0.005)
    };
    let is_night = |hour: &usize| NIGHT_UTC.contains(&(*hour as u8));
    let of = |night: bool| sum((0..24).filter(|h| is_night(h) == night).map(|h| &grade.hours[h]));
    let excess = |reads: Reads| f64::from(reads.lone) - usual * f64::from(reads.all);
    if bad(of(false)) || (bad(grade.reads) && !bad(of(true))) {
        faults.push(Fault { cause: Cause::Misreads, cost: a_day(excess(grade.reads)) });
    } else if bad(of(true)) {
        faults.push(Fault { cause: Cause::NightMisreads, cost: a_day(excess(of(true))) });
    }
    faults
}

fn reads_by_hour(index: &PassageIndex, reach: Duration) -> Vec<[Reads; 24]> {
    let mut cameras = vec![[Reads::default(); 24]; index.cameras().len()];
    for vehicle in index.vehicle_keys() {
        let way = index.way(vehicle);
        let rows: Vec<_> = way.iter().collect();
        for (i, (at, camera)) in rows.iter().enumerate() {
            let near = |other: Option<&(Timestamp, CameraKey)>| {
                other.filter(|(t, _)| t.abs_diff(*at) <= reach).map(|(_, c)| c != camera)
            };
            let beside = [i.checked_sub(1).and_then(|i| near(rows.get(i))), near(rows.get(i + 1))];
            let reads = &mut cameras[camera.index()][usize::from(utc_hour(*at))];
            reads.all += 1;
            reads.agreed += u32::from(beside.contains(&Some(true)));
            reads.lone += u32::from(rows.len() <= 2 && beside == [None, None]);
        }
    }
    cameras
}

/// A camera's passages to be expected in a span of whole hours, by its means on the other days.
fn expected(index: &PassageIndex, camera: CameraKey, span: TimeSpan, days: f64) -> f64 {
    let hours = span.duration().as_secs_f64() / 3600.0;
    let day = Duration::from_secs(86_400);
    let mut others = 0;
    for away in 1..=days.ceil() as u32 {
        for shifted in [span.first().minus(day * away), span.first().plus(day * away)] {
            let end = shifted.plus(span.duration().saturating_sub(Duration::from_nanos(1)));
            if let Ok(shifted) = TimeSpan::new(shifted, end) {
                others += index.at_camera(camera, shifted).times.len();
            }
        }
    }
    if hours > 0.0 { others as f64 / (days - 1.0).max(1.0) } else { 0.0 }
}

/// Runs of whole hours without a passage that should not be.
fn silent_hours(index: &PassageIndex, camera: CameraKey, span: TimeSpan) -> Vec<TimeSpan> {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let first = span.first().as_nanos().div_euclid(HOUR_NS) + 1;
    let end = span.last().as_nanos().div_euclid(HOUR_NS);
    let Ok(hours) = usize::try_from(end - first) else { return Vec::new() };
    let mut counts = vec![0_u32; hours];
    for at in index.at_camera(camera, span).times {
        let hour = at.as_nanos().div_euclid(HOUR_NS) - first;
        if let Some(count) = usize::try_from(hour).ok().and_then(|hour| counts.get_mut(hour)) {
            *count += 1;
        }
    }
    let usual = |hour: usize| {
        let others = (hour % 24..hours).step_by(24).filter(|other| *other != hour);
        let (n, sum) = others.fold((0, 0), |(n, sum), other| (n + 1, sum + counts[other]));
        if n == 0 { 0.0 } else { f64::from(sum) / f64::from(n) }
    };
    let at = |hour: usize| Timestamp::from_nanos((first + hour as i64) * HOUR_NS);
    let mut silent: Vec<TimeSpan> = Vec::new();
    for hour in (0..hours).filter(|hour| counts[*hour] == 0 && usual(*hour) >= SILENT_EXPECTED) {
        let ends = at(hour + 1);
        match silent.last_mut() {
            Some(last) if last.last() == at(hour) => *last = last.including(ends),
            _ => silent.push(TimeSpan::at(at(hour)).including(ends)),
        }
    }
    silent
}

#[cfg(test)]
mod tests {
    use super::super::town::{DAY_S, camera_id, index_of, position, secs, traffic};
    use super::*;
    use crate::testing::Noise;

    fn positions() -> HashMap<CameraId, GeoPoint> {
        (0..36).map(|c| (camera_id(c), position(c))).collect()
    }

    /// In a town of right clocks one is 20 s ahead and one reads half of its plates wrong; a third sleeps a morning.
    #[test]
    fn planted_faults_are_found_with_their_causes() {
        let noise = &mut Noise(5);
        let mut passages = traffic(900, 6, noise);
        let asleep = 2 * DAY_S + 8 * 3600..2 * DAY_S + 12 * 3600;
        passages.retain(|(_, c, at)| *c != 14 || !asleep.contains(at));
        let mut strange = 10_000;
        for (vehicle, camera, at) in &mut passages {
            if *camera == 21 {
                *at += 20;
            }
            if *camera == 8 && noise.uniform() < 0.5 {
                strange += 1;
                *vehicle = strange;
            }
        }
        let index = index_of(&passages);
        let views = HashMap::from([(camera_id(30), Cause::Moved)]);
        let grades = grade_cameras(&index, &positions(), &views, &GradeSettings::default());
        let grade = |c| {
            let key = index.camera(&camera_id(c)).unwrap();
            grades.iter().find(|g| g.camera == key).unwrap()
        };
        let clock = grade(21).clock.unwrap();
        assert!((clock.offset_s - 20.0).abs() < 3.0 + 3.0 * clock.error_s, "{clock:?}");
        assert_eq!(grade(21).faults[0].cause, Cause::Clock);
        assert!((grade(8).reads.misread() - 0.5).abs() < 0.05, "{:?}", grade(8).reads);
        assert_eq!(grade(8).faults[0].cause, Cause::Misreads);
        let silent = &grade(14).silent;
        assert_eq!(silent.len(), 1, "{silent:?}");
        assert!(silent[0].first() >= secs(asleep.start) && silent[0].last() <= secs(asleep.end));
        assert_eq!(grade(14).faults[0].cause, Cause::Silent);
        let moved = grade(30);
        assert_eq!(moved.faults.iter().map(|f| f.cause).collect::<Vec<_>>(), [Cause::Moved]);
        assert!((moved.cost() - f64::from(moved.reads.all) / 12.0).abs() < 0.2 * moved.cost());
        let others = grades.iter().filter(|g| {
            let id = index.camera_id(g.camera).unwrap();
            ![8, 14, 21, 30].map(camera_id).contains(id)
        });
        for other in others {
            assert!(other.faults.is_empty(), "{other:?}");
        }
        assert!(grades.is_sorted_by(|a, b| a.cost() >= b.cost()));
    }

    #[test]
    fn nothing_in_nothing_out() {
        let none = index_of(&[]);
        assert!(
            grade_cameras(&none, &positions(), &HashMap::new(), &GradeSettings::default())
                .is_empty()
        );
    }
}
