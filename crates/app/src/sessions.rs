//! Sign-in of people: a management key is shown once, and a session stands for it from then on.
//!
//! Sessions are kept in memory alone, so a restart ends them all.

use tollgate_domain::KeyHash;
use tollgate_domain::key::ManagementKey;
use tollgate_domain::session::{FormToken, SessionToken};
use tollgate_store::{Credential, StoreError};

use crate::{App, RandomError};

/// Whoever is signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The management key that they signed in with, as it is now.
    pub key: ManagementKey,
    /// What their forms hold.
    pub form_token: FormToken,
}

/// Why nobody could be asked in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// No randomness.
    #[error("no session could be made")]
    Random(#[from] RandomError),
    /// The store failed.
    #[error("the key could not be looked up")]
    Store(#[from] StoreError),
}

impl App {
    /// Opens a session for the holder of the management key with this hash; `None` where it is none that is in force.
    ///
    /// # Errors
    /// [`SignInError`].
    pub async fn sign_in(&self, key: &KeyHash) -> Result<Option<SessionToken>, SignInError> {
        let Some(Credential::Management(key)) = self.store().authenticate(key).await? else { return Ok(None) };
        let now = self.store().now().await?;
        let token = SessionToken::new(self.random.bytes()?);
        self.sessions.lock().begin(token.hash(), key.hash, now);
        tracing::info!(management_key.id = key.id.0, "signed in");
        Ok(Some(token))
    }

    /// Who this token stands for. Using a session keeps it open, and it ends with its key.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session(&self, token: &SessionToken) -> Result<Option<SignedIn>, StoreError> {
        let now = self.store().now().await?;
        let Some(key) = self.sessions.lock().used(&token.hash(), now) else { return Ok(None) };
        match self.store().authenticate(&key).await? {
            Some(Credential::Management(key)) => Ok(Some(SignedIn { key, form_token: token.form_token() })),
            Some(Credential::Inference(_)) | None => {
                self.sign_out(token);
                Ok(None)
            }
        }
    }

    /// Ends a session, if it is open.
    pub fn sign_out(&self, token: &SessionToken) {
        self.sessions.lock().end(&token.hash());
    }
}
