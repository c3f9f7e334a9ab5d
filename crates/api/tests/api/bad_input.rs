//! What cannot be right, over every call that takes more than a page size: the error names the field and the fix.

use std::collections::BTreeSet;

use guiji_api::{ApiSettings, pb};
use prost::Message;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::operation::methods;
use crate::scripted::{Running, authority_pb, camera, now};

/// A request to a method, with what must be said of it.
struct Case {
    method: &'static str,
    request: Vec<u8>,
    field: &'static str,
    fix: &'static str,
}

fn case(
    method: &'static str,
    request: impl Message,
    field: &'static str,
    fix: &'static str,
) -> Case {
    Case { method, request: request.encode_to_vec(), field, fix }
}

fn time(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

fn circle(latitude_deg: f64, longitude_deg: f64, radius_m: f64) -> Option<pb::Area> {
    let centre = Some(pb::GeoPoint { latitude_deg, longitude_deg });
    Some(pb::Area { shape: Some(pb::area::Shape::Circle(pb::Circle { centre, radius_m })) })
}

/// Filters that cannot be right; three calls take one.
fn filters() -> Vec<(pb::SightingFilter, &'static str, &'static str)> {
    let none = pb::SightingFilter::default;
    vec![
        (
            pb::SightingFilter { plate_pattern: "浙JI2345".into(), ..none() },
            "filter.plate_pattern",
            "digit 1",
        ),
        (
            pb::SightingFilter { plate_pattern: "浙J[".into(), ..none() },
            "filter.plate_pattern",
            "]",
        ),
        (
            pb::SightingFilter { plate_pattern: "?".repeat(65), ..none() },
            "filter.plate_pattern",
            "at most 64",
        ),
        (
            pb::SightingFilter { start_time: time(9), end_time: time(3), ..none() },
            "filter.end_time",
            "exchange",
        ),
        (
            pb::SightingFilter { start_time: time(i64::MAX), ..none() },
            "filter.start_time",
            "1677 to 2262",
        ),
        (pb::SightingFilter { area: circle(28.0, 121.0, 1e9), ..none() }, "filter.area", "metres"),
        (
            pb::SightingFilter { area: circle(28.0, 121.0, f64::NAN), ..none() },
            "filter.area",
            "metres",
        ),
        (
            pb::SightingFilter { area: circle(121.0, 28.0, 5.0), ..none() },
            "filter.area",
            "latitude",
        ),
        (
            pb::SightingFilter { area: Some(pb::Area::default()), ..none() },
            "filter.area",
            "circle or a rectangle",
        ),
        (
            pb::SightingFilter { cameras: vec!["cameras/nowhere".into()], ..none() },
            "filter.cameras[0]",
            "ListCameras",
        ),
        (
            pb::SightingFilter { cameras: vec![format!("cameras/{}", "x".repeat(65))], ..none() },
            "filter.cameras[0]",
            "1 to 64",
        ),
        (
            pb::SightingFilter { cameras: vec!["cameras/k1".into(); 2001], ..none() },
            "filter.cameras",
            "at most 2000",
        ),
        (pb::SightingFilter { classes: vec![99], ..none() }, "filter.classes[0]", "use one of"),
        (pb::SightingFilter { colours: vec![0], ..none() }, "filter.colours[0]", "leave it out"),
    ]
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let authority = authority_pb;
    let mut all = Vec::new();
    for (filter, field, fix) in filters() {
        let filter = || Some(filter.clone());
        let search = pb::SearchSightingsRequest {
            authority: authority(),
            filter: filter(),
            ..Default::default()
        };
        let stream = pb::StreamSightingsRequest {
            authority: authority(),
            filter: filter(),
            ..Default::default()
        };
        let watch = pb::WatchSightingsRequest {
            authority: authority(),
            filter: filter(),
            ..Default::default()
        };
        all.push(case("SightingService/SearchSightings", search, field, fix));
        all.push(case("SightingService/StreamSightings", stream, field, fix));
        all.push(case("SightingService/WatchSightings", watch, field, fix));
    }
    let search = || pb::SearchSightingsRequest { authority: authority(), ..Default::default() };
    let trajectory = |plate: &str| pb::GetTrajectoryRequest {
        authority: authority(),
        plate: plate.into(),
        ..Default::default()
    };
    let entry = |plate: &str| pb::WatchlistEntry {
        target: Some(pb::watchlist_entry::Target::Plate(plate.into())),
        reason: "stolen".into(),
        expire_time: time(now().as_nanos() / 1_000_000_000 + 86_400),
        ..Default::default()
    };
    let create = |entry_id: &str, entry: pb::WatchlistEntry| pb::CreateWatchlistEntryRequest {
        authority: authority(),
        watchlist_entry_id: entry_id.into(),
        watchlist_entry: Some(entry),
    };
    let new_camera = |camera_id: &str, change: &dyn Fn(&mut pb::Camera)| {
        let mut camera = pb::Camera {
            display_name: "k9".into(),
            stream_address: "rtsp://10.0.0.9/1".into(),
            position: Some(pb::GeoPoint { latitude_deg: 28.0, longitude_deg: 121.0 }),
            ..Default::default()
        };
        change(&mut camera);
        pb::CreateCameraRequest {
            authority: authority(),
            camera_id: camera_id.into(),
            camera: Some(camera),
        }
    };
    let export = |change: &dyn Fn(&mut pb::ExportEvidenceRequest)| {
        let mut request =
            pb::ExportEvidenceRequest { authority: authority(), ..Default::default() };
        change(&mut request);
        request
    };
    let named = |name: &str| pb::GetSightingRequest {
        authority: authority(),
        name: name.into(),
        ..Default::default()
    };
    all.extend([
        case(
            "SightingService/SearchSightings",
            pb::SearchSightingsRequest { page_size: -1, ..search() },
            "page_size",
            "1 to 1000",
        ),
        case(
            "SightingService/SearchSightings",
            pb::SearchSightingsRequest { page_size: 1001, ..search() },
            "page_size",
            "1 to 1000",
        ),
        case(
            "SightingService/SearchSightings",
            pb::SearchSightingsRequest { page_token: "x".repeat(10_000), ..search() },
            "page_token",
            "next_page_token",
        ),
        case(
            "SightingService/SearchSightings",
            pb::SearchSightingsRequest { order: 9, ..search() },
            "order",
            "use one of",
        ),
        case(
            "SightingService/SearchSightings",
            pb::SearchSightingsRequest { view: 9, ..search() },
            "view",
            "use Basic or Full",
        ),
        case(
            "SightingService/StreamSightings",
            pb::StreamSightingsRequest {
                authority: authority(),
                chunk_size: 5000,
                ..Default::default()
            },
            "chunk_size",
            "1 to 1000",
        ),
        case("SightingService/GetSighting", named("sightings/xyz"), "name", "32 hexadecimal"),
        case("SightingService/GetSighting", named("cameras/k1"), "name", "sightings/ID"),
        case(
            "SightingService/GetEvidence",
            pb::GetEvidenceRequest { authority: authority(), name: "evidence/1".into(), people: 0 },
            "name",
            "sightings/ID/evidence/DIGEST",
        ),
        case(
            "SightingService/GetEvidence",
            pb::GetEvidenceRequest {
                authority: authority(),
                name: format!("sightings/{:032x}/evidence/{:064x}", 1, 1),
                people: 77,
            },
            "people",
            "blurred or shown",
        ),
        case(
            "SightingService/SearchSightings",
            pb::SearchSightingsRequest {
                authority: authority(),
                filter: Some(pb::SightingFilter {
                    hours: Some(pb::DailyHours {
                        start_minute: 900,
                        end_minute: 900,
                        weekdays: Vec::new(),
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            },
            "filter.hours",
            "minutes after midnight",
        ),
        case("TrajectoryService/GetTrajectory", trajectory(""), "plate", "6 to 9"),
        case("TrajectoryService/GetTrajectory", trajectory("浙J?2345"), "plate", "SearchSightings"),
        case("TrajectoryService/GetTrajectory", trajectory(&"浙J".repeat(500)), "plate", "6 to 9"),
        case(
            "TrajectoryService/GetTrajectory",
            pb::GetTrajectoryRequest {
                start_time: time(9),
                end_time: time(3),
                ..trajectory("浙J12345")
            },
            "end_time",
            "exchange",
        ),
        case(
            "WatchlistService/CreateWatchlistEntry",
            create("w 1", entry("浙J12345")),
            "watchlist_entry_id",
            "1 to 64",
        ),
        case(
            "WatchlistService/CreateWatchlistEntry",
            create("w1", entry("浙112345")),
            "watchlist_entry.plate",
            "kind",
        ),
        case(
            "WatchlistService/CreateWatchlistEntry",
            create("w1", pb::WatchlistEntry { reason: "x".repeat(5000), ..entry("浙J12345") }),
            "watchlist_entry.reason",
            "1 to 200",
        ),
        case(
            "WatchlistService/CreateWatchlistEntry",
            create("w1", pb::WatchlistEntry { expire_time: time(1), ..entry("浙J12345") }),
            "watchlist_entry.expire_time",
            "later time",
        ),
        case(
            "WatchlistService/GetWatchlistEntry",
            pb::GetWatchlistEntryRequest { authority: authority(), name: "w1".into() },
            "name",
            "watchlistEntries/ID",
        ),
        case(
            "WatchlistService/DeleteWatchlistEntry",
            pb::DeleteWatchlistEntryRequest {
                authority: authority(),
                name: "watchlistEntries/".into(),
            },
            "name",
            "1 to 64",
        ),
        case(
            "CameraService/GetCamera",
            pb::GetCameraRequest { authority: authority(), name: "k1".into() },
            "name",
            "cameras/ID",
        ),
        case(
            "CameraService/OpenCamera",
            pb::OpenCameraRequest { authority: authority(), name: "k1".into(), open_period: None },
            "name",
            "cameras/ID",
        ),
        case(
            "CameraService/OpenCamera",
            pb::OpenCameraRequest {
                authority: authority(),
                name: "cameras/k1".into(),
                open_period: Some(prost_types::Duration { seconds: 43_201, nanos: 0 }),
            },
            "open_period",
            "12 hours",
        ),
        case(
            "CameraService/DeleteCamera",
            pb::DeleteCameraRequest { authority: authority(), name: "cameras/a b".into() },
            "name",
            "1 to 64",
        ),
        case(
            "CameraService/UpdateCamera",
            pb::UpdateCameraRequest { authority: authority(), ..Default::default() },
            "camera",
            "required",
        ),
        case(
            "CameraService/UpdateCamera",
            pb::UpdateCameraRequest {
                authority: authority(),
                camera: Some(pb::Camera { name: "k1".into(), ..Default::default() }),
                update_mask: None,
            },
            "camera.name",
            "cameras/ID",
        ),
        case(
            "CameraService/UpdateCamera",
            pb::UpdateCameraRequest {
                authority: authority(),
                camera: Some(pb::Camera { name: "cameras/k1".into(), ..Default::default() }),
                update_mask: Some(prost_types::FieldMask { paths: vec!["health".into()] }),
            },
            "update_mask",
            "display_name",
        ),
        case(
            "CameraService/ListCoverage",
            pb::ListCoverageRequest {
                authority: authority(),
                camera: "cameras/k1".into(),
                start_time: time(0),
                end_time: time(401 * 86_400),
                ..Default::default()
            },
            "end_time",
            "400 days",
        ),
        case(
            "CameraService/ListCameras",
            pb::ListCamerasRequest {
                authority: authority(),
                page_size: 1001,
                ..Default::default()
            },
            "page_size",
            "1 to 1000",
        ),
        case("CameraService/CreateCamera", new_camera("k 9", &|_| ()), "camera_id", "1 to 64"),
        case(
            "CameraService/CreateCamera",
            new_camera("k9", &|c| c.stream_address = "ftp://x".into()),
            "camera.stream_address",
            "rtsp",
        ),
        case(
            "CameraService/CreateCamera",
            new_camera("k9", &|c| c.position = None),
            "camera.position",
            "is required",
        ),
        case(
            "CameraService/CreateCamera",
            new_camera("k9", &|c| c.display_name = "x".repeat(5000)),
            "camera.display_name",
            "at most",
        ),
        case(
            "AlertService/ListDeliveries",
            pb::ListDeliveriesRequest {
                authority: authority(),
                name: "alerts/1".into(),
                ..Default::default()
            },
            "name",
            "alerts/SIGHTING.ENTRY",
        ),
        case(
            "AlertService/ListDeliveries",
            pb::ListDeliveriesRequest {
                authority: authority(),
                name: "alerts/1.w1".into(),
                page_token: "0".into(),
                ..Default::default()
            },
            "page_token",
            "next_page_token",
        ),
        case(
            "AlertService/StreamAlerts",
            pb::StreamAlertsRequest { authority: authority(), ..Default::default() },
            "start",
            "from_now",
        ),
        case(
            "AlertService/ListAlerts",
            pb::ListAlertsRequest { authority: authority(), page_size: -7, ..Default::default() },
            "page_size",
            "1 to 1000",
        ),
        case(
            "ImportService/ImportCameras",
            pb::ImportCamerasRequest {
                authority: authority(),
                cameras: vec![pb::Camera::default(); 2001],
                ..Default::default()
            },
            "cameras",
            "at most 2000",
        ),
        case("EvidenceService/ExportEvidence", export(&|_| ()), "sightings", "or a plate"),
        case(
            "EvidenceService/ExportEvidence",
            export(&|r| r.sightings = vec!["sightings/1".into()]),
            "sightings[0]",
            "32 hexadecimal",
        ),
        case(
            "EvidenceService/ExportEvidence",
            export(&|r| r.sightings = vec!["sightings/1".into(); 101]),
            "sightings",
            "at most 100",
        ),
        case(
            "EvidenceService/ExportEvidence",
            export(&|r| r.plate = "浙J*".into()),
            "plate",
            "SearchSightings",
        ),
        case(
            "EvidenceService/ExportEvidence",
            export(&|r| {
                r.plate = "浙J12345".into();
                r.people = 7;
            }),
            "people",
            "blurred or shown",
        ),
        case(
            "EvidenceService/ExportEvidence",
            export(&|r| {
                r.plate = "浙J12345".into();
                (r.start_time, r.end_time) = (time(9), time(3));
            }),
            "end_time",
            "exchange",
        ),
        case(
            "AuditService/ListOddPatterns",
            pb::ListOddPatternsRequest { authority: authority(), days: 367 },
            "days",
            "1 to 366",
        ),
        case(
            "ReleaseService/GrantRelease",
            pb::GrantReleaseRequest { authority: authority(), release: None },
            "release",
            "is required",
        ),
        case(
            "ReleaseService/GrantRelease",
            pb::GrantReleaseRequest {
                authority: authority(),
                release: Some(pb::Release {
                    officer: "x".repeat(201),
                    case_number: "A".into(),
                    reason: "y".into(),
                    expire_time: time(1),
                    ..Default::default()
                }),
            },
            "release.officer",
            "at most 200",
        ),
        case(
            "WatchlistService/ApproveWatchlistEntry",
            pb::ApproveWatchlistEntryRequest { authority: authority(), name: "w1".into() },
            "name",
            "watchlistEntries/ID",
        ),
        case(
            "WatchlistService/ImportWatchlistEntries",
            pb::ImportWatchlistEntriesRequest {
                authority: authority(),
                watchlist_entries: vec![pb::WatchlistEntry::default(); 1001],
                validate_only: true,
            },
            "watchlist_entries",
            "at most 1000",
        ),
        case(
            "WatchlistService/DryRunWatchlistEntry",
            pb::DryRunWatchlistEntryRequest {
                authority: authority(),
                watchlist_entry: Some(pb::WatchlistEntry::default()),
                start_time: time(9),
            },
            "start_time",
            "90 days",
        ),
        case(
            "CorrectionService/CorrectSighting",
            pb::CorrectSightingRequest {
                authority: authority(),
                name: "1".into(),
                plate: "浙J12345".into(),
                reason: "seen".into(),
            },
            "name",
            "sightings/ID",
        ),
        case(
            "LikelyService/SearchLikely",
            pb::SearchLikelyRequest {
                authority: authority(),
                filter: Some(pb::SightingFilter {
                    plate_pattern: "浙JI2345".into(),
                    ..Default::default()
                }),
                ..Default::default()
            },
            "filter.plate_pattern",
            "digit 1",
        ),
        case(
            "TacticsService/FindConvoys",
            pb::FindConvoysRequest {
                authority: authority(),
                plate: "浙J12".into(),
                ..Default::default()
            },
            "plate",
            "6 to 9",
        ),
        case(
            "TacticsService/FindCollisions",
            pb::FindCollisionsRequest {
                authority: authority(),
                areas: vec![pb::CollisionArea::default(); 9],
                ..Default::default()
            },
            "areas",
            "8",
        ),
        case(
            "TacticsService/ListFirstEntries",
            pb::ListFirstEntriesRequest {
                authority: authority(),
                start_time: time(9),
                end_time: time(3),
                ..Default::default()
            },
            "end_time",
            "",
        ),
        case(
            "TacticsService/ListNightActive",
            pb::ListNightActiveRequest {
                authority: authority(),
                start_time: time(9),
                end_time: time(3),
                ..Default::default()
            },
            "end_time",
            "",
        ),
        case(
            "TacticsService/ListFrequent",
            pb::ListFrequentRequest {
                authority: authority(),
                start_time: time(9),
                end_time: time(3),
                ..Default::default()
            },
            "end_time",
            "",
        ),
        case(
            "TacticsService/ListStops",
            pb::ListStopsRequest {
                authority: authority(),
                plate: "浙J12".into(),
                ..Default::default()
            },
            "plate",
            "6 to 9",
        ),
        case(
            "TacticsService/GetVehicleCard",
            pb::GetVehicleCardRequest {
                authority: authority(),
                plate: "浙J12".into(),
                ..Default::default()
            },
            "plate",
            "6 to 9",
        ),
        case(
            "TacticsService/MeasureSectionSpeed",
            pb::MeasureSectionSpeedRequest {
                authority: authority(),
                from_sighting: "1".into(),
                to_sighting: "2".into(),
                length_m: 1000.0,
                ..Default::default()
            },
            "from_sighting",
            "sightings/ID",
        ),
        case(
            "TacticsService/JudgeClone",
            pb::JudgeCloneRequest {
                authority: authority(),
                plate: "浙J12".into(),
                ..Default::default()
            },
            "plate",
            "6 to 9",
        ),
        case(
            "TacticsService/ListClones",
            pb::ListClonesRequest {
                authority: authority(),
                start_time: time(9),
                end_time: time(3),
                ..Default::default()
            },
            "end_time",
            "",
        ),
        case(
            "TacticsService/ForecastVehicle",
            pb::ForecastVehicleRequest {
                authority: authority(),
                plate: "浙J12".into(),
                ..Default::default()
            },
            "plate",
            "6 to 9",
        ),
        case(
            "TacticsService/ForecastVehicle",
            pb::ForecastVehicleRequest {
                authority: authority(),
                plate: "浙J12345".into(),
                open_period: Some(pb::Duration { seconds: 1, nanos: 0 }),
                ..Default::default()
            },
            "open_period",
            "10 seconds",
        ),
        case(
            "TacticsService/ApproveTactic",
            pb::ApproveTacticRequest { authority: authority(), ..Default::default() },
            "officer",
            "",
        ),
        case(
            "AlertService/AcknowledgeAlert",
            pb::AcknowledgeAlertRequest {
                authority: authority(),
                name: "alerts/1.w1".into(),
                patrol_unit: "east".into(),
                ..Default::default()
            },
            "patrol_unit",
            "patrolUnits/ID",
        ),
        case(
            "AlertService/StreamAlerts",
            pb::StreamAlertsRequest {
                authority: authority(),
                start: Some(pb::stream_alerts_request::Start::FromNow(pb::FromNow {})),
                patrol_unit: "east".into(),
                ..Default::default()
            },
            "patrol_unit",
            "patrolUnits/ID",
        ),
        case(
            "PatrolService/CreatePatrolUnit",
            pb::CreatePatrolUnitRequest {
                authority: authority(),
                patrol_unit: Some(pb::PatrolUnit {
                    name: "patrolUnits/east".into(),
                    ..Default::default()
                }),
            },
            "patrol_unit.display_name",
            "is required",
        ),
        case(
            "PatrolService/CreatePatrolUnit",
            pb::CreatePatrolUnitRequest {
                authority: authority(),
                patrol_unit: Some(pb::PatrolUnit {
                    name: "patrolUnits/east".into(),
                    display_name: "East".into(),
                    neighbours: vec!["patrolUnits/east".into()],
                    ..Default::default()
                }),
            },
            "patrol_unit",
            "its own neighbour",
        ),
        case(
            "PatrolService/UpdatePatrolUnit",
            pb::UpdatePatrolUnitRequest {
                authority: authority(),
                patrol_unit: Some(pb::PatrolUnit {
                    name: "patrolUnits/east".into(),
                    display_name: "East".into(),
                    shifts: vec![pb::DailyHours {
                        start_minute: 5,
                        end_minute: 5,
                        weekdays: vec![],
                    }],
                    ..Default::default()
                }),
            },
            "patrol_unit.shifts[0]",
            "minutes after midnight",
        ),
        case(
            "PatrolService/DeletePatrolUnit",
            pb::DeletePatrolUnitRequest { authority: authority(), name: "east".into() },
            "name",
            "patrolUnits/ID",
        ),
        case(
            "ReleaseService/RevokeRelease",
            pb::RevokeReleaseRequest { authority: authority(), name: "1".into() },
            "name",
            "releases/NUMBER",
        ),
    ]);
    all
}

/// Calls that take nothing that could be wrong but their authority, which is tested for all, and those whose stream of
/// requests is tested with the imports.
const NOTHING_TO_GET_WRONG: &[&str] = &[
    "WatchlistService/ListWatchlistEntries",
    "ReleaseService/ListReleases",
    "ImportService/ImportSightings",
    "ImportService/ImportCoverage",
    "ImportService/ImportRoadGraph",
    "TacticsService/ListCameraGrades",
    "TacticsService/WatchClones",
    "PatrolService/ListPatrolUnits",
];

#[tokio::test]
async fn what_cannot_be_right_is_named_with_its_fix() {
    let server = Running::start_with(ApiSettings::default()).await;
    server.register([camera("k1", 28.0, 121.0)]);
    let mut wrong = Vec::new();
    let cases = cases();
    for Case { method, request, field, fix } in &cases {
        let mut grpc = tonic::client::Grpc::new(server.channel().await);
        grpc.ready().await.unwrap();
        let request = tonic::Request::new(request.clone());
        let path = format!("/guiji.v1.{method}").parse().unwrap();
        let answer = grpc.server_streaming(request, path, raw::Raw).await;
        let status = match answer {
            Err(status) => status,
            Ok(answer) => match answer.into_inner().message().await {
                Err(status) => status,
                Ok(_) => {
                    wrong.push(format!("{method} {field}: was answered"));
                    continue;
                }
            },
        };
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| bad.field_violations.clone());
        let violations = violations.unwrap_or_default();
        let named =
            violations.iter().any(|v| v.field.starts_with(field) && v.description.contains(fix));
        if status.code() != Code::InvalidArgument || !named {
            wrong.push(format!(
                "{method} {field} ({fix}): {:?} {}",
                status.code(),
                status.message()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let tried: BTreeSet<_> =
        cases.iter().map(|case| format!("/guiji.v1.{}", case.method)).collect();
    let ours = methods();
    let missing: Vec<_> = ours
        .iter()
        .filter(|method| !tried.contains(*method))
        .filter(|method| !NOTHING_TO_GET_WRONG.iter().any(|known| method.ends_with(known)))
        .collect();
    assert!(missing.is_empty(), "calls without a line in the table: {missing:?}");
}

/// Messages as their bytes, so that one function asks every method.
mod raw {
    use tonic::Status;
    use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

    #[derive(Default)]
    pub(super) struct Raw;

    impl Codec for Raw {
        type Encode = Vec<u8>;
        type Decode = ();
        type Encoder = Raw;
        type Decoder = Raw;
        fn encoder(&mut self) -> Raw {
            Raw
        }
        fn decoder(&mut self) -> Raw {
            Raw
        }
    }

    impl Encoder for Raw {
        type Item = Vec<u8>;
        type Error = Status;
        fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
            use prost::bytes::BufMut as _;
            out.put_slice(&item);
            Ok(())
        }
    }

    impl Decoder for Raw {
        type Item = ();
        type Error = Status;
        fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
            use prost::bytes::Buf as _;
            from.advance(from.remaining());
            Ok(Some(()))
        }
    }
}
