//! Workspaces and their budgets.

use async_trait::async_trait;
use tollgate_domain::Usd;
use tollgate_domain::time::WindowKind;
use tollgate_domain::workspace::{NewWorkspace, NotDecreasing, Workspace, WorkspaceChange, WorkspaceId};
use uuid::Uuid;

use crate::{Act, Actor, Page, PageQuery, StoreError};

/// How a workspace is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkspaceRef {
    /// The one that exists from the first start.
    Default,
    /// By its public id.
    Id(Uuid),
    /// By its row number, which is never shown.
    Row(WorkspaceId),
    /// By its slug.
    Slug(String),
}

/// Why a workspace is not changed. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkspaceRefused {
    /// There is none.
    Unknown,
    /// Another one has the slug.
    SlugTaken,
    /// So many keys in it are not deleted.
    HasKeys(usize),
    /// The default one stays.
    IsDefault,
    /// Budgets must fall as their windows narrow.
    NotDecreasing(NotDecreasing),
}

/// Workspaces, by intent. What changes is in force, and durable, when a method returns.
#[async_trait]
pub trait WorkspaceStore: Send + Sync {
    /// One workspace.
    async fn workspace(&self, which: &WorkspaceRef) -> Result<Option<Workspace>, StoreError>;

    /// All of them, oldest first.
    async fn workspaces(&self, page: PageQuery) -> Result<Page<Workspace>, StoreError>;

    /// Creates one.
    async fn create_workspace(
        &self,
        new: NewWorkspace,
        act: Act<Workspace>,
    ) -> Result<Result<Workspace, WorkspaceRefused>, StoreError>;

    /// Changes one.
    async fn update_workspace(
        &self,
        id: WorkspaceId,
        change: WorkspaceChange,
        by: &Actor,
    ) -> Result<Result<Workspace, WorkspaceRefused>, StoreError>;

    /// Deletes one without keys, with its budgets, guardrails and memberships. What it spent stays in the account's sums.
    async fn delete_workspace(&self, id: WorkspaceId, by: &Actor) -> Result<Result<(), WorkspaceRefused>, StoreError>;

    /// Sets the budget of one kind of window; `uuid` names it if it is new. `include_byok` is for all budgets of the
    /// workspace and stays as it is where it is absent.
    async fn put_budget(
        &self,
        id: WorkspaceId,
        window: WindowKind,
        limit: Usd,
        uuid: Uuid,
        include_byok: Option<bool>,
        by: &Actor,
    ) -> Result<Result<Workspace, WorkspaceRefused>, StoreError>;

    /// Removes the budget of one kind of window, if there is one.
    async fn delete_budget(
        &self,
        id: WorkspaceId,
        window: WindowKind,
        by: &Actor,
    ) -> Result<Result<Workspace, WorkspaceRefused>, StoreError>;
}
