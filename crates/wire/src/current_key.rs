//! `GET /key` (contract section 4): the superset that every SDK decodes.

use serde::{Deserialize, Serialize};

use crate::money::Amount;

/// The key that asks.
#[expect(clippy::struct_excessive_bools, reason = "the fields are the contract's")]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CurrentKey {
    /// The mask of the secret.
    pub label: String,
    /// The most it may spend in a window, USD; null is no limit.
    pub limit: Option<Amount>,
    /// The limit less what was spent in its window, USD.
    pub limit_remaining: Option<Amount>,
    /// What calls in flight hold of the limit, USD. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyBudget {
    /// Where it comes from: `key_limit`.
    pub scope: String,
    /// USD in a window.
    pub limit_usd: Amount,
    /// Spent in the window, USD.
    pub spend_usd: Amount,
    /// Held by calls in flight, USD. Ours.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(required))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Data;

    /// `GET /key` of contract section 21.
    const REFERENCE: &str = concat!(
        r#"{"data":{"label":"sk-or-v1-726...f5c","limit":100,"limit_remaining":92.634926647,"#,
        r#""limit_reset":"monthly","include_byok_in_limit":false,"usage":224.808602387,"usage_daily":0.5,"#,
        r#""usage_weekly":3.25,"usage_monthly":7.365073353,"byok_usage":0,"byok_usage_daily":0,"#,
        r#""byok_usage_weekly":0,"byok_usage_monthly":0,"is_free_tier":false,"is_management_key":false,"#,
        r#""is_provisioning_key":false,"creator_user_id":null,"expires_at":null,"#,
        r#""workspace_id":"0df9e665-d932-5740-b2c7-b52af166bc11","organization_id":null,"#,
        r#""allowed_data_regions":["global"],"free_model_daily_requests":{"used":0,"limit":1000,"#,
        r#""remaining":1000},"budgets":[{"scope":"key_limit","limit_usd":100,"spend_usd":7.365073353,"#,
        r#""remaining_usd":92.634926647,"reset_interval":"monthly","resets_at":"2026-10-01T00:00:00.000Z","#,
        r#""include_byok":false,"guardrail_id":null,"budget_id":null}],"#,
        r#""effective_budget":{"scope":"key_limit","limit_usd":100,"spend_usd":7.365073353,"#,
        r#""remaining_usd":92.634926647,"reset_interval":"monthly","resets_at":"2026-10-01T00:00:00.000Z","#,
        r#""include_byok":false,"guardrail_id":null,"budget_id":null},"rate_limit":{"requests":-1,"#,
        r#""interval":"10s","note":"This field is deprecated and safe to ignore."}}}"#,
    );

    #[test]
    fn the_reference_answer_is_written_as_it_was_read_but_for_our_own_fields() {
        let key: Data<CurrentKey> = serde_json::from_str(REFERENCE).unwrap();
        let ours = REFERENCE
            .replace(r#","limit_reset""#, r#","limit_held":null,"limit_reset""#)
            .replace(r#","remaining_usd""#, r#","held_usd":0,"remaining_usd""#);
        assert_eq!(serde_json::to_string(&key).unwrap(), ours);
    }

    #[test]
    fn the_relic_says_what_clients_expect() {
        let relic = serde_json::to_string(&RateLimit::default()).unwrap();
        assert!(REFERENCE.contains(&relic), "{relic}");
    }
}
