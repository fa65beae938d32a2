//! A workspace: the group of keys that a team shares.

use uuid::Uuid;

use crate::Timestamp;

/// The row number of a workspace inside one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkspaceId(pub i64);

/// A workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// The row number, never shown.
    pub id: WorkspaceId,
    /// The public id.
    pub uuid: Uuid,
    /// The name people see.
    pub name: String,
    /// The name in URLs.
    pub slug: String,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The slug of the workspace that exists from the first start and takes every key without another one.
pub const DEFAULT_WORKSPACE_SLUG: &str = "default";
