//! Correcting what a generation was charged.

use tollgate_domain::ledger::Amounts;
use tollgate_store::{Act, AdjustRefused, StoreError};

use crate::App;

/// Characters of a reason.
const REASON_MAX: usize = 1_000;

/// A correction that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// The public id of the generation.
    pub generation: String,
    /// What to add; negative gives back.
    pub amounts: Amounts,
    /// Why.
    pub reason: String,
}

/// Why nothing was corrected. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum AdjustError {
    /// Nothing would change.
    #[error("`amount_usd` or `byok_amount_usd` must be other than zero")]
    Nothing,
    /// Whoever reads the log wants to know why.
    #[error("`reason` must be 1 to {REASON_MAX} characters long")]
    Reason,
    /// The ledger does not take it.
    #[error("the charge cannot be corrected so")]
    Refused(AdjustRefused),
    /// The store failed.
    #[error("the correction could not be stored")]
    Store(#[from] StoreError),
}

impl App {
    /// Corrects what a generation was charged. Returns what that is now.
    ///
    /// # Errors
    /// [`AdjustError`].
    pub async fn adjust(&self, adjustment: Adjustment, act: Act<Amounts>) -> Result<Amounts, AdjustError> {
        let Adjustment { generation, amounts, reason } = adjustment;
        if amounts == Amounts::default() {
            return Err(AdjustError::Nothing);
        }
        if reason.trim().is_empty() || reason.chars().count() > REASON_MAX {
            return Err(AdjustError::Reason);
        }
        let charge = self.store().adjust(&generation, amounts, &reason, act).await?.map_err(AdjustError::Refused)?;
        tracing::info!(generation.id = generation, credits = %amounts.credits, byok = %amounts.byok, "charge corrected");
        Ok(charge)
    }
}
