//! A database for many nodes, in memory: row locks, a fair lock for the configuration, and what is committed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot::{self, Receiver, Sender};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Balance, Scope};
use tollgate_domain::{IdCipher, Timestamp};
use tollgate_engine::{Corrected, Row, Statement, Value};
use tollgate_store::Outcome;
use tollgate_store_postgres::seam::{
    Boot, Broken, Ended, Glimpse, Hold, Identity, Loaded, Parts, Share, Time, Wanted, Writes,
};

use crate::bugs::Bug;
use crate::core::{Core, Event};
use crate::oracle::{Checked, RollupPlace, broken};
use crate::plan::Fault;
use crate::rules::Rules;
use crate::seam::{Batch, Link, Request, SimChange, Sum, Transaction};
use crate::sqlite;
use crate::tables::Tables;
use nodes::Nodes;

mod commits;
mod nodes;

pub type TxId = u64;

/// The limits of a session, in microseconds.
const LOCK_TIMEOUT: u64 = 5_000_000;
const IDLE_TIMEOUT: u64 = 2_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lock {
    Config,
    Node(i32),
    Balance(Scope, i32),
    Hold(i64),
}

#[derive(Debug, Default)]
struct Held {
    by: Vec<(TxId, bool)>,
    queue: VecDeque<(TxId, bool)>,
}

impl Held {
    fn admits(&self, exclusive: bool) -> bool {
        self.by.is_empty() || (!exclusive && self.by.iter().all(|(_, exclusive)| !exclusive))
    }
}

enum Kind {
    Batch(Box<Wanted>, Option<Sender<Result<(Batch, Loaded), Broken>>>),
    Change(Option<Sender<Result<SimChange, Broken>>>),
    Renew(Identity, Sender<Result<bool, Broken>>),
    Resign(Identity, Sender<Result<(), Broken>>),
    Fence(Identity, i64, Sender<Result<(), Broken>>),
}

type Correction = (Identity, Box<Corrected>, Vec<(Scope, Share)>);

/// What is written when a commit is done at last.
enum Pending {
    Writes(Box<Writes>),
    Change(Vec<Statement>),
}

struct Tx {
    process: usize,
    kind: Kind,
    wants: VecDeque<(Lock, bool)>,
    held: Vec<Lock>,
    /// Since when it waits, or idles.
    since: u64,
    /// What the calendar said when it had its locks.
    loaded: Timestamp,
    /// Whether it has all its locks.
    ready: bool,
    correction: Option<Correction>,
    pending: Option<Pending>,
}

/// Who listens for changes, and whether one was missed.
#[derive(Default)]
struct Ear {
    heard: bool,
    waiting: Option<Sender<()>>,
}

/// See the module.
#[derive(Default)]
pub struct Server {
    pub tables: Option<Tables>,
    pub cipher: Option<IdCipher>,
    pub core: Option<std::sync::Weak<Mutex<Core>>>,
    last_tx: TxId,
    txs: BTreeMap<TxId, Tx>,
    locks: BTreeMap<Lock, Held>,
    pub nodes: Nodes,
    pub holds: BTreeMap<i64, Hold>,
    ended: BTreeMap<i64, Ended>,
    balances: BTreeMap<Scope, BTreeMap<i32, (Balance, Option<Timestamp>)>>,
    rollups: BTreeMap<RollupPlace, [i64; 3]>,
    ears: BTreeMap<usize, Ear>,
    /// Whether nobody reaches it.
    away: bool,
    /// The latest time that anybody was told.
    latest: Timestamp,
}

impl Server {
    /// Waits for a change.
    pub fn listen(&mut self, process: usize) -> Receiver<()> {
        let (heard, wait) = oneshot::channel();
        let ear = self.ears.entry(process).or_default();
        if std::mem::take(&mut ear.heard) {
            // It is waited for.
            let _ = heard.send(());
        } else {
            ear.waiting = Some(heard);
        }
        wait
    }

    /// Tells of a change.
    pub fn hear(&mut self, process: usize) {
        let ear = self.ears.entry(process).or_default();
        ear.heard = ear.waiting.take().is_none_or(|waiting| waiting.send(()).is_err());
    }

    /// The latest time that anybody was told.
    pub const fn latest(&self) -> Timestamp {
        self.latest
    }

    fn sum(&self, scope: Scope) -> Sum {
        let mut sum = (Balance::default(), None);
        for (part, used) in self.balances.get(&scope).into_iter().flat_map(BTreeMap::values) {
            sum = (sum.0.plus(part), sum.1.max(*used));
        }
        sum
    }

    fn rules(&self) -> Rules {
        let Some(tables) = &self.tables else { return Rules::default() };
        Rules::read(|sql| sqlite::query(&tables.db, sql, &[]).unwrap_or_default())
    }

    /// Whether nothing is locked, and nobody waits.
    pub fn quiet(&self) -> Checked {
        if self.txs.is_empty() && self.locks.is_empty() {
            return Ok(());
        }
        broken!("everything ends", "{} transactions are open and {} locks are held", self.txs.len(), self.locks.len())
    }
}

const fn place(share: Share, node: Identity) -> i32 {
    match share {
        Share::Common => 0,
        Share::Own => node.number.0,
    }
}

fn gone<T>() -> Result<T, Broken> {
    Err(Broken("the transaction has ended".to_owned()))
}

impl Core {
    /// A request has reached the database.
    pub fn serve(&mut self, process: usize, request: Request) {
        match request {
            Request::Renew(_, to) if self.has(Bug::OutageTakenForSilence) && self.server.nodes.are_shut() => {
                self.reply(process, to, Ok(true));
            }
            Request::Nodes(_) if self.has(Bug::OutageTakenForSilence) => self.answer(process, request),
            _ if self.server.away => self.after(20, Event::Reply(process, request.fail())),
            _ => self.answer(process, request),
        }
    }

    fn answer(&mut self, process: usize, request: Request) {
        match request {
            Request::Begin(wanted, to) => self.begin(process, wanted, to),
            Request::Commit(id, writes, to) => self.commit(process, id, Pending::Writes(writes), to),
            Request::ChangeCommit(id, statements, to) => self.commit(process, id, Pending::Change(statements), to),
            Request::Abort(id) => self.abort(id),
            Request::Register(to) => {
                let registered = self.server.nodes.register(self.now);
                self.reply(process, to, registered);
            }
            Request::Orphans(most, to) => {
                let (boots, all) = (self.server.nodes.boots(), self.has(Bug::ExpiredWhileAlive));
                let orphan = |row: i64| all || !boots.contains(&Boot::of(GenerationRow(row)).0);
                let holds = self.server.holds.iter().filter(|(row, _)| orphan(**row)).take(most);
                let found = holds.map(|(row, hold)| (GenerationRow(*row), hold.clone())).collect();
                self.reply(process, to, Ok(found));
            }
            Request::Nodes(to) => {
                let nodes = self.server.nodes.list();
                self.reply(process, to, Ok(nodes));
            }
            Request::Fence(node, count, to) => {
                let wants = VecDeque::from([(Lock::Node(node.number.0), true)]);
                self.open(process, Kind::Fence(node, count, to), wants);
            }
            Request::Renew(node, to) => {
                self.open(process, Kind::Renew(node, to), VecDeque::from([(Lock::Node(node.number.0), true)]));
            }
            Request::Resign(node, to) => {
                self.open(process, Kind::Resign(node, to), VecDeque::from([(Lock::Node(node.number.0), true)]));
            }
            Request::Change(to) => {
                self.open(process, Kind::Change(Some(to)), VecDeque::from([(Lock::Config, true)]));
            }
            Request::ChangeNews(id, since, to) => {
                let news = self.touch(id).then(|| self.server.tables.as_ref().map(|tables| tables.news(since)));
                let news = news.flatten().map_or_else(gone, |news| Ok((news.version != since).then_some(news)));
                self.reply(process, to, news);
            }
            Request::ChangeSums(id, scopes, to) => {
                let sums = self.touch(id).then(|| scopes.iter().map(|scope| self.server.sum(*scope)).collect());
                self.reply(process, to, sums.map_or_else(gone, Ok));
            }
            Request::ChangeQuery(id, sql, values, to) => {
                let rows = if self.touch(id) { self.query(&sql, &values) } else { gone() };
                self.reply(process, to, rows);
            }
            Request::ChangeCorrect(id, node, corrected, shares, to) => {
                let done = if self.touch(id) { Ok(()) } else { gone() };
                if let Some(tx) = self.server.txs.get_mut(&id) {
                    tx.correction = Some((node, corrected, shares));
                }
                self.reply(process, to, done);
            }
            Request::News(since, to) => {
                let news = self.server.tables.as_ref().map(|tables| tables.news(since)).unwrap_or_default();
                self.reply(process, to, Ok(news));
            }
            Request::Glimpse(scopes, to) => {
                let time = self.server_time();
                let version = self.server.tables.as_ref().map_or(0, |tables| tables.version);
                let balances = scopes.iter().map(|scope| self.server.sum(*scope)).collect();
                self.reply(process, to, Ok(Glimpse { time, version, balances }));
            }
            Request::Snapshot(questions, to) => {
                let answers = questions.iter().map(|(sql, values)| self.query(sql, values)).collect();
                self.reply(process, to, answers);
            }
            Request::Query(sql, values, to) => {
                let rows = self.query(&sql, &values);
                self.reply(process, to, rows);
            }
        }
    }

    fn server_time(&mut self) -> Time {
        let time = Time { clock: self.wall(), seen: Timestamp::from_micros(self.server.nodes.seen()) };
        self.server.latest = self.server.latest.max(time.latest());
        time
    }

    fn server_now(&mut self) -> Timestamp {
        self.server_time().latest()
    }

    /// Notes that a session is not idle; whether its transaction is still there.
    fn touch(&mut self, id: TxId) -> bool {
        let now = self.now;
        self.server.txs.get_mut(&id).filter(|tx| tx.ready && tx.pending.is_none()).map(|tx| tx.since = now).is_some()
    }

    fn begin(&mut self, process: usize, wanted: Box<Wanted>, to: Sender<Result<(Batch, Loaded), Broken>>) {
        let mut wants = VecDeque::from([(Lock::Config, false), (Lock::Node(wanted.node.number.0), true)]);
        if !self.has(Bug::SkippedLock) {
            for (scope, share) in &wanted.scopes {
                wants.push_back((Lock::Balance(*scope, place(self.bent(*share), wanted.node)), true));
            }
        }
        wants.extend(wanted.rows.iter().map(|row| (Lock::Hold(row.0), true)));
        self.open(process, Kind::Batch(wanted, Some(to)), wants);
    }

    /// Where a share is, by a bug or without.
    fn bent(&self, share: Share) -> Share {
        if self.has(Bug::OwnRowOfALimitedScope) { Share::Own } else { share }
    }

    fn open(&mut self, process: usize, kind: Kind, wants: VecDeque<(Lock, bool)>) {
        self.server.last_tx += 1;
        let id = self.server.last_tx;
        let (since, held) = (self.now, Vec::new());
        let tx = Tx {
            process,
            kind,
            wants,
            held,
            since,
            loaded: Timestamp::default(),
            ready: false,
            correction: None,
            pending: None,
        };
        self.server.txs.insert(id, tx);
        self.proceed(id);
    }

    /// Takes the locks that a transaction wants, as far as they are free.
    fn proceed(&mut self, id: TxId) {
        loop {
            let Some(tx) = self.server.txs.get_mut(&id) else { return };
            let Some((lock, exclusive)) = tx.wants.front().copied() else { break };
            if let Lock::Hold(row) = lock
                && !self.server.holds.contains_key(&row)
                && !self.server.locks.contains_key(&lock)
            {
                tx.wants.pop_front();
                continue;
            }
            let held = self.server.locks.entry(lock).or_default();
            if held.queue.is_empty() && held.admits(exclusive) {
                held.by.push((id, exclusive));
                tx.held.push(lock);
                tx.wants.pop_front();
            } else {
                held.queue.push_back((id, exclusive));
                tx.since = self.now;
                return;
            }
        }
        if let Some(tx) = self.server.txs.get_mut(&id) {
            tx.ready = true;
            tx.since = self.now;
        }
        self.ready(id);
    }

    /// Frees the locks of a transaction that has ended, for whoever waits longest.
    fn release(&mut self, id: TxId, locks: Vec<Lock>) {
        let mut next = Vec::new();
        for lock in locks {
            let Some(held) = self.server.locks.get_mut(&lock) else { continue };
            held.by.retain(|(by, _)| *by != id);
            held.queue.retain(|(by, _)| *by != id);
            while let Some((first, exclusive)) = held.queue.front().copied()
                && held.admits(exclusive)
            {
                held.queue.pop_front();
                held.by.push((first, exclusive));
                if let Some(tx) = self.server.txs.get_mut(&first) {
                    tx.held.push(lock);
                    tx.wants.pop_front();
                }
                next.push(first);
            }
            if held.by.is_empty() && held.queue.is_empty() {
                self.server.locks.remove(&lock);
            }
        }
        for id in next {
            self.proceed(id);
        }
    }

    /// Ends a transaction without writing anything.
    pub fn abort(&mut self, id: TxId) {
        let Some(mut tx) = self.server.txs.remove(&id) else { return };
        let mut locks = std::mem::take(&mut tx.held);
        locks.extend(tx.wants.front().map(|(lock, _)| *lock));
        match tx.kind {
            Kind::Batch(_, Some(to)) => self.reply(tx.process, to, gone()),
            Kind::Change(Some(to)) => self.reply(tx.process, to, gone()),
            Kind::Renew(_, to) => self.reply(tx.process, to, gone()),
            Kind::Resign(_, to) | Kind::Fence(_, _, to) => self.reply(tx.process, to, gone()),
            Kind::Batch(_, None) | Kind::Change(None) => {}
        }
        self.release(id, locks);
    }

    /// All transactions of a process end, as its connections do.
    pub fn cut(&mut self, process: usize) {
        let of: Vec<TxId> = self
            .server
            .txs
            .iter()
            .filter(|(_, tx)| tx.process == process && tx.pending.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in of {
            self.abort(id);
        }
        self.server.hear(process);
    }

    /// Nobody reaches the database any more: every session is lost.
    pub fn go_away(&mut self, processes: usize) {
        self.server.away = true;
        self.server.nodes.shut(self.now);
        for process in 0..processes {
            self.cut(process);
        }
    }

    /// The database takes no writes for a while.
    pub fn refuse(&mut self) {
        self.server.nodes.shut(self.now);
    }

    /// The database is there again, and takes writes.
    pub fn accept(&mut self) {
        self.server.away = false;
        self.server.nodes.open(self.now);
        let ears: Vec<usize> = self.server.ears.keys().copied().collect();
        for process in ears {
            self.server.hear(process);
        }
    }

    /// Ends what idles or waits for too long.
    pub fn sweep(&mut self) {
        let now = self.now;
        let late = |tx: &Tx| {
            let limit = if tx.ready { IDLE_TIMEOUT } else { LOCK_TIMEOUT };
            tx.pending.is_none() && now.saturating_sub(tx.since) > limit
        };
        let late: Vec<TxId> = self.server.txs.iter().filter(|(_, tx)| late(tx)).map(|(id, _)| *id).collect();
        for id in late {
            self.abort(id);
        }
    }

    fn link(&self, process: usize) -> Option<Link> {
        let core: Arc<Mutex<Self>> = self.server.core.as_ref()?.upgrade()?;
        Some(Link { core, process, cipher: self.server.cipher.clone()? })
    }

    /// A transaction has all its locks.
    fn ready(&mut self, id: TxId) {
        let wall = self.wall();
        let Some(tx) = self.server.txs.get_mut(&id) else { return };
        let process = tx.process;
        tx.loaded = wall;
        match &mut tx.kind {
            Kind::Batch(wanted, to) => {
                let (wanted, to) = (wanted.clone(), to.take());
                let loaded = self.load(&wanted);
                let now = loaded.time.latest();
                self.oracle.look_at(now);
                // A node's own time does not go back with the database's.
                let latest = self.server.latest;
                self.oracle.look_at(latest);
                self.note("loaded", process as u64, || {
                    let rows: Vec<i64> = wanted.rows.iter().map(|row| row.0).collect();
                    let (owner, version) = (loaded.owner, loaded.version);
                    format!("{rows:?} known {} version {version} owner {owner} {:?}", wanted.known, wanted.scopes)
                });
                if let (Some(link), Some(to)) = (self.link(process), to) {
                    self.reply(process, to, Ok((Batch(Transaction::new(link, id)), loaded)));
                }
                self.perhaps_kill(process, id);
            }
            Kind::Change(to) => {
                let (to, time) = (to.take(), self.server_time());
                if let (Some(link), Some(to)) = (self.link(process), to) {
                    self.reply(process, to, Ok(SimChange(Transaction::new(link, id), time)));
                }
                self.perhaps_kill(process, id);
            }
            _ => self.perform(id, process),
        }
    }

    fn perhaps_kill(&mut self, process: usize, id: TxId) {
        if self.fault(Fault::Killed) {
            let after = self.rng.below(3_000);
            self.after(after, Event::Request(process, Request::Abort(id)));
        }
    }

    /// Does what needs no second step.
    fn perform(&mut self, id: TxId, process: usize) {
        let Some(tx) = self.server.txs.remove(&id) else { return };
        match tx.kind {
            Kind::Renew(node, to) => {
                let renewed = self.server.nodes.renew(node, self.now);
                self.reply(process, to, renewed);
            }
            Kind::Resign(node, to) => {
                let resigned = self.server.nodes.resign(node);
                self.reply(process, to, resigned);
            }
            Kind::Fence(node, count, to) => {
                let (fenced, checked) = self.server.nodes.fence(node, count, self.now);
                self.check(checked);
                self.reply(process, to, fenced);
            }
            Kind::Batch(..) | Kind::Change(_) => {}
        }
        self.release(id, tx.held);
    }

    fn load(&mut self, wanted: &Wanted) -> Loaded {
        let time = self.server_time();
        let server = &self.server;
        let owner = server.nodes.is(wanted.node);
        if !owner && !self.has(Bug::UnfencedNode) {
            return Loaded::default();
        }
        let parts = |(scope, share): &(Scope, Share)| {
            let mine = place(self.bent(*share), wanted.node);
            let rows = server.balances.get(scope);
            let (locked, used_at) = rows.and_then(|rows| rows.get(&mine)).cloned().unwrap_or_default();
            let others = rows.into_iter().flatten().filter(|(node, _)| **node != mine);
            let rest = match self.bent(*share) {
                Share::Common if self.has(Bug::StaleSums) => Balance::default(),
                Share::Common => others.fold(Balance::default(), |sum, (_, (part, _))| sum.plus(part)),
                Share::Own => Balance::default(),
            };
            Parts { locked, rest, used_at }
        };
        let twice = self.has(Bug::SettledTwice);
        let ended = wanted.rows.iter().filter(|_| !twice);
        let stale = self.has(Bug::StaleRules) && wanted.known > 0;
        let tables = server.tables.as_ref().filter(|tables| tables.version != wanted.known && !stale);
        Loaded {
            time,
            owner: true,
            version: if stale { wanted.known } else { server.tables.as_ref().map_or(0, |tables| tables.version) },
            // A node that is far behind is left to catch up by itself.
            news: tables.filter(|tables| tables.version % 2 == 0).map(|tables| tables.news(wanted.known)),
            balances: wanted.scopes.iter().map(parts).collect(),
            holds: wanted.rows.iter().filter_map(|row| Some((*row, server.holds.get(&row.0)?.clone()))).collect(),
            ended: ended.filter_map(|row| Some((*row, server.ended.get(&row.0)?.clone()))).collect(),
        }
    }

    fn query(&self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Broken> {
        let row = match values.first() {
            Some(Value::Integer(row)) => *row,
            _ => 0,
        };
        if sql.contains("FROM settlements s LEFT JOIN price_versions") {
            return Ok(self.server.ended.get(&row).map(found).into_iter().collect());
        }
        let Some(tables) = &self.server.tables else { return gone() };
        sqlite::query(&tables.db, sql, values).map_err(|error| Broken(error.to_string()))
    }
}

/// A settlement as the shared logic reads it.
fn found(ended: &Ended) -> Row {
    let Ended { open, outcome, charge, price, .. } = ended;
    let outcome: Outcome = *outcome;
    let mut row: Vec<Value> = vec![
        outcome.as_str().into(),
        open.spender.key.0.into(),
        open.spender.workspace.0.into(),
        open.admitted_at.micros().into(),
        price.0.into(),
        charge.credits.nanos().into(),
        0_i64.into(),
    ];
    // Whether and what was metered.
    row.extend(vec![Value::Null; 9]);
    row.extend([Value::Integer(0), Value::Integer(0)]);
    row.extend(vec![Value::Null; 9]);
    row.extend([Value::from(""), Value::from("")]);
    row.extend([Value::from(open.spender.member.map(|member| member.0)), Value::Null]);
    row.extend([open.hold.credits.nanos().into(), open.hold.byok.nanos().into()]);
    row.extend([charge.credits.nanos().into(), charge.byok.nanos().into()]);
    Row::new(row)
}
