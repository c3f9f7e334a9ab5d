//! `guiji store`: back-ups, legal holds and checks of a store of this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use guiji_domain::{CameraId, Clock as _, EvidenceKind, PlatePattern, TimeSpan, Timestamp};
use guiji_store::{
    BackupReport, Damage, KeepLimit, LegalHold, Store, StoreSettings, back_up, check_backup,
    expire_backup, holds, lift_hold, place_hold, restore,
};

use crate::clock::{SystemClock, local_time, parse_time};
use crate::config::Config;

/// Arguments of `guiji store`.
#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    /// The server's configuration, which says where its store is and how long it keeps what.
    #[arg(long, short, value_name = "FILE", global = true, default_value = "guiji.toml")]
    config: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Read everything and say what is not as it was written; exit code 1 when something is not. The server must not
    /// run; of one that runs, check a back-up.
    Check {
        /// Check a back-up instead, while the server runs.
        #[arg(long, value_name = "FOLDER")]
        backup: Option<PathBuf>,
    },
    /// Copy the store into an empty folder, while the server runs or not.
    Backup {
        /// Where to.
        folder: PathBuf,
    },
    /// Make a store of a back-up, in the folder that the configuration names, which must be empty. Days that are kept
    /// no longer stay out.
    Restore {
        /// The back-up.
        folder: PathBuf,
    },
    /// Delete from a back-up what is kept no longer.
    Expire {
        /// The back-up.
        folder: PathBuf,
    },
    /// Keep sightings and pictures for a case, whatever retention says.
    Hold(HoldArguments),
    /// List the holds.
    Holds,
    /// Let a hold go: what it kept is deleted the next time that the server deletes what is too old, within ten minutes.
    Lift {
        /// Its number.
        number: u32,
    },
}

/// What is held: everything in the span that fits both plates and cameras.
#[derive(Debug, Args)]
struct HoldArguments {
    /// The case that it is for.
    #[arg(long = "case", value_name = "NUMBER")]
    case_number: String,
    /// A plate or a pattern; may be given several times.
    #[arg(long = "plate", value_name = "PLATE")]
    plates: Vec<String>,
    /// A camera; may be given several times.
    #[arg(long = "camera", value_name = "CAMERA")]
    cameras: Vec<String>,
    /// From then on (2026-11-24T08:00:00+08:00).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Timestamp,
    /// Until then.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Timestamp,
}

/// How a configuration wants its store.
pub(crate) fn settings(config: &Config) -> StoreSettings {
    let mut settings = StoreSettings::new(&config.store_dir);
    settings.key_file = config.key_file.clone();
    settings.sightings_days = config.sightings_days;
    for limit in &config.evidence {
        let keep = KeepLimit { days: limit.days, bytes: limit.bytes_max };
        match limit.kind {
            EvidenceKind::Plate => settings.evidence.plate = keep,
            EvidenceKind::Vehicle => settings.evidence.vehicle = keep,
            EvidenceKind::Frame => settings.evidence.frame = keep,
        }
    }
    settings
}

/// Runs the command.
pub(crate) fn run(arguments: StoreArguments) -> Result<ExitCode> {
    let settings = settings(&Config::load(&arguments.config)?);
    let dir = settings.dir.clone();
    let now = SystemClock.now();
    match arguments.what {
        What::Check { backup } => return check(settings, backup.as_deref()),
        What::Backup { folder } => {
            let report = back_up(&dir, &folder).context("back up")?;
            println!("{} copied to {}", copied(&report), folder.display());
        }
        What::Restore { folder } => {
            let report = restore(&folder, &settings, now).context("restore")?;
            println!(
                "{} restored to {}; {} files are kept no longer and were left out",
                copied(&report),
                dir.display(),
                report.expired
            );
        }
        What::Expire { folder } => {
            let report = expire_backup(&folder, &settings, now).context("expire a back-up")?;
            println!("{} files deleted, {} stay", report.expired, report.files);
        }
        What::Hold(arguments) => {
            let number = place_hold(&dir, &hold(&arguments, now)?).context("place a hold")?;
            println!("hold {number} is placed");
        }
        What::Holds => {
            for (number, hold) in holds(&dir)? {
                println!("{}", line(number, &hold));
            }
        }
        What::Lift { number } => {
            if !lift_hold(&dir, number)? {
                bail!("there is no hold {number}: `guiji store holds` lists them");
            }
            println!("hold {number} is lifted");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn copied(report: &BackupReport) -> String {
    format!("{} files, {:.1} MB,", report.files, report.bytes as f64 / 1e6)
}

fn hold(arguments: &HoldArguments, now: Timestamp) -> Result<LegalHold> {
    if arguments.plates.is_empty() && arguments.cameras.is_empty() {
        bail!("name a --plate or a --camera: a hold on everything is a longer sightings_days");
    }
    Ok(LegalHold {
        case_number: arguments.case_number.clone(),
        plates: arguments
            .plates
            .iter()
            .map(|plate| PlatePattern::parse(plate))
            .collect::<Result<_, _>>()?,
        cameras: arguments
            .cameras
            .iter()
            .map(|camera| CameraId::new(camera))
            .collect::<Result<_, _>>()?,
        span: TimeSpan::new(arguments.from, arguments.to)?,
        placed: now,
    })
}

fn line(number: u32, hold: &LegalHold) -> String {
    let texts = |texts: Vec<&str>| match texts.is_empty() {
        true => "any".to_owned(),
        false => texts.join(" "),
    };
    format!(
        "{number:4}  case {}  plates {}  cameras {}  {} to {}  placed {}",
        hold.case_number,
        texts(hold.plates.iter().map(PlatePattern::as_str).collect()),
        texts(hold.cameras.iter().map(CameraId::as_str).collect()),
        local_time(hold.span.first()),
        local_time(hold.span.last()),
        local_time(hold.placed),
    )
}

fn check(settings: StoreSettings, backup: Option<&Path>) -> Result<ExitCode> {
    let damages = match backup {
        Some(folder) => check_backup(folder).context("check a back-up")?,
        None => {
            if !settings.dir.join("registry.db").is_file() {
                bail!("there is no store in {}", settings.dir.display());
            }
            // Damage of a file that cannot be opened at all is an error, and says which.
            let store = Store::open(settings).context("open the store")?;
            let report = store.check().context("check the store")?;
            println!(
                "{} days, {} sightings, {} alerts, {} pictures were read",
                report.partitions, report.sightings, report.alerts, report.pictures
            );
            report.damages
        }
    };
    for Damage { what, reason } in &damages {
        println!("DAMAGED: {what}: {reason}");
    }
    if damages.is_empty() {
        println!("everything is as it was written");
    }
    Ok(ExitCode::from(u8::from(!damages.is_empty())))
}

#[cfg(test)]
mod tests {
    use guiji_domain::SightingStore as _;

    use super::*;

    #[test]
    fn a_store_is_backed_up_held_checked_and_restored_by_commands() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            arguments: StoreArguments,
        }
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("guiji.toml");
        let dir = folder.path().join("data");
        std::fs::write(&config, "[store]\ndir = \"data\"\n").unwrap();
        let command = |words: &[&str]| {
            let given = ["store", "--config", config.to_str().unwrap()];
            run(Line::try_parse_from(given.iter().chain(words)).unwrap().arguments)
        };
        assert!(command(&["check"]).unwrap_err().to_string().contains("no store"));
        let store = Store::open(settings(&Config::load(&config).unwrap())).unwrap();
        store.record(&[]).unwrap();
        let backup = folder.path().join("backup");
        let backup = backup.to_str().unwrap();
        let span = ["--from", "2026-11-24T00:00:00Z", "--to", "2026-11-25T00:00:00Z"];
        command(&[&["hold", "--case", "2026-1", "--plate", "浙J*"], &span[..]].concat()).unwrap();
        assert!(command(&[&["hold", "--case", "2026-1"], &span[..]].concat()).is_err());
        command(&["backup", backup]).unwrap(); // while it is open
        command(&["check", "--backup", backup]).unwrap();
        assert!(format!("{:#}", command(&["check"]).unwrap_err()).contains("in use"));
        drop(store);
        assert_eq!(command(&["check"]).unwrap(), ExitCode::SUCCESS);
        std::fs::remove_dir_all(&dir).unwrap();
        command(&["restore", backup]).unwrap();
        assert_eq!(holds(&dir).unwrap().len(), 1);
        command(&["holds"]).unwrap();
        command(&["lift", "1"]).unwrap();
        assert!(command(&["lift", "7"]).unwrap_err().to_string().contains("no hold 7"));
        assert!(holds(&dir).unwrap().is_empty());
        command(&["expire", backup]).unwrap();
        std::fs::write(Path::new(backup).join("registry.db"), b"x").unwrap();
        assert_eq!(command(&["check", "--backup", backup]).unwrap(), ExitCode::from(1));
    }
}
