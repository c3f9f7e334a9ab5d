//! Evidence that leaves the house, releases of old data, revoked tokens and what supervisors are shown.

use std::time::Duration;

use guiji_analysis::odd::{Finding, Pattern};
use guiji_api::client::{AlertsFrom, Client, ClientError, ErrorCode};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::{RevokedTokens, Role, TokenKeys, TokenScope, TokenSpec, pb};
use guiji_domain::{CameraId, People, Timestamp};

use crate::access::{Guarded, spec, told};
use crate::scripted::{Running, camera, now, sighting};

const DAY: Duration = Duration::from_secs(86_400);

/// Header and bytes of a bundle.
async fn export(
    client: &Client,
    request: pb::ExportEvidenceRequest,
) -> Result<(pb::BundleHeader, Vec<u8>), ClientError> {
    use pb::export_evidence_response::Part;
    let mut parts = client.export_evidence(request).await?;
    let (mut header, mut bytes) = (None, Vec::new());
    while let Some(message) = parts.next().await? {
        match message.part.unwrap() {
            Part::Header(given) => header = Some(given),
            Part::Chunk(chunk) => {
                assert!(header.is_some() && chunk.len() <= 65_536);
                bytes.extend(chunk);
            }
        }
    }
    Ok((header.unwrap(), bytes))
}

fn of_plate(plate: &str) -> pb::ExportEvidenceRequest {
    pb::ExportEvidenceRequest { plate: plate.into(), ..Default::default() }
}

#[tokio::test]
async fn a_bundle_is_ordered_with_its_authority_and_comes_in_chunks() {
    let guarded = Guarded::start().await;
    guarded.server.see([
        sighting("k1", "浙J12345", 1),
        sighting("k2", "浙J12345", 2),
        sighting("k1", "浙A99999", 3),
    ]);
    let client = guarded.client(&spec(Role::Analyst)).await;
    let (header, bytes) = export(&client, of_plate("浙J12345")).await.unwrap();
    assert_eq!((header.sighting_count, header.media_type.as_str()), (2, "application/x-tar"));
    assert_eq!(bytes, [&b"begin"[..], &[2; 100_000]].concat());
    let orders = guarded.server.parts.orders.lock().unwrap();
    let order = &orders[0];
    assert_eq!((order.people, order.role.as_str()), (People::Blurred, "analyst"));
    assert_eq!(order.authority.officer(), "wang");
    assert_eq!(order.question, "plate 浙J12345, people blurred");
    let audit = guarded.server.parts.audit.lock().unwrap();
    assert_eq!(order.audit_record, header.audit_record);
    let opened = &audit[usize::try_from(header.audit_record).unwrap() - 1];
    assert_eq!(
        (opened.outcome.as_str(), opened.question.as_str()),
        ("Opened", order.question.as_str())
    );
    let (name, lines) = &order.documents[0];
    assert_eq!(name, "sightings.json");
    let lines = String::from_utf8(lines.clone()).unwrap();
    assert_eq!(lines.lines().count(), 2);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["camera"], "cameras/k1");
    assert!(first["plate"]["lattice"].is_object(), "the whole reading is in it");
}

#[tokio::test]
async fn an_export_keeps_to_role_scope_and_age() {
    let guarded = Guarded::start().await;
    let server = &guarded.server;
    server.register([camera("k1", 28.0, 121.0), camera("k2", 28.5, 121.5)]);
    let mut old = sighting("k1", "浙J77777", 4);
    old.captured.at = now().minus(DAY * 91);
    let (inside, outside) = (sighting("k1", "浙J12345", 1), sighting("k2", "浙J12345", 2));
    let named = |id| pb::ExportEvidenceRequest {
        sightings: vec![format!("sightings/{id}")],
        ..Default::default()
    };
    let (mine, theirs, aged) = (named(inside.id), named(outside.id), named(old.id));
    server.see([inside, outside, old]);
    let patrol = guarded.client(&spec(Role::Patrol)).await;
    let error = export(&patrol, mine.clone()).await.unwrap_err();
    assert_eq!(told(&error), (ErrorCode::PermissionDenied, "ROLE_FORBIDS"));
    let scope = TokenScope::Cameras(vec![CameraId::new("k1").unwrap()]);
    let client = guarded.client(&TokenSpec { scope, ..spec(Role::Analyst) }).await;
    assert!(export(&client, mine.clone()).await.is_ok());
    let error = export(&client, theirs).await.unwrap_err();
    assert_eq!(told(&error), (ErrorCode::PermissionDenied, "OUTSIDE_SCOPE"));
    assert_eq!(export(&client, of_plate("浙J12345")).await.unwrap().0.sighting_count, 1);
    let error = export(&client, aged).await.unwrap_err();
    assert_eq!(told(&error), (ErrorCode::PermissionDenied, "DATA_TOO_OLD"));
    let error = export(&client, of_plate("浙J00000")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound, "{error}");

    // People are shown by a supervisor, or by one's leave.
    let shown = pb::ExportEvidenceRequest { people: pb::PeopleInPictures::Shown.into(), ..mine };
    let analyst = guarded.client(&spec(Role::Analyst)).await;
    let error = export(&analyst, shown.clone()).await.unwrap_err();
    assert_eq!(told(&error), (ErrorCode::PermissionDenied, "PEOPLE_BLURRED"));
    let leave = TokenSpec { people_shown_by: Some("li".into()), ..spec(Role::Analyst) };
    for spec in [leave, spec(Role::Supervisor)] {
        assert!(export(&guarded.client(&spec).await, shown.clone()).await.is_ok());
    }
    let orders = server.parts.orders.lock().unwrap();
    assert_eq!(orders.iter().filter(|order| order.people == People::Shown).count(), 2);
}

#[tokio::test]
async fn odd_patterns_are_for_supervisors() {
    let guarded = Guarded::start().await;
    *guarded.server.parts.odd.lock().unwrap() = vec![
        Finding {
            officer: "zhao".into(),
            what: Pattern::SamePlate { plate: "浙J12345".into(), days: 6, cases: 2 },
            calls: 9,
            first: 17,
        },
        Finding {
            officer: "zhao".into(),
            what: Pattern::NoCase { case_number: "-".into() },
            calls: 1,
            first: 3,
        },
    ];
    let client = guarded.client(&spec(Role::Supervisor)).await;
    let found = client.odd_patterns(7).await.unwrap();
    assert_eq!(*guarded.server.parts.odd_since.lock().unwrap(), Some(now().minus(DAY * 7)));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].kind(), pb::OddKind::SamePlate);
    assert_eq!(
        (found[0].plate.as_str(), found[0].call_count, found[0].first_record),
        ("浙J12345", 9, 17)
    );
    assert_eq!(found[1].case_number, "-");
    assert!(found[0].description.contains("6 days"), "{}", found[0].description);
    let error = client.odd_patterns(400).await.unwrap_err();
    assert!(error.message.contains("days"), "{error}");
    let analyst = guarded.client(&spec(Role::Analyst)).await;
    let error = analyst.odd_patterns(7).await.unwrap_err();
    assert_eq!(told(&error), (ErrorCode::PermissionDenied, "ROLE_FORBIDS"));
}

fn release(plate: &str, officer: &str, ends: Timestamp) -> pb::Release {
    pb::Release {
        officer: officer.into(),
        case_number: "A-1".into(), // that of every client of these tests
        plate: plate.into(),
        reason: "series of thefts".into(),
        expire_time: Some(timestamp_to_pb(ends)),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_release_of_old_data_is_anothers_and_for_officer_case_and_plate() {
    let guarded = Guarded::start().await;
    let mut old = sighting("k1", "浙J12345", 1);
    old.captured.at = now().minus(DAY * 91);
    let mut other = sighting("k1", "浙J77777", 2);
    other.captured.at = old.captured.at;
    let (name, others_name) = (format!("sightings/{}", old.id), format!("sightings/{}", other.id));
    guarded.server.see([old, other]);
    let since = now().minus(DAY * 100);
    let search = |plate: &str| pb::SearchSightingsRequest {
        filter: Some(pb::SightingFilter {
            plate_pattern: plate.into(),
            start_time: Some(timestamp_to_pb(since)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let analyst = guarded.client(&spec(Role::Analyst)).await; // wang
    let supervisor =
        guarded.client(&TokenSpec { subject: "li".into(), ..spec(Role::Supervisor) }).await;
    assert!(analyst.sighting(&name).await.is_err());

    let ends = now().plus(DAY);
    let granted = supervisor.grant_release(release("浙j12345", "wang", ends)).await.unwrap();
    assert_eq!(granted.name, "releases/1");
    assert_eq!((granted.granted_by.as_str(), granted.plate.as_str()), ("li", "浙J12345"));
    assert!(analyst.sighting(&name).await.is_ok());
    assert_eq!(analyst.search(search("浙J12345")).await.unwrap().sightings.len(), 1);
    assert_eq!(analyst.trajectory("浙J12345", Some(since), None).await.unwrap().points.len(), 1);
    assert_eq!(export(&analyst, of_plate("浙J12345")).await.unwrap().0.sighting_count, 1);
    // Its use stands in the audit.
    let told_in_audit = guarded.server.parts.audit.lock().unwrap().iter().any(|entry| {
        entry.officer == "wang"
            && entry.question.ends_with(", with releases/1")
            && entry.outcome == "Ok"
    });
    assert!(told_in_audit);
    // Not for another plate, another officer, or a pattern.
    for error in [
        analyst.sighting(&others_name).await.unwrap_err(),
        analyst.search(search("浙J1234?")).await.unwrap_err(),
        analyst.search(search("")).await.unwrap_err(),
    ] {
        assert_eq!(told(&error), (ErrorCode::PermissionDenied, "DATA_TOO_OLD"), "{error}");
    }
    let zhao = guarded.client(&TokenSpec { subject: "zhao".into(), ..spec(Role::Analyst) }).await;
    assert!(zhao.sighting(&name).await.is_err());

    // Nobody gives leave to themselves, without end, or in the past; only supervisors do.
    for (wrong, field) in [
        (release("", "li", ends), "release.officer"),
        (release("", "wang", now()), "release.expire_time"),
        (release("", "wang", now().plus(DAY * 91)), "release.expire_time"),
        (release("浙J?", "wang", ends), "release.plate"),
        (pb::Release { reason: String::new(), ..release("", "wang", ends) }, "release.reason"),
        (pb::Release { expire_time: None, ..release("", "wang", ends) }, "release.expire_time"),
    ] {
        let error = supervisor.grant_release(wrong).await.unwrap_err();
        assert!(error.message.contains(field), "{field}: {error}");
    }
    let error = analyst.grant_release(release("", "zhao", ends)).await.unwrap_err();
    assert_eq!(told(&error), (ErrorCode::PermissionDenied, "ROLE_FORBIDS"));

    assert_eq!(supervisor.releases().await.unwrap().len(), 1);
    supervisor.revoke_release("releases/1").await.unwrap();
    assert!(analyst.sighting(&name).await.is_err());
    let error = supervisor.revoke_release("releases/1").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);

    // One for any plate.
    supervisor.grant_release(release("", "wang", ends)).await.unwrap();
    assert_eq!(analyst.search(search("")).await.unwrap().sightings.len(), 2);
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_its_stream_ends() {
    let guarded = Guarded::start().await;
    let (lost, kept) = (spec(Role::Patrol), spec(Role::Patrol));
    assert_ne!(lost.id, kept.id, "each token has a name of its own");
    let client = guarded.client(&lost).await;
    let other = guarded.client(&kept).await;
    let mut stream = client.alerts(AlertsFrom::Now, None).await.unwrap();
    let mut others = other.alerts(AlertsFrom::Now, None).await.unwrap();
    stream.next().await.unwrap().unwrap();
    others.next().await.unwrap().unwrap();
    let mut keys = TokenKeys::default();
    keys.add(guarded.signer.public_key_pem().as_bytes()).unwrap();
    let list = RevokedTokens::parse(&format!("# lost\n{}\n", lost.id)).unwrap();
    guarded.verifier.believe(keys, Some(list)).unwrap();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap();
    assert_eq!(told(&end.unwrap_err()), (ErrorCode::Unauthenticated, "TOKEN_REVOKED"));
    let error = client.cameras().await.unwrap_err();
    assert_eq!(told(&error), (ErrorCode::Unauthenticated, "TOKEN_REVOKED"));
    assert!(other.cameras().await.is_ok());
    guarded.server.ring(1);
    assert!(others.next().await.unwrap().is_some(), "the other stream goes on");
}

#[tokio::test]
async fn without_tokens_everything_is_trusted() {
    let server = Running::start().await;
    server.see([sighting("k1", "浙J12345", 1)]);
    let shown = pb::ExportEvidenceRequest {
        people: pb::PeopleInPictures::Shown.into(),
        ..of_plate("浙J12345")
    };
    assert!(export(&server.client().await, shown).await.is_ok());
}
