//! Guardrails and their assignments.

use async_trait::async_trait;
use tollgate_domain::KeyHash;
use tollgate_domain::guardrail::{Assignment, Guardrail, GuardrailChange, GuardrailRules, IncompleteBudget};
use tollgate_domain::workspace::WorkspaceId;
use uuid::Uuid;

use crate::{Act, Actor, Page, PageQuery, StoreError};

/// A guardrail with the public id of its workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardrailView {
    /// The guardrail.
    pub guardrail: Guardrail,
    /// The public id of its workspace.
    pub workspace: Uuid,
}

/// Why a guardrail is not changed. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardrailRefused {
    /// There is none.
    Unknown,
    /// It is a workspace's default one, whose name is fixed.
    FixedName,
    /// A limit needs a window, and a window a limit.
    Budget(IncompleteBudget),
    /// There is no key with this hash.
    UnknownKey(String),
    /// There is no member with this public id.
    UnknownMember(String),
}

/// Whom a guardrail is assigned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignee {
    /// A key.
    Key {
        /// Its public id.
        hash: KeyHash,
        /// Its name.
        name: String,
        /// Its mask.
        label: String,
    },
    /// A member.
    Member {
        /// Their public id.
        user_id: String,
    },
}

/// An assignment, with the public ids of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentView {
    /// The assignment.
    pub assignment: Assignment<Assignee>,
    /// The public id of the guardrail.
    pub guardrail: Uuid,
}

/// Whom to assign to, or to take away from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignees {
    /// The keys with these hashes.
    Keys(Vec<String>),
    /// The members with these public ids.
    Members(Vec<String>),
}

/// Which side of assignments to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssigneeKind {
    /// Keys.
    Keys,
    /// Members.
    Members,
}

/// Guardrails, by intent. What changes is in force, and durable, when a method returns.
#[async_trait]
pub trait GuardrailStore: Send + Sync {
    /// One guardrail.
    async fn guardrail(&self, uuid: Uuid) -> Result<Option<GuardrailView>, StoreError>;

    /// Those of a workspace, or all, oldest first.
    async fn guardrails(
        &self,
        workspace: Option<WorkspaceId>,
        page: PageQuery,
    ) -> Result<Page<GuardrailView>, StoreError>;

    /// Creates one.
    async fn create_guardrail(
        &self,
        uuid: Uuid,
        workspace: WorkspaceId,
        rules: GuardrailRules,
        act: Act<GuardrailView>,
    ) -> Result<GuardrailView, StoreError>;

    /// Changes one. A workspace's default guardrail comes into being with its first change.
    async fn update_guardrail(
        &self,
        uuid: Uuid,
        change: GuardrailChange,
        by: &Actor,
    ) -> Result<Result<GuardrailView, GuardrailRefused>, StoreError>;

    /// Deletes one with its assignments; `false` where there is none.
    async fn delete_guardrail(&self, uuid: Uuid, by: &Actor) -> Result<bool, StoreError>;

    /// Assigns one to all of them or to none, in the place of any other. Returns how many had another one, or none.
    async fn assign(
        &self,
        uuid: Uuid,
        assignees: Assignees,
        act: Act<usize>,
    ) -> Result<Result<usize, GuardrailRefused>, StoreError>;

    /// Takes one away from all of them. Returns how many had it.
    async fn unassign(
        &self,
        uuid: Uuid,
        assignees: Assignees,
        act: Act<usize>,
    ) -> Result<Result<usize, GuardrailRefused>, StoreError>;

    /// The assignments of one guardrail, or of all, oldest first.
    async fn assignments(
        &self,
        uuid: Option<Uuid>,
        kind: AssigneeKind,
        page: PageQuery,
    ) -> Result<Page<AssignmentView>, StoreError>;
}
