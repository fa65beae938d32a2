//! The account's credits: summed in memory, written through the queue.

use async_trait::async_trait;
use rusqlite::Connection;
use rusqlite::types::Value;
use tollgate_domain::Usd;
use tollgate_domain::ledger::{MoneyKind, Scope};
use tollgate_domain::money::MoneyError;
use tollgate_domain::time::{WindowKind, Windows};
use tollgate_store::{Act, Change, CreditStore, Credits, Facts, StoreError};

use crate::audit::finish;
use crate::engine::{SqliteStore, State};
use crate::record::statement;

const SUM: &str = "SELECT sum(amount) FROM credits";
const ADD: &str = "INSERT INTO credits (amount, note, created_at) VALUES (?1, ?2, ?3)";

/// The note of the entry that covers what was spent before there were credits.
const OPENING: &str = "spent before the first top-up";

#[async_trait]
impl CreditStore for SqliteStore {
    async fn credits(&self) -> Result<Credits, StoreError> {
        let (state, now) = self.lock_seen();
        Ok(state.credits(&Windows::at(now)))
    }

    async fn top_up(
        &self,
        amount: Usd,
        note: &str,
        act: Act<Credits>,
    ) -> Result<Result<Credits, MoneyError>, StoreError> {
        self.change(|state, now| {
            let windows = Windows::at(now);
            let before = state.credits(&windows);
            let total = before.total.unwrap_or(before.used).plus(amount)?;
            let entry = |amount: Usd, note: &str| {
                let values = vec![Value::from(amount.nanos()), Value::from(note.to_owned()), Value::from(now.micros())];
                statement(ADD, values)
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

/// What the account was ever topped up by.
pub fn load(db: &Connection) -> rusqlite::Result<Option<Usd>> {
    let sum: Option<i64> = db.query_row(SUM, [], |row| row.get(0))?;
    Ok(sum.map(Usd::from_nanos))
}
