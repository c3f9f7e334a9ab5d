//! `guiji query convoy`, `collision`, `clone` and the other tactics, as tables for people or as JSON for programs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use guiji_api::client::Client;
use guiji_api::convert::{duration_to_pb, timestamp_to_pb};
use guiji_api::pb;
use guiji_domain::Clock as _;

use crate::clock::{SystemClock, parse_time_or_ago};
use crate::query::{
    SIGHTING_HEAD, Window, bare, circle, found, json_line, line, pb_time, seconds, sighting_row,
    words,
};

/// The tactics.
#[derive(Debug, Subcommand)]
pub(crate) enum Tactic {
    /// 伴随车: who travels with a vehicle, more often than chance makes company.
    Convoy {
        /// The whole plate.
        plate: String,
        #[command(flatten)]
        window: Window,
        /// Fewest common points.
        #[arg(long, default_value_t = 3)]
        points: u32,
        /// Longest time between the two at a point, seconds.
        #[arg(long, default_value_t = 60)]
        apart: u64,
        /// Highest probability by chance.
        #[arg(long, default_value_t = 0.01)]
        chance: f64,
        #[command(flatten)]
        limit: Limit,
    },
    /// 区域碰撞: who was in several areas at their times.
    Collision {
        /// An area: PLACE,FROM,TO where PLACE is camera+camera+... or LAT:LON:METRES; up to 8 times.
        #[arg(long = "area", required = true, value_name = "PLACE,FROM,TO")]
        areas: Vec<String>,
        /// In at least so many of them; all without this.
        #[arg(long, default_value_t = 0)]
        least: u32,
        #[command(flatten)]
        limit: Limit,
    },
    /// 首次入城: who came in after a long absence. Needs a supervisor's release.
    FirstEntry {
        #[command(flatten)]
        place: PlaceArguments,
        #[command(flatten)]
        window: Window,
        /// Not seen for so many days before.
        #[arg(long, default_value_t = 7.0)]
        absence_days: f64,
        #[command(flatten)]
        limit: Limit,
    },
    /// 昼伏夜出: who moves by night and rests by day. Needs a supervisor's release.
    Night {
        #[command(flatten)]
        window: Window,
        /// Active in at least so many nights.
        #[arg(long, default_value_t = 3)]
        nights: u32,
        /// At least this share of active nights and days are nights.
        #[arg(long, default_value_t = 0.8)]
        share: f64,
        #[command(flatten)]
        limit: Limit,
    },
    /// 频繁过车: who passes a place again and again. Needs a supervisor's release.
    Frequent {
        #[command(flatten)]
        place: PlaceArguments,
        #[command(flatten)]
        window: Window,
        /// At least so many times.
        #[arg(long, default_value_t = 10)]
        times: u32,
        #[command(flatten)]
        limit: Limit,
    },
    /// 落脚点: where a vehicle stays.
    Stops {
        /// The whole plate.
        plate: String,
        #[command(flatten)]
        window: Window,
        /// Shortest stop, minutes.
        #[arg(long, default_value_t = 30)]
        minutes: u64,
    },
    /// 一车一档: what is known of a vehicle.
    Card {
        /// The whole plate.
        plate: String,
        #[command(flatten)]
        window: Window,
    },
    /// 区间测速: the speed between two sightings as an interval, or why there is none.
    SectionSpeed {
        /// The earlier sighting.
        from: String,
        /// The later one, of the same plate.
        to: String,
        /// Length of the road between them, metres.
        #[arg(long)]
        length_m: f64,
        /// How far that may be off, metres.
        #[arg(long, default_value_t = 0.0)]
        length_error_m: f64,
        /// The speed limit, km/h.
        #[arg(long)]
        limit_kmh: Option<f64>,
        /// Widest interval taken: half its width over the speed.
        #[arg(long, default_value_t = 0.05)]
        error_max: f64,
    },
    /// 套牌: is this plate cloned, or, without a plate, which are?
    Clone {
        /// The whole plate; all suspects without one.
        plate: Option<String>,
        #[command(flatten)]
        window: Window,
        /// Also suspects that are cleared.
        #[arg(long)]
        cleared: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Where a vehicle will be seen next, or where to look when it did not come.
    Forecast {
        /// The whole plate.
        plate: String,
        /// As of this time: RFC 3339, or before now: 15m. Without it, now.
        #[arg(long)]
        at: Option<String>,
        /// Open closed cameras along its way for so many minutes.
        #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=720))]
        open: Option<u64>,
    },
    /// Which cameras misread, have a wrong clock or were silent, the costliest first.
    Grades {
        /// Also cameras without faults.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Release a tactic over many people's vehicles for somebody else, for the case. For supervisors.
    Release {
        /// Which.
        #[arg(value_enum)]
        tactic: Pattern,
        /// Who may ask it then.
        #[arg(long = "for")]
        officer: String,
        /// For so many hours.
        #[arg(long, default_value_t = 24)]
        hours: u64,
    },
}

/// Tactics that need a release.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Pattern {
    FirstEntry,
    Night,
    Frequent,
}

#[derive(Debug, Args)]
pub(crate) struct Limit {
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

impl Limit {
    /// The size of a page when so many are there already; `None` when that is enough.
    fn page(&self, have: usize) -> Option<i32> {
        let rest = self.limit.saturating_sub(have).min(1000);
        i32::try_from(rest).ok().filter(|rest| *rest > 0)
    }
}

/// Cameras by name or place; every camera without.
#[derive(Debug, Args)]
pub(crate) struct PlaceArguments {
    /// At this camera; may be given again.
    #[arg(long)]
    camera: Vec<String>,
    /// Within a circle: LAT,LON,METRES.
    #[arg(long, value_name = "LAT,LON,METRES")]
    near: Option<String>,
}

impl PlaceArguments {
    fn choice(&self) -> Result<pb::CameraChoice> {
        Ok(pb::CameraChoice {
            cameras: self.camera.iter().map(|id| format!("cameras/{id}")).collect(),
            area: self.near.as_deref().map(circle).transpose()?,
        })
    }
}

/// `k1+k2,2026-01-05T08:00:00+08:00,2026-01-05T09:00:00+08:00`.
fn collision_area(text: &str) -> Result<pb::CollisionArea> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [place, from, to] = parts[..] else {
        bail!("--area {text:?}: give PLACE,FROM,TO");
    };
    let now = SystemClock.now();
    let time = |text| Ok::<_, anyhow::Error>(Some(timestamp_to_pb(parse_time_or_ago(text, now)?)));
    let place = match place.contains(':') {
        true => {
            pb::CameraChoice { cameras: Vec::new(), area: Some(circle(&place.replace(':', ","))?) }
        }
        false => pb::CameraChoice {
            cameras: place.split('+').map(|id| format!("cameras/{id}")).collect(),
            area: None,
        },
    };
    Ok(pb::CollisionArea { place: Some(place), start_time: time(from)?, end_time: time(to)? })
}

/// Asks page after page until there are enough, and prints each finding.
macro_rules! pages {
    ($client:ident . $method:ident, $request:expr, $limit:expr, $list:ident, $json:expr, $row:expr) => {{
        let (mut page_token, mut count, mut coverage) = (String::new(), 0, None);
        while let Some(page_size) = $limit.page(count) {
            let mut request = $request.clone();
            (request.page_size, request.page_token) = (page_size, page_token);
            let page = $client.$method(request).await?;
            count += page.$list.len();
            for finding in &page.$list {
                if $json { json_line(finding)? } else { $row(finding)? }
            }
            (page_token, coverage) = (page.next_page_token, page.coverage);
            if page_token.is_empty() {
                break;
            }
        }
        if !$json {
            rests_on(coverage.as_ref())?;
        }
        Ok(found(count > 0))
    }};
}

/// Says what an answer rests on.
fn rests_on(coverage: Option<&pb::PassageCoverage>) -> Result<()> {
    let Some(coverage) = coverage else { return Ok(()) };
    let time = |time: &Option<pb::Timestamp>| time.as_ref().map(pb_time).unwrap_or_default();
    line(format_args!(
        "from {} passages, {} to {}",
        coverage.passage_count,
        time(&coverage.since_time),
        time(&coverage.until_time)
    ))?;
    if coverage.cut_short {
        line(
            "what was asked about begins earlier: the server keeps no older passages at hand ([tactics] days)",
        )?;
    }
    Ok(())
}

fn point(point: Option<&pb::PassagePoint>) -> String {
    point.map_or_else(String::new, |point| {
        let time = point.time.as_ref().map(pb_time).unwrap_or_default();
        format!("{time}  {:<10}", bare(&point.camera))
    })
}

/// Asks a tactic.
pub(crate) async fn run(client: &Client, json: bool, tactic: Tactic) -> Result<ExitCode> {
    match tactic {
        Tactic::Convoy { plate, window, points, apart, chance, limit } => {
            let [start_time, end_time] = window.ends_pb()?;
            let request = pb::FindConvoysRequest {
                plate,
                start_time,
                end_time,
                apart: Some(duration_to_pb(Duration::from_secs(apart))),
                points_min: points,
                chance_max: Some(chance),
                ..Default::default()
            };
            if !json {
                line("plate      met   by chance  first and last meeting")?;
            }
            let row = |companion: &pb::Companion| {
                let at = |meeting: Option<&pb::Meeting>| {
                    meeting.map_or_else(String::new, |m| {
                        let time = m.target_time.as_ref().map(pb_time).unwrap_or_default();
                        format!("{time} {}", bare(&m.camera))
                    })
                };
                line(format_args!(
                    "{:<9} {:>4}  {:>9.1e}  {}  {}",
                    companion.plate,
                    companion.meeting_count,
                    companion.chance,
                    at(companion.meetings.first()),
                    at(companion.meetings.last())
                ))
            };
            pages!(client.find_convoys, request, limit, companions, json, row)
        }
        Tactic::Collision { areas, least, limit } => {
            let areas = areas.iter().map(|area| collision_area(area)).collect::<Result<_>>()?;
            let request =
                pb::FindCollisionsRequest { areas, areas_min: least, ..Default::default() };
            let row = |collision: &pb::Collision| {
                line(&collision.plate)?;
                collision.first_seen.iter().try_for_each(|seen| {
                    let passage = point(seen.passage.as_ref());
                    line(format_args!("  area {}  {passage}", seen.area_index + 1))
                })
            };
            pages!(client.find_collisions, request, limit, collisions, json, row)
        }
        Tactic::FirstEntry { place, window, absence_days, limit } => {
            let [start_time, end_time] = window.ends_pb()?;
            let absence = Duration::try_from_secs_f64(absence_days * 86_400.0)
                .context("--absence-days: give days of 0 or more")?;
            let request = pb::ListFirstEntriesRequest {
                place: Some(place.choice()?),
                start_time,
                end_time: end_time.or_else(|| Some(timestamp_to_pb(SystemClock.now()))),
                absence: Some(duration_to_pb(absence)),
                ..Default::default()
            };
            let row = |entry: &pb::FirstEntry| {
                let last = entry.last_seen_time.as_ref();
                let last = last.map_or_else(|| "never before".to_owned(), pb_time);
                let passage = point(entry.passage.as_ref());
                line(format_args!("{:<9}  {passage}  last seen {last}", entry.plate))
            };
            pages!(client.list_first_entries, request, limit, entries, json, row)
        }
        Tactic::Night { window, nights, share, limit } => {
            let [start_time, end_time] = window.ends_pb()?;
            let request = pb::ListNightActiveRequest {
                start_time,
                end_time,
                nights_min: nights,
                share_min: Some(share),
                ..Default::default()
            };
            if !json {
                line("plate      nights  days  passages by night  by day")?;
            }
            let row = |vehicle: &pb::NightActivity| {
                line(format_args!(
                    "{:<9} {:>7} {:>5} {:>18} {:>7}",
                    vehicle.plate,
                    vehicle.night_count,
                    vehicle.day_count,
                    vehicle.night_passage_count,
                    vehicle.day_passage_count
                ))
            };
            pages!(client.list_night_active, request, limit, vehicles, json, row)
        }
        Tactic::Frequent { place, window, times, limit } => {
            let [start_time, end_time] = window.ends_pb()?;
            let request = pb::ListFrequentRequest {
                place: Some(place.choice()?),
                start_time,
                end_time,
                times_min: times,
                ..Default::default()
            };
            let row = |vehicle: &pb::FrequentVehicle| {
                let time =
                    |time: &Option<pb::Timestamp>| time.as_ref().map(pb_time).unwrap_or_default();
                line(format_args!(
                    "{:<9} {:>5} times, {} to {}",
                    vehicle.plate,
                    vehicle.passage_count,
                    time(&vehicle.first_time),
                    time(&vehicle.last_time)
                ))
            };
            pages!(client.list_frequent, request, limit, vehicles, json, row)
        }
        Tactic::Stops { plate, window, minutes } => {
            let [start_time, end_time] = window.ends_pb()?;
            let request = pb::ListStopsRequest {
                plate,
                start_time,
                end_time,
                dwell_min: Some(duration_to_pb(Duration::from_secs(60 * minutes))),
                ..Default::default()
            };
            let answer = client.list_stops(request).await?;
            for place in &answer.places {
                if json { json_line(place)? } else { stop_place(place)? }
            }
            if !json {
                rests_on(answer.coverage.as_ref())?;
            }
            Ok(found(!answer.places.is_empty()))
        }
        Tactic::Card { plate, window } => {
            let [start_time, end_time] = window.ends_pb()?;
            let request =
                pb::GetVehicleCardRequest { plate, start_time, end_time, ..Default::default() };
            let answer = client.get_vehicle_card(request).await?;
            let card = answer.card.context("the answer has no card")?;
            if json {
                json_line(&card)?;
                return Ok(found(true));
            }
            show_card(&card)?;
            rests_on(answer.coverage.as_ref())?;
            Ok(found(true))
        }
        Tactic::SectionSpeed { from, to, length_m, length_error_m, limit_kmh, error_max } => {
            let request = pb::MeasureSectionSpeedRequest {
                from_sighting: format!("sightings/{}", bare(&from)),
                to_sighting: format!("sightings/{}", bare(&to)),
                length_m,
                length_error_m,
                limit_kmh,
                relative_error_max: Some(error_max),
                ..Default::default()
            };
            section_speed(client, json, request).await
        }
        Tactic::Clone { plate: Some(plate), window, .. } => {
            let [start_time, end_time] = window.ends_pb()?;
            let request =
                pb::JudgeCloneRequest { plate, start_time, end_time, ..Default::default() };
            let answer = client.judge_clone(request).await?;
            let verdict = answer.verdict.context("the answer has no verdict")?;
            if json {
                json_line(&verdict)?;
            } else {
                show_verdict(&verdict)?;
                rests_on(answer.coverage.as_ref())?;
            }
            Ok(found(verdict.finding() == pb::CloneFinding::Clone))
        }
        Tactic::Clone { plate: None, window, cleared, limit } => {
            let [start_time, end_time] = window.ends_pb()?;
            let request = pb::ListClonesRequest {
                start_time,
                end_time,
                include_cleared: cleared,
                ..Default::default()
            };
            clones(client, json, request, &limit).await
        }
        Tactic::Forecast { plate, at, open } => {
            let now = SystemClock.now();
            let at = at.as_deref().map(|at| parse_time_or_ago(at, now)).transpose()?;
            let request = pb::ForecastVehicleRequest {
                plate,
                as_of_time: at.map(timestamp_to_pb),
                open_period: open.map(|minutes| duration_to_pb(Duration::from_secs(minutes * 60))),
                ..Default::default()
            };
            forecast(client, json, request).await
        }
        Tactic::Grades { all, limit } => {
            let request = pb::ListCameraGradesRequest { faulty_only: !all, ..Default::default() };
            if !json {
                line(
                    "camera        reads  agree  lone   clock             faults, passages a day",
                )?;
            }
            pages!(client.list_camera_grades, request, limit, grades, json, grade_row)
        }
        Tactic::Release { tactic, officer, hours } => {
            let tactic = match tactic {
                Pattern::FirstEntry => pb::PatternTactic::FirstEntry,
                Pattern::Night => pb::PatternTactic::NightActive,
                Pattern::Frequent => pb::PatternTactic::Frequent,
            };
            let until = SystemClock.now().plus(Duration::from_secs(3600 * hours));
            let request = pb::ApproveTacticRequest {
                tactic: tactic.into(),
                officer,
                expire_time: Some(timestamp_to_pb(until)),
                ..Default::default()
            };
            client.approve_tactic(request).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn stop_place(place: &pb::StopPlace) -> Result<()> {
    let centre = place.centre.as_ref().map_or_else(String::new, |centre| {
        format!("  {:.5},{:.5}", centre.latitude_deg, centre.longitude_deg)
    });
    let cameras: Vec<_> = place.cameras.iter().map(|camera| bare(camera)).collect();
    line(format_args!(
        "{} stops, {} overnight, beside {}{centre}",
        place.stop_count,
        place.overnight_count,
        cameras.join(", ")
    ))?;
    place.stops.iter().try_for_each(|stop| {
        line(format_args!(
            "  {}  to  {}  stood {} to {}",
            point(stop.before.as_ref()),
            point(stop.after.as_ref()),
            seconds(stop.dwell_least.as_ref()),
            seconds(stop.dwell_most.as_ref())
        ))
    })
}

fn show_card(card: &pb::VehicleCard) -> Result<()> {
    line(format_args!(
        "{}: {} passages on {} days",
        card.plate, card.passage_count, card.active_day_count
    ))?;
    line(format_args!("  first {}", point(card.first.as_ref())))?;
    line(format_args!("  last  {}", point(card.last.as_ref())))?;
    let hours: Vec<_> = card.hour_passage_counts.iter().map(ToString::to_string).collect();
    line(format_args!("  by hour in China: {}", hours.join(" ")))?;
    let cameras = card.cameras.iter();
    let cameras: Vec<_> =
        cameras.map(|c| format!("{} ({})", bare(&c.camera), c.passage_count)).collect();
    line(format_args!("  mostly at {}", cameras.join(", ")))?;
    card.stops.iter().try_for_each(stop_place)
}

async fn section_speed(
    client: &Client,
    json: bool,
    request: pb::MeasureSectionSpeedRequest,
) -> Result<ExitCode> {
    use pb::measure_section_speed_response::Result as Answered;
    let answer = client.measure_section_speed(request).await?;
    if json {
        json_line(&answer)?;
    }
    match &answer.result {
        Some(Answered::Speed(speed)) if !json => {
            let verdict = match speed.verdict() {
                pb::LimitVerdict::Unspecified => String::new(),
                verdict => {
                    format!(": {} the limit", words(verdict.as_str_name(), "LIMIT_VERDICT_"))
                }
            };
            line(format_args!(
                "{:.1} km/h, at least {:.1}, at most {:.1}{verdict}",
                speed.best_kmh, speed.low_kmh, speed.high_kmh
            ))?;
            if let Some(corrected) = speed.clock_correction_s {
                line(format_args!(
                    "a clock is wrong: the time between was corrected by {corrected:+.1} s"
                ))?;
            }
        }
        Some(Answered::Refusal(reason)) if !json => line(format_args!("no speed: {reason}"))?,
        _ => {}
    }
    Ok(found(matches!(answer.result, Some(Answered::Speed(_)))))
}

async fn clones(
    client: &Client,
    json: bool,
    request: pb::ListClonesRequest,
    limit: &Limit,
) -> Result<ExitCode> {
    let (mut page_token, mut count) = (String::new(), 0);
    loop {
        let request = pb::ListClonesRequest { page_size: 100, page_token, ..request.clone() };
        let page = client.list_clones(request).await?;
        for verdict in page.verdicts.iter().take(limit.limit.saturating_sub(count)) {
            count += 1;
            if json { json_line(verdict)? } else { show_verdict(verdict)? }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() || count >= limit.limit {
            if !json {
                line(format_args!("{count} told of {} suspects", page.suspect_count))?;
                rests_on(page.coverage.as_ref())?;
            }
            return Ok(found(count > 0));
        }
    }
}

fn show_verdict(verdict: &pb::CloneVerdict) -> Result<()> {
    line(format_args!(
        "{}: {}, {:.1} %  (one vehicle {:.1}, clone {:.1}, misread {:.1}, clock {:.1} %)",
        verdict.plate,
        words(verdict.finding().as_str_name(), "CLONE_FINDING_"),
        100.0 * verdict.probability,
        100.0 * verdict.one_vehicle,
        100.0 * verdict.clone,
        100.0 * verdict.misread,
        100.0 * verdict.clock_error
    ))?;
    line(format_args!(
        "  {} trips contradict one vehicle; {} sightings judged",
        verdict.contradiction_count,
        verdict.sightings.len()
    ))?;
    verdict.reasons.iter().take(12).try_for_each(|reason| line(format_args!("  {reason}")))?;
    if verdict.reasons.len() > 12 {
        line(format_args!("  and {} more", verdict.reasons.len() - 12))?;
    }
    if verdict.side_by_side.is_empty() {
        return Ok(());
    }
    line(format_args!("  {SIGHTING_HEAD}"))?;
    for sighting in &verdict.side_by_side {
        line(format_args!("  {}", sighting_row(sighting)))?;
        for picture in &sighting.evidence {
            line(format_args!("    {}", picture.name))?;
        }
    }
    Ok(())
}

async fn forecast(
    client: &Client,
    json: bool,
    request: pb::ForecastVehicleRequest,
) -> Result<ExitCode> {
    let answer = client.forecast_vehicle(request).await?;
    if json {
        json_line(&answer)?;
        return Ok(found(!answer.next.is_empty()));
    }
    line(format_args!(
        "last seen {}, {} before",
        point(answer.last_seen.as_ref()),
        seconds(answer.unseen_for.as_ref())
    ))?;
    let time = |time: &Option<pb::Timestamp>| time.as_ref().map(pb_time).unwrap_or_default();
    for next in &answer.next {
        line(format_args!(
            "  {:>5.1} %  {:<10}  {} to {}",
            100.0 * next.probability,
            bare(&next.camera),
            time(&next.window_start_time),
            time(&next.window_end_time)
        ))?;
    }
    line(format_args!(
        "  {:>5.1} %  its drive has ended\n  {:>5.1} %  it passed unseen\n  {:>5.1} %  elsewhere",
        100.0 * answer.ended,
        100.0 * answer.passed_unseen,
        100.0 * answer.elsewhere
    ))?;
    if !answer.opened.is_empty() {
        let opened: Vec<_> = answer.opened.iter().map(|name| bare(name)).collect();
        line(format_args!("  opened: {}", opened.join(", ")))?;
    }
    rests_on(answer.coverage.as_ref())?;
    Ok(found(!answer.next.is_empty()))
}

fn grade_row(grade: &pb::CameraGrade) -> Result<()> {
    let clock = match (grade.clock_offset_s, grade.clock_error_s) {
        (Some(offset), Some(error)) => format!("{offset:+.1} ± {error:.1} s"),
        _ => "not known".to_owned(),
    };
    let faults: Vec<_> = grade
        .faults
        .iter()
        .map(|f| {
            format!("{} {:.0}", words(f.cause().as_str_name(), "FAULT_CAUSE_"), f.passages_a_day)
        })
        .collect();
    line(format_args!(
        "{:<12} {:>6} {:>4.0} % {:>4.1} %  {clock:<16}  {}",
        bare(&grade.camera),
        grade.read_count,
        100.0 * grade.agreement,
        100.0 * grade.misread,
        faults.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_cameras_or_a_circle_with_their_times() {
        let times = "2026-01-05T08:00:00+08:00,2026-01-05T09:00:00+08:00";
        let cameras = collision_area(&format!("k1+k2,{times}")).unwrap();
        assert_eq!(cameras.place.unwrap().cameras, ["cameras/k1", "cameras/k2"]);
        let circle = collision_area(&format!("29.1:121.4:500,{times}")).unwrap();
        assert!(circle.place.unwrap().area.is_some());
        assert!(collision_area("k1").unwrap_err().to_string().contains("PLACE,FROM,TO"));
    }
}
