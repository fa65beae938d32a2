//! The seam on PostgreSQL: sessions, statements and rows.

mod batch;
mod change;
mod import;
mod migrate;
mod node;
mod read;
mod session;
mod tls;
mod values;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Timeouts};
use foldhash::HashSet;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;
use tollgate_domain::IdCipher;
use tollgate_domain::ledger::Scope;
use tollgate_engine::{Row, Value};

use crate::seam::{Broken, Committed, Database, Glimpse, Hold, Identity, Loaded, News, Wanted, Writes};

pub use batch::Batch;
pub use change::SqlChange;
pub use import::{Import, array};
pub use session::{OpenError, Options};

/// The advisory lock over what management knows: shared by batches, alone for a change.
const CONFIG_LOCK: i64 = 0x746f_6c6c_0001;
/// The advisory lock under which nodes take their numbers.
const NODES_LOCK: i64 = 0x746f_6c6c_0002;
/// What changes are told under.
const CHANNEL: &str = "tollgate_config";

/// The most that a batch or a change waits for another, by the server's clock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// The most that one statement may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server lets a transaction wait for its node: a node only thinks between the two halves of a batch.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a session may take to begin.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a node waits for an answer: longer than a statement may take. What takes longer in all is cut off, and ended by the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// Versions that a batch catches up with while it holds its locks; with more it lets go of them first.
const VERSIONS_BEHIND_MAX: i64 = 16;
/// What nodes must agree on to count together: which scopes are limited, and how balances are summed.
const PROTOCOL: i64 = 1;
/// Sessions for batches: the one that is at work, and one for when that was lost.
const LEDGER_SESSIONS: usize = 2;
/// Sessions for changes and questions.
const MANAGEMENT_SESSIONS: usize = 8;
/// Sessions for the lease, which must not wait behind anything.
const LEASE_SESSIONS: usize = 1;

/// A PostgreSQL database.
pub struct Sql {
    ledger: Pool,
    management: Pool,
    lease: Pool,
    cipher: IdCipher,
    /// Rows of balances that are known to be there.
    present: Mutex<HashSet<(Scope, i32)>>,
    changed: Arc<Notify>,
    listener: tokio::task::JoinHandle<()>,
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Sessions of one kind.
fn pool(config: &Config, tls: &MakeRustlsConnect, size: usize) -> Result<Pool, OpenError> {
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let timeouts = Timeouts { wait: Some(LOCK_TIMEOUT), create: Some(CONNECT_TIMEOUT), recycle: Some(CONNECT_TIMEOUT) };
    Pool::builder(Manager::from_config(config.clone(), tls.clone(), manager))
        .max_size(size)
        .timeouts(timeouts)
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .build()
        .map_err(|error| OpenError::Url(error.to_string()))
}

async fn session(pool: &Pool) -> Result<Object, Broken> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) => values::broken(&error),
        PoolError::Timeout(_) => Broken("no session with the database could be had in time".to_owned()),
        other => Broken(other.to_string()),
    })
}

/// A session in the middle of something. Dropped before its end it is closed: the server then ends what was begun.
pub struct Held(Option<Object>);

impl Held {
    async fn of(pool: &Pool) -> Result<Self, Broken> {
        session(pool).await.map(|session| Self(Some(session)))
    }

    fn get(&self) -> Result<&Object, Broken> {
        self.0.as_ref().ok_or_else(ended)
    }

    fn get_mut(&mut self) -> Result<&mut Object, Broken> {
        self.0.as_mut().ok_or_else(ended)
    }

    /// It is at rest, and goes back to the others.
    fn rest(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            drop(Object::take(session));
        }
    }
}

fn ended() -> Broken {
    Broken("the session has ended".to_owned())
}

/// No answer is waited for longer than this: a peer that is gone need not say so.
async fn in_time<T>(answer: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
    let late = || Broken("the database did not answer in time".to_owned());
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| late())?
}

impl Sql {
    /// Something short, on a session for management.
    async fn ask<T>(&self, what: impl AsyncFnOnce(&mut Object) -> Result<T, Broken>) -> Result<T, Broken> {
        ask(&self.management, what).await
    }

    /// Something short of the lease.
    async fn keep<T>(&self, what: impl AsyncFnOnce(&mut Object) -> Result<T, Broken>) -> Result<T, Broken> {
        ask(&self.lease, what).await
    }
}

async fn ask<T>(pool: &Pool, what: impl AsyncFnOnce(&mut Object) -> Result<T, Broken>) -> Result<T, Broken> {
    in_time(async {
        let mut held = Held::of(pool).await?;
        let answer = what(held.get_mut()?).await?;
        held.rest();
        Ok(answer)
    })
    .await
}

impl Database for Sql {
    type Batch = Batch;
    type Change = SqlChange;

    fn cipher(&self) -> &IdCipher {
        &self.cipher
    }

    async fn register(&self) -> Result<Identity, Broken> {
        self.keep(async |session| node::register(session).await).await
    }

    async fn nodes(&self) -> Result<Vec<(Identity, i64)>, Broken> {
        self.keep(async |session| node::nodes(session).await).await
    }

    async fn fence(&self, node: Identity, count: i64) -> Result<(), Broken> {
        self.keep(async |session| node::fence(session, node, count).await).await
    }

    async fn renew(&self, node: Identity) -> Result<bool, Broken> {
        self.keep(async |session| node::renew(session, node).await).await
    }

    async fn resign(&self, node: Identity) -> Result<(), Broken> {
        self.keep(async |session| node::resign(session, node).await).await
    }

    async fn orphans(&self, most: usize) -> Result<Vec<(tollgate_domain::generation::GenerationRow, Hold)>, Broken> {
        self.ask(async |session| node::orphans(session, most).await).await
    }

    async fn begin(&self, wanted: &Wanted) -> Result<(Batch, Loaded), Broken> {
        let missing = {
            let present = self.present.lock();
            let rows = wanted.scopes.iter().map(|(scope, share)| (*scope, batch::place(*share, wanted.node)));
            rows.filter(|row| !present.contains(row)).collect()
        };
        let begun = in_time(async { batch::begin(Held::of(&self.ledger).await?, wanted, missing).await }).await;
        if begun.is_err() {
            // Whatever was wrong, the rows that are there are looked for anew.
            self.present.lock().clear();
        }
        begun
    }

    async fn commit(&self, batch: Batch, writes: &Writes) -> Committed {
        let late = || (Committed::Unknown("the database did not answer in time".to_owned()), Vec::new());
        let committed = tokio::time::timeout(ANSWER_TIMEOUT, batch.commit(writes)).await;
        let (committed, fresh) = committed.unwrap_or_else(|_| late());
        if committed == Committed::Done {
            self.present.lock().extend(fresh);
        }
        committed
    }

    async fn leave(&self, batch: Batch) {
        batch.leave().await;
    }

    async fn change(&self) -> Result<SqlChange, Broken> {
        in_time(async { SqlChange::begin(Held::of(&self.management).await?).await }).await
    }

    async fn news(&self, since: i64) -> Result<News, Broken> {
        self.ask(async |session| read::news(session, since).await).await
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn glimpse(&self, scopes: &[Scope]) -> Result<Glimpse, Broken> {
        self.ask(async |session| read::glimpse(session, scopes).await).await
    }

    async fn snapshot(&self, questions: Vec<(String, Vec<Value>)>) -> Result<Vec<Vec<Row>>, Broken> {
        // It may take long, and nobody waits for it.
        let held = Held::of(&self.management).await?;
        let answers = read::snapshot(held.get()?, &questions).await?;
        held.rest();
        Ok(answers)
    }

    async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Broken> {
        self.ask(async |session| read::query(session, sql, &values).await).await
    }
}
