//! Keys and their balances.

use std::sync::Arc;

use async_trait::async_trait;
use tollgate_domain::guardrail::Reach;
use tollgate_domain::key::{CallLimits, KeyChange, ManagementKey, NewKey};
use tollgate_domain::ledger::{Balance, BudgetState, MoneyKind};
use tollgate_domain::time::{WindowKind, Windows};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_domain::{Key, KeyHash, KeyId, Timestamp, Usd};
use uuid::Uuid;

use crate::{Act, Actor, HeldCredential, StoreError};

/// What a presented secret turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A key that calls models, usable at the moment of the look-up.
    Inference(InferenceKey),
    /// A key that manages keys.
    Management(ManagementKey),
}

/// Who a call is made by. Whether it may still spend is decided again with the reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceKey {
    /// The key.
    pub id: KeyId,
    /// Its public id.
    pub hash: KeyHash,
    /// The SHA-256 of the secret that was presented.
    pub secret: KeyHash,
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// What its guardrails leave of models, providers and words; `None` is everything.
    pub reach: Option<Reach>,
    /// How often it may call.
    pub call_limits: CallLimits,
    /// The provider credentials that it may use, in the order in which they are tried; `None` where there is none.
    pub credentials: Option<Arc<[Arc<HeldCredential>]>>,
}

/// What a scope has spent, per kind of money and window, at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySpend {
    /// Of credits: lifetime, daily, weekly, monthly.
    pub credits: [Usd; 4],
    /// At list price under own credentials: lifetime, daily, weekly, monthly.
    pub byok: [Usd; 4],
}

impl KeySpend {
    /// Reads a balance at an instant.
    pub fn read(balance: &Balance, now: &Windows) -> Self {
        let spent = |kind| WindowKind::ALL.map(|window| balance.spent(kind, window, now));
        Self { credits: spent(MoneyKind::Credits), byok: spent(MoneyKind::Byok) }
    }
}

/// A key as it stands at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// The key.
    pub key: Key,
    /// The public id of its workspace.
    pub workspace: Uuid,
    /// The public id of the member who created it.
    pub creator_user_id: Option<String>,
    /// What it spent.
    pub spend: KeySpend,
    /// Every budget that applies, in enforcement order.
    pub budgets: Vec<BudgetState>,
    /// The admission of its newest settled call.
    pub last_used_at: Option<Timestamp>,
}

/// A new secret for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Its SHA-256.
    pub secret: KeyHash,
    /// Its mask.
    pub label: String,
    /// How long the old one works on, in microseconds.
    pub grace_micros: i64,
}

/// Which keys to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyQuery {
    /// Of this workspace.
    pub workspace: WorkspaceId,
    /// Disabled ones too.
    pub include_disabled: bool,
    /// Expired ones too.
    pub include_expired: bool,
    /// How many to pass over.
    pub offset: u64,
    /// How many at the most.
    pub limit: usize,
}

/// Keys, by intent.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Whose secret hashes to `hash`; `None` for unknown, deleted, disabled and expired alike.
    async fn authenticate(&self, hash: &KeyHash) -> Result<Option<Credential>, StoreError>;

    /// Creates all of them or none; `None` where a workspace or a creator is gone. Durable when this returns.
    async fn create_keys(&self, keys: Vec<NewKey>, act: Act<Vec<KeyView>>) -> Result<Option<Vec<KeyView>>, StoreError>;

    /// Gives a key another secret; `None` where there is none. In force, and durable, when this returns.
    async fn rotate_key(
        &self,
        hash: &KeyHash,
        rotation: Rotation,
        act: Act<KeyView>,
    ) -> Result<Option<KeyView>, StoreError>;

    /// Changes a key; `None` where there is none, or no such workspace. In force, and durable, when this returns.
    async fn update_key(&self, hash: &KeyHash, change: KeyChange, by: &Actor) -> Result<Option<KeyView>, StoreError>;

    /// Deletes a key for good; `false` where there is none. In force, and durable, when this returns.
    async fn delete_key(&self, hash: &KeyHash, by: &Actor) -> Result<bool, StoreError>;

    /// One key, disabled and expired ones included, by its id or by the hash of its newest secret.
    async fn key(&self, hash: &KeyHash) -> Result<Option<KeyView>, StoreError>;

    /// Keys of a workspace, newest first.
    async fn keys(&self, query: KeyQuery) -> Result<Vec<KeyView>, StoreError>;

    /// The ledger's time.
    async fn now(&self) -> Result<Timestamp, StoreError>;
}
