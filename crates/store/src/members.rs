//! Members of the organisation, and of its workspaces.

use async_trait::async_trait;
use tollgate_domain::member::{Member, Membership, Role};
use tollgate_domain::workspace::WorkspaceId;

use crate::{Act, Actor, Page, PageQuery, StoreError};

/// A member to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// The public id: `user_` and 27 characters.
    pub user_id: String,
    /// Where they are reached; unique.
    pub email: String,
    /// Their first name.
    pub first_name: Option<String>,
    /// Their last name.
    pub last_name: Option<String>,
    /// What they may do.
    pub role: Role,
}

/// Why a member is not changed. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberRefused {
    /// There is nobody with this public id.
    Unknown(String),
    /// Somebody has the address.
    EmailTaken,
    /// The keys that they created are not deleted.
    HasKeys(String),
    /// There is no such workspace.
    UnknownWorkspace,
}

/// A member's place in a workspace, and who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceMember {
    /// The place.
    pub membership: Membership,
    /// The member's public id.
    pub user_id: String,
}

/// Members, by intent. What changes is in force, and durable, when a method returns.
#[async_trait]
pub trait MemberStore: Send + Sync {
    /// All of them, oldest first.
    async fn members(&self, page: PageQuery) -> Result<Page<Member>, StoreError>;

    /// The member with this public id.
    async fn member(&self, user_id: &str) -> Result<Option<Member>, StoreError>;

    /// Adds somebody.
    async fn create_member(
        &self,
        new: NewMember,
        act: Act<Member>,
    ) -> Result<Result<Member, MemberRefused>, StoreError>;

    /// Removes somebody whose keys are all deleted, from everywhere.
    async fn remove_member(&self, user_id: &str, by: &Actor) -> Result<Result<(), MemberRefused>, StoreError>;

    /// The members of a workspace, longest first. Everybody is in the default one.
    async fn workspace_members(
        &self,
        workspace: WorkspaceId,
        page: PageQuery,
    ) -> Result<Page<WorkspaceMember>, StoreError>;

    /// Adds all of them or none; those who are there already stay. Returns the new ones.
    async fn add_workspace_members(
        &self,
        workspace: WorkspaceId,
        user_ids: Vec<String>,
        act: Act<Vec<WorkspaceMember>>,
    ) -> Result<Result<Vec<WorkspaceMember>, MemberRefused>, StoreError>;

    /// Removes all of them or none; who is not there is passed over. Returns how many were there.
    async fn remove_workspace_members(
        &self,
        workspace: WorkspaceId,
        user_ids: Vec<String>,
        act: Act<usize>,
    ) -> Result<Result<usize, MemberRefused>, StoreError>;
}
