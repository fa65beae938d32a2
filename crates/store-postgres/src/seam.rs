//! What the engine asks of a database: lock and load, write, commit. Everything that decides is above this seam.
//!
//! Below it is SQL ([`crate::sql`]), or a simulation that delays, loses and repeats.

use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Balance, Open, Scope};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::{IdCipher, Timestamp};
use tollgate_engine::{Corrected, RollupKey, Row, Statement, Value};
use tollgate_store::{Activity, Outcome, Settlement};

/// The number of a node: of its rows among the balances. Taken over by another when its lease has lapsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNumber(pub i32);

/// One life of a node. Never used again; the rows of its generations begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(pub i64);

/// Bits of a generation's row that a boot counts.
const COUNTER_BITS: u32 = 37;

impl Boot {
    /// The row of this boot's `count`th generation. Behind 2^37 of them come rows of no boot, which nobody may reserve.
    pub const fn row(self, count: i64) -> GenerationRow {
        if count >> COUNTER_BITS == 0 { GenerationRow((self.0 << COUNTER_BITS) | count) } else { GenerationRow(0) }
    }

    /// The boot that a row was counted by.
    pub const fn of(row: GenerationRow) -> Self {
        Self(row.0 >> COUNTER_BITS)
    }
}

/// Who a node is, from its start to its end or until its lease is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its number.
    pub number: NodeNumber,
    /// Its life.
    pub boot: Boot,
}

/// Where a scope is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// In the row that all nodes have in common, because a budget limits it.
    Common,
    /// In the node's own row.
    Own,
}

/// The database's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Its clock, which may go wrong.
    pub clock: Timestamp,
    /// The latest that any node wrote by it.
    pub seen: Timestamp,
}

impl Time {
    /// The time that whoever trusts the clock goes by.
    pub fn latest(self) -> Timestamp {
        self.clock.max(self.seen)
    }
}

/// What a batch must lock and see before it is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whose batch it is.
    pub node: Identity,
    /// The version of what management knows that the rest was found with.
    pub known: i64,
    /// The balances, in the order in which they are locked.
    pub scopes: Vec<(Scope, Share)>,
    /// The generations.
    pub rows: Vec<GenerationRow>,
}

/// A balance, in its two parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The row that is locked and will be written.
    pub locked: Balance,
    /// The sum of all other rows; asked for only where the scope is limited.
    pub rest: Balance,
    /// When a key was last used, by the locked row.
    pub used_at: Option<Timestamp>,
}

/// A hold, with the price that its bound was computed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who holds how much since when.
    pub open: Open,
    /// The price.
    pub price: PriceVersion,
}

/// A generation that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Who was charged, when it was admitted, and what it held.
    pub open: Open,
    /// How it ended.
    pub outcome: Outcome,
    /// What it is charged, corrections included.
    pub charge: Amounts,
    /// The price that it was settled with.
    pub price: PriceVersion,
    /// Whether its own settlement came after it was booked as lost, and was recorded.
    pub late: bool,
}

/// What management changed since a version.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// What it is news to; 0 is everything.
    pub since: i64,
    /// What it brings a node to.
    pub version: i64,
    /// Rows that changed, with the place of their table among the [`tollgate_engine::SOURCES`], in the order of these.
    pub rows: Vec<(usize, Row)>,
    /// Rows that were deleted, with their table, as JSON objects.
    pub removed: Vec<(String, serde_json::Value)>,
}

/// What a batch is decided with.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The database's time, read after the locks.
    pub time: Time,
    /// Whether the node is still who it says; if not, nothing else is loaded.
    pub owner: bool,
    /// The version of what management knows.
    pub version: i64,
    /// Where the node knew a version that is little older: what is new.
    pub news: Option<News>,
    /// The balances, in the order in which they were wanted.
    pub balances: Vec<Parts>,
    /// Holds of the rows that were wanted.
    pub holds: Vec<(GenerationRow, Hold)>,
    /// Those of the rows that have ended.
    pub ended: Vec<(GenerationRow, Ended)>,
}

/// What a batch writes, all or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writes {
    /// The time that it was decided at.
    pub now: Timestamp,
    /// Locked rows that changed.
    pub balances: Vec<(Scope, Share, Balance, Option<Timestamp>)>,
    /// Holds that are new, or hold something else than before.
    pub holds: Vec<(GenerationRow, Hold)>,
    /// Generations that end here, with what they held.
    pub settlements: Vec<(Settlement, Open)>,
    /// Settlements of what was booked as lost, each with its correction.
    pub late: Vec<(Settlement, Corrected)>,
    /// What is added to the sums by hour.
    pub rollups: Vec<(RollupKey, Activity)>,
}

impl Writes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.settlements.is_empty() && self.late.is_empty()
    }
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is durable.
    Done,
    /// Nothing of it was written.
    Failed(String),
    /// Nothing of it was written, nor would it be if it were tried again: something in it does not fit.
    Rejected(String),
    /// The answer is lost: it is durable, or will be, or nothing of it was written.
    Unknown(String),
}

/// The database could not be asked. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// What a look at the database sees.
#[derive(Clone, Debug, Default)]
pub struct Glimpse {
    /// The database's time.
    pub time: Time,
    /// The version of what management knows, at the same moment as the balances.
    pub version: i64,
    /// The balances that were asked for, all rows summed, and when a key was last used.
    pub balances: Vec<(Balance, Option<Timestamp>)>,
}

/// A change of what management knows, begun and alone.
pub trait Change: Send {
    /// The time of the change.
    fn time(&self) -> Time;

    /// What is new since a version: nothing, where that is the newest.
    fn news(&mut self, since: i64) -> impl Future<Output = Result<Option<News>, Broken>> + Send;

    /// The sums of scopes.
    fn sums(
        &mut self,
        scopes: &[Scope],
    ) -> impl Future<Output = Result<Vec<(Balance, Option<Timestamp>)>, Broken>> + Send;

    /// Asks, in the middle of it.
    fn query(&mut self, sql: &str, values: Vec<Value>) -> impl Future<Output = Result<Vec<Row>, Broken>> + Send;

    /// Books a correction beside the change: in these shares of these scopes.
    fn correct(
        &mut self,
        node: Identity,
        corrected: &Corrected,
        shares: &[(Scope, Share)],
    ) -> impl Future<Output = Result<(), Broken>> + Send;

    /// Writes and commits it, as the version after the newest, and tells the other nodes.
    fn commit(self, statements: Vec<Statement>) -> impl Future<Output = Committed> + Send;
}

/// A database, by what a node does with it.
pub trait Database: Send + Sync + 'static {
    /// A batch that has begun: its locks are held.
    type Batch: Send;
    /// A change that has begun.
    type Change: Change;

    /// The permutation between rows and public ids.
    fn cipher(&self) -> &IdCipher;

    /// Becomes a node.
    fn register(&self) -> impl Future<Output = Result<Identity, Broken>> + Send;

    /// All nodes, each with a count that rises whenever it renews its lease.
    fn nodes(&self) -> impl Future<Output = Result<Vec<(Identity, i64)>, Broken>> + Send;

    /// Takes the lease of a node away whose count still stands there; it can write nothing from then on.
    fn fence(&self, node: Identity, count: i64) -> impl Future<Output = Result<(), Broken>> + Send;

    /// Renews the lease; `false` where it was taken away.
    fn renew(&self, node: Identity) -> impl Future<Output = Result<bool, Broken>> + Send;

    /// Gives the lease back.
    fn resign(&self, node: Identity) -> impl Future<Output = Result<(), Broken>> + Send;

    /// Holds that no node owns, the oldest first, so many at the most.
    fn orphans(&self, most: usize) -> impl Future<Output = Result<Vec<(GenerationRow, Hold)>, Broken>> + Send;

    /// Locks and loads.
    fn begin(&self, wanted: &Wanted) -> impl Future<Output = Result<(Self::Batch, Loaded), Broken>> + Send;

    /// Writes and commits. A batch that is dropped instead wrote nothing.
    fn commit(&self, batch: Self::Batch, writes: &Writes) -> impl Future<Output = Committed> + Send;

    /// Ends a batch that has nothing to write, so that its locks are free at once.
    fn leave(&self, batch: Self::Batch) -> impl Future<Output = ()> + Send;

    /// Begins a change: when this returns, no batch and no other change is under way on any node.
    fn change(&self) -> impl Future<Output = Result<Self::Change, Broken>> + Send;

    /// What is new since a version.
    fn news(&self, since: i64) -> impl Future<Output = Result<News, Broken>> + Send;

    /// Returns when something changed, perhaps; also when it can no longer be told.
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// Looks, without a lock.
    fn glimpse(&self, scopes: &[Scope]) -> impl Future<Output = Result<Glimpse, Broken>> + Send;

    /// Asks several questions of one moment.
    fn snapshot(
        &self,
        questions: Vec<(String, Vec<Value>)>,
    ) -> impl Future<Output = Result<Vec<Vec<Row>>, Broken>> + Send;

    /// Asks.
    fn query(&self, sql: &str, values: Vec<Value>) -> impl Future<Output = Result<Vec<Row>, Broken>> + Send;
}
