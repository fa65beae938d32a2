//! Reading, changing and deleting keys.

use tollgate_domain::key::KeyChange;
use tollgate_domain::workspace::Workspace;
use tollgate_domain::{KeyHash, Usd};
use tollgate_store::{Actor, KeyQuery, KeyView, StoreError};

use crate::App;

/// Keys on one page of a list (contract section 5.2).
const PAGE: usize = 100;

/// Why a key was not changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum UpdateKeyError {
    /// Nothing is asked for.
    #[error("No update fields provided")]
    Nothing,
    /// The name is empty.
    #[error("`name` must not be empty")]
    EmptyName,
    /// A list of models without one.
    #[error("`allowed_models` must name one model at least, or be null")]
    NoModels,
    /// The raise is over before it begins, or raises nothing.
    #[error("`limit_raise` must have an `amount_usd` above zero and an `until` in the future")]
    Raise,
    /// Without a limit there is nothing to raise.
    #[error("the key has no limit to raise; set `limit` first")]
    NoLimit,
    /// There is no such key.
    #[error("API key not found")]
    UnknownKey,
    /// The store failed.
    #[error("the key could not be changed")]
    Store(#[from] StoreError),
}

impl App {
    /// Changes a key. In force when this returns.
    ///
    /// # Errors
    /// [`UpdateKeyError`].
    pub async fn update_key(&self, hash: &KeyHash, change: KeyChange, by: &Actor) -> Result<KeyView, UpdateKeyError> {
        if change.is_empty() {
            return Err(UpdateKeyError::Nothing);
        }
        if change.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            return Err(UpdateKeyError::EmptyName);
        }
        if change.allowed_models.iter().flatten().any(|models| models.is_empty()) {
            return Err(UpdateKeyError::NoModels);
        }
        if let Some(raise) = change.limit_raise.flatten() {
            if raise.amount <= Usd::ZERO || raise.until <= self.store().now().await? {
                return Err(UpdateKeyError::Raise);
            }
            let found = self.store().key(hash).await?.ok_or(UpdateKeyError::UnknownKey)?;
            if change.limit.unwrap_or(found.key.limit).is_none() {
                return Err(UpdateKeyError::NoLimit);
            }
        }
        let view = self.store().update_key(hash, change, by).await?.ok_or(UpdateKeyError::UnknownKey)?;
        tracing::info!(key.hash = %hash, "key changed");
        Ok(view)
    }

    /// Deletes a key for good; `false` where there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete_key(&self, hash: &KeyHash, by: &Actor) -> Result<bool, StoreError> {
        let deleted = self.store().delete_key(hash, by).await?;
        if deleted {
            tracing::info!(key.hash = %hash, "key deleted");
        }
        Ok(deleted)
    }

    /// One key.
    ///
    /// # Errors
    /// The store failed.
    pub async fn key(&self, hash: &KeyHash) -> Result<Option<KeyView>, StoreError> {
        self.store().key(hash).await
    }

    /// A page of a workspace's keys, newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keys(
        &self,
        workspace: &Workspace,
        include_disabled: bool,
        include_expired: bool,
        offset: u64,
    ) -> Result<Vec<KeyView>, StoreError> {
        let workspace = workspace.id;
        self.store().keys(KeyQuery { workspace, include_disabled, include_expired, offset, limit: PAGE }).await
    }
}
