//! The database of a configuration, whichever engine it is on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tollgate_app::{OsRandom, Random};
use tollgate_domain::{IdCipher, KeyHash, Timestamp, Usd};
use tollgate_engine::Ground;
use tollgate_engine::doctor::Report;
use tollgate_store::{Actor, Store, StoreError};
use tollgate_store_postgres::PostgresStore;
use tollgate_store_sqlite::{BackupError, SqliteStore};

use crate::boot::Parts;
use crate::config::{Config, Place};
use crate::failure::{Failure, Kind};

/// A database that is open.
#[derive(Clone)]
pub enum Storage {
    /// A file that this process owns.
    Embedded(SqliteStore, PathBuf),
    /// A server that this process is one of the nodes on.
    Shared(PostgresStore),
}

impl Storage {
    /// Opens the database of a configuration.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn open(config: &Config, parts: &Parts) -> Result<Self, Failure> {
        let random = || OsRandom.bytes().map_err(|error| Failure::new(Kind::Failed, error.to_string()));
        let seed = random()?;
        match config.database.place()? {
            Place::File(path) => open_file(config, parts, path, seed, random()?),
            Place::Server(url) => open_server(parts, url, seed).await,
        }
    }

    /// The same, where it must be there already.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub async fn open_existing(config: &Config, parts: &Parts) -> Result<Self, Failure> {
        if let Place::File(path) = config.database.place()?
            && !path.exists()
        {
            let failure = Failure::new(Kind::NotFound, format!("{}: there is no database", path.display()));
            return Err(failure.next("run this where the server runs, or name its configuration with --config"));
        }
        Self::open(config, parts).await
    }

    /// As the product sees it.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(store, _) => Arc::new(store.clone()),
            Self::Shared(store) => Arc::new(store.clone()),
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Embedded(_, file) => Some(file),
            Self::Shared(_) => None,
        }
    }

    /// Between rows and public ids.
    pub fn cipher(&self) -> &IdCipher {
        match self {
            Self::Embedded(store, _) => store.cipher(),
            Self::Shared(store) => store.cipher(),
        }
    }

    /// Looks whether everything adds up.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn examine(&self) -> Result<Report, StoreError> {
        match self {
            Self::Embedded(store, _) => store.examine().await,
            Self::Shared(store) => store.examine().await,
        }
    }

    /// The same, and puts right what does not. What is reported is what was found.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub async fn mend(&self) -> Result<Report, StoreError> {
        match self {
            Self::Embedded(store, _) => store.mend().await,
            Self::Shared(store) => store.mend().await,
        }
    }

    /// Takes the clock as it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn accept_clock(&self) -> Result<Timestamp, StoreError> {
        match self {
            Self::Embedded(store, _) => store.accept_clock().await,
            Self::Shared(store) => store.accept_clock().await,
        }
    }

    /// Copies it to a file.
    ///
    /// # Errors
    /// It is not in a file, or the copy cannot be written.
    pub async fn backup(
        &self,
        path: &Path,
        step: impl FnMut(i32, i32) -> bool + Send + 'static,
    ) -> Result<(), BackupError> {
        match self {
            Self::Embedded(store, _) => store.backup(path, step).await,
            Self::Shared(_) => Err(BackupError::Failed("the database is not in a file".to_owned())),
        }
    }

    /// Books what a key spent that this copy of the ledger did not see. Whether there is such a key.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn charge_key(&self, hash: &KeyHash, spent: Usd) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store, _) => store.charge_key(hash, spent, &Actor::Operator).await,
            Self::Shared(store) => store.charge_key(hash, spent, &Actor::Operator).await,
        }
    }

    /// Opens admission on a copy.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn open_admission(&self) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store, _) => store.open_admission(&Actor::Operator).await,
            Self::Shared(store) => store.open_admission(&Actor::Operator).await,
        }
    }

    /// Whether admission is closed, because this is a copy.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn is_closed(&self) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store, _) => store.is_closed().await,
            Self::Shared(store) => store.is_closed().await,
        }
    }

    /// Does what is done at its own pace, until the returned future is dropped.
    pub async fn keep(&self) {
        match self {
            Self::Embedded(store, _) => store.fold_regularly().await,
            Self::Shared(store) => store.keep().await,
        }
    }

    /// Writes the last of it and lets go of it.
    ///
    /// # Errors
    /// The last of it could not be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store, _) => store.close().await,
            Self::Shared(store) => store.close().await,
        }
    }
}

fn open_file(
    config: &Config,
    parts: &Parts,
    path: PathBuf,
    seed: [u8; 32],
    token: [u8; 32],
) -> Result<Storage, Failure> {
    use tollgate_store_sqlite::OpenError;
    let options = tollgate_store_sqlite::Options {
        path: path.clone(),
        durability: config.database.durability(),
        clock: Arc::clone(&parts.clock),
        seed,
        token,
        refuse_commits: parts.refuse_commits.clone(),
    };
    match tollgate_store_sqlite::open(options) {
        Ok(store) => Ok(Storage::Embedded(store, path)),
        Err(error) => {
            let fact = format!("{}: {error}", path.display());
            let next = match &error {
                OpenError::InUse => "stop the other process, or give this one another database.url",
                OpenError::Newer => "start the release that wrote it, or a later one",
                OpenError::Altered(_) => "start the release that wrote it, or restore a backup",
                OpenError::Damaged(_) => "restore a backup; `tollgate doctor` tells more of what is damaged",
                OpenError::Copied => {
                    "use the original, or `tollgate backup` to copy one that is at work; `tollgate doctor --accept-copy` takes it \
                     as it is, with admission closed"
                }
                OpenError::Sqlite(_) | OpenError::System(_) => "check that the folder exists and can be written to",
            };
            let kind = if matches!(error, OpenError::InUse) { Kind::Unreachable } else { Kind::Failed };
            Err(Failure::new(kind, fact).next(next))
        }
    }
}

async fn open_server(parts: &Parts, url: String, seed: [u8; 32]) -> Result<Storage, Failure> {
    let now = parts.clock.read().wall;
    let options = tollgate_store_postgres::Options { url, seed, now, without_fsync: parts.without_fsync };
    let opened = tollgate_store_postgres::open(options, Arc::clone(&parts.clock)).await;
    opened.map(Storage::Shared).map_err(|error| refused(&error))
}

/// Why a database on a server could not be opened, and what to do.
pub fn refused(error: &tollgate_store_postgres::OpenError) -> Failure {
    use tollgate_store_postgres::OpenError;
    let next = match error {
        OpenError::Url(_) => "for example: url = \"postgres://tollgate:password@localhost/tollgate\"",
        OpenError::Authorities(_) => {
            "give a file of certificates in PEM, or leave it out for the authorities that browsers trust"
        }
        OpenError::Unreachable(_) => {
            "check that the server runs, that its certificate is one that `sslmode` and `sslrootcert` take, and that the user may \
             create tables in the database"
        }
        OpenError::Unsafe(_) => "set fsync = on in postgresql.conf",
        OpenError::Encoding(_) => "create the database with ENCODING 'UTF8' TEMPLATE template0",
        OpenError::Standby => "give the address of the primary",
        OpenError::Newer => "start the release that wrote it, or a later one",
        OpenError::Altered(_) | OpenError::Damaged(_) => "restore a backup; nothing was changed",
    };
    let kind = match error {
        OpenError::Url(_) | OpenError::Authorities(_) => Kind::Usage,
        OpenError::Unreachable(_) => Kind::Unreachable,
        _ => Kind::Failed,
    };
    Failure::new(kind, error.to_string()).next(next)
}
