use guiji_domain::{
    Authority, DailyHours, InvalidValue, PlatePattern, PlateText, Timestamp, VehicleDescription,
    WatchEntry, WatchEntryId, WatchTarget, Weekday, Weekdays,
};

use super::word::optional;
use super::{Word, area_from_pb, area_to_pb, timestamp_from_pb, timestamp_to_pb};
use crate::error::Problem;
use crate::filter::{CAMERAS_MAX, pattern_from_pb};
use crate::pb;
use crate::pb::watchlist_entry::Target;
use crate::violations::{Violations, camera_id};

/// An entry as it stands at a time.
pub(crate) fn entry_to_pb(entry: &WatchEntry, now: Timestamp) -> pb::WatchlistEntry {
    use pb::WatchlistEntryState as State;
    let state = match &entry.approval {
        _ if entry.expires <= now => State::Expired,
        None if entry.needs_approval() => State::AwaitingApproval,
        _ => State::Active,
    };
    pb::WatchlistEntry {
        name: format!("watchlistEntries/{}", entry.id),
        target: Some(match &entry.target {
            WatchTarget::Plate(plate) => Target::Plate(plate.as_str().to_owned()),
            WatchTarget::Pattern(pattern) => Target::PlatePattern(pattern.as_str().to_owned()),
            WatchTarget::Description => Target::AnyPlate(pb::AnyPlate {}),
        }),
        case_number: entry.case_number.clone(),
        reason: entry.reason.clone(),
        owner: entry.owner.clone(),
        create_time: Some(timestamp_to_pb(entry.created)),
        expire_time: Some(timestamp_to_pb(entry.expires)),
        threshold: Some(entry.threshold),
        cameras: entry.cameras.iter().map(|camera| format!("cameras/{camera}")).collect(),
        vehicle: (!entry.vehicle.is_empty()).then(|| pb::VehicleDescription {
            class: optional(entry.vehicle.class),
            colour: optional(entry.vehicle.colour),
            heading: optional(entry.vehicle.heading),
            course: optional(entry.vehicle.course),
        }),
        hours: entry.hours.map(hours_to_pb),
        approval: entry.approval.as_ref().map(|approval| pb::Approval {
            approver: approval.by.clone(),
            approve_time: Some(timestamp_to_pb(approval.at)),
        }),
        state: state.into(),
        area: entry.area.as_ref().map(area_to_pb),
    }
}

fn vehicle_from_pb(wrong: &mut Violations, vehicle: &pb::VehicleDescription) -> VehicleDescription {
    VehicleDescription {
        class: wrong.take("watchlist_entry.vehicle.class", Word::from_pb(vehicle.class)).flatten(),
        colour: wrong
            .take("watchlist_entry.vehicle.colour", Word::from_pb(vehicle.colour))
            .flatten(),
        heading: wrong
            .take("watchlist_entry.vehicle.heading", Word::from_pb(vehicle.heading))
            .flatten(),
        course: wrong
            .take("watchlist_entry.vehicle.course", Word::from_pb(vehicle.course))
            .flatten(),
    }
}

pub(crate) fn hours_to_pb(hours: DailyHours) -> pb::DailyHours {
    // Every day is said by naming none, as it always was.
    let days = Some(hours.days()).filter(|days| *days != Weekdays::ALL);
    pb::DailyHours {
        start_minute: hours.from().into(),
        end_minute: hours.until().into(),
        weekdays: days.into_iter().flat_map(Weekdays::days).map(Word::to_pb).collect(),
    }
}

pub(crate) fn hours_from_pb(hours: &pb::DailyHours) -> Result<DailyHours, InvalidValue> {
    let minute = |number: i32| u16::try_from(number).unwrap_or(u16::MAX);
    let days = hours.weekdays.iter().map(|day| {
        let fix = "use one of the days, or name none for every day";
        Weekday::from_pb(*day)?.ok_or_else(|| InvalidValue::new("weekday", day, fix))
    });
    let days = days.collect::<Result<Vec<_>, _>>()?;
    Ok(DailyHours::new(minute(hours.start_minute), minute(hours.end_minute))?
        .on(Weekdays::of(days)))
}

/// The entry that a request asks for, owned by the officer who asks. That its cameras exist is checked elsewhere.
pub(crate) fn entry_from_pb(
    id: WatchEntryId,
    entry: &pb::WatchlistEntry,
    authority: &Authority,
    now: Timestamp,
) -> Result<WatchEntry, Problem> {
    let mut wrong = Violations::default();
    let field = |name: &str| format!("watchlist_entry.{name}");
    let target = match &entry.target {
        Some(Target::Plate(plate)) => {
            wrong.take(field("plate"), PlateText::parse(plate)).map(WatchTarget::Plate)
        }
        Some(Target::PlatePattern(pattern)) => {
            let pattern = wrong.take(field("plate_pattern"), pattern_from_pb(pattern));
            pattern.map(WatchTarget::Pattern)
        }
        Some(Target::AnyPlate(_)) => Some(WatchTarget::Description),
        None => {
            wrong.add(field("target"), "is required: give plate or plate_pattern, or any_plate");
            None
        }
    };
    let expires = wrong
        .require(&field("expire_time"), entry.expire_time.as_ref())
        .and_then(|time| wrong.take(field("expire_time"), timestamp_from_pb(time)));
    let cameras =
        wrong.take_list(&field("cameras"), &entry.cameras, CAMERAS_MAX, |name| camera_id(name));
    let area = entry.area.as_ref().and_then(|area| area_from_pb(&mut wrong, &field("area"), area));
    let vehicle = entry.vehicle.as_ref().map(|vehicle| vehicle_from_pb(&mut wrong, vehicle));
    let hours =
        entry.hours.as_ref().and_then(|hours| wrong.take(field("hours"), hours_from_pb(hours)));
    wrong.done()?;
    let (Some(target), Some(expires)) = (target, expires) else {
        return Err(Problem::field("watchlist_entry", "is incomplete"));
    };
    let case_number = match entry.case_number.trim() {
        "" => authority.case_number(),
        given => given,
    };
    let entry = WatchEntry {
        id,
        target,
        case_number: case_number.to_owned(),
        reason: entry.reason.trim().to_owned(),
        owner: authority.officer().to_owned(),
        created: now,
        expires,
        threshold: entry.threshold.unwrap_or(WatchEntry::THRESHOLD_DEFAULT),
        cameras,
        area,
        vehicle: vehicle.unwrap_or_default(),
        hours,
        approval: None,
    };
    if let WatchTarget::Pattern(pattern) = &entry.target {
        refuse_all(pattern)?;
    }
    entry
        .checked()
        .map_err(|invalid| Problem::field(field(field_of(&invalid)), invalid.to_string()))
}

/// A pattern of gaps alone would ring for every vehicle.
fn refuse_all(pattern: &PlatePattern) -> Result<(), Problem> {
    if pattern.as_str().chars().all(|c| c == '?' || c == '*') {
        return Err(Problem::field(
            "watchlist_entry.plate_pattern",
            format!(
                "plate pattern {:?}: would ring for every vehicle: name a character",
                pattern.as_str()
            ),
        ));
    }
    Ok(())
}

/// The field that the domain's check speaks of.
fn field_of(invalid: &InvalidValue) -> &'static str {
    match invalid.what {
        "case number" => "case_number",
        "expiry" => "expire_time",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn good() -> pb::WatchlistEntry {
        pb::WatchlistEntry {
            target: Some(Target::Plate("浙j·12345".into())),
            case_number: "A-1".into(),
            reason: "stolen".into(),
            expire_time: Some(timestamp_to_pb(Timestamp::from_secs(1_800_086_400))),
            threshold: Some(0.25),
            cameras: vec!["cameras/k1".into()],
            ..Default::default()
        }
    }

    fn taken(entry: &pb::WatchlistEntry) -> Result<WatchEntry, Problem> {
        let authority = Authority::new("search", "B-2", "Wang").unwrap();
        entry_from_pb(WatchEntryId::new("w1").unwrap(), entry, &authority, now())
    }

    #[test]
    fn entries_round_trip() {
        let entry = taken(&good()).unwrap();
        assert_eq!((entry.owner.as_str(), entry.case_number.as_str()), ("Wang", "A-1"));
        let shown = entry_to_pb(&entry, now());
        assert_eq!(shown.target, Some(Target::Plate("浙J12345".into())));
        assert_eq!(shown.state(), pb::WatchlistEntryState::Active);
        assert_eq!(entry_to_pb(&entry, entry.expires).state(), pb::WatchlistEntryState::Expired);
        assert_eq!(taken(&shown).unwrap(), entry);
        let pattern = pb::WatchlistEntry {
            target: Some(Target::PlatePattern("浙J?12*".into())),
            case_number: String::new(),
            threshold: None,
            ..good()
        };
        let entry = taken(&pattern).unwrap();
        assert_eq!((entry.case_number.as_str(), entry.threshold), ("B-2", 0.5));
        let shown = entry_to_pb(&entry, now());
        assert_eq!(shown.state(), pb::WatchlistEntryState::AwaitingApproval);
        assert_eq!(taken(&shown).unwrap(), entry);
        let described = pb::WatchlistEntry {
            target: Some(Target::AnyPlate(pb::AnyPlate {})),
            vehicle: Some(pb::VehicleDescription {
                class: pb::VehicleClass::Truck.into(),
                colour: pb::VehicleColour::White.into(),
                heading: pb::Heading::Approaching.into(),
                course: pb::CompassPoint::NorthWest.into(),
            }),
            hours: Some(pb::DailyHours {
                start_minute: 1380,
                end_minute: 300,
                weekdays: vec![pb::Weekday::Friday.into(), pb::Weekday::Sunday.into()],
            }),
            area: Some(pb::Area {
                shape: Some(pb::area::Shape::Circle(pb::Circle {
                    centre: Some(pb::GeoPoint { latitude_deg: 29.0, longitude_deg: 121.0 }),
                    radius_m: 500.0,
                })),
            }),
            ..good()
        };
        let entry = taken(&described).unwrap();
        assert_eq!(taken(&entry_to_pb(&entry, now())).unwrap(), entry);
    }

    #[test]
    fn wrong_entries_name_field_and_fix() {
        let with = |change: fn(&mut pb::WatchlistEntry)| {
            let mut entry = good();
            change(&mut entry);
            entry
        };
        for (entry, field, fix) in [
            (with(|e| e.target = None), "target", "plate or plate_pattern"),
            (with(|e| e.target = Some(Target::Plate("浙J12".into()))), "plate", "6 to 9"),
            (with(|e| e.target = Some(Target::Plate("浙112345".into()))), "plate", "fits no kind"),
            (with(|e| e.target = Some(Target::PlatePattern("*".into()))), "plate_pattern", "every"),
            (
                with(|e| e.target = Some(Target::PlatePattern("[8".into()))),
                "plate_pattern",
                "close",
            ),
            (
                with(|e| e.target = Some(Target::AnyPlate(pb::AnyPlate {}))),
                "vehicle",
                "a class or a colour",
            ),
            (
                with(|e| {
                    let hours =
                        pb::DailyHours { start_minute: -1, end_minute: 3, weekdays: vec![] };
                    e.hours = Some(hours);
                }),
                "hours",
                "minutes after midnight",
            ),
            (
                with(|e| {
                    let hours =
                        pb::DailyHours { start_minute: 1, end_minute: 3, weekdays: vec![9] };
                    e.hours = Some(hours);
                }),
                "hours",
                "use one of",
            ),
            (with(|e| e.area = Some(pb::Area::default())), "area", "circle or a rectangle"),
            (
                with(|e| {
                    e.vehicle = Some(pb::VehicleDescription { class: 99, ..Default::default() })
                }),
                "vehicle.class",
                "use one of",
            ),
            (with(|e| e.expire_time = None), "expire_time", "required"),
            (with(|e| e.expire_time = Some(timestamp_to_pb(now()))), "expire_time", "later"),
            (
                with(|e| e.expire_time = Some(timestamp_to_pb(Timestamp::MAX))),
                "expire_time",
                "366 days",
            ),
            (with(|e| e.threshold = Some(0.0)), "threshold", "above 0"),
            (with(|e| e.threshold = Some(f32::NAN)), "threshold", "above 0"),
            (with(|e| e.reason = " ".into()), "reason", "1 to 200"),
            (with(|e| e.reason = "x".repeat(201)), "reason", "1 to 200"),
            (with(|e| e.case_number = "x".repeat(201)), "case_number", "1 to 200"),
            (with(|e| e.cameras = vec!["k1".into()]), "cameras[0]", "cameras/ID"),
            (with(|e| e.cameras = vec!["cameras/k1".into(); 2001]), "cameras", "at most 2000"),
        ] {
            let status = tonic::Status::from(taken(&entry).unwrap_err());
            let expected = format!("watchlist_entry.{field}");
            assert!(status.message().contains(&expected), "{expected}: {status}");
            assert!(status.message().contains(fix), "{fix}: {status}");
        }
    }
}
