//! A node: what it knows, what queues up in it, and how both meet the database.

use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, Notify, oneshot};
use tokio::time::{Instant, timeout};
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Scope, Spender};
use tollgate_domain::{IdCipher, Timestamp};
use tollgate_engine::{GuardedClock, SOURCES, State};
use tollgate_store::{Clock, Reading, StoreError};

use crate::batch::{self, Answer, Intent};
use crate::lease::Watch;
use crate::seam::{Broken, Committed, Database, Identity, News, Time};

/// Intents in a batch.
const BATCH_MAX: usize = 1_024;
/// One half of a batch, there and back. The server's own limits for a statement are shorter: this one notices that it is gone.
const BATCH_TIMEOUT: Duration = Duration::from_secs(12);
/// The first pause after a batch that failed; it doubles up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two tries.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Failures of a batch after which those who would rather know are told: as many as there are sessions for batches may be no more than
/// that these were lost.
const FAILURES_MAX: usize = 3;
/// That sessions were lost is found out at once: where tries have taken longer than this, callers are told after the first failure.
const FAILURES_WITHIN: Duration = Duration::from_secs(1);
/// How long a call waits for its reservation before it is refused.
const RESERVE_TIMEOUT: Duration = Duration::from_secs(10);

type Done = Result<Answer, Undone>;

/// Why an intent has no answer.
#[derive(Debug)]
pub struct Undone {
    pub error: StoreError,
    /// Whether it may be in the database all the same, now or later.
    pub perhaps: bool,
}

impl From<Undone> for StoreError {
    fn from(undone: Undone) -> Self {
        undone.error
    }
}

#[derive(Debug)]
struct Item {
    intent: Intent,
    waiter: Option<oneshot::Sender<Done>>,
    /// Whether a commit of it was tried whose outcome is unknown.
    tried: bool,
}

/// Everything under the lock.
pub struct Live {
    pub state: State,
    /// The version of what management knows; 0 is nothing yet, or what nobody can tell while a change is written.
    pub version: i64,
    /// Counts every change of `state`, so that whoever waited knows whether it is still what they left.
    pub edition: u64,
    pub identity: Identity,
    pub clock: GuardedClock,
    next_count: i64,
    /// Generations that ended before they began: they never will.
    pub ended_early: HashSet<GenerationRow>,
    /// Whether a change of this node is not yet known to be written, or not.
    pub acting: bool,
    /// Who spends in the calls that this process has in flight.
    spenders: HashMap<GenerationRow, Spender>,
    queue: Vec<Item>,
    attended: bool,
    /// Why the last batch could not be done.
    trouble: Option<String>,
    /// The clock that was last accepted, by whichever node.
    accepted: Option<Timestamp>,
    closed: bool,
    /// The other nodes.
    pub watch: Watch,
}

impl Live {
    /// Takes in what management changed elsewhere, unless it is known already.
    pub fn learn(&mut self, news: &News, now: Timestamp) -> Result<(), StoreError> {
        if news.since != self.version {
            return Ok(());
        }
        if news.version < news.since {
            // The database went back, as after a failover that lost something.
            self.forget();
            return Ok(());
        }
        if news.since == 0 {
            self.state = State::default();
        }
        for (table, old) in &news.removed {
            if let Some(source) = SOURCES.iter().find(|source| source.table == *table) {
                // One that was made and removed since is not known.
                let _ = (source.remove)(&mut self.state, old);
            }
        }
        for (place, row) in &news.rows {
            if let Some(source) = SOURCES.get(*place) {
                (source.put)(&mut self.state, row, now)?;
            }
        }
        self.version = news.version;
        self.edition = self.edition.wrapping_add(1);
        self.believe();
        Ok(())
    }

    /// Goes on from the clock that somebody accepted, unless this node does already.
    pub fn believe(&mut self) {
        let accepted = self.state.accepted_clock();
        if let Some(at) = accepted.filter(|_| self.accepted != accepted) {
            // A node that has seen no time yet takes it as it is anyway.
            if self.clock.seen() > Timestamp::default() {
                tracing::warn!(clock = %at, "the clock was accepted as it is");
                self.clock = GuardedClock::new(at);
            }
            self.accepted = accepted;
        }
    }

    /// Forgets what management knows: it is not known whether it is so.
    pub fn forget(&mut self) {
        self.version = 0;
        self.state = State::default();
        self.edition = self.edition.wrapping_add(1);
    }

    /// Puts sums where views read them.
    pub fn install(&mut self, scopes: &[Scope], sums: &[(tollgate_domain::ledger::Balance, Option<Timestamp>)]) {
        for (scope, (sum, used_at)) in scopes.iter().zip(sums) {
            if let Some(balance) = self.state.book.balance_mut(*scope) {
                *balance = sum.clone();
            }
            if let (Scope::Key(key), Some(at)) = (scope, used_at) {
                self.state.book.touch_key(*key, *at);
            }
        }
    }
}

/// What all holders of a node share.
pub struct Shared<D> {
    pub database: D,
    pub live: Mutex<Live>,
    pub clock: Arc<dyn Clock>,
    idle: Notify,
    /// Told whenever a change of this node is known to be written, or not.
    pub acted: Notify,
    /// Held by whoever registers anew.
    registering: tokio::sync::Mutex<()>,
    /// Held by whoever learns what management knows.
    learning: tokio::sync::Mutex<()>,
    /// Held by whoever changes it.
    changing: tokio::sync::Mutex<()>,
}

/// A node on a database.
pub struct Node<D> {
    pub(crate) shared: Arc<Shared<D>>,
}

impl<D> Clone for Node<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D: Database> Node<D> {
    /// Becomes a node, learns what management knows, and books what nobody owns any more.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn start(database: D, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let identity = database.register().await.map_err(unavailable)?;
        let live = Live {
            state: State::default(),
            version: 0,
            edition: 0,
            identity,
            clock: GuardedClock::new(Timestamp::default()),
            next_count: 0,
            ended_early: HashSet::default(),
            acting: false,
            spenders: HashMap::default(),
            queue: Vec::new(),
            attended: false,
            trouble: None,
            accepted: None,
            closed: false,
            watch: Watch::default(),
        };
        let node = Self {
            shared: Arc::new(Shared {
                database,
                live: Mutex::new(live),
                clock,
                idle: Notify::new(),
                acted: Notify::new(),
                registering: tokio::sync::Mutex::default(),
                learning: tokio::sync::Mutex::default(),
                changing: tokio::sync::Mutex::default(),
            }),
        };
        node.catch_up(i64::MAX).await?;
        node.expire_orphans().await?;
        Ok(node)
    }

    /// The permutation between rows and public ids.
    pub fn id_cipher(&self) -> &IdCipher {
        self.shared.database.cipher()
    }

    /// Ends what is queued, gives the lease back, and does nothing any more. What is still in flight is up to the others.
    ///
    /// # Errors
    /// What was queued could not be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        let drained = timeout(BATCH_TIMEOUT, self.drained()).await;
        let identity = {
            let mut live = self.shared.live.lock();
            live.closed = true;
            live.identity
        };
        if drained.is_err() {
            return Err(StoreError::Unavailable("what was settled last could not be written".to_owned()));
        }
        self.shared.database.resign(identity).await.map_err(unavailable)
    }

    /// Stops as a crash would: nothing that is queued is done any more.
    pub fn crash(&self) {
        let mut live = self.shared.live.lock();
        live.closed = true;
        live.queue.clear();
    }

    async fn drained(&self) {
        loop {
            let idle = self.shared.idle.notified();
            {
                let live = self.shared.live.lock();
                if !live.attended && live.queue.is_empty() {
                    return;
                }
            }
            idle.await;
        }
    }

    /// The ledger's time, from the database's and this machine's progress.
    pub(crate) fn time(&self, live: &mut Live, database: Time) -> Result<Timestamp, i64> {
        live.clock.others_saw(database.seen);
        let reading = Reading { wall: database.clock, progress: self.shared.clock.read().progress };
        match live.clock.at(reading) {
            Ok(now) => Ok(now),
            Err(StoreError::ClockJumped { jump_seconds }) => Err(jump_seconds),
            Err(_) => Err(0),
        }
    }

    /// A number for a generation.
    pub(crate) fn take_row(&self) -> GenerationRow {
        let mut live = self.shared.live.lock();
        let count = live.next_count;
        live.next_count = count.saturating_add(1);
        live.identity.boot.row(count)
    }

    /// Knows what management knows now, or did at this version at the least.
    pub(crate) async fn catch_up(&self, to: i64) -> Result<(), StoreError> {
        let _alone = self.shared.learning.lock().await;
        let known = self.shared.live.lock().version;
        if known >= to {
            // Whoever was here before has learnt it.
            return Ok(());
        }
        let news = self.shared.database.news(known).await.map_err(unavailable)?;
        let mut live = self.shared.live.lock();
        let now = live.clock.seen();
        live.learn(&news, now)
    }

    /// Begins a change, one at a time. Whoever knows nothing learns everything before that: under the lock of a change, all nodes wait.
    pub(crate) async fn begin_change(&self) -> Result<(MutexGuard<'_, ()>, D::Change), StoreError> {
        let late = |_| StoreError::Unavailable("other changes of this node take too long".to_owned());
        let alone = timeout(BATCH_TIMEOUT, self.shared.changing.lock()).await.map_err(late)?;
        if self.shared.live.lock().version == 0 {
            self.catch_up(1).await?;
        }
        let change = self.shared.database.change().await.map_err(unavailable)?;
        Ok((alone, change))
    }

    /// Who spends in a call, where this process has it in flight.
    pub(crate) fn spender_of(&self, row: GenerationRow) -> Option<Spender> {
        self.shared.live.lock().spenders.get(&row).copied()
    }

    /// Puts an intent into the queue; the answer comes when it is durable.
    pub(crate) fn push(&self, intent: Intent) -> oneshot::Receiver<Done> {
        let (waiter, answer) = oneshot::channel();
        self.queue(intent, Some(waiter));
        answer
    }

    /// The same, where nobody waits.
    pub(crate) fn push_unwaited(&self, intent: Intent) {
        self.queue(intent, None);
    }

    fn queue(&self, intent: Intent, waiter: Option<oneshot::Sender<Done>>) {
        let mut live = self.shared.live.lock();
        if live.closed {
            return;
        }
        if let Intent::Reserve(want) = &intent {
            let spender = live.state.book.key(want.key).map(|account| batch::spender(&account.key));
            live.spenders.extend(spender.map(|spender| (want.row, spender)));
        }
        live.queue.push(Item { intent, waiter, tried: false });
        let lead = !live.attended;
        live.attended = true;
        drop(live);
        if lead {
            let node = self.clone();
            #[expect(
                clippy::disallowed_methods,
                reason = "detached on purpose: whoever pushed last may be gone by now"
            )]
            tokio::spawn(async move { node.work().await });
        }
    }

    /// Writes what queued up, batch after batch, until nothing is left.
    async fn work(&self) {
        loop {
            // Whoever is ready joins.
            tokio::task::yield_now().await;
            let batch = {
                let mut live = self.shared.live.lock();
                if live.queue.is_empty() || live.closed {
                    live.queue.clear();
                    live.attended = false;
                    self.shared.idle.notify_waiters();
                    return;
                }
                let some = live.queue.len().min(BATCH_MAX);
                live.queue.drain(..some).collect::<Vec<_>>()
            };
            self.finish(batch).await;
        }
    }

    /// Tries until every intent of a batch is answered.
    async fn finish(&self, mut batch: Vec<Item>) {
        let (mut pause, mut failures, began) = (RETRY_PAUSE, 0, Instant::now());
        while !batch.is_empty() && !self.shared.live.lock().closed {
            let why = match self.attempt(&mut batch).await {
                Ok(Attempt::Answered) => {
                    self.recovered();
                    return;
                }
                Ok(Attempt::Again) => continue,
                Ok(Attempt::Behind(version)) => match self.catch_up(version).await {
                    Ok(()) => continue,
                    Err(error) => error.to_string(),
                },
                Ok(Attempt::Rejected(why)) => {
                    if let Some(other) = Self::halved(&mut batch, &why) {
                        Box::pin(self.finish(other)).await;
                    }
                    continue;
                }
                Err(why) => why,
            };
            failures += 1;
            if failures >= FAILURES_MAX || began.elapsed() > FAILURES_WITHIN {
                self.refuse_impatient(&mut batch, &why);
            }
            if !batch.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_PAUSE_MAX);
            }
        }
    }

    /// Tells those who would rather know, in the batch and behind it, and goes on without them.
    fn refuse_impatient(&self, batch: &mut Vec<Item>, why: &str) {
        let mut live = self.shared.live.lock();
        if live.trouble.replace(why.to_owned()).is_none() {
            tracing::error!(error = why, intents = batch.len(), "the database cannot be written; admission is closed");
        }
        for items in [batch, &mut live.queue] {
            for item in items.iter_mut().filter(|item| item.intent.is_impatient()) {
                if let Some(waiter) = item.waiter.take() {
                    // A waiter that left does not mind. Whatever became of it is undone by the release that follows.
                    let error = StoreError::Unavailable(why.to_owned());
                    let _ = waiter.send(Err(Undone { error, perhaps: item.tried }));
                }
            }
            items.retain(|item| !item.intent.is_impatient());
        }
    }

    /// Finds the one intent that does not fit, by halves: the first half, while there is one, which is done first. It alone is refused.
    fn halved(batch: &mut Vec<Item>, why: &str) -> Option<Vec<Item>> {
        if batch.len() > 1 {
            let second = batch.split_off(batch.len() / 2);
            return Some(std::mem::replace(batch, second));
        }
        for item in batch.drain(..) {
            let undone = Undone { error: StoreError::Corrupt(why.to_owned()), perhaps: item.tried };
            // A waiter that left does not mind.
            let _ = item.waiter.map(|waiter| waiter.send(Err(undone)));
        }
        tracing::error!(error = why, "an intent cannot be written and is dropped; its hold stays until its node ends");
        None
    }

    async fn attempt(&self, batch: &mut [Item]) -> Result<Attempt, String> {
        let wanted = {
            let live = self.shared.live.lock();
            batch::wanted(batch.iter().map(|item| &item.intent), &live.state, live.identity, live.version)
        };
        let began = timeout(BATCH_TIMEOUT, self.shared.database.begin(&wanted)).await;
        let (tx, mut loaded) =
            began.map_err(|_| "the database did not answer in time".to_owned())?.map_err(|Broken(why)| why)?;
        if !loaded.owner {
            self.leave(tx).await;
            self.begin_anew(wanted.node).await?;
            return Ok(Attempt::Again);
        }
        let decided = {
            let mut live = self.shared.live.lock();
            if let Some(news) = loaded.news.take() {
                live.learn(&news, loaded.time.latest()).map_err(|error| error.to_string())?;
            }
            let holders = loaded.holds.iter().map(|(row, hold)| (*row, hold.open.spender));
            let holders: HashMap<_, _> =
                holders.chain(loaded.ended.iter().map(|(row, ended)| (*row, ended.open.spender))).collect();
            for item in batch.iter_mut() {
                item.intent.correct_spender(&holders);
            }
            let again = batch::wanted(batch.iter().map(|item| &item.intent), &live.state, live.identity, wanted.known);
            if live.version != loaded.version || again != wanted {
                // More must be known first, or other balances locked than those that were.
                if live.version > loaded.version {
                    // The database went back, as after a failover that lost something.
                    live.forget();
                }
                Err(if live.version < loaded.version { Attempt::Behind(loaded.version) } else { Attempt::Again })
            } else {
                let (now, jumped) = match self.time(&mut live, loaded.time) {
                    Ok(now) => (now, None),
                    // What the clock says now must not become what was seen.
                    Err(jump) => (live.clock.seen(), Some(jump)),
                };
                let intents: Vec<_> = batch.iter().map(|item| (item.intent.clone(), item.tried)).collect();
                let cipher = self.shared.database.cipher();
                Ok(batch::decide(&intents, &mut live.state, cipher, &wanted, loaded, now, jumped))
            }
        };
        let (answers, writes) = match decided {
            Ok(decided) => decided,
            Err(attempt) => {
                self.leave(tx).await;
                return Ok(attempt);
            }
        };
        let idle = if writes.is_empty() {
            Some(tx)
        } else {
            let committed = timeout(BATCH_TIMEOUT, self.shared.database.commit(tx, &writes)).await;
            match committed.unwrap_or_else(|_| Committed::Unknown("the database did not answer in time".to_owned())) {
                Committed::Done => {}
                Committed::Failed(why) => return Err(why),
                Committed::Rejected(why) => return Ok(Attempt::Rejected(why)),
                Committed::Unknown(why) => {
                    for item in batch {
                        item.tried = true;
                    }
                    return Err(why);
                }
            }
            None
        };
        {
            let mut live = self.shared.live.lock();
            live.spenders.extend(writes.holds.iter().map(|(row, hold)| (*row, hold.open.spender)));
            for item in batch.iter() {
                if let Intent::Settle(settlement, _) = &item.intent {
                    live.spenders.remove(&settlement.row);
                }
            }
        }
        for (item, answer) in batch.iter_mut().zip(answers) {
            if let Some(waiter) = item.waiter.take() {
                // A waiter that left does not mind.
                let _ = waiter.send(match answer {
                    Answer::Fault(error) => Err(Undone { error, perhaps: item.tried }),
                    answer => Ok(answer),
                });
            }
        }
        if let Some(tx) = idle {
            self.leave(tx).await;
        }
        Ok(Attempt::Answered)
    }

    /// Ends a batch that writes nothing. Where that takes too long the server does it, when the session is closed.
    async fn leave(&self, batch: D::Batch) {
        let _ = timeout(BATCH_TIMEOUT, self.shared.database.leave(batch)).await;
    }

    /// The lease was taken: what this node held is booked as lost. It goes on as another.
    async fn begin_anew(&self, before: Identity) -> Result<(), String> {
        let _alone = self.shared.registering.lock().await;
        if self.shared.live.lock().identity != before {
            return Ok(());
        }
        let identity = self.shared.database.register().await.map_err(|Broken(why)| why)?;
        tracing::warn!(node = identity.number.0, "this node was given up by the others, and begins anew");
        let mut live = self.shared.live.lock();
        live.identity = identity;
        live.next_count = 0;
        Ok(())
    }

    /// Renews the lease, or begins anew where it was taken.
    pub(crate) async fn renew(&self) -> Result<(), StoreError> {
        let identity = self.shared.live.lock().identity;
        if !self.shared.database.renew(identity).await.map_err(unavailable)? {
            self.begin_anew(identity).await.map_err(StoreError::Unavailable)?;
        }
        Ok(())
    }

    /// Books as lost what no living node owns.
    pub(crate) async fn expire_orphans(&self) -> Result<(), StoreError> {
        loop {
            let orphans = self.shared.database.orphans(BATCH_MAX).await.map_err(unavailable)?;
            if orphans.is_empty() {
                return Ok(());
            }
            tracing::warn!(
                generations = orphans.len(),
                "calls were in flight when their node ended; they are booked as lost"
            );
            let waits: Vec<_> =
                orphans.into_iter().map(|(row, hold)| self.push(Intent::Expire(row, hold.open.spender))).collect();
            let mut ended = 0;
            for wait in waits {
                match answered(wait.await) {
                    Ok(_) => ended += 1,
                    // One that does not fit the database is no reason to leave the others.
                    Err(Undone { error: StoreError::Corrupt(_), .. }) => {}
                    Err(undone) => return Err(undone.into()),
                }
            }
            if ended == 0 {
                return Ok(());
            }
        }
    }

    /// Pushes what a call waits for, and waits no longer than a call does. While the database cannot be written it is refused at
    /// once: what is pushed then would only wait for the next failure.
    pub(crate) async fn hurried(&self, intent: Intent) -> Done {
        if let Some(why) = self.trouble() {
            return Err(Undone { error: StoreError::Unavailable(why), perhaps: false });
        }
        match timeout(RESERVE_TIMEOUT, self.push(intent)).await {
            Ok(answer) => answered(answer),
            Err(_) => {
                let error = StoreError::Unavailable("the database did not answer in time".to_owned());
                Err(Undone { error, perhaps: true })
            }
        }
    }

    /// Writes something small where the last batch could not be written and nothing waits to be tried again: nobody else would
    /// notice that the database is back.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        let trouble = |live: &Live| live.trouble.clone().filter(|_| !live.attended);
        let seen = trouble(&self.shared.live.lock());
        if seen.is_some() {
            self.renew().await?;
            // Unless a batch found another one meanwhile.
            if trouble(&self.shared.live.lock()) == seen {
                self.recovered();
            }
        }
        Ok(())
    }

    fn recovered(&self) {
        if self.shared.live.lock().trouble.take().is_some() {
            tracing::info!("the database can be written again; admission is open");
        }
    }

    /// A call that was refused is not in flight.
    pub(crate) fn forget_spender(&self, row: GenerationRow) {
        self.shared.live.lock().spenders.remove(&row);
    }

    /// Why the last batch could not be done.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.shared.live.lock().trouble.clone()
    }
}

/// What one try at a batch came to.
enum Attempt {
    /// All are answered.
    Answered,
    /// What was known had changed.
    Again,
    /// What management knows must be learnt first, up to this version.
    Behind(i64),
    /// Something in it does not fit the database.
    Rejected(String),
}

/// What became of an intent whose answer was waited for.
pub fn answered(answer: Result<Done, oneshot::error::RecvError>) -> Done {
    answer.unwrap_or_else(|_| {
        let error = StoreError::Unavailable("the ledger is shutting down".to_owned());
        Err(Undone { error, perhaps: true })
    })
}

pub fn unavailable(Broken(why): Broken) -> StoreError {
    StoreError::Unavailable(why)
}
