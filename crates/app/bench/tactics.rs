//! `guiji bench tactics`: what the tactics cost as sightings grow, and how good clone, convoy and forecast are where the
//! truth is known: in the simulated county, with what is planted there.
//!
//! A county of a million sightings has but three clones of its own. So that shares mean something, more are planted
//! beside them: pairs of active vehicles of one kind and class of which the second is given the plate of the first, in
//! all that was read of it, doubts and errors included.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use guiji_analysis::tactics::cameras::{GradeSettings, clock_offsets, grade_cameras};
use guiji_analysis::tactics::card::vehicle_card;
use guiji_analysis::tactics::clone::{
    CloneSettings, Finding, PlateSighting, SIGHTINGS_MAX, SuspectSettings, judge, suspects, telling,
};
use guiji_analysis::tactics::collision::{Area, collisions};
use guiji_analysis::tactics::convoy::{ConvoySettings, companions};
use guiji_analysis::tactics::first_entry::first_entries;
use guiji_analysis::tactics::forecast::{
    Forecast, Forecaster, Habit, LastSeen, Next, Score, Smoothing,
};
use guiji_analysis::tactics::frequent::frequent;
use guiji_analysis::tactics::night::{NightSettings, night_active};
use guiji_analysis::tactics::section_speed::{SectionLength, SectionSpeed};
use guiji_analysis::tactics::stops::{StopSettings, stop_places};
use guiji_analysis::tactics::travel::{Roads, TravelTimes};
use guiji_analysis::tactics::{CameraKey, PassageIndex, PassageIndexBuilder, VehicleKey};
use guiji_county::{County, CountySettings, VehicleId};
use guiji_domain::{
    CameraId, Candidate, CaptureTime, ClockSource, GeoPoint, Lattice, PlateChar, PlateState,
    PlateText, Position, TimeSpan, Timestamp, Vehicle,
};
use serde::Serialize;

use super::START;

/// Arguments of `guiji bench tactics`.
#[derive(Debug, Args)]
pub(super) struct TacticsArguments {
    /// How many sightings; several numbers give the growth curve.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1_000_000])]
    rows: Vec<u64>,
    /// Over how many days.
    #[arg(long, value_name = "D", default_value_t = 7)]
    days: u32,
    /// The seed of the county.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Sites with cameras: with fewer, more ways lead from one to the next.
    #[arg(long, value_name = "N", default_value_t = guiji_county::SITES)]
    sites: usize,
    /// Sightings of the counties in which quality is measured, at most: precision does not ask for more.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    quality_rows: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct TacticsFigures {
    /// For each number of rows.
    curve: Vec<Cost>,
    /// Seconds a question of the last number of rows; the same as its curve's.
    seconds: BTreeMap<&'static str, f64>,
    clone: CloneFigures,
    convoy: Quality,
    forecast: ForecastFigures,
    cameras: CameraFigures,
}

/// Seconds of the tactics, the median of some questions each.
#[derive(Debug, Serialize, Clone)]
struct Cost {
    rows: u64,
    seconds: BTreeMap<&'static str, f64>,
}

#[derive(Debug, Serialize, Clone, Copy, PartialEq)]
struct Quality {
    precision: f64,
    recall: f64,
    /// How many were to be found.
    planted: usize,
    found: usize,
}

impl Quality {
    fn of<T>(found: &HashSet<T>, truth: &HashSet<T>) -> Self
    where
        T: Ord + std::hash::Hash,
    {
        let right = found.intersection(truth).count();
        let share = |n: usize, of: usize| if of == 0 { 0.0 } else { n as f64 / of as f64 };
        Self {
            precision: share(right, found.len()),
            recall: share(right, truth.len()),
            planted: truth.len(),
            found: found.len(),
        }
    }
}

/// Clones by the reader's error; the first level is that of 1 %.
#[derive(Debug, Serialize)]
struct CloneFigures {
    precision: f64,
    recall: f64,
    by_error: Vec<CloneAtError>,
}

#[derive(Debug, Serialize)]
struct CloneAtError {
    error_rate: f64,
    #[serde(flatten)]
    quality: Quality,
    /// "Faster than this between two sightings": the speed of 100, 120, 150 and 200 km/h that does best on this very
    /// county, by the mean of precision and recall.
    fixed_speed: Quality,
    fixed_speed_kmh: f64,
}

#[derive(Debug, Serialize)]
struct ForecastFigures {
    /// Share of the forecasts whose likeliest camera was right.
    precision: f64,
    /// Share of the next sightings whose camera was named at all.
    recall: f64,
    top3: f64,
    first_order_top3: f64,
    nearest_top3: f64,
    ours: ForecastQuality,
    first_order: ForecastQuality,
    nearest: ForecastQuality,
    /// Of the arrivals at named cameras, the share within the window: nominally 0.8.
    window_share: f64,
    /// The same of forecasts drawn anew while the vehicle did not come.
    redrawn_window_share: f64,
    redrawn_top3: f64,
    cases: u32,
}

/// Of a way to forecast.
#[derive(Debug, Serialize)]
struct ForecastQuality {
    top1: f64,
    top3: f64,
    /// Mean of -ln of the probability given to the camera that came.
    log_loss: f64,
    /// Of the vehicles that were seen within 5 to 15 minutes, the share that passed one of the three cameras at which
    /// they were then expected most.
    met_in_5_to_15_min: f64,
}

/// How well cameras grade themselves, at the reader's error of 3 %.
#[derive(Debug, Serialize)]
struct CameraFigures {
    /// Clocks off by more than 2 s, and how many of them were found and how many others.
    clocks: Quality,
    /// Root mean square error of the estimated clock errors, seconds.
    clock_rms_s: f64,
    /// Rank correlation (Spearman) of estimated and true misreads over cameras with 200 reads.
    misread_rank_correlation: f64,
    /// Outages of two hours or more on cameras with 20 reads an hour, and the hours found.
    outages: Quality,
}

const QUESTIONS: usize = 15;
/// Pairs of vehicles that are given one plate beside the county's own.
const PLANTED: usize = 60;
const ERROR_RATES: [f64; 3] = [0.01, 0.03, 0.05];
const HORIZON: Duration = Duration::from_secs(1800);

/// Runs the command.
pub(super) fn run(arguments: &TacticsArguments) -> Result<ExitCode> {
    let figures = measure(arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &TacticsArguments) -> Result<TacticsFigures> {
    let TacticsArguments { rows, days, seed, sites, quality_rows, .. } = arguments;
    let county = |rows: u64, error_rate: f64| {
        let settings =
            CountySettings { seed: *seed, sightings: rows, days: *days, error_rate, start: START };
        County::with_sites(settings, *sites)
    };
    let mut curve = Vec::new();
    for rows in rows {
        curve.push(cost(&county(*rows, 0.01)?)?);
    }
    let largest = rows.iter().copied().max().unwrap_or(1).min(*quality_rows);
    let mut by_error = Vec::new();
    let (mut convoy, mut forecast, mut cameras) = (None, None, None);
    for error_rate in ERROR_RATES {
        let county = county(largest, error_rate)?;
        let world = World::of(&county)?;
        by_error.push(clones(&world, error_rate)?);
        if error_rate == ERROR_RATES[0] {
            convoy = Some(convoys(&county, &world)?);
            forecast = Some(forecasts(&county, &world)?);
        }
        if error_rate == ERROR_RATES[1] {
            cameras = Some(camera_figures(&county, &world));
        }
    }
    let first = by_error.first().context("no error rate")?.quality;
    Ok(TacticsFigures {
        seconds: curve.last().context("give --rows")?.seconds.clone(),
        curve,
        clone: CloneFigures { precision: first.precision, recall: first.recall, by_error },
        convoy: convoy.context("no convoys")?,
        forecast: forecast.context("no forecasts")?,
        cameras: cameras.context("no cameras")?,
    })
}

/// A county's sightings as the tactics see them, with more clones planted.
struct World {
    index: PassageIndex,
    positions: HashMap<CameraId, GeoPoint>,
    /// Of each plate, in order of time.
    sightings: HashMap<PlateText, Vec<PlateSighting>>,
    /// Plates that two vehicles bear.
    cloned: HashSet<PlateText>,
    /// Reads and misreads by camera.
    reads: HashMap<CameraId, (u32, u32)>,
    /// True errors of the clocks, seconds.
    clocks: HashMap<CameraId, f64>,
}

impl World {
    fn of(county: &County) -> Result<Self> {
        let pairs = planted(county);
        let mut world = Self {
            index: PassageIndex::default(),
            positions: positions(county),
            sightings: HashMap::new(),
            cloned: pairs
                .values()
                .map(|original| county.vehicle(*original).plate.clone())
                .collect(),
            reads: HashMap::new(),
            clocks: HashMap::new(),
        };
        world.cloned.extend(county.clones().iter().map(|clone| clone.plate.clone()));
        let mut builder = PassageIndexBuilder::default();
        for passage in county.passages() {
            let (mut sighting, truth) = (passage.sighting, passage.truth);
            let off = sighting.captured.at.as_secs_f64() - truth.passed.as_secs_f64();
            world.clocks.entry(sighting.camera.clone()).or_insert(off);
            let PlateState::Read(read) = &mut sighting.plate else { continue };
            let reads = world.reads.entry(sighting.camera.clone()).or_default();
            (reads.0, reads.1) = (reads.0 + 1, reads.1 + u32::from(truth.misread));
            if let Some(original) = pairs.get(&truth.vehicle) {
                let plate = &county.vehicle(*original).plate;
                read.lattice = replated(&read.lattice, &truth.plate, plate)?;
                read.text = swapped(&read.text, &truth.plate, plate)?;
            }
            let plate = read.text.clone();
            builder.add(&plate, &sighting.camera, sighting.captured.at)?;
            let seen = PlateSighting::of(&sighting).context("a read plate")?;
            world.sightings.entry(plate).or_default().push(seen);
        }
        world.index = builder.build();
        Ok(world)
    }
}

fn positions(county: &County) -> HashMap<CameraId, GeoPoint> {
    county.cameras().iter().map(|camera| (camera.id.clone(), camera.position)).collect()
}

/// Copies and their originals: active vehicles of one kind and class, in no other planting.
fn planted(county: &County) -> HashMap<VehicleId, VehicleId> {
    let taken: HashSet<VehicleId> = county
        .convoys()
        .iter()
        .flat_map(|convoy| convoy.vehicles.iter().copied())
        .chain(county.clones().iter().flat_map(|clone| [clone.original, clone.clone]))
        .collect();
    let active = (0..)
        .zip(county.vehicles())
        .filter(|(id, vehicle)| !taken.contains(id) && (2.5..8.0).contains(&vehicle.trips_a_day));
    let mut waiting = HashMap::new();
    let mut pairs = HashMap::new();
    for (id, vehicle) in active {
        if pairs.len() >= PLANTED {
            break;
        }
        match waiting.remove(&(vehicle.kind, vehicle.class)) {
            Some(original) => drop(pairs.insert(id, original)),
            None => drop(waiting.insert((vehicle.kind, vehicle.class), id)),
        }
    }
    pairs
}

/// A character of one plate for that of the other at the same place, and the other way round.
fn swap(c: PlateChar, own: Option<PlateChar>, other: Option<PlateChar>) -> PlateChar {
    match (own, other) {
        (Some(own), Some(other)) if c == own => other,
        (Some(own), Some(other)) if c == other => own,
        _ => c,
    }
}

fn swapped(text: &PlateText, own: &PlateText, other: &PlateText) -> Result<PlateText> {
    let (mut own, mut other) = (own.chars(), other.chars());
    let chars: Vec<_> = text.chars().map(|c| swap(c, own.next(), other.next())).collect();
    PlateText::from_chars(&chars).context("a plate with other characters is a plate")
}

fn replated(lattice: &Lattice, own: &PlateText, other: &PlateText) -> Result<Lattice> {
    let (mut own, mut other) = (own.chars(), other.chars());
    let mut positions = Vec::new();
    for position in lattice.positions() {
        let (own, other) = (own.next(), other.next());
        let change = |c: &Candidate| Candidate {
            character: c.character.map(|character| swap(character, own, other)),
            probability: c.probability,
        };
        positions.push(Position::new(position.candidates().iter().map(change))?);
    }
    Ok(Lattice::new(positions)?)
}

fn clones(world: &World, error_rate: f64) -> Result<CloneAtError> {
    let World { index, positions, .. } = world;
    let travel = TravelTimes::learn(index, HORIZON)?;
    let roads = Roads { travel: &travel, positions };
    let clocks = clock_offsets(index, positions);
    let mut found = HashSet::new();
    for suspect in suspects(index, positions, TimeSpan::ALL, &SuspectSettings::default()) {
        let plate = index.plate(suspect.vehicle).context("a plate of the index")?;
        let Some(all) = world.sightings.get(plate) else { continue };
        let places = telling(&suspect, all.len());
        let mut sightings: Vec<_> =
            places.iter().filter_map(|place| all.get(*place)).cloned().collect();
        for sighting in &mut sightings {
            let clock = index.camera(&sighting.camera).and_then(|c| clocks[c.number()]);
            sighting.set_right(clock);
            sighting.weigh_rivals(plate, index, roads);
        }
        if judge(&sightings, roads, &CloneSettings::default())?.finding == Finding::Clone {
            found.insert(plate.clone());
        }
    }
    let quality = Quality::of(&found, &world.cloned);
    let rule = |kmh: f64| {
        let settings =
            SuspectSettings { least_kmh: kmh, slack: Duration::ZERO, ..SuspectSettings::default() };
        let suspects = suspects(index, positions, TimeSpan::ALL, &settings);
        let plates: HashSet<_> =
            suspects.iter().filter_map(|s| index.plate(s.vehicle).cloned()).collect();
        (kmh, Quality::of(&plates, &world.cloned))
    };
    let mean = |q: &Quality| q.precision + q.recall;
    let (fixed_speed_kmh, fixed_speed) = [100.0, 120.0, 150.0, 200.0]
        .map(rule)
        .into_iter()
        .max_by(|a, b| mean(&a.1).total_cmp(&mean(&b.1)))
        .context("no rule")?;
    Ok(CloneAtError { error_rate, quality, fixed_speed, fixed_speed_kmh })
}

/// Every member of a convoy is asked for its company, and as many vehicles that have none.
fn convoys(county: &County, world: &World) -> Result<Quality> {
    const STRANGERS: usize = 200;
    let index = &world.index;
    let key = |id: &VehicleId| index.vehicle(&county.vehicle(*id).plate);
    let (mut truth, mut targets) = (HashSet::new(), Vec::new());
    for convoy in county.convoys() {
        let members: Vec<_> = convoy.vehicles.iter().filter_map(key).collect();
        for a in &members {
            targets.push(*a);
            truth.extend(members.iter().filter(|b| *b != a).map(|b| (*a, *b)));
        }
    }
    let members: HashSet<_> = targets.iter().copied().collect();
    let every = (index.vehicle_keys().len() / STRANGERS).max(1);
    let strangers = index.vehicle_keys().step_by(every);
    targets.extend(strangers.filter(|v| !members.contains(v)));
    let mut found = HashSet::new();
    for target in targets {
        let points = index.way(target).times.len();
        if points > guiji_analysis::tactics::convoy::POINTS_MAX {
            continue;
        }
        let settings = ConvoySettings::default();
        for companion in companions(index, target, TimeSpan::ALL, &settings)?.found {
            found.insert((target, companion.vehicle));
        }
    }
    Ok(Quality::of(&found, &truth))
}

/// Where it is worth waiting for a vehicle: what it passes within this time after its last sighting.
const AHEAD: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(900)];

/// A vehicle on its way, and what came.
struct Case<'a> {
    plate: &'a PlateText,
    at: Timestamp,
    /// Latest first, the last sighting included.
    drive: Vec<CameraId>,
    /// The rest of its passages.
    then: &'a [(Timestamp, CameraKey)],
}

/// Learns from all days but the last, and forecasts the last.
fn forecasts(county: &County, world: &World) -> Result<ForecastFigures> {
    const CASES: usize = 20_000;
    let World { index, positions, .. } = world;
    let days = county.settings().days;
    let last_day = county.midnight(days.saturating_sub(1));
    let past = {
        let until = TimeSpan::new(Timestamp::MIN, last_day)?;
        let mut builder = PassageIndexBuilder::default();
        for (vehicle, plate) in index.vehicle_keys().zip(index.plates()) {
            for (at, camera) in index.way(vehicle).within(until).iter() {
                builder.add(plate, index.camera_id(camera).context("a camera")?, at)?;
            }
        }
        builder.build()
    };
    let model = Forecaster::learn(&past, positions, HORIZON, Smoothing::default())?;
    let frequencies = model.clone().with(Smoothing::FIRST_ORDER_ONLY);
    let whole = index.vehicle_keys().map(|v| index.way(v).times.len()).sum::<usize>();
    let every = (whole / days as usize / CASES).max(1);
    let [mut ours, mut first, mut near, mut redrawn] = [Score::default(); 4];
    let mut waiting = Waiting::default();
    let nobody = Habit::default();
    let mut count = 0_usize;
    each_case(index, last_day, |case| {
        count += 1;
        if !count.is_multiple_of(every) {
            return Ok(());
        }
        let (came, next) = case.then[0];
        let next = index.camera_id(next).context("a camera")?;
        let (camera, before) = case.drive.split_first().context("a drive has a camera")?;
        let at = case.at;
        let seen = LastSeen { before, camera, at };
        let habit = past
            .vehicle(case.plate)
            .map_or_else(Habit::default, |v| model.habit(&past, v, at, |_, _| true));
        ours.add(&model.redraw(seen, &habit, at, |_| 1.0), next, came);
        first.add(&frequencies.forecast(seen), next, came);
        near.add(&nearest(camera, at, positions), next, came);
        // Two thirds of the usual time later it had not come: of those forecasts, too, four in five must hold.
        let waited = at.plus(Duration::from_secs(60));
        if came > waited {
            redrawn.add(&model.redraw(seen, &habit, waited, |_| 0.95), next, came);
        }
        // Long walks over all ways: of every eighth.
        if count.is_multiple_of(8 * every) {
            let [soonest, latest] = AHEAD;
            let span = TimeSpan::new(at.plus(soonest), at.plus(latest))?;
            let passed = case.then.iter().filter(|(t, _)| span.contains(*t));
            let passed: HashSet<_> =
                passed.filter_map(|(_, camera)| index.camera_id(*camera)).collect();
            if !passed.is_empty() {
                let by_distance = nearest(camera, at, positions).next;
                waiting.add(
                    &passed,
                    [
                        model.ahead(seen, &habit, soonest, latest),
                        frequencies.ahead(seen, &nobody, soonest, latest),
                        by_distance.into_iter().map(|n| (n.camera, n.probability)).collect(),
                    ],
                );
            }
        }
        Ok(())
    })?;
    let share = |n: u32, of: u32| f64::from(n) / f64::from(of.max(1));
    Ok(ForecastFigures {
        precision: ours.top_1(),
        recall: share(ours.named, ours.cases),
        top3: ours.top_3(),
        first_order_top3: first.top_3(),
        nearest_top3: near.top_3(),
        ours: waiting.quality(&ours, 0),
        first_order: waiting.quality(&first, 1),
        nearest: waiting.quality(&near, 2),
        window_share: ours.window_share(),
        redrawn_window_share: redrawn.window_share(),
        redrawn_top3: redrawn.top_3(),
        cases: ours.cases,
    })
}

/// Calls for every passage since a time after which the vehicle was seen again within the horizon.
fn each_case(
    index: &PassageIndex,
    since: Timestamp,
    mut each: impl FnMut(Case<'_>) -> Result<()>,
) -> Result<()> {
    for (vehicle, plate) in index.vehicle_keys().zip(index.plates()) {
        let rows: Vec<_> = index.way(vehicle).iter().collect();
        let joined = |i: usize| rows[i + 1].0.since(rows[i].0) <= HORIZON;
        for i in (0..rows.len().saturating_sub(1)).filter(|i| rows[*i].0 >= since && joined(*i)) {
            let begins = (0..i).rev().find(|j| !joined(*j)).map_or(0, |j| j + 1);
            let drive = rows[begins..=i].iter().rev();
            let drive = drive.filter_map(|(_, camera)| index.camera_id(*camera).cloned()).collect();
            each(Case { plate, at: rows[i].0, drive, then: &rows[i + 1..] })?;
        }
    }
    Ok(())
}

/// How often one of the three cameras at which it was waited for was passed: by model, first order and distance.
#[derive(Default)]
struct Waiting {
    cases: u32,
    met: [u32; 3],
}

impl Waiting {
    fn add(&mut self, passed: &HashSet<&CameraId>, named: [Vec<(CameraId, f64)>; 3]) {
        self.cases += 1;
        for (met, named) in self.met.iter_mut().zip(named) {
            *met += u32::from(named.iter().take(3).any(|(camera, _)| passed.contains(camera)));
        }
    }

    fn quality(&self, score: &Score, by: usize) -> ForecastQuality {
        ForecastQuality {
            top1: score.top_1(),
            top3: score.top_3(),
            log_loss: score.log_loss(),
            met_in_5_to_15_min: f64::from(self.met[by]) / f64::from(self.cases.max(1)),
        }
    }
}

/// The nearest cameras of other crossings, at 20 to 60 km/h.
fn nearest(camera: &CameraId, at: Timestamp, positions: &HashMap<CameraId, GeoPoint>) -> Forecast {
    const CROSSING_M: f64 = 60.0;
    let mut others: Vec<(f64, _)> = positions
        .get(camera)
        .map(|here| {
            let others = positions.iter().map(|(id, place)| (here.distance_m(place), id));
            others.filter(|(metres, _)| *metres > CROSSING_M).collect()
        })
        .unwrap_or_default();
    others.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
    let next = others.into_iter().take(3).map(|(metres, camera)| {
        let after = |kmh: f64| at.plus(Duration::from_secs_f64(metres / kmh * 3.6));
        let window = TimeSpan::at(after(60.0)).including(after(20.0));
        Next { camera: camera.clone(), probability: 0.25, window, median: after(40.0) }
    });
    Forecast { next: next.collect(), ended: 0.0, passed_unseen: 0.0, elsewhere: 0.25 }
}

fn camera_figures(county: &County, world: &World) -> CameraFigures {
    const OFF_S: f64 = 2.0;
    let World { index, positions, reads, clocks, .. } = world;
    let grades = grade_cameras(index, positions, &HashMap::new(), &GradeSettings::default());
    let id = |camera: CameraKey| index.camera_id(camera).cloned();
    let (mut wrong, mut found, mut squares) = (HashSet::new(), HashSet::new(), Vec::new());
    let mut misreads = Vec::new();
    let (mut out, mut silent) = (HashSet::new(), HashSet::new());
    let days = f64::from(county.settings().days);
    for grade in &grades {
        let Some(camera) = id(grade.camera) else { continue };
        if let (Some(clock), Some(truth)) = (grade.clock, clocks.get(&camera)) {
            squares.push((clock.offset_s - truth).powi(2));
            if truth.abs() > OFF_S {
                wrong.insert(camera.clone());
            }
            if clock.is_wrong() {
                found.insert(camera.clone());
            }
        }
        if let Some((all, misread)) = reads.get(&camera).filter(|(all, _)| *all >= 200) {
            misreads.push((grade.reads.misread(), f64::from(*misread) / f64::from(*all)));
        }
        let busy = f64::from(grade.reads.all) / days / 24.0 >= 20.0;
        if !busy {
            continue;
        }
        let hours = |span: &TimeSpan| {
            let hour = |at: Timestamp| at.as_nanos().div_euclid(3_600_000_000_000);
            hour(span.first())..hour(span.last())
        };
        let hours_of =
            |span: &TimeSpan| hours(span).map(|h| (camera.clone(), h)).collect::<Vec<_>>();
        silent.extend(grade.silent.iter().flat_map(hours_of));
        let number = county.cameras().iter().position(|c| c.id == camera).unwrap_or_default();
        for outage in (0..county.settings().days).filter_map(|day| county.outage(number, day)) {
            // Whole hours within it, of daytime, in which something was to be expected.
            let whole = hours(&outage.span);
            let day = |h: &i64| (6..20).contains(&((h + 8).rem_euclid(24)));
            out.extend((whole.start + 1..whole.end).filter(day).map(|h| (camera.clone(), h)));
        }
    }
    let day_only = |(_, h): &(CameraId, i64)| (6..20).contains(&((h + 8).rem_euclid(24)));
    silent.retain(day_only);
    CameraFigures {
        clocks: Quality::of(&found, &wrong),
        clock_rms_s: (squares.iter().sum::<f64>() / squares.len().max(1) as f64).sqrt(),
        misread_rank_correlation: rank_correlation(&misreads),
        outages: Quality::of(&silent, &out),
    }
}

/// Spearman's: the correlation of the ranks.
fn rank_correlation(pairs: &[(f64, f64)]) -> f64 {
    let ranks = |of: fn(&(f64, f64)) -> f64| {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_by(|a, b| of(&pairs[*a]).total_cmp(&of(&pairs[*b])));
        let mut ranks = vec![0.0; pairs.len()];
        order.into_iter().enumerate().for_each(|(rank, i)| ranks[i] = rank as f64);
        ranks
    };
    let (a, b) = (ranks(|p| p.0), ranks(|p| p.1));
    let mean = (pairs.len() as f64 - 1.0) / 2.0;
    let covariance = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let spread = (covariance(&a, &a) * covariance(&b, &b)).sqrt();
    if spread > 0.0 { covariance(&a, &b) / spread } else { 0.0 }
}

/// Seconds of each tactic over a county's passages.
fn cost(county: &County) -> Result<Cost> {
    let mut builder = PassageIndexBuilder::default();
    let mut build = Duration::ZERO;
    for passage in county.passages() {
        let sighting = &passage.sighting;
        let Some(plate) = sighting.plate_text() else { continue };
        let begun = Instant::now();
        builder.add(plate, &sighting.camera, sighting.captured.at)?;
        build += begun.elapsed();
    }
    let begun = Instant::now();
    let index = builder.build();
    build += begun.elapsed();
    let mut seconds = BTreeMap::from([("build_index", build.as_secs_f64())]);
    let positions = positions(county);
    let begun = Instant::now();
    let model = Forecaster::learn(&index, &positions, HORIZON, Smoothing::default())?;
    seconds.insert("learn", begun.elapsed().as_secs_f64());
    let roads = Roads { travel: model.travel(), positions: &positions };
    let span = index.span().unwrap_or(TimeSpan::ALL);
    let cameras: Vec<CameraKey> = index.camera_keys().collect();
    let mut vehicles: Vec<VehicleKey> =
        index.vehicle_keys().filter(|v| (30..=500).contains(&index.way(*v).times.len())).collect();
    let every = (vehicles.len() / QUESTIONS).max(1);
    vehicles = vehicles.into_iter().step_by(every).take(QUESTIONS).collect();
    let mut time = |name, ask: &dyn Fn(VehicleKey) -> Result<()>| -> Result<()> {
        let mut took = Vec::new();
        for vehicle in &vehicles {
            let begun = Instant::now();
            ask(*vehicle)?;
            took.push(begun.elapsed().as_secs_f64());
        }
        took.sort_by(f64::total_cmp);
        seconds.insert(name, took.get(took.len() / 2).copied().unwrap_or(0.0));
        Ok(())
    };
    time("convoy", &|v| {
        companions(&index, v, span, &ConvoySettings::default())?;
        Ok(())
    })?;
    let areas: Vec<Area> = (0..8)
        .map(|i| Area { cameras: cameras.iter().copied().skip(i).step_by(40).collect(), span })
        .collect();
    time("collision", &|_| {
        collisions(&index, &areas, 8, 1000)?;
        Ok(())
    })?;
    let day = Duration::from_secs(86_400);
    let window = TimeSpan::new(span.last().minus(day).max(span.first()), span.last())?;
    time("first_entry", &|_| {
        let absence = window.first().since(span.first());
        first_entries(&index, &cameras, window, absence, span.first(), 1000)?;
        Ok(())
    })?;
    time("night", &|_| {
        night_active(&index, span, &NightSettings::default())?;
        Ok(())
    })?;
    time("frequent", &|_| {
        frequent(&index, &cameras[..cameras.len().min(50)], span, 20, HORIZON, 1000)?;
        Ok(())
    })?;
    time("stops", &|v| {
        stop_places(&index, v, span, roads, &StopSettings::default());
        Ok(())
    })?;
    time("card", &|v| {
        vehicle_card(&index, v, span, 10, roads, &StopSettings::default());
        Ok(())
    })?;
    time("forecast", &|v| {
        let Some((at, camera)) = index.way(v).iter().next_back() else { return Ok(()) };
        let camera = index.camera_id(camera).context("a camera")?;
        let habit = model.habit(&index, v, at, |_, _| true);
        model.redraw(LastSeen { before: &[], camera, at }, &habit, at, |_| 1.0);
        Ok(())
    })?;
    time("section_speed", &|v| {
        let times = index.way(v).times;
        let ends = [times.first(), times.last()].map(|at| CaptureTime {
            at: at.copied().unwrap_or(Timestamp::EPOCH),
            uncertainty: Duration::from_millis(100),
            source: ClockSource::Rtcp,
        });
        let length = SectionLength { metres: 1000.0, error_m: 5.0 };
        let said = SectionSpeed::between(ends[0], ends[1], length, f64::INFINITY);
        std::hint::black_box(&said);
        Ok(())
    })?;
    // The most sightings that are judged at once.
    time("clone_judge", &|v| {
        let all = index.way(v).iter().take(SIGHTINGS_MAX);
        let seen = all.filter_map(|(at, camera)| {
            Some(PlateSighting {
                camera: index.camera_id(camera)?.clone(),
                captured: CaptureTime {
                    at,
                    uncertainty: Duration::from_millis(100),
                    source: ClockSource::Rtcp,
                },
                misread: 0.01,
                others: Vec::new(),
                clock_known: true,
                vehicle: Vehicle { class: None, colour: None },
            })
        });
        judge(&seen.collect::<Vec<_>>(), roads, &CloneSettings::default())?;
        Ok(())
    })?;
    let begun = Instant::now();
    suspects(&index, &positions, span, &SuspectSettings::default());
    seconds.insert("clone_search", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    grade_cameras(&index, &positions, &HashMap::new(), &GradeSettings::default());
    seconds.insert("cameras", begun.elapsed().as_secs_f64());
    Ok(Cost { rows: county.settings().sightings, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plate_given_to_another_vehicle_keeps_its_doubts() {
        let plate = |text| PlateText::parse(text).unwrap();
        let (own, other) = (plate("浙J12345"), plate("浙JA2245"));
        assert_eq!(swapped(&plate("浙J12345"), &own, &other).unwrap(), other);
        assert_eq!(swapped(&plate("浙J12845"), &own, &other).unwrap(), plate("浙JA2845"));
        let lattice = replated(&Lattice::certain(&own), &own, &other).unwrap();
        assert!(lattice.probability(&other) > 0.99);
    }

    #[test]
    fn ranks_that_agree_correlate() {
        assert!((rank_correlation(&[(1.0, 3.0), (2.0, 4.0), (9.0, 5.0)]) - 1.0).abs() < 1e-9);
        assert!((rank_correlation(&[(1.0, 5.0), (2.0, 4.0), (9.0, 3.0)]) + 1.0).abs() < 1e-9);
    }
}
