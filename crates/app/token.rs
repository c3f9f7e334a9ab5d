//! `guiji token`: an Ed25519 key and tokens signed with it, for tests and for installations too small for an identity
//! provider.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use guiji_api::{Role, TokenScope, TokenSigner, TokenSpec, new_signing_key};
use guiji_domain::{CameraId, Clock as _, GeoPoint};

use crate::clock::SystemClock;

/// Arguments of `guiji token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a key: FILE (private, stays here) and FILE.pub (public, for server.tokens.keys).
    Key {
        /// The private key; must not exist yet.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Sign a token and print it.
    Sign(Sign),
}

#[derive(Debug, Args)]
struct Sign {
    /// The private key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The user.
    #[arg(long)]
    user: String,
    /// What the user does: analyst, patrol, integrator, supervisor or admin.
    #[arg(long)]
    role: Role,
    /// The issuer, as in server.tokens.issuer.
    #[arg(long)]
    issuer: String,
    /// The server, as in server.tokens.audience.
    #[arg(long, default_value = "guiji")]
    audience: String,
    /// How long it holds, hours: above 0 and at most 8784, a year.
    #[arg(long, default_value_t = 8.0)]
    hours: f64,
    /// Only at this camera; may be given again. A token with a scope may only read.
    #[arg(long, conflicts_with = "near")]
    camera: Vec<CameraId>,
    /// Only within a circle: LAT,LON,METRES.
    #[arg(long, value_name = "LAT,LON,METRES")]
    near: Option<String>,
    /// The supervisor who lets the user see data older than 90 days.
    #[arg(long, value_name = "SUPERVISOR")]
    old_data_released_by: Option<String>,
    /// The supervisor who lets the user export pictures in which people can be recognised.
    #[arg(long, value_name = "SUPERVISOR")]
    people_shown_by: Option<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: TokenArguments) -> Result<ExitCode> {
    match arguments.what {
        What::Key { file } => make_key(&file)?,
        What::Sign(sign) => println!("{}", sign.token()?),
    }
    Ok(ExitCode::SUCCESS)
}

fn make_key(file: &Path) -> Result<()> {
    let key = new_signing_key()?;
    let public = TokenSigner::from_pem(&key)?.public_key_pem();
    let mut public_file = file.as_os_str().to_owned();
    public_file.push(".pub");
    write_new(file, &key, 0o600)?;
    write_new(Path::new(&public_file), &public, 0o644)?;
    println!("private key: {}\npublic key: {}", file.display(), public_file.to_string_lossy());
    Ok(())
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(
            || format!("write {} (an existing key is never replaced)", path.display()),
        )?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

impl Sign {
    fn token(self) -> Result<String> {
        let text = std::fs::read_to_string(&self.key)
            .with_context(|| format!("read {}", self.key.display()))?;
        let signer =
            TokenSigner::from_pem(&text).with_context(|| self.key.display().to_string())?;
        if !(self.hours > 0.0 && self.hours <= 8784.0) {
            bail!("--hours {}: give more than 0 and at most 8784", self.hours);
        }
        let scope = match &self.near {
            Some(near) => circle(near)?,
            None if self.camera.is_empty() => TokenScope::Everywhere,
            None => TokenScope::Cameras(self.camera),
        };
        let spec = TokenSpec {
            scope,
            old_data_released_by: self.old_data_released_by,
            people_shown_by: self.people_shown_by,
            valid_for: Duration::from_secs_f64(self.hours * 3600.0),
            ..TokenSpec::new(&self.issuer, &self.audience, &self.user, self.role)
        };
        // Beside the token, not in it: a list of revoked tokens wants the name.
        eprintln!("name of the token (jti), by which it can be revoked: {}", spec.id);
        Ok(signer.sign(&spec, SystemClock.now())?)
    }
}

fn circle(near: &str) -> Result<TokenScope> {
    let numbers: Vec<f64> = near
        .split(',')
        .map(|part| part.trim().parse())
        .collect::<Result<_, _>>()
        .ok()
        .filter(|numbers: &Vec<f64>| numbers.len() == 3)
        .with_context(|| format!("--near {near}: give LAT,LON,METRES"))?;
    let centre = GeoPoint::new(numbers[0], numbers[1])?;
    if !(numbers[2] > 0.0 && numbers[2] <= 200_000.0) {
        bail!("--near {near}: give a radius above 0 and at most 200000 metres");
    }
    let (latitude_deg, longitude_deg) = (centre.lat_deg(), centre.lon_deg());
    Ok(TokenScope::Circle { latitude_deg, longitude_deg, radius_m: numbers[2] })
}
