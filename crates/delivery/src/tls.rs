use std::sync::Arc;
use std::time::Duration;

use guiji_domain::InvalidValue;
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::BuilderVerifierExt as _;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The certificates of a PEM file's content.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, InvalidValue> {
    let wrong = |fix: String| InvalidValue::new("certificate authority", "(PEM)", fix);
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong("holds no certificate: give a PEM file with at least one".into()));
    }
    Ok(found)
}

/// An HTTP client that trusts the given authorities, or the system's, and waits for an answer for so long at most. What is signed,
/// or carries a login, goes where it was sent and nowhere else: it follows no redirects.
pub(crate) fn agent(authorities: Option<&str>, patience: Duration) -> Result<Agent, InvalidValue> {
    let roots = match authorities {
        None => RootCerts::PlatformVerifier,
        Some(pem) => RootCerts::from(
            certificates(pem)?
                .iter()
                .map(|certificate| Certificate::from_der(certificate).to_owned()),
        ),
    };
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider())
        .root_certs(roots)
        .build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(patience))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("guiji/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Trusts the given authorities, or the system's.
pub(crate) fn client_config(authorities: Option<&str>) -> Result<ClientConfig, InvalidValue> {
    let wrong =
        |error: rustls::Error| InvalidValue::new("certificate authority", "", error.to_string());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let builder = match authorities {
        None => builder.with_platform_verifier().map_err(wrong)?,
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(pem)? {
                roots.add(certificate).map_err(wrong)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    Ok(builder.with_no_client_auth())
}
