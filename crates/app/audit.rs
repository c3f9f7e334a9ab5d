//! `guiji audit`: reads the audit of a server of this machine, running or not, checks that it is whole, and finds what
//! a supervisor should ask about.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use guiji_analysis::odd::{Asked, Finding, Odd, OddLimits};
use guiji_domain::{Clock as _, StoreError, Timestamp};
use guiji_store::{AuditErasure, AuditRecord, AuditRecords, erase_audit_records, verify_audit};
use serde_json::json;

use crate::clock::{SystemClock, local_day_and_hour, local_time};
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
    /// Erase what records say of somebody, or under a case: the chain still verifies. Records of today are left, for
    /// a server may be writing them.
    Erase {
        /// Of this user.
        #[arg(long)]
        officer: Option<String>,
        /// Of this case.
        #[arg(long = "case", required_unless_present = "officer")]
        case_number: Option<String>,
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
    let dir = match &arguments.config {
        Some(path) => Config::load(path)?.store_dir.join("audit"),
        None => arguments.dir,
    };
    match arguments.what {
        What::Verify { checkpoint } => verify(&dir, checkpoint.as_deref()),
        What::List { officer, case_number } => {
            list(&dir, officer.as_deref(), case_number.as_deref())
        }
        What::Odd { days } => odd(&dir, days),
        What::Erase { officer, case_number } => {
            let wanted = AuditErasure { officer, case_number };
            let erased = erase_audit_records(&dir, &wanted, SystemClock.now())?;
            println!("{erased} records erased");
            Ok(if erased > 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
    }
}

fn verify(dir: &std::path::Path, checkpoint: Option<&std::path::Path>) -> Result<ExitCode> {
    let report = verify_audit(dir, checkpoint)
        .with_context(|| format!("verify the audit {}", dir.display()))?;
    println!(
        "{} records follow from each other; {} of them were erased in part or whole",
        report.records, report.erased
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
    let mut odd = Odd::new(OddLimits::default());
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
        if is_end_of_stream(record.field("method").unwrap_or_default(), outcome) {
            continue;
        }
        odd.add(&Asked {
            number: record.number,
            officer,
            case_number,
            plate: record.field("question").and_then(plate_of),
            outcome,
            day,
            hour,
        });
    }
    Ok(odd.findings())
}

/// Whether a record is the second one of a stream: the question was counted when it opened.
fn is_end_of_stream(method: &str, outcome: &str) -> bool {
    let streams =
        ["/StreamAlerts", "/StreamSightings", "/WatchSightings", "/GetEvidence", "/ExportEvidence"];
    let begun = ["Opened", "PermissionDenied"].contains(&outcome);
    streams.iter().any(|name| method.ends_with(name)) && !begun
}

/// The plate or pattern of a question as the API words it: `plate 浙J12345, from …`.
fn plate_of(question: &str) -> Option<&str> {
    let rest = question.strip_prefix("plate ")?;
    rest.split(',').next()
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
    use super::*;

    #[test]
    fn the_plate_of_a_question_is_found() {
        for (question, plate) in [
            ("plate 浙J12345, from 2027-01-15T08:00:00.000Z", Some("浙J12345")),
            ("plate 浙J?12*", Some("浙J?12*")),
            ("any plate, camera k1", None),
            ("all", None),
        ] {
            assert_eq!(plate_of(question), plate);
        }
    }
}
