//! `tollgate serve`

use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use std::io::{IsTerminal, Write};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_domain::KeySecret;
use tracing_subscriber::EnvFilter;

use crate::boot::{Parts, boot};
use crate::cli::{ConfigFile, variable};
use crate::config::{Config, LogConfig, LogFormat, Place};
use crate::failure::{Failure, Kind};
use crate::output;

/// `tollgate serve …`
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
}

/// Runs the command.
///
/// # Errors
/// The server cannot start, or could not write the last of its ledger.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = Config::load(arguments.file.config.as_deref(), std::env::vars())?;
    log(&config.log)?;
    let stop = stop_signal()?;
    let booted = boot(&config, Parts::default(), variable).await?;
    let given = variable("TOLLGATE_BOOTSTRAP_MANAGEMENT_KEY").is_some();
    if let Some(secret) = booted.first_management_key.as_ref().filter(|_| !given) {
        hand_over(secret, &config.database.place()?)?;
    }
    output::result(&format!("listening on {}", address_url(&config, &booted.address.to_string())));
    booted.run(stop).await
}

/// The URL of the bound address.
fn address_url(config: &Config, address: &str) -> String {
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{address}")
}

/// Shows the first management key to a person, or leaves it in a file that only the owner can read.
fn hand_over(secret: &KeySecret, database: &Place) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        output::result(&format!("management key (shown once): {}", secret.reveal()));
        return Ok(());
    }
    let mut name = match database {
        Place::File(file) => file.as_os_str().to_owned(),
        Place::Server(_) => "tollgate".into(),
    };
    name.push(".management-key");
    let path = PathBuf::from(name);
    // Never into a file that was there, with whatever rights it has. That there was none is no failure.
    let _ = std::fs::remove_file(&path);
    let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    written.and_then(|mut file| writeln!(file, "{}", secret.reveal())).map_err(|error| {
        let fact = format!("the first management key could not be written to {}: {error}", path.display());
        Failure::new(Kind::Failed, fact).next("`tollgate management-keys create` makes another one")
    })?;
    tracing::info!(file = %path.display(), "the first management key was written to a file");
    Ok(())
}

/// Starts to log to stderr.
///
/// # Errors
/// The level is none.
pub fn log(config: &LogConfig) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| {
        Failure::new(Kind::Usage, format!("log.level: {error}")).next("for example: level = \"info\"")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, as in tests, leaves the first in force.
    let _ = match config.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

/// Resolves when the process is asked to stop.
///
/// # Errors
/// Signals cannot be listened to.
pub fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let failed = |error: std::io::Error| Failure::new(Kind::Failed, format!("cannot listen to signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: no new calls are admitted, those under way are finished");
    })
}
