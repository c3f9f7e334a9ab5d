//! The command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    audit, bench, cameras, demo, doctor, eval, evidence, import, query, release, run, simulate,
    store, token, watch,
};

/// 轨迹: vehicles from camera streams to trajectories and alerts.
#[derive(Debug, Parser)]
#[command(name = "guiji", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch cameras: streams in, sightings, alerts and the API out.
    Run(run::RunArguments),
    /// Ask a running server.
    Query(Box<query::QueryArguments>),
    /// Show a live table of the cameras of a running server.
    Watch(watch::WatchArguments),
    /// Register cameras from a table, list them, write them out.
    Cameras(cameras::CamerasArguments),
    /// Bring a recording from elsewhere into a running server.
    Import(import::ImportArguments),
    /// Measure perception on labelled photos and clips, and the search for misread plates.
    Eval(eval::EvalArguments),
    /// Check that everything needed is here, and say what to do where it is not.
    Doctor(doctor::DoctorArguments),
    /// Play a made-up county of six cameras through the whole system and keep the score.
    Demo(demo::DemoArguments),
    /// Measure this machine.
    Bench(bench::BenchArguments),
    /// Make up sightings of a whole county, with the truth about them.
    Simulate(simulate::SimulateArguments),
    /// Back up, restore and check a store, and hold what a case needs.
    Store(store::StoreArguments),
    /// Read the audit and check that nothing in it was changed.
    Audit(audit::AuditArguments),
    /// Make keys and sign tokens, where there is no identity provider.
    Token(token::TokenArguments),
    /// Fetch sealed evidence from a running server, and the key that it is checked with.
    Evidence(evidence::EvidenceArguments),
    /// Check a sealed bundle of evidence, offline.
    Verify(evidence::VerifyArguments),
    /// Let somebody else see data older than 90 days.
    Release(release::ReleaseArguments),
}

/// Runs the command.
pub(crate) fn dispatch(arguments: Arguments) -> Result<ExitCode> {
    match arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Query(arguments) => query::run(*arguments),
        Command::Watch(arguments) => watch::run(arguments),
        Command::Cameras(arguments) => cameras::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Eval(arguments) => eval::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Store(arguments) => store::run(arguments),
        Command::Audit(arguments) => audit::run(arguments),
        Command::Token(arguments) => token::run(arguments),
        Command::Evidence(arguments) => evidence::run(arguments),
        Command::Verify(arguments) => evidence::verify(&arguments),
        Command::Release(arguments) => release::run(arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
