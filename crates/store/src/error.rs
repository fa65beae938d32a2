//! Faults of a storage engine. Refusals are not among them.

/// Why an engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written and nothing is held: try again later.
    #[error("the ledger cannot write: {0}")]
    Unavailable(String),
    /// It may have been written: ask again with the same id.
    #[error("the ledger did not answer in time")]
    Uncertain,
    /// The system clock left the course of monotonic progress; admission waits until it is back.
    #[error("the system clock jumped by {jump_seconds} s; set it right, or restart to accept a jump forward")]
    ClockJumped {
        /// How far, in seconds; negative is backwards.
        jump_seconds: i64,
    },
    /// This is a copy of a ledger: until somebody accepts what was spent since it was made, nothing is admitted.
    #[error("admission is closed: this ledger is a restored copy; `tollgate restore --accept` opens it")]
    Closed,
    /// What is stored contradicts itself. Nothing was changed.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// An amount does not fit.
    #[error("an amount is out of range")]
    Amount(#[from] tollgate_domain::money::MoneyError),
}
