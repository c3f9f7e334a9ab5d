//! `[[receiver]]`: webhooks and brokers that are told of alerts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use guiji_delivery::{
    Carrier, CourierParts, CourierSettings, Couriers, Mqtt, MqttSettings, Receiver, Webhook,
    WebhookSecret, WebhookSettings,
};
use guiji_domain::{Alert, CameraId, Clock, PatrolUnitId, ReceiverId};
use guiji_engine::Escalation;
use guiji_store::{Deliveries, Store};
use serde::Deserialize;
use tracing::error;

/// A checked `[[receiver]]`.
#[derive(Debug, Clone)]
pub(crate) struct ReceiverSettings {
    id: ReceiverId,
    way: Way,
    cameras: BTreeSet<CameraId>,
    unit: Option<PatrolUnitId>,
    from_beginning: bool,
}

/// How messages get there.
#[derive(Debug, Clone)]
enum Way {
    Webhook(WebhookSettings),
    Mqtt(MqttSettings),
}

/// `[[receiver]]` as it was typed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReceiver {
    id: String,
    webhook: Option<String>,
    secret_file: Option<PathBuf>,
    mqtt: Option<String>,
    #[serde(default = "our_topic")]
    topic: String,
    username: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    cameras: Vec<String>,
    unit: Option<String>,
    #[serde(default)]
    start: Start,
}

/// What a new receiver is told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Start {
    #[default]
    Now,
    Beginning,
}

fn our_topic() -> String {
    "guiji/alerts".into()
}

/// How long a receiver may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl RawReceiver {
    /// Checks it; paths are relative to `base`.
    pub(crate) fn checked(self, base: &Path) -> Result<ReceiverSettings> {
        let label = self.id.clone();
        self.make(base).with_context(|| format!("receiver {label:?}"))
    }

    fn make(self, base: &Path) -> Result<ReceiverSettings> {
        let read = |path: &PathBuf, what: &str| {
            let path = base.join(path);
            std::fs::read_to_string(&path)
                .with_context(|| format!("read {what} {}", path.display()))
        };
        let authorities = self.ca_file.as_ref().map(|path| read(path, "ca_file")).transpose()?;
        let way = match (self.webhook, self.mqtt) {
            (Some(url), None) => {
                let file = self.secret_file.as_ref().context(
                    "secret_file is missing: name a file with `whsec_` and 24 to 64 random bytes in base64",
                )?;
                Way::Webhook(WebhookSettings {
                    url,
                    secret: WebhookSecret::parse(&read(file, "secret_file")?)?,
                    authorities,
                    patience: PATIENCE,
                })
            }
            (None, Some(address)) => {
                let password = self.password_file.as_ref().map(|path| read(path, "password_file"));
                let login = match (self.username, password.transpose()?) {
                    (None, None) => None,
                    (Some(user), password) => Some((
                        user,
                        password.unwrap_or_default().trim_end_matches(['\r', '\n']).to_owned(),
                    )),
                    (None, Some(_)) => bail!("a password is given, but no username"),
                };
                Way::Mqtt(MqttSettings {
                    address,
                    client_id: format!("guiji-{}", self.id),
                    login,
                    authorities,
                    topic_prefix: self.topic,
                    patience: PATIENCE,
                })
            }
            _ => bail!("give either webhook = \"https://...\" or mqtt = \"mqtts://...\""),
        };
        if self.id == Escalation::NAME {
            bail!("this id is the program's own: choose another one");
        }
        let settings = ReceiverSettings {
            id: ReceiverId::new(&self.id)?,
            way,
            cameras: self.cameras.iter().map(|id| CameraId::new(id)).collect::<Result<_, _>>()?,
            unit: self.unit.as_deref().map(PatrolUnitId::new).transpose()?,
            from_beginning: self.start == Start::Beginning,
        };
        // What cannot be right is said now, not when the first alert is on its way.
        settings.carrier()?;
        Ok(settings)
    }
}

impl ReceiverSettings {
    /// Its name.
    pub(crate) fn id(&self) -> &ReceiverId {
        &self.id
    }

    fn carrier(&self) -> Result<Box<dyn Carrier>> {
        Ok(match &self.way {
            Way::Webhook(settings) => Box::new(Webhook::new(settings.clone())?),
            Way::Mqtt(settings) => Box::new(Mqtt::new(settings)?),
        })
    }

    fn receiver(&self) -> Result<Receiver> {
        let settings = self.clone();
        Ok(Receiver {
            id: self.id.clone(),
            carrier: self.carrier()?,
            concerns: Box::new(move |alert| settings.concerns(alert)),
            from_beginning: self.from_beginning,
        })
    }

    /// Whether it is told of an alert: of its cameras, and for its patrol unit.
    fn concerns(&self, alert: &Alert) -> bool {
        (self.cameras.is_empty() || self.cameras.contains(&alert.camera))
            && self.unit.as_ref().is_none_or(|unit| alert.units.contains(unit))
    }
}

/// Starts a courier for each receiver.
pub(crate) fn start(
    receivers: &[ReceiverSettings],
    store: Arc<Store>,
    ledger: Arc<Deliveries>,
    clock: Arc<dyn Clock>,
) -> Result<Couriers> {
    let parts = CourierParts { log: store, ledger, clock, write: Arc::new(write) };
    let receivers = receivers.iter().map(ReceiverSettings::receiver).collect::<Result<_>>()?;
    Couriers::start(&parts, &CourierSettings::default(), receivers)
        .context("start the delivery of alerts")
}

/// The same JSON as that of the gRPC API.
fn write(alert: &Alert) -> String {
    guiji_api::json::alert_to_json(alert).unwrap_or_else(|error| {
        error!(%error, alert = %alert.id, "an alert has no JSON; only its name is delivered");
        format!("{{\"name\":\"alerts/{}\"}}", alert.id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guiji_domain::{
        AlertId, AlertStage, CaptureTime, ClockSource, SightingId, Timestamp, WatchEntryId,
        WatchTarget,
    };

    #[test]
    fn mistakes_name_the_receiver_and_the_mend() {
        let folder = tempfile::tempdir().unwrap();
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
        std::fs::write(folder.path().join("secret"), secret).unwrap();
        std::fs::write(folder.path().join("short"), "whsec_c2hvcnQ=").unwrap();
        let checked = |text: &str| {
            toml::from_str::<RawReceiver>(&format!("id = \"desk\"\n{text}"))
                .map_err(anyhow::Error::from)
                .and_then(|raw| raw.checked(folder.path()))
        };
        for right in [
            "webhook = \"https://a.example/x\"\nsecret_file = \"secret\"\nstart = \"beginning\"",
            "mqtt = \"mqtts://a.example\"\nusername = \"u\"\npassword_file = \"secret\"\ncameras = [\"k1\"]",
        ] {
            assert!(checked(right).is_ok(), "{right}: {:?}", checked(right).err());
        }
        for (wrong, hint) in [
            ("", "either webhook"),
            ("webhook = \"https://a.example\"", "secret_file is missing"),
            ("webhook = \"https://a.example\"\nsecret_file = \"none\"", "none"),
            ("webhook = \"https://a.example\"\nsecret_file = \"short\"", "24 to 64"),
            ("webhook = \"http://a.example\"\nsecret_file = \"secret\"", "use https://"),
            ("mqtt = \"mqtt://a.example\"", "use mqtts://"),
            ("mqtt = \"mqtts://a.example\"\npassword_file = \"secret\"", "no username"),
            ("mqtt = \"mqtts://a.example\"\ntopic = \"a/#\"", "without + and #"),
            ("mqtt = \"mqtts://a.example\"\nca_file = \"secret\"", "certificate"),
            ("mqtt = \"mqtts://a.example\"\nstart = \"later\"", "beginning"),
            ("mqtt = \"mqtts://a.example\"\nunit = \"patrolUnits/east\"", "unit"),
        ] {
            let error = format!("{:#}", checked(wrong).unwrap_err());
            assert!(error.contains(hint), "{wrong}\n→ {error}");
            assert!(!error.contains("MfKQ"), "{error}");
        }
    }

    #[test]
    fn a_receiver_is_told_of_its_cameras_and_for_its_unit() {
        let at = |camera: &str, units: &[&str]| {
            let at = Timestamp::EPOCH;
            Alert {
                id: AlertId {
                    sighting: SightingId::from_u128(1),
                    entry: WatchEntryId::new("w1").unwrap(),
                },
                cursor: 1,
                stage: AlertStage::Confirmed,
                raised: at,
                camera: CameraId::new(camera).unwrap(),
                captured: CaptureTime {
                    at,
                    uncertainty: Duration::ZERO,
                    source: ClockSource::Stated,
                },
                read: None,
                target: WatchTarget::Description,
                case_number: "A-1".into(),
                probability: 0.9,
                units: units.iter().map(|unit| PatrolUnitId::new(unit).unwrap()).collect(),
                acknowledgement: None,
                repeat: None,
            }
        };
        let receiver = |rest: &str| {
            let text = format!("id = \"desk\"\nmqtt = \"mqtts://a.example\"\n{rest}");
            toml::from_str::<RawReceiver>(&text).unwrap().checked(Path::new(".")).unwrap()
        };
        let (east, west, k1) = (at("k1", &["north", "east"]), at("k2", &["west"]), at("k1", &[]));
        let told = |receiver: &ReceiverSettings| [&east, &west, &k1].map(|a| receiver.concerns(a));
        assert_eq!(told(&receiver("")), [true; 3]);
        assert_eq!(told(&receiver("unit = \"east\"")), [true, false, false]);
        assert_eq!(told(&receiver("cameras = [\"k1\"]")), [true, false, true]);
        assert_eq!(told(&receiver("cameras = [\"k2\"]\nunit = \"east\"")), [false; 3]);
    }
}
