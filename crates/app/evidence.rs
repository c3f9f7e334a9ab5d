//! `guiji evidence` and `guiji verify`: evidence that leaves the house, and the check of it by whoever receives it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use guiji_api::convert::timestamp_to_pb;
use guiji_api::pb;
use guiji_domain::Clock as _;
use guiji_store::bundle::{BundleReport, verify_bundle};
use guiji_store::public_key_from_pem;

use crate::clock::{SystemClock, parse_time_or_ago};
use crate::config::Config;
use crate::query::Connection;

/// Where the key that signs bundles lies in the store's folder.
pub(crate) const KEY_FILE: &str = "evidence.key";

/// Arguments of `guiji evidence`.
#[derive(Debug, Args)]
pub(crate) struct EvidenceArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Fetch a sealed bundle of evidence from a running server into a file.
    Export(Box<Export>),
    /// Print the public key of this machine's server, for whoever checks its bundles.
    Key {
        /// The server's configuration, which says where its store is.
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    connection: Connection,
    /// A sighting, as an answer named it; may be given again.
    #[arg(long, required_unless_present = "plate", conflicts_with_all = ["plate", "from", "to"])]
    sighting: Vec<String>,
    /// All sightings of this plate, at most 100.
    #[arg(long)]
    plate: Option<String>,
    /// With --plate: from this time: RFC 3339, or before now: 15m, 2h, 7d.
    #[arg(long)]
    from: Option<String>,
    /// With --plate: to this time.
    #[arg(long)]
    to: Option<String>,
    /// Leave people recognisable: for supervisors, and by their leave.
    #[arg(long)]
    show_people: bool,
    /// The file to write; must not exist yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
pub(crate) fn run(arguments: EvidenceArguments) -> Result<ExitCode> {
    match arguments.what {
        What::Export(export) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?
            .block_on(export.run()),
        What::Key { config } => {
            let key = Config::load(&config)?.store_dir.join(KEY_FILE).with_extension("pub");
            let text = fs::read_to_string(&key).with_context(|| {
                format!("read {}: the server makes it at its first start", key.display())
            })?;
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl Export {
    fn request(&self) -> Result<pb::ExportEvidenceRequest> {
        let now = SystemClock.now();
        let time =
            |text: &Option<String>| text.as_deref().map(|t| parse_time_or_ago(t, now)).transpose();
        let people = if self.show_people {
            pb::PeopleInPictures::Shown
        } else {
            pb::PeopleInPictures::Blurred
        };
        let name = |id: &String| match id.starts_with("sightings/") {
            true => id.clone(),
            false => format!("sightings/{id}"),
        };
        Ok(pb::ExportEvidenceRequest {
            sightings: self.sighting.iter().map(name).collect(),
            plate: self.plate.clone().unwrap_or_default(),
            start_time: time(&self.from)?.map(timestamp_to_pb),
            end_time: time(&self.to)?.map(timestamp_to_pb),
            people: people.into(),
            ..Default::default()
        })
    }

    async fn run(&self) -> Result<ExitCode> {
        use pb::export_evidence_response::Part;
        let request = self.request()?;
        let client = self.connection.open().await?;
        let mut parts = client.export_evidence(request).await?;
        // Nothing is left behind under the name when the connection breaks: half a bundle is none.
        let unfinished = partial(&self.out);
        if self.out.exists() {
            bail!("{} exists already: evidence is never written over", self.out.display());
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .with_context(|| format!("write {}", unfinished.display()))?;
        let mut header = None;
        let received = async {
            while let Some(message) = parts.next().await? {
                match message.part {
                    Some(Part::Header(given)) => header = Some(given),
                    Some(Part::Chunk(chunk)) => file.write_all(&chunk)?,
                    None => {}
                }
            }
            file.sync_all()?;
            fs::rename(&unfinished, &self.out)?;
            anyhow::Ok(())
        };
        if let Err(error) = received.await {
            // Whatever is wrong with the file too: the first error is the one to tell.
            drop(fs::remove_file(&unfinished));
            return Err(error.context(format!("write {}", self.out.display())));
        }
        let header = header.context("the server sent no header")?;
        println!(
            "{}: {} sightings, audit record {}",
            self.out.display(),
            header.sighting_count,
            header.audit_record
        );
        Ok(ExitCode::SUCCESS)
    }
}

fn partial(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Arguments of `guiji verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The bundle.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The public key (PEM) of the house that sealed it, come by another way than the bundle.
    #[arg(long, value_name = "PUB")]
    key: PathBuf,
    /// Print the manifest as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command: exit code 0 when every byte is what was sealed, else 1.
pub(crate) fn verify(arguments: &VerifyArguments) -> Result<ExitCode> {
    let pem = fs::read_to_string(&arguments.key)
        .with_context(|| format!("--key: read {}", arguments.key.display()))?;
    let key = public_key_from_pem(&pem).with_context(|| {
        format!("--key: {} is no public Ed25519 key in PEM", arguments.key.display())
    })?;
    let report = verify_bundle(&arguments.file, &key)?;
    if !report.faults.is_empty() {
        for fault in &report.faults {
            println!("ALTERED: {}: {}", fault.file, fault.what);
        }
        return Ok(ExitCode::from(1));
    }
    match (&report.manifest, arguments.json) {
        (Some(manifest), true) => println!("{}", serde_json::to_string_pretty(manifest)?),
        _ => tell(&arguments.file, &report),
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(file: &Path, report: &BundleReport) {
    println!("{}: all {} files are what was sealed", file.display(), report.files);
    let Some(manifest) = &report.manifest else { return };
    let by = &manifest.authority;
    println!(
        "  made {} by {} {}",
        manifest.made, manifest.software.name, manifest.software.version
    );
    println!("  for {} {}, case {}: {}", by.role, by.officer, by.case_number, by.purpose);
    println!("  question (audit record {}): {}", by.audit_record, by.question);
    println!("  people: {}", manifest.people);
    for clock in &manifest.clock {
        println!(
            "  {} seen {} ± {} s: {}",
            clock.sighting, clock.captured, clock.error_s, clock.known_by
        );
    }
    for absent in &manifest.absent {
        println!("  {} lacks its {}: {}", absent.sighting, absent.shows, absent.reason);
    }
}
