//! `tollgate backup FILE`: a copy of the ledger while it is at work.

use std::path::PathBuf;

use clap::Args;

use crate::admin::{self, Ask, Tell};
use crate::boot::Parts;
use crate::cli::ConfigFile;
use crate::config::{Config, Place};
use crate::failure::{Failure, Kind};
use crate::output;
use crate::storage::Storage;

/// `tollgate backup FILE`
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The file to write; there must be none of that name
    backup: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// The database cannot be reached, or the file cannot be written.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = Config::load(arguments.file.config.as_deref(), std::env::vars())?;
    let Place::File(database) = config.database.place()? else {
        let failure = Failure::new(Kind::Usage, "the database is on a PostgreSQL server");
        return Err(failure.next("use the server's own tools: pg_dump, or a base backup"));
    };
    let bar = output::progress("copying");
    let moved = |left: i32, all: i32| {
        bar.set_length(u64::try_from(all).unwrap_or(0));
        bar.set_position(u64::try_from(all - left).unwrap_or(0));
    };
    let path = std::path::absolute(&arguments.backup).map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
    let told = match Storage::open_existing(&config, &Parts::default()).await {
        Ok(storage) => {
            let reporting = bar.clone();
            let told = admin::backup(&storage, &path, move |left, all| {
                reporting.set_length(u64::try_from(all).unwrap_or(0));
                reporting.set_position(u64::try_from(all - left).unwrap_or(0));
                true
            });
            let told = told.await;
            storage.close().await.map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
            told
        }
        Err(failure) if failure.kind == Kind::Unreachable => {
            admin::ask(&database, &Ask::Backup { path: path.clone() }, moved).await?
        }
        Err(failure) => return Err(failure),
    };
    bar.finish_and_clear();
    match told {
        Tell::BackedUp => {
            output::note(&format!("{} is whole; `tollgate restore` puts it in place of a database", path.display()));
            output::note("keep the encryption key with it: no server starts on it without that");
            Ok(())
        }
        Tell::Failed { why } => Err(Failure::new(Kind::Failed, format!("{}: {why}", path.display()))),
        _ => Err(Failure::new(Kind::Failed, "the server answered something else")),
    }
}
