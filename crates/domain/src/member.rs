//! A member: a person of the organisation that one database serves.

use uuid::Uuid;

use crate::Timestamp;
use crate::workspace::WorkspaceId;

/// The row number of a member inside one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub i64);

/// What a member may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// What is theirs.
    #[default]
    Member,
}

impl Role {
    /// The role's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }

    /// The role with this word, with or without the `org:` that members of an organisation carry.
    pub fn from_word(word: &str) -> Option<Self> {
        match word.strip_prefix("org:").unwrap_or(word) {
            "admin" => Some(Self::Admin),
            "member" => Some(Self::Member),
            _ => None,
        }
    }
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The row number, never shown.
    pub id: MemberId,
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
    /// When they joined.
    pub created_at: Timestamp,
}

/// A member's place in a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The public id.
    pub uuid: Uuid,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The member.
    pub member: MemberId,
    /// What they may do there.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
}
