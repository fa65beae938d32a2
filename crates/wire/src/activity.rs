//! `GET /activity` (contract section 11).

use serde::{Deserialize, Serialize};

use crate::money::Amount;

/// What was used of one endpoint on one day.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ActivityItem {
    /// `YYYY-MM-DD`, UTC.
    pub date: String,
    /// The model.
    pub model: String,
    /// The same: models do not change under their names here.
    pub model_permaslug: String,
    /// UUID of the model at the provider.
    pub endpoint_id: String,
    /// The provider's slug.
    pub provider_name: String,
    /// Spent, USD.
    pub usage: Amount,
    /// BYOK usage at list price, USD.
    pub byok_usage_inference: Amount,
    /// Calls.
    pub requests: u64,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Those of them that were cached.
    pub cached_tokens: u64,
    /// Completion tokens.
    pub completion_tokens: u64,
    /// Those of them that were reasoning.
    pub reasoning_tokens: u64,
    /// The UUID of the workspace, with `group_by=workspace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub workspace_id: Option<String>,
    /// The hash of the key, with `group_by=key`. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub api_key_hash: Option<String>,
}
