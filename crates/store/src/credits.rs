//! The account's credits.

use async_trait::async_trait;
use tollgate_domain::Usd;
use tollgate_domain::money::MoneyError;

use crate::{Act, StoreError};

/// What the account may spend, and spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credits {
    /// What it was ever topped up by; `None` is an account without a limit.
    pub total: Option<Usd>,
    /// What it spent since it exists.
    pub used: Usd,
    /// What calls in flight hold.
    pub held: Usd,
}

/// Credits, by intent.
#[async_trait]
pub trait CreditStore: Send + Sync {
    /// How they stand.
    async fn credits(&self) -> Result<Credits, StoreError>;

    /// Adds to them; the first time what was spent before is added too. In force, and durable, when this returns. A sum
    /// that does not fit an amount is refused, and nothing is added.
    async fn top_up(
        &self,
        amount: Usd,
        note: &str,
        act: Act<Credits>,
    ) -> Result<Result<Credits, MoneyError>, StoreError>;
}
