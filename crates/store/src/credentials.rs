//! Provider credentials that workspaces bring (BYOK). Their secrets come and go sealed.

use std::fmt;
use std::sync::OnceLock;

use async_trait::async_trait;
use tollgate_domain::credential::{AsCredential, ProviderCredential, Terms, TermsChange, TermsRefused};
use tollgate_domain::workspace::WorkspaceId;
use uuid::Uuid;

use crate::{Act, Actor, Page, PageQuery, StoreError};

/// A provider credential with its sealed secret. Another secret makes it another one of these.
pub struct HeldCredential {
    /// The credential.
    pub credential: ProviderCredential,
    /// Its secret, sealed for its public id.
    pub sealed: Vec<u8>,
    /// What the secret was once somebody opened it; `None` where it does not open.
    opened: OnceLock<Option<Box<str>>>,
}

impl HeldCredential {
    /// A credential whose secret nobody opened yet.
    pub const fn new(credential: ProviderCredential, sealed: Vec<u8>) -> Self {
        Self { credential, sealed, opened: OnceLock::new() }
    }

    /// Its secret, which `open` opens once; `None` where it does not.
    pub fn secret(&self, open: impl FnOnce(&Self) -> Option<String>) -> Option<&str> {
        self.opened.get_or_init(|| open(self).map(String::into_boxed_str)).as_deref()
    }
}

impl fmt::Debug for HeldCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldCredential({}, [redacted])", self.credential.uuid)
    }
}

impl PartialEq for HeldCredential {
    fn eq(&self, other: &Self) -> bool {
        self.credential == other.credential && self.sealed == other.sealed
    }
}

impl Eq for HeldCredential {}

impl AsCredential for HeldCredential {
    fn credential(&self) -> &ProviderCredential {
        &self.credential
    }
}

/// A provider credential with the public id of its workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialView {
    /// The credential.
    pub credential: ProviderCredential,
    /// The public id of its workspace; `None` is every workspace.
    pub workspace: Option<Uuid>,
}

/// A secret as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Its mask.
    pub label: String,
    /// The secret, sealed for the credential's public id.
    pub sealed: Vec<u8>,
}

/// A provider credential to be.
pub struct NewCredential {
    /// Its public id.
    pub uuid: Uuid,
    /// The workspace whose calls may use it; `None` is every workspace.
    pub workspace: Option<WorkspaceId>,
    /// The slug of the provider that it opens.
    pub provider: String,
    /// Its secret.
    pub secret: SealedSecret,
    /// What was chosen.
    pub terms: Terms,
    /// Its place; behind all others of its provider and workspace where none is given.
    pub sort_order: Option<i64>,
}

/// A change to a provider credential: `None` leaves a field as it is.
pub struct CredentialChange {
    /// What is chosen otherwise.
    pub terms: TermsChange,
    /// Another secret.
    pub secret: Option<SealedSecret>,
    /// Another place.
    pub sort_order: Option<i64>,
}

/// Why a provider credential is not changed. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialRefused {
    /// There is none.
    Unknown,
    /// There is no such workspace.
    UnknownWorkspace,
    /// There is no key with this hash.
    UnknownKey(String),
    /// There is no member with this public id.
    UnknownMember(String),
    /// The terms contradict themselves.
    Terms(TermsRefused),
}

/// Which provider credentials to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialQuery {
    /// Those that calls in this workspace may use: its own, and those of every workspace.
    pub workspace: WorkspaceId,
    /// Only those of the provider with this slug.
    pub provider: Option<String>,
}

/// Provider credentials, by intent. What changes is in force, and durable, when a method returns.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// One credential.
    async fn credential(&self, uuid: Uuid) -> Result<Option<CredentialView>, StoreError>;

    /// Those of a query, in the order in which they are tried.
    async fn credentials(&self, query: &CredentialQuery, page: PageQuery) -> Result<Page<CredentialView>, StoreError>;

    /// Creates one.
    async fn create_credential(
        &self,
        new: NewCredential,
        act: Act<CredentialView>,
    ) -> Result<Result<CredentialView, CredentialRefused>, StoreError>;

    /// Changes one.
    async fn update_credential(
        &self,
        uuid: Uuid,
        change: CredentialChange,
        by: &Actor,
    ) -> Result<Result<CredentialView, CredentialRefused>, StoreError>;

    /// Deletes one and wipes its secret; `false` where there is none.
    async fn delete_credential(&self, uuid: Uuid, by: &Actor) -> Result<bool, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_domain::Timestamp;
    use tollgate_domain::credential::CredentialId;

    #[test]
    fn a_secret_is_opened_once_and_never_printed() {
        let credential = ProviderCredential {
            id: CredentialId(1),
            uuid: Uuid::nil(),
            workspace: None,
            provider: "p".to_owned(),
            label: "...".to_owned(),
            terms: Terms::default(),
            sort_order: 0,
            created_at: Timestamp::default(),
            updated_at: None,
        };
        let held = HeldCredential::new(credential.clone(), b"sealed".to_vec());
        assert_eq!(held.secret(|held| String::from_utf8(held.sealed.clone()).ok()), Some("sealed"));
        assert_eq!(held.secret(|_| None), Some("sealed"));
        assert!(!format!("{held:?}").contains("sealed"));
        assert_eq!(HeldCredential::new(credential, Vec::new()).secret(|_| None), None);
    }
}
