//! A database for many nodes, in memory: row locks, a fair lock for the configuration, and what is committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot::{self, Receiver, Sender};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Balance, Scope};
use tollgate_domain::time::Windows;
use tollgate_domain::{IdCipher, Timestamp, Usd};
use tollgate_engine::{Corrected, Row, Statement, Value};
use tollgate_store::Outcome;
use tollgate_store_postgres::seam::{
    Boot, Broken, Committed, Ended, Glimpse, Hold, Identity, Loaded, NodeNumber, Parts, Share, Time, Wanted, Writes,
};

use crate::bugs::Bug;
use crate::core::{Core, Event};
use crate::oracle::{Checked, Durable, RollupPlace, broken};
use crate::plan::Fault;
use crate::rules::Rules;
use crate::seam::{Batch, Link, Request, SimChange, Sum, Transaction};
use crate::sqlite;
use crate::tables::Tables;

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
    /// Whether it has all its locks.
    ready: bool,
    correction: Option<Correction>,
    pending: Option<Pending>,
}

#[derive(Clone, Debug)]
struct Node {
    boot: Option<i64>,
    beats: i64,
    seen: i64,
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
    nodes: BTreeMap<i32, Node>,
    last_boot: i64,
    pub holds: BTreeMap<i64, Hold>,
    ended: BTreeMap<i64, Ended>,
    balances: BTreeMap<Scope, BTreeMap<i32, (Balance, Option<Timestamp>)>>,
    rollups: BTreeMap<RollupPlace, [i64; 3]>,
    ears: BTreeMap<usize, Ear>,
    /// Whether writes are refused.
    pub refusing: bool,
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

    fn boots(&self) -> BTreeSet<i64> {
        self.nodes.values().filter_map(|node| node.boot).collect()
    }

    fn seen(&self) -> i64 {
        self.nodes.values().map(|node| node.seen).max().unwrap_or(0)
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
            Request::Begin(wanted, to) => self.begin(process, wanted, to),
            Request::Commit(id, writes, to) => self.commit(process, id, Pending::Writes(writes), to),
            Request::ChangeCommit(id, statements, to) => self.commit(process, id, Pending::Change(statements), to),
            Request::Abort(id) => self.abort(id),
            Request::Register(to) => {
                let identity = self.register();
                self.reply(process, to, Ok(identity));
            }
            Request::Orphans(most, to) => {
                let (boots, all) = (self.server.boots(), self.has(Bug::ExpiredWhileAlive));
                let orphan = |row: i64| all || !boots.contains(&Boot::of(GenerationRow(row)).0);
                let holds = self.server.holds.iter().filter(|(row, _)| orphan(**row)).take(most);
                let found = holds.map(|(row, hold)| (GenerationRow(*row), hold.clone())).collect();
                self.reply(process, to, Ok(found));
            }
            Request::Nodes(to) => {
                let nodes = self.server.nodes.iter().filter_map(|(number, node)| {
                    Some((Identity { number: NodeNumber(*number), boot: Boot(node.boot?) }, node.beats))
                });
                let nodes = nodes.collect();
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
        let time = Time { clock: self.wall(), seen: Timestamp::from_micros(self.server.seen()) };
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

    fn register(&mut self) -> Identity {
        let nodes = &mut self.server.nodes;
        let free = nodes.iter().find(|(_, node)| node.boot.is_none()).map(|(number, _)| *number);
        let number = free.unwrap_or_else(|| nodes.keys().max().map_or(1, |last| last + 1));
        self.server.last_boot += 1;
        let boot = self.server.last_boot;
        nodes.entry(number).or_insert(Node { boot: None, beats: 0, seen: 0 }).boot = Some(boot);
        Identity { number: NodeNumber(number), boot: Boot(boot) }
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
        let tx = Tx { process, kind, wants, held, since, ready: false, correction: None, pending: None };
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
        let Some(tx) = self.server.txs.get_mut(&id) else { return };
        let process = tx.process;
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
                let mine = self.server.nodes.get_mut(&node.number.0).filter(|it| it.boot == Some(node.boot.0));
                let renewed = mine.map(|node| node.beats += 1).is_some();
                self.reply(process, to, Ok(renewed));
            }
            Kind::Resign(node, to) => {
                if let Some(it) = self.server.nodes.get_mut(&node.number.0).filter(|it| it.boot == Some(node.boot.0)) {
                    it.boot = None;
                }
                self.reply(process, to, Ok(()));
            }
            Kind::Fence(node, count, to) => {
                let silent = |it: &&mut Node| it.boot == Some(node.boot.0) && it.beats == count;
                if let Some(it) = self.server.nodes.get_mut(&node.number.0).filter(silent) {
                    it.boot = None;
                }
                self.reply(process, to, Ok(()));
            }
            Kind::Batch(..) | Kind::Change(_) => {}
        }
        self.release(id, tx.held);
    }

    fn load(&mut self, wanted: &Wanted) -> Loaded {
        let time = self.server_time();
        let server = &self.server;
        let owner = server.nodes.get(&wanted.node.number.0).is_some_and(|it| it.boot == Some(wanted.node.boot.0));
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

    /// A commit has arrived.
    fn commit(&mut self, process: usize, id: TxId, pending: Pending, to: Sender<Committed>) {
        if !self.touch(id) {
            let why = "the transaction has ended".to_owned();
            let told = if self.rng.chance(5_000) { Committed::Failed(why) } else { Committed::Unknown(why) };
            self.reply(process, to, told);
            return;
        }
        let unknown = |core: &Self| {
            let why = "the connection was lost".to_owned();
            if core.has(Bug::LostReplyTakenForFailure) { Committed::Failed(why) } else { Committed::Unknown(why) }
        };
        if self.server.refusing || self.fault(Fault::FailedCommit) {
            self.abort(id);
            self.reply(process, to, Committed::Failed("the disk is full".to_owned()));
        } else if self.fault(Fault::UnknownNever) {
            self.abort(id);
            let told = unknown(self);
            self.reply(process, to, told);
        } else if self.fault(Fault::UnknownLater) {
            self.postpone(id, pending);
            let told = unknown(self);
            self.reply(process, to, told);
        } else if self.has(Bug::GrantBeforeCommit) {
            self.postpone(id, pending);
            self.reply(process, to, Committed::Done);
        } else if self.has(Bug::EditNotWritten) && matches!(pending, Pending::Change(_)) {
            self.abort(id);
            self.reply(process, to, Committed::Done);
        } else {
            let done = self.apply(id, pending);
            let told = match done {
                Err(why) => Committed::Failed(why),
                Ok(()) if self.fault(Fault::UnknownDone) => unknown(self),
                Ok(()) => Committed::Done,
            };
            self.reply(process, to, told);
        }
    }

    /// Leaves a commit for later: its locks stay.
    fn postpone(&mut self, id: TxId, pending: Pending) {
        let freed = self.has(Bug::LateWithoutLock);
        let Some(tx) = self.server.txs.get_mut(&id) else { return };
        tx.pending = Some(pending);
        if freed {
            let locks = std::mem::take(&mut tx.held);
            self.release(id, locks);
        }
        let after = if self.rng.chance(7_000) { self.rng.below(50_000) } else { self.rng.below(8_000_000) };
        self.after(after, Event::Later(id));
    }

    /// A commit that was left for later is done.
    pub fn later(&mut self, id: TxId) {
        if let Some(pending) = self.server.txs.get_mut(&id).and_then(|tx| tx.pending.take()) {
            // Nobody waits for it.
            let _ = self.apply(id, pending);
        }
    }

    fn apply(&mut self, id: TxId, pending: Pending) -> Result<(), String> {
        self.note("commit", id, || match &pending {
            Pending::Change(statements) => {
                let first = |it: &Statement| it.sql.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
                let told: Vec<String> = statements.iter().map(|it| format!("{} {:?}", first(it), it.values)).collect();
                told.join("; ")
            }
            Pending::Writes(writes) => {
                let holds: Vec<i64> = writes.holds.iter().map(|(row, _)| row.0).collect();
                let ends: Vec<i64> = writes.settlements.iter().map(|(it, _)| it.row.0).collect();
                let late: Vec<i64> = writes.late.iter().map(|(it, _)| it.row.0).collect();
                format!("at {:?} holds {holds:?} ends {ends:?} late {late:?}", writes.now)
            }
        });
        let Some(tx) = self.server.txs.remove(&id) else { return Err("the transaction has ended".to_owned()) };
        let done = match (pending, tx.kind) {
            (Pending::Writes(writes), Kind::Batch(wanted, _)) => self.write(*writes, wanted.node),
            (Pending::Change(statements), _) => self.change(&statements, tx.correction),
            (Pending::Writes(_), _) => Err("a change writes nothing of a batch".to_owned()),
        };
        self.release(id, tx.held);
        done
    }

    fn write(&mut self, mut writes: Writes, node: Identity) -> Result<(), String> {
        let double = |(settlement, _): &(tollgate_store::Settlement, _)| {
            self.server.ended.contains_key(&settlement.row.0) && !self.has(Bug::SettledTwice)
        };
        if writes.settlements.iter().any(double) {
            return Err("duplicate key".to_owned());
        }
        self.bend(&mut writes);
        let mut durable = Durable { now: writes.now, exact: true, ..Durable::default() };
        let mut touched: BTreeSet<Scope> = BTreeSet::new();
        let mut rolled: BTreeSet<RollupPlace> = BTreeSet::new();
        if let Some(mine) = self.server.nodes.get_mut(&node.number.0) {
            mine.seen = writes.now.micros();
            mine.beats += 1;
        }
        for (scope, share, balance, used_at) in writes.balances {
            touched.insert(scope);
            let share = self.bent(share);
            self.server.balances.entry(scope).or_default().insert(place(share, node), (balance, used_at));
        }
        let boots = self.server.boots();
        for (row, hold) in writes.holds {
            if !self.server.holds.contains_key(&row.0) && !boots.contains(&Boot::of(row).0) {
                self.check(broken!(
                    "4 lost at its hold",
                    "generation {} is granted by a node that was given up",
                    row.0
                ));
            }
            touched.extend(hold.open.spender.scopes());
            durable.holds.push((row, hold.open.clone(), hold.price.0));
            self.server.holds.insert(row.0, hold);
        }
        for (settlement, open) in writes.settlements {
            touched.extend(open.spender.scopes());
            let (row, outcome, charge, price) =
                (settlement.row, settlement.outcome, settlement.charge, settlement.price);
            durable.ends.push((row, open.clone(), outcome, charge, price.0));
            if !self.has(Bug::SettledTwice) {
                self.server.holds.remove(&row.0);
            }
            self.server.ended.insert(row.0, Ended { open, outcome, charge, price, late: false });
        }
        for (settlement, corrected) in writes.late {
            touched.extend(corrected.correction.spender.scopes());
            durable.late.push((settlement.row, settlement.charge));
            if !self.has(Bug::LateTwice) {
                self.corrected(&corrected, true);
            }
        }
        for (key, sum) in writes.rollups {
            let place = (key.hour, key.key, key.workspace, key.price);
            rolled.insert(place);
            let [requests, credits, byok] = self.server.rollups.entry(place).or_default();
            *requests += i64::try_from(sum.requests).unwrap_or(i64::MAX);
            *credits += sum.credits.nanos();
            *byok += sum.byok.nanos();
        }
        self.durable(durable, &touched, &rolled);
        Ok(())
    }

    fn corrected(&mut self, corrected: &Corrected, late: bool) {
        if let Some(ended) = self.server.ended.get_mut(&corrected.row.0) {
            let sum = |one: Usd, other: Usd| -> Usd { [one, other].into_iter().sum() };
            let by = corrected.correction.amounts;
            ended.charge =
                Amounts { credits: sum(ended.charge.credits, by.credits), byok: sum(ended.charge.byok, by.byok) };
            ended.late |= late;
        }
    }

    /// What a bug makes of a batch.
    fn bend(&mut self, writes: &mut Writes) {
        if self.has(Bug::ForgottenHold) && self.rng.chance(300) {
            writes.holds.pop();
        }
        if self.has(Bug::UncountedRollup) && self.rng.chance(300) {
            writes.rollups.pop();
        }
        let now = Windows::at(writes.now);
        for (settlement, open) in &mut writes.settlements {
            let then = Windows::at(open.admitted_at);
            let over = Usd::left_of(settlement.charge.credits, open.hold.credits);
            let back = |amounts: Amounts| Amounts {
                credits: Usd::from_nanos(-amounts.credits.nanos()),
                byok: Usd::from_nanos(-amounts.byok.nanos()),
            };
            let cut = self.bug == Some(Bug::DroppedOverrun) && !self.calm && over > Usd::ZERO;
            let mine = |scope: Scope| open.spender.scopes().any(|it| it == scope);
            for (_, _, balance, _) in writes.balances.iter_mut().filter(|(scope, ..)| mine(*scope)) {
                if self.bug == Some(Bug::WrongWindow) && !self.calm && now != then {
                    balance.spend(back(settlement.charge), &then);
                    balance.spend(settlement.charge, &now);
                }
                if self.bug == Some(Bug::ReleaseAfterSettle) && !self.calm && settlement.charge != open.hold {
                    balance.unhold(open.hold, &then);
                }
                if cut {
                    balance.spend(back(Amounts::credits(over)), &then);
                }
            }
            if cut {
                settlement.charge.credits = open.hold.credits;
            }
        }
    }

    fn change(&mut self, statements: &[Statement], correction: Option<Correction>) -> Result<(), String> {
        let Some(tables) = &mut self.server.tables else { return Err("there is no database".to_owned()) };
        tables.change(statements).map_err(|error| error.to_string())?;
        let now = self.server_now();
        let mut durable = Durable { now, exact: true, rules: Some(self.server.rules()), ..Durable::default() };
        let (mut touched, mut rolled) = (BTreeSet::new(), BTreeSet::new());
        if let Some((node, corrected, shares)) = correction {
            let by = corrected.correction;
            let windows = Windows::at(by.admitted_at);
            for (scope, share) in shares {
                let (balance, _) =
                    self.server.balances.entry(scope).or_default().entry(place(share, node)).or_default();
                balance.spend(by.amounts, &windows);
                touched.insert(scope);
            }
            let hour = by.admitted_at.micros().div_euclid(3_600_000_000);
            let place = (hour, by.spender.key.0, by.spender.workspace.0, corrected.price.0);
            let [_, credits, byok] = self.server.rollups.entry(place).or_default();
            *credits += by.amounts.credits.nanos();
            *byok += by.amounts.byok.nanos();
            rolled.insert(place);
            self.corrected(&corrected, false);
            durable.corrections.push((corrected.row, by.amounts));
        }
        self.durable(durable, &touched, &rolled);
        let ears: Vec<usize> = self.server.ears.keys().copied().collect();
        for process in ears {
            if self.calm || !self.rng.chance(1_000) {
                let Some(link) = self.link(process) else { continue };
                let delay = self.delay();
                let tell = move || link.core.lock().server.hear(process);
                self.after(delay, Event::Reply(process, Box::new(tell)));
            }
        }
        Ok(())
    }

    /// Shows the model what was committed, and compares the rows that it changed.
    fn durable(&mut self, durable: Durable, touched: &BTreeSet<Scope>, rolled: &BTreeSet<RollupPlace>) {
        let boots = self.server.boots();
        let late: Vec<GenerationRow> = durable.late.iter().map(|(row, _)| *row).collect();
        let checked = self.oracle.durable(durable, |row| boots.contains(&Boot::of(row).0));
        self.check(checked);
        for scope in touched {
            let checked = self.oracle.check_balance(*scope, &self.server.sum(*scope).0);
            self.check(checked);
        }
        for place in rolled {
            let (read, summed) = (self.server.rollups.get(place), self.oracle.rollups.get(place));
            let nothing = [0; 3];
            if read.unwrap_or(&nothing) != summed.unwrap_or(&nothing) {
                let checked =
                    broken!("3 entries sum to the balance", "sums by hour {place:?}: {read:?}; {summed:?} is right");
                self.check(checked);
            }
        }
        for row in late {
            let (read, summed) = (self.server.ended.get(&row.0), self.oracle.generations.get(&row.0));
            if read.map(|ended| ended.charge) != summed.map(|it| it.charge) {
                let checked = broken!("4 exact cost", "generation {} is charged {read:?} after all", row.0);
                self.check(checked);
            }
        }
    }

    /// Compares everything.
    pub fn check_all(&mut self) {
        let scopes: Vec<Scope> = self.oracle.scopes().collect();
        for scope in scopes {
            let checked = self.oracle.check_balance(scope, &self.server.sum(scope).0);
            self.check(checked);
        }
        let same = self.server.rollups.iter().filter(|(_, sum)| **sum != [0; 3]).eq(self
            .oracle
            .rollups
            .iter()
            .filter(|(_, sum)| **sum != [0; 3]));
        if !same {
            self.check(broken!("3 entries sum to the balance", "sums by hour are not those of the entries"));
        }
        if self.server.holds.keys().ne(self.oracle.open.iter()) {
            self.check(broken!("2 on disk first", "other generations are held than were granted"));
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
