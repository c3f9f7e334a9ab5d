use std::net::SocketAddr;
use std::time::Duration;

use crate::{ApiError, PassageSettings};

/// How the server bounds what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// Whom the server may listen to.
    pub exposure: Exposure,
    /// Whether CreateCamera takes files of the server's machine.
    pub file_cameras: FileCameras,
    /// Unary calls answered at the same time; one more is refused at once (RESOURCE_EXHAUSTED, retry later).
    pub calls_max: usize,
    /// Streams open at the same time; one more is refused likewise.
    pub streams_max: usize,
    /// Store calls running at the same time, each on a blocking thread; more wait, within their call's deadline.
    pub store_calls_max: usize,
    /// Sightings that a dry run looks at: some seconds. Where there are more, it takes a sample.
    pub dry_run_examined_max: usize,
    /// What of the passages is kept in memory for the tactics.
    pub passages: PassageSettings,
    /// Longest time for the parts to answer a unary call, or each question of a stream. A client's shorter
    /// `grpc-timeout` is honoured, a longer one is cut.
    pub deadline_max: Duration,
    /// Longest time for a call from its beginning to its end, streams of imports included. Streams of answers may last
    /// longer.
    pub call_max: Duration,
    /// After the shutdown signal: how long open calls may take before they are cut off.
    pub drain_max: Duration,
    /// HTTP/2 pings on quiet connections, so that a vanished peer is noticed.
    pub keepalive_interval: Duration,
    /// How long a ping may stay unanswered.
    pub keepalive_timeout: Duration,
    /// Largest request, bytes.
    pub request_bytes_max: usize,
    /// Largest message of an import, bytes.
    pub import_bytes_max: usize,
    /// Largest response message, bytes. 4 MiB is what gRPC clients take unless told otherwise.
    pub response_bytes_max: usize,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            exposure: Exposure::Protected,
            file_cameras: FileCameras::Refused,
            calls_max: 128,
            streams_max: 256,
            store_calls_max: 8,
            dry_run_examined_max: 20_000,
            passages: PassageSettings::default(),
            deadline_max: Duration::from_secs(30),
            call_max: Duration::from_secs(3600),
            drain_max: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            request_bytes_max: 256 * 1024,
            import_bytes_max: 4 * 1024 * 1024,
            response_bytes_max: 4 * 1024 * 1024,
        }
    }
}

/// Whom the server may listen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exposure {
    /// Programs of this machine; others only with both TLS and tokens.
    #[default]
    Protected,
    /// Anybody who reaches the address, whatever protects it: for development.
    AnyInsecure,
}

/// Whether a client may make the server open files of its machine as cameras.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileCameras {
    /// Refused: the path would be read with the server's rights.
    #[default]
    Refused,
    /// Taken.
    Allowed,
}

/// What stands between a port and those who reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protection {
    /// Whether connections are encrypted.
    pub tls: bool,
    /// Whether callers must show who they are, by a token or a certificate.
    pub identified: bool,
}

/// Checks an address before it is listened on.
///
/// # Errors
/// [`ApiError::Exposed`] when the address is reachable from other machines, is not protected by both TLS and knowing
/// who calls, and that was not allowed.
pub fn listen_address_allowed(
    address: SocketAddr,
    protection: Protection,
    exposure: Exposure,
) -> Result<(), ApiError> {
    let mut lacking = Vec::new();
    if !protection.tls {
        lacking.push("TLS");
    }
    if !protection.identified {
        lacking.push("authentication by tokens or client certificates");
    }
    let local = address.ip().to_canonical().is_loopback();
    if local || lacking.is_empty() || exposure == Exposure::AnyInsecure {
        return Ok(());
    }
    Err(ApiError::Exposed { address, lacking })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on_unless_protected_or_allowed() {
        for (address, loopback) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.168.1.7:1", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            for (tls, identified) in [(false, false), (true, false), (false, true), (true, true)] {
                let allowed = |exposure| {
                    listen_address_allowed(address, Protection { tls, identified }, exposure)
                        .is_ok()
                };
                assert_eq!(
                    allowed(Exposure::Protected),
                    loopback || (tls && identified),
                    "{address}"
                );
                assert!(allowed(Exposure::AnyInsecure));
            }
        }
    }
}
