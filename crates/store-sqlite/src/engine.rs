//! Opening the database, and the state that everything else shares.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use foldhash::HashMap;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::KeyId;
use tollgate_domain::{IdCipher, Timestamp};
use tollgate_engine::{Engine, GuardedClock, Rollups, State, Unreadable};
use tollgate_store::{Clock, StoreError};

use crate::committer::{Committer, HoldsQueue, Queue, Stalled, Ticket};
use crate::damage::damage_at_start;
use crate::record::Record;
use crate::{migrate, owner};

/// Statements that stay prepared.
const STATEMENTS_MAX: usize = 64;

/// From so many calls in flight on, a leader waits a turn of the scheduler for others to join its group.
const CROWD: usize = 4;

/// What a commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Loss of power: every group ends in a flush of the disk.
    #[default]
    Power,
    /// The death of the process.
    Process,
}

/// How to open a database.
pub struct Options {
    /// The file; created if it does not exist.
    pub path: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Random bytes, used once in the life of a database: for its ids.
    pub seed: [u8; 32],
    /// Random bytes of this start, by which a copy of the file is told from the original.
    pub token: [u8; 32],
    /// While true every commit fails as on a broken disk. For tests of what happens then.
    pub refuse_commits: Option<Arc<AtomicBool>>,
}

/// Why a database could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns the file.
    #[error("the database is in use by another process")]
    InUse,
    /// The file was copied while a server ran on the original: what was written meanwhile is not in it.
    #[error("the file was copied while a server was running, and is not whole")]
    Copied,
    /// A later release wrote the file.
    #[error("the database was written by a newer release of tollgate")]
    Newer,
    /// An applied migration is not the one in this release.
    #[error("migration {0} is not the one that was applied to the database")]
    Altered(i64),
    /// The file is not a database, or what is in it contradicts itself.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// SQLite could not open or read it.
    #[error("the database cannot be opened: {0}")]
    Sqlite(rusqlite::Error),
    /// The system refused something that is none of the database's.
    #[error("the system refuses: {0}")]
    System(#[from] std::io::Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

impl From<Unreadable> for OpenError {
    fn from(error: Unreadable) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Everything under the lock.
pub struct Live {
    pub state: State,
    pub queue: Queue,
    pub clock: GuardedClock,
    /// The fold that records carry from now on.
    pub epoch: i64,
    /// No reservation may be opened below this row: a start would not look for it there.
    pub low_row: i64,
    pub next_correction: i64,
    /// What was settled since the last fold, by hour and model.
    pub rollups: Rollups,
    /// Keys that were used since the last fold.
    pub used: HashMap<KeyId, Timestamp>,
}

impl Deref for Live {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Live {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Live {
    /// Notes that a key was used, for whoever asks and for the next fold.
    pub fn touch(&mut self, key: KeyId, at: Timestamp) {
        self.book.touch_key(key, at);
        let newest = self.used.entry(key).or_insert(at);
        *newest = (*newest).max(at);
    }
}

impl HoldsQueue for Live {
    fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }
}

/// The embedded engine.
pub type SqliteStore = Engine<Embedded>;

/// What the embedded engine stands on.
#[derive(Clone)]
pub struct Embedded {
    pub(crate) live: Arc<Mutex<Live>>,
    pub(crate) connection: Arc<Mutex<Option<Connection>>>,
    pub(crate) committer: Arc<Committer<Live>>,
    pub(crate) next_row: Arc<AtomicI64>,
    pub(crate) cipher: IdCipher,
    /// Held by whoever corrects a charge.
    pub(crate) correcting: Arc<tokio::sync::Mutex<()>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where it is; `None` in memory, where there is no disk to wait for.
    path: Option<PathBuf>,
    /// The first row of this start: what is below has ended.
    pub(crate) began_at_row: i64,
}

/// Opens the database, recovers what the last process left, and starts to write.
///
/// # Errors
/// [`OpenError`]; nothing was changed unless the database was opened.
pub fn open(options: Options) -> Result<SqliteStore, OpenError> {
    let path = options.path.clone();
    let own = owner::token_without_log(&path);
    if path.exists()
        && let Some(first) = damage_at_start(&path)?.into_iter().next()
    {
        return Err(OpenError::Damaged(first));
    }
    let mut connection = connect(&path, options.durability)?;
    let found = if migrate::is_migrated(&connection)? {
        owner::check(&connection, &path, own)?
    } else {
        owner::Found::default()
    };
    migrate::migrate(&mut connection)?;
    owner::mark(&connection, &path, found, options.token)?;
    open_on(connection, options)
}

/// The same on a connection that is open already; the path is not looked at. What a simulation of crashes builds on.
///
/// # Errors
/// As [`open`].
pub fn open_on(mut connection: Connection, options: Options) -> Result<SqliteStore, OpenError> {
    migrate::migrate(&mut connection)?;
    let now = options.clock.read().wall;
    let recovered = crate::recover::recover(&mut connection, &options.seed, now)?;
    if let Some(refuse) = options.refuse_commits {
        connection.commit_hook(Some(move || refuse.load(Ordering::Acquire)))?;
    }
    let path = connection.path().filter(|path| !path.is_empty()).map(|_| options.path);
    let live = Arc::new(Mutex::new(recovered.live));
    let connection = Arc::new(Mutex::new(Some(connection)));
    let committer = Committer::new(Arc::clone(&live), Arc::clone(&connection), options.durability);
    committer.start_writer()?;
    Ok(Engine(Embedded {
        live,
        connection,
        committer,
        next_row: Arc::new(AtomicI64::new(recovered.next_row.0)),
        cipher: recovered.cipher,
        correcting: Arc::default(),
        clock: options.clock,
        path,
        began_at_row: recovered.next_row.0,
    }))
}

impl Embedded {
    /// Lets go of the connection as a crash would: what was decided and is not written is lost.
    pub fn crash(&self) -> Option<Connection> {
        self.committer.close();
        self.connection.lock().take()
    }

    /// Writes everything that was decided, folds the balances, and lets go of the file.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the last group could not be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        let ticket = {
            let mut live = self.live.lock();
            self.fold_waited(&mut live)
        };
        let written = self.wait(ticket).await;
        self.committer.close();
        // Whoever still holds this store can no longer write, and another process may own the file.
        if let Some(connection) = self.connection.lock().take()
            && written.is_ok()
            && let Some(path) = &self.path
        {
            // Left there, it would only refuse copies that are whole.
            let _ = owner::leave(&connection, path);
        }
        written
    }

    /// The lock, and the ledger's time under it.
    pub(crate) fn lock_at(&self) -> (MutexGuard<'_, Live>, Result<Timestamp, StoreError>) {
        let mut live = self.live.lock();
        let reading = self.clock.read();
        let now = live.clock.at(reading);
        (live, now)
    }

    /// The lock, and the best time there is: for questions, and for settlements, which are never refused.
    pub(crate) fn lock_seen(&self) -> (MutexGuard<'_, Live>, Timestamp) {
        let (live, now) = self.lock_at();
        let seen = now.unwrap_or_else(|_| live.clock.seen());
        (live, seen)
    }

    /// Refuses while the disk does.
    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        if self.committer.stalled() {
            return Err(StoreError::Unavailable("the disk refuses writes".to_owned()));
        }
        Ok(())
    }

    pub(crate) async fn wait(&self, ticket: Ticket) -> Result<(), StoreError> {
        let crowd = self.live.lock().book.open_count() > CROWD;
        self.committer.attend_in_person(crowd).await;
        ticket.durable().await.map_err(|Stalled(why)| StoreError::Unavailable(why))
    }

    /// Adds a management record: waits for it to be written, even over a failure, so that nothing is done twice.
    pub(crate) fn enqueue(live: &mut Live, record: Record) -> Ticket {
        live.queue.push_waited(record, false)
    }

    /// Runs a read on the database itself, away from the runtime's threads unless it is in memory.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let committer = Arc::clone(&self.committer);
        let read = if self.path.is_none() {
            Ok(committer.read(query))
        } else {
            tokio::task::spawn_blocking(move || committer.read(query)).await
        };
        match read {
            Ok(None) => Err(StoreError::Unavailable("the database is closed".to_owned())),
            Ok(Some(result)) => result.map_err(|error| StoreError::Corrupt(error.to_string())),
            Err(_) => Err(StoreError::Uncertain),
        }
    }

    pub(crate) fn take_row(&self) -> GenerationRow {
        GenerationRow(self.next_row.fetch_add(1, Ordering::Relaxed))
    }
}

fn connect(path: &Path, durability: Durability) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // An owner keeps its file as long as it lives: there is nothing to wait for.
    connection.busy_timeout(Duration::ZERO)?;
    // Exclusive: one process owns the file, and the write-ahead log needs no shared memory.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Power => "FULL",
        Durability::Process => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // What is deleted or replaced leaves no trace in its page: sealed secrets, too.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    // The first write takes the lock that is then kept.
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
    Ok(connection)
}
