//! The engine for many nodes: PostgreSQL.
//!
//! Whatever queues up in a node is one batch: one transaction that locks the balances of limited scopes, decides with the
//! domain's [`Book`], and writes. What management knows is in every node's memory, and no batch is decided on an older
//! version of it than the newest.
//!
//! [`Book`]: tollgate_domain::ledger::Book

mod batch;
mod ground;
mod lease;
mod node;
pub mod seam;
mod sight;
mod sql;

use std::sync::Arc;

use tollgate_engine::Engine;
use tollgate_store::{Clock, StoreError};

pub use node::Node;
use seam::Database;
pub use sql::{Import, OpenError, Options, Sql, array};

/// The engine on PostgreSQL.
pub type PostgresStore = Engine<Node<Sql>>;

/// Connects, brings the schema up to date, becomes a node, and books what nobody owns any more.
///
/// # Errors
/// [`OpenError`].
pub async fn open(options: Options, clock: Arc<dyn Clock>) -> Result<PostgresStore, OpenError> {
    let database = Sql::open(options).await?;
    open_on(database, clock).await.map_err(|error| OpenError::Unreachable(error.to_string()))
}

/// The engine on a database behind the seam.
///
/// # Errors
/// The database cannot be asked.
pub async fn open_on<D: Database>(database: D, clock: Arc<dyn Clock>) -> Result<Engine<Node<D>>, StoreError> {
    Node::start(database, clock).await.map(Engine)
}
