//! Reserve, then settle: the intents that move money.

use async_trait::async_trait;
use tollgate_domain::credential::CredentialId;
use tollgate_domain::generation::GenerationRow;
use tollgate_domain::key::KeyRejected;
use tollgate_domain::ledger::{Amounts, Refusal, Spender, Tariff};
use tollgate_domain::model::PriceVersion;
use tollgate_domain::pricing::{Bound, Cost};
use tollgate_domain::usage::Metered;
use tollgate_domain::{GenerationId, KeyHash, KeyId, Timestamp};

use crate::{Act, StoreError};

/// A call that wants to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// The generation, from [`Ledger::next_generation`].
    pub row: GenerationRow,
    /// The key that spends.
    pub key: KeyId,
    /// The SHA-256 of the secret that the call came with: refused where it no longer opens the key.
    pub secret: Option<KeyHash>,
    /// The price that the bound was computed with.
    pub price: PriceVersion,
    /// What it can cost.
    pub bound: Bound,
    /// Who pays for it, and what.
    pub tariff: Tariff,
}

/// Another attempt of a call that is held already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raise {
    /// The generation.
    pub row: GenerationRow,
    /// What the attempt can cost.
    pub to: Amounts,
    /// Whether that is no bound: see [`Bound::open_ended`].
    pub open_ended: bool,
    /// The price that it was computed with.
    pub price: PriceVersion,
}

/// Money that is held for a call, durably. Exactly one of settle, release or (after a crash) expire ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a reservation holds money until it is settled"]
pub struct Reservation {
    /// The generation.
    pub row: GenerationRow,
    /// Its public id.
    pub id: GenerationId,
    /// The key that spends.
    pub key: KeyId,
    /// When it was admitted, by the ledger's clock.
    pub admitted_at: Timestamp,
    /// What is held.
    pub hold: Amounts,
    /// Completion tokens a choice that the provider may produce.
    pub cap: u64,
}

/// The ledger's answer to a call that wants to spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The hold is durable.
    Granted(Reservation),
    /// A budget refuses; nothing is held.
    Refused(Refusal),
    /// The key may not be used (any more); nothing is held.
    Rejected(KeyRejected),
}

/// How a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Charged at the usage that the provider reported.
    Settled,
    /// Charged at an estimate, because the provider never reported.
    Estimated,
    /// The provider reported what cannot be: charged at the hold.
    Implausible,
    /// Nothing was or can have been billed.
    Released,
    /// Its process died: charged at the hold, adjustable.
    Lost,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 5] = [Self::Settled, Self::Estimated, Self::Implausible, Self::Released, Self::Lost];

    /// The word that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Estimated => "estimated",
            Self::Implausible => "implausible",
            Self::Released => "released",
            Self::Lost => "lost",
        }
    }

    /// The outcome with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// One try at one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The provider's slug.
    pub provider: String,
    /// The HTTP status it answered; `None` where it never did.
    pub status: Option<u16>,
    /// Milliseconds until it answered or failed.
    pub latency_ms: u64,
    /// The workspace's own provider credential that it was made under.
    pub credential: Option<CredentialId>,
}

/// What is worth knowing of a generation besides its money.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettlementFacts {
    /// Whether the caller asked for a stream.
    pub streamed: bool,
    /// Whether the caller left before the end.
    pub cancelled: bool,
    /// Why the model stopped, in the contract's words.
    pub finish_reason: Option<String>,
    /// Why the model stopped, in the provider's words.
    pub native_finish_reason: Option<String>,
    /// The provider's own id of the answer.
    pub upstream_id: Option<String>,
    /// Milliseconds until the first byte of the answer.
    pub latency_ms: Option<u64>,
    /// Milliseconds until its last byte.
    pub generation_ms: Option<u64>,
    /// `User-Agent` of the caller.
    pub user_agent: Option<String>,
    /// `HTTP-Referer` of the caller.
    pub http_referer: Option<String>,
    /// `session_id` of the request.
    pub session_id: Option<String>,
    /// The workspace's own provider credential that the answer came under.
    pub credential: Option<CredentialId>,
    /// Every try, in order.
    pub attempts: Vec<Attempt>,
}

/// The end of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The generation.
    pub row: GenerationRow,
    /// How it ended.
    pub outcome: Outcome,
    /// What it is charged.
    pub charge: Amounts,
    /// The list price and its parts: the charge itself, unless an own provider credential paid.
    pub cost: Cost,
    /// What it consumed, where anything is known.
    pub metered: Option<Metered>,
    /// The price version of the attempt that answered.
    pub price: PriceVersion,
    /// The rest.
    pub facts: SettlementFacts,
}

/// The ledger's answer to a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What the generation is charged: by this settlement, or by the first one.
    pub charge: Amounts,
    /// Whether this settlement is the one that counts.
    pub first: bool,
}

impl Settlement {
    /// Whether a workspace's own provider credential paid the provider.
    pub fn is_byok(&self) -> bool {
        // Of what was lost, only the money is known.
        self.facts.credential.is_some() || self.charge.byok != tollgate_domain::Usd::ZERO
    }
}

/// A generation as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationRecord {
    /// Its public id.
    pub id: GenerationId,
    /// Who was charged.
    pub spender: Spender,
    /// The public id of the workspace that was charged.
    pub workspace: uuid::Uuid,
    /// When it was admitted.
    pub admitted_at: Timestamp,
    /// The public id of the model.
    pub model: String,
    /// The provider's slug.
    pub provider: String,
    /// What was held for it at the end: a cost beyond that is an overrun.
    pub hold: Amounts,
    /// The settlement, with corrections added to its charge.
    pub settlement: Settlement,
}

/// Why a charge is not corrected. Nothing was written. No budget is a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjustRefused {
    /// No such generation has ended.
    Unknown,
    /// More would be given back than was charged.
    BelowZero,
    /// The charge, or what the account spent, would not fit an amount.
    TooLarge,
}

/// The ledger, by intent. Every intent is idempotent by the generation's row.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// A number for a new generation. Costs nothing; one that is never reserved leaves a gap.
    fn next_generation(&self) -> GenerationRow;

    /// Holds what a call can cost. Nothing may be sent to a provider before this returns `Granted`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] and [`StoreError::ClockJumped`]: nothing is held. [`StoreError::Uncertain`]: the
    /// generation has ended already.
    async fn reserve(&self, want: Reserve) -> Result<Admission, StoreError>;

    /// Holds more, or another kind of money, for a call that is held already, because its next attempt can cost that. Whether
    /// what is held now covers it, durably; `false` changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] and [`StoreError::ClockJumped`]: either what was held before is held, or what was asked for.
    async fn raise(&self, raise: Raise) -> Result<bool, StoreError>;

    /// Ends a reservation at what the call cost, or at nothing. Booked at the first poll, durable when this returns; a
    /// caller that stops waiting leaves the settlement to the engine, which keeps trying. A repeat waits for the first.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]: no such generation was ever reserved.
    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError>;

    /// Adds `amounts` to what a settled generation was charged; negative gives back. Returns what it is charged then.
    async fn adjust(
        &self,
        id: &str,
        amounts: Amounts,
        reason: &str,
        act: Act<Amounts>,
    ) -> Result<Result<Amounts, AdjustRefused>, StoreError>;

    /// The generation with this public id, once it ended.
    async fn generation(&self, id: &str) -> Result<Option<GenerationRecord>, StoreError>;

    /// Whether the ledger can be written to right now.
    async fn ready(&self) -> Result<(), StoreError>;
}
