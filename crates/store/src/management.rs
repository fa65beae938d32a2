//! Management keys.

use async_trait::async_trait;
use tollgate_domain::KeyHash;
use tollgate_domain::key::{ManagementKey, ManagementKeyId, Powers};

use crate::{Actor, StoreError};

/// A management key to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewManagementKey {
    /// The SHA-256 of its secret.
    pub hash: KeyHash,
    /// Free text chosen by the operator.
    pub name: String,
    /// The mask of its secret.
    pub label: String,
    /// What it may do.
    pub powers: Powers,
}

/// Management keys, by intent.
#[async_trait]
pub trait ManagementStore: Send + Sync {
    /// Creates a management key. Durable when this returns.
    async fn create_management_key(&self, key: NewManagementKey, by: &Actor) -> Result<ManagementKey, StoreError>;

    /// Creates the first management key; `None`, and nothing done, where one ever existed.
    async fn bootstrap_management_key(
        &self,
        key: NewManagementKey,
        by: &Actor,
    ) -> Result<Option<ManagementKey>, StoreError>;

    /// Whether `check` is that of the key that secrets in this database are sealed with. The first one that is asked
    /// about is, from then on.
    async fn same_vault(&self, check: [u8; 16]) -> Result<bool, StoreError>;

    /// Whether secrets were ever sealed with a key.
    async fn has_vault(&self) -> Result<bool, StoreError>;

    /// Those in force, oldest first.
    async fn management_keys(&self) -> Result<Vec<ManagementKey>, StoreError>;

    /// Ends one for good; `false` where there is none. In force, and durable, when this returns.
    async fn revoke_management_key(&self, id: ManagementKeyId, by: &Actor) -> Result<bool, StoreError>;
}
