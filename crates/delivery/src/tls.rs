use std::sync::Arc;

use guiji_domain::InvalidValue;
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::BuilderVerifierExt as _;

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

pub(crate) fn provider() -> Arc<CryptoProvider> {
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
