//! The database as a node sees it: every call is a message to it and one back.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot::{self, Sender};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Balance, Scope};
use tollgate_domain::{IdCipher, Timestamp};
use tollgate_engine::{Corrected, Row, Statement, Value};
use tollgate_store_postgres::seam::{
    Broken, Change, Committed, Database, Glimpse, Hold, Identity, Loaded, News, Share, Time, Wanted, Writes,
};

use crate::core::{Core, Lost};
use crate::server::TxId;

pub type Sum = (Balance, Option<Timestamp>);

/// A message to the database, with the place of its answer.
pub enum Request {
    Begin(Box<Wanted>, Sender<Result<(Batch, Loaded), Broken>>),
    Commit(TxId, Box<Writes>, Sender<Committed>),
    Abort(TxId),
    Register(Sender<Result<Identity, Broken>>),
    Renew(Identity, Sender<Result<bool, Broken>>),
    Resign(Identity, Sender<Result<(), Broken>>),
    Nodes(Sender<Result<Vec<(Identity, i64)>, Broken>>),
    Fence(Identity, i64, Sender<Result<(), Broken>>),
    Orphans(usize, Sender<Result<Vec<(GenerationRow, Hold)>, Broken>>),
    Change(Sender<Result<SimChange, Broken>>),
    ChangeNews(TxId, i64, Sender<Result<Option<News>, Broken>>),
    ChangeSums(TxId, Vec<Scope>, Sender<Result<Vec<Sum>, Broken>>),
    ChangeQuery(TxId, String, Vec<Value>, Sender<Result<Vec<Row>, Broken>>),
    ChangeCorrect(TxId, Identity, Box<Corrected>, Vec<(Scope, Share)>, Sender<Result<(), Broken>>),
    ChangeCommit(TxId, Vec<Statement>, Sender<Committed>),
    News(i64, Sender<Result<News, Broken>>),
    Glimpse(Vec<Scope>, Sender<Result<Glimpse, Broken>>),
    Query(String, Vec<Value>, Sender<Result<Vec<Row>, Broken>>),
    Snapshot(Questions, Sender<Result<Vec<Vec<Row>>, Broken>>),
}

type Questions = Vec<(String, Vec<Value>)>;

impl<T> Lost for Result<T, Broken> {
    fn lost() -> Self {
        Err(Broken("the connection was lost".to_owned()))
    }
}

impl Lost for Committed {
    fn lost() -> Self {
        Self::Unknown("the connection was lost".to_owned())
    }
}

fn fail<T: Lost + Send + 'static>(sender: Sender<T>) -> Box<dyn FnOnce() + Send> {
    Box::new(move || {
        // Whoever asked may be gone.
        let _ = sender.send(T::lost());
    })
}

impl Request {
    /// Tells whoever asks that the connection was lost.
    pub fn fail(self) -> Box<dyn FnOnce() + Send> {
        match self {
            Self::Begin(_, to) => fail(to),
            Self::Commit(_, _, to) | Self::ChangeCommit(_, _, to) => fail(to),
            Self::Abort(_) => Box::new(|| ()),
            Self::Register(to) => fail(to),
            Self::Renew(_, to) => fail(to),
            Self::Resign(_, to) | Self::Fence(_, _, to) | Self::ChangeCorrect(_, _, _, _, to) => fail(to),
            Self::Nodes(to) => fail(to),
            Self::Orphans(_, to) => fail(to),
            Self::Change(to) => fail(to),
            Self::ChangeNews(_, _, to) => fail(to),
            Self::ChangeSums(_, _, to) => fail(to),
            Self::ChangeQuery(_, _, _, to) | Self::Query(_, _, to) => fail(to),
            Self::News(_, to) => fail(to),
            Self::Glimpse(_, to) => fail(to),
            Self::Snapshot(_, to) => fail(to),
        }
    }

    /// What it is, in a word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Begin(..) => "begin",
            Self::Commit(..) => "commit",
            Self::Abort(_) => "abort",
            Self::Register(_) => "register",
            Self::Renew(..) => "renew",
            Self::Resign(..) => "resign",
            Self::Nodes(_) => "nodes",
            Self::Fence(..) => "fence",
            Self::Orphans(..) => "orphans",
            Self::Change(_) => "change",
            Self::ChangeNews(..) => "change-news",
            Self::ChangeSums(..) => "change-sums",
            Self::ChangeQuery(..) => "change-query",
            Self::ChangeCorrect(..) => "change-correct",
            Self::ChangeCommit(..) => "change-commit",
            Self::News(..) => "news",
            Self::Glimpse(..) => "glimpse",
            Self::Query(..) => "query",
            Self::Snapshot(..) => "snapshot",
        }
    }
}

/// A process's way to the database.
#[derive(Clone)]
pub struct Link {
    pub core: Arc<Mutex<Core>>,
    pub process: usize,
    pub cipher: IdCipher,
}

/// A transaction that ends with whoever holds it.
pub struct Transaction {
    link: Link,
    id: Option<TxId>,
}

impl Transaction {
    pub const fn new(link: Link, id: TxId) -> Self {
        Self { link, id: Some(id) }
    }

    fn end(&mut self) -> TxId {
        self.id.take().unwrap_or_default()
    }

    fn id(&self) -> TxId {
        self.id.unwrap_or_default()
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.link.core.lock().send(self.link.process, Request::Abort(id));
        }
    }
}

/// A batch that has begun.
pub struct Batch(pub Transaction);

/// A change that has begun.
pub struct SimChange(pub Transaction, pub Time);

impl Link {
    async fn ask<T: Lost>(&self, request: impl FnOnce(Sender<T>) -> Request) -> T {
        let (to, answer) = oneshot::channel();
        self.core.lock().send(self.process, request(to));
        answer.await.unwrap_or_else(|_| T::lost())
    }
}

impl Database for Link {
    type Batch = Batch;
    type Change = SimChange;

    fn cipher(&self) -> &IdCipher {
        &self.cipher
    }

    async fn register(&self) -> Result<Identity, Broken> {
        self.ask(Request::Register).await
    }

    async fn nodes(&self) -> Result<Vec<(Identity, i64)>, Broken> {
        self.ask(Request::Nodes).await
    }

    async fn fence(&self, node: Identity, count: i64) -> Result<(), Broken> {
        self.ask(|to| Request::Fence(node, count, to)).await
    }

    async fn renew(&self, node: Identity) -> Result<bool, Broken> {
        self.ask(|to| Request::Renew(node, to)).await
    }

    async fn resign(&self, node: Identity) -> Result<(), Broken> {
        self.ask(|to| Request::Resign(node, to)).await
    }

    async fn orphans(&self, most: usize) -> Result<Vec<(GenerationRow, Hold)>, Broken> {
        self.ask(|to| Request::Orphans(most, to)).await
    }

    async fn begin(&self, wanted: &Wanted) -> Result<(Batch, Loaded), Broken> {
        let wanted = Box::new(wanted.clone());
        self.ask(|to| Request::Begin(wanted, to)).await
    }

    async fn commit(&self, mut batch: Batch, writes: &Writes) -> Committed {
        let (id, writes) = (batch.0.end(), Box::new(writes.clone()));
        self.ask(|to| Request::Commit(id, writes, to)).await
    }

    async fn leave(&self, batch: Batch) {
        drop(batch);
    }

    async fn change(&self) -> Result<SimChange, Broken> {
        self.ask(Request::Change).await
    }

    async fn news(&self, since: i64) -> Result<News, Broken> {
        self.ask(|to| Request::News(since, to)).await
    }

    async fn changed(&self) {
        let heard = {
            let mut core = self.core.lock();
            core.server.listen(self.process)
        };
        // Told, or cut off.
        let _ = heard.await;
    }

    async fn glimpse(&self, scopes: &[Scope]) -> Result<Glimpse, Broken> {
        self.ask(|to| Request::Glimpse(scopes.to_vec(), to)).await
    }

    async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Broken> {
        self.ask(|to| Request::Query(sql.to_owned(), values, to)).await
    }

    async fn snapshot(&self, questions: Questions) -> Result<Vec<Vec<Row>>, Broken> {
        self.ask(|to| Request::Snapshot(questions, to)).await
    }
}

impl Change for SimChange {
    fn time(&self) -> Time {
        self.1
    }

    async fn news(&mut self, since: i64) -> Result<Option<News>, Broken> {
        let id = self.0.id();
        self.0.link.ask(|to| Request::ChangeNews(id, since, to)).await
    }

    async fn sums(&mut self, scopes: &[Scope]) -> Result<Vec<Sum>, Broken> {
        let id = self.0.id();
        self.0.link.ask(|to| Request::ChangeSums(id, scopes.to_vec(), to)).await
    }

    async fn query(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, Broken> {
        let id = self.0.id();
        self.0.link.ask(|to| Request::ChangeQuery(id, sql.to_owned(), values, to)).await
    }

    async fn correct(
        &mut self,
        node: Identity,
        corrected: &Corrected,
        shares: &[(Scope, Share)],
    ) -> Result<(), Broken> {
        let (id, corrected) = (self.0.id(), Box::new(corrected.clone()));
        self.0.link.ask(|to| Request::ChangeCorrect(id, node, corrected, shares.to_vec(), to)).await
    }

    async fn commit(mut self, statements: Vec<Statement>) -> Committed {
        let id = self.0.end();
        self.0.link.ask(|to| Request::ChangeCommit(id, statements, to)).await
    }
}
