//! The account's credits: summed in memory, written through the queue.

use async_trait::async_trait;
use tollgate_domain::ledger::{MoneyKind, Scope};
use tollgate_domain::money::MoneyError;
use tollgate_domain::time::{WindowKind, Windows};
use tollgate_domain::{Timestamp, Usd};
use tollgate_store::{Act, Change, CreditStore, Credits, Facts, StoreError};

use crate::audit::finish;
use crate::ground::{Engine, Ground, statement};
use crate::sources::{Source, kept};
use crate::state::{State, take};
use crate::value::{Row, Unreadable};

const ADD: &str = "INSERT INTO credits (id, amount, note, created_at) VALUES (?1, ?2, ?3, ?4)";

/// What the account was topped up by.
pub const SOURCE: Source = Source { table: "credits", columns: "id, amount", but: None, put, remove: kept };

fn put(state: &mut State, row: &Row, _: Timestamp) -> Result<(), Unreadable> {
    let (id, amount) = (row.get(0)?, Usd::from_nanos(row.get(1)?));
    if state.last_top_up < id {
        state.last_top_up = id;
        let before = state.book.rules.credits.unwrap_or(Usd::ZERO);
        state.book.rules.credits = Some([before, amount].into_iter().sum());
    }
    Ok(())
}

/// The note of the entry that covers what was spent before there were credits.
const OPENING: &str = "spent before the first top-up";

/// Whose sums count.
fn account(_: &mut State, _: Timestamp) -> Vec<Scope> {
    vec![Scope::Account]
}

#[async_trait]
impl<G: Ground> CreditStore for Engine<G> {
    async fn credits(&self) -> Result<Credits, StoreError> {
        self.look(account, |state, now| state.credits(&Windows::at(now))).await
    }

    async fn top_up(
        &self,
        amount: Usd,
        note: &str,
        act: Act<Credits>,
    ) -> Result<Result<Credits, MoneyError>, StoreError> {
        self.change(account, |state, now| {
            let windows = Windows::at(now);
            let before = state.credits(&windows);
            let total = before.total.unwrap_or(before.used).plus(amount)?;
            let mut entry = |amount: Usd, note: &str| {
                let id = take(&mut state.last_top_up);
                statement(ADD, vec![id.into(), amount.nanos().into(), note.into(), now.micros().into()])
            };
            let opening = before.total.is_none().then(|| entry(before.used, OPENING));
            let mut statements: Vec<_> = opening.into_iter().chain([entry(amount, note)]).collect();
            state.book.rules.credits = Some(total);
            let credits = state.credits(&windows);
            let change = Change::new("credits.add", "account")
                .ended(Facts::default().with("total", before.total))
                .made(Facts::default().with("total", total).with("amount_usd", amount).with("note", note));
            statements.extend(finish(act, &credits, now, [&change]));
            Ok((credits, statements))
        })
        .await
    }
}

impl State {
    fn credits(&self, windows: &Windows) -> Credits {
        let balance = self.book.balance(Scope::Account);
        let of = |held: bool| {
            balance.map_or(Usd::ZERO, |balance| {
                let (kind, window) = (MoneyKind::Credits, WindowKind::Lifetime);
                if held { balance.held(kind, window, windows) } else { balance.spent(kind, window, windows) }
            })
        };
        Credits { total: self.book.rules.credits, used: of(false), held: of(true) }
    }
}
