//! The account's credits.

use tollgate_domain::Usd;
use tollgate_store::{Act, Credits, StoreError};

use crate::App;

/// Why the account was not topped up. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum TopUpError {
    /// Nothing is nothing.
    #[error("`amount_usd` must be more than zero")]
    Zero,
    /// The sum of all top-ups would not fit an amount.
    #[error("`amount_usd` is too large beside the credits that are there")]
    TooLarge,
    /// The store failed.
    #[error("the credits could not be stored")]
    Store(#[from] StoreError),
}

impl App {
    /// How the account's credits stand.
    ///
    /// # Errors
    /// The store failed.
    pub async fn credits(&self) -> Result<Credits, StoreError> {
        self.store().credits().await
    }

    /// Tops the account up. The first time it becomes one with a limit.
    ///
    /// # Errors
    /// [`TopUpError`].
    pub async fn top_up(&self, amount: Usd, note: &str, act: Act<Credits>) -> Result<Credits, TopUpError> {
        if amount <= Usd::ZERO {
            return Err(TopUpError::Zero);
        }
        let credits = self.store().top_up(amount, note, act).await?.map_err(|_| TopUpError::TooLarge)?;
        tracing::info!(%amount, "account topped up");
        Ok(credits)
    }
}
