//! `/workspaces`, their budgets and members (contract section 8).

use serde::{Deserialize, Serialize};

use crate::keys::nullable;
use crate::money::{Amount, RawAmount};

/// A workspace.
#[expect(clippy::struct_excessive_bools, reason = "the fields are the contract's")]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Workspace {
    /// UUID.
    pub id: String,
    /// The name people see.
    pub name: String,
    /// The name in URLs.
    pub slug: String,
    /// What it is for.
    pub description: Option<String>,
    /// The UUID of the guardrail on all its traffic, whether it exists or not.
    pub default_guardrail_id: String,
    /// The model of requests that name none.
    pub default_text_model: Option<String>,
    /// The same for images.
    pub default_image_model: Option<String>,
    /// How providers are sorted.
    pub default_provider_sort: Option<String>,
    /// Stored for clients.
    pub disabled_server_tools: Option<Vec<String>>,
    /// Stored for clients.
    pub is_observability_io_logging_enabled: bool,
    /// Stored for clients.
    pub is_observability_broadcast_enabled: bool,
    /// Stored for clients.
    pub is_data_discount_logging_enabled: bool,
    /// The part of calls that is logged, 0.0001 to 1. Stored for clients.
    pub io_logging_sampling_rate: f64,
    /// Stored for clients.
    pub io_logging_api_key_ids: Option<Vec<i64>>,
    /// Whether BYOK usage eats into its budgets.
    pub include_byok_in_budgets: bool,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC; null until the first change.
    pub updated_at: Option<String>,
    /// The member who created it.
    pub created_by: Option<String>,
}

/// The body of `POST /workspaces` and `PATCH /workspaces/{id}`: an absent field stays as it is, null clears.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkspaceRequest {
    /// 1 to 100 characters; required to create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100))]
    pub name: Option<String>,
    /// 1 to 50 characters: words of `a-z0-9` joined by hyphens; required to create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 50, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub slug: Option<String>,
    /// 500 characters at the most.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    #[cfg_attr(feature = "openapi", schema(max_length = 500))]
    pub description: Option<Option<String>>,
    /// See [`Workspace`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub default_text_model: Option<Option<String>>,
    /// See [`Workspace`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub default_image_model: Option<Option<String>>,
    /// See [`Workspace`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub default_provider_sort: Option<Option<String>>,
    /// See [`Workspace`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub disabled_server_tools: Option<Option<Vec<String>>>,
    /// See [`Workspace`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_observability_io_logging_enabled: Option<bool>,
    /// See [`Workspace`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_observability_broadcast_enabled: Option<bool>,
    /// See [`Workspace`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_data_discount_logging_enabled: Option<bool>,
    /// See [`Workspace`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0.0001, maximum = 1))]
    pub io_logging_sampling_rate: Option<f64>,
    /// See [`Workspace`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub io_logging_api_key_ids: Option<Option<Vec<i64>>>,
}

/// A part of a list, and how long the whole is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ListPage<T> {
    /// The part.
    pub data: Vec<T>,
    /// How many there are in all.
    pub total_count: usize,
}

/// A budget of a workspace.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkspaceBudget {
    /// UUID.
    pub id: String,
    /// The UUID of its workspace.
    pub workspace_id: String,
    /// USD in a window.
    pub limit_usd: Amount,
    /// `daily`, `weekly`, `monthly`; null for life.
    pub reset_interval: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC.
    pub updated_at: String,
}

/// One or all budgets of a workspace, and whether BYOK usage eats into them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkspaceBudgets<T> {
    /// The budget, or the budgets.
    pub data: T,
    /// Of the whole workspace.
    pub include_byok_in_budgets: bool,
}

/// The body of `PUT /workspaces/{id}/budgets/{interval}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PutBudget {
    /// USD, more than zero.
    pub limit_usd: RawAmount,
    /// For all budgets of the workspace; stays as it is where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_byok_in_budgets: Option<bool>,
}

/// A member's place in a workspace.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkspaceMember {
    /// UUID.
    pub id: String,
    /// The UUID of the workspace.
    pub workspace_id: String,
    /// `user_…`
    pub user_id: String,
    /// `admin` or `member`.
    pub role: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// The body of `POST /workspaces/{id}/members/add` and `…/remove`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserIds {
    /// 1 to 100 of them.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 100))]
    pub user_ids: Vec<String>,
}

/// The answer to `POST /workspaces/{id}/members/add`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddedMembers {
    /// How many were not there before.
    pub added_count: usize,
    /// Those.
    pub data: Vec<WorkspaceMember>,
}

/// The answer to `POST /workspaces/{id}/members/remove`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RemovedMembers {
    /// How many were there.
    pub removed_count: usize,
}

/// A member of the organisation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrganizationMember {
    /// `user_…`
    pub id: String,
    /// Where they are reached.
    pub email: String,
    /// Their first name.
    pub first_name: Option<String>,
    /// Their last name.
    pub last_name: Option<String>,
    /// `org:admin` or `org:member`.
    pub role: String,
}

/// The body of `POST /organization/members`. Ours.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateMember {
    /// Unique.
    pub email: String,
    /// Their first name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// Their last name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// `org:member`, which is the default, or `org:admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^org:(admin|member)$"))]
    pub role: Option<String>,
}

/// `GET /credits` (contract section 6).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Credits {
    /// What the account was ever topped up by, USD; 0 on an account without a limit.
    pub total_credits: Amount,
    /// What it spent, USD.
    pub total_usage: Amount,
    /// Whether there is no limit: nothing was ever topped up. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub unlimited: bool,
    /// What calls in flight hold, USD. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub held: Amount,
}

/// The body of `POST /credits`. Ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopUp {
    /// USD, more than zero, nine decimals at the most.
    pub amount_usd: RawAmount,
    /// What it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
