//! Provider credentials that workspaces bring (BYOK). Their secrets are sealed here, and opened for calls alone.

use tollgate_domain::credential::{Terms, TermsChange, TermsRefused, mask};
use tollgate_domain::workspace::WorkspaceId;
use tollgate_store::{
    Act, Actor, CredentialChange, CredentialQuery, CredentialRefused, CredentialView, HeldCredential, NewCredential,
    Page, PageQuery, SealedSecret, StoreError,
};
use uuid::Uuid;

use crate::vault::SealError;
use crate::{App, RandomError};

/// What secrets of providers are sealed for.
const PURPOSE: &str = "credential";
/// Bytes of a secret at the most.
const SECRET_BYTES_MAX: usize = 4_096;

/// Why a provider credential was not changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Something that was given cannot be.
    #[error("{0}")]
    Invalid(&'static str),
    /// Nobody could use it: there is no such provider.
    #[error("no provider `{provider}` is configured; there is {}", .known.join(", "))]
    UnknownProvider {
        /// The slug.
        provider: String,
        /// Those that are configured.
        known: Vec<String>,
    },
    /// Secrets cannot be kept.
    #[error("provider credentials need TOLLGATE_ENCRYPTION_KEY to be set on the server")]
    NoVault,
    /// The rules are against it.
    #[error("the provider credential cannot be changed so")]
    Refused(CredentialRefused),
    /// No randomness.
    #[error("no id could be made")]
    Random(#[from] RandomError),
    /// The secret could not be sealed.
    #[error("the secret could not be sealed")]
    Seal(#[from] SealError),
    /// The store failed.
    #[error("the provider credential could not be stored")]
    Store(#[from] StoreError),
}

impl From<CredentialRefused> for CredentialError {
    fn from(refused: CredentialRefused) -> Self {
        Self::Refused(refused)
    }
}

impl From<TermsRefused> for CredentialError {
    fn from(refused: TermsRefused) -> Self {
        Self::Refused(CredentialRefused::Terms(refused))
    }
}

/// A provider credential that is asked for.
pub struct CredentialRequest {
    /// The workspace whose calls may use it; `None` is every workspace.
    pub workspace: Option<WorkspaceId>,
    /// The slug of the provider that it opens.
    pub provider: String,
    /// The secret, as the provider gave it.
    pub secret: String,
    /// What is chosen.
    pub terms: TermsChange,
    /// Its place; behind the others where none is given.
    pub sort_order: Option<i64>,
}

/// A change that is asked for: `None` leaves a field as it is.
pub struct CredentialPatch {
    /// What is chosen otherwise.
    pub terms: TermsChange,
    /// Another secret.
    pub secret: Option<String>,
    /// Another place.
    pub sort_order: Option<i64>,
}

impl App {
    /// One provider credential.
    ///
    /// # Errors
    /// [`CredentialRefused::Unknown`], or the store failed.
    pub async fn credential(&self, uuid: Uuid) -> Result<CredentialView, CredentialError> {
        Ok(self.store().credential(uuid).await?.ok_or(CredentialRefused::Unknown)?)
    }

    /// Those that calls in a workspace may use, in the order in which they are tried.
    ///
    /// # Errors
    /// The store failed.
    pub async fn credentials(
        &self,
        query: &CredentialQuery,
        page: PageQuery,
    ) -> Result<Page<CredentialView>, StoreError> {
        self.store().credentials(query, page).await
    }

    /// Creates one. Calls use it when this returns.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn create_credential(
        &self,
        request: CredentialRequest,
        act: Act<CredentialView>,
    ) -> Result<CredentialView, CredentialError> {
        let providers = &self.settings().providers;
        if !providers.contains_key(&request.provider) {
            let known = providers.keys().cloned().collect();
            return Err(CredentialError::UnknownProvider { provider: request.provider, known });
        }
        let terms = Terms::default().apply(request.terms)?;
        let uuid = self.new_uuid()?;
        let secret = self.sealed(uuid, &request.secret)?;
        let CredentialRequest { workspace, provider, sort_order, .. } = request;
        let new = NewCredential { uuid, workspace, provider, secret, terms, sort_order };
        let view = self.store().create_credential(new, act).await??;
        tracing::info!(credential.id = %uuid, provider = view.credential.provider, "provider credential created");
        Ok(view)
    }

    /// Changes one, its secret too. In force when this returns.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn update_credential(
        &self,
        uuid: Uuid,
        patch: CredentialPatch,
        by: &Actor,
    ) -> Result<CredentialView, CredentialError> {
        let CredentialPatch { terms, secret, sort_order } = patch;
        if secret.is_none() && sort_order.is_none() && terms == TermsChange::default() {
            return Err(CredentialError::Invalid("No update fields provided"));
        }
        let secret = secret.map(|secret| self.sealed(uuid, &secret)).transpose()?;
        let rotated = secret.is_some();
        let change = CredentialChange { terms, secret, sort_order };
        let view = self.store().update_credential(uuid, change, by).await??;
        tracing::info!(credential.id = %uuid, rotated, "provider credential changed");
        Ok(view)
    }

    /// Deletes one and wipes its secret; `false` where there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete_credential(&self, uuid: Uuid, by: &Actor) -> Result<bool, StoreError> {
        let deleted = self.store().delete_credential(uuid, by).await?;
        if deleted {
            tracing::info!(credential.id = %uuid, "provider credential deleted");
        }
        Ok(deleted)
    }

    /// The secret of a credential, for the provider; `None` where it does not open, which is logged once.
    pub fn provider_secret<'a>(&self, held: &'a HeldCredential) -> Option<&'a str> {
        held.secret(|held| {
            let uuid = held.credential.uuid;
            let vault = self.settings().vault.as_ref();
            let opened = vault.and_then(|vault| vault.open(PURPOSE, uuid.as_bytes(), &held.sealed));
            let secret = opened.and_then(|bytes| String::from_utf8(bytes).ok());
            if secret.is_none() {
                tracing::error!(credential.id = %uuid, "the secret of a provider credential does not open; store it anew");
            }
            secret
        })
    }

    fn sealed(&self, uuid: Uuid, secret: &str) -> Result<SealedSecret, CredentialError> {
        let secret = secret.trim();
        // What no header may carry could never be used.
        let fit = secret.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if secret.is_empty() || secret.len() > SECRET_BYTES_MAX || !fit {
            return Err(CredentialError::Invalid("`key` must be 1 to 4096 printable ASCII characters"));
        }
        let vault = self.settings().vault.as_ref().ok_or(CredentialError::NoVault)?;
        let sealed = vault.seal(PURPOSE, uuid.as_bytes(), secret.as_bytes(), self.random.as_ref())?;
        Ok(SealedSecret { label: mask(secret), sealed })
    }
}
