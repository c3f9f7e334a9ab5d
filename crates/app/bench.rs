//! `guiji bench`: figures of this machine, from the parts that run in the field.

mod postgres;
mod questions;
mod store;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Arguments of `guiji bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    what: Benched,
}

#[derive(Debug, Subcommand)]
enum Benched {
    /// Fill a store with a simulated county's sightings, then ask it what people ask.
    Store(store::StoreArguments),
}

/// Runs the command.
pub(crate) fn run(arguments: BenchArguments) -> Result<ExitCode> {
    let Benched::Store(arguments) = arguments.what;
    store::run(&arguments)
}
