//! The ledger's intents on the book in memory and the queue to the disk.

use std::sync::LazyLock;

use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Closed, Open, ReserveOutcome, Scope, Spender};
use tollgate_domain::usage::TokenUsage;
use tollgate_domain::{IdCipher, Timestamp};
use tollgate_engine::doctor::{Report, Sighting};
use tollgate_engine::{Changed, Corrected, FOUND_COLUMNS, Found, Ground, Row, State, Statement, Value, released};
use tollgate_store::{Admission, Outcome, Raise, Reservation, Reserve, Settled, Settlement, StoreError};

use crate::committer::Ticket;
use crate::engine::{Embedded, Live};
use crate::record::{Correct, Record};

static FIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {FOUND_COLUMNS}, r.credits, r.byok,
    s.credits + coalesce((SELECT sum(c.credits) FROM corrections c WHERE c.row = s.row), 0),
    s.byok + coalesce((SELECT sum(c.byok) FROM corrections c WHERE c.row = s.row), 0)
FROM settlements s JOIN reservations r ON r.row = s.row LEFT JOIN price_versions p ON p.id = s.price
    LEFT JOIN keys k ON k.id = s.key
WHERE s.row = ?1"
    )
});

/// A hold whose record is not durable yet. Dropped before that (the caller left, or the disk refused), it is released.
struct Undecided<'a> {
    store: &'a Embedded,
    want: Option<Reserve>,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if let Some(want) = self.want.take() {
            let release = released(want.row, want.price);
            let mut live = self.store.live.lock();
            if let Closed::Now(open) = live.book.settle(want.row, Amounts::default()) {
                let epoch = live.epoch;
                live.queue.push(Record::Settle { epoch, open, settlement: Box::new(release) });
            }
            drop(live);
            self.store.committer.attend();
        }
    }
}

impl Ground for Embedded {
    async fn change<T: Send, R: Send>(
        &self,
        _: impl FnMut(&mut State, Timestamp) -> Vec<Scope> + Send,
        act: impl FnOnce(&mut State, Timestamp) -> Changed<T, R> + Send,
    ) -> Result<Result<T, R>, StoreError> {
        self.check_writable()?;
        let (done, ticket) = {
            let (mut live, now) = self.lock_seen();
            match act(&mut live, now) {
                Err(refused) => return Ok(Err(refused)),
                Ok((done, statements)) if statements.is_empty() => return Ok(Ok(done)),
                Ok((done, statements)) => (done, Self::enqueue(&mut live, Record::Run(statements))),
            }
        };
        self.wait(ticket).await?;
        Ok(Ok(done))
    }

    async fn look<T: Send>(
        &self,
        _: impl FnMut(&mut State, Timestamp) -> Vec<Scope> + Send,
        view: impl FnOnce(&mut State, Timestamp) -> T + Send,
    ) -> Result<T, StoreError> {
        Ok(self.glance(view))
    }

    fn glance<T>(&self, view: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let (mut live, now) = self.lock_seen();
        view(&mut live, now)
    }

    async fn query(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let sql = sql.to_owned();
        self.read(move |db| crate::database::query(db, &sql, &values)).await
    }

    async fn written(&self) -> Result<(), StoreError> {
        self.check_writable()?;
        let ticket = Self::enqueue(&mut self.live.lock(), Record::Barrier);
        self.wait(ticket).await
    }

    async fn summed_up(&self) -> Result<(), StoreError> {
        self.check_writable()?;
        let ticket = self.fold_waited(&mut self.live.lock());
        self.wait(ticket).await
    }

    async fn correct<T: Send, R: Send>(
        &self,
        row: GenerationRow,
        act: impl FnOnce(&mut State, Timestamp, Option<Found>) -> Result<(T, Corrected, Vec<Statement>), R> + Send,
    ) -> Result<Result<T, R>, StoreError> {
        // One after another: each answers with what all before it came to, those included whose callers left.
        let _turn = self.correcting.lock().await;
        self.written().await?;
        let found = self.query(self.find_generation(), vec![Value::from(row.0)]).await?;
        let found = found.first().map(|found| Found::read(row, found)).transpose()?;
        let (done, ticket) = {
            let (mut live, now) = self.lock_seen();
            let (done, corrected, statements) = match act(&mut live, now, found) {
                Ok(decided) => decided,
                Err(refused) => return Ok(Err(refused)),
            };
            let Corrected { row, correction, price, reason } = corrected;
            live.book.correct(&correction);
            live.rollups.correct(&correction.spender, correction.admitted_at, price, correction.amounts);
            let (id, epoch) = (live.next_correction, live.epoch);
            live.next_correction = id.saturating_add(1);
            live.queue.push(Record::Correct(Box::new(Correct { id, epoch, row, correction, reason, at: now })));
            (done, Self::enqueue(&mut live, Record::Run(statements)))
        };
        self.wait(ticket).await?;
        Ok(Ok(done))
    }

    async fn charge(&self, settlement: Settlement, spender: Spender) -> Result<(), StoreError> {
        self.check_writable()?;
        let ticket = {
            let (mut live, now) = self.lock_seen();
            let (row, price) = (settlement.row, settlement.price);
            let open = Open { spender, admitted_at: now, hold: Amounts::default() };
            live.book.restore_open(row, open.clone());
            live.queue.push(Record::Reserve { row, open: open.clone(), price });
            live.book.settle(row, settlement.charge);
            enqueue_settlement(&mut live, open, settlement)
        };
        self.wait(ticket).await
    }

    async fn sight(&self) -> Result<Sighting, StoreError> {
        crate::sight::sight(self).await
    }

    async fn mend(&self) -> Result<Report, StoreError> {
        crate::sight::mend(self).await
    }

    async fn accept_clock(&self) -> Result<Timestamp, StoreError> {
        crate::sight::accept_clock(self).await
    }

    fn find_generation(&self) -> &'static str {
        &FIND
    }

    fn cipher(&self) -> &IdCipher {
        &self.cipher
    }

    fn next_generation(&self) -> GenerationRow {
        self.take_row()
    }

    async fn reserve(&self, want: Reserve) -> Result<Admission, StoreError> {
        self.check_writable()?;
        let (admitted_at, hold, cap, ticket) = {
            let (mut live, now) = self.lock_at();
            let now = now?;
            live.check_open()?;
            if let Err(rejected) = live.check_secret(&want, now) {
                return Ok(Admission::Rejected(rejected));
            }
            if want.row.0 < live.low_row {
                return Err(StoreError::Unavailable("the generation was numbered too long ago".to_owned()));
            }
            match live.book.reserve(want.row, want.key, &want.bound, want.tariff, now)? {
                ReserveOutcome::Refused(refusal) => return Ok(Admission::Refused(refusal)),
                ReserveOutcome::Rejected(rejected) => return Ok(Admission::Rejected(rejected)),
                ReserveOutcome::AlreadyClosed => return Err(StoreError::Uncertain),
                ReserveOutcome::Granted { hold, cap } => {
                    let Some(open) = live.book.open_at(want.row).cloned() else {
                        return Err(StoreError::Corrupt("a granted reservation is not open".to_owned()));
                    };
                    let admitted_at = open.admitted_at;
                    let record = Record::Reserve { row: want.row, open, price: want.price };
                    (admitted_at, hold, cap, live.queue.push_waited(record, true))
                }
            }
        };
        let mut undecided = Undecided { store: self, want: Some(want) };
        self.wait(ticket).await?;
        undecided.want = None;
        let id = self.cipher.id(want.row, admitted_at);
        Ok(Admission::Granted(Reservation { row: want.row, id, key: want.key, admitted_at, hold, cap }))
    }

    async fn raise(&self, raise: Raise) -> Result<bool, StoreError> {
        let Raise { row, to, open_ended, price } = raise;
        self.check_writable()?;
        let ticket = {
            let (mut live, now) = self.lock_at();
            if !live.book.raise(row, to, open_ended, now?) {
                return Ok(false);
            }
            let Some(open) = live.book.open_at(row).cloned() else { return Ok(false) };
            live.queue.push_waited(Record::Reserve { row, open, price }, true)
        };
        self.wait(ticket).await?;
        Ok(true)
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        let (row, charge) = (settlement.row, settlement.charge);
        let (ticket, first) = {
            let mut live = self.live.lock();
            match live.book.settle(row, charge) {
                Closed::Now(open) => (enqueue_settlement(&mut live, open, settlement), true),
                // A repeat: the first answer stands, and may still be ahead in the queue.
                Closed::NotOpen => (live.queue.push_waited(Record::Barrier, false), false),
            }
        };
        self.wait(ticket).await?;
        if first {
            return Ok(Settled { charge, first });
        }
        match self.recorded_charge(row).await? {
            Some(charge) => Ok(Settled { charge, first }),
            None => Err(StoreError::Corrupt("a generation was settled that was never reserved".to_owned())),
        }
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.check_writable()?;
        self.lock_at().1.map(|_| ())
    }
}

impl Embedded {
    async fn recorded_charge(&self, row: GenerationRow) -> Result<Option<Amounts>, StoreError> {
        let found = self.query(self.find_generation(), vec![Value::from(row.0)]).await?;
        let found = found.first().map(|found| Found::read(row, found)).transpose()?;
        Ok(found.map(|found| found.settlement.charge))
    }
}

pub fn enqueue_settlement(live: &mut Live, open: Open, settlement: Settlement) -> Ticket {
    if settlement.outcome != Outcome::Released {
        live.touch(open.spender.key, open.admitted_at);
        let tokens = settlement.metered.as_ref().map_or_else(TokenUsage::default, |metered| *metered.tokens());
        live.rollups.charge(&open.spender, open.admitted_at, settlement.price, &tokens, settlement.charge);
    }
    let epoch = live.epoch;
    live.queue.push_waited(Record::Settle { epoch, open, settlement: Box::new(settlement) }, false)
}
