//! `/keys` (contract section 5).

use serde::{Deserialize, Deserializer, Serialize};

use crate::money::{Amount, RawAmount};

/// What every answer but the OAuth exchange is wrapped in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Data<T> {
    /// The payload.
    pub data: T,
}

/// A key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    /// The SHA-256 of the secret, 64 lowercase hex digits: the key's id.
    pub hash: String,
    /// Free text chosen by the owner.
    pub name: String,
    /// The mask of the secret.
    pub label: String,
    /// Whether it is refused.
    pub disabled: bool,
    /// The most it may spend in a window, USD; null is no limit.
    pub limit: Option<Amount>,
    /// The limit less what was spent in its window, USD; negative after the limit was lowered below that.
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
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC; null until the first change.
    pub updated_at: Option<String>,
    /// RFC 3339, UTC; null never expires.
    pub expires_at: Option<String>,
    /// Admission of the newest settled call, RFC 3339, UTC.
    pub last_used_at: Option<String>,
    /// The member who created it.
    pub creator_user_id: Option<String>,
    /// A partner's own name for whoever uses it.
    pub external_user: Option<String>,
    /// The UUID of its workspace.
    pub workspace_id: String,
}

/// The answer to `POST /keys`: the only one that ever holds the secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreatedKey {
    /// The key.
    pub data: Key,
    /// Its secret, shown this once.
    pub key: String,
}

/// The answer to a deletion.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Deleted {
    /// Always true.
    pub deleted: bool,
}

/// The body of `POST /keys`. Unknown fields are ignored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CreateKey {
    /// Free text, not empty.
    pub name: String,
    /// USD; null or absent is no limit; digits beyond the ninth decimal are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<RawAmount>,
    /// `daily`, `weekly`, `monthly`, or null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_reset: Option<String>,
    /// Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_byok_in_limit: Option<bool>,
    /// RFC 3339 in UTC with seconds, in the future.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// A member of the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator_user_id: Option<String>,
    /// The UUID of a workspace; default is the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
    /// A partner's identity for the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

/// A partner's identity for a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct External {
    /// The partner's own name for whoever uses the key.
    pub user: String,
}

/// The body of `PATCH /keys/{hash}`: an absent field stays as it is, null clears. Unknown fields are ignored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UpdateKey {
    /// Free text, not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Refuse it, or take that back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// USD; null is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub limit: Option<Option<RawAmount>>,
    /// `daily`, `weekly`, `monthly`; null for life.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "nullable")]
    pub limit_reset: Option<Option<String>>,
    /// Whether BYOK usage counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_byok_in_limit: Option<bool>,
    /// The UUID of the workspace to move to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
}

/// Tells null from absent: the outer `Option` is presence.
fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_null_are_told_apart() {
        let absent: UpdateKey = serde_json::from_str("{\"later\":1}").unwrap();
        assert!(absent.limit.is_none() && absent.limit_reset.is_none());
        let null: UpdateKey = serde_json::from_str(r#"{"limit":null,"limit_reset":null}"#).unwrap();
        assert!(matches!((null.limit, null.limit_reset), (Some(None), Some(None))));
        let set: UpdateKey = serde_json::from_str(r#"{"limit":1.50,"limit_reset":"daily"}"#).unwrap();
        assert_eq!(set.limit_reset, Some(Some("daily".to_owned())));
        assert!(matches!(set.limit, Some(Some(_))));
    }
}
