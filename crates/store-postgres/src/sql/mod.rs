//! The seam on PostgreSQL: sessions, statements and rows.

mod batch;
mod change;
mod migrate;
mod node;
mod read;
mod session;
mod values;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Timeouts};
use foldhash::HashSet;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_postgres::{Config, NoTls};
use tollgate_domain::IdCipher;
use tollgate_domain::ledger::Scope;
use tollgate_engine::{Row, Value};

use crate::seam::{Broken, Committed, Database, Glimpse, Hold, Identity, Loaded, News, Wanted, Writes};

pub use batch::Batch;
pub use change::SqlChange;
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
/// Sessions for batches: the one that is at work, and one for when that was lost.
const LEDGER_SESSIONS: usize = 2;
/// Sessions for changes and questions.
const MANAGEMENT_SESSIONS: usize = 8;

/// A PostgreSQL database.
pub struct Sql {
    ledger: Pool,
    management: Pool,
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
fn pool(config: &Config, size: usize) -> Result<Pool, OpenError> {
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let timeouts = Timeouts { wait: Some(LOCK_TIMEOUT), create: Some(CONNECT_TIMEOUT), recycle: Some(CONNECT_TIMEOUT) };
    Pool::builder(Manager::from_config(config.clone(), NoTls, manager))
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

impl Database for Sql {
    type Batch = Batch;
    type Change = SqlChange;

    fn cipher(&self) -> &IdCipher {
        &self.cipher
    }

    async fn register(&self) -> Result<Identity, Broken> {
        node::register(session(&self.management).await?).await
    }

    async fn renew(&self, node: Identity) -> Result<bool, Broken> {
        node::renew(&session(&self.management).await?, node).await
    }

    async fn resign(&self, node: Identity) -> Result<(), Broken> {
        node::resign(&session(&self.management).await?, node).await
    }

    async fn orphans(&self, most: usize) -> Result<Vec<(tollgate_domain::generation::GenerationRow, Hold)>, Broken> {
        node::orphans(&session(&self.management).await?, most).await
    }

    async fn begin(&self, wanted: &Wanted) -> Result<(Batch, Loaded), Broken> {
        let session = session(&self.ledger).await?;
        let missing = {
            let present = self.present.lock();
            let rows = wanted.scopes.iter().map(|(scope, share)| (*scope, batch::place(*share, wanted.node)));
            rows.filter(|row| !present.contains(row)).collect()
        };
        batch::begin(session, wanted, missing).await
    }

    async fn commit(&self, batch: Batch, writes: &Writes) -> Committed {
        let (committed, fresh) = batch.commit(writes).await;
        if committed == Committed::Done {
            self.present.lock().extend(fresh);
        }
        committed
    }

    async fn change(&self) -> Result<SqlChange, Broken> {
        SqlChange::begin(session(&self.management).await?).await
    }

    async fn news(&self, since: i64) -> Result<News, Broken> {
        read::news(&session(&self.management).await?, since).await
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn glimpse(&self, scopes: &[Scope]) -> Result<Glimpse, Broken> {
        read::glimpse(&session(&self.management).await?, scopes).await
    }

    async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Broken> {
        read::query(&session(&self.management).await?, sql, &values).await
    }
}
