use std::sync::Arc;

use guiji_domain::{CameraId, Timestamp};
use serde::Deserialize;

use super::{Role, Scope};
use crate::convert::area_from_pb;
use crate::pb;
use crate::violations::Violations;

/// Who makes a call.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// The server asks for no tokens: whoever reaches it is trusted with everything, and says who they are.
    Unnamed,
    /// The bearer of a token that holds, or the owner of a certificate that is known.
    Known(Arc<Identity>),
}

/// What a token says of its bearer, or the configuration of a certificate's owner.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Identity {
    /// The user: the officer of the audit.
    pub(crate) subject: String,
    pub(crate) role: Role,
    /// Where they may look.
    pub(crate) scope: Scope,
    /// The supervisor who let them see data older than 90 days.
    pub(crate) old_data_released_by: Option<String>,
    /// The supervisor who lets them export pictures in which people can be recognised.
    pub(crate) people_shown_by: Option<String>,
    /// The token's own name (`jti`), by which it can be revoked.
    pub(crate) token_id: Option<String>,
    /// When the token, or the right of the certificate, ends.
    pub(crate) expires: Timestamp,
}

/// The claims of a token as they are written. Others are ignored, as the standard demands; inside `guiji` none is,
/// since a misspelt limit would be no limit.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    pub(crate) sub: String,
    pub(crate) exp: f64,
    pub(crate) nbf: Option<f64>,
    pub(crate) jti: Option<String>,
    guiji: Rights,
}

/// What somebody may, as it is written: the claim `guiji` of a token, and what the configuration says of the owner of
/// a client certificate.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rights {
    role: String,
    cameras: Option<Vec<String>>,
    area: Option<Area>,
    old_data_released_by: Option<String>,
    people_shown_by: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Area {
    Circle { latitude_deg: f64, longitude_deg: f64, radius_m: f64 },
    Rectangle { south_deg: f64, west_deg: f64, north_deg: f64, east_deg: f64 },
}

/// Most characters of a name in a token.
const NAME_CHARS_MAX: usize = 200;
/// Most cameras that a scope lists.
const CAMERAS_MAX: usize = 2000;

/// A NumericDate (RFC 7519): seconds since 1970, fractions allowed.
pub(crate) fn instant(claim: &'static str, seconds: f64) -> Result<Timestamp, String> {
    if (0.0..=253_402_300_799.0).contains(&seconds) {
        Ok(Timestamp::from_millis((seconds * 1e3) as i64))
    } else {
        Err(format!("{claim}: {seconds} is no time"))
    }
}

impl Claims {
    /// The bearer, or what is wrong with what is said of them.
    pub(crate) fn identity(self) -> Result<Identity, String> {
        let expires = instant("exp", self.exp)?;
        self.guiji.identity(&self.sub, self.jti, expires)
    }
}

impl Rights {
    /// Whose rights these are until they expire, or what is wrong with them.
    pub(crate) fn identity(
        self,
        subject: &str,
        token_id: Option<String>,
        expires: Timestamp,
    ) -> Result<Identity, String> {
        let mut wrong = Violations::default();
        let name = |wrong: &mut Violations, claim: &str, text: &str| {
            wrong.check_text(claim, text, NAME_CHARS_MAX);
            if text.trim().is_empty() {
                wrong.add(claim, "is empty");
            }
        };
        name(&mut wrong, "sub", subject);
        for (claim, supervisor) in [
            ("guiji.old_data_released_by", &self.old_data_released_by),
            ("guiji.people_shown_by", &self.people_shown_by),
            ("jti", &token_id),
        ] {
            if let Some(supervisor) = supervisor {
                name(&mut wrong, claim, supervisor);
            }
        }
        let role = wrong.take("guiji.role", self.role.parse());
        let scope = scope(&mut wrong, self.cameras.as_deref(), self.area.as_ref());
        let told = |wrong: Violations| {
            let all = wrong.into_iter().map(|(field, what)| format!("{field}: {what}"));
            all.collect::<Vec<_>>().join("; ")
        };
        match (role, scope) {
            (Some(role), Some(scope)) if wrong.is_empty() => Ok(Identity {
                subject: subject.trim().to_owned(),
                role,
                scope,
                old_data_released_by: self.old_data_released_by,
                people_shown_by: self.people_shown_by,
                token_id,
                expires,
            }),
            _ => Err(told(wrong)),
        }
    }
}

fn scope(wrong: &mut Violations, cameras: Option<&[String]>, area: Option<&Area>) -> Option<Scope> {
    match (cameras, area) {
        (None, None) => Some(Scope::Everywhere),
        (Some(_), Some(_)) => {
            wrong.add("guiji", "give cameras or an area, not both");
            None
        }
        (Some(cameras), None) => {
            let ids = wrong
                .take_list("guiji.cameras", cameras, CAMERAS_MAX, |id: &String| CameraId::new(id));
            Some(Scope::Cameras(Arc::new(ids.into_iter().collect())))
        }
        (None, Some(area)) => {
            let point =
                |latitude_deg, longitude_deg| Some(pb::GeoPoint { latitude_deg, longitude_deg });
            let shape = match *area {
                Area::Circle { latitude_deg, longitude_deg, radius_m } => {
                    let centre = point(latitude_deg, longitude_deg);
                    pb::area::Shape::Circle(pb::Circle { centre, radius_m })
                }
                Area::Rectangle { south_deg, west_deg, north_deg, east_deg } => {
                    let south_west = point(south_deg, west_deg);
                    let north_east = point(north_deg, east_deg);
                    pb::area::Shape::Rectangle(pb::Rectangle { south_west, north_east })
                }
            };
            area_from_pb(wrong, "guiji.area", &pb::Area { shape: Some(shape) }).map(Scope::Area)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(guiji: serde_json::Value) -> Result<Identity, String> {
        let claims = json!({"sub": "wang", "exp": 1e9, "other": 1, "guiji": guiji});
        let claims: Claims = serde_json::from_value(claims).map_err(|error| error.to_string())?;
        claims.identity()
    }

    #[test]
    fn claims_say_who_and_where() {
        let all = read(json!({"role": "patrol"})).unwrap();
        assert_eq!(
            (all.subject.as_str(), all.role, all.scope),
            ("wang", Role::Patrol, Scope::Everywhere)
        );
        assert_eq!(all.expires, Timestamp::from_secs(1_000_000_000));
        let two = read(json!({"role": "analyst", "cameras": ["k1", "k2"]})).unwrap();
        assert!(matches!(two.scope, Scope::Cameras(ids) if ids.len() == 2));
        let circle =
            json!({"circle": {"latitude_deg": 28.0, "longitude_deg": 121.0, "radius_m": 500.0}});
        let near = read(json!({"role": "analyst", "area": circle})).unwrap();
        assert!(matches!(near.scope, Scope::Area(_)));
        // An empty list is a limit too.
        let none = read(json!({"role": "analyst", "cameras": []})).unwrap();
        assert!(matches!(none.scope, Scope::Cameras(ids) if ids.is_empty()));
    }

    #[test]
    fn a_claim_that_is_not_understood_gives_no_right() {
        let circle =
            json!({"circle": {"latitude_deg": 121.0, "longitude_deg": 28.0, "radius_m": 5.0}});
        for (guiji, hint) in [
            (json!({"role": "root"}), "analyst, patrol"),
            (json!({"role": "Analyst"}), "analyst, patrol"),
            (json!({}), "role"),
            (json!({"role": "analyst", "camera": ["k1"]}), "unknown field"),
            (json!({"role": "analyst", "cameras": ["k 1"]}), "guiji.cameras[0]"),
            (json!({"role": "analyst", "cameras": ["k1"], "area": circle}), "not both"),
            (json!({"role": "analyst", "area": circle}), "exchanged"),
            (json!({"role": "analyst", "area": {"circle": {}}}), "latitude_deg"),
            (json!({"role": "analyst", "old_data_released_by": " "}), "is empty"),
        ] {
            let shown = guiji.to_string();
            let error = read(guiji).unwrap_err();
            assert!(error.contains(hint), "{shown}: {error}");
        }
    }
}
