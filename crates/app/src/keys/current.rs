//! What a key may know of itself.

use tollgate_domain::key::ManagementKey;
use tollgate_store::{Credential, KeyView, StoreError, WorkspaceRef};
use uuid::Uuid;

use crate::App;

/// The key that asks.
#[derive(Clone, Debug)]
pub enum Current {
    /// An inference key.
    Inference(Box<KeyView>),
    /// A management key.
    Management {
        /// It.
        key: ManagementKey,
        /// The public id of the workspace that it is limited to.
        workspace: Option<Uuid>,
    },
}

impl App {
    /// The key behind a credential; `None` where it was deleted a moment ago.
    ///
    /// # Errors
    /// The store failed.
    pub async fn current_key(&self, credential: Credential) -> Result<Option<Current>, StoreError> {
        match credential {
            Credential::Management(key) => {
                let workspace = match key.powers.workspace {
                    None => None,
                    Some(id) => self.store().workspace(&WorkspaceRef::Row(id)).await?.map(|workspace| workspace.uuid),
                };
                Ok(Some(Current::Management { key, workspace }))
            }
            Credential::Inference(key) => {
                let view = self.store().key(&key.hash).await?;
                Ok(view.map(|view| Current::Inference(Box::new(view))))
            }
        }
    }
}
