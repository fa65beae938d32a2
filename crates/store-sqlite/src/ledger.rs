//! The ledger's intents on the book in memory and the queue to the disk.

use async_trait::async_trait;
use tollgate_domain::GenerationId;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::ledger::{Amounts, Balance, Closed, Correction, Open, ReserveOutcome, Scope};
use tollgate_domain::money::MoneyError;
use tollgate_domain::pricing::Cost;
use tollgate_domain::usage::TokenUsage;
use tollgate_store::{
    Act, AdjustRefused, Admission, Change, Facts, GenerationRecord, Ledger, Outcome, Raise, Reservation, Reserve,
    Settled, Settlement, SettlementFacts, StoreError,
};

use crate::audit::finish;
use crate::engine::{SqliteStore, State};
use crate::record::{Correct, Record};

/// A hold whose record is not durable yet. Dropped before that (the caller left, or the disk refused), it is released.
struct Undecided<'a> {
    store: &'a SqliteStore,
    want: Option<Reserve>,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if let Some(want) = self.want.take() {
            let release = Settlement {
                row: want.row,
                outcome: Outcome::Released,
                charge: Amounts::default(),
                cost: Cost::default(),
                metered: None,
                price: want.price,
                facts: SettlementFacts::default(),
            };
            let mut state = self.store.state.lock();
            if let Closed::Now(open) = state.book.settle(want.row, Amounts::default()) {
                let epoch = state.epoch;
                state.queue.push(Record::Settle { epoch, open, settlement: Box::new(release) });
            }
            drop(state);
            self.store.committer.attend();
        }
    }
}

#[async_trait]
impl Ledger for SqliteStore {
    fn next_generation(&self) -> GenerationRow {
        self.take_row()
    }

    async fn reserve(&self, want: Reserve) -> Result<Admission, StoreError> {
        self.check_writable()?;
        let (admitted_at, hold, cap, ticket) = {
            let (mut state, now) = self.lock_at();
            let now = now?;
            if want.row.0 < state.low_row {
                return Err(StoreError::Unavailable("the generation was numbered too long ago".to_owned()));
            }
            match state.book.reserve(want.row, want.key, &want.bound, want.tariff, now)? {
                ReserveOutcome::Refused(refusal) => return Ok(Admission::Refused(refusal)),
                ReserveOutcome::Rejected(rejected) => return Ok(Admission::Rejected(rejected)),
                ReserveOutcome::AlreadyClosed => return Err(StoreError::Uncertain),
                ReserveOutcome::Granted { hold, cap } => {
                    let Some(open) = state.book.open_at(want.row).cloned() else {
                        return Err(StoreError::Corrupt("a granted reservation is not open".to_owned()));
                    };
                    let admitted_at = open.admitted_at;
                    let record = Record::Reserve { row: want.row, open, price: want.price };
                    (admitted_at, hold, cap, state.queue.push_waited(record, true))
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
            let (mut state, now) = self.lock_at();
            if !state.book.raise(row, to, open_ended, now?) {
                return Ok(false);
            }
            let Some(open) = state.book.open_at(row).cloned() else { return Ok(false) };
            state.queue.push_waited(Record::Reserve { row, open, price }, true)
        };
        self.wait(ticket).await?;
        Ok(true)
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        let (row, charge) = (settlement.row, settlement.charge);
        let (ticket, first) = {
            let mut state = self.state.lock();
            match state.book.settle(row, charge) {
                Closed::Now(open) => (enqueue_settlement(&mut state, open, settlement), true),
                // A repeat: the first answer stands, and may still be ahead in the queue.
                Closed::NotOpen => (state.queue.push_waited(Record::Barrier, false), false),
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

    async fn adjust(
        &self,
        id: &str,
        amounts: Amounts,
        reason: &str,
        act: Act<Amounts>,
    ) -> Result<Result<Amounts, AdjustRefused>, StoreError> {
        self.check_writable()?;
        // One after another: each answers with what all before it came to, those included whose callers left.
        let _turn = self.adjusting.lock().await;
        let before = Self::enqueue(&mut self.state.lock(), Record::Barrier);
        self.wait(before).await?;
        let Some(row) = self.cipher.row(id) else { return Ok(Err(AdjustRefused::Unknown)) };
        let found = self.read(move |db| crate::generations::find(db, row)).await?;
        let Some(found) = found else { return Ok(Err(AdjustRefused::Unknown)) };
        let charge = match found.settlement.charge.corrected(amounts) {
            Ok(charge) => charge,
            Err(MoneyError::Negative) => return Ok(Err(AdjustRefused::BelowZero)),
            Err(_) => return Ok(Err(AdjustRefused::TooLarge)),
        };
        let ticket = {
            let (mut state, now) = self.lock_seen();
            let spender = found.spender;
            let spent = state.book.balance(Scope::Account).map(Balance::spent_for_life).unwrap_or_default();
            if spent.corrected(amounts) == Err(MoneyError::TooLarge) {
                return Ok(Err(AdjustRefused::TooLarge));
            }
            let correction = Correction { spender, admitted_at: found.admitted_at, amounts };
            state.book.correct(&correction);
            state.rollups.correct(&spender, found.admitted_at, found.settlement.price, amounts);
            let correct = Correct {
                id: state.next_correction,
                epoch: state.epoch,
                row,
                spender,
                admitted_at: found.admitted_at,
                by: amounts,
                reason: reason.to_owned(),
                at: now,
            };
            state.next_correction = state.next_correction.saturating_add(1);
            state.queue.push(Record::Correct(Box::new(correct)));
            let facts =
                |charge: Amounts| Facts::default().with("usage", charge.credits).with("byok_usage", charge.byok);
            let change = Change::new("generation.adjust", id)
                .turned(&facts(found.settlement.charge), &facts(charge).with("reason", reason));
            let change = Change { workspace: state.workspace_uuid(spender.workspace), ..change };
            Self::enqueue(&mut state, Record::Run(finish(act, &charge, now, [&change])))
        };
        self.wait(ticket).await?;
        Ok(Ok(charge))
    }

    async fn generation(&self, id: &str) -> Result<Option<GenerationRecord>, StoreError> {
        let Some(row) = self.cipher.row(id) else { return Ok(None) };
        let Some(found) = self.read(move |db| crate::generations::find(db, row)).await? else { return Ok(None) };
        let state = self.state.lock();
        let Some(workspace) = state.workspace_uuid(found.spender.workspace) else {
            return Err(StoreError::Corrupt("a generation names a workspace that does not exist".to_owned()));
        };
        let id: GenerationId = self.cipher.id(row, found.admitted_at);
        Ok(Some(GenerationRecord {
            id,
            spender: found.spender,
            workspace,
            admitted_at: found.admitted_at,
            model: found.model,
            provider: found.provider,
            hold: found.hold,
            settlement: found.settlement,
        }))
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.check_writable()?;
        self.lock_at().1.map(|_| ())
    }
}

impl SqliteStore {
    async fn recorded_charge(&self, row: GenerationRow) -> Result<Option<Amounts>, StoreError> {
        self.read(move |db| crate::generations::charge(db, row)).await
    }
}

fn enqueue_settlement(state: &mut State, open: Open, settlement: Settlement) -> crate::committer::Ticket {
    if settlement.outcome != Outcome::Released {
        state.touch(open.spender.key, open.admitted_at);
        let tokens = settlement.metered.as_ref().map_or_else(TokenUsage::default, |metered| *metered.tokens());
        state.rollups.charge(&open.spender, open.admitted_at, settlement.price, &tokens, settlement.charge);
    }
    let epoch = state.epoch;
    state.queue.push_waited(Record::Settle { epoch, open, settlement: Box::new(settlement) }, false)
}
