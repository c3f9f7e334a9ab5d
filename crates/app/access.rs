//! Keys, certificates and tokens: the files of the server ([`load`]) and of its clients ([`AccessFiles`]).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use guiji_api::client::{Access, subject_of_token};
use guiji_api::{
    ClientCertificates, Exposure, Protection, RevokedTokens, ServerTls, TokenKeys, TokenVerifier,
};
use guiji_domain::Authority;
use tracing::{info, warn};

use crate::config::{Config, TokenFiles};

/// What an operator does about a port that is not protected.
pub(crate) const HOW_TO_PROTECT: &str = "server.listen: set [server.tls] (certificate, key) and [server.tokens] (keys, issuer) or [[server.client]], or listen on 127.0.0.1; \
     for development alone, server.insecure = true lets anybody in";

/// Whom the server may listen to.
pub(crate) fn exposure(config: &Config) -> Exposure {
    if !config.insecure {
        return Exposure::Protected;
    }
    warn!(
        listen = %config.listen,
        "INSECURE: server.insecure = true, so whoever reaches this port may see and change everything that TLS and \
         tokens do not guard; never use it with real data"
    );
    Exposure::AnyInsecure
}

/// What the configuration puts between the API and those who reach it.
pub(crate) fn protection(config: &Config) -> Protection {
    Protection {
        tls: config.tls.is_some(),
        identified: config.tokens.is_some() || !config.clients.is_empty(),
    }
}

/// The owners of client certificates.
///
/// # Errors
/// When what is said of one cannot be understood.
pub(crate) fn clients(config: &Config) -> Result<ClientCertificates> {
    ClientCertificates::new(config.clients.clone()).context("server.client")
}

/// Reads certificate, key and the tokens' keys.
///
/// # Errors
/// When one cannot be read or is not what it should be; the message names the file.
pub(crate) fn load(config: &Config) -> Result<(Option<ServerTls>, Option<TokenVerifier>)> {
    let tls = match &config.tls {
        None => None,
        Some(files) => {
            refuse_exposed(&files.key)?;
            let tls = ServerTls {
                certificate_pem: read("server.tls.certificate", &files.certificate)?,
                key_pem: read("server.tls.key", &files.key)?,
                client_ca_pem: (files.client_ca.as_deref())
                    .map(|path| read("server.tls.client_ca", path))
                    .transpose()?,
            };
            tls.check().context("server.tls: certificate, key and client_ca do not fit")?;
            Some(tls)
        }
    };
    let tokens = match &config.tokens {
        None => None,
        Some(files) => {
            let (keys, revoked) = read_tokens(files)?.believed(files)?;
            let verifier =
                TokenVerifier::new(keys.clone(), &files.settings).context("server.tokens")?;
            verifier.believe(keys, revoked).context("server.tokens")?;
            Some(verifier)
        }
    };
    Ok((tls, tokens))
}

/// The bytes of the files that say which tokens are believed.
#[derive(Clone, PartialEq, Eq)]
struct TokenBytes {
    keys: Vec<Vec<u8>>,
    revoked: Option<Vec<u8>>,
}

fn read_tokens(files: &TokenFiles) -> Result<TokenBytes> {
    let keys = files.keys.iter().map(|path| read("server.tokens.keys", path));
    let revoked = files.revoked.as_deref().map(|path| read("server.tokens.revoked", path));
    Ok(TokenBytes { keys: keys.collect::<Result<_>>()?, revoked: revoked.transpose()? })
}

impl TokenBytes {
    fn believed(&self, files: &TokenFiles) -> Result<(TokenKeys, Option<RevokedTokens>)> {
        let mut keys = TokenKeys::default();
        for (path, text) in files.keys.iter().zip(&self.keys) {
            keys.add(text).with_context(|| format!("server.tokens.keys: {}", path.display()))?;
        }
        let revoked = self.revoked.as_ref().map(|bytes| {
            let text = std::str::from_utf8(bytes).context("is no text")?;
            anyhow::Ok(RevokedTokens::parse(text)?)
        });
        let revoked = revoked.transpose().with_context(|| {
            let path = files.revoked.as_deref().unwrap_or(Path::new(""));
            format!("server.tokens.revoked: {}", path.display())
        })?;
        Ok((keys, revoked))
    }
}

/// Looks every few seconds whether the files of keys and revoked tokens have changed, and believes what they say then.
/// A file that cannot be read or understood changes nothing, and the log says so each time.
pub(crate) async fn follow_token_files(
    files: TokenFiles,
    verifier: TokenVerifier,
    stopped: impl Future<Output = ()>,
) {
    /// How late a revocation may be.
    const EVERY: Duration = Duration::from_secs(5);
    tokio::pin!(stopped);
    // Read once more at the first look: the files may have changed since the server read them.
    let mut known = None;
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let believed = read_tokens(&files).and_then(|bytes| {
            if known.as_ref() == Some(&bytes) {
                return Ok(());
            }
            let (keys, revoked) = bytes.believed(&files)?;
            verifier.believe(keys, revoked)?;
            info!("keys and revoked tokens were read");
            known = Some(bytes);
            Ok(())
        });
        if let Err(error) = believed {
            warn!("what was believed before stays in force: {error:#}");
        }
    }
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{what}: read {}", path.display()))
}

/// A private key that everybody on the machine can read is none.
fn refuse_exposed(key: &Path) -> Result<()> {
    let mode = fs::metadata(key)
        .with_context(|| format!("server.tls.key: read {}", key.display()))?
        .mode();
    if mode & 0o007 != 0 {
        bail!("server.tls.key: everybody may read {}: chmod 640 or 600", key.display());
    }
    Ok(())
}

/// How a client proves who it is.
#[derive(Debug, Args)]
pub(crate) struct AccessFiles {
    /// The file with the bearer token.
    #[arg(long, env = "GUIJI_TOKEN_FILE", value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// The authority that signed the server's certificate, PEM; connects with TLS.
    #[arg(long, env = "GUIJI_CA", value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// The client's certificate, PEM, for servers that ask for one.
    #[arg(long, env = "GUIJI_CERT", value_name = "FILE", global = true)]
    cert: Option<PathBuf>,
    /// The private key of --cert, PEM.
    #[arg(long, env = "GUIJI_KEY", value_name = "FILE", global = true)]
    key: Option<PathBuf>,
}

impl AccessFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, or one of certificate and key is missing.
    pub(crate) fn load(&self) -> Result<Access> {
        let certificate_and_key_pem = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((read("--cert", cert)?, read("--key", key)?)),
            _ => bail!("--cert and --key belong together"),
        };
        if certificate_and_key_pem.is_some() && self.ca.is_none() {
            bail!("--cert needs --ca: the server's certificate must be checked too");
        }
        let token = self.token_file.as_deref().map(|path| {
            let text = String::from_utf8(read("--token-file", path)?)
                .with_context(|| format!("--token-file: {} holds no token", path.display()))?;
            anyhow::Ok(text.trim().to_owned())
        });
        Ok(Access {
            token: token.transpose()?,
            ca_pem: self.ca.as_deref().map(|path| read("--ca", path)).transpose()?,
            certificate_and_key_pem,
        })
    }
}

/// By what right a client asks: its officer is the token's user, unless another is named.
///
/// # Errors
/// When a part is missing.
pub(crate) fn authority(
    purpose: &str,
    case_number: &str,
    officer: &str,
    access: &Access,
) -> Result<Authority> {
    let of_token = access.token.as_deref().and_then(subject_of_token).unwrap_or_default();
    let officer = if officer.trim().is_empty() { &of_token } else { officer };
    Ok(Authority::new(purpose, case_number, officer)?)
}
