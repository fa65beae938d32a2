//! Reading, changing and deleting keys.

use tollgate_domain::KeyHash;
use tollgate_domain::key::KeyChange;
use tollgate_domain::workspace::Workspace;
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
