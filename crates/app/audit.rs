//! `guiji audit`: reads the audit of a server of this machine, running or not, checks that it is whole, and finds what
//! a supervisor should ask about.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use guiji_analysis::odd::{Asked, Finding, Odd, OddLimits};
use guiji_api::json::streaming_calls;
use guiji_domain::{Clock as _, StoreError, Timestamp};
use guiji_store::{Audit, AuditErasure, AuditRecord, AuditRecords, AuditSettings, verify_audit};
use serde_json::json;

use crate::clock::{SystemClock, local_day_and_hour, local_time, parse_time_or_ago};
use crate::config::Config;

/// Arguments of `guiji audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    /// The server's configuration, which says where its store is.
    #[arg(long, short, value_name = "FILE", global = true, conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// The audit's folder.
    #[arg(long, value_name = "FOLDER", default_value = "data/audit", global = true)]
    dir: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Check every record; exit code 1 when one is not what was recorded.
    Verify {
        /// Checkpoints that were exported to another place (audit.checkpoints): without them, a chain that was written
        /// anew as a whole cannot be told from the true one.
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
    },
    /// Print the records, one JSON object a line.
    List {
        /// Only those of this user.
        #[arg(long)]
        officer: Option<String>,
        /// Only those of this case.
        #[arg(long = "case")]
        case_number: Option<String>,
    },
    /// Erase what records say of somebody, under a case or before a day. The chain still verifies, and a record of its
    /// own says which were erased and by whose word. The server must not be running: it holds the chain.
    Erase {
        /// Of this user.
        #[arg(long)]
        officer: Option<String>,
        /// Of this case.
        #[arg(long = "case", required_unless_present_any = ["officer", "before"])]
        case_number: Option<String>,
        /// Of all days (UTC) before the one of this time: RFC 3339, or before now: 90d.
        #[arg(long, value_name = "TIME", conflicts_with_all = ["officer", "case_number"])]
        before: Option<String>,
        /// By whose word.
        #[arg(long, value_name = "NAME", env = "USER")]
        by: String,
    },
    /// List what a supervisor should ask about: one plate again and again, calls off shift, case numbers that name no
    /// case, rights that were tried in vain; exit code 1 when there is nothing.
    Odd {
        /// Look back so many days.
        #[arg(long, default_value_t = 30)]
        days: u32,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: AuditArguments) -> Result<ExitCode> {
    let (dir, export) = match &arguments.config {
        Some(path) => {
            let config = Config::load(path)?;
            (config.store_dir.join("audit"), config.audit_checkpoints)
        }
        None => (arguments.dir, None),
    };
    match arguments.what {
        What::Verify { checkpoint } => verify(&dir, checkpoint.as_deref()),
        What::List { officer, case_number } => {
            list(&dir, officer.as_deref(), case_number.as_deref())
        }
        What::Odd { days } => odd(&dir, days),
        What::Erase { officer, case_number, before, by } => {
            let now = SystemClock.now();
            if !dir.join("chain").is_file() {
                bail!("{} holds no audit: give --config or --dir", dir.display());
            }
            let audit = Audit::open(AuditSettings { export, ..AuditSettings::new(&dir) })
                .context("open the audit: the server must be stopped meanwhile")?;
            let (erased, what) = match before {
                Some(before) => {
                    let before = parse_time_or_ago(&before, now).context("--before")?;
                    (audit.erase_days(before, &by, now)?, "days")
                }
                None => {
                    let wanted = AuditErasure { officer, case_number };
                    (audit.erase_records(&wanted, &by, now)?, "records")
                }
            };
            println!("{erased} {what} erased");
            Ok(if erased > 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
    }
}

fn verify(dir: &std::path::Path, checkpoint: Option<&std::path::Path>) -> Result<ExitCode> {
    let report = verify_audit(dir, checkpoint)
        .with_context(|| format!("verify the audit {}", dir.display()))?;
    println!(
        "{} records follow from each other; {} of them were erased in part or whole, as {} of them say",
        report.records, report.erased, report.erasures
    );
    match report.vouched_to {
        0 => println!("no checkpoint vouches for any of them"),
        to => println!("{} checkpoints agree, the last one at record {to}", report.checkpoints),
    }
    if checkpoint.is_none() {
        println!(
            "give --checkpoint FILE: only a checkpoint kept elsewhere tells a chain written anew"
        );
    }
    Ok(match report.first_break {
        None => ExitCode::SUCCESS,
        Some(found) => {
            println!("BROKEN: record {} {}", found.number, found.what);
            ExitCode::from(1)
        }
    })
}

fn list(
    dir: &std::path::Path,
    officer: Option<&str>,
    case_number: Option<&str>,
) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut found = false;
    for record in AuditRecords::open(dir)? {
        let record = record?;
        let fits = |name, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| record.field(name) == Some(wanted))
        };
        if fits("officer", officer) && fits("case_number", case_number) {
            found = true;
            writeln!(out, "{}", line(&record))?;
        }
    }
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn odd(dir: &std::path::Path, days: u32) -> Result<ExitCode> {
    let since = SystemClock.now().minus(Duration::from_secs(86_400) * days);
    let findings = odd_patterns(dir, since)?;
    findings.iter().for_each(|finding| println!("{finding}"));
    Ok(if findings.is_empty() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What is odd about the calls since a time. Nights are those of this machine's time zone.
pub(crate) fn odd_patterns(
    dir: &std::path::Path,
    since: Timestamp,
) -> Result<Vec<Finding>, StoreError> {
    let (mut odd, streams) = (Odd::new(OddLimits::default()), streaming_calls());
    for record in AuditRecords::open(dir)? {
        let record = record?;
        if record.at < since {
            continue;
        }
        let (day, hour) = local_day_and_hour(record.at).map_err(|error| StoreError::Damaged {
            what: format!("audit record {}", record.number),
            reason: error.to_string(),
        })?;
        // A record whose officer was erased is nobody's.
        let (Some(officer), Some(case_number)) =
            (record.field("officer"), record.field("case_number"))
        else {
            continue;
        };
        let outcome = record.field("outcome").unwrap_or_default();
        // Only what people asked: an erasure, say, is no call.
        let method = record.field("method").unwrap_or_default();
        if !method.split_once('/').is_some_and(|(service, _)| service.ends_with("Service"))
            || officer.is_empty()
        {
            continue;
        }
        // The question was counted when the stream opened.
        let begun = ["Opened", "PermissionDenied"].contains(&outcome);
        if !begun && streams.contains(method) {
            continue;
        }
        let plates = record.field("plates").unwrap_or_default();
        let plates: Vec<_> = plates.split_whitespace().collect();
        odd.add(&Asked {
            number: record.number,
            officer,
            case_number,
            plates: &plates,
            outcome,
            day,
            hour,
        });
    }
    Ok(odd.findings())
}

fn line(record: &AuditRecord) -> serde_json::Value {
    let fields: BTreeMap<_, _> = record.fields().collect();
    let mut line = json!({ "number": record.number, "time": local_time(record.at) });
    if let Some(line) = line.as_object_mut() {
        line.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use guiji_analysis::odd::Pattern;
    use guiji_domain::{AuditEntry, AuditLog as _};

    use super::*;

    fn findings(entry: impl Fn(u32) -> AuditEntry) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(AuditSettings::new(folder.path())).unwrap();
        let noon = Timestamp::from_secs(1_800_000_000);
        for day in 0..5 {
            let at = noon.plus(Duration::from_secs(86_400) * day);
            let (told, hears) = sync_channel(1);
            let entry = AuditEntry {
                at,
                officer: "wang".into(),
                case_number: "2027-0115".into(),
                ..entry(day)
            };
            audit.submit(entry, Box::new(move |done| told.send(done).unwrap()));
            hears.recv().unwrap().unwrap();
        }
        odd_patterns(folder.path(), Timestamp::EPOCH).unwrap()
    }

    #[test]
    fn one_plate_again_and_again_is_found_whatever_the_call() {
        let calls = ["LikelyService/SearchLikely", "TacticsService/ListStops"];
        let found = findings(|day| AuditEntry {
            method: calls[day as usize % 2].into(),
            outcome: "Ok".into(),
            plates: vec!["浙J12345".into(), format!("浙J1000{day}")],
            ..AuditEntry::default()
        });
        let plate = "浙J12345".to_owned();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, Pattern::SamePlate { plate, days: 5, cases: 1 });
    }

    #[test]
    fn the_end_of_a_stream_is_no_second_question() {
        for method in streaming_calls() {
            let with = |outcome: &str| {
                findings(|_| AuditEntry {
                    method: method.clone(),
                    outcome: outcome.into(),
                    plates: vec!["浙J12345".into()],
                    ..AuditEntry::default()
                })
            };
            assert_eq!(with("Opened").len(), 1, "{method}");
            assert_eq!(with("Cancelled"), [], "{method}");
        }
        assert!(streaming_calls().contains("TacticsService/WatchClones"));
    }
}
