//! What must be remembered, as intents: each method is one atomic step, idempotent where it moves money.
//!
//! Engines implement these traits; everything above holds them as `dyn`. A refusal is a value, `Err` is a fault.
#![warn(missing_docs)]

mod act;
mod activity;
mod audit;
mod catalogue;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod credentials;
mod credits;
mod error;
mod facts;
mod guardrails;
mod keys;
mod ledger;
mod management;
mod members;
mod oauth;
mod page;
mod workspaces;

pub use act::{Act, Actor, Keep, KeptAnswer};
pub use activity::{Activity, ActivityQuery, ActivityRow, ActivityStore};
pub use audit::{AuditEntry, AuditQuery, AuditStore, Audited, Change, Fact, Facts};
pub use catalogue::{CatalogueStore, PricedEndpoint};
pub use clock::{Clock, Reading, SystemClock};
pub use credentials::{
    CredentialChange, CredentialQuery, CredentialRefused, CredentialStore, CredentialView, HeldCredential,
    NewCredential, SealedSecret,
};
pub use credits::{CreditStore, Credits};
pub use error::StoreError;
pub use guardrails::{
    Assignee, AssigneeKind, Assignees, AssignmentView, GuardrailRefused, GuardrailStore, GuardrailView,
};
pub use keys::{Credential, InferenceKey, KeyQuery, KeySpend, KeyStore, KeyView, Rotation};
pub use ledger::{
    AdjustRefused, Admission, Attempt, GenerationRecord, Ledger, Outcome, Raise, Reservation, Reserve, Settled,
    Settlement, SettlementFacts,
};
pub use management::{ManagementStore, NewManagementKey};
pub use members::{MemberRefused, MemberStore, NewMember, WorkspaceMember};
pub use oauth::{NewCode, NewSecret, OAuthStore};
pub use page::{Page, PageQuery};
pub use workspaces::{WorkspaceRef, WorkspaceRefused, WorkspaceStore};

/// Everything that a storage engine does.
pub trait Store:
    Ledger
    + KeyStore
    + ManagementStore
    + CatalogueStore
    + WorkspaceStore
    + MemberStore
    + GuardrailStore
    + CredentialStore
    + CreditStore
    + ActivityStore
    + OAuthStore
    + AuditStore
{
}

impl<T> Store for T where
    T: Ledger
        + KeyStore
        + ManagementStore
        + CatalogueStore
        + WorkspaceStore
        + MemberStore
        + GuardrailStore
        + CredentialStore
        + CreditStore
        + ActivityStore
        + OAuthStore
        + AuditStore
{
}
