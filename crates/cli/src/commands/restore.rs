//! `tollgate restore`: a backup in the place of a database, and what was spent since it was made.

use std::path::{Path, PathBuf};

use clap::Args;
use tollgate_domain::money::Excess;
use tollgate_domain::{KeyHash, Usd};
use tollgate_store_sqlite::BackupError;

use crate::admin::{self, Ask, Tell};
use crate::boot::Parts;
use crate::cli::ConfigFile;
use crate::config::{Config, Place};
use crate::failure::{Failure, Kind};
use crate::output;
use crate::storage::Storage;

/// `tollgate restore FILE`, `tollgate restore --spent HASH=USD`, `tollgate restore --accept`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The backup; the database of the configuration must not exist yet
    #[arg(group = "what", conflicts_with_all = ["spent", "accept"])]
    backup: Option<PathBuf>,
    /// What a key spent since the backup was made, as its provider says: its hash and USD
    #[arg(long, value_name = "HASH=USD", group = "what")]
    spent: Vec<String>,
    /// Open admission: nothing else was spent since
    #[arg(long, group = "what")]
    accept: bool,
}

/// Runs the command.
///
/// # Errors
/// The backup is none, or something is in its place, or the database cannot be written.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = Config::load(arguments.file.config.as_deref(), std::env::vars())?;
    let place = config.database.place()?;
    match (&arguments.backup, place) {
        (Some(backup), Place::File(database)) => put(backup, &database),
        (Some(_), Place::Server(_)) => {
            let failure = Failure::new(Kind::Usage, "the database is on a PostgreSQL server");
            Err(failure.next("use the server's own tools, or restore to a file and `tollgate copy --to` it"))
        }
        (None, place) => {
            let spent = arguments.spent.iter().map(|text| entered(text)).collect::<Result<Vec<_>, _>>()?;
            settle(&config, &place, spent, arguments.accept).await
        }
    }
}

fn entered(text: &str) -> Result<(String, String), Failure> {
    let parsed = text.split_once('=').and_then(|(hash, usd)| {
        let amount = Usd::parse(usd, Excess::Refuse).ok()?;
        KeyHash::parse(hash).map(|hash| (hash.to_string(), amount.to_string()))
    });
    parsed.ok_or_else(|| {
        let failure = Failure::new(Kind::Usage, format!("`{text}` is not the hash of a key, `=` and an amount in USD"));
        failure.next("for example: --spent 9c1b…=12.50 (`tollgate keys list --json` shows hashes)")
    })
}

/// Under another name first: what is in place is whole.
fn put(backup: &Path, database: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, what: String| Failure::new(Kind::Failed, format!("{}: {what}", path.display()));
    if database.exists() {
        let failure = failed(database, "there is a database in its place".to_owned());
        return Err(failure.next("move it away, with its logs but not its `.key`, or set database.url to another file"));
    }
    tollgate_store_sqlite::restore(backup, database).map_err(|error| {
        let next = match error {
            BackupError::Exists => "move away what is left of the database: its `-wal`, `-shm` and `-journal`",
            BackupError::Damaged(_) => "give another backup; nothing was changed",
            BackupError::Draft(_) => "nothing was changed",
            BackupError::Failed(_) => "give a file that `tollgate backup` wrote; nothing was changed",
        };
        failed(backup, error.to_string()).next(next)
    })?;
    output::note(&format!("{} is in place; a server starts on it with admission closed", database.display()));
    output::note(
        "then enter what was spent since (`tollgate restore --spent HASH=USD`), and `tollgate restore --accept`",
    );
    Ok(())
}

async fn settle(config: &Config, place: &Place, spent: Vec<(String, String)>, accept: bool) -> Result<(), Failure> {
    let told = match Storage::open_existing(config, &Parts::default()).await {
        Ok(storage) => {
            let told = admin::open_admission(&storage, &spent, accept).await;
            storage.close().await.map_err(|error| Failure::new(Kind::Failed, error.to_string()))?;
            told
        }
        Err(failure) => match place {
            Place::File(file) if failure.kind == Kind::Unreachable => {
                admin::ask(file, &Ask::OpenAdmission { spent, accept }, |_, _| {}).await?
            }
            Place::File(_) | Place::Server(_) => return Err(failure),
        },
    };
    match told {
        Tell::Admission { open: true } => output::note("admission is open"),
        Tell::Admission { open: false } => {
            output::note("entered; admission is still closed: `tollgate restore --accept`");
        }
        Tell::Failed { why } => return Err(Failure::new(Kind::Failed, why)),
        _ => return Err(Failure::new(Kind::Failed, "the server answered something else")),
    }
    Ok(())
}
