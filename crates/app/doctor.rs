//! `guiji doctor`: is everything here, and what to do where it is not.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use guiji_ingest::missing_elements;
use guiji_vision::Models;

use crate::access;
use crate::config::Config;
use crate::models;

/// Arguments of `guiji doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// The configuration file to check; the defaults otherwise.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What a check found.
enum Finding {
    Well(String),
    Doubtful(String),
    Wrong(String),
}

use Finding::{Doubtful, Well, Wrong};

/// Runs the command: prints a line a check; exit code 1 when one failed.
pub(crate) fn run(arguments: DoctorArguments) -> Result<ExitCode> {
    let config = match &arguments.config {
        Some(path) => Config::load(path),
        None => Config::parse("", Path::new(".")),
    };
    let mut findings = Vec::new();
    match config {
        Ok(config) => {
            findings.push(("configuration", Well(format!("{} cameras", config.cameras.len()))));
            findings.extend(media());
            findings.extend(models(&config));
            findings.push(("access", protection(&config)));
            findings.push(("port", port(config.listen)));
            findings.extend(config.metrics.map(|address| ("metrics port", port(address))));
            findings.push(("disk", disk(&config.store_dir)));
            findings.extend(files(&config));
        }
        Err(error) => findings.push(("configuration", Wrong(format!("{error:#}")))),
    }
    let mut failed = 0;
    for (what, finding) in findings {
        let (mark, text) = match finding {
            Well(text) => ("ok   ", text),
            Doubtful(text) => ("note ", text),
            Wrong(text) => {
                failed += 1;
                ("FAIL ", text)
            }
        };
        println!("{mark} {what:<14} {text}");
    }
    if failed > 0 {
        println!("{failed} checks failed");
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

fn protection(config: &Config) -> Finding {
    match access::load(config) {
        Ok((Some(_), Some(_))) => Well("TLS and tokens".into()),
        Ok((tls, tokens)) if config.insecure => {
            let lacking = if tls.is_none() { "no TLS" } else { "no tokens" };
            let more = if tls.is_none() && tokens.is_none() { " and no tokens" } else { "" };
            Doubtful(format!("server.insecure = true: {lacking}{more}"))
        }
        Ok(_) if config.listen.ip().to_canonical().is_loopback() => {
            Well("programs of this machine only".into())
        }
        Ok(_) => Wrong(access::HOW_TO_PROTECT.into()),
        Err(error) => Wrong(format!("{error:#}")),
    }
}

fn media() -> Vec<(&'static str, Finding)> {
    match missing_elements() {
        Ok(missing) if missing.is_empty() => {
            vec![("gstreamer", Well("every element is installed".into()))]
        }
        Ok(missing) => {
            missing.iter().map(|element| ("gstreamer", Wrong(element.to_string()))).collect()
        }
        Err(error) => vec![("gstreamer", Wrong(error.to_string()))],
    }
}

fn models(config: &Config) -> Vec<(&'static str, Finding)> {
    let models = match Models::locate(&config.manifest, &config.models_cache) {
        Ok(models) => models,
        Err(error) => return vec![("models", Wrong(error.to_string()))],
    };
    let mut findings: Vec<_> = models
        .check()
        .into_iter()
        .map(|(file, check)| match check {
            Ok(()) => ("model file", Well(file)),
            Err(error) => ("model file", Wrong(error.to_string())),
        })
        .collect();
    if findings.iter().all(|(_, finding)| matches!(finding, Well(_))) {
        let ran = models::load(config, 1, models::Chosen::default());
        findings.push((
            "inference",
            match ran {
                Ok(_) => Well("every model runs".into()),
                Err(error) => Wrong(format!("{error:#}")),
            },
        ));
    }
    findings
}

fn port(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Well(format!("{address} is free")),
        Err(error) => {
            Wrong(format!("{address}: {error}: stop what listens there, or choose another port"))
        }
    }
}

fn disk(dir: &Path) -> Finding {
    if let Err(error) = std::fs::create_dir_all(dir) {
        return Wrong(format!(
            "{}: {error}: choose a folder that can be written (store.dir)",
            dir.display()
        ));
    }
    let probe = dir.join(".doctor");
    let written = std::fs::write(&probe, b"probe").and_then(|()| std::fs::remove_file(&probe));
    if let Err(error) = written {
        return Wrong(format!("{}: {error}: make it writable", dir.display()));
    }
    let free = rustix::fs::statvfs(dir).map(|space| space.f_bavail * space.f_frsize);
    match free {
        Ok(free) if free < 10_000_000_000 => {
            Doubtful(format!("{}: only {:.1} GB free", dir.display(), free as f64 / 1e9))
        }
        Ok(free) => Well(format!("{}: {:.0} GB free", dir.display(), free as f64 / 1e9)),
        Err(error) => Wrong(format!("{}: {error}", dir.display())),
    }
}

fn files(config: &Config) -> Vec<(&'static str, Finding)> {
    let missing = config.cameras.iter().filter_map(|camera| {
        let path = camera.address.file_path()?;
        (!Path::new(path).is_file())
            .then(|| ("camera", Wrong(format!("{}: there is no file {path}", camera.id))))
    });
    missing.collect()
}
