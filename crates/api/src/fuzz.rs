//! What fuzzers call with any bytes: nothing here may panic, whatever comes. Not part of the interface.

use std::sync::OnceLock;
use std::time::Duration;

use guiji_domain::{Authority, PlatePattern, Timestamp, WatchEntryId};
use prost::Message;

use crate::auth::{RevokedTokens, TokenKeys, TokenSettings, TokenSigner, TokenSpec, TokenVerifier};
use crate::convert::{camera_from_pb, entry_from_pb, sighting_from_pb};
use crate::filter::Filter;
use crate::page_token::PageScope;
use crate::violations::{Violations, check_authority, sighting_id};
use crate::{FileCameras, Role, new_signing_key, pb};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A request: the first byte says which message the others are, which is then checked as its call does.
pub fn request(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let mut wrong = Violations::default();
    match which % 6 {
        0 => {
            if let Ok(request) = pb::SearchSightingsRequest::decode(bytes) {
                drop(check_authority(request.authority.as_ref()));
                let filter = Filter::from_pb(&mut wrong, request.filter.as_ref());
                drop(filter.to_string());
            }
        }
        1 => {
            if let Ok(sighting) = pb::Sighting::decode(bytes) {
                drop(sighting_from_pb(&mut wrong, &sighting));
            }
        }
        2 => {
            if let Ok(request) = pb::CreateCameraRequest::decode(bytes) {
                let camera = request.camera.as_ref();
                drop(camera_from_pb(&request.camera_id, camera, FileCameras::Refused));
            }
        }
        3 => {
            let entry = pb::WatchlistEntry::decode(bytes);
            let authority = Authority::new("fuzz", "F-1", "fuzz");
            if let (Ok(entry), Ok(authority), Ok(id)) = (entry, authority, WatchEntryId::new("w1"))
            {
                drop(entry_from_pb(id, &entry, &authority, NOW));
            }
        }
        4 => {
            if let Ok(request) = pb::ExportEvidenceRequest::decode(bytes) {
                drop(crate::services::checked_export(&request));
            }
        }
        _ => {
            if let Ok(request) = pb::GrantReleaseRequest::decode(bytes)
                && let Ok(authority) = Authority::new("fuzz", "F-1", "fuzz")
            {
                drop(crate::services::checked_release(request.release.as_ref(), &authority, NOW));
            }
        }
    }
    drop(wrong.done());
}

/// The texts that requests are made of: patterns, names, page tokens.
pub fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(pattern) = PlatePattern::parse(text) {
        std::hint::black_box(pattern.exact());
        drop(pattern.prefix());
        // What was understood is understood again.
        assert!(PlatePattern::parse(pattern.as_str()).is_ok_and(|again| again == pattern));
    }
    drop(sighting_id(text));
    drop(PageScope::of("fuzz", &()).open(text));
}

/// A bearer token, its claims under a right signature, and a list of revoked ones.
pub fn token(data: &[u8]) {
    static HOUSE: OnceLock<Option<(TokenSigner, TokenVerifier)>> = OnceLock::new();
    let house = HOUSE.get_or_init(|| {
        let signer = TokenSigner::from_pem(&new_signing_key().ok()?).ok()?;
        let mut keys = TokenKeys::default();
        keys.add(signer.public_key_pem().as_bytes()).ok()?;
        let leeway = Duration::from_secs(30);
        let settings = TokenSettings { issuer: "i".into(), audience: "a".into(), leeway };
        Some((signer, TokenVerifier::new(keys, &settings).ok()?))
    });
    drop(TokenKeys::default().add(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(RevokedTokens::parse(text));
    if let Some((signer, verifier)) = house {
        assert!(verifier.verify(text, NOW).is_err(), "a made-up token was believed");
        let spec = TokenSpec::new("i", "a", text, Role::Analyst);
        if let Ok(token) = signer.sign(&spec, NOW) {
            drop(verifier.verify(&token, NOW));
        }
    }
}
