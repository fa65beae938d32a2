//! The shared logic on a node: changes alone, looks that are never old, and the ledger's intents.

use std::sync::LazyLock;

use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Scope, Spender};
use tollgate_domain::{IdCipher, Timestamp};
use tollgate_engine::doctor::{Report, Sighting};
use tollgate_engine::{Changed, Corrected, FOUND_COLUMNS, Found, Ground, Row, State, Statement, Value, released};
use tollgate_store::{Admission, Raise, Reserve, Settled, Settlement, StoreError};

use crate::batch::{Answer, Intent, share};
use crate::node::{Live, Node, Undone, answered, unavailable};
use crate::seam::{Broken, Change, Committed, Database};

static FIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {FOUND_COLUMNS}, s.hold_credits, s.hold_byok,
    s.credits + coalesce((SELECT CAST(sum(c.credits) AS BIGINT) FROM corrections c WHERE c.row = s.row), 0),
    s.byok + coalesce((SELECT CAST(sum(c.byok) AS BIGINT) FROM corrections c WHERE c.row = s.row), 0)
FROM settlements s LEFT JOIN price_versions p ON p.id = s.price LEFT JOIN keys k ON k.id = s.key
WHERE s.row = ?1"
    )
});

/// A hold that may or may not come to be. Dropped before it is known (the caller left, or the database is silent), it is
/// released.
struct Undecided<'a, D: Database> {
    node: &'a Node<D>,
    want: Option<Reserve>,
}

impl<D: Database> Drop for Undecided<'_, D> {
    fn drop(&mut self) {
        if let Some(want) = self.want.take() {
            // Nobody can tell here whose it will be, where this node has yet to learn of the key.
            let spender = self.node.spender_of(want.row);
            self.node.push_unwaited(Intent::Settle(Box::new(released(want.row, want.price)), spender));
        }
    }
}

/// A node that knows of a change which is not written yet: whoever looks meanwhile learns anew. Dropped before it is written,
/// the node forgets everything. Where it was learnt anew before that, it is right already.
pub(crate) struct Acting<'a, D: Database> {
    node: &'a Node<D>,
    /// The version that the change was made to.
    known: i64,
    edition: u64,
}

impl<'a, D: Database> Acting<'a, D> {
    /// From now on, and until it is told, this node cannot say what is so.
    pub(crate) fn begin(node: &'a Node<D>, live: &mut Live) -> Self {
        let known = std::mem::take(&mut live.version);
        live.acting = true;
        live.edition = live.edition.wrapping_add(1);
        Self { node, known, edition: live.edition }
    }

    /// It is written.
    fn done(self) {
        let version = self.known.saturating_add(1);
        self.known_to_be(version);
    }

    /// There is none.
    pub(crate) fn undone<T>(self, answer: T) -> T {
        let version = self.known;
        self.known_to_be(version);
        answer
    }

    fn known_to_be(self, version: i64) {
        let mut live = self.node.shared.live.lock();
        if live.edition == self.edition {
            live.version = version;
            live.believe();
        }
        live.acting = false;
        drop(live);
        self.node.shared.acted.notify_waiters();
        std::mem::forget(self);
    }
}

impl<D: Database> Drop for Acting<'_, D> {
    fn drop(&mut self) {
        let mut live = self.node.shared.live.lock();
        if live.edition == self.edition {
            live.forget();
        }
        live.acting = false;
        drop(live);
        self.node.shared.acted.notify_waiters();
    }
}

impl<D: Database> Node<D> {
    /// Learns everything that is known to whoever changes it: the time of the change, and the version.
    pub(crate) async fn keep_up(&self, change: &mut D::Change) -> Result<(Timestamp, i64), StoreError> {
        loop {
            let known = self.shared.live.lock().version;
            let news = change.news(known).await.map_err(unavailable)?;
            let mut live = self.shared.live.lock();
            let Some(news) = news else {
                if live.version == known {
                    let now = self.time(&mut live, change.time()).unwrap_or_else(|_| live.clock.seen());
                    return Ok((now, known));
                }
                continue;
            };
            live.learn(&news, change.time().latest())?;
        }
    }

    pub(crate) async fn end_change(
        &self,
        change: D::Change,
        statements: Vec<Statement>,
        acting: Acting<'_, D>,
    ) -> Result<(), StoreError> {
        match change.commit(statements).await {
            Committed::Done => {
                acting.done();
                Ok(())
            }
            Committed::Failed(why) => Err(StoreError::Unavailable(why)),
            Committed::Rejected(why) => {
                // The same request, by another node: whoever asks again gets its answer.
                tracing::warn!(error = why, "a change contradicts what is there and was not written");
                Err(StoreError::Uncertain)
            }
            Committed::Unknown(why) => {
                tracing::warn!(error = why, "it is not known whether a change was written");
                Err(StoreError::Uncertain)
            }
        }
    }
}

impl<D: Database> Ground for Node<D> {
    async fn change<T: Send, R: Send>(
        &self,
        mut sums: impl FnMut(&mut State, Timestamp) -> Vec<Scope> + Send,
        act: impl FnOnce(&mut State, Timestamp) -> Changed<T, R> + Send,
    ) -> Result<Result<T, R>, StoreError> {
        let (_alone, mut change) = self.begin_change().await?;
        let (acting, acted) = loop {
            let (now, version) = self.keep_up(&mut change).await?;
            let (scopes, edition) = {
                let mut live = self.shared.live.lock();
                (sums(&mut live.state, now), live.edition)
            };
            let found = if scopes.is_empty() { Vec::new() } else { change.sums(&scopes).await.map_err(unavailable)? };
            let mut live = self.shared.live.lock();
            // An earlier change may have been given up meanwhile, and everything forgotten with it.
            if (live.version, live.edition) == (version, edition) {
                live.install(&scopes, &found);
                let acting = Acting::begin(self, &mut live);
                break (acting, act(&mut live.state, now));
            }
        };
        let (done, statements) = match acted {
            Ok((done, statements)) if statements.is_empty() => return Ok(acting.undone(Ok(done))),
            Ok(acted) => acted,
            Err(refused) => return Ok(acting.undone(Err(refused))),
        };
        self.end_change(change, statements, acting).await?;
        Ok(Ok(done))
    }

    async fn look<T: Send>(
        &self,
        mut sums: impl FnMut(&mut State, Timestamp) -> Vec<Scope> + Send,
        view: impl FnOnce(&mut State, Timestamp) -> T + Send,
    ) -> Result<T, StoreError> {
        loop {
            let acted = self.shared.acted.notified();
            let (known, scopes) = {
                let mut live = self.shared.live.lock();
                let now = live.clock.seen();
                (live.version, sums(&mut live.state, now))
            };
            if self.shared.live.lock().acting {
                // What is so is known in a moment, and learning everything anew takes longer.
                acted.await;
                continue;
            }
            let glimpse = self.shared.database.glimpse(&scopes).await.map_err(unavailable)?;
            if glimpse.version > known {
                self.catch_up(glimpse.version).await?;
                continue;
            }
            let mut live = self.shared.live.lock();
            if glimpse.version < known && live.version == known {
                // The database went back, as after a failover that lost something.
                live.forget();
                continue;
            }
            // Sums and rules of one moment: a limit that is newer than what is spent leaves more than there ever was. Nor is the time
            // of an older moment believed: another clock may have been accepted since.
            if live.version != glimpse.version {
                continue;
            }
            let now = self.time(&mut live, glimpse.time).unwrap_or_else(|_| live.clock.seen());
            if sums(&mut live.state, now) != scopes {
                continue;
            }
            live.install(&scopes, &glimpse.balances);
            return Ok(view(&mut live.state, now));
        }
    }

    fn glance<T>(&self, view: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let mut live = self.shared.live.lock();
        let now = live.clock.seen();
        view(&mut live.state, now)
    }

    async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.shared.database.query(sql, values).await.map_err(unavailable)
    }

    async fn written(&self) -> Result<(), StoreError> {
        // What was answered is in the database.
        Ok(())
    }

    async fn summed_up(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn correct<T: Send, R: Send>(
        &self,
        row: GenerationRow,
        act: impl FnOnce(&mut State, Timestamp, Option<Found>) -> Result<(T, Corrected, Vec<Statement>), R> + Send,
    ) -> Result<Result<T, R>, StoreError> {
        let (_alone, mut change) = self.begin_change().await?;
        let found = change.query(&FIND, vec![Value::from(row.0)]).await.map_err(unavailable)?;
        let found = found.first().map(|found| Found::read(row, found)).transpose()?;
        let scopes: Vec<Scope> = found.iter().flat_map(|found| found.spender.scopes()).collect();
        let sums = change.sums(&scopes).await.map_err(unavailable)?;
        let (acting, acted, shares, node) = loop {
            let (now, version) = self.keep_up(&mut change).await?;
            let mut live = self.shared.live.lock();
            if live.version != version {
                continue;
            }
            live.install(&scopes, &sums);
            let acting = Acting::begin(self, &mut live);
            let acted = act(&mut live.state, now, found);
            let present = |scope: &&Scope| live.state.book.balance(**scope).is_some();
            let shares: Vec<_> =
                scopes.iter().filter(present).map(|scope| (*scope, share(&live.state, *scope))).collect();
            break (acting, acted, shares, live.identity);
        };
        let (done, corrected, statements) = match acted {
            Ok(acted) => acted,
            Err(refused) => return Ok(acting.undone(Err(refused))),
        };
        change.correct(node, &corrected, &shares).await.map_err(unavailable)?;
        self.end_change(change, statements, acting).await?;
        Ok(Ok(done))
    }

    async fn charge(&self, settlement: Settlement, spender: Spender) -> Result<(), StoreError> {
        answered(self.push(Intent::Charge(Box::new(settlement), spender)).await).map(|_| ()).map_err(StoreError::from)
    }

    async fn sight(&self) -> Result<Sighting, StoreError> {
        self.look_at_all(None).await.map(|(sighting, _)| sighting)
    }

    async fn mend(&self) -> Result<Report, StoreError> {
        self.put_right().await
    }

    async fn accept_clock(&self) -> Result<Timestamp, StoreError> {
        self.take_clock().await
    }

    fn find_generation(&self) -> &'static str {
        &FIND
    }

    fn cipher(&self) -> &IdCipher {
        self.id_cipher()
    }

    fn next_generation(&self) -> GenerationRow {
        self.take_row()
    }

    async fn reserve(&self, want: Reserve) -> Result<Admission, StoreError> {
        if self.shared.live.lock().ended_early.contains(&want.row) {
            return Err(StoreError::Uncertain);
        }
        let mut undecided = Undecided { node: self, want: Some(want) };
        let admission = match self.hurried(Intent::Reserve(want)).await {
            Ok(Answer::Admission(admission)) => admission,
            Ok(other) => return Err(mismatch(&other)),
            Err(undone) => {
                if !undone.perhaps {
                    undecided.want = None;
                    self.forget_spender(want.row);
                }
                return Err(undone.error);
            }
        };
        // What was refused holds nothing, and what was granted is the caller's to end.
        undecided.want = None;
        if !matches!(admission, Admission::Granted(_)) {
            self.forget_spender(want.row);
        }
        Ok(admission)
    }

    async fn raise(&self, raise: Raise) -> Result<bool, StoreError> {
        let Some(spender) = self.spender_of(raise.row) else { return Ok(false) };
        match self.hurried(Intent::Raise(raise, spender)).await? {
            Answer::Raised(raised) => Ok(raised),
            other => Err(mismatch(&other)),
        }
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        let row = settlement.row;
        // Not known of a repeat, or of a call of another process.
        let spender = self.spender_of(row);
        match answered(self.push(Intent::Settle(Box::new(settlement), spender)).await) {
            Ok(Answer::Settled(settled)) => Ok(settled),
            Ok(other) => Err(mismatch(&other)),
            Err(Undone { error, .. }) => {
                if matches!(error, StoreError::Corrupt(_)) {
                    self.shared.live.lock().ended_early.insert(row);
                }
                Err(error)
            }
        }
    }

    async fn ready(&self) -> Result<(), StoreError> {
        if let Some(trouble) = self.trouble() {
            return Err(StoreError::Unavailable(trouble));
        }
        // The clock may have been accepted by another.
        let now = self.look_around().await?;
        now.map(|_| ()).map_err(|jump_seconds| StoreError::ClockJumped { jump_seconds })
    }
}

fn mismatch(answer: &Answer) -> StoreError {
    match answer {
        Answer::Fault(fault) => StoreError::Corrupt(fault.to_string()),
        _ => StoreError::Corrupt("an intent got the answer of another".to_owned()),
    }
}

/// A fault of the database is none of what was asked.
impl From<Broken> for StoreError {
    fn from(Broken(why): Broken) -> Self {
        Self::Unavailable(why)
    }
}
