//! Why a call got no answer. The HTTP layer gives each its status.

use tollgate_domain::Timestamp;
use tollgate_domain::filter::Blocked;
use tollgate_domain::key::KeyRejected;
use tollgate_domain::ledger::Refusal;
use tollgate_store::StoreError;

use crate::rates::TooSoon;
use crate::request::Invalid;

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The body is not acceptable.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No model of that name is known.
    #[error("{0} is not a valid model ID")]
    UnknownModel(String),
    /// The model is known, but nobody may call it because its price is not.
    #[error("no price is known for {0}")]
    Unpriced(String),
    /// The model is known, but none of its providers is left after the caller's wishes.
    #[error("no endpoints found for {0}")]
    NoEndpoint(String),
    /// Guardrails leave none of its providers.
    #[error("guardrails leave no endpoint")]
    Guarded,
    /// A content filter refuses what it says.
    #[error("a content filter refuses")]
    Blocked(Blocked),
    /// A field leaves the price list in force, and a budget applies.
    #[error("`{0}` changes the price of a call, and a budget applies")]
    PriceField(String),
    /// The key may not be used any more.
    #[error("the key cannot be used")]
    Key(#[from] KeyRejected),
    /// The key calls too often.
    #[error("the key calls too often")]
    TooSoon {
        /// What it met.
        refusal: TooSoon,
        /// When that was.
        at: Timestamp,
    },
    /// A budget refuses.
    #[error("a budget refuses")]
    Budget(Refusal),
    /// The ledger cannot answer: nothing was sent anywhere.
    #[error("the ledger cannot admit calls")]
    Store(#[from] StoreError),
    /// The provider failed, and so did every other that could be tried.
    #[error("provider returned error")]
    Provider(ProviderFailure),
}

/// What the last provider that was tried did.
#[derive(Clone, Debug)]
pub struct ProviderFailure {
    /// Its slug.
    pub provider: String,
    /// What happened.
    pub kind: FailureKind,
    /// Whether it was called under a workspace's own provider credential.
    pub is_byok: bool,
    /// Its answer, cut to a limit; empty where it never answered or must not be shown.
    pub raw: String,
    /// What the provider asked callers to wait.
    pub retry_after: Option<String>,
    /// Failures of those tried before: provider and status.
    pub previous: Vec<(String, Option<u16>)>,
}

/// How a provider failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It answered with an error status.
    Status(u16),
    /// It could not be reached.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// The connection broke, or the answer made no sense.
    Broken,
}
