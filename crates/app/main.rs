//! The program: configuration, wiring, telemetry and command line.
//!
//! Owns no logic of the field: it reads what the user wants, builds the parts of the other crates and joins them at
//! the seams of `domain`. Exit codes: 0 done, 1 nothing found or a failed check, 2 an error.

mod access;
mod audit;
mod bench;
mod cameras;
mod child;
mod cli;
mod clock;
mod config;
mod demo;
mod doctor;
mod eval;
mod evidence;
mod import;
mod models;
mod query;
mod receivers;
mod recording;
mod release;
mod reload;
mod run;
mod simulate;
mod store;
mod tactics;
mod telemetry;
mod token;
mod watch;
mod watchlist;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::dispatch(arguments) {
        Ok(code) => code,
        // A reader that closed the pipe (`guiji query … | head`) is a normal end.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guiji: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
