//! `tollgate config check|print`

use clap::{Args, Subcommand};

use crate::cli::{ConfigFile, variable};
use crate::config::Config;
use crate::failure::Failure;
use crate::output;

/// `tollgate config …`
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether the configuration can be used
    Check(ConfigFile),
    /// Print every setting, defaults included, as TOML
    Print(ConfigFile),
}

/// Runs the command.
///
/// # Errors
/// The configuration is wrong.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Check(file) => {
            let config = Config::load(file.config.as_deref(), std::env::vars())?;
            config.provider_settings(variable)?;
            let endpoints = config.endpoints()?;
            config.database.place()?;
            let unpriced: Vec<&str> = endpoints
                .iter()
                .filter(|endpoint| endpoint.prices.is_none())
                .map(|endpoint| endpoint.model.as_str())
                .collect();
            if !unpriced.is_empty() {
                output::note(&format!("warn: no price, so calls are refused: {}", unpriced.join(", ")));
            }
            output::result(&format!("ok: {} providers, {} models", config.providers.len(), endpoints.len()));
            Ok(())
        }
        Action::Print(file) => {
            let config = Config::load(file.config.as_deref(), std::env::vars())?;
            output::result(config.print()?.trim_end());
            Ok(())
        }
    }
}
