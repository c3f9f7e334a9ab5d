//! `guiji release`: a supervisor's leave for somebody else to see data older than 90 days. The list also has released
//! tactics, which `guiji query tactics release` gives.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use guiji_api::client::Client;
use guiji_api::convert::{timestamp_from_pb, timestamp_to_pb};
use guiji_api::pb;
use guiji_domain::Clock as _;

use crate::clock::{SystemClock, local_time};
use crate::query::Connection;

/// Arguments of `guiji release`.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Give leave.
    Grant {
        /// Who may look: the user of their token.
        officer: String,
        /// The case that their questions must name.
        #[arg(long)]
        for_case: String,
        /// Only for this plate.
        #[arg(long)]
        plate: Option<String>,
        /// Why.
        #[arg(long)]
        reason: String,
        /// For so many days, at most 90.
        #[arg(long, default_value_t = 7)]
        days: u32,
    },
    /// The releases that have not ended.
    List,
    /// End one before its time.
    Revoke {
        /// `releases/NUMBER`.
        name: String,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: ReleaseArguments) -> Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(async {
            let client = arguments.connection.open().await?;
            act(&client, arguments.what).await
        })
}

async fn act(client: &Client, what: What) -> Result<ExitCode> {
    match what {
        What::Grant { officer, for_case, plate, reason, days } => {
            let ends = SystemClock.now().plus(Duration::from_secs(86_400) * days);
            let release = pb::Release {
                officer,
                case_number: for_case,
                plate: plate.unwrap_or_default(),
                reason,
                expire_time: Some(timestamp_to_pb(ends)),
                ..Default::default()
            };
            tell(&client.grant_release(release).await?)?;
        }
        What::List => {
            let releases = client.releases().await?;
            releases.iter().try_for_each(tell)?;
            return Ok(if releases.is_empty() { ExitCode::from(1) } else { ExitCode::SUCCESS });
        }
        What::Revoke { name } => client.revoke_release(&name).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(release: &pb::Release) -> Result<()> {
    let what = match release.tactic() {
        pb::PatternTactic::Unspecified if release.plate.is_empty() => "any plate",
        pb::PatternTactic::Unspecified => &release.plate,
        pb::PatternTactic::FirstEntry => "first entries",
        pb::PatternTactic::NightActive => "night-active vehicles",
        pb::PatternTactic::Frequent => "frequent passing",
    };
    let ends = release.expire_time.as_ref().map(timestamp_from_pb).transpose()?;
    println!(
        "{}  {} in case {}, {what}, until {}: {} (given by {})",
        release.name,
        release.officer,
        release.case_number,
        ends.map_or_else(String::new, local_time),
        release.reason,
        release.granted_by
    );
    Ok(())
}
