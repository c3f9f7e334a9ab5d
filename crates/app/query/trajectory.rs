//! `guiji query trajectory`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use guiji_api::client::Client;
use guiji_api::pb;
use guiji_domain::PlateText;

use super::export::{ExportFormat, export};
use super::{Window, found, json_line, line, pb_time, seconds, sighting_row, words};

/// Arguments of `guiji query trajectory`.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// The whole plate, like 浙J12345.
    plate: String,
    #[command(flatten)]
    window: Window,
    /// Only sightings that were read, or corrected, so: no misreads.
    #[arg(long)]
    exact: bool,
    /// Write it as a file for maps or tables instead.
    #[arg(long, value_enum, conflicts_with = "json")]
    format: Option<ExportFormat>,
}

impl Asked {
    pub(super) async fn run(&self, client: &Client, json: bool) -> Result<ExitCode> {
        let plate = PlateText::parse(&self.plate)?;
        let [start, end] = self.window.ends()?;
        let way = if self.exact {
            client.exact_trajectory(plate.as_str(), start, end).await?
        } else {
            client.trajectory(plate.as_str(), start, end).await?
        };
        let any = !way.points.is_empty();
        if let Some(format) = self.format {
            std::io::stdout().lock().write_all(export(format, &way)?.as_bytes())?;
        } else if json {
            json_line(&way)?;
        } else {
            print(&plate, &way)?;
        }
        Ok(found(any))
    }
}

fn print(plate: &PlateText, way: &pb::Trajectory) -> Result<()> {
    if way.points.is_empty() {
        line(format_args!("{plate} was not seen"))?;
    } else {
        line(format_args!("{plate}: {} sightings", way.points.len()))?;
    }
    for (i, point) in way.points.iter().enumerate() {
        if let Some(leg) = i.checked_sub(1).and_then(|i| way.legs.get(i)) {
            line(format_args!("  │ {}", leg_text(leg)))?;
        }
        line(format_args!("  ● {}", point_text(point)))?;
    }
    for gap in &way.gaps {
        line(format_args!("  {}", gap_text(gap)))?;
    }
    for place in &way.dwell_places {
        line(format_args!("  {}", place_text(place)))?;
    }
    if !way.possible_points.is_empty() {
        line("  perhaps seen too, read otherwise:")?;
    }
    for possible in &way.possible_points {
        let Some(sighting) = &possible.sighting else { continue };
        let mark = if possible.impossible { "  (impossible to drive)" } else { "" };
        let probability = possible.probability * 100.0;
        line(format_args!("  ○ {}  {probability:.1} % it{mark}", sighting_row(sighting)))?;
    }
    if !way.points.is_empty() {
        line(distance_text(way))?;
    }
    Ok(())
}

fn distance_text(way: &pb::Trajectory) -> String {
    let by_road = |leg: &pb::Leg| leg.distance_basis() == pb::DistanceBasis::Roads;
    let (roads, all) = (way.legs.iter().any(by_road), way.legs.iter().all(by_road));
    let along = match (roads, all) {
        (true, true) => "the shortest roads",
        (true, false) => "the shortest roads and great circles",
        (false, _) => "great circles",
    };
    format!("{:.2} km along {along}, the least that was driven", way.distance_m / 1000.0)
}

fn point_text(point: &pb::TrajectoryPoint) -> String {
    let Some(sighting) = &point.sighting else { return String::new() };
    let place = point.position.as_ref().map_or_else(
        || "camera no longer registered".to_owned(),
        |p| format!("{:.5},{:.5}", p.latitude_deg, p.longitude_deg),
    );
    let marks: String = point
        .flags()
        .map(|flag| format!("  ({})", words(flag.as_str_name(), "POINT_FLAG_")))
        .collect();
    let corrected: String =
        sighting.corrections.last().map_or_else(String::new, |c| format!("  says {}", c.officer));
    // Where nothing is to beware of, the read's confidence in the row says the same.
    let probability = if marks.is_empty() {
        String::new()
    } else {
        format!("  {:.1} % it", point.probability * 100.0)
    };
    format!("{}  {place}{probability}{marks}{corrected}", sighting_row(sighting))
}

fn leg_text(leg: &pb::Leg) -> String {
    let mut text = format!("{} later", seconds(leg.elapsed.as_ref()));
    if let Some(distance) = leg.distance_m {
        text += &format!(", {:.2} km", distance / 1000.0);
        if leg.distance_basis() == pb::DistanceBasis::Roads {
            text += " by road";
        }
    }
    if let Some(pb::ImpliedSpeed { low_kmh, best_kmh, high_kmh }) = leg.implied_speed {
        let best =
            best_kmh.map_or_else(|| "any speed".to_owned(), |best| format!("{best:.0} km/h"));
        let high = high_kmh.map_or_else(|| "any".to_owned(), |high| format!("{high:.0}"));
        text += &format!(", {best} ({low_kmh:.0} to {high})");
    }
    if let (Some(least), Some(most)) = (&leg.dwell_least, &leg.dwell_most) {
        text += &format!(", stayed {} to {}", seconds(Some(least)), seconds(Some(most)));
    }
    if leg.remark() != pb::LegRemark::Unspecified {
        text += &format!("  {}", words(leg.remark().as_str_name(), "LEG_REMARK_"));
    }
    text
}

fn gap_text(gap: &pb::Gap) -> String {
    let time = |time: &Option<pb::Timestamp>| time.as_ref().map(pb_time).unwrap_or_default();
    let mut text = format!(
        "not seen {} to {} ({})",
        time(&gap.last_seen_time),
        time(&gap.next_seen_time),
        seconds(gap.elapsed.as_ref())
    );
    match &gap.coverage {
        Some(coverage) if coverage.camera_count == 0 => {
            text += ": no other camera is on its likely ways";
        }
        Some(coverage) => {
            let pb::GapCoverage {
                camera_count, could_see_count, blind_count, unknown_count, ..
            } = coverage;
            text += &format!(
                ": of the {camera_count} cameras on its likely ways {could_see_count} could see, {blind_count} were blind"
            );
            if *unknown_count > 0 {
                text += &format!(", of {unknown_count} it is not known");
            }
        }
        None => {}
    }
    text
}

fn place_text(place: &pb::DwellPlace) -> String {
    let cameras: Vec<_> = place.cameras.iter().map(|name| super::bare(name)).collect();
    let nights = match place.overnight_count {
        0 => String::new(),
        1 => ", one overnight".to_owned(),
        n => format!(", {n} overnight"),
    };
    let least: i64 = place.stays.iter().filter_map(|s| s.least.as_ref()).map(|d| d.seconds).sum();
    let least = pb::Duration { seconds: least, nanos: 0 };
    format!(
        "stayed {} times between {}, at least {} in all{nights}",
        place.stays.len(),
        cameras.join(", "),
        seconds(Some(&least))
    )
}
