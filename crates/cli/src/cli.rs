//! The command line.
#![expect(clippy::print_stderr, reason = "errors go to stderr")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::commands::{
    self, audit, backup, config, copy, credits, demo, doctor, keys, management_keys, members, restore, serve, usage,
};
use crate::failure::{Failure, Kind};

/// LLM API keys with spending limits that hold
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, arg_required_else_help = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "Examples
  tollgate demo
  tollgate keys create --name ci --limit 5 --reset daily
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 management key refused, 5 server unreachable";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try it: simulated provider, a $0.01 key, its refusal
    Demo(demo::Arguments),
    /// Run the server (reads ./tollgate.toml if it exists)
    Serve(serve::Arguments),
    /// Hand out and change keys, over HTTP
    Keys(keys::Arguments),
    /// What was spent in the last 30 days, over HTTP
    Usage(usage::Arguments),
    /// Show or top up the account's credits, over HTTP
    Credits(credits::Arguments),
    /// Who there is, over HTTP
    Members(members::Arguments),
    /// Who changed what, and when, over HTTP
    Audit(audit::Arguments),
    /// Keys that manage keys, on the database (first key, lost key)
    ManagementKeys(management_keys::Arguments),
    /// Check or print the configuration
    Config(config::Arguments),
    /// Does the ledger add up? On the database
    Doctor(doctor::Arguments),
    /// Copy the database while it is at work
    Backup(backup::Arguments),
    /// Put a backup in place, enter what was spent since
    Restore(restore::Arguments),
    /// Move the ledger to PostgreSQL
    Copy(copy::Arguments),
}

/// Which configuration.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigFile {
    /// Configuration file [default: ./tollgate.toml if it exists]
    #[arg(long, value_name = "F", global = true)]
    pub config: Option<PathBuf>,
}

/// Runs the command.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help asked for goes to stdout with 0, everything else to stderr with 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::new(Kind::Failed, format!("the runtime cannot start: {error}"))),
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Demo(arguments) => Box::pin(demo::run(arguments)).await,
            Command::Serve(arguments) => Box::pin(serve::run(arguments)).await,
            Command::Keys(arguments) => keys::run(arguments).await,
            Command::Usage(arguments) => usage::run(arguments).await,
            Command::Credits(arguments) => credits::run(arguments).await,
            Command::Members(arguments) => members::run(arguments).await,
            Command::Audit(arguments) => audit::run(arguments).await,
            Command::ManagementKeys(arguments) => management_keys::run(arguments).await,
            Command::Config(arguments) => config::run(arguments),
            Command::Doctor(arguments) => doctor::run(arguments).await,
            Command::Backup(arguments) => backup::run(arguments).await,
            Command::Restore(arguments) => restore::run(arguments).await,
            Command::Copy(arguments) => copy::run(arguments).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("error: {}", failure.fact);
    if let Some(next) = &failure.next {
        eprintln!(" next: {next}");
    }
    ExitCode::from(failure.kind as u8)
}

/// The variable with this name, from the process's environment: the only place that reads it.
#[expect(clippy::disallowed_methods, reason = "this is where the configuration reads the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The definition of the command line, for checks.
pub fn definition() -> clap::Command {
    Cli::command()
}

pub use commands::serve::{log, stop_signal};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound_and_the_help_fits_a_screen() {
        definition().debug_assert();
        let help = definition().render_help().to_string();
        assert!(help.lines().count() <= 40, "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 110), "{help}");
    }
}
