//! Cameras grade themselves: how well they read, whether their clock is right and when they were silent, from the
//! passages alone, without labels.
//!
//! * **Misreads**: a vehicle that passed is seen again, by another camera or on another day. A plate that is read at most
//!   twice, and never within [`GradeSettings::reach`] of another read of it, is *lone*: most lone reads are misreads, for
//!   no car bears what was read. Their share among a camera's reads estimates its error; strangers who pass one camera
//!   only are among them, so it is an estimate from above. *Agreement* is the share of the reads whose plate was read by
//!   another camera within the reach.
//! * **Clocks**: of camera *i* and *j*, the time that the quickest 15 % of the trips from *i* to *j* take is
//!   the road's least time plus *j*'s clock error less *i*'s. The road takes as long in the other direction and for every
//!   pair of cameras of the same two sites; so the errors come apart from the roads. They are found by turns: each
//!   road's time as the median over its pairs, each camera's error as the median over its neighbours, until nothing
//!   moves. The error of the estimate is that of a median, 1.253 · 1.483 · MAD / √n. Right clocks are the majority: the
//!   median over all cameras is taken as true time.
//! * **Silence**: a full hour without a passage in which the camera's own mean of that hour of the day promises at least
//!   [`SILENT_EXPECTED`]: by chance once in e⁸ = 3000 such hours.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use guiji_domain::{CameraId, GeoPoint, TimeSpan, Timestamp};

use super::{CameraKey, PassageIndex, utc_hour};

/// What is judged how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradeSettings {
    /// Two reads of a plate belong to one drive up to here.
    pub reach: Duration,
    /// Fewest reads of a judgement.
    pub reads_min: u32,
    /// A share of lone reads that is this many times the median camera's is a fault.
    pub misread_factor: f64,
    /// A clock that is off by more, and by more than three times the estimate's error, is a fault.
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

/// How far a clock is off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockOffset {
    /// Its time less the true one, seconds.
    pub offset_s: f64,
    /// Standard error of that, seconds.
    pub error_s: f64,
    /// Neighbouring cameras that it rests on.
    pub neighbours: usize,
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
    /// Passages a day that it costs. A wrong clock leaves plate and picture: its passages count a half.
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
}

/// The quickest of the trips, whose time is compared: driving times begin sharply and end in stops.
const QUICK_SHARE: f64 = 0.15;
/// Trips of a pair of cameras that suffice, and that are looked at.
const TRIPS: std::ops::RangeInclusive<usize> = 12..=200;
/// Longest trip between neighbours.
const NEIGHBOURS_APART: Duration = Duration::from_secs(600);
/// Fewest neighbours that a clock is judged by.
const NEIGHBOURS_MIN: usize = 3;
/// Passages to be expected in an hour for its silence to tell.
pub const SILENT_EXPECTED: f64 = 8.0;
/// Turns of the alternation; it settles within a dozen.
const TURNS: usize = 30;
/// Hours of the night in UTC: 19 to 5 in China.
const NIGHT_UTC: std::ops::Range<u8> = 11..21;

/// Grades every camera of the index; the costliest first, then by id.
pub fn grade_cameras(
    index: &PassageIndex,
    positions: &HashMap<CameraId, GeoPoint>,
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
    if grade.clock.is_some_and(|c| c.offset_s.abs() > off.max(3.0 * c.error_s)) {
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
    faults.sort_by(|a, b| b.cost.total_cmp(&a.cost).then(a.cause.cmp(&b.cause)));
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

/// What two cameras say: the quick trips from one to the other.
struct Link {
    from: usize,
    to: usize,
    road: (usize, usize),
    quick_s: f64,
}

/// How far each camera's clock is off.
pub fn clock_offsets(
    index: &PassageIndex,
    positions: &HashMap<CameraId, GeoPoint>,
) -> Vec<Option<ClockOffset>> {
    let count = index.cameras().len();
    let links = links(index, &sites(index, positions));
    let mut offsets = vec![0.0; count];
    let mut roads: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for _ in 0..TURNS {
        let mut of_road: BTreeMap<_, Vec<f64>> = BTreeMap::new();
        for link in &links {
            let least = link.quick_s + offsets[link.from] - offsets[link.to];
            of_road.entry(link.road).or_default().push(least);
        }
        roads = of_road.into_iter().filter_map(|(r, mut s)| Some((r, median(&mut s)?))).collect();
        let mut next: Vec<_> = residuals(&links, &roads, &offsets, count)
            .into_iter()
            .map(|mut says| median(&mut says).unwrap_or(0.0))
            .collect();
        let truth = median(&mut next.clone()).unwrap_or(0.0);
        // Half a step: both ends of a link move at once.
        next.iter_mut()
            .zip(&offsets)
            .for_each(|(new, old)| *new = 0.5 * (*new - truth) + 0.5 * old);
        offsets = next;
    }
    residuals(&links, &roads, &offsets, count)
        .into_iter()
        .zip(&offsets)
        .map(|(mut says, offset)| {
            let neighbours = says.len();
            if neighbours < NEIGHBOURS_MIN {
                return None;
            }
            says.iter_mut().for_each(|s| *s = (*s - offset).abs());
            let deviation = 1.483 * median(&mut says)?;
            let error_s = (1.253 * deviation / (neighbours as f64).sqrt()).max(0.05);
            Some(ClockOffset { offset_s: *offset, error_s, neighbours })
        })
        .collect()
}

/// For each camera, what each of its links says of its clock, the others' being right.
fn residuals(
    links: &[Link],
    roads: &BTreeMap<(usize, usize), f64>,
    offsets: &[f64],
    count: usize,
) -> Vec<Vec<f64>> {
    let mut says = vec![Vec::new(); count];
    for link in links {
        let Some(least) = roads.get(&link.road) else { continue };
        says[link.to].push(link.quick_s - least + offsets[link.from]);
        says[link.from].push(least - link.quick_s + offsets[link.to]);
    }
    says
}

/// Cameras within a crossing of each other are one site, named by its first camera.
fn sites(index: &PassageIndex, positions: &HashMap<CameraId, GeoPoint>) -> Vec<usize> {
    const SITE_M: f64 = 60.0;
    let places: Vec<_> = index.cameras().iter().map(|c| positions.get(c)).collect();
    let mut sites: Vec<usize> = (0..places.len()).collect();
    for i in 0..places.len() {
        let Some(here) = places[i] else { continue };
        let near = |j: &usize| places[*j].is_some_and(|there| here.distance_m(there) <= SITE_M);
        if let Some(first) = (0..i).find(near) {
            sites[i] = sites[first];
        }
    }
    sites
}

fn links(index: &PassageIndex, sites: &[usize]) -> Vec<Link> {
    let mut trips: HashMap<(u32, u32), Vec<f32>> = HashMap::new();
    for vehicle in index.vehicle_keys() {
        let way = index.way(vehicle);
        for ((left, from), (arrived, to)) in way.iter().zip(way.iter().skip(1)) {
            let time = arrived.since(left);
            if time > NEIGHBOURS_APART || sites[from.index()] == sites[to.index()] {
                continue;
            }
            let times = trips.entry((from.index() as u32, to.index() as u32)).or_default();
            if times.len() < *TRIPS.end() {
                times.push(time.as_secs_f32());
            }
        }
    }
    let mut links: Vec<_> = trips
        .into_iter()
        .filter(|(_, times)| times.len() >= *TRIPS.start())
        .map(|((from, to), mut times)| {
            times.sort_by(f32::total_cmp);
            let quick = times[(QUICK_SHARE * times.len() as f64) as usize];
            let (from, to) = (from as usize, to as usize);
            let (a, b) = (sites[from], sites[to]);
            Link { from, to, road: (a.min(b), a.max(b)), quick_s: f64::from(quick) }
        })
        .collect();
    links.sort_by_key(|link| (link.from, link.to));
    links
}

fn median(numbers: &mut [f64]) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => None,
        n if n % 2 == 1 => Some(numbers[middle]),
        _ => Some((numbers[middle - 1] + numbers[middle]) / 2.0),
    }
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
        let grades = grade_cameras(&index, &positions(), &GradeSettings::default());
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
        let others = grades.iter().filter(|g| {
            let id = index.camera_id(g.camera).unwrap();
            ![8, 14, 21].map(camera_id).contains(id)
        });
        for other in others {
            assert!(other.faults.is_empty(), "{other:?}");
        }
        assert!(grades.is_sorted_by(|a, b| a.cost() >= b.cost()));
    }

    #[test]
    fn nothing_in_nothing_out() {
        let none = index_of(&[]);
        assert!(grade_cameras(&none, &positions(), &GradeSettings::default()).is_empty());
    }
}
