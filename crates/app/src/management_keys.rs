//! Management keys: the keys that make keys.

use tollgate_domain::KeySecret;
use tollgate_domain::key::{ManagementKey, ManagementKeyId, Powers};
use tollgate_store::{Actor, NewManagementKey, StoreError};

use crate::{App, RandomError};

/// Why a management key could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateManagementKeyError {
    /// The expiry is not in the future.
    #[error("it would have expired already")]
    Expired,
    /// No randomness.
    #[error("no secret could be made")]
    Random(#[from] RandomError),
    /// The store failed.
    #[error("the management key could not be stored")]
    Store(#[from] StoreError),
}

impl App {
    /// Creates a management key; its secret is shown this once.
    ///
    /// # Errors
    /// [`CreateManagementKeyError`].
    pub async fn create_management_key(
        &self,
        name: &str,
        powers: Powers,
        by: &Actor,
    ) -> Result<(ManagementKey, KeySecret), CreateManagementKeyError> {
        let now = self.store().now().await?;
        if powers.expires_at.is_some_and(|end| end <= now) {
            return Err(CreateManagementKeyError::Expired);
        }
        let secret = KeySecret::new(&self.settings().key_prefix, self.random.bytes()?);
        let key = self.store().create_management_key(new_key(&secret, name, powers), by).await?;
        Ok((key, secret))
    }

    /// Creates the first management key, with the operator's secret or a fresh one. `None` where one ever existed.
    ///
    /// # Errors
    /// [`CreateManagementKeyError`].
    pub async fn bootstrap_management_key(
        &self,
        given: Option<KeySecret>,
    ) -> Result<Option<KeySecret>, CreateManagementKeyError> {
        let secret = match given {
            Some(secret) => secret,
            None => KeySecret::new(&self.settings().key_prefix, self.random.bytes()?),
        };
        let key = new_key(&secret, "first", Powers::default());
        let created = self.store().bootstrap_management_key(key, &Actor::Operator).await?;
        Ok(created.map(|_| secret))
    }

    /// The management keys in force.
    ///
    /// # Errors
    /// The store failed.
    pub async fn management_keys(&self) -> Result<Vec<ManagementKey>, StoreError> {
        self.store().management_keys().await
    }

    /// Ends a management key; `false` where there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn revoke_management_key(&self, id: ManagementKeyId, by: &Actor) -> Result<bool, StoreError> {
        self.store().revoke_management_key(id, by).await
    }
}

fn new_key(secret: &KeySecret, name: &str, powers: Powers) -> NewManagementKey {
    NewManagementKey { hash: secret.hash(), name: name.to_owned(), label: secret.label(), powers }
}
