//! What a key may know of itself.

use tollgate_domain::key::ManagementKey;
use tollgate_store::{Credential, KeyView, StoreError};

use crate::App;

/// The key that asks.
#[derive(Clone, Debug)]
pub enum Current {
    /// An inference key.
    Inference(Box<KeyView>),
    /// A management key.
    Management(ManagementKey),
}

impl App {
    /// The key behind a credential; `None` where it was deleted a moment ago.
    ///
    /// # Errors
    /// The store failed.
    pub async fn current_key(&self, credential: Credential) -> Result<Option<Current>, StoreError> {
        match credential {
            Credential::Management(key) => Ok(Some(Current::Management(key))),
            Credential::Inference(key) => {
                let view = self.store().key(&key.hash).await?;
                Ok(view.map(|view| Current::Inference(Box::new(view))))
            }
        }
    }
}
