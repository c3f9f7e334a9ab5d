use guiji_domain::{
    Authority, InvalidValue, PlatePattern, PlateText, Timestamp, WatchEntry, WatchEntryId,
    WatchTarget,
};

use super::{timestamp_from_pb, timestamp_to_pb};
use crate::error::Problem;
use crate::filter::{CAMERAS_MAX, pattern_from_pb};
use crate::pb;
use crate::pb::watchlist_entry::Target;
use crate::violations::{Violations, camera_id};

pub(crate) fn entry_to_pb(entry: &WatchEntry) -> pb::WatchlistEntry {
    pb::WatchlistEntry {
        name: format!("watchlistEntries/{}", entry.id),
        target: Some(match &entry.target {
            WatchTarget::Plate(plate) => Target::Plate(plate.as_str().to_owned()),
            WatchTarget::Pattern(pattern) => Target::PlatePattern(pattern.as_str().to_owned()),
        }),
        case_number: entry.case_number.clone(),
        reason: entry.reason.clone(),
        owner: entry.owner.clone(),
        create_time: Some(timestamp_to_pb(entry.created)),
        expire_time: Some(timestamp_to_pb(entry.expires)),
        threshold: Some(entry.threshold),
        cameras: entry.cameras.iter().map(|camera| format!("cameras/{camera}")).collect(),
    }
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
        None => {
            wrong.add(field("target"), "is required: give plate or plate_pattern");
            None
        }
    };
    let expires = wrong
        .require(&field("expire_time"), entry.expire_time.as_ref())
        .and_then(|time| wrong.take(field("expire_time"), timestamp_from_pb(time)));
    let cameras =
        wrong.take_list(&field("cameras"), &entry.cameras, CAMERAS_MAX, |name| camera_id(name));
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
        assert_eq!(entry_to_pb(&entry).target, Some(Target::Plate("浙J12345".into())));
        assert_eq!(taken(&entry_to_pb(&entry)).unwrap(), entry);
        let pattern = pb::WatchlistEntry {
            target: Some(Target::PlatePattern("浙J?12*".into())),
            case_number: String::new(),
            threshold: None,
            ..good()
        };
        let entry = taken(&pattern).unwrap();
        assert_eq!((entry.case_number.as_str(), entry.threshold), ("B-2", 0.5));
        assert_eq!(taken(&entry_to_pb(&entry)).unwrap(), entry);
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
