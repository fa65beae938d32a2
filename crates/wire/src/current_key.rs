//! `GET /key` (contract section 4): the superset that every SDK decodes.

use serde::{Deserialize, Serialize};

use crate::money::Amount;

/// The key that asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CurrentKey {
    /// The mask of the secret.
    pub label: String,
    /// The most it may spend in a window, USD; null is no limit.
    pub limit: Option<Amount>,
    /// The limit less what was spent in its window, USD.
    pub limit_remaining: Option<Amount>,
    /// What calls in flight hold of the limit, USD. Ours.
    #[serde(default)]
    pub limit_held: Option<Amount>,
    /// `daily`, `weekly`, `monthly`, or null for a limit for life.
    pub limit_reset: Option<String>,
    /// Whether BYOK usage eats into the limit.
    pub include_byok_in_limit: bool,
    /// Spent since creation, USD.
    pub usage: Amount,
    /// Spent this UTC day, USD.
    pub usage_daily: Amount,
    /// Spent this ISO week, USD.
    pub usage_weekly: Amount,
    /// Spent this month, USD.
    pub usage_monthly: Amount,
    /// BYOK usage at list price since creation, USD.
    pub byok_usage: Amount,
    /// BYOK usage this UTC day, USD.
    pub byok_usage_daily: Amount,
    /// BYOK usage this ISO week, USD.
    pub byok_usage_weekly: Amount,
    /// BYOK usage this month, USD.
    pub byok_usage_monthly: Amount,
    /// Whether the account never paid; false on a server of one's own without credits.
    pub is_free_tier: bool,
    /// Whether it manages keys.
    pub is_management_key: bool,
    /// The older name of the same.
    pub is_provisioning_key: bool,
    /// The member who created it.
    pub creator_user_id: Option<String>,
    /// RFC 3339, UTC; null never expires.
    pub expires_at: Option<String>,
    /// The UUID of its workspace; null for a management key.
    pub workspace_id: Option<String>,
    /// The organisation, if there is one.
    pub organization_id: Option<String>,
    /// Where data may go.
    pub allowed_data_regions: Vec<String>,
    /// The daily quota of free models, which a server of one's own does not have.
    pub free_model_daily_requests: FreeModelDailyRequests,
    /// Every budget that applies, in enforcement order.
    pub budgets: Vec<KeyBudget>,
    /// The budget that blocks first: one already spent, else the one with the least left.
    pub effective_budget: Option<KeyBudget>,
    /// Deprecated, and still demanded by clients.
    pub rate_limit: RateLimit,
}

/// A quota of requests.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FreeModelDailyRequests {
    /// Requests today.
    pub used: u32,
    /// Requests a day.
    pub limit: u32,
    /// What is left of them.
    pub remaining: u32,
}

/// A budget that applies to a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyBudget {
    /// Where it comes from: `key_limit`.
    pub scope: String,
    /// USD in a window.
    pub limit_usd: Amount,
    /// Spent in the window, USD.
    pub spend_usd: Amount,
    /// Held by calls in flight, USD. Ours.
    #[serde(default)]
    pub held_usd: Amount,
    /// Limit less spend, USD; zero or less refuses until the reset.
    pub remaining_usd: Amount,
    /// `daily`, `weekly`, `monthly`, or null for life.
    pub reset_interval: Option<String>,
    /// When the window ends, RFC 3339, UTC.
    pub resets_at: Option<String>,
    /// Whether BYOK usage counts.
    pub include_byok: bool,
    /// The guardrail that it belongs to.
    pub guardrail_id: Option<String>,
    /// The workspace budget that it is.
    pub budget_id: Option<String>,
}

/// A relic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RateLimit {
    /// Always -1.
    pub requests: i32,
    /// Always `10s`.
    pub interval: String,
    /// Says that it means nothing.
    pub note: String,
}

impl Default for RateLimit {
    fn default() -> Self {
        let note = "This field is deprecated and safe to ignore.".to_owned();
        Self { requests: -1, interval: "10s".to_owned(), note }
    }
}
