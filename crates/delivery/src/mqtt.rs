use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use guiji_domain::{InvalidValue, Timestamp};
use rumqttc::{
    Client, Connection, Event, MqttOptions, Outgoing, Packet, QoS, TlsConfiguration, Transport,
};

use crate::{Carrier, Failure, Message, tls};

/// Which broker, and under which topics.
#[derive(Clone)]
pub struct MqttSettings {
    /// `mqtts://HOST[:8883]`, or `mqtt://HOST[:1883]` to this machine.
    pub address: String,
    /// Our name at the broker; no two clients of a broker may share one.
    pub client_id: String,
    /// User name and password, when the broker wants them.
    pub login: Option<(String, String)>,
    /// Authorities in PEM to trust instead of the system's.
    pub authorities: Option<String>,
    /// Messages go to `PREFIX/CAMERA`.
    pub topic_prefix: String,
    /// Longest wait for a PUBACK.
    pub patience: Duration,
}

impl std::fmt::Debug for MqttSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MqttSettings").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Publishes messages with MQTT 3.1.1 at QoS 1, never retained, one at a time: the PUBACK is the proof.
pub struct Mqtt {
    options: MqttOptions,
    topic_prefix: String,
    patience: Duration,
    line: Option<Line>,
}

impl Mqtt {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// When the address, the topic or the authorities cannot be right.
    pub fn new(settings: &MqttSettings) -> Result<Self, InvalidValue> {
        let wrong = |fix: &str| InvalidValue::new("broker address", &settings.address, fix);
        let (encrypted, rest) = match settings.address.split_once("://") {
            Some(("mqtts", rest)) => (true, rest),
            Some(("mqtt", rest)) => (false, rest),
            _ => return Err(wrong("begins with mqtts:// (or mqtt:// on this machine)")),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong("has no such port"))?),
            None => (rest, if encrypted { 8883 } else { 1883 }),
        };
        let local = host == "localhost" || host == "127.0.0.1";
        if !encrypted && !local {
            return Err(wrong("alerts leave this machine encrypted only: use mqtts://"));
        }
        if host.is_empty() || host.contains(['/', '@']) {
            return Err(wrong("is mqtts://HOST or mqtts://HOST:PORT, without path or login"));
        }
        let prefix = &settings.topic_prefix;
        if prefix.is_empty() || prefix.contains(['+', '#', '\0']) || prefix.ends_with('/') {
            let fix = "is a topic without + and #, such as guiji/alerts";
            return Err(InvalidValue::new("topic", prefix, fix));
        }
        let mut options = MqttOptions::new(&settings.client_id, host, port);
        // Shorter than the idle time after which home and office routers forget a connection.
        options.set_keep_alive(Duration::from_secs(15));
        if let Some((user, password)) = &settings.login {
            options.set_credentials(user, password);
        }
        if encrypted {
            let config = tls::client_config(settings.authorities.as_deref())?;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(
                config,
            ))));
        }
        Ok(Self { options, topic_prefix: prefix.clone(), patience: settings.patience, line: None })
    }
}

impl Carrier for Mqtt {
    fn carry(&mut self, message: &Message, _now: Timestamp) -> Result<String, Failure> {
        let topic = format!("{}/{}", self.topic_prefix, message.camera);
        // A line that broke while nothing was said is noticed only now; a new one deserves a try at once.
        let was_open = self.line.is_some();
        match self.publish(&topic, &message.body) {
            Err(Broken::Lost(_)) if was_open => self.publish(&topic, &message.body),
            answer => answer,
        }
        .map(|()| "PUBACK".into())
        .map_err(|broken| match broken {
            Broken::Lost(reason) => Failure::unreachable(reason),
            Broken::Silent => Failure::unreachable(format!("no PUBACK within {:?}", self.patience)),
        })
    }
}

enum Broken {
    Lost(String),
    Silent,
}

impl Mqtt {
    fn publish(&mut self, topic: &str, body: &str) -> Result<(), Broken> {
        let line = match self.line.take() {
            Some(line) => line,
            None => Line::open(self.options.clone()).map_err(Broken::Lost)?,
        };
        line.client
            .try_publish(topic, QoS::AtLeastOnce, false, body)
            .map_err(|error| Broken::Lost(error.to_string()))?;
        match line.answers.recv_timeout(self.patience) {
            Ok(Answer::Acknowledged) => {
                self.line = Some(line);
                Ok(())
            }
            Ok(Answer::Lost(reason)) => Err(Broken::Lost(reason)),
            Err(RecvTimeoutError::Disconnected) => Err(Broken::Lost("connection closed".into())),
            Err(RecvTimeoutError::Timeout) => Err(Broken::Silent),
        }
    }
}

enum Answer {
    Acknowledged,
    Lost(String),
}

/// A connection with a thread that keeps it alive. Thrown away at the first trouble: what was not acknowledged is sent
/// again on a new one, so nothing of its state is worth keeping.
struct Line {
    client: Client,
    answers: Receiver<Answer>,
}

impl Line {
    fn open(options: MqttOptions) -> Result<Self, String> {
        let (client, connection) = Client::new(options, 4);
        // At most one message is under way, so at most an answer and a loss wait here.
        let (answer, answers) = sync_channel(2);
        thread::Builder::new()
            .name("mqtt".into())
            .spawn(move || keep_alive(connection, &answer))
            .map_err(|error| error.to_string())?;
        Ok(Self { client, answers })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Ends the thread; when the line is broken it has ended already.
        drop(self.client.try_disconnect());
    }
}

fn keep_alive(mut connection: Connection, answer: &SyncSender<Answer>) {
    for event in connection.iter() {
        let told = match event {
            Ok(Event::Incoming(Packet::PubAck(_))) => answer.send(Answer::Acknowledged),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => Ok(()),
            Err(error) => {
                drop(answer.send(Answer::Lost(error.to_string())));
                return;
            }
        };
        if told.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_topics_are_checked() {
        let with = |address: &str, topic: &str| {
            Mqtt::new(&MqttSettings {
                address: address.into(),
                client_id: "guiji-test".into(),
                login: None,
                authorities: None,
                topic_prefix: topic.into(),
                patience: Duration::from_secs(1),
            })
            .map(drop)
        };
        assert_eq!(with("mqtt://127.0.0.1:1884", "guiji/alerts"), Ok(()));
        assert_eq!(with("mqtts://broker.example", "guiji/alerts"), Ok(()));
        for wrong in [
            "",
            "mqtt://broker.example",
            "http://a",
            "mqtts://",
            "mqtts://a/b",
            "mqtts://u@a",
            "mqtts://a:x",
        ] {
            assert!(with(wrong, "guiji/alerts").is_err(), "{wrong}");
        }
        for wrong in ["", "a/+", "#", "a/"] {
            assert!(with("mqtt://localhost", wrong).is_err(), "{wrong}");
        }
    }
}
