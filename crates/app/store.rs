//! `guiji store`: back-ups, legal holds and checks of a store of this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use guiji_domain::{
    AuditEntry, AuditLog as _, Authority, CameraId, Clock as _, EvidenceKind, PlatePattern,
    StoreError, TimeSpan, Timestamp,
};
use guiji_store::{
    Audit, AuditSettings, BackupReport, Damage, KeepLimit, LegalHold, Store, StoreSettings,
    back_up, check_backup, expire_backup, holds, lift_hold, place_hold, restore,
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
        #[command(flatten)]
        by: By,
    },
    /// Make a store of a back-up, in the folder that the configuration names, which must be empty. Days that are kept
    /// no longer stay out.
    Restore {
        /// The back-up.
        folder: PathBuf,
        #[command(flatten)]
        by: By,
    },
    /// Delete from a back-up what is kept no longer, and what holds kept that are lifted.
    Expire {
        /// The back-up.
        folder: PathBuf,
        #[command(flatten)]
        by: By,
    },
    /// Keep sightings and pictures for a case, whatever retention says.
    Hold(HoldArguments),
    /// List the holds.
    Holds,
    /// Let a hold go: what it kept is deleted the next time that the server deletes what is too old, within ten minutes.
    Lift {
        /// Its number.
        number: u32,
        #[command(flatten)]
        by: By,
    },
}

/// Who does it and by what right: it is written into the audit of commands, `audit/commands` in the store's folder.
#[derive(Debug, Args)]
struct By {
    /// Why it is done.
    #[arg(long, env = "GUIJI_PURPOSE", default_value = "")]
    purpose: String,
    /// The case that it belongs to; of a hold, the one that it is for.
    #[arg(long = "case", env = "GUIJI_CASE", default_value = "", value_name = "NUMBER")]
    case_number: String,
    /// Who does it.
    #[arg(long, env = "GUIJI_OFFICER", default_value = "")]
    officer: String,
}

/// What is held: everything in the span that fits both plates and cameras.
#[derive(Debug, Args)]
struct HoldArguments {
    #[command(flatten)]
    by: By,
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
    let config = Config::load(&arguments.config)?;
    let settings = settings(&config);
    let dir = settings.dir.clone();
    let now = SystemClock.now();
    match arguments.what {
        What::Check { backup } => return check(settings, backup.as_deref()),
        What::Backup { folder, by } => {
            let question = format!("a back-up to {}", folder.display());
            let report = audited(&config, &by, "backup", question, || {
                back_up(&dir, &folder).context("back up")
            })?;
            println!("{} copied to {}", copied(&report), folder.display());
        }
        What::Restore { folder, by } => {
            let question = format!("a store of the back-up {}", folder.display());
            let report = audited(&config, &by, "restore", question, || {
                restore(&folder, &settings, now).context("restore")
            })?;
            println!(
                "{} restored to {}; {} files are kept no longer and were left out",
                copied(&report),
                dir.display(),
                report.expired
            );
        }
        What::Expire { folder, by } => {
            let question = format!("what is kept no longer of the back-up {}", folder.display());
            let report = audited(&config, &by, "expire", question, || {
                expire_backup(&folder, &settings, now).context("expire a back-up")
            })?;
            println!("{} files deleted, {} stay", report.expired, report.files);
        }
        What::Hold(arguments) => {
            let hold = hold(&arguments, now)?;
            let number = audited(&config, &arguments.by, "hold", in_words(&hold), || {
                place_hold(&dir, &hold).context("place a hold")
            })?;
            println!("hold {number} is placed");
        }
        What::Holds => {
            for (number, hold) in holds(&dir)? {
                println!("{}", line(number, &hold));
            }
        }
        What::Lift { number, by } => {
            let held = holds(&dir)?.get(&number).map(in_words);
            let Some(held) = held else {
                bail!("there is no hold {number}: `guiji store holds` lists them");
            };
            audited(&config, &by, "lift", format!("hold {number}: {held}"), || {
                lift_hold(&dir, number).context("lift a hold")
            })?;
            println!("hold {number} is lifted");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How long a command waits for another one that is writing the audit.
const AUDIT_PATIENCE: Duration = Duration::from_secs(10);

/// Does something, with a record before, without which it is not done, and one of what became of it.
fn audited<T>(
    config: &Config,
    by: &By,
    what: &str,
    question: String,
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let by = Authority::new(&by.purpose, &by.case_number, &by.officer).context(
        "say by what right: --purpose, --case and --officer (or GUIJI_PURPOSE, GUIJI_CASE, GUIJI_OFFICER)",
    )?;
    let (method, began) = (format!("guiji store {what}"), SystemClock.now());
    let record = |outcome: String| {
        let now = SystemClock.now();
        let entry = AuditEntry {
            at: now,
            method: method.clone(),
            officer: by.officer().to_owned(),
            purpose: by.purpose().to_owned(),
            case_number: by.case_number().to_owned(),
            question: question.clone(),
            outcome,
            took_ms: u64::try_from(now.since(began).as_millis()).unwrap_or(u64::MAX),
            ..AuditEntry::default()
        };
        write_audit(config, entry).context("the audit of commands could not be written")
    };
    // A store that is to be restored is not there yet, and its folder must be empty.
    if config.store_dir.join("registry.db").is_file() {
        record("Opened".to_owned())?;
    }
    let done = act();
    if config.store_dir.join("registry.db").is_file() {
        record(
            done.as_ref().map_or_else(|error| format!("Failed: {error:#}"), |_| "Ok".to_owned()),
        )?;
    }
    done
}

/// Writes one record into the audit of commands.
fn write_audit(config: &Config, entry: AuditEntry) -> Result<()> {
    let audit = open_when_free(&commands_audit(config))?;
    let (told, heard) = std::sync::mpsc::sync_channel(1);
    audit.submit(entry, Box::new(move |done| drop(told.send(done))));
    heard.recv().context("the audit ended without an answer")??;
    Ok(())
}

/// The audit of commands: a chain of its own, since a server that runs holds the other one.
pub(crate) fn commands_audit(config: &Config) -> AuditSettings {
    let export = config.audit_checkpoints.as_ref().map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".commands");
        PathBuf::from(name)
    });
    AuditSettings { export, ..AuditSettings::new(config.store_dir.join("audit/commands")) }
}

/// Opens the audit of commands, when no other command writes to it.
pub(crate) fn open_when_free(settings: &AuditSettings) -> Result<Audit, StoreError> {
    let began = std::time::Instant::now();
    loop {
        match Audit::open(settings.clone()) {
            Err(_) if began.elapsed() <= AUDIT_PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            opened => return opened,
        }
    }
}

fn copied(report: &BackupReport) -> String {
    format!("{} files, {:.1} MB,", report.files, report.bytes as f64 / 1e6)
}

fn hold(arguments: &HoldArguments, now: Timestamp) -> Result<LegalHold> {
    if arguments.plates.is_empty() && arguments.cameras.is_empty() {
        bail!("name a --plate or a --camera: a hold on everything is a longer sightings_days");
    }
    Ok(LegalHold {
        case_number: arguments.by.case_number.clone(),
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
    format!("{number:4}  {}  placed {}", in_words(hold), local_time(hold.placed))
}

fn in_words(hold: &LegalHold) -> String {
    let texts = |texts: Vec<&str>| match texts.is_empty() {
        true => "any".to_owned(),
        false => texts.join(" "),
    };
    format!(
        "case {}  plates {}  cameras {}  {} to {}",
        hold.case_number,
        texts(hold.plates.iter().map(PlatePattern::as_str).collect()),
        texts(hold.cameras.iter().map(CameraId::as_str).collect()),
        local_time(hold.span.first()),
        local_time(hold.span.last()),
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
        let by = ["--purpose", "test", "--case", "2026-1", "--officer", "wang"];
        let by = |words: &[&str]| command(&[words, &by[..]].concat());
        assert!(command(&["check"]).unwrap_err().to_string().contains("no store"));
        let store = Store::open(settings(&Config::load(&config).unwrap())).unwrap();
        store.record(&[]).unwrap();
        let backup = folder.path().join("backup");
        let backup = backup.to_str().unwrap();
        let span = ["--from", "2026-11-24T00:00:00Z", "--to", "2026-11-25T00:00:00Z"];
        by(&[&["hold", "--plate", "浙J*"], &span[..]].concat()).unwrap();
        assert!(by(&[&["hold"], &span[..]].concat()).is_err());
        assert!(format!("{:#}", command(&["backup", backup]).unwrap_err()).contains("--officer"));
        by(&["backup", backup]).unwrap(); // while it is open
        assert!(by(&["backup", backup]).is_err(), "it is not empty");
        command(&["check", "--backup", backup]).unwrap();
        assert!(format!("{:#}", command(&["check"]).unwrap_err()).contains("in use"));
        drop(store);
        assert_eq!(command(&["check"]).unwrap(), ExitCode::SUCCESS);
        let said = |field: &str| -> Vec<String> {
            let all = guiji_store::AuditRecords::open(&dir.join("audit/commands")).unwrap();
            all.map(|record| record.unwrap().field(field).unwrap().to_owned()).collect()
        };
        let [begun, ok] = ["Opened", "Ok"];
        let outcomes = said("outcome");
        assert_eq!(outcomes[..5], [begun, ok, begun, ok, begun]);
        assert!(outcomes.len() == 6 && outcomes[5].contains("not empty"), "{outcomes:?}");
        assert_eq!(said("method")[1..3], ["guiji store hold", "guiji store backup"]);
        assert!(said("question")[0].contains("浙J*"));
        assert_eq!((&*said("officer")[0], &*said("case_number")[0]), ("wang", "2026-1"));
        std::fs::remove_dir_all(&dir).unwrap();
        by(&["restore", backup]).unwrap();
        assert_eq!(holds(&dir).unwrap().len(), 1);
        command(&["holds"]).unwrap();
        by(&["lift", "1"]).unwrap();
        assert!(by(&["lift", "7"]).unwrap_err().to_string().contains("no hold 7"));
        assert!(holds(&dir).unwrap().is_empty());
        by(&["expire", backup]).unwrap();
        std::fs::write(Path::new(backup).join("registry.db"), b"x").unwrap();
        assert_eq!(command(&["check", "--backup", backup]).unwrap(), ExitCode::from(1));
    }
}
